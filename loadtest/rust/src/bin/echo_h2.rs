//! A bare echo on the crate h2: `echo_h2 FILE` answers every call with the message in the file, on one thread.
//!
//! It drives a connection as well as that can be driven: what a read brings is accepted first, then answered, then
//! written at once. It looks nothing up, bounds nothing and counts nothing, and so says what the crate costs.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use topnode_loadtest::{ANY_PORT, Outcome, answer, one_thread, serves};

/// Calls of a connection at once; the front allows fewer by default than a benchmark has.
const STREAMS: u32 = 256;

/// A socket that says it cannot write from several places at once, as the front's does: h2 then copies frames of less
/// than a kibibyte into one buffer. Else each answer of more than a quarter of that costs a write of its own.
struct Gathered(TcpStream);

impl AsyncRead for Gathered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Call {
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Call {
    /// Reads the message to its end.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(part)) => self.body.flow_control().release_capacity(part?.len())?,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn answer(mut self, answer: Bytes) -> Result<(), h2::Error> {
        let mut head = Response::new(());
        head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut stream = self.respond.send_response(head, false)?;
        stream.send_data(answer, false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers)
    }
}

async fn serve(socket: TcpStream, answer: Bytes) -> Result<(), h2::Error> {
    let mut connection = server::Builder::new().max_concurrent_streams(STREAMS).handshake(Gathered(socket)).await?;
    let mut calls: Vec<Call> = Vec::new();
    poll_fn(|cx| {
        loop {
            // Writes, too, whatever was answered since it was last called.
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                let Some(accepted) = accepted else { return Poll::Ready(Ok(())) };
                let (request, respond) = accepted?;
                calls.push(Call { body: request.into_body(), respond });
            }
            let before = calls.len();
            let mut at = 0;
            while let Some(call) = calls.get_mut(at) {
                match call.read(cx) {
                    Poll::Ready(Ok(())) => calls.swap_remove(at).answer(answer.clone())?,
                    // It was cancelled.
                    Poll::Ready(Err(_)) => drop(calls.swap_remove(at)),
                    Poll::Pending => at += 1,
                }
            }
            if calls.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn main() -> Outcome<()> {
    let answer = answer()?;
    LocalSet::new().block_on(&one_thread()?, async {
        let listener = TcpListener::bind(ANY_PORT).await?;
        serves(listener.local_addr()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let answer = answer.clone();
            // Whatever ends a connection ends nothing else.
            tokio::task::spawn_local(async { drop(serve(socket, answer).await) });
        }
    })
}

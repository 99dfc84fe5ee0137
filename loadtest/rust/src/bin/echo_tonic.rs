//! An echo on tonic, as a service of it is served: `echo_tonic FILE` answers Resolve with the message in the file.
//!
//! On one thread, and with a codec that leaves messages the bytes that they are: nothing is decoded or encoded.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use topnode_loadtest::{ANY_PORT, Outcome, answer, one_thread, serves};
use tower_service::Service;

/// Messages as bytes.
struct Octets;

impl Codec for Octets {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Octets {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Octets {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What is answered, whatever is asked.
#[derive(Clone)]
struct Echo(Bytes);

impl NamedService for Echo {
    const NAME: &'static str = "topnode.resolver.v1.ResolverService";
}

/// A request, as tonic hands it to a service.
impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answers = Answers(self.0.clone());
        Box::pin(async { Ok(Grpc::new(Octets).unary(answers, request).await) })
    }
}

/// The one method of the service.
struct Answers(Bytes);

impl Service<tonic::Request<Bytes>> for Answers {
    type Response = tonic::Response<Bytes>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::Request<Bytes>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

fn main() -> Outcome<()> {
    let mut answer = answer()?;
    // Tonic frames it itself.
    answer.advance(5);
    one_thread()?.block_on(async {
        let incoming = TcpIncoming::bind(ANY_PORT)?.with_nodelay(Some(true));
        serves(incoming.local_addr()?)?;
        Ok(Server::builder().add_service(Echo(answer)).serve_with_incoming(incoming).await?)
    })
}

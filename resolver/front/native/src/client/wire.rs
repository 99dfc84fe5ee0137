//! What stands in the place of a socket: two buffers.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What has come and is not read, and what is to be sent. Its clones are the same.
#[derive(Clone, Default)]
pub struct Wire(Rc<RefCell<Buffers>>);

#[derive(Default)]
struct Buffers {
    came: BytesMut,
    /// Nothing comes any more.
    is_over: bool,
    unsent: BytesMut,
    reader: Option<Waker>,
}

impl Wire {
    pub fn put(&self, octets: &[u8]) {
        self.0.borrow_mut().came.extend_from_slice(octets);
        self.wake();
    }

    pub fn end(&self) {
        self.0.borrow_mut().is_over = true;
        self.wake();
    }

    /// Takes what is to be sent.
    pub fn take(&self) -> Bytes {
        self.0.borrow_mut().unsent.split().freeze()
    }

    fn wake(&self) {
        let reader = self.0.borrow_mut().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        if held.came.is_empty() && !held.is_over {
            held.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = held.came.len().min(into.remaining());
        into.put_slice(&held.came[..length]);
        held.came.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().unsent.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

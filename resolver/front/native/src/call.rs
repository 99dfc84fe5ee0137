//! One call: what it is waiting for, reading its message, and sending what does not go at once.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use crate::cache::Part;
use crate::crossing::Token;
use crate::engine::Repeat;
use crate::framing::{Budget, Charge, Encoding, Gathering, Packed};
use crate::room::Breadth;
use crate::settings::Refusal;

/// A larger answer is handed over in pieces of at most this.
const PIECE: usize = 64 * 1024;

/// A call, as its headers began it.
pub struct Call {
    pub respond: SendResponse<Bytes>,
    pub method: u32,
    pub breadth: Breadth,
    pub began: Instant,
    pub due: Instant,
    pub encoding: Encoding,
    pub metadata: Vec<(String, Vec<u8>)>,
}

impl Call {
    /// What it may take at most, which is not the same as when it must be over.
    pub fn body_due(&self, body_timeout: Duration) -> Instant {
        self.due.min(self.began + body_timeout)
    }
}

/// A call that could not be answered at once, and what is still to come.
pub struct Held {
    pub call: Call,
    pub generation: u32,
    pub stage: Stage,
}

pub enum Stage {
    Arriving(Arriving),
    /// It is all there, and waits for room for its answer: nothing was looked up, and nobody asked.
    Parked {
        message: Bytes,
        charges: [Charge; 2],
    },
    /// Python has it, or another call's flight does.
    Asked {
        token: Token,
        _charge: Option<Charge>,
    },
    /// Python has what was missing of a batch.
    Joining {
        token: Token,
        parts: Vec<Option<Part>>,
        repeats: Vec<Repeat>,
        is_recursive: bool,
        message: Bytes,
        _charge: Charge,
    },
    Sending(Sending),
}

impl Stage {
    /// The flight that it waits for.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Asked { token, .. } | Self::Joining { token, .. } => Some(*token),
            Self::Arriving(_) | Self::Parked { .. } | Self::Sending(_) => None,
        }
    }
}

/// A message on its way in.
pub struct Arriving {
    pub body: RecvStream,
    pub gathering: Gathering,
    /// It is all there, and compressed.
    pub packed: Option<Box<Packed>>,
}

impl Arriving {
    /// Reads what there is of the message; `None`: the caller has gone. Of what is compressed as much is unpacked as may
    /// be now.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        encoding: Encoding,
        most: usize,
        budget: &Budget,
        unpackable: &mut usize,
    ) -> Poll<Option<Result<Bytes, Refusal>>> {
        if let Some(packed) = &mut self.packed {
            return packed.unpack(unpackable, most, budget).map_or(Poll::Pending, |message| Poll::Ready(Some(message)));
        }
        while !self.body.is_end_stream() {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    let length = piece.len();
                    if let Err(refusal) = self.gathering.add(piece, most, budget) {
                        return Poll::Ready(Some(Err(refusal)));
                    }
                    // What the last piece took is given back with the stream.
                    if !self.body.is_end_stream() {
                        let _ = self.body.flow_control().release_capacity(length);
                    }
                }
                Some(Err(_)) => return Poll::Ready(None),
                None => break,
            }
        }
        let mut packed = match std::mem::take(&mut self.gathering).end() {
            Ok(inbound) if inbound.is_compressed => match Packed::new(inbound.octets, encoding) {
                Ok(packed) => packed,
                Err(refusal) => return Poll::Ready(Some(Err(refusal))),
            },
            plain => return Poll::Ready(Some(plain.map(|inbound| inbound.octets))),
        };
        if let Some(message) = packed.unpack(unpackable, most, budget) {
            return Poll::Ready(Some(message));
        }
        self.packed = Some(packed.kept());
        Poll::Pending
    }
}

/// The rest of an answer that goes as the client takes it.
pub struct Sending {
    pub stream: SendStream<Bytes>,
    pub pieces: VecDeque<Bytes>,
    pub trailers: HeaderMap,
    /// When some of it went last.
    pub moved: Instant,
}

impl Sending {
    /// Hands over as much as the client and the connection have room for, and tells whether that was anything. Ready:
    /// all of it, or the caller has gone.
    pub fn poll(&mut self, cx: &mut Context<'_>, has_sent: &mut bool) -> Poll<()> {
        while let Some(rest) = self.pieces.front_mut() {
            if rest.is_empty() {
                self.pieces.pop_front();
                continue;
            }
            self.stream.reserve_capacity(rest.len().min(PIECE));
            let Some(Ok(room)) = ready!(self.stream.poll_capacity(cx)) else { return Poll::Ready(()) };
            let piece = rest.split_to(room.min(rest.len()));
            if self.stream.send_data(piece, false).is_err() {
                return Poll::Ready(());
            }
            *has_sent = true;
        }
        let _ = self.stream.send_trailers(std::mem::take(&mut self.trailers));
        Poll::Ready(())
    }
}

//! What goes back: response headers, trailers, statuses.

use std::sync::{Arc, LazyLock};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::framing::HEAD;
use crate::metadata;
use crate::request::{frame_head, put_frame_head};
use crate::room::AT_ONCE;

/// The highest code that gRPC knows (UNAUTHENTICATED).
const CODE_MAX: u16 = 16;

static APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static OK: HeaderValue = HeaderValue::from_static("0");
static CODES: LazyLock<[HeaderValue; CODE_MAX as usize + 1]> =
    LazyLock::new(|| std::array::from_fn(|code| HeaderValue::from(code as u16)));

/// The end of a call that has no message: code, text and what goes with them, ready to be sent.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: u16,
    trailers: Arc<HeaderMap>,
}

impl Status {
    /// Makes a status; a code that gRPC does not know becomes UNKNOWN, trailers that HTTP does not take are left out.
    pub fn new(code: u16, message: &str, trailers: &[(&str, &[u8])]) -> Self {
        let code = if code <= CODE_MAX { code } else { 2 };
        let mut headers = HeaderMap::with_capacity(2 + trailers.len());
        headers.insert(GRPC_STATUS.clone(), CODES[usize::from(code)].clone());
        if !message.is_empty() {
            headers.insert(GRPC_MESSAGE.clone(), metadata::percent_encoded(message));
        }
        add_trailers(&mut headers, trailers);
        Self { code, trailers: Arc::new(headers) }
    }

    /// The response that is headers and trailers at once.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.reserve(self.trailers.len() + 1);
        headers.insert(CONTENT_TYPE, APPLICATION_GRPC.clone());
        for (name, value) in self.trailers.iter() {
            headers.append(name, value.clone());
        }
        response
    }

    /// The same as trailers, behind a response that has begun.
    pub fn trailers(&self) -> HeaderMap {
        HeaderMap::clone(&self.trailers)
    }
}

/// A message, framed as gRPC frames it, and what goes behind it.
#[derive(Clone, Debug)]
pub struct Message {
    pub wire: Bytes,
    /// The rest of what is not copied into one piece.
    pub rest: Vec<Bytes>,
    pub trailers: Option<Arc<HeaderMap>>,
}

impl Message {
    pub fn plain(wire: Bytes) -> Self {
        Self { wire, rest: Vec::new(), trailers: None }
    }

    pub fn octets(&self) -> usize {
        self.wire.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Frames the bytes of a response.
    pub fn framed(payload: &[u8], trailers: &[(&str, &[u8])]) -> Self {
        let trailers = (!trailers.is_empty()).then(|| {
            let mut headers = ok_trailers();
            add_trailers(&mut headers, trailers);
            Arc::new(headers)
        });
        Self { wire: framed(&[payload]), rest: Vec::new(), trailers }
    }

    pub fn trailers(&self) -> HeaderMap {
        self.trailers.as_deref().cloned().unwrap_or_else(ok_trailers)
    }
}

/// What joins parts copies them into pieces of about this size.
const JOINED: usize = 64 * 1024;

/// A message that is made of parts. Small ones are copied; large ones stay where they are: to copy mebibytes would keep
/// everybody else waiting, and go into memory that nobody has touched for long.
pub struct Joining {
    pieces: Vec<Bytes>,
    wire: BytesMut,
    left: usize,
}

impl Joining {
    /// Begins a message of so many bytes.
    pub fn new(length: usize) -> Self {
        let mut wire = BytesMut::with_capacity(HEAD + length.min(JOINED));
        put_head(&mut wire, length);
        Self { pieces: Vec::new(), wire, left: length }
    }

    /// Adds a unary response, framed, as the next result of a batch.
    pub fn add(&mut self, wire: &Bytes) {
        let body = wire.len() - HEAD;
        let (octets, is_small) = (frame_head(body) + body, body <= AT_ONCE);
        if is_small && self.wire.len() + octets > HEAD + JOINED {
            self.cut();
        }
        put_frame_head(&mut self.wire, body);
        self.left = self.left.saturating_sub(octets);
        if is_small {
            self.wire.extend_from_slice(&wire[HEAD..]);
        } else {
            self.cut();
            self.pieces.push(wire.slice(HEAD..));
        }
    }

    pub fn end(mut self) -> Message {
        if self.pieces.is_empty() {
            return Message::plain(self.wire.freeze());
        }
        self.cut();
        let mut pieces = self.pieces.into_iter();
        Message { wire: pieces.next().unwrap_or_default(), rest: pieces.collect(), trailers: None }
    }

    fn cut(&mut self) {
        let next = BytesMut::with_capacity(self.left.min(JOINED));
        self.pieces.push(std::mem::replace(&mut self.wire, next).freeze());
    }
}

/// How a call ends.
#[derive(Clone, Debug)]
pub enum Answer {
    Message(Message),
    Status(Status),
}

impl Answer {
    pub fn code(&self) -> u16 {
        match self {
            Self::Message(_) => 0,
            Self::Status(status) => status.code,
        }
    }
}

/// The headers before a message.
pub fn ok_response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, APPLICATION_GRPC.clone());
    response
}

fn ok_trailers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(GRPC_STATUS.clone(), OK.clone());
    headers
}

/// What is not gRPC at all is told so in plain HTTP.
pub fn not_grpc(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

/// Puts the head of a gRPC message before its parts.
pub fn framed(parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut wire = BytesMut::with_capacity(HEAD + length);
    put_head(&mut wire, length);
    for part in parts {
        wire.put_slice(part);
    }
    wire.freeze()
}

/// Writes the head of an uncompressed message. Lengths are bounded far below four gibibytes.
pub fn put_head(wire: &mut BytesMut, length: usize) {
    wire.put_u8(0);
    wire.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn add_trailers(headers: &mut HeaderMap, trailers: &[(&str, &[u8])]) {
    for (key, octets) in trailers {
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else { continue };
        let value = if key.ends_with("-bin") {
            HeaderValue::try_from(metadata::base64(octets))
        } else {
            HeaderValue::from_bytes(octets)
        };
        if let Ok(value) = value {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_into_pieces_and_large_ones_stay_where_they_are() {
        for sizes in [
            &[][..],
            &[0],
            &[200; 1_000],
            &[AT_ONCE; 9],
            &[AT_ONCE + 1],
            &[JOINED],
            &[3, 190_000, 5, 190_000, 190_000, 7, 90],
        ] {
            let parts: Vec<Bytes> = sizes.iter().map(|size| framed(&[&vec![b'x'; *size]])).collect();
            let mut body = BytesMut::new();
            for part in &parts {
                put_frame_head(&mut body, part.len() - HEAD);
                body.extend_from_slice(&part[HEAD..]);
            }
            let mut joining = Joining::new(body.len());
            parts.iter().for_each(|part| joining.add(part));
            let message = joining.end();
            let pieces: Vec<Bytes> =
                std::iter::once(message.wire.clone()).chain(message.rest.iter().cloned()).collect();
            assert_eq!(pieces.concat(), framed(&[&body]), "{sizes:?}");
            assert_eq!(message.octets(), HEAD + body.len());
            assert!(message.octets() > AT_ONCE || message.rest.is_empty(), "what goes at once is one piece");
            let is_part = |piece: &Bytes| parts.iter().any(|part| part[HEAD..].as_ptr() == piece.as_ptr());
            assert!(pieces.iter().all(|piece| piece.len() <= HEAD + JOINED || is_part(piece)), "{sizes:?}");
            let large = sizes.iter().filter(|size| **size > AT_ONCE).count();
            assert_eq!(pieces.iter().filter(|piece| !piece.is_empty() && is_part(piece)).count(), large, "{sizes:?}");
        }
    }
}

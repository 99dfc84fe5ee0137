//! What comes of a call, and how it is read from HTTP/2 (gRPC over HTTP2, "Responses" and "Errors").

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};

use crate::framing::HEAD;
use crate::metadata;

/// Codes of gRPC that are said here.
pub mod code {
    pub const OK: u16 = 0;
    pub const CANCELLED: u16 = 1;
    pub const UNKNOWN: u16 = 2;
    pub const PERMISSION_DENIED: u16 = 7;
    pub const RESOURCE_EXHAUSTED: u16 = 8;
    pub const UNIMPLEMENTED: u16 = 12;
    pub const INTERNAL: u16 = 13;
    pub const UNAVAILABLE: u16 = 14;
    pub const UNAUTHENTICATED: u16 = 16;
}

/// How a call ended: with a message where the code is 0, and with trailing metadata as the server said it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: u16,
    pub text: String,
    pub message: Bytes,
    pub trailers: Vec<(String, Vec<u8>)>,
    /// The server has certainly not looked at it: it may be made again.
    pub is_unseen: bool,
}

impl Ended {
    /// An end of which the server said nothing.
    pub fn of(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), message: Bytes::new(), trailers: Vec::new(), is_unseen: false }
    }

    pub fn unseen(self) -> Self {
        Self { is_unseen: true, ..self }
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<RecvStream>, limit: usize) -> Result<Ended, h2::Error> {
    let (head, mut stream) = response.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Ended::of(code_of(head.status), format!("The server answered HTTP {}.", head.status.as_u16())));
    }
    if !head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Ok(Ended::of(code::UNKNOWN, "What the server answered is not gRPC."));
    }
    // A response without a message is headers only.
    if let Some(status) = status(&head.headers) {
        return Ok(Ended { trailers: trailers(&head.headers), ..status });
    }
    let mut gathered = Gathered::default();
    while let Some(came) = stream.data().await {
        let came = came?;
        if let Err(ended) = gathered.add(&came, limit) {
            return Ok(ended);
        }
        stream.flow_control().release_capacity(came.len())?;
    }
    let behind = stream.trailers().await?.unwrap_or_default();
    let Some(status) = status(&behind) else {
        return Ok(Ended::of(code::UNKNOWN, "The server ended the call without a status."));
    };
    let trailers = trailers(&behind);
    if status.code != code::OK {
        return Ok(Ended { trailers, ..status });
    }
    Ok(match gathered.whole() {
        Some(message) => Ended { message, trailers, ..status },
        None => Ended::of(code::INTERNAL, "The server ended the call without a whole message."),
    })
}

/// The message of a response, as far as it is there.
#[derive(Default)]
struct Gathered {
    octets: BytesMut,
    length: Option<usize>,
}

impl Gathered {
    /// Takes what came.
    fn add(&mut self, came: &[u8], limit: usize) -> Result<(), Ended> {
        self.octets.extend_from_slice(came);
        if self.length.is_none()
            && let Some(head) = self.octets.first_chunk::<HEAD>()
        {
            let [flag, length @ ..] = *head;
            if flag != 0 {
                return Err(Ended::of(code::INTERNAL, "The message is compressed, which it may not be."));
            }
            let length = u32::from_be_bytes(length) as usize;
            if length > limit {
                let text = format!("Received message larger than max ({length} vs. {limit}).");
                return Err(Ended::of(code::RESOURCE_EXHAUSTED, text));
            }
            self.length = Some(length);
        }
        match self.length {
            Some(length) if self.octets.len() > HEAD + length => {
                Err(Ended::of(code::INTERNAL, "The server answered with more than one message."))
            }
            _ => Ok(()),
        }
    }

    fn whole(self) -> Option<Bytes> {
        let length = self.length?;
        let mut octets = self.octets.freeze();
        octets.advance(HEAD);
        (octets.len() == length).then_some(octets)
    }
}

/// Reads what a server says of a call, `None` where it says nothing yet.
fn status(headers: &HeaderMap) -> Option<Ended> {
    let given = headers.get("grpc-status")?;
    let code = given.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(code::UNKNOWN);
    let text = headers.get("grpc-message").map(|text| metadata::percent_decoded(text.as_bytes())).unwrap_or_default();
    Some(Ended::of(code, text))
}

/// Gives metadata as Python knows it: what belongs to the protocol is left out.
fn trailers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut given = Vec::new();
    for (name, value) in headers {
        let name = name.as_str();
        if !matches!(name, "grpc-status" | "grpc-message" | "content-type") {
            given.extend(metadata::values_of(name, value.as_bytes()).into_iter().map(|value| (name.to_owned(), value)));
        }
    }
    given
}

/// Gives the code of an answer that is not gRPC's own (gRPC, "HTTP to gRPC Status Code Mapping").
fn code_of(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => code::INTERNAL,
        StatusCode::UNAUTHORIZED => code::UNAUTHENTICATED,
        StatusCode::FORBIDDEN => code::PERMISSION_DENIED,
        StatusCode::NOT_FOUND => code::UNIMPLEMENTED,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// Says of a call what ended its stream, or its connection.
pub fn of_error(error: &h2::Error) -> Ended {
    let code = match error.reason() {
        Some(reason) if error.is_reset() => match reason {
            Reason::CANCEL => code::CANCELLED,
            Reason::REFUSED_STREAM => code::UNAVAILABLE,
            Reason::ENHANCE_YOUR_CALM => code::RESOURCE_EXHAUSTED,
            Reason::INADEQUATE_SECURITY => code::PERMISSION_DENIED,
            _ => code::INTERNAL,
        },
        _ => code::UNAVAILABLE,
    };
    let ended = Ended::of(code, format!("The call was ended: {error}."));
    // Behind the last stream of a GOAWAY without an error, or refused.
    let is_unseen = match error.reason() {
        Some(Reason::NO_ERROR) => error.is_go_away(),
        Some(Reason::REFUSED_STREAM) => error.is_reset(),
        _ => false,
    };
    if is_unseen && error.is_remote() { ended.unseen() } else { ended }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(pieces: &[&'static [u8]]) -> Result<Option<Bytes>, u16> {
        let mut gathered = Gathered::default();
        for piece in pieces {
            gathered.add(piece, 8).map_err(|ended| ended.code)?;
        }
        Ok(gathered.whole())
    }

    #[test]
    fn a_message_is_gathered_however_it_is_cut() {
        let framed = b"\0\0\0\0\x03abc";
        for cut in 0..=framed.len() {
            let (first, second) = framed.split_at(cut);
            assert_eq!(gathered(&[first, second]), Ok(Some(Bytes::from_static(b"abc"))), "cut at {cut}");
        }
        let each: Vec<_> = framed.chunks(1).collect();
        assert_eq!(gathered(&each), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(gathered(&[b"\0\0\0\0\0"]), Ok(Some(Bytes::new())));
    }

    #[test]
    fn what_is_no_single_message_is_refused() {
        assert_eq!(gathered(&[]), Ok(None));
        assert_eq!(gathered(&[b"\0\0\0"]), Ok(None));
        assert_eq!(gathered(&[b"\0\0\0\0\x03ab"]), Ok(None));
        assert_eq!(gathered(&[b"\0\0\0\0\x03abc", b"\0"]), Err(code::INTERNAL));
        assert_eq!(gathered(&[b"\x01\0\0\0\x03abc"]), Err(code::INTERNAL));
        assert_eq!(gathered(&[b"\0\0\0\0\x09"]), Err(code::RESOURCE_EXHAUSTED), "by its declared length");
    }

    #[test]
    fn a_status_is_read_as_servers_write_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", "5".parse().expect("a value"));
        headers.insert("grpc-message", "not%20here%3A%20%E4%BA%A7".parse().expect("a value"));
        headers.insert("a-bin", "YQ, Yg".parse().expect("a value"));
        headers.insert("content-type", "application/grpc".parse().expect("a value"));
        assert_eq!(status(&headers), Some(Ended::of(5, "not here: 产")));
        assert_eq!(trailers(&headers), [("a-bin".to_owned(), b"a".to_vec()), ("a-bin".to_owned(), b"b".to_vec())]);
        headers.insert("grpc-status", "five".parse().expect("a value"));
        assert_eq!(status(&headers).map(|ended| ended.code), Some(code::UNKNOWN));
    }
}

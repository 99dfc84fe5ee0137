//! Requests that are read here: exactly those that are nothing but identifiers, and none means anything else to Python.

use bytes::BytesMut;

use super::Tape;
use crate::request::{
    IDENTIFIER_BYTES, body_of_frame, frame_head, health_service, plain_batch, plain_one, put_frame_head,
};

/// The tag of field 1, bytes.
const FIELD_ONE: u64 = 10;

/// Reads how many identifiers there may be, and a message; or how long identifiers are that it makes a message of.
pub fn requests(octets: &[u8]) {
    let mut tape = Tape(octets);
    let most = usize::from(tape.octet() % 8);
    let message = tape.rest();
    any_message(message, most);
    let some: Vec<Vec<u8>> =
        message.iter().take(8).map(|octet| vec![*octet; usize::from(*octet).pow(2) / 24]).collect();
    let identifiers: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
    any_message(&written(&identifiers), most);
}

fn any_message(message: &[u8], most: usize) {
    let fields = fields(message);
    let contents: Vec<&[u8]> = fields.iter().flatten().map(|(_, content)| *content).collect();
    let is_ours = fields.is_some_and(|fields| fields.iter().all(|(tag, _)| *tag == FIELD_ONE))
        && contents.iter().all(|content| content.len() <= IDENTIFIER_BYTES)
        && written(&contents) == message;

    let one = if is_ours && contents.len() == 1 { Some(contents[0]) } else { None };
    assert_eq!(plain_one(message), one);

    let batch = plain_batch(message, most)
        .map(|ranges| ranges.into_iter().map(|range| &message[range]).collect::<Vec<&[u8]>>());
    let is_batch = is_ours && (1..=most).contains(&contents.len());
    assert_eq!(batch.as_deref(), is_batch.then_some(&contents[..]));

    // The last one counts where a field that is not repeated stands more than once.
    let service = if is_ours { std::str::from_utf8(contents.last().unwrap_or(&&b""[..])).ok() } else { None };
    assert_eq!(health_service(message), service);

    if let Some(body) = body_of_frame(message) {
        assert_eq!(contents, [body]);
    }
    let mut frame = BytesMut::new();
    put_frame_head(&mut frame, message.len());
    assert_eq!(frame.len(), frame_head(message.len()));
    frame.extend_from_slice(message);
    assert_eq!(body_of_frame(&frame), Some(message));
    assert_eq!(&frame[..], written(&[message]));
}

/// Reads a message as any library of protobuf does: the tag of each field, and its content where that is bytes.
fn fields(message: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut fields = Vec::new();
    let mut at = message;
    while !at.is_empty() {
        let tag = number(&mut at)?;
        let length = match tag & 7 {
            0 => {
                number(&mut at)?;
                0
            }
            1 => 8,
            2 => usize::try_from(number(&mut at)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = at.split_at_checked(length)?;
        fields.push((tag, content));
        at = rest;
    }
    Some(fields)
}

fn number(at: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let (octet, rest) = at.split_first()?;
        *at = rest;
        number |= u64::from(octet & 0x7F).checked_shl(7 * place)?;
        if *octet < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Writes identifiers as any library of protobuf does.
fn written(identifiers: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for identifier in identifiers {
        message.push(FIELD_ONE as u8);
        let mut length = identifier.len();
        while length >= 0x80 {
            message.push((length % 0x80) as u8 + 0x80);
            length /= 0x80;
        }
        message.push(length as u8);
        message.extend_from_slice(identifier);
    }
    message
}

//! Requests that are read here: exactly those that are identifiers and a way, and none means anything else to Python.

use bytes::BytesMut;

use super::{Field, Tape, fields};
use crate::request::{
    IDENTIFIER_BYTES, Way, body_of_frame, frame_head, health_service, plain_batch, plain_one, put_frame_head,
};

/// The tags of the fields 1 and 2, bytes; of the fields 2 and 3, numbers; and of field 7, bytes.
const FIELD_ONE: u64 = 10;
const OPTIONS: u64 = 18;
const HOPS_LEFT: u64 = 16;
const MODE: u64 = 24;
const PATH: u64 = 58;

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
    let fields = fields(message).unwrap_or_default();
    let (options, identifiers) = match fields.split_last() {
        Some((Field { tag: OPTIONS, content, .. }, before)) => (Some(*content), before),
        _ => (None, &fields[..]),
    };
    let contents: Vec<&[u8]> = identifiers.iter().map(|field| field.content).collect();
    let head = written(&contents);
    let is_ours = identifiers.iter().all(|field| field.tag == FIELD_ONE)
        && contents.iter().all(|content| content.len() <= IDENTIFIER_BYTES)
        && message.starts_with(&head);
    let way = match options {
        None => (head == message).then_some((&b""[..], false)),
        Some(options) => way(options).filter(|_| {
            let written = [&[OPTIONS as u8, options.len() as u8], options].concat();
            options.len() < 128 && message.get(head.len()..) == Some(&written)
        }),
    };
    let read = |way: &Way| (&message[way.options.clone()], way.is_recursive);

    let one = way.filter(|_| is_ours && contents.len() == 1).map(|way| (contents[0], way));
    assert_eq!(plain_one(message).map(|(identifier, way)| (identifier, read(&way))), one);

    let batch = plain_batch(message, most)
        .map(|(ranges, way)| (ranges.into_iter().map(|range| &message[range]).collect::<Vec<&[u8]>>(), read(&way)));
    let is_batch = is_ours && (1..=most).contains(&contents.len());
    assert_eq!(batch, way.filter(|_| is_batch).map(|way| (contents.clone(), way)));

    let is_name = is_ours && options.is_none() && head == message;
    // The last one counts where a field that is not repeated stands more than once.
    let service = if is_name { std::str::from_utf8(contents.last().unwrap_or(&&b""[..])).ok() } else { None };
    assert_eq!(health_service(message), service);

    if let Some(body) = body_of_frame(message) {
        assert!(matches!(fields[..], [Field { tag: FIELD_ONE, content, .. }] if content == body));
    }
    let mut frame = BytesMut::new();
    put_frame_head(&mut frame, message.len());
    assert_eq!(frame.len(), frame_head(message.len()));
    frame.extend_from_slice(message);
    assert_eq!(body_of_frame(&frame), Some(message));
    assert_eq!(&frame[..], written(&[message]));
}

/// Gives the way that options say, and whether it is recursive; nothing where they say more, or are not written as all
/// libraries of protobuf write them.
fn way(options: &[u8]) -> Option<(&[u8], bool)> {
    let (mode, path) = match fields(options)?[..] {
        [] => return Some((b"", false)),
        [Field { tag: MODE, number: mode @ 0..=3, .. }] => (mode, None),
        [Field { tag: MODE, number: mode @ 0..=3, .. }, Field { tag: PATH, content, .. }] => (mode, Some(content)),
        _ => return None,
    };
    let mut said = vec![MODE as u8, mode as u8];
    if let Some(path) = path {
        let mut nodes = fields(path)?;
        let hops = nodes.pop_if(|last| last.tag == HOPS_LEFT).map(|last| last.number);
        let is_node = |node: &Field<'_>| {
            node.tag == FIELD_ONE && !node.content.is_empty() && node.content.iter().all(u8::is_ascii_graphic)
        };
        if nodes.len() > 8 || !nodes.iter().all(is_node) || hops.is_some_and(|hops| !(1..=8).contains(&hops)) {
            return None;
        }
        let mut inner = written(&nodes.iter().map(|node| node.content).collect::<Vec<_>>());
        inner.extend(hops.map(|hops| [HOPS_LEFT as u8, hops as u8]).into_iter().flatten());
        said.extend([PATH as u8, u8::try_from(inner.len()).ok()?]);
        said.append(&mut inner);
    }
    (said == options).then_some((if mode < 2 { b"" } else { options }, mode == 3))
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

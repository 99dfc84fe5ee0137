//! Who a certificate names. It was verified before: here it is only read (DER: X.690; certificates: RFC 5280).
//!
//! By hand, because a parser of everything that a certificate can hold takes a fifth of the time that this crate takes
//! to be built.

use std::net::{Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

/// The kinds of alternative names that are text: an e-mail address, a DNS name, a URI. And an IP address.
const TEXT_NAMES: [u8; 3] = [0x81, 0x82, 0x86];
const IP_NAME: u8 = 0x87;

/// The kinds of text that are ASCII or UTF-8: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];

/// Behind the version: serial number, algorithm, issuer, validity, and the subject.
const SUBJECT: usize = 4;

/// Gives a certificate's first alternative name, else its common name, as gRPC does.
pub fn identity(certificate: &[u8]) -> Option<Vec<u8>> {
    let signed = Elements(certificate).next_of(SEQUENCE)?;
    let fields: Vec<(u8, &[u8])> = Elements(Elements(signed).next_of(SEQUENCE)?).collect();
    let extensions = fields.iter().find(|(tag, _)| *tag == EXTENSIONS);
    if let Some(name) = extensions.and_then(|(_, wrapped)| alternative_name(wrapped)) {
        return Some(name);
    }
    let (tag, subject) = fields.iter().filter(|(tag, _)| *tag != VERSION).nth(SUBJECT)?;
    if *tag == SEQUENCE { common_name(subject) } else { None }
}

fn alternative_name(wrapped: &[u8]) -> Option<Vec<u8>> {
    for (tag, extension) in Elements(Elements(wrapped).next_of(SEQUENCE)?) {
        let mut parts = Elements(extension);
        if tag != SEQUENCE || parts.next_of(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        // Whether it is critical may stand in between.
        let (_, octets) = parts.find(|(tag, _)| *tag == OCTETS)?;
        return Elements(Elements(octets).next_of(SEQUENCE)?).find_map(|(tag, name)| match tag {
            tag if TEXT_NAMES.contains(&tag) => Some(name.to_vec()),
            IP_NAME => address(name),
            _ => None,
        });
    }
    None
}

fn address(octets: &[u8]) -> Option<Vec<u8>> {
    let written = match octets.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string(),
        _ => return None,
    };
    Some(written.into_bytes())
}

fn common_name(subject: &[u8]) -> Option<Vec<u8>> {
    for (tag, relative) in Elements(subject) {
        for (inner, attribute) in Elements(relative) {
            let mut parts = Elements(attribute);
            if (tag, inner) == (SET, SEQUENCE) && parts.next_of(OID)? == COMMON_NAME {
                let (kind, name) = parts.next()?;
                return TEXTS.contains(&kind).then(|| name.to_vec());
            }
        }
    }
    None
}

/// Elements that stand one behind the other: each with its tag and its content. They end at the first that is cut off.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next_of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7F);
            // No certificate is longer than what three bytes count.
            if !(1..=3).contains(&count) {
                return None;
            }
            let (octets, behind) = rest.split_at_checked(count)?;
            length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len();
        let head = match length {
            0..0x80 => vec![tag, length as u8],
            0x80..0x100 => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content].concat()
    }

    fn name(common: &str) -> Vec<u8> {
        let organisation = element(SEQUENCE, &[&element(OID, &[&[0x55, 0x04, 0x0A]]), &element(0x0C, &[b"somebody"])]);
        let common = element(SEQUENCE, &[&element(OID, &[COMMON_NAME]), &element(0x0C, &[common.as_bytes()])]);
        element(SEQUENCE, &[&element(SET, &[&organisation]), &element(SET, &[&common])])
    }

    fn certificate(alternatives: Option<&[&[u8]]>) -> Vec<u8> {
        let version = element(VERSION, &[&element(0x02, &[&[2]])]);
        let serial = element(0x02, &[&[7; 20]]);
        let empty = element(SEQUENCE, &[]);
        let key = element(SEQUENCE, &[&[0; 300]]);
        let usage = element(SEQUENCE, &[&element(OID, &[&[0x55, 0x1D, 0x0F]]), &element(OCTETS, &[&[3, 2, 1, 6]])]);
        let names = alternatives.map(|names| {
            let critical: &[u8] = &[0x01, 0x01, 0xFF];
            let names = element(OCTETS, &[&element(SEQUENCE, names)]);
            element(SEQUENCE, &[&element(OID, &[ALTERNATIVE_NAMES]), critical, &names])
        });
        let extensions = element(EXTENSIONS, &[&element(SEQUENCE, &[&usage, &names.unwrap_or_default()])]);
        let issuer = name("the issuer");
        let fields: &[&[u8]] = &[&version, &serial, &empty, &issuer, &empty, &name("common"), &key, &extensions];
        element(SEQUENCE, &[&element(SEQUENCE, fields), &empty, &element(0x03, &[&[0; 72]])])
    }

    #[test]
    fn the_first_alternative_name_is_before_the_common_one() {
        let text = |name: &str| Some(name.as_bytes().to_vec());
        assert_eq!(identity(&certificate(None)), text("common"));
        assert_eq!(identity(&certificate(Some(&[]))), text("common"));
        let (first, second) = (element(0x82, &[b"first.88.101"]), element(0x82, &[b"second"]));
        assert_eq!(identity(&certificate(Some(&[&first, &second]))), text("first.88.101"));
        let other = element(0xA0, &[b"other name"]);
        assert_eq!(identity(&certificate(Some(&[&other, &second]))), text("second"));
        let address = element(IP_NAME, &[&[127, 0, 0, 1]]);
        assert_eq!(identity(&certificate(Some(&[&address]))), text("127.0.0.1"));
    }

    #[test]
    fn what_is_cut_off_or_changed_names_nobody_or_somebody_and_never_fails() {
        let whole = certificate(Some(&[&element(0x82, &[b"first"])]));
        for end in 0..whole.len() {
            assert_eq!(identity(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            for octet in [0, 0x30, 0x7F, 0x80, 0x83, 0x84, 0xFF] {
                let mut changed = whole.clone();
                changed[at] = octet;
                let _ = identity(&changed);
            }
        }
    }
}

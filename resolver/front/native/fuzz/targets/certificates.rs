//! Names out of certificates: one that is given stands there, or is the text of an address.

use std::net::IpAddr;

use crate::identity::identity;

/// Reads a certificate.
pub fn certificates(octets: &[u8]) {
    let Some(name) = identity(octets) else { return };
    let stands_there = name.is_empty() || octets.windows(name.len()).any(|part| part == name);
    let is_address = std::str::from_utf8(&name).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
    assert!(stands_there || is_address, "{name:?}");
}

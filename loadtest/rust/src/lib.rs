//! What the programs share: messages as gRPC frames them, and how a server under measurement begins and ends.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use bytes::{Buf, Bytes};
use tokio::runtime::Runtime;

/// What may go wrong here ends the program, which says what it was.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Bytes before a message: a flag for compression, and its length.
const HEAD: usize = 5;

/// Reads a file of framed messages, one behind the other, and gives each with its frame.
pub fn framed(path: &Path) -> Outcome<Vec<Bytes>> {
    taken_apart(Bytes::from(std::fs::read(path)?))
}

fn taken_apart(mut rest: Bytes) -> Outcome<Vec<Bytes>> {
    let mut messages = Vec::new();
    while rest.has_remaining() {
        let length = rest.get(1..HEAD).ok_or("a frame without its head")?.get_u32() as usize;
        if rest.len() < HEAD + length {
            return Err("a frame that is cut off".into());
        }
        messages.push(rest.split_to(HEAD + length));
    }
    Ok(messages)
}

/// Reads the one message that an echo answers everything with, in its frame.
pub fn answer() -> Outcome<Bytes> {
    let path = std::env::args_os().nth(1).ok_or("the file with the answer is to be named")?;
    framed(Path::new(&path))?.pop().ok_or_else(|| "a file without an answer".into())
}

/// Makes what runs everything on one thread.
pub fn one_thread() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Any free port of this machine, for itself only.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Says at which port one is served, and ends the program with its standard input: whoever started it is gone then.
pub fn serves(address: SocketAddr) -> Outcome<()> {
    println!("{}", address.port());
    io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart_with_their_frames() {
        let file = Bytes::from_static(b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c");
        let messages = taken_apart(file).expect("whole frames");
        assert_eq!(messages, [&b"\0\0\0\0\x02ab"[..], b"\0\0\0\0\0", b"\0\0\0\0\x01c"]);
    }

    #[test]
    fn what_is_cut_off_is_told() {
        for cut in [&b"\0\0\0\0"[..], b"\0\0\0\0\x02a"] {
            assert!(taken_apart(Bytes::from_static(cut)).is_err());
        }
    }
}

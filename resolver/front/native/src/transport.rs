//! What a connection reads from and writes to, and a meter beside it that sees what h2 does not tell.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// One of the ways in which bytes come. One type, so that HTTP/2 is compiled once.
pub enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Walks over frames however they are cut, and reads no more than the nine bytes before each (RFC 9113 section 4.1).
struct Frames {
    /// Bytes that still belong to the preface or to the payload of the frame at hand.
    passing: usize,
    head: [u8; 9],
    gathered: usize,
}

impl Frames {
    fn behind(passing: usize) -> Self {
        Self { passing, head: [0; 9], gathered: 0 }
    }

    /// Tells of each frame whose head ends in these octets its type, its flags and its length.
    fn pass(&mut self, mut octets: &[u8], mut tell: impl FnMut(u8, u8, usize)) {
        loop {
            let passed = self.passing.min(octets.len());
            self.passing -= passed;
            octets = &octets[passed..];
            let taken = (self.head.len() - self.gathered).min(octets.len());
            if taken == 0 {
                return;
            }
            self.head[self.gathered..self.gathered + taken].copy_from_slice(&octets[..taken]);
            self.gathered += taken;
            octets = &octets[taken..];
            if self.gathered < self.head.len() {
                return;
            }
            self.gathered = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.passing = u32::from_be_bytes([0, a, b, c]) as usize;
            tell(kind, flags, self.passing);
        }
    }
}

/// Counts what a client sends beside requests, and what goes to it of answers: h2 tells neither.
pub struct Meter {
    inwards: Frames,
    outwards: Frames,
    pub octets: u64,
    pub pings: u32,
    pub settings: u32,
    pub resets: u32,
    /// Bytes of answers that the socket took: of frames that have begun to go, all.
    pub gone: u64,
    /// What may still be read and written in this turn.
    readable: usize,
    writable: usize,
    is_short: bool,
}

/// What a connection reads in one turn, and what it writes: a few dozen calls, and an answer or two that are large. Of
/// what is read last there may be a buffer more.
const READ_A_TURN: usize = 8 * 1024;
const WRITTEN_A_TURN: usize = 256 * 1024;

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

impl Meter {
    fn new() -> Self {
        let (inwards, outwards) = (Frames::behind(PREFACE), Frames::behind(0));
        Self {
            inwards,
            outwards,
            octets: 0,
            pings: 0,
            settings: 0,
            resets: 0,
            gone: 0,
            readable: READ_A_TURN,
            writable: WRITTEN_A_TURN,
            is_short: false,
        }
    }

    /// Lets as much be read and written as is one turn's.
    pub fn begin_turn(&mut self) {
        (self.readable, self.writable, self.is_short) = (READ_A_TURN, WRITTEN_A_TURN, false);
    }

    /// Tells whether there was more to be read or written than one turn's: nobody is woken for that.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    fn came(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        self.readable = self.readable.saturating_sub(octets.len());
        let Self { inwards, pings, settings, resets, .. } = self;
        inwards.pass(octets, |kind, flags, _| match kind {
            PING if flags & ACK == 0 => *pings += 1,
            SETTINGS if flags & ACK == 0 => *settings += 1,
            RST_STREAM => *resets += 1,
            _ => {}
        });
    }

    fn went(&mut self, octets: &[u8]) {
        self.writable = self.writable.saturating_sub(octets.len());
        let Self { outwards, gone, .. } = self;
        outwards.pass(octets, |kind, _, length| {
            if matches!(kind, DATA | HEADERS) {
                *gone += length as u64;
            }
        });
    }
}

/// A connection's bytes.
pub struct Transport {
    io: Io,
    meter: Rc<RefCell<Meter>>,
}

impl Transport {
    pub fn new(io: Io) -> (Self, Rc<RefCell<Meter>>) {
        let meter = Rc::new(RefCell::new(Meter::new()));
        (Self { io, meter: Rc::clone(&meter) }, meter)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.borrow().readable == 0 {
            this.meter.borrow_mut().is_short = true;
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, into))?;
        this.meter.borrow_mut().came(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.meter.borrow().writable == 0 {
            this.meter.borrow_mut().is_short = true;
            return Poll::Pending;
        }
        let length = ready!(match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, octets),
        })?;
        this.meter.borrow_mut().went(&octets[..length]);
        Poll::Ready(Ok(length))
    }

    /// By itself h2 copies frames of less than a kibibyte into one buffer then, and hands over only larger ones apart:
    /// with vectored writes that is a quarter of it, less than a usual answer, and each answer would cost a write.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Writes an address as gRPC does: `ipv4:1.2.3.4:567`, `ipv6:%5B::1%5D:567`.
pub fn written(ip: IpAddr, port: u16) -> String {
    match ip {
        IpAddr::V4(ip) => format!("ipv4:{ip}:{port}"),
        IpAddr::V6(ip) => format!("ipv6:%5B{ip}%5D:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_counts_frames_however_they_are_cut() {
        let frame = |length: u8, kind: u8, flags: u8| {
            let mut octets = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
            octets.resize(9 + usize::from(length), PING);
            octets
        };
        let frames = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(0, SETTINGS, 0),
            frame(8, PING, 0),
            frame(8, PING, ACK),
            frame(200, 0, 0),
            frame(4, RST_STREAM, 0),
            frame(8, PING, 0),
        ];
        let octets = frames.concat();
        for cut in 1..octets.len() {
            let mut meter = Meter::new();
            for piece in octets.chunks(cut) {
                meter.came(piece);
            }
            assert_eq!((meter.pings, meter.settings, meter.resets), (2, 1, 1), "pieces of {cut}");
            assert_eq!(meter.octets, octets.len() as u64);
        }
        let octets =
            [frame(200, DATA, 0), frame(8, PING, ACK), frame(20, HEADERS, 1), frame(4, RST_STREAM, 0)].concat();
        for cut in 1..octets.len() {
            let mut meter = Meter::new();
            for piece in octets.chunks(cut) {
                meter.went(piece);
            }
            assert_eq!(meter.gone, 220, "pieces of {cut}");
        }
    }

    #[test]
    fn addresses_are_written_as_grpc_does() {
        assert_eq!(written([1, 2, 3, 4].into(), 567), "ipv4:1.2.3.4:567");
        assert_eq!(written(std::net::Ipv6Addr::LOCALHOST.into(), 567), "ipv6:%5B::1%5D:567");
    }
}

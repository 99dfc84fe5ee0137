//! Where a front listens, how many connections it takes, and what stands between a socket and its first request.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connection::{Connection, Contained};
use crate::crossing::Peer;
use crate::engine::{Ending, Engine};
use crate::identity::identity;
use crate::settings::Settings;
use crate::transport::{Io, Meter, Transport, written};
use crate::turns::{Last, turn};
use crate::upkeep::RESETS_FORGIVEN;

/// Connections that the kernel holds ready for us.
const BACKLOG: i32 = 4_096;

/// A client has this long for TLS and for the beginning of HTTP/2.
const HANDSHAKES: Duration = Duration::from_secs(10);

/// What a socket that cannot be taken costs: most likely there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// Header lists of requests, in bytes.
const HEADERS: u32 = 16 * 1024;

/// What a client may send of one request, and of all of them, before anything of it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What one stream may hold that is not written yet.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that a client reset, remembered for a while.
const RESET_REMEMBERED: usize = 64;
const RESET_FOR: Duration = Duration::from_secs(1);

/// HTTP/2 over a connection.
type Http2 = h2::server::Connection<Transport, Bytes>;

/// A socket that listens.
pub enum Listening {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Listening {
    /// Binds `host:port`, port 0 for any free one, or `unix:` and a path. All processes of a node share one TCP port.
    pub fn bind(address: &str) -> io::Result<Self> {
        if let Some(path) = address.strip_prefix("unix:") {
            // What an earlier process left; another kind of file is not ours to remove.
            if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                std::fs::remove_file(path)?;
            }
            let listener = StdUnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            return Ok(Self::Unix(listener));
        }
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "not an address");
        for address in address.to_socket_addrs()? {
            match bind_tcp(address) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The bound port; 1 for a Unix socket, as gRPC says.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(0, |address| address.port()),
            Self::Unix(_) => 1,
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes connections until it is aborted.
pub async fn listen(listening: Listening, engine: Rc<RefCell<Engine>>) -> io::Result<()> {
    match listening {
        Listening::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => take_tcp(stream, address, &engine),
                    Err(_) => sleep(PAUSE).await,
                }
                turn(&engine).await;
            }
        }
        Listening::Unix(listener) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Some(place) = Place::take(&engine, None) {
                            let served = serve(Io::Unix(stream), "unix:".to_owned(), None, place);
                            spawn_local(Last::new(served, Rc::clone(&engine)));
                        }
                    }
                    Err(_) => sleep(PAUSE).await,
                }
                turn(&engine).await;
            }
        }
    }
}

fn take_tcp(stream: TcpStream, address: SocketAddr, engine: &Rc<RefCell<Engine>>) {
    if engine.borrow().settings.planted_panic.as_deref() == Some("accept") {
        panic!("a panic was planted where connections are taken");
    }
    let ip = address.ip().to_canonical();
    let Some(place) = Place::take(engine, Some(ip)) else {
        // Reset: an ended one would be kept by the kernel until its client has ended it too, and thousands of them cost
        // more than what we do for all others. Where that fails it ends as usual.
        let _ = stream.set_zero_linger();
        return;
    };
    // An answer waits for nothing: they are gathered here already.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let written = written(address.ip(), address.port());
    let config = engine.borrow().tls.clone();
    let served = async move {
        let Some(config) = config else { return serve(Io::Tcp(stream), written, None, place).await };
        // In a box of its own, as everything that is over once the connection serves: what is idle keeps no room for it.
        match Box::pin(timeout(HANDSHAKES, TlsAcceptor::from(config).accept(stream))).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let identity = certificates.and_then(|chain| chain.first()).and_then(|first| identity(first));
                serve(Io::Tls(Box::new(stream)), written, identity, place).await;
            }
            _ => place.engine.borrow_mut().stats.handshakes_failed += 1,
        }
    };
    spawn_local(Last::new(served, Rc::clone(engine)));
}

async fn serve(io: Io, address: String, identity: Option<Vec<u8>>, place: Place) {
    let begun = Box::pin(begun(io, &place.engine)).await;
    let Some((h2, meter)) = begun else {
        place.engine.borrow_mut().stats.handshakes_failed += 1;
        return;
    };
    let peer = Arc::new(Peer { address, identity });
    let connection = Contained::new(Connection::new(h2, meter, Rc::clone(&place.engine), peer));
    // A task of its own, which is smaller than one that has begun it.
    drop(spawn_local(kept(connection, place)));
}

/// Serves a connection to its end, and then gives its place back.
async fn kept(connection: Contained, _place: Place) {
    connection.await;
}

/// Begins HTTP/2.
async fn begun(io: Io, engine: &Rc<RefCell<Engine>>) -> Option<(Http2, Rc<RefCell<Meter>>)> {
    let (transport, meter) = Transport::new(io);
    let builder = http2(&engine.borrow().settings);
    let h2 = timeout(HANDSHAKES, builder.handshake(transport)).await.ok()?.ok()?;
    Some((h2, meter))
}

pub fn http2(settings: &Settings) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_REMEMBERED)
        .reset_stream_duration(RESET_FOR)
        // Those that were not looked at yet count like others: while a node is held up, the time of all calls may end.
        .max_pending_accept_reset_streams(RESETS_FORGIVEN as usize);
    builder
}

/// One of the connections that there may be; given back when it is dropped.
struct Place {
    engine: Rc<RefCell<Engine>>,
    ip: Option<IpAddr>,
}

impl Place {
    fn take(engine: &Rc<RefCell<Engine>>, ip: Option<IpAddr>) -> Option<Self> {
        let mut held = engine.borrow_mut();
        let of_peer = ip.and_then(|ip| held.peers.get(&ip)).copied().unwrap_or(0);
        let (most, most_of_peer) = (held.settings.connections, held.settings.connections_per_peer);
        if held.ending > Ending::Open || held.connections >= most || of_peer >= most_of_peer {
            held.stats.turned_away += 1;
            return None;
        }
        held.stats.accepted += 1;
        held.connections += 1;
        if let Some(ip) = ip {
            held.peers.insert(ip, of_peer + 1);
        }
        drop(held);
        Some(Self { engine: Rc::clone(engine), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut engine = self.engine.borrow_mut();
        engine.connections -= 1;
        if let Some(ip) = self.ip
            && let Some(count) = engine.peers.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                engine.peers.remove(&ip);
            }
        }
        if engine.connections == 0 {
            engine.emptied.notify_waiters();
        }
    }
}

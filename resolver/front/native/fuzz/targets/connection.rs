//! Whole connections: a client that sends what it likes, a Python that says what it likes, and bounds that hold.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::Tape;
use crate::answers::{Answer, Message, Status, framed};
use crate::cache::Frame;
use crate::connection::{Connection, Contained};
use crate::crossing::{Body, Command, Crossing, Peer, Question, Reply, Said};
use crate::engine::Engine;
use crate::framing::Budget;
use crate::listener::http2;
use crate::request::IDENTIFIER_BYTES;
use crate::settings::{HEALTH_PATH, Kind, Method, Refusals, Settings};
use crate::stats::Snapshot;
use crate::transport::{Io, Meter, Transport};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATHS: [(&str, Kind); 5] = [
    ("/t.L/One", Kind::One),
    ("/t.L/Batch", Kind::Batch),
    ("/t.L/Other", Kind::Other),
    ("/t.L/Elsewhere", Kind::Refer),
    (HEALTH_PATH, Kind::Health),
];
/// Bytes of a request.
const MOST: usize = 1_024;
const SIGNED: &str = "signed-bin";

/// Frames of HTTP/2 (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Nothing ends by itself while an input is played, but for what the client wants soon.
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(2);

/// Reads how the client begins, and what happens then, step by step.
pub fn connection(octets: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime =
            Builder::new_current_thread().enable_io().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(play(Tape(octets))));
}

/// Small bounds, so that short inputs reach them.
fn settings() -> Arc<Settings> {
    static MADE: OnceLock<Arc<Settings>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let methods = PATHS.map(|(path, kind)| Method { path: path.to_owned(), kind, most: MOST, too_large: None });
        Arc::new(Settings {
            methods: methods.into(),
            python_keys: vec![http::HeaderName::from_static(SIGNED)],
            refusals: Refusals::new(&HashMap::new(), "elsewhere"),
            batch_identifiers: 4,
            answer_bytes: 64 * 1024,
            streams: 8,
            connections: 1,
            connections_per_peer: 1,
            flights: 6,
            buffered_bytes: 80 * 1024,
            body_timeout: LONG,
            deadline: LONG,
            connection_age: LONG,
            connection_grace: LONG,
            keepalive: LONG,
            keepalive_timeout: LONG,
            ping_interval: LONG,
            cache_bytes: 48 * 1024,
            absent_bytes: 4 * 1024,
            entry_bytes: 32 * 1024,
            spellings: 2,
            latency_bounds: vec![Duration::from_millis(1)],
            planted_panic: None,
        })
    });
    Arc::clone(made)
}

async fn play(mut tape: Tape<'_>) {
    let mut stage = Stage::new();
    // Else the client begins with whatever it likes.
    if !tape.octet().is_multiple_of(4) {
        stage.unsent.extend_from_slice(PREFACE);
        stage.send(SETTINGS, 0, 0, b"");
    }
    while !tape.0.is_empty() {
        stage.step(&mut tape).await;
    }
    stage.end().await;
}

/// What connections share, and how Python talks to it.
fn shared() -> (Rc<RefCell<Engine>>, Arc<Crossing>) {
    let crossing = Arc::new(Crossing::new(Budget::new(settings().buffered_bytes)).expect("a pipe"));
    crossing.tell(Command::CurrentUntil(Instant::now() + LONG));
    crossing.tell(Command::SetHealth([(String::new(), true), ("t.L".to_owned(), false)].into()));
    let engine = Engine::new(settings(), Arc::clone(&crossing), None, Instant::now());
    (Rc::new(RefCell::new(engine)), crossing)
}

/// The two ends of a connection, the client's first.
fn sockets() -> (Socket, Socket) {
    let (client, server) = Socket::pair().expect("two sockets");
    for end in [&client, &server] {
        end.set_nonblocking(true).expect("a socket that does not wait");
    }
    (client, server)
}

/// A connection, its client and its Python.
struct Stage {
    engine: Rc<RefCell<Engine>>,
    crossing: Arc<Crossing>,
    served: Option<Pin<Box<dyn Future<Output = ()>>>>,
    client: Socket,
    unsent: Vec<u8>,
    next_stream: u32,
    is_listening: bool,
    heard: Heard,
    asked: Vec<Question>,
    changes: u64,
    has_waited: bool,
}

impl Stage {
    fn new() -> Self {
        let (engine, crossing) = shared();
        let (client, server) = sockets();
        Self {
            served: Some(Box::pin(served(server, &engine).0)),
            engine,
            crossing,
            client,
            unsent: Vec::new(),
            next_stream: 1,
            is_listening: true,
            heard: Heard::default(),
            asked: Vec::new(),
            changes: 0,
            has_waited: false,
        }
    }

    async fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.octet() % 24 {
            kind @ 0..=9 => {
                let (flags, stream, length) = (tape.octet(), tape.octet(), tape.octet());
                self.send(kind, flags, stream.into(), tape.some(length.into()));
            }
            10 => {
                let length = usize::from(tape.octet()) << 8 | usize::from(tape.octet());
                self.unsent.extend_from_slice(tape.some(length));
            }
            11 => self.is_listening = !self.is_listening,
            12 => drop(self.client.shutdown(Shutdown::Write)),
            13 => {
                self.changes += 1;
                let length = usize::from(tape.octet());
                let some = vec![tape.some(length).to_vec()];
                self.crossing.tell(match tape.octet() % 4 {
                    0 => Command::Drop(some, self.changes),
                    1 => Command::Changed(some, self.changes),
                    2 => Command::Clear(self.changes),
                    _ => Command::Drain(LONG, channel().0),
                });
            }
            14 => self.crossing.tell(Command::Close),
            15..=17 => self.reply(tape),
            18 => self.turn().await,
            19 => {
                // Short times pass; not often, since nothing else happens meanwhile.
                if !std::mem::replace(&mut self.has_waited, true) {
                    tokio::time::sleep(SHORT).await;
                }
                self.turn().await;
            }
            _ => self.call(tape).await,
        }
    }

    /// Sends a frame with the next turn.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        put_frame(&mut self.unsent, kind, flags, stream, payload);
    }

    /// A call that is mostly in order.
    async fn call(&mut self, tape: &mut Tape<'_>) {
        let (method, form, message) = (tape.octet(), tape.octet(), tape.octet());
        let message = tape.some(message.into());
        let (path, kind) = PATHS.get(usize::from(method % 6)).copied().unwrap_or(("/t.L/Nothing", Kind::Other));
        let is_packed = form & 4 != 0;
        let mut block = Vec::new();
        for (name, value) in
            [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
        {
            put_header(&mut block, name, value.as_bytes());
        }
        match form & 3 {
            0 => {}
            1 => put_header(&mut block, "grpc-timeout", b"1n"),
            2 => put_header(&mut block, "grpc-timeout", b"20S"),
            _ => put_header(&mut block, "grpc-timeout", &message[..message.len().min(4)]),
        }
        if is_packed {
            put_header(&mut block, "grpc-encoding", b"gzip");
        }
        if form & 8 != 0 {
            put_header(&mut block, SIGNED, b"YQ,Yg==");
        }
        let message = if form & 16 != 0 { message.to_vec() } else { request(kind, message) };
        let message = if is_packed { packed(&message) } else { message };
        let mut body = vec![u8::from(is_packed)];
        body.extend_from_slice(&u32::try_from(message.len()).expect("a short message").to_be_bytes());
        body.extend_from_slice(&message);

        let stream = self.next_stream;
        self.next_stream += 2;
        self.send(HEADERS, END_HEADERS, stream, &block);
        let (first, rest) = body.split_at(if form & 32 != 0 { body.len() / 2 } else { 0 });
        if !first.is_empty() {
            self.send(DATA, 0, stream, first);
            self.turn().await;
        }
        self.send(DATA, if form & 64 != 0 { 0 } else { END_STREAM }, stream, rest);
    }

    /// Python says something to all that it was asked.
    fn reply(&mut self, tape: &mut Tape<'_>) {
        self.listen_to_questions();
        let kind = tape.octet();
        let body = vec![kind; usize::from(tape.octet()) * 97];
        let room = &self.crossing.answers;
        let reply = |question: Question| Reply { token: question.token, said: said(&question, kind, &body, room) };
        let replies = self.asked.drain(..).map(reply).collect();
        self.crossing.tell(Command::Answer(replies));
    }

    fn listen_to_questions(&mut self) {
        let settings = settings();
        for question in self.crossing.take(usize::MAX, Instant::now()) {
            let method = &settings.methods[question.method as usize];
            match &question.body {
                Body::Whole(octets) => assert!(octets.len() <= MOST),
                Body::One(identifier, options) => {
                    assert_eq!(method.kind, Kind::One);
                    assert!(options.len() < 128, "a mode and a path");
                    assert!(identifier.len() <= IDENTIFIER_BYTES);
                    assert!(question.metadata.is_empty(), "what is signed is no plain question");
                }
                Body::Identifiers(identifiers, options) => {
                    assert_eq!(method.kind, Kind::Batch);
                    assert!(options.len() < 128, "a mode and a path");
                    assert!((1..=settings.batch_identifiers).contains(&identifiers.len()));
                    assert!(identifiers.iter().all(|(_, octets)| octets.len() <= IDENTIFIER_BYTES));
                    assert!(identifiers.is_sorted_by(|(before, _), (after, _)| before < after));
                    assert!(question.metadata.is_empty(), "what is signed is no plain question");
                }
            }
            assert!(question.metadata.iter().all(|(key, _)| key == SIGNED));
            self.asked.push(question);
        }
    }

    /// Sends what is to be sent, lets the connection work, and hears what it says.
    async fn turn(&mut self) {
        if let Ok(sent) = self.client.write(&self.unsent) {
            self.unsent.drain(..sent);
        }
        // As the front's thread does when its bell rings.
        self.engine.borrow_mut().catch_up();
        // Whoever comes last lines up first.
        for _ in 0..3 {
            // Time for the runtime to see what has come.
            tokio::task::yield_now().await;
            self.engine.borrow_mut().turns.call();
            let Some(served) = &mut self.served else { break };
            if std::future::poll_fn(|cx| Poll::Ready(served.as_mut().poll(cx))).await.is_ready() {
                self.served = None;
            }
        }
        if self.is_listening {
            self.heard.listen(&self.client);
        }
        self.check(&self.numbers());
    }

    async fn end(mut self) {
        self.is_listening = true;
        self.turn().await;
        self.served = None;
        self.engine.borrow_mut().hand_on();
        self.listen_to_questions();
        let left = self.numbers();
        self.check(&left);
        assert_eq!((left.calls, left.buffered_octets), (0, 0), "an ended connection leaves nothing");
        assert_eq!(left.flights, self.asked.len(), "what is out is what Python has not answered");
        assert!(left.unread_octets == 0 || left.flights > 0, "room is kept for what Python has not answered only");
    }

    fn numbers(&self) -> Snapshot {
        let (sender, receiver) = channel();
        self.crossing.tell(Command::TakeStats(sender));
        self.engine.borrow_mut().catch_up();
        receiver.recv().expect("numbers")
    }

    fn check(&self, numbers: &Snapshot) {
        let settings = settings();
        assert_eq!(numbers.stats.panics, 0);
        assert!(numbers.buffered_octets <= settings.buffered_bytes);
        assert!(numbers.flights <= settings.flights);
        assert!(numbers.cache_octets <= settings.cache_bytes + settings.absent_bytes);
    }
}

/// What the listener does with a connection, and the meter of that.
fn served(server: Socket, engine: &Rc<RefCell<Engine>>) -> (impl Future<Output = ()> + use<>, Rc<RefCell<Meter>>) {
    let stream = UnixStream::from_std(server).expect("a socket of this runtime");
    let (transport, meter) = Transport::new(Io::Unix(stream));
    let (engine, beside) = (Rc::clone(engine), Rc::clone(&meter));
    let work = async move {
        if let Ok(h2) = http2(&settings()).handshake(transport).await {
            let peer = Arc::new(Peer { address: "unix:".to_owned(), identity: None });
            Contained::new(Connection::new(h2, meter, engine, peer)).await;
        }
    };
    (work, beside)
}

/// What the client heard: frames, and which streams are over.
#[derive(Default)]
struct Heard {
    octets: Vec<u8>,
    over: HashSet<u32>,
}

impl Heard {
    fn listen(&mut self, mut client: &Socket) {
        // As much as there is now; the socket does not wait for more.
        let _ = client.read_to_end(&mut self.octets);
        let mut at = 0;
        while let Some((&[a, b, c, kind, flags, s, t, u, v], rest)) = self.octets[at..].split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if rest.len() < length {
                break;
            }
            at += 9 + length;
            let stream = u32::from_be_bytes([s, t, u, v]);
            if matches!(kind, DATA | HEADERS) {
                assert!(!self.over.contains(&stream), "stream {stream} is answered twice");
            }
            if kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                self.over.insert(stream);
            }
        }
        self.octets.drain(..at);
    }
}

fn put_frame(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    into.extend_from_slice(&length);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// Writes a header as a literal that is not indexed (RFC 7541 section 6.2.2).
fn put_header(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    for octets in [name.as_bytes(), value] {
        block.push(u8::try_from(octets.len()).expect("a short header"));
        block.extend_from_slice(octets);
    }
}

/// A request that is plain: one identifier, or as many as there are pieces of four bytes.
fn request(kind: Kind, message: &[u8]) -> Vec<u8> {
    let pieces = message.chunks(if kind == Kind::Batch { 4 } else { 127 });
    let mut written = Vec::new();
    for piece in pieces {
        written.extend_from_slice(&[0x0A, u8::try_from(piece.len()).expect("a short piece")]);
        written.extend_from_slice(piece);
    }
    written
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(message).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// What Python says: a status, a message, or answers of which some are missing, repeated, or not to be kept.
fn said(question: &Question, kind: u8, body: &[u8], room: &Budget) -> Said {
    if kind.is_multiple_of(8) {
        return Said::Whole(Answer::Status(Status::new(u16::from(kind) / 8, "no", &[])));
    }
    let identifiers = match &question.body {
        Body::Whole(_) => return Said::Whole(Answer::Message(Message::framed(body, &[]))),
        Body::One(identifier, _) => &vec![(0, identifier.clone())],
        Body::Identifiers(identifiers, _) => identifiers,
    };
    let skipped = usize::from(kind & 16 != 0);
    let frames = identifiers.iter().skip(skipped).map(|(position, octets)| {
        let frame = Frame {
            wire: framed(&[body]),
            keep: if kind & 32 != 0 { Duration::ZERO } else { LONG },
            key: octets.as_ref().into(),
            outcome: kind % 4,
            as_of: u64::from(kind & 64),
            sequence: u64::from(kind & 128),
            tag: octets.as_ref().into(),
            is_own: kind & 4 != 0,
        };
        (*position, frame)
    });
    let frames: Vec<_> = frames.collect();
    let octets = frames.iter().map(|(_, frame)| frame.wire.len()).sum();
    room.charge(octets).map_or(Said::TooMuch(octets), |charge| Said::Frames(frames, charge))
}

#[cfg(test)]
mod tests {
    use tokio::runtime::LocalOptions;
    use tokio::task::{spawn_local, yield_now};

    use super::*;
    use crate::turns;

    const PRIORITY: u8 = 2;
    const FLOODS: usize = 6;

    /// Floods get as long as others took, so where the machine takes the thread away they may be read for longer: it is
    /// the best of several rounds that tells.
    const ROUNDS: usize = 10;

    /// What a connection reads in one turn at most.
    const TURN: u64 = 8 * 1024;

    /// For a busy machine; an idle one takes a hundredth of it.
    const SOON: Duration = Duration::from_secs(20);

    /// A client of its own, on a thread that serves as the front's does.
    struct Client {
        socket: Socket,
        meter: Rc<RefCell<Meter>>,
        heard: Heard,
        calls: u32,
    }

    impl Client {
        fn new(engine: &Rc<RefCell<Engine>>) -> Self {
            let (client, server) = sockets();
            let (work, meter) = served(server, engine);
            drop(spawn_local(work));
            let mut begun = PREFACE.to_vec();
            put_frame(&mut begun, SETTINGS, 0, 0, b"");
            (&client).write_all(&begun).expect("room for a preface");
            Self { socket: client, meter, heard: Heard::default(), calls: 0 }
        }

        /// Asks how the node is, and gives the number of the stream.
        fn ask(&mut self) -> u32 {
            let stream = 2 * self.calls + 1;
            self.calls += 1;
            let mut call = Vec::new();
            let mut block = Vec::new();
            for (name, value) in
                [(":method", "POST"), (":scheme", "http"), (":path", HEALTH_PATH), ("content-type", "application/grpc")]
            {
                put_header(&mut block, name, value.as_bytes());
            }
            put_frame(&mut call, HEADERS, END_HEADERS, stream, &block);
            put_frame(&mut call, DATA, END_STREAM, stream, &[0; 5]);
            (&self.socket).write_all(&call).expect("room for a call");
            stream
        }

        async fn answered(&mut self, stream: u32) {
            while !self.heard.over.contains(&stream) {
                yield_now().await;
                self.heard.listen(&self.socket);
            }
        }

        /// Says which streams depend on which, as long as there is room; gives the number of octets.
        fn flood(&self) -> u64 {
            let mut frames = Vec::new();
            for stream in (1..2_000).step_by(2) {
                put_frame(&mut frames, PRIORITY, 0, stream, &[0, 0, 0, 0, 16]);
            }
            let mut sent = 0;
            while let Ok(octets) = (&self.socket).write(&frames[sent % frames.len()..]) {
                sent += octets;
            }
            sent as u64
        }

        fn read(&self) -> u64 {
            self.meter.borrow().octets
        }
    }

    #[test]
    fn while_many_flood_others_are_answered_after_a_turn_of_each_and_no_flood_is_left_for_ever() {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
        let played = async {
            let (engine, _crossing) = shared();
            engine.borrow_mut().catch_up();
            drop(spawn_local(turns::call(Rc::clone(&engine))));
            let mut polite = Client::new(&engine);
            let first = polite.ask();
            polite.answered(first).await;
            let floods: Vec<Client> = (0..FLOODS).map(|_| Client::new(&engine)).collect();
            while floods.iter().any(|each| each.read() == 0) {
                yield_now().await;
            }
            let read = || floods.iter().map(Client::read).collect::<Vec<u64>>();
            let mut least = u64::MAX;
            for _ in 0..ROUNDS {
                let before = read();
                let sent: Vec<u64> = floods.iter().zip(&before).map(|(each, read)| read + each.flood()).collect();
                assert!(sent.iter().zip(&before).all(|(sent, read)| sent - read > 4 * TURN), "there is much of each");
                let next = polite.ask();
                polite.answered(next).await;
                least = least.min(read().iter().sum::<u64>() - before.iter().sum::<u64>());

                while read().iter().zip(&sent).any(|(read, sent)| read < sent) {
                    let next = polite.ask();
                    polite.answered(next).await;
                }
            }
            assert!(least <= FLOODS as u64 * TURN, "at least {least} octets of a flood were read first");
        };
        let in_time = runtime.expect("a runtime").block_on(async { tokio::time::timeout(SOON, played).await });
        in_time.expect("everybody has their turn");
    }
}

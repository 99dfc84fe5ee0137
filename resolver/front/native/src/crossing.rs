//! Between the thread of the front and Python: two bounded queues, each with a bell, and nothing per request.

use std::collections::{HashMap, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::sync::Notify;

use crate::answers::Answer;
use crate::cache::Frame;
use crate::framing::{Budget, Charge};
use crate::stats::Snapshot;
use crate::tallies::Counted;

/// Python takes no more than this of whole messages at once, or one: while it copies them nobody else is answered by it.
const LARGE: usize = 256 * 1024;

/// A flight as Python knows it.
pub type Token = u64;

/// Who calls: the address as gRPC writes it, and who the certificate says it is.
#[derive(Debug)]
pub struct Peer {
    pub address: String,
    pub identity: Option<Vec<u8>>,
}

/// What is asked.
#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    /// One identifier, and the options that say how far to go.
    One(Bytes, Bytes),
    /// Identifiers of a batch, each with its position in the request, and likewise.
    Identifiers(Vec<(u32, Bytes)>, Bytes),
}

impl Body {
    /// What a whole message has: identifiers are small, and bounded in number.
    fn octets(&self) -> usize {
        match self {
            Self::Whole(octets) => octets.len(),
            Self::One(..) | Self::Identifiers(..) => 0,
        }
    }
}

/// A question for Python.
#[derive(Debug)]
pub struct Question {
    pub token: Token,
    pub method: u32,
    pub body: Body,
    pub due: Instant,
    pub peer: Arc<Peer>,
    pub metadata: Vec<(String, Vec<u8>)>,
}

/// What Python says to a question.
#[derive(Debug)]
pub enum Said {
    Whole(Answer),
    /// With the room that it takes until it is where it goes.
    Frame(Frame, Charge),
    /// Likewise, with their positions in a batch.
    Frames(Vec<(u32, Frame)>, Charge),
    /// So many bytes, for which there is no room, or no answer that could hold them.
    TooMuch(usize),
}

/// A reply to a question.
#[derive(Debug)]
pub struct Reply {
    pub token: Token,
    pub said: Said,
}

/// What the front's thread is told. Commands take effect in their order, and before any request that is read later.
pub enum Command {
    Answer(Vec<Reply>),
    Abandon(Vec<Token>),
    Drop(Vec<Vec<u8>>, u64),
    Changed(Vec<Vec<u8>>, u64),
    Clear(u64),
    CurrentUntil(Instant),
    SetHealth(HashMap<String, bool>),
    ReplaceTls(Arc<ServerConfig>),
    TakeCounts(Sender<Vec<Counted>>),
    TakeStats(Sender<Snapshot>),
    Drain(Duration, Sender<()>),
    Close,
}

/// The two queues.
pub struct Crossing {
    questions: Mutex<Questions>,
    reader: PipeReader,
    writer: PipeWriter,
    commands: Mutex<Vec<Command>>,
    has_commands: AtomicBool,
    pub bell: Notify,
    /// Room for the answers of all connections; they take it from here on.
    pub answers: Budget,
}

struct Questions {
    waiting: VecDeque<Question>,
    /// There is a byte in the pipe exactly while something waits, so that it is readable then and never full.
    is_told: bool,
}

impl Crossing {
    pub fn new(answers: Budget) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            questions: Mutex::new(Questions { waiting: VecDeque::new(), is_told: false }),
            reader,
            writer,
            commands: Mutex::new(Vec::new()),
            has_commands: AtomicBool::new(false),
            bell: Notify::new(),
            answers,
        })
    }

    /// The descriptor that is readable while questions wait.
    pub fn fileno(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Hands questions on. Their number is bounded by the flights that there may be.
    pub fn ask(&self, questions: &mut Vec<Question>) {
        let mut held = locked(&self.questions);
        held.waiting.extend(questions.drain(..));
        if !held.is_told && !held.waiting.is_empty() {
            held.is_told = (&self.writer).write_all(&[1]).is_ok();
        }
    }

    /// Takes up to so many questions, and no more once those are large. Those whose time is over are not worth an answer:
    /// their flights are abandoned.
    pub fn take(&self, limit: usize, now: Instant) -> Vec<Question> {
        let mut taken = Vec::new();
        let mut late = Vec::new();
        let mut octets = 0;
        {
            let mut held = locked(&self.questions);
            while taken.len() < limit && octets < LARGE {
                match held.waiting.pop_front() {
                    Some(question) if question.due <= now => late.push(question.token),
                    Some(question) => {
                        octets += question.body.octets();
                        taken.push(question);
                    }
                    None => break,
                }
            }
            if held.is_told && held.waiting.is_empty() {
                held.is_told = (&self.reader).read_exact(&mut [0]).is_err();
            }
        }
        if !late.is_empty() {
            self.tell(Command::Abandon(late));
        }
        taken
    }

    /// Tells the front's thread something.
    pub fn tell(&self, command: Command) {
        locked(&self.commands).push(command);
        // One that is told already takes this one too.
        if !self.has_commands.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Takes what was told; nearly always nothing, which costs one load.
    pub fn told(&self) -> Vec<Command> {
        if !self.has_commands.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut held = locked(&self.commands);
        self.has_commands.store(false, Ordering::Release);
        std::mem::take(&mut *held)
    }
}

/// What stands behind these locks is whole at any time, also when somebody panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(token: Token, due: Instant) -> Question {
        Question {
            token,
            method: 0,
            body: Body::Whole(Bytes::new()),
            due,
            peer: Arc::new(Peer { address: String::new(), identity: None }),
            metadata: Vec::new(),
        }
    }

    #[test]
    fn large_questions_are_taken_a_few_at_a_time() {
        let crossing = Crossing::new(Budget::new(0)).expect("a pipe");
        let now = Instant::now();
        let large = |token| Question {
            body: Body::Whole(Bytes::from(vec![0; LARGE / 2])),
            ..question(token, now + Duration::from_secs(1))
        };
        crossing.ask(&mut (1..=5).map(large).collect());
        let counts: Vec<usize> = (0..4).map(|_| crossing.take(100, now).len()).collect();
        assert_eq!(counts, [2, 2, 1, 0]);
    }

    #[test]
    fn questions_come_in_order_and_late_ones_not_at_all() {
        let crossing = Crossing::new(Budget::new(0)).expect("a pipe");
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        crossing.ask(&mut vec![question(1, later), question(2, now), question(3, later), question(4, later)]);
        let tokens = |taken: Vec<Question>| taken.iter().map(|each| each.token).collect::<Vec<_>>();
        assert_eq!(tokens(crossing.take(2, now)), [1, 3]);
        assert_eq!(tokens(crossing.take(2, now)), [4]);
        assert!(crossing.take(2, now).is_empty());
        assert!(matches!(&crossing.told()[..], [Command::Abandon(tokens)] if tokens == &[2]));
        assert!(crossing.told().is_empty());
    }
}

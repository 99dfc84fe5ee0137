//! What crosses to Python and back, as Python's own objects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::answers::{Answer, Message, Status, framed};
use crate::cache::{FAULT, Frame};
use crate::crossing::{Body, Question, Reply, Said, Token};
use crate::engine::no_answer;
use crate::framing::Budget;
use crate::request;
use crate::room::AT_ONCE;
use crate::settings::{Refusal, Settings};
use crate::stats::{Snapshot, Tier};

/// Gives questions as `Taken` tuples, and those for one identifier as `Run` tuples of at most so many.
pub fn taken<'py>(py: Python<'py>, questions: Vec<Question>, now: Instant, longest: usize) -> PyResult<Both<'py>> {
    let (singles, others): (Vec<_>, Vec<_>) = questions.into_iter().partition(|each| single(each).is_some());
    let runs = PyList::empty(py);
    for run in singles.chunk_by(goes_with).flat_map(|run| run.chunks(longest)) {
        let [first, ..] = run else { continue };
        let tokens: Vec<u8> = run.iter().flat_map(|each| each.token.to_le_bytes()).collect();
        let identifiers: Vec<_> =
            run.iter().filter_map(single).map(|(identifier, _)| PyBytes::new(py, identifier)).collect();
        let left = run.iter().map(|each| left(each, now)).max();
        let options = single(first).map_or(&[][..], |(_, options)| options);
        let (peer, identity) = who(py, first);
        let (tokens, options) = (PyBytes::new(py, &tokens), PyBytes::new(py, options));
        runs.append((tokens, first.method, identifiers, left, peer, identity, options))?;
    }
    let list = PyList::empty(py);
    for question in others {
        let metadata = PyList::empty(py);
        for (key, value) in &question.metadata {
            metadata.append((key, PyBytes::new(py, value)))?;
        }
        let (body, options) = match &question.body {
            Body::Whole(octets) | Body::One(octets, _) => (PyBytes::new(py, octets).into_any(), PyBytes::new(py, b"")),
            Body::Identifiers(identifiers, options) => {
                let each = identifiers.iter().map(|(position, octets)| (*position, PyBytes::new(py, octets)));
                (PyList::new(py, each)?.into_any(), PyBytes::new(py, options))
            }
        };
        let (peer, identity) = who(py, &question);
        list.append((question.token, question.method, body, left(&question, now), peer, identity, metadata, options))?;
    }
    Ok((list, runs))
}

/// Reads `Reply` tuples. One that is not of their shape is a mistake: its call is told so, and the first such error is
/// given beside. Batches for which there is no room are not copied.
pub fn replies(given: &Bound<'_, PyAny>, state: State, room: &Budget, answer_octets: usize) -> PyResult<Read> {
    let mut read = Read::default();
    for each in given.try_iter()? {
        let each = each?;
        let tuple = each.cast::<PyTuple>()?;
        let token: Token = tuple.get_item(0)?.extract()?;
        read.note(token, said(tuple, state, room, answer_octets));
    }
    Ok(read)
}

/// Reads a frame for each token of a run. Errors are not taken: their places are given.
pub fn run(tokens: &[u8], frames: &Bound<'_, PyList>, state: State, room: &Budget) -> PyResult<(Read, Vec<usize>)> {
    let (tokens, rest) = tokens.as_chunks();
    if tokens.len() != frames.len() || !rest.is_empty() {
        return Err(PyValueError::new_err("A run has a token of eight bytes for each frame."));
    }
    let mut read = Read { replies: Vec::with_capacity(tokens.len()), mistake: None };
    let mut errors = Vec::new();
    let mut tag = Arc::default();
    for (place, (token, given)) in tokens.iter().zip(frames.iter()).enumerate() {
        match found(&given, state, room, &mut tag) {
            Ok(None) => errors.push(place),
            Ok(Some(said)) => read.note(Token::from_le_bytes(*token), Ok(said)),
            Err(error) => read.note(Token::from_le_bytes(*token), Err(error)),
        }
    }
    Ok((read, errors))
}

/// Reads a frame; nothing where it is an error.
fn found(given: &Bound<'_, PyAny>, state: State, room: &Budget, tag: &mut Arc<[u8]>) -> PyResult<Option<Said>> {
    let tuple = given.cast::<PyTuple>()?;
    if tuple.get_item(1)?.extract::<u8>()? == FAULT {
        return Ok(None);
    }
    let frame = frame(tuple, state, tag)?;
    let charge = room.charge_anyway(frame.wire.len());
    Ok(Some(Said::Frame(frame, charge)))
}

/// Questions as `Taken` tuples, and as `Run` tuples.
type Both<'py> = (Bound<'py, PyList>, Bound<'py, PyList>);

/// As of when frames are given: the moment on the clock by which they expire, the generation of the routes, and the
/// sequence of their changes.
pub type State = (f64, u64, u64);

/// Replies that were read, and the first mistake in them.
#[derive(Default)]
pub struct Read {
    pub replies: Vec<Reply>,
    pub mistake: Option<PyErr>,
}

impl Read {
    fn note(&mut self, token: Token, said: PyResult<Said>) {
        let said = said.unwrap_or_else(|error| {
            self.mistake.get_or_insert(error);
            Said::Whole(no_answer())
        });
        self.replies.push(Reply { token, said });
    }
}

fn single(question: &Question) -> Option<(&[u8], &[u8])> {
    match &question.body {
        Body::One(identifier, options) => Some((identifier, options)),
        Body::Whole(_) | Body::Identifiers(..) => None,
    }
}

/// Is a question for one identifier asked by the same connection, and in the same way, as the one before it?
fn goes_with(before: &Question, question: &Question) -> bool {
    let way = |each| single(each).map(|(_, options)| options);
    before.method == question.method && Arc::ptr_eq(&before.peer, &question.peer) && way(before) == way(question)
}

fn left(question: &Question, now: Instant) -> u64 {
    u64::try_from(question.due.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
}

fn who<'py, 'a>(py: Python<'py>, question: &'a Question) -> (&'a str, Option<Bound<'py, PyBytes>>) {
    let identity = question.peer.identity.as_deref().map(|identity| PyBytes::new(py, identity));
    (&question.peer.address, identity)
}

fn said(tuple: &Bound<'_, PyTuple>, state: State, room: &Budget, answer_octets: usize) -> PyResult<Said> {
    let code: u16 = tuple.get_item(1)?.extract()?;
    let payload = tuple.get_item(2)?;
    if code == 0
        && let Ok(frames) = payload.cast::<PyList>()
    {
        let mut tag = Arc::default();
        let each = |pair: Bound<'_, PyAny>| {
            let pair = pair.cast::<PyTuple>()?;
            Ok((pair.get_item(0)?.extract()?, frame(pair.get_item(1)?.cast::<PyTuple>()?, state, &mut tag)?))
        };
        let mut octets = 0;
        for pair in frames.iter() {
            octets += pair.cast::<PyTuple>()?.get_item(1)?.cast::<PyTuple>()?.get_item(0)?.len()?;
        }
        let charge = if frames.len() == 1 || octets <= AT_ONCE {
            room.charge_anyway(octets)
        } else {
            match room.charge(octets).filter(|_| octets <= answer_octets) {
                Some(charge) => charge,
                None => return Ok(Said::TooMuch(octets)),
            }
        };
        return Ok(Said::Frames(frames.iter().map(each).collect::<PyResult<_>>()?, charge));
    }
    let given: Vec<(PyBackedStr, PyBackedBytes)> = tuple.get_item(4)?.extract()?;
    let trailers: Vec<(&str, &[u8])> = given.iter().map(|(key, value)| (&**key, &**value)).collect();
    Ok(Said::Whole(if code == 0 {
        Answer::Message(Message::framed(payload.cast::<PyBytes>()?.as_bytes(), &trailers))
    } else {
        Answer::Status(Status::new(code, &tuple.get_item(3)?.extract::<PyBackedStr>()?, &trailers))
    }))
}

/// Reads one; `tag` is that of the one before, which nearly always is the same.
fn frame(tuple: &Bound<'_, PyTuple>, (now, current, sequence): State, tag: &mut Arc<[u8]>) -> PyResult<Frame> {
    let octets = tuple.get_item(0)?;
    let body = request::body_of_frame(octets.cast::<PyBytes>()?.as_bytes())
        .ok_or_else(|| PyValueError::new_err("A frame is the tag 0x0A, a length, and so many bytes."))?;
    let (expires, generation): (f64, u64) = (tuple.get_item(2)?.extract()?, tuple.get_item(3)?.extract()?);
    let counted = tuple.get_item(5)?;
    let counted = counted.cast::<PyBytes>()?.as_bytes();
    if **tag != *counted {
        *tag = counted.into();
    }
    // What is of another generation may have changed since it was read.
    let left = if generation == current { expires - now } else { 0.0 };
    Ok(Frame {
        wire: framed(&[body]),
        outcome: tuple.get_item(1)?.extract()?,
        keep: Duration::try_from_secs_f64(left).unwrap_or_default(),
        as_of: tuple.get_item(4)?.extract()?,
        tag: Arc::clone(tag),
        key: tuple.get_item(6)?.cast::<PyBytes>()?.as_bytes().into(),
        is_own: tuple.get_item(7)?.extract()?,
        sequence,
    })
}

/// Gives the numbers as a dict of dicts.
pub fn stats<'py>(py: Python<'py>, snapshot: &Snapshot, settings: &Settings) -> PyResult<Bound<'py, PyDict>> {
    let (calls, cancelled, latency) = (PyDict::new(py), PyDict::new(py), PyDict::new(py));
    for (method, numbers) in settings.methods.iter().zip(&snapshot.stats.methods) {
        for (code, count) in numbers.by_code.iter().enumerate().filter(|(_, count)| **count > 0) {
            calls.set_item((&method.path, code), *count)?;
        }
        if numbers.cancelled > 0 {
            cancelled.set_item(&method.path, numbers.cancelled)?;
        }
        for (tier, latencies) in Tier::ALL.iter().zip(&numbers.latency) {
            if !latencies.took.is_zero() {
                let told = (&latencies.buckets, latencies.took.as_secs_f64());
                latency.set_item((&method.path, tier.name()), told)?;
            }
        }
    }
    let refused = PyDict::new(py);
    for (refusal, count) in Refusal::ALL.iter().zip(snapshot.stats.refused) {
        refused.set_item(refusal.name(), count)?;
    }
    let cache = PyDict::new(py);
    cache.set_item("hits", snapshot.cache.hits)?;
    cache.set_item("misses", snapshot.cache.misses)?;
    cache.set_item("stale", snapshot.cache.stale)?;
    cache.set_item("refused", snapshot.cache.refused)?;
    cache.set_item("evicted", snapshot.cache_evicted)?;
    cache.set_item("bytes", snapshot.cache_octets)?;
    cache.set_item("entries", snapshot.cache_entries)?;
    let all = PyDict::new(py);
    all.set_item("calls", calls)?;
    all.set_item("cancelled", cancelled)?;
    all.set_item("latency", latency)?;
    all.set_item("refused", refused)?;
    all.set_item("cache", cache)?;
    all.set_item("identifiers", snapshot.stats.identifiers.to_vec())?;
    all.set_item("connections", snapshot.connections)?;
    all.set_item("accepted", snapshot.stats.accepted)?;
    all.set_item("turned_away", snapshot.stats.turned_away)?;
    all.set_item("handshakes_failed", snapshot.stats.handshakes_failed)?;
    all.set_item("calmed", snapshot.stats.calmed)?;
    all.set_item("stalled", snapshot.stats.stalled)?;
    all.set_item("parked", snapshot.stats.parked)?;
    all.set_item("waiting", snapshot.calls)?;
    all.set_item("buffered_bytes", snapshot.buffered_octets)?;
    all.set_item("unread_bytes", snapshot.unread_octets)?;
    all.set_item("flights", snapshot.flights)?;
    all.set_item("joined", snapshot.stats.joined)?;
    all.set_item("panics", snapshot.stats.panics)?;
    Ok(all)
}

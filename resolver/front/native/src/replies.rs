//! What crosses to Python and back, as Python's own objects.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::answers::{Answer, Message, Status, framed};
use crate::cache::Frame;
use crate::connection::AT_ONCE;
use crate::crossing::{Body, Question, Reply, Said, Token};
use crate::engine::no_answer;
use crate::framing::Budget;
use crate::request;
use crate::settings::{Refusal, Settings};
use crate::stats::{Snapshot, Tier};

/// Gives questions as `Taken` tuples.
pub fn taken<'py>(py: Python<'py>, questions: Vec<Question>, now: Instant) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for question in questions {
        let left = question.due.saturating_duration_since(now).as_millis();
        let metadata = PyList::empty(py);
        for (key, value) in question.metadata {
            metadata.append((key, PyBytes::new(py, &value)))?;
        }
        let (body, options) = match question.body {
            Body::Whole(octets) => (PyBytes::new(py, &octets).into_any(), PyBytes::new(py, b"")),
            Body::Identifiers(identifiers, options) => {
                let each = identifiers.iter().map(|(position, octets)| (*position, PyBytes::new(py, octets)));
                (PyList::new(py, each)?.into_any(), PyBytes::new(py, &options))
            }
        };
        let identity = question.peer.identity.as_deref().map(|identity| PyBytes::new(py, identity));
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        let peer = &question.peer.address;
        list.append((question.token, question.method, body, left, peer, identity, metadata, options))?;
    }
    Ok(list)
}

/// Reads `Reply` tuples. One that is not of their shape is a mistake: its call is told so, and the first such error is
/// given beside. Batches for which there is no room are not copied.
pub fn replies(given: &Bound<'_, PyAny>, room: &Budget, answer_octets: usize) -> PyResult<(Vec<Reply>, Option<PyErr>)> {
    let mut replies = Vec::with_capacity(given.len().unwrap_or(0));
    let mut mistake = None;
    for each in given.try_iter()? {
        let each = each?;
        let tuple = each.cast::<PyTuple>()?;
        let token: Token = tuple.get_item(0)?.extract()?;
        let said = said(tuple, room, answer_octets).unwrap_or_else(|error| {
            mistake.get_or_insert(error);
            Said::Whole(no_answer())
        });
        replies.push(Reply { token, said });
    }
    Ok((replies, mistake))
}

fn said(tuple: &Bound<'_, PyTuple>, room: &Budget, answer_octets: usize) -> PyResult<Said> {
    let code: u16 = tuple.get_item(1)?.extract()?;
    let payload = tuple.get_item(2)?;
    if code == 0
        && let Ok(frames) = payload.cast::<PyList>()
    {
        let each = |pair: Bound<'_, PyAny>| {
            let pair = pair.cast::<PyTuple>()?;
            Ok((pair.get_item(0)?.extract()?, frame(pair.get_item(1)?.cast::<PyTuple>()?)?))
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

fn frame(tuple: &Bound<'_, PyTuple>) -> PyResult<Frame> {
    let octets = tuple.get_item(0)?;
    let body = request::body_of_frame(octets.cast::<PyBytes>()?.as_bytes())
        .ok_or_else(|| PyValueError::new_err("A frame is the tag 0x0A, a length, and so many bytes."))?;
    Ok(Frame {
        wire: framed(&[body]),
        keep: Duration::from_millis(tuple.get_item(1)?.extract()?),
        key: tuple.get_item(2)?.cast::<PyBytes>()?.as_bytes().into(),
        outcome: tuple.get_item(3)?.extract()?,
        as_of: tuple.get_item(4)?.extract()?,
        sequence: tuple.get_item(5)?.extract()?,
        tag: tuple.get_item(6)?.cast::<PyBytes>()?.as_bytes().into(),
        is_own: tuple.get_item(7)?.extract()?,
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

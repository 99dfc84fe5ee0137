//! The front as Python sees it.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use rustls::ServerConfig;

use crate::crossing::{Command, Crossing};
use crate::framing::Budget;
use crate::listener::Listening;
use crate::replies::{Read, State as Moment};
use crate::settings::{GivenRefusal, HEALTH_BYTES, HEALTH_PATH, Kind, Method, Refusal, Refusals, Settings, status};
use crate::{replies, thread, tls};

/// The front's thread answers at once; one that does not has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// The variable by which tests plant a panic: it names a path whose calls panic, or says `accept`. It is no setting.
const PANIC_VARIABLE: &str = "PLANTED_PANIC";

/// A path as Python gives it: its kind, and of its requests the most bytes and what is said of one that has more.
type GivenPath = (String, String, usize, Option<GivenRefusal>);

type GivenTls = (PyBackedBytes, PyBackedBytes, Option<PyBackedBytes>);

struct State {
    ready: Option<(Listening, Option<Arc<ServerConfig>>)>,
    thread: Option<JoinHandle<()>>,
}

/// A gRPC front. What its arguments mean stands in `topnode_front.pyi`.
#[pyclass(frozen, module = "topnode_front")]
pub struct Front {
    settings: Arc<Settings>,
    crossing: Arc<Crossing>,
    state: Mutex<State>,
    #[pyo3(get)]
    port: u16,
}

#[pymethods]
impl Front {
    #[new]
    #[pyo3(signature = (
        *, address, paths, python_keys, refer, batch_identifiers, answer_bytes, refusals, streams, connections,
        connections_per_peer, flights, buffered_bytes, body_timeout_ms, deadline_ms, connection_age_ms,
        connection_grace_ms, keepalive_ms, keepalive_timeout_ms, ping_interval_ms, cache_bytes, absent_bytes,
        entry_bytes, spellings, latency_bounds_ms, tls=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "everything that a front allows, by name")]
    fn new(
        address: &str,
        paths: Vec<GivenPath>,
        python_keys: Vec<String>,
        refer: &str,
        batch_identifiers: usize,
        answer_bytes: usize,
        refusals: HashMap<String, GivenRefusal>,
        streams: u32,
        connections: usize,
        connections_per_peer: usize,
        flights: usize,
        buffered_bytes: usize,
        body_timeout_ms: u64,
        deadline_ms: u64,
        connection_age_ms: u64,
        connection_grace_ms: u64,
        keepalive_ms: u64,
        keepalive_timeout_ms: u64,
        ping_interval_ms: u64,
        cache_bytes: usize,
        absent_bytes: usize,
        entry_bytes: usize,
        spellings: usize,
        latency_bounds_ms: Vec<f64>,
        tls: Option<GivenTls>,
    ) -> PyResult<Self> {
        if let Some(name) = refusals.keys().find(|name| !Refusal::ALL.iter().any(|known| known.name() == **name)) {
            return Err(PyValueError::new_err(format!("There is no refusal {name}.")));
        }
        let settings = Settings {
            methods: methods(paths)?,
            python_keys: python_keys
                .iter()
                .map(|key| key.parse().map_err(|_| PyValueError::new_err(format!("{key} is not a metadata key."))))
                .collect::<PyResult<_>>()?,
            refusals: Refusals::new(&refusals, refer),
            batch_identifiers,
            answer_bytes,
            streams,
            connections,
            connections_per_peer,
            flights,
            buffered_bytes,
            body_timeout: Duration::from_millis(body_timeout_ms),
            deadline: Duration::from_millis(deadline_ms),
            connection_age: Duration::from_millis(connection_age_ms),
            connection_grace: Duration::from_millis(connection_grace_ms),
            keepalive: Duration::from_millis(keepalive_ms),
            keepalive_timeout: Duration::from_millis(keepalive_timeout_ms),
            ping_interval: Duration::from_millis(ping_interval_ms),
            cache_bytes,
            absent_bytes,
            entry_bytes,
            spellings,
            latency_bounds: latency_bounds_ms
                .iter()
                .map(|bound| Duration::try_from_secs_f64(bound / 1_000.0))
                .collect::<Result<_, _>>()
                .map_err(|error| PyValueError::new_err(error.to_string()))?,
            planted_panic: std::env::var(PANIC_VARIABLE).ok(),
        };
        let tls = tls.map(|(chain, key, client_ca)| configuration(&chain, &key, client_ca.as_deref())).transpose()?;
        let listening = Listening::bind(address)?;
        Ok(Self {
            port: listening.port(),
            crossing: Arc::new(Crossing::new(Budget::new(settings.buffered_bytes))?),
            settings: Arc::new(settings),
            state: Mutex::new(State { ready: Some((listening, tls)), thread: None }),
        })
    }

    fn start(&self) -> PyResult<()> {
        let mut state = self.state();
        let Some((listening, tls)) = state.ready.take() else {
            return Err(PyRuntimeError::new_err("A front is started once."));
        };
        let (settings, crossing) = (Arc::clone(&self.settings), Arc::clone(&self.crossing));
        state.thread = Some(thread::start(settings, crossing, listening, tls)?);
        Ok(())
    }

    fn fileno(&self) -> RawFd {
        self.crossing.fileno()
    }

    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let now = Instant::now();
        replies::taken(py, self.crossing.take(limit, now), now, self.settings.batch_identifiers)
    }

    #[pyo3(name = "answer")]
    fn take_answers(&self, replies: &Bound<'_, PyAny>, state: Moment) -> PyResult<()> {
        self.tell(replies::replies(replies, state, &self.crossing.answers, self.settings.answer_bytes)?)
    }

    #[pyo3(name = "answer_run")]
    fn take_run(&self, tokens: &[u8], frames: &Bound<'_, PyList>, state: Moment) -> PyResult<Vec<usize>> {
        let (read, errors) = replies::run(tokens, frames, state, &self.crossing.answers)?;
        self.tell(read)?;
        Ok(errors)
    }

    #[pyo3(name = "drop")]
    fn drop_keys(&self, keys: Vec<PyBackedBytes>, index: u64) {
        self.crossing.tell(Command::Drop(owned(&keys), index));
    }

    fn changed(&self, prefixes: Vec<PyBackedBytes>, sequence: u64) {
        self.crossing.tell(Command::Changed(owned(&prefixes), sequence));
    }

    fn clear(&self, index: u64) {
        self.crossing.tell(Command::Clear(index));
    }

    fn current_for(&self, milliseconds: u64) {
        // Counted from now, however long it takes until it is heard.
        let until = Instant::now() + Duration::from_millis(milliseconds.min(u64::from(u32::MAX)));
        self.crossing.tell(Command::CurrentUntil(until));
    }

    fn set_health(&self, services: HashMap<String, bool>) {
        self.crossing.tell(Command::SetHealth(services));
    }

    #[pyo3(signature = (certificate, key, client_ca=None))]
    fn replace_tls(&self, certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<()> {
        self.crossing.tell(Command::ReplaceTls(configuration(certificate, key, client_ca)?));
        Ok(())
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let counted = self.ask(py, Command::TakeCounts)?;
        let each = counted.iter().map(|(tag, direct, recursive)| (PyBytes::new(py, tag), *direct, *recursive));
        PyList::new(py, each)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.ask(py, Command::TakeStats)?;
        replies::stats(py, &snapshot, &self.settings)
    }

    fn drain(&self, py: Python<'_>, grace_ms: u64) -> PyResult<()> {
        if self.state().thread.is_none() {
            return Ok(());
        }
        let grace = Duration::from_millis(grace_ms);
        let (sender, receiver) = channel();
        self.crossing.tell(Command::Drain(grace, sender));
        wait(py, receiver, grace + PATIENCE)
    }

    fn close(&self, py: Python<'_>) {
        let thread = {
            let mut state = self.state();
            state.ready = None;
            state.thread.take()
        };
        let Some(thread) = thread else { return };
        self.crossing.tell(Command::Close);
        // It does not panic: the process would have ended.
        let _ = py.detach(|| thread.join());
    }
}

impl Front {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, read: Read) -> PyResult<()> {
        if !read.replies.is_empty() {
            self.crossing.tell(Command::Answer(read.replies));
        }
        read.mistake.map_or(Ok(()), Err)
    }

    fn ask<T: Send>(&self, py: Python<'_>, command: impl FnOnce(Sender<T>) -> Command) -> PyResult<T> {
        if self.state().thread.is_none() {
            return Err(PyRuntimeError::new_err("The front is not running."));
        }
        let (sender, receiver) = channel();
        self.crossing.tell(command(sender));
        wait(py, receiver, PATIENCE)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Its thread never waits for Python, and is not waited for here.
        self.crossing.tell(Command::Close);
    }
}

fn wait<T: Send>(py: Python<'_>, receiver: Receiver<T>, patience: Duration) -> PyResult<T> {
    py.detach(move || receiver.recv_timeout(patience))
        .map_err(|_| PyRuntimeError::new_err("The front does not answer."))
}

fn methods(paths: Vec<GivenPath>) -> PyResult<Vec<Method>> {
    let mut methods = Vec::with_capacity(paths.len() + 1);
    for (path, word, most, too_large) in paths {
        let kind = Kind::read(&word)
            .ok_or_else(|| PyValueError::new_err(format!("{word} is not a kind: one, batch, other or refer.")))?;
        methods.push(Method { path, kind, most, too_large: too_large.as_ref().map(status) });
    }
    methods.push(Method { path: HEALTH_PATH.to_owned(), kind: Kind::Health, most: HEALTH_BYTES, too_large: None });
    Ok(methods)
}

fn configuration(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<Arc<ServerConfig>> {
    tls::configuration(chain, key, client_ca).map_err(PyValueError::new_err)
}

fn owned(octets: &[PyBackedBytes]) -> Vec<Vec<u8>> {
    octets.iter().map(|each| each.to_vec()).collect()
}

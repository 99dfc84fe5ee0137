//! The client as Python sees it.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::ended::Ended;
use super::session::{Session, Token};
use crate::answers::framed;

/// A gRPC client's end of an HTTP/2 connection. What its arguments mean stands in `topnode_front.pyi`.
#[pyclass(unsendable, module = "topnode_front")]
pub struct Client {
    session: Session,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (authority, *, is_tls, message_bytes))]
    fn new(authority: &str, is_tls: bool, message_bytes: usize) -> PyResult<Self> {
        let authority = Authority::try_from(authority).map_err(mistake)?;
        Ok(Self { session: Session::new(authority, is_tls, message_bytes).map_err(mistake)? })
    }

    fn call(&mut self, path: &str, message: &[u8], within: f64) -> PyResult<Token> {
        let within = Duration::try_from_secs_f64(within).map_err(mistake)?;
        let path = PathAndQuery::try_from(path).map_err(mistake)?;
        Ok(self.session.call(path, framed(&[message]), within))
    }

    fn cancel(&mut self, token: Token) {
        self.session.cancel(token);
    }

    fn ping(&mut self) {
        self.session.ping();
    }

    fn receive(&mut self, octets: &[u8]) {
        self.session.receive(octets);
    }

    fn end(&mut self) {
        self.session.end();
    }

    fn go_on<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyList>)> {
        let (unsent, ended) = self.session.go_on();
        let list = PyList::empty(py);
        for (token, Ended { code, text, message, trailers, is_unseen }) in ended {
            let beside = PyList::empty(py);
            for (key, value) in trailers {
                beside.append((key, PyBytes::new(py, &value)))?;
            }
            list.append((token, code, PyBytes::new(py, &message), text, beside, is_unseen))?;
        }
        Ok((PyBytes::new(py, &unsent), list))
    }

    #[getter]
    fn is_over(&self) -> bool {
        self.session.is_over()
    }
}

fn mistake(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

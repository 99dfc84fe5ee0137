//! Usual answers as Python sees them. What the arguments mean stands in `topnode_front.pyi`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList};

use super::{Terms, Wanted, answers, usual};

#[pyfunction]
pub fn batch_answers<'py>(py: Python<'py>, octets: &[u8]) -> PyResult<Option<Bound<'py, PyList>>> {
    answers(octets).map(|each| PyList::new(py, each.into_iter().map(|answer| PyBytes::new(py, answer)))).transpose()
}

#[pyfunction]
pub fn usual_answers<'py>(
    py: Python<'py>,
    results: &Bound<'py, PyAny>,
    wanted: &Bound<'py, PyAny>,
    terms: (PyBackedStr, u64, f64, f64, u64),
) -> PyResult<Bound<'py, PyList>> {
    let (child, protocol, now, positive_for, trust) = &terms;
    let terms = Terms { child, protocol: *protocol, now: *now, positive_for: *positive_for, trust: *trust };
    let list = PyList::empty(py);
    for (result, wanted) in results.try_iter()?.zip(wanted.try_iter()?) {
        let (result, wanted) = (result?, wanted?);
        let Ok(answer) = result.cast::<PyBytes>() else {
            list.append(py.None())?;
            continue;
        };
        let key: PyBackedBytes = wanted.getattr(intern!(py, "key"))?.extract()?;
        let below: PyBackedBytes = wanted.getattr(intern!(py, "below"))?.extract()?;
        let is_case_sensitive = wanted.getattr(intern!(py, "case_sensitive"))?.extract()?;
        let wanted = Wanted { key: &key, below: &below, is_case_sensitive };
        let said = usual(answer.as_bytes(), wanted, terms);
        list.append(said.map(|said| (PyBytes::new(py, &said.frame), said.keep_for)))?;
    }
    Ok(list)
}

//! Asks with a different message each time: `ask ADDRESS PATH CONNECTIONS STREAMS FILE`.
//!
//! The file holds the messages, framed. Each is sent once, in their order, with so many calls under way on each
//! connection. A line of JSON says what came of it.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use topnode_loadtest::{Outcome, framed, one_thread};

/// What is asked by all callers together, and what came of it.
struct Plan {
    uri: Uri,
    headers: HeaderMap,
    messages: Vec<Bytes>,
    next: Cell<usize>,
    failed: Cell<usize>,
    octets: Cell<usize>,
    took: RefCell<Vec<u32>>,
}

impl Plan {
    fn new(address: &str, path: &str, messages: Vec<Bytes>) -> Outcome<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        Ok(Self {
            uri: format!("http://{address}{path}").parse()?,
            headers,
            next: Cell::new(0),
            failed: Cell::new(0),
            octets: Cell::new(0),
            took: RefCell::new(Vec::with_capacity(messages.len())),
            messages,
        })
    }

    fn next(&self) -> Option<Bytes> {
        let at = self.next.replace(self.next.get() + 1);
        self.messages.get(at).cloned()
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Notes an answer of so many bytes.
    fn note(&self, began: Instant, octets: usize, is_well: bool) {
        self.took.borrow_mut().push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        self.octets.set(self.octets.get() + octets);
        self.failed.set(self.failed.get() + usize::from(!is_well));
    }

    /// Gives within how many microseconds this share of the calls was answered.
    fn quantile(&self, share: f64) -> u32 {
        let mut took = self.took.borrow_mut();
        took.sort_unstable();
        took.get((took.len() as f64 * share) as usize).copied().unwrap_or(0)
    }
}

/// Has one call under way as long as there is something to be asked.
async fn call(mut sender: SendRequest<Bytes>, plan: Rc<Plan>) -> Result<(), h2::Error> {
    while let Some(message) = plan.next() {
        sender = sender.ready().await?;
        let began = Instant::now();
        let (answer, mut stream) = sender.send_request(plan.request(), false)?;
        stream.send_data(message, true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut octets = 0;
        while let Some(part) = body.data().await {
            octets += part?.len();
        }
        body.flow_control().release_capacity(octets)?;
        let trailers = body.trailers().await?;
        let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
        plan.note(began, octets, status.is_some_and(|status| status == "0"));
    }
    Ok(())
}

async fn ask(address: &str, connections: usize, streams: usize, plan: &Rc<Plan>) -> Outcome<()> {
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(stream).await?;
        // How it ends, its callers are told.
        tokio::task::spawn_local(async { drop(connection.await) });
        for _ in 0..streams {
            callers.spawn_local(call(sender.clone(), Rc::clone(plan)));
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, connections, streams, file] = &arguments[..] else {
        return Err("ask ADDRESS PATH CONNECTIONS STREAMS FILE".into());
    };
    let plan = Rc::new(Plan::new(address, path, framed(Path::new(file))?)?);
    let (connections, streams) = (connections.parse()?, streams.parse()?);
    let began = Instant::now();
    LocalSet::new().block_on(&one_thread()?, ask(address, connections, streams, &plan))?;
    let seconds = began.elapsed().as_secs_f64();
    let (calls, failed, octets) = (plan.took.borrow().len(), plan.failed.get(), plan.octets.get());
    let (p50, p99) = (plan.quantile(0.5), plan.quantile(0.99));
    println!(
        r#"{{"calls": {calls}, "failed": {failed}, "octets": {octets}, "seconds": {seconds}, "p50_us": {p50}, "p99_us": {p99}}}"#
    );
    Ok(())
}

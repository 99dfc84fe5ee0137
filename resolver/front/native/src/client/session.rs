//! One connection's calls, from the preface to the end. Nothing here waits: what cannot go on does so when bytes come.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_executor::{LocalPool, LocalSpawner};
use futures_util::future::{AbortHandle, abortable};
use futures_util::task::LocalSpawnExt;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};

use super::ended::{Ended, of_error, read};
use super::wire::Wire;
use crate::metadata;

/// A call as Python knows it.
pub type Token = u64;

/// What a server may send of one response, and of all of them, before anything of it is read.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Header lists of responses, in bytes: a trace, or a signature, is in one.
const HEADERS: u32 = 16 * 1024;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A client's end of a connection.
pub struct Session {
    pool: LocalPool,
    spawner: LocalSpawner,
    wire: Wire,
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    authority: Authority,
    message_bytes: usize,
    calls: HashMap<Token, AbortHandle>,
    last: Token,
    ended: Rc<RefCell<Vec<(Token, Ended)>>>,
    /// Nothing while a ping is out.
    ping: Rc<RefCell<Option<PingPong>>>,
    is_over: Rc<RefCell<bool>>,
}

impl Session {
    /// Begins: the preface is to be sent. A response that is longer than a message may be ends its call.
    pub fn new(authority: Authority, is_tls: bool, message_bytes: usize) -> Result<Self, h2::Error> {
        let (wire, mut pool) = (Wire::default(), LocalPool::new());
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS);
        let (sender, mut connection) = pool.run_until(builder.handshake(wire.clone()))?;
        let ping = Rc::new(RefCell::new(connection.ping_pong()));
        let is_over = Rc::new(RefCell::new(false));
        let spawner = pool.spawner();
        let session = Self {
            pool,
            spawner,
            wire,
            sender,
            scheme: if is_tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            message_bytes,
            calls: HashMap::new(),
            last: 0,
            ended: Rc::default(),
            ping,
            is_over: Rc::clone(&is_over),
        };
        session.spawn(async move {
            // What ended it ends each of its calls too.
            let _ = connection.await;
            *is_over.borrow_mut() = true;
        });
        Ok(session)
    }

    /// Begins a call with a message that is framed already.
    pub fn call(&mut self, path: PathAndQuery, message: Bytes, within: Duration) -> Token {
        self.last += 1;
        let (token, ended, limit) = (self.last, Rc::clone(&self.ended), self.message_bytes);
        let (request, sender) = (self.request(path, within), self.sender.clone());
        let (call, handle) = abortable(async move {
            let end = exchange(sender, request, message, limit).await;
            ended.borrow_mut().push((token, end.unwrap_or_else(|error| of_error(&error))));
        });
        self.calls.insert(token, handle);
        self.spawn(async {
            // Whoever cancels waits for nothing.
            let _ = call.await;
        });
        token
    }

    /// Ends a call of which nobody wants to hear any more.
    pub fn cancel(&mut self, token: Token) {
        if let Some(call) = self.calls.remove(&token) {
            call.abort();
        }
    }

    /// Asks the server for a sign of life.
    pub fn ping(&mut self) {
        let taken = self.ping.borrow_mut().take();
        if let Some(mut ping) = taken {
            let slot = Rc::clone(&self.ping);
            self.spawn(async move {
                if ping.ping(Ping::opaque()).await.is_ok() {
                    *slot.borrow_mut() = Some(ping);
                }
            });
        }
    }

    /// Takes what came.
    pub fn receive(&mut self, octets: &[u8]) {
        self.wire.put(octets);
    }

    /// Nothing comes any more.
    pub fn end(&mut self) {
        self.wire.end();
    }

    /// Goes on as far as it can. Gives what is to be sent, and the calls that have ended.
    pub fn go_on(&mut self) -> (Bytes, Vec<(Token, Ended)>) {
        self.pool.run_until_stalled();
        let ended = self.ended.take();
        for (token, _) in &ended {
            self.calls.remove(token);
        }
        (self.wire.take(), ended)
    }

    pub fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    fn request(&self, path: PathAndQuery, within: Duration) -> Request<()> {
        let mut uri = Uri::default().into_parts();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path);
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("topnode-front/", env!("CARGO_PKG_VERSION"))));
        headers.insert(GRPC_TIMEOUT.clone(), metadata::written_timeout(within));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).expect("a scheme, an authority and a path are an address");
        *request.headers_mut() = headers;
        request
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawner.spawn_local(task).expect("the pool is there as long as this is");
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
    limit: usize,
) -> Result<Ended, h2::Error> {
    // A connection that takes no further calls is left before anything of this one went.
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(error) => return Ok(of_error(&error).unseen()),
    };
    let (response, mut stream) = sender.send_request(request, false)?;
    // It is kept until it goes: a message is there whole anyway.
    stream.send_data(message, true)?;
    read(response.await?, limit).await
}

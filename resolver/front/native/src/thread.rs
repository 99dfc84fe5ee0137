//! The one thread of a front: it owns everything that answers calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::crossing::Crossing;
use crate::engine::{Drain, Ending, Engine};
use crate::listener::{Listening, listen};
use crate::settings::Settings;
use crate::turns;

/// What connections may take to notice that they are closed.
const CLOSING: Duration = Duration::from_secs(1);

/// Starts the thread. A panic anywhere but in a connection leaves nothing that could be trusted: the process ends.
pub fn start(
    settings: Arc<Settings>,
    crossing: Arc<Crossing>,
    listening: Listening,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<JoinHandle<()>> {
    let (built, is_built) = channel();
    let thread = std::thread::Builder::new().name("topnode-front".to_owned()).spawn(move || {
        // Here, as it never leaves its thread.
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime,
            Err(error) => return drop(built.send(error)),
        };
        drop(built);
        let run = move || {
            let engine = Engine::new(settings, crossing, tls, Instant::now());
            runtime.block_on(run(Rc::new(RefCell::new(engine)), listening));
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            std::process::abort();
        }
    })?;
    is_built.recv().map_or(Ok(thread), Err)
}

async fn run(engine: Rc<RefCell<Engine>>, listening: Listening) {
    let crossing = Arc::clone(&engine.borrow().crossing);
    engine.borrow_mut().catch_up();
    spawn_local(vital(turns::call(Rc::clone(&engine))));
    let listening = listen(listening, Rc::clone(&engine));
    let listener = spawn_local(vital(async { listening.await.expect("a socket that listens can be waited for") }));
    let listener = listener.abort_handle();
    loop {
        engine.borrow_mut().catch_up();
        let drains = std::mem::take(&mut engine.borrow_mut().drains);
        for each in drains {
            spawn_local(vital(drain(Rc::clone(&engine), each, listener.clone())));
        }
        if engine.borrow().is_over {
            listener.abort();
            emptied(&engine, CLOSING).await;
            return;
        }
        crossing.bell.notified().await;
    }
}

/// Lets what is in flight finish within the grace, then ends what is left.
async fn drain(engine: Rc<RefCell<Engine>>, drain: Drain, listener: AbortHandle) {
    listener.abort();
    emptied(&engine, drain.grace).await;
    {
        let mut engine = engine.borrow_mut();
        engine.ending = Ending::Closed;
        engine.wake_all();
    }
    emptied(&engine, CLOSING).await;
    // Whoever waits may have given up.
    let _ = drain.done.send(());
}

/// Work without which the front is deaf: where it panics the process ends. By itself tokio would go on without it.
async fn vital<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(_) => std::process::abort(),
    })
    .await
}

async fn emptied(engine: &Rc<RefCell<Engine>>, within: Duration) {
    let bell = Arc::clone(&engine.borrow().emptied);
    let wait = async {
        while engine.borrow().connections > 0 {
            bell.notified().await;
        }
    };
    let _ = timeout(within, wait).await;
}

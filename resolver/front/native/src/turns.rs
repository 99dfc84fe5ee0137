//! Who comes last: connections that have had their share of work for now, and those that nothing was answered to yet.
//!
//! All others are served as they become ready. Between them those who come last get one turn after the other, for a
//! bounded time and then as long as the others took: nobody waits for more than that, and nobody starves. So what a
//! flood costs others is a slice and a turn, however many connections it comes over. Python, where it shares the core,
//! is one of the others.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::engine::Engine;

/// Those who come last have this time, then others are looked for.
const SLICE: Duration = Duration::from_micros(50);

/// Those who wait for their turn, the first first. Some may have gone.
#[derive(Default)]
pub struct Turns {
    waiting: VecDeque<Waker>,
    lined_up: u64,
    called: u64,
    /// Rings when somebody lines up.
    bell: Arc<Notify>,
}

impl Turns {
    fn line_up(&mut self, waker: &Waker) -> u64 {
        self.waiting.push_back(waker.clone());
        self.bell.notify_one();
        self.lined_up += 1;
        self.lined_up
    }

    /// Calls the next one; tells whether there was one.
    pub fn call(&mut self) -> bool {
        let Some(waker) = self.waiting.pop_front() else { return false };
        self.called += 1;
        waker.wake();
        true
    }
}

/// The place in that line of one who may have to wait.
#[derive(Default)]
pub struct Turn(Option<u64>);

impl Turn {
    pub fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// Lines up. Ready: it was called. It stands in line once, however often it is woken meanwhile.
    pub fn poll(&mut self, cx: &mut Context<'_>, turns: &mut Turns) -> Poll<()> {
        let number = *self.0.get_or_insert_with(|| turns.line_up(cx.waker()));
        if turns.called < number {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// Waits until those have had their turn who are before us.
pub async fn turn(engine: &Rc<RefCell<Engine>>) {
    let mut turn = Turn::default();
    poll_fn(|cx| turn.poll(cx, &mut engine.borrow_mut().turns)).await;
}

/// Work each step of which comes last.
pub struct Last<F> {
    work: Pin<Box<F>>,
    turn: Turn,
    engine: Rc<RefCell<Engine>>,
}

impl<F: Future> Last<F> {
    pub fn new(work: F, engine: Rc<RefCell<Engine>>) -> Self {
        Self { work: Box::pin(work), turn: Turn::default(), engine }
    }
}

impl<F: Future> Future for Last<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        std::task::ready!(this.turn.poll(cx, &mut this.engine.borrow_mut().turns));
        this.work.as_mut().poll(cx)
    }
}

/// Calls those who come last, for ever.
pub async fn call(engine: Rc<RefCell<Engine>>) {
    let bell = Arc::clone(&engine.borrow().turns.bell);
    loop {
        bell.notified().await;
        let mut slice = SLICE;
        loop {
            let began = Instant::now();
            while began.elapsed() < slice && engine.borrow_mut().turns.call() {
                behind().await;
            }
            if engine.borrow().turns.waiting.is_empty() {
                break;
            }
            let left = Instant::now();
            if engine.borrow().flights.len() > 0 {
                // Python may wait for this core with answers for others, and the system lets a thread run for long.
                std::thread::yield_now();
            }
            // Sockets are looked at, and whoever is ready is served before us.
            yield_now().await;
            slice = SLICE.max(left.elapsed());
        }
    }
}

/// Lets those run who were woken before.
async fn behind() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

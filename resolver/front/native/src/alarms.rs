//! The times at which the calls of one connection are looked at again, and one timer for all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use crate::flights::CallId;

/// Alarms that nobody needs any more are thrown out when there are so many more than calls.
const SLACK: usize = 64;

/// Alarms in the order of their times. Those of calls that have ended stay until their time or until they are many.
pub struct Alarms {
    heap: BinaryHeap<Reverse<(Instant, CallId)>>,
    sleep: Pin<Box<Sleep>>,
    set_to: Instant,
}

impl Alarms {
    pub fn new(first: Instant) -> Self {
        Self { heap: BinaryHeap::new(), sleep: Box::pin(sleep_until(first.into())), set_to: first }
    }

    /// Sets an alarm for a call.
    pub fn set(&mut self, at: Instant, call: CallId) {
        self.heap.push(Reverse((at, call)));
        self.wake_by(at);
    }

    /// Has the timer ring no later than this.
    pub fn wake_by(&mut self, at: Instant) {
        if at < self.set_to {
            self.sleep.as_mut().reset(at.into());
            self.set_to = at;
        }
    }

    /// Gives the next call whose time has come.
    pub fn next_due(&mut self, now: Instant) -> Option<CallId> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, call))| call)
    }

    /// Tells whether the timer has rung, and sees to it that this task is woken when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Sets the timer anew after it has rung: to the first alarm, or to this time if that is sooner.
    pub fn set_anew(&mut self, other: Instant) {
        let first = self.heap.peek().map_or(other, |Reverse((at, _))| (*at).min(other));
        self.sleep.as_mut().reset(first.into());
        self.set_to = first;
    }

    /// Throws out the alarms of calls that have ended, when they have become many.
    pub fn thin_out(&mut self, calls: usize, is_alive: impl Fn(CallId) -> bool) {
        if self.heap.len() > 4 * calls + SLACK {
            self.heap.retain(|Reverse((_, call))| is_alive(*call));
        }
    }
}

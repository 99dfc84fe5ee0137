//! What keeps a connection in order beside its calls: its age, silence, and what its client does to no purpose.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use crate::settings::Settings;
use crate::transport::Meter;

/// Pings too soon that are forgiven until something is answered again, or some more of an answer goes, as gRPC does:
/// clients measure the way with a ping for each window of what comes.
const STRIKES: u32 = 2;

/// Changes of settings that are forgiven likewise: each has to be acknowledged.
const SETTINGS_FORGIVEN: u32 = 32;

/// Calls that a client may cancel more than it lets be answered, looked at or not.
pub const RESETS_FORGIVEN: u32 = 1_000;

/// So much of what a client has not read has to go before it counts as moving, and such a part of it; all of it where
/// that is less.
const MOVING: usize = 64 * 1024;
const MOVING_PART: usize = 8;

/// While others wait for room, whoever keeps it has only this time to move.
const PRESSED: Duration = Duration::from_secs(2);

/// A connection looks after itself at least so often.
const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(20);

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stay,
    /// Its client is told to go.
    Leave,
    /// It ends: its client takes nothing of what it asked for.
    Stalled,
    /// It ends: its client is silent, or does not go.
    End,
}

/// The times of one connection.
pub struct Upkeep {
    meter: Rc<RefCell<Meter>>,
    pings: Option<PingPong>,
    every: Duration,
    next: Instant,
    leave_at: Instant,
    is_leaving: bool,
    /// What is in flight may take until then.
    gone_by: Option<Instant>,
    heard: u64,
    heard_at: Instant,
    probed_at: Option<Instant>,
    idle_since: Option<Instant>,
    last_ping: Option<Instant>,
    /// Of answers, when pings were counted last.
    gone: u64,
    strikes: u32,
    settings_changed: u32,
    resets: u32,
    is_sent_away: bool,
    has_answered: bool,
    reading: Reading,
}

/// Whether a client reads what it asked for.
#[derive(Default)]
struct Reading {
    /// When enough had gone last; `None`: nothing is unread.
    since: Option<Instant>,
    /// When so much has gone in all, it is enough again.
    enough: u64,
}

impl Reading {
    fn note(&mut self, unread: usize, gone: u64, now: Instant) {
        if unread == 0 {
            self.since = None;
        } else if self.since.is_none() || gone >= self.enough {
            let enough = MOVING.max(unread / MOVING_PART).min(unread);
            *self = Self { since: Some(now), enough: gone + enough as u64 };
        }
    }
}

impl Upkeep {
    pub fn new(settings: &Settings, meter: Rc<RefCell<Meter>>, pings: Option<PingPong>, now: Instant) -> Self {
        let shortest =
            [settings.keepalive, settings.keepalive_timeout, settings.connection_grace, settings.connection_age]
                .into_iter()
                .min()
                .unwrap_or(SELDOM);
        let every = (shortest / 4).clamp(OFTEN, SELDOM);
        Self {
            meter,
            pings,
            every,
            next: now + every,
            leave_at: now + jittered(settings.connection_age),
            is_leaving: false,
            gone_by: None,
            heard: 0,
            heard_at: now,
            probed_at: None,
            idle_since: None,
            last_ping: None,
            gone: 0,
            strikes: 0,
            settings_changed: 0,
            resets: 0,
            is_sent_away: false,
            has_answered: false,
            reading: Reading::default(),
        }
    }

    /// Notes how much of what it asked for the client has not read.
    pub fn note_unread(&mut self, unread: usize, now: Instant) {
        self.reading.note(unread, self.meter.borrow().gone, now);
    }

    /// Tells when a client counts as stuck that takes nothing more of what is unread, or next to nothing. Whatever else
    /// it says does not matter. `is_pressed`: others wait for the room that it keeps.
    pub fn stuck_at(&self, settings: &Settings, is_pressed: bool) -> Option<Instant> {
        let patience = if is_pressed { PRESSED } else { settings.keepalive_timeout };
        Some(self.reading.since? + patience.min(settings.keepalive_timeout))
    }

    /// When it is to be looked at next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Notes that the client is told to go; tells whether it was not told before.
    pub fn leave(&mut self, gone_by: Option<Instant>) -> bool {
        let is_first = !self.is_leaving;
        self.is_leaving = true;
        self.gone_by = self.gone_by.or(gone_by);
        is_first
    }

    /// Judges the connection. `is_idle`: everything is answered, and not everything was taken.
    pub fn look(&mut self, cx: &mut Context<'_>, settings: &Settings, now: Instant, is_idle: bool) -> Verdict {
        self.next = now + self.every;
        if self.gone_by.is_some_and(|gone_by| now >= gone_by) || self.is_silent(cx, settings, now) {
            return Verdict::End;
        }
        let has_answered = std::mem::take(&mut self.has_answered);
        if !is_idle || has_answered {
            self.idle_since = None;
        } else if now >= *self.idle_since.get_or_insert(now) + settings.keepalive_timeout {
            return Verdict::Stalled;
        }
        if now >= self.leave_at && self.leave(Some(now + settings.connection_grace)) {
            return Verdict::Leave;
        }
        Verdict::Stay
    }

    /// Probes a client that has been silent; tells whether it has not said anything to that.
    fn is_silent(&mut self, cx: &mut Context<'_>, settings: &Settings, now: Instant) -> bool {
        let heard = self.meter.borrow().octets;
        let Some(pings) = &mut self.pings else { return false };
        // h2 takes the next ping only after the answer to the last one was asked for.
        let _ = pings.poll_pong(cx);
        if heard != self.heard {
            (self.heard, self.heard_at, self.probed_at) = (heard, now, None);
        }
        match self.probed_at {
            Some(probed_at) => now >= probed_at + settings.keepalive_timeout,
            None => {
                if now >= self.heard_at + settings.keepalive && pings.send_ping(Ping::opaque()).is_ok() {
                    self.probed_at = Some(now);
                }
                false
            }
        }
    }

    /// Tells whether the client may stay, by what it sent beside requests; `answered`: calls since the last time.
    /// That it may not is told once.
    pub fn is_calm(&mut self, answered: u32, ping_interval: Duration, now: Instant) -> bool {
        let (pings, settings, resets, gone) = {
            let mut meter = self.meter.borrow_mut();
            let Meter { pings, settings, resets, gone, .. } = &mut *meter;
            (std::mem::take(pings), std::mem::take(settings), std::mem::take(resets), *gone)
        };
        if answered > 0 || std::mem::replace(&mut self.gone, gone) < gone {
            (self.strikes, self.settings_changed) = (0, 0);
        }
        if answered > 0 {
            self.has_answered = true;
            self.resets = self.resets.saturating_sub(answered);
        }
        if pings + settings + resets == 0 || self.is_sent_away {
            return true;
        }
        if pings > 0 {
            let is_soon = self.last_ping.is_some_and(|last| now < last + ping_interval);
            self.strikes += pings - u32::from(!is_soon);
            self.last_ping = Some(now);
        }
        self.settings_changed += settings;
        self.resets = self.resets.saturating_add(resets);
        self.is_sent_away =
            self.strikes > STRIKES || self.settings_changed > SETTINGS_FORGIVEN || self.resets > RESETS_FORGIVEN;
        !self.is_sent_away
    }
}

/// A tenth more or less, so that connections which began together do not end together.
fn jittered(age: Duration) -> Duration {
    // Each RandomState has keys of its own.
    let part = f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX);
    age.mul_f64(0.9 + 0.2 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_an_octet_at_a_time_is_stuck_and_who_reads_all_or_enough_is_not() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut reading = Reading::default();
        reading.note(0, 7, at(0));
        assert_eq!(reading.since, None);
        let mut gone = 7;
        reading.note(1 << 20, gone, at(1));
        for seconds in 2..20 {
            reading.note(1 << 20, gone + seconds, at(seconds));
        }
        assert_eq!(reading.since, Some(at(1)), "an octet at a time");
        gone += 1 << 16;
        reading.note(1 << 20, gone, at(20));
        assert_eq!(reading.since, Some(at(1)), "little of so much");
        gone += 1 << 16;
        reading.note(1 << 17, gone, at(21));
        assert_eq!(reading.since, Some(at(21)), "an eighth");
        gone += MOVING as u64;
        reading.note(2_000, gone, at(22));
        assert_eq!(reading.since, Some(at(22)), "enough of whatever there is");
        reading.note(2_000, gone + 1_999, at(23));
        assert_eq!(reading.since, Some(at(22)), "not all of what is little");
        reading.note(0, gone + 2_000, at(24));
        assert_eq!(reading.since, None, "all");
    }
}

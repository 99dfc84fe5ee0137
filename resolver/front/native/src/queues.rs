//! S3-FIFO: which entries stay when there is no more room. Knows places and sizes, and no times.
//!
//! Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. New entries enter a small queue; those
//! asked for again while they are in it move to the main one, the others leave, so a scan passes through a tenth of
//! the room. A key that left and soon comes back goes straight to the main queue. A hit moves nothing: it counts a
//! visit.

use std::collections::VecDeque;

/// Visits are counted up to this.
pub const VISITS_MAX: u8 = 3;

/// The small queue's part of the room.
const SMALL_PART: usize = 10;

/// Entries of the main queue that one eviction may pass over, so that no caller waits for a whole round.
const SPARED_MAX: usize = 64;

const TYPICAL_OCTETS: usize = 1_024;

/// An entry's slot in the cache.
pub type Slot = u32;

/// In which queue an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Small,
    Main,
}

/// What the queues ask of the entries.
pub trait Entries {
    fn octets(&self, slot: Slot) -> usize;
    /// Takes one visit off; tells whether there was one.
    fn spend_visit(&mut self, slot: Slot) -> bool;
    fn move_to_main(&mut self, slot: Slot);
    fn hash(&self, slot: Slot) -> u64;
    fn remove(&mut self, slot: Slot);
}

/// A part of a cache with a bound of its own. Each of its entries stands in one of its two queues once.
pub struct Queues {
    small: VecDeque<Slot>,
    main: VecDeque<Slot>,
    small_octets: usize,
    octets: usize,
    octets_max: usize,
    ghosts: Vec<u64>,
    pub evicted: u64,
}

impl Queues {
    pub fn new(octets_max: usize) -> Self {
        let ghosts = (octets_max / TYPICAL_OCTETS).clamp(16, 1 << 20).next_power_of_two();
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_octets: 0,
            octets: 0,
            octets_max,
            ghosts: vec![0; ghosts],
            evicted: 0,
        }
    }

    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Tells where a new key belongs.
    pub fn place_for(&self, hash: u64) -> Place {
        // Before anything has left nobody comes back, and to see that is a look at memory that nobody has touched lately.
        if self.evicted > 0 && self.ghosts[self.ghost(hash)] == hash { Place::Main } else { Place::Small }
    }

    /// Enters a new entry.
    pub fn enter(&mut self, slot: Slot, place: Place, octets: usize) {
        match place {
            Place::Small => self.small.push_back(slot),
            Place::Main => self.main.push_back(slot),
        }
        self.resize(place, 0, octets);
    }

    /// Notes that an entry has another size.
    pub fn resize(&mut self, place: Place, before: usize, after: usize) {
        self.octets = self.octets + after - before;
        if place == Place::Small {
            self.small_octets = self.small_octets + after - before;
        }
    }

    /// Lets entries go until the bound holds.
    pub fn make_room(&mut self, entries: &mut impl Entries) {
        while self.octets > self.octets_max {
            let took = if self.small_octets > self.octets_max / SMALL_PART || self.main.is_empty() {
                self.take_from_small(entries)
            } else {
                self.take_from_main(entries)
            };
            if !took {
                break;
            }
        }
    }

    /// Forgets all places.
    pub fn clear(&mut self) {
        self.small.clear();
        self.main.clear();
        self.small_octets = 0;
        self.octets = 0;
    }

    fn take_from_small(&mut self, entries: &mut impl Entries) -> bool {
        let Some(slot) = self.small.pop_front() else { return false };
        let octets = entries.octets(slot);
        self.small_octets -= octets;
        if entries.spend_visit(slot) {
            entries.move_to_main(slot);
            self.main.push_back(slot);
        } else {
            self.let_go(slot, octets, entries);
        }
        true
    }

    fn take_from_main(&mut self, entries: &mut impl Entries) -> bool {
        let mut spared = 0;
        while let Some(slot) = self.main.pop_front() {
            if spared < SPARED_MAX && entries.spend_visit(slot) {
                self.main.push_back(slot);
                spared += 1;
                continue;
            }
            self.let_go(slot, entries.octets(slot), entries);
            return true;
        }
        false
    }

    fn let_go(&mut self, slot: Slot, octets: usize, entries: &mut impl Entries) {
        let hash = entries.hash(slot);
        let ghost = self.ghost(hash);
        self.ghosts[ghost] = hash;
        self.octets -= octets;
        self.evicted += 1;
        entries.remove(slot);
    }

    fn ghost(&self, hash: u64) -> usize {
        // Not the bits by which the table of keys is ordered.
        (hash >> 20) as usize & (self.ghosts.len() - 1)
    }
}

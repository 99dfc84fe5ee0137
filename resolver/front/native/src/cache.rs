//! Ready answers under canonical keys, found by the identifiers as they were asked for.
//!
//! One table holds all spellings of all keys; the first spelling of an entry is its key. What is dropped or has expired
//! keeps its place until it is put again or evicted, so that each entry has exactly one place in one queue.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;
use std::hash::BuildHasher;

use crate::marks::Marks;
use crate::queues::{Entries, Place, Queues, Slot, VISITS_MAX};
use crate::tallies::{Tallies, Tally};

/// What an entry takes beside the bytes of its spellings and its answer, and what a spelling does.
const ENTRY_OCTETS: usize = 300;
const SPELLING_OCTETS: usize = 140;

/// The outcome of what is no answer but an error, which names the position that it is for.
pub const FAULT: u8 = 0;

/// The outcome of an answer that says that there is no such identifier: it counts against the share of absent ones.
pub const ABSENT: u8 = 2;

/// Outcomes that are told apart in counts.
pub const OUTCOMES: usize = 8;

/// An answer of one identifier, ready to be sent.
#[derive(Clone, Debug)]
pub struct Part {
    /// As a unary response, framed.
    pub wire: Bytes,
    pub outcome: u8,
    /// It is this node's own word: the same however far the question goes.
    pub is_own: bool,
    pub tally: Option<Rc<Tally>>,
}

/// An answer as Python gives it.
#[derive(Debug)]
pub struct Frame {
    pub wire: Bytes,
    pub keep: Duration,
    pub key: Box<[u8]>,
    pub outcome: u8,
    /// The journal index of the state that was read.
    pub as_of: u64,
    /// The newest change of prefixes that was known when it was read.
    pub sequence: u64,
    pub tag: Arc<[u8]>,
    pub is_own: bool,
}

impl Frame {
    /// Takes apart what is sent of it and counted, and on what terms that is kept.
    pub fn split(self, tallies: &mut Tallies) -> (Part, Terms) {
        let Self { wire, keep, key, outcome, as_of, sequence, tag, is_own } = self;
        (Part { wire, outcome, is_own, tally: tallies.tally(&tag) }, Terms { keep, key, as_of, sequence })
    }
}

/// For how long, under what key and as of when an answer is kept.
#[derive(Debug)]
pub struct Terms {
    keep: Duration,
    key: Box<[u8]>,
    as_of: u64,
    sequence: u64,
}

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    /// How else the key is spelled.
    spellings: Vec<Box<[u8]>>,
    part: Part,
    /// `None`: dropped.
    expires: Option<Instant>,
    as_of: u64,
    sequence: u64,
    /// The newest change of prefixes with which this was compared.
    compared: u64,
    visits: u8,
    place: Place,
    is_absent: bool,
}

/// Where a spelling leads: which entry, and which of its spellings (0: the key). With its hash the table grows without a
/// look at the entries, of which there may be a million.
#[derive(Clone, Copy)]
struct Spelling {
    hash: u64,
    slot: Slot,
    which: u32,
}

/// What a lookup says beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
    /// Of the misses, those with an answer that had expired, was dropped, was void or could not be trusted now.
    pub stale: u64,
    /// Answers that were not kept, being older than a known change.
    pub refused: u64,
}

/// The entries, and what leads to them.
struct Shelf {
    entries: Slab<Entry>,
    table: HashTable<Spelling>,
    hasher: DefaultHashBuilder,
}

/// Bounds of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheBounds {
    pub found_octets: usize,
    pub absent_octets: usize,
    pub entry_octets: usize,
    pub spellings: usize,
}

/// The cache.
pub struct Cache {
    shelf: Shelf,
    found: Queues,
    absent: Queues,
    bounds: CacheBounds,
    dropped: Marks,
    changed: Marks,
    pub current_until: Instant,
    pub counts: CacheCounts,
}

impl Cache {
    /// Makes an empty one; nothing is given before `current_until` is set.
    pub fn new(bounds: CacheBounds, now: Instant) -> Self {
        Self {
            shelf: Shelf { entries: Slab::new(), table: HashTable::new(), hasher: DefaultHashBuilder::default() },
            found: Queues::new(bounds.found_octets),
            absent: Queues::new(bounds.absent_octets),
            bounds,
            dropped: Marks::default(),
            changed: Marks::default(),
            current_until: now,
            counts: CacheCounts::default(),
        }
    }

    /// Looks an identifier up, as it was asked for. `is_usual`: any answer will do, not this node's own word alone.
    pub fn find(&mut self, identifier: &[u8], is_usual: bool, now: Instant) -> Option<&Part> {
        let Some(slot) = self.shelf.find(identifier) else {
            self.counts.misses += 1;
            return None;
        };
        let entry = &mut self.shelf.entries[slot as usize];
        if now >= self.current_until || entry.expires.is_none_or(|expires| now >= expires) {
            self.counts.misses += 1;
            self.counts.stale += 1;
            return None;
        }
        // On nearly every hit nothing has changed since the last one.
        if entry.compared != self.changed.newest() {
            if lineage(&entry.key).any(|prefix| self.changed.changed_at(prefix) > entry.sequence) {
                self.void(slot);
                self.counts.misses += 1;
                self.counts.stale += 1;
                return None;
            }
            entry.compared = self.changed.newest();
        }
        let entry = &mut self.shelf.entries[slot as usize];
        if !is_usual && !entry.part.is_own {
            self.counts.misses += 1;
            return None;
        }
        entry.visits = (entry.visits + 1).min(VISITS_MAX);
        self.counts.hits += 1;
        Some(&entry.part)
    }

    /// Keeps an answer, if it may be kept, under its key and the identifier as it was asked for.
    pub fn keep(&mut self, identifier: &[u8], part: &Part, terms: Terms, now: Instant) {
        let Terms { keep, key, as_of, sequence } = terms;
        if keep.is_zero() || key.is_empty() || key.len() + part.wire.len() > self.bounds.entry_octets {
            return;
        }
        // Nearly always nothing has changed at all.
        let is_void =
            sequence < self.changed.newest() && lineage(&key).any(|prefix| self.changed.changed_at(prefix) > sequence);
        if is_void || as_of < self.dropped.changed_at(&key) {
            self.counts.refused += 1;
            return;
        }
        let Some(expires) = now.checked_add(keep) else { return };
        let fresh = Fresh { part: part.clone(), expires, as_of, sequence };
        let is_canonical = *key == *identifier;
        let hash = self.shelf.hash_of(&key);
        let slot = match self.shelf.find_hashed(hash, &key) {
            Some(slot) if self.shelf.entries[slot as usize].key == key => {
                if as_of < self.shelf.entries[slot as usize].as_of {
                    self.counts.refused += 1;
                    return;
                }
                self.put_again(slot, fresh);
                slot
            }
            held => {
                // The key led to another entry as a mere spelling: it is that no longer.
                if let Some(other) = held {
                    self.remove_spelling(other, &key);
                }
                self.put_new(hash, key, fresh)
            }
        };
        if !is_canonical {
            self.add_spelling(slot, identifier);
        }
        let queues = if self.shelf.entries[slot as usize].is_absent { &mut self.absent } else { &mut self.found };
        queues.make_room(&mut self.shelf);
    }

    /// Forgets these keys, which changed at this journal index: an older answer is not kept any more.
    pub fn drop_keys(&mut self, keys: &[Vec<u8>], index: u64) {
        for key in keys {
            self.dropped.mark(key, index);
            if let Some(slot) = self.shelf.find_key(key) {
                self.void(slot);
            }
        }
    }

    /// Voids the answers below these prefixes that were read before this change; below the empty one is everything.
    pub fn prefixes_changed(&mut self, prefixes: &[Vec<u8>], sequence: u64) {
        for prefix in prefixes {
            if prefix.is_empty() {
                self.changed.clear(sequence);
                continue;
            }
            self.changed.mark(&prefix.to_ascii_uppercase(), sequence);
        }
    }

    /// Forgets everything: what is read from now on is kept if it was read as of this journal index or later.
    pub fn clear(&mut self, index: u64) {
        self.shelf.entries.clear();
        self.shelf.table.clear();
        self.found.clear();
        self.absent.clear();
        self.dropped.clear(index);
    }

    pub fn octets(&self) -> usize {
        self.found.octets() + self.absent.octets()
    }

    pub fn len(&self) -> usize {
        self.shelf.entries.len()
    }

    pub fn evicted(&self) -> u64 {
        self.found.evicted + self.absent.evicted
    }

    fn put_new(&mut self, hash: u64, key: Box<[u8]>, fresh: Fresh) -> Slot {
        let is_absent = fresh.part.outcome == ABSENT;
        let queues = if is_absent { &mut self.absent } else { &mut self.found };
        let place = queues.place_for(hash);
        let entry = Entry {
            hash,
            key,
            spellings: Vec::new(),
            part: fresh.part,
            expires: Some(fresh.expires),
            as_of: fresh.as_of,
            sequence: fresh.sequence,
            compared: 0,
            visits: 0,
            place,
            is_absent,
        };
        let octets = entry.octets();
        let slot = self.shelf.add(entry);
        queues.enter(slot, place, octets);
        slot
    }

    fn put_again(&mut self, slot: Slot, fresh: Fresh) {
        // The place stays, also when what is answered has become found or absent: a key never has two.
        self.resized(slot, |entry| {
            entry.part = fresh.part;
            entry.expires = Some(fresh.expires);
            entry.as_of = fresh.as_of;
            entry.sequence = fresh.sequence;
            entry.compared = 0;
        });
    }

    fn void(&mut self, slot: Slot) {
        self.resized(slot, |entry| {
            entry.part.wire = Bytes::new();
            entry.part.tally = None;
            entry.expires = None;
        });
    }

    fn add_spelling(&mut self, slot: Slot, identifier: &[u8]) {
        match self.shelf.find(identifier) {
            Some(held) if held == slot => return,
            // A key is nobody else's spelling.
            Some(held) if *self.shelf.entries[held as usize].key == *identifier => return,
            Some(held) => self.remove_spelling(held, identifier),
            None => {}
        }
        if self.shelf.entries[slot as usize].spellings.len() + 1 >= self.bounds.spellings {
            return;
        }
        self.resized(slot, |entry| entry.spellings.push(identifier.into()));
        let which = self.shelf.entries[slot as usize].spellings.len() as u32;
        self.shelf.link(Spelling { hash: self.shelf.hash_of(identifier), slot, which });
    }

    fn remove_spelling(&mut self, slot: Slot, identifier: &[u8]) {
        // All of the entry's other spellings go, so that the places of those that stay need not be moved.
        self.shelf.unlink_spellings(slot);
        debug_assert!(self.shelf.find(identifier).is_none());
        self.resized(slot, |entry| entry.spellings.clear());
    }

    fn resized(&mut self, slot: Slot, change: impl FnOnce(&mut Entry)) {
        let entry = &mut self.shelf.entries[slot as usize];
        let before = entry.octets();
        change(entry);
        let (place, after) = (entry.place, entry.octets());
        let queues = if entry.is_absent { &mut self.absent } else { &mut self.found };
        queues.resize(place, before, after);
    }
}

struct Fresh {
    part: Part,
    expires: Instant,
    as_of: u64,
    sequence: u64,
}

impl Entry {
    fn octets(&self) -> usize {
        let spelled: usize = self.spellings.iter().map(|spelling| spelling.len() + SPELLING_OCTETS).sum();
        ENTRY_OCTETS + self.key.len() + self.part.wire.len() + spelled
    }

    fn spelling(&self, which: u32) -> &[u8] {
        match which {
            0 => &self.key,
            _ => self.spellings.get(which as usize - 1).map_or(&[], |spelling| spelling),
        }
    }
}

impl Shelf {
    fn hash_of(&self, octets: &[u8]) -> u64 {
        self.hasher.hash_one(octets)
    }

    fn find(&self, identifier: &[u8]) -> Option<Slot> {
        self.find_hashed(self.hash_of(identifier), identifier)
    }

    fn find_hashed(&self, hash: u64, identifier: &[u8]) -> Option<Slot> {
        let is_it =
            |held: &Spelling| held.hash == hash && self.entries[held.slot as usize].spelling(held.which) == identifier;
        self.table.find(hash, is_it).map(|held| held.slot)
    }

    fn find_key(&self, key: &[u8]) -> Option<Slot> {
        self.find(key).filter(|slot| *self.entries[*slot as usize].key == *key)
    }

    fn add(&mut self, entry: Entry) -> Slot {
        let hash = entry.hash;
        // Entries are bounded in bytes, far below what 32 bits count.
        let slot = self.entries.insert(entry) as Slot;
        self.link(Spelling { hash, slot, which: 0 });
        slot
    }

    fn link(&mut self, spelling: Spelling) {
        self.table.insert_unique(spelling.hash, spelling, |held| held.hash);
    }

    fn unlink(&mut self, hash: u64, slot: Slot, which: u32) {
        if let Ok(found) = self.table.find_entry(hash, |held| held.slot == slot && held.which == which) {
            found.remove();
        }
    }

    fn unlink_spellings(&mut self, slot: Slot) {
        for which in 1..=self.entries[slot as usize].spellings.len() as u32 {
            let hash = self.hash_of(self.entries[slot as usize].spelling(which));
            self.unlink(hash, slot, which);
        }
    }
}

impl Entries for Shelf {
    fn octets(&self, slot: Slot) -> usize {
        self.entries[slot as usize].octets()
    }

    fn spend_visit(&mut self, slot: Slot) -> bool {
        let entry = &mut self.entries[slot as usize];
        // What was dropped was worth its visits once; its place is worth nothing.
        let had = entry.visits > 0 && entry.expires.is_some();
        entry.visits = entry.visits.saturating_sub(1);
        had
    }

    fn move_to_main(&mut self, slot: Slot) {
        self.entries[slot as usize].place = Place::Main;
    }

    fn hash(&self, slot: Slot) -> u64 {
        self.entries[slot as usize].hash
    }

    fn remove(&mut self, slot: Slot) {
        self.unlink_spellings(slot);
        self.unlink(self.entries[slot as usize].hash, slot, 0);
        self.entries.remove(slot as usize);
    }
}

/// Walks the prefix of a key from its first segment down: 88, 88.111, 88.111.1.
fn lineage(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let prefix = key.iter().position(|octet| *octet == b'/').map_or(key, |slash| &key[..slash]);
    let dots = prefix.iter().enumerate().filter(|(_, octet)| **octet == b'.').map(|(at, _)| at);
    dots.chain([prefix.len()]).map(|end| &prefix[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: CacheBounds =
        CacheBounds { found_octets: 1 << 20, absent_octets: 1 << 16, entry_octets: 1 << 14, spellings: 4 };

    struct Bench {
        cache: Cache,
        tallies: Tallies,
        now: Instant,
    }

    impl Bench {
        fn new(bounds: CacheBounds) -> Self {
            let now = Instant::now();
            let mut cache = Cache::new(bounds, now);
            cache.current_until = now + Duration::from_secs(3_600);
            Self { cache, tallies: Tallies::default(), now }
        }

        fn keep(&mut self, identifier: &str, frame: Frame) {
            let (part, terms) = frame.split(&mut self.tallies);
            self.cache.keep(identifier.as_bytes(), &part, terms, self.now);
        }

        fn has(&mut self, identifier: &str) -> bool {
            self.cache.find(identifier.as_bytes(), true, self.now).is_some()
        }
    }

    fn frame(key: &str) -> Frame {
        Frame {
            wire: Bytes::from(format!("answer of {key}")),
            keep: Duration::from_secs(60),
            key: key.as_bytes().into(),
            outcome: 1,
            as_of: 10,
            sequence: 10,
            tag: Arc::default(),
            is_own: false,
        }
    }

    #[test]
    fn only_a_nodes_own_word_is_given_to_whoever_asks_in_another_way() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/own", Frame { is_own: true, ..frame("88.1/OWN") });
        bench.keep("88.1/other", frame("88.1/OTHER"));
        assert!(bench.has("88.1/own") && bench.has("88.1/other"));
        assert!(bench.cache.find(b"88.1/own", false, bench.now).is_some());
        assert!(bench.cache.find(b"88.1/other", false, bench.now).is_none());
        assert_eq!((bench.cache.counts.hits, bench.cache.counts.misses), (3, 1));
    }

    #[test]
    fn a_key_is_found_by_so_many_spellings() {
        let mut bench = Bench::new(BOUNDS);
        for spelling in ["88.1/abc", "88.1/Abc", "88.1/ABc", "88.1/aBC"] {
            bench.keep(spelling, frame("88.1/ABC"));
        }
        for spelling in ["88.1/ABC", "88.1/abc", "88.1/Abc", "88.1/ABc"] {
            assert!(bench.has(spelling), "{spelling}");
        }
        assert!(!bench.has("88.1/aBC"));
        assert_eq!(bench.cache.len(), 1);
    }

    #[test]
    fn what_is_dropped_is_not_found_by_any_spelling_and_not_kept_as_it_was() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/abc", frame("88.1/ABC"));
        bench.cache.drop_keys(&[b"88.1/ABC".to_vec(), b"88.1/OTHER".to_vec()], 11);
        assert!(!bench.has("88.1/abc") && !bench.has("88.1/ABC"));
        bench.keep("88.1/abc", frame("88.1/ABC"));
        bench.keep("88.1/other", frame("88.1/OTHER"));
        assert!(!bench.has("88.1/abc") && !bench.has("88.1/other"));
        assert_eq!(bench.cache.counts.refused, 2);
        bench.keep("88.1/abc", Frame { as_of: 11, ..frame("88.1/ABC") });
        assert!(bench.has("88.1/abc"));
    }

    #[test]
    fn an_older_answer_does_not_replace_a_newer_one() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/A", Frame { as_of: 12, wire: Bytes::from_static(b"new"), ..frame("88.1/A") });
        bench.keep("88.1/A", frame("88.1/A"));
        assert_eq!(
            bench.cache.find(b"88.1/A", true, bench.now).map(|part| part.wire.clone()),
            Some(Bytes::from_static(b"new"))
        );
    }

    #[test]
    fn a_change_below_the_empty_prefix_voids_everything() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/x", frame("88.1/X"));
        bench.cache.prefixes_changed(&[Vec::new()], 1_000);
        assert!(!bench.has("88.1/x"));
        bench.keep("88.1/x", Frame { sequence: 1_000, ..frame("88.1/X") });
        assert!(bench.has("88.1/x"));
    }

    #[test]
    fn a_change_of_any_prefix_above_voids() {
        for changed in ["88", "88.1", "88.1.a"] {
            let mut bench = Bench::new(BOUNDS);
            bench.keep("88.1.A/x", frame("88.1.A/X"));
            bench.keep("88.2/x", Frame { sequence: 12, ..frame("88.2/X") });
            bench.cache.prefixes_changed(&[b"88.1.a.b".to_vec(), b"88.1.a/x".to_vec(), b"88.".to_vec()], 12);
            assert!(bench.has("88.1.A/x"), "{changed}");
            bench.cache.prefixes_changed(&[changed.as_bytes().to_vec()], 12);
            // In one feed a sequence stands for all of a state, so a later one is told.
            bench.cache.prefixes_changed(&[changed.as_bytes().to_vec()], 13);
            assert!(!bench.has("88.1.A/x"), "{changed}");
            assert_eq!(bench.has("88.2/x"), changed != "88");
            bench.keep("88.1.A/x", frame("88.1.A/X"));
            assert!(!bench.has("88.1.A/x"), "read before the change");
        }
    }

    #[test]
    fn nothing_is_given_beyond_its_time() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/A", frame("88.1/A"));
        bench.now += Duration::from_secs(59);
        assert!(bench.has("88.1/A"));
        bench.cache.current_until = bench.now;
        assert!(!bench.has("88.1/A"), "not current");
        bench.cache.current_until = bench.now + Duration::from_secs(10);
        bench.now += Duration::from_secs(1);
        assert!(!bench.has("88.1/A"), "expired");
        assert_eq!((bench.cache.counts.hits, bench.cache.counts.misses, bench.cache.counts.stale), (1, 2, 2));
    }

    #[test]
    fn what_may_not_be_kept_is_not() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/A", Frame { keep: Duration::ZERO, ..frame("88.1/A") });
        bench.keep("88.1/B", Frame { wire: Bytes::from(vec![0; 1 << 14]), ..frame("88.1/B") });
        assert_eq!(bench.cache.len(), 0);
        bench.keep("88.1/A", frame("88.1/A"));
        bench.cache.clear(11);
        bench.keep("88.1/A", frame("88.1/A"));
        assert_eq!((bench.cache.len(), bench.cache.octets()), (0, 0));
    }

    #[test]
    fn room_is_bounded_and_a_scan_leaves_what_is_asked_for() {
        let mut bench = Bench::new(BOUNDS);
        for _ in 0..3 {
            for number in 0..500 {
                let key = format!("88.1/HOT{number}");
                if !bench.has(&key) {
                    bench.keep(&key.to_lowercase(), frame(&key));
                }
            }
        }
        for number in 0..20_000 {
            let key = format!("88.1/COLD{number}");
            bench.keep(&key.to_lowercase(), frame(&key));
            bench.keep(&key, Frame { outcome: ABSENT, ..frame(&format!("88.2/NONE{number}")) });
            assert!(bench.cache.found.octets() <= BOUNDS.found_octets);
            assert!(bench.cache.absent.octets() <= BOUNDS.absent_octets);
        }
        let kept = (0..500).filter(|number| bench.has(&format!("88.1/HOT{number}"))).count();
        assert!(kept > 450, "{kept}");
        let octets: usize = bench.cache.shelf.entries.iter().map(|(_, entry)| entry.octets()).sum();
        assert_eq!(octets, bench.cache.octets());
        let spellings: usize = bench.cache.shelf.entries.iter().map(|(_, entry)| 1 + entry.spellings.len()).sum();
        assert_eq!(spellings, bench.cache.shelf.table.len());
    }

    #[test]
    fn a_spelling_follows_the_key_that_it_was_last_answered_under() {
        let mut bench = Bench::new(BOUNDS);
        bench.keep("88.1/a", frame("88.1/A"));
        bench.keep("88.1/a", Frame { wire: Bytes::from_static(b"own"), ..frame("88.1/a") });
        assert_eq!(
            bench.cache.find(b"88.1/a", true, bench.now).map(|part| part.wire.clone()),
            Some(Bytes::from_static(b"own"))
        );
        assert!(bench.has("88.1/A"));
    }

    #[test]
    fn a_lineage_goes_from_the_first_segment_down() {
        let walked: Vec<&[u8]> = lineage(b"88.111.1/a.b/c").collect();
        assert_eq!(walked, [&b"88"[..], b"88.111", b"88.111.1"]);
    }
}

//! Adding up the tags of what was answered. A tag means nothing here.

use std::cell::Cell;
use std::rc::Rc;

use hashbrown::HashMap;

/// How often one tag was answered since it was last asked. Entries of the cache hold it, so that a hit adds to a number
/// and looks nothing up.
#[derive(Debug)]
pub struct Tally {
    tag: Box<[u8]>,
    direct: Cell<u64>,
    recursive: Cell<u64>,
}

/// A tag, how often it was answered to direct questions, and how often to recursive ones.
pub type Counted = (Vec<u8>, u64, u64);

/// All tags that somebody holds or that have a count.
#[derive(Default)]
pub struct Tallies {
    by_tag: HashMap<Box<[u8]>, Rc<Tally>>,
    counted: Vec<Rc<Tally>>,
}

impl Tallies {
    /// Gives the tally of a tag; none of the empty one, which is not counted.
    pub fn tally(&mut self, tag: &[u8]) -> Option<Rc<Tally>> {
        if tag.is_empty() {
            return None;
        }
        if let Some(tally) = self.by_tag.get(tag) {
            return Some(Rc::clone(tally));
        }
        let tally = Rc::new(Tally { tag: tag.into(), direct: Cell::new(0), recursive: Cell::new(0) });
        self.by_tag.insert(tag.into(), Rc::clone(&tally));
        Some(tally)
    }

    /// Adds to a tally what was answered, recursive questions apart.
    pub fn add(&mut self, tally: &Rc<Tally>, count: u64, is_recursive: bool) {
        if tally.direct.get() == 0 && tally.recursive.get() == 0 {
            self.counted.push(Rc::clone(tally));
        }
        let counted = if is_recursive { &tally.recursive } else { &tally.direct };
        counted.set(counted.get() + count);
    }

    /// Gives what was counted since the last time, and forgets tags that nobody holds any more.
    pub fn take(&mut self) -> Vec<Counted> {
        let counted = self.counted.drain(..);
        let taken = counted.map(|tally| (tally.tag.to_vec(), tally.direct.take(), tally.recursive.take())).collect();
        self.by_tag.retain(|_, tally| Rc::strong_count(tally) > 1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_up_until_they_are_taken() {
        let mut tallies = Tallies::default();
        let held = tallies.tally(b"+88").expect("a tag");
        for count in [1, 2] {
            tallies.add(&held, count, false);
            tallies.add(&held, 2 * count, true);
        }
        let passing = tallies.tally(b"-88").expect("a tag");
        tallies.add(&passing, 1, true);
        drop(passing);
        assert_eq!(tallies.take(), [(b"+88".to_vec(), 3, 6), (b"-88".to_vec(), 0, 1)]);
        assert_eq!(tallies.take(), []);
        assert_eq!(tallies.by_tag.len(), 1);
        assert!(tallies.tally(b"").is_none());
    }
}

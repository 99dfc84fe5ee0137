//! What changed, and when: a bounded memory of names, each with the newest index at which it changed.

use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;

/// Names that are remembered one by one.
pub const MARKS_MAX: usize = 65_536;

/// Names with the index of their last change. The oldest are forgotten by raising the floor: below it everything
/// counts as changed.
#[derive(Default)]
pub struct Marks {
    by_name: HashMap<Rc<[u8]>, u64>,
    in_order: VecDeque<(Rc<[u8]>, u64)>,
    floor: u64,
    newest: u64,
}

impl Marks {
    /// Remembers that this changed at this index.
    pub fn mark(&mut self, name: &[u8], index: u64) {
        self.newest = self.newest.max(index);
        let name: Rc<[u8]> = match self.by_name.get_key_value(name) {
            Some((_, held)) if *held >= index => return,
            Some((name, _)) => Rc::clone(name),
            None => name.into(),
        };
        self.by_name.insert(Rc::clone(&name), index);
        self.in_order.push_back((name, index));
        // What was marked again stands in the order twice; both are bounded.
        while self.by_name.len() > MARKS_MAX || self.in_order.len() > 2 * MARKS_MAX {
            self.forget_oldest();
        }
    }

    /// Starts anew: everything counts as changed at this index.
    pub fn clear(&mut self, index: u64) {
        self.by_name.clear();
        self.in_order.clear();
        self.floor = self.floor.max(index);
        self.newest = self.newest.max(index);
    }

    /// The newest index at which anything changed.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The index below which everything counts as changed.
    #[cfg(test)]
    fn floor(&self) -> u64 {
        self.floor
    }

    /// The index at which this changed last, as far as is known.
    pub fn changed_at(&self, name: &[u8]) -> u64 {
        self.by_name.get(name).copied().unwrap_or(0).max(self.floor)
    }

    fn forget_oldest(&mut self) {
        let Some((name, index)) = self.in_order.pop_front() else { return };
        if self.by_name.get(&name) == Some(&index) {
            self.by_name.remove(&name);
            self.floor = self.floor.max(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_index_of_its_last_change() {
        let mut marks = Marks::default();
        marks.mark(b"88.1", 5);
        marks.mark(b"88.1", 7);
        marks.mark(b"88.1", 6);
        assert_eq!((marks.changed_at(b"88.1"), marks.changed_at(b"88.2"), marks.newest()), (7, 0, 7));
        marks.clear(9);
        assert_eq!((marks.changed_at(b"88.1"), marks.changed_at(b"88.2"), marks.newest()), (9, 9, 9));
    }

    #[test]
    fn what_is_forgotten_raises_the_floor() {
        let mut marks = Marks::default();
        for index in 1..=MARKS_MAX as u64 + 3 {
            marks.mark(format!("88.{index}").as_bytes(), index);
        }
        assert_eq!(marks.floor(), 3);
        assert_eq!(marks.changed_at(b"88.1"), 3);
        assert_eq!(marks.changed_at(b"88.4"), 4);
    }

    #[test]
    fn one_name_that_changes_for_ever_takes_no_more_room() {
        let mut marks = Marks::default();
        for index in 1..=5 * MARKS_MAX as u64 {
            marks.mark(b"88", index);
        }
        assert!(marks.in_order.len() <= 2 * MARKS_MAX);
        assert_eq!((marks.floor(), marks.changed_at(b"88")), (0, 5 * MARKS_MAX as u64));
    }
}

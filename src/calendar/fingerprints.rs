//! Which slices of a feed were there the last time.

use std::collections::HashSet;

/// The fingerprints of a feed's last body, in the order of that body, and which of them the new
/// body has too.
///
/// A feed nearly always lists what it listed before, in the same order. So the next fingerprint is
/// first compared with the one that followed the last time; only where that fails is it looked up.
/// 16 bytes an event, and 21 once something has changed.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints {
    old: Vec<u128>,
    /// Where in `old` the next one is expected.
    cursor: usize,
    /// A bit for each of `old`: it was met. Empty while all before the cursor were, and no other.
    met: Vec<u64>,
    /// Positions in `old`, by value; made when there have been many surprises.
    by_value: Vec<u32>,
    surprises: u32,
    /// The new body's; none while it is the beginning of `old`.
    new: Option<Vec<u128>>,
}

/// So many are looked for one by one before an order by value is worth its making.
const SEARCHES: u32 = 16;

impl Fingerprints {
    pub fn new(old: Vec<u128>) -> Self {
        Fingerprints { old, ..Fingerprints::default() }
    }

    /// The new body is the old one.
    pub fn meet_all(&mut self) {
        self.cursor = self.old.len();
        self.new = None;
        self.met.clear();
    }

    /// Takes the next fingerprint of the new body; true if the old one had it.
    pub fn meet(&mut self, fingerprint: u128) -> bool {
        if self.old.get(self.cursor) == Some(&fingerprint) {
            self.mark(self.cursor);
            self.cursor += 1;
            if let Some(new) = &mut self.new {
                new.push(fingerprint);
            }
            return true;
        }
        self.surprise();
        self.surprises = self.surprises.saturating_add(1);
        if self.surprises == SEARCHES {
            self.index();
        }
        let found = self.positions(fingerprint).next();
        if let Some(position) = found {
            self.mark(position);
            self.cursor = position + 1;
        }
        self.new.get_or_insert_default().push(fingerprint);
        found.is_some()
    }

    /// How many of the old body's slices the new one has.
    pub fn met(&self) -> usize {
        match self.met.is_empty() {
            true => self.cursor,
            false => self.met.iter().map(|word| word.count_ones() as usize).sum(),
        }
    }

    /// Whether the old body had this one, and the new one has it too.
    pub fn was_met(&self, fingerprint: u128) -> bool {
        if self.met.is_empty() {
            return self.old[..self.cursor].contains(&fingerprint);
        }
        self.positions(fingerprint).any(|at| self.met[at / 64] & (1 << (at % 64)) != 0)
    }

    /// Makes [`Fingerprints::was_met`] fast, for many questions.
    pub fn index(&mut self) {
        self.surprise();
        if self.by_value.is_empty() {
            self.by_value = (0..u32::try_from(self.old.len()).unwrap_or(u32::MAX)).collect();
            self.by_value.sort_unstable_by_key(|&at| (self.old[at as usize], at));
        }
    }

    /// Whether the new body has exactly what the old one had, in the same order.
    pub fn is_same(&self) -> bool {
        self.new.is_none() && self.cursor == self.old.len()
    }

    /// The n-th of the new body.
    pub fn nth(&self, n: usize) -> Option<u128> {
        self.new.as_ref().unwrap_or(&self.old).get(n).copied()
    }

    /// The next body's slices with these fingerprints must be read again, whatever they say.
    pub fn forget(&mut self, fingerprints: &HashSet<u128>) {
        if let Some(new) = self.new.as_mut().filter(|_| !fingerprints.is_empty()) {
            new.retain(|print| !fingerprints.contains(print));
        }
    }

    /// How many slices the new body has.
    pub fn len(&self) -> usize {
        self.new.as_ref().map_or(self.cursor, Vec::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of the new body, in its order.
    pub fn into_new(mut self) -> Vec<u128> {
        self.new.unwrap_or_else(|| {
            self.old.truncate(self.cursor);
            self.old
        })
    }

    /// Those of the new body, and those of the old one that it lacks and that are to be kept.
    pub fn into_both(mut self, keep: impl Fn(u128) -> bool) -> Vec<u128> {
        self.index();
        let lacks = |old: &u128| !self.was_met(*old) && keep(*old);
        let lacking: Vec<u128> = self.old.iter().copied().filter(lacks).collect();
        let mut all = self.into_new();
        all.extend(lacking);
        all
    }

    fn mark(&mut self, position: usize) {
        if let Some(word) = self.met.get_mut(position / 64) {
            *word |= 1 << (position % 64);
        }
    }

    /// The order is no longer that of the last time.
    fn surprise(&mut self) {
        if !self.met.is_empty() || self.old.is_empty() {
            self.new.get_or_insert_default();
            return;
        }
        let new = self.old[..self.cursor].to_vec();
        self.met = vec![0; self.old.len().div_ceil(64)];
        for position in 0..self.cursor {
            self.mark(position);
        }
        self.new = Some(new);
    }

    /// Where it stands in the old body; twice where two slices there were the same.
    fn positions(&self, fingerprint: u128) -> impl Iterator<Item = usize> + '_ {
        let value = |at: &u32| self.old[*at as usize];
        let first = self.by_value.partition_point(|at| value(at) < fingerprint);
        let equal = self.by_value[first..].iter().take_while(move |at| value(at) == fingerprint);
        let unsorted = if self.by_value.is_empty() { &self.old[..] } else { &[] };
        let places = unsorted.iter().enumerate().filter(move |(_, old)| **old == fingerprint);
        equal.map(|&at| at as usize).chain(places.map(|(at, _)| at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compared(old: &[u128], new: &[u128]) -> (Vec<bool>, Fingerprints) {
        let mut prints = Fingerprints::new(old.to_vec());
        let known = new.iter().map(|&print| prints.meet(print)).collect();
        (known, prints)
    }

    #[test]
    fn the_same_body_needs_no_list_of_its_own() {
        let (known, prints) = compared(&[3, 1, 2], &[3, 1, 2]);
        assert_eq!(known, [true; 3]);
        assert!(prints.is_same() && prints.new.is_none() && prints.by_value.is_empty());
    }

    proptest! {
        #[test]
        fn any_two_bodies_are_told_apart(
            old in prop::collection::vec(0_u128..20, 0..20),
            new in prop::collection::vec(0_u128..20, 0..20),
        ) {
            let (known, mut prints) = compared(&old, &new);
            let expected: Vec<bool> = new.iter().map(|print| old.contains(print)).collect();
            prop_assert_eq!(known, expected);
            prop_assert_eq!(prints.is_same(), old == new);
            prop_assert_eq!(prints.len(), new.len());
            let check = |prints: &Fingerprints| {
                old.iter().all(|&print| prints.was_met(print) == new.contains(&print))
            };
            prop_assert!(check(&prints));
            let same = prints.clone();
            prints.index();
            prop_assert!(check(&prints));
            prop_assert_eq!(prints.into_new(), new.clone());
            let replaced: HashSet<u128> = old.iter().copied().take(3).collect();
            let both = same.into_both(|print| !replaced.contains(&print));
            for print in 0..20 {
                let kept = old.contains(&print) && !replaced.contains(&print);
                prop_assert_eq!(both.contains(&print), new.contains(&print) || kept);
            }
        }
    }
}

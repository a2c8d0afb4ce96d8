//! What changed, as an attentive person would put it.
//!
//! [`diff`] sets what is known of a feed's events against one new reading of the feed. Its rules,
//! each forced by what real feeds do:
//!
//! * Content is compared, never `DTSTAMP`, `LAST-MODIFIED` or `SEQUENCE`; instants are compared,
//!   never their spelling.
//! * A change is told once it has lasted until the next poll, which [`Outcome::recheck_at`] asks for
//!   after the settle time. A burst of edits becomes one change, a field that flaps becomes none.
//! * Absence is not cancellation. An event that has begun, or that a full window has pushed out, has
//!   only left the list. Any other must be gone from two complete readings, [`Context::confirm`]
//!   apart; when most of a feed is gone at once, [`MASS_LOSS_CONFIRM`] apart.
//! * The same value put in place of the same other value in three or more events at once is the
//!   work of one switch (a category renamed, a region that comes and goes), not news of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fingerprints::Fingerprints;
use super::publisher::Publisher;
use super::{Event, EventKey, Status, Uid, Verdict, When, Window, Zones, identity, recur};
use crate::plan::Field;

/// How long most of a feed must be gone before that is believed.
pub const MASS_LOSS_CONFIRM: SignedDuration = SignedDuration::from_hours(24);

/// So many events changed in one way at one time are one change, not many.
const MASS_CHANGE: usize = 3;

/// How long an event that is over and gone from the feed is remembered.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is remembered of one event of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub key: EventKey,
    /// Of the slice it was last read from.
    pub fingerprint: u128,
    /// What the audience has been told; also what it would have been told, had anyone watched.
    pub told: Told,
    /// As last read.
    pub seen: Event,
    pub presence: Presence,
    /// When the state that differs from `told` was first read; none when nothing differs.
    pub since: Option<Timestamp>,
    /// Grows with each telling and makes it distinct, also from those of an event of the same key
    /// that was forgotten: it begins with the second of the first sight.
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Nothing,
    Listed(Event),
    /// As it was before it was told to be gone.
    Withdrawn(Event),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Listed,
    /// Absent though it should be there.
    Missing,
    /// Absent for a harmless reason: it has begun, or is beyond the end of a full window.
    Unlisted,
}

/// One reading of a feed, as far as it was not the same as the last one.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub prodid: String,
    /// Events in slices not met before, with their fingerprints.
    pub events: Vec<(Event, u128)>,
    /// Which slices were met before, and which of those are there now.
    pub unchanged: Fingerprints,
    /// UIDs of events that are there but cannot be read.
    pub present: HashSet<Uid>,
    /// The events that are off by the publisher's site, by the stem of their UID; none where the
    /// site was not asked about all of them, and what it said before still holds.
    pub statuses: Option<BTreeMap<String, Verdict>>,
    /// Stems whose status the site gives otherwise than before.
    pub restated: BTreeSet<String>,
    /// What the site answered to [`Outcome::questions`] of this same reading.
    pub answers: HashMap<EventKey, Answer>,
    /// Absence may be believed: the body is whole and every event in it could be named.
    pub complete: bool,
}

/// Something only the publisher's site knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub key: EventKey,
    pub event: Event,
    /// It is gone from the feed; else, only its `LAST-MODIFIED` has moved.
    pub absent: bool,
}

/// What the publisher's site says of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has a page, and this is its status.
    Known(Verdict),
    /// It was withdrawn or deleted.
    Gone,
}

/// The circumstances of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub now: Timestamp,
    pub zones: &'a Zones,
    /// Of the feed.
    pub zone: &'a TimeZone,
    /// How soon a change is looked at again; zero tells at once.
    pub settle: SignedDuration,
    /// How long an event must be gone; zero needs no second reading.
    pub confirm: SignedDuration,
    /// The first reading ever: everything is known from now on, nothing is told.
    pub baseline: bool,
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// To be told, in order of start.
    pub changes: Vec<Change>,
    /// Rows that differ from what was known before.
    pub write: Vec<Known>,
    pub forget: Vec<EventKey>,
    /// When to read the feed again to see whether what is pending has lasted.
    pub recheck_at: Option<Timestamp>,
    /// For the operator.
    pub notes: Vec<Note>,
    /// Where the publisher's site can be asked: ask, and compare again with the answers.
    pub questions: Vec<Question>,
}

/// A finding about the feed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A category was renamed everywhere at once: watches that name the old one match nothing.
    CategoriesRenamed { from: Vec<String>, to: Vec<String>, events: usize },
    /// So many events are gone at once that it is held back for [`MASS_LOSS_CONFIRM`].
    MassLoss { missing: usize, listed: usize },
    /// Most UIDs are new though the events are not: the publisher makes new ones on every fetch.
    UidsChurn { events: usize },
}

/// One thing to be told of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: EventKey,
    pub kind: ChangeKind,
    /// What the audience knows; absent for a new event.
    pub before: Option<Event>,
    /// What is so now; for [`ChangeKind::Missing`], as last read.
    pub after: Event,
    /// What differs between the two.
    pub fields: Vec<Field>,
    /// For a new event: another one listed has the same title and start.
    pub duplicate: bool,
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    New,
    Updated,
    Rescheduled,
    Cancelled,
    Postponed,
    Reinstated,
    Missing,
}

/// What is known of an event that stood in the first reading of its feed: everything was told.
pub fn baseline(mut event: Event, fingerprint: u128, publisher: Publisher) -> Known {
    publisher.normalise(&mut event);
    Known {
        key: identity::key(&event, false),
        fingerprint,
        told: Told::Listed(event.clone()),
        seen: event,
        presence: Presence::Listed,
        since: None,
        revision: 0,
    }
}

/// The little that must be known of every event to tell which of them a reading touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// A hash of the key.
    pub key: u64,
    pub fingerprint: u128,
    /// When it, or its first occurrence, starts; milliseconds since 1970.
    pub starts: i64,
    pub marks: Marks,
    /// [`Presence::Listed`].
    pub listed: bool,
    /// Something of it waits to be told.
    pub pending: bool,
    /// It, or its last occurrence, is not over.
    pub upcoming: bool,
}

/// Hashes of what two VEVENTs of one event, or two events that could be confused, have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub uid: u32,
    pub stem: u32,
    pub title: u32,
}

impl Marks {
    pub fn of(event: &Event) -> Self {
        Marks {
            uid: hash(&event.uid.0),
            stem: hash(identity::stem(&event.uid).as_deref().unwrap_or(&event.uid.0)),
            title: hash(&identity::normalised(&event.summary)),
        }
    }
}

fn hash(text: &str) -> u32 {
    (xxh3_64(text.as_bytes()) & 0xFFFF_FFFF) as u32
}

/// What [`diff`] must know of the events that it is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How many there are; all of them are in the feed as before.
    pub listed: usize,
    /// How many of them are not over.
    pub upcoming: usize,
    /// When the last of them starts; milliseconds since 1970.
    pub last_start: Option<i64>,
}

/// Which events [`diff`] needs to see, as hashes of their keys: those that are not in the feed as
/// before, those with something to be told, and those that could be confused with one of these.
pub fn involved(index: &[Glance], reading: &mut Reading) -> (Vec<u64>, Rest) {
    reading.unchanged.index();
    let stays = |glance: &Glance| {
        glance.listed && !glance.pending && reading.unchanged.was_met(glance.fingerprint)
    };
    let (mut uids, mut stems, mut titles) = (HashSet::new(), HashSet::new(), HashSet::new());
    let fresh = reading.events.iter().map(|(event, _)| Marks::of(event));
    let touched = index.iter().filter(|glance| !stays(glance)).map(|glance| glance.marks);
    for marks in fresh.chain(touched) {
        uids.insert(marks.uid);
        stems.insert(marks.stem);
        titles.insert(marks.title);
    }
    stems.extend(reading.restated.iter().map(|stem| hash(stem)));
    let taken = taken(index, &reading.events);
    let mut keys = Vec::new();
    let mut rest = Rest::default();
    for glance in index {
        let Marks { uid, stem, title } = glance.marks;
        let confusable = uids.contains(&uid) || stems.contains(&stem) || titles.contains(&title);
        if !stays(glance) || confusable || taken.contains(&glance.key) {
            keys.push(glance.key);
        } else {
            rest.listed += 1;
            rest.upcoming += usize::from(glance.upcoming);
            rest.last_start = rest.last_start.max(Some(glance.starts));
        }
    }
    (keys, rest)
}

/// Hashes of the keys that new events would have, but that are those of events which have moved on
/// to other UIDs.
fn taken(index: &[Glance], fresh: &[(Event, u128)]) -> HashSet<u64> {
    let mut wanted: HashMap<u64, EventKey> = HashMap::new();
    for (event, _) in fresh {
        let key = identity::key(event, false);
        wanted.insert(key.hash64(), key);
    }
    let mut taken = HashSet::new();
    loop {
        let met: Vec<EventKey> =
            index.iter().filter_map(|glance| wanted.remove(&glance.key)).collect();
        if met.is_empty() {
            return taken;
        }
        for key in met {
            taken.insert(key.hash64());
            let next = next_key(key);
            wanted.insert(next.hash64(), next);
        }
    }
}

/// The key of an event whose own is taken.
fn next_key(mut key: EventKey) -> EventKey {
    key.0.push('\'');
    key
}

/// Compares a reading with what is known: with those events that are [`involved`], and `rest` for
/// all others. Pure; the order of either side does not matter.
pub fn diff(known: Vec<Known>, rest: &Rest, reading: Reading, cx: &Context<'_>) -> Outcome {
    let mut out = Outcome::default();
    let publisher = Publisher::of(&reading.prodid);
    let before: HashMap<EventKey, Known> =
        known.iter().map(|k| (k.key.clone(), k.clone())).collect();
    let mut rows = Rows::new(known, rest, &reading, publisher, cx, &mut out.notes);

    rows.absorb_mass_changes(&mut out.notes);
    let confirm = rows.mark_absences(rest, &reading, publisher, cx, &mut out.notes);
    rows.settle(confirm, &reading.answers, cx, &mut out);

    for (_, row) in rows.rows {
        let known = before.get(&row.known.key);
        if row.forget {
            if known.is_some() {
                out.forget.push(row.known.key);
            }
        } else if known != Some(&row.known) {
            out.write.push(row.known);
        }
    }
    out.changes.sort_by_cached_key(|c| {
        (c.after.start.instant(cx.zones, cx.zone), c.key.clone(), c.kind, c.fields.clone())
    });
    out
}

struct Row {
    known: Known,
    /// Only its stamps differ from what was known.
    restamped: bool,
    /// In the feed now.
    present: bool,
    /// Read from a slice not met before.
    fresh: bool,
    forget: bool,
}

struct Rows {
    /// By key, so that nothing depends on the order of the feed.
    rows: BTreeMap<EventKey, Row>,
}

impl Rows {
    /// Joins what is known with what was read: who is present, who is new, who moved.
    fn new(
        known: Vec<Known>,
        rest: &Rest,
        reading: &Reading,
        publisher: Publisher,
        cx: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let mut fresh: Vec<(Event, u128)> = reading.events.clone();
        fresh.sort_by(|a, b| (&a.0.uid, a.1).cmp(&(&b.0.uid, b.1)));
        for (event, _) in &mut fresh {
            publisher.normalise(event);
        }
        // Parts of a calendar overlap; of two texts of one event the newer one counts.
        identity::newest(&mut fresh, |(event, _)| event);

        let mut rows: Vec<Row> = known
            .into_iter()
            .map(|known| {
                let present = reading.unchanged.was_met(known.fingerprint)
                    || reading.present.contains(&known.seen.uid);
                Row { known, restamped: false, present, fresh: false, forget: false }
            })
            .collect();

        let mut stems: HashMap<String, usize> = HashMap::new();
        let staying = rows.iter().filter(|r| r.present).map(|r| &r.known.seen);
        for event in staying.chain(fresh.iter().map(|(event, _)| event)) {
            if let Some(stem) = identity::stem(&event.uid).filter(|_| event.recurrence_id.is_none())
            {
                *stems.entry(stem).or_default() += 1;
            }
        }
        let key_of = |event: &Event| {
            let shared = identity::stem(&event.uid).and_then(|s| stems.get(&s).copied());
            identity::key(event, shared.unwrap_or(1) <= 1)
        };

        // The same UID (or its steady part) is the same event, seen or not at the last poll.
        let mut by_key: HashMap<EventKey, usize> = HashMap::new();
        let mut by_uid: HashMap<EventKey, usize> = HashMap::new();
        for (index, row) in rows.iter().enumerate() {
            by_key.insert(key_of(&row.known.seen), index);
            by_uid.insert(identity::key(&row.known.seen, false), index);
        }
        let mut appeared = Vec::new();
        for (event, fingerprint) in fresh {
            let same_uid = by_uid.get(&identity::key(&event, false));
            match same_uid.or_else(|| by_key.get(&key_of(&event))).copied() {
                // Both the old text and another are in the feed: the newer one counts.
                Some(index) if rows[index].present => {
                    if identity::age(&event) > identity::age(&rows[index].known.seen) {
                        rows[index].read(event, fingerprint);
                    }
                }
                Some(index) => rows[index].read(event, fingerprint),
                None => appeared.push((event, fingerprint)),
            }
        }

        let vanished: Vec<usize> = (0..rows.len())
            .filter(|&i| {
                let row = &rows[i];
                !row.present
                    && row.known.presence != Presence::Unlisted
                    && end(&row.known.seen, cx) > cx.now
            })
            .collect();
        let pairs = {
            let old: Vec<&Event> = vanished.iter().map(|&i| &rows[i].known.seen).collect();
            let new: Vec<&Event> = appeared.iter().map(|(event, _)| event).collect();
            let others: Vec<&str> =
                rows.iter().filter(|r| r.present).map(|r| r.known.seen.summary.as_str()).collect();
            identity::rematch(&old, &new, &others, cx.zones, cx.zone)
        };
        let mut appeared: Vec<Option<(Event, u128)>> = appeared.into_iter().map(Some).collect();
        let mut churned = 0;
        for (i, j) in pairs {
            let row = &mut rows[vanished[i]];
            if let Some((event, fingerprint)) = appeared[j].take() {
                let same_time = event.start.instant(cx.zones, cx.zone)
                    == row.known.seen.start.instant(cx.zones, cx.zone);
                churned += usize::from(same_time);
                row.read(event, fingerprint);
            }
        }
        if churned >= MASS_CHANGE && churned * 2 > rest.listed + rows.len() {
            notes.push(Note::UidsChurn { events: churned });
        }

        let mut rows: BTreeMap<EventKey, Row> =
            rows.into_iter().map(|row| (row.known.key.clone(), row)).collect();
        for (event, fingerprint) in appeared.into_iter().flatten() {
            let mut key = identity::key(&event, false);
            // The key of an event that has since moved on to another UID.
            while rows.contains_key(&key) {
                key = next_key(key);
            }
            let known = Known {
                key: key.clone(),
                fingerprint,
                told: Told::Nothing,
                seen: event,
                presence: Presence::Listed,
                since: None,
                revision: u64::try_from(cx.now.as_second()).unwrap_or(0),
            };
            rows.insert(
                key,
                Row { known, restamped: false, present: true, fresh: true, forget: false },
            );
        }
        let mut rows = Rows { rows };
        rows.judge(reading);
        if cx.baseline {
            for row in rows.rows.values_mut() {
                row.known.told = Told::Listed(row.known.seen.clone());
            }
        }
        rows.anchor_overrides(cx);
        rows
    }

    /// Applies what the publisher's site says.
    fn judge(&mut self, reading: &Reading) {
        for (key, row) in &mut self.rows {
            let before = row.known.seen.status;
            match (reading.answers.get(key), &reading.statuses) {
                (Some(Answer::Known(verdict)), _) => {
                    let off = Some(verdict.clone()).filter(|verdict| !verdict.status.is_on());
                    row.known.seen.judge(off);
                }
                // Only what stands in the feed was asked about.
                (_, Some(statuses)) if row.present => {
                    let stem = identity::stem(&row.known.seen.uid);
                    let verdict = stem.and_then(|stem| statuses.get(&stem).cloned());
                    row.known.seen.judge(verdict);
                }
                _ => {}
            }
            // Another status is another version, which must last like any other.
            row.fresh |= row.known.seen.status != before;
        }
    }

    /// An override is news only where it differs from what its series says of that day, and an
    /// override taken back means that the day follows the series again.
    fn anchor_overrides(&mut self, cx: &Context<'_>) {
        let masters: HashMap<Uid, Event> = self
            .rows
            .values()
            .filter(|r| r.present && !r.known.seen.recurrence.is_empty())
            .map(|r| (r.known.seen.uid.clone(), r.known.seen.clone()))
            .collect();
        // What the audience knows of the series, which may lag behind what the feed says.
        let told: HashMap<Uid, Event> = self
            .rows
            .values()
            .filter(|r| !r.known.seen.recurrence.is_empty())
            .filter_map(|r| match &r.known.told {
                Told::Listed(event) => Some((r.known.seen.uid.clone(), event.clone())),
                _ => None,
            })
            .collect();
        for row in self.rows.values_mut() {
            let Some(id) = row.known.seen.recurrence_id.clone() else { continue };
            let uid = row.known.seen.uid.clone();
            if row.present && row.known.told == Told::Nothing {
                if let Some(master) = told.get(&uid) {
                    row.known.told = Told::Listed(occurrence_of(master, &id, cx));
                }
            } else if !row.present
                && let Some(master) = masters.get(&uid)
            {
                row.known.seen = occurrence_of(master, &id, cx);
                row.known.fingerprint = 0;
                row.present = true;
                row.forget = matches!(&row.known.told, Told::Listed(old)
                    if compare(old, &row.known.seen, cx).is_empty());
            }
        }
    }

    /// Takes over, untold, a value that replaced the same other value in many events at once.
    fn absorb_mass_changes(&mut self, notes: &mut Vec<Note>) {
        type Sets = (BTreeSet<String>, BTreeSet<String>);
        let mut categories: HashMap<Sets, Vec<EventKey>> = HashMap::new();
        let mut places: HashMap<(String, String), Vec<EventKey>> = HashMap::new();
        for (key, row) in self.rows.iter().filter(|(_, r)| r.fresh) {
            let Told::Listed(old) = &row.known.told else { continue };
            let new = &row.known.seen;
            if old.categories != new.categories {
                let a: BTreeSet<String> = old.categories.iter().cloned().collect();
                let b: BTreeSet<String> = new.categories.iter().cloned().collect();
                let sets =
                    (a.difference(&b).cloned().collect(), b.difference(&a).cloned().collect());
                categories.entry(sets).or_default().push(key.clone());
            }
            // A venue renamed is worth telling; a place that comes out of nowhere, or goes there,
            // in many events at once is not.
            if old.location != new.location && (old.location.is_empty() || new.location.is_empty())
            {
                let pair = (old.location.clone(), new.location.clone());
                places.entry(pair).or_default().push(key.clone());
            }
        }
        for ((from, to), keys) in categories {
            if keys.len() < MASS_CHANGE || from.is_empty() || to.is_empty() {
                continue;
            }
            for key in &keys {
                self.edit_told(key, |old, new| {
                    old.categories.clone_from(&new.categories);
                    old.categories_raw.clone_from(&new.categories_raw);
                });
            }
            notes.push(Note::CategoriesRenamed {
                from: from.into_iter().collect(),
                to: to.into_iter().collect(),
                events: keys.len(),
            });
        }
        for keys in places.values().filter(|keys| keys.len() >= MASS_CHANGE) {
            for key in keys {
                self.edit_told(key, |old, new| old.location.clone_from(&new.location));
            }
        }
    }

    fn edit_told(&mut self, key: &EventKey, edit: impl Fn(&mut Event, &Event)) {
        if let Some(row) = self.rows.get_mut(key)
            && let Told::Listed(old) = &mut row.known.told
        {
            edit(old, &row.known.seen);
        }
    }

    /// Decides of every event that is not in the feed whether that means anything, and how long
    /// it must last to be believed.
    fn mark_absences(
        &mut self,
        rest: &Rest,
        reading: &Reading,
        publisher: Publisher,
        cx: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> SignedDuration {
        let starts = |row: &Row| row.known.seen.start.instant(cx.zones, cx.zone);
        let listed = self.rows.values().filter(|r| r.present);
        let last_of_rest = rest.last_start.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let last_start = listed.clone().map(starts).chain(last_of_rest).max();
        let count = rest.listed + listed.clone().count();
        let full = publisher.window().is_some_and(|window| count >= window);
        // Only an event that came in before it can push another one out of a window.
        let first_entered =
            listed.filter(|r| r.fresh && r.known.told == Told::Nothing).map(starts).min();

        let (mut missing, mut expected) = (0, rest.upcoming);
        for row in self.rows.values_mut() {
            let start = starts(row);
            let upcoming = start > cx.now && row.known.seen.recurrence.is_empty()
                || !row.known.seen.recurrence.is_empty() && end(&row.known.seen, cx) > cx.now;
            if row.present {
                row.known.presence = Presence::Listed;
                expected += usize::from(upcoming && row.known.told != Told::Nothing);
                continue;
            }
            if end(&row.known.seen, cx).saturating_add(FORGET_AFTER).is_ok_and(|at| at < cx.now) {
                row.forget = true;
            }
            if !reading.complete {
                continue;
            }
            if matches!(row.known.told, Told::Withdrawn(_)) {
                // Even if it had come back for a moment.
                row.known.presence = Presence::Missing;
                row.known.since = None;
                continue;
            }
            let beyond = last_start.is_some_and(|last| start >= last)
                && (full || first_entered.is_some_and(|entered| entered <= start));
            if !upcoming || beyond {
                row.known.presence = Presence::Unlisted;
            } else if row.known.presence != Presence::Unlisted {
                if row.known.presence == Presence::Listed {
                    row.known.since = None;
                }
                row.known.presence = Presence::Missing;
                missing += 1;
                expected += 1;
            }
        }
        let nothing_left = last_start.is_none() && missing > 0;
        let most_gone = missing > 3.max(expected * 3 / 10);
        if (nothing_left || most_gone) && !cx.confirm.is_zero() {
            notes.push(Note::MassLoss { missing, listed: expected });
            return cx.confirm.max(MASS_LOSS_CONFIRM);
        }
        cx.confirm
    }

    /// Tells what has lasted long enough.
    fn settle(
        &mut self,
        confirm: SignedDuration,
        answers: &HashMap<EventKey, Answer>,
        cx: &Context<'_>,
        out: &mut Outcome,
    ) {
        let listed: HashMap<(String, Timestamp), usize> =
            self.rows.values().filter(|r| r.present).fold(HashMap::new(), |mut map, row| {
                let seen = &row.known.seen;
                let start = seen.start.instant(cx.zones, cx.zone);
                *map.entry((seen.summary.to_lowercase(), start)).or_default() += 1;
                map
            });
        let overridden: HashSet<EventKey> = self.rows.keys().cloned().collect();
        for row in self.rows.values_mut().filter(|row| !row.forget) {
            let known = &mut row.known;
            let gone = match known.presence {
                Presence::Unlisted => {
                    known.since = None;
                    continue;
                }
                Presence::Missing => true,
                Presence::Listed if !row.present => continue,
                Presence::Listed => false,
            };
            let answer = answers.get(&known.key);
            let told_of = matches!(known.told, Told::Listed(_));
            if answer.is_none()
                && told_of
                && (gone || row.restamped && end(&known.seen, cx) > cx.now)
            {
                let (key, event) = (known.key.clone(), known.seen.clone());
                out.questions.push(Question { key, event, absent: gone });
            }
            let off = !known.seen.status.is_on();
            let (kind, before, fields) = match (&known.told, gone) {
                (Told::Nothing, true) => {
                    row.forget = true;
                    continue;
                }
                (Told::Nothing, false) => (ChangeKind::New, None, Vec::new()),
                (Told::Withdrawn(_), true) => continue,
                (Told::Withdrawn(_), false) if off => {
                    known.told = Told::Listed(known.seen.clone());
                    continue;
                }
                (Told::Withdrawn(old), false) => {
                    (ChangeKind::Reinstated, Some(old.clone()), compare(old, &known.seen, cx))
                }
                (Told::Listed(old), true) => match answer {
                    // It has only left the list: its page says that it is to take place.
                    Some(Answer::Known(_)) if !off => {
                        known.presence = Presence::Unlisted;
                        known.since = None;
                        continue;
                    }
                    Some(Answer::Known(_)) => {
                        let fields = vec![Field::Status];
                        (classify(old, &known.seen, &fields), Some(old.clone()), fields)
                    }
                    Some(Answer::Gone) | None => {
                        (ChangeKind::Missing, Some(old.clone()), Vec::new())
                    }
                },
                (Told::Listed(old), false) => {
                    let fields = compare(old, &known.seen, cx);
                    if fields.is_empty() && taken_out(old, &known.seen, cx).is_empty() {
                        known.since = None;
                        continue;
                    }
                    (classify(old, &known.seen, &fields), Some(old.clone()), fields)
                }
            };

            // A version not read before starts the wait anew.
            let since = match known.since {
                Some(since) if !row.fresh || gone => since,
                _ => cx.now,
            };
            known.since = Some(since);
            // An absence that the site explains needs no further proof; but when most of a feed is
            // gone, a site that has lost them too may be just as broken.
            let unproven = gone
                && match answer {
                    None => true,
                    Some(Answer::Gone) => confirm > cx.confirm,
                    Some(Answer::Known(_)) => false,
                };
            let (wait, lasted) = match unproven {
                true => (confirm, since.saturating_add(confirm).is_ok_and(|at| at <= cx.now)),
                false => (cx.settle, since < cx.now),
            };
            if !(wait.is_zero() || lasted && since < cx.now) {
                if let Ok(at) = since.saturating_add(wait) {
                    out.recheck_at = Some(out.recheck_at.map_or(at, |other| other.min(at)));
                }
                continue;
            }

            known.since = None;
            known.revision += 1;
            let was_off = before.as_ref().is_some_and(|old| !old.status.is_on());
            let same =
                (known.seen.summary.to_lowercase(), known.seen.start.instant(cx.zones, cx.zone));
            let change = Change {
                key: known.key.clone(),
                kind,
                before,
                after: known.seen.clone(),
                fields,
                duplicate: kind == ChangeKind::New && listed.get(&same).is_some_and(|n| *n > 1),
                revision: known.revision,
            };
            cancelled_dates(&change, &overridden, cx, &mut out.changes);
            known.told = match gone {
                true => Told::Withdrawn(known.seen.clone()),
                false => Told::Listed(known.seen.clone()),
            };
            // That it is off was told; that it is gone as well is no news.
            let no_news =
                gone && was_off || change.fields.is_empty() && kind == ChangeKind::Updated;
            if !no_news {
                out.changes.push(change);
            }
        }
    }
}

impl Row {
    fn read(&mut self, mut event: Event, fingerprint: u128) {
        self.present = true;
        // What the site said holds until it says otherwise.
        let said = self.known.seen.judged.take();
        self.known.seen.status = said.as_ref().map_or(self.known.seen.status, |said| said.stated);
        // The same text but for its stamps is no new version.
        let same = same_text(&self.known.seen, &event);
        self.restamped = same && self.known.seen.last_modified != event.last_modified;
        self.fresh = !same || self.known.presence != Presence::Listed;
        event.judge(said.map(|said| said.verdict));
        self.known.seen = event;
        self.known.fingerprint = fingerprint;
    }
}

fn same_text(a: &Event, b: &Event) -> bool {
    let strip = |event: &Event| Event {
        uid: Uid::default(),
        sequence: 0,
        created: None,
        last_modified: None,
        ..event.clone()
    };
    strip(a) == strip(b)
}

/// The dates that an EXDATE newly takes out of a series whose rules stay the same.
fn taken_out<'a>(old: &Event, new: &'a Event, cx: &Context<'_>) -> Vec<&'a When> {
    if old.recurrence.rules.is_empty() || old.recurrence.rules != new.recurrence.rules {
        return Vec::new();
    }
    let at = |when: &When| when.instant(cx.zones, cx.zone);
    let before: HashSet<Timestamp> = old.recurrence.exdates.iter().map(at).collect();
    let dates = new.recurrence.exdates.iter();
    dates.filter(|date| at(date) > cx.now && !before.contains(&at(date))).collect()
}

/// One cancellation for each date newly taken out of a series, unless an override stands for it.
fn cancelled_dates(
    change: &Change,
    overridden: &HashSet<EventKey>,
    cx: &Context<'_>,
    changes: &mut Vec<Change>,
) {
    let Some(before) = &change.before else { return };
    for date in taken_out(before, &change.after, cx) {
        let was = occurrence_of(before, date, cx);
        if overridden.contains(&identity::key(&was, true)) {
            continue;
        }
        changes.push(Change {
            key: change.key.clone(),
            kind: ChangeKind::Cancelled,
            after: Event { status: Status::Cancelled, ..was.clone() },
            before: Some(was),
            fields: vec![Field::Status],
            duplicate: false,
            revision: change.revision,
        });
    }
}

/// What the series says of one of its days.
fn occurrence_of(master: &Event, id: &When, cx: &Context<'_>) -> Event {
    let length = master
        .end
        .instant(cx.zones, cx.zone)
        .duration_since(master.start.instant(cx.zones, cx.zone));
    let end = id.local().saturating_add(length);
    Event {
        start: id.clone(),
        end: match id {
            When::AllDay(_) => When::AllDay(end.date()),
            When::Zoned { zone, .. } => When::Zoned { local: end, zone: zone.clone() },
            When::Floating(_) => When::Floating(end),
        },
        recurrence_id: Some(id.clone()),
        recurrence: Default::default(),
        ..master.clone()
    }
}

/// The end of an event, of its last occurrence where it recurs.
fn end(event: &Event, cx: &Context<'_>) -> Timestamp {
    recur::bounds(event, cx.zones, cx.zone).1
}

fn classify(old: &Event, new: &Event, fields: &[Field]) -> ChangeKind {
    if fields.contains(&Field::Status) {
        match (old.status.is_on(), new.status) {
            (true, Status::Cancelled) => return ChangeKind::Cancelled,
            (_, Status::Postponed) => return ChangeKind::Postponed,
            (false, status) if status.is_on() => return ChangeKind::Reinstated,
            _ => {}
        }
    }
    let moved = [Field::Start, Field::End, Field::AllDay];
    match fields.iter().any(|field| moved.contains(field)) {
        true => ChangeKind::Rescheduled,
        false => ChangeKind::Updated,
    }
}

/// Which parts differ in a way that means something. Two spellings of one instant, other white
/// space, another order of categories mean nothing; nor does the picture.
pub fn compare(old: &Event, new: &Event, cx: &Context<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut note = |differs: bool, field: Field| {
        if differs {
            fields.push(field);
        }
    };
    note(!same_words(&old.summary, &new.summary), Field::Summary);
    let recurs = !old.recurrence.is_empty() || !new.recurrence.is_empty();
    if recurs {
        // Dates taken out are told one by one, by `cancelled_dates`.
        let without = [old.recurrence.exdates.as_slice(), &new.recurrence.exdates].concat();
        let (a, b) = (upcoming(old, &without, cx), upcoming(new, &without, cx));
        // A series whose days and hours stay is not moved by a new first day.
        note(a.is_empty() != b.is_empty() || shifted(&a, &b), Field::Start);
        let same_starts = a.iter().map(|one| one.0).eq(b.iter().map(|one| one.0));
        note(a != b && same_starts, Field::End);
        note(a != b && !same_starts && !shifted(&a, &b), Field::Recurrence);
    } else {
        let at = |when: &When| when.instant(cx.zones, cx.zone);
        let all_day = old.is_all_day() != new.is_all_day();
        note(all_day, Field::AllDay);
        note(at(&old.start) != at(&new.start), Field::Start);
        note(at(&old.end) != at(&new.end), Field::End);
    }
    note(!same_words(&old.location, &new.location), Field::Location);
    note(!same_words(&old.description, &new.description), Field::Description);
    note(old.categories != new.categories, Field::Categories);
    note(old.organizer != new.organizer, Field::Organizer);
    note(old.url != new.url, Field::Url);
    note(old.join != new.join, Field::Join);
    note(
        old.status.is_on() != new.status.is_on() || {
            !old.status.is_on() && old.status != new.status
        },
        Field::Status,
    );
    fields
}

/// Every occurrence at the same distance from the one it replaces: the series as a whole moved.
fn shifted(a: &[(Timestamp, Timestamp)], b: &[(Timestamp, Timestamp)]) -> bool {
    let mut shifts = a.iter().zip(b).map(|(a, b)| b.0.duration_since(a.0));
    let first = shifts.next();
    first.is_some_and(|first| !first.is_zero() && shifts.all(|shift| shift == first))
        && a.len() == b.len()
}

/// The next few occurrences.
fn upcoming(event: &Event, without: &[When], cx: &Context<'_>) -> Vec<(Timestamp, Timestamp)> {
    let mut event = event.clone();
    event.recurrence.exdates = without.to_vec();
    let from = cx.now.max(event.start.instant(cx.zones, cx.zone));
    let to = from.saturating_add(SignedDuration::from_hours(24 * 400)).unwrap_or(Timestamp::MAX);
    let events = std::slice::from_ref(&event);
    let expansion = recur::expand(events, Window { from, to }, cx.zones, cx.zone);
    expansion.occurrences.iter().take(3).map(|o| (o.start, o.end)).collect()
}

fn same_words(a: &str, b: &str) -> bool {
    a == b || a.split_whitespace().eq(b.split_whitespace())
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    /// An event of one hour in New York.
    pub(crate) fn event(uid: &str, summary: &str, start: &str) -> Event {
        let local: jiff::civil::DateTime = start.parse().unwrap();
        let zoned = |local| When::Zoned { local, zone: "America/New_York".to_owned() };
        Event {
            uid: Uid(uid.to_owned()),
            recurrence_id: None,
            this_and_future: false,
            sequence: 0,
            status: Status::Confirmed,
            judged: None,
            start: zoned(local),
            end: zoned(local + 1.hour()),
            summary: summary.to_owned(),
            description: String::new(),
            location: String::new(),
            url: None,
            categories: Vec::new(),
            categories_raw: Vec::new(),
            organizer: None,
            image: None,
            join: None,
            recurrence: Default::default(),
            created: None,
            last_modified: None,
        }
    }

    /// A feed followed over time.
    struct Feed {
        known: Vec<Known>,
        now: Timestamp,
        settle: SignedDuration,
        confirm: SignedDuration,
        prodid: String,
    }

    impl Feed {
        fn of(events: &[Event]) -> Self {
            let mut feed = Feed {
                known: Vec::new(),
                now: "2026-11-23T12:00:00Z".parse().unwrap(),
                settle: SignedDuration::from_mins(5),
                confirm: SignedDuration::from_mins(30),
                prodid: String::new(),
            };
            assert_eq!(feed.poll(events), [""; 0], "a first reading tells nothing");
            feed
        }

        fn at_once(mut self) -> Self {
            (self.settle, self.confirm) = (SignedDuration::ZERO, SignedDuration::ZERO);
            self
        }

        /// One poll, an hour after the last; the changes as `kind key fields`.
        fn poll(&mut self, events: &[Event]) -> Vec<String> {
            self.reading(Reading {
                prodid: self.prodid.clone(),
                events: events.iter().map(|e| (e.clone(), print(e))).collect(),
                complete: true,
                ..Reading::default()
            })
            .changes
            .iter()
            .map(|c| {
                let fields: Vec<&str> = c.fields.iter().map(|f| f.as_str()).collect();
                format!("{:?} {} {}", c.kind, c.key, fields.join(",")).trim_end().to_owned()
            })
            .collect()
        }

        fn reading(&mut self, reading: Reading) -> Outcome {
            let zone = TimeZone::get("America/New_York").unwrap();
            let cx = Context {
                now: self.now,
                zones: &Zones::default(),
                zone: &zone,
                settle: self.settle,
                confirm: self.confirm,
                baseline: self.known.is_empty(),
            };
            let out = self.compared(reading, &cx);
            let mut rows: BTreeMap<_, _> =
                self.known.drain(..).map(|k| (k.key.clone(), k)).collect();
            out.forget.iter().for_each(|key| drop(rows.remove(key)));
            rows.extend(out.write.iter().map(|k| (k.key.clone(), k.clone())));
            self.known = rows.into_values().collect();
            self.now += 1.hour();
            out
        }

        /// Given all events, and given those alone that are involved, the outcome is the same.
        fn compared(&self, mut reading: Reading, cx: &Context<'_>) -> Outcome {
            // What was met the last time need not be read again.
            let mut unchanged = Fingerprints::new(
                self.known
                    .iter()
                    .filter(|known| known.presence == Presence::Listed)
                    .map(|known| known.fingerprint)
                    .collect(),
            );
            let known = self.known.clone();
            let all = diff(known, &Rest::default(), reading.clone(), cx);
            reading.events.retain(|(_, print)| !unchanged.meet(*print));
            reading.unchanged = unchanged;
            let index: Vec<Glance> = self.known.iter().map(|known| glance(known, cx)).collect();
            let (keys, rest) = involved(&index, &mut reading);
            let known = self.known.iter().filter(|k| keys.contains(&k.key.hash64()));
            let some = diff(known.cloned().collect(), &rest, reading, cx);
            assert_eq!(some.changes, all.changes);
            assert_eq!(some.recheck_at, all.recheck_at);
            some
        }
    }

    fn glance(known: &Known, cx: &Context<'_>) -> Glance {
        let (starts, ends) = recur::bounds(&known.seen, cx.zones, cx.zone);
        Glance {
            key: known.key.hash64(),
            fingerprint: known.fingerprint,
            starts: starts.as_millisecond(),
            marks: Marks::of(&known.seen),
            listed: known.presence == Presence::Listed,
            pending: known.since.is_some(),
            upcoming: ends > cx.now,
        }
    }

    fn print(event: &Event) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&serde_json::to_vec(event).unwrap())
    }

    fn talks() -> Vec<Event> {
        (1..=6)
            .map(|day| {
                let start = format!("2026-12-0{day}T12:00");
                Event {
                    location: format!("Room {day}"),
                    ..event(&format!("talk-{day}"), &format!("Talk {day}"), &start)
                }
            })
            .collect()
    }

    #[test]
    fn the_same_feed_is_no_change_in_any_order() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        events.reverse();
        events[0].sequence = 7;
        events[1].last_modified = Some(feed.now);
        events[2].summary = "Talk  4 ".into();
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert!(feed.known.iter().all(|known| known.since.is_none()));
    }

    #[test]
    fn a_change_is_told_once_when_it_has_lasted() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        events[1].summary = "Talk 2: now with a title".into();
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), ["Updated talk-2 summary"]);
        assert_eq!(feed.poll(&events), [""; 0]);
    }

    #[test]
    fn a_burst_is_one_change_and_a_flap_is_none() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        let before = events.clone();
        events[0].summary = "Typo".into();
        feed.poll(&events);
        events[0].summary = "Fixed".into();
        events[0].location = "Hall".into();
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), ["Updated talk-1 summary,location"]);
        feed.poll(&before);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), [""; 0]);
    }

    #[test]
    fn a_recheck_is_asked_for_after_the_settle_time() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        events.push(event("new", "New", "2026-12-02T09:00"));
        let now = feed.now;
        let events = events.iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events, complete: true, ..Reading::default() });
        assert_eq!(out.recheck_at, Some(now + 5.minutes()));
    }

    #[test]
    fn a_new_event_is_new_once_and_never_if_it_was_a_slip() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        events.push(event("new", "New", "2026-12-02T09:00"));
        feed.poll(&events);
        assert_eq!(feed.poll(&events), ["New new"]);
        assert_eq!(feed.poll(&events), [""; 0]);
        let slip = [events.clone(), vec![event("slip", "Slip", "2026-12-02T10:00")]].concat();
        feed.poll(&slip);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert!(feed.known.iter().all(|known| known.key.0 != "slip"));
    }

    #[test]
    fn a_moved_event_with_a_new_uid_is_rescheduled() {
        let mut events = talks();
        events[2].uid = Uid("9-1796212800-1796217300@x".into());
        let mut feed = Feed::of(&events).at_once();
        let moved = event("9-1796225400-1796229900@x", "Talk 3", "2026-12-03T15:30");
        events[2] = Event { location: "Room 3".into(), ..moved };
        assert_eq!(feed.poll(&events), ["Rescheduled 9-1796212800-1796217300@x start,end"]);
        // The row keeps the key of its first sight.
        assert_eq!(feed.poll(&events), [""; 0]);
    }

    #[test]
    fn the_same_instant_in_another_zone_is_no_change() {
        let mut events = talks();
        let mut feed = Feed::of(&events).at_once();
        let zone = "Europe/Lisbon".to_owned();
        let at = |text: &str| When::Zoned { local: text.parse().unwrap(), zone: zone.clone() };
        events[0].start = at("2026-12-01T17:00");
        events[0].end = at("2026-12-01T18:00");
        assert_eq!(feed.poll(&events), [""; 0]);
    }

    #[test]
    fn absence_is_told_after_two_readings_half_an_hour_apart() {
        let mut events = talks();
        let mut feed = Feed::of(&events);
        events.remove(2);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events), ["Missing talk-3"]);
        assert_eq!(feed.poll(&events), [""; 0]);
        let all = talks();
        feed.poll(&all);
        assert_eq!(feed.poll(&all), ["Reinstated talk-3"]);
        assert_eq!(feed.poll(&all), [""; 0]);
    }

    #[test]
    fn a_short_absence_is_not_told() {
        let mut feed = Feed::of(&talks());
        feed.poll(&talks()[1..]);
        assert_eq!(feed.poll(&talks()), [""; 0]);
        assert_eq!(feed.poll(&talks()), [""; 0]);
    }

    #[test]
    fn half_an_answer_removes_nothing() {
        let mut feed = Feed::of(&talks());
        for _ in 0..3 {
            let events = talks()[..2].iter().map(|e| (e.clone(), print(e))).collect();
            let out = feed.reading(Reading { events, complete: false, ..Reading::default() });
            assert_eq!(out.changes, []);
        }
    }

    #[test]
    fn an_emptied_feed_is_held_back_for_a_day() {
        let mut feed = Feed::of(&talks());
        let empty = Reading { complete: true, ..Reading::default() };
        let out = feed.reading(empty.clone());
        assert_eq!(out.notes, [Note::MassLoss { missing: 6, listed: 6 }]);
        for _ in 0..23 {
            assert_eq!(feed.reading(empty.clone()).changes, []);
        }
        assert_eq!(feed.reading(empty.clone()).changes.len(), 6);
        assert_eq!(feed.reading(empty).changes, []);
    }

    #[test]
    fn events_that_have_begun_leave_without_a_word() {
        let mut feed = Feed::of(&talks()).at_once();
        feed.now = "2026-12-02T18:00:00Z".parse().unwrap();
        assert_eq!(feed.poll(&talks()[2..]), [""; 0]);
    }

    #[test]
    fn what_a_nearer_event_pushes_out_is_not_withdrawn() {
        let mut feed = Feed::of(&talks()).at_once();
        let mut rolled = talks()[..5].to_vec();
        rolled.push(event("near", "Near", "2026-11-25T12:00"));
        assert_eq!(feed.poll(&rolled), ["New near"]);
        assert_eq!(feed.poll(&talks()), ["Missing near"]);
    }

    #[test]
    fn the_last_event_of_a_short_feed_can_be_withdrawn() {
        let mut feed = Feed::of(&talks()).at_once();
        assert_eq!(feed.poll(&talks()[..5]), ["Missing talk-6"]);
    }

    #[test]
    fn a_full_window_is_believed_to_go_on() {
        let many = |n: usize| -> Vec<Event> {
            (0..n)
                .map(|i| {
                    let start = format!("2026-12-{:02}T{:02}:00", 1 + i / 10, 8 + i % 10);
                    event(&format!("e{i}"), &format!("Event {i}"), &start)
                })
                .collect()
        };
        let mut feed = Feed::of(&many(31)).at_once();
        feed.prodid = "-//Example - ECPv6.16.3//NONSGML v1.0//EN".into();
        assert_eq!(feed.poll(&many(30)), [""; 0]);
    }

    #[test]
    fn one_switch_that_changes_many_events_is_not_news_of_each() {
        let mut events = talks();
        events.iter_mut().for_each(|e| e.categories = vec!["Career".into()]);
        events[5].location.clear();
        let mut feed = Feed::of(&events).at_once();
        events.iter_mut().for_each(|e| e.categories = vec!["Careers & Jobs".into()]);
        let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
        assert_eq!(out.changes, []);
        assert_eq!(
            out.notes,
            [Note::CategoriesRenamed {
                from: vec!["Career".into()],
                to: vec!["Careers & Jobs".into()],
                events: 6
            }]
        );
        // A venue renamed is told of each event, a place out of nowhere in many is not.
        events.iter_mut().take(5).for_each(|e| e.location = "Hall".into());
        assert_eq!(feed.poll(&events).len(), 5);
        events.iter_mut().take(5).for_each(|e| e.location.clear());
        assert_eq!(feed.poll(&events), [""; 0]);
    }

    #[test]
    fn a_uid_that_an_event_has_left_names_another_one() {
        let mut feed = Feed::of(&talks()).at_once();
        let mut events = talks();
        events[0].uid = Uid("moved-on".into());
        assert_eq!(feed.poll(&events), [""; 0]);
        // Twice: the second finds the key of the first taken, too.
        for n in 1..=2 {
            let start = format!("2026-12-1{n}T12:00");
            events.push(event("talk-1", &format!("Another {n}"), &start));
            let key = format!("talk-1{}", "'".repeat(n));
            assert_eq!(feed.poll(&events), [format!("New {key}")]);
            assert_eq!(feed.known.len(), 6 + n);
            events.last_mut().unwrap().uid = Uid(format!("moved-on-{n}"));
            assert_eq!(feed.poll(&events), [""; 0]);
        }
    }

    #[test]
    fn new_uids_on_every_fetch_are_noticed_and_not_told() {
        let mut feed = Feed::of(&talks());
        for round in 0..3 {
            let mut events = talks();
            events.iter_mut().for_each(|e| e.uid = Uid(format!("{}-{round}", e.uid)));
            let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
            let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
            assert_eq!(out.changes, []);
            assert_eq!(out.notes, [Note::UidsChurn { events: 6 }]);
        }
    }

    #[test]
    fn status_says_more_than_absence() {
        let mut events = talks();
        let mut feed = Feed::of(&events).at_once();
        events[0].status = Status::Cancelled;
        assert_eq!(feed.poll(&events), ["Cancelled talk-1 status"]);
        events[0].status = Status::Confirmed;
        assert_eq!(feed.poll(&events), ["Reinstated talk-1 status"]);
        events[0].status = Status::Postponed;
        assert_eq!(feed.poll(&events), ["Postponed talk-1 status"]);
    }

    #[test]
    fn what_the_site_said_holds_for_an_event_that_has_left_the_list() {
        let mut events = talks();
        events[5].uid = Uid("6-1796644800-1796648400@example.edu".into());
        let mut feed = Feed::of(&events).at_once();
        let stem = "6@example.edu".to_owned();
        let verdict = Verdict { status: Status::Cancelled, reason: None };
        let uid = events[5].uid.clone();
        let mut status = |events: &[Event], off: &[(String, Verdict)]| {
            feed.reading(Reading {
                events: events.iter().map(|e| (e.clone(), print(e))).collect(),
                complete: true,
                statuses: Some(off.iter().cloned().collect()),
                restated: [stem.clone()].into(),
                ..Reading::default()
            });
            feed.known.iter().find(|known| known.seen.uid == uid).unwrap().seen.status
        };
        let off = [(stem.clone(), verdict)];
        assert_eq!(status(&events, &off), Status::Cancelled);
        assert_eq!(status(&events[..5], &[]), Status::Cancelled, "it was not asked about");
        assert_eq!(status(&events, &[]), Status::Confirmed);
    }

    #[test]
    fn what_comes_back_for_a_moment_only_stays_withdrawn() {
        let mut feed = Feed::of(&talks());
        let told: Vec<_> = (0..3).flat_map(|_| feed.poll(&talks()[1..])).collect();
        assert_eq!(told, ["Missing talk-1"]);
        for events in [&talks()[..], &talks()[1..], &talks()[..]] {
            assert_eq!(feed.poll(events), [""; 0]);
        }
        assert_eq!(feed.poll(&talks()), ["Reinstated talk-1"], "when it has lasted");
    }

    #[test]
    fn what_is_off_leaves_without_another_word() {
        for status in [Status::Cancelled, Status::Postponed] {
            let mut events = talks();
            let mut feed = Feed::of(&events).at_once();
            events[0].status = status;
            assert_eq!(feed.poll(&events).len(), 1);
            assert_eq!(feed.poll(&events[1..]), [""; 0]);
            assert_eq!(feed.poll(&events), [""; 0]);
            assert_eq!(feed.poll(&events[1..]), [""; 0]);
            events[0].status = Status::Confirmed;
            assert_eq!(feed.poll(&events), ["Reinstated talk-1 status"]);
        }
    }

    #[test]
    fn a_second_entry_of_an_event_is_marked() {
        let mut events = talks();
        let mut feed = Feed::of(&events).at_once();
        events.push(event("copy", "talk 1", "2026-12-01T12:00"));
        let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
        assert!(out.changes[0].duplicate);
        assert_eq!(out.changes.len(), 1);
    }

    fn weekly() -> Event {
        let mut weekly = event("weekly", "Tea", "2026-11-04T15:00");
        weekly.recurrence.rules = vec!["FREQ=WEEKLY".into()];
        weekly
    }

    #[test]
    fn a_series_whose_first_day_is_trimmed_has_not_moved() {
        let mut feed = Feed::of(&[weekly()]).at_once();
        let mut later = event("weekly", "Tea", "2026-11-25T15:00");
        later.recurrence.rules = vec!["FREQ=WEEKLY;BYDAY=WE".into()];
        assert_eq!(feed.poll(&[later]), [""; 0]);
        let mut moved = event("weekly", "Tea", "2026-11-25T16:00");
        moved.recurrence.rules = vec!["FREQ=WEEKLY;BYDAY=WE".into()];
        assert_eq!(feed.poll(&[moved]), ["Rescheduled weekly start"]);
    }

    #[test]
    fn one_day_of_a_series_can_move_and_move_back() {
        let mut feed = Feed::of(&[weekly()]).at_once();
        let mut override_ = event("weekly", "Tea", "2026-12-02T17:00");
        override_.recurrence_id = Some(event("", "", "2026-12-02T15:00").start);
        let key = "weekly#2026-12-02T15:00:00";
        let both = [weekly(), override_.clone()];
        assert_eq!(feed.poll(&both), [format!("Rescheduled {key} start,end")]);
        assert_eq!(feed.poll(&both), [""; 0]);
        assert_eq!(feed.poll(&[weekly()]), [format!("Rescheduled {key} start,end")]);
        assert_eq!(feed.poll(&[weekly()]), [""; 0]);
        assert_eq!(feed.known.len(), 1);
    }

    #[test]
    fn each_telling_of_an_event_is_another_even_if_it_was_forgotten() {
        let mut feed = Feed::of(&[weekly()]).at_once();
        let mut moved = event("weekly", "Tea", "2026-12-02T17:00");
        moved.recurrence_id = Some(event("", "", "2026-12-02T15:00").start);
        let mut tellings = HashSet::new();
        for _ in 0..2 {
            for events in [vec![weekly(), moved.clone()], vec![weekly()]] {
                let events = events.iter().map(|e| (e.clone(), print(e))).collect();
                let out = feed.reading(Reading { events, complete: true, ..Reading::default() });
                let [change] = out.changes.as_slice() else { panic!("{:?}", out.changes) };
                assert!(tellings.insert((change.key.clone(), change.revision)));
            }
        }
    }

    #[test]
    fn an_override_that_changes_nothing_is_not_told() {
        let mut feed = Feed::of(&[weekly()]).at_once();
        let mut same = event("weekly", "Tea", "2026-12-02T15:00");
        same.recurrence_id = Some(same.start.clone());
        assert_eq!(feed.poll(&[weekly(), same]), [""; 0]);
    }

    #[test]
    fn a_date_taken_out_of_a_series_is_cancelled() {
        let mut feed = Feed::of(&[weekly()]).at_once();
        let mut without = weekly();
        without.recurrence.exdates = vec![event("", "", "2026-12-02T15:00").start];
        assert_eq!(feed.poll(&[without.clone()]), ["Cancelled weekly status"]);
        assert_eq!(feed.poll(&[without]), [""; 0]);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let uid = prop_oneof![
            "[a-e]",
            (1..4_u8, 0..3_u8).prop_map(|(post, n)| format!("{post}-179621280{n}-179621730{n}@x")),
        ];
        let title = prop::sample::select(vec!["Talk", "Tea", "Talk 2", "", "Title TBD"]);
        (uid, title, 1..9_u8, 9..12_u8, 0..4_u8, 0..3_u8).prop_map(
            |(uid, title, day, hour, place, more)| {
                let mut event = event(&uid, title, &format!("2026-12-{day:02}T{hour:02}:00"));
                event.location = ["", "", "Hall", "Room"][usize::from(place)].to_owned();
                event.categories = vec![["A", "B"][usize::from(place % 2)].to_owned()];
                event.sequence = more.into();
                if more == 2 {
                    event.status = Status::Cancelled;
                }
                event
            },
        )
    }

    fn any_feed() -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(any_event(), 0..9).prop_map(|mut events| {
            events.sort_by(|a, b| a.uid.cmp(&b.uid));
            events.dedup_by(|a, b| a.uid == b.uid);
            events
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// However a feed came to be as it is, what is known of it in the end is what it says, all
        /// of it told, and nothing more is told.
        #[test]
        fn any_edits_end_where_a_fresh_reading_begins(
            versions in prop::collection::vec(any_feed(), 2..6),
            at_once in any::<bool>(),
        ) {
            let mut feed = Feed::of(&versions[0]);
            if at_once {
                feed = feed.at_once();
            }
            for version in &versions[1..] {
                feed.poll(version);
            }
            let last = &versions[versions.len() - 1];
            for _ in 0..30 {
                feed.poll(last);
            }
            prop_assert_eq!(feed.poll(last), [""; 0]);
            let listed: Vec<&Known> =
                feed.known.iter().filter(|k| k.presence == Presence::Listed).collect();
            prop_assert_eq!(listed.len(), last.len());
            for event in last {
                let known = listed.iter().find(|known| known.seen.uid == event.uid);
                let known = known.expect("every event of the feed is known");
                prop_assert_eq!(&known.seen, event);
                prop_assert!(known.since.is_none());
                let told = matches!(&known.told, Told::Listed(told) if same_text(told, event));
                prop_assert!(told, "{:?}", known);
            }
        }

        /// Order and stamps mean nothing, and nothing that was told is told again.
        #[test]
        fn any_shuffle_is_no_change(
            (events, shuffled) in any_feed()
                .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
            stamp in 0..3_u32,
        ) {
            let mut feed = Feed::of(&events).at_once();
            let restamped: Vec<Event> = shuffled
                .into_iter()
                .map(|event| Event {
                    sequence: event.sequence + stamp,
                    last_modified: Some(feed.now),
                    ..event
                })
                .collect();
            prop_assert_eq!(feed.poll(&restamped), [""; 0]);
        }
    }
}

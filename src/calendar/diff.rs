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
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fingerprints::Fingerprints;
use super::publisher::Publisher;
use super::{Event, EventKey, Status, Uid, Verdict, When, Window, Zones, identity, recur};

/// How long most of a feed must be gone before that is believed.
pub const MASS_LOSS_CONFIRM: SignedDuration = SignedDuration::from_hours(24);

/// So many events changed in one way at one time are one change, not many.
const MASS_CHANGE: usize = 3;

/// So many dates of a series are compared.
const MAX_UPCOMING: usize = 100;
/// New dates of a series are news if they are so near; those behind its end, if that was so near.
const SOON: SignedDuration = SignedDuration::from_hours(90 * 24);
const NEAR: SignedDuration = SignedDuration::from_hours(28 * 24);

/// How long an event that is over and gone from the feed is remembered.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A part of an event that an audience may be told has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Summary,
    Start,
    End,
    AllDay,
    Location,
    Description,
    Categories,
    Organizer,
    Url,
    Join,
    Recurrence,
    Status,
}

impl Field {
    /// The lower-case word used in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Field::Summary => "summary",
            Field::Start => "start",
            Field::End => "end",
            Field::AllDay => "all_day",
            Field::Location => "location",
            Field::Description => "description",
            Field::Categories => "categories",
            Field::Organizer => "organizer",
            Field::Url => "url",
            Field::Join => "join",
            Field::Recurrence => "recurrence",
            Field::Status => "status",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// What the publisher's site says of events, by the stem of their UID. Of an event that is not
    /// here it says nothing, and what it said before still holds.
    pub statuses: BTreeMap<String, Verdict>,
    /// Stems whose status the site gives otherwise than before.
    pub restated: BTreeSet<String>,
    /// When the feed was first read, where the site did not say then what it says now: of events
    /// read at that time and not told of since, it was so from the beginning.
    pub statuses_overdue_since: Option<Timestamp>,
    /// The feed was empty since then, and is read with events for the first time.
    pub empty_since: Option<Timestamp>,
    /// It is whole for the first time: what is met now was there before, and is told as little as
    /// what stood in the first reading.
    pub completed: bool,
    /// What the site answered to [`Outcome::questions`] of this same reading.
    pub answers: HashMap<EventKey, Answer>,
    /// Absence may be believed: the body is whole and every event in it could be named.
    pub complete: bool,
}

impl Reading {
    /// What the publisher's site says of an event, if anything.
    fn status(&self, event: &Event) -> Option<&Verdict> {
        self.statuses.get(&identity::stem(&event.uid)?)
    }
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
    /// The first reading ever: everything is known from now on, nothing is told; but see
    /// [`Reading::empty_since`].
    pub baseline: bool,
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// To be told, in order of start.
    pub changes: Vec<Change>,
    /// How many events the feed holds.
    pub listed: usize,
    /// Rows that differ from what was known before.
    pub write: Vec<Known>,
    pub forget: Vec<EventKey>,
    /// Fingerprints of texts that no row is of any longer: to be read anew if they come back.
    pub replaced: HashSet<u128>,
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
pub fn baseline(
    mut event: Event,
    fingerprint: u128,
    publisher: Publisher,
    now: Timestamp,
) -> Known {
    publisher.normalise(&mut event);
    Known {
        key: identity::key(&event, false),
        fingerprint,
        told: Told::Listed(event.clone()),
        seen: event,
        presence: Presence::Listed,
        since: None,
        revision: first_revision(now),
    }
}

fn first_revision(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0)
}

/// Whether an event of a feed that was empty until now is new. An answer without anything in it is
/// what some publishers send while nothing is upcoming, and what a broken site sends as well; so
/// what was made since is new, and what is older was there all the time. Events that do not say
/// when they were made are new if the feed was empty for so long that one would have believed it
/// of a feed that lost its events.
fn is_new(event: &Event, empty_since: Timestamp, now: Timestamp) -> bool {
    match event.created {
        Some(created) => created > empty_since,
        None => now.duration_since(empty_since) >= MASS_LOSS_CONFIRM,
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
    rows.settle(confirm, &reading, cx, &mut out);
    out.listed = rest.listed + rows.rows.values().filter(|row| row.present).count();

    for (_, row) in rows.rows {
        let known = before.get(&row.known.key);
        if let Some(old) = known
            && (row.forget || old.fingerprint != row.known.fingerprint)
        {
            out.replaced.insert(old.fingerprint);
        }
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
    /// An override that was taken back: what is so on that day its series says.
    follows: bool,
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
                Row {
                    known,
                    restamped: false,
                    present,
                    fresh: false,
                    follows: false,
                    forget: false,
                }
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
                revision: first_revision(cx.now),
            };
            rows.insert(
                key,
                Row {
                    known,
                    restamped: false,
                    present: true,
                    fresh: true,
                    follows: false,
                    forget: false,
                },
            );
        }
        let mut rows = Rows { rows };
        rows.judge(reading);
        if cx.baseline {
            for Row { known, .. } in rows.rows.values_mut() {
                if !reading.empty_since.is_some_and(|since| is_new(&known.seen, since, cx.now)) {
                    known.told = Told::Listed(known.seen.clone());
                }
            }
        }
        if reading.completed {
            let unknown = |row: &&mut Row| row.known.told == Told::Nothing;
            for Row { known, .. } in rows.rows.values_mut().filter(unknown) {
                known.told = Told::Listed(known.seen.clone());
            }
        }
        rows.anchor_overrides(cx);
        rows
    }

    /// Applies what the publisher's site says.
    fn judge(&mut self, reading: &Reading) {
        for (key, row) in &mut self.rows {
            let known = &mut row.known;
            let before = known.seen.status;
            let (verdict, overdue) = match reading.answers.get(key) {
                Some(Answer::Known(verdict)) => (verdict, false),
                // What is said of all at once is said of what stands in the feed.
                _ if row.present => match reading.status(&known.seen) {
                    Some(verdict) => {
                        let since = reading.statuses_overdue_since.map(first_revision);
                        (verdict, since == Some(known.revision))
                    }
                    None => continue,
                },
                _ => continue,
            };
            let off = Some(verdict.clone()).filter(|verdict| !verdict.status.is_on());
            if let (true, Told::Listed(told)) = (overdue, &mut known.told) {
                told.judge(off.clone());
            }
            known.seen.judge(off);
            // Another status is another version, which must last like any other.
            row.fresh |= known.seen.status != before;
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
                (row.present, row.follows) = (true, true);
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
        reading: &Reading,
        cx: &Context<'_>,
        out: &mut Outcome,
    ) {
        let listed: HashMap<(String, Timestamp), usize> =
            self.rows.values().filter(|r| r.present).fold(HashMap::new(), |mut map, row| {
                let seen = &row.known.seen;
                let start = seen.start.instant(cx.zones, cx.zone);
                *map.entry((identity::normalised(&seen.summary), start)).or_default() += 1;
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
            let answer = reading.answers.get(&known.key);
            let told_of = matches!(known.told, Told::Listed(_));
            let unsure = gone
                || row.restamped
                    && reading.status(&known.seen).is_none()
                    && end(&known.seen, cx) > cx.now;
            if answer.is_none() && told_of && unsure {
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
                    let seen = &known.seen;
                    let same_dates =
                        taken_out(old, seen, cx).is_empty() && taken_out(seen, old, cx).is_empty();
                    if fields.is_empty() && same_dates {
                        known.since = None;
                        // What is no news now is none when its time comes nearer.
                        if old.recurrence != seen.recurrence {
                            let told = Event {
                                start: seen.start.clone(),
                                end: seen.end.clone(),
                                recurrence: seen.recurrence.clone(),
                                ..old.clone()
                            };
                            known.told = Told::Listed(told);
                        }
                        continue;
                    }
                    (classify(old, seen, &fields), Some(old.clone()), fields)
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
            // A reading that is not whole proves no absence.
            let (from, proves) = match unproven && !reading.complete {
                true => (cx.now, false),
                false => (since, true),
            };
            if !(proves && (wait.is_zero() || lasted && since < cx.now)) {
                if let Ok(at) = from.saturating_add(wait) {
                    out.recheck_at = Some(out.recheck_at.map_or(at, |other| other.min(at)));
                }
                continue;
            }

            known.since = None;
            known.revision += 1;
            let was_off = before.as_ref().is_some_and(|old| !old.status.is_on());
            let same = (
                identity::normalised(&known.seen.summary),
                known.seen.start.instant(cx.zones, cx.zone),
            );
            let change = Change {
                key: known.key.clone(),
                kind,
                before,
                after: known.seen.clone(),
                fields,
                duplicate: kind == ChangeKind::New && listed.get(&same).is_some_and(|n| *n > 1),
                revision: known.revision,
            };
            single_dates(&change, &overridden, cx, &mut out.changes);
            known.told = match gone {
                true => Told::Withdrawn(known.seen.clone()),
                false => Told::Listed(known.seen.clone()),
            };
            // Or it would be told for itself what is told of its series.
            row.forget = row.follows;
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
        if event.url == self.known.seen.url {
            event.page_image = self.known.seen.page_image.take();
        }
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
        page_image: None,
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

/// One cancellation for each date newly taken out of a series, one reinstatement for each put back,
/// unless an override stands for it.
fn single_dates(
    change: &Change,
    overridden: &HashSet<EventKey>,
    cx: &Context<'_>,
    changes: &mut Vec<Change>,
) {
    let Some(before) = &change.before else { return };
    // Of a series that is off, so is each date.
    if !before.status.is_on() || !change.after.status.is_on() {
        return;
    }
    let out = taken_out(before, &change.after, cx).into_iter();
    let back = taken_out(&change.after, before, cx).into_iter();
    let out = out.map(|date| (ChangeKind::Cancelled, date));
    let back = back.map(|date| (ChangeKind::Reinstated, date));
    for (kind, date) in out.chain(back) {
        // By the name that the series has now, of which people hear at the same time.
        let on = occurrence_of(&change.after, date, cx);
        if overridden.contains(&identity::key(&on, true)) {
            continue;
        }
        let off = Event { status: Status::Cancelled, ..on.clone() };
        let (before, after) = if kind == ChangeKind::Cancelled { (on, off) } else { (off, on) };
        changes.push(Change {
            key: change.key.clone(),
            kind,
            before: Some(before),
            after,
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
        // Dates taken out or put back are told one by one, by `single_dates`.
        let without = [old.recurrence.exdates.as_slice(), &new.recurrence.exdates].concat();
        let begins = |event: &Event| event.start.instant(cx.zones, cx.zone);
        let from = cx.now.max(begins(old).min(begins(new)));
        let dates = |event: &Event| upcoming(event, &without, from, cx);
        let (all_a, all_b) = (dates(old), dates(new));
        let (a, b) = (soonest(&all_a), soonest(&all_b));
        // A series whose days and hours stay is not moved by a new first day.
        note(a.is_empty() != b.is_empty() || shifted(a, b), Field::Start);
        let same_starts = a.iter().map(|one| one.0).eq(b.iter().map(|one| one.0));
        note(a != b && same_starts, Field::End);
        let other = a != b && !same_starts && !shifted(a, b);
        note(other || same_starts && later_differs(&all_a, &all_b, cx), Field::Recurrence);
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

/// Start and end of an occurrence, in seconds.
type Span = (i64, i64);

/// Every occurrence at the same distance from the one it replaces: the series as a whole moved.
fn shifted(a: &[Span], b: &[Span]) -> bool {
    let mut shifts = a.iter().zip(b).map(|(a, b)| b.0 - a.0);
    let first = shifts.next();
    first.is_some_and(|first| first != 0 && shifts.all(|shift| shift == first))
        && a.len() == b.len()
}

/// By these it is told whether a series has moved as a whole.
fn soonest(dates: &[Span]) -> &[Span] {
    &dates[..dates.len().min(3)]
}

/// Whether a series that begins as before goes on otherwise, or ends earlier. That it ends later is
/// news only if the end was near: some publishers put it off day by day.
fn later_differs(old: &[Span], new: &[Span], cx: &Context<'_>) -> bool {
    // Of a list that is full nobody knows how it goes on.
    let known_to = |dates: &[Span]| match dates.last() {
        Some(last) if dates.len() == MAX_UPCOMING => last.0,
        _ => i64::MAX,
    };
    let to = known_to(old).min(known_to(new));
    let starts = |dates: &[Span]| -> BTreeSet<i64> {
        dates.iter().map(|one| one.0).filter(|start| *start <= to).collect()
    };
    let (old, new) = (starts(old), starts(new));
    let within = |span: SignedDuration| cx.now.as_second() + span.as_secs();
    let end = old.last().copied().unwrap_or(i64::MIN);
    let is_news = |start: &i64| *start <= within(SOON) && (*start < end || end <= within(NEAR));
    old.difference(&new).next().is_some() || new.difference(&old).any(is_news)
}

/// The next occurrences.
fn upcoming(event: &Event, without: &[When], from: Timestamp, cx: &Context<'_>) -> Vec<Span> {
    let mut event = event.clone();
    event.recurrence.exdates = without.to_vec();
    let to = from.saturating_add(SignedDuration::from_hours(24 * 400)).unwrap_or(Timestamp::MAX);
    let events = std::slice::from_ref(&event);
    let (found, _) = recur::instances(events, Window { from, to }, cx.zones, cx.zone);
    let mut dates: Vec<Span> = found.iter().map(|one| (one.start, one.end)).collect();
    dates.sort_unstable();
    dates.truncate(MAX_UPCOMING);
    dates
}

fn same_words(a: &str, b: &str) -> bool {
    a == b || a.split_whitespace().eq(b.split_whitespace())
}

#[cfg(test)]
pub(crate) mod tests;

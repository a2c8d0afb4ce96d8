//! What must have been told, worked out from the promises alone.
//!
//! The oracle knows which version of each feed could be read at which time by the clock, and which
//! messages were accepted. It knows nothing of keys, revisions, leases or the database.

use std::collections::{BTreeMap, BTreeSet};

use beadle::plan::{Item, Kind, Notification, Reason};
use beadle::store::DeliveryState;
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, ToSpan, civil};

use super::model::{AUDIENCE, Occasion, Talk, Truth, instant, wall};
use super::tape::Accepted;

/// A talk as last read, with what follows from it.
#[derive(Clone, Debug)]
struct Belief {
    talk: Talk,
    occasions: Vec<Occasion>,
    reminders: Vec<(Remind, Due)>,
}

impl Belief {
    fn new(talk: Talk) -> Belief {
        let occasions = talk.occasions();
        let on = occasions.iter().filter(|one| one.on);
        let of = |one: &Occasion| {
            let (talk, start) = (one.talk, one.start);
            leads(one).into_iter().map(move |(lead, due)| ((talk, start, lead), due))
        };
        Belief { reminders: on.flat_map(of).collect(), occasions, talk }
    }
}

/// `remind` of the configuration: the text, and the same in minutes of the calendar.
pub const LEADS: [(&str, i64); 4] = [("1d", 1440), ("1h", 60), ("15m", 15), ("0m", 0)];
/// `remind_all_day`.
pub const ALL_DAY: &str = "1d at 18:00";
/// A change that has stood so long, and was read so often, has settled.
const SETTLED: (SignedDuration, u32) = (SignedDuration::from_mins(6), 3);
/// The same for an absence, even if half the feed was gone meanwhile.
const GONE: (SignedDuration, u32) = (SignedDuration::from_hours(26), 3);
/// An absence shorter than that is none.
const CONFIRM: SignedDuration = SignedDuration::from_mins(30);
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// From the writing of a message to its sending.
const MOMENT: SignedDuration = SignedDuration::from_secs(1);
/// So often a message is taken up in vain before it is given up: of that a day and a half is made.
const CLAIMS: u32 = 50;

/// What an audience believes of one time of a talk, or of a talk as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    on: bool,
    start: Timestamp,
    end: Timestamp,
    title: String,
    place: String,
}

/// A talk, and the slot of its series where one time of it is meant.
type About = (u32, Option<DateTime>);

/// A reminder: which talk, of which start, which lead.
pub type Remind = (u32, Timestamp, String);

/// What a digest must list, and of which talks it may say this or that.
type Listed = (BTreeSet<(u32, Timestamp)>, BTreeSet<u32>);

/// What is in the way of a message.
#[derive(Clone, Debug)]
struct Due {
    due_at: Timestamp,
    not_after: Timestamp,
}

/// A message that will not be told, as the outbox says.
#[derive(Debug)]
pub struct Ended<'a> {
    pub endpoint: &'a str,
    pub notification: &'a Notification,
    pub end: DeliveryState,
    /// By the clock, which may have been far off.
    pub at: Timestamp,
    /// Its receiver refused it for good.
    pub refused: bool,
    /// How often its receiver did not take it.
    pub failures: usize,
    /// How often it was taken up to be sent.
    pub claims: u32,
    /// It came to that in this round, and so of what is believed now.
    pub watched: bool,
}

/// What is known of a talk in a feed, and how well it has stood the test of time.
#[derive(Clone, Debug)]
struct Streak {
    state: Option<Talk>,
    first: Timestamp,
    last: Timestamp,
    reads: u32,
}

/// What the last reading of a feed said of a talk, or several of which one was it: whether beadle
/// could keep what it read is not always known.
#[derive(Clone, Debug)]
struct LastRead {
    states: Vec<Option<Talk>>,
    /// Not by beadle's clock.
    time: Timestamp,
}

/// What a restored backup takes back.
#[derive(Clone, Debug)]
pub struct Memory {
    believed: BTreeMap<u32, Belief>,
    absent: BTreeSet<u32>,
    last_read: BTreeMap<u32, LastRead>,
    missing: BTreeMap<u32, (Timestamp, Timestamp)>,
    wrote: Timestamp,
    passed: Timestamp,
    digest_passed: Timestamp,
    heard: BTreeMap<(String, About), View>,
    reminded: BTreeSet<(String, Remind)>,
    digests: BTreeSet<(String, Date)>,
}

#[derive(Debug)]
pub struct Oracle {
    /// All feeds together, as last read.
    believed: BTreeMap<u32, Belief>,
    /// Those of them that are gone from their feed.
    absent: BTreeSet<u32>,
    /// Those that were gone and are back, which has yet to last.
    back: BTreeSet<u32>,
    streaks: BTreeMap<u32, Streak>,
    last_read: BTreeMap<u32, LastRead>,
    /// What was so at two readings, one after the other.
    lasted: BTreeMap<About, Vec<View>>,
    /// Since when, by the clock and by everyone else's, a talk is not in its feed.
    missing: BTreeMap<u32, (Timestamp, Timestamp)>,
    /// Those that were not at two readings, far enough apart.
    gone: BTreeSet<u32>,
    /// Up to when, by the clock, reminders have come due.
    passed: Timestamp,
    /// Up to when this is surely written down.
    wrote: Timestamp,
    restarted: bool,
    digest_passed: Timestamp,
    owed: BTreeMap<(String, Remind), Due>,
    /// May be told, need not.
    allowed: BTreeSet<(String, Remind)>,
    reminded: BTreeSet<(String, Remind)>,
    /// Until when what came due was of use; the earliest, where the event has had several ends.
    of_use: BTreeMap<Remind, Timestamp>,
    /// Titles and places as they were when a reminder came due.
    words: BTreeMap<Remind, Vec<(String, String)>>,
    owed_digests: BTreeMap<(String, Date), Listed>,
    digests: BTreeSet<(String, Date)>,
    heard: BTreeMap<(String, About), View>,
    /// Weeks left out of a series as it was when it was new to an endpoint.
    never_in: BTreeSet<(String, About)>,
    /// What an endpoint knows of a talk is no longer known: a message died, a backup was restored.
    unsure: BTreeSet<(String, u32)>,
    /// May hear the same again, for the same reason.
    again: BTreeSet<(String, u32)>,
    again_reminded: BTreeSet<(String, Remind)>,
    /// By which name of its event each was told last, and when by the clock.
    told_as: BTreeMap<(String, Remind), (String, Timestamp)>,
    again_digests: BTreeSet<(String, Date)>,
    /// Of what was told since a backup was made its outbox knows nothing.
    forgotten: BTreeSet<(String, Remind)>,
    /// When backups were restored by the program itself.
    quiet: BTreeSet<Timestamp>,
    pub endpoints: Vec<String>,
    pub mail: Vec<String>,
}

/// By beadle's clock, and by everyone else's.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub clock: Timestamp,
    pub time: Timestamp,
}

/// Where this is not so, a promise is broken.
pub type Verdict = Result<(), String>;

impl Oracle {
    pub fn new(truth: &Truth, now: Timestamp, endpoints: Vec<String>, mail: Vec<String>) -> Oracle {
        let mut oracle = Oracle {
            believed: truth.iter().map(|(id, talk)| (*id, Belief::new(talk.clone()))).collect(),
            absent: BTreeSet::new(),
            back: BTreeSet::new(),
            streaks: BTreeMap::new(),
            last_read: BTreeMap::new(),
            lasted: BTreeMap::new(),
            missing: BTreeMap::new(),
            gone: BTreeSet::new(),
            passed: now,
            wrote: now,
            restarted: false,
            digest_passed: now,
            owed: BTreeMap::new(),
            allowed: BTreeSet::new(),
            reminded: BTreeSet::new(),
            of_use: BTreeMap::new(),
            words: BTreeMap::new(),
            owed_digests: BTreeMap::new(),
            digests: BTreeSet::new(),
            heard: BTreeMap::new(),
            never_in: BTreeSet::new(),
            unsure: BTreeSet::new(),
            again: BTreeSet::new(),
            again_reminded: BTreeSet::new(),
            told_as: BTreeMap::new(),
            again_digests: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            quiet: BTreeSet::new(),
            endpoints,
            mail,
        };
        // What stood there at first is known to everyone.
        for endpoint in &oracle.endpoints {
            for (about, view) in truth.values().flat_map(views) {
                oracle.heard.insert((endpoint.clone(), about), view);
            }
        }
        oracle
    }

    /// All of a feed was read. `of_feed` are those that ever stood in it.
    pub fn read(&mut self, truth: &Truth, of_feed: &BTreeSet<u32>, at: Moment) {
        for id in of_feed {
            self.read_talk(*id, truth.get(id).cloned(), at.clock);
            self.stands(*id, truth.get(id), at);
        }
    }

    /// The same, or nothing was read: the database has refused something.
    pub fn perhaps_read(&mut self, truth: &Truth, of_feed: &BTreeSet<u32>, at: Moment) {
        for id in of_feed {
            let state = truth.get(id).cloned();
            if state.is_none() {
                self.missing.entry(*id).or_insert((at.clock, at.time));
            }
            let nothing = LastRead { states: Vec::new(), time: at.time };
            self.last_read.entry(*id).or_insert(nothing).states.push(state);
        }
    }

    /// A feed said that it is empty.
    pub fn read_nothing(&mut self, of_feed: &BTreeSet<u32>, at: Moment) {
        for id in of_feed {
            self.missing.entry(*id).or_insert((at.clock, at.time));
            self.last_read.insert(*id, LastRead { states: vec![None], time: at.time });
        }
    }

    /// Keeps what has stood at two readings.
    fn stands(&mut self, id: u32, state: Option<&Talk>, at: Moment) {
        let now = LastRead { states: vec![state.cloned()], time: at.time };
        let before = self.last_read.insert(id, now);
        let before = before.filter(|before| before.time < at.time);
        let Some(talk) = state else {
            let (clock, time) = *self.missing.entry(id).or_insert((at.clock, at.time));
            if (at.clock - clock).max(at.time - time) >= CONFIRM {
                self.gone.insert(id);
            }
            return;
        };
        self.missing.remove(&id);
        let said = said(talk);
        for before in before.iter().flat_map(|before| before.states.iter().flatten()) {
            let same = if before == talk { said.clone() } else { self::said(before) };
            for (about, view) in said.iter().filter(|one| same.contains(one)) {
                let lasted = self.lasted.entry(*about).or_default();
                if !lasted.contains(view) {
                    lasted.push(view.clone());
                }
            }
        }
    }

    /// All of a feed was read, and nothing is known of what was told of it: what stands there is
    /// known to everyone.
    pub fn begin(&mut self, truth: &Truth, of_feed: &BTreeSet<u32>, at: Moment) {
        for id in of_feed {
            self.missing.remove(id);
            self.last_read.remove(id);
            self.stands(*id, truth.get(id), at);
        }
        self.heard.retain(|(_, about), _| !of_feed.contains(&about.0));
        self.unsure.retain(|(_, id)| !of_feed.contains(id));
        self.again.retain(|(_, id)| !of_feed.contains(id));
        for (id, talk) in truth {
            self.believe(*id, talk);
            for (about, view) in views(talk) {
                for endpoint in &self.endpoints {
                    self.heard.insert((endpoint.clone(), about), view.clone());
                }
            }
        }
    }

    /// Part of a feed was read: these talks, as they are now.
    pub fn read_part(&mut self, truth: &Truth, ids: &[u32], at: Moment) {
        for id in ids {
            self.stands(*id, truth.get(id), at);
            let state = truth[id].clone();
            self.believed.insert(*id, Belief::new(state.clone()));
            let back = self.absent.remove(id) && self.back.insert(*id);
            if back || self.streaks.get(id).is_none_or(|s| s.state != Some(state)) {
                self.streaks.remove(id);
            }
        }
    }

    fn believe(&mut self, id: u32, talk: &Talk) {
        if self.believed.get(&id).is_none_or(|belief| belief.talk != *talk) {
            let out: BTreeSet<DateTime> = talk.weeks_out().collect();
            self.never_in.retain(|(_, about)| {
                about.0 != id || about.1.is_some_and(|slot| out.contains(&slot))
            });
            self.believed.insert(id, Belief::new(talk.clone()));
        }
    }

    /// What is long over is of no interest, whatever the clock says for a moment.
    pub fn prune(&mut self, now: Timestamp) {
        let before = now - SignedDuration::from_hours(72);
        self.believed.retain(|_, belief| belief.occasions.iter().any(|one| one.end > before));
        let believed = &self.believed;
        self.absent.retain(|id| believed.contains_key(id));
        self.streaks.retain(|id, _| believed.contains_key(id));
        self.lasted.retain(|(id, _), _| believed.contains_key(id));
    }

    fn read_talk(&mut self, id: u32, state: Option<Talk>, now: Timestamp) {
        match &state {
            Some(talk) => {
                self.believe(id, talk);
                if self.absent.remove(&id) {
                    self.back.insert(id);
                }
            }
            None => {
                self.absent.insert(id);
            }
        }
        let streak = self.streaks.entry(id).or_insert_with(|| Streak {
            state: state.clone(),
            first: now,
            last: now,
            reads: 0,
        });
        if streak.state != state || now < streak.last {
            *streak = Streak { state, first: now, last: now, reads: 0 };
        }
        if now > streak.last || streak.reads == 0 {
            streak.reads += 1;
            streak.last = now;
        }
        if self.settled(id) {
            self.back.remove(&id);
        }
    }

    /// beadle begins again with what it has written down. What it had looked for in vain it looks
    /// for once more, in events as they are now.
    pub fn restarted(&mut self) {
        self.restarted = true;
    }

    /// The clock was set: nothing has stood the test of its time.
    pub fn clock_jumped(&mut self) {
        self.streaks.clear();
    }

    fn settled(&self, id: u32) -> bool {
        self.streaks.get(&id).is_some_and(|streak| {
            let (span, reads) = if streak.state.is_some() { SETTLED } else { GONE };
            streak.reads >= reads && streak.last - streak.first >= span
        })
    }

    /// The next time by the clock that something comes due.
    pub fn next_due(&self, now: Timestamp) -> Timestamp {
        let told = |remind: &Remind| {
            let by = |endpoint: &String| (endpoint.clone(), remind.clone());
            self.endpoints.iter().all(|endpoint| self.reminded.contains(&by(endpoint)))
        };
        let owed = self.reminders().filter(|(_, due, owed)| *owed && due.due_at > now);
        let dues = owed.filter(|(remind, _, _)| !told(remind)).map(|(_, due, _)| due.due_at);
        dues.chain([next_monday(now)]).min().unwrap()
    }

    fn words_of(&self, remind: &Remind) -> (String, String) {
        let occasions = &self.believed[&remind.0].occasions;
        let one = occasions.iter().find(|one| one.on && one.start == remind.1).unwrap();
        (one.title.clone(), one.place.clone())
    }

    /// The next reminder, if it is to come in a day but not at once: of which talk, and when.
    pub fn next_reminder(&self, now: Timestamp) -> Option<(u32, Timestamp)> {
        let soon = now + SignedDuration::from_mins(2);
        let next = self.reminders().filter(|(_, due, owed)| *owed && due.due_at > soon);
        let next = next.map(|(remind, due, _)| (remind.0, due.due_at)).min_by_key(|one| one.1);
        next.filter(|(_, at)| *at < now + SignedDuration::from_hours(24))
    }

    /// Every reminder of everything believed to take place: whose, when, and whether it is owed.
    fn reminders(&self) -> impl Iterator<Item = (&Remind, &Due, bool)> {
        self.believed.values().flat_map(|belief| {
            let id = belief.talk.id;
            let owed = !self.absent.contains(&id) && !self.back.contains(&id);
            belief.reminders.iter().map(move |(remind, due)| (remind, due, owed))
        })
    }

    /// beadle looked at its clock, and has put into its outbox what had come due.
    pub fn tick(&mut self, now: Timestamp) {
        let set_back = self.passed.max(self.wrote) > now;
        self.passed = self.passed.min(now);
        self.wrote = self.wrote.min(self.passed);
        let mut from = if std::mem::take(&mut self.restarted) { self.wrote } else { self.passed };
        if set_back {
            // What came due shortly before the clock was put right may be told.
            from -= 2.minutes();
        }
        let due: Vec<(Remind, Due, bool)> = self
            .reminders()
            .filter(|(_, due, _)| due.due_at > from && due.due_at <= now)
            .filter(|(_, due, _)| due.not_after > now)
            .map(|(remind, due, owed)| (remind.clone(), due.clone(), owed))
            .collect();
        for (remind, at, owed) in &due {
            // Of several that are late only the last is of use.
            let newer = due.iter().any(|(other, later, _)| {
                (other.0, other.1) == (remind.0, remind.1) && later.due_at > at.due_at
            });
            let words = self.words_of(remind);
            self.words.entry(remind.clone()).or_default().push(words);
            let of_use = self.of_use.entry(remind.clone()).or_insert(at.not_after);
            *of_use = at.not_after.min(*of_use);
            for endpoint in &self.endpoints {
                let key = (endpoint.clone(), remind.clone());
                if self.reminded.contains(&key) {
                    continue;
                }
                self.allowed.insert(key.clone());
                if *owed && at.due_at > self.passed && !(newer && now - at.due_at > LATE) {
                    self.owed.insert(key, at.clone());
                    self.wrote = now;
                }
            }
        }
        self.passed = now;

        self.digest_passed = self.digest_passed.min(now);
        let newest = std::iter::successors(Some(next_monday(self.digest_passed)), |at| {
            Some(next_monday(*at))
        });
        if let Some(at) = newest.take_while(|at| *at <= now).last() {
            let day = wall(at).date();
            let (from, to) = (midnight(day), midnight(day + 7.days()));
            let listed: BTreeSet<(u32, Timestamp)> = self
                .believed
                .values()
                .filter(|belief| !self.absent.contains(&belief.talk.id))
                .flat_map(|belief| &belief.occasions)
                .filter(|one| one.on && one.start < to && one.end > from)
                .map(|one| (one.talk, one.start))
                .collect();
            for endpoint in &self.mail {
                let key = (endpoint.clone(), day);
                if !self.digests.contains(&key) {
                    self.wrote = now;
                    let doubtful = self.absent.union(&self.back).copied().collect();
                    self.owed_digests.insert(key, (listed.clone(), doubtful));
                }
            }
        }
        self.digest_passed = now;
    }

    /// A message was accepted, for the first time or once more after its fate was not known.
    pub fn heard(&mut self, message: &Accepted) -> Verdict {
        let Accepted { endpoint, notification, at, repeated, .. } = message;
        let (endpoint, now, repeated) = (endpoint.as_str(), *at, *repeated);
        let late = now - self.due_at(message);
        let wrong = if message.says_late { late <= LATE } else { late > LATE + MOMENT };
        if !message.bound && wrong {
            let says = message.says_late;
            return Err(format!("{endpoint}: late by {late:#}, and says so: {says}"));
        }
        match &notification.kind {
            Kind::Changes => {
                if notification.more > 0 {
                    return Err("a list was cut, which no day of this year calls for".to_owned());
                }
                notification.items.iter().try_for_each(|item| {
                    let id = id(&item.event.summary);
                    let slot = item.event.recurrence_id.as_ref().map(|id| id.local());
                    let off = matches!(item.reason, Reason::Withdrawn);
                    let view = View {
                        on: item.event.status.is_on() && !off,
                        start: item.start,
                        end: item.end,
                        title: item.event.summary.clone(),
                        place: item.event.location.clone(),
                    };
                    if matches!(item.reason, Reason::New) && slot.is_none() {
                        self.told_of_all_weeks(endpoint, id);
                    }
                    if !self.was_so((id, slot), &view, item) {
                        let stood = self.lasted.get(&(id, slot));
                        let said = format!("{endpoint}: {id}, {slot:?} is {view:?}");
                        return Err(format!("{said}, {:?}; stood: {stood:?}", item.reason));
                    }
                    self.heard_of(endpoint, (id, slot), view, item.series, repeated)
                })
            }
            Kind::Reminder { lead } => {
                let event = &notification.items[0].event;
                let remind = remind(&notification.items[0], lead);
                let words = (event.summary.clone(), event.location.clone());
                let so = self.words.get(&remind);
                if so.is_some_and(|so| !so.contains(&words)) {
                    return Err(format!("{endpoint}: {remind:?} says {words:?}, and was {so:?}"));
                }
                self.heard_reminder(endpoint, remind, &event.summary, now, repeated)
            }
            Kind::Digest { from, .. } => {
                let key = (endpoint.to_owned(), *from);
                if !self.digests.insert(key.clone()) {
                    let may = repeated || self.again_digests.remove(&key);
                    return if may { Ok(()) } else { Err(format!("{endpoint}: {from} twice")) };
                }
                let owed = self.owed_digests.remove(&key);
                let Some((expected, doubtful)) = owed else {
                    return Err(format!("{endpoint}: a digest for {from} that was not due"));
                };
                let on = notification.items.iter().filter(|item| item.event.status.is_on());
                // Of what has gone, or has yet to be back for good, a digest may say this or that.
                let certain = |id: &u32| {
                    !doubtful.contains(id) && !self.absent.contains(id) && !self.back.contains(id)
                };
                let listed: BTreeSet<(u32, Timestamp)> = on
                    .map(|item| (id(&item.event.summary), item.start))
                    .filter(|(id, _)| certain(id))
                    .collect();
                let expected: BTreeSet<_> =
                    expected.into_iter().filter(|(id, _)| certain(id)).collect();
                match listed == expected {
                    true => Ok(()),
                    false => Err(format!("the digest of {from}: {listed:?}, not {expected:?}")),
                }
            }
            Kind::Welcome => Err("a welcome that nobody asked for".to_owned()),
            Kind::Notice { .. } => Err("a notice to nobody".to_owned()),
        }
    }

    /// When it was to be told. Only of news beadle alone knows.
    fn due_at(&self, message: &Accepted) -> Timestamp {
        match &message.notification.kind {
            Kind::Reminder { lead } => {
                let remind = remind(&message.notification.items[0], lead);
                let found = self.reminders().find(|(other, _, _)| **other == remind);
                found.map_or(message.due_at, |(_, due, _)| due.due_at)
            }
            Kind::Digest { from, .. } => instant(from.at(8, 0, 0, 0), AUDIENCE),
            _ => message.due_at,
        }
    }

    /// Whether what is told was so at two readings.
    fn was_so(&self, about: About, view: &View, item: &Item) -> bool {
        if matches!(item.reason, Reason::Withdrawn) {
            return self.gone.contains(&about.0);
        }
        let lasted = self.lasted.get(&about).into_iter().flatten();
        // Of a series, its next time is told.
        let times = |one: &View| match item.series {
            true => View { start: view.start, end: view.end, ..one.clone() },
            false => one.clone(),
        };
        lasted.map(times).any(|one| one == *view)
    }

    fn told_of_all_weeks(&mut self, endpoint: &str, id: u32) {
        let Some(Belief { talk, .. }) = self.believed.get(&id) else { return };
        let out = talk.weeks_out().map(|slot| (endpoint.to_owned(), (id, Some(slot))));
        self.never_in.extend(out);
    }

    fn heard_of(
        &mut self,
        endpoint: &str,
        about: About,
        view: View,
        series: bool,
        repeated: bool,
    ) -> Verdict {
        let key = (endpoint.to_owned(), about);
        let before = self.heard.insert(key, view.clone());
        let whom = (endpoint.to_owned(), about.0);
        let unsure = self.unsure.contains(&whom);
        // A word on one week of a series leaves the rest of it in doubt.
        if about.1.is_none() {
            self.unsure.remove(&whom);
        }
        let again = repeated || unsure || self.again.contains(&(endpoint.to_owned(), about.0));
        let same = before.is_some_and(|before| {
            before == view || series && View { start: view.start, end: view.end, ..before } == view
        });
        match same && !again && !series {
            true => Err(format!("{endpoint}: told twice that {about:?} is {view:?}")),
            false => Ok(()),
        }
    }

    fn heard_reminder(
        &mut self,
        endpoint: &str,
        remind: Remind,
        title: &str,
        now: Timestamp,
        repeated: bool,
    ) -> Verdict {
        let found = self.reminders().find(|(other, _, _)| **other == remind);
        let key = (endpoint.to_owned(), remind.clone());
        let Some((_, Due { not_after, .. }, _)) = found else {
            return Err(format!("{endpoint}: a reminder for a time that is not true: {remind:?}"));
        };
        if now >= *not_after {
            return Err(format!("{endpoint}: reminded too late: {remind:?}"));
        }
        self.owed.remove(&key);
        // The clock was set back, and the event renamed since.
        let before = self.told_as.insert(key.clone(), (title.to_owned(), now));
        let renamed = before.is_some_and(|(name, at)| at > now && name != title);
        if !self.reminded.insert(key.clone()) {
            let may = repeated || renamed || self.again_reminded.remove(&key);
            return if may { Ok(()) } else { Err(format!("{endpoint}: twice {remind:?}")) };
        }
        match self.allowed.remove(&key) {
            true => Ok(()),
            false => Err(format!("{endpoint}: a reminder that was not due: {remind:?}")),
        }
    }

    /// A message will not be told, and the outbox says so.
    pub fn given_up(&mut self, row: &Ended<'_>) -> Verdict {
        // What waited when the program restored a backup is not told any more.
        let held = row.end == DeliveryState::Superseded && self.quiet.contains(&row.at);
        if !held {
            self.judge(row)?;
        }
        let endpoint = row.endpoint.to_owned();
        match &row.notification.kind {
            Kind::Reminder { lead } => {
                let key = (endpoint, remind(&row.notification.items[0], lead));
                // What has come true again meanwhile is found out by `check`.
                if row.end != DeliveryState::Superseded || !self.supports(&key.1) {
                    self.owed.remove(&key);
                }
            }
            Kind::Digest { from, .. } => {
                self.owed_digests.remove(&(endpoint, *from));
            }
            _ => {
                for item in &row.notification.items {
                    self.unsure.insert((endpoint.clone(), id(&item.event.summary)));
                }
            }
        }
        Ok(())
    }

    /// Whether there was a reason to give it up.
    fn judge(&self, row: &Ended<'_>) -> Verdict {
        let holds = match row.end {
            DeliveryState::Dead => row.refused || row.failures > 0 && row.claims >= CLAIMS,
            DeliveryState::Expired => row.at >= self.of_use(row.notification)?,
            DeliveryState::Superseded => match &row.notification.kind {
                Kind::Reminder { lead } => {
                    let remind = remind(&row.notification.items[0], lead);
                    let doubtful = self.absent.contains(&remind.0) || self.back.contains(&remind.0);
                    // Before beadle died, or could not write, it may have been otherwise.
                    !row.watched || doubtful || !self.supports(&remind)
                }
                _ => false,
            },
            _ => false,
        };
        match holds {
            true => Ok(()),
            false => Err(format!("given up without a reason: {row:?}")),
        }
    }

    /// From when on a message is of no use.
    fn of_use(&self, notification: &Notification) -> Result<Timestamp, String> {
        match &notification.kind {
            Kind::Reminder { lead } => {
                let remind = remind(&notification.items[0], lead);
                let known = self.of_use.get(&remind).copied();
                known.ok_or_else(|| format!("expired, and was never due: {remind:?}"))
            }
            // Before the next one its week is over.
            Kind::Digest { from, .. } => Ok(midnight(*from + 7.days())),
            // All that it tells of is over, by the old times and by the new.
            _ => {
                let ends = notification
                    .items
                    .iter()
                    .map(|item| item.end.max(item.start).max(item.end_before.unwrap_or(item.end)));
                Ok(ends.max().unwrap())
            }
        }
    }

    /// A message is taken to have arrived, and what arrived was another. The words of all reminders
    /// of one start are the same, and what may have arrived is looked for in the channel; after a
    /// backup was restored by hand nobody knows of which message the one is that is found there.
    pub fn mistaken(&mut self, endpoint: &str, of: &Notification, by: &Notification) -> Verdict {
        let reminder = |notification: &Notification| match &notification.kind {
            Kind::Reminder { lead } => {
                Some((endpoint.to_owned(), remind(&notification.items[0], lead)))
            }
            _ => None,
        };
        if let (Some(of), Some(by)) = (reminder(of), reminder(by))
            && (of.1.0, of.1.1) == (by.1.0, by.1.1)
            && self.forgotten.contains(&by)
        {
            self.owed.remove(&of);
            return Ok(());
        }
        Err(format!("{endpoint}: {of:?} is taken to have arrived, by {by:?}"))
    }

    fn supports(&self, remind: &Remind) -> bool {
        self.reminders().any(|(other, _, _)| other == remind)
    }

    /// What is no longer true need not be told.
    pub fn forget_stale(&mut self) {
        let stale: Vec<_> =
            self.owed.keys().filter(|(_, remind)| !self.supports(remind)).cloned().collect();
        for key in stale {
            self.owed.remove(&key);
        }
        let absent = &self.absent;
        self.owed.retain(|(_, remind), _| !absent.contains(&remind.0));
    }

    /// Nothing waits in the outbox: everything owed must have been told.
    pub fn check_all_told(&self, now: Timestamp) -> Verdict {
        if let Some((key, due)) = self.owed.first_key_value() {
            return Err(format!("lost: reminder {key:?}, due {}", due.due_at));
        }
        if let Some((key, _)) = self.owed_digests.first_key_value() {
            return Err(format!("lost: digest {key:?}"));
        }
        for (id, belief) in &self.believed {
            if self.settled(*id) {
                self.endpoints.iter().try_for_each(|endpoint| self.knows(endpoint, belief, now))?;
            }
        }
        Ok(())
    }

    /// Whether an endpoint's audience knows what is true of a talk, as far as it is still to come.
    fn knows(&self, endpoint: &str, belief: &Belief, now: Timestamp) -> Verdict {
        let Belief { talk, occasions, .. } = belief;
        if self.unsure.contains(&(endpoint.to_owned(), talk.id)) {
            return Ok(());
        }
        let heard = |slot| self.heard.get(&(endpoint.to_owned(), (talk.id, slot)));
        let wrong = |what: &dyn std::fmt::Debug, heard: Option<&View>| {
            Err(format!(
                "{endpoint}: the last thing told of {} is {heard:?}, not {what:?}",
                talk.id
            ))
        };
        let whole = heard(None);
        let gone = self.absent.contains(&talk.id) || talk.cancelled;
        let last_end = occasions.iter().map(|one| one.end).max().unwrap();
        if gone {
            let upcoming = occasions.iter().all(|one| one.start > now)
                || talk.weekly.is_some() && last_end > now;
            return match whole.filter(|view| view.on && view.end > now) {
                Some(_) if upcoming => wrong(&"off", whole),
                _ => Ok(()),
            };
        }
        if last_end <= now {
            return Ok(());
        }
        let title = format!("#{} {}", talk.id, talk.title);
        let same_text = |view: &View| view.on && view.title == title && view.place == talk.place;
        if talk.weekly.is_none() {
            let one = &occasions[0];
            let right =
                whole.is_some_and(|v| same_text(v) && (v.start, v.end) == (one.start, one.end));
            return if right { Ok(()) } else { wrong(one, whole) };
        }
        if !whole.is_some_and(same_text) && occasions.iter().any(|one| one.on && one.start > now) {
            return wrong(talk, whole);
        }
        for one in occasions.iter().filter(|one| one.start > now) {
            let view = heard(one.slot);
            let slot_is_past = instant_of(one) <= now;
            let right = match view {
                // As the series says.
                None => {
                    let about = (endpoint.to_owned(), (talk.id, one.slot));
                    let never_in = !one.on && self.never_in.contains(&about);
                    one.plain || never_in || !one.on && slot_is_past
                }
                Some(view) if !one.on => !view.on || view.start <= now,
                Some(view) => {
                    view.on && view.start == one.start && (one.plain || view.title == one.title)
                }
            };
            if !right {
                return wrong(one, view);
            }
        }
        Ok(())
    }

    pub fn remember(&self) -> Memory {
        Memory {
            believed: self.believed.clone(),
            absent: self.absent.clone(),
            last_read: self.last_read.clone(),
            missing: self.missing.clone(),
            wrote: self.wrote,
            passed: self.passed,
            digest_passed: self.digest_passed,
            heard: self.heard.clone(),
            reminded: self.reminded.clone(),
            digests: self.digests.clone(),
        }
    }

    /// beadle is as it was then; the audience is not. It may hear once more what it has heard
    /// since, and what was taken back since it may not hear at all.
    pub fn restored(&mut self, memory: Memory) {
        for (key, view) in &self.heard {
            if memory.heard.get(key) != Some(view) {
                self.unsure.insert((key.0.clone(), key.1.0));
                self.again.insert((key.0.clone(), key.1.0));
            }
        }
        let since: Vec<_> = self.reminded.difference(&memory.reminded).cloned().collect();
        self.forgotten.extend(since.iter().cloned());
        self.again_reminded.extend(since);
        let since: Vec<_> = self.digests.difference(&memory.digests).cloned().collect();
        self.again_digests.extend(since);
        self.owed.clear();
        self.owed_digests.clear();
        self.streaks.clear();
        self.believed = memory.believed;
        self.absent = memory.absent;
        self.last_read = memory.last_read;
        self.missing = memory.missing;
        self.wrote = memory.wrote;
        self.passed = memory.passed;
        self.digest_passed = memory.digest_passed;
    }

    /// A backup was restored by the program itself: nothing of before is told any more, and nothing
    /// twice.
    pub fn restored_quietly(&mut self, now: Timestamp) {
        self.believed.clear();
        self.absent.clear();
        self.back.clear();
        self.streaks.clear();
        self.owed.clear();
        self.owed_digests.clear();
        self.allowed.clear();
        (self.wrote, self.passed, self.digest_passed) = (now, now, now);
        let written = Timestamp::from_millisecond(now.as_millisecond()).unwrap();
        self.quiet.insert(written);
    }
}

fn views(talk: &Talk) -> Vec<(About, View)> {
    let view = |one: &Occasion| View {
        on: one.on,
        start: one.start,
        end: one.end,
        title: one.title.clone(),
        place: one.place.clone(),
    };
    let occasions = talk.occasions();
    let whole = View {
        on: !talk.cancelled,
        title: format!("#{} {}", talk.id, talk.title),
        end: talk.last_end(),
        ..view(&occasions[0])
    };
    let weeks = occasions.iter().filter(|one| !one.plain);
    let weeks = weeks.map(|one| ((talk.id, one.slot), view(one)));
    match talk.weekly {
        None => vec![((talk.id, None), whole)],
        Some(_) => weeks.chain([((talk.id, None), whole)]).collect(),
    }
}

/// All that can be told of a talk: as a whole, and of each of its weeks.
fn said(talk: &Talk) -> Vec<(About, View)> {
    let plain = talk.occasions().into_iter().filter(|one| one.plain && talk.weekly.is_some());
    let plain = plain.map(|one| {
        let Occasion { on, start, end, title, place, .. } = one;
        ((talk.id, one.slot), View { on, start, end, title, place })
    });
    views(talk).into_iter().chain(plain).collect()
}

/// When an occasion is told of ahead, and until when that is of use.
fn leads(one: &Occasion) -> Vec<(String, Due)> {
    if one.all_day {
        let eve = (one.wall.date() - 1.days()).at(18, 0, 0, 0);
        let due = Due { due_at: instant(eve, AUDIENCE), not_after: one.end };
        return vec![(ALL_DAY.to_owned(), due)];
    }
    let due = |(text, minutes): (&str, i64)| {
        let due_at = match minutes {
            // A day before is the same hour of the day before.
            1440 => instant(one.wall - 1.days(), AUDIENCE),
            minutes => one.start - SignedDuration::from_mins(minutes),
        };
        let not_after = match minutes {
            0 => one.end.max(one.start + SignedDuration::from_mins(10)),
            _ => one.start,
        };
        (text.to_owned(), Due { due_at, not_after })
    };
    LEADS.into_iter().map(due).collect()
}

fn instant_of(one: &Occasion) -> Timestamp {
    one.slot.map_or(one.start, |slot| instant(slot, AUDIENCE).min(one.start))
}

fn midnight(day: Date) -> Timestamp {
    instant(day.at(0, 0, 0, 0), AUDIENCE)
}

/// The first Monday, 08:00, after an instant.
fn next_monday(after: Timestamp) -> Timestamp {
    let today = wall(after).date();
    let mondays = (0..9).map(|days| today + days.days());
    mondays
        .filter(|day| day.weekday() == civil::Weekday::Monday)
        .map(|day| instant(day.at(8, 0, 0, 0), AUDIENCE))
        .find(|at| *at > after)
        .unwrap()
}

fn remind(item: &Item, lead: &str) -> Remind {
    (id(&item.event.summary), item.start, lead.to_owned())
}

/// The number in a title.
fn id(title: &str) -> u32 {
    let digits: String = title.chars().skip(1).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {title:?}"))
}

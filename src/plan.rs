//! Who is told what, and when.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ZonedDateTime, civil};
use serde::{Deserialize, Serialize};

pub use crate::calendar::diff::Field;
use crate::calendar::diff::{Change, ChangeKind};
use crate::calendar::time::resolve;
use crate::calendar::{Event, EventKey, Occurrence, Uid, When, Window, Zones, identity, recur};

/// Which events are watched, what is told of them, and to whom.
#[derive(Clone, Debug)]
pub struct Watch {
    pub name: String,
    /// Names of feeds.
    pub feeds: Vec<String>,
    pub matcher: Matcher,
    pub announce: BTreeSet<Announce>,
    /// Before events with a time of day.
    pub remind: Vec<Lead>,
    /// Before all-day events.
    pub remind_all_day: Vec<Lead>,
    /// Tell what is upcoming when the watch is first seen.
    pub welcome: bool,
    /// How a change is told where the announcement of its event can be edited.
    pub on_change: OnChange,
    /// Names of receivers.
    pub to: Vec<String>,
}

/// How a change is told of an event whose announcement can be edited, as in Discord.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// The announcement is edited; no new message is sent.
    Edit,
    /// A message is sent as a reply to the announcement, which stays as it is.
    Reply,
    #[default]
    Both,
}

/// One message that always shows what lies ahead.
#[derive(Clone, Debug)]
pub struct Agenda {
    pub name: String,
    /// Whole local days, beginning with today.
    pub ahead_days: u16,
    /// Names of watches.
    pub watches: Vec<String>,
    /// Keep it among the pinned messages of the channel.
    pub pin: bool,
    /// Names of receivers.
    pub to: Vec<String>,
}

/// A choice of events. Empty lists choose everything.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Any of these, whatever the case.
    pub categories: Vec<String>,
    /// None of these.
    pub exclude: Vec<String>,
}

/// What a watch may announce; the words of `announce = [...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Announce {
    New,
    Title,
    Time,
    Place,
    /// Description, organizer, join link.
    Details,
    /// Enters or leaves the watched categories.
    Category,
    /// Cancelled, postponed, no longer listed, on again.
    Cancelled,
}

/// How long before its start an event is told again.
#[derive(Clone, Debug)]
pub struct Lead {
    /// As the configuration writes it: `1d`, `30m`, `1d at 18:00`. Part of the dedup key.
    pub text: String,
    /// Non-negative. Days are calendar days: `1d` before Monday noon is Sunday noon, whatever
    /// the clocks do in between.
    pub span: Span,
    /// The wall time on that day, instead of the event's own.
    pub at: Option<civil::Time>,
}

impl Lead {
    /// One text for all leads that mean the same: `1h` for `60m`, `1w` for `7d`. A day is no 24 hours.
    pub fn plain(&self) -> String {
        let days = i64::from(self.span.get_weeks()) * 7 + i64::from(self.span.get_days());
        if let Some(at) = self.at {
            return format!("{days}d at {}", at.strftime("%H:%M"));
        }
        let seconds = i64::from(self.span.get_hours()) * 3600
            + self.span.get_minutes().saturating_mul(60).saturating_add(self.span.get_seconds());
        let (weeks, days) = match seconds == 0 && days % 7 == 0 {
            true => (days / 7, 0),
            false => (0, days),
        };
        let parts = [
            (weeks, 'w'),
            (days, 'd'),
            (seconds / 3600, 'h'),
            (seconds / 60 % 60, 'm'),
            (seconds % 60, 's'),
        ];
        let said = parts.into_iter().filter(|(number, _)| *number > 0);
        let said: Vec<String> = said.map(|(number, unit)| format!("{number}{unit}")).collect();
        if said.is_empty() { "0m".to_owned() } else { said.join(" ") }
    }
}

/// A digest: everything of some watches in the days ahead, at set times.
#[derive(Clone, Debug)]
pub struct Digest {
    pub name: String,
    pub every: Schedule,
    /// Whole local days, beginning with the day of sending.
    pub ahead_days: u16,
    /// Names of watches.
    pub watches: Vec<String>,
    /// Send one when the digest is first seen.
    pub welcome: bool,
    /// Send it even when it holds nothing.
    pub send_empty: bool,
    pub to: Vec<String>,
}

/// Wall-clock times that come round every week.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// As the configuration writes it: `Mon 08:00`, `Mon,Thu 17:30`, `daily 07:00`.
    pub text: String,
    /// Monday first.
    pub days: [bool; 7],
    pub time: civil::Time,
}

/// Something to be told to one audience, whatever the medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The watch or digest it comes from.
    pub source: String,
    pub kind: Kind,
    /// The zone of the audience, an IANA name: dates and times are written in it.
    pub zone: String,
    /// In order of time. More than one for a digest, a welcome, or many changes told at once.
    pub items: Vec<Item>,
    /// Items beyond those listed, when a flood was cut.
    #[serde(default)]
    pub more: usize,
}

/// What sort of message it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One or more changes, each item saying which.
    Changes,
    Reminder {
        lead: String,
    },
    /// What lies in `[from, to)`; `from` and `to` are local days.
    Digest {
        from: civil::Date,
        to: civil::Date,
    },
    /// The first message of a watch: what is upcoming now.
    Welcome,
    /// Of beadle itself, to whoever runs it.
    Notice {
        title: String,
        text: String,
    },
}

/// One event in a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub feed: String,
    /// The feed's own name, where it has one.
    #[serde(default)]
    pub feed_name: Option<String>,
    pub key: EventKey,
    pub reason: Reason,
    /// The event as it is now; the occurrence meant, where it recurs.
    pub event: Event,
    /// The event as the audience last heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Event>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// The start the audience last heard of, when it has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_before: Option<Timestamp>,
    /// It recurs, and the whole series is meant.
    #[serde(default)]
    pub series: bool,
    /// The telling of the event that this is ([`Change::revision`]); 0 where it is merely listed.
    #[serde(default)]
    pub revision: u64,
}

impl Item {
    /// Whether the text of the event is that which is known under its key. What follows an override
    /// with `RANGE=THISANDFUTURE` is known under the key of its series, and has the override's.
    pub fn has_the_text_of_its_key(&self) -> bool {
        let id = self.event.recurrence_id.as_ref();
        id.is_none_or(|id| self.key.0.ends_with(&format!("#{}", id.local())))
    }
}

/// Why an event is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    New,
    /// New, but another event has the same title and start: perhaps the same one entered twice.
    PossibleDuplicate,
    /// These fields differ from [`Item::before`].
    Updated {
        fields: Vec<Field>,
    },
    /// The start or end moved; `fields` names what else changed with it.
    Rescheduled {
        fields: Vec<Field>,
    },
    Cancelled,
    Postponed,
    /// Gone from the feed, which does not say why.
    Withdrawn,
    /// Was cancelled, postponed or gone, and is on again.
    Reinstated,
    /// Still on, but no longer in the categories watched.
    Left,
    /// Not new, but now in the categories watched.
    Entered,
    /// It is listed (digest, welcome) or about to start (reminder).
    Upcoming,
}

impl Reason {
    /// The word used in lists for the operator.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::New => "new",
            Reason::PossibleDuplicate => "possible duplicate",
            Reason::Updated { .. } => "updated",
            Reason::Rescheduled { .. } => "rescheduled",
            Reason::Cancelled => "cancelled",
            Reason::Postponed => "postponed",
            Reason::Withdrawn => "withdrawn",
            Reason::Reinstated => "back on",
            Reason::Left => "left the category",
            Reason::Entered => "entered the category",
            Reason::Upcoming => "upcoming",
        }
    }
}

/// What planning needs to know besides the events.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub watches: &'a [Watch],
    pub digests: &'a [Digest],
    pub zones: &'a Zones,
    /// Of the audience.
    pub timezone: &'a TimeZone,
    pub now: Timestamp,
}

/// What planning needs to know of a feed.
#[derive(Clone, Debug)]
pub struct FeedView<'a> {
    pub name: &'a str,
    /// The feed's own name for itself.
    pub title: Option<&'a str>,
    /// Of its floating times and dates.
    pub zone: TimeZone,
    pub elsewhere: Elsewhere,
}

/// What the other feeds have of the same events; nothing where there is one feed.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Events of other feeds that have been told, with their starts.
    pub events: Vec<(String, Event, Timestamp)>,
    /// Those that wait to be told for the first time.
    pub untold: Vec<(String, Event, Timestamp)>,
    /// What was told lately of other feeds' events: receiver and [`Planned::told`].
    pub told: HashSet<(String, String)>,
}

impl Elsewhere {
    /// Whether this receiver hears of the event by another feed: of one that is new here, only
    /// where it has been told already, or each feed would leave it to the other.
    fn has(&self, watches: &[Watch], to: &str, item: &Item) -> bool {
        let (event, start) = (&item.event, item.start);
        let title = identity::normalised(&event.summary);
        let is_new = matches!(item.reason, Reason::New | Reason::Entered);
        let untold = self.untold.iter().filter(|_| !is_new);
        let twins = self.events.iter().chain(untold).filter(|(_, other, at)| {
            *at == start
                && (other.uid == event.uid || identity::normalised(&other.summary) == title)
        });
        let leads = |watch: &&Watch| watch.to.iter().any(|name| name == to);
        let mut heard = twins.flat_map(|(feed, other, _)| {
            let watching = watches.iter().filter(leads).filter(|w| w.feeds.contains(feed));
            watching.filter(|watch| watch.matcher.matches(other))
        });
        heard.next().is_some()
    }
}

/// An occurrence, and which event of which feed it is of.
#[derive(Clone, Debug)]
pub struct Upcoming {
    pub feed: String,
    pub feed_title: Option<String>,
    pub key: EventKey,
    pub occurrence: Occurrence,
    /// The same for the same event in another feed, and for no other event at that time; set by
    /// [`merge`].
    pub same: String,
}

/// Puts the occurrences of all feeds in order, and finds those that are the same event: by their
/// UID, or by their title. Of one feed, two of one title at one time are two events.
pub fn merge(mut upcoming: Vec<Upcoming>) -> Vec<Upcoming> {
    upcoming.sort_by(|a, b| {
        (a.occurrence.start, &a.feed, &a.key).cmp(&(b.occurrence.start, &b.feed, &b.key))
    });
    let mut by_uid: HashMap<(Uid, Timestamp), String> = HashMap::new();
    let mut titles: HashMap<(String, String, Timestamp), usize> = HashMap::new();
    for one in &mut upcoming {
        let Occurrence { event, start, .. } = &one.occurrence;
        let title = identity::normalised(&event.summary);
        let count = titles.entry((one.feed.clone(), title.clone(), *start)).or_default();
        *count += 1;
        let own = format!("{title}|{count}");
        one.same = by_uid.entry((event.uid.clone(), *start)).or_insert(own).clone();
    }
    upcoming
}

/// A notification and where and when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub notification: Notification,
    /// The name of a receiver.
    pub to: String,
    pub due_at: Timestamp,
    /// From then on it is of no use and is not sent.
    pub not_after: Timestamp,
    /// Equal for what must not be told twice to one receiver, and for nothing else.
    pub dedup: String,
    /// What is told, of each event: the same for the same event of another feed.
    pub told: Vec<String>,
}

/// More changes than this, for one receiver at one time, are told as one list.
const LIST_FROM: usize = 6;
/// Items of such a list; the others are counted.
const LIST_MAX: usize = 25;
/// How late a reminder for the start itself may be, where the event has no length.
const AT_START: SignedDuration = SignedDuration::from_mins(10);
/// How far ahead a welcome looks.
const WELCOME_AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);

impl Matcher {
    pub fn matches(&self, event: &Event) -> bool {
        let bears = |name: &String| {
            let same = |c: &String| c.to_lowercase() == name.to_lowercase();
            event.categories.iter().any(same) || event.categories_raw.iter().any(same)
        };
        (self.categories.is_empty() || self.categories.iter().any(bears))
            && !self.exclude.iter().any(bears)
    }
}

impl Lead {
    /// The instant this lead falls on, for a start by the audience's clocks. Days are counted by
    /// the calendar, hours and minutes by the hour glass: `1h` before 03:30 is an hour before it
    /// on the day when there is no 02:30, too.
    pub fn due(&self, start: &ZonedDateTime) -> Timestamp {
        let before = start.saturating_sub(self.span);
        match self.at {
            Some(time) => resolve(before.date().to_datetime(time), before.time_zone()),
            None => before.timestamp(),
        }
    }
}

impl Schedule {
    /// The first time after `after` that the schedule comes round.
    pub fn next(&self, after: Timestamp, timezone: &TimeZone) -> Timestamp {
        let mut date = timezone.to_datetime(after).date();
        for _ in 0..=8 {
            let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
            if self.days[weekday] {
                let at = resolve(date.to_datetime(self.time), timezone);
                if at > after {
                    return at;
                }
            }
            date = date.tomorrow().unwrap_or(civil::Date::MAX);
        }
        Timestamp::MAX
    }
}

/// Who is told of which changes.
pub fn changes(cx: &Context<'_>, feed: &FeedView<'_>, changes: &[Change]) -> Vec<Planned> {
    // What each receiver is told, and the first watch that leads there. However many watches do,
    // an item is told once.
    type Told<'a> = (&'a str, Vec<(String, Item)>);
    let mut told: BTreeMap<&str, Told<'_>> = BTreeMap::new();
    for watch in cx.watches.iter().filter(|w| w.feeds.iter().any(|f| f == feed.name)) {
        for change in changes {
            let Some(item) = item(cx, feed, watch, change) else { continue };
            let dedup =
                format!("change|{}|{}|{}|{}", feed.name, change.key, item.start, change.revision);
            for to in &watch.to {
                if heard_elsewhere(cx, feed, to, &item) {
                    continue;
                }
                let (_, items) = told.entry(to).or_insert((&watch.name, Vec::new()));
                if items.iter().all(|(other, _)| *other != dedup) {
                    items.push((dedup.clone(), item.clone()));
                }
            }
        }
    }
    let mut planned = Vec::new();
    for (to, (source, items)) in told {
        let alone = items.len() < LIST_FROM;
        for group in items.chunks(if alone { 1 } else { usize::MAX }) {
            let items: Vec<Item> = group.iter().map(|(_, item)| item.clone()).collect();
            let dedups: Vec<&str> = group.iter().map(|(dedup, _)| dedup.as_str()).collect();
            // What moved into the past is news for as long as it would have been upcoming.
            let last = items
                .iter()
                .map(|item| item.end.max(item.start).max(item.end_before.unwrap_or(item.end)))
                .max();
            planned.push(Planned {
                not_after: last.unwrap_or(Timestamp::MAX),
                dedup: dedups.join("\n"),
                told: items.iter().map(meaning).collect(),
                notification: cx.notification(source, Kind::Changes, items, LIST_MAX),
                to: to.to_owned(),
                due_at: cx.now,
            });
        }
    }
    planned
}

/// What an item tells, whichever feed it comes from.
fn meaning(item: &Item) -> String {
    format!("{}|{}|{}", item.reason.as_str(), identity::normalised(&item.event.summary), item.start)
}

/// Whether an event that stands in several feeds was, or will be, told by another of them.
fn heard_elsewhere(cx: &Context<'_>, feed: &FeedView<'_>, to: &str, item: &Item) -> bool {
    let here_or_there = match item.reason {
        // New here, or gone from here, it is there.
        Reason::New | Reason::Entered | Reason::Withdrawn | Reason::Left => {
            feed.elsewhere.has(cx.watches, to, item)
        }
        _ => false,
    };
    here_or_there || feed.elsewhere.told.contains(&(to.to_owned(), meaning(item)))
}

/// What a watch says of a change; none when it is not its business.
fn item(cx: &Context<'_>, feed: &FeedView<'_>, watch: &Watch, change: &Change) -> Option<Item> {
    let at = |when: &When| when.instant(cx.zones, &feed.zone);
    let after = watch.matcher.matches(&change.after);
    let before = change.before.as_ref().map(|event| watch.matcher.matches(event));
    let told = |what: Announce| watch.announce.contains(&what);

    let reason = match (change.kind, before, after) {
        (ChangeKind::New, _, _) if !change.after.status.is_on() => return None,
        (ChangeKind::New, _, true) if change.duplicate => Reason::PossibleDuplicate,
        (ChangeKind::New, _, true) => Reason::New,
        // An event that is off matters to those who knew it, whatever its category says now.
        (ChangeKind::Cancelled, Some(true), _) => Reason::Cancelled,
        (ChangeKind::Postponed, Some(true), _) => Reason::Postponed,
        (ChangeKind::Missing, Some(true), _) => Reason::Withdrawn,
        (ChangeKind::Reinstated, Some(true), true) => Reason::Reinstated,
        (ChangeKind::Rescheduled, Some(true), true) => {
            Reason::Rescheduled { fields: watch.interesting(&change.fields) }
        }
        (ChangeKind::Updated, Some(true), true) => {
            Reason::Updated { fields: watch.interesting(&change.fields) }
        }
        (_, Some(true), false) => Reason::Left,
        (ChangeKind::Missing | ChangeKind::Cancelled | ChangeKind::Postponed, _, _) => return None,
        (_, Some(false), true) => Reason::Entered,
        _ => return None,
    };
    let wanted = match &reason {
        Reason::New | Reason::PossibleDuplicate => told(Announce::New),
        Reason::Updated { fields } => !fields.is_empty(),
        Reason::Rescheduled { fields } => told(Announce::Time) || !fields.is_empty(),
        Reason::Left | Reason::Entered => told(Announce::Category),
        _ => told(Announce::Cancelled),
    };
    if !wanted {
        return None;
    }

    let mut event = change.after.clone();
    let (mut start, mut end) = (at(&event.start), at(&event.end));
    let series = !event.recurrence.is_empty();
    if series {
        let next = next_of(cx, feed, &event)?;
        (start, end) = (next.start, next.end);
        event.start = next.event.start;
        event.end = next.event.end;
    }
    let was = change.before.as_ref().map(|event| match series {
        true => next_of(cx, feed, event).map_or((start, end), |next| (next.start, next.end)),
        false => (at(&event.start), at(&event.end)),
    });
    // What is over, and was over before, is no news.
    let over = |end: Timestamp, start: Timestamp| end.max(start) <= cx.now && start < cx.now;
    if over(end, start) && was.is_none_or(|(start, end)| over(end, start)) {
        return None;
    }
    let moved = matches!(reason, Reason::Rescheduled { .. } | Reason::Reinstated);
    Some(Item {
        feed: feed.name.to_owned(),
        feed_name: feed.title.map(str::to_owned),
        key: change.key.clone(),
        reason,
        before: change.before.clone(),
        start_before: was.filter(|_| moved).map(|(start, _)| start),
        end_before: was.filter(|_| moved).map(|(_, end)| end),
        event,
        start,
        end,
        series,
        revision: change.revision,
    })
}

pub(crate) fn next_of(cx: &Context<'_>, feed: &FeedView<'_>, event: &Event) -> Option<Occurrence> {
    let to = cx.now.saturating_add(SignedDuration::from_hours(24 * 400)).ok()?;
    let window = Window { from: cx.now, to };
    let expansion = recur::expand(std::slice::from_ref(event), window, cx.zones, &feed.zone);
    expansion.occurrences.into_iter().next()
}

impl Watch {
    /// Those of the fields that it announces.
    pub(crate) fn interesting(&self, fields: &[Field]) -> Vec<Field> {
        let wanted = |field: &&Field| {
            let announce = match field {
                Field::Summary => Announce::Title,
                Field::Start | Field::End | Field::AllDay | Field::Recurrence => Announce::Time,
                Field::Location => Announce::Place,
                Field::Description | Field::Organizer | Field::Join => Announce::Details,
                Field::Categories => Announce::Category,
                Field::Status => Announce::Cancelled,
                // The next message simply links to the new address.
                Field::Url => return false,
            };
            self.announce.contains(&announce)
        };
        fields.iter().filter(wanted).copied().collect()
    }
}

impl Context<'_> {
    fn notification(&self, source: &str, kind: Kind, items: Vec<Item>, max: usize) -> Notification {
        let mut items = items;
        items.sort_by(|a, b| (a.start, &a.key).cmp(&(b.start, &b.key)));
        let more = items.len().saturating_sub(max);
        items.truncate(max);
        Notification {
            source: source.to_owned(),
            kind,
            zone: self.timezone.iana_name().unwrap_or("UTC").to_owned(),
            items,
            more,
        }
    }

    /// When a reminder of an occurrence is due, and from when it is of no use; none where it would
    /// come after the start.
    pub fn falls_due(
        &self,
        occurrence: &Occurrence,
        lead: &Lead,
    ) -> Option<(Timestamp, Timestamp)> {
        let Occurrence { start, end, .. } = *occurrence;
        let due_at = lead.due(&self.wall(occurrence));
        let not_after = match due_at.cmp(&start) {
            // An all-day event may be told on its day, a timed one until it starts, or until it
            // ends when the reminder is to come just then.
            _ if occurrence.event.is_all_day() => end,
            Ordering::Less => start,
            Ordering::Equal => end.max(start.saturating_add(AT_START).unwrap_or(end)),
            Ordering::Greater => return None,
        };
        Some((due_at, not_after))
    }

    /// The start by the audience's clocks; a date is the same date everywhere.
    fn wall(&self, occurrence: &Occurrence) -> ZonedDateTime {
        let start = match &occurrence.event.start {
            When::AllDay(date) => resolve(date.to_datetime(civil::Time::midnight()), self.timezone),
            _ => occurrence.start,
        };
        start.to_zoned_datetime(self.timezone.clone())
    }
}

impl Upcoming {
    /// As it is listed.
    pub fn item(&self) -> Item {
        Item {
            feed: self.feed.clone(),
            feed_name: self.feed_title.clone(),
            key: self.key.clone(),
            reason: Reason::Upcoming,
            event: self.occurrence.event.clone(),
            before: None,
            start: self.occurrence.start,
            end: self.occurrence.end,
            start_before: None,
            end_before: None,
            series: false,
            revision: 0,
        }
    }

    pub(crate) fn is_of(&self, watch: &Watch) -> bool {
        watch.feeds.contains(&self.feed) && watch.matcher.matches(&self.occurrence.event)
    }
}

/// Of an event that takes place more often than this in a day nobody is reminded.
pub const MAX_A_DAY: usize = 24;

/// Those that take place too often for reminders.
pub fn too_frequent(upcoming: &[Upcoming]) -> HashMap<(&str, &EventKey), &Upcoming> {
    let mut days: HashMap<(&str, &EventKey, i64), usize> = HashMap::new();
    let mut found = HashMap::new();
    for one in upcoming.iter().filter(|one| one.occurrence.event.recurrence_id.is_some()) {
        let day = one.occurrence.start.as_second().div_euclid(86_400);
        let count = days.entry((&one.feed, &one.key, day)).or_default();
        *count += 1;
        if *count > MAX_A_DAY {
            found.entry((one.feed.as_str(), &one.key)).or_insert(one);
        }
    }
    found
}

/// The reminders due in `(after, until]`, in order.
///
/// They follow from the events as they are, and are planned anew when these change, so that there is
/// none for a time that is no longer true.
pub fn reminders(
    cx: &Context<'_>,
    upcoming: &[Upcoming],
    after: Timestamp,
    until: Timestamp,
) -> Vec<Planned> {
    let mut planned: Vec<Planned> = Vec::new();
    let mut known = HashSet::new();
    let frequent = too_frequent(upcoming);
    for watch in cx.watches {
        for one in upcoming.iter().filter(|one| one.is_of(watch)) {
            let event = &one.occurrence.event;
            if !event.status.is_on() || frequent.contains_key(&(one.feed.as_str(), &one.key)) {
                continue;
            }
            let all_day = event.is_all_day();
            let leads = if all_day { &watch.remind_all_day } else { &watch.remind };
            let local = cx.wall(&one.occurrence).datetime();
            for lead in leads {
                let Some((due_at, not_after)) = cx.falls_due(&one.occurrence, lead) else {
                    continue;
                };
                if due_at <= after || due_at > until {
                    continue;
                }
                let dedup = format!("remind|{}|{local}|{}", one.same, lead.text);
                for to in &watch.to {
                    if !known.insert((to.clone(), dedup.clone())) {
                        continue;
                    }
                    let kind = Kind::Reminder { lead: lead.text.clone() };
                    planned.push(Planned {
                        notification: cx.notification(&watch.name, kind, vec![one.item()], 1),
                        to: to.clone(),
                        due_at,
                        not_after,
                        dedup: dedup.clone(),
                        told: Vec::new(),
                    });
                }
            }
        }
    }
    planned.sort_by(|a, b| (a.due_at, &a.dedup, &a.to).cmp(&(b.due_at, &b.dedup, &b.to)));
    planned
}

/// A person's wish to be reminded of an event.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Where the reminder goes, in place of a receiver.
    pub to: String,
    pub feed: String,
    pub key: EventKey,
    /// Of a series: its exceptions have keys of their own.
    pub uid: Uid,
    /// The local start that the series gave the one occurrence that is meant.
    pub occurrence: Option<civil::DateTime>,
    pub lead: Lead,
}

/// What a message to a person gives as its source.
pub const PERSONAL: &str = "a reminder you asked for";

impl Wish {
    /// The key alone would miss exceptions, the UID alone an event that got a new one.
    fn is_for(&self, one: &Upcoming) -> bool {
        let id = one.occurrence.event.recurrence_id.as_ref().map(When::local);
        let same = one.key == self.key || id.is_some() && one.occurrence.event.uid == self.uid;
        one.feed == self.feed && same && self.occurrence.is_none_or(|start| id == Some(start))
    }
}

/// The reminders that people asked for, due in `(after, until]`, in order. As with those of
/// watches, they follow from the events as they are.
pub fn personal_reminders(
    cx: &Context<'_>,
    upcoming: &[Upcoming],
    wishes: &[Wish],
    after: Timestamp,
    until: Timestamp,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut of_feed: HashMap<&str, Vec<&Wish>> = HashMap::new();
    for wish in wishes {
        of_feed.entry(&wish.feed).or_default().push(wish);
    }
    let frequent = too_frequent(upcoming);
    for one in upcoming.iter().filter(|one| one.occurrence.event.status.is_on()) {
        let Some(wishes) = of_feed.get(one.feed.as_str()) else { continue };
        let each = !frequent.contains_key(&(one.feed.as_str(), &one.key));
        let meant = |wish: &&&Wish| wish.is_for(one) && (each || wish.occurrence.is_some());
        for wish in wishes.iter().filter(meant) {
            let Some((due_at, not_after)) = cx.falls_due(&one.occurrence, &wish.lead) else {
                continue;
            };
            if due_at <= after || due_at > until {
                continue;
            }
            let kind = Kind::Reminder { lead: wish.lead.text.clone() };
            let local = cx.wall(&one.occurrence).datetime();
            planned.push(Planned {
                notification: cx.notification(PERSONAL, kind, vec![one.item()], 1),
                to: wish.to.clone(),
                due_at,
                not_after,
                dedup: format!("remind|{}|{}|{local}|{}", one.feed, one.key, wish.lead.text),
                told: Vec::new(),
            });
        }
    }
    planned.sort_by(|a, b| (a.due_at, &a.dedup, &a.to).cmp(&(b.due_at, &b.dedup, &b.to)));
    planned.dedup_by(|a, b| (&a.dedup, &a.to) == (&b.dedup, &b.to));
    planned
}

/// What those who asked to be reminded of an event must know of it instead: that it is off.
pub fn personal_changes(
    cx: &Context<'_>,
    feed: &FeedView<'_>,
    changes: &[Change],
    wishes: &[Wish],
) -> Vec<Planned> {
    let watch = Watch {
        name: PERSONAL.to_owned(),
        feeds: vec![feed.name.to_owned()],
        matcher: Matcher::default(),
        announce: BTreeSet::from([Announce::Cancelled]),
        remind: Vec::new(),
        remind_all_day: Vec::new(),
        welcome: false,
        on_change: OnChange::default(),
        to: Vec::new(),
    };
    let mut planned = Vec::new();
    for change in changes {
        let is_off = matches!(
            change.kind,
            ChangeKind::Cancelled | ChangeKind::Postponed | ChangeKind::Missing
        );
        let Some(item) = item(cx, feed, &watch, change).filter(|_| is_off) else { continue };
        let id = change.after.recurrence_id.as_ref().map(When::local);
        let concerned = wishes.iter().filter(|wish| {
            let of_series = id.is_some() && change.after.uid == wish.uid;
            let this = wish.occurrence.is_none() || wish.occurrence == id || id.is_none();
            wish.feed == feed.name && (change.key == wish.key || of_series) && this
        });
        let to: BTreeSet<&str> = concerned.map(|wish| wish.to.as_str()).collect();
        for to in to {
            planned.push(Planned {
                not_after: item.end.max(item.start),
                dedup: format!(
                    "change|{}|{}|{}|{}",
                    feed.name, change.key, item.start, change.revision
                ),
                told: Vec::new(),
                notification: cx.notification(PERSONAL, Kind::Changes, vec![item.clone()], 1),
                to: to.to_owned(),
                due_at: cx.now,
            });
        }
    }
    planned
}

/// The longest way ahead of `until` that an event due for a reminder by then can start; none where
/// nobody wants any.
pub fn reminder_reach(watches: &[Watch], wishes: &[Wish], until: Timestamp) -> Option<Timestamp> {
    let leads = watches.iter().flat_map(|w| w.remind.iter().chain(&w.remind_all_day));
    let leads = leads.chain(wishes.iter().map(|wish| &wish.lead));
    let days = leads.map(|lead| lead.days() + 2).max()?;
    Some(until.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX))
}

impl Lead {
    /// Whole days that it reaches back, rounded up.
    fn days(&self) -> i64 {
        let midnight = civil::date(2000, 1, 1).to_datetime(civil::Time::midnight());
        let back = midnight.duration_since(midnight.saturating_sub(self.span));
        back.as_hours() / 24 + 1
    }
}

/// When a digest that falls due in `(after, until]` does so: the newest time only, since an older
/// issue that was missed is contained in it or out of date.
pub fn digest_due(
    digest: &Digest,
    timezone: &TimeZone,
    after: Timestamp,
    until: Timestamp,
) -> Option<Timestamp> {
    let mut newest = None;
    // A week back is enough for the newest.
    let week = SignedDuration::from_hours(8 * 24);
    let mut at = after.max(until.saturating_sub(week).unwrap_or(after));
    loop {
        at = digest.every.next(at, timezone);
        if at > until || at == Timestamp::MAX {
            return newest;
        }
        newest = Some(at);
    }
}

/// The local days a digest sent at `due_at` covers, and the instants they begin and end.
pub fn digest_window(
    digest: &Digest,
    timezone: &TimeZone,
    due_at: Timestamp,
) -> (civil::Date, civil::Date, Window) {
    let from = timezone.to_datetime(due_at).date();
    let to = from.saturating_add(Span::new().days(i32::from(digest.ahead_days)));
    let midnight = |date: civil::Date| resolve(date.to_datetime(civil::Time::midnight()), timezone);
    (from, to, Window { from: midnight(from), to: midnight(to) })
}

/// A digest for `due_at`, to each of its receivers.
pub fn digest(
    cx: &Context<'_>,
    digest: &Digest,
    upcoming: &[Upcoming],
    due_at: Timestamp,
) -> Vec<Planned> {
    let (from, to, window) = digest_window(digest, cx.timezone, due_at);
    let watches: Vec<&Watch> =
        cx.watches.iter().filter(|w| digest.watches.contains(&w.name)).collect();
    let mut listed = HashSet::new();
    let items: Vec<Item> = upcoming
        .iter()
        .filter(|one| watches.iter().any(|watch| one.is_of(watch)))
        .filter(|one| match &one.occurrence.event.start {
            // Dates are dates wherever the reader is.
            When::AllDay(start) => *start < to && one.occurrence.event.end.local().date() > from,
            _ => window.overlaps(one.occurrence.start, one.occurrence.end),
        })
        .filter(|one| listed.insert((&one.same, one.occurrence.start)))
        .map(Upcoming::item)
        .collect();
    if items.is_empty() && !digest.send_empty {
        return Vec::new();
    }
    let next = digest.every.next(due_at, cx.timezone);
    let planned = |receiver: &String| Planned {
        notification: cx.notification(
            &digest.name,
            Kind::Digest { from, to },
            items.clone(),
            usize::MAX,
        ),
        to: receiver.clone(),
        due_at,
        not_after: next.min(window.to),
        dedup: format!("digest|{}|{from}", digest.name),
        told: Vec::new(),
    };
    digest.to.iter().map(planned).collect()
}

/// How far ahead [`welcome`] looks.
pub fn welcome_reach(now: Timestamp) -> Timestamp {
    now.saturating_add(WELCOME_AHEAD).unwrap_or(now)
}

/// The first message of a watch: what is upcoming now.
pub fn welcome(cx: &Context<'_>, watch: &Watch, upcoming: &[Upcoming]) -> Vec<Planned> {
    let to = welcome_reach(cx.now);
    let items: Vec<Item> = upcoming
        .iter()
        .filter(|one| one.is_of(watch) && one.occurrence.event.status.is_on())
        .filter(|one| {
            Window { from: cx.now, to }.overlaps(one.occurrence.start, one.occurrence.end)
        })
        .map(Upcoming::item)
        .collect();
    let planned = |receiver: &String| Planned {
        notification: cx.notification(&watch.name, Kind::Welcome, items.clone(), LIST_MAX),
        to: receiver.clone(),
        due_at: cx.now,
        not_after: to,
        dedup: format!("welcome|{}", watch.name),
        told: Vec::new(),
    };
    watch.to.iter().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::calendar::Status;

    /// An event of one hour in New York.
    fn event(uid: &str, summary: &str, start: &str) -> Event {
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
            page_image: None,
            join: None,
            recurrence: Default::default(),
            created: None,
            last_modified: None,
        }
    }

    fn zone() -> TimeZone {
        Zones::default().get("America/New_York").unwrap()
    }

    /// An instant, or a wall time in New York.
    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|_| resolve(text.parse().unwrap(), &zone()))
    }

    fn watch(name: &str, categories: &[&str], to: &[&str]) -> Watch {
        use Announce::*;
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Watch {
            name: name.to_owned(),
            feeds: vec!["site".to_owned()],
            matcher: Matcher { categories: texts(categories), exclude: Vec::new() },
            announce: [New, Title, Time, Place, Category, Cancelled].into(),
            remind: vec![lead("1h", 1.hour(), None)],
            remind_all_day: vec![lead("1d at 18:00", 1.day(), Some("18:00"))],
            welcome: false,
            on_change: OnChange::default(),
            to: texts(to),
        }
    }

    fn lead(text: &str, span: Span, at: Option<&str>) -> Lead {
        Lead { text: text.to_owned(), span, at: at.map(|time| time.parse().unwrap()) }
    }

    fn schedule(days: &[usize], time: &str) -> Schedule {
        let mut all = [false; 7];
        for day in days {
            all[*day] = true;
        }
        Schedule { text: String::new(), days: all, time: time.parse().unwrap() }
    }

    fn change(kind: ChangeKind, before: Option<Event>, after: Event, fields: &[Field]) -> Change {
        let key = EventKey(after.uid.0.clone());
        let fields = fields.to_vec();
        Change { key, kind, before, after, fields, duplicate: false, revision: 1 }
    }

    fn new(uid: &str, start: &str) -> Change {
        change(ChangeKind::New, None, event(uid, uid, start), &[])
    }

    /// What comes of changes read on 5 March 2026 at noon: `receiver (source): reason uid, …`.
    fn told(watches: &[Watch], all: &[Change]) -> Vec<String> {
        let zones = Zones::default();
        let timezone = zone();
        let now = at("2026-03-05T12:00:00");
        let cx = Context { watches, digests: &[], zones: &zones, timezone: &timezone, now };
        let elsewhere = Elsewhere::default();
        let view = FeedView { name: "site", title: None, zone: zone(), elsewhere };
        let planned = changes(&cx, &view, all);
        let line = |one: &Planned| {
            let item = |item: &Item| format!("{} {}", item.reason.as_str(), item.event.uid);
            let items: Vec<String> = one.notification.items.iter().map(item).collect();
            let more = match one.notification.more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{} ({}): {}{more}", one.to, one.notification.source, items.join(", "))
        };
        planned.iter().map(line).collect()
    }

    #[test]
    fn a_matcher_knows_names_whatever_their_case() {
        let mut talk = event("a", "Talk", "2026-03-10T10:00:00");
        talk.categories = vec!["Labs".to_owned(), "R&D".to_owned(), "ÉCOLE".to_owned()];
        talk.categories_raw = vec!["R&D, Labs".to_owned()];
        let table: [(&[&str], &[&str], bool); 8] = [
            (&[], &[], true),
            (&["labs"], &[], true),
            (&["école"], &[], true),
            (&["r&d, labs"], &[], true),
            (&["Lab"], &[], false),
            (&["Other", "R&D"], &[], true),
            (&[], &["LABS"], false),
            (&["R&D"], &["labs"], false),
        ];
        for (categories, exclude, expected) in table {
            let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let matcher = Matcher { categories: texts(categories), exclude: texts(exclude) };
            assert_eq!(matcher.matches(&talk), expected, "{matcher:?}");
        }
    }

    #[test]
    fn leads_count_days_by_the_calendar_and_hours_by_the_glass() {
        // 2026: forward on 8 March at 02:00, back on 1 November at 02:00.
        let table = [
            ("2026-03-10T10:00:00", 1.day(), None, "2026-03-09T10:00:00"),
            ("2026-03-09T01:30:00", 1.day(), None, "2026-03-08T01:30:00"),
            ("2026-03-09T02:30:00", 1.day(), None, "2026-03-08T03:30:00"),
            ("2026-03-08T03:30:00", 1.hour(), None, "2026-03-08T01:30:00"),
            ("2026-03-08T12:00:00", 1.day(), None, "2026-03-07T12:00:00"),
            ("2026-03-08T12:00:00", 24.hours(), None, "2026-03-07T11:00:00"),
            ("2026-03-10T10:00:00", 1.week(), None, "2026-03-03T10:00:00"),
            ("2026-11-01T02:00:00", 1.hour(), None, "2026-11-01T06:00:00Z"),
            ("2026-11-01T06:30:00Z", 1.hour(), None, "2026-11-01T05:30:00Z"),
            ("2026-11-01T02:00:00", 2.hours(), None, "2026-11-01T05:00:00Z"),
            ("2026-03-10T10:00:00", 1.day(), Some("18:00"), "2026-03-09T18:00:00"),
            ("2026-03-09T00:15:00", 1.day(), Some("02:30"), "2026-03-08T03:30:00"),
            ("2026-03-10T10:00:00", 0.days(), Some("08:00"), "2026-03-10T08:00:00"),
        ];
        for (start, span, time, expected) in table {
            let start = at(start).to_zoned_datetime(zone());
            let due = lead("", span, time).due(&start);
            assert_eq!(due, at(expected), "{span} {time:?} before {start}");
        }
        assert_eq!(
            lead("", 1.day(), None).due(&Timestamp::MIN.to_zoned_datetime(TimeZone::UTC)),
            Timestamp::MIN,
            "the beginning of time"
        );
    }

    #[test]
    fn a_schedule_comes_round_once_a_day_whatever_the_clocks_do() {
        let mondays = schedule(&[0], "08:00");
        let table = [
            (&mondays, "2026-03-02T07:59:59", "2026-03-02T08:00:00"),
            (&mondays, "2026-03-02T08:00:00", "2026-03-09T12:00:00Z"),
            (&schedule(&[0, 3], "17:30"), "2026-03-02T18:00:00", "2026-03-05T17:30:00"),
            // 02:30 does not exist on 8 March, and 01:30 comes twice on 1 November.
            (&schedule(&[6], "02:30"), "2026-03-07T00:00:00", "2026-03-08T03:30:00"),
            (&schedule(&[6], "02:30"), "2026-03-08T03:30:00", "2026-03-15T02:30:00"),
            (&schedule(&[6], "01:30"), "2026-10-31T00:00:00", "2026-11-01T05:30:00Z"),
            (&schedule(&[6], "01:30"), "2026-11-01T05:30:00Z", "2026-11-08T01:30:00"),
        ];
        for (schedule, after, expected) in table {
            assert_eq!(schedule.next(at(after), &zone()), at(expected), "after {after}");
        }
        assert_eq!(schedule(&[], "08:00").next(at("2026-03-02T00:00:00"), &zone()), Timestamp::MAX);
        assert_eq!(mondays.next(Timestamp::MAX, &zone()), Timestamp::MAX);
    }

    fn weekly() -> Digest {
        Digest {
            name: "weekly".to_owned(),
            every: schedule(&[0], "08:00"),
            ahead_days: 7,
            watches: vec!["all".to_owned()],
            welcome: false,
            send_empty: false,
            to: vec!["list".to_owned()],
        }
    }

    #[test]
    fn the_newest_of_the_digests_that_fell_due() {
        let table = [
            ("2026-03-08T00:00:00", "2026-03-09T07:59:59", None),
            ("2026-03-08T00:00:00", "2026-03-09T08:00:00", Some("2026-03-09T08:00:00")),
            ("2026-03-09T08:00:00", "2026-03-09T09:00:00", None),
            ("2026-02-01T00:00:00", "2026-03-10T00:00:00", Some("2026-03-09T08:00:00")),
            ("1970-01-01T00:00:00Z", "2026-03-10T00:00:00", Some("2026-03-09T08:00:00")),
        ];
        for (after, until, expected) in table {
            let due = digest_due(&weekly(), &zone(), at(after), at(until));
            assert_eq!(due, expected.map(at), "({after}, {until}]");
        }
    }

    #[test]
    fn a_digest_covers_whole_local_days() {
        let (from, to, window) = digest_window(&weekly(), &zone(), at("2026-03-02T08:00:00"));
        assert_eq!((from, to), (civil::date(2026, 3, 2), civil::date(2026, 3, 9)));
        assert_eq!(window.from, at("2026-03-02T05:00:00Z"));
        assert_eq!(window.to, at("2026-03-09T04:00:00Z"), "an hour less: the clocks go forward");
    }

    fn upcoming(events: &[Event]) -> Vec<Upcoming> {
        let zones = Zones::default();
        let one = |event: &Event| Upcoming {
            feed: "site".to_owned(),
            feed_title: None,
            key: EventKey(event.uid.0.clone()),
            occurrence: Occurrence {
                start: event.start.instant(&zones, &zone()),
                end: event.end.instant(&zones, &zone()),
                event: event.clone(),
            },
            same: String::new(),
        };
        merge(events.iter().map(one).collect())
    }

    #[test]
    fn a_digest_holds_what_overlaps_its_days() {
        let zones = Zones::default();
        let timezone = zone();
        let watches = [watch("all", &[], &["list"])];
        let now = at("2026-03-02T08:00:00");
        let cx =
            Context { watches: &watches, digests: &[], zones: &zones, timezone: &timezone, now };
        let day = |uid: &str, first: i8, end: i8| {
            let date = |day| When::AllDay(civil::date(2026, 3, day));
            Event { start: date(first), end: date(end), ..event(uid, uid, "2026-03-01T00:00:00") }
        };
        let events = [
            event("yesterday", "", "2026-03-01T10:00:00"),
            event("over midnight", "", "2026-03-01T23:30:00"),
            event("today", "", "2026-03-02T07:00:00"),
            event("sunday", "", "2026-03-08T23:30:00"),
            event("next monday", "", "2026-03-09T00:00:00"),
            day("ended", 1, 2),
            day("still on", 1, 3),
            day("next", 9, 10),
            Event { status: Status::Cancelled, ..event("off", "", "2026-03-03T10:00:00") },
        ];
        let planned = digest(&cx, &weekly(), &upcoming(&events), now);
        let mut uids: Vec<_> =
            planned[0].notification.items.iter().map(|item| item.event.uid.0.as_str()).collect();
        uids.sort_unstable();
        assert_eq!(uids, ["off", "over midnight", "still on", "sunday", "today"]);
        assert_eq!(planned[0].not_after, at("2026-03-09T04:00:00Z"), "useless after its last day");

        assert!(digest(&cx, &weekly(), &[], now).is_empty(), "an empty one is not sent");
        let empty = Digest { send_empty: true, ..weekly() };
        assert_eq!(digest(&cx, &empty, &[], now).len(), 1, "unless it is asked for");
    }

    #[test]
    fn people_are_reminded_of_what_they_named() {
        let zones = Zones::default();
        let timezone = zone();
        let now = at("2026-03-05T12:00:00");
        let cx = Context { watches: &[], digests: &[], zones: &zones, timezone: &timezone, now };
        let of_series = |day: i8, start: &str| Event {
            uid: Uid("series".to_owned()),
            recurrence_id: Some(When::Floating(civil::date(2026, 3, day).at(10, 0, 0, 0))),
            ..event("series", "", start)
        };
        let mut all = upcoming(&[
            event("talk", "", "2026-03-10T09:00:00"),
            of_series(9, "2026-03-09T10:00:00"),
            of_series(10, "2026-03-10T10:00:00"),
            // An exception, at another time.
            of_series(11, "2026-03-11T15:00:00"),
            Event { status: Status::Cancelled, ..of_series(12, "2026-03-12T10:00:00") },
        ]);
        all[3].key = EventKey("exception".to_owned());
        let wish = |to: &str, key: &str, day: Option<i8>, lead: Lead| Wish {
            to: to.to_owned(),
            feed: "site".to_owned(),
            key: EventKey(key.to_owned()),
            uid: Uid(key.to_owned()),
            occurrence: day.map(|day| civil::date(2026, 3, day).at(10, 0, 0, 0)),
            lead,
        };
        let wishes = [
            wish("ann", "talk", None, lead("1h", 1.hour(), None)),
            wish("ann", "talk", None, lead("2h", 2.hours(), None)),
            wish("bob", "series", None, lead("1h", 1.hour(), None)),
            wish("cat", "series", Some(11), lead("1h", 1.hour(), None)),
            Wish {
                feed: "other".to_owned(),
                ..wish("dan", "talk", None, lead("1h", 1.hour(), None))
            },
        ];
        let (from, to) = (now, at("2026-03-20T00:00:00"));
        let line = |one: &Planned| {
            let due = one.due_at.to_zoned_datetime(zone()).strftime("%a %H:%M");
            format!("{due} {} {}", one.to, one.notification.items[0].event.uid)
        };
        let planned = personal_reminders(&cx, &all, &wishes, from, to);
        assert_eq!(
            planned.iter().map(line).collect::<Vec<_>>(),
            [
                "Mon 09:00 bob series",
                "Tue 07:00 ann talk",
                "Tue 08:00 ann talk",
                "Tue 09:00 bob series",
                "Wed 14:00 bob series",
                "Wed 14:00 cat series",
            ]
        );
        let dedups: HashSet<_> = planned.iter().map(|one| (&one.to, &one.dedup)).collect();
        assert_eq!(dedups.len(), planned.len());
        let later = personal_reminders(&cx, &all, &wishes, at("2026-03-11T14:00:00"), to);
        assert_eq!(later, [], "what was due before is not due again");
    }

    #[test]
    fn people_hear_when_what_they_named_is_off() {
        let zones = Zones::default();
        let timezone = zone();
        let now = at("2026-03-05T12:00:00");
        let cx = Context { watches: &[], digests: &[], zones: &zones, timezone: &timezone, now };
        let elsewhere = Elsewhere::default();
        let view = FeedView { name: "site", title: None, zone: zone(), elsewhere };
        let talk = event("talk", "talk", "2026-03-10T09:00:00");
        let wish = |to: &str, key: &str, text: &str| Wish {
            to: to.to_owned(),
            feed: "site".to_owned(),
            key: EventKey(key.to_owned()),
            uid: Uid(key.to_owned()),
            occurrence: None,
            lead: lead(text, 1.hour(), None),
        };
        let wishes =
            [wish("ann", "talk", "1h"), wish("ann", "talk", "60m"), wish("bob", "other", "1h")];
        for (kind, expected) in [
            (ChangeKind::Cancelled, "ann cancelled"),
            (ChangeKind::Postponed, "ann postponed"),
            (ChangeKind::Missing, "ann withdrawn"),
            (ChangeKind::Rescheduled, ""),
            (ChangeKind::Updated, ""),
        ] {
            let one = change(kind, Some(talk.clone()), talk.clone(), &[Field::Start]);
            let planned = personal_changes(&cx, &view, &[one], &wishes);
            let told = planned
                .iter()
                .map(|one| format!("{} {}", one.to, one.notification.items[0].reason.as_str()));
            assert_eq!(told.collect::<Vec<_>>().join(", "), expected);
        }
        // One date is taken out of a series: who named that date or the series hears of it.
        let date = event("series", "talk", "2026-03-12T10:00:00");
        let off = Event {
            recurrence_id: Some(date.start.clone()),
            status: Status::Cancelled,
            ..date.clone()
        };
        let of = |to: &str, day: i8| Wish {
            occurrence: Some(civil::date(2026, 3, day).at(10, 0, 0, 0)),
            ..wish(to, "series", "1h")
        };
        let wishes = [of("ann", 12), of("bob", 19), wish("carol", "series", "1h")];
        let one = Change {
            key: EventKey("series".to_owned()),
            ..change(ChangeKind::Cancelled, Some(date), off, &[Field::Status])
        };
        let planned = personal_changes(&cx, &view, &[one], &wishes);
        let told: Vec<&str> = planned.iter().map(|one| one.to.as_str()).collect();
        assert_eq!(told, ["ann", "carol"]);
    }

    #[test]
    fn leads_that_mean_the_same_have_one_text() {
        let plain = |text: &str| crate::config::lead(text).unwrap().plain();
        for (texts, expected) in [
            (&["1h", "60m", "1 h", "3600s", "60 minutes"][..], "1h"),
            (&["90m", "1h30m", "1h 30m"], "1h 30m"),
            (&["0m", "0h", "0d"], "0m"),
            (&["1w", "7d"], "1w"),
            (&["8d", "1w 1d"], "8d"),
            (&["24h"], "24h"),
            (&["1d"], "1d"),
            (&["1d 2h"], "1d 2h"),
            (&["1d at 8:00", "1d at 08:00"], "1d at 08:00"),
            (&["1w at 18:00", "7d at 18:00"], "7d at 18:00"),
            (&["0d at 08:00"], "0d at 08:00"),
        ] {
            for text in texts {
                assert_eq!(plain(text), expected, "{text}");
            }
            assert_eq!(plain(expected), expected);
        }
    }

    #[test]
    fn nobody_is_reminded_of_what_takes_place_every_minute() {
        let (zones, timezone) = (Zones::default(), zone());
        let mut watches = [watch("one", &[], &["a"])];
        watches[0].remind.push(lead("15m", 15.minutes(), None));
        let now = at("2026-03-05T12:00:00");
        let cx =
            Context { watches: &watches, digests: &[], zones: &zones, timezone: &timezone, now };
        let until = at("2026-03-06T12:00:00");
        for (minutes, reminded) in [(1, false), (59, true)] {
            let repeated: Vec<Upcoming> = (0..24 * 60 / minutes)
                .flat_map(|n| {
                    let mut one = upcoming(&[event("a", "", "2026-03-06T00:00:00")]).remove(0);
                    one.occurrence.start += SignedDuration::from_mins(n * minutes);
                    let local = civil::date(2026, 3, 6).at(0, 0, 0, 0) + (n * minutes).minutes();
                    one.occurrence.event.recurrence_id = Some(When::Floating(local));
                    [one]
                })
                .collect();
            let planned = reminders(&cx, &repeated, now, until);
            assert_eq!(!planned.is_empty(), reminded, "every {minutes} minutes");
            assert_eq!(too_frequent(&repeated).is_empty(), reminded);
        }
    }

    #[test]
    fn reminders_are_for_what_is_on_and_once_for_each_receiver() {
        let zones = Zones::default();
        let timezone = zone();
        let mut both = [watch("one", &[], &["a", "b"]), watch("two", &[], &["b", "c"])];
        both[0].remind.push(lead("1d", 1.day(), None));
        let now = at("2026-03-05T12:00:00");
        let cx = Context { watches: &both, digests: &[], zones: &zones, timezone: &timezone, now };
        let date = |day| When::AllDay(civil::date(2026, 3, day));
        let events = [
            event("talk", "", "2026-03-10T10:00:00"),
            Event { status: Status::Cancelled, ..event("off", "", "2026-03-10T10:00:00") },
            Event { start: date(10), end: date(11), ..event("day", "", "2026-03-01T00:00:00") },
        ];
        let (from, to) = (at("2026-03-09T00:00:00"), at("2026-03-11T00:00:00"));
        let planned = reminders(&cx, &upcoming(&events), from, to);
        let lines: Vec<String> = planned
            .iter()
            .map(|one| {
                let Kind::Reminder { lead } = &one.notification.kind else { panic!("{one:?}") };
                let due = one.due_at.to_zoned_datetime(zone()).strftime("%a %H:%M");
                format!("{due} {} {} {lead}", one.to, one.notification.items[0].event.uid)
            })
            .collect();
        assert_eq!(
            lines,
            [
                "Mon 10:00 a talk 1d",
                "Mon 10:00 b talk 1d",
                "Mon 18:00 a day 1d at 18:00",
                "Mon 18:00 b day 1d at 18:00",
                "Mon 18:00 c day 1d at 18:00",
                "Tue 09:00 a talk 1h",
                "Tue 09:00 b talk 1h",
                "Tue 09:00 c talk 1h",
            ]
        );
        let keys: HashSet<_> = planned.iter().map(|one| (&one.to, &one.dedup)).collect();
        assert_eq!(keys.len(), planned.len());
        let first = &planned[0];
        let again = reminders(&cx, &upcoming(&events), first.due_at, to);
        assert!(!again.contains(first), "the range is open at its beginning");
        let until = reminders(&cx, &upcoming(&events), from, first.due_at);
        assert!(until.contains(first), "and closed at its end");
        assert!(reminder_reach(&both, &[], to) > Some(to + 24.hours()));
        assert_eq!(reminder_reach(&[], &[], to), None);
    }

    #[test]
    fn each_receiver_hears_of_a_change_once() {
        let watches = [watch("one", &[], &["a", "b"]), watch("two", &[], &["b", "c"])];
        assert_eq!(
            told(&watches, &[new("x", "2026-03-10T10:00:00")]),
            ["a (one): new x", "b (one): new x", "c (two): new x"]
        );
        let mut elsewhere = watch("other", &[], &["a"]);
        elsewhere.feeds = vec!["another".to_owned()];
        assert_eq!(told(&[elsewhere], &[new("x", "2026-03-10T10:00:00")]), [""; 0]);
    }

    #[test]
    fn many_changes_at_once_are_a_list() {
        let watches = [watch("all", &[], &["a"])];
        let many = |n: usize| -> Vec<Change> {
            (0..n).map(|n| new(&format!("{n:02}"), "2026-03-10T10:00:00")).collect()
        };
        assert_eq!(told(&watches, &many(5)).len(), 5);
        let six = told(&watches, &many(6));
        assert_eq!(six, ["a (all): new 00, new 01, new 02, new 03, new 04, new 05"]);
        let thirty = told(&watches, &many(30));
        assert_eq!(thirty.len(), 1);
        assert!(thirty[0].ends_with("new 24 and 5 more"), "{thirty:?}");
    }

    #[test]
    fn what_is_over_is_no_news() {
        let watches = [watch("all", &[], &["a"])];
        let (past, future) = ("2026-03-04T10:00:00", "2026-03-10T10:00:00");
        assert_eq!(told(&watches, &[new("x", past)]), [""; 0]);
        let moved = |from: &str, to: &str| {
            let fields = [Field::Start, Field::End];
            let (old, new) = (event("x", "x", from), event("x", "x", to));
            told(&watches, &[change(ChangeKind::Rescheduled, Some(old), new, &fields)])
        };
        assert_eq!(moved(past, "2026-03-03T10:00:00"), [""; 0]);
        assert_eq!(moved(past, future), ["a (all): rescheduled x"]);
        assert_eq!(moved(future, past), ["a (all): rescheduled x"]);
        // Going on at this moment.
        assert_eq!(told(&watches, &[new("x", "2026-03-05T11:30:00")]), ["a (all): new x"]);
    }

    #[test]
    fn a_watch_hears_of_what_enters_and_leaves_it() {
        let watches = [watch("talks", &["Talk"], &["a"])];
        let of = |category: &str| {
            let mut event = event("x", "x", "2026-03-10T10:00:00");
            event.categories = vec![category.to_owned()];
            event
        };
        let table = [
            (ChangeKind::New, None, "Talk", "new"),
            (ChangeKind::New, None, "Party", ""),
            (ChangeKind::Updated, Some("Talk"), "Party", "left the category"),
            (ChangeKind::Updated, Some("Party"), "Talk", "entered the category"),
            (ChangeKind::Updated, Some("Party"), "Ball", ""),
            (ChangeKind::Rescheduled, Some("Talk"), "Party", "left the category"),
            (ChangeKind::Rescheduled, Some("Party"), "Talk", "entered the category"),
            (ChangeKind::Cancelled, Some("Talk"), "Party", "cancelled"),
            (ChangeKind::Cancelled, Some("Party"), "Talk", ""),
            (ChangeKind::Postponed, Some("Talk"), "Talk", "postponed"),
            (ChangeKind::Missing, Some("Talk"), "Talk", "withdrawn"),
            (ChangeKind::Missing, Some("Party"), "Party", ""),
            (ChangeKind::Reinstated, Some("Talk"), "Talk", "back on"),
        ];
        for (kind, before, after, expected) in table {
            let fields = [Field::Categories];
            let lines = told(&watches, &[change(kind, before.map(of), of(after), &fields)]);
            let expected: Vec<String> = match expected {
                "" => Vec::new(),
                reason => vec![format!("a (talks): {reason} x")],
            };
            assert_eq!(lines, expected, "{kind:?} {before:?} {after}");
        }
    }

    #[test]
    fn a_watch_tells_what_it_was_asked_to() {
        let words = [
            (Announce::Title, Field::Summary),
            (Announce::Time, Field::Recurrence),
            (Announce::Place, Field::Location),
            (Announce::Details, Field::Description),
            (Announce::Details, Field::Organizer),
            (Announce::Details, Field::Join),
            (Announce::Category, Field::Categories),
        ];
        let updated = |field: Field| {
            let event = event("x", "x", "2026-03-10T10:00:00");
            change(ChangeKind::Updated, Some(event.clone()), event, &[field])
        };
        for (word, field) in words {
            let mut one = watch("all", &[], &["a"]);
            one.announce = [word].into();
            assert_eq!(told(std::slice::from_ref(&one), &[updated(field)]).len(), 1, "{field}");
            one.announce = words.iter().map(|(word, _)| *word).filter(|w| *w != word).collect();
            assert_eq!(told(&[one], &[updated(field)]).len(), 0, "{field}");
        }
        let all = watch("all", &[], &["a"]);
        assert_eq!(told(&[all], &[updated(Field::Url)]).len(), 0, "a new address is no news");
    }
}

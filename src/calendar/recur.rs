//! Recurring events to occurrences inside a window (RFC 5545, 3.8.4.4 and 3.8.5).
//!
//! [`rule`] does the calendar arithmetic on wall times; instants are resolved here, so that
//! daylight saving, exceptions and overrides are settled in one place.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::rule::{self, Rule, Shortfall, Wall};
use super::{Event, Occurrence, Recurrence, Uid, Warning, When, Window, Zones, time};

/// What takes place in a window.
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    /// In order of start, then UID. Those that are cancelled are among them, and say so in
    /// their event's status; those in `EXDATE` are not.
    pub occurrences: Vec<Occurrence>,
    pub warnings: Vec<Warning>,
}

/// An occurrence whose text is still that of its event. There may be many: it is kept small.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'e> {
    /// What it looks like: the series, or an override.
    pub event: &'e Event,
    /// Seconds since the epoch.
    pub start: i64,
    /// Exclusive.
    pub end: i64,
    /// The series and the wall time of it that the rule gave; none where the event stands for
    /// itself.
    series: Option<(&'e Event, Wall)>,
    /// Of an all-day occurrence of a series: how many days it lies behind the wall time, and how
    /// many it lasts.
    days: (i32, i32),
}

/// The occurrences that lie at least partly in `window`.
///
/// An override (an event with `RECURRENCE-ID`) stands for the occurrence it names, wherever it was
/// moved; one that names no occurrence of its series stands for itself. With
/// `RANGE=THISANDFUTURE` its text also replaces that of the later ones, and its shift moves them.
/// An `EXDATE` takes an override away with its occurrence, unless the override has the higher
/// `SEQUENCE`: then it was made later.
pub fn expand(events: &[Event], window: Window, zones: &Zones, feed_zone: &TimeZone) -> Expansion {
    let (mut instances, mut warnings) = instances(events, window, zones, feed_zone);
    instances.sort_by(Instance::order);
    let mut left = FEED_BYTES;
    let mut occurrences = Vec::with_capacity(instances.len());
    for instance in instances {
        if instance.series.is_some() {
            let size = instance.event.description.len() + 1024;
            let Some(rest) = left.checked_sub(size) else {
                let message = "too many occurrences; the later ones are left out".to_owned();
                let event = Some(instance.event.uid.0.clone());
                warnings.push(Warning { line: 0, event, message });
                break;
            };
            left = rest;
        }
        occurrences.push(instance.occurrence(zones, feed_zone));
    }
    Expansion { occurrences, warnings }
}

/// As [`expand`], in no order, and without a copy of the text of each.
pub fn instances<'e>(
    events: &'e [Event],
    window: Window,
    zones: &Zones,
    feed_zone: &TimeZone,
) -> (Vec<Instance<'e>>, Vec<Warning>) {
    let mut families: HashMap<&Uid, Family<'e>> = HashMap::new();
    for event in events.iter().filter(|event| event.recurrence_id.is_some()) {
        families.entry(&event.uid).or_default().overrides.push(event);
    }
    if !families.is_empty() {
        for event in events.iter().filter(|event| event.recurrence_id.is_none()) {
            if let Some(family) = families.get_mut(&event.uid) {
                family.master.get_or_insert(event);
            }
        }
    }
    let mut expander = Expander {
        window,
        clocks: Clocks::new(window, zones, feed_zone),
        steps: FEED_STEPS,
        walls: Vec::new(),
        found: Vec::new(),
        warnings: Vec::new(),
    };
    for event in events {
        let family = if families.is_empty() { None } else { families.get(&event.uid) };
        let overrides = family.map_or(&[][..], |family| &family.overrides);
        if let Some(id) = &event.recurrence_id {
            let master = family.and_then(|family| family.master);
            if !master.is_some_and(|master| expander.is_withdrawn(event, id, master)) {
                expander.single(event);
            }
        } else if event.recurrence == NO_RECURRENCE && overrides.is_empty() {
            expander.single(event);
        } else {
            expander.series(event, overrides);
        }
    }
    (expander.found, expander.warnings)
}

/// The first occurrence, of the events given, that starts at `from` or later; looks ten years
/// ahead.
pub fn next_occurrence(
    events: &[Event],
    from: Timestamp,
    zones: &Zones,
    feed_zone: &TimeZone,
) -> Option<Occurrence> {
    [40, 400, 3_660].into_iter().find_map(|days| {
        let to = from.checked_add(SignedDuration::from_hours(days * 24)).unwrap_or(Timestamp::MAX);
        let (found, _) = instances(events, Window { from, to }, zones, feed_zone);
        let later = found.iter().filter(|one| one.start >= from.as_second());
        Some(later.min_by(|a, b| Instance::order(a, b))?.occurrence(zones, feed_zone))
    })
}

/// When an event first starts and last ends, at the widest: every occurrence lies between, but
/// not every bound is reached. `Timestamp::MAX` where a rule has no end that can be told cheaply.
/// An override has bounds of its own.
pub fn bounds(event: &Event, zones: &Zones, feed_zone: &TimeZone) -> (Timestamp, Timestamp) {
    let mut first = event.start.instant(zones, feed_zone);
    let mut last = event.end.instant(zones, feed_zone).max(first);
    let duration = last.duration_since(first);
    if event.this_and_future {
        return (first, Timestamp::MAX);
    }
    for (start, end) in &event.recurrence.rdates {
        let start = start.instant(zones, feed_zone);
        let end = match end {
            Some(end) => end.instant(zones, feed_zone),
            None => add(start, duration).unwrap_or(Timestamp::MAX),
        };
        first = first.min(start);
        last = last.max(end);
    }
    // An RDATE that is a date takes its time of day from the event.
    const SLACK: SignedDuration = SignedDuration::from_hours(48);
    if !event.recurrence.rdates.is_empty() {
        first = add(first, -SLACK).unwrap_or(Timestamp::MIN);
        last = add(last, SLACK).unwrap_or(Timestamp::MAX);
    }
    for rule in &event.recurrence.rules {
        let until =
            Rule::parse(rule).ok().and_then(|rule| rule.until(&event.start, &TimeZone::UTC));
        let end = until.and_then(|until| {
            let until = time::resolve(until, &TimeZone::UTC);
            add(until, duration.checked_add(SLACK)?)
        });
        last = last.max(end.unwrap_or(Timestamp::MAX));
    }
    (first, last)
}

fn add(instant: Timestamp, duration: SignedDuration) -> Option<Timestamp> {
    instant.checked_add(duration).ok()
}

/// Periods and dates that one rule may cost before it counts as too dense.
const RULE_STEPS: u64 = 50_000;
/// The same for all rules of a feed together.
const FEED_STEPS: u64 = 3_000_000;
/// What a rule is charged that can never yield a date: finding that out takes time too.
const VAIN_STEPS: u64 = 10_000;
/// Text that the occurrences of series may copy.
const FEED_BYTES: usize = 128 * 1024 * 1024;
/// More than any two clocks of the world are apart, and any clock is ever changed.
const SLACK: Wall = 48 * 3_600;

const NO_RECURRENCE: Recurrence =
    Recurrence { rules: Vec::new(), exrules: Vec::new(), rdates: Vec::new(), exdates: Vec::new() };

/// An event and its overrides.
#[derive(Default)]
struct Family<'e> {
    master: Option<&'e Event>,
    overrides: Vec<&'e Event>,
}

struct Expander<'e, 'z> {
    window: Window,
    clocks: Clocks<'z>,
    steps: u64,
    /// Kept for its memory.
    walls: Vec<Wall>,
    found: Vec<Instance<'e>>,
    warnings: Vec<Warning>,
}

impl<'e> Expander<'e, '_> {
    fn warn(&mut self, event: &Event, message: String) {
        let event = Some(event.uid.0.clone());
        let warning = Warning { line: 0, event, message };
        if self.warnings.last() != Some(&warning) {
            self.warnings.push(warning);
        }
    }

    /// An event that is its own only occurrence.
    fn single(&mut self, event: &'e Event) {
        let start = self.clocks.instant(&event.start);
        let end = self.clocks.instant(&event.end).max(start);
        self.keep(Instance { event, start, end, series: None, days: (0, 0) });
    }

    fn keep(&mut self, one: Instance<'e>) {
        let (from, to) = (self.window.from.as_second(), self.window.to.as_second());
        if one.start < to && (one.end > from || (one.start == one.end && one.start >= from)) {
            self.found.push(one);
        }
    }

    fn series(&mut self, master: &'e Event, overrides: &[&'e Event]) {
        let clock = self.clocks.of(&master.start);
        let mut laters: Vec<Later<'e>> =
            overrides.iter().filter_map(|event| self.later(event, clock)).collect();
        laters.sort_by_key(|later| later.from);
        let own =
            Later { from: i64::MIN, shift: 0, length: self.length(master), clock, event: master };

        // Wide enough that nothing which ends, or is moved, into the window is missed.
        let all = || laters.iter().chain([&own]);
        let longest = all().map(|later| later.length).max().unwrap_or_default();
        let moved = all().map(|later| later.shift.abs()).max().unwrap_or_default();
        let margin = longest.saturating_add(moved).saturating_add(SLACK);
        let (from, to) = self.clocks.list[clock].window;
        let range = (from.saturating_sub(margin), to.saturating_add(margin));

        let mut walls = std::mem::take(&mut self.walls);
        self.rules(master, clock, range, &mut walls);
        let ends = self.rdates(master, clock, range, &mut walls);
        if !master.recurrence.exrules.is_empty() {
            let mut excluded = Vec::new();
            for rule in &master.recurrence.exrules {
                self.dates(master, rule, clock, range, &mut excluded);
            }
            excluded.sort_unstable();
            walls.retain(|wall| excluded.binary_search(wall).is_err());
        }

        let excluded = Marks::new(&master.recurrence.exdates, self);
        let ids = overrides.iter().filter_map(|event| event.recurrence_id.as_ref());
        let replaced = Marks::new(ids, self);
        let all_day = master.is_all_day();
        let mut last = None;
        for wall in walls.iter().copied() {
            let original = self.clocks.second(clock, wall);
            // A gap may make two wall times one instant.
            let doubled = last.replace(original) == Some(original);
            if doubled
                || excluded.has(wall, original, all_day)
                || replaced.has(wall, original, all_day)
            {
                continue;
            }
            let look = laters.iter().rev().find(|later| later.from <= original).unwrap_or(&own);
            let end = ends
                .iter()
                .find(|(start, _)| *start == wall && std::ptr::eq(look.event, master))
                .map(|(_, end)| *end);
            self.occurrence(master, look, wall, original, end);
        }
        walls.clear();
        self.walls = walls;
    }

    /// One occurrence of a series, which looks as `look` says.
    fn occurrence(
        &mut self,
        master: &'e Event,
        look: &Later<'e>,
        wall: Wall,
        original: i64,
        end: Option<&When>,
    ) {
        let local = wall.saturating_add(look.shift);
        let same = look.shift == 0 && std::ptr::eq(look.event, master);
        let start = if same { original } else { self.clocks.second(look.clock, local) };
        let series = Some((master, wall));
        if look.event.is_all_day() {
            let first = local.div_euclid(86_400) * 86_400;
            let last = match end {
                Some(end) => rule::wall(end.local()),
                None => first.saturating_add(look.length),
            };
            let last = last.div_euclid(86_400) * 86_400;
            let last = last.max(first);
            let end = self.clocks.second(look.clock, last).max(start);
            let days = |seconds: i64| i32::try_from(seconds / 86_400).unwrap_or_default();
            let days = (days(first - wall), days(last - first));
            self.keep(Instance { event: look.event, start, end, series, days });
        } else {
            let end = match end {
                Some(end) => self.clocks.instant(end).max(start),
                None => start.saturating_add(look.length),
            };
            self.keep(Instance { event: look.event, start, end, series, days: (0, 0) });
        }
    }

    /// Seconds that an event lasts; whole days of an all-day event.
    fn length(&mut self, event: &Event) -> i64 {
        let length = if event.is_all_day() {
            rule::wall(event.end.local()) - rule::wall(event.start.local())
        } else {
            self.clocks.instant(&event.end) - self.clocks.instant(&event.start)
        };
        length.max(0)
    }

    /// What a `THISANDFUTURE` override does to the occurrences after it, which follow the clock of
    /// their series.
    fn later(&mut self, event: &'e Event, series: usize) -> Option<Later<'e>> {
        let original = event.recurrence_id.as_ref().filter(|_| event.this_and_future)?;
        let (from, length) = (self.clocks.instant(original), self.length(event));
        let start = self.clocks.instant(&event.start);
        let (shift, clock) = match (&event.start, original) {
            (When::Zoned { .. } | When::Floating(_), When::Zoned { .. } | When::Floating(_)) => {
                let wall = |at| self.clocks.list[series].wall(time::timestamp(at));
                (wall(start) - wall(from), series)
            }
            _ => {
                let shift = rule::wall(event.start.local()) - rule::wall(original.local());
                (shift, self.clocks.of(&event.start))
            }
        };
        Some(Later { from, shift, length, clock, event })
    }

    /// The wall times that the event's rules and its own start give, in order.
    fn rules(&mut self, master: &Event, clock: usize, range: (Wall, Wall), walls: &mut Vec<Wall>) {
        let start = rule::wall(master.start.local());
        let mut begins = master.recurrence.rules.is_empty();
        for rule in &master.recurrence.rules {
            begins |= self.dates(master, rule, clock, range, walls);
        }
        if master.recurrence.rules.len() > 1 {
            walls.sort_unstable();
            walls.dedup();
        }
        // DTSTART is the first occurrence, whether or not the rule yields it; but an UNTIL before
        // it is how publishers say that none is left.
        if begins
            && (range.0..=range.1).contains(&start)
            && walls.first().is_none_or(|first| *first > start)
        {
            walls.insert(0, start);
        }
    }

    /// Adds the wall times that a rule yields in a range. Says whether the rule had begun to hold
    /// at the event's start, as it has when nobody can tell.
    fn dates(
        &mut self,
        event: &Event,
        rule: &str,
        clock: usize,
        (from, mut to): (Wall, Wall),
        walls: &mut Vec<Wall>,
    ) -> bool {
        // Said when the event was read.
        let Ok(parsed) = Rule::parse(rule) else { return true };
        let start = rule::wall(event.start.local());
        if let Some(until) = parsed.until(&event.start, &self.clocks.list[clock].zone) {
            let until = rule::wall(until);
            if until < start {
                return false;
            }
            to = to.min(until);
        }
        let mut steps = self.steps.min(RULE_STEPS);
        let given = steps;
        let result = parsed.dates(start, from, to, &mut steps, walls);
        self.steps -= given - steps;
        let message = match result {
            Ok(()) => return true,
            Err(Shortfall::Never) => {
                self.steps = self.steps.saturating_sub(VAIN_STEPS);
                "yields no date"
            }
            Err(Shortfall::Dense) => "too dense; not expanded",
            Err(Shortfall::Spent) if self.steps == 0 => {
                "the feed's rules are too many or too dense; not all of it is expanded"
            }
            Err(Shortfall::Spent) => "too dense; not all of it is expanded",
        };
        let rule: String = rule.chars().take(80).collect();
        self.warn(event, format!("rule {rule}: {message}"));
        true
    }

    /// Adds the wall times of `RDATE`, and says where they have an end of their own.
    fn rdates(
        &mut self,
        master: &'e Event,
        clock: usize,
        range: (Wall, Wall),
        walls: &mut Vec<Wall>,
    ) -> Vec<(Wall, &'e When)> {
        let mut ends = Vec::new();
        if master.recurrence.rdates.is_empty() {
            return ends;
        }
        let start = master.start.local();
        for (date, end) in &master.recurrence.rdates {
            let local = match (date, &master.start) {
                (When::AllDay(date), _) => date.to_datetime(start.time()),
                (date, When::AllDay(_)) => date.local().date().to_datetime(start.time()),
                (When::Floating(local), _) => *local,
                (date, _) => {
                    let at = time::timestamp(self.clocks.instant(date));
                    self.clocks.list[clock].zone.to_datetime(at)
                }
            };
            let wall = rule::wall(local);
            let Some(end) = end else {
                if (range.0..=range.1).contains(&wall) {
                    walls.push(wall);
                }
                continue;
            };
            // A period may last longer than the event.
            let begins = self.clocks.second(clock, wall);
            let ends_at = self.clocks.instant(end);
            if wall <= range.1 && ends_at.max(begins) >= self.window.from.as_second() {
                walls.push(wall);
                ends.push((wall, end));
            }
        }
        walls.sort_unstable();
        walls.dedup();
        ends
    }

    /// Whether the series that an override belongs to has since been changed so that the override
    /// is no part of it.
    fn is_withdrawn(&mut self, event: &Event, id: &When, master: &Event) -> bool {
        if event.sequence > master.sequence {
            return false;
        }
        let original = self.clocks.instant(id);
        let clock = self.clocks.of(&master.start);
        let wall = match (id, &master.start) {
            (When::Zoned { .. }, When::Zoned { .. } | When::Floating(_)) => {
                self.clocks.list[clock].wall(time::timestamp(original))
            }
            _ => rule::wall(id.local()),
        };
        let all_day = master.is_all_day();
        if Marks::new(&master.recurrence.exdates, self).has(wall, original, all_day) {
            return true;
        }
        // One that repeats by itself is a former state of the series, if the series does not know
        // its day any more.
        if event.sequence == master.sequence || event.recurrence.is_empty() {
            return false;
        }
        let mut walls = Vec::new();
        let day = wall.div_euclid(86_400) * 86_400;
        self.rules(master, clock, (day, day + 86_399), &mut walls);
        walls.is_empty()
    }
}

/// What occurrences look like from an instant on.
struct Later<'e> {
    /// Seconds since the epoch.
    from: i64,
    /// Seconds by which their wall time is moved.
    shift: i64,
    /// Seconds they last.
    length: i64,
    /// By which their wall time is meant.
    clock: usize,
    event: &'e Event,
}

impl Instance<'_> {
    fn order(a: &Self, b: &Self) -> Ordering {
        (a.start, &a.event.uid, a.end).cmp(&(b.start, &b.event.uid, b.end))
    }

    /// The event as it is on this day.
    pub fn occurrence(&self, zones: &Zones, feed_zone: &TimeZone) -> Occurrence {
        let (start, end) = (time::timestamp(self.start), time::timestamp(self.end));
        let mut event = once(self.event);
        let Some((master, wall)) = self.series else {
            return Occurrence { event, start, end };
        };
        let show = |like: &When, at: Timestamp, day: Wall| match like {
            When::Zoned { zone, .. } => {
                let local = zones.get(zone).as_ref().unwrap_or(feed_zone).to_datetime(at);
                When::Zoned { local, zone: zone.clone() }
            }
            When::Floating(_) => When::Floating(feed_zone.to_datetime(at)),
            When::AllDay(date) => When::AllDay(rule::local(day).map_or(*date, |day| day.date())),
        };
        let first = wall.saturating_add(i64::from(self.days.0) * 86_400);
        let last = first.saturating_add(i64::from(self.days.1) * 86_400);
        event.start = show(&event.start, start, first);
        event.end = show(&event.end, end, last);
        event.this_and_future = false;
        event.recurrence_id = rule::local(wall).map(|local| match &master.start {
            When::AllDay(_) => When::AllDay(local.date()),
            When::Zoned { zone, .. } => When::Zoned { local, zone: zone.clone() },
            When::Floating(_) => When::Floating(local),
        });
        Occurrence { event, start, end }
    }
}

/// A copy without what makes it repeat, which may be long.
fn once(event: &Event) -> Event {
    Event {
        uid: event.uid.clone(),
        recurrence_id: event.recurrence_id.clone(),
        this_and_future: event.this_and_future,
        sequence: event.sequence,
        status: event.status,
        judged: event.judged.clone(),
        start: event.start.clone(),
        end: event.end.clone(),
        summary: event.summary.clone(),
        description: event.description.clone(),
        location: event.location.clone(),
        url: event.url.clone(),
        categories: event.categories.clone(),
        categories_raw: event.categories_raw.clone(),
        organizer: event.organizer.clone(),
        image: event.image.clone(),
        join: event.join.clone(),
        recurrence: NO_RECURRENCE,
        created: event.created,
        last_modified: event.last_modified,
    }
}

/// Occurrences named by their original start, in whatever form it was written: by its instant; by
/// its wall time where no zone was given; by its day where no time was. All in order.
#[derive(Debug, Default)]
struct Marks {
    instants: Vec<i64>,
    locals: Vec<Wall>,
    dates: Vec<i64>,
    any_date: Vec<i64>,
}

impl Marks {
    fn new<'w>(
        whens: impl IntoIterator<Item = &'w When>,
        expander: &mut Expander<'_, '_>,
    ) -> Marks {
        let mut marks = Marks::default();
        for when in whens {
            let wall = rule::wall(when.local());
            let day = wall.div_euclid(86_400);
            marks.any_date.push(day);
            match when {
                When::AllDay(_) => marks.dates.push(day),
                When::Floating(_) => marks.locals.push(wall),
                When::Zoned { .. } => marks.instants.push(expander.clocks.instant(when)),
            }
        }
        for list in [&mut marks.instants, &mut marks.locals, &mut marks.dates, &mut marks.any_date]
        {
            list.sort_unstable();
        }
        marks
    }

    fn has(&self, wall: Wall, instant: i64, all_day: bool) -> bool {
        if self.any_date.is_empty() {
            return false;
        }
        let day = wall.div_euclid(86_400);
        if all_day {
            return self.any_date.binary_search(&day).is_ok();
        }
        self.instants.binary_search(&instant).is_ok()
            || self.locals.binary_search(&wall).is_ok()
            || self.dates.binary_search(&day).is_ok()
    }
}

// ---- clocks ----

/// The zones of a feed's events.
struct Clocks<'z> {
    window: Window,
    zones: &'z Zones,
    list: Vec<Clock>,
    by_name: HashMap<String, usize>,
    /// Asked for last: the answer is the same most of the time.
    last: (String, usize),
}

/// A zone, and what was found out about it.
struct Clock {
    zone: TimeZone,
    /// The window as this clock shows it.
    window: (Wall, Wall),
    /// Wall times between two changes of the clock, and seconds east of Greenwich: none of them is
    /// in a gap or comes twice. In order.
    spans: Vec<(Wall, Wall, i64)>,
    /// The one that was right last.
    last: usize,
}

impl<'z> Clocks<'z> {
    fn new(window: Window, zones: &'z Zones, feed_zone: &TimeZone) -> Self {
        let list = vec![Clock::new(feed_zone.clone(), window)];
        Clocks { window, zones, list, by_name: HashMap::new(), last: (String::new(), 0) }
    }

    /// Which clock a time is read from.
    fn of(&mut self, when: &When) -> usize {
        let When::Zoned { zone: name, .. } = when else { return 0 };
        if self.last.0 == *name {
            return self.last.1;
        }
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => match self.zones.get(name) {
                Some(zone) => {
                    self.list.push(Clock::new(zone, self.window));
                    self.list.len() - 1
                }
                None => 0,
            },
        };
        self.by_name.insert(name.clone(), index);
        self.last = (name.clone(), index);
        index
    }

    /// Seconds since the epoch.
    fn instant(&mut self, when: &When) -> i64 {
        let clock = self.of(when);
        self.second(clock, rule::wall(when.local()))
    }

    /// As [`time::resolve`].
    fn second(&mut self, clock: usize, wall: Wall) -> i64 {
        self.list[clock].second(wall)
    }
}

impl Clock {
    fn new(zone: TimeZone, window: Window) -> Self {
        let mut clock = Clock { zone, window: (0, 0), spans: Vec::new(), last: 0 };
        clock.window = (clock.wall(window.from), clock.wall(window.to));
        clock
    }

    /// What it shows at an instant.
    fn wall(&self, at: Timestamp) -> Wall {
        rule::wall(self.zone.to_datetime(at))
    }

    fn second(&mut self, wall: Wall) -> i64 {
        let known = |span: Option<&(Wall, Wall, i64)>| {
            span.filter(|(from, to, _)| (*from..*to).contains(&wall)).map(|(_, _, offset)| *offset)
        };
        if let Some(offset) = known(self.spans.get(self.last)) {
            return wall - offset;
        }
        let next = self.spans.partition_point(|(from, _, _)| *from <= wall);
        if let Some(offset) = next.checked_sub(1).and_then(|index| known(self.spans.get(index))) {
            self.last = next - 1;
            return wall - offset;
        }
        let Some(local) = rule::local(wall) else {
            return if wall > 0 { Timestamp::MAX } else { Timestamp::MIN }.as_second();
        };
        let at = time::resolve(local, &self.zone);
        let offset = |at: Timestamp| i64::from(self.zone.to_offset(at).seconds());
        let here = offset(at);
        let span = (
            self.zone.preceding(at).next().map_or(Wall::MIN, |change| {
                let before = change.timestamp().as_second() - 1;
                let before = Timestamp::from_second(before).map_or(here, offset);
                change.timestamp().as_second() + here.max(before)
            }),
            self.zone.following(at).next().map_or(Wall::MAX, |change| {
                let after = offset(change.timestamp());
                change.timestamp().as_second() + here.min(after)
            }),
            here,
        );
        if (span.0..span.1).contains(&wall) {
            self.last = next;
            self.spans.insert(next, span);
        }
        at.as_second()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::parse::{ReadOptions, read_all};
    use proptest::prelude::*;

    use super::super::{Calendar, Status};
    use super::*;

    fn new_york() -> TimeZone {
        Zones::default().get("America/New_York").unwrap()
    }

    fn events(lines: &[&str]) -> Vec<Event> {
        let calendar = read(lines);
        assert_eq!(calendar.warnings, []);
        calendar.events
    }

    fn read(lines: &[&str]) -> Calendar {
        let zones = Zones::default();
        let zone = new_york();
        let options =
            ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
        let events: String = lines
            .iter()
            .map(|lines| format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT\n"))
            .collect();
        read_all(format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR").as_bytes(), &options)
    }

    /// A window of whole UTC days.
    fn window(from: &str, to: &str) -> Window {
        let at = |day: &str| format!("{day}T00:00:00Z").parse().unwrap();
        Window { from: at(from), to: at(to) }
    }

    fn expanded(lines: &[&str], from: &str, to: &str) -> Expansion {
        expand(&events(lines), window(from, to), &Zones::default(), &new_york())
    }

    /// Starts as seen in New York, with offset.
    fn starts(lines: &[&str], from: &str, to: &str) -> Vec<String> {
        let expansion = expanded(lines, from, to);
        assert_eq!(expansion.warnings, []);
        expansion
            .occurrences
            .iter()
            .map(|o| {
                let at = o.start.to_zoned_datetime(new_york());
                at.strftime("%m-%d %H:%M%:z").to_string()
            })
            .collect()
    }

    const NOON: &str = "DTSTART;TZID=America/New_York:20261202T120000\nDURATION:PT1H";

    #[test]
    fn rules_dates_and_exceptions() {
        let noon = |more: &str| format!("{NOON}\n{more}");
        for (more, expected) in [
            ("SUMMARY:Once", vec!["12-02"]),
            ("RRULE:FREQ=DAILY;COUNT=3", vec!["12-02", "12-03", "12-04"]),
            ("RRULE:FREQ=WEEKLY;UNTIL=20261216", vec!["12-02", "12-09", "12-16"]),
            ("RRULE:FREQ=WEEKLY;UNTIL=20261216T120000", vec!["12-02", "12-09", "12-16"]),
            ("RRULE:FREQ=WEEKLY;UNTIL=20261216T170000Z", vec!["12-02", "12-09", "12-16"]),
            ("RRULE:FREQ=WEEKLY;UNTIL=20261216T165959Z", vec!["12-02", "12-09"]),
            // What is left of a series after "delete this and all later ones" at its first.
            ("RRULE:FREQ=WEEKLY;UNTIL=20261101", vec![]),
            ("RRULE:FREQ=WEEKLY;UNTIL=20261209;COUNT=-1", vec!["12-02", "12-09"]),
            // The start counts even where the rule does not yield it.
            ("RRULE:FREQ=WEEKLY;BYDAY=FR;COUNT=2", vec!["12-02", "12-04", "12-11"]),
            (
                "RRULE:FREQ=DAILY;COUNT=4\nEXDATE;TZID=America/New_York:20261203T120000,20261205T120000",
                vec!["12-02", "12-04"],
            ),
            ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261203T170000Z", vec!["12-02", "12-04"]),
            ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20261203", vec!["12-02", "12-04"]),
            ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261203T120000", vec!["12-02", "12-04"]),
            ("RRULE:FREQ=DAILY;COUNT=3\nEXRULE:FREQ=DAILY;INTERVAL=2", vec!["12-03"]),
            (
                "RRULE:FREQ=DAILY;COUNT=2\nRDATE;TZID=America/New_York:20261203T120000,20261210T120000",
                vec!["12-02", "12-03", "12-10"],
            ),
            ("RDATE;VALUE=DATE:20261204", vec!["12-02", "12-04"]),
            ("RRULE:FREQ=MONTHLY;RSCALE=GREGORIAN;SKIP=OMIT;COUNT=1", vec!["12-02"]),
        ] {
            let found: Vec<_> = starts(&[&noon(more)], "2026-11-01", "2027-01-01")
                .iter()
                .map(|start| start.strip_suffix(" 12:00-05:00").unwrap().to_owned())
                .collect();
            assert_eq!(found, expected, "{more}");
        }
    }

    #[test]
    fn a_window_far_from_the_start_keeps_the_rhythm() {
        for (start, rule, expected) in [
            ("20000105T120000", "FREQ=DAILY;INTERVAL=3", vec!["12-02", "12-05"]),
            ("20000105T120000", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", vec!["12-02"]),
            ("20000131T120000", "FREQ=MONTHLY;BYDAY=1TU,2MO", vec!["12-01"]),
            ("20000201T120000", "FREQ=MONTHLY;INTERVAL=5", vec![]),
            ("20000901T120000", "FREQ=MONTHLY;INTERVAL=5", vec!["12-01"]),
            ("20000131T120000", "FREQ=MONTHLY;BYSETPOS=1;BYDAY=MO,TU,WE,TH,FR", vec!["12-01"]),
            ("19701202T120000", "FREQ=YEARLY", vec!["12-02"]),
            ("20000105T120000", "FREQ=HOURLY;INTERVAL=48", vec!["12-02", "12-04", "12-06"]),
            ("20000105T120000", "FREQ=MINUTELY;INTERVAL=4320", vec!["12-02", "12-05"]),
        ] {
            let event = format!("DTSTART;TZID=America/New_York:{start}\nRRULE:{rule}");
            let found: Vec<_> = starts(&[&event], "2026-12-01", "2026-12-08")
                .iter()
                .map(|start| start.strip_suffix(" 12:00-05:00").unwrap().to_owned())
                .collect();
            // By hand: the same rule, counted from its start.
            assert_eq!(found, expected, "{rule}");
        }
        // The 31st is skipped in months without one.
        let monthly = "DTSTART;TZID=America/New_York:20000131T120000\nRRULE:FREQ=MONTHLY";
        assert_eq!(
            starts(&[monthly], "2026-09-01", "2027-02-01"),
            ["10-31 12:00-04:00", "12-31 12:00-05:00", "01-31 12:00-05:00"]
        );
    }

    #[test]
    fn skipping_ahead_changes_nothing() {
        for rule in [
            "FREQ=DAILY;INTERVAL=7;BYMONTH=3,11,12",
            "FREQ=WEEKLY;INTERVAL=3;WKST=SU;BYDAY=SU,TU,SA",
            "FREQ=WEEKLY;INTERVAL=2;WKST=MO;BYDAY=SU,MO",
            "FREQ=MONTHLY;INTERVAL=7;BYMONTHDAY=-1,30",
            "FREQ=MONTHLY;BYDAY=-1FR",
            "FREQ=MONTHLY;INTERVAL=3",
            "FREQ=HOURLY;INTERVAL=37",
            "FREQ=YEARLY;BYWEEKNO=49",
        ] {
            let event = format!("DTSTART;TZID=America/New_York:20201231T093000\nRRULE:{rule}");
            let near = starts(&[&event], "2026-11-01", "2027-06-01");
            // COUNT forbids skipping.
            let counted = starts(&[&format!("{event};COUNT=40000")], "2026-11-01", "2027-06-01");
            assert!(!near.is_empty(), "{rule}");
            assert_eq!(near, counted, "{rule}");
        }
    }

    #[test]
    fn daylight_saving() {
        let daily = |time: &str, from: &str| {
            format!(
                "DTSTART;TZID=America/New_York:{from}T{time}\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
            )
        };
        for (time, from, expected) in [
            // 02:30 does not exist on 8 March 2026.
            ("023000", "20260307", ["03-07 02:30-05:00", "03-08 03:30-04:00", "03-09 02:30-04:00"]),
            // 01:30 comes twice on 1 November 2026: the first counts.
            ("013000", "20261031", ["10-31 01:30-04:00", "11-01 01:30-04:00", "11-02 01:30-05:00"]),
            ("120000", "20261031", ["10-31 12:00-04:00", "11-01 12:00-05:00", "11-02 12:00-05:00"]),
            // It starts in the gap.
            ("023000", "20260308", ["03-08 03:30-04:00", "03-09 02:30-04:00", "03-10 02:30-04:00"]),
        ] {
            assert_eq!(starts(&[&daily(time, from)], "2026-01-01", "2027-01-01"), expected);
        }
        // 02:00 and 03:00 are one instant that night.
        let hourly = "DTSTART;TZID=America/New_York:20260308T010000\nRRULE:FREQ=HOURLY;COUNT=4";
        assert_eq!(
            starts(&[hourly], "2026-03-01", "2026-04-01"),
            ["03-08 01:00-05:00", "03-08 03:00-04:00", "03-08 04:00-04:00"]
        );
        // Across the fold an hour lasts an hour, and ends in the second 01:30.
        let fold = expanded(&[&daily("013000", "20261031")], "2026-11-01", "2026-11-02");
        let occurrence = &fold.occurrences[0];
        assert_eq!(occurrence.end.duration_since(occurrence.start), SignedDuration::from_hours(1));
    }

    #[test]
    fn all_day_events_begin_at_local_midnight() {
        let weekly = "DTSTART;VALUE=DATE:20261030\nDTEND;VALUE=DATE:20261101\nRRULE:FREQ=DAILY;INTERVAL=2;UNTIL=20261103T000000Z\nEXDATE;VALUE=DATE:20261030";
        let found = expanded(&[weekly], "2026-10-01", "2026-12-01");
        let times: Vec<_> =
            found.occurrences.iter().map(|o| (o.start.to_string(), o.end.to_string())).collect();
        assert_eq!(
            times,
            [
                ("2026-11-01T04:00:00Z".to_owned(), "2026-11-03T05:00:00Z".to_owned()),
                ("2026-11-03T05:00:00Z".to_owned(), "2026-11-05T05:00:00Z".to_owned()),
            ]
        );
    }

    #[test]
    fn overrides_replace_move_and_cancel() {
        let series = format!("{NOON}\nSUMMARY:Talk\nRRULE:FREQ=WEEKLY;COUNT=4");
        let changed = |id: &str, more: &str| {
            format!("RECURRENCE-ID;TZID=America/New_York:{id}\nDURATION:PT1H\n{more}")
        };
        let at = |start: &str| format!("DTSTART;TZID=America/New_York:{start}\n");
        let sketch = |lines: &[&str], from, to| -> Vec<String> {
            let expansion = expanded(lines, from, to);
            assert_eq!(expansion.warnings, []);
            let show = |o: &Occurrence| {
                let local = o.start.to_zoned_datetime(new_york());
                format!(
                    "{} {} {}",
                    local.strftime("%m-%d %H:%M"),
                    o.event.summary,
                    o.event.status.as_str()
                )
            };
            expansion.occurrences.iter().map(show).collect()
        };
        let december = |lines: &[&str]| sketch(lines, "2026-12-01", "2027-01-01");

        let moved = changed("20261209T120000", &(at("20261210T150000") + "SUMMARY:Moved"));
        assert_eq!(
            december(&[&moved, &series]),
            [
                "12-02 12:00 Talk confirmed",
                "12-10 15:00 Moved confirmed",
                "12-16 12:00 Talk confirmed",
                "12-23 12:00 Talk confirmed"
            ]
        );
        let away = changed("20261209T120000", &(at("20270301T120000") + "SUMMARY:Moved"));
        assert_eq!(december(&[&series, &away]).len(), 3);
        assert_eq!(
            sketch(&[&series, &away], "2027-03-01", "2027-03-02"),
            ["03-01 12:00 Moved confirmed"]
        );
        let cancelled =
            changed("20261209T120000", &(at("20261209T120000") + "SUMMARY:Talk\nSTATUS:CANCELLED"));
        assert_eq!(december(&[&series, &cancelled])[1], "12-09 12:00 Talk cancelled");
        let by_date =
            format!("RECURRENCE-ID;VALUE=DATE:20261209\n{}SUMMARY:Moved", at("20261209T130000"));
        assert_eq!(december(&[&series, &by_date])[1], "12-09 13:00 Moved confirmed");
        assert_eq!(december(&[&series, &by_date]).len(), 4);
        let orphan = changed("20261211T120000", &(at("20261211T120000") + "SUMMARY:Extra"));
        assert_eq!(december(&[&series, &orphan]).len(), 5);
        assert_eq!(december(&[&orphan]), ["12-11 12:00 Extra confirmed"]);
        let later = format!(
            "RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=America/New_York:20261216T120000\nDURATION:PT2H\n{}SUMMARY:Later",
            at("20261217T130000")
        );
        assert_eq!(
            december(&[&series, &later]),
            [
                "12-02 12:00 Talk confirmed",
                "12-09 12:00 Talk confirmed",
                "12-17 13:00 Later confirmed",
                "12-24 13:00 Later confirmed"
            ]
        );
    }

    #[test]
    fn occurrences_are_plain_events() {
        let series = format!("{NOON}\nRRULE:FREQ=WEEKLY;COUNT=2");
        let found = expanded(&[&series], "2026-12-09", "2026-12-10");
        let [occurrence] = &found.occurrences[..] else { panic!("{found:?}") };
        let event = &occurrence.event;
        assert!(event.recurrence.is_empty());
        assert_eq!(event.recurrence_id.as_ref(), Some(&event.start));
        assert_eq!(event.status, Status::Confirmed);
        assert_eq!(event.start.instant(&Zones::default(), &new_york()), occurrence.start);
        assert_eq!(event.end.instant(&Zones::default(), &new_york()), occurrence.end);
    }

    #[test]
    fn the_window_holds_what_overlaps_it() {
        let event = "DTSTART:20261202T120000Z\nDTEND:20261204T120000Z";
        let instant = "DTSTART:20261202T000000Z";
        for (lines, from, to, count) in [
            (event, "2026-12-03", "2026-12-04", 1),
            (event, "2026-12-04", "2026-12-05", 1),
            (event, "2026-12-05", "2026-12-06", 0),
            (event, "2026-12-01", "2026-12-02", 0),
            (instant, "2026-12-02", "2026-12-03", 1),
            (instant, "2026-12-01", "2026-12-02", 0),
        ] {
            assert_eq!(expanded(&[lines], from, to).occurrences.len(), count, "{from}");
        }
    }

    #[test]
    fn hostile_rules_end_soon_with_a_warning() {
        let all = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        let bomb =
            format!("FREQ=DAILY;BYHOUR={};BYMINUTE={};BYSECOND={}", all(24), all(60), all(60));
        let started = Instant::now();
        for rule in [
            "FREQ=SECONDLY",
            &bomb,
            &bomb.replace("DAILY", "YEARLY"),
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
            "FREQ=MINUTELY;COUNT=1000000000",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;INTERVAL=99999999999",
            "FREQ=DAILY;X=1",
            "FREQ=WEEKLY;BYDAY=XX",
            "FREQ=WEEKLY;UNTIL=SOON",
            "FREQ=FORTNIGHTLY",
            "COUNT=3",
            "RSCALE=HEBREW;FREQ=YEARLY",
        ] {
            let event = format!("DTSTART;TZID=America/New_York:20000105T120000\nRRULE:{rule}");
            let calendar = read(&[&event]);
            let window = window("2026-01-01", "2027-01-01");
            let found = expand(&calendar.events, window, &Zones::default(), &new_york());
            let warnings = [calendar.warnings, found.warnings].concat();
            assert_eq!(warnings.len(), 1, "{rule}: {warnings:?}");
        }
        // Generous: the tests run unoptimised and side by side.
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn many_dense_rules_use_up_a_feeds_budget_and_no_more() {
        let started = Instant::now();
        for rule in [
            "FREQ=SECONDLY",
            "FREQ=MINUTELY;BYSECOND=0,1,2,3,4,5,6,7,8,9",
            "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=SECONDLY;BYHOUR=3;INTERVAL=86400",
        ] {
            let event = events(&[&format!("DTSTART:20261130T120000Z\nRRULE:{rule}")]);
            let many: Vec<Event> =
                (0..500).map(|i| Event { uid: Uid(i.to_string()), ..event[0].clone() }).collect();
            let window = window("2026-12-01", "2026-12-31");
            let (found, warnings) = instances(&many, window, &Zones::default(), &TimeZone::UTC);
            assert!(found.len() as u64 <= FEED_STEPS, "{rule}");
            assert_eq!(warnings.len(), 500, "{rule}");
        }
        // Generous: the tests run unoptimised and side by side.
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn bounds_hold_every_occurrence() {
        let max = Timestamp::MAX;
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (more, last) in [
            ("SUMMARY:Once", at("2026-12-02T18:00:00Z")),
            ("RRULE:FREQ=DAILY", max),
            ("RRULE:FREQ=DAILY;COUNT=3", max),
            ("RRULE:FREQ=DAILY;UNTIL=20261210", at("2026-12-13T00:59:59Z")),
            ("RDATE:20270101T000000Z", at("2027-01-03T01:00:00Z")),
        ] {
            let events = events(&[&format!("{NOON}\n{more}")]);
            let found = bounds(&events[0], &Zones::default(), &new_york());
            assert_eq!(found.1, last, "{more}");
            let window = window("2026-01-01", "2028-01-01");
            for occurrence in expand(&events, window, &Zones::default(), &new_york()).occurrences {
                assert!(found.0 <= occurrence.start && occurrence.end <= found.1, "{more}");
            }
        }
    }

    #[test]
    fn the_next_occurrence_may_be_years_away() {
        let zones = Zones::default();
        let next = |lines: &[&str]| {
            let from = "2026-12-03T00:00:00Z".parse().unwrap();
            next_occurrence(&events(lines), from, &zones, &new_york()).map(|o| o.start.to_string())
        };
        let weekly = format!("{NOON}\nRRULE:FREQ=WEEKLY");
        assert_eq!(next(&[&weekly]).as_deref(), Some("2026-12-09T17:00:00Z"));
        let leap = "DTSTART;TZID=America/New_York:20240229T120000\nRRULE:FREQ=YEARLY";
        assert_eq!(next(&[leap]).as_deref(), Some("2028-02-29T17:00:00Z"));
        assert_eq!(next(&[NOON]), None);
    }

    proptest! {
        /// What a clock remembers is what it would be told again.
        #[test]
        fn a_clock_shows_what_its_zone_says(
            name in proptest::sample::select(&[
                "America/New_York", "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca",
                "Pacific/Apia", "Asia/Gaza", "America/Nuuk", "Africa/Monrovia", "UTC", "+05:30",
                "<-05>5:00:00<-04>4:00:00,M3.2.0/02:00:00,M11.1.0/02:00:00",
            ][..]),
            walls in proptest::collection::vec(-3_000_000_000..4_000_000_000_i64, 1..20),
            near in -200_000..200_000_i64,
        ) {
            let zone = Zones::default().get(name).unwrap();
            let mut clock = Clock::new(zone.clone(), window("2026-01-01", "2026-02-01"));
            for wall in walls {
                let change = zone.following(time::timestamp(wall)).next();
                let close = change.map_or(wall, |change| change.timestamp().as_second() + near);
                for wall in [wall, close, close + 1_800] {
                    let local = rule::local(wall).unwrap();
                    let expected = time::resolve(local, &zone).as_second();
                    prop_assert_eq!(clock.second(wall), expected, "{} {}", name, local);
                }
            }
        }

        /// A series is its rules and its RDATEs, without its EXDATEs, seen through the window.
        #[test]
        fn a_series_is_a_set(
            rules in proptest::collection::vec(proptest::sample::select(&[
                "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=MO,FR", "FREQ=MONTHLY;BYMONTHDAY=-1",
                "FREQ=WEEKLY;COUNT=40", "FREQ=DAILY;COUNT=500;BYDAY=SA", "FREQ=YEARLY;BYDAY=20MO",
            ][..]), 1..3),
            rdates in proptest::collection::vec(0..4_000_i64, 0..5),
            exdates in proptest::collection::vec(0..4_000_i64, 0..40),
            age in 0..4_000_i64,
            length in 1..200_i64,
        ) {
            let first = rule::wall("2016-02-29T09:30:00".parse().unwrap());
            let stamp = |days: &i64| {
                let local = rule::local(first + days * 86_400).unwrap();
                local.strftime("%Y%m%dT%H%M%SZ").to_string()
            };
            let list = |name: &str, days: &[i64]| match days {
                [] => String::new(),
                days => format!("\n{name}:{}", days.iter().map(stamp).collect::<Vec<_>>().join(",")),
            };
            let lines: Vec<String> = rules.iter().map(|rule| format!("RRULE:{rule}")).collect();
            let event = format!(
                "DTSTART:20160229T093000Z\nDURATION:PT1H\n{}{}{}",
                lines.join("\n"),
                list("RDATE", &rdates),
                list("EXDATE", &exdates)
            );
            let from = first + age * 86_400;
            let to = from + length * 86_400;
            let mut expected = std::collections::BTreeSet::from([first]);
            for rule in &rules {
                let mut dates = Vec::new();
                let end = to - 1;
                Rule::parse(rule).unwrap().dates(first, first, end, &mut 1_000_000, &mut dates).unwrap();
                expected.extend(dates);
            }
            expected.extend(rdates.iter().map(|days| first + days * 86_400));
            for days in &exdates {
                expected.remove(&(first + days * 86_400));
            }
            let window = Window { from: time::timestamp(from), to: time::timestamp(to) };
            let events = events(&[&event]);
            let (found, _) = instances(&events, window, &Zones::default(), &new_york());
            let mut found: Vec<i64> = found.iter().map(|one| one.start).collect();
            found.sort_unstable();
            let expected: Vec<i64> = expected.range(from..to).copied().collect();
            prop_assert_eq!(found, expected);
        }
    }
}

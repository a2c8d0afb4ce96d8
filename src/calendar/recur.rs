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
    let size = |instance: &Instance<'_>| match instance.series {
        Some(_) => instance.event.description.len() + 1024,
        None => 0,
    };
    if instances.iter().map(size).sum::<usize>() > FEED_BYTES {
        let mut wanted: HashMap<&Uid, usize> = HashMap::new();
        for instance in &instances {
            *wanted.entry(&instance.event.uid).or_default() += size(instance);
        }
        let share = fair_share(wanted.values().copied().collect(), FEED_BYTES);
        let mut left = wanted;
        left.values_mut().for_each(|left| *left = share);
        instances.retain(|instance| {
            let Some(left) = left.get_mut(&instance.event.uid) else { return true };
            match left.checked_sub(size(instance)) {
                Some(rest) => *left = rest,
                None if *left > 0 => {
                    let message = "too many occurrences; the later ones are left out".to_owned();
                    let event = Some(instance.event.uid.0.clone());
                    warnings.push(Warning { line: 0, event, message });
                    *left = 0;
                    return false;
                }
                None => return false,
            }
            true
        });
    }
    let occurrences = instances.iter().map(|one| one.occurrence(zones, feed_zone)).collect();
    Expansion { occurrences, warnings }
}

/// What each may have at most so that all together have no more than `all`: those who want less leave
/// the rest to the others.
fn fair_share(mut wanted: Vec<usize>, mut all: usize) -> usize {
    wanted.sort_unstable();
    let mut others = wanted.len();
    for one in wanted {
        if one > all / others {
            return all / others;
        }
        (all, others) = (all - one, others - 1);
    }
    usize::MAX
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
        rule_steps: RULE_STEPS,
        cut: 0,
        walls: Vec::new(),
        found: Vec::new(),
        warnings: Vec::new(),
    };
    expander.all(events, &families);
    if expander.steps == 0 {
        // Those that are too dense have taken what the others need: now each has the same.
        let rules: usize = events.iter().map(|event| event.recurrence.rules.len()).sum();
        let share = FEED_STEPS / u64::try_from(rules).unwrap_or(u64::MAX).max(1);
        expander.again(share, events, &families);
        // What the others do not need is for those.
        if let Some(more) = expander.steps.checked_div(expander.cut).filter(|more| *more > share) {
            expander.again(share + more, events, &families);
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
    /// Of these, what one rule may cost.
    rule_steps: u64,
    /// How many rules wanted more.
    cut: u64,
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

    /// Begins anew, with so much for each rule.
    fn again(
        &mut self,
        rule_steps: u64,
        events: &'e [Event],
        families: &HashMap<&Uid, Family<'e>>,
    ) {
        (self.steps, self.rule_steps, self.cut) = (FEED_STEPS, rule_steps.min(RULE_STEPS), 0);
        self.found.clear();
        self.warnings.clear();
        self.all(events, families);
    }

    fn all(&mut self, events: &'e [Event], families: &HashMap<&Uid, Family<'e>>) {
        for event in events {
            let family = if families.is_empty() { None } else { families.get(&event.uid) };
            let overrides = family.map_or(&[][..], |family| &family.overrides);
            if let Some(id) = &event.recurrence_id {
                let master = family.and_then(|family| family.master);
                if !master.is_some_and(|master| self.is_withdrawn(event, id, master)) {
                    self.single(event);
                }
            } else if event.recurrence == NO_RECURRENCE && overrides.is_empty() {
                self.single(event);
            } else {
                self.series(event, overrides);
            }
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
        let (length, nominal) = self.length(master);
        let own = Later { from: i64::MIN, shift: 0, length, nominal, clock, event: master };

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
        let mut latest = i64::MIN;
        for (index, wall) in walls.iter().copied().enumerate() {
            let original = self.clocks.second(clock, wall);
            // A gap makes wall times in it and after it the same instants.
            let doubled = original <= latest && {
                let before = walls[..index].iter().rev().take_while(|one| wall - **one < SLACK);
                before.copied().any(|one| self.clocks.second(clock, one) == original)
            };
            latest = latest.max(original);
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
                None if look.nominal => {
                    self.clocks.second(look.clock, local.saturating_add(look.length)).max(start)
                }
                None => start.saturating_add(look.length),
            };
            self.keep(Instance { event: look.event, start, end, series, days: (0, 0) });
        }
    }

    /// Seconds that an event lasts, and whether the clock on the wall is meant: by the same time of
    /// day on another day are days meant, however long they are (RFC 5545, 3.8.5.3).
    fn length(&mut self, event: &Event) -> (i64, bool) {
        let by_wall = rule::wall(event.end.local()) - rule::wall(event.start.local());
        let same_clock = self.clocks.of(&event.start) == self.clocks.of(&event.end);
        let nominal = by_wall > 0 && by_wall % 86_400 == 0 && same_clock;
        let length = match event.is_all_day() || nominal {
            true => by_wall,
            false => self.clocks.instant(&event.end) - self.clocks.instant(&event.start),
        };
        (length.max(0), nominal)
    }

    /// What a `THISANDFUTURE` override does to the occurrences after it, which follow the clock of
    /// their series.
    fn later(&mut self, event: &'e Event, series: usize) -> Option<Later<'e>> {
        let original = event.recurrence_id.as_ref().filter(|_| event.this_and_future)?;
        let (from, (length, nominal)) = (self.clocks.instant(original), self.length(event));
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
        Some(Later { from, shift, length, nominal, clock, event })
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
        let mut steps = self.steps.min(self.rule_steps);
        let given = steps;
        let result = parsed.dates(start, from, to, &mut steps, walls);
        self.steps -= given - steps;
        let message = match result {
            Ok(()) => return true,
            // Said when the event was read, too.
            Err(Shortfall::Never | Shortfall::Dense) => {
                self.steps = self.steps.saturating_sub(VAIN_STEPS.min(self.rule_steps));
                return true;
            }
            Err(Shortfall::Spent) => {
                self.cut += 1;
                if self.steps == 0 {
                    "the feed's rules are too many or too dense; not all of it is expanded"
                } else {
                    "too dense; not all of it is expanded"
                }
            }
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
    /// Seconds they last; as the clock on the wall shows them if `nominal`.
    length: i64,
    nominal: bool,
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
        let utc = |at| When::Zoned { local: TimeZone::UTC.to_datetime(at), zone: "UTC".into() };
        let show = |like: &When, at: Timestamp, day: Wall| match like {
            When::Zoned { zone: name, .. } => {
                let zone = zones.get(name);
                let zone = zone.as_ref().unwrap_or(feed_zone);
                let local = zone.to_datetime(at);
                // A wall time that comes twice means the first; the second must be named otherwise.
                match time::resolve(local, zone) == at {
                    true => When::Zoned { local, zone: name.clone() },
                    false => utc(at),
                }
            }
            When::Floating(_) => {
                let local = feed_zone.to_datetime(at);
                match time::resolve(local, feed_zone) == at {
                    true => When::Floating(local),
                    false => utc(at),
                }
            }
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
        page_image: event.page_image.clone(),
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
            // Of an all-day series: midnight in UTC is how many write a date, any other time of UTC
            // is an instant on a day of the feed's zone.
            let is_instant = matches!(when, When::Zoned { zone, .. } if zone == "UTC");
            marks.any_date.push(match is_instant && wall % 86_400 != 0 {
                true => expander.clocks.list[0].wall(time::timestamp(wall)).div_euclid(86_400),
                false => day,
            });
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
            // A wall time in a gap may be the very instant of the change, which counts as before it.
            self.zone.preceding(next_second(at)).next().map_or(Wall::MIN, |change| {
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

fn next_second(at: Timestamp) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(1)).unwrap_or(at)
}

#[cfg(test)]
mod tests;

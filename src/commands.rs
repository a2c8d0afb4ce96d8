//! What the command line asks besides `run`: questions about feeds, about the future, about the
//! outbox. Each gives its answer as text; warnings and progress go to the log.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{anyhow, bail};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use serde_json::{Map, Value, json};

use crate::calendar::diff::{self, Change, ChangeKind, Known, Reading, Rest};
use crate::calendar::parse::{self, ReadOptions};
use crate::calendar::time::resolve;
use crate::calendar::{Calendar, Event, Occurrence, Status, When, Window, Zones, recur};
use crate::config::{Config, Feed};
use crate::fetch::{FetchError, FetchErrorKind, Fetched, Fetcher, Validators};
use crate::message::{self, Style};
use crate::notify::{DeliveryContext, Endpoint, NotifyError, Registry, discord};
use crate::operator;
use crate::pipeline::{keyed, occurrences};
use crate::plan::{self, FeedView, Field, Kind, Planned, Upcoming};
use crate::store::{DeliveryState, Happening, Restored, Store, delivery_id};

/// From the year 9000 on, no time is meant: what is kept in milliseconds is not quite the last one.
const NEVER: Timestamp = Timestamp::constant(221_845_392_000, 0);

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// A time on the command line: a date (its midnight), a local date and time, or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Local(civil::DateTime),
    Instant(Timestamp),
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(instant) = text.parse() {
            return Ok(At::Instant(instant));
        }
        let date =
            || text.parse().map(|date: civil::Date| date.to_datetime(civil::Time::midnight()));
        text.parse()
            .or_else(|_| date())
            .map(At::Local)
            .map_err(|_| "expected 2026-12-31, 2026-12-31T18:00 or 2026-12-31T18:00:00Z".to_owned())
    }
}

impl At {
    pub fn instant(self, zone: &TimeZone) -> Timestamp {
        match self {
            At::Instant(instant) => instant,
            At::Local(local) => resolve(local, zone),
        }
    }
}

/// Refuses a time that ends before it begins: of that, nothing found would be no answer.
fn in_order(from: Timestamp, to: Timestamp) -> Result<(), Misuse> {
    match from <= to {
        true => Ok(()),
        false => Err(Misuse(format!("--from {from} is after --to {to}"))),
    }
}

/// What questions about feeds need.
#[derive(Debug)]
pub struct Desk {
    pub fetcher: Fetcher,
    pub zones: Zones,
    /// Of the audience.
    pub timezone: TimeZone,
    pub now: Timestamp,
}

/// A feed read for a question, without the state.
struct Source {
    name: String,
    calendar: Calendar,
    zone: TimeZone,
}

impl Desk {
    /// Reads a feed, all its parts.
    async fn read(&self, feed: &Feed) -> anyhow::Result<Source> {
        let mut whole: Option<Source> = None;
        for part in feed.parts() {
            let Source { name, calendar, zone } = self.read_part(&part).await?;
            whole = Some(match whole {
                None => Source { name, calendar, zone },
                Some(all) => Source { calendar: all.calendar.and(calendar), ..all },
            });
        }
        whole.ok_or_else(|| anyhow!("{}: has no address", feed.name))
    }

    async fn read_part(&self, feed: &Feed) -> anyhow::Result<Source> {
        let explain = |error: FetchError| match error.hint() {
            Some(hint) => anyhow!("{error}\n  hint: {hint}"),
            None => anyhow!("{error}"),
        };
        let fetched = self.fetcher.fetch(feed, &Validators::default()).await;
        if let Err(error) = &fetched
            && *error.kind() == FetchErrorKind::Empty
        {
            tracing::warn!("{}: {error}: no events", feed.name);
            let (name, calendar) = (feed.name.clone(), Calendar::default());
            let zone = feed.timezone.clone().unwrap_or_else(|| self.timezone.clone());
            return Ok(Source { name, calendar, zone });
        }
        let Fetched::Body { body, charset, .. } = fetched.map_err(explain)? else {
            bail!("{}: the server says 304 although it was not asked for changes", feed.name);
        };
        let bytes = body.bytes().await.map_err(explain)?;
        let options = ReadOptions {
            zones: &self.zones,
            feed_zone: feed.timezone.as_ref(),
            audience_zone: &self.timezone,
            charset: charset.as_deref(),
        };
        let calendar = parse::read_all(&bytes, &options);
        for warning in &calendar.warnings {
            tracing::warn!("{}: {warning}", feed.name);
        }
        if !calendar.health.complete {
            tracing::warn!("{}: the calendar is cut off; the rest is missing", feed.name);
        }
        let zone = parse::feed_zone(&calendar, &options);
        Ok(Source { name: feed.name.clone(), calendar, zone })
    }

    /// Reads all feeds; those that cannot be read are an error line each in the log.
    async fn read_all(&self, config: &Config) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for feed in config.feeds.values() {
            match self.read(feed).await {
                Ok(source) => sources.push(source),
                Err(error) => tracing::error!("{}: {error:#}", feed.name),
            }
        }
        if sources.is_empty() {
            bail!("no feed could be read");
        }
        Ok(sources)
    }

    fn upcoming(&self, sources: &[Source], window: Window) -> Vec<Upcoming> {
        let of = |source: &Source| {
            let title = source.calendar.name.as_deref();
            let events = keyed(&source.calendar);
            let warn = &mut |warning: &_| tracing::warn!("{}: {warning}", source.name);
            occurrences(&source.name, title, &events, window, &self.zones, &source.zone, warn)
        };
        let upcoming: Vec<Upcoming> = sources.iter().flat_map(of).collect();
        plan::merge(upcoming)
    }
}

/// `beadle events`: every occurrence that overlaps `[from, to)`.
pub async fn events(
    desk: &Desk,
    feeds: &[Feed],
    from: Option<At>,
    to: Option<At>,
    format: Format,
) -> anyhow::Result<String> {
    let mut found: Vec<(Occurrence, TimeZone)> = Vec::new();
    let mut failures = Vec::new();
    for feed in feeds {
        let source = match desk.read(feed).await {
            Ok(source) => source,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let Calendar { events, health, warnings, .. } = &source.calendar;
        let lost = !health.complete || warnings.iter().any(|warning| warning.event.is_some());
        if events.is_empty() && health.is_calendar && lost {
            failures.push(anyhow!("{}: none of its events can be read", source.name));
            continue;
        }
        // All there is; what repeats without end, for a year from now.
        let year = desk.now.saturating_add(SignedDuration::from_hours(24 * 366));
        let bounds = || events.iter().map(|e| recur::bounds(e, &desk.zones, &source.zone));
        let last = bounds().map(|b| b.1).filter(|end| *end < Timestamp::MAX).max();
        let window = Window {
            from: from.map_or_else(
                || bounds().map(|b| b.0).min().unwrap_or(desk.now),
                |at| at.instant(&source.zone),
            ),
            to: to.map_or_else(
                || {
                    let after = |at: Timestamp| at.saturating_add(SignedDuration::from_secs(1));
                    let last = last.and_then(|at| after(at).ok()).unwrap_or(Timestamp::MIN);
                    year.unwrap_or(Timestamp::MAX).max(last)
                },
                |at| at.instant(&source.zone),
            ),
        };
        if from.is_some() && to.is_some() {
            in_order(window.from, window.to)?;
        }
        let expansion = recur::expand(events, window, &desk.zones, &source.zone);
        for warning in &expansion.warnings {
            tracing::warn!("{}: {warning}", source.name);
        }
        let zone = &source.zone;
        found.extend(expansion.occurrences.into_iter().map(|one| (one, zone.clone())));
    }
    if failures.len() == feeds.len()
        && let Some(error) = failures.pop()
    {
        return Err(error);
    }
    for error in failures {
        tracing::error!("{error:#}");
    }
    found.sort_by(|(a, _), (b, _)| (a.start, &a.event.uid).cmp(&(b.start, &b.event.uid)));

    let mut out = String::new();
    for (one, zone) in &found {
        match format {
            Format::Json => writeln!(out, "{}", event_json(one, &desk.zones, zone))?,
            Format::Text => writeln!(out, "{}", event_line(one, &desk.zones, zone))?,
        }
    }
    if found.is_empty() {
        tracing::warn!("nothing there in that time");
    }
    Ok(out)
}

fn event_json(one: &Occurrence, zones: &Zones, feed_zone: &TimeZone) -> Value {
    let event = &one.event;
    let zone = match &event.start {
        When::Zoned { zone, .. } => Some(zone.as_str()),
        When::AllDay(_) | When::Floating(_) => None,
    };
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("uid", json!(event.uid));
    let id = event.recurrence_id.as_ref();
    put("recurrence_id", json!(id.map(|id| when_json(id, zones, feed_zone))));
    put("start", when_json(&event.start, zones, feed_zone));
    put("end", when_json(&event.end, zones, feed_zone));
    put("all_day", json!(event.is_all_day()));
    put("zone", json!(zone));
    put("summary", json!(event.summary));
    put("status", json!(event.status.as_str()));
    put("categories", json!(event.categories));
    put("location", json!(event.location));
    put("url", json!(event.url));
    Value::Object(object)
}

/// RFC 3339 in UTC; a plain date for an all-day event.
fn when_json(when: &When, zones: &Zones, feed_zone: &TimeZone) -> Value {
    match when {
        When::AllDay(date) => json!(date.to_string()),
        _ => json!(when.instant(zones, feed_zone).to_string()),
    }
}

fn event_line(one: &Occurrence, zones: &Zones, feed_zone: &TimeZone) -> String {
    let event = &one.event;
    let time = match (&event.start, &event.end) {
        (When::AllDay(first), When::AllDay(end)) => match end.yesterday() {
            Ok(last) if last > *first => format!("{} – {}", first.strftime("%a %Y-%m-%d"), last),
            _ => format!("{} all day", first.strftime("%a %Y-%m-%d")),
        },
        _ => {
            let zone = match &event.start {
                When::Zoned { zone, .. } => zones.get(zone),
                _ => None,
            };
            let zone = zone.unwrap_or_else(|| feed_zone.clone());
            let start = one.start.to_zoned_datetime(zone.clone());
            let end = one.end.to_zoned_datetime(zone);
            let last = match start.date() == end.date() {
                true => end.strftime("%H:%M %Z"),
                false => end.strftime("%a %Y-%m-%d %H:%M %Z"),
            };
            format!("{}–{last}", start.strftime("%a %Y-%m-%d %H:%M"))
        }
    };
    let mut line = format!("{time}  {}", event.summary);
    if event.status != Status::Confirmed {
        let _ = write!(line, "  ({})", event.status.as_str());
    }
    if !event.location.is_empty() {
        let _ = write!(line, "  @ {}", event.location);
    }
    if !event.categories.is_empty() {
        let _ = write!(line, "  [{}]", event.categories.join(", "));
    }
    line
}

/// `beadle diff`: what a poll would find that read `old` before and `new` now, without waiting for
/// anything to settle.
pub async fn diff(desk: &Desk, old: &Feed, new: &Feed, format: Format) -> anyhow::Result<String> {
    let old = desk.read(old).await?;
    let new = desk.read(new).await?;
    let changes = changes_between(desk, old, new);
    let mut out = String::new();
    for (change, zone) in &changes {
        match format {
            Format::Json => writeln!(out, "{}", change_json(change, desk, zone))?,
            Format::Text => writeln!(out, "{}", change_text(change, desk, zone))?,
        }
    }
    Ok(out)
}

fn changes_between(desk: &Desk, old: Source, new: Source) -> Vec<(Change, TimeZone)> {
    // When `new` was exported, as far as it says: what was over by then has merely left the list.
    let now = new.calendar.newest_stamp.unwrap_or(Timestamp::MIN);
    let zone = new.zone;
    let mut cx = diff::Context {
        now,
        zones: &desk.zones,
        zone: &zone,
        settle: SignedDuration::ZERO,
        confirm: SignedDuration::ZERO,
        baseline: true,
    };
    let reading = |calendar: Calendar| Reading {
        prodid: calendar.prodid.clone(),
        complete: calendar.health.complete && calendar.health.unreadable == 0,
        // Fingerprints only tell slices apart.
        events: calendar.events.into_iter().zip(1..).collect(),
        ..Reading::default()
    };
    let known: Vec<Known> =
        diff::diff(Vec::new(), &Rest::default(), reading(old.calendar), &cx).write;
    cx.baseline = false;
    let changes = diff::diff(known, &Rest::default(), reading(new.calendar), &cx).changes;
    changes.into_iter().map(|change| (change, zone.clone())).collect()
}

fn kind_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::New => "new",
        ChangeKind::Updated | ChangeKind::Reinstated | ChangeKind::Postponed => "updated",
        ChangeKind::Rescheduled => "rescheduled",
        ChangeKind::Cancelled => "cancelled",
        ChangeKind::Missing => "missing",
    }
}

fn change_json(change: &Change, desk: &Desk, zone: &TimeZone) -> Value {
    let before = change.before.as_ref();
    let previous = before.map(|old| &old.uid).filter(|uid| **uid != change.after.uid);
    let mut fields = Map::new();
    for field in &change.fields {
        let old = before.map_or(Value::Null, |old| field_json(old, *field, desk, zone));
        let new = field_json(&change.after, *field, desk, zone);
        fields.insert(field.as_str().to_owned(), json!({ "old": old, "new": new }));
    }
    let mut object = Map::new();
    object.insert("kind".to_owned(), json!(kind_word(change.kind)));
    object.insert("uid".to_owned(), json!(change.after.uid));
    object.insert("previous_uid".to_owned(), json!(previous));
    object.insert("summary".to_owned(), json!(change.after.summary));
    object.insert("fields".to_owned(), Value::Object(fields));
    Value::Object(object)
}

fn field_json(event: &Event, field: Field, desk: &Desk, zone: &TimeZone) -> Value {
    match field {
        Field::Summary => json!(event.summary),
        Field::Start => when_json(&event.start, &desk.zones, zone),
        Field::End => when_json(&event.end, &desk.zones, zone),
        Field::AllDay => json!(event.is_all_day()),
        Field::Location => json!(event.location),
        Field::Description => json!(event.description),
        Field::Categories => json!(event.categories),
        Field::Organizer => json!(event.organizer.as_ref().map(|o| match o.email.as_str() {
            "" => o.name.clone(),
            email => format!("{} <{email}>", o.name),
        })),
        Field::Url => json!(event.url),
        Field::Join => json!(event.join.as_ref().map(|join| &join.url)),
        Field::Recurrence => json!(event.recurrence.rules),
        Field::Status => json!(event.status.as_str()),
    }
}

fn change_text(change: &Change, desk: &Desk, zone: &TimeZone) -> String {
    let mut text = format!("{:<12} {}", kind_word(change.kind), change.after.summary);
    if matches!(change.kind, ChangeKind::New | ChangeKind::Missing) {
        let start = when_json(&change.after.start, &desk.zones, zone);
        let _ = write!(text, "  ({})", shown(&start));
    }
    for field in &change.fields {
        let side = |event: &Event| shown(&field_json(event, *field, desk, zone));
        let old = change.before.as_ref().map(side).unwrap_or_default();
        let _ = write!(text, "\n    {field}: {old} → {}", side(&change.after));
    }
    text
}

/// One line of at most 100 characters.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What [`preview`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Medium {
    /// What Discord would show
    Terminal,
    /// The request body for Discord
    Discord,
    /// The text part of the mail
    Text,
    /// The HTML part of the mail
    Html,
}

/// `beadle preview`: the next issue of a digest, or, for a watch, a notice of its next event.
pub async fn preview(
    desk: &Desk,
    config: &Config,
    name: Option<&str>,
    medium: Medium,
    colour: bool,
) -> anyhow::Result<String> {
    let sources = desk.read_all(config).await?;
    let cx = desk.plan_context(config);
    let names: Vec<&str> = config
        .digests
        .iter()
        .map(|digest| digest.name.as_str())
        .chain(config.watches.iter().map(|watch| watch.name.as_str()))
        .collect();
    let Some(name) = name.or(names.first().copied()) else {
        bail!("{}: no watch and no digest to preview", config.path.display());
    };
    let planned = if let Some(digest) = config.digests.iter().find(|digest| digest.name == name) {
        let at = digest.every.next(desk.now, &config.timezone);
        let (_, _, window) = plan::digest_window(digest, &config.timezone, at);
        let full = plan::Digest { send_empty: true, ..digest.clone() };
        plan::digest(&cx, &full, &desk.upcoming(&sources, window), at)
    } else if let Some(watch) = config.watches.iter().find(|watch| watch.name == name) {
        let to = desk.now.saturating_add(SignedDuration::from_hours(24 * 366))?;
        let mut upcoming = desk.upcoming(&sources, Window { from: desk.now, to });
        upcoming.retain(|one| {
            watch.feeds.contains(&one.feed) && watch.matcher.matches(&one.occurrence.event)
        });
        upcoming.truncate(1);
        let alone = plan::Watch { announce: [plan::Announce::New].into(), ..watch.clone() };
        let watches = [alone];
        let cx = plan::Context { watches: &watches, ..cx };
        upcoming.first().map_or_else(Vec::new, |one| announcement(&cx, &sources, one))
    } else {
        let names = names.join(", ");
        bail!(Misuse(format!("no watch or digest is called `{name}`; there are: {names}")));
    };
    let Some(planned) = planned.first() else {
        bail!("nothing is coming up in `{name}`");
    };
    let style = Style { colour, ..Style::default() };
    let notification = &planned.notification;
    Ok(match medium {
        Medium::Terminal => message::terminal::render(notification, &style),
        Medium::Discord => {
            let ping = config.pings.get(&notification.source);
            let roles = ping.map(|ping| ping.roles(notification)).unwrap_or_default();
            let attention = message::discord::Attention { roles, silent: false };
            let bodies = message::discord::render(notification, &style, &attention);
            bodies.iter().map(|body| format!("{body}\n")).collect()
        }
        Medium::Text => message::email::render(notification, &style).text,
        Medium::Html => message::email::render(notification, &style).html,
    })
}

/// The notice that an event would have been when it was new.
fn announcement(cx: &plan::Context<'_>, sources: &[Source], one: &Upcoming) -> Vec<Planned> {
    let zone = sources.iter().find(|source| source.name == one.feed);
    let view = FeedView {
        name: &one.feed,
        title: one.feed_title.as_deref(),
        zone: zone.map_or(TimeZone::UTC, |source| source.zone.clone()),
        elsewhere: plan::Elsewhere::default(),
    };
    let change = Change {
        key: one.key.clone(),
        kind: ChangeKind::New,
        before: None,
        after: one.occurrence.event.clone(),
        fields: Vec::new(),
        duplicate: false,
        revision: 1,
    };
    plan::changes(cx, &view, &[change])
}

impl Desk {
    fn plan_context<'a>(&'a self, config: &'a Config) -> plan::Context<'a> {
        plan::Context {
            watches: &config.watches,
            digests: &config.digests,
            zones: &self.zones,
            timezone: &config.timezone,
            now: self.now,
        }
    }
}

/// `beadle rehearse`: what would be sent in `[from, to)`, when and to whom, if the feeds stayed as
/// they are.
pub async fn rehearse(
    desk: &Desk,
    config: &Config,
    from: Timestamp,
    to: Timestamp,
    format: Format,
) -> anyhow::Result<String> {
    in_order(from, to)?;
    let sources = desk.read_all(config).await?;
    let cx = desk.plan_context(config);
    let reach = plan::reminder_reach(&config.watches, &[], to);
    let upcoming = desk.upcoming(&sources, Window { from, to: reach.unwrap_or(from) });
    // Half-open at the other end, as the pipeline plans.
    let before = |at: Timestamp| at.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(at);
    let mut planned = plan::reminders(&cx, &upcoming, before(from), before(to));
    for digest in &config.digests {
        let mut at = before(from);
        loop {
            at = digest.every.next(at, &config.timezone);
            if at >= to {
                break;
            }
            let (_, _, window) = plan::digest_window(digest, &config.timezone, at);
            planned.extend(plan::digest(&cx, digest, &desk.upcoming(&sources, window), at));
        }
    }
    planned.sort_by(|a, b| (a.due_at, &a.to, &a.dedup).cmp(&(b.due_at, &b.to, &b.dedup)));

    let mut out = String::new();
    for one in &planned {
        let said = match &one.notification.kind {
            Kind::Reminder { .. } => what(&one.notification),
            _ => match one.notification.items.len() + one.notification.more {
                1 => "digest: 1 event".to_owned(),
                events => format!("digest: {events} events"),
            },
        };
        let source = &one.notification.source;
        match format {
            Format::Text => {
                let at = one.due_at.to_zoned_datetime(config.timezone.clone());
                let at = at.strftime("%a %Y-%m-%d %H:%M %Z");
                writeln!(out, "{at}  {source} → {}  {said}", one.to)?;
            }
            Format::Json => {
                let object = json!({
                    "at": one.due_at.to_string(), "source": source, "to": one.to, "what": said,
                });
                writeln!(out, "{object}")?;
            }
        }
    }
    if planned.is_empty() {
        tracing::warn!("nothing would be sent in that time");
    }
    Ok(out)
}

/// `beadle check`: whether everything the configuration names can be reached. The second value is
/// false when something cannot.
pub async fn check(
    desk: &Desk,
    config: &Config,
    registry: &Registry,
) -> anyhow::Result<(String, bool)> {
    let mut out = String::new();
    let mut good = true;
    writeln!(out, "{}: the configuration is right", config.path.display())?;
    for note in &config.notes {
        writeln!(out, "  note: {note}")?;
    }
    for (key, source) in config.secrets() {
        match source.read() {
            Ok(_) => writeln!(out, "ok    {key}: from {}", source.describe())?,
            Err(error) => {
                good = false;
                writeln!(out, "FAIL  {key}: {:#}", anyhow::Error::new(error))?;
            }
        }
        if let Some(warning) = source.warning() {
            writeln!(out, "  note: {key}: {warning}")?;
        }
    }
    for feed in config.feeds.values() {
        match desk.read(feed).await {
            Ok(source) => {
                let calendar = &source.calendar;
                let name = calendar.name.as_deref().unwrap_or("a calendar without a name");
                let (events, warnings) = (calendar.events.len(), calendar.warnings.len());
                writeln!(out, "ok    feed {}: {name}, {events} events", feed.name)?;
                if warnings > 0 {
                    writeln!(out, "  note: {warnings} warnings, see above")?;
                }
                categories_note(&mut out, config, feed, calendar)?;
            }
            Err(error) => {
                good = false;
                writeln!(out, "FAIL  feed {}: {error:#}", feed.name)?;
            }
        }
    }
    for (what, end) in receivers(config, registry).await {
        match end {
            Ok(described) => writeln!(out, "ok    {what}: {described}")?,
            Err(error) => {
                good = false;
                writeln!(out, "FAIL  {what}: {error}")?;
            }
        }
    }
    Ok((out, good))
}

/// Whether messages can be handed over: the bot's servers and every address, each by its name.
/// Sends nothing.
pub async fn receivers(
    config: &Config,
    registry: &Registry,
) -> Vec<(String, Result<String, NotifyError>)> {
    let mut found = Vec::new();
    if let Some(bot) = registry.bot() {
        let servers = discord::servers(bot, config).await;
        found.extend(servers.into_iter().map(|(what, end)| (format!("discord {what}"), end)));
    }
    for endpoint in addresses(config, registry, None) {
        found.push((format!("receiver {}", endpoint.id), endpoint.notifier.check().await));
    }
    found
}

/// Everything that a receiver's messages go to; of all receivers, and of the operator, where none is
/// named.
fn addresses<'a>(
    config: &Config,
    registry: &'a Registry,
    receiver: Option<&str>,
) -> Vec<&'a Endpoint> {
    let named = config.receivers.keys().filter(|name| receiver.is_none_or(|only| only == *name));
    let ids = named.flat_map(|name| registry.endpoints(name));
    let operator = receiver.is_none().then(|| operator::ENDPOINT.to_owned());
    ids.chain(operator).filter_map(|id| registry.configured(&id)).collect()
}

/// `beadle send-test`: sends a message that says it is a test to every address of a receiver, or of
/// all, the way all messages go. The second value is whether every one arrived.
pub async fn send_test(
    config: &Config,
    registry: &Registry,
    receiver: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<(String, bool)> {
    if let Some(name) = receiver.filter(|name| !config.receivers.contains_key(*name)) {
        let names: Vec<&str> = config.receivers.keys().map(String::as_str).collect();
        let names = names.join(", ");
        return Err(Misuse(format!("there is no receiver `{name}`; there are: {names}")).into());
    }
    let text = "If you can read this, messages of beadle arrive here. Nothing has happened, and \
                nothing needs to be done.";
    let notification = plan::Notification {
        source: "beadle".to_owned(),
        kind: Kind::Notice { title: "Test".to_owned(), text: text.to_owned() },
        zone: config.timezone.iana_name().unwrap_or("UTC").to_owned(),
        items: Vec::new(),
        more: 0,
    };
    let (mut out, mut good) = (String::new(), true);
    for endpoint in addresses(config, registry, receiver) {
        let id = &endpoint.id;
        let delivery = DeliveryContext {
            // Another one each time, or Discord would recognise the last test and show no other.
            dedup_key: delivery_id(id, &format!("test {now}")),
            planned_at: now,
            due_at: now,
            now,
            address: endpoint.address.clone(),
            thread: None,
            reply_to: None,
            first_part: None,
            posted: None,
            twin: false,
        };
        let mut result = Ok(());
        for payload in endpoint.notifier.render(&notification, &delivery) {
            result = result.and(endpoint.notifier.send(&payload, &delivery).await.map(drop));
        }
        match result {
            Ok(()) => writeln!(out, "ok    {id}: sent")?,
            Err(error) => {
                good = false;
                writeln!(out, "FAIL  {id}: {error}")?;
            }
        }
    }
    Ok((out, good))
}

/// `beadle discord invite`: the address at which the bot is added to a server.
pub async fn discord_invite(config: &Config, http: &discord::Http) -> anyhow::Result<String> {
    let bot = discord::Bot::new(&config.discord, http).ok_or_else(|| {
        Misuse("[discord] has no token: a webhook needs no invitation, and a bot needs one".into())
    })?;
    Ok(discord::invitation(&bot, config).await?)
}

/// A watched category that no event bears may be misspelt.
fn categories_note(
    out: &mut String,
    config: &Config,
    feed: &Feed,
    calendar: &Calendar,
) -> std::fmt::Result {
    let bears = |name: &str, event: &Event| {
        let all = event.categories.iter().chain(&event.categories_raw);
        all.into_iter().any(|category| category.to_lowercase() == name.to_lowercase())
    };
    for watch in config.watches.iter().filter(|watch| watch.feeds.contains(&feed.name)) {
        for name in &watch.matcher.categories {
            if !calendar.events.iter().any(|event| bears(name, event)) {
                writeln!(out, "  note: watch {}: no event is in `{name}` now", watch.name)?;
            }
        }
    }
    Ok(())
}

/// `beadle status`: how feeds, outbox and endpoints stand.
pub async fn status(
    config: &Config,
    store: &Store,
    running: bool,
    now: Timestamp,
    format: Format,
) -> anyhow::Result<String> {
    let at = |at: Timestamp| {
        at.to_zoned_datetime(config.timezone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
    };
    let counts = store.counts().await?;
    let count = |state| counts.get(&state).copied().unwrap_or(0);
    let mut feeds = BTreeMap::new();
    for name in config.feeds.keys() {
        feeds.insert(name, (store.feed(name).await?, store.event_counts(name).await?));
    }
    let parked = store.parked().await?;
    let refused = store.refused().await?;
    let paused = store.paused().await?;
    let reminders = store.reminder_requests(None).await?.len();
    let next = store.next_attempt().await?;

    if format == Format::Json {
        let feeds: Map<String, Value> = feeds
            .iter()
            .map(|(name, (state, (events, waiting)))| {
                let value = json!({
                    "events": events, "unsettled": waiting, "failures": state.failures,
                    "failing_since": state.failing_since.map(|at| at.to_string()),
                    "error": state.last_error,
                    "changed_at": state.changed_at.map(|at| at.to_string()),
                });
                ((*name).clone(), value)
            })
            .collect();
        let parked: Vec<Value> = parked
            .iter()
            .map(|p| json!({ "endpoint": p.endpoint, "since": p.since.to_string(), "reason": p.reason }))
            .collect();
        let refused: Vec<Value> = refused
            .iter()
            .filter_map(|one| Some((one, one.refused.as_ref()?)))
            .map(|(one, refusal)| {
                json!({
                    "target": one.target, "what": one.purpose.as_str(), "name": one.name,
                    "at": refusal.at.to_string(), "reason": refusal.reason,
                })
            })
            .collect();
        let outbox: Map<String, Value> = DeliveryState::ALL
            .into_iter()
            .map(|state| (state.to_string(), json!(count(state))))
            .collect();
        let paused: Map<String, Value> = paused
            .iter()
            .map(|(watch, pause)| (watch.clone(), json!(pause.since.to_string())))
            .collect();
        let all = json!({
            "running": running, "feeds": feeds, "outbox": outbox, "parked": parked,
            "refused": refused, "paused": paused, "personal_reminders": reminders,
        });
        return Ok(format!("{all}\n"));
    }

    let mut out = String::new();
    writeln!(out, "beadle is {}", if running { "running" } else { "not running" })?;
    for (name, (state, (events, waiting))) in &feeds {
        match (state.baseline_at, state.failing_since) {
            (_, Some(since)) => {
                let error = state.last_error.as_deref().unwrap_or("unknown error");
                let times = state.failures;
                writeln!(out, "feed {name}: FAILING since {} ({times}×): {error}", at(since))?;
            }
            (None, None) => writeln!(out, "feed {name}: not read yet")?,
            (Some(_), None) => {
                let changed = state.changed_at.map_or("never".to_owned(), at);
                write!(out, "feed {name}: {events} events, last change {changed}")?;
                if *waiting > 0 {
                    write!(out, ", {waiting} changes waiting to be confirmed")?;
                }
                writeln!(out)?;
            }
        }
    }
    // What is being sent is not sent.
    let waiting = count(DeliveryState::Pending) + count(DeliveryState::Leased);
    let (sent, dead) = (count(DeliveryState::Sent), count(DeliveryState::Dead));
    write!(out, "outbox: {waiting} waiting, {sent} sent, {dead} dead")?;
    match next {
        Some(next) if next <= now => writeln!(out, "; the next is due now")?,
        // All that waits does so for what is parked.
        Some(next) if next >= NEVER => writeln!(out)?,
        Some(next) => writeln!(out, "; the next is tried at {}", at(next))?,
        None => writeln!(out)?,
    }
    for parked in parked {
        let (endpoint, since, reason) = (parked.endpoint, at(parked.since), parked.reason);
        let again = match parked.retry_at {
            retry_at if retry_at >= NEVER => {
                format!("not tried again before `beadle outbox retry {endpoint}` or a new start")
            }
            retry_at if retry_at <= now => "due to be tried again".to_owned(),
            retry_at => format!("tried again at {}", at(retry_at)),
        };
        writeln!(out, "PARKED {endpoint} since {since}, {again}: {reason}")?;
    }
    for one in refused {
        let Some(refusal) = one.refused else { continue };
        let (to, what, name) = (one.target, one.purpose.as_str(), one.name);
        let (tried, reason) = (at(refusal.at), refusal.reason);
        writeln!(out, "REFUSED {what} {name} by {to}, last tried at {tried}: {reason}")?;
    }
    for (watch, pause) in paused {
        let (since, by) = (at(pause.since), pause.by);
        writeln!(out, "PAUSED watch {watch} since {since}, by Discord user {by}")?;
    }
    if reminders > 0 {
        writeln!(out, "personal reminders asked for: {reminders}")?;
    }
    Ok(out)
}

/// `beadle restore`: what became of it.
pub fn restored(done: &Restored) -> String {
    let mut out = String::from(
        "restored: feeds are read anew on the next start, and only what changes after that is told\n",
    );
    if let Some(aside) = &done.set_aside {
        out.push_str(&format!("the state that was there is now {}\n", aside.display()));
    }
    match done.held {
        0 => {}
        1 => out.push_str("1 message that waited is held back: see `beadle outbox list`\n"),
        held => out.push_str(&format!(
            "{held} messages that waited are held back: see `beadle outbox list`\n"
        )),
    }
    out
}

/// `beadle outbox list`: deliveries in one state, or all that are not sent.
pub async fn outbox_list(
    config: &Config,
    store: &Store,
    state: Option<DeliveryState>,
    limit: u32,
    format: Format,
) -> anyhow::Result<String> {
    let mut out = String::new();
    for one in store.deliveries(state, limit).await? {
        let what = what(&one.notification);
        match format {
            Format::Json => {
                let object = json!({
                    "id": one.id, "endpoint": one.endpoint, "state": one.state.as_str(),
                    "source": one.notification.source, "what": what,
                    "due_at": one.due_at.to_string(), "attempts": one.attempts,
                    "attempt_at": one.attempt_at.to_string(), "remote_id": one.remote_id,
                    "error": one.last_error,
                });
                writeln!(out, "{object}")?;
            }
            Format::Text => {
                let due = one.due_at.to_zoned_datetime(config.timezone.clone());
                let due = due.strftime("%Y-%m-%d %H:%M");
                writeln!(
                    out,
                    "{}  {:<10} {due}  {}  {what}",
                    &one.id[..8],
                    one.state,
                    one.endpoint
                )?;
                // What went wrong before it was sent is in the JSON.
                let error = one.last_error.as_ref().filter(|_| one.state != DeliveryState::Sent);
                if let Some(error) = error {
                    let when = match one.attempts {
                        // It was given another chance, or given up.
                        0 => "before".to_owned(),
                        1 => "after 1 attempt".to_owned(),
                        attempts => format!("after {attempts} attempts"),
                    };
                    writeln!(out, "          {when}: {error}")?;
                }
            }
        }
    }
    Ok(out)
}

/// `beadle outbox retry` and `drop`: of the delivery whose id begins with `id`, or of all dead ones.
/// `retry` of an endpoint or a `guild/<id>` that is parked has that tried.
pub async fn intervene(
    store: &Store,
    id: Option<&str>,
    happening: Happening,
    now: Timestamp,
) -> anyhow::Result<String> {
    // No delivery's id has a slash.
    if let (Some(target), Happening::Revived) = (id.filter(|id| id.contains('/')), happening) {
        if !store.try_parked(target, now).await? {
            bail!("{target} is not parked; see `beadle status`");
        }
        return Ok(format!("{target} will be tried again\n"));
    }
    let done = store.intervene(id.unwrap_or(""), happening, now).await?;
    if let (Some(id), []) = (id, done.as_slice()) {
        bail!(
            "no delivery whose id begins with `{id}` can be changed so; see `beadle outbox list`"
        );
    }
    let word = match happening {
        Happening::Dropped => "dropped",
        _ => "will be tried again",
    };
    let mut out = String::new();
    for one in &done {
        writeln!(out, "{}  {}  {}: {word}", &one.id[..8], one.endpoint, what(&one.notification))?;
    }
    if done.is_empty() {
        writeln!(out, "no delivery is dead")?;
    }
    Ok(out)
}

fn what(notification: &plan::Notification) -> String {
    let title = notification.items.first().map_or("", |item| item.event.summary.as_str());
    match &notification.kind {
        Kind::Changes if notification.items.len() > 1 => {
            format!("{} changes", notification.items.len() + notification.more)
        }
        Kind::Changes => {
            let reason = notification.items.first().map(|item| item.reason.as_str());
            format!("{}: {title}", reason.unwrap_or("change"))
        }
        Kind::Reminder { lead } => match lead.split_once(" at ") {
            Some((days, time)) => format!("reminder ({days} before, at {time}): {title}"),
            None => format!("reminder ({lead} before): {title}"),
        },
        Kind::Digest { from, .. } => format!("digest of {from}"),
        Kind::Welcome => "welcome".to_owned(),
        Kind::Notice { title, .. } => format!("notice: {title}"),
    }
}

/// The command line asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// A feed named on the command line.
pub fn named_feed(address: &str) -> Result<Feed, Misuse> {
    if address.is_empty() {
        return Err(Misuse("the address of the calendar is empty".to_owned()));
    }
    // Whoever types an address means it, wherever it leads.
    Feed::at(address, address, Path::new(""))
        .map(|feed| Feed { private: true, ..feed })
        .map_err(|error| Misuse(format!("{address}: cannot tell what to read: {error}")))
}

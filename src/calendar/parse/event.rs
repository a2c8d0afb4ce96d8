//! One VEVENT to an [`Event`]: its lines, what they mean together, and the repair of what publishers
//! get wrong.

use std::borrow::Cow;

use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use memchr::{memchr, memchr_iter};
use simdutf8::basic::from_utf8;
use xxhash_rust::xxh3::xxh3_64;

use super::line::{
    Form, Name, Params, Problem, Properties, Property, VALUE_BYTES, emptied, line_end, plain_head,
    property,
};
use super::value::{DateValue, DurationValue};
use super::{Categories, Custom, EVENT_WARNINGS, Interpreter, LastZone};
use crate::rule::Rule;
use crate::scan::{Bracket, Component, Lines, RawLine, Slice};
use crate::{Event, JoinLink, Organizer, Recurrence, Status, Uid, Warning, When, html, text, time};

/// How deep components may lie in an event of the common form.
const NESTED: usize = 16;
/// Dates in the RDATEs and EXDATEs of one event.
const LISTED_DATES: usize = 10_000;
/// RRULEs and EXRULEs of one event: each is kept, and takes many times the memory of its line.
const RULES: usize = 100;
/// The same of one event's categories.
const CATEGORIES: usize = 1_000;

/// Whether a line is the last one of a slice.
fn ends(line: &RawLine<'_>, slice: &Slice<'_>) -> bool {
    line.bytes.as_ptr_range().end == slice.bytes.as_ptr_range().end
}

/// The event being read, for its warnings.
struct Current {
    uid: Option<Uid>,
    /// Of one without a UID.
    title: Option<String>,
    /// Where it begins is not known: lines are counted from there.
    adrift: bool,
    warnings: Vec<Warning>,
}

impl Current {
    fn warn(&mut self, line: usize, message: impl Into<String>) {
        if self.warnings.len() < EVENT_WARNINGS {
            let event = self.uid.as_ref().map(|uid| &uid.0).or(self.title.as_ref()).cloned();
            let (line, message) = match (self.adrift, line) {
                (false, line) => (line, message.into()),
                // The event as a whole.
                (true, 1) => (0, message.into()),
                (true, line) => (0, format!("on its line {line}: {}", message.into())),
            };
            self.warnings.push(Warning { line, event, message });
        }
    }
}

impl Interpreter<'_> {
    /// Reads one VEVENT; when that fails, its UID. Also says how many line feeds it has. None for
    /// what is not `sure` to be one event and turns out to be more, or not whole.
    pub(super) fn event(
        &mut self,
        slice: &Slice<'_>,
        sure: bool,
    ) -> Option<(Result<Event, Option<Uid>>, usize)> {
        let mut properties = Properties::new(std::mem::take(&mut self.properties));
        let mut problems: Vec<(usize, Problem)> = Vec::new();
        let mut inner = Vec::new();
        let mut foreign = false;
        let start = slice.line.max(1);
        let mut lines = Lines::new(slice.bytes, start);
        let _begin = lines.next();
        let text = from_utf8(slice.bytes).map_err(|_| slice.bytes);
        loop {
            if inner.is_empty()
                && let Some(property) = self.plain_line(text, &mut lines)
            {
                properties.push(property);
                continue;
            }
            let Some(raw) = lines.next() else { break };
            match raw.bracket() {
                Bracket::Begin(Component::Other(name)) if sure || inner.len() < NESTED => {
                    inner.push(name);
                }
                Bracket::End(Component::Other(name)) if sure || inner.last() == Some(&name) => {
                    inner.pop();
                }
                Bracket::End(Component::Event) if sure || ends(&raw, slice) && inner.is_empty() => {
                    break;
                }
                Bracket::Begin(_) | Bracket::End(_) if !sure => return None,
                Bracket::Begin(_) | Bracket::End(_) => {}
                Bracket::None if !inner.is_empty() || raw.bytes.trim_ascii().is_empty() => {}
                Bracket::None => {
                    let (text, decoded) = self.decode(&raw);
                    if decoded && !foreign {
                        foreign = true;
                        let charset = self.charset.name();
                        let message = format!("not UTF-8; read as {charset}");
                        problems.push((raw.number, message.into()));
                    }
                    match property(raw.number, text) {
                        Ok((property, problem)) => {
                            problems.extend(problem.map(|problem| (raw.number, problem)));
                            properties.push(property);
                        }
                        Err(problem) => problems.push((raw.number, problem)),
                    }
                }
            }
        }
        let feeds = match lines.place() {
            Some((_, number)) => number - start,
            None => memchr_iter(b'\n', slice.bytes).count(),
        };
        let uid = properties.first(Name::Uid).and_then(|property| uid_of(&property.value));
        let title = || {
            let title = text::single_line(properties.first(Name::Summary)?.text());
            (!title.is_empty()).then_some(title)
        };
        let title = if uid.is_none() { title() } else { None };
        let adrift = slice.line == 0;
        let mut current = Current { uid, title, adrift, warnings: Vec::new() };
        for (line, problem) in problems {
            current.warn(line, problem);
        }
        let event = self.build(start, &mut properties, &mut current);
        for warning in current.warnings {
            self.keep(warning);
        }
        self.properties = emptied(properties.all);
        Some((event.ok_or(current.uid), feeds))
    }

    /// The next line of a text, if it is of the form that nearly all have. The text may be known to
    /// be UTF-8.
    fn plain_line<'t>(
        &mut self,
        text: Result<&'t str, &'t [u8]>,
        lines: &mut Lines<'t>,
    ) -> Option<Property<'t>> {
        let (start, line) = lines.place()?;
        let rest = text.map_or_else(|bytes| bytes, str::as_bytes).get(start..)?;
        let utf8 = |from: usize, to: usize| match text {
            Ok(text) => text.get(start + from..start + to),
            Err(_) => std::str::from_utf8(&rest[from..to]).ok(),
        };
        // BEGIN or END.
        if matches!(rest, [b'B' | b'b', b'E' | b'e', ..] | [b'E' | b'e', b'N' | b'n', ..]) {
            return None;
        }
        let (name, params, at) = plain_head(rest, &mut self.last_params)?;
        let params = Params::Plain(match params {
            [] => "",
            _ => utf8(at - 1 - params.len(), at - 1)?,
        });
        if let Some(Name::Description | Name::Location | Name::Summary) = name {
            // The texts are most of what there is to read.
            let text = text::read(&rest[at..], VALUE_BYTES, &mut self.room)?;
            lines.pass(at + text.bytes, text.breaks);
            let form = if text.tidy { Form::Tidy } else { Form::Plain };
            return Some(Property { line, name, params, value: text.text.into(), form });
        }
        let (mut from, mut breaks, mut before) = (at, 0, String::new());
        let last = loop {
            let bytes = &rest[from..];
            let end = line_end(bytes)?;
            let (length, next) = match bytes[end..] {
                [b'\r', b'\n', next, ..] => (2, next),
                [b'\n', next, ..] => (1, next),
                _ => return None,
            };
            from += end + length;
            breaks += 1;
            match next {
                _ if from - at > VALUE_BYTES => return None,
                // It goes on.
                b' ' | b'\t' => {
                    if name.is_some() {
                        before.reserve(2 * end);
                        before.push_str(utf8(from - length - end, from - length)?);
                    }
                    from += 1;
                }
                // Perhaps after an empty line.
                b'\r' | b'\n' => return None,
                _ => break (from - length - end, from - length),
            }
        };
        let value: Cow<'_, str> = match name {
            None => "".into(),
            Some(_) if before.is_empty() => utf8(last.0, last.1)?.into(),
            Some(_) => (before + utf8(last.0, last.1)?).into(),
        };
        // The colon before a date may not be the first: see `date_colon`.
        let colons = name.is_some_and(Name::is_date) && value.contains(':');
        if colons && !matches!(params, Params::Plain("")) {
            return None;
        }
        lines.pass(from, breaks);
        Some(Property { line, name, params, value, form: Form::Stated })
    }

    /// Takes the UID and the texts into the event.
    fn build(
        &mut self,
        line: usize,
        properties: &mut Properties<'_>,
        current: &mut Current,
    ) -> Option<Event> {
        let stated = properties.take(Name::Summary).map(text::single_line).unwrap_or_default();
        let tidy = properties.filled(Name::Description).is_some_and(|p| p.form == Form::Tidy);
        let description = properties.take(Name::Description);
        let properties = &*properties;
        let filled = |name| properties.filled(name);

        let mut recurrence = Recurrence::default();
        let mut read_rules = Vec::new();
        for (nth, property) in properties.named([Name::Rrule, Name::Exrule]).enumerate() {
            if nth == RULES {
                let message = format!("has more than {RULES} rules; others ignored");
                current.warn(property.line, message);
                break;
            }
            let (name, rules) = match property.name {
                Some(Name::Rrule) => (Name::Rrule, &mut recurrence.rules),
                _ => (Name::Exrule, &mut recurrence.exrules),
            };
            let mut rule = text::single_line(text::clean(&*property.value)).to_ascii_uppercase();
            if let Some(parts) = without_strays(&rule) {
                let stated = printable(&rule);
                let message = format!("{name} {stated}: what is no part of a rule is ignored");
                current.warn(property.line, message);
                rule = parts;
            }
            if !rule.is_empty() {
                match Rule::parse(&rule) {
                    Ok(parsed) => read_rules.push((property.line, name, rule.clone(), parsed)),
                    Err(problem) => {
                        let rule = printable(&rule);
                        current.warn(property.line, format!("{name} {rule}: {problem}"));
                    }
                }
                rules.push(rule);
            }
        }
        let recurs = !recurrence.rules.is_empty() || filled(Name::Rdate).is_some();

        let Some(dtstart) = filled(Name::Dtstart) else {
            current.warn(line, "has no DTSTART; left out");
            return None;
        };
        let Some(start) = self.when(dtstart, &dtstart.value, recurs, current) else {
            let value = printable(&dtstart.value);
            current.warn(dtstart.line, format!("DTSTART {value} is not a date; left out"));
            return None;
        };
        for (line, name, rule, parsed) in &read_rules {
            if let Some(fault) = parsed.fault(&start) {
                current.warn(*line, format!("{name} {}: {fault}", printable(rule)));
            }
        }
        let dtend = filled(Name::Dtend);
        let start = self.zoned_by_end(start, dtend, recurs, current);
        let end = self.end(&start, dtend, filled(Name::Duration), recurs, current);
        let flagged = filled(Name::AllDayEvent)
            .is_some_and(|property| property.value.trim().eq_ignore_ascii_case("TRUE"));
        // A rule, and what names one of its dates, is in the zone it was written in.
        let alone = !recurs && filled(Name::RecurrenceId).is_none();
        let said = self.options.feed_zone.is_some() || self.preamble().wr_timezone.is_some();
        let zone = (alone && said).then_some(&self.feed_zone);
        let (start, end) = all_day_in_disguise(start, end, flagged, zone);

        for property in properties.named([Name::Rdate, Name::Exdate]) {
            for value in property.value.split(',').filter(|value| !value.trim().is_empty()) {
                if recurrence.rdates.len() + recurrence.exdates.len() >= LISTED_DATES {
                    let message = format!("lists more than {LISTED_DATES} dates; others ignored");
                    current.warn(property.line, message);
                    break;
                }
                let read = if property.name == Some(Name::Rdate) {
                    self.period(property, value, recurs, current)
                        .map(|date| recurrence.rdates.push(date))
                } else {
                    self.when(property, value, recurs, current)
                        .map(|date| recurrence.exdates.push(date))
                };
                if read.is_none() {
                    bad_date(property, value, current);
                }
            }
        }
        normalise(&mut recurrence);

        let recurrence_id = filled(Name::RecurrenceId).and_then(|property| {
            let when = self.when(property, &property.value, recurs, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            when.map(|when| {
                let range = property.param("RANGE").unwrap_or_default();
                (when, range.eq_ignore_ascii_case("THISANDFUTURE"))
            })
        });

        let (said, summary) = match text::status_prefix(&stated) {
            Some((status, rest)) => (Some(status), text::single_line(rest)),
            None => (None, stated),
        };
        let mut status = filled(Name::Status).map_or(Status::Confirmed, |property| {
            match property.value.trim().to_ascii_uppercase().as_str() {
                "CONFIRMED" => Status::Confirmed,
                "TENTATIVE" => Status::Tentative,
                "CANCELLED" | "CANCELED" => Status::Cancelled,
                // Seen, though not in RFC 5545.
                "POSTPONED" => Status::Postponed,
                other => {
                    let value = printable(other);
                    current.warn(property.line, format!("STATUS {value} is not known; ignored"));
                    Status::Confirmed
                }
            }
        });
        if status.is_on() {
            status = said.unwrap_or(status);
        }
        if self.preamble().cancels {
            status = Status::Cancelled;
        }

        let described = description.filter(|text| tidy || !text.trim().is_empty());
        let alternative = || filled(Name::AltDesc).map(Property::text);
        let described = described.or_else(alternative).unwrap_or_default();
        let join = meeting(properties, &described);
        let description = if html::looks_like_html(&described) {
            text::paragraphs(&text::clean(html::html_to_text(&described)))
        } else if tidy {
            described.into_owned()
        } else {
            text::paragraphs(&described)
        };
        let location = filled(Name::Location).map(|p| text::join_lines(p.text()));
        let location = location.unwrap_or_default();

        let mut url = None;
        if let Some(property) = filled(Name::Url) {
            url = match property.value.contains('\\') {
                true => text::http_url(&property.value.replace("\\,", ",").replace("\\;", ";")),
                false => text::http_url_of(&property.value, &mut self.site),
            };
            if url.is_none() {
                let value = printable(&property.value);
                current.warn(property.line, format!("URL {value} is no http(s) address; ignored"));
            }
        }
        let mut lines = properties.named([Name::Categories]);
        let (categories, categories_raw) = match (lines.next(), lines.next()) {
            (None, _) => (Vec::new(), Vec::new()),
            (Some(one), None) => self.categories(&one.value),
            _ => categories(properties.named([Name::Categories]).map(|line| &*line.value)),
        };
        if categories.len() == CATEGORIES {
            let message = format!("{CATEGORIES} categories are kept; others ignored");
            current.warn(line, message);
        }

        let sequence = filled(Name::Sequence).map_or(0, |property| {
            property.value.trim().parse().unwrap_or_else(|_| {
                current.warn(property.line, "SEQUENCE is not a number; ignored");
                0
            })
        });
        let mut stamp = |name| {
            let property = filled(name)?;
            if let Some(DateValue { local, offset: Some(Offset::UTC), is_date: false }) =
                DateValue::basic(property.value.as_bytes())
                && !property.is_date()
            {
                return Some(time::resolve(local, &TimeZone::UTC));
            }
            let when = self.when(property, &property.value, false, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            Some(when?.instant(self.options.zones, &self.feed_zone))
        };
        let (created, last_modified) = (stamp(Name::Created), stamp(Name::LastModified));
        if current.uid.is_none() {
            let uid = derived_uid(&start, &summary);
            current.warn(line, format!("has no UID; called {uid}"));
            current.uid = Some(uid);
        }
        let (recurrence_id, this_and_future) =
            recurrence_id.map_or((None, false), |(when, future)| (Some(when), future));
        let organizer = filled(Name::Organizer).and_then(|p| self.organizer(p));
        let image = properties.named([Name::Image, Name::Attach]);
        let image = image.into_iter().find_map(|property| self::image(property, &mut self.site));
        Some(Event {
            uid: current.uid.take().unwrap_or_default(),
            recurrence_id,
            this_and_future,
            sequence,
            status,
            judged: None,
            start,
            end,
            summary,
            description,
            location,
            url,
            categories,
            categories_raw,
            organizer,
            image,
            page_image: None,
            join,
            recurrence,
            created,
            last_modified,
        })
    }

    /// A DATE or DATE-TIME with its zone.
    fn when(
        &mut self,
        property: &Property<'_>,
        value: &str,
        recurs: bool,
        current: &mut Current,
    ) -> Option<When> {
        let date = DateValue::parse(value)?;
        if let (Some((dated, zone)), Params::Plain(params)) = (&self.dated, &property.params)
            && dated == params
            && !date.is_date
            && date.offset.is_none()
        {
            return Some(When::Zoned { local: date.local, zone: zone.clone() });
        }
        // Some publishers call every date a DATE; a time of day is not written by mistake.
        let is_midnight = date.local.time() == civil::Time::midnight();
        if date.is_date || property.is_date() && is_midnight {
            return Some(When::AllDay(date.local.date()));
        }
        let local = date.local;
        if let Some(offset) = date.offset {
            return Some(When::Zoned { local, zone: time::offset_name(offset) });
        }
        let Some(tzid) = property.param("TZID").filter(|tzid| !tzid.trim().is_empty()) else {
            return Some(When::Floating(local));
        };
        // A parameter has no escapes, but the name may have been copied from where it has.
        let tzid = &*text::unescape(tzid);
        if let Some(zone) = self.zone_name(tzid) {
            if let Params::Plain(params) = property.params
                && property.param("VALUE").is_none()
            {
                self.dated = Some((params.to_owned(), zone.clone()));
            }
            return Some(When::Zoned { local, zone });
        }
        match self.preamble().custom_zones.get(tzid.trim()) {
            Some((_, Custom::Named(zone))) => {
                return Some(When::Zoned { local, zone: zone.clone() });
            }
            Some((_, Custom::Rules(rules))) => {
                if let Some(zone) = rules.name(local, recurs) {
                    return Some(When::Zoned { local, zone });
                }
            }
            None => {}
        }
        if let Some(offset) = time::stated_offset(tzid) {
            return Some(When::Zoned { local, zone: time::offset_name(offset) });
        }
        let taken = match &self.preamble().wr_timezone {
            Some(zone) => zone.as_str(),
            None => "the feed's zone",
        };
        let message = format!("time zone {} is not known; taken to be {taken}", printable(tzid));
        if !current.warnings.iter().any(|warning| warning.message.ends_with(&message)) {
            current.warn(property.line, message);
        }
        Some(match &self.preamble().wr_timezone {
            Some(zone) => When::Zoned { local, zone: zone.clone() },
            None => When::Floating(local),
        })
    }

    fn zone_name(&mut self, tzid: &str) -> Option<String> {
        if let Some(known) = self.zone_names.get(tzid) {
            return known.clone();
        }
        let name = self.options.zones.canonical(tzid);
        self.zone_names.insert(tzid.to_owned(), name.clone());
        name
    }

    pub(super) fn instant(&mut self, when: &When) -> Timestamp {
        time::resolve(when.local(), self.zone_of(when))
    }

    /// Whether its wall time does not exist, because clocks are put forward over it.
    fn is_in_gap(&mut self, when: &When) -> bool {
        let local = when.local();
        self.zone_of(when);
        let zone = match (&mut self.zone, when) {
            (Some(zone), When::Zoned { .. }) if zone.steady.contains(&local) => return false,
            (Some(zone), When::Zoned { .. }) => {
                zone.steady = time::steady(local, &zone.zone);
                &zone.zone
            }
            _ => &self.feed_zone,
        };
        matches!(zone.to_ambiguous_timestamp(local).offset(), AmbiguousOffset::Gap { .. })
    }

    fn zone_of(&mut self, when: &When) -> &TimeZone {
        let When::Zoned { zone: name, .. } = when else { return &self.feed_zone };
        let zone = match self.zone.take() {
            Some(last) if last.name == *name => self.zone.insert(last),
            _ => {
                let zone = self.options.zones.get(name).unwrap_or_else(|| self.feed_zone.clone());
                let never = civil::DateTime::MIN..civil::DateTime::MIN;
                self.zone.insert(LastZone { name: name.clone(), zone, steady: never })
            }
        };
        &zone.zone
    }

    fn are_in_order(&mut self, start: &When, end: &When) -> bool {
        let same_zone = kind_and_zone(start) == kind_and_zone(end);
        // On one clock, only a gap can make the later time the earlier instant.
        (same_zone && end.local() >= start.local() && !self.is_in_gap(start))
            || self.instant(start) <= self.instant(end)
    }

    /// A start without a zone, in that of the end beside it; but UTC is how an instant is written,
    /// and not where the event is.
    fn zoned_by_end(
        &mut self,
        start: When,
        dtend: Option<&Property<'_>>,
        recurs: bool,
        current: &mut Current,
    ) -> When {
        let (When::Floating(local), Some(end)) = (&start, dtend) else { return start };
        if end.param("TZID").is_none() {
            return start;
        }
        match self.when(end, &end.value, recurs, current) {
            Some(When::Zoned { zone, .. }) if zone != "UTC" => When::Zoned { local: *local, zone },
            _ => start,
        }
    }

    /// The exclusive end (RFC 5545, 3.6.1).
    fn end(
        &mut self,
        start: &When,
        dtend: Option<&Property<'_>>,
        duration: Option<&Property<'_>>,
        recurs: bool,
        current: &mut Current,
    ) -> When {
        let mut end = None;
        if let Some(property) = dtend {
            end = self.when(property, &property.value, recurs, current);
            if end.is_none() {
                bad_date(property, &property.value, current);
            }
        }
        if let (None, Some(property)) = (&end, duration) {
            end = DurationValue::parse(&property.value).and_then(|value| self.after(start, value));
            if end.is_none() {
                current.warn(property.line, "DURATION cannot be read; ignored");
            }
        }
        let line = dtend.or(duration).map_or(0, |property| property.line);
        let default = match start {
            When::AllDay(date) => When::AllDay(date.tomorrow().unwrap_or(*date)),
            start => start.clone(),
        };
        let Some(end) = end else { return default };
        match (start, end) {
            (When::AllDay(start), When::AllDay(end)) => {
                if end < *start {
                    current.warn(line, "ends before it starts; taken to last one day");
                }
                // An end on the same day is meant to include it.
                if end <= *start { default } else { When::AllDay(end) }
            }
            (When::AllDay(start), end) => {
                current.warn(line, "starts with a date but ends with a time; read as dates");
                let local = end.local();
                let whole = local.time() == civil::Time::midnight();
                let date = if whole { Ok(local.date()) } else { local.date().tomorrow() };
                date.ok().filter(|date| date > start).map_or(default, When::AllDay)
            }
            (start, When::AllDay(date)) => {
                current.warn(line, "starts with a time but ends with a date");
                let midnight = date.to_datetime(civil::Time::midnight());
                if midnight < start.local() { default } else { with_local(start, midnight) }
            }
            (start, end) => {
                // A time without a zone means that of the time beside it.
                let end = match (start, end) {
                    (When::Zoned { .. }, When::Floating(local)) => with_local(start, local),
                    (When::Floating(_), end @ When::Zoned { .. }) => {
                        let instant = self.instant(&end);
                        When::Floating(self.feed_zone.to_datetime(instant))
                    }
                    (_, end) => end,
                };
                if !self.are_in_order(start, &end) {
                    current.warn(line, "ends before it starts; its end is ignored");
                    return default;
                }
                end
            }
        }
    }

    /// `start` plus a duration: days by the calendar, the rest by the clock.
    fn after(&self, start: &When, value: DurationValue) -> Option<When> {
        let span = jiff::Span::new().try_days(value.days).ok()?;
        if let When::AllDay(date) = start {
            let more = value.seconds.div_euclid(86_400) + i64::from(value.seconds % 86_400 != 0);
            let span = span.try_days(value.days.checked_add(more)?).ok()?;
            return Some(When::AllDay(date.checked_add(span).ok()?));
        }
        let local = start.local().checked_add(span).ok()?;
        if value.seconds == 0 {
            return Some(with_local(start, local));
        }
        let zone = match start {
            When::Zoned { zone, .. } => self.options.zones.get(zone),
            _ => None,
        };
        let zone = zone.as_ref().unwrap_or(&self.feed_zone);
        let instant = time::resolve(local, zone)
            .checked_add(SignedDuration::from_secs(value.seconds))
            .ok()?;
        let local = zone.to_datetime(instant);
        // A wall time that comes twice means the first; the second must be named otherwise.
        Some(match time::resolve(local, zone) == instant {
            true => with_local(start, local),
            false => When::Zoned { local: TimeZone::UTC.to_datetime(instant), zone: "UTC".into() },
        })
    }

    /// A value of RDATE: a date, or a PERIOD with its end (RFC 5545, 3.3.9).
    fn period(
        &mut self,
        property: &Property<'_>,
        value: &str,
        recurs: bool,
        current: &mut Current,
    ) -> Option<(When, Option<When>)> {
        let Some((start, end)) = value.split_once('/') else {
            return Some((self.when(property, value, recurs, current)?, None));
        };
        let start = self.when(property, start, recurs, current)?;
        let end = match DurationValue::parse(end) {
            Some(duration) => self.after(&start, duration)?,
            None => self.when(property, end, recurs, current)?,
        };
        (self.instant(&end) >= self.instant(&start)).then_some((start, Some(end)))
    }

    /// Of one line; the last is remembered.
    fn categories(&mut self, value: &str) -> Categories {
        if let Some((last, categories)) = &self.categories
            && last == value
        {
            return categories.clone();
        }
        let categories = categories([value].into_iter());
        self.categories = Some((value.to_owned(), categories.clone()));
        categories
    }

    /// Most events of a feed have the same one: the last is remembered.
    fn organizer(&mut self, property: &Property<'_>) -> Option<Organizer> {
        let params = match property.params {
            Params::Plain(params) => Some(params),
            Params::Read(_) => None,
        };
        if let (Some(params), Some((last_params, last_value, organizer))) =
            (params, &self.organizer)
            && last_params == params
            && *last_value == property.value
        {
            return organizer.clone();
        }
        let name = property.param("CN").unwrap_or_default();
        let organizer = self.read_organizer(name, &property.value);
        if let Some(params) = params {
            let value = property.value.to_string();
            self.organizer = Some((params.to_owned(), value, organizer.clone()));
        }
        organizer
    }

    fn read_organizer(&self, name: &str, value: &str) -> Option<Organizer> {
        let name = name.trim().trim_matches(['"', '\'']);
        // The Events Calendar writes the name as if it were part of an address; others may.
        let encoded = self.preamble().prodid.contains("ECPv") || is_percent_encoded(name);
        let decoded = if encoded { text::percent_decode(name) } else { None };
        let name = text::single_line(text::clean(decoded.as_deref().unwrap_or(name)));
        let value = value.trim();
        let address = match value.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => &value[7..],
            _ => value,
        };
        let address = text::percent_decode(address).unwrap_or_else(|| address.to_owned());
        let is_address = address.split('@').count() == 2
            && !address
                .contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;:\"".contains(c));
        let email = if is_address { address } else { String::new() };
        (!name.is_empty() || !email.is_empty()).then_some(Organizer { name, email })
    }
}

fn categories<'t>(lines: impl Iterator<Item = &'t str>) -> Categories {
    let (mut categories, mut raw) = (Vec::new(), Vec::new());
    for value in lines {
        let more = text::split_list(value).into_iter().map(text::label);
        categories.extend(more.take(CATEGORIES.saturating_sub(categories.len())));
        raw.push(text::label(value));
        if categories.len() == CATEGORIES {
            break;
        }
    }
    for list in [&mut categories, &mut raw] {
        list.retain(|category: &String| !category.is_empty());
        list.sort();
        list.dedup();
    }
    (categories, raw)
}

fn bad_date(property: &Property<'_>, value: &str, current: &mut Current) {
    let name = property.name.map(|name| name.to_string()).unwrap_or_default();
    current.warn(property.line, format!("{name} {} is not a date; ignored", printable(value)));
}

/// A rule without its name, which some write twice, and without words that say nothing; None where
/// there is nothing of the kind.
fn without_strays(rule: &str) -> Option<String> {
    let parts = rule.trim_start_matches("RRULE:").trim_start_matches("EXRULE:");
    let is_stray = |part: &&str| !part.trim().is_empty() && !part.contains('=');
    let strays = parts.split(';').filter(is_stray).count();
    if parts.len() == rule.len() && strays == 0 {
        return None;
    }
    let parts: Vec<&str> = parts.split(';').filter(|part| !is_stray(part)).collect();
    Some(parts.join(";"))
}

/// The start of a hostile or long value, for a warning.
pub(super) fn printable(value: &str) -> String {
    let value = text::clean_line(value);
    let short: String = value.chars().take(60).collect();
    if short.len() < value.len() { format!("{short}…") } else { short }
}

pub(super) fn uid_of(value: &str) -> Option<Uid> {
    let uid = text::clean_line(value);
    (!uid.is_empty()).then_some(Uid(uid))
}

pub(super) fn kind_and_zone(when: &When) -> (&'static str, &str) {
    match when {
        When::AllDay(_) => ("date", ""),
        When::Zoned { zone, .. } => ("zoned", zone),
        When::Floating(_) => ("floating", ""),
    }
}

fn derived_uid(start: &When, summary: &str) -> Uid {
    let (kind, zone) = kind_and_zone(start);
    let identity = format!("{kind}\0{}\0{zone}\0{summary}", start.local());
    Uid(format!("beadle-{:016x}", xxh3_64(identity.as_bytes())))
}

fn with_local(when: &When, local: civil::DateTime) -> When {
    match when {
        When::Zoned { zone, .. } => When::Zoned { local, zone: zone.clone() },
        _ => When::Floating(local),
    }
}

/// 00:00–23:59 of one zone is an all-day event that its publisher's software could not say
/// better, and so is 00:00–00:00 of another day. Instants in UTC are taken to the zone that the feed
/// says it is in, if any: midnight in UTC is hardly anybody's. With Microsoft's flag beside it, it
/// may be, and both may be on the same day.
fn all_day_in_disguise(
    start: When,
    end: When,
    flagged: bool,
    feed_zone: Option<&TimeZone>,
) -> (When, When) {
    let same_zone = match (&start, &end) {
        (When::Zoned { zone: a, .. }, When::Zoned { zone: b, .. }) => a == b,
        (When::Floating(_), When::Floating(_)) => true,
        _ => false,
    };
    let is_utc = matches!(&start, When::Zoned { zone, .. } if zone == "UTC");
    let midnight = civil::Time::midnight();
    let days = |from: civil::DateTime, to: civil::DateTime, flagged: bool| {
        if from.time() != midnight {
            return None;
        }
        let last = if to.hour() == 23 && to.minute() == 59 && to >= from {
            to.date().tomorrow().ok()?
        } else if to.time() == midnight && to > from {
            to.date()
        } else if to.time() == midnight && flagged {
            from.date().tomorrow().ok()?
        } else {
            return None;
        };
        Some((When::AllDay(from.date()), When::AllDay(last)))
    };
    let (from, to) = (start.local(), end.local());
    let last_minute = to.hour() == 23 && to.minute() == 59;
    let as_written = || match !is_utc || flagged || last_minute {
        true => days(from, to, flagged),
        false => None,
    };
    let in_feed_zone = || {
        let zone = feed_zone.filter(|zone| is_utc && !flagged && **zone != TimeZone::UTC)?;
        let local = |utc| zone.to_datetime(time::resolve(utc, &TimeZone::UTC));
        days(local(from), local(to), false)
    };
    let found = if same_zone { in_feed_zone().or_else(as_written) } else { None };
    found.unwrap_or((start, end))
}

/// In an order of its own, so that the order in the feed does not matter.
fn normalise(recurrence: &mut Recurrence) {
    let key = |when: &When| {
        let zone = match when {
            When::Zoned { zone, .. } => zone.clone(),
            When::AllDay(_) => "date".to_owned(),
            When::Floating(_) => String::new(),
        };
        (when.local(), zone)
    };
    recurrence.rules.sort();
    recurrence.rules.dedup();
    recurrence.exrules.sort();
    recurrence.exrules.dedup();
    recurrence.exdates.sort_by_cached_key(key);
    recurrence.exdates.dedup();
    recurrence.rdates.sort_by_cached_key(|(start, end)| (key(start), end.as_ref().map(key)));
    recurrence.rdates.dedup();
}

/// Every `%` begins an escape, the whole is UTF-8, and an escape stands for a sign that a name
/// need not have encoded.
fn is_percent_encoded(name: &str) -> bool {
    let hex = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let escapes: Vec<_> = name.split('%').skip(1).map(|rest| rest.get(..2)).collect();
    !escapes.is_empty()
        && escapes.iter().all(|escape| escape.is_some_and(hex))
        && text::percent_decode(name).is_some()
}

/// The first way into a meeting, best source first.
fn meeting(properties: &Properties<'_>, description: &str) -> Option<JoinLink> {
    for name in [Name::Conference, Name::GoogleConference, Name::SkypeTeams] {
        for property in properties.named([name]) {
            let value = text::unescape(property.value.trim());
            let other = || {
                let url = text::http_url(&value)?;
                Some(JoinLink { service: "Online meeting".to_owned(), url })
            };
            if let Some(link) = text::join_link(&value).or_else(other) {
                return Some(link);
            }
        }
    }
    let places = properties.named([Name::Url]).chain(properties.named([Name::Location]));
    places.map(Property::text).find_map(|value| text::join_link(&value)).or_else(|| {
        match memchr(b'&', description.as_bytes()) {
            Some(_) => text::join_link(&description.replace("&amp;", "&")),
            None => text::join_link(description),
        }
    })
}

/// An http(s) picture (RFC 5545, 3.8.1.1; RFC 7986, 5.10).
fn image(property: &Property<'_>, site: &mut String) -> Option<String> {
    const EXTENSIONS: [&str; 7] = [".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"];
    let url = text::http_url_of(&property.value, site)?;
    if property.name == Some(Name::Image) {
        return Some(url);
    }
    let kind = property.param("FMTTYPE").unwrap_or_default();
    let is_image = if kind.is_empty() {
        let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        EXTENSIONS.iter().any(|extension| path.ends_with(extension))
    } else {
        kind.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("image/"))
    };
    is_image.then_some(url)
}

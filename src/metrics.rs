//! What monitoring can know of a running beadle, in the words of Prometheus.
//!
//! Labels name feeds, receivers and backends, never an address or a secret.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::calendar::diff::ChangeKind;
use crate::pipeline::{News, Polled};
use crate::store::{DeliveryState, Parked, Settlement};

/// Content type of [`Numbers`] as text.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric with all its series.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
}

#[derive(Debug)]
enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, without the last, which has none.
    Histogram(&'static [f64]),
}

/// In the order in which they are written.
const FAMILIES: [Family; 23] = [
    BUILD,
    STARTED,
    STATE_SIZE,
    POLLS,
    POLL_DURATION,
    POLL_BYTES,
    FEED_EVENTS,
    UNREADABLE,
    LAST_READ,
    FAILURES,
    CHANGES,
    WARNINGS,
    PLANNED,
    CLAIM_LAG,
    SEND_LAG,
    DELIVERIES,
    RETRIES,
    DOUBTS,
    DROPPED,
    OUTBOX,
    PARKED,
    OLDEST_DUE,
    LOOP_AGE,
];

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, help, kind, labels }
}

const BUILD: Family =
    family("beadle_build_info", Kind::Gauge, &["version"], "Always 1; the version is the label.");
const STARTED: Family = family(
    "process_start_time_seconds",
    Kind::Gauge,
    &[],
    "When this process was started, in seconds since 1970.",
);
const STATE_SIZE: Family = family(
    "beadle_state_size_bytes",
    Kind::Gauge,
    &[],
    "Size of the database, with its write-ahead log.",
);
const POLLS: Family = family(
    "beadle_polls_total",
    Kind::Counter,
    &["feed", "outcome"],
    "Polls: first, changed, unchanged, or the word for what failed.",
);
const POLL_DURATION: Family = family(
    "beadle_poll_duration_seconds",
    Kind::Histogram(&[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]),
    &["feed"],
    "How long polls took, from the request to the commit.",
);
const POLL_BYTES: Family = family(
    "beadle_poll_bytes_total",
    Kind::Counter,
    &["feed"],
    "Bytes of calendars read, decompressed.",
);
const FEED_EVENTS: Family = family(
    "beadle_feed_events",
    Kind::Gauge,
    &["feed"],
    "Events in the feed when it last changed.",
);
const UNREADABLE: Family = family(
    "beadle_feed_unreadable_events",
    Kind::Gauge,
    &["feed"],
    "Events in the feed, when it was last read, that could not be understood.",
);
const LAST_READ: Family = family(
    "beadle_feed_last_read_timestamp_seconds",
    Kind::Gauge,
    &["feed"],
    "When the feed could last be read, or said that nothing is new.",
);
const FAILURES: Family = family(
    "beadle_feed_failures",
    Kind::Gauge,
    &["feed"],
    "Polls in a row that failed, since this process was started.",
);
const CHANGES: Family =
    family("beadle_changes_total", Kind::Counter, &["feed", "kind"], "Changes of events, by kind.");
const WARNINGS: Family = family(
    "beadle_feed_warnings_total",
    Kind::Counter,
    &["feed"],
    "Things in the feed that could not be used as they stand.",
);
const PLANNED: Family = family(
    "beadle_messages_planned_total",
    Kind::Counter,
    &["cause"],
    "Messages put into the outbox: by a poll, or because their time had come.",
);
const LAG: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0,
]);
const CLAIM_LAG: Family = family(
    "beadle_claim_lag_seconds",
    LAG,
    &["backend"],
    "From when a message was due to when it was durably claimed for its first attempt.",
);
const SEND_LAG: Family = family(
    "beadle_send_lag_seconds",
    LAG,
    &["backend"],
    "From when a message was due to when it was accepted.",
);
const DELIVERIES: Family = family(
    "beadle_deliveries_total",
    Kind::Counter,
    &["backend", "outcome"],
    "Ends of claims: sent, put_off (tried again later), dead, superseded, expired.",
);
const RETRIES: Family = family(
    "beadle_delivery_retries_total",
    Kind::Counter,
    &["backend"],
    "Attempts that were not a message's first.",
);
const DOUBTS: Family = family(
    "beadle_deliveries_in_doubt_total",
    Kind::Counter,
    &["backend"],
    "Attempts of which it is not known whether the message arrived.",
);
const DROPPED: Family = family(
    "beadle_reminders_dropped_total",
    Kind::Counter,
    &[],
    "Reminders that were not told because their event had begun.",
);
const OUTBOX: Family =
    family("beadle_outbox_messages", Kind::Gauge, &["state"], "Messages in the outbox, by state.");
const PARKED: Family = family(
    "beadle_parked_endpoints",
    Kind::Gauge,
    &["receiver", "backend"],
    "Addresses of a receiver that take no messages until someone mends them.",
);
const OLDEST_DUE: Family = family(
    "beadle_outbox_overdue_seconds",
    Kind::Gauge,
    &[],
    "For how long the oldest message that waits has been due; 0 where it is not due yet.",
);
const LOOP_AGE: Family = family(
    "beadle_loop_age_seconds",
    Kind::Gauge,
    &["loop"],
    "Since when a loop has made no progress; it should at least once a minute.",
);

/// How claims end, as [`DELIVERIES`] says it.
const OUTCOMES: [&str; 5] = ["sent", "put_off", "dead", "superseded", "expired"];

/// What is counted while beadle runs. Each method is one thing that happened.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Numbers>);

impl Metrics {
    /// Begins every counter at zero, so that its first step is seen as one.
    pub fn begin<'a>(
        &self,
        started: Timestamp,
        feeds: impl IntoIterator<Item = &'a str>,
        backends: impl IntoIterator<Item = &'a str>,
    ) {
        let mut numbers = self.lock();
        numbers.set(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        numbers.set(&STARTED, &[], seconds(started));
        for feed in feeds {
            for family in [&POLL_BYTES, &WARNINGS, &FAILURES] {
                numbers.add(family, &[feed], 0.0);
            }
        }
        for backend in backends {
            numbers.add(&RETRIES, &[backend], 0.0);
            numbers.add(&DOUBTS, &[backend], 0.0);
            for outcome in OUTCOMES {
                numbers.add(&DELIVERIES, &[backend, outcome], 0.0);
            }
        }
        for cause in ["poll", "time"] {
            numbers.add(&PLANNED, &[cause], 0.0);
        }
        numbers.add(&DROPPED, &[], 0.0);
    }

    /// A poll has come to its end.
    pub fn polled(&self, feed: &str, polled: &Polled, took: Duration, at: Timestamp) {
        let mut numbers = self.lock();
        numbers.observe(&POLL_DURATION, &[feed], took.as_secs_f64());
        let outcome = match &polled.result {
            Ok(News { baseline: true, .. }) => "first",
            Ok(news) if news.changes.is_empty() => "unchanged",
            Ok(_) => "changed",
            Err(error) => error.kind().word(),
        };
        numbers.add(&POLLS, &[feed, outcome], 1.0);
        let Ok(news) = &polled.result else {
            numbers.add(&FAILURES, &[feed], 1.0);
            return;
        };
        numbers.set(&FAILURES, &[feed], 0.0);
        numbers.set(&LAST_READ, &[feed], seconds(at));
        if let Some(events) = news.events {
            numbers.set(&FEED_EVENTS, &[feed], events as f64);
        }
        if let Some(unreadable) = news.unreadable {
            numbers.set(&UNREADABLE, &[feed], unreadable as f64);
        }
        numbers.add(&WARNINGS, &[feed], news.warnings.len() as f64);
        numbers.add(&PLANNED, &["poll"], news.planned as f64);
        for change in &news.changes {
            numbers.add(&CHANGES, &[feed, change_word(change.kind)], 1.0);
        }
    }

    /// Whether a feed has been read, but nothing says yet how many events it has: after a start,
    /// while nothing is new.
    pub fn wants_events(&self, feed: &str) -> bool {
        let numbers = self.lock();
        let knows = |family: &Family| {
            let series = numbers.0.get(family.name);
            series.is_some_and(|series| series.contains_key([feed.to_owned()].as_slice()))
        };
        knows(&LAST_READ) && !knows(&FEED_EVENTS)
    }

    /// How many events the feed has.
    pub fn events(&self, feed: &str, count: u64) {
        self.lock().set(&FEED_EVENTS, &[feed], count as f64);
    }

    /// A piece of a feed has come.
    pub fn read(&self, feed: &str, bytes: usize) {
        self.lock().add(&POLL_BYTES, &[feed], bytes as f64);
    }

    /// Reminders and digests have fallen due; others were too late.
    pub fn fell_due(&self, planned: u64, dropped: usize) {
        let mut numbers = self.lock();
        numbers.add(&PLANNED, &["time"], planned as f64);
        numbers.add(&DROPPED, &[], dropped as f64);
    }

    /// A message is leased for its attempt of that number (the first is 1).
    pub fn claimed(&self, backend: &str, attempt: u32, lag: SignedDuration) {
        match attempt {
            0 | 1 => self.lock().observe(&CLAIM_LAG, &[backend], lag.as_secs_f64().max(0.0)),
            _ => self.lock().add(&RETRIES, &[backend], 1.0),
        }
    }

    /// An attempt has ended, be it with the process, and nobody knows whether the message arrived.
    pub fn in_doubt(&self, backend: &str) {
        self.lock().add(&DOUBTS, &[backend], 1.0);
    }

    /// A claim has ended, so long after the message was due.
    pub fn settled(&self, backend: &str, end: &Settlement, lag: SignedDuration) {
        let outcome = match end {
            Settlement::Sent { .. } => "sent",
            Settlement::PutOff { .. } => "put_off",
            Settlement::Dead { .. } => "dead",
            Settlement::Superseded => "superseded",
            Settlement::Expired => "expired",
        };
        let mut numbers = self.lock();
        numbers.add(&DELIVERIES, &[backend, outcome], 1.0);
        if outcome == "sent" {
            numbers.observe(&SEND_LAG, &[backend], lag.as_secs_f64().max(0.0));
        }
    }

    /// All numbers as they are now.
    pub fn numbers(&self) -> Numbers {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series and their values; as text, a page for Prometheus.
#[derive(Clone, Debug, Default)]
pub struct Numbers(BTreeMap<&'static str, BTreeMap<Vec<String>, Value>>);

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Histogram {
        /// As many as the family has bounds; none counted in another.
        buckets: Vec<u64>,
        count: u64,
        sum: f64,
    },
}

impl Numbers {
    /// How the outbox stands: messages by state, and since when the oldest one has been due.
    pub fn outbox(&mut self, counts: &BTreeMap<DeliveryState, u64>, overdue: SignedDuration) {
        for state in DeliveryState::ALL {
            let count = counts.get(&state).copied().unwrap_or(0);
            self.set(&OUTBOX, &[state.as_str()], count as f64);
        }
        self.set(&OLDEST_DUE, &[], overdue.as_secs_f64().max(0.0));
    }

    /// Which endpoints are parked; `name` gives receiver and backend of one.
    pub fn parked<'a>(
        &mut self,
        parked: &'a [Parked],
        name: impl Fn(&'a Parked) -> Option<(&'a str, &'a str)>,
    ) {
        for (receiver, backend) in parked.iter().filter_map(name) {
            self.add(&PARKED, &[receiver, backend], 1.0);
        }
    }

    /// Size of the database.
    pub fn state_size(&mut self, bytes: u64) {
        self.set(&STATE_SIZE, &[], bytes as f64);
    }

    /// Since when a loop has made no progress.
    pub fn loop_age(&mut self, name: &str, age: Duration) {
        self.set(&LOOP_AGE, &[name], age.as_secs_f64());
    }

    fn series(&mut self, family: &Family, labels: &[&str]) -> &mut Value {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let series = self.0.entry(family.name).or_default();
        series.entry(labels).or_insert_with(|| match family.kind {
            Kind::Histogram(bounds) => {
                Value::Histogram { buckets: vec![0; bounds.len()], count: 0, sum: 0.0 }
            }
            _ => Value::Number(0.0),
        })
    }

    fn add(&mut self, family: &Family, labels: &[&str], more: f64) {
        if let Value::Number(number) = self.series(family, labels) {
            *number += more;
        }
    }

    fn set(&mut self, family: &Family, labels: &[&str], to: f64) {
        *self.series(family, labels) = Value::Number(to);
    }

    fn observe(&mut self, family: &Family, labels: &[&str], value: f64) {
        let Kind::Histogram(bounds) = family.kind else { return };
        if let Value::Histogram { buckets, count, sum } = self.series(family, labels) {
            if let Some(bucket) = buckets.get_mut(bounds.partition_point(|bound| *bound < value)) {
                *bucket += 1;
            }
            *count += 1;
            *sum += value;
        }
    }
}

impl Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in &FAMILIES {
            let Some(series) = self.0.get(family.name) else { continue };
            let Family { name, help, .. } = family;
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            for (values, value) in series {
                let labels = labels(family.labels, values);
                match value {
                    Value::Number(number) => {
                        let labels = braced(&labels);
                        writeln!(f, "{name}{labels} {number}")?;
                    }
                    Value::Histogram { buckets, count, sum } => {
                        let Kind::Histogram(bounds) = family.kind else { continue };
                        let comma = if labels.is_empty() { "" } else { "," };
                        let mut sofar = 0;
                        for (bound, bucket) in bounds.iter().zip(buckets) {
                            sofar += bucket;
                            writeln!(f, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sofar}")?;
                        }
                        writeln!(f, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
                        let labels = braced(&labels);
                        writeln!(f, "{name}_sum{labels} {sum}\n{name}_count{labels} {count}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

/// `name="value",…`; names of feeds and receivers are the operator's and may hold anything.
fn labels(names: &[&str], values: &[String]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"");
        for char in value.chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                char => text.push(char),
            }
        }
        text.push('"');
    }
    text
}

/// The word for a kind of change, the same in every version: for metrics and logs.
pub fn change_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::New => "new",
        ChangeKind::Updated => "updated",
        ChangeKind::Rescheduled => "rescheduled",
        ChangeKind::Cancelled => "cancelled",
        ChangeKind::Postponed => "postponed",
        ChangeKind::Reinstated => "reinstated",
        ChangeKind::Missing => "missing",
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_stay_inside_their_label() {
        let mut numbers = Numbers::default();
        numbers.add(&POLL_BYTES, &["a\"b\\c\nd} 1"], 2.0);
        insta::assert_snapshot!(numbers, @r#"
        # HELP beadle_poll_bytes_total Bytes of calendars read, decompressed.
        # TYPE beadle_poll_bytes_total counter
        beadle_poll_bytes_total{feed="a\"b\\c\nd} 1"} 2
        "#);
    }

    #[test]
    fn buckets_count_everything_up_to_their_bound() {
        let mut numbers = Numbers::default();
        for lag in [0.0, 0.01, 0.010_001, 30.0, 1e9] {
            numbers.observe(&POLL_DURATION, &["site"], lag);
        }
        insta::assert_snapshot!(numbers, @r#"
        # HELP beadle_poll_duration_seconds How long polls took, from the request to the commit.
        # TYPE beadle_poll_duration_seconds histogram
        beadle_poll_duration_seconds_bucket{feed="site",le="0.01"} 2
        beadle_poll_duration_seconds_bucket{feed="site",le="0.03"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="0.1"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="0.3"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="1"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="3"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="10"} 3
        beadle_poll_duration_seconds_bucket{feed="site",le="30"} 4
        beadle_poll_duration_seconds_bucket{feed="site",le="100"} 4
        beadle_poll_duration_seconds_bucket{feed="site",le="+Inf"} 5
        beadle_poll_duration_seconds_sum{feed="site"} 1000000030.020001
        beadle_poll_duration_seconds_count{feed="site"} 5
        "#);
    }

    #[test]
    fn every_family_has_a_name_of_its_own_and_is_written() {
        let mut numbers = Numbers::default();
        for family in &FAMILIES {
            let labels = vec!["x"; family.labels.len()];
            match family.kind {
                Kind::Histogram(_) => numbers.observe(family, &labels, 1.0),
                _ => numbers.add(family, &labels, 1.0),
            }
        }
        assert_eq!(numbers.0.len(), FAMILIES.len());
        let page = numbers.to_string();
        for Family { name, kind, .. } in &FAMILIES {
            assert!(page.contains(&format!("\n{name}")), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Kind::Counter), "{name}");
        }
    }
}

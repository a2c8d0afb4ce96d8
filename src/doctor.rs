//! `beadle doctor`: what could keep beadle from telling people, looked at before it does.

use std::fmt::{self, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;

use crate::app;
use crate::config::{Config, Feed, FeedUrl};
use crate::fetch::{Fetcher, transport_error};
use crate::operator;
use crate::store::{Access, DeliveryState, Store, StoreError};

/// A clock this far off sends reminders noticeably early or late.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// Zones change several times a year, often at short notice.
const ZONES_OLD: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Bytes free on the disk below which writing may soon fail.
const DISK_LOW: u64 = 100 << 20;

/// How an examination ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Note,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        })
    }
}

/// The report, and whether nothing in it fails.
#[derive(Debug, Default)]
struct Report {
    text: String,
    failed: bool,
}

impl Report {
    fn line(&mut self, verdict: Verdict, what: impl fmt::Display) {
        self.failed |= verdict == Verdict::Fail;
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{verdict:<5} {what}");
    }
}

/// Examines the state, the disk, the clock and the zone data. Reads only; the receivers and what
/// the feeds hold are `beadle check`'s.
pub async fn doctor(config: &Config, fetcher: &Fetcher) -> anyhow::Result<(String, bool)> {
    let mut report = Report::default();
    state(&mut report, config).await?;
    disk(&mut report, &config.state);
    zones(&mut report, app::now());
    for feed in config.feeds.values() {
        reach(&mut report, fetcher, feed).await;
    }
    Ok((report.text, !report.failed))
}

async fn state(report: &mut Report, config: &Config) -> anyhow::Result<()> {
    let folder = config.state.display();
    let store = match Store::open(&config.state, Access::Shared).await {
        Ok(store) => store,
        Err(error) => {
            let hint = error.hint().map(|hint| format!("\n      hint: {hint}")).unwrap_or_default();
            let verdict = match error {
                StoreError::Absent(_) => Verdict::Note,
                _ => Verdict::Fail,
            };
            report.line(verdict, format_args!("state: {error}{hint}"));
            return Ok(());
        }
    };
    let now = app::now();
    let running = Store::in_use(&config.state);
    let found = store.soundness(&config.state, now).await?;
    for damage in &found.damage {
        report.line(Verdict::Fail, format_args!("state {folder}: {damage}"));
    }
    if !found.damage.is_empty() {
        report.text.push_str("      hint: the database is damaged: `beadle restore` a backup\n");
        return Ok(());
    }
    let used = if running { "in use by a running beadle" } else { "not in use" };
    let size = bytes(found.size);
    report.line(Verdict::Ok, format_args!("state {folder}: sound, {size}, {used}"));

    let counts = store.counts().await?;
    let count = |state| counts.get(&state).copied().unwrap_or(0);
    match count(DeliveryState::Dead) {
        0 => {}
        dead => report.line(
            Verdict::Note,
            format_args!("outbox: {} given up: `beadle outbox list` says why", messages(dead)),
        ),
    }
    match (found.stuck, running) {
        (0, _) => report.line(Verdict::Ok, "outbox: nothing is overdue"),
        (stuck, true) => report.line(
            Verdict::Fail,
            format_args!(
                "outbox: {} overdue by more than an hour although beadle is running: see its log",
                messages(stuck)
            ),
        ),
        (stuck, false) => report.line(
            Verdict::Note,
            format_args!("outbox: {} overdue, since beadle is not running", messages(stuck)),
        ),
    }
    if found.leased > 0 && !running {
        report.line(
            Verdict::Note,
            format_args!(
                "outbox: {} being sent when beadle stopped; looked at on the next start",
                messages(found.leased)
            ),
        );
    }
    for parked in store.parked().await? {
        let (to, reason) = (&parked.endpoint, &parked.reason);
        let what = match to.as_str() {
            operator::COMMANDS => "slash commands are not registered".to_owned(),
            to => format!("receiver {to} takes no messages"),
        };
        report.line(Verdict::Fail, format_args!("{what}: {reason}"));
    }
    for name in config.feeds.keys() {
        let feed = store.feed(name).await?;
        if let Some(since) = feed.failing_since {
            let error = feed.last_error.as_deref().unwrap_or("unknown error");
            let since = since.to_zoned_datetime(config.timezone.clone());
            let since = since.strftime("%Y-%m-%d %H:%M %Z");
            report
                .line(Verdict::Fail, format_args!("feed {name}: not read since {since}: {error}"));
        }
    }
    Ok(())
}

fn messages(count: u64) -> String {
    if count == 1 { "1 message is".to_owned() } else { format!("{count} messages are") }
}

#[cfg(unix)]
fn disk(report: &mut Report, folder: &Path) {
    // The folder may not be there yet; its parent is on the same disk.
    let place = folder.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(place) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let verdict = if free < DISK_LOW { Verdict::Fail } else { Verdict::Ok };
            report.line(verdict, format_args!("disk: {} free", bytes(free)));
        }
        Err(error) => report.line(
            Verdict::Note,
            format_args!("disk: how much is free on {} is unknown: {error}", place.display()),
        ),
    }
}

#[cfg(not(unix))]
fn disk(_: &mut Report, _: &Path) {}

fn zones(report: &mut Report, now: Timestamp) {
    let version = app::zones_version();
    // The year alone: a release is at most so old.
    let made: Option<i16> = version.get(..4).and_then(|year| year.parse().ok());
    let newest = made
        .and_then(|year| jiff::civil::Date::new(year, 12, 31).ok())
        .and_then(|date| date.in_tz("UTC").ok())
        .map(|at| at.timestamp());
    match newest {
        Some(newest) if now.duration_since(newest) > ZONES_OLD => report.line(
            Verdict::Note,
            format_args!(
                "time zones: {version} is old: update the system's tzdata, or beadle; times in \
                 places that changed their rules are wrong"
            ),
        ),
        _ => report.line(Verdict::Ok, format_args!("time zones: {version}")),
    }
}

/// Asks for the head of a feed: whether its server answers, and what time it is there.
async fn reach(report: &mut Report, fetcher: &Fetcher, feed: &Feed) {
    let name = &feed.name;
    let url = match &feed.url {
        FeedUrl::Http(url) => url,
        FeedUrl::File(path) => {
            match std::fs::metadata(path) {
                Ok(_) => report.line(Verdict::Ok, format_args!("feed {name}: the file is there")),
                Err(error) => report
                    .line(Verdict::Fail, format_args!("feed {name}: {}: {error}", path.display())),
            }
            return;
        }
    };
    let host = url.host_str().unwrap_or_default();
    let before = app::now();
    let answer = match fetcher.ask(feed, Method::HEAD, url) {
        Ok(request) => {
            let asked = request.timeout(feed.timeout).send().await;
            asked.map_err(|error| transport_error(&error))
        }
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            report.line(
                Verdict::Fail,
                format_args!("feed {name}: {host} cannot be reached: {error}"),
            );
            return;
        }
    };
    let after = app::now();
    // Any answer shows that the server is there; what it says of the feed is for a poll.
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let there = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|at| at.timestamp());
    match there.map(|there| skew(there, before, after)) {
        Some(skew) if skew.abs() > SKEW => report.line(
            Verdict::Fail,
            format_args!(
                "clock: {} s {} that of {host}: set it by NTP; reminders come at the wrong time",
                skew.abs().as_secs(),
                if skew.is_positive() { "ahead of" } else { "behind" },
            ),
        ),
        Some(_) => report
            .line(Verdict::Ok, format_args!("feed {name}: {host} answers, and its clock agrees")),
        None => report.line(Verdict::Ok, format_args!("feed {name}: {host} answers")),
    }
}

/// How far our clock is ahead of a server's that said `there`, in whole seconds, some time between
/// our `before` and `after`.
fn skew(there: Timestamp, before: Timestamp, after: Timestamp) -> SignedDuration {
    let latest = there.saturating_add(SignedDuration::from_secs(1)).unwrap_or(there);
    if before > latest {
        before.duration_since(latest)
    } else if after < there {
        after.duration_since(there)
    } else {
        SignedDuration::ZERO
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let (mut whole, mut unit) = (count / 1000, 0);
    while whole >= 10_000 && unit + 1 < UNITS.len() {
        (whole, unit) = (whole / 1000, unit + 1);
    }
    format!("{whole} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        for (count, said) in
            [(0, "0 kB"), (45_056, "45 kB"), (12_345_678, "12 MB"), (64 << 30, "68 GB")]
        {
            assert_eq!(bytes(count), said);
        }
    }

    #[test]
    fn a_clock_is_off_only_where_the_answer_cannot_say_otherwise() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let table = [
            // The server says when within a second, and the answer takes its time.
            ((100, 100, 100), 0),
            ((100, 101, 101), 0),
            ((100, 95, 107), 0),
            ((100, 111, 112), 10),
            ((100, 80, 90), -10),
        ];
        for ((there, before, after), expected) in table {
            let skew = skew(at(there), at(before), at(after));
            assert_eq!(skew, SignedDuration::from_secs(expected), "{there} {before} {after}");
        }
    }

    #[test]
    fn old_zone_data_is_noted() {
        let mut report = Report::default();
        zones(&mut report, "2099-01-01T00:00:00Z".parse().unwrap());
        assert!(report.text.contains(" is old: update"), "{}", report.text);
        assert!(!report.failed, "and no more than that");
    }
}

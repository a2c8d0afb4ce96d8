//! `beadle doctor`: what could keep beadle from telling people, looked at before it does.

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use tokio::net::TcpStream;
use url::Url;

use crate::config::{Alive, Config, Feed, FeedUrl};
use crate::fetch::{FetchErrorKind, Fetcher, Validators};
use crate::notify::Registry;
use crate::operator;
use crate::store::{Access, DeliveryState, Store, StoreError};
use crate::{app, commands};

/// A clock this far off sends reminders noticeably early or late.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// How long a server may take to answer the call.
const CONNECT: Duration = Duration::from_secs(10);
/// Zones change several times a year, often at short notice.
const ZONES_OLD: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Times noted down may be ahead by as much as clocks are corrected.
const FUTURE: SignedDuration = SignedDuration::from_mins(5);
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

/// Examines the state, the disk, the clock, the zone data, and whether feeds and receivers can be
/// reached. Changes and sends nothing; what the feeds hold is `beadle check`'s.
pub async fn doctor(
    config: &Config,
    fetcher: &Fetcher,
    registry: &Registry,
) -> anyhow::Result<(String, bool)> {
    let mut report = Report::default();
    state(&mut report, config).await?;
    writable(&mut report, &config.state);
    disk(&mut report, &config.state);
    zones(&mut report, app::now());
    for feed in config.feeds.values() {
        reach(&mut report, fetcher, feed).await;
    }
    for (what, end) in commands::receivers(config, registry).await {
        match end {
            Ok(described) => report.line(Verdict::Ok, format_args!("{what}: {described}")),
            Err(error) => report.line(Verdict::Fail, format_args!("{what}: {error}")),
        }
    }
    if let Some(config) = &config.alive {
        alive(&mut report, config).await;
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
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            report.line(verdict, format_args!("state: {error}{cause}{hint}"));
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
        report.text.push_str(
            "      hint: the database is damaged: restore a backup, or move it away and start anew\n",
        );
        return Ok(());
    }
    for row in store.senseless().await? {
        report.line(Verdict::Note, format_args!("{row}: is read anew, or given up, by a run"));
    }
    if let Some(newest) = found.newest.filter(|newest| newest.duration_since(now) > FUTURE) {
        report.line(
            Verdict::Fail,
            format_args!(
                "clock: it is {:.0}, but the state was written at {newest:.0}: the clock is behind, \
                 or was ahead then",
                now
            ),
        );
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

/// Whether a beadle that polls could write here: a database that can only be read is not enough.
#[cfg(unix)]
fn writable(report: &mut Report, folder: &Path) {
    use rustix::fs::{Access, access};
    use std::os::unix::fs::MetadataExt;
    let Ok(owner) = std::fs::metadata(folder).map(|data| data.uid()) else { return };
    let names = ["", "beadle.lock", "beadle.db", "beadle.db-wal", "beadle.db-shm"];
    for file in names.map(|name| folder.join(name)) {
        let Ok(data) = std::fs::metadata(&file) else { continue };
        let place = file.display();
        if let Err(error) = access(&file, Access::READ_OK | Access::WRITE_OK) {
            report.line(
                Verdict::Fail,
                format_args!("state: {place} cannot be written by this user: {error}"),
            );
        } else if data.uid() != owner {
            report.line(
                Verdict::Fail,
                format_args!(
                    "state: {place} belongs to another user than its folder: chown {owner} {place}"
                ),
            );
        }
    }
}

#[cfg(not(unix))]
fn writable(_: &mut Report, _: &Path) {}

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

/// Whether a feed can be had: each of its addresses answers with the beginning of a calendar. And
/// what time it is where it comes from.
async fn reach(report: &mut Report, fetcher: &Fetcher, feed: &Feed) {
    let name = &feed.name;
    for part in feed.parts() {
        let place = match &part.url {
            FeedUrl::Http(url) => url.host_str().unwrap_or_default().to_owned(),
            FeedUrl::File(path) => path.display().to_string(),
        };
        match fetcher.fetch(&part, &Validators::default()).await {
            Ok(_) => report.line(Verdict::Ok, format_args!("feed {name}: {place} has a calendar")),
            Err(error) if *error.kind() == FetchErrorKind::Empty => {
                report.line(Verdict::Note, format_args!("feed {name}: {place}: {error}"));
            }
            Err(error) => {
                let hint = error.hint().map(|hint| format!("\n      hint: {hint}"));
                let hint = hint.unwrap_or_default();
                report.line(Verdict::Fail, format_args!("feed {name}: {place}: {error}{hint}"));
            }
        }
    }
    if let FeedUrl::Http(url) = &feed.url {
        clock(report, fetcher, feed, url).await;
    }
}

/// Compares our clock with that of a feed's server; any answer of it will do, and none says nothing.
async fn clock(report: &mut Report, fetcher: &Fetcher, feed: &Feed, url: &Url) {
    let before = app::now();
    let Ok(request) = fetcher.ask(feed, Method::HEAD, url) else { return };
    let Ok(answer) = request.timeout(feed.timeout).send().await else { return };
    let after = app::now();
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(there) = time_there(header("date"), header("age")) else { return };
    let host = url.host_str().unwrap_or_default();
    let skew = skew(there, before, after);
    if skew.abs() > SKEW {
        let direction = if skew.is_positive() { "ahead of" } else { "behind" };
        report.line(
            Verdict::Fail,
            format_args!(
                "clock: {} s {direction} that of {host}: set it by NTP; reminders come at the \
                 wrong time",
                skew.abs().as_secs(),
            ),
        );
    } else {
        report.line(Verdict::Ok, format_args!("clock: agrees with that of {host}"));
    }
}

/// What an answer says of the time at which it was sent: an answer out of a cache was made at
/// `Date`, and has lain there for `Age` seconds (RFC 9111, section 5.1).
fn time_there(date: Option<&str>, age: Option<&str>) -> Option<Timestamp> {
    let made = jiff::fmt::rfc2822::parse(date?).ok()?.timestamp();
    let age: u32 = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    made.saturating_add(SignedDuration::from_secs(age.into())).ok()
}

/// Whether the server that is told that beadle is alive can be reached. It is told nothing now.
async fn alive(report: &mut Report, alive: &Alive) {
    let url = match alive.url.read() {
        Ok(url) => url,
        Err(error) => return report.line(Verdict::Fail, format_args!("alive: {error}")),
    };
    // The address is a secret, its host is not.
    let Ok(url) = Url::parse(url.expose()) else {
        return report.line(Verdict::Fail, "alive: its `url` is no address");
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect((bare, port))).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(_) => report.line(Verdict::Ok, format_args!("alive: {host} can be reached")),
        Err(error) => {
            report.line(Verdict::Fail, format_args!("alive: {host} cannot be reached: {error}"))
        }
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
    fn an_answer_out_of_a_cache_is_as_old_as_it_says() {
        let date = Some("Thu, 05 Mar 2026 14:00:00 GMT");
        let table = [
            (date, None, Some("2026-03-05T14:00:00Z")),
            (date, Some("3000"), Some("2026-03-05T14:50:00Z")),
            (date, Some("soon"), Some("2026-03-05T14:00:00Z")),
            (Some("noon"), Some("0"), None),
            (None, Some("3000"), None),
        ];
        for (date, age, expected) in table {
            let expected: Option<Timestamp> = expected.map(|at| at.parse().unwrap());
            assert_eq!(time_there(date, age), expected, "{date:?} {age:?}");
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

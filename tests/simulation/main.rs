//! A year in seconds: the real pipeline and the real store under a pretended clock, with everything
//! that goes wrong in a year, watched by an oracle that knows the promises and nothing else.
//!
//! Some weeks of autumn, spring and summer are lived through in every run of the tests, and every
//! kind of mishap in [`MISHAPS`] must have come in them. Two kinds cannot come here, since they need
//! a process of their own or an end of the story, and are in tests/faults.rs: a disk that is full
//! (here its consequence: the database refuses a write), and a damaged database (refused at the
//! start, and nothing follows). What a feed's server answers otherwise than with a body is an error
//! for the pipeline, here that of a file that is not there; all of them are in tests/fetch.rs.
//!
//! What is told twice is judged exactly. A bot tells nothing twice: its channel remembers a nonce for
//! some minutes, and can be read back. A webhook or a mail server may be told once more for each
//! message that it took without beadle being able to know.
//!
//! Whole years:
//!
//! ```sh
//! BEADLE_YEARS=100 cargo test --test simulation -- --nocapture    # seeds 0 to 99
//! BEADLE_SEED=17 cargo test --test simulation                     # that one, step by step the same
//! BEADLE_SEED=17 BEADLE_DAYS=40 cargo test --test simulation      # only its first days
//! ```

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_debug_implementations)]

mod ledger;
mod model;
mod oracle;
#[path = "../support/mod.rs"]
mod support;
mod tape;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use beadle::app;
use beadle::config::Config;
use beadle::fetch::Fetcher;
use beadle::notify::discord::Http;
use beadle::notify::{self, Registry};
use beadle::pipeline::{Delivered, Pipeline};
use beadle::store::{self, Access, Delivery, DeliveryState, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, Connection, Executor, Row};

use ledger::Ledger;
use model::{Editor, Rng, Truth, wall};
use oracle::{Ended, Memory, Moment, Oracle, Verdict};
use support::world::write_feed;
use tape::{Crash, Score, Tape, Trouble};

/// Clocks go back three weeks later; a 29 February, and clocks go forward; and summer.
const BEGIN: [&str; 3] = ["2027-10-15T12:00:00Z", "2028-02-08T12:00:00Z", "2028-07-01T12:00:00Z"];
const ENDPOINTS: [&str; 4] =
    ["bot/discord", "hook/discord", "list/email/ann@example.edu", "list/email/bob@example.edu"];

const CONFIG: &str = r#"
timezone = "America/New_York"

[feed.a]
url = "a.ics"
every = "EVERY"

[feed.b]
url = "b.ics"
every = "EVERY"

[[watch]]
name = "all"
feeds = ["a", "b"]
remind = ["1d", "1h", "15m", "0m"]
remind_all_day = ["1d at 18:00"]
to = ["bot", "hook", "list"]

[[digest]]
name = "weekly"
every = "Mon 08:00"
ahead = "7d"
watch = ["all"]
send_empty = true
to = ["list"]

[receiver.bot]
discord = { channel = "7" }
[receiver.hook]
discord = { webhook = { file = "hook" } }
[receiver.list]
email = { to = ["ann@example.edu", "bob@example.edu"] }

[discord]
token = { file = "token" }
[email]
from = "Beadle <beadle@example.edu>"
server = "smtp://localhost?tls=none"
"#;

/// What must have happened in the weeks of every run, each at least once.
const MISHAPS: [&str; 44] = [
    "29 February",
    "Discord: 400",
    "Discord: 429",
    "Discord: 5xx",
    "Discord: answer lost",
    "Discord: closed",
    "Discord: not reached",
    "Discord: slow",
    "a backup is restored",
    "a backup is restored by hand",
    "a second beadle",
    "clock ahead",
    "clock behind",
    "clock far off",
    "clocks go back",
    "clocks go forward",
    "database locked for a moment",
    "database locked for long",
    "database refuses",
    "edit",
    "edit at the last minute",
    "feed: an error page",
    "feed: an older version",
    "feed: another format",
    "feed: cut",
    "feed: cut before the first event",
    "feed: emptied",
    "feed: not text",
    "feed: not there",
    "feed: nothing",
    "killed after a message was taken",
    "killed before a message was taken",
    "long pause",
    "mail: 421",
    "mail: 4xx",
    "mail: 5xx",
    "mail: cut after the dot",
    "mail: cut before it is kept",
    "mail: login refused",
    "mail: slow",
    "read back, and not there",
    "read back, and there",
    "restart",
    "suspend",
];

/// What a feed's file holds.
enum Served {
    Whole(Truth),
    /// Cut: these talks can be read.
    Part(Truth, Vec<u32>),
    /// A calendar in which nothing is left.
    Emptied,
    Nonsense,
}

struct Feed {
    name: &'static str,
    truth: Truth,
    served: Served,
    /// Ids of all that ever stood in it.
    ever: BTreeSet<u32>,
    sick: bool,
    /// What was told of it is forgotten: the next reading is the first.
    begins: bool,
    /// What it said before the last edit.
    earlier: Truth,
    /// Since when it is not; that is seen only at the next poll, and what stays away for a day is
    /// taken to be gone.
    well: Timestamp,
    /// By the clock.
    next_poll: Timestamp,
}

#[derive(Clone, Debug)]
enum Happening {
    Edit,
    SecondThought,
    /// Of a talk that its audience is to be reminded of in a minute; the feed is read at once.
    LastMinute,
    LastMinuteOf(u32),
    FeedFallsSick,
    FeedHeals(usize),
    EndpointFails,
    EndpointHeals(String),
    Poison,
    CrashWhileSending,
    Stop,
    Suspend,
    DatabaseFails,
    DatabaseLocked,
    SecondBeadle,
    ClockJumps,
    ClockIsRight,
    ClockIsFarOff,
    Backup,
    Restore(PathBuf, Box<Memory>, BTreeSet<String>),
    Tidy,
}

/// Each comes again after so long, on average.
const HAPPENINGS: [(Happening, i64); 15] = [
    (Happening::Edit, 9),
    (Happening::LastMinute, 48),
    (Happening::FeedFallsSick, 70),
    (Happening::EndpointFails, 50),
    (Happening::Poison, 900),
    (Happening::CrashWhileSending, 200),
    (Happening::Stop, 90),
    (Happening::Suspend, 400),
    (Happening::DatabaseFails, 200),
    (Happening::DatabaseLocked, 600),
    (Happening::SecondBeadle, 1000),
    (Happening::ClockJumps, 500),
    (Happening::ClockIsFarOff, 3000),
    (Happening::Backup, 1200),
    (Happening::Tidy, 24),
];

struct Year {
    seed: u64,
    rng: Rng,
    folder: PathBuf,
    state: PathBuf,
    registry: Registry,
    config: Config,
    tape: Arc<Mutex<Tape>>,
    pipeline: Option<Pipeline>,
    /// The database has refused something that it will not refuse again.
    stumbled: bool,
    /// What it has given up before it could say so is in the outbox.
    overlooked: bool,
    editor: Editor,
    feeds: [Feed; 2],
    oracle: Oracle,
    /// What the time is, and by how much the clock is wrong.
    time: Timestamp,
    skew: SignedDuration,
    plan: BTreeMap<(Timestamp, u64), Happening>,
    planned: u64,
    /// How often the database was, and a feed.
    locked: u64,
    sick: u64,
    poisoned: u64,
    troubled: usize,
    given_up: BTreeSet<String>,
    ledger: Ledger,
    trace: VecDeque<String>,
    told: usize,
    mishaps: BTreeMap<&'static str, usize>,
}

impl Year {
    async fn begin(seed: u64, folder: &Path) -> Year {
        let mut rng = Rng::new(seed);
        let time = begin(seed);
        std::fs::write(folder.join("token"), "token").unwrap();
        std::fs::write(folder.join("hook"), "https://discord.com/api/webhooks/1/x").unwrap();
        let text = CONFIG.replace("EVERY", rng.pick(&["1h", "2h", "4h"]));
        let config = Config::parse(&text, &folder.join("config.toml")).unwrap();
        let tape = Arc::new(Mutex::new(Tape::new(time, Rng::new(rng.next()))));
        let http = Http::new(Duration::from_secs(1)).unwrap();
        let endpoints = ENDPOINTS.map(str::to_owned);
        let registry = notify::build(&config, &http).unwrap();
        let registry = tape::record(&registry, &endpoints, &tape);

        let mut editor = Editor::new();
        let mut feeds = ["a", "b"].map(|name| Feed {
            name,
            truth: Truth::new(),
            served: Served::Nonsense,
            ever: BTreeSet::new(),
            sick: false,
            begins: false,
            earlier: Truth::new(),
            well: time,
            next_poll: time,
        });
        for (index, feed) in feeds.iter_mut().enumerate() {
            let long_term = Editor::long_term(index);
            feed.truth.insert(long_term.id, long_term);
            for _ in 0..10 {
                let talk = editor.new_talk(time, &mut rng);
                feed.truth.insert(talk.id, talk);
            }
        }
        let all: Truth = feeds.iter().flat_map(|feed| feed.truth.clone()).collect();
        let oracle = Oracle::new(&all, time, endpoints.to_vec(), endpoints[2..].to_vec());
        let mut year = Year {
            seed,
            rng,
            folder: folder.to_owned(),
            state: folder.join("state"),
            registry,
            config,
            tape,
            pipeline: None,
            stumbled: false,
            overlooked: false,
            editor,
            feeds,
            oracle,
            time,
            skew: SignedDuration::ZERO,
            plan: BTreeMap::new(),
            planned: 0,
            locked: seed,
            sick: 3 * seed,
            poisoned: seed,
            troubled: seed as usize * 5,
            given_up: BTreeSet::new(),
            ledger: Ledger::default(),
            trace: VecDeque::new(),
            told: 0,
            mishaps: BTreeMap::new(),
        };
        for index in 0..2 {
            year.write(index);
        }
        for (happening, hours) in HAPPENINGS {
            // None is rare in its first weeks.
            let after = year.rng.wait(SignedDuration::from_hours(hours.min(10 * 24)));
            year.schedule(happening, after);
        }
        year.start().await;
        year
    }

    fn clock(&self) -> Timestamp {
        self.time + self.skew
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap()
    }

    fn count(&mut self, what: &'static str) {
        *self.mishaps.entry(what).or_default() += 1;
    }

    fn note(&mut self, text: impl AsRef<str>) {
        let line = format!("{} {}", self.clock(), text.as_ref());
        if std::env::var_os("BEADLE_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.trace.push_back(line);
        if self.trace.len() > 120 {
            self.trace.pop_front();
        }
    }

    fn hold(&self, verdict: Verdict) {
        if let Err(broken) = verdict {
            let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
            panic!("{}\nBEADLE_SEED={} at {}: {broken}", trace.join("\n"), self.seed, self.clock());
        }
    }

    fn schedule(&mut self, happening: Happening, after: SignedDuration) {
        self.planned += 1;
        self.plan.insert((self.time + after, self.planned), happening);
    }

    /// The next of its kind.
    fn again(&mut self, happening: &Happening) {
        let kind = std::mem::discriminant(happening);
        let found = HAPPENINGS.iter().find(|(other, _)| std::mem::discriminant(other) == kind);
        if let Some((happening, hours)) = found {
            let after = self.rng.wait(SignedDuration::from_hours(*hours));
            self.schedule(happening.clone(), after);
        }
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{}.ics", self.feeds[index].name))
    }

    /// The feed as its publisher has it now.
    fn write(&mut self, index: usize) {
        let path = self.path(index);
        let feed = &mut self.feeds[index];
        feed.ever.extend(feed.truth.keys());
        if let Served::Whole(before) = &feed.served
            && *before != feed.truth
        {
            feed.earlier.clone_from(before);
        }
        feed.served = Served::Whole(feed.truth.clone());
        write_feed(&path, model::write(&feed.truth, &mut self.rng).0.as_bytes());
    }

    fn fall_sick(&mut self, index: usize) {
        const PAGES: [(&str, &str); 5] = [
            ("feed: nothing", ""),
            ("feed: an error page", "<!doctype html><title>503</title>"),
            ("feed: another format", "{\"error\":1}"),
            ("feed: not text", "\0\0"),
            ("feed: cut before the first event", "BEGIN:VCA"),
        ];
        let path = self.path(index);
        let (text, ends) = model::write(&self.feeds[index].truth, &mut self.rng);
        let count = self.rng.below(ends.len() as u64) as usize;
        let earlier = self.feeds[index].earlier.clone();
        let (stale, _) = model::write(&earlier, &mut self.rng);
        // One kind after the other.
        self.sick += 1;
        let kind = self.sick as usize % (PAGES.len() + 4);
        let feed = &mut self.feeds[index];
        feed.sick = true;
        let (what, served) = match kind {
            kind if kind < PAGES.len() => {
                let (name, page) = PAGES[kind];
                write_feed(&path, page.as_bytes());
                (name, Served::Nonsense)
            }
            5 => {
                let _ = std::fs::remove_file(&path);
                ("feed: not there", Served::Nonsense)
            }
            6 => {
                write_feed(&path, model::empty().as_bytes());
                ("feed: emptied", Served::Emptied)
            }
            // From a cache that lags behind, which nobody can tell from an edit.
            7 if !earlier.is_empty() => {
                write_feed(&path, stale.as_bytes());
                ("feed: an older version", Served::Whole(earlier))
            }
            _ => {
                // In the middle of the talk after these.
                let end = count.checked_sub(1).map_or(0, |last| ends[last].1);
                let end = end + if count == 0 { 60 } else { 20 };
                let ids: Vec<u32> = ends[..count].iter().map(|(id, _)| *id).collect();
                feed.ever.extend(&ids);
                write_feed(&path, &text.as_bytes()[..end]);
                ("feed: cut", Served::Part(feed.truth.clone(), ids))
            }
        };
        feed.served = served;
        self.count(what);
    }

    // ---- beadle, as `app::run` lives -----------------------------------------------------------

    async fn start(&mut self) {
        let clock = self.clock();
        let store = Store::open(&self.state, Access::Exclusive).await.unwrap();
        let fetcher = Fetcher::new().unwrap();
        let endpoints = ENDPOINTS.map(str::to_owned);
        let registry = endpoints.iter().map(|id| self.registry.get(id).unwrap().clone()).collect();
        let mut config = self.config.clone();
        config.state.clone_from(&self.state);
        let pipeline = Pipeline::new(config, app::zones(), store, fetcher, registry);
        pipeline.store.recover(clock).await.unwrap();
        for feed in &mut self.feeds {
            let state = pipeline.store.feed(feed.name).await.unwrap();
            let at = state.next_poll_at.filter(|_| state.failures > 0);
            feed.next_poll = at.unwrap_or(Timestamp::MIN);
        }
        self.pipeline = Some(pipeline);
        self.oracle.restarted();
        self.count("restart");
        self.note("started");
        // Polls and rounds begin side by side.
        if self.rng.chance(50) {
            self.round(false).await;
        } else {
            self.round(true).await;
        }
    }

    fn die(&mut self, why: &str) {
        self.overlooked = true;
        self.pipeline = None;
        // No process is there again in the very millisecond, by which attempts are told apart.
        self.time += SignedDuration::from_millis(1);
        self.tape().lose_track();
        self.note(format!("dies: {why}"));
    }

    /// Everything that is to be done at this time.
    async fn round(&mut self, polls_first: bool) {
        if std::mem::take(&mut self.stumbled)
            && let Some(pipeline) = &self.pipeline
        {
            pipeline.resume(self.clock()).await.unwrap();
            self.oracle.restarted();
        }
        let done = match polls_first {
            true => self.polls().await.and(self.deliver().await),
            false => match self.deliver().await {
                Ok(()) => match self.polls().await {
                    Ok(()) => self.deliver().await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            },
        };
        let Err(error) = done else { return };
        if error.passes() {
            self.put_off(&error).await;
        } else if self.pipeline.is_some() {
            self.die(&format!("{error:?}"));
        }
    }

    /// Goes on without a restart, as `app::run` does.
    async fn put_off(&mut self, error: &StoreError) {
        self.note(format!("goes on after: {error:?}"));
        self.tape().lose_track();
        (self.stumbled, self.overlooked) = (true, true);
        if let Some(pipeline) = &self.pipeline {
            pipeline.store.distrust();
        }
    }

    async fn polls(&mut self) -> Result<(), StoreError> {
        let clock = self.clock();
        for index in 0..2 {
            if self.feeds[index].next_poll > clock {
                continue;
            }
            let Some(pipeline) = &self.pipeline else { return Ok(()) };
            let feed = &pipeline.config.feeds[self.feeds[index].name];
            let polled = pipeline.poll(feed, clock).await;
            let at = Moment { clock, time: self.time };
            if polled.is_err() {
                let Feed { served, ever, .. } = &self.feeds[index];
                match served {
                    Served::Whole(truth) => self.oracle.perhaps_read(truth, ever, at),
                    Served::Part(truth, ids) => {
                        self.oracle.perhaps_read(truth, &ids.iter().copied().collect(), at);
                    }
                    Served::Emptied => self.oracle.perhaps_read(&Truth::new(), ever, at),
                    Served::Nonsense => {}
                }
            }
            let polled = polled?;
            self.feeds[index].next_poll = polled.next_poll_at;
            let feed = &self.feeds[index];
            let mut said = String::new();
            match (&feed.served, &polled.result) {
                (Served::Whole(truth), Ok(news)) => {
                    match feed.begins {
                        true => self.oracle.begin(truth, &feed.ever, at),
                        false => self.oracle.read(truth, &feed.ever, at),
                    }
                    for change in &news.changes {
                        said.push_str(&format!(" {:?} {}", change.kind, change.after.summary));
                    }
                }
                (Served::Part(truth, ids), Ok(_)) => self.oracle.read_part(truth, ids, at),
                (Served::Whole(_), Err(error)) => {
                    panic!("seed {}: a good feed: {error}", self.seed);
                }
                (Served::Nonsense | Served::Emptied, Ok(news)) => {
                    if let Some(change) = news.changes.first() {
                        self.hold(Err(format!("a sick feed tells: {change:?}")));
                    }
                    if matches!(feed.served, Served::Emptied) {
                        self.oracle.read_nothing(&feed.ever, at);
                    }
                }
                (_, Err(_)) => {}
            }
            let name = feed.name;
            let read = polled.result.is_ok();
            self.feeds[index].begins &= !read;
            self.note(format!("read {name} {read}:{said}"));
        }
        Ok(())
    }

    async fn deliver(&mut self) -> Result<(), StoreError> {
        let clock = self.clock();
        let time = self.time;
        self.tape().set_clock(clock, time);
        let Some(pipeline) = self.pipeline.take() else { return Ok(()) };
        let begun = tokio::time::Instant::now();
        let done = self.deliver_by(&pipeline, clock).await;
        self.time += begun.elapsed();
        self.ledger.live(clock, self.clock());
        self.pipeline = Some(pipeline);
        let accepted = std::mem::take(&mut self.tape().accepted);
        for one in accepted {
            self.told += 1;
            let items: Vec<String> = one
                .notification
                .items
                .iter()
                .map(|item| {
                    format!("{} {} {}", item.reason.as_str(), item.event.summary, item.start)
                })
                .collect();
            let kind = match &one.notification.kind {
                beadle::plan::Kind::Changes => String::new(),
                other => format!("{other:?}"),
            };
            self.note(format!("{} hears {kind} {items:?}", one.endpoint));
            let verdict = self.oracle.heard(&one);
            self.hold(verdict);
        }
        let broken = std::mem::take(&mut self.tape().broken);
        self.hold(broken.into_iter().next().map_or(Ok(()), Err));
        if self.tape().crashed {
            self.tape().crashed = false;
            self.die("killed while sending");
            return Ok(());
        }
        let done = done?;
        self.tape().keep_track();
        let watched = !std::mem::take(&mut self.overlooked);
        self.look_at_rows(!watched || done.skipped + done.dead > 0, watched).await?;
        self.audit(false).await;
        let pipeline = self.pipeline.as_ref().unwrap();
        let counts = pipeline.store.counts().await?;
        let pending = pipeline.store.deliveries(Some(DeliveryState::Pending), u32::MAX).await?;
        let is_ahead = |row: &Delivery| row.planned_at < row.due_at && row.due_at > clock;
        self.oracle.forget_stale();
        if pending.iter().all(is_ahead) && !counts.contains_key(&DeliveryState::Leased) {
            self.hold(self.oracle.check_all_told(clock));
        }
        Ok(())
    }

    async fn deliver_by(
        &mut self,
        pipeline: &Pipeline,
        clock: Timestamp,
    ) -> Result<Delivered, StoreError> {
        pipeline.tick(clock).await?;
        self.oracle.tick(clock);
        while pipeline.write_ahead(clock).await? {}
        let mut total = Delivered::default();
        let begun = tokio::time::Instant::now();
        let time = self.time;
        loop {
            // Answers take time.
            let (clock, time) = (clock + begun.elapsed(), time + begun.elapsed());
            let (queues, sorted_out) = pipeline.claim(clock).await?;
            total += sorted_out;
            if queues.is_empty() && sorted_out == Delivered::default() {
                return Ok(total);
            }
            for queue in queues {
                // As if all were sent at once.
                self.tape().set_clock(clock, time);
                let tape = Arc::clone(&self.tape);
                let killed = std::future::poll_fn(|_| match tape.lock().unwrap().crashed {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                });
                tokio::select! {
                    biased;
                    sent = pipeline.send(queue, clock) => total += sent?,
                    () = killed => return Ok(total),
                }
                self.tape().keep_track();
            }
        }
    }

    /// What will not be told is written down, with a reason that holds.
    async fn look_at_rows(&mut self, given_up: bool, watched: bool) -> Result<(), StoreError> {
        let Some(pipeline) = self.pipeline.as_ref().filter(|_| given_up) else { return Ok(()) };
        let mut rows = Vec::new();
        for state in [DeliveryState::Dead, DeliveryState::Expired, DeliveryState::Superseded] {
            rows.extend(pipeline.store.deliveries(Some(state), u32::MAX).await?);
        }
        for row in rows {
            if !self.given_up.insert(row.id.clone()) {
                continue;
            }
            let (end, endpoint) = (row.state, &row.endpoint);
            self.note(format!("{endpoint} is {end}: {:?}", row.notification));
            let refused = self.tape().refused.contains(&row.id);
            let failures = self.tape().failures.get(&row.id).copied().unwrap_or(0);
            let verdict = self.oracle.given_up(&Ended {
                endpoint,
                notification: &row.notification,
                end,
                at: row.settled_at.unwrap(),
                refused,
                failures,
                claims: row.attempts,
                watched,
            });
            self.hold(verdict);
        }
        Ok(())
    }

    /// Every state comes legally from the one before.
    async fn audit(&mut self, all: bool) {
        let since = if all { Timestamp::MIN } else { self.ledger.settled_since() };
        let all = since == Timestamp::MIN;
        let rows = self.rows(since).await;
        let (clock, ahead) = (self.clock(), self.tape().now > self.clock());
        let tape = self.tape.lock().unwrap();
        let verdict = self.ledger.look(rows, all, &tape.receipts, ahead, clock);
        let notification = |id: &String| tape.notifications[id].clone();
        let mistaken: Vec<_> = std::mem::take(&mut self.ledger.mistaken)
            .iter()
            .map(|(id, other)| (other, notification(id), notification(other)))
            .map(|(other, of, by)| (tape.endpoint(other), of, by))
            .collect();
        drop(tape);
        self.hold(verdict);
        for (endpoint, of, by) in mistaken {
            let verdict = self.oracle.mistaken(&endpoint, &of, &by);
            self.hold(verdict);
        }
    }

    // ---- what happens --------------------------------------------------------------------------

    async fn happen(&mut self, happening: Happening) {
        self.again(&happening);
        self.note(format!("{happening:?}").chars().take(80).collect::<String>());
        let minutes = |rng: &mut Rng, from, to| SignedDuration::from_mins(rng.between(from, to));
        match happening {
            Happening::Edit | Happening::SecondThought => {
                let index = self.rng.below(2) as usize;
                let now = self.time;
                let truth = &mut self.feeds[index].truth;
                let said = self.editor.edit(index, truth, now, &mut self.rng);
                self.note(said);
                self.count("edit");
                if !self.feeds[index].sick {
                    self.write(index);
                }
                if self.rng.chance(30) {
                    let after = minutes(&mut self.rng, 1, 90);
                    self.schedule(Happening::SecondThought, after);
                }
            }
            Happening::LastMinute => {
                if let Some((id, due)) = self.oracle.next_reminder(self.clock()) {
                    // Beadle writes it down two minutes ahead.
                    let after = due - self.clock() - SignedDuration::from_secs(80);
                    self.schedule(Happening::LastMinuteOf(id), after.max(SignedDuration::ZERO));
                }
            }
            Happening::LastMinuteOf(id) => {
                let of = |feed: &Feed| !feed.sick && feed.truth.contains_key(&id);
                let Some(index) = self.feeds.iter().position(of) else { return };
                if self.pipeline.is_none() {
                    return;
                }
                if let Err(error) = self.deliver().await {
                    return self.die(&error.to_string());
                }
                let (now, truth) = (self.time, &mut self.feeds[index].truth);
                let said = self.editor.edit_talk(index, truth, id, now, &mut self.rng);
                self.note(said);
                self.count("edit at the last minute");
                self.write(index);
                self.feeds[index].next_poll = Timestamp::MIN;
                self.round(true).await;
            }
            Happening::FeedFallsSick => {
                let index = self.rng.below(2) as usize;
                let feed = &self.feeds[index];
                if !feed.sick && self.time - feed.well > SignedDuration::from_hours(12) {
                    self.fall_sick(index);
                    let after = minutes(&mut self.rng, 10, 20 * 60);
                    self.schedule(Happening::FeedHeals(index), after);
                }
            }
            Happening::FeedHeals(index) => {
                self.feeds[index].sick = false;
                self.feeds[index].well = self.time;
                self.write(index);
            }
            Happening::EndpointFails => {
                // One kind after the other, in Discord and by mail in turn.
                const KINDS: [Trouble; 6] = [
                    Trouble::Flaky,
                    Trouble::Closed,
                    Trouble::Down,
                    Trouble::Limited,
                    Trouble::Flaky,
                    Trouble::Slow,
                ];
                self.troubled += 1;
                let trouble = KINDS[self.troubled / 2 % KINDS.len()];
                let mail = self.troubled.is_multiple_of(2);
                let (discord, list) = ENDPOINTS.split_at(2);
                let endpoint = self.rng.pick(if mail { list } else { discord }).to_owned();
                self.tape().trouble.insert(endpoint.clone(), trouble);
                let after = minutes(&mut self.rng, 1, 18 * 60);
                self.schedule(Happening::EndpointHeals(endpoint), after);
            }
            Happening::EndpointHeals(endpoint) => {
                self.tape().trouble.remove(&endpoint);
            }
            Happening::Poison => {
                self.poisoned += 1;
                let mail = self.poisoned.is_multiple_of(2);
                self.tape().poison = Some(if mail { "mail" } else { "bot" });
            }
            Happening::CrashWhileSending => {
                let crash = self.rng.pick(&[Crash::BeforeItIsTaken, Crash::AfterItWasTaken]);
                self.tape().crash = Some(crash);
            }
            Happening::Stop => {
                self.die("stopped");
                let long = self.rng.chance(20);
                let mean = if long { 24 * 60 } else { 5 };
                if long {
                    self.count("long pause");
                }
                self.time += self.rng.wait(SignedDuration::from_mins(mean));
            }
            Happening::Suspend => {
                self.count("suspend");
                self.time += minutes(&mut self.rng, 5, 3 * 24 * 60);
            }
            Happening::DatabaseFails | Happening::DatabaseLocked if self.pipeline.is_none() => {}
            Happening::DatabaseFails => {
                let tables = ["outbox", "outbox", "event", "feed", "meta"];
                let table = self.rng.pick(&tables);
                let what = self.rng.pick(&["INSERT", "UPDATE"]);
                let sql = format!(
                    "CREATE TRIGGER fault BEFORE {what} ON {table} \
                     BEGIN SELECT RAISE(ABORT, 'fault'); END"
                );
                self.outside(&sql).await;
                self.note(sql);
                self.feeds.iter_mut().for_each(|feed| feed.next_poll = Timestamp::MIN);
                let first = self.rng.chance(50);
                self.round(first).await;
                self.outside("DROP TRIGGER fault").await;
                self.count("database refuses");
            }
            Happening::DatabaseLocked => {
                // As long as beadle waits costs as long in earnest: so this is rare.
                let long = self.locked.is_multiple_of(8);
                self.locked += 1;
                let lock = self.lock_database(long);
                self.feeds.iter_mut().for_each(|feed| feed.next_poll = Timestamp::MIN);
                let first = self.rng.chance(50);
                self.round(first).await;
                lock.join().unwrap();
                self.count(match long {
                    true => "database locked for long",
                    false => "database locked for a moment",
                });
            }
            Happening::SecondBeadle => {
                if self.pipeline.is_some() {
                    let second = Store::open(&self.state, Access::Exclusive).await;
                    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
                    self.count("a second beadle");
                }
            }
            Happening::ClockJumps => {
                let hours = self.rng.pick(&[-2, -2, 2, 2, -1, 7]);
                self.count(if hours > 0 { "clock ahead" } else { "clock behind" });
                self.skew += SignedDuration::from_hours(hours);
                self.oracle.clock_jumped();
                let after = minutes(&mut self.rng, 1, 20 * 60);
                self.schedule(Happening::ClockIsRight, after);
            }
            Happening::ClockIsRight => {
                self.skew = SignedDuration::ZERO;
                self.oracle.clock_jumped();
            }
            Happening::ClockIsFarOff => {
                if self.pipeline.is_some() {
                    let before = self.skew;
                    self.skew += SignedDuration::from_hours(24 * 400);
                    self.note("for a moment");
                    self.count("clock far off");
                    if let Err(error) = self.deliver().await {
                        self.die(&error.to_string());
                    }
                    self.skew = before;
                    self.oracle.clock_jumped();
                }
            }
            Happening::Backup => {
                let path = self.folder.join(format!("backup-{}.db", self.planned));
                self.outside(&format!("VACUUM INTO '{}'", path.display())).await;
                let memory = Box::new(self.oracle.remember());
                let after = minutes(&mut self.rng, 10, 7 * 24 * 60);
                let doubtful = self.tape().doubtful();
                self.schedule(Happening::Restore(path, memory, doubtful), after);
            }
            Happening::Restore(path, memory, doubtful) => {
                self.die("restored");
                let well = self.skew.is_zero() && self.feeds.iter().all(|feed| !feed.sick);
                let times = |what| self.mishaps.get(what).copied().unwrap_or(0);
                let turn = times("a backup is restored") <= times("a backup is restored by hand");
                if well && turn == self.seed.is_multiple_of(2) {
                    store::restore(&self.state, &path, self.clock()).await.unwrap();
                    self.oracle.restored_quietly(self.clock());
                    self.feeds.iter_mut().for_each(|feed| feed.begins = true);
                    self.count("a backup is restored");
                } else {
                    self.state = self.folder.join(format!("state-{}", self.planned));
                    std::fs::create_dir(&self.state).unwrap();
                    std::fs::rename(path, self.state.join("beadle.db")).unwrap();
                    self.oracle.restored(*memory);
                    // Another may have been restored just before.
                    self.feeds.iter_mut().for_each(|feed| feed.begins = false);
                    self.count("a backup is restored by hand");
                }
                self.tape().forget(&doubtful);
                self.given_up.clear();
                self.ledger = Ledger::default();
            }
            Happening::Tidy => {
                if let Some(pipeline) = &self.pipeline {
                    pipeline.store.tidy(self.time + self.skew).await.unwrap();
                    self.oracle.prune(self.time);
                    self.audit(true).await;
                }
            }
        }
    }

    /// Another program writes to the database, and goes on when it has held it for a moment, or for
    /// longer than beadle waits.
    fn lock_database(&self, long: bool) -> std::thread::JoinHandle<()> {
        let url = format!("sqlite://{}", self.state.join("beadle.db").display());
        let (locked, until) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut connection = AnyConnection::connect(&url).await.unwrap();
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
                locked.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(if long { 11_000 } else { 50 }));
                connection.execute("ROLLBACK").await.unwrap();
                connection.close().await.unwrap();
            });
        });
        until.recv().unwrap();
        thread
    }

    /// What waits in the outbox, and what was settled since then.
    async fn rows(&self, since: Timestamp) -> Vec<ledger::Row> {
        let url = format!("sqlite://{}", self.state.join("beadle.db").display());
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let sql = "SELECT id, endpoint, state, attempts, planned_at, due_at, attempt_at, settled_at, \
                   remote_id FROM outbox WHERE settled_at IS NULL OR settled_at >= $1";
        let rows = sqlx::query(sql).bind(since.as_millisecond());
        let rows = rows.fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let instant = |at: i64| Timestamp::from_millisecond(at).unwrap();
        let read = |row: &sqlx::any::AnyRow| {
            let state: String = row.get("state");
            ledger::Row {
                id: row.get("id"),
                endpoint: row.get("endpoint"),
                state: DeliveryState::ALL.into_iter().find(|one| one.as_str() == state).unwrap(),
                attempts: row.get("attempts"),
                planned_at: instant(row.get("planned_at")),
                due_at: instant(row.get("due_at")),
                attempt_at: instant(row.get("attempt_at")),
                settled_at: row.get::<Option<i64>, _>("settled_at").map(instant),
                remote_id: row.get("remote_id"),
            }
        };
        rows.iter().map(read).collect()
    }

    async fn outside(&self, sql: &str) {
        let url = format!("sqlite://{}", self.state.join("beadle.db").display());
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Sleeps as the program would, and does what is to be done then.
    async fn step(&mut self) {
        if self.pipeline.is_none() {
            // The world does not wait for the program.
            while let Some(entry) = self.plan.first_entry()
                && entry.key().0 <= self.time
            {
                let happening = entry.remove();
                self.happen(happening).await;
            }
            self.start().await;
            return;
        }
        let clock = self.clock();
        let pipeline = self.pipeline.as_ref().unwrap();
        let due = pipeline.next_due(clock).await.unwrap();
        if due > self.oracle.next_due(clock) {
            let next = self.oracle.next_due(clock);
            self.hold(Err(format!("would sleep until {due}, past {next}")));
        }
        let polls = self.feeds.iter().map(|feed| feed.next_poll);
        let wake = polls.chain([due]).min().unwrap().max(clock) - self.skew;
        let wake = wake.max(self.time + SignedDuration::from_millis(1));
        let before = self.time;
        match self.plan.first_key_value() {
            Some(((at, _), _)) if *at < wake => {
                let ((at, _), happening) = self.plan.pop_first().unwrap();
                self.time = at.max(self.time);
                self.happen(happening).await;
            }
            _ => {
                self.time = wake;
                // Whichever loop wakes first.
                let polls_first = self.rng.chance(50);
                self.round(polls_first).await;
            }
        }
        if wall(self.time).date() == jiff::civil::date(2028, 2, 29) {
            self.count("29 February");
        }
        match model::offset(self.time).cmp(&model::offset(before)) {
            std::cmp::Ordering::Less => self.count("clocks go back"),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.count("clocks go forward"),
        }
    }

    /// Everything is well for some days, and then everything has been told.
    async fn end(mut self) -> Lived {
        self.plan.clear();
        self.skew = SignedDuration::ZERO;
        self.oracle.clock_jumped();
        self.tape().trouble.clear();
        (self.tape().crash, self.tape().poison) = (None, None);
        for index in 0..2 {
            self.write(index);
        }
        let end = self.time + SignedDuration::from_hours(4 * 24);
        while self.time < end {
            self.step().await;
        }
        self.audit(true).await;
        let counts = self.pipeline.as_ref().unwrap().store.counts().await.unwrap();
        assert!(!counts.contains_key(&DeliveryState::Pending), "seed {}: {counts:?}", self.seed);
        self.hold(self.oracle.check_all_told(self.clock()));
        let mut tape = self.tape.lock().unwrap();
        let mut mishaps = self.mishaps;
        mishaps.append(&mut tape.mishaps);
        Lived { told: self.told, scores: std::mem::take(&mut tape.scores), mishaps }
    }
}

/// What there is to say of a year.
struct Lived {
    told: usize,
    scores: BTreeMap<&'static str, Score>,
    mishaps: BTreeMap<&'static str, usize>,
}

#[tokio::test(start_paused = true)]
async fn a_year_of_mishaps_loses_nothing_and_repeats_nothing() {
    beadle::tls::install();
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let days: Option<u64> = variable("BEADLE_DAYS");
    let (seeds, days) = match (variable("BEADLE_SEED"), variable("BEADLE_YEARS")) {
        (Some(seed), _) => (seed..seed + 1, days.unwrap_or(366)),
        (None, Some(years)) => (0..years, days.unwrap_or(366)),
        (None, None) => (0..3, days.unwrap_or(40)),
    };
    let mut mishaps: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds.clone() {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let started = std::time::Instant::now();
        let mut year = Year::begin(seed, folder.path()).await;
        let end = begin(seed) + SignedDuration::from_hours(24 * days as i64);
        while year.time < end {
            year.step().await;
        }
        let lived = year.end().await;
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        eprintln!(
            "seed {seed}: {days} days, {:.0} a minute; {} messages, {} starts",
            days as f64 / minutes,
            lived.told,
            lived.mishaps["restart"]
        );
        for (medium, Score { attempts, unknown, doubles }) in &lived.scores {
            eprintln!(
                "  {medium}: {attempts} attempts, {unknown} with unknown outcome, {doubles} doubled"
            );
            let limit = if *medium == "bot" { 0 } else { *unknown };
            assert!(doubles <= &limit, "seed {seed}: {medium}");
        }
        for (what, times) in lived.mishaps {
            *mishaps.entry(what).or_default() += times;
        }
    }
    for (what, times) in &mishaps {
        eprintln!("  {what}: {times}");
    }
    let missing: Vec<&&str> = MISHAPS.iter().filter(|what| !mishaps.contains_key(*what)).collect();
    // One year need not have them all.
    assert!(seeds.end - seeds.start < 3 || missing.is_empty(), "never came: {missing:?}");
}

fn begin(seed: u64) -> Timestamp {
    BEGIN[(seed % 3) as usize].parse().unwrap()
}

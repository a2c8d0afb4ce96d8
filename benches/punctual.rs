//! How late reminders are: from the time they are due to the commit that says so of those in the
//! outbox, after which they are claimed and sent. They were written there before.
//! `cargo bench --bench punctual -- [reminders [seconds [rounds]]]`.
//!
//! What runs is [`beadle::app::run`], with all its loops and a database file that is written through
//! to the disk, while a Discord that answers at once is sent what is due. In each round a bare queue
//! of tokio, on the same due times, says what the machine can do at that moment; only the ratios
//! mean anything. There are three sorts of due times:
//!
//! - spread: at random, to the millisecond. As calendars know only seconds, it is the leads that
//!   are shorter by some milliseconds;
//! - seconds: at random, to the second: they come in herds, one a second;
//! - herd: all at one instant.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use beadle::app;
use beadle::calendar::diff::{Known, Presence, Told};
use beadle::calendar::{Event, EventKey, Uid, When};
use beadle::config::Config;
use beadle::plan::Lead;
use beadle::store::{Access, FeedState, PollCommit, Store};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

/// Channels that the reminders go to.
const CHANNELS: usize = 20;
/// From the start of a run to the first reminder.
const AHEAD: SignedDuration = SignedDuration::from_secs(3);
const LEAD: SignedDuration = SignedDuration::from_hours(1);

/// When reminders are due.
#[derive(Clone, Copy)]
enum Sort {
    Spread,
    Seconds,
    Herd,
}

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<usize>().ok());
    let (count, seconds, rounds) =
        (number(0).unwrap_or(10_000), number(1).unwrap_or(10), number(2).unwrap_or(3));
    tracing::subscriber::set_global_default(Watcher).unwrap();
    println!(
        "{count} reminders over {seconds} s, {CHANNELS} channels, {rounds} rounds; ms late: \
         p50 / p99 / last\n"
    );
    println!(
        "| due | load | flush to disk | bare queue | beadle | p50 | p99 | last | us a row | commits |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut early = 0;
    let sorts = [("spread", Sort::Spread), ("seconds", Sort::Seconds), ("herd", Sort::Herd)];
    let mut found: [Vec<[f64; 6]>; 3] = Default::default();
    for round in 0..rounds {
        for ((name, sort), found) in sorts.iter().zip(&mut found) {
            let disk = flushes();
            let plan = Plan::new(*sort, count, seconds, round as u64);
            let due = plan.due();
            let bare = Lateness::of(match sort {
                Sort::Herd => bare_tasks(due.len()),
                _ => bare_queue(&due),
            });
            let run = beadle(&plan, &due);
            early += run.late.iter().filter(|late| **late < 0.0).count();
            let late = Lateness::of(run.late);
            let [p50, p99, last] =
                [late.p50 / bare.p50, late.p99 / bare.p99, late.last / bare.last];
            // Of the herd, where nothing else is waited for.
            let a_row = late.last * 1000.0 / due.len() as f64;
            let a_row_text = match sort {
                Sort::Herd => format!("{a_row:.1}"),
                _ => String::new(),
            };
            println!(
                "| {name} | {} | {disk} | {bare} | {late} | {p50:.2} x | {p99:.2} x | {last:.2} x | \
                 {a_row_text} | {} |",
                load(),
                run.commits
            );
            found.push([late.p50, late.p99, late.last, p50, p99, last]);
        }
    }
    println!("\nmedians:");
    for ((name, _), found) in sorts.iter().zip(&found) {
        let [p50, p99, last, p50_x, p99_x, last_x] = std::array::from_fn(|at| {
            let mut all: Vec<f64> = found.iter().map(|one| one[at]).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        });
        println!(
            "{name}: p50 {p50:.2} ms ({p50_x:.2} x), p99 {p99:.2} ms ({p99_x:.2} x), \
             last {last:.2} ms ({last_x:.2} x)"
        );
    }
    println!("{early} early");
}

/// In milliseconds.
struct Lateness {
    p50: f64,
    p99: f64,
    last: f64,
}

impl Lateness {
    fn of(mut late: Vec<f64>) -> Lateness {
        late.sort_by(f64::total_cmp);
        let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)];
        Lateness { p50: at(50), p99: at(99), last: at(100) }
    }
}

impl std::fmt::Display for Lateness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.2} / {:.2}", self.p50, self.p99, self.last)
    }
}

fn ms(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What a commit waits for at least: one page more of a file, written through.
fn flushes() -> Lateness {
    let mut file = tempfile::tempfile().unwrap();
    let late = (0..500).map(|_| {
        let begun = Instant::now();
        file.write_all(&[0xA5; 4096 + 24]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1000.0
    });
    Lateness::of(late.collect())
}

/// What reminders there are.
struct Plan {
    /// The channel of each event, and at which second after the first its reminders are due.
    events: Vec<(usize, i64)>,
    /// By how many milliseconds each lead of a channel's reminders is shorter than [`LEAD`].
    leads: Vec<Vec<i64>>,
}

impl Plan {
    fn new(sort: Sort, count: usize, seconds: usize, seed: u64) -> Plan {
        let mut state = seed;
        let mut random = |below: usize| {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) % below as u64) as i64
        };
        let all_at_once = vec![vec![0]; CHANNELS];
        match sort {
            Sort::Spread => {
                let leads = (count / CHANNELS / seconds).clamp(1, 1000);
                let mut some = || {
                    let mut some = BTreeSet::new();
                    while some.len() < leads {
                        some.insert(random(1000));
                    }
                    some.into_iter().collect()
                };
                let all = (0..CHANNELS)
                    .flat_map(|channel| (0..seconds).map(move |second| (channel, second as i64)));
                Plan { events: all.collect(), leads: (0..CHANNELS).map(|_| some()).collect() }
            }
            Sort::Seconds => {
                let all = (0..count).map(|n| (n % CHANNELS, random(seconds)));
                Plan { events: all.collect(), leads: all_at_once }
            }
            Sort::Herd => {
                let all = (0..count).map(|n| (n % CHANNELS, 0));
                Plan { events: all.collect(), leads: all_at_once }
            }
        }
    }

    /// When each is due, after the first second; in order.
    fn due(&self) -> Vec<SignedDuration> {
        let of_event = |(channel, second): &(usize, i64)| {
            let second = *second;
            let leads = self.leads[*channel].iter();
            leads.map(move |ms| SignedDuration::from_millis(second * 1000 + ms))
        };
        let mut due: Vec<_> = self.events.iter().flat_map(of_event).collect();
        due.sort();
        due
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn first() -> Timestamp {
    whole(app::now() + AHEAD)
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// One queue in order and one sleep at a time, and nothing is done with what is due.
fn bare_queue(due: &[SignedDuration]) -> Vec<f64> {
    let first = first();
    runtime().block_on(async {
        let mut late = Vec::with_capacity(due.len());
        while let Some(next) = due.get(late.len()) {
            let wait = Duration::try_from((first + *next).duration_since(app::now()));
            tokio::time::sleep(wait.unwrap_or_default()).await;
            let now = app::now();
            while let Some(next) = due.get(late.len()).filter(|next| first + **next <= now) {
                late.push(ms(first + *next, now));
            }
        }
        late
    })
}

/// As many tasks as reminders, all for one instant.
fn bare_tasks(count: usize) -> Vec<f64> {
    let first = first();
    runtime().block_on(async {
        let wait = |_| {
            tokio::spawn(async move {
                let wait = Duration::try_from(first.duration_since(app::now()));
                tokio::time::sleep(wait.unwrap_or_default()).await;
                ms(first, app::now())
            })
        };
        let tasks: Vec<_> = (0..count).map(wait).collect();
        let mut late = Vec::new();
        for task in tasks {
            late.push(task.await.unwrap());
        }
        late
    })
}

/// How a run of beadle went.
struct Run {
    /// Each reminder, in milliseconds.
    late: Vec<f64>,
    /// How many of them it took to put all into the outbox.
    commits: usize,
}

fn beadle(plan: &Plan, due: &[SignedDuration]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &discord(), plan);
    runtime().block_on(async {
        let pipeline = app::open(config.clone()).await.unwrap();
        // Whether it takes long to make this does not matter, so the time is taken afterwards.
        let first = fill(&pipeline.store, plan).await;
        COMMITTED.lock().unwrap().clear();
        let last = first + *due.last().unwrap();
        tokio::select! {
            end = app::run(pipeline, || anyhow::bail!("nobody asks for another")) => end.unwrap(),
            () = all_committed(last) => {}
        }
        let committed = std::mem::take(&mut *COMMITTED.lock().unwrap());
        let late = due.iter().map(|due| {
            let due = first + *due;
            let commit = committed.iter().find(|(until, _)| *until >= due).unwrap();
            ms(due, commit.1)
        });
        let late: Vec<f64> = late.collect();
        let commits = committed.len();
        let store = Store::open(&config.state, Access::Shared).await.unwrap();
        let counts = store.counts().await.unwrap();
        assert_eq!(counts.values().sum::<u64>(), due.len() as u64, "{counts:?}");
        Run { late, commits }
    })
}

/// The address of a server that takes whatever it is sent.
fn discord() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // It ends when the client closes the connection.
            std::thread::spawn(move || serve(stream));
        }
    });
    format!("http://{address}")
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    static POSTS: AtomicU64 = AtomicU64::new(1_400_000_000_000_000_000);
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
        }
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        let body = json!({ "id": POSTS.fetch_add(1, Ordering::Relaxed).to_string() }).to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )?;
    }
}

async fn all_committed(last: Timestamp) {
    while COMMITTED.lock().unwrap().last().is_none_or(|(until, _)| *until < last) {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn configuration(folder: &Path, discord: &str, plan: &Plan) -> Config {
    let mut config = format!(
        "timezone = \"UTC\"\nstate = \"state\"\n[feed.site]\nurl = \"feed.ics\"\n\
         [discord]\ntoken = {{ file = \"token\" }}\napi_url = \"{discord}\"\n"
    );
    for n in 0..CHANNELS {
        config.push_str(&format!(
            "[[watch]]\nname = \"w{n}\"\nfeeds = [\"site\"]\ncategories = [\"c{n}\"]\n\
             remind = [\"1h\"]\nto = [\"r{n}\"]\n\
             [receiver.r{n}]\ndiscord = {{ channel = \"{}\" }}\n",
            n + 1
        ));
    }
    File::create(folder.join("token")).unwrap().write_all(b"a-token").unwrap();
    let mut config = Config::parse(&config, &folder.join("config.toml")).unwrap();
    let lead = |shorter: &i64| Lead {
        text: format!("1h less {shorter} ms"),
        span: Span::new().milliseconds(LEAD.as_millis() as i64 - shorter),
        at: None,
    };
    for (watch, leads) in config.watches.iter_mut().zip(&plan.leads) {
        watch.remind = leads.iter().map(lead).collect();
    }
    config
}

/// The events, in a feed that is not asked for now. Gives the first second.
async fn fill(store: &Store, plan: &Plan) -> Timestamp {
    let description = "A paragraph of about the length of an abstract. ".repeat(25);
    let begun = Instant::now();
    let write = async |first: Timestamp| {
        let now = app::now();
        let state = FeedState {
            address: "of the last poll".to_owned(),
            baseline_at: Some(now),
            next_poll_at: Some(now + SignedDuration::from_hours(1)),
            failures: 1,
            ..FeedState::default()
        };
        let known: Vec<_> = plan
            .events
            .iter()
            .enumerate()
            .map(|(n, (channel, second))| {
                let start = first + SignedDuration::from_secs(*second) + LEAD;
                let event = event(n, *channel, start, &description);
                let known = Known {
                    key: EventKey(event.uid.0.clone()),
                    fingerprint: n as u128,
                    told: Told::Listed(event.clone()),
                    seen: event,
                    presence: Presence::Listed,
                    since: None,
                    revision: 1,
                };
                (known, start, start + SignedDuration::from_hours(1))
            })
            .collect();
        let commit = PollCommit {
            feed: "site",
            restart: true,
            state: Some(&state),
            write: &known,
            now,
            ..PollCommit::default()
        };
        store.commit_poll(&commit).await.unwrap();
    };
    // Once to see how long it takes, and to make the agenda in time.
    write(first()).await;
    let patience = SignedDuration::try_from(begun.elapsed() * 3).unwrap() + AHEAD;
    let first = whole(first() + patience);
    write(first).await;
    first
}

fn event(n: usize, channel: usize, start: Timestamp, description: &str) -> Event {
    let utc = |at: Timestamp| When::Zoned {
        local: TimeZone::UTC.to_datetime(at),
        zone: "UTC".to_owned(),
    };
    let json = json!({
        "uid": format!("{n}@events.example"),
        "start": utc(start),
        "end": utc(start + SignedDuration::from_hours(1)),
        "summary": format!("Colloquium number {n}"),
        "description": description,
        "location": "Towne Building, Room 100",
        "url": format!("https://events.example/event/{n}"),
        "categories": [format!("c{channel}")],
    });
    let event: Event = serde_json::from_value(json).unwrap();
    assert_eq!(event.uid, Uid(format!("{n}@events.example")));
    event
}

/// Up to when everything that fell due is in the outbox, and when that was so.
static COMMITTED: Mutex<Vec<(Timestamp, Timestamp)>> = Mutex::new(Vec::new());

/// Reads the log line that says so, and no other.
struct Watcher;

#[derive(Default)]
struct Line {
    until: Option<Timestamp>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "until" {
            self.until = format!("{value:?}").parse().ok();
        }
    }
}

impl Subscriber for Watcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "beadle::pipeline::agenda"
            && metadata.fields().field("messages").is_some()
    }
    fn event(&self, event: &tracing::Event<'_>) {
        let now = app::now();
        let mut line = Line::default();
        event.record(&mut line);
        COMMITTED.lock().unwrap().push((line.until.unwrap(), now));
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

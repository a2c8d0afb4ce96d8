//! The built program, killed again and again, and what its audience saw of it.
//!
//! Every second kill comes at a chosen piece of a conversation with the feed's server, Discord or
//! the mail server: before each piece and after each, as far as the kills reach. The others come at
//! random. Each kill is followed
//! by a start. Every fourth time that start comes late: Discord has forgotten its nonces, and what
//! was under way is so old that beadle has to read the channel back.
//!
//! An outcome is unknown where a message was under way when beadle died: its row is still leased.
//! A webhook or a mail server may be told once more for each of those, a bot nothing. A webhook that
//! holds what may have arrived gets nothing twice: what it lacks is a dead message.
//!
//! ```sh
//! BEADLE_KILLS=1000 cargo test --test crash -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, Connection};
use support::discord::{DiscordStandIn, Request};
use support::feed::FeedStandIn;
use support::gate::{Gate, Moment, Victim};
use support::smtp::SmtpStandIn;
use support::world::calendar;

const KILLS: usize = 50;
/// So long nobody starts it again after a kill, where the downtime is a long one.
const LONG: SignedDuration = SignedDuration::from_hours(1);
/// Far longer than nothing happens here; for machines with other things to do.
const PATIENCE: Duration = Duration::from_secs(150);

struct Harness {
    folder: tempfile::TempDir,
    feed: FeedStandIn,
    discord: DiscordStandIn,
    smtp: SmtpStandIn,
    victim: Arc<Mutex<Victim>>,
    _gates: [Gate; 3],
    events: Vec<String>,
    /// Words that stand in one message each, to each receiver.
    owed: Vec<String>,
    /// Messages of which nobody could know at a kill whether they had arrived, by receiver.
    unknown: BTreeMap<&'static str, usize>,
    seed: u64,
}

/// The words in a text, each once: `news00017`, `lead00003`.
fn words(text: &str) -> BTreeSet<&str> {
    let starts = ["news", "lead"].map(|start| text.match_indices(start));
    let word = |(at, _): (usize, &str)| text.get(at..at + 9);
    let found = starts.into_iter().flatten().filter_map(word);
    found.filter(|word| word[4..].bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// What the tests call an endpoint.
fn receiver(endpoint: &str) -> &'static str {
    match endpoint.split('/').next() {
        Some("bot") => "bot",
        Some("hook") => "hook",
        Some("hold") => "hold",
        _ => "mail",
    }
}

/// An event whose title is one word, and whose reminder comes due at that time.
fn event(word: &str, reminded_at: Timestamp) -> String {
    let start = reminded_at + SignedDuration::from_hours(1);
    format!(
        "BEGIN:VEVENT\r\nUID:{word}\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:{}\r\nDURATION:PT1H\r\n\
         SUMMARY:{word}\r\nEND:VEVENT\r\n",
        start.strftime("%Y%m%dT%H%M%SZ")
    )
}

impl Harness {
    fn new(seed: u64) -> Harness {
        let (discord, smtp) = (DiscordStandIn::start(), SmtpStandIn::start());
        let feed = FeedStandIn::start(calendar(&[]));
        let victim = Arc::new(Mutex::new(Victim::default()));
        let host = |url: &str| url.split('/').nth(2).unwrap().to_owned();
        let gates =
            [host(&feed.url()), host(&discord.url()), format!("{}:{}", smtp.host(), smtp.port())]
                .map(|server| Gate::to(&server, &victim));
        let [feed_gate, discord_gate, smtp_gate] = gates.each_ref().map(Gate::address);
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            timezone = "America/New_York"
            [feed.site]
            url = "http://{feed_gate}/calendar.ics"
            private = true
            settle = "0s"
            [[watch]]
            name = "all"
            feeds = ["site"]
            remind = ["1h"]
            to = ["bot", "hook", "hold", "list"]
            [receiver.bot]
            discord = {{ channel = "7" }}
            [receiver.hook]
            discord = {{ webhook = {{ file = "hook" }} }}
            [receiver.hold]
            discord = {{ webhook = {{ file = "hold" }}, on_unknown = "hold" }}
            [receiver.list]
            email = {{ to = ["ann@example.edu"] }}
            [discord]
            token = {{ file = "token" }}
            api_url = "http://{discord_gate}"
            [email]
            from = "Beadle <beadle@example.edu>"
            server = "smtp://{smtp_gate}?tls=none"
            "#
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        std::fs::write(folder.path().join("token"), "a-token").unwrap();
        for (name, id) in [("hook", 8), ("hold", 9)] {
            let hook = format!("https://discord.com/api/webhooks/{id}/a-hook");
            std::fs::write(folder.path().join(name), hook).unwrap();
        }
        Harness {
            folder,
            feed,
            discord,
            smtp,
            victim,
            _gates: gates,
            events: Vec::new(),
            owed: Vec::new(),
            unknown: BTreeMap::new(),
            seed,
        }
    }

    /// Runs on what the dead beadle has left behind.
    fn database<T>(&self, run: impl AsyncFnOnce(&mut AnyConnection) -> T) -> T {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}", self.folder.path().join("state/beadle.db").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = AnyConnection::connect(&url).await.unwrap();
            let done = run(&mut connection).await;
            connection.close().await.unwrap();
            done
        })
    }

    /// The words of what is held, each as often as there are messages with it, and why they are.
    fn held(&self) -> (Vec<String>, BTreeSet<String>) {
        let sql = "SELECT notification, last_error FROM outbox \
                   WHERE state = 'dead' AND endpoint = 'hold/discord'";
        let rows: Vec<(String, String)> =
            self.database(async |db| sqlx::query_as(sql).fetch_all(db).await.unwrap());
        let words = rows.iter().flat_map(|(told, _)| words(told)).map(str::to_owned).collect();
        (words, rows.into_iter().map(|(_, reason)| reason).collect())
    }

    /// Notes what was under way at the kill. One message at a time is, to each receiver.
    fn look(&mut self) {
        let sql = "SELECT DISTINCT endpoint FROM outbox WHERE state = 'leased'";
        let leased: Vec<String> =
            self.database(async |db| sqlx::query_scalar(sql).fetch_all(db).await.unwrap());
        for endpoint in leased {
            *self.unknown.entry(receiver(&endpoint)).or_default() += 1;
        }
    }

    /// The time until the next start is a long one: Discord has forgotten nonces, and what was under
    /// way was so long ago.
    fn long_downtime(&self) {
        self.discord.forget_nonces();
        let sql = "UPDATE outbox SET doubt_since = doubt_since - $1";
        let ms = i64::try_from(LONG.as_millis()).unwrap();
        self.database(async |db| sqlx::query(sql).bind(ms).execute(db).await.unwrap());
    }

    /// SplitMix64.
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    fn publish(&mut self, word: &str, reminded_at: Timestamp) {
        self.events.push(event(word, reminded_at));
        self.feed.serve(calendar(&self.events));
        self.feed.etag(&format!("\"{}\"", self.events.len()));
    }

    /// Something new, which everyone must hear of.
    fn news(&mut self, now: Timestamp) {
        let word = format!("news{:05}", self.events.len());
        self.publish(&word, now + SignedDuration::from_hours(24 * 200));
        self.owed.push(word);
    }

    fn start(&self, moment: Option<Moment>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beadle"));
        command.current_dir(self.folder.path()).arg("run").stdin(Stdio::null());
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).env_remove("BEADLE_CONFIG");
        let child = command.spawn().unwrap();
        self.victim.lock().unwrap().is(child, moment);
    }

    /// True if it was still alive.
    fn kill(&self) -> bool {
        self.victim.lock().unwrap().kill()
    }

    /// What each receiver saw: all messages as texts.
    fn seen(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut seen = BTreeMap::from(["bot", "hook", "hold", "mail"].map(|name| (name, vec![])));
        for message in self.discord.messages() {
            let name = match message.target.as_str() {
                "channels/7" => "bot",
                "webhooks/8" => "hook",
                "webhooks/9" => "hold",
                other => panic!("{other}"),
            };
            seen.get_mut(name).unwrap().push(message.body.to_string());
        }
        seen.insert("mail", self.smtp.mails().into_iter().map(|mail| mail.data).collect());
        seen
    }

    /// How often each word came, to each receiver.
    fn counts(&self) -> BTreeMap<&'static str, Vec<usize>> {
        let count = |texts: &Vec<String>| {
            let mut found: HashMap<&str, usize> = HashMap::new();
            for word in texts.iter().flat_map(|text| words(text)) {
                *found.entry(word).or_default() += 1;
            }
            let of = |word: &String| found.get(word.as_str()).copied().unwrap_or(0);
            self.owed.iter().map(of).collect()
        };
        self.seen().iter().map(|(name, texts)| (*name, count(texts))).collect()
    }

    /// How many messages came once more, whole: one may tell of several events.
    fn doubled(&self, name: &str) -> usize {
        let messages = &self.seen()[name];
        messages.len() - messages.iter().collect::<HashSet<_>>().len()
    }

    /// Everyone has heard everything, but for what is held.
    fn all_told(&self) -> bool {
        let mut counts = self.counts();
        counts.remove("hold");
        counts.values().flatten().all(|count| *count > 0)
    }

    /// Runs undisturbed until everyone has heard everything; how long that took.
    fn catch_up(&self) -> Duration {
        let begun = Instant::now();
        self.start(None);
        self.wait(|| self.all_told());
        begun.elapsed()
    }

    fn wait(&self, until: impl Fn() -> bool) {
        let (mut begun, mut heard) = (Instant::now(), 0);
        while !until() {
            // A backlog takes its time: Discord's limits are kept.
            let now_heard = self.discord.messages().len() + self.smtp.mails().len();
            if now_heard > std::mem::replace(&mut heard, now_heard) {
                begun = Instant::now();
            }
            assert!(begun.elapsed() < PATIENCE, "{}", self.report());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn report(&self) -> String {
        let odd = |counts: &Vec<usize>| -> Vec<String> {
            let words = self.owed.iter().zip(counts).filter(|(_, count)| **count != 1);
            words.map(|(word, count)| format!("{word} {count} times")).collect()
        };
        let odd: BTreeMap<_, _> =
            self.counts().iter().map(|(name, counts)| (*name, odd(counts))).collect();
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        format!("{odd:?}\n{}{log}", status(self.folder.path(), &[]))
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // Not with the victim itself, which the gates share.
        self.kill();
    }
}

fn status(folder: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beadle"));
    let output = command.current_dir(folder).arg("status").args(more).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_crash_loses_nothing_and_doubles_nothing_that_can_be_recognised() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = variable("BEADLE_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = variable("BEADLE_SEED").unwrap_or(1);
    let mut harness = Harness::new(seed);
    let begun = Instant::now();
    #[allow(clippy::disallowed_methods, reason = "the program under test reads the real clock")]
    let now = Timestamp::now();

    // Reminders come due all the while, of events that stood there at first.
    let reminders = 10 + kills / 10;
    for n in 0..reminders {
        let word = format!("lead{n:05}");
        let after = 8_000 + (n * kills * 250 / reminders) as i64;
        harness.publish(&word, now + SignedDuration::from_millis(after));
    }
    harness.start(None);
    let folder = harness.folder.path().to_owned();
    harness.wait(|| status(&folder, &[]).contains(&format!("{reminders} events")));
    harness.kill();
    // So many pieces make a round with one piece of news, and it takes so long.
    harness.news(now);
    let round = harness.catch_up();
    let pieces = harness.victim.lock().unwrap().pieces();
    harness.kill();

    // One after the other, and each again that did not come; few are spread over all pieces.
    let chosen = kills.div_ceil(2);
    let few = chosen < 2 * pieces;
    let moments = |n: usize| match few {
        true => (1 + n * pieces / chosen, n.is_multiple_of(2)),
        false => (1 + n / 2, n.is_multiple_of(2)),
    };
    let all: VecDeque<(usize, bool)> = (0..chosen.min(2 * pieces)).map(moments).collect();
    let mut wanted = all.clone();
    let mut came = BTreeSet::new();

    let (mut at_a_piece, mut at_random, mut long) = (0, 0, 0);
    for n in 0..kills {
        // What is to be killed at a piece has a round with news to go through.
        if n % 2 == 0 || harness.random(2) > 0 {
            harness.news(now);
        }
        if n % 2 == 0 {
            if wanted.is_empty() {
                wanted.clone_from(&all);
            }
            let (number, after) = wanted.pop_front().unwrap();
            harness.start(Some(Moment::Piece { number, after }));
            let limit = Instant::now() + 2 * round + Duration::from_millis(500);
            while harness.victim.lock().unwrap().is_alive() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(2));
            }
            let late = harness.kill();
            match late {
                true => wanted.push_back((number, after)),
                false => _ = came.insert((number, after)),
            }
            (at_a_piece, at_random) =
                (at_a_piece + usize::from(!late), at_random + usize::from(late));
        } else {
            harness.start(None);
            let wait = harness.random(round.as_micros() as u64 * 5 / 4);
            std::thread::sleep(Duration::from_micros(wait));
            assert!(harness.kill());
            at_random += 1;
        }
        harness.look();
        if harness.random(4) == 0 {
            harness.long_downtime();
            long += 1;
        }
    }

    harness.owed.extend((0..reminders).map(|n| format!("lead{n:05}")));
    harness.catch_up();
    let folder = harness.folder.path().to_owned();
    harness.wait(|| status(&folder, &[]).contains("outbox: 0 waiting"));
    harness.kill();
    let sides = [true, false].map(|side| came.iter().filter(|(_, after)| *after == side).count());
    let [after, before] = sides;
    eprintln!("killed before {before} and after {after} of {pieces} pieces");
    // A machine with other things to do may be too slow for some.
    if chosen >= 3 * pieces {
        assert_eq!(came.len(), 2 * pieces, "{came:?}");
    } else {
        assert!(2 * before.min(after) >= all.len() / 2, "{came:?} of {all:?}");
    }
    eprintln!(
        "seed {seed}: {kills} kills ({at_a_piece} at a piece, of {pieces}; {at_random} at random; \
         {long} with a long downtime), {} messages to each; {:.0} s",
        harness.owed.len(),
        begun.elapsed().as_secs_f64()
    );
    let read_back = |request: &Request| {
        request.method == "GET" && request.path.starts_with("/api/v10/channels/7/messages")
    };
    let reads = harness.discord.requests().iter().filter(|one| read_back(one)).count();
    eprintln!("the channel was read back {reads} times");
    let mut doubles = 0;
    for (name, counts) in harness.counts() {
        let (held, reasons) = if name == "hold" { harness.held() } else { Default::default() };
        for reason in reasons {
            assert!(reason.contains("it is held, as `on_unknown` says"), "{reason}");
        }
        let missing = harness.owed.iter().zip(&counts).filter(|(_, count)| **count == 0);
        let lost = missing.filter(|(word, _)| !held.contains(word)).count();
        // What a bot tells must not come twice in other words either.
        let doubled = match name {
            "bot" | "hold" => counts.iter().map(|count| count.saturating_sub(1)).sum(),
            _ => harness.doubled(name),
        };
        let unknown = harness.unknown.get(name).copied().unwrap_or(0);
        let held = held.len();
        eprintln!(
            "  {name}: {lost} lost, {doubled} doubled, {unknown} unknown outcomes, {held} held"
        );
        assert_eq!(lost, 0, "{name}: {}", harness.report());
        let limit = if ["bot", "hold"].contains(&name) { 0 } else { unknown };
        assert!(doubled <= limit, "{name}: {}", harness.report());
        doubles += doubled;
    }
    // That there are any shows that doubles would have been seen. Few kills can all miss the moment;
    // the tests below choose it.
    if kills >= 500 {
        assert!(doubles > 0, "no kill came between a post and its receipt");
        assert!(reads > 0, "no message was looked for");
    }
}

/// Killed when Discord has just got a message, and started again when it has forgotten the nonce:
/// how often each of three messages is in the channel.
fn killed_after_each_post(history: bool) -> Vec<usize> {
    let mut harness = Harness::new(1);
    harness.discord.show_history(history);
    #[allow(clippy::disallowed_methods, reason = "the program under test reads the real clock")]
    let now = Timestamp::now();
    harness.start(None);
    let folder = harness.folder.path().to_owned();
    harness.wait(|| status(&folder, &[]).contains("0 events"));
    harness.kill();
    for _ in 0..3 {
        harness.news(now);
        harness.start(Some(Moment::Said("\"enforce_nonce\"")));
        harness.wait(|| !harness.victim.lock().unwrap().is_alive());
        let posted = harness.owed.len();
        harness
            .wait(|| harness.counts()["bot"].iter().filter(|count| **count > 0).count() == posted);
        harness.long_downtime();
        harness.catch_up();
        harness.wait(|| status(&folder, &[]).contains("outbox: 0 waiting"));
        harness.kill();
    }
    harness.counts().remove("bot").unwrap()
}

#[test]
fn a_crash_longer_ago_than_a_nonce_lives_doubles_nothing_by_bot() {
    assert_eq!(killed_after_each_post(true), [1, 1, 1]);
}

/// The judge can find fault: where the bot may not read back, the same kills double each message.
#[test]
fn what_cannot_be_read_back_is_doubled_and_seen_to_be() {
    assert_eq!(killed_after_each_post(false), [2, 2, 2]);
}

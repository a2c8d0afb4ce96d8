//! The built program, killed again and again, and what its audience saw of it.
//!
//! Every second kill comes at a chosen piece of a conversation with the feed's server, Discord or
//! the mail server: before the piece, or after it. The others come at random. Each kill is followed
//! by a start.
//!
//! ```sh
//! BEADLE_KILLS=1000 cargo test --test crash -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use support::discord::DiscordStandIn;
use support::feed::FeedStandIn;
use support::gate::{Gate, Moment, Victim};
use support::smtp::SmtpStandIn;
use support::world::calendar;

const KILLS: usize = 50;
/// Far longer than anything here takes; for machines with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

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
    seed: u64,
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
            to = ["bot", "hook", "list"]
            [receiver.bot]
            discord = {{ channel = "7" }}
            [receiver.hook]
            discord = {{ webhook = {{ file = "hook" }} }}
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
        let hook = "https://discord.com/api/webhooks/8/a-hook";
        std::fs::write(folder.path().join("hook"), hook).unwrap();
        Harness {
            folder,
            feed,
            discord,
            smtp,
            victim,
            _gates: gates,
            events: Vec::new(),
            owed: Vec::new(),
            seed,
        }
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
        let mut seen = BTreeMap::from([("bot", vec![]), ("hook", vec![]), ("mail", vec![])]);
        for message in self.discord.messages() {
            let name = if message.target.starts_with("channels/") { "bot" } else { "hook" };
            seen.get_mut(name).unwrap().push(message.body.to_string());
        }
        seen.insert("mail", self.smtp.mails().into_iter().map(|mail| mail.data).collect());
        seen
    }

    /// How often each word came, to each receiver.
    fn counts(&self) -> BTreeMap<&'static str, Vec<usize>> {
        let count = |texts: &Vec<String>| {
            self.owed
                .iter()
                .map(|word| texts.iter().filter(|text| text.contains(word)).count())
                .collect()
        };
        self.seen().iter().map(|(name, texts)| (*name, count(texts))).collect()
    }

    fn all_told(&self) -> bool {
        self.counts().values().flatten().all(|count| *count > 0)
    }

    /// Runs undisturbed until everyone has heard everything; how long that took.
    fn catch_up(&self) -> Duration {
        let begun = Instant::now();
        self.start(None);
        self.wait(|| self.all_told());
        begun.elapsed()
    }

    fn wait(&self, until: impl Fn() -> bool) {
        let begun = Instant::now();
        while !until() {
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

    let (mut at_a_piece, mut at_random) = (0, 0);
    for n in 0..kills {
        if harness.random(4) > 0 {
            harness.news(now);
        }
        if n % 2 == 0 {
            // From the first piece to the last, and from the first again.
            let chosen = n / 2 * 2 * pieces / kills.min(2 * pieces);
            let piece = 1 + chosen % pieces;
            let after = harness.random(2) == 0;
            harness.start(Some(Moment { piece, after }));
            let limit = Instant::now() + 2 * round + Duration::from_millis(500);
            while harness.victim.lock().unwrap().is_alive() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(2));
            }
            let late = harness.kill();
            (at_a_piece, at_random) =
                (at_a_piece + usize::from(!late), at_random + usize::from(late));
        } else {
            harness.start(None);
            let wait = harness.random(round.as_micros() as u64 * 5 / 4);
            std::thread::sleep(Duration::from_micros(wait));
            assert!(harness.kill());
            at_random += 1;
        }
    }

    harness.owed.extend((0..reminders).map(|n| format!("lead{n:05}")));
    harness.catch_up();
    let folder = harness.folder.path().to_owned();
    harness.wait(|| status(&folder, &[]).contains("outbox: 0 waiting"));
    harness.kill();
    let counts = harness.counts();
    let lost = |name| counts[name].iter().filter(|count| **count == 0).count();
    let doubled = |name| counts[name].iter().map(|count| count - 1).sum::<usize>();
    assert_eq!(["bot", "hook", "mail"].map(lost), [0; 3], "lost; {}", harness.report());
    eprintln!(
        "seed {seed}: {kills} kills ({at_a_piece} at a piece, of {pieces}; {at_random} at random), \
         {} messages to each: 0 lost; doubled: {} by bot, {} by webhook, {} by mail; {:.0} s",
        harness.owed.len(),
        doubled("bot"),
        doubled("hook"),
        doubled("mail"),
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(doubled("bot"), 0, "{}", harness.report());
    // One message at a time is under way to each, so a kill doubles one at most.
    for name in ["hook", "mail"] {
        assert!(doubled(name) <= kills, "{name}: {}", harness.report());
    }
    // That there are any shows that doubles would have been seen.
    assert!(doubled("hook") > 0, "no kill came between a post and its receipt");
}

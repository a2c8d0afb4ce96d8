//! The whole program in a temporary folder, with stand-ins for the other side.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use beadle::app;
use beadle::config::Config;
use beadle::fetch::Fetcher;
use beadle::notify::discord::Http;
use beadle::notify::{self, Registry};
use beadle::pipeline::{Pipeline, Polled};
use beadle::store::{Access, Delivery, DeliveryState, Store};
use jiff::Timestamp;

use super::discord::DiscordStandIn;
use super::smtp::SmtpStandIn;

pub const TOKEN: &str = "CANARY.bot-token_1234567890";

/// A folder with a configuration, and who listens.
#[derive(Debug)]
pub struct World {
    pub folder: tempfile::TempDir,
    pub discord: DiscordStandIn,
    pub smtp: SmtpStandIn,
    /// How long Discord is waited for; long, so that a machine with other things to do may be slow.
    pub patience: Duration,
    config: String,
}

impl World {
    /// A feed in a file, a watch of all of it and one channel; changes are told at once.
    pub fn new() -> World {
        World::with(
            r#"
            [feed.site]
            url = "feed.ics"
            private = true
            settle = "0s"
            confirm = "0s"

            [[watch]]
            name = "all"
            feeds = ["site"]
            remind = ["1d", "1h", "15m"]
            remind_all_day = ["1d at 18:00"]
            to = ["channel"]

            [receiver.channel]
            discord = { channel = "7" }
            "#,
        )
    }

    /// Feeds, watches, digests and receivers as given.
    pub fn with(config: &str) -> World {
        let (discord, smtp) = (DiscordStandIn::start(), SmtpStandIn::start());
        let folder = in_memory().unwrap_or_else(|| tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let config = format!(
            r#"
            timezone = "America/New_York"
            {config}
            [discord]
            token = {{ file = "token" }}
            api_url = "{}"

            [email]
            from = "Beadle <beadle@example.edu>"
            server = "smtp://{}:{}?tls=none"
            "#,
            discord.url(),
            smtp.host(),
            smtp.port(),
        );
        World { folder, discord, smtp, patience: Duration::from_secs(30), config }
    }

    /// Changes the configuration for those opened from now on.
    pub fn edit(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from:?} is not in the configuration");
        self.config = self.config.replace(from, to);
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the feed; every version has a time of its own, however fast they follow.
    pub fn feed(&self, text: impl AsRef<[u8]>) {
        write_feed(&self.path("feed.ics"), text.as_ref());
    }

    pub fn config(&self) -> Config {
        Config::parse(&self.config, &self.path("config.toml")).unwrap()
    }

    pub fn registry(&self) -> Registry {
        let http = Http::new(self.patience).unwrap();
        notify::build(&self.config(), &http).unwrap()
    }

    /// As after a start at `now`.
    pub async fn open(&self, now: &str) -> Pipeline {
        self.open_with(self.registry(), now).await
    }

    pub async fn open_with(&self, registry: Registry, now: &str) -> Pipeline {
        let config = self.config();
        let store = Store::open(&config.state, Access::Exclusive).await.unwrap();
        let fetcher = Fetcher::new().unwrap();
        let pipeline = Pipeline::new(config, app::zones(), store, fetcher, registry);
        pipeline.recover(at(now)).await.unwrap();
        pipeline
    }

    /// The titles of all messages in the channel, in the order they came.
    pub fn posts(&self) -> Vec<String> {
        self.discord.messages().iter().map(|message| title(&message.body)).collect()
    }
}

/// What a reader of a Discord message takes it for: the titles of its embeds, and whether it says
/// that it is late.
pub fn title(body: &serde_json::Value) -> String {
    let embeds = body["embeds"].as_array().unwrap();
    let titles = embeds.iter().filter_map(|embed| embed["title"].as_str());
    let mut text = titles.collect::<Vec<_>>().join(", ").replace('\\', "");
    if body.to_string().contains("late by") {
        text.push_str(" (late)");
    }
    text
}

pub fn write_feed(path: &Path, text: &[u8]) {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    std::fs::write(path, text).unwrap();
    let version = VERSION.fetch_add(1, Ordering::SeqCst);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(version)).unwrap();
}

/// An instant, or the wall time in New York.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|_| {
        let zoned = format!("{text}[America/New_York]");
        zoned.parse::<jiff::ZonedDateTime>().unwrap().timestamp()
    })
}

/// One step of the program's life, as `run` takes it.
pub async fn poll(pipeline: &Pipeline, now: &str) -> Polled {
    let feed = pipeline.config.feeds.values().next().unwrap();
    pipeline.poll(feed, at(now)).await.unwrap()
}

/// What fell due is sent.
pub async fn deliver(pipeline: &Pipeline, now: &str) -> beadle::pipeline::Delivered {
    pipeline.tick(at(now)).await.unwrap();
    while pipeline.write_ahead(at(now)).await.unwrap() {}
    pipeline.deliver(at(now)).await.unwrap()
}

/// Polls every feed, then delivers.
pub async fn round(pipeline: &Pipeline, now: &str) {
    for feed in pipeline.config.feeds.values() {
        pipeline.poll(feed, at(now)).await.unwrap().result.unwrap();
    }
    deliver(pipeline, now).await;
}

/// A folder where writing through to the disk costs nothing, where the system has one.
fn in_memory() -> Option<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").ok()
}

pub async fn rows(pipeline: &Pipeline, state: DeliveryState) -> Vec<Delivery> {
    pipeline.store.deliveries(Some(state), 1000).await.unwrap()
}

/// A calendar of these events.
pub fn calendar(events: &[String]) -> String {
    let events = events.concat();
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//Calendar//EN\r\n\
         X-WR-CALNAME:Example\r\n{events}END:VCALENDAR\r\n"
    )
}

/// An event of one hour, at a wall time of New York such as `20260310T100000`.
pub fn event(uid: &str, summary: &str, start: &str) -> String {
    event_with(uid, summary, start, "")
}

/// `more` is further content lines, each with its line end.
pub fn event_with(uid: &str, summary: &str, start: &str, more: &str) -> String {
    format!(
        "BEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20260101T000000Z\r\n\
         DTSTART;TZID=America/New_York:{start}\r\nDURATION:PT1H\r\nSUMMARY:{summary}\r\n{more}\
         END:VEVENT\r\n"
    )
}

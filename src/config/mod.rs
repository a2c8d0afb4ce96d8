//! The configuration: one TOML file, checked once and completely, then immutable.
//!
//! | step | module |
//! |---|---|
//! | text → tables, wrong types, unknown keys | `reader` |
//! | one text → a time, a duration, an address | `values` |
//! | tables → [`Config`], and what its parts must agree on | `model`, `discord`, `mirrored` |
//! | errors → lines with line, key and hint, secrets masked | `report` |
//! | `[http]`, `[alive]`, `[tls]` | `operation` |
//! | secrets, read when needed | [`secret`] |

mod discord;
mod mirrored;
mod model;
mod operation;
mod reader;
mod report;
pub mod secret;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::plan::{Agenda, Digest, Lead, Watch};
pub use discord::{DiscordTarget, OnUnknown, Ping, Quiet, Via};
pub use report::ConfigError;
use report::{Complaint, Place};
use secret::SecretSource;

/// Everything beadle was told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Zone of the audience: digests are sent and times are written in it.
    pub timezone: TimeZone,
    /// The folder of the database and its lock; relative paths start at the file's folder.
    pub state: PathBuf,
    pub feeds: BTreeMap<String, Feed>,
    pub watches: Vec<Watch>,
    pub digests: Vec<Digest>,
    /// Whom watches call in Discord, by their names.
    pub pings: BTreeMap<String, Ping>,
    pub agendas: Vec<Agenda>,
    pub scheduled_events: Vec<ScheduledEvents>,
    pub receivers: BTreeMap<String, Receiver>,
    pub discord: Discord,
    pub email: Option<Email>,
    /// Off when absent.
    pub http: Option<HttpServer>,
    /// Off when absent.
    pub alive: Option<Alive>,
    /// `[tls] ca_file`: certificates, in PEM form, of authorities that are trusted besides those of
    /// this machine, by feeds, Discord, mail and the alive ping.
    pub ca_file: Option<PathBuf>,
    /// What is odd but no error, for `beadle check` to print.
    pub notes: Vec<String>,
    secrets: Vec<NeededSecret>,
}

/// A secret, and where the file names it.
#[derive(Clone, Debug)]
struct NeededSecret {
    /// `discord.token`
    key: String,
    source: SecretSource,
    place: Place,
}

impl Config {
    /// Reads and checks the file, and that every secret it names can be read.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let config = Config::read(path)?;
        config.check_secrets()?;
        Ok(config)
    }

    /// Reads and checks the file, whether or not its secrets are there: for what sends nothing.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read(path).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "No such file or directory".to_owned(),
                _ => error.to_string(),
            };
            let hint = "copy config.example.toml, or name a file with --config";
            ConfigError::of_file(path, Complaint::new(format!("cannot be read: {why}"), hint))
        })?;
        let text = String::from_utf8(text).map_err(|_| {
            let hint = "save it as UTF-8";
            ConfigError::of_file(path, Complaint::new("is not UTF-8 text", hint))
        })?;
        Config::parse(&text, path)
    }

    /// Checks a text that stands, or might stand, in the file `path`. Pure. Paths in it are
    /// relative to the file's folder.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        model::read(text.strip_prefix('\u{FEFF}').unwrap_or(text), path)
    }

    /// Every secret the configuration names, with its key: `discord.token`.
    pub fn secrets(&self) -> Vec<(String, SecretSource)> {
        self.secrets.iter().map(|secret| (secret.key.clone(), secret.source.clone())).collect()
    }

    /// Whether every secret can be read; the error points at each that cannot.
    pub fn check_secrets(&self) -> Result<(), ConfigError> {
        let mut missing = Vec::new();
        for NeededSecret { key, source, place } in &self.secrets {
            let Err(error) = source.read() else { continue };
            let mut message = format!("`{key}`: {error}");
            if let Some(cause) = std::error::Error::source(&error) {
                message.push_str(&format!(": {cause}"));
            }
            let hint = match source {
                SecretSource::Env(name) => format!("set {name} before beadle is started"),
                SecretSource::File(_) => {
                    "the file holds the secret alone, and the user beadle runs as can read it"
                        .into()
                }
                SecretSource::Credential(name) => {
                    format!("add LoadCredential={name}:/path/of/the/file to the systemd unit")
                }
            };
            missing.push((place.clone(), Complaint::new(message, hint)));
        }
        ConfigError::of_places(&self.path, missing)
    }
}

/// Where a calendar comes from and how it is asked for.
#[derive(Clone, Debug)]
pub struct Feed {
    pub name: String,
    pub url: FeedUrl,
    /// Further addresses with parts of the same calendar, such as one for each category: some
    /// publishers give so many events at an address and no more.
    pub also: Vec<FeedUrl>,
    /// How many pages to read of a feed of The Events Calendar, each the next 30 events from a later
    /// day on. Default 1.
    pub pages: u32,
    /// Zone of floating times and dates; the feed's own, else the audience's, where not set.
    pub timezone: Option<TimeZone>,
    /// Time between polls, where the feed does not ask for another: default 15 min. The feed's
    /// wish (REFRESH-INTERVAL, Retry-After, max-age) is kept between `every` and 24 h.
    pub every: SignedDuration,
    /// How long a change must last before it is told. Default 5 min.
    pub settle: SignedDuration,
    /// How long an event must be gone before it is told as withdrawn. Default 30 min.
    pub confirm: SignedDuration,
    /// Ask the publisher's site what the feed does not say: on the feed's own host, and on these
    /// (`host` or `host:port`). Default: on its own; none asks nobody.
    pub lookups: Option<Vec<String>>,
    /// May be on this machine or its own network: see [`guard`](crate::guard). Default: no.
    pub private: bool,
    pub auth: Option<Auth>,
    /// Further request headers.
    pub headers: Vec<(String, SecretSource)>,
    pub user_agent: Option<String>,
    /// For one whole request. Default 30 s.
    pub timeout: Duration,
    /// Limit of the decoded body, in bytes. Default 64 MiB.
    pub max_bytes: u64,
}

impl Feed {
    /// A feed with nothing but an address: a URL, or a path relative to `base`.
    pub fn at(name: &str, address: &str, base: &Path) -> Result<Feed, String> {
        match values::feed_url(address, base) {
            Ok(url) => Ok(Feed::new(name, url)),
            Err(Complaint { message, hint: Some(hint) }) => Err(format!("{message}; {hint}")),
            Err(Complaint { message, .. }) => Err(message),
        }
    }

    /// The parts it is read in, each with one address.
    pub fn parts(&self) -> impl Iterator<Item = Feed> + '_ {
        let addresses = std::iter::once(&self.url).chain(&self.also);
        addresses.map(|url| Feed { url: url.clone(), also: Vec::new(), ..self.clone() })
    }

    fn new(name: &str, url: FeedUrl) -> Feed {
        Feed {
            name: name.to_owned(),
            url,
            also: Vec::new(),
            pages: 1,
            timezone: None,
            every: SignedDuration::from_mins(15),
            settle: SignedDuration::from_mins(5),
            confirm: SignedDuration::from_mins(30),
            lookups: Some(Vec::new()),
            private: false,
            auth: None,
            headers: Vec::new(),
            user_agent: None,
            timeout: Duration::from_secs(30),
            max_bytes: 64 << 20,
        }
    }
}

/// An address a feed can have.
#[derive(Clone, PartialEq, Eq)]
pub enum FeedUrl {
    /// `http:`, `https:`; `webcal:` and `webcals:` are read as these. Its path and query may be a
    /// secret (private calendar addresses), so `Debug` and `Display` show scheme, host and a hint.
    Http(url::Url),
    File(PathBuf),
}

impl fmt::Display for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedUrl::Http(url) => {
                let whole = url.path().len() < 2 && url.query().is_none();
                let rest = if whole { "" } else { "…" };
                write!(f, "{}/{rest}", url.origin().ascii_serialization())
            }
            FeedUrl::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Debug)]
pub enum Auth {
    Basic { username: String, password: SecretSource },
    Bearer { token: SecretSource },
}

/// A named audience. Every backend that is set gets every message.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    pub name: String,
    pub discord: Option<DiscordTarget>,
    pub email: Option<EmailTarget>,
    /// Print what Discord would show.
    pub terminal: bool,
    /// Show meeting passcodes that stand in descriptions. Default: no.
    pub show_passcodes: bool,
    /// Remove reminders in Discord once their events are over. Default: no.
    pub delete_reminders: bool,
    /// Post an announcement anew that someone removed by hand, when its event changes. Default: no.
    pub repost: bool,
}

/// `[[scheduled_events]]`: events of some watches as native events of a Discord server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvents {
    pub name: String,
    /// The server; default: that of `[discord]`.
    pub guild: u64,
    /// Names of watches.
    pub watches: Vec<String>,
    /// Fetch the events' pictures and make them covers. Default: no.
    pub covers: bool,
    /// Make an event anew that someone removed by hand, with its next change. Default: no, only with
    /// the one after that.
    pub repost: bool,
    /// How many events are made there. Default 90 of the 100 that a server may have, so that members
    /// can make some too.
    pub at_most: u8,
}

#[derive(Clone, Debug)]
pub struct EmailTarget {
    /// Bare addresses, valid; each gets a message of its own.
    pub to: Vec<String>,
}

/// `[http]`: where liveness, readiness and metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpServer {
    pub listen: SocketAddr,
}

/// `[alive]`: who is told regularly that all is well, and raises the alarm when not.
#[derive(Clone, Debug)]
pub struct Alive {
    /// The whole URL is a secret: whoever has it can pretend to be alive.
    pub url: SecretSource,
    /// Default 5 min.
    pub every: Duration,
    /// A feed may fail for this long before the ping stops. Default 6 h.
    pub tolerance: SignedDuration,
}

/// `[discord]`: what all Discord receivers share.
#[derive(Clone, Debug)]
pub struct Discord {
    pub token: Option<SecretSource>,
    /// Default `https://discord.com`; another for a proxy. `/api/v10/…` is appended.
    pub api_url: url::Url,
    /// Default: asked of the API.
    pub gateway_url: Option<url::Url>,
    /// Where the operator is told of what needs mending; see [`crate::operator`].
    pub admin_channel: Option<u64>,
    /// Slash commands. Default: no.
    pub commands: bool,
    /// Default: asked of the API.
    pub application_id: Option<u64>,
    /// Set where Discord posts slash commands to our HTTP server instead of the gateway.
    pub public_key: Option<[u8; 32]>,
    /// The server that the bot is for: its slash commands, and its native scheduled events. None for
    /// commands in all that the bot is in.
    pub guild: Option<u64>,
}

/// Reads how long before an event somebody wants to be reminded, as `remind = [...]` has it.
///
/// # Errors
/// What is wrong, in a sentence for whoever wrote it.
pub fn lead(text: &str) -> Result<Lead, String> {
    values::lead(text).map_err(|complaint| match complaint.hint {
        Some(hint) => format!("{}; {hint}", complaint.message),
        None => complaint.message,
    })
}

/// `[email]`: what all email receivers share.
#[derive(Clone, Debug)]
pub struct Email {
    /// `Name <address>`.
    pub from: String,
    pub reply_to: Option<String>,
    /// Host part of the List-Id; default: the domain of `from`.
    pub list_domain: Option<String>,
    /// Write every mail as `.eml`, and its HTML beside it, into this folder.
    pub folder: Option<PathBuf>,
    pub server: Option<SmtpServer>,
}

#[derive(Clone, Debug)]
pub struct SmtpServer {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub username: Option<String>,
    pub password: Option<SecretSource>,
}

/// How an SMTP line is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// `smtp://`: STARTTLS, and nothing is sent when the server does not offer it. Port 587.
    StartTls,
    /// `smtps://`: from the first byte (RFC 8314). Port 465.
    Implicit,
    /// `smtp://…?tls=none`: for a relay on this machine. Port 25.
    None,
}

#[cfg(test)]
mod tests;

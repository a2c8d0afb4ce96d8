//! The command line. What the commands do is in [`beadle::commands`] and [`beadle::app`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use beadle::app;
use beadle::commands::{self, At, Desk, Format, Medium, Misuse};
use beadle::config::{Config, ConfigError, Feed};
use beadle::doctor;
use beadle::fetch::Fetcher;
use beadle::notify::{SetupError, terminal};
use beadle::store::{self, Access, DeliveryState, Happening, Store, StoreError};
use beadle::tls::{self, Trust};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Announces calendar feeds: what is new, changed, cancelled or about to start, in Discord, by mail,
/// or on this terminal.
///
/// Start with `beadle run --config config.example.toml`: it needs no account and no network.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How logs are written to standard error; BEADLE_LOG sets what is logged (info, debug, …)
    #[arg(long, global = true, value_enum, default_value_t)]
    log: LogFormat,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed: a feed could not be read, a message was refused or a receiver takes none,
     a check did not pass, the state cannot be used
  2  the configuration or the command line is wrong; nothing was started";

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
struct ConfigPath {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "config.toml", env = "BEADLE_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Written {
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Poll the feeds and deliver, until stopped
    ///
    /// SIGTERM and SIGINT stop it; SIGHUP has it read the configuration again.
    Run(ConfigPath),

    /// Poll every feed once, deliver what is due, and exit: for cron
    Once(ConfigPath),

    /// Check the configuration, and that every feed and receiver can be reached; sends nothing
    Check(ConfigPath),

    /// Send a message marked as a test to every receiver, or to one, as all messages are sent
    SendTest {
        /// [default: all]
        receiver: Option<String>,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Set up Discord
    Discord {
        #[command(subcommand)]
        action: Discord,
    },

    /// List what a feed holds
    #[command(after_help = "\
Without FILE or URL, the feeds of the configuration. Without --from and --to, everything, and what \
repeats without end for a year from now.

  beadle events calendar.ics
  beadle events https://example.edu/events/?ical=1 --from 2026-12-01 --to 2027-01-01 --format json")]
    Events {
        /// A calendar to read instead of the configured feeds; needs no configuration
        #[arg(value_name = "FILE|URL")]
        feed: Option<String>,
        /// Occurrences that end after this: 2026-12-31, 2026-12-31T18:00 or 2026-12-31T18:00:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<At>,
        /// Occurrences that start before this
        #[arg(long, value_name = "TIME")]
        to: Option<At>,
        /// Zone of times and dates where the feed names none [default: UTC, or as configured]
        #[arg(long, value_name = "ZONE")]
        timezone: Option<String>,
        #[command(flatten)]
        written: Written,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Show what changed between two versions of a feed, as a poll would see it
    Diff {
        /// The calendar as it was: a file or a URL
        old: String,
        /// The calendar as it is
        new: String,
        #[command(flatten)]
        written: Written,
    },

    /// Show the next digest, or a notice of a watch's next event, without sending it
    Preview {
        /// A watch or a digest; the first digest where left out
        name: Option<String>,
        /// In which medium
        #[arg(long = "as", value_enum, default_value = "terminal")]
        medium: Medium,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Show what would be sent, when and to whom, if the feeds stayed as they are
    Rehearse {
        /// [default: now]
        #[arg(long, value_name = "TIME")]
        from: Option<At>,
        /// [default: a week later]
        #[arg(long, value_name = "TIME")]
        to: Option<At>,
        #[command(flatten)]
        written: Written,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Show how feeds, outbox and receivers stand
    Status {
        #[command(flatten)]
        written: Written,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Write a consistent copy of the state to a file, also while beadle runs
    Backup {
        /// A file that is not there yet
        #[arg(value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Put a backup in the place of the state; beadle must be stopped
    #[command(after_help = "\
What is there is set aside, not deleted. Nothing is told twice: feeds are read anew as if for the \
first time, and messages that waited when the backup was made are held back (`beadle outbox retry` \
sends them after all). What changed since the backup and was not told yet is not told.")]
    Restore {
        #[arg(value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        config: ConfigPath,
    },

    /// Examine the state, disk, clock and zone data, and whether the feeds' servers answer
    Doctor(ConfigPath),

    /// Look at messages that are not sent, or change what becomes of them
    Outbox {
        #[command(subcommand)]
        action: Outbox,
    },
}

#[derive(Debug, Subcommand)]
enum Discord {
    /// Print the address at which the bot is added to a server, with no more permissions than the
    /// configuration needs
    Invite(ConfigPath),
}

#[derive(Debug, Subcommand)]
enum Outbox {
    /// List messages: all that are not sent, or those in one state
    List {
        #[arg(long, value_enum)]
        state: Option<State>,
        /// At most so many, the newest first
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        written: Written,
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Try messages again, and their receivers if these are parked
    Retry {
        /// The beginning of an id, or what `beadle status` says is parked (as in
        /// `seminars/discord`, `guild/123`); all dead messages where left out
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: Option<String>,
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Give messages up
    Drop {
        /// The beginning of an id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        config: ConfigPath,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Pending,
    Leased,
    Sent,
    Dead,
    Superseded,
    Expired,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => DeliveryState::Pending,
            State::Leased => DeliveryState::Leased,
            State::Sent => DeliveryState::Sent,
            State::Dead => DeliveryState::Dead,
            State::Superseded => DeliveryState::Superseded,
            State::Expired => DeliveryState::Expired,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.log);
    store::watch_for_crashes();
    tls::install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            app::begin();
            tokio::select! {
                biased;
                ended = execute(cli.command) => ended,
                error = store::crashed() => Err(error.into()),
            }
        }),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error, cli.log);
            let misuse = error.is::<ConfigError>() || error.is::<SetupError>();
            ExitCode::from(if misuse || error.is::<Misuse>() { 2 } else { 1 })
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let mut good = true;
    let answer = match command {
        Command::Run(path) => {
            let read = || Ok(Config::load(&path.config)?);
            app::run(app::open(read()?).await?, read).await?;
            String::new()
        }
        Command::Once(path) => {
            let pipeline = app::open(Config::load(&path.config)?).await?;
            let (all_read, delivered) = app::once(&pipeline).await?;
            let now = app::now();
            let closed = pipeline.store.parked().await?.into_iter().any(|parked| {
                parked.retry_at > now && pipeline.registry.configured(&parked.endpoint).is_some()
            });
            pipeline.store.close().await?;
            good = all_read && delivered.dead == 0 && !closed;
            String::new()
        }
        Command::Check(path) => {
            let config = Config::read(&path.config)?;
            let (fetcher, registry) = app::connections(&config)?;
            let desk = Desk {
                fetcher,
                zones: app::zones(),
                timezone: config.timezone.clone(),
                now: app::now(),
            };
            let (answer, passed) = commands::check(&desk, &config, &registry).await?;
            good = passed;
            answer
        }
        Command::SendTest { receiver, config } => {
            let config = Config::load(&config.config)?;
            let (_, registry) = app::connections(&config)?;
            let (answer, arrived) =
                commands::send_test(&config, &registry, receiver.as_deref(), app::now()).await?;
            good = arrived;
            answer
        }
        Command::Discord { action: Discord::Invite(path) } => {
            let config = Config::read(&path.config)?;
            let http = app::discord(&config)?;
            commands::discord_invite(&config, &http).await?
        }
        Command::Events { feed, from, to, timezone, written, config } => {
            let (feeds, zone, ca_file) = match &feed {
                Some(address) => (vec![commands::named_feed(address)?], None, None),
                None => {
                    let Config { feeds, timezone, ca_file, .. } = Config::read(&config.config)?;
                    (feeds.into_values().collect::<Vec<Feed>>(), Some(timezone), ca_file)
                }
            };
            let zone = match timezone {
                Some(name) => app::zones()
                    .get(&name)
                    .ok_or_else(|| Misuse(format!("--timezone: `{name}` is no zone")))?,
                None => zone.unwrap_or(TimeZone::UTC),
            };
            commands::events(&desk(&zone, ca_file.as_deref())?, &feeds, from, to, written.format)
                .await?
        }
        Command::Diff { old, new, written } => {
            let (old, new) = (commands::named_feed(&old)?, commands::named_feed(&new)?);
            commands::diff(&desk(&TimeZone::UTC, None)?, &old, &new, written.format).await?
        }
        Command::Preview { name, medium, config } => {
            let config = Config::read(&config.config)?;
            let desk = desk(&config.timezone, config.ca_file.as_deref())?;
            let colour = terminal::colours(&std::io::stdout());
            commands::preview(&desk, &config, name.as_deref(), medium, colour).await?
        }
        Command::Rehearse { from, to, written, config } => {
            let config = Config::read(&config.config)?;
            let desk = desk(&config.timezone, config.ca_file.as_deref())?;
            let from = from.map_or(desk.now, |at| at.instant(&config.timezone));
            let week = || from.saturating_add(SignedDuration::from_hours(7 * 24));
            let to = match to {
                Some(at) => at.instant(&config.timezone),
                None => week()?,
            };
            commands::rehearse(&desk, &config, from, to, written.format).await?
        }
        Command::Status { written, config } => {
            let config = Config::read(&config.config)?;
            let store = Store::open(&config.state, Access::Shared).await?;
            let running = Store::in_use(&config.state);
            commands::status(&config, &store, running, app::now(), written.format).await?
        }
        Command::Outbox { action } => outbox(action).await?,
        Command::Backup { to, config } => {
            let config = Config::read(&config.config)?;
            let store = Store::open(&config.state, Access::Shared).await?;
            store.backup(&to).await?;
            format!("{}: written\n", to.display())
        }
        Command::Restore { from, config } => {
            let config = Config::read(&config.config)?;
            commands::restored(&store::restore(&config.state, &from, app::now()).await?)
        }
        Command::Doctor(path) => {
            let config = Config::read(&path.config)?;
            let (fetcher, registry) = app::connections(&config)?;
            let (answer, passed) = doctor::doctor(&config, &fetcher, &registry).await?;
            good = passed;
            answer
        }
    };
    print(&answer)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn outbox(action: Outbox) -> anyhow::Result<String> {
    let (Outbox::List { config: path, .. }
    | Outbox::Retry { config: path, .. }
    | Outbox::Drop { config: path, .. }) = &action;
    let config = Config::read(&path.config)?;
    let store = Store::open(&config.state, Access::Shared).await?;
    let now = app::now();
    match action {
        Outbox::List { state, limit, written, .. } => {
            let state = state.map(DeliveryState::from);
            commands::outbox_list(&config, &store, state, limit, written.format).await
        }
        Outbox::Retry { id, .. } => {
            commands::intervene(&store, id.as_deref(), Happening::Revived, now).await
        }
        Outbox::Drop { id, .. } => {
            commands::intervene(&store, Some(&id), Happening::Dropped, now).await
        }
    }
}

fn desk(timezone: &TimeZone, ca_file: Option<&Path>) -> anyhow::Result<Desk> {
    Ok(Desk {
        fetcher: Fetcher::trusting(&Trust::load(ca_file)?)?,
        zones: app::zones(),
        timezone: timezone.clone(),
        now: app::now(),
    })
}

/// Writes an answer; a reader that has gone away (`| head`) is no error.
fn print(answer: &str) -> std::io::Result<()> {
    match std::io::stdout().lock().write_all(answer.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The error, its causes, and what to do; as the log is written.
fn report(error: &anyhow::Error, format: LogFormat) {
    let hint = error.downcast_ref::<StoreError>().and_then(StoreError::hint);
    if let LogFormat::Json = format {
        // Not as an event, which `BEADLE_LOG` may keep back.
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let line = serde_json::json!({
            "timestamp": format!("{:.3}", app::now()),
            "level": "ERROR",
            "message": error.to_string(),
            "causes": causes,
            "hint": hint,
        });
        let _ = writeln!(std::io::stderr().lock(), "{line}");
        return;
    }
    let mut text = match error.is::<ConfigError>() {
        // A report of its own, beginning with `error:`.
        true => format!("{error}\n"),
        false => format!("error: {error}\n"),
    };
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors repeat their cause.
        if !text.contains(&cause) {
            text.push_str(&format!("caused by: {cause}\n"));
        }
    }
    if let Some(hint) = hint {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn start_logging(format: LogFormat) {
    let filter = log_filter(&std::env::var("BEADLE_LOG").unwrap_or_default());
    let levels = filter.iter().map(|(_, level)| level).chain(filter.default_level());
    let builder = tracing_subscriber::fmt()
        .with_max_level(levels.max().unwrap_or(LevelFilter::OFF))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_timer(Milliseconds)
        // What cannot be logged is lost; to say so on the same broken stream would be a panic.
        .log_internal_errors(false)
        .with_ansi(terminal::colours(&std::io::stderr()));
    match format {
        LogFormat::Text => builder.compact().finish().with(filter).init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter).init(),
    }
}

/// What is logged, as `debug` or `beadle=debug,hyper=warn`; what is not understood is passed over.
fn log_filter(text: &str) -> Targets {
    let understood = |one: &&str| !one.is_empty() && one.parse::<Targets>().is_ok();
    let good: Vec<&str> = text.split(',').map(str::trim).filter(understood).collect();
    match good.is_empty() {
        // A first reading is slow to sqlx, and nothing to warn of.
        true => Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("sqlx::query", LevelFilter::ERROR),
        false => good.join(",").parse().unwrap_or_default(),
    }
}

/// Time stamps as `2026-03-05T14:00:00.000Z`, all of the same length.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:.3}", app::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_follows_from_the_directives_that_are_understood() {
        let seen = |text: &str| {
            let filter = log_filter(text);
            let sees = |target, level| filter.would_enable(target, &level);
            [sees("beadle::store", tracing::Level::DEBUG), sees("hyper", tracing::Level::INFO)]
        };
        assert_eq!(seen(""), [false, true]);
        assert_eq!(seen("debug"), [true, true]);
        assert_eq!(seen("beadle=debug"), [true, false]);
        assert_eq!(seen(" beadle=debug , nonsense=loud"), [true, false]);
        assert_eq!(seen("nonsense=loud"), [false, true]);
    }
}

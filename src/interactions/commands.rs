//! Which slash commands there are: the one place where they are named, described and registered.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::notify::NotifyError;
use crate::notify::discord::Bot;
use crate::store::{Store, StoreError};

/// Longest search, in UTF-16 units: it must fit into a button.
pub const MAX_SEARCH: usize = 40;
/// Furthest that `/upcoming` looks.
pub const MAX_DAYS: u16 = 365;

/// Where the store keeps what was registered last, and when.
const NOTE: &str = "discord_commands";

/// A slash command.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub description: &'static str,
    options: &'static [Opt],
    /// Names and descriptions; options of their own belong to each.
    subcommands: &'static [(&'static str, &'static str, &'static [Opt])],
    /// For members with Manage Server.
    managers: bool,
}

/// An option of a command.
#[derive(Debug)]
struct Opt {
    name: &'static str,
    description: &'static str,
    kind: Kind,
    required: bool,
}

#[derive(Debug)]
enum Kind {
    /// Choices are offered while typing.
    Choice,
    Text,
    Days,
    Flag,
}

const fn choice(name: &'static str, description: &'static str, required: bool) -> Opt {
    Opt { name, description, kind: Kind::Choice, required }
}

const EVENT: Opt = choice("event", "Words of its title", true);
const WATCH: Opt = choice("watch", "Its name", true);

/// All commands, in the order in which `README.md` lists them.
pub const COMMANDS: &[Definition] = &[
    Definition {
        name: "upcoming",
        description: "What is coming up",
        options: &[
            Opt {
                name: "days",
                description: "How many days ahead (7)",
                kind: Kind::Days,
                required: false,
            },
            choice("category", "Only this category", false),
            Opt {
                name: "search",
                description: "Only titles, places and people with these words",
                kind: Kind::Text,
                required: false,
            },
        ],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "next",
        description: "The next event",
        options: &[],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "event",
        description: "Everything about one event",
        options: &[EVENT],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "why",
        description: "Why an event was announced here, or was not",
        options: &[EVENT],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "remind",
        description: "Get a direct message before an event",
        options: &[
            EVENT,
            choice("lead", "How long before: 15m, 1h, 1d, or 1d at 18:00", false),
            Opt {
                name: "every_time",
                description: "Of an event that repeats: each time, not only once",
                kind: Kind::Flag,
                required: false,
            },
        ],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "subscriptions",
        description: "The reminders you asked for",
        options: &[],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "unsubscribe",
        description: "Take a reminder back",
        options: &[choice("reminder", "Which one; leave it out to choose from all", false)],
        subcommands: &[],
        managers: false,
    },
    Definition {
        name: "watch",
        description: "What beadle announces",
        options: &[],
        subcommands: &[
            ("list", "All watches, and which are paused", &[]),
            ("pause", "Announce nothing of a watch until it is resumed", &[WATCH]),
            ("resume", "Announce again, from now on", &[WATCH]),
        ],
        managers: true,
    },
    Definition {
        name: "refresh",
        description: "Read the calendars now",
        options: &[],
        subcommands: &[],
        managers: true,
    },
];

/// The body that registers all commands. Those for managers are for one server only: of others
/// beadle does not know whom to trust.
/// <https://docs.discord.com/developers/interactions/application-commands#bulk-overwrite-global-application-commands>
pub fn registration(guild: Option<u64>) -> Value {
    let commands = COMMANDS.iter().filter(|command| guild.is_some() || !command.managers);
    commands.map(Definition::body).collect()
}

impl Definition {
    fn body(&self) -> Value {
        let mut options: Vec<Value> = self.options.iter().map(Opt::body).collect();
        options.extend(self.subcommands.iter().map(|(name, description, options)| {
            let options: Vec<Value> = options.iter().map(Opt::body).collect();
            json!({ "type": 1, "name": name, "description": description, "options": options })
        }));
        let mut body = json!({
            "type": 1,
            "name": self.name,
            "description": self.description,
            "options": options,
        });
        if self.managers {
            // Manage Server; checked again with each use.
            body["default_member_permissions"] = json!(1 << 5);
        }
        body
    }
}

impl Opt {
    fn body(&self) -> Value {
        let kind = match self.kind {
            Kind::Choice | Kind::Text => 3,
            Kind::Days => 4,
            Kind::Flag => 5,
        };
        let mut body = json!({
            "type": kind,
            "name": self.name,
            "description": self.description,
            "required": self.required,
        });
        match self.kind {
            Kind::Choice => body["autocomplete"] = json!(true),
            Kind::Text => body["max_length"] = json!(MAX_SEARCH),
            Kind::Days => {
                body["min_value"] = json!(1);
                body["max_value"] = json!(MAX_DAYS);
            }
            Kind::Flag => {}
        }
        body
    }
}

/// What came of a registration.
#[derive(Debug)]
pub enum Registered {
    Unchanged,
    Changed,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Discord(#[from] NotifyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers the commands, unless Discord has them already: names that are new count towards a
/// daily limit.
pub async fn register(
    bot: &Bot,
    store: &Store,
    application: Option<u64>,
    guild: Option<u64>,
    now: Timestamp,
) -> Result<Registered, RegisterError> {
    let application = match application {
        Some(id) => id,
        None => own_id(bot).await?,
    };
    let path = match guild {
        Some(guild) => format!("/applications/{application}/guilds/{guild}/commands"),
        None => format!("/applications/{application}/commands"),
    };
    let body = registration(guild);
    let hash: String =
        Sha256::digest(body.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
    let before = store.note(NOTE).await?.unwrap_or_default();
    let mut words = before.split(' ');
    let (old_path, old_hash) = (words.next().unwrap_or_default(), words.next());
    if old_path == path && old_hash == Some(hash.as_str()) {
        return Ok(Registered::Unchanged);
    }
    if !old_path.is_empty() && old_path != path {
        // Else each command would be there twice. Where the bot was thrown out it is gone anyway.
        bot.call(Method::PUT, old_path, Some(&json!([]))).await?;
    }
    bot.call(Method::PUT, &path, Some(&body)).await?.accepted()?;
    store.set_note(NOTE, &format!("{path} {hash} {now}")).await?;
    Ok(Registered::Changed)
}

/// The application that the bot belongs to.
async fn own_id(bot: &Bot) -> Result<u64, NotifyError> {
    let answer = bot.call(Method::GET, "/applications/@me", None).await?;
    let id = answer.accepted()?["id"].as_str().and_then(|id| id.parse().ok());
    let reason = "Discord does not say which application the bot belongs to".to_owned();
    id.ok_or(NotifyError::Retry { after: None, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discord_takes_these_names_and_lengths() {
        let is_name = |name: &str| {
            (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'))
        };
        let mut units = 0;
        let mut check = |name: &str, description: &str| {
            assert!(is_name(name), "{name}");
            assert!((1..=100).contains(&description.len()), "{description}");
            units += name.len() + description.len();
        };
        for command in COMMANDS {
            check(command.name, command.description);
            let sub = command.subcommands.iter().flat_map(|(name, description, options)| {
                std::iter::once((*name, *description))
                    .chain(options.iter().map(|one| (one.name, one.description)))
            });
            let own = command.options.iter().map(|one| (one.name, one.description));
            own.chain(sub).for_each(|(name, description)| check(name, description));
            let lists = std::iter::once(command.options)
                .chain(command.subcommands.iter().map(|(_, _, options)| *options));
            for options in lists {
                assert!(options.is_sorted_by_key(|one| !one.required), "required ones come first");
            }
        }
        assert!(units < 8000);
        assert!(COMMANDS.len() <= 100);
    }

    #[test]
    fn managers_commands_are_for_one_server() {
        let names = |guild| {
            let names = registration(guild);
            let names = names.as_array().unwrap().iter();
            names.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        insta::assert_snapshot!(names(None), @"upcoming next event why remind subscriptions unsubscribe");
        insta::assert_snapshot!(names(Some(7)), @"upcoming next event why remind subscriptions unsubscribe watch refresh");
    }
}

//! Which slash commands there are: the one place where they are named, described and registered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config;
use crate::notify::NotifyError;
use crate::notify::discord::{Bot, CommandList};
use crate::store::{Store, StoreError};

/// Longest search, in UTF-16 units: it must fit into a button.
pub const MAX_SEARCH: usize = 40;
/// Furthest that `/upcoming` looks.
pub const MAX_DAYS: u16 = 365;

/// Where the store keeps in which list of Discord's the commands are.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Unchanged,
    Changed,
    /// None are wanted, and none are listed any more.
    Withdrawn,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Until somebody mends it.
    #[error("{0}")]
    Refused(String),
    /// For now.
    #[error(transparent)]
    Discord(NotifyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotifyError> for RegisterError {
    fn from(error: NotifyError) -> RegisterError {
        match error {
            NotifyError::Permanent { reason } | NotifyError::ReceiverGone { reason, .. } => {
                RegisterError::Refused(reason)
            }
            error => RegisterError::Discord(error),
        }
    }
}

impl RegisterError {
    /// How long Discord asks to be left alone.
    pub fn after(&self) -> Option<Duration> {
        match self {
            RegisterError::Discord(
                NotifyError::Retry { after, .. } | NotifyError::Uncertain { after, .. },
            ) => *after,
            _ => None,
        }
    }
}

/// Sees to it that Discord lists the commands where they are wanted, and nowhere else.
#[derive(Debug, Default)]
pub struct Registrar {
    /// What Discord made of the last registration. Should it write a command otherwise than it was
    /// told, that is no reason to tell it again.
    accepted: Option<Value>,
}

impl Registrar {
    /// Changes what must be changed, and nothing else: names that are new count towards a daily
    /// limit. What is listed is asked of Discord, which forgets the commands of a server with the
    /// bot that is thrown out of it.
    pub async fn register(
        &mut self,
        bot: &Bot,
        store: &Store,
        config: &config::Discord,
    ) -> Result<Registered, RegisterError> {
        let list = match config.commands {
            true => Some(CommandList::of(bot, config).await?),
            false => None,
        };
        let wanted = list.as_ref().map_or("", CommandList::path);
        let noted = store.note(NOTE).await?.unwrap_or_default();
        if noted != wanted {
            if !noted.is_empty() {
                // Else each command would be there twice, or be offered and not answered.
                CommandList::at(&noted).clear(bot).await?;
            }
            // Before there are any: whatever comes between, it is known where they may be.
            store.set_note(NOTE, wanted).await?;
        }
        let Some(list) = list else {
            return Ok(match noted.is_empty() {
                true => Registered::Unchanged,
                false => Registered::Withdrawn,
            });
        };
        let body = registration(config.guild);
        let listed = essence(&list.get(bot).await?);
        if listed == essence(&body) || self.accepted.as_ref() == Some(&listed) {
            return Ok(Registered::Unchanged);
        }
        self.accepted = Some(essence(&list.put(bot, &body).await?));
        Ok(Registered::Changed)
    }
}

/// What of a command people see or fill in; Discord knows more of it, but only of these does beadle
/// say anything.
const SEEN: [&str; 11] = [
    "type",
    "name",
    "description",
    "options",
    "required",
    "autocomplete",
    "max_length",
    "min_value",
    "max_value",
    "choices",
    "default_member_permissions",
];

/// Commands written in one way: Discord adds to them, leaves out what is false or empty, writes
/// permissions as text, and lists them in an order of its own.
fn essence(commands: &Value) -> Value {
    let mut all: Vec<Value> = commands.as_array().into_iter().flatten().map(plain).collect();
    all.sort_by_cached_key(|command| command["name"].to_string());
    Value::Array(all)
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(key, _)| SEEN.contains(&key.as_str()));
            let fields = fields.map(|(key, value)| (key.clone(), plain(value)));
            fields.filter(|(_, value)| !matches!(value, Value::Null)).collect()
        }
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Bool(false) => Value::Null,
        Value::Number(number) => number.to_string().into(),
        other => other.clone(),
    }
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

    /// As Discord answers: with ids, defaults left out or spelt out, and in another order.
    #[test]
    fn what_discord_adds_makes_no_difference_and_what_people_see_does() {
        let body = registration(Some(7));
        let mut listed = body.clone();
        for command in listed.as_array_mut().unwrap() {
            let fields = command.as_object_mut().unwrap();
            for (key, value) in [
                ("id", json!("1")),
                ("version", json!("2")),
                ("nsfw", json!(false)),
                ("name_localizations", Value::Null),
            ] {
                fields.insert(key.to_owned(), value);
            }
            if let Some(permissions) = fields.get_mut("default_member_permissions") {
                *permissions = json!(permissions.to_string());
            } else {
                fields.insert("default_member_permissions".to_owned(), Value::Null);
            }
            if fields["options"] == json!([]) {
                fields.remove("options");
            }
            for option in
                fields.get_mut("options").and_then(Value::as_array_mut).unwrap_or(&mut Vec::new())
            {
                let option = option.as_object_mut().unwrap();
                if option.get("required") == Some(&json!(false)) {
                    option.remove("required");
                }
            }
        }
        listed.as_array_mut().unwrap().reverse();
        assert_eq!(essence(&listed), essence(&body));

        for (pointer, other) in [
            ("/0/description", json!("other words")),
            ("/6/options/0/required", json!(false)),
            ("/8/options/0/max_value", json!(7)),
            ("/0/default_member_permissions", json!("8")),
            ("/0", json!(null)),
        ] {
            let mut changed = listed.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert_ne!(essence(&changed), essence(&body), "{pointer}");
        }
        assert_ne!(essence(&json!([])), essence(&body));
    }
}

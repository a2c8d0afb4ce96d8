//! What Discord says somebody did, read from its JSON. Pure; nothing in it is believed further
//! than it must be.
//!
//! <https://docs.discord.com/developers/interactions/receiving-and-responding#interaction-object>

use serde_json::Value;

/// Permission to manage the server: `1 << 5`, or `1 << 3` (administrator), which includes it.
/// <https://docs.discord.com/developers/topics/permissions>
const MANAGE_GUILD: u64 = 1 << 5;
const ADMINISTRATOR: u64 = 1 << 3;

/// Longest text taken from an option, in characters.
const MAX_TEXT: usize = 200;

/// Something that somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interaction {
    /// For the first answer.
    pub id: u64,
    pub application: u64,
    /// The right to answer, for 15 minutes.
    pub token: Token,
    pub person: Person,
    pub act: Act,
}

/// Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// For the path of a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Who did it, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: u64,
    /// None in direct messages.
    pub guild: Option<u64>,
    /// In the channel where it was done; none in direct messages.
    permissions: u64,
}

impl Person {
    #[cfg(test)]
    pub const fn new(id: u64, guild: Option<u64>, permissions: u64) -> Person {
        Person { id, guild, permissions }
    }

    /// Whether this person manages the server that `guild` names. Without one there is none whose
    /// managers could be trusted: anybody can invite a public bot to a server of their own.
    pub fn manages(&self, guild: Option<u64>) -> bool {
        let here = guild.is_some() && self.guild == guild;
        here && self.permissions & (MANAGE_GUILD | ADMINISTRATOR) != 0
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Discord asks whether anybody is there.
    Ping,
    Command(Command),
    /// Somebody is typing into an option.
    Typing {
        command: Command,
        /// The option's name, and what is in it so far.
        option: String,
        text: String,
    },
    /// A button was pressed, or something chosen from a menu.
    Press {
        custom_id: String,
        values: Vec<String>,
    },
}

/// A slash command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub subcommand: Option<String>,
    /// By name; numbers and truth values as text.
    options: Vec<(String, String)>,
}

impl Command {
    pub fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    #[cfg(test)]
    pub fn new(name: &str, options: &[(&str, &str)]) -> Command {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Command { name: name.into(), subcommand: None, options: options.collect() }
    }
}

/// Reads an interaction; none where it is not one, or of a kind that beadle did not ask for.
pub fn parse(json: &Value) -> Option<Interaction> {
    let data = &json["data"];
    let act = match json["type"].as_u64()? {
        1 => Act::Ping,
        2 => Act::Command(command(data).0),
        4 => {
            let (command, focused) = command(data);
            let (option, text) = focused?;
            Act::Typing { command, option, text }
        }
        3 => Act::Press {
            custom_id: data["custom_id"].as_str()?.to_owned(),
            values: strings(&data["values"]),
        },
        _ => return None,
    };
    let member = &json["member"];
    let user = if member.is_object() { &member["user"] } else { &json["user"] };
    let permissions = member["permissions"].as_str().and_then(|text| text.parse().ok());
    let token = json["token"].as_str().unwrap_or_default();
    // It becomes part of a path.
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
    let person = snowflake(&user["id"]);
    if act != Act::Ping && (person.is_none() || token.is_empty() || !token.chars().all(is_token)) {
        return None;
    }
    Some(Interaction {
        id: snowflake(&json["id"])?,
        application: snowflake(&json["application_id"])?,
        token: Token(token.to_owned()),
        person: Person {
            id: person.unwrap_or_default(),
            guild: snowflake(&json["guild_id"]),
            permissions: permissions.unwrap_or_default(),
        },
        act,
    })
}

fn snowflake(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok().filter(|id| *id > 0)
}

fn strings(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    values.take(25).map(str::to_owned).collect()
}

/// The command, and the option that somebody is typing into.
fn command(data: &Value) -> (Command, Option<(String, String)>) {
    let mut command = Command {
        name: data["name"].as_str().unwrap_or_default().to_owned(),
        ..Command::default()
    };
    let mut options = &data["options"];
    // Type 1 is a subcommand, with its own options inside.
    if let Some(first) = options.get(0).filter(|first| first["type"] == 1) {
        command.subcommand = first["name"].as_str().map(str::to_owned);
        options = &first["options"];
    }
    let mut focused = None;
    for option in options.as_array().into_iter().flatten().take(25) {
        let name = option["name"].as_str().unwrap_or_default().to_owned();
        let text: String = match &option["value"] {
            Value::String(text) => text.chars().take(MAX_TEXT).collect(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        if option["focused"] == true {
            focused = Some((name.clone(), text.clone()));
        }
        command.options.push((name, text));
    }
    (command, focused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "id": "11", "application_id": "22", "type": 2, "token": "aW50_er-action.1",
            "guild_id": "33", "channel_id": "44", "locale": "de",
            "member": { "user": { "id": "55", "username": "mallory" }, "permissions": "32" },
            "data": { "id": "66", "type": 1, "name": "watch", "options": [
                { "type": 1, "name": "pause", "options": [
                    { "type": 3, "name": "watch", "value": "seminars", "focused": true },
                    { "type": 4, "name": "days", "value": 7 },
                ] },
            ] },
        })
    }

    #[test]
    fn a_command_is_read() {
        let read = parse(&sample()).unwrap();
        let Act::Command(command) = &read.act else { panic!("{read:?}") };
        assert_eq!(
            (command.name.as_str(), command.subcommand.as_deref()),
            ("watch", Some("pause"))
        );
        assert_eq!(command.option("watch"), Some("seminars"));
        assert_eq!(command.option("days"), Some("7"));
        assert_eq!(command.option("other"), None);
        assert_eq!(read.person, Person::new(55, Some(33), 32));
        assert!(!format!("{read:?}").contains("aW50"), "a token is not shown");

        let mut typing = sample();
        typing["type"] = json!(4);
        let Some(Act::Typing { option, text, .. }) = parse(&typing).map(|read| read.act) else {
            panic!("not read");
        };
        assert_eq!((option.as_str(), text.as_str()), ("watch", "seminars"));
    }

    #[test]
    fn what_is_no_interaction_is_none() {
        let without = |key: &str, value: Value| {
            let mut json = sample();
            json[key] = value;
            json
        };
        let bad = [
            json!(null),
            json!([]),
            json!({}),
            without("id", json!("x")),
            without("id", json!(11)),
            without("type", json!(99)),
            without("type", json!(3)),
            without("token", json!("../../users/@me")),
            without("token", json!("")),
            without("member", json!({ "permissions": "8" })),
            without("application_id", json!("0")),
        ];
        for json in bad {
            assert_eq!(parse(&json), None, "{json}");
        }
    }

    #[test]
    fn only_managers_of_the_configured_server_manage() {
        for (guild, permissions, configured, expected) in [
            (Some(33), 32, Some(33), true),
            (Some(33), 8, Some(33), true),
            (Some(33), 16, Some(33), false),
            (Some(34), 32, Some(33), false),
            (Some(33), 32, None, false),
            (None, 32, Some(33), false),
            (None, u64::MAX, None, false),
        ] {
            let person = Person::new(1, guild, permissions);
            assert_eq!(person.manages(configured), expected, "{person:?}");
        }
    }
}

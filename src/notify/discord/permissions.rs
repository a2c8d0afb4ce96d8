//! What a bot may do in a channel. Pure.
//! <https://docs.discord.com/developers/topics/permissions>

use std::collections::HashMap;

use serde_json::Value;
use serenity::all::Permissions;

use crate::notify::one_line;

/// Newer than the library's list.
pub(super) const PIN_MESSAGES: Permissions = Permissions::from_bits_retain(1 << 51);

/// By the names that people see in Discord's settings.
const NAMES: [(Permissions, &str); 10] = [
    (Permissions::VIEW_CHANNEL, "View Channel"),
    (Permissions::SEND_MESSAGES, "Send Messages"),
    (Permissions::CREATE_PUBLIC_THREADS, "Create Public Threads"),
    (Permissions::SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
    (Permissions::EMBED_LINKS, "Embed Links"),
    (Permissions::READ_MESSAGE_HISTORY, "Read Message History"),
    (Permissions::MENTION_EVERYONE, "Mention @everyone, @here, and All Roles"),
    (Permissions::MANAGE_THREADS, "Manage Threads"),
    (Permissions::CREATE_EVENTS, "Create Events"),
    (PIN_MESSAGES, "Pin Messages"),
];

/// `View Channel, Send Messages and Embed Links`.
pub(super) fn names(permissions: Permissions) -> String {
    let held = NAMES.iter().filter(|(one, _)| permissions.contains(*one));
    let names: Vec<&str> = held.map(|(_, name)| *name).collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn read(value: Option<&Value>) -> Permissions {
    let bits = value.and_then(Value::as_str).and_then(|text| text.parse().ok());
    Permissions::from_bits_retain(bits.unwrap_or_default())
}

/// What a member may do in a server as a whole: objects as the API gives them, the server with its
/// roles.
pub(super) fn in_guild(guild: &Value, member: &Value, me: &str) -> Permissions {
    if guild.get("owner_id").and_then(Value::as_str) == Some(me) {
        return Permissions::from_bits_retain(u64::MAX);
    }
    // The role of everyone has the id of the server.
    let (everyone, mine) = (id(guild), roles(member));
    let base = list(guild, "roles")
        .filter(|role| id(role) == everyone || mine.contains(&id(role)))
        .fold(Permissions::empty(), |sum, role| sum | read(role.get("permissions")));
    match base.contains(Permissions::ADMINISTRATOR) {
        true => Permissions::from_bits_retain(u64::MAX),
        false => base,
    }
}

/// What a member may do in a channel. Of a thread, `channel` is the one that it belongs to.
pub(super) fn in_channel(guild: &Value, member: &Value, channel: &Value, me: &str) -> Permissions {
    let mut may = in_guild(guild, member, me);
    if may.contains(Permissions::ADMINISTRATOR) {
        return may;
    }
    let overwrites: HashMap<&str, (Permissions, Permissions)> =
        list(channel, "permission_overwrites")
            .map(|one| (id(one), (read(one.get("deny")), read(one.get("allow")))))
            .collect();
    // First those of everyone, then those of all roles together, last the member's own.
    let of_roles = roles(member).into_iter().filter_map(|role| overwrites.get(role));
    let of_roles = of_roles.fold((Permissions::empty(), Permissions::empty()), |sum, one| {
        (sum.0 | one.0, sum.1 | one.1)
    });
    let steps = [overwrites.get(id(guild)), Some(&of_roles), overwrites.get(me)];
    for (deny, allow) in steps.into_iter().flatten() {
        may = may.difference(*deny) | *allow;
    }
    // Who cannot see a channel can do nothing there.
    if may.contains(Permissions::VIEW_CHANNEL) { may } else { Permissions::empty() }
}

/// Those of the roles that only who may call everyone may call; none where one of them is not the
/// server's.
/// <https://docs.discord.com/developers/topics/permissions#role-object>
pub(super) fn not_mentionable(guild: &Value, called: &[u64]) -> Result<Vec<String>, u64> {
    let mut guarded = Vec::new();
    for role in called {
        let name = role.to_string();
        let found = list(guild, "roles").find(|one| id(one) == name).ok_or(*role)?;
        if found.get("mentionable").and_then(Value::as_bool) != Some(true) {
            let named = found.get("name").and_then(Value::as_str).map(one_line);
            guarded.push(named.unwrap_or(name));
        }
    }
    Ok(guarded)
}

fn id(of: &Value) -> &str {
    of.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn roles(member: &Value) -> Vec<&str> {
    list(member, "roles").filter_map(Value::as_str).collect()
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VIEW: u64 = 1 << 10;
    const SEND: u64 = 1 << 11;
    const EMBED: u64 = 1 << 14;

    fn may(everyone: u64, role: u64, overwrites: &[(&str, u64, u64)], owner: &str) -> u64 {
        let guild = json!({ "id": "5", "owner_id": owner, "roles": [
            { "id": "5", "permissions": everyone.to_string() },
            { "id": "6", "permissions": role.to_string() },
            { "id": "66", "permissions": (1 << 3).to_string() },
        ]});
        let overwrites: Vec<Value> = overwrites
            .iter()
            .map(|(id, deny, allow)| {
                json!({ "id": id, "deny": deny.to_string(), "allow": allow.to_string() })
            })
            .collect();
        let channel = json!({ "permission_overwrites": overwrites });
        in_channel(&guild, &json!({ "roles": ["6"] }), &channel, "1").bits()
    }

    #[test]
    fn roles_and_overwrites_in_their_order() {
        assert_eq!(may(VIEW, SEND, &[], "2"), VIEW | SEND);
        assert_eq!(may(VIEW, 0, &[], "1"), u64::MAX, "the owner");
        assert_eq!(may(0, 1 << 3, &[("5", VIEW, 0)], "2"), u64::MAX, "an administrator");
        assert_eq!(may(VIEW | SEND, 0, &[("5", SEND, EMBED)], "2"), VIEW | EMBED);
        assert_eq!(may(VIEW, 0, &[("5", VIEW, 0), ("6", 0, VIEW)], "2"), VIEW, "the role's word");
        let own = [("6", 0, SEND), ("1", SEND, EMBED), ("7", VIEW, 0)];
        assert_eq!(may(VIEW, 0, &own, "2"), VIEW | EMBED, "its own is the last word");
        assert_eq!(may(SEND, EMBED, &[], "2"), 0, "who cannot see can do nothing");
    }

    #[test]
    fn in_the_server_no_channel_bears_on_it() {
        let guild = json!({ "id": "5", "owner_id": "2", "roles": [
            { "id": "5", "permissions": VIEW.to_string() },
            { "id": "6", "permissions": (1_u64 << 44).to_string() },
        ]});
        let may = |roles: Value| in_guild(&guild, &json!({ "roles": roles }), "1");
        assert_eq!(may(json!([])), Permissions::VIEW_CHANNEL);
        assert!(may(json!(["6"])).contains(Permissions::CREATE_EVENTS));
    }

    #[test]
    fn what_is_not_understood_is_not_allowed() {
        assert_eq!(in_channel(&json!({}), &json!({}), &json!({}), "1"), Permissions::empty());
        let odd = json!({ "id": "5", "roles": [{ "id": "5", "permissions": 7 }, 3, null] });
        assert_eq!(in_channel(&odd, &json!({ "roles": 3 }), &json!([]), "1"), Permissions::empty());
    }

    #[test]
    fn names_are_those_of_the_settings() {
        assert_eq!(names(Permissions::EMBED_LINKS), "Embed Links");
        let both = Permissions::EMBED_LINKS | PIN_MESSAGES;
        assert_eq!(names(both), "Embed Links and Pin Messages");
    }
}

//! What a bot may do in a channel. Pure.
//! <https://docs.discord.com/developers/topics/permissions>

use std::collections::HashMap;

use serde_json::Value;
use serenity::all::Permissions;

/// Newer than the library's list.
pub(super) const PIN_MESSAGES: Permissions = Permissions::from_bits_retain(1 << 51);

/// By the names that people see in Discord's settings.
const NAMES: [(Permissions, &str); 9] = [
    (Permissions::VIEW_CHANNEL, "View Channel"),
    (Permissions::SEND_MESSAGES, "Send Messages"),
    (Permissions::CREATE_PUBLIC_THREADS, "Create Public Threads"),
    (Permissions::SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
    (Permissions::EMBED_LINKS, "Embed Links"),
    (Permissions::READ_MESSAGE_HISTORY, "Read Message History"),
    (Permissions::MENTION_EVERYONE, "Mention @everyone, @here, and All Roles"),
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

/// What a member may do in a channel: objects as the API gives them, the guild with its roles. Of a
/// thread, `channel` is the one that it belongs to.
pub(super) fn in_channel(guild: &Value, member: &Value, channel: &Value, me: &str) -> Permissions {
    let id = |of: &Value| of.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if guild.get("owner_id").and_then(Value::as_str) == Some(me) {
        return Permissions::from_bits_retain(u64::MAX);
    }
    // The role of everyone has the id of the guild.
    let everyone = id(guild);
    let mine: Vec<&str> = list(member, "roles").filter_map(Value::as_str).collect();
    let mut base = Permissions::empty();
    for role in list(guild, "roles") {
        let role_id = id(role);
        if role_id == everyone || mine.contains(&role_id.as_str()) {
            base |= read(role.get("permissions"));
        }
    }
    if base.contains(Permissions::ADMINISTRATOR) {
        return Permissions::from_bits_retain(u64::MAX);
    }
    let overwrites: HashMap<String, (Permissions, Permissions)> =
        list(channel, "permission_overwrites")
            .map(|one| (id(one), (read(one.get("deny")), read(one.get("allow")))))
            .collect();
    // First those of everyone, then those of all roles together, last the member's own.
    let mut may = base;
    let of_roles = mine.iter().filter_map(|role| overwrites.get(*role));
    let of_roles = of_roles.fold((Permissions::empty(), Permissions::empty()), |sum, one| {
        (sum.0 | one.0, sum.1 | one.1)
    });
    let steps = [overwrites.get(&everyone), Some(&of_roles), overwrites.get(me)];
    for (deny, allow) in steps.into_iter().flatten() {
        may = may.difference(*deny) | *allow;
    }
    // Who cannot see a channel can do nothing there.
    if may.contains(Permissions::VIEW_CHANNEL) { may } else { Permissions::empty() }
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

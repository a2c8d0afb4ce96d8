//! What a bot may do in a channel. Pure.
//! <https://docs.discord.com/developers/topics/permissions>

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

/// A set of permissions, as Discord writes it: one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    pub const NONE: Permissions = Permissions(0);
    const ALL: Permissions = Permissions(u64::MAX);
    const ADMINISTRATOR: Permissions = Permissions(1 << 3);
    pub const VIEW_CHANNEL: Permissions = Permissions(1 << 10);
    pub const SEND_MESSAGES: Permissions = Permissions(1 << 11);
    pub const EMBED_LINKS: Permissions = Permissions(1 << 14);
    pub const READ_MESSAGE_HISTORY: Permissions = Permissions(1 << 16);
    pub const MENTION_EVERYONE: Permissions = Permissions(1 << 17);
    pub const CREATE_PUBLIC_THREADS: Permissions = Permissions(1 << 35);
    pub const SEND_MESSAGES_IN_THREADS: Permissions = Permissions(1 << 38);

    /// By the names that people see in Discord's settings.
    const NAMES: [(Permissions, &str); 7] = [
        (Self::VIEW_CHANNEL, "View Channel"),
        (Self::SEND_MESSAGES, "Send Messages"),
        (Self::CREATE_PUBLIC_THREADS, "Create Public Threads"),
        (Self::SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
        (Self::EMBED_LINKS, "Embed Links"),
        (Self::READ_MESSAGE_HISTORY, "Read Message History"),
        (Self::MENTION_EVERYONE, "Mention @everyone, @here and All Roles"),
    ];

    /// For an invitation.
    pub fn bits(self) -> u64 {
        self.0
    }

    pub const fn and(self, others: Permissions) -> Permissions {
        Permissions(self.0 | others.0)
    }

    pub const fn without(self, others: Permissions) -> Permissions {
        Permissions(self.0 & !others.0)
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    fn has(self, all: Permissions) -> bool {
        all.without(self).is_none()
    }

    fn read(value: Option<&Value>) -> Permissions {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        Permissions(text.parse().unwrap_or_default())
    }
}

impl fmt::Display for Permissions {
    /// `View Channel, Send Messages and Embed Links`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Self::NAMES
            .into_iter()
            .filter(|(one, _)| self.has(*one))
            .map(|(_, name)| name)
            .collect();
        match names.as_slice() {
            [] => f.write_str("nothing"),
            [one] => f.write_str(one),
            [most @ .., last] => write!(f, "{} and {last}", most.join(", ")),
        }
    }
}

/// What a member may do in a channel: objects as the API gives them, the guild with its roles. Of a
/// thread, `channel` is the one that it belongs to.
pub(super) fn in_channel(guild: &Value, member: &Value, channel: &Value, me: &str) -> Permissions {
    let id = |of: &Value| of.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if guild.get("owner_id").and_then(Value::as_str) == Some(me) {
        return Permissions::ALL;
    }
    // The role of everyone has the id of the guild.
    let everyone = id(guild);
    let mine: Vec<&str> = list(member, "roles").filter_map(Value::as_str).collect();
    let mut base = Permissions::NONE;
    for role in list(guild, "roles") {
        let role_id = id(role);
        if role_id == everyone || mine.contains(&role_id.as_str()) {
            base = base.and(Permissions::read(role.get("permissions")));
        }
    }
    if base.has(Permissions::ADMINISTRATOR) {
        return Permissions::ALL;
    }
    let overwrites: HashMap<String, (Permissions, Permissions)> =
        list(channel, "permission_overwrites")
            .map(|one| {
                let read = |name| Permissions::read(one.get(name));
                (id(one), (read("deny"), read("allow")))
            })
            .collect();
    // First those of everyone, then those of all roles together, last the member's own.
    let mut may = base;
    let of_roles = mine.iter().filter_map(|role| overwrites.get(*role));
    let of_roles = of_roles.fold((Permissions::NONE, Permissions::NONE), |sum, one| {
        (sum.0.and(one.0), sum.1.and(one.1))
    });
    let steps = [overwrites.get(&everyone), Some(&of_roles), overwrites.get(me)];
    for (deny, allow) in steps.into_iter().flatten() {
        may = may.without(*deny).and(*allow);
    }
    // Who cannot see a channel can do nothing there.
    if may.has(Permissions::VIEW_CHANNEL) { may } else { Permissions::NONE }
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
        assert_eq!(in_channel(&json!({}), &json!({}), &json!({}), "1"), Permissions::NONE);
        let odd = json!({ "id": "5", "roles": [{ "id": "5", "permissions": 7 }, 3, null] });
        assert_eq!(in_channel(&odd, &json!({ "roles": 3 }), &json!([]), "1"), Permissions::NONE);
    }

    #[test]
    fn names_are_those_of_the_settings() {
        let both = Permissions::VIEW_CHANNEL.and(Permissions::EMBED_LINKS);
        assert_eq!(both.to_string(), "View Channel and Embed Links");
        assert_eq!(Permissions::EMBED_LINKS.to_string(), "Embed Links");
    }
}

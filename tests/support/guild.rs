//! The part of the Discord stand-in that changes what is there: messages edited, pinned, removed
//! and listed, and the scheduled events of a guild.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::discord::{DiscordStandIn, Message, Request};

/// What has become of the messages, and the events.
#[derive(Debug, Default)]
pub struct Board {
    removed: BTreeSet<String>,
    pins: BTreeSet<String>,
    /// By id, as Discord describes them.
    events: BTreeMap<u64, Value>,
    /// Of channels no messages can be read.
    pub(super) hides_history: bool,
}

const ME: &str = "1";

impl DiscordStandIn {
    /// The messages that a reader finds now: those posted, as edited, without those removed.
    pub fn standing(&self) -> Vec<Message> {
        let mut messages = self.messages();
        let removed = self.inside().board.removed.clone();
        messages.retain(|message| !removed.contains(&message.id));
        messages
    }

    /// Others talk in a channel.
    pub fn chat(&self, channel: u64, messages: usize) {
        let state = &mut *self.inside();
        for n in 0..messages {
            state.say(channel, json!({ "content": format!("chat {n}"), "author": { "id": "99" } }));
        }
    }

    /// Someone removes a message.
    pub fn remove_by_hand(&self, id: &str) {
        self.inside().board.removed.insert(id.to_owned());
    }

    /// The ids of the pinned messages.
    pub fn pins(&self) -> Vec<String> {
        self.inside().board.pins.iter().cloned().collect()
    }

    /// The scheduled events: name, start and status.
    pub fn scheduled(&self) -> Vec<(String, String, u64)> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let one = |event: &Value| {
            let status = event["status"].as_u64().unwrap();
            (text(event, "name"), text(event, "scheduled_start_time"), status)
        };
        self.events().iter().map(one).collect()
    }

    /// The scheduled events as Discord describes them.
    pub fn events(&self) -> Vec<Value> {
        self.inside().board.events.values().cloned().collect()
    }

    /// Someone makes an event of their own.
    pub fn foreign_event(&self, name: &str, start: &str) {
        let body = json!({ "name": name, "scheduled_start_time": start });
        self.inside().board.create("5", &body, "99");
    }

    /// Someone removes all events, or the clock does something to them.
    pub fn change_events(&self, mut keep: impl FnMut(&mut Value) -> bool) {
        self.inside().board.events.retain(|_, event| keep(event));
    }
}

impl Board {
    /// What Discord would do, and answer; none where the request is none of these.
    pub fn perform<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a mut Message>,
        request: &Request,
    ) -> Option<(u16, Value)> {
        let path = request.path.split('?').next()?.strip_prefix("/api/v10/")?;
        let parts: Vec<&str> = path.split('/').collect();
        let method = request.method.as_str();
        match (method, parts.as_slice()) {
            ("GET", ["channels", _, "messages"]) if self.hides_history => Some((200, json!([]))),
            ("GET", ["channels", id, "messages"]) => {
                let target = format!("channels/{id}");
                let there = messages.filter(|one| one.target == target);
                let there = there.filter(|one| !self.removed.contains(&one.id));
                let mut list: Vec<Value> = there.map(|one| described(one)).collect();
                list.reverse();
                let limit = request.path.split("limit=").nth(1)?.split('&').next()?.parse().ok()?;
                list.truncate(limit);
                Some((200, Value::Array(list)))
            }
            ("GET", ["channels", id, "messages", "pins"]) => {
                let target = format!("channels/{id}");
                let pinned = messages.filter(|one| one.target == target);
                let pinned = pinned.filter(|one| self.pins.contains(&one.id));
                let pinned = pinned.filter(|one| !self.removed.contains(&one.id));
                let item = |one: &mut Message| json!({ "message": described(one) });
                Some((200, json!({ "items": pinned.map(item).collect::<Vec<_>>() })))
            }
            ("PUT" | "DELETE", ["channels", _, "messages", "pins", id]) => {
                if !self.there(messages, id) {
                    return Some(unknown(10008, "Unknown Message"));
                }
                match method {
                    "PUT" => self.pins.insert((*id).to_owned()),
                    _ => self.pins.remove(*id),
                };
                Some((204, Value::Null))
            }
            (_, ["channels", _, "messages", id] | ["webhooks", _, _, "messages", id]) => {
                let mut messages = messages;
                let found = messages.find(|one| one.id == *id);
                let Some(message) = found.filter(|_| !self.removed.contains(*id)) else {
                    return Some(unknown(10008, "Unknown Message"));
                };
                match method {
                    "GET" => {}
                    "PATCH" => {
                        for (name, value) in request.json.as_object()? {
                            message.body[name] = value.clone();
                        }
                    }
                    "DELETE" => {
                        self.removed.insert((*id).to_owned());
                        return Some((204, Value::Null));
                    }
                    _ => return None,
                }
                Some((200, described(message)))
            }
            ("GET", ["guilds", _, "scheduled-events"]) => {
                Some((200, self.events.values().cloned().collect()))
            }
            ("POST", ["guilds", id, "scheduled-events"]) => {
                let open = |event: &&Value| matches!(event["status"].as_u64(), Some(1 | 2));
                if self.events.values().filter(open).count() >= 100 {
                    let text = "Maximum number of uncompleted guild scheduled events reached (100)";
                    return Some((400, json!({ "code": 30038, "message": text })));
                }
                Some((200, self.create(id, &request.json, ME)))
            }
            (_, ["guilds", _, "scheduled-events", id]) => {
                let id: u64 = id.parse().ok()?;
                Some(self.on_event(method, id, &request.json))
            }
            _ => None,
        }
    }

    fn there<'a>(&self, mut messages: impl Iterator<Item = &'a mut Message>, id: &str) -> bool {
        messages.any(|one| one.id == id) && !self.removed.contains(id)
    }

    fn create(&mut self, guild: &str, body: &Value, creator: &str) -> Value {
        let id = 1_500_000_000_000_000_000 + self.events.keys().max().map_or(0, |id| id % 1000 + 1);
        let mut event = body.clone();
        event["id"] = json!(id.to_string());
        event["guild_id"] = json!(guild);
        event["creator_id"] = json!(creator);
        event["status"] = json!(1);
        // As Discord writes it.
        let start = body["scheduled_start_time"].as_str().unwrap().replace('Z', "+00:00");
        event["scheduled_start_time"] = json!(start);
        self.events.insert(id, event.clone());
        event
    }

    fn on_event(&mut self, method: &str, id: u64, body: &Value) -> (u16, Value) {
        let Some(event) = self.events.get_mut(&id) else {
            return unknown(10070, "Unknown Guild Scheduled Event");
        };
        match method {
            "GET" => (200, event.clone()),
            "DELETE" => {
                self.events.remove(&id);
                (204, Value::Null)
            }
            _ => {
                let status = event["status"].as_u64().unwrap();
                let refused =
                    |code: u64, text: &str| (400, json!({ "code": code, "message": text }));
                if matches!(status, 3 | 4) {
                    return refused(180_000, "Cannot update a finished event");
                }
                let next = body["status"].as_u64().unwrap_or(status);
                if !matches!((status, next), (1, 1 | 2 | 4) | (2, 2 | 3)) {
                    return refused(50035, "no such transition");
                }
                if status == 2 && body.get("scheduled_start_time").is_some() {
                    return refused(50035, "it has begun");
                }
                for (name, value) in body.as_object().unwrap() {
                    event[name] = match value.as_str() {
                        Some(text) if name.ends_with("_time") => json!(text.replace('Z', "+00:00")),
                        _ => value.clone(),
                    };
                }
                (200, event.clone())
            }
        }
    }
}

/// A message as it is listed. Its time is later than any of the tests.
fn described(message: &Message) -> Value {
    let author = message.body.get("author").cloned();
    json!({
        "id": message.id,
        "author": author.unwrap_or_else(|| json!({ "id": ME, "bot": true })),
        "timestamp": "2099-01-01T00:00:00.000000+00:00",
        "embeds": message.body["embeds"],
    })
}

fn unknown(code: u64, text: &str) -> (u16, Value) {
    (404, json!({ "code": code, "message": text }))
}

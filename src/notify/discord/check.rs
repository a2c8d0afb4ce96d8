//! What the bot needs, and whether it has it: for `beadle check` and `beadle discord invite`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use serenity::all::Permissions;

use super::permissions::{PIN_MESSAGES, in_channel, in_guild, names, not_mentionable};
use super::{Bot, CommandList, gone, text};
use crate::config::{self, Config, Receiver, Via};
use crate::notify::NotifyError;
use crate::plan::Agenda;

/// To post, and to find its own posts again after a crash. To edit, publish and remove what it has
/// posted takes no more, nor does giving its own threads another name.
const POSTING: Permissions = Permissions::VIEW_CHANNEL
    .union(Permissions::SEND_MESSAGES)
    .union(Permissions::EMBED_LINKS)
    .union(Permissions::READ_MESSAGE_HISTORY);

/// Native events, which the bot changes by the same permission as it made them.
const EVENTS: Permissions = Permissions::CREATE_EVENTS;

// Channel types: https://docs.discord.com/developers/resources/channel#channel-object-channel-types
const CATEGORY: u64 = 4;
const THREADS: [u64; 3] = [10, 11, 12];
const FORUMS: [u64; 2] = [15, 16];

/// What kind of place a channel is, as far as permissions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thread,
    Forum,
}

/// What is asked of a channel beyond taking messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// A thread for each event.
    pub threads: bool,
    /// Tags, by name in lower case or by id, which only a forum has.
    pub tags: BTreeSet<String>,
    /// Its agenda is pinned.
    pins: bool,
    /// Roles that are called.
    roles: Vec<u64>,
}

impl Needs {
    /// Of a receiver that the bot posts to; none of others.
    pub fn of(config: &Config, receiver: &Receiver) -> Option<Needs> {
        let target = receiver.discord.as_ref()?;
        let Via::Channel { .. } = target.via else { return None };
        let pinned = |agenda: &Agenda| agenda.pin && agenda.to.contains(&receiver.name);
        let watches = config.watches.iter().filter(|watch| watch.to.contains(&receiver.name));
        let mut roles: Vec<u64> = watches
            .filter_map(|watch| config.pings.get(&watch.name))
            .flat_map(|ping| [&ping.new, &ping.changed, &ping.cancelled, &ping.reminder])
            .flatten()
            .copied()
            .collect();
        roles.sort_unstable();
        roles.dedup();
        Some(Needs {
            threads: target.thread_per_event,
            tags: target.tags.values().map(|tag| tag.to_lowercase()).collect(),
            pins: config.agendas.iter().any(pinned),
            roles,
        })
    }

    /// In a place of that kind, as far as the configuration knows.
    fn permissions(&self, kind: Kind) -> Permissions {
        let mut needed = match (kind, self.threads) {
            (Kind::Text, false) => POSTING,
            (Kind::Text, true) => {
                POSTING | Permissions::CREATE_PUBLIC_THREADS | Permissions::SEND_MESSAGES_IN_THREADS
            }
            // A post is a message, and what follows it is in a thread.
            (Kind::Forum, _) => POSTING | Permissions::SEND_MESSAGES_IN_THREADS,
            (Kind::Thread, _) => {
                POSTING.difference(Permissions::SEND_MESSAGES)
                    | Permissions::SEND_MESSAGES_IN_THREADS
            }
        };
        if self.pins {
            needed |= PIN_MESSAGES;
        }
        needed
    }
}

/// What can be asked of Discord about the bot, its servers and channels.
struct Inquiry<'a> {
    bot: &'a Bot,
    /// The bot's own id.
    me: String,
}

impl<'a> Inquiry<'a> {
    async fn begin(bot: &'a Bot) -> Result<Inquiry<'a>, NotifyError> {
        let user = get(bot, "/users/@me").await?;
        Ok(Inquiry { bot, me: text(&user, "id").unwrap_or_default() })
    }

    /// A server, and the bot as a member of it.
    async fn guild(&self, id: &str) -> Result<(Value, Value), NotifyError> {
        let guild = get(self.bot, &format!("/guilds/{id}")).await?;
        let member = get(self.bot, &format!("/guilds/{id}/members/{}", self.me)).await?;
        Ok((guild, member))
    }
}

async fn get(bot: &Bot, path: &str) -> Result<Value, NotifyError> {
    bot.call(Method::GET, path, None).await?.accepted().cloned()
}

/// Whether the bot can do in a channel what the configuration asks of it; gives what the channel is
/// called.
pub(super) async fn channel(bot: &Bot, id: u64, needs: &Needs) -> Result<String, NotifyError> {
    let inquiry = Inquiry::begin(bot).await?;
    let channel = get(bot, &format!("/channels/{id}")).await?;
    let name = text(&channel, "name").map_or_else(|| id.to_string(), |name| format!("#{name}"));
    let (kind, what) = match channel.get("type").and_then(Value::as_u64).unwrap_or_default() {
        CATEGORY => return Err(is_category(&name)),
        kind if THREADS.contains(&kind) => (Kind::Thread, "thread"),
        kind if FORUMS.contains(&kind) => (Kind::Forum, "forum"),
        _ => (Kind::Text, "channel"),
    };
    if kind == Kind::Thread && needs.threads {
        return Err(is_a_thread(&name));
    }
    // A direct message belongs to no server.
    let Some(guild) = text(&channel, "guild_id") else { return Ok(format!("{what} {name}")) };
    let (guild, member) = inquiry.guild(&guild).await?;
    let server = text(&guild, "name").unwrap_or_default();
    let holder = match text(&channel, "parent_id").filter(|_| kind == Kind::Thread) {
        Some(parent) => &get(bot, &format!("/channels/{parent}")).await?,
        None => &channel,
    };
    let mut needed = needs.permissions(kind);
    let guarded = not_mentionable(&guild, &needs.roles).map_err(|role| {
        gone(format!("{server} has no role {role}, which `ping` names: correct its id"))
    })?;
    if !guarded.is_empty() {
        needed |= Permissions::MENTION_EVERYONE;
    }
    if kind == Kind::Forum && has_moderated(&channel, &needs.tags) {
        needed |= Permissions::MANAGE_THREADS;
    }
    let missing = needed.difference(in_channel(&guild, &member, holder, &inquiry.me));
    if missing.is_empty() {
        return Ok(format!("{what} {name} of {server}"));
    }
    let mut reason = format!(
        "in {name} of {server} the bot lacks {}: allow it in the channel's settings under \
         Permissions, for the bot or its role",
        names(missing)
    );
    if missing == Permissions::MENTION_EVERYONE {
        let roles = guarded.join(", ");
        reason += &format!("; or let anyone mention {roles}, in the server's settings under Roles");
    }
    Err(gone(reason))
}

/// Whether one of the tags is only for those who may manage threads.
/// <https://docs.discord.com/developers/resources/channel#forum-tag-object>
fn has_moderated(forum: &Value, tags: &BTreeSet<String>) -> bool {
    let known = forum.get("available_tags").and_then(Value::as_array);
    known.into_iter().flatten().any(|tag| {
        let is = |key| text(tag, key).is_some_and(|word| tags.contains(&word.to_lowercase()));
        tag.get("moderated").and_then(Value::as_bool) == Some(true) && (is("id") || is("name"))
    })
}

/// Whether the bot is who the configuration says, and in each server that it names beside the
/// channels, and may do there what it must. Each with what it is about.
pub async fn servers(bot: &Bot, config: &Config) -> Vec<(String, Result<String, NotifyError>)> {
    let mut found = vec![("bot".to_owned(), application(bot, &config.discord).await)];
    if config.discord.commands {
        found.push(("commands".to_owned(), commands(bot, &config.discord).await));
    }
    for one in &config.scheduled_events {
        let name = format!("scheduled events {}", one.name);
        found.push((name, server(bot, one.guild, EVENTS).await));
    }
    found
}

/// Whether the token is good, and the application the one that is configured.
async fn application(bot: &Bot, config: &config::Discord) -> Result<String, NotifyError> {
    let found = get(bot, "/applications/@me").await?;
    let id = text(&found, "id").unwrap_or_default();
    let name = text(&found, "name").unwrap_or_default();
    if config.application_id.is_some_and(|own| own.to_string() != id) {
        return Err(gone(format!(
            "the token is that of the application {id} {name}, and application_id names another: \
             correct it, or leave it out"
        )));
    }
    let hex = |key: &[u8; 32]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = text(&found, "verify_key");
    if let (Some(own), Some(key)) = (&config.public_key, key)
        && hex(own) != key.to_lowercase()
    {
        return Err(gone(format!(
            "public_key is not that of {name}: copy it from General Information in the Developer \
             Portal"
        )));
    }
    Ok(name)
}

/// Whether the bot may have commands where they are wanted.
async fn commands(bot: &Bot, config: &config::Discord) -> Result<String, NotifyError> {
    let place = match config.guild {
        Some(id) => server(bot, id, Permissions::empty()).await?,
        None => "all servers that the bot is in".to_owned(),
    };
    CommandList::of(bot, config).await?.get(bot).await?;
    Ok(place)
}

/// Whether the bot is in a server and may do this there.
async fn server(bot: &Bot, id: u64, needed: Permissions) -> Result<String, NotifyError> {
    let inquiry = Inquiry::begin(bot).await?;
    let (guild, member) = inquiry.guild(&id.to_string()).await?;
    let name = text(&guild, "name").unwrap_or_default();
    let missing = needed.difference(in_guild(&guild, &member, &inquiry.me));
    if missing.is_empty() {
        return Ok(format!("server {name}"));
    }
    Err(gone(format!(
        "in {name} the bot lacks {}: give it to the bot's role, in the server's settings under Roles",
        names(missing)
    )))
}

/// The address at which somebody who manages a server adds the bot to it, with no more permissions
/// than the configuration needs.
/// <https://docs.discord.com/developers/topics/oauth2#bot-authorization-flow>
pub async fn invitation(bot: &Bot, config: &Config) -> Result<String, NotifyError> {
    let application = get(bot, "/applications/@me").await?;
    let id = text(&application, "id").unwrap_or_default();
    let permissions = needed(config);
    let url = format!(
        "https://discord.com/oauth2/authorize?client_id={id}&scope=bot{}&permissions={}",
        if config.discord.commands { "+applications.commands" } else { "" },
        permissions.bits()
    );
    Ok(format!("{url}\n\nIt asks for {}.\n", names(permissions)))
}

/// All that the configuration needs of the bot, in whichever channel. Of what only Discord knows, the
/// kinds of channels and which roles anyone may call, it takes the common case.
fn needed(config: &Config) -> Permissions {
    let mut needed = Permissions::empty();
    if config.discord.admin_channel.is_some() {
        needed |= Needs::default().permissions(Kind::Text);
    }
    for needs in config.receivers.values().filter_map(|one| Needs::of(config, one)) {
        needed |= needs.permissions(Kind::Text);
        if !needs.tags.is_empty() {
            needed |= needs.permissions(Kind::Forum);
        }
        if !needs.roles.is_empty() {
            needed |= Permissions::MENTION_EVERYONE;
        }
    }
    if !config.scheduled_events.is_empty() {
        needed |= EVENTS;
    }
    needed
}

pub(super) fn is_category(name: &str) -> NotifyError {
    gone(format!("{name} is a category, which takes no messages: name a channel in it"))
}

pub(super) fn is_a_thread(name: &str) -> NotifyError {
    gone(format!("{name} is a thread, which holds no threads: take out thread_per_event"))
}

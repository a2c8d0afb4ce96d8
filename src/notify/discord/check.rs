//! What the bot needs, and whether it has it: for `beadle check` and `beadle discord invite`.

use reqwest::Method;
use serde_json::Value;
use serenity::all::Permissions;

use super::permissions::{PIN_MESSAGES, in_channel, names};
use super::{Bot, gone, text};
use crate::config::{Config, Via};
use crate::notify::NotifyError;

/// To post, and to find its own posts again after a crash.
const POSTING: Permissions = Permissions::VIEW_CHANNEL
    .union(Permissions::SEND_MESSAGES)
    .union(Permissions::EMBED_LINKS)
    .union(Permissions::READ_MESSAGE_HISTORY);

/// To begin threads and to write there.
const IN_THREADS: Permissions =
    Permissions::CREATE_PUBLIC_THREADS.union(Permissions::SEND_MESSAGES_IN_THREADS);

// Channel types: https://docs.discord.com/developers/resources/channel#channel-object-channel-types
const CATEGORY: u64 = 4;
const THREADS: [u64; 3] = [10, 11, 12];
const FORUMS: [u64; 2] = [15, 16];

/// Whether the bot can post into the channel, and begin threads there; gives what it is called.
pub(super) async fn channel(bot: &Bot, id: u64, threads: bool) -> Result<String, NotifyError> {
    let get = async |path: String| bot.call(Method::GET, &path, None).await?.accepted().cloned();
    let me = get("/users/@me".to_owned()).await?;
    let me = text(&me, "id").unwrap_or_default();
    let channel = get(format!("/channels/{id}")).await?;
    let name = text(&channel, "name").map_or_else(|| id.to_string(), |name| format!("#{name}"));
    let kind = channel.get("type").and_then(Value::as_u64).unwrap_or_default();
    let (is_thread, is_forum) = (THREADS.contains(&kind), FORUMS.contains(&kind));
    if kind == CATEGORY {
        return Err(is_category(&name));
    }
    if is_thread && threads {
        return Err(is_a_thread(&name));
    }
    let what = match (is_thread, is_forum) {
        (true, _) => "thread",
        (_, true) => "forum",
        _ => "channel",
    };
    // A direct message belongs to no server.
    let Some(guild) = text(&channel, "guild_id") else { return Ok(format!("{what} {name}")) };
    let guild = get(format!("/guilds/{guild}")).await?;
    let guild_id = text(&guild, "id").unwrap_or_default();
    let member = get(format!("/guilds/{guild_id}/members/{me}")).await?;
    let (holder, needed) = match text(&channel, "parent_id").filter(|_| is_thread) {
        Some(parent) => {
            let in_thread = POSTING.difference(Permissions::SEND_MESSAGES);
            let needed = in_thread.union(Permissions::SEND_MESSAGES_IN_THREADS);
            (get(format!("/channels/{parent}")).await?, needed)
        }
        None if threads && is_forum => {
            (channel, POSTING.union(Permissions::SEND_MESSAGES_IN_THREADS))
        }
        None if threads => (channel, POSTING.union(IN_THREADS)),
        None => (channel, POSTING),
    };
    let missing = needed.difference(in_channel(&guild, &member, &holder, &me));
    let server = text(&guild, "name").unwrap_or(guild_id);
    if !missing.is_empty() {
        return Err(gone(format!(
            "in {name} of {server} the bot lacks {}: allow it in the channel's settings \
             under Permissions, for the bot or its role",
            names(missing)
        )));
    }
    Ok(format!("{what} {name} of {server}"))
}

/// The address at which somebody who manages a server adds the bot to it, with no more permissions
/// than the configuration needs.
/// <https://docs.discord.com/developers/topics/oauth2#bot-authorization-flow>
pub async fn invitation(bot: &Bot, config: &Config) -> Result<String, NotifyError> {
    let answer = bot.call(Method::GET, "/applications/@me", None).await?;
    let id = text(answer.accepted()?, "id").unwrap_or_default();
    let permissions = needed(config);
    let url = format!(
        "https://discord.com/oauth2/authorize?client_id={id}&scope=bot{}&permissions={}",
        if config.discord.commands { "+applications.commands" } else { "" },
        permissions.bits()
    );
    Ok(format!("{url}\n\nIt asks for {}.\n", names(permissions)))
}

/// All that the configuration needs of the bot, in whichever channel.
fn needed(config: &Config) -> Permissions {
    let mut needed = Permissions::empty();
    if config.discord.admin_channel.is_some() {
        needed |= POSTING;
    }
    let targets = config.receivers.values().filter_map(|one| one.discord.as_ref());
    for target in targets.filter(|target| matches!(target.via, Via::Channel { .. })) {
        needed |= POSTING;
        if target.thread_per_event || !target.tags.is_empty() {
            needed |= IN_THREADS;
        }
    }
    if config.agendas.iter().any(|agenda| agenda.pin) {
        needed |= PIN_MESSAGES;
    }
    if !config.scheduled_events.is_empty() {
        needed |= Permissions::VIEW_CHANNEL | Permissions::CREATE_EVENTS;
    }
    if !needed.is_empty() && !config.pings.is_empty() {
        needed |= Permissions::MENTION_EVERYONE;
    }
    needed
}

pub(super) fn is_category(name: &str) -> NotifyError {
    gone(format!("{name} is a category, which takes no messages: name a channel in it"))
}

pub(super) fn is_a_thread(name: &str) -> NotifyError {
    gone(format!("{name} is a thread, which holds no threads: take out thread_per_event"))
}

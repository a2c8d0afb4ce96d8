//! What the bot needs, and whether it has it: for `beadle check` and `beadle discord invite`.

use reqwest::Method;
use serde_json::Value;

use super::permissions::{Permissions, in_channel};
use super::{Bot, gone, text};
use crate::config::{Config, DiscordTarget};
use crate::notify::NotifyError;

/// To post, and to find its own posts again after a crash.
const POSTING: Permissions = Permissions::VIEW_CHANNEL
    .and(Permissions::SEND_MESSAGES)
    .and(Permissions::EMBED_LINKS)
    .and(Permissions::READ_MESSAGE_HISTORY);

/// Channel types into which a message cannot be posted as it is: category, forum, media.
/// <https://docs.discord.com/developers/resources/channel#channel-object-channel-types>
const WITHOUT_MESSAGES: [u64; 3] = [4, 15, 16];
const THREADS: [u64; 3] = [10, 11, 12];

/// Whether the bot can post into the channel; gives what it is called.
pub(super) async fn channel(bot: &Bot, id: u64) -> Result<String, NotifyError> {
    let get = async |path: String| bot.call(Method::GET, &path, None).await?.accepted().cloned();
    let me = get("/users/@me".to_owned()).await?;
    let me = text(&me, "id").unwrap_or_default();
    let channel = get(format!("/channels/{id}")).await?;
    let name = text(&channel, "name").map_or_else(|| id.to_string(), |name| format!("#{name}"));
    let kind = channel.get("type").and_then(Value::as_u64).unwrap_or_default();
    if WITHOUT_MESSAGES.contains(&kind) {
        return Err(gone(format!(
            "{name} is a category or a forum, which takes no messages: name a text channel or a \
             thread"
        )));
    }
    // A direct message belongs to no server.
    let Some(guild) = text(&channel, "guild_id") else { return Ok(format!("channel {name}")) };
    let guild = get(format!("/guilds/{guild}")).await?;
    let guild_id = text(&guild, "id").unwrap_or_default();
    let member = get(format!("/guilds/{guild_id}/members/{me}")).await?;
    let is_thread = THREADS.contains(&kind);
    let (holder, needed) = match text(&channel, "parent_id").filter(|_| is_thread) {
        Some(parent) => {
            let in_thread = POSTING.without(Permissions::SEND_MESSAGES);
            let needed = in_thread.and(Permissions::SEND_MESSAGES_IN_THREADS);
            (get(format!("/channels/{parent}")).await?, needed)
        }
        None => (channel, POSTING),
    };
    let missing = needed.without(in_channel(&guild, &member, &holder, &me));
    let server = text(&guild, "name").unwrap_or(guild_id);
    if !missing.is_none() {
        return Err(gone(format!(
            "in {name} of {server} the bot lacks {missing}: allow it in the channel's settings \
             under Permissions, for the bot or its role"
        )));
    }
    let what = if is_thread { "thread" } else { "channel" };
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
        "https://discord.com/oauth2/authorize?client_id={id}&scope=bot&permissions={}",
        permissions.bits()
    );
    Ok(format!("{url}\n\nIt asks for {permissions}.\n"))
}

/// All that the configuration needs of the bot, in whichever channel.
fn needed(config: &Config) -> Permissions {
    let by_bot = |target: &DiscordTarget| matches!(target, DiscordTarget::Channel { .. });
    let posts = config.receivers.values().any(|one| one.discord.as_ref().is_some_and(by_bot));
    match posts || config.discord.admin_channel.is_some() {
        true => POSTING,
        false => Permissions::NONE,
    }
}

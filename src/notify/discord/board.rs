//! What is done with a message after it was posted: edited, pinned, removed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::http::Answer;
use super::target::{Kind, Place, Post};
use super::{Discord, NotifyError, outcome, unasked};
use crate::message::discord::{Target, thread_name};
use crate::message::{Style, shown};
use crate::notify::Payload;
use crate::plan::Notification;

// Error codes: https://docs.discord.com/developers/topics/opcodes-and-status-codes
const UNKNOWN_MESSAGE: u64 = 10008;
const WRITES_LIMITED: u64 = 20022;
const TOO_MANY_EDITS: u64 = 30046;
const NOT_OURS: u64 = 50005;
const ARCHIVED: u64 = 50083;
const LOCKED: u64 = 160_005;

/// How long edits of old messages rest when Discord says that there were too many.
const EDITS_REST: std::time::Duration = std::time::Duration::from_mins(10);

/// How many messages are looked through for one that may have been posted.
const RECENT: usize = 50;
/// As many pins as Discord gives at once.
const PINS: usize = 50;

/// The messages of one endpoint, after they were posted. Messages are named by
/// [`Receipt::remote_id`](crate::notify::Receipt::remote_id).
#[derive(Clone)]
pub struct Board {
    pub(super) discord: Arc<Discord>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

impl Board {
    /// Whether messages can be pinned, and be found again: a webhook cannot do that.
    pub fn is_bot(&self) -> bool {
        matches!(self.discord.place, Place::Channel(_))
    }

    /// What tells one place from another: the channel's id; empty for a webhook.
    pub fn place(&self) -> String {
        match &self.discord.place {
            Place::Channel(channel) => channel.id.to_string(),
            Place::Webhook(_) => String::new(),
        }
    }

    /// Whether what follows a message stands under it, as a reply or in its thread.
    pub fn goes_on_from(&self, remote_id: &str) -> bool {
        self.is_bot() && (self.discord.threads || self.discord.reference(remote_id).is_some())
    }

    /// Whether a message that was posted is the first one of a thread or of a forum post. Such a
    /// post has the id of its first message; under a message in a channel a thread is begun where
    /// each event has one.
    pub fn begins_thread(&self, remote_id: &str) -> bool {
        let Some((place, message)) = remote_id.split_once('/') else { return false };
        place == message || (self.discord.threads && self.is_bot() && place == self.place())
    }

    /// What a payload of this endpoint says.
    pub fn said(&self, payload: &Payload) -> Value {
        Post::read(&payload.0).map(|post| post.message).unwrap_or_default()
    }

    /// An agenda, as a payload.
    pub fn agenda(&self, title: &str, agenda: &Notification) -> Payload {
        let style = Style { show_passcodes: self.discord.show_passcodes, ..Style::default() };
        let message = shown::agenda(title, agenda, &style);
        Post { message, name: title.to_owned(), tags: Vec::new(), of_event: false }.write()
    }

    /// Replaces what a message says. False when there is no such message (any more), or it is out
    /// of reach. Edits have limits of their own: what they ask for is [`NotifyError::Rest`].
    pub async fn edit(&self, remote_id: &str, body: &Value) -> Result<bool, NotifyError> {
        self.try_edit(remote_id, body).await.map_err(|error| match error {
            NotifyError::Retry { after: Some(after), reason } => {
                NotifyError::Rest { after, reason }
            }
            error => error,
        })
    }

    async fn try_edit(&self, remote_id: &str, body: &Value) -> Result<bool, NotifyError> {
        let mut answer = self.on_message(Method::PATCH, "messages", remote_id, Some(body)).await?;
        if answer.code() == Some(ARCHIVED) && self.open(remote_id).await? {
            answer = self.on_message(Method::PATCH, "messages", remote_id, Some(body)).await?;
        }
        if let Some(TOO_MANY_EDITS | WRITES_LIMITED) = answer.code() {
            return Err(NotifyError::Retry {
                after: Some(answer.retry_after.unwrap_or(EDITS_REST)),
                reason: "Discord asks to edit old messages more slowly".to_owned(),
            });
        }
        self.there(&answer, remote_id)
    }

    /// Removes a message. False when it is gone already, or out of reach.
    pub async fn delete(&self, remote_id: &str) -> Result<bool, NotifyError> {
        let answer = self.on_message(Method::DELETE, "messages", remote_id, None).await?;
        self.there(&answer, remote_id)
    }

    /// Pins a message, or takes the pin away. False when there is no such message (any more), which
    /// the next edit finds too.
    /// <https://docs.discord.com/developers/resources/message#pin-message>
    pub async fn pin(&self, remote_id: &str, pinned: bool) -> Result<bool, NotifyError> {
        let method = if pinned { Method::PUT } else { Method::DELETE };
        let answer = self.on_message(method, "messages/pins", remote_id, None).await?;
        self.there(&answer, remote_id)
    }

    /// Messages of the bot's own with that title, the newest first: since then, or where no time is
    /// given also those that are pinned. None where they cannot be looked for.
    pub async fn find(
        &self,
        title: &str,
        since: Option<Timestamp>,
    ) -> Result<Vec<String>, NotifyError> {
        let Place::Channel(channel) = &self.discord.place else { return Ok(Vec::new()) };
        let get = async |path: String| match channel.bot.call(Method::GET, &path, None).await {
            Ok(answer) => match answer.accepted() {
                Ok(found) => Ok(found.clone()),
                Err(error @ (NotifyError::Retry { .. } | NotifyError::Uncertain { .. })) => {
                    Err(unasked(error))
                }
                // Without Read Message History there is nothing to be found.
                Err(_) => Ok(Value::Null),
            },
            Err(error) => Err(unasked(error)),
        };
        let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
        let me = channel.bot.call(Method::GET, "/users/@me", None).await.map_err(unasked)?;
        let me = me.accepted().map_err(unasked)?["id"].clone();
        let place = format!("/channels/{}", channel.id);
        let there = get(place.clone()).await?;
        if let (Kind::Forum { .. }, Some(guild)) = (Kind::of(&there), there["guild_id"].as_str()) {
            // A post has the id of its first message.
            let active = get(format!("/guilds/{guild}/threads/active")).await?;
            let ours = list(&active["threads"]).into_iter().filter(|thread| {
                thread["parent_id"] == there["id"]
                    && thread["owner_id"] == me
                    && thread["name"] == *title
            });
            let named = |thread: Value| thread["id"].as_str().map(|id| format!("{id}/{id}"));
            return Ok(ours.filter_map(named).collect());
        }
        let mut messages = list(&get(format!("{place}/messages?limit={RECENT}")).await?);
        if since.is_none() {
            let pins = get(format!("{place}/messages/pins?limit={PINS}")).await?;
            messages
                .extend(list(&pins["items"]).into_iter().map(|mut item| item["message"].take()));
        }
        let posted = |message: &Value| message["timestamp"].as_str()?.parse::<Timestamp>().ok();
        let ours = messages.into_iter().filter(|message| {
            message["author"]["id"] == me
                && message["embeds"][0]["title"] == *title
                && since.is_none_or(|since| posted(message).is_some_and(|at| at >= since))
        });
        let named = |message: Value| {
            let id = message["id"].as_str()?;
            Some(format!("{}/{id}", channel.id))
        };
        Ok(ours.filter_map(named).collect())
    }

    /// Gives a thread that the bot has begun the name that it would have if it began with this.
    pub async fn rename(&self, thread: &str, news: &Notification) -> Result<(), NotifyError> {
        // A webhook cannot.
        let Place::Channel(channel) = &self.discord.place else { return Ok(()) };
        let body = json!({ "name": thread_name(news, &Style::default()) });
        let path = format!("/channels/{thread}");
        let answer = channel.bot.call(Method::PATCH, &path, Some(&body)).await?;
        answer.accepted().map(drop)
    }

    async fn on_message(
        &self,
        method: Method,
        below: &str,
        remote_id: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NotifyError> {
        let (place, message) = remote_id.split_once('/').unwrap_or(("", remote_id));
        match &self.discord.place {
            Place::Channel(channel) => {
                let path = format!("/channels/{place}/{below}/{message}");
                channel.bot.call(method, &path, body).await
            }
            Place::Webhook(webhook) => {
                let mut query = Vec::new();
                if method == Method::PATCH {
                    query.push("with_components=true".to_owned());
                }
                // Only what is in a thread is looked for there.
                if webhook.threads || webhook.thread.is_some_and(|id| id.to_string() == place) {
                    query.push(format!("thread_id={place}"));
                }
                let mark = if query.is_empty() { "" } else { "?" };
                let below = format!("/{below}/{message}{mark}{}", query.join("&"));
                let body = body.map(Value::to_string);
                webhook.call(method, &below, body.as_deref()).await
            }
        }
    }

    /// Opens the thread that a message is in; only the bot can.
    async fn open(&self, remote_id: &str) -> Result<bool, NotifyError> {
        let (Place::Channel(channel), Some((thread, _))) =
            (&self.discord.place, remote_id.split_once('/'))
        else {
            return Ok(false);
        };
        let open = json!({ "archived": false });
        let path = format!("/channels/{thread}");
        let answer = channel.bot.call(Method::PATCH, &path, Some(&open)).await?;
        Ok(answer.accepted().is_ok())
    }

    /// Whether the message that was asked about is there. What is said of a place that is not (any
    /// more) the endpoint's own says nothing about the endpoint.
    fn there(&self, answer: &Answer, remote_id: &str) -> Result<bool, NotifyError> {
        if let Some(UNKNOWN_MESSAGE | NOT_OURS | LOCKED | ARCHIVED) = answer.code() {
            return Ok(false);
        }
        let by = if self.is_bot() { Target::Bot } else { Target::Webhook };
        let place = remote_id.split_once('/').map(|(place, _)| place);
        match outcome::of_question(answer, by) {
            Ok(_) => Ok(true),
            Err(NotifyError::ReceiverGone { .. })
                if self.is_bot() && place != Some(self.place().as_str()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

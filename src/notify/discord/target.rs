//! Where messages go: a channel of any kind, a thread, a forum; by the bot or by a webhook.
//!
//! A message is one request. What else belongs to it, a thread of its own or its publication, is
//! asked for when the message is there, and can be asked for again without harm: Discord says that
//! it is done already.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;
use url::Url;

use super::check::Needs;
use super::http::{Answer, Bot, Call, Http};
use super::{API, DEFAULT_HOST, QUEUE, chain, check, gone, outcome, readback, text, unasked};
use crate::config::OnUnknown;
use crate::config::secret::SecretSource;
use crate::message::discord::Target;
use crate::notify::{DeliveryContext, NotifyError, Payload, Receipt};

/// Days without a message after which Discord closes a thread, in minutes; a week is the longest.
const AUTO_ARCHIVE: u32 = 10_080;
/// Tags of one forum post.
const MAX_TAGS: usize = 5;

// Error codes: https://docs.discord.com/developers/topics/opcodes-and-status-codes
const UNKNOWN_CHANNEL: u64 = 10003;
const UNKNOWN_MESSAGE: u64 = 10008;
const ALREADY_CROSSPOSTED: u64 = 40033;
const NO_MESSAGES_HERE: [u64; 2] = [40058, 50008];
const ARCHIVED: u64 = 50083;
const ALREADY_A_THREAD: u64 = 160_004;
const LOCKED: u64 = 160_005;
const NEEDS_THREAD: u64 = 220_001;
const NOT_A_FORUM: u64 = 220_003;

#[derive(Debug)]
pub(super) enum Place {
    Channel(Channel),
    Webhook(Webhook),
}

/// What the outbox keeps of a message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Post {
    /// The body of Create Message, without a nonce.
    pub message: Value,
    /// Of the thread that it begins, if it begins one.
    pub name: String,
    /// Names or ids of tags that a forum may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// It is about one event.
    #[serde(default)]
    pub of_event: bool,
}

impl Post {
    pub fn write(&self) -> Payload {
        // What is made of texts and JSON is written without fail.
        Payload(serde_json::to_string(self).unwrap_or_default())
    }

    pub fn read(payload: &str) -> Result<Post, NotifyError> {
        serde_json::from_str(payload).map_err(|error| NotifyError::Permanent {
            reason: format!("the outbox holds something else than a message: {error}"),
        })
    }
}

/// What kind of channel it is.
/// <https://docs.discord.com/developers/resources/channel#channel-object-channel-types>
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Also an announcement or voice channel.
    Text,
    Thread,
    /// Also a media channel. Names in lower case, and ids, of its tags.
    Forum {
        tags: Vec<(String, String)>,
    },
    Category,
}

impl Kind {
    pub fn of(channel: &Value) -> Kind {
        match channel.get("type").and_then(Value::as_u64) {
            Some(4) => Kind::Category,
            Some(10..=12) => Kind::Thread,
            Some(15 | 16) => {
                let tags = channel.get("available_tags").and_then(Value::as_array);
                let tag = |tag: &Value| {
                    let name = tag.get("name")?.as_str()?.to_lowercase();
                    Some((name, tag.get("id")?.as_str()?.to_owned()))
                };
                Kind::Forum { tags: tags.into_iter().flatten().filter_map(tag).collect() }
            }
            _ => Kind::Text,
        }
    }
}

/// A channel, and the bot that writes there.
#[derive(Debug)]
pub(super) struct Channel {
    pub bot: Bot,
    pub id: u64,
    needs: Needs,
    crosspost: bool,
    /// Asked for where it matters, and kept until something is refused.
    kind: Mutex<Option<Kind>>,
}

impl Channel {
    pub fn new(bot: Bot, id: u64, needs: Needs, crosspost: bool) -> Channel {
        Channel { bot, id, needs, crosspost, kind: Mutex::default() }
    }

    /// Whether it takes what will be posted; gives what it is called.
    pub async fn look(&self) -> Result<String, NotifyError> {
        check::channel(&self.bot, self.id, &self.needs).await
    }

    /// Posts, and does what belongs to it.
    pub async fn post(
        &self,
        post: Post,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        let receipt = match &delivery.posted {
            Some(remote_id) => Receipt { remote_id: remote_id.clone() },
            None => self.create(&post, delivery).await?,
        };
        let here = receipt.remote_id.split_once('/');
        let Some((_, message)) = here.filter(|(channel, _)| *channel == self.id.to_string()) else {
            return Ok(receipt);
        };
        let message = format!("/channels/{}/messages/{message}", self.id);
        if self.needs.threads && post.of_event {
            let body = json!({ "name": post.name, "auto_archive_duration": AUTO_ARCHIVE });
            let path = format!("{message}/threads");
            let done = self.bot.call(Method::POST, &path, Some(&body)).await;
            finished("no thread begins with it", done, ALREADY_A_THREAD, &receipt)?;
        }
        if self.crosspost {
            let done = self.bot.call(Method::POST, &format!("{message}/crosspost"), None).await;
            finished("it is not published", done, ALREADY_CROSSPOSTED, &receipt)?;
        }
        Ok(receipt)
    }

    /// Messages that posting this made since then. Posts that began in a forum are not looked for.
    pub async fn find(
        &self,
        post: &Post,
        delivery: &DeliveryContext,
        since: Timestamp,
    ) -> Result<Vec<Receipt>, NotifyError> {
        let place = match thread_of(delivery) {
            Some(thread) => thread.to_owned(),
            None => match self.ask().await?.0 {
                Kind::Forum { .. } | Kind::Category => return Ok(Vec::new()),
                Kind::Text | Kind::Thread => self.id.to_string(),
            },
        };
        match readback::find(&self.bot, &place, &post.message, delivery, since).await {
            // A thread that somebody removed holds nothing; the event is told in a new one.
            Err(NotifyError::ReceiverGone { .. }) if place != self.id.to_string() => Ok(Vec::new()),
            found => found,
        }
    }

    /// One message, which is in the event's thread if there is one.
    async fn create(
        &self,
        post: &Post,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        let message = readback::marked(&post.message, delivery);
        if let Some(thread) = thread_of(delivery) {
            let answer = self.write(thread, &message).await?;
            // Where somebody has removed or locked it, the event is told in a new one.
            if !matches!(answer.code(), Some(UNKNOWN_CHANNEL | LOCKED)) {
                return self.receipt(&answer, thread);
            }
        }
        let known = self.known().clone();
        let kind = match known {
            None if self.needs.threads || !self.needs.tags.is_empty() => {
                Some(self.ask().await.map_err(unasked)?.0)
            }
            known => known,
        };
        let id = self.id.to_string();
        match &kind {
            Some(Kind::Forum { tags }) => self.begin(post, tags).await,
            Some(Kind::Category) => Err(check::is_category(&id)),
            Some(Kind::Thread) if self.needs.threads => Err(check::is_a_thread(&id)),
            _ => {
                let answer = self.write(&id, &message).await?;
                let refused = answer.code().is_some_and(|code| NO_MESSAGES_HERE.contains(&code));
                if refused
                    && kind.is_none()
                    && let Kind::Forum { tags } = self.ask().await.map_err(unasked)?.0
                {
                    return self.begin(post, &tags).await;
                }
                self.receipt(&answer, &id)
            }
        }
    }

    /// A message in this channel, or in a thread, which is opened where it is archived.
    async fn write(&self, channel: &str, message: &Value) -> Result<Answer, NotifyError> {
        let place = format!("/channels/{channel}");
        let path = format!("{place}/messages");
        let answer = self.bot.post(&path, message).await?;
        if answer.code() != Some(ARCHIVED) {
            return Ok(answer);
        }
        let open = json!({ "archived": false });
        let opened = self.bot.call(Method::PATCH, &place, Some(&open)).await.map_err(unasked)?;
        match opened.accepted() {
            Ok(_) => self.bot.post(&path, message).await,
            Err(_) => Ok(answer),
        }
    }

    /// A forum post. It has no nonce.
    /// <https://docs.discord.com/developers/resources/channel#start-thread-in-forum-or-media-channel>
    async fn begin(&self, post: &Post, known: &[(String, String)]) -> Result<Receipt, NotifyError> {
        let mut body = json!({ "name": post.name, "message": post.message });
        let id = |tag: &String| {
            let lower = tag.to_lowercase();
            known.iter().find(|(name, id)| *id == *tag || *name == lower).map(|(_, id)| id)
        };
        let mut tags: Vec<&String> = post.tags.iter().filter_map(id).collect();
        tags.dedup();
        tags.truncate(MAX_TAGS);
        if !tags.is_empty() {
            body["applied_tags"] = json!(tags);
        }
        let path = format!("/channels/{}/threads", self.id);
        let answer = self.bot.post(&path, &body).await?;
        let receipt = self.receipt(&answer, "")?;
        // The first message of a forum post has the post's id.
        let remote_id = match receipt.remote_id.rsplit('/').next() {
            Some(id) if !id.is_empty() => format!("{id}/{id}"),
            _ => String::new(),
        };
        Ok(Receipt { remote_id })
    }

    fn receipt(&self, answer: &Answer, channel: &str) -> Result<Receipt, NotifyError> {
        let receipt = outcome::of_message(answer, Target::Bot);
        if matches!(receipt, Err(NotifyError::Permanent { .. } | NotifyError::ReceiverGone { .. }))
        {
            // Perhaps it is another kind of channel by now, or has other tags.
            *self.known() = None;
        }
        Ok(located(receipt?, answer, channel))
    }

    async fn ask(&self) -> Result<(Kind, String), NotifyError> {
        let answer = self.bot.call(Method::GET, &format!("/channels/{}", self.id), None).await?;
        let found = answer.accepted()?;
        let kind = Kind::of(found);
        *self.known() = Some(kind.clone());
        let name = text(found, "name").map_or(self.id.to_string(), |name| format!("#{name}"));
        Ok((kind, name))
    }

    fn known(&self) -> MutexGuard<'_, Option<Kind>> {
        self.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that has what came before: of the event, or of a list whose first part began a forum
/// post, which has the id of its first message.
fn thread_of(delivery: &DeliveryContext) -> Option<&str> {
    let began = delivery.first_part.as_deref().and_then(|part| part.split_once('/'));
    let began = began.filter(|(place, message)| place == message).map(|(place, _)| place);
    delivery.thread.as_deref().or(began)
}

/// With the channel where the message is, by what Discord says or else by where it was to go.
fn located(receipt: Receipt, answer: &Answer, channel: &str) -> Receipt {
    let channel = text(&answer.json, "channel_id").unwrap_or_else(|| channel.to_owned());
    match receipt.remote_id.is_empty() || channel.is_empty() {
        true => receipt,
        false => Receipt { remote_id: format!("{channel}/{}", receipt.remote_id) },
    }
}

/// Whether something that belongs to a message is done. What will never be done is told to the
/// operator and given up: the message is there.
fn finished(
    what: &str,
    answer: Result<Answer, NotifyError>,
    already: u64,
    receipt: &Receipt,
) -> Result<(), NotifyError> {
    let refused = match answer {
        Ok(answer) => match answer.accepted() {
            Ok(_) => return Ok(()),
            Err(_) if matches!(answer.code(), Some(UNKNOWN_MESSAGE)) => return Ok(()),
            Err(_) if answer.code() == Some(already) => return Ok(()),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let remote_id = receipt.remote_id.clone();
    match refused {
        NotifyError::Retry { after, reason } | NotifyError::Uncertain { after, reason } => {
            let reason = format!("the message is posted, but {what} yet: {reason}");
            Err(NotifyError::Unfinished { remote_id, after, reason })
        }
        error => {
            warn!(remote_id, reason = %error, "the message is posted, but {what}");
            Ok(())
        }
    }
}

/// A webhook; its address says for which channel.
#[derive(Debug)]
pub(super) struct Webhook {
    pub http: Http,
    pub api_url: Url,
    pub url: SecretSource,
    pub thread: Option<u64>,
    pub username: Option<String>,
    pub avatar: Option<Url>,
    pub threads: bool,
    pub on_unknown: OnUnknown,
}

impl Webhook {
    pub async fn look(&self) -> Result<String, NotifyError> {
        let answer = self.call(Method::GET, "", None).await?;
        let found = outcome::of_question(&answer, Target::Webhook)?;
        Ok(format!("webhook {}", text(found, "name").unwrap_or_default()))
    }

    pub async fn post(
        &self,
        post: Post,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        let mut message = post.message.clone();
        if let Some(name) = &self.username {
            message["username"] = json!(name);
        }
        if let Some(url) = &self.avatar {
            message["avatar_url"] = json!(url.as_str());
        }
        if let Some(thread) = thread_of(delivery) {
            let answer = self.write(&message, Some(thread)).await?;
            if !matches!(answer.code(), Some(UNKNOWN_CHANNEL | LOCKED)) {
                return receipt_of(&answer);
            }
        }
        let thread = self.thread.map(|thread| thread.to_string());
        let begin = self.threads && post.of_event;
        if !begin {
            let answer = self.write(&message, thread.as_deref()).await?;
            if answer.code() != Some(NEEDS_THREAD) || thread.is_some() {
                return receipt_of(&answer);
            }
        }
        // A forum takes nothing but posts with a name.
        let is_id = |tag: &&String| tag.bytes().all(|byte| byte.is_ascii_digit());
        let tags: Vec<&String> = post.tags.iter().filter(is_id).take(MAX_TAGS).collect();
        message["thread_name"] = json!(post.name);
        if !tags.is_empty() {
            message["applied_tags"] = json!(tags);
        }
        let answer = self.write(&message, None).await?;
        if answer.code() == Some(NOT_A_FORUM) {
            return Err(gone(
                "a webhook begins threads in a forum only: take out thread_per_event, or let a bot \
                 post"
                    .to_owned(),
            ));
        }
        receipt_of(&answer)
    }

    /// `wait`: a message that is not saved is an error, and one that is has an id.
    /// `with_components`: else link buttons are dropped without a word.
    /// <https://docs.discord.com/developers/resources/webhook#execute-webhook>
    async fn write(&self, message: &Value, thread: Option<&str>) -> Result<Answer, NotifyError> {
        let thread = thread.map(|id| format!("&thread_id={id}")).unwrap_or_default();
        let query = format!("?wait=true&with_components=true{thread}");
        self.call(Method::POST, &query, Some(&message.to_string())).await
    }

    /// The address is read anew each time. One that cannot be read or used is
    /// [`NotifyError::ReceiverGone`]: no message will be accepted until someone mends it.
    pub async fn call(
        &self,
        method: Method,
        query: &str,
        body: Option<&str>,
    ) -> Result<Answer, NotifyError> {
        let url = self
            .url
            .read()
            .map_err(|error| gone(format!("cannot read the webhook address: {}", chain(&error))))?;
        let Some(access) = access(&self.api_url, url.expose()) else {
            return Err(gone(
                "the webhook address is not of the form \
                 https://discord.com/api/webhooks/<id>/<token>"
                    .to_owned(),
            ));
        };
        let call = Call {
            method,
            api: &access.api,
            path: format!("{}{query}", access.path),
            authorization: None,
            secret: &access.token,
            body,
            patience: QUEUE,
        };
        self.http.call(call).await
    }
}

fn receipt_of(answer: &Answer) -> Result<Receipt, NotifyError> {
    Ok(located(outcome::of_message(answer, Target::Webhook)?, answer, ""))
}

/// How to reach a webhook; holds a secret, so it has no `Debug`.
struct Access {
    /// Base of all paths, with the API version, without a slash at its end.
    api: String,
    path: String,
    token: String,
}

fn access(api_url: &Url, address: &str) -> Option<Access> {
    let url = Url::parse(address.trim()).ok()?;
    let mut segments = url.path_segments()?.skip_while(|segment| *segment != "webhooks");
    let (_, id, token) = (segments.next()?, segments.next()?, segments.next()?);
    let is_id = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if !is_id(id) || !is_token(token) {
        return None;
    }
    // The token goes to the host it came from, encrypted, or to the proxy that was named.
    let base = if api_url.host_str() != Some(DEFAULT_HOST) {
        api_url.as_str().trim_end_matches('/').to_owned()
    } else if url.scheme() == "https" {
        url.origin().ascii_serialization()
    } else {
        return None;
    };
    Some(Access {
        api: format!("{base}{API}"),
        path: format!("/webhooks/{id}/{token}"),
        token: token.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_addresses() {
        let of = |api: &str, address: &str| {
            let access = access(&api.parse().unwrap(), address);
            access.map(|access| format!("{} {}", access.api, access.path))
        };
        let discord = "https://discord.com/";
        let expected = |host: &str| Some(format!("{host}/api/v10 /webhooks/17/tok-en_9"));
        let table = [
            (
                discord,
                "https://discord.com/api/webhooks/17/tok-en_9",
                expected("https://discord.com"),
            ),
            (
                discord,
                " https://ptb.discord.com/api/v9/webhooks/17/tok-en_9/\n",
                expected("https://ptb.discord.com"),
            ),
            (discord, "http://discord.com/api/webhooks/17/tok-en_9", None),
            (discord, "https://discord.com/api/webhooks/17", None),
            (discord, "https://discord.com/api/webhooks/x/tok", None),
            (discord, "https://discord.com/api/webhooks/17/..%2f", None),
            (discord, "https://hooks.example.com/services/17/tok", None),
            (discord, "not an address", None),
            (
                "http://127.0.0.1:9/",
                "https://discord.com/api/webhooks/17/tok-en_9",
                expected("http://127.0.0.1:9"),
            ),
            (
                "https://proxy.example.edu/discord/",
                "https://discord.com/api/webhooks/17/tok-en_9",
                expected("https://proxy.example.edu/discord"),
            ),
        ];
        for (api, address, expected) in table {
            assert_eq!(of(api, address), expected, "{address} by way of {api}");
        }
    }
}

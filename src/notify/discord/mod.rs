//! Messages into Discord: by a bot into a channel, or by a webhook.
//!
//! Our own small REST client ([`Http`]) instead of a library's, because a durable queue must know
//! what became of each request: accepted, refused, to be repeated at a time the server names, or
//! unknown. `outcome` holds that table.

mod check;
mod http;
mod limits;
mod outcome;
mod permissions;
mod readback;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::Value;
use url::Url;

use super::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, Payload, Receipt, SetupError,
    chain, one_line,
};
use crate::config::secret::SecretSource;
use crate::config::{Config, DiscordTarget};
use crate::message::discord::{Target, render};
use crate::operator;
use crate::plan::Notification;
pub use check::invitation;
use http::Call;
pub use http::{Answer, Bot, Http};

/// The API version spoken; it is part of every path.
const API: &str = "/api/v10";

/// How long a message waits for its turn: as long as its nonce surely is remembered, should this not
/// be the first attempt. In that time the limit of everything lets some thousands through, of which
/// none need go back into the outbox.
const QUEUE: Duration = Duration::from_secs(2 * 60);

/// Where `[discord] api_url` points when nobody says otherwise.
const DEFAULT_HOST: &str = "discord.com";

pub(super) fn endpoints(config: &Config, http: &Http) -> Result<Vec<Endpoint>, SetupError> {
    let mut endpoints = Vec::new();
    let bot = Bot::new(&config.discord, http);
    if let (Some(channel), Some(bot)) = (config.discord.admin_channel, &bot) {
        endpoints.push(Endpoint {
            id: operator::ENDPOINT.to_owned(),
            receiver: String::new(),
            address: String::new(),
            notifier: Arc::new(Discord {
                http: http.clone(),
                api_url: config.discord.api_url.clone(),
                sender: Sender::Bot { channel, bot: bot.clone() },
                show_passcodes: false,
            }),
        });
    }
    for receiver in config.receivers.values() {
        let Some(target) = &receiver.discord else { continue };
        let sender = match target {
            DiscordTarget::Channel { id } => {
                let Some(bot) = bot.clone() else {
                    return Err(SetupError(format!(
                        "receiver {} names a Discord channel, but [discord] has no token",
                        receiver.name
                    )));
                };
                Sender::Bot { channel: *id, bot }
            }
            DiscordTarget::Webhook { url } => Sender::Webhook { url: url.clone() },
        };
        endpoints.push(Endpoint {
            id: format!("{}/discord", receiver.name),
            receiver: receiver.name.clone(),
            address: String::new(),
            notifier: Arc::new(Discord {
                http: http.clone(),
                api_url: config.discord.api_url.clone(),
                sender,
                show_passcodes: receiver.show_passcodes,
            }),
        });
    }
    Ok(endpoints)
}

/// One channel, or one webhook.
#[derive(Debug)]
struct Discord {
    http: Http,
    api_url: Url,
    sender: Sender,
    show_passcodes: bool,
}

#[derive(Debug)]
enum Sender {
    Bot { channel: u64, bot: Bot },
    Webhook { url: SecretSource },
}

impl Sender {
    fn target(&self) -> Target {
        match self {
            Sender::Bot { .. } => Target::Bot,
            Sender::Webhook { .. } => Target::Webhook,
        }
    }
}

impl Discord {
    /// Reads the secret and finds out what to call with it. A secret that cannot be read or used
    /// is [`NotifyError::ReceiverGone`]: no message will be accepted until someone mends it.
    fn access(&self) -> Result<Access, NotifyError> {
        match &self.sender {
            Sender::Bot { channel, bot } => {
                let (token, authorization) = bot.authorization()?;
                Ok(Access {
                    api: format!("{}{API}", self.api_url.as_str().trim_end_matches('/')),
                    resource: format!("/channels/{channel}"),
                    authorization: Some(authorization),
                    secret: token,
                })
            }
            Sender::Webhook { url } => {
                let url = url.read().map_err(|error| {
                    gone(format!("cannot read the webhook address: {}", chain(&error)))
                })?;
                self.webhook_access(url.expose()).ok_or_else(|| {
                    gone(
                        "the webhook address is not of the form \
                         https://discord.com/api/webhooks/<id>/<token>"
                            .to_owned(),
                    )
                })
            }
        }
    }

    fn webhook_access(&self, address: &str) -> Option<Access> {
        let url = Url::parse(address.trim()).ok()?;
        let mut segments = url.path_segments()?.skip_while(|segment| *segment != "webhooks");
        let (_, id, token) = (segments.next()?, segments.next()?, segments.next()?);
        let is_id = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_token = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !is_id(id) || !is_token(token) {
            return None;
        }
        // The token goes to the host it came from, encrypted, or to the proxy that was named.
        let base = if self.api_url.host_str() != Some(DEFAULT_HOST) {
            self.api_url.as_str().trim_end_matches('/').to_owned()
        } else if url.scheme() == "https" {
            url.origin().ascii_serialization()
        } else {
            return None;
        };
        Some(Access {
            api: format!("{base}{API}"),
            resource: format!("/webhooks/{id}/{token}"),
            authorization: None,
            secret: token.to_owned(),
        })
    }

    async fn post(&self, payload: &Payload) -> Result<Receipt, NotifyError> {
        let access = self.access()?;
        let path = match self.sender {
            Sender::Bot { .. } => "/messages",
            // `wait`: a message that is not saved is an error, and one that is has an id.
            // `with_components`: else link buttons are dropped without a word.
            // https://docs.discord.com/developers/resources/webhook#execute-webhook
            Sender::Webhook { .. } => "?wait=true&with_components=true",
        };
        let answer = self.http.call(access.call(Method::POST, path, Some(&payload.0))).await?;
        outcome::of_message(&answer, self.sender.target())
    }

    async fn look(&self) -> Result<String, NotifyError> {
        match &self.sender {
            Sender::Bot { channel, bot } => check::channel(bot, *channel).await,
            Sender::Webhook { .. } => {
                let access = self.access()?;
                let answer = self.http.call(access.call(Method::GET, "", None)).await?;
                let found = outcome::of_question(&answer, Target::Webhook)?;
                Ok(format!("webhook {}", text(found, "name").unwrap_or_default()))
            }
        }
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(one_line)
}

fn gone(reason: String) -> NotifyError {
    NotifyError::ReceiverGone { reason, for_good: false }
}

/// How to reach the target, for one attempt; holds a secret, so it has no `Debug`.
struct Access {
    /// Base of all paths, with the API version, without a slash at its end.
    api: String,
    /// The channel or the webhook.
    resource: String,
    authorization: Option<HeaderValue>,
    secret: String,
}

impl Access {
    fn call<'a>(&'a self, method: Method, path: &str, body: Option<&'a str>) -> Call<'a> {
        Call {
            method,
            api: &self.api,
            path: format!("{}{path}", self.resource),
            authorization: self.authorization.as_ref(),
            secret: &self.secret,
            body,
            patience: QUEUE,
        }
    }
}

impl Notifier for Discord {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Payload {
        let style = delivery.style(self.show_passcodes, false);
        Payload(render(notification, &style, self.sender.target(), &delivery.dedup_key))
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        _delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(self.post(payload))
    }

    fn find<'a>(
        &'a self,
        payload: &'a Payload,
        since: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Receipt>, NotifyError>> {
        Box::pin(async move {
            let Sender::Bot { channel, bot } = &self.sender else { return Ok(Vec::new()) };
            let body = serde_json::from_str(&payload.0).unwrap_or_default();
            readback::find(bot, *channel, &body, since).await.map_err(certain)
        })
    }

    /// A read that fails is never uncertain: nothing was to arrive.
    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async { self.look().await.map_err(certain) })
    }
}

fn certain(error: NotifyError) -> NotifyError {
    match error {
        NotifyError::Uncertain { after, reason } => NotifyError::Retry { after, reason },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(api_url: &str) -> Discord {
        Discord {
            http: Http::new(std::time::Duration::from_secs(1)).unwrap(),
            api_url: api_url.parse().unwrap(),
            sender: Sender::Webhook { url: SecretSource::Env("UNSET".to_owned()) },
            show_passcodes: false,
        }
    }

    #[test]
    fn webhook_addresses() {
        let of = |api: &str, address: &str| {
            webhook(api)
                .webhook_access(address)
                .map(|access| format!("{} {}", access.api, access.resource))
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

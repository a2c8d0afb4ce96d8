//! Messages into Discord: by a bot into a channel, or by a webhook.
//!
//! Our own small REST client ([`Http`]) instead of a library's, because a durable queue must know
//! what became of each request: accepted, refused, to be repeated at a time the server names, or
//! unknown. `outcome` holds that table.

mod http;
mod outcome;

use std::sync::Arc;

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
use crate::plan::Notification;
pub use http::{Answer, Bot, Http};
use http::{Call, authorization};

/// The API version spoken; it is part of every path.
const API: &str = "/api/v10";

/// Where `[discord] api_url` points when nobody says otherwise.
const DEFAULT_HOST: &str = "discord.com";

pub(super) fn endpoints(config: &Config, http: &Http) -> Result<Vec<Endpoint>, SetupError> {
    let mut endpoints = Vec::new();
    for receiver in config.receivers.values() {
        let Some(target) = &receiver.discord else { continue };
        let sender = match target {
            DiscordTarget::Channel { id } => {
                let Some(token) = config.discord.token.clone() else {
                    return Err(SetupError(format!(
                        "receiver {} names a Discord channel, but [discord] has no token",
                        receiver.name
                    )));
                };
                Sender::Bot { channel: *id, token }
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
    Bot { channel: u64, token: SecretSource },
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
            Sender::Bot { channel, token } => {
                let (token, authorization) = authorization(token)?;
                Ok(Access {
                    api: format!("{}{API}", self.api_url.as_str().trim_end_matches('/')),
                    resource: format!("/channels/{channel}"),
                    route: format!("/channels/{channel}"),
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
            route: format!("/webhooks/{id}"),
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
        let access = self.access()?;
        let by = self.sender.target();
        match self.sender {
            Sender::Bot { channel, .. } => {
                let me =
                    Call { path: "/users/@me".to_owned(), ..access.call(Method::GET, "", None) };
                outcome::of_question(&self.http.call(me).await?, by)?;
                let answer = self.http.call(access.call(Method::GET, "", None)).await?;
                let found = outcome::of_question(&answer, by)?;
                describe_channel(channel, found)
            }
            Sender::Webhook { .. } => {
                let answer = self.http.call(access.call(Method::GET, "", None)).await?;
                let found = outcome::of_question(&answer, by)?;
                Ok(format!("webhook {}", text(found, "name").unwrap_or_default()))
            }
        }
    }
}

/// Channel types into which a message cannot be posted as it is: category, forum, media.
/// <https://docs.discord.com/developers/resources/channel#channel-object-channel-types>
const WITHOUT_MESSAGES: [u64; 3] = [4, 15, 16];

fn describe_channel(id: u64, found: &Value) -> Result<String, NotifyError> {
    let name = match text(found, "name") {
        Some(name) => format!("#{name}"),
        None => id.to_string(),
    };
    let kind = found.get("type").and_then(Value::as_u64);
    if kind.is_some_and(|kind| WITHOUT_MESSAGES.contains(&kind)) {
        return Err(gone(format!(
            "{name} is a category or a forum, which takes no messages: name a text channel or a \
             thread"
        )));
    }
    Ok(format!("channel {name}"))
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
    /// The resource as rate limits know it: without a token.
    route: String,
    authorization: Option<HeaderValue>,
    secret: String,
}

impl Access {
    fn call<'a>(&'a self, method: Method, path: &str, body: Option<&'a str>) -> Call<'a> {
        Call {
            route: format!("{method} {}", self.route),
            method,
            api: &self.api,
            path: format!("{}{path}", self.resource),
            authorization: self.authorization.as_ref(),
            secret: &self.secret,
            body,
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

    /// A read that fails is never uncertain: nothing was to arrive.
    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async {
            self.look().await.map_err(|error| match error {
                NotifyError::Uncertain { after, reason } => NotifyError::Retry { after, reason },
                other => other,
            })
        })
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
                .map(|access| format!("{} {} {}", access.api, access.resource, access.route))
        };
        let discord = "https://discord.com/";
        let expected =
            |host: &str| Some(format!("{host}/api/v10 /webhooks/17/tok-en_9 /webhooks/17"));
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

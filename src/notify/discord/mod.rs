//! Messages into Discord: by a bot into a channel, or by a webhook.
//!
//! | | |
//! |---|---|
//! | what is posted, and when it is silent | here |
//! | where it goes: channels of any kind, threads, forums, webhooks | `target` |
//! | what became of it | `outcome` |
//! | one request, and how fast they may follow each other | `http`, `limits` |
//! | whether a message that may have been posted is there | `readback` |
//! | what the bot may do, and needs | `permissions`, `check` |
//! | which slash commands Discord lists | `commands` |
//!
//! Our own small REST client ([`Http`]) instead of a library's, because a durable queue must know
//! what became of each request: accepted, refused, to be repeated at a time the server names, or
//! unknown. `outcome` holds that table.

mod board;
mod check;
mod commands;
mod direct;
pub mod guild;
mod http;
mod limits;
mod outcome;
mod permissions;
mod readback;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, OnDoubt, Payload, Receipt,
    SetupError, chain, one_line,
};
use crate::calendar::{Zones, local};
use crate::config::{Config, OnUnknown, Ping, Quiet, Via};
use crate::message::Style;
use crate::message::discord::{Attention, render, thread_name};
use crate::operator;
use crate::plan::{Kind, Notification};
pub use board::Board;
use check::Needs;
pub use check::{invitation, servers};
pub use commands::CommandList;
pub use http::{Answer, Bot, Http};
use target::{Channel, Place, Post, Webhook};

/// The API version spoken; it is part of every path.
const API: &str = "/api/v10";

/// Where `[discord] api_url` points when nobody says otherwise.
const DEFAULT_HOST: &str = "discord.com";

/// How long a message waits for its turn: as long as its nonce surely is remembered, should this not
/// be the first attempt. In that time the limit of everything lets some thousands through, of which
/// none need go back into the outbox.
const QUEUE: Duration = Duration::from_secs(2 * 60);

pub(super) fn endpoints(config: &Config, http: &Http) -> Result<Vec<Endpoint>, SetupError> {
    let pings = Arc::new(config.pings.clone());
    let mut endpoints = Vec::new();
    let bot = Bot::new(&config.discord, http);
    if let (Some(channel), Some(bot)) = (config.discord.admin_channel, &bot) {
        endpoints.push(Endpoint {
            id: operator::ENDPOINT.to_owned(),
            receiver: String::new(),
            address: String::new(),
            board: None,
            notifier: Arc::new(Discord {
                place: Place::Channel(Channel::new(bot.clone(), channel, Needs::default(), false)),
                threads: false,
                tags: BTreeMap::new(),
                quiet: None,
                pings: Arc::default(),
                show_passcodes: false,
                remind: false,
            }),
        });
    }
    for receiver in config.receivers.values() {
        let Some(target) = &receiver.discord else { continue };
        let place = match &target.via {
            Via::Channel { id } => {
                let Some(bot) = bot.clone() else {
                    return Err(SetupError(format!(
                        "receiver {} names a Discord channel, but [discord] has no token",
                        receiver.name
                    )));
                };
                let needs = Needs::of(config, receiver).unwrap_or_default();
                Place::Channel(Channel::new(bot, *id, needs, target.crosspost))
            }
            Via::Webhook { url, thread, username, avatar, on_unknown } => Place::Webhook(Webhook {
                http: http.clone(),
                api_url: config.discord.api_url.clone(),
                url: url.clone(),
                thread: *thread,
                username: username.clone(),
                avatar: avatar.clone(),
                on_unknown: *on_unknown,
                threads: target.thread_per_event,
            }),
        };
        let discord = Arc::new(Discord {
            place,
            threads: target.thread_per_event,
            tags: target.tags.clone(),
            quiet: target.quiet,
            pings: Arc::clone(&pings),
            show_passcodes: receiver.show_passcodes,
            // Of a webhook's buttons nobody is told.
            remind: config.discord.commands && matches!(target.via, Via::Channel { .. }),
        });
        endpoints.push(Endpoint {
            id: format!("{}/discord", receiver.name),
            receiver: receiver.name.clone(),
            address: String::new(),
            board: Some(Board { discord: Arc::clone(&discord) }),
            notifier: discord,
        });
    }
    Ok(endpoints)
}

/// Direct messages to people, by the bot.
pub(super) fn direct(bot: Bot) -> Arc<dyn Notifier> {
    Arc::new(direct::Direct::new(bot))
}

/// One receiver's place in Discord.
#[derive(Debug)]
struct Discord {
    place: Place,
    threads: bool,
    /// By category in lower case.
    tags: BTreeMap<String, String>,
    quiet: Option<Quiet>,
    /// By watch.
    pings: Arc<BTreeMap<String, Ping>>,
    show_passcodes: bool,
    /// See [`Style::remind`].
    remind: bool,
}

impl Discord {
    fn attention(&self, notification: &Notification, delivery: &DeliveryContext) -> Attention {
        let ping = self.pings.get(&notification.source);
        let zone = Zones::default().get(&notification.zone).unwrap_or(TimeZone::UTC);
        let time = local(delivery.now, &zone).time();
        Attention {
            roles: ping.map(|ping| ping.roles(notification)).unwrap_or_default(),
            silent: self.quiet.is_some_and(|quiet| quiet.holds(time)),
        }
    }

    /// The tags that the events ask for: those named for their categories, or of the same name.
    fn tags(&self, notification: &Notification) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for category in notification.items.iter().flat_map(|item| &item.event.categories) {
            let tag = self.tags.get(&category.to_lowercase()).unwrap_or(category);
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags
    }

    /// What makes a message a reply to another one of the same channel.
    /// <https://docs.discord.com/developers/resources/message#message-reference-structure>
    fn reference(&self, remote_id: &str) -> Option<Value> {
        let Place::Channel(channel) = &self.place else { return None };
        let (place, message) = remote_id.split_once('/')?;
        let here = !self.threads && place == channel.id.to_string();
        here.then(|| json!({ "message_id": message, "fail_if_not_exists": false }))
    }

    async fn post(
        &self,
        payload: &Payload,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        let post = Post::read(&payload.0)?;
        match &self.place {
            Place::Channel(channel) => channel.post(post, delivery).await,
            Place::Webhook(webhook) => webhook.post(post, delivery).await,
        }
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(one_line)
}

fn gone(reason: String) -> NotifyError {
    NotifyError::ReceiverGone { reason, for_good: false }
}

impl Notifier for Discord {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        let style = Style { remind: self.remind, ..delivery.style(self.show_passcodes, false) };
        let attention = self.attention(notification, delivery);
        let (name, tags) = (thread_name(notification, &style), self.tags(notification));
        let is_news = matches!(notification.kind, Kind::Changes | Kind::Reminder { .. });
        let of_event = is_news && notification.items.len() == 1 && notification.more == 0;
        let reference = delivery.reply_to.as_deref().and_then(|id| self.reference(id));
        let write = |mut message: Value| {
            if let Some(reference) = &reference {
                message["message_reference"] = reference.clone();
            }
            let (name, tags) = (name.clone(), tags.clone());
            Post { message, name, tags, of_event }.write()
        };
        render(notification, &style, &attention).into_iter().map(write).collect()
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(self.post(payload, delivery))
    }

    fn find<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
        since: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Receipt>, NotifyError>> {
        Box::pin(async move {
            match &self.place {
                Place::Channel(channel) => {
                    let post = Post::read(&payload.0)?;
                    channel.find(&post, delivery, since).await.map_err(unasked)
                }
                Place::Webhook(_) => Ok(Vec::new()),
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async {
            let described = match &self.place {
                Place::Channel(channel) => channel.look().await,
                Place::Webhook(webhook) => webhook.look().await,
            };
            described.map_err(unasked)
        })
    }

    fn keeps_threads(&self) -> bool {
        self.threads
    }

    fn on_doubt(&self) -> OnDoubt {
        match &self.place {
            Place::Webhook(webhook) if webhook.on_unknown == OnUnknown::Hold => OnDoubt::Hold,
            _ => OnDoubt::Resend,
        }
    }
}

/// A read that fails is never uncertain: nothing was to arrive.
fn unasked(error: NotifyError) -> NotifyError {
    match error {
        NotifyError::Uncertain { after, reason } => NotifyError::Retry { after, reason },
        other => other,
    }
}

//! Messages to people, who asked for them by slash commands.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Bot};
use super::{outcome, readback, unasked};
use crate::message::discord::{Attention, Target, render};
use crate::notify::{BoxFuture, DeliveryContext, Notifier, NotifyError, Payload, Receipt};
use crate::plan::Notification;

/// Channels remembered; beyond that all are asked for anew.
const MAX_CHANNELS: usize = 10_000;

/// Discord's answers where somebody takes no messages from the bot, or has left all its servers.
/// <https://docs.discord.com/developers/topics/opcodes-and-status-codes>
const CANNOT_SEND: [u64; 2] = [50007, 50278];

/// The bot's direct messages. The address of a delivery is a user id.
#[derive(Debug)]
pub(super) struct Direct {
    bot: Bot,
    /// The channel of each person's direct messages; it never changes.
    channels: Mutex<HashMap<String, String>>,
}

impl Direct {
    pub(super) fn new(bot: Bot) -> Direct {
        Direct { bot, channels: Mutex::default() }
    }

    async fn channel(&self, person: &str) -> Result<String, NotifyError> {
        let known = self.channels().get(person).cloned();
        if let Some(channel) = known {
            return Ok(channel);
        }
        let body = json!({ "recipient_id": person });
        let answer = self.bot.call(Method::POST, "/users/@me/channels", Some(&body)).await?;
        let found = accepted(&answer)?.get("id").and_then(Value::as_str);
        let is_id = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let channel = found.filter(is_id).map(str::to_owned).ok_or_else(|| {
            let reason = "Discord names no channel for the direct message".to_owned();
            NotifyError::Retry { after: None, reason }
        })?;
        let mut channels = self.channels();
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        channels.insert(person.to_owned(), channel.clone());
        Ok(channel)
    }

    async fn post(
        &self,
        payload: &Payload,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        // It was found there.
        if let Some(remote_id) = &delivery.posted {
            return Ok(Receipt { remote_id: remote_id.clone() });
        }
        let channel = self.channel(&delivery.address).await?;
        let body = readback::marked(&read(payload)?, delivery);
        let path = format!("/channels/{channel}/messages");
        let answer = self.bot.post(&path, &body).await?;
        if answer.code().is_some_and(|code| CANNOT_SEND.contains(&code)) {
            accepted(&answer)?;
        }
        let receipt = outcome::of_message(&answer, Target::Bot)?;
        Ok(Receipt { remote_id: format!("{channel}/{}", receipt.remote_id) })
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a payload says.
fn read(payload: &Payload) -> Result<Value, NotifyError> {
    serde_json::from_str(&payload.0).map_err(|error| NotifyError::Permanent {
        reason: format!("the outbox holds something else than a message: {error}"),
    })
}

/// A person who cannot be written to is no endpoint to be parked and tried again: each attempt
/// counts as an invalid request.
fn accepted(answer: &Answer) -> Result<&Value, NotifyError> {
    let closed = answer.code().is_some_and(|code| CANNOT_SEND.contains(&code));
    answer.accepted().map_err(|error| match closed {
        true => NotifyError::Permanent { reason: error.to_string() },
        false => error,
    })
}

impl Notifier for Direct {
    /// Passcodes are hidden: the event may come from a calendar that not everybody may see whole.
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        let style = delivery.style(false, false);
        let write = |message: Value| Payload(message.to_string());
        render(notification, &style, &Attention::default()).into_iter().map(write).collect()
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
            let channel = self.channel(&delivery.address).await.map_err(unasked)?;
            let message = read(payload)?;
            let found = readback::find(&self.bot, &channel, &message, delivery, since).await;
            found.map_err(unasked)
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async {
            let answer = self.bot.call(Method::GET, "/users/@me", None).await?;
            answer.accepted()?;
            Ok("direct messages".to_owned())
        })
    }
}

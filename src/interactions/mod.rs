//! Slash commands, buttons and menus in Discord.
//!
//! | step | module |
//! |---|---|
//! | which commands there are, and that Discord knows them | `commands` |
//! | Discord says that somebody used one: over a WebSocket, or by HTTP | `gateway`, [`endpoint`] |
//! | its JSON → an `Interaction` | `request` |
//! | what buttons carry | `press` |
//! | lookups and deeds | `desk` |
//! | words | `answer`, `why` |
//!
//! An answer must come within three seconds. What is not ready by then is announced ("thinking …")
//! and filled in later. An interaction that cannot be answered in time is lost, and only logged:
//! the person sees it and asks again.

mod answer;
mod commands;
mod desk;
pub mod endpoint;
mod gateway;
pub(crate) mod press;
mod request;
#[cfg(test)]
mod tests;
mod why;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::notify::NotifyError;
use crate::notify::discord::Bot;
use crate::pipeline::Pipeline;
use answer::{Answer, deferral, notice};
use desk::Desk;
use endpoint::Endpoint;
use gateway::Gateway;
use request::{Act, Interaction};

/// How long somebody is kept waiting before the first answer. Discord allows three seconds, the way
/// there and back included.
const BUDGET: Duration = Duration::from_millis(1800);
/// Interactions that wait to be looked at. What comes on top is not answered.
const QUEUE: usize = 128;
/// Answered at the same time.
const AT_ONCE: usize = 16;
/// Between attempts to fill in an answer.
const RETRY: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;
/// Between attempts to register the commands; it doubles up to an hour.
const REGISTER_AGAIN: Duration = Duration::from_secs(60);

/// Discord's answers that mean: too late, or answered already.
const TOO_LATE: [u64; 2] = [10062, 40060];

/// An interaction that has come in.
#[derive(Debug)]
pub struct Incoming {
    pub interaction: Interaction,
    pub arrival: Arrival,
}

/// How it came in, which is how the first answer goes out.
#[derive(Debug)]
pub enum Arrival {
    /// Answered by a request of our own.
    Gateway,
    /// Answered by the response.
    Http(oneshot::Sender<Value>),
}

/// Where interactions wait for [`run`].
#[derive(Debug)]
pub struct Inbox {
    arrivals: mpsc::Sender<Incoming>,
    waiting: mpsc::Receiver<Incoming>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let (arrivals, waiting) = mpsc::channel(QUEUE);
        Inbox { arrivals, waiting }
    }
}

impl Inbox {
    /// For the HTTP server; none where interactions do not come by HTTP.
    pub fn endpoint(&self, pipeline: &Pipeline) -> Option<Endpoint> {
        let discord = &pipeline.config.discord;
        let key = discord.public_key.filter(|_| discord.commands)?;
        Some(Endpoint::new(key, self.arrivals.clone()))
    }
}

/// Registers the commands and answers those who use them; never ends. `now` reads the clock.
pub async fn run(
    pipeline: &Pipeline,
    bot: &Bot,
    mut inbox: Inbox,
    news: &tokio::sync::Notify,
    now: fn() -> Timestamp,
) -> Infallible {
    let config = &pipeline.config.discord;
    let arrivals = inbox.arrivals.clone();
    let listening = async {
        // Where Discord posts, it says nothing over the gateway.
        if config.public_key.is_none()
            && let Some(gateway) = Gateway::new(&pipeline.config, bot.clone())
        {
            let heard = |interaction| {
                let incoming = Incoming { interaction, arrival: Arrival::Gateway };
                if arrivals.try_send(incoming).is_err() {
                    warn!("too many interactions at once: one is not answered");
                }
            };
            gateway.run(heard).await;
        }
    };
    let desk = Desk::new(pipeline, news);
    let answering = answer_all(&desk, bot, &mut inbox.waiting, now);
    let ((), (), never) = tokio::join!(register(pipeline, bot, now), listening, answering);
    never
}

async fn answer_all(
    desk: &Desk<'_>,
    bot: &Bot,
    waiting: &mut mpsc::Receiver<Incoming>,
    now: fn() -> Timestamp,
) -> Infallible {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(incoming) = waiting.recv(), if under_way.len() < AT_ONCE => {
                under_way.push(attend(desk, bot, incoming, now()));
            }
            Some(()) = under_way.next() => {}
            // `Inbox` holds a sender, so that more can always come.
            else => std::future::pending().await,
        }
    }
}

/// Until Discord has the commands, or refuses them.
async fn register(pipeline: &Pipeline, bot: &Bot, now: fn() -> Timestamp) {
    let config = &pipeline.config.discord;
    let mut wait = REGISTER_AGAIN;
    loop {
        let (application, guild) = (config.application_id, config.guild);
        match commands::register(bot, &pipeline.store, application, guild, now()).await {
            Ok(commands::Registered::Unchanged) => return,
            Ok(commands::Registered::Changed) => {
                info!(guild, "slash commands registered");
                return;
            }
            Err(commands::RegisterError::Discord(
                error @ (NotifyError::Permanent { .. } | NotifyError::ReceiverGone { .. }),
            )) => {
                error!("slash commands cannot be registered: {error}");
                return;
            }
            Err(error) => warn!(again_in = ?wait, "slash commands are not registered yet: {error}"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(3600));
    }
}

/// Answers one interaction.
async fn attend(desk: &Desk<'_>, bot: &Bot, incoming: Incoming, now: Timestamp) {
    let Incoming { interaction, arrival } = incoming;
    let answering = AssertUnwindSafe(desk.answer(&interaction, now)).catch_unwind();
    let mut answering = pin!(answering.map(|answer| {
        answer.unwrap_or_else(|_| {
            error!("beadle failed at an interaction; this is a bug");
            Answer::Say(notice("Something went wrong on my side."))
        })
    }));
    // What asks a server elsewhere is not tried against the clock.
    let slow = matches!(&interaction.act, Act::Command(command) if command.name == "refresh");
    let quick = match slow {
        true => None,
        false => timeout(BUDGET, &mut answering).await.ok(),
    };
    if let Some(answer) = quick {
        first(bot, &interaction, arrival, answer.first()).await;
        return;
    }
    if !first(bot, &interaction, arrival, deferral(&interaction.act)).await {
        // The deed is done all the same; nobody can be told.
        answering.await;
        return;
    }
    let Some(body) = answering.await.later() else { return };
    fill_in(bot, &interaction, &body).await;
}

/// Sends the first answer; whether Discord took it. It is never repeated: a second one would be
/// refused, and a late one is.
async fn first(bot: &Bot, interaction: &Interaction, arrival: Arrival, body: Value) -> bool {
    match arrival {
        Arrival::Http(reply) => reply.send(body).is_ok(),
        Arrival::Gateway => {
            let Interaction { id, token, .. } = interaction;
            let path = format!("/interactions/{id}/{}/callback", token.expose());
            let error = match bot.call(Method::POST, &path, Some(&body)).await {
                Ok(answer) if answer.code().is_some_and(|code| TOO_LATE.contains(&code)) => {
                    warn!(code = answer.code(), "an answer came too late");
                    return false;
                }
                Ok(answer) => match answer.accepted() {
                    Ok(_) => return true,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            warn!("an answer was not taken: {error}");
            false
        }
    }
}

/// Puts the answer in place of "thinking …".
async fn fill_in(bot: &Bot, interaction: &Interaction, body: &Value) {
    let Interaction { application, token, .. } = interaction;
    let path = format!("/webhooks/{application}/{}/messages/@original", token.expose());
    for attempt in 1..=ATTEMPTS {
        let result = bot.call(Method::PATCH, &path, Some(body)).await;
        let error = match result {
            Ok(answer) => match answer.accepted() {
                Ok(_) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        let again = matches!(error, NotifyError::Retry { .. } | NotifyError::Uncertain { .. });
        if !again || attempt == ATTEMPTS {
            warn!("an answer was not taken: {error}");
            return;
        }
        debug!("an answer is tried again: {error}");
        sleep(RETRY).await;
    }
}

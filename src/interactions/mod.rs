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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::notify::NotifyError;
use crate::notify::discord::Bot;
use crate::operator::{self, Incident};
use crate::pipeline::Pipeline;
use crate::retry;
use answer::{Answer, deferral, notice};
use commands::{RegisterError, Registered, Registrar};
use desk::Desk;
use endpoint::Endpoint;
use gateway::{Gateway, Heard};
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
/// How often it is seen whether Discord still lists the commands, and tried what was refused.
const REGISTER_EVERY: Duration = Duration::from_secs(3600);

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

/// Registers the commands and answers those who use them, where they are wanted; else withdraws
/// those that are registered. Never ends. `now` reads the clock.
pub async fn run(
    pipeline: &Pipeline,
    bot: &Bot,
    mut inbox: Inbox,
    news: &Notify,
    now: fn() -> Timestamp,
) -> Infallible {
    let config = &pipeline.config.discord;
    let opening = Opening::default();
    let registering = keep_registered(pipeline, bot, &opening, news, now);
    if !config.commands {
        return registering.await;
    }
    let arrivals = inbox.arrivals.clone();
    let listening = async {
        // Where Discord posts, it says nothing over the gateway.
        let gateway = Gateway::new(&pipeline.config, bot.clone());
        let Some(gateway) = gateway.filter(|_| config.public_key.is_none()) else {
            opening.listens();
            return std::future::pending().await;
        };
        let heard = |heard| match heard {
            Heard::Ready => opening.listens(),
            Heard::Interaction(interaction) => {
                let incoming = Incoming { interaction, arrival: Arrival::Gateway };
                if arrivals.try_send(incoming).is_err() {
                    warn!("too many interactions at once: one is not answered");
                }
            }
        };
        gateway.run(heard).await
    };
    let desk = Desk::new(pipeline, news);
    tokio::select! {
        never = registering => match never {},
        never = listening => match never {},
        never = answer_all(&desk, bot, &mut inbox.waiting, now) => match never {},
    }
}

/// Says when people can use commands: Discord lists them, and beadle hears of their use.
#[derive(Debug, Default)]
struct Opening {
    registered: AtomicBool,
    listens: AtomicBool,
    said: AtomicBool,
}

impl Opening {
    fn registered(&self) {
        self.registered.store(true, Ordering::Relaxed);
        self.say();
    }

    fn listens(&self) {
        self.listens.store(true, Ordering::Relaxed);
        self.say();
    }

    fn say(&self) {
        let both = self.registered.load(Ordering::Relaxed) && self.listens.load(Ordering::Relaxed);
        if both && !self.said.swap(true, Ordering::Relaxed) {
            info!("slash commands are on");
        }
    }
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

/// Sees to it that Discord lists the commands, now and every hour.
async fn keep_registered(
    pipeline: &Pipeline,
    bot: &Bot,
    opening: &Opening,
    news: &Notify,
    now: fn() -> Timestamp,
) -> Infallible {
    let mut registrar = Registrar::default();
    let mut failures = 0;
    loop {
        let at = now();
        let end = registrar.register(bot, &pipeline.store, &pipeline.config.discord).await;
        let wait = match concluded(pipeline, end, opening, news, at).await {
            Ok(()) => {
                failures = 0;
                REGISTER_EVERY
            }
            Err(error) => {
                failures += 1;
                let until = retry::next_attempt(at, failures, error.after(), operator::COMMANDS);
                let wait = until.duration_since(at).unsigned_abs();
                warn!(again_in = ?wait, "slash commands are not registered yet: {error}");
                wait
            }
        };
        sleep(wait).await;
    }
}

/// Says what came of a registration: to the log, and if it was refused, or no longer is, to the
/// operator. An error is one that passes.
async fn concluded(
    pipeline: &Pipeline,
    end: Result<Registered, RegisterError>,
    opening: &Opening,
    news: &Notify,
    now: Timestamp,
) -> Result<(), RegisterError> {
    let (store, discord) = (&pipeline.store, &pipeline.config.discord);
    let what = operator::COMMANDS;
    match end {
        Ok(registered) => {
            match registered {
                Registered::Unchanged => {}
                Registered::Changed => info!(discord.guild, "slash commands registered"),
                Registered::Withdrawn => info!("slash commands withdrawn"),
            }
            let parked = store.parked().await?;
            if let Some(parked) = parked.into_iter().find(|parked| parked.endpoint == what) {
                let incident = Incident::CommandsBack { since: parked.since };
                // Who no longer wants them need not be told.
                let notice = pipeline.notice(what, incident, now).filter(|_| discord.commands);
                store.unpark(what, notice.as_ref(), now).await?;
                news.notify_one();
            }
            if discord.commands {
                opening.registered();
            }
        }
        Err(RegisterError::Refused(reason)) => {
            error!("slash commands cannot be registered: {reason}; tried again in an hour");
            let again = now.saturating_add(REGISTER_EVERY).unwrap_or(now);
            let notice = pipeline.notice(what, Incident::CommandsRefused { reason: &reason }, now);
            store.park(what, &reason, again, notice.as_ref(), now).await?;
            news.notify_one();
        }
        Err(error) => return Err(error),
    }
    Ok(())
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

//! Endpoints that write down what they are told, and fail as a year of outages would have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beadle::notify::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, Payload, Receipt, Registry,
};
use beadle::plan::Notification;
use jiff::{SignedDuration, Timestamp};

use super::model::Rng;

/// How long Discord remembers a nonce; it says "a few minutes".
const NONCE: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Some attempts fail, and of some the answer is lost.
    Flaky,
    /// All fail; what was taken all the same nobody knows.
    Down,
    Limited,
    /// Asks to be left alone, as a channel does that was closed to the bot.
    Closed,
}

/// The process dies while a message is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crash {
    BeforeItIsTaken,
    AfterItWasTaken,
}

/// A message that reached its audience.
#[derive(Debug)]
pub struct Accepted {
    pub endpoint: String,
    pub notification: Notification,
    pub says_late: bool,
    pub due_at: Timestamp,
    /// An earlier attempt may have arrived, so this one had to be the same.
    pub bound: bool,
    /// It was there already, and beadle could not know.
    pub repeated: bool,
}

#[derive(Debug, Default)]
struct Message {
    meaning: String,
    bytes: String,
    accepted: Vec<Timestamp>,
    /// Attempts of which beadle cannot know how they ended.
    uncertain: usize,
    /// The process died after it had written it down and before it had settled it.
    stranded: bool,
}

#[derive(Debug)]
pub struct Tape {
    pub now: Timestamp,
    pub rng: Rng,
    pub trouble: BTreeMap<String, Trouble>,
    /// The next message is refused for good.
    pub poison: bool,
    pub crash: Option<Crash>,
    pub crashed: bool,
    notifications: BTreeMap<String, Notification>,
    messages: BTreeMap<String, Message>,
    under_way: Vec<String>,
    written: Vec<String>,
    pub accepted: Vec<Accepted>,
    pub broken: Vec<String>,
    pub attempts: usize,
    pub doubles: usize,
}

impl Tape {
    pub fn new(now: Timestamp, rng: Rng) -> Tape {
        Tape {
            now,
            rng,
            trouble: BTreeMap::new(),
            poison: false,
            crash: None,
            crashed: false,
            notifications: BTreeMap::new(),
            messages: BTreeMap::new(),
            under_way: Vec::new(),
            written: Vec::new(),
            accepted: Vec::new(),
            broken: Vec::new(),
            attempts: 0,
            doubles: 0,
        }
    }

    /// What was sent since then is not known to have been sent: the process died, or could not
    /// write it down.
    pub fn lose_track(&mut self) {
        for id in std::mem::take(&mut self.under_way) {
            self.messages.get_mut(&id).unwrap().uncertain += 1;
        }
        for id in std::mem::take(&mut self.written) {
            self.messages.entry(id).or_default().stranded = true;
        }
    }

    pub fn keep_track(&mut self) {
        self.under_way.clear();
        self.written.clear();
    }

    /// A database that was restored has forgotten ids, and makes them anew.
    pub fn forget(&mut self) {
        self.notifications.clear();
        self.messages.clear();
    }

    fn render(&mut self, id: &str, notification: &Notification) {
        self.notifications.insert(id.to_owned(), notification.clone());
        self.written.push(id.to_owned());
    }

    /// One attempt; none when the process dies in it.
    fn send(
        &mut self,
        endpoint: &str,
        payload: &str,
        delivery: &DeliveryContext,
    ) -> Option<Result<Receipt, NotifyError>> {
        self.attempts += 1;
        let id = &delivery.dedup_key;
        let notification = self.notifications[id].clone();
        let mut meaning = notification.clone();
        // The same talk as it was read later is the same reminder.
        if meaning.kind != beadle::plan::Kind::Changes {
            meaning.items.clear();
        }
        let meaning = format!("{meaning:?}");
        let message = self.messages.entry(id.clone()).or_default();
        if !message.meaning.is_empty() && message.meaning != meaning {
            self.broken.push(format!("{id} meant {}, and now {meaning}", message.meaning));
        }
        if message.uncertain > 0 && message.bytes != payload {
            self.broken.push(format!("{id} has other bytes than an attempt that may have arrived"));
        }
        (message.meaning, message.bytes) = (meaning, payload.to_owned());
        self.under_way.push(id.clone());

        if self.crash == Some(Crash::BeforeItIsTaken) {
            (self.crash, self.crashed) = (None, true);
            return None;
        }
        let refused = || NotifyError::Retry { after: None, reason: "refused".to_owned() };
        let unknown = || NotifyError::Uncertain { after: None, reason: "cut".to_owned() };
        let (accept, error) = match self.trouble.get(endpoint) {
            _ if std::mem::take(&mut self.poison) => {
                let reason = "no such form of message".to_owned();
                (false, Some(NotifyError::Permanent { reason }))
            }
            None => (true, None),
            Some(Trouble::Flaky) if self.rng.chance(40) => (true, None),
            Some(Trouble::Flaky | Trouble::Down) => match self.rng.below(3) {
                0 => (false, Some(refused())),
                1 => (false, Some(unknown())),
                _ => (true, Some(unknown())),
            },
            Some(Trouble::Limited) => {
                let after = Some(Duration::from_secs(1 + self.rng.below(900)));
                (false, Some(NotifyError::Retry { after, reason: "429".to_owned() }))
            }
            Some(Trouble::Closed) => {
                let reason = "Missing Access".to_owned();
                (false, Some(NotifyError::ReceiverGone { reason, for_good: false }))
            }
        };
        if accept {
            self.accept(endpoint, notification, payload, delivery);
        }
        if matches!(error, Some(NotifyError::Uncertain { .. })) {
            self.messages.get_mut(id).unwrap().uncertain += 1;
        }
        if self.crash == Some(Crash::AfterItWasTaken) {
            (self.crash, self.crashed) = (None, true);
            return None;
        }
        Some(error.map_or_else(|| Ok(Receipt { remote_id: format!("at {endpoint}") }), Err))
    }

    fn accept(
        &mut self,
        endpoint: &str,
        notification: Notification,
        payload: &str,
        delivery: &DeliveryContext,
    ) {
        let message = self.messages.get_mut(&delivery.dedup_key).unwrap();
        let known = message.accepted.last().copied();
        let by_nonce = endpoint.starts_with("bot") && known.is_some_and(|at| self.now - at < NONCE);
        if by_nonce {
            return;
        }
        if known.is_some() {
            self.doubles += 1;
            if message.accepted.len() > message.uncertain {
                self.broken.push(format!("{endpoint} got {notification:?} once too often"));
            }
        }
        message.accepted.push(self.now);
        self.accepted.push(Accepted {
            endpoint: endpoint.to_owned(),
            notification,
            says_late: payload.contains("late by"),
            due_at: delivery.due_at,
            bound: message.uncertain > 0 || message.stranded,
            repeated: known.is_some(),
        });
    }
}

/// Renders as the real backend does, and hands to the tape what that would send.
struct Recorder {
    endpoint: String,
    inner: Arc<dyn Notifier>,
    tape: Arc<Mutex<Tape>>,
}

impl Notifier for Recorder {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        self.tape.lock().unwrap().render(&delivery.dedup_key, notification);
        let payloads = self.inner.render(notification, delivery);
        // The year is a quiet one: no message needs several parts.
        assert!(payloads.len() == 1 && !payloads[0].0.is_empty());
        payloads
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(async move {
            let answer = self.tape.lock().unwrap().send(&self.endpoint, &payload.0, delivery);
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        self.inner.check()
    }
}

/// The endpoints of a registry, on tape.
pub fn record(registry: &Registry, ids: &[String], tape: &Arc<Mutex<Tape>>) -> Registry {
    let endpoint = |id: &String| {
        let endpoint = registry.get(id).unwrap().clone();
        let notifier = Recorder {
            endpoint: id.clone(),
            inner: Arc::clone(&endpoint.notifier),
            tape: Arc::clone(tape),
        };
        Endpoint { notifier: Arc::new(notifier), ..endpoint }
    };
    ids.iter().map(endpoint).collect()
}

//! Endpoints that write down what they are told, and fail as a year of outages would have it.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Every answer takes its time.
    Slow,
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
    /// By beadle's clock.
    pub at: Timestamp,
    /// An earlier attempt may have arrived, so this one had to be the same.
    pub bound: bool,
    /// It was there already, and beadle could not know.
    pub repeated: bool,
}

/// How a year went for one medium.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub attempts: usize,
    /// Attempts of which beadle cannot know how they ended.
    pub unknown: usize,
    pub doubles: usize,
}

#[derive(Debug, Default)]
struct Message {
    meaning: String,
    bytes: String,
    accepted: Vec<Timestamp>,
    remote_id: String,
    /// An attempt may have arrived, as far as beadle can know.
    doubtful: bool,
    /// How often it was taken and beadle cannot know.
    taken_unseen: usize,
    /// The process died after it had written it down and before it had settled it.
    stranded: bool,
    /// It had arrived when a backup was made, which may not know it.
    arrived_before: bool,
}

/// The attempt that is not settled yet.
#[derive(Debug)]
struct UnderWay {
    id: String,
    medium: &'static str,
    /// The answer has told beadle that it does not know.
    known_unknown: bool,
    accepted: bool,
    refused: bool,
}

#[derive(Debug)]
pub struct Tape {
    /// By beadle's clock, and by everyone else's, when beadle last looked at it.
    pub now: Timestamp,
    pub time: Timestamp,
    looked: tokio::time::Instant,
    pub rng: Rng,
    pub trouble: BTreeMap<String, Trouble>,
    /// The next message of this medium is refused for good.
    pub poison: Option<&'static str>,
    pub crash: Option<Crash>,
    pub crashed: bool,
    pub notifications: BTreeMap<String, Notification>,
    messages: BTreeMap<String, Message>,
    /// What stands in the bot's channel: bytes, ids, and since when.
    channel: Vec<(String, String, Timestamp)>,
    under_way: Option<UnderWay>,
    written: Vec<String>,
    /// Every name that a message which arrived was ever given, and which message that was.
    pub receipts: BTreeMap<String, String>,
    /// The messages that were refused for good, and how often each of the others was not taken.
    pub refused: BTreeSet<String>,
    pub failures: BTreeMap<String, usize>,
    pub accepted: Vec<Accepted>,
    pub broken: Vec<String>,
    /// By medium.
    pub scores: BTreeMap<&'static str, Score>,
    /// How often each kind of failure came.
    pub mishaps: BTreeMap<&'static str, usize>,
}

/// What one attempt comes to.
enum Outcome {
    Answer(Result<Receipt, NotifyError>, Duration),
    Killed,
}

impl Tape {
    pub fn new(now: Timestamp, rng: Rng) -> Tape {
        Tape {
            now,
            time: now,
            looked: tokio::time::Instant::now(),
            rng,
            trouble: BTreeMap::new(),
            poison: None,
            crash: None,
            crashed: false,
            notifications: BTreeMap::new(),
            messages: BTreeMap::new(),
            channel: Vec::new(),
            under_way: None,
            written: Vec::new(),
            receipts: BTreeMap::new(),
            refused: BTreeSet::new(),
            failures: BTreeMap::new(),
            accepted: Vec::new(),
            broken: Vec::new(),
            scores: BTreeMap::new(),
            mishaps: BTreeMap::new(),
        }
    }

    pub fn set_clock(&mut self, now: Timestamp, time: Timestamp) {
        (self.now, self.time) = (now, time);
        self.looked = tokio::time::Instant::now();
    }

    /// What is under way is not known to have arrived: the process died, or could not write it down.
    pub fn lose_track(&mut self) {
        if let Some(last) = self.under_way.take().filter(|last| !last.refused) {
            let message = self.messages.get_mut(&last.id).unwrap();
            message.doubtful = true;
            if !last.known_unknown {
                message.taken_unseen += usize::from(last.accepted);
                self.scores.entry(last.medium).or_default().unknown += 1;
            }
        }
        for id in std::mem::take(&mut self.written) {
            self.messages.entry(id).or_default().stranded = true;
        }
    }

    pub fn keep_track(&mut self) {
        self.under_way = None;
        self.written.clear();
    }

    /// What has arrived, and beadle may not know it yet.
    pub fn doubtful(&self) -> BTreeSet<String> {
        let doubtful = self
            .messages
            .iter()
            .filter(|(_, one)| one.doubtful && !one.accepted.is_empty() || one.arrived_before);
        doubtful.map(|(id, _)| id.clone()).collect()
    }

    /// A database that was restored has forgotten ids, and makes them anew; but what was written down
    /// before the backup is in it.
    pub fn forget(&mut self, doubtful: &BTreeSet<String>) {
        let stranded = |id: &String| {
            let arrived_before = doubtful.contains(id);
            Message { stranded: true, arrived_before, ..Message::default() }
        };
        let ids = self.notifications.keys();
        self.messages = ids.map(|id| (id.clone(), stranded(id))).collect();
    }

    /// To which endpoint a message that arrived went.
    pub fn endpoint(&self, id: &str) -> String {
        let (receipt, _) = self.receipts.iter().find(|(_, of)| *of == id).unwrap();
        receipt.rsplit_once('/').unwrap().0.to_owned()
    }

    fn render(&mut self, id: &str, notification: &Notification) {
        self.notifications.insert(id.to_owned(), notification.clone());
        self.messages.entry(id.to_owned()).or_default().stranded = false;
        self.written.push(id.to_owned());
    }

    /// One attempt.
    fn send(&mut self, endpoint: &str, payload: &str, delivery: &DeliveryContext) -> Outcome {
        let medium = medium(endpoint);
        if let Some(posted) = &delivery.posted {
            return Outcome::Answer(Ok(Receipt { remote_id: posted.clone() }), Duration::ZERO);
        }
        self.scores.entry(medium).or_default().attempts += 1;
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
        if message.doubtful && message.bytes != payload {
            self.broken.push(format!("{id} has other bytes than an attempt that may have arrived"));
        }
        (message.meaning, message.bytes) = (meaning, payload.to_owned());
        // One at a time: the one before is settled.
        let (id, known_unknown, accepted, refused) = (id.clone(), false, false, false);
        self.under_way = Some(UnderWay { id, medium, known_unknown, accepted, refused });

        if self.crash == Some(Crash::BeforeItIsTaken) {
            (self.crash, self.crashed) = (None, true);
            self.count("killed before a message was taken");
            return Outcome::Killed;
        }
        let (accept, error, slow) = self.fate(endpoint, medium);
        let mut remote_id = String::new();
        if accept {
            remote_id = self.accept(endpoint, medium, notification, payload, delivery);
        }
        let unknown = matches!(error, Some(NotifyError::Uncertain { .. }));
        match &error {
            Some(NotifyError::Permanent { .. }) => {
                self.refused.insert(delivery.dedup_key.clone());
            }
            Some(_) => *self.failures.entry(delivery.dedup_key.clone()).or_default() += 1,
            None => {}
        }
        if let Some(under_way) = &mut self.under_way {
            under_way.accepted = accept;
            under_way.known_unknown = unknown;
            under_way.refused = error.is_some() && !unknown;
        }
        if unknown {
            let message = self.messages.get_mut(&delivery.dedup_key).unwrap();
            message.doubtful = true;
            message.taken_unseen += usize::from(accept);
            self.scores.entry(medium).or_default().unknown += 1;
        }
        if self.crash == Some(Crash::AfterItWasTaken) {
            (self.crash, self.crashed) = (None, true);
            self.count("killed after a message was taken");
            return Outcome::Killed;
        }
        Outcome::Answer(error.map_or(Ok(Receipt { remote_id }), Err), slow)
    }

    /// Whether the message is taken, what beadle hears instead of a receipt, and how long that takes.
    fn fate(
        &mut self,
        endpoint: &str,
        medium: &'static str,
    ) -> (bool, Option<NotifyError>, Duration) {
        let mail = medium == "mail";
        if self.poison == Some(medium) {
            self.poison = None;
            self.count(if mail { "mail: 5xx" } else { "Discord: 400" });
            let reason = "no such form of message".to_owned();
            return (false, Some(NotifyError::Permanent { reason }), Duration::ZERO);
        }
        let unknown = || Some(NotifyError::Uncertain { after: None, reason: "cut".to_owned() });
        let (what, accept, error, slow) = match self.trouble.get(endpoint) {
            None => return (true, None, Duration::ZERO),
            Some(Trouble::Flaky) if self.rng.chance(40) => return (true, None, Duration::ZERO),
            Some(Trouble::Flaky | Trouble::Down) => match self.rng.below(3) {
                0 => {
                    let reason = "refused".to_owned();
                    let what = if mail { "mail: 4xx" } else { "Discord: not reached" };
                    (what, false, Some(NotifyError::Retry { after: None, reason }), 0)
                }
                1 => {
                    let what = if mail { "mail: cut before it is kept" } else { "Discord: 5xx" };
                    (what, false, unknown(), 0)
                }
                _ => {
                    let what =
                        if mail { "mail: cut after the dot" } else { "Discord: answer lost" };
                    (what, true, unknown(), 30)
                }
            },
            Some(Trouble::Limited) => {
                let after = Some(Duration::from_secs(1 + self.rng.below(900)));
                let what = if mail { "mail: 421" } else { "Discord: 429" };
                (what, false, Some(NotifyError::Retry { after, reason: "429".to_owned() }), 0)
            }
            Some(Trouble::Closed) => {
                let reason = "Missing Access".to_owned();
                let what = if mail { "mail: login refused" } else { "Discord: closed" };
                (what, false, Some(NotifyError::ReceiverGone { reason, for_good: false }), 0)
            }
            Some(Trouble::Slow) => {
                let what = if mail { "mail: slow" } else { "Discord: slow" };
                (what, true, None, 1 + self.rng.below(45))
            }
        };
        self.count(what);
        (accept, error, Duration::from_secs(slow))
    }

    fn count(&mut self, what: &'static str) {
        *self.mishaps.entry(what).or_default() += 1;
    }

    fn accept(
        &mut self,
        endpoint: &str,
        medium: &'static str,
        notification: Notification,
        payload: &str,
        delivery: &DeliveryContext,
    ) -> String {
        let message = self.messages.get_mut(&delivery.dedup_key).unwrap();
        let known = message.accepted.last().copied();
        let by_nonce = medium == "bot" && known.is_some_and(|at| self.time - at < NONCE);
        if by_nonce {
            return message.remote_id.clone();
        }
        if known.is_some() {
            self.scores.entry(medium).or_default().doubles += 1;
            if medium == "bot" || message.accepted.len() > message.taken_unseen {
                self.broken.push(format!("{endpoint} got {notification:?} once too often"));
            }
        }
        let remote_id = format!("{endpoint}/{}", self.scores[medium].attempts);
        message.accepted.push(self.time);
        self.receipts.insert(remote_id.clone(), delivery.dedup_key.clone());
        message.remote_id.clone_from(&remote_id);
        self.accepted.push(Accepted {
            endpoint: endpoint.to_owned(),
            notification,
            says_late: payload.contains("late by"),
            due_at: delivery.due_at,
            at: self.now + self.looked.elapsed(),
            bound: message.doubtful || message.stranded,
            repeated: known.is_some() || message.arrived_before,
        });
        if medium == "bot" {
            self.channel.push((payload.to_owned(), remote_id.clone(), self.time));
        }
        remote_id
    }

    /// The messages of the bot's channel that say this, as reading it back shows them.
    fn find(&mut self, endpoint: &str, payload: &str, from: Option<Timestamp>) -> Vec<Receipt> {
        if medium(endpoint) != "bot" {
            return Vec::new();
        }
        let same = self.channel.iter().filter(|(bytes, _, at)| {
            bytes == payload && from.is_none_or(|from| *at + SignedDuration::from_secs(30) >= from)
        });
        let found: Vec<Receipt> =
            same.map(|(_, id, _)| Receipt { remote_id: id.clone() }).collect();
        self.count(match found.is_empty() {
            true => "read back, and not there",
            false => "read back, and there",
        });
        found
    }
}

fn medium(endpoint: &str) -> &'static str {
    match endpoint.split('/').next() {
        Some("bot") => "bot",
        Some("hook") => "webhook",
        _ => "mail",
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
            let outcome = self.tape.lock().unwrap().send(&self.endpoint, &payload.0, delivery);
            match outcome {
                Outcome::Answer(answer, Duration::ZERO) => answer,
                Outcome::Answer(answer, slow) => {
                    tokio::time::sleep(slow).await;
                    answer
                }
                Outcome::Killed => std::future::pending().await,
            }
        })
    }

    fn find<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
        since: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Receipt>, NotifyError>> {
        let from = delivery.twin.then_some(since);
        Box::pin(
            async move { Ok(self.tape.lock().unwrap().find(&self.endpoint, &payload.0, from)) },
        )
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

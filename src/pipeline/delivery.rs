//! From the outbox to the receivers.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, error, info, warn};

use crate::notify::{self, DeliveryContext, Endpoint, NotifyError, OnDoubt, Payload};
use crate::operator::Incident;
use crate::plan::{Field, Item, Kind, Notification, Reason};
use crate::retry;
use crate::store::shown::Shown;
use crate::store::{Delivery, Settlement, StoreError};

use super::{PARK, PATIENCE, Pipeline, beside};

/// How long a delivery may be under way before it counts as stuck.
const LEASE: SignedDuration = SignedDuration::from_mins(30);
/// After this long the rest of a queue goes back, so that no lease runs out while it is sent.
const QUEUE: Duration = Duration::from_mins(5);
/// How long an endpoint is left alone of which a message is held: while it is out of order, each
/// attempt costs one.
const HELD_REST: SignedDuration = SignedDuration::from_mins(5);
/// What the machine itself may take to send what it has written.
const MOMENT: SignedDuration = SignedDuration::from_secs(1);
/// Deliveries claimed at once: of all endpoints, and of each.
const CLAIM: u32 = 1000;
const CLAIM_OF_EACH: u32 = 10;
/// Attempts closer to one another than this are told apart by the other side itself, where it can.
const IN_DOUBT: SignedDuration = SignedDuration::from_secs(90);

/// What a round of deliveries did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    pub sent: usize,
    pub put_off: usize,
    pub dead: usize,
    /// Too late, or no longer true.
    pub skipped: usize,
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Delivered) {
        self.sent += other.sent;
        self.put_off += other.put_off;
        self.dead += other.dead;
        self.skipped += other.skipped;
    }
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Others can go on.
    Open,
    /// It did not answer, or has a problem; after some of these it is left alone.
    Unclear,
    /// It asks to be left alone.
    Closed,
}

/// Leased messages to one endpoint, in order, each with its payload. A delivery that has none of its
/// own was never tried with this one.
#[derive(Debug)]
pub struct Queue(Vec<(Delivery, String)>);

impl Pipeline {
    /// What was being sent by a process that is no more can be sent again. Gives of how many messages
    /// nobody knows whether they arrived.
    pub async fn recover(&self, now: Timestamp) -> Result<usize, StoreError> {
        let in_doubt = self.store.recover(now).await?;
        for endpoint in &in_doubt {
            self.metrics.in_doubt(self.registry.backend(endpoint));
        }
        Ok(in_doubt.len())
    }

    /// Begins again from what the database holds, after it has refused something. Nothing may be
    /// being sent.
    pub async fn resume(&self, now: Timestamp) -> Result<(), StoreError> {
        self.recover(now).await?;
        self.mirror.resume();
        Ok(())
    }

    /// Sends what is due in the outbox, each endpoint's messages in order, all endpoints at once.
    pub async fn deliver(&self, now: Timestamp) -> Result<Delivered, StoreError> {
        let started = tokio::time::Instant::now();
        let mut total = Delivered::default();
        let mut under_way = FuturesUnordered::new();
        let mut at = now;
        loop {
            let (claimed, ended) = beside(&mut under_way, self.claim(at)).await;
            let news = !ended.is_empty();
            for done in ended {
                total += done?;
            }
            let (queues, sorted_out) = claimed?;
            total += sorted_out;
            let idle = !news && queues.is_empty() && sorted_out == Delivered::default();
            under_way.extend(queues.into_iter().map(|queue| self.send(queue, at)));
            if idle {
                match under_way.next().await {
                    Some(done) => total += done?,
                    None => return Ok(total),
                }
            }
            // What comes of sending, such as a word to the operator, is due a moment later.
            at = now.saturating_add(started.elapsed()).unwrap_or(now);
        }
    }

    /// Takes what is due out of the outbox, for endpoints that nothing is being sent to: a queue
    /// for each, to be [sent](Pipeline::send) beside the others. The second value counts what was
    /// not worth sending.
    pub async fn claim(&self, now: Timestamp) -> Result<(Vec<Queue>, Delivered), StoreError> {
        let mut sorted_out = Delivered::default();
        if self.is_behind(now) {
            self.tick(now).await?;
        }
        let started = tokio::time::Instant::now();
        let claimed = self.store.claim_due(now, LEASE, CLAIM, CLAIM_OF_EACH).await?;
        let at = now.saturating_add(started.elapsed()).unwrap_or(now);
        for delivery in &claimed {
            let backend = self.registry.backend(&delivery.endpoint);
            self.metrics.claimed(backend, delivery.attempts, at.duration_since(delivery.due_at));
        }
        let ready = self.prepare(claimed, now, &mut sorted_out).await?;
        Ok((ready.into_values().map(Queue).collect(), sorted_out))
    }

    /// Sorts out what is no longer worth sending, and renders and keeps the rest.
    async fn prepare(
        &self,
        claimed: Vec<Delivery>,
        now: Timestamp,
        total: &mut Delivered,
    ) -> Result<BTreeMap<String, Vec<(Delivery, String)>>, StoreError> {
        let mut ready: BTreeMap<String, Vec<(Delivery, String)>> = BTreeMap::new();
        let mut rendered = Vec::new();
        let put_off = self.store.put_off_before(&claimed, now).await?;
        for mut delivery in claimed {
            // It takes a while to write many messages, and what falls due meanwhile does not wait.
            tokio::task::yield_now().await;
            let mut parts = Vec::new();
            let first = put_off.iter().filter(|other| delivery.comes_after(other));
            let first = first.map(|other| other.attempt_at).max();
            let end = if delivery.not_after <= now {
                warn!(id = delivery.id, to = delivery.endpoint, "expired: too late to be of use");
                Err(Settlement::Expired)
            } else if !self.still_true(&delivery).await? {
                info!(id = delivery.id, to = delivery.endpoint, "superseded: no longer true");
                Err(Settlement::Superseded)
            } else if let Some(until) = first {
                Err(behind(&delivery, until))
            } else if delivery.doubt_since.is_some() && self.is_held(&delivery) {
                let reason = held("it was being sent when beadle last stopped");
                error!(id = delivery.id, to = delivery.endpoint, reason, "dead");
                // Whoever has it sent after all has looked.
                delivery.doubt_since = None;
                Err(Settlement::Dead { reason })
            } else {
                let reply_to = self.announced_by(&delivery).await?;
                self.complete(&mut delivery).await?;
                match self.render(&delivery, reply_to, now) {
                    Ok((payload, rest)) => {
                        if !rest.is_empty() {
                            parts = self.store.freeze_parts(&delivery, &payload, &rest).await?;
                            // Its parts belong together, so that it is never written anew.
                            delivery.payload = Some(payload.clone());
                        }
                        Ok(payload)
                    }
                    Err(reason) => {
                        error!(id = delivery.id, to = delivery.endpoint, reason, "dead");
                        Err(Settlement::Dead { reason })
                    }
                }
            };
            match end {
                Err(end) => {
                    match end {
                        Settlement::PutOff { .. } => total.put_off += 1,
                        Settlement::Dead { .. } => total.dead += 1,
                        _ => total.skipped += 1,
                    }
                    self.settle(&delivery, &end, None, now).await?;
                }
                Ok(payload) => {
                    if delivery.payload.is_none() {
                        rendered.push((delivery.id.clone(), payload.clone()));
                    }
                    let queue = ready.entry(delivery.endpoint.clone()).or_default();
                    queue.push((delivery, payload));
                    queue.extend(parts.into_iter().map(|part| {
                        let payload = part.payload.clone().unwrap_or_default();
                        (part, payload)
                    }));
                }
            }
        }
        self.store.freeze(&rendered).await?;
        Ok(ready)
    }

    /// Whether a further attempt might double what nobody wants doubled. What was never written
    /// down was never sent either.
    fn is_held(&self, delivery: &Delivery) -> bool {
        let endpoint = self.registry.configured(&delivery.endpoint);
        delivery.attempts > 1
            && delivery.payload.is_some()
            && delivery.remote_id.is_none()
            && endpoint.is_some_and(|endpoint| endpoint.notifier.on_doubt() == OnDoubt::Hold)
    }

    async fn settle(
        &self,
        delivery: &Delivery,
        end: &Settlement,
        shown: Option<&Shown>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let backend = self.registry.backend(&delivery.endpoint);
        self.metrics.settled(backend, end, now.duration_since(delivery.due_at));
        let (endpoint, id) = (delivery.endpoint.as_str(), delivery.id.as_str());
        let incident = match end {
            Settlement::Sent { .. } => Some(Incident::Unparked { endpoint, by: id }),
            Settlement::Dead { reason } => Some(Incident::Dead { endpoint, delivery: id, reason }),
            _ => None,
        };
        let notice = incident.and_then(|incident| self.notice(endpoint, incident, now));
        self.store.settle_and_remember(delivery, end, notice.as_ref(), shown, now).await?;
        if let Settlement::Sent { .. } = end {
            self.mirror.takes(endpoint);
        }
        Ok(())
    }

    /// The exact message, and further parts where it is new; the same for as long as an earlier
    /// attempt may have arrived.
    fn render(
        &self,
        delivery: &Delivery,
        reply_to: Option<String>,
        now: Timestamp,
    ) -> Result<(String, Vec<String>), String> {
        if let Some(payload) = &delivery.payload {
            return Ok((payload.clone(), Vec::new()));
        }
        let Some(endpoint) = self.registry.get(&delivery.endpoint) else {
            return Err("the configuration no longer names this receiver".to_owned());
        };
        let context = DeliveryContext { reply_to, ..context(delivery, &endpoint.address, now) };
        let render = || endpoint.notifier.render(&delivery.notification, &context);
        let payloads = std::panic::catch_unwind(AssertUnwindSafe(render))
            .map_err(|_| "beadle failed to write the message; this is a bug".to_owned())?;
        let mut payloads = payloads.into_iter().map(|payload| payload.0).skip(delivery.part());
        let Some(first) = payloads.next() else {
            return Err("the message has fewer parts than it had".to_owned());
        };
        // Those after a later part have deliveries already.
        let rest = if delivery.part() == 0 { payloads.collect() } else { Vec::new() };
        Ok((first, rest))
    }

    /// Whether a reminder's event still begins when the reminder says.
    async fn still_true(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let (Kind::Reminder { .. }, [item]) =
            (&delivery.notification.kind, delivery.notification.items.as_slice())
        else {
            return Ok(true);
        };
        if self.is_fresh(delivery) {
            return Ok(true);
        }
        let to = item.start.saturating_add(SignedDuration::from_secs(1)).unwrap_or(item.start);
        let now = self.upcoming(item.start, to).await?;
        // Of an event that is to be read anew there is no later word than this.
        Ok(self.store.is_unreadable(&item.feed, &item.key)
            || now.iter().any(|one| {
                one.feed == item.feed
                    && one.key == item.key
                    && one.occurrence.start == item.start
                    && one.occurrence.event.status.is_on()
            }))
    }

    /// Adds what a reminder is kept without: the long text of its event, as it is now.
    async fn complete(&self, delivery: &mut Delivery) -> Result<(), StoreError> {
        if !matches!(delivery.notification.kind, Kind::Reminder { .. })
            || delivery.payload.is_some()
        {
            return Ok(());
        }
        let items = delivery.notification.items.iter_mut();
        let is_without =
            |item: &&mut Item| item.event.description.is_empty() && item.has_the_text_of_its_key();
        for item in items.filter(is_without) {
            let text = self.store.description(&item.feed, &item.key).await?;
            item.event.description = text.unwrap_or_default();
        }
        Ok(())
    }

    /// One endpoint's messages, one after the other.
    pub async fn send(&self, queue: Queue, now: Timestamp) -> Result<Delivered, StoreError> {
        let started = tokio::time::Instant::now();
        let mut done = Delivered::default();
        // Until when the endpoint is left alone, and why.
        let mut closed: Option<(Timestamp, String)> = None;
        let mut failures = 0;
        let mut put_off: Vec<(Delivery, Timestamp)> = Vec::new();
        let mut stopping = self.stopping.subscribe();
        let mut queue = VecDeque::from(queue.0);
        while !*stopping.borrow()
            && let Some((delivery, payload)) = queue.pop_front()
        {
            if closed.is_none() && started.elapsed() > QUEUE {
                let now = now.saturating_add(started.elapsed()).unwrap_or(now);
                closed = Some((now, "waits for its turn".to_owned()));
            }
            let begun = now.saturating_add(started.elapsed()).unwrap_or(now);
            if closed.is_none() && has_aged(&delivery, now, begun) {
                // With those behind it, which are as old.
                queue.push_front((delivery, payload));
                break;
            }
            let mut arrived = false;
            let first = put_off.iter().find(|(other, _)| delivery.comes_after(other));
            let end = match &closed {
                None if first.is_some() => behind(&delivery, first.map_or(now, |(_, at)| *at)),
                Some((until, reason)) => {
                    let anew = delivery.payload.is_none();
                    let (until, reason) = (*until, reason.clone());
                    Settlement::PutOff { until, reason, anew, doubtful: false }
                }
                None => {
                    let attempt = self.attempt(&delivery, &payload, begun);
                    tokio::pin!(attempt);
                    let result = tokio::select! {
                        biased;
                        result = &mut attempt => result,
                        _ = stopping.wait_for(|stopping| *stopping) => {
                            // Now, since nobody knows how long the attempt takes.
                            self.give_back(&mut queue).await?;
                            attempt.await
                        }
                    }?;
                    arrived = matches!(result, Ok(_) | Err(NotifyError::Unfinished { .. }));
                    let now = now.saturating_add(started.elapsed()).unwrap_or(now);
                    let (end, door) = self.conclude(&delivery, result, now).await?;
                    failures = if door == Door::Open { 0 } else { failures + 1 };
                    let rest = match &end {
                        Settlement::PutOff { until, reason, .. } => Some((*until, reason)),
                        Settlement::Dead { reason } if door == Door::Closed => {
                            Some((now.saturating_add(HELD_REST).unwrap_or(now), reason))
                        }
                        _ => None,
                    };
                    if let Some((until, reason)) = rest
                        && (door == Door::Closed || failures == PATIENCE)
                    {
                        // What was not claimed with them must not overtake these.
                        self.store.hold(&delivery.endpoint, until).await?;
                        closed = Some((until, reason.clone()));
                    }
                    end
                }
            };
            match &end {
                Settlement::Sent { .. } => done.sent += 1,
                Settlement::PutOff { .. } => done.put_off += 1,
                _ => done.dead += 1,
            }
            let now = now.saturating_add(started.elapsed()).unwrap_or(now);
            let shown = match &end {
                Settlement::Sent { remote_id } => {
                    self.to_remember(&delivery, payload, remote_id, now)
                }
                _ => None,
            };
            self.settle(&delivery, &end, shown.as_ref(), now).await?;
            if let Some(shown) = shown {
                self.nudge(&shown);
            }
            if let Settlement::PutOff { until, .. } = end
                && !arrived
            {
                put_off.push((delivery, until));
            }
        }
        self.give_back(&mut queue).await?;
        Ok(done)
    }

    async fn give_back(&self, queue: &mut VecDeque<(Delivery, String)>) -> Result<(), StoreError> {
        if queue.is_empty() {
            return Ok(());
        }
        debug!(messages = queue.len(), "given back");
        let deliveries: Vec<Delivery> = queue.drain(..).map(|(delivery, _)| delivery).collect();
        self.store.give_back(&deliveries).await
    }

    /// One attempt, unless the message turns out to have arrived before: gives the name of the message
    /// that tells it.
    async fn attempt(
        &self,
        delivery: &Delivery,
        payload: &str,
        now: Timestamp,
    ) -> Result<Result<String, NotifyError>, StoreError> {
        let Some(endpoint) = self.registry.get(&delivery.endpoint) else {
            let reason = "the configuration no longer names this receiver".to_owned();
            return Ok(Err(NotifyError::Permanent { reason }));
        };
        match self.told_by_edit(delivery, &endpoint, now).await? {
            Ok(None) => {}
            Ok(Some(remote_id)) => {
                self.rename_threads(delivery, &endpoint).await?;
                return Ok(Ok(remote_id));
            }
            Err(error) => return Ok(Err(error)),
        }
        let to = &delivery.endpoint;
        let event = one_event(delivery).filter(|_| endpoint.notifier.keeps_threads());
        let thread = match event {
            Some(item) => self.store.thread(to, &item.feed, &item.key).await?,
            None => None,
        };
        let first_part = match delivery.part() {
            0 => None,
            _ => self.store.first_part(delivery).await?,
        };
        let mut context = DeliveryContext {
            thread: thread.clone(),
            first_part,
            posted: delivery.remote_id.clone(),
            ..context(delivery, &endpoint.address, now)
        };
        let payload = Payload(payload.to_owned());
        let in_doubt = delivery.doubt_since.filter(|since| {
            let ago = now.duration_since(*since);
            // Nobody knows how long ago what lies in the future was.
            ago > IN_DOUBT || ago.is_negative()
        });
        if let Some(since) = in_doubt.filter(|_| context.posted.is_none()) {
            context.twin = self.store.has_twin(delivery).await?;
            match endpoint.notifier.find(&payload, &context, since).await {
                Ok(found) => {
                    for receipt in found {
                        // Another message may read the same.
                        if !self.store.is_receipt(&receipt.remote_id).await? {
                            info!(id = delivery.id, to = delivery.endpoint, "had arrived before");
                            // What else belongs to it may be missing.
                            context.posted = Some(receipt.remote_id);
                            break;
                        }
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let send = AssertUnwindSafe(endpoint.notifier.send(&payload, &context));
        let result = match send.catch_unwind().await {
            Ok(result) => result.map(|receipt| receipt.remote_id),
            Err(_) => Err(NotifyError::Permanent {
                reason: "beadle failed while sending; this is a bug".to_owned(),
            }),
        };
        if let (Ok(remote_id), Some(item)) = (&result, event)
            && let Some((place, message)) = remote_id.split_once('/')
        {
            let thread = thread.as_deref().filter(|thread| *thread == place).unwrap_or(message);
            self.store.keep_thread(to, &item.feed, &item.key, thread, now).await?;
        }
        if result.is_ok() {
            self.rename_threads(delivery, &endpoint).await?;
        }
        Ok(result)
    }

    /// The threads of events that have new titles get these for names. Discord allows that twice in
    /// ten minutes; a name that is old is no reason to try again.
    async fn rename_threads(
        &self,
        delivery: &Delivery,
        endpoint: &Endpoint,
    ) -> Result<(), StoreError> {
        let Some(board) = endpoint.board.as_ref().filter(|_| endpoint.notifier.keeps_threads())
        else {
            return Ok(());
        };
        for item in &delivery.notification.items {
            let (Reason::Updated { fields } | Reason::Rescheduled { fields }) = &item.reason else {
                continue;
            };
            if !fields.contains(&Field::Summary) {
                continue;
            }
            let thread = self.store.thread(&endpoint.id, &item.feed, &item.key).await?;
            let Some(thread) = thread else { continue };
            let alone = Notification {
                items: vec![item.clone()],
                more: 0,
                ..delivery.notification.clone()
            };
            if let Err(error) = board.rename(&thread, &alone).await {
                warn!(to = endpoint.id, thread, reason = %error, "a thread keeps its old name");
            }
        }
        Ok(())
    }

    /// What an attempt's result means for the delivery, and for others to its endpoint.
    async fn conclude(
        &self,
        delivery: &Delivery,
        result: Result<String, NotifyError>,
        now: Timestamp,
    ) -> Result<(Settlement, Door), StoreError> {
        let (id, to) = (&delivery.id, &delivery.endpoint);
        let error = match result {
            Ok(remote_id) => {
                // A number in JSON too, which those of 128 bits are not.
                let lag_ms = now.as_millisecond() - delivery.due_at.as_millisecond();
                info!(id, to, remote_id, lag_ms, "sent");
                return Ok((Settlement::Sent { remote_id }, Door::Open));
            }
            Err(error) => error,
        };
        let mut reason = error.to_string();
        let doubtful = matches!(error, NotifyError::Uncertain { .. });
        if doubtful {
            self.metrics.in_doubt(self.registry.backend(to));
            let on_doubt = self.registry.configured(to).map(|one| one.notifier.on_doubt());
            // Whoever has it sent after all begins anew.
            let again = delivery.attempts > 1 && delivery.doubt_since.is_some();
            let kept = match on_doubt {
                Some(OnDoubt::Hold) => Some(held(&reason)),
                Some(OnDoubt::ResendOnce) if again => Some(doubtful_again(&reason)),
                _ => None,
            };
            if let Some(kept) = kept {
                reason = kept;
                error!(id, to, reason, "dead");
                return Ok((Settlement::Dead { reason }, Door::Closed));
            }
        }
        // What cannot have arrived may say next time that it is late.
        let anew = delivery.payload.is_none() && !doubtful;
        let (after, door) = match error {
            NotifyError::Permanent { .. } => {
                error!(id, to, reason, "dead");
                return Ok((Settlement::Dead { reason }, Door::Open));
            }
            NotifyError::ReceiverGone { for_good, .. } => {
                let until = match for_good {
                    true => Timestamp::MAX,
                    false => now.saturating_add(PARK).unwrap_or(now),
                };
                let incident = Incident::Parked { endpoint: to, reason: &reason, for_good };
                let notice = self.notice(to, incident, now);
                if self.store.park(to, &reason, until, notice.as_ref(), now).await? {
                    error!(to, reason, "parked: takes no messages until someone mends it");
                }
                // The parking alone holds it back, so that with its end the message goes out.
                let end = Settlement::PutOff { until: now, reason, anew, doubtful };
                return Ok((end, Door::Closed));
            }
            NotifyError::Unfinished { remote_id, after, .. } => {
                if delivery.attempts >= retry::MAX_ATTEMPTS {
                    warn!(id, to, remote_id, reason, "sent, and given up what belongs to it");
                    return Ok((Settlement::Sent { remote_id }, Door::Open));
                }
                self.store.note_posted(delivery, &remote_id).await?;
                let until = retry::next_attempt(now, delivery.attempts, after, id);
                warn!(id, to, remote_id, reason, %until, "sent, but not finished");
                // What comes next is not held up by it.
                return Ok((
                    Settlement::PutOff { until, reason, anew: false, doubtful: false },
                    Door::Open,
                ));
            }
            NotifyError::Rest { after, .. } => (Some(after), Door::Open),
            NotifyError::Retry { after, .. } | NotifyError::Uncertain { after, .. } => {
                (after, if after.is_some() { Door::Closed } else { Door::Unclear })
            }
        };
        if delivery.attempts >= retry::MAX_ATTEMPTS {
            error!(id, to, reason, attempts = delivery.attempts, "dead: given up");
            return Ok((Settlement::Dead { reason }, Door::Open));
        }
        let until = retry::next_attempt(now, delivery.attempts, after, id);
        warn!(id, to, reason, until = %format_args!("{until:.3}"), "put off");
        Ok((Settlement::PutOff { until, reason, anew, doubtful }, door))
    }
}

/// Since it was written, others have taken so long that it says too little, or comes too late.
fn has_aged(delivery: &Delivery, written: Timestamp, now: Timestamp) -> bool {
    let late = |at| notify::is_late(delivery.due_at, at);
    let before = now.saturating_sub(MOMENT).unwrap_or(now);
    delivery.payload.is_none() && !late(written) && late(before)
        || delivery.not_after > written && delivery.not_after <= now
}

/// It waits for an earlier message: a change of the same event, or the part before it.
fn behind(delivery: &Delivery, until: Timestamp) -> Settlement {
    let reason = "waits for an earlier message".to_owned();
    Settlement::PutOff { until, reason, anew: delivery.payload.is_none(), doubtful: false }
}

/// Why a message is not sent again that may have arrived.
fn held(what: &str) -> String {
    format!("{what}; it is held, as `on_unknown` says: look whether it is there")
}

/// Why a message is not sent once more that may have arrived, and may have before.
fn doubtful_again(what: &str) -> String {
    format!(
        "{what}; it may have arrived, by now twice, and is not sent again by itself: ask whom it is \
         for, and if it is not there, `beadle outbox retry ID`"
    )
}

/// The one event that a delivery has news of, where it is not a list.
fn one_event(delivery: &Delivery) -> Option<&Item> {
    match (&delivery.notification.kind, delivery.notification.items.as_slice()) {
        (Kind::Changes | Kind::Reminder { .. }, [item]) if delivery.notification.more == 0 => {
            Some(item)
        }
        _ => None,
    }
}

fn context(delivery: &Delivery, address: &str, now: Timestamp) -> DeliveryContext {
    DeliveryContext {
        dedup_key: delivery.id.clone(),
        // A reminder is planned when it falls due, whenever it was written.
        planned_at: delivery.planned_at.max(delivery.due_at),
        due_at: delivery.due_at,
        now,
        address: address.to_owned(),
        thread: None,
        first_part: None,
        posted: None,
        twin: false,
        reply_to: None,
    }
}

//! What is shown, brought into line with what should be shown.
//!
//! The outbox is for what is told: one message, once. Here is what stays visible and must come to
//! equal what the events say: announcements that are edited, agendas, native scheduled events,
//! reminders that are removed. Nothing of it is queued. [`Shown`] rows say what is shown; a pass
//! over a target compares them with what should be, and takes the steps between. Whatever a crash
//! or a failure leaves undone, the next pass finds.
//!
//! What is made is first remembered as [`State::Intended`]. After a crash it is looked for before
//! it is made again: a message by its nonce, later among the recent ones; an event by its name and
//! start among those of the guild.
//!
//! A pass takes place when the events have changed since the last one, when something was posted
//! that may need it, and when its own time has come. Otherwise it is two comparisons in memory.

mod announcement;
mod cover;
mod events;

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::{SignedDuration, Span, Timestamp, civil};
use serde_json::Value;
use tracing::{debug, error, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use crate::calendar::diff::Known;
use crate::calendar::time::resolve;
use crate::calendar::{EventKey, Window};
use crate::config::Config;
use crate::message;
use crate::notify::discord::Board;
use crate::notify::{DeliveryContext, Endpoint, NotifyError, Payload, Registry};
use crate::operator::Incident;
use crate::pipeline::{PARK, Pipeline, lock};
use crate::plan::{Agenda, Item, Kind, Notification, OnChange, Reason, Upcoming, Watch};
use crate::retry;
use crate::store::shown::{Purpose, Refusal, Shown, State, announcement_name};
use crate::store::{Delivery, NewDelivery, StoreError, delivery_id};

/// For how long a nonce can be relied on; Discord says "the past few minutes".
const NONCE: SignedDuration = SignedDuration::from_mins(2);
/// How far the clocks of Discord and of this machine may be apart.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// After so many attempts a change that should be told by an edit is told by a message.
const EDITS_TRIED: u32 = 3;
/// For what waits for nothing.
const NEVER: Timestamp = Timestamp::MAX;

/// When each target is compared next.
#[derive(Debug)]
pub struct Mirror {
    /// By target; there are no others.
    turns: Mutex<BTreeMap<String, Turn>>,
    /// By target: what is shown there is changed by one at a time.
    order: BTreeMap<String, tokio::sync::Mutex<()>>,
    /// Agendas that could not be pinned; said once.
    unpinned: Mutex<HashSet<String>>,
}

/// Where one target stands.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    busy: bool,
    /// The edition of the events it was last compared with.
    seen: Option<u64>,
    /// When it is to be looked at again, whatever happens.
    at: Option<Timestamp>,
    /// Something happened meanwhile that asks for a look at that time.
    nudged: Option<Timestamp>,
    /// Passes in a row that failed.
    failures: u32,
    /// It was parked when it was last looked at; until that ends, nothing is to be done.
    parked: bool,
}

/// A target's turn to be compared, to be [shown](Pipeline::show) beside the others.
#[derive(Debug)]
pub struct Pass {
    target: String,
    edition: u64,
}

/// Why a pass ended early.
enum Stop {
    Store(StoreError),
    Refused(NotifyError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

impl From<NotifyError> for Stop {
    fn from(error: NotifyError) -> Stop {
        Stop::Refused(error)
    }
}

impl Pipeline {
    /// Compares everything that has its turn, all targets at once.
    pub async fn mirror(&self, now: Timestamp) -> Result<(), StoreError> {
        self.note_unparked(now).await?;
        let passes = self.passes(now).into_iter().map(|pass| self.show(pass, now));
        join_all(passes).await.into_iter().collect()
    }

    /// The targets that were parked and are not any more, be it that they took a message or that
    /// somebody wants them tried, have their turn at once.
    pub async fn note_unparked(&self, now: Timestamp) -> Result<(), StoreError> {
        if !lock(&self.mirror.turns).values().any(|turn| turn.parked) {
            return Ok(());
        }
        let mut parked = self.store.parked().await?;
        parked.retain(|parked| parked.retry_at > now);
        for (target, turn) in lock(&self.mirror.turns).iter_mut() {
            if turn.parked && !parked.iter().any(|parked| parked.endpoint == *target) {
                *turn = Turn { parked: false, at: None, ..*turn };
            }
        }
        Ok(())
    }

    /// The targets that have their turn now.
    pub fn passes(&self, now: Timestamp) -> Vec<Pass> {
        let edition = self.edition();
        let mut passes = Vec::new();
        for (target, turn) in lock(&self.mirror.turns).iter_mut() {
            if !turn.busy && turn.due(edition) <= now {
                turn.busy = true;
                turn.nudged = None;
                passes.push(Pass { target: target.clone(), edition });
            }
        }
        passes
    }

    /// Compares one target and brings it into line.
    pub async fn show(&self, pass: Pass, now: Timestamp) -> Result<(), StoreError> {
        let Pass { target, edition } = pass;
        let _turn = self.mirror.lock(&target).await;
        let work = AssertUnwindSafe(self.compare_target(&target, now)).catch_unwind();
        let end = work.await.unwrap_or_else(|_| {
            let reason = "beadle failed while comparing; this is a bug".to_owned();
            Err(Stop::Refused(NotifyError::Retry { after: None, reason }))
        });
        let failures = lock(&self.mirror.turns).get(&target).map_or(0, |turn| turn.failures);
        let mut next = Turn { seen: Some(edition), ..Turn::default() };
        match end {
            Ok((at, parked)) => (next.at, next.parked) = (Some(at), parked),
            Err(Stop::Store(error)) => return Err(error),
            Err(Stop::Refused(error)) => {
                next.parked = matches!(error, NotifyError::ReceiverGone { .. });
                next.failures = if next.parked { 0 } else { failures + 1 };
                next.at = Some(self.refused(&target, error, failures + 1, now).await?);
            }
        }
        if let Some(turn) = lock(&self.mirror.turns).get_mut(&target) {
            *turn = Turn { nudged: turn.nudged, ..next };
        }
        Ok(())
    }

    /// When the next target has its turn, if the events stay as they are.
    pub fn next_pass(&self) -> Timestamp {
        let edition = self.edition();
        let turns = lock(&self.mirror.turns);
        let waiting = turns.values().filter(|turn| !turn.busy);
        waiting.map(|turn| turn.due(edition)).min().unwrap_or(NEVER)
    }

    /// Something was posted: a reminder is removed when its event is over, and the event of an
    /// announcement may have changed while it was on its way.
    pub(crate) fn nudge(&self, shown: &Shown) {
        let at = match shown.purpose {
            Purpose::Reminder => shown.ends,
            _ => Timestamp::MIN,
        };
        if let Some(turn) = lock(&self.mirror.turns).get_mut(&shown.target) {
            turn.nudged = Some(turn.nudged.map_or(at, |other| other.min(at)));
        }
    }

    /// Gives when to look again, and whether the target is parked until then.
    async fn compare_target(
        &self,
        target: &str,
        now: Timestamp,
    ) -> Result<(Timestamp, bool), Stop> {
        let parked = self.store.parked().await?;
        let parked = parked.into_iter().find(|parked| parked.endpoint == target);
        if let Some(parked) = parked.as_ref().filter(|parked| parked.retry_at > now) {
            return Ok((parked.retry_at, true));
        }
        let took = AtomicBool::default();
        let next = match self.registry.configured(target) {
            Some(Endpoint { board: None, .. }) => NEVER,
            Some(endpoint @ Endpoint { board: Some(board), .. }) => {
                let place = Place { endpoint, board, took: &took, now };
                let next = self.remove_reminders(&place).await?;
                let next = next.min(self.compare_agendas(&place).await?);
                next.min(self.compare_announcements(&place).await?)
            }
            None => self.compare_guild(target, &took, now).await?,
        };
        // Where there was nothing to do, it is not known whether it would have been done.
        if let Some(parked) = parked.filter(|_| took.into_inner()) {
            info!(to = target, "takes messages again");
            let incident = Incident::Unparked { endpoint: target, by: &parked.since.to_string() };
            let notice = self.notice(target, incident, now);
            self.store.unpark(target, notice.as_ref(), now).await?;
        }
        Ok((next, false))
    }

    /// What a refusal means for the target; gives when to try again.
    async fn refused(
        &self,
        target: &str,
        error: NotifyError,
        failures: u32,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let reason = error.to_string();
        let put_off = |after| {
            let until = retry::next_attempt(now, failures, after, target);
            warn!(to = target, reason, %until, "put off");
            until
        };
        Ok(match error {
            NotifyError::ReceiverGone { for_good, .. } => {
                let incident = Incident::Parked { endpoint: target, reason: &reason, for_good };
                let notice = self.notice(target, incident, now);
                let until = match for_good {
                    true => Timestamp::MAX,
                    false => now.saturating_add(PARK).unwrap_or(now),
                };
                if self.store.park(target, &reason, until, notice.as_ref(), now).await? {
                    error!(to = target, reason, "parked: shows nothing until someone mends it");
                }
                until
            }
            NotifyError::Permanent { .. } => {
                error!(to = target, reason, "cannot be shown");
                now.saturating_add(PARK).unwrap_or(now)
            }
            NotifyError::Rest { after, .. } => put_off(Some(after)),
            NotifyError::Retry { after, .. }
            | NotifyError::Uncertain { after, .. }
            | NotifyError::Unfinished { after, .. } => put_off(after),
        })
    }

    /// Something is not shown as it should be, for which `said` is the hash: the operator is told,
    /// and it is tried again in a while, or as soon as something else is to be said.
    async fn note_refusal(
        &self,
        mut shown: Shown,
        said: u64,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let again = shown.refused.as_ref().is_some_and(|before| before.reason == reason);
        let notice = self.refusal_notice(&shown, &reason, now).filter(|_| !again);
        shown.refused = Some(Refusal { hash: said, reason, at: now });
        self.store.note_refusal(&shown, notice.as_ref(), now).await
    }

    fn refusal_notice(&self, shown: &Shown, reason: &str, now: Timestamp) -> Option<NewDelivery> {
        let Shown { target, purpose, name, .. } = shown;
        error!(to = target, what = purpose.as_str(), name, reason, "cannot be shown as it should");
        let incident = Incident::NotShown { target, purpose: *purpose, reason };
        self.notice(target, incident, now)
    }

    // ---- announcements -------------------------------------------------------------------------

    /// Gives when those are to be tried again that may not be edited yet.
    async fn compare_announcements(&self, place: &Place<'_>) -> Result<Timestamp, Stop> {
        let mut next = NEVER;
        for (shown, known) in self.store.outdated_announcements(&place.endpoint.id).await? {
            let name = shown.name.clone();
            match self.bring_announcement(place, shown, &known).await {
                Ok(_) => {}
                Err(Stop::Refused(NotifyError::Permanent { reason })) => {
                    warn!(to = place.endpoint.id, name, reason, "an announcement is left as it is");
                }
                Err(Stop::Refused(NotifyError::Rest { after, reason })) => {
                    next = next.min(place.rest(&name, after, &reason));
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(next)
    }

    /// Brings one announcement into line with what is known of its event. None where it is gone, and
    /// not posted anew.
    async fn bring_announcement(
        &self,
        place: &Place<'_>,
        mut shown: Shown,
        known: &Known,
    ) -> Result<Option<Shown>, Stop> {
        let (endpoint, now) = (place.endpoint, place.now);
        let (Some(watch), Some(feed)) = (self.editing(&shown), self.config.feeds.get(&shown.feed))
        else {
            shown.revision = known.revision;
            self.store.remember(&shown).await?;
            return Ok(Some(shown));
        };
        let zone = self.feed_zone(feed, &self.store.feed(&feed.name).await?);
        let cx = self.plan_context(&self.config.watches, now);
        let Some(notification) = announcement::as_it_is(&shown, known, watch, &cx, &zone) else {
            // It is left as it is, and what comes next is told by a message.
            self.store.let_go(&shown).await?;
            return Ok(None);
        };
        shown.revision = known.revision;
        if let [item] = notification.items.as_slice() {
            (shown.starts, shown.ends) = (item.start, item.end.max(item.start));
        }
        let rendered = endpoint.notifier.render(&notification, &place.context(String::new()));
        let Some(payload) = rendered.into_iter().next() else { return Ok(Some(shown)) };
        let body = message::shown::edited(&place.board.said(&payload), &notification);
        let repost = self.config.receivers.get(&endpoint.receiver).is_some_and(|one| one.repost);
        let brought = self.bring(place, shown.clone(), &body, &payload, repost).await;
        if let Err(Stop::Refused(NotifyError::Permanent { reason })) = &brought {
            // It cannot be edited, and what comes next is told by a message.
            let notice = self.refusal_notice(&shown, reason, now);
            self.store.note_refusal(&shown, notice.as_ref(), now).await?;
        }
        brought
    }

    /// Where a watch wants changes told by an edit alone: edits the announcements of all events that
    /// the message is about, and gives the name of the first. None where one of them cannot be
    /// edited, so that the changes must be told by a message.
    pub(crate) async fn told_by_edit(
        &self,
        delivery: &Delivery,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Result<Result<Option<String>, NotifyError>, StoreError> {
        let Notification { source, kind, items, more, .. } = &delivery.notification;
        let watch = self.watch(source).filter(|watch| watch.on_change == OnChange::Edit);
        let (Some(board), Some(_), Kind::Changes, 0) = (&endpoint.board, watch, kind, *more) else {
            return Ok(Ok(None));
        };
        // A message that is there is to be finished.
        if delivery.remote_id.is_some() || !items.iter().all(is_whole) {
            return Ok(Ok(None));
        }
        let took = AtomicBool::default();
        let place = Place { endpoint, board, took: &took, now };
        // A pass may be editing the same.
        let _turn = self.mirror.lock(&endpoint.id).await;
        let mut first = None;
        for item in items {
            match self.edit_for(&place, item).await {
                Ok(Some(remote_id)) => {
                    first.get_or_insert(remote_id);
                }
                Ok(None) => return Ok(Ok(None)),
                Err(Stop::Store(error)) => return Err(error),
                Err(Stop::Refused(NotifyError::Permanent { reason })) => {
                    warn!(to = endpoint.id, reason, "told by a message, since no edit is possible");
                    return Ok(Ok(None));
                }
                // Who waits for news should not wait for long.
                Err(Stop::Refused(NotifyError::Rest { reason, .. }))
                    if delivery.attempts >= EDITS_TRIED =>
                {
                    warn!(
                        to = endpoint.id,
                        reason, "told by a message, since no edit is taken yet"
                    );
                    return Ok(Ok(None));
                }
                Err(Stop::Refused(error)) => return Ok(Err(error)),
            }
        }
        Ok(Ok(first))
    }

    /// The announcement of an event, once it says what is to be told.
    async fn edit_for(&self, place: &Place<'_>, item: &Item) -> Result<Option<String>, Stop> {
        let shown = self.store.announcement(&place.endpoint.id, &item.feed, &item.key).await?;
        let Some(shown) = shown.filter(|shown| self.editing(shown).is_some()) else {
            return Ok(None);
        };
        if shown.state == State::Shown && shown.revision >= item.revision {
            return Ok(shown.remote_id);
        }
        let known = self.store.known(&item.feed, &[item.key.hash64()]).await?;
        let Some(known) = known.iter().find(|known| known.key == item.key) else {
            return Ok(None);
        };
        let brought = self.bring_announcement(place, shown, known).await?;
        Ok(brought.and_then(|shown| shown.remote_id))
    }

    /// The post that a message about a change is a reply to.
    pub(crate) async fn announced_by(
        &self,
        delivery: &Delivery,
    ) -> Result<Option<String>, StoreError> {
        let Kind::Changes = &delivery.notification.kind else { return Ok(None) };
        let [item] = delivery.notification.items.as_slice() else { return Ok(None) };
        let board = self.registry.configured(&delivery.endpoint).and_then(|one| one.board.as_ref());
        let Some(board) = board else { return Ok(None) };
        let shown = self.store.announcement(&delivery.endpoint, &item.feed, &item.key).await?;
        Ok(shown.and_then(|shown| shown.remote_id).filter(|id| board.goes_on_from(id)))
    }

    /// What is to be remembered of a message that was sent; none where it is never touched again.
    pub(crate) fn to_remember(
        &self,
        delivery: &Delivery,
        payload: String,
        remote_id: &str,
        now: Timestamp,
    ) -> Option<Shown> {
        let endpoint = self.registry.get(&delivery.endpoint)?;
        let board = endpoint.board.as_ref()?;
        let notification = &delivery.notification;
        let [item] = notification.items.as_slice() else { return None };
        let receiver = self.config.receivers.get(&endpoint.receiver)?;
        let shown = Shown {
            target: endpoint.id.clone(),
            purpose: Purpose::Reminder,
            name: delivery.id.clone(),
            feed: item.feed.clone(),
            key: item.key.clone(),
            state: State::Shown,
            remote_id: Some(remote_id.to_owned()).filter(|id| !id.is_empty()),
            hash: 0,
            revision: item.revision,
            first: None,
            starts: item.start,
            ends: item.end.max(item.start),
            pinned: false,
            since: now,
            refused: None,
        };
        shown.remote_id.as_ref()?;
        match &notification.kind {
            Kind::Reminder { .. } if receiver.delete_reminders => {
                // With the first message of a discussion its members would lose what it is about.
                Some(shown).filter(|_| !board.begins_thread(remote_id))
            }
            Kind::Changes => {
                announced(notification)?;
                Some(Shown {
                    purpose: Purpose::Announcement,
                    name: announcement_name(&item.feed, &item.key),
                    hash: hash(&message::shown::edited(
                        &board.said(&Payload(payload)),
                        notification,
                    )),
                    first: Some(notification.clone()),
                    ..shown
                })
            }
            _ => None,
        }
    }

    /// The watch by whose wish an announcement is edited.
    fn editing(&self, shown: &Shown) -> Option<&Watch> {
        let watch = self.watch(&shown.first.as_ref()?.source)?;
        Some(watch).filter(|watch| watch.on_change != OnChange::Reply)
    }

    fn watch(&self, name: &str) -> Option<&Watch> {
        self.config.watches.iter().find(|watch| watch.name == name)
    }

    // ---- reminders -----------------------------------------------------------------------------

    /// Removes reminders of events that are over; gives when the next one is.
    async fn remove_reminders(&self, place: &Place<'_>) -> Result<Timestamp, Stop> {
        let receiver = self.config.receivers.get(&place.endpoint.receiver);
        let wanted = receiver.is_some_and(|receiver| receiver.delete_reminders);
        for shown in self.store.shown(&place.endpoint.id, Purpose::Reminder).await? {
            if wanted && shown.ends > place.now {
                return Ok(shown.ends);
            }
            if let Some(remote_id) = shown.remote_id.as_ref().filter(|_| wanted) {
                match place.board.delete(remote_id).await {
                    Ok(removed) => {
                        place.note(removed);
                        debug!(to = shown.target, remote_id, removed, "reminder removed");
                    }
                    Err(NotifyError::Permanent { reason }) => {
                        warn!(to = shown.target, remote_id, reason, "a reminder stays");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            self.store.let_go(&shown).await?;
        }
        Ok(NEVER)
    }

    // ---- agendas -------------------------------------------------------------------------------

    /// Brings the agendas of an endpoint into line; gives when they change by themselves.
    async fn compare_agendas(&self, place: &Place<'_>) -> Result<Timestamp, Stop> {
        let Place { endpoint, board, now, .. } = *place;
        let mut next = NEVER;
        let mut before = self.store.shown(&endpoint.id, Purpose::Agenda).await?;
        let mine = |agenda: &&Agenda| agenda.to.contains(&endpoint.receiver);
        for agenda in self.config.agendas.iter().filter(mine) {
            // What was made for another channel is removed there.
            let here = before
                .iter()
                .position(|shown| shown.name == agenda.name && shown.key.0 == board.place());
            let mut shown = match here {
                Some(at) => before.remove(at),
                None => self.new_agenda(place, &agenda.name),
            };
            // Written anew once a day, one that someone removed is back the next day at the latest.
            let day = |at: Timestamp| self.config.timezone.to_datetime(at).date();
            if day(shown.starts) != day(now) {
                shown = Shown { starts: now, hash: 0, ..shown };
            }
            let (notification, changes_at) = self.agenda(agenda, now).await?;
            next = next.min(changes_at);
            let payload = board.agenda(&agenda.name, &notification);
            let body = message::shown::edited(&board.said(&payload), &notification);
            let (moved, others): (Vec<_>, _) =
                before.into_iter().partition(|old| old.name == agenda.name);
            before = others;
            for old in moved {
                self.remove_agenda(place, &old).await?;
            }
            let said = hash(&body);
            if let Some(again) = rests(&shown, said, now) {
                next = next.min(again);
                continue;
            }
            match self.bring(place, shown.clone(), &body, &payload, true).await {
                Ok(Some(mut shown)) => {
                    if shown.refused.take().is_some() {
                        self.store.remember(&shown).await?;
                    }
                    self.pin(place, agenda, shown).await?;
                }
                Ok(None) => {}
                Err(Stop::Refused(NotifyError::Permanent { reason })) => {
                    next = next.min(now.saturating_add(PARK).unwrap_or(NEVER));
                    self.note_refusal(shown, said, reason, now).await?;
                }
                Err(Stop::Refused(NotifyError::Rest { after, reason })) => {
                    next = next.min(place.rest(&agenda.name, after, &reason));
                }
                Err(stop) => return Err(stop),
            }
        }
        for old in before {
            self.remove_agenda(place, &old).await?;
        }
        Ok(next)
    }

    fn new_agenda(&self, place: &Place<'_>, name: &str) -> Shown {
        Shown {
            target: place.endpoint.id.clone(),
            purpose: Purpose::Agenda,
            name: name.to_owned(),
            feed: String::new(),
            key: EventKey(place.board.place()),
            state: State::Intended,
            remote_id: None,
            hash: 0,
            revision: 0,
            first: None,
            starts: place.now,
            ends: NEVER,
            pinned: false,
            since: Timestamp::MAX,
            refused: None,
        }
    }

    /// The configuration no longer has it, or has it elsewhere.
    async fn remove_agenda(&self, place: &Place<'_>, shown: &Shown) -> Result<(), Stop> {
        if let Some(remote_id) = &shown.remote_id {
            match place.board.delete(remote_id).await {
                Ok(removed) => {
                    place.note(removed);
                    info!(to = shown.target, name = shown.name, removed, "agenda removed");
                }
                // Where it was, the bot may not be any more.
                Err(
                    NotifyError::Permanent { reason } | NotifyError::ReceiverGone { reason, .. },
                ) => {
                    warn!(to = shown.target, name = shown.name, reason, "an old agenda stays");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.store.let_go(shown).await?)
    }

    /// What an agenda should say, and until when.
    async fn agenda(
        &self,
        agenda: &Agenda,
        now: Timestamp,
    ) -> Result<(Notification, Timestamp), StoreError> {
        let zone = &self.config.timezone;
        let today = zone.to_datetime(now).date();
        let midnight = |days: i32| {
            let day = today.saturating_add(Span::new().days(days));
            (day, resolve(day.to_datetime(civil::Time::midnight()), zone))
        };
        let (last, end) = midnight(i32::from(agenda.ahead_days));
        let watches: Vec<&Watch> =
            self.config.watches.iter().filter(|w| agenda.watches.contains(&w.name)).collect();
        let mut listed = HashSet::new();
        let window = Window { from: now, to: end };
        let upcoming = self.upcoming(window.from, window.to).await?;
        let items: Vec<Item> = upcoming
            .iter()
            .filter(|one| watches.iter().any(|watch| one.is_of(watch)))
            .filter(|one| window.overlaps(one.occurrence.start, one.occurrence.end))
            .filter(|one| listed.insert((&one.same, one.occurrence.start)))
            .map(Upcoming::item)
            .collect();
        let over = items.iter().map(|item| item.end).filter(|end| *end > now);
        let next = over.chain([midnight(1).1]).min().unwrap_or(NEVER);
        let notification = Notification {
            source: agenda.name.clone(),
            kind: Kind::Digest { from: today, to: last },
            zone: zone.iana_name().unwrap_or("UTC").to_owned(),
            items,
            more: 0,
        };
        Ok((notification, next))
    }

    /// Pins an agenda, or takes the pin away, as the configuration says.
    async fn pin(&self, place: &Place<'_>, agenda: &Agenda, shown: Shown) -> Result<(), Stop> {
        let Some(remote_id) = shown.remote_id.clone() else { return Ok(()) };
        let refused = lock(&self.mirror.unpinned).contains(&remote_id);
        if shown.pinned == agenda.pin || !place.board.is_bot() || refused {
            return Ok(());
        }
        match place.board.pin(&remote_id, agenda.pin).await {
            Ok(done) => {
                place.note(done);
                Ok(self.store.remember(&Shown { pinned: agenda.pin, ..shown }).await?)
            }
            Err(NotifyError::Permanent { reason } | NotifyError::ReceiverGone { reason, .. }) => {
                warn!(
                    to = shown.target,
                    name = shown.name,
                    reason,
                    "the agenda cannot be pinned: the bot needs Pin Messages, and a free place"
                );
                lock(&self.mirror.unpinned).insert(remote_id);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    // ---- any message ---------------------------------------------------------------------------

    /// Brings one message into line: made where it is not there, edited where it says something
    /// else. None where someone removed it and it is to stay away.
    async fn bring(
        &self,
        place: &Place<'_>,
        mut shown: Shown,
        body: &Value,
        payload: &Payload,
        repost: bool,
    ) -> Result<Option<Shown>, Stop> {
        let wanted = hash(body);
        if shown.state == State::Intended {
            shown = self.make(place, shown, body, payload).await?;
        } else if shown.hash == wanted {
            if shown.purpose == Purpose::Announcement {
                self.store.remember(&shown).await?;
            }
            return Ok(Some(shown));
        }
        let Some(remote_id) = shown.remote_id.clone() else {
            // Recognised by its nonce, and removed since.
            self.store.let_go(&shown).await?;
            return Ok(None);
        };
        if shown.hash == wanted {
            return Ok(Some(shown));
        }
        if place.board.edit(&remote_id, body).await? {
            place.note(true);
            debug!(to = shown.target, name = shown.name, remote_id, "edited");
            shown.hash = wanted;
            self.store.remember(&shown).await?;
            return Ok(Some(shown));
        }
        info!(to = shown.target, name = shown.name, repost, "someone has removed the message");
        self.store.let_go(&shown).await?;
        if !repost {
            return Ok(None);
        }
        let anew = Shown {
            state: State::Intended,
            remote_id: None,
            since: Timestamp::MAX,
            pinned: false,
            ..shown
        };
        let made = self.make(place, anew, body, payload).await?;
        Ok(Some(made).filter(|shown| shown.remote_id.is_some()))
    }

    /// Posts a message that is intended, or finds it where it was posted before a crash.
    async fn make(
        &self,
        place: &Place<'_>,
        mut shown: Shown,
        body: &Value,
        payload: &Payload,
    ) -> Result<Shown, Stop> {
        let now = place.now;
        let mut said = shown.hash;
        let interrupted = shown.since <= now;
        let lapsed = interrupted && now.duration_since(shown.since) > NONCE;
        // An agenda of which nothing is known may be there: a backup was restored. And one in a forum
        // has no nonce.
        if lapsed || shown.purpose == Purpose::Agenda {
            let title = body["embeds"][0]["title"].as_str().unwrap_or_default();
            let since = shown.since.saturating_sub(SKEW).unwrap_or(shown.since);
            let since = interrupted.then_some(since);
            for remote_id in place.board.find(title, since).await? {
                if self.store.is_shown(&remote_id).await? {
                    continue;
                }
                info!(to = shown.target, name = shown.name, remote_id, "found again");
                // What it says is not known.
                shown = Shown { remote_id: Some(remote_id), state: State::Shown, hash: 0, ..shown };
                self.store.remember(&shown).await?;
                return Ok(shown);
            }
        }
        if !interrupted || lapsed {
            said = hash(body);
            shown = Shown { since: now, hash: said, ..shown };
            self.store.remember(&shown).await?;
        }
        let id = format!("{}\n{}", shown.name, shown.since);
        let context = place.context(delivery_id(&shown.target, &id));
        let remote_id = match place.endpoint.notifier.send(payload, &context).await {
            Ok(receipt) => receipt.remote_id,
            // It is there, though perhaps not published.
            Err(NotifyError::Unfinished { remote_id, reason, .. }) => {
                warn!(to = shown.target, name = shown.name, remote_id, reason, "shown");
                remote_id
            }
            Err(error) => return Err(error.into()),
        };
        place.note(true);
        shown.remote_id = Some(remote_id).filter(|id| !id.is_empty());
        // Where the nonce was recognised, it says what was to be said then.
        shown = Shown { state: State::Shown, hash: said, ..shown };
        self.store.remember(&shown).await?;
        info!(to = shown.target, name = shown.name, remote_id = shown.remote_id, "shown");
        Ok(shown)
    }
}

impl Mirror {
    /// The passes that were under way when the database refused have ended without a result.
    pub fn resume(&self) {
        for turn in lock(&self.turns).values_mut() {
            turn.busy = false;
        }
    }

    pub fn new(config: &Config, registry: &Registry) -> Mirror {
        let guilds = config.scheduled_events.iter().map(|one| guild_target(one.guild));
        let guilds = guilds.filter(|_| registry.bot().is_some());
        let targets = registry.boards().map(|(endpoint, _)| endpoint.id.clone()).chain(guilds);
        let turns: BTreeMap<_, _> = targets.map(|target| (target, Turn::default())).collect();
        let order = turns.keys().map(|target| (target.clone(), Default::default())).collect();
        Mirror { turns: Mutex::new(turns), order, unpinned: Mutex::default() }
    }

    /// The endpoint took a message: what failed there is tried again at once.
    pub(crate) fn takes(&self, endpoint: &str) {
        if let Some(turn) = lock(&self.turns).get_mut(endpoint).filter(|turn| turn.failures > 0) {
            *turn = Turn { failures: 0, at: None, ..*turn };
        }
    }

    async fn lock(&self, target: &str) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self.order.get(target) {
            Some(order) => Some(order.lock().await),
            None => None,
        }
    }
}

impl Turn {
    /// When it is to be looked at, by the edition of the events that there is.
    fn due(&self, edition: u64) -> Timestamp {
        let at = self.at.unwrap_or(Timestamp::MIN);
        match (self.failures, self.nudged) {
            _ if self.parked => at,
            (0, _) if self.seen != Some(edition) => Timestamp::MIN,
            (0, Some(nudged)) => nudged.min(at),
            // What fails is not tried again before its time.
            _ => at,
        }
    }
}

/// Where messages are compared, and when.
#[derive(Clone, Copy)]
struct Place<'a> {
    endpoint: &'a Endpoint,
    board: &'a Board,
    /// Whether Discord took anything.
    took: &'a AtomicBool,
    now: Timestamp,
}

impl Place<'_> {
    fn note(&self, taken: bool) {
        self.took.fetch_or(taken, Ordering::Relaxed);
    }

    /// One message may not be edited yet; gives when it may.
    fn rest(&self, name: &str, after: Duration, reason: &str) -> Timestamp {
        let until = retry::next_attempt(self.now, 1, Some(after), name);
        warn!(to = self.endpoint.id, name, reason, %until, "an edit is put off");
        until
    }

    fn context(&self, id: String) -> DeliveryContext {
        DeliveryContext {
            dedup_key: id,
            planned_at: self.now,
            due_at: self.now,
            now: self.now,
            address: self.endpoint.address.clone(),
            thread: None,
            first_part: None,
            posted: None,
            twin: false,
            reply_to: None,
        }
    }
}

/// Until when something is left as it is, because Discord has refused what it should say.
fn rests(shown: &Shown, said: u64, now: Timestamp) -> Option<Timestamp> {
    let refused = shown.refused.as_ref().filter(|refused| refused.hash == said)?;
    let until = refused.at.saturating_add(PARK).unwrap_or(NEVER);
    // By a clock that was wrong it was refused later than now.
    (refused.at <= now && now < until).then_some(until)
}

fn guild_target(id: u64) -> String {
    format!("guild/{id}")
}

fn hash(body: &Value) -> u64 {
    xxh3_64(body.to_string().as_bytes())
}

/// The one event that a message is the announcement of.
fn announced(notification: &Notification) -> Option<&Item> {
    match (&notification.kind, notification.items.as_slice()) {
        (Kind::Changes, [item]) if notification.more == 0 && is_whole(item) => Some(item),
        _ => None,
    }
}

/// Whether an item is about what its key names. A date that is taken out of a series is told under
/// the name of the series.
fn is_whole(item: &Item) -> bool {
    item.event.recurrence_id.is_none() || item.reason != Reason::Cancelled
}

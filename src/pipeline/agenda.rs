//! What falls due with time: reminders, digests, welcomes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::MutexGuard;

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, warn};

use crate::calendar::Warning;
use crate::notify;
use crate::plan::{self, Digest, Planned, Watch};
use crate::store::{Delivery, NewDelivery, StoreError};

use super::{PATIENCE, Pipeline, lock};

/// Longer than beadle ever sleeps: nothing else lies between two ticks.
const UNSEEN: SignedDuration = SignedDuration::from_mins(2);
/// How far ahead reminders are kept in memory, in order of time.
const AGENDA_AHEAD: SignedDuration = SignedDuration::from_hours(36);
/// How far ahead they are in the outbox, so that nothing is left to be written when they fall due.
const OUTBOX_AHEAD: SignedDuration = UNSEEN;
/// How many are written ahead at once: they may keep one that falls due waiting.
const CHUNK: usize = 64;

/// The reminders of the next hours, made from the events and thrown away when these change.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Up to when everything that fell due is in the outbox; none before the first tick, when the
    /// store knows.
    pub(super) done: Option<Timestamp>,
    /// Up to when `queue` is complete; none when it must be made anew.
    until: Option<Timestamp>,
    /// Rows of the outbox to be. Latest first, so that the next one is popped.
    queue: Vec<NewDelivery>,
    /// Up to when what is in `queue` is in the outbox already; none where nothing is.
    written: Option<Timestamp>,
    /// Nothing that is yet to fall due is in the outbox, of this queue or an earlier one; not known at
    /// a start.
    none_ahead: bool,
    /// How often the events have changed.
    edition: u64,
    /// The edition that `queue` was made of.
    made_of: u64,
    /// Reminders in the outbox that were made of the events as they are now: their ids.
    fresh: HashSet<String>,
    /// Watches and digests met before; none when only the store knows.
    met: Option<BTreeSet<String>>,
}

impl Agenda {
    /// The events have changed.
    pub(super) fn forget(&mut self) {
        self.until = None;
        self.edition += 1;
        self.fresh.clear();
    }

    /// What is known here may be ahead of the database, which has refused something.
    pub(super) fn distrust(&mut self) {
        self.forget();
        self.done = None;
        self.met = None;
    }

    /// Takes what was made of the events of that edition, latest first. Where they have changed
    /// meanwhile it is made again the next time.
    fn fill(&mut self, edition: u64, until: Timestamp, queue: Vec<NewDelivery>) {
        self.until = (self.edition == edition).then_some(until);
        self.queue = queue;
        self.written = None;
        self.made_of = edition;
    }

    /// What is due, in order, and how many of them are in the outbox.
    fn pop_due(&mut self, now: Timestamp) -> (Vec<NewDelivery>, usize) {
        let first = self.queue.partition_point(|reminder| reminder.due_at > now);
        let mut due = self.queue.split_off(first);
        due.reverse();
        let written = self.written.map_or(0, |until| due.partition_point(|r| r.due_at <= until));
        (due, written)
    }

    /// What falls due next of what is not in the outbox, in order: all that is due at one time
    /// together.
    fn next_chunk(&self, written: Timestamp, until: Timestamp) -> Vec<NewDelivery> {
        let after = |at: Timestamp| self.queue.partition_point(|reminder| reminder.due_at > at);
        let all = self.queue.get(after(until)..after(written)).unwrap_or_default();
        let Some(last) = all.get(all.len().saturating_sub(CHUNK)) else { return Vec::new() };
        let chunk = &self.queue[after(last.due_at)..after(written)];
        chunk.iter().rev().cloned().collect()
    }
}

impl Pipeline {
    /// Puts into the outbox what has fallen due: reminders, digests, and the welcome of watches and
    /// digests never met before. Gives how many messages that made.
    pub async fn tick(&self, now: Timestamp) -> Result<u64, StoreError> {
        let ticked = self.try_tick(now).await;
        if ticked.is_err() {
            self.distrust_agenda();
        }
        ticked
    }

    /// The machine has slept, or the clock was set forward, and no tick has yet decided which of what
    /// was written ahead is still of use.
    pub(super) fn is_behind(&self, now: Timestamp) -> bool {
        let agenda = self.lock_agenda();
        !agenda.none_ahead && agenda.done.is_some_and(|done| now.duration_since(done) > UNSEEN)
    }

    async fn try_tick(&self, now: Timestamp) -> Result<u64, StoreError> {
        let done = self.done().await?;
        // First of all, so that nothing written ahead is met by what follows.
        let after = self.fill_agenda(done, now).await?;
        if let Some(done) = done.filter(|done| *done > now) {
            let by = done.duration_since(now);
            warn!(by = %format_args!("{by:#}"), "the clock was set back");
            self.store.clock_set_back(by, now).await?;
            for at in lock(&self.next_polls).values_mut() {
                *at = at.saturating_sub(by).unwrap_or(now);
            }
        }

        let (mut due, written, edition) = {
            let mut agenda = self.lock_agenda();
            let (due, written) = agenda.pop_due(now);
            (due, written, agenda.made_of)
        };
        let mut fell_due = due.drain(..written).count() as u64;
        let missed = due.len();
        due.retain(|reminder| reminder.not_after > now);
        let dropped = missed - due.len();
        if dropped > 0 {
            warn!(dropped, "reminders dropped: their events had begun");
        }
        newest_lead_only(&mut due, now);
        let reminders = due.len();
        let (scheduled, sources) = self.by_schedule(after, now).await?;
        due.extend(self.address(scheduled));

        if fell_due > 0
            || !due.is_empty()
            || !sources.is_empty()
            || done.is_none_or(|done| done > now)
        {
            let inserted = self.store.commit_due(&due, &sources, now).await?;
            fell_due += inserted;
            if fell_due > 0 {
                debug!(messages = fell_due, until = %now, "fell due");
            }
            let mut agenda = self.lock_agenda();
            if let Some(met) = &mut agenda.met {
                met.extend(sources);
            }
            // What was there already may have been made of other events.
            if agenda.edition == edition && inserted == due.len() as u64 {
                agenda.fresh.extend(due.into_iter().take(reminders).map(|row| row.id));
            }
        }
        self.lock_agenda().done = Some(now);
        self.metrics.fell_due(fell_due, dropped);
        Ok(fell_due)
    }

    /// Puts some of the reminders that are soon due into the outbox, where they wait for their time.
    /// True where there may be more.
    pub async fn write_ahead(&self, now: Timestamp) -> Result<bool, StoreError> {
        let until = now.saturating_add(OUTBOX_AHEAD).unwrap_or(now);
        let (chunk, edition) = {
            let mut agenda = self.lock_agenda();
            // A tick comes first.
            let (Some(_), Some(done)) = (agenda.until, agenda.done) else { return Ok(false) };
            let chunk = agenda.next_chunk(agenda.written.unwrap_or(done), until);
            if chunk.is_empty() {
                return Ok(false);
            }
            agenda.none_ahead = false;
            (chunk, agenda.made_of)
        };
        let inserted = self.store.write_ahead(&chunk, now).await?;
        let mut agenda = self.lock_agenda();
        // Somebody else may have ticked meanwhile.
        agenda.none_ahead = false;
        if agenda.edition == edition {
            agenda.written = chunk.last().map(|last| last.due_at);
            // What was there already may have been made of other events.
            if inserted == chunk.len() as u64 {
                agenda.fresh.extend(chunk.into_iter().map(|row| row.id));
            }
        }
        Ok(true)
    }

    /// The digests that fell due after `after`, and the welcome of watches and digests never met
    /// before; and those that are met now.
    async fn by_schedule(
        &self,
        after: Timestamp,
        now: Timestamp,
    ) -> Result<(Vec<Planned>, Vec<String>), StoreError> {
        let met = self.met().await?;
        let is_due = |digest: &Digest| plan::digest_due(digest, &self.config.timezone, after, now);
        // Most of the time there is nothing of the kind, and a reminder waits.
        if self.config.watches.iter().all(|watch| met.contains(&source_of_watch(watch)))
            && self
                .config
                .digests
                .iter()
                .all(|digest| met.contains(&source_of_digest(digest)) && is_due(digest).is_none())
        {
            return Ok((Vec::new(), Vec::new()));
        }
        let watches = self.watches().await?;
        let cx = self.plan_context(&watches, now);
        let (mut due, mut sources) = (Vec::new(), Vec::new());
        for watch in &watches {
            let source = source_of_watch(watch);
            if met.contains(&source) || !self.all_read(&watch.feeds).await? {
                continue;
            }
            if watch.welcome {
                let to = plan::welcome_reach(now);
                due.extend(plan::welcome(&cx, watch, &self.upcoming(now, to).await?));
            }
            sources.push(source);
        }
        for digest in &self.config.digests {
            let source = source_of_digest(digest);
            let watches = self.config.watches.iter().filter(|w| digest.watches.contains(&w.name));
            let feeds: Vec<String> = watches.flat_map(|w| w.feeds.iter().cloned()).collect();
            let first = !met.contains(&source);
            if first && !self.all_read(&feeds).await? {
                continue;
            }
            let at = match first {
                true => digest.welcome.then_some(now),
                false => is_due(digest),
            };
            if let Some(at) = at {
                let (_, _, window) = plan::digest_window(digest, &self.config.timezone, at);
                let upcoming = self.upcoming(window.from, window.to).await?;
                due.extend(plan::digest(&cx, digest, &upcoming, at));
            }
            if first {
                sources.push(source);
            }
        }
        Ok((due, sources))
    }

    /// When [`Pipeline::tick`] has something to do next.
    pub async fn next_due(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.fill_agenda(self.done().await?, now).await?;
        let digests = self.config.digests.iter();
        let digests = digests.map(|digest| digest.every.next(now, &self.config.timezone));
        let agenda = {
            let agenda = self.lock_agenda();
            agenda.queue.last().map(|reminder| reminder.due_at).or(agenda.until)
        };
        Ok(digests.chain(agenda).min().unwrap_or(Timestamp::MAX))
    }

    /// Whether a reminder is known to be true without looking: its events are those it was made of.
    pub(super) fn is_fresh(&self, delivery: &Delivery) -> bool {
        self.lock_agenda().fresh.remove(&delivery.id)
    }

    async fn met(&self) -> Result<BTreeSet<String>, StoreError> {
        let met = self.lock_agenda().met.clone();
        if let Some(met) = met {
            return Ok(met);
        }
        let met = self.store.sources().await?;
        self.lock_agenda().met = Some(met.clone());
        Ok(met)
    }

    /// Whether all feeds have been read once; those that cannot be read are not waited for.
    async fn all_read(&self, feeds: &[String]) -> Result<bool, StoreError> {
        for name in feeds {
            let state = self.store.feed(name).await?;
            let waits = state.baseline_at.is_none() && state.empty_since.is_none();
            if waits && state.failures < PATIENCE {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to when everything that fell due is in the outbox; none on the first start.
    async fn done(&self) -> Result<Option<Timestamp>, StoreError> {
        let done = self.lock_agenda().done;
        match done {
            Some(_) => Ok(done),
            None => self.store.watermark().await,
        }
    }

    /// Makes the agenda anew where it must be; gives the time after which things are yet to fall
    /// due. That is never in the future, even if a clock that went wrong has said so.
    async fn fill_agenda(
        &self,
        done: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let done = done.unwrap_or(now);
        // Under a clock that was set back the last minutes have not been looked at. What was told
        // of them is known by its id.
        let after = match done > now {
            true => now.saturating_sub(UNSEEN).unwrap_or(now),
            false => done,
        };
        let edition = {
            let agenda = self.lock_agenda();
            // What was taken out of it under a clock that has been set back falls due once more.
            // Where beadle was kept from working, which of those that are late are still of use is
            // decided before they are in the outbox.
            let late = agenda.queue.last().is_some_and(|next| is_late(next, now));
            if done <= now && !late && agenda.until.is_some_and(|until| until > now) {
                return Ok(after);
            }
            agenda.edition
        };
        if !self.lock_agenda().none_ahead {
            self.store.take_back(after).await?;
            let mut agenda = self.lock_agenda();
            (agenda.written, agenda.none_ahead) = (None, true);
        }
        let until = now.saturating_add(AGENDA_AHEAD).unwrap_or(now);
        let (watches, wishes) = (self.watches().await?, self.wishes().await?);
        let upcoming = match plan::reminder_reach(&watches, &wishes, until) {
            Some(reach) => self.upcoming(after, reach).await?,
            None => Vec::new(),
        };
        for one in plan::too_frequent(&upcoming).values() {
            let Some(feed) = self.config.feeds.get(&one.feed) else { continue };
            let message = format!("more than {} times a day; nobody is reminded", plan::MAX_A_DAY);
            let event = Some(one.occurrence.event.summary.clone());
            self.warn_once(feed, &Warning { line: 0, event, message });
        }
        let cx = self.plan_context(&watches, now);
        let mut planned = plan::reminders(&cx, &upcoming, after, until);
        planned.extend(plan::personal_reminders(&cx, &upcoming, &wishes, after, until));
        drop(upcoming);
        let items = planned.iter_mut().flat_map(|planned| &mut planned.notification.items);
        for item in items.filter(|item| item.has_the_text_of_its_key()) {
            // It stands with the event, and is looked up when the message is written.
            item.event.description = String::new();
        }
        let mut queue = self.address(planned);
        queue.sort_by_key(|reminder| reminder.due_at);
        queue.reverse();
        debug!(reminders = queue.len(), until = %format_args!("{until:.3}"), "agenda made");
        self.lock_agenda().fill(edition, until, queue);
        Ok(after)
    }

    /// Begins again from what the database holds, after it has refused something.
    pub fn distrust_agenda(&self) {
        self.lock_agenda().distrust();
    }

    /// How often the events have changed since the start.
    pub(crate) fn edition(&self) -> u64 {
        self.lock_agenda().edition
    }

    pub(super) fn lock_agenda(&self) -> MutexGuard<'_, Agenda> {
        lock(&self.agenda)
    }
}

/// Under which name a watch is known to have been met.
fn source_of_watch(watch: &Watch) -> String {
    format!("watch {}", watch.name)
}

fn source_of_digest(digest: &Digest) -> String {
    format!("digest {}", digest.name)
}

fn is_late(reminder: &NewDelivery, now: Timestamp) -> bool {
    notify::is_late(reminder.due_at, now)
}

/// After a pause, of several reminders missed for one event only the last is of use.
fn newest_lead_only(due: &mut Vec<NewDelivery>, now: Timestamp) {
    let late = |reminder: &NewDelivery| is_late(reminder, now);
    if !due.iter().any(late) {
        return;
    }
    let event = |reminder: &NewDelivery| {
        let notification = reminder.notification.read()?;
        let item = notification.items.first()?;
        let event = format!("{}|{}|{}", item.feed, item.key, item.start);
        Some((reminder.endpoint.clone(), event))
    };
    let mut newest: HashMap<(String, String), Timestamp> = HashMap::new();
    let events: Vec<_> = due.iter().map(event).collect();
    for (reminder, event) in due.iter().zip(&events) {
        if let Some(event) = event {
            let at = newest.entry(event.clone()).or_insert(reminder.due_at);
            *at = reminder.due_at.max(*at);
        }
    }
    let mut events = events.iter();
    due.retain(|reminder| {
        let event = events.next().and_then(Option::as_ref);
        !late(reminder) || event.is_none_or(|event| newest[event] == reminder.due_at)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agenda_made_of_events_that_changed_meanwhile_is_made_again() {
        let mut agenda = Agenda::default();
        let edition = agenda.edition;
        agenda.fill(edition, Timestamp::UNIX_EPOCH, Vec::new());
        assert_eq!(agenda.until, Some(Timestamp::UNIX_EPOCH));
        agenda.forget();
        agenda.fill(edition, Timestamp::UNIX_EPOCH, Vec::new());
        assert_eq!(agenda.until, None);
    }
}

//! From a feed's address to what is to be told of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info, warn};
use url::Url;

use crate::calendar::diff::{self, Change, ChangeKind, Glance, Known, Marks, Note, Reading, Told};
use crate::calendar::fingerprints::Fingerprints;
use crate::calendar::parse::{self, ReadOptions};
use crate::calendar::publisher::Publisher;
use crate::calendar::{
    Calendar, Event, EventKey, Judgement, Uid, Verdict, Warning, identity, recur,
};
use crate::config::{Feed, FeedUrl};
use crate::fetch::{
    self, Advice, Body, FetchError, FetchErrorKind, Fetched, PollState, Validators,
};
use crate::lookup::Site;
use crate::metrics;
use crate::operator::{self, Incident};
use crate::plan::{self, Elsewhere, FeedView};
use crate::store::{FeedState, PollCommit, Spool, StoreError};

use super::{Pipeline, lock, pages};

/// Events of a first reading kept in memory, and bytes of the body that they are from.
const SPOOL_FROM: usize = 256;
const SPOOL_BYTES: usize = 512 * 1024;
/// Events of one feed that are kept although they are no longer in it; as many more as it lists,
/// where it lists more.
const MAX_ABSENT: usize = 100_000;
/// How long the same news of an event in another feed is no news.
const TOLD_ELSEWHERE: SignedDuration = SignedDuration::from_hours(48);
/// Events whose status is asked for in one poll, of those that are known.
const MAX_STATUSES: u32 = 300;
/// How many of these are others each time, where there are more than can be asked for.
const IN_TURN: u32 = 100;
/// Events whose status is asked for the first time.
const MAX_FIRST_STATUSES: usize = 10_000;

/// What the end of a feed said.
#[derive(Debug)]
pub(super) struct Remembered {
    preamble: parse::Preamble,
    /// It was not known when the feed was read.
    is_new: bool,
}

/// A body, as far as it is not the last one.
#[derive(Default)]
struct Read {
    calendar: Calendar,
    /// In memory, with `amendments` applied; or in `spool`, where they are not.
    events: Vec<(Event, u128)>,
    spool: Option<Spool>,
    amendments: Vec<parse::Amendment>,
    unchanged: Fingerprints,
    /// There, but not readable.
    present: HashSet<Uid>,
}

impl Read {
    /// How many events it holds, where none is on disk.
    fn listed(&self) -> usize {
        self.unchanged.met() + self.events.len()
    }

    /// Together with another part of the same calendar.
    fn and(mut self, other: Read) -> Read {
        self.events.extend(other.events);
        self.present.extend(other.present);
        self.calendar = self.calendar.and(other.calendar);
        self
    }
}

/// A first reading on disk, and what is still to be done to its events.
struct Spooled {
    spool: Spool,
    amendments: HashMap<usize, parse::Amendment>,
}

impl Spooled {
    /// The events as they count, with their fingerprints.
    fn events(&mut self) -> io::Result<impl Iterator<Item = io::Result<(Event, u128)>>> {
        let Spooled { spool, amendments } = self;
        Ok(spool.read()?.enumerate().filter_map(|(index, read)| {
            let counts = |(event, fingerprint)| match amendments.get(&index) {
                Some(amendment) => Some((amendment.apply(event)?, fingerprint)),
                None => Some((event, fingerprint)),
            };
            read.map(counts).transpose()
        }))
    }
}

/// What a poll did.
#[derive(Debug)]
pub struct Polled {
    pub next_poll_at: Timestamp,
    pub result: Result<News, FetchError>,
}

/// What a poll found.
#[derive(Debug, Default)]
pub struct News {
    /// The first time this feed was read: nothing is told.
    pub baseline: bool,
    /// It broke off, and is no baseline yet.
    pub cut: bool,
    /// Events in the feed; none when it was the same as before.
    pub events: Option<usize>,
    pub changes: Vec<Change>,
    pub warnings: Vec<Warning>,
    /// Events in the feed that could not be read; none when its text was not looked at.
    pub unreadable: Option<usize>,
    /// Messages put into the outbox.
    pub planned: usize,
}

impl Pipeline {
    /// Reads a feed once and puts into the outbox what is to be told of it.
    pub async fn poll(&self, feed: &Feed, now: Timestamp) -> Result<Polled, StoreError> {
        let _alone = match self.polling.get(&feed.name) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        // Where this one fails, what an earlier one wished for is over.
        lock(&self.next_polls).remove(&feed.name);
        let started = tokio::time::Instant::now();
        let polled = self.look(feed, now).await?;
        self.metrics.polled(&feed.name, &polled, started.elapsed(), now);
        lock(&self.next_polls).insert(feed.name.clone(), polled.next_poll_at);
        Ok(polled)
    }

    /// When a feed should be read again, as its last poll found; none before the first.
    pub fn next_poll(&self, feed: &str) -> Option<Timestamp> {
        lock(&self.next_polls).get(feed).copied()
    }

    async fn look(&self, feed: &Feed, now: Timestamp) -> Result<Polled, StoreError> {
        let mut state = self.store.feed(&feed.name).await?;
        let address = address(feed, &self.config.timezone);
        // Validators of another address prove nothing about this one.
        let validators = match state.address == address {
            true => {
                Validators { etag: state.etag.clone(), last_modified: state.last_modified.clone() }
            }
            false => Validators::default(),
        };

        let first = state.baseline_at.is_none();
        // Events of a feed that was empty before can be new, and then more is done with them.
        let spools = first && state.empty_since.is_none();
        let (mut fetched, mut advice) = match self.fetch(feed, &validators, false, spools).await? {
            Ok(fetched) => fetched,
            Err(error) => return self.poll_failed(feed, state, error, now).await,
        };
        let mut restart = false;
        let moved = state.address != address;
        if let Some((read, _)) = &fetched
            && !first
            && (moved || is_named_otherwise(&state, read))
            && self.is_another_calendar(feed, &state, read, now).await?
        {
            // At the same address it may be a slip of the server's.
            let name = read.calendar.name.clone().unwrap_or_default();
            let error = FetchError::other_calendar(&feed.url, name);
            let again = state.last_error == Some(error.to_string());
            let since =
                state.failing_since.filter(|_| again).map(|since| now.duration_since(since));
            if !moved && since.is_none_or(|since| since < diff::MASS_LOSS_CONFIRM) {
                // The day begins with the first such answer.
                state.failing_since = state.failing_since.filter(|_| again);
                return self.poll_failed(feed, state, error, now).await;
            }
            warn!(
                feed = feed.name,
                "its address leads to another calendar: what was known is forgotten, and nothing of what is there now is told"
            );
            restart = true;
            let empty_since = (read.listed() == 0).then_some(now);
            let none = Validators::default();
            (fetched, advice) = match self.fetch(feed, &none, true, empty_since.is_none()).await? {
                Ok(fetched) => fetched,
                Err(error) => return self.poll_failed(feed, state, error, now).await,
            };
            state = FeedState { empty_since, ..FeedState::default() };
        }

        if state.failures > 0 {
            info!(feed = feed.name, failures = state.failures, "read again");
        }
        let mut next = FeedState {
            address,
            failures: 0,
            failing_since: None,
            last_error: None,
            ..state.clone()
        };
        let mut news = News { baseline: state.baseline_at.is_none(), ..News::default() };
        let not_modified = fetched.is_none();
        let (mut reading, whole, mut spooled) = match fetched {
            None => {
                let prodid = state.prodid.clone();
                (Reading { prodid, complete: true, ..Reading::default() }, true, None)
            }
            Some((mut read, validators)) => {
                let warnings = std::mem::take(&mut read.calendar.warnings);
                news.unreadable = Some(read.calendar.health.unreadable + read.present.len());
                news.warnings = self.not_warned(feed, warnings);
                let whole = read.calendar.health.complete;
                let (reading, spooled) = take_over(read, validators, &mut next);
                (reading, whole, spooled)
            }
        };
        let regular = fetch::next_poll_at(
            now,
            feed,
            fetch::Outcome::Read { refresh: next.refresh, advice: &advice },
            PollState::default(),
        );

        reading.empty_since = state.empty_since.filter(|_| news.baseline);
        let user_agent = feed.user_agent.as_deref().unwrap_or(fetch::USER_AGENT);
        let publisher = Publisher::of(&next.prodid);
        let site = Site::of(&self.fetcher, feed, user_agent, publisher);
        if let Some(site) = &site {
            self.ask_statuses(site, feed, &mut reading, spooled.as_mut(), &mut next, now).await?;
        }

        let back = state
            .failing_since
            .filter(|since| now.duration_since(*since) >= operator::FAILING)
            .map(|since| Incident::FeedBack { feed: &feed.name, since })
            .and_then(|incident| self.notice("", incident, now));

        next.in_part = state.in_part && !whole;
        // The common case: the feed says what it said before, and nothing waits to be confirmed.
        let same = reading.unchanged.is_same() && reading.restated.is_empty();
        if !news.baseline && same && state.recheck_at.is_none() {
            if next != state {
                let commit = PollCommit {
                    feed: &feed.name,
                    state: Some(&next),
                    outbox: back.as_slice(),
                    now,
                    ..PollCommit::default()
                };
                self.store.commit_poll(&commit).await?;
            }
            return Ok(Polled { next_poll_at: regular, result: Ok(news) });
        }
        if not_modified {
            reading.unchanged = self.last_body(feed).await?;
            reading.unchanged.meet_all();
        }
        // A first reading that was cut is no baseline, or the rest of the feed would be news; but
        // what is cut in the same place every time is all there is, as long as it stays so.
        let baseline = whole || (reading.unchanged.is_same() && !reading.unchanged.is_empty());
        let completed = state.in_part && whole;
        reading.completed = completed;
        if completed {
            info!(feed = feed.name, "whole for the first time; from now on changes are told");
        }

        let zone = self.feed_zone(feed, &next);
        let complete = reading.complete;
        let prints = match &spooled {
            // Large, and nothing is known that could be among them.
            Some(_) => std::mem::take(&mut reading.unchanged),
            None => reading.unchanged.clone(),
        };
        let cx = diff::Context {
            now,
            zones: &self.zones,
            zone: &zone,
            settle: feed.settle,
            confirm: feed.confirm,
            baseline: news.baseline,
        };
        let statuses = match &spooled {
            Some(_) => std::mem::take(&mut reading.statuses),
            None => BTreeMap::new(),
        };
        let mut outcome = self.compare(feed, reading, site.as_ref(), restart, &cx).await?;
        if let Some(site) = &site {
            illustrate(site, &mut outcome).await;
        }
        self.report(feed, &outcome.notes);
        let prints = match complete {
            true => prints.into_new(),
            // What an unreadable part may hold; of events alone, or a feed that never becomes readable
            // would leave more of them with each edit.
            false => {
                let glances = self.store.glances(&feed.name, now).await?;
                let known: HashSet<u128> = glances.iter().map(|one| one.fingerprint).collect();
                let replaced = &outcome.replaced;
                prints.into_both(|print| known.contains(&print) && !replaced.contains(&print))
            }
        };
        for change in &outcome.changes {
            let kind = metrics::change_word(change.kind);
            debug!(feed = feed.name, kind, event = %change.key, "change");
        }
        // What one feed tells, another need not: so they look and tell one after the other.
        let _turn = self.telling.lock().await;
        let view = FeedView {
            name: &feed.name,
            title: next.title.as_deref(),
            zone: zone.clone(),
            elsewhere: self.elsewhere(feed, &outcome.changes, &zone, now).await?,
        };
        let watches = self.watches().await?;
        let cx = self.plan_context(&watches, now);
        let mut planned = plan::changes(&cx, &view, &outcome.changes);
        if !outcome.changes.is_empty() {
            let wishes = self.wishes().await?;
            planned.extend(plan::personal_changes(&cx, &view, &outcome.changes, &wishes));
        }
        let of_each =
            planned.iter().map(|one| one.told.iter().map(|told| (one.to.clone(), told.clone())));
        let told: Vec<(String, String)> = of_each.flatten().collect();
        let mut outbox = self.address(planned);
        news.planned = outbox.len();
        outbox.extend(back);
        let mut listed = outcome.listed;

        let next_poll_at = outcome.recheck_at.map_or(regular, |at| regular.min(at.max(now)));
        next.recheck_at = outcome.recheck_at;
        next.next_poll_at = Some(next_poll_at);
        // A feed that was empty begins when it has events.
        let begun = baseline && (state.empty_since.is_none() || outcome.listed > 0);
        next.baseline_at = state.baseline_at.or(begun.then_some(now));
        next.in_part = !whole && (state.in_part || state.baseline_at.is_none() && begun);
        news.cut = !whole && next.baseline_at.is_none();
        next.empty_since = state.empty_since.filter(|_| next.baseline_at.is_none());
        if !outcome.write.is_empty() || !outcome.forget.is_empty() {
            next.changed_at = Some(now);
        }
        let bounded = |known: Known| {
            let (starts, ends) = self.bounds(&known.seen, &zone);
            (known, starts, ends)
        };
        let write: Vec<_> = outcome.write.into_iter().map(bounded).collect();
        let commit = PollCommit {
            feed: &feed.name,
            restart,
            state: Some(&next),
            fingerprints: Some(&prints),
            write: &write,
            forget: &outcome.forget,
            outbox: &outbox,
            told: &told,
            // What fell due since then is still to be looked for.
            watermark: self.lock_agenda().done,
            now,
        };
        match spooled {
            None => self.store.commit_poll(&commit).await?,
            Some(mut spooled) => {
                let mut events = 0;
                let mut row = |(mut event, fingerprint): (Event, u128)| {
                    events += 1;
                    let said = identity::stem(&event.uid).and_then(|stem| statuses.get(&stem));
                    event.judge(said.filter(|verdict| !verdict.status.is_on()).cloned());
                    bounded(diff::baseline(event, fingerprint, publisher, now))
                };
                let rows = spooled.events().map_err(StoreError::Spool)?;
                let rows = rows.map(|one| one.map(&mut row));
                self.store.commit_first_poll(&commit, rows).await?;
                listed += events;
            }
        }
        self.lock_agenda().forget();
        news.events = Some(listed);
        self.bound_absent(feed, listed).await?;
        news.changes = outcome.changes;
        Ok(Polled { next_poll_at, result: Ok(news) })
    }

    /// What the last body held, none of it met yet.
    async fn last_body(&self, feed: &Feed) -> Result<Fingerprints, StoreError> {
        Ok(Fingerprints::new(self.store.fingerprints(&feed.name).await?))
    }

    /// Whether the address of a feed leads to another calendar than the one before: hardly any of
    /// its events was known, by its UID or title together with its time or title.
    async fn is_another_calendar(
        &self,
        feed: &Feed,
        state: &FeedState,
        read: &Read,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let glances = self.store.glances(&feed.name, now).await?;
        let known = || glances.iter().filter(|glance| glance.listed);
        // Without its texts an event is known by two of these at once.
        let (mut uids, mut titles, mut stems) = (HashSet::new(), HashSet::new(), HashSet::new());
        for Glance { marks, starts, .. } in known() {
            uids.extend([(marks.uid, i64::from(marks.title)), (marks.uid, *starts)]);
            stems.extend([(marks.stem, i64::from(marks.title)), (marks.stem, *starts)]);
            titles.insert((marks.title, *starts));
        }
        let zone = self.feed_zone(feed, state);
        let is_known = |event: &Event| {
            let marks = Marks::of(event);
            let starts = self.bounds(event, &zone).0.as_millisecond();
            let either = [i64::from(marks.title), starts];
            either.iter().any(|other| {
                uids.contains(&(marks.uid, *other)) || stems.contains(&(marks.stem, *other))
            }) || titles.contains(&(marks.title, starts))
        };
        let again = read.events.iter().filter(|(event, _)| is_known(event)).count();
        let same = again + read.unchanged.met();
        let least = read.listed().min(known().count());
        Ok(same * 10 < least.max(1))
    }

    /// Asks the publisher's site which events are off: each time about the soonest and what is new,
    /// about the others in turn. The first time it is asked about all of them, because what is off
    /// by then is part of what is known from the beginning.
    async fn ask_statuses(
        &self,
        site: &Site<'_>,
        feed: &Feed,
        reading: &mut Reading,
        spooled: Option<&mut Spooled>,
        next: &mut FeedState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if !site.keeps_statuses() {
            return Ok(());
        }
        let first = next.statuses_since.is_none();
        let most = if first { MAX_FIRST_STATUSES } else { MAX_STATUSES as usize };
        let zone = self.feed_zone(feed, next);
        let post = |event: &Event| {
            let upcoming = self.bounds(event, &zone).1 > now;
            site.post(&event.uid).filter(|_| upcoming)
        };
        let mut posts: BTreeMap<u64, String> =
            reading.events.iter().filter_map(|(event, _)| post(event)).take(most).collect();
        if let Some(spooled) = spooled {
            let events = spooled.events().map_err(StoreError::Spool)?;
            for event in events.take(most) {
                posts.extend(post(&event.map_err(StoreError::Spool)?.0));
            }
        }

        // What the site said before of those that are asked about again.
        let mut before: HashMap<String, Option<Verdict>> = HashMap::new();
        let mut ask = |event: Judgement| {
            let (id, stem) = site.post(&event.uid)?;
            before.insert(stem.clone(), event.judged.map(|judged| judged.verdict));
            Some((id, stem))
        };
        let most = if first { IN_TURN } else { MAX_STATUSES };
        let mut soonest = self.store.soonest(&feed.name, now, most).await?;
        let mut asked_to = next.asked_to;
        if !first && soonest.len() == MAX_STATUSES as usize {
            soonest.truncate((MAX_STATUSES - IN_TURN) as usize);
            let turn = self.store.in_turn(&feed.name, asked_to, now, IN_TURN).await?;
            let full = turn.len() == IN_TURN as usize;
            asked_to = turn.last().map(|(hash, _)| *hash).filter(|_| full);
            posts.extend(turn.into_iter().filter_map(|(_, event)| ask(event)));
        }
        posts.extend(soonest.into_iter().filter_map(&mut ask));
        let mut statuses = site.statuses(&posts).await;
        if first && !statuses.verdicts.is_empty() {
            let mut others = BTreeMap::new();
            let mut after = None;
            while others.len() < MAX_FIRST_STATUSES {
                let page = self.store.in_turn(&feed.name, after, now, IN_TURN).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                others.extend(page.into_iter().filter_map(|(_, event)| ask(event)));
            }
            others.retain(|id, _| !posts.contains_key(id));
            statuses.verdicts.extend(site.statuses(&others).await.verdicts);
        }
        if statuses.complete {
            next.asked_to = asked_to;
        }
        if first && !statuses.verdicts.is_empty() {
            next.statuses_since = Some(now);
            reading.statuses_overdue_since = next.baseline_at;
        }
        reading.statuses = statuses.verdicts;
        let restated = before.into_iter().filter(|(stem, before)| {
            let said = reading.statuses.get(stem);
            said.is_some_and(|said| Some(said).filter(|v| !v.status.is_on()) != before.as_ref())
        });
        reading.restated = restated.map(|(stem, _)| stem).collect();
        Ok(())
    }

    /// Forgets the oldest of the events that are gone, where a feed has listed ever new ones.
    async fn bound_absent(&self, feed: &Feed, listed: usize) -> Result<(), StoreError> {
        let forgotten = self.store.forget_absent(&feed.name, MAX_ABSENT.max(listed)).await?;
        if forgotten > 0 {
            warn!(
                feed = feed.name,
                forgotten,
                "so many events have come and gone that the oldest of them are forgotten; one that returns is told as new"
            );
        }
        Ok(())
    }

    /// What changed; where only the site knows what that means, with its answers.
    async fn compare(
        &self,
        feed: &Feed,
        mut reading: Reading,
        site: Option<&Site<'_>>,
        restart: bool,
        cx: &diff::Context<'_>,
    ) -> Result<diff::Outcome, StoreError> {
        let glances = match restart {
            true => Vec::new(),
            false => self.store.glances(&feed.name, cx.now).await?,
        };
        let (involved, rest) = diff::involved(&glances, &mut reading);
        drop(glances);
        let mut known = self.store.known(&feed.name, &involved).await?;
        let lost = self.replace_unreadable(feed, &reading, &mut known, cx.now);
        let Some(site) = site else {
            let mut outcome = diff::diff(known, &rest, reading, cx);
            outcome.forget.extend(lost);
            return Ok(outcome);
        };
        let mut outcome = diff::diff(known.clone(), &rest, reading.clone(), cx);
        let start = |event: &Event| event.start.instant(cx.zones, cx.zone);
        reading.answers = site.answers(&outcome.questions, start).await;
        if !reading.answers.is_empty() {
            outcome = diff::diff(known, &rest, reading, cx);
        }
        outcome.forget.extend(lost);
        Ok(outcome)
    }

    /// Of what is remembered and cannot be read, as much as stands in the reading: as if it had been
    /// told as it is now. Gives those to be forgotten: they are not in a feed that was read in full.
    fn replace_unreadable(
        &self,
        feed: &Feed,
        reading: &Reading,
        known: &mut Vec<Known>,
        now: Timestamp,
    ) -> Vec<EventKey> {
        let publisher = Publisher::of(&reading.prodid);
        let mut lost = Vec::new();
        for key in self.store.unreadable(&feed.name) {
            let is_it =
                |event: &Event| [false, true].map(|stem| identity::key(event, stem)).contains(&key);
            match reading.events.iter().find(|(event, _)| is_it(event)) {
                Some((event, _)) => {
                    let mut event = event.clone();
                    let said = identity::stem(&event.uid).and_then(|id| reading.statuses.get(&id));
                    event.judge(said.filter(|verdict| !verdict.status.is_on()).cloned());
                    let read = diff::baseline(event, 0, publisher, now);
                    known.push(Known { key, ..read });
                }
                None if reading.complete && reading.unchanged.met() == 0 => lost.push(key),
                None => {}
            }
        }
        lost
    }

    async fn poll_failed(
        &self,
        feed: &Feed,
        state: FeedState,
        error: FetchError,
        now: Timestamp,
    ) -> Result<Polled, StoreError> {
        let mut empty_since = state.empty_since;
        if *error.kind() == FetchErrorKind::Empty && state.last_error != Some(error.to_string()) {
            let first = state.baseline_at.is_none() && empty_since.is_none();
            match first {
                true => info!(
                    feed = feed.name,
                    "{error}: taken for one without events, as some publishers send it; events made from now on are told"
                ),
                false => info!(feed = feed.name, "{error}; nothing is taken to be removed"),
            }
            empty_since = empty_since.or(first.then_some(now));
        }
        let outcome = fetch::Outcome::Failed(&error);
        let failures = PollState { failures: state.failures }.after(outcome);
        let next_poll_at = fetch::next_poll_at(now, feed, outcome, failures);
        let next = FeedState {
            failures: failures.failures,
            failing_since: state.failing_since.or((failures.failures > 0).then_some(now)),
            last_error: Some(error.to_string()),
            next_poll_at: Some(next_poll_at),
            empty_since,
            ..state
        };
        let reason = error.to_string();
        let incident = next
            .failing_since
            .filter(|since| now.duration_since(*since) >= operator::FAILING)
            .map(|since| Incident::FeedFailing { feed: &feed.name, since, error: &reason });
        let notice = incident.and_then(|incident| self.notice("", incident, now));
        let commit = PollCommit {
            feed: &feed.name,
            state: Some(&next),
            outbox: notice.as_slice(),
            now,
            ..Default::default()
        };
        self.store.commit_poll(&commit).await?;
        Ok(Polled { next_poll_at, result: Err(error) })
    }

    /// What other feeds have of the events that changed.
    async fn elsewhere(
        &self,
        feed: &Feed,
        changes: &[Change],
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<Elsewhere, StoreError> {
        let starts = changes.iter().map(|change| change.after.start.instant(&self.zones, zone));
        let (Some(first), Some(last)) = (starts.clone().min(), starts.max()) else {
            return Ok(Elsewhere::default());
        };
        if self.config.feeds.len() < 2 {
            return Ok(Elsewhere::default());
        }
        let to = last.saturating_add(SignedDuration::from_secs(1)).unwrap_or(last);
        let others = self.upcoming(first, to).await?;
        let new = self.store.untold_between(first, to).await?;
        let mut elsewhere = Elsewhere::default();
        for one in others.into_iter().filter(|one| one.feed != feed.name) {
            let (id, occurrence) = ((one.feed, one.key), one.occurrence);
            let list = match new.contains(&id) {
                true => &mut elsewhere.untold,
                false => &mut elsewhere.events,
            };
            list.push((id.0, occurrence.event, occurrence.start));
        }
        let since = now.saturating_sub(TOLD_ELSEWHERE).unwrap_or(now);
        elsewhere.told = self.store.told_since(&feed.name, since).await?;
        Ok(elsewhere)
    }

    /// Asks for the feed and reads what is new in it, or all of it `anew`; none where the server
    /// says that nothing is new.
    async fn fetch(
        &self,
        feed: &Feed,
        validators: &Validators,
        anew: bool,
        first: bool,
    ) -> Result<Result<(Option<(Read, Validators)>, Advice), FetchError>, StoreError> {
        if feed.also.is_empty() && feed.pages == 1 {
            let before = anew.then(Fingerprints::default);
            return self.fetch_part(feed, validators, before, first).await;
        }
        let mut unchanged = match anew {
            true => Fingerprints::default(),
            false => self.last_body(feed).await?,
        };
        // Of a calendar in parts, one that has not changed must be read all the same, to know what
        // is in it.
        let mut whole: Option<(Read, Advice)> = None;
        let starts = match feed.pages {
            1 => HashMap::new(),
            _ => self.store.starts(&feed.name).await?,
        };
        for mut part in feed.parts() {
            let mut walk = pages::Walk::new(&part);
            let mut next = Some(part.url.clone());
            while let Some(url) = next.take() {
                part.url = url;
                let none = Validators::default();
                let before = unchanged;
                let first = before.len();
                match self.fetch_part(&part, &none, Some(before.clone()), false).await? {
                    Ok((Some((mut read, _)), advice)) => {
                        unchanged = std::mem::take(&mut read.unchanged);
                        let here = (first..unchanged.len()).filter_map(|n| unchanged.nth(n));
                        let known = here.filter_map(|print| starts.get(&print).copied());
                        let fresh = read.events.iter().map(|(event, _)| {
                            event.start.instant(&self.zones, &self.config.timezone)
                        });
                        let starts = known.chain(fresh.map(Timestamp::as_millisecond)).max();
                        let last = starts.and_then(|at| Timestamp::from_millisecond(at).ok());
                        let publisher = Publisher::of(&read.calendar.prodid);
                        let zone = feed
                            .timezone
                            .clone()
                            .or_else(|| self.zones.get(read.calendar.timezone.as_deref()?));
                        let zone = zone.as_ref().unwrap_or(&self.config.timezone);
                        let page = walk.next(publisher, unchanged.len() - first, last, zone);
                        if let Some(day) = page.as_ref().and_then(|page| page.cut) {
                            // What is not there may be on that day, too.
                            read.calendar.health.complete = false;
                            read.calendar.warnings.push(Warning {
                                line: 0,
                                event: None,
                                message: format!(
                                    "there are more events on {day} than a page holds; some of that day may be missing"
                                ),
                            });
                        }
                        next = page.map(|page| page.url);
                        whole = Some(match whole {
                            None => (read, advice),
                            Some((all, advice)) => (all.and(read), advice),
                        });
                    }
                    Ok((None, _)) => unchanged = Fingerprints::default(),
                    // After the last event The Events Calendar has nothing at all to say.
                    Err(error) if walk.has_begun() && *error.kind() == FetchErrorKind::Empty => {
                        unchanged = before;
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        let (read, advice) = whole.unwrap_or_default();
        Ok(Ok((Some((Read { unchanged, ..read }, Validators::default())), advice)))
    }

    /// `before`: what is known of the feed, where it is not what the store knows.
    async fn fetch_part(
        &self,
        feed: &Feed,
        validators: &Validators,
        before: Option<Fingerprints>,
        first: bool,
    ) -> Result<Result<(Option<(Read, Validators)>, Advice), FetchError>, StoreError> {
        let mut validators = validators.clone();
        // What stands at the end of a feed can bear on how all of it is read; then it is read twice.
        let mut second = false;
        loop {
            let (body, charset, new, advice) = match self.fetcher.fetch(feed, &validators).await {
                Ok(Fetched::NotModified { advice }) => return Ok(Ok((None, advice))),
                Ok(Fetched::Body { body, charset, validators, advice, moved_to }) => {
                    if let Some(url) = moved_to {
                        self.warn_once(feed, &moved(&url));
                    }
                    (body, charset, validators, advice)
                }
                Err(error) => return Ok(Err(error)),
            };
            // Not before there is something to compare them with: most answers are without a body.
            let unchanged = match &before {
                Some(before) => before.clone(),
                None => self.last_body(feed).await?,
            };
            let read = match self.read(feed, *body, charset.as_deref(), unchanged, first).await? {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            let again = lock(&self.preambles)
                .get(&address(feed, &self.config.timezone))
                .is_some_and(|one| one.is_new);
            if second || !again {
                return Ok(Ok((Some((read, new)), advice)));
            }
            validators = Validators::default();
            second = true;
        }
    }

    /// Reads a body as it arrives; only slices not known are parsed.
    async fn read(
        &self,
        feed: &Feed,
        mut body: Body,
        charset: Option<&str>,
        mut unchanged: Fingerprints,
        first: bool,
    ) -> Result<Result<Read, FetchError>, StoreError> {
        let options = ReadOptions {
            zones: &self.zones,
            feed_zone: feed.timezone.as_ref(),
            audience_zone: &self.config.timezone,
            charset,
        };
        let preamble = lock(&self.preambles)
            .get(&address(feed, &self.config.timezone))
            .map(|one| one.preamble.clone());
        let mut events: Vec<(Event, u128)> = Vec::new();
        let mut spool: Option<Spool> = None;
        let mut held = 0;
        let mut reader = parse::Reader::new(&options, preamble, |print| unchanged.meet(print));
        loop {
            let piece = match body.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            self.metrics.read(&feed.name, piece.len());
            reader.push(&piece, &mut |event, print| events.push((event, print)));
            held += piece.len();
            if first && !events.is_empty() && (events.len() > SPOOL_FROM || held > SPOOL_BYTES) {
                self.spool(&mut spool, &mut events)?;
                held = 0;
            }
        }
        let mut summary = reader.finish(&mut |event, print| events.push((event, print)));
        if spool.is_some() {
            self.spool(&mut spool, &mut events)?;
        }
        let mut names: HashMap<usize, Uid> = HashMap::new();
        if let (Some(spool), false) = (&mut spool, summary.unnamed.is_empty()) {
            let wanted: HashSet<usize> = summary.unnamed.iter().map(|(index, _)| *index).collect();
            for (index, one) in spool.read().map_err(StoreError::Spool)?.enumerate() {
                let (event, _) = one.map_err(StoreError::Spool)?;
                wanted.contains(&index).then(|| names.insert(index, event.uid));
            }
        }
        summary
            .name(|index| names.remove(&index).or_else(|| Some(events.get(index)?.0.uid.clone())));
        let mut preambles = lock(&self.preambles);
        match summary.again {
            Some(preamble) => {
                preambles.insert(
                    address(feed, &self.config.timezone),
                    Remembered { preamble, is_new: true },
                );
            }
            None => {
                preambles
                    .entry(address(feed, &self.config.timezone))
                    .and_modify(|one| one.is_new = false);
            }
        }
        drop(preambles);
        let amendments = summary.amendments;
        let mut kept: Vec<Option<(Event, u128)>> = events.into_iter().map(Some).collect();
        let mut unsure: HashSet<u128> = summary.unread.into_iter().collect();
        for amendment in &amendments {
            match kept.get_mut(amendment.index).and_then(Option::take) {
                Some((event, print)) => {
                    unsure.insert(print);
                    kept[amendment.index] = amendment.apply(event).map(|event| (event, print));
                }
                // On disk: all slices of a first reading are given out.
                None => unsure.extend(unchanged.nth(amendment.index)),
            }
        }
        unchanged.forget(&unsure);
        Ok(Ok(Read {
            calendar: summary.calendar,
            events: kept.into_iter().flatten().collect(),
            spool,
            amendments,
            unchanged,
            present: summary.present_uids.into_iter().collect(),
        }))
    }

    /// Moves events from memory to disk.
    fn spool(
        &self,
        spool: &mut Option<Spool>,
        events: &mut Vec<(Event, u128)>,
    ) -> Result<(), StoreError> {
        let opened = match spool.take() {
            Some(spool) => Ok(spool),
            None => Spool::new(&self.config.state),
        };
        let mut opened = opened.map_err(StoreError::Spool)?;
        for (event, print) in events.drain(..) {
            opened.push(&event, print).map_err(StoreError::Spool)?;
        }
        *spool = Some(opened);
        Ok(())
    }

    /// The first and last instant an event is of interest; an override also on the day it replaces.
    fn bounds(&self, event: &Event, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let (starts, ends) = recur::bounds(event, &self.zones, zone);
        match &event.recurrence_id {
            Some(id) => {
                let id = id.instant(&self.zones, zone);
                (starts.min(id), ends.max(id))
            }
            None => (starts, ends),
        }
    }

    /// Those of the warnings that the last reading did not give. Behind events that were passed over
    /// a line is not known, so lines do not tell two warnings apart.
    fn not_warned(&self, feed: &Feed, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let before = lock(&self.warned).insert(feed.name.clone(), warnings.clone());
        let before = before.unwrap_or_default();
        let said: HashSet<_> = before.iter().map(|one| (&one.event, &one.message)).collect();
        warnings.retain(|one| !said.contains(&(&one.event, &one.message)));
        warnings
    }

    /// Tells the operator what was found about a feed as a whole.
    fn report(&self, feed: &Feed, notes: &[Note]) {
        let feed_name = feed.name.as_str();
        let before = lock(&self.reported).insert(feed.name.clone(), notes.to_vec());
        let before = before.unwrap_or_default();
        // What is so at every poll is said once.
        for note in notes.iter().filter(|note| !before.contains(note)) {
            match note {
                Note::CategoriesRenamed { from, to, events } => {
                    info!(feed = feed_name, events, "category {from:?} is now {to:?}");
                    let named = |name: &String| {
                        let watches = self.config.watches.iter();
                        let bears = watches.filter(|w| w.feeds.contains(&feed.name)).filter(|w| {
                            w.matcher.categories.iter().any(|c| c.eq_ignore_ascii_case(name))
                        });
                        bears.map(|w| w.name.clone()).collect::<Vec<_>>()
                    };
                    for name in from {
                        for watch in named(name) {
                            warn!(
                                feed = feed_name,
                                watch,
                                "the watched category {name:?} was renamed to {to:?}; the watch no longer matches: change it in the configuration"
                            );
                        }
                    }
                }
                Note::MassLoss { missing, listed } => warn!(
                    feed = feed_name,
                    "{missing} of {listed} upcoming events are gone at once: held back for {} hours",
                    diff::MASS_LOSS_CONFIRM.as_hours()
                ),
                Note::UidsChurn { events } => warn!(
                    feed = feed_name,
                    "{events} events have new UIDs but are otherwise the same: the publisher makes new UIDs on every fetch; events are told apart by content"
                ),
            }
        }
    }

    /// What the operator was told of a feed as a whole at its last poll.
    pub fn notes(&self, feed: &str) -> Vec<Note> {
        lock(&self.reported).get(feed).cloned().unwrap_or_default()
    }
}

/// Whether a whole calendar of another publisher and name answers, and nothing in it is as before.
fn is_named_otherwise(state: &FeedState, read: &Read) -> bool {
    let calendar = &read.calendar;
    calendar.health.complete
        && read.unchanged.met() == 0
        && calendar.prodid != state.prodid
        && calendar.name != state.title
}

/// Asks the pages of new events without a picture for theirs.
async fn illustrate(site: &Site<'_>, outcome: &mut diff::Outcome) {
    let bare =
        |change: &&mut Change| change.kind == ChangeKind::New && change.after.picture().is_none();
    let mut new: Vec<&mut Change> = outcome.changes.iter_mut().filter(bare).collect();
    let events: Vec<&Event> = new.iter().map(|change| &change.after).collect();
    let pictures = site.pictures(&events).await;
    let found = new.iter_mut().zip(pictures).filter(|(_, picture)| picture.is_some());
    for (change, picture) in found {
        if let Some(known) = outcome.write.iter_mut().find(|known| known.key == change.key) {
            known.seen.page_image.clone_from(&picture);
            if let Told::Listed(told) = &mut known.told {
                told.page_image.clone_from(&picture);
            }
        }
        change.after.page_image = picture;
    }
}

/// Puts what a body says of the whole feed into its state, and the rest into a reading.
fn take_over(
    read: Read,
    validators: Validators,
    next: &mut FeedState,
) -> (Reading, Option<Spooled>) {
    let Read { calendar, events, spool, amendments, unchanged, present } = read;
    // Half an answer proves nothing about the other half, and the head of the calendar may be there.
    let whole = calendar.health.complete;
    let keep = |before: Option<String>| before.filter(|_| !whole);
    next.prodid = calendar.prodid;
    next.title = calendar.name.or(keep(next.title.take()));
    next.timezone = calendar.timezone.or(keep(next.timezone.take()));
    next.refresh = calendar.refresh.or(next.refresh.filter(|_| !whole));
    // A body is asked for again until all of it could be read.
    let complete = whole && calendar.health.unreadable == 0;
    let all_read = complete && present.is_empty();
    next.etag = validators.etag.filter(|_| all_read);
    next.last_modified = validators.last_modified.filter(|_| all_read);
    let prodid = next.prodid.clone();
    let reading = Reading { prodid, complete, events, unchanged, present, ..Reading::default() };
    let amendments = amendments.into_iter().map(|one| (one.index, one)).collect();
    (reading, spool.map(|spool| Spooled { spool, amendments }))
}

/// Of the address only the host is shown: it may be private.
fn moved(url: &Url) -> Warning {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
    let message =
        format!("it has moved for good, to {scheme}://{host}: write the new address as `url`");
    Warning { line: 0, event: None, message }
}

/// Names a feed's address without giving it away, and the zone in which its floating times are read:
/// in another the same text means other instants, and is read anew.
fn address(feed: &Feed, audience: &TimeZone) -> String {
    let text = |url: &FeedUrl| match url {
        FeedUrl::Http(url) => url.as_str().to_owned(),
        FeedUrl::File(path) => path.display().to_string(),
    };
    let mut all: Vec<String> = std::iter::once(&feed.url).chain(&feed.also).map(text).collect();
    let zone = feed.timezone.as_ref().unwrap_or(audience);
    all.extend(zone.iana_name().map(str::to_owned));
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.join("\n").as_bytes()))
}

//! The flow, from a feed's address to a message delivered. Read [`Pipeline::poll`],
//! [`Pipeline::tick`] and [`Pipeline::deliver`]: together they are the program.
//!
//! Nothing here reads a clock or sleeps; `now` comes from the caller.

mod pages;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::calendar::diff::{self, Change, Glance, Known, Marks, Note, Reading};
use crate::calendar::fingerprints::Fingerprints;
use crate::calendar::parse::{self, ReadOptions};
use crate::calendar::publisher::Publisher;
use crate::calendar::{
    Calendar, Event, EventKey, Uid, Verdict, Warning, Window, Zones, identity, recur,
};
use crate::config::{self, Config, Feed, FeedUrl};
use crate::fetch::{
    self, Advice, Body, FetchError, FetchErrorKind, Fetched, Fetcher, PollState, Validators,
};
use crate::lookup::Site;
use crate::metrics::{self, Metrics};
use crate::mirror::Mirror;
use crate::notify::{DeliveryContext, NotifyError, Payload, Registry};
use crate::operator::{self, Incident};
use crate::plan::{self, Elsewhere, FeedView, Item, Kind, Planned, Upcoming, Watch, Wish};
use crate::retry;
use crate::store::people::{ReminderRequest, Subject, direct_endpoint, direct_person};
use crate::store::shown::Shown;
use crate::store::{
    Delivery, FeedState, NewDelivery, PollCommit, Settlement, Spool, Store, StoreError, delivery_id,
};

/// How far ahead reminders are kept in memory, in order of time.
const AGENDA_AHEAD: SignedDuration = SignedDuration::from_hours(36);
/// How long a delivery may be under way before it counts as stuck.
const LEASE: SignedDuration = SignedDuration::from_mins(30);
/// After this long the rest of a queue goes back, so that no lease runs out while it is sent.
const QUEUE: Duration = Duration::from_mins(5);
/// Deliveries claimed at once: of all endpoints, and of each.
const CLAIM: u32 = 1000;
const CLAIM_OF_EACH: u32 = 10;
/// Attempts closer to one another than this are told apart by the other side itself, where it can.
const IN_DOUBT: SignedDuration = SignedDuration::from_secs(90);
/// Events of a first reading kept in memory.
const SPOOL_FROM: usize = 256;
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
/// Warnings of expansions that are remembered, so that each is given once.
const MAX_SAID: usize = 1000;
/// Failures in a row after which others do not wait any longer: a feed that cannot be read does not
/// keep a digest from its other feeds, and an endpoint that does not answer does not hold up a round
/// by its timeout for each message.
const PATIENCE: u32 = 3;
/// How often an endpoint that takes no messages is tried.
pub(crate) const PARK: SignedDuration = SignedDuration::from_hours(1);

/// Everything that polling and delivering need.
#[derive(Debug)]
pub struct Pipeline {
    pub config: Config,
    pub zones: Zones,
    pub store: Store,
    pub fetcher: Fetcher,
    pub registry: Registry,
    pub metrics: Metrics,
    /// Whether the program is about to stop.
    stopping: watch::Sender<bool>,
    agenda: Mutex<Agenda>,
    /// Of addresses where the end of the feed bears on how its events are read.
    preambles: Mutex<HashMap<String, Remembered>>,
    /// What the operator was told of each feed at its last poll.
    reported: Mutex<HashMap<String, Vec<Note>>>,
    /// The warnings of each feed's last reading.
    warned: Mutex<HashMap<String, Vec<Warning>>>,
    /// Warnings given when events were expanded.
    expansion_warned: Mutex<HashSet<String>>,
    telling: tokio::sync::Mutex<()>,
    pub(crate) mirror: Mirror,
    /// A feed is polled by one at a time, whoever asks for it.
    polling: HashMap<String, tokio::sync::Mutex<()>>,
    /// When each feed should be read again, as its last poll found.
    next_polls: Mutex<HashMap<String, Timestamp>>,
}

/// Does one thing while others go on, and gives what of those has ended meanwhile. Whoever is waited
/// for with `await` alone stops those under way, which may stand before it in the line for the store:
/// both would wait for ever.
pub(crate) async fn beside<T, F: Future>(
    under_way: &mut FuturesUnordered<F>,
    one: impl Future<Output = T>,
) -> (T, Vec<F::Output>) {
    let mut one = std::pin::pin!(one);
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            done = &mut one => return (done, ended),
            Some(end) = under_way.next() => ended.push(end),
        }
    }
}

/// What the end of a feed said.
#[derive(Debug)]
struct Remembered {
    preamble: parse::Preamble,
    /// It was not known when the feed was read.
    is_new: bool,
}

/// The reminders of the next hours, made from the events and thrown away when these change.
#[derive(Debug, Default)]
struct Agenda {
    /// Up to when everything that fell due is in the outbox; none before the first tick, when the
    /// store knows.
    done: Option<Timestamp>,
    /// Up to when `queue` is complete; none when it must be made anew.
    until: Option<Timestamp>,
    /// Latest first, so that the next one is popped.
    queue: Vec<Planned>,
    /// How often the events have changed.
    edition: u64,
}

impl Agenda {
    /// The events have changed.
    fn forget(&mut self) {
        self.until = None;
        self.edition += 1;
    }

    /// Takes what was made of the events of that edition, latest first. Where they have changed
    /// meanwhile it is made again the next time.
    fn fill(&mut self, edition: u64, until: Timestamp, queue: Vec<Planned>) {
        self.until = (self.edition == edition).then_some(until);
        self.queue = queue;
    }
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
    /// Events in the feed; none when it was the same as before.
    pub events: Option<usize>,
    pub changes: Vec<Change>,
    pub warnings: Vec<Warning>,
    /// Events in the feed that could not be read; none when its text was not looked at.
    pub unreadable: Option<usize>,
    /// Messages put into the outbox.
    pub planned: usize,
}

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

/// Leased messages to one endpoint, in order, each with its payload. A delivery that has none of its
/// own was never tried with this one.
#[derive(Debug)]
pub struct Queue(Vec<(Delivery, String)>);

impl Pipeline {
    pub fn new(
        config: Config,
        zones: Zones,
        store: Store,
        fetcher: Fetcher,
        registry: Registry,
    ) -> Self {
        let names = config.feeds.keys().cloned();
        Pipeline {
            mirror: Mirror::new(&config, &registry),
            polling: names.map(|name| (name, tokio::sync::Mutex::default())).collect(),
            config,
            zones,
            store,
            fetcher,
            registry,
            metrics: Metrics::default(),
            stopping: watch::Sender::new(false),
            agenda: Mutex::default(),
            preambles: Mutex::default(),
            reported: Mutex::default(),
            warned: Mutex::default(),
            expansion_warned: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            next_polls: Mutex::default(),
        }
    }

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
        if polled.result.is_ok() && !self.metrics.knows_events(&feed.name) {
            let (events, _) = self.store.event_counts(&feed.name).await?;
            self.metrics.events(&feed.name, events);
        }
        lock(&self.next_polls).insert(feed.name.clone(), polled.next_poll_at);
        Ok(polled)
    }

    /// When a feed should be read again, as its last poll found; none before the first.
    pub fn next_poll(&self, feed: &str) -> Option<Timestamp> {
        lock(&self.next_polls).get(feed).copied()
    }

    async fn look(&self, feed: &Feed, now: Timestamp) -> Result<Polled, StoreError> {
        let mut state = self.store.feed(&feed.name).await?;
        let address = address(feed);
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
        if let Some((read, _)) = &fetched
            && !first
            && state.address != address
            && self.is_another_calendar(feed, &state, read, now).await?
        {
            warn!(
                feed = feed.name,
                "its new address leads to another calendar: what was known is forgotten, and nothing of what is there now is told"
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
        let (mut reading, whole, mut spooled) = match fetched {
            None => (self.nothing_new(feed, &state).await?, true, None),
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
        // A first reading that was cut is no baseline, or the rest of the feed would be news; but
        // what is cut in the same place every time is all there is.
        let baseline = whole || (reading.unchanged.is_same() && !reading.unchanged.is_empty());

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
        let outcome = self.compare(feed, reading, site.as_ref(), restart, &cx).await?;
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

    /// The reading of a feed that is the same as before.
    async fn nothing_new(&self, feed: &Feed, state: &FeedState) -> Result<Reading, StoreError> {
        let mut unchanged = Fingerprints::new(self.store.fingerprints(&feed.name).await?);
        unchanged.meet_all();
        let prodid = state.prodid.clone();
        Ok(Reading { prodid, unchanged, complete: true, ..Reading::default() })
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
            site.post(event).filter(|_| upcoming)
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
        let mut ask = |event: Event| {
            let (id, stem) = site.post(&event)?;
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
        let known = self.store.known(&feed.name, &involved).await?;
        let Some(site) = site else { return Ok(diff::diff(known, &rest, reading, cx)) };
        let outcome = diff::diff(known.clone(), &rest, reading.clone(), cx);
        let start = |event: &Event| event.start.instant(cx.zones, cx.zone);
        reading.answers = site.answers(&outcome.questions, start).await;
        Ok(match reading.answers.is_empty() {
            true => outcome,
            false => diff::diff(known, &rest, reading, cx),
        })
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

    /// Puts into the outbox what has fallen due: reminders, digests, and the welcome of watches and
    /// digests never met before. Gives how many messages that made.
    pub async fn tick(&self, now: Timestamp) -> Result<u64, StoreError> {
        let watches = self.watches().await?;
        let cx = self.plan_context(&watches, now);
        let done = self.done().await?;
        let after = self.fill_agenda(now).await?;

        let mut due = self.pop_due(now);
        let missed = due.len();
        due.retain(|planned| planned.not_after > now);
        let dropped = missed - due.len();
        if dropped > 0 {
            warn!(dropped, "reminders dropped: their events had begun");
        }
        newest_lead_only(&mut due, now);

        let mut sources = Vec::new();
        let met = self.store.sources().await?;
        for watch in &watches {
            let source = format!("watch {}", watch.name);
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
            let source = format!("digest {}", digest.name);
            let watches = self.config.watches.iter().filter(|w| digest.watches.contains(&w.name));
            let feeds: Vec<String> = watches.flat_map(|w| w.feeds.iter().cloned()).collect();
            let first = !met.contains(&source);
            if first && !self.all_read(&feeds).await? {
                continue;
            }
            let at = match first {
                true => digest.welcome.then_some(now),
                false => plan::digest_due(digest, &self.config.timezone, after, now),
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

        let mut inserted = 0;
        if !due.is_empty() || !sources.is_empty() || done.is_none_or(|done| done > now) {
            inserted = self.store.commit_due(&self.address(due), &sources, now).await?;
        }
        self.lock_agenda().done = Some(now);
        self.metrics.fell_due(inserted, dropped);
        Ok(inserted)
    }

    /// Begins again from what the database holds, after it has refused something. Nothing may be
    /// being sent.
    pub async fn resume(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.recover(now).await?;
        let mut agenda = self.lock_agenda();
        agenda.forget();
        agenda.done = None;
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
            for done in ended {
                total += done?;
            }
            let (queues, sorted_out) = claimed?;
            total += sorted_out;
            let idle = queues.is_empty() && sorted_out == Delivered::default();
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
        let put_off = match claimed.is_empty() {
            true => Vec::new(),
            false => self.store.put_off(now).await?,
        };
        for mut delivery in claimed {
            let mut parts = Vec::new();
            let first = put_off.iter().filter(|other| delivery.comes_after(other));
            let end = if delivery.not_after <= now {
                warn!(id = delivery.id, to = delivery.endpoint, "expired: too late to be of use");
                Err(Settlement::Expired)
            } else if !self.still_true(&delivery).await? {
                info!(id = delivery.id, to = delivery.endpoint, "superseded: no longer true");
                Err(Settlement::Superseded)
            } else if let Some(until) = first.map(|other| other.attempt_at).max() {
                Err(behind(&delivery, until))
            } else {
                let reply_to = self.announced_by(&delivery).await?;
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
            Settlement::Sent { .. } => Some(Incident::Unparked { endpoint, delivery: id }),
            Settlement::Dead { reason } => Some(Incident::Dead { endpoint, delivery: id, reason }),
            _ => None,
        };
        let notice = incident.and_then(|incident| self.notice(endpoint, incident, now));
        self.store.settle_and_remember(delivery, end, notice.as_ref(), shown, now).await
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
        let to = item.start.saturating_add(SignedDuration::from_secs(1)).unwrap_or(item.start);
        let now = self.upcoming(item.start, to).await?;
        Ok(now.iter().any(|one| {
            one.feed == item.feed
                && one.key == item.key
                && one.occurrence.start == item.start
                && one.occurrence.event.status.is_on()
        }))
    }

    /// From now on no attempt is begun; what is leased and not begun goes back.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends with [`Pipeline::stop`].
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error means that the pipeline is gone, which is as good.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
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
                    let begun = now.saturating_add(started.elapsed()).unwrap_or(now);
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
                    let (end, close) = self.conclude(&delivery, result, now).await?;
                    if let Settlement::PutOff { until, reason, .. } = &end
                        && !arrived
                    {
                        failures += 1;
                        if close || failures == PATIENCE {
                            // What was not claimed with them must not overtake these.
                            self.store.hold(&delivery.endpoint, *until).await?;
                            closed = Some((*until, reason.clone()));
                        }
                    } else {
                        failures = 0;
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

    /// What the operator is told, in a channel other than the one it is about. Whose direct messages
    /// are closed is that person's business.
    pub(crate) fn notice(
        &self,
        about: &str,
        incident: Incident<'_>,
        now: Timestamp,
    ) -> Option<NewDelivery> {
        let own = about == operator::ENDPOINT || direct_person(about).is_some();
        let told = !own && self.registry.get(operator::ENDPOINT).is_some();
        told.then(|| operator::notice(incident, &self.config.timezone, now))
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
            Ok(Some(remote_id)) => return Ok(Ok(remote_id)),
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
        let in_doubt = delivery.doubt_since.filter(|since| now.duration_since(*since) > IN_DOUBT);
        if let Some(since) = in_doubt.filter(|_| context.posted.is_none()) {
            match endpoint.notifier.find(&payload, &context, since).await {
                Ok(found) => {
                    for receipt in found {
                        // Another message may read the same.
                        if !self.store.is_receipt(&delivery.endpoint, &receipt.remote_id).await? {
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
        Ok(result)
    }

    /// What an attempt's result means for the delivery, and whether its endpoint asks to be left
    /// alone.
    async fn conclude(
        &self,
        delivery: &Delivery,
        result: Result<String, NotifyError>,
        now: Timestamp,
    ) -> Result<(Settlement, bool), StoreError> {
        let (id, to) = (&delivery.id, &delivery.endpoint);
        let error = match result {
            Ok(remote_id) => {
                let lag_ms = now.duration_since(delivery.due_at).as_millis();
                info!(id, to, remote_id, lag_ms, "sent");
                return Ok((Settlement::Sent { remote_id }, false));
            }
            Err(error) => error,
        };
        let reason = error.to_string();
        let doubtful = matches!(error, NotifyError::Uncertain { .. });
        // What cannot have arrived may say next time that it is late.
        let anew = delivery.payload.is_none() && !doubtful;
        let after = match error {
            NotifyError::Permanent { .. } => {
                error!(id, to, reason, "dead");
                return Ok((Settlement::Dead { reason }, false));
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
                return Ok((end, true));
            }
            NotifyError::Unfinished { remote_id, after, .. } => {
                if delivery.attempts >= retry::MAX_ATTEMPTS {
                    warn!(id, to, remote_id, reason, "sent, and given up what belongs to it");
                    return Ok((Settlement::Sent { remote_id }, false));
                }
                self.store.note_posted(delivery, &remote_id).await?;
                let until = retry::next_attempt(now, delivery.attempts, after, id);
                warn!(id, to, remote_id, reason, %until, "sent, but not finished");
                // What comes next is not held up by it.
                return Ok((
                    Settlement::PutOff { until, reason, anew: false, doubtful: false },
                    false,
                ));
            }
            NotifyError::Retry { after, .. } | NotifyError::Uncertain { after, .. } => after,
        };
        if delivery.attempts >= retry::MAX_ATTEMPTS {
            error!(id, to, reason, attempts = delivery.attempts, "dead: given up");
            return Ok((Settlement::Dead { reason }, false));
        }
        let until = retry::next_attempt(now, delivery.attempts, after, id);
        warn!(id, to, reason, until = %format_args!("{until:.3}"), "put off");
        Ok((Settlement::PutOff { until, reason, anew, doubtful }, after.is_some()))
    }

    /// When [`Pipeline::tick`] or [`Pipeline::deliver`] has something to do next.
    pub async fn next_due(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.fill_agenda(now).await?;
        let digests = self.config.digests.iter();
        let digests = digests.map(|digest| digest.every.next(now, &self.config.timezone));
        let agenda = {
            let agenda = self.lock_agenda();
            agenda.queue.last().map(|planned| planned.due_at).or(agenda.until)
        };
        let attempt = self.store.next_attempt().await?;
        Ok(digests.chain(agenda).chain(attempt).min().unwrap_or(Timestamp::MAX))
    }

    /// The occurrences of all feeds in `[from, to)`, in order.
    pub async fn upcoming(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Upcoming>, StoreError> {
        let mut feeds: BTreeMap<String, Vec<(EventKey, Event)>> = BTreeMap::new();
        for (feed, key, event) in self.store.events_between(from, to).await? {
            feeds.entry(feed).or_default().push((key, event));
        }
        let mut upcoming = Vec::new();
        for (name, events) in feeds {
            let Some(feed) = self.config.feeds.get(&name) else { continue };
            let state = self.store.feed(&name).await?;
            let zone = self.feed_zone(feed, &state);
            upcoming.extend(occurrences(
                &name,
                state.title.as_deref(),
                &events,
                Window { from, to },
                &self.zones,
                &zone,
                &mut |warning| self.warn_once(feed, warning),
            ));
        }
        Ok(plan::merge(upcoming))
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
        let known = match anew {
            true => Vec::new(),
            false => self.store.fingerprints(&feed.name).await?,
        };
        let mut unchanged = Fingerprints::new(known);
        if feed.also.is_empty() && feed.pages == 1 {
            let before = anew.then(Fingerprints::default);
            return self.fetch_part(feed, validators, unchanged, before, first).await;
        }
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
                let before = unchanged.clone();
                let first = before.len();
                match self.fetch_part(&part, &none, unchanged, Some(before.clone()), false).await? {
                    Ok((Some((mut read, _)), advice)) => {
                        unchanged = std::mem::take(&mut read.unchanged);
                        let here = (first..unchanged.len()).filter_map(|n| unchanged.nth(n));
                        let known = here.filter_map(|print| starts.get(&print).copied());
                        let fresh = read.events.iter().map(|(event, _)| {
                            event.start.instant(&self.zones, &self.config.timezone)
                        });
                        let starts = known.chain(fresh.map(Timestamp::as_millisecond));
                        let publisher = Publisher::of(&read.calendar.prodid);
                        next = walk.next(publisher, unchanged.len() - first, starts.max());
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

    /// `before` is `unchanged` once more, where it cannot be had from the store.
    async fn fetch_part(
        &self,
        feed: &Feed,
        validators: &Validators,
        mut unchanged: Fingerprints,
        before: Option<Fingerprints>,
        first: bool,
    ) -> Result<Result<(Option<(Read, Validators)>, Advice), FetchError>, StoreError> {
        let mut validators = validators.clone();
        // What stands at the end of a feed can bear on how all of it is read; then it is read twice.
        let mut second = false;
        loop {
            let (body, charset, new, advice) = match self.fetcher.fetch(feed, &validators).await {
                Ok(Fetched::NotModified { advice }) => return Ok(Ok((None, advice))),
                Ok(Fetched::Body { body, charset, validators, advice, .. }) => {
                    (body, charset, validators, advice)
                }
                Err(error) => return Ok(Err(error)),
            };
            let read = match self.read(feed, *body, charset.as_deref(), unchanged, first).await? {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            let again = lock(&self.preambles).get(&address(feed)).is_some_and(|one| one.is_new);
            if second || !again {
                return Ok(Ok((Some((read, new)), advice)));
            }
            validators = Validators::default();
            second = true;
            unchanged = match &before {
                Some(before) => before.clone(),
                None => Fingerprints::new(self.store.fingerprints(&feed.name).await?),
            };
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
        let preamble = lock(&self.preambles).get(&address(feed)).map(|one| one.preamble.clone());
        let mut events: Vec<(Event, u128)> = Vec::new();
        let mut spool: Option<Spool> = None;
        let mut reader = parse::Reader::new(&options, preamble, |print| unchanged.meet(print));
        loop {
            let piece = match body.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            self.metrics.read(&feed.name, piece.len());
            reader.push(&piece, &mut |event, print| events.push((event, print)));
            if first && events.len() > SPOOL_FROM {
                self.spool(&mut spool, &mut events)?;
            }
        }
        let summary = reader.finish(&mut |event, print| events.push((event, print)));
        if spool.is_some() {
            self.spool(&mut spool, &mut events)?;
        }
        let mut preambles = lock(&self.preambles);
        match summary.again {
            Some(preamble) => {
                preambles.insert(address(feed), Remembered { preamble, is_new: true });
            }
            None => {
                preambles.entry(address(feed)).and_modify(|one| one.is_new = false);
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

    /// The zone of floating times: as configured, else as the feed says, else the audience's.
    pub(crate) fn feed_zone(&self, feed: &Feed, state: &FeedState) -> TimeZone {
        let own = || state.timezone.as_deref().and_then(|name| self.zones.get(name));
        feed.timezone.clone().or_else(own).unwrap_or_else(|| self.config.timezone.clone())
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

    /// The watches that are not told to be silent. What a silent one would have told is not told
    /// later either: by then it is known, or due in the past.
    pub async fn watches(&self) -> Result<Vec<Watch>, StoreError> {
        let paused = self.store.paused().await?;
        let watches = self.config.watches.iter();
        Ok(watches.filter(|watch| !paused.contains_key(&watch.name)).cloned().collect())
    }

    /// What people asked to be reminded of.
    async fn wishes(&self) -> Result<Vec<Wish>, StoreError> {
        let requests = self.store.reminder_requests(None).await?;
        let wish = |request: ReminderRequest| {
            let Subject { feed, key, uid, occurrence } = request.subject;
            let lead = config::lead(&request.lead).ok()?;
            Some(Wish { to: direct_endpoint(request.person), feed, key, uid, occurrence, lead })
        };
        Ok(requests.into_iter().filter_map(wish).collect())
    }

    /// What is asked for or silenced has changed: what is due next is found out anew.
    pub fn reconsider(&self) {
        self.lock_agenda().forget();
    }

    /// What the operator was told of a feed as a whole at its last poll.
    pub fn notes(&self, feed: &str) -> Vec<Note> {
        lock(&self.reported).get(feed).cloned().unwrap_or_default()
    }

    /// The zone of a feed's floating times; none for a feed that is not configured.
    pub async fn zone_of(&self, feed: &str) -> Result<Option<TimeZone>, StoreError> {
        let Some(feed) = self.config.feeds.get(feed) else { return Ok(None) };
        Ok(Some(self.feed_zone(feed, &self.store.feed(&feed.name).await?)))
    }

    /// For planning on behalf of these watches.
    pub fn plan_context<'a>(&'a self, watches: &'a [Watch], now: Timestamp) -> plan::Context<'a> {
        plan::Context {
            watches,
            digests: &self.config.digests,
            zones: &self.zones,
            timezone: &self.config.timezone,
            now,
        }
    }

    /// One outbox row for each address of each receiver.
    fn address(&self, planned: Vec<Planned>) -> Vec<NewDelivery> {
        let mut rows = Vec::new();
        for planned in planned {
            for endpoint in self.registry.endpoints(&planned.to) {
                rows.push(NewDelivery {
                    id: delivery_id(&endpoint, &planned.dedup),
                    endpoint,
                    notification: planned.notification.clone(),
                    due_at: planned.due_at,
                    not_after: planned.not_after,
                });
            }
        }
        rows
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
    async fn fill_agenda(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let done = self.done().await?.unwrap_or(now);
        let after = done.min(now);
        let edition = {
            let agenda = self.lock_agenda();
            // What was taken out of it under a clock that has been set back falls due once more.
            if done <= now && agenda.until.is_some_and(|until| until > now) {
                return Ok(after);
            }
            agenda.edition
        };
        let until = now.saturating_add(AGENDA_AHEAD).unwrap_or(now);
        let (watches, wishes) = (self.watches().await?, self.wishes().await?);
        let reach = plan::reminder_reach(&watches, &wishes, until);
        let upcoming = self.upcoming(after, reach).await?;
        let cx = self.plan_context(&watches, now);
        let mut queue = plan::reminders(&cx, &upcoming, after, until);
        queue.extend(plan::personal_reminders(&cx, &upcoming, &wishes, after, until));
        queue.sort_by_key(|planned| planned.due_at);
        queue.reverse();
        debug!(reminders = queue.len(), until = %format_args!("{until:.3}"), "agenda made");
        self.lock_agenda().fill(edition, until, queue);
        Ok(after)
    }

    fn pop_due(&self, now: Timestamp) -> Vec<Planned> {
        let mut agenda = self.lock_agenda();
        let first = agenda.queue.partition_point(|planned| planned.due_at > now);
        let mut due = agenda.queue.split_off(first);
        due.reverse();
        due
    }

    /// How often the events have changed since the start.
    pub(crate) fn edition(&self) -> u64 {
        self.lock_agenda().edition
    }

    fn lock_agenda(&self) -> MutexGuard<'_, Agenda> {
        lock(&self.agenda)
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

    /// Warns of what an expansion found, unless that was said before: rules are expanded at every
    /// round.
    fn warn_once(&self, feed: &Feed, warning: &Warning) {
        let mut said = lock(&self.expansion_warned);
        if said.len() >= MAX_SAID {
            said.clear();
        }
        if said.insert(format!("{} {warning}", feed.name)) {
            warn!(feed = feed.name, "{warning}");
        }
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

/// What a panic left behind is thrown away with the task, not with the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names a feed's address without giving it away.
fn address(feed: &Feed) -> String {
    let text = |url: &FeedUrl| match url {
        FeedUrl::Http(url) => url.as_str().to_owned(),
        FeedUrl::File(path) => path.display().to_string(),
    };
    let all: Vec<String> = std::iter::once(&feed.url).chain(&feed.also).map(text).collect();
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.join("\n").as_bytes()))
}

/// It waits for an earlier message: a change of the same event, or the part before it.
fn behind(delivery: &Delivery, until: Timestamp) -> Settlement {
    let reason = "waits for an earlier message".to_owned();
    Settlement::PutOff { until, reason, anew: delivery.payload.is_none(), doubtful: false }
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
        planned_at: delivery.planned_at,
        due_at: delivery.due_at,
        now,
        address: address.to_owned(),
        thread: None,
        first_part: None,
        posted: None,
        reply_to: None,
    }
}

/// After a pause, of several reminders missed for one event only the last is of use.
fn newest_lead_only(due: &mut Vec<Planned>, now: Timestamp) {
    let late =
        |planned: &Planned| now.duration_since(planned.due_at) > SignedDuration::from_mins(1);
    let mut newest: HashMap<(String, String), Timestamp> = HashMap::new();
    let event = |planned: &Planned| {
        let item = planned.notification.items.first()?;
        Some((planned.to.clone(), format!("{}|{}|{}", item.feed, item.key, item.start)))
    };
    for planned in due.iter() {
        if let Some(event) = event(planned) {
            let at = newest.entry(event).or_insert(planned.due_at);
            *at = planned.due_at.max(*at);
        }
    }
    due.retain(|planned| {
        !late(planned) || event(planned).is_none_or(|event| newest[&event] == planned.due_at)
    });
}

/// The occurrences of one feed's events in a window, each with the key of the event it belongs to.
pub fn occurrences(
    feed: &str,
    title: Option<&str>,
    events: &[(EventKey, Event)],
    window: Window,
    zones: &Zones,
    zone: &TimeZone,
    warn: &mut impl FnMut(&Warning),
) -> Vec<Upcoming> {
    let id = |event: &Event| event.recurrence_id.as_ref().map(|id| id.local());
    let keys: HashMap<_, _> =
        events.iter().map(|(key, event)| ((event.uid.clone(), id(event)), key)).collect();
    let all: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
    let expansion = recur::expand(&all, window, zones, zone);
    expansion.warnings.iter().for_each(warn);
    let keyed = expansion.occurrences.into_iter().filter_map(|occurrence| {
        let event = &occurrence.event;
        let key = keys
            .get(&(event.uid.clone(), id(event)))
            .or_else(|| keys.get(&(event.uid.clone(), None)))?;
        Some(Upcoming {
            feed: feed.to_owned(),
            feed_title: title.map(str::to_owned),
            key: (*key).clone(),
            occurrence,
            same: String::new(),
        })
    });
    keyed.collect()
}

/// The events of a calendar, with the keys they would have at first sight.
pub fn keyed(calendar: &Calendar) -> Vec<(EventKey, Event)> {
    let key = |event: &Event| identity::key(event, false);
    calendar.events.iter().map(|event| (key(event), event.clone())).collect()
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

//! The flow, from a feed's address to a message delivered. Read [`Pipeline::poll`],
//! [`Pipeline::tick`] and [`Pipeline::deliver`]: together they are the program. Each has a file of its
//! own, with what only it needs: `poll`, `agenda` and `delivery`.
//!
//! Nothing here reads a clock or sleeps; `now` comes from the caller.

mod agenda;
mod delivery;
mod pages;
mod poll;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::warn;

use crate::calendar::diff::Note;
use crate::calendar::{Calendar, Event, EventKey, Warning, Window, Zones, identity, recur};
use crate::config::{self, Config, Feed};
use crate::fetch::Fetcher;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::notify::Registry;
use crate::operator::{self, Incident};
use crate::plan::{self, Planned, Upcoming, Watch, Wish};
use crate::store::people::{ReminderRequest, Subject, direct_endpoint, direct_person};
use crate::store::{FeedState, NewDelivery, Store, StoreError, Written, delivery_id};

use agenda::Agenda;
pub use delivery::{Delivered, Queue};
use poll::Remembered;
pub use poll::{News, Polled};

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

    /// The zone of floating times: as configured, else as the feed says, else the audience's.
    pub(crate) fn feed_zone(&self, feed: &Feed, state: &FeedState) -> TimeZone {
        let own = || state.timezone.as_deref().and_then(|name| self.zones.get(name));
        feed.timezone.clone().or_else(own).unwrap_or_else(|| self.config.timezone.clone())
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
            let notification = Written::from(&planned.notification);
            for endpoint in self.registry.endpoints(&planned.to) {
                rows.push(NewDelivery {
                    id: delivery_id(&endpoint, &planned.dedup),
                    endpoint,
                    notification: notification.clone(),
                    due_at: planned.due_at,
                    not_after: planned.not_after,
                });
            }
        }
        rows
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
}

/// What a panic left behind is thrown away with the task, not with the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

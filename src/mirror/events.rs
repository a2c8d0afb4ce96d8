//! Native scheduled events of a guild, as the watches have them.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tracing::{debug, info};

use super::{NEVER, Stop, cover, hash, rests};
use crate::calendar::diff::Told;
use crate::calendar::{Event, EventKey};
use crate::config::ScheduledEvents;
use crate::message;
use crate::notify::NotifyError;
use crate::notify::discord::guild::{self, Guild, Listed};
use crate::pipeline::{PARK, Pipeline};
use crate::plan::{Upcoming, Watch};
use crate::store::StoreError;
use crate::store::shown::{Purpose, Refusal, Shown, State};

/// Events that a guild may have scheduled or going on.
/// <https://docs.discord.com/developers/resources/guild-scheduled-event#create-guild-scheduled-event>
const MAX_OPEN: usize = 100;
/// How far ahead events are looked for: first near, then as far as it takes.
const REACHES: [i64; 2] = [60, 400];
/// Discord ends an event by itself; after this long it is made sure of.
const GRACE: SignedDuration = SignedDuration::from_mins(10);
/// An event this close to its start is not made any more: by then it would be in the past.
const TOO_LATE: SignedDuration = SignedDuration::from_secs(30);
/// Changes made in one pass, and the pause before the next.
const AT_ONCE: usize = 10;
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// So long after its end it is no longer tried to end an event.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(24);
/// In the place of the hash of what an event should say: it should be off, or gone.
const GONE: u64 = 0;

/// An event as it should be in the guild.
#[derive(Clone, Debug)]
struct Wanted {
    /// The same for the same occurrence, whenever it takes place.
    name: String,
    feed: String,
    key: EventKey,
    start: Timestamp,
    end: Timestamp,
    body: Value,
    /// Whether it has its picture for a cover, and the picture's address.
    covers: bool,
    picture: Option<String>,
    repost: bool,
}

/// What is to be done about one event.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Make it: nothing of the kind is there.
    Make {
        index: usize,
        /// When it was tried last.
        refused: Option<Refusal>,
    },
    Edit {
        shown: Shown,
        index: usize,
    },
    /// It does not take place.
    Cancel {
        shown: Shown,
    },
    /// It has begun and is over, or its start can no longer be changed.
    Finish {
        shown: Shown,
    },
    /// Nobody asks for it any more, or sooner ones need its place.
    Remove {
        shown: Shown,
    },
    /// It is remembered for nothing.
    LetGo {
        shown: Shown,
    },
}

impl Pipeline {
    /// Brings the scheduled events of a guild into line; gives when to look again.
    pub(super) async fn compare_guild(
        &self,
        target: &str,
        took: &AtomicBool,
        now: Timestamp,
    ) -> Result<Timestamp, Stop> {
        let id = target.rsplit('/').next().and_then(|id| id.parse().ok());
        let (Some(id), Some(bot)) = (id, self.registry.bot()) else { return Ok(NEVER) };
        let guild = Guild::new(bot.clone(), id);
        let mirrored: Vec<_> =
            self.config.scheduled_events.iter().filter(|one| one.guild == id).collect();
        // Of a feed that is yet to be read, after a backup was restored, nothing is known to be off.
        let watches = self.config.watches.iter();
        let watches = watches.filter(|w| mirrored.iter().any(|one| one.watches.contains(&w.name)));
        for feed in watches.flat_map(|watch| &watch.feeds) {
            let state = self.store.feed(feed).await?;
            if state.baseline_at.is_none() && state.empty_since.is_none() {
                return Ok(now.saturating_add(PAUSE).unwrap_or(now));
            }
        }
        let shown = self.store.shown(target, Purpose::ScheduledEvent).await?;
        let all = self.wanted(&mirrored, now).await?;
        let off = self.off(&shown, &all, now).await?;
        let wished: usize = mirrored.iter().map(|one| usize::from(one.at_most)).sum();
        let mut steps = plan(&shown, &all, &off, wished.min(MAX_OPEN), now);
        let mut found = Vec::new();
        if steps.iter().any(|step| matches!(step, Step::Make { .. })) {
            // Others have events there too, and some of ours may be from before a crash.
            found = guild.list().await?;
            let ours: HashSet<&str> =
                shown.iter().filter_map(|shown| shown.remote_id.as_deref()).collect();
            let open = |listed: &&Listed| matches!(listed.status, guild::SCHEDULED | guild::ACTIVE);
            let foreign = found
                .iter()
                .filter(open)
                .filter(|listed| !ours.contains(listed.id.as_str()))
                .filter(|listed| !shown.iter().any(|shown| is_it(listed, shown)))
                .filter(|listed| !all.iter().any(|wanted| wanted.is_it(listed)))
                .count();
            let room = MAX_OPEN.saturating_sub(foreign);
            steps = plan(&shown, &all, &off, wished.min(room), now);
        }
        let more = steps.len() > AT_ONCE;
        for step in steps.into_iter().take(AT_ONCE) {
            let taken = self.take(&guild, target, step, &all, &found, now).await?;
            took.fetch_or(taken, Ordering::Relaxed);
        }
        if more {
            return Ok(now.saturating_add(PAUSE).unwrap_or(now));
        }
        // The next that is over, or that begins and makes room.
        let shown = self.store.shown(target, Purpose::ScheduledEvent).await?;
        let over = shown.iter().map(|shown| shown.ends.saturating_add(GRACE).unwrap_or(NEVER));
        let refused = shown.iter().filter_map(|shown| shown.refused.as_ref());
        let again = refused.map(|refused| refused.at.saturating_add(PARK).unwrap_or(NEVER));
        Ok(over.chain(again.filter(|again| *again > now)).min().unwrap_or(NEVER))
    }

    /// Takes one step; gives whether Discord did something for it.
    async fn take(
        &self,
        guild: &Guild,
        target: &str,
        step: Step,
        all: &[Wanted],
        found: &[Listed],
        now: Timestamp,
    ) -> Result<bool, Stop> {
        let mut taken = false;
        let step = match step {
            Step::Make { index, refused } => {
                match self.adopt(target, &all[index], found, now).await? {
                    Some(shown) => Step::Edit { shown, index },
                    None => Step::Make { index, refused },
                }
            }
            step => step,
        };
        match step {
            Step::Make { index, refused } => {
                let wanted = &all[index];
                let mut shown = Shown { refused, ..wanted.intended(target, now) };
                self.store.remember(&shown).await?;
                let body = self.dressed(wanted, wanted.body.clone()).await;
                match guild.create(&body).await {
                    Ok(id) => {
                        info!(
                            to = target,
                            name = shown.name,
                            remote_id = id,
                            "scheduled event made"
                        );
                        taken = true;
                        let state = State::Shown;
                        shown = Shown { state, remote_id: Some(id), refused: None, ..shown };
                    }
                    Err(NotifyError::Permanent { reason }) => {
                        self.note_refusal(shown, wanted.hash(), reason, now).await?;
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
                self.store.remember(&shown).await?;
            }
            Step::Edit { shown, index } => {
                let (wanted, Some(id)) = (&all[index], &shown.remote_id) else { return Ok(false) };
                let body = self.dressed(wanted, wanted.change(&shown, now)).await;
                let edited = match guild.edit(id, &body).await {
                    Err(NotifyError::Permanent { reason }) => {
                        self.note_refusal(shown, wanted.hash(), reason, now).await?;
                        return Ok(false);
                    }
                    edited => edited?,
                };
                taken = edited;
                let next = wanted.intended(target, now);
                let state = if edited { State::Shown } else { State::Removed };
                debug!(to = target, name = shown.name, edited, "scheduled event changed");
                if !edited && wanted.repost {
                    self.store.let_go(&shown).await?;
                } else {
                    self.store
                        .remember(&Shown { state, remote_id: shown.remote_id, ..next })
                        .await?;
                }
            }
            Step::Cancel { shown } => {
                let done = match &shown.remote_id {
                    Some(id) => guild.set_status(id, guild::CANCELED).await,
                    None => Ok(false),
                };
                taken = self.ended(shown, done, now).await?;
            }
            Step::Finish { shown } => {
                let done = match &shown.remote_id {
                    Some(id) => finish(guild, id).await,
                    None => Ok(false),
                };
                taken = self.ended(shown, done, now).await?;
            }
            Step::Remove { shown } => {
                let done = match &shown.remote_id {
                    Some(id) => guild.delete(id).await,
                    None => Ok(false),
                };
                taken = self.ended(shown, done, now).await?;
            }
            Step::LetGo { shown } => self.store.let_go(&shown).await?,
        }
        Ok(taken)
    }

    /// Lets go of an event that is off, over or gone by now; gives whether Discord did it.
    async fn ended(
        &self,
        shown: Shown,
        done: Result<bool, NotifyError>,
        now: Timestamp,
    ) -> Result<bool, Stop> {
        if let Err(NotifyError::Permanent { reason }) = done {
            self.note_refusal(shown, GONE, reason, now).await?;
            return Ok(false);
        }
        let done = done?;
        self.store.let_go(&shown).await?;
        Ok(done)
    }

    /// An event of the guild that is the wanted one, and not known: made before a crash, or after the
    /// backup that was restored. What it says is taken for unknown.
    async fn adopt(
        &self,
        target: &str,
        wanted: &Wanted,
        found: &[Listed],
        now: Timestamp,
    ) -> Result<Option<Shown>, StoreError> {
        let before = self.store.shown(target, Purpose::ScheduledEvent).await?;
        let known = |id: &str| before.iter().any(|b| b.remote_id.as_deref() == Some(id));
        let interrupted = before.iter().find(|before| before.name == wanted.name);
        let mut unknown = found.iter().filter(|listed| !known(&listed.id));
        let alike = unknown.clone().find(|listed| wanted.is_it(listed));
        let there = alike.or_else(|| {
            unknown.find(|listed| interrupted.is_some_and(|before| is_it(listed, before)))
        });
        let Some(listed) = there else { return Ok(None) };
        info!(to = target, name = wanted.name, remote_id = listed.id, "found again");
        let shown = Shown {
            state: State::Shown,
            remote_id: Some(listed.id.clone()),
            hash: 0,
            ..wanted.intended(target, now)
        };
        self.store.remember(&shown).await?;
        Ok(Some(shown))
    }

    /// A body with the picture that is wished for. It goes with every change, since what is there is
    /// not known; one that cannot be had leaves that.
    async fn dressed(&self, wanted: &Wanted, mut body: Value) -> Value {
        if let (Some(address), Some(feed)) = (&wanted.picture, self.config.feeds.get(&wanted.feed))
            && let Some(picture) = cover::data_uri(&self.fetcher, feed, address).await
        {
            body["image"] = picture.into();
        }
        body
    }

    /// Every occurrence that should be there, the soonest first; at least as many as there may be.
    async fn wanted(
        &self,
        mirrored: &[&ScheduledEvents],
        now: Timestamp,
    ) -> Result<Vec<Wanted>, StoreError> {
        let mut all = Vec::new();
        for days in REACHES {
            let to = now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(NEVER);
            let upcoming = self.upcoming(now, to).await?;
            all = self.choose(mirrored, &upcoming, now);
            if all.len() > MAX_OPEN {
                break;
            }
        }
        Ok(all)
    }

    /// The names of those shown whose events do not take place. What is only no longer wanted is
    /// not among them, nor what has left the feed since it began.
    async fn off(
        &self,
        shown: &[Shown],
        all: &[Wanted],
        now: Timestamp,
    ) -> Result<HashSet<String>, StoreError> {
        let wanted: HashSet<&str> = all.iter().map(|wanted| wanted.name.as_str()).collect();
        let mut off = HashSet::new();
        for one in shown.iter().filter(|one| one.ends > now && !wanted.contains(&*one.name)) {
            let known = self.store.known(&one.feed, &[one.key.hash64()]).await?;
            let known = known.into_iter().find(|known| known.key == one.key);
            // Until it is read anew it is not known whether it takes place.
            if self.store.is_unreadable(&one.feed, &one.key) {
                continue;
            }
            let watched = |event: &Event| {
                let watches = self.config.watches.iter();
                let mut following = watches.filter(|watch| watch.feeds.contains(&one.feed));
                following.any(|watch| watch.matcher.matches(event))
            };
            let is_off = known.is_none_or(|known| {
                let date = !known.seen.recurrence.is_empty() && watched(&known.seen);
                matches!(known.told, Told::Withdrawn(_)) || !known.seen.status.is_on() || date
            });
            if is_off {
                off.insert(one.name.clone());
            }
        }
        Ok(off)
    }

    fn choose(
        &self,
        mirrored: &[&ScheduledEvents],
        upcoming: &[Upcoming],
        now: Timestamp,
    ) -> Vec<Wanted> {
        let watches: Vec<(&Watch, &ScheduledEvents)> = mirrored
            .iter()
            .flat_map(|one| {
                let named = |watch: &&Watch| one.watches.contains(&watch.name);
                self.config.watches.iter().filter(named).map(|watch| (watch, *one))
            })
            .collect();
        let mut listed = HashSet::new();
        let mut names = HashSet::new();
        let mut all = Vec::new();
        for one in upcoming {
            let (event, start) = (&one.occurrence.event, one.occurrence.start);
            let watch = watches.iter().find(|(watch, _)| one.is_of(watch));
            let Some((_, wish)) = watch.filter(|_| event.status.is_on()) else { continue };
            let id = event.recurrence_id.as_ref().map(|id| id.local().to_string());
            let name = format!("{}|{}|{}", one.feed, one.key, id.unwrap_or_default());
            let body = message::shown::scheduled_event(event, start, one.occurrence.end);
            let end = body["scheduled_end_time"].as_str().and_then(|end| end.parse().ok());
            let end: Timestamp = end.unwrap_or(one.occurrence.end);
            if end <= now || !listed.insert((&one.same, start)) || !names.insert(name.clone()) {
                continue;
            }
            let (feed, key, repost) = (one.feed.clone(), one.key.clone(), wish.repost);
            let picture = event.picture().filter(|_| wish.covers).map(str::to_owned);
            let covers = wish.covers;
            all.push(Wanted { name, feed, key, start, end, body, covers, picture, repost });
        }
        all
    }
}

impl Wanted {
    fn hash(&self) -> u64 {
        match &self.picture {
            Some(picture) => hash(&json!([self.body, picture])),
            None => hash(&self.body),
        }
    }

    /// Whether an event of the guild is this one.
    fn is_it(&self, listed: &Listed) -> bool {
        let name = self.body["name"].as_str().unwrap_or_default();
        listed.own
            && matches!(listed.status, guild::SCHEDULED | guild::ACTIVE)
            && listed.name.trim() == name.trim()
            && listed.start.parse().is_ok_and(|start: Timestamp| start == self.start)
    }

    fn intended(&self, target: &str, now: Timestamp) -> Shown {
        Shown {
            target: target.to_owned(),
            purpose: Purpose::ScheduledEvent,
            name: self.name.clone(),
            feed: self.feed.clone(),
            key: self.key.clone(),
            state: State::Intended,
            remote_id: None,
            hash: self.hash(),
            revision: 0,
            first: None,
            starts: self.start,
            ends: self.end,
            pinned: false,
            since: now,
            refused: None,
        }
    }

    /// What is to be said of one that is there. The start of one that has begun cannot be changed,
    /// and one that was to begin later and goes on already is not given a start that has passed.
    fn change(&self, shown: &Shown, now: Timestamp) -> Value {
        let mut body = self.body.clone();
        if let Some(body) = body.as_object_mut() {
            for fixed in ["entity_type", "privacy_level"] {
                body.remove(fixed);
            }
            if shown.starts.min(self.start) <= now {
                body.remove("scheduled_start_time");
            }
            if self.start <= now && now < shown.starts {
                body.insert("status".to_owned(), guild::ACTIVE.into());
            }
            body.entry("description").or_insert(Value::Null);
            if self.covers && self.picture.is_none() {
                body.insert("image".to_owned(), Value::Null);
            }
        }
        body
    }
}

/// Whether an event of the guild may be the one that was about to be made when beadle stopped.
fn is_it(listed: &Listed, shown: &Shown) -> bool {
    let start: Option<Timestamp> = listed.start.parse().ok();
    listed.own && shown.state == State::Intended && start == Some(shown.starts)
}

/// The steps from what is shown to what should be, those that make room first. Pure.
fn plan(
    shown: &[Shown],
    all: &[Wanted],
    off: &HashSet<String>,
    limit: usize,
    now: Timestamp,
) -> Vec<Step> {
    let soonest = now.saturating_add(TOO_LATE).unwrap_or(now);
    let by_name: BTreeMap<&str, usize> =
        all.iter().enumerate().map(|(index, wanted)| (wanted.name.as_str(), index)).collect();
    let mut steps = Vec::new();
    let mut makes = Vec::new();
    let mut there: HashSet<&str> = HashSet::new();
    let rest = |one: &Shown, said: u64| rests(one, said, now).is_some();
    // The soonest are shown; one that someone removed, or that is refused, gives its place to another.
    let removed = |wanted: &Wanted| {
        let mut of_it = shown.iter().filter(|one| one.name == wanted.name);
        of_it.any(|one| match one.state {
            State::Removed => one.hash == wanted.hash(),
            State::Intended => rest(one, wanted.hash()),
            State::Shown => false,
        })
    };
    let is_there = |name: &str| shown.iter().any(|s| s.name == name && s.state == State::Shown);
    let soon: HashSet<&str> = all
        .iter()
        .filter(|wanted| wanted.start > soonest || is_there(&wanted.name))
        .filter(|wanted| !removed(wanted))
        .take(limit)
        .map(|wanted| wanted.name.as_str())
        .collect();
    for one in shown {
        let (one, begun) = (one.clone(), one.starts <= now);
        let over = one.ends <= now;
        let wanted = by_name.get(one.name.as_str()).map(|index| (*index, &all[*index]));
        match (one.state, wanted) {
            (State::Removed, Some((_, wanted))) if one.hash == wanted.hash() => {
                there.insert(&wanted.name);
            }
            (State::Removed, None) if !over => {}
            (State::Removed, _) => steps.push(Step::LetGo { shown: one }),
            // Made anew, or found: see below.
            (State::Intended, Some(_)) => {}
            (State::Intended, None) => steps.push(Step::LetGo { shown: one }),
            (State::Shown, None) if rest(&one, GONE) => {}
            (State::Shown, None) if over => {
                if one.refused.is_some()
                    && one.ends.saturating_add(GIVEN_UP).is_ok_and(|at| at <= now)
                {
                    steps.push(Step::LetGo { shown: one });
                } else if one.ends.saturating_add(GRACE).is_ok_and(|at| at <= now) {
                    steps.push(Step::Finish { shown: one });
                }
            }
            (State::Shown, None) => match (off.contains(&one.name), begun) {
                (true, true) => steps.push(Step::Finish { shown: one }),
                (true, false) => steps.push(Step::Cancel { shown: one }),
                (false, false) => steps.push(Step::Remove { shown: one }),
                (false, true) => {}
            },
            (State::Shown, Some((index, wanted))) => {
                if begun && wanted.start > now && wanted.start != one.starts {
                    steps.push(Step::Finish { shown: one });
                } else if !begun && !soon.contains(wanted.name.as_str()) {
                    there.insert(&wanted.name);
                    if !rest(&one, GONE) {
                        steps.push(Step::Remove { shown: one });
                    }
                } else {
                    there.insert(&wanted.name);
                    let differs = one.hash != wanted.hash() || one.refused.is_some();
                    if differs && !rest(&one, wanted.hash()) {
                        steps.push(Step::Edit { shown: one, index });
                    }
                }
            }
        }
    }
    for (index, wanted) in all.iter().enumerate() {
        let name = wanted.name.as_str();
        if soon.contains(name) && !there.contains(name) && wanted.start > soonest {
            let before = shown.iter().find(|one| one.name == wanted.name);
            makes.push(Step::Make { index, refused: before.and_then(|one| one.refused.clone()) });
        }
    }
    steps.extend(makes);
    steps
}

/// Ends an event that Discord has not ended itself.
async fn finish(guild: &Guild, id: &str) -> Result<bool, NotifyError> {
    let mut status = guild.status(id).await?;
    // From scheduled there is no way but through active.
    if status == Some(guild::SCHEDULED) && guild.set_status(id, guild::ACTIVE).await? {
        status = Some(guild::ACTIVE);
    }
    match status {
        Some(guild::ACTIVE) => guild.set_status(id, guild::COMPLETED).await,
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    /// An event of an hour.
    fn wanted(name: &str, start: i64) -> Wanted {
        Wanted {
            name: name.to_owned(),
            feed: "site".to_owned(),
            key: EventKey(name.to_owned()),
            start: at(start),
            end: at(start + 60),
            body: serde_json::json!({ "name": name, "scheduled_start_time": at(start).to_string() }),
            covers: false,
            picture: None,
            repost: false,
        }
    }

    fn shown(name: &str, start: i64, state: State) -> Shown {
        let remote_id = (state == State::Shown).then(|| format!("id of {name}"));
        Shown { state, remote_id, ..wanted(name, start).intended("guild/5", at(-1000)) }
    }

    /// The steps in words.
    fn steps(shown: &[Shown], all: &[Wanted], off: &[&str], limit: usize) -> Vec<String> {
        let off = off.iter().map(|name| (*name).to_owned()).collect();
        let word = |step: &Step| match step {
            Step::Make { index, .. } => format!("make {}", all[*index].name),
            Step::Edit { shown, .. } => format!("edit {}", shown.name),
            Step::Cancel { shown } => format!("cancel {}", shown.name),
            Step::Finish { shown } => format!("finish {}", shown.name),
            Step::Remove { shown } => format!("remove {}", shown.name),
            Step::LetGo { shown } => format!("let go {}", shown.name),
        };
        plan(shown, all, &off, limit, at(0)).iter().map(word).collect()
    }

    #[test]
    fn each_difference_is_one_step() {
        use State::{Intended, Removed, Shown as There};
        let none: [&str; 0] = [];
        assert_eq!(steps(&[shown("a", 10, There)], &[wanted("a", 10)], &[], 9), none, "as it is");
        assert_eq!(steps(&[], &[wanted("a", 10)], &[], 9), ["make a"]);
        assert_eq!(steps(&[], &[wanted("a", 0)], &[], 9), none, "it begins");
        assert_eq!(steps(&[shown("a", 10, Intended)], &[wanted("a", 10)], &[], 9), ["make a"]);
        assert_eq!(steps(&[shown("a", 10, Intended)], &[], &[], 9), ["let go a"]);
        assert_eq!(steps(&[shown("a", 10, There)], &[wanted("a", 20)], &[], 9), ["edit a"]);
        assert_eq!(steps(&[shown("a", 10, There)], &[], &["a"], 9), ["cancel a"]);
        assert_eq!(steps(&[shown("a", 10, There)], &[], &[], 9), ["remove a"], "not watched");

        // Begun.
        assert_eq!(steps(&[shown("a", -10, There)], &[wanted("a", -10)], &[], 9), none);
        assert_eq!(steps(&[shown("a", -10, There)], &[], &[], 9), none, "it left the feed");
        assert_eq!(steps(&[shown("a", -10, There)], &[], &["a"], 9), ["finish a"]);
        let moved = steps(&[shown("a", -10, There)], &[wanted("a", 90)], &[], 9);
        assert_eq!(moved, ["finish a", "make a"], "what has begun cannot begin later");
        assert_eq!(steps(&[shown("a", -65, There)], &[], &[], 9), none, "Discord ends it");
        assert_eq!(steps(&[shown("a", -70, There)], &[], &[], 9), ["finish a"]);

        // Removed by hand.
        assert_eq!(steps(&[shown("a", 10, Removed)], &[wanted("a", 10)], &[], 9), none);
        let changed = steps(&[shown("a", 10, Removed)], &[wanted("a", 20)], &[], 9);
        assert_eq!(changed, ["let go a", "make a"]);
        assert_eq!(steps(&[shown("a", -70, Removed)], &[], &[], 9), ["let go a"]);
    }

    #[test]
    fn what_was_refused_rests_for_an_hour_or_until_it_is_another() {
        let none: [&str; 0] = [];
        let refused = |one: Shown, said: u64, minute: i64| {
            let reason = "50035".to_owned();
            Shown { refused: Some(Refusal { hash: said, reason, at: at(minute) }), ..one }
        };
        let (old, new) = (shown("a", 10, State::Shown), [wanted("a", 20)]);
        let said = new[0].hash();
        for (one, word) in [(old.clone(), "edit a"), (shown("a", 10, State::Intended), "make a")] {
            let recently = [refused(one.clone(), said, -59)];
            assert_eq!(steps(&recently, &new, &[], 9), none, "{word}");
            assert_eq!(steps(&recently, &[wanted("a", 30)], &[], 9), [word], "another change");
            for minute in [-60, 1] {
                let before = [refused(one.clone(), said, minute)];
                assert_eq!(steps(&before, &new, &[], 9), [word], "{minute}");
            }
        }
        let recently = [refused(old.clone(), said, -59)];
        assert_eq!(steps(&recently, &[], &["a"], 9), ["cancel a"], "it is off by now");
        assert_eq!(steps(&[refused(old.clone(), GONE, -59)], &[], &["a"], 9), none);
        assert_eq!(
            steps(&[refused(old.clone(), GONE, -59)], &[wanted("a", 10)], &[], 9),
            ["edit a"]
        );
        let over = |minute| [refused(shown("a", minute, State::Shown), GONE, -90)];
        assert_eq!(steps(&over(-100), &[], &[], 9), ["finish a"]);
        assert_eq!(steps(&over(-1500), &[], &[], 9), ["let go a"]);
    }

    #[test]
    fn the_soonest_are_there() {
        let all = [wanted("a", 10), wanted("b", 20), wanted("c", 30)];
        let there = |name, start| shown(name, start, State::Shown);
        assert_eq!(steps(&[], &all, &[], 2), ["make a", "make b"]);
        assert_eq!(steps(&[there("b", 20), there("c", 30)], &all, &[], 2), ["remove c", "make a"]);
        let gone = [shown("a", 10, State::Removed), there("b", 20)];
        assert_eq!(steps(&gone, &all, &[], 2), ["make c"], "its place is free");
        let begun = [there("z", -10), there("a", 10)];
        let all = [wanted("z", -10), wanted("a", 10), wanted("b", 20)];
        assert_eq!(steps(&begun, &all, &[], 2), [""; 0], "what goes on counts");
    }
}

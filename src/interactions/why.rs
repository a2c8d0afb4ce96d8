//! `/why`: why an event was announced or was not, from everything that is known of it. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::answer::{Message, explanation, literal};
use crate::calendar::diff::{Known, MASS_LOSS_CONFIRM, Note, Presence, Told};
use crate::config::{Config, Feed, Receiver, Via};
use crate::message::dates::Dates;
use crate::message::discord::fit;
use crate::plan::{self, Announce, Kind, Reason, Upcoming, Watch};
use crate::store::people::{Pause, direct_endpoint};
use crate::store::{Delivery, DeliveryState, FeedState};

const MAX_NAME: usize = 80;

/// What is known of an event.
#[derive(Debug)]
pub struct Dossier<'a> {
    pub one: &'a Upcoming,
    pub feed: &'a Feed,
    pub state: &'a FeedState,
    /// None where it has been forgotten.
    pub known: Option<&'a Known>,
    /// What was found about the feed as a whole.
    pub notes: &'a [Note],
    /// Messages about it, the newest first.
    pub deliveries: &'a [Delivery],
    pub paused: &'a BTreeMap<String, Pause>,
    /// Other feeds that have the same event.
    pub twins: &'a [String],
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub id: u64,
    pub guild: Option<u64>,
    /// Sees what went wrong, not only that it did.
    pub manages: bool,
}

/// Explains it.
pub fn why(
    config: &Config,
    cx: &plan::Context<'_>,
    dossier: &Dossier<'_>,
    asker: Asker,
    dates: &Dates,
) -> Message {
    let case = Case { config, cx, dossier, asker };
    let parts =
        [("Messages", case.messages()), ("Watches", case.watches()), ("Calendar", case.calendar())];
    explanation(dossier.one, dates, &case.verdict(), &parts)
}

struct Case<'a> {
    config: &'a Config,
    cx: &'a plan::Context<'a>,
    dossier: &'a Dossier<'a>,
    asker: Asker,
}

/// What an event is to a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    /// Its categories are not among those wanted.
    Unwanted,
    /// It bears a category that is left out.
    Excluded(String),
}

/// Whether a watch covers an event, and if not, why.
pub(super) fn matches(watch: &Watch, event: &crate::calendar::Event) -> Match {
    if watch.matcher.matches(event) {
        return Match::Yes;
    }
    let bears = |name: &&String| {
        let same = |c: &String| c.to_lowercase() == name.to_lowercase();
        event.categories.iter().chain(&event.categories_raw).any(same)
    };
    match watch.matcher.exclude.iter().find(bears) {
        Some(name) => Match::Excluded(name.clone()),
        None => Match::Unwanted,
    }
}

/// An instant, as long ago or ahead.
fn ago(at: Timestamp) -> String {
    format!("<t:{}:R>", at.as_second())
}

fn plus(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(at)
}

/// A duration as people say it: `5 min`, `24 h`.
fn span(duration: SignedDuration) -> String {
    match duration.as_mins() {
        0 => format!("{} s", duration.as_secs()),
        minutes if minutes % 60 == 0 => format!("{} h", minutes / 60),
        minutes => format!("{minutes} min"),
    }
}

impl Case<'_> {
    /// The one thing that matters most.
    fn verdict(&self) -> String {
        let Dossier { one, feed, state, known, .. } = self.dossier;
        let changes =
            || self.seen_deliveries().filter(|one| one.notification.kind == Kind::Changes);
        let sent = changes().filter(|one| one.state == DeliveryState::Sent).last();
        let waiting = changes()
            .find(|one| matches!(one.state, DeliveryState::Pending | DeliveryState::Leased));
        let pending = known.and_then(|known| Some((known, known.since?)));
        let lasts = |since| {
            let at = plus(since, feed.settle);
            let settle = span(feed.settle);
            if at > self.cx.now {
                format!("it is told once it has lasted {settle}, {}", ago(at))
            } else {
                format!("it has lasted {settle} and is told after the next reading")
            }
        };
        if let Some((Known { told: Told::Nothing, .. }, since)) = pending {
            return format!("**Not yet.** It was first seen {}; {}.", ago(since), lasts(since));
        }
        if let Some((Known { presence: Presence::Missing, .. }, since)) = pending {
            let held = self.mass_loss();
            let confirm = match held {
                Some(_) => feed.confirm.max(MASS_LOSS_CONFIRM),
                None => feed.confirm,
            };
            let why = match held {
                Some((missing, listed)) => {
                    format!("{missing} of {listed} upcoming events went at once, so it")
                }
                None => "It".to_owned(),
            };
            return format!(
                "**It is gone from the calendar**, first noticed {}. {why} must stay away for {} \
                 before that is believed and told: {}.",
                ago(since),
                span(confirm),
                ago(plus(since, confirm)),
            );
        }
        if let Some((_, since)) = pending {
            return format!(
                "**A change is waiting**, first seen {}; {}.",
                ago(since),
                lasts(since)
            );
        }
        if matches!(known, Some(Known { told: Told::Withdrawn(_), .. })) {
            return "**It is no longer in the calendar**, and that was told to whom it concerned."
                .to_owned();
        }
        if let Some(waiting) = waiting {
            return format!("**It is on its way**: {}.", self.fate(waiting));
        }
        if let Some(sent) = sent {
            let at = sent.settled_at.unwrap_or(sent.due_at);
            return format!("**It was announced** {}.", ago(at));
        }
        let following = || self.config.watches.iter().filter(|w| w.feeds.contains(&feed.name));
        let covering = || following().filter(|w| w.matcher.matches(&one.occurrence.event));
        if covering().next().is_none() {
            return "**No watch covers it**, so it is told nowhere.".to_owned();
        }
        if covering().all(|watch| self.dossier.paused.contains_key(&watch.name)) {
            return "**The watches that cover it are paused.**".to_owned();
        }
        if covering().all(|watch| !watch.announce.contains(&Announce::New)) {
            return "**The watches that cover it do not announce new events.**".to_owned();
        }
        let began = state.baseline_at.filter(|at| {
            let first = known.map_or(0, |known| known.revision);
            first == 0 || first == u64::try_from(at.as_second()).unwrap_or(0)
        });
        if let Some(at) = began {
            return format!(
                "**It was there from the beginning.** What is in a calendar when it is first read \
                 ({}) is not announced; what changes since then is.",
                ago(at)
            );
        }
        if !one.occurrence.event.status.is_on() {
            return "**It was off already when it was first seen**, so there was nothing to tell."
                .to_owned();
        }
        "**There was nothing to announce so far.** It may have been known under another time or \
         calendar, or was over when it appeared."
            .to_owned()
    }

    fn mass_loss(&self) -> Option<(usize, usize)> {
        self.dossier.notes.iter().find_map(|note| match note {
            Note::MassLoss { missing, listed } => Some((*missing, *listed)),
            _ => None,
        })
    }

    /// Messages that the asker may know of: to receivers, and to the asker.
    fn seen_deliveries(&self) -> impl Iterator<Item = &Delivery> {
        let own = direct_endpoint(self.asker.id);
        let of_receiver = |one: &Delivery| self.receiver(&one.endpoint).is_some();
        self.dossier
            .deliveries
            .iter()
            .filter(move |one| one.endpoint == own || of_receiver(one))
            .filter(|one| self.concerns(one))
    }

    /// A reminder of another occurrence is no business of this one.
    fn concerns(&self, delivery: &Delivery) -> bool {
        let one = self.dossier.one;
        let of_this = |item: &plan::Item| item.feed == one.feed && item.key == one.key;
        let start = one.occurrence.start;
        let items = || delivery.notification.items.iter().filter(|item| of_this(item));
        match delivery.notification.kind {
            Kind::Changes => items().next().is_some(),
            _ => items().any(|item| item.start == start),
        }
    }

    fn messages(&self) -> Vec<String> {
        // Mails to many addresses are one line.
        let mut lines: Vec<(String, usize)> = Vec::new();
        for delivery in self.seen_deliveries() {
            let line = format!(
                "• {} {}: {}",
                self.what(delivery),
                self.place(&delivery.endpoint),
                self.fate(delivery)
            );
            match lines.iter_mut().find(|(other, _)| *other == line) {
                Some((_, count)) => *count += 1,
                None => lines.push((line, 1)),
            }
        }
        let line = |(line, count): (String, usize)| match count {
            1 => line,
            count => format!("{line} ({count} addresses)"),
        };
        match lines.is_empty() {
            true => vec!["None so far.".to_owned()],
            false => lines.into_iter().map(line).collect(),
        }
    }

    fn what(&self, delivery: &Delivery) -> String {
        let one = self.dossier.one;
        let source = literal(&delivery.notification.source, MAX_NAME);
        match &delivery.notification.kind {
            Kind::Changes => {
                let items = delivery.notification.items.iter();
                let mut of_this = items.filter(|i| i.feed == one.feed && i.key == one.key);
                let reason = of_this.next().map_or("news", |item| item.reason.as_str());
                format!("**{reason}**")
            }
            Kind::Reminder { lead } => format!("**reminder** {}", literal(lead, MAX_NAME)),
            Kind::Digest { .. } => format!("**digest** {source}"),
            Kind::Welcome => format!("**first list** of {source}"),
            Kind::Notice { .. } => "**notice**".to_owned(),
        }
    }

    /// Where a delivery stands, with its message where there is one.
    fn fate(&self, delivery: &Delivery) -> String {
        let at = delivery.settled_at.unwrap_or(delivery.attempt_at);
        let reason = || match (&delivery.last_error, self.asker.manages) {
            (Some(reason), true) => format!(" ({})", fit(reason, 160)),
            _ => String::new(),
        };
        match delivery.state {
            DeliveryState::Sent => match self.link(delivery) {
                Some(link) => format!("sent {}, {link}", ago(at)),
                None => format!("sent {}", ago(at)),
            },
            DeliveryState::Pending if delivery.attempts == 0 => format!("due {}", ago(at)),
            DeliveryState::Pending => {
                let times = delivery.attempts;
                format!("tried {times}×, again {}{}", ago(at), reason())
            }
            DeliveryState::Leased => "being sent now".to_owned(),
            DeliveryState::Dead => format!("refused {}{}", ago(at), reason()),
            DeliveryState::Superseded => format!("dropped {}: no longer true", ago(at)),
            DeliveryState::Expired => format!("dropped {}: too late to be of use", ago(at)),
        }
    }

    /// Only of the server where it is asked: elsewhere it could not be opened.
    fn link(&self, delivery: &Delivery) -> Option<String> {
        let guild = self.asker.guild.filter(|guild| self.config.discord.guild == Some(*guild))?;
        let (remote, receiver) =
            (delivery.remote_id.as_deref()?, self.receiver(&delivery.endpoint)?);
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let (channel, message) = remote.split_once('/').filter(|_| receiver.0.discord.is_some())?;
        let url = format!("https://discord.com/channels/{guild}/{channel}/{message}");
        (is_id(channel) && is_id(message)).then(|| format!("[see it]({url})"))
    }

    /// The receiver of an endpoint, and which of its media it is.
    fn receiver<'b>(&self, endpoint: &'b str) -> Option<(&Receiver, &'b str)> {
        let receivers = self.config.receivers.values();
        let found = receivers.filter_map(|receiver| {
            let medium = endpoint.strip_prefix(&receiver.name)?.strip_prefix('/')?;
            Some((receiver, medium))
        });
        // The longest name: one may be the beginning of another.
        found.max_by_key(|(receiver, _)| receiver.name.len())
    }

    /// An endpoint, without an address.
    fn place(&self, endpoint: &str) -> String {
        match self.receiver(endpoint) {
            None => "to you".to_owned(),
            Some((receiver, medium)) if medium.starts_with("discord") => match via(receiver) {
                Some(Via::Channel { id }) => format!("in <#{id}>"),
                _ => format!("by webhook to {}", literal(&receiver.name, MAX_NAME)),
            },
            Some((receiver, medium)) if medium.starts_with("email") => {
                format!("by mail to {}", literal(&receiver.name, MAX_NAME))
            }
            Some((receiver, _)) => format!("to {}", literal(&receiver.name, MAX_NAME)),
        }
    }

    fn watches(&self) -> Vec<String> {
        let feed = &self.dossier.feed.name;
        let following = self.config.watches.iter().filter(|watch| watch.feeds.contains(feed));
        following.map(|watch| self.watch(watch)).collect()
    }

    fn watch(&self, watch: &Watch) -> String {
        let Dossier { one, paused, .. } = self.dossier;
        let event = &one.occurrence.event;
        let name = literal(&watch.name, MAX_NAME);
        let names = |all: &[String]| match all.is_empty() {
            true => "no category".to_owned(),
            false => literal(&all.join(", "), 120),
        };
        match matches(watch, event) {
            Match::Excluded(category) => {
                let category = literal(&category, MAX_NAME);
                return format!("✗ **{name}** leaves out {category}");
            }
            Match::Unwanted => {
                let (wants, has) = (names(&watch.matcher.categories), names(&event.categories));
                return format!("✗ **{name}** wants {wants}; the event has {has}");
            }
            Match::Yes => {}
        }
        if let Some(pause) = paused.get(&watch.name) {
            return format!("⏸ **{name}** covers it, but is paused since {}", ago(pause.since));
        }
        let mut line = format!("✓ **{name}** covers it");
        let to: Vec<String> = watch.to.iter().map(|to| audience(self.config, to)).collect();
        if !to.is_empty() {
            line.push_str(&format!(" → {}", to.join(", ")));
        }
        if !watch.announce.contains(&Announce::New) {
            line.push_str("; it does not announce new events");
        }
        let leads = match event.is_all_day() {
            true => &watch.remind_all_day,
            false => &watch.remind,
        };
        let due = leads.iter().filter_map(|lead| self.cx.falls_due(&one.occurrence, lead));
        let mut due: Vec<Timestamp> =
            due.map(|(due_at, _)| due_at).filter(|at| *at > self.cx.now).collect();
        due.sort();
        if event.status.is_on() && !due.is_empty() {
            let due: Vec<String> = due.into_iter().take(4).map(ago).collect();
            line.push_str(&format!("; reminds {}", due.join(", ")));
        }
        line
    }

    fn calendar(&self) -> Vec<String> {
        let Dossier { feed, state, known, twins, .. } = self.dossier;
        let title = literal(state.title.as_deref().unwrap_or(&feed.name), MAX_NAME);
        let mut lines = vec![match (state.failing_since, &state.last_error) {
            (Some(since), Some(error)) if self.asker.manages => {
                format!("{title}: **cannot be read** since {}: {}", ago(since), fit(error, 200))
            }
            (Some(since), _) => format!("{title}: **cannot be read** since {}", ago(since)),
            (None, _) => match state.next_poll_at {
                Some(next) if next > self.cx.now => {
                    format!("{title}: read regularly, next {}", ago(next))
                }
                _ => format!("{title}: read regularly"),
            },
        }];
        lines.push(match known.map(|known| known.presence) {
            None => "beadle no longer remembers the event".to_owned(),
            Some(Presence::Listed) => "The event is in it".to_owned(),
            Some(Presence::Missing) => "The event is missing from it".to_owned(),
            Some(Presence::Unlisted) => {
                "The event has left the list for a harmless reason: it has begun, or the calendar \
                 lists only so many"
                    .to_owned()
            }
        });
        let event = &self.dossier.one.occurrence.event;
        if !event.status.is_on() {
            lines.push(format!("It is {}", event.status.as_str()));
        }
        for twin in *twins {
            let twin = literal(twin, MAX_NAME);
            lines.push(format!("The same event is in {twin} too; it is told once"));
        }
        lines
    }
}

fn via(receiver: &Receiver) -> Option<&Via> {
    receiver.discord.as_ref().map(|target| &target.via)
}

/// A receiver as people know it: its channel, or its name.
pub(super) fn audience(config: &Config, name: &str) -> String {
    let receiver = config.receivers.get(name);
    match receiver.and_then(via) {
        Some(Via::Channel { id }) => format!("<#{id}>"),
        _ => literal(name, MAX_NAME),
    }
}

/// What a change is called in a list.
pub(super) fn change_word(kind: crate::calendar::diff::ChangeKind) -> &'static str {
    use crate::calendar::diff::ChangeKind;
    match kind {
        ChangeKind::New => Reason::New.as_str(),
        ChangeKind::Updated => "updated",
        ChangeKind::Rescheduled => "rescheduled",
        ChangeKind::Cancelled => Reason::Cancelled.as_str(),
        ChangeKind::Postponed => Reason::Postponed.as_str(),
        ChangeKind::Missing => Reason::Withdrawn.as_str(),
        ChangeKind::Reinstated => Reason::Reinstated.as_str(),
    }
}

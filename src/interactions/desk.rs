//! Looks up what an answer needs, does what was asked, and has [`answer`](super::answer) word it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::{error, info};

use super::answer::{
    self, Answer, LEADS, LEADS_ALL_DAY, MAX_CHOICES, Message, Noted, Promise, RefreshResult,
    Refreshed, WatchLine, notice,
};
use super::press::{Handle, Press, Query, hash32};
use super::request::{Act, Command, Interaction, Person};
use super::why::{self, Asker, Dossier};
use crate::calendar::diff::{Change, Known};
use crate::calendar::{Event, Occurrence, Window, recur, text};
use crate::config::{self, Config, Feed};
use crate::message::dates::Dates;
use crate::message::words;
use crate::pipeline::Pipeline;
use crate::plan::{Lead, Upcoming, Watch};
use crate::store::StoreError;
use crate::store::people::{ReminderRequest, Subject};

/// Reminders that one person may ask for.
const MAX_REQUESTS: usize = 50;
/// How far ahead a search looks, as long as it has not found enough.
const SEARCH_DAYS: [i64; 3] = [14, 90, 366];
/// How far back `/why` looks.
const PAST: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often a calendar is read because somebody wants it.
const REFRESH_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Of a title that is kept with a request.
const MAX_TITLE: usize = 160;

const NOT_FOUND: &str = "I know no such event. Type a few letters of its title and choose one.";
const NOT_ALLOWED: &str = "Only members with the permission **Manage Server** can do that.";
const ELSEWHERE: &str = "I answer in one server only, and this is another.";
const FAILED: &str = "Something went wrong on my side. The operator’s log says what.";
const TOO_OLD: &str = "I no longer understand that button. The commands still work: `/upcoming`.";

/// Answers interactions.
#[derive(Debug)]
pub struct Desk<'a> {
    pipeline: &'a Pipeline,
    /// Told when there is something to be delivered.
    news: &'a Notify,
    /// Of what these cover anybody may ask.
    public: Vec<&'a Watch>,
    dates: Dates,
    refreshed: Mutex<HashMap<String, Timestamp>>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl<'a> Desk<'a> {
    pub fn new(pipeline: &'a Pipeline, news: &'a Notify) -> Desk<'a> {
        let dates = Dates::new(zone_name(&pipeline.config));
        Desk {
            pipeline,
            news,
            public: public(&pipeline.config),
            dates,
            refreshed: Mutex::default(),
        }
    }

    /// Does what was asked.
    pub async fn answer(&self, interaction: &Interaction, now: Timestamp) -> Answer {
        let person = interaction.person;
        let own = self.config().discord.guild;
        let elsewhere = own.is_some() && person.guild.is_some() && person.guild != own;
        let answered = match &interaction.act {
            Act::Ping => return Answer::Pong,
            Act::Typing { .. } if elsewhere => return Answer::Offer(Vec::new()),
            _ if elsewhere => return Answer::Say(notice(ELSEWHERE)),
            Act::Command(command) => self.command(person, command, now).await.map(Answer::Say),
            Act::Typing { command, option, text } => {
                self.typing(person, command, option, text, now).await
            }
            Act::Press { custom_id, values } => self.press(person, custom_id, values, now).await,
        };
        let warned = match answered {
            Ok(answer) => self.warned(person, answer).await,
            Err(error) => Err(error),
        };
        warned.unwrap_or_else(|error| {
            error!("an interaction could not be answered: {error}");
            match interaction.act {
                Act::Typing { .. } => Answer::Offer(Vec::new()),
                _ => Answer::Say(notice(FAILED)),
            }
        })
    }

    /// Adds that a reminder could not be delivered, if so.
    async fn warned(&self, person: Person, mut answer: Answer) -> Result<Answer> {
        if matches!(answer, Answer::Say(_) | Answer::Replace(_))
            && let Some(since) = self.pipeline.store.unreachable_since(person.id).await?
        {
            answer.warn(&format!(
                "I could not send you a direct message <t:{}:R>. Allow messages from members of \
                 this server (its name › Privacy Settings), else your reminders cannot reach you.",
                since.as_second()
            ));
        }
        Ok(answer)
    }

    async fn command(&self, person: Person, command: &Command, now: Timestamp) -> Result<Message> {
        let option = |name| command.option(name);
        match command.name.as_str() {
            "upcoming" => {
                let days = option("days").and_then(|days| days.parse().ok()).unwrap_or(7);
                let search = option("search").unwrap_or_default();
                self.upcoming(&Query::new(days, option("category"), search), now).await
            }
            "next" => self.next(now).await,
            "event" => match self.named(option("event"), now).await? {
                Some(one) => Ok(self.card(&one, now)),
                None => Ok(notice(NOT_FOUND)),
            },
            "why" => match self.named(option("event"), now).await? {
                Some(one) => self.why(person, &one, now).await,
                None => Ok(notice(NOT_FOUND)),
            },
            "remind" => {
                let Some(one) = self.named(option("event"), now).await? else {
                    return Ok(notice(NOT_FOUND));
                };
                let series = option("every_time") == Some("true");
                match option("lead") {
                    Some(lead) => self.remind(person, &one, series, Wanted::Also(lead), now).await,
                    None => self.remind(person, &one, series, Wanted::Usual, now).await,
                }
            }
            "subscriptions" => self.subscriptions(person, now).await,
            "unsubscribe" => self.unsubscribe(person, option("reminder"), now).await,
            "watch" | "refresh" if !person.manages(self.config().discord.guild) => {
                Ok(notice(NOT_ALLOWED))
            }
            "watch" => match command.subcommand.as_deref() {
                Some("pause") => self.pause(person, option("watch"), true, now).await,
                Some("resume") => self.pause(person, option("watch"), false, now).await,
                _ => self.watches().await,
            },
            "refresh" => self.refresh(now).await,
            _ => Ok(notice("I do not know that command (any more).")),
        }
    }

    async fn press(
        &self,
        person: Person,
        custom_id: &str,
        values: &[String],
        now: Timestamp,
    ) -> Result<Answer> {
        let Ok(press) = custom_id.parse::<Press>() else {
            return Ok(Answer::Say(notice(TOO_OLD)));
        };
        let replaces = press.replaces();
        let chosen = || values.first().and_then(|value| value.parse::<Handle>().ok());
        let message = match press {
            Press::Page(query) => self.upcoming(&query, now).await?,
            Press::Show(handle) => match self.find(handle.or_else(chosen), now).await? {
                Some(one) => self.card(&one, now),
                None => notice(NOT_FOUND),
            },
            Press::Why(handle) => match self.find(Some(handle), now).await? {
                Some(one) => self.why(person, &one, now).await?,
                None => notice(NOT_FOUND),
            },
            Press::Remind(handle) => match self.find(Some(handle), now).await? {
                Some(one) => self.remind(person, &one, false, Wanted::Usual, now).await?,
                None => notice(NOT_FOUND),
            },
            Press::Leads { handle, series } => match self.find(Some(handle), now).await? {
                Some(one) => self.remind(person, &one, series, Wanted::Only(values), now).await?,
                None => notice(NOT_FOUND),
            },
            Press::Stop(id) => {
                let ids = id.map_or_else(|| values.to_vec(), |id| vec![id]);
                self.stop(person, &ids).await?
            }
        };
        Ok(if replaces { Answer::Replace(message) } else { Answer::Say(message) })
    }

    async fn typing(
        &self,
        person: Person,
        command: &Command,
        option: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<Answer> {
        Ok(match (command.name.as_str(), option) {
            (name, "event") => {
                let mut found = self.search(text, now, MAX_CHOICES).await?;
                if name == "why" && found.len() < MAX_CHOICES {
                    let from = now.saturating_sub(PAST).unwrap_or(now);
                    let mut past = self.listed(from, now).await?;
                    past.retain(|one| one.occurrence.start < now);
                    found.extend(past.into_iter().rev());
                    let mut seen = BTreeSet::new();
                    found.retain(|one| seen.insert(answer::handle(one).to_string()));
                }
                answer::offer_events(text, &found, &self.dates)
            }
            ("remind", "lead") => offer_leads(text),
            (_, "category") => {
                let [_, days, _] = SEARCH_DAYS;
                let upcoming = self.listed(now, ahead(now, days)).await?;
                let all = upcoming.iter().flat_map(|one| &one.occurrence.event.categories);
                let names: BTreeSet<&str> = all.map(String::as_str).collect();
                answer::offer_words(text, names.into_iter())
            }
            (_, "reminder") => {
                let requests = self.requests(person, now).await?;
                let requests: Vec<_> = requests.into_iter().map(|(request, _)| request).collect();
                answer::offer_requests(text, &requests)
            }
            (_, "watch") if person.manages(self.config().discord.guild) => {
                let names = self.config().watches.iter().map(|watch| watch.name.as_str());
                answer::offer_words(text, names)
            }
            _ => Answer::Offer(Vec::new()),
        })
    }

    fn config(&self) -> &'a Config {
        &self.pipeline.config
    }

    /// Whether anybody may ask about an event.
    fn is_public(&self, feed: &str, event: &Event) -> bool {
        self.public_in(feed).any(|watch| watch.matcher.matches(event))
    }

    /// The public watches of a feed.
    fn public_in(&self, feed: &str) -> impl Iterator<Item = &'a Watch> {
        self.public.iter().copied().filter(move |watch| watch.feeds.iter().any(|name| name == feed))
    }

    /// The public occurrences in a time, in order; one that is in several feeds is listed once.
    async fn listed(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Upcoming>> {
        let mut all = self.pipeline.upcoming(from, to).await?;
        all.retain(|one| self.is_public(&one.feed, &one.occurrence.event));
        let mut seen = BTreeSet::new();
        all.retain(|one| seen.insert((one.occurrence.start, one.same.clone())));
        Ok(all)
    }

    /// The first occurrences to come that have the words of a search.
    async fn search(&self, text: &str, now: Timestamp, most: usize) -> Result<Vec<Upcoming>> {
        let fits = answer::matching(text);
        let mut found = Vec::new();
        for days in SEARCH_DAYS {
            found = self.listed(now, ahead(now, days)).await?;
            found.retain(|one| fits(&one.occurrence.event));
            if found.len() >= most {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }

    /// The event that an option names: chosen from those offered, or in words.
    async fn named(&self, option: Option<&str>, now: Timestamp) -> Result<Option<Upcoming>> {
        let Some(text) = option else { return Ok(None) };
        match text.parse() {
            Ok(handle) => self.find(Some(handle), now).await,
            Err(()) => Ok(self.search(text, now, 1).await?.into_iter().next()),
        }
    }

    /// What a handle stands for: the occurrence, or where that is no more, what became of the
    /// event.
    async fn find(&self, handle: Option<Handle>, now: Timestamp) -> Result<Option<Upcoming>> {
        let Some(handle) = handle else { return Ok(None) };
        let Some(feed) = self.config().feeds.keys().find(|feed| handle.is_of(feed)) else {
            return Ok(None);
        };
        let start = handle.start();
        let second = start.saturating_add(SignedDuration::from_secs(1)).unwrap_or(start);
        let then = self.pipeline.upcoming(start, second).await?;
        let same = |one: &Upcoming| one.feed == *feed && answer::handle(one) == handle;
        if let Some(one) = then.into_iter().find(same) {
            return Ok(Some(one).filter(|one| self.is_public(feed, &one.occurrence.event)));
        }
        let store = &self.pipeline.store;
        let known = store.known(feed, &[handle.event]).await?.into_iter().next();
        let (Some(known), Some(zone)) = (known, self.pipeline.zone_of(feed).await?) else {
            return Ok(None);
        };
        let (zones, event) = (&self.pipeline.zones, known.seen);
        if !self.is_public(feed, &event) {
            return Ok(None);
        }
        let occurrence = if event.recurrence.is_empty() {
            let (start, end) = (event.start.instant(zones, &zone), event.end.instant(zones, &zone));
            Some(Occurrence { event, start, end })
        } else {
            let window = Window { from: now, to: ahead(now, 400) };
            let expansion = recur::expand(std::slice::from_ref(&event), window, zones, &zone);
            expansion.occurrences.into_iter().next()
        };
        let title = store.feed(feed).await?.title;
        Ok(occurrence.map(|occurrence| Upcoming {
            feed: feed.clone(),
            feed_title: title,
            key: known.key,
            occurrence,
            same: String::new(),
        }))
    }

    async fn upcoming(&self, query: &Query, now: Timestamp) -> Result<Message> {
        let all = self.listed(now, ahead(now, i64::from(query.days))).await?;
        let fits = answer::matching(&query.search);
        let bears = |one: &Upcoming| {
            let mut names = one.occurrence.event.categories.iter();
            query.category.is_none_or(|wanted| names.any(|name| hash32(name) == wanted))
        };
        let wanted = |one: &&Upcoming| fits(&one.occurrence.event) && bears(one);
        let matching: Vec<&Upcoming> = all.iter().filter(wanted).collect();
        Ok(answer::upcoming(query, &matching, &self.dates))
    }

    async fn next(&self, now: Timestamp) -> Result<Message> {
        for days in SEARCH_DAYS {
            let mut all = self.listed(now, ahead(now, days)).await?.into_iter();
            let to_come =
                |one: &Upcoming| one.occurrence.start > now && one.occurrence.event.status.is_on();
            if let Some(one) = all.find(to_come) {
                return Ok(self.card(&one, now));
            }
        }
        Ok(notice("Nothing is coming up."))
    }

    fn card(&self, one: &Upcoming, now: Timestamp) -> Message {
        answer::card(one, zone_name(self.config()), one.occurrence.start <= now)
    }

    async fn why(&self, person: Person, one: &Upcoming, now: Timestamp) -> Result<Message> {
        let (pipeline, config) = (self.pipeline, self.config());
        let Some(feed) = config.feeds.get(&one.feed) else { return Ok(notice(NOT_FOUND)) };
        let known: Option<Known> = pipeline.store.known_event(&one.feed, &one.key).await?;
        let deliveries = pipeline.store.deliveries_about(&one.feed, &one.key).await?;
        let state = pipeline.store.feed(&one.feed).await?;
        let paused = pipeline.store.paused().await?;
        let start = one.occurrence.start;
        let second = start.saturating_add(SignedDuration::from_secs(1)).unwrap_or(start);
        let then = pipeline.upcoming(start, second).await?;
        let own = then.iter().find(|o| o.feed == one.feed && o.key == one.key);
        let twins = then.iter().filter(|other| {
            let same = own.is_some_and(|own| {
                own.same == other.same && own.occurrence.start == other.occurrence.start
            });
            same && other.feed != one.feed && self.is_public(&other.feed, &other.occurrence.event)
        });
        let twins: Vec<String> =
            twins.map(|o| o.feed_title.clone().unwrap_or_else(|| o.feed.clone())).collect();
        let dossier = Dossier {
            one,
            feed,
            state: &state,
            known: known.as_ref(),
            notes: &pipeline.notes(&one.feed),
            deliveries: &deliveries,
            paused: &paused,
            twins: &twins,
        };
        let asker = Asker {
            id: person.id,
            guild: person.guild,
            manages: person.manages(config.discord.guild),
        };
        let cx = pipeline.plan_context(&config.watches, now);
        Ok(why::why(config, &cx, &dossier, asker, &self.dates))
    }

    async fn remind(
        &self,
        person: Person,
        one: &Upcoming,
        series: bool,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<Message> {
        let Occurrence { event, start, .. } = &one.occurrence;
        if *start <= now {
            let at = start.as_second();
            return Ok(notice(&format!("That event has begun <t:{at}:R>; it is too late.")));
        }
        if !event.status.is_on() {
            return Ok(notice(&format!("That event is {}.", event.status.as_str())));
        }
        let id = event.recurrence_id.as_ref().map(|id| id.local());
        let series = series && id.is_some();
        let subject = Subject {
            feed: one.feed.clone(),
            key: one.key.clone(),
            uid: event.uid.clone(),
            occurrence: id.filter(|_| !series),
        };
        let config = self.config();
        let cx = self.pipeline.plan_context(&config.watches, now);
        let due = |lead: &Lead| cx.falls_due(&one.occurrence, lead).map(|(due_at, _)| due_at);
        let in_time = |lead: &Lead| due(lead).is_some_and(|at| at > now);
        let offered = if event.is_all_day() { LEADS_ALL_DAY } else { LEADS };
        let possible: Vec<&'static str> = offered
            .iter()
            .map(|(lead, _)| *lead)
            .filter(|lead| config::lead(lead).is_ok_and(|lead| in_time(&lead)))
            .collect();

        let store = &self.pipeline.store;
        let mut leads: Vec<String> = Vec::new();
        if !matches!(wanted, Wanted::Only(_)) {
            let before = store.reminder_requests(Some(person.id)).await?;
            let same = |request: &ReminderRequest| {
                (&request.subject.feed, &request.subject.key, request.subject.occurrence)
                    == (&subject.feed, &subject.key, subject.occurrence)
            };
            leads.extend(before.into_iter().filter(same).map(|request| request.lead));
        }
        let asked: Vec<&str> = match &wanted {
            Wanted::Usual if !leads.is_empty() => Vec::new(),
            Wanted::Usual => {
                let usual = match event.is_all_day() {
                    true => ["1d at 18:00", "0d at 08:00", ""],
                    false => ["1h", "15m", "0m"],
                };
                usual.into_iter().find(|lead| possible.contains(lead)).into_iter().collect()
            }
            Wanted::Also(lead) => vec![*lead],
            Wanted::Only(values) => values.iter().map(String::as_str).take(10).collect(),
        };
        for text in asked {
            let lead = match config::lead(text) {
                Ok(lead) if lead.at.is_none() && event.is_all_day() => {
                    return Ok(notice(
                        "That event lasts all day and has no time to count from. Say the time of \
                         day: `1d at 18:00`, or `0d at 08:00` for the morning itself.",
                    ));
                }
                Ok(lead) if !series && !in_time(&lead) => {
                    return Ok(notice(
                        "That moment has passed already. Choose a shorter time before.",
                    ));
                }
                Ok(lead) => lead,
                Err(_) => {
                    return Ok(notice(
                        "I cannot read that time. Write `30m`, `2h`, `1d`, `1w`, or `1d at 18:00`.",
                    ));
                }
            };
            let lead = lead.plain();
            if !leads.contains(&lead) {
                leads.push(lead);
            }
        }
        if leads.is_empty() {
            return Ok(notice("It is too late for a reminder of that event."));
        }
        let title = words::line(&text::redact_passcodes(&event.summary));
        let title = match words::cut(&title, MAX_TITLE, words::utf16) {
            title if title.is_empty() => "(untitled event)".to_owned(),
            title => title,
        };
        let request = |lead: &String| ReminderRequest {
            id: ReminderRequest::id_of(person.id, &subject, lead),
            person: person.id,
            subject: subject.clone(),
            lead: lead.clone(),
            title: title.clone(),
            starts: *start,
            created_at: now,
        };
        let requests: Vec<ReminderRequest> = leads.iter().map(request).collect();
        if !store.set_reminder_requests(person.id, &subject, &requests, MAX_REQUESTS).await? {
            return Ok(notice(
                "You have 50 reminders already. `/unsubscribe` takes some of them back.",
            ));
        }
        self.reconsider();
        let noted = |lead: &String| {
            let due_at = due(&config::lead(lead).ok()?)?;
            Some(Noted { lead: lead.clone(), due_at })
        };
        let mut reminders: Vec<Noted> = leads.iter().filter_map(noted).collect();
        reminders.sort_by_key(|noted| noted.due_at);
        let ids = requests.into_iter().map(|request| request.id).collect();
        Ok(answer::promised(&Promise { one, series, reminders, possible, ids }, &self.dates))
    }

    /// What is due next is found out anew.
    fn reconsider(&self) {
        self.pipeline.reconsider();
        self.news.notify_one();
    }

    /// A person's requests about what is yet to come, with titles and starts as they are now.
    async fn requests(
        &self,
        person: Person,
        now: Timestamp,
    ) -> Result<Vec<(ReminderRequest, Timestamp)>> {
        let store = &self.pipeline.store;
        let mut current = Vec::new();
        for mut request in store.reminder_requests(Some(person.id)).await? {
            let Subject { feed, key, occurrence, .. } = &request.subject;
            let mut starts = request.starts;
            if let (Some(event), Some(zone)) =
                (store.event(feed, key).await?, self.pipeline.zone_of(feed).await?)
            {
                let zones = &self.pipeline.zones;
                if event.recurrence.is_empty() {
                    starts = event.start.instant(zones, &zone);
                } else if occurrence.is_none() {
                    let window = Window { from: now, to: ahead(now, 400) };
                    let all = recur::expand(std::slice::from_ref(&event), window, zones, &zone);
                    starts = all.occurrences.first().map_or(starts, |next| next.start);
                }
                if !event.summary.is_empty() {
                    request.title = words::cut(&event.summary, MAX_TITLE, words::utf16);
                }
            }
            if starts > now {
                current.push((request, starts));
            }
        }
        current.sort_by_key(|(_, starts)| *starts);
        Ok(current)
    }

    async fn subscriptions(&self, person: Person, now: Timestamp) -> Result<Message> {
        Ok(answer::subscriptions(&self.requests(person, now).await?))
    }

    async fn unsubscribe(
        &self,
        person: Person,
        which: Option<&str>,
        now: Timestamp,
    ) -> Result<Message> {
        let mut all = self.requests(person, now).await?;
        let Some(which) = which else { return Ok(answer::subscriptions(&all)) };
        if all.iter().any(|(request, _)| request.id == which) {
            return self.stop(person, &[which.to_owned()]).await;
        }
        let words = which.to_lowercase();
        all.retain(|(request, _)| request.title.to_lowercase().contains(&words));
        match all.as_slice() {
            [] => Ok(notice("You have no such reminder. `/subscriptions` lists them.")),
            [(request, _)] => self.stop(person, std::slice::from_ref(&request.id)).await,
            _ => Ok(answer::subscriptions(&all)),
        }
    }

    async fn stop(&self, person: Person, ids: &[String]) -> Result<Message> {
        let dropped = self.pipeline.store.drop_reminder_requests(person.id, ids).await?;
        self.reconsider();
        Ok(answer::stopped(&dropped))
    }

    async fn watches(&self) -> Result<Message> {
        let paused = self.pipeline.store.paused().await?;
        let line = |watch: &Watch| WatchLine {
            name: watch.name.clone(),
            to: watch.to.iter().map(|to| why::audience(self.config(), to)).collect(),
            paused: paused.get(&watch.name).map(|pause| (pause.since, pause.by)),
        };
        Ok(answer::watches(&self.config().watches.iter().map(line).collect::<Vec<_>>()))
    }

    async fn pause(
        &self,
        person: Person,
        name: Option<&str>,
        silent: bool,
        now: Timestamp,
    ) -> Result<Message> {
        let name = name.unwrap_or_default();
        let mut watches = self.config().watches.iter();
        let Some(watch) = watches.find(|watch| watch.name.to_lowercase() == name.to_lowercase())
        else {
            return Ok(notice("There is no such watch. `/watch list` shows them all."));
        };
        let store = &self.pipeline.store;
        let changed = match silent {
            true => store.pause(&watch.name, person.id, now).await?,
            false => {
                // What is due of the others is planned before what came to pass is left behind.
                self.pipeline.tick(now).await?;
                store.resume(&watch.name, now).await?
            }
        };
        let name = answer::literal(&watch.name, 100);
        if !changed {
            let state = if silent { "paused" } else { "not paused" };
            return Ok(notice(&format!("**{name}** is {state} already.")));
        }
        info!(watch = watch.name, by = person.id, paused = silent, "changed in Discord");
        self.reconsider();
        Ok(notice(&match silent {
            true => {
                let mut text = format!(
                    "**{name}** is paused: no news, reminders or digests of it, until \
                     `/watch resume`. What it misses is not told later."
                );
                if is_shown(self.config(), &watch.name) {
                    text.push_str(
                        " Agendas and the server’s events go on showing what it covers: they tell \
                         nobody.",
                    );
                }
                text
            }
            false => format!("**{name}** announces again, from now on."),
        }))
    }

    async fn refresh(&self, now: Timestamp) -> Result<Message> {
        let feeds = self.config().feeds.values();
        let feeds = feeds.filter(|feed| self.public_in(&feed.name).next().is_some());
        let all = join_all(feeds.map(|feed| self.read(feed, now))).await;
        self.news.notify_one();
        Ok(answer::refreshed(&all.into_iter().collect::<Result<Vec<_>>>()?))
    }

    async fn read(&self, feed: &Feed, now: Timestamp) -> Result<Refreshed> {
        let store = &self.pipeline.store;
        let again = {
            let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
            let last = refreshed.get(&feed.name);
            let again = last.is_none_or(|at| now.duration_since(*at).abs() >= REFRESH_EVERY);
            if again {
                refreshed.insert(feed.name.clone(), now);
            }
            again
        };
        let result = if again {
            match self.pipeline.poll(feed, now).await?.result {
                Ok(news) => {
                    let change = |change: &Change| {
                        (why::change_word(change.kind), change.after.summary.clone())
                    };
                    let public = |change: &&Change| self.is_public(&feed.name, &change.after);
                    RefreshResult::Read {
                        changes: news.changes.iter().filter(public).map(change).collect(),
                        messages: news.planned,
                        waiting: store.event_counts(&feed.name).await?.1,
                    }
                }
                Err(error) => RefreshResult::Failed(error.to_string()),
            }
        } else {
            RefreshResult::TooSoon
        };
        let calendar = store.feed(&feed.name).await?.title.unwrap_or_else(|| feed.name.clone());
        Ok(Refreshed { calendar, result })
    }
}

/// Which reminders somebody wants of an event.
#[derive(Clone, Copy, Debug)]
enum Wanted<'a> {
    /// What most want, unless there are some already.
    Usual,
    /// This one, and those there are.
    Also(&'a str),
    /// These and no others.
    Only(&'a [String]),
}

/// The watches that Discord sees something of: messages, digests, an agenda or native events. What
/// goes to a mailing list alone is nobody else's business.
fn public(config: &Config) -> Vec<&Watch> {
    let in_discord = |to: &[String]| {
        let receivers = to.iter().filter_map(|name| config.receivers.get(name));
        receivers.into_iter().any(|receiver| receiver.discord.is_some())
    };
    let in_digest = |watch: &Watch| {
        let mut digests = config.digests.iter().filter(|one| one.watches.contains(&watch.name));
        digests.any(|digest| in_discord(&digest.to))
    };
    let watches = config.watches.iter();
    let seen = watches
        .filter(|watch| in_discord(&watch.to) || in_digest(watch) || is_shown(config, &watch.name));
    seen.collect()
}

/// Whether an agenda or native events show what a watch covers.
fn is_shown(config: &Config, watch: &String) -> bool {
    let in_agenda = config.agendas.iter().any(|agenda| agenda.watches.contains(watch));
    in_agenda || config.scheduled_events.iter().any(|events| events.watches.contains(watch))
}

fn zone_name(config: &Config) -> &str {
    config.timezone.iana_name().unwrap_or("UTC")
}

fn ahead(now: Timestamp, days: i64) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(now)
}

/// What was typed, if it is a lead, then those usual ones that hold it.
fn offer_leads(text: &str) -> Answer {
    let typed = text.trim().to_lowercase();
    let mut choices: BTreeMap<usize, (String, String)> = BTreeMap::new();
    if !typed.is_empty() && typed.len() <= 40 && config::lead(&typed).is_ok() {
        choices.insert(0, (answer::lead_words(&typed), typed.clone()));
    }
    let usual = LEADS.iter().chain(LEADS_ALL_DAY);
    for (at, (lead, words)) in usual.enumerate() {
        if lead.contains(&typed) || words.contains(&typed) {
            choices.insert(at + 1, (format!("{words} ({lead})"), (*lead).to_owned()));
        }
    }
    let mut seen = BTreeSet::new();
    let unique = choices.into_values().filter(|(_, lead)| seen.insert(lead.clone()));
    Answer::Offer(unique.take(MAX_CHOICES).collect())
}

//! What beadle answers: from what was asked and what is known, the JSON that Discord wants. Pure.
//!
//! Every answer is ephemeral: only the person who asked sees it. Feed text is cleaned and escaped
//! as in posts, passcodes are hidden, and nothing mentions anyone.
//!
//! <https://docs.discord.com/developers/interactions/receiving-and-responding#interaction-response-object>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::press::{Handle, Press, Query, hash32};
use super::request::Act;
use crate::calendar::{Event, Occurrence, When, text};
use crate::message::dates::{Dates, Period};
use crate::message::discord::{Attention, escape, fit, harmless, render};
use crate::message::{Style, words};
use crate::plan::{Kind, Notification, Upcoming};
use crate::store::people::ReminderRequest;

/// Only the person who asked sees it. `1 << 6`
const EPHEMERAL: u64 = 64;
/// Events on one page.
const PAGE: usize = 8;
/// Choices that Discord shows while somebody is typing, and options of a menu.
pub const MAX_CHOICES: usize = 25;
const MAX_LABEL: usize = 100;
const MAX_TITLE: usize = 160;
const MAX_PLACE: usize = 100;
const MAX_DESCRIPTION: usize = 4096;
const MAX_FIELD: usize = 1024;
/// Fields that make up one answer, at most.
const MAX_FIELDS: usize = 5;

const BLUE: u32 = 0x43_38CA;
const GREEN: u32 = 0x1A_7F4B;
const AMBER: u32 = 0xB4_5309;

/// An answer to an interaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Pong,
    /// A new message.
    Say(Message),
    /// In place of the message whose button was pressed.
    Replace(Message),
    /// While somebody is typing: labels, and what they stand for.
    Offer(Vec<(String, String)>),
}

/// A message to one person.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    embeds: Vec<Value>,
    rows: Vec<Value>,
}

impl Answer {
    /// The body of the first answer.
    pub fn first(&self) -> Value {
        match self {
            Answer::Pong => json!({ "type": 1 }),
            Answer::Say(message) => {
                let mut data = message.body();
                data["flags"] = json!(EPHEMERAL);
                json!({ "type": 4, "data": data })
            }
            Answer::Replace(message) => json!({ "type": 7, "data": message.body() }),
            Answer::Offer(choices) => {
                let choice =
                    |(name, value): &(String, String)| json!({ "name": name, "value": value });
                let choices: Vec<Value> = choices.iter().take(MAX_CHOICES).map(choice).collect();
                json!({ "type": 8, "data": { "choices": choices } })
            }
        }
    }

    /// The body that fills in an answer that was deferred; none where there is nothing to fill.
    pub fn later(&self) -> Option<Value> {
        match self {
            Answer::Say(message) | Answer::Replace(message) => Some(message.body()),
            Answer::Pong | Answer::Offer(_) => None,
        }
    }

    /// Adds a warning above everything else.
    pub fn warn(&mut self, text: &str) {
        if let Answer::Say(message) | Answer::Replace(message) = self {
            message.embeds.insert(0, json!({ "color": AMBER, "description": text }));
        }
    }
}

/// The first answer to what takes longer than Discord waits.
pub fn deferral(act: &Act) -> Value {
    match act {
        Act::Typing { .. } => Answer::Offer(Vec::new()).first(),
        Act::Press { custom_id, .. } if custom_id.parse().is_ok_and(|p: Press| p.replaces()) => {
            json!({ "type": 6 })
        }
        _ => json!({ "type": 5, "data": { "flags": EPHEMERAL } }),
    }
}

impl Message {
    fn of(colour: u32, title: &str, description: String) -> Message {
        let mut embed = json!({ "color": colour });
        if !title.is_empty() {
            embed["title"] = json!(title);
        }
        if !description.is_empty() {
            embed["description"] = json!(description);
        }
        Message { embeds: vec![embed], rows: Vec::new() }
    }

    fn body(&self) -> Value {
        json!({
            "embeds": self.embeds,
            "components": self.rows,
            "allowed_mentions": { "parse": [] },
        })
    }

    fn footer(mut self, text: &str) -> Message {
        if let Some(embed) = self.embeds.last_mut() {
            embed["footer"] = json!({ "text": text });
        }
        self
    }

    /// A part with a heading: as many of the lines as there is room for.
    pub(super) fn field(mut self, name: &str, lines: &[String]) -> Message {
        let value = joined(lines, MAX_FIELD);
        if let Some(embed) = self.embeds.last_mut().filter(|_| !value.is_empty()) {
            let fields = embed["fields"].as_array_mut();
            let field = json!({ "name": name, "value": value, "inline": false });
            match fields {
                Some(fields) if fields.len() < MAX_FIELDS => fields.push(field),
                Some(_) => {}
                None => embed["fields"] = json!([field]),
            }
        }
        self
    }

    fn buttons(mut self, buttons: Vec<Value>) -> Message {
        if !buttons.is_empty() {
            self.rows.push(json!({ "type": 1, "components": buttons }));
        }
        self
    }

    fn menu(
        mut self,
        press: &Press,
        placeholder: &str,
        many: bool,
        options: Vec<Value>,
    ) -> Message {
        if !options.is_empty() {
            let most = if many { options.len() } else { 1 };
            let menu = json!({
                "type": 3,
                "custom_id": press.to_string(),
                "placeholder": placeholder,
                "min_values": 1,
                "max_values": most,
                "options": options,
            });
            self.rows.push(json!({ "type": 1, "components": [menu] }));
        }
        self
    }
}

/// Lines as far as they fit, each whole.
pub(super) fn joined(lines: &[String], max: usize) -> String {
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let more = format!("… and {} more", lines.len() - at);
        let gap = usize::from(!out.is_empty());
        let last = at + 1 == lines.len();
        let reserve = if last { 0 } else { words::utf16(&more) + 1 };
        if words::utf16(&out) + gap + words::utf16(line) + reserve > max {
            if words::utf16(&out) + gap + words::utf16(&more) <= max {
                out.push_str(if gap > 0 { "\n" } else { "" });
                out.push_str(&more);
            }
            break;
        }
        out.push_str(if gap > 0 { "\n" } else { "" });
        out.push_str(line);
    }
    out
}

fn button(press: &Press, label: &str, style: u8, disabled: bool) -> Value {
    json!({
        "type": 2,
        "style": style,
        "label": label,
        "custom_id": press.to_string(),
        "disabled": disabled,
    })
}

fn option(label: &str, value: &str, description: &str, chosen: bool) -> Value {
    let mut option = json!({ "label": label, "value": value });
    if !description.is_empty() {
        option["description"] = json!(words::cut(description, MAX_LABEL, words::utf16));
    }
    if chosen {
        option["default"] = json!(true);
    }
    option
}

/// Feed text in running text.
pub(super) fn literal(feed_text: &str, max: usize) -> String {
    fit(&words::line(&text::redact_passcodes(feed_text)), max)
}

/// Feed text where Discord reads no Markdown.
fn label(feed_text: &str, max: usize) -> String {
    words::cut(&harmless(&words::line(&text::redact_passcodes(feed_text))), max, words::utf16)
}

pub(super) fn title(event: &Event, max: usize) -> String {
    match literal(&event.summary, max) {
        title if title.is_empty() => "(untitled event)".to_owned(),
        title => title,
    }
}

fn title_label(event: &Event, max: usize) -> String {
    match label(&event.summary, max) {
        title if title.is_empty() => "(untitled event)".to_owned(),
        title => title,
    }
}

fn period(occurrence: &Occurrence) -> Period {
    match (&occurrence.event.start, &occurrence.event.end) {
        (When::AllDay(first), When::AllDay(end)) => {
            let last = end.yesterday().unwrap_or(*first).max(*first);
            Period::Days { first: *first, last }
        }
        _ => Period::Timed { start: occurrence.start, end: occurrence.end },
    }
}

/// When it is, in the reader's own zone.
pub(super) fn when(occurrence: &Occurrence, dates: &Dates) -> String {
    match period(occurrence) {
        days @ Period::Days { .. } => escape(&dates.full(&days).said),
        Period::Timed { start, .. } => {
            let at = start.as_second();
            format!("<t:{at}:F> (<t:{at}:R>)")
        }
    }
}

pub fn handle(one: &Upcoming) -> Handle {
    Handle::new(&one.feed, &one.key, one.occurrence.start)
}

/// A sentence of ours; feed text in it is escaped already.
pub fn notice(text: &str) -> Message {
    Message::of(BLUE, "", text.to_owned())
}

/// `/upcoming`: `matching` is all that was asked for, in order.
pub fn upcoming(query: &Query, matching: &[&Upcoming], dates: &Dates) -> Message {
    let pages = matching.len().div_ceil(PAGE).max(1);
    let page = query.page.min(pages - 1);
    let shown: Vec<&&Upcoming> = matching.iter().skip(page * PAGE).take(PAGE).collect();
    let days = match query.days {
        1 => "day".to_owned(),
        days => format!("{days} days"),
    };
    let lines: Vec<String> = shown.iter().map(|one| entry(one, dates)).collect();
    let text = match lines.is_empty() {
        true if query.category.is_some() || !query.search.is_empty() => {
            "Nothing of the kind is coming up. Try more `days`, or other words."
        }
        true => "Nothing is coming up.",
        false => "",
    };
    let description = match lines.is_empty() {
        true => text.to_owned(),
        false => joined(&lines, MAX_DESCRIPTION),
    };
    let mut about = Vec::new();
    if let Some(category) = query.category {
        let mut names = matching.iter().flat_map(|one| &one.occurrence.event.categories);
        about.extend(names.find(|name| hash32(name) == category).map(|name| label(name, 60)));
    }
    if !query.search.is_empty() {
        about.push(format!("“{}”", harmless(&query.search)));
    }
    about.push(match matching.len() {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    });
    if pages > 1 {
        about.push(format!("page {} of {pages}", page + 1));
    }
    let options = shown.iter().map(|one| {
        let event = &one.occurrence.event;
        let said = dates.short(&period(&one.occurrence));
        option(&title_label(event, MAX_LABEL), &handle(one).to_string(), &said, false)
    });
    let mut message = Message::of(BLUE, &format!("The next {days}"), description)
        .footer(&about.join(" · "))
        .menu(&Press::Show(None), "More about …", false, options.collect());
    if pages > 1 {
        let turn = |page| Press::Page(Query { page, ..query.clone() });
        message = message.buttons(vec![
            // Ids must differ even where they lead nowhere.
            button(&turn(page.checked_sub(1).unwrap_or(pages)), "◀ Earlier", 2, page == 0),
            button(&turn(page + 1), "Later ▶", 2, page + 1 == pages),
        ]);
    }
    message
}

/// An event in a list.
fn entry(one: &Upcoming, dates: &Dates) -> String {
    let event = &one.occurrence.event;
    let name = title(event, MAX_TITLE);
    let name = match event.status.is_on() {
        true => format!("**{name}**"),
        false => format!("~~{name}~~ ({})", event.status.as_str()),
    };
    let place = literal(&event.location, MAX_PLACE);
    let place = if place.is_empty() { place } else { format!(" · {place}") };
    format!("{name}\n{}{place}\n", when(&one.occurrence, dates))
}

/// Everything about one event, as a post would have it, and what one can do with it.
pub fn card(one: &Upcoming, zone: &str, over: bool) -> Message {
    let notification = Notification {
        source: "what you asked for".to_owned(),
        kind: Kind::Changes,
        zone: zone.to_owned(),
        items: vec![one.item()],
        more: 0,
    };
    let style = Style::default();
    let mut rendered =
        render(&notification, &style, &Attention::default()).into_iter().next().unwrap_or_default();
    let list = |value: Value| match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    };
    let message = Message {
        embeds: list(rendered["embeds"].take()),
        rows: list(rendered["components"].take()),
    };
    let handle = handle(one);
    let mut buttons = Vec::new();
    if !over && one.occurrence.event.status.is_on() {
        buttons.push(button(&Press::Remind(handle), "Remind me", 1, false));
    }
    buttons.push(button(&Press::Why(handle), "Why was this told?", 2, false));
    message.buttons(buttons)
}

/// Choices of events.
pub fn offer_events(text: &str, events: &[Upcoming], dates: &Dates) -> Answer {
    let fits = matching(text);
    let events = events.iter().filter(|one| fits(&one.occurrence.event)).take(MAX_CHOICES);
    let choice = |one: &Upcoming| {
        let when = dates.short(&period(&one.occurrence));
        let room = MAX_LABEL - words::utf16(&when) - 3;
        (format!("{} ({when})", title_label(&one.occurrence.event, room)), handle(one).to_string())
    };
    Answer::Offer(events.map(choice).collect())
}

/// Choices of words, each standing for itself; those that hold what was typed.
pub fn offer_words<'a>(text: &str, all: impl Iterator<Item = &'a str>) -> Answer {
    let typed = text.to_lowercase();
    let fits = |word: &&str| word.to_lowercase().contains(typed.trim());
    // What stands for itself must come back as it is.
    let whole = |word: &&str| words::utf16(word) <= MAX_LABEL && !word.trim().is_empty();
    let choices = all.filter(whole).filter(fits).take(MAX_CHOICES);
    Answer::Offer(choices.map(|word| (label(word, MAX_LABEL), word.to_owned())).collect())
}

/// Choices of a person's reminders.
pub fn offer_requests(text: &str, requests: &[ReminderRequest]) -> Answer {
    let typed = text.to_lowercase();
    let fits = |one: &&ReminderRequest| one.title.to_lowercase().contains(typed.trim());
    let choice = |one: &ReminderRequest| {
        let lead = lead_words(&one.lead);
        let room = MAX_LABEL - words::utf16(&lead) - 2;
        (format!("{}, {lead}", label(&one.title, room)), one.id.clone())
    };
    Answer::Offer(requests.iter().filter(fits).take(MAX_CHOICES).map(choice).collect())
}

/// Whether an event has all the words of a search, in its title, place, people or categories.
pub fn matching(search: &str) -> impl Fn(&Event) -> bool + use<> {
    let wanted: Vec<String> = search.to_lowercase().split_whitespace().map(str::to_owned).collect();
    move |event| {
        let organizer = event.organizer.as_ref().map_or("", |organizer| &organizer.name);
        let parts =
            [event.summary.as_str(), &event.location, organizer, &event.categories.join(" ")];
        let text = parts.join(" ").to_lowercase();
        wanted.iter().all(|word| text.contains(word))
    }
}

/// A lead in words: `1 hour before`.
pub fn lead_words(lead: &str) -> String {
    let known = LEADS.iter().chain(LEADS_ALL_DAY).find(|(text, _)| *text == lead);
    match (known, lead.split_once(" at ")) {
        (Some((_, words)), _) => (*words).to_owned(),
        (None, Some((before, at))) => format!("{} before, at {}", label(before, 40), label(at, 10)),
        (None, None) => format!("{} before", label(lead, 40)),
    }
}

/// Leads offered for events with a time of day.
pub const LEADS: &[(&str, &str)] = &[
    ("0m", "when it starts"),
    ("15m", "15 minutes before"),
    ("30m", "30 minutes before"),
    ("1h", "1 hour before"),
    ("3h", "3 hours before"),
    ("1d", "1 day before"),
    ("1d at 18:00", "the evening before"),
    ("1w", "1 week before"),
];

/// Leads offered for events that last all day.
pub const LEADS_ALL_DAY: &[(&str, &str)] = &[
    ("0d at 08:00", "that morning"),
    ("1d at 18:00", "the evening before"),
    ("3d at 18:00", "3 days before, in the evening"),
    ("7d at 18:00", "a week before, in the evening"),
];

/// A reminder, and when it comes.
#[derive(Clone, Debug)]
pub struct Noted {
    pub lead: String,
    pub due_at: Timestamp,
}

/// What a person is now going to be reminded of.
#[derive(Clone, Debug)]
pub struct Promise<'a> {
    pub one: &'a Upcoming,
    pub series: bool,
    pub reminders: Vec<Noted>,
    /// Leads that can still be chosen.
    pub possible: Vec<&'static str>,
    /// The ids of the requests.
    pub ids: Vec<String>,
}

/// The answer to a wish to be reminded.
pub fn promised(promise: &Promise<'_>, dates: &Dates) -> Message {
    let Promise { one, series, reminders, possible, ids } = promise;
    let event = &one.occurrence.event;
    let each: Vec<String> = reminders
        .iter()
        .map(|noted| {
            let at = noted.due_at.as_second();
            format!("• <t:{at}:F>, {}", escape(&lead_words(&noted.lead)))
        })
        .collect();
    let what = if *series { "each time" } else { "by direct message" };
    let text = format!(
        "**{}**\n{}\n\nI will remind you {what}:\n{}",
        title(event, MAX_TITLE),
        when(&one.occurrence, dates),
        joined(&each, MAX_FIELD),
    );
    let options = possible.iter().map(|lead| {
        let chosen = reminders.iter().any(|noted| noted.lead == *lead);
        option(&lead_words(lead), lead, "", chosen)
    });
    let leads = Press::Leads { handle: handle(one), series: *series };
    let mut message = Message::of(GREEN, "", text)
        .footer("It moves with the event. /subscriptions lists all your reminders.")
        .menu(&leads, "Change when", true, options.collect());
    if let [id] = ids.as_slice() {
        let stop = Press::Stop(Some(id.clone()));
        message = message.buttons(vec![button(&stop, "Don’t remind me", 2, false)]);
    }
    message
}

/// `/subscriptions`, and `/unsubscribe` without a name: each request, with the event's title and
/// start as they are now.
pub fn subscriptions(requests: &[(ReminderRequest, Timestamp)]) -> Message {
    if requests.is_empty() {
        return notice(
            "You asked for no reminders. `/remind` asks for one, and so does the button \
             **Remind me** under a post.",
        );
    }
    let lines: Vec<String> = requests
        .iter()
        .map(|(one, starts)| {
            let (name, lead) = (literal(&one.title, MAX_TITLE), escape(&lead_words(&one.lead)));
            format!("• **{name}**, <t:{}:f>: {lead}", starts.as_second())
        })
        .collect();
    let options = requests.iter().take(MAX_CHOICES).map(|(one, _)| {
        option(&label(&one.title, MAX_LABEL), &one.id, &lead_words(&one.lead), false)
    });
    Message::of(BLUE, "Your reminders", joined(&lines, MAX_DESCRIPTION)).menu(
        &Press::Stop(None),
        "Take back …",
        true,
        options.collect(),
    )
}

/// What was taken back.
pub fn stopped(requests: &[ReminderRequest]) -> Message {
    if requests.is_empty() {
        return notice("That reminder is gone already.");
    }
    let lines: Vec<String> = requests
        .iter()
        .map(|one| {
            let (name, lead) = (literal(&one.title, MAX_TITLE), escape(&lead_words(&one.lead)));
            format!("• **{name}**: {lead}")
        })
        .collect();
    let text = format!("You will not be reminded of:\n{}", joined(&lines, MAX_FIELD));
    Message::of(BLUE, "", text)
}

/// One watch, for `/watch list`.
#[derive(Clone, Debug)]
pub struct WatchLine {
    pub name: String,
    /// Where it tells, as Discord shows it.
    pub to: Vec<String>,
    /// Since when it is silent, and who asked for it.
    pub paused: Option<(Timestamp, u64)>,
}

/// `/watch list`
pub fn watches(watches: &[WatchLine]) -> Message {
    let lines: Vec<String> = watches
        .iter()
        .map(|watch| {
            let name = literal(&watch.name, MAX_TITLE);
            let to = match watch.to.is_empty() {
                true => String::new(),
                false => format!(" → {}", watch.to.join(", ")),
            };
            match watch.paused {
                None => format!("▶ **{name}**{to}"),
                Some((since, by)) => {
                    format!("⏸ **{name}**{to}: paused <t:{}:R> by <@{by}>", since.as_second())
                }
            }
        })
        .collect();
    Message::of(BLUE, "Watches", joined(&lines, MAX_DESCRIPTION))
        .footer("What a paused watch misses is not told later.")
}

/// What `/refresh` did with one calendar.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// As people know it.
    pub calendar: String,
    pub result: RefreshResult,
}

/// Of one calendar.
#[derive(Clone, Debug)]
pub enum RefreshResult {
    /// Titles of what changed, and messages that are on their way.
    Read {
        changes: Vec<(&'static str, String)>,
        messages: usize,
        waiting: u64,
    },
    Failed(String),
    /// It was asked a moment ago.
    TooSoon,
}

/// `/refresh`
pub fn refreshed(all: &[Refreshed]) -> Message {
    let lines: Vec<String> = all
        .iter()
        .map(|one| {
            let name = literal(&one.calendar, MAX_PLACE);
            match &one.result {
                RefreshResult::TooSoon => format!("**{name}**: read less than a minute ago"),
                RefreshResult::Failed(reason) => {
                    format!("**{name}**: could not be read. {}", fit(reason, 300))
                }
                RefreshResult::Read { changes, messages, waiting } => {
                    let mut line = match (changes.len(), messages) {
                        (0, _) => format!("**{name}**: nothing new"),
                        (1, n) => format!("**{name}**: 1 change, {n} messages on their way"),
                        (k, n) => format!("**{name}**: {k} changes, {n} messages on their way"),
                    };
                    if *waiting > 0 {
                        line.push_str(&format!("; {waiting} waiting to be confirmed"));
                    }
                    let change = |(what, title): &(&str, String)| {
                        format!("\n  {what}: {}", literal(title, MAX_TITLE))
                    };
                    line.extend(changes.iter().take(5).map(change));
                    line
                }
            }
        })
        .collect();
    Message::of(BLUE, "Calendars read", joined(&lines, MAX_DESCRIPTION))
}

/// Parts of an explanation, under their headings.
pub fn explanation(
    one: &Upcoming,
    dates: &Dates,
    verdict: &str,
    parts: &[(&str, Vec<String>)],
) -> Message {
    let event = &one.occurrence.event;
    let text = format!("{}\n\n{verdict}", when(&one.occurrence, dates));
    let message = Message::of(BLUE, &title(event, 250), text);
    parts.iter().fold(message, |message, (name, lines)| message.field(name, lines))
}

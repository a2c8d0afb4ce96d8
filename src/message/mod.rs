//! A [`Notification`] becomes what a reader sees. Pure, and whatever a feed says, it never fails.
//!
//! The words are chosen once, here, in a `View`; [`discord`], [`email`] and [`terminal`] only
//! write it down, each with the escapes and limits of its medium. So all media say the same.

mod calendar_link;
pub(crate) mod dates;
pub mod discord;
pub mod email;
pub mod shown;
pub mod terminal;
pub(crate) mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;

use crate::calendar::{Event, Status, When, Zones, text};
use crate::plan::{Field, Item, Kind, Notification, Reason};
use calendar_link::calendar_link;
use dates::{Dates, Moment, Period};

/// What rendering needs to know besides the notification.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Meeting passcodes that stand in descriptions are shown instead of redacted.
    pub show_passcodes: bool,
    /// The message goes out more than a minute after it was due: it says so, and how late.
    pub late_by: Option<std::time::Duration>,
    /// Terminal colours.
    pub colour: bool,
    /// Of one event, only what is new about it: the rest stands in the message replied to.
    pub brief: bool,
    /// A button under one event that is yet to come, for readers who want to be reminded of it:
    /// somebody answers it.
    pub remind: bool,
}

/// Longest texts of a feed that are shown, in UTF-16 units.
const MAX_TITLE: usize = 240;
const MAX_PLACE: usize = 240;
const MAX_NAMES: usize = 200;
const MAX_ABSTRACT: usize = 600;
const MAX_NOTICE: usize = 1500;

/// A notification in words, with nothing in it that belongs to one medium. All text is clean
/// (see [`words::line`]), but not escaped.
#[derive(Clone, Debug)]
struct View {
    /// `Rescheduled: …`, `3 changes: …`, `Week of …`.
    heading: String,
    /// The heading, with the time where it does not say one.
    subject: String,
    /// What a mail program shows beside the subject.
    preheader: String,
    tone: Tone,
    late: Option<String>,
    intro: Option<String>,
    body: Body,
    /// Events that are not listed.
    more: usize,
    /// Whose message this is: `seminars · Example University Events`.
    source: String,
    /// `You get this because …`
    why: String,
}

#[derive(Clone, Debug)]
enum Body {
    /// One event; its title and badge are the heading.
    One(Box<Card>),
    Many(Vec<Group>),
}

/// Events under one label: a day, or a reason.
#[derive(Clone, Debug)]
struct Group {
    label: String,
    cards: Vec<Card>,
}

/// One event.
#[derive(Clone, Debug)]
struct Card {
    tone: Tone,
    /// `Rescheduled`; empty where the event is merely listed.
    badge: String,
    title: String,
    /// It does not take place: the title is struck in lists.
    off: bool,
    lead: Option<Line>,
    rows: Vec<Row>,
    /// Label and text of the description.
    about: Option<(&'static str, String)>,
    links: Vec<Link>,
    /// Opens a calendar with the event filled in.
    calendar: Option<String>,
    image: Option<String>,
    /// The first of its categories.
    category: Option<String>,
}

/// `Where: …`, on one line, or on two where it has changed.
#[derive(Clone, Debug)]
struct Row {
    label: &'static str,
    lines: Vec<Line>,
}

impl Row {
    fn is_changed(&self) -> bool {
        self.lines.iter().flatten().any(|piece| piece.mark != Mark::Plain)
    }
}

type Line = Vec<Piece>;

#[derive(Clone, Debug)]
struct Piece {
    mark: Mark,
    phrase: Phrase,
}

/// Whether something still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Plain,
    /// What the audience was told before; struck through.
    Old,
    /// What holds instead; bold.
    New,
}

#[derive(Clone, Debug)]
enum Phrase {
    Words(String),
    Time(Moment),
    /// Valid, to be shown as it is.
    Url(String),
}

/// A link under a label of ours, never of the feed.
#[derive(Clone, Debug)]
struct Link {
    label: String,
    url: String,
}

fn plain(text: impl Into<String>) -> Piece {
    Piece { mark: Mark::Plain, phrase: Phrase::Words(text.into()) }
}

fn time(mark: Mark, moment: Moment) -> Piece {
    Piece { mark, phrase: Phrase::Time(moment) }
}

/// The sort of news, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tone {
    Cancelled,
    Postponed,
    Withdrawn,
    Rescheduled,
    Reinstated,
    Updated,
    New,
    Entered,
    Left,
    Duplicate,
    Upcoming,
    Listing,
}

impl Tone {
    /// White text on any of these has a contrast of 4.5:1 or more (WCAG 2.2, 1.4.3).
    fn colour(self) -> u32 {
        match self {
            Tone::Cancelled => 0xB9_1C1C,
            Tone::Postponed => 0xC0_2600,
            Tone::Withdrawn => 0x6B_4E3D,
            Tone::Rescheduled => 0xB4_5309,
            Tone::Reinstated => 0x0F_766E,
            Tone::Updated => 0x1D_5FD1,
            Tone::New => 0x1A_7F4B,
            Tone::Entered => 0x0E_7490,
            Tone::Left => 0x5B_6472,
            Tone::Duplicate => 0x75_6A1C,
            Tone::Upcoming => 0x6D_28D9,
            Tone::Listing => 0x43_38CA,
        }
    }

    /// What a group of such news is called, and how a heading counts it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Tone::Cancelled => ("Cancelled", "cancelled"),
            Tone::Postponed => ("Postponed, no new date yet", "postponed"),
            Tone::Withdrawn => {
                ("No longer listed: check the page before you go", "no longer listed")
            }
            Tone::Rescheduled => ("Rescheduled", "rescheduled"),
            Tone::Reinstated => ("Back on", "back on"),
            Tone::Updated => ("Updated", "updated"),
            Tone::New => ("New", "new"),
            Tone::Entered => ("Not new, but now watched", "now watched"),
            Tone::Left => ("Still on, but no longer watched", "no longer watched"),
            Tone::Duplicate => ("Possible duplicates", "possibly a duplicate"),
            Tone::Upcoming | Tone::Listing => ("Coming up", "coming up"),
        }
    }

    fn of(reason: &Reason) -> Tone {
        match reason {
            Reason::New => Tone::New,
            Reason::PossibleDuplicate => Tone::Duplicate,
            Reason::Updated { .. } => Tone::Updated,
            Reason::Rescheduled { .. } => Tone::Rescheduled,
            Reason::Cancelled => Tone::Cancelled,
            Reason::Postponed => Tone::Postponed,
            Reason::Withdrawn => Tone::Withdrawn,
            Reason::Reinstated => Tone::Reinstated,
            Reason::Left => Tone::Left,
            Reason::Entered => Tone::Entered,
            Reason::Upcoming => Tone::Upcoming,
        }
    }
}

/// How much of an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// It is the only one.
    Alone,
    /// One of several.
    InList,
    /// One of several under the name of a day.
    OnDay(Date),
}

impl View {
    fn new(notification: &Notification, style: &Style) -> View {
        Composer { notification, style, dates: Dates::new(&notification.zone) }.view()
    }

    /// Events shown one by one.
    fn shown(&self) -> usize {
        match &self.body {
            Body::One(_) => 1,
            Body::Many(groups) => groups.iter().map(|group| group.cards.len()).sum(),
        }
    }

    /// Keeps the first events of a list; the others are only counted.
    fn keep(&mut self, mut limit: usize) {
        let before = self.shown();
        if let Body::Many(groups) = &mut self.body {
            for group in groups.iter_mut() {
                group.cards.truncate(limit);
                limit -= group.cards.len();
            }
            groups.retain(|group| !group.cards.is_empty());
        }
        self.more = self.more.saturating_add(before - self.shown());
    }
}

/// The line that closes a list which leaves events out.
fn and_more(more: usize) -> Option<String> {
    (more > 0).then(|| format!("… and {more} more"))
}

struct Composer<'a> {
    notification: &'a Notification,
    style: &'a Style,
    dates: Dates,
}

impl Composer<'_> {
    fn view(&self) -> View {
        let Notification { kind, items, more, source, .. } = self.notification;
        let source = words::cut(&words::line(source), 100, words::utf16);
        let (what, feeds) = (format!("“{source}”"), self.feeds());
        let why = match kind {
            Kind::Digest { .. } if feeds.is_empty() => format!("of the digest {what}"),
            Kind::Digest { .. } => format!("the digest {what} covers {feeds}"),
            Kind::Notice { .. } => "whoever runs beadle has it write here".to_owned(),
            _ if feeds.is_empty() => format!("of the watch {what}"),
            _ => format!("the watch {what} follows {feeds}"),
        };
        let mut view = View {
            heading: String::new(),
            subject: String::new(),
            preheader: String::new(),
            tone: Tone::Listing,
            late: self.style.late_by.map(late),
            intro: None,
            body: Body::Many(Vec::new()),
            more: *more,
            source: if feeds.is_empty() { source.clone() } else { format!("{source} · {feeds}") },
            why: format!("You get this because {why}."),
        };
        match (kind, items.as_slice()) {
            (Kind::Changes | Kind::Reminder { .. }, [item]) if *more == 0 => {
                self.alone(item, &mut view);
            }
            (Kind::Changes, _) => self.changes(&mut view),
            (Kind::Reminder { .. }, _) => {
                view.heading =
                    format!("Reminder: {}", count(items.len().saturating_add(*more), "event"));
                view.tone = Tone::Upcoming;
                view.body = Body::Many(self.by_day(None));
            }
            (Kind::Digest { from, to }, _) => self.digest(*from, *to, &mut view),
            (Kind::Welcome, _) => {
                view.heading = format!("Now watching: {source}");
                view.intro = Some(
                    if items.is_empty() && *more == 0 {
                        "News will be told here. Nothing is coming up yet."
                    } else {
                        "News will be told here. Coming up:"
                    }
                    .to_owned(),
                );
                view.body = Body::Many(self.by_day(None));
            }
            (Kind::Notice { title, text }, _) => {
                let line = |text, max| words::cut(&words::line(text), max, words::utf16);
                view.heading = line(title, MAX_TITLE);
                view.intro = Some(line(text, MAX_NOTICE));
            }
        }
        if view.subject.is_empty() {
            view.subject = view.heading.clone();
        }
        if let Body::Many(groups) = &view.body {
            let titles = groups.iter().flat_map(|group| &group.cards).take(4);
            let titles: Vec<_> = titles.map(|card| card.title.as_str()).collect();
            view.preheader = match titles.as_slice() {
                [] => view.intro.clone().unwrap_or_default(),
                titles => words::cut(&titles.join(" · "), 160, words::utf16),
            };
        }
        view
    }

    /// The feeds that the items come from, by the names that people know.
    fn feeds(&self) -> String {
        let names: BTreeSet<String> = self
            .notification
            .items
            .iter()
            .map(|item| {
                let own = item.feed_name.as_deref().map(|name| self.line(name, 100));
                own.filter(|name| !name.is_empty()).unwrap_or_else(|| words::line(&item.feed))
            })
            .filter(|name| !name.is_empty())
            .collect();
        let more = names.len().saturating_sub(3);
        let mut text = names.into_iter().take(3).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text.push_str(&format!(" and {}", count(more, "other feed")));
        }
        text
    }

    fn alone(&self, item: &Item, view: &mut View) {
        let card = self.card(item, Extent::Alone);
        view.tone = card.tone;
        view.heading = heading(&card.badge, &card.title);
        let title = words::cut(&card.title, 90, words::utf16);
        let when = self.dates.short(&self.period(item));
        view.subject = match item.reason {
            Reason::Rescheduled { .. } => {
                format!("{}, now {when}", heading(&card.badge, &title))
            }
            _ => format!("{} ({when})", heading(&card.badge, &title)),
        };
        let rows = card.rows.iter().filter(|row| matches!(row.label, "When" | "Where"));
        let said: Vec<_> = card
            .lead
            .iter()
            .chain(rows.flat_map(|row| &row.lines))
            .filter(|line| line.iter().any(|piece| piece.mark != Mark::Old))
            .map(said)
            .chain(card.about.iter().map(|(_, text)| text.replace('\n', " ")))
            .collect();
        view.preheader = words::cut(&said.join(" · "), 160, words::utf16);
        view.body = Body::One(Box::new(card));
    }

    fn changes(&self, view: &mut View) {
        let mut groups: BTreeMap<Tone, Vec<Card>> = BTreeMap::new();
        for item in &self.notification.items {
            let mut card = self.card(item, Extent::InList);
            // The label of the group or the sentence in the card says it already.
            if card.tone.names().0.starts_with(&card.badge) || card.lead.is_some() {
                card.badge.clear();
            }
            groups.entry(card.tone).or_default().push(card);
        }
        let total = self.notification.items.len().saturating_add(view.more);
        let mut counts: Vec<_> = groups
            .iter()
            .map(|(tone, cards)| format!("{} {}", cards.len(), tone.names().1))
            .collect();
        if !counts.is_empty() && view.more > 0 {
            counts.push(format!("{} more", view.more));
        }
        view.heading = match counts.as_slice() {
            [] => count(total, "change"),
            counts => format!("{}: {}", count(total, "change"), counts.join(", ")),
        };
        view.tone = groups.keys().next().copied().unwrap_or(Tone::Updated);
        view.body = Body::Many(
            groups
                .into_iter()
                .map(|(tone, cards)| Group { label: tone.names().0.to_owned(), cards })
                .collect(),
        );
    }

    fn digest(&self, from: Date, to: Date, view: &mut View) {
        let last = to.yesterday().unwrap_or(from).max(from);
        let days = self.dates.days(from, last);
        let is_week = from.checked_add(jiff::Span::new().days(6)).is_ok_and(|day| day == last);
        view.heading = if is_week { format!("Week of {days}") } else { days };
        view.body = Body::Many(self.by_day(Some((from, last))));
        let items = &self.notification.items;
        let off = items.iter().filter(|item| is_off(item)).count();
        let on = (items.len() - off).saturating_add(view.more);
        let summary = match (on, off) {
            (0, 0) => "Nothing scheduled".to_owned(),
            (on, 0) => count(on, "event"),
            (on, off) => format!("{}, {off} cancelled or postponed", count(on, "event")),
        };
        view.subject = format!("{}: {}", view.heading, lower_first(&summary));
        view.intro = Some(format!("{summary}."));
    }

    /// The items under the days they begin on; one that began before the first day of a digest is
    /// listed on that day.
    fn by_day(&self, bounds: Option<(Date, Date)>) -> Vec<Group> {
        let mut days: BTreeMap<Date, Vec<Card>> = BTreeMap::new();
        for item in &self.notification.items {
            let begins = match self.period(item) {
                Period::Days { first, .. } => first,
                Period::Timed { start, .. } => self.dates.day_of(start),
            };
            let day = bounds.map_or(begins, |(from, last)| begins.clamp(from, last));
            days.entry(day).or_default().push(self.card(item, Extent::OnDay(day)));
        }
        let label = |day| match bounds {
            Some(_) => self.dates.day(day),
            None => self.dates.day_and_year(day),
        };
        days.into_iter().map(|(day, cards)| Group { label: label(day), cards }).collect()
    }

    fn card(&self, item: &Item, extent: Extent) -> Card {
        let event = &item.event;
        let alone = extent == Extent::Alone;
        let tone = match (Tone::of(&item.reason), event.status) {
            (Tone::Upcoming, Status::Cancelled) => Tone::Cancelled,
            (Tone::Upcoming, Status::Postponed) => Tone::Postponed,
            (tone, _) => tone,
        };
        let off = is_off(item);
        let mut title = self.line(&event.summary, MAX_TITLE);
        if off {
            title = without_status(&title).to_owned();
        }
        if title.is_empty() {
            title = "(untitled event)".to_owned();
        }
        let mut links = Vec::new();
        if let Some(url) = event.url.as_deref().and_then(|url| self.url(url)) {
            links.push(Link { label: "Details".to_owned(), url });
        }
        let (join, online) = if off { (None, None) } else { self.join(event) };
        links.extend(join);
        let mut rows = self.rows(item, extent);
        rows.extend(online);
        let mut about = alone.then(|| self.about(item)).flatten();
        let brief = alone && self.style.brief;
        if brief {
            rows.retain(|row| row.label == "When" || row.is_changed() || row.label == "Note");
            about = about.filter(|(label, _)| *label != "About");
        }
        let image = event.picture().filter(|_| alone && !brief).and_then(|url| self.url(url));
        let page = links.iter().find(|link| link.label == "Details");
        let calendar = (alone && !off && !brief && tone != Tone::Withdrawn)
            .then(|| {
                let place = self.line(&event.location, MAX_PLACE);
                let page = page.map(|link| link.url.as_str());
                calendar_link(&title, &self.period(item), &place, page)
            })
            .flatten();
        let names = event.categories.iter().map(|name| self.line(name, MAX_NAMES));
        let category = names.into_iter().find(|name| !name.is_empty());
        Card {
            tone,
            badge: self.badge(item, tone, extent),
            title,
            off,
            lead: self.lead(item, extent),
            rows,
            about,
            links,
            calendar,
            image,
            category,
        }
    }

    /// What a heading says before the title; empty for an event that is merely listed.
    fn badge(&self, item: &Item, tone: Tone, extent: Extent) -> String {
        let before = item.before.as_ref();
        match &item.reason {
            Reason::New => "New".to_owned(),
            Reason::PossibleDuplicate => "Possible duplicate".to_owned(),
            Reason::Rescheduled { .. } => match (self.period_before(item), self.period(item)) {
                (Some(Period::Timed { .. }), Period::Days { .. }) => "Now all day".to_owned(),
                (Some(Period::Days { first, last }), Period::Timed { start, .. })
                    if first == last && first == self.dates.day_of(start) =>
                {
                    "Time announced".to_owned()
                }
                (Some(was), now) => match end_moved(&was, &now) {
                    Some((_, _, later)) => {
                        if later { "Ends later" } else { "Ends earlier" }.to_owned()
                    }
                    None => "Rescheduled".to_owned(),
                },
                (None, _) => "Rescheduled".to_owned(),
            },
            Reason::Updated { fields } => {
                let told = |field| fields.contains(&field);
                match before {
                    Some(before)
                        if told(Field::Summary)
                            && is_unknown(&before.summary)
                            && !is_unknown(&item.event.summary) =>
                    {
                        "Title announced"
                    }
                    Some(before) if fields.as_slice() == [Field::Location] => {
                        match (is_unknown(&before.location), item.event.location.trim().is_empty())
                        {
                            (true, false) => "Place announced",
                            (false, false) => "New place",
                            _ => "Updated",
                        }
                    }
                    Some(_) if fields.as_slice() == [Field::Summary] => "New title",
                    _ if fields.as_slice() == [Field::Description] => "Details updated",
                    _ => "Updated",
                }
                .to_owned()
            }
            Reason::Cancelled => "Cancelled".to_owned(),
            Reason::Postponed => "Postponed".to_owned(),
            Reason::Withdrawn => "No longer listed".to_owned(),
            Reason::Reinstated => "Back on".to_owned(),
            Reason::Left => match self.categories_beyond(before, Some(&item.event)) {
                Some(names) => format!("No longer in {names}"),
                None => "No longer watched".to_owned(),
            },
            Reason::Entered => match self.categories_beyond(Some(&item.event), before) {
                Some(names) => format!("Now in {names}"),
                None => "Now watched".to_owned(),
            },
            Reason::Upcoming => match (tone, &self.notification.kind) {
                (Tone::Cancelled, _) => "Cancelled".to_owned(),
                (Tone::Postponed, _) => "Postponed".to_owned(),
                (_, Kind::Reminder { .. }) if extent == Extent::Alone => "Reminder".to_owned(),
                _ => String::new(),
            },
        }
    }

    /// The sentence that explains the news, where badge and rows do not.
    fn lead(&self, item: &Item, extent: Extent) -> Option<Line> {
        let alone = extent == Extent::Alone;
        let text = match &item.reason {
            Reason::Rescheduled { .. } | Reason::Updated { .. } | Reason::Reinstated => {
                let was = self.period_before(item);
                if let Some((old, new, later)) =
                    was.and_then(|was| end_moved(&was, &self.period(item)))
                {
                    return Some(vec![
                        plain(if later {
                            "Ends later: now until "
                        } else {
                            "Ends earlier: now until "
                        }),
                        time(Mark::New, self.dates.clock(new)),
                        plain(" (was "),
                        time(Mark::Old, self.dates.clock(old)),
                        plain(")"),
                    ]);
                }
                match item.reason {
                    Reason::Reinstated => "It takes place after all.".to_owned(),
                    _ => return None,
                }
            }
            Reason::PossibleDuplicate => {
                "This looks like a second entry of an event already announced.".to_owned()
            }
            Reason::Cancelled => self.said_why("This event will not take place.", &item.event),
            Reason::Postponed => self.said_why(
                "It will not take place at this time. No new date is known yet.",
                &item.event,
            ),
            Reason::Withdrawn => "No longer listed by the organiser; it may be cancelled. Check \
                                  the page before you go."
                .to_owned(),
            Reason::Left => "It is still on, but no more news of it will be told here.".to_owned(),
            Reason::Entered => "Not a new event: it has only now come under this watch.".to_owned(),
            Reason::Upcoming => match (&self.notification.kind, self.period(item)) {
                (Kind::Reminder { .. }, Period::Timed { start, .. }) if alone && !is_off(item) => {
                    return Some(vec![
                        plain("Starts "),
                        time(Mark::New, self.dates.away(start)),
                        plain("."),
                    ]);
                }
                _ => return None,
            },
            Reason::New => return None,
        };
        alone.then(|| vec![plain(text)])
    }

    fn rows(&self, item: &Item, extent: Extent) -> Vec<Row> {
        let (event, before) = (&item.event, item.before.as_ref());
        let alone = extent == Extent::Alone;
        let fields = match &item.reason {
            Reason::Updated { fields } | Reason::Rescheduled { fields } => fields.as_slice(),
            _ => &[],
        };
        let mut rows = Vec::new();
        // One row: with the old value where it is told as changed, else only where it is wanted.
        let mut row = |label, field, wanted: bool, value: &dyn Fn(&Event) -> String| {
            let now = value(event);
            let was = before.filter(|_| fields.contains(&field)).map(value);
            if let Some(was) = was.filter(|was| *was != now) {
                rows.push(Row { label, lines: replaced(was, now) });
            } else if fields.contains(&field) && !now.is_empty() {
                rows.push(Row { label, lines: replaced(String::new(), now) });
            } else if wanted && !now.is_empty() {
                rows.push(Row { label, lines: vec![vec![plain(now)]] });
            }
        };

        row("Title", Field::Summary, false, &|event| self.line(&event.summary, MAX_TITLE));
        row("Status", Field::Status, event.status == Status::Tentative, &|event| {
            match event.status {
                Status::Confirmed => "Confirmed",
                Status::Tentative => "Tentative",
                Status::Cancelled => "Cancelled",
                Status::Postponed => "Postponed",
            }
            .to_owned()
        });
        row("Where", Field::Location, true, &|event| self.line(&event.location, MAX_PLACE));
        row("Organiser", Field::Organizer, alone, &|event| {
            let organizer = event.organizer.as_ref();
            let name = organizer.map_or("", |organizer| match organizer.name.trim() {
                "" => organizer.email.as_str(),
                name => name,
            });
            self.line(name, MAX_NAMES)
        });
        row("Categories", Field::Categories, alone, &|event| {
            let names: Vec<_> = event.categories.iter().map(|name| words::line(name)).collect();
            self.line(&names.join(", "), MAX_NAMES)
        });

        let when = Row { label: "When", lines: self.when(item, extent) };
        rows.insert(usize::from(rows.first().is_some_and(|row| row.label == "Title")), when);
        if item.series {
            rows.push(Row {
                label: "Repeats",
                lines: vec![vec![plain("the whole series is meant")]],
            });
        }
        let notes: Vec<_> = fields
            .iter()
            .filter_map(|field| match field {
                Field::Recurrence => Some("The dates of the series have changed."),
                Field::Url => Some("The address of its page has changed."),
                Field::Join if event.join.is_none() => Some("The link to join online is gone."),
                Field::Join => Some("The link to join online has changed."),
                Field::Description if !alone => Some("Its details have changed."),
                _ => None,
            })
            .collect();
        if !notes.is_empty() {
            rows.push(Row { label: "Note", lines: vec![vec![plain(notes.join(" "))]] });
        }
        rows
    }

    fn when(&self, item: &Item, extent: Extent) -> Vec<Line> {
        let now = self.period(item);
        let moment = match extent {
            Extent::OnDay(day) => self.dates.on_day(&now, day),
            _ => self.dates.full(&now),
        };
        if is_off(item) {
            return vec![vec![time(Mark::Old, moment)]];
        }
        let may_have_moved = matches!(
            item.reason,
            Reason::Rescheduled { .. }
                | Reason::Updated { .. }
                | Reason::Reinstated
                | Reason::Entered
                | Reason::Left
        );
        match self.period_before(item).filter(|_| may_have_moved) {
            Some(was) if end_moved(&was, &now).is_none() => {
                vec![vec![time(Mark::Old, self.dates.full(&was))], vec![time(Mark::New, moment)]]
            }
            _ => vec![vec![time(Mark::Plain, moment)]],
        }
    }

    /// The abstract, cut at a word.
    fn about(&self, item: &Item) -> Option<(&'static str, String)> {
        let (told, label) = match &item.reason {
            Reason::Updated { fields } | Reason::Rescheduled { fields } => {
                let changed = fields.contains(&Field::Description);
                (changed, "Details updated")
            }
            Reason::Cancelled | Reason::Postponed | Reason::Left => (false, ""),
            Reason::Withdrawn | Reason::PossibleDuplicate => (false, ""),
            Reason::New | Reason::Reinstated | Reason::Entered | Reason::Upcoming => {
                (true, "About")
            }
        };
        let text = words::block(&item.event.description);
        let text = if self.style.show_passcodes { text } else { text::redact_passcodes(&text) };
        let text = words::cut(&words::block(&text), MAX_ABSTRACT, words::utf16);
        match (told, text.is_empty()) {
            (true, false) => Some((label, text)),
            (true, true) if label == "Details updated" => {
                Some((label, "The description is gone.".to_owned()))
            }
            _ => None,
        }
    }

    /// The way into the meeting: a link where nothing secret is in it, else a row with an address
    /// that lacks the passcode.
    fn join(&self, event: &Event) -> (Option<Link>, Option<Row>) {
        let Some(join) = &event.join else { return (None, None) };
        let service = match self.line(&join.service, 24) {
            service if service.is_empty() => "online".to_owned(),
            service => service,
        };
        let shown = if self.style.show_passcodes {
            join.url.clone()
        } else {
            text::redact_join_url(&join.url)
        };
        let Some(url) = words::web_url(&shown) else { return (None, None) };
        if shown == join.url {
            return (Some(Link { label: format!("Join {service}"), url }), None);
        }
        let line = vec![
            Piece { mark: Mark::Plain, phrase: Phrase::Url(url) },
            plain(" (needs the passcode)"),
        ];
        (None, Some(Row { label: "Online", lines: vec![line] }))
    }

    /// A feed's address, if it may be a link, without the passcode it may hold.
    fn url(&self, url: &str) -> Option<String> {
        if self.style.show_passcodes {
            return words::web_url(url);
        }
        words::web_url(&text::redact_join_url(url))
    }

    /// A sentence, and the publisher's reason where there is one.
    fn said_why(&self, sentence: &str, event: &Event) -> String {
        let reason = event.judged.as_ref().and_then(|judged| judged.verdict.reason.as_deref());
        match reason.map(|reason| self.line(reason, MAX_PLACE)) {
            Some(reason) if !reason.is_empty() => format!("{sentence} Reason: {reason}"),
            _ => sentence.to_owned(),
        }
    }

    /// Feed text as one line.
    fn line(&self, text: &str, max: usize) -> String {
        let mut text = words::line(text);
        if !self.style.show_passcodes {
            text = words::line(&text::redact_passcodes(&text));
        }
        words::cut(&text, max, words::utf16)
    }

    /// Categories that the first event has and the second has not.
    fn categories_beyond(&self, of: Option<&Event>, without: Option<&Event>) -> Option<String> {
        let (of, without) = (of?, without?);
        let names: Vec<_> = of
            .categories
            .iter()
            .filter(|name| !without.categories.contains(name))
            .map(|name| self.line(name, 40))
            .filter(|name| !name.is_empty())
            .take(2)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn period(&self, item: &Item) -> Period {
        match (&item.event.start, &item.event.end) {
            (When::AllDay(first), end) => days(*first, end),
            _ => Period::Timed { start: item.start, end: item.end.max(item.start) },
        }
    }

    /// When the audience believes it to be, where that differs from [`Self::period`].
    fn period_before(&self, item: &Item) -> Option<Period> {
        let before = item.before.as_ref();
        let was_all_day = before.map_or(item.event.is_all_day(), Event::is_all_day);
        let moved = item.start_before.is_some() || item.end_before.is_some();
        if !moved && was_all_day == item.event.is_all_day() {
            return None;
        }
        if let Some(Event { start: When::AllDay(first), end, .. }) = before {
            return Some(days(*first, end)).filter(|was| *was != self.period(item));
        }
        // A time that is not named as moved still holds, unless it was not a time of day.
        let held = before.filter(|_| item.event.is_all_day());
        let instant = |when: &When| when.instant(&Zones::default(), self.dates.zone());
        let start = item.start_before.or_else(|| held.map(|event| instant(&event.start)));
        let end = item.end_before.or_else(|| held.map(|event| instant(&event.end)));
        let start = start.unwrap_or(item.start);
        let end = end.unwrap_or(item.end).max(start);
        let was = if was_all_day {
            let first = self.dates.day_of(start);
            let last = self.dates.day_of(end).yesterday().unwrap_or(first);
            Period::Days { first, last: last.max(first) }
        } else {
            Period::Timed { start, end }
        };
        Some(was).filter(|was| *was != self.period(item))
    }
}

/// The days of an all-day event with an exclusive end.
fn days(first: Date, end: &When) -> Period {
    let end = end.local().date();
    Period::Days { first, last: end.yesterday().unwrap_or(first).max(first) }
}

/// Old end, new end, and whether it is later, where nothing but the end has moved.
fn end_moved(was: &Period, now: &Period) -> Option<(jiff::Timestamp, jiff::Timestamp, bool)> {
    match (*was, *now) {
        (Period::Timed { start: a, end: old }, Period::Timed { start: b, end: new })
            if a == b && old != new && old > a && new > b =>
        {
            Some((old, new, new > old))
        }
        _ => None,
    }
}

fn is_off(item: &Item) -> bool {
    matches!(item.reason, Reason::Cancelled | Reason::Postponed)
        || (item.reason == Reason::Upcoming && !item.event.status.is_on())
}

/// Old and new value, each on its line.
fn replaced(was: String, now: String) -> Vec<Line> {
    let line = |mark, text| vec![Piece { mark, phrase: Phrase::Words(text) }];
    let mut lines = Vec::new();
    if !was.is_empty() {
        lines.push(line(Mark::Old, was));
    }
    lines.push(if now.is_empty() { vec![plain("no longer given")] } else { line(Mark::New, now) });
    lines
}

/// Whether a publisher's text only keeps the place of one that is to come.
fn is_unknown(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    text.contains("to be announced")
        || text.contains("to be determined")
        || words.clone().any(|word| matches!(word, "tbd" | "tba" | "tbc"))
        || words.next().is_none()
}

/// A title without the `Canceled: ` that the badge says already.
fn without_status(title: &str) -> &str {
    for word in ["cancelled", "canceled", "postponed"] {
        let Some((head, rest)) = title.split_at_checked(word.len()) else { continue };
        let rest = rest.trim_start();
        if head.eq_ignore_ascii_case(word) && rest.starts_with([':', '-', '–', '—']) {
            return rest.trim_start_matches([':', '-', '–', '—', ' ']);
        }
    }
    title
}

fn heading(badge: &str, title: &str) -> String {
    if badge.is_empty() { title.to_owned() } else { format!("{badge}: {title}") }
}

/// `1 event`, `2 events`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn late(by: Duration) -> String {
    let minutes = by.as_secs() / 60;
    let by = match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    };
    format!("This notice is late by {by}: beadle was not running or could not deliver.")
}

/// A line in words, without marks.
fn said(line: &Line) -> String {
    line.iter()
        .map(|piece| match &piece.phrase {
            Phrase::Words(text) | Phrase::Url(text) => text.as_str(),
            Phrase::Time(moment) => moment.said.as_str(),
        })
        .collect()
}

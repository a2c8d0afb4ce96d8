//! What a calendar feed says, and what changed in it.
//!
//! Everything below is pure: bytes and values in, values out, no I/O and no clock, and no input
//! makes it panic. One bad event costs that event and a [`Warning`], never the feed.
//!
//! | step | module |
//! |---|---|
//! | bytes → slices, one per component, with a fingerprint | [`scan`] |
//! | which slices were there before | [`fingerprints`] |
//! | slices → [`Event`]s | [`parse`], [`text`] |
//! | zone names and wall times → instants | [`time`] |
//! | rules → [`Occurrence`]s inside a window | [`recur`], [`rule`] |
//! | what the publisher's software is known to do wrong | [`publisher`] |
//! | which old event a new one continues | [`identity`] |
//! | old and new → [`diff::Change`]s | [`diff`] |

pub mod diff;
pub mod fingerprints;
pub mod html;
pub mod identity;
pub mod parse;
pub mod publisher;
pub mod recur;
pub mod rule;
pub mod scan;
pub mod text;
pub mod time;

use std::fmt;

use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

pub use time::{When, Zones};

/// The `UID` property as the feed writes it (RFC 5545, 3.8.4.7).
///
/// A UID is a claim of the publisher, not an identity: some publishers put the start time into it,
/// some make a new one for every fetch. See [`EventKey`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// beadle's own identity of an event within a feed: given at first sight, kept when the UID, the
/// time, the title or the address changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventKey(pub String);

impl EventKey {
    /// Short, for indexes; kept in the database.
    pub fn hash64(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0.as_bytes())
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `STATUS` of a VEVENT (RFC 5545, 3.8.1.11), or what a title such as `Canceled: …` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Also the meaning of an absent `STATUS`.
    #[default]
    Confirmed,
    Tentative,
    Cancelled,
    /// Not in RFC 5545: the title says that the event is postponed and no new date is known.
    Postponed,
}

impl Status {
    /// Whether the event is expected to take place at its time.
    pub fn is_on(self) -> bool {
        matches!(self, Status::Confirmed | Status::Tentative)
    }

    /// The lower-case word used in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Confirmed => "confirmed",
            Status::Tentative => "tentative",
            Status::Cancelled => "cancelled",
            Status::Postponed => "postponed",
        }
    }
}

/// `ORGANIZER` (RFC 5545, 3.8.4.3) with its `CN` decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Organizer {
    pub name: String,
    /// Without the `mailto:`; empty when the value is no mail address.
    pub email: String,
}

/// The way into an online meeting, found in `CONFERENCE`, `URL`, `LOCATION` or `DESCRIPTION`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinLink {
    /// `Zoom`, `Teams`, `Google Meet`, `Webex`, …: what the button is called.
    pub service: String,
    pub url: String,
}

/// What makes an event repeat; values as text, read by [`recur`] when a window is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recurrence {
    /// `RRULE` values (RFC 5545, 3.8.5.3), upper case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// `EXRULE` values (RFC 2445, 4.8.5.2), upper case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exrules: Vec<String>,
    /// `RDATE` starts, with an end where the value was a PERIOD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rdates: Vec<(When, Option<When>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exdates: Vec<When>,
}

impl Recurrence {
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.rdates.is_empty()
    }
}

/// One VEVENT, decoded and normalised: two events that mean the same compare equal but for
/// [`Event::uid`], [`Event::sequence`], [`Event::created`] and [`Event::last_modified`], which are
/// hints about the text and not part of what an audience is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub uid: Uid,
    /// Set on an override: the original start of the occurrence that this VEVENT replaces
    /// (RFC 5545, 3.8.4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence_id: Option<When>,
    /// `RANGE=THISANDFUTURE` was on the `RECURRENCE-ID`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub this_and_future: bool,
    #[serde(default)]
    pub sequence: u32,
    #[serde(default)]
    pub status: Status,
    /// Set where `status` is not what the feed says but what the publisher's site does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    pub start: When,
    /// Exclusive. From `DTEND`, else `DTSTART` + `DURATION`, else one day for a date and nothing
    /// for a time (RFC 5545, 3.6.1). Same variant as `start`, never before it.
    pub end: When,
    #[serde(default)]
    pub summary: String,
    /// Plain text; HTML already turned into text. May hold passcodes: renderers redact them.
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub location: String,
    /// http(s) only; anything else is dropped with a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Sorted, without duplicates.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Category text before it is split at commas: publishers forget to escape the comma in
    /// `R&D, Labs`, so a watch may name the joined text too. One entry per CATEGORIES line.
    #[serde(default)]
    pub categories_raw: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizer: Option<Organizer>,
    /// An http(s) picture from `ATTACH` or `IMAGE` (RFC 7986, 5.10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The picture that the event's page gives itself (`og:image`), asked for where the feed names
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinLink>,
    #[serde(default, skip_serializing_if = "Recurrence::is_empty")]
    pub recurrence: Recurrence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<Timestamp>,
}

/// A status that comes from the publisher's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub verdict: Verdict,
    /// What the feed says.
    pub stated: Status,
}

/// Of an event, what the publisher's site is asked about it. The texts, which may be long, are left
/// where they are.
#[derive(Debug, Deserialize)]
pub struct Judgement {
    pub uid: Uid,
    /// What the site said last, where that is not what the feed says.
    #[serde(default)]
    pub judged: Option<Judged>,
}

impl Judgement {
    /// Of an event as it is [kept](Event::to_json).
    pub fn from_json(text: &str) -> serde_json::Result<Judgement> {
        serde_json::from_str(text)
    }
}

/// What the publisher's site says of an event, where the feed is silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub status: Status,
    /// Why, in the publisher's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event {
    /// Applies what the publisher's site says to what the feed says; none takes it back.
    pub fn judge(&mut self, verdict: Option<Verdict>) {
        let stated = self.judged.take().map_or(self.status, |judged| judged.stated);
        if let Some(verdict) = verdict {
            self.status = verdict.status;
            self.judged = Some(Judged { verdict, stated });
        } else {
            self.status = stated;
        }
    }

    /// As it is kept. Here, because all events of a feed pass through it when it is first read, and
    /// this package is built for speed.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    pub fn from_json(text: &str) -> serde_json::Result<Event> {
        serde_json::from_str(text)
    }

    /// A picture to show with it.
    pub fn picture(&self) -> Option<&str> {
        self.image.as_deref().or(self.page_image.as_deref())
    }

    pub fn is_all_day(&self) -> bool {
        matches!(self.start, When::AllDay(_))
    }
}

/// One instance of an event (RFC 5545: recurrence instance), with its times resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// The event as it is on this day: an override where there is one. Its `start` and `end` are
    /// those of this occurrence, in the event's own zone; its `recurrence` is empty, and its
    /// `recurrence_id` is set where it is one of a series.
    pub event: Event,
    /// The instant it begins. An all-day occurrence begins at local midnight of the feed's zone.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
}

/// A whole feed as read once.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    /// `X-WR-CALNAME` or `NAME` (RFC 7986, 5.1).
    pub name: Option<String>,
    pub prodid: String,
    /// `X-WR-TIMEZONE`, when it names a zone we know.
    pub timezone: Option<String>,
    /// `REFRESH-INTERVAL` (RFC 7986, 5.7), else `X-PUBLISHED-TTL`.
    pub refresh: Option<SignedDuration>,
    /// Newest `DTSTAMP`: no later than the moment of the export (RFC 5545, 3.8.7.2).
    pub newest_stamp: Option<Timestamp>,
    pub events: Vec<Event>,
    pub warnings: Vec<Warning>,
    pub health: Health,
}

impl Calendar {
    /// Together with another part of the same calendar, which may overlap it.
    #[must_use]
    pub fn and(mut self, other: Calendar) -> Calendar {
        self.events.extend(other.events);
        identity::newest(&mut self.events, |event| event);
        self.newest_stamp = self.newest_stamp.max(other.newest_stamp);
        self.warnings.extend(other.warnings);
        self.health.complete &= other.health.complete;
        self.health.unreadable += other.health.unreadable;
        self
    }
}

/// Whether what is absent from a feed may be believed to be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Health {
    /// A VCALENDAR began.
    pub is_calendar: bool,
    /// Every component that began also ended, and the last thing was `END:VCALENDAR`.
    pub complete: bool,
    /// VEVENTs that could not be read, and whose UID is not known either.
    pub unreadable: usize,
}

/// Something in a feed that could not be used as it stands, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// 1-based physical line of the feed; 0 where the whole feed is meant, and behind events that
    /// were known and passed over. There the message says which line of the event is meant.
    pub line: usize,
    /// The event's UID, or its title where it has none.
    pub event: Option<String>,
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if let Some(event) = &self.event {
            write!(f, "event {event}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A half-open range of time, `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Window {
    /// Whether an occurrence lies at least partly in the window. One without duration counts as a
    /// point.
    pub fn overlaps(&self, start: Timestamp, end: Timestamp) -> bool {
        start < self.to && (end > self.from || (start == end && start >= self.from))
    }
}

/// The civil date and time as the feed's readers see it; used by renderers.
pub fn local(at: Timestamp, zone: &jiff::tz::TimeZone) -> civil::DateTime {
    zone.to_datetime(at)
}

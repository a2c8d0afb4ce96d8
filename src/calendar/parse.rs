//! Slices to [`Event`]s (RFC 5545, 3.3, 3.6.1 and 3.8).
//!
//! Names and parameters are read by the `ical` crate, one line at a time, but for lines of the usual
//! form; these, structure, values and the repair of what publishers get wrong are ours. A line that cannot be used costs that line and
//! a [`Warning`]; only a missing or unreadable `DTSTART` costs the event.

mod event;
mod line;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::rule::Rule;
use super::scan::{Bracket, Component, Lines, RawLine, Scanner, Slice, Visitor};
use super::time::{self, CustomZone, Observance, Yearly};
use super::{Calendar, Event, Health, Organizer, Uid, Warning, Zones, text};
use event::{kind_and_zone, printable, uid_of};
use line::{LastParams, Name, Property, property};
use value::{DateValue, DurationValue};

/// What reading depends on besides the body.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions<'a> {
    pub zones: &'a Zones,
    /// The zone configured for the feed.
    pub feed_zone: Option<&'a TimeZone>,
    /// The zone of the audience, for a feed that says nothing of zones.
    pub audience_zone: &'a TimeZone,
    /// `charset` of the Content-Type; used for text that is not UTF-8.
    pub charset: Option<&'a str>,
}

/// A body read against what is known.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Its events are those of slices that were not known.
    pub calendar: Calendar,
    /// Parallel to [`Calendar::events`].
    pub fingerprints: Vec<u128>,
    /// Known slices met again; they were not parsed.
    pub unchanged: Vec<u128>,
    /// UIDs of VEVENTs that are there but could not be read: they are not absent.
    pub present_uids: Vec<Uid>,
}

/// Reads a whole feed.
pub fn read_all(body: &[u8], options: &ReadOptions<'_>) -> Calendar {
    read(body, options, &|_| false).calendar
}

/// The zone of a feed's dates and floating times: the configured one, else its `X-WR-TIMEZONE`,
/// else the audience's.
pub fn feed_zone(calendar: &Calendar, options: &ReadOptions<'_>) -> TimeZone {
    zone_of(calendar.timezone.as_deref(), options)
}

fn zone_of(name: Option<&str>, options: &ReadOptions<'_>) -> TimeZone {
    let own = || name.and_then(|name| options.zones.get(name));
    options.feed_zone.cloned().or_else(own).unwrap_or_else(|| options.audience_zone.clone())
}

/// Reads a feed, parsing only the VEVENTs whose fingerprint `is_known` denies.
pub fn read(body: &[u8], options: &ReadOptions<'_>, is_known: &dyn Fn(u128) -> bool) -> Read {
    let mut preamble = None;
    loop {
        let second = preamble.is_some();
        let mut out = Read::default();
        let mut reader = Reader::new(options, preamble, |fingerprint| {
            let known = is_known(fingerprint);
            out.unchanged.extend(known.then_some(fingerprint));
            known
        });
        let mut events = Vec::new();
        let mut sink = |event, fingerprint| events.push(Some((event, fingerprint)));
        reader.push(body, &mut sink);
        let mut summary = reader.finish(&mut sink);
        if let (Some(late), false) = (summary.again.take(), second) {
            preamble = Some(late);
            continue;
        }
        summary.name(|index| Some(events.get(index)?.as_ref()?.0.uid.clone()));
        for amendment in &summary.amendments {
            let Some(slot) = events.get_mut(amendment.index) else { continue };
            *slot = slot.take().and_then(|(event, print)| Some((amendment.apply(event)?, print)));
        }
        (out.calendar, out.present_uids) = (summary.calendar, summary.present_uids);
        (out.calendar.events, out.fingerprints) = events.into_iter().flatten().unzip();
        return out;
    }
}

/// Reads a feed in pieces, as they arrive, giving out each event when it is whole.
///
/// A fingerprint covers all that an event's meaning depends on: its own text without `DTSTAMP`,
/// the feed's zone definitions, and this version of beadle. What is known is not read, and costs
/// little more than to find its end.
///
/// Three things are known only at the end, see [`Summary`]: whether the feed is complete, which of
/// the events given out are [not to be taken as they stand](Amendment), and whether something after
/// the first event changes how events are to be read. A known event that shares its UID and
/// RECURRENCE-ID with one given out is not noticed here: who keeps the known events sees it, since
/// the same identity then comes up in two texts of one feed, and must then deny the fingerprint
/// and read the feed again.
///
/// Memory: the piece, the largest event, and 24 bytes for each event given out.
#[derive(Debug)]
pub struct Reader<'a, K> {
    input: Input,
    scanner: Scanner,
    interpreter: Interpreter<'a>,
    is_known: K,
}

/// What a feed says besides its events and matters to their reading.
#[derive(Clone, Debug, Default)]
pub struct Preamble {
    prodid: String,
    /// `METHOD:CANCEL`
    cancels: bool,
    /// `X-WR-TIMEZONE`, where known.
    wr_timezone: Option<String>,
    /// VTIMEZONEs by TZID whose name says nothing to us; with their hash.
    custom_zones: BTreeMap<String, (u128, Custom)>,
    /// Bytes of these.
    custom_bytes: usize,
}

/// What is known at the end of a feed.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All but the events.
    pub calendar: Calendar,
    /// Events given out.
    pub read: usize,
    /// Known events met again.
    pub unchanged: usize,
    /// In order of their index, at most one for each event.
    pub amendments: Vec<Amendment>,
    /// Warnings about events given out, whose names are not known here; see [`Summary::name`].
    pub unnamed: Vec<(usize, Warning)>,
    /// UIDs of VEVENTs that are there but could not be read: they are not absent.
    pub present_uids: Vec<Uid>,
    /// Fingerprints of VEVENTs that could not be read. They must not be remembered as known, or
    /// nothing would say the next time that these events are there.
    pub unread: Vec<u128>,
    /// Zone definitions or properties of the feed came after its first event and change how events
    /// are to be read, or the preamble given was another: what was given out does not hold, and the
    /// feed must be read again with this. The next polls begin with it, so that once is enough.
    pub again: Option<Preamble>,
}

impl Summary {
    /// Gives the [unnamed](Summary::unnamed) warnings the names of their events, by index, and puts
    /// them to the others.
    pub fn name(&mut self, mut uid: impl FnMut(usize) -> Option<Uid>) {
        let warnings = &mut self.calendar.warnings;
        for (index, warning) in self.unnamed.drain(..) {
            warnings.push(Warning { event: uid(index).map(|uid| uid.0), ..warning });
        }
        warnings.sort_by_key(|warning| warning.line);
        warnings.truncate(FEED_WARNINGS);
    }
}

/// What becomes of an event given out, now that the others are known. Its fingerprint must not be
/// remembered as known, because the answer can be another one when the others change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Which of the events given out, from 0.
    pub index: usize,
    pub kind: AmendmentKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmendmentKind {
    /// Another with its UID and RECURRENCE-ID is newer: it does not count.
    Superseded,
    /// The newest of those with its UID and RECURRENCE-ID: it stays as it is.
    Newest,
    /// One of several with this UID, which are occurrences of one series whose publisher left
    /// RECURRENCE-ID out: its start is its RECURRENCE-ID.
    Occurrence,
}

impl Amendment {
    /// The event as it counts.
    pub fn apply(&self, mut event: Event) -> Option<Event> {
        match self.kind {
            AmendmentKind::Superseded => return None,
            AmendmentKind::Newest => {}
            AmendmentKind::Occurrence => event.recurrence_id = Some(event.start.clone()),
        }
        Some(event)
    }
}

impl<'a, K: FnMut(u128) -> bool> Reader<'a, K> {
    /// `preamble`: what the last reading of this feed asked for with [`Summary::again`]. `is_known`
    /// is asked for fingerprints; what it affirms counts as met.
    pub fn new(options: &'a ReadOptions<'a>, preamble: Option<Preamble>, is_known: K) -> Self {
        Reader {
            input: Input::Undecided(Vec::new()),
            scanner: Scanner::default(),
            interpreter: Interpreter::new(options, preamble),
            is_known,
        }
    }

    /// Takes the next piece of the body. `sink` gets each new event with its fingerprint.
    pub fn push(&mut self, piece: &[u8], sink: &mut dyn FnMut(Event, u128)) {
        self.take(piece, false, sink);
    }

    fn take(&mut self, piece: &[u8], last: bool, sink: &mut dyn FnMut(Event, u128)) {
        let Reader { input, scanner, interpreter, is_known } = self;
        Feeding { interpreter, is_known, sink }.push(input, scanner, piece, last);
    }

    /// Ends the body.
    pub fn finish(mut self, sink: &mut dyn FnMut(Event, u128)) -> Summary {
        self.take(&[], true, sink);
        let Reader { scanner, mut interpreter, mut is_known, .. } = self;
        let feeding = Feeding { interpreter: &mut interpreter, is_known: &mut is_known, sink };
        let (health, warnings) = feeding.finish(scanner);
        interpreter.finish(health, warnings)
    }
}

/// The body as UTF-8, if a byte order mark says that it is UTF-16.
#[derive(Debug)]
enum Input {
    /// The beginning, too short to tell.
    Undecided(Vec<u8>),
    Bytes,
    Wide(Box<Decoder>),
}

/// How much UTF-16 is decoded at once.
const WIDE: usize = 32 * 1024;

impl Input {
    fn push(&mut self, mut piece: &[u8], last: bool, to: &mut dyn FnMut(&[u8])) {
        if let Input::Undecided(head) = self {
            let mut head = std::mem::take(head);
            if head.len() + piece.len() < 2 && !last {
                head.extend_from_slice(piece);
                *self = Input::Undecided(head);
                return;
            }
            let start = [head.first().or(piece.first()), piece.get(1 - head.len().min(1))];
            let start = [start[0].copied().unwrap_or(b' '), start[1].copied().unwrap_or(b' ')];
            let marked = match start {
                [0xff, 0xfe] => Some(UTF_16LE),
                [0xfe, 0xff] => Some(UTF_16BE),
                _ => None,
            };
            match marked.or_else(|| wide(&start)) {
                Some(encoding) => {
                    let mut decoder = Box::new(encoding.new_decoder_without_bom_handling());
                    match marked {
                        Some(_) => piece = &piece[2 - head.len()..],
                        None => decode(&mut decoder, &head, false, to),
                    }
                    *self = Input::Wide(decoder);
                }
                None => {
                    *self = Input::Bytes;
                    to(&head);
                }
            }
        }
        let Input::Wide(decoder) = self else { return to(piece) };
        let mut pieces = piece.chunks(WIDE).peekable();
        while let Some(piece) = pieces.next() {
            decode(decoder, piece, last && pieces.peek().is_none(), to);
        }
        if last && piece.is_empty() {
            decode(decoder, piece, true, to);
        }
    }
}

/// Whether a body is UTF-16 without saying so: every other byte of plain letters is zero.
pub fn wide(body: &[u8]) -> Option<&'static Encoding> {
    match body {
        [1..=255, 0, ..] => Some(UTF_16LE),
        [0, 1..=255, ..] => Some(UTF_16BE),
        _ => None,
    }
}

fn decode(decoder: &mut Decoder, piece: &[u8], last: bool, to: &mut dyn FnMut(&[u8])) {
    let most = decoder.max_utf8_buffer_length(piece.len()).unwrap_or_default();
    let mut text = String::with_capacity(most);
    let _ = decoder.decode_to_string(piece, &mut text, last);
    to(text.as_bytes());
}

/// What the scanner finds, on its way to the interpreter. Of one type for every caller, so that
/// what each byte passes through is compiled here, as fast as this crate is.
struct Feeding<'r, 'a> {
    interpreter: &'r mut Interpreter<'a>,
    is_known: &'r mut dyn FnMut(u128) -> bool,
    sink: &'r mut dyn FnMut(Event, u128),
}

impl Feeding<'_, '_> {
    fn push(&mut self, input: &mut Input, scanner: &mut Scanner, piece: &[u8], last: bool) {
        input.push(piece, last, &mut |text| scanner.push(text, self));
    }

    fn finish(mut self, scanner: Scanner) -> (Health, Vec<Warning>) {
        scanner.finish(&mut self)
    }
}

impl Visitor for Feeding<'_, '_> {
    fn is_known(&mut self, hash: u128) -> bool {
        (self.is_known)(hash ^ self.interpreter.context())
    }

    fn known(&mut self, stamp: Option<RawLine<'_>>) {
        self.interpreter.unchanged += 1;
        self.interpreter.stamp(stamp);
    }

    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<usize> {
        let fingerprint = slice.hash ^ self.interpreter.context();
        let (event, feeds) = self.interpreter.event(slice, sure)?;
        self.interpreter.stamp(slice.stamp);
        match event {
            Ok(event) => {
                self.interpreter.mark(slice.line, &event);
                (self.sink)(event, fingerprint);
            }
            Err(uid) => {
                self.interpreter.unread.push(fingerprint);
                self.interpreter.unreadable(uid);
            }
        }
        Some(feeds)
    }

    fn header(&mut self, line: RawLine<'_>) {
        self.interpreter.header(line);
    }

    fn timezone(&mut self, slice: &Slice<'_>) {
        self.interpreter.timezone(slice);
    }

    fn cut_off(&mut self, uid: Option<RawLine<'_>>) {
        let uid = uid.and_then(|line| self.interpreter.uid(line));
        self.interpreter.unreadable(uid);
    }
}

/// The newest of some `DTSTAMP` lines.
#[derive(Debug, Default)]
struct Newest {
    /// One for each of Z and floating: wall times of one kind compare without being resolved.
    times: [Option<civil::DateTime>; 2],
    /// The line that each is from, if in its common form.
    lines: [Vec<u8>; 2],
}

impl Newest {
    fn add(&mut self, line: &RawLine<'_>) {
        let slot = usize::from(line.bytes.last() != Some(&b'Z'));
        // Lines of one length and the common form are in order of time. A line out of form is
        // either read below or could not be.
        let known = &self.lines[slot];
        if line.bytes.len() == known.len() && line.bytes <= known.as_slice() {
            return;
        }
        let bytes = line.unfold();
        let value = bytes.rsplit(|b| *b == b':').next().and_then(|v| std::str::from_utf8(v).ok());
        let Some(stamp) = value.and_then(DateValue::parse) else { return };
        let (at, floating) = match stamp.offset {
            Some(offset) => (utc(stamp.local, offset), 0),
            None => (Some(stamp.local), 1),
        };
        if at > self.times[floating] {
            self.times[floating] = at;
            let plain = line.bytes.strip_prefix(b"DTSTAMP:").is_some_and(|value| {
                value.len() == 16 - floating && value[..8].iter().all(u8::is_ascii_digit)
            });
            if plain && floating == slot {
                self.lines[slot] = line.bytes.to_vec();
            } else {
                self.lines[floating].clear();
            }
        }
    }

    /// Those without a zone are in the feed's.
    fn time(&self, feed_zone: &TimeZone) -> Option<Timestamp> {
        let utc = self.times[0].map(|local| time::resolve(local, &TimeZone::UTC));
        let floating = self.times[1].map(|local| time::resolve(local, feed_zone));
        utc.max(floating)
    }
}

fn utc(local: civil::DateTime, offset: Offset) -> Option<civil::DateTime> {
    local.checked_sub(SignedDuration::from_secs(i64::from(offset.seconds()))).ok()
}

/// Size of all VTIMEZONEs that are kept.
const ZONE_BYTES: usize = 1024 * 1024;
/// Warnings kept of one event, and of one feed.
const EVENT_WARNINGS: usize = 20;
const FEED_WARNINGS: usize = 1_000;

// ---- reading ----

#[derive(Debug)]
struct Interpreter<'a> {
    options: &'a ReadOptions<'a>,
    charset: &'static Encoding,
    /// What was said to be the feed's preamble, and what it is.
    assumed: Option<Preamble>,
    preamble: Preamble,
    /// The zone and the context of events, fixed when the first one comes.
    feed_zone: TimeZone,
    context: Option<u128>,
    /// The feed so far, without its events.
    calendar: Calendar,
    published_ttl: Option<SignedDuration>,
    newest: Newest,
    unchanged: usize,
    present_uids: Vec<Uid>,
    unread: Vec<u128>,
    /// One for each event given out.
    marks: Vec<Mark>,
    /// Names of zones resolved before.
    zone_names: HashMap<String, Option<String>>,
    /// The last parameters of a date that had nothing but a zone, and the zone they name: most dates
    /// of a feed have the same.
    dated: Option<(String, String)>,
    last_params: LastParams,
    /// The last CATEGORIES that was alone: its value, and what it means.
    categories: Option<(String, Categories)>,
    /// The last ORGANIZER: its parameters and value as stated, and what they mean.
    organizer: Option<(String, String, Option<Organizer>)>,
    /// The last zone of which an instant was asked for.
    zone: Option<LastZone>,
    /// Where the last address led.
    site: String,
    /// For reading texts.
    room: Vec<u8>,
    /// For reading events; empty.
    properties: Vec<Property<'static>>,
}

/// Categories, and the lines that name them as a whole.
type Categories = (Vec<String>, Vec<String>);

#[derive(Debug)]
struct LastZone {
    name: String,
    zone: TimeZone,
    /// Wall times between which its clocks are not changed.
    steady: Range<civil::DateTime>,
}

/// As much of an event given out as shows whether another is the same, and which is newer.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Hash of UID and original start.
    claim: u64,
    sequence: u32,
    /// LAST-MODIFIED in seconds, 0 where there is none.
    modified: u32,
    line: u32,
    /// Hash of the start; 0 for an event that can be no occurrence of a series without
    /// RECURRENCE-ID.
    start: u32,
}

#[derive(Clone, Debug)]
enum Custom {
    Named(String),
    Rules(CustomZone),
}

impl Preamble {
    fn hash(&self, charset: &'static Encoding, options: &ReadOptions<'_>) -> u128 {
        let zone = options.feed_zone.unwrap_or(options.audience_zone);
        let mut hasher = Xxh3::new();
        for part in [
            env!("CARGO_PKG_VERSION"),
            charset.name(),
            self.prodid.as_str(),
            self.wr_timezone.as_deref().unwrap_or_default(),
            zone.iana_name().unwrap_or_default(),
            if self.cancels { "CANCEL" } else { "" },
        ] {
            hasher.update(part.as_bytes());
            hasher.update(b"\0");
        }
        for (tzid, (hash, _)) in &self.custom_zones {
            hasher.update(tzid.as_bytes());
            hasher.update(&hash.to_le_bytes());
        }
        hasher.digest128()
    }
}

/// UTF-8 where it is valid, else Windows-1252, in which hardly anything is valid UTF-8: exporters
/// put texts of several origins into one line, and cut them between bytes.
fn mixed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let is_utf8 = bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        match chunk.invalid() {
            // The beginning of a letter that was cut.
            [_, _, ..] if is_utf8 => text.push('\u{fffd}'),
            one => text.push_str(&WINDOWS_1252.decode_without_bom_handling(one).0),
        }
    }
    text
}

impl<'a> Interpreter<'a> {
    fn new(options: &'a ReadOptions<'a>, assumed: Option<Preamble>) -> Self {
        let charset =
            options.charset.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
        Interpreter {
            options,
            charset: charset.filter(|charset| *charset != UTF_8).unwrap_or(WINDOWS_1252),
            assumed,
            preamble: Preamble::default(),
            feed_zone: options.audience_zone.clone(),
            context: None,
            calendar: Calendar::default(),
            published_ttl: None,
            newest: Newest::default(),
            unchanged: 0,
            present_uids: Vec::new(),
            unread: Vec::new(),
            marks: Vec::new(),
            zone_names: HashMap::new(),
            dated: None,
            last_params: LastParams::default(),
            categories: None,
            organizer: None,
            zone: None,
            site: String::new(),
            room: Vec::new(),
            properties: Vec::new(),
        }
    }

    /// Unfolds and decodes; also says whether it was not UTF-8.
    fn decode<'t>(&self, line: &RawLine<'t>) -> (Cow<'t, str>, bool) {
        let foreign = |bytes: &[u8]| {
            let text = match self.charset == WINDOWS_1252 {
                true => mixed(bytes),
                false => self.charset.decode_without_bom_handling(bytes).0.into_owned(),
            };
            (Cow::Owned(text), true)
        };
        match line.unfold() {
            Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => (Cow::Borrowed(text), false),
                Err(_) => foreign(bytes),
            },
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => (Cow::Owned(text), false),
                Err(error) => foreign(error.as_bytes()),
            },
        }
    }

    fn stamp(&mut self, line: Option<RawLine<'_>>) {
        if let Some(line) = line {
            self.newest.add(&line);
        }
    }

    fn unreadable(&mut self, uid: Option<Uid>) {
        match uid {
            Some(uid) => self.present_uids.push(uid),
            None => self.calendar.health.unreadable += 1,
        }
    }

    fn uid(&self, line: RawLine<'_>) -> Option<Uid> {
        let (property, _) = property(line.number, self.decode(&line).0).ok()?;
        uid_of(&property.value)
    }

    fn header(&mut self, raw: RawLine<'_>) {
        if raw.bytes.trim_ascii().is_empty() {
            return;
        }
        let text = self.decode(&raw).0;
        let property = match property(raw.number, text) {
            Ok((property, None)) => property,
            Ok((property, Some(problem))) => {
                self.warn_feed(raw.number, problem.into_owned());
                property
            }
            Err(problem) => return self.warn_feed(raw.number, problem.into_owned()),
        };
        let value = property.value.trim();
        let Interpreter { calendar, preamble, .. } = self;
        let Some(name) = property.name else { return };
        match name {
            Name::WrCalname | Name::Called if calendar.name.is_none() => {
                let name = text::label(value);
                calendar.name = (!name.is_empty()).then_some(name);
            }
            Name::Prodid if calendar.prodid.is_empty() => {
                calendar.prodid = text::single_line(text::clean(value));
                preamble.prodid.clone_from(&calendar.prodid);
            }
            Name::Method => preamble.cancels |= value.eq_ignore_ascii_case("CANCEL"),
            Name::WrTimezone if calendar.timezone.is_none() && !value.is_empty() => {
                calendar.timezone = self.options.zones.canonical(value);
                preamble.wr_timezone.clone_from(&calendar.timezone);
                if calendar.timezone.is_none() {
                    let name = printable(value);
                    self.warn_feed(raw.number, format!("X-WR-TIMEZONE {name} is not known"));
                }
            }
            Name::RefreshInterval | Name::PublishedTtl => {
                let interval = DurationValue::parse(value)
                    .map(DurationValue::exact)
                    .filter(SignedDuration::is_positive);
                let slot = match name {
                    Name::RefreshInterval => &mut calendar.refresh,
                    _ => &mut self.published_ttl,
                };
                *slot = slot.or(interval);
                if interval.is_none() && !value.is_empty() {
                    self.warn_feed(raw.number, format!("{name} is not a duration; ignored"));
                }
            }
            _ => {}
        }
    }

    fn warn_feed(&mut self, line: usize, message: String) {
        self.keep(Warning { line, event: None, message });
    }

    fn keep(&mut self, warning: Warning) {
        let warnings = &mut self.calendar.warnings;
        match warnings.len() {
            FEED_WARNINGS => {}
            len if len + 1 == FEED_WARNINGS => warnings.push(Warning {
                line: warning.line,
                event: None,
                message: "more warnings from here on; not shown".to_owned(),
            }),
            _ => warnings.push(warning),
        }
    }

    /// Keeps a VTIMEZONE whose TZID does not name a zone we know: names are right where the rules
    /// beside them are often not.
    fn timezone(&mut self, slice: &Slice<'_>) {
        let mut tzid = None;
        let mut location = None;
        let mut zone = CustomZone::default();
        let mut part: Option<Vec<Property<'_>>> = None;
        for raw in Lines::new(slice.bytes, slice.line) {
            match raw.bracket() {
                Bracket::Begin(Component::Other(_)) => part = Some(Vec::new()),
                Bracket::End(Component::Other(_)) => {
                    if let Some(observance) = part.take().and_then(|lines| observance(&lines)) {
                        zone.observances.push(observance);
                    }
                }
                Bracket::None => {
                    let Ok((property, _)) = property(raw.number, self.decode(&raw).0) else {
                        continue;
                    };
                    match (&mut part, property.name) {
                        (Some(lines), _) => lines.push(property),
                        (None, Some(Name::Tzid)) => {
                            tzid = Some(text::unescape(property.value.trim()).into_owned());
                        }
                        (None, Some(Name::LicLocation)) => {
                            location = Some(property.value.into_owned());
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let Some(tzid) = tzid else { return };
        if self.options.zones.canonical(&tzid).is_some() {
            return;
        }
        let custom = match location.and_then(|name| self.options.zones.canonical(&name)) {
            Some(name) => Custom::Named(name),
            None if zone.observances.is_empty() => return,
            None => Custom::Rules(zone),
        };
        let preamble = &mut self.preamble;
        if preamble.custom_bytes + slice.bytes.len() > ZONE_BYTES {
            let message = format!("VTIMEZONEs of more than {ZONE_BYTES} bytes; ignored");
            return self.warn_feed(slice.line, message);
        }
        if preamble.custom_zones.insert(tzid, (slice.hash, custom)).is_none() {
            preamble.custom_bytes += slice.bytes.len();
        }
    }

    /// Hash of all besides its own text on which the reading of an event depends. It is fixed when
    /// the first event comes.
    fn context(&mut self) -> u128 {
        if let Some(context) = self.context {
            return context;
        }
        self.feed_zone = zone_of(self.preamble().wr_timezone.as_deref(), self.options);
        let context = self.preamble().hash(self.charset, self.options);
        self.context = Some(context);
        context
    }

    /// The preamble by which events are read.
    fn preamble(&self) -> &Preamble {
        self.assumed.as_ref().unwrap_or(&self.preamble)
    }

    /// Keeps what is needed to find others of the same event.
    fn mark(&mut self, line: usize, event: &Event) {
        let mut claim = xxh3_64(event.uid.0.as_bytes());
        if let Some(original) = &event.recurrence_id {
            let original = self.instant(original);
            claim = xxh3_64_with_seed(&original.as_second().to_le_bytes(), claim);
        }
        let single = event.recurrence_id.is_none() && event.recurrence.is_empty();
        let start = || {
            let (kind, zone) = kind_and_zone(&event.start);
            let local = time::resolve(event.start.local(), &TimeZone::UTC).as_second();
            let hash = xxh3_64_with_seed(kind.as_bytes(), local.cast_unsigned());
            (xxh3_64_with_seed(zone.as_bytes(), hash) as u32).max(1)
        };
        self.marks.push(Mark {
            claim,
            sequence: event.sequence,
            modified: event
                .last_modified
                .map_or(0, |at| at.as_second().clamp(1, u32::MAX.into()) as u32),
            line: line.try_into().unwrap_or(u32::MAX),
            start: if single { start() } else { 0 },
        });
    }

    /// Of VEVENTs with the same UID and RECURRENCE-ID only the newest counts: by SEQUENCE, then
    /// LAST-MODIFIED, then place in the feed. But where nothing says which is newer, and their
    /// starts differ, they are occurrences of one series whose publisher left RECURRENCE-ID out.
    fn one_of_each(&mut self) -> (Vec<Amendment>, Vec<(usize, Warning)>) {
        let marks = std::mem::take(&mut self.marks);
        let mut order: Vec<u32> = (0..marks.len().try_into().unwrap_or(u32::MAX)).collect();
        let mark = |index: &u32| &marks[*index as usize];
        order.sort_unstable_by_key(|index| (mark(index).claim, *index));
        let (mut amendments, mut unnamed) = (Vec::new(), Vec::new());
        for group in order.chunk_by(|a, b| mark(a).claim == mark(b).claim) {
            if group.len() < 2 {
                continue;
            }
            let rank = |index: &u32| (mark(index).sequence, mark(index).modified);
            let alike = group.iter().all(|i| rank(i) == rank(&group[0]) && mark(i).start != 0);
            let mut starts = HashSet::new();
            let apart = alike && group.iter().all(|i| starts.insert(mark(i).start));
            let newest = group.iter().max_by_key(|i| (rank(i), **i));
            amendments.extend(group.iter().map(|index| Amendment {
                index: *index as usize,
                kind: match apart {
                    true => AmendmentKind::Occurrence,
                    false if Some(index) == newest => AmendmentKind::Newest,
                    false => AmendmentKind::Superseded,
                },
            }));
            if let (Some(newest), false) = (newest, apart) {
                let count = group.len();
                let line = mark(newest).line as usize;
                let message =
                    format!("this event stands in the feed {count} times; the newest counts");
                if unnamed.len() < FEED_WARNINGS {
                    unnamed.push((*newest as usize, Warning { line, event: None, message }));
                }
            }
        }
        amendments.sort_unstable_by_key(|amendment| amendment.index);
        (amendments, unnamed)
    }

    fn finish(mut self, health: Health, mut warnings: Vec<Warning>) -> Summary {
        let read = self.marks.len();
        let (amendments, unnamed) = self.one_of_each();
        let late =
            self.context.is_some_and(|c| c != self.preamble.hash(self.charset, self.options));
        let mut calendar = self.calendar;
        calendar.health = Health { unreadable: calendar.health.unreadable, ..health };
        calendar.refresh = calendar.refresh.or(self.published_ttl);
        let zone = zone_of(self.preamble.wr_timezone.as_deref(), self.options);
        calendar.newest_stamp = self.newest.time(&zone);
        calendar.warnings.append(&mut warnings);
        calendar.warnings.sort_by_key(|warning| warning.line);
        Summary {
            calendar,
            read,
            unchanged: self.unchanged,
            amendments,
            unnamed,
            present_uids: self.present_uids,
            unread: self.unread,
            again: late.then_some(self.preamble),
        }
    }
}

/// A STANDARD or DAYLIGHT of a VTIMEZONE.
fn observance(lines: &[Property<'_>]) -> Option<Observance> {
    let named = |name| lines.iter().filter(move |p| p.name == Some(name));
    let value = |name| Some(named(name).next()?.value.trim());
    let mut onsets = vec![DateValue::parse(value(Name::Dtstart)?)?.local];
    for property in named(Name::Rdate) {
        let dates = property.value.split(',');
        onsets.extend(dates.filter_map(|date| Some(DateValue::parse(date)?.local)));
    }
    let rule = value(Name::Rrule);
    let yearly = rule.and_then(Yearly::parse);
    let rule = rule.filter(|_| yearly.is_none()).map(str::to_ascii_uppercase);
    Some(Observance {
        onsets,
        before: time::parse_offset(value(Name::OffsetFrom)?)?,
        after: time::parse_offset(value(Name::OffsetTo)?)?,
        yearly,
        rule: rule.and_then(|rule| Rule::parse(&rule).ok()),
    })
}

#[cfg(test)]
mod tests;

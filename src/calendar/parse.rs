//! Slices to [`Event`]s (RFC 5545, 3.3, 3.6.1 and 3.8).
//!
//! Names and parameters are read by the `ical` crate, one line at a time; structure, values and
//! the repair of what publishers get wrong are ours. A line that cannot be used costs that line and
//! a [`Warning`]; only a missing or unreadable `DTSTART` costs the event.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use memchr::memchr;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::rule::Rule;
use super::scan::{Bracket, Component, Lines, RawLine, Scanner, Slice, Visitor};
use super::time::{self, CustomZone, Observance, Yearly};
use super::{
    Calendar, Event, Health, JoinLink, Organizer, Recurrence, Status, Uid, Warning, When, Zones,
    text,
};

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
        let summary = reader.finish(&mut sink);
        if let (Some(late), false) = (summary.again, second) {
            preamble = Some(late);
            continue;
        }
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
    pub fn push(&mut self, piece: &[u8], sink: &mut impl FnMut(Event, u128)) {
        self.take(piece, false, sink);
    }

    fn take(&mut self, piece: &[u8], last: bool, sink: &mut impl FnMut(Event, u128)) {
        let Reader { input, scanner, interpreter, is_known } = self;
        let mut feeding = Feeding { interpreter, is_known, sink };
        input.push(piece, last, &mut |text| scanner.push(text, &mut feeding));
    }

    /// Ends the body.
    pub fn finish(mut self, sink: &mut impl FnMut(Event, u128)) -> Summary {
        self.take(&[], true, sink);
        let Reader { scanner, mut interpreter, mut is_known, .. } = self;
        let mut feeding = Feeding { interpreter: &mut interpreter, is_known: &mut is_known, sink };
        let (health, warnings) = scanner.finish(&mut feeding);
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
            let wide = match start {
                [Some(0xff), Some(0xfe)] => Some(UTF_16LE),
                [Some(0xfe), Some(0xff)] => Some(UTF_16BE),
                _ => None,
            };
            match wide {
                Some(encoding) => {
                    *self = Input::Wide(Box::new(encoding.new_decoder_without_bom_handling()));
                    piece = &piece[2 - head.len()..];
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

fn decode(decoder: &mut Decoder, piece: &[u8], last: bool, to: &mut dyn FnMut(&[u8])) {
    let most = decoder.max_utf8_buffer_length(piece.len()).unwrap_or_default();
    let mut text = String::with_capacity(most);
    let _ = decoder.decode_to_string(piece, &mut text, last);
    to(text.as_bytes());
}

/// What the scanner finds, on its way to the interpreter.
struct Feeding<'r, 'a, K, F> {
    interpreter: &'r mut Interpreter<'a>,
    is_known: &'r mut K,
    sink: &'r mut F,
}

impl<K: FnMut(u128) -> bool, F: FnMut(Event, u128)> Visitor for Feeding<'_, '_, K, F> {
    fn is_known(&mut self, hash: u128) -> bool {
        (self.is_known)(hash ^ self.interpreter.context())
    }

    fn known(&mut self, stamp: Option<RawLine<'_>>) {
        self.interpreter.unchanged += 1;
        self.interpreter.stamp(stamp);
    }

    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> bool {
        let fingerprint = slice.hash ^ self.interpreter.context();
        let Some(event) = self.interpreter.event(slice, sure) else { return false };
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
        true
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

// ---- content lines ----

/// Longest name and parameters given to the line parser, whose time grows with their square.
const HEAD_BYTES: usize = 8 * 1024;
/// Longest value kept; no text that people read is longer.
const VALUE_BYTES: usize = 256 * 1024;

/// Size of all VTIMEZONEs that are kept.
const ZONE_BYTES: usize = 1024 * 1024;
/// How deep components may lie in an event of the common form.
const NESTED: usize = 16;
/// Dates in the RDATEs and EXDATEs of one event.
const LISTED_DATES: usize = 10_000;
/// Warnings kept of one event, and of one feed.
const EVENT_WARNINGS: usize = 20;
const FEED_WARNINGS: usize = 1_000;

/// One content line (RFC 5545, 3.1).
#[derive(Clone, Debug)]
struct Property<'t> {
    line: usize,
    /// Upper case.
    name: Cow<'t, str>,
    params: Params<'t>,
    value: Cow<'t, str>,
}

/// Parameters of a content line.
#[derive(Clone, Debug)]
enum Params<'t> {
    /// As they stand, in the [plain form](plain_params), with the `;` before the first.
    Plain(Cow<'t, str>),
    /// Names in upper case, values decoded as RFC 6868 says.
    Read(Vec<(String, Vec<String>)>),
}

impl Property<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        match &self.params {
            Params::Plain(params) => plain_params(params)?
                .find(|(param, _)| param.eq_ignore_ascii_case(name))
                .map(|p| p.1),
            Params::Read(params) => {
                let (_, values) = params.iter().find(|(param, _)| param == name)?;
                values.first().map(String::as_str)
            }
        }
    }

    fn is_date(&self) -> bool {
        self.param("VALUE").is_some_and(|value| value.eq_ignore_ascii_case("DATE"))
    }
}

/// Something worth a warning, before line and event are known.
type Problem = Cow<'static, str>;

/// Reads a decoded, unfolded line; a problem beside the property means that it is not whole.
fn property<'t>(
    line: usize,
    text: Cow<'t, str>,
) -> Result<(Property<'t>, Option<Problem>), Problem> {
    let Some(colon) = value_colon(&text) else {
        return Err("a line without a colon; ignored".into());
    };
    let colon = date_colon(&text, colon).unwrap_or(colon);
    let (head, mut value) = match text {
        Cow::Borrowed(text) => (Cow::Borrowed(&text[..colon]), Cow::Borrowed(&text[colon + 1..])),
        Cow::Owned(mut text) => {
            let value = text.split_off(colon + 1);
            text.truncate(colon);
            (Cow::Owned(text), Cow::Owned(value))
        }
    };
    let end = memchr(b';', head.as_bytes()).unwrap_or(head.len());
    let name = head[..end].trim();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err("a line that does not begin with a property's name; ignored".into());
    }
    let mut problem = None;
    let name = name.to_ascii_uppercase();
    let params = if head.len() <= HEAD_BYTES && plain_params(&head[end..]).is_some() {
        Params::Plain(match head {
            Cow::Borrowed(head) => Cow::Borrowed(&head[end..]),
            Cow::Owned(mut head) => Cow::Owned(head.split_off(end)),
        })
    } else {
        Params::Read(params(&head).unwrap_or_else(|| {
            // Without its zone a date is another one.
            let (params, whole) = match is_date_name(&name) {
                true => loose_params(&head),
                false => (Vec::new(), false),
            };
            if !whole {
                let which = if params.is_empty() { "the parameters" } else { "a parameter" };
                problem = Some(format!("{which} of {name} cannot be read; ignored").into());
            }
            params
        }))
    };
    if value.len() > VALUE_BYTES {
        let cut = (0..=VALUE_BYTES).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value = Cow::Owned(value[..cut].to_owned());
        problem = Some(format!("{name} is longer than {VALUE_BYTES} bytes; cut").into());
    }
    Ok((Property { line, name: name.into(), params, value }, problem))
}

/// Parameters in the form that nearly all have: `;NAME=value` and `;NAME="value"`, with one value
/// each and no escapes. None when there is one in any other form.
fn plain_params(mut rest: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let mut check = rest;
    while !check.is_empty() {
        check = plain_param(check)?.2;
    }
    Some(std::iter::from_fn(move || {
        let (name, value, after) = plain_param(rest)?;
        rest = after;
        Some((name, value))
    }))
}

/// The first parameter, its value, and what follows.
fn plain_param(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.strip_prefix(';')?;
    let name = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'-'));
    let (name, rest) = text.split_at(name.filter(|length| *length > 0)?);
    let rest = rest.strip_prefix('=')?;
    let quoted = rest.starts_with('"');
    let (value, rest) = match quoted {
        true => {
            let end = 1 + memchr(b'"', &rest.as_bytes()[1..])?;
            (&rest[1..end], &rest[end + 1..])
        }
        false => rest.split_at(memchr(b';', rest.as_bytes()).unwrap_or(rest.len())),
    };
    let plain = |b: u8| match b {
        b'^' | b'"' | 0x7f => false,
        b',' | b':' | b'\\' | b'=' => quoted,
        b => b > b' ' || (quoted && b == b' '),
    };
    (value.bytes().all(plain) && (rest.is_empty() || rest.starts_with(';')))
        .then_some((name, value, rest))
}

/// The colon before the value: the first outside of quotes, else the first.
fn value_colon(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b':' if !quoted => return Some(at),
            _ => {}
        }
    }
    text.find(':')
}

/// Parameters of `NAME;PARAM=…`. The parser gets a value of our own, and its work counts only
/// when that value comes back.
fn params(head: &str) -> Option<Vec<(String, Vec<String>)>> {
    if head.len() > HEAD_BYTES {
        return None;
    }
    let line = format!("{head}:x");
    let property = ical::PropertyParser::from_reader(line.as_bytes()).next()?.ok()?;
    if property.value.as_deref() != Some("x") {
        return None;
    }
    let mut params = property.params.unwrap_or_default();
    for (name, values) in &mut params {
        *name = name.trim().to_owned();
        for value in values {
            *value = decode_caret(value);
        }
    }
    Some(params)
}

/// Parameters as far as they can be told apart, where the parser finds none; also says whether
/// that was all of them.
fn loose_params(head: &str) -> (Vec<(String, Vec<String>)>, bool) {
    if head.len() > HEAD_BYTES {
        return (Vec::new(), false);
    }
    let mut quoted = false;
    let parts = head.split(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let (mut params, mut whole) = (Vec::new(), true);
    for part in parts.skip(1) {
        match part.split_once('=').filter(|(name, _)| !name.trim().is_empty()) {
            Some((name, value)) => {
                let value = decode_caret(value.trim().trim_matches('"'));
                params.push((name.trim().to_ascii_uppercase(), vec![value]));
            }
            None => whole = false,
        }
    }
    (params, whole)
}

/// The colon before a date, where a parameter before it has colons of its own that should be
/// quoted: `DTSTART;TZID=UTC+05:30:20261202T120000`.
fn date_colon(text: &str, colon: usize) -> Option<usize> {
    let (name, _) = text[..colon].split_once(';')?;
    let value = &text[colon + 1..];
    memchr(b':', value.as_bytes())?;
    let is_date = |value: &str| {
        let first = value.split([',', '/']).next();
        first.is_some_and(|first| DateValue::parse(first).is_some())
    };
    if !is_date_name(name.trim()) || is_date(value) {
        return None;
    }
    let mut colons = value.match_indices(':').map(|(at, _)| colon + 1 + at);
    colons.find(|at| is_date(&text[at + 1..]))
}

fn is_date_name(name: &str) -> bool {
    const DATES: [&str; 5] = ["DTSTART", "DTEND", "RECURRENCE-ID", "EXDATE", "RDATE"];
    DATES.iter().any(|date| date.eq_ignore_ascii_case(name))
}

/// RFC 6868: `^n`, `^^`, `^'`.
fn decode_caret(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '^' {
            out.push(c);
            continue;
        }
        let rest = chars.as_str();
        let decoded = match rest.chars().next() {
            Some('n' | 'N') => '\n',
            Some('^') => '^',
            Some('\'') => '"',
            _ => {
                out.push('^');
                continue;
            }
        };
        out.push(decoded);
        chars.next();
    }
    out
}

// ---- values ----

/// DATE or DATE-TIME (RFC 5545, 3.3.4 and 3.3.5), and ISO 8601's longer spelling of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DateValue {
    local: civil::DateTime,
    /// No time was given.
    is_date: bool,
    /// `Z`, or an offset that should not be there.
    offset: Option<Offset>,
}

impl DateValue {
    fn parse(text: &str) -> Option<DateValue> {
        let text = text.trim();
        let ([year, month, day], rest) = digits(text, '-', [4, 2, 2])?;
        let date = civil::Date::new(year, month.try_into().ok()?, day.try_into().ok()?);
        let date = date.ok()?;
        let midnight = date.to_datetime(civil::Time::midnight());
        let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
            let date = DateValue { local: midnight, is_date: true, offset: None };
            return rest.is_empty().then_some(date);
        };
        let ([hour, minute, second], rest) = digits(rest, ':', [2, 2, 2]).or_else(|| {
            let ([hour, minute], rest) = digits(rest, ':', [2, 2])?;
            Some(([hour, minute, 0], rest))
        })?;
        let rest = rest
            .strip_prefix('.')
            .map_or(rest, |fraction| fraction.trim_start_matches(|c: char| c.is_ascii_digit()));
        let offset = match rest.trim() {
            "" => None,
            "Z" | "z" => Some(Offset::UTC),
            offset => Some(time::parse_offset(offset)?),
        };
        let local = if (hour, minute, second) == (24, 0, 0) {
            midnight.checked_add(jiff::Span::new().days(1)).ok()?
        } else {
            // A leap second is the second before it (RFC 5545, 3.3.12).
            let second = if second == 60 { 59 } else { second };
            let [hour, minute, second] = [hour, minute, second].map(|n| i8::try_from(n).ok());
            date.to_datetime(civil::Time::new(hour?, minute?, second?, 0).ok()?)
        };
        Some(DateValue { local, is_date: false, offset })
    }
}

/// Numbers of fixed width, one after another, with the separator between all or none of them.
fn digits<const N: usize>(
    text: &str,
    separator: char,
    widths: [usize; N],
) -> Option<([i16; N], &str)> {
    let (mut rest, mut numbers) = (text, [0; N]);
    let separated = text.get(widths[0]..)?.starts_with(separator);
    for (index, (number, width)) in numbers.iter_mut().zip(widths).enumerate() {
        if index > 0 && separated {
            rest = rest.strip_prefix(separator)?;
        }
        let figures = rest.get(..width).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
        *number = figures.bytes().fold(0, |sum, figure| sum * 10 + i16::from(figure - b'0'));
        rest = &rest[width..];
    }
    Some((numbers, rest))
}

/// DURATION (RFC 5545, 3.3.6): days are calendar days, the rest is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DurationValue {
    days: i64,
    seconds: i64,
}

impl DurationValue {
    fn parse(text: &str) -> Option<DurationValue> {
        let text = text.trim().to_ascii_uppercase();
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty())?;
        let mut value = DurationValue::default();
        let mut in_time = false;
        while !rest.is_empty() {
            if let Some(time) = rest.strip_prefix('T') {
                (in_time, rest) = (true, time);
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: i64 = rest.get(..end)?.parse().ok().filter(|n| *n <= 1_000_000_000)?;
            let unit = rest.as_bytes()[end];
            match (unit, in_time) {
                (b'W', false) => value.days += number * 7,
                (b'D', false) => value.days += number,
                (b'H', true) => value.seconds += number * 3600,
                (b'M', true) => value.seconds += number * 60,
                (b'S', true) => value.seconds += number,
                _ => return None,
            }
            rest = &rest[end + 1..];
        }
        Some(DurationValue { days: value.days * sign, seconds: value.seconds * sign })
    }

    fn exact(self) -> SignedDuration {
        SignedDuration::from_secs(self.days * 86_400 + self.seconds)
    }
}

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
    fn hash(&self, charset: &'static Encoding) -> u128 {
        let mut hasher = Xxh3::new();
        for part in [
            env!("CARGO_PKG_VERSION"),
            charset.name(),
            self.prodid.as_str(),
            self.wr_timezone.as_deref().unwrap_or_default(),
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

/// Whether a line has the name of a property that is not read. What does not begin like a line is
/// left to be warned of.
fn is_of_no_use(line: &[u8]) -> bool {
    const USED: [&[u8]; 26] = [
        b"ATTACH",
        b"CATEGORIES",
        b"CONFERENCE",
        b"CREATED",
        b"DESCRIPTION",
        b"DTEND",
        b"DTSTART",
        b"DURATION",
        b"EXDATE",
        b"EXRULE",
        b"IMAGE",
        b"LAST-MODIFIED",
        b"LOCATION",
        b"ORGANIZER",
        b"RDATE",
        b"RECURRENCE-ID",
        b"RRULE",
        b"SEQUENCE",
        b"STATUS",
        b"SUMMARY",
        b"UID",
        b"URL",
        b"X-ALT-DESC",
        b"X-GOOGLE-CONFERENCE",
        b"X-MICROSOFT-CDO-ALLDAYEVENT",
        b"X-MICROSOFT-SKYPETEAMSMEETINGURL",
    ];
    let end = line.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'-'));
    let name = &line[..end.unwrap_or(0)];
    line.get(name.len()) == Some(&b':')
        && !name.is_empty()
        && !USED.iter().any(|used| used.eq_ignore_ascii_case(name))
}

/// Whether a line is the last one of a slice.
fn ends(line: &RawLine<'_>, slice: &Slice<'_>) -> bool {
    line.bytes.as_ptr_range().end == slice.bytes.as_ptr_range().end
}

/// The event being read, for its warnings.
struct Current<'a> {
    name: Option<String>,
    warnings: &'a mut Vec<Warning>,
}

impl Current<'_> {
    fn warn(&mut self, line: usize, message: impl Into<String>) {
        if self.warnings.len() < EVENT_WARNINGS {
            let event = self.name.clone();
            self.warnings.push(Warning { line, event, message: message.into() });
        }
    }
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
        }
    }

    /// Unfolds and decodes; also says whether it was not UTF-8.
    fn decode<'t>(&self, line: &RawLine<'t>) -> (Cow<'t, str>, bool) {
        let foreign = |bytes: &[u8]| {
            let text = self.charset.decode_without_bom_handling(bytes).0;
            (Cow::Owned(text.into_owned()), true)
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
        match &*property.name {
            "X-WR-CALNAME" | "NAME" if calendar.name.is_none() => {
                let name = text::single_line(&text::clean(text::unescape(value)));
                calendar.name = (!name.is_empty()).then_some(name);
            }
            "PRODID" if calendar.prodid.is_empty() => {
                calendar.prodid = text::single_line(&text::clean(value));
                preamble.prodid.clone_from(&calendar.prodid);
            }
            "METHOD" => preamble.cancels |= value.eq_ignore_ascii_case("CANCEL"),
            "X-WR-TIMEZONE" if calendar.timezone.is_none() && !value.is_empty() => {
                calendar.timezone = self.options.zones.canonical(value);
                preamble.wr_timezone.clone_from(&calendar.timezone);
                if calendar.timezone.is_none() {
                    let name = printable(value);
                    self.warn_feed(raw.number, format!("X-WR-TIMEZONE {name} is not known"));
                }
            }
            "REFRESH-INTERVAL" | "X-PUBLISHED-TTL" => {
                let interval = DurationValue::parse(value)
                    .map(DurationValue::exact)
                    .filter(SignedDuration::is_positive);
                let slot = match &*property.name {
                    "REFRESH-INTERVAL" => &mut calendar.refresh,
                    _ => &mut self.published_ttl,
                };
                *slot = slot.or(interval);
                if interval.is_none() && !value.is_empty() {
                    let message = format!("{} is not a duration; ignored", property.name);
                    self.warn_feed(raw.number, message);
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
                    match (&mut part, &*property.name) {
                        (Some(lines), _) => lines.push(property),
                        (None, "TZID") => tzid = Some(property.value.trim().to_owned()),
                        (None, "X-LIC-LOCATION") => location = Some(property.value.into_owned()),
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
        let context = self.preamble().hash(self.charset);
        self.context = Some(context);
        context
    }

    /// The preamble by which events are read.
    fn preamble(&self) -> &Preamble {
        self.assumed.as_ref().unwrap_or(&self.preamble)
    }

    /// Keeps what is needed to find others of the same event.
    fn mark(&mut self, line: usize, event: &Event) {
        let mut hasher = Xxh3::new();
        hasher.update(event.uid.0.as_bytes());
        if let Some(original) = &event.recurrence_id {
            let original = original.instant(self.options.zones, &self.feed_zone);
            hasher.update(&original.as_second().to_le_bytes());
        }
        let single = event.recurrence_id.is_none() && event.recurrence.is_empty();
        let start = || {
            let mut hasher = DefaultHasher::new();
            event.start.hash(&mut hasher);
            (hasher.finish() as u32).max(1)
        };
        self.marks.push(Mark {
            claim: hasher.digest(),
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
    fn one_of_each(&mut self) -> Vec<Amendment> {
        let marks = std::mem::take(&mut self.marks);
        let mut order: Vec<u32> = (0..marks.len().try_into().unwrap_or(u32::MAX)).collect();
        let mark = |index: &u32| &marks[*index as usize];
        order.sort_unstable_by_key(|index| (mark(index).claim, *index));
        let mut amendments = Vec::new();
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
                self.warn_feed(line, message);
            }
        }
        amendments.sort_unstable_by_key(|amendment| amendment.index);
        amendments
    }

    fn finish(mut self, health: Health, mut warnings: Vec<Warning>) -> Summary {
        let read = self.marks.len();
        let amendments = self.one_of_each();
        let late = self.context.is_some_and(|c| c != self.preamble.hash(self.charset));
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
            present_uids: self.present_uids,
            unread: self.unread,
            again: late.then_some(self.preamble),
        }
    }

    /// Reads one VEVENT; when that fails, its UID. None for what is not `sure` to be one event and
    /// turns out to be more, or not whole.
    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<Result<Event, Option<Uid>>> {
        let mut properties = Vec::new();
        let mut problems: Vec<(usize, Problem)> = Vec::new();
        let mut inner = Vec::new();
        let mut foreign = false;
        let mut lines = Lines::new(slice.bytes, slice.line);
        let _begin = lines.next();
        for raw in lines {
            match raw.bracket() {
                Bracket::Begin(Component::Other(name)) if sure || inner.len() < NESTED => {
                    inner.push(name);
                }
                Bracket::End(Component::Other(name)) if sure || inner.last() == Some(&name) => {
                    inner.pop();
                }
                Bracket::End(Component::Event) if sure || ends(&raw, slice) && inner.is_empty() => {
                    break;
                }
                Bracket::Begin(_) | Bracket::End(_) if !sure => return None,
                Bracket::Begin(_) | Bracket::End(_) => {}
                Bracket::None if !inner.is_empty() || raw.bytes.trim_ascii().is_empty() => {}
                Bracket::None if is_of_no_use(raw.bytes) => {}
                Bracket::None => {
                    let (text, decoded) = self.decode(&raw);
                    if decoded && !foreign {
                        foreign = true;
                        let charset = self.charset.name();
                        let message = format!("not UTF-8; read as {charset}");
                        problems.push((raw.number, message.into()));
                    }
                    match property(raw.number, text) {
                        Ok((property, problem)) => {
                            problems.extend(problem.map(|problem| (raw.number, problem)));
                            properties.push(property);
                        }
                        Err(problem) => problems.push((raw.number, problem)),
                    }
                }
            }
        }
        let mut warnings = Vec::new();
        let first = |name: &str| properties.iter().find(|p| p.name == name);
        let uid = first("UID").and_then(|property| uid_of(&property.value));
        let title = || {
            let title = text::single_line(&text::clean(text::unescape(&first("SUMMARY")?.value)));
            (!title.is_empty()).then_some(title)
        };
        let mut current = Current {
            name: uid.as_ref().map(|uid| uid.0.clone()).or_else(title),
            warnings: &mut warnings,
        };
        for (line, problem) in problems {
            current.warn(line, problem);
        }
        let event = self.build(slice.line, &properties, uid.clone(), &mut current);
        for warning in warnings {
            self.keep(warning);
        }
        Some(event.ok_or(uid))
    }

    fn build(
        &mut self,
        line: usize,
        properties: &[Property<'_>],
        uid: Option<Uid>,
        current: &mut Current<'_>,
    ) -> Option<Event> {
        let all = |name: &'static str| properties.iter().filter(move |p| p.name == name);
        let filled = |name: &'static str| all(name).find(|p| !p.value.trim().is_empty());

        let mut recurrence = Recurrence::default();
        for property in properties {
            let rules = match &*property.name {
                "RRULE" => &mut recurrence.rules,
                "EXRULE" => &mut recurrence.exrules,
                _ => continue,
            };
            let rule = text::single_line(&text::clean(&*property.value)).to_ascii_uppercase();
            if !rule.is_empty() {
                if let Err(problem) = Rule::parse(&rule) {
                    let rule = printable(&rule);
                    current.warn(property.line, format!("{} {rule}: {problem}", property.name));
                }
                rules.push(rule);
            }
        }
        let recurs = !recurrence.rules.is_empty() || filled("RDATE").is_some();

        let Some(dtstart) = filled("DTSTART") else {
            current.warn(line, "has no DTSTART; left out");
            return None;
        };
        let Some(start) = self.when(dtstart, &dtstart.value, recurs, current) else {
            let value = printable(&dtstart.value);
            current.warn(dtstart.line, format!("DTSTART {value} is not a date; left out"));
            return None;
        };
        for property in properties.iter().filter(|p| p.name == "RRULE" || p.name == "EXRULE") {
            let rule = Rule::parse(&property.value.trim().to_ascii_uppercase());
            if let Some(fault) = rule.ok().and_then(|rule| rule.fault(&start)) {
                let rule = printable(&property.value);
                current.warn(property.line, format!("{} {rule}: {fault}", property.name));
            }
        }
        let end = self.end(&start, filled("DTEND"), filled("DURATION"), recurs, current);
        let flagged = filled("X-MICROSOFT-CDO-ALLDAYEVENT")
            .is_some_and(|property| property.value.trim().eq_ignore_ascii_case("TRUE"));
        let (start, end) = all_day_in_disguise(start, end, flagged);

        for property in properties.iter().filter(|p| p.name == "RDATE" || p.name == "EXDATE") {
            for value in property.value.split(',').filter(|value| !value.trim().is_empty()) {
                if recurrence.rdates.len() + recurrence.exdates.len() >= LISTED_DATES {
                    let message = format!("lists more than {LISTED_DATES} dates; others ignored");
                    current.warn(property.line, message);
                    break;
                }
                let read = if property.name == "RDATE" {
                    self.period(property, value, recurs, current)
                        .map(|date| recurrence.rdates.push(date))
                } else {
                    self.when(property, value, recurs, current)
                        .map(|date| recurrence.exdates.push(date))
                };
                if read.is_none() {
                    bad_date(property, value, current);
                }
            }
        }
        normalise(&mut recurrence);

        let recurrence_id = filled("RECURRENCE-ID").and_then(|property| {
            let when = self.when(property, &property.value, recurs, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            when.map(|when| {
                let range = property.param("RANGE").unwrap_or_default();
                (when, range.eq_ignore_ascii_case("THISANDFUTURE"))
            })
        });

        let stated = filled("SUMMARY").map(|p| text::single_line(&plain(p))).unwrap_or_default();
        let (said, summary) = match text::status_prefix(&stated) {
            Some((status, rest)) => (Some(status), text::single_line(rest)),
            None => (None, stated),
        };
        let mut status = filled("STATUS").map_or(Status::Confirmed, |property| {
            match property.value.trim().to_ascii_uppercase().as_str() {
                "CONFIRMED" => Status::Confirmed,
                "TENTATIVE" => Status::Tentative,
                "CANCELLED" | "CANCELED" => Status::Cancelled,
                // Seen, though not in RFC 5545.
                "POSTPONED" => Status::Postponed,
                other => {
                    let value = printable(other);
                    current.warn(property.line, format!("STATUS {value} is not known; ignored"));
                    Status::Confirmed
                }
            }
        });
        if status.is_on() {
            status = said.unwrap_or(status);
        }
        if self.preamble().cancels {
            status = Status::Cancelled;
        }

        let raw_description = filled("DESCRIPTION").map(plain).unwrap_or_default();
        let raw_description = match raw_description.trim().is_empty() {
            true => filled("X-ALT-DESC").map(plain).unwrap_or_default(),
            false => raw_description,
        };
        let description = if text::looks_like_html(&raw_description) {
            text::paragraphs(&text::clean(text::html_to_text(&raw_description)))
        } else {
            text::paragraphs(&raw_description)
        };
        let location = filled("LOCATION").map(|p| text::join_lines(&plain(p))).unwrap_or_default();

        let mut url = None;
        if let Some(property) = filled("URL") {
            url = text::http_url(&property.value.replace("\\,", ",").replace("\\;", ";"));
            if url.is_none() {
                let value = printable(&property.value);
                current.warn(property.line, format!("URL {value} is no http(s) address; ignored"));
            }
        }
        let (mut categories, mut categories_raw) = (Vec::new(), Vec::new());
        for property in all("CATEGORIES") {
            let tidy = |value: &str| text::single_line(&text::clean(text::unescape(value)));
            categories.extend(text::split_list(&property.value).into_iter().map(tidy));
            categories_raw.push(tidy(&property.value));
        }
        for list in [&mut categories, &mut categories_raw] {
            list.retain(|category: &String| !category.is_empty());
            list.sort();
            list.dedup();
        }

        let sequence = filled("SEQUENCE").map_or(0, |property| {
            property.value.trim().parse().unwrap_or_else(|_| {
                current.warn(property.line, "SEQUENCE is not a number; ignored");
                0
            })
        });
        let mut stamp = |name: &'static str| {
            let property = filled(name)?;
            let when = self.when(property, &property.value, false, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            Some(when?.instant(self.options.zones, &self.feed_zone))
        };
        let (created, last_modified) = (stamp("CREATED"), stamp("LAST-MODIFIED"));
        let uid = uid.unwrap_or_else(|| {
            let uid = derived_uid(&start, &summary);
            current.warn(line, format!("has no UID; called {uid}"));
            uid
        });
        let (recurrence_id, this_and_future) =
            recurrence_id.map_or((None, false), |(when, future)| (Some(when), future));
        let join = meeting(properties, &raw_description);
        let organizer = filled("ORGANIZER").and_then(|p| self.organizer(p));
        let image = properties.iter().find_map(image);
        Some(Event {
            uid,
            recurrence_id,
            this_and_future,
            sequence,
            status,
            judged: None,
            start,
            end,
            summary,
            description,
            location,
            url,
            categories,
            categories_raw,
            organizer,
            image,
            join,
            recurrence,
            created,
            last_modified,
        })
    }

    /// A DATE or DATE-TIME with its zone.
    fn when(
        &mut self,
        property: &Property<'_>,
        value: &str,
        recurs: bool,
        current: &mut Current<'_>,
    ) -> Option<When> {
        let date = DateValue::parse(value)?;
        if date.is_date || property.is_date() {
            return Some(When::AllDay(date.local.date()));
        }
        let local = date.local;
        if let Some(offset) = date.offset {
            return Some(When::Zoned { local, zone: time::offset_name(offset) });
        }
        let Some(tzid) = property.param("TZID").filter(|tzid| !tzid.trim().is_empty()) else {
            return Some(When::Floating(local));
        };
        if let Some(zone) = self.zone_name(tzid) {
            return Some(When::Zoned { local, zone });
        }
        match self.preamble().custom_zones.get(tzid.trim()) {
            Some((_, Custom::Named(zone))) => {
                return Some(When::Zoned { local, zone: zone.clone() });
            }
            Some((_, Custom::Rules(rules))) => {
                if let Some(zone) = rules.name(local, recurs) {
                    return Some(When::Zoned { local, zone });
                }
            }
            None => {}
        }
        if let Some(offset) = time::stated_offset(tzid) {
            return Some(When::Zoned { local, zone: time::offset_name(offset) });
        }
        let taken = match &self.preamble().wr_timezone {
            Some(zone) => zone.as_str(),
            None => "the feed's zone",
        };
        let message = format!("time zone {} is not known; taken to be {taken}", printable(tzid));
        if !current.warnings.iter().any(|warning| warning.message == message) {
            current.warn(property.line, message);
        }
        Some(match &self.preamble().wr_timezone {
            Some(zone) => When::Zoned { local, zone: zone.clone() },
            None => When::Floating(local),
        })
    }

    fn zone_name(&mut self, tzid: &str) -> Option<String> {
        if let Some(known) = self.zone_names.get(tzid) {
            return known.clone();
        }
        let name = self.options.zones.canonical(tzid);
        self.zone_names.insert(tzid.to_owned(), name.clone());
        name
    }

    fn instant(&self, when: &When) -> Timestamp {
        when.instant(self.options.zones, &self.feed_zone)
    }

    /// The exclusive end (RFC 5545, 3.6.1).
    fn end(
        &mut self,
        start: &When,
        dtend: Option<&Property<'_>>,
        duration: Option<&Property<'_>>,
        recurs: bool,
        current: &mut Current<'_>,
    ) -> When {
        let mut end = None;
        if let Some(property) = dtend {
            end = self.when(property, &property.value, recurs, current);
            if end.is_none() {
                bad_date(property, &property.value, current);
            }
        }
        if let (None, Some(property)) = (&end, duration) {
            end = DurationValue::parse(&property.value).and_then(|value| self.after(start, value));
            if end.is_none() {
                current.warn(property.line, "DURATION cannot be read; ignored");
            }
        }
        let line = dtend.or(duration).map_or(0, |property| property.line);
        let default = match start {
            When::AllDay(date) => When::AllDay(date.tomorrow().unwrap_or(*date)),
            start => start.clone(),
        };
        let Some(end) = end else { return default };
        match (start, end) {
            (When::AllDay(start), When::AllDay(end)) => {
                if end < *start {
                    current.warn(line, "ends before it starts; taken to last one day");
                }
                // An end on the same day is meant to include it.
                if end <= *start { default } else { When::AllDay(end) }
            }
            (When::AllDay(start), end) => {
                current.warn(line, "starts with a date but ends with a time; read as dates");
                let local = end.local();
                let whole = local.time() == civil::Time::midnight();
                let date = if whole { Ok(local.date()) } else { local.date().tomorrow() };
                date.ok().filter(|date| date > start).map_or(default, When::AllDay)
            }
            (start, When::AllDay(date)) => {
                current.warn(line, "starts with a time but ends with a date");
                let midnight = date.to_datetime(civil::Time::midnight());
                if midnight < start.local() { default } else { with_local(start, midnight) }
            }
            (start, end) => {
                // A time without a zone means that of the time beside it.
                let end = match (start, end) {
                    (When::Zoned { .. }, When::Floating(local)) => with_local(start, local),
                    (When::Floating(_), end @ When::Zoned { .. }) => {
                        When::Floating(self.feed_zone.to_datetime(self.instant(&end)))
                    }
                    (_, end) => end,
                };
                if self.instant(&end) < self.instant(start) {
                    current.warn(line, "ends before it starts; its end is ignored");
                    return default;
                }
                end
            }
        }
    }

    /// `start` plus a duration: days by the calendar, the rest by the clock.
    fn after(&self, start: &When, value: DurationValue) -> Option<When> {
        let span = jiff::Span::new().try_days(value.days).ok()?;
        if let When::AllDay(date) = start {
            let more = value.seconds.div_euclid(86_400) + i64::from(value.seconds % 86_400 != 0);
            let span = span.try_days(value.days.checked_add(more)?).ok()?;
            return Some(When::AllDay(date.checked_add(span).ok()?));
        }
        let local = start.local().checked_add(span).ok()?;
        if value.seconds == 0 {
            return Some(with_local(start, local));
        }
        let zone = match start {
            When::Zoned { zone, .. } => self.options.zones.get(zone),
            _ => None,
        };
        let zone = zone.as_ref().unwrap_or(&self.feed_zone);
        let instant = time::resolve(local, zone)
            .checked_add(SignedDuration::from_secs(value.seconds))
            .ok()?;
        let local = zone.to_datetime(instant);
        // A wall time that comes twice means the first; the second must be named otherwise.
        Some(match time::resolve(local, zone) == instant {
            true => with_local(start, local),
            false => When::Zoned { local: TimeZone::UTC.to_datetime(instant), zone: "UTC".into() },
        })
    }

    /// A value of RDATE: a date, or a PERIOD with its end (RFC 5545, 3.3.9).
    fn period(
        &mut self,
        property: &Property<'_>,
        value: &str,
        recurs: bool,
        current: &mut Current<'_>,
    ) -> Option<(When, Option<When>)> {
        let Some((start, end)) = value.split_once('/') else {
            return Some((self.when(property, value, recurs, current)?, None));
        };
        let start = self.when(property, start, recurs, current)?;
        let end = match DurationValue::parse(end) {
            Some(duration) => self.after(&start, duration)?,
            None => self.when(property, end, recurs, current)?,
        };
        (self.instant(&end) >= self.instant(&start)).then_some((start, Some(end)))
    }

    fn organizer(&self, property: &Property<'_>) -> Option<Organizer> {
        let name = property.param("CN").unwrap_or_default();
        let name = name.trim().trim_matches(['"', '\'']);
        // The Events Calendar writes the name as if it were part of an address; others may.
        let encoded = self.preamble().prodid.contains("ECPv") || is_percent_encoded(name);
        let decoded = if encoded { text::percent_decode(name) } else { None };
        let name = text::single_line(&text::clean(decoded.as_deref().unwrap_or(name)));
        let value = property.value.trim();
        let address = match value.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => &value[7..],
            _ => value,
        };
        let address = text::percent_decode(address).unwrap_or_else(|| address.to_owned());
        let is_address = address.split('@').count() == 2
            && !address
                .contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;:\"".contains(c));
        let email = if is_address { address } else { String::new() };
        (!name.is_empty() || !email.is_empty()).then_some(Organizer { name, email })
    }
}

fn bad_date(property: &Property<'_>, value: &str, current: &mut Current<'_>) {
    let message = format!("{} {} is not a date; ignored", property.name, printable(value));
    current.warn(property.line, message);
}

/// The start of a hostile or long value, for a warning.
fn printable(value: &str) -> String {
    let value = text::single_line(&text::clean(value));
    let short: String = value.chars().take(60).collect();
    if short.len() < value.len() { format!("{short}…") } else { short }
}

/// A TEXT value, decoded and without what cannot be seen.
fn plain(property: &Property<'_>) -> String {
    text::clean(text::unescape(&property.value))
}

fn uid_of(value: &str) -> Option<Uid> {
    let uid = text::single_line(&text::clean(value));
    (!uid.is_empty()).then_some(Uid(uid))
}

fn derived_uid(start: &When, summary: &str) -> Uid {
    let (kind, zone) = match start {
        When::AllDay(_) => ("date", ""),
        When::Zoned { zone, .. } => ("zoned", zone.as_str()),
        When::Floating(_) => ("floating", ""),
    };
    let identity = format!("{kind}\0{}\0{zone}\0{summary}", start.local());
    Uid(format!("beadle-{:016x}", xxh3_64(identity.as_bytes())))
}

fn with_local(when: &When, local: civil::DateTime) -> When {
    match when {
        When::Zoned { zone, .. } => When::Zoned { local, zone: zone.clone() },
        _ => When::Floating(local),
    }
}

/// 00:00–23:59 of one zone is an all-day event that its publisher's software could not say
/// better, and so is 00:00–00:00 of another day; but not in UTC, whose midnight is hardly anybody's,
/// unless Microsoft's flag is beside it, with which it may even be the same day.
fn all_day_in_disguise(start: When, end: When, flagged: bool) -> (When, When) {
    let same_zone = match (&start, &end) {
        (When::Zoned { zone: a, .. }, When::Zoned { zone: b, .. }) => a == b,
        (When::Floating(_), When::Floating(_)) => true,
        _ => false,
    };
    let is_utc = matches!(&start, When::Zoned { zone, .. } if zone == "UTC");
    let (from, to) = (start.local(), end.local());
    let midnight = civil::Time::midnight();
    if !same_zone || from.time() != midnight {
        return (start, end);
    }
    let last = if to.hour() == 23 && to.minute() == 59 && to >= from {
        to.date().tomorrow().ok()
    } else if to.time() == midnight && (flagged || to > from && !is_utc) {
        let one_day = from.date().tomorrow().ok();
        if to > from { Some(to.date()) } else { one_day }
    } else {
        None
    };
    match last {
        Some(last) => (When::AllDay(from.date()), When::AllDay(last)),
        None => (start, end),
    }
}

/// In an order of its own, so that the order in the feed does not matter.
fn normalise(recurrence: &mut Recurrence) {
    let key = |when: &When| {
        let zone = match when {
            When::Zoned { zone, .. } => zone.clone(),
            When::AllDay(_) => "date".to_owned(),
            When::Floating(_) => String::new(),
        };
        (when.local(), zone)
    };
    recurrence.rules.sort();
    recurrence.rules.dedup();
    recurrence.exrules.sort();
    recurrence.exrules.dedup();
    recurrence.exdates.sort_by_cached_key(key);
    recurrence.exdates.dedup();
    recurrence.rdates.sort_by_cached_key(|(start, end)| (key(start), end.as_ref().map(key)));
    recurrence.rdates.dedup();
}

/// Every `%` begins an escape, the whole is UTF-8, and an escape stands for a sign that a name
/// need not have encoded.
fn is_percent_encoded(name: &str) -> bool {
    let hex = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let escapes: Vec<_> = name.split('%').skip(1).map(|rest| rest.get(..2)).collect();
    !escapes.is_empty()
        && escapes.iter().all(|escape| escape.is_some_and(hex))
        && text::percent_decode(name).is_some()
}

/// The first way into a meeting, best source first.
fn meeting(properties: &[Property<'_>], description: &str) -> Option<JoinLink> {
    let values = |name: &'static str| {
        properties.iter().filter(move |p| p.name == name).map(|p| text::unescape(p.value.trim()))
    };
    for name in ["CONFERENCE", "X-GOOGLE-CONFERENCE", "X-MICROSOFT-SKYPETEAMSMEETINGURL"] {
        for value in values(name) {
            let other = || {
                let url = text::http_url(&value)?;
                Some(JoinLink { service: "Online meeting".to_owned(), url })
            };
            if let Some(link) = text::join_link(&value).or_else(other) {
                return Some(link);
            }
        }
    }
    values("URL")
        .chain(values("LOCATION"))
        .find_map(|value| text::join_link(&text::clean(&value)))
        .or_else(|| match description.contains("&amp;") {
            true => text::join_link(&description.replace("&amp;", "&")),
            false => text::join_link(description),
        })
}

/// An http(s) picture (RFC 5545, 3.8.1.1; RFC 7986, 5.10).
fn image(property: &Property<'_>) -> Option<String> {
    const EXTENSIONS: [&str; 7] = [".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"];
    let url = match &*property.name {
        "IMAGE" | "ATTACH" => text::http_url(&property.value)?,
        _ => return None,
    };
    if property.name == "IMAGE" {
        return Some(url);
    }
    let kind = property.param("FMTTYPE").unwrap_or_default().to_ascii_lowercase();
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let by_name = kind.is_empty() && EXTENSIONS.iter().any(|extension| path.ends_with(extension));
    (kind.starts_with("image/") || by_name).then_some(url)
}

/// A STANDARD or DAYLIGHT of a VTIMEZONE.
fn observance(lines: &[Property<'_>]) -> Option<Observance> {
    let value = |name: &str| Some(lines.iter().find(|p| p.name == name)?.value.trim());
    let mut onsets = vec![DateValue::parse(value("DTSTART")?)?.local];
    for property in lines.iter().filter(|property| property.name == "RDATE") {
        let dates = property.value.split(',');
        onsets.extend(dates.filter_map(|date| Some(DateValue::parse(date)?.local)));
    }
    let rule = value("RRULE");
    let yearly = rule.and_then(Yearly::parse);
    let rule = rule.filter(|_| yearly.is_none()).map(str::to_ascii_uppercase);
    Some(Observance {
        onsets,
        before: time::parse_offset(value("TZOFFSETFROM")?)?,
        after: time::parse_offset(value("TZOFFSETTO")?)?,
        yearly,
        rule: rule.and_then(|rule| Rule::parse(&rule).ok()),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::PathBuf;

    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::super::{Health, Window, recur};
    use super::*;

    /// Reads with an audience in New York.
    fn read_ny(body: impl AsRef<[u8]>) -> Calendar {
        let zones = Zones::default();
        let audience = zones.get("America/New_York").unwrap();
        let options =
            ReadOptions { zones: &zones, feed_zone: None, audience_zone: &audience, charset: None };
        read_all(body.as_ref(), &options)
    }

    /// A folder of real exports kept outside of the repository; `None` where it is absent.
    fn shared(path: &str) -> Option<PathBuf> {
        let base = std::env::var_os("BEADLE_SHARED").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
            PathBuf::from,
        );
        let path = base.join(path);
        if !path.exists() {
            eprintln!("skipped: {} is absent", path.display());
            return None;
        }
        Some(path)
    }

    /// What was read, in few words: one line for each event, then what else is worth a look.
    fn sketch(calendar: &Calendar) -> String {
        let mut out = String::new();
        for event in &calendar.events {
            let show = |when: &When| match when {
                When::AllDay(date) => date.to_string(),
                When::Zoned { local, zone } => format!("{local}[{zone}]"),
                When::Floating(local) => local.to_string(),
            };
            let _ = write!(out, "{} {}", event.uid, show(&event.start));
            if event.end != event.start {
                let _ = write!(out, " to {}", show(&event.end));
            }
            let _ = write!(out, " {:?}", event.summary);
            let mut say = |name: &str, text: String| {
                if !text.is_empty() {
                    let _ = write!(out, " {name}={text}");
                }
            };
            if event.status != Status::Confirmed {
                say("status", event.status.as_str().to_owned());
            }
            say("id", event.recurrence_id.as_ref().map(show).unwrap_or_default());
            say("future", if event.this_and_future { "yes".to_owned() } else { String::new() });
            if !event.description.is_empty() {
                say("text", format!("{:?}", event.description));
            }
            say("at", event.location.clone());
            say("url", event.url.clone().unwrap_or_default());
            say("categories", event.categories.join("|"));
            say("raw", event.categories_raw.join("|"));
            if let Some(Organizer { name, email }) = &event.organizer {
                say("by", format!("{name:?} <{email}>"));
            }
            say("image", event.image.clone().unwrap_or_default());
            if let Some(JoinLink { service, url }) = &event.join {
                say("join", format!("{service}:{url}"));
            }
            if !event.recurrence.is_empty() {
                let Recurrence { rules, rdates, exdates, .. } = &event.recurrence;
                say("rules", rules.join("|"));
                let period = |(a, b): &(When, Option<When>)| {
                    format!("{}/{}", show(a), b.as_ref().map(show).unwrap_or_default())
                };
                say("rdates", rdates.iter().map(period).collect::<Vec<_>>().join("|"));
                say("exdates", exdates.iter().map(show).collect::<Vec<_>>().join("|"));
            }
            out.push('\n');
        }
        for warning in &calendar.warnings {
            let _ = writeln!(out, "! {warning}");
        }
        let Health { complete, unreadable, .. } = calendar.health;
        if !complete || unreadable > 0 {
            let _ = writeln!(out, "complete: {complete}, unreadable: {unreadable}");
        }
        out
    }

    /// A feed of ours with one quirk, after which the file is named.
    macro_rules! fixture {
        ($name:literal) => {
            sketch(&read_ny(include_bytes!(concat!("../../tests/feeds/", $name, ".ics"))))
        };
    }

    #[test]
    fn all_day_in_disguise() {
        assert_snapshot!(fixture!("all-day-in-disguise"), @r#"
        1@example.edu 2026-12-02 to 2026-12-03 ""
        2@example.edu 2026-12-02 to 2026-12-05 ""
        3@example.edu 2026-12-02 to 2026-12-03 ""
        4@example.edu 2026-12-02 to 2026-12-03 ""
        5@example.edu 2026-12-02 to 2026-12-03 ""
        6@example.edu 2026-12-02 to 2026-12-03 ""
        7@example.edu 2026-12-02 to 2026-12-05 ""
        8@example.edu 2026-12-02 to 2026-12-04 ""
        "#);
    }

    #[test]
    fn alt_description() {
        assert_snapshot!(fixture!("alt-description"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "" text="Hello\nthere""#);
    }

    #[test]
    fn bad_dates() {
        assert_snapshot!(fixture!("bad-dates"), @r#"
        4@example.edu 2026-12-02T12:00:00[America/New_York] "Good"
        ! line 6: event 1@example.edu: DTSTART 20261399 is not a date; left out
        ! line 9: event 2@example.edu: has no DTSTART; left out
        ! line 14: event No name: DTSTART nonsense is not a date; left out
        ! line 19: event 3@example.edu: DTSTART 20261202T250000Z is not a date; left out
        complete: true, unreadable: 1
        "#);
    }

    #[test]
    fn bad_lines() {
        assert_snapshot!(fixture!("bad-lines"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk" by="" <a@example.edu>
        2@example.edu 2026-12-02T12:00:00[America/New_York] "Other"
        ! line 8: event 1@example.edu: a line without a colon; ignored
        ! line 9: event 1@example.edu: a line that does not begin with a property's name; ignored
        ! line 10: event 1@example.edu: the parameters of ORGANIZER cannot be read; ignored
        ! line 11: event 1@example.edu: the parameters of X-FOO cannot be read; ignored
        "#);
    }

    #[test]
    fn bare_cr() {
        assert_snapshot!(fixture!("bare-cr"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn bare_lf() {
        assert_snapshot!(fixture!("bare-lf"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn bom() {
        assert_snapshot!(fixture!("bom"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn categories() {
        assert_snapshot!(fixture!("categories"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "" categories=Art, Music|Labs|R&D raw=Labs,Art, Music,,Labs|R&D"#);
    }

    #[test]
    fn custom_timezone() {
        assert_snapshot!(fixture!("custom-timezone"), @r#"
        1@example.edu 2026-12-02T12:00:00[+01:00] ""
        2@example.edu 2026-07-02T12:00:00[+02:00] ""
        3@example.edu 2026-12-02T12:00:00[<+0100>-1:00:00<+0200>-2:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00] "" rules=FREQ=WEEKLY
        "#);
    }

    #[test]
    fn doubled_cr() {
        assert_snapshot!(fixture!("doubled-cr"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn duplicate_uid() {
        assert_snapshot!(fixture!("duplicate-uid"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "New"
        ! line 10: this event stands in the feed 3 times; the newest counts
        "#);
    }

    #[test]
    fn ends() {
        assert_snapshot!(fixture!("ends"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] ""
        2@example.edu 2026-12-02T12:00:00[America/New_York] ""
        3@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-03T14:00:00[America/New_York] ""
        4@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-09T12:00:00[America/New_York] ""
        5@example.edu 2026-12-02T12:00:00[America/New_York] ""
        6@example.edu 2026-10-31T12:00:00[America/New_York] to 2026-11-01T12:00:00[America/New_York] ""
        7@example.edu 2026-10-31T12:00:00[America/New_York] to 2026-11-01T11:00:00[America/New_York] ""
        8@example.edu 2026-12-02T23:59:59[UTC] ""
        9@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T18:00:00[Europe/London] ""
        10@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] ""
        11@example.edu 2026-12-02T12:00:00 to 2026-12-02T13:00:00 ""
        12@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-03T00:00:00[America/New_York] ""
        13@example.edu 2026-12-02 to 2026-12-03 ""
        ! line 11: event 2@example.edu: ends before it starts; its end is ignored
        ! line 26: event 5@example.edu: ends before it starts; its end is ignored
        ! line 41: event 8@example.edu: DURATION cannot be read; ignored
        ! line 61: event 12@example.edu: starts with a time but ends with a date
        ! line 66: event 13@example.edu: starts with a date but ends with a time; read as dates
        "#);
    }

    #[test]
    fn escapes() {
        assert_snapshot!(fixture!("escapes"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "back\\slash, C:\\dir; a\\b" text="One\nTwo\n\nraw;semi" at=Hall, Main St, 1"#);
    }

    #[test]
    fn fold_inside_utf8() {
        assert_snapshot!(fixture!("fold-inside-utf8"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Café au lait""#);
    }

    #[test]
    fn fold_keeps_blank() {
        assert_snapshot!(fixture!("fold-keeps-blank"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "one two three""#);
    }

    #[test]
    fn html_description() {
        assert_snapshot!(fixture!("html-description"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" text="First & bold\n- one\n- two <https://example.edu/a>\n\nx""#);
    }

    #[test]
    fn invisible() {
        assert_snapshot!(fixture!("invisible"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] "ABC 👩\u{200d}🔬 ❤\u{fe0f} x""#);
    }

    #[test]
    fn join_links() {
        assert_snapshot!(fixture!("join-links"), @r#"
        0@example.edu 2026-12-02T12:00:00[America/New_York] "" text="Zoom: https://example.zoom.us/j/91234567890Passcode: 424242" join=Zoom:https://example.zoom.us/j/91234567890
        1@example.edu 2026-12-02T12:00:00[America/New_York] "" at=https://example.zoom.us/j/91234567890?pwd=AbC.1 join=Zoom:https://example.zoom.us/j/91234567890?pwd=AbC.1
        2@example.edu 2026-12-02T12:00:00[America/New_York] "" text="Join <https://teams.microsoft.com/l/meetup-join/19%3ameeting_X%40thread.v2/0?context=%7b%7d>" join=Teams:https://teams.microsoft.com/l/meetup-join/19%3ameeting_X%40thread.v2/0?context=%7b%7d
        3@example.edu 2026-12-02T12:00:00[America/New_York] "" text="meet.google.com: https://meet.google.com/abc-defg-hijJoin now" join=Google Meet:https://meet.google.com/abc-defg-hij
        4@example.edu 2026-12-02T12:00:00[America/New_York] "" join=Google Meet:https://meet.google.com/abc-defg-hij
        5@example.edu 2026-12-02T12:00:00[America/New_York] "" text="https://example.zoom.us/j/91234567890" join=Online meeting:https://video.example.edu/room
        6@example.edu 2026-12-02T12:00:00[America/New_York] "" text="(https://bbb.example.edu/b/abc-def-ghi)." join=BigBlueButton:https://bbb.example.edu/b/abc-def-ghi
        7@example.edu 2026-12-02T12:00:00[America/New_York] "" text="https://example.webex.com/meet/jdoe." join=Webex:https://example.webex.com/meet/jdoe
        8@example.edu 2026-12-02T12:00:00[America/New_York] "" text="https://example.zoom.us/about and https://example.edu/"
        "#);
    }

    #[test]
    fn latin1_byte() {
        assert_snapshot!(fixture!("latin1-byte"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Café"
        2@example.edu 2026-12-02T12:00:00[America/New_York] "Naïve"
        ! line 8: event 1@example.edu: not UTF-8; read as windows-1252
        "#);
    }

    #[test]
    fn long_head() {
        assert_snapshot!(fixture!("long-head"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk"
        ! line 8: event 1@example.edu: the parameters of SUMMARY cannot be read; ignored
        "#);
    }

    #[test]
    fn lower_case() {
        assert_snapshot!(fixture!("lower-case"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn many_param_values() {
        assert_snapshot!(fixture!("many-param-values"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk"
        ! line 8: event 1@example.edu: the parameters of SUMMARY cannot be read; ignored
        "#);
    }

    #[test]
    fn method_cancel() {
        assert_snapshot!(fixture!("method-cancel"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk" status=cancelled"#);
    }

    #[test]
    fn missing_end() {
        assert_snapshot!(fixture!("missing-end"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "One"
        3@example.edu 2026-12-02T12:00:00[America/New_York] "Three"
        ! line 9: VEVENT has no END before line 12, where another component begins; it was left out
        complete: false, unreadable: 0
        "#);
    }

    #[test]
    fn nested_alarm() {
        assert_snapshot!(fixture!("nested-alarm"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk""#);
    }

    #[test]
    fn no_uid() {
        assert_snapshot!(fixture!("no-uid"), @r#"
        beadle-40dbfd8fa0a78f49 2026-12-02T12:00:00[America/New_York] "Talk"
        ! line 4: event Talk: has no UID; called beadle-40dbfd8fa0a78f49
        "#);
    }

    #[test]
    fn organizers() {
        assert_snapshot!(fixture!("organizers"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "" by="Doe, Jane" <jane@example.edu>
        2@example.edu 2026-12-02T12:00:00[America/New_York] "" by="Café: Club" <club@example.edu>
        3@example.edu 2026-12-02T12:00:00[America/New_York] "" by="100% Sure" <sure@example.edu>
        4@example.edu 2026-12-02T12:00:00[America/New_York] "" by="Q\" ^ A" <>
        5@example.edu 2026-12-02T12:00:00[America/New_York] ""
        "#);
    }

    #[test]
    fn recurrence() {
        assert_snapshot!(fixture!("recurrence"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "" rules=FREQ=WEEKLY;COUNT=4 rdates=2026-12-04T17:00:00[UTC]/2026-12-04T17:30:00[UTC] exdates=2026-12-09T12:00:00[America/New_York]|2026-12-16T12:00:00[America/New_York]
        1@example.edu 2026-12-23T14:00:00[America/New_York] "Moved" id=2026-12-23T12:00:00[America/New_York] future=yes
        "#);
    }

    #[test]
    fn series_without_recurrence_id() {
        assert_snapshot!(fixture!("series-without-recurrence-id"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" id=2026-12-02T12:00:00[America/New_York]
        1@example.edu 2026-12-09T12:00:00[America/New_York] "Talk" id=2026-12-09T12:00:00[America/New_York]
        "#);
    }

    #[test]
    fn status_titles() {
        assert_snapshot!(fixture!("status-titles"), @r#"
        0@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=cancelled
        1@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=cancelled
        2@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=cancelled
        3@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=postponed
        4@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=postponed
        5@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=cancelled
        6@example.edu 2026-12-02T12:00:00[America/New_York] "Cancelled flights: a history"
        7@example.edu 2026-12-02T12:00:00[America/New_York] "Talk"
        8@example.edu 2026-12-02T12:00:00[America/New_York] "Talk" status=cancelled
        "#);
    }

    #[test]
    fn truncated() {
        assert_snapshot!(fixture!("truncated"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "One"
        ! line 9: the feed ends inside this VEVENT
        complete: false, unreadable: 0
        "#);
    }

    #[test]
    fn two_calendars() {
        assert_snapshot!(fixture!("two-calendars"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Talk"
        2@example.edu 2026-12-02T12:00:00[America/New_York] "Second"
        "#);
    }

    #[test]
    fn urls_and_images() {
        assert_snapshot!(fixture!("urls-and-images"), @r#"
        1@example.edu 2026-12-02T12:00:00[America/New_York] "" url=https://example.edu/a%20b image=https://example.edu/poster%20one.png
        2@example.edu 2026-12-02T12:00:00[America/New_York] "" image=https://example.edu/i
        3@example.edu 2026-12-02T12:00:00[America/New_York] "" image=https://example.edu/p.JPG?x=1
        4@example.edu 2026-12-02T12:00:00[America/New_York] ""
        ! line 13: event 2@example.edu: URL javascript:alert(1) is no http(s) address; ignored
        "#);
    }

    #[test]
    fn utf16() {
        assert_snapshot!(fixture!("utf16"), @r#"1@example.edu 2026-12-02T12:00:00[America/New_York] to 2026-12-02T13:00:00[America/New_York] "Café""#);
    }

    #[test]
    fn wr_timezone() {
        assert_snapshot!(fixture!("wr-timezone"), @r#"
        1@example.edu 2026-12-02T12:00:00 ""
        2@example.edu 2026-12-02T12:00:00[Europe/Berlin] ""
        ! line 6: REFRESH-INTERVAL is not a duration; ignored
        ! line 14: event 2@example.edu: time zone Nowhere/Land is not known; taken to be Europe/Berlin
        "#);
    }

    #[test]
    fn zones() {
        assert_snapshot!(fixture!("zones"), @r#"
        0@example.edu 2026-12-02T12:00:00[UTC] ""
        1@example.edu 2026-12-02T12:00:00 ""
        2@example.edu 2026-12-02T12:00:00[America/New_York] ""
        3@example.edu 2026-12-02T12:00:00[America/New_York] ""
        4@example.edu 2026-12-02T12:00:00[America/New_York] ""
        5@example.edu 2026-12-02T12:00:00[Europe/Berlin] ""
        6@example.edu 2026-12-02T12:00:00[+05:00] ""
        7@example.edu 2026-12-02T12:00:00[UTC] ""
        8@example.edu 2026-12-02T12:00:00[UTC] ""
        9@example.edu 2026-12-02T12:00:00 ""
        10@example.edu 2026-12-02T12:00:00[+01:00] ""
        ! line 42: event 9@example.edu: time zone Nowhere/Land is not known; taken to be the feed's zone
        "#);
    }

    #[test]
    fn events_that_cannot_be_read_are_not_absent() {
        let zones = Zones::default();
        let options = ReadOptions {
            zones: &zones,
            feed_zone: None,
            audience_zone: &TimeZone::UTC,
            charset: None,
        };
        for (body, expected) in [
            (&include_bytes!("../../tests/feeds/bad-dates.ics")[..], vec!["1", "2", "3"]),
            (include_bytes!("../../tests/feeds/missing-end.ics"), vec!["2"]),
            (include_bytes!("../../tests/feeds/truncated.ics"), vec!["2"]),
        ] {
            let read = read(body, &options, &|_| false);
            let uids: Vec<_> =
                read.present_uids.iter().map(|u| u.0.trim_end_matches("@example.edu")).collect();
            assert_eq!(uids, expected);
        }
    }

    #[test]
    fn a_declared_charset_is_used_for_what_is_not_utf8() {
        let zones = Zones::default();
        let options = ReadOptions {
            zones: &zones,
            feed_zone: None,
            audience_zone: &TimeZone::UTC,
            charset: Some("iso-8859-5"),
        };
        let body = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20261202\nSUMMARY:\xbc\nEND:VEVENT\nEND:VCALENDAR";
        assert_eq!(read_all(body, &options).events[0].summary, "М");
    }

    #[test]
    fn known_events_are_not_parsed_again() {
        let zones = Zones::default();
        let options = ReadOptions {
            zones: &zones,
            feed_zone: None,
            audience_zone: &TimeZone::UTC,
            charset: None,
        };
        let feed = |head: &str, stamp: &str, title: &str| {
            format!(
                "BEGIN:VCALENDAR\r\n{head}BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:{stamp}\r\n\
                 DTSTART;TZID=Mars:20261202T120000\r\nSUMMARY:{title}\r\nEND:VEVENT\r\n\
                 BEGIN:VEVENT\r\nUID:2\r\nDTSTART:20261203\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
            )
        };
        let first = read(feed("", "20261101T000000Z", "Talk").as_bytes(), &options, &|_| false);
        let known = |fingerprint| first.fingerprints.contains(&fingerprint);
        assert_eq!((first.calendar.events.len(), first.fingerprints.len()), (2, 2));
        for (head, stamp, title, unchanged) in [
            ("", "20261101T000000Z", "Talk", 2),
            ("", "20261102T101112", "Talk", 2),
            ("X-WR-CALNAME:Another name\r\n", "20261102T101112Z", "Talk", 2),
            ("", "20261101T000000Z", "Lecture", 1),
            ("X-WR-TIMEZONE:Europe/Berlin\r\n", "20261101T000000Z", "Talk", 0),
        ] {
            let body = feed(head, stamp, title);
            let second = read(body.as_bytes(), &options, &known);
            assert_eq!(second.unchanged.len(), unchanged, "{body}");
            assert_eq!(second.calendar.events.len(), 2 - unchanged);
            assert!(second.calendar.newest_stamp.is_some());
        }
    }

    #[test]
    fn what_comes_after_the_events_counts_for_them() {
        let zones = Zones::default();
        let options = ReadOptions {
            zones: &zones,
            feed_zone: None,
            audience_zone: &TimeZone::UTC,
            charset: None,
        };
        let event = "BEGIN:VEVENT\nUID:1\nDTSTART;TZID=Own:20261202T120000\nEND:VEVENT\n";
        let zone = "BEGIN:VTIMEZONE\nTZID:Own\nBEGIN:STANDARD\nDTSTART:19700101T000000\n\
                    TZOFFSETFROM:+0300\nTZOFFSETTO:+0300\nEND:STANDARD\nEND:VTIMEZONE\n";
        let before = format!("BEGIN:VCALENDAR\n{zone}{event}END:VCALENDAR\n");
        let after = format!("BEGIN:VCALENDAR\n{event}{zone}METHOD:CANCEL\nEND:VCALENDAR\n");
        let start = |event: &Event| match &event.start {
            When::Zoned { zone, .. } => zone.clone(),
            other => format!("{other:?}"),
        };
        let (first, second) =
            (read_all(before.as_bytes(), &options), read_all(after.as_bytes(), &options));
        assert_eq!(
            (start(&first.events[0]), first.events[0].status),
            ("+03:00".into(), Status::Confirmed)
        );
        assert_eq!(
            (start(&second.events[0]), second.events[0].status),
            ("+03:00".into(), Status::Cancelled)
        );
        assert_eq!((first.warnings, second.warnings), (Vec::new(), Vec::new()));

        // A preamble that no longer holds is noticed.
        let pass = |body: &str, preamble: Option<Preamble>| {
            let mut events = Vec::new();
            let mut reader = Reader::new(&options, preamble, |_| false);
            let mut sink = |event, _| events.push(event);
            reader.push(body.as_bytes(), &mut sink);
            let again = reader.finish(&mut sink).again;
            (start(&events[0]), again)
        };
        let (_, late) = pass(&after, None);
        let (zone, again) = pass(&after, late.clone());
        assert_eq!((zone.as_str(), again.is_none()), ("+03:00", true));
        assert!(pass(&before, late).1.is_some());
        assert!(pass(&before, None).1.is_none());
    }

    #[test]
    fn the_newest_stamp_counts_and_floating_ones_are_in_the_feeds_zone() {
        let stamped = |stamps: &[&str]| {
            let events: String = stamps
                .iter()
                .map(|s| format!("BEGIN:VEVENT\nDTSTAMP{s}\nDTSTART:20261202\nEND:VEVENT\n"))
                .collect();
            read_ny(format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR")).newest_stamp
        };
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(
            stamped(&[":20261101T000000Z", ":20261102T000000Z"]),
            at("2026-11-02T00:00:00Z")
        );
        assert_eq!(stamped(&[":20261102T000000", ":20261102T010000Z"]), at("2026-11-02T05:00:00Z"));
        assert_eq!(stamped(&[":soon"]), None);
    }

    #[test]
    fn dates_in_all_their_forms() {
        let read =
            |text| DateValue::parse(text).map(|d| (d.local.to_string(), d.is_date, d.offset));
        let plus = |hours| Some(Offset::from_hours(hours).unwrap());
        for (text, expected) in [
            ("20261202", Some(("2026-12-02T00:00:00", true, None))),
            ("2026-12-02", Some(("2026-12-02T00:00:00", true, None))),
            ("20261202T120000", Some(("2026-12-02T12:00:00", false, None))),
            ("20261202t1200z", Some(("2026-12-02T12:00:00", false, plus(0)))),
            ("2026-12-02T12:00:00.000+01:00", Some(("2026-12-02T12:00:00", false, plus(1)))),
            ("20261202T120000-0500", Some(("2026-12-02T12:00:00", false, plus(-5)))),
            ("20261231T235960Z", Some(("2026-12-31T23:59:59", false, plus(0)))),
            ("20261231T240000", Some(("2027-01-01T00:00:00", false, None))),
            ("20261202T", None),
            ("20261202T12", None),
            ("20261302", None),
            ("20261202T126000", None),
            ("2026120", None),
            ("2026é02", None),
            ("", None),
        ] {
            let expected = expected.map(|(local, date, offset)| (local.to_owned(), date, offset));
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_in_all_their_forms() {
        for (text, expected) in [
            ("PT1H", Some((0, 3600))),
            ("P1W", Some((7, 0))),
            ("P1DT2H3M4S", Some((1, 7384))),
            ("-P15M", None),
            ("-PT15M", Some((0, -900))),
            ("+P2D", Some((2, 0))),
            ("P", None),
            ("PT9999999999999H", None),
            ("1H", None),
            ("", None),
        ] {
            let read = DurationValue::parse(text).map(|d| (d.days, d.seconds));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_duration_lasts_as_long_as_it_says_when_clocks_go_back() {
        for (start, minutes) in [("010000", 30), ("010000", 90), ("014500", 30), ("003000", 200)] {
            let calendar = read_ny(format!(
                "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART;TZID=America/New_York:20271107T{start}\n\
                 DURATION:PT{minutes}M\nEND:VEVENT\nEND:VCALENDAR"
            ));
            let [event] = &calendar.events[..] else { panic!("{calendar:?}") };
            let zones = Zones::default();
            let at = |when: &When| when.instant(&zones, &TimeZone::UTC);
            let lasts = at(&event.end) - at(&event.start);
            assert_eq!(lasts, SignedDuration::from_mins(minutes), "{start}");
        }
    }

    #[test]
    fn warnings_are_bounded() {
        let bad = "no colon\n".repeat(100);
        let events: String = (0..200)
            .map(|i| format!("BEGIN:VEVENT\nUID:{i}\nDTSTART:20261202\n{bad}END:VEVENT\n"))
            .collect();
        let calendar = read_ny(format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR"));
        assert_eq!(calendar.events.len(), 200);
        assert_eq!(calendar.warnings.len(), FEED_WARNINGS);
        let first = calendar.warnings.iter().filter(|w| w.event.as_deref() == Some("0"));
        assert_eq!(first.count(), EVENT_WARNINGS);
    }

    #[test]
    fn a_hundred_thousand_nested_components_are_counted_off() {
        let depth = 100_000;
        let body = format!(
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20261202\n{}{}END:VEVENT\nEND:VCALENDAR",
            "BEGIN:X-A\n".repeat(depth),
            "END:X-A\n".repeat(depth)
        );
        let calendar = read_ny(&body);
        assert_eq!((calendar.events.len(), calendar.health.complete), (1, true));
    }

    #[test]
    fn real_exports_deserve_no_warning() {
        let Some(folder) = shared("feeds") else { return };
        let mut count = 0;
        let files = [folder.clone(), folder.join("tec-6.16.3")];
        for entry in files.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "ics") {
                continue;
            }
            let body = std::fs::read(&path).unwrap();
            let calendar = read_ny(&body);
            assert_eq!(calendar.warnings, [], "{}", path.display());
            assert!(calendar.health.complete, "{}", path.display());
            let begun = body.windows(12).filter(|w| w == b"BEGIN:VEVENT").count();
            assert_eq!(calendar.events.len(), begun, "{}", path.display());
            count += 1;
        }
        assert_eq!(count, 55);
    }

    /// Lines that are nearly right, so that chance reaches more than the first check.
    fn line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "BEGIN:VCALENDAR",
            "END:VCALENDAR",
            "BEGIN:VEVENT",
            "END:VEVENT",
            "BEGIN:VALARM",
            "END:VALARM",
            "BEGIN:VTIMEZONE",
            "END:VTIMEZONE",
            "TZID:",
            "BEGIN:DAYLIGHT",
            "END:DAYLIGHT",
            "TZOFFSETFROM:",
            "TZOFFSETTO:",
            "UID:",
            "DTSTART:",
            "DTEND:",
            "DTSTART;TZID=X:",
            "DTSTART;VALUE=DATE:",
            "DURATION:",
            "RRULE:",
            "EXRULE:",
            "RDATE:",
            "RDATE;VALUE=PERIOD:",
            "EXDATE:",
            "RECURRENCE-ID:",
            "RECURRENCE-ID;RANGE=THISANDFUTURE:",
            "SUMMARY:",
            "DESCRIPTION:",
            "LOCATION:",
            "URL:",
            "CATEGORIES:",
            "ORGANIZER;CN=",
            " ",
            "X-WR-TIMEZONE:",
            "REFRESH-INTERVAL:",
            "SEQUENCE:",
            "DTSTAMP:",
            "CONFERENCE:",
        ]);
        let value = prop_oneof![
            Just(String::new()),
            prop::sample::select(vec![
                "20261202T120000",
                "20261202",
                "20261202T120000Z",
                "99991231T235959",
                "00010101",
                "20261202T120000Z/PT1H",
                "PT1H",
                "-P1D",
                "P999999999W",
                "+1400",
                "-0500",
                "FREQ=DAILY",
                "FREQ=WEEKLY;COUNT=3",
                "FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10",
                "FREQ=MONTHLY;BYMONTHDAY=31",
                "FREQ=MINUTELY;UNTIL=20261203",
                "https://example.zoom.us/j/91234567890Passcode: 1",
                "CANCELLED: é",
                "<p>é</p><br>",
                "Europe/Berlin",
                "\\,\\n\\",
                "\"",
                "%41%FF",
                "1",
                "X",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,20}",
            "FREQ=(MINUTELY|HOURLY|DAILY|WEEKLY|MONTHLY|YEARLY);INTERVAL=[0-9]{1,5};(BYDAY=-?[0-9]?(MO|SU)|BYHOUR=[0-9]{1,2}|BYMONTH=[0-9]{1,2}|BYSETPOS=-?[0-9]|BYWEEKNO=-?[0-9]{1,2}|BYYEARDAY=-?[0-9]{1,3}|COUNT=[0-9]{1,3})",
        ];
        (name, value).prop_map(|(name, value)| format!("{name}{value}"))
    }

    fn read_and_expand(body: &[u8]) {
        let calendar = read_ny(body);
        let zones = Zones::default();
        for (from, to) in [
            ("2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("-009999-01-02T01:59:59Z", "-009998-01-02T00:00:00Z"),
            ("9999-11-01T00:00:00Z", "9999-12-30T22:00:00Z"),
        ] {
            let window = Window { from: from.parse().unwrap(), to: to.parse().unwrap() };
            let found = recur::expand(&calendar.events, window, &zones, &TimeZone::UTC);
            for occurrence in &found.occurrences {
                assert!(occurrence.start <= occurrence.end);
                assert!(window.overlaps(occurrence.start, occurrence.end));
            }
        }
        for event in &calendar.events {
            let (first, last) = recur::bounds(event, &zones, &TimeZone::UTC);
            assert!(first <= last);
            assert!(!event.uid.0.is_empty());
            let _ = text::redact_passcodes(&event.description);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            read_and_expand(&body);
        }

        #[test]
        fn no_lines_make_it_panic(
            lines in prop::collection::vec(line(), 0..20),
            event in prop::collection::vec(line(), 0..12),
        ) {
            let event = event.join("\r\n");
            let body = format!(
                "BEGIN:VCALENDAR\r\n{}\r\nBEGIN:VEVENT\r\nDTSTART:20261130T120000\r\n{event}\r\n\
                 END:VEVENT\r\nEND:VCALENDAR",
                lines.join("\r\n")
            );
            read_and_expand(body.as_bytes());
        }

        /// Ours and `ical` read the same parameters.
        #[test]
        fn plain_parameters_are_read_as_any(
            params in prop::collection::vec(
                ("[A-Za-z-]{1,4}", prop_oneof![
                    "[ -~é]{0,6}",
                    "\"[ -~é]{0,6}\"",
                    Just("Europe/Berlin".to_owned()),
                    Just("\"Doe, Jane: a;b\"".to_owned()),
                ]),
                0..4,
            ),
        ) {
            let text: String = params.iter().map(|(name, value)| format!(";{name}={value}")).collect();
            if let Some(plain) = plain_params(&text) {
                let plain: Vec<(String, Vec<String>)> = plain
                    .map(|(name, value)| (name.to_ascii_uppercase(), vec![value.to_owned()]))
                    .collect();
                let head = format!("X{text}");
                prop_assert_eq!(super::params(&head), Some(plain));
            }
        }

        #[test]
        fn pieces_do_not_matter(
            lines in prop::collection::vec(line(), 0..30),
            cuts in prop::collection::vec(1..60_usize, 1..20),
            wide in any::<bool>(),
        ) {
            let text = format!(
                "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20261130\nEND:VEVENT\n{}\n\
                 END:VCALENDAR\n",
                lines.join("\n")
            );
            let body = match wide {
                true => "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
                false => text.into_bytes(),
            };
            let zones = Zones::default();
            let options = ReadOptions {
                zones: &zones,
                feed_zone: None,
                audience_zone: &TimeZone::UTC,
                charset: None,
            };
            let mut events = Vec::new();
            let mut sink = |event, fingerprint| events.push((event, fingerprint));
            let mut reader = Reader::new(&options, None, |_| false);
            reader.push(&body, &mut sink);
            let whole = reader.finish(&mut sink);
            let mut pieces = Vec::new();
            let mut sink = |event, fingerprint| pieces.push((event, fingerprint));
            let mut reader = Reader::new(&options, None, |_| false);
            let mut rest = &body[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                reader.push(piece, &mut sink);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let cut = reader.finish(&mut sink);
            prop_assert_eq!(&events, &pieces);
            prop_assert_eq!(whole.calendar.warnings, cut.calendar.warnings);
            prop_assert_eq!(whole.calendar.health, cut.calendar.health);
            prop_assert_eq!(whole.calendar.newest_stamp, cut.calendar.newest_stamp);
            prop_assert_eq!(whole.amendments, cut.amendments);
            prop_assert_eq!(whole.present_uids, cut.present_uids);
        }

        /// What says the same, in another form, reads the same.
        #[test]
        fn form_does_not_matter(
            order in Just((0..10_usize).collect::<Vec<_>>()).prop_shuffle(),
            fold in 1..40_usize,
            stamp in 0..60_u32,
            bare in any::<bool>(),
        ) {
            let lines = [
                "UID:1@example.edu".to_owned(),
                "DTSTART;TZID=America/New_York:20261202T120000".to_owned(),
                "DTEND;TZID=America/New_York:20261202T130000".to_owned(),
                "SUMMARY:Café\\, 👩\u{200d}🔬 and  blanks".to_owned(),
                "DESCRIPTION:One\\ntwo https://example.zoom.us/j/91234567890Passcode: 1".to_owned(),
                "CATEGORIES:B,A".to_owned(),
                "CATEGORIES:C".to_owned(),
                "ORGANIZER;CN=\"Doe: Jane\":mailto:jane@example.edu".to_owned(),
                "RRULE:FREQ=WEEKLY;COUNT=3".to_owned(),
                format!("DTSTAMP:20261101T0000{stamp:02}Z"),
            ];
            let plain = format!(
                "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
                lines.join("\r\n")
            );
            let shuffled: Vec<&str> = order.iter().map(|i| lines[*i].as_str()).collect();
            let text = format!(
                "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
                shuffled.join("\r\n")
            );
            let mut folded = Vec::new();
            for line in text.split_terminator("\r\n") {
                for (index, part) in line.as_bytes().chunks(fold).enumerate() {
                    folded.extend_from_slice(if index > 0 { b"\r\n " } else { b"" });
                    folded.extend_from_slice(part);
                }
                folded.extend_from_slice(b"\r\n");
            }
            if bare {
                folded.retain(|byte| *byte != b'\r');
            }
            let (plain, other) = (read_ny(&plain), read_ny(&folded));
            prop_assert_eq!(&other.warnings, &[]);
            prop_assert!(other.health.complete);
            prop_assert_eq!(plain.events, other.events);
        }
    }
}

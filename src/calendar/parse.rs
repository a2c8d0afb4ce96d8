//! Slices to [`Event`]s (RFC 5545, 3.3, 3.6.1 and 3.8).
//!
//! Names and parameters are read by the `ical` crate, one line at a time; structure, values and
//! the repair of what publishers get wrong are ours. A line that cannot be used costs that line and
//! a [`Warning`]; only a missing or unreadable `DTSTART` costs the event.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use memchr::{memchr, memchr2};
use simdutf8::basic::from_utf8;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::rule::Rule;
use super::scan::{Bracket, Component, Lines, RawLine, Scanner, Slice, Visitor};
use super::time::{self, CustomZone, Observance, Yearly};
use super::{
    Calendar, Event, Health, JoinLink, Organizer, Recurrence, Status, Uid, Warning, When, Zones,
    html, text,
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

macro_rules! names {
    ($($name:ident $text:literal,)*) => {
        /// The name of a property that is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Name { $($name),* }

        impl Name {
            const ALL: [Name; [$(Name::$name),*].len()] = [$(Name::$name),*];

            /// `name` is in upper case.
            fn of_upper(name: &[u8]) -> Option<Name> {
                Some(match name {
                    $($text => Name::$name,)*
                    _ => return None,
                })
            }

            fn as_bytes(self) -> &'static [u8] {
                match self { $(Name::$name => $text),* }
            }
        }
    };
}

names! {
    // Of events.
    Attach b"ATTACH",
    Categories b"CATEGORIES",
    Conference b"CONFERENCE",
    Created b"CREATED",
    Description b"DESCRIPTION",
    Dtend b"DTEND",
    Dtstart b"DTSTART",
    Duration b"DURATION",
    Exdate b"EXDATE",
    Exrule b"EXRULE",
    Image b"IMAGE",
    LastModified b"LAST-MODIFIED",
    Location b"LOCATION",
    Organizer b"ORGANIZER",
    Rdate b"RDATE",
    RecurrenceId b"RECURRENCE-ID",
    Rrule b"RRULE",
    Sequence b"SEQUENCE",
    Status b"STATUS",
    Summary b"SUMMARY",
    Uid b"UID",
    Url b"URL",
    AltDesc b"X-ALT-DESC",
    GoogleConference b"X-GOOGLE-CONFERENCE",
    AllDayEvent b"X-MICROSOFT-CDO-ALLDAYEVENT",
    SkypeTeams b"X-MICROSOFT-SKYPETEAMSMEETINGURL",
    // Of calendars and zones.
    Method b"METHOD",
    Called b"NAME",
    Prodid b"PRODID",
    RefreshInterval b"REFRESH-INTERVAL",
    Tzid b"TZID",
    OffsetFrom b"TZOFFSETFROM",
    OffsetTo b"TZOFFSETTO",
    LicLocation b"X-LIC-LOCATION",
    PublishedTtl b"X-PUBLISHED-TTL",
    WrCalname b"X-WR-CALNAME",
    WrTimezone b"X-WR-TIMEZONE",
}

impl Name {
    const LONGEST: usize = 32;

    fn of(name: &[u8]) -> Option<Name> {
        let known = Name::of_upper(name);
        if known.is_some() || !name.iter().any(u8::is_ascii_lowercase) {
            return known;
        }
        let mut upper = [0; Name::LONGEST];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        Name::of_upper(upper)
    }

    fn is_of_event(self) -> bool {
        (self as usize) < Name::Method as usize
    }

    fn is_date(self) -> bool {
        use Name::*;
        matches!(self, Dtstart | Dtend | RecurrenceId | Exdate | Rdate)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// One content line (RFC 5545, 3.1).
#[derive(Clone, Debug)]
struct Property<'t> {
    line: usize,
    /// None: one that is not read.
    name: Option<Name>,
    params: Params<'t>,
    value: Cow<'t, str>,
    /// What has been done to the value.
    form: Form,
}

/// How much of the reading of a TEXT value is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Unfolded and decoded.
    Stated,
    /// Unescaped and clean too.
    Plain,
    /// In [paragraphs](text::paragraphs) too.
    Tidy,
}

/// Parameters of a content line.
#[derive(Clone, Debug)]
enum Params<'t> {
    /// As they stand, in the [plain form](plain_head), with the `;` before the first.
    Plain(&'t str),
    /// Names in upper case, values decoded as RFC 6868 says.
    Read(Vec<(String, Vec<String>)>),
}

impl Property<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        match &self.params {
            Params::Plain(params) => plain_param(params, name),
            Params::Read(params) => {
                let (_, values) = params.iter().find(|(param, _)| param == name)?;
                values.first().map(String::as_str)
            }
        }
    }

    fn is_date(&self) -> bool {
        self.param("VALUE").is_some_and(|value| value.eq_ignore_ascii_case("DATE"))
    }

    /// A TEXT value, decoded and without what cannot be seen.
    fn text(&self) -> Cow<'_, str> {
        match self.form {
            Form::Stated => text::clean(text::unescape(&self.value)),
            Form::Plain | Form::Tidy => Cow::Borrowed(&self.value),
        }
    }
}

/// The properties of an event.
#[derive(Debug)]
struct Properties<'t> {
    all: Vec<Property<'t>>,
    /// For each name, where the first one stands, and the first one that is not blank.
    first: [Option<u32>; Name::ALL.len()],
    filled: [Option<u32>; Name::ALL.len()],
}

impl<'t> Properties<'t> {
    /// `room` saves an allocation.
    fn new(room: Vec<Property<'_>>) -> Self {
        let none = [None; Name::ALL.len()];
        Properties { all: emptied(room), first: none, filled: none }
    }

    fn push(&mut self, property: Property<'t>) {
        let Some(name) = property.name.filter(|name| name.is_of_event()) else { return };
        let at = u32::try_from(self.all.len()).ok();
        let (first, filled) = (&mut self.first[name as usize], &mut self.filled[name as usize]);
        *first = first.or(at);
        let begins = matches!(property.value.as_bytes(), [b'!'..=b'~', ..]);
        if filled.is_none() && (begins || !property.value.trim_start().is_empty()) {
            *filled = at;
        }
        self.all.push(property);
    }

    fn first(&self, name: Name) -> Option<&Property<'t>> {
        self.all.get(self.first[name as usize]? as usize)
    }

    fn filled(&self, name: Name) -> Option<&Property<'t>> {
        self.all.get(self.filled[name as usize]? as usize)
    }

    /// Those with one of these names, in the order of the feed.
    fn named<const N: usize>(&self, names: [Name; N]) -> impl Iterator<Item = &Property<'t>> {
        let first = names.iter().filter_map(|name| self.first[*name as usize]).min();
        let from = first.map_or(self.all.len(), |first| first as usize);
        let named = move |one: &&Property<'t>| one.name.is_some_and(|name| names.contains(&name));
        self.all[from..].iter().filter(named)
    }
}

/// The allocation of a list, for one that borrows from elsewhere.
fn emptied<'t>(list: Vec<Property<'_>>) -> Vec<Property<'t>> {
    // Collecting in place keeps it.
    list.into_iter().map_while(|_| None).collect()
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
    let params = match end == head.len() {
        true => Params::Plain(""),
        false => Params::Read(params(&head).unwrap_or_else(|| {
            // Without its zone a date is another one.
            let (params, whole) = match is_date_name(name) {
                true => loose_params(&head),
                false => (Vec::new(), false),
            };
            if !whole {
                let name = name.to_ascii_uppercase();
                let which = if params.is_empty() { "the parameters" } else { "a parameter" };
                problem = Some(format!("{which} of {name} cannot be read; ignored").into());
            }
            params
        })),
    };
    if value.len() > VALUE_BYTES {
        let cut = (0..=VALUE_BYTES).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value = Cow::Owned(value[..cut].to_owned());
        let name = name.to_ascii_uppercase();
        problem = Some(format!("{name} is longer than {VALUE_BYTES} bytes; cut").into());
    }
    let name = Name::of(name.as_bytes());
    Ok((Property { line, name, params, value, form: Form::Stated }, problem))
}

/// The name, if it is one that is read, and the parameters of a line whose head is in the form that
/// nearly all have, and where its value begins. That form is, on one physical line, `NAME`, then
/// `;NAME=value` or `;NAME="value"` any number of times, with one value each and no escapes.
fn plain_head(line: &str) -> Option<(Option<Name>, &str, usize)> {
    let bytes = line.as_bytes();
    let end = memchr2(b':', b';', &bytes[..bytes.len().min(HEAD_BYTES)])?;
    let name = &bytes[..end];
    let known = Name::of(name);
    if known.is_none() && !name.iter().all(|byte| HEAD[*byte as usize] & NAME != 0) {
        return None;
    }
    let mut at = end;
    while bytes.get(at) == Some(&b';') && at <= HEAD_BYTES {
        at += param_length(&bytes[at..])?;
    }
    if end == 0 || at > HEAD_BYTES || bytes.get(at) != Some(&b':') {
        return None;
    }
    Some((known.filter(|name| name.is_of_event()), line.get(end..at)?, at + 1))
}

/// How long the parameter is that a text begins with, `;` included. It ends before `;` or `:`.
fn param_length(text: &[u8]) -> Option<usize> {
    let past = |text: &[u8], kind| text.iter().position(|byte| HEAD[*byte as usize] & kind == 0);
    let name = past(&text[1..], NAME)?;
    let value = name + 2;
    if name == 0 || text.get(value - 1) != Some(&b'=') {
        return None;
    }
    if text.get(value) == Some(&b'"') {
        let end = value + 1 + past(&text[value + 1..], QUOTED)?;
        (text[end] == b'"').then_some(end + 1)
    } else {
        let end = value + past(&text[value..], BARE)?;
        matches!(text[end], b':' | b';').then_some(end)
    }
}

/// Where bytes may stand in a [plain head](plain_head).
const HEAD: [u8; 256] = {
    let mut head = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            head[at] |= NAME;
        }
        if byte >= b' ' && !matches!(byte, b'^' | b'"' | 0x7f) {
            head[at] |= QUOTED;
            if !matches!(byte, b' ' | b',' | b':' | b';' | b'\\' | b'=') {
                head[at] |= BARE;
            }
        }
        at += 1;
    }
    head
};
/// In names.
const NAME: u8 = 1;
/// In values of parameters.
const BARE: u8 = 2;
/// In such as stand in quotes.
const QUOTED: u8 = 4;

/// A line with a [plain head](plain_head) and a value that takes no more than to be unfolded.
fn folded_line<'t>(raw: &RawLine<'t>) -> Option<Property<'t>> {
    let start = memchr2(b'\r', b'\n', raw.bytes).unwrap_or(raw.bytes.len());
    let (name, params, at) = plain_head(std::str::from_utf8(&raw.bytes[..start]).ok()?)?;
    let value = raw.from(at);
    // The colon before a date may not be the first: see `date_colon`.
    let colons = name.is_some_and(Name::is_date) && memchr(b':', value.bytes).is_some();
    if (colons && !params.is_empty()) || value.bytes.len() > VALUE_BYTES {
        return None;
    }
    let value = match value.unfold() {
        _ if name.is_none() => "".into(),
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok()?.into(),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok()?.into(),
    };
    let (line, params) = (raw.number, Params::Plain(params));
    Some(Property { line, name, params, value, form: Form::Stated })
}

/// The value of a parameter in the plain form.
fn plain_param<'t>(params: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = params.strip_prefix(';')?;
    loop {
        let found = rest.split_at_checked(name.len()).and_then(|(head, tail)| {
            tail.strip_prefix('=').filter(|_| head.eq_ignore_ascii_case(name))
        });
        let text = found.unwrap_or(rest);
        let end = match memchr2(b';', b'"', text.as_bytes()) {
            // From here on it is quoted.
            Some(quote) if text.as_bytes()[quote] == b'"' => {
                quote + 2 + memchr(b'"', &text.as_bytes()[quote + 1..])?
            }
            end => end.unwrap_or(text.len()),
        };
        if found.is_some() {
            return Some(text[..end].trim_matches('"'));
        }
        rest = text[end..].strip_prefix(';')?;
    }
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
    Name::of(name.as_bytes()).is_some_and(Name::is_date)
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
        DateValue::basic(text.as_bytes()).or_else(|| DateValue::any(text))
    }

    /// `20261130T120000`, with or without `Z`.
    fn basic(text: &[u8]) -> Option<DateValue> {
        let (figures, zone) = text.split_first_chunk::<15>()?;
        let offset = match zone {
            [] => None,
            b"Z" => Some(Offset::UTC),
            _ => return None,
        };
        // All at once.
        let digits = figures.iter().filter(|byte| byte.is_ascii_digit()).count();
        if digits != 14 || figures[8] != b'T' {
            return None;
        }
        let two = |at: usize| (figures[at] - b'0') as i8 * 10 + (figures[at + 1] - b'0') as i8;
        let year = i16::from(two(0)) * 100 + i16::from(two(2));
        let date = civil::Date::new(year, two(4), two(6)).ok()?;
        let time = civil::Time::new(two(9), two(11), two(13), 0).ok()?;
        Some(DateValue { local: date.to_datetime(time), is_date: false, offset })
    }

    /// Any spelling.
    fn any(text: &str) -> Option<DateValue> {
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
                // Behind the T too, where they do not belong: nothing else can be meant.
                (b'W', _) => value.days += number * 7,
                (b'D', _) => value.days += number,
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
    /// The last of them: most dates of a feed have the same one.
    last_tzid: Option<(String, Option<String>)>,
    /// The last ORGANIZER: its name and value as stated, and what they mean.
    organizer: Option<(String, String, Option<Organizer>)>,
    /// The last zone of which an instant was asked for.
    zone: Option<(String, TimeZone)>,
    /// For reading texts.
    room: Vec<u8>,
    /// For reading events; empty.
    properties: Vec<Property<'static>>,
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

/// Whether a line is the last one of a slice.
fn ends(line: &RawLine<'_>, slice: &Slice<'_>) -> bool {
    line.bytes.as_ptr_range().end == slice.bytes.as_ptr_range().end
}

/// The event being read, for its warnings.
struct Current<'a> {
    name: &'a dyn Fn() -> Option<String>,
    warnings: Vec<Warning>,
}

impl Current<'_> {
    fn warn(&mut self, line: usize, message: impl Into<String>) {
        if self.warnings.len() < EVENT_WARNINGS {
            let event = (self.name)();
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
            last_tzid: None,
            organizer: None,
            zone: None,
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

    /// Reads one VEVENT; when that fails, its UID. None for what is not `sure` to be one event and
    /// turns out to be more, or not whole.
    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<Result<Event, Option<Uid>>> {
        let mut properties = Properties::new(std::mem::take(&mut self.properties));
        let mut problems: Vec<(usize, Problem)> = Vec::new();
        let mut inner = Vec::new();
        let mut foreign = false;
        let mut lines = Lines::new(slice.bytes, slice.line);
        let _begin = lines.next();
        let text = from_utf8(slice.bytes).ok();
        loop {
            if inner.is_empty()
                && let Some(text) = text
                && let Some(property) = self.plain_line(text, &mut lines)
            {
                properties.push(property);
                continue;
            }
            let Some(raw) = lines.next() else { break };
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
                Bracket::None => {
                    if let Some(property) = folded_line(&raw) {
                        properties.push(property);
                        continue;
                    }
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
        let uid = || properties.first(Name::Uid).and_then(|property| uid_of(&property.value));
        let title = || {
            let title = text::single_line(properties.first(Name::Summary)?.text());
            (!title.is_empty()).then_some(title)
        };
        let name = || uid().map(|uid| uid.0).or_else(title);
        let mut current = Current { name: &name, warnings: Vec::new() };
        for (line, problem) in problems {
            current.warn(line, problem);
        }
        let mut uid = uid();
        let event = self.build(slice.line, &properties, &mut uid, &mut current);
        for warning in current.warnings {
            self.keep(warning);
        }
        self.properties = emptied(properties.all);
        Some(event.ok_or(uid))
    }

    /// The next line of a text, if it is of the form that nearly all have.
    fn plain_line<'t>(&mut self, text: &'t str, lines: &mut Lines<'t>) -> Option<Property<'t>> {
        let (at, line) = lines.place()?;
        let rest = text.get(at..)?;
        // BEGIN or END.
        if matches!(
            rest.as_bytes(),
            [b'B' | b'b', b'E' | b'e', ..] | [b'E' | b'e', b'N' | b'n', ..]
        ) {
            return None;
        }
        let (name, params, at) = plain_head(rest)?;
        let params = Params::Plain(params);
        if let Some(Name::Description | Name::Location | Name::Summary) = name {
            // The texts are most of what there is to read.
            let text = text::read(&rest.as_bytes()[at..], VALUE_BYTES, &mut self.room)?;
            lines.pass(at + text.bytes, text.breaks);
            let form = if text.tidy { Form::Tidy } else { Form::Plain };
            return Some(Property { line, name, params, value: text.text.into(), form });
        }
        let value = &rest.as_bytes()[at..];
        let end = memchr2(b'\r', b'\n', &value[..value.len().min(VALUE_BYTES)])?;
        let (breaks, next) = match value[end..] {
            [b'\r', b'\n', next, ..] => (2, next),
            [b'\n', next, ..] => (1, next),
            _ => return None,
        };
        // It goes on, perhaps after an empty line.
        if matches!(next, b' ' | b'\t' | b'\r' | b'\n') {
            return None;
        }
        let value = rest.get(at..at + end)?;
        // The colon before a date may not be the first: see `date_colon`.
        let colons = name.is_some_and(Name::is_date) && value.contains(':');
        if colons && !matches!(params, Params::Plain("")) {
            return None;
        }
        lines.pass(at + end + breaks, 1);
        Some(Property { line, name, params, value: value.into(), form: Form::Stated })
    }

    /// `uid` is taken into the event.
    fn build(
        &mut self,
        line: usize,
        properties: &Properties<'_>,
        uid: &mut Option<Uid>,
        current: &mut Current<'_>,
    ) -> Option<Event> {
        let filled = |name| properties.filled(name);

        let mut recurrence = Recurrence::default();
        let mut read_rules = Vec::new();
        for property in properties.named([Name::Rrule, Name::Exrule]) {
            let (name, rules) = match property.name {
                Some(Name::Rrule) => (Name::Rrule, &mut recurrence.rules),
                _ => (Name::Exrule, &mut recurrence.exrules),
            };
            let mut rule = text::single_line(text::clean(&*property.value)).to_ascii_uppercase();
            if let Some(parts) = without_strays(&rule) {
                let stated = printable(&rule);
                let message = format!("{name} {stated}: what is no part of a rule is ignored");
                current.warn(property.line, message);
                rule = parts;
            }
            if !rule.is_empty() {
                match Rule::parse(&rule) {
                    Ok(parsed) => read_rules.push((property.line, name, rule.clone(), parsed)),
                    Err(problem) => {
                        let rule = printable(&rule);
                        current.warn(property.line, format!("{name} {rule}: {problem}"));
                    }
                }
                rules.push(rule);
            }
        }
        let recurs = !recurrence.rules.is_empty() || filled(Name::Rdate).is_some();

        let Some(dtstart) = filled(Name::Dtstart) else {
            current.warn(line, "has no DTSTART; left out");
            return None;
        };
        let Some(start) = self.when(dtstart, &dtstart.value, recurs, current) else {
            let value = printable(&dtstart.value);
            current.warn(dtstart.line, format!("DTSTART {value} is not a date; left out"));
            return None;
        };
        for (line, name, rule, parsed) in &read_rules {
            if let Some(fault) = parsed.fault(&start) {
                current.warn(*line, format!("{name} {}: {fault}", printable(rule)));
            }
        }
        let dtend = filled(Name::Dtend);
        let start = self.zoned_by_end(start, dtend, recurs, current);
        let end = self.end(&start, dtend, filled(Name::Duration), recurs, current);
        let flagged = filled(Name::AllDayEvent)
            .is_some_and(|property| property.value.trim().eq_ignore_ascii_case("TRUE"));
        // A rule, and what names one of its dates, is in the zone it was written in.
        let alone = !recurs && filled(Name::RecurrenceId).is_none();
        let said = self.options.feed_zone.is_some() || self.preamble().wr_timezone.is_some();
        let zone = (alone && said).then_some(&self.feed_zone);
        let (start, end) = all_day_in_disguise(start, end, flagged, zone);

        for property in properties.named([Name::Rdate, Name::Exdate]) {
            for value in property.value.split(',').filter(|value| !value.trim().is_empty()) {
                if recurrence.rdates.len() + recurrence.exdates.len() >= LISTED_DATES {
                    let message = format!("lists more than {LISTED_DATES} dates; others ignored");
                    current.warn(property.line, message);
                    break;
                }
                let read = if property.name == Some(Name::Rdate) {
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

        let recurrence_id = filled(Name::RecurrenceId).and_then(|property| {
            let when = self.when(property, &property.value, recurs, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            when.map(|when| {
                let range = property.param("RANGE").unwrap_or_default();
                (when, range.eq_ignore_ascii_case("THISANDFUTURE"))
            })
        });

        let stated = filled(Name::Summary).map(|p| text::single_line(p.text())).unwrap_or_default();
        let (said, summary) = match text::status_prefix(&stated) {
            Some((status, rest)) => (Some(status), text::single_line(rest)),
            None => (None, stated),
        };
        let mut status = filled(Name::Status).map_or(Status::Confirmed, |property| {
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

        let described = filled(Name::Description).filter(|p| !p.text().trim().is_empty());
        let described = described.or(filled(Name::AltDesc));
        let stated = described.map(Property::text).unwrap_or_default();
        let join = meeting(properties, &stated);
        let description = if html::looks_like_html(&stated) {
            text::paragraphs(&text::clean(html::html_to_text(&stated)))
        } else if described.is_some_and(|property| property.form == Form::Tidy) {
            stated.into_owned()
        } else {
            text::paragraphs(&stated)
        };
        let location = filled(Name::Location).map(|p| text::join_lines(&p.text()));
        let location = location.unwrap_or_default();

        let mut url = None;
        if let Some(property) = filled(Name::Url) {
            url = match property.value.contains('\\') {
                true => text::http_url(&property.value.replace("\\,", ",").replace("\\;", ";")),
                false => text::http_url(&property.value),
            };
            if url.is_none() {
                let value = printable(&property.value);
                current.warn(property.line, format!("URL {value} is no http(s) address; ignored"));
            }
        }
        let (mut categories, mut categories_raw) = (Vec::new(), Vec::new());
        for property in properties.named([Name::Categories]) {
            categories.extend(text::split_list(&property.value).into_iter().map(text::label));
            categories_raw.push(text::label(&property.value));
        }
        for list in [&mut categories, &mut categories_raw] {
            list.retain(|category: &String| !category.is_empty());
            list.sort();
            list.dedup();
        }

        let sequence = filled(Name::Sequence).map_or(0, |property| {
            property.value.trim().parse().unwrap_or_else(|_| {
                current.warn(property.line, "SEQUENCE is not a number; ignored");
                0
            })
        });
        let mut stamp = |name| {
            let property = filled(name)?;
            if let Some(DateValue { local, offset: Some(Offset::UTC), is_date: false }) =
                DateValue::basic(property.value.as_bytes())
                && !property.is_date()
            {
                return Some(time::resolve(local, &TimeZone::UTC));
            }
            let when = self.when(property, &property.value, false, current);
            if when.is_none() {
                bad_date(property, &property.value, current);
            }
            Some(when?.instant(self.options.zones, &self.feed_zone))
        };
        let (created, last_modified) = (stamp(Name::Created), stamp(Name::LastModified));
        let uid = uid.take().unwrap_or_else(|| {
            let uid = derived_uid(&start, &summary);
            current.warn(line, format!("has no UID; called {uid}"));
            uid
        });
        let (recurrence_id, this_and_future) =
            recurrence_id.map_or((None, false), |(when, future)| (Some(when), future));
        let organizer = filled(Name::Organizer).and_then(|p| self.organizer(p));
        let image = properties.named([Name::Image, Name::Attach]).find_map(image);
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
            page_image: None,
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
        // Some publishers call every date a DATE; a time of day is not written by mistake.
        let is_midnight = date.local.time() == civil::Time::midnight();
        if date.is_date || property.is_date() && is_midnight {
            return Some(When::AllDay(date.local.date()));
        }
        let local = date.local;
        if let Some(offset) = date.offset {
            return Some(When::Zoned { local, zone: time::offset_name(offset) });
        }
        let Some(tzid) = property.param("TZID").filter(|tzid| !tzid.trim().is_empty()) else {
            return Some(When::Floating(local));
        };
        // A parameter has no escapes, but the name may have been copied from where it has.
        let tzid = &*text::unescape(tzid);
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
        if let Some((last, name)) = &self.last_tzid
            && last == tzid
        {
            return name.clone();
        }
        let name = match self.zone_names.get(tzid) {
            Some(known) => known.clone(),
            None => {
                let name = self.options.zones.canonical(tzid);
                self.zone_names.insert(tzid.to_owned(), name.clone());
                name
            }
        };
        self.last_tzid = Some((tzid.to_owned(), name.clone()));
        name
    }

    fn instant(&mut self, when: &When) -> Timestamp {
        time::resolve(when.local(), self.zone_of(when))
    }

    /// Whether its wall time does not exist, because clocks are put forward over it.
    fn is_in_gap(&mut self, when: &When) -> bool {
        let local = when.local();
        let zone = self.zone_of(when);
        matches!(zone.to_ambiguous_timestamp(local).offset(), AmbiguousOffset::Gap { .. })
    }

    fn zone_of(&mut self, when: &When) -> &TimeZone {
        let When::Zoned { zone: name, .. } = when else { return &self.feed_zone };
        let (_, zone) = match self.zone.take() {
            Some(last) if last.0 == *name => self.zone.insert(last),
            _ => {
                let zone = self.options.zones.get(name).unwrap_or_else(|| self.feed_zone.clone());
                self.zone.insert((name.clone(), zone))
            }
        };
        zone
    }

    fn are_in_order(&mut self, start: &When, end: &When) -> bool {
        let same_zone = kind_and_zone(start) == kind_and_zone(end);
        // On one clock, only a gap can make the later time the earlier instant.
        (same_zone && end.local() >= start.local() && !self.is_in_gap(start))
            || self.instant(start) <= self.instant(end)
    }

    /// A start without a zone, in that of the end beside it; but UTC is how an instant is written,
    /// and not where the event is.
    fn zoned_by_end(
        &mut self,
        start: When,
        dtend: Option<&Property<'_>>,
        recurs: bool,
        current: &mut Current<'_>,
    ) -> When {
        let (When::Floating(local), Some(end)) = (&start, dtend) else { return start };
        if end.param("TZID").is_none() {
            return start;
        }
        match self.when(end, &end.value, recurs, current) {
            Some(When::Zoned { zone, .. }) if zone != "UTC" => When::Zoned { local: *local, zone },
            _ => start,
        }
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
                        let instant = self.instant(&end);
                        When::Floating(self.feed_zone.to_datetime(instant))
                    }
                    (_, end) => end,
                };
                if !self.are_in_order(start, &end) {
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

    /// Most events of a feed have the same one: the last is remembered.
    fn organizer(&mut self, property: &Property<'_>) -> Option<Organizer> {
        let name = property.param("CN").unwrap_or_default();
        if let Some((last_name, last_value, organizer)) = &self.organizer
            && last_name == name
            && *last_value == property.value
        {
            return organizer.clone();
        }
        let organizer = self.read_organizer(name, &property.value);
        self.organizer = Some((name.to_owned(), property.value.to_string(), organizer.clone()));
        organizer
    }

    fn read_organizer(&self, name: &str, value: &str) -> Option<Organizer> {
        let name = name.trim().trim_matches(['"', '\'']);
        // The Events Calendar writes the name as if it were part of an address; others may.
        let encoded = self.preamble().prodid.contains("ECPv") || is_percent_encoded(name);
        let decoded = if encoded { text::percent_decode(name) } else { None };
        let name = text::single_line(text::clean(decoded.as_deref().unwrap_or(name)));
        let value = value.trim();
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
    let name = property.name.map(|name| name.to_string()).unwrap_or_default();
    current.warn(property.line, format!("{name} {} is not a date; ignored", printable(value)));
}

/// A rule without its name, which some write twice, and without words that say nothing; None where
/// there is nothing of the kind.
fn without_strays(rule: &str) -> Option<String> {
    let parts = rule.trim_start_matches("RRULE:").trim_start_matches("EXRULE:");
    let is_stray = |part: &&str| !part.trim().is_empty() && !part.contains('=');
    let strays = parts.split(';').filter(is_stray).count();
    if parts.len() == rule.len() && strays == 0 {
        return None;
    }
    let parts: Vec<&str> = parts.split(';').filter(|part| !is_stray(part)).collect();
    Some(parts.join(";"))
}

/// The start of a hostile or long value, for a warning.
fn printable(value: &str) -> String {
    let value = text::single_line(text::clean(value));
    let short: String = value.chars().take(60).collect();
    if short.len() < value.len() { format!("{short}…") } else { short }
}

fn uid_of(value: &str) -> Option<Uid> {
    let uid = text::single_line(text::clean(value));
    (!uid.is_empty()).then_some(Uid(uid))
}

fn kind_and_zone(when: &When) -> (&'static str, &str) {
    match when {
        When::AllDay(_) => ("date", ""),
        When::Zoned { zone, .. } => ("zoned", zone),
        When::Floating(_) => ("floating", ""),
    }
}

fn derived_uid(start: &When, summary: &str) -> Uid {
    let (kind, zone) = kind_and_zone(start);
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
/// better, and so is 00:00–00:00 of another day. Instants in UTC are taken to the zone that the feed
/// says it is in, if any: midnight in UTC is hardly anybody's. With Microsoft's flag beside it, it
/// may be, and both may be on the same day.
fn all_day_in_disguise(
    start: When,
    end: When,
    flagged: bool,
    feed_zone: Option<&TimeZone>,
) -> (When, When) {
    let same_zone = match (&start, &end) {
        (When::Zoned { zone: a, .. }, When::Zoned { zone: b, .. }) => a == b,
        (When::Floating(_), When::Floating(_)) => true,
        _ => false,
    };
    let is_utc = matches!(&start, When::Zoned { zone, .. } if zone == "UTC");
    let midnight = civil::Time::midnight();
    let days = |from: civil::DateTime, to: civil::DateTime, flagged: bool| {
        if from.time() != midnight {
            return None;
        }
        let last = if to.hour() == 23 && to.minute() == 59 && to >= from {
            to.date().tomorrow().ok()?
        } else if to.time() == midnight && to > from {
            to.date()
        } else if to.time() == midnight && flagged {
            from.date().tomorrow().ok()?
        } else {
            return None;
        };
        Some((When::AllDay(from.date()), When::AllDay(last)))
    };
    let (from, to) = (start.local(), end.local());
    let last_minute = to.hour() == 23 && to.minute() == 59;
    let as_written = || match !is_utc || flagged || last_minute {
        true => days(from, to, flagged),
        false => None,
    };
    let in_feed_zone = || {
        let zone = feed_zone.filter(|zone| is_utc && !flagged && **zone != TimeZone::UTC)?;
        let local = |utc| zone.to_datetime(time::resolve(utc, &TimeZone::UTC));
        days(local(from), local(to), false)
    };
    let found = if same_zone { in_feed_zone().or_else(as_written) } else { None };
    found.unwrap_or((start, end))
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
fn meeting(properties: &Properties<'_>, description: &str) -> Option<JoinLink> {
    for name in [Name::Conference, Name::GoogleConference, Name::SkypeTeams] {
        for property in properties.named([name]) {
            let value = text::unescape(property.value.trim());
            let other = || {
                let url = text::http_url(&value)?;
                Some(JoinLink { service: "Online meeting".to_owned(), url })
            };
            if let Some(link) = text::join_link(&value).or_else(other) {
                return Some(link);
            }
        }
    }
    let places = properties.named([Name::Url]).chain(properties.named([Name::Location]));
    places.map(Property::text).find_map(|value| text::join_link(&value)).or_else(|| {
        match memchr(b'&', description.as_bytes()) {
            Some(_) => text::join_link(&description.replace("&amp;", "&")),
            None => text::join_link(description),
        }
    })
}

/// An http(s) picture (RFC 5545, 3.8.1.1; RFC 7986, 5.10).
fn image(property: &Property<'_>) -> Option<String> {
    const EXTENSIONS: [&str; 7] = [".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"];
    let url = text::http_url(&property.value)?;
    if property.name == Some(Name::Image) {
        return Some(url);
    }
    let kind = property.param("FMTTYPE").unwrap_or_default();
    let is_image = if kind.is_empty() {
        let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        EXTENSIONS.iter().any(|extension| path.ends_with(extension))
    } else {
        kind.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("image/"))
    };
    is_image.then_some(url)
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

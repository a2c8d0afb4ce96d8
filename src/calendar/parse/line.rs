//! Content lines (RFC 5545, 3.1): names, parameters, and where the value begins.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};

use super::value::DateValue;
use crate::text;

/// Longest name and parameters given to the line parser, whose time grows with their square.
const HEAD_BYTES: usize = 8 * 1024;
/// Longest value kept; no text that people read is longer.
pub(super) const VALUE_BYTES: usize = 256 * 1024;

macro_rules! names {
    ($($name:ident $text:literal,)*) => {
        /// The name of a property that is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Name { $($name),* }

        impl Name {
            pub(super) const ALL: [Name; [$(Name::$name),*].len()] = [$(Name::$name),*];

            /// By its beginning, see [`beginning`].
            fn of_beginning(beginning: u64) -> Option<Name> {
                mod beginnings {
                    $(#[allow(non_upper_case_globals)]
                    pub(super) const $name: u64 = super::beginning($text);)*
                }
                // Of two that begin alike the second is found by its whole name.
                #[allow(unreachable_patterns)]
                Some(match beginning {
                    $(beginnings::$name => Name::$name,)*
                    _ => return None,
                })
            }

            /// `name` is in upper case.
            pub(super) fn of_upper(name: &[u8]) -> Option<Name> {
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

    /// The name that a line begins with, where it is one that is read and stands in upper case.
    pub(super) fn at(line: &[u8]) -> Option<Name> {
        let word = u64::from_le_bytes(*line.first_chunk()?);
        // The two signs behind a name differ in the lowest bit alone: their bytes become zero.
        let signs = (word | ONES) ^ (ONES * b';' as u64);
        let ends = signs.wrapping_sub(ONES) & !signs & (ONES << 7);
        let beginning = match ends.trailing_zeros() {
            64 => word,
            end => word & !(u64::MAX << (end - 7)),
        };
        let name = Name::of_beginning(beginning)?;
        let rest = line.strip_prefix(name.as_bytes())?;
        matches!(rest, [b':' | b';', ..]).then_some(name)
    }

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

    pub(super) fn is_date(self) -> bool {
        use Name::*;
        matches!(self, Dtstart | Dtend | RecurrenceId | Exdate | Rdate)
    }
}

/// A one in each byte.
const ONES: u64 = u64::from_le_bytes([1; 8]);

/// The first eight bytes of a name, or all.
const fn beginning(name: &[u8]) -> u64 {
    let (mut bytes, mut at) = ([0; 8], 0);
    while at < name.len() && at < bytes.len() {
        bytes[at] = name[at];
        at += 1;
    }
    u64::from_le_bytes(bytes)
}

/// Where the first line break is.
pub(super) fn line_end(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    // Most values are short: no call.
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // What is below a blank has none of the upper three bits.
        let high = word & (ONES * 0xe0);
        let controls = high.wrapping_sub(ONES) & !high & (ONES << 7);
        if controls != 0 {
            let at = at * 8 + controls.trailing_zeros() as usize / 8;
            return match text[at] {
                b'\r' | b'\n' => Some(at),
                _ => Some(at + memchr2(b'\r', b'\n', &text[at..])?),
            };
        }
    }
    let from = words.len() * 8;
    Some(from + memchr2(b'\r', b'\n', rest)?)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// One content line (RFC 5545, 3.1).
#[derive(Clone, Debug)]
pub(super) struct Property<'t> {
    pub(super) line: usize,
    /// None: one that is not read.
    pub(super) name: Option<Name>,
    pub(super) params: Params<'t>,
    pub(super) value: Cow<'t, str>,
    /// What has been done to the value.
    pub(super) form: Form,
}

/// How much of the reading of a TEXT value is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Unfolded and decoded.
    Stated,
    /// Unescaped and clean too.
    Plain,
    /// In [paragraphs](text::paragraphs) too.
    Tidy,
}

/// Parameters of a content line.
#[derive(Clone, Debug)]
pub(super) enum Params<'t> {
    /// As they stand, in the [plain form](plain_head), with the `;` before the first.
    Plain(&'t str),
    /// Names in upper case, values decoded as RFC 6868 says.
    Read(Vec<(String, Vec<String>)>),
}

impl Property<'_> {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        match &self.params {
            Params::Plain(params) => plain_param(params, name),
            Params::Read(params) => {
                let (_, values) = params.iter().find(|(param, _)| param == name)?;
                values.first().map(String::as_str)
            }
        }
    }

    pub(super) fn is_date(&self) -> bool {
        self.param("VALUE").is_some_and(|value| value.eq_ignore_ascii_case("DATE"))
    }

    /// A TEXT value, decoded and without what cannot be seen.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self.form {
            Form::Stated => text::clean(text::unescape(&self.value)),
            Form::Plain | Form::Tidy => Cow::Borrowed(&self.value),
        }
    }
}

/// The properties of an event.
#[derive(Debug)]
pub(super) struct Properties<'t> {
    pub(super) all: Vec<Property<'t>>,
    /// For each name, where the first one stands, and the first one that is not blank.
    first: [Option<u32>; Name::ALL.len()],
    filled: [Option<u32>; Name::ALL.len()],
}

impl<'t> Properties<'t> {
    /// `room` saves an allocation.
    pub(super) fn new(room: Vec<Property<'_>>) -> Self {
        let none = [None; Name::ALL.len()];
        Properties { all: emptied(room), first: none, filled: none }
    }

    #[inline]
    pub(super) fn push(&mut self, property: Property<'t>) {
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

    pub(super) fn first(&self, name: Name) -> Option<&Property<'t>> {
        self.all.get(self.first[name as usize]? as usize)
    }

    pub(super) fn filled(&self, name: Name) -> Option<&Property<'t>> {
        self.all.get(self.filled[name as usize]? as usize)
    }

    /// The text of the one that is not blank.
    pub(super) fn take(&mut self, name: Name) -> Option<Cow<'t, str>> {
        let property = self.all.get_mut(self.filled[name as usize]? as usize)?;
        let value = std::mem::take(&mut property.value);
        Some(match property.form {
            Form::Stated => text::clean(text::unescape(&value).into_owned()),
            Form::Plain | Form::Tidy => value,
        })
    }

    /// Those with one of these names, in the order of the feed.
    pub(super) fn named<const N: usize>(
        &self,
        names: [Name; N],
    ) -> impl Iterator<Item = &Property<'t>> {
        let first = names.iter().filter_map(|name| self.first[*name as usize]).min();
        let from = first.map_or(self.all.len(), |first| first as usize);
        let named = move |one: &&Property<'t>| one.name.is_some_and(|name| names.contains(&name));
        self.all[from..].iter().filter(named)
    }
}

/// The allocation of a list, for one that borrows from elsewhere.
pub(super) fn emptied<'t>(list: Vec<Property<'_>>) -> Vec<Property<'t>> {
    // Collecting in place keeps it.
    list.into_iter().map_while(|_| None).collect()
}

/// Something worth a warning, before line and event are known.
pub(super) type Problem = Cow<'static, str>;

/// Reads a decoded, unfolded line; a problem beside the property means that it is not whole.
pub(super) fn property<'t>(
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
///
/// Most lines of a name have the same parameters as the last one: those are known again in `last`.
pub(super) fn plain_head<'t>(
    bytes: &'t [u8],
    last: &mut LastParams,
) -> Option<(Option<Name>, &'t [u8], usize)> {
    let (known, end) = match Name::at(bytes) {
        Some(name) => (Some(name), name.as_bytes().len()),
        None => {
            let end = memchr2(b':', b';', &bytes[..bytes.len().min(HEAD_BYTES)])?;
            let known = Name::of(&bytes[..end]);
            let is_name = |byte: &u8| HEAD[*byte as usize] & NAME != 0;
            if known.is_none() && !bytes[..end].iter().all(is_name) {
                return None;
            }
            (known, end)
        }
    };
    let known = known.filter(|name| name.is_of_event());
    if end > 0 && bytes.get(end) == Some(&b':') {
        return Some((known, b"", end + 1));
    }
    let last = known.map(|name| &mut last.0[name as usize]);
    if let Some(last) = last.as_deref().filter(|last| !last.is_empty())
        && let Some((params, [b':', ..])) = bytes[end..].split_at_checked(last.len())
        && params == last
    {
        return Some((known, params, end + last.len() + 1));
    }
    let mut at = end;
    while bytes.get(at) == Some(&b';') && at <= HEAD_BYTES {
        at += param_length(&bytes[at..])?;
    }
    if end == 0 || at > HEAD_BYTES || bytes.get(at) != Some(&b':') {
        return None;
    }
    let params = &bytes[end..at];
    if let Some(last) = last {
        last.clear();
        last.extend_from_slice(params);
    }
    Some((known, params, at + 1))
}

/// For each name, the parameters of the last line in the [plain form](plain_head).
#[derive(Debug, Default)]
pub(super) struct LastParams([Vec<u8>; Name::Method as usize]);

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

/// The value of a parameter in the plain form.
pub(super) fn plain_param<'t>(params: &'t str, name: &str) -> Option<&'t str> {
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
pub(super) fn params(head: &str) -> Option<Vec<(String, Vec<String>)>> {
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

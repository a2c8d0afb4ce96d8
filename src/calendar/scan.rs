//! Bytes to structure at the speed of memory (RFC 5545, 3.1 and 3.4).
//!
//! A poll usually finds nothing new, so the body is not parsed: it is cut into slices, one for each
//! VEVENT, and each slice gets a hash that leaves its `DTSTAMP` out, because some publishers stamp
//! every export anew. Only slices with an unknown hash are parsed.
//!
//! The [`Scanner`] takes the body in pieces as they arrive. It goes line by line, except where an
//! event of the common form begins: then it looks for the next `END:VEVENT` at once. Nothing else
//! is known of the text between, so it counts as one event only if it has been met before, or if
//! the [`Visitor`] reads it line by line and agrees; otherwise it is gone through with care after
//! all. Both ways find the same, wherever the pieces are cut; tests hold them to it.
//!
//! What is nested is counted off on a stack of its own, so depth costs no call stack.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2, memmem, memrchr};
use xxhash_rust::xxh3::xxh3_128;

use super::{Health, Warning, text};

/// Largest component or line that is read, in bytes; memory is bounded by about twice as much.
pub const LARGEST: usize = 16 * 1024 * 1024;
/// Line breaks after a line that are passed over to see whether a blank continues it.
const BREAKS: usize = 1024;
/// What a line may take beyond its text until its end is known.
const SLACK: usize = 2 * BREAKS + 2;
/// How deep an `END` looks for its `BEGIN`; beyond that it counts as a stray one.
const SEARCH: usize = 32;
/// How deep components are counted off.
const DEPTH: usize = 1 << 20;
/// Warnings about structure are alike: more than these tell nothing new.
const WARNINGS: usize = 50;

/// A logical line as it stands in the body: its folds are still in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// 1-based number of its first physical line; 0 where it is not known, see [`Scanner`].
    pub number: usize,
    pub bytes: &'a [u8],
    /// Whether it goes on over several physical lines.
    pub folded: bool,
    /// Where the next line begins, from the start of the text.
    next: usize,
}

/// The logical lines of a text. A line ends with CRLF, LF or CR; empty lines are passed over, also
/// where they stand before the blank that continues a line.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    text: &'a [u8],
    cursor: Cursor,
}

impl<'a> Lines<'a> {
    /// `number` is that of the first line; with 0, all are 0.
    pub fn new(text: &'a [u8], number: usize) -> Self {
        Lines { text, cursor: Cursor::new(number) }
    }

    /// Where the next line begins, and its number; none where line breaks are a bare CR.
    pub fn place(&self) -> Option<(usize, usize)> {
        let Cursor { at, number, by_cr, .. } = self.cursor;
        (by_cr == Some(false)).then_some((at, number))
    }

    /// Passes over whole lines that were read from that [place](Self::place) on: how many bytes and
    /// line breaks.
    pub fn pass(&mut self, bytes: usize, breaks: usize) {
        self.cursor.step(self.cursor.at + bytes, breaks);
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = RawLine<'a>;

    fn next(&mut self) -> Option<RawLine<'a>> {
        self.cursor.next(self.text, true)
    }
}

/// A place between two logical lines, and how much of the next one has been looked at.
#[derive(Clone, Debug)]
struct Cursor {
    /// Where the next line begins.
    at: usize,
    /// Physical line at `at`, or 0. They are counted by LF, as editors do; by CR where there is no
    /// LF.
    number: usize,
    by_cr: Option<bool>,
    /// No line break of the line at `at` is unknown before here.
    seen: usize,
    /// Physical lines from `at` to `seen`.
    passed: usize,
    folded: bool,
}

impl Cursor {
    fn new(number: usize) -> Self {
        Cursor { at: 0, number, by_cr: None, seen: 0, passed: 0, folded: false }
    }

    /// The next line of `text`; none when more text is needed to see its end. `last`: there is no
    /// more.
    fn next<'a>(&mut self, text: &'a [u8], last: bool) -> Option<RawLine<'a>> {
        loop {
            let rest = text.get(self.seen..)?;
            if self.at == self.seen && rest.is_empty() {
                return None;
            }
            let Some(end) = memchr2(b'\r', b'\n', rest).map(|end| self.seen + end) else {
                self.seen = text.len();
                return last.then(|| self.line(text, text.len(), text.len(), 0));
            };
            // Nearly always it is this.
            if let [b'\r', b'\n', follower, ..] = text[end..]
                && !matches!(follower, b'\r' | b'\n')
                && self.by_cr == Some(false)
            {
                if matches!(follower, b' ' | b'\t') {
                    (self.seen, self.folded) = (end + 3, true);
                    self.passed += 1;
                    continue;
                }
                if end > self.at {
                    return Some(self.line(text, end, end + 2, 1));
                }
                self.step(end + 2, 1);
                continue;
            }
            let (next, passed) = self.breaks(text, end);
            let follower = text.get(next);
            // The end of the text may cut a CRLF, or a run of breaks that a blank ends.
            if follower.is_none() && !last {
                self.seen = end;
                return None;
            }
            if matches!(follower, Some(b' ' | b'\t')) && next - end < BREAKS {
                (self.seen, self.folded) = (next + 1, true);
                self.passed += passed;
                continue;
            }
            if end > self.at {
                return Some(self.line(text, end, next, passed));
            }
            self.step(next, passed);
        }
    }

    fn line<'a>(&mut self, text: &'a [u8], end: usize, next: usize, passed: usize) -> RawLine<'a> {
        let bytes = &text[self.at..end];
        let line = RawLine { number: self.number, bytes, folded: self.folded, next };
        self.step(next, passed);
        line
    }

    fn step(&mut self, next: usize, passed: usize) {
        if self.number > 0 {
            self.number += self.passed + passed;
        }
        (self.at, self.seen, self.passed, self.folded) = (next, next, 0, false);
    }

    /// Passes over a run of line breaks: where it ends, and how many physical lines it ends.
    fn breaks(&mut self, text: &[u8], start: usize) -> (usize, usize) {
        let end = text.len().min(start + BREAKS);
        let run = text[start..end].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let run = &text[start..start + run];
        let feeds = memchr_iter(b'\n', run).count();
        if self.by_cr.is_none() && start + run.len() < text.len() {
            self.by_cr = Some(feeds == 0);
        }
        let lines = match self.by_cr {
            Some(true) => run.len() - run.windows(2).filter(|pair| pair == b"\r\n").count(),
            _ => feeds,
        };
        (start + run.len(), lines)
    }

    /// Moves to the text that begins at `by`.
    fn rebase(&mut self, by: usize) {
        self.at -= by;
        self.seen -= by;
    }
}

impl<'a> RawLine<'a> {
    /// Takes the folds out: each break with the one blank after it (RFC 5545, 3.1). Works on
    /// bytes, because a fold may lie inside a UTF-8 sequence.
    pub fn unfold(&self) -> Cow<'a, [u8]> {
        if !self.folded {
            return Cow::Borrowed(self.bytes);
        }
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut rest = self.bytes;
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            out.extend_from_slice(&rest[..end]);
            let after = rest[end..].iter().position(|b| !matches!(b, b'\r' | b'\n'));
            rest = &rest[end + after.map_or(rest.len() - end, |blank| blank + 1)..];
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    }

    /// What remains of the line from a byte on.
    #[must_use]
    pub fn from(&self, start: usize) -> RawLine<'a> {
        RawLine { bytes: &self.bytes[start..], ..*self }
    }

    /// The component that the line begins or ends.
    pub fn bracket(&self) -> Bracket {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes);
        if !matches!(bytes.first(), Some(b'B' | b'b' | b'E' | b'e')) {
            return Bracket::None;
        }
        let line = RawLine { bytes, ..*self };
        let bytes = if bytes.len() < 256 { line.unfold() } else { Cow::Borrowed(bytes) };
        let named = |prefix: &[u8]| {
            let (head, name) = bytes.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| Component::named(name.trim_ascii()))
        };
        if let Some(component) = named(b"BEGIN:") {
            Bracket::Begin(component)
        } else if let Some(component) = named(b"END:") {
            Bracket::End(component)
        } else {
            Bracket::None
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.bytes.len() > name.len()
            && matches!(self.bytes[name.len()], b':' | b';')
            && self.bytes[..name.len()].eq_ignore_ascii_case(name)
    }
}

/// What a line does to the structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    Begin(Component),
    End(Component),
    None,
}

/// Whether a line says nothing, or ends what a page began before the calendar.
fn is_of_a_page(line: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let start = line.iter().position(|byte| !blank(byte));
    start.is_none_or(|start| line[start..].starts_with(b"</"))
}

/// A line outside of any calendar, without indentation and without what belongs to a page.
pub fn behind_markup(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    let tags = if line.first() == Some(&b'<') { memrchr(b'>', line) } else { None };
    tags.map_or(line, |end| line[end + 1..].trim_ascii_start())
}

/// A component's name, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Calendar,
    Event,
    Timezone,
    /// Any other, by a hash of its name.
    Other(u64),
}

impl Component {
    fn named(name: &[u8]) -> Component {
        match name {
            b"VEVENT" => Component::Event,
            b"VCALENDAR" => Component::Calendar,
            b"VTIMEZONE" => Component::Timezone,
            name if name.iter().any(u8::is_ascii_lowercase) => {
                Component::named(&name.to_ascii_uppercase())
            }
            // `END:VCALENDAR</pre>`
            name => match memchr(b'<', name) {
                Some(end) => Component::named(name[..end].trim_ascii_end()),
                None => Component::Other(xxhash_rust::xxh3::xxh3_64(name)),
            },
        }
    }
}

/// A whole component, from its `BEGIN` line to its `END` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    /// 1-based physical line of its `BEGIN`, or 0.
    pub line: usize,
    pub bytes: &'a [u8],
    /// Hash of the slice without its first `DTSTAMP` line, and of whether it is well formed.
    pub hash: u128,
    /// That line.
    pub stamp: Option<RawLine<'a>>,
}

impl<'a> Slice<'a> {
    fn new(bytes: &'a [u8], line: usize, finder: &memmem::Finder<'_>) -> Self {
        let stamp = stamp(bytes, finder);
        let (before, after) = match stamp {
            Some((start, line)) => (&bytes[..start], &bytes[line.next..]),
            None => (bytes, &[][..]),
        };
        // Any odd number: the two must not change places unnoticed.
        const MIX: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let hash = xxh3_128(before).wrapping_mul(MIX) ^ xxh3_128(after);
        Slice { line, bytes, hash, stamp: stamp.map(|(_, line)| line) }
    }
}

const STAMP: &[u8] = b"\nDTSTAMP";

/// The first `DTSTAMP` line of a slice, and where it begins. `finder` finds [`STAMP`].
fn stamp<'a>(bytes: &'a [u8], finder: &memmem::Finder<'_>) -> Option<(usize, RawLine<'a>)> {
    let mut cursor = Cursor::new(0);
    cursor.by_cr = Some(false);
    let plain =
        finder.find(bytes).filter(|at| matches!(bytes.get(at + STAMP.len()), Some(b':' | b';')));
    if let Some(at) = plain {
        cursor.step(at + 1, 0);
        return cursor.next(bytes, true).map(|line| (at + 1, line));
    }
    loop {
        let at = cursor.at;
        let line = cursor.next(bytes, true)?;
        if matches!(line.bytes.first(), Some(b'D' | b'd')) && line.is(b"DTSTAMP") {
            return Some((at, line));
        }
    }
}

/// What is done with the parts of a body, in their order.
pub trait Visitor {
    /// Whether an event with this [hash](Slice::hash) has been met before. Then it is not read.
    fn is_known(&mut self, hash: u128) -> bool;
    /// A known event; `stamp` is its `DTSTAMP`.
    fn known(&mut self, stamp: Option<RawLine<'_>>);
    /// Another event; the answer is how many line feeds it has. Unless it is `sure` to be one, and
    /// unless what begins and ends inside of it is well nested and all [`Component::Other`], nothing
    /// may be done with it and there must be no answer.
    fn event(&mut self, slice: &Slice<'_>, sure: bool) -> Option<usize>;
    /// A property of a VCALENDAR.
    fn header(&mut self, line: RawLine<'_>);
    fn timezone(&mut self, slice: &Slice<'_>);
    /// An event that cannot be read as a whole; its `UID` line, if it got so far.
    fn cut_off(&mut self, uid: Option<RawLine<'_>>);
}

/// Cuts a body into slices. It may hold several VCALENDARs; what stands outside them is ignored.
///
/// Lines are counted until a known event is leapt over: to find its line ends would cost more than
/// all else that is done with it, and the numbers are for people, who read the feed as a whole.
#[derive(Debug)]
pub struct Scanner {
    /// The end of what has come that is not finished.
    carry: Vec<u8>,
    begun: bool,
    cursor: Cursor,
    /// Up to where `END:VEVENT` has been looked for.
    sought: usize,
    /// In the middle of a line that is too long.
    skipping: bool,
    in_calendar: bool,
    /// The VEVENT or VTIMEZONE being read.
    open: Option<Open>,
    /// Components inside the open one, or unknown ones inside the calendar.
    inner: Vec<Component>,
    balanced: bool,
    last_is_end: bool,
    is_calendar: bool,
    warnings: Vec<Warning>,
    end: memmem::Finder<'static>,
    stamp: memmem::Finder<'static>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    is_event: bool,
    start: usize,
    line: usize,
    /// Its `UID`: where, how long, on which line, whether folded.
    uid: Option<(usize, usize, usize, bool)>,
    /// It is too large to be read.
    lost: bool,
    /// Something in it was worth a warning.
    odd: bool,
}

/// What became of an event that looks like one of the common form.
enum Leap {
    Done,
    NeedsMore,
    NotOne,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner {
            carry: Vec::new(),
            begun: false,
            cursor: Cursor::new(1),
            sought: 0,
            skipping: false,
            in_calendar: false,
            open: None,
            inner: Vec::new(),
            balanced: true,
            last_is_end: false,
            is_calendar: false,
            warnings: Vec::new(),
            end: memmem::Finder::new(b"\nEND:VEVENT"),
            stamp: memmem::Finder::new(STAMP),
        }
    }
}

impl Scanner {
    /// Takes the next piece of the body.
    pub fn push(&mut self, mut piece: &[u8], visitor: &mut impl Visitor) {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        if !self.begun {
            if self.carry.is_empty() && piece.len() >= BOM.len() {
                self.begun = true;
                piece = piece.strip_prefix(BOM).unwrap_or(piece);
            } else {
                self.carry.extend_from_slice(piece);
                if self.carry.len() >= BOM.len() {
                    let head = std::mem::take(&mut self.carry);
                    self.push(&head, visitor);
                }
                return;
            }
        }
        // What straddles two pieces is put together, with as little more as possible.
        while !self.carry.is_empty() && !piece.is_empty() {
            let held = self.carry.len();
            let (more, rest) = piece.split_at(piece.len().min(held.max(4096)));
            let mut window = std::mem::take(&mut self.carry);
            window.extend_from_slice(more);
            let done = self.window(&window, false, visitor);
            if done >= held {
                piece = &piece[done - held..];
                window.clear();
            } else {
                piece = rest;
                window.drain(..done);
            }
            self.carry = window;
        }
        if self.carry.is_empty() {
            let done = self.window(piece, false, visitor);
            self.carry.extend_from_slice(&piece[done..]);
        }
    }

    /// Ends the body.
    pub fn finish(mut self, visitor: &mut impl Visitor) -> (Health, Vec<Warning>) {
        let window = std::mem::take(&mut self.carry);
        self.begun = true;
        let done = self.window(&window, true, visitor);
        if let Some(open) = self.open.take() {
            let kind = if open.is_event { "VEVENT" } else { "VTIMEZONE" };
            let (text, message) = (&window[done..], format!("the feed ends inside this {kind}"));
            self.balanced = false;
            self.keep(open.line, open.name(text), &message);
            open.cut_off(text, visitor);
        } else if self.in_calendar {
            self.unbalanced(self.cursor.number, "the feed ends without END:VCALENDAR", &[]);
        }
        let health = Health {
            is_calendar: self.is_calendar,
            complete: self.is_calendar && self.balanced && self.last_is_end,
            unreadable: 0,
        };
        (health, self.warnings)
    }

    /// Goes through a text as far as possible, and says how much of it is finished. `last`:
    /// nothing follows it.
    fn window(&mut self, text: &[u8], last: bool, visitor: &mut impl Visitor) -> usize {
        loop {
            if self.skipping {
                self.skip(text, last);
                if self.skipping {
                    break;
                }
            }
            if self.at_event(text) {
                match self.leap(text, visitor) {
                    Leap::Done => continue,
                    Leap::NeedsMore if !last => break,
                    Leap::NeedsMore | Leap::NotOne => {}
                }
            }
            let start = self.cursor.at;
            match self.cursor.next(text, last) {
                Some(line) if line.bytes.len() > LARGEST => {
                    self.too_long(line.number, text, visitor)
                }
                Some(line) => self.line(start, line, text, visitor),
                None if text.len() - self.cursor.at > LARGEST + SLACK => {
                    self.too_long(self.cursor.number, text, visitor);
                    self.skipping = true;
                }
                None => break,
            }
        }
        let open = self.open.as_mut().filter(|open| !open.lost);
        let done = open.map_or(self.cursor.at, |open| {
            let done = open.start;
            open.start = 0;
            if let Some((at, ..)) = &mut open.uid {
                *at -= done;
            }
            done
        });
        self.cursor.rebase(done);
        self.sought = self.sought.saturating_sub(done);
        done
    }

    /// Whether an event of the common form begins here.
    fn at_event(&self, text: &[u8]) -> bool {
        self.in_calendar
            && self.open.is_none()
            && self.inner.is_empty()
            && self.cursor.by_cr == Some(false)
            && text[self.cursor.at..].starts_with(b"BEGIN:VEVENT")
    }

    /// From `BEGIN:VEVENT` to the next `END:VEVENT` at once.
    fn leap(&mut self, text: &[u8], visitor: &mut impl Visitor) -> Leap {
        const END: usize = b"\nEND:VEVENT".len();
        let start = self.cursor.at;
        let from = self.sought.max(start);
        let Some(end) = self.end.find(&text[from..]).map(|end| from + end + END) else {
            self.sought = text.len().saturating_sub(END).max(start);
            return if text.len() - start > LARGEST { Leap::NotOne } else { Leap::NeedsMore };
        };
        // Its end is found again at once when there is more text.
        self.sought = end - END;
        let next = match &text[end..] {
            [b'\r', b'\n', ..] => end + 2,
            [b'\n', ..] => end + 1,
            [] | [b'\r'] => return Leap::NeedsMore,
            _ => return Leap::NotOne,
        };
        match text.get(next) {
            None => return Leap::NeedsMore,
            Some(b' ' | b'\t' | b'\r' | b'\n') => return Leap::NotOne,
            Some(_) if end - start > LARGEST => return Leap::NotOne,
            Some(_) => {}
        }
        let number = self.cursor.number;
        let slice = Slice::new(&text[start..end], number, &self.stamp);
        self.last_is_end = false;
        if visitor.is_known(slice.hash) {
            visitor.known(slice.stamp);
            self.cursor.number = 0;
            self.cursor.step(next, 0);
            return Leap::Done;
        }
        let Some(feeds) = visitor.event(&slice, false) else { return Leap::NotOne };
        debug_assert_eq!(feeds, memchr_iter(b'\n', slice.bytes).count());
        self.cursor.step(next, feeds + 1);
        Leap::Done
    }

    /// Passes over the rest of a line that is too long.
    fn skip(&mut self, text: &[u8], last: bool) {
        let cursor = &mut self.cursor;
        while cursor.seen < text.len() {
            let Some(end) = memchr2(b'\r', b'\n', &text[cursor.seen..]) else {
                cursor.step(text.len(), 0);
                break;
            };
            let end = cursor.seen + end;
            let (next, passed) = cursor.breaks(text, end);
            match text.get(next) {
                None if !last => {
                    cursor.step(end, 0);
                    return;
                }
                Some(b' ' | b'\t') if next - end < BREAKS => cursor.step(next + 1, passed),
                _ => {
                    cursor.step(next, passed);
                    self.skipping = false;
                    return;
                }
            }
        }
        self.skipping &= !last;
    }

    fn too_long(&mut self, number: usize, text: &[u8], visitor: &mut impl Visitor) {
        self.warn(number, &format!("longer than {LARGEST} bytes; left out"), text);
        self.lose(text, visitor);
    }

    /// Gives up the open component because of its size.
    fn lose(&mut self, text: &[u8], visitor: &mut impl Visitor) {
        let Some(open) = self.open.as_mut().filter(|open| !open.lost) else { return };
        open.cut_off(text, visitor);
        open.lost = true;
    }

    fn line(&mut self, at: usize, line: RawLine<'_>, text: &[u8], visitor: &mut impl Visitor) {
        let large = |open: &Open| !open.lost && line.next - open.start > LARGEST + SLACK;
        let bracket = match self.in_calendar {
            true => line.bracket(),
            false => RawLine { bytes: behind_markup(line.bytes), ..line }.bracket(),
        };
        match bracket {
            Bracket::None => self.property(at, line, visitor),
            Bracket::Begin(component) => {
                self.last_is_end = false;
                self.begin(component, at, line.number, text, visitor);
            }
            Bracket::End(component) => {
                self.end(component, at + line.bytes.len(), line.number, text, visitor);
            }
        }
        if let Some(open) = self.open.filter(large) {
            let kind = if open.is_event { "VEVENT" } else { "VTIMEZONE" };
            self.warn(open.line, &format!("{kind} is larger than {LARGEST} bytes; left out"), text);
            self.lose(text, visitor);
        }
    }

    fn property(&mut self, at: usize, line: RawLine<'_>, visitor: &mut impl Visitor) {
        if !self.inner.is_empty() {
            return;
        }
        match &mut self.open {
            Some(open) => {
                if matches!(line.bytes.first(), Some(b'U' | b'u')) && line.is(b"UID") {
                    open.uid = Some((at, line.bytes.len(), line.number, line.folded));
                }
            }
            None if self.in_calendar => visitor.header(line),
            // What follows the last calendar of a page.
            None => self.last_is_end &= is_of_a_page(line.bytes),
        }
    }

    fn begin(
        &mut self,
        component: Component,
        at: usize,
        number: usize,
        text: &[u8],
        visitor: &mut impl Visitor,
    ) {
        match component {
            Component::Calendar => {
                if self.in_calendar {
                    self.cut_off(number, "BEGIN:VCALENDAR", text, visitor);
                    self.unbalanced(number, "the VCALENDAR before this one has no END", text);
                    self.inner.clear();
                }
                self.in_calendar = true;
                self.is_calendar = true;
            }
            Component::Event if self.is_calendar && !self.in_calendar => {
                self.warn(number, "a VEVENT outside of any VCALENDAR; read all the same", text);
                self.in_calendar = true;
                self.begin(component, at, number, text, visitor);
            }
            _ if !self.in_calendar => {}
            Component::Event | Component::Timezone => {
                self.cut_off(number, "another component begins", text, visitor);
                if !self.inner.is_empty() {
                    self.unbalanced(number, "a component before this one has no END", text);
                    self.inner.clear();
                }
                let is_event = component == Component::Event;
                self.open = Some(Open {
                    is_event,
                    start: at,
                    line: number,
                    uid: None,
                    lost: false,
                    odd: false,
                });
            }
            Component::Other(_) if self.inner.len() < DEPTH => self.inner.push(component),
            Component::Other(_) => {
                self.unbalanced(number, "too many components inside of others", text)
            }
        }
    }

    fn end(
        &mut self,
        component: Component,
        end: usize,
        number: usize,
        text: &[u8],
        visitor: &mut impl Visitor,
    ) {
        self.last_is_end = component == Component::Calendar;
        let opened = match component {
            Component::Calendar => self.in_calendar,
            Component::Event => self.open.is_some_and(|open| open.is_event),
            Component::Timezone => self.open.is_some_and(|open| !open.is_event),
            Component::Other(_) => {
                let near = self.inner.iter().rev().take(SEARCH).position(|c| *c == component);
                if let Some(above) = near {
                    self.inner.truncate(self.inner.len() - 1 - above);
                    if above > 0 {
                        self.unbalanced(number, "a component inside this one has no END", text);
                    }
                }
                near.is_some()
            }
        };
        if !opened {
            if self.in_calendar {
                self.warn(number, "an END without its BEGIN; ignored", text);
            }
            return;
        }
        match component {
            Component::Calendar => {
                self.cut_off(number, "END:VCALENDAR", text, visitor);
                self.close_inner(number, text);
                self.in_calendar = false;
            }
            Component::Event | Component::Timezone => {
                self.close_inner(number, text);
                self.close(&text[..end], visitor);
            }
            Component::Other(_) => {}
        }
    }

    fn close_inner(&mut self, number: usize, text: &[u8]) {
        if !self.inner.is_empty() {
            self.unbalanced(number, "a component inside this one has no END", text);
            self.inner.clear();
        }
    }

    fn close(&mut self, text: &[u8], visitor: &mut impl Visitor) {
        let Some(open) = self.open.take().filter(|open| !open.lost) else { return };
        let mut slice = Slice::new(&text[open.start..], open.line, &self.stamp);
        if open.odd {
            // Not to be leapt over next time: the feed is then as odd as now.
            slice.hash = !slice.hash;
        }
        if !open.is_event {
            visitor.timezone(&slice);
        } else if visitor.is_known(slice.hash) {
            visitor.known(slice.stamp);
        } else {
            visitor.event(&slice, true);
        }
    }

    /// Gives up the open component: only whole ones are believed.
    fn cut_off(&mut self, number: usize, at: &str, text: &[u8], visitor: &mut impl Visitor) {
        let Some(open) = self.open.take() else { return };
        self.inner.clear();
        let kind = if open.is_event { "VEVENT" } else { "VTIMEZONE" };
        let before = if number > 0 { format!(" before line {number},") } else { String::new() };
        let message = format!("{kind} has no END{before} where {at}; it was left out");
        self.balanced = false;
        self.keep(open.line, open.name(text), &message);
        open.cut_off(text, visitor);
    }

    fn unbalanced(&mut self, line: usize, message: &str, text: &[u8]) {
        self.balanced = false;
        self.warn(line, message, text);
    }

    /// Warns of something in the open component, if there is one.
    fn warn(&mut self, line: usize, message: &str, text: &[u8]) {
        let name = self.open.as_mut().and_then(|open| {
            open.odd = true;
            open.name(text)
        });
        self.keep(line, name, message);
    }

    fn keep(&mut self, line: usize, event: Option<String>, message: &str) {
        if self.warnings.len() < WARNINGS {
            self.warnings.push(Warning { line, event, message: message.to_owned() });
        }
    }
}

impl Open {
    fn cut_off(&self, text: &[u8], visitor: &mut impl Visitor) {
        if self.is_event && !self.lost {
            visitor.cut_off(self.uid(text));
        }
    }

    fn uid<'t>(&self, text: &'t [u8]) -> Option<RawLine<'t>> {
        self.uid.map(|(at, len, number, folded)| RawLine {
            number,
            bytes: &text[at..at + len],
            folded,
            next: at + len,
        })
    }

    /// For warnings.
    fn name(&self, text: &[u8]) -> Option<String> {
        let line = self.uid(text).filter(|_| self.is_event && !self.lost)?.unfold();
        let value = &line[memchr(b':', &line)? + 1..];
        let name = text::single_line(text::clean(String::from_utf8_lossy(value)));
        (!name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests;

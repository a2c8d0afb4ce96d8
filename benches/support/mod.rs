//! Feeds for measuring, modelled on what The Events Calendar exports: 1 to 2 kB of description in
//! each event. The same arguments give the same bytes.

use std::fmt::Write as _;

/// How a feed is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Folded at 75 bytes, CRLF, `DTSTAMP` in UTC: RFC 5545.
    Folded,
    /// Folded, LF only.
    Lf,
    /// Each property on one line.
    Unfolded,
    /// `DTSTAMP` without `Z`.
    Floating,
    /// Few events of very many lines.
    ManyLines,
    /// Few events, one of which has a line of 10 MB.
    LongLine,
}

pub const DIALECTS: [Dialect; 6] = [
    Dialect::Folded,
    Dialect::Lf,
    Dialect::Unfolded,
    Dialect::Floating,
    Dialect::ManyLines,
    Dialect::LongLine,
];

const WORDS: [&str; 24] = [
    "the",
    "of",
    "research",
    "on",
    "materials",
    "and",
    "a",
    "talk",
    "about",
    "learning",
    "from",
    "cells",
    "in",
    "quantum",
    "systems",
    "with",
    "students",
    "naïve",
    "models\\,",
    "climate",
    "data\\;",
    "robots",
    "for",
    "everyone",
];

/// A feed of `events` events with `DTSTAMP`s from second `stamp` of an hour, in which the title of
/// the event `changed` is another one.
pub fn feed(events: usize, dialect: Dialect, stamp: u32, changed: Option<usize>) -> Vec<u8> {
    feed_of(events, dialect, stamp, changed, 1)
}

/// The same with descriptions that are `longer` times as long.
pub fn feed_of(
    events: usize,
    dialect: Dialect,
    stamp: u32,
    changed: Option<usize>,
    longer: usize,
) -> Vec<u8> {
    let out = Vec::with_capacity(events * 2400 * longer);
    let mut out = Writer { dialect, out, number: 7, longer };
    for line in [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Example School - ECPv6.16.3//NONSGML v1.0//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        "X-WR-CALNAME:Example School",
        "X-ORIGINAL-URL:https://events.example.edu",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        "BEGIN:VTIMEZONE",
        "TZID:America/New_York",
        "BEGIN:DAYLIGHT",
        "TZOFFSETFROM:-0500",
        "TZOFFSETTO:-0400",
        "TZNAME:EDT",
        "DTSTART:20260308T070000",
        "END:DAYLIGHT",
        "BEGIN:STANDARD",
        "TZOFFSETFROM:-0400",
        "TZOFFSETTO:-0500",
        "TZNAME:EST",
        "DTSTART:20261101T060000",
        "END:STANDARD",
        "END:VTIMEZONE",
    ] {
        out.line(line);
    }
    for number in 0..events {
        out.event(number, stamp, changed == Some(number));
    }
    out.line("END:VCALENDAR");
    out.out
}

struct Writer {
    dialect: Dialect,
    out: Vec<u8>,
    number: u64,
    longer: usize,
}

impl Writer {
    fn chance(&mut self, below: usize) -> usize {
        self.number =
            self.number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.number >> 33) as usize % below
    }

    fn words(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            let word = WORDS[self.chance(WORDS.len())];
            let end = [" ", " ", " ", " ", " ", " ", " ", " ", ".\\n", ". "][self.chance(10)];
            text.push_str(word);
            text.push_str(end);
        }
        text
    }

    fn line(&mut self, line: &str) {
        let end: &[u8] = if self.dialect == Dialect::Lf { b"\n" } else { b"\r\n" };
        let (mut rest, mut start) = (line.as_bytes(), 0);
        if self.dialect != Dialect::Unfolded && self.dialect != Dialect::LongLine {
            let mut width = 75;
            while rest.len() > width {
                // Not inside a letter, which some of the others could not read.
                let at =
                    (0..=width).rev().find(|at| line.is_char_boundary(start + at)).unwrap_or(0);
                self.out.extend_from_slice(&rest[..at]);
                self.out.extend_from_slice(end);
                self.out.push(b' ');
                (rest, start) = (&rest[at..], start + at);
                width = 74;
            }
        }
        self.out.extend_from_slice(rest);
        self.out.extend_from_slice(end);
    }

    fn event(&mut self, number: usize, stamp: u32, changed: bool) {
        let day = |n: usize| format!("2027{:02}{:02}", 1 + n / 28 % 12, 1 + n % 28);
        let (start, end) = (8 + self.chance(6), 15 + self.chance(6));
        let z = if self.dialect == Dialect::Floating { "" } else { "Z" };
        let id = 10_000 + number;
        self.line("BEGIN:VEVENT");
        self.line(&format!("DTSTART;TZID=America/New_York:{}T{start:02}3000", day(number)));
        self.line(&format!("DTEND;TZID=America/New_York:{}T{end:02}0000", day(number)));
        self.line(&format!("DTSTAMP:20261123T12{:02}{:02}{z}", stamp / 60 % 60, stamp % 60));
        self.line("CREATED:20261001T120000Z");
        self.line(&format!("LAST-MODIFIED:{}T080000Z", day(number)));
        self.line(&format!(
            "UID:{id}-{}-{}@events.example.edu",
            1_799_000_000 + id,
            1_799_003_600 + id
        ));
        let title = self.words(40);
        self.line(&format!("SUMMARY:{}{title}", if changed { "Changed: " } else { "" }));
        let length = 1_000 + self.chance(1_000);
        let mut description = self.words(length * self.longer);
        if number.is_multiple_of(4) {
            let _ = write!(description, "Join: https://example.zoom.us/j/95{id:08}?pwd=x{id}");
        }
        if number == 0 && self.dialect == Dialect::LongLine {
            description = self.words(10_000_000);
        }
        self.line(&format!("DESCRIPTION:{description}"));
        self.line(&format!("URL:https://events.example.edu/event/number-{id}/"));
        let place = self.chance(40);
        self.line(&format!("LOCATION:Hall {place}\\, 33 Example Street\\, Boston\\, MA\\, 02134"));
        self.line("CATEGORIES:Seminar,Applied Physics");
        self.line(&format!(
            "ATTACH;FMTTYPE=image/jpeg:https://events.example.edu/wp-content/uploads/{id}.jpg"
        ));
        self.line("ORGANIZER;CN=\"Office%20of%20Events\":MAILTO:events@example.edu");
        if self.dialect == Dialect::ManyLines && number.is_multiple_of(100) {
            for line in 0..100_000 {
                self.line(&format!("X-EXTRA-{line}:value of this line"));
            }
        }
        self.line("END:VEVENT");
    }
}

//! Values of content lines: dates and durations.

use jiff::tz::Offset;
use jiff::{SignedDuration, civil};

use crate::time;

/// DATE or DATE-TIME (RFC 5545, 3.3.4 and 3.3.5), and ISO 8601's longer spelling of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateValue {
    pub(super) local: civil::DateTime,
    /// No time was given.
    pub(super) is_date: bool,
    /// `Z`, or an offset that should not be there.
    pub(super) offset: Option<Offset>,
}

impl DateValue {
    pub(super) fn parse(text: &str) -> Option<DateValue> {
        DateValue::basic(text.as_bytes()).or_else(|| DateValue::any(text))
    }

    /// `20261130T120000`, with or without `Z`.
    pub(super) fn basic(text: &[u8]) -> Option<DateValue> {
        let (figures, zone) = text.split_first_chunk::<15>()?;
        let offset = match zone {
            [] => None,
            b"Z" => Some(Offset::UTC),
            _ => return None,
        };
        let (date, rest) = figures.split_first_chunk()?;
        let [b'T', a, b, c, d, e, f] = *rest else { return None };
        let [century, year, month, day] = pairs(*date)?;
        let [_, hour, minute, second] = pairs([b'0', b'0', a, b, c, d, e, f])?;
        let year = i16::from(century) * 100 + i16::from(year);
        let date = civil::Date::new(year, month, day).ok()?;
        let time = civil::Time::new(hour, minute, second, 0).ok()?;
        Some(DateValue { local: date.to_datetime(time), is_date: false, offset })
    }

    /// Any spelling.
    pub(super) fn any(text: &str) -> Option<DateValue> {
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

/// Four numbers of two figures, all at once.
fn pairs(figures: [u8; 8]) -> Option<[i8; 4]> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let word = u64::from_le_bytes(figures);
    let tens = word.wrapping_sub(ONES * b'0' as u64);
    // The highest bit of a byte: set by what is less than 0, or by what is more than 9.
    if (tens | word.wrapping_add(ONES * (0x7f - b'9') as u64)) & (ONES << 7) != 0 {
        return None;
    }
    let pairs = (tens * 10 + (tens >> 8)).to_le_bytes();
    Some([pairs[0] as i8, pairs[2] as i8, pairs[4] as i8, pairs[6] as i8])
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
pub(super) struct DurationValue {
    pub(super) days: i64,
    pub(super) seconds: i64,
}

impl DurationValue {
    pub(super) fn parse(text: &str) -> Option<DurationValue> {
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

    pub(super) fn exact(self) -> SignedDuration {
        SignedDuration::from_secs(self.days * 86_400 + self.seconds)
    }
}

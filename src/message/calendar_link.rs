//! An address that opens a calendar with an event filled in.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use url::{Url, form_urlencoded};

use super::dates::Period;
use super::words::{cut, utf16};
use crate::calendar::{local, text};

/// Longest that a button of Discord takes.
const MAX_LINK: usize = 512;

/// Google Calendar's form for a new event, which needs no account of ours and which other calendars
/// understand too. As much of place and page as there is room for, and of a title that leaves none.
/// A passcode is never in it: the link may be passed on.
pub(super) fn calendar_link(
    title: &str,
    period: &Period,
    place: &str,
    page: Option<&str>,
) -> Option<String> {
    let title = text::redact_passcodes(title);
    let place = text::redact_passcodes(place);
    let page = page.map(text::redact_join_url);
    let dates = dates(period)?;
    let with = |title: &str, place: &str, page: Option<&str>| {
        let mut url = Url::parse("https://calendar.google.com/calendar/render").ok()?;
        url.query_pairs_mut()
            .append_pair("action", "TEMPLATE")
            .append_pair("text", title)
            .append_pair("dates", &dates);
        if !place.is_empty() {
            url.query_pairs_mut().append_pair("location", place);
        }
        if let Some(page) = page {
            url.query_pairs_mut().append_pair("details", page);
        }
        Some(String::from(url)).filter(|url| utf16(url) <= MAX_LINK)
    };
    let page = page.as_deref();
    with(&title, &place, page)
        .or_else(|| with(&title, &place, None))
        .or_else(|| with(&title, "", page))
        .or_else(|| with(&title, "", None))
        .or_else(|| {
            // With the mark that it was cut.
            let taken = utf16(&with("…", "", None)?);
            with(&cut(&title, MAX_LINK - taken + 1, encoded), "", None)
        })
}

/// The length of a text inside an address.
fn encoded(text: &str) -> usize {
    form_urlencoded::byte_serialize(text.as_bytes()).map(str::len).sum()
}

/// `20261202T203000Z/20261202T214500Z`; of whole days `20261204/20261207`, the day after the last.
/// None before the year 0.
fn dates(period: &Period) -> Option<String> {
    let (from, to) = match *period {
        Period::Days { first, last } => {
            let after = last.tomorrow().ok().filter(|_| first.year() >= 0)?;
            (first.strftime("%Y%m%d").to_string(), after.strftime("%Y%m%d").to_string())
        }
        Period::Timed { start, end } => {
            let utc = |at: Timestamp| local(at, &TimeZone::UTC);
            let said = |at| utc(at).strftime("%Y%m%dT%H%M%SZ").to_string();
            (utc(start).year() >= 0).then(|| (said(start), said(end)))?
        }
    };
    Some(format!("{from}/{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(title: &str, place: &str, page: Option<&str>) -> Option<String> {
        let start: Timestamp = "2026-12-02T20:30:00Z".parse().unwrap();
        let end = start + jiff::SignedDuration::from_mins(75);
        calendar_link(title, &Period::Timed { start, end }, place, page)
    }

    #[test]
    fn as_much_as_there_is_room_for() {
        let long = "x".repeat(400);
        let page = format!("https://example.edu/{long}");
        for (title, place, page, kept) in [
            ("Light & shade", "Hall 2", Some("https://example.edu/a?b=c"), "text location details"),
            ("Light", "", None, "text"),
            ("Light", &long[..300], Some("https://example.edu/a?b=c"), "text location details"),
            ("Light", &long[..300], Some(page.as_str()), "text location"),
            ("Light", "日本語".repeat(30).as_str(), Some("https://example.edu/"), "text details"),
            (&long[..380], "Hall of Mirrors and of much else", None, "text"),
        ] {
            let url = Url::parse(&link(title, place, page).unwrap()).unwrap();
            let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
            assert_eq!(names.join(" ").replace("action ", "").replace(" dates", ""), kept);
            let text = url.query_pairs().find(|(name, _)| name == "text").unwrap().1.into_owned();
            assert_eq!(text, title);
        }
        for long in ["x".repeat(500), "日本語の題".repeat(50)] {
            let url = link(&long, "Hall 2", None).unwrap();
            assert!((MAX_LINK - 60..=MAX_LINK).contains(&url.len()), "{url}");
            let url = Url::parse(&url).unwrap();
            let text = url.query_pairs().find(|(name, _)| name == "text").unwrap().1.into_owned();
            assert!(text.ends_with('…') && long.starts_with(text.trim_end_matches('…')), "{text}");
        }
    }

    #[test]
    fn times_and_days() {
        let url = link("Light", "", None).unwrap();
        assert!(url.contains("dates=20261202T203000Z%2F20261202T214500Z"), "{url}");
        let day = |text: &str| text.parse().unwrap();
        for (first, last, expected) in [
            ("2026-12-04", "2026-12-06", Some("20261204/20261207")),
            ("2026-12-31", "2026-12-31", Some("20261231/20270101")),
            ("-000001-12-31", "2026-12-31", None),
            ("9999-12-31", "9999-12-31", None),
        ] {
            let period = Period::Days { first: day(first), last: day(last) };
            assert_eq!(dates(&period).as_deref(), expected);
        }
    }

    #[test]
    fn no_passcode_is_passed_on() {
        let join = "https://example.zoom.us/j/1?pwd=s3cret";
        let url = link("Talk, passcode: 112233", "Zoom, Passcode: 112233", Some(join)).unwrap();
        assert!(!url.contains("112233") && !url.contains("s3cret"), "{url}");
    }
}

use std::fmt::Write as _;
use std::path::PathBuf;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::line::{plain_head, plain_param};
use super::*;
use crate::{Health, JoinLink, Recurrence, Status, When, Window, recur};

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
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
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
        sketch(&read_ny(include_bytes!(concat!("../../../tests/feeds/", $name, ".ics"))))
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
    ! line 10: event 1@example.edu: this event stands in the feed 3 times; the newest counts
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
    ! line 9: event 2@example.edu: VEVENT has no END before line 12, where another component begins; it was left out
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
    ! line 9: event 2@example.edu: the feed ends inside this VEVENT
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
        (&include_bytes!("../../../tests/feeds/bad-dates.ics")[..], vec!["1", "2", "3"]),
        (include_bytes!("../../../tests/feeds/missing-end.ics"), vec!["2"]),
        (include_bytes!("../../../tests/feeds/truncated.ics"), vec!["2"]),
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
fn behind_a_known_event_a_warning_names_the_line_of_its_own() {
    let zones = Zones::default();
    let options = ReadOptions {
        zones: &zones,
        feed_zone: None,
        audience_zone: &TimeZone::UTC,
        charset: None,
    };
    let feed = |end: &str, zone: &str| {
        format!(
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20261202\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:2\nDTSTART;TZID={zone}:20261203T120000\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:3\nDTSTART:20261203\nSUMMARY:Folded\n  title\n{end}\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:4\nEND:VEVENT\nEND:VCALENDAR\n"
        )
    };
    let said = |body: String, known: &dyn Fn(u128) -> bool| -> Vec<String> {
        let read = read(body.as_bytes(), &options, known);
        read.calendar.warnings.iter().map(Warning::to_string).collect()
    };
    assert_eq!(
        said(feed("DTEND:soon", "Mars"), &|_| false),
        [
            "line 8: event 2: time zone Mars is not known; taken to be the feed's zone",
            "line 15: event 3: DTEND soon is not a date; ignored",
            "line 17: event 4: has no DTSTART; left out",
        ]
    );
    let first = read(feed("DTEND:20261204", "UTC").as_bytes(), &options, &|_| false);
    let known = |fingerprint| first.fingerprints.contains(&fingerprint);
    assert_eq!(
        said(feed("DTEND:soon", "Mars"), &known),
        [
            "event 2: on its line 3: time zone Mars is not known; taken to be the feed's zone",
            "event 3: on its line 6: DTEND soon is not a date; ignored",
            "event 4: has no DTSTART; left out",
        ]
    );
    // A zone that comes twice is one warning, there too.
    let twice = feed("X-A:1", "Mars:20261203T110000\nDTEND;TZID=Mars");
    assert_eq!(said(twice, &known).len(), 2);
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
    assert_eq!(stamped(&[":20261101T000000Z", ":20261102T000000Z"]), at("2026-11-02T00:00:00Z"));
    assert_eq!(stamped(&[":20261102T000000", ":20261102T010000Z"]), at("2026-11-02T05:00:00Z"));
    assert_eq!(stamped(&[":soon"]), None);
}

#[test]
fn dates_in_all_their_forms() {
    let read = |text| DateValue::parse(text).map(|d| (d.local.to_string(), d.is_date, d.offset));
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

/// Each takes many times the memory of its line, and there is room for a million lines.
#[test]
fn lists_of_one_event_are_bounded() {
    for (line, said) in [
        ("CATEGORIES:a{}\r\n", "1000 categories are kept; others ignored"),
        ("RRULE:FREQ=DAILY;INTERVAL={}\r\n", "has more than 100 rules; others ignored"),
        ("EXRULE:FREQ=DAILY;INTERVAL={}\r\n", "has more than 100 rules; others ignored"),
    ] {
        let lines: String = (10..9_999).map(|n| line.replace("{}", &n.to_string())).collect();
        let calendar = read_ny(format!(
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20300310T100000Z\r\n{lines}\
             END:VEVENT\r\nEND:VCALENDAR\r\n"
        ));
        let event = &calendar.events[0];
        let recurrence = &event.recurrence;
        let kept = [
            (event.categories.len(), 1_000),
            (event.categories_raw.len(), 1_000),
            (recurrence.rules.len() + recurrence.exrules.len(), 100),
        ];
        assert!(kept.iter().all(|(kept, most)| kept <= most), "{line}: {kept:?}");
        assert!(kept.iter().any(|(kept, most)| kept == most), "{line}: {kept:?}");
        assert!(
            calendar.warnings.iter().any(|one| one.message == said),
            "{line}: {:?}",
            calendar.warnings
        );
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

/// A name, and the rest of a line that begins with it.
fn common_line() -> impl Strategy<Value = (String, String)> {
    let text = "(\\\\[nN,;\\\\x]|[ -~]{0,30}|[éü“日👩<&>]|\u{200d}|https://(zoom\\.us/j/123456789|a\\.edu/b)){0,8}";
    let of = |names: &[&'static str], value: BoxedStrategy<String>| {
        (prop::sample::select(names.to_vec()), value)
            .prop_map(|(name, value)| (name.to_owned(), format!(":{value}")))
            .boxed()
    };
    let names =
        ["SUMMARY", "DESCRIPTION", "LOCATION", "CATEGORIES", "UID", "STATUS", "SEQUENCE", "X-B"];
    let texts = of(&names, text.boxed());
    let lower = of(&["summary", "Url", "Location"], "[a-z:/.%?]{0,30}".boxed());
    let links = of(&["URL", "CONFERENCE", "ATTACH"], "https://[a-z.]{1,9}/[ -~]{0,20}".boxed());
    let params = prop::sample::select(vec![
        "",
        ";TZID=Europe/Berlin",
        ";TZID=America/New_York",
        ";TZID=Nowhere",
        ";VALUE=DATE",
        ";VALUE=DATE;TZID=Europe/Berlin",
        ";TZID=\"Europe/Berlin\"",
    ]);
    let date = "2026(1202|0308|0329)(T(02|12|00)[03]000Z?)?";
    let names = prop::sample::select(vec!["DTEND", "EXDATE", "RDATE", "RECURRENCE-ID"]);
    let dates = (names, params, date)
        .prop_map(|(name, params, date)| (name.to_owned(), format!("{params}:{date}")));
    let people = ("Jane|A B|[ -~]{0,9}", "(;ROLE=CHAIR)?", "[a-z@%]{0,9}");
    let people = people.prop_filter_map("a quote", |(name, role, address)| {
        let rest = format!(";CN=\"{name}\"{role}:mailto:{address}");
        (!name.contains(['"', '^'])).then(|| ("ORGANIZER".to_owned(), rest))
    });
    prop_oneof![4 => texts, 1 => lower, 2 => links, 4 => dates, 2 => people]
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
        let line = format!("X{text}:a:b");
        if let Some((name, plain, value)) = plain_head(line.as_bytes(), &mut LastParams::default()) {
            prop_assert_eq!(name, None);
            let read = super::line::params(&line[..value - 1]).unwrap();
            for (name, values) in &read {
                let first = read.iter().find(|(other, _)| other == name).map(|(_, values)| &values[0]);
                prop_assert_eq!(values.len(), 1);
                let plain = std::str::from_utf8(plain).unwrap();
                prop_assert_eq!(plain_param(plain, name), first.map(String::as_str));
            }
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

    #[test]
    fn a_name_is_told_by_its_beginning(
        name in prop::sample::select(Name::ALL.to_vec()),
        more in "|[A-Z\0-]{1,3}",
        end in "[:;]|[ -~]",
        rest in "[ -~]{0,12}",
    ) {
        let stated = format!("{name}{more}");
        let line = format!("{stated}{end}{rest}");
        let whole = line.split([':', ';']).next().filter(|whole| whole.len() < line.len());
        let found = Name::at(line.as_bytes());
        match whole.and_then(|whole| Name::of_upper(whole.as_bytes())) {
            // Others go the long way.
            None => prop_assert_eq!(found, None),
            Some(name) => {
                let second = matches!(name, Name::SkypeTeams | Name::OffsetTo);
                let may_be_missed = second || line.len() < 8;
                prop_assert!(found == Some(name) || found.is_none() && may_be_missed);
            }
        }
    }

    #[test]
    fn dates_of_the_common_form_are_read_as_any(
        text in "[0-9]{8}T[0-9]{6}Z?|[0-2]{4}[01][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9][0-5][0-9]Z?",
        (at, byte) in (0..16_usize, prop_oneof![any::<u8>(), prop::sample::select(b"/:/:T".to_vec())]),
    ) {
        for spoilt in [false, true] {
            let mut bytes = text.clone().into_bytes();
            if spoilt && at < bytes.len() {
                bytes[at] = byte;
            }
            let any = std::str::from_utf8(&bytes).ok().and_then(DateValue::any);
            match DateValue::basic(&bytes) {
                Some(basic) => prop_assert_eq!(Some(basic), any),
                // The end of a day, and leap seconds.
                None if !spoilt && &text[9..11] != "24" && &text[13..15] != "60" => {
                    prop_assert_eq!(any, None);
                }
                None => {}
            }
        }
    }

    /// Lines of the common form are read in a way of their own. A parameter with an escape leaves
    /// that form, and changes nothing else.
    #[test]
    fn the_common_form_reads_as_any_other(
        events in prop::collection::vec(prop::collection::vec(common_line(), 0..12), 1..4),
        width in 8..80_usize,
        bare in any::<bool>(),
    ) {
        let (end, mut common, mut other) = (if bare { "\n" } else { "\r\n" }, String::new(), String::new());
        let mut add = |name: &str, rest: &str| {
            let escape = if matches!(name, "BEGIN" | "END") { "" } else { ";X-A=^^" };
            for (body, line) in [
                (&mut common, format!("{name}{rest}")),
                (&mut other, format!("{name}{escape}{rest}")),
            ] {
                let mut room = width;
                for c in line.chars() {
                    if room == 0 {
                        let _ = write!(body, "{end} ");
                        room = width;
                    }
                    body.push(c);
                    room -= 1;
                }
                body.push_str(end);
            }
        };
        for lines in &events {
            add("BEGIN", ":VEVENT");
            add("DTSTART", ";TZID=Europe/Berlin:20261202T120000");
            for (name, rest) in lines {
                add(name, rest);
            }
            add("END", ":VEVENT");
        }
        let wrap = |body: String| {
            read_ny(format!("BEGIN:VCALENDAR{end}{body}END:VCALENDAR{end}"))
        };
        let (common, other) = (wrap(common), wrap(other));
        prop_assert_eq!(&common.events, &other.events);
        let said = |calendar: Calendar| -> Vec<(Option<String>, String)> {
            calendar.warnings.into_iter().map(|warning| (warning.event, warning.message)).collect()
        };
        prop_assert_eq!(said(common), said(other));
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

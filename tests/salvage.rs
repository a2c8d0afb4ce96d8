//! What is saved of a feed that is wrong: every good event survives, and every loss is a warning
//! that names the event and the line.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use beadle::calendar::parse::{ReadOptions, Reader, read_all};
use beadle::calendar::{Calendar, Event, Warning, When, Window, Zones, recur};
use jiff::tz::TimeZone;

fn zones() -> (Zones, TimeZone) {
    let zones = Zones::default();
    let zone = zones.get("America/New_York").unwrap();
    (zones, zone)
}

fn read_as(body: &[u8], charset: Option<&str>) -> Calendar {
    let (zones, zone) = zones();
    let options = ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset };
    read_all(body, &options)
}

fn feed(lines: &str) -> String {
    format!("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Example//Test//EN\n{lines}END:VCALENDAR\n")
        .replace('\n', "\r\n")
}

/// A VEVENT at noon of 2 December 2026.
fn event(uid: &str, more: &str) -> String {
    format!(
        "BEGIN:VEVENT\nUID:{uid}\nDTSTART;TZID=America/New_York:20261202T120000\n{more}END:VEVENT\n"
    )
}

fn uids(calendar: &Calendar) -> Vec<&str> {
    calendar.events.iter().map(|event| event.uid.0.as_str()).collect()
}

/// Starts of all occurrences in a window of UTC days, with their titles.
fn occurrences(lines: &str, from: &str, to: &str) -> Vec<String> {
    let (zones, zone) = zones();
    let calendar = read_as(feed(lines).as_bytes(), None);
    let at = |day: &str| format!("{day}T00:00:00Z").parse().unwrap();
    let window = Window { from: at(from), to: at(to) };
    let found = recur::expand(&calendar.events, window, &zones, &zone).occurrences;
    found
        .iter()
        .map(|one| format!("{} {}", one.start, one.event.summary).trim().to_owned())
        .collect()
}

/// Each feed of tests/feeds/odd, as the table there says: which events survive, and what is warned of.
/// It is read whole and in pieces, which must not matter.
#[test]
fn odd_feeds_are_read_as_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/feeds/odd");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut rows: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        rows.insert(cells[1].trim_matches('`'), (cells[3], cells[4]));
    }
    let mut wrong = Vec::new();
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|one| one.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ics"));
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let body = fs::read(file).unwrap();
        let calendar = read_as(&body, None);
        for size in [1, 7, 64] {
            let (events, warnings) = in_pieces(&body, size);
            assert_eq!(events, calendar.events, "{name} in pieces of {size}");
            assert_eq!(warnings, calendar.warnings, "{name} in pieces of {size}");
        }
        let events = calendar.events.iter().map(shown).collect::<Vec<_>>().join("; ");
        let mut warnings: Vec<String> = calendar.warnings.iter().map(ToString::to_string).collect();
        if !calendar.health.complete {
            warnings.push("not complete".to_owned());
        }
        let warnings = warnings.join("<br>").replace('|', "&#124;");
        let (events_said, warnings_said) = rows.remove(name).unwrap_or_default();
        if (events.as_str(), warnings.as_str()) != (events_said, warnings_said) {
            wrong.push(format!("| `{name}` | … | {events} | {warnings} |"));
        }
    }
    assert!(wrong.is_empty(), "the table should say:\n{}", wrong.join("\n"));
    assert!(rows.is_empty(), "there is no feed of {rows:?}");
}

/// What shows that all of an event was read.
fn shown(event: &Event) -> String {
    let mut text = format!("{} “{}”", event.uid, event.summary);
    let organizer = event.organizer.as_ref().map_or("", |organizer| organizer.name.as_str());
    for part in [&event.location, &event.description, organizer] {
        if !part.is_empty() {
            text += &format!(", {}", part.replace('\n', "\\n"));
        }
    }
    if event.end != event.start {
        text += &format!(", to {}", event.end.local());
    }
    text
}

fn in_pieces(body: &[u8], size: usize) -> (Vec<Event>, Vec<Warning>) {
    let (zones, zone) = zones();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let mut reader = Reader::new(&options, None, |_| false);
    let mut events = Vec::new();
    let mut sink = |event, _| events.push(Some(event));
    body.chunks(size).for_each(|piece| reader.push(piece, &mut sink));
    let mut summary = reader.finish(&mut sink);
    assert!(summary.again.is_none());
    summary.name(|index| events[index].as_ref().map(|event: &Event| event.uid.clone()));
    for amendment in summary.amendments {
        events[amendment.index] = events[amendment.index].take().and_then(|e| amendment.apply(e));
    }
    (events.into_iter().flatten().collect(), summary.calendar.warnings)
}

/// The second of three events is damaged; the others survive, and the warning names it.
#[test]
fn one_bad_event_costs_itself_at_most() {
    for (damage, kept, warning) in [
        ("SUMMARY:Unclosed \"quote\n", true, ""),
        (
            "LOCATION;LABEL=\"Unclosed:Hall 1\n",
            true,
            "event 2: the parameters of LOCATION cannot be read; ignored",
        ),
        (
            "LOCATION;LANGUAGE:Hall 1\n",
            true,
            "event 2: the parameters of LOCATION cannot be read; ignored",
        ),
        ("<html><body>503</body></html>\n", true, "event 2: a line"),
        (
            "<!-- a comment: with a colon -->\n",
            true,
            "event 2: a line that does not begin with a property's name; ignored",
        ),
        ("no colon here\n", true, "event 2: a line without a colon; ignored"),
        ("X-WEIRD;;;=:1\n", true, "event 2: the parameters of X-WEIRD cannot be read; ignored"),
        ("\n \n\t\n", true, ""),
        (
            "BEGIN:X-UNKNOWN\nUID:inner\nBEGIN:X-DEEPER\nDTSTART:1\nEND:X-DEEPER\nEND:X-UNKNOWN\n",
            true,
            "",
        ),
        ("begin:valarm\nTrigger:-PT5M\nend:valarm\n", true, ""),
        ("DURATION:soon\n", true, "event 2: DURATION cannot be read; ignored"),
        (
            "DTEND:20261301T000000Z\n",
            true,
            "event 2: DTEND 20261301T000000Z is not a date; ignored",
        ),
        ("DTEND:20261202T110000Z\n", true, "event 2: ends before it starts; its end is ignored"),
        ("EXDATE:yesterday\n", true, "event 2: EXDATE yesterday is not a date; ignored"),
        (
            "RDATE;VALUE=PERIOD:20261203T000000Z/19970101\n",
            true,
            "event 2: RDATE 20261203T000000Z/19970101 is not a date; ignored",
        ),
        (
            "RRULE:FREQ=FORTNIGHTLY\n",
            true,
            "event 2: RRULE FREQ=FORTNIGHTLY: FREQ is not valid; not expanded",
        ),
        (
            "RRULE:UNTL=20261212\n",
            true,
            "event 2: RRULE UNTL=20261212: UNTL is not understood; not expanded",
        ),
        ("RECURRENCE-ID:never\n", true, "event 2: RECURRENCE-ID never is not a date; ignored"),
        ("STATUS:PERHAPS\n", true, "event 2: STATUS PERHAPS is not known; ignored"),
        ("SEQUENCE:first\n", true, "event 2: SEQUENCE is not a number; ignored"),
        (
            "URL:javascript:alert(1)\n",
            true,
            "event 2: URL javascript:alert(1) is no http(s) address; ignored",
        ),
    ] {
        let text = feed(&(event("1", "") + &event("2", damage) + &event("3", "")));
        let calendar = read_as(text.as_bytes(), None);
        let expected: &[&str] = if kept { &["1", "2", "3"] } else { &["1", "3"] };
        assert_eq!(uids(&calendar), expected, "{damage}");
        assert!(calendar.health.complete, "{damage}");
        let warnings: Vec<String> = calendar.warnings.iter().map(ToString::to_string).collect();
        if warning.is_empty() {
            assert_eq!(warnings, [""; 0], "{damage}");
        } else {
            // The second event begins on line 8, and the damage follows two lines after that.
            assert!(warnings.len() == 1 && warnings[0].contains(warning), "{damage}: {warnings:?}");
            assert!(warnings[0].starts_with("line 11: "), "{damage}: {warnings:?}");
        }
    }
}

#[test]
fn an_event_without_a_start_is_the_only_one_that_is_lost() {
    for start in ["", "DTSTART:\n", "DTSTART:20260230T120000\n", "DTSTART;VALUE=DATE:tomorrow\n"] {
        let bad = format!("BEGIN:VEVENT\nUID:2\n{start}SUMMARY:Bad\nEND:VEVENT\n");
        let calendar = read_as(feed(&(event("1", "") + &bad + &event("3", ""))).as_bytes(), None);
        assert_eq!(uids(&calendar), ["1", "3"], "{start}");
        let [warning] = &calendar.warnings[..] else { panic!("{:?}", calendar.warnings) };
        assert_eq!(warning.event.as_deref(), Some("2"), "{start}");
        assert!((8..=10).contains(&warning.line), "{warning}");
        assert!(warning.message.ends_with("left out"), "{warning}");
    }
}

#[test]
fn text_in_any_coding_is_read() {
    let text = feed(&event("1", "SUMMARY:Café “œuvre” €\nDESCRIPTION:ß\n"));
    let windows: Vec<u8> = encoding_rs::WINDOWS_1252.encode(&text).0.into_owned();
    let utf16 = |big: bool| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let cyrillic = feed(&event("1", "SUMMARY:Лекция\n"));
    let koi: Vec<u8> = encoding_rs::KOI8_R.encode(&cyrillic).0.into_owned();
    for (body, charset, title, warnings) in [
        (text.as_bytes().to_vec(), None, "Café “œuvre” €", 0),
        (text.as_bytes().to_vec(), Some("iso-8859-1"), "Café “œuvre” €", 0),
        ([b"\xef\xbb\xbf", text.as_bytes()].concat(), None, "Café “œuvre” €", 0),
        (windows.clone(), None, "Café “œuvre” €", 1),
        (windows, Some("windows-1252"), "Café “œuvre” €", 1),
        (utf16(true), None, "Café “œuvre” €", 0),
        (utf16(false), None, "Café “œuvre” €", 0),
        (koi, Some("koi8-r"), "Лекция", 1),
    ] {
        let calendar = read_as(&body, charset);
        assert_eq!(calendar.events[0].summary, title, "{charset:?}");
        assert_eq!(calendar.warnings.len(), warnings, "{charset:?}: {:?}", calendar.warnings);
        assert!(calendar.warnings.iter().all(|warning| warning.line == 7));
    }
}

#[test]
fn what_stands_around_a_calendar_does_not_matter() {
    let text = feed(&event("1", "SUMMARY:Talk\n"));
    for (before, after) in [
        ("<!DOCTYPE html><html><body><pre>\r\n", "</pre></body></html>\r\n"),
        ("\r\n\r\n\r\n", "\r\n\r\n"),
        ("PHP Warning: something in /srv/export.php on line 3\r\n", ""),
        ("", "\0\0\0"),
        (text.as_str(), ""),
    ] {
        let calendar = read_as(format!("{before}{text}{after}").as_bytes(), None);
        assert_eq!(calendar.events.last().unwrap().summary, "Talk", "{before}");
        assert!(calendar.health.is_calendar, "{before}");
    }
}

#[test]
fn parameters_are_decoded() {
    for (line, name) in [
        ("ORGANIZER;CN=\"Jane \"^'\"Doe\":mailto:j@example.edu", ""),
        ("ORGANIZER;CN=Jane ^'JD^' Doe^^:mailto:j@example.edu", "Jane \"JD\" Doe^"),
        ("ORGANIZER;CN=\"Doe^nJane\":mailto:j@example.edu", "Doe Jane"),
        ("ORGANIZER;CN=\"Doe: Jane; Dr, Prof\":mailto:j@example.edu", "Doe: Jane; Dr, Prof"),
        ("organizer;cn=Jane:MAILTO:j@example.edu", "Jane"),
    ] {
        let calendar = read_as(feed(&event("1", &format!("{line}\n"))).as_bytes(), None);
        let organizer = calendar.events[0].organizer.as_ref();
        let found = organizer.map_or("", |organizer| organizer.name.as_str());
        if !name.is_empty() {
            assert_eq!(found, name, "{line}");
        }
        assert_eq!(organizer.map(|o| o.email.as_str()), Some("j@example.edu"), "{line}");
    }
}

#[test]
fn huge_lines_and_deep_nesting_end_soon() {
    let started = std::time::Instant::now();
    let long = format!("DESCRIPTION:{}\n", "x".repeat(10 << 20));
    let calendar = read_as(feed(&(event("1", &long) + &event("2", ""))).as_bytes(), None);
    assert_eq!(uids(&calendar), ["1", "2"]);
    assert_eq!(calendar.warnings.len(), 1);
    assert_eq!((calendar.warnings[0].line, calendar.warnings[0].event.as_deref()), (7, Some("1")));

    let folded = format!("DESCRIPTION:{}\n", "x\r\n ".repeat(3 << 20));
    let calendar = read_as(feed(&(event("1", &folded) + &event("2", ""))).as_bytes(), None);
    assert_eq!(uids(&calendar), ["1", "2"]);

    for name in ["VEVENT", "VCALENDAR", "VTIMEZONE", "X-THING"] {
        let nested = format!("BEGIN:{name}\n").repeat(100_000);
        let calendar =
            read_as(feed(&(event("1", "") + &nested + &event("2", ""))).as_bytes(), None);
        assert!(uids(&calendar).contains(&"1"), "{name}");
        assert!(!calendar.warnings.is_empty(), "{name}");
        assert!(!calendar.health.complete, "{name}");
        assert!(calendar.warnings.len() <= 1_100, "{name}");
    }
    // Unoptimised, and side by side with others.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// Zones in all the forms they come in; each line is noon of some place.
#[test]
fn every_form_of_time() {
    for (line, expected) in [
        ("DTSTART:20261202T170000Z", "2026-12-02T17:00:00Z"),
        ("DTSTART:20261202T120000", "2026-12-02T17:00:00Z"),
        ("DTSTART;TZID=Europe/Berlin:20261202T120000", "2026-12-02T11:00:00Z"),
        ("DTSTART;TZID=\"W. Europe Standard Time\":20261202T120000", "2026-12-02T11:00:00Z"),
        ("DTSTART;TZID=Pacific Standard Time:20261202T120000", "2026-12-02T20:00:00Z"),
        ("DTSTART;TZID=/mozilla.org/20050126_1/Asia/Tokyo:20261202T120000", "2026-12-02T03:00:00Z"),
        ("DTSTART;TZID=\"UTC+05:30\":20261202T120000", "2026-12-02T06:30:00Z"),
        ("DTSTART;TZID=GMT-3:20261202T120000", "2026-12-02T15:00:00Z"),
        ("DTSTART;VALUE=DATE:20261202", "2026-12-02T05:00:00Z"),
        ("DTSTART:20261202", "2026-12-02T05:00:00Z"),
        ("DTSTART:2026-12-02T12:00:00-05:00", "2026-12-02T17:00:00Z"),
        // A leap second is the one before it (RFC 5545, 3.3.12).
        ("DTSTART:20161231T235960Z", "2016-12-31T23:59:59Z"),
        // The gap and the fold of New York (RFC 5545, 3.3.5).
        ("DTSTART;TZID=America/New_York:20260308T023000", "2026-03-08T07:30:00Z"),
        ("DTSTART;TZID=America/New_York:20261101T013000", "2026-11-01T05:30:00Z"),
        // Before the zones of today: local mean time, war time, a day that was left out.
        ("DTSTART;TZID=America/New_York:18800101T120000", "1880-01-01T16:56:02Z"),
        ("DTSTART;TZID=Europe/London:19430701T120000", "1943-07-01T10:00:00Z"),
        ("DTSTART;TZID=Europe/Amsterdam:19300101T120000", "1930-01-01T12:00:00Z"),
        ("DTSTART;TZID=Pacific/Apia:20111231T000000", "2011-12-30T10:00:00Z"),
        ("DTSTART;TZID=Asia/Kathmandu:19850101T120000", "1985-01-01T06:30:00Z"),
    ] {
        let lines = format!("BEGIN:VEVENT\nUID:1\n{line}\nEND:VEVENT\n");
        let (zones, zone) = zones();
        let calendar = read_as(feed(&lines).as_bytes(), None);
        assert_eq!(calendar.warnings, [], "{line}");
        let start = calendar.events[0].start.instant(&zones, &zone);
        assert_eq!(start.to_string(), expected, "{line}");
    }
}

#[test]
fn days_in_disguise() {
    for (lines, days) in [
        ("DTSTART;VALUE=DATE:20261202\nDTEND;VALUE=DATE:20261204\n", Some(2)),
        ("DTSTART;VALUE=DATE:20261202\nDTEND;VALUE=DATE:20261202\n", Some(1)),
        ("DTSTART;VALUE=DATE:20261202\n", Some(1)),
        ("DTSTART;VALUE=DATE:20261202\nDURATION:P3D\n", Some(3)),
        ("DTSTART:20261202T000000\nDTEND:20261202T235959\n", Some(1)),
        ("DTSTART:20261202T000000\nDTEND:20261203T235900\n", Some(2)),
        (
            "X-MICROSOFT-CDO-ALLDAYEVENT:TRUE\nDTSTART:20261202T000000\nDTEND:20261203T000000\n",
            Some(1),
        ),
        ("DTSTART:20261202T000000\nDTEND:20261203T000000\n", Some(1)),
        (
            "DTSTART;TZID=Europe/Berlin:20261202T000000\nDTEND;TZID=Europe/Berlin:20261205T000000\n",
            Some(3),
        ),
        ("DTSTART:20261202T000000Z\nDTEND:20261203T000000Z\n", None),
        ("DTSTART:20261202T000000\nDTEND:20261202T000000\n", None),
        ("DTSTART:20261202T220000\nDTEND:20261203T020000\n", None),
    ] {
        let text = feed(&format!("BEGIN:VEVENT\nUID:1\n{lines}END:VEVENT\n"));
        let calendar = read_as(text.as_bytes(), None);
        let event = &calendar.events[0];
        let length = event.end.local().duration_since(event.start.local()).as_hours() / 24;
        assert_eq!(event.is_all_day().then_some(length), days, "{lines}");
    }
}

/// A day by its instants, in the zone that the feed says it is in.
#[test]
fn days_by_the_clock_of_the_feed() {
    let day = |date: &str| date.parse().map(When::AllDay).unwrap();
    for (zone, lines, days) in [
        (
            "America/New_York",
            "DTSTART:20260901T040000Z\nDTEND:20260902T040000Z\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "America/New_York",
            "DTSTART:20260901T040000Z\nDTEND:20260902T035959Z\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "America/New_York",
            "DTSTART:20260901T040000Z\nDURATION:PT24H\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "America/New_York",
            "DTSTART:20260901T040000Z\nDTEND:20260904T040000Z\n",
            ["2026-09-01", "2026-09-04"],
        ),
        // 23 hours, and 25.
        (
            "America/New_York",
            "DTSTART:20260308T050000Z\nDTEND:20260309T040000Z\n",
            ["2026-03-08", "2026-03-09"],
        ),
        (
            "America/New_York",
            "DTSTART:20261101T040000Z\nDTEND:20261102T050000Z\n",
            ["2026-11-01", "2026-11-02"],
        ),
        (
            "Europe/Berlin",
            "DTSTART:20260831T220000Z\nDTEND:20260901T220000Z\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "America/New_York",
            "DTSTART:20260901T000000Z\nDTEND:20260901T235900Z\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "America/New_York",
            "DTSTART;TZID=America/New_York:20260901T000000\nDTEND;TZID=America/New_York:20260902T000000\n",
            ["2026-09-01", "2026-09-02"],
        ),
        (
            "Europe/Berlin",
            "DTSTART;TZID=America/New_York:20260901T000000\nDTEND;TZID=America/New_York:20260901T235959\n",
            ["2026-09-01", "2026-09-02"],
        ),
    ] {
        let text = feed(&format!("X-WR-TIMEZONE:{zone}\nBEGIN:VEVENT\nUID:1\n{lines}END:VEVENT\n"));
        let calendar = read_as(text.as_bytes(), None);
        let event = &calendar.events[0];
        assert_eq!([&event.start, &event.end], [&day(days[0]), &day(days[1])], "{zone} {lines}");
        assert_eq!(calendar.warnings, [], "{lines}");
    }
    for (zone, lines) in [
        ("America/New_York", "DTSTART:20260901T000000Z\nDTEND:20260902T000000Z\n"),
        ("UTC", "DTSTART:20260901T000000Z\nDTEND:20260902T000000Z\n"),
        ("Nowhere/At_All", "DTSTART:20260901T040000Z\nDTEND:20260902T040000Z\n"),
        ("America/New_York", "DTSTART:20260901T040000Z\nDTEND:20260901T040000Z\n"),
        // A rule in UTC names days of UTC.
        (
            "America/New_York",
            "DTSTART:20260901T040000Z\nDTEND:20260902T040000Z\nRRULE:FREQ=WEEKLY;BYDAY=TU\n",
        ),
        (
            "America/New_York",
            "RECURRENCE-ID:20260901T040000Z\nDTSTART:20260901T040000Z\nDTEND:20260902T040000Z\n",
        ),
    ] {
        let text = feed(&format!("X-WR-TIMEZONE:{zone}\nBEGIN:VEVENT\nUID:1\n{lines}END:VEVENT\n"));
        let calendar = read_as(text.as_bytes(), None);
        assert!(!calendar.events[0].is_all_day(), "{zone} {lines}");
    }
}

/// However a whole day is written, it is the same event, and nothing is told when the form changes.
#[test]
fn the_form_of_a_day_is_no_change() {
    let forms = [
        "DTSTART;VALUE=DATE:20260901\nDTEND;VALUE=DATE:20260903\n",
        "DTSTART;VALUE=DATE:20260901\nDURATION:P2D\n",
        "DTSTART:20260901T040000Z\nDTEND:20260903T040000Z\n",
        "DTSTART:20260901T040000Z\nDTEND:20260903T035959Z\n",
        "DTSTART:20260901T000000\nDTEND:20260902T235900\n",
        "DTSTART;TZID=America/New_York:20260901T000000\nDTEND;TZID=America/New_York:20260903T000000\n",
        "DTSTART;TZID=America/New_York:20260901T000000\nDTEND;TZID=America/New_York:20260902T235959\n",
    ];
    let read = |form: &str, uid: &str| {
        let text = feed(&format!(
            "X-WR-TIMEZONE:America/New_York\nBEGIN:VEVENT\n{uid}SUMMARY:Days\n{form}END:VEVENT\n"
        ));
        read_as(text.as_bytes(), None).events
    };
    for uid in ["UID:1\n", ""] {
        for form in forms {
            assert_eq!(read(form, uid), read(forms[0], uid), "{uid} {form}");
        }
    }
}

const OUTLOOK: &str = "BEGIN:VTIMEZONE
TZID:Customized Time Zone
BEGIN:STANDARD
DTSTART:16010101T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
";

#[test]
fn a_zone_of_the_feed_moves_its_series_at_daylight_saving() {
    let series = "BEGIN:VEVENT\nUID:1\nDTSTART;TZID=Customized Time Zone:20261025T120000\n\
                  RRULE:FREQ=WEEKLY;COUNT=3\n\
                  EXDATE;TZID=Customized Time Zone:20261108T120000\nEND:VEVENT\n";
    assert_eq!(
        occurrences(&format!("{OUTLOOK}{series}"), "2026-10-01", "2026-12-01"),
        ["2026-10-25T16:00:00Z", "2026-11-01T17:00:00Z"]
    );
}

#[test]
fn the_zone_of_the_calendar_holds_for_times_without_one() {
    let event = "BEGIN:VEVENT\nUID:1\nDTSTART:20261202T120000\nEND:VEVENT\n";
    for (name, expected) in [
        ("Asia/Tokyo", "2026-12-02T03:00:00Z"),
        ("Tokyo Standard Time", "2026-12-02T03:00:00Z"),
        ("Nowhere/At_All", "2026-12-02T17:00:00Z"),
    ] {
        let text = feed(&format!("X-WR-TIMEZONE:{name}\n{event}"));
        let calendar = read_as(text.as_bytes(), None);
        let (zones, audience) = zones();
        let zone = calendar.timezone.as_deref().and_then(|zone| zones.get(zone));
        let start = calendar.events[0].start.instant(&zones, &zone.unwrap_or(audience));
        assert_eq!(start.to_string(), expected, "{name}");
        assert_eq!(calendar.warnings.len(), usize::from(name.starts_with("Nowhere")), "{name}");
    }
}

/// Series on Wednesdays in December 2026 at noon, changed in every way that there is.
#[test]
fn series_and_their_exceptions() {
    let changed = |sequence: u32, id: &str, more: &str| {
        format!(
            "BEGIN:VEVENT\nUID:1\nSEQUENCE:{sequence}\nRECURRENCE-ID{id}\n\
             DTSTART:20261210T180000Z\nSUMMARY:Moved\n{more}END:VEVENT\n"
        )
    };
    let series = |more: &str| event("1", &format!("SEQUENCE:2\nRRULE:FREQ=WEEKLY;COUNT=3\n{more}"));
    let noon = |day: &str| format!("2026-12-{day}T17:00:00Z");
    let moved = || "2026-12-10T18:00:00Z Moved".to_owned();
    let second = ":20261209T170000Z";
    let exdate = "EXDATE:20261209T170000Z\n";
    for (name, lines, expected) in [
        ("plain", series(""), vec![noon("02"), noon("09"), noon("16")]),
        (
            "EXDATE of another zone",
            series("EXDATE;TZID=Asia/Tokyo:20261210T020000\n"),
            vec![noon("02"), noon("16")],
        ),
        ("EXDATE as a date", series("EXDATE;VALUE=DATE:20261209\n"), vec![noon("02"), noon("16")]),
        ("EXDATE of the start", series("EXDATE:20261202T170000Z\n"), vec![noon("09"), noon("16")]),
        (
            "RDATE twice",
            series("RDATE:20261216T170000Z,20261217T170000Z\nRDATE:20261217T170000Z\n"),
            vec![noon("02"), noon("09"), noon("16"), noon("17")],
        ),
        (
            "RDATE as a period",
            series("RDATE;VALUE=PERIOD:20261218T170000Z/PT3H\n"),
            vec![noon("02"), noon("09"), noon("16"), noon("18")],
        ),
        ("override", series("") + &changed(2, second, ""), vec![noon("02"), moved(), noon("16")]),
        (
            "override before its series",
            changed(0, second, "") + &series(""),
            vec![noon("02"), moved(), noon("16")],
        ),
        (
            "override by date",
            series("") + &changed(2, ";VALUE=DATE:20261209", ""),
            vec![noon("02"), moved(), noon("16")],
        ),
        (
            "override of another zone",
            series("") + &changed(2, ";TZID=Asia/Tokyo:20261210T020000", ""),
            vec![noon("02"), moved(), noon("16")],
        ),
        ("override without a series", changed(2, second, ""), vec![moved()]),
        (
            "override of no occurrence",
            series("") + &changed(0, ":20261211T170000Z", ""),
            vec![noon("02"), noon("09"), moved(), noon("16")],
        ),
        (
            "EXDATE later than the override",
            series(exdate) + &changed(1, second, ""),
            vec![noon("02"), noon("16")],
        ),
        (
            "EXDATE as old as the override",
            series(exdate) + &changed(2, second, ""),
            vec![noon("02"), noon("16")],
        ),
        (
            "EXDATE earlier than the override",
            series(exdate) + &changed(3, second, ""),
            vec![noon("02"), moved(), noon("16")],
        ),
        (
            "a former state of the series",
            series("") + &changed(1, ":20261230T170000Z", "RRULE:FREQ=WEEKLY\n"),
            vec![noon("02"), noon("09"), noon("16")],
        ),
        (
            "from here on",
            series("") + &changed(2, ";RANGE=THISANDFUTURE:20261209T170000Z", ""),
            vec![noon("02"), moved(), "2026-12-17T18:00:00Z Moved".to_owned()],
        ),
        (
            "two rules",
            event("1", "RRULE:FREQ=WEEKLY;COUNT=2\nRRULE:FREQ=DAILY;COUNT=2\n"),
            vec![noon("02"), noon("03"), noon("09")],
        ),
        ("EXRULE", series("EXRULE:FREQ=WEEKLY;INTERVAL=2\n"), vec![noon("09")]),
        (
            "UNTIL as a date",
            event("1", "RRULE:FREQ=WEEKLY;UNTIL=20261209\n"),
            vec![noon("02"), noon("09")],
        ),
        (
            "UNTIL in local time",
            event("1", "RRULE:FREQ=WEEKLY;UNTIL=20261209T120000\n"),
            vec![noon("02"), noon("09")],
        ),
        (
            "UNTIL in UTC",
            event("1", "RRULE:FREQ=WEEKLY;UNTIL=20261209T165959Z\n"),
            vec![noon("02")],
        ),
        (
            "30 February",
            event("1", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30\n"),
            vec![noon("02")],
        ),
    ] {
        assert_eq!(occurrences(&lines, "2026-12-01", "2027-01-01"), expected, "{name}");
    }
}

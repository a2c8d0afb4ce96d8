//! Odd feeds, and what an attentive reader makes of them: each event with its occurrences in a
//! window, and each warning.

#![allow(clippy::unwrap_used)]

use beadle::calendar::parse::{self, ReadOptions};
use beadle::calendar::{When, Window, Zones, recur};
use jiff::tz::TimeZone;

/// What a calendar of these lines holds from 2026 to 2028: a line for each occurrence, then the
/// warnings.
fn read(lines: &str) -> String {
    let zones = Zones::default();
    let zone = TimeZone::get("America/New_York").unwrap();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let body = format!("BEGIN:VCALENDAR\n{lines}\nEND:VCALENDAR");
    let calendar = parse::read_all(body.as_bytes(), &options);
    let zone = parse::feed_zone(&calendar, &options);
    let window = Window {
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        to: "2028-01-01T00:00:00Z".parse().unwrap(),
    };
    let found = recur::expand(&calendar.events, window, &zones, &zone);
    let mut out = Vec::new();
    for one in &found.occurrences {
        let show = |when: &When| match when {
            When::AllDay(date) => date.to_string(),
            when => when.instant(&zones, &zone).to_string(),
        };
        out.push(format!("{} {}/{}", one.event.uid, show(&one.event.start), show(&one.event.end)));
    }
    let warnings = calendar.warnings.iter().chain(&found.warnings);
    out.extend(warnings.map(|warning| format!("! {warning}")));
    out.join("\n")
}

/// One event of these lines.
fn event(lines: &str) -> String {
    read(&format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT"))
}

#[test]
fn zones_by_other_names() {
    for (tzid, offset) in [
        ("UTC+05:30", 330),
        ("\"UTC+05:30\"", 330),
        ("GMT-0400", -240),
        ("\"GMT-0400\"", -240),
        ("(UTC-05:00) Eastern Time (US & Canada)", -300),
        ("\"(UTC-05:00) Eastern Time (US & Canada)\"", -300),
        ("(GMT-08:00) Pacific Time (US & Canada)", -480),
        ("(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna", 60),
        ("(UTC-03:00) Nowhere at all", -180),
        ("America/New_York;X-FOO", -300),
    ] {
        let start = jiff::civil::date(2026, 12, 2).at(12, 0, 0, 0);
        let start =
            start.in_tz("UTC").unwrap().timestamp() - jiff::SignedDuration::from_mins(offset);
        let got = event(&format!("DTSTART;TZID={tzid}:20261202T120000"));
        let warned = match tzid.contains("X-FOO") {
            true => "\n! line 4: event 1: a parameter of DTSTART cannot be read; ignored",
            false => "",
        };
        assert_eq!(got, format!("1 {start}/{start}{warned}"), "{tzid}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_line() {
    let first = "1 2026-12-02T12:00:00Z/2026-12-02T12:00:00Z\n! line 5: event 1: ";
    for (rule, warning) in [
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "yields no date"),
        (
            "RSCALE=HEBREW;FREQ=YEARLY",
            "the calendar HEBREW is not supported; only the first date is kept",
        ),
        ("FREQ=FORTNIGHTLY", "FREQ is not valid; not expanded"),
    ] {
        let got = event(&format!("DTSTART:20261202T120000Z\nRRULE:{rule}"));
        assert_eq!(got, format!("{first}RRULE {rule}: {warning}"));
    }
}

#[test]
fn zones_that_the_feed_defines_by_any_rules() {
    let zone = |dates: &str| {
        read(&format!(
            "BEGIN:VTIMEZONE\nTZID:Ours\n\
             BEGIN:STANDARD\nDTSTART:20001029T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\n\
             RRULE:FREQ=MONTHLY;INTERVAL=12;BYDAY=-1SU\nEND:STANDARD\n\
             BEGIN:DAYLIGHT\nDTSTART:20000326T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\n\
             {dates}\nEND:DAYLIGHT\nEND:VTIMEZONE\n\
             BEGIN:VEVENT\nUID:summer\nDTSTART;TZID=Ours:20260701T120000\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:winter\nDTSTART;TZID=Ours:20261202T120000\nEND:VEVENT"
        ))
    };
    let expected = "summer 2026-07-01T10:00:00Z/2026-07-01T10:00:00Z\n\
                    winter 2026-12-02T11:00:00Z/2026-12-02T11:00:00Z";
    for dates in
        ["RRULE:FREQ=MONTHLY;BYMONTH=3;BYDAY=-1SU", "RDATE:20250330T020000,20260329T020000"]
    {
        assert_eq!(zone(dates), expected, "{dates}");
    }
}

#[test]
fn a_series_follows_a_zone_that_the_feed_lists() {
    let got = read(
        "BEGIN:VTIMEZONE\nTZID:Ours\n\
         BEGIN:STANDARD\nDTSTART:20251102T020000\nTZOFFSETFROM:-0400\nTZOFFSETTO:-0500\n\
         RDATE:20261101T020000\nEND:STANDARD\n\
         BEGIN:DAYLIGHT\nDTSTART:20260308T020000\nTZOFFSETFROM:-0500\nTZOFFSETTO:-0400\n\
         END:DAYLIGHT\nEND:VTIMEZONE\n\
         BEGIN:VEVENT\nUID:1\nDTSTART;TZID=Ours:20260210T100000\nRRULE:FREQ=MONTHLY;INTERVAL=5;COUNT=3\n\
         END:VEVENT",
    );
    let expected = [15, 14, 15].iter().zip(["2026-02-10", "2026-07-10", "2026-12-10"]);
    let expected = expected.map(|(hour, day)| format!("1 {day}T{hour}:00:00Z/{day}T{hour}:00:00Z"));
    assert_eq!(got, expected.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_day_is_a_day_when_the_clock_changes() {
    for end in ["DURATION:P1D", "DTEND;TZID=America/New_York:20260308T100000"] {
        // The first one lasts 23 hours, the others 24.
        let got = event(&format!(
            "DTSTART;TZID=America/New_York:20260307T100000\n{end}\nRRULE:FREQ=WEEKLY;COUNT=2"
        ));
        let expected = "1 2026-03-07T15:00:00Z/2026-03-08T14:00:00Z\n\
                        1 2026-03-14T14:00:00Z/2026-03-15T14:00:00Z";
        assert_eq!(got, expected, "{end}");
    }
    // Six hours are six hours.
    let got = event(
        "DTSTART;TZID=America/New_York:20260228T220000\nDURATION:PT6H\nRRULE:FREQ=WEEKLY;COUNT=2",
    );
    let expected = "1 2026-03-01T03:00:00Z/2026-03-01T09:00:00Z\n\
                    1 2026-03-08T03:00:00Z/2026-03-08T09:00:00Z";
    assert_eq!(got, expected);
}

#[test]
fn wall_times_in_a_gap_follow_the_clock_before_it() {
    // On 29 March 2026 London goes from 01:00 to 02:00; 01:00 is the very instant of the change.
    let got = event(
        "DTSTART;TZID=Europe/London:20260329T003000\nDURATION:PT5M\n\
         RRULE:FREQ=HOURLY;BYMINUTE=0,30;COUNT=7",
    );
    let starts: Vec<&str> = got.lines().map(|line| &line[13..18]).collect();
    assert_eq!(starts, ["00:30", "01:00", "01:30", "02:00", "02:30"], "{got}");
}

#[test]
fn an_end_in_the_hour_that_comes_twice_is_the_second_one() {
    // 02:15 to 03:15 in Berlin; on 25 October 2026 an hour after 02:15 it is 02:15 again.
    let got = event(
        "DTSTART;TZID=Europe/Berlin:20261024T021500\nDTEND;TZID=Europe/Berlin:20261024T031500\n\
         RRULE:FREQ=DAILY;COUNT=3",
    );
    let expected = "1 2026-10-24T00:15:00Z/2026-10-24T01:15:00Z\n\
                    1 2026-10-25T00:15:00Z/2026-10-25T01:15:00Z\n\
                    1 2026-10-26T01:15:00Z/2026-10-26T02:15:00Z";
    assert_eq!(got, expected);
}

#[test]
fn rules_with_strays_are_read() {
    let dates =
        "1 2026-12-02T12:00:00Z/2026-12-02T12:00:00Z\n1 2026-12-09T12:00:00Z/2026-12-09T12:00:00Z";
    for (rule, warns) in [
        ("FREQ=WEEKLY;COUNT=2;", false),
        ("RRULE:FREQ=WEEKLY;COUNT=2", true),
        ("RRULE:RRULE:Anything;FREQ=WEEKLY;COUNT=2", true),
        ("FREQ=WEEKLY;nothing;COUNT=2", true),
    ] {
        let got = event(&format!("DTSTART:20261202T120000Z\nRRULE:{rule}"));
        let warning = format!(
            "\n! line 5: event 1: RRULE {}: what is no part of a rule is ignored",
            rule.to_ascii_uppercase()
        );
        assert_eq!(got, format!("{dates}{}", if warns { &warning } else { "" }), "{rule}");
    }
}

#[test]
fn a_date_with_a_time_of_day_is_a_time() {
    for (lines, expected) in [
        (
            "DTSTART;VALUE=DATE:20261202T210000Z\nDTEND;VALUE=DATE:20261202T214500Z",
            "1 2026-12-02T21:00:00Z/2026-12-02T21:45:00Z",
        ),
        ("DTSTART;VALUE=DATE:20261202T000000", "1 2026-12-02/2026-12-03"),
    ] {
        assert_eq!(event(lines), expected);
    }
}

#[test]
fn a_start_without_a_zone_is_in_that_of_its_end() {
    for (lines, expected) in [
        (
            "DTSTART:20261202T111500\nDTEND;TZID=Europe/Amsterdam:20261202T130000",
            "1 2026-12-02T10:15:00Z/2026-12-02T12:00:00Z",
        ),
        // Read as the audience's.
        (
            "DTSTART:20261202T111500\nDTEND:20261202T170000Z",
            "1 2026-12-02T16:15:00Z/2026-12-02T17:00:00Z",
        ),
    ] {
        assert_eq!(event(lines), expected);
    }
}

#[test]
fn a_zone_whose_name_is_escaped_is_found() {
    for (defined, used) in
        [("Here\\, there", "\"Here, there\""), ("Here, there", "\"Here\\, there\""), (" 1", " 1")]
    {
        let got = read(&format!(
            "BEGIN:VTIMEZONE\nTZID:{defined}\nBEGIN:STANDARD\nDTSTART:16010101T000000\n\
             TZOFFSETFROM:+0900\nTZOFFSETTO:+0800\nEND:STANDARD\nEND:VTIMEZONE\n\
             BEGIN:VEVENT\nUID:1\nDTSTART;TZID={used}:20261202T093000\nEND:VEVENT"
        ));
        assert_eq!(got, "1 2026-12-02T01:30:00Z/2026-12-02T01:30:00Z", "{defined}");
    }
}

#[test]
fn an_all_day_series_is_excepted_by_instants_too() {
    // Midnight in Berlin, and midnight in UTC, which is how many write a date.
    for (exdate, left) in [
        ("EXDATE;TZID=Europe/Berlin:20261203T000000", 2),
        ("EXDATE:20261202T230000Z", 2),
        ("EXDATE:20261203T000000Z", 2),
        ("EXDATE:20261204T233000Z", 3),
    ] {
        let got = read(&format!(
            "X-WR-TIMEZONE:Europe/Berlin\nBEGIN:VEVENT\nUID:1\n\
             DTSTART;TZID=Europe/Berlin:20261202T000000\nDTEND;TZID=Europe/Berlin:20261203T000000\n\
             RRULE:FREQ=DAILY;COUNT=3\n{exdate}\nEND:VEVENT"
        ));
        assert_eq!(got.lines().count(), left, "{exdate}: {got}");
        assert_eq!(got.contains("1 2026-12-03/"), left == 3, "{exdate}: {got}");
    }
}

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::super::parse::{ReadOptions, read_all};
use proptest::prelude::*;

use super::super::{Calendar, Status};
use super::*;

fn new_york() -> TimeZone {
    Zones::default().get("America/New_York").unwrap()
}

fn events(lines: &[&str]) -> Vec<Event> {
    let calendar = read(lines);
    assert_eq!(calendar.warnings, []);
    calendar.events
}

fn read(lines: &[&str]) -> Calendar {
    let zones = Zones::default();
    let zone = new_york();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let events: String =
        lines.iter().map(|lines| format!("BEGIN:VEVENT\nUID:1\n{lines}\nEND:VEVENT\n")).collect();
    read_all(format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR").as_bytes(), &options)
}

/// A window of whole UTC days.
fn window(from: &str, to: &str) -> Window {
    let at = |day: &str| format!("{day}T00:00:00Z").parse().unwrap();
    Window { from: at(from), to: at(to) }
}

fn expanded(lines: &[&str], from: &str, to: &str) -> Expansion {
    expand(&events(lines), window(from, to), &Zones::default(), &new_york())
}

/// Starts as seen in New York, with offset.
fn starts(lines: &[&str], from: &str, to: &str) -> Vec<String> {
    let expansion = expanded(lines, from, to);
    assert_eq!(expansion.warnings, []);
    expansion
        .occurrences
        .iter()
        .map(|o| {
            let at = o.start.to_zoned_datetime(new_york());
            at.strftime("%m-%d %H:%M%:z").to_string()
        })
        .collect()
}

const NOON: &str = "DTSTART;TZID=America/New_York:20261202T120000\nDURATION:PT1H";

#[test]
fn rules_dates_and_exceptions() {
    let noon = |more: &str| format!("{NOON}\n{more}");
    for (more, expected) in [
        ("SUMMARY:Once", vec!["12-02"]),
        ("RRULE:FREQ=DAILY;COUNT=3", vec!["12-02", "12-03", "12-04"]),
        ("RRULE:FREQ=WEEKLY;UNTIL=20261216", vec!["12-02", "12-09", "12-16"]),
        ("RRULE:FREQ=WEEKLY;UNTIL=20261216T120000", vec!["12-02", "12-09", "12-16"]),
        ("RRULE:FREQ=WEEKLY;UNTIL=20261216T170000Z", vec!["12-02", "12-09", "12-16"]),
        ("RRULE:FREQ=WEEKLY;UNTIL=20261216T165959Z", vec!["12-02", "12-09"]),
        // What is left of a series after "delete this and all later ones" at its first.
        ("RRULE:FREQ=WEEKLY;UNTIL=20261101", vec![]),
        ("RRULE:FREQ=WEEKLY;UNTIL=20261209;COUNT=-1", vec!["12-02", "12-09"]),
        // The start counts even where the rule does not yield it.
        ("RRULE:FREQ=WEEKLY;BYDAY=FR;COUNT=2", vec!["12-02", "12-04", "12-11"]),
        (
            "RRULE:FREQ=DAILY;COUNT=4\nEXDATE;TZID=America/New_York:20261203T120000,20261205T120000",
            vec!["12-02", "12-04"],
        ),
        ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261203T170000Z", vec!["12-02", "12-04"]),
        ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20261203", vec!["12-02", "12-04"]),
        ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261203T120000", vec!["12-02", "12-04"]),
        ("RRULE:FREQ=DAILY;COUNT=3\nEXRULE:FREQ=DAILY;INTERVAL=2", vec!["12-03"]),
        (
            "RRULE:FREQ=DAILY;COUNT=2\nRDATE;TZID=America/New_York:20261203T120000,20261210T120000",
            vec!["12-02", "12-03", "12-10"],
        ),
        ("RDATE;VALUE=DATE:20261204", vec!["12-02", "12-04"]),
        ("RRULE:FREQ=MONTHLY;RSCALE=GREGORIAN;SKIP=OMIT;COUNT=1", vec!["12-02"]),
    ] {
        let found: Vec<_> = starts(&[&noon(more)], "2026-11-01", "2027-01-01")
            .iter()
            .map(|start| start.strip_suffix(" 12:00-05:00").unwrap().to_owned())
            .collect();
        assert_eq!(found, expected, "{more}");
    }
}

#[test]
fn a_window_far_from_the_start_keeps_the_rhythm() {
    for (start, rule, expected) in [
        ("20000105T120000", "FREQ=DAILY;INTERVAL=3", vec!["12-02", "12-05"]),
        ("20000105T120000", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", vec!["12-02"]),
        ("20000131T120000", "FREQ=MONTHLY;BYDAY=1TU,2MO", vec!["12-01"]),
        ("20000201T120000", "FREQ=MONTHLY;INTERVAL=5", vec![]),
        ("20000901T120000", "FREQ=MONTHLY;INTERVAL=5", vec!["12-01"]),
        ("20000131T120000", "FREQ=MONTHLY;BYSETPOS=1;BYDAY=MO,TU,WE,TH,FR", vec!["12-01"]),
        ("19701202T120000", "FREQ=YEARLY", vec!["12-02"]),
        ("20000105T120000", "FREQ=HOURLY;INTERVAL=48", vec!["12-02", "12-04", "12-06"]),
        ("20000105T120000", "FREQ=MINUTELY;INTERVAL=4320", vec!["12-02", "12-05"]),
    ] {
        let event = format!("DTSTART;TZID=America/New_York:{start}\nRRULE:{rule}");
        let found: Vec<_> = starts(&[&event], "2026-12-01", "2026-12-08")
            .iter()
            .map(|start| start.strip_suffix(" 12:00-05:00").unwrap().to_owned())
            .collect();
        // By hand: the same rule, counted from its start.
        assert_eq!(found, expected, "{rule}");
    }
    // The 31st is skipped in months without one.
    let monthly = "DTSTART;TZID=America/New_York:20000131T120000\nRRULE:FREQ=MONTHLY";
    assert_eq!(
        starts(&[monthly], "2026-09-01", "2027-02-01"),
        ["10-31 12:00-04:00", "12-31 12:00-05:00", "01-31 12:00-05:00"]
    );
}

#[test]
fn skipping_ahead_changes_nothing() {
    for rule in [
        "FREQ=DAILY;INTERVAL=7;BYMONTH=3,11,12",
        "FREQ=WEEKLY;INTERVAL=3;WKST=SU;BYDAY=SU,TU,SA",
        "FREQ=WEEKLY;INTERVAL=2;WKST=MO;BYDAY=SU,MO",
        "FREQ=MONTHLY;INTERVAL=7;BYMONTHDAY=-1,30",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=MONTHLY;INTERVAL=3",
        "FREQ=HOURLY;INTERVAL=37",
        "FREQ=YEARLY;BYWEEKNO=49",
    ] {
        let event = format!("DTSTART;TZID=America/New_York:20201231T093000\nRRULE:{rule}");
        let near = starts(&[&event], "2026-11-01", "2027-06-01");
        // COUNT forbids skipping.
        let counted = starts(&[&format!("{event};COUNT=40000")], "2026-11-01", "2027-06-01");
        assert!(!near.is_empty(), "{rule}");
        assert_eq!(near, counted, "{rule}");
    }
}

#[test]
fn daylight_saving() {
    let daily = |time: &str, from: &str| {
        format!(
            "DTSTART;TZID=America/New_York:{from}T{time}\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
        )
    };
    for (time, from, expected) in [
        // 02:30 does not exist on 8 March 2026.
        ("023000", "20260307", ["03-07 02:30-05:00", "03-08 03:30-04:00", "03-09 02:30-04:00"]),
        // 01:30 comes twice on 1 November 2026: the first counts.
        ("013000", "20261031", ["10-31 01:30-04:00", "11-01 01:30-04:00", "11-02 01:30-05:00"]),
        ("120000", "20261031", ["10-31 12:00-04:00", "11-01 12:00-05:00", "11-02 12:00-05:00"]),
        // It starts in the gap.
        ("023000", "20260308", ["03-08 03:30-04:00", "03-09 02:30-04:00", "03-10 02:30-04:00"]),
    ] {
        assert_eq!(starts(&[&daily(time, from)], "2026-01-01", "2027-01-01"), expected);
    }
    // 02:00 and 03:00 are one instant that night.
    let hourly = "DTSTART;TZID=America/New_York:20260308T010000\nRRULE:FREQ=HOURLY;COUNT=4";
    assert_eq!(
        starts(&[hourly], "2026-03-01", "2026-04-01"),
        ["03-08 01:00-05:00", "03-08 03:00-04:00", "03-08 04:00-04:00"]
    );
    // Across the fold an hour lasts an hour, and ends in the second 01:30.
    let fold = expanded(&[&daily("013000", "20261031")], "2026-11-01", "2026-11-02");
    let occurrence = &fold.occurrences[0];
    assert_eq!(occurrence.end.duration_since(occurrence.start), SignedDuration::from_hours(1));
}

#[test]
fn all_day_events_begin_at_local_midnight() {
    let weekly = "DTSTART;VALUE=DATE:20261030\nDTEND;VALUE=DATE:20261101\nRRULE:FREQ=DAILY;INTERVAL=2;UNTIL=20261103T000000Z\nEXDATE;VALUE=DATE:20261030";
    let found = expanded(&[weekly], "2026-10-01", "2026-12-01");
    let times: Vec<_> =
        found.occurrences.iter().map(|o| (o.start.to_string(), o.end.to_string())).collect();
    assert_eq!(
        times,
        [
            ("2026-11-01T04:00:00Z".to_owned(), "2026-11-03T05:00:00Z".to_owned()),
            ("2026-11-03T05:00:00Z".to_owned(), "2026-11-05T05:00:00Z".to_owned()),
        ]
    );
}

#[test]
fn overrides_replace_move_and_cancel() {
    let series = format!("{NOON}\nSUMMARY:Talk\nRRULE:FREQ=WEEKLY;COUNT=4");
    let changed = |id: &str, more: &str| {
        format!("RECURRENCE-ID;TZID=America/New_York:{id}\nDURATION:PT1H\n{more}")
    };
    let at = |start: &str| format!("DTSTART;TZID=America/New_York:{start}\n");
    let sketch = |lines: &[&str], from, to| -> Vec<String> {
        let expansion = expanded(lines, from, to);
        assert_eq!(expansion.warnings, []);
        let show = |o: &Occurrence| {
            let local = o.start.to_zoned_datetime(new_york());
            format!(
                "{} {} {}",
                local.strftime("%m-%d %H:%M"),
                o.event.summary,
                o.event.status.as_str()
            )
        };
        expansion.occurrences.iter().map(show).collect()
    };
    let december = |lines: &[&str]| sketch(lines, "2026-12-01", "2027-01-01");

    let moved = changed("20261209T120000", &(at("20261210T150000") + "SUMMARY:Moved"));
    assert_eq!(
        december(&[&moved, &series]),
        [
            "12-02 12:00 Talk confirmed",
            "12-10 15:00 Moved confirmed",
            "12-16 12:00 Talk confirmed",
            "12-23 12:00 Talk confirmed"
        ]
    );
    let away = changed("20261209T120000", &(at("20270301T120000") + "SUMMARY:Moved"));
    assert_eq!(december(&[&series, &away]).len(), 3);
    assert_eq!(
        sketch(&[&series, &away], "2027-03-01", "2027-03-02"),
        ["03-01 12:00 Moved confirmed"]
    );
    let cancelled =
        changed("20261209T120000", &(at("20261209T120000") + "SUMMARY:Talk\nSTATUS:CANCELLED"));
    assert_eq!(december(&[&series, &cancelled])[1], "12-09 12:00 Talk cancelled");
    let by_date =
        format!("RECURRENCE-ID;VALUE=DATE:20261209\n{}SUMMARY:Moved", at("20261209T130000"));
    assert_eq!(december(&[&series, &by_date])[1], "12-09 13:00 Moved confirmed");
    assert_eq!(december(&[&series, &by_date]).len(), 4);
    let orphan = changed("20261211T120000", &(at("20261211T120000") + "SUMMARY:Extra"));
    assert_eq!(december(&[&series, &orphan]).len(), 5);
    assert_eq!(december(&[&orphan]), ["12-11 12:00 Extra confirmed"]);
    let later = format!(
        "RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=America/New_York:20261216T120000\nDURATION:PT2H\n{}SUMMARY:Later",
        at("20261217T130000")
    );
    assert_eq!(
        december(&[&series, &later]),
        [
            "12-02 12:00 Talk confirmed",
            "12-09 12:00 Talk confirmed",
            "12-17 13:00 Later confirmed",
            "12-24 13:00 Later confirmed"
        ]
    );
}

#[test]
fn occurrences_are_plain_events() {
    let series = format!("{NOON}\nRRULE:FREQ=WEEKLY;COUNT=2");
    let found = expanded(&[&series], "2026-12-09", "2026-12-10");
    let [occurrence] = &found.occurrences[..] else { panic!("{found:?}") };
    let event = &occurrence.event;
    assert!(event.recurrence.is_empty());
    assert_eq!(event.recurrence_id.as_ref(), Some(&event.start));
    assert_eq!(event.status, Status::Confirmed);
    assert_eq!(event.start.instant(&Zones::default(), &new_york()), occurrence.start);
    assert_eq!(event.end.instant(&Zones::default(), &new_york()), occurrence.end);
}

#[test]
fn the_window_holds_what_overlaps_it() {
    let event = "DTSTART:20261202T120000Z\nDTEND:20261204T120000Z";
    let instant = "DTSTART:20261202T000000Z";
    for (lines, from, to, count) in [
        (event, "2026-12-03", "2026-12-04", 1),
        (event, "2026-12-04", "2026-12-05", 1),
        (event, "2026-12-05", "2026-12-06", 0),
        (event, "2026-12-01", "2026-12-02", 0),
        (instant, "2026-12-02", "2026-12-03", 1),
        (instant, "2026-12-01", "2026-12-02", 0),
    ] {
        assert_eq!(expanded(&[lines], from, to).occurrences.len(), count, "{from}");
    }
}

#[test]
fn hostile_rules_end_soon_with_a_warning() {
    let all = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let bomb = format!("FREQ=DAILY;BYHOUR={};BYMINUTE={};BYSECOND={}", all(24), all(60), all(60));
    let started = Instant::now();
    for rule in [
        "FREQ=SECONDLY",
        &bomb,
        &bomb.replace("DAILY", "YEARLY"),
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=MINUTELY;COUNT=1000000000",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;INTERVAL=99999999999",
        "FREQ=DAILY;X=1",
        "FREQ=WEEKLY;BYDAY=XX",
        "FREQ=WEEKLY;UNTIL=SOON",
        "FREQ=FORTNIGHTLY",
        "COUNT=3",
        "RSCALE=HEBREW;FREQ=YEARLY",
    ] {
        let event = format!("DTSTART;TZID=America/New_York:20000105T120000\nRRULE:{rule}");
        let calendar = read(&[&event]);
        let window = window("2026-01-01", "2027-01-01");
        let found = expand(&calendar.events, window, &Zones::default(), &new_york());
        let warnings = [calendar.warnings, found.warnings].concat();
        assert_eq!(warnings.len(), 1, "{rule}: {warnings:?}");
    }
    // Generous: the tests run unoptimised and side by side.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn what_a_hostile_rule_costs_is_counted() {
    let all = |from: usize, to: usize| {
        let numbers: Vec<String> = (from..to).map(|i| i.to_string()).collect();
        numbers.join(",")
    };
    let days = format!("BYMONTH={};BYMONTHDAY={}", all(1, 13), all(1, 32));
    let minutes = format!("BYHOUR={};BYMINUTE={}", all(0, 24), all(0, 60));
    let seconds = format!("BYMINUTE={0};BYSECOND={0}", all(0, 60));
    let spent = || (RULE_STEPS, 31 * 86_400, Err(Shortfall::Spent));
    // How many steps it takes and how many dates it finds at most, in a month long after its start.
    for (rule, (most_steps, most_found, end)) in [
        // Of half a million dates one is wanted, and it is long past.
        (format!("FREQ=YEARLY;COUNT=1;{days};{minutes}"), (200, 0, Ok(()))),
        (format!("FREQ=HOURLY;COUNT=1;{seconds}"), (1, 0, Ok(()))),
        (format!("FREQ=YEARLY;COUNT=1;{days};{minutes};{seconds}"), (0, 0, Err(Shortfall::Dense))),
        (format!("FREQ=DAILY;COUNT=1;{minutes};{seconds}"), (0, 0, Err(Shortfall::Dense))),
        // So many, but a few in the window.
        ("FREQ=DAILY;COUNT=1000000000".to_owned(), (2 * 31, 31, Ok(()))),
        ("FREQ=WEEKLY;BYDAY=MO;COUNT=1000000000".to_owned(), (2 * 5, 5, Ok(()))),
        (format!("FREQ=DAILY;COUNT={}", i64::MAX), (2 * 31, 31, Ok(()))),
        // More before the window than may be looked at one by one: of one year, or since the start.
        (
            format!("FREQ=YEARLY;COUNT=1000000000;{days};{seconds}"),
            (RULE_STEPS, RULE_STEPS / 2, Err(Shortfall::Spent)),
        ),
        (
            format!("RSCALE=GREGORIAN;SKIP=FORWARD;FREQ=YEARLY;COUNT=1000000000;{days};{seconds}"),
            (RULE_STEPS, 0, Err(Shortfall::Spent)),
        ),
        // Without end, and more in the window than may be found.
        ("FREQ=MINUTELY".to_owned(), (RULE_STEPS, RULE_STEPS / 2, Err(Shortfall::Spent))),
        ("FREQ=SECONDLY".to_owned(), (RULE_STEPS, RULE_STEPS / 2, Err(Shortfall::Spent))),
        ("FREQ=SECONDLY;COUNT=1000000000".to_owned(), spent()),
        (format!("FREQ=MONTHLY;{days};{seconds}"), spent()),
        // No such day.
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30".to_owned(), (0, 0, Err(Shortfall::Never))),
        ("FREQ=MONTHLY;BYMONTH=4,6,9;BYMONTHDAY=31".to_owned(), (0, 0, Err(Shortfall::Never))),
        ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30".to_owned(), (0, 0, Err(Shortfall::Never))),
        // The same, and it takes a look: a sixth Monday, a fifth one on a first, a 366th in January.
        ("FREQ=MONTHLY;BYDAY=6MO".to_owned(), (31, 0, Ok(()))),
        ("FREQ=YEARLY;BYMONTH=12;BYDAY=5MO;BYMONTHDAY=1".to_owned(), (31, 0, Ok(()))),
        ("FREQ=SECONDLY;BYYEARDAY=366;BYMONTH=1".to_owned(), (32, 0, Ok(()))),
    ] {
        let at = |wall: &str| rule::wall(wall.parse().unwrap());
        let (from, to) = (at("2026-12-01T00:00:00"), at("2026-12-31T23:59:59"));
        let (mut left, mut found) = (RULE_STEPS, Vec::new());
        let parsed = Rule::parse(&rule).unwrap();
        let result = parsed.dates(at("2000-01-05T12:00:00"), from, to, &mut left, &mut found);
        let steps = RULE_STEPS - left;
        assert_eq!(result, end, "{rule}");
        assert!(steps <= most_steps, "{rule}: {steps} steps");
        assert!(found.len() as u64 <= most_found, "{rule}: {} dates", found.len());
    }
}

#[test]
fn an_exception_of_every_second_takes_nothing_from_other_events() {
    let of = |uid: &str, rules: &str| {
        let lines = format!("DTSTART:20261130T120000Z\n{rules}");
        Event { uid: Uid(uid.to_owned()), ..read(&[&lines]).events[0].clone() }
    };
    for (exception, left, warnings) in [
        // Of so many only some are looked at, which is said.
        ("FREQ=SECONDLY", 31, 1),
        ("FREQ=MINUTELY;COUNT=1000000000", 31, 1),
        ("FREQ=DAILY;BYHOUR=12", 0, 0),
    ] {
        let swallowed = of("swallowed", &format!("RRULE:FREQ=DAILY\nEXRULE:{exception}"));
        let events = [swallowed, of("good", "RRULE:FREQ=DAILY")];
        let window = window("2026-12-01", "2027-01-01");
        let found = expand(&events, window, &Zones::default(), &TimeZone::UTC);
        let count =
            |uid: &str| found.occurrences.iter().filter(|one| one.event.uid.0 == uid).count();
        assert_eq!(count("good"), 31, "{exception}");
        assert!(count("swallowed") <= left, "{exception}: {} are left", count("swallowed"));
        assert_eq!(found.warnings.len(), warnings, "{exception}: {:?}", found.warnings);
    }
}

#[test]
fn dense_rules_leave_others_what_they_need() {
    let one = |rule: &str, uid: String| {
        let lines = format!("DTSTART:20261130T120000Z\nRRULE:{rule}");
        Event { uid: Uid(uid), ..read(&[&lines]).events[0].clone() }
    };
    let dense = one("FREQ=MINUTELY;BYSECOND=0,1,2,3,4,5,6,7,8,9", String::new());
    let mut events: Vec<Event> =
        (0..100).map(|n| Event { uid: Uid(format!("dense {n}")), ..dense.clone() }).collect();
    events.push(one("FREQ=WEEKLY", "good".to_owned()));
    let window = window("2026-12-01", "2027-02-01");
    let found = expand(&events, window, &Zones::default(), &TimeZone::UTC);
    let good = found.occurrences.iter().filter(|one| one.event.uid.0 == "good");
    assert_eq!(good.count(), 8);
    let warned: HashSet<_> = found.warnings.iter().filter_map(|one| one.event.as_deref()).collect();
    assert_eq!(warned.len(), 100, "each that is cut, and no other");
    assert!(!warned.contains("good"));
}

#[test]
fn what_the_others_do_not_need_is_for_the_dense() {
    assert_eq!(fair_share(vec![5, 100, 1, 100], 56), 25);
    assert_eq!(fair_share(vec![5, 100, 1, 100], 206), usize::MAX);
    assert_eq!(fair_share(vec![9, 9], 1), 0);
    // Of steps: ten rules that want forty thousand each have them, whatever the others want.
    let one = |rule: &str, uid: String| {
        let lines = format!("DTSTART:20261130T120000Z\nRRULE:{rule}");
        Event { uid: Uid(uid), ..read(&[&lines]).events[0].clone() }
    };
    let (dense, less) = (one("FREQ=SECONDLY", String::new()), one("FREQ=MINUTELY", String::new()));
    let named = |event: &Event, n: i32, name: &str| Event {
        uid: Uid(format!("{name} {n}")),
        ..event.clone()
    };
    let mut events: Vec<Event> = (0..60).map(|n| named(&dense, n, "dense")).collect();
    events.extend((0..10).map(|n| named(&less, n, "less")));
    events.extend((0..400).map(|n| named(&one("FREQ=WEEKLY", String::new()), n, "good")));
    let window = window("2026-12-01", "2026-12-15");
    let (found, _) = instances(&events, window, &Zones::default(), &TimeZone::UTC);
    let count = |name: &str| found.iter().filter(|one| one.event.uid.0.starts_with(name)).count();
    assert_eq!(count("good"), 400 * 2);
    assert_eq!(count("less"), 10 * 14 * 24 * 60);
}

#[test]
fn many_dense_rules_use_up_a_feeds_budget_and_no_more() {
    let started = Instant::now();
    for rule in [
        "FREQ=SECONDLY",
        "FREQ=MINUTELY;BYSECOND=0,1,2,3,4,5,6,7,8,9",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYHOUR=3;INTERVAL=86400",
    ] {
        let Calendar { events, warnings, .. } =
            read(&[&format!("DTSTART:20261130T120000Z\nRRULE:{rule}")]);
        let said = if warnings.is_empty() { 500 } else { 0 };
        let many: Vec<Event> =
            (0..500).map(|i| Event { uid: Uid(i.to_string()), ..events[0].clone() }).collect();
        let window = window("2026-12-01", "2026-12-31");
        let (found, warnings) = instances(&many, window, &Zones::default(), &TimeZone::UTC);
        assert!(found.len() as u64 <= FEED_STEPS, "{rule}");
        assert_eq!(warnings.len(), said, "{rule}");
    }
    // Generous: the tests run unoptimised and side by side.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn bounds_hold_every_occurrence() {
    let max = Timestamp::MAX;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for (more, last) in [
        ("SUMMARY:Once", at("2026-12-02T18:00:00Z")),
        ("RRULE:FREQ=DAILY", max),
        ("RRULE:FREQ=DAILY;COUNT=3", max),
        ("RRULE:FREQ=DAILY;UNTIL=20261210", at("2026-12-13T00:59:59Z")),
        ("RDATE:20270101T000000Z", at("2027-01-03T01:00:00Z")),
    ] {
        let events = events(&[&format!("{NOON}\n{more}")]);
        let found = bounds(&events[0], &Zones::default(), &new_york());
        assert_eq!(found.1, last, "{more}");
        let window = window("2026-01-01", "2028-01-01");
        for occurrence in expand(&events, window, &Zones::default(), &new_york()).occurrences {
            assert!(found.0 <= occurrence.start && occurrence.end <= found.1, "{more}");
        }
    }
}

#[test]
fn the_next_occurrence_may_be_years_away() {
    let zones = Zones::default();
    let next = |lines: &[&str]| {
        let from = "2026-12-03T00:00:00Z".parse().unwrap();
        next_occurrence(&events(lines), from, &zones, &new_york()).map(|o| o.start.to_string())
    };
    let weekly = format!("{NOON}\nRRULE:FREQ=WEEKLY");
    assert_eq!(next(&[&weekly]).as_deref(), Some("2026-12-09T17:00:00Z"));
    let leap = "DTSTART;TZID=America/New_York:20240229T120000\nRRULE:FREQ=YEARLY";
    assert_eq!(next(&[leap]).as_deref(), Some("2028-02-29T17:00:00Z"));
    assert_eq!(next(&[NOON]), None);
}

proptest! {
    /// What a clock remembers is what it would be told again.
    #[test]
    fn a_clock_shows_what_its_zone_says(
        name in proptest::sample::select(&[
            "America/New_York", "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca",
            "Pacific/Apia", "Asia/Gaza", "America/Nuuk", "Africa/Monrovia", "UTC", "+05:30",
            "<-05>5:00:00<-04>4:00:00,M3.2.0/02:00:00,M11.1.0/02:00:00",
        ][..]),
        walls in proptest::collection::vec(-3_000_000_000..4_000_000_000_i64, 1..20),
        near in -200_000..200_000_i64,
    ) {
        let zone = Zones::default().get(name).unwrap();
        let mut clock = Clock::new(zone.clone(), window("2026-01-01", "2026-02-01"));
        for wall in walls {
            let change = zone.following(time::timestamp(wall)).next();
            let close = change.map_or(wall, |change| change.timestamp().as_second() + near);
            for wall in [wall, close, close + 1_800] {
                let local = rule::local(wall).unwrap();
                let expected = time::resolve(local, &zone).as_second();
                prop_assert_eq!(clock.second(wall), expected, "{} {}", name, local);
            }
        }
    }

    /// A series is its rules and its RDATEs, without its EXDATEs, seen through the window.
    #[test]
    fn a_series_is_a_set(
        rules in proptest::collection::vec(proptest::sample::select(&[
            "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=MO,FR", "FREQ=MONTHLY;BYMONTHDAY=-1",
            "FREQ=WEEKLY;COUNT=40", "FREQ=DAILY;COUNT=500;BYDAY=SA", "FREQ=YEARLY;BYDAY=20MO",
        ][..]), 1..3),
        rdates in proptest::collection::vec(0..4_000_i64, 0..5),
        exdates in proptest::collection::vec(0..4_000_i64, 0..40),
        age in 0..4_000_i64,
        length in 1..200_i64,
    ) {
        let first = rule::wall("2016-02-29T09:30:00".parse().unwrap());
        let stamp = |days: &i64| {
            let local = rule::local(first + days * 86_400).unwrap();
            local.strftime("%Y%m%dT%H%M%SZ").to_string()
        };
        let list = |name: &str, days: &[i64]| match days {
            [] => String::new(),
            days => format!("\n{name}:{}", days.iter().map(stamp).collect::<Vec<_>>().join(",")),
        };
        let lines: Vec<String> = rules.iter().map(|rule| format!("RRULE:{rule}")).collect();
        let event = format!(
            "DTSTART:20160229T093000Z\nDURATION:PT1H\n{}{}{}",
            lines.join("\n"),
            list("RDATE", &rdates),
            list("EXDATE", &exdates)
        );
        let from = first + age * 86_400;
        let to = from + length * 86_400;
        let mut expected = std::collections::BTreeSet::from([first]);
        for rule in &rules {
            let mut dates = Vec::new();
            let end = to - 1;
            Rule::parse(rule).unwrap().dates(first, first, end, &mut 1_000_000, &mut dates).unwrap();
            expected.extend(dates);
        }
        expected.extend(rdates.iter().map(|days| first + days * 86_400));
        for days in &exdates {
            expected.remove(&(first + days * 86_400));
        }
        let window = Window { from: time::timestamp(from), to: time::timestamp(to) };
        let events = events(&[&event]);
        let (found, _) = instances(&events, window, &Zones::default(), &new_york());
        let mut found: Vec<i64> = found.iter().map(|one| one.start).collect();
        found.sort_unstable();
        let expected: Vec<i64> = expected.range(from..to).copied().collect();
        prop_assert_eq!(found, expected);
    }
}

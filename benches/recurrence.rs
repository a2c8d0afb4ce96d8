//! Expanding 10,000 recurring events over 90 days: beadle beside the crate `rrule`, and beside the
//! programs given in `BEADLE_PEERS`, in turns, with the same dates asked of each; see compare.sh.
//!
//!     BEADLE_PEERS='libical=./libical;node-ical=node recur.js' cargo bench --bench recurrence

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use beadle::calendar::parse::{ReadOptions, read_all};
use beadle::calendar::{Event, Window, Zones, recur};
use jiff::Timestamp;
use rrule::{RRuleSet, Tz};

const MASTERS: usize = 10_000;
const ROUNDS: usize = 5;
const ZONE: &str = "America/New_York";
const FROM: &str = "2026-06-01T00:00:00Z";
const TO: &str = "2026-08-30T00:00:00Z";

/// What a feed of meetings has, with a share of rules that are hard for one engine or another.
const RULES: [&str; 20] = [
    "FREQ=WEEKLY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH",
    "FREQ=WEEKLY;BYDAY=TU;UNTIL=20270101T000000Z",
    "FREQ=WEEKLY;BYDAY=MO,TU;COUNT=5000",
    "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,SA",
    "FREQ=DAILY",
    "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=DAILY;COUNT=20000",
    "FREQ=DAILY;BYMONTH=1,6,7",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=2TU",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYMONTHDAY=-1,15",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=10;COUNT=2000",
    "FREQ=YEARLY",
    "FREQ=YEARLY;BYMONTH=6,7;BYDAY=1MO,-1MO",
    "FREQ=YEARLY;BYDAY=26TH",
];

struct Master {
    start: String,
    rule: &'static str,
    exdates: Vec<String>,
}

/// Masters whose starts are `age` years older than up to six years.
fn masters(age: i16) -> Vec<Master> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let date = |year: i16, month, day| format!("{:04}{:02}{:02}", year, month + 1, day + 1);
    (0..MASTERS)
        .map(|index| {
            let year = 2020 + random(6) as i16;
            // Days that every month has: the same ones by every reading.
            let (month, day, hour) = (random(12), random(28), 8 + random(12));
            let time = format!("T{hour:02}{:02}00", random(4) * 15);
            let exdates = if random(10) < 4 {
                (0..2).map(|_| date(2026, 5 + random(3), random(28)) + &time).collect()
            } else {
                Vec::new()
            };
            let start = date(year - age, month, day) + &time;
            Master { start, rule: RULES[index % RULES.len()], exdates }
        })
        .collect()
}

fn feed(masters: &[Master]) -> String {
    let mut text = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:bench\r\n".to_owned();
    for (index, master) in masters.iter().enumerate() {
        let Master { start, rule, exdates } = master;
        write!(text, "BEGIN:VEVENT\r\nUID:{index}\r\nDTSTART;TZID={ZONE}:{start}\r\n").unwrap();
        write!(text, "DURATION:PT1H\r\nSUMMARY:Meeting {index}\r\nRRULE:{rule}\r\n").unwrap();
        for exdate in exdates {
            write!(text, "EXDATE;TZID={ZONE}:{exdate}\r\n").unwrap();
        }
        text += "END:VEVENT\r\n";
    }
    text + "END:VCALENDAR\r\n"
}

/// Number of dates and a sum that depends on which event has which.
type Answer = (usize, u64);

fn add(answer: &mut Answer, event: usize, second: i64) {
    answer.0 += 1;
    let mixed = (event as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ second as u64;
    answer.1 = answer.1.wrapping_add(mixed.wrapping_mul(0xff51_afd7_ed55_8ccd));
}

fn ours(events: &[Event], window: Window, zones: &Zones) -> (f64, Answer) {
    let zone = zones.get(ZONE).unwrap();
    let begun = Instant::now();
    let (found, warnings) = recur::instances(events, window, zones, &zone);
    let spent = begun.elapsed().as_secs_f64();
    assert_eq!(warnings, []);
    let mut answer = (0, 0);
    for one in black_box(&found) {
        // Those that begin before the window and last into it are no question to the peers.
        if one.start >= window.from.as_second() {
            add(&mut answer, one.event.uid.0.parse().unwrap(), one.start);
        }
    }
    (spent * 1e3, answer)
}

fn crate_rrule(masters: &[Master], window: Window) -> (f64, Answer) {
    let texts: Vec<String> = masters
        .iter()
        .map(|master| {
            let Master { start, rule, exdates } = master;
            let mut text = format!("DTSTART;TZID={ZONE}:{start}\nRRULE:{rule}");
            for exdate in exdates {
                write!(text, "\nEXDATE;TZID={ZONE}:{exdate}").unwrap();
            }
            text
        })
        .collect();
    let at = |at: Timestamp| chrono::DateTime::from_timestamp(at.as_second(), 0).unwrap();
    let zone: Tz = Tz::UTC;
    let (from, to) = (at(window.from), at(window.to));
    let (from, to) = (from.with_timezone(&zone), to.with_timezone(&zone));
    let mut answer = (0, 0);
    let begun = Instant::now();
    for (index, text) in texts.iter().enumerate() {
        let set: RRuleSet = text.parse().unwrap();
        let mut starts = vec![set.get_dt_start().timestamp()];
        let found = set.after(from).before(to).all_unchecked();
        starts.extend(found.iter().map(chrono::DateTime::timestamp));
        // DTSTART counts whether or not its rule yields it.
        starts.retain(|s| (from.timestamp()..to.timestamp()).contains(s));
        starts.sort_unstable();
        starts.dedup();
        for start in starts {
            add(&mut answer, index, start);
        }
    }
    (begun.elapsed().as_secs_f64() * 1e3, answer)
}

/// The program reads a feed and prints milliseconds, number and sum.
fn program(command: &str, feed: &std::path::Path, window: Window) -> (f64, Answer) {
    let bounds = [window.from, window.to].map(|at| at.as_second().to_string());
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let run = command.args(words).arg(feed).args(bounds).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap();
    (word().parse().unwrap(), (word().parse().unwrap(), word().parse().unwrap()))
}

fn main() {
    let zones = Zones::default();
    let zone = zones.get(ZONE).unwrap();
    let window = Window { from: FROM.parse().unwrap(), to: TO.parse().unwrap() };
    let peers = std::env::var("BEADLE_PEERS").unwrap_or_default();
    let peers: Vec<(&str, &str)> = peers.split(';').filter_map(|one| one.split_once('=')).collect();
    let mut times: BTreeMap<(&str, i16), Vec<f64>> = BTreeMap::new();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let folder = std::env::temp_dir();
    let inputs = [0, 20].map(|age| {
        let masters = masters(age);
        let text = feed(&masters);
        let calendar = read_all(text.as_bytes(), &options);
        assert_eq!(calendar.warnings, []);
        let path = folder.join(format!("beadle-recurrence-{age}-{}.ics", std::process::id()));
        std::fs::write(&path, text).unwrap();
        (age, masters, calendar.events, path)
    });
    for round in 0..ROUNDS {
        for (age, masters, events, path) in &inputs {
            let mut note = |name, (time, answer): (f64, Answer), expected: Answer| {
                assert_eq!(answer, expected, "{name} has other dates, {age} years back");
                times.entry((name, *age)).or_default().push(time);
            };
            let (_, answer) = ours(events, window, &zones);
            // It is over before a shared machine has gone round: as often as takes a while.
            for _ in 0..20 {
                note("beadle", ours(events, window, &zones), answer);
            }
            note("rrule", crate_rrule(masters, window), answer);
            // Once is enough for those that take minutes.
            for (name, command) in peers.iter().filter(|_| round == 0 && *age == 0) {
                let (time, theirs) = program(command, path, window);
                times.entry((name, *age)).or_default().push(time);
                if theirs != answer {
                    println!("{name} has other dates: {}, not {}", theirs.0, answer.0);
                }
            }
            if round == 0 {
                println!("{} masters, {} occurrences, {age} years back", masters.len(), answer.0);
            }
        }
    }
    let times_of = |name, age| {
        let mut all = times[&(name, age)].clone();
        all.sort_by(f64::total_cmp);
        (all[0], all[all.len() / 2])
    };
    // The least is what it takes; the rest is what others do on the machine.
    println!("\n| | years back | ms, least (median) | × beadle, of the least |\n|---|---|---|---|");
    for (name, age) in times.keys() {
        let (least, middle) = times_of(name, *age);
        let ratio = least / times_of("beadle", *age).0;
        println!("| {name} | {age} | {least:.2} ({middle:.2}) | {ratio:.1} |");
    }
    let ratio = times_of("beadle", 20).0 / times_of("beadle", 0).0;
    println!("\nDTSTART 20 years back: {ratio:.2} × the time");
    for (_, _, _, path) in &inputs {
        let _ = std::fs::remove_file(path);
    }
}

//! Reading a feed in memory against what the machine can do and what other parsers do, in one
//! interleaved run: `cargo bench --bench calendar -- [events [rounds [folder]]]`. The folder is
//! what compare.sh has made: parsers and their feed.

#![allow(clippy::print_stdout)]

mod support;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use beadle::calendar::Zones;
use beadle::calendar::fingerprints::Fingerprints;
use beadle::calendar::parse::{ReadOptions, Reader};
use jiff::tz::TimeZone;
use support::{DIALECTS, Dialect, feed};
use xxhash_rust::xxh3::xxh3_128;

/// As large as what an HTTP client hands out at once.
const PIECE: usize = 64 * 1024;

struct Case<'a> {
    name: String,
    bytes: usize,
    run: Box<dyn FnMut() -> Duration + 'a>,
    times: Vec<Duration>,
}

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse().ok());
    let (events, rounds) = (number(0).unwrap_or(10_000), number(1).unwrap_or(9));

    let zones = Zones::default();
    let zone = zones.get("America/New_York").unwrap_or(TimeZone::UTC);
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let first = feed(events, Dialect::Folded, 1, None);
    let restamped = feed(events, Dialect::Folded, 2, None);
    let one = feed(events, Dialect::Folded, 2, Some(events / 2));
    let mut known = Vec::new();
    read(&first, &options, &mut Fingerprints::default(), |fingerprint| known.push(fingerprint));
    let dialects = DIALECTS.map(|dialect| {
        let few = events > 20_000 || matches!(dialect, Dialect::ManyLines | Dialect::LongLine);
        (dialect, feed(if few { events.min(500) } else { events }, dialect, 1, None))
    });

    let mut all: Vec<Case<'_>> = Vec::new();
    {
        macro_rules! case {
            ($name:expr, $body:expr, $run:expr) => {
                all.push(Case {
                    name: $name.into(),
                    bytes: $body.len(),
                    run: Box::new(|| {
                        let start = Instant::now();
                        black_box($run);
                        start.elapsed()
                    }),
                    times: Vec::new(),
                })
            };
        }
        case!(LINES, restamped, {
            memchr::memchr_iter(b'\n', &restamped).fold(0, |sum, at| sum ^ at)
        });
        case!("xxh3_128", restamped, xxh3_128(&restamped));
        case!(DIFF, restamped, {
            let mut known = Fingerprints::new(known.clone());
            read(&restamped, &options, &mut known, |_| ());
            known.len()
        });
        case!("diff: one title changed too", one, {
            let mut known = Fingerprints::new(known.clone());
            read(&one, &options, &mut known, |_| ());
            known.len()
        });
        for (dialect, body) in &dialects {
            case!(format!("parse: {dialect:?}"), body, {
                let mut count = 0;
                read(body, &options, &mut Fingerprints::default(), |_| count += 1);
                count
            });
        }
    }
    let peers = args.get(2).into_iter().flat_map(|folder| {
        let rust = |name| (name, format!("{folder}/rust/release/peers {name}"));
        let peers = [rust("ical"), rust("calcard"), ("libical", format!("{folder}/libical"))];
        peers.map(|(name, command)| (name, format!("{command} {folder}/a.ics 1")))
    });
    for (name, command) in peers.filter(|(_, command)| runs(command)) {
        let run = Box::new(move || program(&command).unwrap_or_default());
        all.push(Case { name: name.into(), bytes: first.len(), run, times: Vec::new() });
    }
    report(all, rounds);
}

const LINES: &str = "memchr, every newline";
const DIFF: &str = "diff: every DTSTAMP changed";
const PARSE: &str = "parse: Folded";

fn runs(command: &str) -> bool {
    let runs = program(command).is_some();
    if !runs {
        println!("left out: {command}");
    }
    runs
}

/// The milliseconds that a program prints first.
fn program(command: &str) -> Option<Duration> {
    let mut words = command.split(' ');
    let output = Command::new(words.next()?).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let ms: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_secs_f64(ms / 1e3))
}

fn read(
    body: &[u8],
    options: &ReadOptions<'_>,
    known: &mut Fingerprints,
    mut each: impl FnMut(u128),
) {
    let mut sink = |event, fingerprint| {
        black_box(&event);
        each(fingerprint);
    };
    let mut reader = Reader::new(options, None, |fingerprint| known.meet(fingerprint));
    for piece in body.chunks(PIECE) {
        reader.push(piece, &mut sink);
    }
    black_box(reader.finish(&mut sink));
}

fn report(mut cases: Vec<Case<'_>>, rounds: usize) {
    for _ in 0..rounds {
        for case in &mut cases {
            let time = (case.run)();
            case.times.push(time);
        }
    }
    let speed = |case: &Case<'_>, time: Duration| case.bytes as f64 / time.as_secs_f64() / 1e6;
    let median = |case: &mut Case<'_>| {
        case.times.sort();
        case.times[case.times.len() / 2]
    };
    let base = median(&mut cases[0]).as_secs_f64() / cases[0].bytes as f64;
    for case in &mut cases {
        let time = median(case);
        let ratio = time.as_secs_f64() / case.bytes as f64 / base;
        let (least, most) = (case.times[0], case.times[case.times.len() - 1]);
        println!(
            "{:32} {time:9.2?} [{least:.2?}..{most:.2?}] {:7.0} MB/s {ratio:7.2} x memchr",
            case.name,
            speed(case, time),
        );
    }
    let per_byte = |name: &str| {
        let case = cases.iter().find(|case| case.name == name)?;
        Some(case.times[case.times.len() / 2].as_secs_f64() / case.bytes as f64)
    };
    let goal = |name: &str, over: &str, goal: &str| {
        if let (Some(time), Some(base)) = (per_byte(name), per_byte(over)) {
            println!("{:48} {:8.2}  goal {goal}", format!("{name} / {over}"), time / base);
        }
    };
    goal(DIFF, LINES, "<= 1.15");
    goal("ical", DIFF, ">= 25");
    goal("calcard", DIFF, ">= 50");
    goal("libical", PARSE, ">= 10");
    for dialect in &DIALECTS[1..] {
        goal(&format!("parse: {dialect:?}"), PARSE, "<= 1.5");
    }
}

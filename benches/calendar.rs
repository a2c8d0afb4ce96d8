//! Reading a feed in memory against what the machine can do and what other parsers do, in one
//! interleaved run: `cargo bench --bench calendar -- [events [rounds [peers]]]`.

#![allow(clippy::print_stdout)]

mod support;

use std::hint::black_box;
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
    run: Box<dyn FnMut() -> usize + 'a>,
    times: Vec<Duration>,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let events = numbers.first().copied().unwrap_or(10_000);
    let rounds = numbers.get(1).copied().unwrap_or(9);
    let peers = numbers.get(2).is_none_or(|peers| *peers > 0);

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
                    run: Box::new($run),
                    times: Vec::new(),
                })
            };
        }
        case!("memchr, every newline", restamped, || {
            memchr::memchr_iter(b'\n', &restamped).fold(0, |sum, at| sum ^ at)
        });
        case!("xxh3_128", restamped, || xxh3_128(&restamped) as usize);
        case!("diff: every DTSTAMP changed", restamped, || {
            let mut known = Fingerprints::new(known.clone());
            read(&restamped, &options, &mut known, |_| ());
            known.len()
        });
        case!("diff: one title changed too", one, || {
            let mut known = Fingerprints::new(known.clone());
            read(&one, &options, &mut known, |_| ());
            known.len()
        });
        for (dialect, body) in &dialects {
            case!(format!("parse: {dialect:?}"), body, || {
                let mut count = 0;
                read(body, &options, &mut Fingerprints::default(), |_| count += 1);
                count
            });
        }
        if peers {
            case!("ical: tokens", restamped, || {
                ical::IcalParser::new(&restamped[..])
                    .filter_map(Result::ok)
                    .map(|calendar| calendar.events.len())
                    .sum()
            });
        }
    }
    report(all, rounds);
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
            let start = Instant::now();
            black_box((case.run)());
            case.times.push(start.elapsed());
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
}

//! Lines of one event: its occurrences lie in the window and within its bounds, in order, and two
//! halves of a window hold what the whole holds.
#![no_main]

use std::collections::BTreeSet;

use beadle::calendar::parse::{ReadOptions, read_all};
use beadle::calendar::{Window, Zones, recur};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &[u8]| {
    let mut body =
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20240229T120000\r\n".to_vec();
    body.extend_from_slice(lines);
    body.extend_from_slice(b"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n");
    let zones = Zones::default();
    let zone = zones.get("America/New_York").unwrap();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &zone, charset: None };
    let events = read_all(&body, &options).events;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (from, middle, to) =
        (at("2026-10-01T00:00:00Z"), at("2026-11-01T06:30:00Z"), at("2026-12-01T00:00:00Z"));
    let expand = |from, to| recur::expand(&events, Window { from, to }, &zones, &zone);
    let whole = expand(from, to);
    assert!(whole.occurrences.is_sorted_by_key(|one| one.start));
    for one in &whole.occurrences {
        assert!(Window { from, to }.overlaps(one.start, one.end));
    }
    for event in &events {
        let (first, last) = recur::bounds(event, &zones, &zone);
        assert!(first <= last);
        if events.len() == 1 {
            for one in &whole.occurrences {
                assert!(first <= one.start && one.end <= last);
            }
        }
    }
    let halves = [expand(from, middle), expand(middle, to)];
    if whole.warnings.is_empty() && halves.iter().all(|half| half.warnings.is_empty()) {
        let starts = |all: &[beadle::calendar::Occurrence]| -> BTreeSet<_> {
            all.iter().map(|one| (one.start, one.end)).collect()
        };
        let both = &starts(&halves[0].occurrences) | &starts(&halves[1].occurrences);
        assert_eq!(starts(&whole.occurrences), both);
    }
    let _ = recur::next_occurrence(&events, middle, &zones, &zone);
});

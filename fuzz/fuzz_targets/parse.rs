//! Any bytes: what is read keeps the promises of its types, and pieces read as the whole does.
//!
//! The first byte says how long the pieces are.
#![no_main]

use beadle::calendar::parse::{ReadOptions, Reader, read_all};
use beadle::calendar::{Event, Zones, text};
use libfuzzer_sys::fuzz_target;

fn in_pieces(body: &[u8], size: usize, options: &ReadOptions<'_>) -> Vec<Event> {
    let mut preamble = None;
    loop {
        let second = preamble.is_some();
        let mut events = Vec::new();
        let mut sink = |event, _| events.push(Some(event));
        let mut reader = Reader::new(options, preamble, |_| false);
        for piece in body.chunks(size) {
            reader.push(piece, &mut sink);
        }
        let summary = reader.finish(&mut sink);
        if let (Some(again), false) = (summary.again, second) {
            preamble = Some(again);
            continue;
        }
        for amendment in summary.amendments {
            let event = events[amendment.index].take();
            events[amendment.index] = event.and_then(|event| amendment.apply(event));
        }
        return events.into_iter().flatten().collect();
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((size, body)) = input.split_first() else { return };
    let zones = Zones::default();
    let audience = zones.get("America/New_York").unwrap();
    let options =
        ReadOptions { zones: &zones, feed_zone: None, audience_zone: &audience, charset: None };
    let calendar = read_all(body, &options);
    for event in &calendar.events {
        let own = calendar.timezone.as_deref().and_then(|name| zones.get(name));
        let zone = own.as_ref().unwrap_or(&audience);
        assert!(event.start.instant(&zones, zone) <= event.end.instant(&zones, zone));
        assert_eq!(event.is_all_day(), matches!(event.end, beadle::calendar::When::AllDay(_)));
        assert!(!event.uid.0.is_empty());
        assert!(!event.summary.contains('\n'));
        assert!(event.url.iter().chain(&event.image).all(|url| url.starts_with("http")));
        let _ = text::redact_passcodes(&event.description);
    }
    assert_eq!(in_pieces(body, 1 + usize::from(*size), &options), calendar.events);
});

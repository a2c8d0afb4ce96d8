//! Milliseconds that a parser takes to read a feed and compare it with the state of the last time:
//! `peers <ical|calcard|icalendar> <feed> <rounds>`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

type State = HashMap<String, u64>;

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn ical(text: &str) -> State {
    let calendars = ical::IcalParser::new(text.as_bytes()).filter_map(Result::ok);
    let events = calendars.flat_map(|calendar| calendar.events);
    events
        .map(|event| {
            let uid = event.properties.iter().find(|p| p.name == "UID");
            let uid = uid.and_then(|p| p.value.clone()).unwrap_or_default();
            let kept = event.properties.iter().filter(|p| p.name != "DTSTAMP");
            let content: Vec<_> = kept.map(|p| (&p.name, &p.params, &p.value)).collect();
            (uid, hash(&content))
        })
        .collect()
}

fn calcard(text: &str) -> State {
    let mut parser = calcard::Parser::new(text);
    let mut state = State::new();
    while let calcard::Entry::ICalendar(calendar) = parser.entry() {
        for component in &calendar.components {
            let Some(uid) = component.uid() else { continue };
            let kept = component
                .entries
                .iter()
                .filter(|entry| entry.name != calcard::icalendar::ICalendarProperty::Dtstamp);
            let content: Vec<String> = kept.map(|entry| format!("{entry:?}")).collect();
            state.insert(uid.to_owned(), hash(&content));
        }
    }
    state
}

fn icalendar(text: &str) -> State {
    let unfolded = icalendar::parser::unfold(text);
    let Ok(calendar) = icalendar::parser::read_calendar(&unfolded) else { return State::new() };
    let events = calendar.components.iter().filter(|component| component.name == "VEVENT");
    events
        .map(|event| {
            let uid = event.find_prop("UID").map(|p| p.val.to_string()).unwrap_or_default();
            let kept = event.properties.iter().filter(|p| p.name != "DTSTAMP");
            let content: Vec<_> = kept.map(|p| (p.name.as_str(), p.val.as_str())).collect();
            (uid, hash(&content))
        })
        .collect()
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = std::fs::read_to_string(&args[1])?;
    let read: fn(&str) -> State = match args[0].as_str() {
        "ical" => ical,
        "calcard" => calcard,
        _ => icalendar,
    };
    let before = read(&text);
    for _ in 0..args.get(2).and_then(|n| n.parse().ok()).unwrap_or(1) {
        let start = Instant::now();
        let now = read(&text);
        let changed = now.iter().filter(|(uid, hash)| before.get(*uid) != Some(hash)).count();
        println!(
            "{:.2} ms {} events {changed} changed",
            start.elapsed().as_secs_f64() * 1e3,
            now.len()
        );
    }
    Ok(())
}

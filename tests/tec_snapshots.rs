//! What beadle tells over 27 exports of a real site, one editorial action apart.
//!
//! The exports live outside the repository (`BEADLE_SHARED`, or `../shared`); without them the
//! test says so and passes.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use beadle::calendar::diff::{self, Known, Note, Reading, Rest};
use beadle::calendar::parse::{self, ReadOptions};
use beadle::calendar::{EventKey, Zones};
use beadle::plan::{self, Announce, Elsewhere, FeedView, Matcher, OnChange, Watch};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

fn exports() -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("BEADLE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let entries = match std::fs::read_dir(shared.join("feeds/tec-6.16.3")) {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("skipped: the recorded exports are not here ({error})");
            return None;
        }
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ics"))
        .filter(|path| !path.to_string_lossy().ends_with(".seminar.ics"))
        .collect();
    files.sort();
    Some(files)
}

/// The feed and what is known of it.
struct Follower {
    known: BTreeMap<EventKey, Known>,
    zones: Zones,
    zone: TimeZone,
    watches: Vec<Watch>,
    now: Timestamp,
}

impl Follower {
    fn new() -> Self {
        let watch = |name: &str, categories: &[&str]| Watch {
            name: name.to_owned(),
            feeds: vec!["site".to_owned()],
            matcher: Matcher {
                categories: categories.iter().map(|c| (*c).to_owned()).collect(),
                exclude: Vec::new(),
            },
            announce: [
                Announce::New,
                Announce::Title,
                Announce::Time,
                Announce::Place,
                Announce::Details,
                Announce::Category,
                Announce::Cancelled,
            ]
            .into(),
            remind: Vec::new(),
            remind_all_day: Vec::new(),
            welcome: false,
            on_change: OnChange::default(),
            to: vec![name.to_owned()],
        };
        Follower {
            known: BTreeMap::new(),
            zones: Zones::default(),
            zone: Zones::default().get("America/New_York").unwrap(),
            watches: vec![watch("all", &[]), watch("seminar", &["Seminar"])],
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
        }
    }

    /// One poll; the notices as `receiver: reason event` and the notes to the operator.
    fn poll(&mut self, body: &[u8]) -> Vec<String> {
        let options = ReadOptions {
            zones: &self.zones,
            feed_zone: None,
            audience_zone: &self.zone,
            charset: None,
        };
        let read = parse::read(body, &options, &|_| false);
        assert_eq!(read.calendar.warnings, [], "no warning is deserved");
        assert!(read.calendar.health.complete);
        let reading = Reading {
            prodid: read.calendar.prodid.clone(),
            events: read.calendar.events.into_iter().zip(read.fingerprints).collect(),
            complete: true,
            ..Reading::default()
        };
        let cx = diff::Context {
            now: self.now,
            zones: &self.zones,
            zone: &self.zone,
            settle: SignedDuration::from_mins(5),
            confirm: SignedDuration::from_mins(30),
            baseline: self.known.is_empty(),
        };
        let out =
            diff::diff(self.known.values().cloned().collect(), &Rest::default(), reading, &cx);
        for key in &out.forget {
            self.known.remove(key);
        }
        self.known.extend(out.write.iter().map(|known| (known.key.clone(), known.clone())));

        let plan_cx = plan::Context {
            watches: &self.watches,
            digests: &[],
            zones: &self.zones,
            timezone: &self.zone,
            now: self.now,
        };
        let zone = self.zone.clone();
        let view = FeedView { name: "site", title: None, zone, elsewhere: Elsewhere::default() };
        let mut lines: Vec<String> = Vec::new();
        for planned in plan::changes(&plan_cx, &view, &out.changes) {
            let items = &planned.notification.items;
            // By its number on the site: the texts are not ours to print.
            let title = items[0].event.uid.0.split('-').next().unwrap().to_owned();
            let reason =
                format!("{:?}", items[0].reason).replace(" { fields: ", " ").replace(" }", "");
            lines.push(match items.len() {
                1 => format!("{}: {reason} {title}", planned.to),
                n => format!("{}: {n} at once, first: {reason} {title}", planned.to),
            });
        }
        for note in &out.notes {
            if let Note::CategoriesRenamed { from, to, events } = note {
                lines.push(format!("operator: category {from:?} is now {to:?} in {events} events"));
            }
        }
        lines
    }
}

#[test]
fn notices_are_what_an_attentive_person_would_say() {
    let Some(files) = exports() else { return };
    assert_eq!(files.len(), 27);
    let mut follower = Follower::new();
    let mut story = String::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read(&file).unwrap();
        // Seen; seen again after the settle time; and once more when an absence may be believed.
        for (minutes, when) in [(0, "at once"), (6, "settled"), (31, "confirmed")] {
            follower.now += minutes.minutes();
            for line in follower.poll(&body) {
                story.push_str(&format!("{name} {when}: {line}\n"));
            }
        }
        follower.now += 10.minutes();
    }
    insta::assert_snapshot!(story, @r#"
    02-retitle settled: all: Updated [Summary] 122
    02-retitle settled: seminar: Updated [Summary] 122
    03-describe settled: all: Updated [Description] 122
    03-describe settled: seminar: Updated [Description] 122
    04-reschedule settled: all: Rescheduled [Start, End] 122
    04-reschedule settled: seminar: Rescheduled [Start, End] 122
    05-reschedule-end settled: all: Rescheduled [End] 123
    05-reschedule-end settled: seminar: Rescheduled [End] 123
    06-recategorise settled: all: Updated [Categories] 123
    06-recategorise settled: seminar: Left 123
    07-recategorise-quick settled: all: Updated [Categories] 128
    07-recategorise-quick settled: seminar: Left 128
    08-rename-category at once: operator: category ["Career"] is now ["Careers & Jobs"] in 5 events
    13-trash confirmed: all: Withdrawn 128
    14-untrash settled: all: Reinstated 128
    15-draft confirmed: all: Withdrawn 133
    16-republish settled: all: Reinstated 133
    17-venue-edit settled: all: Updated [Location] 122
    17-venue-edit settled: all: Updated [Location] 123
    17-venue-edit settled: all: Updated [Location] 125
    17-venue-edit settled: seminar: Updated [Location] 122
    17-venue-edit settled: seminar: Updated [Location] 125
    18-tz-only settled: all: Rescheduled [Start, End] 129
    19-to-allday settled: all: Rescheduled [AllDay, Start, End] 131
    22-new settled: all: New 148
    22-new settled: seminar: New 148
    23-duplicate settled: all: PossibleDuplicate 149
    24-hide confirmed: all: Withdrawn 130
    25-flood settled: all: 21 at once, first: New 151
    25-flood settled: seminar: 21 at once, first: New 151
    "#);
}

//! Backups, restoring them, and what `beadle doctor` finds.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use beadle::doctor::doctor;
use beadle::fetch::Fetcher;
use beadle::store::people::{ReminderRequest, Subject};
use beadle::store::{self, Access, DeliveryState, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Connection, Executor};
use support::world::{World, at, calendar, deliver, event, event_with, rows};

const NOON: &str = "2026-03-02T12:00:00-05:00";

fn feed(events: &[&str]) -> String {
    let events: Vec<String> = events
        .iter()
        .enumerate()
        .map(|(day, title)| event(title, title, &format!("202604{:02}T100000", day + 1)))
        .collect();
    calendar(&events)
}

/// Polls and delivers; gives what the channel has heard so far.
async fn round(world: &World, now: &str) -> Vec<String> {
    let pipeline = world.open(now).await;
    for feed in pipeline.config.feeds.values() {
        pipeline.poll(feed, at(now)).await.unwrap().result.unwrap();
    }
    pipeline.tick(at(now)).await.unwrap();
    pipeline.deliver(at(now)).await.unwrap();
    world.posts()
}

#[tokio::test]
async fn a_restored_backup_tells_nothing_twice() {
    let world = World::new();
    world.feed(feed(&["First"]));
    assert!(round(&world, NOON).await.is_empty());
    world.feed(feed(&["First", "Second"]));
    assert_eq!(round(&world, "2026-03-02T13:00:00-05:00").await, ["New: Second"]);

    let backup = world.path("backup.db");
    let state = world.config().state;
    let store = Store::open(&state, Access::Shared).await.unwrap();
    store.backup(&backup).await.unwrap();
    let again = store.backup(&backup).await.unwrap_err();
    assert_eq!(again.hint(), Some("name a file that is not there yet"));
    drop(store);

    // Told after the backup was made, and not in it.
    world.feed(feed(&["First", "Second", "Third"]));
    assert_eq!(round(&world, "2026-03-02T14:00:00-05:00").await.len(), 2);

    let done = store::restore(&state, &backup, at("2026-03-09T14:00:00-04:00")).await.unwrap();
    assert_eq!(done.held, 0);
    assert!(done.set_aside.unwrap().exists());
    assert_eq!(round(&world, "2026-03-09T14:01:00-04:00").await.len(), 2, "it is not told again");
    world.feed(feed(&["First", "Second", "Third", "Fourth"]));
    let heard = round(&world, "2026-03-09T15:00:00-04:00").await;
    assert_eq!(heard[2..], ["New: Fourth"], "what comes after it is");
}

#[tokio::test]
async fn a_restored_backup_holds_back_no_reminder_that_was_written_ahead() {
    let world = World::new();
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    round(&world, "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:58:30").await;
    deliver(&pipeline, "2026-03-10T08:58:30").await;
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 1);
    let backup = world.path("backup.db");
    pipeline.store.backup(&backup).await.unwrap();
    drop(pipeline);
    let state = world.config().state;
    let done = store::restore(&state, &backup, at("2026-03-10T08:59")).await.unwrap();
    assert_eq!(done.held, 0);
    assert!(round(&world, "2026-03-10T08:59:30").await.is_empty());
    assert_eq!(round(&world, "2026-03-10T09:00").await, ["Reminder: The talk"]);
}

#[tokio::test]
async fn what_people_asked_for_survives_a_restored_backup() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let state = world.config().state;
    let store = Store::open(&state, Access::Shared).await.unwrap();
    let [(_, key, seen)]: [_; 1] =
        store.events_between(at(NOON), Timestamp::MAX).await.unwrap().try_into().unwrap();
    let subject = Subject { feed: "site".to_owned(), key, uid: seen.uid, occurrence: None };
    let request = ReminderRequest {
        id: ReminderRequest::id_of(7, &subject, "1h"),
        person: 7,
        lead: "1h".to_owned(),
        title: "First".to_owned(),
        starts: at(NOON),
        created_at: at(NOON),
        subject: subject.clone(),
    };
    assert!(store.set_reminder_requests(7, &subject, &[request], 9).await.unwrap());
    let backup = world.path("backup.db");
    store.backup(&backup).await.unwrap();
    drop(store);
    store::restore(&state, &backup, at(NOON)).await.unwrap();
    // Tidying comes before the feeds have been read again.
    let pipeline = world.open(NOON).await;
    assert_eq!(pipeline.store.tidy_reminder_requests(at(NOON)).await.unwrap(), 0);
    drop(pipeline);
    round(&world, NOON).await;
    let store = Store::open(&state, Access::Shared).await.unwrap();
    assert_eq!(store.tidy_reminder_requests(at(NOON)).await.unwrap(), 0);
    assert_eq!(store.reminder_requests(Some(7)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_backup_is_whole_while_others_write() {
    let world = World::new();
    world.feed(feed(&["First"]));
    let pipeline = world.open(NOON).await;
    let reader = Store::open(&world.config().state, Access::Shared).await.unwrap();
    let feeds = &pipeline.config.feeds;
    for turn in 0..5 {
        let titles: Vec<String> = (0..=turn).map(|number| format!("Talk {number}")).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        world.feed(feed(&titles));
        let to = world.path(&format!("backup-{turn}.db"));
        let (backup, poll) =
            tokio::join!(reader.backup(&to), pipeline.poll(&feeds["site"], at(NOON)));
        backup.unwrap();
        poll.unwrap();
        let folder = world.path(&format!("state-{turn}"));
        store::restore(&folder, &to, at(NOON)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_backup_changes_nothing() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let state = world.config().state;
    let store = Store::open(&state, Access::Shared).await.unwrap();
    let before = store.feed("site").await.unwrap();
    assert!(before.baseline_at.is_some());

    let text = world.path("text");
    fs::write(&text, "this is no database ".repeat(500)).unwrap();
    let other = world.path("other.db");
    let url = format!("sqlite://{}?mode=rwc", other.display());
    let mut database = sqlx::AnyConnection::connect(&url).await.unwrap();
    database.execute("CREATE TABLE tunes (name TEXT)").await.unwrap();
    database.close().await.unwrap();
    let good = world.path("good.db");
    store.backup(&good).await.unwrap();
    drop(store);
    // A page in the middle is not what it was.
    let damaged = world.path("damaged.db");
    let mut bytes = fs::read(&good).unwrap();
    let middle = bytes.len() / 2 / 8192 * 8192;
    bytes[middle..middle + 8192].fill(0xA5);
    fs::write(&damaged, bytes).unwrap();
    let newer = world.path("newer.db");
    fs::copy(&good, &newer).unwrap();
    let url = format!("sqlite://{}", newer.display());
    let mut database = sqlx::AnyConnection::connect(&url).await.unwrap();
    database.execute("INSERT INTO schema_version (version) VALUES (4711)").await.unwrap();
    database.close().await.unwrap();

    for (file, expected) in [
        (&text, "is no state of beadle"),
        (&other, "is no state of beadle"),
        (&damaged, "the backup is damaged"),
        (&newer, "made by a newer beadle (schema 4711"),
        (&world.path("absent.db"), "cannot be used"),
    ] {
        let error = store::restore(&state, file, at(NOON)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().contains("rest")), "{names:?}");
    }
    let store = Store::open(&state, Access::Shared).await.unwrap();
    assert_eq!(store.feed("site").await.unwrap(), before);

    let _running = world.open(NOON).await;
    let error = store::restore(&state, &good, at(NOON)).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

async fn examine(world: &World) -> (String, bool) {
    doctor(&world.config(), &Fetcher::new().unwrap(), &world.registry()).await.unwrap()
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_and_then_what_is() {
    let world = World::new();
    let (report, good) = examine(&world).await;
    assert!(!good && report.contains("note  state: "), "{report}");
    assert!(report.contains("FAIL  feed site: "), "{report}");

    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let (report, good) = examine(&world).await;
    assert!(good, "{report}");
    for line in [": sound, ", "ok    outbox: nothing is overdue", "ok    disk: ", " time zones: 20"]
    {
        assert!(report.contains(line), "{line:?} in {report}");
    }

    // A message that waits, and nobody who sends it.
    world.feed(feed(&["First", "Second"]));
    let pipeline = world.open(NOON).await;
    pipeline.poll(&pipeline.config.feeds["site"], at(NOON)).await.unwrap();
    drop(pipeline);
    let (report, good) = examine(&world).await;
    assert!(good && report.contains("1 message is overdue, since beadle is not"), "{report}");
}

#[tokio::test]
async fn the_doctor_says_that_a_database_is_damaged() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let state = world.config().state;
    let copy = world.path("copy.db");
    Store::open(&state, Access::Shared).await.unwrap().backup(&copy).await.unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    let size = bytes.len();
    bytes[size / 2..].fill(0xA5);
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    fs::write(state.join("beadle.db"), bytes).unwrap();
    let (report, good) = examine(&world).await;
    // It depends on the part that is hit whether the database opens at all.
    assert!(!good && report.contains("damaged") && report.contains("a backup"), "{report}");
}

/// A busy calendar, told and forgotten: the file stays as small as what is of use.
#[tokio::test]
async fn five_years_leave_a_small_file() {
    let mut world = World::new();
    world.edit("remind_all_day", "announce = [\"new\"]\n            remind_all_day");
    let start = at(NOON);
    let day = |number: i64| start + SignedDuration::from_hours(24 * number);
    let text = "An abstract of the length that speakers write, with a sentence or two on what is \
                known and on what is new. "
        .repeat(15);
    let mut sizes = Vec::new();
    let pipeline = world.open(NOON).await;
    let site = &pipeline.config.feeds["site"];
    for week in 0..5 * 52 {
        // Three months of a calendar with one event on each day.
        let events: Vec<String> = (week * 7..week * 7 + 90)
            .map(|number| {
                let date = day(number + 1).strftime("%Y%m%d").to_string();
                let more = format!("DESCRIPTION:{number} {text}\r\n");
                event_with(
                    &format!("e{number}"),
                    &format!("Talk {number}"),
                    &(date + "T170000"),
                    &more,
                )
            })
            .collect();
        world.feed(calendar(&events));
        pipeline.poll(site, day(week * 7)).await.unwrap().result.unwrap();
        for number in week * 7..week * 7 + 7 {
            pipeline.tick(day(number)).await.unwrap();
            pipeline.deliver(day(number)).await.unwrap();
        }
        pipeline.store.tidy(day(week * 7)).await.unwrap();
        if week % 52 == 51 {
            // Without the log, which is as long as the last transactions made it.
            let file = world.config().state.join("beadle.db");
            sizes.push(fs::metadata(file).unwrap().len());
        }
    }
    eprintln!("bytes after each year: {sizes:?}; messages: {}", world.discord.messages().len());
    assert!(world.discord.messages().len() > 3 * 365, "it has told something");
    assert!(sizes[4] < 16 << 20, "{sizes:?}");
    assert!(sizes[4] < sizes[2] + sizes[2] / 10, "it does not grow: {sizes:?}");
}

/// The state says who asked for what.
#[cfg(unix)]
#[tokio::test]
async fn the_state_and_its_backups_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let to = world.path("backup.db");
    let store = Store::open(&world.config().state, Access::Shared).await.unwrap();
    store.backup(&to).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&to), 0o600);
    let state = world.config().state;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("beadle.db")), 0o600);
    assert_eq!(mode(&state.join("beadle.lock")), 0o600);
}

/// Changes the database behind beadle's back.
async fn tamper(world: &World, sql: &'static str) {
    let url = format!("sqlite://{}", world.config().state.join("beadle.db").display());
    let mut database = sqlx::AnyConnection::connect(&url).await.unwrap();
    database.execute(sql).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_read_anew_and_the_others_go_on() {
    for (damage, known_again) in [
        ("UPDATE event SET seen = '{' WHERE key = 'First'", true),
        ("UPDATE event SET seen = CAST(x'7bff' AS TEXT) WHERE key = 'First'", true),
        ("UPDATE event SET presence = 'mislaid' WHERE key = 'First'", true),
        ("UPDATE event SET fingerprint = x'00' WHERE key = 'First'", true),
        // Nobody asks what was told of an event before it changes, and then it is too late to say
        // what changed.
        ("UPDATE event SET told = '{}' WHERE key = 'First'", false),
    ] {
        let world = World::new();
        world.feed(feed(&["First", "Second"]));
        assert!(round(&world, NOON).await.is_empty());
        tamper(&world, damage).await;
        let (report, good) = examine(&world).await;
        assert!(good && report.contains("note  event First of feed site: "), "{report}");

        world.feed(feed(&["First", "Second", "Third"]));
        // All events are looked at for reminders before the feed is read.
        let pipeline = world.open(NOON).await;
        pipeline.store.events_between(at(NOON), Timestamp::MAX).await.unwrap();
        pipeline.tick(at(NOON)).await.unwrap();
        drop(pipeline);
        let mut heard = vec!["New: Third"];
        assert_eq!(round(&world, "2026-03-02T13:00:00-05:00").await, heard, "{damage}");
        assert_eq!(round(&world, "2026-03-02T13:30:00-05:00").await, heard, "{damage}");
        let (report, good) = examine(&world).await;
        assert!(good && report.contains("event First") != known_again, "{damage}: {report}");

        let moved = feed(&["First", "Second", "Third"]).replace("20260401T10", "20260401T11");
        world.feed(moved);
        if known_again {
            heard.push("Rescheduled: First");
        }
        assert_eq!(round(&world, "2026-03-02T14:00:00-05:00").await, heard, "{damage}");
        let (report, good) = examine(&world).await;
        assert!(good && !report.contains("event First"), "{damage}: {report}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_and_is_gone_is_forgotten() {
    let world = World::new();
    world.feed(feed(&["First", "Second"]));
    round(&world, NOON).await;
    tamper(&world, "UPDATE event SET seen = '{' WHERE key = 'First'").await;
    world.feed(calendar(&[event("Second", "Second", "20260402T100000")]));
    for minute in ["13:00", "13:30", "14:00"] {
        let heard = round(&world, &format!("2026-03-02T{minute}:00-05:00")).await;
        assert!(heard.is_empty(), "{heard:?}");
    }
    let (report, _) = examine(&world).await;
    assert!(!report.contains("event First"), "{report}");
}

#[tokio::test]
async fn a_reminder_of_an_event_that_cannot_be_read_is_sent() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let pipeline = world.open("2026-03-31T11:00:00-04:00").await;
    pipeline.tick(at("2026-03-31T11:00:00-04:00")).await.unwrap();
    drop(pipeline);
    tamper(&world, "UPDATE event SET seen = '{'").await;
    let pipeline = world.open("2026-03-31T11:00:00-04:00").await;
    pipeline.deliver(at("2026-03-31T11:00:00-04:00")).await.unwrap();
    assert_eq!(world.posts().len(), 1, "{:?}", world.posts());
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_given_up_and_the_others_are_sent() {
    for damage in ["'{'", "CAST(x'ff' AS TEXT)"] {
        let world = World::new();
        world.feed(feed(&["First"]));
        round(&world, NOON).await;
        let pipeline = world.open(NOON).await;
        for title in ["Second", "Third"] {
            world.feed(feed(if title == "Second" {
                &["First", "Second"]
            } else {
                &["First", "Second", "Third"]
            }));
            pipeline.poll(&pipeline.config.feeds["site"], at(NOON)).await.unwrap();
        }
        drop(pipeline);
        let sql =
            format!("UPDATE outbox SET notification = {damage} WHERE notification LIKE '%Second%'");
        tamper(&world, sql.leak()).await;
        assert_eq!(round(&world, "2026-03-02T13:00:00-05:00").await, ["New: Third (late)"]);
        let store = Store::open(&world.config().state, Access::Shared).await.unwrap();
        assert_eq!(store.counts().await.unwrap()[&DeliveryState::Dead], 1);
        assert_eq!(store.deliveries(None, 10).await.unwrap().len(), 0, "and lists do not fail");
        let (report, _) = examine(&world).await;
        assert!(
            report.contains("note  message ") && report.contains("1 message is given up"),
            "{report}"
        );
    }
}

#[tokio::test]
async fn what_is_set_aside_is_never_written_over() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let state = world.config().state;
    let backup = world.path("backup.db");
    Store::open(&state, Access::Shared).await.unwrap().backup(&backup).await.unwrap();
    let mut aside = Vec::new();
    for _ in 0..3 {
        aside.push(store::restore(&state, &backup, at(NOON)).await.unwrap().set_aside.unwrap());
    }
    let distinct: std::collections::BTreeSet<_> = aside.iter().collect();
    assert_eq!(distinct.len(), 3, "{aside:?}");
    assert!(aside.iter().all(|path| path.exists()), "{aside:?}");
}

/// As `sudo beadle restore` does.
#[cfg(unix)]
#[tokio::test]
async fn what_root_restores_belongs_to_the_owner_of_the_folder() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let state = world.config().state;
    let backup = world.path("backup.db");
    Store::open(&state, Access::Shared).await.unwrap().backup(&backup).await.unwrap();
    let folder = world.path("of-another");
    fs::create_dir(&folder).unwrap();
    if chown(&folder, Some(4711), Some(4712)).is_err() {
        eprintln!("skipped: not run by root");
        return;
    }
    store::restore(&folder, &backup, at(NOON)).await.unwrap();
    for name in ["beadle.db", "beadle.lock"] {
        let data = fs::metadata(folder.join(name)).unwrap();
        assert_eq!((data.uid(), data.gid()), (4711, 4712), "{name}");
        assert_eq!(data.permissions().mode() & 0o777, 0o600, "{name}");
    }
    // And where it was not given, that is found.
    chown(folder.join("beadle.db"), Some(0), Some(0)).unwrap();
    let mut world = world;
    world.edit(
        "timezone = \"America/New_York\"",
        "timezone = \"America/New_York\"\nstate = \"of-another\"",
    );
    let (report, good) = examine(&world).await;
    assert!(
        !good && report.contains("belongs to another user than its folder: chown 4711"),
        "{report}"
    );
}

#[tokio::test]
async fn the_doctor_looks_at_every_address_and_receiver() {
    let mut world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    let (report, good) = examine(&world).await;
    assert!(good && report.contains("ok    receiver channel"), "{report}");
    world.edit("url = \"feed.ics\"", "url = \"feed.ics\"\n also = [\"more.ics\"]");
    let (report, good) = examine(&world).await;
    assert!(!good && report.contains("more.ics"), "{report}");
    fs::write(world.path("more.ics"), "<!doctype html><title>Not found</title>").unwrap();
    let (report, good) = examine(&world).await;
    assert!(!good && report.contains("instead of a calendar"), "{report}");
    world.feed("");
    let (report, _) = examine(&world).await;
    assert!(report.contains("note  feed site: "), "{report}");
}

#[tokio::test]
async fn the_doctor_says_that_the_clock_was_ahead() {
    let world = World::new();
    world.feed(feed(&["First"]));
    round(&world, NOON).await;
    tamper(&world, "UPDATE meta SET value = '4070908800000' WHERE name = 'watermark'").await;
    let (report, good) = examine(&world).await;
    assert!(!good && report.contains("the state was written at 2099-01-01T00:00:00Z"), "{report}");
}

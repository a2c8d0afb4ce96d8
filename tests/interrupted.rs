//! One round of beadle's life, which stops at each of its steps in turn: as at a kill, all that was
//! in memory is gone, and a new beadle goes on with the same folder.
//!
//! A step is what the round does between two waits: for a statement, for a file, for a piece of a
//! conversation. So every moment between claiming, freezing, sending and settling comes, and every
//! one between a poll or a tick and what it writes ahead. It stops right behind a step, or when what
//! it waits for has come and it has not seen it yet.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use beadle::pipeline::Pipeline;
use beadle::store::{Access, Delivery, DeliveryState, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use support::feed::FeedStandIn;
use support::world::*;
use tokio::runtime::Runtime;

/// Where it stops.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// Behind so many steps.
    steps: usize,
    /// Only once what it waits for then has come.
    answered: bool,
    /// The next start is later than Discord remembers nonces.
    late: bool,
}

const NEVER: Stop = Stop { steps: usize::MAX, answered: false, late: false };

/// True if it ended by itself.
async fn stopped(stop: Stop, round: impl Future<Output = ()>) -> bool {
    // Every poll of it is a step: it does not have to give way to others after some of them.
    let mut round = pin!(tokio::task::unconstrained(round));
    let mut steps = 0;
    poll_fn(|context| {
        if steps == stop.steps {
            return Poll::Ready(false);
        }
        steps += 1;
        match round.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if steps == stop.steps && !stop.answered => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// All that beadle does at a wake.
async fn whole_round(pipeline: &Pipeline, now: Timestamp) {
    pipeline.tick(now).await.unwrap();
    for feed in pipeline.config.feeds.values() {
        pipeline.poll(feed, now).await.unwrap().result.unwrap();
    }
    pipeline.tick(now).await.unwrap();
    while pipeline.write_ahead(now).await.unwrap() {}
    pipeline.deliver(now).await.unwrap();
    pipeline.mirror(now).await.unwrap();
}

/// A start, and a while later a round that stops. True if it ended by itself. Nothing of it is left
/// in memory, and what it had said is heard.
fn interrupted(world: &World, start: &str, now: &str, stop: Stop) -> bool {
    let runtime = runtime();
    let ended = runtime.block_on(async {
        let pipeline = world.open(start).await;
        pipeline.tick(at(start)).await.unwrap();
        while pipeline.write_ahead(at(start)).await.unwrap() {}
        stopped(stop, whole_round(&pipeline, at(now))).await
    });
    // With it, the conversations that go on beside the round.
    drop(runtime);
    wait_until_closed(&world.config().state.join("beadle.db"));
    world.discord.hear_out();
    world.smtp.hear_out();
    if stop.late {
        world.discord.forget_nonces();
    }
    ended
}

/// SQLite has a thread of its own, which ends what it has begun; the next start comes after that.
fn wait_until_closed(file: &Path) {
    let is_open = || {
        let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        files.into_iter().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == file))
    };
    let begun = Instant::now();
    while is_open() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} stays open", file.display());
        std::thread::sleep(Duration::from_micros(200));
    }
    if cfg!(not(target_os = "linux")) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What was leased when it stopped.
fn under_way(world: &World) -> Vec<Delivery> {
    runtime().block_on(async {
        let store = Store::open(&world.config().state, Access::Exclusive).await.unwrap();
        let leased = store.deliveries(Some(DeliveryState::Leased), 100).await.unwrap();
        store.close().await.unwrap();
        leased
    })
}

/// Another start, and nothing comes in between until there is nothing left to do. Gives the outbox,
/// but for what was sent.
fn finished(world: &World, now: &str) -> Vec<Delivery> {
    runtime().block_on(async {
        let pipeline = world.open(now).await;
        let mut now = at(now);
        whole_round(&pipeline, now).await;
        while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
            now = now.max(next);
            pipeline.deliver(now).await.unwrap();
        }
        whole_round(&pipeline, now + SignedDuration::from_secs(1)).await;
        let left = pipeline.store.deliveries(None, 100).await.unwrap();
        pipeline.store.close().await.unwrap();
        left
    })
}

/// What a message is, however late it comes.
fn name_of(payload: &str) -> String {
    match serde_json::from_str::<Value>(payload) {
        // As it is kept, or as it came.
        Ok(kept) => title(kept.get("message").unwrap_or(&kept)).replace(" (late)", ""),
        Err(_) => header(payload, "Subject: "),
    }
}

fn header(mail: &str, name: &str) -> String {
    mail.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
}

/// How often each message came to each receiver, by the names of these.
fn told(world: &World) -> BTreeMap<(&'static str, String), usize> {
    let mut told: BTreeMap<_, usize> = BTreeMap::new();
    for message in world.discord.messages() {
        let receiver = match message.target.as_str() {
            "channels/7" => "bot",
            "webhooks/8" => "hook",
            other => panic!("{other}"),
        };
        *told.entry((receiver, name_of(&message.body.to_string()))).or_default() += 1;
    }
    let mut ids = BTreeMap::new();
    for mail in world.smtp.mails() {
        let id = header(&mail.data, "Message-ID: ");
        let known = ids.entry(name_of(&mail.data)).or_insert_with(|| id.clone());
        assert_eq!(*known, id, "the same mail under another name");
        *told.entry(("list", name_of(&mail.data))).or_default() += 1;
    }
    told
}

fn receiver_of(delivery: &Delivery) -> &'static str {
    let name = delivery.endpoint.split('/').next().unwrap();
    ["bot", "hook", "list"].into_iter().find(|other| *other == name).unwrap()
}

/// What may have been under way: claimed, and written.
fn in_doubt(leased: &[Delivery]) -> BTreeSet<(&'static str, String)> {
    let name = |one: &Delivery| Some((receiver_of(one), name_of(one.payload.as_ref()?)));
    leased.iter().filter_map(name).collect()
}

/// That each of `owed` was told, that nothing else was, and that only those came once more of which
/// nobody can know whether they had come, one to each receiver.
fn judge(
    owed: &BTreeSet<(&'static str, String)>,
    told: &BTreeMap<(&'static str, String), usize>,
    leased: &[Delivery],
    left: &[Delivery],
    on_unknown: &str,
    case: &str,
) {
    let doubt = in_doubt(leased);
    let mut held = BTreeSet::new();
    for one in left {
        assert_eq!(one.state, DeliveryState::Dead, "{case}: {one:?}");
        assert!(on_unknown == "hold" && one.endpoint == "hook/discord", "{case}: {one:?}");
        let reason = one.last_error.as_ref().unwrap();
        assert!(reason.contains("it is held, as `on_unknown` says"), "{case}: {reason}");
        held.insert(("hook", name_of(one.payload.as_ref().unwrap())));
    }
    assert!(held.is_subset(&doubt), "{case}: held without a reason: {held:?}, of {doubt:?}");
    for message in told.keys() {
        assert!(owed.contains(message), "{case}: {message:?} is not owed");
    }
    let mut doubled: BTreeMap<&str, usize> = BTreeMap::new();
    for message in owed {
        let (receiver, name) = message;
        match told.get(message).copied().unwrap_or_default() {
            0 => assert!(held.contains(message), "{case}: {receiver} lost {name}"),
            1 => {}
            more => {
                *doubled.entry(*receiver).or_default() += more - 1;
                let resends = *receiver == "list" || *receiver == "hook" && on_unknown == "resend";
                assert!(
                    resends && doubt.contains(message),
                    "{case}: {receiver} got {name} {more} times"
                );
            }
        }
    }
    assert!(doubled.values().all(|more| *more == 1), "{case}: {doubled:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// At 8 o'clock on a Monday a digest of two parts and a reminder are due, another reminder a minute
/// later, and there is news: few enough for a webhook to take all at once.
#[test]
fn stopped_at_any_step_it_loses_and_doubles_nothing() {
    let begun = Instant::now();
    // Their titles fill more than one message.
    let mut talks: Vec<String> = (0..44)
        .map(|n| {
            let start = format!("202603{:02}T{:02}{:02}00", 10 + n % 5, 9 + n / 10, n % 4 * 15);
            let title = format!("Talk {n} on a long and winding road {}", "and so on ".repeat(8));
            event(&format!("{n}@example.edu"), &title, &start)
        })
        .collect();
    talks.push(event("a", "At nine", "20260309T090000"));
    talks.push(event("b", "Just after", "20260309T090100"));
    let feed = FeedStandIn::start(calendar(&talks));
    let world = |on_unknown: &str| {
        let world = World::with(&format!(
            r#"
            [feed.site]
            url = "{}"
            private = true
            settle = "0s"
            [[watch]]
            name = "all"
            feeds = ["site"]
            remind = ["1h"]
            to = ["bot", "hook", "list"]
            [[digest]]
            name = "week"
            every = "Mon 08:00"
            watch = ["all"]
            to = ["bot", "hook"]
            [receiver.bot]
            discord = {{ channel = "7" }}
            [receiver.hook]
            discord = {{ webhook = {{ file = "hook" }}, on_unknown = "{on_unknown}" }}
            [receiver.list]
            email = {{ to = ["ann@example.edu"] }}
            "#,
            feed.url()
        ));
        let hook = "https://discord.com/api/webhooks/8/token";
        std::fs::write(world.path("hook"), hook).unwrap();
        world
    };
    // All begin with the same folder: the feed was read. The reminders are written ahead by whoever
    // sends the first of them, and by those before.
    let before = world("hold");
    interrupted(&before, "2026-03-08T12:00", "2026-03-08T12:00", NEVER);
    interrupted(&before, "2026-03-09T07:59", "2026-03-09T07:59:10", NEVER);
    assert_eq!(told(&before).len(), 0, "nothing is told before");
    let state = before.config().state;
    talks.push(event("c", "News", "20260312T100000"));
    feed.serve(calendar(&talks));

    let run = |on_unknown: &str, stop: Stop| {
        let world = world(on_unknown);
        copy(&state, &world.config().state);
        let ended = interrupted(&world, "2026-03-09T07:59:30", "2026-03-09T08:00", stop);
        let leased = under_way(&world);
        let later = if stop.late { "2026-03-09T08:10" } else { "2026-03-09T08:01:20" };
        let left = finished(&world, later);
        (ended, told(&world), leased, left)
    };
    let (_, all, ..) = run("hold", NEVER);
    let owed: BTreeSet<_> = all.keys().cloned().collect();
    for (receiver, messages) in [("bot", 5), ("hook", 5), ("list", 3)] {
        let its = owed.iter().filter(|(name, _)| *name == receiver).count();
        assert_eq!(its, messages, "{receiver}: {owed:?}");
    }
    let every_step = |on_unknown: &str| {
        let (mut steps, mut ended, mut doubled) = (0, false, 0);
        while !ended {
            // With one side of the webhook right behind the step, with the other once the answer is
            // there; at the next step the other way round.
            let answered = (steps % 2 == 0) == (on_unknown == "hold");
            let stop = Stop { steps, answered, late: steps % 4 < 2 };
            let (end, told, leased, left) = run(on_unknown, stop);
            judge(&owed, &told, &leased, &left, on_unknown, &format!("{stop:?}, {on_unknown}"));
            ended = end;
            doubled += told.values().sum::<usize>() + left.len() - owed.len();
            steps += 1;
        }
        (steps, doubled)
    };
    std::thread::scope(|scope| {
        let sides = ["resend", "hold"].map(|side| (side, scope.spawn(|| every_step(side))));
        for (side, run) in sides {
            let (steps, doubled) = run.join().unwrap();
            eprintln!("{side}: {steps} steps, {doubled} doubled; {:?}", begun.elapsed());
            assert!(steps > 50, "{side}: {steps} steps");
            assert!(doubled > 0, "{side}: it never stopped between a post and its receipt");
        }
    });
}

/// What stands in Discord, with how often, and whether it is pinned.
fn shown(world: &World) -> BTreeMap<String, usize> {
    let pins = world.discord.pins();
    let mut shown: BTreeMap<_, usize> = BTreeMap::new();
    for message in world.discord.standing() {
        let what = &message.body["embeds"][0];
        let is_agenda = what["title"].as_str().unwrap().starts_with("Next");
        let text = if is_agenda { &what["description"] } else { &what["fields"][0]["value"] };
        let pin = if pins.contains(&message.id) { "pinned, " } else { "" };
        let name =
            format!("{}: {pin}{} {text}", message.target, name_of(&message.body.to_string()));
        *shown.entry(name).or_default() += 1;
    }
    shown
}

/// A talk that was announced moves, so that its announcement and an agenda are edited and a message
/// says so; and another agenda is posted and pinned.
#[test]
fn stopped_at_any_step_it_shows_once_what_is_so() {
    let begun = Instant::now();
    let run = |stop: Stop| {
        let mut world = World::with(
            r#"
            [feed.site]
            url = "feed.ics"
            settle = "0s"
            [[watch]]
            name = "all"
            feeds = ["site"]
            to = ["bot", "hook"]
            [[agenda]]
            name = "Next days"
            ahead = "7d"
            watch = ["all"]
            pin = true
            to = ["bot"]
            [receiver.bot]
            discord = { channel = "7" }
            [receiver.hook]
            discord = { webhook = { file = "hook" } }
            "#,
        );
        std::fs::write(world.path("hook"), "https://discord.com/api/webhooks/8/token").unwrap();
        world.feed(calendar(&[]));
        interrupted(&world, "2026-03-09T07:00", "2026-03-09T07:00", NEVER);
        world.feed(calendar(&[event("a", "Talk", "20260312T100000")]));
        interrupted(&world, "2026-03-09T07:15", "2026-03-09T07:15", NEVER);
        world.edit(
            "[[agenda]]",
            "[[agenda]]\nname = \"Next weeks\"\nahead = \"30d\"\nwatch = [\"all\"]\npin = true\n\
             to = [\"bot\"]\n[[agenda]]",
        );
        world.feed(calendar(&[event("a", "Talk", "20260312T110000")]));
        let ended = interrupted(&world, "2026-03-09T08:00", "2026-03-09T08:00", stop);
        let leased = under_way(&world);
        let later = if stop.late { "2026-03-09T08:10" } else { "2026-03-09T08:01:20" };
        let left = finished(&world, later);
        assert!(left.is_empty(), "{stop:?}: {left:?}");
        (ended, shown(&world), in_doubt(&leased))
    };
    let (_, so, _) = run(NEVER);
    assert_eq!(so.values().sum::<usize>(), 6, "{so:#?}");
    let (mut steps, mut ended) = (0, false);
    while !ended {
        let stop = Stop { steps, answered: steps % 2 == 0, late: steps % 4 < 2 };
        let (end, mut shown, doubt) = run(stop);
        let is_in_doubt = doubt.iter().any(|(receiver, _)| *receiver == "hook");
        let doubled = |(name, count): (&String, &mut usize)| {
            let more = *count > so.get(name).copied().unwrap_or_default();
            let may = more && is_in_doubt && name.starts_with("webhooks/8: Rescheduled");
            *count -= usize::from(may);
            may
        };
        let doubles = shown.iter_mut().map(doubled).filter(|doubled| *doubled).count();
        assert_eq!(shown, so, "{stop:?}, {doubles} doubled");
        ended = end;
        steps += 1;
    }
    eprintln!("{steps} steps; {:?}", begun.elapsed());
    assert!(steps > 30, "{steps} steps");
}

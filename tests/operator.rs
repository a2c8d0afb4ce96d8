//! What becomes of mistakes in Discord: who is told, what is found again, what `check` sees.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use beadle::commands::{self, Format};
use beadle::notify::discord::Http;
use beadle::notify::{self, Registry};
use beadle::pipeline::Pipeline;
use beadle::plan::{Kind, Notification};
use beadle::store::{DeliveryState, Happening, NewDelivery, Written, delivery_id};
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::discord::Answer;
use support::wire::{Reply, Wire};
use support::world::{World, at, calendar, deliver, event, poll, round, rows};

/// A world with a channel for the operator.
fn watched() -> World {
    let mut world = World::new();
    world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
    world
}

/// What was posted, with the channel it went to.
fn posts(world: &World) -> Vec<String> {
    let of = |message: support::discord::Message| {
        let target = message.target.trim_start_matches("channels/").to_owned();
        format!("{target}: {}", support::world::title(&message.body))
    };
    world.discord.messages().into_iter().map(of).collect()
}

async fn notice(pipeline: &Pipeline, endpoint: &str, title: &str, now: &str) {
    let row = NewDelivery {
        id: delivery_id(endpoint, title),
        endpoint: endpoint.to_owned(),
        notification: Written::from(&Notification {
            source: "test".to_owned(),
            kind: Kind::Notice { title: title.to_owned(), text: "text".to_owned() },
            zone: "UTC".to_owned(),
            items: Vec::new(),
            more: 0,
        }),
        due_at: at(now),
        not_after: at(now) + SignedDuration::from_hours(100),
    };
    pipeline.store.commit_due(&[row], &[], at(now)).await.unwrap();
}

#[tokio::test]
async fn a_parked_receiver_is_told_once_and_so_is_its_return() {
    let world = watched();
    let pipeline = world.open("2026-03-05T09:00").await;
    notice(&pipeline, "channel/discord", "one", "2026-03-05T08:50").await;
    notice(&pipeline, "channel/discord", "two", "2026-03-05T08:51").await;
    let refusal = || Answer::error(404, 10003, "Unknown Channel");
    world.discord.script([refusal()]);
    deliver(&pipeline, "2026-03-05T09:00").await;
    assert_eq!(posts(&world), ["99: channel/discord takes no messages"]);
    // Still so an hour later.
    world.discord.script([refusal()]);
    deliver(&pipeline, "2026-03-05T10:01").await;
    assert_eq!(posts(&world).len(), 1);
    deliver(&pipeline, "2026-03-05T11:02").await;
    assert_eq!(
        posts(&world)[1..],
        ["7: one (late)", "7: two (late)", "99: channel/discord takes messages again"]
    );
}

/// What is retried by hand stays parked until something is taken, so that its return is told.
#[tokio::test]
async fn a_parked_receiver_that_is_tried_by_hand_is_told_once_and_so_is_its_return() {
    for by_name in [true, false] {
        let world = watched();
        let pipeline = world.open("2026-03-05T09:00").await;
        notice(&pipeline, "channel/discord", "one", "2026-03-05T09:00").await;
        let refusal = || Answer::error(404, 10003, "Unknown Channel");
        world.discord.script([refusal()]);
        deliver(&pipeline, "2026-03-05T09:00").await;
        let retry = async |now| {
            let waiting = rows(&pipeline, DeliveryState::Pending).await;
            let id = if by_name { "channel/discord" } else { &waiting[0].id };
            commands::intervene(&pipeline.store, Some(id), Happening::Revived, at(now)).await
        };
        world.discord.script([refusal()]);
        let store = &pipeline.store;
        let status = async |now| {
            commands::status(&world.config(), store, true, at(now), Format::Text).await.unwrap()
        };
        let said = status("2026-03-05T09:09").await;
        assert!(said.contains(", tried again at 2026-03-05 10:00 "), "{said}");
        retry("2026-03-05T09:10").await.unwrap();
        let said = status("2026-03-05T09:10").await;
        assert!(said.contains(", due to be tried again: "), "{said}");
        deliver(&pipeline, "2026-03-05T09:10").await;
        assert_eq!(posts(&world), ["99: channel/discord takes no messages"]);
        deliver(&pipeline, "2026-03-05T09:15").await;
        assert_eq!(posts(&world).len(), 1, "still so");
        assert!(retry("2026-03-05T09:20").await.unwrap().contains("will be tried again"));
        deliver(&pipeline, "2026-03-05T09:20").await;
        assert_eq!(
            posts(&world)[1..],
            ["7: one (late)", "99: channel/discord takes messages again"]
        );
    }
    let pipeline = watched().open("2026-03-05T09:00").await;
    let now = at("2026-03-05T09:00");
    let id = Some("channel/discord");
    let error = commands::intervene(&pipeline.store, id, Happening::Revived, now).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "channel/discord is not parked; see `beadle status`"
    );
}

#[tokio::test]
async fn what_the_operator_is_to_know_survives_a_crash_and_its_own_channel_is_not_told_of() {
    let world = watched();
    let pipeline = world.open("2026-03-05T09:00").await;
    notice(&pipeline, "channel/discord", "one", "2026-03-05T09:00").await;
    world.discord.script([
        Answer::error(403, 50013, "Missing Permissions"),
        Answer::error(403, 50001, "Missing Access"),
    ]);
    deliver(&pipeline, "2026-03-05T09:00").await;
    let parked = pipeline.store.parked().await.unwrap();
    let parked: Vec<_> = parked.iter().map(|one| one.endpoint.as_str()).collect();
    assert_eq!(parked, ["admin/discord", "channel/discord"]);
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 2, "none about itself");
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:05").await;
    deliver(&pipeline, "2026-03-05T09:05").await;
    let mut posts = posts(&world);
    posts.sort();
    assert_eq!(
        posts,
        [
            "7: one (late)",
            "99: channel/discord takes messages again",
            "99: channel/discord takes no messages (late)",
        ],
        "a new start tries again what was parked"
    );
}

#[tokio::test]
async fn dead_messages_are_told_once_a_day_and_reason() {
    let world = watched();
    let pipeline = world.open("2026-03-05T09:00").await;
    for title in ["one", "two", "three"] {
        notice(&pipeline, "channel/discord", title, "2026-03-05T09:00").await;
    }
    let refusal = Answer::error(400, 50035, "Invalid Form Body");
    world.discord.script([refusal.clone(), Answer::Normal, refusal]);
    deliver(&pipeline, "2026-03-05T09:00").await;
    assert_eq!(rows(&pipeline, DeliveryState::Dead).await.len(), 2);
    let told = posts(&world);
    let told: Vec<_> = told.iter().filter(|post| post.starts_with("99")).collect();
    assert_eq!(told, ["99: A message to channel/discord cannot be delivered"]);
}

#[tokio::test]
async fn a_feed_that_stays_away_is_told_once_and_so_is_its_return() {
    let world = watched();
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    std::fs::remove_file(world.path("feed.ics")).unwrap();
    for now in ["2026-03-05T10:00", "2026-03-05T15:59", "2026-03-05T16:00", "2026-03-05T20:00"] {
        poll(&pipeline, now).await.result.unwrap_err();
        deliver(&pipeline, now).await;
        assert_eq!(posts(&world).is_empty(), now < "2026-03-05T16", "{now}");
    }
    world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
    round(&pipeline, "2026-03-05T21:00").await;
    round(&pipeline, "2026-03-05T21:15").await;
    assert_eq!(
        posts(&world),
        ["99: The feed site cannot be read", "99: The feed site can be read again"]
    );
}

// ---- set-up ------------------------------------------------------------------------------------

const VIEW: u64 = 1 << 10;
const SEND: u64 = 1 << 11;
const EMBED: u64 = 1 << 14;
const HISTORY: u64 = 1 << 16;
const CALL_ALL: u64 = 1 << 17;
const MANAGE_THREADS: u64 = 1 << 34;
const BEGIN_THREADS: u64 = 1 << 35;
const IN_THREADS: u64 = 1 << 38;
const CREATE_EVENTS: u64 = 1 << 44;
const PIN: u64 = 1 << 51;

/// A server in which everyone may do this, and the channel denies that.
fn server(everyone: u64, denied: u64) -> Wire {
    Wire::start(move |request| {
        let general = |id: &str, kind: u64| {
            json!({ "id": id, "name": "general", "type": kind, "guild_id": "5", "parent_id": "7",
                "permission_overwrites": [{ "id": "5", "deny": denied.to_string(), "allow": "0" }] })
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/users/@me") => Reply::ok(json!({ "id": "1" })),
            ("GET", "/applications/@me") => {
                Reply::ok(json!({ "id": "17", "name": "Beadle", "verify_key": "ab".repeat(32) }))
            }
            ("GET", "/channels/7") => Reply::ok(general("7", 0)),
            ("GET", "/channels/8") => {
                let mut thread = general("8", 11);
                thread["permission_overwrites"] = json!([]);
                Reply::ok(thread)
            }
            ("GET", "/channels/10") => {
                let mut forum = general("10", 15);
                forum["available_tags"] =
                    json!([{ "id": "91", "name": "Talks", "moderated": true }]);
                Reply::ok(forum)
            }
            ("GET", "/guilds/4" | "/guilds/5") => {
                Reply::ok(json!({ "id": "5", "name": "Example", "owner_id": "2", "roles": [
                    { "id": "5", "permissions": everyone.to_string() },
                    { "id": "71", "name": "Staff", "permissions": "0", "mentionable": false },
                    { "id": "72", "name": "Fans", "permissions": "0", "mentionable": true },
                ]}))
            }
            ("GET", "/guilds/4/members/1" | "/guilds/5/members/1") => {
                Reply::ok(json!({ "roles": [] }))
            }
            ("GET", "/applications/17/guilds/4/commands") => {
                Reply::error(403, 50001, "Missing Access")
            }
            ("GET", path) if path.starts_with("/applications/") => Reply::ok(json!([])),
            ("POST", "/channels/7/messages") => Reply::ok(json!({ "id": "9" })),
            _ => Reply::error(404, 10003, "Unknown Channel"),
        }
    })
}

fn of_server(wire: &Wire, channel: &str) -> World {
    let mut world = World::new();
    let stand_in = world.discord.url();
    world.edit(&stand_in, &wire.url());
    world.edit("channel = \"7\"", &format!("channel = \"{channel}\""));
    world
}

#[tokio::test]
async fn check_names_the_permission_that_is_missing() {
    let all = VIEW | SEND | EMBED | HISTORY;
    let table = [
        (all, 0, "7", Ok("channel #general of Example")),
        (all, EMBED, "7", Err("in #general of Example the bot lacks Embed Links")),
        (all, SEND | HISTORY, "7", Err("lacks Send Messages and Read Message History")),
        (all, VIEW, "7", Err("lacks View Channel, Send Messages, Embed Links and Read")),
        (all, 0, "8", Err("lacks Send Messages in Threads")),
        (all | IN_THREADS, EMBED, "8", Err("lacks Embed Links")),
        (all | IN_THREADS, SEND, "8", Ok("thread #general of Example")),
        (all, 0, "9", Err("10003")),
    ];
    for (everyone, denied, channel, expected) in table {
        let wire = server(everyone, denied);
        let world = of_server(&wire, channel);
        let registry = registry(&world);
        let checked = registry.get("channel/discord").unwrap().notifier.check().await;
        match (&checked, expected) {
            (Ok(what), Ok(expected)) => assert_eq!(what, expected),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}, not {expected}");
            }
            _ => panic!("{checked:?}, not {expected:?}"),
        }
    }
}

/// What `check` finds missing in Discord.
async fn failures(world: &World) -> Vec<String> {
    let (config, registry) = (world.config(), registry(world));
    let mut found = vec![registry.get("channel/discord").unwrap().notifier.check().await];
    let servers = notify::discord::servers(registry.bot().unwrap(), &config).await;
    found.extend(servers.into_iter().map(|(_, end)| end));
    found.into_iter().filter_map(|end| Some(end.err()?.to_string())).collect()
}

#[tokio::test]
async fn check_names_what_this_configuration_needs_and_no_other() {
    let posting = VIEW | SEND | EMBED | HISTORY;
    let threads = "channel = \"7\", thread_per_event = true";
    let (forum, tags) = ("channel = \"10\"", "channel = \"10\", tags = { A = \"talks\" }");
    let ping = |roles: &str| format!("ping = {roles}\nremind = [");
    let in_forum = posting | IN_THREADS;
    let table = [
        ("channel = \"7\"", threads.to_owned(), posting | IN_THREADS, "Create Public Threads"),
        ("channel = \"7\"", threads.to_owned(), posting | BEGIN_THREADS, "Messages in Threads"),
        ("channel = \"7\"", threads.to_owned(), posting | BEGIN_THREADS | IN_THREADS, ""),
        ("channel = \"7\"", forum.to_owned(), posting, "Send Messages in Threads"),
        ("channel = \"7\"", forum.to_owned(), in_forum, ""),
        ("channel = \"7\"", tags.to_owned(), in_forum, "Manage Threads"),
        ("channel = \"7\"", tags.to_owned(), in_forum | MANAGE_THREADS, ""),
        ("remind = [", ping("[\"72\"]"), posting, ""),
        ("remind = [", ping("[\"71\"]"), posting, "or let anyone mention Staff"),
        ("remind = [", ping("{ reminder = [\"71\"] }"), posting | CALL_ALL, ""),
        ("remind = [", ping("[\"73\"]"), posting | CALL_ALL, "has no role 73"),
    ];
    for (from, to, everyone, expected) in table {
        let wire = server(everyone, 0);
        let mut world = of_server(&wire, "7");
        world.edit(from, &to);
        let found = failures(&world).await;
        match expected {
            "" => assert_eq!(found, [""; 0], "{to}"),
            _ => assert!(found.len() == 1 && found[0].contains(expected), "{found:?}, {expected}"),
        }
    }
}

#[tokio::test]
async fn check_sees_another_application_and_a_server_without_the_bot() {
    let wire = server(VIEW | SEND | EMBED | HISTORY, 0);
    let key = "cd".repeat(32);
    let table = [
        ("application_id = \"17\"".to_owned(), ""),
        ("application_id = \"18\"".to_owned(), "the application 17 Beadle, and application_id"),
        (format!("public_key = \"{}\"", "AB".repeat(32)), ""),
        (format!("public_key = \"{key}\""), "public_key is not that of Beadle"),
        ("guild = \"5\"".to_owned(), ""),
        ("guild = \"6\"".to_owned(), "10003"),
        (
            "guild = \"4\"".to_owned(),
            "server 4, or was invited without the scope applications.comm",
        ),
    ];
    for (keys, expected) in table {
        let mut world = of_server(&wire, "7");
        world.edit("[discord]", &format!("[discord]\ncommands = true\n{keys}"));
        if keys.starts_with("public_key") {
            world.edit("[discord]", "[http]\nlisten = \"127.0.0.1:0\"\n[discord]");
        }
        let found = failures(&world).await;
        match expected {
            "" => assert_eq!(found, [""; 0], "{keys}"),
            _ => assert!(found.len() == 1 && found[0].contains(expected), "{found:?}, {keys}"),
        }
    }
}

#[tokio::test]
async fn an_invitation_asks_for_what_is_needed() {
    let wire = server(0, 0);
    let world = of_server(&wire, "7");
    let http = Http::new(Duration::from_secs(10)).unwrap();
    let invitation = commands::discord_invite(&world.config(), &http).await.unwrap();
    let permissions = VIEW | SEND | EMBED | HISTORY;
    let url = format!(
        "https://discord.com/oauth2/authorize?client_id=17&scope=bot&permissions={permissions}"
    );
    assert_eq!(invitation.lines().next(), Some(url.as_str()));
    assert!(invitation.contains("View Channel, Send Messages, Embed Links and Read"));
}

/// With everything configured, what is asked for at the invitation is what `check` looks for: with
/// all of it nothing is missing, and without one of them that one is named.
#[tokio::test]
async fn the_invitation_and_check_agree() {
    let all = [
        (VIEW, "View Channel"),
        (SEND, "Send Messages"),
        (BEGIN_THREADS, "Create Public Threads"),
        (IN_THREADS, "Send Messages in Threads"),
        (EMBED, "Embed Links"),
        (HISTORY, "Read Message History"),
        (CALL_ALL, "Mention @everyone, @here, and All Roles"),
        (CREATE_EVENTS, "Create Events"),
        (PIN, "Pin Messages"),
    ];
    let whole = all.iter().fold(0, |sum, (bit, _)| sum | bit);
    for without in [0].into_iter().chain(all.iter().map(|(bit, _)| *bit)) {
        let wire = server(whole & !without, 0);
        let mut world = of_server(&wire, "7");
        world.edit("channel = \"7\"", "channel = \"7\", thread_per_event = true");
        world.edit("remind = [", "ping = [\"71\"]\nremind = [");
        world.edit(
            "[receiver.channel]",
            "[[agenda]]\nname = \"Next days\"\nwatch = [\"all\"]\npin = true\nto = [\"channel\"]\n\
             [[scheduled_events]]\nname = \"native\"\nguild = \"5\"\nwatch = [\"all\"]\n\
             [receiver.channel]",
        );
        let http = Http::new(Duration::from_secs(10)).unwrap();
        let invitation = commands::discord_invite(&world.config(), &http).await.unwrap();
        let url = invitation.lines().next().unwrap();
        assert_eq!(url.rsplit("permissions=").next(), Some(whole.to_string().as_str()));
        let found = failures(&world).await;
        let Some((_, name)) = all.iter().find(|(bit, _)| *bit == without) else {
            assert_eq!(found, [""; 0]);
            continue;
        };
        let [found] = &found[..] else { panic!("{name}: {found:?}") };
        assert!(found.contains(&format!("lacks {name}")), "{name}: {found}");
    }
}

#[tokio::test]
async fn a_test_message_goes_to_each_and_says_what_it_is() {
    let mut world = watched();
    world.edit(
        "[receiver.channel]",
        "[receiver.other]\nemail = { to = [\"ann@example.edu\"] }\n[receiver.channel]",
    );
    let (config, registry) = (world.config(), registry(&world));
    let now = at("2026-03-05T09:00");
    let (answer, good) = commands::send_test(&config, &registry, None, now).await.unwrap();
    assert_eq!(
        (answer.as_str(), good),
        (
            "ok    channel/discord: sent\nok    other/email/ann@example.edu: sent\n\
             ok    admin/discord: sent\n",
            true
        )
    );
    assert_eq!(posts(&world), ["7: Test", "99: Test"]);
    assert!(world.smtp.mails()[0].data.contains("Subject: Test"));

    world.discord.script([Answer::error(404, 10003, "Unknown Channel")]);
    let only = Some("channel");
    let later = at("2026-03-05T09:01");
    let (answer, good) = commands::send_test(&config, &registry, only, later).await.unwrap();
    assert!(!good && answer.starts_with("FAIL  channel/discord: the channel does not"), "{answer}");
    commands::send_test(&config, &registry, only, later).await.unwrap();
    assert_eq!(posts(&world).len(), 3);
    let unknown = commands::send_test(&config, &registry, Some("chanel"), now).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no receiver `chanel`; there are: channel, other");
    let pipeline = world.open("2026-03-05T09:00").await;
    assert!(pipeline.store.deliveries(None, 10).await.unwrap().is_empty(), "nothing is kept");
}

// ---- reading back ------------------------------------------------------------------------------

/// A channel that forgets nonces and remembers messages.
#[derive(Default)]
struct Channel {
    /// Newest last.
    messages: Vec<Value>,
    /// The next post is kept, and answered with an error.
    loses: bool,
    reads: usize,
}

fn remembering() -> (Wire, Arc<Mutex<Channel>>) {
    let channel: Arc<Mutex<Channel>> = Arc::default();
    let shared = Arc::clone(&channel);
    let wire = Wire::start(move |request| {
        let mut channel = shared.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match (request.method.as_str(), path) {
            ("GET", "/users/@me") => Reply::ok(json!({ "id": "1" })),
            ("GET", "/channels/7") => Reply::ok(json!({ "id": "7", "type": 0, "name": "general" })),
            ("POST", "/channels/7/messages") => {
                let id = channel.add(&request.json, "1");
                if std::mem::take(&mut channel.loses) {
                    return Reply::error(500, 0, "500: Internal Server Error");
                }
                Reply::ok(json!({ "id": id }))
            }
            ("GET", "/channels/7/messages") => {
                channel.reads += 1;
                let id = |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap();
                let all = &channel.messages;
                let from = match query.split("after=").nth(1).map(|id| id.parse().unwrap()) {
                    Some(after) => all.partition_point(|message| id(message) <= after),
                    None => all.len().saturating_sub(100),
                };
                let mut page: Vec<Value> = all[from..].iter().take(100).cloned().collect();
                page.reverse();
                Reply::ok(Value::Array(page))
            }
            _ => Reply::error(404, 0, "404: Not Found"),
        }
    });
    (wire, channel)
}

impl Channel {
    fn add(&mut self, body: &Value, author: &str) -> String {
        // Of 2026-03-05T14:00:00Z, nine in New York.
        let first = (1_772_719_200_000_u64 - 1_420_070_400_000) << 22;
        let id = (first + self.messages.len() as u64).to_string();
        let mut message = body.clone();
        message["id"] = json!(id);
        message["author"] = json!({ "id": author });
        message.as_object_mut().unwrap().remove("nonce");
        self.messages.push(message);
        id
    }
}

fn registry(world: &World) -> Registry {
    notify::build(&world.config(), &Http::new(Duration::from_secs(10)).unwrap()).unwrap()
}

async fn one_lost(wire: &Wire, channel: &Mutex<Channel>) -> (World, Pipeline) {
    one_lost_at(wire, channel, "2026-03-05T09:00").await
}

async fn one_lost_at(wire: &Wire, channel: &Mutex<Channel>, now: &str) -> (World, Pipeline) {
    let mut world = World::new();
    let stand_in = world.discord.url();
    world.edit(&stand_in, &wire.url());
    let pipeline = world.open_with(registry(&world), now).await;
    notice(&pipeline, "channel/discord", "one", now).await;
    channel.lock().unwrap().loses = true;
    assert_eq!(deliver(&pipeline, now).await.put_off, 1);
    (world, pipeline)
}

#[tokio::test]
async fn what_may_have_arrived_is_looked_for_before_it_is_sent_again() {
    let (wire, channel) = remembering();
    let (_world, pipeline) = one_lost(&wire, &channel).await;
    // Ours is among the first of those that came since.
    for n in 0..250 {
        channel.lock().unwrap().add(&json!({ "content": format!("chat {n}") }), "5");
    }
    let done = deliver(&pipeline, "2026-03-05T11:00").await;
    assert_eq!(done.sent, 1);
    let sent = rows(&pipeline, DeliveryState::Sent).await;
    let channel = channel.lock().unwrap();
    let id = channel.messages[0]["id"].as_str().unwrap();
    assert_eq!(sent[0].remote_id.as_deref(), Some(format!("7/{id}").as_str()));
    assert_eq!((channel.messages.len(), channel.reads), (251, 4), "and not posted again");
}

/// By the time of the message our clock was wrong, or it is now.
#[tokio::test]
async fn what_may_have_arrived_is_found_whatever_the_clock_says() {
    for (first, then) in [
        ("2026-03-05T13:00", "2026-03-05T13:30"),
        ("2026-03-05T13:00", "2026-03-05T09:10"),
        ("2026-03-05T09:00", "2026-03-05T07:30"),
        ("2026-03-03T09:00", "2026-03-05T09:10"),
    ] {
        let (wire, channel) = remembering();
        let (world, pipeline) = one_lost_at(&wire, &channel, first).await;
        for n in 0..50 {
            channel.lock().unwrap().add(&json!({ "content": format!("chat {n}") }), "5");
        }
        // The next attempt, at once.
        let until = at(first) + SignedDuration::from_mins(1);
        let lease = SignedDuration::from_mins(30);
        assert_eq!(pipeline.store.claim_due(until, lease, 10, 10).await.unwrap().len(), 1);
        drop(pipeline);
        let pipeline = world.open_with(registry(&world), then).await;
        assert_eq!(deliver(&pipeline, then).await.sent, 1, "{first} {then}");
        assert_eq!(channel.lock().unwrap().messages.len(), 51, "{first} {then}");
    }
}

#[tokio::test]
async fn after_a_crash_too() {
    let (wire, channel) = remembering();
    let (world, pipeline) = one_lost(&wire, &channel).await;
    let lease = SignedDuration::from_mins(30);
    let now = at("2026-03-05T09:30");
    assert_eq!(pipeline.store.claim_due(now, lease, 10, 10).await.unwrap().len(), 1);
    drop(pipeline);
    let pipeline = world.open_with(registry(&world), "2026-03-05T11:00").await;
    assert_eq!(deliver(&pipeline, "2026-03-05T11:00").await.sent, 1);
    assert_eq!(channel.lock().unwrap().messages.len(), 1);
}

#[tokio::test]
async fn a_direct_message_that_arrived_is_not_sent_again_after_a_crash() {
    let world = World::new();
    world.discord.set_nonce_window(Duration::ZERO);
    let pipeline = world.open("2026-03-05T09:00").await;
    notice(&pipeline, "dm/42", "before", "2026-03-05T08:59").await;
    deliver(&pipeline, "2026-03-05T08:59").await;
    notice(&pipeline, "dm/42", "one", "2026-03-05T09:00").await;
    world.discord.script([Answer::lost()]);
    assert_eq!(deliver(&pipeline, "2026-03-05T09:00").await.put_off, 1);
    assert_eq!(world.posts(), ["before", "one"], "it is there, and nobody was told");
    drop(pipeline);
    let pipeline = world.open("2026-03-05T11:00").await;
    assert_eq!(deliver(&pipeline, "2026-03-05T11:00").await.sent, 1);
    assert_eq!(world.posts(), ["before", "one"]);
    let sent = rows(&pipeline, DeliveryState::Sent).await;
    let id = &world.discord.messages()[1].id;
    let name = format!("500042/{id}");
    assert!(sent.iter().any(|row| row.remote_id.as_deref() == Some(&name)), "{sent:?}");
    // One that may have arrived and did not is sent, as it was.
    notice(&pipeline, "dm/42", "two", "2026-03-05T11:00").await;
    world.discord.script([Answer::Drop]);
    deliver(&pipeline, "2026-03-05T11:00").await;
    drop(pipeline);
    let pipeline = world.open("2026-03-05T12:00").await;
    deliver(&pipeline, "2026-03-05T12:00").await;
    assert_eq!(world.posts(), ["before", "one", "two"]);
}

/// A message of the same words is another message, if it is known to be.
#[tokio::test]
async fn what_is_not_there_is_sent_and_its_twin_does_not_count() {
    let (wire, channel) = remembering();
    let (_world, pipeline) = one_lost(&wire, &channel).await;
    channel.lock().unwrap().messages.clear();
    let row = |id: &str| NewDelivery {
        id: delivery_id("channel/discord", id),
        endpoint: "channel/discord".to_owned(),
        notification: Written::from(&Notification {
            source: "test".to_owned(),
            kind: Kind::Notice { title: "one".to_owned(), text: "text".to_owned() },
            zone: "UTC".to_owned(),
            items: Vec::new(),
            more: 0,
        }),
        due_at: at("2026-03-05T09:00"),
        not_after: at("2026-03-06T09:00"),
    };
    // Before the retry of the first, its twin is sent.
    pipeline.store.commit_due(&[row("twin")], &[], at("2026-03-05T09:00")).await.unwrap();
    assert_eq!(deliver(&pipeline, "2026-03-05T09:00").await.sent, 1);
    assert_eq!(deliver(&pipeline, "2026-03-05T11:00").await.sent, 1);
    let channel = channel.lock().unwrap();
    assert_eq!((channel.messages.len(), channel.reads), (2, 1));
}

//! Slash commands as Discord sends them, over the gateway and by HTTP, and the direct messages that
//! come of them.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::time::{Duration, Instant};

use beadle::interactions::endpoint::Endpoint;
use beadle::interactions::{self, Inbox};
use beadle::pipeline::Pipeline;
use beadle::store::DeliveryState;
use jiff::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use support::discord::Answer;
use support::gateway::GatewayStandIn;
use support::world::{World, at, calendar, deliver, event, event_with, poll, rows};
use tokio::sync::Notify;

/// As tokens of interactions begin: `interaction:`, in Base64.
const TOKEN: &str = "aW50ZXJhY3Rpb246MTE6c2VjcmV0";
const NOW: &str = "2026-03-02T09:00:00";

fn now() -> Timestamp {
    at(NOW)
}

/// A world with slash commands, and a gateway.
fn world(gateway: &GatewayStandIn) -> World {
    let mut world = World::new();
    world.edit(
        "api_url =",
        &format!("commands = true\nguild = \"33\"\ngateway_url = \"{}\"\napi_url =", gateway.url()),
    );
    world.feed(calendar(&[event("a", "Knots", "20260303T150000")]));
    world
}

fn interaction(kind: u64, data: Value) -> Value {
    json!({
        "id": "11", "application_id": "22", "type": kind, "token": TOKEN, "version": 1,
        "guild_id": "33", "channel_id": "44", "locale": "en-US", "app_permissions": "0",
        "entitlements": [], "authorizing_integration_owners": {}, "attachment_size_limit": 1,
        "member": { "user": { "id": "55", "username": "ann" }, "permissions": "32" },
        "data": data,
    })
}

fn command(name: &str, options: Value) -> Value {
    interaction(2, json!({ "id": "1", "type": 1, "name": name, "options": options }))
}

fn press(custom_id: &str) -> Value {
    interaction(3, json!({ "custom_id": custom_id, "component_type": 2 }))
}

/// Runs slash commands beside a test.
async fn beside<T>(pipeline: &Pipeline, inbox: Inbox, test: impl Future<Output = T>) -> T {
    let news = Notify::new();
    let bot = pipeline.registry.bot().unwrap();
    tokio::select! {
        never = interactions::run(pipeline, bot, inbox, &news, now) => match never {},
        done = test => done,
    }
}

/// Waits for something to be there.
async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The bodies of requests with this method, whose path has these parts.
fn bodies(world: &World, method: &str, part: &str) -> Vec<Value> {
    let requests = world.discord.requests().into_iter();
    let these = requests.filter(|one| one.method == method && one.path.contains(part));
    these.map(|one| one.json).collect()
}

async fn callbacks(world: &World, count: usize) -> Vec<Value> {
    until("an answer", || {
        let all = bodies(world, "POST", "/callback");
        (all.len() >= count).then_some(all)
    })
    .await
}

fn button(answer: &Value, label: &str) -> String {
    let rows = answer["data"]["components"].as_array().unwrap();
    let mut buttons = rows.iter().flat_map(|row| row["components"].as_array().unwrap());
    let found = buttons.find(|button| button["label"] == label).unwrap();
    found["custom_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_is_answered_over_the_gateway() {
    let gateway = GatewayStandIn::start(Duration::from_millis(200));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(command("upcoming", json!([])));
        let answers = callbacks(&world, 1).await;
        assert_eq!(answers[0]["type"], 4);
        assert_eq!(answers[0]["data"]["flags"], 64);
        let text = answers[0]["data"]["embeds"][0]["description"].as_str().unwrap();
        assert!(text.contains("**Knots**"), "{text}");
        until("a heartbeat", || gateway.heard().iter().find(|one| one["op"] == 1).cloned()).await;
    })
    .await;
    let identify = gateway.heard().into_iter().find(|one| one["op"] == 2).unwrap();
    assert_eq!(identify["d"]["intents"], 0);
    assert_eq!(identify["d"]["token"], support::world::TOKEN);
}

#[tokio::test]
async fn commands_are_registered_only_when_they_changed() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let mut world = world(&gateway);
    let registered = async |world: &World, expected: usize| {
        let pipeline = world.open(NOW).await;
        beside(&pipeline, Inbox::default(), async {
            let before = bodies(world, "POST", "/callback").len();
            gateway.interaction(command("next", json!([])));
            callbacks(world, before + 1).await;
            until("a registration", || {
                (bodies(world, "PUT", "/commands").len() >= expected).then_some(())
            })
            .await;
        })
        .await;
        assert_eq!(bodies(world, "PUT", "/commands").len(), expected);
    };
    registered(&world, 1).await;
    registered(&world, 1).await;
    // Elsewhere: the old ones go, the new ones are without those for managers.
    world.edit("guild = \"33\"", "application_id = \"22\"");
    registered(&world, 3).await;
    let puts: Vec<String> = world
        .discord
        .requests()
        .iter()
        .filter(|one| one.method == "PUT")
        .map(|one| format!("{} {}", one.path, one.json.as_array().unwrap().len()))
        .collect();
    insta::assert_snapshot!(puts.join("\n"), @r#"
    /api/v10/applications/22/guilds/33/commands 9
    /api/v10/applications/22/guilds/33/commands 0
    /api/v10/applications/22/commands 7
    "#);
}

/// Until the operator has something to be told, or nothing more.
async fn parked(pipeline: &Pipeline, parked: bool) {
    loop {
        let reasons = pipeline.store.parked().await.unwrap();
        if reasons.is_empty() != parked {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn commands_come_back_with_the_bot_and_the_operator_is_told_once() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let mut world = world(&gateway);
    world.edit("api_url =", "admin_channel = \"9\"\napi_url =");
    let registrations = || bodies(&world, "PUT", "/commands").len();
    let pipeline = world.open(NOW).await;
    let registered = || (registrations() == 1).then_some(());
    beside(&pipeline, Inbox::default(), until("a registration", registered)).await;
    drop(pipeline);

    world.discord.throw_out();
    for start in 0..2 {
        let pipeline = world.open(NOW).await;
        let looks = || bodies(&world, "GET", "/commands").len();
        beside(&pipeline, Inbox::default(), async {
            until("a look", || (looks() == 2 + start).then_some(())).await;
            parked(&pipeline, true).await;
        })
        .await;
        deliver(&pipeline, NOW).await;
        let status = beadle::commands::status(
            &pipeline.config,
            &pipeline.store,
            true,
            now(),
            beadle::commands::Format::Text,
        );
        let status = status.await.unwrap();
        assert!(status.contains("PARKED slash commands since"), "{status}");
        assert!(
            status.contains("scope applications.commands: run `beadle discord inv"),
            "{status}"
        );
    }
    assert_eq!(world.posts(), ["Slash commands cannot be registered"]);
    assert_eq!(registrations(), 1);

    world.discord.invite();
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), parked(&pipeline, false)).await;
    deliver(&pipeline, NOW).await;
    assert_eq!(registrations(), 2, "the server had forgotten them");
    assert_eq!(
        world.posts(),
        ["Slash commands cannot be registered", "Slash commands are registered again"]
    );
}

#[tokio::test]
async fn commands_that_are_no_longer_wanted_are_withdrawn_once() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let mut world = world(&gateway);
    let pipeline = world.open(NOW).await;
    let registered = || bodies(&world, "PUT", "/commands").into_iter().next();
    beside(&pipeline, Inbox::default(), until("a registration", registered)).await;
    drop(pipeline);

    world.edit("commands = true", "commands = false");
    for _ in 0..2 {
        let pipeline = world.open(NOW).await;
        beside(&pipeline, Inbox::default(), async {
            until("their end", || bodies(&world, "PUT", "/commands").into_iter().nth(1)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        })
        .await;
    }
    let puts = bodies(&world, "PUT", "/commands");
    assert_eq!(puts[1..], [json!([])]);
    assert_eq!(gateway.opcodes(), [2], "nobody listens");
}

#[tokio::test]
async fn a_refusal_of_commands_is_forgotten_with_the_wish_for_them() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let mut world = world(&gateway);
    world.edit("api_url =", "admin_channel = \"9\"\napi_url =");
    world.discord.throw_out();
    for wanted in [true, false] {
        let pipeline = world.open(NOW).await;
        beside(&pipeline, Inbox::default(), parked(&pipeline, wanted)).await;
        deliver(&pipeline, NOW).await;
        world.edit("commands = ", "commands = false #");
    }
    assert_eq!(world.posts(), ["Slash commands cannot be registered"]);
}

#[tokio::test]
async fn a_registration_that_no_answer_came_to_is_tried_again_soon() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    world.discord.script([Answer::Drop, Answer::html(502)]);
    let pipeline = world.open(NOW).await;
    let registered = || bodies(&world, "PUT", "/commands").into_iter().next();
    beside(&pipeline, Inbox::default(), until("a registration", registered)).await;
    assert_eq!(rows(&pipeline, DeliveryState::Pending).await.len(), 0, "that is no incident");
}

#[tokio::test]
async fn a_broken_line_is_resumed_and_nothing_is_lost() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        for (at, end) in [0, 4000, 7].into_iter().enumerate() {
            let wanted = at + 1;
            gateway.interaction(command("next", json!([])));
            callbacks(&world, 2 * at + 1).await;
            match end {
                7 => gateway.say(json!({ "op": 7, "d": null })),
                code => gateway.close(code),
            }
            // It comes while nobody is there.
            gateway.interaction(command("next", json!([])));
            callbacks(&world, 2 * wanted).await;
        }
    })
    .await;
    assert_eq!(gateway.opcodes(), [2, 6, 6, 6], "one IDENTIFY, then RESUME");
}

#[tokio::test]
async fn an_invalid_session_begins_anew() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(command("next", json!([])));
        callbacks(&world, 1).await;
        gateway.say(json!({ "op": 9, "d": false }));
        until("a new session", || (gateway.opcodes().len() > 1).then_some(())).await;
    })
    .await;
    assert_eq!(gateway.opcodes(), [2, 2]);
}

#[tokio::test]
async fn a_silent_gateway_is_left() {
    let gateway = GatewayStandIn::start(Duration::from_millis(150));
    gateway.deaf(true);
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        until("another connection", || (gateway.opcodes().len() > 1).then_some(())).await;
    })
    .await;
    assert_eq!(gateway.opcodes()[..2], [2, 6]);
}

#[tokio::test]
async fn a_bad_token_is_tried_again_once_it_is_another() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    let tokens = || {
        let heard = gateway.heard().into_iter().filter(|one| one["op"] == 2);
        heard.map(|one| one["d"]["token"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    beside(&pipeline, Inbox::default(), async {
        until("IDENTIFY", || gateway.opcodes().first().copied()).await;
        gateway.close(4004);
        // Long enough for a look at the token.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(tokens(), [support::world::TOKEN], "the same is not tried again");
        std::fs::write(world.path("token"), "another.token").unwrap();
        until("another IDENTIFY", || (tokens().len() > 1).then_some(())).await;
    })
    .await;
    assert_eq!(tokens(), [support::world::TOKEN, "another.token"]);
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_session_outlives_the_host_where_it_was_to_be_resumed() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    gateway.resume_elsewhere(&nowhere());
    let mut world = world(&gateway);
    world.edit(&format!("gateway_url = \"{}\"", gateway.url()), "");
    world.discord.set_gateway(gateway.url());
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(command("next", json!([])));
        callbacks(&world, 1).await;
        gateway.close(4000);
        // It comes while nobody is there, and is not lost.
        gateway.interaction(command("next", json!([])));
        callbacks(&world, 2).await;
        // There is nothing left to be resumed, wherever it is tried.
        gateway.forget_sessions();
        gateway.close(4000);
        until("a new session", || (gateway.opcodes().len() > 3).then_some(())).await;
        gateway.interaction(command("next", json!([])));
        callbacks(&world, 3).await;
    })
    .await;
    assert_eq!(gateway.opcodes(), [2, 6, 6, 2]);
    let asked = world.discord.requests().into_iter().filter(|one| one.path.ends_with("/gateway"));
    assert_eq!(asked.count(), 4, "each time but for the host that is gone");
}

#[tokio::test]
async fn what_takes_long_is_announced_and_filled_in() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(command("refresh", json!([])));
        let answers = callbacks(&world, 1).await;
        assert_eq!(answers[0], json!({ "type": 5, "data": { "flags": 64 } }));
        let filled =
            until("the answer", || bodies(&world, "PATCH", "/@original").into_iter().next()).await;
        let text = filled["embeds"][0]["description"].as_str().unwrap();
        assert_eq!(text, "**Example**: nothing new");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_too_late_is_given_up() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    beside(&pipeline, Inbox::default(), async {
        until("the registration", || bodies(&world, "PUT", "/commands").into_iter().next()).await;
        world.discord.script([
            Answer::error(404, 10062, "Unknown interaction"),
            Answer::error(400, 40060, "Interaction has already been acknowledged."),
        ]);
        gateway.interaction(command("next", json!([])));
        gateway.interaction(command("refresh", json!([])));
        callbacks(&world, 2).await;
        // Later ones are answered, and nothing was said twice or filled in.
        gateway.interaction(command("next", json!([])));
        callbacks(&world, 3).await;
    })
    .await;
    assert_eq!(bodies(&world, "POST", "/callback").len(), 3);
    assert_eq!(bodies(&world, "PATCH", "/@original").len(), 0);
}

/// Asks to be reminded by the button of a card; gives the answer.
async fn ask_for_reminder(world: &World, gateway: &GatewayStandIn) -> Value {
    let before = bodies(world, "POST", "/callback").len();
    gateway.interaction(command("next", json!([])));
    let card = callbacks(world, before + 1).await.remove(before);
    gateway.interaction(press(&button(&card, "Remind me")));
    callbacks(world, before + 2).await.remove(before + 1)
}

fn direct(world: &World) -> Vec<String> {
    let messages = world.discord.messages();
    let direct = messages.iter().filter(|one| one.target == "channels/500055");
    direct.map(|one| support::world::title(&one.body)).collect()
}

#[tokio::test]
async fn a_reminder_comes_by_direct_message_and_once() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    deliver(&pipeline, NOW).await;
    let answer = beside(&pipeline, Inbox::default(), ask_for_reminder(&world, &gateway)).await;
    assert_eq!(answer["type"], 4, "{answer}");

    deliver(&pipeline, "2026-03-03T13:59:00").await;
    assert_eq!(direct(&world), [""; 0]);
    drop(pipeline);
    // The process was away when it fell due.
    let pipeline = world.open("2026-03-03T14:00:30").await;
    deliver(&pipeline, "2026-03-03T14:00:30").await;
    assert_eq!(direct(&world), ["Reminder: Knots"]);
    drop(pipeline);
    let pipeline = world.open("2026-03-03T14:01:00").await;
    deliver(&pipeline, "2026-03-03T14:01:00").await;
    deliver(&pipeline, "2026-03-03T15:00:00").await;
    assert_eq!(direct(&world), ["Reminder: Knots"], "told twice");
}

#[tokio::test]
async fn the_button_under_a_post_asks_for_a_reminder() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    let both = [event("a", "Knots", "20260303T150000"), event("b", "Links", "20260305T150000")];
    world.feed(calendar(&both));
    poll(&pipeline, NOW).await;
    deliver(&pipeline, NOW).await;
    let post = world.discord.messages().remove(0);
    let button = button(&json!({ "data": post.body }), "Remind me");
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(press(&button));
        let answer = callbacks(&world, 1).await.remove(0);
        let text = answer["data"]["embeds"][0]["description"].as_str().unwrap();
        assert!(text.starts_with("**Links**") && text.contains("1 hour before"), "{text}");
    })
    .await;
    deliver(&pipeline, "2026-03-05T14:00:00").await;
    assert_eq!(direct(&world), ["Reminder: Links"]);
    let messages = world.discord.messages();
    let message = messages.iter().rfind(|one| one.target == "channels/500055").unwrap();
    assert!(!message.body.to_string().contains("Remind me"), "who has asked need not ask again");
}

#[tokio::test]
async fn a_moved_event_moves_its_reminder_and_a_cancelled_one_is_told_once() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    deliver(&pipeline, NOW).await;
    beside(&pipeline, Inbox::default(), ask_for_reminder(&world, &gateway)).await;
    world.feed(calendar(&[event("a", "Knots", "20260304T150000")]));
    poll(&pipeline, "2026-03-02T10:00:00").await;
    deliver(&pipeline, "2026-03-03T14:00:10").await;
    assert_eq!(direct(&world), [""; 0], "the old time");
    deliver(&pipeline, "2026-03-04T14:00:10").await;
    assert_eq!(direct(&world), ["Reminder: Knots"], "the new time");

    world.feed(calendar(&[event_with("a", "Knots", "20260304T150000", "STATUS:CANCELLED\r\n")]));
    poll(&pipeline, "2026-03-04T14:10:00").await;
    deliver(&pipeline, "2026-03-04T14:10:00").await;
    poll(&pipeline, "2026-03-04T14:20:00").await;
    deliver(&pipeline, "2026-03-04T14:59:00").await;
    assert_eq!(direct(&world), ["Reminder: Knots", "Cancelled: Knots"]);
}

#[tokio::test]
async fn closed_direct_messages_are_said_at_the_next_occasion() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    deliver(&pipeline, NOW).await;
    beside(&pipeline, Inbox::default(), ask_for_reminder(&world, &gateway)).await;
    world.discord.direct_messages(55, false);
    deliver(&pipeline, "2026-03-03T14:00:10").await;
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].endpoint, "dm/55");
    assert!(pipeline.store.parked().await.unwrap().is_empty());
    assert_eq!(pipeline.store.reminder_requests(Some(55)).await.unwrap().len(), 1);

    beside(&pipeline, Inbox::default(), async {
        let before = bodies(&world, "POST", "/callback").len();
        gateway.interaction(command("subscriptions", json!([])));
        let answer = callbacks(&world, before + 1).await.remove(before);
        let text = answer["data"]["embeds"][0]["description"].as_str().unwrap().to_owned();
        assert!(text.starts_with("I could not send you a direct message"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_paused_watch_is_silent_and_tells_nothing_later() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let world = world(&gateway);
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    deliver(&pipeline, NOW).await;
    let watch = |what: &str| {
        let options = json!([{ "type": 3, "name": "watch", "value": "all" }]);
        command("watch", json!([{ "type": 1, "name": what, "options": options }]))
    };
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(watch("pause"));
        callbacks(&world, 1).await;
    })
    .await;
    drop(pipeline);
    // A pause survives a restart.
    let pipeline = world.open(NOW).await;
    let both = [event("a", "Knots", "20260303T150000"), event("b", "New", "20260305T150000")];
    world.feed(calendar(&both));
    poll(&pipeline, "2026-03-02T10:00:00").await;
    deliver(&pipeline, "2026-03-02T15:00:10").await;
    assert_eq!(world.posts(), [""; 0], "neither the new event nor the reminder of a day");
    beside(&pipeline, Inbox::default(), async {
        gateway.interaction(watch("resume"));
        callbacks(&world, 2).await;
    })
    .await;
    poll(&pipeline, "2026-03-02T15:10:00").await;
    deliver(&pipeline, "2026-03-03T14:00:10").await;
    assert_eq!(world.posts(), ["Reminder: Knots"], "the hour before, after it was resumed");
}

/// Posts to the endpoint as Discord would.
async fn post(endpoint: &Endpoint, pair: &Ed25519KeyPair, body: &Value) -> (u16, Value) {
    let (stamp, body) = (now().as_second().to_string(), body.to_string());
    let signature = pair.sign(format!("{stamp}{body}").as_bytes());
    let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    endpoint.post(Some(&hex), Some(&stamp), body.as_bytes(), now()).await
}

#[tokio::test]
async fn a_command_is_answered_by_http() {
    let gateway = GatewayStandIn::start(Duration::from_secs(10));
    let mut world = world(&gateway);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let key: String = pair.public_key().as_ref().iter().map(|b| format!("{b:02x}")).collect();
    world.edit("api_url =", &format!("public_key = \"{key}\"\napi_url ="));
    world.edit("[discord]", "[http]\nlisten = \"127.0.0.1:0\"\n[discord]");
    let pipeline = world.open(NOW).await;
    poll(&pipeline, NOW).await;
    let inbox = Inbox::default();
    let endpoint = inbox.endpoint(&pipeline).unwrap();
    beside(&pipeline, inbox, async {
        let ping = json!({ "id": "1", "application_id": "22", "type": 1, "token": "x" });
        assert_eq!(post(&endpoint, &pair, &ping).await, (200, json!({ "type": 1 })));
        assert_eq!(post(&endpoint, &other, &ping).await.0, 401);
        assert_eq!(endpoint.post(None, None, b"", now()).await.0, 401);
        assert_eq!(post(&endpoint, &pair, &json!({ "type": 99 })).await.0, 400);

        let (status, answer) = post(&endpoint, &pair, &command("next", json!([]))).await;
        assert_eq!((status, &answer["type"]), (200, &json!(4)));
        let faults = support::openapi::faults(
            "POST",
            &format!("/interactions/11/{TOKEN}/callback"),
            &answer,
        );
        assert_eq!(faults, [""; 0]);

        let (_, answer) = post(&endpoint, &pair, &command("refresh", json!([]))).await;
        assert_eq!(answer["type"], 5);
        until("the answer", || bodies(&world, "PATCH", "/@original").into_iter().next()).await;
    })
    .await;
    assert_eq!(gateway.opcodes(), [0; 0], "where Discord posts, there is no gateway");
}

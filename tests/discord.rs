//! The judge of what Discord is told; and where it is told it, end to end against the stand-in.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use beadle::store::{DeliveryState, Happening};
use serde_json::{Value, json};
use support::discord::{ANNOUNCEMENT, Answer, DiscordStandIn, FORUM, Thread};
use support::openapi::{self, faults};
use support::world::{World, at, calendar, deliver, event, event_with, round, rows, title};

/// The judge can say no: each of these is wrong in one way, and told so.
#[test]
fn the_judge_finds_what_discord_would_refuse() {
    let message = |body: Value| ("POST", "/api/v10/channels/7/messages", body);
    const HOOK: &str = "/api/v10/webhooks/8/token?wait=true&with_components=true";
    let hook = |body: Value| ("POST", HOOK, body);
    let embed = |embed: Value| message(json!({ "embeds": [embed] }));
    let field =
        |name: &str, value: &str| embed(json!({ "fields": [{ "name": name, "value": value }] }));
    let row = |components: Value| {
        message(json!({ "content": "x", "allowed_mentions": { "parse": [] },
            "components": [{ "type": 1, "components": components }] }))
    };
    let said = |body: Value| {
        let mut body = body;
        body["content"] = json!("x");
        message(body)
    };
    let forum = |body: Value| ("POST", "/channels/7/threads", body);
    let event = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({ "name": "Talk", "privacy_level": 2, "entity_type": 3,
            "scheduled_start_time": "2026-03-03T17:00:00Z",
            "scheduled_end_time": "2026-03-03T18:00:00Z",
            "entity_metadata": { "location": "Hall" } });
        change(&mut body);
        ("POST", "/guilds/5/scheduled-events", body)
    };
    let command = |body: Value| ("PUT", "/applications/3/commands", json!([body]));
    let option = |options: Value| {
        command(json!({ "name": "next", "description": "The next event", "options": options }))
    };
    let none = json!({ "parse": [] });
    let link = |url: &str| json!([{ "type": 2, "style": 5, "label": "Join", "url": url }]);
    let table = [
        (message(json!({ "contents": "x" })), "contents"),
        (message(json!({})), "50006"),
        (message(json!({ "content": " " })), "50006"),
        (message(json!({ "content": "x".repeat(2001), "allowed_mentions": none })), "2000"),
        (
            message(json!({ "content": "x", "nonce": "n".repeat(26), "allowed_mentions": none })),
            "nonce",
        ),
        (said(json!({ "enforce_nonce": true, "allowed_mentions": none })), "without a nonce"),
        (said(json!({})), "without allowed_mentions"),
        (
            said(json!({ "allowed_mentions": { "parse": ["roles"], "roles": ["1"] } })),
            "parses roles",
        ),
        (said(json!({ "allowed_mentions": { "parse": ["everyone"] } })), "everyone"),
        (said(json!({ "allowed_mentions": { "parse": [], "roles": ["x"] } })), "allowed_mentions"),
        (said(json!({ "allowed_mentions": none, "flags": 64 })), "flags"),
        (message(json!({ "embeds": [{ "color": 7 }] })), "shows nothing"),
        (embed(json!({ "title": "x".repeat(257) })), "256"),
        // 129 characters, 258 units.
        (embed(json!({ "title": "🎻".repeat(129) })), "256"),
        (embed(json!({ "description": "x".repeat(4097) })), "4096"),
        (embed(json!({ "title": "x", "url": "javascript:alert(1)" })), "does not take"),
        (embed(json!({ "title": "x", "url": "https://a b" })), "uri"),
        (embed(json!({ "title": "x", "image": { "url": "attachment://a.png" } })), "does not take"),
        (embed(json!({ "title": "x", "colour": 1 })), "colour"),
        (embed(json!({ "title": "x", "color": 0x100_0000 })), "color"),
        (embed(json!({ "title": "x", "footer": { "text": "" } })), "footer"),
        (field("When", " "), "empty value"),
        (field("", "now"), "empty name"),
        (field("When", &"x".repeat(1025)), "1024"),
        (message(json!({ "embeds": vec![json!({ "description": "x".repeat(3001) }); 2] })), "6000"),
        (message(json!({ "embeds": vec![json!({ "title": "x" }); 11] })), "embeds"),
        (row(link("ftp://example.edu")), "web address"),
        (row(link(&format!("https://{}", "x".repeat(505)))), "512"),
        (row(json!([{ "type": 2, "style": 5, "label": "Join" }])), "link button"),
        (row(json!([{ "type": 2, "style": 1, "label": "Join" }])), "link button"),
        (row(json!([{ "type": 2, "style": 1, "custom_id": "a" }])), "shows nothing"),
        (row(json!(vec![link("https://a.example")[0].clone(); 6])), "components"),
        (
            row(json!(vec![json!({ "type": 2, "style": 1, "label": "a", "custom_id": "a" }); 2])),
            "custom_id twice",
        ),
        (
            said(json!({ "allowed_mentions": none, "components":
                vec![json!({ "type": 1, "components": link("https://a.example") }); 6] })),
            "5 action rows",
        ),
        (
            said(
                json!({ "allowed_mentions": none, "components": [{ "type": 10, "content": "x" }] }),
            ),
            "action row",
        ),
        (said(json!({ "allowed_mentions": none, "flags": 1 << 15 })), "components v2"),
        (hook(json!({ "embeds": [{ "title": "x" }], "nonce": "1" })), "nonce"),
        (hook(json!({ "embeds": [{ "title": "x" }], "username": "x".repeat(81) })), "80"),
        (hook(json!({ "embeds": [{ "title": "x" }], "username": "My Discord" })), "username"),
        (("POST", "/webhooks/8/token?waits=true", json!({ "content": "" })), "waits"),
        (
            (
                "POST",
                "/webhooks/8/token",
                json!({ "embeds": [{ "title": "x" }], "components":
                [{ "type": 1, "components": link("https://a.example") }] }),
            ),
            "with_components",
        ),
        (
            (
                "POST",
                "/webhooks/8/token?thread_id=9",
                json!({ "embeds": [{ "title": "x" }], "thread_name": "x" }),
            ),
            "220002",
        ),
        (forum(json!({ "name": " ", "message": { "embeds": [{ "title": "x" }] } })), "name"),
        (forum(json!({ "name": "x", "message": {} })), "50006"),
        (
            forum(json!({ "name": "x", "message": { "embeds": [{ "title": "x" }] },
                "applied_tags": ["1", "2", "3", "4", "5", "6"] })),
            "applied_tags",
        ),
        (
            forum(json!({ "name": "x".repeat(101), "message": { "embeds": [{ "title": "x" }] } })),
            "100 UTF-16",
        ),
        (event(&|body| body["name"] = json!("")), "empty name"),
        (event(&|body| body["scheduled_end_time"] = Value::Null), "needs an end"),
        (event(&|body| body["scheduled_end_time"] = body["scheduled_start_time"].clone()), "ends"),
        (event(&|body| body["scheduled_end_time"] = json!("2026-03-03T18:00:00+01:00")), "UTC"),
        (event(&|body| body["entity_metadata"]["location"] = json!("x".repeat(101))), "location"),
        (event(&|body| body["image"] = json!("https://example.edu/a.png")), "data URI"),
        (
            event(&|body| {
                body["recurrence_rule"] =
                    json!({ "start": "2026-03-03T17:00:00Z", "frequency": 2, "interval": 1 });
            }),
            "recurrence_rule",
        ),
        (command(json!({ "name": "Next", "description": "x" })), "cannot be the name"),
        (command(json!({ "name": "next event", "description": "x" })), "cannot be the name"),
        (command(json!({ "name": "next" })), "without a description"),
        (
            option(json!([
                { "type": 3, "name": "a", "description": "x" },
                { "type": 3, "name": "b", "description": "x", "required": true },
            ])),
            "required option",
        ),
        (
            option(json!([
                { "type": 3, "name": "a", "description": "x" },
                { "type": 4, "name": "a", "description": "x" },
            ])),
            "name twice",
        ),
        (option(json!([{ "type": 3, "name": "a", "description": "x".repeat(101) }])), "options"),
        (("GET", "/channels/7", json!({})), "no body"),
        (("GET", "/channels/seven", Value::Null), "there is no"),
        (("POST", "/channels/7/message", json!({ "content": "x" })), "there is no"),
    ];
    let with_description = faults("GET", "/no/such/thing", &Value::Null) != Vec::<String>::new();
    let mut missed = Vec::new();
    for ((method, path, body), expected) in table {
        let found = faults(method, path, &body);
        let told = found.iter().any(|fault| fault.contains(expected));
        if with_description && !told {
            missed.push(format!("{expected}: {found:?} in {method} {path} {body}"));
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn the_judge_lets_pass_what_discord_takes() {
    let before = openapi::judged();
    let embed = json!({ "title": "🎻".repeat(128), "url": "https://example.edu/a", "color": 255,
        "description": "x".repeat(4096), "fields": [{ "name": "When", "value": "<t:0:F>" }],
        "image": { "url": "https://example.edu/a.png" }, "footer": { "text": "x" } });
    let rows = json!([{ "type": 1, "components": [
        { "type": 2, "style": 5, "label": "Join", "url": "https://example.edu" },
        { "type": 2, "style": 2, "label": "Remind me", "custom_id": "remind:1" },
    ] }]);
    let (none, link) = (json!({ "parse": [] }), rows[0]["components"][0].clone());
    let token = openapi::INTERACTION_TOKEN;
    for (method, path, body) in [
        (
            "POST",
            "/api/v10/channels/7/messages".to_owned(),
            json!({ "content": "<@&5>", "embeds": [embed], "components": rows, "flags": 4096,
                "nonce": "0123456789abcdef012345678", "enforce_nonce": true,
                "allowed_mentions": { "parse": [], "roles": ["5"] } }),
        ),
        (
            "POST",
            "/channels/7/messages".to_owned(),
            json!({ "flags": 1 << 15, "components": [{ "type": 10, "content": "x" }] }),
        ),
        (
            "PATCH",
            "/channels/7/messages/8".to_owned(),
            json!({ "embeds": [embed], "components": [], "allowed_mentions": none }),
        ),
        ("DELETE", "/channels/7/messages/8".to_owned(), Value::Null),
        ("POST", "/channels/7/messages/8/crosspost".to_owned(), Value::Null),
        ("PUT", "/channels/7/messages/pins/8".to_owned(), Value::Null),
        (
            "POST",
            "/channels/7/messages/8/threads".to_owned(),
            json!({ "name": "Talk", "auto_archive_duration": 10080 }),
        ),
        (
            "POST",
            "/channels/7/threads".to_owned(),
            json!({ "name": "Talk", "applied_tags": ["1"], "message": { "embeds": [embed] } }),
        ),
        (
            "POST",
            "/webhooks/8/token?wait=true&with_components=true&thread_id=9".to_owned(),
            json!({ "embeds": [embed], "username": "Seminars",
                "avatar_url": "https://example.edu/a.png" }),
        ),
        (
            "PATCH",
            "/webhooks/8/token/messages/9?with_components=true".to_owned(),
            json!({ "embeds": [embed], "components": [{ "type": 1, "components": [link] }] }),
        ),
        (
            "POST",
            format!("/interactions/7/{token}/callback"),
            json!({ "type": 4, "data": { "content": "x", "flags": 64, "components": rows,
                "allowed_mentions": none } }),
        ),
        (
            "POST",
            format!("/webhooks/3/{token}"),
            json!({ "embeds": [embed], "components": rows, "flags": 64 }),
        ),
        (
            "PATCH",
            format!("/webhooks/3/{token}/messages/@original"),
            json!({ "embeds": [embed], "components": rows }),
        ),
        (
            "PUT",
            "/applications/3/guilds/5/commands".to_owned(),
            json!([{ "name": "next", "description": "The next event", "options": [
                { "type": 3, "name": "search", "description": "Words", "autocomplete": true },
            ] }]),
        ),
        (
            "POST",
            "/guilds/5/scheduled-events".to_owned(),
            json!({ "name": "Talk", "privacy_level": 2, "entity_type": 3, "channel_id": null,
                "scheduled_start_time": "2026-03-03T17:00:00Z",
                "scheduled_end_time": "2026-03-03T18:00:00Z",
                "entity_metadata": { "location": "Hall" } }),
        ),
        ("PATCH", "/guilds/5/scheduled-events/6".to_owned(), json!({ "status": 4 })),
    ] {
        let found = faults(method, &path, &body);
        assert_eq!(found, Vec::<String>::new(), "{method} {path}");
    }
    assert!(openapi::judged() >= before + 16);
}

/// What the stand-in is for.
#[test]
#[should_panic(expected = "Discord would not accept")]
fn a_bad_request_fails_the_test_that_makes_it() {
    let discord = DiscordStandIn::start();
    let mut stream = TcpStream::connect(discord.url().trim_start_matches("http://")).unwrap();
    let head = "POST /api/v10/channels/7/messages HTTP/1.1\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(format!("{head}{{}}").as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    drop(discord);
}

// ---- where messages go -------------------------------------------------------------------------

/// A watch, and one receiver with these keys.
fn place(discord: &str) -> World {
    World::with(&format!(
        r#"
        [feed.site]
        url = "feed.ics"
        settle = "0s"
        confirm = "0s"
        [[watch]]
        name = "all"
        feeds = ["site"]
        to = ["place"]
        [receiver.place.discord]
        {discord}
        "#
    ))
}

const TALK: &str = "CATEGORIES:Talks,Elsewhere\r\nURL:https://events.example.edu/talk\r\n";

fn talk(start: &str) -> String {
    event_with("talk@example.edu", "Light that waits", start, TALK)
}

fn cancelled(start: &str) -> String {
    let more = format!("{TALK}STATUS:CANCELLED\r\n");
    event_with("talk@example.edu", "Light that waits", start, &more)
}

/// The first poll tells nothing; the second finds the talk, the third finds it moved, the fourth
/// cancelled. `between` happens before each of the last two.
async fn three_news(world: &World, between: impl Fn(&DiscordStandIn)) {
    let pipeline = world.open("2026-03-01T08:00").await;
    world.feed(calendar(&[]));
    round(&pipeline, "2026-03-01T09:00").await;
    world.feed(calendar(&[talk("20260310T100000")]));
    round(&pipeline, "2026-03-02T09:00").await;
    between(&world.discord);
    world.feed(calendar(&[talk("20260311T100000")]));
    round(&pipeline, "2026-03-03T09:00").await;
    between(&world.discord);
    world.feed(calendar(&[cancelled("20260311T100000")]));
    round(&pipeline, "2026-03-04T09:00").await;
}

/// Where each message is, and what it says.
fn told(discord: &DiscordStandIn) -> Vec<String> {
    let messages = discord.messages().into_iter();
    messages.map(|message| format!("{} {}", message.channel, title(&message.body))).collect()
}

#[tokio::test]
async fn an_event_has_a_thread_of_its_own() {
    let world = place("channel = \"7\"\nthread_per_event = true");
    three_news(&world, |_| ()).await;
    let threads = world.discord.threads();
    let [thread] = threads.as_slice() else { panic!("{threads:?}") };
    assert_eq!(thread.name, "Light that waits");
    assert_eq!(
        told(&world.discord),
        [
            "7 New: Light that waits".to_owned(),
            format!("{} Rescheduled: Light that waits", thread.id),
            format!("{} Cancelled: Light that waits", thread.id),
        ]
    );
    assert_eq!(world.discord.messages()[0].id, thread.id, "it begins with the first message");
}

#[tokio::test]
async fn a_thread_is_called_what_its_event_is_called() {
    for on_change in ["both", "edit"] {
        for (kind, scripted) in [(0, false), (FORUM, false), (0, true)] {
            let mut world = place("channel = \"7\"\nthread_per_event = true");
            world.edit("name = \"all\"", &format!("name = \"all\"\non_change = \"{on_change}\""));
            world.discord.channel(7, "talks", kind);
            let pipeline = world.open("2026-03-01T08:00").await;
            world.feed(calendar(&[]));
            round(&pipeline, "2026-03-01T09:00").await;
            world.feed(calendar(&[talk("20260310T100000")]));
            round(&pipeline, "2026-03-02T09:00").await;
            let other = talk("20260311T100000").replace("that waits", "*that* does not wait");
            world.feed(calendar(&[other]));
            if scripted {
                world.discord.script([Answer::Normal, Answer::rate_limited(500.0, false)]);
            }
            round(&pipeline, "2026-03-03T09:00").await;
            let name = &world.discord.threads()[0].name;
            let told = rows(&pipeline, DeliveryState::Sent).await.len();
            let expected = if scripted { "Light that waits" } else { "Light *that* does not wait" };
            assert_eq!((name.as_str(), told), (expected, 2), "{on_change} {kind}");
        }
    }
}

/// What is archived is opened; what is locked or removed is let go, and the event gets a new one.
#[tokio::test]
async fn a_thread_that_is_closed_loses_no_news() {
    for (name, threads) in [("archived", 1), ("locked", 3), ("deleted", 3)] {
        let world = place("channel = \"7\"\nthread_per_event = true");
        three_news(&world, |discord| {
            let id = discord.threads().pop().unwrap().id;
            discord.change_thread(&id, |thread| match name {
                "archived" => thread.archived = true,
                "locked" => thread.locked = true,
                _ => thread.deleted = true,
            });
        })
        .await;
        assert_eq!(world.discord.messages().len(), 3, "{name}");
        assert_eq!(world.discord.threads().len(), threads, "{name}");
        let last = world.discord.threads().pop().unwrap();
        assert!(!last.archived, "{name}");
    }
}

#[tokio::test]
async fn a_thread_can_be_the_place_and_is_opened() {
    let world = place("channel = \"7\"");
    let archived = true;
    world.discord.add_thread(Thread { id: "7".to_owned(), archived, ..Thread::default() });
    three_news(&world, |_| ()).await;
    assert_eq!(world.discord.messages().len(), 3);
    assert!(!world.discord.threads()[0].archived);
}

#[tokio::test]
async fn a_forum_gets_posts_with_tags() {
    // A forum is found out, and told from other channels, without being told.
    for keys in ["thread_per_event = true", "tags = { Elsewhere = \"colloquium\" }", ""] {
        let world = place(&format!("channel = \"7\"\n{keys}"));
        world.discord.channel(7, "talks", FORUM);
        three_news(&world, |_| ()).await;
        let threads = world.discord.threads();
        let in_one = keys.starts_with("thread");
        assert_eq!(threads.len(), if in_one { 1 } else { 3 }, "{keys}");
        assert_eq!(threads[0].name, "Light that waits");
        let tags: &[&str] = if keys.starts_with("tags") { &["92", "91"] } else { &["91"] };
        assert_eq!(threads[0].tags, tags, "{keys}");
        assert_eq!(world.discord.messages().len(), 3);
        if in_one {
            let last = world.discord.messages().pop().unwrap();
            assert_eq!(last.channel, threads[0].id);
        }
    }
}

#[tokio::test]
async fn an_announcement_is_published() {
    let world = place("channel = \"7\"\ncrosspost = true");
    world.discord.channel(7, "news", ANNOUNCEMENT);
    three_news(&world, |_| ()).await;
    let posted: Vec<String> =
        world.discord.messages().iter().map(|message| format!("7/{}", message.id)).collect();
    assert_eq!(world.discord.published(), posted);
}

/// The message is there, its publication fails or is lost: only that is repeated, hours later too.
#[tokio::test]
async fn what_belongs_to_a_message_is_done_until_it_is_done() {
    let lost = || Answer::DoneThen(Box::new(Answer::html(502)));
    for (name, answers, published) in [
        ("fails for a while", vec![Answer::Normal, Answer::html(502), Answer::html(503)], 1),
        ("is done, but the answer lost", vec![Answer::Normal, lost()], 1),
        ("is refused", vec![Answer::Normal, Answer::error(400, 50024, "Cannot do that here")], 0),
    ] {
        let world = place("channel = \"7\"\ncrosspost = true");
        world.discord.set_nonce_window(std::time::Duration::ZERO);
        let pipeline = world.open("2026-03-01T08:00").await;
        world.feed(calendar(&[]));
        round(&pipeline, "2026-03-01T09:00").await;
        world.feed(calendar(&[talk("20260310T100000")]));
        world.discord.script(answers);
        round(&pipeline, "2026-03-02T09:00").await;
        drop(pipeline);
        let pipeline = world.open("2026-03-02T10:00").await;
        for hour in 10..14 {
            deliver(&pipeline, &format!("2026-03-02T{hour}:00")).await;
        }
        assert_eq!(world.discord.messages().len(), 1, "{name}");
        assert_eq!(world.discord.published().len(), published, "{name}");
        let sent = rows(&pipeline, DeliveryState::Sent).await;
        let id = world.discord.messages()[0].id.clone();
        assert_eq!(sent[0].remote_id.as_deref(), Some(format!("7/{id}").as_str()), "{name}");
    }
}

const HOOK_KEYS: &str = "webhook = { file = \"hook\" }";

fn hook(keys: &str) -> World {
    let world = place(&format!("{HOOK_KEYS}\n{keys}"));
    let url = "https://discord.com/api/webhooks/8/token";
    std::fs::write(world.path("hook"), url).unwrap();
    world
}

#[tokio::test]
async fn a_webhook_posts_under_another_name_into_a_thread() {
    let world =
        hook("thread = \"9\"\nusername = \"Seminars\"\navatar = \"https://example.edu/owl.png\"");
    three_news(&world, |_| ()).await;
    let messages = world.discord.messages();
    assert_eq!(messages.len(), 3);
    for message in messages {
        assert_eq!(message.channel, "9");
        assert_eq!(message.body["username"], "Seminars");
        assert_eq!(message.body["avatar_url"], "https://example.edu/owl.png");
    }
}

#[tokio::test]
async fn a_webhook_posts_into_a_forum() {
    for (keys, threads) in [("thread_per_event = true", 1), ("tags = { talks = \"91\" }", 3)] {
        let world = hook(keys);
        world.discord.channel(7, "talks", FORUM);
        three_news(&world, |_| ()).await;
        assert_eq!(world.discord.messages().len(), 3, "{keys}");
        assert_eq!(world.discord.threads().len(), threads, "{keys}");
        let tags: &[&str] = if threads == 3 { &["91"] } else { &[] };
        assert_eq!(world.discord.threads()[0].tags, tags, "{keys}");
    }
}

// ---- what they are ------------------------------------------------------------------------------

#[tokio::test]
async fn roles_are_called_and_the_night_is_quiet() {
    let mut world = place("channel = \"7\"\nquiet = \"22:00-07:00\"");
    world.edit(
        "name = \"all\"",
        "name = \"all\"\nping = { new = [\"5\"], cancelled = [\"6\", \"5\"] }",
    );
    let pipeline = world.open("2026-03-01T08:00").await;
    world.feed(calendar(&[]));
    round(&pipeline, "2026-03-01T09:00").await;
    world.feed(calendar(&[talk("20260310T100000")]));
    round(&pipeline, "2026-03-02T09:00").await;
    world.feed(calendar(&[talk("20260311T100000")]));
    round(&pipeline, "2026-03-03T23:00").await;
    world.feed(calendar(&[cancelled("20260311T100000")]));
    round(&pipeline, "2026-03-04T06:59").await;
    let said: Vec<(Value, Value)> = world
        .discord
        .messages()
        .iter()
        .map(|message| (message.body["content"].clone(), message.body["flags"].clone()))
        .collect();
    let expected = [
        (json!("<@&5>"), Value::Null),
        (Value::Null, json!(4096)),
        (json!("<@&5> <@&6>"), json!(4096)),
    ];
    assert_eq!(said, expected);
}

/// A week that takes several messages: each is sent once, in order, whatever happens to one.
#[tokio::test]
async fn a_long_digest_arrives_whole_and_in_order() {
    let answers = |at: usize, answer: Answer| {
        let mut answers = vec![Answer::Normal; at];
        answers.push(answer);
        answers
    };
    for (name, kind, answers) in [
        ("all goes well", 0, Vec::new()),
        ("the first fails", 0, answers(0, Answer::html(502))),
        ("the second is lost", 0, answers(1, Answer::lost())),
        ("the second must wait", 0, answers(1, Answer::rate_limited(60.0, false))),
        ("beadle dies before the first", 0, Vec::new()),
        ("all goes well in a forum", FORUM, Vec::new()),
        // The first post is refused, and after it is found out why the post is made anew.
        ("the second fails in a forum", FORUM, answers(3, Answer::html(502))),
    ] {
        let world = World::with(
            r#"
            [feed.site]
            url = "feed.ics"
            settle = "0s"
            [[watch]]
            name = "all"
            feeds = ["site"]
            announce = []
            [[digest]]
            name = "week"
            every = "Mon 08:00"
            watch = ["all"]
            to = ["channel"]
            [[digest]]
            name = "tomorrow"
            every = "Mon 08:00"
            ahead = "2d"
            watch = ["all"]
            to = ["channel"]
            [receiver.channel]
            discord = { channel = "7" }
            "#,
        );
        let talks: Vec<String> = (0..180)
            .map(|n| {
                let start =
                    format!("202603{:02}T{:02}{:02}00", 9 + n % 7, 8 + n / 14, n / 7 % 2 * 30);
                event(
                    &format!("{n}@example.edu"),
                    &format!("Talk {n} on a long and winding road"),
                    &start,
                )
            })
            .collect();
        world.feed(calendar(&talks));
        world.discord.channel(7, "talks", kind);
        let pipeline = world.open("2026-03-08T08:00").await;
        round(&pipeline, "2026-03-08T09:00").await;
        world.discord.script(answers);
        if name.starts_with("beadle dies") {
            pipeline.tick(at("2026-03-09T08:00")).await.unwrap();
            pipeline.claim(at("2026-03-09T08:00")).await.unwrap();
        } else {
            deliver(&pipeline, "2026-03-09T08:00").await;
        }
        drop(pipeline);
        let pipeline = world.open("2026-03-09T08:02").await;
        for minute in [2, 4, 6, 8] {
            deliver(&pipeline, &format!("2026-03-09T08:{minute:02}")).await;
        }
        let titles: Vec<String> =
            world.discord.messages().iter().map(|message| title(&message.body)).collect();
        let week: Vec<&String> = titles.iter().filter(|title| title.starts_with("Week")).collect();
        assert!(week.len() >= 3, "{name}: {titles:?}");
        for (at, title) in week.iter().enumerate() {
            let part = format!(" · {} of {}", at + 1, week.len());
            assert!(title.replace(" (late)", "").ends_with(&part), "{name}: {titles:?}");
        }
        let told = world.discord.messages().iter().map(|m| m.body.to_string()).collect::<String>();
        for n in 0..180 {
            assert!(told.contains(&format!("**Talk {n} on")), "{name}: {n}");
        }
        assert!(rows(&pipeline, DeliveryState::Pending).await.is_empty(), "{name}");
        // Of both digests the parts are in one post.
        let posts = if kind == FORUM { 2 } else { 0 };
        assert_eq!(world.discord.threads().len(), posts, "{name}: {:?}", world.discord.threads());
    }
}

/// What the operator revives of a message in parts is that part alone.
#[tokio::test]
async fn a_part_that_was_refused_is_sent_alone() {
    let world = World::with(
        r#"
        [feed.site]
        url = "feed.ics"
        settle = "0s"
        [[watch]]
        name = "all"
        feeds = ["site"]
        announce = []
        [[digest]]
        name = "week"
        every = "Mon 08:00"
        watch = ["all"]
        to = ["channel"]
        [receiver.channel]
        discord = { channel = "7" }
        "#,
    );
    let talk = |n: usize| {
        let start = format!("202603{:02}T{:02}0000", 9 + n % 7, 8 + n / 14);
        event(&format!("{n}@example.edu"), &format!("Talk {n} on a long and winding road"), &start)
    };
    world.feed(calendar(&(0..150).map(talk).collect::<Vec<_>>()));
    let pipeline = world.open("2026-03-08T08:00").await;
    round(&pipeline, "2026-03-08T09:00").await;
    let refused = || Answer::error(400, 50035, "Invalid Form Body");
    world.discord.script([refused(), refused()]);
    deliver(&pipeline, "2026-03-09T08:00").await;
    let before = world.posts();
    assert_eq!(rows(&pipeline, DeliveryState::Dead).await.len(), 2, "{before:?}");
    pipeline.store.intervene("", Happening::Revived, at("2026-03-09T08:00")).await.unwrap();
    deliver(&pipeline, "2026-03-09T08:00").await;
    let mut titles = world.posts();
    titles.sort();
    let week = "Week of Mon, Mar 9 – Sun, Mar 15, 2026";
    let count = titles.len();
    let expected: Vec<String> = (1..=count).map(|n| format!("{week} · {n} of {count}")).collect();
    assert_eq!(titles, expected);
    assert!(count >= 3);
}

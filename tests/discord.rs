//! Discord, end to end against the stand-in; and the judge of what it is told.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::discord::DiscordStandIn;
use support::openapi::{self, faults};

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

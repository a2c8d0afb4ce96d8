//! The notifiers against the wire: every answer a server can give, and what becomes of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beadle::calendar::{Event, EventKey, Recurrence, Status, Uid, When};
use beadle::config::secret::SecretSource;
use beadle::config::{Config, Email, EmailTarget, SmtpServer, Tls};
use beadle::notify::discord::Http;
use beadle::notify::email::{List, Office, Timeouts};
use beadle::notify::terminal::Terminal;
use beadle::notify::{self, DeliveryContext, Notifier, NotifyError, Payload, Receipt, Registry};
use beadle::plan::{Item, Kind, Notification, Reason};
use jiff::{Timestamp, civil};
use serde_json::json;
use support::discord::{Answer, DiscordStandIn, FORUM};
use support::smtp::{At, Fault, SmtpStandIn};

/// Values that must never be seen outside a request.
const TOKEN: &str = "CANARY.bot-token_1234567890";
const WEBHOOK_TOKEN: &str = "CANARY-webhook-token_1234567890";
const PASSWORD: &str = "CANARY password 1234567890";

const KEY: &str = "00112233445566778899aabbccddeeff";

// ---- what is sent ------------------------------------------------------------------------------

fn notification(titles: &[&str]) -> Notification {
    let start: Timestamp = "2026-03-03T17:00:00Z".parse().unwrap();
    let local = |hour| civil::date(2026, 3, 3).at(hour, 0, 0, 0);
    let when = |hour| When::Zoned { local: local(hour), zone: "America/New_York".to_owned() };
    let item = |(n, title): (usize, &&str)| Item {
        feed: "seas".to_owned(),
        feed_name: None,
        key: EventKey(format!("key-{n}")),
        reason: Reason::Upcoming,
        event: Event {
            uid: Uid(format!("uid-{n}")),
            recurrence_id: None,
            this_and_future: false,
            sequence: 0,
            status: Status::Confirmed,
            judged: None,
            start: when(12),
            end: when(13),
            summary: (*title).to_owned(),
            description: (*title).to_owned(),
            location: (*title).to_owned(),
            url: Some("https://events.example.edu/event/1".to_owned()),
            categories: Vec::new(),
            categories_raw: Vec::new(),
            organizer: None,
            image: None,
            page_image: None,
            join: None,
            recurrence: Recurrence::default(),
            created: None,
            last_modified: None,
        },
        before: None,
        start,
        end: start + jiff::SignedDuration::from_hours(1),
        start_before: None,
        end_before: None,
        series: false,
        revision: 0,
    };
    Notification {
        source: "weekly".to_owned(),
        kind: Kind::Digest { from: civil::date(2026, 3, 2), to: civil::date(2026, 3, 9) },
        zone: "America/New_York".to_owned(),
        items: titles.iter().enumerate().map(item).collect(),
        more: 0,
    }
}

fn delivery(address: &str) -> DeliveryContext {
    let planned_at = "2026-03-02T13:00:00Z".parse().unwrap();
    DeliveryContext {
        dedup_key: KEY.to_owned(),
        planned_at,
        due_at: planned_at,
        now: planned_at,
        address: address.to_owned(),
        thread: None,
        first_part: None,
        posted: None,
        twin: false,
        reply_to: None,
    }
}

// ---- how it is set up --------------------------------------------------------------------------

/// A folder with the secrets, and a configuration that reads them.
struct Setup {
    folder: tempfile::TempDir,
    config: Config,
}

impl Setup {
    fn new(api_url: &str) -> Setup {
        Setup::with(api_url, |text| text)
    }

    /// `change` is made to the text of the configuration.
    fn with(api_url: &str, change: impl FnOnce(String) -> String) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let webhook = format!("https://discord.com/api/webhooks/8/{WEBHOOK_TOKEN}");
        for (name, value) in [("token", TOKEN), ("webhook", &webhook), ("password", PASSWORD)] {
            std::fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
        }
        let text = format!(
            r#"
            timezone = "UTC"

            [feed.seas]
            url = "https://events.example.edu/?ical=1"

            [[watch]]
            name = "all"
            feeds = ["seas"]
            to = ["channel", "webhook", "list"]

            [receiver.channel]
            discord = {{ channel = "7" }}

            [receiver.webhook]
            discord = {{ webhook = {{ file = "webhook" }} }}

            [receiver.list]
            email = {{ to = ["ann@example.edu", "bob@example.edu"] }}
            terminal = true

            [discord]
            token = {{ file = "token" }}
            api_url = "{api_url}"

            [email]
            from = "Beadle <beadle@example.edu>"
            folder = "outgoing"
            "#
        );
        let path = folder.path().join("config.toml");
        let config = Config::parse(&change(text), &path).unwrap();
        Setup { folder, config }
    }

    fn registry(&self) -> Registry {
        self.registry_within(Duration::from_secs(60))
    }

    fn registry_within(&self, timeout: Duration) -> Registry {
        notify::build(&self.config, &Http::new(timeout).unwrap()).unwrap()
    }
}

fn email(folder: Option<PathBuf>, server: Option<SmtpServer>) -> Email {
    Email {
        from: "Beadle the announcer <beadle@example.edu>".to_owned(),
        reply_to: Some("people@example.edu".to_owned()),
        list_domain: None,
        folder,
        server,
    }
}

fn server(stand_in: &SmtpStandIn) -> SmtpServer {
    SmtpServer {
        host: stand_in.host(),
        port: stand_in.port(),
        tls: Tls::None,
        username: None,
        password: None,
    }
}

/// Short limits, so that a silent server does not make a test slow; yet longer than a server that is
/// not silent takes on a machine with other things to do.
const HASTY: Timeouts = Timeouts {
    connect: Duration::from_millis(1500),
    command: Duration::from_millis(1500),
    content: Duration::from_millis(1500),
};

const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(60),
    command: Duration::from_secs(60),
    content: Duration::from_secs(60),
};

fn list(email: &Email, timeouts: Timeouts) -> List {
    List::new(Arc::new(Office::new(email, timeouts).unwrap()), "Seminar list", false)
}

async fn send_to(
    notifier: &dyn Notifier,
    address: &str,
    titles: &[&str],
) -> Result<Receipt, NotifyError> {
    let delivery = delivery(address);
    let payload = notifier.render(&notification(titles), &delivery).remove(0);
    notifier.send(&payload, &delivery).await
}

/// The class of an outcome, with the server's wish in milliseconds.
fn class(outcome: &Result<Receipt, NotifyError>) -> String {
    let wish = |name: &str, after: &Option<Duration>| match after {
        Some(after) => format!("{name} {}", after.as_millis()),
        None => name.to_owned(),
    };
    match outcome {
        Ok(receipt) if receipt.remote_id.is_empty() => "sent".to_owned(),
        Ok(_) => "sent with id".to_owned(),
        Err(NotifyError::Retry { after, .. }) => wish("retry", after),
        Err(NotifyError::Rest { after, .. }) => wish("rest", &Some(*after)),
        Err(NotifyError::Uncertain { after, .. }) => wish("uncertain", after),
        Err(NotifyError::Unfinished { after, .. }) => wish("unfinished", after),
        Err(NotifyError::Permanent { .. }) => "permanent".to_owned(),
        Err(NotifyError::ReceiverGone { .. }) => "gone".to_owned(),
    }
}

fn assert_no_secret(text: &str) {
    assert!(!text.contains("CANARY"), "a secret is shown: {text}");
}

// ---- Discord -----------------------------------------------------------------------------------

/// Every answer, to the bot and to the webhook; a class with a slash differs between the two.
#[tokio::test]
async fn every_answer_of_discord_has_its_class() {
    // The secret in question comes back in what is said; see below.
    let error = |status, code| Answer::error(status, code, "said of SECRET");
    let retry_after = |status, seconds: &str| Answer::Status {
        status,
        headers: vec![("retry-after".to_owned(), seconds.to_owned())],
        body: String::new(),
    };
    let table = [
        (Answer::Normal, "sent with id"),
        (Answer::json(200, json!({ "no": "id" })), "sent"),
        (Answer::html(200), "sent"),
        (Answer::CutBody, "sent"),
        (Answer::json(204, json!(null)), "sent"),
        // Deleted while its nonce was still known.
        (error(404, 10008), "sent"),
        (Answer::html(301), "gone"),
        (error(400, 50035), "permanent"),
        (error(400, 50006), "permanent"),
        (error(400, 0), "permanent"),
        (Answer::html(400), "permanent"),
        (error(400, 240_000), "permanent"),
        (error(400, 200_000), "permanent"),
        (error(403, 200_001), "permanent"),
        (error(400, 40067), "permanent"),
        (error(400, 30003), "permanent"),
        (error(400, 20031), "permanent"),
        (error(400, 40004), "retry"),
        (error(400, 160_006), "gone"),
        (error(403, 50009), "gone"),
        (error(403, 60003), "gone"),
        (error(400, 160_002), "gone"),
        (error(400, 50024), "gone"),
        (error(400, 50008), "gone"),
        (error(400, 40058), "gone"),
        (error(400, 50083), "gone"),
        (error(400, 160_005), "gone"),
        (error(400, 220_001), "gone"),
        (error(400, 20028), "retry"),
        (error(401, 0), "gone"),
        (error(401, 50027), "gone"),
        (Answer::html(401), "gone"),
        (error(403, 50001), "gone"),
        (error(403, 50013), "gone"),
        (error(403, 50007), "gone"),
        (error(403, 40333), "gone"),
        (Answer::html(403), "gone"),
        (error(404, 10003), "gone"),
        (error(404, 10004), "gone"),
        (error(404, 10015), "gone"),
        (Answer::html(404), "gone"),
        (Answer::html(405), "permanent"),
        (Answer::html(408), "uncertain"),
        (error(410, 0), "gone"),
        (error(413, 40005), "permanent"),
        (Answer::html(413), "permanent"),
        (Answer::html(500), "uncertain"),
        (error(500, 130_000), "uncertain"),
        (Answer::html(502), "uncertain"),
        (retry_after(503, "7"), "uncertain 7000"),
        (Answer::html(504), "uncertain"),
        (Answer::html(520), "uncertain"),
        (Answer::Drop, "uncertain"),
        (Answer::lost(), "uncertain"),
        (Answer::rate_limited(0.25, false), "retry 250"),
        (Answer::rate_limited(1.5, true), "retry 1500"),
        (retry_after(429, "60"), "retry 60000"),
        (retry_after(429, "-1"), "retry"),
        (retry_after(429, "Tue, 03 Mar 2026 12:00:00 GMT"), "retry"),
        (Answer::html(429), "retry"),
        (Answer::json(429, json!({ "retry_after": 1e300 })), "retry"),
        (Answer::json(429, json!({ "retry_after": 1e9 })), "retry 86400000"),
        (Answer::json(429, json!({ "retry_after": "soon" })), "retry"),
    ];
    for (answer, expected) in table {
        for (endpoint, secret) in [("channel/discord", TOKEN), ("webhook/discord", WEBHOOK_TOKEN)] {
            let discord = DiscordStandIn::start();
            let setup = Setup::new(&discord.url());
            let registry = setup.registry();
            let mut answer = answer.clone();
            if let Answer::Status { body, .. } = &mut answer {
                *body = body.replace("SECRET", secret);
            }
            discord.script([answer.clone()]);
            let notifier = &registry.get(endpoint).unwrap().notifier;
            let outcome = send_to(notifier.as_ref(), "", &["Talk"]).await;
            assert_eq!(class(&outcome), expected, "{endpoint}: {answer:?} became {outcome:?}");
            // Another kind of channel wants another kind of request.
            let kinds: &[&str] = match endpoint {
                "channel/discord" => &["50008", "40058", "50083"],
                _ => &["220001"],
            };
            let said = format!("{answer:?}");
            let twice = kinds.iter().any(|code| said.contains(&format!("\\\"code\\\":{code},")));
            let requests = if twice { 2 } else { 1 };
            assert_eq!(discord.requests().len(), requests, "one attempt: {answer:?}");
            assert_no_secret(&format!("{outcome:?}"));
            if let Err(error) = outcome {
                assert_no_secret(&error.to_string());
            }
        }
    }
}

#[tokio::test]
async fn no_answer_and_no_connection_are_told_apart() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry_within(Duration::from_millis(1500));
    discord.script([Answer::Silence]);
    let notifier = &registry.get("channel/discord").unwrap().notifier;
    let outcome = send_to(notifier.as_ref(), "", &["Talk"]).await;
    assert_eq!(class(&outcome), "uncertain", "{outcome:?}");

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new(&format!("http://{port}"));
    for endpoint in ["channel/discord", "webhook/discord"] {
        let registry = setup.registry();
        let notifier = &registry.get(endpoint).unwrap().notifier;
        let outcome = send_to(notifier.as_ref(), "", &["Talk"]).await;
        assert_eq!(class(&outcome), "retry", "{outcome:?}");
        assert_no_secret(&format!("{outcome:?}"));
    }
}

#[tokio::test]
async fn the_operator_is_told_what_to_do() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let notifier = &registry.get("channel/discord").unwrap().notifier;
    discord.script([Answer::error(403, 50001, "Missing Access")]);
    insta::assert_snapshot!(
        send_to(notifier.as_ref(), "", &["Talk"]).await.unwrap_err(),
        @"the bot is not in the server or may not see the channel: invite it, and give it View Channel and Send Messages (HTTP 403, 50001 Missing Access)"
    );
    discord.script([Answer::error(400, 40067, "A tag is required")]);
    insta::assert_snapshot!(
        send_to(notifier.as_ref(), "", &["Talk"]).await.unwrap_err(),
        @"the forum wants a tag with every post: name one for each category under `tags`, or take the requirement out of the forum's settings (HTTP 400, 40067 A tag is required)"
    );
    std::fs::remove_file(setup.folder.path().join("token")).unwrap();
    let outcome = send_to(notifier.as_ref(), "", &["Talk"]).await;
    assert_eq!(class(&outcome), "gone", "{outcome:?}");
}

#[tokio::test]
async fn a_request_is_what_discord_asks_for() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    for endpoint in ["channel/discord", "webhook/discord"] {
        let notifier = &registry.get(endpoint).unwrap().notifier;
        let receipt = send_to(notifier.as_ref(), "", &["Talk"]).await.unwrap();
        let (_, message) = receipt.remote_id.split_once('/').unwrap();
        assert_eq!(message, discord.messages().last().unwrap().id);
    }
    let requests = discord.requests();
    let [bot, webhook] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((bot.method.as_str(), bot.path.as_str()), ("POST", "/api/v10/channels/7/messages"));
    assert_eq!(bot.headers["authorization"], format!("Bot {TOKEN}"));
    assert_eq!(bot.json["enforce_nonce"], true);
    let with = "?wait=true&with_components=true";
    assert_eq!(webhook.path, format!("/api/v10/webhooks/8/{WEBHOOK_TOKEN}{with}"));
    assert!(!webhook.headers.contains_key("authorization"), "the bot's token is not for webhooks");
    assert!(webhook.json.get("nonce").is_none() && webhook.json.get("enforce_nonce").is_none());
    for request in [bot, webhook] {
        assert!(request.headers["user-agent"].starts_with("DiscordBot ("));
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.json["allowed_mentions"]["parse"], json!([]));
    }
}

/// The reply is lost, the message is not: sent again with its nonce, it is there once.
#[tokio::test]
async fn a_nonce_makes_a_repeat_harmless() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let notifier = &registry.get("channel/discord").unwrap().notifier;
    discord.script([Answer::lost(), Answer::DoneThen(Box::new(Answer::html(502)))]);
    for expected in ["uncertain", "uncertain", "sent with id"] {
        let outcome = send_to(notifier.as_ref(), "", &["Talk"]).await;
        assert_eq!(class(&outcome), expected, "{outcome:?}");
    }
    assert_eq!(discord.messages().len(), 1);
    discord.set_nonce_window(Duration::ZERO);
    send_to(notifier.as_ref(), "", &["Talk"]).await.unwrap();
    assert_eq!(discord.messages().len(), 2, "a nonce is not remembered for ever");
}

#[tokio::test]
async fn a_used_up_limit_costs_no_request() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let channel = &registry.get("channel/discord").unwrap().notifier;
    let webhook = &registry.get("webhook/discord").unwrap().notifier;
    discord.script([Answer::bucket(1, 0.3), Answer::bucket(0, 0.3), Answer::bucket(0, 60.0)]);
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        send_to(channel.as_ref(), "", &["Talk"]).await.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "a short wait is waited for");
    let outcome = send_to(channel.as_ref(), "", &["Talk"]).await;
    assert!(
        matches!(outcome, Err(NotifyError::Retry { after: Some(wait), .. }) if wait.as_secs() > 50),
        "{outcome:?}"
    );
    assert_eq!(discord.requests().len(), 3, "the fourth was not made");
    send_to(webhook.as_ref(), "", &["Talk"]).await.unwrap();

    let registry = setup.registry();
    let notifier = |endpoint| registry.configured(endpoint).unwrap().notifier.as_ref();
    discord.script([Answer::rate_limited(60.0, true)]);
    let outcome = send_to(notifier("channel/discord"), "", &["Talk"]).await;
    assert_eq!(class(&outcome), "retry 60000");
    let made = discord.requests().len();
    let outcome = send_to(notifier("channel/discord"), "", &["Talk"]).await;
    assert!(matches!(outcome, Err(NotifyError::Retry { after: Some(_), .. })), "{outcome:?}");
    assert_eq!(discord.requests().len(), made, "a global limit closes all of the bot");
    send_to(notifier("webhook/discord"), "", &["Talk"]).await.unwrap();
}

/// Each further request with a token that was refused counts towards being shut out.
#[tokio::test]
async fn a_token_that_was_refused_is_not_used_again() {
    let discord = DiscordStandIn::start();
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let notifier = registry.configured("channel/discord").unwrap().notifier.as_ref();
    discord.script([Answer::error(401, 0, "401: Unauthorized")]);
    for _ in 0..3 {
        assert_eq!(class(&send_to(notifier, "", &["Talk"]).await), "gone");
    }
    assert_eq!(discord.requests().len(), 1);
    let webhook = registry.configured("webhook/discord").unwrap().notifier.as_ref();
    send_to(webhook, "", &["Talk"]).await.unwrap();
    std::fs::write(setup.folder.path().join("token"), "CANARY.another").unwrap();
    send_to(notifier, "", &["Talk"]).await.unwrap();
}

#[tokio::test]
async fn discord_is_checked_without_a_message() {
    let discord = DiscordStandIn::start();
    discord.channel(7, "seminars", 0);
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let channel = &registry.get("channel/discord").unwrap().notifier;
    let webhook = &registry.get("webhook/discord").unwrap().notifier;
    assert_eq!(channel.check().await.unwrap(), "channel #seminars");
    assert_eq!(webhook.check().await.unwrap(), "webhook Beadle");
    let paths: Vec<String> = discord.requests().into_iter().map(|r| r.path).collect();
    let hook = format!("/api/v10/webhooks/8/{WEBHOOK_TOKEN}");
    assert_eq!(paths, ["/api/v10/users/@me", "/api/v10/channels/7", hook.as_str()]);

    for (name, kind, described) in
        [("questions", FORUM, "forum #questions"), ("Optics", 11, "thread #Optics")]
    {
        discord.channel(7, name, kind);
        assert_eq!(channel.check().await.unwrap(), described);
    }
    discord.channel(7, "talks", 4);
    assert!(matches!(channel.check().await, Err(NotifyError::ReceiverGone { .. })), "a category");
    for (answers, expected) in [
        (vec![Answer::error(401, 0, "401: Unauthorized")], "gone"),
        (vec![Answer::Normal, Answer::error(403, 50001, "Missing Access")], "gone"),
        (vec![Answer::Normal, Answer::error(404, 10003, "Unknown Channel")], "gone"),
        (vec![Answer::html(502)], "retry"),
        (vec![Answer::Normal, Answer::Drop], "retry"),
    ] {
        discord.script(answers.clone());
        let registry = setup.registry();
        let channel = &registry.get("channel/discord").unwrap().notifier;
        let outcome = channel.check().await.map(|_| Receipt { remote_id: String::new() });
        assert_eq!(class(&outcome), expected, "{answers:?}");
    }
    assert!(discord.messages().is_empty());
}

/// Text that tries everything.
const HOSTILE: &[&str] = &[
    "@everyone <@&1> <@1> <#1> </x:1> [a](https://evil.example) ||x|| ```\u{202e}",
    "a\r\nBcc: victim@example.net\r\n\r\n<script>alert(1)</script>\u{0}\u{1b}[2J",
    "",
    " ",
    "é\u{2028}漢字 👩‍👩‍👧 =?utf-8?b?QQ==?= \"quoted\" <a@b> ,;:\\",
];

/// The stand-in judges each.
#[tokio::test]
async fn every_message_is_one_that_discord_takes() {
    let discord = DiscordStandIn::start();
    discord.set_nonce_window(Duration::ZERO);
    let setup = Setup::new(&discord.url());
    let registry = setup.registry();
    let long = "x".repeat(5000);
    let many = vec!["Talk"; 40];
    let cases: [&[&str]; 4] = [&["Talk"], HOSTILE, &[&long], &many];
    for endpoint in ["channel/discord", "webhook/discord"] {
        let notifier = &registry.get(endpoint).unwrap().notifier;
        for titles in cases {
            send_to(notifier.as_ref(), "", titles).await.unwrap();
        }
    }
    assert_eq!(discord.messages().len(), 8);
}

// ---- mail --------------------------------------------------------------------------------------

/// Headers by lower-case name, unfolded; then the parts' types and decoded texts.
fn read_mail(data: &str) -> (BTreeMap<String, String>, Vec<(String, String)>) {
    let (headers, body) = read_headers(data);
    let kind = &headers["content-type"];
    let boundary = kind.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(body.trim_end().ends_with(&format!("--{boundary}--")), "closed: {body}");
    let parts = body
        .split(&format!("--{boundary}"))
        .skip(1)
        .filter(|part| !part.starts_with("--"))
        .map(|part| {
            let (headers, body) = read_headers(part.trim_start_matches("\r\n"));
            assert_eq!(headers["content-transfer-encoding"], "quoted-printable");
            let mode = quoted_printable::ParseMode::Strict;
            let text = quoted_printable::decode(body.trim_end_matches("\r\n"), mode).unwrap();
            (headers["content-type"].clone(), String::from_utf8(text).unwrap())
        })
        .collect();
    (headers, parts)
}

fn read_headers(data: &str) -> (BTreeMap<String, String>, &str) {
    let (head, body) = data.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (headers.collect(), body)
}

#[tokio::test]
async fn a_mail_arrives_as_it_should() {
    let smtp = SmtpStandIn::start();
    let list = list(&email(None, Some(server(&smtp))), PATIENT);
    let receipt = send_to(&list, "ann@example.edu", &["Robots & <people>\n.\nmore"]).await.unwrap();
    assert_eq!(receipt.remote_id, "250 2.0.0 Ok: queued as 4F1A");
    let mails = smtp.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!(mail.from, "beadle@example.edu");
    assert_eq!(mail.to, ["ann@example.edu"]);
    assert!(mail.data.is_ascii());
    let (headers, parts) = read_mail(&mail.data);
    let expected = [
        ("from", "Beadle the announcer <beadle@example.edu>"),
        ("to", "ann@example.edu"),
        ("reply-to", "people@example.edu"),
        ("date", "Mon, 02 Mar 2026 13:00:00 +0000"),
        ("message-id", "<00112233445566778899aabbccddeeff@example.edu>"),
        ("list-id", "<seminar-list.example.edu>"),
        ("auto-submitted", "auto-generated"),
        ("x-auto-response-suppress", "All"),
        ("precedence", "bulk"),
        ("mime-version", "1.0"),
    ];
    for (name, value) in expected {
        let found = headers.get(name).map(|value| value.replace('"', ""));
        assert_eq!(found.as_deref(), Some(value), "{name}");
    }
    assert!(headers["content-type"].starts_with("multipart/alternative;"));
    assert!(!headers["subject"].is_empty());
    let kinds: Vec<&str> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain; charset=utf-8", "text/html; charset=utf-8"], "plain first");
    assert!(parts[0].1.contains("Robots & <people>"), "{}", parts[0].1);
    assert!(!parts[1].1.contains("<people>"), "{}", parts[1].1);
}

#[tokio::test]
async fn the_same_delivery_has_the_same_bytes() {
    let smtp = SmtpStandIn::start();
    let list = list(&email(None, Some(server(&smtp))), PATIENT);
    for _ in 0..2 {
        send_to(&list, "ann@example.edu", HOSTILE).await.unwrap();
    }
    let mails = smtp.mails();
    assert_eq!(mails[0].data, mails[1].data);
}

/// lettre panics on some of these; none may add a header either.
#[test]
fn hostile_text_stays_inside_its_header() {
    let controls: String =
        (0..0xa0).filter_map(char::from_u32).filter(|c| c.is_control()).collect();
    let bidi = "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{061c}\u{2028}\u{2029}\u{feff}";
    let bad = format!("a\r\nX-Evil: 1\r\n\r\nb\n\u{0}{controls}{bidi}=?utf-8?q?=0d=0a?=\"<>,;");
    let plain = list(&email(Some("unused".into()), None), PATIENT);
    let usual = plain.render(&notification(&["Talk"]), &delivery("ann@example.edu")).remove(0);
    let (usual, _) = read_mail(&usual.0);

    let mut titles: Vec<&str> = HOSTILE.to_vec();
    titles.push(&bad);
    for title in titles {
        let mut evil = notification(&[title]);
        evil.source = title.to_owned();
        let email = Email {
            from: format!("{} <beadle@example.edu>", title.replace(['<', '>', '"', ','], "")),
            list_domain: Some(title.to_owned()),
            ..email(Some("unused".into()), None)
        };
        // An address that cannot be read is an error, not a panic.
        let Ok(office) = Office::new(&email, PATIENT) else { continue };
        let list = List::new(Arc::new(office), title, false);
        let payload = list.render(&evil, &delivery("ann@example.edu")).remove(0);
        let (headers, parts) = read_mail(&payload.0);
        assert!(headers.keys().eq(usual.keys()), "{title:?} made {:?}", headers.keys());
        assert_eq!(parts.len(), 2, "{title:?}");
        for unfit in bidi.chars() {
            assert!(!payload.0.contains(unfit));
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_mail_panic(title in ".*", name in ".*", address in ".*") {
        let mut notification = notification(&[&title]);
        notification.source = name.clone();
        let email = Email {
            from: format!("{name} <beadle@example.edu>"),
            ..email(Some("unused".into()), None)
        };
        let office = Office::new(&email, PATIENT)
            .or_else(|_| Office::new(&self::email(Some("unused".into()), None), PATIENT));
        let list = List::new(Arc::new(office.unwrap()), &name, false);
        let payload = list.render(&notification, &delivery(&address)).remove(0);
        let (_, parts) = read_mail(&payload.0);
        proptest::prop_assert_eq!(parts.len(), 2);
    }
}

#[tokio::test]
async fn every_answer_of_a_mail_server_has_its_class() {
    let reply = Fault::reply;
    let table = [
        (At::Greeting, reply("421 4.3.2 shutting down"), "retry", 0),
        (At::Greeting, reply("554 5.7.1 no service here"), "gone", 0),
        (At::Greeting, reply("SSH-2.0-OpenSSH"), "retry", 0),
        (At::Greeting, Fault::Cut, "retry", 0),
        (At::Greeting, Fault::Silence, "retry", 0),
        (At::Ehlo, reply("451 4.0.0 later"), "retry", 0),
        (At::Ehlo, Fault::Cut, "retry", 0),
        (At::Mail, reply("451 4.7.1 later"), "retry", 0),
        (At::Mail, reply("530 5.7.0 log in first"), "gone", 0),
        (At::Mail, reply("550 5.7.1 sender not allowed"), "permanent", 0),
        (At::Mail, reply("552 5.3.4 too large"), "permanent", 0),
        (At::Rcpt, reply("450 4.2.0 greylisted"), "retry", 0),
        (At::Rcpt, reply("550 5.1.1 no such user"), "permanent", 0),
        (At::Rcpt, Fault::Cut, "retry", 0),
        (At::Rcpt, Fault::Silence, "retry", 0),
        (At::Data, reply("421 4.3.2 shutting down"), "retry", 0),
        (At::Data, reply("554 5.5.1 no"), "permanent", 0),
        (At::Data, Fault::Silence, "retry", 0),
        (At::Dot, reply("452 4.3.1 full"), "retry", 0),
        (At::Dot, reply("554 5.6.0 looks like spam"), "permanent", 0),
        (At::Dot, reply("what?"), "uncertain 600000", 0),
        (At::Dot, Fault::Cut, "uncertain 600000", 0),
        (At::Dot, Fault::KeepThenCut, "uncertain 600000", 1),
        (At::Dot, Fault::Silence, "uncertain 600000", 1),
    ];
    for (at, fault, expected, kept) in table {
        let smtp = SmtpStandIn::start();
        let hasty = matches!(fault, Fault::Silence);
        let list = list(&email(None, Some(server(&smtp))), if hasty { HASTY } else { PATIENT });
        smtp.script(at, fault.clone());
        let outcome = send_to(&list, "ann@example.edu", &["Talk"]).await;
        assert_eq!(class(&outcome), expected, "{at:?} {fault:?} became {outcome:?}");
        assert_eq!(smtp.mails().len(), kept, "{at:?} {fault:?}");
        // The fault is over, and so is its connection.
        send_to(&list, "ann@example.edu", &["Talk"]).await.unwrap();
    }
}

#[tokio::test]
async fn each_recipient_stands_alone() {
    let smtp = SmtpStandIn::start();
    smtp.refuse("bad@example.edu", "550 5.1.1 no such user");
    let list = list(&email(None, Some(server(&smtp))), PATIENT);
    for (address, expected) in [
        ("ann@example.edu", "sent with id"),
        ("bad@example.edu", "permanent"),
        ("bob@example.edu", "sent with id"),
        ("no address", "permanent"),
        ("jörg@example.edu", "permanent"),
    ] {
        let outcome = send_to(&list, address, &["Talk"]).await;
        assert_eq!(class(&outcome), expected, "{address}: {outcome:?}");
    }
    let recipients: Vec<Vec<String>> = smtp.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(recipients, [["ann@example.edu"], ["bob@example.edu"]]);
}

#[tokio::test]
async fn a_connection_serves_many_messages_and_is_checked_first() {
    let smtp = SmtpStandIn::start();
    let list = list(&email(None, Some(server(&smtp))), PATIENT);
    for _ in 0..3 {
        send_to(&list, "ann@example.edu", &["Talk"]).await.unwrap();
    }
    // The server has hung up meanwhile: nothing is lost by it, and no attempt either.
    for fault in [Fault::Cut, Fault::reply("421 4.4.2 idle too long")] {
        smtp.script(At::Rset, fault);
        send_to(&list, "ann@example.edu", &["Talk"]).await.unwrap();
    }
    let connections: Vec<usize> = smtp.mails().iter().map(|mail| mail.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1, 2]);
}

#[tokio::test]
async fn a_login_is_given_and_kept_secret() {
    let setup = Setup::new("https://discord.com");
    let password = |name: &str| Some(SecretSource::File(setup.folder.path().join(name)));
    let smtp = SmtpStandIn::start();
    smtp.require_login("beadle", PASSWORD);
    std::fs::write(setup.folder.path().join("wrong"), "CANARY wrong").unwrap();
    let with = |username: Option<&str>, password| SmtpServer {
        username: username.map(str::to_owned),
        password,
        ..server(&smtp)
    };
    let table = [
        (with(Some("beadle"), password("password")), "sent with id"),
        (with(None, None), "gone"),
        (with(Some("beadle"), password("wrong")), "gone"),
        (with(Some("beadle"), password("absent")), "gone"),
        (with(Some("beadle"), None), "gone"),
    ];
    for (server, expected) in table {
        let list = list(&email(None, Some(server)), PATIENT);
        let outcome = send_to(&list, "ann@example.edu", &["Talk"]).await;
        assert_eq!(class(&outcome), expected, "{outcome:?}");
        // The stand-in quotes the command it refuses, as some servers do.
        let refused = smtp.commands();
        let quoted: Vec<&str> =
            refused.iter().filter_map(|line| line.strip_prefix("AUTH PLAIN ")).collect();
        for text in [format!("{outcome:?}"), format!("{list:?}")] {
            assert_no_secret(&text);
            assert!(quoted.iter().all(|quoted| !text.contains(quoted)), "{text}");
        }
    }
    smtp.script(At::Auth, Fault::reply("454 4.7.0 try again later"));
    let list = list(&email(None, Some(with(Some("beadle"), password("password")))), PATIENT);
    assert_eq!(class(&send_to(&list, "ann@example.edu", &["Talk"]).await), "retry");
}

#[tokio::test]
async fn a_mail_server_is_checked_as_far_as_the_login() {
    let setup = Setup::new("https://discord.com");
    let smtp = SmtpStandIn::start();
    smtp.require_login("beadle", PASSWORD);
    let server = SmtpServer {
        username: Some("beadle".to_owned()),
        password: Some(SecretSource::File(setup.folder.path().join("password"))),
        ..server(&smtp)
    };
    let checked = list(&email(None, Some(server.clone())), PATIENT).check().await.unwrap();
    let place = format!("mail server 127.0.0.1:{}", smtp.port());
    assert_eq!(checked, format!("{place}, not encrypted, logged in as beadle"));
    assert!(smtp.mails().is_empty());
    assert!(smtp.commands().iter().any(|line| line == "QUIT"));

    // Encryption that was asked for and is not to be had: nothing is sent.
    let wanting = |tls| list(&email(None, Some(SmtpServer { tls, ..server.clone() })), PATIENT);
    let error = wanting(Tls::StartTls).check().await.unwrap_err();
    assert!(matches!(error, NotifyError::ReceiverGone { .. }), "{error:?}");
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    smtp.offer_starttls();
    let error = wanting(Tls::StartTls).check().await.unwrap_err();
    assert!(matches!(error, NotifyError::Retry { .. }), "454 is for a while: {error:?}");
    let error = wanting(Tls::Implicit).check().await.unwrap_err();
    assert!(matches!(error, NotifyError::Retry { .. }), "no TLS spoken there: {error:?}");
    let logins = smtp.commands().iter().filter(|line| line.starts_with("AUTH")).count();
    assert_eq!(logins, 1, "only the first check, which wanted no encryption");
}

#[tokio::test]
async fn a_folder_holds_each_mail_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("out");
    let list = list(&email(Some(place.clone()), None), PATIENT);
    assert!(list.check().await.unwrap().starts_with("folder "));
    let title = "Über Roboter: ../../etc/passwd – the whole story";
    for _ in 0..2 {
        send_to(&list, "ann@example.edu", &[title]).await.unwrap();
    }
    let mut names: Vec<String> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let [eml, html] = names.as_slice() else { panic!("{names:?}") };
    assert!(eml.starts_with("2026-03-02-") && eml.ends_with("-00112233.eml"), "{eml}");
    assert_eq!(*html, eml.replace(".eml", ".html"));
    let payload = list.render(&notification(&[title]), &delivery("ann@example.edu")).remove(0);
    let written = std::fs::read_to_string(place.join(eml)).unwrap();
    assert_eq!(written, payload.0);
    let (_, parts) = read_mail(&written);
    let html = std::fs::read_to_string(place.join(html)).unwrap();
    assert_eq!(html.trim_end(), parts[1].1.trim_end());
    assert!(html.contains("Über Roboter"), "{html}");

    // Where no folder can be, a mail waits.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let nowhere = self::list(&email(Some(file), None), PATIENT);
    assert_eq!(class(&send_to(&nowhere, "ann@example.edu", &["Talk"]).await), "retry");
    assert!(matches!(nowhere.check().await, Err(NotifyError::ReceiverGone { .. })));
}

#[tokio::test]
async fn with_a_server_the_folder_is_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let smtp = SmtpStandIn::start();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (copies, kept) in [(folder.path().join("out"), true), (file, false)] {
        let list = list(&email(Some(copies.clone()), Some(server(&smtp))), PATIENT);
        let receipt = send_to(&list, "ann@example.edu", &["Talk"]).await.unwrap();
        assert!(receipt.remote_id.starts_with("250"), "the server decides");
        assert_eq!(copies.is_dir(), kept);
    }
    assert_eq!(smtp.mails().len(), 2);
}

// ---- terminal ----------------------------------------------------------------------------------

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct BrokenPipe;

impl Write for BrokenPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_terminal_shows_the_text_or_waits() {
    let page = Page::default();
    let terminal = Terminal::new(Box::new(page.clone()), false, false);
    let payload = Payload("one\ntwo\n".to_owned());
    let receipt = terminal.send(&payload, &delivery("")).await;
    assert_eq!(class(&receipt), "sent");
    assert_eq!(*page.0.lock().unwrap(), b"one\ntwo\n");
    let broken = Terminal::new(Box::new(BrokenPipe), false, false);
    assert_eq!(class(&broken.send(&payload, &delivery("")).await), "retry");
}

// ---- the registry ------------------------------------------------------------------------------

#[test]
fn endpoints_are_found_by_receiver() {
    let setup = Setup::new("https://discord.com");
    let registry = setup.registry();
    assert_eq!(registry.endpoints("channel"), ["channel/discord"]);
    assert_eq!(registry.endpoints("webhook"), ["webhook/discord"]);
    assert_eq!(
        registry.endpoints("list"),
        ["list/email/ann@example.edu", "list/email/bob@example.edu", "list/terminal"]
    );
    assert!(registry.endpoints("nobody").is_empty());
    assert_eq!(registry.get("list/email/bob@example.edu").unwrap().address, "bob@example.edu");
    assert_eq!(registry.get("channel/discord").unwrap().address, "");
    assert!(registry.get("list/email/eve@example.edu").is_none());
    assert_no_secret(&format!("{registry:?}"));
}

#[test]
fn what_cannot_work_is_found_at_the_start() {
    let http = Http::new(Duration::from_secs(1)).unwrap();
    type Break = fn(&mut Config);
    let broken: [(&str, Break); 5] = [
        ("[discord] has no token", |config| config.discord.token = None),
        ("no [email]", |config| config.email = None),
        ("neither a server nor a folder", |config| config.email = Some(email(None, None))),
        ("[email] from", |config| {
            config.email.as_mut().unwrap().from = "Beadle".to_owned();
        }),
        ("x@ is no mail address", |config| {
            let receiver = config.receivers.get_mut("list").unwrap();
            receiver.email = Some(EmailTarget { to: vec!["x@".to_owned()] });
        }),
    ];
    for (expected, breaks) in broken {
        let mut setup = Setup::new("https://discord.com");
        breaks(&mut setup.config);
        let error = notify::build(&setup.config, &http).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

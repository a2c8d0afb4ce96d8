//! Every message of the configuration is looked at here.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::plan::{Announce, OnChange};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// A file with nothing wrong, to which tests add what is.
const GOOD: &str = r#"timezone = "America/New_York"
feed.seas.url = "https://events.example.edu/?ical=1"
receiver.hall.terminal = true
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("config.toml"))
}

/// What is said of a bad file.
fn report(text: &str) -> String {
    parse(text).expect_err("this should be an error").to_string()
}

/// What is said of something bad that is added to a good file.
fn added(text: &str) -> String {
    report(&format!("{GOOD}{text}\n"))
}

/// The example with its four marked lines in force.
fn uncommented() -> (String, usize) {
    let mut count = 0;
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
            count += 1;
            assert!(rest.ends_with(&format!("# {count} of 4")), "{line}");
            rest
        }
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    (text, count)
}

/// What else the example offers: whoever removes the `# ` before it has a key that is known, and
/// what stands behind it stays a comment.
#[test]
fn every_key_that_the_example_offers_can_be_taken_up() {
    let mut offered = 0;
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest)
            if rest.starts_with('[')
                || rest.split_once(" = ").is_some_and(|(key, _)| {
                    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                }) =>
        {
            offered += 1;
            rest
        }
        _ => line,
    });
    // All of them contradict each other, so there are errors: of meaning, not of form.
    let report = report(&lines.collect::<Vec<_>>().join("\n"));
    assert!(offered > 45, "{offered}");
    for mistake in ["this is not TOML", "unknown key", "defined twice"] {
        assert!(!report.contains(mistake), "{report}");
    }
}

#[test]
fn lines_may_end_as_on_windows() {
    let windows = |text: &str| report(&text.replace('\n', "\r\n"));
    for text in
        [format!("{GOOD}tiemzone = \"UTC\"\n"), "timezone = \"UTC\nstate = \"x\"\n".to_owned()]
    {
        assert_eq!(windows(&text), report(&text));
    }
}

#[test]
fn the_example_is_valid_and_needs_no_secret() {
    let config = Config::parse(EXAMPLE, Path::new("/etc/beadle/config.toml")).unwrap();
    assert_eq!(config.notes, [""; 0]);
    assert!(config.secrets().is_empty());
    config.check_secrets().unwrap();
    assert_eq!(config.state, Path::new("/etc/beadle/state"));
    assert_eq!(config.timezone.iana_name(), Some("America/New_York"));
    let feed = &config.feeds["sample"];
    assert_eq!(feed.url, FeedUrl::File("/etc/beadle/tests/feeds/sample.ics".into()));
    let watch = &config.watches[0];
    assert_eq!(watch.matcher.categories, ["Seminar", "Colloquium"]);
    assert_eq!(watch.remind.iter().map(|lead| &lead.text).collect::<Vec<_>>(), ["1d", "1h", "15m"]);
    assert!(watch.welcome && !watch.announce.contains(&Announce::Details));
    let digest = &config.digests[0];
    assert_eq!(digest.every.days, [true, false, false, false, false, false, false]);
    assert_eq!((digest.ahead_days, digest.welcome, digest.send_empty), (7, true, false));
    assert!(config.receivers["seminars-channel"].terminal);
    let email = config.email.unwrap();
    assert_eq!(email.folder.as_deref(), Some(Path::new("/etc/beadle/outbox")));
    assert!(email.server.is_none());
}

#[test]
fn the_example_posts_and_mails_when_four_lines_are_uncommented() {
    let (text, count) = uncommented();
    assert_eq!(count, 4);
    let config = parse(&text).unwrap();
    let secrets: Vec<_> =
        config.secrets().into_iter().map(|(key, source)| (key, source.describe())).collect();
    assert_eq!(
        secrets,
        [
            ("discord.token".to_owned(), "environment variable DISCORD_TOKEN".to_owned()),
            ("email.password".to_owned(), "environment variable SMTP_PASSWORD".to_owned()),
        ]
    );
    let target = config.receivers["seminars-channel"].discord.as_ref();
    let via = target.map(|target| &target.via);
    assert!(matches!(via, Some(Via::Channel { id: 123456789012345678 })));
    let server = config.email.unwrap().server.unwrap();
    assert_eq!((server.host.as_str(), server.port), ("smtp.example.edu", 587));
    assert_eq!(server.username.as_deref(), Some("beadle"));
    assert_eq!((server.tls, server.password.is_some()), (Tls::StartTls, true));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        timezone = "europe/paris"
        [feed.a]
        url = "webcal://Example.edu/private?key=1"
        timezone = "UTC"
        every = "1h 30m"
        settle = "0s"
        confirm = "1d"
        timeout = "1m30s"
        max_size = "2 MB"
        user_agent = "agent"
        username = "reader"
        password = { file = "secret" }
        headers = { "X-Api-Key" = { credential = "key" } }
        [feed.b]
        url = "file:///srv/b.ics"
        every = "10s"
        bearer = { env = "B" }
        [feed.c]
        url = "file:c.ics"
        [[watch]]
        name = "w"
        feeds = ["a", "b"]
        exclude = ["x"]
        announce = ["details"]
        remind = ["1w at 8:30", "0m"]
        to = ["r", "forum"]
        ping = ["11", "12"]
        on_change = "edit"
        [[watch]]
        name = "for the digest"
        feeds = ["a"]
        announce = []
        ping = { new = ["13"], cancelled = ["14"] }
        [[digest]]
        name = "d"
        every = "tue, Friday 17:30"
        ahead = "2w"
        watch = ["w", "for the digest"]
        send_empty = true
        to = ["r"]
        [[agenda]]
        name = "ahead"
        ahead = "3d"
        watch = ["w"]
        pin = true
        to = ["forum"]
        [[scheduled_events]]
        name = "native"
        watch = ["w"]
        covers = true
        repost = true
        [[scheduled_events]]
        name = "elsewhere"
        guild = "6"
        watch = ["w"]
        at_most = 40
        [discord]
        token = { env = "TOKEN" }
        api_url = "http://127.0.0.1:8080"
        gateway_url = "ws://127.0.0.1:8081"
        admin_channel = "99"
        commands = true
        application_id = 22
        guild = "33"
        public_key = "00ff00FF00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff0001"
        [http]
        listen = "127.0.0.1:9464"
        [email]
        from = "a@example.edu"
        reply_to = "B <b@example.edu>"
        list_domain = "lists.example.edu"
        server = "smtp://localhost?tls=none"
        [receiver.r]
        email = { to = ["c@example.edu"] }
        show_passcodes = true
        [receiver.r.discord]
        webhook = { env = "HOOK" }
        on_unknown = "hold"
        thread = "17"
        username = "Seminars"
        avatar = "https://example.edu/owl.png"
        delete_reminders = true
        repost = true
        tags = { Talks = "18" }
        [receiver.forum.discord]
        channel = 7
        thread_per_event = true
        crosspost = true
        quiet = "22:00-7:30"
        tags = { Seminar = "talks", "Summer School" = "19" }
        [receiver.s]
        terminal = true
        "#,
    )
    .unwrap();
    let a = &config.feeds["a"];
    assert_eq!(format!("{:?} {0}", a.url), "https://example.edu/… https://example.edu/…");
    assert!(matches!(&a.url, FeedUrl::Http(url) if url.query() == Some("key=1")));
    assert_eq!(a.every, SignedDuration::from_mins(90));
    assert_eq!(a.confirm, SignedDuration::from_hours(24));
    assert_eq!((a.timeout, a.max_bytes), (Duration::from_secs(90), 2_000_000));
    assert!(matches!(&a.auth, Some(Auth::Basic { username, password: SecretSource::File(path) })
        if username == "reader" && path == Path::new("secret")));
    assert_eq!(a.headers, [("X-Api-Key".into(), SecretSource::Credential("key".into()))]);
    assert_eq!(config.feeds["b"].url, FeedUrl::File("/srv/b.ics".into()));
    assert!(matches!(config.feeds["b"].auth, Some(Auth::Bearer { .. })));
    assert_eq!(config.feeds["c"].url, FeedUrl::File("c.ics".into()));
    let watch = &config.watches[0];
    assert_eq!(watch.announce.iter().collect::<Vec<_>>(), [&Announce::Details]);
    assert_eq!(watch.remind[0].at, Some(jiff::civil::time(8, 30, 0, 0)));
    assert_eq!(watch.remind_all_day[0].text, "1d at 18:00");
    assert_eq!((watch.on_change, config.watches[1].on_change), (OnChange::Edit, OnChange::Both));
    assert!(config.watches[1].to.is_empty());
    let agenda = &config.agendas[0];
    assert_eq!((agenda.name.as_str(), agenda.ahead_days, agenda.pin), ("ahead", 3, true));
    assert_eq!(
        (&agenda.watches[..], &agenda.to[..]),
        (&["w".to_owned()][..], &["forum".to_owned()][..])
    );
    let guilds =
        config.scheduled_events.iter().map(|one| (one.guild, one.covers, one.repost, one.at_most));
    assert_eq!(guilds.collect::<Vec<_>>(), [(33, true, true, 90), (6, false, false, 40)]);
    let digest = &config.digests[0];
    assert_eq!(digest.every.days, [false, true, false, false, true, false, false]);
    assert_eq!((digest.ahead_days, digest.send_empty), (14, true));
    let discord = &config.discord;
    assert_eq!(discord.api_url.as_str(), "http://127.0.0.1:8080/");
    assert!(discord.commands);
    assert_eq!((discord.application_id, discord.guild), (Some(22), Some(33)));
    let key = discord.public_key.unwrap();
    assert_eq!((key[0], key[1], key[3], key[31]), (0, 0xFF, 0xFF, 1));
    assert_eq!(discord.admin_channel, Some(99));
    let server = config.email.as_ref().unwrap().server.as_ref().unwrap();
    assert_eq!((server.port, server.tls), (25, Tls::None));
    let receiver = &config.receivers["r"];
    assert!(matches!(
        receiver.discord.as_ref().map(|target| &target.via),
        Some(Via::Webhook { on_unknown: OnUnknown::Hold, .. })
    ));
    assert_eq!(receiver.email.as_ref().unwrap().to, ["c@example.edu"]);
    assert!(receiver.show_passcodes && !receiver.terminal);
    assert!(receiver.delete_reminders && receiver.repost);
    assert_eq!(
        config.notes,
        ["no watch uses the feed `c`", "no watch, digest or agenda uses the receiver `s`"]
    );
}

#[test]
fn defaults() {
    let config = parse(GOOD).unwrap();
    let feed = &config.feeds["seas"];
    assert_eq!(feed.every, SignedDuration::from_mins(15));
    assert_eq!(feed.settle, SignedDuration::from_mins(5));
    assert_eq!(feed.confirm, SignedDuration::from_mins(30));
    assert_eq!((feed.timeout, feed.max_bytes), (Duration::from_secs(30), 67_108_864));
    assert_eq!(config.state, Path::new("state"));
    assert_eq!(config.discord.api_url.as_str(), "https://discord.com/");
    assert!(config.email.is_none());
    let with_watch = format!("{GOOD}[[watch]]\nname = \"w\"\nfeeds = [\"seas\"]\nto = [\"hall\"]");
    let watch = &parse(&with_watch).unwrap().watches[0];
    assert_eq!(watch.announce.len(), 6);
    assert!(watch.remind_all_day.is_empty() && watch.matcher.categories.is_empty());
}

#[test]
fn errors_of_the_file_itself() {
    assert_snapshot!(report(r#"timezone = "America/New_York
"#), @r##"
error: config.toml:1:29: a text without its closing quote
  |
1 | timezone = "America/New_York
  |                             ^
  hint: write it as key = "text"
"##);
    assert_snapshot!(report("timezone = America/New_York
"), @r##"
error: config.toml:1:12: a text without quotes
  |
1 | timezone = America/New_York
  |            ^^^^^^^^^^^^^^^^
  hint: write it in quotes: key = "text"
"##);
    assert_snapshot!(report("timezone
"), @r##"
error: config.toml:1:9: a key without a value
  |
1 | timezone
  |         ^
  hint: write key = value
"##);
    assert_snapshot!(report(r#"timezone: "America/New_York"
"#), @r##"
error: config.toml:1:11: a key without a value
  |
1 | timezone: "America/New_York"
  |           ^
  hint: write key = value
"##);
    assert_snapshot!(report(r#"[feed.seas
url = "a"
"#), @r##"
error: config.toml:1:11: this is not TOML: unclosed table, expected `]`
  |
1 | [feed.seas
  |           ^
  hint: every line is key = value, [table] or [[table]]; texts stand in quotes
"##);
    assert_snapshot!(report(""), @r##"
error: config.toml: `timezone` is missing
  hint: add a line such as: timezone = "America/New_York"

error: config.toml: there is no feed
  hint: a feed is a line [feed.NAME], and below it a line url = "https://…"
"##);
    assert_snapshot!(added("[receiver.list]
terminal = true
[receiver.list]
terminal = true"), @r##"
error: config.toml:6:11: `list` is defined twice
  |
6 | [receiver.list]
  |           ^^^^
  hint: it stands further up too: rename one, or put both into one
"##);
    assert_snapshot!(added(r#"[discord]
api_url = "https://a.edu"
api_url = "https://b.edu""#), @r##"
error: config.toml:6:1: `api_url` is defined twice
  |
6 | api_url = "https://b.edu"
  | ^^^^^^^
  hint: it stands further up too: rename one, or put both into one
"##);
}

#[test]
fn errors_of_unknown_keys() {
    assert_snapshot!(added(r#"tiemzone = "UTC"
[[watch]]
name = "w"
feeds = ["seas"]
categorys = ["Seminar"]
colour = 3
to = ["hall"]"#), @r##"
error: config.toml:4:1: unknown key `tiemzone`
  |
4 | tiemzone = "UTC"
  | ^^^^^^^^
  hint: did you mean `timezone`?

error: config.toml:8:1: unknown key `categorys`
  |
8 | categorys = ["Seminar"]
  | ^^^^^^^^^
  hint: did you mean `categories`?

error: config.toml:9:1: unknown key `colour`
  |
9 | colour = 3
  | ^^^^^^
  hint: known in `watch`: `announce`, `categories`, `exclude`, `feeds`, `name`, `on_change`, `ping`, `remind`, `remind_all_day`, `to`, `welcome`
"##);
    assert_snapshot!(added("[reciever.x]
terminal = true"), @r##"
error: config.toml:4:2: unknown key `reciever`
  |
4 | [reciever.x]
  |  ^^^^^^^^
  hint: did you mean `receiver`?
"##);
    assert_snapshot!(added(r#"[receiver.x]
discord = { webhook = { env = "A" }, chanel = 1 }"#), @r##"
error: config.toml:5:38: unknown key `chanel`
  |
5 | discord = { webhook = { env = "A" }, chanel = 1 }
  |                                      ^^^^^^
  hint: did you mean `channel`?
"##);
}

/// Keys that the file may have, as an error about another names them.
fn known(section: &str) -> BTreeSet<String> {
    let report = report(&format!("{section}\nnonsense = 1"));
    let mut lines = report.lines().skip_while(|line| !line.contains("unknown key `nonsense`"));
    let hint = lines.find(|line| line.starts_with("  hint: known ")).expect("a hint with all keys");
    let (_, keys) = hint.split_once(": known ").unwrap();
    let (_, keys) = keys.split_once(": ").unwrap();
    keys.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_keys_that_are_known_are_those_that_are_described() {
    let readme = include_str!("../../README.md");
    let (_, text) = readme.split_once("\n## Configuration\n").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    // By section, as it is written in the file.
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        let ticked = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
        if line.starts_with("###") {
            section = ticked(line);
        } else if let Some(row) = line.strip_prefix("| ").filter(|row| row.contains("`")) {
            let cell = row.split(" | ").next().unwrap();
            for key in cell.split(", ").map(ticked) {
                let (section, key) = match key.split_once("] ") {
                    Some((section, key)) => (format!("{section}]"), key),
                    None => (section.clone(), &*key),
                };
                described.entry(section).or_default().insert(key.to_owned());
            }
        }
    }
    assert!(described.len() >= 12, "{described:?}");
    let tables: BTreeSet<String> = described
        .keys()
        .filter_map(|section| section.trim_matches(['[', ']']).split('.').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    described.get_mut("").unwrap().extend(tables);
    for (section, keys) in described {
        assert_eq!(known(&section), keys, "in {section:?}");
    }
}

#[test]
fn errors_of_wrong_types() {
    assert_snapshot!(added(r#"[[watch]]
name = 5
feeds = "seas"
categories = [1]
welcome = "yes"
to = ["hall"]"#), @r##"
error: config.toml:5:8: `watch.name` must be a text, not a number
  |
5 | name = 5
  |        ^
  hint: write it in quotes: name = "…"

error: config.toml:6:9: `watch.feeds` must be a list of texts, not a text
  |
6 | feeds = "seas"
  |         ^^^^^^
  hint: write it in brackets: feeds = ["…"]

error: config.toml:7:15: `watch.categories` must be a list of texts, not a number
  |
7 | categories = [1]
  |               ^
  hint: write each in quotes: categories = ["…", "…"]

error: config.toml:8:11: `watch.welcome` must be true or false, not a text
  |
8 | welcome = "yes"
  |           ^^^^^
  hint: write it without quotes: welcome = true
"##);
    assert_snapshot!(added(r#"[watch]
name = "w""#), @r##"
error: config.toml:4:1: `watch` must be a list of tables, not a table
  |
4 | [watch]
  | ^^^^^^^
  hint: write [[watch]] with double brackets
"##);
    assert_snapshot!(added(r#"[[discord]]
api_url = "https://a.edu""#), @r##"
error: config.toml:4:1: `discord` must be a table, not a list
  |
4 | [[discord]]
  | ^^^^^^^^^^^
  hint: write [discord] with single brackets
"##);
    assert_snapshot!(report(r#"timezone = "UTC"
[feed]
url = "a.ics""#), @r##"
error: config.toml:2:2: there is no feed
  |
2 | [feed]
  |  ^^^^
  hint: a feed is a line [feed.NAME], and below it a line url = "https://…"

error: config.toml:3:7: `feed.url` must be a table, not a text
  |
3 | url = "a.ics"
  |       ^^^^^^^
  hint: each feed has a name: [feed.NAME]
"##);
    assert_snapshot!(added(r#"[receiver.x]
email = "a@b.edu""#), @r##"
error: config.toml:5:1: there is no way to send mail
  |
5 | email = "a@b.edu"
  | ^^^^^
  hint: add [email] with from = "…" and folder = "outbox" or server = "smtp://…"

error: config.toml:5:9: `receiver.x.email` must be a table, not a text
  |
5 | email = "a@b.edu"
  |         ^^^^^^^^^
  hint: write email = { … }, or a line [receiver.x.email] and its keys below
"##);
}

#[test]
fn a_watch_without_a_name_is_one_error() {
    for name in ["", "name = \"\""] {
        let report = report(&format!(
            r#"timezone = "UTC"
[feed.seas]
url = "https://a.example/a.ics"
[[watch]]
{name}
feeds = ["seas"]
to = ["screen"]
[[digest]]
name = "weekly"
every = "Mon 08:00"
ahead = "7d"
watch = ["seminars"]
to = ["screen"]
[receiver.screen]
terminal = true
"#
        ));
        assert_eq!(report.matches("error: ").count(), 1, "{report}");
    }
}

#[test]
fn errors_of_missing_keys() {
    assert_snapshot!(report("timezone = \"UTC\"\n[feed]"), @r##"
error: config.toml:2:2: there is no feed
  |
2 | [feed]
  |  ^^^^
  hint: a feed is a line [feed.NAME], and below it a line url = "https://…"
"##);
    assert_snapshot!(report(r#"timezone = "UTC"
[feed.seas]
[[watch]]
[[digest]]
[email]
"#), @r##"
error: config.toml:2:7: `feed.seas` has no `url`
  |
2 | [feed.seas]
  |       ^^^^
  hint: add a line such as: url = "https://events.example.edu/?ical=1"

error: config.toml:3:1: `watch` has no `name`
  |
3 | [[watch]]
  | ^^^^^^^^^
  hint: add a line such as: name = "seminars"

error: config.toml:3:1: `watch` has no `feeds`
  |
3 | [[watch]]
  | ^^^^^^^^^
  hint: add a line such as: feeds = ["…"]

error: config.toml:3:1: `watch` has no `to`
  |
3 | [[watch]]
  | ^^^^^^^^^
  hint: add a line such as: to = ["…"]

error: config.toml:4:1: `digest` has no `name`
  |
4 | [[digest]]
  | ^^^^^^^^^^
  hint: add a line such as: name = "seminars"

error: config.toml:4:1: `digest` has no `every`
  |
4 | [[digest]]
  | ^^^^^^^^^^
  hint: add a line such as: every = "Mon 08:00"

error: config.toml:4:1: `digest` has no `watch`
  |
4 | [[digest]]
  | ^^^^^^^^^^
  hint: add a line such as: watch = ["…"]

error: config.toml:4:1: `digest` has no `to`
  |
4 | [[digest]]
  | ^^^^^^^^^^
  hint: add a line such as: to = ["…"]

error: config.toml:5:2: `email` has no `from`
  |
5 | [email]
  |  ^^^^^
  hint: add a line such as: from = "Beadle <beadle@example.edu>"
"##);
    assert_snapshot!(added("[receiver.nobody]
show_passcodes = true"), @r##"
error: config.toml:4:11: `receiver.nobody` reaches nobody
  |
4 | [receiver.nobody]
  |           ^^^^^^
  hint: add discord = { channel = "…" }, email = { to = ["…"] } or terminal = true
"##);
    assert_snapshot!(added(r#"[[watch]]
name = "w"
feeds = []
to = []"#), @r##"
error: config.toml:6:1: `watch.feeds` names no feed
  |
6 | feeds = []
  | ^^^^^
  hint: choose from `seas`

error: config.toml:7:1: `watch.to` names no receiver
  |
7 | to = []
  | ^^
  hint: choose from `hall`
"##);
}

#[test]
fn errors_of_values_of_a_feed() {
    assert_snapshot!(report(r#"timezone = "America/NewYork"
feed.a.url = "a.ics""#), @r##"
error: config.toml:1:12: unknown time zone "America/NewYork"
  |
1 | timezone = "America/NewYork"
  |            ^^^^^^^^^^^^^^^^^
  hint: did you mean `America/New_York`?
"##);
    assert_snapshot!(report(r#"timezone = "New York"
feed.a.url = "a.ics""#), @r##"
error: config.toml:1:12: unknown time zone "New York"
  |
1 | timezone = "New York"
  |            ^^^^^^^^^^
  hint: did you mean `America/New_York`?
"##);
    assert_snapshot!(report(r#"timezone = "CEST"
feed.a.url = "a.ics""#), @r##"
error: config.toml:1:12: unknown time zone "CEST"
  |
1 | timezone = "CEST"
  |            ^^^^^^
  hint: did you mean `CET` or `EST`?
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "ftp://example.edu/private/a.ics""#), @r##"
error: config.toml:5:7: a feed cannot be read by `ftp:`
  |
5 | url = "ftp://example.edu/***"
  |       ^^^^^^^^^^^^^^^^^^^^^^^
  hint: feeds are `https:`, `http:`, `webcal:` or `file:` URLs, or paths
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "https://""#), @r##"
error: config.toml:5:7: this is not a URL: empty host
  |
5 | url = "https://"
  |       ^^^^^^^^^^
  hint: write it such as `https://example.edu/…`
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "www.example.edu/a.ics""#), @r##"
error: config.toml:5:7: this URL is not complete
  |
5 | url = "www.example.edu/a.ics"
  |       ^^^^^^^^^^^^^^^^^^^^^^^
  hint: put `https://` before it
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "https://me:hunter2@example.edu/a.ics""#), @r##"
error: config.toml:5:7: a user or password inside the URL
  |
5 | url = "https://***@example.edu/***"
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: for a feed, use `username` and `password = { env = "…" }`
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "https://a.edu/"
every = "5s"
settle = "2 days"
confirm = "soon"
max_size = "64 bananas"
pages = 40"#), @r##"
error: config.toml:6:9: "5s" is too short
  |
6 | every = "5s"
  |         ^^^^
  hint: at least `60s`

error: config.toml:7:10: "2 days" is too long
  |
7 | settle = "2 days"
  |          ^^^^^^^^
  hint: at most `24h`

error: config.toml:8:11: "soon" is not a duration
  |
8 | confirm = "soon"
  |           ^^^^^^
  hint: write a number and its unit, such as `30s`, `15m`, `1h30m` or `1d`

error: config.toml:9:12: "64 bananas" is not a size
  |
9 | max_size = "64 bananas"
  |            ^^^^^^^^^^^^
  hint: write it such as `64MiB` or `500kB`

error: config.toml:10:9: "40" is not a number of pages
   |
10 | pages = 40
   |         ^^
  hint: write a number from 1 to 20
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "a.ics"
username = "me"
bearer = { env = "B" }"#), @r##"
error: config.toml:6:1: `username` without `password`
  |
6 | username = "me"
  | ^^^^^^^^
  hint: add `password`, or take this out

error: config.toml:7:1: `bearer` beside `username` and `password`
  |
7 | bearer = { env = "B" }
  | ^^^^^^
  hint: keep one way to sign in
"##);
    assert_snapshot!(added(r#"[feed.a]
url = "a.ics"
headers = { "X Y" = { env = "B" } }"#), @r##"
error: config.toml:6:13: this is not the name of a header
  |
6 | headers = ***
  |           ^^^
  hint: names are such as `X-Api-Key`
"##);
    assert_snapshot!(added(r#"[feed.""]
url = "a.ics""#), @r##"
error: config.toml:4:7: this name cannot be used
  |
4 | [feed.""]
  |       ^^
  hint: a name is one line of 1 to 64 characters
"##);
}

#[test]
fn errors_of_values_of_a_watch() {
    assert_snapshot!(added(r#"[[watch]]
name = "w"
feeds = ["saes"]
announce = ["canceled", "everything"]
remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
remind_all_day = ["1h"]
to = ["corridor", "hall", "hall"]"#), @r##"
error: config.toml:6:10: there is no feed "saes"
  |
6 | feeds = ["saes"]
  |          ^^^^^^
  hint: did you mean `seas`?

error: config.toml:7:13: "canceled" is not a word of `announce`
  |
7 | announce = ["canceled", "everything"]
  |             ^^^^^^^^^^
  hint: did you mean `cancelled`?

error: config.toml:7:25: "everything" is not a word of `announce`
  |
7 | announce = ["canceled", "everything"]
  |                         ^^^^^^^^^^^^
  hint: the words are `new`, `title`, `time`, `place`, `details`, `category`, `cancelled`

error: config.toml:8:11: "1 day before" is not a time before an event
  |
8 | remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
  |           ^^^^^^^^^^^^^^
  hint: write `30m`, `2h`, `1d`, `1w`, or `1d at 18:00`

error: config.toml:8:27: "-1h" is after the start
  |
8 | remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
  |                           ^^^^^
  hint: reminders come before: `1h`

error: config.toml:8:34: "1mo" has no fixed length
  |
8 | remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
  |                                  ^^^^^
  hint: write it in days or weeks

error: config.toml:8:41: "2h at 18:00" names hours and a time of day
  |
8 | remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
  |                                         ^^^^^^^^^^^^^
  hint: before `at` stand whole days: `1d at 18:00`, or `0d at 08:00` for the day itself

error: config.toml:8:56: "6pm" is not a time of day
  |
8 | remind = ["1 day before", "-1h", "1mo", "2h at 18:00", "1d at 6pm"]
  |                                                        ^^^^^^^^^^^
  hint: write hours and minutes by the 24-hour clock: `18:00`

error: config.toml:9:19: "1h" has no time of day, and an all-day event has none either
  |
9 | remind_all_day = ["1h"]
  |                   ^^^^
  hint: write whole days and a time: `1d at 18:00`, or `0d at 08:00` for the day itself

error: config.toml:10:7: there is no receiver "corridor"
   |
10 | to = ["corridor", "hall", "hall"]
   |       ^^^^^^^^^^
  hint: the file defines `hall`

error: config.toml:10:27: "hall" is listed twice
   |
10 | to = ["corridor", "hall", "hall"]
   |                           ^^^^^^
  hint: take one of them out
"##);
    assert_snapshot!(added(r#"[[watch]]
name = "w"
feeds = ["seas"]
to = ["hall"]
[[watch]]
name = "w"
feeds = ["seas"]
to = ["hall"]"#), @r##"
error: config.toml:9:8: another watch, digest or agenda is called "w"
  |
9 | name = "w"
  |        ^^^
  hint: give each a name of its own
"##);
}

#[test]
fn errors_of_values_of_a_digest() {
    assert_snapshot!(added(r#"[[digest]]
name = "d"
every = "Moonday 08:00"
ahead = "36h"
watch = ["seminars"]
to = ["hall"]"#), @r##"
error: config.toml:6:9: "Moonday" is not a day of the week
  |
6 | every = "Moonday 08:00"
  |         ^^^^^^^^^^^^^^^
  hint: write `Mon 08:00`, `Mon,Thu 17:30`, `weekdays 07:00` or `daily 07:00`

error: config.toml:7:9: "36h" is not a number of days
  |
7 | ahead = "36h"
  |         ^^^^^
  hint: write `7d` or `2w`, between one day and one year

error: config.toml:8:10: there is no watch "seminars"
  |
8 | watch = ["seminars"]
  |          ^^^^^^^^^^
  hint: the file defines no watch
"##);
    assert_snapshot!(added(r#"[[digest]]
name = "d"
every = "Mon 8am"
watch = []
to = ["hall"]"#), @r##"
error: config.toml:6:9: "8am" is not a time of day
  |
6 | every = "Mon 8am"
  |         ^^^^^^^^^
  hint: write `Mon 08:00`, `Mon,Thu 17:30`, `weekdays 07:00` or `daily 07:00`

error: config.toml:7:1: `digest.watch` names no watch
  |
7 | watch = []
  | ^^^^^
  hint: define a watch first
"##);
    assert_snapshot!(added(r#"[[digest]]
name = "d"
every = "weekly"
watch = [""]
to = ["hall"]"#), @r##"
error: config.toml:6:9: "weekly" is not a schedule
  |
6 | every = "weekly"
  |         ^^^^^^^^
  hint: write `Mon 08:00`, `Mon,Thu 17:30`, `weekdays 07:00` or `daily 07:00`

error: config.toml:7:10: an empty text in `digest.watch`
  |
7 | watch = [""]
  |          ^^
  hint: take it out
"##);
}

#[test]
fn errors_of_what_is_shown() {
    assert_snapshot!(added(r#"[[watch]]
name = "w"
feeds = ["seas"]
on_change = "edits"
to = ["hall"]
[[agenda]]
name = "w"
ahead = "soon"
watch = ["v"]
to = ["hall"]
[[scheduled_events]]
name = "s"
watch = []
[[scheduled_events]]
name = "t"
watch = ["w"]
guild = "Example""#), @r##"
error: config.toml:7:13: "edits" is not a word of `on_change`
  |
7 | on_change = "edits"
  |             ^^^^^^^
  hint: did you mean `edit`?

error: config.toml:10:8: another watch, digest or agenda is called "w"
   |
10 | name = "w"
   |        ^^^
  hint: give each a name of its own

error: config.toml:11:9: "soon" is not a number of days
   |
11 | ahead = "soon"
   |         ^^^^^^
  hint: write `7d` or `2w`, between one day and one year

error: config.toml:12:10: there is no watch "v"
   |
12 | watch = ["v"]
   |          ^^^
  hint: the file defines `w`

error: config.toml:13:1: the receiver "hall" is not in Discord, where an agenda is shown
   |
13 | to = ["hall"]
   | ^^
  hint: name a receiver that has `discord`; for mail there are digests: [[digest]]

error: config.toml:14:1: scheduled events need the token of a bot
   |
14 | [[scheduled_events]]
   | ^^^^^^^^^^^^^^^^^^^^
  hint: add [discord] with token = { env = "DISCORD_TOKEN" }

error: config.toml:14:1: it is not said in which server the events are
   |
14 | [[scheduled_events]]
   | ^^^^^^^^^^^^^^^^^^^^
  hint: add guild = "123456789012345678" here or in [discord]

error: config.toml:16:1: `scheduled_events.watch` names no watch
   |
16 | watch = []
   | ^^^^^
  hint: choose from `w`

error: config.toml:17:1: scheduled events need the token of a bot
   |
17 | [[scheduled_events]]
   | ^^^^^^^^^^^^^^^^^^^^
  hint: add [discord] with token = { env = "DISCORD_TOKEN" }

error: config.toml:20:9: an id is a number
   |
20 | guild = "Example"
   |         ^^^^^^^^^
  hint: in Discord: Settings, Advanced, Developer Mode; then right-click the server, Copy ID
"##);
}

#[test]
fn errors_of_values_of_a_receiver() {
    assert_snapshot!(added("[receiver.x]
discord = { channel = 123456789012345678 }"), @r##"
error: config.toml:5:13: a channel needs the token of a bot
  |
5 | discord = { channel = 123456789012345678 }
  |             ^^^^^^^
  hint: add [discord] with token = { env = "DISCORD_TOKEN" }
"##);
    assert_snapshot!(added(r#"[discord]
token = { env = "T" }
[receiver.x]
discord = { channel = "general" }"#), @r##"
error: config.toml:7:23: a channel is named by its number
  |
7 | discord = { channel = "general" }
  |                       ^^^^^^^^^
  hint: in Discord: Settings, Advanced, Developer Mode; then right-click the channel, Copy ID
"##);
    assert_snapshot!(added("[receiver.x]
discord = {}"), @r##"
error: config.toml:5:1: `receiver.x.discord` needs either `channel` or `webhook`
  |
5 | discord = {}
  | ^^^^^^^
  hint: a channel needs a bot; a webhook needs only its URL, kept as a secret
"##);
    assert_snapshot!(added(r#"[receiver.x]
email = { to = ["a@b.edu"] }"#), @r##"
error: config.toml:5:1: there is no way to send mail
  |
5 | email = { to = ["a@b.edu"] }
  | ^^^^^
  hint: add [email] with from = "…" and folder = "outbox" or server = "smtp://…"
"##);
    assert_snapshot!(added(r#"[email]
from = "beadle"
folder = "outbox"
[receiver.x]
email = { to = ["List <list@b.edu>", "list"] }"#), @r##"
error: config.toml:5:8: "beadle" is not a mail address
  |
5 | from = "beadle"
  |        ^^^^^^^^
  hint: write `list@example.edu` or `Name <list@example.edu>`

error: config.toml:8:17: "List <list@b.edu>" has a name besides the address
  |
8 | email = { to = ["List <list@b.edu>", "list"] }
  |                 ^^^^^^^^^^^^^^^^^^^
  hint: write `list@b.edu`

error: config.toml:8:38: "list" is not a mail address
  |
8 | email = { to = ["List <list@b.edu>", "list"] }
  |                                      ^^^^^^
  hint: write it such as `list@example.edu`
"##);
}

#[test]
fn errors_of_the_operators_channel() {
    assert_snapshot!(added(r#"[discord]
admin_channel = "99""#), @r##"
error: config.toml:5:1: a channel needs the token of a bot
  |
5 | admin_channel = "99"
  | ^^^^^^^^^^^^^
  hint: add token = { env = "DISCORD_TOKEN" }
"##);
    assert_snapshot!(added(r#"[discord]
token = { file = "token" }
admin_channel = "99"
[receiver.admin]
terminal = true"#), @r##"
error: config.toml:7:11: `admin` is the name of what is sent to `discord.admin_channel`
  |
7 | [receiver.admin]
  |           ^^^^^
  hint: give the receiver another name
"##);
}

#[test]
fn errors_of_values_of_a_place_in_discord() {
    assert_snapshot!(added(r##"[discord]
token = { env = "T" }
[receiver.x.discord]
channel = "7"
thread = "8"
username = "Clyde"
avatar = "owl.png"
quiet = "22:00"
tags = { Seminar = 5, Talk = "talks" }
[receiver.y.discord]
webhook = { env = "HOOK" }
thread = "general"
username = "Seminars"
thread_per_event = true
crosspost = true
quiet = "08:00-08:00"
tags = { Talk = "talks" }
[receiver.z.discord]
channel = "7"
on_unknown = "hold"
[receiver.w.discord]
webhook = { env = "HOOK" }
on_unknown = "drop"
"##), @r##"
error: config.toml:8:1: `receiver.x.discord.thread` goes with `webhook` only
  |
8 | thread = "8"
  | ^^^^^^
  hint: a bot posts under its own name, and a thread is named as the channel: channel = "…"

error: config.toml:9:1: `receiver.x.discord.username` goes with `webhook` only
  |
9 | username = "Clyde"
  | ^^^^^^^^
  hint: a bot posts under its own name, and a thread is named as the channel: channel = "…"

error: config.toml:9:12: Discord allows no webhook a name with "clyde" in it
  |
9 | username = "Clyde"
  |            ^^^^^^^
  hint: choose another name

error: config.toml:10:1: `receiver.x.discord.avatar` goes with `webhook` only
   |
10 | avatar = "owl.png"
   | ^^^^^^
  hint: a bot posts under its own name, and a thread is named as the channel: channel = "…"

error: config.toml:10:10: this is not a URL: relative URL without a base
   |
10 | avatar = "owl.png"
   |          ^^^^^^^^^
  hint: write it such as `https://example.edu/…`

error: config.toml:11:9: "22:00" is not a part of the day
   |
11 | quiet = "22:00"
   |         ^^^^^^^
  hint: write it as `22:00-07:00`

error: config.toml:12:20: `receiver.x.discord.tags.Seminar` must be a text
   |
12 | tags = { Seminar = 5, Talk = "talks" }
   |                    ^
  hint: write "Seminar" = "the tag's name"

error: config.toml:15:10: a channel is named by its number
   |
15 | thread = "general"
   |          ^^^^^^^^^
  hint: in Discord: Settings, Advanced, Developer Mode; then right-click the channel, Copy ID

error: config.toml:17:1: `thread` beside `thread_per_event`
   |
17 | thread_per_event = true
   | ^^^^^^^^^^^^^^^^
  hint: take one of them out: a thread holds no threads

error: config.toml:18:1: `receiver.y.discord.crosspost` goes with `channel` only
   |
18 | crosspost = true
   | ^^^^^^^^^
  hint: Discord lets bots publish messages, but not webhooks

error: config.toml:19:9: "08:00-08:00" is no time at all
   |
19 | quiet = "08:00-08:00"
   |         ^^^^^^^^^^^^^
  hint: write it as `22:00-07:00`

error: config.toml:20:17: a webhook does not know the tag "talks"
   |
20 | tags = { Talk = "talks" }
   |                 ^^^^^^^
  hint: name it by its id, or let a bot post instead

error: config.toml:23:1: `receiver.z.discord.on_unknown` goes with `webhook` only
   |
23 | on_unknown = "hold"
   | ^^^^^^^^^^
  hint: a bot finds what it has posted: nothing is held, and nothing is doubled

error: config.toml:26:14: "drop" is not a word of `on_unknown`
   |
26 | on_unknown = "drop"
   |              ^^^^^^
  hint: the words are `resend`, `hold`
"##);
}

#[test]
fn errors_of_pings() {
    let watch = |ping: &str| {
        added(&format!(
            "[[watch]]\nname = \"w\"\nfeeds = [\"seas\"]\nto = [\"hall\"]\nping = {ping}"
        ))
    };
    assert_snapshot!(watch("[\"@everyone\", \"5\"]"), @r##"
error: config.toml:8:9: a role is named by its number
  |
8 | ping = ["@everyone", "5"]
  |         ^^^^^^^^^^^
  hint: in Discord: Settings, Advanced, Developer Mode; then Server Settings, Roles, right-click the role, Copy Role ID
"##);
    assert_snapshot!(watch("{ new = [\"5\"], moved = [\"6\"] }"), @r##"
error: config.toml:8:23: unknown key `moved`
  |
8 | ping = { new = ["5"], moved = ["6"] }
  |                       ^^^^^
  hint: known in `watch.ping`: `cancelled`, `changed`, `new`, `reminder`
"##);
    assert_snapshot!(watch("\"5\""), @r##"
error: config.toml:8:8: `watch.ping` must be a list of texts, not a text
  |
8 | ping = "5"
  |        ^^^
  hint: write it in brackets: ping = ["…"]
"##);
    let roles: Vec<String> = (1..30).map(|role| format!("\"{role}\"")).collect();
    assert_snapshot!(watch(&format!("[{}]", roles.join(", "))), @r##"
error: config.toml:8:1: `watch.ping` names more than 20 roles
  |
8 | ping = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29"]
  | ^^^^
  hint: make one role for those who want to be called
"##);
}

#[test]
fn errors_of_values_of_mail_and_discord() {
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
server = "smtp.b.edu"
list_domain = "lists b""#), @r##"
error: config.toml:6:10: this is not a mail server
  |
6 | server = "smtp.b.edu"
  |          ^^^^^^^^^^^^
  hint: write `smtp://user@host` (STARTTLS), `smtps://user@host`, or `smtp://localhost?tls=none`

error: config.toml:7:15: "lists b" is not a domain
  |
7 | list_domain = "lists b"
  |               ^^^^^^^^^
  hint: write it such as `lists.example.edu`
"##);
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
server = "smtp://me:hunter2@smtp.b.edu""#), @r##"
error: config.toml:6:10: a password inside the URL
  |
6 | server = "smtp://***@smtp.b.edu"
  |          ^^^^^^^^^^^^^^^^^^^^^^^
  hint: take it out, and write password = { env = "SMTP_PASSWORD" } below
"##);
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
server = "smtp://smtp.b.edu"
password = { env = "P" }"#), @r##"
error: config.toml:7:1: `password` without a user
  |
7 | password = { env = "P" }
  | ^^^^^^^^
  hint: put the user into the server: smtp://user@host
"##);
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
server = "smtp://me@smtp.b.edu""#), @r##"
error: config.toml:6:1: a user without `password`
  |
6 | server = "smtp://***@smtp.b.edu"
  | ^^^^^^
  hint: add password = { env = "SMTP_PASSWORD" }
"##);
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
server = "smtp://me@smtp.b.edu?tls=none"
password = { env = "P" }"#), @r##"
error: config.toml:6:10: a password would cross the network unencrypted
  |
6 | server = "smtp://***@smtp.b.edu?tls=none"
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: leave out `?tls=none`, or the user
"##);
    assert_snapshot!(added(r#"[email]
from = "a@b.edu"
password = { env = "P" }"#), @r##"
error: config.toml:6:1: `password` without `server`
  |
6 | password = { env = "P" }
  | ^^^^^^^^
  hint: add server = "smtp://user@smtp.example.edu"
"##);
    assert_snapshot!(added(r#"[discord]
api_url = "discord.com"
gateway_url = "https://gateway.discord.gg""#), @r##"
error: config.toml:5:11: this is not a URL: relative URL without a base
  |
5 | api_url = "discord.com"
  |           ^^^^^^^^^^^^^
  hint: write it such as `https://example.edu/…`

error: config.toml:6:15: this is not the kind of URL needed here
  |
6 | gateway_url = "https://gateway.discord.gg"
  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: write it such as `wss://example.edu/…`
"##);
    assert_snapshot!(added(r#"[discord]
commands = true
guild = "my server"
application_id = 0
public_key = "0123""#), @r#"
    error: config.toml:5:1: slash commands need the token of a bot
      |
    5 | commands = true
      | ^^^^^^^^
      hint: add token = { env = "DISCORD_TOKEN" }

    error: config.toml:6:9: an id is a number
      |
    6 | guild = "my server"
      |         ^^^^^^^^^^^
      hint: in Discord: Settings, Advanced, Developer Mode; then right-click the server, Copy ID

    error: config.toml:7:18: an id is a number
      |
    7 | application_id = 0
      |                  ^
      hint: in Discord: Settings, Advanced, Developer Mode; then right-click the server, Copy ID

    error: config.toml:8:1: `public_key` without a server for commands
      |
    8 | public_key = "***"
      | ^^^^^^^^^^
      hint: add [http] with listen = "127.0.0.1:9464"

    error: config.toml:8:14: a public key is 64 hex digits
      |
    8 | public_key = "***"
      |              ^^^^^
      hint: copy it from the Developer Portal: your application, General Information, Public Key
    "#);
    assert_snapshot!(added(r#"[discord]
token = { env = "T" }
public_key = "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff""#), @r#"
    error: config.toml:6:1: `public_key` without a server for commands
      |
    6 | public_key = "***"
      | ^^^^^^^^^^
      hint: add [http] with listen = "127.0.0.1:9464"

    error: config.toml:6:1: `public_key` without `commands`
      |
    6 | public_key = "***"
      | ^^^^^^^^^^
      hint: add commands = true, or take this out
    "#);
}

#[test]
fn secrets_in_the_file() {
    assert_snapshot!(added(r#"[discord]
token = "hunter2""#), @r##"
error: config.toml:5:9: `discord.token` is a secret and must not stand in this file
  |
5 | token = "***"
  |         ^^^^^
  hint: say where it is kept: { env = "DISCORD_TOKEN" }, { file = "…" } or { credential = "…" }
"##);
    assert_snapshot!(added(r#"[receiver.x]
discord = { webhook = "https://discord.com/api/webhooks/1/hunter2" }"#), @r##"
error: config.toml:5:23: `receiver.x.discord.webhook` is a secret and must not stand in this file
  |
5 | discord = { webhook = "***" }
  |                       ^^^^^
  hint: say where it is kept: { env = "RECEIVER_X_DISCORD_WEBHOOK" }, { file = "…" } or { credential = "…" }
"##);
    assert_snapshot!(added(r#"[discord]
token = { env = "MTIz.hunter2" }"#), @r##"
error: config.toml:5:17: this is not the name of an environment variable or credential
  |
5 | token = { env = "***" }
  |                 ^^^^^
  hint: write the name of the place where the secret is kept, not the secret
"##);
    assert_snapshot!(added(r#"[discord]
token = { environment = "TOKEN" }"#), @r##"
error: config.toml:5:11: unknown key `environment`
  |
5 | token = { environment = "***" }
  |           ^^^^^^^^^^^
  hint: known in `discord.token`: `credential`, `env`, `file`
"##);
    assert_snapshot!(added(r#"[discord]
token = { env = "A", file = "b" }"#), @r##"
error: config.toml:5:9: `discord.token` has more than one source
  |
5 | token = { env = "A", file = "b" }
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: keep one of them
"##);
    assert_snapshot!(added("[discord]
token = {}"), @r##"
error: config.toml:5:9: `discord.token` names no source
  |
5 | token = ***
  |         ^^^
  hint: say where it is kept: { env = "DISCORD_TOKEN" }, { file = "…" } or { credential = "…" }
"##);
}

#[test]
fn errors_of_secrets_that_cannot_be_read() {
    let text = format!(
        "{GOOD}[discord]\ntoken = {{ env = \"BEADLE_SURELY_UNSET\" }}\n[feed.a]\nurl = \"a\"\n\
         bearer = {{ file = \"/nowhere/token\" }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, &text).unwrap();
    assert!(Config::read(&path).is_ok());
    let error = Config::load(&path).unwrap_err().to_string();
    assert_snapshot!(error.replace(&path.display().to_string(), "config.toml"), @r##"
error: config.toml:5:9: `discord.token`: environment variable BEADLE_SURELY_UNSET is not set
  |
5 | token = { env = "BEADLE_SURELY_UNSET" }
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: set BEADLE_SURELY_UNSET before beadle is started

error: config.toml:8:10: `feed.a.bearer`: file /nowhere/token cannot be read: No such file or directory (os error 2)
  |
8 | bearer = { file = "/nowhere/token" }
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: the file holds the secret alone, and the user beadle runs as can read it
"##);
}

#[test]
fn errors_of_a_file_that_cannot_be_read() {
    let absent = Config::load(Path::new("nowhere/config.toml")).unwrap_err();
    assert_snapshot!(absent, @r##"
error: nowhere/config.toml: cannot be read: No such file or directory
  hint: copy config.example.toml, or name a file with --config
"##);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, b"timezone = \"\xff\"").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert_snapshot!(error.replace(&path.display().to_string(), "config.toml"), @r##"
error: config.toml: is not UTF-8 text
  hint: save it as UTF-8
"##);
}

/// Tabs stand under tabs, and columns count characters.
#[test]
fn errors_point_at_the_place() {
    assert_snapshot!(added("\t[[watch]]\n\tname = \"é\"; x"), @r##"
error: config.toml:5:12: this is not TOML: unexpected key or value, expected newline, `#`
  |
5 | 	name = "é"; x
  | 	          ^
  hint: every line is key = value, [table] or [[table]]; texts stand in quotes
"##);
    assert_snapshot!(added("discord = { \"é\" = 1 }"), @r##"
error: config.toml:4:13: unknown key `é`
  |
4 | discord = { "é" = *** }
  |             ^^^
  hint: known in `discord`: `admin_channel`, `api_url`, `application_id`, `commands`, `gateway_url`, `guild`, `public_key`, `token`
"##);
}

#[test]
fn secrets_are_never_quoted() {
    const SECRET: &str = "hunter2/a=b hunter2.c";
    for text in [
        "[discord]\ntoken = \"SECRET\"",
        "[discord]\ntoken = 'SECRET'",
        "[discord]\ntoken = \"\"\"SECRET\"\"\"",
        "[discord]\ntoken = \"\"\"\nSECRET\nSECRET\"\"\"",
        "[discord]\ntoken = \"\"\"\nSECRET",
        "[discord]\ntoken = '''\nSECRET\n",
        "[discord]\ntoken = \"\"\"\nSECRET\nSECRET\"\"\" 1",
        "[discord]\ntoken = \"\\\"SECRET\"",
        "[discord]\ntoken = \"\\xSECRET\"",
        "[discord]\n# token = \"SECRET\" \u{1}",
        "[discord]\ntoken = SECRET",
        "[discord]\ntoken = \"SECRET",
        "[discord]\ntoken: \"SECRET\"",
        "[discord]\ntoken SECRET",
        "[discord]\ntoken = { env = \"SECRET\" }",
        "[discord]\ntoken = { value = \"SECRET\" }",
        "[discord]\ntoken = { env = \"A\", vaule = \"SECRET\" }",
        "[discord]\ntoken = [\"SECRET\"]",
        "[discord]\ntokn = \"SECRET\"\ntoken = \"SECRET\"",
        "discord = { token = \"SECRET\", tokan = 1 }",
        "discord.token = \"SECRET\"",
        "[receiver.a]\ndiscord = { webhook = \"https://discord.com/api/webhooks/1/SECRET\" }",
        "[receiver.a]\ndiscord = { weebhook = \"https://discord.com/api/webhooks/1/SECRET\" }",
        "[feed.a]\nurl = \"htp://calendar.example.edu/SECRET\"",
        "[feed.a]\nurl = https://calendar.example.edu/hunter2",
        "[feed.a]\nurl = \"https://user:hunter2@calendar.example.edu/SECRET\"",
        "[feed.a]\nurl = \"a\"\nheaders = { \"X-Thing\" = \"SECRET\" }",
        "[feed.a]\nurl = \"a\"\nheaders = { \"X-Thing\" = SECRET }",
        "[feed.a]\nurl = \"a\"\n[feed.a.headers]\n\"X-Thing\" = \"SECRET\"",
        "[email]\nfrom = \"a@b.edu\"\nserver = \"smtp://me:SECRET@smtp.example.edu\"",
        "[email]\nfrom = \"a@b.edu\"\nserver = \"smtp://me:hunter2@smtp.example.edu\"",
        "[email]\nfrom = \"a@b.edu\"\npassword = \"SECRET\"",
    ] {
        let error = parse(&format!("{GOOD}{}\n", text.replace("SECRET", SECRET))).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

proptest! {
    #[test]
    fn no_edit_of_the_example_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<Option<char>>()), 1..8)
    ) {
        let mut text: Vec<char> = uncommented().0.chars().collect();
        for (at, edit) in edits {
            let at = at.index(text.len());
            match edit {
                Some(c) => text.insert(at, c),
                None => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(config) => drop(format!("{config:?}")),
            Err(error) => drop(error.to_string()),
        }
    }

    #[test]
    fn no_text_makes_a_value_panic(text in "\\PC{0,12}|[-0-9a-z: @/.%?]{0,24}") {
        let good = uncommented().0;
        for old in [
            "tests/feeds/sample.ics", "Mon 08:00", "7d", "1h", "1d at 18:00", "list@example.edu",
            "smtp://beadle@smtp.example.edu:587", "America/New_York", "123456789012345678",
        ] {
            let new = good.replace(old, &text.replace(['"', '\\'], ""));
            if let Err(error) = parse(&new) {
                drop(error.to_string());
            }
        }
    }
}

#[test]
fn how_the_program_is_watched() {
    let config = parse(&format!(
        "{GOOD}feed.seas.private = true\n[http]\nlisten = \"0.0.0.0:9464\"\n\
         [alive]\nurl = {{ env = \"ALIVE\" }}\n[tls]\nca_file = \"ca.pem\"\n"
    ))
    .unwrap();
    assert!(config.feeds["seas"].private);
    assert_eq!(config.http.unwrap().listen, "0.0.0.0:9464".parse().unwrap());
    assert!(config.notes.iter().any(|note| note.contains("0.0.0.0:9464")), "{:?}", config.notes);
    assert_eq!(config.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(config.secrets[0].key, "alive.url");
    let alive = config.alive.unwrap();
    assert_eq!(alive.every, Duration::from_secs(300));
    assert_eq!(alive.tolerance, SignedDuration::from_hours(6));

    let config = parse(GOOD).unwrap();
    assert!(config.http.is_none() && config.alive.is_none() && config.ca_file.is_none());
    assert!(!config.feeds["seas"].private);
}

#[test]
fn errors_of_how_the_program_is_watched() {
    assert_snapshot!(added(r#"[http]
[alive]
url = "https://ping.example/secret"
every = "1s"
tolerance = "31d"
[tls]
ca = "ca.pem""#), @r##"
error: config.toml:4:2: `http` has no `listen`
  |
4 | [http]
  |  ^^^^
  hint: add a line such as: listen = "127.0.0.1:9464"

error: config.toml:6:7: `alive.url` is a secret and must not stand in this file
  |
6 | url = "***"
  |       ^^^^^
  hint: say where it is kept: { env = "ALIVE_URL" }, { file = "…" } or { credential = "…" }

error: config.toml:7:9: "1s" is too short
  |
7 | every = "1s"
  |         ^^^^
  hint: at least `60s`

error: config.toml:8:13: "31d" is too long
  |
8 | tolerance = "31d"
  |             ^^^^^
  hint: at most `30d`

error: config.toml:9:2: `tls` has no `ca_file`
  |
9 | [tls]
  |  ^^^
  hint: add a line such as: ca_file = "/etc/ssl/our-authority.pem"

error: config.toml:10:1: unknown key `ca`
   |
10 | ca = "ca.pem"
   | ^^
  hint: known in `tls`: `ca_file`
"##);
    assert_snapshot!(added(r#"[http]
listen = "localhost"
[alive]
every = "5m""#), @r##"
error: config.toml:5:10: "localhost" is no address with a port
  |
5 | listen = "localhost"
  |          ^^^^^^^^^^^
  hint: write it as "127.0.0.1:9464", or "0.0.0.0:9464" for every network of this machine

error: config.toml:6:2: `alive` has no `url`
  |
6 | [alive]
  |  ^^^^^
  hint: add a line such as: url = { env = "ALIVE_URL" }
"##);
}

#[test]
fn errors_of_how_it_is_shown() {
    assert_snapshot!(added(r#"[receiver.hook]
discord = { webhook = { env = "HOOK" } }
[[watch]]
name = "w"
feeds = ["seas"]
to = ["hook"]
[[agenda]]
name = "a"
watch = ["w"]
pin = true
to = ["hook"]
[[scheduled_events]]
name = "s"
guild = "5"
watch = ["w"]
at_most = 101
[discord]
token = { env = "TOKEN" }"#), @r##"
error: config.toml:13:1: the receiver "hook" is a webhook, which cannot pin its messages
   |
13 | pin = true
   | ^^^
  hint: take out `pin` and pin the agenda by hand, or let a bot post it: discord = { channel = "123456789012345678" }

error: config.toml:19:11: "101" is not a number of scheduled events
   |
19 | at_most = 101
   |           ^^^
  hint: write a number from 1 to 100: Discord allows no more in a server
"##);
}

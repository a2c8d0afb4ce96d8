//! Every command and button, from the interaction to the words; on a real database.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use super::answer::Answer;
use super::desk::Desk;
use super::press::{Handle, Press};
use super::request::{Act, Command, Interaction, Person, parse};
use crate::calendar::{EventKey, Zones};
use crate::config::Config;
use crate::fetch::Fetcher;
use crate::notify::{self, discord};
use crate::pipeline::Pipeline;
use crate::store::{Access, Store};
use crate::tls;

/// A Monday, nine o'clock in New York.
const NOW: &str = "2026-03-02T14:00:00Z";
const GUILD: u64 = 900;
const MANAGER: Person = Person::new(1, Some(GUILD), 1 << 5);
const MEMBER: Person = Person::new(2, Some(GUILD), 1 << 11);

const CONFIG: &str = r#"
    timezone = "America/New_York"

    [feed.site]
    url = "feed.ics"
    settle = "5m"

    [feed.board]
    url = "board.ics"

    [[watch]]
    name = "seminars"
    feeds = ["site"]
    categories = ["Seminar"]
    exclude = ["Internal"]
    remind = ["1h"]
    to = ["channel", "list"]

    [[watch]]
    name = "moves"
    feeds = ["site"]
    announce = ["time", "cancelled"]
    to = ["channel"]

    [[watch]]
    name = "board"
    feeds = ["board"]
    to = ["list"]

    [receiver.channel]
    discord = { channel = "7" }

    [receiver.list]
    email = { to = ["a@example.edu", "b@example.edu"] }

    [discord]
    token = { env = "UNSET" }
    guild = "900"

    [email]
    from = "beadle@example.edu"
    folder = "outbox"
"#;

struct Office {
    folder: tempfile::TempDir,
    pipeline: Pipeline,
    news: Notify,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn vevent(uid: &str, summary: &str, start: &str, more: &str) -> String {
    format!(
        "BEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20260101T000000Z\r\n\
         DTSTART;TZID=America/New_York:{start}\r\nDURATION:PT1H\r\nSUMMARY:{summary}\r\n{more}\
         END:VEVENT\r\n"
    )
}

fn colloquium() -> String {
    vevent(
        "colloquium",
        "Knots and *links*",
        "20260303T150000",
        "LOCATION:Room 1\r\nCATEGORIES:Seminar\r\nURL:https://events.example.edu/knots\r\n",
    )
}

impl Office {
    async fn with(events: &[String]) -> Office {
        Office::open(CONFIG, events).await
    }

    async fn open(config: &str, events: &[String]) -> Office {
        tls::install();
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("feed.ics"), events, 1);
        write(&folder.path().join("board.ics"), &[vevent("b", "Board", "20260303T100000", "")], 1);
        let config = Config::parse(config, &folder.path().join("config.toml")).unwrap();
        let http = discord::Http::new(Duration::from_secs(1)).unwrap();
        let registry = notify::build(&config, &http).unwrap();
        let store = Store::open(&config.state, Access::Exclusive).await.unwrap();
        let fetcher = Fetcher::new().unwrap();
        let pipeline = Pipeline::new(config, Zones::default(), store, fetcher, registry);
        let office = Office { folder, pipeline, news: Notify::new() };
        office.poll("2026-03-01T14:00:00Z").await;
        office.pipeline.tick(at("2026-03-01T14:00:00Z")).await.unwrap();
        office
    }

    async fn poll(&self, now: &str) {
        for feed in self.pipeline.config.feeds.values() {
            self.pipeline.poll(feed, at(now)).await.unwrap().result.unwrap();
        }
    }

    fn feed(&self, events: &[String], version: u64) {
        write(&self.folder.path().join("feed.ics"), events, version);
    }

    async fn ask(&self, person: Person, act: Act, now: &str) -> Answer {
        let json = serde_json::json!({
            "id": "11", "application_id": "22", "type": 1, "token": "t",
        });
        let interaction = Interaction { person, act, ..parse(&json).unwrap() };
        Desk::new(&self.pipeline, &self.news).answer(&interaction, at(now)).await
    }

    async fn command(&self, person: Person, name: &str, options: &[(&str, &str)]) -> String {
        let (name, subcommand) = name.split_once(' ').unwrap_or((name, ""));
        let mut command = Command::new(name, options);
        command.subcommand = Some(subcommand.to_owned()).filter(|name| !name.is_empty());
        shown(&self.ask(person, Act::Command(command), NOW).await)
    }

    async fn press(&self, person: Person, custom_id: &str, values: &[&str]) -> String {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let act = Act::Press { custom_id: custom_id.to_owned(), values };
        shown(&self.ask(person, act, NOW).await)
    }

    async fn typing(&self, name: &str, option: &str, text: &str) -> Vec<(String, String)> {
        let command = Command::new(name, &[(option, text)]);
        let act = Act::Typing { command, option: option.to_owned(), text: text.to_owned() };
        match self.ask(MANAGER, act, NOW).await {
            Answer::Offer(choices) => choices,
            other => panic!("{other:?}"),
        }
    }
}

fn write(path: &Path, events: &[String], version: u64) {
    let text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//EN\r\nX-WR-CALNAME:{name}\r\n\
         {}END:VCALENDAR\r\n",
        events.concat(),
        name = if path.ends_with("board.ics") { "Board" } else { "Example" },
    );
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(version);
    file.set_modified(time).unwrap();
}

fn handle(uid: &str, start: &str) -> Handle {
    Handle::new("site", &EventKey(uid.to_owned()), at(start))
}

/// What a reader sees, with the ids behind buttons.
fn shown(answer: &Answer) -> String {
    let first = answer.first();
    let data = &first["data"];
    assert_eq!(data["allowed_mentions"], serde_json::json!({ "parse": [] }));
    assert_eq!(data.get("flags").is_some(), first["type"] == 4, "{first}");
    let mut out = String::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for embed in list(&data["embeds"]) {
        for part in ["title", "description"] {
            if let Some(text) = embed[part].as_str() {
                out.push_str(&format!("{}{text}\n", if part == "title" { "# " } else { "" }));
            }
        }
        for field in list(&embed["fields"]) {
            out.push_str(&format!("## {}\n{}\n", text(&field["name"]), text(&field["value"])));
        }
        if let Some(text) = embed["footer"]["text"].as_str() {
            out.push_str(&format!("-- {text}\n"));
        }
    }
    for row in list(&data["components"]) {
        for one in list(&row["components"]) {
            let id = one["custom_id"].as_str().or(one["url"].as_str()).unwrap_or_default();
            let off = if one["disabled"] == true { " (off)" } else { "" };
            let label = one["label"].as_str().or(one["placeholder"].as_str()).unwrap_or_default();
            out.push_str(&format!("[{label}]{off} {id}\n"));
            for option in list(&one["options"]) {
                let mark = if option["default"] == true { "x" } else { "-" };
                out.push_str(&format!(
                    "  {mark} {} | {}\n",
                    text(&option["label"]),
                    text(&option["description"])
                ));
            }
        }
    }
    out
}

#[tokio::test]
async fn upcoming_lists_what_is_told_in_discord() {
    let office = Office::with(&[
        colloquium(),
        vevent("off", "Off", "20260304T150000", "STATUS:CANCELLED\r\n"),
        vevent("far", "Far away", "20260401T150000", ""),
    ])
    .await;
    insta::assert_snapshot!(office.command(MEMBER, "upcoming", &[]).await, @r#"
    # The next 7 days
    **Knots and \*links\***
    <t:1772568000:F> (<t:1772568000:R>) · Room 1

    ~~Off~~ (cancelled)
    <t:1772654400:F> (<t:1772654400:R>)

    -- 2 events
    [More about …] show:
      - Knots and *links* | Tue, Mar 3, 3:00 PM
      - Off | Wed, Mar 4, 3:00 PM
    "#);
    insta::assert_snapshot!(
        office.command(MEMBER, "upcoming", &[("days", "60"), ("search", "FAR")]).await,
        @r#"
    # The next 60 days
    **Far away**
    <t:1775070000:F> (<t:1775070000:R>)

    -- “FAR” · 1 event
    [More about …] show:
      - Far away | Wed, Apr 1, 3:00 PM
    "#
    );
    insta::assert_snapshot!(
        office.command(MEMBER, "upcoming", &[("category", "seminar")]).await,
        @r#"
    # The next 7 days
    **Knots and \*links\***
    <t:1772568000:F> (<t:1772568000:R>) · Room 1

    -- Seminar · 1 event
    [More about …] show:
      - Knots and *links* | Tue, Mar 3, 3:00 PM
    "#
    );
    insta::assert_snapshot!(
        office.command(MEMBER, "upcoming", &[("search", "nothing like it")]).await,
        @r#"
    # The next 7 days
    Nothing of the kind is coming up. Try more `days`, or other words.
    -- “nothing like it” · 0 events
    "#
    );
}

#[tokio::test]
async fn pages_turn() {
    let events: Vec<String> = (10..28)
        .map(|day| {
            vevent(&format!("e{day}"), &format!("Event {day}"), &format!("202603{day}T150000"), "")
        })
        .collect();
    let office = Office::with(&events).await;
    let first = office.command(MEMBER, "upcoming", &[("days", "30")]).await;
    assert!(first.contains("-- 18 events · page 1 of 3"), "{first}");
    assert!(first.contains("[◀ Earlier] (off)"), "{first}");
    let later = first.lines().find_map(|line| line.strip_prefix("[Later ▶] ")).unwrap();
    let second = office.press(MEMBER, later, &[]).await;
    assert!(second.contains("**Event 18**") && second.contains("page 2 of 3"), "{second}");
    let last = office.press(MEMBER, "page:30:99:: ", &[]).await;
    assert!(last.contains("**Event 27**") && last.contains("[Later ▶] (off)"), "{last}");
}

#[tokio::test]
async fn one_event_in_full() {
    let office = Office::with(&[colloquium()]).await;
    let next = office.command(MEMBER, "next", &[]).await;
    insta::assert_snapshot!(next, @r#"
    # Knots and \*links\*
    ## When
    <t:1772568000:F> – <t:1772571600:t> (<t:1772568000:R>)
    ## Where
    Room 1
    ## Categories
    Seminar
    -- what you asked for · Example
    [Details] https://events.example.edu/knots
    [Add to calendar] https://calendar.google.com/calendar/render?action=TEMPLATE&text=Knots+and+*links*&dates=20260303T200000Z%2F20260303T210000Z&location=Room+1&details=https%3A%2F%2Fevents.example.edu%2Fknots
    [Remind me] remind:a87b82b7.570b5d4137cffaaf.69a73dc0
    [Why was this told?] why:a87b82b7.570b5d4137cffaaf.69a73dc0
    "#);
    let value = handle("colloquium", "2026-03-03T20:00:00Z").to_string();
    assert_eq!(office.command(MEMBER, "event", &[("event", &value)]).await, next);
    assert_eq!(office.command(MEMBER, "event", &[("event", "LINKS knots")]).await, next);
    assert_eq!(office.press(MEMBER, "show:", &[&value]).await, next);
    insta::assert_snapshot!(
        office.command(MEMBER, "event", &[("event", "no such thing")]).await,
        @"I know no such event. Type a few letters of its title and choose one."
    );
    // The board's calendar goes to a mailing list alone.
    let board = Handle::new("board", &EventKey("b".into()), at("2026-03-03T15:00:00Z"));
    let answer = office.command(MEMBER, "event", &[("event", &board.to_string())]).await;
    assert!(answer.starts_with("I know no such event"), "{answer}");
}

#[tokio::test]
async fn without_events() {
    let office = Office::with(&[]).await;
    insta::assert_snapshot!(office.command(MEMBER, "upcoming", &[]).await, @r#"
    # The next 7 days
    Nothing is coming up.
    -- 0 events
    "#);
    insta::assert_snapshot!(office.command(MEMBER, "next", &[]).await, @"Nothing is coming up.");
    assert_eq!(office.typing("event", "event", "").await, []);
}

/// What cannot be asked for is not there, whichever way it is asked for.
async fn assert_hidden(office: &Office, uid: &str, start: &str, title: &str) {
    let id = handle(uid, start);
    let (value, text) = (id.to_string(), title.to_owned());
    for name in ["event", "why", "remind"] {
        for event in [&value, &text] {
            let answer = office.command(MEMBER, name, &[("event", event)]).await;
            assert!(answer.starts_with("I know no such event"), "/{name} {event}: {answer}");
        }
    }
    for press in [Press::Show(Some(id)), Press::Why(id), Press::Remind(id)] {
        let answer = office.press(MEMBER, &press.to_string(), &[]).await;
        assert!(answer.starts_with("I know no such event"), "{press}: {answer}");
    }
    let listed = office.command(MEMBER, "upcoming", &[("days", "30")]).await;
    assert!(!listed.contains(title), "{listed}");
    for name in ["event", "why", "remind"] {
        assert_eq!(office.typing(name, "event", title).await, [], "/{name}");
    }
}

#[tokio::test]
async fn only_events_that_discord_would_see_can_be_asked_for() {
    let config = CONFIG.replace(
        "announce = [\"time\", \"cancelled\"]\n    to = [\"channel\"]",
        "announce = [\"time\", \"cancelled\"]\n    to = [\"list\"]",
    );
    let salary = vevent("salary", "Salaries", "20260303T090000", "CATEGORIES:Staff\r\n");
    let internal = vevent("internal", "Hush", "20260303T100000", "CATEGORIES:Seminar,Internal\r\n");
    let office = Office::open(&config, &[colloquium(), salary.clone(), internal]).await;
    let next = office.command(MEMBER, "next", &[]).await;
    assert!(next.contains("Knots"), "the first that is public: {next}");
    assert_hidden(&office, "salary", "2026-03-03T14:00:00Z", "Salaries").await;
    assert_hidden(&office, "internal", "2026-03-03T15:00:00Z", "Hush").await;
    let categories = office.typing("upcoming", "category", "").await;
    assert_eq!(categories, [("Seminar".into(), "Seminar".into())]);
    // Of a series, or one that has moved, what became of it is looked up another way.
    office.feed(&[colloquium(), salary.replace("T090000", "T110000")], 2);
    office.poll("2026-03-02T13:00:00Z").await;
    assert_hidden(&office, "salary", "2026-03-03T14:00:00Z", "Salaries").await;

    let more = vevent("more", "More salaries", "20260310T100000", "CATEGORIES:Staff\r\n");
    let talk = vevent("talk", "New talk", "20260311T100000", "CATEGORIES:Seminar\r\n");
    office.feed(&[colloquium(), salary.replace("T090000", "T110000"), more, talk], 3);
    office.poll("2026-03-02T13:50:00Z").await;
    insta::assert_snapshot!(office.command(MANAGER, "refresh", &[]).await, @r"
    # Calendars read
    **Example**: 1 change, 3 messages on their way
      new: New talk
    ");
}

#[tokio::test]
async fn what_an_agenda_or_native_events_show_can_be_asked_for() {
    let seen = "[[agenda]]\n name = \"board\"\n watch = [\"x\"]\n to = [\"channel\"]\n";
    let native = "[[scheduled_events]]\n name = \"native\"\n watch = [\"x\"]\n";
    for section in [seen, native, ""] {
        let config = format!(
            r#"
            timezone = "America/New_York"

            [feed.site]
            url = "feed.ics"

            [[watch]]
            name = "x"
            feeds = ["site"]
            categories = ["Seminar"]
            to = ["list"]

            {section}
            [receiver.channel]
            discord = {{ channel = "7" }}

            [receiver.list]
            email = {{ to = ["a@example.edu"] }}

            [discord]
            token = {{ env = "UNSET" }}
            guild = "900"

            [email]
            from = "beadle@example.edu"
            folder = "outbox"
            "#
        );
        let staff = vevent("staff", "Staff", "20260303T090000", "CATEGORIES:Staff\r\n");
        let office = Office::open(&config, &[colloquium(), staff]).await;
        let next = office.command(MEMBER, "next", &[]).await;
        match section {
            "" => assert!(next.starts_with("Nothing is coming up."), "{next}"),
            _ => assert!(next.contains("Knots"), "{section}: {next}"),
        }
        assert_hidden(&office, "staff", "2026-03-03T14:00:00Z", "Staff").await;
        let paused = office.command(MANAGER, "watch pause", &[("watch", "x")]).await;
        let told = "Agendas and the server’s events go on showing what it covers";
        assert_eq!(paused.contains(told), !section.is_empty(), "{paused}");
    }
}

#[tokio::test]
async fn another_server_is_turned_away() {
    let office = Office::with(&[colloquium()]).await;
    let elsewhere = Person::new(1, Some(GUILD + 1), u64::MAX);
    let id = handle("colloquium", "2026-03-03T20:00:00Z");
    for name in ["upcoming", "next", "subscriptions", "watch list", "refresh"] {
        let answer = office.command(elsewhere, name, &[]).await;
        assert_eq!(answer.trim_end(), "I answer in one server only, and this is another.");
    }
    let answer = office.press(elsewhere, &Press::Remind(id).to_string(), &[]).await;
    assert_eq!(answer.trim_end(), "I answer in one server only, and this is another.");
    let command = Command::new("event", &[("event", "k")]);
    let typing = Act::Typing { command, option: "event".into(), text: "k".into() };
    assert_eq!(office.ask(elsewhere, typing, NOW).await, Answer::Offer(Vec::new()));
    assert!(office.pipeline.store.reminder_requests(None).await.unwrap().is_empty());
    // A person alone is answered.
    let next = office.command(Person::new(1, None, 0), "next", &[]).await;
    assert!(next.contains("Knots"), "{next}");
}

#[tokio::test]
async fn choices_are_few_short_and_harmless() {
    let mut events: Vec<String> = (0..30)
        .map(|n| {
            vevent(
                &format!("e{n}"),
                &"long ".repeat(60),
                &format!("20260310T{:02}0000", n % 24),
                "",
            )
        })
        .collect();
    events.push(vevent(
        "evil",
        "@everyone `x` <@1>\u{202e}",
        "20260309T100000",
        "CATEGORIES:A\r\n",
    ));
    let office = Office::with(&events).await;
    let choices = office.typing("event", "event", "").await;
    assert_eq!(choices.len(), 25);
    for (name, value) in &choices {
        assert!(name.encode_utf16().count() <= 100 && value.len() <= 100, "{name}");
        assert!(value.parse::<Handle>().is_ok());
    }
    assert_eq!(choices[0].0, "＠everyone 'x' ‹＠1> (Mon, Mar 9, 10:00 AM)");
    assert_eq!(office.typing("event", "event", "EVERY x").await.len(), 1);
    assert_eq!(office.typing("upcoming", "category", "").await, [("A".into(), "A".into())]);
    assert_eq!(office.typing("watch", "watch", "MO").await, [("moves".into(), "moves".into())]);
    let leads = office.typing("remind", "lead", "45m").await;
    assert_eq!(leads, [("45m before".to_owned(), "45m".to_owned())]);
    assert_eq!(office.typing("nonsense", "x", "").await, []);
}

#[tokio::test]
async fn hostile_titles_stay_text() {
    let evil = "@everyone **bold** [x](https://evil.example) <@&1> `code` Passcode: 123456";
    let office =
        Office::with(&[vevent("evil", evil, "20260303T150000", "LOCATION:||#1\r\n")]).await;
    insta::assert_snapshot!(office.command(MEMBER, "upcoming", &[]).await, @r#"
    # The next 7 days
    **\@everyone \*\*bold\*\* \[x\](https\://evil.example) \<\@&1\> \`code\` Passcode: \[hidden\]**
    <t:1772568000:F> (<t:1772568000:R>) · \|\|#1

    -- 1 event
    [More about …] show:
      - ＠everyone **bold** [x](https://evil.example) ‹＠&1> 'code' Passcode: [hidden] | Tue, Mar 3, 3:00 PM
    "#);
    let id = handle("evil", "2026-03-03T20:00:00Z");
    insta::assert_snapshot!(office.press(MEMBER, &Press::Remind(id).to_string(), &[]).await, @r#"
    **\@everyone \*\*bold\*\* \[x\](https\://evil.example) \<\@&1\> \`code\` Passcode: \[hidden\]**
    <t:1772568000:F> (<t:1772568000:R>)

    I will remind you by direct message:
    • <t:1772564400:F>, 1 hour before
    -- It moves with the event. /subscriptions lists all your reminders.
    [Change when] leads:one:a87b82b7.4cd959967f778ab8.69a73dc0
      - when it starts | 
      - 15 minutes before | 
      - 30 minutes before | 
      x 1 hour before | 
      - 3 hours before | 
      - 1 day before | 
      - the evening before | 
    [Don’t remind me] stop:159035ad9eb28a48
    "#);
}

#[tokio::test]
async fn reminders_are_asked_for_changed_and_taken_back() {
    let office = Office::with(&[colloquium()]).await;
    let id = handle("colloquium", "2026-03-03T20:00:00Z");
    let remind = Press::Remind(id).to_string();
    let promised = office.press(MEMBER, &remind, &[]).await;
    insta::assert_snapshot!(promised, @r#"
    **Knots and \*links\***
    <t:1772568000:F> (<t:1772568000:R>)

    I will remind you by direct message:
    • <t:1772564400:F>, 1 hour before
    -- It moves with the event. /subscriptions lists all your reminders.
    [Change when] leads:one:a87b82b7.570b5d4137cffaaf.69a73dc0
      - when it starts | 
      - 15 minutes before | 
      - 30 minutes before | 
      x 1 hour before | 
      - 3 hours before | 
      - 1 day before | 
      - the evening before | 
    [Don’t remind me] stop:64123e16a9939d56
    "#);
    assert_eq!(
        office.press(MEMBER, &remind, &[]).await,
        promised,
        "a second press changes nothing"
    );

    insta::assert_snapshot!(
        office.command(MEMBER, "remind", &[("event", &id.to_string()), ("lead", "1d at 20:00")]).await,
        @r#"
    **Knots and \*links\***
    <t:1772568000:F> (<t:1772568000:R>)

    I will remind you by direct message:
    • <t:1772499600:F>, 1d before, at 20:00
    • <t:1772564400:F>, 1 hour before
    -- It moves with the event. /subscriptions lists all your reminders.
    [Change when] leads:one:a87b82b7.570b5d4137cffaaf.69a73dc0
      - when it starts | 
      - 15 minutes before | 
      - 30 minutes before | 
      x 1 hour before | 
      - 3 hours before | 
      - 1 day before | 
      - the evening before |
    "#
    );
    // The same in other words.
    let again = [("event", id.to_string()), ("lead", "60 m".to_owned())];
    let again = again.each_ref().map(|(name, value)| (*name, value.as_str()));
    let again = office.command(MEMBER, "remind", &again).await;
    assert_eq!(again.matches("<t:1772564400:F>").count(), 1, "{again}");
    let leads = Press::Leads { handle: id, series: false }.to_string();
    let changed = office.press(MEMBER, &leads, &["15m", "1w"]).await;
    insta::assert_snapshot!(changed, @"That moment has passed already. Choose a shorter time before.");
    let changed = office.press(MEMBER, &leads, &["15m"]).await;
    assert!(
        changed.contains("15 minutes before") && !changed.contains("1 hour before,"),
        "{changed}"
    );

    insta::assert_snapshot!(office.command(MEMBER, "subscriptions", &[]).await, @r#"
    # Your reminders
    • **Knots and \*links\***, <t:1772568000:f>: 15 minutes before
    [Take back …] stop:
      - Knots and *links* | 15 minutes before
    "#);
    let choices = office.typing("unsubscribe", "reminder", "").await;
    assert_eq!(choices, [], "of somebody else");
    insta::assert_snapshot!(
        office.command(MEMBER, "unsubscribe", &[("reminder", "KNOTS")]).await,
        @r#"
    You will not be reminded of:
    • **Knots and \*links\***: 15 minutes before
    "#
    );
    insta::assert_snapshot!(office.command(MEMBER, "subscriptions", &[]).await, @"You asked for no reminders. `/remind` asks for one, and so does the button **Remind me** under a post.");
}

#[tokio::test]
async fn reminders_that_cannot_be() {
    let office = Office::with(&[
        colloquium(),
        vevent("soon", "Soon", "20260302T091000", ""),
        vevent("begun", "Begun", "20260302T083000", ""),
        vevent("off", "Off", "20260304T150000", "STATUS:CANCELLED\r\n"),
        "BEGIN:VEVENT\r\nUID:day\r\nDTSTART;VALUE=DATE:20260305\r\nSUMMARY:Day\r\nEND:VEVENT\r\n"
            .into(),
    ])
    .await;
    let mut said = Vec::new();
    for (event, lead) in [
        ("soon", "1h"),
        ("begun", "15m"),
        ("off", "1h"),
        ("day", "1h"),
        ("day", "1d at 18:00"),
        ("knots", "tomorrow *x*"),
        ("knots", "-1h"),
        ("nothing", "1h"),
    ] {
        let answer = office.command(MEMBER, "remind", &[("event", event), ("lead", lead)]).await;
        said.push(format!("{event}, {lead}: {}", answer.lines().next().unwrap()));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    soon, 1h: That moment has passed already. Choose a shorter time before.
    begun, 15m: That event has begun <t:1772458200:R>; it is too late.
    off, 1h: That event is cancelled.
    day, 1h: That event lasts all day and has no time to count from. Say the time of day: `1d at 18:00`, or `0d at 08:00` for the morning itself.
    day, 1d at 18:00: **Day**
    knots, tomorrow *x*: I cannot read that time. Write `30m`, `2h`, `1d`, `1w`, or `1d at 18:00`.
    knots, -1h: I cannot read that time. Write `30m`, `2h`, `1d`, `1w`, or `1d at 18:00`.
    nothing, 1h: I know no such event. Type a few letters of its title and choose one.
    "#);
    let soon = handle("soon", "2026-03-02T14:10:00Z");
    let answer = office.press(MEMBER, &Press::Remind(soon).to_string(), &[]).await;
    assert!(answer.contains("when it starts"), "{answer}");
}

#[tokio::test]
async fn nobody_asks_for_more_than_fifty() {
    let office = Office::with(&[colloquium()]).await;
    let id = handle("colloquium", "2026-03-03T20:00:00Z").to_string();
    for minutes in 1..=50 {
        let lead = format!("{minutes}m");
        office.command(MEMBER, "remind", &[("event", &id), ("lead", &lead)]).await;
    }
    let answer = office.command(MEMBER, "remind", &[("event", &id), ("lead", "2h")]).await;
    assert!(answer.starts_with("You have 50 reminders already"), "{answer}");
    let requests = office.pipeline.store.reminder_requests(Some(2)).await.unwrap();
    assert_eq!(requests.len(), 50);
    let other = office.pipeline.store.drop_reminder_requests(3, &[requests[0].id.clone()]).await;
    assert_eq!(other.unwrap(), [], "another person's reminder");
}

#[tokio::test]
async fn buttons_of_the_past() {
    let office = Office::with(&[colloquium()]).await;
    let mut said = Vec::new();
    let gone = handle("gone", "2026-02-01T20:00:00Z");
    let id = handle("colloquium", "2026-03-03T20:00:00Z");
    for press in [
        "".to_owned(),
        "something else".to_owned(),
        "remind:x".to_owned(),
        Press::Remind(gone).to_string(),
        Press::Show(Some(gone)).to_string(),
        Press::Why(gone).to_string(),
        Press::Stop(Some("0123456789abcdef".to_owned())).to_string(),
        "leads:one:00000000.0000000000000000.0".to_owned(),
    ] {
        let answer = office.press(MEMBER, &press, &[]).await;
        said.push(format!("{}: {}", press.split(':').next().unwrap(), answer.trim_end()));
    }
    let act = Act::Press { custom_id: Press::Remind(id).to_string(), values: Vec::new() };
    said.push(shown(&office.ask(MEMBER, act, "2026-03-03T20:30:00Z").await));
    insta::assert_snapshot!(said.join("\n"), @r#"
    : I no longer understand that button. The commands still work: `/upcoming`.
    something else: I no longer understand that button. The commands still work: `/upcoming`.
    remind: I no longer understand that button. The commands still work: `/upcoming`.
    remind: I know no such event. Type a few letters of its title and choose one.
    show: I know no such event. Type a few letters of its title and choose one.
    why: I know no such event. Type a few letters of its title and choose one.
    stop: That reminder is gone already.
    leads: I know no such event. Type a few letters of its title and choose one.
    That event has begun <t:1772568000:R>; it is too late.
    "#);
    // The event has moved since: the button finds it where it is.
    office.feed(&[colloquium().replace("20260303T150000", "20260305T160000")], 2);
    office.poll("2026-03-02T13:00:00Z").await;
    let card = office.press(MEMBER, &Press::Show(Some(id)).to_string(), &[]).await;
    assert!(card.contains("<t:1772744400:F>"), "{card}");
}

#[tokio::test]
async fn only_managers_manage() {
    let office = Office::with(&[colloquium()]).await;
    for command in ["watch list", "watch pause", "watch resume", "refresh"] {
        let direct = Person::new(1, None, 0);
        for person in [MEMBER, direct] {
            let answer = office.command(person, command, &[("watch", "seminars")]).await;
            assert!(answer.starts_with("Only members with"), "{command}: {answer}");
        }
    }
    assert!(office.pipeline.store.paused().await.unwrap().is_empty());

    insta::assert_snapshot!(office.command(MANAGER, "watch pause", &[("watch", "SEMINARS")]).await, @"**seminars** is paused: no news, reminders or digests of it, until `/watch resume`. What it misses is not told later.");
    insta::assert_snapshot!(office.command(MANAGER, "watch pause", &[("watch", "seminars")]).await, @"**seminars** is paused already.");
    insta::assert_snapshot!(office.command(MANAGER, "watch list", &[]).await, @r#"
    # Watches
    ⏸ **seminars** → <#7>, list: paused <t:1772460000:R> by <@1>
    ▶ **moves** → <#7>
    ▶ **board** → list
    -- What a paused watch misses is not told later.
    "#);
    insta::assert_snapshot!(office.command(MANAGER, "watch resume", &[("watch", "seminars")]).await, @"**seminars** announces again, from now on.");
    insta::assert_snapshot!(office.command(MANAGER, "watch resume", &[("watch", "nope")]).await, @"There is no such watch. `/watch list` shows them all.");
}

#[tokio::test]
async fn calendars_are_read_when_asked() {
    let office = Office::with(&[colloquium()]).await;
    let desk = Desk::new(&office.pipeline, &office.news);
    let json = serde_json::json!({ "id": "11", "application_id": "22", "type": 1, "token": "t" });
    let act = Act::Command(Command::new("refresh", &[]));
    let refresh = Interaction { person: MANAGER, act, ..parse(&json).unwrap() };
    office.feed(
        &[colloquium(), vevent("n", "New *one*", "20260310T100000", "CATEGORIES:Seminar\r\n")],
        2,
    );
    insta::assert_snapshot!(shown(&desk.answer(&refresh, at(NOW)).await), @r#"
    # Calendars read
    **Example**: nothing new; 1 waiting to be confirmed
    "#);
    insta::assert_snapshot!(shown(&desk.answer(&refresh, at("2026-03-02T14:00:30Z")).await), @r#"
    # Calendars read
    **Example**: read less than a minute ago
    "#);
    insta::assert_snapshot!(shown(&desk.answer(&refresh, at("2026-03-02T14:06:00Z")).await), @r#"
    # Calendars read
    **Example**: 1 change, 3 messages on their way
      new: New \*one\*
    "#);
    std::fs::write(office.folder.path().join("feed.ics"), "<html>").unwrap();
    let folder = office.folder.path().display().to_string();
    insta::assert_snapshot!(shown(&desk.answer(&refresh, at("2026-03-02T14:10:00Z")).await).replace(&folder, "…"), @r#"
    # Calendars read
    **Example**: could not be read. …/feed.ics: an HTML page instead of a calendar
    "#);
}

#[tokio::test]
async fn why_explains() {
    let office = Office::with(&[
        colloquium(),
        vevent("internal", "Internal", "20260303T160000", "CATEGORIES:Seminar,Internal\r\n"),
    ])
    .await;
    let why = async |uid: &str, start: &str, person: Person| {
        office.press(person, &Press::Why(handle(uid, start)).to_string(), &[]).await
    };
    // Known from the beginning.
    insta::assert_snapshot!(why("colloquium", "2026-03-03T20:00:00Z", MEMBER).await, @r#"
    # Knots and \*links\*
    <t:1772568000:F> (<t:1772568000:R>)

    **It was there from the beginning.** What is in a calendar when it is first read (<t:1772373600:R>) is not announced; what changes since then is.
    ## Messages
    None so far.
    ## Watches
    ✓ **seminars** covers it → <#7>, list; reminds <t:1772564400:R>
    ✓ **moves** covers it → <#7>; it does not announce new events
    ## Calendar
    Example: read regularly
    The event is in it
    "#);

    // New: waits to be told.
    let new = vevent("new", "New talk", "20260310T100000", "CATEGORIES:Seminar\r\n");
    let both = [colloquium(), new];
    office.feed(&both, 2);
    office.poll("2026-03-02T13:58:00Z").await;
    insta::assert_snapshot!(why("new", "2026-03-10T14:00:00Z", MEMBER).await, @r#"
    # New talk
    <t:1773151200:F> (<t:1773151200:R>)

    **Not yet.** It was first seen <t:1772459880:R>; it is told once it has lasted 5 min, <t:1772460180:R>.
    ## Messages
    None so far.
    ## Watches
    ✓ **seminars** covers it → <#7>, list; reminds <t:1773147600:R>
    ✓ **moves** covers it → <#7>; it does not announce new events
    ## Calendar
    Example: read regularly, next <t:1772460180:R>
    The event is in it
    "#);

    // Told, but not yet sent; and the watch is paused after that.
    office.poll("2026-03-02T14:04:00Z").await;
    office.command(MANAGER, "watch pause", &[("watch", "seminars")]).await;
    insta::assert_snapshot!(why("new", "2026-03-10T14:00:00Z", MANAGER).await, @r#"
    # New talk
    <t:1773151200:F> (<t:1773151200:R>)

    **It is on its way**: due <t:1772460240:R>.
    ## Messages
    • **new** in <#7>: due <t:1772460240:R>
    • **new** by mail to list: due <t:1772460240:R> (2 addresses)
    ## Watches
    ⏸ **seminars** covers it, but is paused since <t:1772460000:R>
    ✓ **moves** covers it → <#7>; it does not announce new events
    ## Calendar
    Example: read regularly, next <t:1772461131:R>
    The event is in it
    "#);

    // Excluded, and gone.
    insta::assert_snapshot!(why("internal", "2026-03-03T21:00:00Z", MEMBER).await, @r#"
    # Internal
    <t:1772571600:F> (<t:1772571600:R>)

    **It is gone from the calendar**, first noticed <t:1772459880:R>. It must stay away for 30 min before that is believed and told: <t:1772461680:R>.
    ## Messages
    None so far.
    ## Watches
    ✗ **seminars** leaves out Internal
    ✓ **moves** covers it → <#7>; it does not announce new events
    ## Calendar
    Example: read regularly, next <t:1772461131:R>
    The event is missing from it
    "#);
}

#[tokio::test]
async fn why_tells_a_mass_loss() {
    let mut events: Vec<String> = (10..20)
        .map(|day| vevent(&format!("e{day}"), "Talk", &format!("202603{day}T150000"), ""))
        .collect();
    events.push(colloquium());
    let office = Office::with(&events).await;
    office.feed(&[colloquium()], 2);
    office.poll("2026-03-02T13:00:00Z").await;
    let press = Press::Why(handle("e10", "2026-03-10T19:00:00Z")).to_string();
    let answer = office.press(MEMBER, &press, &[]).await;
    insta::assert_snapshot!(answer.lines().nth(3).unwrap(), @"**It is gone from the calendar**, first noticed <t:1772456400:R>. 10 of 11 upcoming events went at once, so it must stay away for 24 h before that is believed and told: <t:1772542800:R>.");
}

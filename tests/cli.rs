//! The built program, used as a stranger would use it.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::discord::{Answer, DiscordStandIn};
use support::feed::FeedStandIn;
use support::smtp::{At, Fault, SmtpStandIn};
use support::world::{calendar, event, event_with, write_feed};

fn beadle(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beadle"));
    command.current_dir(folder).args(args).stdin(Stdio::null());
    for name in ["BEADLE_CONFIG", "BEADLE_LOG", "NO_COLOR", "TZ"] {
        command.env_remove(name);
    }
    command
}

/// Standard output, standard error, exit code.
fn run(folder: &Path, args: &[&str]) -> (String, String, i32) {
    texts(beadle(folder, args).output().unwrap())
}

fn texts(output: Output) -> (String, String, i32) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder with the example configuration and its feed.
fn example() -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("tests/feeds")).unwrap();
    std::fs::copy(root.join("config.example.toml"), folder.path().join("config.toml")).unwrap();
    let feed = "tests/feeds/sample.ics";
    std::fs::copy(root.join(feed), folder.path().join(feed)).unwrap();
    folder
}

const MINIMAL: &str = r#"timezone = "America/New_York"

[feed.site]
url = "feed.ics"
every = "10s"
settle = "0s"

[[watch]]
name = "all"
feeds = ["site"]
remind = ["1h"]
welcome = true
to = ["screen"]

[[digest]]
name = "weekly"
every = "Mon 08:00"
ahead = "7d"
watch = ["all"]
to = ["screen"]

[receiver.screen]
terminal = true
"#;

fn minimal() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), MINIMAL).unwrap();
    write_feed(
        &folder.path().join("feed.ics"),
        calendar(&[event("a", "First talk", "20990310T100000")]).as_bytes(),
    );
    folder
}

#[test]
fn every_command_explains_itself() {
    let commands: [&[&str]; 19] = [
        &[],
        &["run"],
        &["once"],
        &["check"],
        &["send-test"],
        &["discord"],
        &["discord", "invite"],
        &["events"],
        &["diff"],
        &["preview"],
        &["rehearse"],
        &["status"],
        &["backup"],
        &["restore"],
        &["doctor"],
        &["outbox"],
        &["outbox", "list"],
        &["outbox", "retry"],
        &["outbox", "drop"],
    ];
    let here = tempfile::tempdir().unwrap();
    for command in commands {
        let (out, err, code) = run(here.path(), &[command, &["--help"]].concat());
        assert_eq!((err.as_str(), code), ("", 0), "{command:?}");
        let usage = [&["Usage: beadle"], command].concat().join(" ");
        assert!(out.contains(&usage), "{command:?}: {out}");
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{command:?}: {out}");
    }
}

#[test]
fn with_log_json_each_line_is_an_object_and_counts_are_numbers() {
    let folder = minimal();
    let (_, err, code) = run(folder.path(), &["--log", "json", "once"]);
    assert_eq!(code, 0, "{err}");
    let lines = json_lines(&err);
    let said = |message: &str| {
        lines.iter().find(|line| line["message"].as_str().unwrap().starts_with(message)).unwrap()
    };
    assert!(said("read for the first time")["events"].is_u64(), "{err}");
    assert!(said("sent")["lag_ms"].is_i64(), "{err}");
}

#[test]
fn with_log_json_the_last_word_is_json_too() {
    let folder = minimal();
    for (command, message) in [("status", "holds no state yet"), ("nonsense.toml", "nonsense.toml")]
    {
        let args: &[&str] = match command {
            "status" => &["--log", "json", "status"],
            config => &["--log", "json", "check", "--config", config],
        };
        let (out, err, code) = run(folder.path(), args);
        assert!(out.is_empty() && code > 0, "{out}");
        let lines: Vec<serde_json::Value> =
            err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.last().unwrap();
        assert_eq!(last["level"], "ERROR");
        assert!(last["message"].as_str().unwrap().contains(message), "{err}");
    }
}

#[test]
fn the_exit_code_says_what_went_wrong() {
    let folder = minimal();
    std::fs::write(folder.path().join("page.html"), "<!doctype html><html></html>").unwrap();
    let table: [(&[&str], i32, &str); 21] = [
        (&["events", "feed.ics"], 0, ""),
        (&["diff", "feed.ics", "feed.ics"], 0, ""),
        (&["rehearse"], 0, ""),
        (&["check"], 0, ""),
        (&["status"], 1, "holds no state yet"),
        (&["outbox", "list"], 1, "holds no state yet"),
        (&["events", "page.html"], 1, "HTML"),
        (&["events", "nowhere.ics"], 1, "No such file"),
        (&["events", "."], 1, "not a regular file"),
        (&["diff", "feed.ics", "nowhere.ics"], 1, "No such file"),
        (&[], 2, "Usage"),
        (&["fly"], 2, "unrecognized subcommand"),
        (&["events", "--from", "tomorrow"], 2, "--from"),
        (&["events", "feed.ics", "--from", "2026-12-02", "--to", "2026-12-01"], 2, "is after --to"),
        (&["rehearse", "--from", "2026-12-02", "--to", "2026-12-01"], 2, "is after --to"),
        (&["events", "feed.ics", "--timezone", "Mars/Base"], 2, "Mars/Base"),
        (&["events", "gopher://example.edu/"], 2, "gopher"),
        (&["events", ""], 2, "empty"),
        (&["preview", "nothing"], 2, "there are: weekly, all"),
        (&["once", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (&["outbox", "drop", ""], 2, "value"),
    ];
    for (args, expected, said) in table {
        let (out, err, code) = run(folder.path(), args);
        assert_eq!(code, expected, "{args:?}: {out}{err}");
        assert!(err.contains(said), "{args:?}: {err}");
        let is_error = err.starts_with("error:") || expected == 0 || said == "Usage";
        assert!(is_error, "{args:?}: {err}");
    }
    assert!(!folder.path().join("state").exists(), "none of these makes a state folder");
}

#[test]
fn the_example_posts_and_writes_mail() {
    let folder = example();
    let (out, err, code) = run(folder.path(), &["once"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Robotics Seminar"), "{out}");
    assert!(!out.contains("424242") && !out.contains('\x1b'), "{out}");
    let names = std::fs::read_dir(folder.path().join("outbox")).unwrap();
    let mut kinds: Vec<_> =
        names.map(|entry| entry.unwrap().path().extension().unwrap().to_owned()).collect();
    kinds.sort();
    assert_eq!(kinds, ["eml", "html"]);

    let (again, _, code) = run(folder.path(), &["once"]);
    assert_eq!((again.as_str(), code), ("", 0), "nothing new the second time");
    let (status, _, _) = run(folder.path(), &["status"]);
    assert!(status.contains("2 sent, 0 dead"), "{status}");
    let (status, _, _) = run(folder.path(), &["status", "--format", "json"]);
    assert_eq!(json_lines(&status)[0]["outbox"]["sent"], 2);
    let (sent, _, _) =
        run(folder.path(), &["outbox", "list", "--state", "sent", "--format", "json"]);
    assert_eq!(json_lines(&sent).len(), 2);
    let (check, err, code) = run(folder.path(), &["check"]);
    assert_eq!(code, 0, "{check}{err}");
    let (plan, _, code) =
        run(folder.path(), &["rehearse", "--from", "2026-11-30", "--to", "2026-12-07"]);
    assert_eq!(code, 0);
    assert!(plan.starts_with("Mon 2026-11-30 08:00 EST  weekly → seminar-list"), "{plan}");
    for (medium, sign) in [
        ("terminal", "▌"),
        ("discord", "\"embeds\""),
        ("text", "You get this because"),
        ("html", "<html"),
    ] {
        for name in ["weekly", "seminars"] {
            let (out, err, code) = run(folder.path(), &["preview", name, "--as", medium]);
            assert_eq!(code, 0, "{err}");
            assert!(out.contains(sign), "{name} as {medium}: {out}");
        }
    }
}

#[test]
fn events_are_json_of_a_fixed_shape() {
    let folder = tempfile::tempdir().unwrap();
    let day = "BEGIN:VEVENT\r\nUID:day\r\nDTSTAMP:20260101T000000Z\r\n\
               DTSTART;VALUE=DATE:20260310\r\nSUMMARY:Open day\r\nEND:VEVENT\r\n";
    let weekly = event_with("week", "Weekly", "20260303T090000", "RRULE:FREQ=WEEKLY;COUNT=3\r\n");
    let rich = event_with(
        "rich",
        "A\\, B",
        "20260310T100000",
        "STATUS:TENTATIVE\r\nCATEGORIES:Two,One\r\nLOCATION:Room 1\r\nURL:https://example.edu/1\r\n",
    );
    let broken = "BEGIN:VEVENT\r\nUID:bad\r\nDTSTART:yesterday\r\nEND:VEVENT\r\n";
    let text = calendar(&[rich, day.to_owned(), weekly, broken.to_owned()]);
    write_feed(&folder.path().join("feed.ics"), text.as_bytes());

    let args = ["events", "feed.ics", "--from", "2026-03-10", "--to", "2026-03-11T00:00:00Z"];
    let (out, err, code) =
        run(folder.path(), &[&args[..], &["--timezone", "UTC", "--format", "json"]].concat());
    assert_eq!(code, 0);
    assert!(err.contains("bad"), "warnings go to standard error: {err}");
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            r#"{"uid":"day","recurrence_id":null,"start":"2026-03-10","end":"2026-03-11","all_day":true,"zone":null,"summary":"Open day","status":"confirmed","categories":[],"location":"","url":null}"#,
            r#"{"uid":"week","recurrence_id":"2026-03-10T13:00:00Z","start":"2026-03-10T13:00:00Z","end":"2026-03-10T14:00:00Z","all_day":false,"zone":"America/New_York","summary":"Weekly","status":"confirmed","categories":[],"location":"","url":null}"#,
            r#"{"uid":"rich","recurrence_id":null,"start":"2026-03-10T14:00:00Z","end":"2026-03-10T15:00:00Z","all_day":false,"zone":"America/New_York","summary":"A, B","status":"tentative","categories":["One","Two"],"location":"Room 1","url":"https://example.edu/1"}"#,
        ]
    );
    // Half-open: what ends or begins at the edge is outside.
    let args = ["events", "feed.ics", "--from", "2026-03-10T14:00:00Z"];
    let (out, _, _) = run(
        folder.path(),
        &[&args[..], &["--to", "2026-03-10T14:00:01Z", "--format", "json"]].concat(),
    );
    let uids: Vec<_> = json_lines(&out).iter().map(|line| line["uid"].to_string()).collect();
    assert_eq!(uids, [r#""day""#, r#""rich""#]);
}

#[test]
fn differences_are_json_of_a_fixed_shape() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, events: &[String]| {
        write_feed(&folder.path().join(name), calendar(events).as_bytes());
    };
    let stay = event("stay", "Stays", "20260401T100000");
    write(
        "old.ics",
        &[
            event_with("place", "Place", "20260310T100000", "LOCATION:Room 1\r\n"),
            event("9-1-2@site", "Time", "20260311T100000"),
            event("off", "Off", "20260312T100000"),
            event("gone", "Gone", "20260313T100000"),
            stay.clone(),
        ],
    );
    write(
        "new.ics",
        &[
            event_with("place", "Place", "20260310T100000", "LOCATION:Room 2\r\n"),
            event("9-3-4@site", "Time", "20260311T120000"),
            event_with("off", "Off", "20260312T100000", "STATUS:CANCELLED\r\n"),
            event("new", "New", "20260314T100000"),
            stay,
        ],
    );
    let (out, err, code) = run(folder.path(), &["diff", "old.ics", "new.ics", "--format", "json"]);
    assert_eq!((err.as_str(), code), ("", 0));
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            r#"{"kind":"updated","uid":"place","previous_uid":null,"summary":"Place","fields":{"location":{"old":"Room 1","new":"Room 2"}}}"#,
            r#"{"kind":"rescheduled","uid":"9-3-4@site","previous_uid":"9-1-2@site","summary":"Time","fields":{"start":{"old":"2026-03-11T14:00:00Z","new":"2026-03-11T16:00:00Z"},"end":{"old":"2026-03-11T15:00:00Z","new":"2026-03-11T17:00:00Z"}}}"#,
            r#"{"kind":"cancelled","uid":"off","previous_uid":null,"summary":"Off","fields":{"status":{"old":"confirmed","new":"cancelled"}}}"#,
            r#"{"kind":"missing","uid":"gone","previous_uid":null,"summary":"Gone","fields":{}}"#,
            r#"{"kind":"new","uid":"new","previous_uid":null,"summary":"New","fields":{}}"#,
        ]
    );
    let (out, _, _) = run(folder.path(), &["diff", "old.ics", "old.ics"]);
    assert_eq!(out, "");
}

#[test]
fn a_series_that_ends_later_is_rescheduled() {
    let folder = tempfile::tempdir().unwrap();
    let old = event_with("w", "Weekly", "20260303T090000", "RRULE:FREQ=WEEKLY\r\n");
    let new = old.replace("DURATION:PT1H", "DURATION:PT2H");
    write_feed(&folder.path().join("old.ics"), calendar(&[old]).as_bytes());
    write_feed(&folder.path().join("new.ics"), calendar(&[new]).as_bytes());
    let (out, _, _) = run(folder.path(), &["diff", "old.ics", "new.ics", "--format", "json"]);
    let lines = json_lines(&out);
    assert_eq!(lines.len(), 1, "{out}");
    assert_eq!(lines[0]["kind"], "rescheduled");
    assert_eq!(
        lines[0]["fields"].to_string(),
        r#"{"end":{"old":"2026-03-03T15:00:00Z","new":"2026-03-03T16:00:00Z"}}"#
    );
}

#[test]
fn a_wrong_configuration_is_pointed_at_and_nothing_is_started() {
    // What is replaced by what, where the error is, and what it and its hint say.
    let table: [(&str, &str, &str, &str); 10] = [
        ("feeds = [\"site\"]", "feed = [\"site\"]", "10:1", "did you mean `feeds`"),
        ("remind = [\"1h\"]", "categorys = [\"x\"]", "11:1", "did you mean `categories`"),
        ("welcome = true", "welcome = 1", "12:11", "true"),
        ("America/New_York", "America/New_Yrok", "1:12", "America/New_York"),
        ("Mon 08:00", "Mon 25:00", "17:9", "08:00"),
        ("every = \"10s\"", "every = \"often\"", "5:9", "often"),
        ("feeds = [\"site\"]", "feeds = [\"sites\"]", "10:10", "did you mean `site`"),
        ("to = [\"screen\"]\n\n[[d", "to = [\"scren\"]\n\n[[d", "13:7", "did you mean `screen`"),
        (
            "terminal = true",
            "discord = { webhook = { env = \"BEADLE_TEST_UNSET\" } }",
            "23:23",
            "BEADLE_TEST_UNSET",
        ),
        ("[receiver.screen]", "[receiver.screen]\n[receiver.screen]", "23:", "screen"),
    ];
    for (from, to, place, said) in table {
        let folder = minimal();
        let text = MINIMAL.replacen(from, to, 1);
        assert_ne!(text, MINIMAL, "{from:?}");
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        for command in ["once", "run"] {
            let (out, err, code) = run(folder.path(), &[command]);
            assert_eq!((out.as_str(), code), ("", 2), "{to}: {err}");
            assert!(err.contains(&format!("error: config.toml:{place}")), "{to}: {err}");
            assert!(err.contains(said), "{to}: {err}");
            let line: usize = place.split(':').next().unwrap().parse().unwrap();
            let text = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
            let quoted = text.lines().nth(line - 1).unwrap().trim();
            assert!(err.contains(quoted), "{to}: the line {quoted:?} is not quoted: {err}");
        }
        assert!(!folder.path().join("state").exists(), "{to}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<String> = (0..5000)
        .map(|n| event(&format!("e{n}"), &"long ".repeat(20), "20260310T100000"))
        .collect();
    write_feed(&folder.path().join("feed.ics"), calendar(&many).as_bytes());
    let mut child =
        beadle(folder.path(), &["events", "feed.ics"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Tue 2026-03-10"), "{line}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let folder = example();
    let mut once = beadle(folder.path(), &["once"]);
    let mut child = once.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    let (out, _, _) = run(folder.path(), &["outbox", "list", "--state", "sent"]);
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn a_rehearsal_says_what_when_and_to_whom() {
    let folder = minimal();
    let config = "timezone = \"America/New_York\"\n[feed.site]\nurl = \"feed.ics\"\n\
        [[watch]]\nname = \"all\"\nfeeds = [\"site\"]\nremind = [\"1d\", \"1d at 18:00\"]\n\
        to = [\"screen\"]\n[[digest]]\nname = \"weekly\"\nevery = \"Mon 08:00\"\n\
        watch = [\"all\"]\nto = [\"screen\"]\n[receiver.screen]\nterminal = true\n";
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    // On Sunday, Nov 1 the clocks go back.
    let feed = calendar(&[event("talk", "Talk", "20261102T160000")]);
    write_feed(&folder.path().join("feed.ics"), feed.as_bytes());
    let args = ["rehearse", "--from", "2026-10-26", "--to", "2026-11-03"];
    let (out, err, code) = run(folder.path(), &args);
    assert_eq!(code, 0, "{err}");
    let expected = [
        "Sun 2026-11-01 16:00 EST  all → screen  reminder (1d before): Talk",
        "Sun 2026-11-01 18:00 EST  all → screen  reminder (1d before, at 18:00): Talk",
        "Mon 2026-11-02 08:00 EST  weekly → screen  digest: 1 event",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_message_cut_off_by_a_kill_still_waits() {
    // A server that never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = minimal();
    let config = MINIMAL.replace("terminal = true", "discord = { channel = \"7\" }");
    let config = format!(
        "{config}\n[discord]\ntoken = {{ file = \"token\" }}\napi_url = \"http://{}\"\n",
        server.local_addr().unwrap()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    std::fs::write(folder.path().join("token"), "a-token").unwrap();
    let mut child = Running(beadle(folder.path(), &["once"]).spawn().unwrap());
    // The request is on its way.
    let _request = server.accept().unwrap();
    child.0.kill().unwrap();
    child.0.wait().unwrap();

    let (status, _, _) = run(folder.path(), &["status"]);
    assert!(status.contains("outbox: 1 waiting, 0 sent, 0 dead"), "{status}");
    let (list, _, _) = run(folder.path(), &["outbox", "list"]);
    assert!(list.contains("leased"), "{list}");
}

#[test]
fn what_was_given_up_says_why() {
    let folder = minimal();
    let config = MINIMAL.replace("terminal = true", "email = { to = [\"ann@example.edu\"] }");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "{config}\n[email]\nfrom = \"b@example.edu\"\nserver = \"smtp://{free}?tls=none\"\n"
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    run(folder.path(), &["once"]);
    let (list, _, _) = run(folder.path(), &["outbox", "list"]);
    assert!(list.contains("pending") && list.contains(" after 1 attempt: "), "{list}");
    let (dropped, _, code) = run(folder.path(), &["outbox", "drop", &list[..8]]);
    assert!(code == 0 && dropped.ends_with(": dropped\n"), "{dropped}");
    let (list, _, _) = run(folder.path(), &["outbox", "list"]);
    assert!(list.contains("superseded") && list.contains(" before: "), "{list}");
}

#[test]
fn a_damaged_database_is_an_error_with_a_hint() {
    let folder = minimal();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let file = folder.path().join("state/beadle.db");
    let garbage = b"this is no database ".repeat(500);
    std::fs::write(&file, &garbage).unwrap();
    for command in ["once", "status"] {
        let (_, err, code) = run(folder.path(), &[command]);
        assert_eq!(code, 1);
        assert!(err.contains("hint: beadle.db is damaged"), "{err}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), garbage, "it is left as it is");
}

#[test]
fn odd_names_of_folders_are_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b?c#d%20e ü&'\"");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("config.toml"), MINIMAL).unwrap();
    write_feed(
        &odd.join("feed.ics"),
        calendar(&[event("a", "First talk", "20990310T100000")]).as_bytes(),
    );
    let config = odd.join("config.toml");
    let (_, err, code) = run(folder.path(), &["once", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(odd.join("state/beadle.db").exists());
    let elsewhere: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(elsewhere.len(), 1, "nothing is written elsewhere: {elsewhere:?}");
    let (status, _, code) = run(&odd, &["status"]);
    assert!(code == 0 && status.contains("1 sent"), "{status}");
}

/// Lines as they come.
fn lines_of(reader: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// Waits for a line with these words.
fn wait_for(lines: &mpsc::Receiver<String>, words: &str, within: Duration) -> String {
    let end = Instant::now() + within;
    let mut all = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(words) => return line,
            Ok(line) => all.push_str(&format!("{line}\n")),
            Err(_) => panic!("{words:?} did not come; there was:\n{all}"),
        }
    }
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn run_tells_changes_as_they_come_and_stops_when_told() {
    let folder = minimal();
    let mut child = Running(
        beadle(folder.path(), &["run"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let out = lines_of(child.0.stdout.take().unwrap());
    let err = lines_of(child.0.stderr.take().unwrap());
    let soon = Duration::from_secs(60);
    wait_for(&out, "Now watching: all", soon);

    // A second one is refused, the first is named; looking is allowed.
    let (_, refused, code) = run(folder.path(), &["run"]);
    let pid = child.0.id();
    assert_eq!(code, 1);
    assert!(refused.contains(&format!("another beadle (process {pid}) is using")), "{refused}");
    assert!(refused.contains("hint:"), "{refused}");
    let (status, complaint, code) = run(folder.path(), &["status"]);
    assert!(code == 0 && status.starts_with("beadle is running"), "{code}: {status}{complaint}");

    write_feed(
        &folder.path().join("feed.ics"),
        calendar(&[
            event("a", "First talk", "20990310T100000"),
            event("b", "Second talk", "20990311T100000"),
        ])
        .as_bytes(),
    );
    wait_for(&out, "New: Second talk", soon);

    let begun = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < soon, "{:?}", begun.elapsed());
    wait_for(&err, "stopped", soon);
    let (status, _, _) = run(folder.path(), &["status"]);
    assert!(status.starts_with("beadle is not running"), "{status}");
}

#[test]
fn a_feed_that_has_moved_for_good_is_read_and_said_to_have_moved() {
    let feed = FeedStandIn::start(calendar(&[event("a", "First talk", "20990310T100000")]));
    for (status, said) in [(302, false), (301, true)] {
        feed.status(status);
        let folder = tempfile::tempdir().unwrap();
        let config = MINIMAL
            .replace("\"feed.ics\"", &format!("{:?}", feed.url()))
            .replace("10s", "60s")
            .replace("settle", "private = true\nsettle");
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let (_, err, code) = run(folder.path(), &["once"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(
            err.contains("it has moved for good, to http://127.0.0.1: write"),
            said,
            "{err}"
        );
        assert!(!err.contains("/moved"), "the address is kept secret: {err}");
    }
}

#[test]
fn no_secret_is_ever_shown() {
    const CANARY: &str = "canary-9f8e7d";
    let (discord, smtp) = (DiscordStandIn::start(), SmtpStandIn::start());
    smtp.require_login("beadle", &format!("{CANARY}-password"));
    let feed = FeedStandIn::start(calendar(&[event("a", "First talk", "20990310T100000")]));
    let folder = tempfile::tempdir().unwrap();
    let feed_url = feed.url().replace("calendar.ics", &format!("{CANARY}-path.ics?t={CANARY}"));
    let config = MINIMAL
        .replace("\"feed.ics\"", &format!("{feed_url:?}"))
        .replace("10s", "60s")
        .replace(
            "settle",
            "private = true\nbearer = { env = \"T_BEARER\" }\nheaders = { X-Key = { env = \"T_KEY\" } }\nsettle",
        )
        .replace("to = [\"screen\"]", "to = [\"screen\", \"channel\", \"hook\", \"list\"]");
    let config = format!(
        "{config}\n[receiver.channel]\ndiscord = {{ channel = \"7\" }}\n\
         [receiver.hook]\ndiscord = {{ webhook = {{ env = \"T_HOOK\" }} }}\n\
         [receiver.list]\nemail = {{ to = [\"ann@example.edu\"] }}\n\
         [discord]\ntoken = {{ env = \"T_TOKEN\" }}\napi_url = \"{}\"\n\
         [email]\nfrom = \"Beadle <beadle@example.edu>\"\n\
         server = \"smtp://beadle@{}:{}?tls=none\"\npassword = {{ env = \"T_PASSWORD\" }}\n\
         [alive]\nurl = {{ env = \"T_ALIVE\" }}\n[http]\nlisten = \"127.0.0.1:0\"\n",
        discord.url(),
        smtp.host(),
        smtp.port()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let hook = format!("https://discord.com/api/webhooks/8/{CANARY}-hook");
    // Nobody listens there any more.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = |args: &[&str]| {
        let mut command = beadle(folder.path(), args);
        command.env("BEADLE_LOG", "trace").env("T_HOOK", &hook);
        command.env("T_ALIVE", format!("http://{CANARY}@{dead}/{CANARY}-ping?{CANARY}"));
        for name in ["BEARER", "KEY", "TOKEN", "PASSWORD"] {
            command.env(format!("T_{name}"), format!("{CANARY}-{}", name.to_lowercase()));
        }
        command
    };
    let look = |what: &str, text: &str| {
        if let Some(at) = text.find(CANARY) {
            let from = text[..at].rfind('\n').unwrap_or(0);
            panic!("{what} shows a secret: {}", &text[from..at + CANARY.len()]);
        }
    };
    let run = |args: &[&str]| {
        let (out, err, code) = texts(command(args).output().unwrap());
        look(&format!("{args:?}"), &out);
        look(&format!("{args:?}"), &err);
        (out, err, code)
    };
    discord.script([Answer::error(401, 0, &format!("bad token {CANARY}-token")), Answer::Drop]);
    smtp.script(At::Auth, Fault::reply(&format!("535 5.7.8 no such {CANARY}-password")));
    for format in ["text", "json"] {
        let (report, err, _) = run(&["check", "--log", format]);
        assert!(report.contains("password: from"), "{report}{err}");
        run(&["once", "--log", format]);
        run(&["status", "--log", format]);
        run(&["outbox", "list", "--log", format]);
        run(&["events", "--log", format]);
        let (report, err, _) = run(&["doctor", "--log", format]);
        assert!(report.contains("state: "), "{report}{err}");
        for receiver in ["channel", "hook", "list"] {
            run(&["send-test", receiver, "--log", format]);
        }
        #[cfg(unix)]
        {
            let mut child = Running(
                command(&["run", "--log", format])
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap(),
            );
            let lines = lines_of(child.0.stderr.take().unwrap());
            let (mut log, mut address) = (String::new(), None);
            while !log.contains("the alive ping failed") {
                let line = lines.recv_timeout(Duration::from_secs(60)).expect(&log);
                log.push_str(&line);
                log.push('\n');
                if line.contains("serving /healthz") {
                    let (_, at) = line.split_once("listen").unwrap();
                    let at = at.trim_start_matches(['"', ':', '=']);
                    address = at.split(['"', ' ']).next().map(str::to_owned);
                }
            }
            for path in ["/metrics", "/readyz", "/healthz"] {
                let mut stream = TcpStream::connect(address.as_ref().unwrap()).unwrap();
                write!(stream, "GET {path} HTTP/1.1\r\nHost: beadle\r\n\r\n").unwrap();
                let mut page = String::new();
                stream.read_to_string(&mut page).unwrap();
                assert!(page.starts_with("HTTP/1.1 "), "{page}");
                look(path, &page);
            }
            let pid = child.0.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            assert_eq!(child.0.wait().unwrap().code(), Some(0));
            log.extend(lines.iter().map(|line| line + "\n"));
            look("run", &log);
        }
        feed.status(500);
    }
    assert!(!feed.requests().is_empty() && !discord.requests().is_empty());
    assert!(feed.requests()[0].contains(&format!("{CANARY}-bearer")), "it was used");
    for entry in std::fs::read_dir(folder.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "{} holds a secret", path.display());
    }
}

#[test]
fn an_empty_answer_is_no_failure() {
    let folder = minimal();
    write_feed(&folder.path().join("feed.ics"), b"");
    let (_, err, code) = run(folder.path(), &["once"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("taken for one without events"), "{err}");
    let (out, err, code) = run(folder.path(), &["events", "feed.ics"]);
    assert_eq!((out.as_str(), code), ("", 0), "{err}");
    assert!(err.contains("no events"), "{err}");
    // Nor is a calendar without events; but one of which nothing can be read is.
    write_feed(&folder.path().join("feed.ics"), calendar(&[]).as_bytes());
    assert_eq!(run(folder.path(), &["events", "feed.ics"]).2, 0);
    let broken = "BEGIN:VEVENT\r\nUID:bad\r\nDTSTART:yesterday\r\nEND:VEVENT\r\n".to_owned();
    write_feed(&folder.path().join("feed.ics"), calendar(&[broken]).as_bytes());
    let (_, err, code) = run(folder.path(), &["events", "feed.ics"]);
    assert!(code == 1 && err.contains("none of its events can be read"), "{err}");
}

/// Every warning that the table of odd feeds names, with event and line, by both commands.
#[test]
fn what_is_lost_of_a_feed_is_shown() {
    let odd = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/feeds/odd");
    let table = std::fs::read_to_string(odd.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = "timezone = \"America/New_York\"\n".to_owned();
    let (mut names, mut warnings) = (Vec::new(), Vec::new());
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        config += &format!("[feed.{name}]\nurl = \"{}/{name}.ics\"\n", odd.display());
        names.push(name);
        let said = cells[4].split("<br>").filter(|said| !said.is_empty());
        warnings.extend(said.map(|said| match said {
            "not complete" => format!("{name}: the calendar is cut off; the rest is missing"),
            said => format!("{name}: {said}"),
        }));
    }
    assert!(names.len() > 40 && warnings.len() > 20, "{names:?} {warnings:?}");
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    // Without an address `events` reads all feeds.
    for args in [["check"], ["events"]] {
        let (_, shown, code) = run(folder.path(), &args);
        assert_eq!(code, 0, "{shown}");
        for warning in &warnings {
            assert!(shown.contains(&format!("{warning}\n")), "{args:?}: {warning}\n{shown}");
        }
    }
}

/// Files, and headings of the same page.
#[test]
fn the_links_of_the_readme_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).unwrap();
    // As GitHub makes them.
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchors: Vec<String> =
        headings.map(|line| anchor(line.trim_start_matches('#').trim_start())).collect();
    let links: Vec<&str> =
        text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 30, "{links:?}");
    for link in links.into_iter().filter(|link| !link.starts_with("https:")) {
        match link.strip_prefix('#') {
            Some(heading) => assert!(anchors.iter().any(|one| one == heading), "{link}"),
            None => assert!(root.join(link).exists(), "{link}"),
        }
    }
}

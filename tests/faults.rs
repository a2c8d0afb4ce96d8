//! What breaks around the program, and what it says and does then. With the built program where a
//! process must live through it.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use beadle::store::{DeliveryState, Happening};
use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, Connection, Executor};
use support::discord::DiscordStandIn;
use support::smtp::{At, Fault};
use support::world::*;

/// Far longer than anything here takes; for machines with other things to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// A folder with a configuration and a feed of one event; its reminder comes due after `due`, in
/// which time beadle must have started.
fn folder(discord: &DiscordStandIn, due: SignedDuration) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        timezone = "America/New_York"
        [feed.site]
        url = "feed.ics"
        [[watch]]
        name = "all"
        feeds = ["site"]
        remind = ["1h"]
        to = ["channel"]
        [receiver.channel]
        discord = {{ channel = "7" }}
        [discord]
        token = {{ file = "token" }}
        api_url = "{}"
        "#,
        discord.url()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    std::fs::write(folder.path().join("token"), "a-token").unwrap();
    #[allow(clippy::disallowed_methods, reason = "the program under test reads the real clock")]
    let start = Timestamp::now() + due + SignedDuration::from_hours(1);
    let talk = format!(
        "BEGIN:VEVENT\r\nUID:a\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:{}\r\nDURATION:PT1H\r\n\
         SUMMARY:The talk\r\nEND:VEVENT\r\n",
        start.strftime("%Y%m%dT%H%M%SZ")
    );
    write_feed(&folder.path().join("feed.ics"), calendar(&[talk]).as_bytes());
    folder
}

fn beadle(folder: &Path, args: &[&str]) -> Command {
    // A write beyond the limit is an error, not the end.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_beadle")]);
    command.current_dir(folder).args(args).stdin(Stdio::null()).env_remove("BEADLE_CONFIG");
    command
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A running beadle that writes its log into a file; it ends with its value.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(folder: &Path) -> Running {
        Running::spawn(folder, &mut beadle(folder, &["run"])).reads()
    }

    fn spawn(folder: &Path, command: &mut Command) -> Running {
        let log = folder.join("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Running { child, log }
    }

    fn reads(self) -> Running {
        self.wait("it reads the feed", |log| log.contains("read for the first time"));
        self
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn wait(&self, what: &str, until: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !until(&self.log()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn titles(discord: &DiscordStandIn) -> Vec<String> {
    discord.messages().iter().map(|message| title(&message.body)).collect()
}

async fn database(folder: &Path) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", folder.join("state/beadle.db").display());
    AnyConnection::connect(&url).await.unwrap()
}

// ---- the database ------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_secs(15));
    let running = Running::start(folder.path());
    // No file may grow.
    let limit = |size: &str| {
        let pid = running.child.id().to_string();
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}:")]).status()
    };
    if limit("4096").is_err() {
        eprintln!("skipped: there is no prlimit(1)");
        return;
    }
    running.wait("it says so", |log| log.contains("trying again"));
    let log = running.log();
    assert!(log.contains("hint=\"see whether the disk is full, or failing\""), "{log}");
    assert_eq!(discord.requests().len(), 0, "nothing is sent that cannot be written down first");
    limit("unlimited").unwrap();
    running.wait("it goes on without a restart", |log| log.contains(" sent "));
    assert!(titles(&discord)[0].starts_with("Reminder: The talk"));
    assert_eq!(discord.messages().len(), 1);
}

/// The other one is an error of the file; this is a disk on which there is no room. It is mounted by
/// the program's own process, where nobody else sees it.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_is_said_and_what_waits_is_told_once_there_is_some() {
    let mount = "mkdir -p state && mount -t tmpfs -o size=4m tmpfs state";
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]).stdin(Stdio::null());
        command
    };
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let tried = unshare().arg(mount).current_dir(folder.path()).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here (unshare --user --mount)");
        return;
    }
    let path = folder.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.replace("\"feed.ics\"", "\"feed.ics\"\nevery = \"10s\"\nsettle = \"0s\"");
    std::fs::write(path, config + "[http]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut command = unshare();
    command.arg(format!("{mount} && exec \"$0\" run")).arg(env!("CARGO_BIN_EXE_beadle"));
    let running = Running::spawn(folder.path(), command.current_dir(folder.path())).reads();

    // As that process sees it.
    let root = Path::new("/proc").join(running.child.id().to_string()).join("root");
    let filler = root.join(folder.path().join("state/filler").strip_prefix("/").unwrap());
    let mut file = std::fs::File::create(&filler).unwrap();
    // To the last byte.
    for size in [1 << 16, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    drop(file);
    let news: Vec<String> = (0..4)
        .map(|n| event(&format!("n{n}"), &format!("News {n}"), &format!("2036030{}T140000", n + 1)))
        .collect();
    let feed = folder.path().join("feed.ics");
    let known = std::fs::read_to_string(&feed).unwrap();
    let news = format!("{}END:VCALENDAR", news.concat());
    write_feed(&feed, known.replace("END:VCALENDAR", &news).as_bytes());

    running.wait("it says so", |log| log.contains("trying again"));
    let log = running.log();
    assert!(log.contains("hint=\"the disk is full: make room\""), "{log}");
    let (_, address) = log.split_once("listen=").unwrap();
    let mut ready = TcpStream::connect(address.split_whitespace().next().unwrap()).unwrap();
    ready.write_all(b"GET /readyz HTTP/1.1\r\nHost: beadle\r\n\r\n").unwrap();
    let mut answer = String::new();
    ready.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the database takes nothing"), "{answer}");
    // Longer than until the next attempt.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(discord.requests().len(), 0, "nothing is sent that cannot be written down first");

    std::fs::remove_file(filler).unwrap();
    running.wait("it goes on without a restart", |log| log.matches(" sent ").count() >= 4);
    let mut told = titles(&discord);
    told.sort();
    assert_eq!(told, ["New: News 0", "New: News 1", "New: News 2", "New: News 3"]);
}

#[tokio::test]
async fn a_locked_database_is_waited_for() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_secs(15));
    let running = Running::start(folder.path());
    let mut other = database(folder.path()).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    running.wait("it says so", |log| log.contains("trying again"));
    let log = running.log();
    assert!(log.contains("another program is writing to beadle.db: end it"), "{log}");
    assert_eq!(discord.requests().len(), 0, "nothing is sent that cannot be written down first");
    other.execute("ROLLBACK").await.unwrap();
    running.wait("it goes on without a restart", |log| log.contains(" sent "));
    assert_eq!(discord.messages().len(), 1);
}

/// The bytes of a sound database, after one reading of the feed, and how many pages hold nothing.
async fn whole(folder: &Path) -> (Vec<u8>, usize) {
    let whole = beadle(folder, &["once"]).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));
    let mut connection = database(folder).await;
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    let row = sqlx::query("PRAGMA freelist_count").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let free: i64 = sqlx::Row::get(&row, 0);
    (std::fs::read(folder.join("state/beadle.db")).unwrap(), free.try_into().unwrap())
}

/// Refuses to work on a file of these bytes, in words that help, and leaves it as it is.
fn refuses(folder: &Path, bytes: &[u8], commands: &[&[&str]], what: &str) {
    let path = folder.join("state/beadle.db");
    std::fs::write(&path, bytes).unwrap();
    for command in commands {
        let output = beadle(folder, command).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{what}, {command:?}: {said}");
        assert!(said.contains("hint: beadle.db is damaged"), "{what}, {command:?}: {said}");
        assert!(said.contains("restore a backup"), "{what}, {command:?}: {said}");
        assert!(std::fs::read(&path).unwrap() == bytes, "{what}, {command:?}: it was changed");
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let (good, free) = whole(folder.path()).await;
    let path = folder.path().join("state/beadle.db");
    let mut unnoticed = Vec::new();
    // In the header of the file.
    let size = usize::from(u16::from_be_bytes([good[16], good[17]]));
    for page in 1..good.len() / size {
        let mut bad = good.clone();
        bad[page * size..(page + 1) * size].fill(0xA5);
        std::fs::write(&path, &bad).unwrap();
        let output = beadle(folder.path(), &["once"]).output().unwrap();
        match output.status.success() {
            true => unnoticed.push(page),
            false => refuses(folder.path(), &bad, &[&["once"]], &format!("page {page}")),
        }
    }
    assert!(unnoticed.len() <= free, "{unnoticed:?} of which {free} hold nothing");

    let mut bad = good.clone();
    bad[100..300].fill(0xA5);
    refuses(folder.path(), &bad, &[&["run"], &["once"], &["status"]], "the first page");
    refuses(folder.path(), &good[..good.len() / 2], &[&["run"], &["once"]], "half of it");
    assert_eq!(discord.requests().len(), 0);

    std::fs::write(&path, &good).unwrap();
    let mended = beadle(folder.path(), &["once"]).output().unwrap();
    assert!(mended.status.success(), "{}", text(&mended));
}

#[tokio::test]
async fn a_database_damaged_while_it_is_used_ends_the_run_and_nothing_is_sent() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_secs(15));
    // All of it is in the file then, and nothing in the log.
    let (good, _) = whole(folder.path()).await;
    let mut running = Running::spawn(folder.path(), &mut beadle(folder.path(), &["run"]));
    running.wait("it has begun", |log| log.contains("started"));
    let mut other = database(folder.path()).await;
    other.execute("SELECT * FROM sqlite_schema").await.unwrap();
    let size = usize::from(u16::from_be_bytes([good[16], good[17]]));
    let path = folder.path().join("state/beadle.db");
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(size as u64)).unwrap();
    file.write_all(&vec![0xA5; good.len() - size]).unwrap();
    // A change by somebody else: what is in memory is read anew.
    other.execute("PRAGMA user_version = 7").await.unwrap();

    running.wait("it says so", |log| log.contains("hint: beadle.db is damaged"));
    assert_eq!(running.child.wait().unwrap().code(), Some(1), "{}", running.log());
    assert_eq!(discord.messages().len(), 0, "no reminder without a row");
}

#[tokio::test]
async fn no_backup_is_made_of_a_damaged_database() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let (good, _) = whole(folder.path()).await;
    // Inside an entry of an index, which copying would make anew.
    let word = b"listed";
    let places = good.windows(word.len()).enumerate().filter(|(_, bytes)| bytes == word);
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(places.len() > 1, "an event stands in the table and in an index");
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1;
        let to = folder.path().join("copy.db");
        let path = folder.path().join("state/beadle.db");
        std::fs::write(&path, &bad).unwrap();
        let output = beadle(folder.path(), &["backup", "copy.db"]).output().unwrap();
        let said = text(&output);
        let of_index = output.status.code() == Some(1);
        assert_eq!(of_index, !said.contains("written"), "{said}");
        assert_eq!(of_index, !to.exists(), "{said}");
        assert!(!folder.path().join("copy.db.part").exists());
        if of_index {
            refuses(folder.path(), &bad, &[&["backup", "copy.db"]], "an index");
            return;
        }
        std::fs::remove_file(to).unwrap();
    }
    panic!("no damage was seen");
}

/// It is no damage to SQLite, and more than sqlx copes with: its thread would panic.
#[tokio::test]
async fn one_changed_bit_in_the_schema_is_refused_by_every_command() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let (good, _) = whole(folder.path()).await;
    let commands: [&[&str]; 6] =
        [&["once"], &["run"], &["status"], &["outbox", "list"], &["backup", "b.db"], &["once"]];
    for (before, after) in [
        (&b"CREATE TABLE reminder_request (\n    id         T"[..], 0xD4),
        (b"CREATE TABLE event (\n    feed        T", b'U'),
        (b"CREATE TABLE outbo", b'y'),
    ] {
        let mut bad = good.clone();
        // Copies may lie about in the unused parts of pages.
        let places = good.windows(before.len()).enumerate().filter(|(_, bytes)| *bytes == before);
        for (place, _) in places {
            bad[place + before.len() - usize::from(!before.ends_with(b"outbo"))] = after;
        }
        assert!(bad != good);
        refuses(folder.path(), &bad, &commands, &String::from_utf8_lossy(before));
        let output = beadle(folder.path(), &["doctor"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output);
        assert!(said.contains("FAIL  state: ") && said.contains("beadle.db is damaged"), "{said}");
    }
    assert_eq!(discord.messages().len(), 0);
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let path = folder.path().join("state/beadle.db");
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(&path, "").unwrap();
    let mut connection = database(folder.path()).await;
    connection.execute("CREATE TABLE tunes (name TEXT)").await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    for command in ["once", "run", "status", "doctor"] {
        let output = beadle(folder.path(), &[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("is no state of beadle"), "{}", text(&output));
        assert!(std::fs::read(&path).unwrap() == before, "{command} changed it");
    }
}

#[tokio::test]
async fn the_state_of_a_newer_beadle_is_refused_with_what_to_do() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    assert!(beadle(folder.path(), &["once"]).status().unwrap().success());
    let mut connection = database(folder.path()).await;
    connection.execute("INSERT INTO schema_version (version) VALUES (99)").await.unwrap();
    connection.close().await.unwrap();
    for command in ["once", "run", "status"] {
        let output = beadle(folder.path(), &[command]).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("made by a newer beadle (schema 99"), "{said}");
        assert!(said.contains("hint: run the newer version, or restore an older backup"), "{said}");
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_is_said_at_the_start() {
    let discord = DiscordStandIn::start();
    let folder = folder(&discord, SignedDuration::from_hours(1));
    let config = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    std::fs::write(folder.path().join("a-file"), "").unwrap();
    let config_of_a_file = format!("state = \"a-file\"\n{config}");
    std::fs::write(folder.path().join("config.toml"), config_of_a_file).unwrap();
    for command in ["run", "status"] {
        let said = text(&beadle(folder.path(), &[command]).output().unwrap());
        assert!(said.contains("is a file, not a folder"), "{said}");
    }
    // Where nobody can make a folder, not even root.
    for state in ["a-file/state", "/proc/state"] {
        let config = format!("state = {state:?}\n{config}");
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let output = beadle(folder.path(), &["run"]).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot be used"), "{said}");
        assert!(said.contains("hint: check that it can be written by this user"), "{said}");
    }
}

// ---- mail --------------------------------------------------------------------------------------

/// Four recipients of one watch, and one piece of news for them.
async fn four_recipients() -> (World, beadle::pipeline::Pipeline) {
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
    (world, pipeline)
}

/// The Message-IDs that each recipient got.
fn received(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in world.smtp.mails() {
        let id = mail.data.lines().find(|line| line.starts_with("Message-ID:")).unwrap();
        received.entry(mail.to[0].clone()).or_default().push(id.to_owned());
    }
    received
}

#[tokio::test]
async fn one_recipient_refused_keeps_nothing_from_the_others() {
    let (world, pipeline) = four_recipients().await;
    world.smtp.refuse("bad@example.edu", "550 5.1.1 no such user");
    world.smtp.refuse("grey@example.edu", "451 4.7.1 try again later");
    deliver(&pipeline, "2026-03-05T09:15").await;
    let dead = rows(&pipeline, DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].last_error.as_ref().unwrap().contains("5.1.1"), "with the server's word");
    let others = received(&world);
    assert_eq!(others.keys().collect::<Vec<_>>(), ["drop@example.edu", "ok@example.edu"]);

    let waiting = rows(&pipeline, DeliveryState::Pending).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].attempt_at > at("2026-03-05T09:15"));
}

#[tokio::test]
async fn a_mail_whose_fate_is_unknown_is_doubled_once_at_most_and_under_one_name() {
    for fault in [Fault::KeepThenCut, Fault::Cut] {
        let (world, pipeline) = four_recipients().await;
        world.smtp.script(At::Dot, fault.clone());
        let mut now = at("2026-03-05T09:15");
        while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
            now = now.max(next);
            pipeline.deliver(now).await.unwrap();
        }
        let received = received(&world);
        assert_eq!(received.len(), 4, "{fault:?}: {received:?}");
        let copies: usize = received.values().map(Vec::len).sum();
        let kept = matches!(fault, Fault::KeepThenCut);
        assert_eq!(copies, if kept { 5 } else { 4 }, "{fault:?}: {received:?}");
        for ids in received.values() {
            assert!(ids.iter().all(|id| *id == ids[0]), "{fault:?}: {ids:?}");
        }
    }
}

/// A server that takes each mail and loses each answer; once it also says what is no doubt, that it
/// takes none now.
#[tokio::test]
async fn a_mail_whose_fate_stays_unknown_is_sent_twice_and_then_kept() {
    for refused_between in [false, true] {
        let mut world = World::new();
        world.edit("discord = { channel = \"7\" }", "email = { to = [\"ann@example.edu\"] }");
        world.edit("[discord]", "[discord]\nadmin_channel = \"99\"");
        world.feed(calendar(&[]));
        let pipeline = world.open("2026-03-05T09:00").await;
        round(&pipeline, "2026-03-05T09:00").await;
        world.feed(calendar(&[event("a", "The talk", "20260310T100000")]));
        poll(&pipeline, "2026-03-05T09:15").await.result.unwrap();
        for _ in 0..10 {
            world.smtp.script(At::Dot, Fault::KeepThenCut);
        }
        let mut now = at("2026-03-05T09:15");
        pipeline.deliver(now).await.unwrap();
        if refused_between {
            world.smtp.refuse("ann@example.edu", "451 4.7.1 try again later");
            now += SignedDuration::from_mins(10);
            pipeline.deliver(now).await.unwrap();
            world.smtp.accept("ann@example.edu");
        }
        let until_settled = async |mut now: Timestamp| {
            while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
                now = now.max(next);
                pipeline.deliver(now).await.unwrap();
            }
            now
        };
        now = until_settled(now).await;
        let ids = &received(&world)["ann@example.edu"];
        assert_eq!(ids.len(), 2, "{refused_between}");
        assert_eq!(ids[0], ids[1]);
        let dead = rows(&pipeline, DeliveryState::Dead).await;
        assert_eq!(dead.len(), 1, "{refused_between}");
        let reason = dead[0].last_error.as_ref().unwrap();
        assert!(reason.contains("may have arrived, by now twice"), "{reason}");
        assert!(reason.contains("beadle outbox retry ID"), "{reason}");
        let doubts = "beadle_deliveries_in_doubt_total{backend=\"email\"} 2\n";
        let shown = pipeline.metrics.numbers().to_string();
        assert!(shown.contains(doubts), "{shown}");
        let told = world.discord.messages();
        assert_eq!(told.len(), 1, "the operator is told");
        assert!(told[0].body.to_string().contains("by now twice"), "{:?}", told[0].body);

        // The operator has asked, and it is not there; the line dies once more.
        pipeline.store.intervene(&dead[0].id, Happening::Revived, now).await.unwrap();
        pipeline.deliver(now).await.unwrap();
        let waiting = rows(&pipeline, DeliveryState::Pending).await;
        assert_eq!(waiting.len(), 1, "{refused_between}: tried again as at first");
    }
}

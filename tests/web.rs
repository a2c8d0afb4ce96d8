//! How a running beadle is watched: its HTTP server, the dead-man ping, systemd, and its end.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use beadle::alive::DeadMan;
use beadle::pipeline::Pipeline;
use beadle::progress::{Loop, Progress};
use beadle::tls::Trust;
use beadle::web::{self, Watched};
use support::discord::{Answer, DiscordStandIn};
use support::feed::FeedStandIn;
use support::world::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The server over one pipeline, until this is dropped.
struct Serving {
    address: SocketAddr,
    pipeline: Arc<Pipeline>,
    progress: Arc<Progress>,
    stop: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

async fn serving(pipeline: Pipeline, bound: Duration, more: Router) -> Serving {
    let (pipeline, progress) = (Arc::new(pipeline), Arc::new(Progress::new(bound)));
    let watched = Watched {
        pipeline: Arc::clone(&pipeline),
        progress: Arc::clone(&progress),
        clock: || at("2026-03-05T10:00"),
    };
    let listener = web::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let router = web::router(watched).merge(more);
    let served = tokio::spawn(web::serve(listener, router, async move {
        let _ = stopped.await;
    }));
    Serving { address, pipeline, progress, stop, served }
}

/// What comes back for these bytes, until the server closes the connection.
async fn exchange(address: SocketAddr, request: Vec<u8>) -> String {
    let talk = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // The server may have heard enough before all is said.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: beadle\r\n\r\n");
    let answer = exchange(address, request.into_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn a_stuck_loop_is_not_healthy() {
    let world = World::new();
    world.feed(calendar(&[]));
    let now = "2026-03-05T09:00";
    let healthy = serving(world.open(now).await, HOUR, Router::new()).await;
    assert_eq!(get(healthy.address, "/healthz").await, (200, "ok\n".to_owned()));

    let other = World::new();
    let bound = Duration::from_millis(300);
    let stuck = serving(other.open(now).await, bound, Router::new()).await;
    tokio::time::sleep(bound * 2).await;
    let (status, body) = get(stuck.address, "/healthz").await;
    assert_eq!(status, 503);
    let lines: Vec<&str> = body.lines().map(|line| line.rsplit_once(" for ").unwrap().0).collect();
    let expected =
        ["poll", "plan", "deliver"].map(|name| format!("the {name} loop has made no progress"));
    assert_eq!(lines, expected);
    // It is the loop's own sign that counts. On a busy machine it may be old before it is asked for.
    for attempt in 0.. {
        stuck.progress.beat(Loop::Poll);
        let body = get(stuck.address, "/healthz").await.1;
        if !body.contains("poll") {
            assert!(body.starts_with(&expected[1]), "{body}");
            break;
        }
        assert!(attempt < 100, "{body}");
    }
}

#[tokio::test]
async fn ready_when_every_feed_has_been_tried() {
    let mut world = World::new();
    world.edit("[[watch]]", "[feed.other]\nurl = \"other.ics\"\n[[watch]]");
    let serving = serving(world.open("2026-03-05T09:00").await, HOUR, Router::new()).await;
    serving.progress.tried("site", true);
    let reason = "feed other has not been tried yet\n".to_owned();
    assert_eq!(get(serving.address, "/readyz").await, (503, reason));
    serving.progress.tried("other", false);
    assert_eq!(get(serving.address, "/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn metrics_tell_of_polls_changes_and_deliveries() {
    let mut world = World::new();
    let feed = FeedStandIn::start(calendar(&[]));
    world.edit("\"feed.ics\"", &format!("{:?}", feed.url()));
    world.discord.script([Answer::error(500, 0, "oops")]);
    let pipeline = world.open("2026-03-05T09:00").await;
    let backends = pipeline.registry.backends();
    pipeline.metrics.begin(at("2026-03-05T09:00"), ["site"], backends);
    round(&pipeline, "2026-03-05T09:00").await;
    let bad = "BEGIN:VEVENT\r\nSUMMARY:no time\r\nEND:VEVENT\r\n".to_owned();
    let body = calendar(&[event("a", "Talk", "20260310T100000"), bad]);
    feed.serve(body.clone());
    round(&pipeline, "2026-03-05T09:15").await;
    deliver(&pipeline, "2026-03-05T09:30").await;
    feed.status(503);
    poll(&pipeline, "2026-03-05T09:45").await.result.unwrap_err();
    assert_eq!(world.posts().len(), 1);

    let serving = serving(pipeline, HOUR, Router::new()).await;
    let (status, page) = get(serving.address, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "process_start_time_seconds 1772719200",
        "beadle_polls_total{feed=\"site\",outcome=\"first\"} 1",
        "beadle_polls_total{feed=\"site\",outcome=\"changed\"} 1",
        "beadle_polls_total{feed=\"site\",outcome=\"status\"} 1",
        "beadle_poll_duration_seconds_count{feed=\"site\"} 3",
        &format!("beadle_poll_bytes_total{{feed=\"site\"}} {}", body.len() + calendar(&[]).len()),
        "beadle_feed_failures{feed=\"site\"} 1",
        "beadle_feed_last_read_timestamp_seconds{feed=\"site\"} 1772720100",
        "beadle_feed_unreadable_events{feed=\"site\"} 1",
        "beadle_changes_total{feed=\"site\",kind=\"new\"} 1",
        "beadle_messages_planned_total{cause=\"poll\"} 1",
        "beadle_claim_lag_seconds_count{backend=\"discord\"} 1",
        "beadle_send_lag_seconds_bucket{backend=\"discord\",le=\"300\"} 0",
        "beadle_send_lag_seconds_bucket{backend=\"discord\",le=\"3600\"} 1",
        "beadle_deliveries_total{backend=\"discord\",outcome=\"put_off\"} 1",
        "beadle_deliveries_total{backend=\"discord\",outcome=\"sent\"} 1",
        "beadle_deliveries_total{backend=\"discord\",outcome=\"dead\"} 0",
        "beadle_delivery_retries_total{backend=\"discord\"} 1",
        "beadle_outbox_messages{state=\"sent\"} 1",
        "beadle_outbox_messages{state=\"dead\"} 0",
        "beadle_outbox_overdue_seconds 0",
    ] {
        assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
    }
    for name in
        ["beadle_build_info{version=", "beadle_state_size_bytes ", "beadle_loop_age_seconds{"]
    {
        assert!(page.contains(&format!("\n{name}")) || page.contains(name), "{name}");
    }
    // No address, no secret.
    for hidden in [TOKEN, "127.0.0.1", "calendar.ics"] {
        assert!(!page.contains(hidden), "{hidden} is in\n{page}");
    }
    drop(serving.pipeline);
}

#[tokio::test]
async fn the_events_of_a_feed_are_known_after_a_restart() {
    let world = World::new();
    world.feed(calendar(&[event("a", "Talk", "20260310T100000")]));
    let pipeline = world.open("2026-03-05T09:00").await;
    round(&pipeline, "2026-03-05T09:00").await;
    drop(pipeline);
    let pipeline = world.open("2026-03-05T09:15").await;
    round(&pipeline, "2026-03-05T09:15").await;
    let serving = serving(pipeline, HOUR, Router::new()).await;
    let (_, page) = get(serving.address, "/metrics").await;
    assert!(page.contains("beadle_polls_total{feed=\"site\",outcome=\"unchanged\"} 1"), "{page}");
    assert!(page.contains("beadle_feed_events{feed=\"site\"} 1"), "{page}");
}

#[tokio::test]
async fn parked_receivers_are_counted() {
    let world = World::new();
    let pipeline = world.open("2026-03-05T09:00").await;
    let now = at("2026-03-05T09:00");
    pipeline.store.park("channel/discord", "no such channel", now, None, now).await.unwrap();
    // Of a receiver that is no longer configured.
    pipeline
        .store
        .park("gone/email/ann@example.edu", "no such user", now, None, now)
        .await
        .unwrap();
    let serving = serving(pipeline, HOUR, Router::new()).await;
    let (_, page) = get(serving.address, "/metrics").await;
    let parked: Vec<&str> =
        page.lines().filter(|line| line.starts_with("beadle_parked_endpoints")).collect();
    assert_eq!(parked, ["beadle_parked_endpoints{receiver=\"channel\",backend=\"discord\"} 1"]);
}

#[tokio::test]
async fn clients_are_kept_within_limits() {
    let echo = Router::new().route("/echo", post(async |body: String| body));
    let pipeline = World::new().open("2026-03-05T09:00").await;
    let Serving { address, stop, served, .. } = serving(pipeline, HOUR, echo).await;
    let post = |length: usize| {
        let head = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; length]].concat()
    };
    let begun_only = exchange(address, b"GET /healthz HTTP/1.1\r\nHost:".to_vec());
    let (small, large, long_head, nowhere, slow) = tokio::join!(
        exchange(address, post(1000)),
        exchange(address, post(1_000_000)),
        exchange(address, format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)).into_bytes()),
        get(address, "/"),
        begun_only,
    );
    assert!(small.ends_with(&"x".repeat(1000)), "{small}");
    assert!(large.is_empty() || large.starts_with("HTTP/1.1 413"), "{large}");
    assert!(!long_head.starts_with("HTTP/1.1 200"), "{long_head}");
    assert_eq!(nowhere.0, 404);
    assert!(!slow.contains("200"), "the connection is closed: {slow}");

    // It ends when told, although someone is connected.
    let _idle = TcpStream::connect(address).unwrap();
    stop.send(()).unwrap();
    served.await.unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = web::listen(address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen at {address}, the `listen` of [http]"));
}

// ---- the dead-man ping -------------------------------------------------------------------------

#[tokio::test]
async fn a_feed_that_fails_for_long_stops_the_ping() {
    let watcher = FeedStandIn::start("OK");
    let mut world = World::new();
    std::fs::write(world.path("ping"), watcher.url()).unwrap();
    world.edit("[[watch]]", "[alive]\nurl = { file = \"ping\" }\ntolerance = \"1h\"\n[[watch]]");
    world.feed(calendar(&[]));
    let pipeline = world.open("2026-03-05T09:00").await;
    let config = pipeline.config.alive.clone().unwrap();
    let pings = async |now: &str, expected: usize| {
        let before = watcher.requests().len();
        let progress = Progress::new(HOUR);
        let mut ping = DeadMan::new(&config, &Trust::default()).unwrap();
        ping.after_round(&pipeline, &progress, at(now)).await.unwrap();
        // Not again before its time.
        ping.after_round(&pipeline, &progress, at(now)).await.unwrap();
        // For what is not to come one cannot wait.
        for _ in 0..if expected > 0 { 6000 } else { 40 } {
            if watcher.requests().len() > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(watcher.requests().len() - before, expected, "{now}");
    };
    poll(&pipeline, "2026-03-05T09:00").await.result.unwrap();
    pings("2026-03-05T09:00", 1).await;
    world.feed("<html>");
    poll(&pipeline, "2026-03-05T09:15").await.result.unwrap_err();
    // Not for long enough, and then it is.
    pings("2026-03-05T10:15", 1).await;
    pings("2026-03-05T10:16", 0).await;
    world.feed(calendar(&[]));
    poll(&pipeline, "2026-03-05T10:20").await.result.unwrap();
    pings("2026-03-05T10:20", 1).await;
}

#[tokio::test]
async fn a_stuck_loop_stops_the_ping() {
    let watcher = FeedStandIn::start("OK");
    let mut world = World::new();
    std::fs::write(world.path("ping"), watcher.url()).unwrap();
    world.edit("[[watch]]", "[alive]\nurl = { file = \"ping\" }\n[[watch]]");
    let pipeline = world.open("2026-03-05T09:00").await;
    let progress = Progress::new(Duration::from_millis(10));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let config = pipeline.config.alive.clone().unwrap();
    let mut ping = DeadMan::new(&config, &Trust::default()).unwrap();
    ping.after_round(&pipeline, &progress, at("2026-03-05T09:00")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(watcher.requests().is_empty());
}

// ---- the program itself ------------------------------------------------------------------------

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path, environment: &[(&str, &str)]) -> (Running, mpsc::Receiver<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beadle"));
    command.current_dir(folder).args(["run", "--log", "json"]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    for name in ["BEADLE_CONFIG", "BEADLE_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    (Running(child), receive)
}

/// The first line of the log with this message; what came before is thrown away.
fn logged(log: &mpsc::Receiver<String>, message: &str) -> serde_json::Value {
    loop {
        let line = log.recv_timeout(Duration::from_secs(60)).expect(message);
        let line: serde_json::Value = serde_json::from_str(&line).expect(&line);
        if line["message"].as_str().unwrap().contains(message) {
            return line;
        }
    }
}

fn terminate(child: &Child) {
    signal(child, "-TERM");
}

fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[cfg(unix)]
#[tokio::test]
async fn systemd_and_monitoring_hear_of_a_run() {
    use std::os::unix::net::UnixDatagram;
    let watcher = FeedStandIn::start("OK");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("feed.ics"), calendar(&[])).unwrap();
    let config = "timezone = \"America/New_York\"\n[feed.site]\nurl = \"feed.ics\"\n\
        [[watch]]\nname = \"all\"\nfeeds = [\"site\"]\nto = [\"screen\"]\n\
        [receiver.screen]\nterminal = true\n[http]\nlisten = \"127.0.0.1:0\"\n\
        [alive]\nurl = { env = \"ALIVE_URL\" }\n";
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // All of these, in whatever order.
    let hear = |wanted: &[&str]| {
        let mut missing = wanted.to_vec();
        while !missing.is_empty() {
            let mut said = [0; 256];
            let length = systemd.recv(&mut said).unwrap();
            let said = String::from_utf8_lossy(&said[..length]);
            missing.retain(|one| *one != said);
        }
    };
    let (mut child, log) = start(
        folder.path(),
        &[
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("WATCHDOG_USEC", "1000000"),
            ("ALIVE_URL", &watcher.url()),
        ],
    );
    let line = logged(&log, "serving");
    let time = line["timestamp"].as_str().unwrap();
    assert_eq!(time.len(), "2026-03-05T09:00:00.000Z".len(), "{time}");
    let address: SocketAddr = line["listen"].as_str().unwrap().parse().unwrap();
    hear(&["READY=1", "WATCHDOG=1", "STATUS=watching 1 feed"]);
    hear(&["WATCHDOG=1"]);
    assert_eq!(get(address, "/healthz").await.0, 200);
    logged(&log, "read for the first time");
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".to_owned()));
    let (_, page) = get(address, "/metrics").await;
    assert!(page.contains("beadle_polls_total{feed=\"site\",outcome=\"first\"} 1"), "{page}");
    while watcher.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    signal(&child.0, "-HUP");
    hear(&["RELOADING=1", "READY=1", "WATCHDOG=1"]);
    let address = logged(&log, "serving")["listen"].as_str().unwrap().parse().unwrap();
    assert_eq!(get(address, "/healthz").await.0, 200);
    // An address that is not of this machine: all stays as it was.
    std::fs::write(folder.path().join("config.toml"), config.replace("127.0.0.1", "192.0.2.1"))
        .unwrap();
    signal(&child.0, "-HUP");
    let refused = logged(&log, "not taken up");
    assert!(refused["message"].as_str().unwrap().contains("192.0.2.1"), "{refused}");
    hear(&["RELOADING=1", "READY=1"]);
    assert_eq!(get(address, "/healthz").await.0, 200);
    terminate(&child.0);
    hear(&["STOPPING=1"]);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    logged(&log, "stopped");
}

#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let discord = DiscordStandIn::start();
    discord.script([Answer::Silence]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("feed.ics"), calendar(&[])).unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let config = format!(
        "timezone = \"America/New_York\"\n[feed.site]\nurl = \"feed.ics\"\n\
         [[watch]]\nname = \"all\"\nfeeds = [\"site\"]\nwelcome = true\nto = [\"channel\"]\n\
         [receiver.channel]\ndiscord = {{ channel = \"7\" }}\n\
         [discord]\ntoken = {{ file = \"token\" }}\napi_url = \"{}\"\n",
        discord.url()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let (mut child, log) = start(folder.path(), &[]);
    assert_eq!(logged(&log, "can be read by other users")["key"], "discord.token");
    while discord.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    terminate(&child.0);
    logged(&log, "stopping");
    terminate(&child.0);
    logged(&log, "stopped at once");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// A signal while Discord says nothing: it ends by itself, and the message is not forgotten.
#[cfg(unix)]
#[test]
fn a_stop_waits_for_a_silent_server_twenty_seconds_at_most() {
    let discord = DiscordStandIn::start();
    discord.script([Answer::Silence]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("feed.ics"), calendar(&[])).unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let config = format!(
        "timezone = \"America/New_York\"\n[feed.site]\nurl = \"feed.ics\"\n\
         [[watch]]\nname = \"all\"\nfeeds = [\"site\"]\nwelcome = true\nto = [\"channel\"]\n\
         [receiver.channel]\ndiscord = {{ channel = \"7\" }}\n\
         [discord]\ntoken = {{ file = \"token\" }}\napi_url = \"{}\"\n",
        discord.url()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let (mut child, log) = start(folder.path(), &[]);
    while discord.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = std::time::Instant::now();
    terminate(&child.0);
    logged(&log, "some messages were still being sent");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    // systemd kills after ninety.
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(discord.messages().len(), 0);

    let (mut child, log) = start(folder.path(), &[]);
    logged(&log, "were being sent when beadle last stopped");
    logged(&log, "sent");
    assert_eq!(discord.messages().len(), 1);
    terminate(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// While there is news all the time, every third with a mistake in it.
#[cfg(unix)]
#[test]
fn fifty_reloads_lose_nothing_and_double_nothing() {
    let discord = DiscordStandIn::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let configure = |channel: &str, more: &str| {
        let config = format!(
            "timezone = \"America/New_York\"\n[feed.site]\nurl = \"feed.ics\"\nsettle = \"0s\"\n\
             [[watch]]\nname = \"all\"\nfeeds = [\"site\"]\nto = [\"channel\"]\n\
             [receiver.channel]\ndiscord = {{ channel = \"{channel}\" }}\n\
             [discord]\ntoken = {{ file = \"token\" }}\napi_url = \"{}\"\n{more}",
            discord.url()
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
    };
    let mut events = Vec::new();
    let mut publish = |title: &str| {
        events.push(event(title, title, "20360305T140000"));
        // In one step: it may be read at any moment.
        write_feed(&folder.path().join("new.ics"), calendar(&events).as_bytes());
        std::fs::rename(folder.path().join("new.ics"), folder.path().join("feed.ics")).unwrap();
    };
    publish("known");
    configure("7", "");
    let (mut child, log) = start(folder.path(), &[]);
    logged(&log, "read for the first time");
    let mut owed = Vec::new();
    for n in 0..50 {
        owed.push(format!("news{n:02}"));
        publish(&owed[n]);
        let is_mistaken = n % 3 == 0;
        // What the second of them says is right, and none of it may be taken up.
        configure(
            if is_mistaken { "8" } else { "7" },
            if is_mistaken { "colour = 1\n" } else { "" },
        );
        signal(&child.0, "-HUP");
        let end = logged(&log, "taken up");
        let refused = end["message"].as_str().unwrap().contains("not taken up");
        assert_eq!(refused, is_mistaken, "{end}");
        assert_eq!(end["message"].as_str().unwrap().contains("unknown key"), is_mistaken, "{end}");
        // Now and then before it has read the feed, while it sends, or when it has nothing to do.
        std::thread::sleep(Duration::from_millis(n as u64 * 7 % 60));
    }
    owed.push("last".to_owned());
    publish("last");
    configure("7", "");
    signal(&child.0, "-HUP");
    let told = || -> Vec<String> {
        let messages = discord.messages();
        let titles = messages.iter().flat_map(|message| {
            assert_eq!(message.target, "channels/7");
            let text = message.body.to_string();
            owed.iter().filter(move |title| text.contains(title.as_str()))
        });
        titles.cloned().collect()
    };
    let begun = std::time::Instant::now();
    while !told().contains(&"last".to_owned()) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut found = told();
    found.sort();
    owed.sort();
    assert_eq!(found, owed);

    // Elsewhere from now on.
    configure("8", "");
    publish("elsewhere");
    signal(&child.0, "-HUP");
    while discord.messages().iter().all(|message| message.target == "channels/7") {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
    terminate(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

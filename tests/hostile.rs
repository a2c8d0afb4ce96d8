//! What servers and calendars that mean harm cost the built program: memory, and the time of others.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use support::feed::FeedStandIn;
use support::listen::Listening;
use support::world::{calendar, event, write_feed};

/// Far longer than anything here takes; for machines with other things to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// Of the program as it is tested, unoptimised, whatever a feed does; it begins with half of it.
const MEMORY_KB: u64 = 64 * 1024;

/// A running beadle that writes its log into a file; it ends with its value.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(feeds: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        write_feed(
            &folder.path().join("quick.ics"),
            calendar(&[event("a", "Talk", "20300310T100000")]).as_bytes(),
        );
        let names: Vec<&str> = feeds.iter().map(|(name, _)| *name).collect();
        let feeds: String = feeds
            .iter()
            .map(|(name, url)| {
                // The least that is allowed.
                let every = if url.starts_with("http") { "60s" } else { "10s" };
                format!(
                    "[feed.{name}]\nurl = {url:?}\nprivate = true\nsettle = \"0s\"\n\
                     every = \"{every}\"\n"
                )
            })
            .collect();
        let config = format!(
            "timezone = \"America/New_York\"\n{feeds}[[watch]]\nname = \"all\"\nfeeds = {names:?}\n\
             to = [\"screen\"]\n[receiver.screen]\nterminal = true\n"
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_beadle"));
        command.current_dir(folder.path()).arg("run").env_remove("BEADLE_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Running { child: command.spawn().unwrap(), folder }
    }

    /// The log, once these words are in it.
    fn wait(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            if log.contains(words) {
                return log;
            }
            assert!(begun.elapsed() < PATIENCE, "{words:?} did not come: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The most memory it has had at once, where the system tells.
    fn peak_kb(&self) -> Option<u64> {
        let status = Path::new("/proc").join(self.child.id().to_string()).join("status");
        let Ok(status) = std::fs::read_to_string(status) else {
            eprintln!("skipped: there is no /proc");
            return None;
        };
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        Some(line.trim().trim_end_matches(" kB").parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn within_memory(body: impl Into<Vec<u8>>, until: &str, what: &str) {
    let feed = FeedStandIn::start(body);
    let running = Running::start(&[("large", &feed.url())]);
    running.wait(until);
    let Some(peak) = running.peak_kb() else { return };
    eprintln!("{what}: {peak} kB");
    assert!(peak < MEMORY_KB, "{what}: {peak} kB");
}

/// Twenty thousand: a million take ten times as long as a test may, and cost no more memory than
/// these.
#[test]
fn events_without_number_take_no_memory() {
    let one =
        |n: u32| format!("BEGIN:VEVENT\r\nUID:{n}\r\nDTSTART:20300310T100000Z\r\nEND:VEVENT\r\n");
    let events: Vec<String> = (0..20_000).map(one).collect();
    within_memory(calendar(&events), "read for the first time", "events");
}

/// What each line of an event may cost many times its length.
#[test]
fn lines_without_number_take_no_memory() {
    for line in ["CATEGORIES:a{}\r\n", "RRULE:FREQ=DAILY\r\n", "EXDATE:20300310T100000Z\r\n"] {
        let lines: String =
            (0..(4 << 20) / line.len()).map(|n| line.replace("{}", &n.to_string())).collect();
        let body =
            event("a", "Talk", "20300310T100000").replace("SUMMARY", &format!("{lines}SUMMARY"));
        within_memory(calendar(&[body]), "read for the first time", line.trim());
    }
}

/// A thousand times as large as what comes over the line, and twice as large as `max_size`.
#[test]
fn a_body_that_unpacks_to_far_more_is_refused_and_takes_no_memory() {
    // After a full flush nothing refers to what came before: the block can be repeated.
    let mut pack = Compress::new(Compression::best(), false);
    let mut block = |text: &[u8]| {
        let mut packed = Vec::with_capacity(1 << 20);
        pack.compress_vec(text, &mut packed, FlushCompress::Full).unwrap();
        packed
    };
    let begin = block(b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDESCRIPTION:");
    let again = block(&[b'x'; 1 << 20]);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let body = [&header[..], &begin, &again.repeat(128)].concat();
    assert!(body.len() * 900 < 128 << 20, "{}", body.len());
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    let server = Listening::start(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    });
    let running = Running::start(&[("large", &format!("http://{}/", server.address()))]);
    running.wait("larger than 64MiB");
    let Some(peak) = running.peak_kb() else { return };
    eprintln!("bomb: {peak} kB");
    assert!(peak < MEMORY_KB, "{peak} kB");
}

/// A byte now and then, so that neither side closes the connection, for as long as `timeout` lets it.
#[test]
fn a_feed_that_dawdles_keeps_no_other_waiting() {
    let slow = Listening::start(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let answer = "HTTP/1.1 200 OK\r\n\r\nBEGIN:VCALENDAR\r\n";
        for byte in answer.bytes().chain(std::iter::repeat(b' ')) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let slow_url = format!("http://{}/", slow.address());
    let running = Running::start(&[("slow", &slow_url), ("quick", "quick.ics")]);
    let path = running.folder.path().join("quick.ics");
    let events = [event("a", "Talk", "20300310T100000"), event("b", "Other", "20300310T100000")];
    running.wait("feed=\"quick\"");
    write_feed(&path, calendar(&events).as_bytes());
    let log = running.wait("changed");
    assert!(!log.contains("feed=\"slow\""), "the other has ended by then: {log}");
}

//! How fast beadle posts where Discord limits it, and that haste loses and doubles nothing.
//!
//! The short runs are for every day. The long one takes some minutes and prints the share of what
//! the limits allow:
//!
//! ```text
//! cargo test --release --test throughput -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout)]

mod support;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use beadle::notify;
use beadle::notify::discord::Http;
use beadle::pipeline::{Delivered, Pipeline};
use beadle::plan::{Kind, Notification};
use beadle::store::{NewDelivery, Written, delivery_id};
use jiff::SignedDuration;
use serde_json::json;
use support::wire::{Reply, Request, Wire};
use support::world::{World, at};

const NOW: &str = "2026-03-05T09:15";

/// A Discord that means its limits: a fixed window for each channel, and one that slides for all.
struct Limited {
    of_channel: (usize, Duration),
    of_all: (usize, Duration),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By channel, when its window began and how many came since.
    windows: HashMap<String, (Option<Instant>, usize)>,
    all: VecDeque<Instant>,
    /// Channel and title, in the order they came.
    posts: Vec<(String, String, Instant)>,
    refused: usize,
    requests: u64,
}

impl Limited {
    fn answer(&self, request: &Request) -> Reply {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        state.requests += 1;
        // 30 to 100 ms, as if at random.
        let after = Duration::from_millis(30 + state.requests.wrapping_mul(2_654_435_761) % 71);
        let channel = request.path.split('/').nth(2).unwrap().to_owned();
        let refuse = |wait: Duration, global: bool| {
            let body = json!({ "message": "You are being rate limited.",
                "retry_after": wait.as_secs_f64(), "global": global });
            let scope = if global { "global" } else { "user" }.to_owned();
            let headers = vec![("x-ratelimit-scope", scope)];
            Reply { status: 429, headers, body, after }
        };
        let (limit, per) = self.of_all;
        while state.all.front().is_some_and(|at| *at + per <= now) {
            state.all.pop_front();
        }
        if state.all.len() >= limit {
            state.refused += 1;
            return refuse(state.all[0] + per - now, true);
        }
        state.all.push_back(now);
        let (limit, per) = self.of_channel;
        let window = state.windows.entry(channel.clone()).or_default();
        if window.0.is_none_or(|begun| begun + per <= now) {
            *window = (Some(now), 0);
        }
        let left = window.0.unwrap() + per - now;
        if window.1 >= limit {
            state.refused += 1;
            return refuse(left, false);
        }
        window.1 += 1;
        let remaining = limit - window.1;
        let title = request.json["embeds"][0]["title"].as_str().unwrap();
        state.posts.push((channel, title.to_owned(), now));
        let headers = vec![
            ("x-ratelimit-bucket", "d2c1".to_owned()),
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset-after", format!("{:.3}", left.as_secs_f64())),
        ];
        let id = (1_400_000_000_000_000_000 + state.requests).to_string();
        Reply { headers, after, ..Reply::ok(json!({ "id": id })) }
    }
}

/// What came of a run.
struct Run {
    delivered: Delivered,
    posts: Vec<(String, String, Instant)>,
    refused: usize,
}

/// Puts so many messages for each channel into the outbox and delivers them all.
async fn run(of_channel: (usize, Duration), counts: &[usize]) -> Run {
    let limited = Arc::new(Limited {
        of_channel,
        of_all: (50, Duration::from_secs(1)),
        state: Mutex::default(),
    });
    let mind = Arc::clone(&limited);
    let discord = Wire::unjudged(move |request| mind.answer(request));
    let mut receivers = String::new();
    for n in 0..counts.len() {
        receivers.push_str(&format!("[receiver.c{n}]\ndiscord = {{ channel = \"{}\" }}\n", n + 1));
    }
    let mut world = World::with(&format!("[feed.site]\nurl = \"feed.ics\"\n{receivers}"));
    let stand_in = world.discord.url();
    world.edit(&stand_in, &discord.url());
    let registry =
        notify::build(&world.config(), &Http::new(Duration::from_secs(10)).unwrap()).unwrap();
    let pipeline = world.open_with(registry, NOW).await;
    fill(&pipeline, counts).await;
    let mut now = at(NOW);
    let mut delivered = Delivered::default();
    while let Some(next) = pipeline.store.next_attempt().await.unwrap() {
        now = now.max(next);
        delivered += pipeline.deliver(now).await.unwrap();
    }
    let state = limited.state.lock().unwrap();
    Run { delivered, posts: state.posts.clone(), refused: state.refused }
}

/// The first channel's are due first.
async fn fill(pipeline: &Pipeline, counts: &[usize]) {
    let mut rows = Vec::new();
    for (channel, count) in counts.iter().enumerate() {
        for n in 0..*count {
            let endpoint = format!("c{channel}/discord");
            let title = format!("{channel} {n}");
            let text = "A paragraph of about the length of an abstract. ".repeat(10);
            rows.push(NewDelivery {
                id: delivery_id(&endpoint, &title),
                endpoint,
                notification: Written::from(&Notification {
                    source: "test".to_owned(),
                    kind: Kind::Notice { title, text },
                    zone: "UTC".to_owned(),
                    items: Vec::new(),
                    more: 0,
                }),
                due_at: at(NOW) - SignedDuration::from_secs(30),
                not_after: at(NOW) + SignedDuration::from_hours(9),
            });
        }
    }
    pipeline.store.commit_due(&rows, &[], at(NOW)).await.unwrap();
}

/// Each channel got its messages, in order and once.
fn assert_exact(run: &Run, counts: &[usize]) {
    for (channel, count) in counts.iter().enumerate() {
        let id = (channel + 1).to_string();
        let got = run.posts.iter().filter(|(to, ..)| *to == id).map(|(_, title, _)| title.clone());
        let expected: Vec<String> = (0..*count).map(|n| format!("{channel} {n}")).collect();
        assert_eq!(got.collect::<Vec<_>>(), expected, "channel {channel}");
    }
    assert_eq!(run.delivered.sent, counts.iter().sum::<usize>());
    assert_eq!((run.delivered.dead, run.delivered.skipped), (0, 0));
}

#[tokio::test]
async fn within_the_limits_nothing_is_lost_or_doubled() {
    let counts = [12; 20];
    let run = run((5, Duration::from_secs(1)), &counts).await;
    assert_exact(&run, &counts);
    // None on a machine with nothing else to do.
    assert!(run.refused <= 12, "{} of 240 requests were too many", run.refused);
}

#[tokio::test]
async fn one_busy_channel_delays_no_other() {
    let mut counts = [1; 30];
    counts[0] = 40;
    let run = run((5, Duration::from_secs(1)), &counts).await;
    assert_exact(&run, &counts);
    let others = run.posts.iter().rposition(|(to, ..)| to != "1").unwrap();
    let before = run.posts[..others].iter().filter(|(to, ..)| to == "1").count();
    assert!(before <= 10, "{before} of the busy channel's came before the last of the others");
}

#[tokio::test]
#[ignore = "takes some minutes"]
async fn ten_thousand_posts_to_two_hundred_channels() {
    let counts = [50; 200];
    let run = run((5, Duration::from_secs(5)), &counts).await;
    assert_exact(&run, &counts);
    let (first, last) = (run.posts.first().unwrap().2, run.posts.last().unwrap().2);
    let rate = (run.posts.len() - 1) as f64 / (last - first).as_secs_f64();
    println!(
        "{} posts, {:.2}/s: {:.1} % of what the limits allow; {} times 429",
        run.posts.len(),
        rate,
        rate / 50.0 * 100.0,
        run.refused
    );
    assert!(run.refused <= 10, "more than a handful");
}

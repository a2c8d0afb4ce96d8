//! Discord's rate limits: when a request may go.
//! <https://docs.discord.com/developers/topics/rate-limits>
//!
//! | limit | kept by |
//! |---|---|
//! | of a bucket: what `X-RateLimit-Bucket` names, for each channel, server or webhook | the headers of the last answer, less what is under way |
//! | of a webhook, and of all webhooks of a channel | our own count: the headers tell only half |
//! | of everything: 50 a second | our own count |
//! | of invalid requests (401, 403, 429): 10,000 in ten minutes shut the address out | our own count |
//!
//! Whoever asks for the same bucket waits in one line, and those who could go wait in another for
//! the limit of everything; both lines are first come, first served. So a channel with much to say
//! takes its turn like any other and keeps nobody waiting. A request that is dropped leaves both.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use xxhash_rust::xxh3::xxh3_64;

use super::http::{Answer, number, wait};

/// Requests in [`SECOND`], of a bot, or without one of an address.
const EVERYTHING: usize = 50;
/// A little more than a second: what is sent evenly does not arrive evenly.
const SECOND: Duration = Duration::from_millis(1030);
/// As many may go at once after a pause. All others keep their distance, 48 a second: when the limit
/// is hit in spite of all, few are under way.
const AT_ONCE: usize = EVERYTHING / 2;
const APART: Duration = Duration::from_micros(20_800);
/// How far behind its time a request may go, without the next one going later for it: timers are
/// not exact, and what they lose should not be lost.
const BEHIND: Duration = Duration::from_millis(60);
/// Of one webhook, and of all webhooks of one channel: what the headers say, and what they do not.
/// <https://github.com/discord/discord-api-docs/issues/1454>
const HOOK: [(usize, Duration); 2] = [(5, Duration::from_secs(2)), (30, Duration::from_secs(60))];
/// For the same reason as with [`SECOND`].
const HOOK_MARGIN: Duration = Duration::from_millis(100);
/// Half of what shuts an address out: others may be using it too.
const INVALID: usize = 5000;
const INVALID_IN: Duration = Duration::from_secs(600);
/// The longest time that a limit is waited for here; a longer one is the outbox's business.
const SHORT: Duration = Duration::from_secs(15);
/// Two answers that name the same reset differ by their time on the way.
const SAME_RESET: Duration = Duration::from_millis(250);
/// How long a token that was refused is not tried again.
const REFUSED_FOR: Duration = Duration::from_secs(55 * 60);
/// Buckets kept in mind before those of no interest are forgotten.
const MANY: usize = 4096;

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Bot,
    /// A request without authorization.
    Address,
}

/// What a request counts against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The method, and the path with its ids left out: `POST /channels/{id}/messages`.
    route: String,
    /// Whose buckets are its own: `channels/7`, `guilds/1`, `webhooks/8/<hash of the token>`.
    resource: String,
    by: By,
    /// The id of the webhook that is to write.
    hook: Option<String>,
    /// Answers to interactions are outside the limit of everything.
    counted: bool,
}

impl Ask {
    pub(super) fn new(method: &Method, path: &str, authorized: bool) -> Ask {
        let path = path.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let top = segments.first().copied().unwrap_or_default();
        let has_token = matches!(top, "webhooks" | "interactions");
        let is_major = has_token || matches!(top, "channels" | "guilds");
        let mut ask = Ask {
            route: format!("{method} "),
            resource: String::new(),
            by: if authorized { By::Bot } else { By::Address },
            hook: None,
            counted: top != "interactions",
        };
        for (at, segment) in segments.iter().enumerate() {
            let name = match at {
                1 if is_major => {
                    ask.resource = format!("{top}/{segment}");
                    "{id}"
                }
                2 if has_token => {
                    ask.resource.push_str(&format!("/{:016x}", xxh3_64(segment.as_bytes())));
                    "{token}"
                }
                _ if at > 0 && segments[at - 1] == "reactions" => "{emoji}",
                _ if segment.bytes().all(|byte| byte.is_ascii_digit()) => "{id}",
                _ => segment,
            };
            ask.route.push('/');
            ask.route.push_str(name);
        }
        if let ("webhooks", [_, id, _], By::Address) = (top, segments.as_slice(), ask.by)
            && method == Method::POST
        {
            ask.hook = Some((*id).to_owned());
        }
        ask
    }
}

/// All that is known of the limits, and the lines of those who wait.
#[derive(Default)]
pub(super) struct Limits {
    state: Mutex<State>,
    /// Of those whose bucket has room, by whom the limit of everything counts.
    bots: tokio::sync::Mutex<()>,
    addresses: tokio::sync::Mutex<()>,
}

impl Limits {
    /// Waits for the request's turn. The error is how long it would have to wait, where that is not
    /// short, or longer than `patience`.
    pub(super) async fn admit(
        self: &Arc<Self>,
        ask: Ask,
        patience: Duration,
    ) -> Result<Permit, Duration> {
        let give_up = Instant::now() + patience;
        // Being in a line for so long says that there is a lot to do, not when it will be done.
        let busy = |_| SHORT;
        loop {
            let (key, line) = self.state().line(&ask);
            let _turn = timeout_at(give_up, line.turn.lock()).await.map_err(busy)?;
            // What is one bucket may turn out meanwhile to be another.
            while self.state().key(&ask) == key {
                let now = Instant::now();
                let checked = self.state().check(&ask, &key, now);
                match checked {
                    Ok(()) => {}
                    Err(Wait::Answer) => {
                        timeout_at(give_up, line.answered.notified()).await.map_err(busy)?;
                        continue;
                    }
                    Err(Wait::Until(at)) => {
                        sleep(at, now, give_up).await?;
                        continue;
                    }
                }
                let front = match ask.by {
                    By::Bot => &self.bots,
                    By::Address => &self.addresses,
                };
                let _front = timeout_at(give_up, front.lock()).await.map_err(busy)?;
                loop {
                    let now = Instant::now();
                    let taken = self.state().take(&ask, &key, now);
                    match taken {
                        Ok(()) => {
                            return Ok(Permit { limits: Arc::clone(self), ask, key, open: true });
                        }
                        // Not to be waited for at the head of the line.
                        Err(None) => break,
                        Err(Some(at)) => sleep(at, now, give_up).await?,
                    }
                }
            }
        }
    }

    /// Whether this token (its hash) was refused lately.
    pub(super) fn is_refused(&self, token: u64) -> bool {
        let now = Instant::now();
        self.state().refused.is_some_and(|(refused, until)| refused == token && now < until)
    }

    /// Discord does not know this token (any more): each further request with it would be invalid.
    pub(super) fn refuse(&self, token: u64) {
        self.state().refused = Some((token, Instant::now() + REFUSED_FOR));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps, unless that would take too long.
async fn sleep(until: Instant, now: Instant, give_up: Instant) -> Result<(), Duration> {
    let left = until.saturating_duration_since(now);
    if left > SHORT || until > give_up {
        return Err(left);
    }
    sleep_until(until).await;
    Ok(())
}

/// A request that may go now; until it is answered, or dropped, it counts as under way.
pub(super) struct Permit {
    limits: Arc<Limits>,
    ask: Ask,
    key: String,
    open: bool,
}

impl Permit {
    /// What the answer tells about the limits.
    pub(super) fn learn(mut self, headers: &HeaderMap, answer: &Answer) {
        self.open = false;
        self.limits.state().learn(&self.ask, &self.key, Instant::now(), headers, answer);
    }
}

impl Drop for Permit {
    /// Not answered: it may have been counted all the same.
    fn drop(&mut self) {
        if self.open
            && let Some(bucket) = self.limits.state().buckets.get_mut(&self.key)
        {
            bucket.remaining = bucket.remaining.saturating_sub(1);
            bucket.landed();
        }
    }
}

/// Why a request cannot go yet.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    Until(Instant),
    /// Of one that is under way.
    Answer,
}

#[derive(Default)]
struct State {
    /// By route, what Discord calls its bucket.
    names: HashMap<String, String>,
    /// By what [`State::key`] says.
    buckets: HashMap<String, Bucket>,
    /// By `webhook 8` and `channel 7`.
    hooks: HashMap<String, [Window; 2]>,
    /// By the id of a webhook, where it writes.
    channels: HashMap<String, String>,
    bots: Everything,
    addresses: Everything,
    invalid: VecDeque<Instant>,
    refused: Option<(u64, Instant)>,
}

impl State {
    fn key(&self, ask: &Ask) -> String {
        let name = self.names.get(&ask.route).unwrap_or(&ask.route);
        format!("{name} {}", ask.resource)
    }

    fn line(&mut self, ask: &Ask) -> (String, Arc<Line>) {
        let key = self.key(ask);
        if self.buckets.len() > MANY && !self.buckets.contains_key(&key) {
            let now = Instant::now();
            self.buckets.retain(|_, bucket| bucket.is_in_use(now));
            self.hooks.retain(|_, windows| windows.iter().any(|window| !window.is_idle(now)));
        }
        let line = Arc::clone(&self.bucket(&key).line);
        (key, line)
    }

    fn bucket(&mut self, key: &str) -> &mut Bucket {
        self.buckets.entry(key.to_owned()).or_default()
    }

    /// Whether the request's own limits, and those that are closed, leave room for it.
    fn check(&mut self, ask: &Ask, key: &str, now: Instant) -> Result<(), Wait> {
        while self.invalid.front().is_some_and(|at| *at + INVALID_IN <= now) {
            self.invalid.pop_front();
        }
        if self.invalid.len() >= INVALID
            && let Some(oldest) = self.invalid.front()
        {
            return Err(Wait::Until(*oldest + INVALID_IN));
        }
        if let Some(until) = self.of(ask.by).closed_until.filter(|until| *until > now) {
            return Err(Wait::Until(until));
        }
        self.bucket(key).check(now)?;
        for windows in self.hook_windows(ask) {
            for window in windows {
                window.check(now).map_err(Wait::Until)?;
            }
        }
        Ok(())
    }

    /// Takes its place, if every limit leaves room. The error is when the limit of everything will;
    /// none where another one does not.
    fn take(&mut self, ask: &Ask, key: &str, now: Instant) -> Result<(), Option<Instant>> {
        self.check(ask, key, now).map_err(|_| None)?;
        if ask.counted {
            let everything = self.of(ask.by);
            everything.check(now).map_err(Some)?;
            everything.take(now);
        }
        self.bucket(key).in_flight += 1;
        for windows in self.hook_windows(ask) {
            for window in windows {
                window.take(now);
            }
        }
        Ok(())
    }

    fn learn(&mut self, ask: &Ask, key: &str, now: Instant, headers: &HeaderMap, answer: &Answer) {
        self.bucket(key).landed();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(name) = text("x-ratelimit-bucket")
            && self.names.get(&ask.route).is_none_or(|known| known != name)
        {
            self.names.insert(ask.route.clone(), name.to_owned());
        }
        let key = self.key(ask);
        if matches!(answer.status, 401 | 403 | 429) && text("x-ratelimit-scope") != Some("shared") {
            self.invalid.push_back(now);
        }
        if answer.status == 429 {
            let Some(wait) = answer.retry_after else { return };
            let until = Some(now + wait);
            // Not from the API but from what stands before it, which counts by address.
            let of_address = !answer.json.is_object();
            if of_address {
                self.bots.closed_until = until;
                self.addresses.closed_until = until;
            } else if headers.contains_key("x-ratelimit-global")
                || answer.json.get("global").and_then(serde_json::Value::as_bool) == Some(true)
            {
                self.of(ask.by).closed_until = until;
            } else {
                let bucket = self.bucket(&key);
                bucket.remaining = 0;
                bucket.resets_at = until;
            }
            return;
        }
        if let Some(hook) = &ask.hook
            && let Some(channel) = answer.json.get("channel_id").and_then(|id| id.as_str())
            && self.channels.get(hook).is_none_or(|known| known != channel)
        {
            self.channels.insert(hook.clone(), channel.to_owned());
            for window in self.windows(format!("channel {channel}")) {
                window.take(now);
            }
        }
        let remaining = number(headers, "x-ratelimit-remaining");
        let reset = number(headers, "x-ratelimit-reset-after").and_then(wait);
        if let (Some(remaining), Some(reset)) = (remaining, reset) {
            let limit = number(headers, "x-ratelimit-limit").unwrap_or(1.0);
            self.bucket(&key).learn(limit as u64, remaining as u64, now + reset);
        }
    }

    fn of(&mut self, by: By) -> &mut Everything {
        match by {
            By::Bot => &mut self.bots,
            By::Address => &mut self.addresses,
        }
    }

    fn windows(&mut self, key: String) -> &mut [Window; 2] {
        self.hooks.entry(key).or_insert_with(|| {
            HOOK.map(|(limit, per)| Window { limit, per: per + HOOK_MARGIN, log: VecDeque::new() })
        })
    }

    /// Of the webhook that is to write, and of its channel where that is known.
    fn hook_windows(&mut self, ask: &Ask) -> impl Iterator<Item = &mut [Window; 2]> {
        let mut keys = Vec::new();
        if let Some(hook) = &ask.hook {
            keys.push(format!("webhook {hook}"));
            keys.extend(self.channels.get(hook).map(|channel| format!("channel {channel}")));
        }
        for key in &keys {
            self.windows(key.clone());
        }
        self.hooks.iter_mut().filter(move |(key, _)| keys.contains(key)).map(|(_, windows)| windows)
    }
}

/// Those who want to use a bucket.
#[derive(Default)]
struct Line {
    turn: tokio::sync::Mutex<()>,
    /// One that was under way is no more.
    answered: Notify,
}

struct Bucket {
    /// How many it takes until it is reset; one, as long as nothing is known.
    limit: u64,
    /// How many are left by the last answer.
    remaining: u64,
    /// None as long as it is not known when the present period ends.
    resets_at: Option<Instant>,
    /// Sent and not answered.
    in_flight: u64,
    line: Arc<Line>,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { limit: 1, remaining: 1, resets_at: None, in_flight: 0, line: Arc::default() }
    }
}

impl Bucket {
    fn check(&mut self, now: Instant) -> Result<(), Wait> {
        if self.resets_at.is_some_and(|at| at <= now) {
            self.resets_at = None;
            self.remaining = self.limit;
        }
        match self.resets_at {
            _ if self.remaining > self.in_flight => Ok(()),
            Some(at) => Err(Wait::Until(at)),
            None if self.in_flight > 0 => Err(Wait::Answer),
            // Used up by requests that were never answered: one more will tell.
            None => Ok(()),
        }
    }

    fn learn(&mut self, limit: u64, remaining: u64, resets_at: Instant) {
        let known = self.resets_at.filter(|known| resets_at <= *known + SAME_RESET);
        // Answers may overtake one another.
        self.remaining = known.map_or(remaining, |_| self.remaining.min(remaining));
        self.resets_at = Some(known.map_or(resets_at, |known| known.max(resets_at)));
        self.limit = limit.max(1);
    }

    fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.line.answered.notify_one();
    }

    fn is_in_use(&self, now: Instant) -> bool {
        let is_open = self.resets_at.is_some_and(|at| at > now);
        is_open || self.in_flight > 0 || Arc::strong_count(&self.line) > 1
    }
}

/// The limit of everything.
struct Everything {
    window: Window,
    /// When the next one may go, where that matters.
    next: Option<Instant>,
    closed_until: Option<Instant>,
}

impl Everything {
    fn check(&mut self, now: Instant) -> Result<(), Instant> {
        self.window.check(now)?;
        match self.next.filter(|next| *next > now) {
            Some(next) if self.window.count(now) >= AT_ONCE => Err(next),
            _ => Ok(()),
        }
    }

    fn take(&mut self, now: Instant) {
        self.window.take(now);
        let least = now.checked_sub(BEHIND).unwrap_or(now);
        self.next = Some(self.next.map_or(now, |next| next.max(least)) + APART);
    }
}

impl Default for Everything {
    fn default() -> Everything {
        let window = Window { limit: EVERYTHING, per: SECOND, log: VecDeque::new() };
        Everything { window, next: None, closed_until: None }
    }
}

/// At most so many in any period of that length.
struct Window {
    limit: usize,
    per: Duration,
    /// When the last ones were sent, as many as count.
    log: VecDeque<Instant>,
}

impl Window {
    fn check(&self, now: Instant) -> Result<(), Instant> {
        match self.log.front() {
            Some(oldest) if self.log.len() >= self.limit && *oldest + self.per > now => {
                Err(*oldest + self.per)
            }
            _ => Ok(()),
        }
    }

    /// How many there were in the last period.
    fn count(&self, now: Instant) -> usize {
        self.log.iter().rev().take_while(|at| **at + self.per > now).count()
    }

    fn take(&mut self, now: Instant) {
        self.log.push_back(now);
        if self.log.len() > self.limit {
            self.log.pop_front();
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.log.back().is_none_or(|last| *last + self.per <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHILE: Duration = Duration::from_secs(300);

    fn ask(path: &str) -> Ask {
        Ask::new(&Method::POST, path, true)
    }

    fn answer(permit: Permit, status: u16, pairs: &[(&str, &str)], body: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        permit.learn(&headers, &Answer::new(status, &headers, body.to_owned()));
    }

    /// The headers of an answer.
    fn told<'a>(
        bucket: &'a str,
        limit: &'a str,
        left: &'a str,
        after: &'a str,
    ) -> [(&'a str, &'a str); 4] {
        [
            ("x-ratelimit-bucket", bucket),
            ("x-ratelimit-limit", limit),
            ("x-ratelimit-remaining", left),
            ("x-ratelimit-reset-after", after),
        ]
    }

    #[test]
    fn what_is_limited_together() {
        let table = [
            (Method::POST, "/channels/7/messages", "POST /channels/{id}/messages", "channels/7"),
            (
                Method::GET,
                "/channels/7/messages?limit=9",
                "GET /channels/{id}/messages",
                "channels/7",
            ),
            (
                Method::PATCH,
                "/channels/7/messages/12",
                "PATCH /channels/{id}/messages/{id}",
                "channels/7",
            ),
            (
                Method::PUT,
                "/channels/7/messages/12/reactions/%F0%9F%91%8D/@me",
                "PUT /channels/{id}/messages/{id}/reactions/{emoji}/@me",
                "channels/7",
            ),
            (
                Method::PUT,
                "/applications/5/guilds/1/commands",
                "PUT /applications/{id}/guilds/{id}/commands",
                "",
            ),
            (Method::GET, "/users/@me", "GET /users/@me", ""),
            (Method::POST, "/webhooks/8/s-e_cret?wait=true", "POST /webhooks/{id}/{token}", ""),
        ];
        for (method, path, route, resource) in table {
            let ask = Ask::new(&method, path, true);
            assert_eq!(ask.route, route);
            assert!(!ask.resource.contains("cret"), "a token is shown");
            let by_token = ask.resource.starts_with("webhooks/8/");
            assert!(ask.resource == resource || by_token, "{path}: {}", ask.resource);
        }
        let by_webhook = Ask::new(&Method::POST, "/webhooks/8/token?wait=true", false);
        assert_eq!(by_webhook.hook.as_deref(), Some("8"));
        assert_eq!(ask("/webhooks/8/token").hook, None, "a follow-up of an interaction");
        assert!(!ask("/interactions/9/token/callback").counted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_used_up_and_waited_for() {
        let limits = Arc::new(Limits::default());
        let start = Instant::now();
        let first = limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap();
        answer(first, 200, &told("abc", "5", "2", "3.5"), "{}");
        for _ in 0..2 {
            drop(limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let permit = limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 3500);
        answer(permit, 200, &told("abc", "5", "0", "60"), "{}");
        let long = limits.admit(ask("/channels/7/messages"), WHILE).await;
        assert_eq!(long.err(), Some(Duration::from_secs(60)), "no short wait");
        limits.admit(ask("/channels/8/messages"), WHILE).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 3500, "another channel has a bucket of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn routes_that_share_a_bucket_share_it() {
        let limits = Arc::new(Limits::default());
        let (post, pin) = (ask("/channels/7/messages"), ask("/channels/7/pins"));
        for one in [&post, &pin] {
            let permit = limits.admit(one.clone(), WHILE).await.unwrap();
            answer(permit, 200, &told("shared", "5", "1", "2"), "{}");
        }
        drop(limits.admit(post, WHILE).await.unwrap());
        let start = Instant::now();
        limits.admit(pin, WHILE).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_is_asked_alone_and_what_is_dropped_is_let_go() {
        let limits = Arc::new(Limits::default());
        let first = limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap();
        let second = tokio::spawn({
            let limits = Arc::clone(&limits);
            async move { limits.admit(ask("/channels/7/messages"), WHILE).await.is_ok() }
        });
        let third = limits.admit(ask("/channels/7/messages"), Duration::from_secs(1));
        assert!(third.await.is_err(), "waits behind the second, in vain");
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_a_second_in_order_and_nobody_held_up_by_a_busy_channel() {
        let limits = Arc::new(Limits::default());
        let start = Instant::now();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        // A channel with much to say, then many with one thing each.
        for n in 0..150 {
            let (limits, order) = (Arc::clone(&limits), Arc::clone(&order));
            let channel = n.max(49);
            tasks.push(tokio::spawn(async move {
                let path = format!("/channels/{channel}/messages");
                let permit = limits.admit(ask(&path), WHILE).await.unwrap();
                order.lock().unwrap().push((channel, start.elapsed()));
                answer(permit, 200, &told("abc", "5", if n % 5 == 4 { "0" } else { "4" }, "5"), "");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap();
        for window in order.windows(EVERYTHING + 1) {
            assert!(window[EVERYTHING].1 - window[0].1 >= SECOND);
        }
        let others = order.iter().filter(|(channel, _)| *channel > 49).map(|(_, at)| *at).max();
        assert!(others.unwrap() < 3 * SECOND, "{others:?}");
    }

    /// What Discord is asked to take, at times that a test decides: 30 to 100 ms for each answer,
    /// five messages in five seconds for each channel, counted from when they arrive.
    #[tokio::test(start_paused = true)]
    async fn two_hundred_channels_get_nearly_all_that_the_limits_allow() {
        type Windows = HashMap<u32, (Instant, u32)>;
        let limits = Arc::new(Limits::default());
        let windows: Arc<Mutex<Windows>> = Arc::default();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let channels = (0..200).map(|channel| {
            let (limits, windows) = (Arc::clone(&limits), Arc::clone(&windows));
            let arrived = Arc::clone(&arrived);
            tokio::spawn(async move {
                for n in 0..20_u64 {
                    let path = format!("/channels/{channel}/messages");
                    let permit = limits.admit(ask(&path), WHILE).await.unwrap();
                    let latency = 30 + (u64::from(channel) * 7919 + n * 104_729) % 71;
                    tokio::time::sleep(Duration::from_millis(latency / 2)).await;
                    let now = Instant::now();
                    arrived.lock().unwrap().push(now);
                    let (left, reset) = {
                        let mut windows = windows.lock().unwrap();
                        let window = windows.entry(channel).or_insert((now, 0));
                        if window.0 + Duration::from_secs(5) <= now {
                            *window = (now, 0);
                        }
                        window.1 += 1;
                        assert!(window.1 <= 5, "channel {channel} gets too much");
                        let reset = window.0 + Duration::from_secs(5) - now;
                        (5 - window.1, reset.as_secs_f64())
                    };
                    tokio::time::sleep(Duration::from_millis(latency / 2)).await;
                    let (left, reset) = (left.to_string(), format!("{reset:.3}"));
                    answer(permit, 200, &told("abc", "5", &left, &reset), "{}");
                }
            })
        });
        for channel in channels.collect::<Vec<_>>() {
            channel.await.unwrap();
        }
        let mut arrived = arrived.lock().unwrap().clone();
        arrived.sort();
        let too_many = arrived.windows(EVERYTHING + 1);
        let too_many = too_many.filter(|w| w[EVERYTHING] - w[0] < Duration::from_secs(1)).count();
        assert!(too_many <= 1, "{too_many} of {} would be refused", arrived.len());
        let took = arrived[arrived.len() - 1] - arrived[0];
        let share = (arrived.len() - 1) as f64 / took.as_secs_f64() / EVERYTHING as f64;
        assert!((0.95..1.0).contains(&share), "{share} of what is allowed");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_close_one_bucket_or_all() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u128, u128);
        let table: [Row<'_>; 6] = [
            ("body", &[], r#"{"retry_after":1.5,"global":false}"#, 1500, 0),
            ("header", &[("retry-after", "2")], r#"{"message":"slow"}"#, 2000, 0),
            ("global", &[], r#"{"retry_after":3,"global":true}"#, 3000, 3000),
            ("in a header", &[("x-ratelimit-global", "true")], r#"{"retry_after":3}"#, 3000, 3000),
            ("HTML", &[("retry-after", "9")], "<html>", 9000, 9000),
            ("nonsense", &[("retry-after", "soon")], r#"{"retry_after":-1}"#, 0, 0),
        ];
        for (name, headers, body, this, other) in table {
            for (path, expected) in
                [("/channels/7/messages", this), ("/channels/8/messages", other)]
            {
                let limits = Arc::new(Limits::default());
                let permit = limits.admit(ask("/channels/7/messages"), WHILE).await.unwrap();
                answer(permit, 429, headers, body);
                let start = Instant::now();
                limits.admit(ask(path), WHILE).await.unwrap();
                assert_eq!(start.elapsed().as_millis(), expected, "{name}, {path}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn webhooks_are_counted_by_themselves_and_by_channel() {
        let limits = Arc::new(Limits::default());
        let hook = |id: u32| Ask::new(&Method::POST, &format!("/webhooks/{id}/token"), false);
        let start = Instant::now();
        let mut sent = Vec::new();
        for n in 0..32 {
            let permit = match limits.admit(hook(n % 2), WHILE).await {
                Ok(permit) => permit,
                Err(wait) => {
                    assert_eq!(sent.len(), 30);
                    assert!(wait > SHORT, "{wait:?}");
                    break;
                }
            };
            answer(permit, 200, &[], r#"{"channel_id":"7"}"#);
            sent.push(start.elapsed());
        }
        assert_eq!(sent.len(), 30, "thirty a minute, whatever the headers say");
        for window in sent.windows(6) {
            assert!(window[5] - window[0] >= Duration::from_secs(2), "{sent:?}");
        }
        let elsewhere = limits.admit(hook(9), WHILE).await;
        assert!(elsewhere.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_requests_stop_long_before_the_address_is_shut_out() {
        let limits = Arc::new(Limits::default());
        let refuse = |status, headers: &'static [(&str, &str)]| {
            let limits = Arc::clone(&limits);
            async move {
                let admitted = limits.admit(ask("/channels/7/messages"), WHILE).await;
                admitted.map(|permit| answer(permit, status, headers, "{}"))
            }
        };
        for _ in 0..50 {
            refuse(429, &[("x-ratelimit-scope", "shared")]).await.unwrap();
        }
        let mut refused = 0;
        while refuse(403, &[]).await.is_ok() {
            refused += 1;
        }
        assert_eq!(refused, INVALID);
        tokio::time::advance(INVALID_IN).await;
        assert!(refuse(403, &[]).await.is_ok());
    }
}

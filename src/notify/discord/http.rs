//! One request to Discord's REST API, within its rate limits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::{API, gone, outcome};
use crate::config;
use crate::config::secret::SecretSource;
use crate::message::discord::Target;
use crate::notify::{NotifyError, SetupError, chain};
use crate::tls::{CONNECT_TIMEOUT, Trust};

/// Discord asks for this form and may block others (error 40333).
/// <https://docs.discord.com/developers/reference#user-agent>
const USER_AGENT: &str = concat!("DiscordBot (beadle, ", env!("CARGO_PKG_VERSION"), ")");

/// A message that was created comes back whole; one with ten full embeds has about 60 KiB.
const MAX_BODY: usize = 1024 * 1024;

/// Longest wait believed.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The connection pool and what is known of the rate limits. Clones share both; make one for the
/// whole program, and keep it when the configuration is read anew.
#[derive(Clone)]
pub struct Http {
    client: Client,
    limits: Arc<Mutex<Limits>>,
}

impl Http {
    /// `timeout` is for one whole request; 30 s is right for everything but tests.
    pub fn new(timeout: Duration) -> Result<Http, SetupError> {
        Http::trusting(timeout, &Trust::default())
    }

    /// The same, with authorities besides those of this machine.
    pub fn trusting(timeout: Duration, trust: &Trust) -> Result<Http, SetupError> {
        let client = trust
            .client()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .build()
            .map_err(|error| SetupError(format!("cannot set up HTTPS: {}", chain(&error))))?;
        Ok(Http { client, limits: Arc::default() })
    }

    /// One attempt. An answer of any status is `Ok`; a rate limit that is known to be used up is
    /// [`NotifyError::Retry`] without a request.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, NotifyError> {
        self.limits().admit(&call.route, Instant::now()).map_err(|wait| NotifyError::Retry {
            after: Some(wait),
            reason: "waiting for Discord's rate limit".to_owned(),
        })?;
        let mut request = self.client.request(call.method, format!("{}{}", call.api, call.path));
        if let Some(authorization) = call.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        let mut response =
            request.send().await.map_err(|error| not_answered(error, call.secret))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut bytes = Vec::new();
        // The status has come: it decides, even when the body never arrives whole.
        while let Ok(Some(chunk)) = response.chunk().await {
            if bytes.len() + chunk.len() > MAX_BODY {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&bytes).replace(call.secret, "***");
        let answer = Answer::new(status, &headers, body);
        self.limits().learn(&call.route, Instant::now(), &headers, &answer);
        Ok(answer)
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// The bot: any request of Discord's REST API in its name.
///
/// ```text
/// let bot = Bot::new(&config.discord, &http)?;                     // None without a token
/// let path = format!("/channels/{channel}/messages/{message}");
/// let answer = bot.call(Method::PATCH, &path, Some(&body)).await?; // Err: no answer came
/// match answer.code() {
///     Some(10008) => …                                             // somebody deleted it
///     _ => answer.accepted()?,                                     // &Value, or what to do
/// }
/// ```
///
/// Rate limits are kept by the call itself, which waits for its turn where the wait is short; a
/// longer one is [`NotifyError::Retry`]. Nothing is repeated. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bot {
    http: Http,
    api_url: Url,
    token: SecretSource,
}

impl Bot {
    /// None where `[discord]` has no token.
    pub fn new(config: &config::Discord, http: &Http) -> Option<Bot> {
        let (http, api_url) = (http.clone(), config.api_url.clone());
        config.token.clone().map(|token| Bot { http, api_url, token })
    }

    /// One attempt. `path` follows the API version: `/channels/7/messages?limit=100`. An answer of
    /// any status is `Ok`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NotifyError> {
        let (secret, authorization) = authorization(&self.token)?;
        let body = body.map(Value::to_string);
        let call = Call {
            route: route(&method, path),
            method,
            api: &format!("{}{API}", self.api_url.as_str().trim_end_matches('/')),
            path: path.to_owned(),
            authorization: Some(&authorization),
            secret: &secret,
            body: body.as_deref(),
        };
        self.http.call(call).await
    }
}

/// The bot's token, and the header that is made of it. The token is read anew each time, so that
/// one that was changed is picked up; one that cannot be read or used is
/// [`NotifyError::ReceiverGone`].
pub(super) fn authorization(token: &SecretSource) -> Result<(String, HeaderValue), NotifyError> {
    let token = token
        .read()
        .map_err(|error| gone(format!("cannot read the bot token: {}", chain(&error))))?;
    let token = token.expose().to_owned();
    let mut header = HeaderValue::from_str(&format!("Bot {token}"))
        .map_err(|_| gone("the bot token holds characters no token has".to_owned()))?;
    header.set_sensitive(true);
    Ok((token, header))
}

/// What is limited together: the method, and the path without its query and without the ids below
/// its first resource.
fn route(method: &Method, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let mut route = method.to_string();
    for (at, segment) in path.split('/').filter(|segment| !segment.is_empty()).enumerate() {
        let is_id = segment.bytes().all(|byte| byte.is_ascii_digit());
        route.push('/');
        route.push_str(if at > 1 && is_id { "{id}" } else { segment });
    }
    route
}

/// A request about to be made; holds a secret, so it has no `Debug`.
pub(super) struct Call<'a> {
    pub method: Method,
    /// What is limited: method and resource, without a token.
    pub route: String,
    pub api: &'a str,
    pub path: String,
    pub authorization: Option<&'a HeaderValue>,
    /// Blotted out of whatever comes back.
    pub secret: &'a str,
    pub body: Option<&'a str>,
}

/// What Discord, or something in front of it, said.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// Null where the body is no JSON: Cloudflare answers in HTML.
    pub json: Value,
    /// From the body's `retry_after` (fractions of a second), else from `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// The JSON error code, such as 10008 for a message that is no more.
    /// <https://docs.discord.com/developers/topics/opcodes-and-status-codes>
    pub fn code(&self) -> Option<u64> {
        self.json.get("code").and_then(Value::as_u64)
    }

    /// What the bot asked for; where it was refused, what that means and what to do.
    pub fn accepted(&self) -> Result<&Value, NotifyError> {
        outcome::of_question(self, Target::Bot)
    }

    fn new(status: u16, headers: &HeaderMap, body: String) -> Answer {
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        let retry_after = json
            .get("retry_after")
            .and_then(Value::as_f64)
            .or_else(|| number(headers, "retry-after"))
            .and_then(wait);
        Answer { status, json, retry_after }
    }
}

/// No answer came. Only a connection that was never made surely carried no message.
fn not_answered(error: reqwest::Error, secret: &str) -> NotifyError {
    let (connect, timeout, builder) = (error.is_connect(), error.is_timeout(), error.is_builder());
    let cause = chain(&error.without_url()).replace(secret, "***");
    if builder {
        NotifyError::Permanent { reason: format!("cannot make the request: {cause}") }
    } else if connect {
        NotifyError::Retry { after: None, reason: format!("cannot reach Discord: {cause}") }
    } else if timeout {
        NotifyError::Uncertain { after: None, reason: "Discord did not answer in time".to_owned() }
    } else {
        NotifyError::Uncertain {
            after: None,
            reason: format!("the connection to Discord broke: {cause}"),
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn wait(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(MAX_WAIT))
}

/// What is left of the rate limits.
///
/// A bucket is kept per route. `X-RateLimit-Bucket` would tell which routes share one, but of the
/// routes called here (one per channel or webhook and method) no two do.
/// <https://docs.discord.com/developers/topics/rate-limits>
#[derive(Debug, Default)]
struct Limits {
    /// All routes are closed until then.
    closed_until: Option<Instant>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    remaining: u64,
    resets_at: Instant,
}

impl Limits {
    /// Takes one request from the route's bucket, or says how long it stays empty.
    fn admit(&mut self, route: &str, now: Instant) -> Result<(), Duration> {
        let left =
            |until: Instant| until.checked_duration_since(now).filter(|left| !left.is_zero());
        if let Some(wait) = self.closed_until.and_then(left) {
            return Err(wait);
        }
        if let Some(bucket) = self.buckets.get_mut(route)
            && let Some(wait) = left(bucket.resets_at)
        {
            bucket.remaining = bucket.remaining.checked_sub(1).ok_or(wait)?;
        }
        Ok(())
    }

    fn learn(&mut self, route: &str, now: Instant, headers: &HeaderMap, answer: &Answer) {
        if answer.status == 429 {
            let Some(wait) = answer.retry_after else { return };
            let global = headers.contains_key("x-ratelimit-global")
                || answer.json.get("global").and_then(Value::as_bool) == Some(true)
                // Not from the API but from what stands before it, which counts by address.
                || !answer.json.is_object();
            if global {
                self.closed_until = Some(now + wait);
            } else {
                let bucket = Bucket { remaining: 0, resets_at: now + wait };
                self.buckets.insert(route.to_owned(), bucket);
            }
            return;
        }
        let remaining = number(headers, "x-ratelimit-remaining");
        let reset = number(headers, "x-ratelimit-reset-after").and_then(wait);
        if let (Some(remaining), Some(reset)) = (remaining, reset) {
            let bucket = Bucket { remaining: remaining as u64, resets_at: now + reset };
            self.buckets.insert(route.to_owned(), bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(limits: &mut Limits, now: Instant, status: u16, pairs: &[(&str, &str)], body: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let answer = Answer::new(status, &headers, body.to_owned());
        limits.learn("a", now, &headers, &answer);
    }

    #[test]
    fn what_is_limited_together() {
        let table = [
            (Method::POST, "/channels/7/messages", "POST/channels/7/messages"),
            (Method::GET, "/channels/7/messages?limit=9", "GET/channels/7/messages"),
            (Method::PATCH, "/channels/7/messages/12", "PATCH/channels/7/messages/{id}"),
            (Method::PUT, "/guilds/1/commands", "PUT/guilds/1/commands"),
            (Method::GET, "/users/@me", "GET/users/@me"),
        ];
        for (method, path, expected) in table {
            assert_eq!(route(&method, path), expected);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_empties_and_fills() {
        let now = Instant::now();
        let mut limits = Limits::default();
        assert_eq!(limits.admit("a", now), Ok(()), "nothing is known yet");
        let headers = [("x-ratelimit-remaining", "1"), ("x-ratelimit-reset-after", "2.5")];
        learn(&mut limits, now, 200, &headers, "{}");
        assert_eq!(limits.admit("a", now), Ok(()));
        assert_eq!(limits.admit("a", now + SECOND), Err(Duration::from_millis(1500)));
        assert_eq!(limits.admit("b", now + SECOND), Ok(()), "another route");
        assert_eq!(limits.admit("a", now + 3 * SECOND), Ok(()), "filled again");
    }

    #[test]
    fn too_many_requests_close_one_route_or_all() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<u64>, Option<u64>);
        let table: [Row<'_>; 6] = [
            ("body", &[], r#"{"retry_after":1.5,"global":false}"#, Some(1500), None),
            ("header", &[("retry-after", "2")], r#"{"message":"slow"}"#, Some(2000), None),
            ("global", &[], r#"{"retry_after":3,"global":true}"#, Some(3000), Some(3000)),
            (
                "global in a header",
                &[("x-ratelimit-global", "true")],
                r#"{"retry_after":3}"#,
                Some(3000),
                Some(3000),
            ),
            ("HTML", &[("retry-after", "60")], "<html>", Some(60_000), Some(60_000)),
            ("nonsense", &[("retry-after", "soon")], r#"{"retry_after":-1}"#, None, None),
        ];
        for (name, headers, body, this, other) in table {
            let now = Instant::now();
            let mut limits = Limits::default();
            learn(&mut limits, now, 429, headers, body);
            let closed =
                |wait: Option<u64>| wait.map_or(Ok(()), |ms| Err(Duration::from_millis(ms)));
            assert_eq!(limits.admit("a", now), closed(this), "{name}");
            assert_eq!(limits.admit("b", now), closed(other), "{name}, another route");
        }
    }
}

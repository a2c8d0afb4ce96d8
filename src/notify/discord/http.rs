//! One request to Discord's REST API, within its rate limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::Value;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::limits::{Ask, Limits};
use super::{API, QUEUE, gone, outcome};
use crate::config;
use crate::config::secret::SecretSource;
use crate::message::discord::Target;
use crate::notify::{NotifyError, SetupError, chain};
use crate::tls::{CONNECT_TIMEOUT, Trust};

/// Discord asks for this form and may block others (error 40333).
/// <https://docs.discord.com/developers/reference#user-agent>
const USER_AGENT: &str = concat!("DiscordBot (beadle, ", env!("CARGO_PKG_VERSION"), ")");

/// Of a webhook, or of an interaction, which is answered as one.
/// <https://docs.discord.com/developers/topics/opcodes-and-status-codes>
const INVALID_WEBHOOK_TOKEN: u64 = 50027;

/// A message that was created comes back whole; one with ten full embeds has about 60 KiB.
const MAX_BODY: usize = 1024 * 1024;

/// Longest wait believed.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connection pool and what is known of the rate limits. Clones share both; make one for the
/// whole program, and keep it when the configuration is read anew.
#[derive(Clone)]
pub struct Http {
    client: Client,
    limits: Arc<Limits>,
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

    /// One attempt, when the rate limits allow it. An answer of any status is `Ok`; a limit that is
    /// used up for long is [`NotifyError::Retry`] without a request.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, NotifyError> {
        let token = call.authorization.map(|header| xxh3_64(header.as_bytes()));
        if token.is_some_and(|token| self.limits.is_refused(token)) {
            return Err(gone(
                "Discord refused the bot token, and it is still the same: reset it in the \
                 Developer Portal and put the new one where the configuration reads it"
                    .to_owned(),
            ));
        }
        let ask = Ask::new(&call.method, &call.path, token.is_some());
        let permit = self.limits.admit(ask, call.patience).await.map_err(|wait| {
            let reason = "waiting for Discord's rate limit".to_owned();
            NotifyError::Retry { after: Some(wait), reason }
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
        permit.learn(&headers, &answer);
        // An interaction's token that has run out says nothing of the bot's.
        if let (401, Some(token)) = (status, token)
            && answer.code() != Some(INVALID_WEBHOOK_TOKEN)
        {
            self.limits.refuse(token);
        }
        Ok(answer)
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
        self.call_within(PATIENCE, method, path, body).await
    }

    /// A message, which may wait for its turn longer than other requests.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, NotifyError> {
        self.call_within(QUEUE, Method::POST, path, Some(body)).await
    }

    async fn call_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NotifyError> {
        let (secret, authorization) = self.authorization()?;
        let body = body.map(Value::to_string);
        let call = Call {
            method,
            api: &format!("{}{API}", self.api_url.as_str().trim_end_matches('/')),
            path: path.to_owned(),
            authorization: Some(&authorization),
            secret: &secret,
            body: body.as_deref(),
            patience,
        };
        self.http.call(call).await
    }

    /// The token, and the header that is made of it. The token is read anew each time, so that one
    /// that was changed is picked up; one that cannot be read or used is
    /// [`NotifyError::ReceiverGone`].
    pub(super) fn authorization(&self) -> Result<(String, HeaderValue), NotifyError> {
        let token = self
            .token
            .read()
            .map_err(|error| gone(format!("cannot read the bot token: {}", chain(&error))))?;
        let token = token.expose().to_owned();
        let mut header = HeaderValue::from_str(&format!("Bot {token}"))
            .map_err(|_| gone("the bot token holds characters no token has".to_owned()))?;
        header.set_sensitive(true);
        Ok((token, header))
    }
}

/// A request about to be made; holds a secret, so it has no `Debug`.
pub(super) struct Call<'a> {
    pub method: Method,
    pub api: &'a str,
    pub path: String,
    pub authorization: Option<&'a HeaderValue>,
    /// Blotted out of whatever comes back.
    pub secret: &'a str,
    pub body: Option<&'a str>,
    /// How long its turn may be waited for.
    pub patience: Duration,
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

    pub(super) fn new(status: u16, headers: &HeaderMap, body: String) -> Answer {
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

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

pub(super) fn wait(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(MAX_WAIT))
}

//! Discord's gateway: a WebSocket over which Discord says that somebody used a command. No intents
//! are asked for, so nothing else comes over it, and nothing is kept of what comes.
//!
//! A client of our own, since the one of serenity 0.12 looks for messages twice a second, resumes at
//! the wrong address, and can hang in its start for ever.
//!
//! <https://docs.discord.com/developers/events/gateway>

use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::{debug, error, warn};
use url::Url;

use super::request::{self, Interaction};
use crate::config::Config;
use crate::config::secret::{Secret, SecretSource};
use crate::notify::discord::Bot;
use crate::tls::Trust;

/// For the connection and the first message.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Between attempts; it doubles, and of it a random part is taken. Discord takes 1000 IDENTIFYs a
/// day and then resets the token: with the longest wait there are fewer, whatever ends them.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(180);
/// A connection that lasted so long was a good one: the next wait is the first again.
const STEADY: Duration = Duration::from_secs(60);
/// So many connections in a row may fail to take a session up again.
const RESUMES: u32 = 3;
/// Between attempts that Discord would refuse for the same reason, and how often it is seen meanwhile
/// whether the token is another.
const REFUSED_WAIT: Duration = Duration::from_secs(3600);
const TOKEN_SEEN: Duration = Duration::from_secs(5);
/// Without intents the largest message is READY, with the ids of all servers.
const MAX_MESSAGE: usize = 4 << 20;

/// What comes over the gateway.
#[derive(Debug)]
pub enum Heard {
    /// A session has begun.
    Ready,
    Interaction(Interaction),
}

/// Where the gateway is, and who connects to it.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub bot: Bot,
    token: SecretSource,
    /// None: asked of the API.
    url: Option<Url>,
    ca_file: Option<PathBuf>,
}

/// What is kept from one connection to the next.
#[derive(Debug, Default)]
struct Session {
    id: Option<String>,
    /// None once a connection there has failed: its host may be gone, while the session is not.
    resume_url: Option<Url>,
    /// Of the last event.
    sequence: Option<u64>,
    /// With which the present connection began.
    token: Option<Secret>,
    /// READY or RESUMED came on the present connection.
    ready: bool,
    /// Connections in a row on which neither came.
    failures: u32,
}

impl Session {
    /// Begins anew with the next connection.
    fn forget(&mut self) {
        *self = Session::default();
    }

    /// A connection is over.
    fn over(&mut self) {
        if self.ready {
            self.failures = 0;
            return;
        }
        self.failures += 1;
        self.resume_url = None;
        if self.failures >= RESUMES {
            self.forget();
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// Discord asks for it, or the line broke: connect again.
    Lost(String),
    /// The session is gone: connect again, and wait first.
    Invalid { resumable: bool },
    /// Connecting again would end the same way, until somebody mends it.
    Refused(String),
}

impl<E: fmt::Display> From<E> for End {
    fn from(error: E) -> End {
        End::Lost(error.to_string())
    }
}

impl Gateway {
    /// None without a token.
    pub fn new(config: &Config, bot: Bot) -> Option<Gateway> {
        let token = config.discord.token.clone()?;
        let (url, ca_file) = (config.discord.gateway_url.clone(), config.ca_file.clone());
        Some(Gateway { bot, token, url, ca_file })
    }

    /// Keeps a connection for ever. `heard` is called with what comes over it.
    pub async fn run(&self, heard: impl Fn(Heard)) -> Infallible {
        let mut session = Session::default();
        let mut attempts = 0;
        loop {
            (session.ready, session.token) = (false, None);
            let began = Instant::now();
            let end = match self.connection(&mut session, &heard).await {
                Ok(never) => match never {},
                Err(end) => end,
            };
            let ready = session.ready;
            attempts = if ready && began.elapsed() > STEADY { 0 } else { attempts + 1 };
            let mut wait = backoff(attempts, random());
            let tried = session.token.take();
            session.over();
            match end {
                End::Refused(reason) => {
                    error!(
                        "no slash commands: {reason}; tried again when the token is another, and \
                         every hour"
                    );
                    session.forget();
                    self.another_token(tried).await;
                    continue;
                }
                End::Invalid { resumable } => {
                    debug!(resumable, "the session is invalid");
                    if !resumable {
                        session.forget();
                    }
                    // "a random amount of time between 1 and 5 seconds"
                    wait =
                        wait.max(Duration::from_secs(1) + Duration::from_secs(4).mul_f64(random()));
                }
                // A line breaks every few hours; only one that was never there is worth a word.
                End::Lost(reason) if ready => debug!("the gateway was lost: {reason}"),
                End::Lost(reason) => {
                    warn!(again_in = ?wait, "no gateway, no slash commands: {reason}")
                }
            }
            sleep(wait).await;
        }
    }

    /// Until the token is another than the one that was tried, or it is time to try that again.
    async fn another_token(&self, tried: Option<Secret>) {
        let until = Instant::now() + REFUSED_WAIT;
        while Instant::now() < until {
            sleep(TOKEN_SEEN).await;
            if self.token.read().is_ok_and(|token| Some(token) != tried) {
                return;
            }
        }
    }

    /// Where the session can be taken up, else where the API says.
    async fn url(&self, session: &Session) -> Result<Url, End> {
        let mut url = match (&self.url, &session.resume_url) {
            (Some(url), _) | (None, Some(url)) => url.clone(),
            (None, None) => {
                let answer = self.bot.call(Method::GET, "/gateway", None).await?;
                let said = answer.accepted().map_err(|error| match answer.status {
                    401 => End::Refused(error.to_string()),
                    _ => End::Lost(error.to_string()),
                })?;
                let url = said["url"].as_str().unwrap_or_default();
                Url::parse(url).map_err(|_| "Discord names no gateway")?
            }
        };
        url.set_query(Some("v=10&encoding=json"));
        Ok(url)
    }

    /// One connection, from its beginning to its end.
    async fn connection(
        &self,
        session: &mut Session,
        heard: &impl Fn(Heard),
    ) -> Result<Infallible, End> {
        let token = session.token.insert(self.token.read()?).clone();
        let (url, trust) = (self.url(session).await?, Trust::load(self.ca_file.as_deref())?);
        let mut socket = timeout(CONNECT_TIMEOUT, connect(&url, &trust)).await??;
        let hello = timeout(CONNECT_TIMEOUT, receive(&mut socket)).await??;
        if hello["op"] != 10 {
            return Err("the gateway does not begin with HELLO".into());
        }
        let millis = hello["d"]["heartbeat_interval"].as_u64().unwrap_or(41_250);
        let interval = Duration::from_millis(millis.clamp(100, 300_000));
        send(&mut socket, &introduction(session, &token)).await?;

        // The first beat comes at a random part of the interval, lest all clients beat together.
        let mut beat_at = Instant::now() + interval.mul_f64(random());
        let mut acknowledged = true;
        loop {
            let message = tokio::select! {
                message = receive(&mut socket) => message?,
                () = tokio::time::sleep_until(beat_at) => {
                    if !acknowledged {
                        return Err("the gateway no longer answers".into());
                    }
                    acknowledged = false;
                    beat_at = Instant::now() + interval;
                    send(&mut socket, &beat(session)).await?;
                    continue;
                }
            };
            match message["op"].as_u64() {
                Some(0) => {
                    session.sequence = message["s"].as_u64().or(session.sequence);
                    dispatch(&message, session, heard);
                }
                Some(1) => send(&mut socket, &beat(session)).await?,
                Some(7) => return Err("Discord asks to connect again".into()),
                Some(9) => return Err(End::Invalid { resumable: message["d"] == true }),
                Some(11) => acknowledged = true,
                _ => {}
            }
        }
    }
}

/// How long is waited after `attempt` connections in a row that were no good, of which `random` (from
/// 0 to 1) takes away up to a half.
fn backoff(attempt: u32, random: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (FIRST_WAIT * (1 << doublings)).min(LONGEST_WAIT).mul_f64(1.0 - random / 2.0)
}

/// From 0 to 1: each `RandomState` hashes with keys of its own. It spreads clients, and guards no
/// secret.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

/// IDENTIFY, or RESUME where a session may still be there.
fn introduction(session: &Session, token: &Secret) -> Value {
    let token = token.expose();
    match (&session.id, session.sequence) {
        (Some(id), Some(seq)) => {
            json!({ "op": 6, "d": { "token": token, "session_id": id, "seq": seq } })
        }
        _ => json!({ "op": 2, "d": {
            "token": token,
            "intents": 0,
            "properties": {
                "os": std::env::consts::OS, "browser": "beadle", "device": "beadle",
            },
        } }),
    }
}

fn beat(session: &Session) -> Value {
    json!({ "op": 1, "d": session.sequence })
}

fn dispatch(message: &Value, session: &mut Session, heard: &impl Fn(Heard)) {
    let data = &message["d"];
    match message["t"].as_str() {
        Some("READY") => {
            session.id = data["session_id"].as_str().map(str::to_owned);
            session.resume_url =
                data["resume_gateway_url"].as_str().and_then(|url| Url::parse(url).ok());
            session.ready = true;
            heard(Heard::Ready);
        }
        Some("RESUMED") => session.ready = true,
        Some("INTERACTION_CREATE") => match request::parse(data) {
            Some(interaction) => heard(Heard::Interaction(interaction)),
            None => debug!("an interaction of another kind"),
        },
        _ => {}
    }
}

/// A stream of bytes, encrypted or not.
trait Line: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

type Socket = WebSocketStream<Box<dyn Line>>;

async fn connect(url: &Url, trust: &Trust) -> Result<Socket, End> {
    let host = url.host_str().ok_or("the gateway's address has no host")?;
    let port = url.port_or_known_default().unwrap_or(443);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await?;
    let line: Box<dyn Line> = match url.scheme() {
        "ws" => Box::new(stream),
        _ => {
            let config = trust.client_config();
            let name = ServerName::try_from(address.to_owned())?;
            Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
        }
    };
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 8 << 10;
    config.write_buffer_size = 0;
    config.max_message_size = Some(MAX_MESSAGE);
    config.max_frame_size = Some(MAX_MESSAGE);
    let opened =
        tokio_tungstenite::client_async_with_config(url.as_str(), line, Some(config)).await;
    Ok(opened?.0)
}

/// The next message that is JSON.
async fn receive(socket: &mut Socket) -> Result<Value, End> {
    loop {
        return match socket.next().await.ok_or("the gateway closed the connection")?? {
            Message::Text(text) => Ok(serde_json::from_str(&text)?),
            Message::Close(frame) => Err(closed(frame.map(|frame| u16::from(frame.code)))),
            // Pings are answered by the library.
            _ => continue,
        };
    }
}

async fn send(socket: &mut Socket, message: &Value) -> Result<(), End> {
    Ok(socket.send(Message::text(message.to_string())).await?)
}

/// What a close code means.
/// <https://docs.discord.com/developers/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes>
fn closed(code: Option<u16>) -> End {
    let refused =
        |text: &str| End::Refused(format!("{text} (gateway close code {})", code.unwrap_or(0)));
    match code {
        Some(4004) => refused(
            "the bot token is not valid (any more): reset it in the Developer Portal and put the \
             new one where the configuration reads it",
        ),
        Some(4010 | 4012) => refused("Discord no longer speaks this version of its gateway"),
        Some(4011) => refused("the bot is in too many servers for one connection"),
        Some(4013 | 4014) => refused("Discord refuses the intents"),
        // Sequence or session not valid: a new session.
        Some(4007 | 4009) => End::Invalid { resumable: false },
        Some(code) => End::Lost(format!("closed with code {code}")),
        None => End::Lost("closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes() {
        for code in [4004, 4010, 4011, 4012, 4013, 4014] {
            assert!(matches!(closed(Some(code)), End::Refused(_)), "{code}");
        }
        for code in [4007, 4009] {
            assert!(matches!(closed(Some(code)), End::Invalid { resumable: false }), "{code}");
        }
        for code in [1000, 1001, 1006, 4000, 4001, 4002, 4003, 4005, 4008] {
            assert!(matches!(closed(Some(code)), End::Lost(_)), "{code}");
        }
        assert!(matches!(closed(None), End::Lost(_)));
    }

    #[test]
    fn waits_double_and_no_day_has_room_for_a_thousand() {
        let waits = |random| (1..12).map(move |attempt| backoff(attempt, random).as_secs_f64());
        assert_eq!(
            waits(0.0).collect::<Vec<_>>(),
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 180.0, 180.0, 180.0]
        );
        assert!(waits(0.0).zip(waits(1.0)).all(|(longest, shortest)| longest == 2.0 * shortest));
        assert!(86_400.0 / backoff(u32::MAX, 1.0).as_secs_f64() < 1000.0);
        assert!((0..100).all(|_| (0.0..=1.0).contains(&random())) && random() != random());
    }

    #[test]
    fn a_session_outlives_its_host_but_not_many_failures() {
        let url = || Url::parse("wss://resume.example.org").ok();
        let id = Some("session".to_owned());
        let mut session =
            Session { id, resume_url: url(), sequence: Some(3), ..Session::default() };
        session.ready = true;
        session.over();
        assert_eq!(session.resume_url, url());
        session.ready = false;
        session.over();
        session.over();
        assert_eq!((session.resume_url.is_none(), session.id.is_some()), (true, true));
        session.over();
        assert!(session.id.is_none());
    }
}

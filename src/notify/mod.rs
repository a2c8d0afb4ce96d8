//! Backends: one file or folder each, and one word in `BACKENDS`.

pub mod discord;
pub mod email;
pub mod terminal;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::Config;
use crate::message::Style;
use crate::plan::Notification;
use crate::store::people::direct_person;

/// What a backend makes of a configuration: an endpoint for every place it can reach.
type Backend = fn(&Config, &discord::Http) -> Result<Vec<Endpoint>, SetupError>;

const BACKENDS: &[Backend] = &[discord::endpoints, email::endpoints, terminal::endpoints];

/// The endpoints of all receivers, made once from the configuration.
///
/// Nothing is connected to and no secret is read here, so that a server that is down, or a secret
/// that is being rotated, does not keep beadle from starting.
pub fn build(config: &Config, http: &discord::Http) -> Result<Registry, SetupError> {
    let mut endpoints = Vec::new();
    for backend in BACKENDS {
        endpoints.extend(backend(config, http)?);
    }
    let bot = discord::Bot::new(&config.discord, http);
    Ok(Registry { bot, ..endpoints.into_iter().collect() }.with_people())
}

/// Where messages can go.
#[derive(Default)]
pub struct Registry {
    /// By id.
    endpoints: BTreeMap<String, Endpoint>,
    /// For messages to people, who are in no configuration.
    direct: Option<Arc<dyn Notifier>>,
    bot: Option<discord::Bot>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.endpoints.values()).finish()
    }
}

impl Registry {
    /// The ids of the places that a receiver's messages go to, in order, each to get a delivery
    /// of its own. None for a receiver that is not configured (any more). A person, `dm/<user id>`,
    /// is a receiver with one endpoint of the same name.
    pub fn endpoints(&self, receiver: &str) -> Vec<String> {
        let endpoints = self.endpoints.values();
        let of_receiver = endpoints.filter(|endpoint| endpoint.receiver == receiver);
        let mut ids: Vec<String> = of_receiver.map(|endpoint| endpoint.id.clone()).collect();
        if ids.is_empty() && self.person(receiver).is_some() {
            ids.push(receiver.to_owned());
        }
        ids
    }

    /// Those whose messages can be changed after they were sent.
    pub fn boards(&self) -> impl Iterator<Item = (&Endpoint, &discord::Board)> {
        self.endpoints.values().filter_map(|endpoint| Some((endpoint, endpoint.board.as_ref()?)))
    }

    pub fn get(&self, endpoint_id: &str) -> Option<Endpoint> {
        self.configured(endpoint_id).cloned().or_else(|| self.person(endpoint_id))
    }

    /// The bot that Discord knows beadle as; none without a token.
    pub fn bot(&self) -> Option<&discord::Bot> {
        self.bot.as_ref()
    }

    fn with_people(mut self) -> Registry {
        self.direct = self.bot.clone().map(discord::direct);
        self
    }

    fn person(&self, endpoint_id: &str) -> Option<Endpoint> {
        let address = direct_person(endpoint_id)?.to_string();
        let (id, receiver) = (endpoint_id.to_owned(), endpoint_id.to_owned());
        let notifier = Arc::clone(self.direct.as_ref()?);
        Some(Endpoint { id, receiver, address, notifier, board: None })
    }

    /// The backend of an endpoint; `none` where it is not configured (any more).
    pub fn backend(&self, endpoint_id: &str) -> &str {
        match self.configured(endpoint_id) {
            Some(endpoint) => endpoint.backend(),
            None if self.person(endpoint_id).is_some() => "discord",
            None => "none",
        }
    }

    /// One of the endpoints that the configuration names; nobody's direct messages.
    pub fn configured(&self, endpoint_id: &str) -> Option<&Endpoint> {
        self.endpoints.get(endpoint_id)
    }

    /// The backends of all endpoints.
    pub fn backends(&self) -> impl Iterator<Item = &str> {
        self.endpoints.values().map(Endpoint::backend)
    }
}

impl FromIterator<Endpoint> for Registry {
    fn from_iter<T: IntoIterator<Item = Endpoint>>(endpoints: T) -> Registry {
        let by_id = endpoints.into_iter().map(|endpoint| (endpoint.id.clone(), endpoint));
        Registry { endpoints: by_id.collect(), ..Registry::default() }
    }
}

/// One place that messages go to, and what serves it.
#[derive(Clone)]
pub struct Endpoint {
    /// `<receiver>/<backend>`, for mail `<receiver>/email/<address>`.
    pub id: String,
    pub receiver: String,
    /// For [`DeliveryContext::address`].
    pub address: String,
    pub notifier: Arc<dyn Notifier>,
    /// Where messages can be changed after they were sent.
    pub board: Option<discord::Board>,
}

impl Endpoint {
    /// `discord`, `email` or `terminal`.
    pub fn backend(&self) -> &str {
        let rest = self.id.get(self.receiver.len() + 1..).unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.id).finish()
    }
}

/// What keeps a backend from being set up: the configuration contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

/// A medium that messages go out by.
///
/// One call, one attempt: no retry, no database, no clock. Whether and when to try again is
/// decided by the pipeline from the [`NotifyError`].
pub trait Notifier: Send + Sync {
    /// The exact messages that every attempt will send, one after the other: one, or more where
    /// the medium's limits ask for it. Pure: same input, same payloads, and nothing in feed text can
    /// make it fail or act.
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload>;

    /// One attempt.
    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>>;

    /// Looks for a message that was sent before and may have arrived: those there that say the same
    /// and came after `since`. None where the other side shows nobody what it has.
    fn find<'a>(
        &'a self,
        _payload: &'a Payload,
        _delivery: &'a DeliveryContext,
        _since: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Receipt>, NotifyError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Whether messages would arrive, found out without sending one. The text is for people:
    /// `channel #seminars of Example University`.
    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>>;

    /// Whether the news of an event go into a thread of its own. If so, a message that is not in
    /// [`DeliveryContext::thread`] has begun one, which has the message's own id.
    fn keeps_threads(&self) -> bool {
        false
    }

    /// What becomes of a message that may have arrived, and cannot be looked for.
    fn on_doubt(&self) -> OnDoubt {
        OnDoubt::Resend
    }
}

/// See [`Notifier::on_doubt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDoubt {
    /// It is sent again until there is an answer: the other side recognises it, or may have it twice.
    Resend,
    /// It is sent again once. If nobody knows of that attempt either, it is kept for the operator.
    ResendOnce,
    /// It is kept for the operator.
    Hold,
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an attempt needs to know besides the text.
#[derive(Clone, Debug)]
pub struct DeliveryContext {
    /// Unique for one meaning to one address; 32 lower-case hex digits. Nonce and Message-ID are
    /// made from it.
    pub dedup_key: String,
    /// When the notification was planned; the mail's Date.
    pub planned_at: Timestamp,
    /// When it should have been told; a message told more than a minute later says so.
    pub due_at: Timestamp,
    /// When the payload is rendered.
    pub now: Timestamp,
    /// Where to: the mail address, or the user id of a person; empty for backends whose endpoint has one address.
    pub address: String,
    /// The thread that has the event's earlier news, where there is one.
    pub thread: Option<String>,
    /// [`Receipt::remote_id`] of the first part of a message, for a later part.
    pub first_part: Option<String>,
    /// [`Receipt::remote_id`] of what an earlier attempt left [unfinished](NotifyError::Unfinished).
    pub posted: Option<String>,
    /// Another message of the same words may be there, of which it is not known either whether it
    /// arrived: what is older than this one's first attempt is not it.
    pub twin: bool,
    /// The [`Receipt::remote_id`] of the message that this one is a reply to; it is short then.
    pub reply_to: Option<String>,
}

/// A message this much later than its due time says so.
const LATE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Whether a message that goes out now has to say that it is late.
pub(crate) fn is_late(due_at: Timestamp, now: Timestamp) -> bool {
    now - due_at > LATE
}

impl DeliveryContext {
    fn style(&self, show_passcodes: bool, colour: bool) -> Style {
        let late_by = match is_late(self.due_at, self.now) {
            true => Duration::try_from(self.now - self.due_at).ok(),
            false => None,
        };
        let brief = self.reply_to.is_some();
        Style { show_passcodes, late_by, colour, brief, remind: false }
    }
}

/// A frozen message: JSON for Discord, a whole RFC 5322 message for mail, text for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub String);

/// Proof of acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The other side's name for the message: `<channel id>/<message id>` in Discord, where the
    /// channel may be a thread; the mail server's answer.
    pub remote_id: String,
}

/// Why an attempt did not end in a [`Receipt`]. The texts are for the operator and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Surely not accepted; may be accepted later: 429, connection refused, SMTP 4xx.
    #[error("{reason}")]
    Retry { after: Option<Duration>, reason: String },
    /// Surely not done, and to be tried again then; it says nothing about other messages. So it is
    /// with edits of old messages, of which Discord takes few.
    #[error("{reason}")]
    Rest { after: Duration, reason: String },
    /// May have been accepted: the line died, or the answer was a 5xx. Repeating may double it.
    #[error("{reason} (it is not known whether the message arrived)")]
    Uncertain { after: Option<Duration>, reason: String },
    /// Accepted, but something that belongs to it is still to be done, such as publishing it. The
    /// next attempt does that alone.
    #[error("{reason}")]
    Unfinished { remote_id: String, after: Option<Duration>, reason: String },
    /// This message will never be accepted: 400, SMTP 5xx.
    #[error("{reason}")]
    Permanent { reason: String },
    /// No message will be accepted there until someone mends it: 401, 403, 404.
    #[error("{reason}")]
    ReceiverGone {
        reason: String,
        /// Not even asking again is welcome: a webhook that was deleted.
        for_good: bool,
    },
}

/// A text from elsewhere, made fit for an error of one line: without control characters, and no
/// longer than an operator reads.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(now: &str) -> DeliveryContext {
        DeliveryContext {
            dedup_key: "00112233445566778899aabbccddeeff".to_owned(),
            planned_at: "2026-03-02T09:00:00Z".parse().unwrap(),
            due_at: "2026-03-02T10:00:00Z".parse().unwrap(),
            now: now.parse().unwrap(),
            address: String::new(),
            thread: None,
            first_part: None,
            posted: None,
            twin: false,
            reply_to: None,
        }
    }

    #[test]
    fn a_message_is_late_after_more_than_a_minute() {
        let table = [
            ("2026-03-02T09:59:59Z", None),
            ("2026-03-02T10:00:00Z", None),
            ("2026-03-02T10:01:00Z", None),
            ("2026-03-02T10:01:01Z", Some(61)),
            ("2026-03-02T13:00:00Z", Some(3 * 60 * 60)),
        ];
        for (now, late) in table {
            let style = context(now).style(true, false);
            assert_eq!(style.late_by, late.map(Duration::from_secs), "{now}");
            assert!(style.show_passcodes);
        }
    }

    #[test]
    fn texts_from_elsewhere_become_one_short_line() {
        assert_eq!(one_line("no\r\nsuch \u{1b}[31m\tuser "), "no such [31m user");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 301);
    }
}

//! Handing one mail to an SMTP server (RFC 5321).
//!
//! lettre's transport cannot say whether a message was accepted when the line dies, so its
//! connection is driven here, command by command: until the content is sent nothing can have been
//! accepted, and after it nothing but the server's answer tells.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::{SmtpServer, Tls};
use crate::notify::{NotifyError, Receipt, chain, one_line};
use crate::tls::Trust;

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to be made, per address of the host.
    pub connect: Duration,
    /// For the answer to a command.
    pub command: Duration,
    /// For the answer to the content. Giving up early doubles mail: RFC 5321, 4.5.3.2.6 asks for
    /// ten minutes.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(30),
            command: Duration::from_secs(60),
            content: Duration::from_secs(10 * 60),
        }
    }
}

/// How long a connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(30);

/// When to try again after an answer to the content was lost: a server that is still at work on
/// the message, or that knows its Message-ID by then, drops the second.
const AFTER_LOST_ANSWER: Duration = Duration::from_secs(10 * 60);

/// For saying goodbye; nobody needs the answer.
const QUIT_TIMEOUT: Duration = Duration::from_millis(250);

/// An SMTP server, and a connection to it while there is more to send.
pub(super) struct Server {
    config: SmtpServer,
    timeouts: Timeouts,
    trust: Trust,
    idle: Mutex<Option<(AsyncSmtpConnection, Instant)>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Where in the exchange something failed; this decides what the failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    StartTls,
    Login,
    /// MAIL, RCPT, DATA.
    Envelope,
    /// From the first byte of the content to the answer after the final dot.
    Content,
}

/// How a step failed.
#[derive(Debug)]
enum Failure {
    /// The server said no: the code, and its words.
    Refused(u16, String),
    Silence,
    /// The line broke, or what came was no SMTP.
    Broken(String),
}

impl Server {
    pub(super) fn new(config: SmtpServer, timeouts: Timeouts, trust: &Trust) -> Server {
        Server { config, timeouts, trust: trust.clone(), idle: Mutex::new(None) }
    }

    /// One transaction for one recipient.
    pub(super) async fn send(
        &self,
        from: &Address,
        to: &Address,
        message: &[u8],
    ) -> Result<Receipt, NotifyError> {
        let mut connection = self.connection().await?;
        let sent = self.transaction(&mut connection, from, to, message).await;
        match &sent {
            Ok(_) => *self.idle.lock().await = Some((connection, Instant::now())),
            Err(_) => quit(connection).await,
        }
        let answer = sent?;
        let words: Vec<&str> = answer.message().collect();
        Ok(Receipt { remote_id: one_line(&format!("{} {}", answer.code(), words.join(" "))) })
    }

    /// Everything but a message.
    pub(super) async fn check(&self) -> Result<String, NotifyError> {
        let connection = self.connect().await?;
        let encrypted = if connection.is_encrypted() { "encrypted" } else { "not encrypted" };
        quit(connection).await;
        let login = match &self.config.username {
            Some(username) => format!(", logged in as {username}"),
            None => String::new(),
        };
        Ok(format!("{}, {encrypted}{login}", self.name()))
    }

    fn name(&self) -> String {
        format!("mail server {}:{}", self.config.host, self.config.port)
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, NotifyError> {
        let kept = self.idle.lock().await.take();
        if let Some((mut connection, since)) = kept {
            let fresh = since.elapsed() < IDLE;
            if fresh && step(self.timeouts.command, connection.command(Rset)).await.is_ok() {
                return Ok(connection);
            }
            quit(connection).await;
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, NotifyError> {
        let SmtpServer { host, port, tls, .. } = &self.config;
        let tls_parameters = || {
            let mut parameters = TlsParameters::builder(host.clone());
            if let Ok(authorities) = Certificate::from_pem(self.trust.pem()) {
                parameters = parameters.add_root_certificate(authorities);
            }
            parameters.build().map_err(|error| NotifyError::ReceiverGone {
                for_good: false,
                reason: format!("cannot set up TLS for {}: {}", self.name(), chain(&error)),
            })
        };
        let hello = ClientId::default();
        let implicit = if *tls == Tls::Implicit { Some(tls_parameters()?) } else { None };
        // lettre's timeout ends with the connection; the greeting and EHLO come after it.
        let limit = self.timeouts.connect + self.timeouts.command;
        let connect = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(self.timeouts.connect),
            &hello,
            implicit,
            None,
        );
        let mut connection =
            step(limit, connect).await.map_err(|failure| self.error(Step::Connect, failure))?;

        if *tls == Tls::StartTls {
            if !connection.can_starttls() {
                quit(connection).await;
                return Err(NotifyError::ReceiverGone {
                    for_good: false,
                    reason: format!(
                        "{} does not offer STARTTLS, and nothing is sent unencrypted: use smtps://, \
                         or ?tls=none for a relay on this machine",
                        self.name()
                    ),
                });
            }
            let upgrade = connection.starttls(tls_parameters()?, &hello);
            step(self.timeouts.command, upgrade)
                .await
                .map_err(|failure| self.error(Step::StartTls, failure))?;
        }

        if let Some(username) = &self.config.username
            && let Err(error) = self.log_in(&mut connection, username).await
        {
            quit(connection).await;
            return Err(error);
        }
        Ok(connection)
    }

    async fn log_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        username: &str,
    ) -> Result<(), NotifyError> {
        let password = match &self.config.password {
            Some(source) => source.read().map_err(|error| NotifyError::ReceiverGone {
                for_good: false,
                reason: format!("cannot read the password for {}: {}", self.name(), chain(&error)),
            })?,
            None => {
                return Err(NotifyError::ReceiverGone {
                    for_good: false,
                    reason: format!("{} has a username but no password", self.name()),
                });
            }
        };
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            return Err(NotifyError::ReceiverGone {
                for_good: false,
                reason: format!(
                    "{} offers no login that is known here (PLAIN, LOGIN)",
                    self.name()
                ),
            });
        }
        let password = password.expose();
        let credentials = Credentials::new(username.to_owned(), password.to_owned());
        let login = connection.auth(DEFAULT_MECHANISMS, &credentials);
        match step(self.timeouts.command, login).await {
            Ok(_) => Ok(()),
            // Some servers quote the command they refuse.
            Err(Failure::Refused(code, words)) => {
                let words = [
                    BASE64.encode(format!("\0{username}\0{password}")),
                    BASE64.encode(password),
                    password.to_owned(),
                ]
                .iter()
                .fold(words, |words, secret| words.replace(secret.as_str(), "***"));
                Err(self.error(Step::Login, Failure::Refused(code, words)))
            }
            Err(failure) => Err(self.error(Step::Login, failure)),
        }
    }

    async fn transaction(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &Address,
        message: &[u8],
    ) -> Result<Response, NotifyError> {
        let command = self.timeouts.command;
        let envelope = |failure| self.error(Step::Envelope, failure);
        let parameters = self.parameters(connection, from, to, message)?;
        let mail = Mail::new(Some(from.clone()), parameters);
        step(command, connection.command(mail)).await.map_err(envelope)?;
        let rcpt = Rcpt::new(to.clone(), Vec::new());
        step(command, connection.command(rcpt)).await.map_err(envelope)?;
        step(command, connection.command(Data)).await.map_err(envelope)?;
        step(self.timeouts.content, connection.message(message))
            .await
            .map_err(|failure| self.error(Step::Content, failure))
    }

    /// Addresses beyond ASCII need SMTPUTF8 (RFC 6531).
    fn parameters(
        &self,
        connection: &AsyncSmtpConnection,
        from: &Address,
        to: &Address,
        message: &[u8],
    ) -> Result<Vec<MailParameter>, NotifyError> {
        let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if ascii(from) && ascii(to) && message.is_ascii() {
            return Ok(Vec::new());
        }
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(NotifyError::Permanent {
                reason: format!("{} takes only addresses in ASCII", self.name()),
            });
        }
        Ok(vec![MailParameter::SmtpUtfEight, MailParameter::Body(MailBodyParameter::EightBitMime)])
    }

    /// What a failure means for the message.
    fn error(&self, step: Step, failure: Failure) -> NotifyError {
        let name = self.name();
        let during = match step {
            Step::Connect => "on connecting",
            Step::StartTls => "on STARTTLS",
            Step::Login => "on logging in",
            Step::Envelope => "before the message",
            Step::Content => "after the message",
        };
        match failure {
            Failure::Refused(code, words) => {
                let said = one_line(&format!("{code} {words}"));
                let gone = |what: &str| NotifyError::ReceiverGone {
                    for_good: false,
                    reason: format!("{name} {what}: {said}"),
                };
                match (step, code) {
                    (_, 400..=499) => NotifyError::Retry {
                        after: None,
                        reason: format!("{name} asks to come back later: {said}"),
                    },
                    (_, 530) => gone("asks for encryption or a login"),
                    (Step::Login, _) => gone("does not accept the username and password"),
                    (Step::Connect | Step::StartTls, _) => gone("does not serve this machine"),
                    (Step::Envelope | Step::Content, _) => {
                        NotifyError::Permanent { reason: format!("{name} refuses: {said}") }
                    }
                }
            }
            Failure::Silence | Failure::Broken(_) => {
                let reason = match failure {
                    Failure::Broken(cause) => format!("no line to {name} {during}: {cause}"),
                    _ => format!("{name} did not answer {during}"),
                };
                match step {
                    Step::Content => {
                        NotifyError::Uncertain { after: Some(AFTER_LOST_ANSWER), reason }
                    }
                    _ => NotifyError::Retry { after: None, reason },
                }
            }
        }
    }
}

/// One step under its time limit.
async fn step<T>(
    limit: Duration,
    action: impl Future<Output = Result<T, smtp::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, action).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.status() {
            Some(code) => {
                let words = std::error::Error::source(&error).map(ToString::to_string);
                Failure::Refused(code.into(), words.unwrap_or_default())
            }
            None if error.is_timeout() => Failure::Silence,
            None => Failure::Broken(chain(&error)),
        }),
        Err(_) => Err(Failure::Silence),
    }
}

/// Ends a connection politely, where that is quick.
async fn quit(mut connection: AsyncSmtpConnection) {
    let _ = timeout(QUIT_TIMEOUT, connection.command(Quit)).await;
}

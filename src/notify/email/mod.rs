//! Mail, one message and one SMTP transaction per recipient, into a folder or to a server.

mod folder;
mod smtp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{
    self, ContentTransferEncoding, ContentType, HeaderName, HeaderValue,
};
use lettre::message::{Mailbox, Mailboxes, MultiPart, MultiPartKind, SinglePart};

use super::{
    BoxFuture, DeliveryContext, Endpoint, Notifier, NotifyError, OnDoubt, Payload, Receipt,
    SetupError, chain, discord, one_line,
};
use crate::config::{Config, Email};
use crate::plan::Notification;
use crate::tls::Trust;
pub use smtp::Timeouts;

pub(super) fn endpoints(
    config: &Config,
    _http: &discord::Http,
) -> Result<Vec<Endpoint>, SetupError> {
    let receivers = config.receivers.values().filter_map(|receiver| {
        let target = receiver.email.as_ref()?;
        Some((receiver, target))
    });
    let mut receivers = receivers.peekable();
    if receivers.peek().is_none() {
        return Ok(Vec::new());
    }
    let Some(email) = &config.email else {
        return Err(SetupError("there are email receivers, but no [email]".to_owned()));
    };
    let trust =
        Trust::load(config.ca_file.as_deref()).map_err(|error| SetupError(chain(&error)))?;
    let office = Arc::new(Office::trusting(email, Timeouts::default(), &trust)?);
    let mut endpoints = Vec::new();
    for (receiver, target) in receivers {
        let notifier = Arc::new(List {
            office: Arc::clone(&office),
            name: receiver.name.clone(),
            show_passcodes: receiver.show_passcodes,
        });
        for address in &target.to {
            if address.parse::<Address>().is_err() {
                return Err(SetupError(format!(
                    "receiver {}: {address} is no mail address",
                    receiver.name
                )));
            }
            endpoints.push(Endpoint {
                id: format!("{}/email/{address}", receiver.name),
                receiver: receiver.name.clone(),
                address: address.clone(),
                notifier: notifier.clone(),
                board: None,
            });
        }
    }
    Ok(endpoints)
}

/// Whom mail comes from and where it is handed over: `[email]`, shared by all lists.
#[derive(Debug)]
pub struct Office {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    list_domain: String,
    hand_over: HandOver,
}

#[derive(Debug)]
enum HandOver {
    Folder(PathBuf),
    Server { server: Box<smtp::Server>, copies: Option<PathBuf> },
}

impl Office {
    /// Checks the addresses; connects to nothing.
    pub fn new(email: &Email, timeouts: Timeouts) -> Result<Office, SetupError> {
        Office::trusting(email, timeouts, &Trust::default())
    }

    /// The same, with authorities besides those of this machine.
    pub fn trusting(
        email: &Email,
        timeouts: Timeouts,
        trust: &Trust,
    ) -> Result<Office, SetupError> {
        let mailbox = |key: &str, text: &str| {
            header_text(text)
                .parse::<Mailbox>()
                .map_err(|_| SetupError(format!("[email] {key}: {text:?} is no mail address")))
        };
        let hand_over = match (email.server.clone(), email.folder.clone()) {
            (Some(server), copies) => {
                let server = Box::new(smtp::Server::new(server, timeouts, trust));
                HandOver::Server { server, copies }
            }
            (None, Some(folder)) => HandOver::Folder(folder),
            (None, None) => {
                return Err(SetupError("[email] names neither a server nor a folder".to_owned()));
            }
        };
        let from = mailbox("from", &email.from)?;
        let list_domain = email.list_domain.as_deref().unwrap_or_else(|| from.email.domain());
        Ok(Office {
            reply_to: email.reply_to.as_deref().map(|to| mailbox("reply_to", to)).transpose()?,
            list_domain: header_text(list_domain),
            hand_over,
            from,
        })
    }
}

/// The mail of one receiver.
#[derive(Debug)]
pub struct List {
    office: Arc<Office>,
    name: String,
    show_passcodes: bool,
}

impl List {
    /// `name` is the receiver's; the List-Id is made of it.
    pub fn new(office: Arc<Office>, name: &str, show_passcodes: bool) -> List {
        List { office, name: name.to_owned(), show_passcodes }
    }

    async fn deliver(
        &self,
        payload: &Payload,
        delivery: &DeliveryContext,
    ) -> Result<Receipt, NotifyError> {
        let (server, copies) = match &self.office.hand_over {
            HandOver::Folder(folder) => return folder::write(folder, payload, delivery).await,
            HandOver::Server { server, copies } => (server, copies),
        };
        if let Some(folder) = copies
            && let Err(error) = folder::write(folder, payload, delivery).await
        {
            tracing::warn!(%error, "a mail is sent of which no copy could be kept");
        }
        let to = delivery.address.parse().map_err(|_| NotifyError::Permanent {
            reason: format!("{} is no mail address", one_line(&delivery.address)),
        })?;
        server.send(&self.office.from.email, &to, payload.0.as_bytes()).await
    }
}

impl Notifier for List {
    /// A whole RFC 5322 message. Nothing in it is random, the MIME boundary included: the same
    /// delivery has the same bytes.
    fn render(&self, notification: &Notification, delivery: &DeliveryContext) -> Vec<Payload> {
        let style = delivery.style(self.show_passcodes, false);
        let mail = crate::message::email::render(notification, &style);
        let office = &self.office;
        let mut message = MultiPart::builder()
            .header(header::From::from(Mailboxes::from(office.from.clone())))
            .header(header::MIME_VERSION_1_0)
            .header(header::Subject::from(header_text(&mail.subject)))
            .header(date(delivery.planned_at))
            .header(header::MessageId::from(format!(
                "<{}@{}>",
                delivery.dedup_key,
                office.from.email.domain()
            )));
        if let Ok(to) = delivery.address.parse::<Address>() {
            message = message.header(header::To::from(Mailboxes::from(Mailbox::from(to))));
        }
        if let Some(reply_to) = &office.reply_to {
            message = message.header(header::ReplyTo::from(Mailboxes::from(reply_to.clone())));
        }
        let part = |kind: ContentType, body: String| {
            SinglePart::builder()
                .header(kind)
                .header(ContentTransferEncoding::QuotedPrintable)
                .body(body)
        };
        let mut message = message
            .kind(MultiPartKind::Alternative)
            // `=_` cannot occur in quoted-printable, so no text can end a part (RFC 2045, 6.7).
            .boundary(format!("=_{}", delivery.dedup_key))
            .singlepart(part(ContentType::TEXT_PLAIN, mail.text))
            .singlepart(part(ContentType::TEXT_HTML, mail.html));
        let list_id = format!("<{}.{}>", slug(&self.name), office.list_domain);
        for (name, value) in [
            (HeaderName::new_from_ascii_str("List-Id"), list_id.as_str()),
            (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated"),
            (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All"),
            (HeaderName::new_from_ascii_str("Precedence"), "bulk"),
        ] {
            message.headers_mut().insert_raw(HeaderValue::new(name, value.to_owned()));
        }
        vec![Payload(String::from_utf8_lossy(&message.formatted()).into_owned())]
    }

    fn send<'a>(
        &'a self,
        payload: &'a Payload,
        delivery: &'a DeliveryContext,
    ) -> BoxFuture<'a, Result<Receipt, NotifyError>> {
        Box::pin(self.deliver(payload, delivery))
    }

    /// Of mail nobody can be asked what is there, and a server that loses each answer would fill a
    /// mailbox.
    fn on_doubt(&self) -> OnDoubt {
        OnDoubt::ResendOnce
    }

    /// Goes as far as the login; a folder must be there and be one.
    fn check(&self) -> BoxFuture<'_, Result<String, NotifyError>> {
        Box::pin(async {
            match &self.office.hand_over {
                HandOver::Folder(folder) => folder::check(folder),
                HandOver::Server { server, .. } => server.check().await,
            }
        })
    }
}

/// The Date header. Years that a mail cannot carry become the nearest it can.
fn date(at: Timestamp) -> header::Date {
    const LAST: i64 = 253_402_300_799;
    let seconds = at.as_second().clamp(0, LAST).unsigned_abs();
    header::Date::new(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A text made fit for a header: controls, line ends and the marks that turn the direction of
/// writing become spaces, of which no two follow each other. lettre panics on some of them.
fn header_text(text: &str) -> String {
    let unfit = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words: Vec<&str> = text.split(unfit).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// A text made fit for a label of a domain name and for a file name.
fn slug(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() >= LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "mail".to_owned() } else { slug.to_owned() }
}

//! One attempt at reading a feed, within limits; and when to make the next one.
//!
//! [`Fetcher::fetch`] asks once and never repeats: what to do about a failure is decided by the
//! caller with [`next_poll_at`], which is pure. A [`Body`] begins like a calendar, and is read in
//! pieces, so that its size is not the program's; only when [`Body::chunk`] has given none was it
//! a whole transfer. Anything less is a [`FetchError`], at the start or at the end, so that a sick
//! server cannot look like a calendar without events.
//!
//! The address of a feed is often its password (private calendar links), so errors name the host
//! and nothing else of it, and credentials do not follow a redirect to another host.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use url::Url;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::calendar::{parse, scan};
use crate::config::secret::SecretSource;
use crate::config::{Auth, Feed, FeedUrl};
use crate::guard::{Class, Forbidden, Guard};
use crate::tls::{CONNECT_TIMEOUT, Trust};

/// What a server is told, unless the configuration says otherwise.
pub const USER_AGENT: &str =
    concat!("beadle/", env!("CARGO_PKG_VERSION"), " (calendar feed announcer)");
/// A connection is kept for what belongs to one poll; its buffers are half a megabyte.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;
/// How much of a body is looked at to tell what it is: page titles come late.
const HEAD_BYTES: usize = 16 * 1024;
/// A body that begins with more blanks than this counts as one of nothing but blanks.
const BLANK_BYTES: usize = 1024 * 1024;
/// How much of a file is read at once.
const FILE_CHUNK: usize = 128 * 1024;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const MAX_BACKOFF: SignedDuration = SignedDuration::from_hours(6);

/// What tells a later request from this one's answer (RFC 9110, 8.8). They belong to one address:
/// forget them when the feed gets another, and keep them in the same transaction as what was read,
/// else a crash hides a change behind a 304 for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag` as sent; for a file, its modification time and length.
    pub etag: Option<String>,
    /// `Last-Modified` as sent.
    pub last_modified: Option<String>,
}

/// A feed that could be read.
pub enum Fetched {
    /// The same as when the validators were given: everything is still there.
    NotModified { advice: Advice },
    /// An answer with a body, which begins with `BEGIN:VCALENDAR` after byte order marks and
    /// blanks.
    Body {
        body: Box<Body>,
        /// `charset` of the `Content-Type`, as sent.
        charset: Option<String>,
        /// Of this answer. They hold once the body has been read to its end.
        validators: Validators,
        advice: Advice,
        /// The feed's new address: there were redirects, and each was permanent (301, 308).
        moved_to: Option<Url>,
    },
}

/// Shows neither the body nor the new address, which may be private.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fetched::NotModified { advice } => {
                f.debug_struct("NotModified").field("advice", advice).finish()
            }
            Fetched::Body { body, charset, validators, advice, moved_to } => f
                .debug_struct("Body")
                .field("body", body)
                .field("charset", charset)
                .field("validators", validators)
                .field("advice", advice)
                .field("moved", &moved_to.is_some())
                .finish(),
        }
    }
}

/// The body of an answer, decompressed, as it arrives.
pub struct Body {
    /// The beginning, looked at already.
    head: Bytes,
    rest: Rest,
    limit: u64,
    /// Bytes that have come so far, `head` included.
    length: u64,
    place: String,
    deadline: Instant,
    timeout: Duration,
}

/// Where the rest of a body comes from.
enum Rest {
    Response(Box<Response>),
    File(File),
    End,
}

/// Shows nothing of what the body says.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Body {
    /// The next piece, never empty; none when the body has come as a whole. Until then what came
    /// before proves nothing.
    ///
    /// # Errors
    /// The transfer broke off, took longer than the feed's `timeout`, or is larger than its
    /// `max_size`. There is nothing to read after an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        if !self.head.is_empty() {
            return Ok(Some(std::mem::take(&mut self.head)));
        }
        let next = self.read().await;
        next.map_err(|kind| {
            self.rest = Rest::End;
            FetchError::new(&self.place, kind)
        })
    }

    /// All pieces as one.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn bytes(mut self) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Kind> {
        loop {
            let next = timeout_at(self.deadline, self.rest.chunk(self.limit)).await;
            let Some(chunk) = next.unwrap_or(Err(Kind::Timeout(self.timeout)))? else {
                self.rest = Rest::End;
                return Ok(None);
            };
            self.length += chunk.len() as u64;
            if self.length > self.limit {
                return Err(Kind::TooLarge { limit: self.limit });
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Reads the beginning, to see whether it is that of a calendar.
    async fn sniff(&mut self, charset: Option<&str>, url: Option<&Url>) -> Result<(), Kind> {
        let mut head = Vec::new();
        let mut blanks = 0;
        while head.len() < blanks + HEAD_BYTES && blanks < BLANK_BYTES {
            let Some(chunk) = self.read().await? else { break };
            head.extend_from_slice(&chunk);
            blanks += head[blanks..].iter().take_while(|byte| is_blank(**byte)).count();
        }
        require_calendar(&head, charset, url)?;
        self.head = head.into();
        Ok(())
    }
}

impl Rest {
    async fn chunk(&mut self, limit: u64) -> Result<Option<Bytes>, Kind> {
        match self {
            Rest::Response(response) => {
                response.chunk().await.map_err(|error| transport_error(&error))
            }
            Rest::File(file) => {
                let file = file.try_clone().map_err(|error| Kind::File(error.to_string()))?;
                // One byte beyond the limit is enough to know that there are more.
                let size = usize::try_from(limit.saturating_add(1)).unwrap_or(FILE_CHUNK);
                let read = move || {
                    let mut chunk = Vec::with_capacity(size.min(FILE_CHUNK));
                    file.take(chunk.capacity() as u64).read_to_end(&mut chunk).map(|_| chunk)
                };
                let chunk = blocking(read).await?.map_err(|error| Kind::File(error.to_string()))?;
                Ok((!chunk.is_empty()).then(|| chunk.into()))
            }
            Rest::End => Ok(None),
        }
    }
}

async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Result<T, Kind> {
    tokio::task::spawn_blocking(task).await.map_err(|error| Kind::File(error.to_string()))
}

/// What an answer says about time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// How long the answer stays fresh: `Cache-Control: max-age` less `Age` (RFC 9111, 4.2).
    pub max_age: Option<SignedDuration>,
    /// `Retry-After` (RFC 9110, 10.2.3), never negative. A date is counted from the answer's own
    /// `Date`, so that a wrong clock on either side does not matter.
    pub retry_after: Option<SignedDuration>,
    /// `Date`: when the server made the answer.
    pub date: Option<Timestamp>,
}

impl Advice {
    fn from_headers(headers: &HeaderMap) -> Advice {
        let date = text(headers, header::DATE).and_then(http_date);
        Advice {
            max_age: freshness(headers),
            retry_after: text(headers, header::RETRY_AFTER).and_then(|value| {
                delta_seconds(value)
                    .or_else(|| Some((http_date(value)? - date?).max(SignedDuration::ZERO)))
            }),
            date,
        }
    }
}

/// A feed that could not be read. `Display` is one line for the operator: the host (of an address)
/// or the path (of a file), and what happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct FetchError {
    place: String,
    kind: FetchErrorKind,
    retry_after: Option<SignedDuration>,
}

/// What went wrong. Texts hold no address, header value or secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchErrorKind {
    #[error("host not found: {0}")]
    Dns(String),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no trusted connection: {0}")]
    Tls(String),
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The line died, or less came than was promised, or its compression is damaged.
    #[error("the answer broke off: {0}")]
    Interrupted(String),
    #[error("answered {}", status_line(.0))]
    Status(u16),
    /// 401 or 403.
    #[error("access refused: answered {}", status_line(.0))]
    Unauthorized(u16),
    /// 410: there is no feed any more, on purpose.
    #[error("the feed is gone: answered 410 Gone")]
    Gone,
    #[error("larger than {}", as_written(*limit))]
    TooLarge {
        /// `max_size` of the feed.
        limit: u64,
    },
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
    #[error("unusable redirect: {0}")]
    BadRedirect(String),
    /// The address, or one that it was redirected to, is not of the public internet.
    #[error("leads to {}{}", .0, if .0.may_be_allowed() { ", and has no `private = true`" } else { "" })]
    Forbidden(Class),
    /// `an HTML page titled “Sign in”`, `JSON`, …
    #[error("{looks_like} instead of a calendar")]
    NotACalendar { looks_like: String },
    /// Of another publisher and name, and without any of the events that were known.
    #[error("another calendar than before{}", if .name.is_empty() { String::new() } else { format!(": “{name}”") })]
    OtherCalendar { name: String },
    /// Nothing but blanks. Some publishers answer so when there are no events, so it is no proof
    /// of a fault; and none that events are gone.
    #[error("an empty answer instead of a calendar")]
    Empty,
    #[error("cannot be read: {0}")]
    File(String),
    #[error("not asked: {0}")]
    Secret(String),
    /// A configured header, `bearer` or `user_agent` cannot be sent.
    #[error("not asked: `{0}` holds characters that HTTP does not allow")]
    Header(String),
}

impl FetchErrorKind {
    /// One word for it, the same in every version: for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Dns(_) => "dns",
            Kind::Connect(_) => "connect",
            Kind::Tls(_) => "tls",
            Kind::Timeout(_) => "timeout",
            Kind::Interrupted(_) => "interrupted",
            Kind::Status(_) => "status",
            Kind::Unauthorized(_) => "unauthorized",
            Kind::Gone => "gone",
            Kind::TooLarge { .. } => "too_large",
            Kind::TooManyRedirects | Kind::BadRedirect(_) => "redirect",
            Kind::Forbidden(_) => "forbidden",
            Kind::NotACalendar { .. } => "not_a_calendar",
            Kind::OtherCalendar { .. } => "other_calendar",
            Kind::Empty => "empty",
            Kind::File(_) => "file",
            Kind::Secret(_) => "secret",
            Kind::Header(_) => "header",
        }
    }
}

use FetchErrorKind as Kind;

impl FetchError {
    fn new(place: impl Into<String>, kind: Kind) -> FetchError {
        FetchError { place: place.into(), kind, retry_after: None }
    }

    /// What was read there is the calendar of that name, which is not the one that was known.
    pub(crate) fn other_calendar(url: &FeedUrl, name: String) -> FetchError {
        FetchError::new(place(url), Kind::OtherCalendar { name })
    }

    pub fn kind(&self) -> &FetchErrorKind {
        &self.kind
    }

    /// How long the server asked to be left alone; never negative.
    pub fn retry_after(&self) -> Option<SignedDuration> {
        self.retry_after
    }

    /// What the operator could do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.kind {
            Kind::Dns(_) => "check the host name in `url`, and that this machine can resolve names",
            Kind::Tls(_) => {
                "the server must show a certificate for this host from an authority that this \
                 machine trusts"
            }
            Kind::Timeout(_) => "a slow server may need a longer `timeout`",
            Kind::Status(404) => "check the path in `url`",
            Kind::Unauthorized(_) => {
                "check `username` and `password`, `bearer` or `headers`; some servers refuse \
                 programs they do not know, which `user_agent` can change"
            }
            Kind::Gone => "ask the publisher for the new address",
            Kind::TooLarge { .. } => "raise `max_size` if the feed really is this large",
            Kind::TooManyRedirects | Kind::BadRedirect(_) => {
                "set `url` to the address where the calendar itself is served"
            }
            Kind::NotACalendar { .. } => {
                "`url` must lead to the iCalendar export (often `.ics` or `?ical=1`), and be \
                 readable without signing in to a page"
            }
            Kind::OtherCalendar { .. } => {
                "if it is still there tomorrow, it is read as a new feed; nothing of what was known \
                 is taken to be removed"
            }
            Kind::Forbidden(class) if class.may_be_allowed() => {
                "if this calendar is meant to be on this machine or its own network, write \
                 `private = true` under its [feed.NAME]"
            }
            Kind::Forbidden(_) => "no feed may lead there",
            Kind::Header(_) => "a header is a name without blanks, and one line of text",
            Kind::Connect(_)
            | Kind::Interrupted(_)
            | Kind::Status(_)
            | Kind::Empty
            | Kind::File(_)
            | Kind::Secret(_) => return None,
        })
    }
}

/// Reads feeds. One for the process: it holds the connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    trust: Trust,
    public: Client,
    /// For feeds with `private = true`: none shares its connections with those without. Made when
    /// there is one, since it holds a list of authorities of its own.
    private: Arc<OnceLock<Client>>,
}

impl Fetcher {
    /// Trusts the authorities of this machine.
    ///
    /// # Errors
    /// As [`Fetcher::trusting`].
    pub fn new() -> Result<Fetcher, FetchError> {
        Fetcher::trusting(&Trust::default())
    }

    /// # Errors
    /// TLS cannot be set up, as on a machine without certificates of authorities.
    pub fn trusting(trust: &Trust) -> Result<Fetcher, FetchError> {
        let public = client(trust, Guard { private: false });
        let public = public.map_err(|kind| FetchError::new("TLS", kind))?;
        Ok(Fetcher { trust: trust.clone(), public, private: Arc::default() })
    }

    /// A request that leads where the feed may lead, and carries nothing of the feed's.
    pub fn ask(&self, feed: &Feed, method: Method, url: &Url) -> Result<RequestBuilder, Kind> {
        let guard = Guard { private: feed.private };
        guard.check_url(url).map_err(|Forbidden(class)| Kind::Forbidden(class))?;
        Ok(self.client(feed)?.request(method, url.clone()))
    }

    fn client(&self, feed: &Feed) -> Result<&Client, Kind> {
        if !feed.private {
            return Ok(&self.public);
        }
        match self.private.get() {
            Some(client) => Ok(client),
            None => {
                let client = client(&self.trust, Guard { private: true })?;
                Ok(self.private.get_or_init(|| client))
            }
        }
    }

    /// One attempt, which ends within `feed.timeout`, redirects and body included.
    pub async fn fetch(&self, feed: &Feed, validators: &Validators) -> Result<Fetched, FetchError> {
        let deadline = Instant::now() + feed.timeout;
        let place = place(&feed.url);
        let attempt = async {
            match &feed.url {
                FeedUrl::Http(url) => self.get(feed, url, validators, deadline).await,
                FeedUrl::File(path) => open(feed, path, validators, deadline)
                    .await
                    .map_err(|kind| FetchError::new(&place, kind)),
            }
        };
        timeout_at(deadline, attempt)
            .await
            .unwrap_or_else(|_| Err(FetchError::new(&place, Kind::Timeout(feed.timeout))))
    }

    async fn get(
        &self,
        feed: &Feed,
        start: &Url,
        validators: &Validators,
        deadline: Instant,
    ) -> Result<Fetched, FetchError> {
        let conditional = validators.etag.is_some() || validators.last_modified.is_some();
        let mut url = start.clone();
        let mut trusted = true;
        let mut permanent = true;
        for hop in 0..=MAX_REDIRECTS {
            let place = if trusted {
                host(&url)
            } else {
                format!("{} (redirected from {})", host(&url), host(start))
            };
            let fail = |kind| FetchError::new(&place, kind);

            let request = self.request(feed, &url, validators, trusted).map_err(fail)?;
            let response = request.send().await.map_err(|error| fail(transport_error(&error)))?;
            let advice = Advice::from_headers(response.headers());
            let kind = match response.status().as_u16() {
                200 => {
                    let moved_to = (hop > 0 && permanent).then(|| url.clone());
                    let body = body(feed, response, place.clone(), deadline);
                    let fetched = answer(body.map_err(fail)?, &url, advice, moved_to).await;
                    return fetched.map_err(fail);
                }
                304 if conditional => return Ok(Fetched::NotModified { advice }),
                status @ (301 | 302 | 303 | 307 | 308) => {
                    let location = response.headers().get(header::LOCATION);
                    let next =
                        redirect_target(&url, location.map(HeaderValue::as_bytes)).map_err(fail)?;
                    permanent &= matches!(status, 301 | 308);
                    trusted &= same_host(&url, &next);
                    url = next;
                    continue;
                }
                204 => Kind::Empty,
                410 => Kind::Gone,
                status @ (401 | 403) => Kind::Unauthorized(status),
                status => Kind::Status(status),
            };
            return Err(FetchError { retry_after: advice.retry_after, ..fail(kind) });
        }
        Err(FetchError::new(host(start), Kind::TooManyRedirects))
    }

    /// One request of a chain; credentials and configured headers only to a `trusted` host.
    fn request(
        &self,
        feed: &Feed,
        url: &Url,
        validators: &Validators,
        trusted: bool,
    ) -> Result<RequestBuilder, Kind> {
        let mut headers = HeaderMap::new();
        // Servers that know no such type should still answer.
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/calendar, */*;q=0.1"));
        let user_agent = feed.user_agent.as_deref().unwrap_or(USER_AGENT);
        headers.insert(header::USER_AGENT, header_value("user_agent", user_agent)?);
        for (name, validator) in [
            (header::IF_NONE_MATCH, &validators.etag),
            (header::IF_MODIFIED_SINCE, &validators.last_modified),
        ] {
            if let Some(value) = validator.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        }
        if !trusted {
            return Ok(self.ask(feed, Method::GET, url)?.headers(headers));
        }

        let secret = |source: &SecretSource| {
            source.read().map_err(|error| {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Kind::Secret(format!("{error}{cause}"))
            })
        };
        for (name, source) in &feed.headers {
            let key = HeaderName::from_bytes(name.as_bytes());
            let mut value = header_value(name, secret(source)?.expose())?;
            value.set_sensitive(true);
            headers.insert(key.map_err(|_| Kind::Header(name.clone()))?, value);
        }
        let mut url = url.clone();
        if feed.auth.is_some() {
            // reqwest would send the credentials of `https://user:password@host/` as well.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let request = self.ask(feed, Method::GET, &url)?.headers(headers);
        Ok(match &feed.auth {
            Some(Auth::Basic { username, password }) => {
                request.basic_auth(username, Some(secret(password)?.expose()))
            }
            Some(Auth::Bearer { token }) => request.bearer_auth(secret(token)?.expose()),
            None => request,
        })
    }
}

/// Redirects are followed in [`Fetcher::fetch`], where credentials can be left behind.
fn client(trust: &Trust, guard: Guard) -> Result<Client, Kind> {
    let client = trust.client().dns_resolver(guard).pool_idle_timeout(KEEP_ALIVE).build();
    client.map_err(|error| Kind::Tls(root_cause(&error)))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Kind> {
    HeaderValue::from_str(value).map_err(|_| Kind::Header(name.to_owned()))
}

fn body(feed: &Feed, response: Response, place: String, deadline: Instant) -> Result<Body, Kind> {
    let limit = feed.max_bytes;
    if response.content_length().is_some_and(|promised| promised > limit) {
        return Err(Kind::TooLarge { limit });
    }
    Ok(Body {
        head: Bytes::new(),
        rest: Rest::Response(Box::new(response)),
        limit,
        length: 0,
        place,
        deadline,
        timeout: feed.timeout,
    })
}

/// An answer whose body begins as it should.
async fn answer(
    mut body: Body,
    url: &Url,
    advice: Advice,
    moved_to: Option<Url>,
) -> Result<Fetched, Kind> {
    let headers = match &body.rest {
        Rest::Response(response) => response.headers().clone(),
        _ => HeaderMap::new(),
    };
    let charset = text(&headers, header::CONTENT_TYPE).and_then(charset);
    body.sniff(charset.as_deref(), Some(url)).await.map_err(|kind| {
        // One layer of compression has been taken off; what is still named was not.
        match (kind, text(&headers, header::CONTENT_ENCODING)) {
            (Kind::NotACalendar { .. }, Some(encoding)) => Kind::NotACalendar {
                looks_like: format!("data in the encoding “{}”", one_line(encoding)),
            },
            (kind, _) => kind,
        }
    })?;
    let validator = |name| text(&headers, name).map(str::to_owned);
    let validators = Validators {
        etag: validator(header::ETAG),
        last_modified: validator(header::LAST_MODIFIED),
    };
    Ok(Fetched::Body { body: Box::new(body), charset, validators, advice, moved_to })
}

async fn open(
    feed: &Feed,
    path: &Path,
    known: &Validators,
    deadline: Instant,
) -> Result<Fetched, Kind> {
    let opened = {
        let path = path.to_owned();
        blocking(move || open_file(&path)).await?
    };
    let (file, etag) = opened.map_err(|error| Kind::File(error.to_string()))?;
    if etag.is_some() && etag == known.etag {
        return Ok(Fetched::NotModified { advice: Advice::default() });
    }
    let mut body = Body {
        head: Bytes::new(),
        rest: Rest::File(file),
        limit: feed.max_bytes,
        length: 0,
        place: path.display().to_string(),
        deadline,
        timeout: feed.timeout,
    };
    body.sniff(None, None).await?;
    Ok(Fetched::Body {
        body: Box::new(body),
        charset: None,
        validators: Validators { etag, last_modified: None },
        advice: Advice::default(),
        moved_to: None,
    })
}

/// A file, and what stands for its `ETag`: taken before the bytes, so that what is written
/// meanwhile is seen as a change next time.
fn open_file(path: &Path) -> std::io::Result<(File, Option<String>)> {
    // Opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    Ok((file, modified.map(|time| format!("{time} {}", metadata.len()))))
}

/// Where a redirect leads. `webcal:` is taken as the scheme it was redirected from, so that it is
/// no way around the rule that nothing leads from https to http.
fn redirect_target(from: &Url, location: Option<&[u8]>) -> Result<Url, Kind> {
    let bad = |why: &str| Kind::BadRedirect(why.to_owned());
    let location = location.ok_or_else(|| bad("without a Location"))?;
    let location = std::str::from_utf8(location).map_err(|_| bad("to no valid address"))?;
    let mut url = from.join(location).map_err(|_| bad("to no valid address"))?;
    let scheme = match url.scheme() {
        "webcal" => from.scheme(),
        "webcals" => "https",
        other => other,
    };
    if scheme != url.scheme() {
        // `Url::set_scheme` refuses to step from a scheme that is not of the web to one that is.
        url = Url::parse(&url.as_str().replacen(url.scheme(), scheme, 1))
            .map_err(|_| bad("to no valid address"))?;
    }
    match (from.scheme(), url.scheme()) {
        ("https", "http") => Err(bad("from https to http")),
        (_, "http" | "https") => Ok(url),
        _ => Err(bad("to something that is not on the web")),
    }
}

/// Whether what was meant for `from` may be sent to `to`: the same host and port, or the step from
/// http to https there.
fn same_host(from: &Url, to: &Url) -> bool {
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.port().is_none()
        && to.port().is_none();
    from.host() == to.host()
        && (from.port_or_known_default() == to.port_or_known_default() || upgrade)
}

/// What errors call an address: a host alone, since the rest may be a secret, or a path.
fn place(url: &FeedUrl) -> String {
    match url {
        FeedUrl::Http(url) => host(url),
        FeedUrl::File(path) => path.display().to_string(),
    }
}

/// The part of an address that may be shown.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn transport_error(error: &reqwest::Error) -> Kind {
    let cause = root_cause(error);
    if error.is_timeout() {
        // The client has no other limit; the one of the whole attempt is kept outside of it.
        Kind::Timeout(CONNECT_TIMEOUT)
    } else if error.is_builder() {
        Kind::Header("bearer".to_owned())
    } else if let Some(Forbidden(class)) = causes(error).find_map(|cause| cause.downcast_ref()) {
        Kind::Forbidden(*class)
    } else if causes(error).any(is_tls) {
        Kind::Tls(cause)
    } else if error.is_dns() {
        Kind::Dns(cause)
    } else if error.is_connect() {
        Kind::Connect(cause)
    } else {
        Kind::Interrupted(cause)
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

/// The last cause, which says what happened; the first would name the whole address.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "unknown cause".to_owned(), ToString::to_string)
}

/// `io::Error` wraps errors, sometimes twice, and hides them from `source`.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `charset` of a media type (RFC 9110, 8.3.2).
fn charset(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
    })
}

fn freshness(headers: &HeaderMap) -> Option<SignedDuration> {
    let mut max_age = None;
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
    for directive in lines.flat_map(|line| line.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-cache" | "no-store" => return None,
            "max-age" => max_age = max_age.or(delta_seconds(value.trim().trim_matches('"'))),
            _ => {}
        }
    }
    let age = text(headers, header::AGE).and_then(delta_seconds).unwrap_or(SignedDuration::ZERO);
    max_age.map(|max_age| max_age.saturating_sub(age).max(SignedDuration::ZERO))
}

/// `delta-seconds` (RFC 9111, 1.2.2): what is too large to count is merely very large.
fn delta_seconds(value: &str) -> Option<SignedDuration> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| SignedDuration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()))
}

/// An HTTP date in the one form that is still sent (IMF-fixdate; RFC 9110, 5.6.7).
fn http_date(value: &str) -> Option<Timestamp> {
    static PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    PARSER.parse_timestamp(value).ok()
}

/// Whether a body begins like a calendar; the error says what it begins like. `url` is where it
/// came from: a page's title is not repeated when it quotes that.
fn require_calendar(bytes: &[u8], charset: Option<&str>, url: Option<&Url>) -> Result<(), Kind> {
    let encoding = Encoding::for_bom(bytes)
        .map(|(encoding, _)| encoding)
        .or_else(|| parse::wide(bytes))
        .or_else(|| Encoding::for_label(charset?.as_bytes()))
        .unwrap_or(UTF_8);
    let wide = encoding == UTF_16LE || encoding == UTF_16BE;
    let blank = |byte: &u8| is_blank(*byte) || (wide && *byte == 0);
    let Some(start) = bytes.iter().position(|byte| !blank(byte)) else {
        return Err(Kind::Empty);
    };
    let is_calendar = |text: &[u8]| {
        const BEGIN: &[u8] = b"BEGIN:VCALENDAR";
        text.get(..BEGIN.len()).is_some_and(|text| text.eq_ignore_ascii_case(BEGIN))
    };
    // The bytes are asked first, since a `charset` can be wrong.
    if is_calendar(&bytes[start..]) {
        return Ok(());
    }
    // A big-endian letter begins with a zero, which was taken for a blank.
    let start = if encoding == UTF_16BE { start & !1 } else { start };
    let head = &bytes[start..bytes.len().min(start + HEAD_BYTES)];
    let (head, _) = encoding.decode_without_bom_handling(head);
    // Some put it into a page, or let a complaint of their own come first.
    let within = |line: &str| is_calendar(scan::behind_markup(line.as_bytes()));
    if is_calendar(head.as_bytes()) || head.split(['\r', '\n']).any(within) {
        return Ok(());
    }
    Err(Kind::NotACalendar { looks_like: looks_like(&head, url) })
}

/// A blank, or part of a byte order mark.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF | 0xFE | 0xFF)
}

/// Names what a body that is no calendar begins like, for a person.
fn looks_like(head: &str, url: Option<&Url>) -> String {
    let lower = head.to_ascii_lowercase();
    if lower.starts_with('<') && (lower.contains("<html") || lower.contains("<!doctype html")) {
        let quotes_address = |title: &str| {
            let parts = url.into_iter().flat_map(|url| url.path().split('/').chain(url.query()));
            parts.filter(|part| part.len() > 5).any(|part| title.contains(part))
        };
        let title = lower.find("<title").and_then(|at| {
            let (_, rest) = head[at..].split_once('>')?;
            Some(one_line(rest.split('<').next()?))
        });
        match title.filter(|title| !title.is_empty() && !quotes_address(title)) {
            Some(title) => format!("an HTML page titled “{title}”"),
            None => "an HTML page".to_owned(),
        }
    } else if lower.starts_with('<') {
        "XML".to_owned()
    } else if lower.starts_with(['{', '[']) {
        "JSON".to_owned()
    } else if head.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        "binary data".to_owned()
    } else {
        "some other text".to_owned()
    }
}

/// Foreign text made fit for one line of a log: at most 80 characters, and none that acts.
fn one_line(text: &str) -> String {
    let acts = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
    };
    let text: String = text.chars().filter(|c| c.is_whitespace() || !acts(c)).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(80).collect()
}

fn status_line(status: &u16) -> String {
    let reason = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}

/// A size as one would write it for `max_size`.
fn as_written(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// What is remembered of a feed's polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollState {
    /// Failed polls since the last good one.
    pub failures: u32,
}

impl PollState {
    /// The state after one more poll. An empty answer is no news, neither good nor bad.
    #[must_use]
    pub fn after(self, outcome: Outcome<'_>) -> PollState {
        PollState {
            failures: match outcome {
                Outcome::Read { .. } => 0,
                Outcome::Failed(error) if error.kind == Kind::Empty => self.failures,
                Outcome::Failed(_) => self.failures.saturating_add(1),
            },
        }
    }
}

/// How a poll ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    Read {
        advice: &'a Advice,
        /// [`Calendar::refresh`](crate::calendar::Calendar::refresh), of an earlier body when this
        /// poll brought none.
        refresh: Option<SignedDuration>,
    },
    Failed(&'a FetchError),
}

/// When to poll a feed again; `state` is that [after](PollState::after) this poll.
///
/// | outcome | wait |
/// |---|---|
/// | read | the longest of `every`, REFRESH-INTERVAL, max-age and Retry-After |
/// | empty | `every` |
/// | 410 | 24 h |
/// | other failure | `every`, doubled for each further one up to 6 h; Retry-After if longer |
///
/// Never more than 24 h, but for an `every` that is longer. The wait is then changed by up to 5 %
/// either way, so that feeds spread out, but never below what the server asked for. The change is
/// derived from the feed's name and `now`: the same poll has the same answer.
pub fn next_poll_at(
    now: Timestamp,
    feed: &Feed,
    outcome: Outcome<'_>,
    state: PollState,
) -> Timestamp {
    let (pace, asked) = match outcome {
        // A publisher's wish to be left alone is about servers.
        Outcome::Read { .. } if matches!(feed.url, FeedUrl::File(_)) => (feed.every, None),
        Outcome::Read { advice, refresh } => {
            (feed.every, refresh.max(advice.max_age).max(advice.retry_after))
        }
        Outcome::Failed(error) => {
            let pace = match error.kind {
                Kind::Gone => DAY,
                Kind::Empty => feed.every,
                _ => backoff(feed.every, state.failures),
            };
            (pace, error.retry_after)
        }
    };
    let asked = asked.unwrap_or(SignedDuration::ZERO);
    let longest = DAY.max(feed.every);
    let wait = pace.max(asked).min(longest);
    let permille = xxh3_64_with_seed(feed.name.as_bytes(), now.as_second().unsigned_abs()) % 101;
    let change = (wait / 1000).saturating_mul(permille as i32 - 50);
    let wait = wait.saturating_add(change).max(asked).min(longest);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn backoff(every: SignedDuration, failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    every.saturating_mul(1 << doublings).min(MAX_BACKOFF.max(every))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_limit_is_named_as_it_is_written() {
        let sizes = [64 << 20, 1 << 30, 1536 << 10, 500_000];
        assert_eq!(sizes.map(as_written), ["64MiB", "1GiB", "1536KiB", "500000 bytes"]);
    }

    fn feed(every: SignedDuration) -> Feed {
        Feed {
            name: "seas".to_owned(),
            url: FeedUrl::Http("https://example.edu/feed".parse().unwrap()),
            timezone: None,
            every,
            settle: SignedDuration::ZERO,
            confirm: SignedDuration::ZERO,
            also: Vec::new(),
            pages: 1,
            lookups: Some(Vec::new()),
            private: false,
            auth: None,
            headers: Vec::new(),
            user_agent: None,
            timeout: Duration::from_secs(5),
            max_bytes: 1 << 20,
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn failed(kind: Kind, retry_after: Option<SignedDuration>) -> FetchError {
        FetchError { retry_after, ..FetchError::new("example.edu", kind) }
    }

    /// The wait before the next poll, in seconds.
    fn wait(every: SignedDuration, outcome: Outcome<'_>, failures: u32) -> i64 {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        (next_poll_at(now, &feed(every), outcome, PollState { failures }) - now).as_secs()
    }

    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;

    #[test]
    fn a_file_is_read_as_often_as_the_operator_says() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let every = SignedDuration::from_mins(1);
        let file = Feed { url: FeedUrl::File(PathBuf::from("feed.ics")), ..feed(every) };
        let refresh = Some(SignedDuration::from_hours(1));
        let outcome = Outcome::Read { advice: &Advice::default(), refresh };
        let wait = next_poll_at(now, &file, outcome, PollState::default()) - now;
        assert!(wait < SignedDuration::from_secs(64), "{wait}");
    }

    #[test]
    fn a_good_poll_waits_as_long_as_anyone_asks() {
        let minutes = |m| Some(SignedDuration::from_mins(m));
        // every, REFRESH-INTERVAL, max-age, Retry-After; the shortest and longest wait allowed
        let table = [
            (15, None, None, None, 15 * MINUTE * 95 / 100, 15 * MINUTE * 105 / 100),
            (15, minutes(60), None, None, HOUR, 63 * MINUTE),
            (15, minutes(5), minutes(2), None, 15 * MINUTE * 95 / 100, 15 * MINUTE * 105 / 100),
            (15, None, minutes(40), minutes(30), 40 * MINUTE, 42 * MINUTE),
            (15, None, minutes(1), minutes(30), 30 * MINUTE, 30 * MINUTE * 105 / 100),
            // A feed that asks for ten years, or for the past, is not believed.
            (15, minutes(10 * 365 * 24 * 60), None, None, 24 * HOUR, 24 * HOUR),
            (15, Some(SignedDuration::MAX), None, None, 24 * HOUR, 24 * HOUR),
            (15, Some(SignedDuration::MIN), None, None, 15 * MINUTE * 95 / 100, 945),
            // The operator may be slower than a day.
            (3 * 24 * 60, minutes(60), None, None, 3 * 24 * HOUR * 95 / 100, 3 * 24 * HOUR),
        ];
        for (every, refresh, max_age, retry_after, shortest, longest) in table {
            let advice = Advice { max_age, retry_after, date: None };
            let outcome = Outcome::Read { advice: &advice, refresh };
            let wait = wait(SignedDuration::from_mins(every), outcome, 0);
            assert!(
                (shortest..=longest).contains(&wait),
                "{every} {refresh:?} {advice:?}: {wait} is not in {shortest}..={longest}"
            );
        }
    }

    #[test]
    fn a_failing_feed_is_asked_less_and_less() {
        let status = |n, retry_after| failed(Kind::Status(n), retry_after);
        let seconds = |s| Some(SignedDuration::from_secs(s));
        // error, failures so far, the wait before jitter
        let table = [
            (status(503, None), 1, 15 * MINUTE),
            (status(503, None), 2, 30 * MINUTE),
            (status(503, None), 5, 4 * HOUR),
            (status(503, None), 6, 6 * HOUR),
            (status(503, None), u32::MAX, 6 * HOUR),
            (status(503, seconds(600)), 1, 15 * MINUTE),
            (status(429, seconds(2 * HOUR)), 1, 2 * HOUR),
            (status(429, seconds(i64::MAX)), 1, 24 * HOUR),
            (failed(Kind::Dns(String::new()), None), 3, HOUR),
            (failed(Kind::Unauthorized(401), None), 4, 2 * HOUR),
            (failed(Kind::Gone, None), 1, 24 * HOUR),
            (failed(Kind::Empty, None), 9, 15 * MINUTE),
        ];
        for (error, failures, expected) in table {
            let wait = wait(SignedDuration::from_mins(15), Outcome::Failed(&error), failures);
            let asked = error.retry_after.map_or(0, |asked| asked.as_secs().min(24 * HOUR));
            assert!(
                wait >= asked && (wait - expected).abs() <= expected / 20 && wait <= 24 * HOUR,
                "{error} × {failures}: {wait}, not about {expected}"
            );
        }
        let slow = wait(SignedDuration::from_hours(12), Outcome::Failed(&status(500, None)), 7);
        assert!((slow - 12 * HOUR).abs() <= 12 * HOUR / 20, "never faster than `every`: {slow}");
    }

    #[test]
    fn jitter_spreads_but_is_no_chance() {
        let advice = Advice::default();
        let outcome = Outcome::Read { advice: &advice, refresh: None };
        let at = |minute| Timestamp::from_second(1_800_000_000 + minute * MINUTE).unwrap();
        let feed = feed(SignedDuration::from_mins(15));
        let next = |minute| next_poll_at(at(minute), &feed, outcome, PollState::default());
        let waits: std::collections::BTreeSet<i64> =
            (0..200).map(|minute| (next(minute) - at(minute)).as_secs()).collect();
        assert!(waits.len() > 40, "{waits:?}");
        assert!(*waits.first().unwrap() >= 855 && *waits.last().unwrap() <= 945, "{waits:?}");
        assert_eq!(next(7), next(7));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let advice = Advice::default();
        let read = Outcome::Read { advice: &advice, refresh: None };
        let (error, empty) = (failed(Kind::Status(500), None), failed(Kind::Empty, None));
        let state = PollState::default()
            .after(Outcome::Failed(&error))
            .after(Outcome::Failed(&empty))
            .after(Outcome::Failed(&error));
        assert_eq!(state.failures, 2);
        assert_eq!(state.after(read).failures, 0);
        let worst = PollState { failures: u32::MAX };
        assert_eq!(worst.after(Outcome::Failed(&error)), worst);
    }

    #[test]
    fn the_far_end_of_time_is_no_panic() {
        let outcome = Outcome::Read { advice: &Advice::default(), refresh: None };
        for every in [SignedDuration::MAX, SignedDuration::MIN, SignedDuration::ZERO] {
            for now in [Timestamp::MIN, Timestamp::MAX] {
                let next = next_poll_at(now, &feed(every), outcome, PollState::default());
                assert!(next >= now, "{every} {now}");
            }
        }
    }

    #[test]
    fn advice_of_headers() {
        let secs = |s| Some(SignedDuration::from_secs(s));
        const DATE: (&str, &str) = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");
        type Lines = &'static [(&'static str, &'static str)];
        let table: [(Lines, Option<SignedDuration>, Option<SignedDuration>); 13] = [
            (&[], None, None),
            (&[("cache-control", "public, max-age=3600")], secs(3600), None),
            (&[("cache-control", "Max-Age=\"60\""), ("age", "25")], secs(35), None),
            (&[("cache-control", "max-age=60"), ("age", "600")], secs(0), None),
            (&[("cache-control", "max-age=60"), ("cache-control", "no-store")], None, None),
            (&[("cache-control", "no-cache, max-age=60")], None, None),
            (&[("cache-control", "max-age=-5")], None, None),
            (&[("cache-control", "max-age=99999999999999999999")], secs(u32::MAX.into()), None),
            (&[("retry-after", "120")], None, secs(120)),
            (&[DATE, ("retry-after", "Mon, 23 Nov 2026 12:10:00 GMT")], None, secs(600)),
            (&[DATE, ("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT")], None, secs(0)),
            (&[("retry-after", "Mon, 23 Nov 2026 12:10:00 GMT")], None, None),
            (&[("retry-after", "soon")], None, None),
        ];
        for (lines, max_age, retry_after) in table {
            let advice = Advice::from_headers(&headers(lines));
            assert_eq!((advice.max_age, advice.retry_after), (max_age, retry_after), "{lines:?}");
        }
        let advice = Advice::from_headers(&headers(&[DATE]));
        assert_eq!(advice.date, Some("2026-11-23T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn redirect_targets() {
        let bad = |why: &str| Err(Kind::BadRedirect(why.to_owned()));
        let table = [
            ("https://a.example/x/y", "../z?q=1", Ok("https://a.example/z?q=1")),
            ("https://a.example/x", "//b.example/z", Ok("https://b.example/z")),
            ("http://a.example/x", "https://a.example/x", Ok("https://a.example/x")),
            ("https://a.example/x", "webcal://b.example/z", Ok("https://b.example/z")),
            ("http://a.example/x", "webcal://b.example/z", Ok("http://b.example/z")),
            ("http://a.example/x", "webcals://b.example/z", Ok("https://b.example/z")),
            ("https://a.example/x", "http://a.example/x", bad("from https to http")),
            (
                "https://a.example/x",
                "file:///etc/passwd",
                bad("to something that is not on the web"),
            ),
            ("https://a.example/x", "https://", bad("to no valid address")),
        ];
        for (from, location, expected) in table {
            let target = redirect_target(&Url::parse(from).unwrap(), Some(location.as_bytes()));
            let target = target.as_ref().map(Url::as_str).map_err(Kind::clone);
            assert_eq!(target, expected, "{from} -> {location}");
        }
        let from = Url::parse("https://a.example/").unwrap();
        assert_eq!(redirect_target(&from, None).err(), bad("without a Location").err());
        let no_utf8 = redirect_target(&from, Some(b"\xFF"));
        assert_eq!(no_utf8.err(), bad("to no valid address").err());
    }

    #[test]
    fn credentials_stay_with_their_host() {
        let table = [
            ("https://a.example/x", "https://a.example:443/y", true),
            ("http://a.example/x", "https://a.example/x", true),
            ("https://a.example/x", "https://A.EXAMPLE/x", true),
            ("https://a.example/x", "https://b.a.example/x", false),
            ("https://a.example/x", "https://a.example:8443/x", false),
            ("http://a.example:8080/x", "https://a.example/x", false),
            ("https://a.example/x", "https://a.example.b.example/x", false),
        ];
        for (from, to, same) in table {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(same_host(&from, &to), same, "{from} -> {to}");
        }
    }

    #[test]
    fn a_calendar_or_what_else() {
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        let html = "<!DOCTYPE html>\n<html><head><TITLE>\n Sign\n in \u{202E}</TITLE></head>";
        let long = format!("<html><title>{}</title>", "x".repeat(500));
        let gzip = b"\x1F\x8B\x08\x00\x00\x00\x00\x00\x00\x03";
        let not = |looks_like: &str| Err(Kind::NotACalendar { looks_like: looks_like.to_owned() });
        let table = [
            (b"BEGIN:VCALENDAR\r\n".to_vec(), None, Ok(())),
            (b"begin:vcalendar".to_vec(), None, Ok(())),
            (b"\xEF\xBB\xBF\r\n BEGIN:VCALENDAR".to_vec(), None, Ok(())),
            (wide("\u{FEFF}\nBEGIN:VCALENDAR\n", u16::to_le_bytes), None, Ok(())),
            (wide("\u{FEFF}\nBEGIN:VCALENDAR\n", u16::to_be_bytes), None, Ok(())),
            (wide("BEGIN:VCALENDAR\n", u16::to_be_bytes), Some("UTF-16BE"), Ok(())),
            (b"BEGIN:VCALENDAR\n".to_vec(), Some("utf-16"), Ok(())),
            ([b" ".repeat(100_000), b"BEGIN:VCALENDAR".to_vec()].concat(), None, Ok(())),
            (b"".to_vec(), None, Err(Kind::Empty)),
            (b"\xEF\xBB\xBF \r\n\t".to_vec(), None, Err(Kind::Empty)),
            (wide("\u{FEFF}\r\n", u16::to_be_bytes), None, Err(Kind::Empty)),
            (html.as_bytes().to_vec(), None, not("an HTML page titled “Sign in”")),
            (
                wide(&format!("\u{FEFF}{html}"), u16::to_le_bytes),
                None,
                not("an HTML page titled “Sign in”"),
            ),
            (long.into_bytes(), None, not(&format!("an HTML page titled “{}”", "x".repeat(80)))),
            (b"<html><title>".to_vec(), None, not("an HTML page")),
            (b"<html><title>no token123 here</title>".to_vec(), None, not("an HTML page")),
            (b"<?xml version='1.0'?><rss/>".to_vec(), None, not("XML")),
            (b"{\"error\": \"no\"}".to_vec(), None, not("JSON")),
            (gzip.to_vec(), None, not("binary data")),
            (b"BEGIN:VCARD\r\n".to_vec(), None, not("some other text")),
            (b"BEGIN:VCAL".to_vec(), None, not("some other text")),
        ];
        let url = Url::parse("https://a.example/token123/basic.ics").unwrap();
        for (bytes, charset, expected) in table {
            let result = require_calendar(&bytes, charset, Some(&url));
            assert_eq!(
                result,
                expected,
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
            );
        }
    }

    #[test]
    fn charsets_of_content_types() {
        let table = [
            ("text/calendar; charset=UTF-8", Some("UTF-8")),
            ("text/calendar;method=PUBLISH; Charset=\"iso-8859-1\"", Some("iso-8859-1")),
            ("text/calendar; charset=", None),
            ("text/calendar", None),
            ("charset=utf-8", None),
        ];
        for (content_type, expected) in table {
            assert_eq!(charset(content_type).as_deref(), expected, "{content_type}");
        }
    }
}

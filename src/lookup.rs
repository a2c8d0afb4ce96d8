//! Asks a publisher's site what its feed does not say: that an event is cancelled, or why it is gone.
//!
//! Only the feed's own host is asked, and those that the configuration names, and only where the
//! [`guard`](crate::guard) lets the feed lead, a few times a poll at most. Every answer is optional:
//! a site that does not answer, or answers anything unexpected, leaves the feed's word as it is.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, header};
use tracing::debug;
use url::Url;

use crate::calendar::diff::{Answer, Question};
use crate::calendar::publisher::{self, Publisher};
use crate::calendar::{Event, EventKey, Status, Uid, Verdict, identity};
use crate::config::{Feed, FeedUrl};
use crate::fetch::Fetcher;

/// Questions about single events in one poll.
const MAX_QUESTIONS: usize = 10;
/// Pages asked for a picture in one poll; what is told in a list has none.
const MAX_PICTURES: usize = 5;
/// Events asked about in one request; WordPress gives no more at a time.
const MAX_BATCH: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(10);
/// After this long nothing more is asked in one poll: a slow site must not keep its feed's news.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 1 << 20;
const MAX_REDIRECTS: usize = 3;

/// What a site says of the statuses of some events.
#[derive(Debug)]
pub struct Statuses {
    /// By the stem of their UID. Of an event that is not here the site says nothing.
    pub verdicts: BTreeMap<String, Verdict>,
    /// No request failed.
    pub complete: bool,
}

/// What the site has said before of an event that it now only says to exist.
fn known(event: &Event) -> Verdict {
    let said = event.judged.as_ref().map(|judged| judged.verdict.clone());
    said.unwrap_or(Verdict { status: Status::Confirmed, reason: None })
}

/// A site that can be asked about the events of one feed.
#[derive(Debug)]
pub struct Site<'a> {
    fetcher: &'a Fetcher,
    config: &'a Feed,
    feed: &'a Url,
    /// Those that may be asked besides the feed's own.
    hosts: &'a [String],
    user_agent: &'a str,
    publisher: Publisher,
}

impl<'a> Site<'a> {
    /// None for a file, and where the configuration says `lookups = false`.
    pub fn of(
        fetcher: &'a Fetcher,
        feed: &'a Feed,
        user_agent: &'a str,
        publisher: Publisher,
    ) -> Option<Self> {
        match &feed.url {
            FeedUrl::Http(url) => {
                let hosts = feed.lookups.as_deref()?;
                Some(Site { fetcher, config: feed, feed: url, hosts, user_agent, publisher })
            }
            FeedUrl::File(_) => None,
        }
    }

    /// Whether the publisher's software keeps a status of events to itself.
    pub fn keeps_statuses(&self) -> bool {
        self.publisher != Publisher::Other
    }

    /// Under which number the site knows an event, and the stem of its UID; none where it does not.
    pub fn post(&self, uid: &Uid) -> Option<(u64, String)> {
        Some((self.publisher.post_id(uid)?, identity::stem(uid)?))
    }

    /// What the site says of these [posts](Site::post): one request for a hundred of them.
    pub async fn statuses(&self, posts: &BTreeMap<u64, String>) -> Statuses {
        let ids: Vec<&u64> = posts.keys().collect();
        let mut statuses = Statuses { verdicts: BTreeMap::new(), complete: true };
        let started = tokio::time::Instant::now();
        for batch in ids.chunks(MAX_BATCH) {
            let said = match started.elapsed() > PATIENCE {
                true => None,
                false => self.batch(batch).await,
            };
            let Some(said) = said else {
                statuses.complete = false;
                break;
            };
            let by_stem = said.into_iter().filter_map(|(id, v)| Some((posts.get(&id)?.clone(), v)));
            statuses.verdicts.extend(by_stem);
            // A site that does not give the status out need not be asked for it again and again.
            if statuses.verdicts.is_empty() {
                break;
            }
        }
        statuses
    }

    async fn batch(&self, ids: &[&u64]) -> Option<BTreeMap<u64, Verdict>> {
        let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
        let mut url = self.rest("wp/v2/tribe_events")?;
        url.query_pairs_mut()
            .append_pair("include", &ids.join(","))
            .append_pair("per_page", &MAX_BATCH.to_string())
            .append_pair(
                "_fields",
                "id,meta._tribe_events_status,meta._tribe_events_status_reason",
            );
        match self.get(url).await? {
            (200, answer) => publisher::tribe_statuses(&answer),
            _ => None,
        }
    }

    /// Answers to as many of the questions as may be asked in one poll; the soonest events first.
    pub async fn answers(
        &self,
        questions: &[Question],
        start: impl Fn(&Event) -> Timestamp,
    ) -> HashMap<EventKey, Answer> {
        let mut order: Vec<&Question> = questions.iter().collect();
        order.sort_by_key(|question| start(&question.event));
        let mut answers = HashMap::new();
        let started = tokio::time::Instant::now();
        for question in order.into_iter().take(MAX_QUESTIONS) {
            if started.elapsed() > PATIENCE {
                break;
            }
            if let Some(answer) = self.answer(question).await {
                debug!(event = %question.key, ?answer, "the publisher's site was asked");
                answers.insert(question.key.clone(), answer);
            }
        }
        answers
    }

    async fn answer(&self, question: &Question) -> Option<Answer> {
        let post = self.publisher.post_id(&question.event.uid);
        if let (true, Some(id)) = (question.absent, post) {
            let url = self.rest(&format!("tribe/events/v1/events/{id}"))?;
            match self.get(url).await? {
                (200, _) => {
                    let said = self.batch(&[&id]).await.and_then(|mut all| all.remove(&id));
                    return Some(Answer::Known(said.unwrap_or_else(|| known(&question.event))));
                }
                // Withdrawn, and no such post; unless it is the site's doorkeeper who answers so.
                (status @ (403 | 400), answer) if publisher::is_refusal(status, &answer) => {
                    return Some(Answer::Gone);
                }
                _ => {}
            }
        }
        let page = Url::parse(question.event.url.as_deref()?).ok()?;
        match self.get(page).await? {
            (200, html) => match publisher::page_status(&String::from_utf8_lossy(&html)) {
                Some(verdict) => Some(Answer::Known(verdict)),
                // A page without a word on its status is still there for an event that is.
                None if question.absent => Some(Answer::Known(known(&question.event))),
                None => None,
            },
            (404 | 410, _) if question.absent => Some(Answer::Gone),
            _ => None,
        }
    }

    /// The pictures that the pages of some events give themselves, in their order. Of more events
    /// than are asked about in one poll, the others have none.
    pub async fn pictures(&self, events: &[&Event]) -> Vec<Option<String>> {
        let started = tokio::time::Instant::now();
        let mut pictures = Vec::new();
        for event in events.iter().take(MAX_PICTURES) {
            if started.elapsed() > PATIENCE {
                break;
            }
            pictures.push(self.picture(event).await);
        }
        pictures.resize(events.len(), None);
        pictures
    }

    async fn picture(&self, event: &Event) -> Option<String> {
        let page = Url::parse(event.url.as_deref()?).ok()?;
        let (200, html) = self.get(page.clone()).await? else { return None };
        publisher::page_image(&String::from_utf8_lossy(&html), &page)
    }

    /// Whether an address is on the feed's own site, or on one that the configuration names.
    fn may_ask(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let own_port = url.port().is_none()
            || url.port_or_known_default() == self.feed.port_or_known_default();
        let named = match url.port() {
            Some(port) => self.hosts.contains(&format!("{host}:{port}")),
            None => self.hosts.iter().any(|named| named == host),
        };
        let own = Some(host) == self.feed.host_str() && own_port;
        (own || named) && matches!(url.scheme(), "http" | "https")
    }

    /// The address of a route of the site's REST interface: beside the folder of its events.
    fn rest(&self, route: &str) -> Option<Url> {
        let path = self.feed.path();
        let root = ["/events", "/event/"].iter().filter_map(|part| path.find(part)).min();
        let root = root.map_or("", |at| &path[..at]);
        let mut url = self.feed.clone();
        url.set_path(&format!("{}/wp-json/{route}", root.trim_end_matches('/')));
        url.set_query(None);
        Some(url)
    }

    /// Status and body. Redirects are followed to where we may ask only.
    async fn get(&self, start: Url) -> Option<(u16, Vec<u8>)> {
        let mut url = start;
        for _ in 0..=MAX_REDIRECTS {
            if !self.may_ask(&url) {
                return None;
            }
            let request = self.fetcher.ask(self.config, Method::GET, &url).ok()?;
            let request = request.header(header::USER_AGENT, self.user_agent);
            let mut response = request.timeout(TIMEOUT).send().await.ok()?;
            let status = response.status();
            if status.is_redirection() {
                let target = response.headers().get(header::LOCATION)?.to_str().ok()?;
                url = url.join(target).ok()?;
                continue;
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.ok()? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_BYTES {
                    return None;
                }
            }
            return Some((status.as_u16(), body));
        }
        None
    }
}

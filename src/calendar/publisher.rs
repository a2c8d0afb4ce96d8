//! What the software behind a feed is known to do, told from its `PRODID`.

use std::collections::BTreeMap;

use serde_json::Value;
use url::Url;

use super::{Event, Status, Uid, Verdict, html, identity, text};

/// The software behind a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publisher {
    /// The WordPress plugin The Events Calendar: `PRODID:-//… - ECPv6.16.3//NONSGML v1.0//EN`.
    TheEventsCalendar,
    #[default]
    Other,
}

impl Publisher {
    pub fn of(prodid: &str) -> Self {
        if prodid.contains(" - ECPv") { Publisher::TheEventsCalendar } else { Publisher::Other }
    }

    /// How many events a feed of this software holds at most; a feed of that length is a window
    /// into a longer list, out of which a nearer event pushes the farthest.
    pub fn window(self) -> Option<usize> {
        match self {
            Publisher::TheEventsCalendar => Some(30),
            Publisher::Other => None,
        }
    }

    /// The number that names an event on the publisher's site.
    pub fn post_id(self, uid: &Uid) -> Option<u64> {
        match self {
            // A feed that asks for one event each has the number alone.
            Publisher::TheEventsCalendar => {
                let stem = identity::stem(uid)?;
                stem.split('@').next()?.parse().ok()
            }
            Publisher::Other => None,
        }
    }

    /// Takes back what the software is known to add of its own accord.
    ///
    /// The Events Calendar gives an event without a venue the bare region of another event's venue
    /// (`LOCATION:PA`), and takes it away again when the head of the list changes.
    pub fn normalise(self, event: &mut Event) {
        if self == Publisher::TheEventsCalendar {
            let place = event.location.as_str();
            if (2..=3).contains(&place.len()) && place.bytes().all(|b| b.is_ascii_uppercase()) {
                event.location.clear();
            }
        }
    }
}

/// What `/wp-json/wp/v2/tribe_events` says of the posts it was asked for, by post id. It may leave
/// some out, and on some sites it does not give the status out; of those it says nothing. None
/// where it is not an answer at all.
pub fn tribe_statuses(answer: &[u8]) -> Option<BTreeMap<u64, Verdict>> {
    let posts: Vec<Value> = serde_json::from_slice(answer).ok()?;
    let verdict = |post: &Value| {
        let status = match post["meta"]["_tribe_events_status"].as_str()? {
            "canceled" => Status::Cancelled,
            "postponed" => Status::Postponed,
            _ => Status::Confirmed,
        };
        let reason = post["meta"]["_tribe_events_status_reason"].as_str().map(words);
        let reason = reason.filter(|reason| !status.is_on() && !reason.is_empty());
        Some((post["id"].as_u64()?, Verdict { status, reason }))
    };
    Some(posts.iter().filter_map(verdict).collect())
}

/// Whether The Events Calendar itself refuses an event: with JSON, and for a withdrawn one (403) not
/// with one of WordPress' own codes, which mean that the interface is closed to everybody.
pub fn is_refusal(status: u16, answer: &[u8]) -> bool {
    let Ok(Value::Object(answer)) = serde_json::from_slice(answer) else { return false };
    let code = answer.get("code").and_then(Value::as_str).unwrap_or_default();
    status != 403 || !code.starts_with("rest_")
}

/// What schema.org's `eventStatus` in the JSON-LD of an event's page says. None where the page has
/// no event, or several.
pub fn page_status(html: &str) -> Option<Verdict> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(at) = find(rest, "application/ld+json") {
        rest = &rest[at..];
        let Some(open) = rest.find('>') else { break };
        let Some(close) = find(rest, "</script") else { break };
        if open < close
            && let Ok(value) = serde_json::from_str(&rest[open + 1..close])
        {
            collect(&value, &mut found, 0);
        }
        rest = &rest[close..];
    }
    match found.as_slice() {
        [verdict] => Some(verdict.clone()),
        _ => None,
    }
}

/// How much of a page is looked at for its picture, which its head names, and of each tag: no page
/// costs more than this.
const MAX_HEAD: usize = 128 << 10;
const MAX_TAG: usize = 2 << 10;

/// The picture that a page gives itself: the first `og:image` (<https://ogp.me/>), http or https.
pub fn page_image(html: &str, page: &Url) -> Option<String> {
    let mut rest = &html[..html.floor_char_boundary(MAX_HEAD)];
    while let Some(at) = find(rest, "<meta") {
        rest = &rest[at + "<meta".len()..];
        let tag = attributes(&rest[..rest.floor_char_boundary(MAX_TAG)]);
        let named = |name: &str| tag.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let property = named("property").or_else(|| named("name"));
        let is_image = property.is_some_and(|(_, value)| {
            ["og:image", "og:image:url", "og:image:secure_url"].contains(value)
        });
        if let (true, Some((_, content))) = (is_image, named("content")) {
            let url = page.join(&html::html_to_text(content)).ok()?;
            return matches!(url.scheme(), "http" | "https").then(|| url.into());
        }
    }
    None
}

/// Of a tag, from behind its name on.
fn attributes(tag: &str) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    let mut rest = tag.trim_start();
    while !rest.is_empty() && !rest.starts_with(['>', '<']) {
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            // A slash, or an attribute without a value.
            rest = after.strip_prefix('/').unwrap_or(after).trim_start();
            continue;
        };
        let quoted = value.chars().next().filter(|c| "\"'".contains(*c));
        let (value, after) = match quoted {
            Some(quote) => match value[1..].split_once(quote) {
                Some(parts) => parts,
                None => return all,
            },
            None => value.split_at(
                value.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(value.len()),
            ),
        };
        all.push((key, value));
        rest = after.trim_start();
    }
    all
}

/// Where an ASCII word stands, whatever its case.
fn find(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

fn collect(value: &Value, found: &mut Vec<Verdict>, depth: usize) {
    match value {
        // A hostile page nests without end.
        _ if depth > 16 => {}
        Value::Array(values) => values.iter().for_each(|value| collect(value, found, depth + 1)),
        Value::Object(object) => {
            let is_event = |kind: &Value| kind.as_str().is_some_and(|kind| kind.ends_with("Event"));
            let kind = object.get("@type");
            let event = kind.is_some_and(|kind| {
                is_event(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is_event))
            });
            if event {
                let status = object.get("eventStatus").and_then(Value::as_str).unwrap_or_default();
                let status = match status.rsplit('/').next().unwrap_or_default() {
                    "EventCancelled" => Status::Cancelled,
                    "EventPostponed" => Status::Postponed,
                    _ => Status::Confirmed,
                };
                found.push(Verdict { status, reason: None });
            } else if let Some(graph) = object.get("@graph") {
                collect(graph, found, depth + 1);
            }
        }
        _ => {}
    }
}

fn words(html: &str) -> String {
    text::single_line(text::clean(html::html_to_text(html)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_posts() {
        let answer = br#"[
            {"id": 1, "meta": {"_tribe_events_status": "canceled", "_tribe_events_status_reason": "Speaker <b>ill</b> &amp; sorry"}},
            {"id": 2, "meta": {"_tribe_events_status": "postponed", "_tribe_events_status_reason": ""}},
            {"id": 3, "meta": {"_tribe_events_status": "", "_tribe_events_status_reason": "was ill"}},
            {"id": 4, "meta": []}
        ]"#;
        let said = tribe_statuses(answer).unwrap();
        let reason = Some("Speaker ill & sorry".to_owned());
        assert_eq!(said[&1], Verdict { status: Status::Cancelled, reason });
        assert_eq!(said[&2], Verdict { status: Status::Postponed, reason: None });
        assert_eq!(said[&3], Verdict { status: Status::Confirmed, reason: None });
        assert_eq!(said.len(), 3, "nothing is said of a post without a status");
        assert_eq!(tribe_statuses(br#"{"code": "rest_no_route"}"#), None);
        assert_eq!(tribe_statuses(b"<html>"), None);
        assert_eq!(tribe_statuses(b"[]"), Some(BTreeMap::new()));
    }

    #[test]
    fn pictures_of_pages() {
        let page = Url::parse("https://events.example.edu/event/optics/").unwrap();
        for (html, expected) in [
            (
                r#"<META content='/p/a.png?w=1&amp;h=2' Property="og:image" />"#,
                Some("https://events.example.edu/p/a.png?w=1&h=2"),
            ),
            (
                r#"<meta charset=utf-8><meta name=og:image content=https://cdn.example.org/a.png>"#,
                Some("https://cdn.example.org/a.png"),
            ),
            (r#"<meta property="og:image:width" content="3"><meta property="og:title">"#, None),
            (r#"<meta property="og:image" content="javascript:alert(1)">"#, None),
            (r#"<meta property="og:image" content="https://a.example/x.png"#, None),
            ("<meta / = '' x <meta", None),
            (&"<meta=".repeat(1 << 20), None),
            (&"<meta x='".repeat(1 << 20), None),
            ("<meta", None),
        ] {
            assert_eq!(page_image(html, &page).as_deref(), expected, "{html}");
        }
    }

    #[test]
    fn refusals() {
        for (status, answer, expected) in [
            (403, r#"{"code":"event-not-accessible"}"#, true),
            (403, r#"{"code":"rest_forbidden"}"#, false),
            (403, "<html>Checking your browser</html>", false),
            (400, r#"{"code":"rest_invalid_param"}"#, true),
            (400, "Bad Request", false),
        ] {
            assert_eq!(is_refusal(status, answer.as_bytes()), expected, "{status} {answer}");
        }
    }

    #[test]
    fn statuses_of_pages() {
        let page = |json: &str| {
            format!("<p>x<script type=\"Application/LD+json\" class=y>{json}</SCRIPT><p>")
        };
        for (json, expected) in [
            (
                r#"{"@type":"Event","eventStatus":"https://schema.org/EventCancelled"}"#,
                Some(Status::Cancelled),
            ),
            (r#"[{"@type":"Event","eventStatus":"EventPostponed"}]"#, Some(Status::Postponed)),
            (
                r#"{"@graph":[{"@type":"WebPage"},{"@type":["Thing","EducationEvent"]}]}"#,
                Some(Status::Confirmed),
            ),
            (r#"[{"@type":"Event"},{"@type":"Event"}]"#, None),
            (r#"{"@type":"WebPage"}"#, None),
            ("{", None),
        ] {
            assert_eq!(page_status(&page(json)).map(|v| v.status), expected, "{json}");
        }
        assert_eq!(page_status("<script type=application/ld+json"), None);
    }
}

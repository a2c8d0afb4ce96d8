//! Bodies of what is shown in Discord and kept up to date: an announcement that is edited, an
//! agenda, a native scheduled event.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::discord::{
    MAX_DESCRIPTION, MAX_EMBEDS, MAX_FOOTER, MAX_PIECE, MAX_TITLE, MAX_TOTAL, SILENT, entry, fit,
    harmless,
};
use super::words::{self, cut, utf16};
use super::{Body, Style, View, and_more};
use crate::calendar::{Event, text};
use crate::plan::{Notification, Reason};

/// Room for the closing "… and 12345 more".
const CLOSING: usize = 40;

/// Of name and location of a scheduled event; none of its limits is in other units.
const MAX_NAME: usize = 100;
const MAX_ABOUT: usize = 1000;

/// What a message says from now on: the one rendered, without what only a new one may have. The
/// title of an event that is off is struck through.
pub fn edited(rendered: &Value, notification: &Notification) -> Value {
    let mut body = Map::new();
    for name in ["embeds", "components"] {
        // What is not named stays as it is, so that nothing must be said, too.
        body.insert(name.to_owned(), rendered.get(name).cloned().unwrap_or_else(|| json!([])));
    }
    body.insert("allowed_mentions".to_owned(), json!({ "parse": [] }));
    let badge = match notification.items.first().map(|item| &item.reason) {
        Some(Reason::Cancelled) => "Cancelled: ",
        Some(Reason::Postponed) => "Postponed: ",
        Some(Reason::Withdrawn) => "No longer listed: ",
        _ => return Value::Object(body),
    };
    if let Some(title) = body["embeds"].pointer_mut("/0/title") {
        let text = title.as_str().unwrap_or_default();
        let name = text.strip_prefix(badge).unwrap_or(text);
        let room = MAX_TITLE - utf16(badge) - 4;
        let name = cut(name, room, utf16);
        *title = json!(format!("{badge}~~{}~~", name.trim_end_matches('\\')));
    }
    Value::Object(body)
}

/// One message with everything ahead, under its days; what does not fit is counted. Nobody is
/// called to it.
pub fn agenda(title: &str, agenda: &Notification, style: &Style) -> Value {
    let view = View::new(agenda, style);
    let title = fit(&words::line(title), MAX_TITLE);
    let footer = cut(&harmless(&view.source), MAX_FOOTER, utf16);
    let Body::Many(groups) = &view.body else { return json!({}) };
    let mut room = MAX_TOTAL - CLOSING - utf16(&title) - utf16(&footer);
    let mut pages = vec![String::new()];
    let mut more = agenda.more;
    for group in groups {
        let mut head = format!("### {}\n", fit(&group.label, MAX_PIECE));
        for card in &group.cards {
            let text = format!("{head}{}", entry(card));
            // What does not fit is left out with all that comes after it.
            if more > agenda.more || !add(&mut pages, &mut room, &text) {
                more += 1;
            } else {
                head = String::new();
            }
        }
    }
    if view.shown() == 0 {
        pages = vec!["Nothing is coming up.".to_owned()];
    }
    if let (Some(more), Some(page)) = (and_more(more), pages.last_mut()) {
        page.push_str(if page.is_empty() { "" } else { "\n\n" });
        page.push_str(&more);
    }
    let last = pages.len() - 1;
    let embed = |(at, text): (usize, &String)| {
        let mut embed = json!({ "description": text, "color": view.tone.colour() });
        if at == 0 {
            embed["title"] = json!(title);
        }
        if at == last {
            embed["footer"] = json!({ "text": footer });
        }
        embed
    };
    let embeds: Vec<Value> = pages.iter().enumerate().map(embed).collect();
    json!({ "embeds": embeds, "allowed_mentions": { "parse": [] }, "flags": SILENT })
}

/// Adds a text to the last page or a new one; false where there is no room.
fn add(pages: &mut Vec<String>, room: &mut usize, text: &str) -> bool {
    let size = utf16(text) + 2;
    let count = pages.len();
    let Some(left) = room.checked_sub(size) else { return false };
    match pages.last_mut() {
        Some(page) if utf16(page) + size <= MAX_DESCRIPTION - CLOSING => {
            if !page.is_empty() {
                page.push_str(if text.starts_with('#') { "\n" } else { "\n\n" });
            }
            page.push_str(text);
        }
        _ if size <= MAX_DESCRIPTION - CLOSING && count < MAX_EMBEDS => {
            pages.push(text.to_owned());
        }
        _ => return false,
    }
    *room = left;
    true
}

/// The body of Create Guild Scheduled Event for one occurrence. The whole server reads it, so
/// passcodes are never in it.
/// <https://docs.discord.com/developers/resources/guild-scheduled-event#create-guild-scheduled-event>
pub fn scheduled_event(event: &Event, start: Timestamp, end: Timestamp) -> Value {
    let line = |text: &str| words::line(&text::redact_passcodes(&words::line(text)));
    let address = |url: &str| words::web_url(&text::redact_join_url(url));
    let name = match cut(&harmless(&line(&event.summary)), MAX_NAME, utf16) {
        name if name.is_empty() => "(untitled event)".to_owned(),
        name => name,
    };
    let page = event.url.as_deref().and_then(address);
    let join = event.join.as_ref().and_then(|join| address(&join.url));
    let fitting = |url: &String| utf16(url) <= MAX_NAME;
    let place = match address(event.location.trim()) {
        Some(url) => url,
        None => line(&event.location),
    };
    let location = match cut(&harmless(&place), MAX_NAME, utf16) {
        place if !place.is_empty() => place,
        _ if event.join.is_some() => {
            join.clone().filter(fitting).unwrap_or_else(|| "Online".to_owned())
        }
        _ => page.clone().filter(fitting).unwrap_or_else(|| "See description".to_owned()),
    };
    let links: Vec<String> = page.into_iter().chain(join).collect();
    let links = links.join("\n");
    let links = if utf16(&links) < MAX_ABOUT { links } else { String::new() };
    let about = words::block(&text::redact_passcodes(&words::block(&event.description)));
    let about = fit(&about, MAX_ABOUT - utf16(&links) - 2);
    let parts: Vec<&str> = [about.as_str(), &links].into_iter().filter(|s| !s.is_empty()).collect();
    let hour = SignedDuration::from_hours(1);
    let end = if end > start { end } else { start.saturating_add(hour).unwrap_or(end) };
    let mut body = json!({
        "name": name,
        "scheduled_start_time": start.to_string(),
        "scheduled_end_time": end.to_string(),
        "privacy_level": 2,
        "entity_type": 3,
        "entity_metadata": { "location": location },
    });
    if !parts.is_empty() {
        body["description"] = json!(parts.join("\n\n"));
    }
    body
}

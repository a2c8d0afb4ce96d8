//! The bodies of Discord's Create Message and Execute Webhook.
//!
//! Lengths are counted in UTF-16 units, the widest of the counts that Discord may use, and kept by
//! construction: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.
//! What does not fit one message becomes several, split between days.
//!
//! Feed text is escaped wherever Discord reads Markdown. It is never put into a masked link: those of
//! a list read as the buttons do, *Details* and *Join*, and the addresses in a text are seen as they
//! are. `allowed_mentions` lets nothing mention anyone but the roles that the configuration names.

mod markdown;
mod sheets;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::words::{cut, utf16};
use super::{Body, Card, Group, Link, Style, Tone, View};
use crate::interactions::press;
use crate::plan::{Kind, Notification, Reason};
pub(super) use markdown::MAX_PIECE;
pub(crate) use markdown::{escape, fit, harmless};
use markdown::{is_countdown, line, line_without_countdown, masked};
use sheets::{Sheet, sheets};

pub(super) const MAX_TITLE: usize = 256;
pub(super) const MAX_DESCRIPTION: usize = 4096;
const MAX_FIELD: usize = 1024;
/// Discord would take 2048.
pub(super) const MAX_FOOTER: usize = 300;
/// Of title, description, fields and footer of all embeds together.
pub(super) const MAX_TOTAL: usize = 6000;
pub(super) const MAX_EMBEDS: usize = 10;
const MAX_BUTTON_URL: usize = 512;
const MAX_BUTTON_LABEL: usize = 80;
const MAX_NONCE: usize = 25;
const MAX_THREAD_NAME: usize = 100;
/// Our own limit for an event in a list.
const MAX_ENTRY: usize = 3000;

/// `SUPPRESS_NOTIFICATIONS`.
/// <https://docs.discord.com/developers/resources/message#message-object-message-flags>
pub(super) const SILENT: u64 = 1 << 12;

/// Who posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A bot may ask Discord to drop a message with a nonce it has seen in the last minutes.
    Bot,
    /// A webhook has no nonce. Its buttons need `?with_components=true`.
    Webhook,
}

/// Who is called to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// Ids of roles that are mentioned.
    pub roles: Vec<u64>,
    /// It makes no sound.
    pub silent: bool,
}

/// The messages that tell a notification, in order; at least one. They are bodies for a bot and a
/// webhook alike, and for an edit, which may not have `flags`.
pub fn render(notification: &Notification, style: &Style, attention: &Attention) -> Vec<Value> {
    let view = View::new(notification, style);
    let messages = match &view.body {
        Body::One(card) => vec![vec![alone(&view, card)]],
        Body::Many(groups) => listed(&view, groups),
    };
    let mut messages: Vec<Map<String, Value>> = messages
        .into_iter()
        .map(|embeds| {
            let mut message = Map::new();
            message.insert("embeds".to_owned(), Value::Array(embeds));
            message.insert("allowed_mentions".to_owned(), json!({ "parse": [] }));
            if attention.silent {
                message.insert("flags".to_owned(), json!(SILENT));
            }
            message
        })
        .collect();
    if let Some(first) = messages.first_mut() {
        let mut buttons = buttons(&view);
        buttons.extend(remind(notification).filter(|_| style.remind));
        if !buttons.is_empty() {
            let row = json!([{ "type": 1, "components": buttons }]);
            first.insert("components".to_owned(), row);
        }
        if !attention.roles.is_empty() {
            let mentions = attention.roles.iter().map(|role| format!("<@&{role}>"));
            first.insert("content".to_owned(), json!(mentions.collect::<Vec<_>>().join(" ")));
            let roles: Vec<String> = attention.roles.iter().map(u64::to_string).collect();
            let allowed = json!({ "parse": [], "roles": roles });
            first.insert("allowed_mentions".to_owned(), allowed);
        }
    }
    messages.into_iter().map(Value::Object).collect()
}

/// By what Discord recognises a message that a bot sends twice. `dedup_key` is hex digits.
/// <https://docs.discord.com/developers/resources/message#create-message>
pub fn nonce(dedup_key: &str) -> String {
    dedup_key.chars().filter(char::is_ascii_alphanumeric).take(MAX_NONCE).collect()
}

/// The name of the thread or forum post that a notification begins: of one event its title, so that
/// it holds whatever becomes of the event.
pub fn thread_name(notification: &Notification, style: &Style) -> String {
    let view = View::new(notification, style);
    let name = match &view.body {
        Body::One(card) => &card.title,
        Body::Many(_) => &view.heading,
    };
    cut(&harmless(name), MAX_THREAD_NAME, utf16)
}

/// The embed of one event.
fn alone(view: &View, card: &Card) -> Value {
    let title = fit(&view.heading, MAX_TITLE);
    let lead = card.lead.as_ref().map(line);
    let description = intro(view).into_iter().chain(lead).collect::<Vec<_>>().join("\n\n");
    let footer = footer(view);
    let mut used = utf16(&title) + utf16(&description) + utf16(&footer);

    // What a reminder begins with need not be said twice.
    let counts_down = card.lead.as_ref().is_some_and(is_countdown);
    let rows = card.rows.iter().map(|row| {
        let line = if counts_down { line_without_countdown } else { line };
        let lines: Vec<String> = row.lines.iter().map(line).collect();
        (row.label, lines.join("\n"), matches!(row.label, "Organiser" | "Categories"))
    });
    let about = card.about.iter().map(|(label, text)| (*label, fit(text, MAX_FIELD), false));
    let mut fields = Vec::new();
    for (label, text, inline) in rows.chain(about) {
        let size = utf16(label) + utf16(&text);
        if text.is_empty() || utf16(&text) > MAX_FIELD || used + size > MAX_TOTAL {
            continue;
        }
        used += size;
        fields.push(match inline {
            true => json!({ "name": label, "value": text, "inline": true }),
            false => json!({ "name": label, "value": text }),
        });
    }

    let mut embed = Map::new();
    embed.insert("title".to_owned(), json!(title));
    if let Some(Link { url, .. }) = card.links.iter().find(|link| link.label == "Details") {
        embed.insert("url".to_owned(), json!(url));
    }
    if !description.is_empty() {
        embed.insert("description".to_owned(), json!(description));
    }
    embed.insert("color".to_owned(), json!(colour(card)));
    if !fields.is_empty() {
        embed.insert("fields".to_owned(), Value::Array(fields));
    }
    if let Some(url) = &card.image {
        embed.insert("image".to_owned(), json!({ "url": url }));
    }
    embed.insert("footer".to_owned(), json!({ "text": footer }));
    Value::Object(embed)
}

/// The embeds of each message of a list.
fn listed(view: &View, groups: &[Group]) -> Vec<Vec<Value>> {
    let footer = footer(view);
    // With room for "12 of 34".
    let title = fit(&view.heading, MAX_TITLE - 16);
    let room = MAX_TOTAL - MAX_TITLE - utf16(&footer);
    let sheets = sheets(&intro(view).join("\n\n"), groups, view.more, room);
    let count = sheets.len();
    let colour = view.tone.colour();
    let of_sheet = |(at, Sheet { pages, .. }): (usize, Sheet)| {
        let last = pages.len().saturating_sub(1);
        let embeds = pages.into_iter().enumerate().map(|(page, text)| {
            let mut embed = Map::new();
            if page == 0 {
                let title = match count {
                    1 => title.clone(),
                    _ => format!("{title} · {} of {count}", at + 1),
                };
                embed.insert("title".to_owned(), json!(title));
            }
            if !text.trim().is_empty() {
                embed.insert("description".to_owned(), json!(text));
            }
            embed.insert("color".to_owned(), json!(colour));
            if page == last {
                embed.insert("footer".to_owned(), json!({ "text": footer }));
            }
            Value::Object(embed)
        });
        embeds.collect()
    };
    sheets.into_iter().enumerate().map(of_sheet).collect()
}

/// What comes before everything else, escaped.
fn intro(view: &View) -> Vec<String> {
    view.late.iter().chain(&view.intro).map(|text| escape(text)).collect()
}

fn footer(view: &View) -> String {
    cut(&harmless(&view.source), MAX_FOOTER, utf16)
}

/// Colours of categories. None is a red or an orange: those say that something is wrong.
const PALETTE: [u32; 10] = [
    0x3B_82F6, 0x10_B981, 0x8B_5CF6, 0x06_B6D4, 0xEC_4899, 0x84_CC16, 0xD9_46EF, 0x63_66F1,
    0xEA_B308, 0x64_748B,
];

/// What has happened to an event, or else its first category, which always has the same colour.
fn colour(card: &Card) -> u32 {
    let is_plain = matches!(card.tone, Tone::New | Tone::Entered | Tone::Upcoming);
    match card.category.as_ref().filter(|_| is_plain) {
        Some(category) => {
            let hash = xxh3_64(category.to_lowercase().as_bytes());
            PALETTE[(hash % PALETTE.len() as u64) as usize]
        }
        None => card.tone.colour(),
    }
}

/// An event in a list.
pub(super) fn entry(card: &Card) -> String {
    let whole = entry_with(card, true);
    if utf16(&whole) <= MAX_ENTRY { whole } else { entry_with(card, false) }
}

/// `all`: more than its title and its time.
fn entry_with(card: &Card, all: bool) -> String {
    let title = fit(&card.title, MAX_PIECE);
    let title = if card.off { format!("~~{title}~~") } else { format!("**{title}**") };
    let mut lines = vec![if card.badge.is_empty() {
        title
    } else {
        format!("{}: {title}", fit(&card.badge, MAX_PIECE))
    }];
    let rows = || card.rows.iter().filter(|row| all || row.label == "When");
    let plain: Vec<String> = rows()
        .filter(|row| card.off || !row.is_changed())
        .flat_map(|row| &row.lines)
        .map(line)
        .collect();
    if !plain.is_empty() {
        lines.push(plain.join(" · "));
    }
    lines.extend(card.lead.as_ref().filter(|_| all).map(line));
    for row in rows().filter(|row| !card.off && row.is_changed()) {
        let values: Vec<String> = row.lines.iter().map(line).collect();
        lines.push(format!("{}: {}", row.label, values.join(" → ")));
    }
    let links = card.links.iter().filter(|_| all).map(masked);
    let links: Vec<String> = links.collect();
    if !links.is_empty() {
        lines.push(links.join(" · "));
    }
    lines.join("\n")
}

/// Link buttons: the way in first.
fn buttons(view: &View) -> Vec<Value> {
    let Body::One(card) = &view.body else { return Vec::new() };
    let mut links: Vec<(&str, &str)> =
        card.links.iter().map(|link| (link.label.as_str(), link.url.as_str())).collect();
    links.sort_by_key(|(label, _)| *label == "Details");
    links.extend(card.calendar.iter().map(|url| ("Add to calendar", url.as_str())));
    links
        .into_iter()
        .filter(|(_, url)| utf16(url) <= MAX_BUTTON_URL)
        .map(|(label, url)| {
            let label = cut(&harmless(label), MAX_BUTTON_LABEL, utf16);
            json!({ "type": 2, "style": 5, "label": label, "url": url })
        })
        .collect()
}

/// For readers who want to be reminded of the one event that a message is about.
fn remind(notification: &Notification) -> Option<Value> {
    let [item] = notification.items.as_slice() else { return None };
    let to_come = item.event.status.is_on()
        && !matches!(item.reason, Reason::Withdrawn | Reason::Left)
        && matches!(notification.kind, Kind::Changes | Kind::Reminder { .. });
    let custom_id = press::remind(item);
    let button = json!({ "type": 2, "style": 2, "label": "Remind me", "custom_id": custom_id });
    (to_come && notification.more == 0).then_some(button)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_short_enough() {
        assert_eq!(nonce("00112233445566778899aabbccddeeff"), "00112233445566778899aabbc");
    }
}

//! The body of Discord's Create Message and Execute Webhook.
//!
//! Lengths are counted in UTF-16 units, the widest of the counts that Discord may use, and kept by
//! construction: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.
//!
//! Feed text is escaped wherever Discord reads Markdown. It is never put into a masked link, so
//! every link shows where it goes, and `allowed_mentions` lets nothing mention anyone.

use serde_json::{Map, Value, json};
use serenity::all::{
    CreateActionRow, CreateAllowedMentions, CreateButton, CreateEmbed, CreateEmbedFooter,
    CreateMessage, Nonce,
};

use super::dates::Instant;
use super::words::{cut, utf16};
use super::{Body, Card, Group, Line, Link, Mark, Phrase, Piece, Style, View, and_more};
use crate::plan::Notification;

const MAX_TITLE: usize = 256;
const MAX_DESCRIPTION: usize = 4096;
const MAX_FIELD: usize = 1024;
/// Discord would take 2048.
const MAX_FOOTER: usize = 300;
/// Of title, description, fields and footer of all embeds together.
const MAX_TOTAL: usize = 6000;
const MAX_EMBEDS: usize = 10;
const MAX_BUTTON_URL: usize = 512;
const MAX_BUTTON_LABEL: usize = 80;
const MAX_NONCE: usize = 25;
/// Our own limit for one piece of feed text, escapes included: with it, the fields of one event
/// stay far below [`MAX_TOTAL`] together.
const MAX_PIECE: usize = 400;

/// Who posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A bot may ask Discord to drop a message with a nonce it has seen in the last minutes.
    Bot,
    /// A webhook has no nonce. Its buttons need `?with_components=true`.
    Webhook,
}

/// The JSON body; `dedup_key` (hex digits) becomes the nonce.
pub fn render(
    notification: &Notification,
    style: &Style,
    target: Target,
    dedup_key: &str,
) -> String {
    let view = View::new(notification, style);
    let mut message =
        CreateMessage::new().embeds(embeds(&view)).allowed_mentions(CreateAllowedMentions::new());
    let buttons = buttons(&view);
    if !buttons.is_empty() {
        message = message.components(vec![CreateActionRow::Buttons(buttons)]);
    }
    let nonce: String =
        dedup_key.chars().filter(char::is_ascii_alphanumeric).take(MAX_NONCE).collect();
    if target == Target::Bot && !nonce.is_empty() {
        message = message.nonce(Nonce::String(nonce)).enforce_nonce(true);
    }
    body(&message).to_string()
}

/// Only what we mean to say: the builder also writes empty lists and defaults that are not its
/// user's, such as an empty list of attachments.
fn body(message: &CreateMessage) -> Value {
    let Ok(Value::Object(mut written)) = serde_json::to_value(message) else {
        return json!({});
    };
    let mut body = Map::new();
    for name in ["embeds", "components", "nonce", "enforce_nonce"] {
        if let Some(mut value) = written.remove(name).filter(|value| *value != Value::Bool(false)) {
            prune(&mut value);
            body.insert(name.to_owned(), value);
        }
    }
    let parse = written.remove("allowed_mentions").map(|mentions| mentions["parse"].clone());
    body.insert("allowed_mentions".to_owned(), json!({ "parse": parse }));
    Value::Object(body)
}

/// Without nulls: some are for fields that only an answer has.
fn prune(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(prune);
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

fn embeds(view: &View) -> Vec<CreateEmbed> {
    let title = fit(&view.heading, MAX_TITLE);
    let footer = cut(&harmless(&view.source), MAX_FOOTER, utf16);
    let intro: Vec<String> = view.late.iter().chain(&view.intro).map(|text| escape(text)).collect();
    let mut intro = intro.join("\n\n");
    match &view.body {
        Body::One(card) => {
            if let Some(lead) = &card.lead {
                if !intro.is_empty() {
                    intro.push_str("\n\n");
                }
                intro.push_str(&line(lead));
            }
            vec![alone(card, title, intro, footer)]
        }
        Body::Many(groups) => list(view, groups, title, intro, footer),
    }
}

fn alone(card: &Card, title: String, description: String, footer: String) -> CreateEmbed {
    let mut used = utf16(&title) + utf16(&description) + utf16(&footer);
    let mut embed = CreateEmbed::new()
        .title(title)
        .colour(card.tone.colour())
        .footer(CreateEmbedFooter::new(footer));
    if !description.is_empty() {
        embed = embed.description(description);
    }
    let rows = card.rows.iter().map(|row| {
        let lines: Vec<String> = row.lines.iter().map(line).collect();
        (row.label, lines.join("\n"), matches!(row.label, "Organiser" | "Categories"))
    });
    let about = card.about.iter().map(|(label, text)| (*label, fit(text, MAX_FIELD), false));
    for (label, text, inline) in rows.chain(about) {
        let size = utf16(label) + utf16(&text);
        if text.is_empty() || utf16(&text) > MAX_FIELD || used + size > MAX_TOTAL {
            continue;
        }
        used += size;
        embed = embed.field(label, text, inline);
    }
    if let Some(Link { url, .. }) = card.links.iter().find(|link| link.label == "Details") {
        embed = embed.url(url);
    }
    if let Some(image) = &card.image {
        embed = embed.image(image);
    }
    embed
}

/// Events under their labels, in as few embeds as will hold them.
fn list(
    view: &View,
    groups: &[Group],
    title: String,
    intro: String,
    footer: String,
) -> Vec<CreateEmbed> {
    // What is left after title and footer and a closing "… and 12345 more".
    let mut pages =
        Pages { pages: vec![intro], room: MAX_TOTAL - utf16(&title) - utf16(&footer) - 40 };
    pages.room = pages.room.saturating_sub(utf16(&pages.pages[0]));
    let mut told = 0;
    for group in groups {
        let label = format!("### {}", fit(&group.label, MAX_PIECE));
        let entries: Vec<String> = group.cards.iter().map(entry).collect();
        let whole = format!("{label}\n{}", entries.join("\n\n"));
        if pages.add(&whole, "\n") {
            told += entries.len();
            continue;
        }
        if utf16(&whole) > MAX_DESCRIPTION {
            // Too much for any embed: as much of it as there is room for.
            let mut head = format!("{label}\n");
            for text in &entries {
                if !pages.add(&format!("{head}{text}"), "\n") {
                    break;
                }
                told += 1;
                head = "\n".to_owned();
            }
        }
        break;
    }
    let more = and_more(view.more.saturating_add(view.shown() - told));
    if let (Some(more), Some(page)) = (more, pages.pages.last_mut()) {
        page.push_str(if page.is_empty() { "" } else { "\n\n" });
        page.push_str(&more);
    }
    let count = pages.pages.len();
    let embeds = pages.pages.into_iter().enumerate().map(|(at, text)| {
        let mut embed = CreateEmbed::new().colour(view.tone.colour());
        if at == 0 {
            embed = embed.title(&title);
        }
        if !text.trim().is_empty() {
            embed = embed.description(text);
        }
        if at + 1 == count {
            embed = embed.footer(CreateEmbedFooter::new(&footer));
        }
        embed
    });
    embeds.collect()
}

/// Descriptions of consecutive embeds.
struct Pages {
    pages: Vec<String>,
    /// Units left in the whole message.
    room: usize,
}

impl Pages {
    /// Adds a text whole, to the last embed or a new one; says whether there was room.
    fn add(&mut self, text: &str, separator: &str) -> bool {
        let (size, gap) = (utf16(text), utf16(separator));
        if size + gap > self.room {
            return false;
        }
        // The closing "… and 12345 more" must fit as well.
        let limit = MAX_DESCRIPTION - 40;
        let count = self.pages.len();
        match self.pages.last_mut() {
            Some(page) if page.is_empty() && size <= limit => page.push_str(text),
            Some(page) if utf16(page) + gap + size <= limit => {
                page.push_str(separator);
                page.push_str(text);
            }
            _ if size <= limit && count < MAX_EMBEDS => self.pages.push(text.to_owned()),
            _ => return false,
        }
        self.room -= size + gap;
        true
    }
}

/// An event in a list.
fn entry(card: &Card) -> String {
    let title = fit(&card.title, MAX_PIECE);
    let title = if card.off { format!("~~{title}~~") } else { format!("**{title}**") };
    let mut lines = vec![if card.badge.is_empty() {
        title
    } else {
        format!("{}: {title}", fit(&card.badge, MAX_PIECE))
    }];
    let plain: Vec<String> = card
        .rows
        .iter()
        .filter(|row| card.off || !row.is_changed())
        .flat_map(|row| &row.lines)
        .map(line)
        .collect();
    if !plain.is_empty() {
        lines.push(plain.join(" · "));
    }
    lines.extend(card.lead.as_ref().map(line));
    for row in card.rows.iter().filter(|row| !card.off && row.is_changed()) {
        let values: Vec<String> = row.lines.iter().map(line).collect();
        lines.push(format!("{}: {}", row.label, values.join(" → ")));
    }
    for link in &card.links {
        let url = bare(&link.url);
        lines.push(if link.label == "Details" {
            url
        } else {
            format!("{}: {url}", fit(&link.label, MAX_PIECE))
        });
    }
    lines.join("\n")
}

fn buttons(view: &View) -> Vec<CreateButton> {
    let Body::One(card) = &view.body else { return Vec::new() };
    card.links
        .iter()
        .filter(|link| utf16(&link.url) <= MAX_BUTTON_URL)
        .map(|link| {
            let label = cut(&harmless(&link.label), MAX_BUTTON_LABEL, utf16);
            CreateButton::new_link(&link.url).label(label)
        })
        .collect()
}

fn line(line: &Line) -> String {
    line.iter().map(piece).collect()
}

fn piece(piece: &Piece) -> String {
    let (text, away) = match &piece.phrase {
        Phrase::Words(text) => (fit(text, MAX_PIECE), None),
        Phrase::Url(url) => return bare(url),
        Phrase::Time(moment) => {
            let said = escape(&moment.said);
            match moment.instant {
                None => (said, None),
                Some(Instant::Full { start, end }) => {
                    let at = start.as_second();
                    let until = match end {
                        None => String::new(),
                        Some((end, true)) => format!(" – <t:{}:F>", end.as_second()),
                        Some((end, false)) => format!(" – <t:{}:t>", end.as_second()),
                    };
                    (format!("<t:{at}:F>{until}"), Some(at))
                }
                Some(Instant::Clock(at)) => (format!("<t:{}:t>", at.as_second()), None),
                Some(Instant::OnDay(at)) => (said, Some(at.as_second())),
                Some(Instant::Away(at)) => (format!("<t:{}:R>", at.as_second()), None),
            }
        }
    };
    let away = away.map(|at| format!(" (<t:{at}:R>)")).unwrap_or_default();
    // Markup around blanks at either end is not markup, so they stay outside.
    let inner = text.trim();
    match piece.mark {
        _ if inner.is_empty() => text,
        Mark::Plain => format!("{text}{away}"),
        Mark::Old => format!("~~{inner}~~"),
        Mark::New => format!("**{inner}**{away}"),
    }
}

/// Escaped text of at most `max` units, the escapes included.
fn fit(text: &str, max: usize) -> String {
    let mut room = max;
    loop {
        let fitted = escape(&cut(text, room, |part| utf16(&escape(part))));
        // Pieces of a text may need fewer escapes than the whole.
        match utf16(&fitted).saturating_sub(max) {
            0 => return fitted,
            over => room = room.saturating_sub(over),
        }
    }
}

/// Takes the meaning from every character that has one where it stands in Discord's Markdown:
/// emphasis, code, spoilers, links, `<…>` (mentions, timestamps, emoji, commands), `@everyone`;
/// `://` and `:emoji:`; at the beginning of a line headings, lists, quotes and small print. Discord
/// drops a backslash before any punctuation; other places, such as the notification of a phone,
/// show it, so there are no more of them than needed.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    // What stands before in the line, blanks aside: nothing, or digits alone.
    let (mut starts_line, mut numbers) = (true, false);
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        let means_something = match c {
            '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '@' => true,
            '#' | '-' | '+' => starts_line,
            '.' | ')' => numbers,
            ':' => {
                let word = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
                rest.starts_with("//") || word.starts_with(':') && word.len() < rest.len()
            }
            _ => false,
        };
        if means_something {
            out.push('\\');
        }
        out.push(c);
        if c == '\n' {
            (starts_line, numbers) = (true, false);
        } else if !c.is_whitespace() {
            numbers = c.is_ascii_digit() && (starts_line || numbers);
            starts_line = false;
        }
    }
    out
}

/// For footers and button labels, where there is no Markdown and a backslash would be seen.
fn harmless(text: &str) -> String {
    text.replace('@', "＠").replace('<', "‹").replace('`', "'")
}

/// An address in running text, which Discord links as it stands; without the characters that
/// Markdown or a mention could be made of.
fn bare(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '*' | '~' | '@' | '(' | ')' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_taken_literally() {
        for (text, expected) in [
            ("@everyone <@&1> <t:0:R>", r"\@everyone \<\@&1\> \<t\:0:R\>"),
            ("1. # > - a", r"1\. # \> - a"),
            ("- a\n # b\n12) c", "\\- a\n \\# b\n12\\) c"),
            ("New: Dr. A. Smith (MIT) - at 3.14", "New: Dr. A. Smith (MIT) - at 3.14"),
            (r"[a](https://b) \*", r"\[a\](https\://b) \\\*"),
            ("||`~_*:smile:", r"\|\|\`\~\_\*\:smile:"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn escapes_count_when_text_is_cut() {
        let fitted = fit(&"*".repeat(300), MAX_TITLE);
        assert_eq!(utf16(&fitted), 255);
        assert!(fitted.ends_with(r"\*…"), "{fitted}");
    }
}

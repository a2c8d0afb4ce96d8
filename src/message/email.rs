//! Subject, text and HTML of a mail.
//!
//! The HTML is one column of layout tables with inline styles, which every mail program can show;
//! a dark scheme and narrow screens are served where a program reads style sheets. It needs no
//! picture. Feed text is escaped by the template engine, addresses are checked before.

use std::sync::LazyLock;

use minijinja::Environment;
use serde::Serialize;

use super::terminal::{self, Look};
use super::{Body, Card, Line, Mark, Phrase, Style, View, words};
use crate::plan::Notification;

/// Columns of the text part: RFC 5322, 2.1.1 asks for 78 at most, and replies quote it.
const WIDTH: usize = 72;
/// Bytes of HTML; Gmail cuts mails off at about 102 KB.
const MAX_HTML: usize = 90 * 1024;
const MAX_SUBJECT: usize = 180;

/// A mail without its envelope. No part holds control characters but the line ends (`\n`) of
/// `text` and `html`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    /// What mail programs show beside the subject; the HTML holds it, hidden.
    pub preheader: String,
    /// Lines of at most 72 columns, but for addresses, which are never broken.
    pub text: String,
    /// A whole document of at most 90 KiB.
    pub html: String,
}

pub fn render(notification: &Notification, style: &Style) -> Mail {
    let mut view = View::new(notification, style);
    let mut html = write_html(&view);
    while html.len() > MAX_HTML && view.shown() > 1 {
        // Cards are of about one size; where they are not, another round is needed.
        let fitting = view.shown() * MAX_HTML / html.len();
        view.keep(fitting.clamp(1, view.shown() - 1));
        html = write_html(&view);
    }
    Mail {
        subject: words::cut(&view.subject, MAX_SUBJECT, words::utf16),
        preheader: view.preheader.clone(),
        text: write_text(&view),
        html,
    }
}

fn write_text(view: &View) -> String {
    let mut out = String::new();
    for (at, (look, text)) in terminal::page(view, WIDTH).into_iter().enumerate() {
        out.push_str(&text);
        out.push('\n');
        if at == 0 && look == Look::Heading && words::columns(&view.heading) <= WIDTH {
            out.push_str(&"=".repeat(words::columns(&text)));
            out.push('\n');
        }
    }
    // "-- " and what follows is a signature, which mail programs set apart (RFC 3676, 4.3).
    out.push_str("\n-- \n");
    for part in [
        view.why.as_str(),
        "Sent by beadle, which watches event calendars.",
        "To stop these mails, reply to this message.",
    ] {
        out.push_str(&words::wrap(part, WIDTH).join("\n"));
        out.push('\n');
    }
    out
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates
        .add_template("mail.html", include_str!("templates/mail.html"))
        .expect("the template is part of the program, and every test of this module reads it");
    templates
});

fn write_html(view: &View) -> String {
    let (alone, groups) = match &view.body {
        Body::One(card) => (Some(HtmlCard::new(card, false)), Vec::new()),
        Body::Many(groups) => {
            let groups = groups.iter().map(|group| HtmlGroup {
                label: &group.label,
                cards: group.cards.iter().map(|card| HtmlCard::new(card, true)).collect(),
            });
            (None, groups.collect())
        }
    };
    let page = HtmlPage {
        subject: &view.subject,
        preheader: &view.preheader,
        colour: hex(view.tone.colour()),
        title: alone.as_ref().map_or(view.heading.as_str(), |card| card.title),
        late: view.late.as_deref(),
        intro: view.intro.as_deref(),
        alone,
        groups,
        more: super::and_more(view.more),
        why: &view.why,
    };
    // Rendering fails on a wrong template only, never on values: all of them are strings and lists.
    TEMPLATES
        .get_template("mail.html")
        .and_then(|template| template.render(minijinja::value::Serde(&page)))
        .unwrap_or_default()
}

#[derive(Serialize)]
struct HtmlPage<'a> {
    subject: &'a str,
    preheader: &'a str,
    colour: String,
    title: &'a str,
    late: Option<&'a str>,
    intro: Option<&'a str>,
    alone: Option<HtmlCard<'a>>,
    groups: Vec<HtmlGroup<'a>>,
    more: Option<String>,
    why: &'a str,
}

#[derive(Serialize)]
struct HtmlGroup<'a> {
    label: &'a str,
    cards: Vec<HtmlCard<'a>>,
}

#[derive(Serialize)]
struct HtmlCard<'a> {
    colour: String,
    badge: &'a str,
    title: &'a str,
    off: bool,
    lead: Option<Vec<HtmlPiece<'a>>>,
    /// In lists: what has not changed, on one line.
    summary: Vec<Vec<HtmlPiece<'a>>>,
    rows: Vec<HtmlRow<'a>>,
    about_label: &'a str,
    /// Paragraphs of lines.
    about: Vec<Vec<&'a str>>,
    links: Vec<HtmlLink<'a>>,
    image: Option<&'a str>,
}

#[derive(Serialize)]
struct HtmlRow<'a> {
    label: &'a str,
    lines: Vec<Vec<HtmlPiece<'a>>>,
}

#[derive(Serialize)]
struct HtmlPiece<'a> {
    mark: &'static str,
    text: &'a str,
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct HtmlLink<'a> {
    label: &'a str,
    url: &'a str,
}

impl<'a> HtmlCard<'a> {
    fn new(card: &'a Card, listed: bool) -> HtmlCard<'a> {
        let (told, summed): (Vec<_>, Vec<_>) =
            card.rows.iter().partition(|row| !listed || (row.is_changed() && !card.off));
        HtmlCard {
            colour: hex(card.tone.colour()),
            badge: &card.badge,
            title: &card.title,
            off: card.off,
            lead: card.lead.as_ref().map(pieces),
            summary: summed.iter().flat_map(|row| &row.lines).map(pieces).collect(),
            rows: told
                .iter()
                .map(|row| HtmlRow {
                    label: row.label,
                    lines: row.lines.iter().map(pieces).collect(),
                })
                .collect(),
            about_label: card.about.as_ref().map_or("", |(label, _)| label),
            about: card.about.as_ref().map_or_else(Vec::new, |(_, text)| {
                text.split("\n\n").map(|paragraph| paragraph.split('\n').collect()).collect()
            }),
            links: card
                .links
                .iter()
                .map(|link| HtmlLink { label: &link.label, url: &link.url })
                .collect(),
            image: card.image.as_deref(),
        }
    }
}

fn pieces(line: &Line) -> Vec<HtmlPiece<'_>> {
    line.iter()
        .map(|piece| {
            let (text, url) = match &piece.phrase {
                Phrase::Words(text) => (text.as_str(), None),
                Phrase::Time(moment) => (moment.said.as_str(), None),
                Phrase::Url(url) => (url.as_str(), Some(url.as_str())),
            };
            let mark = match piece.mark {
                Mark::Plain => "plain",
                Mark::Old => "old",
                Mark::New => "new",
            };
            HtmlPiece { mark, text, url }
        })
        .collect()
}

fn hex(colour: u32) -> String {
    format!("#{colour:06x}")
}

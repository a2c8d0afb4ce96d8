//! What a terminal shows, and the plain-text half of a mail.

use super::{Body, Card, Line, Mark, Row, Style, View, said, words};
use crate::plan::Notification;

/// Columns of a terminal that is not known to be wider.
const WIDTH: usize = 80;

/// A picture of the Discord message in at most 80 columns, but for long addresses: a bar at the left, in the message's
/// colour if [`Style::colour`] is set. There are no control characters in it but the line ends
/// and our own colours.
pub fn render(notification: &Notification, style: &Style) -> String {
    let view = View::new(notification, style);
    let colour = view.tone.colour();
    let bar = if style.colour {
        let [_, r, g, b] = colour.to_be_bytes();
        format!("\x1b[38;2;{r};{g};{b}m▌\x1b[0m")
    } else {
        "▌".to_owned()
    };
    let mut out = String::new();
    let mut lines = page(&view, WIDTH - 2);
    lines.push((Look::Plain, String::new()));
    for source in words::wrap(&view.source, WIDTH - 2) {
        lines.push((Look::Quiet, source));
    }
    for (look, text) in lines {
        out.push_str(&bar);
        if !text.is_empty() {
            out.push(' ');
            match look.code().filter(|_| style.colour) {
                Some(code) => out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => out.push_str(&text),
            }
        }
        out.push('\n');
    }
    out
}

/// How a line of text stands out, where there is a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Heading,
    Old,
    New,
    Quiet,
}

impl Look {
    /// Parameters of Select Graphic Rendition (ECMA-48, 8.3.117).
    fn code(self) -> Option<&'static str> {
        match self {
            Look::Plain => None,
            Look::Heading | Look::New => Some("1"),
            Look::Old => Some("9;2"),
            Look::Quiet => Some("2"),
        }
    }
}

/// The whole view as lines of text.
pub(super) fn page(view: &View, width: usize) -> Vec<(Look, String)> {
    let mut page = Page { lines: Vec::new(), width };
    page.text(Look::Heading, "", &view.heading);
    if let Some(late) = &view.late {
        page.gap();
        page.text(Look::New, "", late);
    }
    if let Some(intro) = &view.intro {
        page.gap();
        page.text(Look::Plain, "", intro);
    }
    match &view.body {
        Body::One(card) => page.alone(card),
        Body::Many(groups) => {
            for group in groups {
                page.gap();
                page.text(Look::Heading, "", &group.label);
                let rule = words::columns(&group.label).min(width);
                page.text(Look::Quiet, "", &"─".repeat(rule));
                for (at, card) in group.cards.iter().enumerate() {
                    if at > 0 {
                        page.gap();
                    }
                    page.listed(card);
                }
            }
        }
    }
    if let Some(more) = super::and_more(view.more) {
        page.gap();
        page.text(Look::Plain, "", &more);
    }
    page.lines
}

struct Page {
    lines: Vec<(Look, String)>,
    width: usize,
}

impl Page {
    fn gap(&mut self) {
        if self.lines.last().is_some_and(|(_, text)| !text.is_empty()) {
            self.lines.push((Look::Plain, String::new()));
        }
    }

    /// Wrapped text; lines after the first are indented by the width of the label.
    fn text(&mut self, look: Look, label: &str, text: &str) {
        let indent = words::columns(label);
        let room = self.width.saturating_sub(indent);
        for (at, part) in words::wrap(text, room).into_iter().enumerate() {
            let lead = if at == 0 { label.to_owned() } else { " ".repeat(indent) };
            self.lines.push((look, format!("{lead}{part}").trim_end().to_owned()));
        }
    }

    fn alone(&mut self, card: &Card) {
        if let Some(lead) = &card.lead {
            self.gap();
            self.text(Look::Plain, "", &said(lead));
        }
        self.gap();
        for row in &card.rows {
            self.row(&format!("{:<11} ", row.label), row);
        }
        if let Some((label, text)) = &card.about {
            self.gap();
            if *label != "About" {
                self.text(Look::New, "", &format!("{label}:"));
            }
            self.text(Look::Plain, "", text);
        }
        if !card.links.is_empty() {
            self.gap();
        }
        for link in &card.links {
            self.text(Look::Plain, "", &format!("{}: {}", link.label, link.url));
        }
    }

    fn row(&mut self, label: &str, row: &Row) {
        let blank = " ".repeat(words::columns(label));
        for (at, line) in row.lines.iter().enumerate() {
            let label = if at == 0 { label } else { &blank };
            let (look, word) = change(line);
            self.text(look, &format!("{label}{word}"), &said(line));
        }
    }

    fn listed(&mut self, card: &Card) {
        let title = super::heading(&card.badge, &card.title);
        self.text(if card.off { Look::Old } else { Look::New }, "• ", &title);
        let plain: Vec<_> = card.rows.iter().filter(|row| card.off || !row.is_changed()).collect();
        let plain: Vec<_> = plain.iter().flat_map(|row| &row.lines).map(said).collect();
        // On one line if there is room, else one for each.
        let line = plain.join(" · ");
        let fits = words::columns(&line) + 2 <= self.width;
        for text in if fits { vec![line] } else { plain } {
            if !text.is_empty() {
                self.text(Look::Plain, "  ", &text);
            }
        }
        if let Some(lead) = &card.lead {
            self.text(Look::Plain, "  ", &said(lead));
        }
        for row in card.rows.iter().filter(|row| !card.off && row.is_changed()) {
            self.row(&format!("  {} ", row.label), row);
        }
        for link in &card.links {
            let text = match link.label.as_str() {
                "Details" => link.url.clone(),
                label => format!("{label}: {}", link.url),
            };
            self.text(Look::Quiet, "  ", &text);
        }
    }
}

/// The look of a whole line, and the word that says what it is to those who see no look.
fn change(line: &Line) -> (Look, &'static str) {
    let all = |mark| line.iter().all(|piece| piece.mark == mark);
    if all(Mark::Old) {
        (Look::Old, "was: ")
    } else if all(Mark::New) {
        (Look::New, "now: ")
    } else {
        (Look::Plain, "")
    }
}

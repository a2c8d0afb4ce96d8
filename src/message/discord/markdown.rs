//! Feed text where Discord reads Markdown, and where it does not.

use crate::message::dates::Instant;
use crate::message::words::{cut, utf16};
use crate::message::{Line, Link, Mark, Phrase, Piece};

/// Our own limit for one piece of feed text, escapes included: with it, the fields of one event
/// stay far below what Discord takes of all of them together.
pub(in crate::message) const MAX_PIECE: usize = 400;

pub(crate) fn line(line: &Line) -> String {
    line.iter().map(|one| piece(one, true)).collect()
}

/// A line whose times do not say how far away they are.
pub(super) fn line_without_countdown(line: &Line) -> String {
    line.iter().map(|one| piece(one, false)).collect()
}

/// Whether a line is about how far away something is.
pub(super) fn is_countdown(line: &Line) -> bool {
    line.iter().any(|piece| match &piece.phrase {
        Phrase::Time(moment) => matches!(moment.instant, Some(Instant::Away(_))),
        Phrase::Words(_) | Phrase::Url(_) => false,
    })
}

/// A link of an event in a list. The name of a meeting's service is the feed's, and must not end the
/// label.
pub(super) fn masked(link: &Link) -> String {
    let label = link.label.replace(['[', ']', '(', ')', '\\'], " ");
    format!("[{}]({})", fit(label.trim(), MAX_PIECE), bare(&link.url))
}

fn piece(piece: &Piece, countdown: bool) -> String {
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
    let away = away.filter(|_| countdown).map(|at| format!(" (<t:{at}:R>)")).unwrap_or_default();
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
pub(crate) fn fit(text: &str, max: usize) -> String {
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
pub(crate) fn escape(text: &str) -> String {
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
pub(crate) fn harmless(text: &str) -> String {
    text.replace('@', "＠").replace('<', "‹").replace('`', "'")
}

/// An address in running text, which Discord links as it stands; without the characters that
/// Markdown or a mention could be made of.
pub(crate) fn bare(url: &str) -> String {
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
        let fitted = fit(&"*".repeat(300), 256);
        assert_eq!(utf16(&fitted), 255);
        assert!(fitted.ends_with(r"\*…"), "{fitted}");
    }
}

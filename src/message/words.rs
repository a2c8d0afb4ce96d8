//! Feed text made fit to be shown: cleaned, cut and wrapped.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;
use url::{Position, Url};

/// Longest address that is shown (Discord's limit for the addresses of an embed).
const MAX_URL: usize = 2048;

/// Whether a character shows nothing and may do harm: controls, bidirectional overrides (they
/// make `gpj.exe` of `exe.jpg`), zero-width fillers and noncharacters. The joiners U+200C and
/// U+200D stay: Persian words and family emoji need them.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}'
            | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{FDD0}'..='\u{FDEF}' | '\u{E0000}'..='\u{E0FFF}')
        || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Feed text as one line: blanks of any kind become one space, harmful characters vanish.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() || matches!(c, '\u{2800}') {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !is_harmful(c) {
            out.push(c);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Feed text in paragraphs: as [`line`], but line ends stay, with at most one empty line between.
pub(crate) fn block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = 0;
    for part in text
        .replace("\r\n", "\n")
        .split(['\n', '\r', '\u{2028}', '\u{2029}', '\u{000B}', '\u{000C}', '\u{0085}'])
    {
        let part = line(part);
        if part.is_empty() {
            gap += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if gap > 0 { "\n\n" } else { "\n" });
        }
        gap = 0;
        out.push_str(&part);
    }
    out
}

/// Length as Discord's clients and JavaScript count it.
pub(crate) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The longest beginning of `text` that costs no more than `max`, cut after a word where there is
/// one and never within a grapheme cluster; `…` stands for what is missing and costs one.
///
/// `cost` is what a piece of text will cost once written, and must be additive.
pub(crate) fn cut(text: &str, max: usize, cost: impl Fn(&str) -> usize) -> String {
    if cost(text) <= max {
        return text.to_owned();
    }
    let mut room = max.saturating_sub(1);
    let mut end = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        let price = cost(grapheme);
        if price > room {
            break;
        }
        room -= price;
        end = at + grapheme.len();
    }
    let word = text
        .split_word_bound_indices()
        .map(|(at, _)| at)
        .take_while(|&at| at <= end)
        .last()
        .filter(|&at| at > end / 2)
        .unwrap_or(end);
    let kept = text[..word].trim_end_matches(|c: char| c.is_whitespace() || ",;:.–-(".contains(c));
    format!("{kept}…")
}

/// Columns that a text takes in a terminal.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Lines of at most `width` columns, broken between words. A word wider than that is broken
/// within, unless it is an address: a broken address cannot be clicked.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            if columns(word) <= width || web_url(word).is_some() {
                line.push_str(word);
                continue;
            }
            for part in word.graphemes(true).flat_map(|grapheme| narrow(grapheme, width)) {
                let end = line.len();
                line.push_str(part);
                if end > 0 && columns(&line) > width {
                    line.truncate(end);
                    lines.push(std::mem::replace(&mut line, part.to_owned()));
                }
            }
        }
        lines.push(line);
    }
    lines
}

/// A grapheme cluster, or its characters where it is wider than a whole line.
fn narrow(grapheme: &str, width: usize) -> Vec<&str> {
    if columns(grapheme) <= width {
        return vec![grapheme];
    }
    grapheme.split("").filter(|part| !part.is_empty()).collect()
}

/// An address that may be offered as a link: http or https, with a host, without a user name
/// (`https://bank.example@evil.example/` is a disguise), percent-encoded by the URL standard.
pub(crate) fn web_url(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str()?.is_empty() || !plain {
        return None;
    }
    let (host, rest) = (&url[..Position::BeforePath], &url[Position::BeforePath..]);
    // The fragment and query may keep quotes and backticks, which some readers of mail and
    // Markdown take for the end of the address, and what RFC 3986 (unlike the URL standard) has no
    // place for.
    let mut out = String::with_capacity(host.len() + rest.len());
    out.push_str(host);
    let mut in_fragment = false;
    for (at, c) in rest.char_indices() {
        let odd = match c {
            '"' | '\'' | '`' | '<' | '>' | '\\' | '^' | '{' | '|' | '}' | '[' | ']' => true,
            '#' => std::mem::replace(&mut in_fragment, true),
            '%' => rest[at + 1..].chars().take(2).filter(char::is_ascii_hexdigit).count() < 2,
            _ => false,
        };
        if odd {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    (out.len() <= MAX_URL).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cleaned() {
        for (raw, expected) in [
            ("  a \t\r\n b\u{a0}c  ", "a b c"),
            ("\u{1b}[31mred\u{7}", "[31mred"),
            ("abc\u{202e}gpj.exe\u{2066}", "abcgpj.exe"),
            ("\u{200b}@every\u{feff}one", "@everyone"),
            ("👩‍👩‍👧 می‌خواهم", "👩‍👩‍👧 می‌خواهم"),
            ("\u{0}", ""),
        ] {
            assert_eq!(line(raw), expected, "{raw:?}");
        }
        assert_eq!(block("\n\na\r\nb \n \n\n\n c\n"), "a\nb\n\nc");
    }

    #[test]
    fn text_is_cut_at_words_and_graphemes() {
        for (text, max, expected) in [
            ("short", 5, "short"),
            ("the coverage principle", 15, "the coverage…"),
            ("the coverage, principle", 15, "the coverage…"),
            ("incomprehensibilities", 8, "incompr…"),
            ("👩‍👩‍👧👩‍👩‍👧", 11, "👩‍👩‍👧…"),
            ("👩‍👩‍👧👩‍👩‍👧", 6, "…"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, max, utf16), expected);
        }
    }

    #[test]
    fn lines_are_wrapped_by_columns() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("日本語のセミナー", 6), ["日本語", "のセミ", "ナー"]);
        assert_eq!(wrap("a\n\nb", 9), ["a", "", "b"]);
        let url = "https://events.example.edu/event/a-long-name";
        assert_eq!(wrap(&format!("see {url}"), 20), ["see", url]);
        assert!(wrap(&"x".repeat(50), 20).iter().all(|line| columns(line) <= 20));
    }

    #[test]
    fn only_plain_web_addresses_are_links() {
        for (text, expected) in [
            ("https://example.edu/a b?q=\"<x>'", Some("https://example.edu/a%20b?q=%22%3Cx%3E%27")),
            ("HTTP://Example.EDU", Some("http://example.edu/")),
            ("https://bücher.example/", Some("https://xn--bcher-kva.example/")),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("https://bank.example@evil.example/", None),
            ("//example.edu/x", None),
            ("https://", None),
            (
                "https://[::1]/a[0]?b=[c]&d=100%#e#f%2",
                Some("https://[::1]/a%5B0%5D?b=%5Bc%5D&d=100%25#e%23f%252"),
            ),
        ] {
            assert_eq!(web_url(text).as_deref(), expected, "{text}");
        }
        assert_eq!(web_url(&format!("https://example.edu/{}", "a".repeat(2048))), None);
    }
}

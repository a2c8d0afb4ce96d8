//! HTML as publishers put it into descriptions and pages, read as plain text.
//!
//! Nothing is refused and nothing is put right: tags that are known set lines apart, the others are
//! passed over. The time is that of one reading, however it is nested.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use encoding_rs::WINDOWS_1252;
use memchr::{memchr, memchr2, memmem};

use super::text::{http_url, paragraphs};

const BLOCK_TAGS: [&str; 20] = [
    "p",
    "br",
    "div",
    "ul",
    "ol",
    "li",
    "table",
    "tr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "html",
    "body",
    "pre",
    "blockquote",
    "section",
];
const INLINE_TAGS: [&str; 15] = [
    "a",
    "b",
    "i",
    "u",
    "s",
    "em",
    "strong",
    "span",
    "font",
    "img",
    "sup",
    "sub",
    "small",
    "code",
    "html-blob",
];

/// Lists and quotations within each other that are set in; what is deeper is not set in further.
const DEEPEST: usize = 16;

/// More text is not made, in bytes.
const LONGEST: usize = 256 * 1024;

/// Names of the tags in a text, in lower case, as far as can be told at a glance.
fn tags(text: &str) -> impl Iterator<Item = String> {
    text.match_indices('<').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))?;
        let follows = rest.as_bytes()[end];
        (end > 0 && end <= 16 && matches!(follows, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r'))
            .then(|| rest[..end].to_ascii_lowercase())
    })
}

/// Whether a DESCRIPTION, which should be plain text, holds HTML.
pub fn looks_like_html(text: &str) -> bool {
    memchr(b'>', text.as_bytes()).is_some()
        && tags(text)
            .any(|name| BLOCK_TAGS.contains(&name.as_str()) || INLINE_TAGS.contains(&name.as_str()))
}

/// HTML as plain text; links keep their address.
pub fn html_to_text(html: &str) -> String {
    let mut page = Page {
        // Only bold and links in text that is otherwise plain: its line ends are meant.
        keeps_lines: !tags(html).any(|name| BLOCK_TAGS.contains(&name.as_str())),
        ..Page::default()
    };
    let mut source = Source { rest: html, ..Source::default() };
    while let Some(piece) = source.next() {
        // What is set in at each line can be many times as long as it was.
        if page.out.len() > LONGEST {
            break;
        }
        match piece {
            Piece::Text(text) => page.text(&entities(text)),
            Piece::Open(tag) if matches!(&*tag.name, "script" | "style" | "title") => {
                source.skip_to_end_of(&tag.name);
            }
            Piece::Open(tag) => page.open(&tag),
            Piece::Close(name) => page.close(&name),
        }
    }
    page.close_link();
    paragraphs(&page.out)
}

enum Piece<'a> {
    Text(&'a str),
    Open(Tag<'a>),
    Close(String),
}

struct Tag<'a> {
    /// In lower case.
    name: String,
    /// What stands between the name and the `>`.
    attributes: &'a str,
}

impl Tag<'_> {
    fn attribute(&self, wanted: &str) -> Option<Cow<'_, str>> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '/'));
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            let mut value = "";
            rest = after.trim_ascii_start();
            if let Some(given) = rest.strip_prefix('=') {
                let given = given.trim_ascii_start();
                let quoted = given.strip_prefix('"').map(|rest| (rest, '"'));
                let quoted = quoted.or_else(|| Some((given.strip_prefix('\'')?, '\'')));
                (value, rest) = match quoted {
                    Some((given, quote)) => given.split_once(quote).unwrap_or((given, "")),
                    None => {
                        given.split_at(given.find([' ', '\t', '\n', '\r']).unwrap_or(given.len()))
                    }
                };
            } else if name.is_empty() {
                return None;
            }
            if name.eq_ignore_ascii_case(wanted) {
                return Some(entities(value));
            }
        }
    }
}

/// What is still to be read.
#[derive(Default)]
struct Source<'a> {
    rest: &'a str,
    /// Of `'`, `"` and `>`, those that are known not to follow; none is looked for twice.
    absent: [bool; 3],
}

impl<'a> Source<'a> {
    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            // A `<` that begins no tag is text, as all before the next one is.
            let Some(after) = self.rest.strip_prefix('<') else {
                return Some(self.text(0));
            };
            if after.starts_with("!--") {
                self.rest = match memmem::find(after.as_bytes(), b"-->") {
                    Some(end) => &after[end + 3..],
                    None => "",
                };
                continue;
            }
            let name = after.strip_prefix(['/', '!', '?']).unwrap_or(after);
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) && !after.starts_with("![") {
                return Some(self.text(1));
            }
            let Some(end) = self.end_of_tag(name) else { return Some(self.text(1)) };
            let (tag, behind) = (&name[..end], &name[end + 1..]);
            self.rest = behind;
            let end = tag.find(|c: char| c.is_ascii_whitespace() || c == '/');
            let (name, attributes) = tag.split_at(end.unwrap_or(tag.len()));
            let name = name.to_ascii_lowercase();
            match after.as_bytes()[0] {
                b'/' => return Some(Piece::Close(name)),
                b'!' | b'?' => {}
                _ => return Some(Piece::Open(Tag { name, attributes })),
            }
        }
    }

    /// Up to the next `<`, beyond the first `least` bytes.
    fn text(&mut self, least: usize) -> Piece<'a> {
        let end = memchr(b'<', &self.rest.as_bytes()[least..]);
        let (text, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| least + end));
        self.rest = rest;
        Piece::Text(text)
    }

    /// Where the `>` of a tag is; none for one that never ends.
    fn end_of_tag(&mut self, tag: &str) -> Option<usize> {
        let bytes = tag.as_bytes();
        let first = self.find(b'>', 2, bytes)?;
        // A `>` within quotes ends nothing; but where a quote is not closed it is none.
        let (mut at, mut end) = (0, first);
        while let Some(quote) = memchr2(b'"', b'\'', &bytes[at..end]) {
            at += quote + 1;
            let sign = bytes[at - 1];
            let Some(close) = self.find(sign, usize::from(sign == b'"'), &bytes[at..]) else {
                break;
            };
            at += close + 1;
            if at > end {
                let Some(next) = memchr(b'>', &bytes[at..]) else {
                    // Nor may others of this text be followed to its end in vain.
                    (self.absent[0], self.absent[1]) = (true, true);
                    return Some(first);
                };
                end = at + next;
            }
        }
        Some(end)
    }

    fn find(&mut self, sign: u8, kind: usize, bytes: &[u8]) -> Option<usize> {
        let found = (!self.absent[kind]).then(|| memchr(sign, bytes)).flatten();
        self.absent[kind] |= found.is_none();
        found
    }

    /// To the tag that closes what holds no text.
    fn skip_to_end_of(&mut self, name: &str) {
        let closes = memmem::find_iter(self.rest.as_bytes(), "</").find(|at| {
            let found = self.rest.as_bytes().get(at + 2..at + 2 + name.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        });
        self.rest = closes.map_or("", |at| &self.rest[at..]);
    }
}

/// A list or a quotation that is open.
enum Level {
    /// The number of its next item, where they are numbered.
    List(Option<u32>),
    /// What stands before its first line, until it does, and how wide that is.
    Item(Option<String>, usize),
    Quote,
}

#[derive(Default)]
struct Page {
    out: String,
    keeps_lines: bool,
    /// Line ends to come before the next word.
    breaks: usize,
    /// A blank to come before the next word.
    blank: bool,
    levels: Vec<Level>,
    /// `pre` that are open.
    literal: usize,
    /// `sup` that are open.
    raised: usize,
    /// The address of the link that is open, and where its text begins.
    link: Option<(String, usize)>,
}

impl Page {
    fn open(&mut self, tag: &Tag<'_>) {
        match &*tag.name {
            "br" => self.breaks += 1,
            "a" => {
                self.close_link();
                let url = tag.attribute("href").and_then(|href| http_url(&href));
                self.link = url.map(|url| (url, self.out.len()));
            }
            "img" => {
                if let Some(alt) = tag.attribute("alt") {
                    self.text(&alt);
                }
            }
            "td" | "th" => self.blank = true,
            "ul" | "ol" => {
                // It belongs to what it follows.
                self.breaks = 1;
                let start = tag.attribute("start").and_then(|start| start.parse().ok());
                self.enter(Level::List((tag.name == "ol").then(|| start.unwrap_or(1))));
            }
            "li" => {
                self.part(1);
                self.end_item();
                let mark = match self.levels.last_mut() {
                    Some(Level::List(Some(number))) => {
                        let mark = format!("{number}. ");
                        *number = number.saturating_add(1);
                        mark
                    }
                    _ => "- ".to_owned(),
                };
                let width = mark.len();
                self.enter(Level::Item(Some(mark), width));
            }
            "blockquote" => {
                self.part(2);
                self.enter(Level::Quote);
            }
            "pre" => {
                self.part(2);
                self.literal += 1;
            }
            "sup" => self.raised += 1,
            name => self.part(apart(name)),
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "a" => self.close_link(),
            "ul" | "ol" => {
                self.leave(|level| matches!(level, Level::List(_)));
                self.part(if self.levels.is_empty() { 2 } else { 1 });
            }
            "li" => {
                self.end_item();
                self.part(1);
            }
            "blockquote" => {
                self.leave(|level| matches!(level, Level::Quote));
                self.part(2);
            }
            "pre" => {
                self.literal = self.literal.saturating_sub(1);
                self.part(2);
            }
            "sup" => self.raised = self.raised.saturating_sub(1),
            name => self.part(apart(name)),
        }
    }

    /// What comes next begins so many lines further down.
    fn part(&mut self, breaks: usize) {
        self.breaks = self.breaks.max(breaks);
    }

    fn enter(&mut self, level: Level) {
        if self.levels.len() < DEEPEST {
            self.levels.push(level);
        }
    }

    /// Ends the innermost such level, and what is open within it.
    fn leave(&mut self, is_it: impl Fn(&Level) -> bool) {
        if let Some(at) = self.levels.iter().rposition(is_it) {
            self.levels.truncate(at);
        }
    }

    /// Ends the item of the innermost list, if one is open.
    fn end_item(&mut self) {
        let last = self.levels.iter().rposition(|level| !matches!(level, Level::Quote));
        if let Some(at) = last.filter(|at| matches!(self.levels[*at], Level::Item(..))) {
            self.levels.truncate(at);
        }
    }

    fn close_link(&mut self) {
        if let Some((url, from)) = self.link.take()
            && self.out.len() > from
        {
            self.out.push_str(" <");
            self.out.push_str(&url);
            self.out.push('>');
        }
    }

    fn text(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find([' ', '\t', '\n', '\r', '\x0c']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if !word.is_empty() {
                self.begin();
                match self.raised {
                    0 => self.out.push_str(word),
                    _ => self.out.extend(word.chars().map(raised)),
                }
            }
            let Some(sign) = after.bytes().next() else { break };
            rest = &after[1..];
            match sign {
                b'\n' if self.literal > 0 || self.keeps_lines => self.breaks += 1,
                b'\n' | b'\r' => self.blank = true,
                _ if self.literal > 0 => {
                    self.begin();
                    self.out.push(' ');
                }
                _ => self.blank = true,
            }
        }
    }

    /// Writes what is to stand before a word.
    fn begin(&mut self) {
        let first = self.out.is_empty();
        if first || self.breaks > 0 {
            if !first {
                self.out.push_str(if self.breaks > 1 { "\n\n" } else { "\n" });
            }
            for level in &mut self.levels {
                match level {
                    Level::List(_) => {}
                    Level::Item(mark, width) => match mark.take() {
                        Some(mark) => self.out.push_str(&mark),
                        None => self.out.extend(std::iter::repeat_n(' ', *width)),
                    },
                    Level::Quote => self.out.push_str("> "),
                }
            }
        } else if self.blank {
            self.out.push(' ');
        }
        (self.breaks, self.blank) = (0, false);
    }
}

/// How many lines further down what stands before and after a tag is from what is in it.
fn apart(name: &str) -> usize {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "hr" | "table" | "dl" | "figure" => 2,
        "address" | "article" | "aside" | "body" | "caption" | "center" | "dd" | "details"
        | "div" | "dt" | "fieldset" | "figcaption" | "footer" | "form" | "head" | "header"
        | "html" | "legend" | "main" | "nav" | "option" | "section" | "summary" | "tbody"
        | "tfoot" | "thead" | "tr" => 1,
        _ => 0,
    }
}

/// A power or a footnote is another number when its digits stand on the line.
fn raised(sign: char) -> char {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    sign.to_digit(10).map_or(sign, |digit| DIGITS[digit as usize])
}

/// Puts the signs that are meant in the place of `&amp;`, `&#38;` and the like.
fn entities(text: &str) -> Cow<'_, str> {
    if memchr(b'&', text.as_bytes()).is_none() {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.bytes().take(LONGEST_NAME + 1).position(|byte| byte == b';');
        match end.and_then(|end| Some((sign(&rest[..end])?, end))) {
            Some((sign, end)) => {
                out.push(sign);
                rest = &rest[end + 1..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out.into()
}

/// What a name between `&` and `;` stands for.
fn sign(name: &str) -> Option<char> {
    static SIGNS: LazyLock<HashMap<&str, char>> = LazyLock::new(|| {
        let words: Vec<&str> = NAMED.split(' ').collect();
        words.chunks(2).filter_map(|pair| Some((pair[0], pair.get(1)?.chars().next()?))).collect()
    });
    let Some(number) = name.strip_prefix('#') else { return SIGNS.get(name).copied() };
    let number = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    match number.ok()? {
        0 => None,
        // Those who write numbers of controls mean the signs that Windows has there.
        byte @ 0x80..=0x9f => WINDOWS_1252.decode(&[byte as u8]).0.chars().next(),
        number => char::from_u32(number),
    }
}

const LONGEST_NAME: usize = 8;

/// The names of HTML 4 and XML, each with its sign.
#[rustfmt::skip]
const NAMED: &str = "quot \" amp & apos ' lt < gt > nbsp \u{a0} iexcl ¡ cent ¢ pound £ curren ¤ yen ¥ brvbar ¦ \
    sect § uml ¨ copy © ordf ª laquo « not ¬ shy \u{ad} reg ® macr ¯ deg ° plusmn ± sup2 ² \
    sup3 ³ acute ´ micro µ para ¶ middot · cedil ¸ sup1 ¹ ordm º raquo » frac14 ¼ frac12 ½ \
    frac34 ¾ iquest ¿ Agrave À Aacute Á Acirc Â Atilde Ã Auml Ä Aring Å AElig Æ Ccedil Ç \
    Egrave È Eacute É Ecirc Ê Euml Ë Igrave Ì Iacute Í Icirc Î Iuml Ï ETH Ð Ntilde Ñ Ograve Ò \
    Oacute Ó Ocirc Ô Otilde Õ Ouml Ö times × Oslash Ø Ugrave Ù Uacute Ú Ucirc Û Uuml Ü \
    Yacute Ý THORN Þ szlig ß agrave à aacute á acirc â atilde ã auml ä aring å aelig æ \
    ccedil ç egrave è eacute é ecirc ê euml ë igrave ì iacute í icirc î iuml ï eth ð ntilde ñ \
    ograve ò oacute ó ocirc ô otilde õ ouml ö divide ÷ oslash ø ugrave ù uacute ú ucirc û \
    uuml ü yacute ý thorn þ yuml ÿ OElig Œ oelig œ Scaron Š scaron š Yuml Ÿ fnof ƒ circ ˆ \
    tilde ˜ Alpha Α Beta Β Gamma Γ Delta Δ Epsilon Ε Zeta Ζ Eta Η Theta Θ Iota Ι Kappa Κ \
    Lambda Λ Mu Μ Nu Ν Xi Ξ Omicron Ο Pi Π Rho Ρ Sigma Σ Tau Τ Upsilon Υ Phi Φ Chi Χ Psi Ψ \
    Omega Ω alpha α beta β gamma γ delta δ epsilon ε zeta ζ eta η theta θ iota ι kappa κ \
    lambda λ mu μ nu ν xi ξ omicron ο pi π rho ρ sigmaf ς sigma σ tau τ upsilon υ phi φ chi χ \
    psi ψ omega ω thetasym ϑ upsih ϒ piv ϖ ensp \u{2002} emsp \u{2003} thinsp \u{2009} \
    zwnj \u{200c} zwj \u{200d} lrm \u{200e} rlm \u{200f} ndash – mdash — lsquo ‘ rsquo ’ \
    sbquo ‚ ldquo “ rdquo ” bdquo „ dagger † Dagger ‡ bull • hellip … permil ‰ prime ′ Prime ″ \
    lsaquo ‹ rsaquo › oline ‾ frasl ⁄ euro € image ℑ weierp ℘ real ℜ trade ™ alefsym ℵ larr ← \
    uarr ↑ rarr → darr ↓ harr ↔ crarr ↵ lArr ⇐ uArr ⇑ rArr ⇒ dArr ⇓ hArr ⇔ forall ∀ part ∂ \
    exist ∃ empty ∅ nabla ∇ isin ∈ notin ∉ ni ∋ prod ∏ sum ∑ minus − lowast ∗ radic √ prop ∝ \
    infin ∞ ang ∠ and ∧ or ∨ cap ∩ cup ∪ int ∫ there4 ∴ sim ∼ cong ≅ asymp ≈ ne ≠ equiv ≡ le ≤ \
    ge ≥ sub ⊂ sup ⊃ nsub ⊄ sube ⊆ supe ⊇ oplus ⊕ otimes ⊗ perp ⊥ sdot ⋅ lceil ⌈ rceil ⌉ \
    lfloor ⌊ rfloor ⌋ lang 〈 rang 〉 loz ◊ spades ♠ clubs ♣ hearts ♥ diams ♦";

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn html_is_told_from_text() {
        for (value, is_html) in [
            ("a < b > c", false),
            ("<https://example.edu/>", false),
            ("<Jane@example.edu>", false),
            ("x <br> y", true),
            ("<P CLASS=a>y", true),
        ] {
            assert_eq!(looks_like_html(value), is_html, "{value}");
        }
    }

    #[test]
    fn html() {
        for (value, expected) in [
            ("<p>a</p><p>b &amp; c</p>", "a\n\nb & c"),
            ("a<br>b", "a\nb"),
            ("a<br/><br />b", "a\n\nb"),
            ("<div>a</div>\n<div>b\n  c</div>", "a\nb c"),
            ("one\ntwo <b>bold</b>", "one\ntwo bold"),
            ("<h2>When</h2>noon<hr>room", "When\n\nnoon\n\nroom"),
            ("<a href='https://example.edu/x'>here</a>", "here <https://example.edu/x>"),
            (
                "<A title='a>b' HREF = https://example.edu/x?a&amp;b>here</A>.",
                "here <https://example.edu/x?a&b>.",
            ),
            ("<a href='javascript:alert(1)'>here</a>", "here"),
            ("<a href='https://example.edu/x'></a>x", "x"),
            ("<img src=x alt='The hall'><br>x", "The hall\nx"),
            ("<script>if (a < b) alert('</p>')</script><style>p {}</style><p>x</p>", "x"),
            ("<!DOCTYPE html><title>no</title><!-- <p>no</p> --><p>x</p>", "x"),
            (
                "<ul><li>one<li>two<br>lines<ol><li>a</li><li>b</li></ol></li></ul>c",
                "- one\n- two\n  lines\n  1. a\n  2. b\n\nc",
            ),
            ("a<blockquote>b<br>c</blockquote>d", "a\n\n> b\n> c\n\nd"),
            ("10<sup>23</sup> H<sub>2</sub>O, 1<sup>st</sup><br>", "10²³ H2O, 1st"),
            ("<pre>a  b\nc</pre>", "a  b\nc"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</table>", "a b\nc"),
            (
                "&lt;p&gt; &eacute;&#233;&#xE9;&#146;&nbsp;&unknown; AT&T;<br>",
                "<p> ééé’\u{a0}&unknown; AT&T;",
            ),
            ("a < b <i>c</i> <3 <a", "a < b c <3 <a"),
            ("<a href=\"https://example.edu/>x</a> <b>y</b><br>z", "x <https://example.edu/> y\nz"),
        ] {
            assert_eq!(html_to_text(value), expected, "{value}");
        }
    }

    #[test]
    fn deep_and_long_html_is_read_in_time() {
        let started = Instant::now();
        for html in [
            "<div>".repeat(200_000),
            format!("{}x", "<p>".repeat(300_000)),
            "<table><tr><td>".repeat(50_000),
            "<ul><li>x".repeat(50_000),
            "<blockquote>x<br>".repeat(50_000),
            "é".repeat(100_000) + "<p>",
            "<".repeat(200_000),
            "<a ".repeat(200_000),
            "<a '>".repeat(200_000),
            "<a \"'>".repeat(200_000),
            "<a '>'".repeat(200_000),
            "<a '>' \">\"".repeat(100_000),
            "<script>".repeat(100_000),
            "&".repeat(200_000),
            "<!--".repeat(200_000),
        ] {
            let text = html_to_text(&html);
            assert!(text.len() <= 40 * html.len(), "{}", text.len());
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|</?(p|b|ul|li|pre|a|blockquote|script)>|<a href=|['\"&;<>=/ \n]|&#[0-9]{1,4};|<!--|é){0,30}") {
            prop_assert!(html_to_text(&text).len() <= 40 * text.len());
        }
    }
}

//! What publishers write into text properties, made fit to be read: escapes, invisible characters,
//! links into meetings, passcodes.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::{memchr, memchr_iter, memchr2};
use simdutf8::basic::from_utf8;
use url::Url;

use super::{JoinLink, Status};

/// Undoes the escapes of a TEXT value (RFC 5545, 3.3.11). Unknown ones are kept as they are: some
/// publishers do not escape the backslash, and `\d` is then a backslash and a `d`.
pub fn unescape(value: &str) -> Cow<'_, str> {
    let Some(mut next) = memchr(b'\\', value.as_bytes()) else { return value.into() };
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    loop {
        let at = next;
        out.push_str(&rest[..at]);
        let (text, taken) = match rest.as_bytes().get(at + 1) {
            Some(b'n' | b'N') => ("\n", 2),
            Some(b',') => (",", 2),
            Some(b';') => (";", 2),
            Some(b'\\') => ("\\", 2),
            _ => ("\\", 1),
        };
        out.push_str(text);
        rest = &rest[at + taken..];
        match memchr(b'\\', rest.as_bytes()) {
            Some(at) => next = at,
            None => break,
        }
    }
    out.push_str(rest);
    out.into()
}

/// Splits a value at the commas that are not escaped; the parts are still escaped.
pub fn split_list(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(sign) = value.get(at..).and_then(|rest| memchr2(b',', b'\\', rest.as_bytes())) {
        at += sign + 1;
        if value.as_bytes()[at - 1] == b',' {
            parts.push(&value[start..at - 1]);
            start = at;
        } else {
            at += value[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    parts.push(&value[start..]);
    parts
}

/// Removes what cannot be seen and can deceive: control characters (but line feeds), bidi controls
/// and zero-width characters. Joiners stay where they make an emoji, or a letter of a script that
/// needs them.
pub fn clean<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if plain_prefix(text.as_bytes()) == text.len() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    let mut last = ' ';
    loop {
        let plain = plain_prefix(rest.as_bytes());
        if let Some(letter) = plain.checked_sub(1) {
            out.push_str(&rest[..plain]);
            last = char::from(rest.as_bytes()[letter]);
            rest = &rest[plain..];
        }
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { return out.into() };
        rest = chars.as_str();
        let next = chars.next();
        let keep = match c {
            '\n' => true,
            '\r' => {
                if next != Some('\n') {
                    out.push('\n');
                }
                false
            }
            '\t' | '\u{2028}' | '\u{2029}' => {
                out.push(if c == '\t' { ' ' } else { '\n' });
                false
            }
            '\u{200d}' => {
                let next = next.unwrap_or(' ');
                (is_emoji(last) && is_emoji(next)) || needs_joiners(last)
            }
            '\u{200c}' => needs_joiners(last),
            '\u{fe0e}' | '\u{fe0f}' => {
                is_emoji(last)
                    || (matches!(last, '0'..='9' | '#' | '*') && next == Some('\u{20e3}'))
            }
            // Tags: the flags of Scotland, Wales and England.
            '\u{e0020}'..='\u{e007f}' => matches!(last, '\u{1f3f4}' | '\u{e0020}'..='\u{e007f}'),
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0d}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' => false,
            c => !c.is_control(),
        };
        if keep {
            out.push(c);
            last = c;
        }
    }
}

/// How many bytes at the beginning are ASCII that can be seen, or line feeds: nearly all of most
/// texts, so they are looked at by many.
fn plain_prefix(bytes: &[u8]) -> usize {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    if !bytes.first().is_some_and(is_plain) {
        return 0;
    }
    let (chunks, _) = bytes.as_chunks::<32>();
    let all = |chunk: &&[u8; 32]| chunk.iter().fold(true, |all, byte| all & is_plain(byte));
    let whole = chunks.iter().take_while(all).count() * 32;
    whole + bytes[whole..].iter().take_while(|byte| is_plain(byte)).count()
}

fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2190}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}')
}

/// Arabic, Syriac, the scripts of India, Mongolian and others between.
fn needs_joiners(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{1cff}') && c.is_alphanumeric() || matches!(c, '\u{900}'..='\u{dff}')
}

/// One line without blanks at its ends or twice in a row.
pub fn single_line<'a>(text: impl Into<Cow<'a, str>>) -> String {
    let text = text.into();
    if is_single_line(&text) {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// A single line without what cannot be seen.
pub fn clean_line(value: &str) -> String {
    match value.is_ascii() && is_single_line(value) {
        true => value.to_owned(),
        false => single_line(clean(value)),
    }
}

/// A TEXT value as a single line.
pub fn label(value: &str) -> String {
    clean_line(&unescape(value))
}

/// Whether it is sure to be one: no blank but single ones between two signs, no control characters,
/// no letter that may be a blank.
fn is_single_line(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fits = |sign: u8, next: u8| {
        let is_control = (sign < b' ') | (sign == 0x7f);
        let may_be_blank = (sign == 0xc2) | matches!(sign, 0xe1..=0xe3);
        !is_control & !may_be_blank & ((sign != b' ') | (next != b' '))
    };
    !bytes.is_empty() && !bytes.starts_with(b" ") && !bytes.ends_with(b" ") && all(bytes, fits)
}

/// Whether each sign fits the one behind it; behind the last one stands a letter.
#[inline]
fn all(signs: &[u8], fits: impl Fn(u8, u8) -> bool + Copy) -> bool {
    const MANY: usize = 16;
    // Without branches, so that the compiler makes it a few vector instructions.
    let many = |signs: &[u8; MANY + 1]| {
        let pairs = signs[..MANY].iter().zip(&signs[1..]);
        pairs.fold(true, |fit, (sign, next)| fit & fits(*sign, *next))
    };
    let mut padded = [b'x'; MANY + 1];
    let Some(end) = signs.len().checked_sub(MANY) else {
        padded[..signs.len()].copy_from_slice(signs);
        return many(&padded);
    };
    padded[..MANY].copy_from_slice(&signs[end..]);
    let starts = (0..end).step_by(MANY);
    many(&padded) && starts.filter_map(|at| signs[at..].first_chunk()).all(many)
}

/// An address on several lines as one: `Hall\nMain St` → `Hall, Main St`.
pub fn join_lines<'a>(text: impl Into<Cow<'a, str>>) -> String {
    let text = text.into();
    if memchr(b'\n', text.as_bytes()).is_none() {
        return single_line(text);
    }
    let mut out = String::new();
    for line in text.lines().map(single_line).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push_str(if out.ends_with([',', ';', ':']) { " " } else { ", " });
        }
        out.push_str(&line);
    }
    out
}

/// Running text without blanks at line ends and with at most one empty line in a row.
pub fn paragraphs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let line = rest[..end].trim_end();
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        out.push_str(line);
    }
    let blanks = out.len() - out.trim_start().len();
    out.drain(..blanks);
    out
}

// ---- all of that at once ----

/// A TEXT value that needed no more than [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    /// [`paragraphs`] would leave the text as it is.
    pub tidy: bool,
    /// How much was read: the value as it stands, and the line break after it.
    pub bytes: usize,
    /// Line breaks in that.
    pub breaks: usize,
}

/// Reads the TEXT value that a part of a feed begins with, up to the end of its line: what
/// [`unescape`] and [`clean`] make of it, but for blanks at its end. None for a value that holds
/// anything worth a closer look: nothing at all, signs that [`clean`] may take out, what is not
/// UTF-8, line breaks in any but the common form, more than `longest` bytes.
///
/// Nearly all that feeds consist of goes this way, so it is one pass that finds the end and takes
/// out folds and escapes. What costs time there is less the bytes than the branches that depend on
/// them: the places worth a look are found for many bytes at once. `room` saves an allocation.
pub fn read(raw: &[u8], longest: usize, room: &mut Vec<u8>) -> Option<Text> {
    let text = &raw[..raw.len().min(longest)];
    // Before what is read stand two signs that nothing is read into.
    const START: usize = 2;
    if room.len() < START + text.len() + WINDOW {
        room.resize(START + text.len() + WINDOW, 0);
    }
    room[..START].fill(0);
    let (mut at, mut to, mut breaks, mut tidy) = (0, START, 0, true);
    'value: loop {
        let (block, begun) = (at, to - START);
        let rest = text.get(block..)?;
        let tail;
        let window: &[u8; WINDOW] = match rest.first_chunk() {
            Some(window) => window,
            None => {
                tail = padded(rest);
                &tail
            }
        };
        let out: &mut [u8; WINDOW] = room[begun..].first_chunk_mut()?;
        let mut odd = odd_bytes(window.first_chunk()?);
        // Both are below BLOCK in here, which spares the checks.
        let (mut here, mut there) = (0, 0);
        loop {
            let end = odd.trailing_zeros() as usize;
            // More than counts, but of a length that is known.
            let mut run = here;
            while {
                let (from, to) = (run % BLOCK, START + (there + run - here) % BLOCK);
                out[to..to + RUN].copy_from_slice(&window[from..from + RUN]);
                run += RUN;
                run < end
            } {}
            there += end - here;
            if odd == 0 {
                (at, to) = (block + BLOCK, begun + START + there);
                break;
            }
            let (from, filled) = (end % BLOCK, START + there % BLOCK);
            let [byte, second, third] = [window[from], window[from + 1], window[from + 2]];
            here = end
                + match byte {
                    b'\\' if ESCAPED[second as usize] != 0 => {
                        let meant = ESCAPED[second as usize];
                        let before = [out[filled - 2], out[filled - 1]];
                        tidy &= (meant != b'\n') | ends_line(before);
                        out[filled] = meant;
                        there += 1;
                        2
                    }
                    b'\r' if second == b'\n' && is_blank(third) => {
                        breaks += 1;
                        3
                    }
                    b'\n' if is_blank(second) => {
                        breaks += 1;
                        2
                    }
                    b'\r' | b'\n' => {
                        let (length, next) = if byte == b'\n' { (1, second) } else { (2, third) };
                        let is_one = byte == b'\n' || second == b'\n';
                        if !is_one || matches!(next, b'\r' | b'\n' | 0) {
                            return None;
                        }
                        breaks += 1;
                        (at, to) = (block + end + length, begun + START + there);
                        break 'value;
                    }
                    b'\\' => {
                        // The fold may lie between the two signs of an escape.
                        let gap = fold(&window[from + 1..]);
                        let sign = window[from + 1 + gap];
                        if gap > 0 && matches!(sign, b'\r' | b'\n') {
                            return None;
                        }
                        let (meant, taken) = match ESCAPED[sign as usize] {
                            0 => (b'\\', 1),
                            meant => (meant, gap + 2),
                        };
                        let before = [out[filled - 2], out[filled - 1]];
                        tidy &= (meant != b'\n') | ends_line(before);
                        breaks += usize::from(taken > 2);
                        out[filled] = meant;
                        there += 1;
                        taken
                    }
                    0 if block + end == text.len() && text.len() == raw.len() => {
                        (at, to) = (block + end, begun + START + there);
                        break 'value;
                    }
                    _ => {
                        let length = letter(&window[from..])?;
                        out[filled..filled + 4].copy_from_slice(&window[from..from + 4]);
                        there += length;
                        length
                    }
                };
            match u64::MAX.checked_shl(here as u32) {
                Some(behind) => odd &= behind,
                None => {
                    (at, to) = (block + here, begun + START + there);
                    break;
                }
            }
        }
    }
    let text = &room[START..to];
    let blanks = text.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\n')).count();
    let text = from_utf8(&text[..text.len() - blanks]).ok().filter(|text| !text.is_empty())?;
    tidy &= !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace);
    Some(Text { text: text.to_owned(), tidy, bytes: at, breaks })
}

/// How much is looked at together, with room for what is read or written behind it.
const BLOCK: usize = 64;
const WINDOW: usize = 2 * BLOCK;
/// The end of a text, and what cannot be in one behind it.
fn padded(rest: &[u8]) -> [u8; WINDOW] {
    let mut tail = [0; WINDOW];
    tail[..rest.len()].copy_from_slice(rest);
    tail
}

/// Most runs between two places worth a look are shorter.
const RUN: usize = 32;

/// What is meant by a sign after a backslash; 0 for those that are no escape.
const ESCAPED: [u8; 256] = {
    let mut escaped = [0; 256];
    escaped[b'n' as usize] = b'\n';
    escaped[b'N' as usize] = b'\n';
    escaped[b',' as usize] = b',';
    escaped[b';' as usize] = b';';
    escaped[b'\\' as usize] = b'\\';
    escaped
};

/// Which of some bytes are worth a look: all but ASCII that can be seen and the bytes of most
/// Latin letters beyond it, and the backslash. A bit for each.
fn odd_bytes(block: &[u8; BLOCK]) -> u64 {
    // Without branches, so that the compiler makes it a few vector instructions.
    let is_plain = |byte| matches!(byte, b' '..=0xcc) & !matches!(byte, b'\\' | 0x7f | 0xc2);
    let odd = block.map(|byte| u8::from(!is_plain(byte)));
    odd.as_chunks::<8>().0.iter().rev().fold(0, |bits, word| {
        // The lowest bits of eight bytes, brought together in the highest byte.
        let word = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080);
        bits << 8 | word >> 56
    })
}

/// How long the fold is that a text begins with: a line break and a blank.
fn fold(text: &[u8]) -> usize {
    match text {
        [b'\r', b'\n', b' ' | b'\t', ..] => 3,
        [b'\n', b' ' | b'\t', ..] => 2,
        _ => 0,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether [`paragraphs`] would leave a line feed after these two signs.
fn ends_line(signs: [u8; 2]) -> bool {
    match signs {
        [before, b'\n'] => before != b'\n',
        [_, last] => last.is_ascii_graphic(),
    }
}

/// How long the letter beyond ASCII at the beginning is, where it is one that [`clean`] is sure to
/// keep.
fn letter(raw: &[u8]) -> Option<usize> {
    const fn next(byte: u8) -> bool {
        matches!(byte, 0x80..=0xbf)
    }
    let length = match *raw {
        // What is left out of U+0080 to U+07FF: C1 controls, U+00AD, U+034F, U+061C.
        [0xc2, 0xa0..=0xac | 0xae..=0xbf, ..] => 2,
        [0xcd, 0x80..=0x8e | 0x90..=0xbf, ..] => 2,
        [0xd8, 0x80..=0x9b | 0x9d..=0xbf, ..] => 2,
        [0xc3..=0xcc | 0xce..=0xd7 | 0xd9..=0xdf, b, ..] if next(b) => 2,
        // Of U+2000 to U+4FFF: joiners, marks of direction, line separators, U+3164.
        [0xe2, 0x80, 0x80..=0x8a | 0x90..=0xa7 | 0xaf..=0xbf, ..] => 3,
        [0xe2, 0x81, 0x80..=0x9f | 0xb0..=0xbf, ..] => 3,
        [0xe2, 0x82..=0xbf, c, ..] if next(c) => 3,
        [0xe3, 0x80..=0x84 | 0x86..=0xbf, c, ..] if next(c) => 3,
        // Most letters of Chinese and Korean, and the most common emoji.
        [0xe4..=0xec, b, c, ..] if next(b) && next(c) => 3,
        [0xf0, 0x90..=0xbf, c, d, ..] if next(c) && next(d) => 4,
        _ => return None,
    };
    Some(length)
}

// ---- titles ----

/// Words that publishers put before a title, in the languages seen.
const STATUS_WORDS: [(&str, Status); 13] = [
    ("cancelled", Status::Cancelled),
    ("canceled", Status::Cancelled),
    ("abgesagt", Status::Cancelled),
    ("annulée", Status::Cancelled),
    ("annulé", Status::Cancelled),
    ("annullato", Status::Cancelled),
    ("cancelado", Status::Cancelled),
    ("cancelada", Status::Cancelled),
    ("geannuleerd", Status::Cancelled),
    ("postponed", Status::Postponed),
    ("aplazado", Status::Postponed),
    ("reportée", Status::Postponed),
    ("reporté", Status::Postponed),
];

/// `Canceled: Talk`, `[POSTPONED] Talk`, `*CANCELLED* Talk` → the status and `Talk`.
///
/// A word counts only when a sign sets it off, or when it alone is in capitals: `Cancelled flights:
/// a history` is a title.
pub fn status_prefix(title: &str) -> Option<(Status, &str)> {
    // Nearly all titles.
    if let [first, ..] = title.as_bytes()
        && first.is_ascii_alphanumeric()
        && !b"acgpr".contains(&first.to_ascii_lowercase())
    {
        return None;
    }
    let opening = |c: char| c.is_whitespace() || "[(*{!<-–—~_#".contains(c);
    let bare = title.trim_start_matches(opening);
    let opened = !title[..title.len() - bare.len()].trim().is_empty();
    if !bare.starts_with(['a', 'A', 'c', 'C', 'g', 'G', 'p', 'P', 'r', 'R']) {
        return None;
    }
    let (word, status) = STATUS_WORDS.iter().find(|(word, _)| {
        let mut head = bare.chars();
        word.chars().all(|w| head.next().is_some_and(|c| c.to_lowercase().eq([w])))
    })?;
    let length: usize = bare.chars().take(word.chars().count()).map(char::len_utf8).sum();
    let (said, after) = bare.split_at(length);
    let rest =
        after.trim_start_matches(|c: char| c.is_whitespace() || "])*}>!:-–—|~_#,".contains(c));
    let sign = &after[..after.len() - rest.len()];
    let closed = sign.contains([']', ')', '*', '}', '>', '!', ':', '|', '–', '—', '~'])
        || (sign.contains('-') && sign.contains(char::is_whitespace))
        || (opened && sign.contains(['-', '_', '#']));
    let shouted = !sign.is_empty()
        && said.chars().all(|c| !c.is_lowercase())
        && rest.chars().any(char::is_lowercase);
    if rest.is_empty() {
        // Nothing but the word: it stays the title.
        return sign.chars().all(|c| !c.is_alphanumeric()).then_some((*status, title));
    }
    (closed || shouted).then_some((*status, rest))
}

// ---- addresses ----

/// The address, if it is an http(s) one; blanks and what else must not stand in one are encoded.
pub fn http_url(text: &str) -> Option<String> {
    let text = text.trim();
    if is_canonical_url(text) {
        return Some(text.to_owned());
    }
    let head = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    if !(head.starts_with("http://") || head.starts_with("https://")) || text.len() > LONGEST_URL {
        return None;
    }
    let url = Url::parse(text).ok()?;
    url.host_str().filter(|host| !host.is_empty())?;
    Some(url.into())
}

/// As [`http_url`], for many addresses of one site: what comes before the path is remembered.
pub fn http_url_of(text: &str, site: &mut String) -> Option<String> {
    let path = text.trim_ascii().strip_prefix(site.as_str()).filter(|_| !site.is_empty());
    if path.is_some_and(|path| path.starts_with('/') && is_canonical_path(path.as_bytes()))
        && text.len() <= LONGEST_URL
    {
        return Some(text.trim_ascii().to_owned());
    }
    let url = http_url(text)?;
    if let Some(slash) = canonical_site(&url) {
        url[..slash].clone_into(site);
    }
    Some(url)
}

const LONGEST_URL: usize = 8192;

/// Whether an http(s) address stands as [`Url`] would write it: such a one is not taken apart.
/// Says no to some that do.
fn is_canonical_url(text: &str) -> bool {
    text.len() <= LONGEST_URL
        && canonical_site(text).is_some_and(|slash| is_canonical_path(&text.as_bytes()[slash..]))
}

/// Where the path of such an address begins, if what comes before it stands as it should.
fn canonical_site(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let slash = memchr(b'/', rest.as_bytes())?;
    let host = &rest.as_bytes()[..slash];
    // No numbers of IPv4, and nothing that IDNA has a say in.
    let mut labels = host.split(|byte| *byte == b'.');
    let is_label = |label: &[u8]| {
        matches!(label, [b'a'..=b'z', ..] | [b'0'..=b'9', .., b'a'..=b'z'])
            && label.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with(b"xn--")
            && label.last() != Some(&b'-')
    };
    let is_top = |label: &[u8]| !label.is_empty() && label.iter().all(u8::is_ascii_lowercase);
    let fits = host.len() <= 253 && is_top(labels.next_back()?) && labels.all(is_label);
    fits.then_some(text.len() - rest.len() + slash)
}

/// Whether [`Url`] leaves a path or query as it is.
fn is_canonical_path(path: &[u8]) -> bool {
    all(path, |sign, next| {
        let is_plain = (sign | 0x20).is_ascii_lowercase() & (sign >= b'A')
            | matches!(sign, b'('..=b':' | b'%' | b'&' | b'!' | b'=' | b'?' | b'@' | b'_' | b'~');
        // `/./` and `/../` are taken out, also as `%2e`.
        is_plain & ((sign != b'/') | ((next != b'.') & (next != b'%')))
    })
}

/// Decodes `%41`; `None` when the result is no UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hex = |at: usize| (*bytes.get(at)? as char).to_digit(16);
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

// ---- meetings ----

/// The first link into an online meeting in a text.
pub fn join_link(text: &str) -> Option<JoinLink> {
    let colons = memchr_iter(b':', text.as_bytes());
    let schemes = colons.filter(|at| text.as_bytes()[*at..].starts_with(b"://")).filter_map(|at| {
        ["https", "http"].into_iter().find_map(|scheme| {
            let start = at.checked_sub(scheme.len())?;
            text.get(start..at)?.eq_ignore_ascii_case(scheme).then_some((start, at + 3 - start))
        })
    });
    schemes.take(64).find_map(|(at, host)| meeting(&text[at..], host))
}

const LONGEST_LINK: usize = 4096;

/// Where the link ends that a text begins with.
fn link_end(text: &str) -> usize {
    let plain = text.bytes().take(LONGEST_LINK).take_while(|byte| LINK[*byte as usize]).count();
    if plain == LONGEST_LINK || text.as_bytes().get(plain).is_none_or(u8::is_ascii) {
        return plain;
    }
    let ends = |c: char| match c {
        '\0'..='\x7f' => !LINK[c as usize],
        c => c.is_whitespace() || c.is_control(),
    };
    let mut chars = text.char_indices();
    let end = chars.by_ref().take(LONGEST_LINK).find(|(_, c)| ends(*c)).or_else(|| chars.next());
    end.map_or(text.len(), |(at, _)| at)
}

/// Bytes of a link in running text; those beyond ASCII are to be looked at.
const LINK: [bool; 256] = {
    let mut link = [false; 256];
    let mut byte = b'!' as usize;
    while byte <= b'~' as usize {
        let ends = matches!(
            byte as u8,
            b'<' | b'>' | b'"' | b'\'' | b'`' | b'\\' | b'^' | b'{' | b'}' | b'|'
        );
        link[byte] = !ends;
        byte += 1;
    }
    link
};

/// Reads the meeting link that a text begins with; its host begins at `host`. What follows it need
/// not be set off.
fn meeting(text: &str, host: usize) -> Option<JoinLink> {
    match is_elsewhere(&text.as_bytes()[host..]) {
        true => None,
        false => way_in(text, host),
    }
}

fn way_in(text: &str, host: usize) -> Option<JoinLink> {
    let text = &text[..link_end(text)];
    let host_end = text[host..].bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let host_end = host_end.map_or(text.len(), |end| host + end);
    let host = &text[host..host_end];
    let lower;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let host = match host.bytes().all(is_plain) {
        true => host,
        false => {
            lower = host.to_ascii_lowercase();
            lower.rsplit('@').next()?.split(':').next()?
        }
    };
    let path = &text[host_end..];
    let on = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    };
    let (service, length) = if on("zoom.us") || on("zoomgov.com") || on("zoom.com") {
        ("Zoom", zoom(path)?)
    } else if on("teams.microsoft.com") || on("teams.live.com") || on("teams.cloud.microsoft") {
        let meets = ["/l/meetup-join/", "/meet/", "/l/meeting/", "/dl/launcher"];
        ("Teams", meets.iter().any(|p| path.starts_with(p)).then(|| loose(path))?)
    } else if host == "meet.google.com" {
        let code = path.get(..13)?;
        let right = code.bytes().enumerate().all(|(i, b)| match i {
            0 => b == b'/',
            4 | 9 => b == b'-',
            _ => b.is_ascii_lowercase(),
        });
        ("Google Meet", if right { 13 } else { path.starts_with("/lookup/").then(|| loose(path))? })
    } else if on("webex.com") {
        let meets = ["/meet/", "/join/", "/j.php", "/wbxmjs/", "/m/", "/webappng/"];
        ("Webex", meets.iter().any(|p| path.contains(p)).then(|| loose(path))?)
    } else if on("gotomeeting.com") || on("gotomeet.me") || host == "meet.goto.com" {
        ("GoTo", (path.len() > 1).then(|| loose(path))?)
    } else if host == "meet.jit.si" || host == "8x8.vc" || host.starts_with("jitsi.") {
        ("Jitsi", (path.len() > 1).then(|| loose(path))?)
    } else if path
        .as_bytes()
        .split(|byte| *byte == b'/')
        .any(|part| matches!(part, b"bigbluebutton" | b"b" | b"rooms"))
        && (path.contains("/bigbluebutton/")
            || room_code(path, "/b/")
            || room_code(path, "/rooms/"))
    {
        ("BigBlueButton", loose(path))
    } else {
        return None;
    };
    let url = http_url(&text[..host_end + length])?;
    Some(JoinLink { service: service.to_owned(), url })
}

/// Whether a link, from its host on, is sure to lead to no meeting. Most links do.
fn is_elsewhere(link: &[u8]) -> bool {
    let is_of_host = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let end = link.iter().position(|byte| !is_of_host(byte)).unwrap_or(link.len());
    let (host, path) = link.split_at(end);
    let top = host.iter().rposition(|byte| *byte == b'.').map_or(host, |dot| &host[dot..]);
    if matches!(top, b".us" | b".com" | b".me" | b".si" | b".vc" | b".microsoft")
        || host.starts_with(b"jitsi.")
        || !matches!(path, [b'/', ..])
    {
        return false;
    }
    let mut before = b' ';
    for byte in path.iter().take(LONGEST_LINK) {
        if !byte.is_ascii() || before == b'/' && matches!(byte, b'b' | b'r') {
            return false;
        }
        if !LINK[*byte as usize] {
            break;
        }
        before = *byte;
    }
    true
}

/// `/b/abc-def-ghi`, `/rooms/abc-def-ghi-jkl/join`: what Greenlight calls its rooms.
fn room_code(path: &str, prefix: &str) -> bool {
    let Some((_, rest)) = path.split_once(prefix) else { return false };
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
    let code = &rest[..end];
    let mut parts = code.split('-');
    code.matches('-').count() >= 2
        && parts.all(|part| part.len() == 3 && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Where a Zoom path ends: its meeting number is digits, so glued text can be told from it.
fn zoom(path: &str) -> Option<usize> {
    for prefix in ["/j/", "/w/", "/s/", "/wc/join/"] {
        if let Some(rest) = path.strip_prefix(prefix) {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits < 9 {
                return None;
            }
            let end = prefix.len() + digits;
            let query = if path[end..].starts_with('?') { loose(&path[end..]) } else { 0 };
            return Some(end + query);
        }
    }
    let known = ["/my/", "/meeting/", "/webinar/", "/wc/"];
    known.iter().any(|p| path.starts_with(p) && path.len() > p.len()).then(|| loose(path))
}

/// Where a link ends that has no form of its own: before signs that close a sentence, and before
/// words that are put after links and run into them.
fn loose(path: &str) -> usize {
    const GLUED: [&[u8]; 6] =
        [b"passcode", b"password:", b"passwort:", b"meeting id", b"meetingid:", b"kenncode"];
    let bytes = path.as_bytes();
    let glued = |at: &usize| {
        let rest = &bytes[*at..];
        // `?passcode=` is a part of the link.
        matches!(rest[0], b'p' | b'P' | b'm' | b'M' | b'k' | b'K')
            && GLUED.iter().any(|word| {
                rest.split_at_checked(word.len()).is_some_and(|(head, tail)| {
                    head.eq_ignore_ascii_case(word) && tail.first() != Some(&b'=')
                })
            })
    };
    let ascii = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(path.len());
    let end = (1..ascii).find(glued).unwrap_or(ascii);
    path[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*', '_']).len()
}

/// What stands in for something hidden.
const HIDDEN: &str = "[hidden]";

const SECRET_LABELS: [&str; 22] = [
    "one tap mobile",
    "numeric password",
    "passcode",
    "password",
    "passwort",
    "kenncode",
    "mot de passe",
    "code secret",
    "contraseña",
    "meeting number",
    "meeting id",
    "meeting-id",
    "meeting_id",
    "meetingid",
    "webinar id",
    "webinar-id",
    "conference id",
    "access code",
    "participant id",
    "host key",
    "event number",
    "pwd",
];

/// Hides passcodes, meeting numbers and what dials them from a text: `Passcode: 424242`,
/// `Meeting ID: 912 3456 7890`, `?pwd=…`, `+15550123456,,91234567890#`.
///
/// Works on labels, so a code that stands alone is not found.
pub fn redact_passcodes(text: &str) -> String {
    let text = redact_queries(text);
    let text = redact_dialling(&text);
    // Of equal length byte for byte, so that positions agree.
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let Some(label) = label_at(&lower[at..]) else {
            let Some(c) = text[at..].chars().next() else { break };
            out.push(c);
            at += c.len_utf8();
            continue;
        };
        let end = at + label.len();
        out.push_str(&text[at..end]);
        at = end;
        let Some((gap, length)) = secret_after(&text[end..]) else { continue };
        out.push_str(&text[end..end + gap]);
        out.push_str(HIDDEN);
        // Another label may be glued to the secret, or stand where one should be.
        at = end + gap;
        let mut hidden_to = at + length;
        while at < hidden_to {
            if let Some(label) = label_at(&lower[at..]) {
                let end = at + label.len();
                let glued =
                    secret_after(&text[end..]).map_or(end, |(gap, length)| end + gap + length);
                hidden_to = hidden_to.max(glued);
                at = end;
            } else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
    }
    out
}

/// The label that a text in lower case begins with.
fn label_at(lower: &str) -> Option<&'static str> {
    SECRET_LABELS.iter().copied().find(|label| lower.starts_with(label))
}

/// After a label: how far to the secret, and how long it is.
fn secret_after(text: &str) -> Option<(usize, usize)> {
    let blank = |text: &str| text.len() - text.trim_start_matches([' ', '\u{a0}', '*', '_']).len();
    let mut gap = blank(text);
    // `Passcode (if asked): 1`
    if text[gap..].starts_with('(')
        && let Some(close) = text[gap..].find(')').filter(|close| *close < 40)
    {
        gap += close + 1;
        gap += blank(&text[gap..]);
    }
    let mut separated = false;
    for word in ["is:", "is "] {
        if text[gap..].get(..3).is_some_and(|head| head.eq_ignore_ascii_case(word)) {
            (gap, separated) = (gap + 3, true);
            break;
        }
    }
    let signs = text[gap..].len() - text[gap..].trim_start_matches([':', '=', '#', '–', '-']).len();
    separated |= signs > 0;
    gap += signs;
    gap += if separated {
        text[gap..].len() - text[gap..].trim_start().len()
    } else {
        blank(&text[gap..])
    };
    let token = text[gap..]
        .find(|c: char| c.is_whitespace() || "<>\"".contains(c))
        .unwrap_or(text.len() - gap);
    let has_digit = text[gap..gap + token].bytes().any(|b| b.is_ascii_digit());
    if token == 0 || !(separated || has_digit) {
        return None;
    }
    // `912 3456 7890`
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '\u{a0}');
    let group = text[gap..].find(|c| !numeric(c)).unwrap_or(text.len() - gap);
    let group = text[gap..gap + group].trim_end_matches([' ', '-', '\u{a0}']).len();
    Some((gap, token.max(group)))
}

/// Takes `pwd=…` out of links.
fn redact_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The first parameter is gone: the next one begins the query.
    let mut first_gone = false;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        first_gone &= before.is_empty();
        let name_end = tail[1..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(tail.len(), |end| end + 1);
        let secret = SECRET_PARAMETERS.iter().any(|n| n.eq_ignore_ascii_case(&tail[1..name_end]));
        if secret && tail[name_end..].starts_with('=') {
            first_gone |= tail.starts_with('?');
            let end = tail[name_end..]
                .find(|c: char| c == '&' || c.is_whitespace() || "<>\"'".contains(c))
                .map_or(tail.len(), |end| name_end + end);
            rest = &tail[end..];
        } else {
            out.push_str(if first_gone { "?" } else { &tail[..1] });
            first_gone = false;
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    out
}

/// Takes the meeting number and passcode out of `+15550123456,,91234567890#,,,,*424242#`.
fn redact_dialling(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(",,") {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let end =
            tail.find(|c: char| !(c.is_ascii_digit() || ",#*;".contains(c))).unwrap_or(tail.len());
        let dials = tail[..end].bytes().filter(u8::is_ascii_digit).count() >= 4
            && before.ends_with(|c: char| c.is_ascii_digit());
        if !dials {
            out.push_str(&tail[..end]);
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

const SECRET_PARAMETERS: [&str; 5] = ["pwd", "passcode", "password", "pass", "tk"];

/// The link without the passcode in its query; who opens it is asked for the passcode.
pub fn redact_join_url(link: &str) -> String {
    let Ok(mut url) = Url::parse(link) else {
        return link.split(['?', '#']).next().unwrap_or_default().to_owned();
    };
    let teams = url.host_str().is_some_and(|host| host.starts_with("teams."));
    let mut kept = String::new();
    for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        let secret = SECRET_PARAMETERS.iter().any(|n| n.eq_ignore_ascii_case(name))
            || (teams && name == "p");
        if !secret {
            let sign = if kept.is_empty() { "" } else { "&" };
            let _ = write!(kept, "{sign}{pair}");
        }
    }
    url.set_query((!kept.is_empty()).then_some(&kept));
    if url.fragment().is_some_and(|f| f.contains("pwd=") || f.contains("success")) {
        url.set_fragment(None);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes() {
        for (value, expected) in [
            (r"a\, b\; c\nd\Ne", "a, b; c\nd\ne"),
            (r"\\n", r"\n"),
            (r"\d back\slash", r"\d back\slash"),
            ("raw; semi", "raw; semi"),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(unescape(value), expected, "{value}");
        }
        assert_eq!(split_list(r"a,b\,c,\\,,"), ["a", r"b\,c", r"\\", "", ""]);
    }

    #[test]
    fn invisible_characters() {
        for (value, expected) in [
            ("a\u{202e}b\u{2066}c\u{200f}", "abc"),
            ("a\u{200b}b\u{feff}c\u{ad}d\u{200d}e\u{fe0f}", "abcde"),
            ("a\0b\u{7}c\u{9b}d", "abcd"),
            ("a\tb\nc\r\nd\re", "a b\nc\nd\ne"),
            (
                "👩\u{200d}🔬 ❤\u{fe0f} 1\u{fe0f}\u{20e3}",
                "👩\u{200d}🔬 ❤\u{fe0f} 1\u{fe0f}\u{20e3}",
            ),
            ("👨🏽\u{200d}💻", "👨🏽\u{200d}💻"),
            ("🏴\u{e0067}\u{e007f}x\u{e0067}", "🏴\u{e0067}\u{e007f}x"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("naïve café – “x”", "naïve café – “x”"),
        ] {
            assert_eq!(clean(value), expected, "{value:?}");
        }
    }

    #[test]
    fn lines_and_paragraphs() {
        assert_eq!(single_line("  a \n b\u{a0} c "), "a b c");
        assert_eq!(join_lines("Hall\n\n Main St,\n1"), "Hall, Main St, 1");
        assert_eq!(paragraphs("\n\n a \n\n\n\nb  \nc\n\n"), "a\n\nb\nc");
    }

    #[test]
    fn titles_that_tell_a_status() {
        use Status::{Cancelled, Postponed};
        for (title, expected) in [
            ("CANCELLED: Talk", Some((Cancelled, "Talk"))),
            ("Canceled: Talk", Some((Cancelled, "Talk"))),
            ("canceled - Talk", Some((Cancelled, "Talk"))),
            ("[CANCELLED] Talk", Some((Cancelled, "Talk"))),
            ("(cancelled) Talk", Some((Cancelled, "Talk"))),
            ("*CANCELLED* Talk", Some((Cancelled, "Talk"))),
            ("CANCELED!! Talk", Some((Cancelled, "Talk"))),
            ("CANCELLED Talk", Some((Cancelled, "Talk"))),
            ("POSTPONED: Talk", Some((Postponed, "Talk"))),
            ("Postponed - Talk", Some((Postponed, "Talk"))),
            ("Postponed – Talk", Some((Postponed, "Talk"))),
            ("Abgesagt: Vortrag", Some((Cancelled, "Vortrag"))),
            ("Annulée : cours", Some((Cancelled, "cours"))),
            ("Cancelled", Some((Cancelled, "Cancelled"))),
            ("Cancelled flights: a history", None),
            ("Cancellation policy", None),
            ("CANCELLED CULTURE", None),
            ("Postponed-payment plans", None),
            ("Talk", None),
            ("", None),
            ("[", None),
        ] {
            assert_eq!(status_prefix(title), expected, "{title}");
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            (" https://example.edu/a b ", Some("https://example.edu/a%20b")),
            ("HTTP://Example.edu", Some("http://example.edu/")),
            ("https://example.edu/\u{202e}x", Some("https://example.edu/%E2%80%AEx")),
            ("javascript:alert(1)", None),
            ("ftp://example.edu/", None),
            ("www.example.edu", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(http_url(text).as_deref(), expected, "{text}");
        }
        assert_eq!(percent_decode("a%3A%C3%A9%2").as_deref(), Some("a:é%2"));
        assert_eq!(percent_decode("%FF"), None);
    }

    #[test]
    fn ways_into_meetings() {
        for (text, expected) in [
            (
                "x https://example.zoom.us/j/91234567890Passcode: 424242",
                Some(("Zoom", "https://example.zoom.us/j/91234567890")),
            ),
            (
                "https://example.zoom.us/j/91234567890?pwd=aB3.1Passcode: 1",
                Some(("Zoom", "https://example.zoom.us/j/91234567890?pwd=aB3.1")),
            ),
            ("https://zoom.us/my/jane.doe, then", Some(("Zoom", "https://zoom.us/my/jane.doe"))),
            ("https://example.zoom.us/j/951", None),
            ("https://zoom.us/pricing", None),
            ("https://notzoom.us/j/91234567890", None),
            ("https://zoom.us.evil.example/j/91234567890", None),
            ("https://zoom.us@evil.example/j/91234567890", None),
            (
                "https://teams.microsoft.com/l/meetup-join/19%3a/0?context=%7b",
                Some(("Teams", "https://teams.microsoft.com/l/meetup-join/19%3a/0?context=%7b")),
            ),
            (
                "https://teams.live.com/meet/9311?p=abc",
                Some(("Teams", "https://teams.live.com/meet/9311?p=abc")),
            ),
            (
                "<https://meet.google.com/abc-defg-hij>",
                Some(("Google Meet", "https://meet.google.com/abc-defg-hij")),
            ),
            (
                "https://meet.google.com/abc-defg-hijklm",
                Some(("Google Meet", "https://meet.google.com/abc-defg-hij")),
            ),
            ("https://meet.google.com/", None),
            (
                "https://example.webex.com/example/j.php?MTID=m1.",
                Some(("Webex", "https://example.webex.com/example/j.php?MTID=m1")),
            ),
            ("https://meet.goto.com/123456789", Some(("GoTo", "https://meet.goto.com/123456789"))),
            ("https://meet.jit.si/Talk", Some(("Jitsi", "https://meet.jit.si/Talk"))),
            (
                "https://bbb.example.edu/b/abc-def-ghi",
                Some(("BigBlueButton", "https://bbb.example.edu/b/abc-def-ghi")),
            ),
            (
                "https://bbb.example.edu/rooms/abc-def-ghi-jkl/join",
                Some(("BigBlueButton", "https://bbb.example.edu/rooms/abc-def-ghi-jkl/join")),
            ),
            ("https://example.edu/b/abc", None),
            (
                "https://example.edu/ and https://zoom.us/j/91234567890",
                Some(("Zoom", "https://zoom.us/j/91234567890")),
            ),
            ("https://", None),
            ("http", None),
        ] {
            let found = join_link(text);
            let found = found.as_ref().map(|link| (link.service.as_str(), link.url.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn passcodes_are_hidden() {
        for (text, expected) in [
            (
                "https://example.zoom.us/j/91234567890Passcode: 424242",
                "https://example.zoom.us/j/91234567890Passcode: [hidden]",
            ),
            ("Passcode: 424242\nBring tea", "Passcode: [hidden]\nBring tea"),
            ("PASSWORD=x7!y next", "PASSWORD=[hidden] next"),
            ("The password is: tea. Come", "The password is: [hidden] Come"),
            ("Passcode 424242", "Passcode [hidden]"),
            ("Passcode:\n424242\nx", "Passcode:\n[hidden]\nx"),
            ("Passcode (if asked): 12", "Passcode (if asked): [hidden]"),
            ("Meeting ID: 912 3456 7890\nx", "Meeting ID: [hidden]\nx"),
            ("Meeting ID: 912-3456-7890 (x)", "Meeting ID: [hidden] (x)"),
            ("https://zoom.us/j/1?pwd=abc&x=1 y", "https://zoom.us/j/1?x=1 y"),
            ("https://zoom.us/j/1?x=1&pwd=abc y", "https://zoom.us/j/1?x=1 y"),
            ("https://zoom.us/j/1?pwd=a&pwd=b&x=1&y", "https://zoom.us/j/1?x=1&y"),
            ("https://zoom.us/j/1?pwd=abc", "https://zoom.us/j/1"),
            ("+15550123456,,91234567890#,,,,*424242# US", "+15550123456 US"),
            ("Passwort: geheim", "Passwort: [hidden]"),
            ("A talk on password managers", "A talk on password managers"),
            ("Yes, 1,,2", "Yes, 1,,2"),
            ("What? Tea & more", "What? Tea & more"),
            ("", ""),
        ] {
            assert_eq!(redact_passcodes(text), expected, "{text}");
        }
    }

    #[test]
    fn join_links_without_passcode() {
        for (link, expected) in [
            ("https://zoom.us/j/1?pwd=abc", "https://zoom.us/j/1"),
            ("https://zoom.us/j/1?a=1&PWD=abc&b=2", "https://zoom.us/j/1?a=1&b=2"),
            ("https://zoom.us/w/1?tk=abc&pwd=d#success", "https://zoom.us/w/1"),
            ("https://teams.live.com/meet/9311?p=abc", "https://teams.live.com/meet/9311"),
            ("https://x.webex.com/j.php?MTID=m1", "https://x.webex.com/j.php?MTID=m1"),
            ("no link?pwd=1", "no link"),
        ] {
            assert_eq!(redact_join_url(link), expected, "{link}");
        }
    }

    #[test]
    fn common_values_are_read_at_once() {
        let tidy = |text: &str| Some((text.to_owned(), true));
        let loose = |text: &str| Some((text.to_owned(), false));
        for (raw, expected) in [
            ("Talk", tidy("Talk")),
            ("One\\, two\\; \\\\ \\d\\n\\NThree\\n ", tidy("One, two; \\ \\d\n\nThree")),
            ("a l\r\n ong on\n\te\\\r\n nand\\\r\n more", tidy("a long one\nand\\more")),
            (
                "Übung – naïve “日本” 👩 für 12\u{a0}€",
                tidy("Übung – naïve “日本” 👩 für 12\u{a0}€"),
            ),
            ("a \\nb", loose("a \nb")),
            ("\\na", loose("\na")),
            ("a\\n\\n\\nb", loose("a\n\n\nb")),
            (" a", loose(" a")),
            ("a\u{a0}", loose("a\u{a0}")),
            ("", None),
            (" \\n ", None),
            ("a\tb", None),
            ("a\u{200b}b", None),
            ("a\u{9b}b", None),
            ("a\u{ad}b", None),
        ] {
            let mut room = b"left over from the last one".to_vec();
            let read = read(raw.as_bytes(), 100, &mut room);
            assert_eq!(read.map(|read| (read.text, read.tidy)), expected, "{raw:?}");
        }
        assert_eq!(read(b"caf\xe9 x", 100, &mut Vec::new()), None);
        let folded = read(b"caf\xc3\r\n \xa9", 100, &mut Vec::new()).unwrap();
        assert_eq!((folded.text.as_str(), folded.breaks), ("café", 1));
        assert_eq!(read(&[b'x'; 101], 100, &mut Vec::new()), None);
    }

    #[test]
    fn the_end_of_a_value_is_found_on_the_way() {
        for (raw, text, rest, breaks) in [
            ("Talk\r\nURL:x", "Talk", "URL:x", 1),
            ("Talk\nURL:x", "Talk", "URL:x", 1),
            ("Ta\r\n lk\\\r\n\tn1\r\n  2\r\nURL:x", "Talk\n1 2", "URL:x", 4),
            ("Talk\\\r\nn", "Talk\\", "n", 1),
        ] {
            let read = read(raw.as_bytes(), 100, &mut Vec::new()).unwrap();
            assert_eq!((&*read.text, &raw[read.bytes..], read.breaks), (text, rest, breaks));
        }
        for raw in ["a\rb", "a\r\n\r\n b", "a\n\nb", "a\r\n", "a\\\r\n \r\n n\r\nb"] {
            assert_eq!(read(raw.as_bytes(), 100, &mut Vec::new()), None, "{raw:?}");
        }
    }

    #[test]
    fn canonical_addresses() {
        for (address, is_canonical) in [
            ("https://events.example.edu/event/number-1/?a=b,c&d=%20", true),
            ("http://4u.example.edu/", true),
            ("https://example.edu", false),
            ("HTTPS://example.edu/", false),
            ("https://example.edu:443/", false),
            ("https://user@example.edu/", false),
            ("https://10.0.0.1/", false),
            ("https://Example.edu/", false),
            ("https://example.edu/a/../b", false),
            ("https://example.edu/a/%2e%2e/b", false),
            ("https://example.edu/a b", false),
        ] {
            assert_eq!(is_canonical_url(address), is_canonical, "{address}");
        }
    }

    proptest! {
        #[test]
        fn reading_at_once_is_reading_in_steps(
            text in "([a-z ]{0,20}|\\\\[nN,;\\\\x]?|[éèü’“日👩]){0,40}|(\\PC|[a-z ]{0,20}|\\\\[nN,;\\\\x]?|[éèü’“日👩]|[\u{200b}\u{ad}\u{85}\t]){0,40}",
            width in 1_usize..80,
            fold in "(\r\n|\n|\r)[ \t]",
        ) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(width).collect();
            let raw = pieces.join(fold.as_bytes());
            let next = [&raw, &b"\r\nX:y"[..]].concat();
            if let Some(read) = read(&next, 10_000, &mut vec![b'x'; 100]) {
                let steps = clean(unescape(&text));
                prop_assert_eq!(&next[read.bytes..], b"X:y");
                prop_assert_eq!(read.breaks, next.iter().filter(|byte| **byte == b'\n').count());
                prop_assert_eq!(&read.text, steps.trim_end_matches([' ', '\n']));
                prop_assert!(!read.tidy || read.text == paragraphs(&steps));
            }
        }

        #[test]
        fn a_single_line_is_left_as_it_is(text in "([a-z]{1,6}|[ é]){0,20}|([ -~]{0,5}|[\u{a0}\u{2003}\u{3000}\u{ad}éö日\t\n  ]){0,12}") {
            let words: Vec<&str> = text.split_whitespace().collect();
            prop_assert_eq!(single_line(&*text), words.join(" "));
            if is_single_line(&text) {
                prop_assert_eq!(&words.join(" "), &text);
                prop_assert!(!text.contains(char::is_control));
            }
        }

        #[test]
        fn what_leads_elsewhere_leads_to_no_meeting(
            host in "(meet|jitsi|8x8|a-b|zoom|teams|webex|x@y|É){0,2}(\\.(us|vc|edu|com|me|jit\\.si|microsoft|live|cloud)){0,2}(:8)?",
            path in "([/?# ]|/b/|/rooms/|/bigbluebutton/|abc-def-ghi|[a-z<.é]|/j/123456789|/meet/){0,6}",
        ) {
            let link = format!("{host}{path}");
            if is_elsewhere(link.as_bytes()) {
                prop_assert_eq!(way_in(&format!("https://{link}"), 8), None);
            }
        }

        #[test]
        fn a_site_known_before_changes_no_address(
            sites in prop::collection::vec("https?://(a\\.edu|[a-z0-9.:-]{1,8})|[ -~]{0,6}", 1..3),
            paths in prop::collection::vec("/(/|\\.|%2e|[!-~]|[a-z]){0,9}| ?[ -~é]{0,4}", 1..6),
        ) {
            let mut site = String::new();
            for address in sites.iter().flat_map(|site| paths.iter().map(move |path| format!("{site}{path}"))) {
                prop_assert_eq!(http_url_of(&address, &mut site), http_url(&address));
            }
        }

        #[test]
        fn a_canonical_address_stays_as_it_is(
            host in "a\\.edu|[a-z0-9-]{1,5}(\\.([a-z0-9-]{1,4}|xn--[a-z]{2})){0,3}",
            path in "(/|\\.|\\.\\.|%2e|%|[!-~]|[a-z]{3}){0,8}",
        ) {
            let address = format!("https://{host}/{path}");
            if is_canonical_url(&address) {
                prop_assert_eq!(Url::parse(&address).map(String::from), Ok(address));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|Passcode: |https://zoom.us/j/1|[?&]pwd=|,,1|<p>|[\\[(]?cancel+ed|\\\\){0,20}") {
            let _ = (redact_passcodes(&text), redact_join_url(&text), join_link(&text));
            let _ = (status_prefix(&text), unescape(&text));
            prop_assert_eq!(clean(clean(&text)), clean(&text));
            let link = format!("{text} https://zoom.us/j/1?a=1&pwd=q7Xy {text}");
            prop_assert!(!redact_passcodes(&link).contains("q7Xy"));
            let label = format!("{text} Passcode: 4242421 {text}");
            prop_assert!(!redact_passcodes(&label).contains("4242421"));
        }
    }
}

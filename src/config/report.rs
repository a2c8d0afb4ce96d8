//! Errors that point at line and key, and never quote a secret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with a configuration file, all of it; its `Display` is the full report, ready to
/// print. No line ends in a newline but those between.
#[derive(Clone, Debug)]
pub struct ConfigError {
    path: PathBuf,
    problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
struct Problem {
    place: Option<Place>,
    message: String,
    hint: Option<String>,
}

/// A place in the file with its line as it may be shown: kept without the file's text.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// 1-based.
    line: usize,
    /// 1-based, in characters.
    column: usize,
    /// The line, secrets masked.
    quote: String,
    /// What stands before the underline: blanks, and tabs where the line has them.
    indent: String,
    /// Characters underlined, at least one.
    width: usize,
}

/// What is wrong and what to do about it, before it is known where.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub message: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Complaint { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Gathers what is found in one text.
pub(super) struct Report<'a> {
    path: &'a Path,
    text: &'a str,
    /// Byte ranges that are never shown.
    masked: Vec<Range<usize>>,
    found: Vec<(Range<usize>, Complaint)>,
}

impl<'a> Report<'a> {
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Report { path, text, masked: Vec::new(), found: Vec::new() }
    }

    /// Notes an error at a byte range of the text; `0..0` is the file as a whole.
    pub fn error(&mut self, span: Range<usize>, complaint: Complaint) {
        self.found.push((span, complaint));
    }

    /// Keeps a byte range out of every quoted line.
    pub fn mask(&mut self, span: Range<usize>) {
        self.masked.push(span);
    }

    /// The error, when anything was found; in the order of the file.
    pub fn finish(mut self) -> Result<Self, ConfigError> {
        if self.found.is_empty() {
            return Ok(self);
        }
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(span, _)| span.start);
        let problems = found
            .into_iter()
            .map(|(span, complaint)| Problem {
                place: (span != (0..0)).then(|| self.place(span)),
                message: complaint.message,
                hint: complaint.hint,
            })
            .collect();
        Err(ConfigError { path: self.path.to_owned(), problems })
    }

    /// Where a byte range is, for an error that is only found later. A range over several lines is
    /// cut at the end of the first.
    pub fn place(&self, span: Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let before = &self.text[..start];
        let from = before.rfind('\n').map_or(0, |newline| newline + 1);
        let to = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let line = self.text[from..to].trim_end_matches('\r');
        let to = from + line.len();
        let start = start.min(to);
        let mut masked = mask(line);
        masked.extend(self.masked.iter().filter(|m| m.start < to && m.end > from).map(|m| {
            let cut = |at: usize| line.floor_char_boundary(at.clamp(from, to) - from);
            cut(m.start)..cut(m.end)
        }));
        masked.sort_by_key(|m| m.start);

        let shown = |part: &str| -> String {
            part.chars().map(|c| if c.is_control() && c != '\t' { '\u{FFFD}' } else { c }).collect()
        };
        // How the line up to `end` is shown; a masked part counts whole as soon as it is reached.
        let up_to = |end: usize| {
            let mut quote = String::new();
            let mut at = 0;
            for mask in masked.iter().filter(|m| m.start < end) {
                if mask.start >= at {
                    quote.push_str(&shown(&line[at..mask.start]));
                    quote.push_str("***");
                }
                at = at.max(mask.end);
            }
            quote.push_str(&shown(line.get(at..end).unwrap_or_default()));
            quote
        };
        // An underline that would begin inside a masked part begins with it.
        let inside = masked.iter().find(|m| m.start < start - from && start - from < m.end);
        let indent = up_to(inside.map_or(start - from, |m| m.start));
        let width = up_to(end.min(to) - from).chars().count() - indent.chars().count();
        Place {
            line: before.matches('\n').count() + 1,
            column: self.text[from..start].chars().count() + 1,
            quote: up_to(line.len()).trim_end().to_owned(),
            indent: indent.chars().map(|c| if c == '\t' { c } else { ' ' }).collect(),
            width: width.max(1),
        }
    }
}

impl ConfigError {
    /// An error of the file as a whole.
    pub(super) fn of_file(path: &Path, complaint: Complaint) -> Self {
        let Complaint { message, hint } = complaint;
        ConfigError {
            path: path.to_owned(),
            problems: vec![Problem { place: None, message, hint }],
        }
    }

    /// Errors found after the text was read; none is no error.
    pub(super) fn of_places(path: &Path, found: Vec<(Place, Complaint)>) -> Result<(), Self> {
        if found.is_empty() {
            return Ok(());
        }
        let problems = found
            .into_iter()
            .map(|(place, Complaint { message, hint })| Problem {
                place: Some(place),
                message,
                hint,
            })
            .collect();
        Err(ConfigError { path: path.to_owned(), problems })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (i, Problem { place, message, hint }) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            if let Some(Place { line, column, quote, indent, width }) = place {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                let underline = "^".repeat(*width);
                write!(f, "error: {path}:{line}:{column}: {message}\n{gutter} |\n")?;
                write!(f, "{number} | {quote}\n{gutter} | {indent}{underline}")?;
            } else {
                write!(f, "error: {path}: {message}")?;
            }
            if let Some(hint) = hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What a key that holds a secret has in its name.
const SECRET_KEYS: [&str; 10] = [
    "token", "password", "passwd", "secret", "bearer", "webhook", "headers", "key", "auth",
    "cookie",
];

/// Whether a key's name says that it holds a secret.
pub(super) fn may_hold_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|word| name.contains(word))
}

/// The parts of a line that may be secret, whatever is wrong with the line: what is written to a
/// key that should name a source, user and path of a URL, and long random words. It errs on the
/// side of showing less.
fn mask(line: &str) -> Vec<Range<usize>> {
    let mut masked = Vec::new();
    let inline = line.match_indices(['{', ',']).map(|(at, _)| at + 1);
    for at in std::iter::once(0).chain(inline) {
        let key = line[at..].trim_start_matches([' ', '\t', '#']);
        let rest = key.trim_start_matches(|c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '"' | '\'')
        });
        let name = &key[..key.len() - rest.len()];
        let value = rest.trim_start_matches([' ', '\t', '=', ':']);
        let source = value.strip_prefix('{').map(str::trim_start);
        if !may_hold_secret(name)
            || (at > 0 && value.len() == rest.trim_start().len())
            || source
                .is_some_and(|s| ["env", "file", "credential"].iter().any(|k| s.starts_with(k)))
        {
            continue;
        }
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let inner = quote.map_or(value, |_| &value[1..]);
        let start = line.len() - inner.len();
        // To the closing quote, where that is certain; a triple quote seems to close at once.
        let length = quote
            .and_then(|quote| inner.find(quote))
            .filter(|&length| length > 0 && !inner[..length].contains('\\'));
        masked.push(start..length.map_or(line.trim_end().len(), |length| start + length));
    }
    for (colon, _) in line.match_indices("://") {
        let before = line[..colon].trim_end_matches(|c: char| c.is_ascii_alphanumeric());
        let scheme = &line[before.len()..colon];
        let rest = &line[colon + 3..];
        let quote = before.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let rest = &rest[..quote.and_then(|quote| rest.find(quote)).unwrap_or(rest.len())];
        let start = colon + 3;
        let host = rest.rfind('@').map_or(0, |at| at + 1);
        if host > 1 {
            masked.push(start..start + host - 1);
        }
        let path = rest[host..].find(['/', '?']).map_or(rest.len(), |slash| host + slash + 1);
        if !matches!(scheme, "file" | "smtp" | "smtps") && path < rest.len() {
            masked.push(start + path..start + rest.len());
        }
    }
    let mut at = 0;
    for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        let random = word.len() >= 32
            && word.contains(|c: char| c.is_ascii_digit())
            && word.contains(|c: char| c.is_ascii_alphabetic());
        if random {
            masked.push(at..at + word.len());
        }
        at += word.len() + line[at + word.len()..].chars().next().map_or(0, char::len_utf8);
    }
    masked.retain(|range| range.start < range.end);
    masked
}

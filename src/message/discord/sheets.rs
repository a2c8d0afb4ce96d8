//! A list over several messages.

use super::super::words::utf16;
use super::super::{Group, and_more};
use super::{MAX_DESCRIPTION, MAX_EMBEDS, MAX_PIECE, entry, fit};

/// A channel is not flooded with more; what is beyond is counted.
const MAX_SHEETS: usize = 25;
/// Room for the closing "… and 12345 more".
const CLOSING: usize = 40;
const MAX_PAGE: usize = MAX_DESCRIPTION - CLOSING;

/// What one message holds.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Descriptions of consecutive embeds; at least one, which may be empty.
    pub pages: Vec<String>,
    /// Units left.
    room: usize,
}

/// The groups in as few messages as will hold them, each with `room` for descriptions; `more`
/// events are only counted.
///
/// A group is not cut where a message ends. Only one that is too large for a message is: it begins
/// a message of its own and goes on in the next, as "(continued)".
pub(super) fn sheets(intro: &str, groups: &[Group], more: usize, room: usize) -> Vec<Sheet> {
    let mut sheets =
        Sheets { done: Vec::new(), room: room.saturating_sub(CLOSING), blank: true, full: false };
    sheets.begin(intro);
    let mut left_out = more;
    for group in groups {
        let label = fit(&group.label, MAX_PIECE);
        let entries: Vec<String> = group.cards.iter().map(entry).collect();
        let whole = format!("### {label}\n{}", entries.join("\n\n"));
        if utf16(&whole) <= MAX_PAGE.min(sheets.room) {
            if !sheets.add(&whole, "\n") && !sheets.turn(&whole) {
                left_out += entries.len();
            }
            continue;
        }
        for (at, entry) in entries.iter().enumerate() {
            let first = format!("### {label}\n{entry}");
            let told = match at {
                0 if sheets.blank => sheets.add(&first, "\n") || sheets.turn(&first),
                0 => sheets.turn(&first),
                _ => {
                    sheets.add(entry, "\n\n")
                        || sheets.turn(&format!("### {label} (continued)\n{entry}"))
                }
            };
            left_out += usize::from(!told);
        }
    }
    let mut sheets = sheets.done;
    let page = sheets.last_mut().and_then(|sheet| sheet.pages.last_mut());
    if let (Some(more), Some(page)) = (and_more(left_out), page) {
        page.push_str(if page.is_empty() { "" } else { "\n\n" });
        page.push_str(&more);
    }
    sheets
}

struct Sheets {
    done: Vec<Sheet>,
    /// Of each message.
    room: usize,
    /// Nothing but the introduction is written.
    blank: bool,
    /// What comes after something that was left out is left out too.
    full: bool,
}

impl Sheets {
    fn begin(&mut self, text: &str) {
        let room = self.room.saturating_sub(utf16(text));
        self.done.push(Sheet { pages: vec![text.to_owned()], room });
    }

    /// Adds a text whole to the last message, in its last embed or a new one; says whether there
    /// was room.
    fn add(&mut self, text: &str, separator: &str) -> bool {
        let (size, gap) = (utf16(text), utf16(separator));
        let Some(sheet) = self.done.last_mut().filter(|_| !self.full) else { return false };
        if size > MAX_PAGE || size + gap > sheet.room {
            return false;
        }
        let count = sheet.pages.len();
        match sheet.pages.last_mut() {
            Some(page) if page.is_empty() => page.push_str(text),
            Some(page) if utf16(page) + gap + size <= MAX_PAGE => {
                page.push_str(separator);
                page.push_str(text);
            }
            _ if count < MAX_EMBEDS => sheet.pages.push(text.to_owned()),
            _ => return false,
        }
        sheet.room -= size + gap;
        self.blank = false;
        true
    }

    /// Begins a message with the text; false where there are enough of them.
    fn turn(&mut self, text: &str) -> bool {
        self.full |= self.done.len() == MAX_SHEETS;
        if !self.full {
            self.begin(text);
            self.blank = false;
        }
        !self.full
    }
}

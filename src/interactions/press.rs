//! What buttons and menus carry: at most 100 characters that say what a press means, so that nothing
//! need be kept for them and they work for ever. Pure.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::commands::{MAX_DAYS, MAX_SEARCH};
use crate::calendar::EventKey;
use crate::message::words;
use crate::plan::Item;

/// Names one occurrence of an event of a feed, in 34 characters at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    feed: u32,
    /// [`EventKey::hash64`]
    pub event: u64,
    /// Seconds since 1970.
    start: i64,
}

impl Handle {
    pub fn new(feed: &str, key: &EventKey, start: Timestamp) -> Handle {
        Handle { feed: hash32(feed), event: key.hash64(), start: start.as_second() }
    }

    /// Whether the event is of this feed.
    pub fn is_of(&self, feed: &str) -> bool {
        self.feed == hash32(feed)
    }

    pub fn start(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap_or_default()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{:016x}.{:x}", self.feed, self.event, self.start)
    }
}

impl FromStr for Handle {
    type Err = ();

    fn from_str(text: &str) -> Result<Handle, ()> {
        let mut parts = text.split('.');
        let mut part = || parts.next().filter(|part| part.len() <= 16).ok_or(());
        let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| ());
        let handle = Handle {
            feed: u32::try_from(hex(part()?)?).map_err(|_| ())?,
            event: hex(part()?)?,
            // Two's complement, as it is written.
            start: hex(part()?)?.cast_signed(),
        };
        match parts.next() {
            None if handle.to_string() == text => Ok(handle),
            _ => Err(()),
        }
    }
}

/// The same for the same words in any case.
pub fn hash32(text: &str) -> u32 {
    (xxh3_64(text.to_lowercase().as_bytes()) & 0xFFFF_FFFF) as u32
}

/// What a button under a post carries that asks for a reminder of its event.
pub fn remind(item: &Item) -> String {
    Press::Remind(Handle::new(&item.feed, &item.key, item.start)).to_string()
}

/// What `/upcoming` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub days: u16,
    /// [`hash32`] of its name.
    pub category: Option<u32>,
    /// Clean, at most [`MAX_SEARCH`] units.
    pub search: String,
    pub page: usize,
}

impl Query {
    pub fn new(days: u16, category: Option<&str>, search: &str) -> Query {
        let search = words::line(search);
        // Cut like this it stays the same through its buttons.
        let search = words::cut(&search, MAX_SEARCH, words::utf16).trim_end_matches('…').to_owned();
        Query {
            days: days.clamp(1, MAX_DAYS),
            category: category.map(hash32),
            search: search.trim().to_owned(),
            page: 0,
        }
    }
}

/// A press on a button, or a choice from a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Press {
    /// Another page of `/upcoming`.
    Page(Query),
    /// Everything about an event; the one chosen, where none is named.
    Show(Option<Handle>),
    Why(Handle),
    /// Remind me, as is usual.
    Remind(Handle),
    /// A menu of leads; of the whole series or of one occurrence.
    Leads {
        handle: Handle,
        series: bool,
    },
    /// Take requests back: the one named, or those chosen.
    Stop(Option<String>),
}

impl Press {
    /// Whether the answer takes the place of the message with the button, which was ours to the
    /// same person alone.
    pub fn replaces(&self) -> bool {
        matches!(self, Press::Page(_) | Press::Leads { .. } | Press::Stop(_))
    }
}

impl fmt::Display for Press {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Press::Page(Query { days, category, search, page }) => {
                write!(f, "page:{days}:{page}:")?;
                if let Some(category) = category {
                    write!(f, "{category:08x}")?;
                }
                write!(f, ":{search}")
            }
            Press::Show(None) => f.write_str("show:"),
            Press::Show(Some(handle)) => write!(f, "show:{handle}"),
            Press::Why(handle) => write!(f, "why:{handle}"),
            Press::Remind(handle) => write!(f, "remind:{handle}"),
            Press::Leads { handle, series } => {
                write!(f, "leads:{}:{handle}", if *series { "all" } else { "one" })
            }
            Press::Stop(None) => f.write_str("stop:"),
            Press::Stop(Some(id)) => write!(f, "stop:{id}"),
        }
    }
}

impl FromStr for Press {
    type Err = ();

    fn from_str(text: &str) -> Result<Press, ()> {
        let (verb, rest) = text.split_once(':').ok_or(())?;
        Ok(match verb {
            "page" => {
                let mut parts = rest.splitn(4, ':');
                let mut part = || parts.next().ok_or(());
                let days = part()?.parse().map_err(|_| ())?;
                let page: usize = part()?.parse().map_err(|_| ())?;
                let category = match part()? {
                    "" => None,
                    hash => Some(u32::from_str_radix(hash, 16).map_err(|_| ())?),
                };
                let query = Query::new(days, None, part()?);
                Press::Page(Query { category, page, ..query })
            }
            "show" if rest.is_empty() => Press::Show(None),
            "show" => Press::Show(Some(rest.parse()?)),
            "why" => Press::Why(rest.parse()?),
            "remind" => Press::Remind(rest.parse()?),
            "leads" => {
                let (which, handle) = rest.split_once(':').ok_or(())?;
                Press::Leads { handle: handle.parse()?, series: which == "all" }
            }
            "stop" if rest.is_empty() => Press::Stop(None),
            "stop" if rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Press::Stop(Some(rest.to_owned()))
            }
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(start: i64) -> Handle {
        let start = Timestamp::from_second(start).unwrap();
        Handle::new("seminars", &EventKey("uid-1@example.edu".into()), start)
    }

    #[test]
    fn handles_survive_their_text() {
        for start in [0, 1_790_000_000, -1, -62_000_000_000, 250_000_000_000] {
            let one = handle(start);
            assert_eq!(one.to_string().parse(), Ok(one));
            assert_eq!(one.start().as_second(), start);
            assert!(one.to_string().len() <= 44);
        }
        for bad in ["", "a.b", "1.2.3.4", "+1.2.3", "00000001.0000000000000002.zz", "1.2.3"] {
            assert_eq!(bad.parse::<Handle>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn presses_survive_their_text() {
        let page = Query { page: 3, ..Query::new(14, Some("Colloquium"), "a: b:c  d") };
        for press in [
            Press::Page(page),
            Press::Show(None),
            Press::Show(Some(handle(5))),
            Press::Why(handle(5)),
            Press::Remind(handle(5)),
            Press::Leads { handle: handle(5), series: true },
            Press::Leads { handle: handle(5), series: false },
            Press::Stop(None),
            Press::Stop(Some("0123456789abcdef".to_owned())),
        ] {
            let text = press.to_string();
            assert_eq!(text.parse(), Ok(press), "{text}");
        }
        for bad in ["", "x", "page:", "page:1:2", "stop:../../", "leads:all", "remind:", "show:x"] {
            assert_eq!(bad.parse::<Press>(), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_search_fits_into_a_button(search in "\\PC{0,80}", days in 0u16.., page in 0usize..100_000) {
            let query = Query { page, ..Query::new(days, Some("x"), &search) };
            let text = Press::Page(query.clone()).to_string();
            prop_assert!(words::utf16(&text) <= 100, "{text}");
            prop_assert_eq!(text.parse(), Ok(Press::Page(query)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,120}") {
            let _ = text.parse::<Press>();
        }
    }
}

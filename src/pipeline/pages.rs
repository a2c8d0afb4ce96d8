//! The pages of a feed that shows only the beginning of a longer list.
//!
//! The Events Calendar gives 30 events, and with `tribe-bar-date` those from a day on. So the next
//! page begins on the day of the last event of this one; what both have is one event. Its numbered
//! pages are no use, because how far they are apart is a setting of the site.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil::Date};

use crate::calendar::publisher::Publisher;
use crate::config::{Feed, FeedUrl};

/// West of this no clock is.
const WESTERNMOST: SignedDuration = SignedDuration::from_hours(12);

/// A page to be asked for.
#[derive(Debug)]
pub struct Page {
    pub url: FeedUrl,
    /// The day of which the page before may not have shown all.
    pub cut: Option<Date>,
}

/// The way through the pages of one address.
#[derive(Debug)]
pub struct Walk {
    start: FeedUrl,
    /// Pages that may still be asked for.
    left: u32,
    /// The day on which the last page began; none for the first.
    from: Option<Date>,
}

impl Walk {
    pub fn new(feed: &Feed) -> Walk {
        Walk { start: feed.url.clone(), left: feed.pages.saturating_sub(1), from: None }
    }

    /// Whether a page after the first was asked for.
    pub fn has_begun(&self) -> bool {
        self.from.is_some()
    }

    /// The next page, after one of so many events whose last one starts at `last`; `zone` is the
    /// site's, as far as it is known. None where that was the last one.
    pub fn next(
        &mut self,
        publisher: Publisher,
        events: usize,
        last: Option<Timestamp>,
        zone: &TimeZone,
    ) -> Option<Page> {
        let FeedUrl::Http(url) = &self.start else { return None };
        if events < publisher.window()? {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let last = last?;
        // The earliest day that it can be there, if the zone is another one.
        let earliest = last.checked_sub(WESTERNMOST).ok()?.to_zoned_datetime(TimeZone::UTC).date();
        let (day, cut) = match self.from {
            None => (earliest, None),
            // A page begins on a later day than the one before it, or there would be no end. Of more
            // events on one day than a page holds, some are then out of reach.
            Some(from) => {
                let cut = last.to_zoned_datetime(zone.clone()).date() <= from;
                (earliest.max(from.tomorrow().ok()?), cut.then_some(from))
            }
        };
        self.from = Some(day);
        let mut next = url.clone();
        let others = url.query_pairs().filter(|(name, _)| name != "tribe-bar-date");
        let query = ("tribe-bar-date".into(), day.to_string().into());
        next.query_pairs_mut().clear().extend_pairs(others.chain([query]));
        Some(Page { url: FeedUrl::Http(next), cut })
    }
}

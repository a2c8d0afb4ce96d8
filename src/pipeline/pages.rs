//! The pages of a feed that shows only the beginning of a longer list.
//!
//! The Events Calendar gives 30 events, and with `tribe-bar-date` those from a day on. So the next
//! page begins on the day of the last event of this one; what both have is one event. Its numbered
//! pages are no use, because how far they are apart is a setting of the site.

use jiff::{SignedDuration, Timestamp, civil::Date};

use crate::calendar::publisher::Publisher;
use crate::config::{Feed, FeedUrl};

/// West of this no clock is.
const WESTERNMOST: SignedDuration = SignedDuration::from_hours(12);

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

    /// The address of the next page, after one of so many events whose last one starts then, in
    /// milliseconds since 1970. None where that was the last one.
    pub fn next(
        &mut self,
        publisher: Publisher,
        events: usize,
        last: Option<i64>,
    ) -> Option<FeedUrl> {
        let FeedUrl::Http(url) = &self.start else { return None };
        if events < publisher.window()? {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        // The earliest day that it can be there, for the zone of the site is not known.
        let last = Timestamp::from_millisecond(last?).ok()?.checked_sub(WESTERNMOST).ok()?;
        let day = last.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        // Of more events on one day than a page holds, some are out of reach.
        let day = self.from.and_then(|from| from.tomorrow().ok()).map_or(day, |from| from.max(day));
        self.from = Some(day);
        let mut next = url.clone();
        let others = url.query_pairs().filter(|(name, _)| name != "tribe-bar-date");
        let day = ("tribe-bar-date".into(), day.to_string().into());
        next.query_pairs_mut().clear().extend_pairs(others.chain([day]));
        Some(FeedUrl::Http(next))
    }
}

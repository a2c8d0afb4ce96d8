//! Dates and times as people read them.
//!
//! The weekday is always named, the zone always shown. Zones of North and South America and those
//! of the old `US/` and `Canada/` names get a 12-hour clock, all others a 24-hour one.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use crate::calendar::{Zones, local};

/// When something takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// Whole days, from the first to the last, both included.
    Days { first: Date, last: Date },
    /// Half-open; zero length where no end is known.
    Timed { start: Timestamp, end: Timestamp },
}

/// A phrase that tells a time, and the instants behind it for media that know the reader's zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The phrase, in the zone of the audience.
    pub said: String,
    /// None for whole days, which are the same days for every reader.
    pub instant: Option<Instant>,
}

/// What a [`Moment`] says, for media that write times in the reader's own zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    /// Date and time, to an end on the same day or another, if there is one.
    Full { start: Timestamp, end: Option<(Timestamp, bool)> },
    /// The time of day only.
    Clock(Timestamp),
    /// A time under a heading that names the audience's day: the phrase must stay as it is, and
    /// a reader elsewhere needs the instant beside it.
    OnDay(Timestamp),
    /// How far away it is.
    Away(Timestamp),
}

/// How an audience reads dates.
#[derive(Clone, Debug)]
pub(crate) struct Dates {
    zone: TimeZone,
    twelve_hours: bool,
}

impl Dates {
    /// For the audience of an IANA zone; an unknown name is read as UTC.
    pub fn new(zone: &str) -> Dates {
        let twelve_hours = ["America/", "US/", "Canada/"].iter().any(|area| zone.starts_with(area));
        Dates { zone: Zones::default().get(zone).unwrap_or(TimeZone::UTC), twelve_hours }
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The audience's day of an instant.
    pub fn day_of(&self, at: Timestamp) -> Date {
        local(at, &self.zone).date()
    }

    /// `Mon, Nov 23`.
    pub fn day(&self, day: Date) -> String {
        day.strftime("%a, %b %-d").to_string()
    }

    /// `Mon, Nov 23, 2026`.
    pub fn day_and_year(&self, day: Date) -> String {
        day.strftime("%a, %b %-d, %Y").to_string()
    }

    /// `Mon, Nov 23 – Sun, Nov 29, 2026`; one day where both are the same.
    pub fn days(&self, first: Date, last: Date) -> String {
        let end = self.day_and_year(last);
        if first >= last {
            self.day_and_year(first)
        } else if first.year() == last.year() {
            format!("{} – {end}", self.day(first))
        } else {
            format!("{} – {end}", self.day_and_year(first))
        }
    }

    /// `3:30 PM` or `15:30`.
    fn time(&self, time: Time) -> String {
        time.strftime(if self.twelve_hours { "%-I:%M %p" } else { "%H:%M" }).to_string()
    }

    /// `EST`; `UTC+03` for zones without letters of their own.
    fn abbreviation(&self, at: Timestamp) -> String {
        let info = self.zone.to_offset_info(at);
        let letters = info.abbreviation();
        if letters.starts_with(['+', '-']) { format!("UTC{letters}") } else { letters.to_owned() }
    }

    /// `4:45 PM EST`.
    pub fn clock(&self, at: Timestamp) -> Moment {
        let said = format!("{} {}", self.time(local(at, &self.zone).time()), self.abbreviation(at));
        Moment { said, instant: Some(Instant::Clock(at)) }
    }

    /// `at 3:30 PM EST on Wed, Dec 2`, or how long until then.
    pub fn away(&self, at: Timestamp) -> Moment {
        let said = format!("at {} on {}", self.clock(at).said, self.day(self.day_of(at)));
        Moment { said, instant: Some(Instant::Away(at)) }
    }

    /// `Wed, Dec 2, 3:30 PM`: enough to know the event by, for a subject line.
    pub fn short(&self, period: &Period) -> String {
        match *period {
            Period::Days { first, last } if first == last => self.day(first),
            Period::Days { first, last } => format!("{} – {}", self.day(first), self.day(last)),
            Period::Timed { start, .. } => {
                let start = local(start, &self.zone);
                format!("{}, {}", self.day(start.date()), self.time(start.time()))
            }
        }
    }

    /// `Wed, Dec 2, 2026, 3:30 PM – 4:45 PM EST`, `Fri, Dec 4, 2026 (all day)`.
    pub fn full(&self, period: &Period) -> Moment {
        match *period {
            Period::Days { first, last } => {
                Moment { said: format!("{} (all day)", self.days(first, last)), instant: None }
            }
            Period::Timed { start, end } => {
                let day = self.day_and_year(self.day_of(start));
                let said = format!("{day}, {}", self.hours(start, end));
                let other_day = !self.ends_on_its_day(start, end);
                let end = (end > start).then_some((end, other_day));
                Moment { said, instant: Some(Instant::Full { start, end }) }
            }
        }
    }

    /// As said under a heading that names `day`: `3:30 PM – 4:45 PM EST`, `All day, until Sun,
    /// Dec 6`.
    pub fn on_day(&self, period: &Period, day: Date) -> Moment {
        match *period {
            Period::Days { last, .. } => {
                let until =
                    if last > day { format!(", until {}", self.day(last)) } else { String::new() };
                Moment { said: format!("All day{until}"), instant: None }
            }
            Period::Timed { start, end } if self.day_of(start) < day => {
                let until = local(end, &self.zone);
                let said = format!(
                    "Until {}{} {}",
                    if until.date() > day {
                        format!("{}, ", self.day(until.date()))
                    } else {
                        String::new()
                    },
                    self.time(until.time()),
                    self.abbreviation(end)
                );
                Moment { said, instant: Some(Instant::OnDay(start)) }
            }
            Period::Timed { start, end } => {
                Moment { said: self.hours(start, end), instant: Some(Instant::OnDay(start)) }
            }
        }
    }

    /// Whether an end is on the day of the start, or at the midnight that closes it.
    fn ends_on_its_day(&self, start: Timestamp, end: Timestamp) -> bool {
        let (from, to) = (local(start, &self.zone), local(end, &self.zone));
        from.date() == to.date() || is_midnight_after(from.date(), to)
    }

    /// `3:30 PM – 4:45 PM EST`, `3:30 PM – Thu, Dec 3, 9:00 AM EST`, `10:00 PM – midnight EST`. Both
    /// abbreviations are shown where the clocks change in between.
    fn hours(&self, start: Timestamp, end: Timestamp) -> String {
        let (from, to) = (local(start, &self.zone), local(end, &self.zone));
        let (zone, zone_at_end) = (self.abbreviation(start), self.abbreviation(end));
        let begins = self.time(from.time());
        if end <= start {
            return format!("{begins} {zone}");
        }
        let begins = if zone == zone_at_end { begins } else { format!("{begins} {zone}") };
        let ends = if from.date() == to.date() {
            self.time(to.time())
        } else if is_midnight_after(from.date(), to) {
            "midnight".to_owned()
        } else if from.year() == to.year() {
            format!("{}, {}", self.day(to.date()), self.time(to.time()))
        } else {
            format!("{}, {}", self.day_and_year(to.date()), self.time(to.time()))
        };
        format!("{begins} – {ends} {zone_at_end}")
    }
}

fn is_midnight_after(day: Date, at: DateTime) -> bool {
    at.time() == civil::Time::midnight() && day.tomorrow().is_ok_and(|next| next == at.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_said_as_people_say_them() {
        for (zone, start, end, expected) in [
            (
                "America/New_York",
                "2026-12-02T20:30Z",
                "2026-12-02T21:45Z",
                "Wed, Dec 2, 2026, 3:30 PM – 4:45 PM EST",
            ),
            (
                "America/New_York",
                "2026-12-02T20:30Z",
                "2026-12-02T20:30Z",
                "Wed, Dec 2, 2026, 3:30 PM EST",
            ),
            (
                "America/New_York",
                "2026-12-02T20:30Z",
                "2026-12-03T14:00Z",
                "Wed, Dec 2, 2026, 3:30 PM – Thu, Dec 3, 9:00 AM EST",
            ),
            (
                "America/New_York",
                "2026-12-03T03:00Z",
                "2026-12-03T05:00Z",
                "Wed, Dec 2, 2026, 10:00 PM – midnight EST",
            ),
            (
                "America/New_York",
                "2027-01-01T02:00Z",
                "2027-01-01T08:00Z",
                "Thu, Dec 31, 2026, 9:00 PM – Fri, Jan 1, 2027, 3:00 AM EST",
            ),
            (
                "America/New_York",
                "2026-11-01T05:30Z",
                "2026-11-01T06:30Z",
                "Sun, Nov 1, 2026, 1:30 AM EDT – 1:30 AM EST",
            ),
            (
                "Europe/Berlin",
                "2026-12-02T20:30Z",
                "2026-12-02T21:45Z",
                "Wed, Dec 2, 2026, 21:30 – 22:45 CET",
            ),
            (
                "Asia/Dubai",
                "2026-12-02T10:00Z",
                "2026-12-02T11:00Z",
                "Wed, Dec 2, 2026, 14:00 – 15:00 UTC+04",
            ),
            (
                "No/Where",
                "2026-12-02T10:00Z",
                "2026-12-02T11:00Z",
                "Wed, Dec 2, 2026, 10:00 – 11:00 UTC",
            ),
        ] {
            let period = Period::Timed { start: start.parse().unwrap(), end: end.parse().unwrap() };
            assert_eq!(Dates::new(zone).full(&period).said, expected);
        }
    }

    #[test]
    fn whole_days_are_said_without_a_zone() {
        let dates = Dates::new("America/New_York");
        for (first, last, expected) in [
            ("2026-12-04", "2026-12-04", "Fri, Dec 4, 2026 (all day)"),
            ("2026-12-04", "2026-12-06", "Fri, Dec 4 – Sun, Dec 6, 2026 (all day)"),
            ("2026-12-31", "2027-01-02", "Thu, Dec 31, 2026 – Sat, Jan 2, 2027 (all day)"),
        ] {
            let period =
                Period::Days { first: first.parse().unwrap(), last: last.parse().unwrap() };
            assert_eq!(dates.full(&period), Moment { said: expected.to_owned(), instant: None });
        }
    }

    #[test]
    fn days_of_a_digest_say_what_is_left() {
        let dates = Dates::new("America/New_York");
        let timed = Period::Timed {
            start: "2026-12-02T20:30Z".parse().unwrap(),
            end: "2026-12-05T14:00Z".parse().unwrap(),
        };
        let days = Period::Days {
            first: "2026-12-02".parse().unwrap(),
            last: "2026-12-05".parse().unwrap(),
        };
        for (day, of_timed, of_days) in [
            ("2026-12-02", "3:30 PM – Sat, Dec 5, 9:00 AM EST", "All day, until Sat, Dec 5"),
            ("2026-12-03", "Until Sat, Dec 5, 9:00 AM EST", "All day, until Sat, Dec 5"),
            ("2026-12-05", "Until 9:00 AM EST", "All day"),
        ] {
            let day = day.parse().unwrap();
            assert_eq!(dates.on_day(&timed, day).said, of_timed);
            assert_eq!(dates.on_day(&days, day).said, of_days);
        }
    }
}

//! Recurrence rules to wall times (RFC 5545, 3.3.10).
//!
//! A rule divides time into periods, one for each `INTERVAL` of its `FREQ`; each period has a set
//! of dates, and `BYSETPOS` picks from it. Nothing in a period depends on the periods before, so
//! the first one that matters is found by division, however old the rule is. Only a `COUNT` needs
//! to know how many came before: by multiplication where every period holds the same number, else
//! by counting bits.
//!
//! Within a period the dates are one bit for each day of a month, and the times of day are a list.
//! All the parts that select days are masks over a month, so `BYMONTHDAY=-1` or `BYDAY=2TU` cost
//! a few shifts.

use jiff::civil;
use jiff::tz::TimeZone;

use super::{When, time};

/// A wall time: seconds since 1970-01-01T00:00:00 of a clock that is never changed.
pub type Wall = i64;

const DAY: i64 = 86_400;
/// No rule of use is longer.
const RULE_BYTES: usize = 2_048;
/// Times of day that a rule may list; `BYHOUR`, `BYMINUTE` and `BYSECOND` multiply.
const TIMES: usize = 3_600;
/// A period may have a million dates that are none of the window's: so many take as long as a step.
const PASSED: u32 = 64;

/// A rule with its values checked; parts that are absent are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    frequency: Frequency,
    interval: i64,
    count: Option<u64>,
    until: Option<Until>,
    /// 0 is Monday.
    week_start: i64,
    /// Bit 1 is January.
    months: u16,
    /// Bit 0 is the first of the month.
    month_days: u32,
    /// Bit 0 is the last of the month.
    month_days_back: u32,
    year_days: Vec<i64>,
    weeks: Vec<i64>,
    /// Bit 0 is Monday.
    weekdays: u8,
    /// `2TU`, `-1SU`: number and weekday.
    nth_weekdays: Vec<(i64, i64)>,
    hours: u64,
    minutes: u64,
    seconds: u64,
    positions: Vec<i64>,
    skip: Skip,
}

/// What becomes of a day that a month or year does not have (RFC 7529, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Omit,
    /// The day before it is taken.
    Backward,
    /// The day after it is taken.
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

/// The last moment of a rule, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    local: civil::DateTime,
    is_utc: bool,
}

/// Why the dates of a rule are not all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// No date can ever satisfy it.
    Never,
    /// It lists too many times of day.
    Dense,
    /// The steps given are spent.
    Spent,
}

/// A rule beginning at a time, ready to yield dates.
struct Plan<'r> {
    rule: &'r Rule,
    start: Wall,
    /// What makes a period: that of the rule, or a month where it comes to the same.
    frequency: Frequency,
    /// The number of the period in which the rule starts.
    first: i64,
    /// The rule's parts, with what the start implies where the rule says nothing.
    months: u16,
    month_days: u32,
    weekdays: u8,
    /// Whether some days of a year differ from others.
    selects_days: bool,
    /// Whether days that do not exist are moved, maybe out of their period.
    moves_days: bool,
    /// Seconds of each time within a period, from the beginning of a day, hour, minute or second.
    times: Vec<u32>,
    /// The month looked at last: its first day, its length, its days that satisfy the rule.
    month: (i64, i64, u32),
}

/// The days of one period: bit `n` of a mask is the day `n` days after the one beside it.
#[derive(Default)]
struct Days {
    masks: [(i64, u32); 14],
    len: usize,
}

impl Rule {
    /// Reads an `RRULE` or `EXRULE` value in upper case; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Rule, String> {
        if text.len() > RULE_BYTES {
            return Err("too long; not expanded".to_owned());
        }
        let mut rule = Rule {
            frequency: Frequency::Yearly,
            interval: 1,
            count: None,
            until: None,
            week_start: 0,
            months: 0,
            month_days: 0,
            month_days_back: 0,
            year_days: Vec::new(),
            weeks: Vec::new(),
            weekdays: 0,
            nth_weekdays: Vec::new(),
            hours: 0,
            minutes: 0,
            seconds: 0,
            positions: Vec::new(),
            skip: Skip::Omit,
        };
        let mut frequency = None;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("{part} is no part of a rule"))?;
            let (name, value) = (name.trim(), value.trim());
            if value.is_empty() {
                continue;
            }
            let read = match name {
                "FREQ" => match value {
                    "YEARLY" => Some(Frequency::Yearly),
                    "MONTHLY" => Some(Frequency::Monthly),
                    "WEEKLY" => Some(Frequency::Weekly),
                    "DAILY" => Some(Frequency::Daily),
                    "HOURLY" => Some(Frequency::Hourly),
                    "MINUTELY" => Some(Frequency::Minutely),
                    "SECONDLY" => Some(Frequency::Secondly),
                    _ => None,
                }
                .map(|value| frequency = Some(value)),
                "INTERVAL" => number(value)
                    .filter(|n| (1..=1_000_000_000).contains(n))
                    .map(|n| rule.interval = n),
                "COUNT" => match number(value) {
                    Some(0) | None => None,
                    // What some publishers write for a series without an end.
                    Some(..0) => Some(()),
                    Some(n @ 1..) => {
                        rule.count = u64::try_from(n).ok();
                        Some(())
                    }
                },
                "UNTIL" => Until::parse(value).map(|until| rule.until = Some(until)),
                "WKST" => weekday(value)
                    .filter(|(nth, _)| *nth == 0)
                    .map(|(_, weekday)| rule.week_start = weekday),
                "BYMONTH" => bits(value, 1, 12).map(|months| rule.months |= months as u16),
                "BYHOUR" => bits(value, 0, 23).map(|hours| rule.hours |= hours),
                "BYMINUTE" => bits(value, 0, 59).map(|minutes| rule.minutes |= minutes),
                // A leap second is the second before it (RFC 5545, 3.3.12).
                "BYSECOND" => bits(value, 0, 60)
                    .map(|seconds| rule.seconds |= seconds & !(1 << 60) | seconds >> 60 << 59),
                "BYMONTHDAY" => value.split(',').try_for_each(|day| {
                    match number(day).filter(|day| (1..=31).contains(&day.abs()))? {
                        day @ 1.. => rule.month_days |= 1 << (day - 1),
                        day => rule.month_days_back |= 1 << (-day - 1),
                    }
                    Some(())
                }),
                "BYYEARDAY" => numbers(value, 366, &mut rule.year_days),
                "BYWEEKNO" => numbers(value, 53, &mut rule.weeks),
                "BYSETPOS" => numbers(value, 366, &mut rule.positions),
                "BYDAY" => value.split(',').try_for_each(|day| {
                    match weekday(day)? {
                        (0, weekday) => rule.weekdays |= 1 << weekday,
                        nth => rule.nth_weekdays.push(nth),
                    }
                    Some(())
                }),
                "RSCALE" if value != "GREGORIAN" => {
                    return Err(format!(
                        "the calendar {value} is not supported; only the first date is kept"
                    ));
                }
                "RSCALE" => Some(()),
                "SKIP" => match value {
                    "OMIT" => Some(Skip::Omit),
                    "BACKWARD" => Some(Skip::Backward),
                    "FORWARD" => Some(Skip::Forward),
                    _ => None,
                }
                .map(|skip| rule.skip = skip),
                _ => return Err(format!("{name} is not understood; not expanded")),
            };
            read.ok_or_else(|| format!("{name} is not valid; not expanded"))?;
        }
        rule.frequency = frequency.ok_or("FREQ is missing; not expanded")?;
        if rule.frequency > Frequency::Monthly {
            // A number has a meaning within a month or a year only.
            for (_, weekday) in rule.nth_weekdays.drain(..) {
                rule.weekdays |= 1 << weekday;
            }
        }
        Ok(rule)
    }

    /// The last wall time of the rule in the event's zone, where `UNTIL` says one. For all-day
    /// events it is the day as written, because a time beside it says nothing; a date given to an
    /// event with a time includes that day.
    pub fn until(&self, start: &When, zone: &TimeZone) -> Option<civil::DateTime> {
        let until = self.until?;
        Some(match start {
            When::AllDay(_) => until.local.date().at(23, 59, 59, 0),
            _ if until.is_utc => zone.to_datetime(time::resolve(until.local, &TimeZone::UTC)),
            _ => until.local,
        })
    }

    /// What can be told at once, whatever the window: that the rule will yield no date at all after
    /// its event's start.
    pub fn fault(&self, start: &When) -> Option<&'static str> {
        match Plan::new(self, wall(start.local())).err()? {
            Shortfall::Never => Some("yields no date"),
            Shortfall::Dense | Shortfall::Spent => Some("too dense; not expanded"),
        }
    }

    /// Adds the wall times that lie in `from..=to` to `out`, in order, for a rule that begins at
    /// `start`. `UNTIL` is left to the caller, who knows the zone.
    ///
    /// Each period looked at and each date found takes one of `steps`, and so do some dozens of dates
    /// that are passed over.
    ///
    /// # Errors
    /// What was found until then is in `out`.
    pub fn dates(
        &self,
        start: Wall,
        from: Wall,
        to: Wall,
        steps: &mut u64,
        out: &mut Vec<Wall>,
    ) -> Result<(), Shortfall> {
        if start > to {
            return Ok(());
        }
        let mut plan = Plan::new(self, start)?;
        let from = from.max(start);
        let mut index = plan.index(from);
        if plan.moves_days {
            // The last day of the period before may lie in this one.
            index = (index - 1).max(0);
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        if self.count.is_some() && index > 0 {
            match plan.constant() {
                Some((cycle, number)) => {
                    // The first period is counted apart: the start may lie within it.
                    let cycles = (index - 1) / cycle;
                    let before = u64::try_from(cycles).unwrap_or(0).saturating_mul(number);
                    let first = plan.count_from(0, start);
                    left = left.saturating_sub(before.saturating_add(first));
                    index = 1 + cycles * cycle;
                }
                None => index = 0,
            }
        }
        self.tail(&mut plan, (index, left), (from, to), steps, out)
    }

    /// The dates from the period `index` on, of which `left` are left.
    fn tail(
        &self,
        plan: &mut Plan<'_>,
        (mut index, mut left): (i64, u64),
        (from, to): (Wall, Wall),
        steps: &mut u64,
        out: &mut Vec<Wall>,
    ) -> Result<(), Shortfall> {
        let mut positions = Vec::new();
        let mut last = Wall::MIN;
        let mut passed = 0;
        let early = if plan.moves_days { DAY } else { 0 };
        while left > 0 {
            let Some(begin) = plan.begin(index).filter(|begin| begin - early <= to) else { break };
            *steps = steps.checked_sub(1).ok_or(Shortfall::Spent)?;
            if let Some(next) = plan.next_allowed(begin, to, steps)? {
                index = plan.index_after(next, index);
                continue;
            }
            let days = plan.days(index);
            let times = &plan.times;
            index += 1;
            let mut emit = |at: Wall| {
                // A day that was moved may be there already.
                let is_there = plan.moves_days && at <= last;
                passed += u32::from(at < from || is_there);
                if passed == PASSED {
                    passed = 0;
                    *steps = steps.checked_sub(1).ok_or(Shortfall::Spent)?;
                }
                if at < plan.start || is_there {
                    return Ok(true);
                }
                last = at;
                if at > to || left == 0 {
                    return Ok(false);
                }
                left -= 1;
                if at >= from {
                    *steps = steps.checked_sub(1).ok_or(Shortfall::Spent)?;
                    out.push(at);
                }
                Ok(true)
            };
            if self.positions.is_empty() {
                if self.count.is_some() && begin >= plan.start && !plan.moves_days {
                    // Nothing of a period before the window is looked at one by one.
                    let next = plan.begin(index).unwrap_or(i64::MAX);
                    let size = days.len() * times.len() as u64;
                    if next <= from {
                        left = left.saturating_sub(size);
                        continue;
                    }
                }
                'period: for (first, mut mask) in days.iter() {
                    while mask != 0 {
                        let day = first + i64::from(mask.trailing_zeros());
                        mask &= mask - 1;
                        for time in times {
                            if !emit(plan.instant(day, begin, *time))? {
                                break 'period;
                            }
                        }
                    }
                }
            } else {
                self.chosen(days.len() * times.len() as u64, &mut positions);
                for position in &positions {
                    let (day, time) =
                        (position / times.len() as u64, position % times.len() as u64);
                    let day = days.nth(day);
                    if !emit(plan.instant(day, begin, times[time as usize]))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Which of a period's `size` dates `BYSETPOS` takes.
    fn chosen(&self, size: u64, out: &mut Vec<u64>) {
        out.clear();
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let index = |position: &i64| if *position > 0 { position - 1 } else { size + position };
        out.extend(
            self.positions
                .iter()
                .map(index)
                .filter(|index| (0..size).contains(index))
                .filter_map(|index| u64::try_from(index).ok()),
        );
        out.sort_unstable();
        out.dedup();
    }
}

impl Until {
    fn parse(value: &str) -> Option<Until> {
        let mut digits = [0_u8; 14];
        let (mut len, mut is_utc, mut split) = (0, false, None);
        for byte in value.bytes() {
            match byte {
                b'0'..=b'9' if len < 14 && !is_utc => {
                    digits[len] = byte - b'0';
                    len += 1;
                }
                b'T' if len == 8 && split.is_none() => split = Some(()),
                b'Z' if !is_utc && len > 8 => is_utc = true,
                b'-' | b':' => {}
                _ => return None,
            }
        }
        let two = |at: usize| (digits[at] * 10 + digits[at + 1]) as i8;
        let year = i16::from(two(0)) * 100 + i16::from(two(2));
        let date = civil::Date::new(year, two(4), two(6)).ok()?;
        let time = match (len, split) {
            (8, None) => civil::time(23, 59, 59, 0),
            (14, Some(())) => civil::Time::new(two(8), two(10), two(12).min(59), 0).ok()?,
            _ => return None,
        };
        Some(Until { local: date.to_datetime(time), is_utc })
    }
}

impl<'r> Plan<'r> {
    fn new(rule: &'r Rule, start: Wall) -> Result<Plan<'r>, Shortfall> {
        let day = start.div_euclid(DAY);
        let second = start.rem_euclid(DAY);
        let (mut months, mut month_days, mut weekdays) =
            (rule.months, rule.month_days, rule.weekdays);
        // What the rule does not say, its start does.
        let selects = month_days != 0 || rule.month_days_back != 0 || !rule.year_days.is_empty();
        if !selects && weekdays == 0 && rule.nth_weekdays.is_empty() {
            let (_, month, day_of_month) = civil(day);
            match rule.frequency {
                Frequency::Yearly if !rule.weeks.is_empty() => weekdays = 1 << weekday_of(day),
                Frequency::Yearly => {
                    if months == 0 {
                        months = 1 << month;
                    }
                    month_days = 1 << (day_of_month - 1);
                }
                Frequency::Monthly => month_days = 1 << (day_of_month - 1),
                Frequency::Weekly => weekdays = 1 << weekday_of(day),
                _ => {}
            }
        }
        let mut plan = Plan {
            rule,
            start,
            frequency: rule.frequency,
            first: 0,
            months,
            month_days,
            weekdays,
            selects_days: false,
            moves_days: false,
            times: Vec::new(),
            month: (0, 0, 0),
        };
        plan.selects_days = months != 0
            || month_days != 0
            || rule.month_days_back != 0
            || weekdays != 0
            || !rule.year_days.is_empty()
            || !rule.weeks.is_empty()
            || !rule.nth_weekdays.is_empty();
        let beyond = |days: u32| days >> 28 != 0;
        plan.moves_days = rule.skip != Skip::Omit
            && rule.frequency <= Frequency::Monthly
            && (beyond(month_days)
                || beyond(rule.month_days_back)
                || rule.year_days.iter().any(|day| day.abs() == 366));
        plan.set_times(second)?;
        if plan.never(second) {
            return Err(Shortfall::Never);
        }
        // Where no day is counted, and no period left out, a month of days is found at once.
        let alike = matches!(rule.frequency, Frequency::Daily | Frequency::Weekly)
            && rule.interval == 1
            && rule.count.is_none()
            && rule.positions.is_empty();
        if alike {
            plan.frequency = Frequency::Monthly;
        }
        plan.first = plan.period(start);
        Ok(plan)
    }

    /// The times within a period: all that the parts below its frequency list.
    fn set_times(&mut self, second: i64) -> Result<(), Shortfall> {
        let rule = self.rule;
        let default = |mask: u64, value: i64| if mask == 0 { 1 << value } else { mask };
        let (mut hours, mut minutes, mut seconds) = (1, 1, 1);
        if rule.frequency <= Frequency::Daily {
            hours = default(rule.hours, second / 3_600);
        }
        if rule.frequency <= Frequency::Hourly {
            minutes = default(rule.minutes, second / 60 % 60);
        }
        if rule.frequency <= Frequency::Minutely {
            seconds = default(rule.seconds, second % 60);
        }
        let number = [hours, minutes, seconds].map(|mask: u64| mask.count_ones() as usize);
        if number.iter().product::<usize>() > TIMES {
            return Err(Shortfall::Dense);
        }
        for hour in bits_of(hours) {
            for minute in bits_of(minutes) {
                self.times
                    .extend(bits_of(seconds).map(|second| hour * 3_600 + minute * 60 + second));
            }
        }
        Ok(())
    }

    /// Whether it can be told at once that there will never be a date.
    fn never(&self, second: i64) -> bool {
        const LONGEST: [u32; 13] = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let rule = self.rule;
        let no_such_day = !self.moves_days
            && self.months != 0
            && (self.month_days != 0 || rule.month_days_back != 0)
            && bits_of(u64::from(self.months)).all(|month| {
                let days = ones(LONGEST[month as usize]);
                (self.month_days | rule.month_days_back) & days == 0
            });
        let most = self.times.len() as u64
            * match rule.frequency {
                Frequency::Yearly => 366,
                Frequency::Monthly => 31,
                Frequency::Weekly => 7,
                _ => 1,
            };
        let no_such_position = !rule.positions.is_empty()
            && rule.positions.iter().all(|position| position.unsigned_abs() > most);
        // A rule within the day comes back to the same times of day for ever.
        let (unit, masks) = match rule.frequency {
            Frequency::Hourly => (3_600, [rule.hours, 0, 0]),
            Frequency::Minutely => (60, [rule.hours, rule.minutes, 0]),
            Frequency::Secondly => (1, [rule.hours, rule.minutes, rule.seconds]),
            _ => (DAY, [0; 3]),
        };
        let step = gcd(rule.interval, DAY / unit) * unit;
        let no_such_time = masks != [0; 3]
            && !(0..DAY / step).any(|n| {
                let at = second % step + n * step;
                let parts = [at / 3_600, at / 60 % 60, at % 60];
                masks.iter().zip(parts).all(|(mask, part)| *mask == 0 || mask >> part & 1 == 1)
            });
        no_such_day || no_such_position || no_such_time
    }

    /// The number of the period in which a wall time lies, counted from no particular one.
    fn period(&self, at: Wall) -> i64 {
        let day = at.div_euclid(DAY);
        match self.frequency {
            Frequency::Yearly => civil(day).0,
            Frequency::Monthly => {
                let (year, month, _) = civil(day);
                year * 12 + month - 1
            }
            Frequency::Weekly => (day + 3 - self.rule.week_start).div_euclid(7),
            Frequency::Daily => day,
            Frequency::Hourly => at.div_euclid(3_600),
            Frequency::Minutely => at.div_euclid(60),
            Frequency::Secondly => at,
        }
    }

    /// The number of the rule's first period that does not end before a wall time.
    fn index(&self, at: Wall) -> i64 {
        let passed = self.period(at) - self.first;
        (passed + self.rule.interval - 1).div_euclid(self.rule.interval).max(0)
    }

    fn index_after(&self, at: Wall, index: i64) -> i64 {
        self.index(at).max(index + 1)
    }

    /// The wall time at which one of the rule's periods begins; none beyond the year 9999.
    fn begin(&self, index: i64) -> Option<Wall> {
        const END: Wall = 253_402_300_800;
        let number = index.checked_mul(self.rule.interval)?.checked_add(self.first)?;
        let begin = match self.frequency {
            Frequency::Yearly if number <= 9999 => day_of(number, 1, 1) * DAY,
            Frequency::Monthly if number < 120_000 => {
                day_of(number.div_euclid(12), number.rem_euclid(12) + 1, 1) * DAY
            }
            Frequency::Yearly | Frequency::Monthly => return None,
            Frequency::Weekly => {
                number.checked_mul(7)?.checked_sub(3 - self.rule.week_start)?.checked_mul(DAY)?
            }
            Frequency::Daily => number.checked_mul(DAY)?,
            Frequency::Hourly => number.checked_mul(3_600)?,
            Frequency::Minutely => number.checked_mul(60)?,
            Frequency::Secondly => number,
        };
        (begin < END).then_some(begin)
    }

    /// For a period of less than a day that the rule leaves out, the next wall time that it may
    /// not leave out.
    fn next_allowed(
        &mut self,
        begin: Wall,
        to: Wall,
        steps: &mut u64,
    ) -> Result<Option<Wall>, Shortfall> {
        let rule = self.rule;
        if self.frequency <= Frequency::Daily {
            return Ok(None);
        }
        let mut day = begin.div_euclid(DAY);
        if !self.has_day(day) {
            while day * DAY <= to {
                day += 1;
                if self.has_day(day) {
                    break;
                }
                *steps = steps.checked_sub(1).ok_or(Shortfall::Spent)?;
            }
            return Ok(Some(day * DAY));
        }
        let units = [(3_600, 24, rule.hours), (60, 60, rule.minutes), (1, 60, rule.seconds)];
        let limits = match self.frequency {
            Frequency::Hourly => 1,
            Frequency::Minutely => 2,
            _ => 3,
        };
        for (unit, wheel, mask) in &units[..limits] {
            let part = begin.div_euclid(*unit).rem_euclid(*wheel);
            if *mask == 0 || mask >> part & 1 == 1 {
                continue;
            }
            let later = mask >> part;
            let ahead = if later == 0 { wheel - part } else { i64::from(later.trailing_zeros()) };
            return Ok(Some((begin.div_euclid(*unit) + ahead) * unit));
        }
        Ok(None)
    }

    fn instant(&self, day: i64, begin: Wall, time: u32) -> Wall {
        let base = if self.frequency <= Frequency::Daily { day * DAY } else { begin };
        base + i64::from(time)
    }

    /// The days of a period that satisfy the rule; for a period within a day that day.
    fn days(&mut self, index: i64) -> Days {
        let mut days = Days::default();
        let number = index * self.rule.interval + self.first;
        match self.frequency {
            Frequency::Yearly if self.moves_days => return self.moved_days(number, 1..=12),
            Frequency::Monthly if self.moves_days => {
                let month = number.rem_euclid(12) + 1;
                return self.moved_days(number.div_euclid(12), month..=month);
            }
            Frequency::Yearly => {
                let months = if self.months == 0 { 0x1ffe } else { self.months };
                for month in bits_of(u64::from(months)) {
                    let month = i64::from(month);
                    days.push(day_of(number, month, 1), self.days_of_month(number, month));
                }
            }
            Frequency::Monthly => {
                let (year, month) = (number.div_euclid(12), number.rem_euclid(12) + 1);
                days.push(day_of(year, month, 1), self.days_of_month(year, month));
            }
            Frequency::Weekly => {
                let first = number * 7 - 3 + self.rule.week_start;
                let mask = if self.only_weekdays() {
                    // Its week begins on another day than Monday.
                    let shift = self.rule.week_start as u32;
                    (u32::from(self.weekdays) >> shift | u32::from(self.weekdays) << (7 - shift))
                        & 0x7f
                } else {
                    (0..7).fold(0, |mask, n| mask | u32::from(self.has_day(first + n)) << n)
                };
                days.push(first, mask);
            }
            Frequency::Daily => days.push(number, u32::from(self.has_day(number))),
            // What is left out has been skipped.
            _ => days.push(0, 1),
        }
        days
    }

    /// The days of some months, those that do not exist moved as `SKIP` says: after `BYMONTHDAY`,
    /// before `BYDAY`.
    fn moved_days(&self, year: i64, months: std::ops::RangeInclusive<i64>) -> Days {
        let rule = self.rule;
        let forward = rule.skip == Skip::Forward;
        let mut found = Vec::new();
        let mut moved = Vec::new();
        for month in months.clone() {
            let (first, len) = (day_of(year, month, 1), days_in(year, month));
            found.extend(
                bits_of(self.days_of_month(year, month).into()).map(|n| first + i64::from(n)),
            );
            if self.months != 0 && self.months >> month & 1 == 0 {
                continue;
            }
            if self.month_days >> len != 0 {
                moved.push(if forward { first + len } else { first + len - 1 });
            }
            if rule.month_days_back >> len != 0 {
                moved.push(if forward { first } else { first - 1 });
            }
        }
        let (begin, end) = (day_of(year, 1, 1), day_of(year + 1, 1, 1));
        if months == (1..=12) && self.months == 0 && end - begin == 365 {
            if rule.year_days.contains(&366) {
                moved.push(if forward { end } else { end - 1 });
            }
            if rule.year_days.contains(&-366) {
                moved.push(if forward { begin } else { begin - 1 });
            }
        }
        found.extend(moved.into_iter().filter(|day| self.is_on_weekday(*day)));
        found.sort_unstable();
        found.dedup();
        let mut days = Days::default();
        for month in found.chunk_by(|a, b| civil(*a).1 == civil(*b).1) {
            let (year, number, _) = civil(month[0]);
            let first = day_of(year, number, 1);
            days.push(first, month.iter().fold(0, |mask, day| mask | 1 << (day - first)));
        }
        days
    }

    /// Whether `BYDAY` allows a day, numbers counted within its month.
    fn is_on_weekday(&self, day: i64) -> bool {
        let (year, month, number) = civil(day);
        let weekday = weekday_of(day);
        let (nth, back) = ((number - 1) / 7 + 1, (days_in(year, month) - number) / 7 + 1);
        let numbered = &self.rule.nth_weekdays;
        self.weekdays == 0 && numbered.is_empty()
            || self.weekdays >> weekday & 1 == 1
            || numbered.contains(&(nth, weekday))
            || numbered.contains(&(-back, weekday))
    }

    /// Whether weekdays, without number, are all that selects days.
    fn only_weekdays(&self) -> bool {
        let rule = self.rule;
        self.months == 0
            && self.month_days == 0
            && rule.month_days_back == 0
            && rule.year_days.is_empty()
            && rule.weeks.is_empty()
            && rule.nth_weekdays.is_empty()
    }

    fn has_day(&mut self, day: i64) -> bool {
        if !self.selects_days {
            return true;
        }
        if self.only_weekdays() {
            return self.weekdays >> weekday_of(day) & 1 == 1;
        }
        let (mut first, len, _) = self.month;
        if !(first..first + len).contains(&day) {
            let (year, month, _) = civil(day);
            first = day_of(year, month, 1);
            self.month = (first, days_in(year, month), self.days_of_month(year, month));
        }
        self.month.2 >> (day - first) & 1 == 1
    }

    /// The days of a month that satisfy the rule.
    fn days_of_month(&self, year: i64, month: i64) -> u32 {
        let rule = self.rule;
        if self.months != 0 && self.months >> month & 1 == 0 {
            return 0;
        }
        let len = days_in(year, month) as u32;
        let mut mask = ones(len);
        if self.month_days != 0 || rule.month_days_back != 0 {
            mask &= self.month_days | rule.month_days_back.reverse_bits() >> (32 - len);
        }
        if self.weekdays == 0
            && rule.nth_weekdays.is_empty()
            && rule.year_days.is_empty()
            && rule.weeks.is_empty()
        {
            return mask;
        }
        let first = day_of(year, month, 1);
        if self.weekdays != 0 || !rule.nth_weekdays.is_empty() {
            let shift = weekday_of(first) as u32;
            let week = (u32::from(self.weekdays) >> shift
                | u32::from(self.weekdays) << (7 - shift))
                & 0x7f;
            let mut weekdays = week | week << 7 | week << 14 | week << 21 | week << 28;
            // Numbers count within the month, or within the year if no month was named.
            let (begin, end) = if rule.frequency == Frequency::Monthly || rule.months != 0 {
                (first, first + i64::from(len))
            } else {
                (day_of(year, 1, 1), day_of(year + 1, 1, 1))
            };
            for (nth, weekday) in &rule.nth_weekdays {
                let day = if *nth > 0 {
                    begin + (weekday - weekday_of(begin)).rem_euclid(7) + 7 * (nth - 1)
                } else {
                    end - 1 - (weekday_of(end - 1) - weekday).rem_euclid(7) + 7 * (nth + 1)
                };
                if (begin..end).contains(&day) {
                    weekdays |= bit(day - first, len);
                }
            }
            mask &= weekdays;
        }
        if !rule.year_days.is_empty() && mask != 0 {
            let (begin, end) = (day_of(year, 1, 1), day_of(year + 1, 1, 1));
            let days = rule.year_days.iter().fold(0, |days, number| {
                let day = if *number > 0 { begin + number - 1 } else { end + number };
                let day = if (begin..end).contains(&day) { bit(day - first, len) } else { 0 };
                days | day
            });
            mask &= days;
        }
        if !rule.weeks.is_empty() && mask != 0 {
            let days = bits_of(u64::from(mask)).fold(0, |days, n| {
                let (week, weeks) = week_of(first + i64::from(n), rule.week_start);
                let has = rule.weeks.iter().any(|w| *w == week || w + weeks + 1 == week);
                days | u32::from(has) << n
            });
            mask &= days;
        }
        mask
    }

    /// How many dates of a period are not before a wall time.
    fn count_from(&mut self, index: i64, at: Wall) -> u64 {
        let Some(begin) = self.begin(index) else { return 0 };
        let days = self.days(index);
        let times = self.times.len() as u64;
        if self.rule.positions.is_empty() {
            if begin >= at {
                return days.len() * times;
            }
            // Day by day: the times of a day are in order, and there may be thousands.
            let later = |day: i64| {
                times
                    - self.times.partition_point(|time| self.instant(day, begin, *time) < at) as u64
            };
            return (0..days.len()).map(|nth| later(days.nth(nth))).sum();
        }
        let mut positions = Vec::new();
        self.rule.chosen(days.len() * times, &mut positions);
        let instant = |position: &u64| {
            let time = self.times[(position % times) as usize];
            self.instant(days.nth(position / times), begin, time)
        };
        positions.iter().filter(|position| instant(position) >= at).count() as u64
    }

    /// A number of periods, and of the dates in them wherever they begin; none where that depends
    /// on where they begin.
    fn constant(&mut self) -> Option<(i64, u64)> {
        const SHORT: u32 = (1 << 28) - 1;
        let rule = self.rule;
        let every_month = self.months == 0 || rule.frequency == Frequency::Yearly;
        let back = rule.month_days_back;
        // Days that every month has, and that cannot be the same day by two names.
        let month_days = self.weekdays == 0
            && rule.nth_weekdays.is_empty()
            && (back == 0 && self.month_days & !SHORT == 0
                || self.month_days == 0 && back & !SHORT == 0);
        let nth_weekdays = self.month_days == 0
            && back == 0
            && self.weekdays == 0
            && (rule.nth_weekdays.iter().all(|(nth, _)| (1..=4).contains(nth))
                || rule.nth_weekdays.iter().all(|(nth, _)| (-4..=-1).contains(nth)));
        let cycle = match rule.frequency {
            _ if !rule.year_days.is_empty() || !rule.weeks.is_empty() => return None,
            Frequency::Yearly | Frequency::Monthly => {
                (every_month && (month_days || nth_weekdays)).then_some(1)?
            }
            Frequency::Weekly => self.only_weekdays().then_some(1)?,
            Frequency::Daily => match self.selects_days {
                false => 1,
                true => self.only_weekdays().then_some(7)?,
            },
            _ if self.selects_days || rule.hours != 0 => return None,
            Frequency::Minutely if rule.minutes != 0 => return None,
            Frequency::Secondly if rule.minutes != 0 || rule.seconds != 0 => return None,
            _ => 1,
        };
        let number = (1..=cycle).map(|index| self.count_from(index, Wall::MIN)).sum();
        Some((cycle, number))
    }
}

impl Days {
    fn push(&mut self, first: i64, mask: u32) {
        if mask != 0 && self.len < self.masks.len() {
            self.masks[self.len] = (first, mask);
            self.len += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.masks[..self.len].iter().copied()
    }

    fn len(&self) -> u64 {
        self.iter().map(|(_, mask)| u64::from(mask.count_ones())).sum()
    }

    /// The day at a place that is less than [`Days::len`].
    fn nth(&self, mut place: u64) -> i64 {
        for (first, mut mask) in self.iter() {
            let here = u64::from(mask.count_ones());
            if place < here {
                for _ in 0..place {
                    mask &= mask - 1;
                }
                return first + i64::from(mask.trailing_zeros());
            }
            place -= here;
        }
        0
    }
}

// ---- values ----

fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

/// A list of numbers from 1 to `most`, or the same counted from the end.
fn numbers(text: &str, most: i64, out: &mut Vec<i64>) -> Option<()> {
    text.split(',').try_for_each(|text| {
        out.push(number(text).filter(|n| *n != 0 && n.abs() <= most)?);
        Some(())
    })
}

/// A list of numbers as one bit each.
fn bits(text: &str, least: i64, most: i64) -> Option<u64> {
    text.split(',').try_fold(0, |mask, text| {
        let n = number(text).filter(|n| (least..=most).contains(n))?;
        Some(mask | 1 << n)
    })
}

fn bits_of(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(bit)
    })
}

/// Number, or 0, and weekday of `SU`, `2SU`, `-1SU`.
fn weekday(text: &str) -> Option<(i64, i64)> {
    let (nth, weekday) = time::parse_weekday(text.trim())?;
    // A number that was given must not be 0, and a year has no more weeks.
    if nth.unsigned_abs() > 53 || (nth == 0 && text.trim().len() > 2) {
        return None;
    }
    Some((i64::from(nth), i64::from(weekday.to_monday_zero_offset())))
}

/// The lowest bits set.
fn ones(number: u32) -> u32 {
    u32::MAX >> (32 - number)
}

/// One bit, if it is one of the lowest `len`.
fn bit(number: i64, len: u32) -> u32 {
    if (0..i64::from(len)).contains(&number) { 1 << number } else { 0 }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

// ---- the calendar ----

/// Seconds since the epoch of a clock that is never changed.
pub fn wall(local: civil::DateTime) -> Wall {
    let day = day_of(local.year().into(), local.month().into(), local.day().into());
    let (hour, minute) = (i64::from(local.hour()), i64::from(local.minute()));
    day * DAY + hour * 3_600 + minute * 60 + i64::from(local.second())
}

/// The reverse of [`wall`]; none outside of the years that can be written.
pub fn local(wall: Wall) -> Option<civil::DateTime> {
    let (year, month, day) = civil(wall.div_euclid(DAY));
    let second = wall.rem_euclid(DAY);
    let part = |n: i64| i8::try_from(n).ok();
    civil::DateTime::new(
        i16::try_from(year).ok()?,
        part(month)?,
        part(day)?,
        part(second / 3_600)?,
        part(second / 60 % 60)?,
        part(second % 60)?,
        0,
    )
    .ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date. A year is taken to begin in March, so that its leap day is
/// its last.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// 0 is Monday.
fn weekday_of(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// The number of a day's week, and how many weeks its year has: a week belongs to the year in
/// which it has most of its days (RFC 5545, 3.3.10, as ISO 8601).
fn week_of(day: i64, week_start: i64) -> (i64, i64) {
    let begin = |day: i64| day - (weekday_of(day) - week_start).rem_euclid(7);
    let monday = begin(day);
    let (year, _, _) = civil(monday + 3);
    let first = begin(day_of(year, 1, 4));
    let next = begin(day_of(year + 1, 1, 4));
    ((monday - first) / 7 + 1, (next - first) / 7)
}

#[cfg(test)]
mod tests;

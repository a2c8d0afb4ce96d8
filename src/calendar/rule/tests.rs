use proptest::prelude::*;
use rrule::RRuleSet;

use super::*;

fn at(text: &str) -> Wall {
    wall(text.parse().unwrap())
}

/// What a rule yields in a window, up to a number, and what stopped it.
fn yields(rule: &str, start: Wall, from: Wall, to: Wall) -> (Vec<Wall>, Option<Shortfall>) {
    let mut out = Vec::new();
    let rule = Rule::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let result = rule.dates(start, from, to, &mut 2_000_000, &mut out);
    (out, result.err())
}

/// All days of some years, one by one: the plainest reading of what selects days.
fn plain(rule: &Rule, start: Wall, from: Wall, to: Wall) -> Vec<Wall> {
    let plan = Plan::new(rule, start).unwrap();
    let all = |mask: u64, value: i64| mask == 0 || mask >> value & 1 == 1;
    let mut periods: std::collections::BTreeMap<i64, Vec<Wall>> = Default::default();
    let first = plan.begin(0).unwrap().div_euclid(DAY);
    for day in first..=to.div_euclid(DAY) + 366 {
        let (year, month, day_of_month) = civil(day);
        let (length, year_length) = (days_in(year, month), 365 + i64::from(is_leap(year)));
        let weekday = weekday_of(day);
        let day_of_year = day - day_of(year, 1, 1) + 1;
        let back = 1_u32 << (length - day_of_month);
        let (week, weeks) = week_of(day, rule.week_start);
        let (nth, nth_back) = if rule.frequency == Frequency::Monthly || rule.months != 0 {
            ((day_of_month - 1) / 7 + 1, (length - day_of_month) / 7 + 1)
        } else {
            ((day_of_year - 1) / 7 + 1, (year_length - day_of_year) / 7 + 1)
        };
        let by_day = plan.weekdays == 0 && rule.nth_weekdays.is_empty()
            || plan.weekdays >> weekday & 1 == 1
            || rule.nth_weekdays.contains(&(nth, weekday))
            || rule.nth_weekdays.contains(&(-nth_back, weekday));
        let by_month_day = plan.month_days == 0 && rule.month_days_back == 0
            || plan.month_days >> (day_of_month - 1) & 1 == 1
            || rule.month_days_back & back != 0;
        let by_year_day = rule.year_days.is_empty()
            || rule.year_days.contains(&day_of_year)
            || rule.year_days.contains(&(day_of_year - year_length - 1));
        let by_week = rule.weeks.is_empty()
            || rule.weeks.contains(&week)
            || rule.weeks.contains(&(week - weeks - 1));
        let good = all(plan.months.into(), month) && by_day && by_month_day;
        if !(good && by_year_day && by_week) {
            continue;
        }
        for time in &plan.times {
            let at = day * DAY + i64::from(*time);
            let number = plan.period(at) - plan.period(start);
            if number % rule.interval == 0 {
                periods.entry(number).or_default().push(at);
            }
        }
    }
    let mut found = Vec::new();
    for dates in periods.into_values() {
        let mut places = Vec::new();
        rule.chosen(dates.len() as u64, &mut places);
        match rule.positions.is_empty() {
            true => found.extend(dates),
            false => found.extend(places.iter().map(|place| dates[*place as usize])),
        }
    }
    found.retain(|at| *at >= start);
    found.truncate(rule.count.map_or(usize::MAX, |count| count as usize));
    found.retain(|at| (from..=to).contains(at));
    found
}

/// The same for rules within the day: from period to period, whether or not it is wanted.
fn stepped(rule: &Rule, start: Wall, from: Wall, to: Wall) -> Vec<Wall> {
    let mut plan = Plan::new(rule, start).unwrap();
    let (mut found, mut index) = (Vec::new(), 0);
    while let Some(begin) = plan.begin(index).filter(|begin| *begin <= to) {
        index += 1;
        for time in plan.times.clone() {
            let at = begin + i64::from(time);
            let masks = [(rule.hours, at / 3_600 % 24), (rule.minutes, at / 60 % 60)];
            if at >= start
                && plan.has_day(at.div_euclid(DAY))
                && masks.iter().all(|(mask, n)| *mask == 0 || mask >> n & 1 == 1)
            {
                found.push(at);
            }
        }
    }
    found.truncate(rule.count.map_or(usize::MAX, |count| count as usize));
    found.retain(|at| (from..=to).contains(at));
    found
}

/// The same by the crate `rrule`, which walks from the start; none where it will not.
fn walked(rule: &str, start: Wall, to: Wall) -> Option<Vec<Wall>> {
    let begin = local(start)?.strftime("%Y%m%dT%H%M%S");
    let set: RRuleSet = format!("DTSTART:{begin}Z\nRRULE:{rule}").parse().ok()?;
    let set = set.limit();
    let mut found = Vec::new();
    for date in &set {
        let at = date.timestamp();
        if at > to {
            return Some(found);
        }
        found.push(at);
    }
    // It gives up after a number of vain steps, without a word.
    (rule.contains("COUNT") && !found.is_empty()).then_some(found)
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn part<T: std::fmt::Debug + std::fmt::Display>(
    name: &'static str,
    value: impl Strategy<Value = T>,
    most: usize,
) -> impl Strategy<Value = String> {
    proptest::collection::vec(value, 1..=most)
        .prop_map(move |values| format!(";{name}={}", list(&values)))
}

fn maybe(
    weight: u32,
    part: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = String> {
    prop_oneof![(10 - weight) => Just(String::new()), weight => part]
}

fn signed(most: i64) -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1..=most, 1 => -most..=-1]
}

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// Rules whose parts select days.
fn day_rules() -> impl Strategy<Value = String> {
    let weekday = || proptest::sample::select(&WEEKDAYS[..]);
    let nth = prop_oneof![
        2 => weekday().prop_map(str::to_owned),
        1 => (signed(5), weekday()).prop_map(|(n, day)| format!("{n}{day}")),
    ];
    let frequency = proptest::sample::select(&["YEARLY", "MONTHLY", "WEEKLY", "DAILY"][..]);
    (
        (
            frequency,
            1..5_i64,
            maybe(3, part("COUNT", 1..300, 1)),
            maybe(2, part("WKST", weekday(), 1)),
        ),
        maybe(3, part("BYMONTH", 1..=12, 4)),
        maybe(3, part("BYMONTHDAY", signed(31), 4)),
        maybe(5, part("BYDAY", nth, 4)),
        maybe(1, part("BYYEARDAY", signed(366), 6)),
        maybe(1, part("BYWEEKNO", signed(53), 4)),
        maybe(3, part("BYSETPOS", signed(8), 2)),
        maybe(1, part("BYHOUR", 0..24, 3)),
        maybe(1, part("BYMINUTE", 0..60, 2)),
    )
        .prop_map(|((frequency, interval, count, week_start), a, b, c, d, e, f, g, h)| {
            let parts = [count, week_start, a, b, c, d, e, f, g, h].concat();
            format!("FREQ={frequency};INTERVAL={interval}{parts}")
        })
}

/// Rules that repeat within the day.
fn time_rules() -> impl Strategy<Value = String> {
    let weekday = proptest::sample::select(&WEEKDAYS[..]);
    let frequency = prop_oneof![
        ("HOURLY", 1..60_i64).prop_map(|(name, n)| (name, n)),
        ("MINUTELY", 7..3_000_i64).prop_map(|(name, n)| (name, n)),
        ("SECONDLY", 3_000..100_000_i64).prop_map(|(name, n)| (name, n)),
    ];
    (
        frequency,
        maybe(3, part("COUNT", 1..300, 1)),
        maybe(1, part("BYMONTH", 1..=12, 4)),
        maybe(2, part("BYDAY", weekday, 4)),
        maybe(3, part("BYHOUR", 0..24, 6)),
        maybe(2, part("BYMINUTE", 0..60, 10)),
    )
        .prop_map(|((frequency, interval), count, a, b, c, d)| {
            let parts = [count, a, b, c, d].concat();
            format!("FREQ={frequency};INTERVAL={interval}{parts}")
        })
}

/// Where the crate reads a rule as we do: it wants both of a plain and a numbered weekday, lets
/// the first week begin at the start (RFC 5545, 3.3.10: a set begins with its interval), takes
/// all days of a BYWEEKNO (as before: what is not said is as in DTSTART), and loses the rhythm
/// of an INTERVAL where it skips hours or minutes.
fn reads_alike(rule: &Rule) -> bool {
    let skips = rule.frequency > Frequency::Daily && rule.hours | rule.minutes != 0;
    let numbered_and_plain = rule.weekdays != 0 && !rule.nth_weekdays.is_empty();
    let partial_week = rule.frequency == Frequency::Weekly && !rule.positions.is_empty();
    !numbered_and_plain && !partial_week && !skips && rule.weeks.is_empty()
}

fn starts() -> impl Strategy<Value = Wall> {
    (at("1995-01-01T00:00:00")..at("2027-01-01T00:00:00")).prop_map(|at| at / 60 * 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn rules_yield_what_a_plain_reading_yields(
        text in day_rules(),
        start in starts(),
        age in 0..9_000_i64,
        length in 1..1_000_i64,
    ) {
        let rule = Rule::parse(&text).unwrap();
        let from = start + age * DAY;
        let to = from + length * DAY;
        let (found, problem) = yields(&text, start, from, to);
        if problem == Some(Shortfall::Never) {
            prop_assert!(found.is_empty());
            // A plan is refused for such a rule.
            return Ok(());
        }
        prop_assert_eq!(problem, None);
        prop_assert_eq!(found, plain(&rule, start, from, to), "{}", text);
    }

    #[test]
    fn rules_within_the_day_yield_what_single_steps_yield(
        text in time_rules(),
        start in starts(),
        age in 0..500_i64,
        length in 1..100_i64,
    ) {
        let rule = Rule::parse(&text).unwrap();
        let from = start + age * DAY;
        let to = from + length * DAY;
        let (found, problem) = yields(&text, start, from, to);
        if problem != Some(Shortfall::Never) {
            prop_assert_eq!(problem, None);
            prop_assert_eq!(&found, &stepped(&rule, start, from, to), "{}", text);
        }
    }

    #[test]
    fn rules_yield_what_the_crate_rrule_yields(
        text in prop_oneof![day_rules(), time_rules()],
        start in starts(),
        age in 0..2_000_i64,
        length in 1..400_i64,
    ) {
        let rule = Rule::parse(&text).unwrap();
        // A number beside a weekday is not allowed there (RFC 5545, 3.3.10).
        let numbered = rule.frequency > Frequency::Monthly
            && text.split(";BYDAY=").nth(1).is_some_and(|days| {
                let days = days.split(';').next().unwrap_or_default();
                days.contains(|c: char| c.is_ascii_digit())
            });
        if numbered || !reads_alike(&rule) {
            return Ok(());
        }
        let from = start + age * DAY;
        let to = from + length * DAY;
        let Some(mut walked) = walked(&text, start, to) else { return Ok(()) };
        walked.retain(|at| *at >= from);
        let (found, _) = yields(&text, start, from, to);
        prop_assert_eq!(found, walked, "{}", text);
    }

    #[test]
    fn a_date_comes_back_as_it_was(day in -4_000_000_i64..2_900_000) {
        let (year, month, day_of_month) = civil(day);
        prop_assert_eq!(day_of(year, month, day_of_month), day);
        if let Some(local) = local(day * DAY + 86_399) {
            prop_assert_eq!(wall(local), day * DAY + 86_399);
            prop_assert_eq!(i64::from(local.weekday().to_monday_zero_offset()), weekday_of(day));
        }
    }
}

#[test]
fn days_that_do_not_exist_are_moved() {
    for (rule, start, expected) in [
        // RFC 7529, 4.1 and 6.
        ("FREQ=MONTHLY;SKIP=OMIT", "2014-01-31", "0131 0331 0531 0731"),
        ("FREQ=MONTHLY;SKIP=FORWARD", "2014-01-31", "0131 0301 0331 0501"),
        ("FREQ=MONTHLY;SKIP=BACKWARD", "2014-01-31", "0131 0228 0331 0430"),
        ("FREQ=YEARLY;SKIP=FORWARD", "2012-02-29", "0229 0301 0301 0301"),
        ("FREQ=YEARLY;SKIP=BACKWARD", "2012-02-29", "0229 0228 0228 0228"),
        // A moved day that is there already counts once.
        ("FREQ=MONTHLY;SKIP=FORWARD;BYMONTHDAY=1,31", "2014-01-31", "0131 0201 0301 0331"),
        ("FREQ=MONTHLY;SKIP=BACKWARD;BYMONTHDAY=30,31", "2014-01-31", "0131 0228 0330 0331"),
        // It belongs to the month that it was moved out of.
        ("FREQ=MONTHLY;INTERVAL=2;SKIP=FORWARD", "2014-12-31", "1231 0301 0501 0701"),
        (
            "FREQ=MONTHLY;SKIP=FORWARD;BYMONTHDAY=30,31;BYSETPOS=-1",
            "2014-01-31",
            "0131 0301 0331 0501",
        ),
        // BYDAY comes after: 1 March 2014 is a Saturday, 1 May a Thursday.
        (
            "FREQ=MONTHLY;SKIP=FORWARD;BYMONTHDAY=31;BYDAY=SA,TH",
            "2014-01-31",
            "0301 0501 0531 0731",
        ),
        ("FREQ=YEARLY;SKIP=BACKWARD;BYMONTHDAY=-31", "2014-01-01", "0101 0131 0301 0331"),
        ("FREQ=YEARLY;SKIP=FORWARD;BYYEARDAY=366", "2016-12-31", "1231 0101 0101 0101"),
        ("FREQ=YEARLY;SKIP=BACKWARD;BYYEARDAY=366", "2016-12-31", "1231 1231 1231 1231"),
        ("FREQ=YEARLY;SKIP=BACKWARD;BYMONTH=2;BYMONTHDAY=30", "2014-01-01", "0228 0228 0229 0228"),
    ] {
        let start = at(&format!("{start}T09:00:00"));
        let show = |wall: &Wall| local(*wall).unwrap().strftime("%m%d").to_string();
        let text = format!("RSCALE=GREGORIAN;COUNT=4;{rule}");
        let (all, _) = yields(&text, start, start, start + 9 * 366 * DAY);
        let shown: Vec<String> = all.iter().map(show).collect();
        assert_eq!(shown.join(" "), expected, "{rule}");
        // Each of them is found by itself, too, with or without those before.
        for wall in &all {
            for rule in [text.replace("COUNT=4;", ""), text.clone()] {
                assert_eq!(yields(&rule, start, *wall, *wall).0, [*wall], "{rule}");
            }
        }
    }
    let error = Rule::parse("FREQ=YEARLY;RSCALE=HEBREW").unwrap_err();
    assert_eq!(error, "the calendar HEBREW is not supported; only the first date is kept");
}

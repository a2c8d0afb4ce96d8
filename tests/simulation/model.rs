//! The truth: what the publisher of a feed has in mind, how it is written down, and how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use beadle::calendar::Zones;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Where the audience is, and the feeds say nothing else.
pub const AUDIENCE: &str = "America/New_York";

/// A number that comes after another: the same seed, the same year.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from) as u64) as i64
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Until the next of things that come at random, so often on average.
    pub fn wait(&mut self, mean: SignedDuration) -> SignedDuration {
        let uniform = (self.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
        SignedDuration::from_secs((-uniform.ln() * mean.as_secs() as f64) as i64 + 1)
    }
}

/// An event, or a series of them, as its organiser thinks of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Talk {
    /// Stands in every title of it, and nowhere else: `#17 Tides`.
    pub id: u32,
    pub uid: String,
    /// Without the number.
    pub title: String,
    pub place: String,
    /// Of no interest to the audience.
    pub notes: u32,
    pub start: Start,
    pub minutes: i64,
    pub cancelled: bool,
    pub weekly: Option<Weekly>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Wall(DateTime, &'static str),
    Utc(DateTime),
    Floating(DateTime),
    Day(Date),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weekly {
    pub times: u32,
    /// Weeks in which it does not take place.
    pub out: BTreeSet<u32>,
    /// Weeks in which it is otherwise.
    pub other: BTreeMap<u32, Other>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    pub start: DateTime,
    pub title: String,
    pub cancelled: bool,
}

/// One time that a talk takes place, or does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Occasion {
    pub talk: u32,
    /// Of a series: the wall time that the rule gives it.
    pub slot: Option<DateTime>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// The start by the audience's clocks.
    pub wall: DateTime,
    pub all_day: bool,
    pub on: bool,
    /// It follows its series in everything.
    pub plain: bool,
    pub title: String,
    pub place: String,
}

pub type Truth = BTreeMap<u32, Talk>;

fn zone(name: &str) -> TimeZone {
    static BUNDLED: LazyLock<Zones> = LazyLock::new(Zones::default);
    BUNDLED.get(name).unwrap()
}

/// A wall time that does not exist is taken by the offset before the gap, one that comes twice is
/// the first (RFC 5545, 3.3.5).
pub fn instant(local: DateTime, zone_name: &str) -> Timestamp {
    zone(zone_name).to_zoned_datetime(local).unwrap().timestamp()
}

pub fn wall(at: Timestamp) -> DateTime {
    zone(AUDIENCE).to_datetime(at)
}

/// What the audience's clocks are ahead of UTC, in seconds.
pub fn offset(at: Timestamp) -> i32 {
    zone(AUDIENCE).to_offset(at).seconds()
}

impl Start {
    fn local(self) -> DateTime {
        match self {
            Start::Wall(local, _) | Start::Utc(local) | Start::Floating(local) => local,
            Start::Day(date) => date.at(0, 0, 0, 0),
        }
    }

    fn at(self, local: DateTime) -> Start {
        match self {
            Start::Wall(_, zone) => Start::Wall(local, zone),
            Start::Utc(_) => Start::Utc(local),
            Start::Floating(_) => Start::Floating(local),
            Start::Day(_) => Start::Day(local.date()),
        }
    }

    fn zone(self) -> &'static str {
        match self {
            Start::Wall(_, zone) => zone,
            Start::Utc(_) => "UTC",
            Start::Floating(_) | Start::Day(_) => AUDIENCE,
        }
    }

    fn property(self, name: &str) -> String {
        let text = |local: DateTime| local.strftime("%Y%m%dT%H%M%S").to_string();
        match self {
            Start::Wall(local, zone) => format!("{name};TZID={zone}:{}\r\n", text(local)),
            Start::Utc(local) => format!("{name}:{}Z\r\n", text(local)),
            Start::Floating(local) => format!("{name}:{}\r\n", text(local)),
            Start::Day(date) => format!("{name};VALUE=DATE:{}\r\n", date.strftime("%Y%m%d")),
        }
    }
}

impl Talk {
    pub fn is_long_term(&self) -> bool {
        self.id >= LONG_TERM
    }

    fn slot(&self, week: u32) -> DateTime {
        self.start.local() + i64::from(week).weeks()
    }

    /// The slots of the weeks in which it does not take place.
    pub fn weeks_out(&self) -> impl Iterator<Item = DateTime> {
        let out = self.weekly.iter().flat_map(|weekly| &weekly.out);
        out.map(|week| self.slot(*week))
    }

    fn occasion(&self, slot: Option<DateTime>, local: DateTime) -> Occasion {
        let start = instant(local, self.start.zone());
        let all_day = matches!(self.start, Start::Day(_));
        // Days are days, hours are hours.
        let end = match all_day {
            true => instant(local + (self.minutes / 1440).days(), self.start.zone()),
            false => start + SignedDuration::from_mins(self.minutes),
        };
        Occasion {
            talk: self.id,
            slot,
            start,
            end,
            wall: if all_day { local } else { wall(start) },
            all_day,
            on: !self.cancelled,
            plain: true,
            title: format!("#{} {}", self.id, self.title),
            place: self.place.clone(),
        }
    }

    /// Every time it takes place, or was to take place.
    pub fn occasions(&self) -> Vec<Occasion> {
        let Some(weekly) = &self.weekly else {
            return vec![self.occasion(None, self.start.local())];
        };
        let of_week = |week: u32| {
            let slot = self.slot(week);
            match weekly.other.get(&week) {
                Some(other) => Occasion {
                    on: !other.cancelled && !self.cancelled,
                    plain: false,
                    title: format!("#{} {}", self.id, other.title),
                    ..self.occasion(Some(slot), other.start)
                },
                None => {
                    let out = weekly.out.contains(&week);
                    let occasion = self.occasion(Some(slot), slot);
                    Occasion { on: occasion.on && !out, plain: !out, ..occasion }
                }
            }
        };
        (0..weekly.times).map(of_week).collect()
    }

    pub fn first_start(&self) -> Timestamp {
        self.occasions().iter().map(|one| one.start).min().unwrap()
    }

    pub fn last_end(&self) -> Timestamp {
        self.occasions().iter().map(|one| one.end).max().unwrap()
    }

    /// Its VEVENTs. The stamps say nothing.
    fn text(&self, rng: &mut Rng) -> String {
        let stamp = |rng: &mut Rng| format!("2027{:02}01T000000Z", rng.between(1, 13));
        let event = |start: Start, title: &str, cancelled: bool, more: String, rng: &mut Rng| {
            let status = if cancelled { "STATUS:CANCELLED\r\n" } else { "" };
            let length = match start {
                Start::Day(date) => {
                    Start::Day(date + (self.minutes / 1440).days()).property("DTEND")
                }
                _ => format!("DURATION:PT{}M\r\n", self.minutes),
            };
            let noise = if rng.chance(50) { "X-NOISE:1\r\n" } else { "" };
            format!(
                "BEGIN:VEVENT\r\nUID:{}\r\nDTSTAMP:{}\r\n{noise}{}{length}SUMMARY:#{} {title}\r\n\
                 LOCATION:{}\r\nDESCRIPTION:Notes {}\r\n{status}{more}END:VEVENT\r\n",
                self.uid,
                stamp(rng),
                start.property("DTSTART"),
                self.id,
                self.place,
                self.notes,
            )
        };
        let Some(weekly) = &self.weekly else {
            return event(self.start, &self.title, self.cancelled, String::new(), rng);
        };
        let mut rule = format!("RRULE:FREQ=WEEKLY;COUNT={}\r\n", weekly.times);
        for week in &weekly.out {
            rule.push_str(&self.start.at(self.slot(*week)).property("EXDATE"));
        }
        let mut text = event(self.start, &self.title, self.cancelled, rule, rng);
        for (week, other) in &weekly.other {
            let id = self.start.at(self.slot(*week)).property("RECURRENCE-ID");
            let start = self.start.at(other.start);
            let cancelled = other.cancelled || self.cancelled;
            text.push_str(&event(start, &other.title, cancelled, id, rng));
        }
        text
    }
}

const HEAD: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//Calendar//EN\r\n\
                    X-WR-CALNAME:Example\r\n";

/// A feed, its events in any order; and where each of them ends in it.
pub fn write(truth: &Truth, rng: &mut Rng) -> (String, Vec<(u32, usize)>) {
    let mut ids: Vec<u32> = truth.keys().copied().collect();
    for index in (1..ids.len()).rev() {
        ids.swap(index, rng.below(index as u64 + 1) as usize);
    }
    let mut text = HEAD.to_owned();
    let mut ends = Vec::new();
    for id in ids {
        text.push_str(&truth[&id].text(rng));
        ends.push((id, text.len()));
    }
    text.push_str("END:VCALENDAR\r\n");
    (text, ends)
}

pub fn empty() -> String {
    format!("{HEAD}END:VCALENDAR\r\n")
}

/// What organisers do.
#[derive(Debug)]
pub struct Editor {
    next_id: u32,
    /// Deleted, and perhaps to come back.
    bin: Vec<(usize, Talk)>,
}

/// Ids from here on are of events that stay.
const LONG_TERM: u32 = 1_000_000;

const TITLES: [&str; 8] =
    ["Tides", "Turbines", "On hands", "Glass", "Number fields", "Bees", "Old maps", "Salt"];
const TIMES: [(i8, i8); 9] =
    [(0, 0), (1, 30), (2, 30), (3, 15), (9, 0), (10, 0), (12, 15), (15, 30), (23, 45)];
const ZONES: [&str; 5] =
    [AUDIENCE, AUDIENCE, "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"];

impl Editor {
    pub fn new() -> Editor {
        Editor { next_id: 1, bin: Vec::new() }
    }

    /// An event that stays, beyond everything: a feed is never at its end.
    pub fn long_term(feed: usize) -> Talk {
        Talk {
            id: LONG_TERM + feed as u32,
            uid: format!("long-term-{feed}"),
            title: format!("Far away {feed}"),
            place: "Nowhere".to_owned(),
            notes: 0,
            start: Start::Utc(jiff::civil::date(2039, 1, 1).at(12, 0, 0, 0)),
            minutes: 60,
            cancelled: false,
            weekly: None,
        }
    }

    fn start(&mut self, now: Timestamp, rng: &mut Rng) -> Start {
        let today = wall(now).date();
        let days = match rng.chance(25) {
            true => rng.between(0, 3),
            false => rng.between(1, 45),
        };
        let mut date = today + days.days();
        // Days on which clocks or calendars are odd, here and elsewhere.
        let odd = [(2027, 10, 31), (2027, 11, 7), (2028, 2, 29), (2028, 3, 12), (2028, 3, 26)];
        for (year, month, day) in odd {
            let odd = jiff::civil::date(year, month, day);
            if (odd - today).get_days() > 0 && (odd - today).get_days() < 40 && rng.chance(20) {
                date = odd;
            }
        }
        let (hour, minute) = rng.pick(&TIMES);
        let local = date.at(hour, minute, 0, 0);
        match rng.below(100) {
            0..15 => Start::Day(date),
            15..25 => Start::Utc(local),
            25..35 => Start::Floating(local),
            _ => Start::Wall(local, rng.pick(&ZONES)),
        }
    }

    pub fn new_talk(&mut self, now: Timestamp, rng: &mut Rng) -> Talk {
        let id = self.next_id;
        self.next_id += 1;
        let start = self.start(now, rng);
        let weekly = match start {
            Start::Wall(..) if rng.chance(20) => {
                Some(Weekly { times: rng.between(2, 9) as u32, ..Weekly::default() })
            }
            _ => None,
        };
        let uid = match weekly.is_none() && rng.chance(40) {
            // As The Events Calendar has it: another start, another UID.
            true => format!("{id}-1800000000-1800003600@example.edu"),
            false => format!("talk-{id}"),
        };
        let minutes = match start {
            Start::Day(_) => 1440 * rng.between(1, 4),
            _ => rng.pick(&[15, 60, 90, 600]),
        };
        Talk {
            id,
            uid,
            title: rng.pick(&TITLES).to_owned(),
            place: format!("Room {}", rng.below(50)),
            notes: 0,
            start,
            minutes,
            cancelled: false,
            weekly,
        }
    }

    /// One edit of one feed; in words, for the trace.
    pub fn edit(
        &mut self,
        feed: usize,
        truth: &mut Truth,
        now: Timestamp,
        rng: &mut Rng,
    ) -> String {
        let before = now - SignedDuration::from_hours(48);
        truth.retain(|_, talk| talk.last_end() > before);
        let upcoming: Vec<u32> = truth
            .values()
            .filter(|talk| !talk.is_long_term() && talk.last_end() > now)
            .map(|talk| talk.id)
            .collect();
        if upcoming.len() < 5 || upcoming.len() < 25 && rng.chance(25) {
            let talk = self.new_talk(now, rng);
            let said = format!("new {talk:?}");
            truth.insert(talk.id, talk);
            return said;
        }
        let back = self.bin.iter().position(|(of, talk)| *of == feed && talk.first_start() > now);
        if let Some(index) = back.filter(|_| rng.chance(30)) {
            let (_, talk) = self.bin.remove(index);
            let said = format!("back {talk:?}");
            truth.insert(talk.id, talk);
            return said;
        }
        let id = rng.pick(&upcoming);
        self.edit_talk(feed, truth, id, now, rng)
    }

    /// One edit of that talk.
    pub fn edit_talk(
        &mut self,
        feed: usize,
        truth: &mut Truth,
        id: u32,
        now: Timestamp,
        rng: &mut Rng,
    ) -> String {
        if rng.chance(10) {
            let talk = truth.remove(&id).unwrap();
            self.bin.push((feed, talk));
            return format!("deleted {id}");
        }
        let talk = truth.get_mut(&id).unwrap();
        let said = match (&mut talk.weekly, rng.below(10)) {
            (_, 0) => {
                talk.title = format!("{} {}", rng.pick(&TITLES), rng.below(1000));
                "title"
            }
            (_, 1) => {
                talk.place = format!("Room {}", rng.below(1000));
                "place"
            }
            (_, 2) => {
                talk.notes += 1;
                "notes"
            }
            (_, 3 | 4) if talk.cancelled || rng.chance(50) => {
                talk.cancelled = !talk.cancelled;
                "status"
            }
            (None, _) => self.move_talk(truth.get_mut(&id).unwrap(), now, rng),
            (Some(_), _) => Self::edit_week(talk, now, rng),
        };
        format!("{said} of {:?}", truth[&id])
    }

    fn move_talk(&mut self, talk: &mut Talk, now: Timestamp, rng: &mut Rng) -> &'static str {
        if !matches!(talk.start, Start::Day(_)) && rng.chance(20) {
            talk.minutes = rng.pick(&[15, 45, 60, 90, 600]);
            return "length";
        }
        let old = talk.start;
        let near = old.local() + rng.pick(&[-120_i64, -30, 15, 60, 1440, -1440]).minutes();
        talk.start = match rng.chance(60) {
            true => old.at(near),
            // Neither another zone nor another kind of time: of that there is no telling.
            false => old.at(self.start(now, rng).local()),
        };
        if instant(talk.start.local(), talk.start.zone()) < now {
            talk.start = old;
        }
        if talk.uid.ends_with("@example.edu") && talk.start != old {
            let start = instant(talk.start.local(), talk.start.zone()).as_second();
            talk.uid = format!("{}-{start}-{}@example.edu", talk.id, start + 60 * talk.minutes);
        }
        "start"
    }

    fn edit_week(talk: &mut Talk, now: Timestamp, rng: &mut Rng) -> &'static str {
        let slots: Vec<DateTime> =
            (0..talk.weekly.as_ref().unwrap().times).map(|week| talk.slot(week)).collect();
        let zone_name = talk.start.zone();
        let Some(weekly) = &mut talk.weekly else { return "nothing" };
        let week = rng.below(u64::from(weekly.times)) as u32;
        let slot = slots[week as usize];
        if talk.cancelled || instant(slot, zone_name) < now + SignedDuration::from_hours(1) {
            return "nothing";
        }
        if let Some(other) = weekly.other.get_mut(&week) {
            return match rng.below(3) {
                0 => {
                    weekly.other.remove(&week);
                    "week as any other"
                }
                1 => {
                    other.cancelled = !other.cancelled;
                    "status of a week"
                }
                _ => {
                    other.title = format!("{} {}", rng.pick(&TITLES), rng.below(1000));
                    "title of a week"
                }
            };
        }
        if weekly.out.remove(&week) {
            return "week back in";
        }
        match rng.below(3) {
            0 => {
                weekly.out.insert(week);
                "week out"
            }
            which => {
                // Never onto the time of another week.
                let start = slot + (rng.between(-20, 20) * 60 + 30).minutes();
                let start = if which == 1 { start } else { slot };
                let title = format!("{} {}", rng.pick(&TITLES), rng.below(1000));
                if instant(start, zone_name) > now {
                    weekly.other.insert(week, Other { start, title, cancelled: rng.chance(20) });
                }
                "week otherwise"
            }
        }
    }
}

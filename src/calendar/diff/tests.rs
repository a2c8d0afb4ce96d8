use jiff::ToSpan;
use proptest::prelude::*;

use super::*;

/// An event of one hour in New York.
pub(crate) fn event(uid: &str, summary: &str, start: &str) -> Event {
    let local: jiff::civil::DateTime = start.parse().unwrap();
    let zoned = |local| When::Zoned { local, zone: "America/New_York".to_owned() };
    Event {
        uid: Uid(uid.to_owned()),
        recurrence_id: None,
        this_and_future: false,
        sequence: 0,
        status: Status::Confirmed,
        judged: None,
        start: zoned(local),
        end: zoned(local + 1.hour()),
        summary: summary.to_owned(),
        description: String::new(),
        location: String::new(),
        url: None,
        categories: Vec::new(),
        categories_raw: Vec::new(),
        organizer: None,
        image: None,
        page_image: None,
        join: None,
        recurrence: Default::default(),
        created: None,
        last_modified: None,
    }
}

/// A feed followed over time.
struct Feed {
    known: Vec<Known>,
    now: Timestamp,
    settle: SignedDuration,
    confirm: SignedDuration,
    prodid: String,
}

impl Feed {
    fn of(events: &[Event]) -> Self {
        let mut feed = Feed {
            known: Vec::new(),
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
            settle: SignedDuration::from_mins(5),
            confirm: SignedDuration::from_mins(30),
            prodid: String::new(),
        };
        assert_eq!(feed.poll(events), [""; 0], "a first reading tells nothing");
        feed
    }

    fn at_once(mut self) -> Self {
        (self.settle, self.confirm) = (SignedDuration::ZERO, SignedDuration::ZERO);
        self
    }

    /// One poll, an hour after the last; the changes as `kind key fields`.
    fn poll(&mut self, events: &[Event]) -> Vec<String> {
        self.reading(Reading {
            prodid: self.prodid.clone(),
            events: events.iter().map(|e| (e.clone(), print(e))).collect(),
            complete: true,
            ..Reading::default()
        })
        .changes
        .iter()
        .map(|c| {
            let fields: Vec<&str> = c.fields.iter().map(|f| f.as_str()).collect();
            format!("{:?} {} {}", c.kind, c.key, fields.join(",")).trim_end().to_owned()
        })
        .collect()
    }

    fn reading(&mut self, reading: Reading) -> Outcome {
        let zone = TimeZone::get("America/New_York").unwrap();
        let cx = Context {
            now: self.now,
            zones: &Zones::default(),
            zone: &zone,
            settle: self.settle,
            confirm: self.confirm,
            baseline: self.known.is_empty(),
        };
        let out = self.compared(reading, &cx);
        let mut rows: BTreeMap<_, _> = self.known.drain(..).map(|k| (k.key.clone(), k)).collect();
        out.forget.iter().for_each(|key| drop(rows.remove(key)));
        rows.extend(out.write.iter().map(|k| (k.key.clone(), k.clone())));
        self.known = rows.into_values().collect();
        self.now += 1.hour();
        out
    }

    /// Given all events, and given those alone that are involved, the outcome is the same.
    fn compared(&self, mut reading: Reading, cx: &Context<'_>) -> Outcome {
        // What was met the last time need not be read again.
        let mut unchanged = Fingerprints::new(
            self.known
                .iter()
                .filter(|known| known.presence == Presence::Listed)
                .map(|known| known.fingerprint)
                .collect(),
        );
        let known = self.known.clone();
        let all = diff(known, &Rest::default(), reading.clone(), cx);
        reading.events.retain(|(_, print)| !unchanged.meet(*print));
        reading.unchanged = unchanged;
        let index: Vec<Glance> = self.known.iter().map(|known| glance(known, cx)).collect();
        let (keys, rest) = involved(&index, &mut reading);
        let known = self.known.iter().filter(|k| keys.contains(&k.key.hash64()));
        let some = diff(known.cloned().collect(), &rest, reading, cx);
        assert_eq!(some.changes, all.changes);
        assert_eq!(some.recheck_at, all.recheck_at);
        some
    }
}

fn glance(known: &Known, cx: &Context<'_>) -> Glance {
    let (starts, ends) = recur::bounds(&known.seen, cx.zones, cx.zone);
    Glance {
        key: known.key.hash64(),
        fingerprint: known.fingerprint,
        starts: starts.as_millisecond(),
        marks: Marks::of(&known.seen),
        listed: known.presence == Presence::Listed,
        pending: known.since.is_some(),
        upcoming: ends > cx.now,
    }
}

fn print(event: &Event) -> u128 {
    xxhash_rust::xxh3::xxh3_128(&serde_json::to_vec(event).unwrap())
}

fn talks() -> Vec<Event> {
    (1..=6)
        .map(|day| {
            let start = format!("2026-12-0{day}T12:00");
            Event {
                location: format!("Room {day}"),
                ..event(&format!("talk-{day}"), &format!("Talk {day}"), &start)
            }
        })
        .collect()
}

#[test]
fn the_same_feed_is_no_change_in_any_order() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    events.reverse();
    events[0].sequence = 7;
    events[1].last_modified = Some(feed.now);
    events[2].summary = "Talk  4 ".into();
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), [""; 0]);
    assert!(feed.known.iter().all(|known| known.since.is_none()));
}

#[test]
fn a_change_is_told_once_when_it_has_lasted() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    events[1].summary = "Talk 2: now with a title".into();
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), ["Updated talk-2 summary"]);
    assert_eq!(feed.poll(&events), [""; 0]);
}

#[test]
fn a_burst_is_one_change_and_a_flap_is_none() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    let before = events.clone();
    events[0].summary = "Typo".into();
    feed.poll(&events);
    events[0].summary = "Fixed".into();
    events[0].location = "Hall".into();
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), ["Updated talk-1 summary,location"]);
    feed.poll(&before);
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), [""; 0]);
}

#[test]
fn a_recheck_is_asked_for_after_the_settle_time() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    events.push(event("new", "New", "2026-12-02T09:00"));
    let now = feed.now;
    let events = events.iter().map(|e| (e.clone(), print(e))).collect();
    let out = feed.reading(Reading { events, complete: true, ..Reading::default() });
    assert_eq!(out.recheck_at, Some(now + 5.minutes()));
}

#[test]
fn a_new_event_is_new_once_and_never_if_it_was_a_slip() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    events.push(event("new", "New", "2026-12-02T09:00"));
    feed.poll(&events);
    assert_eq!(feed.poll(&events), ["New new"]);
    assert_eq!(feed.poll(&events), [""; 0]);
    let slip = [events.clone(), vec![event("slip", "Slip", "2026-12-02T10:00")]].concat();
    feed.poll(&slip);
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), [""; 0]);
    assert!(feed.known.iter().all(|known| known.key.0 != "slip"));
}

#[test]
fn a_moved_event_with_a_new_uid_is_rescheduled() {
    let mut events = talks();
    events[2].uid = Uid("9-1796212800-1796217300@x".into());
    let mut feed = Feed::of(&events).at_once();
    let moved = event("9-1796225400-1796229900@x", "Talk 3", "2026-12-03T15:30");
    events[2] = Event { location: "Room 3".into(), ..moved };
    assert_eq!(feed.poll(&events), ["Rescheduled 9-1796212800-1796217300@x start,end"]);
    // The row keeps the key of its first sight.
    assert_eq!(feed.poll(&events), [""; 0]);
}

#[test]
fn the_same_instant_in_another_zone_is_no_change() {
    let mut events = talks();
    let mut feed = Feed::of(&events).at_once();
    let zone = "Europe/Lisbon".to_owned();
    let at = |text: &str| When::Zoned { local: text.parse().unwrap(), zone: zone.clone() };
    events[0].start = at("2026-12-01T17:00");
    events[0].end = at("2026-12-01T18:00");
    assert_eq!(feed.poll(&events), [""; 0]);
}

#[test]
fn absence_is_told_after_two_readings_half_an_hour_apart() {
    let mut events = talks();
    let mut feed = Feed::of(&events);
    events.remove(2);
    assert_eq!(feed.poll(&events), [""; 0]);
    assert_eq!(feed.poll(&events), ["Missing talk-3"]);
    assert_eq!(feed.poll(&events), [""; 0]);
    let all = talks();
    feed.poll(&all);
    assert_eq!(feed.poll(&all), ["Reinstated talk-3"]);
    assert_eq!(feed.poll(&all), [""; 0]);
}

#[test]
fn a_short_absence_is_not_told() {
    let mut feed = Feed::of(&talks());
    feed.poll(&talks()[1..]);
    assert_eq!(feed.poll(&talks()), [""; 0]);
    assert_eq!(feed.poll(&talks()), [""; 0]);
}

#[test]
fn half_an_answer_removes_nothing() {
    let mut feed = Feed::of(&talks());
    for _ in 0..3 {
        let events = talks()[..2].iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events, complete: false, ..Reading::default() });
        assert_eq!(out.changes, []);
    }
}

#[test]
fn half_an_answer_is_no_second_proof_of_an_absence() {
    let mut feed = Feed::of(&talks());
    let mut events = talks();
    events.remove(2);
    assert_eq!(feed.poll(&events), [""; 0]);
    for _ in 0..3 {
        let events = talks()[..2].iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events, complete: false, ..Reading::default() });
        assert_eq!(out.changes, []);
        assert!(out.recheck_at.is_some_and(|at| at > feed.now - 1.hours()), "not at once again");
    }
    assert_eq!(feed.poll(&events), ["Missing talk-3"]);
}

#[test]
fn an_emptied_feed_is_held_back_for_a_day() {
    let mut feed = Feed::of(&talks());
    let empty = Reading { complete: true, ..Reading::default() };
    let out = feed.reading(empty.clone());
    assert_eq!(out.notes, [Note::MassLoss { missing: 6, listed: 6 }]);
    for _ in 0..23 {
        assert_eq!(feed.reading(empty.clone()).changes, []);
    }
    assert_eq!(feed.reading(empty.clone()).changes.len(), 6);
    assert_eq!(feed.reading(empty).changes, []);
}

#[test]
fn events_that_have_begun_leave_without_a_word() {
    let mut feed = Feed::of(&talks()).at_once();
    feed.now = "2026-12-02T18:00:00Z".parse().unwrap();
    assert_eq!(feed.poll(&talks()[2..]), [""; 0]);
}

#[test]
fn what_a_nearer_event_pushes_out_is_not_withdrawn() {
    let mut feed = Feed::of(&talks()).at_once();
    let mut rolled = talks()[..5].to_vec();
    rolled.push(event("near", "Near", "2026-11-25T12:00"));
    assert_eq!(feed.poll(&rolled), ["New near"]);
    assert_eq!(feed.poll(&talks()), ["Missing near"]);
}

#[test]
fn the_last_event_of_a_short_feed_can_be_withdrawn() {
    let mut feed = Feed::of(&talks()).at_once();
    assert_eq!(feed.poll(&talks()[..5]), ["Missing talk-6"]);
}

#[test]
fn a_full_window_is_believed_to_go_on() {
    let many = |n: usize| -> Vec<Event> {
        (0..n)
            .map(|i| {
                let start = format!("2026-12-{:02}T{:02}:00", 1 + i / 10, 8 + i % 10);
                event(&format!("e{i}"), &format!("Event {i}"), &start)
            })
            .collect()
    };
    let mut feed = Feed::of(&many(31)).at_once();
    feed.prodid = "-//Example - ECPv6.16.3//NONSGML v1.0//EN".into();
    assert_eq!(feed.poll(&many(30)), [""; 0]);
}

#[test]
fn one_switch_that_changes_many_events_is_not_news_of_each() {
    let mut events = talks();
    events.iter_mut().for_each(|e| e.categories = vec!["Career".into()]);
    events[5].location.clear();
    let mut feed = Feed::of(&events).at_once();
    events.iter_mut().for_each(|e| e.categories = vec!["Careers & Jobs".into()]);
    let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
    let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
    assert_eq!(out.changes, []);
    assert_eq!(
        out.notes,
        [Note::CategoriesRenamed {
            from: vec!["Career".into()],
            to: vec!["Careers & Jobs".into()],
            events: 6
        }]
    );
    // A venue renamed is told of each event, a place out of nowhere in many is not.
    events.iter_mut().take(5).for_each(|e| e.location = "Hall".into());
    assert_eq!(feed.poll(&events).len(), 5);
    events.iter_mut().take(5).for_each(|e| e.location.clear());
    assert_eq!(feed.poll(&events), [""; 0]);
}

#[test]
fn a_uid_that_an_event_has_left_names_another_one() {
    let mut feed = Feed::of(&talks()).at_once();
    let mut events = talks();
    events[0].uid = Uid("moved-on".into());
    assert_eq!(feed.poll(&events), [""; 0]);
    // Twice: the second finds the key of the first taken, too.
    for n in 1..=2 {
        let start = format!("2026-12-1{n}T12:00");
        events.push(event("talk-1", &format!("Another {n}"), &start));
        let key = format!("talk-1{}", "'".repeat(n));
        assert_eq!(feed.poll(&events), [format!("New {key}")]);
        assert_eq!(feed.known.len(), 6 + n);
        events.last_mut().unwrap().uid = Uid(format!("moved-on-{n}"));
        assert_eq!(feed.poll(&events), [""; 0]);
    }
}

#[test]
fn new_uids_on_every_fetch_are_noticed_and_not_told() {
    let mut feed = Feed::of(&talks());
    for round in 0..3 {
        let mut events = talks();
        events.iter_mut().for_each(|e| e.uid = Uid(format!("{}-{round}", e.uid)));
        let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
        let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
        assert_eq!(out.changes, []);
        assert_eq!(out.notes, [Note::UidsChurn { events: 6 }]);
    }
}

#[test]
fn status_says_more_than_absence() {
    let mut events = talks();
    let mut feed = Feed::of(&events).at_once();
    events[0].status = Status::Cancelled;
    assert_eq!(feed.poll(&events), ["Cancelled talk-1 status"]);
    events[0].status = Status::Confirmed;
    assert_eq!(feed.poll(&events), ["Reinstated talk-1 status"]);
    events[0].status = Status::Postponed;
    assert_eq!(feed.poll(&events), ["Postponed talk-1 status"]);
}

#[test]
fn what_the_site_said_holds_for_an_event_that_has_left_the_list() {
    let mut events = talks();
    events[5].uid = Uid("6-1796644800-1796648400@example.edu".into());
    let mut feed = Feed::of(&events).at_once();
    let stem = "6@example.edu".to_owned();
    let verdict = |status| Verdict { status, reason: None };
    let uid = events[5].uid.clone();
    let mut status = |events: &[Event], said: &[Status]| {
        feed.reading(Reading {
            events: events.iter().map(|e| (e.clone(), print(e))).collect(),
            complete: true,
            statuses: said.iter().map(|status| (stem.clone(), verdict(*status))).collect(),
            restated: [stem.clone()].into(),
            ..Reading::default()
        });
        feed.known.iter().find(|known| known.seen.uid == uid).unwrap().seen.status
    };
    assert_eq!(status(&events, &[Status::Cancelled]), Status::Cancelled);
    assert_eq!(status(&events, &[]), Status::Cancelled, "nothing was said of it");
    assert_eq!(status(&events[..5], &[Status::Confirmed]), Status::Cancelled, "it has left");
    assert_eq!(status(&events, &[]), Status::Cancelled, "nor now");
    assert_eq!(status(&events, &[Status::Confirmed]), Status::Confirmed);
}

#[test]
fn what_comes_back_for_a_moment_only_stays_withdrawn() {
    let mut feed = Feed::of(&talks());
    let told: Vec<_> = (0..3).flat_map(|_| feed.poll(&talks()[1..])).collect();
    assert_eq!(told, ["Missing talk-1"]);
    for events in [&talks()[..], &talks()[1..], &talks()[..]] {
        assert_eq!(feed.poll(events), [""; 0]);
    }
    assert_eq!(feed.poll(&talks()), ["Reinstated talk-1"], "when it has lasted");
}

#[test]
fn what_is_off_leaves_without_another_word() {
    for status in [Status::Cancelled, Status::Postponed] {
        let mut events = talks();
        let mut feed = Feed::of(&events).at_once();
        events[0].status = status;
        assert_eq!(feed.poll(&events).len(), 1);
        assert_eq!(feed.poll(&events[1..]), [""; 0]);
        assert_eq!(feed.poll(&events), [""; 0]);
        assert_eq!(feed.poll(&events[1..]), [""; 0]);
        events[0].status = Status::Confirmed;
        assert_eq!(feed.poll(&events), ["Reinstated talk-1 status"]);
    }
}

#[test]
fn a_second_entry_of_an_event_is_marked() {
    let mut events = talks();
    let mut feed = Feed::of(&events).at_once();
    events.push(event("copy", "talk 1", "2026-12-01T12:00"));
    let rows = events.iter().map(|e| (e.clone(), print(e))).collect();
    let out = feed.reading(Reading { events: rows, complete: true, ..Reading::default() });
    assert!(out.changes[0].duplicate);
    assert_eq!(out.changes.len(), 1);
}

fn weekly() -> Event {
    let mut weekly = event("weekly", "Tea", "2026-11-04T15:00");
    weekly.recurrence.rules = vec!["FREQ=WEEKLY".into()];
    weekly
}

#[test]
fn a_series_whose_first_day_is_trimmed_has_not_moved() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut later = event("weekly", "Tea", "2026-11-25T15:00");
    later.recurrence.rules = vec!["FREQ=WEEKLY;BYDAY=WE".into()];
    assert_eq!(feed.poll(&[later]), [""; 0]);
    let mut moved = event("weekly", "Tea", "2026-11-25T16:00");
    moved.recurrence.rules = vec!["FREQ=WEEKLY;BYDAY=WE".into()];
    assert_eq!(feed.poll(&[moved]), ["Rescheduled weekly start"]);
}

#[test]
fn a_series_that_ends_earlier_is_told() {
    let until = |rule: &str| {
        let mut series = weekly();
        series.recurrence.rules = vec![rule.into()];
        vec![series]
    };
    let mut feed = Feed::of(&until("FREQ=WEEKLY")).at_once();
    // It was without end, and has one half a year ahead.
    let told = ["Updated weekly recurrence"];
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;UNTIL=20270526T190000Z")), told);
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;UNTIL=20270519T190000Z")), told);
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=10")), told);
    // Longer when its end is near, and not while that is far.
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=12")), [""; 0]);
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=5")), told);
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=31")), told);
    // What was no news is none later.
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=32")), [""; 0]);
    feed.now += SignedDuration::from_hours(24 * 190);
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;COUNT=32")), [""; 0]);
    let mut other = until("FREQ=WEEKLY;COUNT=32");
    other[0].description = "With cake".to_owned();
    assert_eq!(feed.poll(&other), ["Updated weekly description"]);
    feed.now -= SignedDuration::from_hours(24 * 190);
    other[0].description = String::new();
    assert_eq!(feed.poll(&other), ["Updated weekly description"]);
    // The same dates in other words; and later every second one only.
    assert_eq!(feed.poll(&until("FREQ=WEEKLY;BYDAY=WE;COUNT=32")), [""; 0]);
    let mut split = until("FREQ=WEEKLY;INTERVAL=2");
    split[0].recurrence.rdates = ["2026-11-25T15:00", "2026-12-09T15:00", "2026-12-23T15:00"]
        .map(|date| (event("", "", date).start, None))
        .to_vec();
    assert_eq!(feed.poll(&split), told);
}

#[test]
fn one_day_of_a_series_can_move_and_move_back() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut override_ = event("weekly", "Tea", "2026-12-02T17:00");
    override_.recurrence_id = Some(event("", "", "2026-12-02T15:00").start);
    let key = "weekly#2026-12-02T15:00:00";
    let both = [weekly(), override_.clone()];
    assert_eq!(feed.poll(&both), [format!("Rescheduled {key} start,end")]);
    assert_eq!(feed.poll(&both), [""; 0]);
    assert_eq!(feed.poll(&[weekly()]), [format!("Rescheduled {key} start,end")]);
    assert_eq!(feed.poll(&[weekly()]), [""; 0]);
    assert_eq!(feed.known.len(), 1);
}

/// Even where the feed did not change in between, so that nothing was compared.
#[test]
fn a_day_that_follows_its_series_again_is_not_told_of_beside_it() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut other = event("weekly", "Tea with cake", "2026-12-02T15:00");
    other.recurrence_id = Some(other.start.clone());
    feed.poll(&[weekly(), other]);
    assert_eq!(feed.poll(&[weekly()]).len(), 1);
    let off = Event { status: Status::Cancelled, ..weekly() };
    assert_eq!(feed.poll(&[off]), ["Cancelled weekly status"]);
    assert_eq!(feed.poll(&[weekly()]), ["Reinstated weekly status"]);
}

#[test]
fn each_telling_of_an_event_is_another_even_if_it_was_forgotten() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut moved = event("weekly", "Tea", "2026-12-02T17:00");
    moved.recurrence_id = Some(event("", "", "2026-12-02T15:00").start);
    let mut tellings = HashSet::new();
    for _ in 0..2 {
        for events in [vec![weekly(), moved.clone()], vec![weekly()]] {
            let events = events.iter().map(|e| (e.clone(), print(e))).collect();
            let out = feed.reading(Reading { events, complete: true, ..Reading::default() });
            let [change] = out.changes.as_slice() else { panic!("{:?}", out.changes) };
            assert!(tellings.insert((change.key.clone(), change.revision)));
        }
    }
}

#[test]
fn an_override_that_changes_nothing_is_not_told() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut same = event("weekly", "Tea", "2026-12-02T15:00");
    same.recurrence_id = Some(same.start.clone());
    assert_eq!(feed.poll(&[weekly(), same]), [""; 0]);
}

#[test]
fn a_date_taken_out_of_a_series_is_cancelled_and_put_back_is_on_again() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut without = weekly();
    without.recurrence.exdates = vec![event("", "", "2026-12-02T15:00").start];
    assert_eq!(feed.poll(&[without.clone()]), ["Cancelled weekly status"]);
    assert_eq!(feed.poll(&[without]), [""; 0]);
    assert_eq!(feed.poll(&[weekly()]), ["Reinstated weekly status"]);
    assert_eq!(feed.poll(&[weekly()]), [""; 0]);
}

#[test]
fn a_date_taken_out_of_a_series_that_is_renamed_has_its_new_name() {
    let mut feed = Feed::of(&[weekly()]).at_once();
    let mut without = Event { summary: "Coffee".to_owned(), ..weekly() };
    without.recurrence.exdates = vec![event("", "", "2026-12-02T15:00").start];
    let events = vec![(without.clone(), print(&without))];
    let out = feed.reading(Reading { events, complete: true, ..Reading::default() });
    let told: Vec<_> = out.changes.iter().map(|c| (c.kind, c.after.summary.as_str())).collect();
    assert_eq!(told, [(ChangeKind::Updated, "Coffee"), (ChangeKind::Cancelled, "Coffee")]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let uid = prop_oneof![
        "[a-e]",
        (1..4_u8, 0..3_u8).prop_map(|(post, n)| format!("{post}-179621280{n}-179621730{n}@x")),
    ];
    let title = prop::sample::select(vec!["Talk", "Tea", "Talk 2", "", "Title TBD"]);
    (uid, title, 1..9_u8, 9..12_u8, 0..4_u8, 0..3_u8).prop_map(
        |(uid, title, day, hour, place, more)| {
            let mut event = event(&uid, title, &format!("2026-12-{day:02}T{hour:02}:00"));
            event.location = ["", "", "Hall", "Room"][usize::from(place)].to_owned();
            event.categories = vec![["A", "B"][usize::from(place % 2)].to_owned()];
            event.sequence = more.into();
            if more == 2 {
                event.status = Status::Cancelled;
            }
            event
        },
    )
}

fn any_feed() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..9).prop_map(|mut events| {
        events.sort_by(|a, b| a.uid.cmp(&b.uid));
        events.dedup_by(|a, b| a.uid == b.uid);
        events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a feed came to be as it is, what is known of it in the end is what it says, all
    /// of it told, and nothing more is told.
    #[test]
    fn any_edits_end_where_a_fresh_reading_begins(
        versions in prop::collection::vec(any_feed(), 2..6),
        at_once in any::<bool>(),
    ) {
        let mut feed = Feed::of(&versions[0]);
        if at_once {
            feed = feed.at_once();
        }
        for version in &versions[1..] {
            feed.poll(version);
        }
        let last = &versions[versions.len() - 1];
        for _ in 0..30 {
            feed.poll(last);
        }
        prop_assert_eq!(feed.poll(last), [""; 0]);
        let listed: Vec<&Known> =
            feed.known.iter().filter(|k| k.presence == Presence::Listed).collect();
        prop_assert_eq!(listed.len(), last.len());
        for event in last {
            let known = listed.iter().find(|known| known.seen.uid == event.uid);
            let known = known.expect("every event of the feed is known");
            prop_assert_eq!(&known.seen, event);
            prop_assert!(known.since.is_none());
            let told = matches!(&known.told, Told::Listed(told) if same_text(told, event));
            prop_assert!(told, "{:?}", known);
        }
    }

    /// Order and stamps mean nothing, and nothing that was told is told again.
    #[test]
    fn any_shuffle_is_no_change(
        (events, shuffled) in any_feed()
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        stamp in 0..3_u32,
    ) {
        let mut feed = Feed::of(&events).at_once();
        let restamped: Vec<Event> = shuffled
            .into_iter()
            .map(|event| Event {
                sequence: event.sequence + stamp,
                last_modified: Some(feed.now),
                ..event
            })
            .collect();
        prop_assert_eq!(feed.poll(&restamped), [""; 0]);
    }
}

// ---- a window, and what may go wrong behind it -----------------------------------------------------

/// What happens to a feed between two readings, or to one reading of it.
#[derive(Clone, Debug)]
enum Step {
    /// An event is made that starts so many hours later.
    Make(u8),
    /// The so-manieth that is yet to come is deleted.
    Delete(u8),
    /// This reading is without the so-manieth.
    Flap(u8),
    /// This reading is what the last one should have been.
    Stale,
    /// Of this reading only so many events come.
    Cut(u8),
    /// This reading has no events.
    Empty,
    Quiet,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Make),
        3 => any::<u8>().prop_map(Step::Delete),
        2 => any::<u8>().prop_map(Step::Flap),
        1 => Just(Step::Stale),
        1 => any::<u8>().prop_map(Step::Cut),
        1 => Just(Step::Empty),
        4 => Just(Step::Quiet),
    ]
}

/// A site that lists the 30 events that come next.
struct Site {
    /// Those there are, by start in hours after the beginning.
    truth: BTreeMap<u32, Event>,
    made: usize,
    begin: Timestamp,
}

impl Site {
    const WINDOW: usize = 30;

    fn make(&mut self, now: Timestamp, hours: u8) {
        let zone = TimeZone::get("America/New_York").unwrap();
        let passed = now.duration_since(self.begin).as_hours() as u32;
        let mut at = passed + 2 + u32::from(hours);
        while self.truth.contains_key(&at) {
            at += 1;
        }
        self.made += 1;
        let start = zone.to_datetime(self.begin + i64::from(at).hours());
        let [from, until] = [0, 3600].map(|s| self.begin.as_second() + i64::from(at) * 3600 + s);
        let uid = format!("{}-{from}-{until}@events.example.edu", self.made);
        // Nothing like any other, or one that is deleted would have become the other.
        let title = format!("{:016x}", xxh3_64(uid.as_bytes()));
        self.truth.insert(at, event(&uid, &title, &start.to_string()));
    }

    fn listed(&self, now: Timestamp) -> Vec<Event> {
        let passed = now.duration_since(self.begin).as_hours() as u32;
        self.truth.range(passed + 1..).take(Self::WINDOW).map(|(_, event)| event.clone()).collect()
    }
}

fn on_list(events: &[Event]) -> BTreeSet<Uid> {
    events.iter().map(|event| event.uid.clone()).collect()
}

/// As many cases as the environment asks for, else these.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig::default();
    ProptestConfig { cases: if asked { config.cases } else { usual }, ..config }
}

proptest! {
    #![proptest_config(cases(60))]

    /// `PROPTEST_CASES=100000 cargo test --release -p beadle-calendar no_window` goes through more.
    #[test]
    fn no_window_flap_or_cut_withdraws_what_is_on(
        first in prop::collection::vec(any::<u8>(), 1..45),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let begin: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let instant = |when: &When| when.instant(&Zones::default(), &zone);
        let mut site = Site { truth: BTreeMap::new(), made: 0, begin };
        first.iter().for_each(|hours| site.make(begin, *hours));
        let mut feed = Feed::of(&site.listed(begin));
        feed.prodid = "-//Example - ECPv6.16.3//NONSGML v1.0//EN".into();
        let mut before = site.listed(begin);
        let mut was_sick = false;
        let mut told: Vec<Uid> = Vec::new();
        let mut seen = on_list(&before);
        let mut deleted: Vec<Event> = Vec::new();
        let mut on = on_list(&before);
        // At the end the site says for more than a day what is so.
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Quiet, 28)) {
            let nth = |n: u8, of: usize| (of > 0).then(|| usize::from(n) % of);
            let upcoming = site.listed(feed.now).len();
            match step {
                Step::Make(hours) => site.make(feed.now, hours),
                Step::Delete(n) => {
                    let passed = feed.now.duration_since(begin).as_hours() as u32;
                    let at = nth(n, upcoming).and_then(|n| {
                        site.truth.range(passed + 1..).nth(n).map(|(at, _)| *at)
                    });
                    let event = at.and_then(|at| site.truth.remove(&at));
                    // What was out of sight when it was deleted stays out of sight.
                    deleted.extend(event.filter(|event| seen.contains(&event.uid)));
                }
                _ => {}
            }
            let right = site.listed(feed.now);
            let (mut served, mut complete) = (right.clone(), true);
            // What is wrong twice in a row is what the feed says.
            let sick = !was_sick;
            match step {
                Step::Flap(n) if sick => { nth(n, served.len()).map(|n| served.remove(n)); }
                Step::Stale if sick => served = before,
                Step::Cut(n) => {
                    served.truncate(nth(n, served.len()).unwrap_or(0));
                    complete = false;
                }
                Step::Empty if sick => served.clear(),
                _ => {}
            }
            if complete {
                was_sick = served != right;
                seen = on_list(&served);
            }
            let passed = feed.now;
            let out = feed.reading(Reading {
                prodid: feed.prodid.clone(),
                events: served.iter().map(|e| (e.clone(), print(e))).collect(),
                complete,
                ..Reading::default()
            });
            let is: BTreeSet<Uid> = site.truth.values().map(|event| event.uid.clone()).collect();
            for change in &out.changes {
                match change.kind {
                    ChangeKind::New | ChangeKind::Reinstated => { on.insert(change.after.uid.clone()); }
                    ChangeKind::Missing => {
                        let uid = &change.after.uid;
                        prop_assert!(!is.contains(uid), "{uid} is on, at {passed}");
                        told.push(uid.clone());
                    }
                    other => prop_assert!(false, "{other:?} {}", change.after.uid),
                }
            }
            before = right;
            // Of the end of a list nobody knows whether it was pushed out.
            if complete && let Some(last) = served.last() {
                deleted.retain(|event| instant(&event.start) < instant(&last.start));
            }
        }
        for event in deleted.iter().filter(|event| instant(&event.start) > feed.now) {
            let uid = &event.uid;
            prop_assert!(told.contains(uid) || !on.contains(uid), "{uid} is gone and nobody knows");
        }
    }
}

//! Every reason in every medium, as pictures; and what must hold for any feed text.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::calendar::{Event, EventKey, JoinLink, Organizer, Recurrence, Uid};
use crate::plan::{Field, Item, Kind, Notification, Reason};

#[path = "../../tests/support/openapi.rs"]
mod openapi;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const ZONE: &str = "America/New_York";

fn at(text: &str) -> When {
    When::Zoned { local: text.parse().unwrap(), zone: ZONE.to_owned() }
}

fn day(text: &str) -> When {
    When::AllDay(text.parse().unwrap())
}

fn event(start: When, end: When) -> Event {
    Event {
        uid: Uid("4711@events.example.edu".to_owned()),
        recurrence_id: None,
        this_and_future: false,
        sequence: 0,
        status: Status::Confirmed,
        judged: None,
        start,
        end,
        summary: "Optics Colloquium: Light that waits".to_owned(),
        description: "Slow light lets a pulse rest in a cloud of cold atoms. We show how long it \
                      can rest, what it forgets, and how to wake it.\n\nCoffee from 3 PM.\n\
                      Passcode: 112233"
            .to_owned(),
        location: "Hall of Lenses, Room 2, 1 Mirror Lane".to_owned(),
        url: Some("https://events.example.edu/event/light-that-waits/".to_owned()),
        categories: vec!["Colloquium".to_owned(), "Physics".to_owned()],
        categories_raw: Vec::new(),
        organizer: Some(Organizer {
            name: "Department of Physics".to_owned(),
            email: "physics@example.edu".to_owned(),
        }),
        image: None,
        page_image: None,
        join: Some(JoinLink {
            service: "Zoom".to_owned(),
            url: "https://example.zoom.us/j/123456789".to_owned(),
        }),
        recurrence: Recurrence::default(),
        created: None,
        last_modified: None,
    }
}

fn seminar() -> Event {
    event(at("2026-12-02T15:30"), at("2026-12-02T16:45"))
}

fn instant(when: &When) -> Timestamp {
    when.instant(&Zones::default(), &Zones::default().get(ZONE).unwrap())
}

fn item(reason: Reason, before: Option<Event>, event: Event) -> Item {
    let moved = |old: fn(&Event) -> &When| {
        let was = before.as_ref().map(|before| instant(old(before)));
        was.filter(|was| *was != instant(old(&event)))
    };
    Item {
        feed: "example".to_owned(),
        feed_name: Some("Example University Events".to_owned()),
        key: EventKey("k".to_owned()),
        start: instant(&event.start),
        end: instant(&event.end),
        start_before: moved(|event| &event.start),
        end_before: moved(|event| &event.end),
        reason,
        before,
        event,
        series: false,
        revision: 0,
    }
}

fn notification(kind: Kind, items: Vec<Item>) -> Notification {
    Notification { source: "seminars".to_owned(), kind, zone: ZONE.to_owned(), items, more: 0 }
}

fn change(reason: Reason, before: Option<Event>, event: Event) -> Notification {
    notification(Kind::Changes, vec![item(reason, before, event)])
}

fn with(event: Event, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = event;
    change(&mut event);
    event
}

fn digest(items: Vec<Item>) -> Notification {
    let (from, to) = ("2026-11-30".parse().unwrap(), "2026-12-07".parse().unwrap());
    let mut digest = notification(Kind::Digest { from, to }, items);
    digest.source = "weekly".to_owned();
    digest
}

/// A week with what a week can hold.
fn week() -> Vec<Item> {
    let named = |name: &str, start, end| {
        with(event(start, end), |event| {
            event.summary = name.to_owned();
            event.join = None;
        })
    };
    vec![
        item(
            Reason::Upcoming,
            None,
            named("Exhibition: A century of prisms", day("2026-11-27"), day("2026-12-03")),
        ),
        item(
            Reason::Upcoming,
            None,
            named("Night at the telescope", at("2026-12-01T21:00"), at("2026-12-02T02:00")),
        ),
        item(Reason::Upcoming, None, seminar()),
        item(
            Reason::Upcoming,
            None,
            with(
                named("CANCELLED: Tea hour", at("2026-12-02T17:00"), at("2026-12-02T17:00")),
                |e| {
                    e.status = Status::Cancelled;
                },
            ),
        ),
        item(Reason::Upcoming, None, named("Reading days", day("2026-12-04"), day("2026-12-06"))),
    ]
}

/// Every reason, every kind, and the cases in which their wording differs.
fn cases() -> Vec<(&'static str, Notification)> {
    let old = seminar();
    let moved = with(old.clone(), |event| {
        event.start = at("2026-12-03T11:00");
        event.end = at("2026-12-03T12:15");
        event.location = "Hall of Mirrors".to_owned();
    });
    let rescheduled = |fields: &[Field]| Reason::Rescheduled { fields: fields.to_vec() };
    let updated = |fields: &[Field]| Reason::Updated { fields: fields.to_vec() };
    let all_day = with(old.clone(), |event| {
        event.start = day("2026-12-02");
        event.end = day("2026-12-03");
    });
    let ends_later = with(old.clone(), |event| event.end = at("2026-12-02T17:15"));
    let untold =
        with(old.clone(), |event| event.summary = "Optics Colloquium: Title TBD".to_owned());
    let rewritten = with(old.clone(), |event| {
        event.location = "Hall of Mirrors".to_owned();
        event.categories = vec!["Colloquium".to_owned(), "Optics".to_owned()];
        event.description = "The talk is now about fast light.".to_owned();
        event.status = Status::Tentative;
        event.join = None;
    });
    let cancelled = with(old.clone(), |event| {
        event.summary = "CANCELED: Optics Colloquium: Light that waits".to_owned();
        event.status = Status::Cancelled;
    });
    let elsewhere = with(old.clone(), |event| event.categories = vec!["Physics".to_owned()]);
    let reminder = Kind::Reminder { lead: "1h".to_owned() };
    let secret = with(old.clone(), |event| {
        event.join = Some(JoinLink {
            service: "Zoom".to_owned(),
            url: "https://example.zoom.us/j/123456789?pwd=s3cret".to_owned(),
        });
    });
    let mut series = item(Reason::New, None, secret);
    series.series = true;
    let many = vec![
        item(Reason::New, None, old.clone()),
        item(rescheduled(&[Field::Start, Field::Location]), Some(old.clone()), moved.clone()),
        item(Reason::Cancelled, Some(old.clone()), cancelled.clone()),
        item(rescheduled(&[Field::End]), Some(old.clone()), ends_later.clone()),
        item(Reason::Withdrawn, Some(old.clone()), old.clone()),
    ];
    vec![
        ("new", change(Reason::New, None, old.clone())),
        ("new_series_with_passcode", notification(Kind::Changes, vec![series])),
        (
            "new_with_picture",
            change(
                Reason::New,
                None,
                with(old.clone(), |event| {
                    event.image = Some("https://events.example.edu/light.jpg".to_owned());
                    event.categories = vec!["Exhibition".to_owned()];
                }),
            ),
        ),
        ("possible_duplicate", change(Reason::PossibleDuplicate, None, old.clone())),
        (
            "rescheduled",
            change(rescheduled(&[Field::Start, Field::Location]), Some(old.clone()), moved),
        ),
        ("ends_later", change(rescheduled(&[Field::End]), Some(old.clone()), ends_later)),
        ("now_all_day", change(rescheduled(&[Field::AllDay]), Some(old.clone()), all_day.clone())),
        ("time_announced", change(rescheduled(&[Field::AllDay]), Some(all_day), old.clone())),
        ("title_announced", change(updated(&[Field::Summary]), Some(untold), old.clone())),
        (
            "updated",
            change(
                updated(&[
                    Field::Location,
                    Field::Description,
                    Field::Categories,
                    Field::Status,
                    Field::Join,
                ]),
                Some(old.clone()),
                rewritten,
            ),
        ),
        ("cancelled", change(Reason::Cancelled, Some(old.clone()), cancelled.clone())),
        (
            "postponed",
            change(
                Reason::Postponed,
                Some(old.clone()),
                with(cancelled, |event| event.status = Status::Postponed),
            ),
        ),
        ("withdrawn", change(Reason::Withdrawn, Some(old.clone()), old.clone())),
        ("reinstated", change(Reason::Reinstated, Some(old.clone()), old.clone())),
        ("left", change(Reason::Left, Some(old.clone()), elsewhere.clone())),
        ("entered", change(Reason::Entered, Some(elsewhere), old.clone())),
        ("reminder", notification(reminder.clone(), vec![item(Reason::Upcoming, None, old)])),
        (
            "reminder_all_day",
            notification(reminder, vec![item(Reason::Upcoming, None, week().remove(4).event)]),
        ),
        ("many_changes", Notification { more: 12, ..notification(Kind::Changes, many) }),
        ("digest", digest(week())),
        ("digest_empty", digest(Vec::new())),
        ("welcome", notification(Kind::Welcome, week())),
        ("welcome_empty", notification(Kind::Welcome, Vec::new())),
    ]
}

/// What is posted in Discord where nobody is called.
fn posts(notification: &Notification, style: &Style) -> Vec<Value> {
    discord::render(notification, style, &discord::Attention::default())
}

/// Bodies one below the other.
fn pretty(bodies: &[Value]) -> String {
    let bodies = bodies.iter().map(|body| serde_json::to_string_pretty(body).unwrap());
    bodies.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_reason_in_every_medium() {
    let style = Style::default();
    for (name, notification) in cases() {
        let mail = email::render(&notification, &style);
        insta::assert_snapshot!(format!("{name}.discord"), pretty(&posts(&notification, &style)));
        insta::assert_snapshot!(
            format!("{name}.terminal"),
            terminal::render(&notification, &style)
        );
        insta::assert_snapshot!(
            format!("{name}.mail"),
            format!("Subject: {}\nPreheader: {}\n\n{}", mail.subject, mail.preheader, mail.text)
        );
        if matches!(name, "rescheduled" | "digest" | "many_changes") {
            insta::assert_snapshot!(format!("{name}.html"), mail.html);
        }
    }
}

#[test]
fn a_role_is_called_above_the_post() {
    let attention = discord::Attention { roles: vec![5], silent: true };
    let notification = change(Reason::New, None, seminar());
    let posts = discord::render(&notification, &Style::default(), &attention);
    insta::assert_snapshot!("new_for_a_role.discord", pretty(&posts));
}

#[test]
fn a_long_digest_goes_over_several_posts() {
    let posts = posts(&long_digest(6, 10), &Style::default());
    insta::assert_snapshot!("digest_long.discord", pretty(&posts));
}

#[test]
fn a_late_notice_says_so() {
    let notification = change(Reason::New, None, seminar());
    for (seconds, expected) in [(61, "1 min"), (7_300, "2 h"), (400_000, "4 days")] {
        let late_by = Some(Duration::from_secs(seconds));
        let style = Style { late_by, ..Style::default() };
        let sentence = format!("This notice is late by {expected}: beadle was not running");
        assert!(terminal::render(&notification, &style).contains(&sentence));
        let mail = email::render(&notification, &style);
        assert!(mail.html.contains(&sentence), "{}", mail.html);
        let body = posts(&notification, &style)[0].to_string();
        assert!(body.contains(&sentence), "{body}");
    }
}

#[test]
fn passcodes_are_shown_only_to_those_who_may_see_them() {
    let secret = with(seminar(), |event| {
        event.join.as_mut().unwrap().url.push_str("?pwd=s3cret");
    });
    let notification = change(Reason::New, None, secret);
    for show_passcodes in [false, true] {
        let style = Style { show_passcodes, ..Style::default() };
        let mail = email::render(&notification, &style);
        for text in [
            posts(&notification, &style)[0].to_string(),
            terminal::render(&notification, &style),
            mail.html,
            mail.text,
        ] {
            assert_eq!(text.contains("112233"), show_passcodes, "{text}");
            assert_eq!(text.contains("s3cret"), show_passcodes, "{text}");
            assert!(text.contains("123456789"), "{text}");
        }
    }
}

/// A digest of many days with many talks each.
fn long_digest(days: usize, talks: usize) -> Notification {
    let mut items = Vec::new();
    for (day, talk) in (1..=days).flat_map(|day| (0..talks).map(move |talk| (day, talk))) {
        let start = at(&format!("2026-12-{day:02}T{:02}:{:02}", 8 + talk % 12, talk / 12));
        let mut event = event(start.clone(), start);
        event.summary = format!("Talk {talk} of day {day}: a name of some length");
        items.push(item(Reason::Upcoming, None, event));
    }
    digest(items)
}

/// The descriptions of each message.
fn descriptions(posts: &[Value]) -> Vec<String> {
    let of_post = |post: &Value| {
        let embeds = post["embeds"].as_array().unwrap().iter();
        let texts: Vec<_> = embeds.filter_map(|embed| embed["description"].as_str()).collect();
        texts.join("\n")
    };
    posts.iter().map(of_post).collect()
}

/// A long digest goes over several messages, each with whole days.
#[test]
fn a_day_is_not_cut_in_two() {
    let posts = posts(&long_digest(6, 10), &Style::default());
    let told = descriptions(&posts);
    assert!(posts.len() > 1);
    for text in &told {
        assert_eq!(text.matches("**Talk ").count(), 10 * text.matches("### ").count(), "{text}");
    }
    assert_eq!(told.join("\n").matches("**Talk ").count(), 60);
    assert!(!told.concat().contains("more"));
    let title = |at: usize| posts[at]["embeds"][0]["title"].as_str().unwrap();
    assert_eq!(title(0), format!("Week of Mon, Nov 30 – Sun, Dec 6, 2026 · 1 of {}", posts.len()));
    assert!(title(1).ends_with(&format!(" · 2 of {}", posts.len())));
    assert!(
        posts
            .iter()
            .all(|post| post["embeds"].as_array().unwrap().last().unwrap()["footer"].is_object())
    );
}

/// A day that no message can hold begins one, and goes on in the next under its name.
#[test]
fn a_day_longer_than_a_message_goes_on_in_the_next() {
    let mut week = long_digest(2, 3);
    week.items.extend(long_digest(3, 100).items.split_off(200));
    let told = descriptions(&posts(&week, &Style::default()));
    let talks: usize = told.iter().map(|text| text.matches("**Talk ").count()).sum();
    assert_eq!(talks, 106, "nothing is left out");
    assert!(told[1].starts_with("### Thu, Dec 3\n"), "{}", told[1]);
    for text in &told[2..] {
        assert!(text.starts_with("### Thu, Dec 3 (continued)\n**Talk "), "{text}");
    }
}

#[test]
fn a_channel_is_not_flooded() {
    let mut year = long_digest(28, 200);
    year.more = 7;
    let posts = posts(&year, &Style::default());
    assert_eq!(posts.len(), 25);
    let told = descriptions(&posts);
    let talks: usize = told.iter().map(|text| text.matches("**Talk ").count()).sum();
    let rest = format!("… and {} more", 28 * 200 + 7 - talks);
    assert!(told[24].ends_with(&rest), "{rest}");
}

#[test]
fn roles_are_called_in_the_first_message_and_silence_holds_for_all() {
    let attention = discord::Attention { roles: vec![5, 6], silent: true };
    let posts = discord::render(&long_digest(7, 10), &Style::default(), &attention);
    assert_eq!(posts[0]["content"], "<@&5> <@&6>");
    let allowed = serde_json::json!({ "parse": [], "roles": ["5", "6"] });
    assert_eq!(posts[0]["allowed_mentions"], allowed);
    assert_eq!(posts[1]["allowed_mentions"], serde_json::json!({ "parse": [] }));
    assert!(posts[1].get("content").is_none());
    assert!(posts.iter().all(|post| post["flags"] == 4096));
}

/// What is wrong keeps its colour; what is plain has that of its category.
#[test]
fn a_category_has_a_colour() {
    let colour = |reason: Reason, categories: &[&str]| {
        let names = categories.iter().map(|name| (*name).to_owned()).collect();
        let event = with(seminar(), |event| event.categories = names);
        posts(&change(reason, None, event), &Style::default())[0]["embeds"][0]["color"].clone()
    };
    let physics = colour(Reason::New, &["Physics"]);
    assert_eq!(colour(Reason::Entered, &["PHYSICS", "Optics"]), physics);
    assert_ne!(colour(Reason::New, &["Optics"]), physics);
    assert_ne!(colour(Reason::Cancelled, &["Physics"]), physics);
    assert_eq!(colour(Reason::New, &[]), Tone::New.colour());
    assert_eq!(colour(Reason::Cancelled, &["Physics"]), Tone::Cancelled.colour());
}

/// A thread is named by its event, whatever becomes of that.
#[test]
fn a_thread_has_the_title_of_its_event() {
    let name = |reason, title: &str| {
        let event = with(seminar(), |event| event.summary = title.to_owned());
        discord::thread_name(&change(reason, None, event), &Style::default())
    };
    assert_eq!(name(Reason::New, "Light that waits"), "Light that waits");
    assert_eq!(name(Reason::Cancelled, "CANCELED: Light that waits"), "Light that waits");
    assert_eq!(name(Reason::New, "@everyone <@1>"), "＠everyone ‹＠1>");
    assert_eq!(name(Reason::New, " "), "(untitled event)");
    assert_eq!(words::utf16(&name(Reason::New, &"🎻".repeat(200))), 99);
    let weekly = discord::thread_name(&digest(week()), &Style::default());
    assert_eq!(weekly, "Week of Mon, Nov 30 – Sun, Dec 6, 2026");
}

#[test]
fn a_mail_stays_below_the_size_that_is_cut_off() {
    let mut items = Vec::new();
    for number in 0..2_000 {
        let mut event = seminar();
        event.summary = format!("<b>Talk</b> {number} & more");
        items.push(item(Reason::Upcoming, None, event));
    }
    let mail = email::render(&digest(items), &Style::default());
    assert!(mail.html.len() <= 90 * 1024, "{}", mail.html.len());
    assert!(mail.html.len() > 70 * 1024, "{}", mail.html.len());
    let shown = mail.text.matches("• <b>Talk").count();
    assert!(mail.text.contains(&format!("… and {} more", 2_000 - shown)));
    assert!(mail.html.contains(&format!("… and {} more", 2_000 - shown)));
}

#[test]
fn colours_can_be_told_from_white() {
    let channel = |value: u32| {
        let value = f64::from(value & 0xFF) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    for tone in [
        Tone::Cancelled,
        Tone::Postponed,
        Tone::Withdrawn,
        Tone::Rescheduled,
        Tone::Reinstated,
        Tone::Updated,
        Tone::New,
        Tone::Entered,
        Tone::Left,
        Tone::Duplicate,
        Tone::Upcoming,
        Tone::Listing,
    ] {
        let colour = tone.colour();
        let luminance = 0.2126 * channel(colour >> 16)
            + 0.7152 * channel(colour >> 8)
            + 0.0722 * channel(colour);
        let contrast = 1.05 / (luminance + 0.05);
        assert!(contrast >= 4.5, "{tone:?}: {contrast}");
    }
}

#[test]
fn placeholders_are_known() {
    for (text, expected) in [
        ("Title TBD", true),
        ("Seminar: TBA", true),
        ("To be announced", true),
        ("", true),
        ("…", true),
        ("Stbdy of TBDs", false),
        ("Light that waits", false),
    ] {
        assert_eq!(is_unknown(text), expected, "{text:?}");
    }
    for (title, expected) in [
        ("Canceled: Tea", "Tea"),
        ("CANCELLED – Tea", "Tea"),
        ("Cancelled orders in the law of war", "Cancelled orders in the law of war"),
        ("Tea", "Tea"),
    ] {
        assert_eq!(without_status(title), expected);
    }
}

// What must hold for any text.

fn hostile() -> BoxedStrategy<String> {
    let bits = prop_oneof![
        Just("@everyone"),
        Just("@here "),
        Just("<@&1>"),
        Just("<@!2>"),
        Just("<#3>"),
        Just("<t:0:R>"),
        Just("<a:x:1>"),
        Just(":smile:"),
        Just("[x](https://evil.example)"),
        Just("https://evil.example/a"),
        Just("**b**"),
        Just("~~s~~"),
        Just("||s||"),
        Just("```rs"),
        Just("`"),
        Just("\n# h"),
        Just("\n>>> q"),
        Just("\n- l"),
        Just("\n1. l"),
        Just("\\"),
        Just("</b><script>alert(1)</script>"),
        Just("\" onload=\"x"),
        Just("{{ 7 * 7 }}{% if %}"),
        Just("\u{1b}[31m"),
        Just("\u{202e}"),
        Just("\r\nBcc: x@y"),
        Just("日本語セミナー"),
        Just("👩‍👩‍👧"),
        Just("e\u{301}\u{301}\u{301}"),
        Just("word "),
    ];
    prop_oneof![
        3 => prop::collection::vec(bits, 0..30).prop_map(|bits| bits.concat()),
        1 => any::<String>(),
        1 => ("\\PC{1,8}", 1..900usize).prop_map(|(text, times)| text.repeat(times)),
        1 => Just(String::new()),
    ]
    .boxed()
}

fn hostile_url() -> BoxedStrategy<Option<String>> {
    prop::option::of(prop_oneof![
        hostile(),
        hostile().prop_map(|text| format!("https://events.example.edu/{text}")),
        hostile().prop_map(|text| format!("https://events.example.edu/?q={text}#{text}")),
        hostile().prop_map(|text| format!("javascript:{text}")),
    ])
    .boxed()
}

fn any_when() -> BoxedStrategy<When> {
    let date = (-9999i16..=9999, 1i8..=12, 1i8..=28)
        .prop_map(|(year, month, day)| jiff::civil::date(year, month, day));
    let near = (0i8..28).prop_map(|day| jiff::civil::date(2026, 12, day + 1));
    (prop_oneof![4 => near, 1 => date], 0i8..24, 0i8..60, any::<bool>())
        .prop_map(|(date, hour, minute, all_day)| {
            let local = date.at(hour, minute, 0, 0);
            if all_day { When::AllDay(date) } else { When::Zoned { local, zone: ZONE.to_owned() } }
        })
        .boxed()
}

fn any_event() -> BoxedStrategy<Event> {
    let texts = (hostile(), hostile(), hostile(), hostile());
    let urls = (hostile_url(), hostile_url(), hostile_url(), hostile());
    let rest = (prop::collection::vec(hostile(), 0..4), any_when(), any_when(), 0..4usize);
    (texts, urls, rest)
        .prop_map(|(texts, urls, (categories, start, end, status))| Event {
            summary: texts.0,
            description: texts.1,
            location: texts.2,
            organizer: Some(Organizer { name: texts.3, email: String::new() }),
            url: urls.0,
            image: urls.1,
            join: urls.2.map(|url| JoinLink { service: urls.3, url }),
            categories,
            status: [Status::Confirmed, Status::Tentative, Status::Cancelled, Status::Postponed]
                [status],
            ..event(start, end)
        })
        .boxed()
}

fn any_item() -> BoxedStrategy<Item> {
    let fields = || {
        vec![
            Field::Summary,
            Field::Start,
            Field::Location,
            Field::Description,
            Field::Categories,
            Field::Organizer,
            Field::Join,
            Field::Url,
            Field::Status,
        ]
    };
    let reason = prop_oneof![
        Just(Reason::New),
        Just(Reason::PossibleDuplicate),
        Just(Reason::Updated { fields: fields() }),
        Just(Reason::Rescheduled { fields: fields() }),
        Just(Reason::Cancelled),
        Just(Reason::Postponed),
        Just(Reason::Withdrawn),
        Just(Reason::Reinstated),
        Just(Reason::Left),
        Just(Reason::Entered),
        Just(Reason::Upcoming),
    ];
    (reason, prop::option::of(any_event()), any_event(), hostile(), any::<bool>())
        .prop_map(|(reason, before, event, name, series)| Item {
            feed_name: Some(name),
            series,
            ..item(reason, before, event)
        })
        .boxed()
}

fn any_notification() -> BoxedStrategy<Notification> {
    let kind = prop_oneof![
        3 => Just(Kind::Changes),
        1 => Just(Kind::Reminder { lead: "1d".to_owned() }),
        1 => Just(digest(Vec::new()).kind),
        1 => Just(Kind::Welcome),
    ];
    let items = prop_oneof![
        prop::collection::vec(any_item(), 1),
        prop::collection::vec(any_item(), 0..12),
    ];
    (kind, items, prop_oneof![Just(0), any::<usize>()])
        .prop_map(|(kind, items, more)| Notification { more, ..notification(kind, items) })
        .boxed()
}

/// Units of the parts of an embed that share a limit, each held to its own.
fn embed_size(embed: &Value) -> usize {
    let text = |value: &Value, max: usize| {
        let units = words::utf16(value.as_str().unwrap_or_default());
        assert!(units <= max, "{units} units in {value}");
        units
    };
    let mut size = text(&embed["title"], 256)
        + text(&embed["description"], 4096)
        + text(&embed["footer"]["text"], 2048);
    let fields = embed["fields"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(fields.len() <= 25);
    for field in fields {
        assert_ne!(field["value"].as_str().unwrap().trim(), "");
        size += text(&field["name"], 256) + text(&field["value"], 1024);
    }
    size
}

/// The label of a link that we make in lists, and what comes after it.
fn our_link(text: &str) -> Option<(&str, &str)> {
    let (label, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (url, tail) = rest.split_once(')')?;
    let ours = matches!(label, "Details" | "Join") || label.starts_with("Join ");
    let plain = !label.contains(['[', ']', '(', ')', '\n']) && !url.contains(char::is_whitespace);
    (ours && plain && url.starts_with("http")).then_some((label, tail))
}

/// A text with a `T` for everything that Discord shows literally: escaped punctuation, our
/// timestamps, addresses, which are linked as they stand, and our links.
fn markup_of(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(c) = rest.chars().next() {
        let tag = rest
            .strip_prefix("<t:")
            .and_then(|tail| tail.split_once('>'))
            .filter(|(inner, _)| inner.chars().all(|c| "0123456789-:tFR".contains(c)));
        if let Some((_, tail)) = tag {
            out.push('T');
            rest = tail;
        } else if let Some((label, tail)) = our_link(rest) {
            out.push_str(&markup_of(label));
            rest = tail;
        } else if rest.starts_with("https://") || rest.starts_with("http://") {
            out.push('T');
            rest = rest.trim_start_matches(|c: char| !c.is_whitespace() && c != '<');
        } else if c == '\\' {
            out.push('T');
            rest = &rest[1..];
            rest = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[test]
fn discord_would_accept_what_is_shown() {
    proptest!(ProptestConfig::with_cases(32), |(
        items in prop::collection::vec(any_item(), 0..30),
        title in hostile(),
        more in any::<usize>(),
    )| {
        let shown = Notification { more, ..digest(items.clone()) };
        let agenda = shown::agenda(&title, &shown, &Style::default());
        prop_assert_eq!(openapi::faults("POST", "/channels/7/messages", &agenda), Vec::<String>::new());
        let embeds = agenda["embeds"].as_array().unwrap();
        prop_assert!(embeds.iter().map(embed_size).sum::<usize>() <= 6000);
        for item in items.into_iter().take(3) {
            let shown = notification(Kind::Changes, vec![item.clone()]);
            let said = discord::render(&shown, &Style::default(), &discord::Attention::default());
            let edited = shown::edited(&said[0], &shown);
            let path = "/channels/7/messages/9";
            prop_assert_eq!(openapi::faults("PATCH", path, &edited), Vec::<String>::new());
            let title = edited["embeds"][0]["title"].as_str().unwrap();
            prop_assert_eq!(markup_of(title).matches("~~").count() % 2, 0, "{:?}", title);
            // None is made of the past, and none of what has no year.
            if item.start.as_second() < 0 {
                continue;
            }
            let event = shown::scheduled_event(&item.event, item.start, item.end);
            let path = "/guilds/5/scheduled-events";
            prop_assert_eq!(openapi::faults("POST", path, &event), Vec::<String>::new());
            if let Some(about) = event["description"].as_str() {
                let markup = markup_of(about);
                prop_assert!(!markup.contains('@') && !markup.contains("]("), "{:?}", about);
            }
        }
    });
}

#[test]
fn a_scheduled_event_says_where_it_is() {
    let shown = |event: Event| {
        let event = shown::scheduled_event(&event, instant(&event.start), instant(&event.end));
        event["entity_metadata"]["location"].as_str().unwrap().to_owned()
    };
    let join = |url: &str| Some(JoinLink { service: "Zoom".to_owned(), url: url.to_owned() });
    let secret = "https://zoom.us/j/1?pwd=CANARY";
    let page = Some("https://events.example.edu/a".to_owned());
    for (location, join, url, expected) in [
        ("Towne Building,\nRoom 100", None, page.clone(), "Towne Building, Room 100"),
        ("", None, page.clone(), "https://events.example.edu/a"),
        ("", None, None, "See description"),
        ("", join("https://meet.example/a"), page.clone(), "https://meet.example/a"),
        ("", join(secret), page, "https://zoom.us/j/1"),
        (secret, None, None, "https://zoom.us/j/1"),
        ("Room 1, passcode: CANARY", None, None, "Room 1, passcode: [hidden]"),
    ] {
        let place = shown(with(seminar(), |event| {
            event.location = location.to_owned();
            event.join = join;
            event.url = url;
        }));
        assert_eq!(place, expected);
    }
    let long = with(seminar(), |event| event.location = "Wide hall ".repeat(20));
    let place = shown(long);
    assert!(words::utf16(&place) <= 100 && place.ends_with("hall…"), "{place}");
}

/// What is wrong with a body, for a bot, a webhook, and a forum.
fn faults(body: &Value) -> Vec<String> {
    let mut by_bot = body.clone();
    by_bot["nonce"] = discord::nonce(KEY).into();
    by_bot["enforce_nonce"] = true.into();
    let forum = serde_json::json!({ "name": "x", "message": body });
    let mut faults = openapi::faults("POST", "/channels/7/messages", &by_bot);
    let hook = "/webhooks/8/token?wait=true&with_components=true";
    faults.extend(openapi::faults("POST", hook, body));
    faults.extend(openapi::faults("POST", "/channels/7/threads", &forum));
    faults
}

#[test]
fn discord_would_accept_every_case() {
    openapi::warm_up();
    for (name, notification) in cases() {
        for body in posts(&notification, &Style::default()) {
            assert_eq!(faults(&body), Vec::<String>::new(), "{name}: {body}");
        }
    }
}

#[test]
fn any_text_keeps_within_discord() {
    proptest!(ProptestConfig::with_cases(96), |(notification in any_notification())| {
        let attention = discord::Attention { roles: vec![1, 2], silent: true };
        let name = discord::thread_name(&notification, &Style::default());
        prop_assert!((1..=100).contains(&words::utf16(&name)) && !name.trim().is_empty());
        for mut body in discord::render(&notification, &Style::default(), &attention) {
        prop_assert_eq!(faults(&body), Vec::<String>::new());
        body.as_object_mut().unwrap().remove("content");
        let embeds = body["embeds"].as_array().unwrap();
        prop_assert!((1..=10).contains(&embeds.len()));
        prop_assert!(embeds.iter().map(embed_size).sum::<usize>() <= 6000);
        prop_assert_eq!(&body["allowed_mentions"]["parse"], &serde_json::json!([]));
        for embed in embeds {
            let fields = embed["fields"].as_array().map_or(&[][..], Vec::as_slice);
            let texts = [&embed["title"], &embed["description"]]
                .into_iter()
                .chain(fields.iter().map(|field| &field["value"]));
            for text in texts.filter_map(Value::as_str) {
                let markup = markup_of(text);
                for bad in ["@", "<", "`", "|", "[", "]", "_", "\n>", "\n-", "\n# ", "***"] {
                    prop_assert!(!markup.contains(bad), "{:?} in {:?}", bad, text);
                }
                prop_assert_eq!(markup.matches("**").count() % 2, 0, "{:?}", text);
                prop_assert_eq!(markup.matches("~~").count() % 2, 0, "{:?}", text);
                prop_assert!(!markup.contains("]("), "{:?}", text);
            }
        }
        let footer = embeds.last().unwrap()["footer"]["text"].as_str().unwrap();
        prop_assert!(!footer.contains(['@', '<']));
        for row in body["components"].as_array().into_iter().flatten() {
            for button in row["components"].as_array().unwrap() {
                let url = button["url"].as_str().unwrap();
                prop_assert!(url.starts_with("https://") || url.starts_with("http://"));
                prop_assert!(words::utf16(url) <= 512);
                prop_assert!(words::utf16(button["label"].as_str().unwrap()) <= 80);
            }
        }
        }
    });
    eprintln!("{} requests to Discord judged so far", openapi::judged());
}

/// Names of elements and attributes of an HTML text, by the rules that a browser starts a tag by.
fn tags(html: &str) -> Vec<(String, Vec<String>)> {
    html.split('<')
        .skip(1)
        .map(|tag| {
            let (mut inside, mut quoted) = (String::new(), false);
            for c in tag.chars() {
                match c {
                    '"' => quoted = !quoted,
                    '>' if !quoted => break,
                    c if !quoted => inside.push(c),
                    _ => {}
                }
            }
            let mut words = inside.split_whitespace().map(str::to_owned);
            (words.next().unwrap_or_default(), words.collect())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_text_stays_text_in_mail(notification in any_notification()) {
        let mail = email::render(&notification, &Style::default());
        prop_assert!(mail.html.len() <= 90 * 1024);
        for part in [&mail.subject, &mail.preheader] {
            prop_assert!(!part.chars().any(char::is_control));
        }
        for (name, attributes) in tags(&mail.html) {
            prop_assert!(
                [
                    "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "div", "table",
                    "tr", "td", "span", "h1", "h2", "p", "b", "s", "a", "br", "img",
                ].contains(&name.trim_start_matches('/')),
                "{}", name
            );
            for attribute in attributes {
                let known = [
                    "html", "lang=", "dir=", "charset=", "name=", "content=", "class=", "style=",
                    "role=", "width=", "cellpadding=", "cellspacing=", "border=", "align=",
                    "valign=", "href=", "src=", "alt=",
                ];
                prop_assert!(known.contains(&attribute.as_str()), "{} {}", name, attribute);
            }
        }
        for href in mail.html.split("href=\"").chain(mail.html.split("src=\"")).skip(1) {
            prop_assert!(
                href.starts_with("http") || href.starts_with("<!DOCTYPE"),
                "{}", href.chars().take(40).collect::<String>()
            );
        }
        for line in mail.text.lines() {
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(words::columns(line) <= 72 || line.contains("http"), "{:?}", line);
        }
    }

    #[test]
    fn any_text_is_harmless_in_a_terminal(notification in any_notification()) {
        let text = terminal::render(&notification, &Style::default());
        for line in text.lines() {
            prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            prop_assert!(words::columns(line) <= 80 || line.contains("http"), "{:?}", line);
        }
    }
}

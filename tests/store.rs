//! The state: who may open it, and what becomes of a delivery.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use beadle::plan::{Kind, Notification};
use beadle::store::{
    Access, Delivery, DeliveryState, Happening, NewDelivery, Settlement, Store, StoreError,
    Written, delivery_id,
};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Connection, Executor};

const LEASE: SignedDuration = SignedDuration::from_mins(15);

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_772_700_000 + minute * 60).unwrap()
}

async fn open(folder: &Path) -> Store {
    Store::open(folder, Access::Exclusive).await.unwrap()
}

fn delivery(name: &str, endpoint: &str) -> NewDelivery {
    NewDelivery {
        id: delivery_id(endpoint, name),
        endpoint: endpoint.to_owned(),
        notification: Written::from(&Notification {
            source: name.to_owned(),
            kind: Kind::Welcome,
            zone: "UTC".to_owned(),
            items: Vec::new(),
            more: 0,
        }),
        due_at: at(0),
        not_after: at(1000),
    }
}

#[test]
fn every_transition_of_a_delivery() {
    use DeliveryState::*;
    let table = [
        (Happening::Claimed, [Some(Leased), Some(Leased), None, None, None, None]),
        (Happening::Accepted, [None, Some(Sent), None, None, None, None]),
        (Happening::PutOff, [None, Some(Pending), None, None, None, None]),
        (Happening::GivenBack, [None, Some(Pending), None, None, None, None]),
        (Happening::Refused, [None, Some(Dead), None, None, None, None]),
        (Happening::Overtaken, [Some(Superseded), Some(Superseded), None, None, None, None]),
        (Happening::TooLate, [Some(Expired), Some(Expired), None, None, None, None]),
        (
            Happening::Revived,
            [Some(Pending), None, None, Some(Pending), Some(Pending), Some(Pending)],
        ),
        (Happening::Dropped, [Some(Superseded), None, None, Some(Superseded), None, None]),
    ];
    for (happening, row) in table {
        for (state, expected) in DeliveryState::ALL.into_iter().zip(row) {
            assert_eq!(state.after(happening), expected, "{state} {happening:?}");
        }
    }
}

#[tokio::test]
async fn what_was_written_ahead_goes_before_what_falls_due_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let rows =
        ["d", "c", "b", "a"].map(|name| NewDelivery { due_at: at(60), ..delivery(name, "one") });
    store.write_ahead(&rows[..2], at(0)).await.unwrap();
    store.commit_due(&rows[2..], &[], at(60)).await.unwrap();
    assert!(store.claim_due(at(59), LEASE, 9, 9).await.unwrap().is_empty());
    let claimed = store.claim_due(at(60), LEASE, 9, 9).await.unwrap();
    let order: Vec<_> = claimed.iter().map(|one| one.notification.source.as_str()).collect();
    assert_eq!(order, ["d", "c", "b", "a"]);
}

#[tokio::test]
async fn only_what_is_not_due_yet_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let row = |name: &str, due: i64| NewDelivery { due_at: at(due), ..delivery(name, "one") };
    store.commit_due(&[row("due", 0)], &[], at(0)).await.unwrap();
    store.write_ahead(&[row("fell due", 10), row("later", 20)], at(0)).await.unwrap();
    store.commit_due(&[], &[], at(10)).await.unwrap();
    assert_eq!(store.take_back(at(10)).await.unwrap(), 1);
    let left = store.deliveries(None, 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|one| one.notification.source.as_str()).collect();
    assert_eq!(left, ["fell due", "due"]);
}

#[tokio::test]
async fn what_belongs_to_a_message_that_was_sent_is_not_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let row = NewDelivery { due_at: at(10), ..delivery("a", "one") };
    store.write_ahead(&[row], at(0)).await.unwrap();
    let [whole] = store.claim_due(at(10), LEASE, 9, 9).await.unwrap().try_into().unwrap();
    let parts = store.freeze_parts(&whole, "first", &["second".to_owned()]).await.unwrap();
    let sent = Settlement::Sent { remote_id: "1/2".to_owned() };
    store.settle(&whole, &sent, None, at(10)).await.unwrap();
    store.give_back(&parts).await.unwrap();
    assert_eq!(store.take_back(at(0)).await.unwrap(), 0);
    assert_eq!(store.claim_due(at(12), LEASE, 9, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_delivery_is_kept_once_and_claimed_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let all: Vec<_> = (0..50).map(|n| delivery(&format!("n{n}"), &format!("e{n}"))).collect();
    assert_eq!(store.commit_due(&all, &[], at(0)).await.unwrap(), 50);
    assert_eq!(store.commit_due(&all, &[], at(1)).await.unwrap(), 0, "the same again");

    // Two processes at once, each in small bites.
    let other = Store::open(folder.path(), Access::Shared).await.unwrap();
    let mut claimed = Vec::new();
    while claimed.len() < 50 {
        let (mine, theirs) = tokio::join!(
            store.claim_due(at(1), LEASE, 7, 100),
            other.claim_due(at(1), LEASE, 7, 100)
        );
        let bite: Vec<_> = mine.unwrap().into_iter().chain(theirs.unwrap()).collect();
        assert!(!bite.is_empty());
        claimed.extend(bite.into_iter().map(|one| one.notification.source));
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 50, "nothing was claimed twice");
    assert!(store.claim_due(at(14), LEASE, 100, 100).await.unwrap().is_empty());
    assert_eq!(
        store.claim_due(at(16), LEASE, 100, 100).await.unwrap().len(),
        50,
        "the leases ran out"
    );
}

#[tokio::test]
async fn nothing_is_claimed_for_an_endpoint_that_is_being_sent_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let all = ["a1", "a2", "b1"].map(|name| delivery(name, &name[..1]));
    store.commit_due(&all, &[], at(0)).await.unwrap();
    let first = store.claim_due(at(1), LEASE, 1, 100).await.unwrap().remove(0);
    let names = |claimed: Vec<Delivery>| -> Vec<String> {
        claimed.into_iter().map(|one| one.notification.source).collect()
    };
    assert_eq!(names(store.claim_due(at(1), LEASE, 10, 100).await.unwrap()), ["b1"]);
    assert_eq!(store.next_attempt().await.unwrap(), None);
    let end = Settlement::Sent { remote_id: String::new() };
    store.settle(&first, &end, None, at(2)).await.unwrap();
    assert_eq!(names(store.claim_due(at(2), LEASE, 10, 100).await.unwrap()), ["a2"]);
}

#[tokio::test]
async fn messages_are_claimed_in_the_order_they_were_planned() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let names: Vec<_> = (0..20).map(|n| format!("{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| delivery(name, "a")).collect();
    store.commit_due(&all, &[], at(0)).await.unwrap();
    let claimed = store.claim_due(at(1), LEASE, 100, 100).await.unwrap();
    let sources: Vec<_> = claimed.into_iter().map(|one| one.notification.source).collect();
    assert_eq!(sources, names);
}

#[tokio::test]
async fn an_attempt_whose_lease_was_taken_over_settles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit_due(&[delivery("one", "a")], &[], at(0)).await.unwrap();
    let slow = store.claim_due(at(0), LEASE, 1, 100).await.unwrap().remove(0);
    let quick = store.claim_due(at(20), LEASE, 1, 100).await.unwrap().remove(0);
    let sent = |id: &str| Settlement::Sent { remote_id: id.to_owned() };
    store.settle(&quick, &sent("second"), None, at(21)).await.unwrap();
    store
        .settle(&slow, &Settlement::Dead { reason: "late".to_owned() }, None, at(22))
        .await
        .unwrap();
    let rows = store.deliveries(Some(DeliveryState::Sent), 10).await.unwrap();
    assert_eq!(rows[0].remote_id.as_deref(), Some("second"));
    assert_eq!(rows[0].last_error, None);
}

#[tokio::test]
async fn a_restart_makes_leases_run_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let both = [delivery("one", "a"), delivery("two", "b")];
    store.commit_due(&both, &[], at(0)).await.unwrap();
    store.claim_due(at(0), LEASE, 2, 100).await.unwrap();
    store.freeze(&[(both[0].id.clone(), "a message".to_owned())]).await.unwrap();
    drop(store);
    let store = open(folder.path()).await;
    assert!(store.claim_due(at(1), LEASE, 2, 100).await.unwrap().is_empty());
    // The other one was not written yet, so it cannot have arrived.
    assert_eq!(store.recover(at(1)).await.unwrap(), [both[0].endpoint.clone()]);
    let again = store.claim_due(at(1), LEASE, 2, 100).await.unwrap();
    assert_eq!(again.iter().map(|one| one.attempts).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn the_message_of_the_first_attempt_is_that_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let one = delivery("one", "a");
    store.commit_due(std::slice::from_ref(&one), &[], at(0)).await.unwrap();
    for payload in ["first", "second"] {
        store.freeze(&[(one.id.clone(), payload.to_owned())]).await.unwrap();
    }
    let claimed = store.claim_due(at(0), LEASE, 1, 100).await.unwrap();
    assert_eq!(claimed[0].payload.as_deref(), Some("first"));
}

#[tokio::test]
async fn a_parked_endpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let rows = [delivery("one", "a"), delivery("one", "b")];
    store.commit_due(&rows, &[], at(0)).await.unwrap();
    assert!(store.park("a", "403", at(60), None, at(0)).await.unwrap(), "newly");
    assert!(!store.park("a", "403", at(60), None, at(1)).await.unwrap(), "known");
    let endpoints = async |minute| {
        let claimed = store.claim_due(at(minute), LEASE, 10, 100).await.unwrap();
        claimed.into_iter().map(|one| one.endpoint).collect::<Vec<_>>()
    };
    assert_eq!(endpoints(1).await, ["b"]);
    assert_eq!(endpoints(5).await, [""; 0]);
    assert!(endpoints(60).await.contains(&"a".to_owned()));
}

#[tokio::test]
async fn the_operator_revives_and_drops() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let rows = [delivery("one", "a"), delivery("two", "a"), delivery("three", "b")];
    store.commit_due(&rows, &[], at(0)).await.unwrap();
    for one in store.claim_due(at(0), LEASE, 2, 100).await.unwrap() {
        let reason = "400".to_owned();
        store.settle(&one, &Settlement::Dead { reason }, None, at(1)).await.unwrap();
    }
    store.park("a", "403", at(60), None, at(1)).await.unwrap();
    let revived = store.intervene("", Happening::Revived, at(2)).await.unwrap();
    assert_eq!(revived.len(), 2, "all that are dead, and no other");
    let parked = store.parked().await.unwrap();
    assert_eq!(parked[0].retry_at, at(2), "their endpoint is tried, and not yet back");
    let dropped = store.intervene(&rows[2].id[..8], Happening::Dropped, at(2)).await.unwrap();
    assert_eq!(dropped[0].notification.source, "three");
    let claimed = store.claim_due(at(2), LEASE, 10, 100).await.unwrap();
    assert_eq!(claimed.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 1]);
    let again = store.intervene(&rows[2].id, Happening::Dropped, at(3)).await.unwrap();
    assert!(again.is_empty(), "what is settled cannot be dropped");

    // One of 17 ids begins like another.
    let more: Vec<_> = (0..17).map(|n| delivery(&format!("more {n}"), "c")).collect();
    store.commit_due(&more, &[], at(3)).await.unwrap();
    let first = |one: &NewDelivery| one.id[..1].to_owned();
    let twice =
        |one: &&NewDelivery| more.iter().filter(|other| first(other) == first(one)).count() > 1;
    let beginning = first(more.iter().find(twice).unwrap());
    let error = store.intervene(&beginning, Happening::Dropped, at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::Ambiguous(2..)), "{error}");
    let waiting = store.claim_due(at(3), LEASE, 100, 100).await.unwrap();
    assert_eq!(waiting.len(), more.len(), "nothing happened to any");
}

#[tokio::test]
async fn what_was_settled_long_ago_is_tidied_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit_due(&[delivery("one", "a"), delivery("two", "a")], &[], at(0)).await.unwrap();
    let claimed = store.claim_due(at(0), LEASE, 2, 100).await.unwrap();
    let ends = [
        Settlement::Sent { remote_id: "1".to_owned() },
        Settlement::Dead { reason: "400".to_owned() },
    ];
    for (one, end) in claimed.iter().zip(&ends) {
        store.settle(one, end, None, at(0)).await.unwrap();
    }
    let days = |days: i64| at(days * 24 * 60);
    assert_eq!(store.tidy(days(399)).await.unwrap(), 0);
    assert_eq!(store.tidy(days(401)).await.unwrap(), 2);
    assert!(store.counts().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_database_of_a_newer_beadle_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await);
    let file = folder.path().join("beadle.db");
    let mut connection =
        sqlx::AnyConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    connection.execute("INSERT INTO schema_version (version) VALUES (99)").await.unwrap();
    drop(connection);
    for access in [Access::Exclusive, Access::Shared] {
        let error = Store::open(folder.path(), access).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn one_process_holds_the_state_and_others_may_look() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Store::open(folder.path(), Access::Shared).await.unwrap_err();
    assert!(matches!(absent, StoreError::Absent(_)), "{absent}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes no files");

    let store = open(folder.path()).await;
    let second = Store::open(folder.path(), Access::Exclusive).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    Store::open(folder.path(), Access::Shared).await.unwrap();
    assert!(Store::in_use(folder.path()));
    drop(store);
    assert!(!Store::in_use(folder.path()));
    open(folder.path()).await;

    // `beadle status` asks who holds it, and for that holds it for a moment.
    let asking = std::fs::File::open(folder.path().join("beadle.lock")).unwrap();
    asking.lock_shared().unwrap();
    let asking = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(asking);
    });
    open(folder.path()).await;
    asking.join().unwrap();
}

#[tokio::test]
async fn who_ends_in_peace_leaves_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let log = folder.path().join("beadle.db-wal");
    assert!(log.exists());
    store.close().await.unwrap();
    assert!(!log.exists());
    open(folder.path()).await;
}

#[tokio::test]
async fn each_endpoint_gives_one_before_any_gives_two() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut rows: Vec<_> = (0..50).map(|n| delivery(&format!("busy {n}"), "busy")).collect();
    rows.extend([delivery("one", "quiet"), delivery("two", "calm")]);
    store.commit_due(&rows, &[], at(0)).await.unwrap();
    let claimed = store.claim_due(at(1), LEASE, 4, 3).await.unwrap();
    let of = |endpoint| claimed.iter().filter(|one| one.endpoint == endpoint).count();
    assert_eq!((of("busy"), of("quiet"), of("calm")), (2, 1, 1));
    assert!(store.claim_due(at(1), LEASE, 4, 3).await.unwrap().is_empty(), "all are busy now");
}

#[tokio::test]
async fn what_is_held_is_not_overtaken_and_other_endpoints_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let rows = [delivery("1", "a"), delivery("2", "a"), delivery("3", "b")];
    store.commit_due(&rows, &[], at(0)).await.unwrap();
    store.hold("a", at(5)).await.unwrap();
    let names = |claimed: Vec<Delivery>| -> Vec<String> {
        claimed.into_iter().map(|one| one.endpoint).collect()
    };
    assert_eq!(names(store.claim_due(at(4), LEASE, 9, 9).await.unwrap()), ["b"]);
    assert_eq!(store.next_attempt().await.unwrap(), Some(at(5)));
    assert_eq!(names(store.claim_due(at(5), LEASE, 9, 9).await.unwrap()), ["a", "a"]);
}

/// However much is held elsewhere, it is not looked at.
#[tokio::test]
async fn only_what_a_message_may_wait_for_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let change = |name: &str, endpoint: &str| {
        let row = delivery(name, endpoint);
        let notification = row.notification.read().unwrap();
        let notification = Written::from(&Notification { kind: Kind::Changes, ..notification });
        NewDelivery { notification, ..row }
    };
    let held = [change("1", "a"), change("2", "a"), change("3", "b"), change("4", "c")];
    store.commit_due(&held, &[], at(0)).await.unwrap();
    for endpoint in ["a", "b", "c"] {
        store.hold(endpoint, at(60)).await.unwrap();
    }
    let due = [change("5", "a"), delivery("6", "b"), change("7", "d")];
    store.commit_due(&due, &[], at(1)).await.unwrap();
    let claimed = store.claim_due(at(1), LEASE, 9, 9).await.unwrap();
    assert_eq!(claimed.len(), 3);
    let before = store.put_off_before(&claimed, at(1)).await.unwrap();
    let names: Vec<_> = before.into_iter().map(|one| one.notification.source).collect();
    assert_eq!(names, ["1", "2"], "of the endpoints whose messages have an order");
}

#[tokio::test]
async fn many_rows_at_once_are_kept_each_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut rows: Vec<_> = (0..600).map(|n| delivery(&format!("{n}"), "a")).collect();
    store.commit_due(&rows[100..110], &[], at(0)).await.unwrap();
    // Twice in one statement, and some that are there already.
    rows.push(rows[599].clone());
    assert_eq!(store.commit_due(&rows, &[], at(1)).await.unwrap(), 590);
    let claimed = store.claim_due(at(1), LEASE, 1000, 1000).await.unwrap();
    let mut names: Vec<_> = claimed.into_iter().map(|one| one.notification.source).collect();
    // Those that were there stand where they would have stood without the others.
    names.retain(|name| !(100..110).contains(&name.parse::<i32>().unwrap()));
    let others = (0..600).filter(|n| !(100..110).contains(n)).map(|n| n.to_string());
    assert!(names.into_iter().eq(others));
}

/// An attempt that surely did not arrive leaves no doubt, and takes none away.
#[tokio::test]
async fn doubt_lasts_from_the_first_attempt_that_may_have_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit_due(&[delivery("one", "a")], &[], at(0)).await.unwrap();
    let mut doubts = Vec::new();
    for (minute, doubtful) in [(0, false), (10, true), (20, true), (30, false), (40, false)] {
        let claimed = store.claim_due(at(minute), LEASE, 1, 1).await.unwrap().remove(0);
        doubts.push(claimed.doubt_since);
        let reason = "503".to_owned();
        let end = Settlement::PutOff { until: at(minute), reason, anew: false, doubtful };
        store.settle(&claimed, &end, None, at(minute)).await.unwrap();
    }
    let since = Some(at(10));
    assert_eq!(doubts, [None, None, since, since, since]);
}

#[tokio::test]
async fn a_notice_is_kept_with_what_it_is_about() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit_due(&[delivery("one", "a"), delivery("two", "b")], &[], at(0)).await.unwrap();
    let claimed = store.claim_due(at(0), LEASE, 9, 9).await.unwrap();
    let back = delivery("back", "admin");
    let sent = Settlement::Sent { remote_id: String::new() };
    store.settle(&claimed[0], &sent, Some(&back), at(1)).await.unwrap();
    assert_eq!(
        store.deliveries(Some(DeliveryState::Pending), 9).await.unwrap().len(),
        0,
        "it was not parked"
    );
    let parked = delivery("parked", "admin");
    for _ in 0..2 {
        store.park("b", "403", at(60), Some(&parked), at(1)).await.unwrap();
    }
    assert_eq!(store.deliveries(Some(DeliveryState::Pending), 9).await.unwrap().len(), 1);
    store.settle(&claimed[1], &sent, Some(&back), at(2)).await.unwrap();
    assert_eq!(
        store.deliveries(Some(DeliveryState::Pending), 9).await.unwrap().len(),
        2,
        "it was parked"
    );
}

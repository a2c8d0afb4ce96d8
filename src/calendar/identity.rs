//! Which event a VEVENT is, when its UID cannot be trusted to say.
//!
//! A UID that changes with the start (The Events Calendar: `<post>-<start>-<end>@host`), a UID made
//! anew for every fetch, an event deleted and entered again: to the audience all of these are the
//! same event. [`key`] names an event as steadily as one VEVENT allows; [`rematch`] pairs what
//! vanished with what appeared in the same poll.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Event, EventKey, Uid, Zones};

/// Two events more than this apart are not the same one moved.
const MAX_MOVE_DAYS: i64 = 60;

/// The part of a UID that stays when the event moves: `post@host` of `post-start-end@host`, where
/// post, start and end are numbers and start and end could be seconds since 1970.
pub fn stem(uid: &Uid) -> Option<String> {
    let (local, host) = uid.0.split_once('@')?;
    let mut parts = local.split('-');
    let (post, start, end) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (parts.next().is_none()
        && number(post)
        && number(start)
        && number(end)
        && start.len() >= 9
        && end.len() >= 9)
        .then(|| format!("{post}@{host}"))
}

/// The key of an event at first sight. `stem_is_unique` is false where two events of one feed share
/// a stem, which then names a series and no event.
pub fn key(event: &Event, stem_is_unique: bool) -> EventKey {
    let name = stem(&event.uid).filter(|_| stem_is_unique).unwrap_or_else(|| event.uid.0.clone());
    EventKey(match &event.recurrence_id {
        // The wall time: an override is not another one because its zone is spelt differently.
        Some(id) => format!("{name}#{}", id.local()),
        None => name,
    })
}

/// Greater for the newer of two texts with one UID (RFC 5546, 2.1.5).
pub fn age(event: &Event) -> (u32, Option<Timestamp>) {
    (event.sequence, event.last_modified)
}

/// Keeps the newest text of each UID and `RECURRENCE-ID`; the order is that of these.
pub fn newest<T>(items: &mut Vec<T>, event: impl Fn(&T) -> &Event) {
    items.sort_by_cached_key(|item| (key(event(item), false), Reverse(age(event(item)))));
    items.dedup_by_key(|item| key(event(item), false));
}

/// Pairs `(index in vanished, index in appeared)` that are the same event, each index at most once.
///
/// `others` are the titles of events present before and after: a title that one of them bears
/// belongs to a series of like-named events and proves nothing.
pub fn rematch(
    vanished: &[&Event],
    appeared: &[&Event],
    others: &[&str],
    zones: &Zones,
    zone: &TimeZone,
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut old_free = vec![true; vanished.len()];
    let mut new_free = vec![true; appeared.len()];

    // From the surest evidence to the weakest; a value borne by two candidates on either side
    // decides nothing and is left to the next rule.
    type Evidence<'a> = Box<dyn Fn(&Event) -> Option<String> + 'a>;
    let title = |event: &Event| normalised(&event.summary);
    let other_titles: HashSet<String> = others.iter().map(|t| normalised(t)).collect();
    let rules: [Evidence<'_>; 4] = [
        Box::new(|e| {
            let start = e.start.instant(zones, zone);
            Some(format!("{}|{}|{start}", recurrence_id(e), title(e)))
        }),
        Box::new(|e| stem(&e.uid).map(|stem| format!("{}|{stem}", recurrence_id(e)))),
        Box::new(|e| e.url.as_ref().map(|url| format!("{}|{url}", recurrence_id(e)))),
        Box::new(|e| {
            let title = title(e);
            if title.is_empty() || other_titles.contains(&title) {
                return None;
            }
            let organizer = e.organizer.as_ref().map(|o| normalised(&o.name)).unwrap_or_default();
            Some(format!("{}|{title}|{organizer}", recurrence_id(e)))
        }),
    ];
    for (rank, evidence) in rules.iter().enumerate() {
        let old = unique(vanished, &old_free, evidence);
        let new = unique(appeared, &new_free, evidence);
        for (value, &i) in &old {
            let Some(&j) = new.get(value) else { continue };
            if rank == 3 {
                let moved = appeared[j].start.instant(zones, zone).as_second()
                    - vanished[i].start.instant(zones, zone).as_second();
                if moved.abs() > MAX_MOVE_DAYS * 86_400 {
                    continue;
                }
            }
            old_free[i] = false;
            new_free[j] = false;
            pairs.push((i, j));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// Evidence → index, of the free events whose evidence nobody else bears.
fn unique(
    events: &[&Event],
    free: &[bool],
    evidence: &dyn Fn(&Event) -> Option<String>,
) -> HashMap<String, usize> {
    let mut found: HashMap<String, Option<usize>> = HashMap::new();
    for (index, event) in events.iter().enumerate().filter(|(i, _)| free[*i]) {
        if let Some(value) = evidence(event) {
            found.entry(value).and_modify(|slot| *slot = None).or_insert(Some(index));
        }
    }
    found.into_iter().filter_map(|(value, index)| Some((value, index?))).collect()
}

fn recurrence_id(event: &Event) -> String {
    event.recurrence_id.as_ref().map(|id| id.local().to_string()).unwrap_or_default()
}

/// Letters and digits in lower case: spaces, dashes and quotes come and go between exports.
pub fn normalised(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::super::diff::tests::event;
    use super::*;

    fn pairs(old: &[Event], new: &[Event], others: &[&str]) -> Vec<(usize, usize)> {
        let old: Vec<_> = old.iter().collect();
        let new: Vec<_> = new.iter().collect();
        rematch(&old, &new, others, &Zones::default(), &TimeZone::UTC)
    }

    #[test]
    fn stems() {
        for (uid, expected) in [
            ("122-1796212800-1796217300@example.edu", Some("122@example.edu")),
            ("10001316-1737707400-1737711000@a.b", Some("10001316@a.b")),
            ("20919@example.edu", None),
            ("a-1796212800-1796217300@example.edu", None),
            ("122-17-18@example.edu", None),
            ("122-1796212800-1796217300", None),
            ("1-1796212800-1796217300-9@x", None),
        ] {
            assert_eq!(stem(&Uid(uid.into())).as_deref(), expected, "{uid}");
        }
    }

    #[test]
    fn a_moved_event_keeps_its_identity() {
        let a = event("1-1796212800-1796217300@x", "Talk", "2026-12-02T12:00");
        let b = event("1-1796225400-1796229900@x", "Talk, new title", "2026-12-02T15:30");
        assert_eq!(pairs(&[a], &[b], &[]), [(0, 0)]);
    }

    #[test]
    fn new_uids_for_the_same_events_are_not_new_events() {
        let old = [event("a", "One", "2026-12-02T12:00"), event("b", "Two", "2026-12-02T12:00")];
        let new = [event("c", "Two", "2026-12-02T12:00"), event("d", "One", "2026-12-02T12:00")];
        assert_eq!(pairs(&old, &new, &[]), [(0, 1), (1, 0)]);
    }

    #[test]
    fn a_title_proves_a_move_only_when_it_is_the_only_one_and_near() {
        let old = [event("a", "Weekly tea", "2026-12-02T12:00")];
        let near = [event("b", "Weekly tea", "2026-12-03T12:00")];
        let far = [event("b", "Weekly tea", "2027-03-03T12:00")];
        assert_eq!(pairs(&old, &near, &[]), [(0, 0)]);
        assert_eq!(pairs(&old, &far, &[]), []);
        assert_eq!(pairs(&old, &near, &["weekly  TEA"]), []);
        let two = [near[0].clone(), event("c", "Weekly tea", "2026-12-04T12:00")];
        assert_eq!(pairs(&old, &two, &[]), []);
    }
}

//! What an announcement should say by now. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::calendar::diff::{self, Known, Told};
use crate::calendar::{Event, Status};
use crate::plan::{self, Announce, Elsewhere, FeedView, Field, Item, Notification, Reason, Watch};
use crate::store::shown::Shown;

/// The event as the audience was told last, with what is different from what it knew when the
/// announcement was posted. None where there is nothing to be said.
pub(super) fn as_it_is(
    shown: &Shown,
    known: &Known,
    watch: &Watch,
    cx: &plan::Context<'_>,
    zone: &TimeZone,
) -> Option<Notification> {
    let first = shown.first.as_ref()?;
    let [posted] = first.items.as_slice() else { return None };
    let (told, withdrawn) = match &known.told {
        Told::Nothing => return None,
        Told::Listed(event) => (event, false),
        Told::Withdrawn(event) => (event, true),
    };
    let compare = |old: &Event| {
        let cx = diff::Context {
            now: cx.now,
            zones: cx.zones,
            zone,
            settle: Default::default(),
            confirm: Default::default(),
            baseline: false,
        };
        let mut old = old.clone();
        let hour = |event: &Event| event.start.local().time();
        if old.recurrence == told.recurrence
            && hour(&old) == hour(told)
            && !told.recurrence.is_empty()
        {
            // A post about a series names its next date, where the event has its first.
            (old.start, old.end) = (told.start.clone(), told.end.clone());
        }
        diff::compare(&old, told, &cx)
    };
    // A post about a change marks that change, and those that came after it.
    let before = posted.before.as_ref().unwrap_or(&posted.event);
    let fields = compare(before);
    let marked = watch.interesting(&fields);
    let moves = [Field::Start, Field::End, Field::AllDay];
    let moved =
        watch.announce.contains(&Announce::Time) && fields.iter().any(|one| moves.contains(one));
    let untouched = !withdrawn && known.revision == posted.revision;
    let was_off = matches!(
        posted.reason,
        Reason::Cancelled | Reason::Postponed | Reason::Withdrawn | Reason::Left
    );
    let reason = match told.status {
        _ if untouched => posted.reason.clone(),
        _ if withdrawn => Reason::Withdrawn,
        Status::Cancelled => Reason::Cancelled,
        Status::Postponed => Reason::Postponed,
        _ if !watch.matcher.matches(told) => Reason::Left,
        _ if was_off => Reason::Reinstated,
        _ if moved => Reason::Rescheduled { fields: marked },
        _ if !marked.is_empty() => Reason::Updated { fields: marked },
        _ => match &posted.reason {
            // What it told was taken back.
            Reason::Updated { .. } | Reason::Rescheduled { .. } => {
                Reason::Updated { fields: Vec::new() }
            }
            other => other.clone(),
        },
    };
    let view = FeedView {
        name: &shown.feed,
        title: posted.feed_name.as_deref(),
        zone: zone.clone(),
        elsewhere: Elsewhere::default(),
    };
    let times = |event: &Event| -> (Timestamp, Timestamp) {
        let at = |when: &crate::calendar::When| when.instant(cx.zones, zone);
        (at(&event.start), at(&event.end))
    };
    let mut event = told.clone();
    let series = !event.recurrence.is_empty();
    let (mut start, mut end) = times(&event);
    if series {
        let next = plan::next_of(cx, &view, &event)?;
        (start, end) = (next.start, next.end);
        (event.start, event.end) = (next.event.start, next.event.end);
    }
    let was = match series {
        true => plan::next_of(cx, &view, before).map(|next| (next.start, next.end)),
        false => Some(times(before)),
    };
    let was = was.filter(|was| {
        matches!(reason, Reason::Rescheduled { .. } | Reason::Reinstated) && *was != (start, end)
    });
    let alike = matches!(reason, Reason::New | Reason::PossibleDuplicate);
    let item = Item {
        before: (!alike).then(|| before.clone()),
        reason,
        event,
        start,
        end,
        start_before: was.map(|(start, _)| start),
        end_before: was.map(|(_, end)| end),
        series,
        revision: known.revision,
        ..posted.clone()
    };
    Some(Notification { items: vec![item], more: 0, ..first.clone() })
}

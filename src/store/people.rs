//! What people told beadle by slash commands: reminders of their own, and watches they paused.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Connection, Row};

use super::salvage::delivery_if_readable;
use super::{
    Delivery, DeliveryState, Result, Store, StoreError, Tx, columns, instant, to_json,
    write_watermark,
};
use crate::calendar::diff::Known;
use crate::calendar::{EventKey, Uid};

/// Outbox endpoints of people are this and their Discord user id.
pub const DIRECT: &str = "dm/";

/// A request for one occurrence is kept this long after it, for the occurrence may be put off.
const KEEP_PAST: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Messages looked at for one event.
const MAX_ROWS: i64 = 200;

/// The endpoint of somebody's direct messages.
pub fn direct_endpoint(person: u64) -> String {
    format!("{DIRECT}{person}")
}

/// Whose direct messages an endpoint is.
pub fn direct_person(endpoint: &str) -> Option<u64> {
    let id = endpoint.strip_prefix(DIRECT)?;
    id.parse().ok().filter(|person| direct_endpoint(*person) == endpoint)
}

/// What a reminder is asked for: one occurrence, or all of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub feed: String,
    pub key: EventKey,
    /// Of the series: its exceptions are events with keys of their own.
    pub uid: Uid,
    /// The local start that the series gave the occurrence; none for an event that does not
    /// repeat, and for a whole series.
    pub occurrence: Option<DateTime>,
}

/// A reminder that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReminderRequest {
    /// See [`ReminderRequest::id_of`].
    pub id: String,
    /// A Discord user id.
    pub person: u64,
    pub subject: Subject,
    /// As a configuration would write it: `1h`, `1d at 18:00`.
    pub lead: String,
    /// Of the event when it was asked for.
    pub title: String,
    /// Of the event when it was asked for; of a series, the next occurrence then.
    pub starts: Timestamp,
    pub created_at: Timestamp,
}

impl ReminderRequest {
    /// The same for the same wish; 16 lower-case hex digits.
    pub fn id_of(person: u64, subject: &Subject, lead: &str) -> String {
        let Subject { feed, key, occurrence, .. } = subject;
        let text = format!("{person}\n{feed}\n{key}\n{occurrence:?}\n{lead}");
        Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Since when a watch is silent, and who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub since: Timestamp,
    /// A Discord user id.
    pub by: u64,
}

impl Store {
    /// Everybody's reminder requests; those of one person where one is named, the soonest first.
    pub async fn reminder_requests(&self, person: Option<u64>) -> Result<Vec<ReminderRequest>> {
        let mut connection = self.connection.lock().await;
        let person = person.map(|id| id.to_string()).unwrap_or_default();
        let rows = sqlx::query(
            "SELECT * FROM reminder_request WHERE person = $1 OR $1 = '' ORDER BY starts, id",
        )
        .bind(person)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(request).collect()
    }

    /// Makes `requests` all that a person asks for about the subject. False, and nothing is
    /// changed, where the person would then have more than `limit` requests.
    pub async fn set_reminder_requests(
        &self,
        person: u64,
        subject: &Subject,
        requests: &[ReminderRequest],
        limit: usize,
    ) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "DELETE FROM reminder_request WHERE person = $1 AND feed = $2 AND event = $3 \
             AND COALESCE(occurrence, '') = $4",
        )
        .bind(person.to_string())
        .bind(subject.feed.as_str())
        .bind(subject.key.0.as_str())
        .bind(subject.occurrence.map(|at| at.to_string()).unwrap_or_default())
        .execute(&mut *tx)
        .await?;
        for one in requests {
            sqlx::query(
                "INSERT INTO reminder_request (id, person, feed, event, uid, occurrence, lead, \
                     title, starts, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING",
            )
            .bind(one.id.as_str())
            .bind(person.to_string())
            .bind(one.subject.feed.as_str())
            .bind(one.subject.key.0.as_str())
            .bind(one.subject.uid.0.as_str())
            .bind(one.subject.occurrence.map(|at| at.to_string()))
            .bind(one.lead.as_str())
            .bind(one.title.as_str())
            .bind(one.starts.as_millisecond())
            .bind(one.created_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
        }
        let row = sqlx::query("SELECT COUNT(*) AS n FROM reminder_request WHERE person = $1")
            .bind(person.to_string())
            .fetch_one(&mut *tx)
            .await?;
        let count = usize::try_from(row.try_get::<i64, _>("n")?).unwrap_or(usize::MAX);
        if count > limit && !requests.is_empty() {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Takes requests back, if they are this person's. Gives those that were there.
    pub async fn drop_reminder_requests(
        &self,
        person: u64,
        ids: &[String],
    ) -> Result<Vec<ReminderRequest>> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut dropped = Vec::new();
        for id in ids {
            let row = sqlx::query(
                "DELETE FROM reminder_request WHERE id = $1 AND person = $2 RETURNING *",
            )
            .bind(id.as_str())
            .bind(person.to_string())
            .fetch_optional(&mut *tx)
            .await?;
            dropped.extend(row.as_ref().map(request).transpose()?);
        }
        tx.commit().await?;
        Ok(dropped)
    }

    /// Deletes requests about what is long over or no longer known. Gives how many.
    pub async fn tidy_reminder_requests(&self, now: Timestamp) -> Result<u64> {
        let now_ms = now.as_millisecond();
        let past = now.saturating_sub(KEEP_PAST).unwrap_or(now).as_millisecond();
        let mut connection = self.connection.lock().await;
        let result = sqlx::query(
            "DELETE FROM reminder_request WHERE (occurrence IS NOT NULL AND starts < $1) \
             OR (occurrence IS NULL AND NOT EXISTS (SELECT 1 FROM event \
                 WHERE event.feed = reminder_request.feed AND event.key = reminder_request.event \
                 AND event.ends >= $2) \
                 AND NOT EXISTS (SELECT 1 FROM feed \
                     WHERE feed.name = reminder_request.feed AND feed.baseline_at IS NULL))",
        )
        .bind(past)
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
        Ok(result.rows_affected())
    }

    /// Since when the person's direct messages are closed, as far as the last one sent could tell.
    pub async fn unreachable_since(&self, person: u64) -> Result<Option<Timestamp>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT since FROM unreachable WHERE person = $1")
            .bind(person.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        row.map(|row| instant(row.try_get("since")?)).transpose()
    }

    /// Silences a watch. False if it was silent already.
    pub async fn pause(&self, watch: &str, by: u64, now: Timestamp) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let result = sqlx::query(
            "INSERT INTO paused (watch, since, by_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(watch)
        .bind(now.as_millisecond())
        .bind(by.to_string())
        .execute(&mut *connection)
        .await?;
        Ok(result.rows_affected() > 0)
    }

    /// Lets a watch speak again, of what falls due from `now` on. False if it was not silent.
    pub async fn resume(&self, watch: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let result = sqlx::query("DELETE FROM paused WHERE watch = $1")
            .bind(watch)
            .execute(&mut *tx)
            .await?;
        write_watermark(&mut tx, now).await?;
        tx.commit().await?;
        Ok(result.rows_affected() > 0)
    }

    /// The watches that are silent, by name.
    pub async fn paused(&self) -> Result<BTreeMap<String, Pause>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM paused").fetch_all(&mut *connection).await?;
        rows.iter()
            .map(|row| {
                let by: String = row.try_get("by_id")?;
                let pause = Pause {
                    since: instant(row.try_get("since")?)?,
                    by: by.parse().unwrap_or_default(),
                };
                Ok((row.try_get("watch")?, pause))
            })
            .collect()
    }

    /// What is remembered of one event.
    pub async fn known_event(&self, feed: &str, key: &EventKey) -> Result<Option<Known>> {
        let known = self.known(feed, &[key.hash64()]).await?;
        Ok(known.into_iter().find(|known| known.key == *key))
    }

    /// Messages that name an event, the newest first.
    pub async fn deliveries_about(&self, feed: &str, key: &EventKey) -> Result<Vec<Delivery>> {
        // As it stands in the notification's JSON.
        let needle = format!("\"key\":{}", to_json(&key.0)?);
        let escaped = needle.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(outbox),
            " FROM outbox WHERE notification LIKE $1 \
             ESCAPE '\\' ORDER BY due_at DESC, position, id LIMIT $2"
        ))
        .bind(format!("%{escaped}%"))
        .bind(MAX_ROWS)
        .fetch_all(&mut *connection)
        .await?;
        let mut found: Vec<_> = rows.iter().filter_map(delivery_if_readable).collect();
        found.retain(|one| {
            one.notification.items.iter().any(|item| item.feed == feed && item.key == *key)
        });
        Ok(found)
    }

    /// A note that outlives the process.
    pub async fn note(&self, name: &str) -> Result<Option<String>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        row.map(|row| Ok(row.try_get("value")?)).transpose()
    }

    /// Writes such a note.
    pub async fn set_note(&self, name: &str, value: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&mut *connection)
        .await?;
        Ok(())
    }
}

/// Whether a direct message arrived, for the person to be told at the next occasion.
pub(super) async fn note_reached(
    tx: &mut Tx<'_>,
    person: u64,
    state: DeliveryState,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    match state {
        DeliveryState::Sent => {
            sqlx::query("DELETE FROM unreachable WHERE person = $1")
                .bind(person.to_string())
                .execute(&mut **tx)
                .await?;
        }
        DeliveryState::Dead => {
            sqlx::query(
                "INSERT INTO unreachable (person, since, reason) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(person.to_string())
            .bind(now.as_millisecond())
            .bind(reason.unwrap_or_default())
            .execute(&mut **tx)
            .await?;
        }
        _ => {}
    }
    Ok(())
}

fn request(row: &AnyRow) -> Result<ReminderRequest> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("a reminder for {what}"));
    let person: String = row.try_get("person")?;
    let occurrence: Option<String> = row.try_get("occurrence")?;
    Ok(ReminderRequest {
        id: row.try_get("id")?,
        person: person.parse().map_err(|_| corrupt(&person))?,
        subject: Subject {
            feed: row.try_get("feed")?,
            key: EventKey(row.try_get("event")?),
            uid: Uid(row.try_get("uid")?),
            occurrence: occurrence
                .map(|text| text.parse().map_err(|_| corrupt(&text)))
                .transpose()?,
        },
        lead: row.try_get("lead")?,
        title: row.try_get("title")?,
        starts: instant(row.try_get("starts")?)?,
        created_at: instant(row.try_get("created_at")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    #[test]
    fn only_the_id_of_a_person_names_one() {
        assert_eq!(direct_person(&direct_endpoint(55)), Some(55));
        for endpoint in ["dm/", "dm/x", "dm/055", "dm/+5", "dm/5/discord", "dm", "hall/discord"] {
            assert_eq!(direct_person(endpoint), None, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn what_is_over_is_tidied_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Exclusive).await.unwrap();
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        for (key, occurrence, starts) in [
            // The event is not known (any more).
            ("forgotten", None, days(1)),
            ("series", Some("2026-01-01T10:00:00"), days(-31)),
            ("series", Some("2026-02-20T10:00:00"), days(-9)),
        ] {
            let occurrence = occurrence.map(|at| at.parse().unwrap());
            let (feed, key, uid) = ("site".to_owned(), EventKey(key.into()), Uid(key.into()));
            let subject = Subject { feed, key, uid, occurrence };
            let request = ReminderRequest {
                id: ReminderRequest::id_of(1, &subject, "1h"),
                person: 1,
                subject: subject.clone(),
                lead: "1h".to_owned(),
                title: "Talk".to_owned(),
                starts,
                created_at: now,
            };
            let requests = [request];
            assert!(store.set_reminder_requests(1, &subject, &requests, 3).await.unwrap());
        }
        assert_eq!(store.tidy_reminder_requests(now).await.unwrap(), 2);
        let left = store.reminder_requests(None).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].starts, days(-9));
    }
}

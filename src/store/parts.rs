//! Messages of several parts, and what comes of messages in Discord: threads.

use jiff::{SignedDuration, Timestamp};
use sqlx::{Connection, Row};

use super::{Delivery, Result, Store, columns, delivery, delivery_id, millis};
use crate::calendar::EventKey;

/// A thread is remembered this long after its last message.
const KEEP_THREADS: SignedDuration = SignedDuration::from_hours(24 * 400);

/// Parts that one delivery may have; positions leave room for them.
pub(super) const MAX_PARTS: i64 = 1000;

impl Delivery {
    /// Which part of a message it is; 0 for the first, which most messages have only.
    pub fn part(&self) -> usize {
        (i64::from(self.position) % MAX_PARTS) as usize
    }

    /// Whether the other one is an earlier part of the same message.
    pub(super) fn goes_on_with(&self, other: &Delivery) -> bool {
        let place =
            |one: &Delivery| (one.planned_at, one.due_at, i64::from(one.position) / MAX_PARTS);
        self.part() > other.part()
            && place(self) == place(other)
            && self.notification.source == other.notification.source
    }
}

impl Store {
    /// Keeps the parts of a leased delivery's message, so that every attempt sends the same bytes.
    /// Those after the first become deliveries of their own, under the same lease; they are given
    /// in their order.
    pub async fn freeze_parts(
        &self,
        whole: &Delivery,
        first: &str,
        rest: &[String],
    ) -> Result<Vec<Delivery>> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut parts = Vec::new();
        for (number, payload) in (1..MAX_PARTS).zip(rest) {
            let row = sqlx::query(concat!(
                "INSERT INTO outbox (id, endpoint, source, notification, state, planned_at, \
                     due_at, not_after, position, attempt_at, attempts, lease_until, doubt_since, \
                     payload) \
                 SELECT $2, endpoint, source, notification, state, planned_at, due_at, not_after, \
                     position + $3, attempt_at, attempts, lease_until, doubt_since, $4 \
                 FROM outbox WHERE id = $1 AND payload IS NULL \
                 ON CONFLICT (id) DO NOTHING RETURNING ",
                columns!(outbox),
            ))
            .bind(whole.id.as_str())
            .bind(delivery_id(&whole.endpoint, &format!("{}\npart {}", whole.id, number + 1)))
            .bind(number)
            .bind(payload.as_str())
            .fetch_optional(&mut *tx)
            .await?;
            // In doubt is what a crash leaves behind, not the attempt that begins.
            let part = row.map(|row| delivery(&row)).transpose()?;
            parts.extend(part.map(|part| Delivery { doubt_since: None, ..part }));
        }
        sqlx::query("UPDATE outbox SET payload = $2 WHERE id = $1 AND payload IS NULL")
            .bind(whole.id.as_str())
            .bind(first)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(parts)
    }

    /// What the other side calls the first part of the message that a delivery goes on with.
    pub async fn first_part(&self, part: &Delivery) -> Result<Option<String>> {
        let position = i64::from(part.position);
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT remote_id FROM outbox WHERE endpoint = $1 AND source = $2 AND planned_at = $3 \
             AND due_at = $4 AND position = $5 AND remote_id IS NOT NULL",
        )
        .bind(part.endpoint.as_str())
        .bind(part.notification.source.as_str())
        .bind(part.planned_at.as_millisecond())
        .bind(part.due_at.as_millisecond())
        .bind(position - position % MAX_PARTS)
        .fetch_optional(&mut *connection)
        .await?;
        row.map(|row| Ok(row.try_get("remote_id")?)).transpose()
    }

    /// Notes that a leased delivery has arrived, though something that belongs to it is still to be
    /// done.
    pub async fn note_posted(&self, delivery: &Delivery, remote_id: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "UPDATE outbox SET remote_id = $2 \
             WHERE id = $1 AND state = 'leased' AND attempts = $3",
        )
        .bind(delivery.id.as_str())
        .bind(remote_id)
        .bind(i64::from(delivery.attempts))
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// The thread at an endpoint that has the news of an event.
    pub async fn thread(
        &self,
        endpoint: &str,
        feed: &str,
        key: &EventKey,
    ) -> Result<Option<String>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT remote_id FROM thread WHERE endpoint = $1 AND feed = $2 AND key = $3",
        )
        .bind(endpoint)
        .bind(feed)
        .bind(key.0.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        row.map(|row| Ok(row.try_get("remote_id")?)).transpose()
    }

    /// The news of an event at an endpoint go into this thread from now on.
    pub async fn keep_thread(
        &self,
        endpoint: &str,
        feed: &str,
        key: &EventKey,
        remote_id: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "INSERT INTO thread (endpoint, feed, key, remote_id, used_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (endpoint, feed, key) \
             DO UPDATE SET remote_id = excluded.remote_id, used_at = excluded.used_at",
        )
        .bind(endpoint)
        .bind(feed)
        .bind(key.0.as_str())
        .bind(remote_id)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
        Ok(())
    }
}

/// Forgets threads of long ago.
pub(super) async fn tidy(connection: &mut sqlx::AnyConnection, now: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM thread WHERE used_at < $1")
        .bind(now.as_millisecond().saturating_sub(millis(KEEP_THREADS)))
        .execute(connection)
        .await?;
    Ok(())
}

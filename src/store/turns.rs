//! What is asked of a feed's events in turn, and how many of those that are gone are kept.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Result, Store, corrupt, fingerprint, text};
use crate::calendar::Judgement;

impl Store {
    /// The events of a feed that are over the soonest, in order of their start.
    pub async fn soonest(&self, feed: &str, now: Timestamp, limit: u32) -> Result<Vec<Judgement>> {
        let mut connection = self.connection.lock().await;
        // Put in order here: SQLite would do so with their texts.
        let query = sqlx::query(
            "SELECT feed, key, starts, CAST(seen AS BLOB) AS seen FROM event \
             WHERE feed = $1 AND ends > $2 AND presence = 'listed' \
             ORDER BY ends, starts, hash LIMIT $3",
        )
        .bind(feed)
        .bind(now.as_millisecond())
        .bind(i64::from(limit));
        let event = |row: &AnyRow| {
            let (starts, key): (i64, String) = (row.try_get("starts")?, row.try_get("key")?);
            Ok((starts, key, judgement(row)?))
        };
        let mut events = self.one_by_one(&mut connection, query, event).await?;
        events.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(events.into_iter().map(|(.., event)| event).collect())
    }

    /// The events of a feed that are in it and not over, with the hash of their key, in the order
    /// of these: those after `after`.
    pub async fn in_turn(
        &self,
        feed: &str,
        after: Option<u64>,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(u64, Judgement)>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT feed, key, hash, CAST(seen AS BLOB) AS seen FROM event WHERE feed = $1 AND hash > $2 AND ends > $3 \
             AND presence = 'listed' ORDER BY hash LIMIT $4",
        )
        .bind(feed)
        .bind(after.map_or(i64::MIN, u64::cast_signed))
        .bind(now.as_millisecond())
        .bind(i64::from(limit));
        let event =
            |row: &AnyRow| Ok((row.try_get::<i64, _>("hash")?.cast_unsigned(), judgement(row)?));
        self.one_by_one(&mut connection, query, event).await
    }

    /// When each of a feed's events starts, in milliseconds since 1970, by the fingerprint of the
    /// text it was read from.
    pub async fn starts(&self, feed: &str) -> Result<HashMap<u128, i64>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT fingerprint, starts FROM event WHERE feed = $1")
            .bind(feed)
            .fetch_all(&mut *connection)
            .await?;
        let start =
            |row: &AnyRow| Ok((fingerprint(row).unwrap_or_default(), row.try_get("starts")?));
        rows.iter().map(start).collect()
    }

    /// Forgets all but `keep` of a feed's events that are no longer in it; those first met longest
    /// ago go first, and those of which something is still to be told go last.
    pub async fn forget_absent(&self, feed: &str, keep: usize) -> Result<u64> {
        let mut connection = self.connection.lock().await;
        let result = sqlx::query(
            "DELETE FROM event WHERE feed = $1 AND key IN (SELECT key FROM event \
             WHERE feed = $1 AND presence <> 'listed' \
             ORDER BY CASE WHEN since IS NULL THEN 1 ELSE 0 END, revision DESC, key \
             LIMIT 1000000000 OFFSET $2)",
        )
        .bind(feed)
        .bind(i64::try_from(keep).unwrap_or(i64::MAX))
        .execute(&mut *connection)
        .await?;
        Ok(result.rows_affected())
    }
}

fn judgement(row: &AnyRow) -> Result<Judgement> {
    Judgement::from_json(text(row, "seen")?).map_err(|error| corrupt("seen", &error))
}

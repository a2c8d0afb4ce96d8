//! Rows that make no sense: everything else goes on without them.
//!
//! An event that cannot be read is left out, said once, and read anew with the next poll of its
//! feed: as if it had been told as it is then. A message that cannot be read is given up, with the
//! reason.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tracing::{error, warn};

use super::{Delivery, PollCommit, Query, Result, Store, StoreError, Tx, columns, delivery, known};
use crate::calendar::EventKey;

/// Events that cannot be read, by feed; until they are read anew.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<BTreeSet<(String, EventKey)>>);

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(String, EventKey)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole feed is to be read anew.
    pub(super) fn any_of(&self, feed: &str) -> bool {
        self.lock().iter().any(|(of, _)| of == feed)
    }

    /// What a poll writes or forgets is mended. Where something is not, the next poll shall not
    /// find the text of the feed known either.
    pub(super) async fn after_poll(&self, tx: &mut Tx<'_>, commit: &PollCommit<'_>) -> Result<()> {
        let left = {
            let mut all = self.lock();
            let mended = |key: &EventKey| {
                commit.restart
                    || commit.forget.contains(key)
                    || commit.write.iter().any(|(known, ..)| known.key == *key)
            };
            all.retain(|(feed, key)| feed != commit.feed || !mended(key));
            all.iter().any(|(feed, _)| feed == commit.feed)
        };
        if left {
            read_anew(tx, commit.feed).await?;
        }
        Ok(())
    }
}

/// The next poll finds nothing of the feed's text known.
async fn read_anew(connection: &mut AnyConnection, feed: &str) -> Result<()> {
    for sql in [
        "DELETE FROM body WHERE feed = $1",
        "UPDATE feed SET etag = NULL, last_modified = NULL WHERE name = $1",
    ] {
        sqlx::query(sql).bind(feed).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// Whether what is remembered of an event was found to be unreadable, and not read anew yet.
    pub fn is_unreadable(&self, feed: &str, key: &EventKey) -> bool {
        self.suspects.lock().contains(&(feed.to_owned(), key.clone()))
    }

    /// Those of a feed's events.
    pub fn unreadable(&self, feed: &str) -> Vec<EventKey> {
        let all = self.suspects.lock();
        all.iter().filter(|(of, _)| of == feed).map(|(_, key)| key.clone()).collect()
    }

    /// What can be read of rows of `event`, each with its `feed` and `key`.
    pub(super) async fn readable<T>(
        &self,
        connection: &mut AnyConnection,
        rows: &[AnyRow],
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut good = Vec::with_capacity(rows.len());
        for row in rows {
            match read(row) {
                Ok(one) => good.push(one),
                Err(reason) => self.suspect(connection, row, &reason).await?,
            }
        }
        Ok(good)
    }

    /// The same of what a query finds, without all of it in memory first: rows may be long texts.
    pub(super) async fn one_by_one<T>(
        &self,
        connection: &mut AnyConnection,
        query: Query,
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let mut rows = query.fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            match read(&row) {
                Ok(one) => good.push(one),
                Err(reason) => bad.push((row, reason)),
            }
        }
        drop(rows);
        for (row, reason) in bad {
            self.suspect(connection, &row, &reason).await?;
        }
        Ok(good)
    }

    async fn suspect(
        &self,
        connection: &mut AnyConnection,
        row: &AnyRow,
        reason: &StoreError,
    ) -> Result<()> {
        let (feed, key): (String, String) = (row.try_get("feed")?, row.try_get("key")?);
        if !self.suspects.lock().insert((feed.clone(), EventKey(key.clone()))) {
            return Ok(());
        }
        warn!(
            feed,
            event = key,
            "what is remembered of this event cannot be read ({reason}); it is read anew from the feed, and nothing of it is told"
        );
        // A command that only looks changes nothing.
        match self.lock {
            Some(_) => read_anew(connection, &feed).await,
            None => Ok(()),
        }
    }

    /// The rows that can be read, of those just leased; the others are given up.
    pub(super) async fn readable_deliveries(
        &self,
        connection: &mut AnyConnection,
        rows: &[AnyRow],
        now: Timestamp,
    ) -> Result<Vec<Delivery>> {
        let mut good = Vec::with_capacity(rows.len());
        for row in rows {
            let reason = match delivery(row) {
                Ok(one) => {
                    good.push(one);
                    continue;
                }
                Err(reason) => reason,
            };
            let id: String = row.try_get("id")?;
            sqlx::query(
                "UPDATE outbox SET state = 'dead', lease_until = NULL, settled_at = $2, \
                     last_error = $3 WHERE id = $1",
            )
            .bind(id.as_str())
            .bind(now.as_millisecond())
            .bind(reason.to_string())
            .execute(&mut *connection)
            .await?;
            error!(id, "given up: the message cannot be read: {reason}");
        }
        Ok(good)
    }

    /// Every row that makes no sense, and why.
    pub async fn senseless(&self) -> Result<Vec<String>> {
        let mut connection = self.connection.lock().await;
        let mut found = Vec::new();
        let mut rows =
            sqlx::query(concat!("SELECT ", columns!(event), " FROM event")).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            if let Err(reason) = known(&row) {
                let (feed, key): (String, String) = (row.try_get("feed")?, row.try_get("key")?);
                found.push(format!("event {key} of feed {feed}: {reason}"));
            }
        }
        drop(rows);
        let mut rows = sqlx::query(concat!("SELECT ", columns!(outbox), " FROM outbox"))
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            if let Err(reason) = delivery(&row) {
                found.push(format!("message {}: {reason}", row.try_get::<String, _>("id")?));
            }
        }
        drop(rows);
        Ok(found)
    }
}

/// A message for a list; one that cannot be read is named in the log.
pub(super) fn delivery_if_readable(row: &AnyRow) -> Option<Delivery> {
    let reason = match delivery(row) {
        Ok(one) => return Some(one),
        Err(reason) => reason,
    };
    let id: String = row.try_get("id").unwrap_or_default();
    warn!(id, "this message cannot be read: {reason}");
    None
}

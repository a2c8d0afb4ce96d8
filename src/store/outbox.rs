//! The outbox: one row for each message to each address, its states, and every legal transition.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use futures_util::future;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row, ValueRef};

use super::shown::{self, Shown};
use super::{
    LARGE_CACHE, Query, Result, SMALL_CACHE, Store, StoreError, Tx, clock, columns, instant, json,
    millis, parts, people, salvage, text, write_watermark,
};
use crate::plan::Notification;

/// Deliveries written by one statement: they have fewer columns.
const DELIVERY_ROWS: usize = 16;

/// What falls due is told after what was written ahead for the same time, of which there is less.
const BEHIND_THOSE_AHEAD: usize = 1 << 20;

/// From so many on, deliveries are written with [`LARGE_CACHE`].
const MANY_DELIVERIES: usize = 500;

/// Before a statement that asks for `waiting`: the endpoints that messages wait for, and at last NULL.
/// It goes from one to the next in the index, however much waits for each.
macro_rules! with_waiting {
    ($($statement:tt)+) => {
        concat!(
            "WITH RECURSIVE waiting (endpoint) AS (\
                 SELECT MIN(endpoint) FROM outbox WHERE state = 'pending' \
                 UNION ALL SELECT (SELECT MIN(endpoint) FROM outbox \
                     WHERE state = 'pending' AND endpoint > waiting.endpoint) \
                 FROM waiting WHERE waiting.endpoint IS NOT NULL) ",
            $($statement)+
        )
    };
}

/// A row for the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// See [`delivery_id`].
    pub id: String,
    pub endpoint: String,
    pub notification: Written,
    pub due_at: Timestamp,
    pub not_after: Timestamp,
}

/// A notification as the outbox keeps it. That of a reminder is written long before it is due, so
/// that nothing of that is left to do when thousands are due at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    source: Arc<str>,
    json: Arc<str>,
}

impl From<&Notification> for Written {
    fn from(notification: &Notification) -> Written {
        // All that it is made of can be written; what could not be read is given up when claimed.
        let json = serde_json::to_string(notification).unwrap_or_default();
        Written { source: notification.source.as_str().into(), json: json.into() }
    }
}

impl Written {
    /// The notification; none where it makes no sense.
    pub fn read(&self) -> Option<Notification> {
        serde_json::from_str(&self.json).ok()
    }
}

/// The id of a delivery, its dedup key: the same for the same thing told to the same endpoint.
/// 32 lower-case hex digits.
pub fn delivery_id(endpoint: &str, dedup: &str) -> String {
    let hash =
        Sha256::new().chain_update(endpoint).chain_update("\n").chain_update(dedup).finalize();
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryState {
    /// Waits for its time, or for another attempt.
    Pending,
    /// Being sent; after a crash, perhaps sent.
    Leased,
    Sent,
    /// Refused for good; kept for the operator.
    Dead,
    /// No longer true when its turn came.
    Superseded,
    /// Too late when its turn came.
    Expired,
}

/// What can happen to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    Claimed,
    Accepted,
    PutOff,
    Refused,
    Overtaken,
    TooLate,
    /// The program stops before the attempt has begun.
    GivenBack,
    /// By the operator: `beadle outbox retry`.
    Revived,
    /// By the operator: `beadle outbox drop`.
    Dropped,
}

impl DeliveryState {
    pub const ALL: [DeliveryState; 6] = [
        DeliveryState::Pending,
        DeliveryState::Leased,
        DeliveryState::Sent,
        DeliveryState::Dead,
        DeliveryState::Superseded,
        DeliveryState::Expired,
    ];

    /// Every legal transition; none where it is not one.
    pub fn after(self, happening: Happening) -> Option<DeliveryState> {
        use DeliveryState::*;
        match (self, happening) {
            // A lease that ran out is claimed again.
            (Pending | Leased, Happening::Claimed) => Some(Leased),
            (Leased, Happening::Accepted) => Some(Sent),
            (Leased, Happening::PutOff | Happening::GivenBack) => Some(Pending),
            (Leased, Happening::Refused) => Some(Dead),
            (Pending | Leased, Happening::Overtaken) => Some(Superseded),
            (Pending | Leased, Happening::TooLate) => Some(Expired),
            (Pending | Dead | Expired | Superseded, Happening::Revived) => Some(Pending),
            (Pending | Dead, Happening::Dropped) => Some(Superseded),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Leased => "leased",
            DeliveryState::Sent => "sent",
            DeliveryState::Dead => "dead",
            DeliveryState::Superseded => "superseded",
            DeliveryState::Expired => "expired",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt(format!("a delivery is `{text}`")))
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub endpoint: String,
    pub notification: Notification,
    pub state: DeliveryState,
    pub planned_at: Timestamp,
    pub due_at: Timestamp,
    pub not_after: Timestamp,
    /// Among those planned with it: what is due at the same time is told in this order.
    pub position: u32,
    /// When it is, or was, tried next.
    pub attempt_at: Timestamp,
    pub attempts: u32,
    /// The frozen message; none while no attempt can have arrived.
    pub payload: Option<String>,
    pub remote_id: Option<String>,
    pub last_error: Option<String>,
    pub settled_at: Option<Timestamp>,
    /// Since when it may have arrived without beadle knowing: the time of the first attempt of
    /// which this holds, not counting the present one. In the future, where the clock was set back.
    pub doubt_since: Option<Timestamp>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    Sent {
        remote_id: String,
    },
    PutOff {
        until: Timestamp,
        reason: String,
        /// Nothing of it can have arrived: it is written anew for the next attempt.
        anew: bool,
        /// It may have arrived nevertheless.
        doubtful: bool,
    },
    Dead {
        reason: String,
    },
    Superseded,
    Expired,
}

/// An endpoint that takes no messages for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub endpoint: String,
    pub since: Timestamp,
    pub retry_at: Timestamp,
    pub reason: String,
}

impl Store {
    /// What fell due since the watermark, and the watermark itself; `sources` are watches and
    /// digests from now on met before. Gives how many deliveries were not there already.
    pub async fn commit_due(
        &self,
        outbox: &[NewDelivery],
        sources: &[String],
        now: Timestamp,
    ) -> Result<u64> {
        let mut connection = self.connection.lock_first().await;
        with_room_for(outbox, &mut connection, async |connection| {
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            let inserted = insert_from(BEHIND_THOSE_AHEAD, &mut tx, outbox, now).await?;
            for source in sources {
                sqlx::query(
                    "INSERT INTO source (name, since) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                )
                .bind(source.as_str())
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            }
            write_watermark(&mut tx, now).await?;
            tx.commit().await?;
            Ok(inserted)
        })
        .await
    }

    /// What is yet to fall due; it can be [taken back](Store::take_back). Gives how many deliveries
    /// were not there already.
    pub async fn write_ahead(&self, outbox: &[NewDelivery], now: Timestamp) -> Result<u64> {
        let mut connection = self.connection.lock().await;
        with_room_for(outbox, &mut connection, async |connection| {
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            let inserted = insert_deliveries(&mut tx, outbox, now).await?;
            tx.commit().await?;
            Ok(inserted)
        })
        .await
    }

    /// Removes what was [written ahead](Store::write_ahead), is due after that time, and was never
    /// tried: it is planned again, of the events as they are by then.
    pub async fn take_back(&self, after: Timestamp) -> Result<u64> {
        take_back(&mut *self.connection.lock_first().await, after).await
    }

    /// Leases deliveries that are due, and not to an endpoint that is parked or that something is
    /// being sent to. A lease that ran out counts as due.
    ///
    /// Each endpoint gives its oldest, then each its second, and so on, at most `of_each`; so what
    /// waits for one endpoint leaves room for all the others.
    pub async fn claim_due(
        &self,
        now: Timestamp,
        lease: SignedDuration,
        limit: u32,
        of_each: u32,
    ) -> Result<Vec<Delivery>> {
        let mut connection = self.connection.lock().await;
        // Mostly nothing waits, and what follows is the longest statement of all.
        let waits =
            sqlx::query("SELECT 1 FROM outbox WHERE state IN ('pending', 'leased') LIMIT 1");
        if waits.fetch_optional(&mut *connection).await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            with_waiting!(
                ", idle (endpoint) AS (SELECT endpoint FROM waiting WHERE endpoint IS NOT NULL \
                     UNION SELECT endpoint FROM outbox WHERE state = 'leased' AND lease_until <= $1 \
                     EXCEPT SELECT endpoint FROM parked WHERE retry_at > $1 \
                     EXCEPT SELECT endpoint FROM outbox \
                         WHERE state = 'leased' AND lease_until > $1) \
                 UPDATE outbox SET state = 'leased', lease_until = $2, attempts = attempts + 1, \
                     doubt_since = COALESCE(doubt_since, $1) \
                 WHERE id IN (SELECT id FROM (SELECT id, due_at, position, \
                     ROW_NUMBER() OVER (PARTITION BY endpoint ORDER BY due_at, position, id) AS turn \
                     FROM (SELECT one.id, one.endpoint, one.due_at, one.position \
                             FROM idle CROSS JOIN outbox AS one WHERE one.endpoint = idle.endpoint \
                             AND one.state = 'pending' AND one.attempt_at <= $1 \
                         UNION ALL SELECT one.id, one.endpoint, one.due_at, one.position \
                             FROM idle CROSS JOIN outbox AS one WHERE one.endpoint = idle.endpoint \
                             AND one.state = 'leased' AND one.lease_until <= $1) AS ready) AS due \
                     WHERE turn <= $4 ORDER BY turn, due_at, position, id LIMIT $3) \
                 RETURNING ",
                columns!(outbox)
            )
        )
        .bind(now.as_millisecond())
        .bind(now.as_millisecond().saturating_add(millis(lease)))
        .bind(i64::from(limit))
        .bind(i64::from(of_each))
        .fetch_all(&mut *connection)
        .await?;
        let mut due = self.readable_deliveries(&mut connection, &rows, now).await?;
        for one in &mut due {
            // The present attempt, which the statement has written into the row.
            let is_other = |since: &Timestamp| since.as_millisecond() != now.as_millisecond();
            one.doubt_since = one.doubt_since.filter(is_other);
        }
        due.sort_by(|a, b| (a.due_at, a.position, &a.id).cmp(&(b.due_at, b.position, &b.id)));
        Ok(due)
    }

    /// Keeps the messages of leased deliveries, so that every attempt sends the same bytes.
    pub async fn freeze(&self, payloads: &[(String, String)]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (id, payload) in payloads {
            sqlx::query("UPDATE outbox SET payload = $2 WHERE id = $1 AND payload IS NULL")
                .bind(id.as_str())
                .bind(payload.as_str())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records how an attempt ended. An endpoint that took a message is no longer parked.
    ///
    /// `notice` is told with it: of a message that was sent, only where its endpoint was parked.
    pub async fn settle(
        &self,
        delivery: &Delivery,
        end: &Settlement,
        notice: Option<&NewDelivery>,
        now: Timestamp,
    ) -> Result<()> {
        self.settle_and_remember(delivery, end, notice, None, now).await
    }

    /// The same, and remembers what is shown from now on, unless something is under its name.
    pub async fn settle_and_remember(
        &self,
        delivery: &Delivery,
        end: &Settlement,
        notice: Option<&NewDelivery>,
        shown: Option<&Shown>,
        now: Timestamp,
    ) -> Result<()> {
        let (happening, remote_id, error, attempt_at) = match end {
            Settlement::Sent { remote_id } => {
                (Happening::Accepted, Some(remote_id.as_str()), None, None)
            }
            Settlement::PutOff { until, reason, .. } => {
                (Happening::PutOff, None, Some(reason.as_str()), Some(*until))
            }
            Settlement::Dead { reason } => (Happening::Refused, None, Some(reason.as_str()), None),
            Settlement::Superseded => (Happening::Overtaken, None, None, None),
            Settlement::Expired => (Happening::TooLate, None, None, None),
        };
        // What surely did not arrive leaves the doubt that there was before.
        let certain =
            matches!(end, Settlement::PutOff { doubtful: false, .. } | Settlement::Dead { .. });
        let Some(state) = delivery.state.after(happening) else {
            return Err(StoreError::Corrupt(format!("a {} delivery is settled", delivery.state)));
        };
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let settled = sqlx::query(
            "UPDATE outbox SET state = $2, remote_id = COALESCE($3, remote_id), \
             last_error = COALESCE($4, last_error), attempt_at = COALESCE($5, attempt_at), \
             settled_at = $6, lease_until = NULL, \
             payload = CASE WHEN $8 = 1 THEN NULL ELSE payload END, \
             doubt_since = CASE WHEN $9 = 1 THEN $10 ELSE doubt_since END \
             WHERE id = $1 AND state = 'leased' AND attempts = $7",
        )
        .bind(delivery.id.as_str())
        .bind(state.as_str())
        .bind(remote_id)
        .bind(error)
        .bind(attempt_at.map(Timestamp::as_millisecond))
        .bind((state != DeliveryState::Pending).then_some(now.as_millisecond()))
        // Fences off an attempt whose lease another one has taken over.
        .bind(i64::from(delivery.attempts))
        .bind(i64::from(matches!(end, Settlement::PutOff { anew: true, .. })))
        .bind(i64::from(certain))
        .bind(delivery.doubt_since.map(Timestamp::as_millisecond))
        .execute(&mut *tx)
        .await?;
        let mut tell = settled.rows_affected() > 0;
        if state == DeliveryState::Sent {
            let unparked = sqlx::query("DELETE FROM parked WHERE endpoint = $1")
                .bind(delivery.endpoint.as_str())
                .execute(&mut *tx)
                .await?;
            tell = unparked.rows_affected() > 0;
        }
        if let Some(notice) = notice.filter(|_| tell) {
            insert_deliveries(&mut tx, std::slice::from_ref(notice), now).await?;
        }
        if let Some(shown) = shown {
            shown::write(&mut tx, shown, false).await?;
        }
        if let Some(person) = people::direct_person(&delivery.endpoint) {
            people::note_reached(&mut tx, person, state, error, now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// What waits for the endpoint waits until then.
    pub async fn hold(&self, endpoint: &str, until: Timestamp) -> Result<()> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "UPDATE outbox SET attempt_at = $2 \
             WHERE endpoint = $1 AND state = 'pending' AND attempt_at < $2",
        )
        .bind(endpoint)
        .bind(until.as_millisecond())
        .execute(&mut *connection)
        .await?;
        Ok(())
    }

    /// No message goes to the endpoint before `retry_at`. True if it was not parked already; only
    /// then `notice` is told.
    pub async fn park(
        &self,
        endpoint: &str,
        reason: &str,
        retry_at: Timestamp,
        notice: Option<&NewDelivery>,
        now: Timestamp,
    ) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("SELECT since FROM parked WHERE endpoint = $1")
            .bind(endpoint)
            .fetch_optional(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO parked (endpoint, since, retry_at, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (endpoint) DO UPDATE SET retry_at = excluded.retry_at, \
             reason = excluded.reason",
        )
        .bind(endpoint)
        .bind(now.as_millisecond())
        .bind(retry_at.as_millisecond())
        .bind(reason)
        .execute(&mut *tx)
        .await?;
        let newly = row.is_none();
        if let Some(notice) = notice.filter(|_| newly) {
            insert_deliveries(&mut tx, std::slice::from_ref(notice), now).await?;
        }
        tx.commit().await?;
        Ok(newly)
    }

    /// Whether a message of this name is known to have been sent; two endpoints may lead to one
    /// channel.
    pub async fn is_receipt(&self, remote_id: &str) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT 1 FROM outbox WHERE remote_id = $1")
            .bind(remote_id)
            .fetch_optional(&mut *connection)
            .await?;
        Ok(row.is_some())
    }

    /// Whether another message of the same words went to the same endpoint, and nobody knows whether
    /// it arrived.
    pub async fn has_twin(&self, delivery: &Delivery) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT 1 FROM outbox WHERE endpoint = $1 AND id <> $2 AND payload = $3 \
             AND doubt_since IS NOT NULL AND remote_id IS NULL AND due_at > $4",
        )
        .bind(delivery.endpoint.as_str())
        .bind(delivery.id.as_str())
        .bind(delivery.payload.as_deref())
        .bind(delivery.due_at.as_millisecond() - millis(SignedDuration::from_hours(48)))
        .fetch_optional(&mut *connection)
        .await?;
        Ok(row.is_some())
    }

    pub async fn parked(&self) -> Result<Vec<Parked>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT * FROM parked ORDER BY endpoint")
            .fetch_all(&mut *connection)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Parked {
                    endpoint: row.try_get("endpoint")?,
                    since: instant(row.try_get("since")?)?,
                    retry_at: instant(row.try_get("retry_at")?)?,
                    reason: row.try_get("reason")?,
                })
            })
            .collect()
    }

    /// The leases of a process that is no more run out now. What is parked is tried again: whoever
    /// mends something starts beadle anew.
    ///
    /// Gives the endpoints of the messages of which nobody knows whether they arrived, each for each
    /// of these.
    pub async fn recover(&self, now: Timestamp) -> Result<Vec<String>> {
        let mut connection = self.connection.lock().await;
        // At most starts there is nothing to be put right.
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM outbox WHERE state IN ('pending', 'leased')) \
                 + (SELECT COUNT(*) FROM parked) \
                 + (SELECT COUNT(*) FROM event WHERE since > $1) \
                 + (SELECT COUNT(*) FROM feed WHERE failing_since > $1 OR next_poll_at > $2) AS n",
        )
        .bind(now.as_millisecond())
        .bind(clock::latest(now).as_millisecond())
        .fetch_one(&mut *connection)
        .await?;
        if row.try_get::<i64, _>("n")? == 0 {
            return Ok(Vec::new());
        }
        sqlx::query("UPDATE parked SET retry_at = $1 WHERE retry_at > $1")
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await?;
        clock::put_right(&mut connection, now).await?;
        // What was not written down was not sent, and what has a name over there has arrived.
        let leased = sqlx::query(
            "UPDATE outbox SET lease_until = $1 WHERE state = 'leased' RETURNING \
             CASE WHEN payload IS NOT NULL AND remote_id IS NULL THEN endpoint END AS in_doubt",
        )
        .bind(now.as_millisecond())
        .fetch_all(&mut *connection)
        .await?;
        let in_doubt = leased.iter().map(|row| row.try_get::<Option<String>, _>("in_doubt"));
        Ok(in_doubt.filter_map(sqlx::Result::transpose).collect::<sqlx::Result<_>>()?)
    }

    /// When the next delivery is due, to an endpoint that nothing is being sent to; none when none
    /// is waiting.
    pub async fn next_attempt(&self) -> Result<Option<Timestamp>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(with_waiting!(
            "SELECT MIN(CASE WHEN parked.retry_at > first.at THEN parked.retry_at \
                     ELSE first.at END) AS at \
                 FROM (SELECT endpoint, (SELECT MIN(attempt_at) FROM outbox \
                         WHERE state = 'pending' AND endpoint = waiting.endpoint) AS at \
                     FROM waiting WHERE endpoint IS NOT NULL AND endpoint NOT IN \
                         (SELECT endpoint FROM outbox WHERE state = 'leased')) AS first \
                 LEFT JOIN parked ON parked.endpoint = first.endpoint"
        ))
        .fetch_one(&mut *connection)
        .await?;
        row.try_get::<Option<i64>, _>("at")?.map(instant).transpose()
    }

    /// Deliveries in a state (all but the sent ones where none is given), newest first.
    pub async fn deliveries(
        &self,
        state: Option<DeliveryState>,
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(outbox),
            " FROM outbox WHERE state = $1 \
             OR ($1 = '' AND state <> 'sent') ORDER BY due_at DESC, position, id LIMIT $2"
        ))
        .bind(state.map_or("", DeliveryState::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?;
        Ok(rows.iter().filter_map(salvage::delivery_if_readable).collect())
    }

    /// How many deliveries are in each state.
    pub async fn counts(&self) -> Result<BTreeMap<DeliveryState, u64>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT state, COUNT(*) AS n FROM outbox GROUP BY state")
            .fetch_all(&mut *connection)
            .await?;
        rows.iter()
            .map(|row| {
                let state = DeliveryState::parse(row.try_get("state")?)?;
                Ok((state, row.try_get::<i64, _>("n")?.unsigned_abs()))
            })
            .collect()
    }

    /// By the operator: the delivery whose id begins with `prefix`, or all dead ones where it is
    /// empty, is tried again or given up. Gives those it happened to.
    ///
    /// # Errors
    ///
    /// Where several are meant, nothing happens to any.
    pub async fn intervene(
        &self,
        prefix: &str,
        happening: Happening,
        now: Timestamp,
    ) -> Result<Vec<Delivery>> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(outbox),
            " FROM outbox WHERE SUBSTR(id, 1, LENGTH($1)) = $1"
        ))
        .bind(prefix)
        .fetch_all(&mut *tx)
        .await?;
        let mut meant = Vec::new();
        for one in rows.iter().filter_map(salvage::delivery_if_readable) {
            let is_meant = !prefix.is_empty() || one.state == DeliveryState::Dead;
            let state = one.state.after(happening).filter(|_| is_meant);
            meant.extend(state.map(|state| (one, state)));
        }
        if !prefix.is_empty() && meant.len() > 1 {
            return Err(StoreError::Ambiguous(meant.len()));
        }
        let mut done = Vec::new();
        for (one, state) in meant {
            let settled = (state != DeliveryState::Pending).then_some(now.as_millisecond());
            sqlx::query(
                "UPDATE outbox SET state = $2, attempts = 0, settled_at = $4, \
                     attempt_at = CASE WHEN due_at > $3 THEN due_at ELSE $3 END, \
                     payload = CASE WHEN $5 = 'dead' THEN NULL ELSE payload END \
                 WHERE id = $1",
            )
            .bind(one.id.as_str())
            .bind(state.as_str())
            .bind(now.as_millisecond())
            .bind(settled)
            // What was refused is written anew: by a newer version, perhaps better.
            .bind(one.state.as_str())
            .execute(&mut *tx)
            .await?;
            if state == DeliveryState::Pending {
                shown::try_parked(&mut tx, &one.endpoint, now).await?;
            }
            done.push(one);
        }
        tx.commit().await?;
        Ok(done)
    }
}

/// Does that with a cache that fits what is written.
async fn with_room_for<T>(
    outbox: &[NewDelivery],
    connection: &mut AnyConnection,
    write: impl AsyncFnOnce(&mut AnyConnection) -> Result<T>,
) -> Result<T> {
    if outbox.len() < MANY_DELIVERIES {
        return write(connection).await;
    }
    (&mut *connection).execute(LARGE_CACHE).await?;
    let written = write(connection).await;
    (&mut *connection).execute(SMALL_CACHE).await?;
    written
}

/// See [`Store::take_back`]. Nothing else is planned before it is due.
pub(super) async fn take_back(connection: &mut AnyConnection, after: Timestamp) -> Result<u64> {
    let taken = sqlx::query(
        "DELETE FROM outbox WHERE state = 'pending' AND attempts = 0 AND payload IS NULL \
         AND planned_at < due_at AND due_at > $1",
    )
    .bind(after.as_millisecond())
    .execute(connection)
    .await?;
    Ok(taken.rows_affected())
}

pub(super) async fn insert_deliveries(
    tx: &mut Tx<'_>,
    deliveries: &[NewDelivery],
    now: Timestamp,
) -> Result<u64> {
    insert_from(0, tx, deliveries, now).await
}

/// The same, in order from the place `first` on.
async fn insert_from(
    first: usize,
    tx: &mut Tx<'_>,
    deliveries: &[NewDelivery],
    now: Timestamp,
) -> Result<u64> {
    // With room for the parts that a message may turn out to have.
    let positions = (0_i64..).step_by(parts::MAX_PARTS as usize).skip(first);
    let mut rows: Vec<(i64, &NewDelivery)> = positions.zip(deliveries).collect();
    // By the id, so that the index of these, which is the one that grows, is gone through once.
    rows.sort_unstable_by(|a, b| a.1.id.cmp(&b.1.id));
    let mut statements = rows.chunks(DELIVERY_ROWS).map(|rows| insert(rows, now));
    let mut inserted = 0;
    let mut next = statements.next();
    while let Some(statement) = next {
        // The next one is made while SQLite, in a thread of its own, is busy with this one.
        let following = async { statements.next() };
        let done = future::join(statement.execute(&mut **tx), following).await;
        inserted += done.0?.rows_affected();
        next = done.1;
    }
    Ok(inserted)
}

/// At most [`DELIVERY_ROWS`], each with its position.
fn insert(rows: &[(i64, &NewDelivery)], now: Timestamp) -> Query {
    static WHOLE: LazyLock<String> = LazyLock::new(|| statement(DELIVERY_ROWS));
    fn statement(rows: usize) -> String {
        let row = |row: usize| {
            let [id, endpoint, source, notification, due, not_after, position] =
                std::array::from_fn(|column| row * 7 + column + 2);
            format!(
                "(${id},${endpoint},${source},${notification},'pending',$1,${due},${not_after},\
                 ${position},${due})"
            )
        };
        let places: Vec<String> = (0..rows).map(row).collect();
        format!(
            "INSERT INTO outbox (id, endpoint, source, notification, state, planned_at, due_at, \
                 not_after, position, attempt_at) VALUES {} ON CONFLICT (id) DO NOTHING",
            places.join(","),
        )
    }
    // Safe: made of nothing but the names and numbers above.
    let query: Query = match rows.len() {
        DELIVERY_ROWS => sqlx::query(WHOLE.as_str()),
        fewer => sqlx::query(AssertSqlSafe(statement(fewer))),
    };
    rows.iter().fold(query.bind(now.as_millisecond()), |query, (position, new)| {
        query
            .bind(new.id.clone())
            .bind(new.endpoint.clone())
            .bind(new.notification.source.to_string())
            .bind(new.notification.json.to_string())
            .bind(new.due_at.as_millisecond())
            .bind(new.not_after.as_millisecond())
            .bind(*position)
    })
}

pub(super) fn delivery(row: &AnyRow) -> Result<Delivery> {
    let at = |column: &str| -> Result<Timestamp> { instant(row.try_get(column)?) };
    Ok(Delivery {
        id: row.try_get("id")?,
        endpoint: row.try_get("endpoint")?,
        notification: json(row, "notification")?,
        state: DeliveryState::parse(row.try_get("state")?)?,
        planned_at: at("planned_at")?,
        due_at: at("due_at")?,
        not_after: at("not_after")?,
        position: u32::try_from(row.try_get::<i64, _>("position")?).unwrap_or(u32::MAX),
        attempt_at: at("attempt_at")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        payload: match row.try_get_raw("payload")?.is_null() {
            true => None,
            false => Some(text(row, "payload")?.to_owned()),
        },
        remote_id: row.try_get("remote_id")?,
        last_error: row.try_get("last_error")?,
        settled_at: row.try_get::<Option<i64>, _>("settled_at")?.map(instant).transpose()?,
        doubt_since: row.try_get::<Option<i64>, _>("doubt_since")?.map(instant).transpose()?,
    })
}

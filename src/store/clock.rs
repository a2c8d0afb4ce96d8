//! A clock that was wrong: what was written by it lies in a future that may be far away.

use jiff::{SignedDuration, Timestamp};
use sqlx::AnyConnection;

use super::{Result, Store, millis};

/// The longest that a message or a feed is left alone for.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

impl Store {
    /// The clock was set back by so much, to `now`: what is to be tried again, to be read again or
    /// to last for a while is not kept waiting any longer for that.
    pub async fn clock_set_back(&self, by: SignedDuration, now: Timestamp) -> Result<()> {
        let mut connection = self.connection.lock().await;
        for (table, column) in [
            ("outbox", "attempt_at"),
            ("parked", "retry_at"),
            ("event", "since"),
            ("feed", "recheck_at"),
            ("feed", "next_poll_at"),
            ("feed", "failing_since"),
        ] {
            // No row of the outbox but those that wait.
            let those = if table == "outbox" { "state = 'pending' AND" } else { "" };
            let sql = format!(
                "UPDATE {table} SET {column} = \
                     CASE WHEN {column} - $1 > $2 THEN {column} - $1 ELSE $2 END \
                 WHERE {those} {column} > $2 AND {column} < $3"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(millis(by))
                .bind(now.as_millisecond())
                // Not what is parked for good.
                .bind(Timestamp::MAX.as_millisecond())
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

/// The latest time until which a clock that was right can have put something off.
pub(super) fn latest(now: Timestamp) -> Timestamp {
    now.saturating_add(LONGEST).unwrap_or(Timestamp::MAX)
}

/// Takes back what no clock that was right can have written. By how much it was wrong is not known
/// at a start.
pub(super) async fn put_right(connection: &mut AnyConnection, now: Timestamp) -> Result<()> {
    for (sql, latest) in [
        (
            "UPDATE outbox SET attempt_at = $1 WHERE state = 'pending' AND attempt_at > $2",
            latest(now),
        ),
        ("UPDATE event SET since = $1 WHERE since > $2", now),
        ("UPDATE feed SET failing_since = $1 WHERE failing_since > $2", now),
        ("UPDATE feed SET next_poll_at = $1 WHERE next_poll_at > $2", latest(now)),
    ] {
        sqlx::query(sql)
            .bind(now.as_millisecond())
            .bind(latest.as_millisecond())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

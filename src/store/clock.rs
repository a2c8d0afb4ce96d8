//! A clock that was wrong.

use jiff::{SignedDuration, Timestamp};

use super::{Result, Store, millis};

impl Store {
    /// The clock was set back by so much, to `now`: what is to be tried again is not kept waiting
    /// any longer for that.
    pub async fn clock_set_back(&self, by: SignedDuration, now: Timestamp) -> Result<()> {
        let mut connection = self.connection.lock().await;
        for sql in [
            "UPDATE outbox SET attempt_at = \
                 CASE WHEN attempt_at - $1 > $2 THEN attempt_at - $1 ELSE $2 END \
             WHERE state = 'pending' AND attempt_at > $2",
            "UPDATE parked SET retry_at = \
                 CASE WHEN retry_at - $1 > $2 THEN retry_at - $1 ELSE $2 END \
             WHERE retry_at > $2",
        ] {
            sqlx::query(sql)
                .bind(millis(by))
                .bind(now.as_millisecond())
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

//! What the program wants of the outbox when it is watched, and when it stops.

use jiff::Timestamp;
use sqlx::{Connection, Row};

use super::{Delivery, DeliveryState, Happening, Result, Store, StoreError, instant};

impl Store {
    /// When the oldest of the messages that wait was due; none when none waits.
    pub async fn oldest_due(&self) -> Result<Option<Timestamp>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT MIN(due_at) AS at FROM outbox WHERE state = 'pending'")
            .fetch_one(&mut *connection)
            .await?;
        row.try_get::<Option<i64>, _>("at")?.map(instant).transpose()
    }

    /// Gives leases back whose attempt was surely not begun: as if they had not been claimed.
    pub async fn give_back(&self, deliveries: &[Delivery]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        for delivery in deliveries {
            let Some(state) = delivery.state.after(Happening::GivenBack) else {
                let state = delivery.state;
                return Err(StoreError::Corrupt(format!("a {state} delivery is given back")));
            };
            sqlx::query(
                "UPDATE outbox SET state = $2, attempts = attempts - 1, lease_until = NULL, \
                     payload = $5, doubt_since = $6 \
                 WHERE id = $1 AND state = $3 AND attempts = $4",
            )
            .bind(delivery.id.as_str())
            .bind(state.as_str())
            .bind(DeliveryState::Leased.as_str())
            .bind(i64::from(delivery.attempts))
            // What was rendered for this attempt is rendered anew for the next.
            .bind(delivery.payload.as_deref())
            .bind(delivery.doubt_since.map(Timestamp::as_millisecond))
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }
}

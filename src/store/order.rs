//! What waits behind what.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Delivery, Result, Store, columns, delivery};
use crate::plan::{Item, Kind};

impl Store {
    /// Deliveries that are to be tried later than now, and that one of these may
    /// [come after](Delivery::comes_after).
    pub async fn put_off_before(
        &self,
        deliveries: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Delivery>> {
        let follows = |one: &&Delivery| one.part() > 0 || one.notification.kind == Kind::Changes;
        let following = || deliveries.iter().filter(follows);
        let endpoints: BTreeSet<&str> = following().map(|one| one.endpoint.as_str()).collect();
        let last = following().map(|one| one.due_at).max().unwrap_or(now);
        let mut connection = self.connection.lock().await;
        let mut found = Vec::new();
        for endpoint in endpoints {
            let rows = sqlx::query(concat!(
                "SELECT ",
                columns!(outbox),
                " FROM outbox WHERE state = 'pending' AND endpoint = $1 AND attempt_at > $2 AND due_at <= $3"
            ))
            .bind(endpoint)
            .bind(now.as_millisecond())
            .bind(last.as_millisecond())
            .fetch_all(&mut *connection)
            .await?;
            // What cannot be read is given up when its turn comes.
            found.extend(rows.iter().filter_map(|row| delivery(row).ok()));
        }
        Ok(found)
    }
}

impl Delivery {
    /// Whether the other one, to the same endpoint, must be told first: it is an earlier change of
    /// the same event, and told after this one would be taken for the newer; or an earlier part of
    /// the same message. One that has arrived, and is only to be finished, holds nothing up.
    pub fn comes_after<'a>(&'a self, other: &'a Delivery) -> bool {
        let same = |a: &Item, b: &Item| (&a.feed, &a.key) == (&b.feed, &b.key);
        let changes = |one: &Delivery| one.notification.kind == Kind::Changes;
        let items = |one: &'a Delivery| one.notification.items.iter();
        let of_one_event =
            || items(self).any(|item| items(other).any(|earlier| same(item, earlier)));
        self.endpoint == other.endpoint
            && other.remote_id.is_none()
            && (other.due_at, other.position) < (self.due_at, self.position)
            && (self.goes_on_with(other) || changes(self) && changes(other) && of_one_event())
    }
}

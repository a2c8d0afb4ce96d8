//! What is shown elsewhere, so that it can be compared with what should be shown.

use jiff::{SignedDuration, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};

use super::{
    NewDelivery, Result, Store, StoreError, columns, insert_deliveries, instant, json, known,
    millis, to_json,
};
use crate::calendar::EventKey;
use crate::calendar::diff::Known;
use crate::plan::Notification;

/// Announcements of events that ended this long ago are left as they are, …
const KEEP_OVER: SignedDuration = SignedDuration::from_hours(48);
/// … and reminders that could not be removed for so long stay.
const KEEP_REMINDERS: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Something that is shown, or was about to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// An endpoint, or `guild/<id>`.
    pub target: String,
    pub purpose: Purpose,
    /// Unique for target and purpose.
    pub name: String,
    /// The feed and the key of the event; empty for an agenda.
    pub feed: String,
    pub key: EventKey,
    pub state: State,
    /// Discord's name for it: `<channel id>/<message id>`, or the id of a scheduled event.
    pub remote_id: Option<String>,
    /// Of what it says.
    pub hash: u64,
    /// The revision of the event that it was last compared with.
    pub revision: u64,
    /// What an announcement was posted with.
    pub first: Option<Notification>,
    pub starts: Timestamp,
    /// When the event is over.
    pub ends: Timestamp,
    pub pinned: bool,
    /// When it was made, or about to be made.
    pub since: Timestamp,
    /// What it should say or become was refused.
    pub refused: Option<Refusal>,
}

/// Why something is not shown as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Of what it was to say; 0 where it was to be gone.
    pub hash: u64,
    pub reason: String,
    pub at: Timestamp,
}

/// What something is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The post that told of an event first.
    Announcement,
    /// A reminder that is removed when its event is over.
    Reminder,
    Agenda,
    /// A native scheduled event of a guild.
    ScheduledEvent,
}

/// How far the making of it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// About to be made; after a crash, perhaps made.
    Intended,
    Shown,
    /// Someone removed it by hand; it stays away until its event changes.
    Removed,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Announcement => "announcement",
            Purpose::Reminder => "reminder",
            Purpose::Agenda => "agenda",
            Purpose::ScheduledEvent => "scheduled event",
        }
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Intended => "intended",
            State::Shown => "shown",
            State::Removed => "removed",
        }
    }
}

/// The name of an announcement.
pub fn announcement_name(feed: &str, key: &EventKey) -> String {
    format!("{feed}|{key}")
}

impl Store {
    /// Everything a target shows for a purpose, what ends first before the others.
    pub async fn shown(&self, target: &str, purpose: Purpose) -> Result<Vec<Shown>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(shown),
            " FROM shown WHERE target = $1 AND purpose = $2 ORDER BY ends, name"
        ))
        .bind(target)
        .bind(purpose.as_str())
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(|row| shown(row, purpose)).collect()
    }

    /// The post that told a target of an event first.
    pub async fn announcement(
        &self,
        target: &str,
        feed: &str,
        key: &EventKey,
    ) -> Result<Option<Shown>> {
        let mut connection = self.connection.lock().await;
        let purpose = Purpose::Announcement;
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(shown),
            " FROM shown WHERE target = $1 AND purpose = $2 AND name = $3"
        ))
        .bind(target)
        .bind(purpose.as_str())
        .bind(announcement_name(feed, key))
        .fetch_optional(&mut *connection)
        .await?;
        row.map(|row| shown(&row, purpose)).transpose()
    }

    /// Those of a target's announcements whose events have been told anew since they were last
    /// compared, or whose making was interrupted; with what is known of the event.
    pub async fn outdated_announcements(&self, target: &str) -> Result<Vec<(Shown, Known)>> {
        let mut connection = self.connection.lock().await;
        let purpose = Purpose::Announcement;
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(shown),
            " FROM shown WHERE target = $1 AND purpose = $2 \
             AND EXISTS (SELECT 1 FROM event WHERE event.feed = shown.feed \
                 AND event.key = shown.key \
                 AND (shown.revision <> event.revision OR shown.state = 'intended')) \
             ORDER BY ends, name"
        ))
        .bind(target)
        .bind(purpose.as_str())
        .fetch_all(&mut *connection)
        .await?;
        let mut outdated = Vec::new();
        for row in &rows {
            let shown = shown(row, purpose)?;
            let row = sqlx::query(concat!(
                "SELECT ",
                columns!(event),
                " FROM event WHERE feed = $1 AND key = $2"
            ))
            .bind(shown.feed.as_str())
            .bind(shown.key.0.as_str())
            .fetch_all(&mut *connection)
            .await?;
            let known = self.readable(&mut connection, &row, known).await?.pop();
            outdated.extend(known.map(|known| (shown, known)));
        }
        Ok(outdated)
    }

    /// Whether a message of this name is known to be shown, by whichever target.
    pub async fn is_shown(&self, remote_id: &str) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT 1 FROM shown WHERE remote_id = $1 LIMIT 1")
            .bind(remote_id)
            .fetch_optional(&mut *connection)
            .await?;
        Ok(row.is_some())
    }

    /// Remembers it, in the place of what was remembered under its name.
    pub async fn remember(&self, shown: &Shown) -> Result<()> {
        let mut connection = self.connection.lock().await;
        write(&mut connection, shown, true).await
    }

    /// It is no longer shown, or no longer of interest.
    pub async fn let_go(&self, shown: &Shown) -> Result<()> {
        let mut connection = self.connection.lock().await;
        delete(&mut connection, shown).await
    }

    /// It is not shown as it should be: remembers why, or lets go of it where no reason is given;
    /// and `notice` is told.
    pub async fn note_refusal(
        &self,
        shown: &Shown,
        notice: Option<&NewDelivery>,
        now: Timestamp,
    ) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        match shown.refused {
            Some(_) => write(&mut tx, shown, true).await?,
            None => delete(&mut tx, shown).await?,
        }
        if let Some(notice) = notice {
            insert_deliveries(&mut tx, std::slice::from_ref(notice), now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Everything that is not shown as it should be.
    pub async fn refused(&self) -> Result<Vec<Shown>> {
        let mut connection = self.connection.lock().await;
        let mut refused = Vec::new();
        for purpose in [Purpose::Agenda, Purpose::ScheduledEvent] {
            let rows = sqlx::query(concat!(
                "SELECT ",
                columns!(shown),
                " FROM shown WHERE purpose = $1 AND refusal IS NOT NULL ORDER BY target, name"
            ))
            .bind(purpose.as_str())
            .fetch_all(&mut *connection)
            .await?;
            for row in &rows {
                refused.push(shown(row, purpose)?);
            }
        }
        Ok(refused)
    }

    /// By the operator: what is parked is tried again now. It stays parked until something is taken,
    /// so that its return is told. False where it is not parked.
    pub async fn try_parked(&self, target: &str, now: Timestamp) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        try_parked(&mut connection, target, now).await
    }

    /// The target takes messages again. Only if it was parked until now `notice` is told.
    pub async fn unpark(
        &self,
        target: &str,
        notice: Option<&NewDelivery>,
        now: Timestamp,
    ) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let unparked = sqlx::query("DELETE FROM parked WHERE endpoint = $1")
            .bind(target)
            .execute(&mut *tx)
            .await?;
        if let Some(notice) = notice.filter(|_| unparked.rows_affected() > 0) {
            insert_deliveries(&mut tx, std::slice::from_ref(notice), now).await?;
        }
        Ok(tx.commit().await?)
    }
}

pub(super) async fn try_parked(
    connection: &mut AnyConnection,
    target: &str,
    now: Timestamp,
) -> Result<bool> {
    let tried = sqlx::query("UPDATE parked SET retry_at = $2 WHERE endpoint = $1")
        .bind(target)
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(tried.rows_affected() > 0)
}

async fn delete(connection: &mut AnyConnection, shown: &Shown) -> Result<()> {
    sqlx::query("DELETE FROM shown WHERE target = $1 AND purpose = $2 AND name = $3")
        .bind(shown.target.as_str())
        .bind(shown.purpose.as_str())
        .bind(shown.name.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a row; `replace` says whether over one of the same name.
pub(super) async fn write(
    connection: &mut AnyConnection,
    shown: &Shown,
    replace: bool,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO shown (target, purpose, name, feed, key, state, remote_id, hash, revision, \
             first, starts, ends, pinned, since, refusal, refused_hash, refused_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $16, $17, $18) \
         ON CONFLICT (target, purpose, name) DO UPDATE SET feed = excluded.feed, \
             key = excluded.key, state = excluded.state, remote_id = excluded.remote_id, \
             hash = excluded.hash, revision = excluded.revision, first = excluded.first, \
             starts = excluded.starts, ends = excluded.ends, pinned = excluded.pinned, \
             since = excluded.since, refusal = excluded.refusal, \
             refused_hash = excluded.refused_hash, refused_at = excluded.refused_at \
         WHERE $15 <> 0",
    )
    .bind(shown.target.as_str())
    .bind(shown.purpose.as_str())
    .bind(shown.name.as_str())
    .bind(shown.feed.as_str())
    .bind(shown.key.0.as_str())
    .bind(shown.state.as_str())
    .bind(shown.remote_id.as_deref())
    .bind(shown.hash.cast_signed())
    .bind(i64::try_from(shown.revision).unwrap_or(i64::MAX))
    .bind(shown.first.as_ref().map(to_json).transpose()?)
    .bind(shown.starts.as_millisecond())
    .bind(shown.ends.as_millisecond())
    .bind(i64::from(shown.pinned))
    .bind(shown.since.as_millisecond())
    .bind(i64::from(replace))
    .bind(shown.refused.as_ref().map(|refused| refused.reason.as_str()))
    .bind(shown.refused.as_ref().map(|refused| refused.hash.cast_signed()))
    .bind(shown.refused.as_ref().map(|refused| refused.at.as_millisecond()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets go of messages about events that are over.
pub(super) async fn tidy(connection: &mut AnyConnection, now: Timestamp) -> Result<()> {
    let kept = [(Purpose::Announcement, KEEP_OVER), (Purpose::Reminder, KEEP_REMINDERS)];
    for (purpose, keep) in kept {
        sqlx::query("DELETE FROM shown WHERE purpose = $1 AND ends < $2")
            .bind(purpose.as_str())
            .bind(now.as_millisecond().saturating_sub(millis(keep)))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn shown(row: &AnyRow, purpose: Purpose) -> Result<Shown> {
    let state: &str = row.try_get("state")?;
    let states = [State::Intended, State::Shown, State::Removed];
    let refused = match row.try_get::<Option<String>, _>("refusal")? {
        Some(reason) => Some(Refusal {
            hash: row.try_get::<i64, _>("refused_hash")?.cast_unsigned(),
            reason,
            at: instant(row.try_get("refused_at")?)?,
        }),
        None => None,
    };
    Ok(Shown {
        target: row.try_get("target")?,
        purpose,
        name: row.try_get("name")?,
        feed: row.try_get("feed")?,
        key: EventKey(row.try_get("key")?),
        state: states
            .into_iter()
            .find(|one| one.as_str() == state)
            .ok_or_else(|| StoreError::Corrupt(format!("something shown is `{state}`")))?,
        remote_id: row.try_get("remote_id")?,
        hash: row.try_get::<i64, _>("hash")?.cast_unsigned(),
        revision: row.try_get::<i64, _>("revision")?.unsigned_abs(),
        // An announcement of which this is lost is not edited any more.
        first: json(row, "first").ok(),
        starts: instant(row.try_get("starts")?)?,
        ends: instant(row.try_get("ends")?)?,
        pinned: row.try_get::<i64, _>("pinned")? != 0,
        since: instant(row.try_get("since")?)?,
        refused,
    })
}

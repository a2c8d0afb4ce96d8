//! What survives a restart: feed state, events, the outbox. One SQLite file in the state folder.
//!
//! Each method is one whole transaction, named by what it is for. All SQL of the program is in this
//! module, in the common tongue of SQLite and PostgreSQL: `TEXT`, `BIGINT` and bytes, `$1`
//! placeholders, `ON CONFLICT`, `RETURNING`.

mod clock;
mod integrity;
mod operation;
mod order;
mod outbox;
mod parts;
pub mod people;
mod salvage;
pub mod shown;
mod spool;
mod trouble;
mod turns;
mod upkeep;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection, Executor, Row, Transaction, ValueRef};

use crate::calendar::diff::{Glance, Known, Marks, Presence, Told};
use crate::calendar::{Event, EventKey};
use integrity::Depth;
pub use outbox::{
    Delivery, DeliveryState, Happening, NewDelivery, Parked, Settlement, Written, delivery_id,
};
use outbox::{delivery, insert_deliveries};
use salvage::Suspects;
pub use spool::Spool;
use trouble::Line;
pub use trouble::{crashed, watch_for_crashes};
pub use upkeep::{Restored, Soundness, restore};

/// In order; the number of those applied is kept in `meta`.
const MIGRATIONS: &[&str] =
    &[concat!(include_str!("migrations/0001.sql"), include_str!("migrations/event_indexes.sql"))];

/// To write many events: [`EVENT_INDEXES`] makes them again.
const DROP_EVENT_INDEXES: &str = "DROP INDEX event_starts; DROP INDEX event_long; \
     DROP INDEX event_since; DROP INDEX event_soonest; DROP INDEX event_glance";
const EVENT_INDEXES: &str = include_str!("migrations/event_indexes.sql");

/// Settled deliveries are kept this long, so that nothing is told again.
const KEEP_SETTLED: SignedDuration = SignedDuration::from_hours(24 * 400);

/// What was told is kept this long for comparison with other feeds.
const KEEP_TOLD: SignedDuration = SignedDuration::from_hours(24 * 7);

/// An open database.
#[derive(Debug)]
pub struct Store {
    connection: Line,
    suspects: Suspects,
    /// Held while this process is the one that polls and delivers.
    lock: Option<File>,
}

/// Who may use the state at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Polls and delivers: one process at a time.
    Exclusive,
    /// Looks, or changes single rows, beside a running beadle. The database must exist.
    Shared,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another beadle{} is using {}", .pid.as_ref().map(|p| format!(" (process {p})")).unwrap_or_default(), .folder.display())]
    InUse { folder: PathBuf, pid: Option<String> },
    #[error("{} holds no state yet", .0.display())]
    Absent(PathBuf),
    #[error("the state folder {} cannot be used", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("the state {} is a file, not a folder", .0.display())]
    NoFolder(PathBuf),
    #[error("{} cannot be used", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{} cannot be given to {owner}, who owns the state folder", .file.display())]
    Owner {
        file: PathBuf,
        owner: u32,
        #[source]
        error: io::Error,
    },
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error("the backup is damaged: {0}")]
    BadBackup(String),
    #[error("{} is no state of beadle", .0.display())]
    Foreign(PathBuf),
    #[error("events cannot be kept on disk while a feed is read for the first time")]
    Spool(#[source] io::Error),
    #[error("the database was made by a newer beadle (schema {found}, this one knows {known})")]
    Newer { found: usize, known: usize },
    #[error("{0} deliveries that can be changed so have an id that begins like this")]
    Ambiguous(usize),
    #[error("the database says {0}, which makes no sense")]
    Corrupt(String),
    #[error("the database refused")]
    Sql(#[from] sqlx::Error),
}

impl StoreError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::InUse { .. } => {
                Some("stop it first, or give this one another `state` folder")
            }
            StoreError::Absent(_) => Some("start `beadle run` or `beadle once` first"),
            StoreError::Folder(..) | StoreError::Spool(_) => {
                Some("check that it can be written by this user")
            }
            StoreError::Newer { .. } => Some("run the newer version, or restore an older backup"),
            StoreError::Sql(error) => trouble::hint(error),
            StoreError::File(_, error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Some("name a file that is not there yet")
            }
            StoreError::NoFolder(_) => Some("name a folder as `state`, or move the file away"),
            StoreError::Owner { .. } => Some("run this as that user, or as root"),
            StoreError::Damaged(_) => Some(trouble::DAMAGED),
            StoreError::BadBackup(_) => Some("take another backup; nothing was changed"),
            StoreError::Foreign(_) => Some("name beadle's own file or folder; nothing was changed"),
            StoreError::Ambiguous(_) => Some("give more of the id; see `beadle outbox list`"),
            StoreError::File(..) | StoreError::Corrupt(_) => None,
        }
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// What is read of a row of each table. The long texts come as bytes: one that is no text any more
/// is then an error of its row and not of the query.
macro_rules! columns {
    (event) => {
        "feed, key, fingerprint, presence, told_state, CAST(told AS BLOB) AS told, \
         CAST(seen AS BLOB) AS seen, since, revision"
    };
    (shown) => {
        "target, name, feed, key, state, remote_id, hash, revision, \
         CAST(first AS BLOB) AS first, starts, ends, pinned, since, refusal, refused_hash, refused_at"
    };
    (outbox) => {
        "id, endpoint, CAST(notification AS BLOB) AS notification, state, planned_at, due_at, \
         not_after, position, attempt_at, attempts, CAST(payload AS BLOB) AS payload, remote_id, \
         last_error, settled_at, doubt_since"
    };
}
use columns;

/// Fingerprints in one row.
const PART: usize = 4096;
/// Events written by one statement. Not more: SQLite finds the place of a `$1` by its name, one after
/// the other, and keeps what a statement may have to undo in memory only while it is little.
const ROWS: usize = 8;

/// The events with an occurrence in a window, which `$1` and `$2` bound. Most begin inside it or
/// shortly before; the others are found by an index of their own (2592000000 ms are 30 days).
macro_rules! between {
    ($columns:literal, $which:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM event WHERE starts >= $1 - 2592000000 AND starts < $2 \
             AND ends >= $1 AND ends - starts <= 2592000000 AND ",
            $which,
            " UNION ALL \
             SELECT ",
            $columns,
            " FROM event WHERE ends - starts > 2592000000 \
             AND ends >= $1 AND starts < $2 AND ",
            $which
        )
    };
}

/// By how much the bounds of an event may be off: they are written with the event, in the zones of
/// then, and zone data changes, and so does the zone of floating times.
const ZONES_APART: SignedDuration = SignedDuration::from_hours(26);

/// The window, wide enough to find every event in it.
fn widened(from: Timestamp, to: Timestamp) -> (i64, i64) {
    let from = from.as_millisecond().saturating_sub(millis(ZONES_APART));
    (from, to.as_millisecond().saturating_add(millis(ZONES_APART)))
}

/// How a feed was last asked for and what it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    /// A hash of the address that `etag` and `last_modified` belong to.
    pub address: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub prodid: String,
    /// The feed's own name.
    pub title: Option<String>,
    /// The feed's own zone, an IANA name.
    pub timezone: Option<String>,
    /// How often the feed asks to be polled.
    pub refresh: Option<SignedDuration>,
    /// The last event about which the publisher's site was asked in its turn, as the hash of its
    /// key.
    pub asked_to: Option<u64>,
    /// When the publisher's site first said of events whether they are on.
    pub statuses_since: Option<Timestamp>,
    /// Since when it answers without anything in it, where it was never read with events.
    pub empty_since: Option<Timestamp>,
    /// That reading, and all since, broke off.
    pub in_part: bool,
    /// When it was first read; none before that.
    pub baseline_at: Option<Timestamp>,
    /// When it must be read again to see whether a change lasts.
    pub recheck_at: Option<Timestamp>,
    pub next_poll_at: Option<Timestamp>,
    /// When something in it last changed.
    pub changed_at: Option<Timestamp>,
    /// Polls in a row that failed.
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// Everything one poll leaves behind, visible together or not at all.
#[derive(Debug, Default)]
pub struct PollCommit<'a> {
    pub feed: &'a str,
    /// What was known of the feed is forgotten first.
    pub restart: bool,
    pub state: Option<&'a FeedState>,
    /// Of every slice of the body, where they are not those of the last one.
    pub fingerprints: Option<&'a [u128]>,
    pub write: &'a [(Known, Timestamp, Timestamp)],
    pub forget: &'a [EventKey],
    pub outbox: &'a [NewDelivery],
    /// Receivers, and what they are told.
    pub told: &'a [(String, String)],
    /// Up to when everything that fell due is in the outbox, where that is known.
    pub watermark: Option<Timestamp>,
    pub now: Timestamp,
}

impl Store {
    /// Opens the database in a folder, making both if they are not there and may be made.
    pub async fn open(folder: &Path, access: Access) -> Result<Self> {
        let file = folder.join("beadle.db");
        if folder.exists() && !folder.is_dir() {
            return Err(StoreError::NoFolder(folder.to_owned()));
        }
        let lock = match access {
            Access::Exclusive => {
                upkeep::new_folder(folder)
                    .map_err(|error| StoreError::Folder(folder.to_owned(), error))?;
                Some(lock(folder)?)
            }
            // One that was begun, and not more.
            Access::Shared if std::fs::metadata(&file).is_ok_and(|data| data.len() > 0) => None,
            Access::Shared => return Err(StoreError::Absent(folder.to_owned())),
        };
        let depth = Depth::at_start(&file);
        let mut connection = connect(&file).await?;
        if let (Access::Exclusive, Some(depth)) = (access, depth) {
            integrity::look_through(&mut connection, depth).await?;
        }
        migrate(&mut connection).await?;
        integrity::compare_schema(&mut connection).await?;
        let connection = Line::new(file, connection);
        Ok(Store { connection, suspects: Suspects::default(), lock })
    }

    /// Whether a beadle is polling and delivering with the state in `folder` now.
    pub fn in_use(folder: &Path) -> bool {
        File::open(folder.join("beadle.lock")).is_ok_and(|file| {
            let taken = insist(Duration::from_millis(60), || file.try_lock_shared());
            matches!(taken, Err(TryLockError::WouldBlock))
        })
    }

    pub async fn feed(&self, name: &str) -> Result<FeedState> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT * FROM feed WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        let mut state = row.as_ref().map(feed_state).transpose()?.unwrap_or_default();
        if self.suspects.any_of(name) {
            (state.etag, state.last_modified) = (None, None);
        }
        Ok(state)
    }

    /// The fingerprints of the last body's slices, in its order.
    pub async fn fingerprints(&self, feed: &str) -> Result<Vec<u128>> {
        let mut connection = self.connection.lock().await;
        let parts = sqlx::query("SELECT COUNT(*) AS parts FROM body WHERE feed = $1")
            .bind(feed)
            .fetch_one(&mut *connection)
            .await?;
        let parts = parts.try_get::<i64, _>("parts")?;
        let mut all = Vec::with_capacity(usize::try_from(parts).unwrap_or_default() * PART);
        if self.suspects.any_of(feed) {
            return Ok(all);
        }
        // One by one: what is not waited for is read ahead, and would all be in memory once more.
        for part in 0..parts {
            let row = sqlx::query("SELECT fingerprints FROM body WHERE feed = $1 AND part = $2")
                .bind(feed)
                .bind(part)
                .fetch_one(&mut *connection)
                .await?;
            let (prints, _) = row.try_get::<&[u8], _>("fingerprints")?.as_chunks();
            all.extend(prints.iter().map(|print| u128::from_le_bytes(*print)));
        }
        Ok(all)
    }

    /// A glance at each of a feed's events.
    pub async fn glances(&self, feed: &str, now: Timestamp) -> Result<Vec<Glance>> {
        let mut connection = self.connection.lock().await;
        let mut rows = sqlx::query(
            "SELECT hash, fingerprint, presence, since, starts, ends, uid_mark, stem_mark, \
                 title_mark FROM event WHERE feed = $1",
        )
        .bind(feed)
        .fetch(&mut *connection);
        let mut glances = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let mark = |column: &str| -> Result<u32> {
                Ok((row.try_get::<i64, _>(column)? & 0xFFFF_FFFF) as u32)
            };
            glances.push(Glance {
                key: row.try_get::<i64, _>("hash")?.cast_unsigned(),
                // Without one, it is none that a reading has met.
                fingerprint: fingerprint(&row).unwrap_or_default(),
                starts: row.try_get("starts")?,
                marks: Marks {
                    uid: mark("uid_mark")?,
                    stem: mark("stem_mark")?,
                    title: mark("title_mark")?,
                },
                listed: row.try_get::<&str, _>("presence")? == "listed",
                pending: row.try_get::<Option<i64>, _>("since")?.is_some(),
                upcoming: row.try_get::<i64, _>("ends")? > now.as_millisecond(),
            });
        }
        Ok(glances)
    }

    /// Everything remembered of those events of a feed whose keys have these hashes.
    pub async fn known(&self, feed: &str, keys: &[u64]) -> Result<Vec<Known>> {
        let mut connection = self.connection.lock().await;
        let mut found = Vec::new();
        for key in keys {
            let rows = sqlx::query(concat!(
                "SELECT ",
                columns!(event),
                " FROM event WHERE feed = $1 AND hash = $2"
            ))
            .bind(feed)
            .bind(key.cast_signed())
            .fetch_all(&mut *connection)
            .await?;
            found.extend(self.readable(&mut connection, &rows, known).await?);
        }
        Ok(found)
    }

    /// One event as last read; none if it is not in the feed.
    pub async fn event(&self, feed: &str, key: &EventKey) -> Result<Option<Event>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT feed, key, CAST(seen AS BLOB) AS seen FROM event WHERE feed = $1 AND key = $2 \
             AND presence <> 'missing' AND told_state <> 'withdrawn'",
        )
        .bind(feed)
        .bind(key.0.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        let seen = |row: &AnyRow| event(row, "seen");
        Ok(self.readable(&mut connection, row.as_slice(), seen).await?.pop())
    }

    /// The long text of an event as last read; none where there is none that can be read.
    pub async fn description(&self, feed: &str, key: &EventKey) -> Result<Option<String>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT feed, key, CAST(seen AS BLOB) AS seen FROM event WHERE feed = $1 AND key = $2",
        )
        .bind(feed)
        .bind(key.0.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        let text = |row: &AnyRow| Ok(event(row, "seen")?.description);
        Ok(self.readable(&mut connection, row.as_slice(), text).await?.pop())
    }

    /// The events of all feeds that may have an occurrence in `[from, to)`, with the name and key of
    /// each. Those told to be withdrawn are not among them.
    pub async fn events_between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(String, EventKey, Event)>> {
        let (from, to) = widened(from, to);
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(between!(
            "feed, key, CAST(seen AS BLOB) AS seen",
            "told_state <> 'withdrawn'"
        ))
        .bind(from)
        .bind(to);
        let found = |row: &AnyRow| {
            Ok((row.try_get("feed")?, EventKey(row.try_get("key")?), event(row, "seen")?))
        };
        let mut events: Vec<(String, EventKey, Event)> =
            self.one_by_one(&mut connection, query, found).await?;
        events.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(events)
    }

    /// Those of them that wait to be told for the first time: feed and key.
    pub async fn untold_between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<HashSet<(String, EventKey)>> {
        let (from, to) = widened(from, to);
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query(between!("feed, key", "told_state = 'nothing'"))
            .bind(from)
            .bind(to)
            .fetch_all(&mut *connection)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("feed")?, EventKey(row.try_get("key")?)))).collect()
    }

    /// The feed's new state, its events and what is to be told of them.
    pub async fn commit_poll(&self, commit: &PollCommit<'_>) -> Result<()> {
        self.commit_first_poll(commit, std::iter::empty()).await
    }

    /// The same with further events, one at a time: a first reading may be larger than memory.
    pub async fn commit_first_poll(
        &self,
        commit: &PollCommit<'_>,
        events: impl Iterator<Item = io::Result<(Known, Timestamp, Timestamp)>>,
    ) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        if commit.restart {
            for delete in ["DELETE FROM event WHERE feed = $1", "DELETE FROM body WHERE feed = $1"]
            {
                sqlx::query(delete).bind(commit.feed).execute(&mut *tx).await?;
            }
        }
        if let Some(state) = commit.state {
            write_feed(&mut tx, commit.feed, state).await?;
        }
        if let Some(prints) = commit.fingerprints {
            sqlx::query("DELETE FROM body WHERE feed = $1")
                .bind(commit.feed)
                .execute(&mut *tx)
                .await?;
            for (part, prints) in (0_i64..).zip(prints.chunks(PART)) {
                let bytes: Vec<u8> = prints.iter().flat_map(|print| print.to_le_bytes()).collect();
                sqlx::query("INSERT INTO body (feed, part, fingerprints) VALUES ($1, $2, $3)")
                    .bind(commit.feed)
                    .bind(part)
                    .bind(bytes)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        for rows in commit.write.chunks(ROWS) {
            write_known(&mut tx, commit.feed, rows).await?;
        }
        let mut events = events.peekable();
        let many = events.peek().is_some();
        if many {
            (&mut *tx).execute(DROP_EVENT_INDEXES).await?;
        }
        let mut rows: Vec<(Known, Timestamp, Timestamp)> = Vec::with_capacity(ROWS);
        for row in events {
            let row = row.map_err(StoreError::Spool)?;
            // Of two with one key the last counts; a statement may not write a row twice.
            match rows.iter_mut().find(|(known, ..)| known.key == row.0.key) {
                Some(same) => *same = row,
                None => rows.push(row),
            }
            if rows.len() == ROWS {
                write_known(&mut tx, commit.feed, &rows).await?;
                rows.clear();
            }
        }
        if !rows.is_empty() {
            write_known(&mut tx, commit.feed, &rows).await?;
        }
        if many {
            (&mut *tx).execute(EVENT_INDEXES).await?;
        }
        for key in commit.forget {
            sqlx::query("DELETE FROM event WHERE feed = $1 AND key = $2")
                .bind(commit.feed)
                .bind(key.0.as_str())
                .execute(&mut *tx)
                .await?;
        }
        insert_deliveries(&mut tx, commit.outbox, commit.now).await?;
        for (receiver, meaning) in commit.told {
            sqlx::query("INSERT INTO told (feed, receiver, meaning, at) VALUES ($1, $2, $3, $4)")
                .bind(commit.feed)
                .bind(receiver.as_str())
                .bind(meaning.as_str())
                .bind(commit.now.as_millisecond())
                .execute(&mut *tx)
                .await?;
        }
        if let Some(watermark) = commit.watermark {
            write_watermark(&mut tx, watermark).await?;
        }
        self.suspects.after_poll(&mut tx, commit).await?;
        Ok(tx.commit().await?)
    }

    /// What receivers were told since then of the events of other feeds than this one.
    pub async fn told_since(
        &self,
        feed: &str,
        since: Timestamp,
    ) -> Result<HashSet<(String, String)>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT receiver, meaning FROM told WHERE at >= $1 AND feed <> $2")
            .bind(since.as_millisecond())
            .bind(feed)
            .fetch_all(&mut *connection)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("receiver")?, row.try_get("meaning")?))).collect()
    }

    /// Up to when everything that fell due is in the outbox; none on the first start.
    pub async fn watermark(&self) -> Result<Option<Timestamp>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'watermark'")
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get("value")?;
        let ms = text.parse().map_err(|_| StoreError::Corrupt(format!("watermark {text}")))?;
        instant(ms).map(Some)
    }

    /// Watches and digests met before.
    pub async fn sources(&self) -> Result<BTreeSet<String>> {
        let mut connection = self.connection.lock().await;
        let rows = sqlx::query("SELECT name FROM source").fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }

    /// How many events of a feed are remembered, and how many of them wait to be told.
    pub async fn event_counts(&self, feed: &str) -> Result<(u64, u64)> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, COUNT(since) AS waiting FROM event \
             WHERE feed = $1 AND presence = 'listed'",
        )
        .bind(feed)
        .fetch_one(&mut *connection)
        .await?;
        let n: i64 = row.try_get("n")?;
        let waiting: i64 = row.try_get("waiting")?;
        Ok((n.unsigned_abs(), waiting.unsigned_abs()))
    }

    /// Deletes what nobody will ask for again.
    pub async fn tidy(&self, now: Timestamp) -> Result<u64> {
        let before = now.as_millisecond().saturating_sub(millis(KEEP_SETTLED));
        let mut connection = self.connection.lock().await;
        sqlx::query("DELETE FROM told WHERE at < $1")
            .bind(now.as_millisecond().saturating_sub(millis(KEEP_TOLD)))
            .execute(&mut *connection)
            .await?;
        parts::tidy(&mut connection, now).await?;
        shown::tidy(&mut connection, now).await?;
        let result = sqlx::query("DELETE FROM outbox WHERE settled_at < $1")
            .bind(before)
            .execute(&mut *connection)
            .await?;
        Ok(result.rows_affected())
    }
}

const PRAGMAS: &str = "
    -- Another beadle command may be looking at the same time.
    PRAGMA busy_timeout = 10000;
    -- Of a new file: of events with a text of 2 kB, only one would go onto a page of 4 KiB.
    PRAGMA page_size = 8192;
    PRAGMA journal_mode = WAL;
    -- In pages.
    PRAGMA wal_autocheckpoint = 500;
    -- In bytes: a first reading makes a long log, which would stay as long as the database.
    PRAGMA journal_size_limit = 8388608;
    -- A notice that was recorded as sent must still be so after a power cut.
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    -- A page that makes no sense is damage at once.
    PRAGMA cell_size_check = ON";

/// In KiB: it stays for as long as the program runs, and the system has a cache of its own. What is
/// sorted, and what a statement may have to undo, goes to the disk where it is much.
const SMALL_CACHE: &str = "PRAGMA cache_size = -256; PRAGMA temp_store = DEFAULT";
/// Room for the indexes of some ten thousand rows, which are met in no order: a page that is
/// written and does not stay goes to the disk and comes back for each row.
const LARGE_CACHE: &str = "PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY";

/// Opens a database file, making it if it is not there.
async fn connect(file: &Path) -> Result<AnyConnection> {
    upkeep::new_file(file).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(StoreError::File(file.to_owned(), error)),
    })?;
    let mut connection = integrity::plain(file, "rw").await?;
    integrity::recognise(&mut connection, file).await?;
    // Safe: constants.
    connection.execute(AssertSqlSafe(format!("{PRAGMAS}; {SMALL_CACHE}"))).await?;
    Ok(connection)
}

/// Takes the lock of a state folder and writes the process id into it.
fn lock(folder: &Path) -> Result<File> {
    let failed = |error| StoreError::Folder(folder.to_owned(), error);
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(folder.join("beadle.lock")).map_err(failed)?;
    match insist(Duration::from_secs(1), || file.try_lock()) {
        Ok(()) => {
            // Always as long: to truncate a file can take as long as all else of a start.
            file.rewind().map_err(failed)?;
            writeln!(file, "{:<10}", std::process::id()).map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            Err(StoreError::InUse { folder: folder.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Tries until `patience` is over. A command that asks whether the state [is in use](Store::in_use)
/// holds the lock for a moment, and so does a process between its fork and its exec.
fn insist(
    patience: Duration,
    take: impl Fn() -> std::result::Result<(), TryLockError>,
) -> std::result::Result<(), TryLockError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match take() {
            Err(TryLockError::WouldBlock) if waited < patience => std::thread::sleep(PAUSE),
            end => return end,
        }
        waited += PAUSE;
    }
}

async fn migrate(connection: &mut AnyConnection) -> Result<()> {
    // A command that only looks must not queue behind the writer it looks at.
    if version(connection).await.is_ok_and(|found| found == MIGRATIONS.len()) {
        return Ok(());
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mark = format!("PRAGMA application_id = {}", integrity::APPLICATION_ID);
    (&mut *tx).execute(AssertSqlSafe(mark)).await?;
    (&mut *tx)
        .execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .await?;
    let found = version(&mut tx).await?;
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { found, known: MIGRATIONS.len() });
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        (&mut *tx).execute(*sql).await?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(i64::try_from(index + 1).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}

/// How many migrations a database has had.
async fn version(connection: &mut AnyConnection) -> Result<usize> {
    let row = sqlx::query("SELECT MAX(version) AS version FROM schema_version")
        .fetch_one(connection)
        .await?;
    let found = row.try_get::<Option<i64>, _>("version")?.unwrap_or(0);
    Ok(usize::try_from(found).unwrap_or(0))
}

type Tx<'a> = Transaction<'a, Any>;
type Query = sqlx::query::Query<'static, Any, AnyArguments>;

async fn write_feed(tx: &mut Tx<'_>, name: &str, state: &FeedState) -> Result<()> {
    let query: Query = sqlx::query(
        "INSERT INTO feed (name, address, etag, last_modified, prodid, title, timezone, refresh_s, \
             baseline_at, recheck_at, next_poll_at, changed_at, failures, \
             failing_since, last_error, asked_to, statuses_since, empty_since, in_part) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19) \
         ON CONFLICT (name) DO UPDATE SET address = excluded.address, etag = excluded.etag, \
             last_modified = excluded.last_modified, prodid = excluded.prodid, \
             title = excluded.title, timezone = excluded.timezone, \
             refresh_s = excluded.refresh_s, asked_to = excluded.asked_to, \
             statuses_since = excluded.statuses_since, empty_since = excluded.empty_since, \
             baseline_at = excluded.baseline_at, recheck_at = excluded.recheck_at, \
             next_poll_at = excluded.next_poll_at, changed_at = excluded.changed_at, \
             failures = excluded.failures, failing_since = excluded.failing_since, \
             last_error = excluded.last_error, in_part = excluded.in_part",
    );
    query
        .bind(name.to_owned())
        .bind(state.address.clone())
        .bind(state.etag.clone())
        .bind(state.last_modified.clone())
        .bind(state.prodid.clone())
        .bind(state.title.clone())
        .bind(state.timezone.clone())
        .bind(state.refresh.map(|refresh| refresh.as_secs()))
        .bind(state.baseline_at.map(Timestamp::as_millisecond))
        .bind(state.recheck_at.map(Timestamp::as_millisecond))
        .bind(state.next_poll_at.map(Timestamp::as_millisecond))
        .bind(state.changed_at.map(Timestamp::as_millisecond))
        .bind(i64::from(state.failures))
        .bind(state.failing_since.map(Timestamp::as_millisecond))
        .bind(state.last_error.clone())
        .bind(state.asked_to.map(u64::cast_signed))
        .bind(state.statuses_since.map(Timestamp::as_millisecond))
        .bind(state.empty_since.map(Timestamp::as_millisecond))
        .bind(i64::from(state.in_part))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Events with their first and last instant, all in one statement: at most [`ROWS`].
async fn write_known(
    tx: &mut Tx<'_>,
    feed: &str,
    rows: &[(Known, Timestamp, Timestamp)],
) -> Result<()> {
    const COLUMNS: [&str; 15] = [
        "feed",
        "key",
        "fingerprint",
        "presence",
        "told_state",
        "told",
        "seen",
        "since",
        "revision",
        "starts",
        "ends",
        "hash",
        "uid_mark",
        "stem_mark",
        "title_mark",
    ];
    let row = |row: usize| {
        let places: Vec<String> = (1..=COLUMNS.len())
            .map(|column| format!("${}", row * COLUMNS.len() + column))
            .collect();
        format!("({})", places.join(","))
    };
    let places: Vec<String> = (0..rows.len()).map(row).collect();
    let changed: Vec<String> =
        COLUMNS[2..].iter().map(|column| format!("{column}=excluded.{column}")).collect();
    let statement = format!(
        "INSERT INTO event ({}) VALUES {} ON CONFLICT (feed, key) DO UPDATE SET {}",
        COLUMNS.join(","),
        places.join(","),
        changed.join(","),
    );
    // Safe: made of nothing but the names and numbers above.
    let mut query: Query = sqlx::query(AssertSqlSafe(statement));
    for (known, starts, ends) in rows {
        query = bind_known(query, feed, known, *starts, *ends)?;
    }
    query.execute(&mut **tx).await?;
    Ok(())
}

fn bind_known(
    query: Query,
    feed: &str,
    known: &Known,
    starts: Timestamp,
    ends: Timestamp,
) -> Result<Query> {
    let (told_state, told) = match &known.told {
        Told::Nothing => ("nothing", None),
        Told::Listed(event) => ("listed", Some(event)),
        Told::Withdrawn(event) => ("withdrawn", Some(event)),
    };
    let told = told.filter(|event| **event != known.seen).map(Event::to_json).transpose();
    let unwritable = |error: serde_json::Error| StoreError::Corrupt(error.to_string());
    let marks = Marks::of(&known.seen);
    Ok(query
        .bind(feed.to_owned())
        .bind(known.key.0.clone())
        .bind(known.fingerprint.to_le_bytes().to_vec())
        .bind(match known.presence {
            Presence::Listed => "listed",
            Presence::Missing => "missing",
            Presence::Unlisted => "unlisted",
        })
        .bind(told_state)
        .bind(told.map_err(unwritable)?)
        .bind(known.seen.to_json().map_err(unwritable)?)
        .bind(known.since.map(Timestamp::as_millisecond))
        .bind(i64::try_from(known.revision).unwrap_or(i64::MAX))
        .bind(starts.as_millisecond())
        .bind(ends.as_millisecond())
        .bind(known.key.hash64().cast_signed())
        .bind(i64::from(marks.uid))
        .bind(i64::from(marks.stem))
        .bind(i64::from(marks.title)))
}

/// Backwards, too: what falls due once more under a clock that was set back has the id it had, and
/// what a clock that ran ahead had skipped is not skipped for good.
async fn write_watermark(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO meta (name, value) VALUES ('watermark', $1) ON CONFLICT (name) DO UPDATE \
         SET value = excluded.value",
    )
    .bind(now.as_millisecond().to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn feed_state(row: &AnyRow) -> Result<FeedState> {
    let at = |column: &str| -> Result<Option<Timestamp>> {
        row.try_get::<Option<i64>, _>(column)?.map(instant).transpose()
    };
    Ok(FeedState {
        address: row.try_get("address")?,
        etag: row.try_get("etag")?,
        last_modified: row.try_get("last_modified")?,
        prodid: row.try_get("prodid")?,
        title: row.try_get("title")?,
        timezone: row.try_get("timezone")?,
        refresh: row.try_get::<Option<i64>, _>("refresh_s")?.map(SignedDuration::from_secs),
        asked_to: row.try_get::<Option<i64>, _>("asked_to")?.map(i64::cast_unsigned),
        statuses_since: at("statuses_since")?,
        empty_since: at("empty_since")?,
        in_part: row.try_get::<i64, _>("in_part")? != 0,
        baseline_at: at("baseline_at")?,
        recheck_at: at("recheck_at")?,
        next_poll_at: at("next_poll_at")?,
        changed_at: at("changed_at")?,
        failures: u32::try_from(row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
        failing_since: at("failing_since")?,
        last_error: row.try_get("last_error")?,
    })
}

fn known(row: &AnyRow) -> Result<Known> {
    let seen = event(row, "seen")?;
    let told = match row.try_get_raw("told")?.is_null() {
        true => seen.clone(),
        false => event(row, "told")?,
    };
    let told_state: String = row.try_get("told_state")?;
    let presence: String = row.try_get("presence")?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("an event is `{what}`"));
    Ok(Known {
        key: EventKey(row.try_get("key")?),
        fingerprint: fingerprint(row)?,
        told: match told_state.as_str() {
            "nothing" => Told::Nothing,
            "listed" => Told::Listed(told),
            "withdrawn" => Told::Withdrawn(told),
            other => return Err(corrupt(other)),
        },
        presence: match presence.as_str() {
            "listed" => Presence::Listed,
            "missing" => Presence::Missing,
            "unlisted" => Presence::Unlisted,
            other => return Err(corrupt(other)),
        },
        seen,
        since: row.try_get::<Option<i64>, _>("since")?.map(instant).transpose()?,
        revision: row.try_get::<i64, _>("revision")?.unsigned_abs(),
    })
}

fn fingerprint(row: &AnyRow) -> Result<u128> {
    let bytes: &[u8] = row.try_get("fingerprint")?;
    let bytes = bytes.try_into();
    bytes
        .map(u128::from_le_bytes)
        .map_err(|_| StoreError::Corrupt("an event has half a fingerprint".to_owned()))
}

fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T> {
    serde_json::from_str(text(row, column)?).map_err(|error| corrupt(column, &error))
}

fn event(row: &AnyRow, column: &str) -> Result<Event> {
    Event::from_json(text(row, column)?).map_err(|error| corrupt(column, &error))
}

fn corrupt(column: &str, error: &dyn fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{column}: {error}"))
}

/// A text that was read as bytes.
fn text<'r>(row: &'r AnyRow, column: &str) -> Result<&'r str> {
    str::from_utf8(row.try_get(column)?).map_err(|error| corrupt(column, &error))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn instant(ms: i64) -> Result<Timestamp> {
    // Written by us from instants, so out of range means at an end of the range.
    Ok(Timestamp::from_millisecond(ms).unwrap_or(match ms > 0 {
        true => Timestamp::MAX,
        false => Timestamp::MIN,
    }))
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

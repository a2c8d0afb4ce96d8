//! Copies of the database, and whether it is sound.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::{AnyConnection, Connection, Row};

use super::{
    DeliveryState, Result, Store, StoreError, connect, lock, migrate, millis, version,
    write_watermark,
};

/// Findings of an integrity check that are reported.
const FINDINGS: u32 = 10;
/// A delivery waits this long beyond its time before it counts as stuck.
const STUCK: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// What [`restore`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the state that was there before is now; none where there was none.
    pub set_aside: Option<PathBuf>,
    /// Messages that waited when the backup was made. They may have been sent since and are not
    /// sent again unless the operator says so.
    pub held: u64,
}

/// How the database itself stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soundness {
    /// What SQLite finds wrong; empty for a sound file.
    pub damage: Vec<String>,
    /// Of the database and its write-ahead log, in bytes.
    pub size: u64,
    /// Deliveries that should have been tried an hour ago and are held back by nothing.
    pub stuck: u64,
    /// Leases: with no process running, messages of which it is not known whether they were sent.
    pub leased: u64,
}

impl Store {
    /// Writes a consistent copy to a file that is not there yet, while everything goes on.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let failed = |error| StoreError::File(to.to_owned(), error);
        if to.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        // Under its own name only once it is whole.
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        remove(&part).map_err(failed)?;
        new_file(&part).map_err(failed)?;
        let name = part.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let mut connection = self.connection.lock().await;
        let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&mut *connection).await;
        if let Err(error) = copied {
            let _ = fs::remove_file(&part);
            return Err(error.into());
        }
        File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&part, to).map_err(failed)?;
        sync_folder_of(to).map_err(failed)
    }

    /// Looks through the whole file.
    pub async fn soundness(&self, folder: &Path, now: Timestamp) -> Result<Soundness> {
        let mut connection = self.connection.lock().await;
        let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |data| data.len());
        let size = size("beadle.db") + size("beadle.db-wal");
        let damage = damage(&mut connection).await?;
        if !damage.is_empty() {
            // What it says besides is not to be relied upon.
            return Ok(Soundness { damage, size, stuck: 0, leased: 0 });
        }
        let overdue = now.as_millisecond().saturating_sub(millis(STUCK));
        let row = sqlx::query(
            "SELECT \
                 COALESCE(SUM(CASE WHEN state = 'pending' AND attempt_at < $1 AND endpoint NOT IN \
                     (SELECT endpoint FROM parked WHERE retry_at > $2) THEN 1 ELSE 0 END), 0) \
                     AS stuck, \
                 COALESCE(SUM(CASE WHEN state = 'leased' THEN 1 ELSE 0 END), 0) AS leased \
             FROM outbox",
        )
        .bind(overdue)
        .bind(now.as_millisecond())
        .fetch_one(&mut *connection)
        .await?;
        let count = |name: &str| -> Result<u64> {
            Ok(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0))
        };
        Ok(Soundness { damage, size, stuck: count("stuck")?, leased: count("leased")? })
    }
}

/// Puts a backup in the place of the state in `folder`, which no beadle may be using. What is there
/// is set aside, not deleted.
///
/// What was told between the backup and now is not in the backup, so nothing that the backup has
/// not told is told: each feed is read anew as if for the first time, messages that waited are held
/// back, and what fell due before `now` is passed over. Nothing is told twice; what changed since
/// the backup and was never told is lost, which the caller has to say.
pub async fn restore(folder: &Path, from: &Path, now: Timestamp) -> Result<Restored> {
    let failed = |error| StoreError::Folder(folder.to_owned(), error);
    fs::create_dir_all(folder).map_err(failed)?;
    let _lock = lock(folder)?;
    let new = folder.join("beadle.db.restoring");
    for name in companions(&new) {
        remove(&name).map_err(failed)?;
    }
    let copied = new_file(&new)
        .and_then(|()| {
            // The bytes alone: its mode is ours.
            let mut new = File::options().write(true).open(&new)?;
            io::copy(&mut File::open(from)?, &mut new)
        })
        .map_err(|error| StoreError::File(from.to_owned(), error));
    let prepared = match copied {
        Ok(_) => prepare(&new, from, now).await,
        Err(error) => Err(error),
    };
    let held = match prepared {
        Ok(held) => held,
        Err(error) => {
            for name in companions(&new) {
                let _ = fs::remove_file(name);
            }
            return Err(error);
        }
    };
    File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    let set_aside = set_aside(folder, now).map_err(failed)?;
    let place = folder.join("beadle.db");
    fs::rename(&new, &place).and_then(|()| sync_folder_of(&place)).map_err(failed)?;
    Ok(Restored { set_aside, held })
}

/// Checks the copy of a backup, brings it to this version, and makes it quiet.
async fn prepare(file: &Path, from: &Path, now: Timestamp) -> Result<u64> {
    let not_sqlite = |error| match error {
        StoreError::Sql(sqlx::Error::Database(_)) => StoreError::Foreign(from.to_owned()),
        other => other,
    };
    let mut connection = connect(file).await.map_err(not_sqlite)?;
    let damage = damage(&mut connection).await?;
    if let Some(first) = damage.first() {
        return Err(StoreError::Damaged(first.clone()));
    }
    if version(&mut connection).await.is_err() {
        return Err(StoreError::Foreign(from.to_owned()));
    }
    migrate(&mut connection).await?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for sql in [
        "DELETE FROM event",
        "DELETE FROM body",
        "DELETE FROM told",
        "UPDATE feed SET etag = NULL, last_modified = NULL, baseline_at = NULL, recheck_at = NULL, \
             next_poll_at = NULL, changed_at = NULL, failures = 0, failing_since = NULL, \
             last_error = NULL, empty_since = NULL, in_part = 0, statuses_since = NULL, asked_to = NULL",
    ] {
        sqlx::query(sql).execute(&mut *tx).await?;
    }
    let held = sqlx::query(
        "UPDATE outbox SET state = $1, lease_until = NULL, settled_at = $2, \
         last_error = 'held back when a backup was restored: it may have been sent since' \
         WHERE state IN ('pending', 'leased')",
    )
    .bind(DeliveryState::Superseded.as_str())
    .bind(now.as_millisecond())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    write_watermark(&mut tx, now).await?;
    tx.commit().await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await?;
    Ok(held)
}

/// Moves the database that is there to another name, its write-ahead log with it.
fn set_aside(folder: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    let place = folder.join("beadle.db");
    if !place.exists() {
        return Ok(None);
    }
    let at = now.strftime("%Y%m%dT%H%M%SZ");
    let aside = folder.join(format!("beadle.db.before-restore-{at}"));
    // The log first: a database without its log is an older state, but another's log damages it.
    for (from, to) in companions(&place).into_iter().zip(companions(&aside)).rev() {
        if from.exists() {
            fs::rename(from, to)?;
        }
    }
    Ok(Some(aside))
}

/// A database's file and those that SQLite keeps beside it.
fn companions(file: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        name.into()
    })
}

async fn damage(connection: &mut AnyConnection) -> Result<Vec<String>> {
    let check = format!("PRAGMA integrity_check({FINDINGS})");
    let rows = match sqlx::query(sqlx::AssertSqlSafe(check)).fetch_all(connection).await {
        Ok(rows) => rows,
        // Damage that the check itself cannot get past.
        Err(sqlx::Error::Database(error)) => return Ok(vec![error.message().to_owned()]),
        Err(error) => return Err(error.into()),
    };
    let texts: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    Ok(texts.into_iter().filter(|text| text != "ok").collect())
}

/// Makes an empty file that only its owner can read: the state says who asked for reminders.
pub(super) fn new_file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new name is only there after a power cut if its folder was written.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match cfg!(unix) {
        true => File::open(folder.unwrap_or(Path::new(".")))?.sync_all(),
        false => Ok(()),
    }
}

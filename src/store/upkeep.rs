//! Copies of the database, and whether it is sound.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::{Connection, Row};

use super::integrity::{self, Depth};
use super::outbox::take_back;
use super::{
    DeliveryState, Result, Store, StoreError, connect, instant, lock, migrate, millis, trouble,
    version, write_watermark,
};

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
    /// The last time at which something was noted; by a clock that is right, in the past.
    pub newest: Option<Timestamp>,
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
        let copied = self.copy(&part, name).await;
        if let Err(error) = copied {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&part, to).map_err(failed)?;
        sync_folder_of(to).map_err(failed)
    }

    /// Copies the database, looking through it before and through the copy afterwards: what is
    /// damaged may be copied without an error, and be incomplete.
    async fn copy(&self, to: &Path, name: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        integrity::look_through(&mut connection, Depth::Full).await?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(&mut *connection).await?;
        drop(connection);
        let mut copy = integrity::plain(to, "ro").await?;
        integrity::look_through(&mut copy, Depth::Full).await?;
        Ok(copy.close().await?)
    }

    /// Looks through the whole file.
    pub async fn soundness(&self, folder: &Path, now: Timestamp) -> Result<Soundness> {
        let mut connection = self.connection.lock().await;
        let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |data| data.len());
        let size = size("beadle.db") + size("beadle.db-wal");
        let damage = integrity::damage(&mut connection, Depth::Full).await?;
        if !damage.is_empty() {
            // What it says besides is not to be relied upon.
            return Ok(Soundness { damage, size, stuck: 0, leased: 0, newest: None });
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
        let (stuck, leased) = (count("stuck")?, count("leased")?);
        let row = sqlx::query(
            "SELECT MAX(at) AS at FROM (SELECT MAX(planned_at) AS at FROM outbox \
             UNION ALL SELECT MAX(settled_at) FROM outbox UNION ALL SELECT MAX(changed_at) FROM feed \
             UNION ALL SELECT MAX(baseline_at) FROM feed UNION ALL SELECT MAX(since) FROM event \
             UNION ALL SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'watermark') AS times",
        )
        .fetch_one(&mut *connection)
        .await?;
        let newest = row.try_get::<Option<i64>, _>("at")?.map(instant).transpose()?;
        Ok(Soundness { damage, size, stuck, leased, newest })
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
    if folder.exists() && !folder.is_dir() {
        return Err(StoreError::NoFolder(folder.to_owned()));
    }
    new_folder(folder).map_err(failed)?;
    let _lock = lock(folder)?;
    give_to_owner(folder, &folder.join("beadle.lock"))?;
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
    if let Err(error) = give_to_owner(folder, &new) {
        remove(&new).map_err(failed)?;
        return Err(error);
    }
    File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    let set_aside = set_aside(folder, now).map_err(failed)?;
    let place = folder.join("beadle.db");
    fs::rename(&new, &place).and_then(|()| sync_folder_of(&place)).map_err(failed)?;
    Ok(Restored { set_aside, held })
}

/// Checks the copy of a backup, brings it to this version, and makes it quiet.
async fn prepare(file: &Path, from: &Path, now: Timestamp) -> Result<u64> {
    let of_backup = |error| match error {
        StoreError::Sql(error) if trouble::is_damage(&error) => {
            StoreError::BadBackup(error.to_string())
        }
        StoreError::Damaged(what) => StoreError::BadBackup(what),
        StoreError::Sql(sqlx::Error::Database(_)) | StoreError::Foreign(_) => {
            StoreError::Foreign(from.to_owned())
        }
        other => other,
    };
    let mut connection = connect(file).await.map_err(of_backup)?;
    integrity::look_through(&mut connection, Depth::Full).await.map_err(of_backup)?;
    if version(&mut connection).await.is_err() {
        return Err(StoreError::Foreign(from.to_owned()));
    }
    migrate(&mut connection).await?;
    integrity::compare_schema(&mut connection).await.map_err(of_backup)?;
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
    take_back(&mut tx, now).await?;
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
    let name = |number: u32| match number {
        1 => folder.join(format!("beadle.db.before-restore-{at}")),
        _ => folder.join(format!("beadle.db.before-restore-{at}-{number}")),
    };
    // Not the name of another that was set aside, nor that of its log.
    let is_free = |aside: &PathBuf| !companions(aside).iter().any(|file| file.exists());
    let aside = (1..).map(name).find(is_free).unwrap_or_else(|| name(0));
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

/// Makes an empty file that only its owner can read: the state says who asked for reminders.
pub(super) fn new_file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Makes the state folder, where it is not there; for its owner only, for the same reason.
pub(super) fn new_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// What root puts into the state folder of another user must be that user's.
#[cfg(unix)]
fn give_to_owner(folder: &Path, file: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let failed = |error| StoreError::Folder(folder.to_owned(), error);
    let (theirs, ours) =
        (fs::metadata(folder).map_err(failed)?, fs::metadata(file).map_err(failed)?);
    if theirs.uid() == ours.uid() {
        return Ok(());
    }
    chown(file, Some(theirs.uid()), Some(theirs.gid())).map_err(|error| StoreError::Owner {
        file: file.to_owned(),
        owner: theirs.uid(),
        error,
    })
}

/// Owners are known on Unix only.
#[cfg(not(unix))]
fn give_to_owner(_: &Path, _: &Path) -> Result<()> {
    Ok(())
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

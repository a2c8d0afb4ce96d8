//! What a refusal of SQLite means, whether it passes, and how to go on after it.

use std::ops::{Deref, DerefMut};
use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sqlx::{AnyConnection, Connection};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::{Store, StoreError, connect};

/// The line to the database. It is taken up anew after a refusal: a COMMIT that failed leaves sqlx
/// in a transaction that SQLite has ended.
#[derive(Debug)]
pub(super) struct Line {
    file: PathBuf,
    connection: Mutex<AnyConnection>,
    /// Held by the one that has the connection or is the next to get it, unless it goes first.
    door: Mutex<()>,
    distrusted: AtomicBool,
}

/// The connection, for as long as it is one's turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Let go of before the door is: whoever goes first is before whoever waits at it.
    connection: MutexGuard<'a, AnyConnection>,
    _door: Option<MutexGuard<'a, ()>>,
}

impl Deref for Turn<'_> {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

impl Line {
    pub(super) fn new(file: PathBuf, connection: AnyConnection) -> Line {
        Line {
            file,
            connection: Mutex::new(connection),
            door: Mutex::default(),
            distrusted: AtomicBool::new(false),
        }
    }

    pub(super) async fn lock(&self) -> Turn<'_> {
        let door = self.door.lock().await;
        Turn { connection: self.trusted().await, _door: Some(door) }
    }

    /// For what has a time at which it is to be done: it waits for what is being done now, and not
    /// for those who wait.
    pub(super) async fn lock_first(&self) -> Turn<'_> {
        Turn { connection: self.trusted().await, _door: None }
    }

    async fn trusted(&self) -> MutexGuard<'_, AnyConnection> {
        let mut connection = self.connection.lock().await;
        if self.distrusted.load(Ordering::Relaxed)
            && let Ok(new) = connect(&self.file).await
        {
            *connection = new;
            self.distrusted.store(false, Ordering::Relaxed);
        }
        connection
    }
}

impl Store {
    /// Ends in peace: what is in the log goes into the database, and the log is taken away, by which
    /// the next start knows that all is well.
    pub async fn close(self) -> Result<(), StoreError> {
        let Store { connection, lock: _lock, .. } = self;
        Ok(connection.connection.into_inner().close().await?)
    }

    /// After a refusal that [passes](StoreError::passes): what is asked next begins afresh.
    pub fn distrust(&self) {
        self.connection.distrusted.store(true, Ordering::Relaxed);
    }
}

/// The thread on which sqlx speaks to SQLite has panicked.
static CRASHED: Notify = Notify::const_new();

/// From now on [`crashed`] hears of panics.
pub fn watch_for_crashes() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        before(what);
        if thread::current().name().is_some_and(|name| name.starts_with("sqlx-")) {
            CRASHED.notify_one();
        }
    }));
}

/// Waits for a panic of the thread on which sqlx speaks to SQLite. What was asked of it then may
/// never be answered, so whoever waits for an answer has to wait for this as well.
pub async fn crashed() -> StoreError {
    CRASHED.notified().await;
    StoreError::Sql(sqlx::Error::WorkerCrashed)
}

pub(super) const DAMAGED: &str = "beadle.db is damaged, and was left as it is: `beadle doctor` \
                                  says more; restore a backup, or move it away and start anew";

/// <https://www.sqlite.org/rescode.html>
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READ_ONLY: u32 = 8;
const IO: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NOT_A_DATABASE: u32 = 26;

impl StoreError {
    /// Whether the same may succeed later without a restart, once someone has made room, or another
    /// program has let go.
    pub fn passes(&self) -> bool {
        match self {
            StoreError::Spool(_) => true,
            // It was not possible to begin afresh.
            StoreError::Sql(sqlx::Error::InvalidSavePointStatement) => true,
            StoreError::Sql(error) => {
                matches!(code(error), Some(BUSY | LOCKED | READ_ONLY | IO | FULL | CANNOT_OPEN))
            }
            _ => false,
        }
    }
}

pub(super) fn hint(error: &sqlx::Error) -> Option<&'static str> {
    if matches!(error, sqlx::Error::WorkerCrashed | sqlx::Error::ColumnDecode { .. }) {
        return Some(DAMAGED);
    }
    Some(match code(error)? {
        BUSY | LOCKED => "another program is writing to beadle.db: end it",
        FULL => "the disk is full: make room",
        IO => "see whether the disk is full, or failing",
        READ_ONLY | CANNOT_OPEN => "check that the state folder can be written by this user",
        CORRUPT | NOT_A_DATABASE => DAMAGED,
        _ => return None,
    })
}

/// Whether SQLite itself finds the file damaged.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    code(error) == Some(CORRUPT)
}

/// The primary result code: the low byte of what SQLite says.
fn code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    Some(error.code()?.parse::<u32>().ok()? & 0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_panic_of_the_thread_of_sqlx_is_heard_of() {
        let fall = |name: &str| {
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn(|| panic!("on purpose")).unwrap().join().unwrap_err();
        };
        watch_for_crashes();
        fall("another");
        assert!(futures_util::FutureExt::now_or_never(crashed()).is_none());
        fall("sqlx-sqlite-worker-0");
        assert_eq!(crashed().await.hint(), Some(DAMAGED));
    }
}

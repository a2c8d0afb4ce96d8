//! Whether a file is beadle's own, and whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sqlx::{AnyConnection, Connection, Row};
use xxhash_rust::xxh3::Xxh3Default;

use super::{Result, StoreError, migrate};

/// In the header of every `beadle.db`: "Bead".
pub(super) const APPLICATION_ID: i64 = 0x4265_6164;
/// Findings that are reported.
const FINDINGS: u32 = 10;
/// A file up to this size, in bytes, is looked through at each start, its indexes compared with
/// their tables; a larger one only after an end that was not clean, and only its structure. Both
/// take about a millisecond for a megabyte.
const FULL_UP_TO: u64 = 16 << 20;

/// How thoroughly a file is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Structure, and what must not be empty.
    Quick,
    /// Every index against its table, too.
    Full,
}

impl Depth {
    /// What a start can afford; to be asked before the file is opened.
    pub(super) fn at_start(file: &Path) -> Option<Depth> {
        let size = |file: &Path| fs::metadata(file).map_or(0, |data| data.len());
        // Whoever ends in peace takes it away.
        let log = size(&file.with_extension("db-wal"));
        match size(file) > FULL_UP_TO {
            true => (log > 0).then_some(Depth::Quick),
            false => Some(Depth::Full),
        }
    }
}

/// Opens a file, changing nothing in it; `mode` is `ro` or `rw`.
pub(super) async fn plain(file: &Path, mode: &str) -> Result<AnyConnection> {
    let failed = |error| StoreError::File(file.to_owned(), error);
    let path = std::path::absolute(file).map_err(failed)?;
    // As a URL, since the path may hold blanks and question marks.
    let url = url::Url::from_file_path(&path)
        .map_err(|()| StoreError::Corrupt(format!("the path {}", path.display())))?;
    sqlx::any::install_default_drivers();
    Ok(AnyConnection::connect(&format!("sqlite://{}?mode={mode}", url.path())).await?)
}

/// Refuses a database of another program: it has tables, and not our mark.
pub(super) async fn recognise(connection: &mut AnyConnection, file: &Path) -> Result<()> {
    let row = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?;
    if row.try_get::<i64, _>(0)? == APPLICATION_ID {
        return Ok(());
    }
    let row = sqlx::query("SELECT COUNT(*) AS n FROM sqlite_schema").fetch_one(connection).await?;
    match row.try_get::<i64, _>("n")? {
        0 => Ok(()),
        _ => Err(StoreError::Foreign(file.to_owned())),
    }
}

/// The hash of what the migrations make, which to make at each start would cost a quarter of it, and
/// memory that stays.
const SCHEMA: u64 = 0xa534_19c1_c6e4_9fe1;

/// Refuses a database whose tables are not those that the migrations make. A changed letter there
/// is no damage to SQLite, but more than sqlx copes with.
pub(super) async fn compare_schema(connection: &mut AnyConnection) -> Result<()> {
    let found = schema(connection).await?;
    if hash(&found) == SCHEMA {
        return Ok(());
    }
    let mut model = AnyConnection::connect("sqlite::memory:").await?;
    migrate(&mut model).await?;
    for (name, sql) in schema(&mut model).await? {
        if found.get(&name) != Some(&sql) {
            let name = String::from_utf8_lossy(&name);
            return Err(StoreError::Damaged(format!("its {name} is not as beadle makes it")));
        }
    }
    Ok(())
}

/// The statements that made everything in it, by kind and name; as bytes, whatever they are.
async fn schema(connection: &mut AnyConnection) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let rows = sqlx::query(
        "SELECT CAST(type || ' ' || name AS BLOB) AS name, CAST(sql AS BLOB) AS sql \
         FROM sqlite_schema WHERE sql IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("sql")?))).collect()
}

fn hash(schema: &BTreeMap<Vec<u8>, Vec<u8>>) -> u64 {
    let mut hash = Xxh3Default::new();
    for text in schema.iter().flat_map(|(name, sql)| [name, sql]) {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.digest()
}

/// Refuses a file in which SQLite finds something wrong.
pub(super) async fn look_through(connection: &mut AnyConnection, depth: Depth) -> Result<()> {
    match damage(connection, depth).await?.into_iter().next() {
        Some(first) => Err(StoreError::Damaged(first)),
        None => Ok(()),
    }
}

/// What SQLite finds wrong; empty for a sound file.
pub(super) async fn damage(connection: &mut AnyConnection, depth: Depth) -> Result<Vec<String>> {
    let check = match depth {
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    let check = format!("PRAGMA {check}({FINDINGS})");
    let rows = match sqlx::query(sqlx::AssertSqlSafe(check)).fetch_all(connection).await {
        Ok(rows) => rows,
        // Damage that the check itself cannot get past.
        Err(sqlx::Error::Database(error)) => return Ok(vec![error.message().to_owned()]),
        Err(error) => return Err(error.into()),
    };
    let texts: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    // Several findings in one row, below a headline.
    let findings = texts.iter().flat_map(|text| text.lines());
    let findings = findings.filter(|line| *line != "ok" && !line.starts_with("***"));
    Ok(findings.take(FINDINGS as usize).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_schema_that_is_known_by_heart_is_the_one_that_the_migrations_make() {
        sqlx::any::install_default_drivers();
        let mut model = AnyConnection::connect("sqlite::memory:").await.unwrap();
        migrate(&mut model).await.unwrap();
        let made = hash(&schema(&mut model).await.unwrap());
        assert_eq!(SCHEMA, made, "write {made:#018x} as SCHEMA");
    }
}

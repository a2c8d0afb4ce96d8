//! Events on disk, while a large feed is read for the first time: such a reading must not grow with
//! the feed, and nothing of it may be seen before it is complete.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use crate::calendar::Event;

/// A file without a name, gone with the process.
#[derive(Debug)]
pub struct Spool {
    file: BufWriter<File>,
}

impl Spool {
    /// In `folder`, which has room for the database too.
    pub fn new(folder: &Path) -> io::Result<Spool> {
        Ok(Spool { file: BufWriter::new(tempfile::tempfile_in(folder)?) })
    }

    /// Adds an event with its fingerprint.
    pub fn push(&mut self, event: &Event, fingerprint: u128) -> io::Result<()> {
        writeln!(self.file, "{fingerprint:x} {}", event.to_json()?)
    }

    /// All events, in the order they came.
    pub fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<(Event, u128)>>> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.rewind()?;
        Ok(BufReader::new(file).lines().map(|line| {
            let line = line?;
            let (fingerprint, event) = line.split_once(' ').unwrap_or_default();
            let fingerprint = u128::from_str_radix(fingerprint, 16).map_err(io::Error::other)?;
            Ok((Event::from_json(event)?, fingerprint))
        }))
    }
}

//! JSON Lines in a file: one CloudEvent a line, synced before it is confirmed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Delivered, Notice, SinkError};

/// How much of the file's end is read at once to find the last whole line.
const TAIL_BYTES: u64 = 64 * 1024;

/// Appends to one file.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    /// Open while healthy; dropped after any failure, because what a failed write or sync left
    /// behind is unknown until the file has been looked at again.
    file: Option<File>,
}

impl FileSink {
    /// A sink that appends to `path`; the file is made when the first notice comes.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Append the batch, sync, and confirm all of it or none.
    pub fn deliver(&mut self, batch: &[Notice]) -> Delivered {
        match self.append(batch) {
            Ok(()) => Delivered {
                confirmed: (0..batch.len()).collect(),
                failure: None,
            },
            Err((operation, source)) => {
                self.file = None;
                let path = self.path.display().to_string();
                let failure = Some(SinkError::File {
                    operation,
                    path,
                    source,
                });
                Delivered {
                    confirmed: Vec::new(),
                    failure,
                }
            }
        }
    }

    fn append(&mut self, batch: &[Notice]) -> Result<(), (&'static str, io::Error)> {
        let mut lines = Vec::new();
        for notice in batch {
            lines.extend_from_slice(&notice.body);
            lines.push(b'\n');
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path).map_err(|error| ("open", error))?,
        };
        file.write_all(&lines)
            .map_err(|error| ("write to", error))?;
        file.sync_data().map_err(|error| ("sync", error))?;
        self.file = Some(file);
        Ok(())
    }
}

/// Open for appending after the last whole line, and make a new file's name durable.
fn open(path: &Path) -> io::Result<File> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let whole = whole_lines_bytes(&mut file)?;
    // A torn last line was never synced, so never confirmed: its notice comes again.
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    file.sync_all()?;
    #[cfg(unix)]
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

/// Length of the file up to and with its last line break.
fn whole_lines_bytes(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut tail = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        tail.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::take(&mut *file, end - start).read_to_end(&mut tail)?;
        if let Some(index) = tail.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + index as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(id: &str) -> Notice {
        let body = format!("{{\"id\":\"{id}\"}}").into_bytes();
        Notice {
            id: id.to_owned(),
            code: "EX_SHOCK",
            body,
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_before_the_next_append() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/events.jsonl");
        let mut sink = FileSink::new(path.clone());
        assert_eq!(
            sink.deliver(&[notice("a-1"), notice("b-1")]).confirmed,
            [0, 1]
        );
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"id\":\"c-");
        std::fs::write(&path, torn).unwrap();

        let mut sink = FileSink::new(path.clone());
        assert_eq!(sink.deliver(&[notice("c-1")]).confirmed, [0]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"id\":\"a-1\"}\n{\"id\":\"b-1\"}\n{\"id\":\"c-1\"}\n"
        );
    }

    #[test]
    fn a_torn_line_longer_than_one_read_is_cut_off_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut bytes = b"{}\n".to_vec();
        bytes.resize(3 + 3 * usize::try_from(TAIL_BYTES).unwrap(), b'x');
        std::fs::write(&path, bytes).unwrap();
        FileSink::new(path.clone()).deliver(&[notice("a-1")]);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{}\n{\"id\":\"a-1\"}\n"
        );
    }

    #[test]
    fn a_file_that_cannot_be_opened_confirms_nothing_and_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::new(folder.path().to_path_buf());
        let outcome = sink.deliver(&[notice("a-1")]);
        assert!(outcome.confirmed.is_empty());
        let message = outcome.failure.unwrap().to_string();
        assert!(
            message.contains(&folder.path().display().to_string()),
            "{message}"
        );
    }
}

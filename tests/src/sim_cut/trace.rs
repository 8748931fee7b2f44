//! The calls of a real process, as strace saw them.
//!
//! A write counts from when it returned, a sync covers what had returned when it began, and a word on
//! standard output counts from when it was begun: each the reading that is hardest on the gateway.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::call::{Call, CallId, FileId, Target};

/// What must be traced. Reading is not.
pub const TRACED: &str = "trace=openat,write,pwrite64,lseek,ftruncate,fallocate,fsync,fdatasync,\
    sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,dup,dup2,dup3,\
    writev,pwritev,mmap,msync,copy_file_range,sendfile,truncate,link,linkat";

/// Calls that would change a file in a way that is not followed.
const UNFOLLOWED: [&str; 9] = [
    "writev",
    "pwritev",
    "msync",
    "copy_file_range",
    "sendfile",
    "truncate",
    "link",
    "linkat",
    "fallocate",
];

/// Reads what strace wrote about a process and its threads; files outside of `root` are left out.
///
/// # Errors
/// When a line is not understood, or a call changes a file in a way that is not followed.
pub fn read(trace: &str, root: &Path) -> Result<Vec<Call>> {
    let mut reader = Reader {
        root: format!("{}/", root.display()),
        ..Reader::default()
    };
    for line in trace.lines() {
        reader.line(line).with_context(|| shortened(line))?;
    }
    Ok(reader.calls)
}

#[derive(Default)]
struct Reader {
    root: String,
    calls: Vec<Call>,
    /// Files that have a name now.
    names: BTreeMap<String, FileId>,
    files: FileId,
    open: BTreeMap<i64, Open>,
    /// The first half of a call that another thread interrupted, by thread.
    begun: BTreeMap<String, String>,
    syncs: CallId,
    /// Syncs under way, by thread.
    syncing: BTreeMap<String, CallId>,
}

#[derive(Clone)]
struct Open {
    target: Target,
    position: u64,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        let (thread, call) = line.split_once(' ').context("no thread")?;
        let call = call.trim_start();
        if call.starts_with("+++") || call.starts_with("---") {
            return Ok(());
        }
        if let Some(first) = call.strip_suffix("<unfinished ...>") {
            self.begin(thread, first)?;
            self.begun
                .insert(thread.to_owned(), first.trim_end().to_owned());
            return Ok(());
        }
        if let Some(rest) = call.strip_prefix("<... ") {
            let first = self
                .begun
                .remove(thread)
                .context("resumed and never begun")?;
            let (_, rest) = rest.split_once("resumed>").context("resumed")?;
            return self.end(thread, &format!("{first}{rest}"));
        }
        self.begin(thread, call)?;
        self.end(thread, call)
    }

    /// What counts from the beginning of the call.
    fn begin(&mut self, thread: &str, call: &str) -> Result<()> {
        let (name, arguments) = call.split_once('(').context("no call")?;
        match name {
            "fsync" | "fdatasync" => {
                let Some(open) = self.open.get(&number(arguments)?) else {
                    return Ok(());
                };
                self.syncs += 1;
                self.syncing.insert(thread.to_owned(), self.syncs);
                self.calls
                    .push(Call::SyncBegun(self.syncs, open.target.clone()));
            }
            "write" if number(arguments)? == 1 => {
                let said = String::from_utf8(text(arguments)?)?;
                self.calls.extend(said.lines().filter_map(word));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, thread: &str, call: &str) -> Result<()> {
        let (name, rest) = call.split_once('(').context("no call")?;
        let (arguments, result) = rest.rsplit_once(" = ").context("no result")?;
        let result: i64 = number(result)?;
        if result < 0 {
            ensure!(
                !matches!(name, "fsync" | "fdatasync" | "pwrite64"),
                "it failed"
            );
            return Ok(());
        }
        if name.ends_with("at") || name == "renameat2" {
            let from_folder = self.open.contains_key(&number(arguments).unwrap_or(-1));
            ensure!(!from_folder, "a path that starts at a handle");
        }
        match name {
            "openat" => self.opened(arguments, result)?,
            "lseek" => self.sought(arguments, result)?,
            "write" | "pwrite64" => self.wrote(name, arguments, result)?,
            "ftruncate" => self.lengthened(arguments)?,
            "fsync" | "fdatasync" => {
                self.calls
                    .extend(self.syncing.remove(thread).map(Call::Synced));
            }
            "rename" | "renameat" | "renameat2" => self.renamed(arguments)?,
            "unlink" | "unlinkat" | "rmdir" => self.removed(arguments)?,
            "mkdir" | "mkdirat" => {
                if let Some(path) = self.inside(&paths(arguments)?[0]) {
                    self.calls.push(Call::MakeFolder(path));
                }
            }
            "mmap" => ensure!(!self.is_shared_write(arguments), "a mapped file"),
            other if UNFOLLOWED.contains(&other) => ensure!(
                !self.open.contains_key(&number(arguments).unwrap_or(-1)),
                "a call that is not followed"
            ),
            // A copy of a handle would need its position followed.
            "dup" | "dup2" | "dup3" => ensure!(
                !self.open.contains_key(&number(arguments)?),
                "a handle is copied"
            ),
            // Neither waits for the metadata nor empties the disk's cache.
            "sync_file_range" => {}
            other => bail!("{other} is not known"),
        }
        Ok(())
    }

    fn inside(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix(&self.root)?;
        Some(path.trim_end_matches('/').to_owned())
    }

    fn is_folder(&self, path: &str) -> bool {
        let made = |call: &Call| matches!(call, Call::MakeFolder(made) if made == path);
        path.is_empty() || self.calls.iter().any(made)
    }

    fn opened(&mut self, arguments: &str, handle: i64) -> Result<()> {
        // A number that was given again stands for another file now.
        self.open.remove(&handle);
        let whole = paths(arguments)?.remove(0);
        let path = match self.inside(&whole) {
            Some(path) => path,
            None if format!("{whole}/") == self.root => String::new(),
            None => return Ok(()),
        };
        let target = if self.is_folder(&path) {
            Target::Folder(path)
        } else {
            let id = match self.names.get(&path) {
                Some(id) => *id,
                None => {
                    self.files += 1;
                    self.names.insert(path.clone(), self.files);
                    self.calls.push(Call::Make(path, self.files));
                    self.files
                }
            };
            if arguments.contains("O_TRUNC") {
                self.calls.push(Call::SetLength(id, 0));
            }
            ensure!(
                !arguments.contains("O_APPEND"),
                "a file that is appended to"
            );
            Target::File(id)
        };
        let position = 0;
        self.open.insert(handle, Open { target, position });
        Ok(())
    }

    fn sought(&mut self, arguments: &str, position: i64) -> Result<()> {
        if let Some(open) = self.open.get_mut(&number(arguments)?) {
            open.position = u64::try_from(position)?;
        }
        Ok(())
    }

    fn wrote(&mut self, name: &str, arguments: &str, written: i64) -> Result<()> {
        let Some(open) = self.open.get_mut(&number(arguments)?) else {
            return Ok(());
        };
        let Target::File(id) = open.target else {
            bail!("a write to a folder");
        };
        let bytes = text(arguments)?;
        ensure!(bytes.len() as i64 == written, "a write that was cut short");
        let offset = if name == "pwrite64" {
            let (_, offset) = arguments.rsplit_once(", ").context("no offset")?;
            u64::try_from(number(offset)?)?
        } else {
            let offset = open.position;
            open.position += bytes.len() as u64;
            offset
        };
        self.calls.push(Call::Write(id, offset, bytes));
        Ok(())
    }

    fn lengthened(&mut self, arguments: &str) -> Result<()> {
        let Some(open) = self.open.get(&number(arguments)?) else {
            return Ok(());
        };
        let Target::File(id) = open.target else {
            bail!("the length of a folder");
        };
        let (_, length) = arguments.rsplit_once(", ").context("no length")?;
        let length = u64::try_from(number(length)?)?;
        self.calls.push(Call::SetLength(id, length));
        Ok(())
    }

    fn renamed(&mut self, arguments: &str) -> Result<()> {
        let paths = paths(arguments)?;
        let (Some(from), Some(to)) = (self.inside(&paths[0]), self.inside(&paths[1])) else {
            return Ok(());
        };
        let id = self
            .names
            .remove(&from)
            .context("what is renamed is no file")?;
        self.names.insert(to.clone(), id);
        self.calls.push(Call::Rename(from, to));
        Ok(())
    }

    fn removed(&mut self, arguments: &str) -> Result<()> {
        if let Some(path) = self.inside(&paths(arguments)?[0]) {
            self.names.remove(&path);
            self.calls.push(Call::Remove(path));
        }
        Ok(())
    }

    /// Whether a file of ours is written through memory, which no call would show.
    fn is_shared_write(&self, arguments: &str) -> bool {
        let words: Vec<_> = arguments.split(", ").collect();
        let [_, _, protection, flags, handle, ..] = words.as_slice() else {
            return false;
        };
        let ours = self.open.contains_key(&number(handle).unwrap_or(-1));
        ours && protection.contains("PROT_WRITE") && flags.contains("MAP_SHARED")
    }
}

/// What the process says on a line of its output.
fn word(line: &str) -> Option<Call> {
    let (word, number) = line.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "sent" => Some(Call::Sent(number)),
        "acknowledged" => Some(Call::Acknowledged(number)),
        _ => None,
    }
}

/// The number that `text` begins with.
fn number(text: &str) -> Result<i64> {
    let text = text.trim_start();
    let digits = text.trim_start_matches('-').bytes();
    let count = digits.take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with('-'));
    text[..sign + count]
        .parse()
        .with_context(|| format!("no number: {}", shortened(text)))
}

/// The quoted text of a call's arguments.
fn text(arguments: &str) -> Result<Vec<u8>> {
    texts(arguments)?.into_iter().next().context("no text")
}

fn paths(arguments: &str) -> Result<Vec<String>> {
    let texts = texts(arguments)?.into_iter();
    let paths: Vec<String> = texts.map(String::from_utf8).collect::<Result<_, _>>()?;
    ensure!(!paths.is_empty(), "no path");
    Ok(paths)
}

/// Every text between quotes: strace was told to write each byte as `\x..`.
fn texts(arguments: &str) -> Result<Vec<Vec<u8>>> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    quoted.map(unescaped).collect()
}

fn unescaped(quoted: &str) -> Result<Vec<u8>> {
    let bytes = quoted.split("\\x").skip(1);
    bytes
        .map(|byte| Ok(u8::from_str_radix(byte, 16)?))
        .collect()
}

fn shortened(line: &str) -> String {
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn calls_are_read_with_what_a_sync_covers_when_threads_interrupt_each_other() {
        let path = |name: &str| format!("AT_FDCWD, \"{}\"", hex(&format!("/d/{name}")));
        let lines = [
            format!("7 mkdir(\"{}\", 0777) = 0", hex("/d/store")),
            format!("7 openat({}, O_RDWR|O_CREAT, 0666) = 3", path("store/db")),
            format!("7 openat({}, O_RDONLY) = 4", path("store")),
            format!(
                "7 openat(AT_FDCWD, \"{}\", O_RDONLY) = 5",
                hex("/etc/hosts")
            ),
            format!("7 pwrite64(3, \"{}\", 2, 512) = 2", hex("ab")),
            "7 fdatasync(3 <unfinished ...>".to_owned(),
            format!("8 write(3, \"{}\", 1 <unfinished ...>", hex("c")),
            format!("9 write(1, \"{}\", 15) = 15", hex("acknowledged 4\n")),
            "7 <... fdatasync resumed>) = 0".to_owned(),
            "8 <... write resumed>) = 1".to_owned(),
            format!(
                "8 rename(\"{}\", \"{}\") = 0",
                hex("/d/store/db"),
                hex("/d/store/eb")
            ),
            "7 fsync(4) = 0".to_owned(),
            "7 fsync(5) = 0".to_owned(),
            "7 +++ exited with 0 +++".to_owned(),
        ];
        let calls = read(&lines.join("\n"), Path::new("/d")).unwrap();
        let name = |name: &str| name.to_owned();
        let expected = [
            Call::MakeFolder(name("store")),
            Call::Make(name("store/db"), 1),
            Call::Write(1, 512, b"ab".to_vec()),
            Call::SyncBegun(1, Target::File(1)),
            Call::Acknowledged(4),
            Call::Synced(1),
            Call::Write(1, 0, b"c".to_vec()),
            Call::Rename(name("store/db"), name("store/eb")),
            Call::SyncBegun(2, Target::Folder(name("store"))),
            Call::Synced(2),
        ];
        assert_eq!(calls, expected);
    }

    #[test]
    fn what_would_change_a_file_unseen_is_refused() {
        let open = format!(
            "7 openat(AT_FDCWD, \"{}\", O_RDWR|O_CREAT) = 3",
            hex("/d/db")
        );
        for call in [
            "7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f",
            "7 fallocate(3, 0, 0, 4096) = 0",
            "7 writev(3, [], 1) = 1",
            "7 dup(3) = 4",
            "7 fdatasync(3) = -1 EIO (Input/output error)",
        ] {
            let trace = format!("{open}\n{call}");
            assert!(read(&trace, Path::new("/d")).is_err(), "{call}");
        }
    }
}

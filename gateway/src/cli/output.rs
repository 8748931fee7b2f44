//! Standard output and standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::control::Row;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Print one line at once: what follows may take a while.
    pub(super) fn line(self, line: &dyn Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// Print a row at once: as JSON, or by `text`.
    pub(super) fn row(
        self,
        row: &Row,
        text: impl FnOnce(&Row) -> String,
    ) -> io::Result<ControlFlow<()>> {
        let printed = if self.json {
            self.line(row)
        } else {
            self.line(&text(row))
        };
        unless_closed(printed)
    }

    /// Say which files have been written.
    pub(super) fn written(self, paths: &[PathBuf]) -> io::Result<()> {
        for path in paths {
            let mut row = Row::new();
            row.put("written", path.display().to_string());
            let printed = self.row(&row, |_| format!("wrote {}", path.display()))?;
            if printed.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Standard output for many rows.
pub(super) fn bulk() -> BufWriter<io::Stdout> {
    BufWriter::new(io::stdout())
}

/// A reader that has seen enough, such as `head`, is no error.
pub(super) fn unless_closed(printed: io::Result<()>) -> io::Result<ControlFlow<()>> {
    match printed {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error),
    }
}

/// Tell the person at the terminal something that is not the result.
pub(super) fn say(text: &str) {
    // There is nowhere to report that standard error is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

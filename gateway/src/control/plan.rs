//! `plan`: which plans judged, and since when.

use std::ops::ControlFlow;

use protocol::units::UtcMs;

use super::Emit;
use super::desk::{Desk, DeskError};
use super::row::Row;
use super::sample::text;
use crate::store::revision::{self, Revision};

impl Desk {
    /// One row for each revision, in the order of first use.
    pub(super) fn list_plans(&self, emit: &mut Emit<'_>) -> Result<u64, DeskError> {
        let mut rows = 0;
        revision::each(&self.store, |revision| {
            rows += 1;
            Ok(emit(head(&revision)))
        })?;
        Ok(rows)
    }

    /// One row for each text of a revision, the newest without a number; none when there is no such one.
    pub(super) fn show_plan(
        &self,
        number: Option<u64>,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let found = match number {
            Some(number) => revision::numbered(&self.store, number)?,
            None => revision::newest(&self.store)?,
        };
        let Some(revision) = found else {
            return Ok(0);
        };
        let texts = revision::texts(&self.store, &revision)?;
        let mut row = head(&revision);
        row.put("kind", "revision");
        row.put("whole", texts.is_some());
        for (name, value) in &revision.options {
            row.put(format!("option_{name}"), value.as_str());
        }
        let mut rows = 1;
        if emit(row).is_break() {
            return Ok(rows);
        }
        for (source, text) in revision.sources.iter().zip(texts.unwrap_or_default()) {
            rows += 1;
            let mut row = Row::new();
            row.put("revision", revision.number);
            row.put("kind", "source");
            row.put("name", source.name.as_str());
            row.put("digest", source.digest.to_string());
            row.put("bytes", source.bytes);
            row.put("text", text);
            if emit(row) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(rows)
    }
}

fn head(revision: &Revision) -> Row {
    let time = |ms| text(UtcMs::saturating(ms));
    let mut row = Row::new();
    row.put("revision", revision.number);
    row.put("first_used_at", time(revision.first_used_at_ms));
    row.put("plan_version", revision.plan_version);
    row.put_some("effective_from", revision.effective_from_ms.map(time));
    row.put("differs_in", revision.differs_in.join(", "));
    row.put("sources", revision.sources.len());
    let bytes = revision.sources.iter().map(|source| source.bytes);
    row.put("bytes", bytes.sum::<u64>());
    row.put("program", revision.program.as_str());
    row.put("digest", revision.digest.to_string());
    row
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono_tz::Tz;

    use super::*;
    use crate::control::Request;
    use crate::store::memory;
    use crate::store::revision::Offered;

    fn answer(desk: &Desk, number: Option<u64>) -> Vec<String> {
        let mut told = Vec::new();
        let mut emit = |row: Row| {
            told.push(row.to_string());
            ControlFlow::Continue(())
        };
        desk.answer(&Request::ShowPlan { number }, &mut emit)
            .unwrap();
        told
    }

    #[test]
    fn every_plan_that_judged_is_listed_and_shown_with_its_texts() {
        let desk = Desk {
            store: memory::store(),
            zone: Tz::UTC,
            sinks: Vec::new(),
            running: None,
            changing: Mutex::default(),
        };
        for (at, text) in [(1, "version = 1\n"), (2, "version = 2\n")] {
            let offered = Offered {
                sources: vec![("plan".to_owned(), text.to_owned())],
                options: [("delivered_after".to_owned(), "900 s".to_owned())].into(),
                ..Offered::default()
            };
            revision::keep(&desk.store, &offered, UtcMs::saturating(at)).unwrap();
        }
        let mut listed = Vec::new();
        let mut emit = |row: Row| {
            listed.push(row.to_string());
            ControlFlow::Continue(())
        };
        assert_eq!(desk.answer(&Request::ListPlans, &mut emit).unwrap(), 2);
        let first = r#"{"revision":1,"first_used_at":"1970-01-01T00:00:00.001Z","plan_version":0,"differs_in":"","#;
        assert!(listed[0].starts_with(first), "{listed:?}");
        assert!(listed[1].contains(r#""differs_in":"plan","sources":1,"bytes":12"#));
        let shown = answer(&desk, Some(1));
        assert!(shown[0].contains(r#""option_delivered_after":"900 s""#));
        assert!(
            shown[1].ends_with(r#""text":"version = 1\n"}"#),
            "{shown:?}"
        );
        assert!(answer(&desk, None)[1].contains("version = 2"));
        assert!(answer(&desk, Some(3)).is_empty());
    }
}

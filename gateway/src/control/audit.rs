//! What people do is written down: who, when, what, what came of it.

use std::fmt;
use std::ops::ControlFlow;

use protocol::units::UtcMs;

use super::desk::{Desk, DeskError, fact};
use super::row::Row;
use super::sample::text;
use super::{Emit, Request, Which};
use crate::clock::wall_utc;
use crate::store::audit::{self, Act, Who};
use crate::store::salvage;
use crate::store::{Batch, Store, StoreError};

/// Most bytes of the file of user names that are read: a name is a courtesy, the number counts.
const PASSWD_MAX_BYTES: u64 = 1 << 20;

impl Who {
    /// The user of a process that asked over the socket.
    #[must_use]
    pub fn at_socket(uid: u32) -> Self {
        Self {
            uid: Some(uid),
            user: user_name(uid),
            by: "socket".to_owned(),
        }
    }

    /// The user of this process, which has opened the store itself.
    #[must_use]
    pub fn here() -> Self {
        let uid = own_uid();
        Self {
            uid,
            user: uid.and_then(user_name),
            by: "store".to_owned(),
        }
    }

    /// The gateway itself.
    #[must_use]
    pub fn gateway() -> Self {
        Self {
            by: "gateway".to_owned(),
            ..Self::default()
        }
    }
}

/// An act under way: it is written into the batches of what it does.
#[derive(Debug)]
pub(super) struct Acting {
    /// Whether it changes nothing and takes nothing away.
    looks: bool,
    act: Act,
    number: Option<u64>,
}

impl Default for Acting {
    fn default() -> Self {
        Self {
            looks: true,
            act: Act::default(),
            number: None,
        }
    }
}

impl Acting {
    /// The act that `request` is; nothing is written of one that only looks.
    pub(super) fn of(request: &Request, who: &Who) -> Self {
        let Some((what, device, detail)) = described(request) else {
            return Self::default();
        };
        Self {
            looks: false,
            act: Act {
                at_ms: wall_utc().get(),
                who: who.clone(),
                what: what.to_owned(),
                device: device.map(ToOwned::to_owned),
                detail,
                result: String::new(),
            },
            number: None,
        }
    }

    /// What the gateway does of its own accord.
    pub(super) fn by_gateway(what: &str, detail: String) -> Self {
        Self {
            looks: false,
            act: Act {
                at_ms: wall_utc().get(),
                who: Who::gateway(),
                what: what.to_owned(),
                detail,
                ..Act::default()
            },
            number: None,
        }
    }

    /// Writes the act, with what has come of it so far, into the batch of a change.
    pub(super) fn note(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        result: impl fmt::Display,
    ) -> Result<u64, StoreError> {
        self.act.result = result.to_string();
        match self.number {
            Some(number) => audit::amend(batch, number, &self.act).map(|()| number),
            None => {
                let number = audit::note(store, batch, &self.act)?;
                self.number = Some(number);
                Ok(number)
            }
        }
    }
}

impl Desk {
    /// Writes an act that changed nothing, with why: refused, or nothing to do. Durable on return.
    pub(super) fn note_rest(
        &self,
        acting: &mut Acting,
        outcome: &Result<u64, DeskError>,
    ) -> Result<(), StoreError> {
        if acting.looks || acting.number.is_some() {
            return Ok(());
        }
        let _turn = self.turn();
        let mut batch = Batch::default();
        match outcome {
            Ok(_) => acting.note(&self.store, &mut batch, "nothing to do")?,
            Err(error) => acting.note(&self.store, &mut batch, format_args!("refused: {error}"))?,
        };
        self.store.apply(batch)?;
        self.store.barrier().map(drop)
    }

    /// Writes how far an act has come that changes nothing here. Durable on return. While nothing may be written the
    /// act is done all the same, and only the log tells of it: a backup of a store on a full disk is needed most.
    pub(super) fn note_progress(
        &self,
        acting: &mut Acting,
        result: impl fmt::Display,
    ) -> Result<(), StoreError> {
        let _turn = self.turn();
        if !self.store.room().may_write() {
            acting.looks = true;
            let Act {
                who, what, detail, ..
            } = &acting.act;
            tracing::warn!(
                ?who,
                what,
                detail,
                "not in the audit log, for want of space: {result}"
            );
            return Ok(());
        }
        let mut batch = Batch::default();
        acting.note(&self.store, &mut batch, result)?;
        self.store.apply(batch)?;
        self.store.barrier().map(drop)
    }

    /// One row for each act at or after `since`, in milliseconds since 1970, oldest first; salvages are
    /// acts of the gateway.
    pub(super) fn audit(
        &self,
        since_ms: Option<i64>,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let is_meant = |at_ms: i64| since_ms.is_none_or(|since| at_ms >= since);
        let mut salvages = Vec::new();
        for report in salvage::reports(&self.store)? {
            salvages.push((report.at_ms, salvaged(&report)));
        }
        salvages.retain(|(at_ms, _)| is_meant(*at_ms));
        salvages.reverse();
        let mut rows = 0;
        audit::each(&self.store, |number, act| {
            while let Some((_, row)) = salvages.pop_if(|(at_ms, _)| *at_ms <= act.at_ms) {
                rows += 1;
                if emit(row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if !is_meant(act.at_ms) {
                return Ok(ControlFlow::Continue(()));
            }
            rows += 1;
            let mut row = shown(&act);
            row.put("number", number);
            Ok(emit(row))
        })?;
        for (_, row) in salvages.into_iter().rev() {
            rows += 1;
            if emit(row).is_break() {
                break;
            }
        }
        Ok(rows)
    }
}

/// Rows of `status`: how many acts are kept, and how many were dropped at the bound.
pub(super) fn status(store: &Store) -> Result<Vec<Row>, StoreError> {
    let numbers = audit::numbers(store)?;
    Ok(vec![
        fact("audit_rows", numbers.kept()),
        fact("audit_dropped", numbers.oldest),
    ])
}

/// What a request does to which device, and what it asks for.
fn described(request: &Request) -> Option<(&'static str, Option<&str>, String)> {
    Some(match request {
        Request::SetSettings { device, changes } => {
            ("settings set", Some(device.as_str()), changes.join(" "))
        }
        Request::ClearSettings { device } => ("settings clear", Some(device), String::new()),
        Request::DeviceRegister {
            device,
            proof,
            rotate,
        } => {
            let what = if *rotate {
                "device rotate"
            } else {
                "device add"
            };
            (what, Some(device), proof.kind().to_owned())
        }
        Request::DeviceRevoke { device } => ("device revoke", Some(device), String::new()),
        Request::Backup { to } => ("backup", None, to.display().to_string()),
        Request::NoteCertificates {
            renewed,
            folder,
            names,
        } => {
            let what = if *renewed { "ca server" } else { "ca init" };
            let detail = format!("{} for {}", folder.display(), names.join(" "));
            (what, None, detail)
        }
        Request::ExportQuarantine { which } => {
            ("quarantine export", which.device.as_deref(), meant(which))
        }
        Request::DropQuarantine { which } => {
            ("quarantine drop", which.device.as_deref(), meant(which))
        }
        Request::Status
        | Request::Events { .. }
        | Request::ExportReadings
        | Request::ExportRecords
        | Request::ExportEvents
        | Request::ShowSettings { .. }
        | Request::Devices { .. }
        | Request::Ledger { .. }
        | Request::ListPlans
        | Request::ShowPlan { .. }
        | Request::Audit { .. }
        | Request::ListQuarantine { .. } => return None,
    })
}

fn meant(which: &Which) -> String {
    match (which.id, &which.device) {
        (Some(id), _) => format!("payload {id}"),
        (None, Some(_)) => "all of the device".to_owned(),
        (None, None) => "all".to_owned(),
    }
}

fn shown(act: &Act) -> Row {
    let mut row = Row::new();
    row.put("at", text(UtcMs::saturating(act.at_ms)));
    row.put_some("uid", act.who.uid);
    row.put_some("user", act.who.user.clone());
    row.put("by", act.who.by.as_str());
    row.put("what", act.what.as_str());
    row.put_some("device", act.device.clone());
    row.put("detail", act.detail.as_str());
    row.put("result", act.result.as_str());
    row
}

fn salvaged(report: &salvage::Report) -> Row {
    let rows = report.rows.values().sum::<u64>();
    shown(&Act {
        at_ms: report.at_ms,
        who: Who::gateway(),
        what: "salvage".to_owned(),
        device: None,
        detail: report.fault.clone(),
        result: format!(
            "{rows} rows kept, {} damaged, set aside as {}",
            report.damaged, report.set_aside_as
        ),
    })
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no number")]
fn own_uid() -> Option<u32> {
    Some(rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
const fn own_uid() -> Option<u32> {
    None
}

/// The name by the machine's own list; users of a directory service have none here.
fn user_name(uid: u32) -> Option<String> {
    use std::io::Read as _;

    let mut list = String::new();
    let file = std::fs::File::open("/etc/passwd").ok()?;
    file.take(PASSWD_MAX_BYTES).read_to_string(&mut list).ok()?;
    named_in(&list, uid)
}

fn named_in(list: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut lines = list.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono_tz::Tz;

    use super::*;
    use crate::store::memory::Memory;

    fn desk(disk: &Memory) -> Desk {
        Desk {
            store: disk.open(),
            zone: Tz::UTC,
            sinks: Vec::new(),
            running: None,
            changing: Mutex::default(),
        }
    }

    fn told(desk: &Desk, since_ms: Option<i64>) -> Vec<String> {
        let mut told = Vec::new();
        let mut emit = |row: Row| {
            let word = |name| {
                row.value(name)
                    .map_or_else(String::new, ToString::to_string)
            };
            let all = ["user", "by", "what", "device", "detail", "result"].map(word);
            told.push(all.join(" ").replace('"', ""));
            ControlFlow::Continue(())
        };
        desk.answer(&Request::Audit { since_ms }, &mut emit)
            .unwrap();
        told
    }

    #[test]
    fn what_people_do_is_durable_with_who_did_it_and_what_came_of_it() {
        let disk = Memory::default();
        let desk = desk(&disk);
        let who = Who {
            uid: Some(7),
            user: Some("eve".to_owned()),
            by: "socket".to_owned(),
        };
        let act = |request: &Request| {
            let _ = desk.answer_to(&who, request, &mut |_| ControlFlow::Continue(()));
        };
        let set = |change: &str| Request::SetSettings {
            device: "t-1".to_owned(),
            changes: vec![change.to_owned()],
        };
        let which = Which::default();
        act(&set("sample_moving=30s"));
        act(&set("sample_moving=30s"));
        act(&set("sample_moving=never"));
        act(&Request::ClearSettings {
            device: "t-1".to_owned(),
        });
        act(&Request::DeviceRevoke {
            device: "t-2".to_owned(),
        });
        act(&Request::ExportQuarantine {
            which: which.clone(),
        });
        act(&Request::DropQuarantine { which });
        act(&Request::NoteCertificates {
            renewed: false,
            folder: "/depot/ca".into(),
            names: vec!["localhost".to_owned(), "10.0.0.1".to_owned()],
        });
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy");
        act(&Request::Backup { to: to.clone() });
        act(&Request::Backup { to: "copy".into() });
        act(&Request::Status);
        drop(desk);
        disk.cut_power();
        let desk = super::tests::desk(&disk);
        let all = told(&desk, None);
        let expected = [
            "eve socket settings set t-1 sample_moving=30s done",
            "eve socket settings set t-1 sample_moving=30s nothing to do",
            "eve socket settings set t-1 sample_moving=never refused: 1 fault, nothing was changed",
            "eve socket settings clear t-1  done",
            "eve socket device revoke t-2  refused: device t-2 is not registered",
            "eve socket quarantine export  all handed out",
            "eve socket quarantine drop  all nothing to do",
            "eve socket ca init  /depot/ca for localhost 10.0.0.1 done",
            &format!("eve socket backup  {} done", to.display()),
            "eve socket backup  copy refused: backup: path copy is not absolute",
        ];
        assert_eq!(all, expected);
        assert!(told(&desk, Some(i64::MAX)).is_empty());
        let status = status(&desk.store).unwrap();
        assert_eq!(status[0].to_string(), r#"{"name":"audit_rows","value":10}"#);
    }

    #[test]
    fn a_user_is_named_by_the_machines_list() {
        let list = "root:x:0:0:root:/root:/bin/sh\nbroken\neve:x:1000:1000::/home/eve:/bin/sh\n";
        assert_eq!(named_in(list, 1000).as_deref(), Some("eve"));
        assert_eq!(named_in(list, 0).as_deref(), Some("root"));
        assert_eq!(named_in(list, 100), None);
        assert_eq!(Who::here().by, "store");
    }
}

//! What a fault did to a gateway, seen from outside.

use crate::ledger::Audit;

/// What a fault did to a gateway.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Every promise was kept.
    Kept(Audit),
    /// Promises were broken: these.
    Broken(String),
    /// Its store refused to open again, in these words.
    Refused(String),
}

impl Fate {
    /// The broken promise, if there is one.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        match self {
            Self::Kept(_) => None,
            Self::Broken(what) => Some(what.clone()),
            Self::Refused(words) => Some(format!("its store did not open again: {words}")),
        }
    }
}

/// How a store begins to say that what it finds on the disk is not what it wrote.
const REFUSALS: [&str; 2] = ["it is damaged (", "store row "];

/// The line in which a store refuses what it found. Any other reason not to start, be it a taken port,
/// is no sign of a lost promise.
#[must_use]
pub fn refusal(log: &str) -> Option<&str> {
    log.lines()
        .find(|line| REFUSALS.iter().any(|words| line.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::store::StoreError;

    #[test]
    fn only_the_stores_own_words_are_its_refusal() {
        let damaged = StoreError::Damaged {
            path: "store".into(),
            detail: "it ends at commit 1".to_owned(),
        };
        let row = StoreError::Row {
            kind: "journal",
            name: "7".to_owned(),
            fault: "checksum".to_owned(),
        };
        for said in [damaged, row] {
            assert!(refusal(&format!("start\nError: {said}\n")).is_some());
        }
        let locked = StoreError::Locked {
            path: "store".into(),
        };
        for other in [locked.to_string(), "Address already in use".to_owned()] {
            assert_eq!(refusal(&other), None);
        }
    }
}

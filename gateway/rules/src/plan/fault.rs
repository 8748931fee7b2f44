//! What is wrong with a plan file, said so that it can be mended.

use core::fmt;

/// One fault of a plan file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFault {
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in the line, in characters, from 1.
    pub column: u32,
    /// Where: `shipment[2].stop[0].fence`.
    pub path: String,
    /// What stands there, shortened.
    pub value: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub allowed: String,
    /// The name that was probably meant.
    pub did_you_mean: Option<String>,
    /// Whether the plan can still be used; such faults are printed and counted, no more.
    pub warning: bool,
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.warning { "warning" } else { "error" };
        write!(f, "{}:{}: {level}: {}", self.line, self.column, self.path)?;
        if !self.value.is_empty() {
            write!(f, " = {}", self.value)?;
        }
        write!(f, ": {}; allowed: {}", self.problem, self.allowed)?;
        if let Some(name) = &self.did_you_mean {
            write!(f, "; did you mean {name:?}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanFault {}

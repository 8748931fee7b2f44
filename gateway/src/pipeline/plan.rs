//! The plan a gateway starts with: read, kept as a revision, and only then used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rules::plan::{Plan, shipped};

use super::Failure;
use crate::clock::wall_utc;
use crate::config::{self, Config};
use crate::store::Store;
use crate::store::revision::{self, Offered};

/// The plan with the options of the configuration; its revision is durable.
///
/// # Errors
/// When it cannot be read or has faults, or the store fails.
pub(super) fn in_force(config: &Config, store: &Store) -> Result<rules::Context, Failure> {
    let (text, plan) = match &config.rules.plan {
        None => (None, Plan::empty()),
        Some(path) => read(path).map(|(text, plan)| (Some(text), plan))?,
    };
    let options = rules::Options {
        temperature_delay: config.temperature.delay,
        clock_tolerance: config.rules.clock_tolerance,
        late_horizon: config.store.horizon,
        ..rules::Options::default()
    };
    let offered = offered(text, &plan, options);
    let (number, new) = revision::keep(store, &offered, wall_utc())?;
    tracing::info!(
        revision = number,
        new,
        version = plan.revision.version,
        "plan in force"
    );
    Ok(rules::Context::new(Arc::new(plan), options))
}

fn read(path: &Path) -> Result<(String, Plan), Failure> {
    let text = config::plan_text(path).map_err(|source| Failure::PlanFile {
        path: path.to_path_buf(),
        source,
    })?;
    let plan = Plan::parse(&text).map_err(|faults| Failure::Plan {
        path: path.to_path_buf(),
        faults,
    })?;
    Ok((text, plan))
}

fn offered(text: Option<String>, plan: &Plan, options: rules::Options) -> Offered {
    let own = text.map(|text| ("plan".to_owned(), text));
    let shipped = shipped::cited(plan).into_iter();
    let shipped = shipped.map(|(name, text)| (format!("profile {name}"), text.to_owned()));
    Offered {
        sources: own.into_iter().chain(shipped).collect(),
        options: named(options),
        plan_version: plan.revision.version,
        effective_from_ms: plan.revision.effective_from.map(|from| from.get()),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Options as people read them; one that is added without a name here does not compile.
fn named(options: rules::Options) -> BTreeMap<String, String> {
    let rules::Options {
        temperature_delay,
        delivered_after,
        clock_tolerance,
        late_horizon,
    } = options;
    let time = |duration: Duration| format!("{} s", duration.as_secs_f64());
    let delay = temperature_delay.map_or_else(|| "as in the profiles".to_owned(), time);
    [
        ("temperature_delay", delay),
        ("delivered_after", time(delivered_after)),
        ("clock_tolerance", time(clock_tolerance)),
        ("late_horizon", time(late_horizon)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_offered_and_nothing_else() {
        let text = "version = 7\neffective_from = 2026-03-01T00:00:00Z\n";
        let plan = Plan::parse(text).unwrap();
        let options = rules::Options {
            temperature_delay: Some(Duration::from_millis(1_500)),
            ..rules::Options::default()
        };
        let offered = offered(Some(text.to_owned()), &plan, options);
        assert_eq!(offered.sources, [("plan".to_owned(), text.to_owned())]);
        assert_eq!(offered.plan_version, 7);
        assert_eq!(offered.effective_from_ms, Some(1_772_323_200_000));
        assert_eq!(offered.options["temperature_delay"], "1.5 s");
        let none = super::offered(None, &Plan::empty(), rules::Options::default());
        assert!(none.sources.is_empty() && none.plan_version == 0);
        assert_eq!(none.options["temperature_delay"], "as in the profiles");
    }
}

//! What is not there, as gauges: numbers missing of devices, payloads refused, rows damaged.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::vitals::float;
use crate::clock::monotonic;
use crate::http::{Kind, Metric};
use crate::ingest::census::{DEVICES_MAX, census};
use crate::ingest::missing::Missing;
use crate::store::damage::{self, Counts, unreadable};
use crate::store::quarantine::Fill;
use crate::store::seal::{self, Totals};
use crate::store::{Store, StoreError};

/// How long a count is told again: a fleet of ten thousand takes some hundred thousand reads, and gaps
/// matter by the minute. `status` counts anew.
const COUNT_AGE_MAX: Duration = Duration::from_secs(30);

/// The last count of what is missing. Whoever asks while another counts waits for that count.
#[derive(Debug, Default)]
pub(super) struct Shortfall(Mutex<Option<Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    at: Instant,
    missing: Missing,
    cut: bool,
}

impl Shortfall {
    /// Gauges; none of what cannot be read, which is logged.
    pub(super) fn metrics(&self, store: &Store) -> Vec<Metric> {
        let missing = self.count(store, monotonic()).map(missing_metrics);
        let quarantine = Fill::load(store).map(|fill| quarantine_metrics(&fill));
        let read = |metrics: Result<Vec<Metric>, StoreError>| {
            metrics.unwrap_or_else(|error| {
                tracing::error!("metrics not read: {error}");
                Vec::new()
            })
        };
        let damaged = damage::counts(store).map(damage_metrics);
        let unreadable = unreadable::counts(store).map(unreadable_metrics);
        let sealed = seal::totals(store).map(|totals| seal_metrics(&totals));
        [missing, quarantine, damaged, unreadable, sealed]
            .map(read)
            .concat()
    }

    fn count(&self, store: &Store, now: Instant) -> Result<Count, StoreError> {
        // A panic while it was held left the count before, which is whole.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.filter(|count| now.saturating_duration_since(count.at) < COUNT_AGE_MAX);
        if let Some(count) = fresh {
            return Ok(count);
        }
        let census = census(store)?;
        if census.cut {
            tracing::warn!(
                DEVICES_MAX,
                "missing records counted of the first devices only"
            );
        }
        let count = Count {
            at: now,
            missing: census.total,
            cut: census.cut,
        };
        *last = Some(count);
        Ok(count)
    }
}

fn missing_metrics(count: Count) -> Vec<Metric> {
    let Missing {
        lost,
        pending,
        unexplained,
    } = count.missing;
    let explained = [
        ("lost", lost),
        ("pending", pending),
        ("unexplained", unexplained),
    ];
    let of = |(explanation, value): (&str, u64)| Metric {
        labels: vec![("explanation", explanation.to_owned())],
        ..gauge(
            "supercargo_records_missing",
            "Records that devices numbered and the gateway does not have, counted twice a minute.",
            value,
        )
    };
    let mut metrics: Vec<_> = explained.into_iter().map(of).collect();
    metrics.push(gauge(
        "supercargo_records_missing_cut",
        "1 when there are more devices than are counted.",
        u64::from(count.cut),
    ));
    metrics
}

fn quarantine_metrics(fill: &Fill) -> Vec<Metric> {
    vec![
        gauge(
            "supercargo_quarantine_rows",
            "Refused payloads kept whole.",
            fill.rows(),
        ),
        gauge(
            "supercargo_quarantine_bytes",
            "Bytes of the refused payloads kept whole.",
            fill.bytes(),
        ),
        gauge(
            "supercargo_quarantine_overflow",
            "Refused payloads of which only digest, length and count are kept.",
            fill.overflow(),
        ),
    ]
}

fn damage_metrics(counts: Counts) -> Vec<Metric> {
    let help = "Rows that failed their checksum and were set aside, by the letter of their kind.";
    by_kind("supercargo_store_damaged_rows", help, counts)
}

fn unreadable_metrics(counts: Counts) -> Vec<Metric> {
    let help = "Sound rows that this version cannot read, by the letter of their kind.";
    by_kind("supercargo_store_unreadable_rows", help, counts)
}

fn seal_metrics(totals: &Totals) -> Vec<Metric> {
    vec![
        gauge(
            "supercargo_shipments_sealed",
            "Shipments that were over for the late horizon: what comes of them later changes no event.",
            totals.shipments,
        ),
        gauge(
            "supercargo_sealed_late_records",
            "Records stored that came too late for a sealed shipment.",
            totals.late_records,
        ),
        gauge(
            "supercargo_sealed_late_contested",
            "Keys contested after the seal that covers them.",
            totals.late_contested,
        ),
    ]
}

fn by_kind(name: &'static str, help: &'static str, counts: Counts) -> Vec<Metric> {
    let of = |(kind, value): (String, u64)| Metric {
        labels: vec![("kind", kind)],
        ..gauge(name, help, value)
    };
    counts.into_iter().map(of).collect()
}

const fn gauge(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
        labels: Vec::new(),
        value: float(value),
    }
}

#[cfg(test)]
mod tests {
    use protocol::key::{Boot, Epoch, Seq};

    use super::*;
    use crate::store::quarantine::{Octets, Overflow, Refused};
    use crate::store::seen::BootId;
    use crate::store::{Batch, device, memory};

    /// Makes known that a boot ended with a number, and nothing else of it.
    fn end(store: &Store, last: u32) {
        let boot = BootId {
            device: "t".parse().unwrap(),
            epoch: Epoch(1),
            boot: Boot(0),
        };
        let mut batch = Batch::default();
        device::note_end(&mut batch, &boot, Seq(last)).unwrap();
        store.apply(batch).unwrap();
    }

    fn refuse(store: &Store) {
        let refused = Refused {
            device: "t".to_owned(),
            channel: "readings".to_owned(),
            received_at_ms: 0,
            reason: "undecodable".to_owned(),
            detail: "decode batch at byte 0".to_owned(),
            payloads: vec![Octets(vec![7; 12])],
        };
        let mut batch = Batch::default();
        let device = "t".parse().unwrap();
        let mut fill = Fill::load(store).unwrap();
        fill.keep(&mut batch, &device, &refused, &mut Overflow::default())
            .unwrap();
        store.apply(batch).unwrap();
    }

    #[test]
    fn gauges_tell_what_is_missing_by_explanation_and_what_the_quarantine_holds() {
        let store = memory::store();
        end(&store, 3);
        refuse(&store);
        let told = Shortfall::default().metrics(&store);
        let value = |name: &str, explanation: Option<&str>| {
            let metric = told.iter().find(|metric| {
                let label = metric.labels.first().map(|(_, value)| value.as_str());
                metric.name == name && label == explanation
            });
            metric.unwrap().value.to_string()
        };
        let missing = "supercargo_records_missing";
        assert_eq!(value(missing, Some("unexplained")), "4");
        assert_eq!(value(missing, Some("lost")), "0");
        assert_eq!(value(missing, Some("pending")), "0");
        assert_eq!(value("supercargo_records_missing_cut", None), "0");
        assert_eq!(value("supercargo_quarantine_rows", None), "1");
        assert_eq!(value("supercargo_quarantine_bytes", None), "12");
        assert_eq!(value("supercargo_quarantine_overflow", None), "0");
    }

    #[test]
    fn a_fleet_is_not_counted_again_before_the_count_is_old() {
        let store = memory::store();
        let shortfall = Shortfall::default();
        let now = monotonic();
        let counted = |at| shortfall.count(&store, at).unwrap().missing.unexplained;
        end(&store, 3);
        assert_eq!(counted(now), 4);
        end(&store, 9);
        assert_eq!(counted(now + COUNT_AGE_MAX / 2), 4);
        assert_eq!(counted(now + COUNT_AGE_MAX), 10);
    }
}

//! How the gateway is doing: readiness, metrics, and the running part of `status`.

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tokio::sync::watch;

use super::bridges::{self, Standings};
use super::shortfall::Shortfall;
use crate::account::Account;
use crate::config::Config;
use crate::control::{Facts, Row};
use crate::deliver::health::Health;
use crate::http::{Kind, Metric, Vitals};
use crate::mqtt::endpoint::Handle;
use crate::store::{Store, pressure};

/// Shared by HTTP and the control socket.
#[derive(Clone)]
pub(super) struct Vital(Arc<Parts>);

struct Parts {
    store: Store,
    account: Account,
    endpoint: Handle,
    sinks: Vec<(String, Health)>,
    brokers: Standings,
    zone: Tz,
    ready_lag_max: Duration,
    /// How many trackers wait to be rebuilt from their history.
    refold: watch::Receiver<usize>,
    shortfall: Shortfall,
}

impl Vital {
    pub(super) fn new(
        config: &Config,
        store: &Store,
        account: &Account,
        endpoint: Handle,
        (sinks, brokers): (Vec<(String, Health)>, Standings),
        refold: watch::Receiver<usize>,
    ) -> Self {
        Self(Arc::new(Parts {
            store: store.clone(),
            account: account.clone(),
            endpoint,
            sinks,
            brokers,
            zone: config.gateway.time_zone,
            ready_lag_max: config.http.ready_lag_max,
            refold,
            shortfall: Shortfall::default(),
        }))
    }

    /// For the HTTP server.
    pub(super) fn share(&self) -> Arc<dyn Vitals> {
        Arc::new(self.clone())
    }

    /// For `status`.
    pub(super) fn facts(&self) -> Facts {
        let vital = self.clone();
        Arc::new(move || vital.rows())
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut fact = |name: &'static str, sink: Option<&str>, value: serde_json::Value| {
            let mut row = Row::new();
            row.put("name", name);
            row.put("value", value);
            if let Some(sink) = sink {
                row.put("sink", sink);
            }
            rows.push(row);
        };
        fact(
            "connected_devices",
            None,
            self.0.endpoint.connected().into(),
        );
        let shortage = self.0.store.room().shortage();
        fact("store_full", None, shortage.is_some().into());
        if let Some(shortage) = shortage {
            fact("store_full_because", None, shortage.to_string().into());
        }
        let alarm_lag = self.0.store.alarms_unfolded_for();
        if !alarm_lag.is_zero() {
            let waited_ms = u64::try_from(alarm_lag.as_millis()).unwrap_or(u64::MAX);
            fact("alarm_lag_ms", None, waited_ms.into());
        }
        let refold = *self.0.refold.borrow();
        if refold > 0 {
            fact("refold_pending_trackers", None, refold.into());
        }
        for (name, health) in &self.0.sinks {
            let state = health.state();
            fact("delivered", Some(name), state.delivered.into());
            if let Some((_, why)) = state.failing {
                fact("sink_failures", Some(name), state.failures.into());
                fact("sink_failing_with", Some(name), why.into());
            }
        }
        rows.extend(bridges::rows(&self.0.brokers, self.0.zone));
        for sample in self
            .0
            .account
            .tally()
            .samples()
            .filter(|sample| sample.value > 0)
        {
            let mut row = Row::new();
            row.put("name", sample.name);
            row.put("value", sample.value);
            if let Some((label, value)) = sample.label {
                row.put(label, value);
            }
            rows.push(row);
        }
        rows
    }
}

impl Vitals for Vital {
    fn alive(&self) -> Result<(), String> {
        let stall = self.0.store.stall();
        stall.map_or(Ok(()), |stall| Err(stall.to_string()))
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if let Some(slow) = self.0.store.slow() {
            // Whatever else is asked of the store could wait for the same disk.
            return Err(vec![slow.to_string()]);
        }
        let mut reasons = Vec::new();
        if let Some(shortage) = self.0.store.room().shortage() {
            reasons.push(format!("full: {shortage}"));
        }
        let waited = self.0.store.unfolded_for();
        if waited > self.0.ready_lag_max {
            let allowed = self.0.ready_lag_max.as_secs();
            let waited = waited.as_secs();
            reasons.push(format!("fold is {waited} s behind, allowed {allowed} s"));
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }

    fn pending(&self) -> Option<String> {
        let refold = *self.0.refold.borrow();
        (refold > 0).then(|| format!("refold pending: {refold} trackers"))
    }

    fn metrics(&self) -> Vec<Metric> {
        let gauge = |name, help, value: f64| Metric {
            name,
            help,
            kind: Kind::Gauge,
            labels: Vec::new(),
            value,
        };
        let connected = float(self.0.endpoint.connected() as u64);
        let behind = self.0.store.newest_commit().0 - self.0.store.newest_folded().0;
        let mut metrics = vec![
            gauge(
                "supercargo_connected_devices",
                "Devices connected over MQTT.",
                connected,
            ),
            gauge(
                "supercargo_fold_lag_commits",
                "Commits not yet folded.",
                float(behind),
            ),
            gauge(
                "supercargo_fold_lag_seconds",
                "How long the oldest commit not yet folded has been waiting.",
                self.0.store.unfolded_for().as_secs_f64(),
            ),
            gauge(
                "supercargo_alarm_lag_seconds",
                "How long the oldest alarm not yet folded has been waiting.",
                self.0.store.alarms_unfolded_for().as_secs_f64(),
            ),
            gauge(
                "supercargo_refold_pending_trackers",
                "Trackers that wait to be rebuilt from their history; the view of their shipments is that \
                 of before the start.",
                float(*self.0.refold.borrow() as u64),
            ),
        ];
        let full = self.0.store.room().shortage().is_some();
        metrics.push(gauge(
            "supercargo_store_full",
            "1 while no reading is taken for lack of space.",
            float(u64::from(full)),
        ));
        if let Ok(bytes) = self.0.store.size_bytes() {
            let help = "Bytes of the store on disk.";
            metrics.push(gauge("supercargo_store_bytes", help, float(bytes)));
        }
        metrics.extend(self.pressure_metrics());
        metrics.extend(self.0.shortfall.metrics(&self.0.store));
        metrics.extend(self.counters());
        metrics.extend(self.sink_metrics());
        metrics.extend(bridges::metrics(&self.0.brokers, &self.0.store));
        metrics
    }
}

impl Vital {
    fn pressure_metrics(&self) -> Vec<Metric> {
        // What cannot be read is told by the look that comes every second: it ends the gateway.
        let Ok(pressed) = pressure::pressed(&self.0.store) else {
            return Vec::new();
        };
        let active = pressed.as_ref().is_some_and(|pressed| !pressed.ending);
        let devices = pressed.map_or(0, |pressed| pressed.devices);
        let gauge = |name, help, value: u64| Metric {
            name,
            help,
            kind: Kind::Gauge,
            labels: Vec::new(),
            value: float(value),
        };
        vec![
            gauge(
                "supercargo_store_pressure",
                "1 while space runs out and devices are asked to send less.",
                active.into(),
            ),
            gauge(
                "supercargo_devices_slowed",
                "Devices that have settings for the time being, or are getting theirs back.",
                devices,
            ),
        ]
    }

    fn counters(&self) -> Vec<Metric> {
        let metric = |sample: crate::account::Sample| Metric {
            name: sample.name,
            help: sample.help,
            kind: Kind::Counter,
            labels: sample
                .label
                .map(|(name, value)| (name, value.to_owned()))
                .into_iter()
                .collect(),
            value: float(sample.value),
        };
        self.0.account.tally().samples().map(metric).collect()
    }

    fn sink_metrics(&self) -> Vec<Metric> {
        let states: Vec<_> = self
            .0
            .sinks
            .iter()
            .map(|(name, health)| (name.clone(), health.state()))
            .collect();
        let mut metrics = Vec::new();
        for (name, state) in &states {
            metrics.push(Metric {
                name: "supercargo_notifications_delivered_total",
                help: "Notifications confirmed by the sink since the gateway started.",
                kind: Kind::Counter,
                labels: vec![("sink", name.clone())],
                value: float(state.delivered),
            });
        }
        for (name, state) in &states {
            metrics.push(Metric {
                name: "supercargo_sink_failures",
                help: "Failed attempts of the sink since its last success.",
                kind: Kind::Gauge,
                labels: vec![("sink", name.clone())],
                value: float(u64::from(state.failures)),
            });
        }
        metrics
    }
}

/// Metrics are floating point; counts above 2^53 lose their last digits there.
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floating point by their format"
)]
pub(super) const fn float(value: u64) -> f64 {
    value as f64
}

//! Brokers that are subscribed to, as configured: their bridges, and how they are told of.

use chrono_tz::Tz;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::refusals;
use super::vitals::float;
use super::{Failure, ports};
use crate::account::Account;
use crate::clock::Clock;
use crate::config::{Broker, Config, MqttVersion};
use crate::control::Row;
use crate::deliver::format::cloudevent;
use crate::deliver::sink::mqtt::Version;
use crate::http::{Kind, Metric};
use crate::mqtt::bridge::{Bridge, Ports, Standing, State, Target};
use crate::mqtt::endpoint::Endpoint;
use crate::mqtt::port;
use crate::receipt::Publication;
use crate::store::broker::{self, Memory};
use crate::store::{Store, StoreError};

/// The brokers' names and how each is doing.
pub(super) type Standings = Vec<(String, Standing)>;

/// A bridge to every broker configured. None connects before it is run.
pub(super) fn bridges(
    config: &Config,
    store: &Store,
    account: &Account,
    clock: &Clock,
    ingest: &mpsc::Sender<Publication>,
) -> Result<Vec<Bridge>, Failure> {
    let bridge = |configured: &Broker| {
        let name = configured.name.to_string();
        Ok(Bridge {
            target: target(config, configured)?,
            ports: Ports {
                ingest: ingest.clone(),
                store: store.clone(),
                guard: ports::guard(&config.identity, store.clone()),
                vouched: configured.devices,
                clock: clock.clone(),
                on_refused: refusals::reported_of_broker(account.clone(), name.clone()),
            },
            standing: Standing::default(),
            name,
        })
    };
    config.brokers.iter().map(bridge).collect()
}

/// How each of them is doing, for whoever asks.
pub(super) fn standings(bridges: &[Bridge]) -> Standings {
    let standing = |bridge: &Bridge| (bridge.name.clone(), bridge.standing.clone());
    bridges.iter().map(standing).collect()
}

/// Take publications from trackers and brokers until `stop`.
pub(super) async fn take_in(
    listener: Endpoint,
    ports: port::Ports,
    bridges: Vec<Bridge>,
    mut stop: watch::Receiver<bool>,
) {
    let bridged = run(bridges, stop.clone());
    let listening = listener.run(ports, async move {
        // A sender that is gone means stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    tokio::join!(listening, bridged);
}

async fn run(bridges: Vec<Bridge>, stop: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    for bridge in bridges {
        running.spawn(bridge.run(stop.clone()));
    }
    while let Some(ended) = running.join_next().await {
        // A panic of one is a defect of the gateway, which must not go on as if nothing came.
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn target(config: &Config, configured: &Broker) -> Result<Target, Failure> {
    let fault = |why| Failure::Broker {
        broker: configured.name.to_string(),
        why,
    };
    Ok(Target {
        host: configured.host.clone(),
        port: configured.port,
        version: match configured.version {
            MqttVersion::V311 => Version::V4,
            MqttVersion::V5 => Version::V5,
        },
        client_id: configured.client_id(&config.gateway.id),
        login: configured.password().map_err(fault)?,
        tls: configured.tls().map_err(fault)?,
        prefix: configured.prefix.clone(),
        inflight_max: configured.inflight_max,
        session_expiry: configured.session_expiry,
    })
}

/// Rows of `status`, some for each broker.
pub(super) fn rows(standings: &Standings, zone: Tz) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, standing) in standings {
        let state = standing.state();
        let mut fact = |fact: &'static str, value: serde_json::Value| {
            let mut row = Row::new();
            row.put("name", fact);
            row.put("value", value);
            row.put("broker", name.as_str());
            rows.push(row);
        };
        fact("broker_connected", state.connected_since.is_some().into());
        if let Some(since) = state.connected_since {
            let since = cloudevent::at(since, zone);
            fact("broker_connected_since", since.into());
        }
        fact("broker_messages", state.messages.into());
        fact("broker_unacknowledged", state.unacknowledged.into());
        if let Some((at, why)) = state.last_error {
            fact("broker_last_error", why.into());
            let at = cloudevent::at(at, zone);
            fact("broker_last_error_at", at.into());
        }
    }
    rows
}

/// Gauges and counters of every broker; of losses none when they cannot be read, which is logged.
pub(super) fn metrics(standings: &Standings, store: &Store) -> Vec<Metric> {
    let states: Vec<(&str, State)> = standings
        .iter()
        .map(|(name, standing)| (name.as_str(), standing.state()))
        .collect();
    let each = |name, help, kind, value: fn(&State) -> u64| {
        let metric = move |(broker, state): &(&str, State)| Metric {
            name,
            help,
            kind,
            labels: vec![("broker", (*broker).to_owned())],
            value: float(value(state)),
        };
        states.iter().map(metric).collect::<Vec<_>>()
    };
    let mut metrics = each(
        "supercargo_broker_connected",
        "1 while the subscription at the broker stands.",
        Kind::Gauge,
        |state| u64::from(state.connected_since.is_some()),
    );
    metrics.extend(each(
        "supercargo_broker_connections_total",
        "Connections with a subscription since the gateway started.",
        Kind::Counter,
        |state| state.connections,
    ));
    metrics.extend(each(
        "supercargo_broker_messages_total",
        "Messages that came from the broker since the gateway started.",
        Kind::Counter,
        |state| state.messages,
    ));
    metrics.extend(each(
        "supercargo_broker_unacknowledged",
        "Messages taken from the broker and not yet acknowledged.",
        Kind::Gauge,
        |state| state.unacknowledged as u64,
    ));
    metrics.extend(losses(store).unwrap_or_else(|error| {
        tracing::error!("metrics not read: {error}");
        Vec::new()
    }));
    metrics
}

fn losses(store: &Store) -> Result<Vec<Metric>, StoreError> {
    let metric = |(broker, memory): (String, Memory)| Metric {
        name: "supercargo_broker_session_losses_total",
        help: "How often the broker had lost the session that it should have kept, and maybe messages with it.",
        kind: Kind::Counter,
        labels: vec![("broker", broker)],
        value: float(memory.losses),
    };
    Ok(broker::all(store)?.into_iter().map(metric).collect())
}

//! A real mosquitto that trackers publish to and the gateway subscribes at: what the broker has confirmed to
//! a tracker gets into the store once, whatever is killed or cut on the way, as long as the broker keeps it;
//! and when the broker forgets, that is told.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::cable::Cable;
use tests::depot::{Depot, Shown, fact};
use tests::kit::supercargo;
use tests::ledger::Ledger;
use tests::load::{Load, Plan};
use tests::peer::{Mosquitto, foreign, free_address, product, run, say, wait_for};

const SEED: u64 = 23;

/// Devices of one load.
const DEVICES: u32 = 2;

/// Batches of each device.
const BATCHES: u32 = 40;

/// Batches a second of a device that goes on until it is told to finish: some hundred in all.
const ENDLESS_BATCHES_PER_S: f64 = 100.0;

/// Messages in flight: so few that a load takes many commits.
const INFLIGHT: u16 = 4;

/// Mosquitto that keeps sessions on disk, and reads and writes there although it was started as root.
fn persistent(folder: &Path) -> String {
    format!(
        "allow_anonymous true\npersistence true\npersistence_location {}/\nuser root\n",
        folder.display()
    )
}

/// A gateway that subscribes at `port` and has no other way in that is used.
fn depot(folder: &Path, port: u16, lines: &str) -> Result<Depot> {
    let broker = format!(
        "[[ingest.broker]]\nname = \"yard\"\nhost = \"127.0.0.1\"\nport = {port}\ninflight_max = {INFLIGHT}\n{lines}"
    );
    let plan = "version = 1\n";
    Depot::create(folder, &folder.join("data"), plan, &broker)
}

/// Everything that a test needs; the folder is kept until its end.
struct Yard {
    folder: TempDir,
    ledger: Arc<Ledger>,
    broker: Mosquitto,
    /// Devices that have been loaded so far.
    devices: u32,
}

impl Yard {
    fn open(lines: impl FnOnce(&Path) -> Result<String>) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let ledger = Arc::new(Ledger::create(&folder.path().join("ledger"))?);
        let lines = lines(folder.path())?;
        let broker = Mosquitto::start_with(folder.path(), &lines)?;
        Ok(broker.map(|broker| Self {
            folder,
            ledger,
            broker,
            devices: 0,
        }))
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Start devices that were not there before, which publish to the broker.
    fn begin_load(&mut self, batches: Option<u32>) -> Result<Load> {
        let plan = Plan {
            address: self.broker.address,
            seed: SEED,
            devices: DEVICES,
            window: 4,
            batch_records: 3,
            batches,
            // An endless load is bounded by how long the test takes.
            batches_per_s: batches.is_none().then_some(ENDLESS_BATCHES_PER_S),
        };
        let first = self.devices;
        self.devices += DEVICES;
        Load::start_from(first, plan, Some(&self.ledger))
    }

    /// Publish [`BATCHES`] of each new device; the broker has confirmed all of them.
    fn load(&mut self) -> Result<()> {
        self.begin_load(Some(BATCHES))?.join().map(drop)
    }

    /// Wait until the gateway has every record that was sent, and compare; each says whose receipt it has.
    fn await_all(&self, depot: &Depot) -> Result<()> {
        let sent = self.ledger.lines().len() as u64;
        wait_for("every record to be stored", || {
            let stored = depot.metric("supercargo_records_stored_total")?;
            #[expect(clippy::cast_precision_loss, reason = "some hundred records")]
            Ok((stored >= sent as f64).then_some(()))
        })?;
        let audit = self.ledger.audit(&depot.records()?, Shown::of);
        ensure!(audit.holds() && audit.acknowledged == audit.sent, "{audit}");
        for row in depot.export("records")? {
            ensure!(row["receipt"] == "broker" && row["qos"] == 1, "{row}");
        }
        let status = depot.status()?;
        let counted = |name| fact(&status, name, &[]).unwrap_or_default();
        let received = counted("supercargo_records_received_total");
        let duplicate = counted("supercargo_records_duplicate_total");
        ensure!(
            received == sent + duplicate,
            "{received} received, {sent} sent, {duplicate} duplicates"
        );
        ensure!(counted("supercargo_records_by_broker_total") == received);
        say(&format!("{audit}, {duplicate} came again"));
        Ok(())
    }
}

/// What a fact about the broker says.
fn of_broker(depot: &Depot, name: &str) -> Result<Option<Value>> {
    let status = depot.status()?;
    let mut rows = status.into_iter();
    let row = rows.find(|row| row["name"] == name && row["broker"] == "yard");
    Ok(row.map(|mut row| row["value"].take()))
}

fn await_subscribed(depot: &Depot) -> Result<()> {
    wait_for("the subscription", || {
        let connected = of_broker(depot, "broker_connected")?;
        Ok((connected == Some(Value::Bool(true))).then_some(()))
    })
}

fn losses(depot: &Depot) -> Result<u64> {
    let losses = of_broker(depot, "broker_session_losses")?;
    Ok(losses
        .and_then(|losses| losses.as_u64())
        .unwrap_or_default())
}

/// Events about the broker that the file sink has.
fn told(depot: &Depot) -> Result<Vec<Value>> {
    let mut told = depot.delivered()?;
    told.retain(|event| event["subject"] == "urn:supercargo:broker:yard");
    Ok(told)
}

/// Killed while it holds messages that it has received: before they are written, before they are durable, and
/// when they are durable and not acknowledged.
#[test]
fn a_gateway_that_is_killed_before_it_has_acknowledged_gets_the_messages_again() {
    let anyone = |_: &Path| Ok("allow_anonymous true\n".to_owned());
    let Some(mut yard) = Yard::open(anyone).unwrap() else {
        return;
    };
    let mut depot = depot(yard.folder(), yard.broker.address.port(), "").unwrap();
    depot.start().unwrap();
    await_subscribed(&depot).unwrap();
    assert!(depot.stop().unwrap().success());
    for point in [
        "journal.apply.before.3",
        "journal.sync.before.3",
        "journal.sync.after.3",
    ] {
        let mut failing = Command::new(product("failing").unwrap());
        let flaw = format!("kill@{point}");
        depot.begin(&mut failing, &["--flaw", &flaw]).unwrap();
        yard.load().unwrap();
        assert!(!depot.ended().unwrap().success(), "{point} was not reached");
    }
    depot.start().unwrap();
    yard.await_all(&depot).unwrap();
    let status = depot.status().unwrap();
    let again = fact(&status, "supercargo_records_duplicate_total", &[]);
    assert!(
        again > Some(0),
        "what was durable and not acknowledged comes again"
    );
    assert_eq!(losses(&depot).unwrap(), 0);
    assert!(depot.stop().unwrap().success());
}

fn cut_off_and_forgotten(version: &str) -> Result<()> {
    let anyone = |_: &Path| Ok("allow_anonymous true\n".to_owned());
    let Some(mut yard) = Yard::open(anyone)? else {
        return Ok(());
    };
    let cable = Cable::start(yard.broker.address)?;
    let lines = format!("version = \"{version}\"\n");
    let mut depot = depot(yard.folder(), cable.address.port(), &lines)?;
    depot.start()?;
    await_subscribed(&depot)?;

    for _ in 0..3 {
        let load = yard.begin_load(None)?;
        // Acknowledgements are lost on the way, then the connection is.
        let before = cable.sent();
        wait_for("messages to come", || {
            Ok((cable.sent().carried > before.carried + 100).then_some(()))
        })?;
        cable.deafen();
        wait_for("acknowledgements to be lost", || {
            Ok((cable.sent().swallowed > before.swallowed).then_some(()))
        })?;
        cable.cut();
        load.finish()?;
        cable.mend();
    }
    yard.await_all(&depot)?;
    assert_eq!(losses(&depot)?, 0, "the broker has kept the session");
    assert_eq!(told(&depot)?, [] as [Value; 0]);

    yard.broker.restart()?;
    wait_for("the loss to be noticed", || {
        Ok((losses(&depot)? == 1).then_some(()))
    })?;
    await_subscribed(&depot)?;
    yard.load()?;
    yard.await_all(&depot)?;
    let event = wait_for("the loss to be told", || Ok(told(&depot)?.pop()))?;
    assert_eq!(event["data"]["code"], "EX_DATA_GAP", "{event}");
    assert_eq!(event["data"]["confidence"], "possible", "{event}");
    let metric = "supercargo_broker_session_losses_total{broker=\"yard\"}";
    assert!((depot.metric(metric)? - 1.0).abs() < f64::EPSILON);
    assert!(depot.stop()?.success());
    assert_eq!(losses(&depot)?, 1, "a stopped gateway knows it too");
    Ok(())
}

#[test]
fn by_mqtt_5_a_broker_that_is_cut_off_loses_nothing_and_one_that_forgets_is_told_of() {
    cut_off_and_forgotten("5").unwrap();
}

#[test]
fn by_mqtt_3_1_1_a_broker_that_is_cut_off_loses_nothing_and_one_that_forgets_is_told_of() {
    cut_off_and_forgotten("3.1.1").unwrap();
}

#[test]
fn a_broker_with_persistence_keeps_what_comes_while_the_gateway_and_then_itself_are_away() {
    let Some(mut yard) = Yard::open(|folder| Ok(persistent(folder))).unwrap() else {
        return;
    };
    let mut depot = depot(yard.folder(), yard.broker.address.port(), "").unwrap();
    depot.start().unwrap();
    await_subscribed(&depot).unwrap();
    yard.broker.restart_in_order().unwrap();
    yard.load().unwrap();
    assert!(depot.stop().unwrap().success());
    yard.load().unwrap();
    yard.broker.restart_in_order().unwrap();
    depot.start().unwrap();
    yard.await_all(&depot).unwrap();
    assert_eq!(losses(&depot).unwrap(), 0);
    assert_eq!(told(&depot).unwrap(), [] as [Value; 0]);
    assert!(depot.stop().unwrap().success());
}

#[test]
fn a_wrong_password_is_named_in_status_and_the_right_one_is_let_in() {
    let with_login = |folder: &Path| {
        let file = folder.join("users");
        fs::write(&file, "")?;
        Ok(format!(
            "allow_anonymous false\npassword_file {}\nuser root\n",
            file.display()
        ))
    };
    let Some(mut yard) = Yard::open(with_login).unwrap() else {
        return;
    };
    let users = yard.folder().join("users");
    let mut passwd = Command::new("mosquitto_passwd");
    run(passwd.arg("-b").arg(&users).args(["depot", "right"])).unwrap();
    yard.broker.restart().unwrap();

    let secret = yard.folder().join("secret");
    fs::write(&secret, "wrong\n").unwrap();
    let lines = "username = \"depot\"\npassword_file = \"secret\"\n";
    let mut depot = depot(yard.folder(), yard.broker.address.port(), lines).unwrap();
    depot.start().unwrap();
    let error = wait_for("the refusal to be named", || {
        of_broker(&depot, "broker_last_error")
    })
    .unwrap();
    let error = error.as_str().context("a text").unwrap().to_owned();
    assert!(
        error.contains("look at username and password_file"),
        "{error}"
    );
    assert!(!error.contains("wrong"), "{error}");
    assert!(depot.stop().unwrap().success());

    fs::write(&secret, "right\n").unwrap();
    depot.start().unwrap();
    await_subscribed(&depot).unwrap();
    assert_eq!(of_broker(&depot, "broker_last_error").unwrap(), None);
    assert!(depot.stop().unwrap().success());
}

/// A listener for trackers as in the other tests, and one with TLS and a password for the gateway.
fn by_tls_with_login(folder: &Path, port: u16) -> Result<String> {
    for ca in ["ca", "other-ca"] {
        let ca = folder.join(ca).display().to_string();
        supercargo(&["ca", "init", &ca, "--name", "127.0.0.1"])?;
    }
    let users = folder.join("users");
    fs::write(&users, "")?;
    let mut passwd = Command::new("mosquitto_passwd");
    run(passwd.arg("-b").arg(&users).args(["depot", "right"]))?;
    fs::write(folder.join("secret"), "right\n")?;
    let at = folder.display();
    Ok(format!(
        "per_listener_settings true\nallow_anonymous true\nuser root\n\
         listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {at}/users\n\
         certfile {at}/ca/server.pem\nkeyfile {at}/ca/server-key.pem\n"
    ))
}

fn by_tls(version: &str) -> Result<()> {
    let secured = free_address()?;
    if foreign("mosquitto_passwd", "mosquitto").is_none() {
        return Ok(());
    }
    let Some(mut yard) = Yard::open(|folder| by_tls_with_login(folder, secured.port()))? else {
        return Ok(());
    };
    let lines = |ca: &str| {
        format!(
            "ca = \"{ca}/ca.pem\"\nversion = \"{version}\"\n\
             username = \"depot\"\npassword_file = \"secret\"\n"
        )
    };
    let mut misled = depot(yard.folder(), secured.port(), &lines("other-ca"))?;
    misled.start()?;
    let error = wait_for("the wrong CA to be named", || {
        of_broker(&misled, "broker_last_error")
    })?;
    let error = error.as_str().context("a text")?;
    ensure!(
        error.contains("invalid peer certificate") && error.contains("look at ca"),
        "{error}"
    );
    ensure!(of_broker(&misled, "broker_connected")? == Some(Value::Bool(false)));
    ensure!(misled.stop()?.success());
    let log = misled.log()?;
    let told = log.lines().find(|line| line.contains("look at ca"));
    ensure!(told.is_some_and(|line| line.contains("yard")), "{log}");

    // The same gateway, whose configuration was mended.
    let mut depot = depot(yard.folder(), secured.port(), &lines("ca"))?;
    depot.start()?;
    await_subscribed(&depot)?;
    yard.load()?;
    yard.await_all(&depot)?;
    ensure!(of_broker(&depot, "broker_last_error")?.is_none());
    ensure!(depot.stop()?.success());
    Ok(())
}

#[test]
fn by_tls_and_mqtt_5_a_broker_of_another_ca_is_named_and_that_of_ours_is_subscribed_at() {
    by_tls("5").unwrap();
}

#[test]
fn by_tls_and_mqtt_3_1_1_a_broker_of_another_ca_is_named_and_that_of_ours_is_subscribed_at() {
    by_tls("3.1.1").unwrap();
}

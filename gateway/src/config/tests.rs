//! Faults as people see them.

use super::*;

fn faults(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
    let faults = Config::parse(Path::new("depot.toml"), text, &overrides).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_of_a_file_is_named_at_once_with_its_place_and_what_is_allowed() {
    let text = r#"
[gateway]
id = "depot 7"
time_zone = "Europe/Berlni"
[mqtt]
listen = 1883
keep_alive_max = 90
packet_max = "1MiB"
conections_max = 10
[rules]
temprature = { delay = "1h" }
[log]
format = "jsn"
level = 'loud'
[[sink]]
name = "a"
kind = "file"
host = "upstream"
[[sink]]
kind = "mqtt"
prot = 1
"#;
    let expected = [
        r#"depot.toml:3:6: gateway.id = "depot 7": not allowed; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
        r#"depot.toml:4:13: gateway.time_zone = "Europe/Berlni": not allowed; allowed: a zone of the IANA time zone database, such as "Europe/Berlin"; did you mean "Europe/Berlin"?"#,
        r#"depot.toml:6:10: mqtt.listen = 1883: not allowed; allowed: an IP address and port, such as "127.0.0.1:1883" or "[::]:1883", or "off"; did you mean "127.0.0.1:1883"?"#,
        r#"depot.toml:7:18: mqtt.keep_alive_max = 90: not allowed; allowed: a duration with a unit (ms, s, min, h, d), such as "90s", "10s" to "18h"; did you mean "90s"?"#,
        r#"depot.toml:8:14: mqtt.packet_max = "1MiB": not allowed; allowed: a size with a unit (B, KiB, MiB, GiB, TiB), such as "64KiB", "1KiB" to "60KiB""#,
        "depot.toml:9:1: mqtt.conections_max = 10: unknown key; did you mean mqtt.connections_max?",
        "depot.toml:11:1: rules.temprature: unknown key; did you mean rules.temperature?",
        r#"depot.toml:13:10: log.format = "jsn": not allowed; allowed: one of "text" "json"; did you mean "json"?"#,
        r#"depot.toml:14:9: log.level = 'loud': not allowed; allowed: one of "error" "warn" "info" "debug" "trace""#,
        "depot.toml:15:1: sink[1].path: missing; allowed: a path; relative ones start at the folder of the file that names them",
        r#"depot.toml:18:8: sink[1].host = "upstream": is no key of a sink of kind "file""#,
        "depot.toml:19:1: sink[2].name: missing; allowed: 1 to 64 of A-Z a-z 0-9 _ -",
        "depot.toml:21:1: sink[2].prot = 1: unknown key; did you mean port?",
    ];
    assert_eq!(faults(text, &[]), expected);
}

#[test]
fn a_fault_in_one_section_hides_none_in_another_nor_in_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("depot.toml");
    let plan = "version = 1\n[[fence]]\nid = \"a\"\nlat = 91.0\nlon = 0.0\nradius_m = 100\n";
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    std::fs::write(folder.path().join("taken"), "a file").unwrap();
    let text = "[log]\nlevel = \"inf\"\n[gateway]\ndata = \"taken/data\"\n\
                [rules]\nplan = \"plan.toml\"\n";
    std::fs::write(&file, text).unwrap();
    let faults = Config::load(Some(&file), &[]).unwrap_err().to_string();
    assert!(
        faults.contains("depot.toml:2:9: log.level = \"inf\""),
        "{faults}"
    );
    assert!(faults.contains("depot.toml:4:8: gateway.data = \"taken/data\": cannot be made"));
    assert!(faults.contains("plan.toml:4:"), "{faults}");
    assert!(
        faults.ends_with("3 faults in the configuration"),
        "{faults}"
    );
}

#[test]
fn every_broken_line_is_named_and_the_rest_is_still_judged() {
    let text = "[mqtt]\nkeep_alive_max = 90s\nlisten = \n[http]\nlisten = 80\n";
    let found = faults(text, &[]);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("depot.toml:2:"), "{found:#?}");
    assert!(
        found[0].ends_with(r#"did you mean keep_alive_max = "90s"?"#),
        "{found:#?}"
    );
    assert!(found[1].starts_with("depot.toml:3:"), "{found:#?}");
    assert!(
        found[2].starts_with("depot.toml:5:10: http.listen = 80"),
        "{found:#?}"
    );
}

#[test]
fn an_override_goes_through_the_same_checks() {
    let set = |text: &str| Config::parse(Path::new("c.toml"), "", &[text.to_owned()]);
    let hours = |config: Config| {
        config
            .temperature
            .delay
            .map(|delay| delay.as_secs() / 3_600)
    };
    assert_eq!(
        hours(set("rules.temperature.delay=1000h").unwrap()),
        Some(1_000)
    );
    assert_eq!(
        set("http.connections_max=7").unwrap().http.connections_max,
        7
    );
    assert_eq!(
        faults(
            "",
            &[
                "rules.temperature.delay=1000",
                "rules.temperature.dellay=1h"
            ]
        ),
        [
            "--set: rules.temperature.dellay = 1h: unknown key; did you mean rules.temperature.delay?",
            r#"--set: rules.temperature.delay = 1000: not allowed; allowed: a duration with a unit (ms, s, min, h, d), such as "90s", "0s" to "3650d"; did you mean "1000s"?"#,
        ]
    );
}

#[test]
fn a_budget_that_cannot_hold_the_fleet_is_refused_with_the_sum() {
    let text = "[store]\nbudget = \"1GiB\"\nfleet = 10000\n";
    let found = faults(text, &[]);
    assert!(found[0].starts_with("depot.toml:2:10: store.budget = \"1GiB\": is too small"));
    assert!(
        found[0].contains("= 432000000 readings need at least"),
        "{found:?}"
    );
    // 432,000,000 readings of 315 bytes are 126.7 GiB; the watermark of 128 MiB stays free.
    let least = "at least \"129905MiB\", store.watermark included";
    assert!(found[0].contains(least), "{found:?}");
    for (budget, held) in [("129904MiB", false), ("129905MiB", true)] {
        let text = text.replace("1GiB", budget);
        let parsed = Config::parse(Path::new("c.toml"), &text, &[]);
        assert_eq!(parsed.is_ok(), held, "{budget}");
    }
}

#[test]
fn a_budget_below_the_watermark_is_refused_because_it_would_always_be_full() {
    let text = "[store]\nbudget = \"64MiB\"\nwatermark = \"64MiB\"\n";
    let found = faults(text, &[]);
    assert_eq!(
        found,
        [
            "depot.toml:2:10: store.budget = \"64MiB\": leaves nothing above store.watermark = \"64MiB\": the store would always be full"
        ]
    );
}

#[test]
fn the_budget_reckons_with_the_bytes_per_record_that_the_decision_record_measured() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/adr/0003-store.md");
    let record = std::fs::read_to_string(path).unwrap();
    let figure = format!(
        "{} bytes of disk per record",
        check::STORED_BYTES_PER_RECORD
    );
    assert!(record.contains(&figure), "ADR 0003 must state: {figure}");
}

#[test]
fn sinks_that_get_in_each_others_way_are_refused() {
    let file = "[[sink]]\nname = \"a\"\nkind = \"file\"\npath = \"x.jsonl\"\n";
    let mqtt = "[[sink]]\nname = \"m\"\nkind = \"mqtt\"\nhost = \"localhost\"\nusername = \"u\"\n";
    let found = faults(&[file, file, mqtt].concat(), &[]);
    let text = found.join("\n");
    assert!(
        text.contains("sink[3].username = \"u\": needs password_file beside it"),
        "{text}"
    );
    let found = faults(
        &[file, file, &mqtt.replace("username = \"u\"\n", "")].concat(),
        &[],
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("sink[2].name = \"a\": is the name of sink[1] too"));
    assert!(found[1].contains("sink[2].path = \"x.jsonl\": is the file of sink[1] too"));
    assert!(found[2].contains("is this gateway's own mqtt.listen"));
}

#[test]
fn a_shared_subscription_at_a_broker_is_refused_with_the_reason() {
    let text = "[[ingest.broker]]\nname = \"yard\"\nhost = \"b\"\nprefix = \"$share/depot/\"\n";
    let found = faults(text, &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    let place =
        "depot.toml:4:10: ingest.broker[1].prefix = \"$share/depot/\": is a shared subscription: ";
    assert!(found[0].starts_with(place), "{found:#?}");
    assert!(found[0].contains("order"), "{found:#?}");
}

#[test]
fn every_fault_of_a_broker_is_named_at_once_and_a_misspelt_key_is_guessed() {
    let text = "[[ingest.broker]]\nname = \"yard\"\nhots = \"b\"\nhost = \"b\"\n\
                prefix = \"a/+\"\ninflight_max = 0\ndevices = \"al\"\n\
                [[ingest.broker]]\nname = \"gate\"\nhost = \"b\"\npassword_file = \"p\"\n\
                [[ingest.broker]]\nname = \"a\"\nhost = \"c\"\nclient_id = \"one\"\n\
                [[ingest.broker]]\nname = \"a\"\nhost = \"c\"\nclient_id = \"one\"\n\
                [[ingest.broker]]\nname = \"self\"\nhost = \"localhost\"\n";
    let found = faults(text, &[]);
    let expected = [
        "3:1: ingest.broker[1].hots = \"b\": unknown key; did you mean host?",
        "5:10: ingest.broker[1].prefix = \"a/+\": not allowed; allowed: a text of",
        "6:16: ingest.broker[1].inflight_max = 0: not allowed; allowed: a whole number, 1 to 1024",
        "7:11: ingest.broker[1].devices = \"al\": not allowed; allowed: one of \"unregistered\" \"all\"",
        "11:17: ingest.broker[2].password_file = \"p\": needs username beside it",
        "17:8: ingest.broker[4].name = \"a\": is the name of ingest.broker[3] too",
        "19:13: ingest.broker[4].client_id = \"one\": is the client id of ingest.broker[3] at that broker too",
        "22:8: ingest.broker[5].host = \"localhost\": is this gateway's own mqtt.listen",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}\n{expected}");
    }
}

#[test]
fn a_broker_has_a_client_id_of_its_own_and_the_port_of_what_it_speaks() {
    let text = "[[ingest.broker]]\nname = \"yard\"\nhost = \"b\"\nca = \"ca.pem\"\n";
    let config = Config::parse(Path::new("/depot/depot.toml"), text, &[]).unwrap();
    let broker = &config.brokers[0];
    let id = broker.client_id(&config.gateway.id);
    assert_eq!(id, "supercargo-depot-1-ingest-yard");
    assert_eq!((broker.port, broker.inflight_max), (8883, 100));
    assert_eq!(broker.devices, Vouched::Unregistered);
    let error = broker.tls().unwrap_err();
    assert!(error.contains("/depot/ca.pem"), "{error}");
}

#[test]
fn an_engine_that_did_not_make_the_store_is_refused_naming_the_one_that_did() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join(STORE_FOLDER);
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join(StoreEngine::Redb.file()), b"").unwrap();
    let set = |key: &str, value: &str| format!("{key}={value}");
    let data = set("gateway.data", &folder.path().display().to_string());
    let good = Config::load(None, &[data.clone(), set("store.engine", "redb")]).unwrap();
    assert_eq!(good.config.store.engine, StoreEngine::Redb);
    let faults = Config::load(None, std::slice::from_ref(&data))
        .unwrap_err()
        .to_string();
    assert!(
        faults.contains("store.engine") && faults.contains("that was \"redb\""),
        "{faults}"
    );
    let faults = Config::load(None, &[data, set("store.engine", "rocks")])
        .unwrap_err()
        .to_string();
    assert!(faults.contains("one of \"sled\" \"redb\""), "{faults}");
}

#[test]
fn tls_needs_all_its_files_and_one_listener_is_needed_at_least() {
    let found = faults("[mqtt]\nlisten = \"off\"\n", &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("leaves trackers nowhere to connect"));

    let text = "[mqtt.tls]\nlisten = \"[::]:8883\"\ncertificate = \"server.pem\"\n";
    let found = faults(text, &[]);
    assert_eq!(found.len(), 2, "{found:#?}");
    for (fault, key) in found.iter().zip(["key_file", "client_ca"]) {
        let why =
            format!("mqtt.tls.listen = \"[::]:8883\": needs mqtt.tls.{key}; `supercargo ca init`");
        assert!(fault.contains(&why), "{fault}");
    }

    let whole = format!("{text}key_file = \"server-key.pem\"\nclient_ca = \"ca.pem\"\n");
    let sets = ["mqtt.listen=off".to_owned()];
    let config = Config::parse(Path::new("/depot/c.toml"), &whole, &sets).unwrap();
    assert_eq!(config.mqtt.listen, Listen::Off);
    assert_eq!(config.mqtt_tls.client_ca, Some("/depot/ca.pem".into()));
    let found = faults(&whole, &["mqtt.listen=[::]:8883"]);
    assert!(
        found[0].contains("is the address of mqtt.listen too"),
        "{found:?}"
    );
}

#[test]
fn a_tls_file_that_cannot_be_used_is_named_with_what_belongs_there() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "c.toml",
        "[mqtt.tls]\nlisten = \"[::]:0\"\ncertificate = \"server.pem\"\n\
         key_file = \"key.pem\"\nclient_ca = \"ca.pem\"\n",
    );
    let fault = || {
        let data = format!("gateway.data={}", folder.path().join("data").display());
        let loaded = Config::load(Some(&folder.path().join("c.toml")), &[data]);
        let faults = loaded.unwrap_err().0;
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].to_string()
    };
    let missing = fault();
    assert!(
        missing.contains("c.toml:3:15: mqtt.tls.certificate = \"server.pem\""),
        "{missing}"
    );
    assert!(missing.contains("No such file"), "{missing}");

    write("server.pem", "no PEM at all");
    let empty = fault();
    assert!(
        empty.contains("server.pem holds no certificate; allowed: PEM certificates"),
        "{empty}"
    );

    let (ca, [(_, ca_text), _]) =
        crate::pki::Authority::found(Duration::from_secs(86_400 * 9)).unwrap();
    let names = ["localhost".to_owned()];
    let issue = || ca.server(&names, Duration::from_secs(86_400 * 2)).unwrap();
    let (one, other) = (issue(), issue());
    write("ca.pem", &ca_text);
    write("server.pem", &one.certificate);
    write("key.pem", &other.key);
    let swapped = fault();
    assert!(swapped.contains("mqtt.tls.key_file"), "{swapped}");
    assert!(
        !swapped.contains("PRIVATE KEY"),
        "a key is never repeated: {swapped}"
    );

    write("key.pem", &one.key);
    write("ca.pem", &one.key);
    let no_ca = fault();
    assert!(no_ca.contains("mqtt.tls.client_ca"), "{no_ca}");
    assert!(
        no_ca.contains("holds no certificate; allowed: PEM certificates of CAs"),
        "{no_ca}"
    );
}

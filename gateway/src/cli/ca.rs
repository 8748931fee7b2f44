//! `supercargo ca`: the certificates a gateway and its trackers trust each other by.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::output::{self, Output};
use super::query::{Place, QueryError, ask, done};
use super::{Exit, complain};
use crate::control::Request;
use crate::pki::{
    self, Authority, CA_CERTIFICATE, Named, PkiError, SERVER_CERTIFICATE, SERVER_KEY,
};

/// Make the certificates that a gateway and its trackers trust each other by.
///
/// With --config or --data it is written into that gateway's audit log; without, it is in none: a CA is often made on
/// another machine, or before there is a gateway.
#[derive(Args, Debug)]
pub(super) struct Ca {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a CA and the gateway's certificate; files that are there are never overwritten
    Init(Init),
    /// Make another certificate of the gateway, for other names or because one ends
    Server(Server),
}

/// What a gateway's certificate says.
#[derive(Args, Debug)]
struct Names {
    /// Name or address by which trackers reach the gateway; may be repeated
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    /// How long certificates are valid, 1d to 7300d
    #[arg(long, value_name = "DURATION", default_value = "3650d", value_parser = validity)]
    valid: Duration,
}

#[derive(Args, Debug)]
struct Init {
    /// Folder to make it in
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Server {
    /// Folder of the CA
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Folder to write the new certificate and key to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    place: Place,
}

/// Shortest and longest validity, in days: below it is over before a tracker has left, and no tracker lives
/// twenty years.
const VALID_DAYS: std::ops::RangeInclusive<u64> = 1..=7_300;

const DAY: Duration = Duration::from_secs(86_400);

/// A validity in whole days.
pub(super) fn validity(text: &str) -> Result<Duration, String> {
    let valid = crate::config::duration(text)?;
    let [least, most] = [VALID_DAYS.start(), VALID_DAYS.end()];
    if (DAY * (*least as u32)..=DAY * (*most as u32)).contains(&valid) {
        return Ok(valid);
    }
    Err(format!("allowed: {least}d to {most}d"))
}

pub(super) fn ca(asked: &Ca, output: &Output) -> Exit {
    let (written, names, place) = match &asked.command {
        Command::Init(init) => (found(init), &init.names, &init.place),
        Command::Server(server) => (renew(server), &server.names, &server.place),
    };
    let (folder, paths) = match written {
        Ok(written) => written,
        Err(error) => return complain(exit(&error), &error),
    };
    let renewed = matches!(asked.command, Command::Server(_));
    match (report(folder, &paths, output), place.is_given()) {
        (Exit::Good, true) => note(renewed, folder, names, place),
        (told, _) => told,
    }
}

/// Write down in the gateway's audit log what was made.
fn note(renewed: bool, folder: &Path, names: &Names, place: &Place) -> Exit {
    let absolute = std::path::absolute(folder).map_err(QueryError::CurrentFolder);
    let noted = absolute.and_then(|folder| {
        let names = names.names.clone();
        let request = Request::NoteCertificates {
            renewed,
            folder,
            names,
        };
        ask(place, &request, |_| Ok(ControlFlow::Continue(())))
    });
    if noted.is_err() {
        output::say("the files are made, and that is not in the audit log:");
    }
    done(noted)
}

/// The exit that a failure to make certificates calls for.
pub(super) const fn exit(error: &PkiError) -> Exit {
    match error {
        PkiError::There { .. } | PkiError::Name { .. } | PkiError::Form { .. } => Exit::Usage,
        PkiError::Read { .. }
        | PkiError::Write { .. }
        | PkiError::Expired { .. }
        | PkiError::Make { .. } => Exit::Environment,
    }
}

fn found(asked: &Init) -> Result<(&Path, Vec<PathBuf>), PkiError> {
    let Names { names, valid } = &asked.names;
    let (authority, own) = Authority::found(*valid)?;
    let mut files = Vec::from(own);
    files.extend(server(&authority, names, *valid)?);
    Ok((&asked.folder, pki::write_new(&asked.folder, &files)?))
}

fn renew(asked: &Server) -> Result<(&Path, Vec<PathBuf>), PkiError> {
    let Names { names, valid } = &asked.names;
    let authority = Authority::open(&asked.ca)?;
    let files = server(&authority, names, *valid)?;
    Ok((&asked.out, pki::write_new(&asked.out, &files)?))
}

fn server(
    authority: &Authority,
    names: &[String],
    valid: Duration,
) -> Result<[Named; 2], PkiError> {
    let issued = authority.server(names, valid)?;
    Ok([
        (SERVER_CERTIFICATE, issued.certificate),
        (SERVER_KEY, issued.key),
    ])
}

fn report(folder: &Path, paths: &[PathBuf], output: &Output) -> Exit {
    if let Err(error) = output.written(paths) {
        return complain(Exit::Environment, &error);
    }
    let folder = folder.display();
    output::say(&format!(
        "next: set mqtt.tls.certificate = \"{folder}/{SERVER_CERTIFICATE}\", \
         mqtt.tls.key_file = \"{folder}/{SERVER_KEY}\", \
         mqtt.tls.client_ca to the CA's {CA_CERTIFICATE}, and mqtt.tls.listen; \
         keep the CA's own key away from the gateway if you can"
    ));
    Exit::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(folder: &Path) -> Init {
        Init {
            folder: folder.to_owned(),
            names: Names {
                names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
                valid: DAY * 30,
            },
            place: Place::default(),
        }
    }

    #[test]
    fn what_ca_init_writes_is_what_the_configuration_needs() {
        let folder = tempfile::tempdir().unwrap();
        let (_, paths) = found(&init(folder.path()))
            .map(|(_, paths)| ((), paths))
            .unwrap();
        assert_eq!(paths.len(), 4);
        let set = |key: &str, value: &str| format!("mqtt.tls.{key}={value}");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let sets = [
            set("listen", "127.0.0.1:0"),
            set("certificate", &file(SERVER_CERTIFICATE)),
            set("key_file", &file(SERVER_KEY)),
            set("client_ca", &file(CA_CERTIFICATE)),
        ];
        let config = crate::config::Config::parse(Path::new("c.toml"), "", &sets).unwrap();
        config.mqtt_tls.server().unwrap();
    }

    #[test]
    fn a_second_ca_does_not_replace_the_first() {
        let folder = tempfile::tempdir().unwrap();
        found(&init(folder.path())).unwrap();
        let key = std::fs::read(folder.path().join("ca-key.pem")).unwrap();
        let refused = found(&init(folder.path())).unwrap_err();
        assert!(matches!(refused, PkiError::There { .. }), "{refused}");
        assert_eq!(
            std::fs::read(folder.path().join("ca-key.pem")).unwrap(),
            key
        );
    }

    #[test]
    fn a_server_certificate_can_be_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        found(&init(folder.path())).unwrap();
        let out = folder.path().join("new");
        let asked = Server {
            ca: folder.path().to_owned(),
            out: out.clone(),
            names: Names {
                names: vec!["depot.example".to_owned()],
                valid: DAY,
            },
            place: Place::default(),
        };
        let (_, paths) = renew(&asked).unwrap();
        assert_eq!(paths, [out.join(SERVER_CERTIFICATE), out.join(SERVER_KEY)]);
        assert_eq!(pki::first_name(&paths[0]).as_deref(), Some("depot.example"));
    }

    #[test]
    fn a_validity_is_days_to_years() {
        assert_eq!(validity("30d"), Ok(DAY * 30));
        for text in ["1h", "7301d", "30"] {
            assert!(validity(text).unwrap_err().contains("allowed"), "{text}");
        }
    }
}

//! Sinks as configured.

use crate::config::{Config, MqttTarget, MqttVersion, Sink as Configured, SinkKind};
use crate::deliver::sink::mqtt::{MqttSink, Target, Version};
use crate::deliver::sink::{Sink, file::FileSink};

use super::Failure;

/// The sink that `configured` describes.
pub(super) fn sink(config: &Config, configured: &Configured) -> Result<Sink, Failure> {
    match &configured.kind {
        SinkKind::File(path) => Ok(Sink::File(FileSink::new(path.clone()))),
        SinkKind::Mqtt(target) => {
            let target = mqtt_target(config, configured, target)?;
            Ok(Sink::Mqtt(Box::new(MqttSink::new(target))))
        }
    }
}

fn mqtt_target(
    config: &Config,
    configured: &Configured,
    target: &MqttTarget,
) -> Result<Target, Failure> {
    let login = match &target.login {
        None => None,
        Some((user, file)) => {
            let password = file.secret().map_err(|source| Failure::SinkSecret {
                sink: configured.name.to_string(),
                path: file.path().to_path_buf(),
                source,
            })?;
            Some((user.clone(), password))
        }
    };
    let own_id = || format!("supercargo-{}-{}", config.gateway.id, configured.name);
    Ok(Target {
        host: target.host.clone(),
        port: target.port,
        version: match target.version {
            MqttVersion::V311 => Version::V4,
            MqttVersion::V5 => Version::V5,
        },
        client_id: target
            .client_id
            .as_ref()
            .map_or_else(own_id, ToString::to_string),
        login,
        topic: target.topic.clone(),
    })
}

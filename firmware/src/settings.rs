//! Settings in force: validated whole, stored, then obeyed.

use protocol::downlink::{Settings, SettingsRefusal};
use protocol::status::SettingsAck;

use crate::port::{Flash, Page};
use crate::slot::Slot;

/// Version answered when the settings could not be read; no settings sent by a gateway have it.
const VERSION_UNKNOWN: u32 = 0;

const PAGES: [Page; 2] = [Page::SettingsA, Page::SettingsB];

/// The settings in force and where they are kept.
#[derive(Clone, Debug)]
pub struct InForce {
    settings: Settings,
    slot: Slot,
}

/// What came of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To be sent.
    pub ack: SettingsAck,
    /// Whether other settings are in force than before.
    pub changed: bool,
}

impl InForce {
    /// The settings kept, or the defaults when there are none that can be read.
    pub fn load<F: Flash>(flash: &mut F) -> Self {
        let (slot, found) = Slot::open(PAGES, flash);
        let kept = found.value.and_then(|bytes| Settings::decode(&bytes).ok());
        let settings = kept.filter(|settings| settings.validate().is_ok());
        Self {
            settings: settings.unwrap_or(Settings::DEFAULT),
            slot,
        }
    }

    /// What to obey.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Settings arrived. They come into force only as a whole and only once they are stored; sent again
    /// they are accepted again.
    pub fn offer<F: Flash>(&mut self, payload: &[u8], flash: &mut F) -> Answer {
        let Ok(offered) = Settings::decode(payload) else {
            return Answer {
                ack: SettingsAck {
                    version: VERSION_UNKNOWN,
                    outcome: Err(SettingsRefusal::Undecodable),
                },
                changed: false,
            };
        };
        let changed = offered != self.settings;
        let outcome = if changed {
            self.adopt(offered, flash)
        } else {
            Ok(())
        };
        Answer {
            ack: SettingsAck {
                version: offered.version,
                outcome,
            },
            changed: changed && outcome.is_ok(),
        }
    }

    fn adopt<F: Flash>(&mut self, offered: Settings, flash: &mut F) -> Result<(), SettingsRefusal> {
        offered.validate()?;
        let in_force = self.settings.version;
        if offered.version <= in_force {
            return Err(SettingsRefusal::Stale { in_force });
        }
        let mut buffer = [0; Settings::MAX_BYTES];
        let encoded = offered.encode(&mut buffer).ok();
        let bytes = encoded.and_then(|length| buffer.get(..length));
        if !bytes.is_some_and(|bytes| self.slot.write(bytes, flash)) {
            return Err(SettingsRefusal::NotStored);
        }
        self.settings = offered;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::tests::MemoryFlash;
    use protocol::downlink::SettingsField;
    use protocol::units::{CentiCelsius, Seconds};

    fn payload(settings: &Settings) -> Vec<u8> {
        let mut buffer = [0; Settings::MAX_BYTES];
        let length = settings.encode(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn version(version: u32) -> Settings {
        Settings {
            version,
            sample_moving: Seconds::saturating(30),
            ..Settings::DEFAULT
        }
    }

    #[test]
    fn accepted_settings_survive_a_restart_and_may_come_again() {
        let mut flash = MemoryFlash::blank();
        let mut in_force = InForce::load(&mut flash);
        assert_eq!(in_force.settings(), &Settings::DEFAULT);
        let answer = in_force.offer(&payload(&version(3)), &mut flash);
        assert_eq!((answer.ack.version, answer.ack.outcome), (3, Ok(())));
        assert!(answer.changed);
        let again = in_force.offer(&payload(&version(3)), &mut flash);
        assert_eq!((again.ack.outcome, again.changed), (Ok(()), false));
        assert_eq!(InForce::load(&mut flash).settings(), &version(3));
    }

    #[test]
    fn each_refusal_says_why_and_leaves_everything_as_it_was() {
        let mut flash = MemoryFlash::blank();
        let mut in_force = InForce::load(&mut flash);
        in_force.offer(&payload(&version(3)), &mut flash);
        let slow = Settings {
            sample_moving: Seconds::saturating(1),
            ..version(4)
        };
        let crossed = Settings {
            temperature_above: Some(CentiCelsius::saturating(-100)),
            ..version(4)
        };
        let outcome = |offer: &[u8], in_force: &mut InForce, flash: &mut MemoryFlash| {
            let answer = in_force.offer(offer, flash);
            assert!(!answer.changed);
            answer.ack.outcome.unwrap_err()
        };
        let range = outcome(&payload(&slow), &mut in_force, &mut flash);
        let field = SettingsField::SampleMoving;
        assert!(
            matches!(range, SettingsRefusal::OutOfRange { field: f, value: 1, .. } if f == field)
        );
        let refusal = outcome(&payload(&crossed), &mut in_force, &mut flash);
        assert_eq!(refusal, SettingsRefusal::LimitsCrossed);
        let refusal = outcome(&payload(&version(2)), &mut in_force, &mut flash);
        assert_eq!(refusal, SettingsRefusal::Stale { in_force: 3 });
        let refusal = outcome(b"\x80", &mut in_force, &mut flash);
        assert_eq!(refusal, SettingsRefusal::Undecodable);
        flash.budget = 3;
        let refusal = outcome(&payload(&version(4)), &mut in_force, &mut flash);
        assert_eq!(refusal, SettingsRefusal::NotStored);
        flash.budget = usize::MAX;
        assert_eq!(in_force.settings(), &version(3));
        assert_eq!(InForce::load(&mut flash).settings(), &version(3));
    }
}

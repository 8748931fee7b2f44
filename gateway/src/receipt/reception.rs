//! How a record came: the byte that journal and history keep beside it.
//!
//! ```text
//! bit 7        a broker was between
//! bits 0 to 6  quality of service, 0 or 1
//! ```
//! Records of the endpoint have 0 or 1 there.

/// Set when a broker was between the device and the gateway.
const BY_BROKER: u8 = 0x80;

/// Who took a record from its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This gateway's endpoint.
    Endpoint,
    /// A broker that this gateway subscribes to.
    Broker,
}

/// How a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    /// Who took it from its device.
    pub origin: Origin,
    /// Whether whoever handed it to the gateway waits for a PUBACK (`QoS` 1).
    pub promised: bool,
}

impl Reception {
    /// What the byte says. Any quality of service above 0 is a promise.
    #[must_use]
    pub const fn of_byte(byte: u8) -> Self {
        let origin = if byte & BY_BROKER == 0 {
            Origin::Endpoint
        } else {
            Origin::Broker
        };
        Self {
            origin,
            promised: byte & !BY_BROKER != 0,
        }
    }

    /// The byte to keep.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self.origin {
            Origin::Endpoint => self.qos(),
            Origin::Broker => self.qos() | BY_BROKER,
        }
    }

    /// Quality of service with which the gateway got it.
    #[must_use]
    pub const fn qos(self) -> u8 {
        self.promised as u8
    }

    /// Whose word its device has that the record is safe. Only the gateway's own means that it was on
    /// disk before the device was told.
    #[must_use]
    pub const fn receipt(self) -> &'static str {
        match (self.origin, self.promised) {
            (Origin::Broker, _) => "broker",
            (Origin::Endpoint, true) => "gateway",
            (Origin::Endpoint, false) => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_byte_says_is_what_was_written_and_the_endpoint_writes_the_quality_of_service() {
        for origin in [Origin::Endpoint, Origin::Broker] {
            for promised in [false, true] {
                let reception = Reception { origin, promised };
                assert_eq!(Reception::of_byte(reception.byte()), reception);
            }
        }
        let receipts = [0, 1, 0x80, 0x81].map(|byte| Reception::of_byte(byte).receipt());
        assert_eq!(receipts, ["none", "gateway", "broker", "broker"]);
        assert_eq!(Reception::of_byte(0x81).qos(), 1);
    }
}

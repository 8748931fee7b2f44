//! How many connections come from one address: one host that runs wild leaves room for the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that name a network; a host chooses the others as it likes.
const NETWORK_V6_BITS: u32 = 64;

/// Open connections by address. Holds as many entries as there are connections at most.
#[derive(Debug)]
pub(crate) struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

/// The right to one connection. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    counted: Option<(Arc<Addresses>, IpAddr)>,
}

impl Addresses {
    /// At most this many from one address.
    pub(crate) fn new(most: usize) -> Self {
        let open = Mutex::default();
        Self { open, most }
    }

    /// A place for a connection from `peer`, unless it has as many as it may. This machine has any number: a bridge
    /// or a proxy on it speaks for many devices.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let address = counted_as(peer);
        if address.is_loopback() {
            return Some(Place { counted: None });
        }
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        let counted = Some((Arc::clone(self), address));
        Some(Place { counted })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counts: a panic while they were held left them whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, address)) = self.counted.take() else {
            return;
        };
        let mut open = addresses.lock();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

/// The address itself, or the network of an IPv6 address.
pub(super) fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(six) if !six.is_loopback() => {
            let host_bits = u128::BITS - NETWORK_V6_BITS;
            Ipv6Addr::from_bits(six.to_bits() >> host_bits << host_bits).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(addresses: &Arc<Addresses>, peer: &str) -> Option<Place> {
        addresses.admit(peer.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses::new(2));
        let first = admit(&addresses, "192.0.2.1").unwrap();
        let _second = admit(&addresses, "::ffff:192.0.2.1").unwrap();
        assert!(admit(&addresses, "192.0.2.1").is_none());
        let _other = admit(&addresses, "192.0.2.2").unwrap();
        drop(first);
        let third = admit(&addresses, "192.0.2.1");
        assert!(third.is_some() && admit(&addresses, "192.0.2.1").is_none());
    }

    #[test]
    fn a_network_of_version_6_counts_as_one_and_this_machine_not_at_all() {
        let addresses = Arc::new(Addresses::new(1));
        let _one = admit(&addresses, "2001:db8:0:1::1").unwrap();
        assert!(admit(&addresses, "2001:db8:0:1:ffff::2").is_none());
        let _other = admit(&addresses, "2001:db8:0:2::1").unwrap();
        let here: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1"]
            .map(|peer| admit(&addresses, peer).unwrap())
            .into();
        drop(here);
        assert_eq!(
            addresses.lock().len(),
            2,
            "nothing is kept of who is not counted"
        );
    }
}

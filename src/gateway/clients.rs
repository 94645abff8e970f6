//! How many places each client holds, for `limits.connections_per_client`.
//!
//! A connection counts for its client. A connection of a trusted proxy carries requests of many clients, so there each
//! request counts for its own client while it is in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::downstream::network_of;

/// The places that each client holds. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place of one client, held until this is dropped.
#[derive(Debug)]
#[must_use = "a place counts only as long as this lives"]
pub struct ClientPlace {
    clients: Clients,
    client: IpAddr,
}

impl Clients {
    /// Takes a place for `client`. `None` if the client holds `max` places already; a `max` of 0 is no limit.
    pub fn enter(&self, client: IpAddr, max: usize) -> Option<ClientPlace> {
        let client = network_of(client);
        let count = {
            let mut clients = self.lock();
            let count = clients.entry(client).or_default();
            *count += 1;
            *count
        };
        let place = ClientPlace { clients: self.clone(), client };
        (max == 0 || count <= max).then_some(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut clients = self.clients.lock();
        if let Entry::Occupied(mut entry) = clients.entry(self.client) {
            match *entry.get() {
                ..=1 => drop(entry.remove()),
                more => drop(entry.insert(more - 1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_one_owner() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let [one, other] = [one, other].map(|address| network_of(address.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn dropped_places_are_free_again_and_a_client_without_places_is_forgotten() {
        let clients = Clients::default();
        let client = [192, 0, 2, 1].into();
        let held: Vec<_> = (0..5).filter_map(|_| clients.enter(client, 2)).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        let unlimited: Vec<_> = (0..5).filter_map(|_| clients.enter(client, 0)).collect();
        assert_eq!(unlimited.len(), 5);
        drop(unlimited);
        assert!(clients.lock().is_empty());
    }
}

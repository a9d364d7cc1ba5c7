//! Addresses: networks, block lists, and who the client is behind the proxies that are trusted.

use kernel::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 address written as an IPv6 one is that IPv4 address.
pub fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Whose address it is as far as quotas go: an IPv4 address by itself, an IPv6 address by its /64, which is what one customer is given.
pub fn owner(ip: IpAddr) -> IpAddr {
    match plain(ip) {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !0 << 64)),
    }
}

/// A network such as `192.0.2.0/24`, `2001:db8::/32` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first == masked(plain(ip), self.bits)
    }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0))),
        IpAddr::V6(ip) => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0)))
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Errors: `limits.invalid_address`.
    fn from_str(text: &str) -> Result<Network> {
        let wrong = || Error::invalid("limits.invalid_address", format!("{text:?} is not an address or a network such as 192.0.2.0/24"));
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most || masked(ip, bits) != ip {
            return Err(wrong());
        }
        Ok(Network { first: ip, bits })
    }
}

/// A set of networks, asked by address: one look-up for each prefix length that occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(BTreeMap<(bool, u8), HashSet<IpAddr>>);

impl Networks {
    /// Whether one of them contains the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let ip = plain(ip);
        self.0.iter().any(|((v4, bits), firsts)| *v4 == ip.is_ipv4() && firsts.contains(&masked(ip, *bits)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Networks {
        let mut all = Networks::default();
        for network in networks {
            all.0.entry((network.first.is_ipv4(), network.bits)).or_default().insert(network.first);
        }
        all
    }
}

/// The client's address: that of the socket, unless a trusted proxy holds the socket. Then it is the last address of `X-Forwarded-For` that
/// is not a trusted proxy's, because each proxy appends whom it heard from and only what trusted ones wrote can be believed. `forwarded`
/// are the header's values in order. What is no address ends the search: the client is then the last one that was.
pub fn client<'a>(peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>, trusted: &Networks) -> IpAddr {
    let mut client = plain(peer);
    if !trusted.contains(client) {
        return client;
    }
    for hop in forwarded.rev().flat_map(|value| value.rsplit(',')).take(32) {
        let hop = hop.trim();
        // Some proxies write ports: 192.0.2.1:4711 or [2001:db8::1]:4711.
        let parsed = hop.parse::<IpAddr>().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
        let Some(ip) = parsed.or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()) else { return client };
        client = plain(ip);
        if !trusted.contains(client) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn networks_contain_what_they_should() {
        let blocked = networks(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:0:0/97"]);
        for (ip, inside) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            // A mapped address is the IPv4 address that it maps.
            ("::ffff:192.0.2.9", true),
        ] {
            assert_eq!(blocked.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        assert!(networks(&["0.0.0.0/0"]).contains("203.0.113.1".parse().unwrap()));
        assert!(!networks(&["0.0.0.0/0"]).contains("2001:db8::1".parse().unwrap()));
        for wrong in ["", "192.0.2.1/24", "192.0.2.0/33", "192.0.2/24", "2001:db8::/129", "localhost"] {
            assert_eq!(wrong.parse::<Network>().unwrap_err().code(), "limits.invalid_address", "{wrong}");
        }
    }

    #[test]
    fn one_customer_has_a_64() {
        let owner = |text: &str| owner(text.parse().unwrap()).to_string();
        assert_eq!(owner("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(owner("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
        assert_eq!(owner("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        let of = |peer: &str, forwarded: &[&str]| client(peer.parse().unwrap(), forwarded.iter().copied(), &trusted).to_string();
        assert_eq!(of("203.0.113.9", &["192.0.2.1"]), "203.0.113.9", "anyone can write the header");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &["1.1.1.1, 192.0.2.1, 10.0.0.2"]), "192.0.2.1", "what stands before was written by the client");
        assert_eq!(of("10.0.0.1", &["1.1.1.1", "192.0.2.1", "10.0.0.2"]), "192.0.2.1", "several headers are one list");
        assert_eq!(of("10.0.0.1", &["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(of("fd00::1", &["[2001:db8::5]:443"]), "2001:db8::5");
        assert_eq!(of("10.0.0.1", &["nonsense, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(of("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        let long: String = (0..100).map(|n| format!("10.1.0.{n}, ")).collect();
        assert_eq!(of("10.0.0.1", &[&format!("192.0.2.1, {long}10.0.0.1")]), "10.1.0.69", "the walk is bounded");
    }
}

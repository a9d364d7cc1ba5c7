//! Keeps a client to addresses of the public internet, so that whoever names an address can't reach what stands beside the server.
//!
//! The check is of what a name resolves to, at each connection: a name that resolves to something else the second time gains nothing.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::Service;

/// Whether an address is one of the public internet: not loopback, private, link-local, shared, reserved, multicast or documentation, also
/// when it is wrapped into an IPv6 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special =
        ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast() || ip.is_documentation() || ip.is_multicast();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(special || shared || protocol || benchmark || a == 0 || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let tail = |at: usize| Ipv4Addr::from((u32::from(s[at]) << 16) | u32::from(s[at + 1]));
    // Addresses that carry an IPv4 address: mapped, compatible, NAT64, 6to4.
    if s[..5] == [0; 5] && (s[5] == 0xffff || s[5] == 0) || s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(tail(6));
    }
    if s[0] == 0x2002 {
        return is_public_v4(tail(1));
    }
    // Global unicast is 2000::/3; of it 2001::/23 (Teredo and other protocols), 2001:db8::/32 and 3fff::/20 (documentation) are special.
    let special = (s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8)) || (s[0] == 0x3fff && s[1] < 0x1000);
    (s[0] & 0xe000) == 0x2000 && !special
}

/// An address below one of those that are `known`, without a slash at its end; none when it is no such address. For addresses that tenants
/// choose among those of the configuration.
pub fn below_known(known: &[String], url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    // A prefix counts only up to a boundary: `https://api.stripe.com.evil.example` is another host. Any port of a known host will do.
    let port = |rest: &str| {
        rest.strip_prefix(':').map_or(rest.to_owned(), |port| port.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned())
    };
    let fits = |known: &String| {
        let rest = url.strip_prefix(known.trim_end_matches('/')).map(port);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let plain = !url.contains(['?', '#', '@', '\\', '%']) && url.bytes().all(|b| b.is_ascii_graphic());
    // A known path is not left again by the way up.
    let downwards = !url.split('/').any(|part| matches!(part, "." | ".."));
    (known.iter().any(fits) && plain && downwards).then(|| url.to_owned())
}

/// The address in a URL's host, when it is one and no name.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The resolver of the operating system, whose answers are kept to public addresses if that is wanted.
#[derive(Clone)]
pub(crate) struct Resolver {
    inner: GaiResolver,
    public_only: bool,
}

impl Resolver {
    pub(crate) fn new(public_only: bool) -> Resolver {
        Resolver { inner: GaiResolver::new(), public_only }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, public_only) = (self.inner.call(name), self.public_only);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.filter(|address| !public_only || is_public(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let public = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"];
        let other = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
        ];
        for address in public {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
        for address in other {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn an_address_is_below_a_known_one_or_not() {
        let known = ["https://api.carrier.example/v2/".to_owned(), "http://127.0.0.1".to_owned()];
        let table = [
            ("https://api.carrier.example/v2", true),
            ("https://api.carrier.example/v2/labels/", true),
            ("https://api.carrier.example/v2.evil.example", false),
            ("https://api.carrier.example/v2/../v1", false),
            ("https://api.carrier.example/v1", false),
            ("http://127.0.0.1:8091", true),
            ("http://127.0.0.1:8091@evil.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://127.0.0.1/%2e%2e", false),
        ];
        for (url, expected) in table {
            assert_eq!(below_known(&known, url).is_some(), expected, "{url}");
        }
    }

    #[test]
    fn a_host_in_brackets_is_an_address() {
        assert_eq!(literal("[::1]"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(literal("127.0.0.1"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(literal("localhost"), None);
    }
}

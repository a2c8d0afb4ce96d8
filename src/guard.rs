//! Where a feed may lead. Its address, its redirects and the answers of its name server are in the
//! hands of others, so what they lead to is looked at when the connection is made: else a feed could
//! read what only this machine can reach.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why an address is not of the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// This machine: 127.0.0.0/8, ::1.
    Loopback,
    /// RFC 1918, RFC 4193 (unique local), RFC 2544 (benchmarks), RFC 8215 (local NAT64), and the
    /// site-local addresses of old.
    Private,
    /// RFC 6598: behind a carrier's NAT.
    Shared,
    /// RFC 3927, RFC 4291.
    LinkLocal,
    /// Where clouds keep the credentials of a machine.
    Metadata,
    /// No single machine.
    Multicast,
    /// 0.0.0.0/8, ::
    Unspecified,
    /// Given to nobody, or to a use that is not for feeds.
    Reserved,
}

impl Class {
    /// Whether `private = true` of a feed lets it lead there.
    pub fn may_be_allowed(self) -> bool {
        matches!(self, Class::Loopback | Class::Private | Class::Shared | Class::LinkLocal)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Loopback => "a loopback address",
            Class::Private => "a private address",
            Class::Shared => "an address behind a carrier's NAT",
            Class::LinkLocal => "a link-local address",
            Class::Metadata => "the address of a cloud's metadata service",
            Class::Multicast => "a multicast address",
            Class::Unspecified => "an unspecified address",
            Class::Reserved => "a reserved address",
        })
    }
}

/// What an address is, if it is not one of the public internet. Addresses that carry an IPv4
/// address (mapped, translated, 6to4) are what that one is.
pub fn class(address: IpAddr) -> Option<Class> {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
fn class_v4(address: Ipv4Addr) -> Option<Class> {
    Some(match address.octets() {
        // AWS, Google, Azure and others; AWS again for containers; Alibaba; Oracle; Azure again,
        // in the midst of the public internet.
        [169, 254, 169, 254]
        | [169, 254, 170, 2]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Class::Metadata,
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [198, 18 | 19, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [224..=239, ..] => Class::Multicast,
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            Class::Reserved
        }
        [240..=255, ..] => Class::Reserved,
        _ => return None,
    })
}

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
fn class_v6(address: Ipv6Addr) -> Option<Class> {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        class_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Class::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Class::Loopback),
        // IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low]
        | [0, 0, 0, 0, 0xFFFF, 0, high, low]
        | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => inner(high, low),
        // 6to4
        [0x2002, high, low, ..] => inner(high, low),
        // AWS, Google.
        [0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254] | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254] => {
            Some(Class::Metadata)
        }
        [0x64, 0xFF9B, 1, ..] | [0xFC00..=0xFDFF, ..] | [0xFEC0..=0xFEFF, ..] => {
            Some(Class::Private)
        }
        [0xFE80..=0xFEBF, ..] => Some(Class::LinkLocal),
        [0xFF00..=0xFFFF, ..] => Some(Class::Multicast),
        // Teredo, ORCHID and other protocols; documentation.
        [0x2001, 0..=0x1FF, ..] | [0x2001, 0xDB8, ..] | [0x3FFF, 0..=0xFFF, ..] => {
            Some(Class::Reserved)
        }
        // The only range that has been given out so far.
        [0x2000..=0x3FFF, ..] => None,
        _ => Some(Class::Reserved),
    }
}

/// An address that a feed may not lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden(pub Class);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leads to {}", self.0)
    }
}

impl Error for Forbidden {}

/// Lets connections through to where they may lead.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Of the feed.
    pub private: bool,
}

impl Guard {
    fn check(self, address: IpAddr) -> Result<(), Forbidden> {
        match class(address) {
            Some(class) if !(self.private && class.may_be_allowed()) => Err(Forbidden(class)),
            _ => Ok(()),
        }
    }

    /// Whether the host of a URL, where it is an address, may be connected to: no name is resolved
    /// then, so nobody else asks.
    pub fn check_url(self, url: &Url) -> Result<(), Forbidden> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// What a look-up of a name has found, as far as it may be connected to.
    async fn checked<A: Iterator<Item = SocketAddr>>(
        self,
        lookup: impl Future<Output = io::Result<A>>,
    ) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
        Ok(self.admit(lookup.await?)?)
    }

    /// Those of a name's addresses that may be connected to.
    fn admit(self, addresses: impl Iterator<Item = SocketAddr>) -> Result<Addrs, Forbidden> {
        let mut admitted = Vec::new();
        let mut forbidden = None;
        for address in addresses {
            match self.check(address.ip()) {
                Ok(()) => admitted.push(address),
                Err(error) => forbidden = Some(error),
            }
        }
        match forbidden {
            Some(error) if admitted.is_empty() => Err(error),
            _ => Ok(Box::new(admitted.into_iter())),
        }
    }
}

/// The connection is made to the very addresses that were looked at, whatever the name's server
/// says the next time.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move { guard.checked(tokio::net::lookup_host((name.as_str(), 0))).await })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::tls::Trust;

    #[test]
    fn every_address_has_its_class() {
        use Class::*;
        let table = [
            ("8.8.8.8", None),
            ("93.184.216.34", None),
            ("172.15.255.255", None),
            ("172.32.0.0", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("223.255.255.255", None),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.254", Some(Loopback)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("198.18.0.1", Some(Private)),
            ("100.64.0.1", Some(Shared)),
            ("100.127.255.255", Some(Shared)),
            ("169.254.1.1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("192.0.0.192", Some(Metadata)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("192.0.0.1", Some(Reserved)),
            ("192.0.2.1", Some(Reserved)),
            ("198.51.100.7", Some(Reserved)),
            ("203.0.113.7", Some(Reserved)),
            ("240.0.0.1", Some(Reserved)),
            ("255.255.255.255", Some(Reserved)),
            ("2606:4700::1111", None),
            ("2001:200::1", None),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("::2", Some(Unspecified)),
            ("::127.0.0.1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("::ffff:8.8.8.8", None),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("::ffff:0:127.0.0.1", Some(Loopback)),
            ("64:ff9b::10.0.0.1", Some(Private)),
            ("64:ff9b::169.254.169.254", Some(Metadata)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::1", Some(Private)),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:a00:1::", Some(Private)),
            ("2002:808:808::", None),
            ("fc00::1", Some(Private)),
            ("fd12:3456::1", Some(Private)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(Private)),
            ("ff02::1", Some(Multicast)),
            ("2001::1", Some(Reserved)),
            ("2001:db8::1", Some(Reserved)),
            ("3fff::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("4000::1", Some(Reserved)),
        ];
        for (address, expected) in table {
            assert_eq!(class(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn private_allows_the_own_network_and_nothing_else() {
        let table = [
            ("8.8.8.8", true, true),
            ("127.0.0.1", false, true),
            ("192.168.1.1", false, true),
            ("fd12::1", false, true),
            ("100.64.0.1", false, true),
            ("fe80::1", false, true),
            ("169.254.169.254", false, false),
            ("fd00:ec2::254", false, false),
            ("224.0.0.1", false, false),
            ("0.0.0.0", false, false),
            ("240.0.0.1", false, false),
        ];
        for (address, public, private) in table {
            let address: IpAddr = address.parse().unwrap();
            for (guard, expected) in
                [(Guard { private: false }, public), (Guard { private: true }, private)]
            {
                assert_eq!(guard.check(address).is_ok(), expected, "{guard:?} {address}");
            }
        }
    }

    #[test]
    fn addresses_in_urls_are_known_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "https://user:word@[64:ff9b::127.0.0.1]:8443/",
        ] {
            let result = Guard { private: false }.check_url(&Url::parse(url).unwrap());
            assert_eq!(result, Err(Forbidden(Class::Loopback)), "{url}");
        }
        for url in ["http://8.8.8.8/", "https://events.example.edu/"] {
            Guard { private: false }.check_url(&Url::parse(url).unwrap()).unwrap();
        }
    }

    #[test]
    fn of_several_addresses_the_public_ones_are_used() {
        let guard = Guard { private: false };
        let addresses = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|one| SocketAddr::new(one.parse().unwrap(), 0)).collect()
        };
        let admitted = guard.admit(addresses(&["10.0.0.1", "8.8.8.8", "::1"]).into_iter());
        assert_eq!(admitted.unwrap().collect::<Vec<_>>(), addresses(&["8.8.8.8"]));
        let refused = guard.admit(addresses(&["10.0.0.1", "127.0.0.1"]).into_iter());
        assert_eq!(refused.err(), Some(Forbidden(Class::Loopback)));
    }

    /// A name server that says something else each time it is asked.
    struct Rebinding {
        guard: Guard,
        says: Mutex<VecDeque<&'static str>>,
    }

    impl Resolve for Rebinding {
        fn resolve(&self, _: Name) -> Resolving {
            let said = self.says.lock().unwrap().pop_front().expect("it is not asked once more");
            let addresses: Vec<SocketAddr> =
                said.split(' ').map(|one| SocketAddr::new(one.parse().unwrap(), 0)).collect();
            let lookup = std::future::ready(Ok(addresses.into_iter()));
            let guard = self.guard;
            Box::pin(guard.checked(lookup))
        }
    }

    #[tokio::test]
    async fn the_addresses_that_were_looked_at_are_the_ones_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let arrived = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&arrived);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        // What is allowed at first, and then what is not: 127.0.0.1 with and without `private`.
        for (private, says, expected) in [
            (true, ["127.0.0.1", "169.254.169.254"], [Ok(()), Err(Class::Metadata)]),
            (true, ["0.0.0.0 127.0.0.1", "0.0.0.0"], [Ok(()), Err(Class::Unspecified)]),
            (false, ["127.0.0.1", "::1 127.0.0.1"], [Err(Class::Loopback); 2]),
        ] {
            let guard = Guard { private };
            let says = Mutex::new(VecDeque::from(says));
            let resolver = Arc::new(Rebinding { guard, says });
            let client = Trust::default().client().dns_resolver(resolver.clone()).build().unwrap();
            let before = arrived.load(Ordering::SeqCst);
            for (nth, expected) in expected.into_iter().enumerate() {
                let result = client.get(format!("http://feed.example.edu:{port}/")).send().await;
                let refused = result.err().map(|error| {
                    let mut cause: &(dyn Error + 'static) = &error;
                    while let Some(inner) = cause.source() {
                        cause = inner;
                    }
                    cause.downcast_ref::<Forbidden>().expect("refused by the guard").0
                });
                assert_eq!(refused, expected.err(), "{guard:?} {nth}");
                let left = resolver.says.lock().unwrap().len();
                assert_eq!(left, 1 - nth, "one look-up for each connection");
            }
            let connected = expected.iter().filter(|one| one.is_ok()).count();
            assert_eq!(arrived.load(Ordering::SeqCst) - before, connected, "{guard:?}");
        }
    }
}

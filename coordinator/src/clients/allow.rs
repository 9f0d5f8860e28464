//! Where requests may go: to hosts and ports that the configuration lists, and of these to addresses alone that a service of
//! somebody's own can have. A name may lead elsewhere tomorrow, so its addresses are judged at each connection, in the
//! resolver that the connection itself uses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, dns};

/// A host and a port that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// `host:port`; an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        // By the rules of addresses: lower case, and one form of each number.
        let url = Url::parse(&format!("http://{host}:{port}")).ok()?;
        let plain = url.path() == "/" && url.username().is_empty() && url.query().is_none();
        let host =
            url.host_str().filter(|_| plain && !host.is_empty() && !host.contains(['/', '@', '?', '#']))?;
        Some(Self { host: host.to_owned(), port })
    }

    fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether the base address of a service is one, and may be asked with a key; otherwise why not.
pub fn may_be_asked(text: &str, allowed: &[HostPort]) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{text:?} is neither http nor https"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        // Not quoted: it may hold a password.
        return Err("give the address alone: no name, password, query or fragment in it".to_owned());
    }
    let place = HostPort::of(&url).ok_or_else(|| format!("{text:?} names no host"))?;
    if !allowed.contains(&place) {
        return Err(format!("{place} is not among `clients.allow`, the hosts and ports that may be asked"));
    }
    let bare = place.host.trim_start_matches('[').trim_end_matches(']');
    let literal: Option<IpAddr> = bare.parse().ok();
    if literal.is_some_and(|address| !address.is_loopback() && !is_of_a_service(address)) {
        return Err(format!("{place} is no address that a service can have"));
    }
    let here = literal.is_some_and(|address| address.is_loopback()) || bare == LOCALHOST;
    if url.scheme() == "http" && !here {
        return Err("a key travels by https only, except on this machine".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The one name that leads to this machine.
const LOCALHOST: &str = "localhost";

/// Whether a name may lead to an address: one of this machine has the name of this machine only, and none has one that
/// machines of a cloud are told about themselves at.
fn may_lead(name: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    if name.eq_ignore_ascii_case(LOCALHOST) { address.is_loopback() } else { is_of_a_service(address) }
}

fn is_of_a_service(address: IpAddr) -> bool {
    let usual = !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    usual
        && match address.to_canonical() {
            IpAddr::V4(v4) => {
                !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0 && !v4.is_loopback()
            }
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }
}

/// Tells the addresses of a name that it may lead to; none is an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let good: Vec<SocketAddr> =
                found.iter().copied().filter(|address| may_lead(&name, address.ip())).collect();
            if good.is_empty() {
                let refused = format!("{name} leads to no address that may be asked");
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, refused).into());
            }
            let good: dns::Addrs = Box::new(good.into_iter());
            Ok::<Addrs, _>(good)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(all: &[&str]) -> Vec<HostPort> {
        all.iter().map(|text| HostPort::parse(text).unwrap_or_else(|| panic!("{text}"))).collect()
    }

    #[test]
    fn only_what_is_listed_may_be_asked() {
        let list =
            allowed(&["mcp.example:443", "127.0.0.1:8080", "[::1]:9000", "10.0.0.7:443", "localhost:1"]);
        for good in [
            "https://mcp.example",
            "https://MCP.example:443/base/",
            "http://127.0.0.1:8080",
            "http://[::1]:9000/v1",
            "https://10.0.0.7",
            "http://localhost:1",
        ] {
            assert!(may_be_asked(good, &list).is_ok(), "{good}: {:?}", may_be_asked(good, &list));
        }
        assert_eq!(
            may_be_asked("https://mcp.example/base/", &list).as_deref(),
            Ok("https://mcp.example/base")
        );
        for (wrong, why) in [
            ("https://mcp.example:444", "not among"),
            ("https://mcp.example.evil.example", "not among"),
            ("http://0x7f.1:8081", "not among"),
            ("http://10.0.0.7:443", "https only"),
            ("http://mcp.example:443", "https only"),
            ("ftp://mcp.example:443", "neither http"),
            ("https://user:hunter2@mcp.example", "alone"),
            ("https://mcp.example?to=elsewhere", "alone"),
            ("mcp.example", "no address"),
        ] {
            let told = may_be_asked(wrong, &list).expect_err(wrong);
            assert!(told.contains(why) && !told.contains("hunter2"), "{wrong}: {told}");
        }
        let cloud =
            allowed(&["169.254.169.254:443", "0.0.0.0:443", "[::ffff:169.254.1.1]:443", "224.0.0.1:443"]);
        for wrong in [
            "https://169.254.169.254",
            "https://0.0.0.0",
            "https://[::ffff:169.254.1.1]",
            "https://224.0.0.1",
        ] {
            assert!(may_be_asked(wrong, &cloud).is_err_and(|why| why.contains("can have")), "{wrong}");
        }
    }

    #[test]
    fn a_list_holds_hosts_with_ports() {
        for wrong in [
            "",
            "mcp.example",
            "mcp.example:",
            ":80",
            "mcp.example:0",
            "a/b:80",
            "u@h:80",
            "h:99999",
            "h?x:1",
        ] {
            assert_eq!(HostPort::parse(wrong), None, "{wrong}");
        }
        assert_eq!(HostPort::parse("MCP.Example:80").expect("good").to_string(), "mcp.example:80");
    }

    #[test]
    fn a_name_that_leads_to_this_machine_or_to_a_clouds_own_address_is_not_followed() {
        let leads = |name, address: &str| may_lead(name, address.parse().expect("an address"));
        for address in ["10.1.2.3", "192.168.0.1", "93.184.216.34", "fd00::1", "2001:db8::1"] {
            assert!(leads("mcp.example", address) && !leads("localhost", address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "169.254.169.254",
            "::ffff:127.0.0.1",
            "fe80::1",
            "224.0.0.1",
            "0.1.2.3",
        ] {
            assert!(!leads("mcp.example", address), "{address}");
        }
        assert!(leads("localhost", "127.0.0.1") && leads("LOCALHOST", "::1"));
    }

    #[tokio::test]
    async fn the_resolver_refuses_what_a_name_may_not_lead_to() {
        // Every system resolves a literal without asking anybody.
        let name: Name = "127.0.0.1".parse().expect("a name");
        let told = Guarded.resolve(name).await.err().expect("refused");
        assert!(told.to_string().contains("no address that may be asked"), "{told}");
        let here = Guarded.resolve("localhost".parse().expect("a name")).await.expect("this machine");
        assert!(here.map(|address| address.ip()).all(|address| address.is_loopback()));
    }
}

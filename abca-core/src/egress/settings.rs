//! The allow-list, and what it says of a host and of an address.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AddressClass, CredentialRule, Host, HostError, MAX_CREDENTIALS, authority};

/// Ports of a rule that names none.
const PORTS: [u16; 2] = [443, 80];
/// Most rules of an allow-list.
pub const MAX_RULES: usize = 1_000;

/// What becomes of hosts that are not on the list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressMode {
    /// They are reached all the same, and each is an event: to find out what a list has to hold. Addresses that are not
    /// public are refused in this mode too.
    Observe,
    /// They are refused.
    #[default]
    Enforce,
}

/// What the egress proxy lets through.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressSettings {
    /// Whether the list decides. Default: it does.
    pub mode: EgressMode,
    /// Hosts that may be reached. Default none. At most [`MAX_RULES`].
    pub allow: Vec<AllowRule>,
    /// Credentials that the proxy adds. Their values travel apart. Default none. At most [`MAX_CREDENTIALS`].
    pub credentials: Vec<CredentialRule>,
    /// Files of authorities (PEM, on the brain's machine) that may vouch for the hosts of credentials, beside the system's.
    pub authorities: Vec<String>,
}

/// One entry of an allow-list: `HOST`, `HOST:PORT`, `*.HOST` or `*.HOST:PORT`.
///
/// * Without a port it means 443 and 80.
/// * `*.example.com` means every name below `example.com`, of whole labels; not `example.com` itself.
/// * An address means that address. One that is not public ([`AddressClass`]) needs its port: it opens a door into a
///   network of somebody's own, also for names that are listed and resolve to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowRule {
    hosts: Hosts,
    /// `None`: [`PORTS`].
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hosts {
    This(Host),
    /// Names that end with a dot and this.
    Below(String),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` is no host of an allow-list: {problem}")]
pub struct InvalidRule {
    /// The text.
    pub rule: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Why a host is not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressRefusal {
    /// It is not on the list.
    #[error("`{host}:{port}` is not on the allow-list")]
    NotListed {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// An address that leads elsewhere than to the internet, and is not on the list itself.
    #[error("the address {address} is {} and `{address_rule}` is not on the allow-list", class.as_str())]
    Address {
        /// The address.
        address: IpAddr,
        /// Its class.
        class: AddressClass,
        /// The rule that would allow it.
        address_rule: String,
    },
    /// The host is none.
    #[error("{0}")]
    Host(#[from] HostError),
}

/// How a host got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Passed {
    /// It is on the list.
    Listed,
    /// It is not, and the list only observes.
    Unlisted,
}

impl EgressSettings {
    /// Whether a request to a host may go on, before anything is resolved.
    ///
    /// # Errors
    /// [`EgressRefusal::NotListed`].
    pub fn judge_host(&self, host: &Host, port: u16) -> Result<Passed, EgressRefusal> {
        let named = |rule: &CredentialRule| rule.host() == host && rule.port() == port;
        if self.allow.iter().any(|rule| rule.allows(host, port)) || self.credentials.iter().any(named) {
            return Ok(Passed::Listed);
        }
        match self.mode {
            EgressMode::Observe => Ok(Passed::Unlisted),
            EgressMode::Enforce => Err(EgressRefusal::NotListed { host: host.clone(), port }),
        }
    }

    /// Whether an address that a host resolved to may be connected to. In both modes.
    ///
    /// # Errors
    /// [`EgressRefusal::Address`] for one that is not public and not listed with this very port.
    pub fn judge_address(&self, address: IpAddr, port: u16) -> Result<(), EgressRefusal> {
        let class = AddressClass::of(address);
        let host = Host::Address(address);
        if class.is_public() || self.allow.iter().any(|rule| rule.is_exactly(&host, port)) {
            return Ok(());
        }
        Err(EgressRefusal::Address { address, class, address_rule: format!("{host}:{port}") })
    }

    /// Checks what was put together by hand or read.
    ///
    /// # Errors
    /// A sentence about what is too much.
    pub fn check(&self) -> Result<(), String> {
        if self.allow.len() > MAX_RULES {
            return Err(format!("holds {} hosts: at most {MAX_RULES} are possible", self.allow.len()));
        }
        if self.credentials.len() > MAX_CREDENTIALS {
            let many = self.credentials.len();
            return Err(format!("holds {many} credentials: at most {MAX_CREDENTIALS} are possible"));
        }
        Ok(())
    }
}

impl AllowRule {
    /// Whether a request to this host and port is meant.
    pub fn allows(&self, host: &Host, port: u16) -> bool {
        let here = match self.port {
            Some(own) => own == port,
            None => PORTS.contains(&port),
        };
        here && match (&self.hosts, host) {
            (Hosts::This(own), host) => own == host,
            (Hosts::Below(base), Host::Name(name)) => {
                name.strip_suffix(base.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            (Hosts::Below(_), Host::Address(_)) => false,
        }
    }

    fn is_exactly(&self, host: &Host, port: u16) -> bool {
        self.port == Some(port) && matches!(&self.hosts, Hosts::This(own) if own == host)
    }
}

impl FromStr for AllowRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = |problem: String| InvalidRule { rule: text.to_owned(), problem };
        if text.contains("://") || text.contains('/') {
            return Err(invalid("write the host alone, without `https://` and path".to_owned()));
        }
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            let say = "a `*` stands only at the beginning, for whole labels: `*.example.com`. To let everything through and \
                       see what it is, observe instead of enforcing";
            return Err(invalid(say.to_owned()));
        }
        // Any default: whether a port was named is asked below.
        let (host, port) = authority(rest, Some(443)).map_err(|e| invalid(e.to_string()))?;
        let named = authority(rest, None).is_ok();
        let port = named.then_some(port);
        let hosts = match (below, host) {
            (false, host) => Hosts::This(host),
            (true, Host::Address(_)) => return Err(invalid("an address has nothing below it".to_owned())),
            (true, Host::Name(base)) if !base.contains('.') => {
                return Err(invalid("it would mean a whole top-level domain: name at least two labels".to_owned()));
            }
            (true, Host::Name(base)) => Hosts::Below(base),
        };
        if let Hosts::This(Host::Address(address)) = &hosts
            && port.is_none()
            && !AddressClass::of(*address).is_public()
        {
            let class = AddressClass::of(*address).as_str();
            return Err(invalid(format!("the address is {class}, so its port has to be named: `{rest}:443`")));
        }
        Ok(Self { hosts, port })
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::This(host) => write!(f, "{host}")?,
            Hosts::Below(base) => write!(f, "*.{base}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl TryFrom<String> for AllowRule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<AllowRule> for String {
    fn from(rule: AllowRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: EgressMode, allow: &[&str]) -> EgressSettings {
        EgressSettings { mode, allow: allow.iter().map(|r| r.parse().unwrap()).collect(), ..EgressSettings::default() }
    }

    #[test]
    fn a_list_means_whole_labels_and_its_ports() {
        let list = settings(
            EgressMode::Enforce,
            &["crates.io", "*.example.com", "reg.local:8080", "*.x.y:22", "198.50.1.1", "127.0.0.1:9", "[::1]:9"],
        );
        let listed = |target: &str| {
            let (host, port) = authority(target, Some(443)).unwrap();
            list.judge_host(&host, port).is_ok()
        };
        let yes = [
            "crates.io",
            "CRATES.IO.",
            "crates.io:80",
            "a.example.com",
            "a.b.example.com:80",
            "reg.local:8080",
            "a.x.y:22",
            "198.50.1.1",
            "127.0.0.1:9",
            "[0:0::1]:9",
        ];
        let no = [
            "crates.io:22",
            "static.crates.io",
            "xcrates.io",
            "crates.io.evil.com",
            "example.com",
            "xexample.com",
            "a.example.com:8443",
            "a.example.com.evil.com",
            "reg.local",
            "a.x.y",
            "198.50.1.1:8080",
            "127.0.0.1",
            "127.0.0.2:9",
            "localhost:9",
        ];
        for target in yes {
            assert!(listed(target), "{target}");
        }
        for target in no {
            assert!(!listed(target), "{target}");
        }
    }

    #[test]
    fn an_observer_lets_hosts_through_and_no_private_address() {
        let list = settings(EgressMode::Observe, &["a.b", "10.0.0.5:443"]);
        let host = Host::parse("c.d").unwrap();
        assert_eq!(list.judge_host(&host, 22), Ok(Passed::Unlisted));
        assert_eq!(list.judge_host(&Host::parse("a.b").unwrap(), 443), Ok(Passed::Listed));
        assert_eq!(list.judge_address([10, 0, 0, 5].into(), 443), Ok(()));
        assert_eq!(list.judge_address([1, 1, 1, 1].into(), 22), Ok(()));
        for (address, port) in [("10.0.0.5", 80), ("10.0.0.6", 443), ("169.254.169.254", 80), ("::ffff:10.0.0.5", 443)]
        {
            let refused = list.judge_address(address.parse().unwrap(), port);
            assert!(matches!(refused, Err(EgressRefusal::Address { .. })), "{address}");
        }
    }

    #[test]
    fn rules_are_read_strictly_and_written_as_they_were() {
        for text in ["crates.io", "*.example.com:8443", "[2606:4700::1]:443", "127.0.0.1:80"] {
            assert_eq!(text.parse::<AllowRule>().unwrap().to_string(), text);
            let rule: AllowRule = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{text}\""));
        }
        let refused = [
            "",
            "*",
            "*.com",
            "*.com:443",
            "a.*.com",
            "*a.com",
            "https://a.b",
            "a.b/c",
            "a.b:0",
            "a.b:",
            "*.127.0.0.1",
            "10.0.0.1",
            "[::1]",
            "127.1:80",
            "u@a.b",
        ];
        for text in refused {
            assert!(text.parse::<AllowRule>().is_err(), "{text}");
        }
        let many = EgressSettings { allow: vec!["a.b".parse().unwrap(); MAX_RULES + 1], ..EgressSettings::default() };
        assert!(many.check().is_err());
    }
}

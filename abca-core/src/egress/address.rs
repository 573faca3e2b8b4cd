//! What an address leads to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads, by the registries of special-purpose addresses (IANA, RFC 6890) and the addresses at which
/// clouds serve credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Anywhere on the internet.
    Public,
    /// No address, or "this network": `0.0.0.0/8`, `::`. On Linux it reaches the machine itself.
    Unspecified,
    /// The machine itself: `127.0.0.0/8`, `::1`.
    Loopback,
    /// Somebody's own network: `10/8`, `172.16/12`, `192.168/16`, `fc00::/7`, `fec0::/10`.
    Private,
    /// A provider's network behind its address translation: `100.64/10`.
    SharedNat,
    /// The wire itself: `169.254/16`, `fe80::/10`.
    LinkLocal,
    /// Where a cloud serves credentials and settings of the machine.
    Metadata,
    /// Many at once: `224/4`, `ff00::/8`, `255.255.255.255`.
    Multicast,
    /// An IPv6 address that carries an IPv4 one: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
    Embedded,
    /// For documentation, measurements, protocols and the future.
    Reserved,
}

impl AddressClass {
    /// The class of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// Whether it leads to the internet and nowhere else.
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Public)
    }

    /// Its name in events, e.g. `link_local`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::SharedNat => "shared_nat",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Embedded => "embedded_ipv4",
            Self::Reserved => "reserved",
        }
    }
}

const fn of_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        // AWS and most others; ECS tasks; EKS pods; Alibaba; Oracle; Azure's wire server.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => AddressClass::Metadata,
        [0, ..] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [100, 64..=127, ..] => AddressClass::SharedNat,
        [169, 254, ..] => AddressClass::LinkLocal,
        [224..=239, ..] | [255, 255, 255, 255] => AddressClass::Multicast,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            AddressClass::Reserved
        }
        [240..=255, ..] => AddressClass::Reserved,
        [..] => AddressClass::Public,
    }
}

const fn of_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254 | 0x0023] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => {
            AddressClass::Metadata
        }
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // Compatible, mapped and translated; NAT64; 6to4; Teredo.
        [0, 0, 0, 0, 0 | 0xffff, _, _, _] => AddressClass::Embedded,
        [0x0064, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => AddressClass::Embedded,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] => AddressClass::Private,
        [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => AddressClass::Embedded,
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressClass::Reserved,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        [..] => AddressClass::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_at_its_edges() {
        use AddressClass as C;
        let table = [
            ("0.0.0.0", C::Unspecified),
            ("0.255.255.255", C::Unspecified),
            ("1.0.0.0", C::Public),
            ("9.255.255.255", C::Public),
            ("10.0.0.0", C::Private),
            ("10.255.255.255", C::Private),
            ("11.0.0.0", C::Public),
            ("100.63.255.255", C::Public),
            ("100.64.0.0", C::SharedNat),
            ("100.100.100.200", C::Metadata),
            ("100.127.255.255", C::SharedNat),
            ("100.128.0.0", C::Public),
            ("126.255.255.255", C::Public),
            ("127.0.0.1", C::Loopback),
            ("127.255.255.254", C::Loopback),
            ("128.0.0.0", C::Public),
            ("168.63.129.16", C::Metadata),
            ("169.253.255.255", C::Public),
            ("169.254.0.1", C::LinkLocal),
            ("169.254.169.254", C::Metadata),
            ("169.254.170.2", C::Metadata),
            ("169.255.0.0", C::Public),
            ("172.15.255.255", C::Public),
            ("172.16.0.0", C::Private),
            ("172.31.255.255", C::Private),
            ("172.32.0.0", C::Public),
            ("192.0.0.1", C::Reserved),
            ("192.0.0.192", C::Metadata),
            ("192.0.1.0", C::Public),
            ("192.0.2.1", C::Reserved),
            ("192.88.99.1", C::Reserved),
            ("192.167.255.255", C::Public),
            ("192.168.0.1", C::Private),
            ("192.169.0.0", C::Public),
            ("198.17.255.255", C::Public),
            ("198.18.0.0", C::Reserved),
            ("198.19.255.255", C::Reserved),
            ("198.20.0.0", C::Public),
            ("198.51.100.7", C::Reserved),
            ("203.0.113.7", C::Reserved),
            ("223.255.255.255", C::Public),
            ("224.0.0.1", C::Multicast),
            ("239.255.255.255", C::Multicast),
            ("240.0.0.0", C::Reserved),
            ("255.255.255.254", C::Reserved),
            ("255.255.255.255", C::Multicast),
            ("::", C::Unspecified),
            ("::1", C::Loopback),
            ("::2", C::Embedded),
            ("::127.0.0.1", C::Embedded),
            ("::ffff:8.8.8.8", C::Embedded),
            ("::ffff:0:127.0.0.1", C::Embedded),
            ("64:ff9b::7f00:1", C::Embedded),
            ("64:ff9b:1::a00:1", C::Embedded),
            ("100::1", C::Reserved),
            ("2001::1", C::Embedded),
            ("2001:2::1", C::Reserved),
            ("2001:1ff::1", C::Reserved),
            ("2001:200::1", C::Public),
            ("2001:db8::1", C::Reserved),
            ("2002:7f00:1::", C::Embedded),
            ("2606:4700::1111", C::Public),
            ("2606:4700::5efe:127.0.0.1", C::Embedded),
            ("2606:4700::200:5efe:a00:1", C::Embedded),
            ("3fff:fff::1", C::Reserved),
            ("3fff:1000::1", C::Public),
            ("4000::1", C::Reserved),
            ("fbff::1", C::Reserved),
            ("fc00::1", C::Private),
            ("fd00:ec2::254", C::Metadata),
            ("fd20:ce::254", C::Metadata),
            ("fdff::1", C::Private),
            ("fe80::1", C::LinkLocal),
            ("febf::1", C::LinkLocal),
            ("fec0::1", C::Private),
            ("ff02::1", C::Multicast),
        ];
        for (text, class) in table {
            assert_eq!(AddressClass::of(text.parse().unwrap()), class, "{text}");
        }
    }
}

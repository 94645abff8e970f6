//! The PROXY protocol: a load balancer sends the address of its client in the first bytes of a connection
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2).
//!
//! The header comes before TLS and before HTTP. Its sender is checked before a byte is read: see
//! [`Listener::trusts`](crate::config::Listener::trusts).

use std::net::SocketAddr;

use bytes::BytesMut;
use memchr::memchr;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;

use crate::stream::Stream;
use crate::telemetry::metrics::ProxyHeaderFault;

/// The beginning of a header of version 1.
const VERSION_1: &[u8] = b"PROXY ";
/// The beginning of a header of version 2.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The position of the length of the rest in version 2.
const LENGTH_AT: usize = 14;
/// The longest header that is accepted, in bytes. The additional fields of real load balancers are far shorter; the
/// protocol allows 64 KiB.
const MAX_HEADER: usize = 4096;
/// The longest header of version 1, in bytes.
const MAX_VERSION_1: usize = 107;

/// Reads the header. Returns the stream behind it and the address of the client. Without an address, the header is about
/// the peer itself: LOCAL (a health check), UNKNOWN, or an address that is not of IP.
pub(super) async fn read(mut stream: Stream) -> Result<(Stream, Option<SocketAddr>), ProxyHeaderFault> {
    let mut buffer = BytesMut::with_capacity(MAX_VERSION_1 * 2);
    loop {
        let read = stream.read_buf(&mut buffer).await.map_err(|_| ProxyHeaderFault::Incomplete)?;
        if read == 0 {
            return Err(ProxyHeaderFault::Incomplete);
        }
        if let Some(header) = parse(&buffer)? {
            let unread = buffer.split_off(header.length).freeze();
            return Ok((stream.rewound(unread), header.source));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    source: Option<SocketAddr>,
    length: usize,
}

/// The header at the beginning of `bytes`; `None` if more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderFault> {
    let Some(header) = whole_header(bytes)? else { return Ok(None) };
    match ProxyHeader::parse(header, ParseConfig::default()) {
        Ok((parsed, length)) if length == header.len() && parsed.tlvs().all(|field| field.is_ok()) => {
            let address = parsed.proxied_address();
            if address.is_some_and(|address| address.protocol != Protocol::Stream) {
                return Err(ProxyHeaderFault::Malformed);
            }
            Ok(Some(Header { source: address.map(|address| address.source), length }))
        }
        Ok(_) | Err(_) => Err(ProxyHeaderFault::Malformed),
    }
}

/// The bytes of the header, if all of them are there. The parser alone cannot tell a header that is incomplete from one
/// that is too short for its content.
fn whole_header(bytes: &[u8]) -> Result<Option<&[u8]>, ProxyHeaderFault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if begins(VERSION_1) {
        let line = bytes.get(..MAX_VERSION_1).unwrap_or(bytes);
        return match memchr(b'\n', line) {
            Some(end) => Ok(line.get(..=end)),
            None if line.len() == MAX_VERSION_1 => Err(ProxyHeaderFault::TooLong),
            None => Ok(None),
        };
    }
    if !begins(VERSION_2) {
        return Err(ProxyHeaderFault::Missing);
    }
    let announced = bytes.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
    let Some(announced) = announced.copied().map(u16::from_be_bytes) else { return Ok(None) };
    match LENGTH_AT + 2 + usize::from(announced) {
        length if length > MAX_HEADER => Err(ProxyHeaderFault::TooLong),
        length => Ok(bytes.get(..length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, Tlv};
    use tokio::io::AsyncWriteExt;

    fn header(text: &[u8]) -> Result<Option<Header>, ProxyHeaderFault> {
        parse(text)
    }

    fn source(address: &str) -> Option<SocketAddr> {
        Some(address.parse().unwrap())
    }

    /// Version 2: command, family with transport, and what follows the length.
    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [VERSION_2, &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0xc3, 0x50, 0x1f, 0x6b];

    #[test]
    fn headers_of_both_versions_name_the_client_or_the_peer_itself() {
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[1], &[0; 16], &[0xc3, 0x50, 0x1f, 0x6b]].concat();
        let with_field = [&V4[..], &[0xea, 0, 3, 1, 2, 3]].concat();
        let cases: &[(&[u8], Option<SocketAddr>)] = &[
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 50000 8043\r\n", source("192.0.2.1:50000")),
            (b"PROXY TCP6 2001:db8::1 ::1 50000 8043\r\n", source("[2001:db8::1]:50000")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
            (&version_2(0x21, 0x11, &V4), source("192.0.2.1:50000")),
            (&version_2(0x21, 0x11, &with_field), source("192.0.2.1:50000")),
            (&version_2(0x21, 0x21, &v6), source("[2001:db8::1]:50000")),
            (&version_2(0x20, 0x00, &[]), None),
            (&version_2(0x20, 0x11, &V4), None),
            (&version_2(0x21, 0x00, &[]), None),
            (&version_2(0x21, 0x31, &[b'/'; 216]), None),
        ];
        for (bytes, source) in cases {
            let expected = Header { source: *source, length: bytes.len() };
            assert_eq!(header(bytes), Ok(Some(expected)), "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn an_invalid_header_is_refused() {
        let bad_field = [&V4[..], &[0xea, 0, 9, 1]].concat();
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(120));
        let cases: &[(&[u8], ProxyHeaderFault)] = &[
            (b"GET / HTTP/1.1\r\n", ProxyHeaderFault::Missing),
            (b"\x16\x03\x01", ProxyHeaderFault::Missing),
            (b"proxy TCP4 ", ProxyHeaderFault::Missing),
            (b"\r\n\r\nGET", ProxyHeaderFault::Missing),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 50000\r\n", ProxyHeaderFault::Malformed),
            (b"PROXY TCP4 192.0.2.256 10.0.0.1 50000 8043\r\n", ProxyHeaderFault::Malformed),
            (b"PROXY TCP4 2001:db8::1 ::1 50000 8043\r\n", ProxyHeaderFault::Malformed),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 70000 8043\r\n", ProxyHeaderFault::Malformed),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 50000 8043\r\n", ProxyHeaderFault::Malformed),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 50000 8043\rX\n", ProxyHeaderFault::Malformed),
            (long.as_bytes(), ProxyHeaderFault::TooLong),
            (&version_2(0x21, 0x12, &V4), ProxyHeaderFault::Malformed),
            (&version_2(0x22, 0x11, &V4), ProxyHeaderFault::Malformed),
            (&version_2(0x11, 0x11, &V4), ProxyHeaderFault::Malformed),
            (&version_2(0x21, 0x11, &V4[..8]), ProxyHeaderFault::Malformed),
            (&version_2(0x21, 0x41, &V4), ProxyHeaderFault::Malformed),
            (&version_2(0x21, 0x11, &bad_field), ProxyHeaderFault::Malformed),
            (&version_2(0x21, 0x11, &[0; MAX_HEADER]), ProxyHeaderFault::TooLong),
        ];
        for (bytes, fault) in cases {
            assert_eq!(header(bytes), Err(*fault), "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_header_that_is_too_long_is_refused_when_its_length_is_known() {
        let announced = version_2(0x21, 0x11, &[0; MAX_HEADER]);
        assert_eq!(header(&announced[..LENGTH_AT + 2]), Err(ProxyHeaderFault::TooLong));
    }

    #[tokio::test]
    async fn the_end_of_the_connection_within_the_header_is_a_fault() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(b"PROXY TCP4 192.").await.unwrap();
        drop(ours);
        assert_eq!(read(Stream::Memory(theirs)).await.unwrap_err(), ProxyHeaderFault::Incomplete);
    }

    /// Headers as a load balancer writes them.
    fn written() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
        let address = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
        let same_family =
            (address.clone(), address).prop_filter("one family", |(one, other)| one.is_ipv4() == other.is_ipv4());
        let fields = proptest::collection::vec(any::<u8>(), 0..200);
        (any::<bool>(), proptest::option::of(same_family), fields).prop_map(|(first_version, addresses, field)| {
            let mut header = match addresses {
                Some((source, destination)) => ProxyHeader::with_address(ProxiedAddress::stream(source, destination)),
                None => ProxyHeader::with_local(),
            };
            let mut bytes = vec![0; MAX_HEADER];
            let length = if first_version {
                header.encode_to_slice_v1(&mut bytes).unwrap()
            } else {
                header.append_tlv(Tlv::Custom(0xea, field.into()));
                header.encode_to_slice_v2(&mut bytes).unwrap()
            };
            bytes.truncate(length);
            (bytes, addresses.map(|(source, _)| source))
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            for begin in [VERSION_1, VERSION_2] {
                let _ = parse(&[begin, &bytes].concat());
            }
        }

        #[test]
        fn every_part_of_a_header_waits_for_the_rest((bytes, source) in written(), behind in "[A-Z ]{0,20}") {
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None), "{} of {}", end, bytes.len());
            }
            let expected = Header { source, length: bytes.len() };
            prop_assert_eq!(parse(&[&bytes, behind.as_bytes()].concat()), Ok(Some(expected)));
        }
    }

    #[tokio::test]
    async fn what_follows_the_header_is_read_next_however_it_arrives() {
        let sent = [&version_2(0x21, 0x11, &V4), &b"GET /"[..]].concat();
        for piece in [1, 7, 16, sent.len()] {
            let (mut ours, theirs) = tokio::io::duplex(piece);
            let sent = sent.clone();
            let write = async move { ours.write_all(&sent).await.unwrap() };
            let read = async {
                let (mut stream, source) = read(Stream::Memory(theirs)).await.unwrap();
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                (source, rest)
            };
            let ((), (found, rest)) = tokio::join!(write, read);
            assert_eq!((found, rest.as_str()), (source("192.0.2.1:50000"), "GET /"), "{piece}");
        }
    }
}

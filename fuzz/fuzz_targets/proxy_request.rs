//! A request to the proxy is read in one way only: what is sent on reads as what was understood, and as nothing more.

#![no_main]

use abca_core::egress::{BadRequest, Framing, Head, Host, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Inside a tunnel a request is for the tunnel's host, and a credential stands in it once.
    let host = Host::Name("a.b".to_owned());
    if let Ok(Some((head, _))) = Head::parse_inside(data, &host, 443) {
        assert_eq!((&head.host, head.port), (&host, 443));
        let sent = head.rewritten_with(Some(("authorization", "Bearer secret")));
        let sent = String::from_utf8_lossy(&sent).to_ascii_lowercase();
        assert_eq!(sent.matches("\r\nauthorization:").count(), 1);
        assert_eq!(sent.matches("\r\nhost:").count(), 1);
    }
    let Ok(Some((head, used))) = Head::parse(data) else { return };
    // It ends where it ends, whatever follows; and it is not taken for whole before.
    assert_eq!(Head::parse(&data[..used]), Ok(Some((head.clone(), used))));
    assert_eq!(Head::parse(&data[..used - 1]), Ok(None));
    let Kind::Forward { method, path } = &head.kind else {
        assert!(head.rewritten().is_empty());
        return;
    };
    let sent = head.rewritten();
    // One head: line ends are `\r\n`, the empty line is the last one.
    assert_eq!(sent.windows(4).position(|at| at == b"\r\n\r\n"), Some(sent.len() - 4));
    let bare = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || sent[at - 1] != b'\r',
        b'\r' => sent.get(at + 1) != Some(&b'\n'),
        0 => true,
        _ => false,
    };
    assert!(!sent.iter().enumerate().any(bare));
    let lines: Vec<&[u8]> = sent[..sent.len() - 4].split(|b| *b == b'\n').map(|line| line.trim_ascii_end()).collect();
    let named = |name: &str| {
        let starts =
            |line: &&&[u8]| line.split(|b| *b == b':').next().is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()));
        lines[1..].iter().filter(starts).count()
    };
    assert_eq!((named("host"), named("connection")), (1, 1));
    assert!(named("content-length") + named("transfer-encoding") <= 1);
    for own in ["proxy-authorization", "proxy-connection", "te", "upgrade", "trailer", "keep-alive"] {
        assert_eq!(named(own), 0, "{own}");
    }
    // Read again, it is the same.
    let host = if head.port == 80 { head.host.to_string() } else { format!("{}:{}", head.host, head.port) };
    let first = format!("{method} {path} HTTP/1.1");
    assert_eq!(lines[0], first.as_bytes());
    let mut again = format!("{method} http://{host}{path} HTTP/1.1").into_bytes();
    again.extend_from_slice(&sent[first.len()..]);
    let (read, end) = match Head::parse(&again) {
        // A head at the limit is sent on with one or two fields more.
        Err(BadRequest::Fields) => return,
        read => read.expect("what is sent on is well-formed").expect("and whole"),
    };
    assert_eq!(end, again.len());
    assert_eq!(read, head);
    assert!(matches!(read.framing, Framing::Length(_) | Framing::Chunked));
});

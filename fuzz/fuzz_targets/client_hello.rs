//! A tunnel's beginning is read in one way only, however it is cut into records and pieces.

#![no_main]

use abca_core::egress::{ClientHello, HelloRefusal, Host, MAX_HELLO_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As bytes of a tunnel.
    let whole = ClientHello::parse(data);
    for end in 0..data.len() {
        match ClientHello::parse(&data[..end]) {
            Ok(None) => {}
            // What is known early does not change.
            early => assert_eq!(early, whole, "{end}"),
        }
    }
    if let Ok(Some(hello)) = &whole {
        check(hello);
    }
    // As a message, in one record and in many.
    let Some((piece, message)) = data.split_first() else { return };
    if message.is_empty() || message.len() * 6 > MAX_HELLO_BYTES {
        return;
    }
    let piece = usize::from(*piece).max(1);
    let one = ClientHello::parse(&records(message, message.len()));
    let many = ClientHello::parse(&records(message, piece));
    match (&one, &many) {
        // A second message that follows the hello in its record is refused, in records of its own it is not looked at.
        (Err(HelloRefusal::Malformed), Ok(Some(_))) => {}
        _ => assert_eq!(one, many),
    }
    if let Ok(Some(hello)) = &one {
        check(hello);
    }
});

fn records(message: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in message.chunks(piece) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&(part.len() as u16).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn check(hello: &ClientHello) {
    let Some(name) = &hello.server_name else { return };
    let host = Host::parse(name).expect("a name inside TLS is a host's");
    assert_eq!(&host.to_string(), name);
    assert!(hello.encrypted || hello.judge(&host).is_ok());
    assert!(hello.judge(&Host::Name("other.example".to_owned())).is_err() || name == "other.example");
}

//! A server that lies: the brain neither believes it, nor panics, nor waits for ever.

use abca::session::hands::{Client, ExecRequest, HandsConfig, HandsError, HandsErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn frame(head: &str, body: &[u8]) -> Vec<u8> {
    let mut out = (head.len() as u32).to_be_bytes().to_vec();
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(head.as_bytes());
    out.extend(body);
    out
}

const READY: &str = r#"{"id":1,"reply":{"ready":{"protocol":1,"pid":1,"shell":"sh"}}}"#;

/// A connection to a server that says hello, then takes one call and says what it is given.
async fn with(says: Vec<u8>) -> Result<(), HandsError> {
    let (brain, hands) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(async move {
        let mut hands = hands;
        take_call(&mut hands).await;
        hands.write_all(&frame(READY, b"")).await.unwrap();
        take_call(&mut hands).await;
        // The brain may hang up amid it.
        let _ = hands.write_all(&says).await;
    });
    let (from, to) = tokio::io::split(brain);
    let client = Client::connect(from, to, &HandsConfig::new("/")).await?;
    let done = client.exec(ExecRequest::shell("true"), |_| {}).await;
    server.await.unwrap();
    done.map(|_| ())
}

async fn take_call(from: &mut DuplexStream) {
    let len = from.read_u32().await.unwrap() + from.read_u32().await.unwrap();
    from.read_exact(&mut vec![0; len as usize]).await.unwrap();
}

#[tokio::test]
async fn lies_are_typed_errors() {
    use HandsErrorKind::{Died, Protocol, Refused};
    let exit = r#"{"id":2,"reply":{"exit":{"end":{"exited":0},"stdout":{"head":9,"tail":0,"total_bytes":9},"stderr":{"head":0,"tail":0,"total_bytes":0},"duration_ms":1,"killed_leftovers":false}}}"#;
    let huge = exit.replace("9", "18446744073709551615");
    let strangers =
        [frame(r#"{"id":99,"reply":"done"}"#, b""), frame(r#"{"id":0,"reply":{"output":{"skipped_bytes":1}}}"#, b"x")];
    let table = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Protocol),
        ("noise", (0..4_096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(), Protocol),
        ("a huge length", [0xff; 8].to_vec(), Protocol),
        ("a length and no more", frame(READY, b"")[..20].to_vec(), Died),
        ("silence and the end", Vec::new(), Died),
        ("no JSON", frame("{", b""), Protocol),
        ("no such reply", frame(r#"{"id":2,"reply":"shrug"}"#, b""), Protocol),
        ("another call's reply", frame(r#"{"id":2,"reply":"done"}"#, b""), Protocol),
        ("lengths that lie", frame(exit, b"short"), Protocol),
        ("lengths beyond reason", frame(&huge, b""), Protocol),
        ("deep JSON", frame(&"[".repeat(100_000), b""), Protocol),
        ("strangers, then the end", strangers.concat(), Died),
        ("a refusal", frame(r#"{"id":2,"reply":{"failed":{"message":"no"}}}"#, b""), Refused),
    ];
    for (what, says, want) in table {
        let got = with(says).await.map_err(|e| e.kind());
        assert_eq!(got, Err(want), "{what}");
    }
    let strangers = strangers.concat();
    assert_eq!(with([strangers, frame(exit, b"nine byte")].concat()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_unresponsive() {
    let (brain, mut hands) = tokio::io::duplex(1 << 16);
    let (from, to) = tokio::io::split(brain);
    let server = tokio::spawn(async move {
        take_call(&mut hands).await;
        hands.write_all(&frame(READY, b"")).await.unwrap();
        hands
    });
    let client = Client::connect(from, to, &HandsConfig::new("/")).await.unwrap();
    let _still_open = server.await.unwrap();
    for done in [client.exec(ExecRequest::shell("true"), |_| {}).await.map(|_| ()), client.ping().await] {
        assert_eq!(done.unwrap_err().kind(), HandsErrorKind::Unresponsive);
    }
    assert_eq!(client.death(), None);
}

#[tokio::test]
async fn a_flood_of_live_output_does_not_pile_up() {
    let (brain, hands) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(async move {
        let mut hands = hands;
        take_call(&mut hands).await;
        hands.write_all(&frame(READY, b"")).await.unwrap();
        take_call(&mut hands).await;
        let chunk = frame(r#"{"id":2,"reply":{"output":{"skipped_bytes":0}}}"#, &[b'x'; 1 << 20]);
        for _ in 0..200 {
            hands.write_all(&chunk).await.unwrap();
        }
    });
    let (from, to) = tokio::io::split(brain);
    let client = Client::connect(from, to, &HandsConfig::new("/")).await.unwrap();
    let e = client.exec(ExecRequest::shell("true"), |chunk| assert_eq!(chunk.bytes.len(), 1 << 20)).await.unwrap_err();
    server.await.unwrap();
    assert_eq!(e.kind(), HandsErrorKind::Died);
}

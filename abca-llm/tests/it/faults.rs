//! What providers, proxies and networks do wrong, over the wire.

use std::time::Duration;

use abca_core::Millis;
use abca_core::model::{
    Message, ModelClient, ModelClientExt, ModelError, ModelErrorKind, ModelRequest, Role, StopReason,
};
use abca_core::testing::model::Step;
use abca_llm::{Anthropic, AnthropicConfig, HttpConfig, OpenAi, OpenAiConfig};
use serde_json::json;

use crate::server::{Answer, Server, plain, streamed};
use crate::wires::{KEY, chat_body, message_events, sse};

fn request() -> ModelRequest {
    ModelRequest {
        model: "m".into(),
        system: "s".into(),
        messages: vec![Message::text(Role::User, "x")],
        tools: vec![],
        max_output_tokens: 9,
        cache: true,
    }
}

async fn serve(answers: Vec<Answer>) -> Server {
    Server::start(answers, Box::new(|_| None)).await
}

fn anthropic(server: &Server) -> Anthropic {
    Anthropic::new(AnthropicConfig::new(KEY).base_url(&server.url)).unwrap()
}

fn openai(server: &Server) -> OpenAi {
    OpenAi::new(OpenAiConfig::new(KEY).base_url(format!("{}/v1", server.url))).unwrap()
}

/// The error of one call, which shows no key.
async fn error(answer: Answer) -> ModelError {
    let server = serve(vec![answer.clone(), answer]).await;
    let (a, o) = (anthropic(&server).complete(&request()).await, openai(&server).complete(&request()).await);
    let (a, o) = (a.unwrap_err(), o.unwrap_err());
    assert_eq!(a.kind(), o.kind(), "{a} / {o}");
    for e in [&a, &o] {
        let all = format!("{e} {e:?}");
        assert!(!all.contains(KEY), "{all}");
    }
    a
}

#[tokio::test]
async fn statuses_have_their_kinds_and_say_what_to_do() {
    use ModelErrorKind as K;
    let html = |status| plain(status, "text/html", &[], b"<html>nginx</html>");
    for (status, kind, words) in [
        (401, K::Access, "check the api key"),
        (403, K::Access, "check the account"),
        (404, K::BadRequest, "check the base url"),
        (408, K::TimedOut, "408"),
        (413, K::ContextTooLong, "413"),
        (429, K::Throttled, "429"),
        (500, K::Overloaded, "nginx"),
        (502, K::Overloaded, "502"),
        (529, K::Overloaded, "529"),
    ] {
        let e = error(html(status)).await;
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(words), "{e}");
    }
}

#[tokio::test]
async fn an_echoed_key_is_scrubbed() {
    let body =
        json!({"error": {"type": "authentication_error", "message": format!("Incorrect API key provided: {KEY}.")}});
    let e = error(plain(401, "application/json", &[], body.to_string().as_bytes())).await;
    assert!(e.to_string().contains("Incorrect API key provided: [redacted]"), "{e}");
}

#[tokio::test]
async fn waits_as_a_date_and_in_milliseconds() {
    let date = [("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
    assert_eq!(error(plain(429, "application/json", &date, b"{}")).await.retry_after, Some(Millis(30_000)));
    let ms = [("retry-after-ms", "1500"), ("retry-after", "2")];
    assert_eq!(error(plain(503, "application/json", &ms, b"{}")).await.retry_after, Some(Millis(1500)));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = serve(vec![]).await;
    let to = [("location", target.url.as_str())];
    let e = error(plain(307, "text/plain", &to, b"")).await;
    assert_eq!(e.kind(), ModelErrorKind::Config);
    assert!(e.to_string().contains("redirects are not followed"), "{e}");
    assert_eq!(target.captured().len(), 0);
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    use ModelErrorKind as K;
    let stream = "text/event-stream";
    assert_eq!(error(plain(200, "text/html", &[], b"<html>login</html>")).await.kind(), K::Malformed);
    assert_eq!(error(plain(200, "application/json", &[], b"{\"id\": 1}")).await.kind(), K::Malformed);
    let hidden = br#"{"error": {"type": "overloaded_error", "message": "busy"}}"#;
    assert_eq!(error(plain(200, "application/json", &[], hidden)).await.kind(), K::Overloaded);
    assert_eq!(error(streamed(stream, b"\x00\xff garbage \r\r\r", 5, false)).await.kind(), K::Network);
    assert_eq!(error(streamed(stream, b"data: garbage\n\n", 5, false)).await.kind(), K::Malformed);
    assert_eq!(error(streamed(stream, b"", 5, false)).await.kind(), K::Network);
    assert_eq!(error(Answer::Bytes(vec![b"HTTP/9.9 nonsense\r\n\r\n".to_vec()])).await.kind(), K::Network);
    assert_eq!(error(Answer::Bytes(vec![])).await.kind(), K::Network);
    let endless = [b"data: ".as_slice(), &vec![b'x'; 17 * 1024 * 1024]].concat();
    assert_eq!(error(streamed(stream, &endless, 1 << 20, false)).await.kind(), K::Malformed);
}

#[tokio::test]
async fn nobody_listens() {
    let server = serve(vec![]).await;
    let url = server.url.replace("127.0.0.1", "127.0.0.2"); // Nothing there.
    let e = Anthropic::new(AnthropicConfig::new(KEY).base_url(url)).unwrap().complete(&request()).await.unwrap_err();
    assert_eq!(e.kind(), ModelErrorKind::Network);
    assert!(e.to_string().contains("cannot connect"), "{e}");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let silent = serve(vec![Answer::Silence]).await;
    let http = HttpConfig { idle_timeout: Duration::from_millis(50), ..HttpConfig::default() };
    let client = Anthropic::new(AnthropicConfig::new(KEY).base_url(&silent.url).http(http)).unwrap();
    assert_eq!(client.complete(&request()).await.unwrap_err().kind(), ModelErrorKind::TimedOut);
}

#[tokio::test]
async fn every_byte_a_chunk_of_its_own() {
    let Step::Reply(reply) = Step::tool("call_1", "Bash", json!({"command": "écho 🧪"})) else { unreachable!() };
    let stream = "text/event-stream";
    let server = serve(vec![
        streamed(stream, &sse(&message_events(&reply)), 1, false),
        streamed(stream, &chat_body(&reply).unwrap(), 1, false),
    ])
    .await;
    assert_eq!(anthropic(&server).complete(&request()).await.unwrap(), reply);
    assert_eq!(openai(&server).complete(&request()).await.unwrap(), reply);
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_an_error() {
    let Step::Reply(reply) = Step::text("it is done") else { unreachable!() };
    let body = sse(&message_events(&reply));
    // Not the last newline: without it the last event has no end, with it the answer is whole.
    let cuts: Vec<usize> = (0..body.len()).step_by(7).chain([body.len() - 1]).collect();
    for clean in [true, false] {
        let answers = cuts.iter().map(|at| streamed("text/event-stream", &body[..*at], 1_000, !clean)).collect();
        let server = serve(answers).await;
        let client = anthropic(&server);
        for at in &cuts {
            let e = client.complete(&request()).await.unwrap_err();
            assert_eq!(e.kind(), ModelErrorKind::Network, "cut at {at}: {e}");
        }
    }
}

#[tokio::test]
async fn an_old_server_without_usage_and_end_mark_is_estimated() {
    let body = sse(&[json!({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]})]);
    let server = serve(vec![streamed("text/event-stream", &body, 1_000, false)]).await;
    let client = openai(&server);
    let reply = client.complete(&request()).await.unwrap();
    assert_eq!((reply.text().as_str(), reply.stop, client.estimated_calls()), ("hello", StopReason::EndTurn, 1));
    assert!(reply.usage.input_tokens > 0 && reply.usage.output_tokens > 0);
    let sent = &server.captured()[0].json();
    assert_eq!((sent["max_tokens"].as_u64(), sent.get("max_completion_tokens")), (Some(9), None));
}

#[tokio::test]
async fn extra_headers_are_sent_and_secret() {
    let Step::Reply(reply) = Step::text("ok") else { unreachable!() };
    let server = serve(vec![streamed("text/event-stream", &sse(&message_events(&reply)), 1_000, false)]).await;
    let http = HttpConfig {
        extra_headers: vec![("x-team".into(), "a-secret-team".to_owned().into())],
        ..HttpConfig::default()
    };
    let config = AnthropicConfig::new(KEY).base_url(format!("{}/v1/", server.url)).http(http);
    let shown = format!("{config:?}");
    let client = Anthropic::new(config).unwrap();
    let shown = format!("{shown} {client:?}");
    assert!(!shown.contains(KEY) && !shown.contains("a-secret-team"), "{shown}");
    client.complete(&request()).await.unwrap();
    assert_eq!(server.captured()[0].header("x-team"), Some("a-secret-team"));
    assert_eq!(server.captured()[0].path, "/v1/messages");
}

#[tokio::test]
async fn configurations_that_cannot_work() {
    let config = |c: Result<Anthropic, ModelError>| {
        let e = c.unwrap_err();
        assert_eq!(e.kind(), ModelErrorKind::Config);
        e.to_string()
    };
    assert!(config(Anthropic::new(AnthropicConfig::default())).contains("ANTHROPIC_API_KEY"));
    for url in ["", "nonsense", "ftp://x", "http://user:pw@x"] {
        let words = config(Anthropic::new(AnthropicConfig::new(KEY).base_url(url)));
        assert!(words.contains("base url") && !words.contains("pw"), "{words}");
    }
    let e = config(Anthropic::new(AnthropicConfig::new("bad\nkey-value")));
    assert!(!e.contains("key-value"), "{e}");
    assert!(OpenAi::new(OpenAiConfig::default()).unwrap_err().to_string().contains("OPENAI_API_KEY"));
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let closed = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(socket.read(&mut buffer).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head).await.unwrap();
        while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let client = Anthropic::new(AnthropicConfig::new(KEY).base_url(url)).unwrap();
    let stream = client.stream(&request()).await.unwrap();
    drop(stream);
    closed.await.unwrap();
}

//! Bedrock's ApplyGuardrail against a loopback server with its wire format: pieces, masks, images, faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use abca_core::guardrail::{
    Assessment, Confidence, Guardrail, GuardrailAction, GuardrailError, GuardrailErrorKind, GuardrailInput,
    GuardrailOutcome, GuardrailStage, ImageFormat,
};
use abca_core::testing::SeededIds;
use abca_core::testing::guardrail::{GuardrailHarness, run};
use abca_llm::{AwsKeys, BedrockConfig, BedrockGuardrail, BedrockGuardrailConfig};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::server::{Answer, Captured, Server, plain};

const SECRET: &str = "FABRICATED-secret-access-key";
const FORBIDDEN: &str = "buy the forbidden stock";
const EMAIL: &str = "jane@example.org";
/// What the service of these tests takes at once.
const MOST_CHARS: usize = 25_000;

fn config(url: &str) -> BedrockGuardrailConfig {
    let keys =
        AwsKeys { access_key_id: "AKIAFABRICATED".to_owned(), secret_access_key: SECRET.into(), session_token: None };
    let mut bedrock = BedrockConfig::region("eu-west-1").endpoint_url(url).keys(keys);
    bedrock.idle_timeout = Duration::from_secs(20);
    let mut config = BedrockGuardrailConfig::new("gr1abc", "3").bedrock(bedrock);
    config.first_wait = Duration::from_millis(1);
    config
}

async fn connect(config: BedrockGuardrailConfig) -> BedrockGuardrail {
    BedrockGuardrail::connect(config, Arc::new(SeededIds::new(1))).await.unwrap()
}

fn answer(body: Value) -> Answer {
    plain(200, "application/json", &[], body.to_string().as_bytes())
}

fn error(status: u16, class: &str, message: &str) -> Answer {
    let body = json!({ "message": message }).to_string();
    plain(status, "application/json", &[("x-amzn-errortype", class)], body.as_bytes())
}

fn usage() -> Value {
    json!({"topicPolicyUnits": 1, "contentPolicyUnits": 1, "wordPolicyUnits": 0, "sensitiveInformationPolicyUnits": 1,
           "sensitiveInformationPolicyFreeUnits": 0, "contextualGroundingPolicyUnits": 0})
}

fn clean() -> Answer {
    answer(json!({"usage": usage(), "action": "NONE", "outputs": [], "assessments": [{}]}))
}

/// The text of a call.
fn sent(request: &Captured) -> String {
    request.json()["content"][0]["text"]["text"].as_str().unwrap().to_owned()
}

/// Judges as a guardrail with a denied topic and masked e-mail addresses does.
fn service(request: &Captured) -> Answer {
    assert_eq!(request.path, "/guardrail/gr1abc/version/3/apply");
    assert!(request.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIAFABRICATED/"));
    let body = request.json();
    assert_eq!((&body["source"], body["content"].as_array().unwrap().len()), (&json!("INPUT"), 1));
    let text = sent(request);
    assert!(!text.is_empty(), "the service refuses empty texts");
    if text.chars().count() > MOST_CHARS {
        return error(400, "ValidationException", "Input is too long: the maximum is 25 text units.");
    }
    if text.contains(FORBIDDEN) {
        return answer(json!({
            "usage": usage(), "action": "GUARDRAIL_INTERVENED", "actionReason": "Guardrail blocked.",
            "outputs": [{"text": "Sorry, I cannot help with that."}],
            "assessments": [{"topicPolicy": {"topics": [{"name": "Stocks", "type": "DENY", "action": "BLOCKED", "detected": true}]}}]
        }));
    }
    if text.contains(EMAIL) {
        return answer(json!({
            "usage": usage(), "action": "GUARDRAIL_INTERVENED", "actionReason": "Guardrail masked.",
            "outputs": [{"text": text.replace(EMAIL, "{EMAIL}")}],
            "assessments": [{"sensitiveInformationPolicy": {
                "piiEntities": [{"type": "EMAIL", "match": EMAIL, "action": "ANONYMIZED", "detected": true}], "regexes": []
            }}],
            "guardrailCoverage": {"textCharacters": {"guarded": text.len(), "total": text.len()}}
        }));
    }
    clean()
}

async fn good_service() -> Server {
    Server::start(Vec::new(), Box::new(|request| Some(service(request)))).await
}

fn nudge(text: &str) -> GuardrailInput {
    GuardrailInput::new(GuardrailStage::Nudge).text("message", text)
}

struct Judged {
    server: Server,
    piece: usize,
}

#[async_trait]
impl GuardrailHarness for Judged {
    async fn guardrail(&self) -> Arc<dyn Guardrail> {
        Arc::new(connect(config(&self.server.url).pieces(self.piece, 1_000)).await)
    }
    fn blocked(&self, _: GuardrailStage) -> Option<String> {
        Some(FORBIDDEN.to_owned())
    }
    fn masked(&self, _: GuardrailStage) -> Option<String> {
        Some(EMAIL.to_owned())
    }
    fn cuts(&self) -> Vec<usize> {
        vec![self.piece - 1_000, self.piece, 2 * self.piece - 1_000]
    }
}

#[tokio::test]
async fn it_conforms() {
    run(&Judged { server: good_service().await, piece: 24_000 }).await;
}

#[tokio::test]
async fn a_text_is_cut_within_the_limit_with_an_overlap_and_covered_whole() {
    let server = good_service().await;
    let text: String = (0..12_000).map(|n| format!("{n:05}é")).collect();
    let verdict = connect(config(&server.url)).await.check(&nudge(&text)).await.unwrap();
    assert_eq!(verdict.outcome, GuardrailOutcome::Allow);
    let pieces: Vec<String> = server.captured().iter().map(sent).collect();
    let sizes: Vec<usize> = pieces.iter().map(|p| p.chars().count()).collect();
    assert_eq!(sizes, [24_000, 24_000, 24_000, 3_000]);
    let tail = |p: &str| p.chars().skip(p.chars().count() - 1_000).collect::<String>();
    let whole = pieces[1..].iter().fold((pieces[0].clone(), tail(&pieces[0])), |(all, shared), next| {
        let rest = next.strip_prefix(shared.as_str()).expect("neighbours share a thousand characters");
        (all + rest, tail(next))
    });
    assert_eq!(whole.0, text);
}

#[tokio::test]
async fn a_piece_that_is_too_large_for_this_account_is_made_smaller_and_nothing_is_missed() {
    let server = good_service().await;
    let guardrail = connect(config(&server.url).pieces(90_000, 1_000)).await;
    let text = format!("{} {FORBIDDEN} {}", "a".repeat(22_000), "b".repeat(70_000));
    assert_eq!(guardrail.check(&nudge(&text)).await.unwrap().outcome, GuardrailOutcome::Block);
    let sizes: Vec<usize> = server.captured().iter().map(|r| sent(r).chars().count()).collect();
    assert_eq!(sizes, [90_000, 45_000, 22_500]);
}

#[tokio::test]
async fn what_it_found_is_told_without_a_word_of_it() {
    let body = json!({
        "usage": usage(), "action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "no"}],
        "assessments": [{
            "contentPolicy": {"filters": [
                {"type": "PROMPT_ATTACK", "confidence": "HIGH", "filterStrength": "MEDIUM", "action": "BLOCKED", "detected": true},
                {"type": "INSULTS", "confidence": "LOW", "filterStrength": "LOW", "action": "NONE", "detected": true},
                {"type": "HATE", "confidence": "LOW", "filterStrength": "LOW", "action": "NONE", "detected": false}
            ]},
            "wordPolicy": {
                "customWords": [{"match": "hushhush", "action": "BLOCKED", "detected": true}],
                "managedWordLists": [{"match": "hushhush", "type": "PROFANITY", "action": "NONE"}]
            },
            "sensitiveInformationPolicy": {
                "piiEntities": [{"type": "PASSWORD", "match": "hushhush", "action": "BLOCKED"}],
                "regexes": [{"name": "ticket", "regex": "T-[0-9]+", "match": "hushhush", "action": "ANONYMIZED"}]
            }
        }]
    });
    let server = Server::start(vec![answer(body)], Box::new(|_| None)).await;
    let verdict = connect(config(&server.url)).await.check(&nudge("it is hushhush")).await.unwrap();
    assert_eq!(verdict.outcome, GuardrailOutcome::Block);
    assert!(!format!("{verdict:?}").contains("hushhush"));
    let found = |policy: &str, category: &str, confidence, action| Assessment {
        subject: "message".to_owned(),
        policy: policy.to_owned(),
        category: category.to_owned(),
        confidence,
        action,
        count: 1,
        first_at: None,
    };
    use GuardrailAction::{Blocked, Masked, Observed};
    let want = [
        found("content", "PROMPT_ATTACK", Some(Confidence::High), Blocked),
        found("word", "custom", None, Blocked),
        found("pii", "PASSWORD", None, Blocked),
        found("regex", "ticket", None, Masked),
        found("content", "INSULTS", Some(Confidence::Low), Observed),
        found("word", "PROFANITY", None, Observed),
    ];
    assert_eq!(verdict.assessments, want);
}

#[tokio::test]
async fn what_is_not_understood_blocks() {
    let unknown = [
        json!({"usage": usage(), "action": "GUARDRAIL_INTERVENED", "outputs": [], "assessments": []}),
        json!({"usage": usage(), "action": "QUARANTINED", "outputs": [], "assessments": []}),
        json!({"usage": usage(), "action": "NONE", "outputs": [], "assessments": [
            {"topicPolicy": {"topics": [{"name": "T", "type": "DENY", "action": "QUARANTINED"}]}}]}),
        json!({"usage": usage(), "action": "GUARDRAIL_INTERVENED", "outputs": [], "assessments": [
            {"sensitiveInformationPolicy": {"regexes": [], "piiEntities": [{"type": "NAME", "match": "x", "action": "ANONYMIZED"}]}}]}),
    ];
    for body in unknown {
        let server = Server::start(vec![answer(body.clone())], Box::new(|_| None)).await;
        let verdict = connect(config(&server.url)).await.check(&nudge("x")).await.unwrap();
        assert_eq!(verdict.outcome, GuardrailOutcome::Block, "{body}");
    }
}

#[tokio::test]
async fn what_was_not_all_judged_is_told() {
    let body = json!({"usage": usage(), "action": "NONE", "outputs": [], "assessments": [],
                      "guardrailCoverage": {"textCharacters": {"guarded": 2, "total": 9}}});
    let server = Server::start(vec![answer(body)], Box::new(|_| None)).await;
    let verdict = connect(config(&server.url)).await.check(&nudge("x")).await.unwrap();
    assert_eq!(verdict.outcome, GuardrailOutcome::Allow);
    assert_eq!(verdict.assessments.first().unwrap().rule(), "coverage/not-all-judged");
}

#[tokio::test]
async fn images_are_sent_one_by_one_and_those_it_cannot_judge_are_refused() {
    let blocked = json!({"usage": usage(), "action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "no"}], "assessments": [
        {"contentPolicy": {"filters": [{"type": "VIOLENCE", "confidence": "MEDIUM", "action": "BLOCKED"}]}}]});
    let server = Server::start(vec![clean(), answer(blocked)], Box::new(|_| None)).await;
    let guardrail = connect(config(&server.url)).await;
    let input = |name: &str, format, bytes| GuardrailInput::new(GuardrailStage::Submission).image(name, format, bytes);
    let two = input("a.png", ImageFormat::Png, vec![1, 2, 3]).image("b.jpg", ImageFormat::Jpeg, vec![4]);
    let verdict = guardrail.check(&two).await.unwrap();
    assert_eq!(verdict.summary(), "content/VIOLENCE (medium) in `b.jpg`");
    let content: Vec<Value> = server.captured().iter().map(|r| r.json()["content"].clone()).collect();
    let image = |format: &str, bytes: &str| json!([{"image": {"format": format, "source": {"bytes": bytes}}}]);
    assert_eq!(content, [image("png", "AQID"), image("jpeg", "BA==")]);
    for (bad, words) in [
        (input("a.webp", ImageFormat::Webp, vec![1]), "convert it"),
        (input("a.png", ImageFormat::Png, vec![0; (4 << 20) + 1]), "make it smaller"),
    ] {
        let error = guardrail.check(&bad).await.unwrap_err();
        assert_eq!(error.kind(), GuardrailErrorKind::Refused);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(server.captured().len(), 2, "what is refused is not sent");
}

/// The error of a check that is answered the same whenever it asks, and how often it asks.
async fn fault(with: Answer, text: &str) -> (GuardrailError, usize) {
    let server = Server::start(Vec::new(), Box::new(move |_| Some(with.clone()))).await;
    let mut config = config(&server.url);
    config.attempts = 2;
    let error = connect(config).await.check(&nudge(text)).await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(!said.contains(SECRET) && !said.contains("confidential words"), "{said}");
    (error, server.captured().len())
}

#[tokio::test]
async fn every_fault_has_its_kind_and_says_what_to_do() {
    use GuardrailErrorKind::{Misconfigured, Refused, Throttled, Unavailable};
    let text = "some confidential words";
    let cut = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"action\"".to_vec();
    for (with, kind, calls, words) in [
        (
            error(429, "ThrottlingException", "Rate exceeded"),
            Throttled,
            2,
            "larger quota of text units for guardrails, after 2 calls",
        ),
        (error(400, "ServiceQuotaExceededException", "quota"), Throttled, 2, "larger quota"),
        (plain(429, "text/html", &[], b"<html>"), Throttled, 2, "submit later"),
        (error(500, "InternalServerException", "oops"), Unavailable, 2, "500 InternalServerException: `oops`"),
        (error(503, "ServiceUnavailableException", "down"), Unavailable, 2, "503"),
        (plain(502, "text/html", &[], b"<html>bad gateway</html>"), Unavailable, 2, "502"),
        (Answer::Bytes(vec![cut]), Unavailable, 2, "broken answer"),
        (Answer::Bytes(vec![]), Unavailable, 2, "bedrock"),
        (plain(200, "application/json", &[], b"not json"), Unavailable, 2, "broken answer"),
        (
            error(403, "AccessDeniedException", "not authorized"),
            Misconfigured,
            1,
            "may `bedrock:ApplyGuardrail` on `gr1abc`",
        ),
        (error(403, "UnrecognizedClientException", "bad token"), Misconfigured, 1, "check the credentials"),
        (
            error(404, "ResourceNotFoundException", "no such"),
            Misconfigured,
            1,
            "check the guardrail `gr1abc`, its version `3` and the region",
        ),
        (error(400, "ValidationException", "bad: some confidential words"), Refused, 1, "quote the text"),
        (error(400, "ValidationException", "the source is wrong"), Refused, 1, "`the source is wrong`"),
    ] {
        let shown = format!("{with:?}");
        let (error, asked) = fault(with, text).await;
        assert_eq!((error.kind(), asked), (kind, calls), "{error} of {shown}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn throttling_passes_after_a_wait_and_a_smaller_piece() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let throttled = move |request: &Captured| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        let much = sent(request).chars().count() > 5_000;
        let again = error(429, "ThrottlingException", "Too many text units, please wait before trying again.");
        Some(if much || call % 2 == 1 { again } else { service(request) })
    };
    let server = Server::start(Vec::new(), Box::new(throttled)).await;
    let text = format!("{} {EMAIL} {}", "a".repeat(9_000), "b".repeat(2_000));
    let verdict = connect(config(&server.url)).await.check(&nudge(&text)).await.unwrap();
    assert_eq!(verdict.outcome, GuardrailOutcome::Mask { texts: vec![text.replace(EMAIL, "{EMAIL}")] });
    assert!(calls.load(Ordering::SeqCst) > 4);
}

#[tokio::test]
async fn a_piece_that_was_too_much_for_a_moment_does_not_make_all_that_follow_small() {
    let busy = || error(429, "ThrottlingException", "Too many requests");
    let server = Server::start(vec![busy(), busy(), busy(), clean(), clean(), clean()], Box::new(|_| None)).await;
    let verdict = connect(config(&server.url)).await.check(&nudge(&"a".repeat(55_000))).await.unwrap();
    assert_eq!(verdict.outcome, GuardrailOutcome::Allow);
    let sizes: Vec<usize> = server.captured().iter().map(|r| sent(r).chars().count()).collect();
    assert_eq!(sizes, [24_000, 24_000, 24_000, 12_000, 24_000, 21_000]);
}

#[tokio::test]
async fn a_service_that_is_silent_is_not_waited_for_beyond_the_deadline() {
    let server = Server::start(vec![Answer::Silence], Box::new(|_| None)).await;
    let guardrail = connect(config(&server.url).deadline(Duration::from_millis(50))).await;
    let error = guardrail.check(&nudge("x")).await.unwrap_err();
    assert_eq!(error.kind(), GuardrailErrorKind::Unavailable);
    assert!(error.to_string().contains("silent"), "{error}");
}

#[tokio::test]
async fn a_wait_that_the_service_asks_for_counts_against_the_deadline() {
    let busy =
        plain(429, "application/json", &[("x-amzn-errortype", "ThrottlingException"), ("retry-after", "90")], b"{}");
    let server = Server::start(vec![busy], Box::new(|_| None)).await;
    let error = connect(config(&server.url)).await.check(&nudge("x")).await.unwrap_err();
    assert_eq!((error.kind(), server.captured().len()), (GuardrailErrorKind::Throttled, 1));
}

#[tokio::test]
async fn what_cannot_be_a_guardrail_is_refused_before_anything_is_asked() {
    for (id, version, words) in [
        ("", "1", "is no guardrail"),
        ("GR1", "1", "is no guardrail"),
        ("a/../b", "1", "is no guardrail"),
        ("gr1", "0", "is no version"),
        ("gr1", "", "is no version"),
        ("gr1", "draft", "is no version"),
        ("gr1", "123456789", "is no version"),
    ] {
        let config = BedrockGuardrailConfig::new(id, version);
        let error = BedrockGuardrail::connect(config, Arc::new(SeededIds::new(1))).await.unwrap_err();
        assert_eq!(error.kind(), GuardrailErrorKind::Misconfigured);
        assert!(error.to_string().contains(words), "{error}");
    }
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:guardrail/gr1abc";
    let mut fine = config("http://127.0.0.1:1");
    (fine.id, fine.version) = (arn.to_owned(), "DRAFT".to_owned());
    connect(fine).await;
}

//! The conformance suite of [`ModelClient`].

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::{Step, check_request};
use crate::model::{
    Content, Message, ModelClient, ModelClientExt, ModelError, ModelErrorKind, ModelEvent, ModelReply, ModelRequest,
    Role, StopReason, ToolCall, ToolInput, ToolResult, ToolSpec, Usage,
};
use crate::time::Millis;

/// Gives the suite clients whose provider answers by a script.
#[async_trait]
pub trait ModelHarness: Send + Sync {
    /// The model id to ask for; [`ModelReply::model`] is expected to be the one of the script, or this one.
    fn model(&self) -> String;

    /// A client whose provider answers its calls with the steps, in order.
    ///
    /// `None` when the provider's wire format cannot say one of them; the case is then skipped, and must be listed.
    async fn client(&self, script: Vec<Step>) -> Option<Arc<dyn ModelClient>>;
}

/// What the suite did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReport {
    /// Cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that the harness cannot say, all of them listed.
    pub skipped: Vec<&'static str>,
}

macro_rules! suite {
    ($($(#[$doc:meta])* $case:ident),+ $(,)?) => {
        /// The cases by name.
        pub fn cases() -> &'static [&'static str] {
            &[$(stringify!($case)),+]
        }

        async fn one(case: &str, h: &dyn ModelHarness) -> Outcome {
            match case {
                $(stringify!($case) => $case(h).await,)+
                other => panic!("no such case: {other}"),
            }
        }
    };
}

suite!(
    text_answer,
    empty_answer,
    tool_call,
    tool_call_without_arguments,
    twenty_tools_at_once,
    text_before_tools,
    invalid_arguments,
    large_argument,
    unicode,
    refusal,
    max_tokens,
    context_full,
    usage,
    cache_usage,
    thinking,
    conversation_with_results_and_images,
    deltas_are_the_answer,
    cut_stream,
    throttled_with_wait,
    overloaded,
    context_too_long,
    bad_request,
    access_denied,
    malformed,
    count_tokens,
    unknown_model_has_no_price,
);

/// Runs every case against clients from the harness.
///
/// # Panics
/// When a case fails, naming it; when a case is skipped that `skips` does not list; when one is listed that is not
/// skipped or does not exist.
pub async fn run(harness: &dyn ModelHarness, skips: &[&str]) -> ModelReport {
    let mut report = ModelReport { passed: Vec::new(), skipped: Vec::new() };
    for case in cases() {
        match (one(case, harness).await, skips.contains(case)) {
            (Ok(()), false) => report.passed.push(case),
            (Err(Failed::Skip), true) => report.skipped.push(case),
            (Err(Failed::Because(why)), _) => panic!("model conformance, case `{case}`: {why}"),
            (Ok(()), true) => panic!("model conformance: `{case}` is listed as skipped but runs"),
            (Err(Failed::Skip), false) => panic!("model conformance: `{case}` was skipped but is not listed"),
        }
    }
    for skip in skips {
        assert!(cases().contains(skip), "model conformance: listed `{skip}` is no case");
    }
    report
}

enum Failed {
    Skip,
    Because(String),
}

type Outcome = Result<(), Failed>;

impl From<ModelError> for Failed {
    fn from(e: ModelError) -> Self {
        Self::Because(format!("unexpected error: {e}"))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Outcome {
    if got == want {
        return Ok(());
    }
    let clip = |v: &T| format!("{v:?}").chars().take(600).collect::<String>();
    Err(Failed::Because(format!("{what}: got {}, want {}", clip(got), clip(want))))
}

async fn client(h: &dyn ModelHarness, steps: Vec<Step>) -> Result<Arc<dyn ModelClient>, Failed> {
    h.client(steps).await.ok_or(Failed::Skip)
}

fn request(h: &dyn ModelHarness) -> ModelRequest {
    let tool = |name: &str| ToolSpec {
        name: name.into(),
        description: format!("the {name} tool"),
        input_schema: json!({"type": "object", "properties": {"command": {"type": "string"}}}),
    };
    ModelRequest {
        model: h.model(),
        system: "you fix bugs".into(),
        messages: vec![Message::text(Role::User, "fix the bug")],
        tools: vec![tool("Bash"), tool("Read")],
        max_output_tokens: 1024,
        cache: true,
    }
}

fn scripted(content: Vec<Content>, stop: StopReason, usage: Usage) -> ModelReply {
    ModelReply { content, stop, usage, model: "conformance-model".into() }
}

const USAGE: Usage = Usage { input_tokens: 321, output_tokens: 45, cache_read_tokens: 0, cache_write_tokens: 0 };

fn call(id: &str, name: &str, input: serde_json::Value) -> Content {
    Content::ToolUse(ToolCall { id: id.into(), name: name.into(), input: ToolInput::Json(input) })
}

async fn answers(h: &dyn ModelHarness, reply: ModelReply) -> Outcome {
    let c = client(h, vec![Step::Reply(reply.clone())]).await?;
    let mut got = c.complete(&request(h)).await?;
    if got.model == h.model() {
        got.model.clone_from(&reply.model); // A provider that does not say which model answered.
    }
    same("the answer", &got, &reply)
}

async fn text_answer(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![Content::text("it is done")], StopReason::EndTurn, USAGE)).await
}

async fn empty_answer(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![], StopReason::EndTurn, USAGE)).await
}

async fn tool_call(h: &dyn ModelHarness) -> Outcome {
    let input = json!({"command": "ls -l \"a b\"", "n": 3, "deep": {"list": [1, null, true, 2.5]}});
    answers(h, scripted(vec![call("call_1", "Bash", input)], StopReason::ToolUse, USAGE)).await
}

async fn tool_call_without_arguments(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![call("call_1", "Bash", json!({}))], StopReason::ToolUse, USAGE)).await
}

async fn twenty_tools_at_once(h: &dyn ModelHarness) -> Outcome {
    let calls = (0..20).map(|i| call(&format!("call_{i}"), "Read", json!({"path": format!("src/{i}.rs")}))).collect();
    answers(h, scripted(calls, StopReason::ToolUse, USAGE)).await
}

async fn text_before_tools(h: &dyn ModelHarness) -> Outcome {
    let content = vec![
        Content::text("I look first.\nThen I fix."),
        call("call_a", "Bash", json!({"command": "ls"})),
        call("call_b", "Read", json!({"path": "x"})),
    ];
    answers(h, scripted(content, StopReason::ToolUse, USAGE)).await
}

async fn invalid_arguments(h: &dyn ModelHarness) -> Outcome {
    let raw = r#"{"command": "ls"#;
    let bad = Content::ToolUse(ToolCall {
        id: "call_1".into(),
        name: "Bash".into(),
        input: ToolInput::Invalid { raw: raw.into(), error: String::new() },
    });
    let c = client(h, vec![Step::Reply(scripted(vec![bad], StopReason::ToolUse, USAGE))]).await?;
    let reply = c.complete(&request(h)).await?;
    let inputs: Vec<&ToolInput> = reply.tool_calls().map(|c| &c.input).collect();
    match inputs.as_slice() {
        [ToolInput::Invalid { raw: got, error }] if got == raw && !error.is_empty() => Ok(()),
        other => Err(Failed::Because(format!("want one invalid input with `{raw}` and a reason, got {other:?}"))),
    }
}

async fn large_argument(h: &dyn ModelHarness) -> Outcome {
    let big = "0123456789abcdef\"\\\n\u{fc}".repeat(2 * 1024 * 1024 / 21);
    answers(h, scripted(vec![call("call_1", "Bash", json!({"command": big}))], StopReason::ToolUse, USAGE)).await
}

async fn unicode(h: &dyn ModelHarness) -> Outcome {
    let odd = "na\u{ef}ve \u{2028} \u{1f9ea}\u{200d}\u{1f4bb} \u{5b57} \u{0} \u{7f} \r\n data: x\n\n: y";
    let content = vec![Content::text(odd), call("call_1", "Bash", json!({"command": odd, "\u{fc}": odd}))];
    answers(h, scripted(content, StopReason::ToolUse, USAGE)).await
}

async fn refusal(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![Content::text("I will not do that")], StopReason::Refusal, USAGE)).await
}

async fn max_tokens(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![Content::text("once upon a")], StopReason::MaxTokens, USAGE)).await
}

async fn context_full(h: &dyn ModelHarness) -> Outcome {
    answers(h, scripted(vec![Content::text("and then")], StopReason::ContextFull, USAGE)).await
}

async fn usage(h: &dyn ModelHarness) -> Outcome {
    let usage = Usage { input_tokens: 150_000, output_tokens: 31_999, ..Usage::default() };
    answers(h, scripted(vec![Content::text("ok")], StopReason::EndTurn, usage)).await
}

async fn cache_usage(h: &dyn ModelHarness) -> Outcome {
    let usage = Usage { input_tokens: 12, output_tokens: 34, cache_read_tokens: 5_600, cache_write_tokens: 780 };
    answers(h, scripted(vec![Content::text("ok")], StopReason::EndTurn, usage)).await
}

async fn thinking(h: &dyn ModelHarness) -> Outcome {
    let content = vec![
        Content::Thinking { text: "hm, let me see".into(), signature: Some("c2lnbmF0dXJl".into()) },
        Content::text("so"),
        call("call_1", "Bash", json!({"command": "ls"})),
    ];
    answers(h, scripted(content, StopReason::ToolUse, USAGE)).await
}

async fn conversation_with_results_and_images(h: &dyn ModelHarness) -> Outcome {
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let first = scripted(
        vec![
            Content::text("two calls"),
            call("call_1", "Bash", json!({"command": "ls"})),
            call("call_2", "Read", json!({"path": "a.png"})),
        ],
        StopReason::ToolUse,
        USAGE,
    );
    let second = scripted(vec![Content::text("I see")], StopReason::EndTurn, USAGE);
    let c = client(h, vec![Step::Reply(first), Step::Reply(second.clone())]).await?;
    let mut request = request(h);
    let reply = c.complete(&request).await?;
    request.messages.push(Message { role: Role::Assistant, content: reply.content });
    let image = Content::Image { media_type: "image/png".into(), data: png.into() };
    let result =
        |id: &str, content, is_error| Content::ToolResult(ToolResult { tool_use_id: id.into(), content, is_error });
    request.messages.push(Message {
        role: Role::User,
        content: vec![
            result("call_1", vec![Content::text("no such file")], true),
            result("call_2", vec![Content::text("1x1"), image], false),
            Content::text("a word from the user"),
        ],
    });
    check_request(&request).map_err(Failed::Because)?;
    let got = c.complete(&request).await?;
    same("the second answer", &got.content, &second.content)
}

async fn deltas_are_the_answer(h: &dyn ModelHarness) -> Outcome {
    let content = vec![Content::text("a b c"), call("call_1", "Bash", json!({"command": "ls"}))];
    let c = client(h, vec![Step::Reply(scripted(content, StopReason::ToolUse, USAGE))]).await?;
    let mut stream = c.stream(&request(h)).await?;
    let (mut text, mut tools, mut done) = (String::new(), Vec::new(), 0);
    while let Some(event) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        same("answers before this event", &done, &0)?;
        match event? {
            ModelEvent::TextDelta(t) => text.push_str(&t),
            ModelEvent::ThinkingDelta(_) => {}
            ModelEvent::ToolUseStarted { name } => tools.push(name),
            ModelEvent::Done(_) => done += 1,
        }
    }
    same("text deltas", &text.as_str(), &"a b c")?;
    same("tools announced", &tools, &vec!["Bash".to_owned()])?;
    same("whole answers", &done, &1)
}

async fn fails(h: &dyn ModelHarness, step: Step, want: ModelErrorKind) -> Result<ModelError, Failed> {
    let c = client(h, vec![step]).await?;
    match c.complete(&request(h)).await {
        Ok(reply) => Err(Failed::Because(format!("want an error, got {reply:?}"))),
        Err(e) => {
            same(&format!("kind of `{e}`"), &e.kind(), &want)?;
            Ok(e)
        }
    }
}

async fn cut_stream(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Cut("half an ans".into()), ModelErrorKind::Network).await.map(drop)
}

async fn throttled_with_wait(h: &dyn ModelHarness) -> Outcome {
    let wait = Some(Millis::secs(7));
    let e = fails(h, Step::Fail(ModelErrorKind::Throttled, wait), ModelErrorKind::Throttled).await?;
    same("the wait", &e.retry_after, &wait)
}

async fn overloaded(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Fail(ModelErrorKind::Overloaded, None), ModelErrorKind::Overloaded).await.map(drop)
}

async fn context_too_long(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Fail(ModelErrorKind::ContextTooLong, None), ModelErrorKind::ContextTooLong).await.map(drop)
}

async fn bad_request(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Fail(ModelErrorKind::BadRequest, None), ModelErrorKind::BadRequest).await.map(drop)
}

async fn access_denied(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Fail(ModelErrorKind::Access, None), ModelErrorKind::Access).await.map(drop)
}

async fn malformed(h: &dyn ModelHarness) -> Outcome {
    fails(h, Step::Fail(ModelErrorKind::Malformed, None), ModelErrorKind::Malformed).await.map(drop)
}

async fn count_tokens(h: &dyn ModelHarness) -> Outcome {
    let c = client(h, vec![]).await?;
    let count = c.count_tokens(&request(h)).await?;
    same("exactness", &count.exact, &c.capabilities(&h.model()).counts_tokens)?;
    if count.input_tokens == 0 { Err(Failed::Because("no tokens at all".into())) } else { Ok(()) }
}

async fn unknown_model_has_no_price(h: &dyn ModelHarness) -> Outcome {
    let c = client(h, vec![]).await?;
    let caps = c.capabilities("a-model-that-nobody-has-heard-of");
    if caps.price.is_some() && !matches!(c.name(), "fake" | "replay") {
        return Err(Failed::Because(format!("a price out of thin air: {caps:?}")));
    }
    if caps.max_output_tokens == 0 || caps.context_window_tokens < caps.max_output_tokens {
        return Err(Failed::Because(format!("a window that nothing fits in: {caps:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::FakeModel;

    struct Fake;

    #[async_trait]
    impl ModelHarness for Fake {
        fn model(&self) -> String {
            "fake".into()
        }

        async fn client(&self, script: Vec<Step>) -> Option<Arc<dyn ModelClient>> {
            Some(Arc::new(FakeModel::new(script.into_iter().map(explained))))
        }
    }

    /// What the parser would say.
    fn explained(mut step: Step) -> Step {
        if let Step::Reply(reply) = &mut step {
            for content in &mut reply.content {
                if let Content::ToolUse(ToolCall { input: ToolInput::Invalid { error, .. }, .. }) = content {
                    *error = "not JSON".into();
                }
            }
        }
        step
    }

    /// Polls a future that never waits.
    fn now<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(out) => out,
            std::task::Poll::Pending => panic!("the fake waits"),
        }
    }

    #[test]
    fn the_fake_conforms() {
        let report = now(run(&Fake, &[]));
        assert_eq!(report.passed, cases());
    }

    #[test]
    #[should_panic(expected = "`text_answer` is listed as skipped but runs")]
    fn a_skip_that_is_not_one_is_found() {
        now(run(&Fake, &["text_answer"]));
    }
}

//! The loop over a link, a model and tools that can be held up.

use std::sync::Mutex;

use abca_core::id::{SessionId, SignalId, TaskId};
use abca_core::link::{AppendLog, LinkError, LinkReply, Registered, SessionLink};
use abca_core::model::{ModelCapabilities, ModelStream, StopReason, TokenCount, Usage};
use abca_core::session::{BreakerLimits, MachineConfig, SessionState};
use abca_core::task::{SessionReport, Signal, SignalKind};
use abca_core::time::Clock;
use futures_util::stream;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::session::journal::Ears;

/// What happened, in order, in words.
type Story = Arc<Mutex<Vec<String>>>;

fn tell(story: &Story, words: impl Into<String>) {
    story.lock().unwrap().push(words.into());
}

/// Appends as many times as it has leave to; nudges come with the answers.
#[derive(Debug)]
struct Link {
    story: Story,
    leave: Semaphore,
    /// The number of the append that brings a nudge.
    nudge_at: usize,
    appends: Mutex<usize>,
}

#[async_trait]
impl SessionLink for Link {
    async fn register(&self, _: TaskId, _: &SessionId) -> Result<Registered, LinkError> {
        unreachable!("the loop does not register")
    }

    async fn heartbeat(&self, _: TaskId, _: &SessionId) -> Result<LinkReply, LinkError> {
        unreachable!("the loop has no heart")
    }

    async fn append(&self, request: &AppendLog) -> Result<LinkReply, LinkError> {
        self.leave.acquire().await.unwrap().forget();
        let names: Vec<&str> = request.records.iter().map(|r| name(&r.entry)).collect();
        tell(&self.story, format!("wrote {}", names.join(", ")));
        for event in request.events.iter().filter(|e| e.event_type == EventType::AgentToolOutput) {
            tell(&self.story, format!("shown {}", event.metadata["chunk"]));
        }
        for record in &request.records {
            if let LogEntry::Checkpoint { turn, .. } = &record.entry {
                tell(&self.story, format!("the work of turn {turn} is safe"));
            }
        }
        let mut appends = self.appends.lock().unwrap();
        *appends += 1;
        let signals = if *appends == self.nudge_at {
            let kind = SignalKind::Nudge { message: "use tabs".to_owned() };
            vec![Signal { id: SignalId::new("n1").unwrap(), at: Timestamp::from_millis(0), kind }]
        } else {
            Vec::new()
        };
        Ok(LinkReply { stop: None, signals })
    }

    async fn report(&self, _: TaskId, _: &SessionId, _: &SessionReport) -> Result<(), LinkError> {
        unreachable!("the loop does not report")
    }
}

fn name(entry: &LogEntry) -> &'static str {
    match entry {
        LogEntry::ConversationStarted { .. } => "prompt",
        LogEntry::ModelReserved { .. } => "reserved",
        LogEntry::ReservedAhead { .. } => "ahead",
        LogEntry::ToolsPinned { .. } => "pinned",
        LogEntry::AheadReleased { .. } => "released",
        LogEntry::ModelReplied { .. } => "answer",
        LogEntry::ToolStarted { .. } => "begun",
        LogEntry::ToolEnded { .. } => "result",
        LogEntry::Injected { .. } => "word",
        LogEntry::Checkpoint { .. } => "saved",
        LogEntry::AgentEnded { .. } => "end",
        _ => "other",
    }
}

/// Calls one tool a turn, then is done.
#[derive(Debug)]
struct Script {
    story: Story,
    turns: usize,
    takes: std::time::Duration,
}

#[async_trait]
impl ModelClient for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn capabilities(&self, _: &str) -> ModelCapabilities {
        unreachable!("the machine was told")
    }

    async fn stream(&self, request: &ModelRequest) -> Result<ModelStream, ModelError> {
        let turn = request.messages.len() / 2 + 1;
        let heard = format!("{:?}", request.messages.last()).contains("use tabs");
        tell(&self.story, format!("call {turn}{}", if heard { " with the nudge" } else { "" }));
        tokio::time::sleep(self.takes).await;
        let (part, stop) = if turn > self.turns {
            (Content::text("done"), StopReason::EndTurn)
        } else {
            let call = ToolCall { id: format!("c{turn}"), name: "Bash".to_owned(), input: ToolInput::Json(json!({})) };
            (Content::ToolUse(call), StopReason::ToolUse)
        };
        let reply = ModelReply { content: vec![part], stop, usage: Usage::default(), model: "m".to_owned() };
        tell(&self.story, format!("answer {turn}"));
        Ok(Box::pin(stream::iter([Ok(ModelEvent::Done(Box::new(reply)))])))
    }

    async fn count_tokens(&self, _: &ModelRequest) -> Result<TokenCount, ModelError> {
        unreachable!("there is no budget")
    }
}

/// A tool that takes some time, and prints a secret in the pieces that a pipe may cut it into.
struct Tool {
    story: Story,
    takes: std::time::Duration,
}

const PIECES: [&str; 2] = ["pushing with ghp_0123456789abcdef", "0123456789abcdefABCD, please wait\n"];

#[async_trait]
impl ToolHost for Tool {
    async fn judge(&mut self, _: &ToolCall, _: SoFar<'_>) -> Judged {
        Judged { verdict: CallVerdict::Allow, warnings: Vec::new(), told: Vec::new() }
    }

    async fn run(&mut self, call: &ToolCall, live: UnboundedSender<String>) -> ToolRun {
        tell(&self.story, format!("tool {}", call.id));
        for piece in PIECES {
            live.send(piece.to_owned()).unwrap();
        }
        tokio::time::sleep(self.takes).await;
        tell(&self.story, format!("tool {} ended", call.id));
        ToolRun { content: vec![Content::text("ok")], is_error: false, told: Vec::new() }
    }
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(0)
    }
}

struct Case {
    story: Story,
    link: Arc<Link>,
    turns: usize,
    model_takes: u64,
    tool_takes: u64,
}

impl Case {
    fn new(turns: usize, model_takes: u64, tool_takes: u64) -> Self {
        Self::with(turns, model_takes, tool_takes, Semaphore::MAX_PERMITS, 0)
    }

    fn with(turns: usize, model_takes: u64, tool_takes: u64, leave: usize, nudge_at: usize) -> Self {
        let story = Story::default();
        let link = Link { story: story.clone(), leave: Semaphore::new(leave), nudge_at, appends: Mutex::default() };
        Self { story, link: Arc::new(link), turns, model_takes, tool_takes }
    }

    async fn run(&self, saver: &mut Saver) {
        let (task, session) = (TaskId::from_parts(Timestamp::from_millis(0), 0), SessionId::new("s").unwrap());
        let ears = Ears::new(CancellationToken::new());
        let mut journal = Journal::new(self.link.clone(), Arc::new(Still), task, session, 0, ears);
        let config = MachineConfig {
            model: "script:m".to_owned(),
            model_id: "m".to_owned(),
            capabilities: ModelCapabilities {
                context_window_tokens: 200_000,
                max_output_tokens: 8_000,
                images: false,
                caching: false,
                counts_tokens: false,
                price: None,
            },
            tools: Vec::new(),
            max_turns: 20,
            max_gates: 3,
            max_budget: None,
            max_output_tokens: 8_000,
        };
        let takes = std::time::Duration::from_millis;
        let mut looping = AgentLoop {
            machine: Machine::resume(config, SessionState::default()),
            journal: &mut journal,
            model: Arc::new(Script { story: self.story.clone(), turns: self.turns, takes: takes(self.model_takes) }),
            tools: &mut Tool { story: self.story.clone(), takes: takes(self.tool_takes) },
            saver,
            screen: &Screen::default(),
            known: &Screen::default().only_known(),
            model_name: "script:m".to_owned(),
            breaker: Breaker::new(BreakerLimits::off()),
            warnings: Vec::new(),
        };
        let prompt = Prompt { system: "s".to_owned(), user: "u".to_owned(), version: "v".to_owned() };
        let end = looping.run(prompt).await.unwrap();
        assert!(matches!(end, LoopEnd::Ended(AgentEnd { failure: None, .. })), "{end:?}");
        journal.flush().await.unwrap();
    }

    fn told(&self) -> Vec<String> {
        self.story.lock().unwrap().clone()
    }
}

fn nothing_to_save() -> Saver {
    Saver::new(|| async { Ok(("same".to_owned(), None)) }, Some("same".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_a_quick_model_has_one_write() {
    let case = Case::new(2, 0, 0);
    case.run(&mut nothing_to_save()).await;
    let want = [
        "wrote prompt, reserved",
        "call 1",
        "answer 1",
        "wrote answer, begun, ahead",
        "tool c1",
        "tool c1 ended",
        "call 2",
        "answer 2",
        "wrote result, reserved, answer, begun, ahead",
        "tool c2",
        "tool c2 ended",
        "call 3",
        "answer 3",
        "wrote result, reserved, answer, end",
    ];
    assert_eq!(case.told(), want);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_the_result_to_be_written_and_its_answer_does() {
    // The third write, of the first result, gets no leave for a long time.
    let case = Case::with(1, 100, 0, 2, 0);
    let free = async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        tell(&case.story, "leave");
        case.link.leave.add_permits(100);
    };
    let mut saver = nothing_to_save();
    tokio::join!(case.run(&mut saver), free);
    let told = case.told();
    let after: Vec<&str> = told.iter().map(String::as_str).skip_while(|s| *s != "tool c1 ended").collect();
    assert_eq!(after, ["tool c1 ended", "call 2", "answer 2", "leave", "wrote result, reserved", "wrote answer, end"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_tool_gives_back_what_was_set_aside_and_its_turn_reserves_before_it_calls() {
    let case = Case::new(1, 0, 500);
    case.run(&mut nothing_to_save()).await;
    let told = case.told();
    let after: Vec<&str> = told.iter().map(String::as_str).skip_while(|s| *s != "tool c1").collect();
    let want = [
        "tool c1",
        "wrote released",
        "tool c1 ended",
        "wrote result, reserved",
        "call 2",
        "answer 2",
        "wrote answer, end",
    ];
    assert_eq!(after, want);
}

#[tokio::test(start_paused = true)]
async fn a_nudge_that_comes_with_the_write_before_a_call_is_in_that_call() {
    // With the very first write; with that of a tool's start; with that of a long tool's result.
    for (nudge_at, tool_takes, call) in [(1, 0, 1), (2, 0, 2), (4, 500, 2)] {
        let case = Case::with(2, 0, tool_takes, Semaphore::MAX_PERMITS, nudge_at);
        case.run(&mut nothing_to_save()).await;
        let told = case.told();
        let heard = told.iter().find(|s| s.ends_with("with the nudge"));
        assert_eq!(heard, Some(&format!("call {call} with the nudge")), "{nudge_at} {told:?}");
        assert_eq!(told.iter().filter(|s| s.contains("word")).count(), 1, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_ends_during_a_long_tool_is_logged_then() {
    let case = Case::new(2, 0, 10_000);
    let save = || async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        Ok(("sha".to_owned(), None))
    };
    case.run(&mut Saver::new(save, None)).await;
    let told = case.told();
    let saved = told.iter().position(|s| s.contains("saved")).unwrap();
    let (begun, ended) =
        (told.iter().position(|s| s == "tool c2").unwrap(), told.iter().position(|s| s == "tool c2 ended").unwrap());
    assert!(begun < saved && saved < ended, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_save_is_known_by_the_turn_whose_work_it_holds() {
    let case = Case::new(2, 1_000, 0);
    let saves = Arc::new(Mutex::new(0));
    let save = move || {
        let mut saves = saves.lock().unwrap();
        *saves += 1;
        let sha = format!("sha{saves}");
        async move { Ok((sha, None)) }
    };
    case.run(&mut Saver::new(save, None)).await;
    let safe: Vec<String> = case.told().into_iter().filter(|s| s.ends_with("is safe")).collect();
    assert_eq!(safe, ["the work of turn 1 is safe", "the work of turn 2 is safe"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_written_before_the_last_save_is_waited_for() {
    let case = Case::new(1, 0, 0);
    let story = case.story.clone();
    let save = move || {
        let story = story.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            tell(&story, "the save has ended");
            Ok(("sha".to_owned(), None))
        }
    };
    case.run(&mut Saver::new(save, None)).await;
    let told = case.told();
    let after: Vec<&str> = told.iter().map(String::as_str).skip_while(|s| *s != "answer 2").collect();
    let want = [
        "answer 2",
        "wrote result, reserved, answer, end",
        "the save has ended",
        "wrote saved",
        "the work of turn 1 is safe",
    ];
    assert_eq!(after, want);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_printed_in_two_pieces_is_not_shown() {
    let case = Case::new(1, 0, 10_000);
    case.run(&mut nothing_to_save()).await;
    let shown: Vec<String> = case.told().into_iter().filter(|s| s.starts_with("shown")).collect();
    assert_eq!(shown, [r#"shown "pushing with [REDACTED-GITHUB_TOKEN], please wait\n""#]);
}

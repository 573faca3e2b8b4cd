//! What a simulated session does: it registers, works, asks, reports, dies, hangs, all by its dice.

use std::sync::Arc;
use std::time::Duration;

use abca::link::StoreLink;
use abca_core::compute::StartSession;
use abca_core::event::{EventType, NewEvent};
use abca_core::id::SignalId;
use abca_core::link::{AppendLog, LinkError, LinkErrorKind, LinkReply, SessionLink};
use abca_core::session::{LogEntry, LogRecord};
use abca_core::store::NewSignal;
use abca_core::task::{Signal, SignalKind, Verdict};
use abca_core::testing::Dice;
use abca_core::testing::faults::Weather;
use abca_core::testing::fixtures::{self, report};
use abca_core::testing::witness::Witness;
use abca_core::{Clock, Millis, SessionId, TaskId};
use tokio_util::sync::CancellationToken;

use super::compute::Backend;
use super::front::Front;
use super::latch::Latch;

/// What sessions reach.
#[derive(Debug)]
pub struct Platform {
    /// The link's process of the moment: it dies like any other.
    pub link: Latch<Arc<StoreLink>>,
    pub front: Front,
    pub clock: Arc<dyn Clock>,
    pub witness: Arc<Witness>,
    pub backend: Arc<Backend>,
    pub weather: Weather,
    /// Sessions draw from here, by name.
    pub dice: Dice,
    /// Whether its sessions send heartbeats.
    pub heartbeats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Succeeds,
    NothingToDo,
    Fails,
    Asks,
    DiesEarly,
    Dies,
    Hangs,
    Deaf,
    Lingers,
    Mute,
    Late,
    ReportsTwice,
    DiesAfterReport,
}

const ACTS: [(u64, Act); 13] = [
    (30, Act::Succeeds),
    (4, Act::NothingToDo),
    (6, Act::Fails),
    (12, Act::Asks),
    (4, Act::DiesEarly),
    (8, Act::Dies),
    (3, Act::Hangs),
    (3, Act::Deaf),
    (5, Act::Lingers),
    (3, Act::Mute),
    (3, Act::Late),
    (5, Act::ReportsTwice),
    (4, Act::DiesAfterReport),
];

/// How long a session waits for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a session ends early.
enum End {
    /// The platform or the backend wants it.
    Told,
    /// The link gave up on it, or it on the link.
    Link,
}

impl From<LinkError> for End {
    fn from(_: LinkError) -> Self {
        Self::Link
    }
}

/// Runs a session to its end.
pub async fn run(platform: Arc<Platform>, request: StartSession, stop: CancellationToken) -> i32 {
    let dice = platform.dice.fork(request.session.as_str());
    let act = *dice.weighted(&ACTS);
    let session = Session { p: &platform, task: request.task, id: request.session.clone(), dice, stop };
    match session.lives(act).await {
        Ok(()) => 0,
        Err(End::Told | End::Link) => 1,
    }
}

struct Session<'a> {
    p: &'a Platform,
    task: TaskId,
    id: SessionId,
    dice: Dice,
    stop: CancellationToken,
}

impl Session<'_> {
    async fn lives(&self, act: Act) -> Result<(), End> {
        match act {
            Act::DiesEarly => {
                self.count("session: dies before it registers");
                return Ok(());
            }
            Act::Mute => {
                self.count("session: never says a word");
                std::future::pending::<()>().await;
            }
            Act::Late => {
                self.count("session: registers late");
                let late = *self.dice.pick(&[60_000, 600_000, 3 * 3_600_000]);
                tokio::time::sleep(Duration::from_millis(self.dice.between(1, late))).await;
            }
            Act::Succeeds
            | Act::NothingToDo
            | Act::Fails
            | Act::Asks
            | Act::Dies
            | Act::Hangs
            | Act::Deaf
            | Act::Lingers
            | Act::ReportsTwice
            | Act::DiesAfterReport => {}
        }
        // Each try waits half a minute itself.
        let registered = self.said_within(5, |link| async move { link.register(self.task, &self.id).await }).await?;
        let _working = self.p.backend.works(self.task, &self.id);
        if act == Act::Deaf {
            self.count("session: falls silent");
            std::future::pending::<()>().await;
        }
        let mut next = registered.log.len() as u64 + 1;
        let steps = self.dice.between(1, 4);
        for step in 0..steps {
            let entry = LogEntry::SessionStarted { attempt: registered.task.attempt, walls: Vec::new() };
            let told = self.writes(&mut next, entry).await;
            self.unless_told(told?).await?;
            if act == Act::Dies && step + 1 == steps {
                self.count("session: dies at work");
                return Ok(());
            }
            self.works_for(Millis(self.dice.between(100, 120_000)), &mut next).await?;
        }
        if act == Act::Asks {
            self.asks(&mut next).await?;
        }
        if act == Act::Hangs {
            self.count("session: hangs");
            self.works_for(Millis::secs(30 * 24 * 3_600), &mut next).await?;
        }
        self.p.witness.acts(self.task, &self.id);
        let verdict = match act {
            Act::Fails => Verdict::Failed,
            Act::NothingToDo => Verdict::NothingToDo,
            _ => Verdict::Succeeded,
        };
        self.reports(verdict).await?;
        match act {
            Act::ReportsTwice => {
                self.count("session: reports twice");
                self.reports(verdict).await?;
            }
            Act::Lingers => {
                self.count("session: lingers after its report");
                self.stop.cancelled().await;
            }
            Act::DiesAfterReport => self.count("session: dies after its report"),
            _ => tokio::time::sleep(Duration::from_millis(self.dice.between(0, 3_000))).await,
        }
        Ok(())
    }

    /// Works so long, with heartbeats, unless it is told to stop.
    async fn works_for(&self, time: Millis, next: &mut u64) -> Result<(), End> {
        let mut left = time.0;
        while left > 0 {
            let beat = left.min(60_000);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.stopped().await,
                () = tokio::time::sleep(Duration::from_millis(beat)) => {}
            }
            left -= beat;
            self.p.witness.acts(self.task, &self.id);
            if left > 0 && self.p.heartbeats {
                let reply = self.said(|link| async move { link.heartbeat(self.task, &self.id).await }).await?;
                self.hears(reply, next).await?;
            }
        }
        Ok(())
    }

    /// Asks a human, and waits for the answer until the gate answers itself with no.
    async fn asks(&self, next: &mut u64) -> Result<(), End> {
        let gate = format!("gate/{}", self.id);
        let deadline = self.p.clock.now().after(Millis::secs(300));
        self.count("session: asks a human");
        self.tells(&format!("asked/{gate}"), fixtures::asked(&gate, deadline)).await?;
        self.human(&gate);
        for _ in 0..15 {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.stopped().await,
                () = tokio::time::sleep(Duration::from_secs(20)) => {}
            }
            self.p.witness.acts(self.task, &self.id);
            let reply = self.said(|link| async move { link.heartbeat(self.task, &self.id).await }).await?;
            let decided =
                |s: &Signal| matches!(&s.kind, SignalKind::ApprovalDecided { request, .. } if *request == gate);
            let answered = reply.signals.iter().any(decided);
            self.hears(reply, next).await?;
            if answered {
                return Ok(());
            }
        }
        self.count("human: does not answer in time");
        self.tells(&format!("decided/{gate}"), fixtures::decided(&gate, false)).await
    }

    /// Somebody who answers at the gate, or not, or twice.
    fn human(&self, gate: &str) {
        let answers = *self.dice.pick(&[0, 1, 1, 1, 2]);
        let approved = self.dice.chance(600);
        self.count(if answers == 0 {
            "human: never answers"
        } else if approved {
            "human: approves"
        } else {
            "human: denies"
        });
        let wait = Duration::from_millis(self.dice.between(10, 400_000));
        let (front, task, gate) = (self.p.front.clone(), self.task, gate.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            for _ in 0..answers {
                let kind = fixtures::decided(&gate, approved);
                front.signals(task, &format!("decided/{gate}"), kind).await;
            }
        });
    }

    /// Puts a signal of its own into the inbox.
    async fn tells(&self, id: &str, kind: SignalKind) -> Result<(), End> {
        let signal = Signal { id: SignalId::new(id).expect("a short id"), at: self.p.clock.now(), kind };
        let signal = NewSignal { task: self.task, signal, expect_session: Some(self.id.clone()) };
        self.p.front.tells(signal).await;
        Ok(())
    }

    async fn hears(&self, reply: LinkReply, next: &mut u64) -> Result<(), End> {
        for signal in &reply.signals {
            self.count("session: hears a nudge or a decision");
            let id = Some(signal.id.as_str().to_owned());
            let entry = LogEntry::Injected { signal: id, origin: "nudge".to_owned(), text: "heard".to_owned() };
            self.writes(next, entry).await?;
        }
        self.unless_told(reply).await
    }

    async fn writes(&self, next: &mut u64, entry: LogEntry) -> Result<LinkReply, End> {
        self.p.witness.acts(self.task, &self.id);
        let at = self.p.clock.now();
        let append = AppendLog {
            task: self.task,
            session: self.id.clone(),
            expect_seq: *next,
            records: vec![LogRecord { session: self.id.clone(), at, entry }],
            events: vec![NewEvent::new(EventType::AgentMilestone, at).with("milestone", "worked")],
        };
        let append = &append;
        let reply = self.said(|link| async move { link.append(append).await }).await?;
        *next += 1;
        Ok(reply)
    }

    async fn reports(&self, verdict: Verdict) -> Result<(), End> {
        let report = &report(verdict);
        self.said(|link| async move { link.report(self.task, &self.id, report).await }).await
    }

    async fn unless_told(&self, reply: LinkReply) -> Result<(), End> {
        if reply.stop.is_some() { self.stopped().await } else { Ok(()) }
    }

    async fn stopped(&self) -> Result<(), End> {
        self.count("session: is told to stop");
        self.reports(Verdict::Cancelled).await?;
        Err(End::Told)
    }

    /// Says something until it was heard, as the link's client does: for ten minutes.
    async fn said<T, F>(&self, word: impl Fn(Arc<StoreLink>) -> F) -> Result<T, End>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        self.said_within(14, word).await
    }

    async fn said_within<T, F>(&self, tries: u32, word: impl Fn(Arc<StoreLink>) -> F) -> Result<T, End>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let mut pause = Duration::from_secs(1);
        for _ in 0..tries {
            match tokio::time::timeout(PATIENCE, word(self.p.link.now())).await {
                Ok(Err(error)) if error.kind() == LinkErrorKind::Unavailable => tokio::time::sleep(pause).await,
                Ok(answered) => return Ok(answered?),
                Err(_late) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(60));
        }
        self.count("session: gives up on the platform");
        Err(End::Link)
    }

    fn count(&self, what: &'static str) {
        self.p.weather.count(what);
    }
}

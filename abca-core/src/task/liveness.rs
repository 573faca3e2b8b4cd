//! Whether a session lives: one function over what its backend declares it can tell.

use super::{ResolvedLimits, TaskStatus};
use crate::compute::{ComputeCapabilities, SessionView};
use crate::time::Timestamp;

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// It lives; look again then, unless something calls earlier.
    Alive {
        /// When.
        look_again: Timestamp,
    },
    /// It is over, and nothing of it is left.
    Gone {
        /// What was seen, for people.
        detail: String,
    },
    /// It may still run, but cannot be counted on: stop it.
    Lost {
        /// What was seen, for people.
        detail: String,
    },
}

/// Judges a registered session.
///
/// A backend without heartbeats is never failed for silence, one without exit status never for a missing one; work
/// that the backend itself sees (`active_at`) counts as a sign of life, unless it is further ahead of `now` than silence may
/// last: a clock was wrong then.
pub fn judge(
    view: &SessionView,
    capabilities: ComputeCapabilities,
    status: TaskStatus,
    last_sign: Timestamp,
    limits: &ResolvedLimits,
    now: Timestamp,
) -> Liveness {
    let soon = now.after(limits.observe_every_ms);
    match view {
        SessionView::Unknown => Liveness::Gone { detail: "the backend does not know the session".to_owned() },
        SessionView::Exited { code, signal, detail } => {
            Liveness::Gone { detail: describe_exit(*code, *signal, detail.as_deref()) }
        }
        SessionView::Suspended => match status {
            TaskStatus::AwaitingApproval => Liveness::Alive { look_again: soon },
            TaskStatus::PendingUploads
            | TaskStatus::Queued
            | TaskStatus::Submitted
            | TaskStatus::Hydrating
            | TaskStatus::Running
            | TaskStatus::Finalizing
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::TimedOut => {
                Liveness::Lost { detail: "the backend suspended the session while nobody was awaited".to_owned() }
            }
        },
        SessionView::Running { active_at } => {
            if !capabilities.heartbeats {
                return Liveness::Alive { look_again: soon };
            }
            let believed = now.after(limits.heartbeat_timeout_ms);
            let last = active_at.filter(|a| *a <= believed).map_or(last_sign, |a| a.max(last_sign));
            let silent_until = last.after(limits.heartbeat_timeout_ms);
            if now >= silent_until {
                Liveness::Lost { detail: format!("no heartbeat for {}", now.since(last)) }
            } else {
                Liveness::Alive { look_again: soon.min(silent_until) }
            }
        }
    }
}

fn describe_exit(code: Option<i32>, signal: Option<i32>, detail: Option<&str>) -> String {
    let how = match (code, signal) {
        (_, Some(signal)) => format!("the session was killed by signal {signal}"),
        (Some(code), None) => format!("the session exited with status {code}"),
        (None, None) => "the session ended in an unknown way".to_owned(),
    };
    match detail {
        Some(detail) if !detail.trim().is_empty() => format!("{how}: {}", detail.trim()),
        Some(_) | None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    #[test]
    fn silence_kills_only_where_heartbeats_are_declared() {
        let limits = ResolvedLimits::default();
        let (start, late) = (Timestamp::from_millis(0), Timestamp::from_millis(10_000_000));
        let mut capabilities = ComputeCapabilities::none();
        let view = SessionView::Running { active_at: None };
        let judged = |c, v: &SessionView| judge(v, c, TaskStatus::Running, start, &limits, late);
        assert_eq!(judged(capabilities, &view), Liveness::Alive { look_again: late.after(limits.observe_every_ms) });
        capabilities.heartbeats = true;
        assert!(matches!(judged(capabilities, &view), Liveness::Lost { .. }));
        let busy = SessionView::Running { active_at: Some(Timestamp::from_millis(9_999_000)) };
        assert!(matches!(judged(capabilities, &busy), Liveness::Alive { .. }));
        let ahead = late.after(limits.heartbeat_timeout_ms).after(Millis(1));
        let wrong = SessionView::Running { active_at: Some(ahead) };
        assert!(matches!(judged(capabilities, &wrong), Liveness::Lost { .. }), "a clock that was wrong proves no life");
        assert_eq!(late.since(start), Millis(10_000_000));
    }

    #[test]
    fn suspension_is_healthy_only_while_a_human_is_awaited() {
        let limits = ResolvedLimits::default();
        let now = Timestamp::from_millis(0);
        for status in TaskStatus::ALL {
            let judged = judge(&SessionView::Suspended, ComputeCapabilities::none(), status, now, &limits, now);
            assert_eq!(matches!(judged, Liveness::Alive { .. }), status == TaskStatus::AwaitingApproval, "{status}");
        }
    }
}

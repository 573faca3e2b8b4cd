//! `pending`, `approve`, `deny`: answering for a human.

use abca_core::task::ApprovalScope;
use abca_core::{Clock, UserId};
use serde_json::json;

use super::args::{ApproveArgs, DenyArgs, PendingArgs};
use super::common::{Failed, Output, Place, find, looking, say};
use super::guard::speaking;
use super::{is_json, print_json, show};
use crate::clock::SystemClock;

pub(super) async fn pending(state: Place, output: Output, args: PendingArgs) -> Result<u8, Failed> {
    let user = args.user.map(UserId::new).transpose().map_err(|e| Failed::new(2, e.to_string()))?;
    let pending = looking(state).await?.pending_approvals(user.as_ref(), args.limit).await?;
    if is_json(output) {
        print_json(&pending)?;
    } else {
        show::pending(&pending, SystemClock.now());
    }
    Ok(0)
}

pub(super) async fn approve(state: Place, output: Output, args: ApproveArgs) -> Result<u8, Failed> {
    let scope: ApprovalScope = args.scope.parse().map_err(|e| Failed::new(2, format!("{e}")))?;
    let abca = looking(state).await?;
    let handle = find(&abca, &args.task).await?;
    let gate = handle.approve(args.request.as_deref(), scope.clone(), abca.inner.user.as_str()).await?;
    if is_json(output) {
        print_json(
            &json!({ "task_id": handle.id(), "request_id": gate.request, "decision": "approved", "scope": scope }),
        )?;
    } else {
        say(&format!("{} is approved ({scope}): {} {}", gate.request, gate.tool, gate.preview));
    }
    Ok(0)
}

pub(super) async fn deny(state: Place, output: Output, args: DenyArgs) -> Result<u8, Failed> {
    let abca = speaking(state, &args.guard, output).await?;
    let handle = find(&abca, &args.task).await?;
    let gate = handle.deny(args.request.as_deref(), args.reason.as_deref(), abca.inner.user.as_str()).await?;
    if is_json(output) {
        print_json(&json!({ "task_id": handle.id(), "request_id": gate.request, "decision": "denied" }))?;
    } else {
        say(&format!("{} is denied: {} {}", gate.request, gate.tool, gate.preview));
    }
    Ok(0)
}

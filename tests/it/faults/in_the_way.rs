//! Somebody makes the task's branch while its session works.

use abca_core::task::FailureReason;

use super::world::{held, open_gate};

#[tokio::test]
async fn other_peoples_commits_on_the_tasks_branch_are_left_alone_and_named() {
    let (place, task) = held().await;
    let branch = task.snapshot().await.unwrap().task.prepared.unwrap().branch.clone();
    place.git(&["branch", &branch]);
    let theirs = place.git(&["commit-tree", "-m", "theirs", "-p", "HEAD", "HEAD^{tree}"]).trim().to_owned();
    place.git(&["update-ref", &format!("refs/heads/{branch}"), &theirs]);
    open_gate(&place.tree(&task), "go");

    let outcome = place.end(&task).await;
    let failure = outcome.failure.unwrap();
    let story = place.story(&task).await;
    assert_eq!(failure.reason, FailureReason::Delivery, "{failure:?}\n{story}");
    for says in [format!("the branch `{branch}` "), theirs.clone(), format!("`git branch -m {branch} another-name`")] {
        assert!(failure.message.contains(&says), "{says}: {failure:?}");
    }
    assert_eq!(place.git(&["rev-parse", &branch]).trim(), theirs, "they are left as they are");
    assert_eq!(place.git(&["show", &format!("refs/abca/wip/{}:ran.log", task.id())]), "one\n", "the work is kept");
}

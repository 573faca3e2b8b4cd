//! Somebody makes the task's branch while its session works.

use abca_core::task::FailureReason;

use super::server::{Ask, Model, bash, text};
use super::world::{Place, open_gate};

const WAIT: &str = "n=0; until test -e go; do sleep 0.05; n=$((n+1)); test $n -lt 4000 || exit 9; done";

#[tokio::test]
async fn other_peoples_commits_on_the_tasks_branch_are_left_alone_and_named() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, &format!("touch begun; {WAIT}; echo one >> ran.log")),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[(".gitignore", "go\nbegun\n")]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.until_true(&task, "the tool runs", || place.tree(&task).join("begun").exists()).await;
    let branch = task.snapshot().await.unwrap().task.prepared.unwrap().branch;
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

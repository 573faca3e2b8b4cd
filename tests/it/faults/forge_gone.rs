//! The repository goes away while a session works on it.

use super::server::{Ask, Model, bash, text};
use super::world::{Place, named, open_gate};

const WAIT: &str = "n=0; until test -e go; do sleep 0.05; n=$((n+1)); test $n -lt 4000 || exit 9; done";

#[tokio::test]
async fn work_that_can_be_saved_nowhere_stays_in_its_folder() {
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => bash(0, &format!("touch begun; {WAIT}; echo one >> ran.log")),
        _ => text("Done."),
    });
    let mut place = Place::with(&model, &[(".gitignore", "go\nbegun\n")]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.until_true(&task, "the tool runs", || place.tree(&task).join("begun").exists()).await;
    std::fs::rename(place.repo(), place.repo().with_extension("away")).unwrap();
    open_gate(&place.tree(&task), "go");
    let outcome = place.end(&task).await;
    assert!(!outcome.is_success(), "{outcome:?}");
    place.nothing_runs(&task).await;
    let dir = place.work(&task).display().to_string();
    let told = |e: &abca::Event| named(e, "work_kept") && e.to_string().contains(&dir);
    assert!(place.events(&task).await.iter().any(told), "{}", place.story(&task).await);
    let story = place.story(&task).await;
    assert_eq!(std::fs::read_to_string(place.tree(&task).join("ran.log")).unwrap_or_default(), "one\n", "{story}");
}

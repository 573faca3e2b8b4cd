//! The repository goes away while a session works on it.

use super::world::{held, named, open_gate};

#[tokio::test]
async fn work_that_can_be_saved_nowhere_stays_in_its_folder() {
    let (place, task) = held().await;
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

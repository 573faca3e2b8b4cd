//! Saving the work at the hidden ref, beside whatever else the session does.

use std::pin::Pin;
use std::sync::Arc;

use abca_core::git::GitError;
use abca_core::session::Churn;
use futures_util::FutureExt;
use tokio_util::task::AbortOnDropHandle;

/// Saves the work once; answers the commit, and how much it differs from what the work began from, where that is wanted.
type Save = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Saving> + Send>> + Send + Sync>;

/// What saving comes to.
pub(crate) type Saving = Result<(String, Option<Churn>), GitError>;

/// Work that is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    /// At least the work of this turn.
    pub(crate) turn: u32,
    /// The commit.
    pub(crate) sha: String,
    /// How much it changes, where that is wanted.
    pub(crate) churn: Option<Churn>,
}

/// Saves the work when it is told to, one save at a time. Dropping it breaks off what is under way: nothing is pushed
/// behind the back of a session that has ended.
pub(crate) struct Saver {
    save: Save,
    under_way: Option<(u32, AbortOnDropHandle<Saving>)>,
    next: Option<u32>,
    last: Option<String>,
}

impl Saver {
    /// With the way to save, and the commit that is saved already.
    pub(crate) fn new<F>(save: impl Fn() -> F + Send + Sync + 'static, last: Option<String>) -> Self
    where
        F: Future<Output = Saving> + Send + 'static,
    {
        Self { save: Arc::new(move || Box::pin(save())), under_way: None, next: None, last }
    }

    /// Begins to save the work of that turn; does not wait for it. While a save is under way, the next one waits for it.
    /// A tool may run meanwhile: what is saved is at least the work of that turn.
    pub(crate) fn begin(&mut self, turn: u32) {
        if self.under_way.is_some() {
            self.next = Some(turn);
        } else {
            self.under_way = Some((turn, AbortOnDropHandle::new(tokio::spawn((self.save)()))));
        }
    }

    /// Whether a save is under way, or has ended and was not looked at.
    pub(crate) const fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Waits for the next save that changes something: its turn and commit. `None` when nothing is under way.
    ///
    /// Dropping the future loses no save.
    pub(crate) async fn saved(&mut self) -> Option<Saved> {
        while let Some((turn, handle)) = &mut self.under_way {
            let (turn, done) = (*turn, handle.await);
            self.under_way = None;
            if let Some(next) = self.next.take() {
                self.begin(next);
            }
            match done {
                Ok(Ok((sha, _))) if self.last.as_ref() == Some(&sha) => {}
                Ok(Ok((sha, churn))) => {
                    self.last = Some(sha.clone());
                    return Some(Saved { turn, sha, churn });
                }
                Ok(Err(error)) => tracing::warn!(%error, "the work could not be saved at the hidden ref"),
                Err(error) => tracing::error!(%error, "saving the work broke off"),
            }
        }
        None
    }

    /// Like [`Self::saved`], without waiting.
    pub(crate) fn saved_by_now(&mut self) -> Option<Saved> {
        self.saved().now_or_never().flatten()
    }

    /// Like [`Self::saved`], but waits for ever when nothing is under way: for a `select!`.
    pub(crate) async fn when_saved(&mut self) -> Saved {
        match self.saved().await {
            Some(saved) => saved,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn saved(turn: u32, sha: &str) -> Saved {
        Saved { turn, sha: sha.to_owned(), churn: None }
    }

    #[tokio::test]
    async fn one_save_at_a_time_and_the_last_one_counts() {
        let begun = Arc::new(AtomicU32::new(0));
        let (gate, opened) = oneshot::channel::<()>();
        let opened = Mutex::new(Some(opened));
        let counted = begun.clone();
        let mut saver = Saver::new(
            move || {
                let n = counted.fetch_add(1, Ordering::SeqCst);
                let gate = opened.lock().unwrap().take();
                async move {
                    if let Some(gate) = gate {
                        let _opened = gate.await;
                    }
                    Ok((format!("sha{n}"), None))
                }
            },
            Some("before".to_owned()),
        );
        assert_eq!(saver.saved().await, None);
        for turn in 1..=3 {
            saver.begin(turn);
        }
        assert_eq!(saver.saved_by_now(), None, "the first is under way");
        gate.send(()).unwrap();
        assert_eq!(saver.saved().await, Some(saved(1, "sha0")));
        assert_eq!(saver.saved().await, Some(saved(3, "sha1")), "the second was overtaken by the third");
        assert_eq!((saver.saved().await, begun.load(Ordering::SeqCst)), (None, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_the_saver_up_leaves_no_save_behind() {
        let done = Arc::new(AtomicU32::new(0));
        let counted = done.clone();
        let save = move || {
            let counted = counted.clone();
            async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(("late".to_owned(), None))
            }
        };
        let mut saver = Saver::new(save, None);
        saver.begin(1);
        tokio::task::yield_now().await;
        drop(saver);
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(done.load(Ordering::SeqCst), 0, "a session that is refused must push nothing any more");
    }

    #[tokio::test]
    async fn what_changes_nothing_is_not_told() {
        let mut saver = Saver::new(|| async { Ok(("same".to_owned(), None)) }, Some("same".to_owned()));
        saver.begin(1);
        assert_eq!(saver.saved().await, None);
    }
}

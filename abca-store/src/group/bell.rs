//! How callers learn that their answers are there: all of a transaction's answers are put down first, then everybody is
//! woken.
//!
//! A writer that woke each caller as it answered would be pushed aside by the first of them, which finds nothing else to do,
//! falls asleep, and is woken for the next: two changes of threads for every answer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Callers whose answers are there, who do not know it yet.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// How many writers put answers down right now. While there are none, everybody is woken at once.
    holds: usize,
    wakers: VecDeque<Waker>,
}

impl Bell {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps callers asleep until the value that is returned goes.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.waiting().holds += 1;
        Hold(self)
    }

    /// Wakes everybody. Whoever is awake helps: a runtime's own threads wake its tasks at less cost.
    fn ring(&self) {
        loop {
            // The lock is not held while somebody is woken.
            let next = self.waiting().wakers.pop_front();
            match next {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// While it lives, callers sleep on; then all are woken.
#[derive(Debug)]
pub(crate) struct Hold<'b>(&'b Bell);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.holds = waiting.holds.saturating_sub(1);
        drop(waiting);
        self.0.ring();
    }
}

/// Stands in for a caller's waker.
struct Relay {
    bell: Arc<Bell>,
    caller: Waker,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut waiting = self.bell.waiting();
        if waiting.holds > 0 {
            waiting.wakers.push_back(self.caller.clone());
        } else {
            drop(waiting);
            self.caller.wake_by_ref();
        }
    }
}

/// An answer that is waited for.
#[derive(Debug)]
pub(crate) struct Awaited<F> {
    pub(crate) answer: F,
    pub(crate) bell: Arc<Bell>,
}

impl<F: Future + Unpin> Future for Awaited<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let relay = Waker::from(Arc::new(Relay { bell: self.bell.clone(), caller: cx.waker().clone() }));
        let answer = Pin::new(&mut self.answer).poll(&mut Context::from_waker(&relay));
        if answer.is_ready() {
            self.bell.ring();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    type Asked = (oneshot::Sender<u8>, Awaited<oneshot::Receiver<u8>>);

    /// Two calls that wait, and how often somebody was woken.
    fn asked(bell: &Arc<Bell>) -> ([Asked; 2], Arc<Count>) {
        let woken = Arc::new(Count::default());
        let call = || {
            let (reply, answer) = oneshot::channel();
            let mut awaited = Awaited { answer, bell: bell.clone() };
            assert!(poll(&mut awaited, &woken).is_pending());
            (reply, awaited)
        };
        ([call(), call()], woken)
    }

    fn poll(
        awaited: &mut Awaited<oneshot::Receiver<u8>>,
        woken: &Arc<Count>,
    ) -> Poll<Result<u8, oneshot::error::RecvError>> {
        Pin::new(awaited).poll(&mut Context::from_waker(&Waker::from(woken.clone())))
    }

    #[test]
    fn callers_sleep_until_every_answer_is_put_down() {
        let bell = Arc::new(Bell::default());
        let ([(first, mut one), (second, mut two)], woken) = asked(&bell);
        let hold = bell.hold();
        first.send(1).unwrap();
        second.send(2).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        drop(hold);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!((poll(&mut one, &woken), poll(&mut two, &woken)), (Poll::Ready(Ok(1)), Poll::Ready(Ok(2))));
    }

    #[test]
    fn who_is_awake_wakes_the_others() {
        let bell = Arc::new(Bell::default());
        let ([(first, mut one), (second, _two)], woken) = asked(&bell);
        let _hold = bell.hold();
        first.send(1).unwrap();
        second.send(2).unwrap();
        assert_eq!(poll(&mut one, &woken), Poll::Ready(Ok(1)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn without_a_hold_nobody_sleeps_on() {
        let bell = Arc::new(Bell::default());
        let ([(first, mut one), (second, mut two)], woken) = asked(&bell);
        first.send(1).unwrap();
        // The writer is gone.
        drop(second);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert!(matches!((poll(&mut one, &woken), poll(&mut two, &woken)), (Poll::Ready(Ok(1)), Poll::Ready(Err(_)))));
    }
}

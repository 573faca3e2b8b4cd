//! Tells other processes that a task may be due, and hears of theirs. Nothing depends on it: due times are looked at all the
//! same.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use abca_core::store::{StoreError, StoreErrorKind};
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::config::PostgresConfig;

/// Rings closer together than this are one: the server takes a lock of the whole database for each.
const APART: Duration = Duration::from_millis(20);
/// How long to wait before a broken connection is made anew.
const PAUSE: Duration = Duration::from_secs(1);

/// What writers and readers of one process share.
#[derive(Debug, Default)]
struct Ropes {
    /// Somebody here has made something due.
    out: Notify,
    /// Somebody elsewhere has.
    heard: Notify,
}

/// A handle of the bell.
#[derive(Debug, Clone, Default)]
pub(super) struct Bell(Arc<Ropes>);

/// Ends the bell's thread when it is dropped.
#[derive(Debug)]
pub(super) struct Tower(#[expect(dead_code, reason = "its end is what is waited for")] oneshot::Sender<()>);

impl Bell {
    /// Says that something here is due. Never waits.
    pub(super) fn ring(&self) {
        self.0.out.notify_one();
    }

    /// Returns when another process may have made something due.
    pub(super) async fn rung(&self) {
        self.0.heard.notified().await;
    }

    fn hear(&self) {
        self.0.heard.notify_waiters();
        self.0.heard.notify_one();
    }

    /// Starts the thread that rings and listens.
    pub(super) fn hang(&self, config: &PostgresConfig) -> Result<Tower, StoreError> {
        let (config, channel) = (config.clone(), format!("abca_{}", config.schema));
        // Tells this handle's rings from others'.
        let me = format!("{:x}", RandomState::new().build_hasher().finish());
        let failed = |e: std::io::Error| {
            StoreError::new(StoreErrorKind::Unavailable, "open", format!("the bell's thread does not start: {e}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (tower, end) = oneshot::channel::<()>();
        let bell = self.clone();
        let run = move || {
            runtime.block_on(async {
                let pool = config.pool();
                tokio::select! {
                    _ = end => {}
                    () = bell.send(&pool, &channel, &me) => {}
                    () = bell.listen(&pool, &channel, &me) => {}
                }
                pool.close().await;
            });
        };
        std::thread::Builder::new().name("abca-pg-bell".to_owned()).spawn(run).map_err(failed)?;
        Ok(Tower(tower))
    }

    async fn send(&self, pool: &PgPool, channel: &str, me: &str) {
        loop {
            self.0.out.notified().await;
            let next = Instant::now() + APART;
            let rung = sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(me).execute(pool).await;
            if let Err(e) = rung {
                tracing::debug!(error = %e, "other processes are not told of due tasks: they find them by looking");
            }
            sleep_until(next).await;
        }
    }

    async fn listen(&self, pool: &PgPool, channel: &str, me: &str) {
        loop {
            if let Err(e) = self.listen_once(pool, channel, me).await {
                tracing::debug!(error = %e, "nothing is heard of other processes' due tasks: they are looked for");
            }
            // Something may have been missed.
            self.hear();
            sleep(PAUSE).await;
        }
    }

    async fn listen_once(&self, pool: &PgPool, channel: &str, me: &str) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(channel).await?;
        while let Some(heard) = listener.try_recv().await? {
            if heard.payload() != me {
                self.hear();
            }
        }
        Ok(())
    }
}

//! The bridge inside the hands: from a port of their own loopback interface to the proxy's socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 256;
/// A pause after a failed accept: as a rule there are no descriptors left for now.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the bridge stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeConfig {
    /// The port, on `127.0.0.1`.
    pub port: u16,
    /// The proxy's socket, as the hands see it.
    pub socket: PathBuf,
}

/// Listens, and answers with what then passes connections on for ever. It decides nothing: whoever goes around it to the
/// socket meets the same proxy.
///
/// # Errors
/// When the port cannot be had.
pub(crate) async fn bridge(config: &BridgeConfig) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = TcpListener::bind(("127.0.0.1", config.port)).await?;
    let socket = config.socket.clone();
    Ok(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((mut inner, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let socket = socket.clone();
            running.spawn(async move {
                if let Ok(mut outer) = UnixStream::connect(&socket).await {
                    // Either side may break off at any time.
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                }
                drop(place);
            });
        }
    })
}

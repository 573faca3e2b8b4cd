//! A service of Restate: seven steps, each journalled. Listens on 127.0.0.1:19081. With `$EFFECTS` each leaves a mark.

use abca_durable_peers::{STEPS, door, kilobyte};
use restate_sdk::prelude::*;

#[restate_sdk::service]
trait Task {
    async fn run(i: u64) -> Result<u64, TerminalError>;
}

struct TaskImpl;

impl Task for TaskImpl {
    async fn run(&self, ctx: Context<'_>, i: u64) -> Result<u64, TerminalError> {
        let mut size = 0;
        for step in STEPS {
            let wide = matches!(step, "hydrate" | "finalize");
            let text: String = ctx
                .run(|| async move {
                    door::mark(i, step);
                    Ok::<String, HandlerError>(if wide { kilobyte() } else { String::from("1") })
                })
                .name(step)
                .await?;
            size += text.len() as u64;
        }
        Ok(size + i - i)
    }
}

#[tokio::main]
async fn main() {
    let endpoint = Endpoint::builder().bind(TaskImpl.serve()).build();
    HttpServer::new(endpoint).listen_and_serve("127.0.0.1:19081".parse().unwrap()).await;
}

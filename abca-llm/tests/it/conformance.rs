//! The conformance suite over every client.

use std::sync::Arc;

use abca_core::model::ModelClient;
use abca_core::testing::model::{FakeModel, ModelHarness, Step, run};
use abca_llm::{Match, Recorder, Replay};
use async_trait::async_trait;

/// Records what a fake says, and plays that: a replay can say what a model answers, and no errors but its own.
struct Played(tempfile::TempDir);

#[async_trait]
impl ModelHarness for Played {
    fn model(&self) -> String {
        "replay".into()
    }

    async fn client(&self, script: Vec<Step>) -> Option<Arc<dyn ModelClient>> {
        use abca_core::model::{Content, ToolInput};
        if !script.iter().all(|s| matches!(s, Step::Reply(_))) {
            return None;
        }
        // The fake does not parse, so it says itself what a parser would.
        let script = script.into_iter().map(|mut s| {
            if let Step::Reply(reply) = &mut s {
                for c in &mut reply.content {
                    if let Content::ToolUse(call) = c
                        && let ToolInput::Invalid { error, .. } = &mut call.input
                    {
                        *error = "not JSON".into();
                    }
                }
            }
            s
        });
        let script: Vec<Step> = script.collect();
        let path = self.0.path().join("trajectory.jsonl");
        let _ = std::fs::remove_file(&path);
        Some(Arc::new(RecordThenPlay {
            recorder: Recorder::create(FakeModel::new(script), &path, Match::Normalised).unwrap(),
            path,
        }))
    }
}

/// Each call goes to the recorder first, and what comes back is what the replay of that recording says.
#[derive(Debug)]
struct RecordThenPlay {
    recorder: Recorder<FakeModel>,
    path: std::path::PathBuf,
}

#[async_trait]
impl ModelClient for RecordThenPlay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn capabilities(&self, model: &str) -> abca_core::model::ModelCapabilities {
        "{\"abca_trajectory\":1}\n{\"say\":\"x\"}".parse::<Replay>().unwrap().capabilities(model)
    }

    async fn stream(
        &self,
        request: &abca_core::model::ModelRequest,
    ) -> Result<abca_core::model::ModelStream, abca_core::model::ModelError> {
        use abca_core::model::ModelClientExt;
        self.recorder.complete(request).await?;
        Replay::open(&self.path)?.stream(request).await
    }

    async fn count_tokens(
        &self,
        request: &abca_core::model::ModelRequest,
    ) -> Result<abca_core::model::TokenCount, abca_core::model::ModelError> {
        "{\"abca_trajectory\":1}\n{\"say\":\"x\"}".parse::<Replay>().unwrap().count_tokens(request).await
    }
}

#[tokio::test]
async fn replay_conforms() {
    let skips = [
        "cut_stream",
        "throttled_with_wait",
        "overloaded",
        "context_too_long",
        "bad_request",
        "access_denied",
        "malformed",
    ];
    run(&Played(tempfile::tempdir().unwrap()), &skips).await;
}

#[cfg(any(feature = "anthropic", feature = "openai", feature = "bedrock"))]
mod over_http {
    use std::sync::Mutex;

    use super::*;
    use crate::server::Server;
    use crate::wires::{KEY, Wire};

    /// Clients of a loopback server that speaks a wire.
    struct Loopback<W, C> {
        wire: Arc<W>,
        connect: C,
        servers: Mutex<Vec<Server>>,
    }

    #[async_trait]
    impl<W, C> ModelHarness for Loopback<W, C>
    where
        W: Wire,
        C: AsyncFnClient,
    {
        fn model(&self) -> String {
            "conformance-model".into()
        }

        async fn client(&self, script: Vec<Step>) -> Option<Arc<dyn ModelClient>> {
            let answers = script.iter().map(|s| self.wire.step(s)).collect::<Option<Vec<_>>>()?;
            let wire = self.wire.clone();
            let server = Server::start(answers, Box::new(move |r| wire.aside(r))).await;
            let client = self.connect.connect(server.url.clone()).await;
            self.servers.lock().unwrap().push(server);
            Some(client)
        }
    }

    #[async_trait]
    trait AsyncFnClient: Send + Sync {
        async fn connect(&self, url: String) -> Arc<dyn ModelClient>;
    }

    async fn suite<W: Wire, C: AsyncFnClient>(wire: W, connect: C, skips: &[&str]) {
        let harness = Loopback { wire: Arc::new(wire), connect, servers: Mutex::default() };
        run(&harness, skips).await;
        let servers = harness.servers.into_inner().unwrap();
        let captured: Vec<_> = servers.iter().flat_map(Server::captured).collect();
        assert!(captured.len() > 20, "the servers were asked");
        captured.iter().for_each(|r| harness.wire.check(r));
    }

    #[cfg(feature = "anthropic")]
    #[tokio::test]
    async fn anthropic_conforms() {
        struct Connect;
        #[async_trait]
        impl AsyncFnClient for Connect {
            async fn connect(&self, url: String) -> Arc<dyn ModelClient> {
                use abca_llm::{Anthropic, AnthropicConfig};
                Arc::new(Anthropic::new(AnthropicConfig::new(KEY).base_url(url)).unwrap())
            }
        }
        suite(crate::wires::Messages, Connect, &[]).await;
    }

    #[cfg(feature = "openai")]
    #[tokio::test]
    async fn openai_conforms() {
        struct Connect;
        #[async_trait]
        impl AsyncFnClient for Connect {
            async fn connect(&self, url: String) -> Arc<dyn ModelClient> {
                use abca_llm::{OpenAi, OpenAiConfig};
                Arc::new(OpenAi::new(OpenAiConfig::new(KEY).base_url(format!("{url}/v1/"))).unwrap())
            }
        }
        // The wire has no word for a full window, for cache writes or for signed thinking.
        suite(crate::wires::Chat, Connect, &["context_full", "cache_usage", "thinking"]).await;
    }

    #[cfg(feature = "bedrock")]
    #[tokio::test]
    async fn bedrock_conforms() {
        struct Connect;
        #[async_trait]
        impl AsyncFnClient for Connect {
            async fn connect(&self, url: String) -> Arc<dyn ModelClient> {
                use abca_llm::{AwsKeys, Bedrock, BedrockConfig};
                let keys =
                    AwsKeys { access_key_id: "AKIDTEST".into(), secret_access_key: KEY.into(), session_token: None };
                let config = BedrockConfig::region("us-east-1").keys(keys).endpoint_url(url);
                Arc::new(Bedrock::connect(config).await.unwrap())
            }
        }
        suite(crate::wires::Converse, Connect, &[]).await;
    }
}

//! The connection to Amazon Bedrock, shared by models and guardrails.

use abca_core::model::{ModelError, ModelErrorKind};
use aws_credential_types::Credentials;
use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::retry::RetryConfig;
use aws_sdk_bedrockruntime::config::timeout::TimeoutConfig;
use aws_sdk_bedrockruntime::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use secrecy::ExposeSecret;

use crate::config::BedrockConfig;
use crate::fault::Scrub;

/// A client, and what takes its secrets out of errors.
///
/// # Errors
/// [`ModelErrorKind::Config`]: no region is to be found.
pub(super) async fn connect(config: &BedrockConfig) -> Result<(Client, Scrub), ModelError> {
    let scrub = Scrub::new(
        config.keys.iter().flat_map(|k| std::iter::once(&k.secret_access_key).chain(k.session_token.as_ref())),
    );
    let version = BehaviorVersion::latest();
    let credentials = config.keys.as_ref().map(|k| {
        let token = k.session_token.as_ref().map(|t| t.expose_secret().to_owned());
        Credentials::new(&k.access_key_id, k.secret_access_key.expose_secret(), token, None, "abca")
    });
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.idle_timeout)
        .disable_operation_timeout()
        .disable_operation_attempt_timeout()
        .build();
    let mut builder = match (&config.region, credentials) {
        (Some(_), Some(keys)) => aws_sdk_bedrockruntime::Config::builder()
            .behavior_version(version)
            .credentials_provider(SharedCredentialsProvider::new(keys)),
        (_, keys) => {
            let mut loader = aws_config::defaults(version);
            if let Some(profile) = &config.profile {
                loader = loader.profile_name(profile);
            }
            if let Some(keys) = keys {
                loader = loader.credentials_provider(SharedCredentialsProvider::new(keys));
            }
            let shared = loader.load().await;
            if config.region.is_none() && shared.region().is_none() {
                let what = "no aws region; set AWS_REGION, or `region` in the profile";
                return Err(ModelError::new(ModelErrorKind::Config, "connect", what));
            }
            aws_sdk_bedrockruntime::config::Builder::from(&shared)
        }
    };
    if let Some(region) = &config.region {
        builder = builder.region(Region::new(region.clone()));
    }
    if let Some(url) = &config.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    // One attempt: the retry layer repeats, and knows what it spends.
    let built = builder.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build();
    Ok((Client::from_conf(built), scrub))
}

//! As whom Glue is asked, and S3 where its properties name nobody else.
//!
//! An access key of the properties, or what AWS's own programs find: the environment, a profile (keys, single
//! sign-on, a program), a web identity, the container, the machine; as the role of the properties if there
//! is one. Found once and kept until it is about to run out: the clients of S3 ask for every file.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, Credential, DefaultCredentialProvider, RequestSigner,
    StaticCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, HttpSend, ProvideCredential,
    ProvideCredentialDyn, Result, Signer, SigningCredential,
};
use reqsign_file_read_tokio::TokioFileRead;
use reqwest::Client;
use tokio::sync::Mutex;

use super::GlueCatalogConfig;

/// Longest wait for a connection: the service of a machine that is none of AWS's does not answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How a role is known in the logs of AWS, unless the properties say.
const SESSION: &str = "agentflow";

/// Finds credentials, and keeps them.
#[derive(Clone)]
pub(super) struct Credentials(Arc<Inner>);

struct Inner {
    context: Context,
    provider: Arc<dyn ProvideCredentialDyn<Credential = Credential>>,
    kept: Mutex<Option<Credential>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// By the settings and the environment `env`.
    pub(super) fn new(
        config: &GlueCatalogConfig,
        region: &str,
        env: impl Env,
    ) -> reqwest::Result<Self> {
        let http =
            Client::builder().connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN).build()?;
        let context = Context::new()
            .with_file_read(TokioFileRead)
            .with_http_send(Http(http))
            .with_command_execute(Programs)
            .with_env(env);
        let found: Arc<dyn ProvideCredentialDyn<Credential = Credential>> = match config.key() {
            Some(key) => {
                let provider = StaticCredentialProvider::new(key.id, key.secret);
                Arc::new(match key.session_token {
                    Some(token) => provider.with_session_token(token),
                    None => provider,
                })
            }
            None => {
                let chain = DefaultCredentialProvider::builder();
                Arc::new(match config.profile() {
                    // A profile that is asked for by name comes before the environment.
                    Some(profile) => chain.no_env().with_profile(profile).build(),
                    None => chain.build(),
                })
            }
        };
        let provider = match config.role("arn") {
            None => found,
            Some(arn) => {
                let signer = Signer::new(context.clone(), found, RequestSigner::new("sts", region));
                let mut role = AssumeRoleCredentialProvider::new(arn.to_owned(), signer)
                    .with_region(region.to_owned())
                    .with_regional_sts_endpoint()
                    .with_role_session_name(
                        config.role("session-name").unwrap_or(SESSION).to_owned(),
                    );
                if let Some(id) = config.role("external-id") {
                    role = role.with_external_id(id.to_owned());
                }
                Arc::new(role)
            }
        };
        Ok(Self(Arc::new(Inner { context, provider, kept: Mutex::new(None) })))
    }

    /// A signer of requests to Glue.
    pub(super) fn signer(&self, region: &str) -> Signer<Credential> {
        Signer::new(self.0.context.clone(), self.clone(), RequestSigner::new("glue", region))
    }
}

impl ProvideCredential for Credentials {
    type Credential = Credential;

    /// In its own context: that of a client of S3 starts no programs.
    async fn provide_credential(&self, _: &Context) -> Result<Option<Credential>> {
        let mut kept = self.0.kept.lock().await;
        if !kept.as_ref().is_some_and(SigningCredential::is_valid) {
            *kept = self.0.provider.provide_credential_dyn(&self.0.context).await?;
        }
        Ok(kept.clone())
    }
}

/// Our HTTP client, for the services that hand out credentials.
#[derive(Debug)]
struct Http(Client);

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        // Without the URL: it may hold a secret.
        let failed = |error: reqwest::Error| {
            Error::unexpected("no answer from a service that hands out credentials")
                .with_source(error.without_url())
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut answer = self.0.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        *response.body_mut() = answer.bytes().await.map_err(failed)?;
        Ok(response)
    }
}

/// Longest time for such a program.
const PROGRAM_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Starts the program that a profile names (`credential_process`).
#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        let failed = |error: String| Error::unexpected(format!("start `{program}`: {error}"));
        let ended = tokio::task::spawn_blocking(move || command.output());
        // Whoever waits for credentials holds up the lake; the program itself is not ours to end.
        let ended = tokio::time::timeout(PROGRAM_WITHIN, ended).await.map_err(|_| {
            failed(format!("it has not ended within {} s", PROGRAM_WITHIN.as_secs()))
        })?;
        let output = ended.map_err(|error| failed(error.to_string()))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use reqsign_core::StaticEnv;

    use super::*;

    fn config(properties: &[(&str, &str)]) -> GlueCatalogConfig {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        GlueCatalogConfig {
            catalog_id: None,
            warehouse: "s3://lake".to_owned(),
            properties: properties.collect(),
        }
    }

    /// The key that is found, and its secret.
    #[track_caller]
    fn found(
        properties: &[(&str, &str)],
        env: &[(&str, &str)],
        home: &Path,
    ) -> Option<(String, String)> {
        let mut envs: HashMap<String, String> =
            env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        // Where the tests run there may be one.
        envs.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        let env = StaticEnv { home_dir: Some(home.to_owned()), envs };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let credentials =
            Credentials::new(&config(properties), "eu-west-1", env).expect("a client");
        let asked = credentials.provide_credential(&credentials.0.context);
        let key = runtime.expect("a runtime").block_on(asked).expect("an answer")?;
        Some((key.access_key_id, key.secret_access_key))
    }

    #[test]
    fn the_nearest_credentials_are_taken() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).expect("a folder");
        let program = home.path().join("program");
        let keys = r#"echo '{"Version": 1, "AccessKeyId": "program", "SecretAccessKey": "s"}'"#;
        std::fs::write(&program, keys).expect("write");
        let profiles = "[default]\naws_access_key_id = default\naws_secret_access_key = s\n\
                        [other]\naws_access_key_id = other\naws_secret_access_key = s\n";
        std::fs::write(folder.join("credentials"), profiles).expect("write");
        let config = format!("[profile started]\ncredential_process = sh {}\n", program.display());
        std::fs::write(folder.join("config"), config).expect("write");
        let check = |properties: &[(&str, &str)], env: &[(&str, &str)], expected: &str| {
            let key = found(properties, env, home.path());
            assert_eq!(key, Some((expected.to_owned(), "s".to_owned())), "{properties:?} {env:?}");
        };
        let own = [("glue.access-key-id", "own"), ("glue.secret-access-key", "s")];
        let env = [("AWS_ACCESS_KEY_ID", "environment"), ("AWS_SECRET_ACCESS_KEY", "s")];
        check(&own, &env, "own");
        check(&[], &env, "environment");
        check(&[], &[], "default");
        check(&[], &[("AWS_PROFILE", "other")], "other");
        check(&[("glue.profile-name", "other")], &env, "other");
        check(&[("client.profile-name", "started")], &[], "program");
    }

    #[test]
    fn where_there_are_none_none_are_found() {
        let home = tempfile::tempdir().expect("a folder");
        assert_eq!(found(&[], &[], home.path()), None);
    }
}

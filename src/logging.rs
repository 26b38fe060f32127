//! Logs: lower-case fragments with fields, on stderr, filtered by AGENTFLOW_LOG.

use tracing_subscriber::EnvFilter;

/// Starts logging; `default` holds where AGENTFLOW_LOG says nothing (or nothing readable).
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::builder()
        .with_env_var("AGENTFLOW_LOG")
        .try_from_env()
        .unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .finish();
    // Only the first one counts; a second start would be a mistake without consequence.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

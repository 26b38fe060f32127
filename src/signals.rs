//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once. SIGHUP: contracts are read
//! again.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, INTERRUPTED, chain};

/// Calls `ask` at each SIGHUP, from another thread.
pub(crate) fn on_hangup(mut ask: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::ours(format!("watch signals: {}", chain(&error)));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut hangup = {
        let _context = runtime.enter();
        signal(SignalKind::hangup()).map_err(failed)?
    };
    let watch = move || {
        runtime.block_on(async {
            while hangup.recv().await.is_some() {
                ask();
            }
        });
    };
    std::thread::Builder::new().name("hangup".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}

/// Calls `ask` at the first signal, from another thread.
pub(crate) fn on_end(ask: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::ours(format!("watch signals: {}", chain(&error)));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let watch = move || {
        runtime.block_on(async {
            for ask in [Some(ask), None] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                match ask {
                    Some(ask) => ask(),
                    None => std::process::exit(i32::from(INTERRUPTED)),
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}

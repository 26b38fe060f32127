//! A Redis server of the test's own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::wait_for;

/// A running server, ended when dropped.
pub struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one in memory; `None` where there is no `redis-server` (or `valkey-server`).
    pub fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Nobody else takes a free port in the moment between.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let start = |program: &str| {
            Command::new(program)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
                .arg("--dir")
                .arg(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        let child = start("redis-server").or_else(|| start("valkey-server"))?;
        let redis = Self { child, port, _folder: folder };
        wait_for("Redis", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

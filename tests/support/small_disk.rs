//! A disk with little room: a tmpfs in a mount namespace of its own, for which nobody has to be root.
//!
//! A process keeps the namespace while this value lives; programs that are to see the disk are
//! started by way of [`SmallDisk::enter`]. To everybody else its folder is empty.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts the rest of its arguments in a mount namespace of its own; as another user than root that
/// takes a user namespace too.
const OWN_MOUNTS: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// The disk.
pub struct SmallDisk {
    keeper: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// Can there be one? If not, that is said aloud, and is a failure where it counts.
    pub fn is_possible() -> bool {
        let probe = Command::new(OWN_MOUNTS[0])
            .args(&OWN_MOUNTS[1..])
            .args(["sh", "-c", "mount -t tmpfs -o size=1m none /mnt"])
            .stdin(Stdio::null())
            .output();
        match probe {
            Ok(output) if output.status.success() => true,
            other => {
                let why = format!("no mount namespace to be had here: {other:?}");
                assert!(std::env::var_os("CI").is_none(), "{why}");
                eprintln!("NOT TESTED: {why}");
                false
            }
        }
    }

    /// A disk of that size (`24m`) at `folder`.
    #[track_caller]
    pub fn mount(folder: &Path, size: &str) -> Self {
        std::fs::create_dir(folder).expect("the folder of the disk");
        // `cat` ends with its input, which is with this process at the latest.
        let script = "mount -t tmpfs -o \"size=$1\" none \"$0\" && echo mounted && exec cat";
        let mut keeper = Command::new(OWN_MOUNTS[0])
            .args(&OWN_MOUNTS[1..])
            .args(["sh", "-c", script])
            .arg(folder)
            .arg(size)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "mounted\n");
        Self { keeper, folder: folder.to_owned() }
    }

    /// Words before those of a program that is to see the disk. They start no process of their own.
    pub fn enter(&self) -> Vec<String> {
        let keeper = self.keeper.id().to_string();
        ["nsenter", "--target", &keeper, "--user", "--preserve-credentials", "--mount"]
            .map(str::to_owned)
            .to_vec()
    }

    #[track_caller]
    fn shell(&self, script: &str, argument: &str) {
        let words = self.enter();
        let status = Command::new(&words[0])
            .args(&words[1..])
            .args(["sh", "-c", script])
            .arg(&self.folder)
            .arg(argument)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("nsenter is there");
        assert!(status.success(), "{script}: {status}");
    }

    /// Gives it another size.
    #[track_caller]
    pub fn resize(&self, size: &str) {
        self.shell("mount -o \"remount,size=$1\" \"$0\"", size);
    }

    /// Takes all the room that is left.
    #[track_caller]
    pub fn fill(&self) {
        self.shell("cat /dev/zero >\"$0/ballast\"; [ -s \"$0/ballast\" ]", "");
    }

    /// Gives that room back.
    #[track_caller]
    pub fn make_room(&self) {
        self.shell("rm \"$0/ballast\"", "");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

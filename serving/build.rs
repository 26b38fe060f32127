//! Lets binaries find DuckDB's shared library without anybody setting `LD_LIBRARY_PATH`.
//!
//! With the feature `bundled` DuckDB is compiled in and there is nothing to do. Without it the
//! prebuilt `libduckdb.so` from `DUCKDB_LIB_DIR` is copied beside the built binaries, and this
//! crate's test binaries (which lie one folder deeper) look for it there.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const LIBRARY: &str = "libduckdb.so";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    if env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        return;
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/..");
    let Some(lib_dir) = env::var_os("DUCKDB_LIB_DIR") else {
        // The library is installed where the loader looks by itself.
        return;
    };
    let source = Path::new(&lib_dir).join(LIBRARY);
    println!("cargo:rerun-if-changed={}", source.display());
    let Some(target) = profile_dir() else { return };
    if let Err(error) = copy(&source, &target) {
        println!(
            "cargo:warning=cannot copy `{}` beside the binaries in `{}`: {error}",
            source.display(),
            target.display()
        );
    }
}

/// `target/<profile>`, three levels above `OUT_DIR` (`target/<profile>/build/<crate>/out`).
fn profile_dir() -> Option<PathBuf> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    out.ancestors().nth(3).map(Path::to_path_buf)
}

/// Copies under another name first: a running binary must never see half a library.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let unfinished = target.join(format!("{LIBRARY}.{}", std::process::id()));
    fs::copy(source, &unfinished)?;
    fs::rename(&unfinished, target.join(LIBRARY))
}

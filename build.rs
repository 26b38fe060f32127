//! Build script of the command: where the binary looks for DuckDB's library, and the shop's
//! contracts as part of the binary.
//!
//! The prebuilt `libduckdb.so` lies beside the binary and, for tests and benches, one folder above
//! (`target/release` and `target/release/deps`); `agentflow-serving`'s build script copies it
//! there. With the feature `bundled` there is no such library and the paths are not used.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    if env::var_os("CARGO_FEATURE_BUNDLED").is_none() {
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN");
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/..");
    }
    embed_contracts("contracts/domains/shop");
    println!("cargo::rerun-if-changed=build.rs");
}

/// Writes `shop.rs` into OUT_DIR: `&[(file name, text)]` of all contracts in `folder`, so that
/// `agentflow demo` works wherever the binary is. The texts themselves and no paths to them: build
/// products are shared by clones in other folders.
fn embed_contracts(folder: &str) {
    println!("cargo::rerun-if-changed={folder}");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut files: Vec<PathBuf> = fs::read_dir(root.join(folder))
        .unwrap_or_else(|error| panic!("read {folder}: {error}"))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut out = String::from("&[\n");
    for path in &files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("an ASCII file name");
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        writeln!(out, "    ({name:?}, {text:?}),").expect("writes to a string");
    }
    out.push_str("]\n");
    let to = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("shop_contracts.rs");
    fs::write(to, out).expect("OUT_DIR is writable");
}

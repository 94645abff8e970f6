//! `rust-version` in `Cargo.toml` is true for the dependencies: none of the locked ones needs a newer Rust.
//!
//! For the project's own code, clippy's `incompatible_msrv` looks at each standard library item that it uses.

use std::process::Command;

use serde_json::Value;

/// "1.88" and "1.88.0" are the same version.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "only {} packages", packages.len());

    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let newer =
        packages.iter().filter(|package| package["rust_version"].as_str().is_some_and(|rust| version(rust) > ours));
    let newer: Vec<String> =
        newer.map(|package| format!("{} needs Rust {}", package["name"], package["rust_version"])).collect();
    assert!(newer.is_empty(), "{}", newer.join("\n"));
}

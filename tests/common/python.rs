//! Python, for what its libraries have to say of what we write.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has `modules`: the one that `NESTLING_PYTHON` names, that of `./test.sh test`, or the system's. Where it has
/// not, says so.
pub fn with(modules: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let named = std::env::var_os("NESTLING_PYTHON").map(Into::into);
    let python: PathBuf = named.unwrap_or(if own.exists() { own } else { "python3".into() });
    let tried = Command::new(&python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    let has = tried.is_ok_and(|status| status.success());
    if !has {
        println!("SKIPPED: {} has not all of: {modules}", python.display());
    }
    has.then_some(python)
}

//! Building a board's firmware and bringing it onto a board with the tools that are there.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::board::{Board, BoardInput, Runner};

/// A firmware that was built.
pub struct Built {
    pub path: PathBuf,
    /// Bytes of code and constants, and of variables, as its sections say.
    pub flash_bytes: usize,
    pub static_bytes: usize,
}

/// Builds the firmware of `board` with the image `image` in it.
pub fn build(board: &Board, image: &[u8]) -> Result<Built, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let path = folder.path().join("model.img");
    std::fs::write(&path, image).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", &board.target, "--message-format", "json-render-diagnostics"]);
    if !board.cargo_features.is_empty() {
        cargo.args(["--features", &board.cargo_features.join(",")]);
    }
    if board.runner == Runner::Qemu && board.input != BoardInput::Link {
        // An emulator has no sensor.
        cargo.env("NESTLING_INPUT", "link");
    }
    cargo.args(core_library(&board.target)?).current_dir(&board.folder).env("NESTLING_IMAGE", &path);
    cargo.stderr(std::process::Stdio::inherit());
    let output =
        cargo.output().map_err(|e| format!("cargo does not start: {e}\n  what to do: install Rust (rustup)"))?;
    if !output.status.success() {
        return Err(format!("the firmware of board {} was not built; cargo says why above", board.name));
    }
    let path =
        executable(&output.stdout).ok_or_else(|| format!("cargo built no program in {}", board.folder.display()))?;
    let elf = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (flash_bytes, static_bytes) =
        sections(&elf).ok_or_else(|| format!("{}: this is no 32-bit ELF file", path.display()))?;
    Ok(Built { path, flash_bytes, static_bytes })
}

/// The program that cargo's messages name.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let messages = messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut named = messages.filter_map(|m: serde_json::Value| m.get("executable")?.as_str().map(PathBuf::from));
    named.next_back()
}

/// What cargo must be told so that there is a core library for `target`.
fn core_library(target: &str) -> Result<&'static [&'static str], String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.map_err(|e| format!("rustc does not start: {e}\n  what to do: install Rust (rustup)"))?;
    let libraries = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("lib/rustlib");
    if libraries.join(target).join("lib").exists() {
        return Ok(&[]);
    }
    let unstable = std::env::var_os("RUSTC_BOOTSTRAP").is_some();
    let own = std::env::var_os("__CARGO_TESTS_ONLY_SRC_ROOT").is_some() || libraries.join("src/rust/library").exists();
    if unstable && own {
        return Ok(&["-Zbuild-std=core", "-Zbuild-std-features=compiler-builtins-mem"]);
    }
    Err(format!(
        "there is no core library for {target}\n  what to do: rustup target add {target}; or, where that cannot be had, \
         rustup component add rust-src and set RUSTC_BOOTSTRAP=1"
    ))
}

/// Bytes that an ELF file's sections take in flash, and as variables in RAM.
fn sections(elf: &[u8]) -> Option<(usize, usize)> {
    const WRITE: u32 = 1;
    const ALLOCATE: u32 = 2;
    const NO_BITS: u32 = 8;
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if !elf.starts_with(b"\x7fELF\x01\x01") {
        return None;
    }
    let (table, entry, count) = (word(0x20)? as usize, half(0x2E)?, half(0x30)?);
    let (mut flash, mut ram) = (0, 0);
    for number in 0..count {
        let at = table.checked_add(number * entry)?;
        let (kind, flags, size) =
            (word(at.checked_add(4)?)?, word(at.checked_add(8)?)?, word(at.checked_add(20)?)? as usize);
        if flags & ALLOCATE != 0 {
            flash += if kind == NO_BITS { 0 } else { size };
            ram += if flags & WRITE != 0 { size } else { 0 };
        }
    }
    Some((flash, ram))
}

/// Brings the firmware at `path` onto the board.
pub fn flash(board: &Board, path: &Path) -> Result<String, String> {
    let (tool, arguments, install): (_, Vec<&str>, _) = match board.runner {
        Runner::ProbeRs => {
            let chip = board.chip.as_deref().ok_or_else(|| {
                format!("{}: no key chip, which probe-rs needs", board.folder.join("board.toml").display())
            })?;
            ("probe-rs", vec!["download", "--chip", chip], "cargo install probe-rs-tools, and connect the probe")
        }
        Runner::Uf2 => (
            "elf2uf2-rs",
            vec!["-d"],
            "cargo install elf2uf2-rs, and connect the board with its BOOTSEL button held down",
        ),
        Runner::Qemu => return Ok(String::new()),
    };
    let run = |arguments: &[&str], path: Option<&Path>| {
        let status = Command::new(tool).args(arguments).args(path).status();
        let status = status.map_err(|e| format!("{tool} does not start: {e}\n  what to do: {install}"))?;
        let failed = format!("{tool} failed; it says why above\n  what to do: {install}");
        if status.success() { Ok(()) } else { Err(failed) }
    };
    run(&arguments, Some(path))?;
    if let [_, "--chip", chip] = arguments[..] {
        run(&["reset", "--chip", chip], None)?;
    }
    Ok(format!("flashed to board {}; it learns. `nestling run --source serial:PORT` shows what it sees", board.name))
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn any_bytes_are_measured_or_refused() {
        let mut elf = vec![0u8; 0x34 + 2 * 40];
        elf[..6].copy_from_slice(b"\x7fELF\x01\x01");
        (elf[0x20], elf[0x2E], elf[0x30]) = (0x34, 40, 2);
        // .text: bits, allocated; .bss: none, written.
        (elf[0x34 + 4], elf[0x34 + 8], elf[0x34 + 20]) = (1, 2, 100);
        (elf[0x34 + 44], elf[0x34 + 48], elf[0x34 + 60]) = (8, 3, 7);
        assert_eq!(sections(&elf), Some((100, 7)));
        for cut in 0..elf.len() - 16 {
            assert_eq!(sections(&elf[..cut]), None, "{cut}");
        }
        elf[0x20..0x24].fill(255);
        assert_eq!(sections(&elf), None);
    }
}

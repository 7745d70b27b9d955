//! Where files and sockets go: is the folder there, may we, is there room.

use std::path::Path;

use super::root::{ENTER, READ, WRITE};
use super::{Check, Hardware, Planned, Root, mb};
use crate::board::Profile;

/// A socket's path must fit the kernel's structure.
const LONGEST_SOCKET: usize = 107;
/// What else is to fit on the disk.
const RESERVE: u64 = 50_000_000;

pub(super) fn check(profile: &Profile, planned: Option<&Planned>, root: &Root, hardware: &dyn Hardware) -> Vec<Check> {
    let mut checks = vec![match &profile.store.path {
        Some(path) => store(path, profile, planned, root, hardware),
        None => Check::warn("store", "none: what is learned is lost at the end", "write [store] path"),
    }];
    let Profile { output, control, .. } = profile;
    for (name, path) in [("features", &output.socket), ("postcard", &output.postcard), ("control", &control.socket)] {
        checks.extend(path.as_deref().map(|path| socket(name, path, root)));
    }
    for controller in &profile.controller {
        let name = format!("controller {}", controller.name);
        if let Some(file) = &controller.file {
            checks.push(
                folder_check(&name, file, root)
                    .unwrap_or_else(|| Check::ok(&name, format!("{} can be written", file.display()))),
            );
        }
        if let Some(program) = controller.command.first() {
            checks.push(match root.has_program(program) {
                true => Check::ok(&name, format!("the program {program} is there")),
                false => Check::fail(
                    &name,
                    format!("the program {program} is not there"),
                    "install it, or write its whole path",
                ),
            });
        }
    }
    checks
}

/// The folder of a path.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is wrong with the folder of `path`, if anything is.
fn folder_check(name: &str, path: &Path, root: &Root) -> Option<Check> {
    let folder = folder_of(path);
    let (user, shown) = (root.user_name(), folder.display());
    if !root.exists(folder) {
        let remedy = match folder.starts_with("/run/nestling") {
            true => format!("systemd makes it for the service; by hand: sudo install -d -o {user} {shown}"),
            false => format!("sudo install -d -o {user} {shown}"),
        };
        // A service's own folder is there when the service is.
        let check = Check::fail(name, format!("the folder {shown} is not there"), remedy);
        return Some(check);
    }
    (!root.permits(folder, READ | WRITE | ENTER))
        .then(|| Check::fail(name, format!("no permission to write in {shown}"), format!("sudo chown {user} {shown}")))
}

fn store(path: &Path, profile: &Profile, planned: Option<&Planned>, root: &Root, hardware: &dyn Hardware) -> Check {
    if let Some(wrong) = folder_check("store", path, root) {
        return wrong;
    }
    let real = root.path(path);
    let disk = hardware.disk(&root.path(folder_of(path)));
    if disk.is_some_and(|disk| disk.read_only) {
        let remedy = "sudo mount -o remount,rw, or another path; a card that went read-only is wearing out";
        return Check::fail("store", format!("the disk of {} is read-only", path.display()), remedy);
    }
    let mut size = planned.map_or(0, Planned::bytes);
    let mut state = "no checkpoint yet".to_string();
    if real.exists() {
        match crate::store::read(&real) {
            Ok(saved) => {
                size = std::fs::metadata(&real).map_or(size, |meta| meta.len());
                state = format!("a checkpoint of {} ({})", saved.spec.name, mb(size));
                if let Some(reason) = saved.set_aside {
                    let found = format!("{state}, but of an older generation: {reason}");
                    return Check::warn("store", found, "it will be gone on from; look after the disk");
                }
            }
            Err(error) => {
                let remedy = "set the file aside to begin anew, or fetch a copy";
                return Check::fail("store", format!("the checkpoint cannot be used: {error}"), remedy);
            }
        }
    }
    // The generations, and the one that is being written.
    let needed = size * (profile.store.generations as u64 + 1) + RESERVE;
    match disk {
        None => Check::ok("store", format!("{state}; {} can be written", path.display())),
        Some(disk) => {
            let found = format!("{state}; {} free on the disk of {}", mb(disk.free_bytes), path.display());
            match disk.free_bytes < needed {
                true => Check::fail("store", found, format!("make room: {} may be needed", mb(needed))),
                false => Check::ok("store", found),
            }
        }
    }
}

fn socket(name: &str, path: &Path, root: &Root) -> Check {
    if path.as_os_str().len() > LONGEST_SOCKET {
        let found = format!("{} has more than {LONGEST_SOCKET} bytes", path.display());
        return Check::fail(name, found, "a shorter path");
    }
    match folder_check(name, path, root) {
        Some(wrong) if path.starts_with("/run/nestling") && !root.exists("/run/nestling") => {
            Check { status: super::Standing::Warn, ..wrong }
        }
        Some(wrong) => wrong,
        None => Check::ok(name, format!("a socket can be made in {}", folder_of(path).display())),
    }
}

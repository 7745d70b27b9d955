//! The machine's files, from a root that tests choose, and what the user may do with them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Check;

/// Bits of a file's mode for one of user, group and others.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const ENTER: u32 = 1;

/// Where the machine's files are.
#[derive(Clone, Debug)]
pub struct Root {
    root: PathBuf,
}

impl Default for Root {
    /// This machine.
    fn default() -> Self {
        Root { root: "/".into() }
    }
}

/// Who asks.
struct User {
    id: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Root {
    /// As if `root` were the root of the file system.
    pub fn under(root: &Path) -> Self {
        Root { root: root.into() }
    }

    /// Where `path` really is. One that is relative stays so.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match path.strip_prefix("/") {
            Ok(below) => self.root.join(below),
            Err(_) => path.into(),
        }
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// A file's text, without what stands around it; empty where it cannot be read.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> String {
        let bytes = std::fs::read(self.path(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_string()
    }

    /// Names in a folder that begin with `prefix`, in order.
    pub(super) fn names(&self, folder: impl AsRef<Path>, prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// Whether a program is installed.
    pub(super) fn has_program(&self, name: &str) -> bool {
        match name.contains('/') {
            true => self.exists(name),
            false => {
                ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].iter().any(|f| self.exists(Path::new(f).join(name)))
            }
        }
    }

    pub(super) fn is_pi(&self) -> bool {
        self.read("/proc/device-tree/model").starts_with("Raspberry Pi")
    }

    /// Whether the user may use `path` as `wanted` says, by bits of [`READ`], [`WRITE`] and [`ENTER`].
    pub(super) fn permits(&self, path: impl AsRef<Path>, wanted: u32) -> bool {
        let path = self.path(path);
        if self.root == Path::new("/") {
            // The system knows of access lists, too.
            let mut access = rustix::fs::Access::empty();
            access.set(rustix::fs::Access::READ_OK, wanted & READ > 0);
            access.set(rustix::fs::Access::WRITE_OK, wanted & WRITE > 0);
            access.set(rustix::fs::Access::EXEC_OK, wanted & ENTER > 0);
            return rustix::fs::access(&path, access).is_ok();
        }
        std::fs::metadata(path).is_ok_and(|meta| by_mode(&self.user(), &meta, wanted))
    }

    fn user(&self) -> User {
        let status = self.read("/proc/self/status");
        let ids = |key: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().filter_map(|id| id.parse().ok()).collect()
        };
        // The second one of the four is the one that counts.
        let effective = |key| ids(key).get(1).copied().unwrap_or(u32::MAX);
        User { id: effective("Uid:"), group: effective("Gid:"), groups: ids("Groups:") }
    }

    /// Fields of the line of `/etc/passwd` or `/etc/group` whose field `place` is `value`.
    fn entry(&self, file: &str, place: usize, value: &str) -> Option<Vec<String>> {
        let text = self.read(file);
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(fields).find(|fields| fields.get(place).is_some_and(|field| field == value))
    }

    /// The user's name, or number where it has none.
    pub(super) fn user_name(&self) -> String {
        let id = self.user().id.to_string();
        self.entry("/etc/passwd", 2, &id).map_or(id, |fields| fields[0].clone())
    }

    pub(super) fn user_check(&self) -> Check {
        let user = self.user();
        let mut groups = user.groups.clone();
        groups.push(user.group);
        let names: Vec<String> = ["video", "render", "audio", "i2c", "gpio", "spi", "dialout"]
            .into_iter()
            .filter(|name| self.group_id(name).is_some_and(|id| groups.contains(&id)))
            .map(str::to_owned)
            .collect();
        let names = match (user.id, &names[..]) {
            (0, _) => "may do everything; a service should not".into(),
            (_, []) => "in no group for devices".into(),
            _ => format!("in the groups {}", names.join(", ")),
        };
        Check::ok("user", format!("{}, {names}", self.user_name()))
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.entry("/etc/group", 0, name)?.get(2)?.parse().ok()
    }

    /// What gives the user what the group `name` has.
    pub(super) fn join_group(&self, name: &str) -> String {
        let user = self.user_name();
        let Some(entry) = self.entry("/etc/group", 0, name) else {
            return format!("there is no group {name} here: a udev rule has to give the device to a group of {user}");
        };
        let listed = entry.get(3).is_some_and(|members| members.split(',').any(|member| member == user));
        match listed {
            true => format!("log in again: {user} has been in the group {name} only since then"),
            false => format!("sudo usermod -aG {name} {user}, then log in again"),
        }
    }
}

fn by_mode(user: &User, meta: &Metadata, wanted: u32) -> bool {
    let bits = if user.id == meta.uid() {
        meta.mode() >> 6
    } else if user.group == meta.gid() || user.groups.contains(&meta.gid()) {
        meta.mode() >> 3
    } else {
        meta.mode()
    };
    user.id == 0 || bits & wanted == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn root_of(user: &str) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in [
            ("proc/self/status", user),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nrobin:x:4242:4242::/home/robin:/bin/sh\n"),
            ("etc/group", "video:x:44:robin\ni2c:x:998:\n"),
            ("dev/video0", ""),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let root = Root::under(folder.path());
        (folder, root)
    }

    #[test]
    fn who_may_open_a_file_is_told_by_its_mode() {
        let (_folder, root) = root_of("Uid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t44\n");
        let path = root.path("/dev/video0");
        for (mode, wanted, may) in
            [(0o660, READ, false), (0o664, READ, true), (0o664, READ | WRITE, false), (0o666, READ | WRITE, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our file");
            assert_eq!(root.permits("/dev/video0", wanted), may, "{mode:o} {wanted}");
        }
        assert!(!root.permits("/dev/video1", READ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("our file");
        let meta = fs::metadata(&path).expect("our file");
        let user = |id, group, groups: &[u32]| User { id, group, groups: groups.to_vec() };
        assert!(by_mode(&user(meta.uid(), 1, &[]), &meta, READ | WRITE), "the owner");
        assert!(by_mode(&user(4242, 1, &[meta.gid()]), &meta, READ), "the group");
        assert!(!by_mode(&user(4242, meta.gid(), &[]), &meta, WRITE), "the group may not write");
        assert!(by_mode(&user(0, 1, &[]), &meta, WRITE), "root");
    }

    #[test]
    fn a_group_that_was_joined_after_logging_in_is_told_apart() {
        let (_folder, root) = root_of("Uid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t998\n");
        assert!(root.join_group("video").starts_with("log in again"));
        assert!(root.join_group("i2c").contains("usermod -aG i2c robin"));
        assert!(root.join_group("gpio").contains("no group gpio"));
        assert_eq!(root.user_check().found, "robin, in the groups i2c");
    }
}

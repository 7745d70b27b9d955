//! A file system in memory that forgets what was not synced, for cutting its power at each call.
//!
//! A process sees every call take effect at once. What lasts is less: a file's bytes since its last sync, and each name made,
//! moved or removed since its folder's last sync, may or may not have reached the disk, each for itself, in any order;
//! of the bytes any sectors may have, with garbage in the others. Only this is promised: one rename is done or not done.

use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nestling::store::disk::{Disk, Output};

/// What is torn is torn between sectors.
const SECTOR: usize = 512;
/// The folder that is always there.
const ROOT: &str = ".";

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(ROOT))
}

/// What a mistake in the code of the store would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    FileNotSynced,
    /// Synced before its last sector was written.
    FileSyncedTooSoon,
    FolderNotSynced,
    /// The folder's own name in the folder above is not made to last.
    FolderAboveNotSynced,
    /// The new file is written over the old one.
    InPlace,
    /// A damaged file is left where the next save takes it for a good one.
    NotSetAside,
}

/// Calls that fail: from the one numbered `from` on, `count` of those that are of the `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: ErrorKind,
    pub from: usize,
    pub count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    lasting: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Made(PathBuf, Node),
    Moved { from: PathBuf, to: PathBuf, node: Node },
    Removed(PathBuf),
}

impl Change {
    fn folder(&self) -> &Path {
        let (Change::Made(path, _) | Change::Moved { to: path, .. } | Change::Removed(path)) = self;
        parent(path)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Made(path, node) => _ = names.insert(path.clone(), *node),
            Change::Removed(path) => _ = names.remove(path),
            Change::Moved { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Clone, Default)]
struct State {
    names: BTreeMap<PathBuf, Node>,
    lasting: BTreeMap<PathBuf, Node>,
    files: Vec<File>,
    pending: Vec<Change>,
    /// Calls that change something, and all calls.
    changes: usize,
    calls: usize,
    power_until: Option<usize>,
    fault: Option<Fault>,
    mistake: Option<Mistake>,
}

fn error(kind: ErrorKind) -> io::Error {
    io::Error::new(kind, "the simulated disk fails")
}

impl State {
    /// Takes note of a call; `needs_room` where it takes space on the disk, `changes` where it changes something.
    fn call(&mut self, changes: bool, needs_room: bool) -> io::Result<()> {
        self.calls += 1;
        if self.power_until.is_some_and(|until| self.changes >= until) {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(fault) = &mut self.fault {
            let concerned = match fault.kind {
                ErrorKind::StorageFull => needs_room,
                ErrorKind::ReadOnlyFilesystem => changes,
                _ => true,
            };
            if concerned && self.calls > fault.from && fault.count > 0 {
                fault.count -= 1;
                return Err(error(fault.kind));
            }
        }
        self.changes += usize::from(changes);
        Ok(())
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// A handle on the disk; its clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// The file that is put in the place of `path` when the mistake is to write over it.
fn in_place(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|e| e == "new") { path.with_extension("") } else { path.into() }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn with_mistake(mistake: Option<Mistake>) -> Self {
        let disk = SimDisk::default();
        disk.state().mistake = mistake;
        disk
    }

    /// The power goes when `changes` more calls have changed something.
    pub fn cut_after(&self, changes: usize) {
        let mut state = self.state();
        state.power_until = Some(state.changes + changes);
    }

    pub fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Calls so far that changed something, and all calls.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.changes, state.calls)
    }

    /// Names of all files.
    pub fn names(&self) -> Vec<String> {
        let state = self.state();
        let files = state.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// Flips a bit of a file where it lies.
    pub fn rot(&self, path: &Path, byte: usize) {
        let mut state = self.state();
        let file = state.file(path).expect("a file");
        let File { now, lasting } = &mut state.files[file];
        now[byte] ^= 1;
        *lasting = now.clone();
    }

    /// Every disk that a power cut now may leave behind. Names: all subsets of what is not synced, of which there are never
    /// more than a few. Bytes: nothing new, each number of whole sectors, all but one sector, none but garbage, all.
    pub fn after_power_cut(&self) -> Vec<SimDisk> {
        let state = self.state();
        assert!(state.pending.len() <= 8, "too many subsets: {:?}", state.pending);
        let mut images = Vec::new();
        for subset in 0..1u32 << state.pending.len() {
            let mut names = state.lasting.clone();
            let kept = state.pending.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
            kept.for_each(|(_, change)| change.apply(&mut names));
            // A file whose folder is lost is lost with it.
            let known = |path: &Path| path == Path::new(ROOT) || names.get(path) == Some(&Node::Folder);
            let reachable = names.iter().filter(|(path, _)| known(parent(path)));
            let names: BTreeMap<_, _> = reachable.map(|(path, node)| (path.clone(), *node)).collect();
            let mut files: Vec<File> = state.files.clone();
            let mut torn = None;
            for node in names.values() {
                if let Node::File(file) = *node
                    && files[file].now != files[file].lasting
                {
                    assert!(torn.is_none_or(|other| other == file), "two files are being written");
                    torn = Some(file);
                }
            }
            let variants = match torn {
                None => vec![Vec::new()],
                Some(file) => torn_contents(&files[file]),
            };
            for content in variants {
                if let Some(file) = torn {
                    files[file].now = content;
                }
                let whole = files.iter().map(|f| File { now: f.now.clone(), lasting: f.now.clone() }).collect();
                let mistake = state.mistake;
                let image =
                    State { names: names.clone(), lasting: names.clone(), files: whole, mistake, ..State::default() };
                images.push(SimDisk(Arc::new(Mutex::new(image))));
            }
        }
        images
    }

    /// What tells this disk from another: its names and bytes.
    pub fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let state = self.state();
        let mut hasher = DefaultHasher::new();
        for (path, node) in &state.names {
            path.hash(&mut hasher);
            if let Node::File(file) = node {
                state.files[*file].now.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

fn torn_contents(file: &File) -> Vec<Vec<u8>> {
    let File { now, lasting } = file;
    let mut all = vec![lasting.clone(), now.clone()];
    all.extend((0..now.len()).step_by(SECTOR).map(|len| now[..len].to_vec()));
    let garbage = |from: usize, to: usize| {
        let mut bytes = now.clone();
        bytes[from..to].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 151 + 17) as u8);
        bytes
    };
    all.extend((0..now.len()).step_by(SECTOR).map(|from| garbage(from, now.len().min(from + SECTOR))));
    all.push(garbage(0, now.len()));
    all.push(vec![0; now.len()]);
    all
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        state.call(true, true)?;
        if state.mistake == Some(Mistake::InPlace)
            && let Ok(file) = state.file(&in_place(path))
        {
            state.files[file].now.clear();
            return Ok(Box::new(Handle { disk: self.clone(), file, len: 0 }));
        }
        let path = if state.mistake == Some(Mistake::InPlace) { in_place(path) } else { path.into() };
        if state.names.contains_key(&path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if state.names.get(parent(&path)) != Some(&Node::Folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let file = state.files.len();
        state.files.push(File::default());
        state.change(Change::Made(path, Node::File(file)));
        Ok(Box::new(Handle { disk: self.clone(), file, len: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let mut state = self.state();
        state.call(false, false)?;
        let bytes = state.files[state.file(path)?].now.clone();
        Ok((bytes.len() as u64, Box::new(Cursor::new(bytes))))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.call(false, false)?;
        Ok(path == Path::new(ROOT) || state.names.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true, false)?;
        let aside = to.extension().is_some_and(|e| e == "damaged");
        match state.mistake {
            Some(Mistake::InPlace) => return Ok(()),
            Some(Mistake::NotSetAside) if aside => return Ok(()),
            _ => {}
        }
        let node = Node::File(state.file(from)?);
        state.change(Change::Moved { from: from.into(), to: to.into(), node });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true, false)?;
        state.file(path)?;
        state.change(Change::Removed(path.into()));
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true, true)?;
        state.change(Change::Made(path.into(), Node::Folder));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(true, false)?;
        match state.mistake {
            Some(Mistake::FolderNotSynced) if path != Path::new(ROOT) => return Ok(()),
            Some(Mistake::FolderAboveNotSynced) if path == Path::new(ROOT) => return Ok(()),
            _ => {}
        }
        let (done, left) = core::mem::take(&mut state.pending).into_iter().partition(|change| change.folder() == path);
        state.pending = left;
        done.iter().for_each(|change: &Change| change.apply(&mut state.lasting));
        Ok(())
    }
}

struct Handle {
    disk: SimDisk,
    file: usize,
    /// Bytes that a sync makes last, where it comes too soon.
    len: usize,
}

impl Output for Handle {
    /// One call for each sector, as the power may go between them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for sector in bytes.chunks(SECTOR) {
            let mut state = self.disk.state();
            state.call(true, true)?;
            self.len = state.files[self.file].now.len();
            state.files[self.file].now.extend_from_slice(sector);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(true, false)?;
        let mistake = state.mistake;
        let file = &mut state.files[self.file];
        match mistake {
            Some(Mistake::FileNotSynced) => {}
            Some(Mistake::FileSyncedTooSoon) => file.lasting = file.now[..self.len].to_vec(),
            _ => file.lasting = file.now.clone(),
        }
        Ok(())
    }
}

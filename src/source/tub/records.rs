//! The records of a tub, of either version: which image, when, in which session, and the value of one key.
//!
//! Only names of files are taken from records, never paths: nothing outside the tub is read.

use super::super::SourceError;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The camera's key where records do not say which of their keys are images.
const CAMERA: &str = "cam/image_array";
/// A longer record, or line of a manifest, than this is a lie.
const MOST_LINE: u64 = 64 << 20;
/// Keys of a record that are kept to name them in an error.
const MOST_KEYS: usize = 64;

/// One record.
pub struct Row {
    pub index: u64,
    /// File name of the image; `None` where the record cannot be read or names none.
    pub image: Option<String>,
    pub time_ms: Option<u64>,
    /// Place of its session among those of the tub, in their order.
    pub session: u32,
    pub label: Option<Value>,
    /// All its keys, of the first that can be read alone.
    pub keys: Vec<String>,
}

/// A tub's records in their order, without those that were deleted.
pub struct Tub {
    pub version: u32,
    /// Where the images lie.
    pub folder: PathBuf,
    pub rows: Vec<Row>,
    pub deleted: usize,
}

/// Reads the records of the tub at `path`, with the value of the key `label`.
///
/// # Errors
/// A folder that is no tub, a manifest that is none.
pub fn read(path: &str, label: &str) -> Result<Tub, SourceError> {
    let folder = Path::new(path);
    let tub = if folder.join("manifest.json").is_file() { second(folder, label)? } else { first(folder, label)? };
    if tub.rows.is_empty() {
        let problem = match tub.deleted {
            0 => "it has no records".to_owned(),
            n => format!("all of its {n} records are deleted"),
        };
        return Err(SourceError::file(path, problem, "drive with recording on, or restore what was deleted"));
    }
    Ok(tub)
}

/// What makes rows of JSON objects.
struct Reader<'a> {
    label: &'a str,
    camera: String,
    sessions: HashMap<String, u32>,
    rows: Vec<Row>,
    knows_keys: bool,
}

impl<'a> Reader<'a> {
    fn new(label: &'a str, camera: Option<String>) -> Self {
        let camera = camera.unwrap_or_else(|| CAMERA.to_owned());
        Reader { label, camera, sessions: HashMap::new(), rows: Vec::new(), knows_keys: false }
    }

    /// Adds record `index`; one that is no JSON object is kept as a row without an image.
    fn add(&mut self, index: u64, record: Option<&Map<String, Value>>) {
        let of = |key: &str| record.and_then(|record| record.get(key));
        let session = of("_session_id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let session = match session {
            // What cannot be read belongs to the session that it lies in.
            None => self.rows.last().map_or(0, |row| row.session),
            Some(id) => {
                let next = self.sessions.len() as u32;
                *self.sessions.entry(id).or_insert(next)
            }
        };
        let time = of("_timestamp_ms").or_else(|| of("milliseconds")).and_then(Value::as_f64);
        let keys = record.filter(|_| !self.knows_keys).into_iter().flat_map(Map::keys);
        self.rows.push(Row {
            index,
            image: of(&self.camera).and_then(Value::as_str).and_then(file_name),
            // A float cast saturates. What was not written down lies where the record before does.
            time_ms: time.map(|t| t as u64).or_else(|| self.rows.last().and_then(|row| row.time_ms)),
            session,
            label: of(self.label).filter(|value| !value.is_null()).cloned(),
            keys: keys.take(MOST_KEYS).cloned().collect(),
        });
        self.knows_keys |= record.is_some();
    }
}

fn file_name(path: &str) -> Option<String> {
    // A tub written on Windows has its own separators.
    let name = path.rsplit(['/', '\\']).next()?;
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// The key of the camera's image: the usual one, or the first that is an image.
fn camera(inputs: &Value, types: &Value) -> Option<String> {
    let pairs = inputs.as_array()?.iter().zip(types.as_array()?);
    let mut images = pairs
        .filter(|(_, kind)| matches!(kind.as_str(), Some("image_array" | "image")))
        .filter_map(|(key, _)| key.as_str().map(str::to_owned));
    let first = images.next()?;
    Some(if first != CAMERA && images.any(|key| key == CAMERA) { CAMERA.to_owned() } else { first })
}

/// Version 2: a manifest of five lines of JSON, and catalogs with a record a line.
fn second(folder: &Path, label: &str) -> Result<Tub, SourceError> {
    let manifest = folder.join("manifest.json");
    let name = manifest.to_string_lossy().into_owned();
    let mut lines = Lines::open(&manifest)?;
    let mut values = Vec::new();
    while values.len() < 5
        && let Some(line) = lines.next()?
    {
        values.push(serde_json::from_slice::<Value>(line).ok());
    }
    let wrong = |what: &str| {
        let remedy = "copy the tub anew, or rebuild its manifest with Donkeycar's tools";
        SourceError::file(&name, what, remedy)
    };
    let [inputs, types, _, _, Some(catalogs)] = values.as_slice() else {
        return Err(wrong("its fifth line, which lists the catalogs, is missing or damaged"));
    };
    let none = Value::Null;
    let camera = camera(inputs.as_ref().unwrap_or(&none), types.as_ref().unwrap_or(&none));
    let Some(paths) = catalogs.get("paths").and_then(Value::as_array) else {
        return Err(wrong("its fifth line names no paths of catalogs"));
    };
    let deleted = catalogs.get("deleted_indexes").and_then(Value::as_array);
    let deleted: HashSet<u64> = deleted.into_iter().flatten().filter_map(Value::as_u64).collect();
    let mut reader = Reader::new(label, camera);
    let (mut place, mut left_out) = (0, 0);
    for path in paths {
        let Some(path) = path.as_str().and_then(file_name) else {
            return Err(wrong("a path of a catalog is no name of a file"));
        };
        let mut lines = Lines::open(&folder.join(path))?;
        while let Some(line) = lines.next()? {
            let record = serde_json::from_slice::<Map<String, Value>>(line).ok();
            let index = record.as_ref().and_then(|r| r.get("_index")).and_then(Value::as_u64).unwrap_or(place);
            place = index.saturating_add(1);
            if deleted.contains(&index) {
                left_out += 1;
            } else {
                reader.add(index, record.as_ref());
            }
        }
    }
    Ok(Tub { version: 2, folder: folder.join("images"), rows: reader.rows, deleted: left_out })
}

/// Version 1: a file for each record, `meta.json` with their keys, `exclude.json` with those that are left out.
fn first(folder: &Path, label: &str) -> Result<Tub, SourceError> {
    let path = folder.to_string_lossy();
    let io = |e| SourceError::io(&path, e);
    let mut indexes = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("record_")?.strip_suffix(".json")?.parse().ok());
        indexes.extend(number.map(|number: u64| (number, name)));
    }
    if indexes.is_empty() {
        let remedy = "name the folder that the car writes, for example tub:mycar/data";
        return Err(SourceError::file(&path, "no tub: neither manifest.json nor record_N.json is in it", remedy));
    }
    indexes.sort();
    let whole = |name: &str| whole(&folder.join(name));
    let meta = whole("meta.json")?.unwrap_or(Value::Null);
    let camera = meta.get("inputs").zip(meta.get("types")).and_then(|(inputs, types)| camera(inputs, types));
    let excluded = whole("exclude.json")?;
    let excluded = excluded.as_ref().and_then(Value::as_array);
    let excluded: HashSet<u64> = excluded.into_iter().flatten().filter_map(Value::as_u64).collect();
    let mut reader = Reader::new(label, camera);
    let mut deleted = 0;
    for (index, name) in indexes {
        if excluded.contains(&index) {
            deleted += 1;
            continue;
        }
        let record = self::whole(&folder.join(name))?;
        reader.add(index, record.as_ref().and_then(Value::as_object));
    }
    Ok(Tub { version: 1, folder: folder.to_owned(), rows: reader.rows, deleted })
}

/// A file of one JSON value; `None` where there is no such file, or something else in it.
fn whole(path: &Path) -> Result<Option<Value>, SourceError> {
    let io = |e| SourceError::io(&path.to_string_lossy(), e);
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MOST_LINE).read_to_end(&mut bytes).map_err(io)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    Ok(serde_json::from_slice(&bytes).ok())
}

/// The lines of a file that are not empty.
struct Lines {
    path: String,
    input: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, SourceError> {
        let path_text = path.to_string_lossy().into_owned();
        let file = File::open(path).map_err(|e| SourceError::io(&path_text, e))?;
        Ok(Lines { path: path_text, input: BufReader::new(file), line: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, SourceError> {
        loop {
            self.line.clear();
            let read = (&mut self.input).take(MOST_LINE).read_until(b'\n', &mut self.line);
            if read.map_err(|e| SourceError::io(&self.path, e))? == 0 {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(self.line.trim_ascii()));
            }
        }
    }
}

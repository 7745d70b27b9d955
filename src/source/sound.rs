//! Sound in files: `pcm:RAW[,CLIPS.csv]`, samples without a header, and `wav:DIR` or `wav:FILE,...`.
//!
//! Clips as they are, or cut into windows by `?window=&stride=`. Samples are 16-bit; wider ones lose their lowest bits,
//! and several channels become their mean. Nothing is resampled: a model says the rate that it takes.

use super::labels::RowLabels;
use super::signal::{Cut, Rows, Signal, Stretch, WINDOW};
use super::table::Table;
use super::uri::Uri;
use super::{Label, SourceError};
use hound::{SampleFormat, WavReader, WavSpec};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Samples of 16 bits, little-endian, one channel.
struct PcmRows {
    path: String,
    file: File,
    bytes: Vec<u8>,
}

impl Rows for PcmRows {
    fn channels(&self) -> usize {
        1
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let io = |e| SourceError::io(&self.path, e);
        self.bytes.resize(2 * out.len(), 0);
        self.file.seek(SeekFrom::Start(2 * start as u64)).map_err(io)?;
        self.file.read_exact(&mut self.bytes).map_err(io)?;
        from_bytes(&self.bytes, out);
        Ok(true)
    }
}

/// Samples from their little-endian bytes.
pub(super) fn from_bytes(bytes: &[u8], out: &mut [i16]) {
    for (pair, v) in bytes.chunks_exact(2).zip(out) {
        *v = i16::from_le_bytes([pair[0], pair[1]]);
    }
}

/// Opens raw samples, with the clips in them where a table lists them (columns `start_sample` and `n_samples`).
pub(super) fn open_pcm(uri: &Uri) -> Result<Signal, SourceError> {
    let path = uri.paths[0].as_str();
    let io = |e| SourceError::io(path, e);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes == 0 || bytes % 2 != 0 {
        let problem = format!("{bytes} bytes are no samples of 16 bits");
        return Err(SourceError::file(path, problem, "give signed 16-bit little-endian samples of one channel"));
    }
    let samples = (bytes / 2) as usize;
    let (stretches, names) = match uri.paths.get(1) {
        Some(clips) => read_clips(clips, uri, samples as u64)?,
        None => (vec![Stretch { start: 0, length: samples, segment: 0, group: 0, label: None }], Vec::new()),
    };
    let rows = Box::new(PcmRows { path: path.to_owned(), file, bytes: Vec::new() });
    // The parser has seen to it that there is a rate, and that it is whole.
    let sound = uri.query.rate.map(|rate| rate as u32);
    cut(uri, path, rows, stretches, names, sound)
}

/// Sound of `rate` samples a second, whose stretches have their own labels.
fn cut(
    uri: &Uri,
    path: &str,
    rows: Box<dyn Rows>,
    stretches: Vec<Stretch>,
    names: Vec<String>,
    rate: Option<u32>,
) -> Result<Signal, SourceError> {
    let labels = RowLabels::None;
    let note = String::new();
    Signal::cut(uri, path, Cut { rows, stretches, labels, names, time_of: None, window: WINDOW, note, sound: rate })
}

/// The clips that a table lists, with the names of their classes.
fn read_clips(path: &str, uri: &Uri, samples: u64) -> Result<(Vec<Stretch>, Vec<String>), SourceError> {
    let table = Table::open(path)?;
    let (start_column, length_column) = (table.column("start_sample")?, table.column("n_samples")?);
    let (starts, lengths) = (table.counts(start_column)?, table.counts(length_column)?);
    let about = About::of(&table, uri)?;
    let mut stretches = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let (start, length) = (starts[row], lengths[row]);
        if length == 0 {
            return Err(table.bad(row, length_column, "is a clip without a sample", "remove the row"));
        }
        // Both are below 2^53: the sum cannot wrap.
        if start + length > samples {
            let problem = format!("ends beyond the {samples} samples");
            return Err(table.bad(row, length_column, &problem, "give the table that belongs to the samples"));
        }
        stretches.push(about.stretch(row, start as usize, length as usize));
    }
    Ok((stretches, about.labels.names().to_vec()))
}

/// What a table says of its rows beside where they are.
struct About {
    groups: Option<Vec<u32>>,
    labels: RowLabels,
}

impl About {
    fn of(table: &Table, uri: &Uri) -> Result<Self, SourceError> {
        let groups = match &uri.query.group {
            Some(name) => Some(table.groups(table.column(name)?)),
            None => None,
        };
        let labels = match &uri.query.label {
            Some(name) => RowLabels::column(table, name, uri.query.labels)?,
            None => RowLabels::None,
        };
        Ok(About { groups, labels })
    }

    fn stretch(&self, row: usize, start: usize, length: usize) -> Stretch {
        let segment = row as u32;
        let group = self.groups.as_ref().map_or(segment, |groups| groups[row]);
        Stretch { start, length, segment, group, label: self.labels.get(row) }
    }
}

/// WAV files, as if one stood behind the other.
struct WavRows {
    files: Vec<WavFile>,
    /// The file that was read last, by its number.
    open: Option<(usize, WavReader<BufReader<File>>)>,
}

struct WavFile {
    path: PathBuf,
    first: usize,
    spec: WavSpec,
}

impl Rows for WavRows {
    fn channels(&self) -> usize {
        1
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let number = self.files.partition_point(|file| file.first <= start) - 1;
        let file = &self.files[number];
        let path = file.path.to_string_lossy();
        let reader = match &mut self.open {
            Some((open, reader)) if *open == number => reader,
            slot => &mut slot.insert((number, WavReader::open(&file.path).map_err(|e| unreadable(&path, e))?)).1,
        };
        // A file has 2^32 bytes at most.
        reader.seek((start - file.first) as u32).map_err(|e| SourceError::io(&path, e))?;
        let channels = usize::from(file.spec.channels);
        let finite = match file.spec.sample_format {
            SampleFormat::Float => {
                let mut samples = reader.samples::<f32>();
                mixed(channels, out, || samples.next().map(|s| s.map(|x| f64::from(x) * 32768.0)))
            }
            SampleFormat::Int => {
                let unit = 2f64.powi(16 - i32::from(file.spec.bits_per_sample));
                let mut samples = reader.samples::<i32>();
                mixed(channels, out, || samples.next().map(|s| s.map(|x| f64::from(x) * unit)))
            }
        };
        finite.map_err(|e| unreadable(&path, e))
    }
}

/// Fills `out` with the mean over `channels` of what `next` gives; `false` where that is not finite.
fn mixed(
    channels: usize,
    out: &mut [i16],
    mut next: impl FnMut() -> Option<hound::Result<f64>>,
) -> hound::Result<bool> {
    let mut finite = true;
    for v in out {
        let mut sum = 0.0;
        for _ in 0..channels {
            sum += next().unwrap_or(Err(hound::Error::FormatError("the samples end before the header says")))?;
        }
        finite &= sum.is_finite();
        *v = (sum / channels as f64).round().clamp(-32768.0, 32767.0) as i16;
    }
    Ok(finite)
}

fn unreadable(path: &str, error: hound::Error) -> SourceError {
    let remedy = "give WAV files of 8 to 32 bits; ffmpeg -i SOUND -c:a pcm_s16le OUT.wav makes one";
    match error {
        hound::Error::IoError(e) if e.kind() == std::io::ErrorKind::NotFound => SourceError::io(path, e),
        error => SourceError::file(path, error.to_string(), remedy),
    }
}

/// Opens WAV files: those named, or those of a folder, where every subfolder is a class. `?name=` names the parts of file
/// names between underscores, which `?label=` and `?group=` then choose from.
pub(super) fn open_wav(uri: &Uri) -> Result<Signal, SourceError> {
    let path = uri.paths[0].as_str();
    let (found, classes) = match &uri.paths[..] {
        [folder] if Path::new(folder).is_dir() => list(folder)?,
        files => (files.iter().map(|file| (PathBuf::from(file), None)).collect(), Vec::new()),
    };
    let (mut files, mut lengths) = (Vec::<WavFile>::new(), Vec::new());
    let mut samples = 0;
    for (path, _) in &found {
        let (spec, length) = header(&path.to_string_lossy())?;
        if let Some(first) = files.first()
            && first.spec.sample_rate != spec.sample_rate
        {
            let (rate, other) = (spec.sample_rate, first.spec.sample_rate);
            let problem = format!("{rate} samples a second, where {} has {other}", first.path.display());
            return Err(SourceError::file(&path.to_string_lossy(), problem, "bring all files to one rate"));
        }
        files.push(WavFile { path: path.clone(), first: samples, spec });
        lengths.push(length);
        samples += length;
    }
    let about = match &uri.query.name {
        Some(name) => About::of(&names_as_table(path, name, &found)?, uri)?,
        None => About { groups: None, labels: RowLabels::None },
    };
    let mut stretches = Vec::with_capacity(files.len());
    for (row, ((file, length), (_, class))) in files.iter().zip(&lengths).zip(&found).enumerate() {
        let mut stretch = about.stretch(row, file.first, *length);
        stretch.label = stretch.label.or(class.map(Label::Class));
        stretches.push(stretch);
    }
    let names = if uri.query.label.is_some() { about.labels.names().to_vec() } else { classes };
    let sound = files.first().map(|file| file.spec.sample_rate);
    let rows = Box::new(WavRows { files, open: None });
    cut(uri, path, rows, stretches, names, sound)
}

/// Format and length of a WAV file, whose samples must all be there.
fn header(path: &str) -> Result<(WavSpec, usize), SourceError> {
    let reader = WavReader::open(path).map_err(|e| unreadable(path, e))?;
    let (spec, length) = (reader.spec(), reader.duration());
    let wanted = u64::from(reader.len()) * u64::from(spec.bits_per_sample / 8);
    let there = std::fs::metadata(path).map_err(|e| SourceError::io(path, e))?.len();
    if wanted > there {
        let problem = format!("the header says {wanted} bytes of samples, and the file has {there} in all");
        return Err(SourceError::file(path, problem, "copy it again, or convert it anew where a pipe wrote it"));
    }
    if length == 0 || spec.sample_rate == 0 || spec.channels == 0 {
        return Err(SourceError::file(path, "there is no sound in it", "remove the file"));
    }
    Ok((spec, length as usize))
}

/// WAV files of a folder and the classes that they are in, if its subfolders are such.
#[expect(clippy::type_complexity, reason = "two lists, named by their only caller")]
fn list(path: &str) -> Result<(Vec<(PathBuf, Option<u32>)>, Vec<String>), SourceError> {
    let (folders, own) = entries(Path::new(path))?;
    let (mut files, mut classes) = (Vec::new(), Vec::new());
    for folder in folders {
        let (_, inside) = entries(&folder)?;
        if !inside.is_empty() {
            let class = classes.len() as u32;
            classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            files.extend(inside.into_iter().map(|file| (file, Some(class))));
        }
    }
    if classes.is_empty() {
        files.extend(own.into_iter().map(|file| (file, None)));
    } else if let Some(stray) = own.first() {
        let problem = format!("{} lies beside the folders of the classes", stray.display());
        return Err(SourceError::file(path, problem, "move it into a class's folder, or away"));
    }
    if files.is_empty() {
        return Err(SourceError::file(path, "no sound", "put .wav files there, one folder for each class"));
    }
    Ok((files, classes))
}

/// Folders and WAV files in a folder, each sorted by name; hidden ones are left out.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SourceError> {
    let io = |e| SourceError::io(&folder.to_string_lossy(), e);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        } else if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav")) {
            files.push(path);
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// A table of the parts of file names, one row a file.
fn names_as_table(path: &str, name: &str, files: &[(PathBuf, Option<u32>)]) -> Result<Table, SourceError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let parts = name.split('_').count();
    let mut write = |row: &str| writer.write_record(row.split('_')).is_ok();
    write(name);
    for (file, _) in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        if !write(&stem) {
            let problem = format!("'{stem}' has {} parts, and name={name} has {parts}", stem.split('_').count());
            let remedy = "name every part between the underscores of the file names, as in name=label_speaker_take";
            return Err(SourceError::file(path, problem, remedy));
        }
    }
    Table::read(path, writer.into_inner().unwrap_or_default().as_slice())
}

//! NumPy files: the header checked against the file before anything is allocated, elements read at any place.
//!
//! `npyz` parses and reads; what it would panic or over-allocate on (a product of dimensions beyond 64 bits, a header of
//! gigabytes, brackets nested without end) is refused before it sees it.

use super::SourceError;
use npyz::{DType, NpyFile, NpyHeader, NpyReader, Order, TypeChar};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Longer header texts than this are refused; NumPy itself refuses more than 10,000 characters.
const MAX_HEADER: usize = 16 << 10;

/// An opened file, its header known to agree with its length.
pub(super) struct Npy {
    pub path: String,
    pub shape: Vec<usize>,
    /// As NumPy writes it: `<f4`.
    pub dtype: String,
    pub float: bool,
    pub byte: bool,
    /// The first dimension runs fastest.
    pub fortran: bool,
    header: NpyHeader,
    file: BufReader<File>,
    data_at: u64,
}

impl Npy {
    pub fn open(path: &str) -> Result<Npy, SourceError> {
        let file = File::open(path).map_err(|e| SourceError::io(path, e))?;
        let length = file.metadata().map_err(|e| SourceError::io(path, e))?.len();
        let mut file = BufReader::new(file);
        let bad =
            |problem: String| SourceError::file(path, problem, "save it again with numpy.save as one plain array");
        let text = header_bytes(&mut file).map_err(|p| bad(format!("byte 0: {p}")))?;
        let header = NpyHeader::from_reader(&text[..]).map_err(|e| bad(format!("byte 0: {e}")))?;
        let DType::Plain(ty) = header.dtype() else {
            return Err(bad(format!("a structured dtype {}", header.dtype().descr())));
        };
        let dtype = ty.to_string();
        let known = matches!(
            (ty.type_char(), ty.size_field()),
            (TypeChar::Int | TypeChar::Uint, 1 | 2 | 4 | 8) | (TypeChar::Float, 4 | 8) | (TypeChar::Bool, 1)
        );
        if !known {
            let problem = format!("dtype {dtype}; known are bool, integers of 8 to 64 bits, float32 and float64");
            return Err(SourceError::file(
                path,
                problem,
                "convert it, for example numpy.save(path, x.astype('float32'))",
            ));
        }
        let shape: Vec<usize> = header.shape().iter().map(|d| *d as usize).collect();
        let fortran = header.order() == Order::Fortran && shape.len() > 1;
        let data_at = text.len() as u64;
        // The product fits: `header_bytes` saw to it.
        let elements = header.shape().iter().product::<u64>();
        let needed = elements.checked_mul(ty.size_field());
        let there = length - data_at.min(length);
        if needed != Some(there) {
            let needed = needed.map_or("more than 2^64".to_owned(), |n| n.to_string());
            let problem = format!("byte {data_at}: shape {shape:?} of {dtype} needs {needed} bytes, {there} are there");
            return Err(SourceError::file(
                path,
                problem,
                "the file was cut off or its header is wrong: copy or save it again",
            ));
        }
        if elements == 0 {
            return Err(SourceError::file(path, format!("empty: shape {shape:?}"), "give an array with samples in it"));
        }
        let (float, byte) =
            (ty.type_char() == TypeChar::Float, ty.type_char() == TypeChar::Uint && ty.size_field() == 1);
        Ok(Npy { path: path.to_owned(), shape, dtype, float, byte, fortran, header, file, data_at })
    }

    /// Fills `out` with the bytes of the data from `at`.
    pub fn bytes(&mut self, at: u64, out: &mut [u8]) -> Result<(), SourceError> {
        // `seek_relative` keeps what is buffered: reading in order asks the disk for each block once.
        let here = self.file.stream_position().map_err(|e| SourceError::io(&self.path, e))?;
        let there = self.data_at + at;
        let read = match i64::try_from(there).ok().zip(i64::try_from(here).ok()) {
            Some((there, here)) => self.file.seek_relative(there - here),
            None => self.file.seek(SeekFrom::Start(there)).map(|_| ()),
        }
        .and_then(|()| self.file.read_exact(out));
        read.map_err(|e| SourceError::io(&self.path, e))
    }

    /// Reads elements one after another as `f64`, whatever their type.
    pub fn elements(mut self) -> Result<Box<dyn Elements>, SourceError> {
        let ty = match self.header.dtype() {
            DType::Plain(ty) => ty,
            other => {
                return Err(SourceError::file(&self.path, format!("dtype {}", other.descr()), "save a plain array"));
            }
        };
        self.file.seek(SeekFrom::Start(self.data_at)).map_err(|e| SourceError::io(&self.path, e))?;
        let file = NpyFile::with_header(self.header, self.file);
        fn boxed<T>(file: NpyFile<BufReader<File>>, path: &str) -> Result<Box<dyn Elements>, SourceError>
        where
            T: npyz::Deserialize + AsF64,
            NpyReader<T, BufReader<File>>: Send + 'static,
        {
            match file.data::<T>() {
                Ok(reader) => Ok(Box::new(reader)),
                Err(e) => Err(SourceError::file(path, e.to_string(), "save a plain array of numbers")),
            }
        }
        let path = &self.path;
        match (ty.type_char(), ty.size_field()) {
            (TypeChar::Bool, _) => boxed::<bool>(file, path),
            (TypeChar::Uint, 1) => boxed::<u8>(file, path),
            (TypeChar::Uint, 2) => boxed::<u16>(file, path),
            (TypeChar::Uint, 4) => boxed::<u32>(file, path),
            (TypeChar::Uint, _) => boxed::<u64>(file, path),
            (TypeChar::Int, 1) => boxed::<i8>(file, path),
            (TypeChar::Int, 2) => boxed::<i16>(file, path),
            (TypeChar::Int, 4) => boxed::<i32>(file, path),
            (TypeChar::Int, _) => boxed::<i64>(file, path),
            (_, 4) => boxed::<f32>(file, path),
            _ => boxed::<f64>(file, path),
        }
    }
}

/// Numbers of an array, read from any place.
pub(super) trait Elements: Send {
    /// Hands elements `start..start + count` to `each`.
    fn each(&mut self, start: u64, count: u64, each: &mut dyn FnMut(f64)) -> std::io::Result<()>;
}

impl<T: npyz::Deserialize + AsF64> Elements for NpyReader<T, BufReader<File>>
where
    Self: Send,
{
    fn each(&mut self, start: u64, count: u64, each: &mut dyn FnMut(f64)) -> std::io::Result<()> {
        if start.checked_add(count).is_none_or(|end| end > self.total_len()) {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "past the end of the array"));
        }
        self.seek_to(start)?;
        for x in self.by_ref().take(count as usize) {
            each(x?.into_f64());
        }
        Ok(())
    }
}

pub(super) trait AsF64 {
    fn into_f64(self) -> f64;
}
macro_rules! into_f64 {
    ($($t:ty),*) => {$(impl AsF64 for $t { fn into_f64(self) -> f64 { self as f64 } })*};
}
into_f64!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);
impl AsF64 for bool {
    fn into_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

/// Magic, version, length and text of the header, if it is such as NumPy writes.
fn header_bytes(input: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 10];
    input.read_exact(&mut bytes).map_err(|_| "too short for a NumPy file".to_owned())?;
    if &bytes[..6] != b"\x93NUMPY" {
        return Err("this is not a NumPy file".to_owned());
    }
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] >= 2 {
        let mut more = [0; 2];
        input.read_exact(&mut more).map_err(|_| "the header is cut off".to_owned())?;
        length |= usize::from(u16::from_le_bytes(more)) << 16;
        bytes.extend(more);
    }
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes"));
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    input.read_exact(&mut bytes[start..]).map_err(|_| "the header is cut off".to_owned())?;
    plain(&bytes[start..])?;
    Ok(bytes)
}

/// Only what NumPy writes: names in simple quotes, True and False, whole numbers with a product below 2^63, few brackets.
fn plain(text: &[u8]) -> Result<(), String> {
    let odd = |what: &str| Err(format!("the header has {what}"));
    let (mut product, mut brackets, mut i) = (1u64, 0, 0);
    while i < text.len() {
        match text[i] {
            quote @ (b'\'' | b'"') => {
                let Some(end) = text[i + 1..].iter().position(|b| *b == quote) else { return odd("an open quote") };
                let inner = &text[i + 1..i + 1 + end];
                if !inner.iter().all(|b| b.is_ascii_alphanumeric() || b"_<>|=".contains(b)) {
                    return odd("unusual characters in a name");
                }
                i += end + 2;
            }
            b'0'..=b'9' => {
                let end = text[i..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |n| i + n);
                let digits = std::str::from_utf8(&text[i..end]).unwrap_or_default();
                let next = text.get(end).copied().unwrap_or(b' ');
                let Some(n) = digits.parse::<u64>().ok().filter(|_| b" ,)]\n".contains(&next)) else {
                    return odd("an unusual number");
                };
                match product.checked_mul(n.max(1)).filter(|p| *p < 1 << 60) {
                    Some(p) => product = p,
                    None => return odd("dimensions beyond any file"),
                }
                i = end;
            }
            b'(' | b'[' | b'{' => {
                brackets += 1;
                if brackets > 8 {
                    return odd("too many brackets");
                }
                i += 1;
            }
            b if b" ,:)]}\n".contains(&b) || b"TrueFals".contains(&b) => i += 1,
            _ => return odd("unusual characters"),
        }
    }
    Ok(())
}

//! What lies compressed in an MCAP file, without any C library: zstd by `ruzstd`, LZ4 by `lz4_flex`.

use std::io::Read;

use mcap::records::ChunkHeader;

/// A chunk that says it is longer is not unpacked.
const MOST: u64 = 1 << 30;
/// CRC-32 as zlib has it.
const CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

/// Why the messages of a chunk cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its bytes are not what they were.
    Damaged(String),
    /// It is sound for all we know, and not for us.
    Refused(String),
}

/// Unpacks the records of a chunk into `out`. Memory grows with what comes out, not with what the header says.
pub fn unpack(header: &ChunkHeader, data: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble> {
    out.clear();
    let wanted = header.uncompressed_size;
    if wanted > MOST {
        return Err(Trouble::Refused(format!("a chunk of {wanted} bytes, more than {MOST}")));
    }
    let damaged = |e: &dyn std::fmt::Display| Trouble::Damaged(e.to_string());
    // One byte more shows that there is more than there should be.
    let room = wanted + 1;
    match header.compression.as_str() {
        "" => out.extend_from_slice(data),
        "zstd" => {
            let mut rest = data;
            while !rest.is_empty() && (out.len() as u64) < room {
                let frame = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(|e| damaged(&e))?;
                frame.take(room - out.len() as u64).read_to_end(out).map_err(|e| damaged(&e))?;
            }
        }
        "lz4" => {
            let frames = lz4_flex::frame::FrameDecoder::new(data);
            frames.take(room).read_to_end(out).map_err(|e| damaged(&e))?;
        }
        other => return Err(Trouble::Refused(format!("compression '{other}' is not known"))),
    }
    if out.len() as u64 != wanted {
        return Err(Trouble::Damaged(format!("{} bytes come out of a chunk of {wanted}", out.len())));
    }
    match header.uncompressed_crc {
        0 => Ok(()),
        crc if crc == CRC.checksum(out) => Ok(()),
        _ => Err(Trouble::Damaged("the checksum of a chunk is not that of its bytes".into())),
    }
}

/// The first record of `bytes`: opcode, content, and what follows it. `None` where there is no whole one.
pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&opcode, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((opcode, content, rest))
}

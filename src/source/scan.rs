//! Finds the JPEG images in a motion-JPEG byte stream by walking their markers, so that the thumbnail inside a header
//! does not pass for a frame and its end marker does not end one.
//!
//! What is found depends on the bytes alone, not on the pieces in which a pipe delivers them: every decision waits for
//! the bytes that it needs. Bytes between frames are passed over; a frame without its end is reported as damage.

use std::io::{ErrorKind, Read};

/// A longer frame than this is damage: the end marker was lost.
const MAX_FRAME: usize = 64 << 20;
const CHUNK: usize = 64 << 10;

/// A piece of the stream: a whole frame, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Place in the stream.
    pub offset: u64,
    pub length: usize,
    /// The frame has no end; there is nothing to decode.
    pub damaged: bool,
    /// Found while looking for the next frame after damage: it may be a thumbnail.
    pub after_damage: bool,
}

/// Where a frame's walk stands. Positions count from the frame's first byte.
#[derive(Clone, Copy, Debug)]
struct Walk {
    at: usize,
    entropy: bool,
    /// After damage the search goes on here: no frame begins between 2 and this.
    resume: usize,
}

enum Step {
    End(usize),
    Damaged { resume: usize },
    More,
}

impl Walk {
    const START: Walk = Walk { at: 2, entropy: false, resume: 2 };

    /// Goes on through `frame`, which begins with the start marker and ends where the bytes end that are here so far.
    fn advance(&mut self, frame: &[u8]) -> Step {
        let frame = &frame[..frame.len().min(MAX_FRAME)];
        loop {
            if self.at >= MAX_FRAME {
                return Step::Damaged { resume: self.resume };
            }
            if self.entropy {
                self.resume = self.at;
                match frame[self.at.min(frame.len())..].iter().position(|b| *b == 0xff) {
                    Some(n) => self.at += n,
                    None => {
                        self.at = frame.len().max(self.at);
                        self.resume = self.at;
                        return self.more(frame);
                    }
                }
                self.resume = self.at;
            }
            let Some(&[first, code]) = frame.get(self.at..self.at + 2) else { return self.more(frame) };
            match code {
                _ if first != 0xff => return Step::Damaged { resume: self.resume },
                0xff => self.at += 1,
                0x00 if self.entropy => self.at += 2,
                0x01 | 0xd0..=0xd7 => self.at += 2,
                0xd9 => return Step::End(self.at + 2),
                // The next frame: this one lost its end.
                0xd8 => return Step::Damaged { resume: self.at },
                0x00 | 0x02..=0xbf => return Step::Damaged { resume: self.resume },
                _ => {
                    let Some(&[high, low]) = frame.get(self.at + 2..self.at + 4) else { return self.more(frame) };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 {
                        return Step::Damaged { resume: self.resume };
                    }
                    self.at += 2 + length;
                    self.entropy = code == 0xda;
                }
            }
        }
    }

    fn more(&self, frame: &[u8]) -> Step {
        if frame.len() == MAX_FRAME { Step::Damaged { resume: self.resume } } else { Step::More }
    }
}

/// The frames of a byte stream, one after another.
pub(super) struct Frames<R> {
    input: R,
    buffer: Vec<u8>,
    /// The part of `buffer` before this is done with.
    from: usize,
    /// Place of `buffer[0]` in the stream.
    offset: u64,
    walk: Option<Walk>,
    /// The last piece lies in `buffer[piece.0..piece.1]`.
    piece: (usize, usize),
    after_damage: bool,
    ended: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(input: R) -> Self {
        let (buffer, piece) = (Vec::new(), (0, 0));
        Frames { input, buffer, from: 0, offset: 0, walk: None, piece, after_damage: false, ended: false }
    }

    /// The bytes of the piece that [`Frames::next_piece`] returned last.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.piece.0..self.piece.1]
    }

    /// The next frame or damage; `None` at the end of the stream.
    pub fn next_piece(&mut self) -> std::io::Result<Option<Piece>> {
        loop {
            let rest = &self.buffer[self.from..];
            let Some(walk) = &mut self.walk else {
                match rest.windows(3).position(|w| w == [0xff, 0xd8, 0xff]) {
                    Some(n) => {
                        self.from += n;
                        self.walk = Some(Walk::START);
                    }
                    None => {
                        self.from += rest.len().saturating_sub(2);
                        if !self.refill()? {
                            return Ok(None);
                        }
                    }
                }
                continue;
            };
            match walk.advance(rest) {
                Step::End(length) => {
                    let after_damage = std::mem::take(&mut self.after_damage);
                    return Ok(Some(self.take(
                        length,
                        length,
                        Piece { offset: 0, length, damaged: false, after_damage },
                    )));
                }
                Step::Damaged { resume } => return Ok(Some(self.take_damaged(resume))),
                Step::More => {
                    if !self.refill()? {
                        let resume = self.walk.map_or(2, |w| w.resume);
                        return Ok(Some(self.take_damaged(resume)));
                    }
                }
            }
        }
    }

    fn take_damaged(&mut self, resume: usize) -> Piece {
        let after_damage = std::mem::replace(&mut self.after_damage, true);
        let length = resume.min(self.buffer.len() - self.from);
        self.take(length, length, Piece { offset: 0, length, damaged: true, after_damage })
    }

    fn take(&mut self, length: usize, step: usize, piece: Piece) -> Piece {
        let offset = self.offset + self.from as u64;
        self.piece = (self.from, self.from + length);
        self.from += step;
        self.walk = None;
        Piece { offset, ..piece }
    }

    fn refill(&mut self) -> std::io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.drain(..self.from);
        self.offset += self.from as u64;
        self.from = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + read.as_ref().copied().unwrap_or(0));
        self.ended = matches!(read, Ok(0));
        Ok(read? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Delivers at most as many bytes at a time as `sizes` says, over and over.
    struct Chunked<'a>(&'a [u8], Vec<usize>, usize);
    impl Read for Chunked<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.2 += 1;
            let n = self.1[self.2 % self.1.len()].min(self.0.len()).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn pieces(input: impl Read) -> Vec<(Piece, Vec<u8>)> {
        let mut frames = Frames::new(input);
        let mut out = Vec::new();
        while let Some(piece) = frames.next_piece().unwrap() {
            out.push((piece, frames.bytes().to_vec()));
        }
        out
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut f = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8];
        f.extend([0xff, 0xd8, 0xff, 0xff, 0xd9, 0x00]); // a thumbnail, as it were
        f.extend([0xff, 0xda, 0, 3, 1]);
        f.extend(body);
        f.extend([0xff, 0xd9]);
        f
    }

    #[test]
    fn a_thumbnail_in_a_header_neither_begins_nor_ends_a_frame() {
        let (a, b) = (frame(&[1, 2, 0xff, 0, 0xff, 0xd0, 3]), frame(&[7; 100]));
        let stream = [&b"--boundary\r\n"[..], &a, b"\r\n", &b].concat();
        let found = pieces(&stream[..]);
        assert_eq!(found.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), [a.clone(), b]);
        assert_eq!(found[1].0.offset, 14 + a.len() as u64);
        assert!(found.iter().all(|(p, _)| !p.damaged && !p.after_damage));
    }

    #[test]
    fn a_frame_that_is_cut_off_is_damage_and_the_next_one_is_found() {
        let (a, b) = (frame(&[1; 50]), frame(&[2; 50]));
        for cut in [20, 40, a.len() - 1] {
            let found = pieces(&[&a[..cut], &b[..], &b[..]].concat()[..]);
            let flags: Vec<_> = found.iter().map(|(p, _)| (p.damaged, p.after_damage)).collect();
            assert_eq!(flags, [(true, false), (false, true), (false, false)], "cut at {cut}");
        }
        let found = pieces(&[&b[..], &a[..40]].concat()[..]);
        assert_eq!(found.iter().map(|(p, _)| p.damaged).collect::<Vec<_>>(), [false, true]);
    }

    proptest! {
        #[test]
        fn any_chunking_of_a_stream_finds_the_same_frames(
            symbols in prop::collection::vec(prop::sample::select(&[0xffu8, 0xd8, 0xd9, 0xda, 0xe0, 0xc4, 0, 2, 3, 9][..]), 0..400),
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
            sizes in prop::collection::vec(1usize..40, 1..8),
        ) {
            let mut stream = Vec::new();
            for (i, body) in bodies.iter().enumerate() {
                stream.extend(&symbols[symbols.len() * i / bodies.len()..symbols.len() * (i + 1) / bodies.len()]);
                stream.extend(frame(body));
            }
            stream.extend(&symbols);
            let whole = pieces(&stream[..]);
            prop_assert_eq!(&whole, &pieces(Chunked(&stream, sizes, 0)));
            prop_assert_eq!(whole, pieces(Chunked(&stream, vec![1], 0)));
        }
    }
}

//! What a task that rebuilds gives back, as PNGs for people: `nestling inspect CHECKPOINT --pictures DIR --source URI`.

use std::error::Error;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

use super::settings::UsageError;
use crate::kernels::Map;
use crate::learner::{Learner, Options, Pictures};
use crate::net::spec::InputKind;
use crate::sample::Seed;
use crate::source::{OpenOptions, Record, open};
use crate::store::Saved;

/// Samples that are shown, and codes that are drawn.
const SHOWN: usize = 12;
/// Pixels on a side that one of an image is shown as, and one reading across.
const ZOOM: usize = 4;
/// Pixels between pictures.
const GAP: usize = 4;
/// Pixels that a channel of a window is high.
const CHANNEL: usize = 96;

const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
const HIDDEN: Rgb<u8> = Rgb([216, 216, 216]);
const CLEAN: Rgb<u8> = Rgb([0, 0, 0]);
const REBUILT: Rgb<u8> = Rgb([220, 50, 32]);

/// Writes the pictures and tells their names.
pub fn write(saved: &Saved, folder: &Path, sources: &[String]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let options = Options::new(Seed(0));
    let mut memory = vec![0; Learner::plan(&saved.spec, &options)?.block_len()];
    let mut learner = Learner::new(&saved.spec, &options, &mut memory)?;
    saved.restore(&mut learner)?;
    let (input, kind) = (learner.network().input, saved.spec.input.kind);
    let mut source = open(sources, &OpenOptions { seed: 0 })?;
    std::fs::create_dir_all(folder)?;
    let mut rows = Vec::new();
    let mut record = Record::default();
    // Evenly over the source, where it has an end.
    let apart = source.len_hint().map_or(1, |n| (n / SHOWN as u64).max(1));
    let mut number = 0;
    while rows.len() < SHOWN && source.read_next(&mut record)? {
        number += 1;
        if (number - 1) % apart != 0 {
            continue;
        }
        let [mut clean, mut hidden, mut rebuilt] = [(); 3].map(|()| vec![0; input.len()]);
        let pictures = Pictures { clean: &mut clean, hidden: &mut hidden, rebuilt: &mut rebuilt };
        if learner.rebuild_sample(&record.sample(), rows.len(), Some(pictures))?.is_none() {
            let problem = "this checkpoint has learned no task that rebuilds images or windows; learn one with --pretext \
                           inpaint, denoise or variational";
            return Err(UsageError(problem.into()).into());
        }
        rows.push([clean, hidden, rebuilt]);
    }
    let picture = |rows: &[[Vec<i8>; 3]]| if kind == InputKind::Image { grid(input, rows) } else { plot(input, rows) };
    let mut written = vec![folder.join("rebuilt.png")];
    picture(&rows).save(&written[0])?;
    let mut drawn = Vec::new();
    for number in 0..SHOWN as u64 {
        let [mut one, mut two, mut three] = [(); 3].map(|()| vec![0; input.len()]);
        let places = [&mut one, &mut two, &mut three].into_iter();
        if !places.zip(3 * number..).all(|(out, number)| learner.draw_sample(number, out)) {
            return Ok(written);
        }
        // A plot has two lines and no background.
        drawn.push(if kind == InputKind::Image { [one, two, three] } else { [one.clone(), one, two] });
    }
    written.push(folder.join("drawn.png"));
    picture(&drawn).save(&written[1])?;
    Ok(written)
}

/// Red, green and blue of one pixel as the encoder takes it: luma, and half of R − G, and a quarter of R + G − 2B.
fn colour(pixel: &[i8]) -> Rgb<u8> {
    let at = |c: usize| pixel.get(c).map_or(0.0, |&v| f32::from(v));
    let (luma, first, second) = (at(0) + 128.0, at(1), at(2));
    let green = luma - (3.0 * first - 2.0 * second) / 4.0;
    Rgb([green + 2.0 * first, green, green + first - 2.0 * second].map(|v| v.clamp(0.0, 255.0) as u8))
}

/// A row of each sample: clean, hidden, rebuilt; two samples side by side.
fn grid(input: Map, rows: &[[Vec<i8>; 3]]) -> RgbImage {
    let (width, height) = (input.width * ZOOM + GAP, input.height * ZOOM + GAP);
    let mut out = RgbImage::from_pixel((6 * width + GAP) as u32, (rows.len().div_ceil(2) * height) as u32, WHITE);
    for (number, row) in rows.iter().enumerate() {
        for (column, picture) in row.iter().enumerate() {
            let left = (number % 2 * 3 + column) * width + number % 2 * GAP;
            for (at, pixel) in picture.chunks_exact(input.channels).enumerate() {
                let (y, x) = (number / 2 * height + at / input.width * ZOOM, left + at % input.width * ZOOM);
                for place in 0..ZOOM * ZOOM {
                    out.put_pixel((x + place % ZOOM) as u32, (y + place / ZOOM) as u32, colour(pixel));
                }
            }
        }
    }
    out
}

/// A column of each sample, a strip of each channel: what is clean in black, what is rebuilt in red, grey behind where it was
/// hidden. Rows of a map of sound are its channels.
fn plot(input: Map, rows: &[[Vec<i8>; 3]]) -> RgbImage {
    const COLUMNS: usize = 3;
    let rows = &rows[..rows.len().min(COLUMNS)];
    let strips = input.channels * input.height;
    let (width, height) = (input.width * ZOOM + GAP, strips * (CHANNEL + GAP));
    let mut out = RgbImage::from_pixel((rows.len() * width) as u32, height as u32, WHITE);
    for (number, [clean, hidden, rebuilt]) in rows.iter().enumerate() {
        for strip in 0..strips {
            let (top, left) = (strip * (CHANNEL + GAP), number * width);
            let at = |t: usize| (strip / input.channels * input.width + t) * input.channels + strip % input.channels;
            let level = |v: i8| top as f32 + (127.0 - f32::from(v)) / 254.0 * (CHANNEL - 1) as f32;
            for t in (0..input.width).filter(|&t| clean[at(t)] != hidden[at(t)]) {
                for place in 0..ZOOM * CHANNEL {
                    let (y, x) = (top + place / ZOOM, left + t * ZOOM + place % ZOOM);
                    out.put_pixel(x as u32, y as u32, HIDDEN);
                }
            }
            for (values, ink) in [(clean, CLEAN), (rebuilt, REBUILT)] {
                for t in 1..input.width {
                    let (from, to) = (level(values[at(t - 1)]), level(values[at(t)]));
                    // As many points as the line is long.
                    let points = ZOOM.max((to - from).abs() as usize + 1);
                    for point in 0..points {
                        let share = point as f32 / points as f32;
                        let x = left as f32 + (t as f32 - 1.0 + share) * ZOOM as f32;
                        out.put_pixel(x as u32, (from + (to - from) * share) as u32, ink);
                    }
                }
            }
        }
    }
    out
}

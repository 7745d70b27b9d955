//! Which of a camera's modes is taken: the nearest to what was asked for. Nothing here touches a device.

use std::fmt;

/// What is taken where the URI does not say: small, as encoders' inputs are, and as fast as most cameras go.
const SIZE: (u32, u32) = (320, 240);
const RATE: f64 = 30.0;
/// Modes that differ by less than a twentieth are as near as one another.
const BUCKETS: f64 = 20.0;

/// The pixel formats that are read, the preferred one first: YUYV costs nothing to decode, grey has no colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pixels {
    Yuyv,
    Mjpeg,
    Grey,
}

impl Pixels {
    pub const ALL: [Pixels; 3] = [Pixels::Yuyv, Pixels::Mjpeg, Pixels::Grey];

    /// Its four-character code in V4L2.
    pub fn code(self) -> [u8; 4] {
        match self {
            Pixels::Yuyv => *b"YUYV",
            Pixels::Mjpeg => *b"MJPG",
            Pixels::Grey => *b"GREY",
        }
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pixels::Yuyv => "YUYV",
            Pixels::Mjpeg => "MJPEG",
            Pixels::Grey => "grey",
        })
    }
}

/// What the URI asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub pixels: Option<Pixels>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub rate: Option<f64>,
}

impl Wanted {
    /// Width and height to come near to. One that was given alone leaves the other one free.
    fn size(&self) -> (Option<u32>, Option<u32>) {
        match (self.width, self.height) {
            (None, None) => (Some(SIZE.0), Some(SIZE.1)),
            given => given,
        }
    }

    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or(RATE)
    }
}

/// One way in which a camera gives frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mode {
    pub pixels: Pixels,
    pub width: u32,
    pub height: u32,
    /// Seconds from frame to frame, as a fraction, where the camera says.
    pub interval: Option<(u32, u32)>,
}

impl Mode {
    /// Frames a second.
    pub fn rate(&self) -> Option<f64> {
        let known = self.interval.filter(|i| i.0 > 0 && i.1 > 0);
        known.map(|(numerator, denominator)| f64::from(denominator) / f64::from(numerator))
    }

    /// Small where the mode is near to what is wanted: by size, then by rate, then by format.
    fn distance(&self, wanted: &Wanted) -> (f64, f64, Pixels, f64) {
        let apart = |a: f64, b: f64| (a / b).ln().abs();
        let (width, height) = wanted.size();
        let side = |side: u32, wanted: Option<u32>| wanted.map_or(0.0, |w| apart(side.into(), w.into()));
        let size = side(self.width, width) + side(self.height, height);
        let rate = self.rate().map_or(0.0, |rate| apart(rate, wanted.rate()));
        ((size * BUCKETS).round(), (rate * BUCKETS).round(), self.pixels, size + rate)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.pixels, self.width, self.height)?;
        self.rate().map_or(Ok(()), |rate| write!(f, " at {} frames a second", (rate * 100.0).round() / 100.0))
    }
}

/// The mode nearest to what is wanted; a format that is asked for is kept to.
pub(super) fn choose(modes: &[Mode], wanted: &Wanted) -> Option<Mode> {
    let fitting = modes.iter().filter(|m| wanted.pixels.is_none_or(|p| p == m.pixels));
    let nearest = fitting.min_by(|a, b| {
        let (a, b) = (a.distance(wanted), b.distance(wanted));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)).then(a.3.total_cmp(&b.3))
    });
    nearest.copied()
}

/// For people: every format and size, at its fastest.
pub(super) fn list(modes: &[Mode]) -> String {
    let mut fastest: Vec<Mode> = Vec::new();
    for mode in modes {
        let same = |m: &&mut Mode| (m.pixels, m.width, m.height) == (mode.pixels, mode.width, mode.height);
        match fastest.iter_mut().find(same) {
            Some(known) if mode.rate() > known.rate() => *known = *mode,
            Some(_) => {}
            None => fastest.push(*mode),
        }
    }
    fastest.iter().map(Mode::to_string).collect::<Vec<_>>().join(", ")
}

/// The size that a camera with free sizes has nearest to what is wanted: `(smallest, largest, step)` for either side.
pub(super) fn fit(wanted: &Wanted, width: (u32, u32, u32), height: (u32, u32, u32)) -> (u32, u32) {
    let fit = |wanted: Option<u32>, default: u32, (smallest, largest, step): (u32, u32, u32)| {
        let above = wanted.unwrap_or(default).clamp(smallest, largest.max(smallest)) - smallest;
        smallest + above - above % step.max(1)
    };
    (fit(wanted.width, SIZE.0, width), fit(wanted.height, SIZE.1, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(pixels: Pixels, width: u32, height: u32, rate: u32) -> Mode {
        Mode { pixels, width, height, interval: Some((1, rate)) }
    }

    /// As webcams are: large frames come slowly without compression.
    fn webcam() -> Vec<Mode> {
        let mut modes = Vec::new();
        for (width, height, raw) in [(160, 120, 30), (320, 240, 30), (640, 480, 30), (1280, 720, 10)] {
            modes.push(mode(Pixels::Yuyv, width, height, 5));
            modes.push(mode(Pixels::Yuyv, width, height, raw));
            modes.push(mode(Pixels::Mjpeg, width, height, 30));
        }
        modes
    }

    #[test]
    fn the_nearest_size_then_rate_then_the_cheapest_format_is_taken() {
        let rows = [
            (Wanted::default(), mode(Pixels::Yuyv, 320, 240, 30)),
            (Wanted { width: Some(600), height: Some(400), ..Wanted::default() }, mode(Pixels::Yuyv, 640, 480, 30)),
            (Wanted { width: Some(1280), ..Wanted::default() }, mode(Pixels::Mjpeg, 1280, 720, 30)),
            (Wanted { height: Some(720), rate: Some(8.0), ..Wanted::default() }, mode(Pixels::Yuyv, 1280, 720, 10)),
            (Wanted { rate: Some(2.0), ..Wanted::default() }, mode(Pixels::Yuyv, 320, 240, 5)),
            (Wanted { pixels: Some(Pixels::Mjpeg), ..Wanted::default() }, mode(Pixels::Mjpeg, 320, 240, 30)),
        ];
        for (wanted, expected) in rows {
            assert_eq!(choose(&webcam(), &wanted), Some(expected), "{wanted:?}");
        }
        assert_eq!(choose(&webcam(), &Wanted { pixels: Some(Pixels::Grey), ..Wanted::default() }), None);
    }

    #[test]
    fn a_rate_that_is_nearly_right_does_not_cost_a_decoder() {
        let ntsc = Mode { interval: Some((1001, 30000)), ..mode(Pixels::Yuyv, 320, 240, 1) };
        assert_eq!(choose(&[mode(Pixels::Mjpeg, 320, 240, 30), ntsc], &Wanted::default()), Some(ntsc));
        assert_eq!(ntsc.to_string(), "YUYV 320x240 at 29.97 frames a second");
    }

    #[test]
    fn free_sizes_are_kept_within_bounds_and_steps() {
        let wanted = Wanted { width: Some(333), height: Some(5000), ..Wanted::default() };
        assert_eq!(fit(&wanted, (16, 4096, 2), (16, 2160, 8)), (332, 2160));
        assert_eq!(fit(&Wanted::default(), (640, 640, 0), (16, 32, 1)), (640, 32));
    }

    #[test]
    fn the_list_names_each_size_once_at_its_fastest() {
        let listed = list(&webcam());
        assert_eq!(listed.matches("YUYV 640x480").count(), 1);
        assert!(listed.contains("YUYV 1280x720 at 10 frames a second"), "{listed}");
    }
}

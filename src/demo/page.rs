//! The report of the demo: what was found, with pictures, and honest verdicts.

use super::eye::Kind;
use super::{Contender, Found, MaskScore, TAUGHT_MASKS, mask};
use crate::report::{
    Dot, Figure, Holds, LineChart, Made, Picture, Report, ReportError, Run, Scatter, Section, Series, Strip, Track,
    TrackMap, Verdict,
};
use crate::source::sim::Surface;

/// A difference smaller than this share is none: steering error, and what was counted while driving, which a single
/// curve may decide.
const ALIKE: f64 = 0.05;
const ALIKE_DRIVING: f64 = 0.2;

/// The report of `found`; `command` is how it can be made again.
///
/// # Errors
/// [`ReportError::PictureSize`], which would be a mistake in nestling itself.
pub fn report(found: &Found, command: &str, seconds: f64) -> Result<Report, ReportError> {
    let s = &found.settings;
    let summary = format!(
        "A simulated rover drove {} minutes through a room while an encoder learned from its camera, without labels \
         and in integers only. A linear steering was then taught on {} labelled frames, and the rover drove by itself: \
         by the learned features, and beside them by the dictionary layer alone, by an encoder that has learned \
         nothing and by plain pixels, all with the same labels, starts and noise.",
        (s.samples as f64 / 1200.0).round().max(1.0),
        s.labels
    );
    Ok(Report {
        title: "nestling demo: a rover learns to see".to_owned(),
        summary,
        verdicts: verdicts(found),
        runs: found.contenders.iter().map(|c| Run { name: describe(c.kind), ..run(c) }).collect(),
        sections: vec![sight(found)?, learning(found), plane(found), masks(found)?, driving(found)],
        made: Made {
            command: command.to_owned(),
            seed: s.seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state_hash: found.state_hash.clone(),
            details: vec![
                ("frames without labels".to_owned(), s.samples.to_string()),
                ("labelled frames".to_owned(), s.labels.to_string()),
                ("seconds".to_owned(), format!("{seconds:.1}, on {} threads", s.threads)),
                ("kernels".to_owned(), crate::kernels::Kernels::detect().name().to_owned()),
            ],
        },
    })
}

/// A contender as a row of the table and an object of the JSON.
pub(crate) fn run(contender: &Contender) -> Run {
    let places = |value: f64, scale: f64| (value * scale).round() / scale;
    Run {
        name: contender.kind.name().to_owned(),
        steering_mae: places(contender.steering_mae, 1e4),
        cross_track_error: places(contender.cross_track_error(), 1e4),
        laps_completed: f64::from(contender.laps()),
        labels: contender.labels,
    }
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Learned => "learned encoder".to_owned(),
        Kind::Stem => "its dictionary layer alone".to_owned(),
        Kind::Untrained => "untrained encoder".to_owned(),
        Kind::Raw(1) => "pixels, 16 × 12 grey".to_owned(),
        Kind::Raw(_) => "pixels, 16 × 12 in colour".to_owned(),
    }
}

/// Whether the learned features did better than the others, at steering and at driving, one line for each of them.
pub(crate) fn verdicts(found: &Found) -> Vec<Verdict> {
    let Some((learned, others)) = found.contenders.split_first() else { return Vec::new() };
    let mut verdicts = Vec::new();
    let name = |c: &Contender| match c.kind {
        Kind::Stem => "the dictionary layer alone",
        Kind::Untrained => "the untrained encoder",
        _ => "plain pixels",
    };
    for other in others {
        let (a, b) = (learned.steering_mae, other.steering_mae);
        let holds = match a / b.max(1e-9) {
            r if r < 1.0 - ALIKE => Holds::Yes,
            r if r > 1.0 + ALIKE => Holds::No,
            _ => Holds::Unclear,
        };
        verdicts.push(Verdict {
            holds,
            text: format!("Learned features steer more exactly than {}: error {a:.3} against {b:.3}.", name(other)),
        });
    }
    for other in others {
        // Better in one respect and worse in none; laps and departures by more than one.
        let measures =
            |c: &Contender| [(c.cross_track_error(), 0.01), (-f64::from(c.laps()), 1.5), (c.times_lost() as f64, 1.5)];
        let better = |a: &Contender, b: &Contender| {
            let pairs = measures(a).into_iter().zip(measures(b));
            pairs.into_iter().any(|((a, least), (b, _))| b - a > f64::max(least, ALIKE_DRIVING * b.abs()))
        };
        let holds = match (better(learned, other), better(other, learned)) {
            (true, false) => Holds::Yes,
            (false, true) => Holds::No,
            _ => Holds::Unclear,
        };
        let how = |c: &Contender| {
            let (error, laps, lost) = (c.cross_track_error(), c.laps(), c.times_lost());
            format!("{error:.3} m off the middle, {laps} laps, left the track {lost} times")
        };
        let text =
            format!("Learned features drive better than {}: {}; against {}.", name(other), how(learned), how(other));
        verdicts.push(Verdict { holds, text });
    }
    verdicts
}

fn driving(found: &Found) -> Section {
    let seconds = found.settings.drive_steps as f64 * 0.05;
    let lost = |c: &Contender| format!("{}: {}", describe(c.kind), c.times_lost());
    let map = |contender: &Contender| {
        let tracks = contender.drives.iter().enumerate().map(|(n, drive)| Track {
            name: format!("drive {}, {} laps", n + 1, drive.laps),
            points: drive.path.clone(),
            lost: drive.lost.clone(),
        });
        let error = contender.cross_track_error();
        Figure::Map(TrackMap {
            title: describe(contender.kind),
            caption: format!(
                "{error:.3} m from the middle on average; left the track {} times.",
                contender.times_lost()
            ),
            road: found.road.clone(),
            tracks: tracks.collect(),
        })
    };
    Section {
        heading: "The driven tracks".to_owned(),
        paragraphs: vec![
            format!(
                "{} drives of {seconds:.0} s for each kind of features, from other places, in other light, one of them \
                 the other way round; a lap is {:.1} m. Steering answers each frame and moves no faster than a servo. \
                 A rover that is more than a metre from the middle is put back there, which is counted; only whole laps \
                 without that are laps.",
                found.contenders.first().map_or(0, |c| c.drives.len()),
                found.lap_m
            ),
            format!("Left the track: {}.", found.contenders.iter().map(lost).collect::<Vec<_>>().join("; ")),
            format!(
                "Steering error in the table is on {} frames of another drive, pushed about by other disturbances. \
                 Steering always by the mean of the labels would have an error of {:.3}.",
                found.test_steering.len(),
                found.mean_mae
            ),
        ],
        figures: found.contenders.iter().map(map).collect(),
    }
}

fn learning(found: &Found) -> Section {
    let line = |title: &str, y_axis: &str, points: &[[f64; 2]], caption: String| {
        Figure::Lines(LineChart {
            title: title.to_owned(),
            caption,
            x_axis: "frames seen".to_owned(),
            y_axis: y_axis.to_owned(),
            series: vec![Series { name: title.to_lowercase(), points: points.to_vec() }],
        })
    };
    let [published, undone] = found.lessons;
    Section {
        heading: "Learning without labels".to_owned(),
        paragraphs: vec![
            "The first layer learned a dictionary of patches from the first frames; then the layers above it learned to \
             recognise a moment from two views of it."
                .to_owned(),
        ],
        figures: vec![
            line("Loss", "loss (nat)", &found.loss, "Running mean of the contrastive loss.".to_owned()),
            line(
                "Effective rank",
                "effective rank",
                &found.rank,
                format!(
                    "Participation ratio of the last layer's pooled activations, at the end of each lesson: 1 would be \
                     a collapse. {published} lessons were published, {undone} undone."
                ),
            ),
        ],
    }
}

fn sight(found: &Found) -> Result<Section, ReportError> {
    let (height, width) = found.frame;
    let picture = |caption: String, pixels: &[u8]| Picture::new(caption, width, height, 3, pixels);
    let seen = found.seen.iter().map(|(seconds, pixels)| picture(format!("after {seconds:.0} s"), pixels));
    let mut figures = vec![Figure::Pictures(Strip {
        title: "Frames".to_owned(),
        caption: format!("{width} × {height} pixels of the camera: worn markings, shadows, drifting light, noise."),
        pictures: seen.collect::<Result<_, _>>()?,
    })];
    for (number, pair) in found.views.iter().enumerate() {
        let apart = pair.apart.0 as f64 * 1e-6;
        let captions =
            ["a frame", "a view of it", &format!("a view of the frame {apart:.2} s later")].map(str::to_owned);
        let of_pair = [&pair.frame, &pair.views[0], &pair.views[1]];
        let pictures = captions.into_iter().zip(of_pair).map(|(caption, pixels)| picture(caption, pixels));
        let (first, last) = (number == 0, number + 1 == found.views.len());
        let caption = "Frames, and the pairs of views that the encoder learns to recognise as one moment.";
        figures.push(Figure::Pictures(Strip {
            title: if first { "Views".to_owned() } else { String::new() },
            caption: if last { caption.to_owned() } else { String::new() },
            pictures: pictures.collect::<Result<_, _>>()?,
        }));
    }
    Ok(Section { heading: "What it saw".to_owned(), paragraphs: Vec::new(), figures })
}

fn masks(found: &Found) -> Result<Section, ReportError> {
    let masks = &found.masks;
    let (height, width) = found.frame;
    let mut figures = Vec::new();
    for shown in &masks.shown {
        let painted = |mask: &[Surface]| mask::painted(mask, masks.grid, found.frame);
        let pictures = [
            ("a frame", shown.pixels.clone()),
            ("what it shows", painted(&shown.truth)),
            ("the learned encoder's mask", painted(&shown.answer)),
        ];
        let picture = |(caption, pixels): (&str, Vec<u8>)| Picture::new(caption, width, height, 3, &pixels);
        let pictures = pictures.into_iter().map(picture).collect::<Result<_, _>>()?;
        figures.push(Figure::Pictures(Strip { pictures, ..Strip::default() }));
    }
    let line = |score: &MaskScore| {
        let parts = Surface::ALL.iter().zip(score.overlap).map(|(s, overlap)| format!("{} {overlap:.2}", s.name()));
        format!("{}: {:.3} ({})", score.name, score.mean(), parts.collect::<Vec<_>>().join(", "))
    };
    Ok(Section {
        heading: "Where is what".to_owned(),
        paragraphs: vec![
            format!(
                "Each of {} x {} cells is named floor, line, wall or object by prototypes taught on the cells of {} \
                 frames, from the encoder's maps before they are pooled, in integers. Grey is floor, yellow a line, blue \
                 wall, red an object.",
                masks.grid.0, masks.grid.1, TAUGHT_MASKS
            ),
            format!(
                "Intersection over union on {} frames of another drive, mean and each: {}. \"raw\" reads the pixels of \
                 the cell, \"place\" says what was commonest there.",
                found.test_steering.len(),
                masks.scores.iter().map(line).collect::<Vec<_>>().join("; ")
            ),
        ],
        figures,
    })
}

fn plane(found: &Found) -> Section {
    let scatter = |contender: &Contender| {
        let dots = contender.plane.iter().zip(&found.test_steering);
        Figure::Scatter(Scatter {
            title: describe(contender.kind),
            caption: format!(
                "{} frames; the whole of the {} features explains {:.0} % of the variance of steering.",
                contender.plane.len(),
                contender.dim,
                (100.0 * contender.steering_r2).max(0.0)
            ),
            x_axis: "first principal component".to_owned(),
            y_axis: "second".to_owned(),
            value: "true steering, −1 right to 1 left".to_owned(),
            dots: dots.map(|(&place, &value)| Dot { place, value }).collect(),
        })
    };
    let shown = found.contenders.iter().filter(|c| matches!(c.kind, Kind::Learned | Kind::Untrained));
    Section {
        heading: "Features in two dimensions".to_owned(),
        paragraphs: vec![
            "Each dot is a test frame, where its feature lies along the two directions of most variance; its colour is \
             the steering that is right there. Steering is read from all dimensions, so a plane shows a part only."
                .to_owned(),
        ],
        figures: shown.map(scatter).collect(),
    }
}

//! The page as a whole: its structure as a snapshot, and a full sample to look at.

use super::*;

fn verdict(holds: Holds, text: &str) -> Verdict {
    Verdict { holds, text: text.into() }
}

fn run(name: &str, steering_mae: f64, cross_track_error: f64, laps_completed: f64) -> Run {
    Run { name: name.into(), steering_mae, cross_track_error, laps_completed, labels: 60 }
}

fn tiny() -> Report {
    let picture = Picture::new("a <grey> view", 2, 1, 1, &[0, 255]).unwrap();
    let strip = Strip { title: "Views".into(), caption: "Two pixels.".into(), pictures: vec![picture] };
    let chart = LineChart {
        title: "Loss".into(),
        x_axis: "samples".into(),
        y_axis: "loss (nat)".into(),
        series: vec![Series { name: "a & b".into(), points: vec![[0.0, 1.0], [10.0, 0.5]] }],
        ..LineChart::default()
    };
    Report {
        title: "Rover <1>".into(),
        summary: "It learned & drove.".into(),
        verdicts: vec![verdict(Holds::Yes, "beats raw"), verdict(Holds::No, "beats \"untrained\"")],
        runs: vec![run("learned", 0.1, 0.25, 3.0), run("raw", f64::NAN, 0.5, 3.0)],
        sections: vec![Section {
            heading: "What it saw".into(),
            paragraphs: vec!["One.".into(), "Two.".into()],
            figures: vec![Figure::Pictures(strip), Figure::Lines(chart)],
        }],
        made: Made {
            command: "nestling demo --seed 7".into(),
            seed: 7,
            version: "0.1.0".into(),
            state_hash: "00ff".into(),
            details: vec![("samples".into(), "10".into())],
        },
    }
}

/// The page without its style sheet, the drawing of charts and the bytes of pictures.
fn structure(html: &str) -> String {
    let cut = |text: String, from: &str, to: &str| {
        let mut pieces = text.split(from);
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            out += &format!("{from}…{}", piece.find(to).map_or("", |at| &piece[at..]));
        }
        out
    };
    let text = cut(html.to_owned(), "<style>", "</style>");
    let text = cut(text, "xmlns=\"http://www.w3.org/2000/svg\">", "</svg>");
    cut(text, "base64,", "\"")
}

#[test]
fn the_page_has_this_structure() {
    insta::assert_snapshot!(structure(&tiny().to_html()));
}

#[test]
fn the_page_needs_nothing_from_outside_and_runs_nothing() {
    let html = tiny().to_html();
    let bare = html.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "src=\"/", "<script", "<link", "@import", "url("] {
        assert!(!bare.contains(foreign), "{foreign}");
    }
    assert!(!html.contains("<1>") && !html.contains("<grey>"), "text is escaped");
    assert!(!html.contains("#0102") && !html.contains("#0103"), "stand-in colours are replaced");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("report.html");
    let error = tiny().write(&path).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("what to do"), "{error}");
    let path = directory.path().join("report.html");
    tiny().write(&path).unwrap();
    assert!(std::fs::read_to_string(path).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn an_empty_report_is_still_a_page() {
    let html = Report::default().to_html();
    assert!(html.contains("</html>") && !html.contains("NaN"));
}

fn wave(phase: f64, reach: f64) -> Vec<[f64; 2]> {
    let at = |i: u32| {
        let t = f64::from(i) / 400.0 * std::f64::consts::TAU;
        let r = 1.0 + 0.22 * (3.0 * t).sin() + reach * (17.0 * t + phase).sin();
        [4.0 * r * t.cos(), 2.6 * r * t.sin()]
    };
    (0..=400).map(at).collect()
}

fn view(caption: &str, shift: usize) -> Picture {
    let (width, height) = (32, 24);
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let middle = 16 + shift * (height - y) / 24;
        let road = y > 8 && x.abs_diff(middle) < 2 + (y - 8) / 2;
        let line = road && x == middle && y % 4 < 2;
        if y <= 8 {
            [150 + 4 * y as u8, 190, 230]
        } else if line {
            [250, 230, 90]
        } else if road {
            [92, 94, 98]
        } else {
            [88, 130 + (x * 7 + y * 13) as u8 % 20, 70]
        }
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
    Picture::new(caption, width, height, 3, &pixels).unwrap()
}

/// Run with `--ignored`, then open the file it names.
#[test]
#[ignore = "writes a sample to look at"]
fn write_a_sample_to_look_at() {
    let curve = |name: &str, f: &dyn Fn(f64) -> f64| {
        let point = |i: u32| [f64::from(i) * 40.0, f(f64::from(i) / 500.0)];
        Series { name: name.into(), points: (0..=500).map(point).collect() }
    };
    let dot = |i: u32| {
        let t = f64::from(i) * 0.618;
        let steer = (t * 1.7).sin() * 0.8;
        Dot {
            place: [3.0 * steer + 0.5 * (t * 91.0).sin(), steer * steer * 2.0 + 0.4 * (t * 57.0).cos()],
            value: steer,
        }
    };
    let mut lost = wave(1.0, 0.12);
    lost.truncate(260);
    let mut report = tiny();
    report.title = "A rover that taught itself to see".into();
    report.summary =
        "A simulated rover drove for 20,000 frames without labels, was then shown 60 labelled frames, and \
                      drove three laps on its own. Learned features steer better than an untrained encoder."
            .into();
    report.verdicts = vec![
        verdict(
            Holds::Yes,
            "Learned features steer better than the untrained encoder (0.061 against 0.094, 60 labels).",
        ),
        verdict(Holds::Unclear, "Against raw pixels the difference, 0.061 and 0.066, is within the spread over seeds."),
        verdict(Holds::No, "The rover did not keep to the road on the unseen night track."),
    ];
    report.runs = vec![
        run("learned", 0.0611, 0.0824, 3.0),
        run("untrained", 0.0942, 0.1377, 2.4),
        run("raw pixels", 0.0661, 0.0911, 3.0),
    ];
    report.sections = vec![
        Section {
            heading: "What the rover saw".into(),
            paragraphs: vec!["Frames are 32 x 24 pixels. A pair of views is two neighbouring frames, altered.".into()],
            figures: vec![Figure::Pictures(Strip {
                title: String::new(),
                caption: "Four frames from the training drive.".into(),
                pictures: vec![
                    view("straight on", 0),
                    view("0.4 s later", 4),
                    view("right turn, 1.2 s", 9),
                    view("1.6 s", 12),
                ],
            })],
        },
        Section {
            heading: "Learning".into(),
            paragraphs: Vec::new(),
            figures: vec![
                Figure::Lines(LineChart {
                    title: "Loss".into(),
                    caption: "Contrastive loss on replayed frames; chance is ln 15 = 2.7.".into(),
                    x_axis: "samples".into(),
                    y_axis: "loss (nat)".into(),
                    series: vec![curve("training", &|t| 1.1 + 1.6 * (-4.0 * t).exp() + 0.08 * (t * 400.0).sin())],
                }),
                Figure::Lines(LineChart {
                    title: "Effective rank of the features".into(),
                    caption: "The guard rolls a lesson back below 4.".into(),
                    x_axis: "samples".into(),
                    y_axis: "effective rank".into(),
                    series: vec![
                        curve("learned", &|t| 6.0 + 12.0 * (1.0 - (-3.0 * t).exp())),
                        curve("untrained", &|t| 6.0 + 0.2 * (t * 30.0).sin()),
                        curve("guard's floor", &|_| 4.0),
                    ],
                }),
            ],
        },
        Section {
            heading: "Features and steering".into(),
            paragraphs: Vec::new(),
            figures: vec![Figure::Scatter(Scatter {
                title: "Learned features in the plane".into(),
                caption: "Each dot is a test frame; the axes hold 41 % and 17 % of the variance.".into(),
                x_axis: "first component".into(),
                y_axis: "second component".into(),
                value: "true steering (lock = 1)".into(),
                dots: (0..900).map(dot).collect(),
            })],
        },
        Section {
            heading: "Where it drove".into(),
            paragraphs: Vec::new(),
            figures: vec![Figure::Map(TrackMap {
                title: String::new(),
                caption: "One lap each, counter-clockwise.".into(),
                road: wave(0.0, 0.0),
                tracks: vec![
                    Track { name: "learned".into(), points: wave(0.3, 0.02), lost: Vec::new() },
                    Track { name: "untrained".into(), lost: lost.last().copied().into_iter().collect(), points: lost },
                ],
            })],
        },
    ];
    report.made.state_hash = "5d3c1f0a9be274".repeat(4) + "5d3c1f0a";
    report.made.details = vec![("machine".into(), "4 cores, aarch64".into()), ("time".into(), "58 s".into())];
    let path = std::env::temp_dir().join("nestling-sample-report.html");
    report.write(&path).unwrap();
    println!("{}", path.display());
}

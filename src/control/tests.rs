use std::io::Write;

use super::*;

fn table(text: &str) -> ControllerTable {
    let table: ControllerTable = toml::from_str(text).expect("a sound table");
    table.check().expect("sound values");
    table
}

/// Features of `count` samples: noise, with a bump of `height` at `place`.
fn rows(count: usize, seed: u32, place: usize, height: i8) -> Vec<Vec<i8>> {
    let draws = crate::fixed::random::Draws::new(crate::sample::Seed(u64::from(seed)), 1, 2);
    let number = |i: usize, j: usize| draws.between((i * 64 + j) as u32, -20, 20) as i8;
    let bump = |j: usize| if j / 4 == place { height } else { 0 };
    (0..count).map(|i| (0..64).map(|j| number(i, j) + bump(j)).collect()).collect()
}

fn grids() -> Vec<Grid> {
    vec![Grid::new(crate::kernels::Map::new(2, 4, 8), (2, 4), false)]
}

fn embedded(taught: &mut Taught, features: &[Vec<i8>]) {
    let embed = |stored: &[u8], out: &mut [i8]| {
        out.copy_from_slice(&features[usize::from(u16::from_le_bytes([stored[0], stored[1]]))]);
    };
    assert!(taught.embed(EncoderVersion(1), 64, embed, || true));
}

/// A bank over `features`: the first 60 are background, the others as `answer` says.
fn bank(features: &[Vec<i8>], answer: impl Fn(usize) -> Answer) -> Taught {
    let mut taught = Taught::new(2);
    for n in 0..features.len() {
        match n < 60 {
            true => {
                taught.offer(&(n as u16).to_le_bytes());
            }
            false => taught.learn(answer(n), &(n as u16).to_le_bytes(), n as u32),
        }
    }
    embedded(&mut taught, features);
    taught
}

#[test]
fn a_few_examples_make_classes_and_all_else_is_unknown() {
    let (cups, dogs) = (rows(8, 2, 3, 45), rows(8, 3, 9, 45));
    let features = [rows(60, 1, 0, 0), cups, dogs].concat();
    let taught = bank(&features, |n| Answer::Class(if n < 68 { "cup" } else { "dog" }.into()));
    let tables = [table("name = 'things'\ndoes = 'classify'\nvalues = { cup = 1.0, dog = -1.0 }")];
    let fitted = Fitted::of(&tables, &grids(), &taught, EncoderVersion(1));
    assert_eq!(fitted.classes.counts, [8, 8]);
    let right: u32 = (0..2).map(|class| fitted.classes.confusions[class][class]).sum();
    assert!(right >= 14, "{:?}", fitted.classes.confusions);
    let mut all = Controllers::new(&tables, 64, Duration::from_millis(500));
    all.adopt(Arc::new(fitted));
    let mut answers = |rows: Vec<Vec<i8>>| {
        let mut labels = Vec::new();
        for row in rows {
            all.decide(Micros(1), &row);
            let (_, decision, _) = all.decisions().next().expect("one");
            labels.push((decision.label.clone().expect("a label").to_string(), decision.values[0]));
        }
        labels
    };
    let share = |labels: Vec<(String, f64)>, label: &str, value: f64| {
        labels.iter().filter(|(l, v)| l == label && *v == value).count() as f64 / labels.len() as f64
    };
    assert!(share(answers(rows(40, 12, 3, 45)), "cup", 1.0) > 0.9);
    assert!(share(answers(rows(40, 13, 9, 45)), "dog", -1.0) > 0.9);
    assert!(share(answers(rows(40, 14, 0, 0)), "unknown", 0.0) > 0.9);
    assert!(share(answers(rows(40, 15, 14, 45)), "unknown", 0.0) > 0.9);
}

#[test]
fn a_demonstration_is_foretold_within_limits_and_no_faster_than_may_be() {
    let heights: Vec<i8> = (0..60).map(|n| (n * 7 % 60) as i8 - 30).collect();
    let shown: Vec<Vec<i8>> =
        heights.iter().enumerate().map(|(n, &h)| rows(1, 100 + n as u32, 5, h).remove(0)).collect();
    let features = [rows(60, 1, 0, 0), shown].concat();
    let answer = |n: usize| {
        let value = f64::from(heights[n - 60]) / 20.0;
        Answer::Values("steering".into(), Values::from_iter([value, -value]))
    };
    let taught = bank(&features, answer);
    let tables = [table("name = 'steering'\ndoes = 'steer'\noutputs = 2\nper_second = 10.0")];
    let fitted = Fitted::of(&tables, &grids(), &taught, EncoderVersion(1));
    let steering = fitted.steering[0].as_ref().expect("it was taught");
    assert!(steering.r2.iter().all(|&r2| r2 > 0.8), "{:?}", steering.r2);
    let mut all = Controllers::new(&tables, 64, Duration::from_millis(500));
    all.adopt(Arc::new(fitted));
    let mut values = Vec::new();
    for step in 0..6 {
        all.decide(Micros(step * 100_000), &rows(1, 300, 5, 30)[0]);
        values.push(all.decisions().next().expect("one").1.values.clone());
    }
    // From the safe 0, one a tenth of a second; 1.5 was shown, 1 is the limit.
    assert!((values[1][0] - 1.0).abs() < 0.3 && values[5].iter().all(|v| v.abs() <= 1.0), "{values:?}");
    assert!(values[5][0] > 0.8 && values[5][1] < -0.8, "{values:?}");

    // Stale features, and the end.
    assert!(!all.look_for_staleness(Duration::from_millis(400)));
    assert!(all.look_for_staleness(Duration::from_millis(600)) && !all.look_for_staleness(Duration::from_millis(700)));
    let (_, decision, changed) = all.decisions().next().expect("one");
    assert_eq!(
        (&decision.values[..], decision.safe, changed),
        (&[0.0, 0.0][..], Some("its features are stale"), false)
    );
}

#[test]
fn what_is_followed_is_found_where_it_stands() {
    // A 1 x 4 map of 16 channels: the thing is channels 8 to 11 of the column where it stands.
    let grids = [Grid::new(crate::kernels::Map::new(1, 4, 16), (1, 4), false)];
    let at = |column: usize| column * 4 + 2;
    let shown: Vec<_> = (0..8).map(|n| rows(1, 50 + n, at(n as usize % 4), 50).remove(0)).collect();
    let features = [rows(60, 1, 0, 0), shown].concat();
    let taught = bank(&features, |_| Answer::Class("ball".into()));
    let tables = [table("name = 'ball'\ndoes = 'follow'\nlabel = 'ball'")];
    let mut all = Controllers::new(&tables, 64, Duration::from_millis(500));
    all.adopt(Arc::new(Fitted::of(&tables, &grids, &taught, EncoderVersion(1))));
    let mut place = |column: Option<usize>, seed| {
        all.decide(Micros(0), &rows(1, seed, column.map_or(0, at), if column.is_some() { 50 } else { 0 })[0]);
        let (_, decision, _) = all.decisions().next().expect("one");
        decision.safe.is_none().then_some(decision.values[0])
    };
    for column in 0..4 {
        let wanted = (column as f64 + 0.5) / 2.0 - 1.0;
        let found = place(Some(column), 70).expect("it is there");
        assert!((found - wanted).abs() < 0.3, "{column}: {found}");
    }
    let seen = (0..40).filter(|&n| place(None, 200 + n).is_some()).count();
    assert!(seen < 12, "{seen} of 40 frames without it");
}

#[test]
fn lines_are_json_and_say_why_a_value_is_the_safe_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let tables = [
        table("name = 'drive'\ndoes = 'steer'\nsafe = -0.5"),
        table(&format!("name = 'log'\ndoes = 'log'\nbytes = 200\nfile = '{}'", file.display())),
    ];
    let mut all = Controllers::new(&tables, 64, Duration::from_millis(500));
    let mut log = log::Log::open(&tables[1]).expect("it can be written");
    let mut out = Vec::new();
    for n in 0..3 {
        assert_eq!(all.decide(Micros(n), &[0; 64]), None);
        let from = out.len();
        for message in all.messages(Micros(n), Duration::from_micros(7)) {
            message.write_line(&mut out).expect("memory");
        }
        log.write_all(&out[from..]).expect("it can be written");
    }
    let text = String::from_utf8(out).expect("text");
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[2]["controller"], &lines[2]["values"][0], &lines[2]["t_us"]),
        (&"drive".into(), &(-0.5).into(), &2.into())
    );
    assert_eq!(lines[0]["safe"], "the stream is not known yet");
    // The log was begun anew when it was full.
    let kept: u64 = ["log", "log.1"].iter().map(|n| folder.path().join(n).metadata().map_or(0, |m| m.len())).sum();
    assert_eq!(kept, text.len() as u64);
    assert!(folder.path().join("log.1").exists());
}

#[test]
fn a_mistake_in_a_table_is_told_with_its_key() {
    for (text, key) in [
        ("name = 'a b'\ndoes = 'steer'", "controller.name"),
        ("name = 'a'\ndoes = 'steer'\noutputs = 5", "controller.outputs"),
        ("name = 'a'\ndoes = 'alarm'\noutputs = 2", "controller.outputs"),
        ("name = 'a'\ndoes = 'steer'\nsafe = 2.0", "controller.safe"),
        ("name = 'a'\ndoes = 'steer'\nleast = 1.0", "controller.least"),
        ("name = 'a'\ndoes = 'alarm'\nper_hour = 0.0", "controller.per_hour"),
        ("name = 'a'\ndoes = 'follow'", "controller.label"),
        ("name = 'a'\ndoes = 'log'", "controller.file"),
        ("name = 'a'\ndoes = 'classify'\nvalues = { cup = 3.0 }", "controller.values"),
        ("name = 'a'\ndoes = 'alarm'\nvalues = { cup = 1.0 }", "controller.values"),
        ("name = 'a'\ndoes = 'steer'\npin = ['x', 'y']", "controller.pin"),
    ] {
        let table: ControllerTable = toml::from_str(text).expect(text);
        assert_eq!(table.check().expect_err(text).0, key, "{text}");
    }
}

/// One's own: wants 3 from the first feature on, where its limits are ±2.
struct Eager;

impl Controller for Eager {
    fn decide(&mut self, _: &Seen, _: &Fitted) -> Choice {
        Choice::value(3.0, 1.0)
    }
}

#[test]
fn a_controller_of_ones_own_is_kept_within_its_table() {
    let taught = bank(&rows(60, 1, 0, 0), |_| Answer::Class("none".into()));
    let decided = |more: &str| -> Vec<f64> {
        let mut all = Controllers::new(&[], 64, Duration::from_millis(500));
        let table = table(&format!("name = 'own'\ndoes = 'steer'\nleast = -2.0\nmost = 2.0\n{more}"));
        all.add(table, Box::new(Eager), Duration::from_millis(500));
        all.adopt(Arc::new(Fitted::of(&[], &grids(), &taught, EncoderVersion(1))));
        let mut values = Vec::new();
        for step in 0..5u64 {
            all.decide(Micros(step * 100_000), &[0; 64]);
            values.push(all.decisions().next().expect("one").1.values[0]);
        }
        values
    };
    assert_eq!(decided(""), [2.0; 5]);
    let limited = decided("per_second = 5.0");
    [0.0, 0.5, 1.0, 1.5, 2.0]
        .iter()
        .zip(&limited)
        .for_each(|(wanted, v)| assert!((wanted - v).abs() < 1e-9, "{limited:?}"));
    // What was safe at the start is no mean of anything: the limit holds at once, then the mean does.
    let both = decided("per_second = 5.0\nsmooth_ms = 200.0");
    let share = (-0.5f64).exp();
    let mut value = 0.0;
    for found in &both[1..] {
        value = (2.0 + (value - 2.0) * share).min(value + 0.5);
        assert!((value - found).abs() < 1e-9, "{both:?}");
    }
}

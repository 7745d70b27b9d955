//! The probes as a caller uses them, and against inputs that nobody wants.

use nestling::evaluate::{EvaluateError, Features, Labelled, Options, Quality, RidgeModel, Targets, evaluate};
use proptest::prelude::*;

/// Standard normal noise without a dependency.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 0.5) / (1_u64 << 31) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

fn labelled(dim: usize, values: Vec<f32>, targets: Targets, groups: Vec<u32>) -> Labelled {
    Labelled { features: Features { dim, values }, targets, groups, time_ordered: false }
}

/// `rows` noisy points around one centre a class, `dim` ≥ `classes`.
fn blobs(rows: usize, dim: usize, classes: u32, distance: f64, seed: u64) -> Labelled {
    let mut noise = Noise(seed);
    let labels: Vec<u32> = (0..rows as u32).map(|r| r % classes).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for &label in &labels {
        values.extend((0..dim).map(|d| (noise.normal() + if d as u32 == label { distance } else { 0.0 }) as f32));
    }
    labelled(dim, values, Targets::Classes(labels), (0..rows as u32).map(|r| r / 8).collect())
}

fn linear_values(rows: usize, seed: u64) -> Labelled {
    let mut noise = Noise(seed);
    let values: Vec<f32> = (0..rows * 3).map(|_| (5.0 + 2.0 * noise.normal()) as f32).collect();
    let map = |r: &[f32]| 10.0 + 2.0 * f64::from(r[0]) - 3.0 * f64::from(r[1]);
    let targets = values.chunks_exact(3).map(map).collect();
    labelled(3, values, Targets::Values(targets), vec![0; rows])
}

#[test]
fn recovers_a_planted_linear_map() {
    let (train, test) = (linear_values(300, 1), linear_values(100, 2));
    let Quality::Values(scores) = evaluate(&train, &test, Options::default()).unwrap().quality else { panic!() };
    assert!(scores.r2 > 0.999_99 && scores.mae < 0.01, "{scores:?}");
    assert!(scores.knn_r2 > 0.5 && scores.few.unwrap().r2_10pct > 0.999);
}

#[test]
fn recovers_a_planted_map_from_more_features_than_rows() {
    let mut noise = Noise(3);
    let (rows, dim) = (120, 400);
    // Four hidden causes seen through four hundred features.
    let causes: Vec<f64> = (0..rows * 2 * 4).map(|_| noise.normal()).collect();
    let mixing: Vec<f64> = (0..4 * dim).map(|_| noise.normal()).collect();
    let part = |range: std::ops::Range<usize>| {
        let see = |r: usize, d: usize| (0..4).map(|c| causes[r * 4 + c] * mixing[c * dim + d]).sum::<f64>() as f32;
        let values = range.clone().flat_map(|r| (0..dim).map(move |d| see(r, d))).collect();
        labelled(dim, values, Targets::Values(range.map(|r| causes[r * 4]).collect()), vec![0; rows])
    };
    let scores = evaluate(&part(0..rows), &part(rows..2 * rows), Options::default()).unwrap();
    assert!(scores.headline() > 0.999, "{scores:?}");
}

#[test]
fn ridge_model_predicts_several_outputs_from_raw_features() {
    let data = linear_values(200, 4);
    let targets: Vec<f64> =
        data.features.values.chunks_exact(3).flat_map(|r| [f64::from(r[0] - r[2]), 1.0 - f64::from(r[1])]).collect();
    let model = RidgeModel::fit(&data.features, &targets, 2, &data.groups, true).unwrap();
    let mut out = [0.0; 2];
    model.predict(&[4.0, 7.0, 1.0], &mut out);
    assert!((out[0] - 3.0).abs() < 1e-2 && (out[1] + 6.0).abs() < 1e-2, "{out:?}");
    let json = serde_json::to_string(&model).unwrap();
    assert_eq!(serde_json::from_str::<RidgeModel>(&json).unwrap(), model);
}

#[test]
fn separable_classes_are_all_found_and_noise_is_chance() {
    let (train, test) = (blobs(600, 10, 4, 8.0, 1), blobs(200, 10, 4, 8.0, 2));
    let Quality::Classes(scores) = evaluate(&train, &test, Options::default()).unwrap().quality else { panic!() };
    let few = scores.few.clone().unwrap();
    for score in [scores.knn, scores.knn_200, scores.linear, scores.ridge, few.linear_10pct] {
        assert!(score > 99.0, "{scores:?}");
    }
    assert_eq!((few.rows_10pct, few.rows_1pct), (60, 6));
    let (train, test) = (blobs(600, 10, 4, 0.0, 1), blobs(400, 10, 4, 0.0, 2));
    let chance = evaluate(&train, &test, Options::default()).unwrap();
    assert!((15.0..35.0).contains(&chance.headline()), "{chance:?}");
}

/// Each group has its own target level, and a fingerprint in many features that tells the groups apart.
fn confounded(groups: std::ops::Range<u32>, seed: u64) -> Labelled {
    let (dim, each) = (40, 30);
    let (mut values, mut targets, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        let mut print = Noise(1000 + u64::from(group));
        let level = 2.0 * print.normal();
        let marks: Vec<f64> = (1..dim).map(|_| print.normal()).collect();
        let mut noise = Noise(seed * 77 + u64::from(group));
        for _ in 0..each {
            let cause = noise.normal();
            values.push((cause + 0.3 * noise.normal()) as f32);
            values.extend(marks.iter().map(|m| (m + 0.02 * noise.normal()) as f32));
            targets.push(cause + level);
            of.push(group);
        }
    }
    labelled(dim, values, Targets::Values(targets), of)
}

#[test]
fn lambda_by_groups_resists_what_only_tells_the_groups_apart() {
    let (train, test) = (confounded(0..20, 1), confounded(100..130, 2));
    let by_groups = evaluate(&train, &test, Options::default()).unwrap().headline();
    let blind = Labelled { groups: vec![0; train.groups.len()], ..train };
    let by_rows = evaluate(&blind, &test, Options::default()).unwrap().headline();
    assert!(by_groups > by_rows + 0.05, "by groups {by_groups}, by rows {by_rows}");
}

#[test]
fn a_fitted_row_does_not_depend_on_other_test_rows() {
    // Scores of two halves average to the score of the whole: nothing is fitted on the test part.
    let (train, test) = (blobs(400, 6, 3, 1.5, 5), blobs(200, 6, 3, 1.5, 6));
    let rows: Vec<usize> = (0..200).collect();
    let score = |rows: &[usize]| evaluate(&train, &test.select(rows), Options::default()).unwrap().headline();
    let halves = 0.5 * (score(&rows[..100]) + score(&rows[100..]));
    assert!((score(&rows) - halves).abs() < 1e-9);
}

#[test]
fn the_same_seed_gives_the_same_scores() {
    let (train, test) = (blobs(300, 12, 3, 1.0, 7), blobs(100, 12, 3, 1.0, 8));
    let once = evaluate(&train, &test, Options::default()).unwrap();
    assert_eq!(once, evaluate(&train, &test, Options::default()).unwrap());
    let other = evaluate(&train, &test, Options { seed: 9, ..Options::default() }).unwrap();
    assert_ne!(once, other, "another seed draws other labels");
}

#[test]
fn what_cannot_be_scored_is_refused_with_the_reason() {
    let good = blobs(20, 2, 2, 1.0, 1);
    let refuse = |train: &Labelled, test: &Labelled| evaluate(train, test, Options::default()).unwrap_err().to_string();
    let one_class = Labelled { targets: Targets::Classes(vec![4; 20]), ..good.clone() };
    assert!(refuse(&one_class, &good).contains("every training row is of class 4"));
    let values = |v: Vec<f64>| Labelled { targets: Targets::Values(v), ..good.clone() };
    let varied = values((0..20).map(f64::from).collect());
    assert!(refuse(&varied, &values(vec![0.3; 20])).contains("every test value is 0.3"));
    assert!(refuse(&varied, &good).contains("label both alike"));
    assert!(refuse(&values(vec![f64::NAN; 20]), &varied).contains("row 0 of the training part is NaN"));
    let mut broken = good.clone();
    broken.features.values[5] = f32::INFINITY;
    assert!(refuse(&good, &broken).contains("feature 1 of row 2 of the test part"));
    assert!(matches!(
        evaluate(&good.select(&[]), &good, Options::default()),
        Err(EvaluateError::Empty { part: "training" })
    ));
}

#[test]
fn a_class_that_was_never_trained_counts_as_wrong() {
    let train = blobs(100, 4, 2, 9.0, 1);
    let test = blobs(99, 4, 3, 9.0, 2);
    let Quality::Classes(scores) = evaluate(&train, &test, Options::default()).unwrap().quality else { panic!() };
    assert_eq!(scores.test_rows_of_unseen_classes, 33);
    assert!(scores.linear <= 66.7 && scores.linear > 60.0, "{scores:?}");
}

/// Few distinct, sometimes enormous numbers: constant columns, equal rows and overflow all happen.
fn wild() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -2.0_f32..2.0, 4 => Just(1.0_f32), 1 => Just(f32::MAX), 1 => Just(-f32::MAX), 1 => Just(1e-40_f32)]
}

fn part(dim: usize, by_class: bool) -> impl Strategy<Value = Labelled> {
    (1_usize..14).prop_flat_map(move |rows| {
        let targets = if by_class {
            prop::collection::vec(0_u32..4, rows).prop_map(Targets::Classes).boxed()
        } else {
            let value = prop_oneof![Just(1.0), -3.0..3.0, Just(1e29), Just(-1e29), Just(1e-300)];
            prop::collection::vec(value, rows).prop_map(Targets::Values).boxed()
        };
        let groups = prop::collection::vec(0_u32..7, rows);
        (prop::collection::vec(wild(), rows * dim), targets, groups, any::<bool>()).prop_map(
            move |(values, targets, groups, time_ordered)| Labelled {
                features: Features { dim, values },
                targets,
                groups,
                time_ordered,
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn degenerate_data_gives_a_number_or_a_reason(
        (train, test) in (1_usize..9, any::<bool>()).prop_flat_map(|(dim, by)| (part(dim, by), part(dim, by)))
    ) {
        if let Ok(scores) = evaluate(&train, &test, Options::default()) {
            let json = serde_json::to_value(&scores).unwrap();
            for (key, value) in json.as_object().unwrap() {
                prop_assert!(value.is_number(), "{} is {} (JSON has no NaN)", key, value);
            }
        }
    }
}

/// Run with `--ignored --nocapture` for the figures in the documentation.
#[test]
#[ignore = "a measurement, some seconds long"]
fn timing_of_nine_thousand_rows() {
    let (rows, dim) = (9000, 2000);
    let mut noise = Noise(1);
    let hidden: Vec<f32> = (0..40 * dim).map(|_| noise.normal() as f32).collect();
    let mut part = |rows: usize| {
        let mut data = blobs(rows, 40, 10, 2.0, noise.0);
        let mut values = vec![0.0_f32; rows * dim];
        for (out, row) in values.chunks_exact_mut(dim).zip(data.features.values.chunks_exact(40)) {
            for (v, mix) in row.iter().zip(hidden.chunks_exact(dim)) {
                out.iter_mut().zip(mix).for_each(|(o, m)| *o += v * m);
            }
            out.iter_mut().for_each(|o| *o = (*o + 3.0 * noise.normal() as f32).max(0.0));
        }
        data.features = Features { dim, values };
        data
    };
    let (train, test) = (part(rows), part(2000));
    for few_labels in [false, true] {
        let start = std::time::Instant::now();
        let scores = evaluate(&train, &test, Options { few_labels, ..Options::default() }).unwrap();
        println!("few {few_labels}: {:.1?} {}", start.elapsed(), serde_json::to_string(&scores).unwrap());
    }
    let values = |l: &Labelled| match &l.targets {
        Targets::Classes(c) => {
            Labelled { targets: Targets::Values(c.iter().map(|&c| f64::from(c)).collect()), ..l.clone() }
        }
        Targets::Values(_) => unreachable!(),
    };
    let start = std::time::Instant::now();
    let scores =
        evaluate(&values(&train), &values(&test), Options { few_labels: false, ..Options::default() }).unwrap();
    println!("values: {:.1?} {}", start.elapsed(), serde_json::to_string(&scores).unwrap());
}

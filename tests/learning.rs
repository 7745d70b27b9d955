//! The learner as a whole: the promises that need a stream to be seen.

mod common;

use common::{Gratings, Run, counting};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Learner, Options};
use nestling::net::spec::{InputSpec, LayerSpec, ReplaySpec, Spec};
use nestling::net::task::PretextSpec;
use nestling::runtime::Pool;
use nestling::store::state_hash;

#[global_allocator]
static ALLOCATOR: counting::Allocator = counting::Allocator;

fn small() -> nestling::net::spec::Spec {
    let mut spec = nestling::selftest::spec();
    spec.dictionary.samples = 100;
    spec
}

#[test]
fn observe_and_step_allocate_nothing_over_thousands_of_samples() {
    let mut run = Run::new(&small(), 1, Some(4000));
    run.with(|learner| {
        let mut stream = Gratings::new(16);
        stream.feed(learner, 40, &Alone);
        let before = counting::allocations();
        stream.feed(learner, 4000, &Alone);
        assert_eq!(counting::allocations() - before, 0);
        assert!(learner.counters().steps > 900 && learner.counters().lessons_published > 10);
    });
}

#[test]
fn threads_do_not_change_the_state() {
    let hash = |threads: usize| {
        let mut run = Run::new(&small(), threads, Some(600));
        run.with(|learner| {
            let pool = Pool::new(threads).expect("threads");
            pool.run(|workers| Gratings::new(16).feed(learner, 600, workers));
            state_hash(learner)
        })
    };
    let one = hash(1);
    assert_eq!(hash(2), one);
    assert_eq!(hash(7), one);
    assert_eq!(hash(1), one, "a second run");
}

#[test]
fn only_steps_that_are_worth_it_are_split() {
    let worth = |name| Learner::lanes_worth(&nestling::model::load(name).expect("a shipped model"), 16);
    assert_eq!(worth("n5"), 1);
    assert!((2..16).contains(&worth("motion")), "{}", worth("motion"));
    assert_eq!(worth("robot"), 16);
}

/// 128 x 128 positions of 16 views are more products than 32 bits hold: the gradient is summed in 64.
#[test]
fn gradients_wider_than_32_bits_have_the_same_bits_for_every_kernel_and_number_of_lanes() {
    let layer = |stride| LayerSpec { filters: 3, stride, ..Default::default() };
    let spec = Spec {
        input: InputSpec { height: 128, width: 128, channels: 1, ..Default::default() },
        layer: [layer(1), layer(16)].into_iter().collect(),
        pretext: core::iter::once(PretextSpec {
            batch: Some(8),
            hidden: Some(4),
            outputs: Some(4),
            samples_per_step: Some(4),
            ..Default::default()
        })
        .collect(),
        replay: ReplaySpec { capacity: 8, fresh: 4, ..Default::default() },
        ..Default::default()
    };
    let hash = |lanes: usize, kernels: Kernels| {
        let options = Options { kernels, ..common::options(lanes, Some(40)) };
        let mut memory = vec![0u8; Learner::plan(&spec, &options).expect("a plan").block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        assert!(learner.network().tensors[0].wide.is_some() && learner.network().tensors[1].wide.is_none());
        Gratings::new(128).feed(&mut learner, 20, &Alone);
        assert!(learner.counters().steps >= 3);
        state_hash(&mut learner)
    };
    let one = hash(1, Kernels::Reference);
    for kernels in [Kernels::Reference, Kernels::detect()] {
        for lanes in [1, 3, 16] {
            assert_eq!(hash(lanes, kernels), one, "{} with {lanes} lanes", kernels.name());
        }
    }
}

#[test]
fn a_map_too_large_for_one_view_is_refused_with_its_layer() {
    let layer = LayerSpec { filters: 1, ..Default::default() };
    let spec = Spec {
        input: InputSpec { height: 512, width: 512, channels: 1, ..Default::default() },
        layer: [LayerSpec { stride: 2, ..layer.clone() }, layer].into_iter().collect(),
        pretext: core::iter::once(PretextSpec::default()).collect(),
        ..Default::default()
    };
    assert!(Learner::plan(&spec, &common::options(1, None)).is_ok());
    let full = Spec { input: InputSpec { height: 1024, width: 1024, ..spec.input.clone() }, ..spec };
    let refused = Learner::plan(&full, &common::options(1, None)).expect_err("too large");
    assert!(refused.to_string().starts_with("layer 0: a sum of products could pass 2^31"), "{refused}");
}

#[test]
fn the_plan_is_what_the_learner_holds() {
    for (name, _) in nestling::model::SHIPPED {
        let spec = nestling::model::load(name).expect("a shipped model");
        for lanes in [1, 2] {
            let options = common::options(lanes, None);
            let plan = Learner::plan(&spec, &options).expect("a plan");
            assert_eq!(plan.items.iter().map(|i| i.bytes).sum::<usize>(), plan.ram_bytes, "{name}");
            let before = counting::bytes();
            let mut memory = vec![0u8; plan.block_len()];
            let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
            let held = counting::bytes().wrapping_sub(before);
            // One block, and the room to align it.
            assert_eq!(held, plan.ram_bytes + nestling::net::arena::ALIGNMENT, "{name} with {lanes} lanes");
            let mut state = 0;
            learner.visit_state(|_, mut numbers| state += numbers.bytes().len());
            assert!(state <= plan.ram_bytes);
            drop(learner);
            assert!(Learner::new(&spec, &options, &mut memory[1..]).is_err(), "one byte less is refused");
        }
    }
}

#[test]
fn the_loss_falls_below_chance_and_the_features_do_not_collapse() {
    let mut run = Run::new(&small(), 1, Some(6000));
    run.with(|learner| {
        Gratings::new(16).feed(learner, 6000, &Alone);
        learner.finish();
        let (c, health) = (*learner.counters(), learner.health());
        // Chance with 4 samples and 2 views is ln 7.
        assert!((c.loss_running as f64) / 4096.0 < 0.95 * 7f64.ln(), "{}", c.loss_running as f64 / 4096.0);
        assert!(health.effective_rank > 2 * 256 && health.spread > 1000, "{health:?}");
    });
}

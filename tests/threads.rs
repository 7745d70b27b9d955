//! What runs on several threads, small enough for a sanitizer that watches every access (`.ci/sanitize.sh`).

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Gratings, Run};
use nestling::learner::{Alone, Did};
use nestling::net::spec::Spec;
use nestling::runtime::Pool;
use nestling::runtime::perceiver::Exchange;
use nestling::store::state_hash;

fn small() -> Spec {
    let mut spec = nestling::selftest::spec();
    spec.dictionary.samples = 40;
    spec.guard.lesson_steps = 2;
    spec
}

#[test]
fn lanes_on_a_pool_give_the_bits_of_one() {
    let hash = |threads: usize| {
        Run::new(&small(), threads, Some(120)).with(|learner| {
            let pool = Pool::new(threads).expect("threads");
            pool.run(|workers| Gratings::new(16).feed(learner, 120, workers));
            state_hash(learner)
        })
    };
    assert_eq!(hash(3), hash(1));
}

#[test]
fn a_feature_is_of_one_encoder_that_was_published_never_of_two() {
    Run::new(&small(), 1, None).with(|learner| {
        let (exchange, mut perceiver) = Exchange::new(learner);
        let mut fixed = Gratings::new(16);
        let mut feature = vec![0; perceiver.feature_dim()];
        learner.perceive(&fixed.sample(), &mut feature).expect("a fitting sample");
        // What each version of the encoder makes of one frame, told before it is published.
        let told = Mutex::new(BTreeMap::from([(learner.version(), feature)]));
        let over = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let perceiving = scope.spawn(|| {
                let mut feature = vec![0; perceiver.feature_dim()];
                let mut seen = BTreeMap::new();
                while !over.load(Ordering::Acquire) {
                    perceiver.refresh(&exchange);
                    let version = perceiver.version();
                    perceiver.perceive(&Gratings::new(16).sample(), &mut feature).expect("a fitting sample");
                    assert_eq!(told.lock().expect("nobody panicked").get(&version), Some(&feature), "{version:?}");
                    *seen.entry(version).or_insert(0) += 1;
                }
                seen
            });
            let mut stream = Gratings::new(16);
            let mut feature = vec![0; learner.network().feature_dim];
            for _ in 0..400 {
                stream.observe(learner);
                loop {
                    match learner.step(&Alone) {
                        Did::Idle => break,
                        Did::Published { version, .. } => {
                            learner.perceive(&Gratings::new(16).sample(), &mut feature).expect("a fitting sample");
                            told.lock().expect("nobody panicked").insert(version, feature.clone());
                            exchange.publish(learner);
                        }
                        _ => {}
                    }
                }
            }
            over.store(true, Ordering::Release);
            perceiving.join().expect("the perceiver goes on")
        });
        println!(
            "{} versions published, {} seen, {} features",
            told.lock().expect("over").len(),
            seen.len(),
            seen.values().sum::<i32>()
        );
        assert!(seen.len() > 3, "{seen:?}");
    });
}

//! Reads features out of shared memory while `nestling run` makes them: `cargo run --features shm --example shm_reader`, with
//! `[shm] service = "nestling/feature"` in the profile. One line a feature; ends with Ctrl-C.

use std::time::Duration;

use iceoryx2::prelude::*;
use nestling::bus::shm::{node, service};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "nestling/feature".into());
    let node = node::<ipc::Service>()?;
    let reader = service(&node, &name)?.subscriber_builder().create()?;
    let mut expected = None;
    loop {
        while let Some(sample) = reader.receive()? {
            let head = sample.user_header();
            let lost = expected.map_or(0, |expected| head.number.saturating_sub(expected));
            expected = Some(head.number + 1);
            // The mantissas are read where nestling wrote them.
            let feature = sample.payload();
            println!(
                "{} t_us {} encoder {} novelty {:.3}, {} numbers in {} blocks, {lost} lost before",
                head.number,
                head.time_us,
                head.encoder,
                head.novelty,
                feature.len(),
                head.blocks
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

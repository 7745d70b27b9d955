//! Features in shared memory, by `iceoryx2`: written once, read where they lie by any number of programs on the machine. A
//! reader that is slow loses the oldest; its gaps show in [`FeatureHead::number`].
//!
//! A sample of the service is a [`FeatureHead`] and, as its payload, the feature's mantissas. Readers in Rust use this module's
//! type (`examples/shm_reader.rs`); in other languages the layout is what counts.

use std::sync::Arc;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::prelude::*;

use super::message::{Block, Feature, Kind, Message};
use super::transport::{SendError, Transport};
use crate::net::spec::MAX_LAYERS;

/// Blocks of a feature that its head has room for.
pub const MOST_BLOCKS: usize = MAX_LAYERS;
/// Features that a reader may be behind before it loses some.
pub const DEPTH: usize = 32;
/// Mantissas for which there is room at first; it grows.
const ROOM: usize = 4096;

/// What is known of a feature beside its mantissas.
#[derive(Clone, Copy, Debug, Default, PartialEq, ZeroCopySend)]
#[type_name("nestling_FeatureHead")]
#[repr(C)]
pub struct FeatureHead {
    /// Counts features from 0 on.
    pub number: u64,
    /// Time of the sample, µs.
    pub time_us: u64,
    /// From the arrival of the sample until this was written, µs.
    pub age_us: u64,
    /// Version of the encoder: features of two versions are not to be compared.
    pub encoder: u32,
    /// 1 is as far from all that the stream has shown as that is from itself; NaN where nobody keeps that.
    pub novelty: f32,
    /// How the encoder stands against the best so far, 0 to 1; NaN before one was judged.
    pub health: f32,
    /// Blocks that share an exponent; so many of the following are used.
    pub blocks: u32,
    pub lengths: [u32; MOST_BLOCKS],
    /// e of `value = m · 2^e`.
    pub exponents: [u32; MOST_BLOCKS],
}

/// See the module.
pub struct SharedMemory {
    service: String,
    publisher: Publisher<ipc_threadsafe::Service, [i8], FeatureHead>,
    number: u64,
}

/// The service `name` with its layout and limits, for whoever writes or reads it.
///
/// # Errors
/// Where another program has a service of that name with another layout, or the system gives no shared memory.
pub fn service<S: Service>(
    node: &Node<S>,
    name: &str,
) -> Result<iceoryx2::service::port_factory::publish_subscribe::PortFactory<S, [i8], FeatureHead>, String> {
    let failed = |problem: String| {
        format!(
            "shm.service {name}: {problem}\n  what to do: name another service, or end the program that has this one"
        )
    };
    let valid = ServiceName::new(name).map_err(|e| failed(format!("{e:?}")))?;
    let builder = node.service_builder(&valid).publish_subscribe::<[i8]>().user_header::<FeatureHead>();
    let builder = builder.enable_safe_overflow(true).subscriber_max_buffer_size(DEPTH).history_size(1);
    builder.open_or_create().map_err(|e| failed(format!("{e:?}")))
}

/// A node of this process that leaves signals alone.
///
/// # Errors
/// Where the system gives no shared memory.
pub fn node<S: Service>() -> Result<Node<S>, String> {
    set_log_level_from_env_or(LogLevel::Error);
    let node = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled).create();
    node.map_err(|e| format!("shared memory: {e:?}\n  what to do: see that /dev/shm and /tmp/iceoryx2 may be written"))
}

impl SharedMemory {
    /// Offers the service `name`.
    ///
    /// # Errors
    /// As [`service`].
    pub fn open(name: &str) -> Result<Self, String> {
        let service = service(&node::<ipc_threadsafe::Service>()?, name)?;
        let publisher = service.publisher_builder().initial_max_slice_len(ROOM);
        let publisher = publisher.allocation_strategy(AllocationStrategy::PowerOfTwo);
        let publisher = publisher.backpressure_strategy(BackpressureStrategy::DiscardData).create();
        let publisher =
            publisher.map_err(|e| format!("shm.service {name}: {e:?}\n  what to do: name another service"))?;
        Ok(SharedMemory { service: name.into(), publisher, number: 0 })
    }

    fn publish(&mut self, feature: &Feature) -> Result<(), String> {
        let mut sample = self.publisher.loan_slice_uninit(feature.values.len()).map_err(|e| format!("{e:?}"))?;
        *sample.user_header_mut() = FeatureHead::of(feature, self.number);
        sample.write_from_slice(&feature.values).send().map_err(|e| format!("{e:?}"))?;
        self.number += 1;
        Ok(())
    }
}

impl FeatureHead {
    fn of(feature: &Feature, number: u64) -> Self {
        let mut head = FeatureHead {
            number,
            time_us: feature.time.0,
            age_us: feature.age.as_micros() as u64,
            encoder: feature.encoder.0,
            novelty: feature.novelty.unwrap_or(f32::NAN),
            health: feature.health.unwrap_or(f32::NAN),
            ..FeatureHead::default()
        };
        for (i, &Block { len, exponent }) in feature.blocks.iter().take(MOST_BLOCKS).enumerate() {
            (head.lengths[i], head.exponents[i], head.blocks) = (len, exponent, i as u32 + 1);
        }
        head
    }
}

impl Transport for SharedMemory {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        let Message::Feature(feature) = &**message else { return Ok(()) };
        if feature.blocks.len() > MOST_BLOCKS {
            let problem = format!("a feature of {} blocks; there is room for {MOST_BLOCKS}", feature.blocks.len());
            return Err(SendError::Failed(format!("{}: {problem}", self.service)));
        }
        self.publish(feature).map_err(|problem| SendError::Failed(format!("{}: {problem}", self.service)))
    }

    fn wants(&self, kind: Kind) -> bool {
        kind == Kind::Feature
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sample::{EncoderVersion, Micros};

    fn message(n: usize) -> Arc<Message> {
        Arc::new(Message::Feature(Feature {
            time: Micros(n as u64),
            age: Duration::from_micros(7),
            encoder: EncoderVersion(3),
            novelty: Some(0.5),
            health: None,
            blocks: vec![Block { len: 1, exponent: 9 }, Block { len: n as u32 - 1, exponent: 11 }],
            values: vec![-(n as i8); n],
        }))
    }

    #[test]
    fn a_reader_sees_features_where_they_lie_and_loses_the_oldest_only() {
        let name = format!("nestling/test/{}", std::process::id());
        let mut writer = SharedMemory::open(&name).unwrap();
        let node = node::<ipc::Service>().unwrap();
        let reader = service(&node, &name).unwrap().subscriber_builder().create().unwrap();
        // Nobody reads: more than fit are written, without waiting.
        for n in 1..=DEPTH + 5 {
            writer.send(&message(n)).unwrap();
        }
        let mut numbers = Vec::new();
        while let Some(sample) = reader.receive().unwrap() {
            let head = sample.user_header();
            let n = head.number as usize + 1;
            assert_eq!(sample.payload(), vec![-(n as i8); n]);
            assert_eq!((head.time_us, head.age_us, head.encoder, head.blocks), (n as u64, 7, 3, 2));
            assert_eq!((head.lengths[..2].to_vec(), &head.exponents[..2]), (vec![1, n as u32 - 1], &[9, 11][..]));
            assert!(head.novelty == 0.5 && head.health.is_nan());
            numbers.push(n);
        }
        assert_eq!(numbers, (6..=DEPTH + 5).collect::<Vec<_>>());
    }

    #[test]
    fn a_feature_larger_than_any_before_finds_room() {
        let name = format!("nestling/test/large/{}", std::process::id());
        let mut writer = SharedMemory::open(&name).unwrap();
        let node = node::<ipc::Service>().unwrap();
        let reader = service(&node, &name).unwrap().subscriber_builder().create().unwrap();
        let large = Feature { values: vec![1; 3 * ROOM], ..Feature::default() };
        writer.send(&Arc::new(Message::Feature(large))).unwrap();
        assert_eq!(reader.receive().unwrap().expect("a sample").payload().len(), 3 * ROOM);
    }
}

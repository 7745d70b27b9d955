use super::*;
use crate::sample::{Micros, Sample, Values};
use crate::state::Hash;
use proptest::prelude::*;
use serde::Serialize;

fn framed(message: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let sent: Result<(), ()> = send(message, |piece| {
        assert!((1..=255).contains(&piece.len()));
        out.extend_from_slice(piece);
        Ok(())
    });
    assert_eq!(sent, Ok(()));
    out
}

/// Messages found in `stream`, each as its frame's bytes.
fn frames(decoder: &mut Decoder<Vec<u8>>, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for &byte in stream {
        if decoder.push(byte) {
            found.push(decoder.frame().to_vec());
        }
    }
    found
}

fn sample(number: u64, values: &[u8]) -> RawSample<'_> {
    let shape = Shape::Image { height: 1, width: values.len() as u32, channels: 1 };
    RawSample { number, time: number.wrapping_mul(50_000), segment: 3, shape, values: Bytes(values) }
}

#[test]
fn a_frame_is_postcard_with_zlibs_checksum_in_cobs() {
    // 02 01: variant 2 of ToDevice (Record), true. CRC-32 of these: EB 40 E8 04, little-endian. No zero among them.
    assert_eq!(framed(&ToDevice::Record(true)), [7, 2, 1, 235, 64, 232, 4, 0]);
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let blocks = [(576, 3), (64, 0)].into_iter().collect();
    let hello = Hello {
        protocol: PROTOCOL,
        firmware: "nestling-firmware 0.1.0",
        board: "pico",
        kernels: "lean",
        spec: Bytes(&[0, 1, 2]),
        seed: u64::MAX,
        expected_samples: Some(0),
        samples: 1 << 40,
        memory: Memory { learner: 30_000, statics: 31_000, stack: 4096, flash: 80_000 },
    };
    let health =
        Health { samples: 3, frames_dropped: 2, wear: Wear { erases: 9, ..Wear::default() }, ..Health::default() };
    let to_host = [
        ToHost::Hello(hello),
        ToHost::Ready,
        ToHost::Feature(Feature { time: 7, encoder: 2, blocks, values: Bytes(&[0, 255, 128]) }),
        ToHost::Health(health),
        ToHost::Sample(sample(9, &[0; 3072])),
        ToHost::Hash(StateHash { samples: 8, finished: true, hash: Hash([0xA5; 32]) }),
        ToHost::Log("started"),
    ];
    let mut decoder = Decoder::new(vec![0; buffer_len(3072)]);
    for message in &to_host {
        let stream = framed(message);
        let (last, body) = stream.split_last().expect("a frame");
        assert!(body.iter().all(|&byte| !decoder.push(byte)) && decoder.push(*last), "{message:?}");
        assert_eq!(decoder.message::<ToHost>().as_ref(), Some(message));
    }
    let to_device = [
        ToDevice::Hello,
        ToDevice::Sample(sample(1, &[1, 2, 3])),
        ToDevice::Record(false),
        ToDevice::Hash,
        ToDevice::Save,
        ToDevice::Freeze,
        ToDevice::Thaw,
        ToDevice::Finish,
        ToDevice::Restart,
    ];
    for message in to_device {
        let arrived = framed(&message).into_iter().filter(|&byte| decoder.push(byte)).count();
        assert_eq!((arrived, decoder.to_device()), (1, Some(message)));
    }
    assert_eq!(decoder.dropped(), 0);
}

#[test]
fn readings_arrive_at_an_even_address_wherever_the_frame_has_them() {
    let readings: Vec<i16> = (0..600).map(|n| n * 53 - 9000).collect();
    for number in [0, 1, 200, 1 << 20, u64::MAX] {
        for skip in 0..2 {
            let mut buffer = vec![0u8; buffer_len(1200) + skip];
            let mut decoder = Decoder::new(&mut buffer[skip..]);
            let values = Values::Window { readings: &readings, length: 100, channels: 6 };
            let sent = Sample { values, time: Micros(number / 3), segment: 1 };
            let stream = framed(&ToDevice::Sample(RawSample::new(number, &sent)));
            assert_eq!(stream.into_iter().filter(|&byte| decoder.push(byte)).count(), 1);
            let Some(ToDevice::Sample(raw)) = decoder.to_device() else { panic!("a sample") };
            assert_eq!((raw.number, raw.sample()), (number, Some(sent)));
        }
    }
}

#[test]
fn a_samples_frame_fits_its_buffer_whatever_its_numbers() {
    let huge = u32::MAX;
    let shape = Shape::Image { height: huge, width: huge, channels: huge };
    let raw = RawSample { time: u64::MAX, segment: huge, shape, ..sample(u64::MAX, &[9; 3072]) };
    let mut decoder = Decoder::new(vec![0; buffer_len(3072)]);
    assert_eq!(frames(&mut decoder, &framed(&ToDevice::Sample(raw))).len(), 1);
    assert_eq!(decoder.to_device(), Some(ToDevice::Sample(raw)));
}

#[test]
fn a_sample_whose_shape_lies_is_none() {
    let of = |shape, values| RawSample { shape, values: Bytes(values), ..sample(0, &[]) }.sample();
    let huge = u32::MAX;
    for shape in [
        Shape::Image { height: 2, width: 2, channels: 1 },
        Shape::Image { height: huge, width: huge, channels: huge },
        Shape::Window { length: huge, channels: huge },
        Shape::Window { length: 1, channels: 1 },
    ] {
        assert_eq!(of(shape, &[1, 2, 3]), None, "{shape:?}");
    }
}

#[test]
fn a_writer_that_fails_ends_the_frame_there() {
    let (mut pieces, mut stream) = (0, Vec::new());
    let sent = send(&ToHost::Sample(sample(9, &[7; 3072])), |piece| {
        pieces += 1;
        stream.extend_from_slice(piece);
        if pieces == 5 { Err("the cable is out") } else { Ok(()) }
    });
    assert_eq!((sent, pieces), (Err("the cable is out"), 5));
    // The next frame begins with its own first byte; the zero that a sender puts between is that of a new attempt.
    stream.push(0);
    stream.extend(framed(&ToHost::Ready));
    let mut decoder = Decoder::new(vec![0; buffer_len(3072)]);
    assert_eq!((frames(&mut decoder, &stream).len(), decoder.dropped()), (1, 1));
}

#[test]
fn a_frame_too_long_for_the_buffer_is_dropped_and_the_next_one_read() {
    let stream = [framed(&ToHost::Sample(sample(1, &[9; 600]))), framed(&ToHost::Ready)].concat();
    let mut decoder = Decoder::new(vec![0; 512]);
    assert_eq!((frames(&mut decoder, &stream).len(), decoder.dropped()), (1, 1));
    assert_eq!(decoder.message(), Some(ToHost::Ready));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_and_never_longer_than_the_buffer(stream: Vec<u8>, room in 0usize..64) {
        let mut decoder = Decoder::new(vec![0; room]);
        for byte in stream {
            if decoder.push(byte) {
                prop_assert!(decoder.frame().len() <= room);
                let _ = decoder.message::<ToHost>();
                let _ = decoder.to_device();
            }
        }
    }

    /// Behind a right checksum anything may stand.
    #[test]
    fn a_sound_frame_may_hold_anything(payload: Vec<u8>) {
        struct Raw(Vec<u8>);
        impl Serialize for Raw {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = to.serialize_tuple(self.0.len())?;
                self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
                tuple.end()
            }
        }
        let mut decoder = Decoder::new(vec![0; payload.len() + 4]);
        let found = frames(&mut decoder, &framed(&Raw(payload.clone())));
        prop_assert_eq!(found, vec![payload]);
        let _ = decoder.message::<ToHost>();
        let _ = decoder.to_device();
    }

    /// What lies between the damage arrives, in order; what was damaged is counted, and nothing else arrives.
    #[test]
    fn after_garbage_and_cut_frames_the_next_whole_frame_is_found(
        parts in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..700), 0usize..3, any::<proptest::sample::Index>()), 1..12),
    ) {
        let (mut stream, mut whole, mut damaged) = (Vec::new(), Vec::new(), 0);
        for (number, values, harm, at) in &parts {
            let mut frame = framed(&ToHost::Sample(sample(*number, values)));
            // The last byte is the zero that ends it: a cut before it, or a changed byte.
            let at = at.index(frame.len() - 1);
            match harm {
                0 => whole.push(*number),
                1 => {
                    frame.drain(at..frame.len() - 1);
                    damaged += u32::from(at > 0);
                }
                _ => {
                    frame[at] = if frame[at] == 255 { 1 } else { frame[at] + 1 };
                    damaged += 1;
                }
            }
            stream.extend(frame);
        }
        let mut decoder = Decoder::new(vec![0; 1024]);
        let mut arrived = Vec::new();
        for byte in stream {
            if decoder.push(byte) && let Some(ToHost::Sample(raw)) = decoder.message() {
                arrived.push(raw.number);
            }
        }
        prop_assert_eq!(arrived, whole);
        prop_assert_eq!(decoder.dropped(), damaged);
    }
}

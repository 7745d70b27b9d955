use super::*;
use crate::ros::messages::{
    ALARM_RAISED, CompressedImage, Decision, Duration, Feature, Header, Health, Image, Imu, Quaternion, Text, Time,
    Vector3,
};

fn header() -> Header {
    Header { stamp: Time { sec: 1_700_000_000, nanosec: 5 }, frame_id: "eye".into() }
}

fn feature(values: &[i8]) -> Feature<'_> {
    Feature {
        header: header(),
        age: Duration { sec: 0, nanosec: 7_000_000 },
        encoder: 3,
        novelty: 0.5,
        health: f32::NAN,
        lengths: vec![2, 1],
        exponents: vec![9, 11],
        values,
    }
}

/// The bytes were laid out by hand from the rules of the standard: a value starts at a multiple of its size, a string has its
/// length with the zero at its end.
#[test]
fn a_feature_has_the_bytes_of_the_standard() {
    let mut expected = vec![0, 1, 0, 0];
    expected.extend_from_slice(&1_700_000_000i32.to_le_bytes());
    expected.extend_from_slice(&5u32.to_le_bytes());
    expected.extend_from_slice(b"\x04\0\0\0eye\0");
    expected.extend_from_slice(&0i32.to_le_bytes());
    expected.extend_from_slice(&7_000_000u32.to_le_bytes());
    expected.extend_from_slice(&3u32.to_le_bytes());
    expected.extend_from_slice(&0.5f32.to_le_bytes());
    expected.extend_from_slice(&f32::NAN.to_le_bytes());
    expected.extend_from_slice(b"\x02\0\0\0\x02\0\0\0\x01\0\0\0");
    expected.extend_from_slice(b"\x02\0\0\0\x09\0\0\0\x0b\0\0\0");
    expected.extend_from_slice(b"\x03\0\0\0\xff\x00\x7f");
    assert_eq!(encode(&feature(&[-1, 0, 127])).unwrap(), expected);
}

/// `frame_id` ends at an odd place, and 8-byte numbers follow.
#[test]
fn numbers_of_8_bytes_start_at_multiples_of_8_after_the_header() {
    let imu = Imu {
        header: Header { frame_id: "imu_link".into(), ..header() },
        orientation: Quaternion { x: 0.1, y: 0.2, z: 0.3, w: 0.9 },
        angular_velocity: Vector3 { x: 1.0, y: -2.0, z: 3.0 },
        linear_acceleration: Vector3 { x: 0.0, y: 0.0, z: 9.81 },
        ..Imu::default()
    };
    let bytes = encode(&imu).unwrap();
    // 8 of time, 4 of length, 9 of text, 3 of padding; then 4 + 9 + 3 + 9 + 3 + 9 numbers.
    assert_eq!(bytes.len(), 4 + 24 + 37 * 8);
    assert_eq!(bytes[4 + 24..][..8], 0.1f64.to_le_bytes());
    assert_eq!(decode::<Imu>(&bytes).unwrap(), imu);
}

#[test]
fn what_was_written_is_read() {
    let pixels: Vec<u8> = (0..48).collect();
    let image = Image {
        header: header(),
        height: 4,
        width: 4,
        encoding: "rgb8".into(),
        is_bigendian: 0,
        step: 12,
        data: &pixels,
    };
    assert_eq!(decode::<Image>(&encode(&image).unwrap()).unwrap(), image);
    let compressed = CompressedImage { header: header(), format: "jpeg".into(), data: &pixels[..7] };
    assert_eq!(decode::<CompressedImage>(&encode(&compressed).unwrap()).unwrap(), compressed);
    let text = Text { data: "Straße".into() };
    assert_eq!(decode::<Text>(&encode(&text).unwrap()).unwrap(), text);
    let bytes = encode(&feature(&[5; 200])).unwrap();
    let read: Feature = decode(&bytes).unwrap();
    assert_eq!((read.lengths, read.values), (vec![2, 1], &[5i8; 200][..]));
    let decision = Decision {
        header: header(),
        controller: "road".into(),
        values: vec![0.25, -1.0],
        confidence: 0.5,
        label: "ball".into(),
        alarm: ALARM_RAISED,
        ..Decision::default()
    };
    assert_eq!(decode::<Decision>(&encode(&decision).unwrap()).unwrap(), decision);
    let health = Health { header: header(), stale: true, encoder: 4, health: 0.75, ..Health::default() };
    assert_eq!(decode::<Health>(&encode(&health).unwrap()).unwrap(), health);
}

#[test]
fn both_byte_orders_are_read() {
    let bytes = b"\0\0\0\0\0\0\0\x03ab\0";
    assert_eq!(decode::<Text>(bytes).unwrap().data, "ab");
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let bytes = encode(&feature(&[1; 64])).unwrap();
    for len in 0..bytes.len() {
        assert!(decode::<Feature>(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(matches!(decode::<Text>(&[0, 7, 0, 0, 0]), Err(CdrError::Representation(7))));
    // A length of 4 GB.
    let lying = [&[0u8, 1, 0, 0][..], &[0xff; 8]].concat();
    assert!(matches!(decode::<Text>(&lying), Err(CdrError::Garbled(_))));
}

/// Times past what ROS 2 can say stop at the end; those that no clock gives are no time.
#[test]
fn times_are_converted_or_refused() {
    use crate::sample::Micros;
    let time = Micros(1_700_000_000_123_456);
    assert_eq!(Time::from(time).micros(), Some(time));
    assert_eq!(Time::from(Micros(u64::MAX)).sec, i32::MAX);
    assert_eq!(Time { sec: -1, nanosec: 0 }.micros(), None);
    assert_eq!(Time { sec: 1, nanosec: 1_000_000_000 }.micros(), None);
}

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use crate::sample::{EncoderVersion, Micros};

fn decision(time: u64) -> Message {
    Message::Decision(Decision {
        controller: "drive".into(),
        time: Micros(time),
        age: Duration::from_micros(7),
        values: [0.25, -1.0].into_iter().collect(),
        confidence: 0.5,
        label: Some("left".into()),
        alarm: None,
        safe: Some("unsure".into()),
    })
}

fn feature() -> Message {
    Message::Feature(Feature {
        time: Micros(1 << 40),
        age: Duration::from_micros(300),
        encoder: EncoderVersion(3),
        novelty: Some(1.5),
        health: None,
        blocks: vec![Block { len: 2, exponent: 5 }, Block { len: 1, exponent: 200 }],
        values: vec![-127, 0, 127],
    })
}

fn time_of(message: &Message) -> u64 {
    match message {
        Message::Feature(feature) => feature.time.0,
        Message::Decision(decision) => decision.time.0,
        Message::Stale(_) => 0,
    }
}

/// Sends each message on when it is told to, and fails when it is told to.
struct Scripted {
    steps: Receiver<Result<(), SendError>>,
    seen: Sender<u64>,
}

impl Transport for Scripted {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        let _ = self.seen.send(time_of(message));
        self.steps.recv().unwrap_or(Err(SendError::Left))
    }

    fn wants(&self, kind: Kind) -> bool {
        kind != Kind::Feature
    }
}

fn scripted() -> (Scripted, Sender<Result<(), SendError>>, Receiver<u64>) {
    let ((step, steps), (seen, sees)) = (channel(), channel());
    (Scripted { steps, seen }, step, sees)
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_transport_that_hangs_costs_its_oldest_messages_and_the_others_none() {
    let mut bus = Bus::new();
    let (hangs, step, sees) = scripted();
    bus.add("hangs", hangs, Terms::default()).expect("a thread");
    let reads = bus.subscribe("reads", 1000, Terms::default());
    assert!(bus.send(decision(0)));
    assert_eq!(sees.recv_timeout(PATIENCE), Ok(0));
    for n in 1..400 {
        bus.send(decision(n));
        bus.send_feature(|feature| feature.time = Micros(n));
    }
    let counts = bus.counts();
    let status = counts[0].status();
    // It holds one; what it does not want is not counted.
    assert_eq!((status.sent, status.dropped > 0, status.dropped < 399), (0, true, true));
    // It wakes up: what it gets are the newest.
    for _ in 0..(400 - status.dropped) {
        step.send(Ok(())).expect("it lives");
    }
    let got: Vec<u64> = (0..(399 - status.dropped)).map(|_| sees.recv_timeout(PATIENCE).expect("a message")).collect();
    assert_eq!(got, (status.dropped + 1..400).collect::<Vec<_>>());
    bus.finish();
    assert_eq!(reads.map(|message| time_of(&message)).collect::<Vec<_>>().len(), 799);
    assert_eq!(counts[0].status().sent, 400 - status.dropped);
}

#[test]
fn a_failure_is_counted_rested_from_and_got_over() {
    let mut bus = Bus::new();
    let (fails, step, sees) = scripted();
    bus.add("fails", fails, Terms { ends: true, ..Terms::default() }).expect("a thread");
    let counts = bus.counts();
    step.send(Err(SendError::Failed("no broker at here:1; start one".into()))).expect("it lives");
    bus.send(decision(1));
    assert_eq!(sees.recv_timeout(PATIENCE), Ok(1));
    let begun = std::time::Instant::now();
    // While it rests messages are dropped.
    step.send(Ok(())).expect("it lives");
    let mut n = 1;
    let next = loop {
        n += 1;
        bus.send(decision(n));
        match sees.recv_timeout(Duration::from_millis(5)) {
            Ok(seen) => break seen,
            Err(_) => assert!(begun.elapsed() < PATIENCE),
        }
    };
    assert!(begun.elapsed() >= Duration::from_millis(90) && next > 2);
    let status = counts[0].status();
    assert_eq!((status.failures, status.dropped), (1, next - 1));
    // Its reader leaves for good.
    step.send(Err(SendError::Left)).expect("it lives");
    assert!(!bus.is_left());
    while !bus.is_left() {
        bus.send(decision(n));
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(!bus.send(decision(n)));
    assert!(counts[0].status().problem.is_some_and(|problem| problem.contains("left")));
}

#[test]
fn a_subscription_has_the_newest_and_a_recording_waits_for_it() {
    let mut bus = Bus::new();
    let newest = bus.subscribe("newest", 2, Terms::default());
    let all = bus.subscribe("all", 2, Terms { waits: true, ends: false });
    bus.set_live(false);
    let reader = std::thread::spawn(move || all.map(|message| time_of(&message)).collect::<Vec<_>>());
    for n in 0..100 {
        bus.send(decision(n));
    }
    assert_eq!(newest.status().dropped, 98);
    assert!(matches!(newest.wait(Duration::ZERO), Taken::Message(message) if time_of(&message) == 98));
    drop(newest);
    assert!(bus.send(decision(100)), "who has left misses nothing");
    drop(bus);
    assert_eq!(reader.join().expect("no panic"), (0..=100).collect::<Vec<_>>());
}

#[test]
fn messages_are_filled_again_and_what_someone_keeps_is_left_alone() {
    let mut bus = Bus::new();
    let reads = bus.subscribe("reads", 1, Terms::default());
    let take = || match reads.wait(Duration::ZERO) {
        Taken::Message(message) => message,
        other => panic!("{other:?}"),
    };
    let send = |bus: &mut Bus, value: i8| {
        bus.send_feature(|feature| {
            feature.values.clear();
            feature.values.extend([value; 500]);
        })
    };
    let place = |message: &Message| match message {
        Message::Feature(feature) => (feature.values.as_ptr(), feature.values[0]),
        other => panic!("{other:?}"),
    };
    send(&mut bus, 1);
    let kept = take();
    let mut places = std::collections::HashSet::new();
    for n in 0..100 {
        send(&mut bus, n);
        let message = take();
        assert_eq!(place(&message).1, n);
        places.insert(place(&message).0);
    }
    assert_eq!(place(&kept).1, 1);
    assert!(places.len() <= 2 && !places.contains(&place(&kept).0), "{}", places.len());
}

#[test]
fn frames_are_read_back_and_anything_else_is_refused() {
    let messages = [feature(), decision(9), Message::Stale(Stale { age: Duration::from_millis(600) })];
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| frame::write(message, &mut bytes));
    let (mut from, mut buffer) = (&bytes[..], Vec::new());
    for message in &messages {
        assert_eq!(frame::read(&mut from, &mut buffer).expect("sound").as_ref(), Some(message));
    }
    assert!(matches!(frame::read(&mut from, &mut buffer), Ok(None)));
    // To the byte, as docs/bus.md has it.
    let mut stale = Vec::new();
    frame::write(&messages[2], &mut stale);
    assert_eq!(stale, [5, 0, 0, 0, 1, 2, 0xC0, 0xCF, 0x24]);

    let refused = |bytes: &[u8]| frame::read(&mut &bytes[..], &mut Vec::new()).expect_err("no frame").to_string();
    assert!(refused(&stale[..8]).contains("end of file"));
    assert!(refused(b"{\"t_us\":1}").contains("packed"));
    assert!(refused(&[5, 0, 0, 0, 2, 2, 0xC0, 0xCF, 0x24]).contains("version 2"));
    assert!(refused(&[2, 0, 0, 0, 1, 9]).contains("no message"));
}

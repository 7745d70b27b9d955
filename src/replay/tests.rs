use super::*;
use crate::sample::Seed;

fn with_replay(spec: &ReplaySpec, neighbours: usize, test: impl FnOnce(&mut Replay)) {
    with_beside(spec, neighbours, Beside::default(), test);
}

fn with_beside(spec: &ReplaySpec, neighbours: usize, beside: Beside, test: impl FnOnce(&mut Replay)) {
    let mut memory = vec![0u8; 1 << 20];
    let lens = Lens { frame: 8, descriptor: 2, beside, sealed: true };
    test(&mut Replay::take(spec, neighbours, 4, lens, &mut Arena::over(&mut memory)));
}

fn push_beside(replay: &mut Replay, n: u64, segment: u32, descriptor: [i8; 2], beside: &[i8]) {
    replay.push(&n.to_le_bytes(), n, segment, &descriptor, beside, Draws::new(Seed(1), n, 0));
}

fn push(replay: &mut Replay, n: u64, segment: u32, descriptor: [i8; 2]) {
    push_beside(replay, n, segment, descriptor, &[]);
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

#[test]
fn a_reservoir_keeps_every_part_of_the_stream_alike() {
    let spec = ReplaySpec { capacity: 1000, ..Default::default() };
    with_replay(&spec, 0, |replay| {
        (0..20_000).for_each(|n| push(replay, n, 0, [0; 2]));
        let mut tenths = [0; 10];
        (0..1000).for_each(|index| tenths[(number(replay.sample(Pick::Entry { index }, 0)) / 2000) as usize] += 1);
        assert!(tenths.iter().all(|&count| (60..140).contains(&count)), "{tenths:?}");
    });
}

#[test]
fn neighbours_lie_within_reach_and_never_cross_a_segment() {
    let spec = ReplaySpec { capacity: 200, fresh: 4, ..Default::default() };
    with_replay(&spec, 5, |replay| {
        for n in 0..2000 {
            push(replay, n, (n / 37) as u32, [0; 2]);
            let draws = Draws::new(Seed(2), n, 0);
            for pick in (0..8).filter_map(|i| replay.pick(i, 4, draws)) {
                let (a, b) = (number(replay.sample(pick, 0)), number(replay.sample(pick, 1)));
                assert!(a >= b && a - b <= 5 && a / 37 == b / 37, "{pick:?}: {a} {b}");
            }
        }
    });
}

#[test]
fn the_redundancy_policy_keeps_rare_samples_and_drops_repeated_ones() {
    let spec = ReplaySpec { capacity: 16, policy: ReplayPolicy::Redundancy, ..Default::default() };
    with_replay(&spec, 0, |replay| {
        for n in 0..4000u64 {
            // One sample in 250 is unlike all others.
            let rare = n % 250 == 7;
            let descriptor = if rare { [100 - (n / 40) as i8, 50] } else { [(n % 3) as i8, -50] };
            push(replay, n, 0, descriptor);
        }
        let rare = (0..16).filter(|&index| number(replay.sample(Pick::Entry { index }, 0)) % 250 == 7).count();
        assert!(rare >= 12, "{rare} of 16");
    });
}

#[test]
fn the_partner_of_a_pick_is_another_sample_that_the_second_sensor_calls_alike() {
    let spec = ReplaySpec { capacity: 256, fresh: 0, ..Default::default() };
    with_beside(&spec, 0, Beside { len: 2, share: 128 }, |replay| {
        // Eight motions in turn, far apart for the second sensor; neighbours in time are never alike.
        let motion = |n: u64| [((n % 8) as i32 * 30 - 100) as i8, if n % 8 < 4 { -50 } else { 50 }];
        (0..256).for_each(|n| push_beside(replay, n, 0, [0, 0], &motion(n)));
        let (mut alike, mut chosen) = (0, 0);
        for number in 0..2000 {
            let pick = replay.pick(number, 0, Draws::new(Seed(2), 1, 0)).unwrap();
            let of = |view| u64::from_le_bytes(replay.sample(pick, view).try_into().unwrap());
            if let Pick::Alike { index, partner } = pick {
                assert_ne!(index, partner);
                assert_ne!(of(0), of(1));
                chosen += 1;
                alike += u32::from(motion(of(0)) == motion(of(1)));
            }
        }
        assert!((900..1100).contains(&chosen), "{chosen}");
        assert!(alike * 100 >= chosen * 99, "{alike} of {chosen}");
    });
}

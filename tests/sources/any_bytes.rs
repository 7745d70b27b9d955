//! Damaged and random files: whatever they hold, they are read or refused, never a panic.

use crate::*;
use proptest::prelude::*;

/// Opens and reads a mutated file: whatever happens, it is a result.
fn read_through(uri: &str) {
    if let Ok(mut source) = try_open(uri) {
        let mut record = Record::default();
        for _ in 0..50 {
            if !matches!(source.read_next(&mut record), Ok(true)) {
                break;
            }
        }
    }
}

fn mutated(mut bytes: Vec<u8>, edits: &[(usize, u8)], cut: usize) -> Vec<u8> {
    for (at, value) in edits {
        let n = bytes.len();
        bytes[at % n] = *value;
    }
    bytes.truncate(bytes.len() - cut.min(bytes.len()));
    bytes
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_mutated_npy_file_is_read_or_refused(
        edits in prop::collection::vec((0usize..120, any::<u8>()), 0..4), cut in 0usize..40, image: bool,
    ) {
        let dir = TempDir::new().unwrap();
        let good = if image { npy("|u1", "False", "(2, 3, 4)", &[7; 24]) }
            else { npy("<f4", "False", "(8, 2)", &floats(&[1.5; 16])) };
        let path = put(&dir, "x.npy", mutated(good, &edits, cut));
        read_through(&format!("npy:{path}"));
        read_through(&format!("npy:{path}?window=2&nan=skip"));
    }

    #[test]
    fn a_mutated_segments_file_is_read_or_refused(
        edits in prop::collection::vec((0usize..60, prop::sample::select(&b"0123456789,.-e\nxN\""[..])), 0..5), cut in 0usize..40,
    ) {
        let dir = TempDir::new().unwrap();
        let x = put(&dir, "x.npy", npy("<f4", "False", "(8, 2)", &floats(&[1.5; 16])));
        let table = mutated(b"start,length,who,label\n0,4,1,2\n4,4,2,1\n".to_vec(), &edits, cut);
        let s = put(&dir, "s.csv", table);
        read_through(&format!("npy:{x}?window=2&segments={s}&group=who&label=label&labels=class"));
        read_through(&format!("csv:{s}?window=1&nan=skip&label=label&smooth=2"));
        read_through(&format!("csv:{s}?window=1&group=who&order=by-label"));
    }

    #[test]
    fn a_mutated_frame_table_is_read_or_refused(
        edits in prop::collection::vec((0usize..60, prop::sample::select(&b"0123456789,.-e\nxN\""[..])), 0..5), cut in 0usize..40,
    ) {
        let dir = TempDir::new().unwrap();
        let frame = jpeg(16, 8, 50);
        let f = put(&dir, "f.jpegs", [&frame[..], &frame].concat());
        let n = frame.len();
        let table = format!("t_ms,run,offset,length,v\n0,0,0,{n},1\n50,0,{n},{n},2\n");
        let t = put(&dir, "t.csv", mutated(table.into_bytes(), &edits, cut));
        read_through(&format!("mjpeg:{f},{t}?label=v&smooth=3"));
    }

    #[test]
    fn a_mutated_table_of_clips_is_read_or_refused(
        edits in prop::collection::vec((0usize..60, prop::sample::select(&b"0123456789,.-e\nxN\""[..])), 0..5), cut in 0usize..40,
    ) {
        let dir = TempDir::new().unwrap();
        let raw = put(&dir, "a.raw", [7; 40]);
        let table = mutated(b"start_sample,n_samples,who,label\n0,4,1,2\n4,4,2,1\n".to_vec(), &edits, cut);
        let c = put(&dir, "c.csv", table);
        read_through(&format!("pcm:{raw},{c}?rate=8000&label=label&labels=class&group=who"));
        read_through(&format!("pcm:{raw},{c}?rate=8000&window=2"));
    }

    #[test]
    fn a_mutated_wav_file_is_read_or_refused(
        edits in prop::collection::vec((0usize..60, any::<u8>()), 0..5), cut in 0usize..80,
        channels in 1u16..3, bits in prop::sample::select(&[8u16, 16, 24, 32][..]),
    ) {
        let dir = TempDir::new().unwrap();
        let good = std::fs::read(crate::sound::wav(&dir, "a.wav", 8000, channels, bits, &[5; 24])).unwrap();
        let path = put(&dir, "b.wav", mutated(good, &edits, cut));
        read_through(&format!("wav:{path}"));
        read_through(&format!("wav:{path}?window=2&stride=1"));
    }

    #[test]
    fn a_mutated_motion_jpeg_is_read_or_refused(
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 0..8), cut in 0usize..2000, head: bool,
    ) {
        let frame = jpeg(40, 24, 80);
        let edits: Vec<_> = edits.iter().map(|(at, v)| (if head { at % 640 } else { *at }, *v)).collect();
        let bytes = mutated([&frame[..], &frame, &frame].concat(), &edits, cut);
        let mut live = pipe(&bytes, "");
        let mut record = Record::default();
        while matches!(live.read_next(&mut record), Ok(true)) {}
        let dir = TempDir::new().unwrap();
        read_through(&format!("mjpeg:{}", put(&dir, "f.jpegs", &bytes)));
        put(&dir, "a.png", &bytes);
        read_through(&format!("images:{}", dir.path().display()));
    }

    #[test]
    fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "a.png", &bytes);
        for scheme in ["npy", "csv", "mjpeg"] {
            read_through(&format!("{scheme}:{path}"));
        }
        read_through(&format!("images:{}", dir.path().display()));
        read_through(&format!("pipe:{path}?format=gray8&width=7&height=5"));
    }
}

use super::*;
use crate::image::encode_spec;
use crate::selftest;
use crate::state::Hash;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn framed(messages: &[ToHost]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        let sent: Result<(), ()> = link::send(message, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!(sent, Ok(()));
    }
    bytes
}

fn hello(spec: &[u8], samples: u64) -> ToHost<'_> {
    ToHost::Hello(Hello {
        protocol: link::PROTOCOL,
        firmware: "test 1.0",
        board: "bench",
        kernels: "reference",
        spec: Bytes(spec),
        seed: 20,
        expected_samples: Some(160),
        samples,
        memory: link::Memory::default(),
    })
}

fn spec() -> Vec<u8> {
    let mut buffer = [0; 512];
    encode_spec(&selftest::spec(), &mut buffer).expect("a small model").to_vec()
}

fn image(number: u64, pixels: &[u8]) -> ToHost<'_> {
    let shape = Shape::Image { height: 1, width: 3, channels: 1 };
    ToHost::Sample(RawSample { number, time: 1000 * number, segment: 1, shape, values: Bytes(pixels) })
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.link").display().to_string();
    std::fs::write(&path, bytes).expect("a writable folder");
    (folder, path)
}

#[test]
fn a_recording_plays_what_the_board_took_in_and_tells_what_it_said() {
    let hash = StateHash { samples: 5, finished: false, hash: Hash([7; 32]) };
    let spec = spec();
    let messages = [hello(&spec, 2), image(2, &[1, 2, 3]), image(4, &[4, 5, 6]), ToHost::Hash(hash)];
    let mut bytes = framed(&messages);
    // A frame that the cable spoilt, at the end.
    bytes.extend([9, 1, 2, 3, 0]);
    let (_folder, path) = file(&bytes);
    let mut source = LinkFile::open(&path).expect("a sound recording");
    let device = source.device().expect("a board").clone();
    assert_eq!((device.spec, device.seed, device.expected_samples), (selftest::spec(), Seed(20), Some(160)));
    assert_eq!((device.first, device.missing, device.hashes), (2, 1, vec![hash]));
    assert_eq!((source.len_hint(), source.skipped()), (Some(2), 1));
    for _ in 0..2 {
        let mut record = Record::default();
        let mut times = Vec::new();
        while source.read_next(&mut record).expect("a sound recording") {
            times.push((record.time.0, record.segment));
        }
        assert_eq!(times, [(2000, 1), (4000, 1)]);
        let crate::source::Data::Image { pixels, height: 1, width: 3, channels: 1 } = record.data else {
            panic!("an image")
        };
        assert_eq!(pixels, [4, 5, 6]);
        source.rewind().expect("a file");
    }
}

#[test]
fn readings_are_signed_and_little_endian() {
    let shape = Shape::Window { length: 2, channels: 1 };
    let mut record = Record::default();
    let raw = RawSample { number: 0, time: 0, segment: 0, shape, values: Bytes(&[0xFE, 0xFF, 0x00, 0x80]) };
    assert!(fill(&mut record, &raw));
    assert_eq!(record.data, crate::source::Data::Window { readings: vec![-2, -32768], length: 2, channels: 1 });
    assert!(!fill(&mut record, &RawSample { shape: Shape::Window { length: u32::MAX, channels: u32::MAX }, ..raw }));
}

#[test]
fn a_recording_that_cannot_be_used_says_why() {
    let spec = spec();
    let cases = [
        (vec![], "no Hello"),
        (framed(&[image(0, &[1, 2, 3])]), "no Hello"),
        (framed(&[hello(&spec, 0)]), "no sample"),
        (framed(&[hello(&[9, 9], 0)]), "model cannot be read"),
        (framed(&[hello(&spec, 0), image(0, &[1, 2, 3]), hello(&spec, 0)]), "started anew after 1 samples"),
        (framed(&[hello(&spec, 0), image(3, &[1, 2, 3]), image(3, &[1, 2, 3])]), "sample 3 comes after sample 3"),
    ];
    for (bytes, part) in cases {
        let (_folder, path) = file(&bytes);
        let problem = LinkFile::open(&path).err().expect(part).to_string();
        assert!(problem.contains(part) && problem.contains("a.link") && problem.contains("what to do"), "{problem}");
    }
}

/// Two ends of a line whose reads give up soon.
fn line() -> (UnixStream, UnixStream) {
    let (host, board) = UnixStream::pair().expect("sockets");
    host.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    (host, board)
}

#[test]
fn a_board_is_asked_who_it_is_and_its_samples_are_taken_as_they_come() {
    let (host, mut board) = line();
    let spec = spec();
    // What a board that was running says before it hears the question.
    board.write_all(&[5, 5, 0]).expect("a socket");
    board
        .write_all(&framed(&[ToHost::Ready, hello(&spec, 7), image(7, &[1, 2, 3]), image(8, &[1, 2])]))
        .expect("a socket");
    let attached = Board::attach(host, "bench").expect("a board");
    assert_eq!((attached.device().board.as_str(), attached.device().first, attached.dropped()), ("bench", 7, 1));
    let mut live = Live::new(attached).expect("a socket");
    let mut record = Record::default();
    assert!(live.read_next(&mut record).expect("a sample"));
    assert_eq!(record.time, Micros(7000));
    let problem = live.read_next(&mut record).expect_err("nothing more comes").to_string();
    assert!(problem.contains("says nothing any more"), "{problem}");
    // The sample with two values for three pixels, and the noise at the start.
    assert_eq!(live.skipped(), 2);
    assert!(matches!(live.rewind(), Err(SourceError::CannotRewind(_))));
    drop(live);
    let mut asked = Vec::new();
    board.read_to_end(&mut asked).expect("a socket");
    let mut decoder = Decoder::new([0; 512]);
    let mut heard = Vec::new();
    for byte in asked {
        if decoder.push(byte) {
            heard.push(format!("{:?}", decoder.to_device().expect("a message")));
        }
    }
    assert_eq!(heard, ["Hello", "Record(true)", "Record(false)"]);
}

#[test]
fn a_port_without_a_board_is_told_with_what_to_do() {
    let (host, mut board) = line();
    board.write_all(b"AT\r\nOK\r\n\0").expect("a socket");
    let problem = Board::attach(host, "/dev/ttyX").err().expect("no board").to_string();
    for part in ["/dev/ttyX", "no board says Hello", "1 damaged frames", "nestling flash"] {
        assert!(problem.contains(part), "{problem}");
    }
    let (host, board) = line();
    drop(board);
    assert!(Board::attach(host, "x").is_err());
}

proptest::proptest! {
    #[test]
    fn any_file_is_played_or_refused(bytes: Vec<u8>, sound: bool) {
        let spec = spec();
        let head = if sound { framed(&[hello(&spec, 0), image(0, &[1, 2, 3])]) } else { Vec::new() };
        let (_folder, path) = file(&[head, bytes].concat());
        if let Ok(mut source) = LinkFile::open(&path) {
            let mut record = Record::default();
            while source.read_next(&mut record).expect("a sound recording") {}
        }
    }
}

//! Sound: raw samples with a table of clips, WAV files of many kinds, and windows of what comes over a pipe.

use crate::*;
use nestling::source::sound_pipe::SoundPipe;

fn samples(values: impl IntoIterator<Item = i16>) -> Vec<u8> {
    values.into_iter().flat_map(i16::to_le_bytes).collect()
}

fn readings(record: &Record) -> &[i16] {
    match &record.data {
        Data::Window { readings, length, channels: 1 } if *length == readings.len() => readings,
        other => panic!("{other:?}"),
    }
}

/// A WAV file of whole numbers, or of floats where `bits` is 32 and `float`.
pub fn wav(dir: &TempDir, name: &str, rate: u32, channels: u16, bits: u16, values: &[i32]) -> String {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec =
        hound::WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    values.iter().for_each(|v| writer.write_sample(*v).unwrap());
    writer.finalize().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn clips_of_raw_samples_are_those_of_their_table() {
    let dir = TempDir::new().unwrap();
    let raw = put(&dir, "a.raw", samples(0..100));
    let table = put(&dir, "c.csv", "i,start_sample,n_samples,word,who\n0,0,10,yes,7\n1,90,10,no,7\n2,20,3,yes,9\n");
    let mut source = try_open(&format!("pcm:{raw},{table}?rate=1000&label=word&group=who")).unwrap();
    assert_eq!((source.sound_rate(), source.class_names()), (Some(1000), &["no".to_owned(), "yes".to_owned()][..]));
    let records = all(&mut *source);
    let about: Vec<_> = records.iter().map(|r| (r.segment, r.group, r.time.0)).collect();
    assert_eq!(about, [(0, 7, 0), (1, 7, 90_000), (2, 9, 20_000)]);
    assert_eq!((readings(&records[1])[0], readings(&records[2])), (90, &[20, 21, 22][..]));
    assert_eq!(records[1].label, Some(Label::Class(0)));
    let windows = all(&mut *try_open(&format!("pcm:{raw},{table}?rate=1000&window=4&stride=3")).unwrap());
    let starts: Vec<_> = windows.iter().map(|r| (r.segment, readings(r)[0])).collect();
    assert_eq!(starts, [(0, 0), (0, 3), (0, 6), (1, 90), (1, 93), (1, 96)]);
    assert_eq!(all(&mut *try_open(&format!("pcm:{raw}?rate=1000&window=40&stride=20")).unwrap()).len(), 4);
}

#[test]
fn raw_samples_that_do_not_fit_their_table_are_refused() {
    let dir = TempDir::new().unwrap();
    let raw = put(&dir, "a.raw", samples(0..100));
    let odd = put(&dir, "odd.raw", [1, 2, 3]);
    let with = |table: &str| format!("pcm:{raw},{}?rate=8000", put(&dir, "c.csv", table));
    says(&format!("pcm:{odd}?rate=8000"), &["3 bytes are no samples", "16-bit"]);
    says(&with("start_sample,n_samples\n0,10\n95,6\n"), &["line 3, column 'n_samples'", "beyond the 100 samples"]);
    says(&with("start_sample,n_samples\n5,0\n"), &["line 2", "without a sample"]);
    says(&with("start,n_samples\n5,1\n"), &["no column 'start_sample'"]);
    says(&format!("pcm:{raw}?rate=8000&window=101"), &["no window of 101 rows", "at most 100"]);
}

#[test]
fn wav_files_of_every_width_become_16_bits_and_channels_their_mean() {
    let dir = TempDir::new().unwrap();
    let eight = wav(&dir, "8.wav", 8000, 1, 8, &[-128, 0, 127]);
    let sixteen = wav(&dir, "16.wav", 8000, 1, 16, &[-32768, 5, 32767]);
    let stereo = wav(&dir, "2.wav", 8000, 2, 16, &[10, 20, -4, 0, 7, 7]);
    let wide = wav(&dir, "24.wav", 8000, 1, 24, &[-(1 << 23), 256 * 9, (1 << 23) - 1]);
    let float = dir.path().join("f.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(&float, spec).unwrap();
    [-1.0f32, 0.25, 2.0].iter().for_each(|v| writer.write_sample(*v).unwrap());
    writer.finalize().unwrap();
    let uri = format!("wav:{eight},{sixteen},{stereo},{wide},{}", float.display());
    let mut source = try_open(&uri).unwrap();
    let records = all(&mut *source);
    let all_readings: Vec<_> = records.iter().map(|r| readings(r).to_vec()).collect();
    let wanted = [[-32768, 0, 32512], [-32768, 5, 32767], [15, -2, 7], [-32768, 9, 32767], [-32768, 8192, 32767]];
    assert_eq!(all_readings, wanted);
    source.rewind().unwrap();
    assert_eq!(all(&mut *source), records);
}

#[test]
fn classes_of_wav_files_are_their_folders_or_parts_of_their_names() {
    let dir = TempDir::new().unwrap();
    for (name, first) in [("owl/1_ann_3.wav", 1), ("bat/2_zoe_1.wav", 2), ("bat/1_zoe_0.wav", 3)] {
        wav(&dir, name, 16_000, 1, 16, &[first, 0, 0]);
    }
    let root = dir.path().display();
    let mut source = try_open(&format!("wav:{root}")).unwrap();
    assert_eq!((source.class_names(), source.sound_rate()), (&["bat".to_owned(), "owl".to_owned()][..], Some(16_000)));
    let records = all(&mut *source);
    let of = |r: &Record| (readings(r)[0], r.label, r.group);
    assert_eq!(
        records.iter().map(of).collect::<Vec<_>>(),
        [(3, Some(Label::Class(0)), 0), (2, Some(Label::Class(0)), 1), (1, Some(Label::Class(1)), 2)]
    );
    let records = all(&mut *try_open(&format!("wav:{root}?name=digit_who_take&label=who&group=digit")).unwrap());
    assert_eq!(
        records.iter().map(of).collect::<Vec<_>>(),
        [(3, Some(Label::Class(1)), 1), (2, Some(Label::Class(1)), 2), (1, Some(Label::Class(0)), 1)]
    );
    says(&format!("wav:{root}?name=a_b&label=a"), &["'1_zoe_0' has 3 parts, and name=a_b has 2"]);
    wav(&dir, "owl/4_ann_4.wav", 8000, 1, 16, &[1]);
    says(&format!("wav:{root}"), &["4_ann_4.wav", "8000 samples a second", "16000"]);
}

#[test]
fn wav_files_that_lie_are_refused() {
    let dir = TempDir::new().unwrap();
    let good = wav(&dir, "a.wav", 8000, 1, 16, &[1; 100]);
    let bytes = std::fs::read(&good).unwrap();
    says(&format!("wav:{}", put(&dir, "cut.wav", &bytes[..100])), &["200 bytes of samples", "has 100 in all"]);
    says(&format!("wav:{}", put(&dir, "no.wav", b"RIFF, but no WAV file at all")), &["no.wav", "ffmpeg"]);
    let empty = wav(&dir, "e.wav", 8000, 1, 16, &[]);
    says(&format!("wav:{empty}"), &["no sound in it"]);
    assert!(refusal(&format!("wav:{good}.gone")).contains("a.wav.gone"));
    let nothing = TempDir::new().unwrap();
    says(&format!("wav:{}", nothing.path().display()), &["no sound", ".wav"]);
}

/// Gives at most three bytes at a time.
struct Slow(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let few = out.len().min(3);
        self.0.read(&mut out[..few])
    }
}

#[test]
fn windows_of_a_pipe_overlap_or_leave_gaps_as_their_stride_says() {
    let windows = |queries: &str| {
        let uri: Uri = format!("pipe:-?format=s16le&rate=100&{queries}").parse().unwrap();
        let input = Slow(std::io::Cursor::new(samples(0..50)));
        all(&mut SoundPipe::new(input, &uri).unwrap())
    };
    for (queries, starts) in [
        ("window=10&stride=15", vec![0, 15, 30]),
        ("window=20&stride=7", vec![0, 7, 14, 21, 28]),
        ("window=50", vec![0]),
    ] {
        let records = windows(queries);
        assert_eq!(records.iter().map(|r| readings(r)[0]).collect::<Vec<_>>(), starts, "{queries}");
        for record in &records {
            let first = readings(record)[0];
            assert_eq!(record.time.0, first as u64 * 10_000);
            assert!(readings(record).iter().zip(first..).all(|(got, wanted)| *got == wanted));
        }
    }
    let uri: Uri = "pipe:-?format=s16le&rate=8000".parse().unwrap();
    let mut short = SoundPipe::new(&[0u8; 100][..], &uri).unwrap();
    let message = short.read_next(&mut Record::default()).unwrap_err().to_string();
    assert!(message.contains("before a window of 8000 samples"), "{message}");
}

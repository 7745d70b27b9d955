//! Token sources: bytes, lines, event columns, the simulated log.

use crate::*;
use nestling::source::sim::{EVENTS, EventLog, TASKS};
use nestling::source::tokens::{BYTES, MAX_CODES, PAD, UNKNOWN};
use proptest::prelude::*;

fn codes(record: &Record) -> &[i16] {
    match &record.data {
        Data::Window { readings, channels: 1, .. } => readings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_of_files_are_codes_and_files_or_folders_their_classes() {
    let dir = TempDir::new().unwrap();
    for folder in ["zulu", "arab"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let a = put(&dir, "zulu/a.txt", [&b"abcdefgh\xff"[..], &[b'x'; 700]].concat());
    let b = put(&dir, "arab/b.txt", "12345678");
    let records = all(&mut *try_open(&format!("tokens:{a},{b}?window=4&stride=2&label=folder")).unwrap());
    assert_eq!(codes(&records[0]), [97, 98, 99, 100]);
    assert_eq!(codes(&records[3]), [103, 104, 255, 120]);
    let last = records.last().unwrap();
    assert_eq!((codes(last), last.segment, last.group), (&[53, 54, 55, 56][..], 1, 1));
    assert_eq!((records[0].label, last.label), (Some(Label::Class(1)), Some(Label::Class(0))));
    // Where files are classes, a probe is tested on other pages of the same file, and no window lies on two pages.
    let mut source = try_open(&format!("tokens:{a},{b}?window=4&stride=2&label=file")).unwrap();
    assert_eq!(source.class_names(), ["a", "b"]);
    let pages: Vec<_> = all(&mut *source).iter().map(|r| (r.segment, r.group)).collect();
    let last = pages.last().unwrap();
    assert_eq!((pages[0], pages[126], pages[127], last.0), ((0, 0), (0, 0), (0, 1), 1));
    assert!(pages.iter().all(|page| page.0 == 1 || page.1 < last.1));
}

#[test]
fn lines_are_cut_or_filled() {
    let dir = TempDir::new().unwrap();
    let log = put(&dir, "l.log", "ok\r\n\nmotor 3 is hot\nlast");
    let records = all(&mut *try_open(&format!("tokens:{log}?by=line&window=5")).unwrap());
    let lines: Vec<_> = records.iter().map(codes).collect();
    assert_eq!(lines, [&[111, 107, PAD, PAD, PAD][..], &[109, 111, 116, 111, 114], &[108, 97, 115, 116, PAD]]);
    assert!(records.iter().all(|r| r.segment == 0 && r.label.is_none()));
    let table = put(&dir, "t.csv", "t_ms,text,level\n0,hello,info\n10,,info\n20,\"a, b\",bad\n");
    let records = all(&mut *try_open(&format!("tokens:{table}?column=text&by=line&window=4&label=level")).unwrap());
    assert_eq!(records.iter().map(codes).collect::<Vec<_>>(), [&[104, 101, 108, 108][..], &[97, 44, 32, 98]]);
    assert_eq!((records[1].time.0, records[1].label), (20_000, Some(Label::Class(0))));
}

#[test]
fn events_are_numbered_as_they_appear_or_as_a_vocabulary_says() {
    let dir = TempDir::new().unwrap();
    let a = put(&dir, "a.csv", "run,event,mood\n0,go,up\n0,stop,up\n0,go,up\n0,turn,down\n1,go,down\n1,honk,down\n");
    let b = put(&dir, "b.csv", "event\nhonk\nturn\ngo\n");
    let play = |uri: String| all(&mut *try_open(&uri).unwrap());
    let records = play(format!("tokens:{a}?column=event&window=2&stride=1&label=mood&group=run"));
    let of = |records: &[Record]| records.iter().flat_map(|r| codes(r).to_vec()).collect::<Vec<_>>();
    assert_eq!(of(&records), [1, 2, 2, 1, 1, 3, 1, 4]);
    assert_eq!((records[3].segment, records[3].group, records[3].label), (1, 1, Some(Label::Class(0))));
    let records = play(format!("tokens:{a}?column=event&window=2&stride=2&vocabulary={b}"));
    assert_eq!(of(&records), [3, UNKNOWN, 3, 2, 3, 1]);
    let gap = put(&dir, "g.csv", "event,n\ngo,1\n,2\ngo,3\ngo,4\n");
    says(&format!("tokens:{gap}?column=event&window=2"), &["line 3, column 'event'", "nan=skip"]);
    let mut source = try_open(&format!("tokens:{gap}?column=event&window=2&stride=2&nan=skip")).unwrap();
    assert_eq!((all(&mut *source).len(), source.skipped()), (1, 1));
    let many: String = (0..600).map(|i| format!("e{i}\n")).collect();
    let many = put(&dir, "m.csv", format!("event\n{many}"));
    let all = of(&play(format!("tokens:{many}?column=event&window=600")));
    assert_eq!((all[509], all[510], all.iter().max()), (510, UNKNOWN, Some(&(MAX_CODES as i16 - 1))));
}

#[test]
fn what_cannot_be_tokens_is_refused_with_the_remedy() {
    let dir = TempDir::new().unwrap();
    let (a, empty) = (put(&dir, "a.csv", "event\ngo\n"), put(&dir, "e.txt", ""));
    says(&format!("tokens:{a}?label=mood"), &["label=mood", "label=file or label=folder"]);
    says(&format!("tokens:{a}?vocabulary={a}"), &["column=NAME"]);
    says(&format!("tokens:{a},{a}?column=event"), &["?vocabulary=FILE.csv"]);
    says(&format!("tokens:{a}?column=what"), &["no column 'what'"]);
    says(&format!("tokens:{a}?column=event&by=line&vocabulary={a}"), &["texts of bytes"]);
    says(&format!("tokens:{empty}"), &["an empty file"]);
    says(&format!("tokens:{}?by=line", put(&dir, "n.txt", "\n\r\n\n")), &["no line that is not empty"]);
    says(&format!("tokens:{a}?window=64"), &["no window of 64 rows"]);
    assert!(refusal("tokens:/gone").contains("/gone"));
}

#[test]
fn a_log_written_to_a_file_is_the_simulated_log() {
    let dir = TempDir::new().unwrap();
    let mut text = Vec::new();
    EventLog::new(4).write_csv(5000, &mut text).unwrap();
    let file = put(&dir, "log.csv", text);
    let vocabulary = put(&dir, "v.csv", format!("event\n{}\n", EVENTS.join("\n")));
    let uri = format!("tokens:{file}?column=event&vocabulary={vocabulary}&label=task&group=run&window=64&stride=32");
    let mut source = try_open(&uri).unwrap();
    let names = source.class_names().to_vec();
    let written = all(&mut *source);
    let sim = all(&mut *try_open(&format!("sim:log?seed=4&samples={}&window=64&stride=32", written.len())).unwrap());
    for (w, s) in written.iter().zip(&sim) {
        assert_eq!((&w.data, w.group), (&s.data, s.group));
        assert!(w.time.0.abs_diff(s.time.0) < 1000);
        let (Some(Label::Class(a)), Some(Label::Class(b))) = (w.label, s.label) else { panic!("a label is missing") };
        // A tie between two tasks may be told either way.
        assert!(names[a as usize] == TASKS[b as usize] || w.data == s.data);
    }
    says("sim:log?width=3", &["width, height, sensor"]);
    says("sim:rover?form=text", &["write sim:log"]);
    says("sim:log?window=1", &["window=2 to 512"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_file_gives_codes_within_the_vocabulary_or_is_refused(
        bytes in prop::collection::vec(prop::sample::select(&b"event,a\n\r\"b \xff0"[..]), 0..300),
        window in 1usize..20, stride in 1usize..20,
    ) {
        let dir = TempDir::new().unwrap();
        let head = put(&dir, "h.csv", [&b"event,kind\n"[..], &bytes].concat());
        let bare = put(&dir, "b", &bytes);
        for (uri, bound) in [
            (format!("tokens:{bare}?window={window}&stride={stride}"), BYTES),
            (format!("tokens:{bare},{head}?by=line&window={window}&label=file"), PAD + 1),
            (format!("tokens:{head}?column=event&window={window}&stride={stride}&nan=skip&label=kind"), MAX_CODES as i16),
            (format!("tokens:{head}?column=event&by=line&window={window}&order=by-label&label=kind"), PAD + 1),
        ] {
            let Ok(mut source) = try_open(&uri) else { continue };
            let mut record = Record::default();
            while source.read_next(&mut record).unwrap() {
                prop_assert_eq!(codes(&record).len(), window);
                prop_assert!(codes(&record).iter().all(|code| (0..bound).contains(code)));
            }
        }
    }
}

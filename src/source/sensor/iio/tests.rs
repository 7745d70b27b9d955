//! IIO on a made-up tree of the kernel's files.

use super::*;

/// A tree with an IMU as device 0 and an ADC as device 1.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Tree(tempfile::tempdir().expect("a folder"));
        for (path, content) in [
            ("sys/iio:device0/name", "mpu6050\n"),
            ("sys/iio:device0/in_accel_scale", "0.001197101\n"),
            ("sys/iio:device0/in_anglvel_scale", "0.000266462\n"),
            ("sys/iio:device0/in_temp_raw", "-1000\n"),
            ("sys/iio:device0/sampling_frequency", "50\n"),
            ("sys/iio:device0/sampling_frequency_available", "10 20 50 100 200 500\n"),
            ("sys/iio:device0/buffer/enable", "0\n"),
            ("sys/iio:device0/buffer/length", "2\n"),
            ("sys/iio:device0/trigger/current_trigger", "\n"),
            ("sys/iio:device0/scan_elements/in_timestamp_en", "0\n"),
            ("sys/iio:device0/scan_elements/in_timestamp_index", "7\n"),
            ("sys/iio:device0/scan_elements/in_timestamp_type", "le:s64/64>>0\n"),
            ("sys/iio:device0/scan_elements/in_temp_en", "1\n"),
            ("sys/iio:device0/scan_elements/in_temp_index", "3\n"),
            ("sys/iio:device0/scan_elements/in_temp_type", "be:s16/16>>0\n"),
            ("sys/trigger0/name", "an-other\n"),
            ("sys/trigger1/name", "mpu6050-dev0\n"),
            ("sys/iio:device1/name", "ads1115\n"),
            ("sys/iio:device1/in_voltage0_raw", "8000\n"),
            ("sys/iio:device1/in_voltage0_scale", "0.125\n"),
            ("sys/iio:device1/in_voltage1_raw", "-16\n"),
            ("sys/iio:device1/in_voltage_scale", "2\n"),
            ("sys/iio:device1/in_voltage1_offset", "6\n"),
            ("dev/iio:device0", ""),
        ] {
            tree.write(path, content.as_bytes());
        }
        for (kind, first) in [("accel", 0), ("anglvel", 4)] {
            for (place, axis) in ["x", "y", "z"].into_iter().enumerate() {
                tree.write(&format!("sys/iio:device0/in_{kind}_{axis}_raw"), b"8192\n");
                let element = format!("sys/iio:device0/scan_elements/in_{kind}_{axis}");
                tree.write(&format!("{element}_en"), b"0\n");
                tree.write(&format!("{element}_index"), format!("{}\n", first + place).as_bytes());
                tree.write(&format!("{element}_type"), b"be:s16/16>>0\n");
            }
        }
        tree
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).expect("a file")
    }

    fn open(&self, uri: &str) -> Result<Iio, String> {
        let roots = Roots { devices: self.0.path().join("sys"), nodes: self.0.path().join("dev") };
        let uri: Uri = uri.parse().map_err(|e: SourceError| e.to_string())?;
        Iio::open(&roots, &uri).map_err(|e| e.to_string())
    }
}

fn look(iio: &mut Iio) -> Result<Burst, String> {
    let mut burst = Burst::default();
    iio.look(&mut burst).map(|()| burst).map_err(|e| e.to_string())
}

/// What the kernel puts into the buffer for a reading: big-endian numbers, then the time.
fn scan(numbers: [i16; 6], time: i64) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.resize(16, 0);
    bytes.extend(time.to_le_bytes());
    bytes
}

#[test]
fn by_its_files_an_imu_gives_the_units_of_every_imu() {
    let mut iio = Tree::new().open("iio:mpu6050?fifo=off&rate=100").expect("opened");
    // The scales are those of ±4 g and ±500 °/s: the part's own numbers, but for the digits of the scales.
    let readings = look(&mut iio).expect("a reading").readings;
    assert_eq!((readings.len(), iio.timing().every), (6, Duration::from_millis(10)));
    assert!(readings[..3].iter().all(|r| (8185..=8199).contains(r)), "{readings:?}");
    assert!(readings[3..].iter().all(|r| (8180..=8200).contains(r)), "{readings:?}");
    assert!(
        iio.about().contains("accel_x, accel_y, accel_z, anglvel_x, anglvel_y, anglvel_z by a timer"),
        "{}",
        iio.about()
    );
}

#[test]
fn scale_and_offset_are_the_channels_own_before_those_of_its_kind() {
    let tree = Tree::new();
    let mut iio = tree.open("iio:1").expect("opened");
    // 8000 of 0.125 mV, and (-16 + 6) of 2 mV, in steps of 125 µV.
    assert_eq!(look(&mut iio).expect("a reading").readings, [8000, -160]);
    tree.write("sys/iio:device1/in_voltage1_raw", b"0\n");
    assert_eq!(look(&mut iio).expect("a reading").readings, [8000, 96]);
    let mut iio = tree.open("iio:ads1115?channels=voltage1").expect("opened");
    assert_eq!(look(&mut iio).expect("a reading").readings, [96]);
    tree.write("sys/iio:device1/in_voltage1_raw", b"high\n");
    assert!(look(&mut iio).expect_err("refused").contains("'high' is no number"));
}

#[test]
fn the_buffer_is_set_up_read_and_turned_off_again() {
    let tree = Tree::new();
    let mut bytes = scan([1, 2, 3, 4, 5, 6], 1_000_000_000);
    bytes.extend(scan([-1, -2, -3, -4, -5, -6], 1_010_000_000));
    // A third has not come wholly yet.
    bytes.extend([0; 23]);
    tree.write("dev/iio:device0", &bytes);
    let mut iio = tree.open("iio:mpu6050?rate=100").expect("opened");
    let file = |name: &str| tree.read(&format!("sys/iio:device0/{name}"));
    assert_eq!((file("sampling_frequency"), file("trigger/current_trigger")), ("100".into(), "mpu6050-dev0".into()));
    assert_eq!((file("scan_elements/in_temp_en"), file("scan_elements/in_accel_z_en")), ("0".into(), "1".into()));
    assert_eq!((file("buffer/enable"), file("buffer/length")), ("1".into(), "512".into()));
    assert_eq!(iio.timing().period, Duration::from_millis(10));

    let unit = |c: usize, n: i16| iio.channels[c].reading(f64::from(n));
    let expected: Vec<i16> = [1, -1]
        .into_iter()
        .flat_map(|s| (0..6).map(move |c| (c, s)))
        .map(|(c, s)| unit(c, s * (c as i16 + 1)))
        .collect();
    let burst = look(&mut iio).expect("readings");
    assert_eq!((burst.readings, burst.ages), (expected, vec![10_000, 0]));
    assert!(look(&mut iio).expect("nothing new").readings.is_empty());
    drop(iio);
    assert_eq!(tree.read("sys/iio:device0/buffer/enable"), "0");
}

#[test]
fn without_a_trigger_it_is_read_by_a_timer_or_refused() {
    let tree = Tree::new();
    for trigger in ["sys/trigger0/name", "sys/trigger1/name"] {
        fs::remove_file(tree.0.path().join(trigger)).expect("removed");
    }
    assert!(tree.open("iio:mpu6050?fifo=on").err().expect("refused").contains("iio-trig-hrtimer"));
    assert!(tree.open("iio:mpu6050").expect("opened").about().contains("by a timer"));
    assert!(tree.open("iio:ads1115?fifo=on").err().expect("refused").contains("no buffer"));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let tree = Tree::new();
    let refused = |uri: &str| tree.open(uri).err().expect("refused");
    assert!(refused("iio:bmi160").contains("there is 0 (mpu6050), 1 (ads1115)"));
    assert!(refused("iio:7").contains("no IIO device is called '7'"));
    let problem = refused("iio:ads1115?channels=voltage0,voltage9");
    assert!(problem.contains("'voltage9'") && problem.contains("voltage0, voltage1"), "{problem}");
    tree.write("sys/iio:device1/name", b"mpu6050\n");
    assert!(refused("iio:mpu6050").contains("2 devices"));
    assert!(tree.open("iio:iio:device0?fifo=off").is_ok());
}

proptest::proptest! {
    // Each writes a tree of files.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn no_byte_of_the_buffer_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let tree = Tree::new();
        tree.write("dev/iio:device0", &bytes);
        let burst = look(&mut tree.open("iio:0").expect("opened")).expect("readings");
        proptest::prop_assert_eq!(burst.readings.len(), bytes.len() / 24 * 6);
    }
}

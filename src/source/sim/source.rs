//! The rover as a source of frames or of IMU windows: the expert drives, disturbed, so that it is also seen to recover.

use super::config::WorldConfig;
use super::noise::{Dice, hash, unit, wave};
use super::rover::{IMU_PER_G, IMU_PER_RAD_S, READINGS_PER_STEP, Rover, STEP_US, StepTruth};
use crate::sample::Micros;
use crate::source::{Data, Label, Record, Source, SourceError};

/// Laps driven before the rover is put elsewhere, facing the other way.
const LAPS_PER_SEGMENT: u32 = 2;
const READING_US: u64 = STEP_US / READINGS_PER_STEP as u64;
/// What an IMU window's classes are called, in the order of their numbers.
const MOTIONS: [&str; 5] = ["straight", "left", "right", "stopped", "bumpy"];
const MAX_WINDOW: usize = 4096;

/// A simulated rover that drives laps: `sim:rover`.
///
/// - Camera: one frame a step of 50 ms, `[height, width, 3]`; the label is the expert's steering, -1 (right) to 1 (left).
/// - IMU: windows of 100 readings a second, `[length, 6]` in the units of [`Rover::imu`]; the label is one of straight,
///   left, right, stopped, bumpy. The time of a window is that of its first reading.
///
/// The segment goes up when the rover is put elsewhere (after two laps, or off the track); segments alternate between
/// both ways round. The group counts laps: it goes up with every finished lap and every new segment.
#[derive(Clone, Debug)]
pub struct RoverSource {
    rover: Rover,
    samples: Option<u64>,
    given: u64,
    segment: u32,
    group: u32,
    laps: u32,
    sensor: Sensor,
    class_names: Vec<String>,
    /// Running mean of the IMU's six channels, in 1/256 of a reading, where frames come with it.
    beside: Option<[i32; 6]>,
}

#[derive(Clone, Debug)]
enum Sensor {
    Camera,
    Imu(Imu),
}

#[derive(Clone, Debug, Default)]
struct Imu {
    window: usize,
    stride: usize,
    readings: Vec<i16>,
    /// Motion at each reading.
    motions: Vec<Motion>,
    /// Readings still to be passed over before the next window.
    owed: usize,
    /// Windows given in this segment.
    windows: u32,
}

#[derive(Clone, Copy, Debug)]
struct Motion {
    stopped: bool,
    bumpy: bool,
    yaw_rate: f64,
}

impl RoverSource {
    /// Frames of `height` by `width` pixels, `samples` of them or without end.
    ///
    /// # Errors
    /// A frame size outside 8 to 1024 pixels.
    pub fn camera(
        config: &WorldConfig,
        samples: Option<u64>,
        height: usize,
        width: usize,
    ) -> Result<Self, SourceError> {
        if !(8..=1024).contains(&height) || !(8..=1024).contains(&width) {
            return Err(refused(&format!("a frame of {height}x{width} pixels"), "ask for 8 to 1024 pixels each way"));
        }
        let config = WorldConfig { frame_height: height, frame_width: width, ..config.clone() };
        Ok(RoverSource::new(&config, samples, Sensor::Camera, &[]))
    }

    /// Windows of `window` IMU readings, each `stride` readings after the one before.
    ///
    /// # Errors
    /// A window outside 2 to 4096 readings, or a stride outside 1 to 4096.
    pub fn imu(config: &WorldConfig, samples: Option<u64>, window: usize, stride: usize) -> Result<Self, SourceError> {
        if !(2..=MAX_WINDOW).contains(&window) || !(1..=MAX_WINDOW).contains(&stride) {
            let problem = format!("a window of {window} readings every {stride}");
            return Err(refused(&problem, "ask for window=2 to 4096 and stride=1 to 4096"));
        }
        // Nothing is rendered: the smallest frame will do.
        let config = WorldConfig { frame_height: 8, frame_width: 8, ..config.clone() };
        let imu = Imu { window, stride, ..Imu::default() };
        Ok(RoverSource::new(&config, samples, Sensor::Imu(imu), &MOTIONS))
    }

    fn new(config: &WorldConfig, samples: Option<u64>, sensor: Sensor, classes: &[&str]) -> Self {
        let class_names = classes.iter().map(|&name| name.to_owned()).collect();
        RoverSource {
            rover: Rover::new(config),
            samples,
            given: 0,
            segment: 0,
            group: 0,
            laps: 0,
            sensor,
            class_names,
            beside: None,
        }
    }

    /// Frames that come with what the IMU says of them: six numbers, the accelerometer's in 1/64 g (without gravity) and the
    /// gyroscope's in 1/64 rad/s, as they run on average over about four frames.
    #[must_use]
    pub fn with_imu_beside(mut self) -> Self {
        self.beside = Some([0; 6]);
        self
    }

    /// Lets the IMU's average follow the step that was driven.
    fn follow_imu(&mut self) {
        let Some(mean) = &mut self.beside else { return };
        let readings = self.rover.imu_readings();
        for (channel, mean) in mean.iter_mut().enumerate() {
            let sum: i32 = readings.iter().map(|reading| i32::from(reading[channel])).sum();
            *mean += ((sum << 8) / READINGS_PER_STEP as i32 - *mean) >> 2;
        }
    }

    fn write_beside(&self, beside: &mut Vec<i8>) {
        beside.clear();
        let Some(mean) = &self.beside else { return };
        let units = [IMU_PER_G as i32, IMU_PER_RAD_S as i32];
        beside.extend(mean.iter().enumerate().map(|(channel, mean)| {
            let gravity = if channel == 2 { 64 } else { 0 };
            ((mean >> 2) / units[channel / 3] - gravity).clamp(-127, 127) as i8
        }));
    }

    /// The rover as it stands at the latest sample: its pose, its truth, its track.
    pub fn rover(&self) -> &Rover {
        &self.rover
    }

    /// Drives one step with the disturbed expert; `true` where a new segment began.
    fn drive(&mut self) -> (StepTruth, bool) {
        let seconds = self.rover.steps() as f64 * (STEP_US as f64 * 1e-6);
        let seed = self.rover.config().seed;
        let imu = matches!(self.sensor, Sensor::Imu(_));
        if imu {
            let cruise = f64::from(self.rover.config().speed_mps);
            let speed = if stops(seed, seconds) { 0.0 } else { cruise };
            self.rover.set_speed(speed);
        }
        // Slow pushes carry the rover off the centre, quick ones turn it; in between the expert brings it back.
        let push = 0.9 * wave(seed, 100, seconds / 1.3) + 0.35 * wave(seed, 101, seconds / 0.4);
        let calm = 0.5 + 0.5 * wave(seed, 102, seconds / 6.0);
        let strength = if imu { 0.3 } else { 1.0 };
        let truth = self.rover.step(self.rover.expert_steering() + strength * calm * push);
        let lap_ended = truth.laps > self.laps;
        self.laps = self.laps.max(truth.laps);
        let long_enough = match &self.sensor {
            Sensor::Camera => true,
            // A lap may be shorter than a window.
            Sensor::Imu(imu) => imu.windows >= 8,
        };
        let enough = self.laps >= LAPS_PER_SEGMENT && long_enough;
        if truth.off_track || enough {
            self.segment += 1;
            self.group += 1;
            self.laps = 0;
            self.put_elsewhere(seed);
            return (truth, true);
        }
        self.group += u32::from(lap_ended);
        (truth, false)
    }

    fn put_elsewhere(&mut self, seed: u64) {
        let mut dice = Dice::new(seed, 103 + (u64::from(self.segment) << 8));
        self.rover.drive_backwards(self.segment % 2 == 1);
        let along = f64::from(dice.between(0.0, 1.0)) * self.rover.lap_m();
        self.rover.reset(along, f64::from(dice.between(-0.3, 0.3)), f64::from(dice.between(-0.3, 0.3)));
    }

    fn next_frame(&mut self, record: &mut Record) {
        if self.given > 0 {
            self.drive();
            self.follow_imu();
        }
        self.write_beside(&mut record.beside);
        let (height, width) = self.rover.frame_size();
        if !matches!(record.data, Data::Image { .. }) {
            record.data = Data::Image { pixels: Vec::new(), height, width, channels: 3 };
        }
        if let Data::Image { pixels, height: h, width: w, channels } = &mut record.data {
            (*h, *w, *channels) = (height, width, 3);
            pixels.resize(self.rover.frame_len(), 0);
            self.rover.render(pixels);
        }
        record.time = Micros(self.rover.steps() * STEP_US);
        record.segment = self.segment;
        record.group = self.group;
        record.label = Some(Label::Value(f64::from(self.rover.expert_steering())));
    }

    fn next_window(&mut self, record: &mut Record) -> Result<(), SourceError> {
        let mut cuts = 0;
        loop {
            let Sensor::Imu(imu) = &mut self.sensor else { return Ok(()) };
            imu.pay();
            if imu.owed == 0 && imu.motions.len() >= imu.window {
                break;
            }
            let (truth, cut) = self.drive();
            let readings = *self.rover.imu_readings();
            let Sensor::Imu(imu) = &mut self.sensor else { return Ok(()) };
            if cut {
                cuts += 1;
                if cuts > 100 {
                    let problem = "the rover leaves the track before a window is full";
                    return Err(refused(problem, "ask for a shorter window, a lower speed or less slip"));
                }
                imu.readings.clear();
                imu.motions.clear();
                (imu.owed, imu.windows) = (0, 0);
                continue;
            }
            let motion =
                Motion { stopped: truth.speed_mps < 0.1, bumpy: truth.roughness > 0.0, yaw_rate: truth.yaw_rate_rad_s };
            imu.readings.extend(readings.iter().flatten());
            imu.motions.extend([motion; READINGS_PER_STEP]);
        }
        let Sensor::Imu(imu) = &mut self.sensor else { return Ok(()) };
        if !matches!(record.data, Data::Window { .. }) {
            record.data = Data::Window { readings: Vec::new(), length: 0, channels: 6 };
        }
        if let Data::Window { readings, length, channels } = &mut record.data {
            (*length, *channels) = (imu.window, 6);
            readings.clear();
            readings.extend_from_slice(&imu.readings[..imu.window * 6]);
        }
        let end = self.rover.steps() * READINGS_PER_STEP as u64;
        record.time = Micros((end - imu.motions.len() as u64) * READING_US);
        record.segment = self.segment;
        record.group = self.group;
        record.label = Some(Label::Class(motion_class(&imu.motions[..imu.window])));
        imu.owed = imu.stride;
        imu.windows += 1;
        Ok(())
    }
}

impl Imu {
    /// Passes over readings that are owed, as far as there are any.
    fn pay(&mut self) {
        let count = self.owed.min(self.motions.len());
        self.motions.drain(..count);
        self.readings.drain(..count * 6);
        self.owed -= count;
    }
}

impl Source for RoverSource {
    fn describe(&self) -> String {
        let config = self.rover.config();
        let what = match &self.sensor {
            Sensor::Camera => format!("frames {}x{} at 20 Hz", config.frame_width, config.frame_height),
            Sensor::Imu(imu) => format!("IMU windows of {} at 100 Hz, stride {}", imu.window, imu.stride),
        };
        let count = self.samples.map_or("endless".to_owned(), |n| n.to_string());
        format!("sim:rover: {count} {what}, seed {}", config.seed)
    }

    fn len_hint(&self) -> Option<u64> {
        self.samples
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        if self.samples.is_some_and(|samples| self.given >= samples) {
            return Ok(false);
        }
        match self.sensor {
            Sensor::Camera => self.next_frame(record),
            Sensor::Imu(_) => self.next_window(record)?,
        }
        self.given += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.rover.restart();
        (self.given, self.segment, self.group, self.laps) = (0, 0, 0, 0);
        self.beside = self.beside.map(|_| [0; 6]);
        if let Sensor::Imu(imu) = &mut self.sensor {
            *imu = Imu { window: imu.window, stride: imu.stride, ..Imu::default() };
        }
        Ok(())
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

/// Now and then the rover of the IMU stands still for 2 to 4 seconds: within every other 12 seconds, about.
fn stops(seed: u64, seconds: f64) -> bool {
    let slot = seconds / 12.0;
    let within = (slot - libm::floor(slot)) * 12.0;
    let draw = |table: u64| f64::from(unit(hash(seed, table, slot as u64)));
    let begin = 7.0 * draw(110);
    draw(111) < 0.5 && within >= begin && within < begin + 2.0 + 2.0 * draw(112)
}

/// What most of a window was; a turn is a mean rate above 0.25 rad/s.
fn motion_class(motions: &[Motion]) -> u32 {
    let most = |is: fn(&Motion) -> bool| motions.iter().filter(|&m| is(m)).count() * 2 > motions.len();
    let turning = motions.iter().map(|m| m.yaw_rate).sum::<f64>() / motions.len().max(1) as f64;
    match (most(|m| m.stopped), most(|m| m.bumpy)) {
        (true, _) => 3,
        (false, true) => 4,
        (false, false) if turning > 0.25 => 1,
        (false, false) if turning < -0.25 => 2,
        (false, false) => 0,
    }
}

fn refused(problem: &str, remedy: &str) -> SourceError {
    SourceError::Uri { uri: "sim:rover".to_owned(), problem: problem.to_owned(), remedy: remedy.to_owned() }
}

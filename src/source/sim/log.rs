//! The event log of a robot as a source of tokens: `sim:log`.
//!
//! What the robot is about is hidden; the log shows it in the **order** of its actions, not in which they are: every task
//! takes the same eight actions equally often, in a cycle of its own. Reports that have nothing to do with the task stand
//! between them. So neither counts of events nor like events at like places tell the tasks apart, and what comes next does.
//! Everything is a function of the seed and the number of the event.

use std::collections::VecDeque;
use std::io::Write;

use super::noise::{hash, unit};
use crate::sample::Micros;
use crate::source::{Label, Record, Source, SourceError};

/// What the robot can be about; the label of a window is what it was for most of it.
pub const TASKS: [&str; 5] = ["patrol", "mapping", "following", "docking", "recovering"];

/// Names of the events; the code of an event is its place here and 1. 0 is no event of this robot.
pub const EVENTS: [&str; 26] = [
    "plan",
    "drive",
    "turn",
    "scan",
    "stop",
    "align",
    "report",
    "wait",
    "boot",
    "selftest",
    "ready",
    "off",
    "slip",
    "bump",
    "motor_hot",
    "lidar_timeout",
    "docked",
    "charged",
    "battery_full",
    "battery_good",
    "battery_low",
    "heartbeat",
    "wifi_weak",
    "wifi_good",
    "person",
    "door",
];
const ACTIONS: u64 = 8;
const BOOT: usize = 8;
const OFF: usize = 11;
const FAULTS: usize = 12;
const DOCKED: usize = 16;
const BATTERY: usize = 18;
const REPORTS: usize = 21;

/// The action after each action, for each task. Two tasks share at most two of their eight steps.
const NEXT: [[u8; 8]; 5] = [
    cycle([0, 5, 3, 6, 1, 2, 4, 7]),
    cycle([0, 1, 2, 7, 4, 3, 5, 6]),
    cycle([0, 4, 3, 2, 5, 6, 7, 1]),
    cycle([0, 6, 4, 7, 3, 1, 2, 5]),
    cycle([0, 4, 2, 6, 5, 1, 7, 3]),
];
const DOCKING: usize = 3;
const RECOVERING: usize = 4;

const fn cycle(order: [u8; 8]) -> [u8; 8] {
    let mut next = [0; 8];
    let mut at = 0;
    while at < 8 {
        next[order[at] as usize] = order[(at + 1) % 8];
        at += 1;
    }
    next
}

/// Share of the events that are actions; the others are reports.
const ACTING: f32 = 0.75;
/// Share of the actions that follow the task's cycle; the others are any.
const DUTIFUL: f32 = 0.8;
/// Share of the events that are faults, after which the robot recovers.
const FAULTY: f32 = 0.006;
/// Events of a run, from boot to off: from this to twice this.
const RUN: u64 = 800;
/// Events that a task lasts: from this to three times this.
const TASK: u64 = 60;

/// One event of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time: Micros,
    /// Place in [`EVENTS`].
    pub what: usize,
    /// What the robot is about, a place in [`TASKS`].
    pub task: usize,
    /// Goes up with every boot.
    pub run: u32,
    /// What is measured with it.
    pub value: u16,
}

/// The endless log.
#[derive(Clone, Debug)]
pub struct EventLog {
    seed: u64,
    number: u64,
    time: u64,
    run: u32,
    /// Events left of the run and of the task.
    left: u64,
    task_left: u64,
    task: usize,
    action: usize,
    battery: u64,
}

/// A full battery, in events that it lasts.
const FULL: u64 = 500;

impl EventLog {
    pub fn new(seed: u64) -> EventLog {
        EventLog { seed, number: 0, time: 0, run: 0, left: 0, task_left: 0, task: 0, action: 0, battery: FULL }
    }

    fn draw(&self, table: u64) -> u64 {
        hash(self.seed, 200 + table, self.number)
    }

    /// Goes on to another task, of those that need no cause.
    fn begin_task(&mut self, task: usize) {
        self.task = task;
        self.task_left = TASK + self.draw(1) % (2 * TASK);
    }

    fn what(&mut self) -> usize {
        if self.left == 0 {
            self.left = RUN + self.draw(0) % RUN;
            self.battery = FULL;
            self.run += u32::from(self.number > 0);
            self.begin_task((self.draw(2) % 3) as usize);
            return BOOT;
        }
        self.left -= 1;
        if self.left == 0 {
            return OFF;
        }
        if self.task_left == 0 {
            if self.task == DOCKING {
                self.battery = FULL;
            }
            self.begin_task(if self.battery == 0 { DOCKING } else { (self.draw(2) % 3) as usize });
        }
        self.task_left -= 1;
        self.battery = self.battery.saturating_sub(1);
        let chance = unit(self.draw(3));
        if chance < ACTING {
            let dutiful = unit(self.draw(4)) < DUTIFUL;
            self.action =
                if dutiful { NEXT[self.task][self.action] as usize } else { (self.draw(5) % ACTIONS) as usize };
            return self.action;
        }
        if chance > 1.0 - FAULTY && self.task != RECOVERING {
            self.begin_task(RECOVERING);
            return FAULTS + (self.draw(5) % 4) as usize;
        }
        match self.draw(5) % 16 {
            0 => BATTERY + if self.battery > FULL / 2 { 0 } else { 1 + usize::from(self.battery < FULL / 5) },
            1 if self.task == DOCKING => DOCKED + usize::from(self.task_left < 20),
            2 => BOOT + 1,
            3 => BOOT + 2,
            4..8 => REPORTS,
            other => REPORTS + 1 + (other % 4) as usize,
        }
    }

    /// Writes the next `events` as a CSV table: `time` in seconds, `run`, `event`, `value`, `task`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_csv(&mut self, events: usize, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "time,run,event,value,task")?;
        for e in self.take(events) {
            let (time, what, task) = (seconds(e.time), EVENTS[e.what], TASKS[e.task]);
            writeln!(out, "{time},{},{what},{},{task}", e.run, e.value)?;
        }
        Ok(())
    }
}

impl Iterator for EventLog {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let what = self.what();
        let event = Event {
            time: Micros(self.time),
            what,
            task: self.task,
            run: self.run,
            value: (self.draw(6) % 1000) as u16,
        };
        self.time += 50_000 + self.draw(7) % 900_000;
        self.number += 1;
        Some(event)
    }
}

fn seconds(time: Micros) -> String {
    format!("{}.{:03}", time.0 / 1_000_000, time.0 / 1000 % 1000)
}

/// How the log is cut into samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    /// Windows of event codes, 1 to the number of [`EVENTS`].
    #[default]
    Codes,
    /// Windows of the bytes of the log as text, one line an event.
    Text,
}

/// The log as a source of windows `[length, 1]`. Segment and group go up with every boot; no window crosses one.
#[derive(Clone, Debug)]
pub struct LogSource {
    log: EventLog,
    form: LogForm,
    window: usize,
    stride: usize,
    samples: Option<u64>,
    given: u64,
    codes: VecDeque<i16>,
    /// The event that each code belongs to.
    events: VecDeque<Event>,
    /// Codes still to be passed over before the next window.
    owed: usize,
    names: Vec<String>,
}

/// Bounds of a window, in codes: no run is shorter than a window of them.
const MAX_WINDOW: usize = 512;

impl LogSource {
    /// Windows of `window` codes, each `stride` codes after the one before.
    ///
    /// # Errors
    /// A window outside 2 to 512 codes, or a stride outside 1 to 512.
    pub fn new(
        seed: u64,
        samples: Option<u64>,
        form: LogForm,
        window: usize,
        stride: usize,
    ) -> Result<Self, SourceError> {
        if !(2..=MAX_WINDOW).contains(&window) || !(1..=MAX_WINDOW).contains(&stride) {
            let problem = format!("a window of {window} codes every {stride}");
            return Err(SourceError::uri("sim:log", problem, "ask for window=2 to 512 and stride=1 to 512"));
        }
        let names = TASKS.map(str::to_owned).to_vec();
        let (codes, events) = (VecDeque::new(), VecDeque::new());
        let log = EventLog::new(seed);
        Ok(LogSource { log, form, window, stride, samples, given: 0, codes, events, owed: 0, names })
    }

    fn take_in(&mut self) {
        let Some(event) = self.log.next() else { return };
        if self.events.back().is_some_and(|last| last.run != event.run) {
            self.codes.clear();
            self.events.clear();
            self.owed = 0;
        }
        match self.form {
            LogForm::Codes => self.codes.push_back(event.what as i16 + 1),
            LogForm::Text => {
                let line = format!("{} {} {}\n", seconds(event.time), EVENTS[event.what], event.value);
                self.codes.extend(line.bytes().map(i16::from));
            }
        }
        self.events.resize(self.codes.len(), event);
    }
}

impl Source for LogSource {
    fn describe(&self) -> String {
        let count = self.samples.map_or("endless".to_owned(), |n| n.to_string());
        let (what, bound) = match self.form {
            LogForm::Codes => ("event codes", EVENTS.len() as i16 + 1),
            LogForm::Text => ("bytes of text", crate::source::tokens::BYTES),
        };
        let (window, stride, seed) = (self.window, self.stride, self.log.seed);
        format!("sim:log: {count} windows of {window} {what} below {bound}, stride {stride}, seed {seed}")
    }

    fn len_hint(&self) -> Option<u64> {
        self.samples
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        if self.samples.is_some_and(|samples| self.given >= samples) {
            return Ok(false);
        }
        loop {
            let paid = self.owed.min(self.codes.len());
            self.codes.drain(..paid);
            self.events.drain(..paid);
            self.owed -= paid;
            if self.owed == 0 && self.codes.len() >= self.window {
                break;
            }
            self.take_in();
        }
        let readings = record.window_mut(self.window, 1);
        readings.iter_mut().zip(&self.codes).for_each(|(reading, code)| *reading = *code);
        let mut counts = [0; TASKS.len()];
        self.events.iter().take(self.window).for_each(|event| counts[event.task] += 1);
        let most = (0..TASKS.len()).rev().max_by_key(|&task| counts[task]).unwrap_or(0);
        let first = self.events[0];
        (record.time, record.segment, record.group) = (first.time, first.run, first.run);
        record.label = Some(Label::Class(most as u32));
        self.owed = self.stride;
        self.given += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.log = EventLog::new(self.log.seed);
        self.codes.clear();
        self.events.clear();
        (self.given, self.owed) = (0, 0);
        Ok(())
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of the events of each task, and of the pairs of actions that follow one another in it.
    #[test]
    fn tasks_have_the_same_actions_in_another_order() {
        let mut counts = [[0.0f64; 8]; TASKS.len()];
        let mut pairs = [[[0.0f64; 8]; 8]; TASKS.len()];
        let mut before: Option<Event> = None;
        for e in EventLog::new(3).take(200_000).filter(|e| e.what < 8) {
            counts[e.task][e.what] += 1.0;
            if let Some(b) = before.filter(|b| b.task == e.task) {
                pairs[e.task][b.what][e.what] += 1.0;
            }
            before = Some(e);
        }
        for (task, (counts, pairs)) in counts.iter().zip(&pairs).enumerate() {
            let all: f64 = counts.iter().sum();
            assert!(all > 5000.0, "{} is rare", TASKS[task]);
            for (from, row) in pairs.iter().enumerate() {
                assert!((counts[from] / all - 0.125).abs() < 0.02, "{} {}", TASKS[task], EVENTS[from]);
                let dutiful = row[usize::from(NEXT[task][from])] / row.iter().sum::<f64>();
                assert!(dutiful > 0.7, "{} {}: {dutiful}", TASKS[task], EVENTS[from]);
            }
        }
    }

    #[test]
    fn a_low_battery_ends_at_the_dock_and_a_fault_in_recovery() {
        let events: Vec<_> = EventLog::new(1).take(50_000).collect();
        for pair in events.windows(2).filter(|pair| pair[0].run == pair[1].run) {
            let fault = (FAULTS..DOCKED).contains(&pair[1].what);
            assert!(!fault || pair[1].task == RECOVERING);
            if pair[0].task != RECOVERING && pair[1].task == RECOVERING {
                assert!(fault);
            }
        }
        assert!(events.iter().any(|e| e.task == DOCKING));
        assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time));
    }

    #[test]
    fn windows_slide_within_a_run_and_a_rewound_log_is_the_same() {
        for form in [LogForm::Codes, LogForm::Text] {
            let mut source = LogSource::new(5, Some(300), form, 64, 16).unwrap();
            let mut play = || {
                let (mut record, mut all) = (Record::default(), Vec::new());
                while source.read_next(&mut record).unwrap() {
                    all.push(record.clone());
                }
                source.rewind().unwrap();
                all
            };
            let all = play();
            assert_eq!(all.len(), 300);
            let codes = |r: &Record| match &r.data {
                crate::source::Data::Window { readings, .. } => readings.clone(),
                crate::source::Data::Image { .. } => Vec::new(),
            };
            for pair in all.windows(2).filter(|pair| pair[0].segment == pair[1].segment) {
                assert_eq!(codes(&pair[0])[16..], codes(&pair[1])[..48]);
            }
            assert_eq!(play(), all);
        }
        assert!(LogSource::new(5, None, LogForm::Codes, 1, 1).is_err());
    }
}

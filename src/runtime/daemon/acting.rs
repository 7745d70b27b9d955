//! Controllers on the perceiving thread: each feature is decided by at once, and what was decided goes to pins and commands
//! and, after the feature, to its readers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DaemonError;
use super::commands::Commands;
use super::status::{PinStatus, Shared};
use super::teacher::{self, Desk, Handover, Links, Teacher};
use crate::board::Profile;
use crate::bus::Bus;
use crate::control::config::Does;
use crate::control::store::{TaughtError, TaughtStore};
use crate::control::taught::Taught;
use crate::control::{Controllers, ENDED};
use crate::pins::{PinId, Pins};
use crate::runtime::perceiver::Perceiver;
use crate::sample::Micros;
use crate::store::StoreError;

/// Teacher and controllers of `profile`, for features of `perceiver`; `None` where it has no controllers.
///
/// # Errors
/// Of what was taught, a pin or a thread.
pub fn start<'a>(
    profile: &Profile,
    perceiver: &Perceiver,
    links: Links<'a>,
) -> Result<Option<(Teacher<'a>, Acting)>, DaemonError> {
    if profile.controller.is_empty() {
        return Ok(None);
    }
    let kept = open_taught(profile.store.path.as_deref(), perceiver.stored_len())?;
    let shared = links.shared.clone();
    let (teacher, desk) = teacher::ends(&profile.controller, perceiver.clone(), links, kept);
    let acting = Acting::new(profile, perceiver.feature_dim(), desk, shared).map_err(DaemonError::System)?;
    Ok(Some((teacher, acting)))
}

/// What was taught before, and where it is kept: beside the checkpoint at `path`.
fn open_taught(path: Option<&Path>, stored_len: usize) -> Result<(Taught, Option<TaughtStore>), DaemonError> {
    let Some(path) = path else { return Ok((Taught::new(stored_len), None)) };
    match TaughtStore::open(path, stored_len) {
        Ok((store, taught, aside)) => {
            if let Some(reason) = aside {
                eprintln!("nestling: what was taught is read from the generation before: {reason}");
            }
            Ok((taught, Some(store)))
        }
        Err(TaughtError::Store(problem @ StoreError::Io { .. })) => {
            eprintln!("nestling: what is taught cannot be saved, and is lost at the end: {problem}");
            Ok((Taught::new(stored_len), None))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// See the module.
pub struct Acting {
    controllers: Controllers,
    /// Of each decision: its place among the profile's tables.
    places: Vec<usize>,
    desk: Desk,
    pins: Pins,
    /// Of each decision: the pins of its values.
    moved: Vec<Vec<PinId>>,
    commands: Option<Commands>,
    shared: Arc<Shared>,
    /// Time of the newest sample.
    time: Micros,
}

impl Acting {
    /// The controllers of `profile` for features of `dim` numbers. Its pins are opened, and safe.
    ///
    /// # Errors
    /// Of a pin that cannot be had, or a thread that the system does not give, in words.
    fn new(profile: &Profile, dim: usize, desk: Desk, shared: Arc<Shared>) -> Result<Self, String> {
        let tables = &profile.controller;
        let pins = Pins::open(&profile.pins, &profile.pin).map_err(|e| e.to_string())?;
        let deciding = tables.iter().enumerate().filter(|(_, table)| table.does != Does::Log);
        let places: Vec<usize> = deciding.map(|(place, _)| place).collect();
        // That the profile has each of them was checked.
        let pins_of = |&place: &usize| tables[place].pin.iter().filter_map(|name| pins.find(name)).collect();
        let moved = places.iter().map(pins_of).collect();
        let controllers = Controllers::new(tables, dim, profile.perceive.stale());
        let names = controllers.decisions().map(|(table, _, _)| table.name.clone()).collect();
        shared.control.change(|s| {
            s.names = names;
            s.decisions = controllers.decisions().map(|(_, decision, _)| decision.clone()).collect();
            s.pins = pins.states().map(|pin| PinStatus::new(pin.name)).collect();
        });
        let commands = Commands::start(tables, shared.clone())?;
        Ok(Acting { controllers, places, desk, pins, moved, commands, shared, time: Micros(0) })
    }

    /// Takes a newer encoder over, with what was fitted to it.
    pub fn refresh(&mut self, perceiver: &mut Perceiver) {
        if let Some(Handover { encoder, fitted }) = self.desk.newer() {
            let (encoder, fitted) = (perceiver.replace(encoder), self.controllers.adopt(fitted));
            self.desk.give_back(Handover { encoder, fitted });
        }
    }

    /// Features may be so old from now on.
    pub fn set_stale(&mut self, stale: Duration) {
        self.controllers.set_usual(stale);
    }

    /// The encoder in use is damaged: another is wanted at once.
    pub fn hurry(&self) {
        self.desk.hurry();
    }

    /// Decides by a feature of a sample that came `at`, and does what was decided. Returns its novelty.
    pub fn decide(&mut self, time: Micros, at: Instant, feature: &[i8], perceiver: &Perceiver) -> Option<f32> {
        self.time = time;
        let novelty = self.controllers.decide(time, feature);
        self.carry_out();
        let latency = at.elapsed().as_micros() as u64;
        self.shared.control.change(|s| s.latency_us.add(latency));
        // After that: nobody waits for it.
        self.desk.show(perceiver.stored(), at);
        novelty
    }

    /// Makes decisions safe whose features are older than they may be, the newest being `age` old; whether there were any.
    pub fn look_for_staleness(&mut self, age: Duration) -> bool {
        let changed = self.controllers.look_for_staleness(age);
        if changed {
            self.shared.control.change(|s| s.went_stale += 1);
            self.carry_out();
        }
        changed
    }

    /// Does what was decided: pins first.
    fn carry_out(&mut self) {
        for ((_, decision, _), pins) in self.controllers.decisions().zip(&self.moved) {
            for (&pin, &value) in pins.iter().zip(&decision.values) {
                // What is no number makes a pin safe.
                self.pins.set(pin, if decision.is_over() { f64::NAN } else { value });
            }
        }
        let mut not_started = 0;
        for ((table, decision, changed), &place) in self.controllers.decisions().zip(&self.places) {
            if let Some(commands) = self.commands.as_ref().filter(|_| changed && !table.command.is_empty()) {
                not_started += u64::from(!commands.send(place, decision));
            }
        }
        self.shared.control.change(|s| {
            s.commands_failed += not_started;
            for (told, (_, decision, _)) in s.decisions.iter_mut().zip(self.controllers.decisions()) {
                let rose = decision.alarm == Some(true) && told.alarm != Some(true);
                s.alarms += u64::from(rose);
                told.clone_from(decision);
            }
            for (told, pin) in s.pins.iter_mut().zip(self.pins.states()) {
                (told.value, told.failures) = (pin.value, pin.failures);
            }
        });
    }

    /// Sends the decisions; `false`: somebody had no time for one.
    pub fn send(&self, bus: &mut Bus, age: Duration) -> bool {
        self.controllers.messages(self.time, age).fold(true, |read, message| bus.send(message) & read)
    }

    /// The end: everything is made safe.
    pub fn finish(mut self, bus: &mut Bus) {
        self.controllers.make_safe(ENDED);
        self.carry_out();
        self.send(bus, Duration::ZERO);
        if let Some(commands) = self.commands {
            commands.finish();
        }
    }
}

//! What people press: a thread that has it done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::control::{Command, Doers};
use super::status::Shared;
use crate::pins::Buttons;
use crate::pins::config::{Asks, ButtonTable};

/// Longest that the end waits for this thread while nothing is pressed.
const TICK: Duration = Duration::from_millis(50);

/// Does what `tables` say when their buttons are pressed, until `stop` becomes true.
pub fn run(buttons: &Buttons, tables: &[ButtonTable], doers: &Doers, shared: &Shared, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(pressed) = buttons.wait(TICK) else { continue };
        let table = &tables[pressed.button];
        match doers.ask(command(table, shared)) {
            Ok(value) => eprintln!("nestling: button {}: {value}", table.name),
            Err(problem) => eprintln!("nestling: button {}: {problem}", table.name),
        }
        shared.control.change(|s| s.presses += 1);
    }
}

fn command(table: &ButtonTable, shared: &Shared) -> Command {
    match table.does {
        Asks::Teach => Command::Teach {
            label: table.label.clone(),
            values: (!table.value.is_empty()).then(|| table.value.clone()),
            controller: table.controller.clone(),
            examples: None,
        },
        // The same button ends it.
        Asks::Freeze if shared.learning.change(|s| s.state == "frozen") => Command::Thaw,
        Asks::Freeze => Command::Freeze,
        Asks::Save => Command::Save,
    }
}

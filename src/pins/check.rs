//! Whether the tables of pins, buttons and controllers fit one another.

use std::collections::HashSet;

use super::config::{ButtonTable, PinTable, PinsTable, Wrong, wrong};
use crate::control::config::{ControllerTable, Does};

/// Each table for itself, and that no name or line is used twice.
///
/// # Errors
/// [`Wrong`], with the name of the table.
pub fn tables(table: &PinsTable, pins: &[PinTable], buttons: &[ButtonTable]) -> Result<(), (String, Wrong)> {
    table.check().map_err(|wrong| ("pins".into(), wrong))?;
    let mut lines = HashSet::new();
    let mut names = HashSet::new();
    for pin in pins {
        let named = |wrong| (pin.name.clone(), wrong);
        pin.check().map_err(named)?;
        let all = || pin.line.iter().chain(&pin.direction);
        if let Some(line) = all().find(|line| !lines.insert(**line)) {
            return wrong("pin.line", line, "a line that no other pin or button has").map_err(named);
        }
        if !names.insert(&pin.name) {
            return wrong("pin.name", &pin.name, "a name that no other pin has").map_err(named);
        }
    }
    names.clear();
    for button in buttons {
        let named = |wrong| (button.name.clone(), wrong);
        button.check().map_err(named)?;
        if !lines.insert(button.line) {
            return wrong("button.line", button.line, "a line that no other pin or button has").map_err(named);
        }
        if !names.insert(&button.name) {
            return wrong("button.name", &button.name, "a name that no other button has").map_err(named);
        }
    }
    Ok(())
}

/// That controllers name pins that there are, each its own, and buttons teach what their controller takes.
///
/// # Errors
/// [`Wrong`], with the name of the table.
pub fn names(
    controllers: &[ControllerTable],
    pins: &[PinTable],
    buttons: &[ButtonTable],
) -> Result<(), (String, Wrong)> {
    let mut moved = HashSet::new();
    for controller in controllers {
        let named = |wrong| (controller.name.clone(), wrong);
        for pin in &controller.pin {
            if !pins.iter().any(|table| table.name == *pin) {
                return wrong("controller.pin", pin, "the name of a [[pin]]").map_err(named);
            }
            if !moved.insert(pin) {
                return wrong("controller.pin", pin, "a pin that no other controller moves").map_err(named);
            }
        }
    }
    for button in buttons {
        let named = |wrong| (button.name.clone(), wrong);
        let Some(name) = &button.controller else { continue };
        match controllers.iter().find(|controller| controller.name == *name) {
            Some(controller) if controller.does == Does::Steer && controller.outputs == button.value.len() => {}
            Some(controller) if controller.does == Does::Steer => {
                let value = format!("{} values", button.value.len());
                return wrong("button.value", value, "as many values as the controller has outputs").map_err(named);
            }
            _ => {
                return wrong("button.controller", name, "the name of a [[controller]] with does = \"steer\"")
                    .map_err(named);
            }
        }
    }
    Ok(())
}

//! Pins and buttons: is the chip there, may we, is the line free.

use super::sources::{config, device_check, switched_on};
use super::{Check, Hardware, Root};
use crate::board::Profile;
use crate::pins::config::Line;

pub(super) fn check(profile: &Profile, root: &Root, hardware: &dyn Hardware) -> Vec<Check> {
    let of_pins =
        profile.pin.iter().map(|pin| (format!("pin {}", pin.name), [&pin.line[..], &pin.direction[..]].concat()));
    let of_buttons = profile.button.iter().map(|button| (format!("button {}", button.name), vec![button.line]));
    let all: Vec<(String, Vec<Line>)> = of_pins.chain(of_buttons).collect();
    if profile.pins.chip.as_deref() == Some("simulated") {
        let simulated = |(name, _)| Check::warn(name, "it is simulated: nothing moves", "name a chip in [pins]");
        return all.into_iter().map(simulated).collect();
    }
    let mut checks = Vec::new();
    let chip = match profile.pins.chip.as_deref() {
        Some("pi") => {
            if all.iter().any(|(_, lines)| lines.iter().any(|line| matches!(line, Line::Gpio(_)))) {
                checks.extend(registers(root));
            }
            hardware.header()
        }
        None if root.is_pi() => hardware.header(),
        Some(name) if name.starts_with('/') => name.to_string(),
        Some(name) => format!("/dev/{name}"),
        None => "/dev/gpiochip0".into(),
    };
    for (name, lines) in all {
        let mut found = Vec::new();
        let failed = lines.iter().find_map(|line| match line_check(*line, &chip, root, hardware) {
            Ok(text) => {
                found.push(text);
                None
            }
            Err((problem, remedy)) => Some(Check::fail(&name, problem, remedy)),
        });
        checks.push(failed.unwrap_or_else(|| Check::ok(&name, found.join("; "))));
    }
    checks
}

/// `chip = "pi"` takes the registers themselves.
fn registers(root: &Root) -> Option<Check> {
    let problem = match (root.is_pi(), root.names("/dev", "gpiomem").into_iter().next()) {
        (false, _) => ("this is no Raspberry Pi".into(), "name the chip: [pins] chip = \"gpiochip0\"".into()),
        (true, None) => {
            ("there is no /dev/gpiomem".into(), "leave chip out of [pins]: the kernel's device is taken then".into())
        }
        (true, Some(device)) => device_check(root, &format!("/dev/{device}"), "gpio", String::new).err()?,
    };
    Some(Check::fail("pins", problem.0, problem.1))
}

fn line_check(line: Line, chip: &str, root: &Root, hardware: &dyn Hardware) -> Result<String, (String, String)> {
    match line {
        Line::Pwm { chip, channel } => pwm(chip, channel, root),
        Line::Gpio(number) => {
            device_check(root, chip, "gpio", || match &root.names("/dev", "gpiochip")[..] {
                [] => "the kernel has no GPIO chip; write [pins] chip = \"simulated\" to try without".into(),
                others => format!("name another one in [pins]: there is {}", others.join(", ")),
            })?;
            let known = hardware.line(chip, number).map_err(|problem| {
                (format!("{line} on {chip}: {problem}"), "`gpioinfo` lists the lines that there are".to_string())
            })?;
            // Many chips name their lines by nothing but the number.
            let said = known.name.is_empty() || known.name == format!("GPIO{number}");
            let named = if said { String::new() } else { format!(" ({})", known.name) };
            match known.consumer {
                None => Ok(format!("{line}{named} on {chip} is free")),
                // A running daemon has its own lines.
                Some(who) if who == "nestling" => Ok(format!("{line}{named} on {chip} is held by nestling already")),
                Some(who) => Err((
                    format!("{line}{named} on {chip} is in use by {who}"),
                    format!("take another line, or end {who}; a bus is switched off in {}", config(root)),
                )),
            }
        }
    }
}

fn pwm(chip: u32, channel: u32, root: &Root) -> Result<String, (String, String)> {
    let folder = format!("/sys/class/pwm/pwmchip{chip}");
    if !root.exists(&folder) {
        let overlay = match (root.is_pi(), switched_on(root, "dtoverlay=pwm")) {
            (true, Some(true)) => "restart, or name another chip: dtoverlay=pwm is in the configuration".into(),
            (true, _) => format!("add the line dtoverlay=pwm-2chan to {} and restart", config(root)),
            (false, _) => "switch the PWM pins on in the device tree".into(),
        };
        let others = match &root.names("/sys/class/pwm", "pwmchip")[..] {
            [] => String::new(),
            others => format!("; there is {}", others.join(", ")),
        };
        return Err((format!("there is no pwmchip{chip}"), overlay + &others));
    }
    let channels: u32 = root.read(format!("{folder}/npwm")).parse().unwrap_or(0);
    if channel >= channels {
        return Err((format!("pwmchip{chip} has {channels} channels"), format!("name one below {channels}")));
    }
    let exported = format!("{folder}/pwm{channel}/duty_cycle");
    let file = if root.exists(&exported) { exported } else { format!("{folder}/export") };
    match root.permits(&file, super::root::WRITE) {
        true => Ok(format!("pwmchip{chip}/{channel}, of {channels} channels, can be written")),
        false => Err((format!("no permission to write {file}"), root.join_group("gpio"))),
    }
}

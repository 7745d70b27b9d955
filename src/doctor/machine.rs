//! The machine: memory, heat, processors, clock.

use super::{Check, Hardware, Planned, Root, mb};
use crate::board::Profile;

/// Memory that is left to others.
const RESERVE: u64 = 50_000_000;
const YEAR_S: u64 = 31_556_952;
/// Before this year the clock was not set: nestling did not exist.
const FIRST_YEAR: u64 = 2026;

pub(super) fn check(
    profile: &Profile,
    planned: Result<&Planned, &str>,
    root: &Root,
    hardware: &dyn Hardware,
) -> Vec<Check> {
    let mut checks = Vec::new();
    match planned {
        Ok(planned) => {
            checks.push(Check::ok("model", format!("{}, {} weights", planned.model, planned.weights)));
            checks.push(memory(profile, planned, root));
        }
        Err(problem) => {
            checks.push(Check::fail("model", problem, "name a shipped model or a file: `nestling plan --help`"))
        }
    }
    checks.push(heat(profile, root));
    checks.push(processors(root));
    checks.extend(power(root));
    checks.push(clock(root, hardware));
    checks
}

fn memory(profile: &Profile, planned: &Planned, root: &Root) -> Check {
    let wanted = planned.bytes();
    if let Err(error) = profile.check_memory(&planned.parts) {
        let text = error.to_string();
        let (problem, remedy) = text.split_once("\n  what to do: ").unwrap_or((&text, "a smaller model"));
        return Check::fail("memory", problem, remedy);
    }
    let told = root.read("/proc/meminfo");
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).map(|kib| kib * 1024);
    let remedy = "a smaller model, fewer samples in replay, or fewer programs beside it";
    match free {
        None => Check::warn(
            "memory",
            format!("{} planned; the system does not tell what is free", mb(wanted)),
            "look at `free`",
        ),
        Some(free) => {
            let found = format!("{} planned, {} free", mb(wanted), mb(free));
            match (wanted > free, wanted + RESERVE > free) {
                (true, _) => Check::fail("memory", found, remedy),
                (_, true) => Check::warn("memory", found, remedy),
                _ => Check::ok("memory", found),
            }
        }
    }
}

fn heat(profile: &Profile, root: &Root) -> Check {
    let limit = profile.learn.temperature;
    let zones = root.names("/sys/class/thermal", "thermal_zone");
    let read =
        |zone: &String| root.read(format!("/sys/class/thermal/{zone}/temp")).parse::<f64>().ok().map(|t| t / 1000.0);
    // A zone that tells nonsense is as good as none.
    let hottest = zones
        .iter()
        .filter_map(read)
        .filter(|t| (-60.0..200.0).contains(t))
        .fold(None, |most: Option<f64>, t| Some(most.map_or(t, |m| m.max(t))));
    match hottest {
        None => Check::warn(
            "temperature",
            "no thermal zone can be read: heat will not slow learning down",
            "bound learning by [learn] share instead",
        ),
        Some(t) if t >= limit => Check::warn(
            "temperature",
            format!("{t:.0} °C: learning stops at {limit:.0}"),
            "cool it, or lower [learn] share",
        ),
        Some(t) => Check::ok("temperature", format!("{t:.0} °C; learning stops at {limit:.0}")),
    }
}

fn processors(root: &Root) -> Check {
    let folder = "/sys/devices/system/cpu/cpu0/cpufreq";
    let governor = root.read(format!("{folder}/scaling_governor"));
    let own =
        ["intel_pstate", "amd-pstate"].iter().any(|d| root.read(format!("{folder}/scaling_driver")).starts_with(d));
    match governor.as_str() {
        "" => Check::ok("processors", "their clock rate is not the kernel's to choose"),
        // These drivers call so what follows the load.
        "powersave" if !own => Check::warn(
            "processors",
            "governor powersave: always at the lowest clock rate",
            "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
        governor => {
            let most = root.read(format!("{folder}/scaling_max_freq")).parse::<u64>().map_or(0, |khz| khz / 1000);
            let most = if most > 0 { format!(", up to {most} MHz") } else { String::new() };
            Check::ok("processors", format!("governor {governor}{most}"))
        }
    }
}

/// What a Pi's firmware says of its supply and its throttling.
fn power(root: &Root) -> Option<Check> {
    // Its place has the bus's address in it on some models.
    let platform = "/sys/devices/platform";
    let text = root.names(platform, "soc").into_iter().find_map(|soc| {
        let firmware =
            root.names(format!("{platform}/{soc}"), "soc").into_iter().find(|name| name.ends_with("firmware"))?;
        Some(root.read(format!("{platform}/{soc}/{firmware}/get_throttled")))
    })?;
    let flags = u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
    let rows = [
        (0x1, "the supply's voltage is too low now"),
        (0x6, "the processor is throttled now"),
        (0x8, "the soft limit of temperature is reached now"),
        (0x1_0000, "the voltage was too low since the start"),
        (0x6_0000, "the processor was throttled since the start"),
        (0x8_0000, "the soft limit of temperature was reached since the start"),
    ];
    let said: Vec<&str> = rows.iter().filter(|(bits, _)| flags & bits > 0).map(|(_, text)| *text).collect();
    let remedy = match flags & 0x1_0001 {
        0 => "a heat sink or a fan, or a lower [learn] share",
        _ => "a supply and a cable for the board's full current",
    };
    Some(match said[..] {
        [] => Check::ok("power", "the firmware has seen no low voltage and no throttling since the start"),
        _ => Check::warn("power", said.join("; "), remedy),
    })
}

fn clock(root: &Root, hardware: &dyn Hardware) -> Check {
    let year = 1970 + hardware.now() / YEAR_S;
    let kept = root.exists("/sys/class/rtc/rtc0");
    if year < FIRST_YEAR {
        return Check::warn(
            "clock",
            format!("it says the year {year}"),
            "sudo timedatectl set-ntp true, or sudo date -s; a clock chip keeps it (dtoverlay=i2c-rtc on a Pi)",
        );
    }
    match kept {
        true => Check::ok("clock", format!("the year is {year}, and a clock chip keeps it")),
        false => Check::ok(
            "clock",
            format!("the year is {year}; no clock chip: after a start it is wrong until the network sets it"),
        ),
    }
}

//! `[mqtt]` of a profile.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[mqtt]`: a broker that gets what is decided. Absent: none is spoken to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MqttTable {
    /// `host:port`; without a port 1883. It is spoken to in clear text.
    pub broker: String,
    /// What topics begin with. Absent: the profile's name.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// 0: at most once; 1: at least once.
    #[serde(default)]
    pub qos: u8,
    /// Publish features too; at their rate.
    #[serde(default)]
    pub features: bool,
    /// Milliseconds from one decision of a controller to its next one that differs in values only. A label, an alarm and a safe
    /// value go out at once.
    #[serde(default = "every_ms")]
    pub every_ms: u64,
    /// Seconds from one message about health to the next.
    #[serde(default = "health_s")]
    pub health_s: u64,
    /// Take commands from the topic NAME/command: whoever may publish there commands this daemon.
    #[serde(default)]
    pub commands: bool,
}

fn every_ms() -> u64 {
    500
}

fn health_s() -> u64 {
    10
}

impl MqttTable {
    /// What topics begin with, of a profile called `profile`.
    pub fn topic(&self, profile: &str) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| match profile {
            "" => "nestling".into(),
            name => name.into(),
        })
    }

    /// Host and port of the broker.
    pub fn address(&self) -> Option<(&str, u16)> {
        let (host, port) = match self.broker.rsplit_once(':') {
            // What ends in ] is an address without a port.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|&port| port > 0)?),
            _ => (self.broker.as_str(), 1883),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let sound =
            !bare.is_empty() && !bare.contains(['/', ' ', '@', '[', ']']) && (bare != host || !bare.contains(':'));
        sound.then_some((host, port))
    }

    /// Refuses values that cannot be: key, value, what is wanted.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self, profile: &str) -> Result<(), (&'static str, String, &'static str)> {
        if self.address().is_none() {
            return Err(("mqtt.broker", self.broker.clone(), "host or host:port, such as homeassistant.local:1883"));
        }
        let topic = self.topic(profile);
        if topic.contains(['+', '#', '\0', '$']) || topic.starts_with('/') || topic.ends_with('/') || topic.len() > 200
        {
            return Err(("mqtt.name", topic, "at most 200 letters without + # $, and no / at its ends"));
        }
        if self.qos > 1 {
            return Err(("mqtt.qos", self.qos.to_string(), "0 or 1"));
        }
        if self.user.is_none() && self.password_file.is_some() {
            return Err(("mqtt.user", String::new(), "the user whose password it is"));
        }
        for (key, value, most) in
            [("mqtt.every_ms", self.every_ms, 3_600_000), ("mqtt.health_s", self.health_s, 86_400)]
        {
            if !(1..=most).contains(&value) {
                return Err((key, value.to_string(), "a time from 1 to an hour of milliseconds, or a day of seconds"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_with_or_without_a_port() {
        let of = |broker: &str| {
            let table: MqttTable = toml::from_str(&format!("broker = '{broker}'")).expect("sound");
            table.address().map(|(host, port)| (host.to_string(), port))
        };
        let is = |host: &str, port| Some((host.to_string(), port));
        assert_eq!(of("home.local"), is("home.local", 1883));
        assert_eq!(of("10.0.0.2:8883"), is("10.0.0.2", 8883));
        assert_eq!(of("[::1]:1884"), is("[::1]", 1884));
        assert_eq!(of("[::1]"), is("[::1]", 1883));
        for wrong in ["", ":1883", "host:", "host:0", "host:99999", "mqtt://host", "::1", "a b", "me@host"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

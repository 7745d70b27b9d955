//! `[zenoh]` of a profile: the node that nestling is in a ROS 2 graph. As it stands by itself it reaches a router on this
//! machine, and no socket beyond.

use serde::{Deserialize, Serialize};

/// Where routers of ROS 2 listen by themselves.
const ROUTER: &str = "tcp/127.0.0.1:7447";

/// `[zenoh]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZenohTable {
    pub mode: Mode,
    /// Routers or peers to connect to, `tcp/ADDRESS:PORT`.
    pub connect: Vec<String>,
    /// Where to listen as a peer, likewise.
    pub listen: Vec<String>,
    /// Looks for others by multicast, and connects to peers that those it knows tell of.
    pub scouting: bool,
    /// Domain of the ROS 2 graph (`ROS_DOMAIN_ID`).
    pub domain: u32,
    /// Namespace of the node: empty or `/robot`.
    pub namespace: String,
    pub node: String,
    /// `frame_id` in the header of what is published.
    pub frame: String,
    /// Commands, teaching among them, are taken from whoever reaches the session: queries of `DOMAIN/NAMESPACE/NODE/command`.
    pub commands: bool,
}

/// How a session stands to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By way of one router.
    #[default]
    Client,
    /// With each other directly.
    Peer,
}

impl Default for ZenohTable {
    fn default() -> Self {
        ZenohTable {
            mode: Mode::Client,
            connect: vec![ROUTER.into()],
            listen: Vec::new(),
            scouting: false,
            domain: 0,
            namespace: String::new(),
            node: "nestling".into(),
            frame: "nestling".into(),
            commands: false,
        }
    }
}

impl ZenohTable {
    /// Refuses what cannot be: key, value, and what is wanted.
    ///
    /// # Errors
    /// Those three.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        for (key, endpoints) in [("zenoh.connect", &self.connect), ("zenoh.listen", &self.listen)] {
            if let Some(wrong) = endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
                return Err((key, wrong.clone(), "tcp/ADDRESS:PORT, for example tcp/127.0.0.1:7447"));
            }
        }
        let parts = self.namespace.strip_prefix('/').map(|names| names.split('/').all(is_name));
        if !self.namespace.is_empty() && parts != Some(true) {
            return Err(("zenoh.namespace", self.namespace.clone(), "nothing, or /names/of letters, digits and _"));
        }
        if !is_name(&self.node) {
            return Err(("zenoh.node", self.node.clone(), "letters, digits and _, no digit first"));
        }
        if self.domain > 232 {
            return Err(("zenoh.domain", self.domain.to_string(), "0 to 232"));
        }
        if self.mode == Mode::Client && !self.listen.is_empty() {
            return Err((
                "zenoh.listen",
                self.listen.join(", "),
                "nothing, as a client does not listen; or mode = 'peer'",
            ));
        }
        if self.connect.is_empty() && self.listen.is_empty() && !self.scouting {
            return Err((
                "zenoh.connect",
                String::new(),
                "someone to connect to, a place to listen, or scouting = true",
            ));
        }
        Ok(())
    }

    /// The absolute name of the node's own topic `name`: `/nestling/feature`.
    pub fn topic(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.namespace, self.node)
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let port = endpoint.strip_prefix("tcp/").and_then(|address| address.rsplit_once(':'));
    port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether `name` is one name of ROS 2.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        assert_eq!(ZenohTable::default().check(), Ok(()));
        let cases: [(&str, &str); 8] = [
            ("connect = ['127.0.0.1:7447']", "zenoh.connect"),
            ("connect = ['tcp/127.0.0.1']", "zenoh.connect"),
            ("connect = []", "zenoh.connect"),
            ("listen = ['tcp/127.0.0.1:0']", "zenoh.listen"),
            ("namespace = 'robot'", "zenoh.namespace"),
            ("namespace = '/robot/'", "zenoh.namespace"),
            ("node = '1st'", "zenoh.node"),
            ("domain = 233", "zenoh.domain"),
        ];
        for (text, key) in cases {
            let table: ZenohTable = toml::from_str(text).expect(text);
            assert_eq!(table.check().expect_err(text).0, key, "{text}");
        }
        let peer: ZenohTable =
            toml::from_str("mode = 'peer'\nlisten = ['tcp/127.0.0.1:0']\nnamespace = '/a/b'").unwrap();
        assert_eq!((peer.check(), peer.topic("feature").as_str()), (Ok(()), "/a/b/nestling/feature"));
    }
}

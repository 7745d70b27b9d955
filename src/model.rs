//! Models: specifications in TOML, shipped with the program or read from a file.

use std::path::Path;

use crate::net::spec::Spec;

/// Why a model cannot be loaded. The message names the file, the line and the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    #[error("{path}: {source}\n  what to do: name a model file, or one of the models shipped: {}", names())]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {problem}")]
    Parse { path: String, problem: String },
    #[error("{path}: {source}")]
    Plan {
        path: String,
        #[source]
        source: crate::net::error::PlanError,
    },
}

/// Models that the program carries, as (name, TOML).
pub const SHIPPED: &[(&str, &str)] = &[
    ("n5", include_str!("../models/n5.toml")),
    ("n6", include_str!("../models/n6.toml")),
    ("n18", include_str!("../models/n18.toml")),
    ("s100", include_str!("../models/s100.toml")),
    ("s330", include_str!("../models/s330.toml")),
    ("l100", include_str!("../models/l100.toml")),
    ("l400", include_str!("../models/l400.toml")),
    ("robot", include_str!("../models/robot.toml")),
    ("robot-colour", include_str!("../models/robot-colour.toml")),
    ("motion", include_str!("../models/motion.toml")),
    ("imu", include_str!("../models/imu.toml")),
    ("laser", include_str!("../models/laser.toml")),
    ("room", include_str!("../models/room.toml")),
    ("speech", include_str!("../models/speech.toml")),
    ("events", include_str!("../models/events.toml")),
    ("text", include_str!("../models/text.toml")),
    ("tail", include_str!("../models/tail.toml")),
];

fn names() -> String {
    SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Parses and checks a model; `path` is named in errors.
///
/// # Errors
/// [`ModelError::Parse`] with line and key, or [`ModelError::Plan`] with the layer.
pub fn parse(path: &str, text: &str) -> Result<Spec, ModelError> {
    let spec: Spec =
        toml::from_str(text).map_err(|e| ModelError::Parse { path: path.into(), problem: e.to_string() })?;
    crate::net::network::Network::new(&spec, crate::kernels::Kernels::Reference)
        .map_err(|source| ModelError::Plan { path: path.into(), source })?;
    Ok(spec)
}

/// A shipped model by its name, or a model file.
///
/// # Errors
/// As [`parse`], or [`ModelError::Read`].
pub fn load(name_or_path: &str) -> Result<Spec, ModelError> {
    if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
        return parse(&format!("models/{name}.toml"), text);
    }
    let text = std::fs::read_to_string(Path::new(name_or_path))
        .map_err(|source| ModelError::Read { path: name_or_path.into(), source })?;
    parse(name_or_path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_model_can_be_planned() {
        for (name, _) in SHIPPED {
            let spec = load(name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(spec.name, *name);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("m.toml", "name = 'x'\n[input]\nwidht = 3\n").unwrap_err().to_string();
        assert!(error.contains("m.toml") && error.contains("line 3") && error.contains("widht"), "{error}");
    }
}

//! `boards/NAME/board.toml`: what a board is, and whether a learner fits it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::image::Image;
use crate::kernels::Kernels;
use crate::learner::{Learner, Options, Plan};
use crate::net::error::PlanError;
use crate::net::spec::Spec;

/// What `board.toml` says; the firmware's build script reads the same file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub name: String,
    /// Target triple.
    pub target: String,
    /// Features of the firmware crate.
    #[serde(default)]
    pub cargo_features: Vec<String>,
    pub cpu: String,
    pub ram_bytes: usize,
    pub flash_bytes: usize,
    /// Room that the stack is to keep.
    pub stack_bytes: usize,
    /// Variables and code of the firmware beside the learner's block and the image, as measured.
    pub firmware_ram_bytes: usize,
    pub firmware_flash_bytes: usize,
    pub kernels: BoardKernels,
    pub input: BoardInput,
    /// Model of the firmware where none is named, from the board's folder.
    pub model: String,
    pub runner: Runner,
    pub qemu_machine: Option<String>,
    /// Name of the chip, for probe-rs.
    pub chip: Option<String>,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Bytes that firmware with a learner needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub ram: usize,
    pub flash: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoardKernels {
    Lean,
    Reference,
}

/// Where samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoardInput {
    Link,
    Imu,
    Camera,
}

/// How firmware comes onto the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    Qemu,
    ProbeRs,
    Uf2,
}

impl Board {
    /// The board `name` in `boards`, or else in `boards/` here or in the program's source tree.
    pub fn find(name: &str, boards: Option<&Path>) -> Result<Self, String> {
        let source_tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let folders = match boards {
            Some(folder) => vec![folder.to_path_buf()],
            None => vec![PathBuf::from("boards"), source_tree],
        };
        let file = |folder: &PathBuf| folder.join(name).join("board.toml");
        let Some(path) = folders.iter().map(file).find(|path| path.exists()) else {
            let mut names: Vec<String> = folders.iter().flat_map(|folder| names_in(folder)).collect();
            names.sort();
            names.dedup();
            let looked = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" and ");
            return Err(format!(
                "there is no board '{name}' in {looked}\n  what to do: name one of {}, or say --boards DIR",
                names.join(", ")
            ));
        };
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut board: Board = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        board.folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(board)
    }

    /// The model that the firmware has where none is named.
    pub fn default_model(&self) -> Result<Spec, crate::model::ModelError> {
        crate::model::load(&self.folder.join(&self.model).display().to_string())
    }

    /// The firmware's kernels.
    fn kernels(&self) -> Kernels {
        match self.kernels {
            BoardKernels::Lean => Kernels::Lean,
            BoardKernels::Reference => Kernels::Reference,
        }
    }

    /// What the learner of `image` takes of the board's memory.
    ///
    /// # Errors
    /// The plan's.
    pub fn plan(&self, image: &Image) -> Result<(Options, Plan, Needs), PlanError> {
        let options = image.board_options(self.kernels());
        let plan = Learner::plan(image.spec(), &options)?;
        // Where lessons are judged the firmware holds a feature of its own.
        let feature = if image.spec().guard.canaries > 0 { plan.feature_dim } else { 0 };
        let needs = Needs {
            ram: plan.block_len() + feature + self.firmware_ram_bytes + self.stack_bytes,
            flash: image.total_bytes() + self.firmware_flash_bytes,
        };
        Ok((options, plan, needs))
    }

    /// As [`Board::plan`] for people; an error where it does not fit.
    pub fn check(&self, image: &Image) -> Result<String, Box<dyn std::error::Error>> {
        let (_, plan, needs) = self.plan(image)?;
        if needs.ram > self.ram_bytes || needs.flash > self.flash_bytes {
            return Err(format!(
                "model {} does not fit board {}: it wants {} bytes of RAM of {}, and {} of flash of {}\n  what to do: take \
                 a smaller model, or a smaller [replay] capacity, [guard] canaries = 0, [optimizer] memory",
                image.spec().name, self.name, needs.ram, self.ram_bytes, needs.flash, self.flash_bytes
            )
            .into());
        }
        Ok(format!(
            "board {} ({}): {} bytes of {} of RAM, of which the learner {}, the stack {}; {} of {} of flash, of which the \
             image {}",
            self.name,
            self.cpu,
            needs.ram,
            self.ram_bytes,
            plan.block_len(),
            self.stack_bytes,
            needs.flash,
            self.flash_bytes,
            image.total_bytes()
        ))
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let boards = entries.filter(|entry| entry.path().join("board.toml").exists());
    boards.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

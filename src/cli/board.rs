//! `boards/NAME/board.toml`: what a board is, and whether a learner fits it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::image::Image;
use crate::kernels::Kernels;
use crate::learner::Learner;
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

    /// What a learner of `spec` takes of the board's memory; an error where that is too much.
    pub fn check(&self, image: &Image) -> Result<String, Box<dyn std::error::Error>> {
        let (spec, bytes) = (image.spec(), image.total_bytes());
        let block = Learner::plan(spec, &image.board_options(self.kernels()))?.block_len();
        let needed = block + self.stack_bytes;
        if needed > self.ram_bytes || bytes > self.flash_bytes {
            return Err(format!(
                "model {} does not fit board {}: its learner and the stack want {needed} bytes of RAM of {}, its image \
                 {bytes} bytes of flash of {}\n  what to do: take a smaller model, or a smaller [replay] capacity, \
                 [guard] canaries = 0, [optimizer] memory",
                spec.name, self.name, self.ram_bytes, self.flash_bytes
            )
            .into());
        }
        Ok(format!(
            "board {} ({}): the learner takes {block} bytes of {} of RAM beside {} of stack, the image {bytes} of {} of flash",
            self.name, self.cpu, self.ram_bytes, self.stack_bytes, self.flash_bytes
        ))
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let boards = entries.filter(|entry| entry.path().join("board.toml").exists());
    boards.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

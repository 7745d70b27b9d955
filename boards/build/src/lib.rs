//! What the build script of every board does: [`build`].
//!
//! It reads `board.toml`, takes the image named by `NESTLING_IMAGE` or makes one of the board's default model, plans the
//! learner's memory for the board's kernels, and writes `firmware.rs`, which the board includes, and the linker's check
//! that the stack keeps its room.

use std::path::{Path, PathBuf};
use std::{env, fs};

use nestling::image::{self, Image};
use nestling::kernels::Kernels;
use nestling::learner::Learner;
use nestling::link;
use nestling::model;
use nestling::net::spec::InputKind;
use nestling::sample::Seed;
use serde::Deserialize;

/// `board.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the keys that only the host's program reads are checked here too")]
struct Board {
    name: String,
    target: String,
    cargo_features: Vec<String>,
    cpu: String,
    ram_bytes: usize,
    flash_bytes: usize,
    stack_bytes: usize,
    firmware_ram_bytes: usize,
    firmware_flash_bytes: usize,
    kernels: String,
    input: Input,
    model: String,
    runner: String,
    qemu_machine: Option<String>,
    chip: Option<String>,
}

/// Where the samples come from.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Input {
    Link,
    Imu,
    Camera,
}

impl Input {
    const fn name(self) -> &'static str {
        match self {
            Input::Link => "link",
            Input::Imu => "imu",
            Input::Camera => "camera",
        }
    }
}

/// See the crate. To be called by a board's build script, in its folder.
///
/// # Panics
/// With what is wrong and what to do; cargo shows it.
pub fn build() {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let text = read(&folder.join("board.toml"));
    let board: Board = toml::from_str(&text).unwrap_or_else(|problem| panic!("board.toml: {problem}"));
    for variable in ["NESTLING_IMAGE", "NESTLING_INPUT"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=board.toml");
    println!("cargo:rerun-if-changed=memory.x");
    let input = env::var("NESTLING_INPUT").unwrap_or(board.input.name().into());
    println!("cargo:rustc-check-cfg=cfg(input, values(\"link\", \"imu\", \"camera\"))");
    println!("cargo:rustc-cfg=input=\"{input}\"");

    let image = image(&folder, &board);
    let plan = match Learner::plan(image.spec(), &image.board_options(kernels(&board))) {
        Ok(plan) => plan,
        Err(problem) => panic!("{}: {problem}", image.spec().name),
    };
    let spec = image.spec().input.clone();
    let window = if spec.kind == InputKind::Window { spec.width * spec.channels } else { 0 };
    assert!(
        (spec.kind == InputKind::Image) == (input != "imu") || input == "link",
        "{} does not fit the input {input} of board {}; name a model that does with NESTLING_IMAGE, or set NESTLING_INPUT",
        image.spec().name,
        board.name,
    );
    let feature = if image.spec().guard.canaries > 0 { plan.feature_dim } else { 0 };
    // Samples arrive in the learner's block; a board with a sensor is sent nothing but short questions.
    let (block, frame) = (plan.block_len(), if input == "link" { 0 } else { link::buffer_len(0) });
    let taken = block + frame + feature + board.stack_bytes;
    assert!(
        taken <= board.ram_bytes,
        "{} wants {block} bytes for its learner, {frame} for frames, {feature} for a feature, and the board {} for its \
         stack: {taken} bytes, and it has {}; take a smaller model, or set [guard] canaries = 0",
        image.spec().name,
        board.stack_bytes,
        board.ram_bytes,
    );
    let Board { name, kernels, .. } = &board;
    let kernels = KERNELS.iter().find(|(key, ..)| key == kernels).map_or("", |(_, _, rust)| rust);
    let source = format!(
        r#"/// Numbers of a window of readings; 0: the model takes images.
pub const WINDOW: usize = {window};

/// What the loop needs.
///
/// # Panics
/// When it is called a second time.
pub fn firmware() -> nestling_firmware::Firmware {{
    use nestling_firmware::{{Aligned, ConstStaticCell, Firmware, Kernels, Learner}};
    static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/image.bin")));
    static LEARNER: ConstStaticCell<Option<Learner<'static>>> = ConstStaticCell::new(None);
    static BLOCK: ConstStaticCell<[u8; {block}]> = ConstStaticCell::new([0; {block}]);
    static FRAME: ConstStaticCell<[u8; {frame}]> = ConstStaticCell::new([0; {frame}]);
    static FEATURE: ConstStaticCell<[i8; {feature}]> = ConstStaticCell::new([0; {feature}]);
    Firmware {{
        board: "{name}",
        kernels: {kernels},
        image: &IMAGE.0,
        learner: LEARNER.take(),
        block: BLOCK.take(),
        frame: FRAME.take(),
        feature: FEATURE.take(),
    }}
}}
"#
    );
    write(&out.join("firmware.rs"), &source);
    let room = board.stack_bytes;
    write(
        &out.join("stack.x"),
        &format!(
            "ASSERT(_stack_start - _stack_end >= {room}, \"less than {room} bytes are left for the stack; take a smaller model\");\n"
        ),
    );
    write(&out.join("memory.x"), &read(&folder.join("memory.x")));
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["--nmagic", "-Tlink.x", "-Tstack.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Ways of the kernels, as `board.toml` calls them, here and in the firmware.
const KERNELS: [(&str, Kernels, &str); 2] =
    [("lean", Kernels::Lean, "Kernels::Lean"), ("reference", Kernels::Reference, "Kernels::Reference")];

fn kernels(board: &Board) -> Kernels {
    let Some((_, kernels, _)) = KERNELS.iter().find(|(name, ..)| *name == board.kernels) else {
        let names: Vec<_> = KERNELS.iter().map(|(name, ..)| *name).collect();
        panic!("board.toml: there are no kernels {}; choose one of {names:?}", board.kernels);
    };
    *kernels
}

/// The image that `NESTLING_IMAGE` names, or one of the board's default model; a copy lies in `OUT_DIR`.
fn image(folder: &Path, board: &Board) -> Image<'static> {
    let bytes = match env::var_os("NESTLING_IMAGE") {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|problem| panic!("NESTLING_IMAGE={}: {problem}", path.display()))
        }
        None => {
            let path = folder.join(&board.model);
            println!("cargo:rerun-if-changed={}", path.display());
            let spec = model::parse(&board.model, &read(&path)).unwrap_or_else(|problem| panic!("{problem}"));
            image::to_bytes(&spec, Seed(1), None, None)
        }
    };
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("image.bin"), &bytes).expect("OUT_DIR is writable");
    // For as long as this program runs.
    let words = Box::leak(vec![0u64; bytes.len().div_ceil(8)].into_boxed_slice());
    let aligned = bytemuck::cast_slice_mut(words);
    aligned[..bytes.len()].copy_from_slice(&bytes);
    Image::parse(aligned).unwrap_or_else(|problem| panic!("the image: {problem}"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
}

//! `seed` prints the names of the targets, `seed FOLDER` writes the seeds of each into a folder of its own there.

use std::path::Path;

use nestling_fuzz::{seeds::seeds, targets::TARGETS};

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1);
    for target in TARGETS {
        let Some(folder) = &folder else {
            println!("{}", target.name);
            continue;
        };
        let folder = Path::new(folder).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, bytes) in seeds(target.name).iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), bytes)?;
        }
    }
    Ok(())
}

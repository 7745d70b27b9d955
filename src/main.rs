//! The `nestling` program; all of it is in [`nestling::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    nestling::cli::main()
}

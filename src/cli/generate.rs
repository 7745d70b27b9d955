//! `nestling generate`: manual pages, and the completions of a shell, from the same words as `--help`. Packages hold both.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use super::{Cli, Outcome, Told};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Write a manual page for nestling and for each verb into a folder.
    Man {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the completions of a shell on standard output.
    Completions { shell: Shell },
}

pub fn run(args: &Args) -> Outcome {
    let mut command = Cli::command();
    match &args.what {
        What::Man { folder } => {
            let io = |e: std::io::Error| format!("{}: {e}", folder.display());
            std::fs::create_dir_all(folder).map_err(io)?;
            clap_mangen::generate_to(command, folder).map_err(io)?;
            let pages = std::fs::read_dir(folder).map_err(io)?.count();
            let text = format!("{} holds {pages} files; read one with `man -l FILE`", folder.display());
            Ok(Told { text, json: json!({ "folder": folder, "files": pages }) })
        }
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command, "nestling", &mut text);
            let text = String::from_utf8(text)?;
            Ok(Told { json: json!({ "completions": text }), text })
        }
    }
}

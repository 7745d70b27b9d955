//! What of a profile works on the machine at hand, and what to do about the rest: `nestling doctor --board FILE`.
//!
//! Files are looked at below a [`Root`], so that tests have machines of their own; what must answer (cameras, parts on a bus,
//! lines) is asked through [`Hardware`]. Nothing is changed: no line is taken, no sensor set up, no file written.

mod files;
mod hardware;
mod machine;
mod pins;
mod root;
mod sources;

use serde::Serialize;

pub use hardware::{Disk, Hardware, Here, LineUse};
pub use root::Root;

use crate::board::{BoardError, Profile};

/// Width of the text for people, and of its first two columns.
const WIDTH: usize = 110;
const COLUMNS: (usize, usize) = (6, 14);

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Ok,
    /// It will run, but not as well as it could, or not for sure.
    Warn,
    /// It will not run, or without this.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub check: String,
    pub status: Standing,
    pub found: String,
    /// What to do.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Check { check: check.into(), status: Standing::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (check, found, remedy) = (check.into(), found.into(), Some(remedy.into()));
        Check { check, status: Standing::Warn, found, remedy }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { status: Standing::Fail, ..Self::warn(check, found, remedy) }
    }
}

/// What a daemon of the profile would hold.
#[derive(Clone, Debug)]
pub struct Planned {
    pub model: String,
    pub weights: usize,
    /// Parts of memory, `(name, bytes)`.
    pub parts: Vec<(&'static str, usize)>,
}

impl Planned {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| *bytes as u64).sum()
    }
}

/// All checks of a profile.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub board: String,
    pub checks: Vec<Check>,
}

impl Report {
    /// A profile that cannot be used at all.
    pub fn refused(board: &str, error: &BoardError) -> Self {
        let remedy = match error {
            BoardError::Io { .. } => {
                "name a profile; the folder boards/ has some, /etc/nestling/board.toml is the service's"
            }
            _ => "mend the line; boards/linux.toml has every key",
        };
        Report { board: board.into(), checks: vec![Check::fail("profile", error.to_string(), remedy)] }
    }

    /// Tries each line of `profile`, read from the file `board`. `planned` is what its model would take, or why that cannot
    /// be said.
    pub fn of(
        board: &str,
        profile: &Profile,
        planned: Result<&Planned, &str>,
        root: &Root,
        hardware: &dyn Hardware,
    ) -> Self {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let parts = [
            count(profile.source.len(), "source"),
            count(profile.controller.len(), "controller"),
            count(profile.pin.len(), "pin"),
            count(profile.button.len(), "button"),
        ];
        let mut checks = vec![Check::ok("profile", format!("{}: {}", profile.name, parts.join(", ")))];
        checks.push(root.user_check());
        checks.extend(sources::check(profile, root, hardware));
        checks.extend(pins::check(profile, root, hardware));
        checks.extend(machine::check(profile, planned, root, hardware));
        checks.extend(files::check(profile, planned.ok(), root, hardware));
        Report { board: board.into(), checks }
    }

    /// Checks that came out so.
    pub fn count(&self, status: Standing) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// For people: a line for each check, and what to do below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let word = match check.status {
                Standing::Ok => "ok",
                Standing::Warn => "warn",
                Standing::Fail => "FAIL",
            };
            let head = format!("{word:<w$}{:<n$}", check.check, w = COLUMNS.0, n = COLUMNS.1);
            // A long name has a line of its own.
            let head = if check.check.len() < COLUMNS.1 { head } else { format!("{head}\n{}", " ".repeat(indent())) };
            text += &head;
            text += &wrapped(&check.found, "");
            if let Some(remedy) = &check.remedy {
                text += &" ".repeat(indent());
                text += &wrapped(&format!("-> {remedy}"), "   ");
            }
        }
        let (ok, warn, fail) = (self.count(Standing::Ok), self.count(Standing::Warn), self.count(Standing::Fail));
        text + &format!("\n{}: {ok} ok, {warn} to look at, {fail} failed", self.board)
    }
}

fn indent() -> usize {
    COLUMNS.0 + COLUMNS.1
}

/// `text` in lines that fit beside the columns; all but the first begin with `hang`.
fn wrapped(text: &str, hang: &str) -> String {
    let mut lines = String::new();
    let mut width = indent();
    for (i, word) in text.split_whitespace().enumerate() {
        let len = word.chars().count();
        if i > 0 && width + 1 + len > WIDTH {
            lines += &format!("\n{}{hang}", " ".repeat(indent()));
            width = indent() + hang.len();
        } else if i > 0 {
            lines.push(' ');
            width += 1;
        }
        lines += word;
        width += len;
    }
    lines + "\n"
}

/// Bytes for people.
fn mb(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_stay_beside_the_columns_and_lose_no_word() {
        let found = "word ".repeat(60);
        let report = Report { board: "b".into(), checks: vec![Check::fail("a-name-of-many-letters", found, "this")] };
        let text = report.text();
        assert_eq!(text.matches("word").count(), 60);
        for line in text.lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
        assert!(text.contains("\n                    -> this\n") && text.ends_with("b: 0 ok, 0 to look at, 1 failed"));
    }
}

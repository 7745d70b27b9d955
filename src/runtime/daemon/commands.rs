//! Programs that controllers start when they decide something else. They get the decision in their environment and run one at
//! a time for each controller: what was decided meanwhile follows when one ends, the newest only.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::status::Shared;
use crate::control::Decision;
use crate::control::config::ControllerTable;

/// Decisions that may wait.
const QUEUE: usize = 16;
/// Programs are looked after this often while one runs.
const TICK: Duration = Duration::from_millis(50);

/// The sending end.
pub struct Commands {
    send: SyncSender<(usize, Decision)>,
    thread: JoinHandle<()>,
}

impl Commands {
    /// A thread that starts the commands of `tables`; `None` where there are none.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(tables: &[ControllerTable], shared: std::sync::Arc<Shared>) -> Result<Option<Self>, String> {
        if tables.iter().all(|table| table.command.is_empty()) {
            return Ok(None);
        }
        let (send, decisions) = sync_channel(QUEUE);
        let runners: Vec<Runner> =
            tables.iter().map(|table| Runner { table: table.clone(), child: None, next: None, told: false }).collect();
        let run = move || run(runners, &decisions, &shared);
        let thread = std::thread::Builder::new().name("nestling-command".into()).spawn(run);
        thread
            .map(|thread| Some(Commands { send, thread }))
            .map_err(|e| format!("cannot start the thread for commands: {e}"))
    }

    /// Starts the command of the controller at `place` for `decision`, unless too many wait.
    pub fn send(&self, place: usize, decision: &Decision) -> bool {
        self.send.try_send((place, decision.clone())).is_ok()
    }

    /// Starts what was decided last; nobody waits for these programs.
    pub fn finish(self) {
        drop(self.send);
        let _ = self.thread.join();
    }
}

struct Runner {
    table: ControllerTable,
    child: Option<Child>,
    next: Option<Decision>,
    told: bool,
}

fn run(mut runners: Vec<Runner>, decisions: &Receiver<(usize, Decision)>, shared: &Shared) {
    loop {
        let busy = runners.iter().any(|runner| runner.child.is_some());
        let next = match busy {
            true => decisions.recv_timeout(TICK),
            false => decisions.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok((place, decision)) => runners[place].next = Some(decision),
            Err(RecvTimeoutError::Timeout) => {}
            // The last decision was the safe one: it is still carried out.
            Err(RecvTimeoutError::Disconnected) => {
                runners.iter_mut().for_each(|runner| runner.finish(shared));
                return;
            }
        }
        runners.iter_mut().for_each(|runner| runner.go_on(shared));
    }
}

impl Runner {
    fn go_on(&mut self, shared: &Shared) {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) if status.success() => {}
                _ => self.tell(shared, "it ended with an error"),
            }
            self.child = None;
        }
        let Some(decision) = self.next.take() else { return };
        match self.command(&decision).spawn() {
            Ok(child) => self.child = Some(child),
            Err(problem) => self.tell(shared, &problem.to_string()),
        }
    }

    fn command(&self, decision: &Decision) -> Command {
        let values: Vec<String> = decision.values.iter().map(f64::to_string).collect();
        let mut command = Command::new(&self.table.command[0]);
        command
            .args(&self.table.command[1..])
            .stdin(Stdio::null())
            // Standard output is the features'.
            .stdout(Stdio::null())
            .env("NESTLING_CONTROLLER", &self.table.name)
            .env("NESTLING_VALUE", values.join(" "))
            .env("NESTLING_LABEL", decision.label.as_deref().unwrap_or(""))
            .env("NESTLING_ALARM", decision.alarm.map_or(String::new(), |alarm| alarm.to_string()))
            .env("NESTLING_CONFIDENCE", format!("{:.3}", decision.confidence))
            .env("NESTLING_SAFE", decision.safe.unwrap_or(""));
        command
    }

    /// Counts a failure, and tells the first.
    fn tell(&mut self, shared: &Shared, problem: &str) {
        shared.control.change(|s| s.commands_failed += 1);
        if !self.told {
            self.told = true;
            let (name, program) = (&self.table.name, &self.table.command[0]);
            eprintln!("nestling: the command of {name}, {program}: {problem}; later failures are counted only");
        }
    }

    fn finish(&mut self, shared: &Shared) {
        if self.next.is_some() {
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            self.go_on(shared);
        }
    }
}

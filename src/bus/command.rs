//! Commands that come by a way out, such as a topic of a broker: who answers them, on a thread of its own, as teaching takes its
//! time and nothing that is received may wait for it.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Longest command.
pub const MOST_BYTES: usize = 4096;
/// Commands that may wait.
const QUEUE: usize = 8;

/// Answers the bytes of a command: `{"ok":true,"value":…}` or `{"ok":false,"error":"…"}`, on one line. The daemon's is
/// `runtime::daemon::control::Entry::answer`.
pub type Answer = Arc<dyn Fn(&[u8]) -> String + Send + Sync>;

/// Takes commands one after another.
pub struct Clerk {
    commands: SyncSender<Vec<u8>>,
}

impl Clerk {
    /// Answers go to `reply`. Its thread ends when this is dropped and what waits was answered.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(answer: Answer, reply: impl Fn(String) + Send + 'static) -> Result<Self, String> {
        let (commands, come) = sync_channel::<Vec<u8>>(QUEUE);
        let work = move || come.iter().for_each(|command| reply(answer(&command)));
        let thread = std::thread::Builder::new().name("nestling-command".into()).spawn(work);
        thread.map(|_| Clerk { commands }).map_err(|e| format!("cannot start the thread for commands: {e}"))
    }

    /// Has `command` answered.
    ///
    /// # Errors
    /// The answer, where it is refused at once.
    pub fn take(&self, command: &[u8]) -> Result<(), String> {
        if command.len() > MOST_BYTES {
            return Err(refusal("a command is no longer than 4096 bytes"));
        }
        self.commands.try_send(command.to_vec()).map_err(|_| refusal("too many commands wait; try again later"))
    }
}

/// An answer that says `why` nothing was done; plain text without quotes.
pub fn refusal(why: &str) -> String {
    format!("{{\"ok\":false,\"error\":\"{why}\"}}")
}

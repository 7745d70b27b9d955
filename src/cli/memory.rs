//! The learner's one block of memory, taken when a verb begins: it is there then, or an error says what is missing.

use super::settings::UsageError;
use crate::learner::Plan;

/// A zeroed block for a learner of `plan`. Its pages are touched, so that nothing is left to fail later.
///
/// # Errors
/// [`UsageError`] where the system has not so much, with the bytes wanted and what to change.
pub fn block(plan: &Plan) -> Result<Vec<u8>, UsageError> {
    let wanted = plan.block_len();
    let refused = |there: String| {
        UsageError(format!(
            "the learner wants {wanted} bytes of memory and {there}\n  what to do: take a smaller model, fewer samples in replay \
             (--set replay.capacity=N) or --lean; `nestling plan` shows what takes how much"
        ))
    };
    // Linux promises more than it has, and ends the process that takes it at its word.
    if let Some(free) = available().filter(|free| *free < wanted as u64) {
        return Err(refused(format!("the system has {free} left")));
    }
    let mut block = Vec::new();
    block.try_reserve_exact(wanted).map_err(|_| refused("the system gives less".into()))?;
    block.resize(wanted, 0);
    Ok(block)
}

/// Bytes that can be had without swapping, where the system tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

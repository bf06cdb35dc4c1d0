//! W7: what a gateway holds is bounded. Its order (W1), its answers (W3, W5) and its attempts (W2) are judged by what clients saw; its
//! view of the metadata (W4) with all others (C11, `controller.rs`).

use crate::world::ProcessId;

/// The memory that requests and answers take.
pub fn memory(gateway: ProcessId, used: usize, budget: usize) -> Result<(), String> {
    if used <= budget { Ok(()) } else { Err(format!("W7: {gateway} holds {used} bytes of {budget}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_keeps_within_its_budget() {
        assert_eq!(memory(ProcessId::Gateway(1), 10, 10), Ok(()));
        assert!(memory(ProcessId::Gateway(1), 11, 10).unwrap_err().starts_with("W7"));
    }
}

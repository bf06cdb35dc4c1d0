//! Long random lives without power loss: the real log equals the twin after every operation and every restart.

use crate::{
    support::Disk,
    twin::{Generator, Twin, note_epochs, perform},
};

fn live(seed: u64, operations: usize) {
    let mut disk = Disk::new();
    let (mut store, report) = disk.open();
    assert!(report.is_new);
    let (mut twin, mut generator) = (Twin::default(), Generator::new(seed));
    for step in 0..operations {
        let operation = generator.next(&twin);
        perform(&store, &twin, &operation).unwrap_or_else(|error| panic!("step {step}: {operation:?}: {error:?}"));
        twin = twin.after(&operation);
        note_epochs(&mut twin);
        match generator.random.below(100) {
            0..2 => {
                store.shutdown().unwrap();
                drop(store);
                let report;
                (store, report) = disk.open();
                assert!(report.was_clean && report.replayed_blocks == 0, "{report:?}");
            }
            2..5 => {
                // The process dies, the machine does not.
                drop(store);
                let report;
                (store, report) = disk.open();
                assert!(!report.was_clean);
            }
            5..30 => {}
            _ => continue,
        }
        twin.check_equal(&store);
    }
    twin.check_equal(&store);
}

#[test]
fn the_log_equals_its_dumb_twin_through_restarts() {
    for seed in 0..40 {
        live(seed, 400);
    }
}

//! Makes a trace smaller that fails, so that it still fails in the same way: fewer faults, then fewer clients, groups, topics and partitions,
//! and faults again.
//!
//! Faults are taken out by delta debugging (Zeller and Hildebrandt, 2002): halves, quarters and so on, until no single one can go. What
//! ends the trouble stays, for a cluster that is never healed fails in another way. The result is small, not the smallest.

use crate::faults::List;
use crate::trace::file::TraceFile;
use crate::world::Time;

/// What failed, apart from the numbers: the invariant's id, or what a panic says.
pub fn identity(failure: &str) -> String {
    let first = failure.lines().next().unwrap_or_default();
    match first.split_once(':') {
        Some((id, _)) if !id.contains(' ') => id.to_owned(),
        _ => first.chars().filter(|c| !c.is_ascii_digit()).collect(),
    }
}

/// `still_fails` runs a trace and says whether it fails as the first one did.
pub fn shrink(trace: TraceFile, mut still_fails: impl FnMut(&TraceFile) -> bool) -> TraceFile {
    let fewer = without_faults(trace, &mut still_fails);
    let smaller = smaller_shape(fewer, &mut still_fails);
    without_faults(smaller, &mut still_fails)
}

fn without_faults(trace: TraceFile, still_fails: &mut impl FnMut(&TraceFile) -> bool) -> TraceFile {
    let end = Time(trace.shape.trouble_ms * 1000);
    let (mut faults, ends): (List, List) = trace.faults.iter().cloned().partition(|(at, _)| *at < end);
    let with = |faults: &[_]| TraceFile { faults: [faults, &ends].concat(), ..trace.clone() };
    let mut parts = 1;
    while !faults.is_empty() && parts <= faults.len() {
        let size = faults.len().div_ceil(parts);
        let without = |from: usize| [&faults[..from], &faults[(from + size).min(faults.len())..]].concat();
        let found = (0..faults.len()).step_by(size).map(without).find(|fewer| still_fails(&with(fewer)));
        match found {
            Some(fewer) => {
                faults = fewer;
                parts = parts.saturating_sub(1).max(1);
            }
            None => parts *= 2,
        }
        // The last round takes them one by one.
        if parts > faults.len() && size > 1 {
            parts = faults.len();
        }
    }
    with(&faults)
}

fn smaller_shape(mut trace: TraceFile, still_fails: &mut impl FnMut(&TraceFile) -> bool) -> TraceFile {
    loop {
        let shapes = trace.shape.smaller();
        let candidates = shapes.into_iter().map(|shape| TraceFile { shape, ..trace.clone() });
        match candidates.into_iter().find(|smaller| still_fails(smaller)) {
            Some(smaller) => trace = smaller,
            None => return trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shape;
    use crate::faults::Fault;
    use crate::world::ProcessId;

    fn trace(faults: usize) -> TraceFile {
        let shape = Shape::default();
        let kill = |number: usize| (Time(number as u64), Fault::Kill { process: ProcessId::Storage(number as i32) });
        let mut faults: List = (0..faults).map(kill).collect();
        faults.push((Time(shape.trouble_ms * 1000), Fault::Heal));
        TraceFile { commit: String::new(), seed: 1, shape, faults, failure: None, hash: 0 }
    }

    fn kills(trace: &TraceFile, id: i32) -> bool {
        trace.faults.iter().any(|(_, fault)| *fault == Fault::Kill { process: ProcessId::Storage(id) })
    }

    #[test]
    fn only_what_is_needed_stays_and_what_heals() {
        for (faults, needed) in [(100, vec![17, 62, 63]), (7, vec![6]), (64, vec![0, 63]), (1, vec![0]), (50, vec![])] {
            let small = shrink(trace(faults), |trace| needed.iter().all(|&id| kills(trace, id)));
            assert_eq!(small.faults.len(), needed.len() + 1, "{needed:?} of {faults}");
            assert!(needed.iter().all(|&id| kills(&small, id)));
            assert_eq!(small.faults.last().map(|(_, fault)| fault), Some(&Fault::Heal));
        }
    }

    #[test]
    fn it_takes_few_runs() {
        let mut runs = 0;
        shrink(trace(200), |trace| {
            runs += 1;
            kills(trace, 150)
        });
        assert!(runs < 100, "{runs} runs");
    }

    #[test]
    fn the_shape_becomes_smaller_as_long_as_it_fails() {
        let small = shrink(trace(3), |trace| trace.shape.clients >= 2 && trace.shape.partitions() >= 1);
        assert_eq!((small.shape.clients, small.shape.partitions()), (2, 1));
    }

    #[test]
    fn failures_are_the_same_when_their_invariant_is() {
        assert_eq!(identity("R2: 3 anomalies\nLost: ..."), identity("R2: 1 anomalies"));
        assert_ne!(identity("R2: 3 anomalies"), identity("R6: 3 anomalies"));
        assert_eq!(identity("invariant R5 broken: isr 1"), identity("invariant R5 broken: isr 2"));
    }
}

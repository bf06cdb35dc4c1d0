//! One offset, one value, for ever (R10): whoever acknowledges an offset and whoever reads it must mean the same record.
//!
//! Tested in `tests/histories/`.

use base_types::Offset;

use crate::history::{OperationId, Partition, Value};
use crate::judge::Rows;
use crate::verdict::{Finding, Kind, Verdict};

/// The offsets at which two values are. What else is odd about their records follows from that, and is no anomaly of its own.
pub struct Conflicts {
    places: Vec<(Partition, Offset)>,
}

impl Conflicts {
    pub fn contains(&self, partition: Partition, offset: Offset) -> bool {
        self.places.binary_search(&(partition, offset)).is_ok()
    }
}

/// Somebody said that this value is at this offset. The fields are in the order in which claims are compared.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    partition: Partition,
    offset: Offset,
    value: Value,
    by: OperationId,
}

pub fn judge(rows: &Rows<'_>, verdict: &mut Verdict) -> Conflicts {
    let acknowledged = rows.attempts.iter().filter_map(|attempt| {
        let offset = attempt.told()?;
        Some(Claim { partition: attempt.sent.partition, offset, value: attempt.sent.value, by: attempt.id })
    });
    let read = rows.sightings.iter().map(|sighting| Claim {
        partition: sighting.partition,
        offset: sighting.offset,
        value: sighting.value,
        by: sighting.poll,
    });
    let mut claims: Vec<Claim> = acknowledged.chain(read).collect();
    claims.sort_unstable();
    let mut places = Vec::new();
    for claims in claims.chunk_by(|a, b| (a.partition, a.offset) == (b.partition, b.offset)) {
        let first = &claims[0];
        if let Some(other) = claims.iter().find(|claim| claim.value != first.value) {
            places.push((first.partition, first.offset));
            verdict.anomalies.push(Finding::new(
                Kind::Inconsistent,
                first.partition,
                Some(first.offset),
                first.value,
                [first.by, other.by],
            ));
        }
    }
    Conflicts { places }
}

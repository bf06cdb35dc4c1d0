//! Which runs are asked for: `--seed N`, or from `--first N` on, in one of the shapes.

use std::ops::Range;

use sim::cluster::Shape;

use super::Refusal;
use super::arguments::Arguments;

pub struct Shapes {
    kind: Kind,
    faults: Option<u64>,
    member_faults: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Small,
    Groups,
}

/// Seeds one after the other.
pub struct Seeds {
    pub first: u64,
    /// `None`: no end.
    pub count: Option<u64>,
    pub is_one: bool,
}

impl Shapes {
    pub fn of(arguments: &mut Arguments) -> Result<Shapes, Refusal> {
        let (small, groups) = (arguments.flag("--small"), arguments.flag("--groups"));
        let kind = match (small, groups) {
            (true, true) => return Err(Refusal::Usage("--small and --groups exclude each other".to_owned())),
            (true, false) => Kind::Small,
            (false, true) => Kind::Groups,
            (false, false) => Kind::Whole,
        };
        let (faults, member_faults) = (arguments.number("--faults")?, arguments.number("--member-faults")?);
        Ok(Shapes { kind, faults, member_faults })
    }

    pub fn shape(&self, seed: u64) -> Shape {
        let mut shape = match self.kind {
            Kind::Whole => Shape::whole(seed),
            Kind::Small => Shape::default(),
            Kind::Groups => Shape::of_groups(),
        };
        shape.faults = self.faults.unwrap_or(shape.faults);
        shape.member_faults = self.member_faults.unwrap_or(shape.member_faults);
        shape
    }

    /// In the names of traces.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Whole => "whole",
            Kind::Small => "small",
            Kind::Groups => "groups",
        }
    }

    /// The options that lead here, for a command to type.
    pub fn options(&self) -> String {
        let mut words = Vec::new();
        if self.kind != Kind::Whole {
            words.push(format!("--{}", self.name()));
        }
        words.extend(self.faults.map(|faults| format!("--faults {faults}")));
        words.extend(self.member_faults.map(|faults| format!("--member-faults {faults}")));
        words.join(" ")
    }
}

impl Seeds {
    pub fn range(&self) -> Range<u64> {
        self.first..self.count.map_or(u64::MAX, |count| self.first.saturating_add(count))
    }

    /// `default`: how many, if nothing is said.
    pub fn of(arguments: &mut Arguments, default: Option<u64>) -> Result<Seeds, Refusal> {
        let (seed, first) = (arguments.number("--seed")?, arguments.number("--first")?);
        let count = arguments.number("--seeds")?;
        match (seed, first, count) {
            (Some(seed), None, None) => Ok(Seeds { first: seed, count: Some(1), is_one: true }),
            (None, first, count) => Ok(Seeds { first: first.unwrap_or(1), count: count.or(default), is_one: false }),
            _ => Err(Refusal::Usage("--seed is one seed; many are --first and --seeds".to_owned())),
        }
    }
}

//! Which kinds of fault a seed has at all, and how strong they are (swarm testing: Groce and others, 2012). A run in which everything
//! goes wrong at once hides what shows only when one thing does, again and again.

use std::fmt;
use std::str::FromStr;

use base_types::Random;

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    Kill "kill",
    PowerLoss "power-loss",
    TornWrite "torn-write",
    PowerLossOfAll "power-loss-of-all",
    Wipe "wipe",
    RollingRestart "rolling-restart",
    Pause "pause",
    LongPause "long-pause",
    Cut "cut",
    Isolation "isolation",
    Reset "reset",
    ClockJump "clock-jump",
    ClockDrift "clock-drift",
    ReadError "read-error",
    WriteError "write-error",
    SyncError "sync-error",
    FullDisk "full-disk",
    SlowDisk "slow-disk",
    Configure "configure",
    Reassign "reassign",
    Elect "elect",
    Recreate "recreate",
}

/// The trouble of one seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swarm {
    /// A bit for each kind that there is.
    kinds: u32,
    /// Mostly a message takes at most this, now and then twenty times as long. 0: the network draws it.
    pub delay_micros_max: u64,
    /// Of messages: what TCP sends again, so that they and all behind them are late.
    pub loss_per_mille: u64,
    /// Of messages: on which the stream is reset.
    pub resets_per_million: u64,
}

impl Swarm {
    /// Of these kinds, on a network that is merely slow at times.
    pub fn of(kinds: &[Kind]) -> Swarm {
        let kinds = kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        Swarm { kinds, delay_micros_max: 0, loss_per_mille: 0, resets_per_million: 0 }
    }

    /// Each kind in half of the seeds; loss in half of them, at up to 30 %.
    pub fn draw(random: &mut Random) -> Swarm {
        let on: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| random.chance(500)).collect();
        Swarm {
            delay_micros_max: random.between(200, 4_000),
            loss_per_mille: if random.chance(500) { random.between(1, 10) * random.between(1, 30) } else { 0 },
            resets_per_million: if random.chance(500) { random.between(1, 1_000) } else { 0 },
            ..Swarm::of(if on.is_empty() { &[Kind::Kill] } else { &on })
        }
    }

    pub fn has(self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0
    }

    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }
}

impl Kind {
    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// `delay:loss:resets:kind,kind`.
impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.kinds().map(Kind::name).collect();
        let Swarm { delay_micros_max, loss_per_mille, resets_per_million, .. } = self;
        write!(f, "{delay_micros_max}:{loss_per_mille}:{resets_per_million}:{}", kinds.join(","))
    }
}

impl FromStr for Swarm {
    type Err = ();

    fn from_str(text: &str) -> Result<Swarm, ()> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        let (delay_micros_max, loss_per_mille, resets_per_million) = (number()?, number()?, number()?);
        let names = parts.next().ok_or(())?;
        let named = |name: &str| Kind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(());
        let kinds: Vec<Kind> =
            names.split(',').filter(|name| !name.is_empty()).map(named).collect::<Result<_, ()>>()?;
        Ok(Swarm { delay_micros_max, loss_per_mille, resets_per_million, ..Swarm::of(&kinds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_is_read_back_as_it_was_written_and_seeds_differ() {
        let mut random = Random::new(1);
        let swarms: Vec<Swarm> = (0..100).map(|_| Swarm::draw(&mut random)).collect();
        for swarm in &swarms {
            assert_eq!(swarm.to_string().parse(), Ok(*swarm));
        }
        assert_ne!(swarms[0], swarms[1]);
        assert_eq!(Swarm::of(&[]).to_string().parse(), Ok(Swarm::of(&[])));
        assert_eq!("0:0:0:kill,magic".parse::<Swarm>(), Err(()));
        for &kind in Kind::ALL {
            let with = swarms.iter().filter(|swarm| swarm.has(kind)).count();
            assert!((20..80).contains(&with), "{kind:?} in {with} of 100");
        }
    }
}

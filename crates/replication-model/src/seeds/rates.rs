//! How often each thing goes wrong, in a thousand chances. Half of them never do in any one run: what hides behind a frequent
//! fault is found where that fault is missing.

use base_types::Random;

#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Letters of streams that have ended.
    pub late: u64,
    pub break_stream: u64,
    /// Proposals and the controller's answers.
    pub lose: u64,
    /// Proposals that arrive more than once.
    pub repeat: u64,
    pub fail_over: u64,
    pub fence: u64,
    pub crash: u64,
    /// Crashes that take the disks along.
    pub wipe: u64,
    /// Topics that are acknowledged from the page cache.
    pub page_cache: u64,
    pub pause: u64,
    pub stop: u64,
    pub disk_full: u64,
    pub disk_fails: u64,
    pub unreadable: u64,
    /// Producers that send gaps, zombies and late retries.
    pub misbehave: u64,
    pub elect: u64,
    pub reassign: u64,
    pub min_isr: u64,
    pub recreate: u64,
    pub trim: u64,
    pub confirm: u64,
}

impl Rates {
    pub fn draw(random: &mut Random) -> Rates {
        let mut rate = |most: u64| if random.chance(500) { random.between(1, most) } else { 0 };
        let rates = Rates {
            late: rate(600),
            break_stream: rate(500),
            lose: rate(400),
            repeat: rate(400),
            fail_over: rate(100),
            fence: rate(250),
            crash: rate(250),
            wipe: rate(600),
            page_cache: rate(700),
            pause: rate(150),
            stop: rate(150),
            disk_full: rate(100),
            disk_fails: rate(20),
            unreadable: rate(100),
            misbehave: rate(300),
            elect: rate(200),
            reassign: rate(200),
            min_isr: rate(150),
            recreate: rate(60),
            trim: rate(100),
            confirm: rate(300),
        };
        // How much may be lost follows from the minimum: it stays as it is where that may happen.
        let rates = if rates.min_isr > 0 { Rates { wipe: 0, page_cache: 0, ..rates } } else { rates };
        // And where every crash may lose something, only one node at a time crashes: none for another reason.
        if rates.page_cache > 0 { Rates { disk_fails: 0, stop: 0, ..rates } } else { rates }
    }
}

//! Asks one gateway again and again what each group has committed, as lag monitors do. So what a coordinator loses, or takes
//! back, is noticed before a member covers it with its next commit (G3, G4).

use base_types::Tick;
use bytes::Bytes;
use kafka_wire::{OffsetFetchRequest, Uuid};

use super::member::{fetch_offsets, fetched_offsets};
use super::{Connection, Gateways, News, PAUSE_MS};
use crate::checkers::groups::{Asked, Group, Shared};
use crate::world::{Context, Input, Process};

const FETCH_VERSION: i16 = 8;
const ANSWER_MS_MAX: u64 = 12_000;
const PACE_MS: u64 = 30;

pub struct Auditor {
    groups: Vec<Group>,
    judge: Shared,
    connection: Connection,
    turn: usize,
    asked: Option<Asked>,
    wait_until: Option<Tick>,
}

impl Auditor {
    pub fn new(gateway: i32, groups: Vec<Group>, judge: Shared) -> Auditor {
        let connection = Connection::new(0, Gateways::Only(gateway));
        Auditor { groups, judge, connection, turn: 0, asked: None, wait_until: None }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.connection.is_free() && self.wait_until.is_none() {
            self.turn = (self.turn + 1) % self.groups.len();
            self.asked = Some(self.judge.borrow_mut().ask(self.turn, context.now.tick));
            let request = fetch_offsets(FETCH_VERSION, &self.groups[self.turn], Uuid::ZERO, None);
            self.connection.ask(context, FETCH_VERSION, &request, ANSWER_MS_MAX);
        }
    }

    fn answered(&mut self, context: &Context<'_>, frame: Bytes) {
        let answer = self.connection.decode::<OffsetFetchRequest>(frame, FETCH_VERSION);
        let pause_ms = match (fetched_offsets(FETCH_VERSION, answer), self.asked.take()) {
            (Ok(fetched), Some(asked)) => {
                self.judge.borrow_mut().fetches(self.turn, asked, &fetched, context.now.tick);
                PACE_MS
            }
            _ => PAUSE_MS,
        };
        self.wait_until = Some(context.now.tick.plus_ms(pause_ms));
    }
}

impl Process for Auditor {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        if let News::Answered(frame) = self.connection.handle(context, &input) {
            self.answered(context, frame);
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}

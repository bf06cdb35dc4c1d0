//! Sessions: who is connected, and what they have been told of the metadata.

use base_types::Now;
use peer_api::controller::{FromController, Role};
use peer_api::metadata::{MetadataOffset, Update};

use super::Controller;
use crate::effect::{Effect, Effects};
use crate::event::SessionId;

#[derive(Debug)]
pub(super) struct Session {
    /// Where the follower's view stands; `None` when it wants no updates.
    view: Option<View>,
    welcomed: bool,
}

#[derive(Clone, Copy, Debug)]
struct View {
    at: MetadataOffset,
    /// Nothing was sent yet: it is told something at once, so that it knows that it is up to date.
    fresh: bool,
}

impl Controller {
    pub(super) fn open(
        &mut self,
        now: Now,
        session: SessionId,
        role: Role,
        follow_from: Option<MetadataOffset>,
        effects: &mut Effects,
    ) {
        if !self.role.is_leader {
            self.turn_away(session, effects);
            return;
        }
        let view = follow_from.map(|at| View { at, fresh: true });
        self.sessions.insert(session, Session { view, welcomed: false });
        if let Role::Broker(id) = role {
            self.note_return(now, id, session);
        }
        if self.active {
            self.welcome_all(effects);
        }
    }

    pub(super) fn close(&mut self, now: Now, session: SessionId) {
        self.sessions.remove(&session);
        self.open_calls.retain(|(other, _), _| *other != session);
        self.reads.retain(|_, read| read.session != session);
        self.start_grace(now, session);
    }

    /// Those who came while this controller was about to become active.
    pub(super) fn welcome_all(&mut self, effects: &mut Effects) {
        for (id, session) in &mut self.sessions {
            if !session.welcomed {
                session.welcomed = true;
                effects.send(*id, FromController::Welcome { controller: self.config.id, term: self.role.term });
            }
        }
    }

    pub(super) fn dismiss_all(&mut self, effects: &mut Effects) {
        for session in std::mem::take(&mut self.sessions).into_keys() {
            self.turn_away(session, effects);
        }
    }

    fn turn_away(&self, session: SessionId, effects: &mut Effects) {
        effects.send(session, FromController::NotActive { active: self.known_leader() });
        effects.push(Effect::CloseSession { session });
    }

    /// Tells every follower what was committed since it was last told, and then the callers.
    pub(super) fn publish(&mut self, effects: &mut Effects) {
        if self.active {
            let at = self.committed.at();
            for (id, session) in &mut self.sessions {
                let Some(view) = session.view.filter(|view| view.fresh || view.at < at) else { continue };
                session.view = Some(View { at, fresh: false });
                let known = self.recent_from <= view.at.0 && view.at <= at;
                let update = if known {
                    let newer = self.recent.iter().filter(|(index, _)| *index > view.at.0);
                    let records = newer.flat_map(|(_, records)| records.iter().cloned()).collect();
                    Update::Delta { from: view.at, to: at, records }
                } else {
                    Update::Snapshot { at, records: self.committed.to_records() }
                };
                effects.send(*id, FromController::Update(update));
            }
        }
        for (session, id, response) in std::mem::take(&mut self.late_answers) {
            self.answer(session, id, Ok(response), effects);
        }
    }
}

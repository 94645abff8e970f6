//! The contacts of a campaign that are still to be shown, and its progress.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Campaign, Contact};
use crate::preview::{AgentId, ControlId};

/// The progress of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CampaignProgress {
    /// Contacts of the campaign.
    pub contacts: usize,
    /// Contacts that were shown, in all rounds.
    pub shown: u64,
    /// Shown contacts that are over.
    pub over: u64,
}

/// The contacts that are still to be shown.
pub(super) struct Contacts {
    pub(super) campaign: Campaign,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Contact>,
    next_control_id: u64,
    progress: CampaignProgress,
}

impl Contacts {
    pub(super) fn new(campaign: Campaign) -> Arc<Self> {
        let progress = CampaignProgress { contacts: campaign.contacts.len(), shown: 0, over: 0 };
        let waiting = campaign.contacts.clone().into();
        let state = Mutex::new(State { waiting, next_control_id: campaign.first_control_id, progress });
        Arc::new(Self { campaign, state })
    }

    pub(super) fn progress(&self) -> CampaignProgress {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).progress
    }

    /// The next contact of this agent, and its control ID.
    pub(super) fn next(&self, agent: AgentId) -> Option<(Contact, ControlId)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |contact: &Contact| contact.agent.is_none_or(|wanted| wanted == agent);
        let position = state.waiting.iter().position(meant)?;
        let contact = state.waiting.remove(position)?;
        if self.campaign.repeat {
            state.waiting.push_back(contact.clone());
        }
        let control_id = ControlId(i64::try_from(state.next_control_id).unwrap_or(i64::MAX));
        state.next_control_id += 1;
        state.progress.shown += 1;
        Some((contact, control_id))
    }

    /// Counts a shown contact as over.
    pub(super) fn one_is_over(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).progress.over += 1;
    }
}

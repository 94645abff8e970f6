//! A campaign that runs by itself: it shows contacts to agents, one after the other, and plans the calls.

use std::sync::Arc;

use super::agents::Agents;
use super::contacts::Contacts;
use super::offer::Offer;
use super::shared::Shared;
use crate::config::{Campaign, Contact};
use crate::preview::{AgentId, ControlId};

/// Starts the campaign: each of its agents is served as soon as it is signed in.
pub(super) fn start(shared: &Arc<Shared>) {
    let Some(running) = &shared.campaign else { return };
    for agent in running.campaign.agents.iter().copied() {
        shared.spawn(serve(Arc::clone(shared), Arc::clone(running), agent));
    }
}

async fn serve(shared: Arc<Shared>, running: Arc<Contacts>, agent: AgentId) {
    loop {
        // An agent who is not available at the end of the pause gets another pause.
        shared.agents.until(|agents| agents.is_available(agent)).await;
        tokio::time::sleep(running.campaign.pace).await;
        if !shared.agents.is_available(agent) {
            continue;
        }
        let Some((contact, control_id)) = running.next(agent) else { return };
        show(&shared, &running.campaign, agent, &contact, control_id).await;
        running.one_is_over();
    }
}

/// Shows one contact, and waits until it is over. A contact is over when it was called, was given back, or was not called
/// in time, and when the session ends.
async fn show(shared: &Shared, campaign: &Campaign, agent: AgentId, contact: &Contact, control_id: ControlId) {
    let numbers = contact.numbers.split(',').count();
    let offer = Offer::new(control_id.to_string(), numbers);
    let Some(session) = shared.agents.offer(agent, offer, contact.plan) else { return };
    let shape = &shared.config.events;
    let event = contact.event.or(campaign.event);
    shared.agents.inject(agent, shape.preview_of(agent, control_id, &contact.numbers, event, &contact.call_data));
    let over = shared.agents.until(|agents| agents.offer_is_over(agent, session));
    let in_time = tokio::time::timeout(campaign.preview_time, over).await;
    if in_time.is_err() {
        // An agent who is calling at this moment keeps the contact until the call is over.
        let has_no_call = |agents: &Agents| agents.activity(agent).is_none_or(|activity| activity.calls.is_empty());
        shared.agents.until(|agents| agents.offer_is_over(agent, session) || has_no_call(agents)).await;
    }
    if shared.agents.guid_of_session(agent, session).is_some() {
        shared.agents.inject(agent, shape.release(agent));
    }
}

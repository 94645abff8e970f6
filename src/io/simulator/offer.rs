//! A contact that a campaign offers to an agent, until it is over.

use super::telephone::{Call, Caused};

/// One contact and its state.
#[derive(Debug)]
pub(super) struct Offer {
    control_id: String,
    /// Numbers that may still be tried after a call that failed.
    untried: usize,
    /// The agent calls it at this moment.
    calling: bool,
    over: bool,
}

impl Offer {
    /// A contact with this number of telephone numbers.
    pub(super) fn new(control_id: String, numbers: usize) -> Self {
        Self { control_id, untried: numbers, calling: false, over: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The agent gave a preview back.
    pub(super) fn cancelled(&mut self, control_id: &str) {
        self.over |= control_id == self.control_id;
    }

    /// Calls of the agent have changed, and caused these events. After a call that failed, another number of the contact
    /// may be tried; after any other, the contact is over.
    pub(super) fn follow(&mut self, calls: &[Call], caused: &Caused) {
        let calling = calls.iter().any(|call| call.control_id.as_deref() == Some(&self.control_id));
        match (self.calling, calling) {
            (false, true) => self.untried = self.untried.saturating_sub(1),
            (true, false) => {
                let failed = caused.iter().any(|(event_type, _)| *event_type == "AgentEvent_Call_Out_Fail");
                self.over |= !failed || self.untried == 0;
            }
            (false, false) | (true, true) => {}
        }
        self.calling = calling;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::telephone::Telephone;

    #[test]
    fn a_contact_is_over_when_its_numbers_were_tried_or_a_call_has_ended() {
        let (mut telephone, mut offer) = (Telephone::default(), Offer::new("7".to_owned(), 2));
        for (call, over) in [("c-1", false), ("c-2", true)] {
            let caused = telephone.dial(call, "100", Some("7")).unwrap();
            offer.follow(telephone.calls(), &caused);
            let caused = telephone.fail(call);
            offer.follow(telephone.calls(), &caused);
            assert_eq!(offer.is_over(), over, "{call}");
        }
        let mut answered = Offer::new("8".to_owned(), 2);
        let caused = telephone.dial("c-3", "100", Some("8")).unwrap();
        answered.follow(telephone.calls(), &caused);
        let caused = telephone.connect("c-3");
        answered.follow(telephone.calls(), &caused);
        assert!(!answered.is_over());
        let caused = telephone.release().unwrap();
        answered.follow(telephone.calls(), &caused);
        assert!(answered.is_over());
        let mut cancelled = Offer::new("9".to_owned(), 1);
        cancelled.cancelled("8");
        assert!(!cancelled.is_over());
        cancelled.cancelled("9");
        assert!(cancelled.is_over());
    }
}

//! An agent's telephone: its calls, and whether the agent is busy. Pure: each change returns the events that it causes.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::failure::Failure;

/// Events that a change causes, in order: type and content.
pub(super) type Caused = Vec<(&'static str, Value)>;

const PHONE_ALERTING: &str = "AgentOther_PhoneAlerting";
const PHONE_OFFHOOK: &str = "AgentOther_PhoneOffhook";
const PHONE_RELEASE: &str = "AgentOther_PhoneRelease";
const RINGING: &str = "AgentEvent_Ringing";
const TALKING: &str = "AgentEvent_Talking";
const HOLD: &str = "AgentEvent_Hold";
const CALL_OUT_FAIL: &str = "AgentEvent_Call_Out_Fail";
const CALL_RELEASE: &str = "AgentEvent_Call_Release";
const CUSTOMER_RELEASE: &str = "AgentEvent_Customer_Release";
const TRANSFERRED: &str = "AgentEvent_SuccTransResult";
const BUSY: &str = "AgentState_SetNotReady_Success";
const NOT_BUSY: &str = "AgentState_CancelNotReady_Success";
const READY: &str = "AgentState_Ready";

/// The state of a call, seen from its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallState {
    /// It rings.
    Alerting,
    Talking,
    Held,
}

impl CallState {
    /// The state in the answers of the simulator's own interface.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Alerting => "alerting",
            Self::Talking => "talking",
            Self::Held => "held",
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: String,
    /// The number at the other end.
    pub(super) number: String,
    /// The control ID of the preview that it follows from.
    pub(super) control_id: Option<String>,
    pub(super) state: CallState,
    /// The time at which it entered this state.
    pub(super) since: Instant,
}

impl Call {
    fn new(id: &str, number: &str, control_id: Option<&str>) -> Self {
        Self {
            id: id.to_owned(),
            number: number.to_owned(),
            control_id: control_id.map(str::to_owned),
            state: CallState::Alerting,
            since: Instant::now(),
        }
    }

    fn enter(&mut self, state: CallState) {
        self.state = state;
        self.since = Instant::now();
    }

    fn content(&self) -> Value {
        json!({"callid": self.id, "otherPhone": self.number})
    }
}

/// The calls of an agent's telephone, and whether the agent is busy.
#[derive(Debug, Default)]
pub(super) struct Telephone {
    calls: Vec<Call>,
    busy: bool,
}

impl Telephone {
    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// The call that is not on hold; there is at most one.
    fn active(&mut self) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.state != CallState::Held)
    }

    /// Whether the agent can be called or can call: at most a call on hold.
    pub(super) fn is_free(&self) -> bool {
        self.calls.iter().all(|call| call.state == CallState::Held)
    }

    /// A callout: the agent's telephone rings.
    pub(super) fn dial(&mut self, id: &str, number: &str, control_id: Option<&str>) -> Result<Caused, Failure> {
        self.begin(PHONE_ALERTING, Call::new(id, number, control_id))
    }

    /// A call that another agent has transferred.
    pub(super) fn ring(&mut self, id: &str, number: &str) -> Result<Caused, Failure> {
        self.begin(RINGING, Call::new(id, number, None))
    }

    fn begin(&mut self, event: &'static str, call: Call) -> Result<Caused, Failure> {
        if !self.is_free() {
            return Err(Failure::InACall);
        }
        let content = call.content();
        self.calls.push(call);
        Ok(vec![(event, content)])
    }

    /// The agent answers the ringing call.
    pub(super) fn answer(&mut self) -> Result<Caused, Failure> {
        let call = self.active().filter(|call| call.state == CallState::Alerting);
        call.map(connected).ok_or(Failure::NothingToAnswer)
    }

    /// The called person answers. No event if the call is over or was answered before.
    pub(super) fn connect(&mut self, id: &str) -> Caused {
        let call = self.active().filter(|call| call.id == id && call.state == CallState::Alerting);
        call.map(connected).unwrap_or_default()
    }

    /// The called person does not answer: the call ends.
    pub(super) fn fail(&mut self, id: &str) -> Caused {
        let rings = |call: &Call| call.id == id && call.state == CallState::Alerting;
        self.remove(rings).map_or_else(Vec::new, |call| self.after(vec![(CALL_OUT_FAIL, call.content())], &call))
    }

    pub(super) fn hold(&mut self) -> Result<Caused, Failure> {
        let call = self.active().ok_or(Failure::NothingToHold)?;
        if call.state != CallState::Talking {
            return Err(Failure::NotTalking);
        }
        call.enter(CallState::Held);
        Ok(vec![(HOLD, call.content())])
    }

    /// Takes a call back: the one of this ID, or the one that has been on hold for the longest time.
    pub(super) fn take_back(&mut self, id: Option<&str>) -> Result<Caused, Failure> {
        let free = self.is_free();
        let wanted = |call: &&mut Call| call.state == CallState::Held && id.is_none_or(|id| id == call.id);
        let call = self.calls.iter_mut().find(wanted).ok_or(Failure::NothingOnHold)?;
        if !free {
            return Err(Failure::AnotherCall);
        }
        call.enter(CallState::Talking);
        Ok(vec![(TALKING, call.content())])
    }

    /// The agent hangs up.
    pub(super) fn release(&mut self) -> Result<Caused, Failure> {
        let call = self.remove(|call| call.state != CallState::Held).ok_or(Failure::NothingToRelease)?;
        Ok(self.after(vec![(CALL_RELEASE, call.content())], &call))
    }

    /// The customer hangs up, also while on hold. Without ID: the customer of the present call.
    pub(super) fn customer_hangs_up(&mut self, id: Option<&str>) -> Option<Caused> {
        let meant = |call: &Call| id.map_or(call.state != CallState::Held, |id| call.id == id);
        let call = self.remove(|call| meant(call) && call.state != CallState::Alerting)?;
        let released = vec![(CUSTOMER_RELEASE, call.content()), (CALL_RELEASE, call.content())];
        Some(self.after(released, &call))
    }

    /// Gives the present call away. With `reports`, an event tells the agent about it.
    pub(super) fn transfer(&mut self, reports: bool) -> Result<(Call, Caused), Failure> {
        let talks = |call: &Call| call.state == CallState::Talking;
        let call = self.remove(talks).ok_or(Failure::NothingToTransfer)?;
        let mut caused = Vec::new();
        if reports {
            caused.push((TRANSFERRED, json!({"callid": call.id})));
        }
        caused.push((CALL_RELEASE, call.content()));
        let caused = self.after(caused, &call);
        Ok((call, caused))
    }

    pub(super) fn say_busy(&mut self, reason: &str) -> Caused {
        self.busy = true;
        vec![(BUSY, json!({"reason": reason}))]
    }

    pub(super) fn say_free(&mut self) -> Caused {
        self.busy = false;
        let mut caused = vec![(NOT_BUSY, Value::Null)];
        if self.calls.is_empty() {
            caused.push((READY, Value::Null));
        }
        caused
    }

    fn remove(&mut self, meant: impl Fn(&Call) -> bool) -> Option<Call> {
        let position = self.calls.iter().position(meant)?;
        Some(self.calls.remove(position))
    }

    /// After the end of a call: the telephone is hung up, and the agent is ready for the next one.
    fn after(&self, mut caused: Caused, call: &Call) -> Caused {
        caused.push((PHONE_RELEASE, call.content()));
        if self.calls.is_empty() && !self.busy {
            caused.push((READY, Value::Null));
        }
        caused
    }
}

fn connected(call: &mut Call) -> Caused {
    call.enter(CallState::Talking);
    vec![(PHONE_OFFHOOK, call.content()), (TALKING, call.content())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(caused: &Caused) -> Vec<&str> {
        caused.iter().map(|(event, _)| *event).collect()
    }

    fn code(outcome: Result<Caused, Failure>) -> &'static str {
        outcome.map_or_else(Failure::retcode, |_| "0")
    }

    #[test]
    fn a_call_from_the_first_ring_to_the_end() {
        let mut telephone = Telephone::default();
        assert_eq!(types(&telephone.dial("c-1", "100", Some("7")).unwrap()), [PHONE_ALERTING]);
        assert_eq!(types(&telephone.connect("c-1")), [PHONE_OFFHOOK, TALKING]);
        assert!(telephone.connect("c-1").is_empty(), "it is connected");
        assert_eq!(types(&telephone.hold().unwrap()), [HOLD]);
        assert_eq!(types(&telephone.take_back(None).unwrap()), [TALKING]);
        assert_eq!(types(&telephone.release().unwrap()), [CALL_RELEASE, PHONE_RELEASE, READY]);
        assert!(telephone.calls().is_empty());
    }

    #[test]
    fn a_call_ends_without_an_answer_or_when_the_customer_hangs_up() {
        let mut telephone = Telephone::default();
        telephone.dial("c-1", "100", None).unwrap();
        let failed = telephone.fail("c-1");
        assert_eq!(types(&failed), [CALL_OUT_FAIL, PHONE_RELEASE, READY]);
        assert_eq!(failed[0].1, json!({"callid": "c-1", "otherPhone": "100"}));
        assert!(telephone.fail("c-1").is_empty() && telephone.connect("c-1").is_empty(), "it is over");
        telephone.dial("c-2", "100", None).unwrap();
        assert_eq!(telephone.customer_hangs_up(None), None, "it rings");
        telephone.answer().unwrap();
        assert!(telephone.fail("c-2").is_empty(), "it was answered");
        telephone.say_busy("0");
        let ended = telephone.customer_hangs_up(None).unwrap();
        assert_eq!(types(&ended), [CUSTOMER_RELEASE, CALL_RELEASE, PHONE_RELEASE], "a busy agent is not ready");
    }

    #[test]
    fn a_second_call_is_possible_only_while_the_first_is_on_hold() {
        let mut telephone = Telephone::default();
        telephone.dial("c-1", "100", None).unwrap();
        assert_eq!(code(telephone.dial("c-2", "101", None)), "200-036");
        assert_eq!(code(telephone.hold()), "200-014", "it rings");
        telephone.connect("c-1");
        telephone.hold().unwrap();
        telephone.dial("c-2", "101", None).unwrap();
        telephone.connect("c-2");
        assert_eq!(code(telephone.take_back(Some("c-1"))), "200-016");
        assert_eq!(code(telephone.take_back(Some("c-3"))), "200-015");
        assert_eq!(
            types(&telephone.release().unwrap()),
            [CALL_RELEASE, PHONE_RELEASE],
            "the first call is still there"
        );
        assert_eq!(types(&telephone.take_back(Some("c-1")).unwrap()), [TALKING]);
    }

    #[test]
    fn without_a_call_each_control_fails_with_its_own_code() {
        let mut telephone = Telephone::default();
        assert_eq!(code(telephone.answer()), "200-002");
        assert_eq!(code(telephone.hold()), "200-013");
        assert_eq!(code(telephone.take_back(None)), "200-015");
        assert_eq!(code(telephone.release()), "200-017");
        assert_eq!(code(telephone.transfer(true).map(|(_, caused)| caused)), "200-012");
        assert_eq!(types(&telephone.say_busy("201")), [BUSY]);
        assert_eq!(types(&telephone.say_free()), [NOT_BUSY, READY]);
    }

    #[test]
    fn a_transferred_call_rings_elsewhere() {
        let (mut one, mut other) = (Telephone::default(), Telephone::default());
        one.dial("c-1", "100", None).unwrap();
        one.connect("c-1");
        let (call, caused) = one.transfer(true).unwrap();
        assert_eq!(types(&caused), [TRANSFERRED, CALL_RELEASE, PHONE_RELEASE, READY]);
        assert_eq!(types(&other.ring(&call.id, &call.number).unwrap()), [RINGING]);
        assert_eq!(types(&other.answer().unwrap()), [PHONE_OFFHOOK, TALKING]);
    }
}

//! The state that a gateway hands to the process that takes over from it.
//!
//! The successor first gets all previews, as in a snapshot. From then on it gets each change that the earlier process
//! still makes: polls that it holds show previews until they are answered. An answer that changed something waits until
//! the successor has the change, because its client may ask the successor next. The changes and the wait are the same as
//! for a shared store.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::preview::{AgentId, Announcement, Change, ControlId, CountedCall, DialedNumber, Timestamp};

/// Longest that an answer waits until the successor has its changes.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// One change of one agent, numbered from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedChange {
    /// From 1.
    pub number: u64,
    /// Whose previews change.
    pub agent: AgentId,
    /// The change.
    pub change: Change,
    /// When it was made.
    pub at: Timestamp,
}

/// The way to the process that takes over.
#[derive(Debug)]
pub struct Succession {
    changes: UnboundedSender<NumberedChange>,
    sent: AtomicU64,
    acknowledged: watch::Receiver<Acknowledged>,
}

/// What the successor has.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    /// The number of the latest change.
    pub(crate) latest: u64,
    /// It forwards callouts of its own.
    pub serves: bool,
    /// Calls for which the number was used up there.
    pub(crate) refused: Arc<Mutex<BTreeSet<u64>>>,
}

impl Acknowledged {
    /// The successor has this change; or it is a call, and `used` says that it is one too many.
    pub fn note(&mut self, number: u64, used: bool) {
        if used {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        }
        self.latest = number;
    }
}

/// What the successor answers about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallAnswer {
    /// It counts the call too, or there is no successor.
    Counted,
    /// The number was called as often as it may be.
    Used,
    /// It did not answer.
    Unknown,
}

impl Succession {
    /// A way, its other end, and where the numbers of changes that the successor has are reported.
    pub fn new() -> (Self, UnboundedReceiver<NumberedChange>, watch::Sender<Acknowledged>) {
        let (changes, received) = unbounded_channel();
        let (acknowledge, acknowledged) = watch::channel(Acknowledged::default());
        (Self { changes, sent: AtomicU64::new(0), acknowledged }, received, acknowledge)
    }

    /// Hands on a change. The caller holds the lock of the agent.
    pub(super) fn add(&self, agent: AgentId, change: Change, at: Timestamp) -> u64 {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        // Without a receiver the successor has gone, and nothing is to be handed on.
        let _ = self.changes.send(NumberedChange { number, agent, change, at });
        number
    }

    /// Waits for what the successor says about the call with this number. It counts calls of its own meanwhile.
    pub(super) async fn answer_about(&self, number: u64) -> CallAnswer {
        let mut acknowledged = self.acknowledged.clone();
        let answer = acknowledged.wait_for(|known| known.latest >= number);
        match tokio::time::timeout(MAX_WAIT, answer).await {
            Ok(Ok(known)) => {
                let used = known.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                if used { CallAnswer::Used } else { CallAnswer::Counted }
            }
            // The takeover has failed, and this process serves on.
            Ok(Err(_)) if !self.acknowledged.borrow().serves => CallAnswer::Counted,
            Ok(Err(_)) | Err(_) => CallAnswer::Unknown,
        }
    }

    /// Waits until the successor has every change that was added so far, or is gone. Waits for a moment at most.
    pub(super) async fn handed_on(&self) {
        let number = self.sent.load(Ordering::Relaxed);
        let mut acknowledged = self.acknowledged.clone();
        let _ = tokio::time::timeout(MAX_WAIT, acknowledged.wait_for(|known| known.latest >= number)).await;
    }
}

/// A change as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    agent: u32,
    /// Absent from an earlier version: then it is taken as made just now.
    #[serde(default = "latest")]
    at: u64,
    #[serde(flatten)]
    kind: Kind,
}

fn latest() -> u64 {
    u64::MAX
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Shown { control_id: i64, numbers: Vec<String>, shown: Vec<String> },
    Cancelled(i64),
    Ended,
    EndedBefore(u64),
    Called { control_id: i64, called: String, id: String, at: u64 },
    CallReturned { control_id: i64, id: String },
}

impl NumberedChange {
    /// One line, with its line feed.
    pub fn to_line(&self) -> io::Result<String> {
        let kind = match &self.change {
            Change::Shown(announcement) => Kind::Shown {
                control_id: announcement.control_id.0,
                numbers: announcement.numbers.iter().map(|number| number.reveal().to_owned()).collect(),
                shown: announcement.shown.iter().map(ToString::to_string).collect(),
            },
            Change::Cancelled(control_id) => Kind::Cancelled(control_id.0),
            Change::Ended => Kind::Ended,
            Change::EndedBefore(moment) => Kind::EndedBefore(moment.0),
            Change::Called(control_id, call) => Kind::Called {
                control_id: control_id.0,
                called: call.number.reveal().to_owned(),
                id: call.id.to_string(),
                at: call.at.0,
            },
            Change::CallReturned(control_id, id) => Kind::CallReturned { control_id: control_id.0, id: id.to_string() },
        };
        let (number, agent, at) = (self.number, self.agent.as_u32(), self.at.0);
        let line = serde_json::to_string(&Line { number, agent, at, kind })?;
        Ok(line + "\n")
    }

    /// Reads what [`Self::to_line`] writes.
    pub fn read(line: &str) -> io::Result<Self> {
        let Line { number, agent, at, kind } = serde_json::from_str(line)?;
        let agent = AgentId::try_from(agent).map_err(|_| io::Error::other("a change of no agent"))?;
        let change = match kind {
            Kind::Shown { control_id, numbers, shown } => Change::Shown(Announcement {
                control_id: ControlId(control_id),
                numbers: numbers.into_iter().map(DialedNumber::new).collect(),
                shown: shown.iter().filter_map(|reference| reference.parse().ok()).collect(),
            }),
            Kind::Cancelled(control_id) => Change::Cancelled(ControlId(control_id)),
            Kind::Ended => Change::Ended,
            Kind::EndedBefore(moment) => Change::EndedBefore(Timestamp(moment)),
            Kind::Called { control_id, called, id, at } => {
                let id = id.parse().map_err(io::Error::other)?;
                let call = CountedCall { number: DialedNumber::new(called), id, at: Timestamp(at) };
                Change::Called(ControlId(control_id), call)
            }
            Kind::CallReturned { control_id, id } => {
                Change::CallReturned(ControlId(control_id), id.parse().map_err(io::Error::other)?)
            }
        };
        Ok(Self { number, agent, change, at: Timestamp(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::RecordId;

    fn agent() -> AgentId {
        AgentId::try_from(101).unwrap()
    }

    fn shown() -> Change {
        let numbers = vec![DialedNumber::new("100"), DialedNumber::new("+49 1")];
        Change::Shown(Announcement { control_id: ControlId(-7), numbers, shown: Vec::new() })
    }

    fn call_id() -> RecordId {
        RecordId { run: u64::MAX, number: 9 }
    }

    fn called() -> Change {
        let call = CountedCall { number: DialedNumber::new("+49 1"), id: call_id(), at: Timestamp(5) };
        Change::Called(ControlId(-7), call)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_word_of_the_successor() {
        let (succession, _received, acknowledge) = Succession::new();
        let first = succession.add(agent(), called(), Timestamp(5));
        let second = succession.add(agent(), called(), Timestamp(5));
        acknowledge.send_modify(|known| known.note(first, true));
        assert_eq!(succession.answer_about(first).await, CallAnswer::Used);
        assert_eq!(succession.answer_about(second).await, CallAnswer::Unknown, "no answer");
        acknowledge.send_modify(|known| known.note(second, false));
        assert_eq!(succession.answer_about(second).await, CallAnswer::Counted);
        let third = succession.add(agent(), called(), Timestamp(5));
        acknowledge.send_modify(|known| known.serves = true);
        drop(acknowledge);
        assert_eq!(succession.answer_about(third).await, CallAnswer::Unknown, "it may serve on");
        let (succession, _received, acknowledge) = Succession::new();
        let only = succession.add(agent(), called(), Timestamp(5));
        drop(acknowledge);
        assert_eq!(succession.answer_about(only).await, CallAnswer::Counted, "it never served");
    }

    #[test]
    fn every_change_survives_its_line() {
        let changes = [
            shown(),
            Change::Cancelled(ControlId(9)),
            Change::Ended,
            Change::EndedBefore(Timestamp(17)),
            called(),
            Change::CallReturned(ControlId(-7), call_id()),
        ];
        for (number, change) in (1..).zip(changes) {
            let change = NumberedChange { number, agent: agent(), change, at: Timestamp(5) };
            let line = change.to_line().unwrap();
            assert_eq!(NumberedChange::read(line.trim_end()).unwrap(), change, "{line}");
        }
        let untimed = NumberedChange::read("{\"number\":1,\"agent\":101,\"ended\":null}").unwrap();
        assert_eq!((untimed.change, untimed.at), (Change::Ended, Timestamp(u64::MAX)));
        assert!(NumberedChange::read("{\"number\":1,\"agent\":1,\"ended\":null}").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_until_the_successor_has_its_changes() {
        let (succession, mut received, acknowledge) = Succession::new();
        succession.handed_on().await;
        succession.add(agent(), shown(), Timestamp(5));
        succession.add(agent(), Change::Ended, Timestamp(5));
        let successor = async {
            assert_eq!(received.recv().await.unwrap().number, 1);
            assert_eq!(received.recv().await.unwrap().change, Change::Ended);
            tokio::time::sleep(MAX_WAIT / 2).await;
            acknowledge.send_modify(|known| known.latest = 2);
        };
        let begin = tokio::time::Instant::now();
        tokio::join!(succession.handed_on(), successor);
        assert_eq!(begin.elapsed(), MAX_WAIT / 2);
        // A successor that does not answer, and one that is gone.
        succession.add(agent(), shown(), Timestamp(5));
        succession.handed_on().await;
        assert!(begin.elapsed() >= MAX_WAIT * 3 / 2);
        drop(acknowledge);
        let begin = tokio::time::Instant::now();
        succession.handed_on().await;
        assert!(begin.elapsed().is_zero());
    }
}

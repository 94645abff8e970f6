//! The state that a gateway hands to the process that takes over from it.
//!
//! The successor first gets all previews, as in a snapshot. From then on it gets each change that the earlier process
//! still makes: polls that it holds show previews until they are answered. An answer that changed something waits until
//! the successor has the change, because its client may ask the successor next. The changes and the wait are the same as
//! for a shared store.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber, Timestamp};

/// Longest that an answer waits until the successor has its changes.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// One change of one agent, numbered from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NumberedChange {
    pub(crate) number: u64,
    pub(crate) agent: AgentId,
    pub(crate) change: Change,
    /// When it was made.
    pub(crate) at: Timestamp,
}

/// The way to the process that takes over.
#[derive(Debug)]
pub(crate) struct Succession {
    changes: UnboundedSender<NumberedChange>,
    sent: AtomicU64,
    acknowledged: watch::Receiver<u64>,
}

impl Succession {
    /// A way, its other end, and where the numbers of changes that the successor has are reported.
    pub(crate) fn new() -> (Self, UnboundedReceiver<NumberedChange>, watch::Sender<u64>) {
        let (changes, received) = unbounded_channel();
        let (acknowledge, acknowledged) = watch::channel(0);
        (Self { changes, sent: AtomicU64::new(0), acknowledged }, received, acknowledge)
    }

    /// Hands on a change. The caller holds the lock of the agent.
    pub(super) fn add(&self, agent: AgentId, change: Change, at: Timestamp) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        // Without a receiver the successor has gone, and nothing is to be handed on.
        let _ = self.changes.send(NumberedChange { number, agent, change, at });
    }

    /// Waits until the successor has every change that was added so far, or is gone. Waits for a moment at most.
    pub(super) async fn handed_on(&self) {
        let number = self.sent.load(Ordering::Relaxed);
        let mut acknowledged = self.acknowledged.clone();
        let _ = tokio::time::timeout(MAX_WAIT, acknowledged.wait_for(|latest| *latest >= number)).await;
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
}

impl NumberedChange {
    /// One line, with its line feed.
    pub(crate) fn to_line(&self) -> io::Result<String> {
        let kind = match &self.change {
            Change::Shown(announcement) => Kind::Shown {
                control_id: announcement.control_id.0,
                numbers: announcement.numbers.iter().map(|number| number.reveal().to_owned()).collect(),
                shown: announcement.shown.iter().map(ToString::to_string).collect(),
            },
            Change::Cancelled(control_id) => Kind::Cancelled(control_id.0),
            Change::Ended => Kind::Ended,
            Change::EndedBefore(moment) => Kind::EndedBefore(moment.0),
        };
        let (number, agent, at) = (self.number, self.agent.as_u32(), self.at.0);
        let line = serde_json::to_string(&Line { number, agent, at, kind })?;
        Ok(line + "\n")
    }

    pub(crate) fn read(line: &str) -> io::Result<Self> {
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
        };
        Ok(Self { number, agent, change, at: Timestamp(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        AgentId::try_from(101).unwrap()
    }

    fn shown() -> Change {
        let numbers = vec![DialedNumber::new("100"), DialedNumber::new("+49 1")];
        Change::Shown(Announcement { control_id: ControlId(-7), numbers, shown: Vec::new() })
    }

    #[test]
    fn every_change_survives_its_line() {
        let changes = [shown(), Change::Cancelled(ControlId(9)), Change::Ended, Change::EndedBefore(Timestamp(17))];
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
            acknowledge.send_replace(2);
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

//! What one agent was shown, and how events change it.

use super::{ControlId, DialedNumber, ShownRef, Timestamp};

/// One contact shown to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The platform's name for it.
    pub control_id: ControlId,
    /// Every number announced under this control ID, oldest announcement first, none twice.
    pub numbers: Vec<DialedNumber>,
    /// When the gateway saw the latest announcement.
    pub announced_at: Timestamp,
    /// Where the audit log shows the announcements, the oldest first. Empty without an audit log.
    pub shown: Vec<ShownRef>,
}

/// The content of one preview event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// `controlid`
    pub control_id: ControlId,
    /// The elements of `dialeddigits`; may be empty, the numbers can follow in a later event.
    pub numbers: Vec<DialedNumber>,
    /// Where the audit log shows it; several for a preview that is restored.
    pub shown: Vec<ShownRef>,
}

/// Something that changes what an agent may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A preview was announced.
    Shown(Announcement),
    /// One preview was given back.
    Cancelled(ControlId),
    /// Every preview of the agent is over.
    Ended,
    /// Every preview that was announced before this is over.
    EndedBefore(Timestamp),
}

/// How much is kept for one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Previews; the newest stay.
    pub per_agent: usize,
}

/// Numbers kept for one preview. `dialeddigits` holds 120 characters at most (protocol.md 5), so 60 numbers; an
/// upstream that announces for ever must not fill the memory.
const NUMBERS_PER_PREVIEW: usize = 128;

/// The previews of one agent, oldest announcement first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentPreviews(Vec<Preview>);

impl AgentPreviews {
    /// Applies one change that was seen at `now`; returns how many previews had to make room.
    pub fn apply(&mut self, change: Change, now: Timestamp, bounds: Bounds) -> usize {
        match change {
            Change::Shown(announcement) => self.show(announcement, now, bounds),
            Change::Cancelled(control_id) => {
                self.0.retain(|preview| preview.control_id != control_id);
                0
            }
            Change::Ended => {
                self.0.clear();
                0
            }
            Change::EndedBefore(moment) => {
                self.0.retain(|preview| preview.announced_at >= moment);
                0
            }
        }
    }

    /// The same control ID may be announced twice, first without and then with numbers: they add up (protocol.md 5).
    /// A repeated announcement is the newest one again.
    fn show(&mut self, announcement: Announcement, now: Timestamp, bounds: Bounds) -> usize {
        let known = self.0.iter().position(|preview| preview.control_id == announcement.control_id);
        let known = known.map(|position| self.0.remove(position));
        let (mut numbers, mut shown) = known.map(|known| (known.numbers, known.shown)).unwrap_or_default();
        for number in announcement.numbers {
            // Moved to the end when known, so that the newest stay when the bound is reached.
            numbers.retain(|kept| *kept != number);
            numbers.push(number);
        }
        keep_newest(&mut numbers, NUMBERS_PER_PREVIEW);
        shown.extend(announcement.shown);
        keep_newest(&mut shown, NUMBERS_PER_PREVIEW);
        self.0.push(Preview { control_id: announcement.control_id, numbers, announced_at: now, shown });
        keep_newest(&mut self.0, bounds.per_agent)
    }

    /// The preview with this control ID.
    pub fn find(&self, control_id: ControlId) -> Option<&Preview> {
        self.0.iter().find(|preview| preview.control_id == control_id)
    }

    /// Whether the agent has no preview.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many previews the agent has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Oldest announcement first.
    pub fn iter(&self) -> impl Iterator<Item = &Preview> {
        self.0.iter()
    }
}

/// Drops from the front; returns how many.
fn keep_newest<T>(items: &mut Vec<T>, most: usize) -> usize {
    let surplus = items.len().saturating_sub(most);
    items.drain(..surplus);
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { per_agent: 3 };

    fn shown(control_id: i64, numbers: &[&str]) -> Change {
        let numbers = numbers.iter().map(|n| DialedNumber::new(*n)).collect();
        Change::Shown(Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() })
    }

    fn after(changes: &[Change]) -> AgentPreviews {
        let mut previews = AgentPreviews::default();
        for (second, change) in changes.iter().enumerate() {
            previews.apply(change.clone(), Timestamp(second as u64 * 1000), BOUNDS);
        }
        previews
    }

    #[test]
    fn what_was_announced_since_a_moment_stays() {
        let previews =
            after(&[shown(1, &["1"]), shown(2, &["2"]), shown(1, &[]), Change::EndedBefore(Timestamp(2000))]);
        assert_eq!(control_ids(&previews), [1]);
    }

    fn control_ids(previews: &AgentPreviews) -> Vec<i64> {
        previews.iter().map(|p| p.control_id.0).collect()
    }

    #[test]
    fn numbers_of_one_control_id_add_up_and_the_announcement_is_renewed() {
        let previews = after(&[shown(1, &[]), shown(2, &["9"]), shown(1, &["5", "6"]), shown(1, &["6", "7"])]);
        assert_eq!(control_ids(&previews), [2, 1]);
        let first = previews.find(ControlId(1)).unwrap();
        let numbers: Vec<_> = first.numbers.iter().map(DialedNumber::reveal).collect();
        assert_eq!(numbers, ["5", "6", "7"]);
        assert_eq!(first.announced_at, Timestamp(3000));
    }

    #[test]
    fn the_newest_previews_stay() {
        let previews =
            after(&[shown(1, &["1"]), shown(2, &["2"]), shown(3, &["3"]), shown(4, &["4"]), shown(5, &["5"])]);
        assert_eq!(control_ids(&previews), [3, 4, 5]);
    }

    #[test]
    fn what_had_to_make_room_is_counted() {
        let mut previews = after(&[shown(1, &[]), shown(2, &[]), shown(3, &[])]);
        assert_eq!(previews.apply(shown(3, &["3"]), Timestamp(9), BOUNDS), 0);
        assert_eq!(previews.apply(shown(4, &["4"]), Timestamp(9), BOUNDS), 1);
    }

    #[test]
    fn an_upstream_that_announces_for_ever_fills_no_memory() {
        let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let previews = after(&[shown(1, &many)]);
        let numbers = &previews.find(ControlId(1)).unwrap().numbers;
        assert_eq!(numbers.len(), NUMBERS_PER_PREVIEW);
        assert_eq!(numbers.last().unwrap().reveal(), "9999");
    }

    #[test]
    fn ends() {
        let two = [shown(1, &["1"]), shown(2, &["2"])];
        assert_eq!(control_ids(&after(&[two[0].clone(), two[1].clone(), Change::Cancelled(ControlId(1))])), [2]);
        assert_eq!(control_ids(&after(&[two[0].clone(), Change::Cancelled(ControlId(9))])), [1]);
        assert!(after(&[two[0].clone(), two[1].clone(), Change::Ended]).is_empty());
        // What is announced after an end is good again.
        assert_eq!(control_ids(&after(&[two[0].clone(), Change::Ended, two[0].clone()])), [1]);
    }
}

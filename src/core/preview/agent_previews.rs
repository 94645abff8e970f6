//! What one agent was shown, and how events change it.
//!
//! Bounded by meaning, so that an upstream that announces without end cannot fill the memory, and so that each change
//! costs time in proportion to what it brings.

use std::collections::HashSet;

use super::{CallCount, ControlId, CountedCall, DialedNumber, RecordId, ShownRef, Timestamp};

/// Numbers kept for one preview; the newest stay. `dialeddigits` holds at most 120 characters (docs/protocol.md 5), so
/// at most 60 numbers.
pub const MAX_NUMBERS: usize = 128;
/// References of one preview: one for each number, and one for an announcement without numbers.
const MAX_REFERENCES: usize = MAX_NUMBERS + 1;
/// Bytes of one number. `dialeddigits` holds at most 24 characters for one number (docs/protocol.md 5). A longer one is
/// not kept.
pub const MAX_NUMBER_BYTES: usize = 64;
/// Memory for each preview that `per_agent` allows, on average: about twice what the largest documented one takes.
const AVERAGE_PREVIEW_BYTES: usize = 4096;
/// So many numbers are compared one by one. Nearly every preview has fewer; a set of more of them pays.
const FEW: usize = 16;
/// What a preview and a number take beside the characters of the numbers.
const PREVIEW_OVERHEAD: usize = 64;
const NUMBER_OVERHEAD: usize = 40;

/// One contact shown to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The platform's name for it.
    pub control_id: ControlId,
    /// Every number announced under this control ID, the oldest announcement first, none twice.
    pub numbers: Vec<ShownNumber>,
    /// When the gateway saw the latest announcement.
    pub announced_at: Timestamp,
    /// Where the audit log shows the announcements, the oldest first. Empty without an audit log.
    pub shown: Vec<ShownRef>,
    /// The calls of its numbers that `previews.calls_per_number` counts. A repeated announcement does not give them back.
    pub calls: CallCount,
}

/// A number of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownNumber {
    /// The number.
    pub number: DialedNumber,
    /// When the gateway last saw it announced. A later announcement of the same control ID without this number does not
    /// renew it.
    pub shown_at: Timestamp,
}

impl Preview {
    /// The number `called`, if it is one of this preview.
    pub fn find(&self, called: &DialedNumber) -> Option<&ShownNumber> {
        self.numbers.iter().find(|shown| shown.number == *called)
    }

    /// The numbers, the oldest announcement first.
    pub fn numbers(&self) -> impl Iterator<Item = &DialedNumber> {
        self.numbers.iter().map(|shown| &shown.number)
    }

    /// Keeps the numbers that were shown at a time that counts, and the references to their announcements: what refers to
    /// a number that is over must not explain a callout any more.
    pub fn retain_shown(&mut self, counts: impl Fn(Timestamp) -> bool) {
        self.numbers.retain(|number| counts(number.shown_at));
        self.shown.retain(|shown| shown.at.is_none_or(&counts));
    }

    /// Adds the references of an earlier announcement. Where there are too many, those go first that name no number which
    /// a later one does not name too.
    fn add_earlier_references(&mut self, mut earlier: Vec<ShownRef>) {
        if earlier.is_empty() {
            return;
        }
        earlier.retain(|known| self.shown.iter().all(|shown| shown.record != known.record));
        earlier.append(&mut self.shown);
        if earlier.len() > MAX_REFERENCES {
            let is_needed = |at| at == self.announced_at || self.numbers.iter().any(|number| number.shown_at == at);
            earlier.retain(|shown| shown.at.is_none_or(is_needed));
        }
        self.shown = earlier.split_off(earlier.len().saturating_sub(MAX_REFERENCES));
    }

    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let numbers = self.numbers().map(|number| NUMBER_OVERHEAD + number.reveal().len());
        numbers.sum::<usize>().saturating_add(PREVIEW_OVERHEAD).saturating_add(self.calls.bytes())
    }
}

/// The content of one preview event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// `controlid`
    pub control_id: ControlId,
    /// The elements of `dialeddigits`; may be empty, the numbers can follow in a later event.
    pub numbers: Vec<DialedNumber>,
    /// Where the audit log shows it; several for a preview that is restored.
    pub shown: Vec<ShownRef>,
}

/// Something that changes what an agent may call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A preview was announced.
    Shown(Announcement),
    /// One preview is over: given back by the agent, or released by the platform.
    Cancelled(ControlId),
    /// Every preview of the agent is over.
    Ended,
    /// Every preview and number that was announced before this is over.
    EndedBefore(Timestamp),
    /// A number of this preview is about to be called.
    Called(ControlId, CountedCall),
    /// That call was not sent: it does not count any more.
    CallReturned(ControlId, RecordId),
}

impl Change {
    /// The same by a clock that was set.
    #[must_use]
    pub fn redated(self, today: impl Fn(Timestamp) -> Timestamp) -> Self {
        match self {
            Self::EndedBefore(moment) => Self::EndedBefore(today(moment)),
            Self::Called(control_id, call) => Self::Called(control_id, CountedCall { at: today(call.at), ..call }),
            Self::Shown(_) | Self::Cancelled(_) | Self::Ended | Self::CallReturned(..) => self,
        }
    }

    /// Whether it ends this preview.
    pub fn ends(&self, preview: &Preview) -> bool {
        match self {
            Self::Shown(_) | Self::Called(..) | Self::CallReturned(..) => false,
            Self::Cancelled(control_id) => preview.control_id == *control_id,
            Self::Ended => true,
            Self::EndedBefore(moment) => preview.announced_at < *moment,
        }
    }

    /// The one preview that it ends; none if it ends all.
    pub fn ended_preview(&self) -> Option<ControlId> {
        match self {
            Self::Cancelled(control_id) => Some(*control_id),
            Self::Shown(_) | Self::Ended | Self::EndedBefore(_) | Self::Called(..) | Self::CallReturned(..) => None,
        }
    }

    /// Whether it ends a preview, or all of them.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Cancelled(_) | Self::Ended | Self::EndedBefore(_) => true,
            Self::Shown(_) | Self::Called(..) | Self::CallReturned(..) => false,
        }
    }
}

/// How much is kept for one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Previews; the newest stay.
    pub per_agent: usize,
}

impl Bounds {
    /// The most memory that the previews of one agent take.
    pub fn max_bytes(self) -> usize {
        self.per_agent.saturating_mul(AVERAGE_PREVIEW_BYTES)
    }
}

/// What was not kept because of a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surplus {
    /// Older previews of the same agent that had to make room.
    pub previews: usize,
    /// Numbers that were too many for one preview; the oldest go first.
    pub numbers: usize,
    /// Numbers that were too long.
    pub long_numbers: usize,
}

/// The previews of one agent, the oldest announcement first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentPreviews {
    previews: Vec<Preview>,
    /// The memory that they take, about.
    bytes: usize,
}

impl AgentPreviews {
    /// Applies one change that was seen at `now`; returns what was not kept.
    pub fn apply(&mut self, change: Change, now: Timestamp, bounds: Bounds) -> Surplus {
        self.apply_and_collect(change, now, bounds, &mut Vec::new())
    }

    /// Like [`Self::apply`]; adds the previews that had to make room to `evicted`.
    pub fn apply_and_collect(
        &mut self,
        change: Change,
        now: Timestamp,
        bounds: Bounds,
        evicted: &mut Vec<Preview>,
    ) -> Surplus {
        match change {
            Change::Shown(announcement) => return self.show(announcement, now, bounds, evicted),
            Change::Cancelled(control_id) => _ = self.take(control_id),
            Change::Ended => *self = Self::default(),
            Change::EndedBefore(moment) => {
                self.previews.retain(|preview| preview.announced_at >= moment);
                self.previews.iter_mut().for_each(|preview| preview.retain_shown(|at| at >= moment));
                self.previews.iter_mut().for_each(|preview| preview.calls.forget_before(moment));
                self.bytes = self.previews.iter().map(Preview::bytes).sum();
            }
            Change::Called(control_id, call) => self.change_calls(control_id, |calls| calls.add(call)),
            Change::CallReturned(control_id, id) => self.change_calls(control_id, |calls| calls.give_back(id)),
        }
        Surplus::default()
    }

    /// The same control ID may be announced twice, first without and then with numbers: they add up (docs/protocol.md
    /// 5). A repeated announcement is the newest one again, and renews the numbers that it names.
    fn show(
        &mut self,
        announcement: Announcement,
        now: Timestamp,
        bounds: Bounds,
        evicted: &mut Vec<Preview>,
    ) -> Surplus {
        let Announcement { control_id, numbers, shown: references } = announcement;
        let shown = numbers.into_iter().map(|number| ShownNumber { number, shown_at: now });
        let (numbers, mut surplus) = newest(shown);
        let shown = references.into_iter().map(|reference| ShownRef { at: Some(now), ..reference }).collect();
        let preview = Preview { control_id, numbers, announced_at: now, shown, calls: CallCount::default() };
        self.add(preview, bounds, &mut surplus, evicted);
        surplus
    }

    /// Puts back a preview that was kept elsewhere, with the times that it had. Previews are to be put back in the order
    /// of their announcements.
    pub fn restore(&mut self, preview: Preview, bounds: Bounds) -> Surplus {
        let (numbers, mut surplus) = newest(preview.numbers.into_iter());
        self.add(Preview { numbers, ..preview }, bounds, &mut surplus, &mut Vec::new());
        surplus
    }

    fn add(&mut self, mut preview: Preview, bounds: Bounds, surplus: &mut Surplus, evicted: &mut Vec<Preview>) {
        if let Some(known) = self.take(preview.control_id) {
            surplus.numbers += merge(known.numbers, &mut preview.numbers);
            preview.add_earlier_references(known.shown);
            preview.calls.join(known.calls);
        }
        self.bytes += preview.bytes();
        self.previews.push(preview);
        let excess = self.previews.len().saturating_sub(bounds.per_agent);
        let before = evicted.len();
        self.evict(excess, evicted);
        while self.bytes > bounds.max_bytes() && self.previews.len() > 1 {
            self.evict(1, evicted);
        }
        surplus.previews += evicted.len() - before;
    }

    fn change_calls(&mut self, control_id: ControlId, change: impl FnOnce(&mut CallCount)) {
        if let Some(preview) = self.previews.iter_mut().find(|preview| preview.control_id == control_id) {
            let before = preview.bytes();
            change(&mut preview.calls);
            self.bytes = self.bytes.saturating_sub(before).saturating_add(preview.bytes());
        }
    }

    /// Removes the oldest previews.
    fn evict(&mut self, count: usize, evicted: &mut Vec<Preview>) {
        for preview in self.previews.drain(..count) {
            self.bytes = self.bytes.saturating_sub(preview.bytes());
            evicted.push(preview);
        }
    }

    /// Gives everything a new time, by a clock that was set.
    pub fn redate(&mut self, today: impl Fn(Timestamp) -> Timestamp) {
        for preview in &mut self.previews {
            preview.announced_at = today(preview.announced_at);
            preview.numbers.iter_mut().for_each(|shown| shown.shown_at = today(shown.shown_at));
            preview.shown.iter_mut().for_each(|shown| shown.at = shown.at.map(&today));
            preview.calls =
                preview.calls.iter().map(|call| CountedCall { at: today(call.at), ..call.clone() }).collect();
        }
    }

    fn take(&mut self, control_id: ControlId) -> Option<Preview> {
        let position = self.previews.iter().position(|preview| preview.control_id == control_id)?;
        let preview = self.previews.remove(position);
        self.bytes = self.bytes.saturating_sub(preview.bytes());
        Some(preview)
    }

    /// The preview with this control ID.
    pub fn find(&self, control_id: ControlId) -> Option<&Preview> {
        self.previews.iter().find(|preview| preview.control_id == control_id)
    }

    /// Whether the agent has no preview.
    pub fn is_empty(&self) -> bool {
        self.previews.is_empty()
    }

    /// How many previews the agent has.
    pub fn len(&self) -> usize {
        self.previews.len()
    }

    /// The oldest announcement first.
    pub fn iter(&self) -> impl Iterator<Item = &Preview> {
        self.previews.iter()
    }
}

/// The last [`MAX_NUMBERS`] different numbers, none too long, in their order.
fn newest(numbers: impl DoubleEndedIterator<Item = ShownNumber>) -> (Vec<ShownNumber>, Surplus) {
    let mut kept: Vec<ShownNumber> = Vec::with_capacity(numbers.size_hint().0.min(MAX_NUMBERS));
    let (mut seen, mut surplus) = (HashSet::new(), Surplus::default());
    for shown in numbers.rev() {
        let is_known = |kept: &[ShownNumber]| kept.iter().take(FEW).any(|known| known.number == shown.number);
        if shown.number.reveal().len() > MAX_NUMBER_BYTES {
            surplus.long_numbers += 1;
        } else if kept.len() == MAX_NUMBERS {
            surplus.numbers += 1;
        } else if !is_known(&kept) && (kept.len() < FEW || seen.insert(shown.number.clone())) {
            kept.push(shown);
        }
    }
    kept.reverse();
    (kept, surplus)
}

/// Puts the numbers that were known before the new ones, except those that the new ones repeat. Returns how many of the
/// oldest did not fit.
fn merge(known: Vec<ShownNumber>, numbers: &mut Vec<ShownNumber>) -> usize {
    if known.is_empty() {
        return 0;
    }
    let (few, many) = numbers.split_at_checked(FEW).unwrap_or((numbers, &[]));
    let many: HashSet<&DialedNumber> = many.iter().map(|shown| &shown.number).collect();
    let is_repeated = |number: &DialedNumber| few.iter().any(|shown| shown.number == *number) || many.contains(number);
    let mut merged: Vec<_> = known.into_iter().filter(|shown| !is_repeated(&shown.number)).collect();
    merged.append(numbers);
    let surplus = merged.len().saturating_sub(MAX_NUMBERS);
    merged.drain(..surplus);
    *numbers = merged;
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
        let numbers: Vec<_> = first.numbers.iter().map(|n| (n.number.reveal(), n.shown_at.0)).collect();
        assert_eq!(numbers, [("5", 2000), ("6", 3000), ("7", 3000)]);
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
        assert_eq!(previews.apply(shown(3, &["3"]), Timestamp(9), BOUNDS), Surplus::default());
        let surplus = previews.apply(shown(4, &["4"]), Timestamp(9), BOUNDS);
        assert_eq!(surplus, Surplus { previews: 1, ..Surplus::default() });
    }

    #[test]
    fn a_preview_keeps_its_newest_numbers_within_the_bounds_and_reports_the_others() {
        let many: Vec<String> = (0..140_000).map(|n| n.to_string()).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (long, longest) = ("9".repeat(MAX_NUMBER_BYTES + 1), "8".repeat(MAX_NUMBER_BYTES));
        many.extend([long.as_str(), longest.as_str()]);
        let mut previews = AgentPreviews::default();
        let surplus = previews.apply(shown(1, &many), Timestamp(1), BOUNDS);
        assert_eq!((surplus.numbers, surplus.long_numbers), (140_000 - (MAX_NUMBERS - 1), 1));
        let surplus = previews.apply(shown(1, &["new", "139999"]), Timestamp(2), BOUNDS);
        assert_eq!((surplus.numbers, surplus.long_numbers), (1, 0));
        let preview = previews.find(ControlId(1)).unwrap();
        let last: Vec<_> = preview.numbers.iter().rev().take(3).map(|n| (n.number.reveal(), n.shown_at.0)).collect();
        assert_eq!(preview.numbers.len(), MAX_NUMBERS);
        assert_eq!(last, [("139999", 2), ("new", 2), (longest.as_str(), 1)]);
    }

    #[test]
    fn the_previews_of_one_agent_are_bounded_in_bytes_and_the_newest_stays() {
        let numbers: Vec<String> = (0..MAX_NUMBERS).map(|n| format!("{n:064}")).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let mut previews = AgentPreviews::default();
        for control_id in 0..100 {
            previews.apply(shown(control_id, &numbers), Timestamp(1), Bounds { per_agent: 16 });
            assert!(previews.bytes <= 16 * AVERAGE_PREVIEW_BYTES, "{}", previews.bytes);
        }
        let one = PREVIEW_OVERHEAD + MAX_NUMBERS * (NUMBER_OVERHEAD + 64);
        assert_eq!((previews.len(), previews.bytes), (16 * AVERAGE_PREVIEW_BYTES / one, previews.len() * one));
        assert_eq!(previews.iter().last().unwrap().control_id, ControlId(99));
        assert_eq!(previews.bytes, previews.iter().map(Preview::bytes).sum::<usize>());
        let mut one = AgentPreviews::default();
        one.apply(shown(1, &numbers), Timestamp(1), Bounds { per_agent: 1 });
        assert_eq!(one.len(), 1);
        // The largest that the platform documents.
        let documented: Vec<String> = (0..60).map(|n| (n % 10).to_string()).collect();
        let documented: Vec<&str> = documented.iter().map(String::as_str).collect();
        let mut previews = AgentPreviews::default();
        for control_id in 0..1024 {
            previews.apply(shown(control_id, &documented), Timestamp(1), Bounds { per_agent: 1024 });
        }
        assert_eq!(previews.len(), 1024);
    }

    #[test]
    fn the_bound_in_bytes_can_be_reached() {
        let numbers: Vec<String> = (0..72).map(|n| format!("{n:016}")).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let (bounds, mut previews) = (Bounds { per_agent: 2 }, AgentPreviews::default());
        for control_id in 1..=2 {
            assert_eq!(previews.apply(shown(control_id, &numbers), Timestamp(1), bounds), Surplus::default());
            assert_eq!(previews.bytes, control_id as usize * AVERAGE_PREVIEW_BYTES);
        }
        let surplus = previews.apply(shown(2, &["1"]), Timestamp(1), bounds);
        assert_eq!((surplus.previews, control_ids(&previews)), (1, vec![2]));
    }

    #[test]
    fn what_makes_room_is_collected_and_what_is_restored_is_bounded() {
        let mut previews = after(&[shown(1, &["1"]), shown(2, &["2"]), shown(3, &["3"])]);
        let mut evicted = vec![previews.find(ControlId(3)).unwrap().clone()];
        let surplus = previews.apply_and_collect(shown(4, &["4"]), Timestamp(9), BOUNDS, &mut evicted);
        let collected: Vec<_> = evicted.iter().map(|preview| preview.control_id.0).collect();
        assert_eq!((surplus.previews, collected), (1, vec![3, 1]));
        let surplus = previews.restore(evicted.remove(0), BOUNDS);
        assert_eq!((surplus, control_ids(&previews)), (Surplus::default(), vec![2, 4, 3]));
        let surplus = previews.restore(evicted.remove(0), BOUNDS);
        assert_eq!((surplus.previews, control_ids(&previews)), (1, vec![4, 3, 1]));
    }

    #[test]
    fn what_each_change_ends() {
        let previews = after(&[shown(1, &["1"]), shown(2, &["2"])]);
        let ended = |change: Change| -> Vec<i64> {
            previews.iter().filter(|preview| change.ends(preview)).map(|preview| preview.control_id.0).collect()
        };
        assert!(ended(shown(1, &[])).is_empty());
        assert_eq!(ended(Change::Cancelled(ControlId(2))), [2]);
        assert_eq!(ended(Change::Ended), [1, 2]);
        for (moment, expected) in [(0, vec![]), (1, vec![1]), (1000, vec![1]), (1001, vec![1, 2])] {
            assert_eq!(ended(Change::EndedBefore(Timestamp(moment))), expected, "{moment}");
        }
    }

    #[test]
    fn what_was_shown_before_a_moment_ends_number_by_number() {
        let previews = after(&[shown(1, &["1"]), shown(1, &["2"]), Change::EndedBefore(Timestamp(1000))]);
        let numbers: Vec<_> = previews.find(ControlId(1)).unwrap().numbers().map(DialedNumber::reveal).collect();
        assert_eq!(numbers, ["2"]);
    }

    /// Announces these numbers under control ID 1 in the record of this name.
    fn recorded(name: u64, numbers: &[&str]) -> Change {
        let shown = format!("{name:016x}-1@2026-11:00000001").parse().unwrap();
        let numbers = numbers.iter().map(|n| DialedNumber::new(*n)).collect();
        Change::Shown(Announcement { control_id: ControlId(1), numbers, shown: vec![shown] })
    }

    fn records(previews: &AgentPreviews) -> Vec<u64> {
        previews.find(ControlId(1)).unwrap().shown.iter().map(|shown| shown.record.run).collect()
    }

    #[test]
    fn a_record_explains_no_number_that_is_over() {
        let shown = [recorded(1, &["1"]), recorded(2, &["2"]), recorded(3, &[])];
        assert_eq!(records(&after(&shown)), [1, 2, 3]);
        let ended = [&shown[..], &[Change::EndedBefore(Timestamp(1000))]].concat();
        assert_eq!(records(&after(&ended)), [2, 3]);
    }

    #[test]
    fn the_record_of_each_number_stays_however_often_others_are_announced() {
        let mut changes = vec![recorded(1, &["1"])];
        changes.extend((2..400).map(|name| recorded(name, &["2"])));
        let records = records(&after(&changes));
        assert_eq!((records[0], records.last(), records.len() <= MAX_REFERENCES), (1, Some(&399), true));
    }

    #[test]
    fn there_is_room_for_the_record_of_each_number_and_of_an_announcement_without_numbers() {
        let numbers: Vec<String> = (0..MAX_NUMBERS).map(|n| n.to_string()).collect();
        let named = (1..).zip(&numbers).map(|(name, number)| recorded(name, &[number]));
        let changes: Vec<_> = named.chain([recorded(9999, &[])]).collect();
        let expected: Vec<u64> = (1..=MAX_NUMBERS as u64).chain([9999]).collect();
        assert_eq!(records(&after(&changes)), expected);
    }

    #[test]
    fn a_record_that_no_number_needs_stays_while_there_is_room() {
        let changes: Vec<_> = (1..=129).map(|name| recorded(name, &["1"])).collect();
        assert_eq!(records(&after(&changes)), (1..=129).collect::<Vec<u64>>());
    }

    #[test]
    fn a_change_ends_one_preview_or_all_or_none() {
        let id = RecordId { run: 1, number: 1 };
        let call = CountedCall { number: DialedNumber::new("1"), id, at: Timestamp(5) };
        for (change, is_end, ended) in [
            (shown(1, &["1"]), false, None),
            (Change::Called(ControlId(1), call), false, None),
            (Change::CallReturned(ControlId(1), id), false, None),
            (Change::Cancelled(ControlId(1)), true, Some(ControlId(1))),
            (Change::Ended, true, None),
            (Change::EndedBefore(Timestamp(5)), true, None),
        ] {
            assert_eq!((change.is_end(), change.ended_preview()), (is_end, ended), "{change:?}");
        }
    }

    #[test]
    fn a_number_that_is_announced_twice_is_kept_once() {
        let numbers: Vec<String> = (0..3 * FEW).map(|n| n.to_string()).collect();
        let twice: Vec<&str> = numbers.iter().chain(&numbers).map(String::as_str).collect();
        let previews = after(&[shown(1, &twice)]);
        let kept: Vec<_> = previews.find(ControlId(1)).unwrap().numbers().map(DialedNumber::reveal).collect();
        assert_eq!(kept, numbers);
    }

    #[test]
    fn a_call_belongs_to_its_preview_and_takes_memory_until_it_is_given_back() {
        let mut previews = after(&[shown(1, &["1"]), shown(2, &["1"])]);
        let (before, id) = (previews.bytes, RecordId { run: 1, number: 1 });
        let calls =
            |previews: &AgentPreviews| previews.iter().map(|known| known.calls.iter().count()).collect::<Vec<_>>();
        let call = CountedCall { number: DialedNumber::new("123"), id, at: Timestamp(5) };
        previews.apply(Change::Called(ControlId(2), call), Timestamp(5), BOUNDS);
        assert_eq!((calls(&previews), previews.bytes), (vec![0, 1], before + 64 + 3));
        previews.apply(Change::CallReturned(ControlId(2), id), Timestamp(6), BOUNDS);
        assert_eq!((calls(&previews), previews.bytes), (vec![0, 0], before));
    }

    #[test]
    fn a_record_that_is_known_already_is_named_once() {
        let mut previews = after(&[recorded(1, &["1"]), recorded(2, &["2"])]);
        let again = previews.find(ControlId(1)).unwrap().clone();
        previews.restore(again, BOUNDS);
        assert_eq!(records(&previews), [1, 2]);
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

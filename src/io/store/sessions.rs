//! Whose a GUID is.
//!
//! Any client can send a request about any agent, and CC-Gateway's answer to a wrong GUID is not public
//! (docs/protocol.md 2). So the gateway learns which GUID belongs to which agent, from the platform alone: from the
//! answer to a sign-in, from a renewed GUID, from a poll that succeeded, and from a push. [`Ownership`] is the result,
//! and every effect that a request has on an agent's state asks it. A GUID of which nothing is known is never the
//! agent's own.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::common_clock::STEP;
use super::guid_key::{GuidHash, GuidKey, KeyId};
use super::lru::{Lifetime, Lru};
use super::moment::Moment;
use crate::preview::{AgentId, Timestamp};

/// How long a GUID that the platform has replaced is still the agent's own: requests with it are on their way. Longer
/// than a held poll (docs/protocol.md 6.1).
pub(super) const OVERLAP: Duration = Duration::from_secs(60);

/// Replaced GUIDs of one agent that are remembered.
pub(super) const MAX_REPLACED: usize = 3;

/// Whose a GUID is, from the point of view of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The agent's own.
    Own,
    /// Known to be this other agent's.
    Other(AgentId),
    /// It is not known whose it is, and the agent's session is known to have another one.
    NotOwn,
    /// Neither the GUID nor a session of the agent is known. This is no proof that the GUID is the agent's own.
    Unknown,
}

impl Ownership {
    /// Whether a request with this GUID proves something about the agent: an answer that the agent has no session
    /// (100-006, 100-008) is believed, and a new GUID in the answer is the agent's.
    pub fn speaks_for_agent(self) -> bool {
        match self {
            Self::Own => true,
            Self::Other(_) | Self::NotOwn | Self::Unknown => false,
        }
    }

    /// Whether a request with this GUID may have been the agent's own: if its outcome is unknown, what it may have ended
    /// has ended.
    pub fn may_be_own(self) -> bool {
        match self {
            Self::Own | Self::Unknown => true,
            Self::Other(_) | Self::NotOwn => false,
        }
    }

    /// Whether a callout with this GUID belongs to a foreign session (`validation.session`).
    pub fn is_foreign(self) -> bool {
        match self {
            Self::Other(_) | Self::NotOwn => true,
            Self::Own | Self::Unknown => false,
        }
    }

    /// The same, where the shared store knows a session of the agent and whether it has the GUID: a sign-in may have gone
    /// through another gateway.
    pub(super) fn with_shared(self, is_own: bool) -> Self {
        match self {
            _ if is_own => Self::Own,
            Self::Other(agent) => Self::Other(agent),
            Self::Own | Self::NotOwn | Self::Unknown => Self::NotOwn,
        }
    }
}

/// The sessions of all agents.
pub(super) struct Sessions {
    agents: Lru<AgentId, Session>,
    /// The agent that a GUID was last learnt for. An entry counts only while that agent's session has the GUID.
    owners: Lru<GuidHash, AgentId>,
    /// GUIDs of sign-ins of which it is not known whose they are, with the instants at which the sign-ins began.
    unclaimed: Lru<GuidHash, Moment>,
    /// There was one. Where every sign-in names its agent, polls need not look for any.
    any_unclaimed: AtomicBool,
    key: OnceLock<GuidKey>,
}

/// What shows that a GUID is an agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A poll of the agent with it succeeded. One program may poll for many agents with one GUID, so this says only which GUID
    /// is the present one of a session that is known.
    Accepted,
    /// The platform showed the agent's preview to it, or sent it with the agent's push.
    Shown,
}

/// Something new about an agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Learnt {
    /// A GUID of the session; None if the session began with one that is not known.
    pub(super) guid: Option<GuidHash>,
    /// The session begins: the GUIDs of the one before are not the agent's own any more.
    pub(super) begins: bool,
}

/// The sessions as they are kept beyond the process: for each agent its GUIDs, the current one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptSessions {
    /// The key of the hashes.
    pub(super) key: KeyId,
    pub(super) agents: BTreeMap<AgentId, Vec<GuidHash>>,
}

/// The GUIDs of one agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    current: GuidHash,
    /// GUIDs that the platform has replaced, the latest first, each with the time up to which it counts.
    replaced: [Option<(GuidHash, Timestamp)>; MAX_REPLACED],
}

impl Sessions {
    /// Remembers the sessions of `max_agents` agents, each for `memory` after it was last needed.
    pub(super) fn new(max_agents: u64, memory: Duration) -> Self {
        let lifetime = Lifetime::SinceUsed(memory);
        Self {
            agents: Lru::new(max_agents, lifetime),
            owners: Lru::new(max_agents.saturating_mul(2), lifetime),
            unclaimed: Lru::new(max_agents, lifetime),
            any_unclaimed: AtomicBool::new(false),
            key: OnceLock::new(),
        }
    }

    /// What is known about `guid` and `agent`.
    pub(super) fn ownership(&self, guid: &[u8], agent: AgentId, now: Timestamp) -> Ownership {
        self.ownership_of_hash(self.hash(guid), agent, now)
    }

    fn ownership_of_hash(&self, hash: Option<GuidHash>, agent: AgentId, now: Timestamp) -> Ownership {
        let Some(hash) = hash else { return self.of_unknown_guid(agent) };
        let has = |agent: &AgentId| self.agents.read(agent, |session| session.has(hash, now)) == Some(true);
        if has(&agent) {
            return Ownership::Own;
        }
        match self.owners.get(&hash).filter(|owner| *owner != agent && has(owner)) {
            Some(owner) => Ownership::Other(owner),
            None => self.of_unknown_guid(agent),
        }
    }

    fn of_unknown_guid(&self, agent: AgentId) -> Ownership {
        if self.agents.contains(&agent) { Ownership::NotOwn } else { Ownership::Unknown }
    }

    /// A session of `agent` begins. Its GUID is unknown if the answer to the sign-in did not name one.
    pub(super) fn begin(&self, agent: AgentId, guid: Option<&[u8]>) -> Learnt {
        let guid = guid.and_then(|guid| self.hash(guid));
        match guid {
            Some(hash) => self.change(agent, hash, |_| Session::begin(hash)),
            None => drop(self.agents.remove(agent)),
        }
        Learnt { guid, begins: true }
    }

    /// The platform has shown by `proof` that `guid` is the agent's.
    pub(super) fn confirm(&self, agent: AgentId, guid: &[u8], proof: Proof, now: Timestamp) -> Option<Learnt> {
        let hash = self.hash(guid)?;
        let known = self.agents.get(&agent);
        // The common case: nothing is new, whatever the proof.
        if known.is_some_and(|session| session.current == hash) {
            return None;
        }
        match (proof, self.ownership_of_hash(Some(hash), agent, now)) {
            (Proof::Accepted, Ownership::Other(_) | Ownership::Unknown) => return None,
            (Proof::Accepted, Ownership::Own | Ownership::NotOwn) | (Proof::Shown, _) => {}
        }
        self.change(agent, hash, |known| match known {
            Some(session) => session.confirm(hash, now),
            None => Session::begin(hash),
        });
        let is_new = known.is_none_or(|session| !session.has(hash, now));
        is_new.then_some(Learnt { guid: Some(hash), begins: false })
    }

    /// The platform has answered a request of `agent` that had the GUID `from` with the new GUID `to`. It is the agent's
    /// own if `from` is.
    pub(super) fn renew(&self, agent: AgentId, from: &[u8], to: &[u8], now: Timestamp) -> Option<Learnt> {
        if !self.ownership(from, agent, now).speaks_for_agent() {
            return None;
        }
        let (from, to) = (self.hash(from)?, self.hash(to)?);
        if self.agents.get(&agent).is_some_and(|session| session.current == to) {
            return None;
        }
        self.change(agent, to, |known| known.unwrap_or(Session::begin(from)).renew(from, to, now));
        Some(Learnt { guid: Some(to), begins: false })
    }

    /// A sign-in that began at `began` got this GUID, and its answer does not say for which agent.
    pub(super) fn leave_unclaimed(&self, guid: &[u8], began: Moment) {
        if let Some(hash) = self.hash(guid) {
            self.unclaimed.insert(hash, began);
            self.any_unclaimed.store(true, Ordering::Release);
        }
    }

    /// Whether a session with this GUID began without its agent; then it is this agent's from now on. Returns when its
    /// sign-in began.
    pub(super) fn claim(&self, guid: &[u8]) -> Option<Moment> {
        if !self.any_unclaimed.load(Ordering::Acquire) {
            return None;
        }
        let hash = self.hash(guid)?;
        self.unclaimed.remove(hash)
    }

    /// Uses this key from now on, unless a key is in use already.
    pub(super) fn use_key(&self, key: GuidKey) {
        let _ = self.key.set(key);
    }

    /// The key in use.
    pub(super) fn key(&self) -> &GuidKey {
        self.key.get_or_init(GuidKey::random)
    }

    /// All sessions, for a snapshot.
    pub(super) fn kept(&self) -> KeptSessions {
        let agents =
            self.agents.entries().into_iter().map(|(agent, session)| (agent, session.guids().collect())).collect();
        KeptSessions { key: self.key().id(), agents }
    }

    /// Puts back the session of `agent` from before the start. `guids` are hashes under the key in use, the current one
    /// first; the others are good for the overlap.
    pub(super) fn restore(&self, agent: AgentId, guids: &[GuidHash], now: Timestamp) {
        for guid in guids.iter().rev() {
            self.change(agent, *guid, |known| match known {
                Some(session) => session.renew(session.current, *guid, now),
                None => Session::begin(*guid),
            });
        }
    }

    /// Forgets what has not been needed for long.
    pub(super) fn maintain(&self) {
        self.agents.expire();
        self.owners.expire();
        self.unclaimed.expire();
    }

    fn change(&self, agent: AgentId, learnt: GuidHash, change: impl FnOnce(Option<Session>) -> Session) {
        self.agents.change(agent, |session| *session = Some(change(*session)));
        self.owners.insert(learnt, agent);
    }

    fn hash(&self, guid: &[u8]) -> Option<GuidHash> {
        self.key().hash(guid)
    }
}

impl Session {
    pub(super) fn begin(guid: GuidHash) -> Self {
        Self { current: guid, replaced: [None; MAX_REPLACED] }
    }

    /// Puts a session together again.
    pub(super) fn of(current: GuidHash, replaced: impl IntoIterator<Item = (GuidHash, Timestamp)>) -> Self {
        let mut list = [None; MAX_REPLACED];
        list.iter_mut().zip(replaced).for_each(|(place, guid)| *place = Some(guid));
        Self { current, replaced: list }
    }

    /// The GUID that was learnt last.
    pub(super) fn current(&self) -> GuidHash {
        self.current
    }

    /// The GUIDs that were replaced, the latest first, each with the time up to which it counts.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (GuidHash, Timestamp)> {
        self.replaced.into_iter().flatten()
    }

    fn guids(&self) -> impl Iterator<Item = GuidHash> {
        std::iter::once(self.current).chain(self.replaced().map(|(guid, _)| guid))
    }

    pub(super) fn has(&self, guid: GuidHash, now: Timestamp) -> bool {
        self.current == guid || self.replaced().any(|(known, until)| known == guid && counts(until, now))
    }

    /// The platform has accepted `guid`. Some applications ignore new GUIDs (docs/protocol.md 9), so one that was replaced
    /// stays good while it is accepted.
    fn confirm(self, guid: GuidHash, now: Timestamp) -> Self {
        if self.has(guid, now) { self.renew(guid, self.current, now) } else { self.renew(self.current, guid, now) }
    }

    /// `to` is the current GUID now, and `from` is good for the overlap.
    pub(super) fn renew(self, from: GuidHash, to: GuidHash, now: Timestamp) -> Self {
        let until = now.after(OVERLAP);
        let earlier = [(from, until), (self.current, until)].into_iter().chain(self.replaced());
        let mut replaced: Vec<(GuidHash, Timestamp)> = Vec::with_capacity(MAX_REPLACED + 2);
        for (guid, until) in earlier {
            let listed = replaced.iter().any(|(known, _)| *known == guid);
            if guid != to && !listed && counts(until, now) {
                replaced.push((guid, until));
            }
        }
        Self::of(to, replaced)
    }
}

/// Whether a GUID that counts up to `until` counts now. A clock that was set back does not prolong that.
fn counts(until: Timestamp, now: Timestamp) -> bool {
    now <= until && until.since(now) <= OVERLAP.saturating_add(STEP)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::preview::ManualClock;
    use crate::store::common_clock::CommonClock;
    use crate::store::moment::LedgerTime;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    fn sessions() -> Sessions {
        Sessions::new(100, Duration::from_secs(60))
    }

    fn of(sessions: &Sessions, guid: &str, number: u32, now: Timestamp) -> Ownership {
        sessions.ownership(guid.as_bytes(), agent(number), now)
    }

    #[test]
    fn a_guid_of_which_nothing_is_known_is_not_the_agents_own() {
        let sessions = sessions();
        assert_eq!(of(&sessions, "g1", 101, NOW), Ownership::Unknown);
        sessions.begin(agent(101), Some(b"g1"));
        for (guid, number, expected) in [
            ("g1", 101, Ownership::Own),
            ("invented", 101, Ownership::NotOwn),
            ("", 101, Ownership::NotOwn),
            ("g1", 102, Ownership::Other(agent(101))),
            ("invented", 102, Ownership::Unknown),
            ("", 102, Ownership::Unknown),
        ] {
            assert_eq!(of(&sessions, guid, number, NOW), expected, "{guid} {number}");
        }
    }

    #[test]
    fn the_shared_store_knows_whether_a_guid_is_that_of_the_session() {
        let other = Ownership::Other(agent(102));
        for ownership in [Ownership::Own, Ownership::Unknown, Ownership::NotOwn, other] {
            assert_eq!(ownership.with_shared(true), Ownership::Own, "{ownership:?}");
            let expected = if ownership == other { other } else { Ownership::NotOwn };
            assert_eq!(ownership.with_shared(false), expected, "{ownership:?}");
        }
    }

    #[test]
    fn a_session_without_its_agent_is_claimed_once() {
        let sessions = sessions();
        let time = LedgerTime::new(Arc::new(CommonClock::new(Arc::new(ManualClock::new(NOW)))));
        assert!(sessions.claim(b"g1").is_none());
        sessions.leave_unclaimed(b"g1", time.moment());
        let began = time.moment();
        sessions.leave_unclaimed(b"g2", began);
        assert!(sessions.claim(b"invented").is_none());
        let claimed = sessions.claim(b"g2").unwrap();
        assert!(!claimed.is_before(began) && !began.is_before(claimed));
        assert!(sessions.claim(b"g2").is_none(), "it has its agent");
        assert!(sessions.claim(b"g1").unwrap().is_before(began));
    }

    #[test]
    fn the_memory_is_bounded() {
        let sessions = Sessions::new(10, Duration::from_secs(60));
        let time = LedgerTime::new(Arc::new(CommonClock::new(Arc::new(ManualClock::new(NOW)))));
        for number in 101..=200 {
            sessions.begin(agent(number), Some(number.to_string().as_bytes()));
            sessions.leave_unclaimed(format!("u{number}").as_bytes(), time.moment());
        }
        sessions.maintain();
        let entries =
            (sessions.agents.entries().len(), sessions.owners.entries().len(), sessions.unclaimed.entries().len());
        assert_eq!(entries, (10, 20, 10));
    }

    #[test]
    fn what_was_not_needed_for_long_is_forgotten() {
        let sessions = Sessions::new(10, Duration::ZERO);
        let time = LedgerTime::new(Arc::new(CommonClock::new(Arc::new(ManualClock::new(NOW)))));
        sessions.begin(agent(101), Some(b"g1"));
        sessions.leave_unclaimed(b"g2", time.moment());
        sessions.maintain();
        let left = (sessions.agents.expire(), sessions.owners.expire(), sessions.unclaimed.expire().len());
        assert_eq!(left, (vec![], vec![], 0));
    }

    #[test]
    fn what_each_ownership_allows() {
        for (ownership, speaks, may_be, foreign) in [
            (Ownership::Own, true, true, false),
            (Ownership::Unknown, false, true, false),
            (Ownership::NotOwn, false, false, true),
            (Ownership::Other(agent(102)), false, false, true),
        ] {
            let found = (ownership.speaks_for_agent(), ownership.may_be_own(), ownership.is_foreign());
            assert_eq!(found, (speaks, may_be, foreign), "{ownership:?}");
        }
    }

    #[test]
    fn a_renewed_guid_is_the_agents_own_and_so_is_the_old_one_for_the_overlap() {
        let sessions = sessions();
        sessions.begin(agent(101), Some(b"g1"));
        assert!(sessions.renew(agent(101), b"g1", b"g2", NOW).is_some());
        assert_eq!(sessions.renew(agent(101), b"g1", b"g2", NOW), None, "nothing new");
        let end = NOW.after(OVERLAP);
        let later = end.after(Duration::from_millis(1));
        for (guid, now, expected) in
            [("g1", end, Ownership::Own), ("g1", later, Ownership::NotOwn), ("g2", later, Ownership::Own)]
        {
            assert_eq!(of(&sessions, guid, 101, now), expected, "{guid} {now:?}");
        }
        // Each of several that are on their way.
        sessions.renew(agent(101), b"g2", b"g3", later);
        sessions.renew(agent(101), b"g2", b"g4", later);
        for guid in ["g2", "g3", "g4"] {
            assert_eq!(of(&sessions, guid, 101, later), Ownership::Own, "{guid}");
        }
    }

    #[test]
    fn only_the_agents_own_request_renews_its_guid() {
        let sessions = sessions();
        assert_eq!(sessions.renew(agent(101), b"invented", b"g2", NOW), None, "nothing is known");
        sessions.begin(agent(101), Some(b"g1"));
        sessions.begin(agent(102), Some(b"other"));
        for guid in ["invented", "other", ""] {
            assert_eq!(sessions.renew(agent(101), guid.as_bytes(), b"g2", NOW), None, "{guid}");
        }
        assert_eq!(of(&sessions, "g2", 101, NOW), Ownership::NotOwn);
    }

    /// Applications exist that ignore new GUIDs.
    #[test]
    fn a_replaced_guid_stays_good_while_the_platform_accepts_it() {
        let sessions = sessions();
        sessions.begin(agent(101), Some(b"g1"));
        let mut now = NOW;
        for round in 0..10 {
            sessions.renew(agent(101), b"g1", format!("new-{round}").as_bytes(), now);
            now = now.after(OVERLAP / 2);
            assert_eq!(sessions.confirm(agent(101), b"g1", Proof::Accepted, now), None, "it is known");
            now = now.after(OVERLAP / 2);
            assert_eq!(of(&sessions, "g1", 101, now), Ownership::Own, "{round}");
        }
    }

    #[test]
    fn a_poll_that_succeeds_renews_a_session_that_is_known_and_one_that_shows_a_preview_begins_one() {
        let sessions = sessions();
        let confirm =
            |number, guid: &str, proof| sessions.confirm(agent(number), guid.as_bytes(), proof, NOW).is_some();
        assert!(!confirm(101, "g1", Proof::Accepted), "no session is known");
        assert!(confirm(101, "g1", Proof::Shown));
        assert!(!confirm(101, "g1", Proof::Shown), "nothing new");
        assert!(!confirm(102, "g1", Proof::Accepted));
        assert_eq!(of(&sessions, "g1", 102, NOW), Ownership::Other(agent(101)));
        // A renewal that this gateway did not see.
        assert!(confirm(101, "g2", Proof::Accepted));
        assert_eq!((of(&sessions, "g1", 101, NOW), of(&sessions, "g2", 101, NOW)), (Ownership::Own, Ownership::Own));
        assert!(confirm(102, "g2", Proof::Shown), "one program polls for several agents");
        assert_eq!((of(&sessions, "g2", 101, NOW), of(&sessions, "g2", 102, NOW)), (Ownership::Own, Ownership::Own));
        assert!(
            confirm(103, "g3", Proof::Shown) && !confirm(103, "g2", Proof::Accepted),
            "it is known to be another's"
        );
        assert!(!confirm(104, "", Proof::Shown));
    }

    #[test]
    fn a_new_session_leaves_nothing_of_the_one_before() {
        let sessions = sessions();
        sessions.begin(agent(101), Some(b"g1"));
        sessions.renew(agent(101), b"g1", b"g2", NOW);
        sessions.begin(agent(101), Some(b"g3"));
        for (guid, expected) in [("g1", Ownership::NotOwn), ("g2", Ownership::NotOwn), ("g3", Ownership::Own)] {
            assert_eq!(of(&sessions, guid, 101, NOW), expected, "{guid}");
            let elsewhere = if guid == "g3" { Ownership::Other(agent(101)) } else { Ownership::Unknown };
            assert_eq!(of(&sessions, guid, 102, NOW), elsewhere, "{guid}");
        }
        sessions.begin(agent(101), None);
        assert_eq!(of(&sessions, "g3", 101, NOW), Ownership::Unknown, "the answer to the sign-in named none");
        assert_eq!(of(&sessions, "g3", 102, NOW), Ownership::Unknown);
    }

    /// One program that signs many agents in over one HTTP session.
    #[test]
    fn one_guid_may_be_the_own_of_several_agents() {
        let sessions = sessions();
        sessions.begin(agent(101), Some(b"shared"));
        sessions.begin(agent(102), Some(b"shared"));
        assert_eq!(of(&sessions, "shared", 101, NOW), Ownership::Own);
        assert_eq!(of(&sessions, "shared", 102, NOW), Ownership::Own);
        assert_eq!(of(&sessions, "shared", 103, NOW), Ownership::Other(agent(102)));
    }

    #[test]
    fn what_is_kept_is_known_again_under_the_same_key() {
        let before = sessions();
        before.use_key(GuidKey::new(b"secret"));
        before.begin(agent(101), Some(b"g1"));
        before.renew(agent(101), b"g1", b"g2", NOW);
        before.begin(agent(102), Some(b"other"));
        let kept = before.kept();
        let after = sessions();
        after.use_key(GuidKey::new(b"secret"));
        after.use_key(GuidKey::random());
        assert_eq!(after.key().id(), kept.key);
        for (agent, guids) in &kept.agents {
            after.restore(*agent, guids, NOW);
        }
        assert_eq!(after.kept(), kept);
        let later = NOW.after(OVERLAP * 2);
        for (guid, number, now, expected) in [
            ("g1", 101, NOW, Ownership::Own),
            ("g2", 101, NOW, Ownership::Own),
            ("g1", 101, later, Ownership::NotOwn),
            ("g2", 101, later, Ownership::Own),
            ("other", 101, NOW, Ownership::Other(agent(102))),
            ("other", 103, NOW, Ownership::Other(agent(102))),
        ] {
            assert_eq!(of(&after, guid, number, now), expected, "{guid} {number} {now:?}");
        }
    }
}

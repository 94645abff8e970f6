//! The faults, and the plan that picks them. The plan depends on the seed only, so that a failure can be repeated.

macro_rules! faults {
    ($($Fault:ident),+ $(,)?) => {
        /// The upstream's behaviour for one request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Fault { $($Fault),+ }
        impl Fault {
            const ALL: &[Self] = &[$(Self::$Fault),+];
        }
    };
}

faults! {
    // The upstream answers, and something else happens during or after the answer.
    AnswerThenClose, AnswerThenReset, AnswerThenCloseLater, AnswerSayingClose, AnswerAsHttp10, AnswerAfterInterim,
    AnswerChunked, AnswerInPieces, AnswerThenGarbage, AnswerBeforeBody,
    // The upstream answers not at all, or not completely.
    ResetAfterHead, CloseAfterHead, ResetAfterBody, CloseAfterBody, HalfHeadThenReset, HalfHeadThenClose,
    HalfBodyThenReset, HalfBodyThenClose, HalfBodyThenSilence, Garbage, SwitchProtocols, Silence,
}

/// A fault of a connection before the upstream reads from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConnectionFault {
    ResetAtOnce,
    CloseAtOnce,
    /// The request stays in the system's buffer and is never read.
    ResetUnread,
    CloseUnread,
    /// Nothing listens for a while after this connection.
    StopListening,
}

/// Draws faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
}

impl Plan {
    /// Nearly half of the requests get no fault. Faults that wait take time, so they are rare.
    pub(crate) fn of_request(self, id: u32) -> Option<Fault> {
        let draw = self.draw(1, u64::from(id));
        if draw % 100 < 45 {
            return None;
        }
        let fault = Fault::ALL[usize::try_from((draw >> 32) % Fault::ALL.len() as u64).unwrap()];
        let slow = matches!(fault, Fault::Silence | Fault::HalfBodyThenSilence);
        (!slow || (draw >> 16).is_multiple_of(3)).then_some(fault)
    }

    pub(crate) fn of_connection(self, upstream: u64, number: u64) -> Option<ConnectionFault> {
        let draw = self.draw(2 + upstream, number) % 1000;
        Some(match draw {
            0..30 => ConnectionFault::ResetAtOnce,
            30..60 => ConnectionFault::CloseAtOnce,
            60..90 => ConnectionFault::ResetUnread,
            90..120 => ConnectionFault::CloseUnread,
            120..126 => ConnectionFault::StopListening,
            _ => return None,
        })
    }

    /// Time from an answer until its connection is closed: about when the next request arrives on it.
    pub(crate) fn microseconds(self, id: u32) -> u64 {
        self.draw(100, u64::from(id)) % 3000
    }

    /// splitmix64
    fn draw(self, stream: u64, number: u64) -> u64 {
        let mut z = self.seed ^ (stream << 48) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

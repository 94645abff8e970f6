//! The failures that the simulator answers with, in the vendor's codes (docs/protocol.md 3).

/// Why the simulator does not do what a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    InvalidParameter,
    NoPermission,
    SignInParameter,
    SignedInAlready,
    NotSignedIn,
    WrongNumber,
    NothingToAnswer,
    NothingToTransfer,
    NothingToHold,
    NotTalking,
    NothingOnHold,
    AnotherCall,
    NothingToRelease,
    InACall,
}

impl Failure {
    pub(super) fn retcode(self) -> &'static str {
        match self {
            Self::InvalidParameter => "000-002",
            Self::NoPermission => "000-003",
            Self::SignInParameter => "100-001",
            Self::SignedInAlready => "100-002",
            Self::NotSignedIn => "100-006",
            Self::WrongNumber => "200-001",
            Self::NothingToAnswer => "200-002",
            Self::NothingToTransfer => "200-012",
            Self::NothingToHold => "200-013",
            Self::NotTalking => "200-014",
            Self::NothingOnHold => "200-015",
            Self::AnotherCall => "200-016",
            Self::NothingToRelease => "200-017",
            // The vendor lists it for previewCallout without a meaning; this meaning is a guess.
            Self::InACall => "200-036",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::InvalidParameter => "invalid URL or interface parameter",
            Self::NoPermission => "no permission, authentication may have expired",
            Self::SignInParameter => "a sign-in parameter is empty or invalid",
            Self::SignedInAlready => "the agent has signed in",
            Self::NotSignedIn => "the agent is not signed in",
            Self::WrongNumber => "the number to call is wrong",
            Self::NothingToAnswer => "there is no call to answer",
            Self::NothingToTransfer => "there is no call to transfer",
            Self::NothingToHold => "there is no call to hold",
            Self::NotTalking => "the state of the call does not allow to hold it",
            Self::NothingOnHold => "there is no call on hold",
            Self::AnotherCall => "the agent is in another call",
            Self::NothingToRelease => "there is no call to release",
            Self::InACall => "the agent is in a call",
        }
    }
}

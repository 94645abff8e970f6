//! What a request is for, decided once from method and path.

use crate::closed_list;

closed_list! {
    /// The operations that the gateway tells apart, by the vendor's method names in logs.
    pub enum OperationName {
        /// The guarded resource, whatever the method.
        PreviewCallout = "previewCallout",
        /// Gives a preview back.
        CancelPreviewCallout = "cancelPreviewCallout",
        /// Event poll of one agent.
        GetAgentEvent = "getAgentEvent",
        /// Event poll of all agents.
        GetAllAgentEvents = "getAllAgentEvents",
        /// Sign-in.
        Login = "login",
        /// Forced sign-in.
        ForceLogin = "forceLogin",
        /// Extended sign-in.
        LoginEx = "loginEx",
        /// Sign-out.
        Logout = "logout",
        /// Forced sign-out, of oneself or by a supervisor.
        ForceLogout = "forceLogout",
        /// Events that CC-Gateway pushes.
        PushEvents = "pushEvents",
        /// Everything else below the allowed prefixes.
        Other = "other",
        /// Refused before it was known what for, or outside the allowed prefixes.
        Unroutable = "unroutable",
    }
}

closed_list! {
    /// The event types that matter here (protocol.md 5).
    pub enum EventType {
        /// A preview starts, with or without numbers.
        Preview = "AgentEvent_Preview",
        /// A preview to call, one number.
        PreviewCallOut = "AgentEvent_Preview_CallOut",
        /// A preview to call, several numbers.
        PreviewCallOutEx = "AgentEvent_Preview_CallOut_Ex",
        /// The agent's preview is over.
        ReleasePreview = "AgentEvent_Release_Preview",
        /// The agent is logged out.
        ShutdownService = "AgentOther_ShutdownService",
        /// One of the hundreds that change nothing here.
        Other = "other",
    }
}

closed_list! {
    /// How an event reached the application (protocol.md 6).
    pub enum Delivery {
        /// Polling one agent.
        Poll = "poll",
        /// Polling all agents.
        PollAll = "poll_all",
        /// Pushed, `eventList` form.
        Push = "push",
        /// Pushed, older `pushUrl` form.
        PushUrl = "push_url",
    }
}

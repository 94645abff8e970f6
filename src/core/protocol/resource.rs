//! From method and path to an [`Operation`]: one exact reading, or none.
//!
//! The upstream is a Java web application: it percent-decodes, drops `;parameters`, folds `//` and `/../`, and what
//! its router and filters do beyond that is not public (docs/protocol.md 1). So a path has one reading here or none:
//! [`route`] either knows what the upstream makes of the path, or refuses it. `path_readings` decides how close an odd
//! path is to a guarded word.

use http::Method;

use super::operation::{Operation, OperationName, Unclassified};
use super::path_readings::{self, Path, Segments};
use super::push_address::{Claim, RESERVED};
use crate::preview::AgentId;

/// Finds out what a request is for. `path` is the path of the request target, without the query; `prefixes` are the
/// allowed path prefixes, each with a `/` at both ends.
///
/// # Errors
/// [`Unclassified`] says why the path has no operation.
pub(super) fn route(method: &Method, path: &Path<'_>, prefixes: &[String]) -> Result<Operation, Unclassified> {
    if path.text.starts_with(RESERVED) {
        return Err(Unclassified::NotFound);
    }
    let below = prefixes.iter().find_map(|prefix| path.text.strip_prefix(prefix.as_str()));
    let below = below.ok_or(Unclassified::NotFound)?;
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Unclassified::MethodNotAllowed);
    }
    let resource = match Segments::of(below) {
        Some(segments) => plain_resource(segments)?,
        None if path.readings().is_guarded => return Err(Unclassified::AmbiguousPath),
        None if path.readings().climbs => return Err(Unclassified::NotFound),
        None => Resource::Other(None),
    };
    resource.with_method(method)
}

/// What a request to one of the gateway's own push addresses is for; nothing if it is none. Checked before [`route`], and only if `[push]` is on. CC-Gateway posts; whatever else comes there finds nothing.
pub(super) fn route_push(method: &Method, path: &str) -> Option<Operation> {
    let Claim { agent, form, .. } = Claim::read(path).filter(|_| method == Method::POST)?;
    Some(Operation::Push { agent, form })
}

/// What a path names, before the method is looked at.
#[derive(Clone, Copy)]
enum Resource {
    Callout(AgentId),
    CancelCallout(AgentId),
    Events(AgentId),
    AllEvents,
    Session(AgentId, OperationName),
    AccountSignIn,
    /// The agent whose session ends, and the agent who asks for it.
    ForcedSignOut(AgentId, Option<AgentId>),
    Other(Option<AgentId>),
}

/// Reads a path that consists of plain segments only: one reading, up to a suffix. Jersey and others take `logout.json`
/// for `logout` with a wish for the answer's format; what they would make an operation that matters is refused.
fn plain_resource(segments: Segments<'_>) -> Result<Resource, Unclassified> {
    let resource = named_resource(segments)?;
    let (Resource::Other(_), Some(stem)) = (resource, segments.without_suffix()) else { return Ok(resource) };
    match named_resource(stem) {
        Ok(Resource::Other(_)) => Ok(resource),
        _ => Err(Unclassified::AmbiguousPath),
    }
}

/// One reading, up to letter case. A case-insensitive router would take `PREVIEWCALLOUT` for the guarded resource and
/// another would not; treating it as guarded is right for both.
fn named_resource(segments: Segments<'_>) -> Result<Resource, Unclassified> {
    let is = |segment: &str, word: &str| segment.eq_ignore_ascii_case(word);
    let [root, service, id, action, target] = segments.first;
    let resource = match segments.count {
        4 if is(root, "resource") && is(service, "voicecall") && is(action, "previewCallout") => {
            Resource::Callout(id.parse().map_err(|_| Unclassified::InvalidAgentId)?)
        }
        _ if segments.mention_callout() => return Err(Unclassified::AmbiguousPath),
        4 if is(root, "resource") && is(service, "voicecall") && is(action, "cancelPreviewCallout") => {
            Resource::CancelCallout(agent_or_refuse(id)?.ok_or(Unclassified::InvalidAgentId)?)
        }
        3 if is(root, "resource") && is(service, "agentevent") && is(id, "allagentevent") => Resource::AllEvents,
        3 if is(root, "resource") && is(service, "agentevent") => {
            agent_or_refuse(id)?.map_or(Resource::Other(None), Resource::Events)
        }
        3 if is(root, "resource") && is(service, "onlineagent") && is(id, "loginbyaccount") => Resource::AccountSignIn,
        3 | 4 if is(root, "resource") && is(service, "onlineagent") => {
            match (session_name(action), agent_or_refuse(id)?) {
                (Some(name), Some(agent)) => Resource::Session(agent, name),
                (_, agent) => Resource::Other(agent),
            }
        }
        5 if is(root, "resource") && is(service, "qualitycontrol") && is(action, "forcelogout") => {
            let by = id.parse().ok();
            agent_or_refuse(target)?.map_or(Resource::Other(None), |agent| Resource::ForcedSignOut(agent, by))
        }
        _ => Resource::Other(id.parse().ok()),
    };
    Ok(resource)
}

/// The session operation that the segment after the agent ID names; a bare `onlineagent/{id}` is the sign-in.
fn session_name(action: &str) -> Option<OperationName> {
    [
        ("", OperationName::Login),
        ("forcelogin", OperationName::ForceLogin),
        ("loginex", OperationName::LoginEx),
        ("logout", OperationName::Logout),
        ("forcelogout", OperationName::ForceLogout),
    ]
    .into_iter()
    .find_map(|(word, name)| action.eq_ignore_ascii_case(word).then_some(name))
}

/// An agent ID, or nothing if no parser would take the text for a number; a number in any other spelling is refused,
/// because the upstream may know whom it means while the gateway does not.
fn agent_or_refuse(id: &str) -> Result<Option<AgentId>, Unclassified> {
    match id.parse() {
        Ok(agent) => Ok(Some(agent)),
        Err(_) if path_readings::may_be_a_number(id) => Err(Unclassified::InvalidAgentId),
        Err(_) => Ok(None),
    }
}

impl Resource {
    fn with_method(self, method: &Method) -> Result<Operation, Unclassified> {
        use OperationName::{ForceLogin, ForceLogout, Login, LoginEx, Logout};
        // `put` may be PUT to a lenient server; on a resource that matters that is one reading too many.
        let plain_method = method.as_str().bytes().all(|byte| byte.is_ascii_uppercase());
        if !plain_method && !matches!(self, Self::Other(_)) {
            return Err(Unclassified::MethodNotAllowed);
        }
        let operation = match (self, method.as_str()) {
            (Self::Callout(agent), "PUT") => Operation::PreviewCallout { agent },
            (Self::Callout(_), "OPTIONS") => Operation::CalloutPreflight,
            (Self::Callout(_), _) => return Err(Unclassified::MethodNotAllowed),
            (Self::CancelCallout(agent), "PUT") => Operation::CancelPreviewCallout { agent },
            (Self::Events(agent), "GET") => Operation::PollEvents { agent },
            (Self::AllEvents, "GET") => Operation::PollAllEvents,
            // A JAX-RS server answers HEAD by running the GET: the event would be taken, and no client would get it.
            (Self::Events(_) | Self::AllEvents, "HEAD") => return Err(Unclassified::MethodNotAllowed),
            (Self::Session(agent, name @ (Login | ForceLogin | LoginEx)), "PUT") => Operation::SignIn { agent, name },
            (Self::Session(agent, name @ (Logout | ForceLogout)), "DELETE") => {
                Operation::SignOut { agent, name, by: Some(agent) }
            }
            (Self::AccountSignIn, "PUT") => Operation::SignInByAccount,
            (Self::ForcedSignOut(agent, by), "POST") => Operation::SignOut { agent, name: ForceLogout, by },
            (Self::CancelCallout(agent) | Self::Events(agent) | Self::Session(agent, _), _) => {
                Operation::Other { agent: Some(agent) }
            }
            (Self::AllEvents | Self::AccountSignIn | Self::ForcedSignOut(..), _) => Operation::Other { agent: None },
            (Self::Other(agent), _) => Operation::Other { agent },
        };
        Ok(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::super::push_address::PushForm;
    use super::*;
    use proptest::prelude::*;

    fn classified(method: &str, path: &str) -> Result<Operation, Unclassified> {
        route(&method.parse().unwrap(), &Path::new(path), &["/agentgateway/".to_owned()])
    }

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    #[test]
    fn the_documented_resources() {
        use OperationName::*;
        let a = agent(101);
        for (method, path, expected) in [
            ("PUT", "voicecall/101/previewCallout", Operation::PreviewCallout { agent: a }),
            ("PUT", "voicecall/101/previewcallout", Operation::PreviewCallout { agent: a }),
            ("PUT", "VoiceCall/101/PREVIEWCALLOUT", Operation::PreviewCallout { agent: a }),
            ("OPTIONS", "voicecall/101/previewCallout", Operation::CalloutPreflight),
            ("PUT", "voicecall/101/cancelPreviewCallout", Operation::CancelPreviewCallout { agent: a }),
            ("GET", "agentevent/101", Operation::PollEvents { agent: a }),
            ("GET", "agentevent/101/", Operation::PollEvents { agent: a }),
            ("GET", "agentevent/allagentevent", Operation::PollAllEvents),
            ("PUT", "onlineagent/101", Operation::SignIn { agent: a, name: Login }),
            ("PUT", "onlineagent/101/forcelogin", Operation::SignIn { agent: a, name: ForceLogin }),
            ("PUT", "onlineagent/loginbyaccount", Operation::SignInByAccount),
            ("PUT", "OnlineAgent/LoginByAccount/", Operation::SignInByAccount),
            ("GET", "onlineagent/loginbyaccount", Operation::Other { agent: None }),
            ("PUT", "onlineagent/101/loginex", Operation::SignIn { agent: a, name: LoginEx }),
            ("DELETE", "onlineagent/101/logout", Operation::SignOut { agent: a, name: Logout, by: Some(a) }),
            ("DELETE", "onlineagent/101/forcelogout", Operation::SignOut { agent: a, name: ForceLogout, by: Some(a) }),
            (
                "POST",
                "qualitycontrol/102/forcelogout/101",
                Operation::SignOut { agent: a, name: ForceLogout, by: Some(agent(102)) },
            ),
            ("POST", "onlineagent/101/handshake", Operation::Other { agent: Some(a) }),
            ("OPTIONS", "agentevent/101", Operation::Other { agent: Some(a) }),
            ("POST", "voicecall/101/seconddial/%23", Operation::Other { agent: None }),
            ("GET", "voicecall/101/answer", Operation::Other { agent: Some(a) }),
            ("GET", "agentevent/H12", Operation::Other { agent: None }),
            ("GET", "recordfile/101/logout.wav", Operation::Other { agent: Some(a) }),
            ("GET", "mediafile/101/a%20b;c=d/%E4%BD%A0", Operation::Other { agent: None }),
            ("POST", "textchat/101/notes/log%20out", Operation::Other { agent: None }),
            ("PUT", "onlineagent/101/skills/a%20b", Operation::Other { agent: None }),
            ("GET", "voicecall/101/previewCalloutHistory", Operation::Other { agent: Some(a) }),
            ("brew", "voicecall/101/answer", Operation::Other { agent: Some(a) }),
        ] {
            assert_eq!(classified(method, &format!("/agentgateway/resource/{path}")), Ok(expected), "{method} {path}");
        }
    }

    /// Each part of a path counts: one word that matters does not make an operation.
    #[test]
    fn resources_that_resemble_a_documented_one() {
        for root in ["resource", "rest"] {
            for service in ["voicecall", "agentevent", "onlineagent", "qualitycontrol", "record"] {
                for rest in [
                    "101",
                    "allagentevent",
                    "loginbyaccount",
                    "101/answer",
                    "101/cancelPreviewCallout",
                    "101/loginex",
                    "101/logout",
                    "101/forcelogout/102",
                    "101/answer/102",
                ] {
                    let path = format!("/agentgateway/{root}/{service}/{rest}");
                    let agent = rest.starts_with("101").then_some(agent(101));
                    let documented = matches!(
                        (root, service, rest),
                        ("resource", "agentevent", "101" | "allagentevent")
                            | ("resource", "onlineagent", "101" | "101/loginex" | "101/logout" | "loginbyaccount")
                            | ("resource", "voicecall", "101/cancelPreviewCallout")
                            | ("resource", "qualitycontrol", "101/forcelogout/102")
                    );
                    let methods = ["GET", "PUT", "POST", "DELETE"].map(|method| (method, classified(method, &path)));
                    let others = methods.iter().filter(|(_, found)| *found == Ok(Operation::Other { agent })).count();
                    // A documented one has one method.
                    let about = if service == "qualitycontrol" && documented { 0 } else { 3 };
                    assert_eq!(others, if documented { about } else { 4 }, "{path}: {methods:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_forwarded() {
        use Unclassified::*;
        for (method, path, expected) in [
            ("GET", "/", NotFound),
            ("GET", "/agentgateway", NotFound),
            ("PUT", "/AgentGateway/resource/voicecall/101/previewCallout", NotFound),
            ("PUT", "//agentgateway/resource/voicecall/101/previewCallout", NotFound),
            ("GET", "/agentgateway/resource/voicecall/101/previewCallout", MethodNotAllowed),
            ("POST", "/agentgateway/resource/voicecall/101/previewCallout", MethodNotAllowed),
            ("put", "/agentgateway/resource/voicecall/101/previewCallout", MethodNotAllowed),
            ("HEAD", "/agentgateway/resource/agentevent/101", MethodNotAllowed),
            ("get", "/agentgateway/resource/agentevent/101", MethodNotAllowed),
            ("TRACE", "/agentgateway/resource/x", MethodNotAllowed),
            ("PUT", "/agentgateway/resource/voicecall/100/previewCallout", InvalidAgentId),
            ("PUT", "/agentgateway/resource/voicecall/0101/previewCallout", InvalidAgentId),
            ("PUT", "/agentgateway/resource/voicecall/abc/previewCallout", InvalidAgentId),
            ("GET", "/agentgateway/resource/agentevent/0101", InvalidAgentId),
            ("PUT", "/agentgateway/resource/onlineagent/-101", InvalidAgentId),
            ("PUT", "/agentgateway/resource/x/101/previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/x/voicecall/101/previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallout/", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallout.json", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallout;a=b", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallou%74", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallou%2574", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/%31%30%31/previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101//previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/./previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/x/../previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101%2FpreviewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall;a=b/101/previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/previewCallout%00", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101\\previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/%EF%BD%90reviewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/prev%C4%B1ewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/%C1%B0reviewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/voicecall/101/previewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/v1/voicecall/101/previewCallout", AmbiguousPath),
            ("GET", "/agentgateway/resource/agentevent/101;x=1", AmbiguousPath),
            ("GET", "/agentgateway/resource/agentevent/101.json", AmbiguousPath),
            ("PUT", "/agentgateway/resource/onlineagent/101.json", AmbiguousPath),
            ("DELETE", "/agentgateway/resource/onlineagent/101/logout.json", AmbiguousPath),
            ("POST", "/agentgateway/resource/qualitycontrol/102/forcelogout/101.xml", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/cancelPreviewCallout.json", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101%EF%BC%8FpreviewCallout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/voicecall/101/%e0%80%a570reviewCallout", AmbiguousPath),
            ("GET", "/agentgateway/resource/agentevent/%31%30%31", AmbiguousPath),
            ("DELETE", "/agentgateway/resource/onlineagent/101/%6Cogout", AmbiguousPath),
            ("PUT", "/agentgateway/resource/onlineagent/101;x=1", AmbiguousPath),
            ("PUT", "/agentgateway/resource/onlineagent/loginbyaccount.json", AmbiguousPath),
            ("PUT", "/agentgateway/resource/onlineagent/loginbyaccoun%74", AmbiguousPath),
            ("put", "/agentgateway/resource/onlineagent/loginbyaccount", MethodNotAllowed),
            ("PUT", "/agentgateway/resource/onlineagent//101/.", AmbiguousPath),
            ("POST", "/agentgateway/resource/qualitycontrol/102/forcelogou%74/101", AmbiguousPath),
            ("GET", "/previewgate/", NotFound),
            ("POST", "/previewgate/push/push/101/x.y", NotFound),
            ("GET", "/agentgateway/../manager/html", NotFound),
            ("GET", "/agentgateway/%2e%2E/manager/html", NotFound),
        ] {
            assert_eq!(classified(method, path), Err(expected), "{method} {path}");
        }
    }

    #[test]
    fn reserved_paths_stay_here_whatever_is_forwarded() {
        let everything = |path: &str| route(&Method::POST, &Path::new(path), &["/".to_owned()]);
        assert_eq!(everything("/previewgate/push/push/101/x.y"), Err(Unclassified::NotFound));
        assert_eq!(everything("/previewgate"), Ok(Operation::Other { agent: None }));
    }

    #[test]
    fn push_addresses() {
        let push = |form| Some(Operation::Push { agent: Some(agent(101)), form });
        for (method, path, expected) in [
            ("POST", "/previewgate/push/push/101/x.y", push(PushForm::CallBackUri)),
            ("POST", "/previewgate/push/push_url/101/x.y", push(PushForm::PushUrl)),
            (
                "POST",
                "/previewgate/push/push/account/1.x.y",
                Some(Operation::Push { agent: None, form: PushForm::CallBackUri }),
            ),
            ("POST", "/previewgate/push/push/101/01.x.y", None),
            ("GET", "/previewgate/push/push/101/x.y", None),
            ("POST", "/previewgate/push/poll/101/x.y", None),
            ("POST", "/previewgate/push/push/0101/x.y", None),
            ("POST", "/previewgate/push/push/101", None),
            ("POST", "/agentgateway/push/push/101/x.y", None),
        ] {
            assert_eq!(route_push(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }

    proptest! {
        /// However the guarded path is disguised by encodings, parameters and odd segments: refused or judged.
        #[test]
        fn a_disguised_callout_is_never_something_else(path in disguised_callout()) {
            let verdict = classified("PUT", &path);
            prop_assert!(
                matches!(verdict, Ok(Operation::PreviewCallout { .. }) | Err(_)),
                "{path} was taken for {verdict:?}"
            );
        }

        #[test]
        fn no_path_panics(path in "(/agentgateway/)?\\PC*") {
            let _ = classified("PUT", &path);
            let _ = Path::new(&path).readings();
        }
    }

    /// The guarded path with every character encoded or not, in either case, and oddities before the slashes.
    fn disguised_callout() -> impl Strategy<Value = String> {
        let path = "resource/voicecall/101/previewCallout";
        let spellings: Vec<_> = path.chars().map(spelled).collect();
        spellings.prop_map(|parts| format!("/agentgateway/{}", parts.concat()))
    }

    fn spelled(character: char) -> BoxedStrategy<String> {
        let plain = character.to_string();
        if character == '/' {
            const ODD: &[&str] =
                &["/", "//", "/./", ";a=b/", ";/", "/x/../", "%2f", "%252F", "\\", "%5c", "/;x/", "/%2e/"];
            return prop_oneof![6 => Just(plain), 4 => prop::sample::select(ODD).prop_map(str::to_owned)].boxed();
        }
        let code = u32::from(character);
        prop_oneof![
            12 => Just(plain.clone()),
            1 => Just(plain.to_uppercase()),
            1 => Just(format!("%{code:02x}")),
            1 => Just(format!("%25{code:02X}")),
            1 => Just(format!("%2525{code:02X}")),
        ]
        .boxed()
    }
}

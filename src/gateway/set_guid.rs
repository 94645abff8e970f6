//! GUIDs that the platform issues in `Set-GUID: JSESSIONID=<uuid>.<node>` (docs/protocol.md 2).

use http::HeaderMap;
use http::header::HeaderName;

use super::context::RequestContext;
use crate::preview::AgentId;

const SET_GUID: HeaderName = HeaderName::from_static("set-guid");

/// The GUID that a response issues, if there is exactly one.
pub(super) fn issued_guid(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(SET_GUID).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let value = field.as_bytes();
    let value = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let guid = match value.iter().position(|byte| *byte == b'=') {
        Some(position) => value.get(position + 1..).unwrap_or_default().trim_ascii(),
        None => value,
    };
    (!guid.is_empty()).then_some(guid)
}

/// With dynamic authentication the platform replaces the GUID from time to time. The new one is the agent's own if the GUID
/// of the request is. Returns the agent whose new GUID must be shared before the client uses it.
#[must_use]
pub(super) fn follow_renewal(context: &RequestContext, issued: Option<&[u8]>) -> Option<AgentId> {
    let (issued, agent) = (issued?, context.classified.operation.requester()?);
    context.services().ledger.renew_session(agent, context.guid_bytes(), issued).then_some(agent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_guid_is_found_in_each_spelling_of_the_field() {
        for (value, guid) in [
            ("JSESSIONID=7c9d.AgentGateway1", Some("7c9d.AgentGateway1")),
            ("JSESSIONID=7c9d.AgentGateway1; Path=/; Secure", Some("7c9d.AgentGateway1")),
            (" 7c9d.AgentGateway1 ", Some("7c9d.AgentGateway1")),
            ("JSESSIONID=", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(SET_GUID, HeaderValue::from_static(value))]);
            assert_eq!(issued_guid(&headers), guid.map(str::as_bytes), "{value}");
        }
        let mut two = HeaderMap::new();
        two.append(SET_GUID, HeaderValue::from_static("JSESSIONID=a"));
        two.append(SET_GUID, HeaderValue::from_static("JSESSIONID=b"));
        assert_eq!(issued_guid(&two), None);
        assert_eq!(issued_guid(&HeaderMap::new()), None);
    }
}

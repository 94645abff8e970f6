//! The addresses that CC-Gateway pushes to: the gateway's own, each with the application's address inside, signed.
//!
//! `/previewgate/push/<form>/<agent>/<issued>.<target>.<mac>`: `issued` in milliseconds, target and MAC in base64url. An
//! address that was issued for a sign-in by account has `account` in place of the agent. Everything that is needed to
//! relay a push is in its address, so a gateway that was restarted, or another one with the same key, relays it without
//! knowing of the sign-in. The time of issue ties the address to its session.
//!
//! The signature (HMAC-SHA256 over all parts) has two purposes: the gateway must not reach addresses of a stranger's
//! choice, and an agent must not be shown what the platform never said. A client that has a signed address can post events
//! for that one agent to that one target. The address travels from the gateway to CC-Gateway and back, never to the
//! application, and no log holds it: nothing here has a `Debug` that shows it.

use std::fmt;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use http::uri::PathAndQuery;

use super::event::Delivery;
use crate::endpoint_url::EndpointUrl;
use crate::label_enum;
use crate::preview::{AgentId, Timestamp};

/// Prefix of the gateway's own paths. They are never forwarded to the upstream, even if `upstream.path_prefixes` allows
/// them.
pub const RESERVED: &str = "/previewgate/";
const PUSH: &str = "/previewgate/push/";

/// Longest address that is issued or accepted. Nothing public says how long a `callBackUri` may be.
pub const MAX_URL: usize = 2048;

/// Signed with each address. The number stands for the layout.
const CONTEXT: &[u8] = b"previewgate push address\x02";
/// The layout of earlier releases, without the time of issue. Sessions that began before an upgrade still use it.
const UNTIMED_CONTEXT: &[u8] = b"previewgate push address\x01";
/// In place of the agent: the sign-in was by account, so its answer names the agent.
const BY_ACCOUNT: &str = "account";

label_enum! {
    /// The two forms of push (docs/protocol.md 6.3 and 6.4), as they stand in the path.
    pub enum PushForm {
        /// `callBackUri` with `serviceToken`: many events in one push.
        CallBackUri = "push",
        /// `pushUrl`, the older form: one event in one envelope.
        PushUrl = "push_url",
    }
}

impl PushForm {
    /// The word for the metrics.
    pub fn delivery(self) -> Delivery {
        match self {
            Self::CallBackUri => Delivery::Push,
            Self::PushUrl => Delivery::PushUrl,
        }
    }
}

/// The address where an application wants its pushes.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
    /// Scheme, host and port.
    pub origin: EndpointUrl,
    /// Path and query of the push.
    pub path: PathAndQuery,
}

/// Only the origin: path and query are the application's secret, if it has one.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}/…)", self.origin)
    }
}

/// Text that is no address an application could be reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an http or https URL with a plain host and no user name or fragment")]
pub struct InvalidTarget;

impl Target {
    /// Reads `http[s]://host[:port][/path][?query]`. Hosts have one spelling: no user names, no fragments, no numbers
    /// that only a resolver would take for an address.
    ///
    /// # Errors
    /// [`InvalidTarget`]
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\');
        let (scheme, rest) = url.split_once("://").filter(|_| plain).ok_or(InvalidTarget)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let origin = format!("{scheme}://{authority}").parse().map_err(|_| InvalidTarget)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = PathAndQuery::try_from(format!("{slash}{path}")).map_err(|_| InvalidTarget)?;
        Ok(Self { url: url.to_owned(), origin, path })
    }
}

/// The content of a push address, before its signature is checked.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The form of the push.
    pub form: PushForm,
    /// The agent whose events it takes; `None` if the agent signed in by account.
    pub agent: Option<AgentId>,
    /// When the address was issued: the beginning of its sign-in. `None` for an address of an earlier release.
    pub issued: Option<Timestamp>,
    signed: &'a str,
}

impl<'a> Claim<'a> {
    /// Reads the path of a push; `None` if it is no push address.
    pub fn read(path: &'a str) -> Option<Self> {
        if path.len() > MAX_URL {
            return None;
        }
        let mut segments = path.strip_prefix(PUSH)?.splitn(3, '/');
        let (form, agent, signed) = (segments.next()?, segments.next()?, segments.next()?);
        let form = PushForm::ALL.iter().copied().find(|known| known.as_str() == form)?;
        let agent = if agent == BY_ACCOUNT { None } else { Some(agent.parse().ok()?) };
        let (issued, signed) = match signed.split_once('.')? {
            (issued, rest) if rest.contains('.') => (Some(Timestamp(canonical_number(issued)?)), rest),
            _ => (None, signed),
        };
        Some(Self { form, agent, issued, signed })
    }
}

/// A number in its one canonical spelling.
fn canonical_number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text)
}

/// Issues push addresses and verifies its own. The same key on every instance makes them one gateway.
pub struct PushKey(hmac::Key);

impl PushKey {
    /// A key from the content of `push.key`.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The path at which pushes to `target` are relayed, for a sign-in of `agent` (`None`: by account) that began at
    /// `issued`.
    pub fn issue(&self, form: PushForm, agent: Option<AgentId>, issued: Timestamp, target: &Target) -> String {
        let url = target.url.as_bytes();
        let mac = hmac::sign(&self.0, &message(form, agent, Some(issued), url));
        let (target, mac) = (BASE64URL_NOPAD.encode(url), BASE64URL_NOPAD.encode(mac.as_ref()));
        let agent = agent.map_or_else(|| BY_ACCOUNT.to_owned(), |agent| agent.to_string());
        format!("{PUSH}{form}/{agent}/{}.{target}.{mac}", issued.0)
    }

    /// The target, if this key has signed the address.
    pub fn verify(&self, claim: Claim<'_>) -> Option<Target> {
        let (target, mac) = claim.signed.split_once('.')?;
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let (url, mac) = (decode(target)?, decode(mac)?);
        // Compares in constant time: an attacker must not learn how much of a guess was right.
        hmac::verify(&self.0, &message(claim.form, claim.agent, claim.issued, &url), &mac).ok()?;
        Target::parse(std::str::from_utf8(&url).ok()?).ok()
    }
}

/// Fields of fixed length, then the rest: no two addresses have the same message. No agent has the ID 0.
fn message(form: PushForm, agent: Option<AgentId>, issued: Option<Timestamp>, url: &[u8]) -> Vec<u8> {
    let form = match form {
        PushForm::CallBackUri => 0,
        PushForm::PushUrl => 1,
    };
    let agent = agent.map_or(0, AgentId::as_u32).to_be_bytes();
    match issued {
        Some(issued) => [CONTEXT, &[form], &agent, &issued.0.to_be_bytes(), url].concat(),
        None => [UNTIMED_CONTEXT, &[form], &agent, url].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "https://cti.example:9443/push/here?token=%20a";

    const ISSUED: Timestamp = Timestamp(1_700_000_000_000);

    fn key() -> PushKey {
        PushKey::new(&[7; 32])
    }

    fn agent() -> AgentId {
        "101".parse().unwrap()
    }

    fn verified(key: &PushKey, path: &str) -> Option<Target> {
        key.verify(Claim::read(path)?)
    }

    #[test]
    fn an_issued_address_leads_back_to_its_target() {
        for form in PushForm::ALL {
            let path = key().issue(*form, Some(agent()), ISSUED, &Target::parse(URL).unwrap());
            let claim = Claim::read(&path).unwrap();
            assert_eq!((claim.form, claim.agent, claim.issued), (*form, Some(agent()), Some(ISSUED)));
            let target = key().verify(claim).unwrap();
            assert_eq!(
                (target.url.as_str(), target.origin.port, target.path.as_str()),
                (URL, 9443, "/push/here?token=%20a")
            );
        }
    }

    /// Addresses of an earlier release have no time of issue. They can be read, so that their pushes are refused as such.
    #[test]
    fn an_address_has_two_parts_or_three_and_a_bound() {
        let claim =
            |path: &str| Claim::read(&format!("{PUSH}push/101/{path}")).map(|claim| (claim.issued, claim.signed.len()));
        assert_eq!(claim("x.y"), Some((None, 3)));
        assert_eq!(claim("5.x.y"), Some((Some(Timestamp(5)), 3)));
        for odd in ["x", "05.x.y", "+5.x.y", "a.x.y", ".x.y"] {
            assert_eq!(claim(odd), None, "{odd}");
        }
        let longest = MAX_URL - format!("{PUSH}push/101/5.x.").len();
        assert!(claim(&format!("5.x.{}", "y".repeat(longest))).is_some());
        assert!(claim(&format!("5.x.{}", "y".repeat(longest + 1))).is_none());
        assert!(claim(&format!("5.x.{}", "y".repeat(longest + 2))).is_none());
    }

    #[test]
    fn another_key_form_or_agent_has_another_signature() {
        let path = key().issue(PushForm::CallBackUri, Some(agent()), ISSUED, &Target::parse(URL).unwrap());
        assert!(verified(&key(), &path).is_some());
        assert!(verified(&PushKey::new(&[8; 32]), &path).is_none());
        assert!(verified(&key(), &path.replace("/push/101/", "/push_url/101/")).is_none());
        assert!(verified(&key(), &path.replace("/101/", "/102/")).is_none());
        assert!(verified(&key(), &path.replace("/101/", "/account/")).is_none());
        assert!(verified(&key(), &path.replace("/1700000000000.", "/1700000000001.")).is_none());
        assert!(verified(&key(), &path.replace("/1700000000000.", "/01700000000000.")).is_none());
        assert!(verified(&key(), &path.replace("/1700000000000.", "/")).is_none());
    }

    #[test]
    fn targets() {
        for (url, origin, path) in [
            ("http://cti.example", "http://cti.example:80", "/"),
            ("HTTPS://CTI.example/", "https://cti.example:443", "/"),
            ("https://10.1.2.3:9000?x=/y", "https://10.1.2.3:9000", "/?x=/y"),
            ("https://[2001:db8::1]:1/a//b", "https://[2001:db8::1]:1", "/a//b"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.origin.to_string().as_str(), target.path.as_str()), (origin, path), "{url}");
        }
        for url in [
            "",
            "cti.example/push",
            "ftp://cti.example/",
            "https:///x",
            "https://user:pw@cti.example/",
            "https://cti.example/#x",
            "https://cti.example\\@evil.example/",
            "https://cti.example:0/",
            "https://cti.example:99999/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://cti.example/a b",
            "https://cti.example/\r\nx: y",
            "https://cti.exämple/",
        ] {
            assert_eq!(Target::parse(url), Err(InvalidTarget), "{url}");
        }
    }

    #[test]
    fn no_debug_output_shows_a_path() {
        assert_eq!(format!("{:?}", Target::parse(URL).unwrap()), "Target(https://cti.example:9443/…)");
    }

    proptest! {
        #[test]
        fn round_trip(
            secret in prop::collection::vec(any::<u8>(), 32..64),
            form in prop::sample::select(PushForm::ALL),
            number in prop::option::of(AgentId::MIN..=AgentId::MAX),
            issued in any::<u64>(),
            rest in "[/?][a-zA-Z0-9%&=./_~-]{0,200}",
        ) {
            let (key, agent) = (PushKey::new(&secret), number.map(|number| AgentId::try_from(number).unwrap()));
            let target = Target::parse(&format!("https://cti.example:9000{rest}")).unwrap();
            let path = key.issue(form, agent, Timestamp(issued), &target);
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte)));
            let claim = Claim::read(&path).unwrap();
            prop_assert_eq!((claim.form, claim.agent, claim.issued), (form, agent, Some(Timestamp(issued))));
            prop_assert_eq!(key.verify(claim), Some(target));
        }

        #[test]
        fn any_flipped_bit_is_refused(position in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut path = key().issue(PushForm::PushUrl, Some(agent()), ISSUED, &Target::parse(URL).unwrap()).into_bytes();
            let position = position.index(path.len());
            path[position] ^= 1 << bit;
            if let Ok(path) = std::str::from_utf8(&path) {
                prop_assert!(verified(&key(), path).is_none(), "{}", path);
            }
        }

        #[test]
        fn nothing_panics_and_nothing_made_up_is_accepted(rest in "\\PC{0,100}", path in "\\PC{0,100}") {
            for path in [format!("{PUSH}push/101/{rest}"), format!("{PUSH}{rest}"), path] {
                prop_assert!(verified(&key(), &path).is_none());
            }
            let _ = Target::parse(&rest);
            let _ = Target::parse(&format!("https://{rest}"));
        }
    }
}

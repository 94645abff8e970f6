//! Push addresses and sign-ins: no path is verified that was not issued, what was issued is verified only for the agent,
//! form and time that it names, and in a rewritten sign-in no reader finds an address of the application.
#![no_main]

mod readers;

use libfuzzer_sys::fuzz_target;
use previewgate::preview::{AgentId, Timestamp};
use previewgate::protocol::AddressMatcher;
use previewgate::protocol::push_address::{Claim, MAX_URL, PushForm, PushKey, Target};
use previewgate::protocol::sign_in::{push_addresses, with_addresses};
use readers::each_reading;

const OWN: &str = "http://gate.example/previewgate/push/";

fn addresses(path: &str, url: &str) {
    let key = PushKey::new(b"a key that the fuzzer does not have");
    if let Some(claim) = Claim::read(path) {
        assert!(key.verify(claim).is_none(), "{path} was never issued");
    }
    let Ok(target) = Target::parse(url) else { return };
    let agent = AgentId::try_from(101).unwrap();
    let issued = key.issue(PushForm::PushUrl, Some(agent), Timestamp(1), &target);
    // Longer ones are never issued: the sign-in is refused.
    if issued.len() > MAX_URL {
        return;
    }
    let claim = Claim::read(&issued).expect("what was issued can be read");
    assert_eq!((claim.agent, claim.issued), (Some(agent), Some(Timestamp(1))));
    assert!(key.verify(claim).is_some(), "what was issued is verified");
    assert!(PushKey::new(b"another key").verify(claim).is_none(), "another gateway's address is verified");
    for other in [issued.replace("/101/", "/102/"), issued.replace("/push_url/", "/push/")] {
        assert!(other == issued || Claim::read(&other).is_none_or(|claim| key.verify(claim).is_none()), "{other}");
    }
    assert!(AddressMatcher::default().feed(issued.as_bytes()), "{issued} is not recognised in an answer");
}

fn sign_in(body: &[u8]) {
    let Ok(addresses) = push_addresses(body) else { return };
    let rewritten = with_addresses(body, addresses.iter().map(|address| (address, OWN.to_owned())));
    let again = push_addresses(&rewritten).expect("a rewritten sign-in can be read again");
    assert_eq!(again.len(), addresses.len());
    assert!(again.iter().all(|address| address.url == OWN));
    // Without an address the body is forwarded as it is.
    if addresses.is_empty() {
        return;
    }
    assert!(rewritten.is_ascii());
    each_reading(&rewritten, |text, reading| {
        let has_token = text("serviceToken").flatten().is_some_and(|token| !token.is_empty());
        for (name, counts) in [("pushUrl", true), ("callBackUri", has_token)] {
            if let (Some(Some(found)), true) = (text(name), counts) {
                assert!(found == OWN || found.is_empty(), "{found} in {reading}");
            }
        }
    });
}

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (path, url, body) = input;
    addresses(path, url);
    sign_in(body);
});

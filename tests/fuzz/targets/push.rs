//! Push addresses and sign-ins: no path is verified that was not issued, and a rewritten sign-in is the same but for the
//! addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use previewgate::preview::{AgentId, Timestamp};
use previewgate::protocol::push_address::{Claim, MAX_URL, PushForm, PushKey, Target};
use previewgate::protocol::sign_in::{push_addresses, with_addresses};

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (path, url, sign_in) = input;
    let key = PushKey::new(b"a key that the fuzzer does not have");
    if let Some(claim) = Claim::read(path) {
        assert!(key.verify(claim).is_none(), "{path} was never issued");
    }
    if let Ok(target) = Target::parse(url) {
        let agent = AgentId::try_from(101).unwrap();
        let issued = key.issue(PushForm::PushUrl, Some(agent), Timestamp(1), &target);
        // Longer ones are never issued: the sign-in is refused.
        if issued.len() > MAX_URL {
            return;
        }
        let claim = Claim::read(&issued).expect("what was issued can be read");
        assert_eq!((claim.agent, claim.issued), (Some(agent), Some(Timestamp(1))));
        assert!(key.verify(claim).is_some(), "what was issued is verified");
    }
    if let Ok(addresses) = push_addresses(sign_in) {
        let replaced = addresses.iter().map(|address| (address, "http://gate.example/".to_owned()));
        let rewritten = with_addresses(sign_in, replaced);
        let again = push_addresses(&rewritten).expect("a rewritten sign-in can be read again");
        assert_eq!(again.len(), addresses.len());
        assert!(again.iter().all(|address| address.url == "http://gate.example/"));
    }
});

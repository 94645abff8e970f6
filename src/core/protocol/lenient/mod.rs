//! Whatever the gateway accepts and forwards, every lenient reader behind it reads as the gateway has read it, or not at
//! all: properties of `callout` and `sign_in`, over models of readers ([`reader`]) and of charsets ([`charset`]).

mod charset;
mod reader;

use charset::Decoder;
use proptest::prelude::*;
use reader::{Habits, Object};

use super::callout::{ParsedCallout, ParsedCancel, parse_callout, parse_cancel};
use super::sign_in::{push_addresses, with_addresses};

/// A reader: its charset, and its habits.
fn readers() -> impl Strategy<Value = (Decoder, Habits)> {
    let decoder =
        (0..39_usize, any::<u64>(), any::<bool>()).prop_map(|(label, swallows, yen)| Decoder { label, swallows, yen });
    let habits = prop_oneof![
        Just(Habits::GSON),
        Just(Habits::FASTJSON),
        any::<u16>().prop_map(Habits::mixture),
        Just(Habits::mixture(u16::MAX))
    ];
    (decoder, habits)
}

/// What an attacker would put into a string: ends of strings and of members to some reader, and the names that count.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    const TEXTS: [&str; 40] = [
        "\\\"",
        "\\\\",
        "\\\\\\\"",
        "\\u0022",
        "\\u005c",
        "\\u0027",
        "\\n",
        "\\/",
        "\\u0000",
        "'",
        "''",
        "called",
        "Called",
        "call_ed",
        "callcontrolid",
        "callControlId",
        "pushUrl",
        "callBackUri",
        "serviceToken",
        ":",
        "=",
        "=>",
        ",",
        ";",
        "2",
        "'2'",
        "\\\"2\\\"",
        "{",
        "}",
        "[",
        "]",
        "//",
        "/*",
        "*/",
        "#",
        " ",
        "x",
        "你",
        "\u{a5}",
        "ｃalled",
    ];
    prop_oneof![
        12 => prop::sample::select(TEXTS.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        // Lead bytes of multi-byte charsets, alone and in UTF-8.
        1 => prop::sample::select(vec![&b"\x81"[..], b"\xe4", b"\xbd\xa0", b"\xe4\xbd", b"\x8e", b"\xa1", b"\xff"])
            .prop_map(<[u8]>::to_vec),
        2 => "[\u{80}-\u{7ff}]".prop_map(String::into_bytes),
        1 => prop::sample::select(vec![&b"\0"[..], b"\x1a", b"\x1b$B", b"\x0e", b"\n", b"~{"]).prop_map(<[u8]>::to_vec),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(fragments(), 0..6).prop_map(|parts| parts.concat())
}

/// Members besides those that count, in strict JSON if their text allows it.
fn members() -> impl Strategy<Value = Vec<u8>> {
    let member = (text(), text(), 0..5_u8).prop_map(|(name, value, shape)| {
        let quoted = |text: &[u8]| [b"\"", text, b"\""].concat();
        let name = [b"\"n", &name[..], b"\""].concat();
        let value = match shape {
            0 => b"null".to_vec(),
            1 => [b"[", &quoted(&value)[..], b"]"].concat(),
            2 => [b"{\"called\":", &quoted(&value)[..], b"}"].concat(),
            _ => quoted(&value),
        };
        [&name[..], b":", &value].concat()
    });
    prop::collection::vec(member, 0..3).prop_map(|members| members.join(&b","[..]))
}

/// An object with the members that count among others, and with what stands around it.
fn object(counted: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Vec<u8>> {
    let own: Vec<_> = counted
        .iter()
        .map(|(name, values)| {
            let names = [format!("\"{name}\""), format!("\"{}\"", name.replacen('l', "\\u006c", 1))];
            let name = prop_oneof![8 => Just(names[0].clone()), 1 => Just(names[1].clone())];
            (name, prop::sample::select(values.to_vec())).prop_map(|(name, value)| format!("{name}:{value}"))
        })
        .collect();
    let around = || {
        let odd = prop::sample::select(vec![" ", "\n", "\u{feff}", "\0", "/**/", ")]}'\n"]);
        prop_oneof![8 => Just(String::new()), 1 => odd.prop_map(str::to_owned)]
    };
    (around(), own, members(), members(), members(), around()).prop_map(|(before, own, first, second, third, after)| {
        let mut parts = vec![first];
        let mut others = vec![third, second];
        for member in own {
            parts.push(member.into_bytes());
            parts.extend(others.pop());
        }
        parts.retain(|part| !part.is_empty());
        [before.as_bytes(), b"{", &parts.join(&b","[..]), b"}", after.as_bytes()].concat()
    })
}

const CALLED: &[&str] = &["\"1\"", "\"138 0013\"", "\"1\\u0000\"", "\"\\u0031\"", "\"+49*31#\"", "\"1'\""];
const CONTROL_ID: &[&str] = &["7", "\"7\"", "\"7\\u0000\"", "\"\\u0037\"", "-7", "0"];
const URL: &[&str] = &["\"http://a/\"", "\"http:\\/\\/a\"", "\"http://\\u0061/\""];

/// Tokens in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&str; 20] = [
        "{",
        "}",
        "\"",
        "'",
        "\"called\"",
        "\"callcontrolid\"",
        "called",
        "callcontrolid",
        ":",
        "=",
        ",",
        ";",
        "\"1\"",
        "7",
        "\\",
        "\\\"",
        "/*",
        "*/",
        "\n",
        "\u{feff}",
    ];
    let tokens = prop::collection::vec(prop::sample::select(TOKENS.to_vec()), 0..12);
    tokens.prop_map(|tokens| format!("{{{}", tokens.concat()).into_bytes())
}

fn callouts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => object(&[("called", CALLED), ("callcontrolid", CONTROL_ID)]),
        2 => object(&[("callcontrolid", CONTROL_ID), ("called", CALLED)]),
        1 => soup()
    ]
}

fn config() -> ProptestConfig {
    // Most bodies are refused, and a reading that differs is rare.
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.saturating_mul(16), ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_reader_reads_the_callout_that_was_evaluated(body in callouts(), readers in prop::collection::vec(readers(), 8)) {
        let Ok(ParsedCallout { callout, rewritten }) = parse_callout(&body) else { return Ok(()) };
        let forwarded = rewritten.as_deref().unwrap_or(&body);
        prop_assert!(forwarded.is_ascii());
        for (decoder, habits) in readers {
            let text = decoder.decode(forwarded);
            let Some(object) = Object::read(&text, habits) else { continue };
            let (called, id) = (object.text("called"), object.text("callcontrolid"));
            let expected = Some(Some(callout.called.reveal().to_owned()));
            // A reader who knows no escapes may miss a name that is spelled with some.
            prop_assert!(called == expected || called == Some(None), "{called:?} in {text} by {decoder:?} {habits:?}");
            let expected = Some(Some(callout.control_id.0.to_string()));
            prop_assert!(id == expected || id == Some(None), "{id:?} in {text} by {decoder:?} {habits:?}");
        }
    }

    #[test]
    fn every_reader_cancels_the_preview_that_is_ended(
        body in prop_oneof![4 => object(&[("callcontrolid", CONTROL_ID)]), 1 => soup()],
        readers in prop::collection::vec(readers(), 8),
    ) {
        let ParsedCancel::One { control_id, rewritten } = parse_cancel(&body) else { return Ok(()) };
        let forwarded = rewritten.as_deref().unwrap_or(&body);
        prop_assert!(forwarded.is_ascii());
        for (decoder, habits) in readers {
            let text = decoder.decode(forwarded);
            let Some(object) = Object::read(&text, habits) else { continue };
            let id = object.text("callcontrolid");
            let expected = Some(Some(control_id.0.to_string()));
            prop_assert!(id == expected || id == Some(None), "{id:?} in {text} by {decoder:?} {habits:?}");
        }
    }

    /// In a sign-in that was rewritten, no reader finds a push address of the application.
    #[test]
    fn every_reader_is_given_the_gateways_push_address(
        body in prop_oneof![
            3 => object(&[("pushUrl", URL)]),
            2 => object(&[("callBackUri", URL), ("serviceToken", &["\"t\""])]),
            1 => object(&[("pushUrl", URL), ("serviceToken", &["\"t\""]), ("callBackUri", URL)]),
        ],
        readers in prop::collection::vec(readers(), 8),
    ) {
        let Ok(addresses) = push_addresses(&body) else { return Ok(()) };
        if addresses.is_empty() {
            return Ok(());
        }
        let own = "https://gate/previewgate/push/";
        let forwarded = with_addresses(&body, addresses.iter().map(|address| (address, own.to_owned())));
        prop_assert!(forwarded.is_ascii());
        for (decoder, habits) in readers {
            let text = decoder.decode(&forwarded);
            let Some(object) = Object::read(&text, habits) else { continue };
            let has_token = object.text("serviceToken").flatten().is_some();
            for (name, counts) in [("pushUrl", true), ("callBackUri", has_token)] {
                if let (Some(Some(found)), true) = (object.text(name), counts) {
                    prop_assert!(found == own, "{found} in {text} by {decoder:?} {habits:?}");
                }
            }
        }
    }
}

/// The generators produce what they are meant to: enough callouts are accepted, and enough readers read them.
#[test]
fn the_properties_are_not_empty() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut rewritten, mut read) = (0, 0, 0);
    for _ in 0..2000 {
        let body = callouts().new_tree(&mut runner).unwrap().current();
        let (decoder, habits) = readers().new_tree(&mut runner).unwrap().current();
        let Ok(parsed) = parse_callout(&body) else { continue };
        accepted += 1;
        rewritten += usize::from(parsed.rewritten.is_some());
        let forwarded = parsed.rewritten.as_deref().unwrap_or(&body);
        read += usize::from(Object::read(&decoder.decode(forwarded), habits).is_some());
    }
    assert!(accepted > 200 && rewritten > 100 && read > 150, "{accepted} {rewritten} {read}");
}

//! The framer: pieces make no difference, and hyper's parser reads what passes the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use previewgate::downstream::framing::{Fault, Framer};

/// How many bytes pass when the input arrives in pieces of the given size, and what ends it.
fn passed(input: &[u8], piece: usize) -> (usize, Option<Fault>) {
    let mut framer = Framer::new(4096);
    let (mut from, mut arrived) = (0, 0);
    while arrived < input.len() {
        arrived = (arrived + piece).min(input.len());
        loop {
            match framer.advance(&input[from..arrived]) {
                Ok(passed) if passed.bytes == 0 => break,
                Ok(passed) => from += passed.bytes,
                Err(fault) => return (from, Some(fault)),
            }
        }
    }
    (from, None)
}

fuzz_target!(|input: &[u8]| {
    let whole = passed(input, usize::MAX - input.len());
    let bytewise = passed(input, 1);
    // A body is passed on as it comes, so bytes before a broken chunk may have passed; the verdict is the same.
    if whole.1.is_none() || bytewise.1.is_none() {
        assert_eq!(whole, bytewise);
    }
    let mut framer = Framer::new(4096);
    if let Ok(first) = framer.advance(input)
        && first.bytes > 0
    {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(input).expect("hyper's parser refuses what the framer lets through");
        assert!(parsed.is_complete());
        assert!(http::Uri::try_from(request.path.unwrap()).is_ok());
        let lengths = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("content-length")).count();
        let codings = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("transfer-encoding")).count();
        assert!(lengths + codings <= 1, "two framings passed");
    }
});

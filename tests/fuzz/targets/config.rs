//! The configuration: any text is refused with reasons or means the same when it is written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use previewgate::config::{Files, parse};

fuzz_target!(|text: &str| {
    match parse(text, Path::new("/etc/previewgate"), Files::Skip) {
        Ok(config) => {
            let again = parse(&config.to_toml(), Path::new("/elsewhere"), Files::Skip);
            assert_eq!(again.expect("the effective configuration does not load"), config);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});

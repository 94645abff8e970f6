//! The models of lenient readers that the unit tests use (`src/core/protocol/lenient`), for targets that read JSON.

#[path = "../../../src/core/protocol/lenient/charset.rs"]
#[allow(dead_code)]
mod charset;
#[path = "../../../src/core/protocol/lenient/reader.rs"]
#[allow(dead_code)]
mod reader;

use std::hash::{DefaultHasher, Hash, Hasher};

use charset::Decoder;
use reader::{Habits, Object};

/// How many readers read each body.
const READERS: u64 = 8;

/// What several readers find in `forwarded`: Gson, fastjson, the most lenient one, and others that the bytes choose, each
/// with a charset that the bytes choose. Calls `check` for each reader that can read it.
pub fn each_reading(forwarded: &[u8], check: impl Fn(&dyn Fn(&str) -> Option<Option<String>>, &str)) {
    for number in 0..READERS {
        let mut hasher = DefaultHasher::new();
        (number, forwarded).hash(&mut hasher);
        let bits = hasher.finish();
        let habits = match number {
            0 => Habits::GSON,
            1 => Habits::FASTJSON,
            2 => Habits::mixture(u16::MAX),
            _ => Habits::mixture((bits >> 32) as u16),
        };
        let decoder = Decoder { label: bits as usize % 39, swallows: bits.rotate_left(17), yen: bits >> 63 == 1 };
        let text = decoder.decode(forwarded);
        if let Some(object) = Object::read(&text, habits) {
            check(&|name| object.text(name), &format!("{text} by {decoder:?} {habits:?}"));
        }
    }
}

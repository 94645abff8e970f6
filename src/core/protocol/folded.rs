//! Words as the most forgiving reader compares them: without case, compatibility forms, marks and punctuation.

use unicode_normalization::char::decompose_compatible;

/// Longest word that is kept, in bytes. No word that matters is longer.
pub(super) const MAX_WORD: usize = 24;

/// The ASCII letters and digits, in lower case, of the characters that were pushed. It allocates nothing and keeps no more
/// than the longest word that matters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folded {
    bytes: [u8; MAX_WORD],
    /// May be larger than the array: then the word is too long to matter.
    length: usize,
}

impl Folded {
    /// Appends what a case-insensitive or compatibility comparison (NFKC) may find in a character, and returns the number
    /// of letters and digits in that.
    pub(super) fn push(&mut self, character: char) -> usize {
        let before = self.length;
        match character {
            _ if character.is_ascii() => self.push_ascii(character),
            // The dotless i is the one letter that only case mapping moves into ASCII.
            '\u{131}' => self.push_ascii('i'),
            _ => each_compatible(character, |part| self.push_ascii(part)),
        }
        self.length - before
    }

    fn push_ascii(&mut self, character: char) {
        if let (true, Ok(byte)) = (character.is_ascii_alphanumeric(), u8::try_from(character)) {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte.to_ascii_lowercase();
            }
            self.length += 1;
        }
    }

    /// The word; `None` if it is too long to matter.
    pub(super) fn word(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}

/// Calls `seen` with the characters of the compatibility form: `／` is `/`, `ⓒ` is `c`, `㎈` is `cal`. No form has more
/// than 18.
pub(super) fn each_compatible(character: char, mut seen: impl FnMut(char)) {
    decompose_compatible(character, |part| {
        work::count();
        seen(part);
    });
}

/// In tests, counts the characters and bytes that were looked at, so that the work for a text has a bound that does not
/// depend on a clock.
#[cfg(test)]
pub(super) mod work {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<usize> = const { Cell::new(0) });

    pub(in crate::protocol) fn count() {
        DONE.set(DONE.get() + 1);
    }

    /// What was counted while `work` ran.
    pub(in crate::protocol) fn of<T>(work: impl FnOnce() -> T) -> usize {
        DONE.set(0);
        work();
        DONE.get()
    }
}

#[cfg(not(test))]
pub(super) mod work {
    pub(in crate::protocol) fn count() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization::UnicodeNormalization;

    fn folded(text: &str) -> Option<String> {
        let mut folded = Folded::default();
        text.chars().for_each(|character| {
            folded.push(character);
        });
        folded.word().map(|word| String::from_utf8(word.to_vec()).unwrap())
    }

    #[test]
    fn words_lose_case_compatibility_forms_marks_and_punctuation() {
        for (text, expected) in
            [("Ａ-b_C", "abc"), ("㎈ⓒ", "calc"), ("ca\u{301}l\u{131}", "cali"), ("你", ""), ("", "")]
        {
            assert_eq!(folded(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(folded(&"a".repeat(MAX_WORD)).map(|word| word.len()), Some(MAX_WORD));
        assert_eq!(folded(&"a".repeat(MAX_WORD + 1)), None);
    }

    /// What is pushed for each character, against the whole normalisation. No character beyond has another form.
    #[test]
    fn every_character_folds_onto_the_ascii_of_its_compatibility_form() {
        for character in ('\u{80}'..='\u{2ffff}').filter(|character| *character != '\u{131}') {
            let expected: String = std::iter::once(character).nfkd().filter(char::is_ascii_alphanumeric).collect();
            let mut word = Folded::default();
            let count = work::of(|| word.push(character));
            assert_eq!(word.word().unwrap(), expected.to_ascii_lowercase().as_bytes(), "{character:?}");
            assert!(count <= 18, "{character:?}: {count}");
        }
    }
}

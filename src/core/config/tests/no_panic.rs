//! For any content of the file, the result is a list of problems or a configuration, never a panic.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn from_any_text(text in "\\PC{0,200}") {
        let _ = skip(&text);
    }

    #[test]
    fn from_any_value(index in 0..known().len(), value in "[-\\PC]{0,30}|-?[0-9]{1,30}|\"[^\"]{0,30}\"|\\[.{0,9}\\]") {
        let text = format!("{} = {value}", known()[index]);
        if let Err(problems) = skip(&text) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn from_any_endpoint(url in "(https?://)?[\\[\\]:/@?#a-z0-9.%\\PC]{0,30}") {
        let _ = skip(&format!("[upstream]\nendpoints = [{}]", toml::Value::from(url)));
    }
}

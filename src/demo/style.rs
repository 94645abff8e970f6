//! Colours, on terminals only; and lines that fit.

use std::io::{self, IsTerminal};

/// Whether to use colours.
#[derive(Clone, Copy)]
pub(super) enum Style {
    /// For files and pipes, and if `NO_COLOR` is set.
    Plain,
    /// For terminals.
    Coloured,
}

#[derive(Clone, Copy)]
pub(super) enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Style {
    /// The style for the standard output.
    pub(super) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted { Self::Coloured } else { Self::Plain }
    }

    /// The text in this colour, if colours are wanted.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
        }
    }
}

/// Breaks a line at blanks, and indents all but its first part.
pub(super) fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    for word in line.split(' ') {
        if !part.is_empty() && part.len() + 1 + word.len() > width {
            parts.push(std::mem::replace(&mut part, "   ".to_owned()));
        }
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Style::Plain.paint(Colour::Red, "x"), "x");
        assert_eq!(Style::Coloured.paint(Colour::Red, "x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn long_lines_are_wrapped_without_loss() {
        let line = "a=1 bb=22  ccc=333 dddd=4444";
        assert_eq!(wrapped(line, 10), ["a=1 bb=22 ", "    ccc=333", "    dddd=4444"]);
        assert_eq!(wrapped(line, 100), [line]);
    }
}

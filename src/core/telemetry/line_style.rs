//! How a line looks: for machines, for a file, or for a terminal.

use std::io::{self, IsTerminal};

use crate::config::LogFormat;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// One JSON object.
    Json,
    /// Text with date and time.
    Text,
    /// Text for a terminal: the time only.
    Terminal,
    /// Text for a terminal that shows colours.
    ColourTerminal,
}

impl LineStyle {
    /// The style for the standard output: colours only on a terminal, and not against the will of `NO_COLOR`
    /// (<https://no-color.org>) or of a terminal that has none.
    pub fn of_stdout(format: LogFormat) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let wants_colour = set("NO_COLOR").is_none() && set("TERM").is_some_and(|terminal| terminal != "dumb");
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Text if !io::stdout().is_terminal() => Self::Text,
            LogFormat::Text if wants_colour => Self::ColourTerminal,
            LogFormat::Text => Self::Terminal,
        }
    }
}

impl From<LogFormat> for LineStyle {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Text => Self::Text,
        }
    }
}

//! `previewgate audit report`: one day of calls, for supervisors and for other programs.

mod day;
mod html;
mod table;
mod text;

use std::io::Write;

use day::Day;

use super::arguments::Directories;
use super::error::Error;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    /// The day, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day::parse)]
    day: String,
    /// Only callouts of this agent.
    #[arg(long, value_name = "ID")]
    agent: Option<u32>,
    /// The form: for people, for a spreadsheet, for programs, or one page to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Csv,
    Json,
    Html,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let day = Day::read(&options.directories.directories, &options.day, options.agent)?;
    match options.format {
        Format::Text => out.write_all(text::page(&day).as_bytes())?,
        Format::Csv => table::csv(&day, out)?,
        Format::Json => table::json(&day, out)?,
        Format::Html => out.write_all(html::page(&day).as_bytes())?,
    }
    Ok(0)
}

//! `previewgate audit report`: one day of calls, for supervisors and for other programs.

mod day;
mod html;
mod table;
mod text;

use std::io::Write;

use day::{Day, Selection};

use super::arguments::{self, Directories};
use super::checked::CheckOptions;
use super::error::Error;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    /// The day, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = arguments::day)]
    day: String,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    check: CheckOptions,
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
    let directories = &options.directories.directories;
    let checked = options.check.check(directories)?;
    let mut day = Day::read(directories, &options.day, &options.selection)?;
    day.verification = Some(checked.clone());
    match options.format {
        Format::Text => out.write_all(text::page(&day).as_bytes())?,
        Format::Csv => {
            // Other programs read the table. A person reads the result of the verification on standard error.
            let _ = writeln!(std::io::stderr(), "audit log: {}", checked.sentence());
            table::csv(&day, out)?;
        }
        Format::Json => table::json(&day, out)?,
        Format::Html => out.write_all(html::page(&day).as_bytes())?,
    }
    Ok(checked.code())
}

//! `previewgate audit certify`: the proof of one call, without the data of any other.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::arguments::Directories;
use super::error::Error;
use super::output::public_keys;
use super::show;
use super::story::{self, Name, Story};
use crate::audit::certificate::Certificate;
use crate::audit::record::Kind;
use crate::audit::verify::Line;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    #[command(flatten)]
    name: Name,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let directories: &[PathBuf] = &options.directories.directories;
    let stories = story::find(directories, &options.name)?;
    let [story] = &stories[..] else {
        return Err(Error::Usage(match stories.len() {
            0 => "nothing is recorded about it in these directories".to_owned(),
            number => format!("{number} callouts match: name one decision with --id (`audit show` lists them)"),
        }));
    };
    let certificate =
        Certificate::make(directories, &story.lines()).map_err(|error| Error::Unusable(error.to_string()))?;
    serde_json::to_writer_pretty(&mut *out, &certificate).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(0)
}

/// `audit verify --certificate`: checks a certificate, and prints what it proves.
pub(super) fn verify(path: &Path, public_key: &Path, out: &mut impl Write) -> Result<u8, Error> {
    let keys = public_keys(public_key)?;
    let text = std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let certificate: Certificate =
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let lines = match certificate.verify(&keys) {
        Ok(lines) => lines,
        Err(unproved) => {
            writeln!(out, "result: broken: {unproved}")?;
            return Ok(1);
        }
    };
    let Some(story) = as_story(lines) else {
        writeln!(out, "result: broken: the certificate holds no decision, or more than one")?;
        return Ok(1);
    };
    let code = show::tell(&story, None, out)?;
    if code == 0 {
        writeln!(out, "result: proved: each record is in a log that the given key signed")?;
    }
    Ok(code)
}

fn as_story(lines: Vec<Line>) -> Option<Story> {
    let (decisions, others): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.kind == Kind::Decision);
    let (shown, others) = others.into_iter().partition(|line| line.kind == Kind::Shown);
    let [decision] = <[Line; 1]>::try_from(decisions).ok()?;
    Some(Story { decision, shown, others })
}

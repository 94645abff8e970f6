//! The line of a checkpoint. It contains only what its signed note says, so the line can be made from the note alone.

use super::note::Checkpoint;
use super::record::{Record, SignedCheckpoint, append_body, append_line};

/// The line that holds this note, without line feed.
pub(super) fn checkpoint_line(checkpoint: &Checkpoint, note: &str) -> Vec<u8> {
    let mut body = Vec::new();
    append_body(&mut body, checkpoint.time, &Record::Checkpoint(SignedCheckpoint { note: note.into() }));
    let mut line = Vec::new();
    append_line(&mut line, checkpoint.seq + 1, checkpoint.head, &body);
    line
}

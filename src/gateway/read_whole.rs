//! Reads a body into memory, within a bound.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// Why a body is not available in one piece.
pub(super) enum Unread<E> {
    /// It is longer than the bound. The bytes are its beginning.
    TooLarge(Bytes),
    /// It ended early.
    Broken(E),
}

/// Reads `body` whole if it is not longer than `max` bytes.
pub(super) async fn read_whole<B>(body: &mut B, max: usize) -> Result<Bytes, Unread<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > max as u64 {
        return Err(Unread::TooLarge(Bytes::new()));
    }
    let mut first = Bytes::new();
    // Nearly every body is one frame: it is not copied.
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        match &mut rest {
            None if first.is_empty() => first = bytes,
            None => rest = Some([first.as_ref(), &bytes].concat().as_slice().into()),
            Some(rest) => rest.extend_from_slice(&bytes),
        }
        if rest.as_ref().map_or(first.len(), BytesMut::len) > max {
            return Err(Unread::TooLarge(rest.map_or(first, BytesMut::freeze)));
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

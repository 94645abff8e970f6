//! Reads a body into memory, within a bound.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// A body may come in this many pieces of any size.
const MAX_PIECES: usize = 1024;
/// Beyond [`MAX_PIECES`], the pieces must have this many bytes on average. A chunk costs as much time as hundreds of bytes
/// in one piece, so that 64 KiB in 5,000 chunks would take 2 ms.
const MIN_PIECE: usize = 128;

/// Why a body is not available in one piece.
#[derive(Debug)]
pub(super) enum Unread<E> {
    /// It is longer than the bound, or comes in too many small pieces. The bytes are its beginning.
    TooLarge(Bytes),
    /// It ended early.
    Broken(E),
}

/// Reads `body` whole if it is not longer than `max` bytes, and comes in pieces of a sensible size.
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
    let mut pieces = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        match &mut rest {
            None if first.is_empty() => first = bytes,
            None => rest = Some([first.as_ref(), &bytes].concat().as_slice().into()),
            Some(rest) => rest.extend_from_slice(&bytes),
        }
        pieces += 1;
        let length = rest.as_ref().map_or(first.len(), BytesMut::len);
        if length > max || pieces > MAX_PIECES + length / MIN_PIECE {
            return Err(Unread::TooLarge(rest.map_or(first, BytesMut::freeze)));
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    /// The length of a body that is read whole, if it is.
    fn read(pieces: usize, size: usize, max: usize) -> Option<usize> {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; size])));
        let mut body = StreamBody::new(stream::iter((0..pieces).map(|_| piece())));
        let read = read_whole(&mut body, max).now_or_never().unwrap();
        read.map(|bytes| bytes.len()).ok()
    }

    #[test]
    fn a_body_is_read_within_its_bound() {
        assert_eq!(read(0, 0, 10), Some(0));
        assert_eq!(read(1, 10, 10), Some(10));
        assert_eq!(read(3, 4, 12), Some(12));
        assert_eq!(read(3, 4, 11), None);
    }

    #[test]
    fn a_body_in_very_many_small_pieces_is_not_read() {
        assert_eq!(read(1000, 1, 65_536), Some(1000));
        assert_eq!(read(2000, 1, 65_536), None);
        assert_eq!(read(1500, 43, 65_536), Some(64_500));
        assert_eq!(read(5000, 13, 65_536), None);
        assert_eq!(read(1700, 38, 65_536), None);
        assert_eq!(read(8192, 128, 1 << 20), Some(1 << 20));
    }
}

//! Content codings and charsets of the platform's answers (docs/protocol.md 5). The gateway decodes a copy to read it. The
//! client gets the bytes that the upstream sent.

use std::borrow::Cow;
use std::io::Read;

use encoding_rs::{Encoding, UTF_8};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{self, HeaderMap, HeaderValue};

use super::media_type::is_usual;

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The gateway does not know the content coding.
    #[error("unknown content coding")]
    UnknownCoding,
    /// The coded data are damaged.
    #[error("damaged content coding")]
    Damaged,
    /// The decoded body exceeds the bound.
    #[error("too large when decoded")]
    TooLarge,
}

/// Removes the content coding of `body` and converts it to UTF-8, as its header fields describe it. The bound `most` is in
/// bytes and applies before the charset is converted. The codings are gzip and deflate, the charsets those of the WHATWG
/// Encoding standard. A body in an unknown charset is read as UTF-8.
///
/// # Errors
/// [`ContentError`].
pub fn decoded<'a>(headers: &HeaderMap, body: &'a [u8], most: usize) -> Result<Cow<'a, [u8]>, ContentError> {
    let plain = match coding(headers).ok_or(ContentError::UnknownCoding)? {
        Coding::Identity => Cow::Borrowed(body),
        Coding::Gzip => read_bounded(MultiGzDecoder::new(body), most).map(Cow::Owned)?,
        // The standard says zlib data (RFC 9110 8.4.1.2); some servers send raw deflate.
        Coding::Deflate => {
            let zlib = read_bounded(ZlibDecoder::new(body), most);
            zlib.or_else(|_| read_bounded(DeflateDecoder::new(body), most)).map(Cow::Owned)?
        }
    };
    let charset = charset(headers);
    let (charset, _) = Encoding::for_bom(&plain).unwrap_or((charset, 0));
    if charset == UTF_8 {
        return Ok(plain);
    }
    let (text, _, _) = charset.decode(&plain);
    Ok(Cow::Owned(text.into_owned().into_bytes()))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(HeaderValue::to_str)?.ok()
}

/// The content codings that the gateway can remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// The body has no coding.
    Identity,
    /// `gzip`
    Gzip,
    /// `deflate`
    Deflate,
}

/// The declared content coding; `None` if it is unknown.
pub(super) fn coding(headers: &HeaderMap) -> Option<Coding> {
    let declared = text(headers, header::CONTENT_ENCODING).unwrap_or_default().trim().to_ascii_lowercase();
    match declared.as_str() {
        "" | "identity" => Some(Coding::Identity),
        "gzip" | "x-gzip" => Some(Coding::Gzip),
        "deflate" => Some(Coding::Deflate),
        _ => None,
    }
}

/// The declared charset; UTF-8 if none is declared, or an unknown one.
pub(super) fn charset(headers: &HeaderMap) -> &'static Encoding {
    text(headers, header::CONTENT_TYPE).map_or(UTF_8, charset_of)
}

fn read_bounded(decoder: impl Read, most: usize) -> Result<Vec<u8>, ContentError> {
    let mut plain = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut plain).map_err(|_| ContentError::Damaged)?;
    if plain.len() > most { Err(ContentError::TooLarge) } else { Ok(plain) }
}

fn charset_of(content_type: &str) -> &'static Encoding {
    if is_usual(content_type) {
        return UTF_8;
    }
    content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .and_then(|(_, value)| encoding_of(value.trim().trim_matches('"')))
        .unwrap_or(UTF_8)
}

fn encoding_of(label: &str) -> Option<&'static Encoding> {
    // The table of all labels is searched only for the others.
    if label.eq_ignore_ascii_case("utf-8") { Some(UTF_8) } else { Encoding::for_label(label.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &str = r#"{"retcode":"0","event":{"eventType":"AgentEvent_Talking","callData":"你好 電話"}}"#;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn read(fields: &[(&'static str, &'static str)], body: &[u8]) -> Result<String, ContentError> {
        decoded(&headers(fields), body, 4096).map(|text| String::from_utf8(text.into_owned()).unwrap())
    }

    #[test]
    fn codings() {
        let mut gzip = GzEncoder::new(vec![], Compression::default());
        gzip.write_all(TEXT.as_bytes()).unwrap();
        let mut zlib = ZlibEncoder::new(vec![], Compression::default());
        zlib.write_all(TEXT.as_bytes()).unwrap();
        let mut raw = DeflateEncoder::new(vec![], Compression::default());
        raw.write_all(TEXT.as_bytes()).unwrap();
        let (gzip, zlib, raw) = (gzip.finish().unwrap(), zlib.finish().unwrap(), raw.finish().unwrap());
        assert_eq!(read(&[("content-encoding", "gzip")], &gzip).unwrap(), TEXT);
        assert_eq!(read(&[("content-encoding", "X-GZIP ")], &gzip).unwrap(), TEXT);
        assert_eq!(read(&[("content-encoding", "deflate")], &zlib).unwrap(), TEXT);
        assert_eq!(read(&[("content-encoding", "deflate")], &raw).unwrap(), TEXT);
        assert_eq!(read(&[("content-encoding", "identity")], TEXT.as_bytes()).unwrap(), TEXT);
        assert_eq!(read(&[("content-encoding", "gzip")], &gzip[..20]), Err(ContentError::Damaged));
        assert_eq!(read(&[("content-encoding", "br")], &gzip), Err(ContentError::UnknownCoding));
    }

    #[test]
    fn a_small_answer_cannot_become_a_large_one() {
        let mut bomb = GzEncoder::new(vec![], Compression::best());
        bomb.write_all(&vec![b' '; 10_000_000]).unwrap();
        assert_eq!(read(&[("content-encoding", "gzip")], &bomb.finish().unwrap()), Err(ContentError::TooLarge));
    }

    #[test]
    fn a_bound_can_be_reached() {
        let mut gzip = GzEncoder::new(vec![], Compression::default());
        gzip.write_all(TEXT.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let fields = headers(&[("content-encoding", "gzip")]);
        assert_eq!(decoded(&fields, &gzip, TEXT.len()).as_deref(), Ok(TEXT.as_bytes()));
        assert_eq!(decoded(&fields, &gzip, TEXT.len() - 1), Err(ContentError::TooLarge));
    }

    #[test]
    fn charsets() {
        let gbk = |label: &str| Encoding::for_label(label.as_bytes()).unwrap().encode(TEXT).0.into_owned();
        assert_eq!(read(&[("content-type", "application/json;charset=GBK")], &gbk("gbk")).unwrap(), TEXT);
        assert_eq!(read(&[("content-type", "application/json; charset=\"gb18030\"")], &gbk("gb18030")).unwrap(), TEXT);
        let utf16: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&[("content-type", "application/json;charset=utf-16be")], &utf16).unwrap(), TEXT);
        let marked: Vec<u8> = format!("\u{feff}{TEXT}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&[("content-type", "application/json")], &marked).unwrap(), TEXT);
        assert_eq!(read(&[("content-type", "application/json;charset=klingon")], TEXT.as_bytes()).unwrap(), TEXT);
        assert_eq!(read(&[], TEXT.as_bytes()).unwrap(), TEXT);
    }
}

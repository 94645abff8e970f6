//! The token that requests for a change must carry (`admin.token`).

use std::fs;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::password;

/// Why a request may not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unauthorized {
    /// The request has no token, or a wrong one.
    Token,
    /// The file with the token cannot be read, so no request may change anything.
    File,
}

/// Checks that the request carries the token in `file`: `Authorization: Bearer …`. Without a `file`, no token is needed.
/// The file is read each time, so that the token can be replaced without a reload.
pub(super) fn check(file: Option<&Path>, headers: &HeaderMap) -> Result<(), Unauthorized> {
    let Some(file) = file else { return Ok(()) };
    let content = fs::read(file).map_err(|_| Unauthorized::File)?;
    let token = password(&content).ok_or(Unauthorized::File)?;
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(Unauthorized::Token) };
    let given = bearer(field.as_bytes()).ok_or(Unauthorized::Token)?;
    // Digests have one length, so the time of the comparison does not show the length of the token.
    let [expected, given] = [token.as_bytes(), given].map(|text| digest(&SHA256, text));
    verify_slices_are_equal(expected.as_ref(), given.as_ref()).map_err(|_| Unauthorized::Token)
}

/// The token of `Bearer token` (RFC 6750 2.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let space = field.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = field.split_at_checked(space)?;
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_in_the_file_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "s3cret-token\n").unwrap();
        let with = |fields: &[&str]| {
            let headers = fields.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
            check(Some(&file), &headers)
        };
        assert_eq!(with(&["Bearer s3cret-token"]), Ok(()));
        assert_eq!(with(&["bearer  s3cret-token "]), Ok(()));
        for fields in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer s3cret-toke"],
            &["Bearer s3cret-token2"],
            &["Bearer S3cret-token"],
            &["Basic s3cret-token"],
            &["s3cret-token"],
            &["Bearer s3cret-token", "Bearer s3cret-token"],
        ] {
            assert_eq!(with(fields), Err(Unauthorized::Token), "{fields:?}");
        }
        fs::write(&file, "another\n").unwrap();
        assert_eq!(with(&["Bearer another"]), Ok(()), "read again");
        fs::remove_file(&file).unwrap();
        assert_eq!(with(&["Bearer another"]), Err(Unauthorized::File));
        assert_eq!(check(None, &HeaderMap::new()), Ok(()));
    }
}

//! `GET /`: the status page, for the person on call.
//!
//! One page without any external resource. All figures are rendered here, so it works without JavaScript; with it, the page
//! refreshes by itself. Every value is escaped by the template engine: agents, request IDs and control IDs are chosen by
//! clients. The `Content-Security-Policy` allows nothing but the page's own style and script, by their hashes.

mod chart;
mod facts;
mod manual;
mod sections;
mod story;
mod view;
mod words;

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(super) use self::view::Surroundings;
use self::view::View;
use super::page::answer;
use crate::gateway::Generation;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// A gate, in a green that is visible on any background. It is part of the page, so that browsers do not request
/// `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
                    %3Cpath d='M2 14V5l6-3 6 3v9M6 14V8M10 14V8' fill='none' stroke='%230f766e' stroke-width='2'/%3E%3C/svg%3E";

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| data_encoding::BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page.
pub(super) fn status(generation: &Generation, surroundings: Surroundings<'_>) -> Response<Full<Bytes>> {
    let view = View::gather(generation, surroundings);
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", document(&view).into_string());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

fn document(view: &View<'_>) -> Markup {
    let monitor = if view.is_monitoring() { "MONITOR · " } else { "" };
    let host = view.surroundings.host.unwrap_or("previewgate");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (monitor) (host) " · previewgate" }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#decisions" { "Skip to the decisions" }
                @if view.is_monitoring() { (sections::monitor_banner(view)) }
                (sections::header(view))
                main {
                    (sections::attention(view))
                    (sections::figures(view))
                    (sections::callouts(view))
                    div.columns {
                        (sections::upstream(view))
                        (facts::facts(view))
                    }
                    (sections::decisions(view))
                }
                (sections::footer())
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

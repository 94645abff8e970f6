//! The middleware of the admin listener, put together in one place.
//!
//! The data path has no such stack: its steps depend on the operation, and `gateway::pipeline` shows them.

use std::any::Any;
use std::convert::Infallible;
use std::future::Ready;
use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::page::{TEXT, answer};
use crate::telemetry::Metrics;

/// Makes a service of `page`. A panic in it is counted and answered with 500. The header fields of each response forbid
/// browsers to guess its content type and to show it within another site.
pub(super) fn stack<B, P>(
    metrics: Arc<Metrics>,
    page: P,
) -> impl Service<
    Request<B>,
    Response = Response<impl Body<Data = Bytes, Error: Into<tower::BoxError>> + Send>,
    Error = Infallible,
    Future: Send,
> + Clone
where
    P: Fn(&Request<B>) -> Response<Full<Bytes>> + Clone + Send,
    B: Send,
{
    let failed = move |_: Box<dyn Any + Send>| {
        metrics.process.panicked();
        answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "internal error; the log has the details\n".to_owned())
    };
    ServiceBuilder::new()
        // Outermost, so that the response to a panic has the fields too.
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(header::X_FRAME_OPTIONS, "DENY"))
        .layer(always(header::REFERRER_POLICY, "no-referrer"))
        .layer(CatchPanicLayer::custom(failed))
        .service(service_fn(move |request| -> Ready<Result<_, Infallible>> { ready(Ok(page(&request))) }))
}

fn always(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_page_that_panics_is_answered_and_counted() {
        let metrics = Arc::new(Metrics::default());
        let page = |request: &Request<()>| match request.uri().path() {
            "/" => answer(StatusCode::OK, TEXT, "fine".to_owned()),
            path => panic!("{path}"),
        };
        let service = stack(Arc::clone(&metrics), page);
        let ask = |path: &'static str| service.clone().oneshot(Request::get(path).body(()).expect("a request"));

        for (path, status, text) in [("/broken", 500, "internal error; the log has the details\n"), ("/", 200, "fine")]
        {
            let response = ask(path).await.expect("no error");
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            let Ok(body) = response.into_body().collect().await else { panic!("a body that fails") };
            assert_eq!(body.to_bytes(), text);
        }
        assert!(metrics.encode().contains("previewgate_panics_total 1"), "{}", metrics.encode());
    }
}

//! GET: one page of a stream, or the beginning of a live read.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG};
use http::{HeaderValue, Request, Response};
use tower::{ServiceExt, service_fn};
use tower_http::compression::Compression;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use ursula_common::verb::ReadFrom;
use ursula_protocol::respond::{self, PageHead};
use ursula_protocol::{Live, ReadParts};

use super::{PageAnswer, failed, live};
use crate::app::App;
use crate::pages::{self, Page};

/// Bodies below this are sent as they are.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Serves a read of any kind. Whole pages are compressed if the client takes that, events never: they
/// must leave at once.
pub(super) async fn serve(gateway: &Arc<App>, parts: ReadParts, head: http::request::Parts) -> Response<Body> {
    if parts.live == Live::Sse {
        return live::events(gateway, parts).await;
    }
    if !head.headers.contains_key(ACCEPT_ENCODING) {
        return page(gateway, &parts).await;
    }
    let gateway = gateway.clone();
    let plain = service_fn(move |_: Request<()>| {
        let (gateway, parts) = (gateway.clone(), parts.clone());
        async move { Ok::<_, Infallible>(page(&gateway, &parts).await) }
    });
    let worth_it = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::IMAGES);
    let compressing = Compression::new(plain).compress_when(worth_it);
    match compressing.oneshot(Request::from_parts(head, ())).await {
        Ok(response) => weak_if_encoded(response.map(Body::new)),
        Err(never) => match never {},
    }
}

/// Bytes that were compressed are another form of what a strong tag names.
fn weak_if_encoded(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(strong) = headers.get(ETAG)
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
    response
}

async fn page(gateway: &Arc<App>, parts: &ReadParts) -> Response<Body> {
    let answer = match parts.live {
        Live::LongPoll => live::long_poll(gateway, parts).await,
        Live::No | Live::Sse => catch_up(gateway, parts).await,
    };
    answer.unwrap_or_else(|refusal| refusal.map(Body::from))
}

async fn catch_up(gateway: &Arc<App>, parts: &ReadParts) -> PageAnswer {
    let page = pages::read(&gateway.cluster, &gateway.pages, &parts.key, parts.from, true)
        .await
        .map_err(|error| failed(&error))?;
    let mut response = respond::page(&page_head(&page, parts.from, None), &parts.if_none_match, &page.pieces);
    response.extensions_mut().insert(Arc::new(page.held));
    Ok(response.map(pages::body))
}

/// Describes a page for its response.
pub(super) fn page_head(page: &Page, from: ReadFrom, cursor: Option<u64>) -> PageHead {
    PageHead {
        group: page.group,
        stream: page.info.id,
        content_type: page.info.content_type.clone(),
        from,
        start: page.start,
        next: page.next,
        up_to_date: page.up_to_date(),
        closed: page.closed(),
        earliest: page.info.earliest,
        cursor,
    }
}

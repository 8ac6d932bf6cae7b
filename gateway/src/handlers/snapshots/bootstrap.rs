//! The newest snapshot of a stream and the page after it, in one response.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use ursula_common::verb::ReadFrom;
use ursula_common::{Error, StreamId, StreamKey};
use ursula_protocol::multipart::Multipart;
use ursula_protocol::respond;

use super::content::{self, Content};
use crate::app::App;
use crate::handlers::failed;
use crate::handlers::read::page_head;
use crate::pages::{self, Held};

pub(crate) async fn bootstrap(gateway: &Arc<App>, key: StreamKey) -> Response<Body> {
    match Parts::begin(gateway.clone(), key).await {
        Ok(parts) => parts.multipart.clone().response(parts.into_body()),
        Err(error) => failed(&error).map(Body::from),
    }
}

/// What is still to be sent. Holds one page, of the snapshot or of the stream.
struct Parts {
    gateway: Arc<App>,
    key: StreamKey,
    stream: StreamId,
    multipart: Multipart,
    /// Goes before everything else.
    ready: VecDeque<Bytes>,
    snapshot: Option<Content>,
    /// Where the page begins; `None` once it was read.
    page: Option<ReadFrom>,
    held: Option<Held>,
}

impl Parts {
    /// Reads the first bytes, so that what goes wrong until then has a status.
    async fn begin(gateway: Arc<App>, key: StreamKey) -> Result<Parts, Error> {
        let (stream, opened) = content::open(&gateway, &key, None).await?;
        let multipart = Multipart::new(rand::random());
        let (ready, page) = (VecDeque::new(), Some(ReadFrom::Start));
        let mut parts = Parts { gateway, key, stream, multipart, ready, snapshot: None, page, held: None };
        match opened {
            None => parts.read_page(ReadFrom::Start).await?,
            Some((info, content)) => {
                parts.ready.push_back(parts.multipart.part(&respond::snapshot_part(&info)));
                parts.page = Some(ReadFrom::At(info.at));
                parts.snapshot = Some(content);
            }
        }
        Ok(parts)
    }

    async fn read_page(&mut self, from: ReadFrom) -> Result<(), Error> {
        self.page = None;
        let App { cluster, pages, .. } = &*self.gateway;
        let page = pages::read(cluster, pages, &self.key, from, true).await?;
        if page.info.id != self.stream {
            return Err(Error::StreamNotFound);
        }
        let (headers, body) = respond::page_part(&page_head(&page, from, None), &page.pieces);
        self.ready.push_back(self.multipart.part(&headers));
        self.ready.extend(body.into_iter().filter(|piece| !piece.is_empty()));
        self.ready.push_back(self.multipart.end());
        self.held = Some(page.held);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            // Asked for more, so what was sent last has left.
            self.held = None;
            if let Some(content) = &mut self.snapshot {
                match content.next().await? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => self.snapshot = None,
                }
            }
            match self.page {
                Some(from) => self.read_page(from).await?,
                None => return Ok(None),
            }
        }
    }

    fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, async |mut parts| {
            Ok::<_, Error>(parts.next().await?.map(|bytes| (bytes, parts)))
        }))
    }
}

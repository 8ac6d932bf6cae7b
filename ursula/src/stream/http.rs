//! A gateway as a client sees it: one request at a time, in plain HTTP or with TLS, tried again for as long as that can do
//! no harm. Knows the dialect from outside, so any server of the protocol will do.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::failure::{End, Failure};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: a long poll waits a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is taken: a page and one record, as JSON.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Pause before the same is asked again; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    Read,
    /// Doing it twice comes to the same.
    Idempotent,
    /// Only if it was certainly not done.
    Never,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) repeat: Repeat,
}

impl Ask {
    /// A request without headers and body.
    pub(crate) fn new(method: Method, path: String, repeat: Repeat) -> Ask {
        Ask { method, path, headers: Vec::new(), body: Bytes::new(), repeat }
    }
}

/// An answer, which was a success.
#[derive(Debug)]
pub(crate) struct Answer {
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Where to go on.
    pub(crate) fn next_offset(&self) -> Result<String, Failure> {
        let offset = self.header("stream-next-offset").map(str::to_owned);
        offset.ok_or_else(|| Failure::refused("the server does not say where to go on: check --url"))
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.header(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// Why a request had no success.
#[derive(Debug)]
enum Missed {
    /// It was not sent.
    Unreachable(String),
    /// It was sent, and no whole answer came.
    Lost(String),
    Refused(Refusal),
}

/// What a server says that does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Option<String>,
    pub(super) sentence: String,
    retry: Retry,
    pause: Duration,
}

/// What becomes of the same request, sent again; see docs/errors.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Retry {
    No,
    Later,
    IfIdempotent,
}

#[derive(Deserialize)]
struct Body {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    code: String,
    message: String,
    retry: Retry,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gateway {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    patience: Duration,
    /// Whether it has ever answered: before, nobody waits for it.
    met: Cell<bool>,
}

impl Gateway {
    /// A gateway at `base`, which is waited for as long as `patience` says when it is away.
    ///
    /// # Errors
    /// If the system has no certificates to trust in, and some are needed.
    pub(crate) fn new(base: &str, patience: Duration) -> Result<Gateway, Failure> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let tls = tls(base.starts_with("https:"))
            .map_err(|error| Failure::refused(format!("the certificates of this machine cannot be read: {error}")))?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(https.wrap_connector(tcp));
        Ok(Gateway { client, base: base.to_owned(), patience, met: Cell::new(false) })
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        self.persist(ask, async |response: Response<Incoming>| {
            let (head, body) = response.into_parts();
            let body = collect(body).await.map_err(Missed::Lost)?;
            Ok(Answer { headers: head.headers, body })
        })
        .await
    }

    /// Asks until an answer begins.
    ///
    /// # Errors
    /// Those of [`Gateway::ask`].
    pub(crate) async fn open(&self, ask: &Ask) -> Result<Response<Incoming>, Failure> {
        self.persist(ask, async |response| Ok(response)).await
    }

    /// Looks at a page, whatever its status; asks once, and not for long.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn look(&self, path: &str, patience: Duration) -> Result<(StatusCode, Bytes), String> {
        let look = async {
            let ask = Ask::new(Method::GET, path.to_owned(), Repeat::Read);
            let response = self.send(&ask).await.map_err(|missed| match missed {
                Missed::Unreachable(why) | Missed::Lost(why) => why,
                Missed::Refused(refusal) => refusal.sentence,
            })?;
            let (head, body) = response.into_parts();
            Ok((head.status, collect(body).await?))
        };
        timeout(patience, look).await.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
    }

    async fn persist<T>(
        &self,
        ask: &Ask,
        take: impl AsyncFn(Response<Incoming>) -> Result<T, Missed>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.patience;
        let (mut pause, mut uncertain) = (PAUSE_MIN, false);
        loop {
            let once = async {
                let response = self.once(ask).await?;
                take(response).await
            };
            let late = || Missed::Lost(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
            let missed = match timeout(ANSWER_TIMEOUT, once).await.unwrap_or_else(|_| Err(late())) {
                Ok(taken) => return Ok(taken),
                Err(missed) => missed,
            };
            uncertain |= missed.may_be_done() && ask.repeat != Repeat::Read;
            let due = match &missed {
                Missed::Refused(refusal) => pause.max(refusal.pause),
                Missed::Unreachable(_) | Missed::Lost(_) => pause,
            };
            if !missed.may_try_again(ask.repeat, self.met.get()) || Instant::now() + due > deadline {
                return Err(self.failure(missed, uncertain));
            }
            sleep(due).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Response<Incoming>, Missed> {
        let response = self.send(ask).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = collect(body).await.unwrap_or_default();
        Err(Missed::Refused(refusal(head.status, &head.headers, &body)))
    }

    async fn send(&self, ask: &Ask) -> Result<Response<Incoming>, Missed> {
        let mut request = Request::builder().method(&ask.method).uri(format!("{}{}", self.base, ask.path));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(ask.body.clone())).map_err(|error| {
            let sentence = format!("this is no valid request: {error}");
            Missed::Refused(Refusal { code: None, sentence, retry: Retry::No, pause: Duration::ZERO })
        })?;
        let response = self.client.request(request).await.map_err(|error| {
            let why = root_cause(&error);
            if error.is_connect() { Missed::Unreachable(why) } else { Missed::Lost(why) }
        })?;
        self.met.set(true);
        Ok(response)
    }

    fn failure(&self, missed: Missed, uncertain: bool) -> Failure {
        let (text, code, mut end) = match missed {
            Missed::Unreachable(why) => {
                let hint = "start a gateway there, such as `ursula dev`, or name another one with --url or URSULA_URL";
                (format!("cannot connect to {} ({why}): {hint}", self.base), None, End::Late)
            }
            Missed::Lost(why) => (format!("the server at {} gave no whole answer ({why})", self.base), None, End::Late),
            Missed::Refused(Refusal { code, sentence, retry, .. }) => {
                let end = if retry == Retry::No { End::Refused } else { End::Late };
                (sentence, code, end)
            }
        };
        let mut text = text;
        if uncertain && end == End::Late {
            text += "; it may have been done nevertheless: look before you repeat it";
            end = End::Unknown;
        }
        Failure { text, end, code }
    }
}

impl Missed {
    /// Whether the request may have been carried out.
    fn may_be_done(&self) -> bool {
        match self {
            Missed::Unreachable(_) => false,
            Missed::Lost(_) => true,
            Missed::Refused(refusal) => refusal.retry == Retry::IfIdempotent,
        }
    }

    /// Whether the same request may be sent again, and is worth it.
    fn may_try_again(&self, repeat: Repeat, met: bool) -> bool {
        match self {
            Missed::Unreachable(_) => met,
            Missed::Refused(refusal) if refusal.retry == Retry::No => false,
            Missed::Lost(_) | Missed::Refused(_) => repeat != Repeat::Never || !self.may_be_done(),
        }
    }
}

/// What a server says that refuses something; one that is none of ours may say anything.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let pause = text(headers, "retry-after").and_then(|value| value.parse().ok()).unwrap_or(0);
    let pause = Duration::from_secs(pause).min(PAUSE_MAX);
    let Ok(Body { error: Said { code, message, retry } }) = serde_json::from_slice(body) else {
        // In front of a gateway stand others, and nobody knows how far the request went.
        let retry = if status.is_server_error() { Retry::IfIdempotent } else { Retry::No };
        let sentence = format!("the server answers {status} without saying why, as no gateway does: check the URL");
        return Refusal { code: None, sentence, retry, pause };
    };
    let next = || text(headers, "stream-next-offset");
    let hint = match &*code {
        "stream_not_found" => "; `ursula stream create` does".to_owned(),
        "bucket_not_found" => "; `curl -X PUT URL/BUCKET` does".to_owned(),
        "content_type_mismatch" => "; `ursula stream head` tells the type".to_owned(),
        "producer_epoch_stale" => "; a later run with the same --producer has taken over".to_owned(),
        "offset_gone" => text(headers, "stream-earliest-offset")
            .map_or_else(|| "; begin with --offset=-1".to_owned(), |at| format!("; it begins with --offset {at}")),
        "history_damaged" => next().map(|at| format!("; read on with --offset {at}")).unwrap_or_default(),
        "stream_closed" => next().map(|at| format!("; it ends at {at}")).unwrap_or_default(),
        _ => String::new(),
    };
    Refusal { sentence: format!("{message} ({code}){hint}"), code: Some(code), retry, pause }
}

/// `http://host:port` or `https://host`, maybe with a path before all others.
pub(crate) fn base_of(url: &str) -> Result<String, String> {
    let wrong = || "a gateway looks like http://127.0.0.1:4437 or https://streams.example".to_owned();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.authority().filter(|at| !at.as_str().contains('@') && !at.host().is_empty());
    match (uri.scheme_str(), host, uri.query()) {
        (Some("http" | "https"), Some(_), None) => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err(wrong()),
    }
}

fn tls(is_needed: bool) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    use hyper_rustls::ConfigBuilderExt;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = match is_needed {
        true => config.with_native_roots()?,
        // Reading them takes time, and not every machine has some.
        false => config.with_root_certificates(RootCertStore::empty()),
    };
    Ok(config.with_no_client_auth())
}

async fn collect(body: Incoming) -> Result<Bytes, String> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The innermost error says most.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;

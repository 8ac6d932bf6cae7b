//! Why a request was refused before any verb was made of it. Knows no status: see `status`.

use http::HeaderName;
use ursula_common::limits::APPEND_BYTES_MAX;
use ursula_common::name::InvalidName;

/// Why a request makes no sense, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No route has this path.
    #[error("nothing is served at this path: streams are at /v1/stream/<name> and /<bucket>/<name>")]
    NotFound,
    /// A path that cannot be decoded.
    #[error("the path must be UTF-8, with two hexadecimal digits after each %")]
    InvalidPath,
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A path below `/snapshot/` that has no offset, or a stream of such a name.
    #[error(
        "a path that ends in /snapshot, /snapshot/<offset> or /bootstrap leads to the snapshots of a stream: \
         they are at offsets that the stream returned, and no stream can be created under such a name"
    )]
    SnapshotPath,
    /// A method that the path does not take.
    #[error("this path takes {allow}")]
    Method {
        /// What it takes, as the `Allow` header has it.
        allow: &'static str,
    },
    /// A header that must stand alone came twice.
    #[error("the header {0} must be sent only once")]
    RepeatedHeader(HeaderName),
    /// A header with a value that is not allowed.
    #[error("the header {name} {problem}")]
    InvalidHeader {
        /// The header.
        name: HeaderName,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// A query parameter with a value that is not allowed.
    #[error("the query parameter {name} {problem}")]
    InvalidQuery {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// An append of nothing that closes nothing.
    #[error("the body is empty: send bytes, or Stream-Closed: true to close the stream")]
    EmptyBody,
    /// A body of unknown type.
    #[error("an append with a body needs the Content-Type of the stream")]
    MissingContentType,
    /// A body that should be JSON and is not. The stream may be missing, closed or of another type,
    /// which takes precedence over this.
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    /// A JSON append of no messages. What holds for [`Rejection::InvalidJson`] holds for it too.
    #[error("the JSON array is empty: an append needs at least one message")]
    EmptyArray,
    /// A body beyond [`APPEND_BYTES_MAX`].
    #[error("a body is at most {APPEND_BYTES_MAX} bytes: send it in several appends")]
    BodyTooLarge,
    /// A snapshot beyond what the gateway takes.
    #[error("a snapshot is at most {bytes_max} bytes here: see snapshot_bytes_max")]
    SnapshotTooLarge {
        /// How much it takes.
        bytes_max: u64,
    },
    /// A body that is not what the client says it is.
    #[error("the body does not have the SHA-256 that {0} names: nothing was published")]
    DigestMismatch(HeaderName),
    /// The body did not come in time.
    #[error("the body did not arrive in time: nothing was applied")]
    BodyTimeout,
    /// The connection ended within the body.
    #[error("the body ended early: nothing was applied")]
    BodyIncomplete,
    /// Chunks that are none.
    #[error("the body is not in valid chunks, or has too many or too long trailers: nothing was applied")]
    InvalidBody,
}

impl Rejection {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::NotFound => "not_found",
            Rejection::InvalidPath => "invalid_path",
            Rejection::Name(InvalidName::ReservedStream) => "not_implemented",
            Rejection::Name(_) => "invalid_name",
            Rejection::SnapshotPath => "invalid_name",
            Rejection::Method { .. } => "method_not_allowed",
            Rejection::RepeatedHeader(_) => "repeated_header",
            Rejection::InvalidHeader { .. } => "invalid_header",
            Rejection::InvalidQuery { .. } => "invalid_query",
            Rejection::EmptyBody => "empty_body",
            Rejection::MissingContentType => "missing_content_type",
            Rejection::InvalidJson(_) => "invalid_json",
            Rejection::EmptyArray => "empty_array",
            Rejection::BodyTooLarge | Rejection::SnapshotTooLarge { .. } => "body_too_large",
            Rejection::DigestMismatch(_) => "digest_mismatch",
            Rejection::BodyTimeout => "body_timeout",
            Rejection::BodyIncomplete => "body_incomplete",
            Rejection::InvalidBody => "invalid_body",
        }
    }

    /// Whether the state of the stream decides first: a missing or closed stream, or one of another
    /// type, is to be reported instead.
    pub fn yields_to_stream_state(&self) -> bool {
        matches!(self, Rejection::InvalidJson(_) | Rejection::EmptyArray)
    }
}

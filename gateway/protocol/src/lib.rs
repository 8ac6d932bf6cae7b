//! The HTTP dialect, pure: the parts of a request in, verbs out; replies in, status, headers and
//! body out.
//!
//! Knows neither sockets nor runtimes, neither clocks nor randomness: time and jitter are arguments.
//! The way of a request:
//!
//! 1. [`parse`] tells what is asked, from everything but the body.
//! 2. [`AppendParts::store`] and [`CreateParts::store`] check a body and give its stored form, that of a snapshot is
//!    stored as it comes; `into_op` makes the verb.
//! 3. [`respond`], [`multipart`] and [`sse`] render what came of it, [`error`] and [`rejection`] what went wrong.

mod append;
pub mod body;
mod create;
pub mod cursor;
mod etag;
pub mod headers;
pub mod multipart;
mod path;
mod query;
mod read;
mod refuse;
mod rejection;
mod request;
pub mod respond;
mod snapshot;
pub mod sse;
mod status;

pub use append::{AppendOp, AppendParts, Context};
pub use body::StoredBody;
pub use create::CreateParts;
pub use etag::IfNoneMatch;
pub use path::{Route, route};
pub use read::{Live, ReadParts};
pub use refuse::{ErrorCode, error, rejection};
pub use rejection::Rejection;
pub use request::{ListParts, Request, check_host, parse};
pub use snapshot::{PublishParts, SnapshotParts};
pub use status::status_number;

//! Objects in S3, or in a server that speaks its protocol: the one file that knows the SDK.

use std::ops::Range;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_http_client::Builder as HttpClient;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::memory::ends_early;
use super::{Answer, Body, LISTED_MAX, Listed, Name, Put, Store, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the objects are.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Everything lies below it, if there is one.
    pub prefix: Option<Name>,
    /// The address of the server, if it is not that of AWS, such as `http://localhost:3900`.
    pub endpoint: Option<String>,
    /// The region, if the environment does not name it.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of requests and not in the name of the host.
    pub path_style: bool,
    /// How the server keeps the objects secret.
    pub encryption: Encryption,
}

/// How a server keeps objects secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    OfBucket,
    /// With keys of the server's own (SSE-S3).
    S3,
    /// With a key of a key service (SSE-KMS); the key of the account if none is named.
    Kms(Option<String>),
}

/// A store in one bucket. Credentials come from the default chain of the SDK: the environment, a profile, the role of a
/// container or of a machine.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    options: S3Options,
}

impl S3Store {
    /// Prepares the store, with credentials from the default chain; asks it nothing yet.
    pub async fn new(options: S3Options) -> S3Store {
        S3Store::with(options, aws_config::defaults(BehaviorVersion::latest())).await
    }

    async fn with(options: S3Options, loader: ConfigLoader) -> S3Store {
        let http = HttpClient::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        // `steady.rs` repeats and has deadlines, so that one place decides what is repeated and how long it is waited.
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let mut loader = loader.http_client(http).retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        // Every object has checksums of its own, and not every server knows those of the protocol.
        let config = aws_sdk_s3::config::Builder::from(&loader.load().await)
            .force_path_style(options.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        S3Store { client: Client::from_conf(config), options }
    }

    fn key(&self, name: &Name) -> String {
        match &self.options.prefix {
            Some(prefix) => format!("{prefix}/{name}"),
            None => name.to_string(),
        }
    }

    fn name(&self, key: &str) -> Option<Name> {
        let name = match &self.options.prefix {
            Some(prefix) => key.strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => key,
        };
        Name::parse(name).ok()
    }

    fn encrypt(&self, put: PutObjectFluentBuilder) -> PutObjectFluentBuilder {
        match &self.options.encryption {
            Encryption::OfBucket => put,
            Encryption::S3 => put.server_side_encryption(ServerSideEncryption::Aes256),
            Encryption::Kms(key) => {
                put.server_side_encryption(ServerSideEncryption::AwsKms).set_ssekms_key_id(key.clone())
            }
        }
    }

    fn explain<E>(&self, name: &Name, error: SdkError<E>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let text = match (&code[..], error.message(), status) {
            ("", _, None) => DisplayErrorContext(&error).to_string(),
            (code, message, status) => {
                let status = status.map_or(String::new(), |status| format!("status {status}"));
                [status.as_str(), code, message.unwrap_or_default()].join(" ").trim().to_owned()
            }
        };
        match (&code[..], status) {
            ("NoSuchBucket", _) => {
                Failure::Other(StoreError::NoPlace(format!("there is no bucket {:?}", self.options.bucket)))
            }
            ("PreconditionFailed", _) | (_, Some(412)) => Failure::Exists,
            ("InvalidRange", _) | (_, Some(416)) => Failure::EndsEarly,
            ("NoSuchKey", _) | (_, Some(404)) => Failure::Other(StoreError::NotFound(name.clone())),
            (_, Some(401 | 403)) | ("ExpiredToken" | "InvalidToken" | "ExpiredTokenException", _) => {
                Failure::Other(StoreError::Denied(text))
            }
            _ => Failure::Other(StoreError::Unavailable(text)),
        }
    }
}

/// What a call ended with.
enum Failure {
    /// Something is there under this name.
    Exists,
    /// The object has fewer bytes.
    EndsEarly,
    Other(StoreError),
}

impl Failure {
    /// For calls in which the others have no meaning.
    fn only(self) -> StoreError {
        match self {
            Failure::Other(error) => error,
            Failure::Exists => StoreError::Unavailable("it speaks of a condition that was not asked for".into()),
            Failure::EndsEarly => StoreError::Unavailable("it speaks of a range that was not asked for".into()),
        }
    }
}

impl Store for S3Store {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        Box::pin(async move {
            let put = self.client.put_object().bucket(&self.options.bucket).key(self.key(name));
            let put = self.encrypt(put.if_none_match("*").body(ByteStream::from(body)));
            match put.send().await.map_err(|error| self.explain(name, error)) {
                Ok(_) => Ok(Put::Stored),
                Err(Failure::Exists) => Ok(Put::Exists),
                Err(failure) => Err(failure.only()),
            }
        })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(async move {
            // Into memory of their own: pieces would hold on to more than their bytes.
            let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
            let mut body = self.stream(name, range).await?;
            while let Some(piece) = body.try_next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes.into())
        })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(async move {
            let get = self.client.get_object().bucket(&self.options.bucket).key(self.key(name));
            let get = get.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
            let answer = match get.send().await.map_err(|error| self.explain(name, error)) {
                Ok(answer) => answer,
                Err(Failure::EndsEarly) => return Err(ends_early(name, self.size(name).await?, &range)),
                Err(failure) => return Err(failure.only()),
            };
            let pieces = stream::try_unfold((answer.body, range.start), move |(mut body, at)| {
                let range = range.clone();
                async move {
                    let piece = body.try_next().await.map_err(|error| {
                        StoreError::Unavailable(format!("the answer broke off: {}", DisplayErrorContext(&error)))
                    })?;
                    match piece.map(|piece| (at + piece.len() as u64, piece)) {
                        Some((at, piece)) if at <= range.end => Ok(Some((piece, (body, at)))),
                        None if at == range.end => Ok(None),
                        more => Err(ends_early(name, more.map_or(at, |(at, _)| at), &range)),
                    }
                }
            });
            Ok(pieces.boxed())
        })
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        Box::pin(async move {
            let head = self.client.head_object().bucket(&self.options.bucket).key(self.key(name));
            let answer = head.send().await.map_err(|error| self.explain(name, error).only())?;
            let bytes = answer.content_length().and_then(|bytes| u64::try_from(bytes).ok());
            bytes.ok_or_else(|| StoreError::Unavailable("it does not tell the length of an object".into()))
        })
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(async move {
            let delete = self.client.delete_object().bucket(&self.options.bucket).key(self.key(name));
            match delete.send().await.map_err(|error| self.explain(name, error).only()) {
                Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(async move {
            let list = self.client.list_objects_v2().bucket(&self.options.bucket).max_keys(LISTED_MAX as i32);
            let list =
                list.prefix(format!("{}/", self.key(folder))).set_start_after(after.map(|after| self.key(after)));
            let answer = list.send().await.map_err(|error| self.explain(folder, error).only())?;
            // What somebody else has put there is none of ours.
            let listed = answer.contents().iter().filter_map(|object| {
                let name = self.name(object.key()?)?;
                Some(Listed { name, bytes: u64::try_from(object.size()?).ok()? })
            });
            Ok(listed.collect())
        })
    }
}

#[cfg(test)]
mod tests;

//! Buckets: create, describe, delete, and list their streams.

use ursula_common::verb::{Ack, Op, Reply};
use ursula_common::{BucketName, Error};
use ursula_protocol::{ListParts, respond};

use super::{Answer, failed, location};
use crate::app::App;

pub(super) async fn create(gateway: &App, bucket: BucketName, ack: Ack, head: &http::request::Parts) -> Answer {
    let reply = gateway.cluster.submit(&Op::CreateBucket(bucket.clone(), ack)).await;
    match reply {
        Ok(Reply::Bucket(new)) => Ok(respond::bucket_created(&bucket, ack, new, location(gateway, head))),
        Ok(_) => Err(failed(&Error::OutcomeUnknown)),
        Err(error) => Err(failed(&error)),
    }
}

pub(super) async fn describe(gateway: &App, bucket: BucketName) -> Answer {
    let ack = gateway.cluster.describe_bucket(&bucket).await.map_err(|error| failed(&error))?;
    Ok(respond::bucket(&bucket, ack))
}

pub(super) async fn delete(gateway: &App, bucket: BucketName) -> Answer {
    gateway.cluster.submit(&Op::DeleteBucket(bucket)).await.map_err(|error| failed(&error))?;
    Ok(respond::deleted())
}

pub(super) async fn list(gateway: &App, list: ListParts) -> Answer {
    let after = list.after.as_deref().unwrap_or_default();
    let listed = gateway.cluster.list(&list.bucket, &list.prefix, after, list.limit).await;
    let (names, more) = listed.map_err(|error| failed(&error))?;
    Ok(respond::list(&list.bucket, &names, more))
}

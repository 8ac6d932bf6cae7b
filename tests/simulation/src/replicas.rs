//! Compares what the replicas of a group have: every byte of every stream must be on each of them, whoever leads.
//! Clients would not miss it, as long as there is one replica that has it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use ursula_common::limits::{LIST_ITEMS_MAX, PAGE_BYTES_MAX};
use ursula_common::verb::{ReadFrom, StreamInfo};
use ursula_common::{BucketName, Error, GroupId, NodeId, Offset, StreamId, StreamKey, StreamName};
use ursula_proto::{NodeClient, TargetRef, node_client, v1};

use crate::network;
use crate::operator::PATIENCE;

/// A whole stream may lie in hundreds of packs, which are fetched one after the other.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// One stream, as a replica tells of it.
pub(crate) struct Listed {
    pub(crate) key: StreamKey,
    id: StreamId,
    start: Offset,
    pub(crate) tail: Offset,
    /// Packs have it up to here.
    pub(crate) packed: Option<Offset>,
}

/// What is missing or different; `addresses` are those of all replicas of `group`. Where files were changed, that node may
/// have lost anything, and what its leader cannot read, a replica that lags cannot get: only bytes that others have and
/// that are different count then.
pub(crate) async fn difference(
    group: GroupId,
    addresses: &BTreeMap<NodeId, String>,
    damaged: Option<NodeId>,
) -> Option<String> {
    let client = |address: &String| node_client(network::connect(address).expect("an address"));
    let clients: BTreeMap<NodeId, NodeClient> = addresses.iter().map(|(id, at)| (*id, client(at))).collect();
    let [mut streams, mut offloaded] = [None, None];
    for client in clients.values() {
        for (bucket, streams) in [(BucketName::default_bucket(), &mut streams), (offloaded_bucket(), &mut offloaded)] {
            if let Ok(Ok(listed)) = timeout(PATIENCE, list(client.clone(), group, bucket)).await {
                *streams = Some(listed);
            }
        }
    }
    let whole = damaged.is_none();
    let Some(streams) = streams else { return whole.then(|| format!("nobody lists group {group}")) };
    // Not everywhere is such a bucket.
    for listed in streams.into_iter().chain(offloaded.into_iter().flatten()) {
        let key = &listed.key;
        let mut known: Option<Vec<u8>> = None;
        for (node, client) in clients.iter().filter(|(node, _)| Some(**node) != damaged) {
            let read = timeout(READ_PATIENCE, bytes(client.clone(), group, &listed)).await;
            let bytes = match read {
                Ok(Ok(bytes)) => bytes,
                _ if !whole => continue,
                Ok(Err(status)) => return Some(format!("{key} until {} at node {node}: {status}", listed.tail.0)),
                Err(_) => return Some(format!("{key} at node {node}: no answer")),
            };
            if known.as_ref().is_some_and(|known| *known != bytes) {
                return Some(format!("{key} is not the same at node {node} as at the others"));
            }
            known = Some(bytes);
        }
    }
    None
}

fn offloaded_bucket() -> BucketName {
    BucketName::parse(ursula_soak::OFFLOADED).expect("a name")
}

/// The streams of a bucket in a group, as a replica of it knows them.
pub(crate) async fn list(mut client: NodeClient, group: GroupId, bucket: BucketName) -> Result<Vec<Listed>, Status> {
    let request = v1::ListRequest {
        group: group.0,
        bucket: bucket.to_string(),
        prefix: String::new(),
        after: String::new(),
        limit: LIST_ITEMS_MAX,
    };
    let listed = |item: v1::ListItem| {
        let name = StreamName::parse(&item.name).map_err(|_| Error::Malformed)?;
        let info: StreamInfo = item.info.ok_or(Error::Malformed)?.try_into()?;
        let start = info.fork.map_or(info.earliest, |fork| fork.at.max(info.earliest));
        let (key, packed) = (StreamKey { bucket: bucket.clone(), name }, info.cold.map(|cold| cold.end));
        Ok(Listed { key, id: info.id, start, tail: info.tail, packed })
    };
    let items = client.list(request).await?.into_inner().items;
    items.into_iter().map(listed).collect::<Result<_, Error>>().map_err(ursula_proto::to_status)
}

/// What this replica has of a stream; all of it, or an error.
async fn bytes(mut client: NodeClient, group: GroupId, listed: &Listed) -> Result<Vec<u8>, Status> {
    let Listed { key, id, start, tail, .. } = listed;
    let (mut bytes, mut at) = (Vec::new(), *start);
    while at < *tail {
        let target = TargetRef { group, key: key.clone(), inherited: Some(*id) };
        let request = v1::ReadRequest {
            target: Some(target.into()),
            from: Some(ReadFrom::At(at).into()),
            bytes_max: PAGE_BYTES_MAX as u64,
            until: Some(tail.0),
            touch: false,
            applied_is_enough: true,
        };
        let mut chunks = client.read(request).await?.into_inner();
        let before = at;
        while let Some(chunk) = chunks.message().await? {
            at = chunk.head.map_or(at, |head| Offset(head.next));
            chunk.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        }
        if at == before {
            return Err(Status::not_found(format!("nothing at {}", at.0)));
        }
    }
    Ok(bytes)
}

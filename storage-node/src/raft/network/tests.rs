//! What openraft is told of a node that cannot be reached.

use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::metrics::Metrics;

#[tokio::test]
async fn a_node_of_which_nobody_knows_where_it_is_costs_a_question_each_time() {
    let peers = Peers::new(NodeId(1), 0, Some(1), Metrics::new(1).expect("metrics"));
    let mut client = Network { group: GroupId(1), peers, acks: Rc::default() }.client(2, Priority::Bulk);
    let option = || RPCOption::new(Duration::ZERO);
    {
        let answers = client.stream_append(stream::pending(), option()).await;
        let waits = answers.expect("a session").next().now_or_never().is_none();
        assert!(waits, "it would be tried again at once");
    }
    let mut answers = client.stream_append(stream::empty(), option()).await.expect("a session");
    assert!(matches!(answers.next().await, Some(Err(RPCError::Unreachable(_)))));
}

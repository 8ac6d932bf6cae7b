//! What `ursula cluster` tells of a cluster, and does to it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{Cluster, Member};
use crate::run;

/// The node that leads each group, of those that are led.
pub type Leaders = BTreeMap<u64, u32>;

impl Cluster {
    /// Who leads which group; nothing if no node can tell. A node without others leads all.
    pub fn leaders(&self) -> Leaders {
        if self.options.nodes <= 1 {
            return Leaders::from([(0, 1)]);
        }
        let nodes = (1..=self.options.nodes).filter(|id| self.process(Member::Node(*id)).is_some());
        let ask = |id| self.command(&["status", "--output", "json"], id).ok();
        nodes.filter_map(ask).map(|text| leaders(&text)).find(|leaders| !leaders.is_empty()).unwrap_or_default()
    }

    /// The node that leads the most groups.
    pub fn leader(&self) -> Option<u32> {
        let mut led: BTreeMap<u32, usize> = BTreeMap::new();
        for node in self.leaders().into_values() {
            *led.entry(node).or_default() += 1;
        }
        led.into_iter().max_by_key(|(_, groups)| *groups).map(|(node, _)| node)
    }

    /// Runs `ursula cluster ...` by way of a node, and returns what it prints.
    ///
    /// # Errors
    /// What it complains of.
    pub fn command(&self, args: &[&str], by: u32) -> Result<String, String> {
        let address = self.node_address(by);
        let output = run("ursula", &[&["cluster"], args, &["--address", &address]].concat(), &[]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// The leaders in a status as JSON: `{"groups": [{"id": 0, "leader": 1}, ...]}`, whatever else it holds.
pub(super) fn leaders(status: &str) -> Leaders {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let leader = |group: &Value| Some((group["id"].as_u64()?, u32::try_from(group["leader"].as_u64()?).ok()?));
    groups.iter().filter_map(leader).collect()
}

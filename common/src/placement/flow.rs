//! Shares things out among holders: each thing gets some distinct holders, each holder as many as the
//! others (give or take one), and as little changes as possible.
//!
//! A minimum-cost flow by successive shortest paths (Ford and Fulkerson; Busacker and Gowen). Thing to
//! holder costs nothing where it is so now, else 1. A holder passes on its even share directly, and one
//! more through a common door that is as wide as the remainder: so a full flow is a balanced one.

use std::collections::VecDeque;

/// The way between two vertices; the edge with the next or previous (even, odd) number leads back.
struct Edge {
    to: usize,
    room: usize,
    cost: i64,
}

#[derive(Default)]
struct Network {
    edges: Vec<Edge>,
    /// The edges that leave each vertex.
    from: Vec<Vec<usize>>,
}

impl Network {
    fn vertex(&mut self) -> usize {
        self.from.push(Vec::new());
        self.from.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, room: usize, cost: i64) -> usize {
        let number = self.edges.len();
        self.edges.push(Edge { to, room, cost });
        self.edges.push(Edge { to: from, room: 0, cost: -cost });
        self.from[from].push(number);
        self.from[to].push(number + 1);
        number
    }

    /// Sends one unit along the cheapest path, if there is one.
    fn push(&mut self, source: usize, sink: usize) -> bool {
        let mut cost = vec![i64::MAX; self.from.len()];
        let mut came_by = vec![usize::MAX; self.from.len()];
        let mut queued = vec![false; self.from.len()];
        let mut queue = VecDeque::from([source]);
        cost[source] = 0;
        while let Some(at) = queue.pop_front() {
            queued[at] = false;
            for &number in &self.from[at] {
                let edge = &self.edges[number];
                if edge.room > 0 && cost[at] + edge.cost < cost[edge.to] {
                    (cost[edge.to], came_by[edge.to]) = (cost[at] + edge.cost, number);
                    if !std::mem::replace(&mut queued[edge.to], true) {
                        queue.push_back(edge.to);
                    }
                }
            }
        }
        let mut at = sink;
        while at != source && cost[sink] < i64::MAX {
            let number = came_by[at];
            self.edges[number].room -= 1;
            self.edges[number ^ 1].room += 1;
            at = self.edges[number ^ 1].to;
        }
        cost[sink] < i64::MAX
    }
}

/// For each thing the holders that it should have: `each` of them, out of `options`. An option is a holder
/// (below `holders`), and whether it holds the thing now.
pub(super) fn share_out(options: &[Vec<(usize, bool)>], holders: usize, each: usize) -> Vec<Vec<usize>> {
    let all = options.len() * each;
    let mut network = Network::default();
    let [source, sink, door] = [(); 3].map(|()| network.vertex());
    let vertices: Vec<usize> = (0..holders).map(|_| network.vertex()).collect();
    let mut chosen = Vec::with_capacity(options.len());
    for options in options {
        let thing = network.vertex();
        network.edge(source, thing, each, 0);
        let edge = |&(holder, now): &(usize, bool)| (holder, network.edge(thing, vertices[holder], 1, i64::from(!now)));
        chosen.push(options.iter().map(edge).collect::<Vec<_>>());
    }
    for holder in vertices {
        network.edge(holder, sink, all / holders, 0);
        network.edge(holder, door, 1, 0);
    }
    network.edge(door, sink, all % holders, 0);
    while network.push(source, sink) {}
    let is_chosen = |(holder, edge): (usize, usize)| (network.edges[edge].room == 0).then_some(holder);
    chosen.into_iter().map(|edges| edges.into_iter().filter_map(is_chosen).collect()).collect()
}

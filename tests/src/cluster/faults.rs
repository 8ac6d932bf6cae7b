//! What can be done to a cluster. Everything can be undone but the loss of data.

use std::fs;
use std::io;
use std::sync::Arc;

use crate::cluster::{Cluster, Member};
use crate::{Disk, Flow, Link};

impl Cluster {
    /// SIGKILL. Nothing happens if it does not run.
    pub fn kill(&mut self, member: Member) {
        self.end(member, |process| process.kill());
    }

    /// SIGKILL for several at once: nobody hears of the end of another before its own.
    pub fn kill_all(&mut self, members: &[Member]) {
        for member in members {
            if let Some(process) = self.process(*member) {
                process.kill_soon();
            }
        }
        for member in members {
            self.kill(*member);
        }
    }

    /// SIGTERM, and waits for the end that it chooses.
    pub fn stop(&mut self, member: Member) {
        self.end(member, |process| {
            process.terminate();
            process.wait();
        });
    }

    /// Kills it if it runs, and starts it with the data that it has.
    pub fn restart(&mut self, member: Member) {
        self.kill(member);
        self.start_member(member);
    }

    /// Whether it runs; notes it if it has ended by itself.
    pub fn runs(&mut self, member: Member) -> bool {
        let ended = self.process(member).is_some_and(|process| process.try_wait().is_some());
        if ended {
            self.end(member, |_| ());
        }
        self.process(member).is_some()
    }

    fn end(&mut self, member: Member, end: impl FnOnce(&crate::Process)) {
        // Whoever connects from now on finds nobody, not the port of another process.
        if let Member::Node(id) = member {
            self.proxies[&id].lead_to(&[]);
        }
        let seat = self.seat_mut(member);
        (seat.address, seat.metrics_url) = (None, None);
        if let Some(process) = seat.process.take() {
            end(&process);
            self.fabric.processes().remove(&process.id());
        }
    }

    /// SIGSTOP: it stands still with all its connections open.
    pub fn freeze(&self, member: Member) {
        self.process(member).unwrap_or_else(|| panic!("{member} does not run")).pause();
    }

    /// SIGCONT.
    pub fn thaw(&self, member: Member) {
        if let Some(process) = self.process(member) {
            process.resume();
        }
    }

    /// What leads from a member to a node.
    ///
    /// # Panics
    /// If they are the same, or not there.
    pub fn link(&self, from: Member, to: u32) -> &Arc<Link> {
        self.fabric.links.get(&(from, to)).unwrap_or_else(|| panic!("no link from {from} to node {to}"))
    }

    /// Sets what becomes of everything that goes into a node, and of everything that goes out of it, whoever opened the
    /// connection.
    pub fn isolate(&self, node: u32, inward: Flow, outward: Flow) {
        for ((from, to), link) in &self.fabric.links {
            if *to == node {
                link.set(inward, outward);
            } else if *from == Member::Node(node) {
                link.set(outward, inward);
            }
        }
    }

    /// Every link is whole again.
    pub fn heal(&self) {
        for link in self.fabric.links.values() {
            link.heal();
        }
    }

    /// The disk of the last node, if it has one of its own.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// From now on what the last node writes to its log cannot be synced.
    ///
    /// # Errors
    /// If the system's tools fail.
    ///
    /// # Panics
    /// If that node has no disk of its own.
    pub fn fail_disk(&self) -> io::Result<()> {
        let member = Member::Node(self.options.nodes);
        self.freeze(member);
        let result = self.disk.as_ref().expect("a disk of its own").fail();
        self.thaw(member);
        result
    }

    /// Removes all data of a node that does not run.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self, node: u32) {
        assert!(self.process(Member::Node(node)).is_none(), "node {node} runs");
        match fs::remove_dir_all(self.data_folder(node)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("the data of node {node}: {error}"),
            _ => {}
        }
    }

    /// From now on the wall clock of a member is wrong by so much.
    pub fn jump(&self, member: Member, ms: i64) {
        self.seat(member).clock.jump(ms);
    }
}

//! Counts requests of clients and times their answers, by what was asked and how it was answered.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram};
use ursula_common::metrics::Registry;
use ursula_protocol::{Live, Rejection, Request, status_number};

/// What clients ask for; the value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Operation {
    Probe,
    Preflight,
    Bucket,
    List,
    Create,
    Append,
    Trim,
    Delete,
    Head,
    Read,
    LongPoll,
    Sse,
    PublishSnapshot,
    ReadSnapshot,
    RemoveSnapshot,
    Bootstrap,
    /// Nothing that is understood.
    Unknown,
}

const OPERATIONS: [(Operation, &str); 17] = [
    (Operation::Probe, "probe"),
    (Operation::Preflight, "preflight"),
    (Operation::Bucket, "bucket"),
    (Operation::List, "list"),
    (Operation::Create, "create"),
    (Operation::Append, "append"),
    (Operation::Trim, "trim"),
    (Operation::Delete, "delete"),
    (Operation::Head, "head"),
    (Operation::Read, "read"),
    (Operation::LongPoll, "long_poll"),
    (Operation::Sse, "sse"),
    (Operation::PublishSnapshot, "publish_snapshot"),
    (Operation::ReadSnapshot, "read_snapshot"),
    (Operation::RemoveSnapshot, "remove_snapshot"),
    (Operation::Bootstrap, "bootstrap"),
    (Operation::Unknown, "unknown"),
];

const _: () = {
    let mut i = 0;
    while i < OPERATIONS.len() {
        assert!(OPERATIONS[i].0 as usize == i);
        i += 1;
    }
};

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        OPERATIONS[self as usize].1
    }

    /// What a request asks for.
    pub(crate) fn of(request: &Result<Request, Rejection>) -> Operation {
        match request {
            Err(_) => Operation::Unknown,
            Ok(Request::Health | Request::Ready) => Operation::Probe,
            Ok(Request::Preflight) => Operation::Preflight,
            Ok(Request::CreateBucket(..) | Request::DescribeBucket(_) | Request::DeleteBucket(_)) => Operation::Bucket,
            Ok(Request::List(_)) => Operation::List,
            Ok(Request::Create(_)) => Operation::Create,
            Ok(Request::Append(_)) => Operation::Append,
            Ok(Request::Trim(_)) => Operation::Trim,
            Ok(Request::Delete(_)) => Operation::Delete,
            Ok(Request::Head(_)) => Operation::Head,
            Ok(Request::Read(parts)) => match parts.live {
                Live::No => Operation::Read,
                Live::LongPoll => Operation::LongPoll,
                Live::Sse => Operation::Sse,
            },
            Ok(Request::PublishSnapshot(_)) => Operation::PublishSnapshot,
            Ok(Request::ReadSnapshot(_) | Request::HeadSnapshot(_)) => Operation::ReadSnapshot,
            Ok(Request::RemoveSnapshot(_)) => Operation::RemoveSnapshot,
            Ok(Request::Bootstrap(_)) => Operation::Bootstrap,
        }
    }
}

/// Statuses from 100 on.
const STATUSES: usize = 500;

/// What was asked, and how it was answered. What never happened is not rendered.
pub(crate) struct Requests(Vec<OfOperation>);

struct OfOperation {
    name: &'static str,
    /// By their status.
    answers: Box<[OnceLock<Counter>]>,
    seconds: OnceLock<Histogram>,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        let answers = || (0..STATUSES).map(|_| OnceLock::new()).collect();
        let of = |(_, name)| OfOperation { name, answers: answers(), seconds: OnceLock::new() };
        Requests(OPERATIONS.into_iter().map(of).collect())
    }

    /// One more was answered; the head of the answer was ready after `took`, which for long polls is mostly waiting.
    pub(crate) fn answered(&self, registry: &Registry, operation: Operation, status: StatusCode, took: Duration) {
        let Some(of) = self.0.get(operation as usize) else { return };
        let Some(answers) = of.answers.get(usize::from(status_number(status)) - 100) else { return };
        answers
            .get_or_init(|| {
                let labels = [("operation", of.name), ("status", status.as_str())];
                registry.counter_of("ursula_gateway_requests_total", "requests of clients", &labels)
            })
            .increment(1);
        of.seconds
            .get_or_init(|| {
                let help = "time until the head of an answer";
                registry.histogram_of("ursula_gateway_request_seconds", help, &[("operation", of.name)])
            })
            .record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;

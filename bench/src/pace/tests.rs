//! Every request is due once, at its own time, taken or left over.

use super::*;

#[tokio::test]
async fn each_request_is_due_once() {
    let begin = Instant::now();
    let end = begin + Duration::from_millis(100);
    let pace = Pace::start(begin, end, 2000.0);
    let mut times = Vec::new();
    while let Some(due) = pace.next().await {
        times.push(due);
        if times.len() == 50 {
            break;
        }
    }
    while !pace.due.is_closed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(pace.next().await, None);
    times.extend(pace.left_over());
    let wanted: Vec<_> = (0..200).map(|n| begin + Duration::from_secs_f64(f64::from(n) / 2000.0)).collect();
    assert_eq!(times, wanted);
}

//! Running many callers for a while, and telling what came of it.

use hdrhistogram::Histogram;
use std::future::Future;
use std::time::{Duration, Instant};

/// What a run gave.
pub struct Outcome {
    pub done: u64,
    pub failed: u64,
    pub seconds: f64,
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// One line for the table of results.
    pub fn line(&self, name: &str) -> String {
        format!(
            "{name:<44} {:>9.0}/s   p50 {:>8.2} ms   p99 {:>8.2} ms   max {:>8.1} ms   failed {}",
            self.per_second(),
            self.latency.value_at_quantile(0.5) as f64 / 1e3,
            self.latency.value_at_quantile(0.99) as f64 / 1e3,
            self.latency.max() as f64 / 1e3,
            self.failed
        )
    }
}

/// Runs `callers` loops of `call(caller, n)` for `seconds` and counts those that say true.
pub async fn callers<F, R>(callers: u64, seconds: f64, call: F) -> Outcome
where
    F: Fn(u64, u64) -> R + Clone + Send + 'static,
    R: Future<Output = bool> + Send,
{
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut latency = histogram();
            let (mut done, mut failed) = (0, 0);
            for n in 0.. {
                let start = Instant::now();
                if start >= until {
                    break;
                }
                if call(caller, n).await {
                    done += 1;
                } else {
                    failed += 1;
                }
                latency.saturating_record(start.elapsed().as_micros().max(1) as u64);
            }
            (done, failed, latency)
        });
    }
    let mut outcome = Outcome { done: 0, failed: 0, seconds: 0.0, latency: histogram() };
    while let Some(task) = tasks.join_next().await {
        let (done, failed, latency) = task.expect("a caller does not panic");
        outcome.done += done;
        outcome.failed += failed;
        outcome.latency.add(latency).expect("equal histograms");
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome
}

/// How many writes of 4 KiB with fsync the disk does in a second: the physical limit of one commit each.
pub fn fsyncs_per_second(folder: &std::path::Path) -> f64 {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(folder).expect("a file");
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 4096]).expect("written");
        file.sync_data().expect("synced");
        n += 1;
    }
    f64::from(n) / began.elapsed().as_secs_f64()
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Up to a minute in microseconds, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid")
}

pub fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

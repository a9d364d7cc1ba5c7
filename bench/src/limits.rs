//! Rate limits in process: a check of four levels on a million keys, with governor's check of one level in the same run.

use crate::measure::median;
use crate::measure::tell;
use clap::Args;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use kernel::{Rng as _, SeededRng, SystemClock, TenantId};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use traffic::{Limiter, LimiterConfig, RuleFile, Subject};

/// Four levels, each with its own million keys. Bursts are such that the heaviest keys are refused now and then.
const RULES: &str = r#"
    [[rule]]
    name = "ip"
    key = ["ip"]
    algorithm = "token_bucket"
    limit = 10_000
    per = "1s"
    [[rule]]
    name = "user"
    key = ["user"]
    algorithm = "sliding_counter"
    limit = 1_000_000
    per = "1m"
    [[rule]]
    name = "api_key"
    key = ["api_key"]
    algorithm = "fixed_window"
    limit = 1_000_000
    per = "1m"
    [[rule]]
    name = "tenant"
    key = ["tenant"]
    algorithm = "token_bucket"
    limit = 100_000
    per = "1s"
"#;

/// Whoever a draw stands for.
pub(crate) fn subject(draw: &[u32; 4]) -> Subject<'static> {
    Subject {
        ip: Some(Ipv4Addr::from_bits(draw[0]).into()),
        user: Some(i64::from(draw[1])),
        api_key: Some(i64::from(draw[2])),
        tenant: Some(TenantId::from_i64(i64::from(draw[3]) + 1)),
        cost: 1,
        ..Subject::default()
    }
}

/// `limits`.
#[derive(Args)]
pub struct Options {
    /// Keys of each level.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs of each kind; the median is told.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Draws of a key for each of four levels.
pub(crate) fn zipf_draws(keys: u64, many: usize, seed: u64) -> Vec<[u32; 4]> {
    // Zipf with exponent 1: the rank of a draw is N to the power of a uniform number.
    let rng = SeededRng::new(seed);
    let zipf = || {
        let uniform = rng.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        ((keys as f64).powf(uniform) as u64).min(keys - 1)
    };
    // Each level has its own order of ranks, or one line of the cache would serve all four. In half a line each, so that reading them
    // costs the least.
    let scatter = |rank: u64, level: u64| (rank.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(level as u32 * 16)) >> 24;
    (0..many).map(|_| std::array::from_fn(|level| scatter(zipf(), level as u64) as u32)).collect()
}

/// Runs and prints.
pub fn run(options: &Options) {
    let rng = SeededRng::new(7);
    let draws = zipf_draws(options.keys, 1 << 20, 7);
    let config = LimiterConfig { keys: (options.keys * 5) as usize, ..LimiterConfig::default() };
    let rules = RuleFile::parse("bench", RULES).expect("the rules are valid");
    let limiter = Limiter::new(rules, config, Arc::new(SystemClock), &rng);
    let ours = |draw: &[u32; 4]| {
        let subject = subject(draw);
        limiter.check(&subject).admitted()
    };
    let peer: DefaultKeyedRateLimiter<u32> = RateLimiter::keyed(Quota::per_second(NonZeroU32::new(10_000).expect("above 0")));
    let peers = |draw: &[u32; 4]| peer.check_key(&draw[0]).is_ok();

    tell(&format!(
        "{} keys a level, Zipf (exponent 1), {} runs of {} s, times with the clock read",
        options.keys, options.runs, options.seconds
    ));
    for threads in [1, 2] {
        measure("four levels", threads, options, &draws, &ours);
        measure("governor, one level", threads, options, &draws, &peers);
    }
    tell(&format!("keys remembered {}, forgotten early {}", limiter.live_keys(), limiter.evictions()));
}

fn measure(name: &str, threads: usize, options: &Options, draws: &[[u32; 4]], check: &(impl Fn(&[u32; 4]) -> bool + Sync)) {
    // Every key is met once before it counts.
    for draw in draws {
        black_box(check(draw));
    }
    let mut admitted_share = 0.0;
    let rates = (0..options.runs)
        .map(|_| {
            let time = Duration::from_secs_f64(options.seconds);
            let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
                let runners: Vec<_> = (0..threads)
                    .map(|thread| {
                        scope.spawn(move || {
                            let (begun, mut done, mut admitted) = (Instant::now(), 0, 0);
                            let mut at = thread * draws.len() / threads;
                            while begun.elapsed() < time {
                                for _ in 0..1_000 {
                                    admitted += u64::from(black_box(check(&draws[at])));
                                    at = (at + 1) % draws.len();
                                }
                                done += 1_000;
                            }
                            (done, admitted)
                        })
                    })
                    .collect();
                runners.into_iter().map(|runner| runner.join().expect("a check does not panic")).collect()
            });
            let done: u64 = counts.iter().map(|(done, _)| done).sum();
            admitted_share = counts.iter().map(|(_, admitted)| admitted).sum::<u64>() as f64 / done as f64;
            done as f64 / options.seconds
        })
        .collect();
    let rate = median(rates);
    tell(&format!(
        "{name:<22} {threads} threads {:>7.2} M/s  {:>6.0} ns each  admitted {:.1} %",
        rate / 1e6,
        threads as f64 * 1e9 / rate,
        admitted_share * 100.0
    ));
}

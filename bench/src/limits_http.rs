//! What four rate limits cost a request: the whole HTTP path in process, with and without them, in turn on the same two cores.

use crate::limits::zipf_draws;
use crate::measure::{median, tell};
use crate::tenants::{Application, Place, Tenant};
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use clap::Args;
use kernel::{SystemClock, SystemRng};
use std::net::Ipv4Addr;
use std::sync::Arc;
use traffic::{Limiter, LimiterConfig, RuleFile};

/// Four levels that nobody reaches, two of them with many keys.
const RULES: &str = r#"
    [[rule]]
    name = "ip"
    key = ["ip"]
    algorithm = "token_bucket"
    limit = 1_000_000
    per = "1s"
    [[rule]]
    name = "device"
    key = ["header:x-device"]
    algorithm = "sliding_counter"
    limit = 100_000_000
    per = "1m"
    [[rule]]
    name = "api_key"
    key = ["api_key"]
    algorithm = "fixed_window"
    limit = 100_000_000
    per = "1m"
    [[rule]]
    name = "tenant"
    key = ["tenant"]
    algorithm = "token_bucket"
    limit = 1_000_000
    per = "1s"
"#;

/// `limits-http`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Keys of each of the two levels with many.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Requests of a block.
    #[arg(long, default_value_t = 2_000)]
    block: usize,
    /// Blocks with limits, and as many without, in turn.
    #[arg(long, default_value_t = 100)]
    blocks: usize,
}

/// Runs and prints.
pub async fn run(options: Options) {
    let file = RuleFile::parse("bench", RULES).expect("the rules are valid");
    let config = LimiterConfig { keys: (options.keys * 3) as usize, ..LimiterConfig::default() };
    let limiter = Arc::new(Limiter::new(file, config, Arc::new(SystemClock), &SystemRng::new()));
    let applications = [Application::open(&options.place).await, Application::open_limited(&options.place, Some(limiter)).await];
    let mut tenants = Vec::new();
    for application in &applications {
        tenants.push(application.tenants(0..1, 1).await.remove(0));
    }
    let draws: Vec<(Ipv4Addr, String)> =
        zipf_draws(options.keys, 1 << 18, 7).into_iter().map(|draw| (Ipv4Addr::from_bits(draw[0]), draw[1].to_string())).collect();
    let mut at = 0;
    let (mut without, mut with, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for block in 0..options.blocks + 2 {
        let mut each = [0.0; 2];
        // Which one goes first changes, or the second would always find the memory as the first left it.
        for turn in [block % 2, 1 - block % 2] {
            at = (at + options.block) % draws.len();
            each[turn] = measure(&applications[turn], &tenants[turn], draws.iter().cycle().skip(at).take(options.block)).await;
        }
        // The first blocks warm up.
        if block >= 2 {
            without.push(each[0]);
            with.push(each[1]);
            added.push(each[1] - each[0]);
        }
    }
    tell(&format!(
        "a GET of an order, CPU of the whole process: without limits {:.2} us, with four levels {:.2} us, added {:.2} us (medians of {} blocks of {})",
        median(without),
        median(with),
        median(added),
        options.blocks,
        options.block
    ));
    for application in &applications {
        application.told();
    }
}

/// The process's time on a processor for each request, in microseconds.
async fn measure<'a>(application: &Application, tenant: &Tenant, draws: impl Iterator<Item = &'a (Ipv4Addr, String)>) -> f64 {
    let mut done = 0_u32;
    let begun = processor_ns();
    for (ip, device) in draws {
        let mut request = Request::get(tenant.order())
            .header(AUTHORIZATION, &tenant.credential)
            .header("x-device", device)
            .body(Body::empty())
            .expect("a valid request");
        request.extensions_mut().insert(web::Peer((*ip).into()));
        let answer = application.send(request).await;
        if answer.status != StatusCode::OK {
            application.unexpected(&answer);
        }
        done += 1;
    }
    (processor_ns() - begun) as f64 / f64::from(done.max(1)) / 1e3
}

/// Nanoseconds that all threads of this process have run, as `/proc` tells.
fn processor_ns() -> u64 {
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.flatten().filter_map(of).sum())
}

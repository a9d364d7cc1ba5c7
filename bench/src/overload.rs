//! More than can be done: what one tenant's flood costs the others, and what overload costs those who are accepted.

use crate::measure::{callers, median, tell};
use crate::tenants::{Answer, Application, Class, Place, Tenant, open_loop};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use clap::Args;
use kernel::{SystemClock, SystemRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use traffic::{Limiter, LimiterConfig, RuleFile};

/// How an order that was offered ended; these are the classes of the load.
const ACCEPTED: usize = 0;
/// Refused by the queue of a lane, with `Retry-After`.
const QUEUE_FULL: usize = 1;
/// Refused by the edge, with `Retry-After`.
const EDGE_FULL: usize = 2;
/// Refused by a rate limit, with `Retry-After`.
const LIMITED: usize = 3;
const UNEXPECTED: usize = 4;
/// Accepted, on the lane that the flood comes on.
const BESIDE: usize = 5;
const CLASSES: usize = 6;

async fn offer(app: &Application, tenant: &Tenant) -> usize {
    let answer: Answer = app.place(&tenant.credential).await;
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()).and_then(|after| after.parse::<u32>().ok());
    let refused = matches!(answer.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) && seconds.is_some();
    match (answer.status, refused.then(|| answer.text("code")).as_deref()) {
        (StatusCode::CREATED, _) => ACCEPTED,
        (_, Some("store.overloaded")) => QUEUE_FULL,
        (_, Some("server.overloaded")) => EDGE_FULL,
        (_, Some("limits.exceeded")) => LIMITED,
        _ => {
            app.unexpected(&answer);
            UNEXPECTED
        }
    }
}

/// Offers `rate` orders a second to these tenants in turn.
async fn flood(app: &Arc<Application>, tenants: &[Tenant], rate: f64, seconds: f64) -> Vec<Class> {
    flood_apart(app, tenants, rate, seconds, None).await
}

/// The same, with those apart that are accepted on this lane: the others are [`ACCEPTED`], these [`BESIDE`].
async fn flood_apart(app: &Arc<Application>, tenants: &[Tenant], rate: f64, seconds: f64, lane: Option<u16>) -> Vec<Class> {
    let (app, tenants) = (app.clone(), Arc::new(tenants.to_vec()));
    open_loop(rate, seconds, CLASSES, move |n| {
        let (app, tenants) = (app.clone(), tenants.clone());
        async move {
            let tenant = &tenants[(n % tenants.len() as u64) as usize];
            match offer(&app, tenant).await {
                ACCEPTED if lane == Some(app.lane_of(tenant)) => BESIDE,
                class => class,
            }
        }
    })
    .await
}

fn tell_classes(classes: &[Class]) {
    for (class, name) in classes.iter().zip([
        "201",
        "503 store.overloaded",
        "503 server.overloaded",
        "429 limits.exceeded",
        "anything else",
        "201, on the tenth's lane",
    ]) {
        if class.count() > 0 {
            tell(&class.line(name));
        }
    }
}

// ---- fairness -------------------------------------------------------------------------------------------------------

/// Options of `fairness`.
#[derive(Args)]
pub struct FairnessOptions {
    #[command(flatten)]
    place: Place,
    /// Orders a second of each of the nine tenants.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// How many times as many the tenth one offers.
    #[arg(long, default_value_t = 100.0)]
    times: f64,
    /// Seconds for each of the two loads of a run.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// With a rule that gives every tenant so many requests a second; without one, only the lanes' queues hold the flood back.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    tenant_limit: Option<u64>,
}

/// Runs it.
pub async fn fairness(options: FairnessOptions) {
    let limiter = options.tenant_limit.map(|limit| {
        let rules =
            format!("[[rule]]\nname = \"tenant\"\nkey = [\"tenant\"]\nalgorithm = \"token_bucket\"\nlimit = {limit}\nper = \"1s\"\n");
        let file = RuleFile::parse("bench", &rules).expect("the rule is valid");
        Arc::new(Limiter::new(file, LimiterConfig::default(), Arc::new(SystemClock), &SystemRng::new()))
    });
    let app = Application::open_limited(&options.place, limiter).await;
    let tenants = app.tenants(0..10, 1).await;
    let (loud, nine) = tenants.split_last().expect("ten tenants");
    let (together, lane) = (options.rate * nine.len() as f64, app.lane_of(loud));
    flood(&app, nine, together, 2.0).await;
    let (mut p50, mut p99, mut not_accepted) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.runs {
        app.drained().await;
        tell(&format!("nine tenants alone, {}/s each, {} s:", options.rate, options.seconds));
        let alone = flood_apart(&app, nine, together, options.seconds, Some(lane)).await;
        tell_classes(&alone);
        app.drained().await;
        tell(&format!("the same nine, while the tenth offers {}/s:", options.rate * options.times));
        let (beside, flooding) = tokio::join!(
            flood_apart(&app, nine, together, options.seconds, Some(lane)),
            flood(&app, std::slice::from_ref(loud), options.rate * options.times, options.seconds)
        );
        tell_classes(&beside);
        tell("the tenth:");
        tell_classes(&flooding);
        app.told();
        let accepted = |classes: &[Class]| Class::sum([&classes[ACCEPTED], &classes[BESIDE]]);
        let (alone, accepted_beside) = (accepted(&alone), accepted(&beside));
        p50.push(accepted_beside.ms(0.5) / alone.ms(0.5));
        p99.push(accepted_beside.ms(0.99) / alone.ms(0.99));
        // The latencies are those of accepted orders: they say little when orders of the nine were refused.
        let refused: u64 = beside[QUEUE_FULL..=UNEXPECTED].iter().map(Class::count).sum();
        tell(&format!(
            "beside the flood / alone: p50 {:.2}, p99 {:.2}; orders of the nine that were not accepted: {refused}",
            p50[p50.len() - 1],
            p99[p99.len() - 1]
        ));
        not_accepted += refused;
    }
    let (p50, p99) = (median(p50), median(p99));
    tell(&format!("median of {} runs: p50 {p50:.2}, p99 {p99:.2}; orders of the nine not accepted: {not_accepted}", options.runs));
    app.close().await;
}

// ---- overload -------------------------------------------------------------------------------------------------------

/// Options of `overload`.
#[derive(Args)]
pub struct OverloadOptions {
    #[command(flatten)]
    place: Place,
    /// Tenants that place the orders in turn.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    tenants: u64,
    /// Callers that measure the peak after a warm-up of 2 s, each with one order at a time: few enough that none is refused.
    #[arg(long, default_value_t = 64)]
    callers: u64,
    /// The normal load as a part of the peak.
    #[arg(long, default_value_t = 0.3)]
    normal: f64,
    /// The overload as a multiple of the peak.
    #[arg(long, default_value_t = 3.0)]
    times: f64,
    /// Seconds for each load.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Runs it.
pub async fn overload(options: OverloadOptions) {
    let app = Application::open(&options.place).await;
    let tenants = Arc::new(app.tenants(0..options.tenants, 1).await);
    let closed = |seconds| {
        let (app, tenants) = (app.clone(), tenants.clone());
        callers(options.callers, seconds, move |caller, n| {
            let (app, tenants) = (app.clone(), tenants.clone());
            async move {
                let accepted = offer(&app, &tenants[((caller + n) % tenants.len() as u64) as usize]).await == ACCEPTED;
                if !accepted {
                    // Whoever asks again at once takes the cores from those who were accepted.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                accepted
            }
        })
    };
    closed(2.0).await;
    let peak = closed(options.seconds).await;
    tell(&peak.line(&format!("closed loop, {} callers", options.callers)));
    if peak.failed > 0 {
        tell("  some were refused: with so many callers for these bounds, this is less than the peak");
    }
    let peak = peak.per_second();

    app.drained().await;
    tell(&format!("normal, {:.0}/s for {} s:", peak * options.normal, options.seconds));
    let normal = flood(&app, &tenants, peak * options.normal, options.seconds).await;
    tell_classes(&normal);

    app.drained().await;
    let before = resident_kib();
    let watch = Watch::start();
    tell(&format!("overload, {:.0}/s for {} s:", peak * options.times, options.seconds));
    let began = Instant::now();
    let over = flood(&app, &tenants, peak * options.times, options.seconds).await;
    // What had been accepted at the end of the load is answered after it.
    let accepted_per_second = over[ACCEPTED].count() as f64 / began.elapsed().as_secs_f64();
    let most = watch.end();
    tell_classes(&over);
    app.told();
    tell(&format!(
        "accepted {:.0}/s until the last answer ({:.2} of the peak, {:.2} of what was offered); refused {} with store.overloaded and {} with server.overloaded, all with Retry-After; {} others",
        accepted_per_second,
        accepted_per_second / peak,
        accepted_per_second / (peak * options.times),
        over[QUEUE_FULL].count(),
        over[EDGE_FULL].count(),
        over[UNEXPECTED].count()
    ));
    let inside = |classes: &[Class]| classes[ACCEPTED].inside.value_at_quantile(0.99) as f64;
    tell(&format!(
        "p99 of the accepted, overload / normal: {:.2} (inside the application {:.2})",
        over[ACCEPTED].ms(0.99) / normal[ACCEPTED].ms(0.99),
        inside(&over) / inside(&normal)
    ));

    app.drained().await;
    tell(&format!(
        "resident memory, generator included: {} MiB before, {} MiB at most during it, {} MiB after",
        before / 1024,
        most / 1024,
        resident_kib() / 1024
    ));
    app.close().await;
}

/// The process's resident memory in KiB; 0 where there is no `/proc`.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Looks at the resident memory twenty times a second.
struct Watch {
    over: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start() -> Watch {
        let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, seen) = (over.clone(), most.clone());
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                seen.fetch_max(resident_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Watch { over, most, thread }
    }

    /// The most that was seen, in KiB.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed).max(resident_kib())
    }
}

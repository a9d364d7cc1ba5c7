//! The application under test.

use crate::database::Database;
use crate::fake::{FakeAuthenticator, platform_token, token};
use crate::request::{Client, TestRequest};
use kernel::{Clock, IdGenerator, ManualClock, Result, SeededRng, TenantId, Timestamp};
use log::{FailureState, FailuresOf, Log, LogConfig};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use store::{Engine, Environment, Store};
use web::{App, AppBuilder, Audit, AuditCheck, Authenticator, Module, Web};
use workflow::{Runner, RunnerConfig};

/// 2026-01-05T12:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);
/// How long consumers may take to come to the end of the log.
const DRAIN_MS: u64 = 30_000;
/// How often the sagas look at the clock, which wakes nobody when it is moved.
const POLL_MS: u64 = 20;

/// Changes an application while it is built: parts, configuration.
type Customise = Box<dyn FnOnce(AppBuilder) -> AppBuilder + Send>;

/// What the application under test consists of.
pub struct Setup {
    modules: Vec<Module>,
    authenticator: Option<Arc<dyn Authenticator>>,
    customise: Vec<Customise>,
    parts: workflow::Parts,
    probe: Option<workflow::Probe>,
}

impl Setup {
    /// These modules, with [`FakeAuthenticator`].
    pub fn new(modules: Vec<Module>) -> Setup {
        Setup { modules, authenticator: None, customise: Vec::new(), parts: workflow::Parts::new(), probe: None }
    }

    /// With a real authenticator.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Setup {
        self.authenticator = Some(authenticator);
        self
    }

    /// With more of what [`AppBuilder`] takes: `.customise(|builder| builder.part(MyState::new()))`.
    #[must_use]
    pub fn customise(mut self, change: impl FnOnce(AppBuilder) -> AppBuilder + Send + 'static) -> Setup {
        self.customise.push(Box::new(change));
        self
    }

    /// With something that the calls of workflows need ([`workflow::Request::part`]): a fake of the outside.
    #[must_use]
    pub fn workflow_part<T: std::any::Any + Send + Sync>(mut self, part: T) -> Setup {
        self.parts = self.parts.with(part);
        self
    }

    /// With a hook that decides where sagas die as if the process did. Their leases run out as the clock is moved on.
    #[must_use]
    pub fn probe(mut self, probe: impl Fn(workflow::Point, workflow::SagaId) -> workflow::Fate + Send + Sync + 'static) -> Setup {
        self.probe = Some(Arc::new(probe));
        self
    }
}

/// A running application; cheap to clone. [`TestApp::finish`] checks that it ends well.
#[derive(Clone)]
pub struct TestApp(Arc<Running>);

struct Running {
    web: Web,
    log: Option<Log>,
    workflows: workflow::Runner,
    clock: Arc<ManualClock>,
    fake: Arc<FakeAuthenticator>,
    audits: Vec<Audit>,
    audited: Mutex<Vec<TenantId>>,
    dead_letters_allowed: AtomicBool,
    parked_allowed: AtomicBool,
    // After everything that uses it: fields are dropped in this order.
    _database: Database,
}

/// Runs a test on an engine, and then the checks of [`TestApp::finish`]. Does nothing but say so when the engine is not there.
pub async fn run<F, Fut>(engine: Engine, setup: Setup, test: F)
where
    F: FnOnce(TestApp) -> Fut,
    Fut: Future<Output = ()>,
{
    if let Some(app) = TestApp::start(engine, setup).await {
        test(app.clone()).await;
        app.finish().await;
    }
}

impl TestApp {
    /// Starts it in a database of its own. None when the engine is not there.
    pub async fn start(engine: Engine, setup: Setup) -> Option<TestApp> {
        let (database, config) = Database::create(engine).await?;
        let clock = Arc::new(ManualClock::new(START));
        let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), 1)) };
        let own = [log::migrations(), workflow::migrations()];
        let migrations: Vec<_> = own.into_iter().chain(setup.modules.iter().map(|module| module.migrations)).collect();
        let store = Store::open(config, &migrations, environment).expect("the store opens");
        let rng = Arc::new(SeededRng::new(1));
        let mut registry = Registry::default();
        store.register_metrics(&mut registry);
        let consumers: Vec<log::Consumer> = setup.modules.iter().flat_map(|module| module.consumers.iter().copied()).collect();
        let log = if consumers.is_empty() {
            None
        } else {
            let log = Log::start(store.clone(), consumers, LogConfig::default(), rng.clone()).await.expect("the consumers start");
            log.register(&mut registry);
            Some(log)
        };
        let workflows: Vec<workflow::Workflow> = setup.modules.iter().flat_map(|module| module.workflows.iter().cloned()).collect();
        let config = RunnerConfig { poll_ms: POLL_MS, probe: setup.probe, ..RunnerConfig::default() };
        let workflows = Runner::start(store.clone(), workflows, setup.parts, config, rng.clone()).await.expect("the workflows start");
        workflows.register(&mut registry);
        let audits = setup.modules.iter().flat_map(|module| module.audits.iter().copied()).collect();
        let all = setup.modules.iter().flat_map(|module| module.permissions.iter().map(|p| p.name.to_owned())).collect();
        let fake = Arc::new(FakeAuthenticator::new(all));
        let authenticator = setup.authenticator.unwrap_or_else(|| fake.clone());
        let rules = traffic::RuleFile::parse("generous", traffic::GENEROUS_RULES).expect("the shipped rules are valid");
        let small = traffic::LimiterConfig { keys: 1_000, log_keys: 64 };
        let limits = Arc::new(traffic::Limiter::new(rules, small, clock.clone(), &*rng));
        let builder = App::builder(store, authenticator).modules(setup.modules).rng(rng).registry(registry).limits(limits);
        let web = setup.customise.into_iter().fold(builder, |builder, change| change(builder)).build().expect("the modules fit together");
        Some(TestApp(Arc::new(Running {
            web,
            log,
            workflows,
            clock,
            fake,
            audits,
            audited: Mutex::default(),
            dead_letters_allowed: AtomicBool::new(false),
            parked_allowed: AtomicBool::new(false),
            _database: database,
        })))
    }

    /// The application as a service.
    pub fn web(&self) -> &Web {
        &self.0.web
    }

    /// What handlers get.
    pub fn app(&self) -> &App {
        self.0.web.app()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.app().store()
    }

    /// The running consumers. Panics when no module has one.
    pub fn log(&self) -> &Log {
        self.0.log.as_ref().expect("a module with a consumer")
    }

    /// The clock. It stands still until it is moved on.
    pub fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    /// The tenant with this slug, made when the test first names it. (With [`FakeAuthenticator`]; the identity module has its own.)
    pub fn tenant(&self, slug: &str) -> TenantId {
        self.0.fake.tenant(slug, || self.store().ids().next())
    }

    /// A user of the tenant with these permissions; `*` stands for all.
    pub fn client(&self, slug: &str, permissions: &[&str]) -> Client {
        Client { web: self.0.web.clone(), token: Some(token(self.tenant(slug), permissions)) }
    }

    /// An administrator of the platform with these permissions; `*` stands for all.
    pub fn platform(&self, permissions: &[&str]) -> Client {
        Client { web: self.0.web.clone(), token: Some(platform_token(permissions)) }
    }

    /// Someone with this token.
    pub fn with_token(&self, token: impl Into<String>) -> Client {
        Client { web: self.0.web.clone(), token: Some(token.into()) }
    }

    /// Someone without a credential.
    pub fn anonymous(&self) -> Client {
        Client { web: self.0.web.clone(), token: None }
    }

    /// GET without a credential, unless one is added.
    pub fn get(&self, path: impl Into<String>) -> TestRequest {
        self.anonymous().get(path)
    }
    /// POST without a credential, unless one is added.
    pub fn post(&self, path: impl Into<String>) -> TestRequest {
        self.anonymous().post(path)
    }
    /// PUT without a credential, unless one is added.
    pub fn put(&self, path: impl Into<String>) -> TestRequest {
        self.anonymous().put(path)
    }
    /// PATCH without a credential, unless one is added.
    pub fn patch(&self, path: impl Into<String>) -> TestRequest {
        self.anonymous().patch(path)
    }
    /// DELETE without a credential, unless one is added.
    pub fn delete(&self, path: impl Into<String>) -> TestRequest {
        self.anonymous().delete(path)
    }

    /// The running workflows.
    pub fn workflows(&self) -> &Runner {
        &self.0.workflows
    }

    /// Waits until the consumers have handled everything and no saga is due or under way.
    pub async fn drained(&self) {
        // Each may give the other something to do: at rest is what finds nothing done since.
        loop {
            let before = self.committed();
            if let Some(log) = &self.0.log {
                let drained = tokio::time::timeout(Duration::from_millis(DRAIN_MS), log.drained()).await;
                drained.expect("the consumers come to the end of the log").expect("the log can be asked");
            }
            let drained = tokio::time::timeout(Duration::from_millis(DRAIN_MS), self.0.workflows.drained()).await;
            drained.expect("the sagas come to rest").expect("the sagas can be asked");
            if before == self.committed() {
                return;
            }
        }
    }

    /// The last event of each lane.
    fn committed(&self) -> Vec<i64> {
        let store = self.store();
        let lanes = (0..store.shards()).flat_map(|shard| (0..store.lanes(shard)).map(move |lane| (shard, lane)));
        lanes.map(|(shard, lane)| *store.committed(shard, lane).borrow()).collect()
    }

    /// Moves the clock on by `ms`, stopping wherever a saga is due (a retry, a question, a deadline, a timer, the end of a lease) and
    /// letting everything come to rest there.
    pub async fn advance_ms(&self, ms: i64) {
        let until = self.clock().now().plus_ms(ms);
        loop {
            self.drained().await;
            let now = self.clock().now();
            match self.0.workflows.next_due().await.expect("the sagas can be asked") {
                // Due, and nobody's: of a kind that no module has.
                Some(at) if at <= now => break,
                // A part of a millisecond late is in time.
                Some(at) if at <= until => {
                    self.clock().advance_ms(at.ms_since(now) + i64::from(at.micros() % 1_000 != now.micros() % 1_000))
                }
                _ => break,
            }
        }
        self.clock().advance_ms(until.ms_since(self.clock().now()).max(0));
        self.drained().await;
    }

    /// Includes a tenant that the test has not named with [`TestApp::tenant`] in the audits.
    pub fn audit_tenant(&self, tenant: TenantId) {
        self.0.audited.lock().expect("no test panicked here").push(tenant);
    }

    /// For tests that make a consumer fail on purpose.
    pub fn allow_dead_letters(&self) {
        self.0.dead_letters_allowed.store(true, Relaxed);
    }

    /// For tests that park a saga on purpose.
    pub fn allow_parked(&self) {
        self.0.parked_allowed.store(true, Relaxed);
    }

    /// Fails the test when an event is unread, a dead letter is there, a saga is parked or due and can't be run, or an audit finds
    /// something wrong.
    pub async fn finish(&self) {
        self.drained().await;
        let store = self.store();
        if let Some(log) = self.0.log.as_ref().filter(|_| !self.0.dead_letters_allowed.load(Relaxed)) {
            for shard in 0..store.shards() {
                let dead =
                    log.failures(FailuresOf::Shard(shard), Some(FailureState::Dead), None, 10).await.expect("failures can be listed");
                assert!(dead.is_empty(), "dead letters at the end of the test: {dead:?}");
            }
        }
        let now = self.clock().now();
        let due = self.0.workflows.next_due().await.expect("the sagas can be asked");
        assert!(due.is_none_or(|at| at > now), "a saga has been due since {due:?}, and no module knows its kind");
        for shard in (0..store.shards()).filter(|_| !self.0.parked_allowed.load(Relaxed)) {
            let parked = store.read_shard(shard, workflow::parked).await.expect("parked sagas can be listed");
            assert!(parked.is_none(), "sagas at the end of the test: {}", parked.unwrap_or_default());
        }
        let mut tenants = self.0.fake.tenants();
        tenants.extend(self.0.audited.lock().expect("no test panicked here").iter().copied());
        tenants.sort_unstable();
        tenants.dedup();
        for audit in self.0.audits.iter().filter(|audit| audit.name != "workflow.parked") {
            match audit.check {
                AuditCheck::Tenant(check) => {
                    for tenant in &tenants {
                        judge(audit.name, store.read(*tenant, check).await);
                    }
                }
                AuditCheck::Platform(check) => {
                    for shard in 0..store.shards() {
                        judge(audit.name, store.read_shard(shard, check).await);
                    }
                }
            }
        }
        self.0.workflows.stop().await;
        if let Some(log) = &self.0.log {
            log.stop().await;
        }
        store.close().await;
    }
}

fn judge(name: &str, outcome: Result<web::AuditOutcome>) {
    let outcome = outcome.unwrap_or_else(|error| panic!("audit {name} could not run: {error:?}"));
    assert!(outcome.ok, "audit {name}: {}", outcome.detail);
}

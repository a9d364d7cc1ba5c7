//! The built binary in a folder of its own: commands that end, and servers on a free port that end with the test.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

pub mod wire;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The real data, seen from this package. Not part of the project; tests that need it skip loudly without it.
pub const REAL_FILE: &str = "../../shared/data/online-retail.csv.gz";
/// Where PostgreSQL is, for tests that run on it too.
pub const POSTGRES: &str = "BRANDOS_TEST_POSTGRES";
/// Another binary than the one that was built with the tests: a release, to measure.
pub const BINARY: &str = "BRANDOS_TEST_BINARY";

/// A folder that is removed with it, in which the commands of one test run.
pub struct Sandbox {
    folder: tempfile::TempDir,
    /// Given to every command: `--data ...` or `--database ...`.
    engine: Vec<String>,
    /// The server's URL and the names of this test's databases.
    databases: Option<(String, Vec<String>)>,
}

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The last line of stdout as JSON.
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("the last line is no JSON ({error}): {self:?}"))
    }

    /// Asserts that it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Sandbox {
    /// On the embedded engine.
    pub fn new() -> Sandbox {
        Sandbox::with_shards(1)
    }

    /// On the embedded engine with so many files.
    pub fn with_shards(shards: u16) -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let engine = vec!["--data".to_owned(), data, "--set".to_owned(), format!("store.shards={shards}")];
        Sandbox { folder, engine, databases: None }
    }

    /// On a fresh PostgreSQL database; none, said loudly, when there is no server. In CI that is a failure.
    pub fn on_postgres() -> Option<Sandbox> {
        Sandbox::on_postgres_with_shards(1)
    }

    /// On so many fresh PostgreSQL databases.
    pub fn on_postgres_with_shards(shards: u16) -> Option<Sandbox> {
        let Some(server) = std::env::var(POSTGRES).ok().filter(|url| !url.is_empty()) else {
            assert!(std::env::var("CI").is_err(), "{POSTGRES} is not set: in CI a test without PostgreSQL is a failure");
            eprintln!("SKIPPED on PostgreSQL: {POSTGRES} is not set (cargo xtask engines up prints it)");
            return None;
        };
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (base, _) = server.rsplit_once('/').expect("the URL names a database");
        let folder = tempfile::tempdir().unwrap();
        let mut engine = vec!["--data".to_owned(), folder.path().join("data").display().to_string()];
        let mut names = Vec::new();
        for shard in 0..shards {
            let name = format!("brandos_app_{}_{number}_{shard}", std::process::id());
            sql(&server, &[format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")]);
            engine.extend(["--database".to_owned(), format!("{base}/{name}")]);
            names.push(name);
        }
        Some(Sandbox { folder, engine, databases: Some((server, names)) })
    }

    /// Asserts that a condition in SQL holds in the first of the PostgreSQL databases; nothing on the embedded engine.
    pub fn assert_in_database(&self, condition: &str) {
        if let Some((server, names)) = &self.databases {
            let (base, _) = server.rsplit_once('/').expect("the URL names a database");
            let check = format!("DO $$ BEGIN IF NOT ({condition}) THEN RAISE EXCEPTION 'it does not hold'; END IF; END $$");
            sql(&format!("{base}/{}", names[0]), &[check]);
        }
    }

    /// What a query for a number answers in the first of the embedded databases; none on PostgreSQL.
    pub fn ask_embedded(&self, query: &str) -> Option<i64> {
        if self.databases.is_some() {
            return None;
        }
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = rusqlite::Connection::open_with_flags(self.path("data/shard-0.db"), flags).unwrap();
        Some(file.query_row(query, [], |row| row.get(0)).unwrap())
    }

    /// The same with options added to the URLs of its databases, such as `?sslmode=require`.
    pub fn with_url_options(mut self, options: &str) -> Sandbox {
        self.engine.iter_mut().filter(|arg| arg.starts_with("postgres")).for_each(|url| url.push_str(options));
        self
    }

    /// The same, reaching its PostgreSQL through a proxy. What is done directly with [`sql`] goes past it.
    pub fn through(mut self, proxy: &Proxy) -> Sandbox {
        for url in self.engine.iter_mut().filter(|arg| arg.starts_with("postgres")) {
            *url = url.replace(&proxy.upstream, &proxy.address);
        }
        self
    }

    /// The URL of its first PostgreSQL database on another server.
    pub fn database_at(&self, server: &str) -> String {
        let (base, _) = server.rsplit_once('/').expect("the URL names a database");
        let (_, names) = self.databases.as_ref().expect("a sandbox on PostgreSQL");
        format!("{base}/{}", names[0])
    }

    /// The arguments that name this sandbox's data.
    pub fn engine_args(&self) -> &[String] {
        &self.engine
    }

    /// The embedded sandbox, and one on PostgreSQL if there is a server.
    pub fn each_engine() -> Vec<Sandbox> {
        std::iter::once(Sandbox::new()).chain(Sandbox::on_postgres()).collect()
    }

    /// What to tell apart two sandboxes by in a message.
    pub fn engine(&self) -> &'static str {
        if self.databases.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    /// The sandbox's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The binary with nothing of the caller's environment that could configure it.
    fn bare(&self) -> Command {
        let mut command = Command::new(std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_brandos").into()));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BRANDOS_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// The command, ready to be started, on this sandbox's engine.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare();
        command.args(args).args(&self.engine);
        command
    }

    /// Runs a command to its end, on this sandbox's engine.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command that names its own data, or needs none.
    pub fn run_bare(&self, args: &[&str]) -> Ended {
        self.bare().args(args).output().unwrap().into()
    }

    /// The same with variables of the environment.
    pub fn run_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Ended {
        self.command(args).envs(environment.iter().copied()).output().unwrap().into()
    }

    /// Starts `serve`, `demo` or the like on a free port, and waits until it says that it serves.
    pub fn serve(&self, args: &[&str]) -> Server {
        self.serve_with(args, &[])
    }

    /// The same with variables of the environment.
    pub fn serve_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Server {
        self.start(args, environment, "127.0.0.1:0")
    }

    /// The same at an address of [`address`], where it can be started again after it was killed.
    pub fn serve_at(&self, address: &str, args: &[&str]) -> Server {
        self.start(args, &[], address)
    }

    fn start(&self, args: &[&str], environment: &[(&str, &str)], address: &str) -> Server {
        let mut command = self.command(args);
        command.envs(environment.iter().copied());
        // A file: nobody empties a pipe while a test goes on, and a server would wait for that.
        let said = self.path("stderr");
        let stderr = std::fs::File::options().create(true).append(true).open(&said).unwrap();
        command.args(["--listen", address, "--json"]).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let mut server = Server { child, serving: Value::Null, stdout };
        match serde_json::from_str::<Value>(&line) {
            Ok(serving) if serving["url"].is_string() => server.serving = serving,
            _ => {
                let _ = server.child.kill();
                panic!("the server did not start: {line}\n{}", std::fs::read_to_string(said).unwrap());
            }
        }
        server
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some((server, names)) = &self.databases {
            for name in names {
                // FORCE may not end an autovacuum worker, which belongs to the server; a moment later it has ended by itself.
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let dropped = (0..20).any(|_| {
                    let done = psql(server, &drop).status.success();
                    if !done {
                        std::thread::sleep(Duration::from_millis(250));
                    }
                    done
                });
                if !dropped {
                    eprintln!("the database {name} could not be dropped");
                }
            }
        }
    }
}

/// A free address below the ports that the system gives to connections: none of them takes it while its server is being started again.
pub fn address() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id() % 1_000 * 20;
    let mut ports = std::iter::repeat_with(|| 10_000 + (first + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) % 20_000);
    let free = |port: &u32| std::net::TcpListener::bind(("127.0.0.1", *port as u16)).is_ok();
    format!("127.0.0.1:{}", ports.find(free).unwrap())
}

/// Runs statements on a PostgreSQL server by its own client.
pub fn sql(server: &str, statements: &[String]) {
    for statement in statements {
        let ended = psql(server, statement);
        assert!(ended.status.success(), "{statement}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

fn psql(server: &str, statement: &str) -> Output {
    let ended = Command::new("psql").args([server, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", statement]).output();
    ended.unwrap_or_else(|error| panic!("psql can't be started: {error}"))
}

/// A running server, ended with the test.
pub struct Server {
    child: Child,
    /// What it said when it was ready.
    pub serving: Value,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Tells it to stop, and gives the code with which it ended.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let ended = wait(&mut self.child, Duration::from_secs(30));
        assert!(ended.is_some(), "the server did not stop within 30 s");
        ended.flatten()
    }

    /// Gets a path without a credential.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, None, "")
    }

    /// Sends a request over a connection of its own, with an API key if one is given.
    pub fn request(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
        self.request_with(method, path, key, "", body)
    }

    /// The same with further headers, each ended by a line break.
    pub fn request_with(&self, method: &str, path: &str, key: Option<&str>, headers: &str, body: &str) -> (u16, String) {
        let answer = self.try_request(method, path, key, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        answer.unwrap_or_else(|| panic!("{method} {path}: the server was gone before it had answered"))
    }

    /// The same, of a server that may be killed meanwhile: none when the whole answer did not come.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        headers: &str,
        body: &str,
    ) -> std::io::Result<Option<(u16, String)>> {
        let answer = self.exchange(method, path, key, headers, body)?;
        Ok(answer.map(|(status, _, body)| (status, body)))
    }

    /// The same with the head of the answer.
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        headers: &str,
        body: &str,
    ) -> std::io::Result<Option<(u16, String, String)>> {
        let url = self.serving["url"].as_str().unwrap();
        let authority = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(authority)?;
        // Longer than a server lets any request take.
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let credential = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{credential}{headers}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
        let length = head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if length.is_some_and(|(_, length)| length.parse() != Ok(body.len())) {
            return Ok(None);
        }
        Ok(head.split(' ').nth(1).and_then(|status| status.parse().ok()).map(|status| (status, head.to_owned(), body.to_owned())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child's end; none when it takes too long.
pub fn wait(child: &mut Child, at_most: Duration) -> Option<Option<i32>> {
    let began = Instant::now();
    while began.elapsed() < at_most {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The real file, or none, said loudly.
pub fn real_file() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(REAL_FILE);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The header of the invoice files.
pub const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

/// A file of `invoices` invoices, made by a rule, with what its import has to come to.
pub fn generated(invoices: u64) -> (String, Value) {
    let mut text = String::from(HEADER);
    let (mut lines, mut credit_notes, mut adjustments) = (0, 0, 0);
    let (mut micros, mut pence) = (0_i64, 0_i64);
    for invoice in 0..invoices {
        let (prefix, sign) = match invoice % 10 {
            3 => ("C", -1),
            7 if invoice % 100 == 7 => ("A", 1),
            _ => ("", 1),
        };
        credit_notes += u64::from(prefix == "C");
        adjustments += u64::from(prefix == "A");
        let (day, customer) = (invoice % 28 + 1, invoice % 500);
        let customer_field = if customer == 0 { String::new() } else { format!("{customer}.0") };
        let country = ["United Kingdom", "France", "EIRE"][(customer % 3) as usize];
        for line in 0..invoice % 7 + 1 {
            let quantity = sign * (line as i64 + 1);
            // Thousandths, so that rounding shows.
            let price_milli = (invoice * 37 + line * 11) as i64 % 5_000 + 1;
            lines += 1;
            micros += quantity * price_milli * 1_000;
            let tenths_of_a_penny = quantity * price_milli;
            pence += (tenths_of_a_penny.abs() + 5) / 10 * tenths_of_a_penny.signum();
            let code = (invoice + line) % 900;
            let (whole, fraction) = (price_milli / 1000, price_milli % 1000);
            text.push_str(&format!("{prefix}{invoice},{code},Thing {code},{quantity},2011-03-{day:02} 10:00:00,{whole}.{fraction:03},{customer_field},{country}\n"));
        }
    }
    let expected = serde_json::json!({
        "lines": lines,
        "invoices": invoices,
        "orders": invoices - credit_notes - adjustments,
        "credit_notes": credit_notes,
        "adjustments": adjustments,
        "extended_total": decimal(micros, 6),
        "rounded_total": decimal(pence, 2),
    });
    (text, expected)
}

/// A scaled integer as text, with at least two decimals and no zeros that say nothing after them.
fn decimal(scaled: i64, decimals: u32) -> String {
    let scale = 10_u64.pow(decimals);
    let (sign, value) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs());
    let fraction = format!("{:0width$}", value % scale, width = decimals as usize);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{sign}{}.{}", value / scale, &fraction[..kept])
}

/// Asserts that each field of `expected` is in `found` with that value.
#[track_caller]
pub fn assert_holds(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(found.get(name), Some(value), "{name} of {found}");
    }
}

/// What a proxy does with what comes.
#[derive(Clone, PartialEq)]
enum Way {
    /// Everything goes through.
    Open,
    /// Nothing does, and connections end.
    Cut,
    /// Nothing does, and connections stay.
    Hung,
    /// Everything goes through until a client's connection that has sent the first sends the second; then, and with it, nothing does, and
    /// connections stay.
    HangAt(Vec<u8>, Vec<u8>),
    /// Everything goes through until a client's connection that has sent this commits: the commit arrives, its answer does not, and then
    /// nothing goes through any more.
    CutAfterCommitOf(Vec<u8>),
}

/// Stands between a program and its server, which it can cut off from each other.
pub struct Proxy {
    /// Where the server is: host and port.
    pub upstream: String,
    /// Where the program finds it.
    pub address: String,
    way: Arc<Mutex<Way>>,
}

impl Proxy {
    /// Before the server of a URL.
    pub fn before(url: &str) -> Proxy {
        let (_, rest) = url.split_once("://").unwrap();
        let authority = rest.split(['/', '?']).next().unwrap();
        let upstream = authority.rsplit('@').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, way) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Way::Open)));
        let (server, now) = (upstream.clone(), way.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *now.lock().unwrap() == Way::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let both = [(client.try_clone().unwrap(), server.try_clone().unwrap(), true), (server, client, false)];
                for (from, to, asks) in both {
                    let now = now.clone();
                    std::thread::spawn(move || carry(from, to, asks, &now));
                }
            }
        });
        Proxy { upstream, address, way }
    }

    /// The URL by which the program finds it.
    pub fn url(&self, direct: &str) -> String {
        direct.replace(&self.upstream, &self.address)
    }

    fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    /// Nothing goes through from now on.
    pub fn cut(&self) {
        self.set(Way::Cut);
    }

    /// The same, and nobody is told: connections stay open.
    pub fn hang(&self) {
        self.set(Way::Hung);
    }

    /// Hangs when a connection that has sent `text` sends `last`, or at `text` itself if that is empty.
    pub fn hang_at(&self, text: &str, last: &str) {
        self.set(Way::HangAt(text.as_bytes().to_vec(), last.as_bytes().to_vec()));
    }

    /// Whether nothing goes through while connections stay.
    pub fn is_hung(&self) -> bool {
        *self.way.lock().unwrap() == Way::Hung
    }

    /// Everything does again.
    pub fn heal(&self) {
        self.set(Way::Open);
    }

    /// Cuts when a connection that has sent `text` has committed, before the answer is through.
    pub fn cut_after_commit_of(&self, text: &str) {
        self.set(Way::CutAfterCommitOf(text.as_bytes().to_vec()));
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        *self.way.lock().unwrap() == Way::Cut
    }
}

/// Carries one direction of a connection, until it ends or is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, asks: bool, way: &Mutex<Way>) {
    from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let (mut buffer, mut said) = (vec![0; 65_536], Vec::new());
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => 0,
            Err(_) => break,
        };
        let now = {
            let mut now = way.lock().unwrap();
            if let (Way::HangAt(text, last), true) = (&*now, asks) {
                said.extend_from_slice(&buffer[..read]);
                let seen = said.windows(text.len()).position(|part| part == text);
                if seen.is_some_and(|at| last.is_empty() || said[at..].windows(last.len()).any(|part| part == last)) {
                    *now = Way::Hung;
                }
            }
            now.clone()
        };
        // What has been read goes through when it does again.
        while *way.lock().unwrap() == Way::Hung {
            std::thread::sleep(Duration::from_millis(10));
        }
        if now == Way::Cut {
            break;
        }
        if let (Way::CutAfterCommitOf(text), true) = (&now, asks) {
            said.extend_from_slice(&buffer[..read]);
            let seen = said.windows(text.len()).position(|part| part == text);
            if seen.is_some_and(|at| said[at..].windows(6).any(|word| word == b"COMMIT")) {
                // From here on nothing comes back; what was sent arrives and is done.
                *way.lock().unwrap() = Way::Cut;
                let _ = to.write_all(&buffer[..read]);
                std::thread::sleep(Duration::from_millis(200));
                break;
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

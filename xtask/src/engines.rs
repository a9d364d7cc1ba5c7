//! `engines up|down`: a private PostgreSQL with a replica, a PgBouncer and a Redis on loopback, for tests. Ends exactly what it started.

use crate::{Outcome, say};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The oldest PostgreSQL that the store runs on.
const OLDEST_POSTGRES: u32 = 15;

/// What the tests of the house count on: plenty of connections, real durability, deadlocks found at once.
const POSTGRES_SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 300
fsync = on
synchronous_commit = on
full_page_writes = on
deadlock_timeout = '10ms'
shared_buffers = '128MB'
max_wal_size = '2GB'
max_locks_per_transaction = 256
log_min_messages = warning
log_lock_waits = off
timezone = 'UTC'
";

/// The folder that remembers what runs: `DIR/env`, made to be sourced.
pub(crate) struct State {
    folder: PathBuf,
}

impl State {
    /// Remembers in `folder`, which is made when it is missing.
    pub(crate) fn new(folder: PathBuf) -> State {
        State { folder }
    }

    fn env_file(&self) -> PathBuf {
        self.folder.join("env")
    }
}

/// What `up` starts and `down` ends: the folder with all their data, and the process ids.
#[derive(Debug, Default, PartialEq, Eq)]
struct Running {
    folder: PathBuf,
    postgres_pid: u32,
    pgbouncer_pid: u32,
    replica_pid: u32,
    redis_pid: u32,
    postgres_url: String,
    pgbouncer_url: String,
    replica_url: String,
    redis_url: String,
    /// The certificate of whoever vouches for the servers' own.
    ca: String,
}

impl Running {
    fn to_env(&self) -> String {
        format!(
            "export BRANDOS_TEST_POSTGRES={}\nexport BRANDOS_TEST_POSTGRES_REPLICA={}\nexport BRANDOS_TEST_POSTGRES_CA={}\nexport BRANDOS_TEST_PGBOUNCER={}\nexport BRANDOS_TEST_REDIS={}\nexport BRANDOS_ENGINES_FOLDER={}\nexport BRANDOS_ENGINES_POSTGRES_PID={}\nexport BRANDOS_ENGINES_REPLICA_PID={}\nexport BRANDOS_ENGINES_PGBOUNCER_PID={}\nexport BRANDOS_ENGINES_REDIS_PID={}\n",
            self.postgres_url,
            self.replica_url,
            self.ca,
            self.pgbouncer_url,
            self.redis_url,
            self.folder.display(),
            self.postgres_pid,
            self.replica_pid,
            self.pgbouncer_pid,
            self.redis_pid
        )
    }

    fn from_env(text: &str) -> Option<Running> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
        Some(Running {
            folder: value("BRANDOS_ENGINES_FOLDER")?.into(),
            postgres_pid: value("BRANDOS_ENGINES_POSTGRES_PID")?.parse().ok()?,
            pgbouncer_pid: value("BRANDOS_ENGINES_PGBOUNCER_PID")?.parse().ok()?,
            // Engines that were started by an earlier version have no replica, no TLS and no Redis; `up` adds them.
            replica_pid: value("BRANDOS_ENGINES_REPLICA_PID").map_or(Some(0), |pid| pid.parse().ok())?,
            postgres_url: value("BRANDOS_TEST_POSTGRES")?.to_owned(),
            pgbouncer_url: value("BRANDOS_TEST_PGBOUNCER")?.to_owned(),
            replica_url: value("BRANDOS_TEST_POSTGRES_REPLICA").unwrap_or_default().to_owned(),
            ca: value("BRANDOS_TEST_POSTGRES_CA").unwrap_or_default().to_owned(),
            redis_pid: value("BRANDOS_ENGINES_REDIS_PID").map_or(Some(0), |pid| pid.parse().ok())?,
            redis_url: value("BRANDOS_TEST_REDIS").unwrap_or_default().to_owned(),
        })
    }

    /// Process ids are used again, so a process is ours only if its command line names our folder.
    fn owns(&self, pid: u32) -> bool {
        let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        String::from_utf8_lossy(&command_line).contains(&*self.folder.to_string_lossy())
    }

    /// Whether what [`complete`] adds to is there.
    fn can_be_completed(&self) -> bool {
        self.owns(self.postgres_pid) && self.owns(self.pgbouncer_pid)
    }

    fn is_whole(&self) -> bool {
        self.can_be_completed() && self.owns(self.replica_pid) && self.owns(self.redis_pid) && !self.ca.is_empty()
    }
}

/// Starts the engines, or finds them running, and prints their environment.
pub(crate) fn up(state: &State) -> Outcome {
    let found = fs::read_to_string(state.env_file()).ok().as_deref().and_then(Running::from_env);
    if let Some(running) = found.as_ref().filter(|running| running.is_whole()) {
        say(running.to_env().trim_end());
        return Ok(());
    }
    let running = match found {
        Some(mut running) if running.can_be_completed() => {
            complete(&mut running)?;
            running
        }
        found => {
            if let Some(running) = found {
                end(&running);
            }
            install_missing()?;
            start()?
        }
    };
    let written = fs::create_dir_all(&state.folder).and_then(|()| fs::write(state.env_file(), running.to_env()));
    if let Err(error) = written {
        end(&running);
        return Err(format!("{}: {error}", state.env_file().display()));
    }
    say(running.to_env().trim_end());
    Ok(())
}

/// Ends what `up` started and removes its data. Nothing to end is no error.
pub(crate) fn down(state: &State) -> Outcome {
    let Ok(text) = fs::read_to_string(state.env_file()) else { return Ok(()) };
    let running = Running::from_env(&text)
        .ok_or_else(|| format!("{} was not written by this version: end its processes by hand", state.env_file().display()))?;
    end(&running);
    fs::remove_file(state.env_file()).map_err(|error| format!("{}: {error}", state.env_file().display()))
}

/// Who runs the servers: PostgreSQL and PgBouncer refuse to be root, so root starts them as Debian's `postgres`.
#[derive(Clone, Copy)]
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn find() -> Outcome<Owner> {
        if user_id()? != 0 {
            return Ok(Owner(None));
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let (uid, gid) = users
            .lines()
            .find_map(|line| {
                let mut parts = line.strip_prefix("postgres:")?.split(':').skip(1);
                Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
            })
            .ok_or("the servers don't run as root, and there is no user `postgres` to run them")?;
        Ok(Owner(Some((uid, gid))))
    }

    fn command(self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // The folder that cargo runs in need not be readable for the servers' user.
        command.current_dir(folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn write(self, path: &Path, text: &str) -> Outcome {
        let wrong = |error| format!("{}: {error}", path.display());
        fs::write(path, text).map_err(wrong)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        self.give(path)
    }

    fn give(self, path: &Path) -> Outcome {
        match self.0 {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(|error| format!("{}: {error}", path.display())),
            None => Ok(()),
        }
    }
}

fn start() -> Outcome<Running> {
    let bin = postgres_bin().ok_or("no PostgreSQL 15 or newer was found")?;
    let owner = Owner::find()?;
    let folder = private_folder(owner)?;
    let mut running = Running { folder: folder.clone(), ..Running::default() };
    match start_all(&bin, owner, &folder, &mut running) {
        Ok(()) => Ok(running),
        Err(error) => {
            let logs: String = ["postgres.log", "pgbouncer.log", "replica.log", "redis.log"]
                .iter()
                .filter_map(|log| fs::read_to_string(folder.join(log)).ok())
                .collect();
            end(&running);
            Err(format!("{error}\n{logs}"))
        }
    }
}

fn start_all(bin: &Path, owner: Owner, folder: &Path, running: &mut Running) -> Outcome {
    let password = random_word()?;
    let data = folder.join("data");
    let (port, bouncer_port) = (free_port()?, free_port()?);

    owner.write(&folder.join("password"), &password)?;
    run(owner
        .command(bin.join("initdb"), folder)
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--pwfile=password", "--pgdata"])
        .arg(&data))?;
    let settings = format!("{POSTGRES_SETTINGS}port = {port}\nunix_socket_directories = '{}'\n", folder.display());
    owner.write(&data.join("postgresql.auto.conf"), &settings)?;
    run(owner.command(bin.join("pg_ctl"), folder).args(["start", "--wait", "--silent", "--log=postgres.log", "--pgdata"]).arg(&data))?;
    running.postgres_pid = read_pid(&data.join("postmaster.pid"))?;

    // Not a superuser, so that row-level security binds it. It makes databases and roles of its own.
    let as_postgres = |database, statement: &str| psql(bin, owner, folder, &password, port, database, statement);
    as_postgres("postgres", &format!("CREATE ROLE brandos LOGIN CREATEDB CREATEROLE PASSWORD '{password}'"))?;
    as_postgres("postgres", "CREATE DATABASE brandos OWNER brandos")?;
    running.postgres_url = format!("postgres://brandos:{password}@127.0.0.1:{port}/brandos");

    let config = folder.join("pgbouncer.ini");
    owner.write(&folder.join("users.txt"), &format!("\"brandos\" \"{password}\"\n"))?;
    owner.write(&config, &pgbouncer_config(folder, port, bouncer_port))?;
    run(owner.command(pgbouncer().ok_or("no pgbouncer was found")?, folder).arg("--daemon").arg(&config))?;
    wait_for_port(bouncer_port)?;
    running.pgbouncer_pid = read_pid(&folder.join("pgbouncer.pid"))?;
    running.pgbouncer_url = format!("postgres://brandos:{password}@127.0.0.1:{bouncer_port}/brandos");
    complete(running)
}

/// One statement as the superuser.
fn psql(bin: &Path, owner: Owner, folder: &Path, password: &str, port: u16, database: &str, statement: &str) -> Outcome {
    let arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--host=127.0.0.1", "--username=postgres"];
    let mut command = owner.command(bin.join("psql"), folder);
    command.env("PGPASSWORD", password).args(arguments);
    run(command.arg(format!("--dbname={database}")).arg(format!("--port={port}")).args(["--command", statement]))
}

/// Adds what is missing to running engines: TLS, a Redis, and a streaming replica.
fn complete(running: &mut Running) -> Outcome {
    let bin = postgres_bin().ok_or("no PostgreSQL 15 or newer was found")?;
    let owner = Owner::find()?;
    let folder = running.folder.clone();
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let password = read(&folder.join("password"))?;
    // The fourth line of the file is the port.
    let port = read(&folder.join("data/postmaster.pid"))?
        .lines()
        .nth(3)
        .and_then(|line| line.trim().parse().ok())
        .ok_or("postmaster.pid names no port")?;
    if running.ca.is_empty() {
        certify(owner, &folder)?;
        for (name, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
            let setting = format!("ALTER SYSTEM SET {name} = '{}'", folder.join(file).display());
            psql(&bin, owner, &folder, &password, port, "postgres", &setting)?;
        }
        psql(&bin, owner, &folder, &password, port, "postgres", "ALTER SYSTEM SET ssl = on")?;
        psql(&bin, owner, &folder, &password, port, "postgres", "SELECT pg_reload_conf()")?;
        running.ca = folder.join("ca.crt").display().to_string();
    }
    if !running.owns(running.redis_pid) {
        start_redis(owner, &password, running)?;
    }
    if running.owns(running.replica_pid) { Ok(()) } else { start_replica(&bin, owner, &password, port, running) }
}

fn start_redis(owner: Owner, password: &str, running: &mut Running) -> Outcome {
    let folder = &running.folder;
    let port = free_port()?;
    let config = folder.join("redis.conf");
    owner.write(&config, &redis_config(folder, port, password))?;
    run(owner.command(on_path("redis-server").ok_or("no redis-server was found")?, folder).arg(&config))?;
    wait_for_port(port)?;
    running.redis_pid = read_pid(&folder.join("redis.pid"))?;
    running.redis_url = format!("redis://:{password}@127.0.0.1:{port}/");
    Ok(())
}

/// An authority, and a certificate of it for servers on loopback.
fn certify(owner: Owner, folder: &Path) -> Outcome {
    const EXTENSIONS: &str = "[req]\ndistinguished_name = name\n[name]\n[ca]\nbasicConstraints = critical, CA:TRUE\n\
        [server]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n";
    owner.write(&folder.join("tls.cnf"), EXTENSIONS)?;
    let common =
        ["req", "-config", "tls.cnf", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"];
    let ca = ["-extensions", "ca", "-subj", "/CN=BrandOS tests", "-keyout", "ca.key", "-out", "ca.crt"];
    let server = [
        "-extensions",
        "server",
        "-subj",
        "/CN=localhost",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
    ];
    run(owner.command("openssl", folder).args(common).args(ca))?;
    run(owner.command("openssl", folder).args(common).args(server))
}

/// A streaming replica of the running PostgreSQL, which tests may make lag: they may pause its replay from the database `brandos`.
fn start_replica(bin: &Path, owner: Owner, password: &str, primary_port: u16, running: &mut Running) -> Outcome {
    let folder = &running.folder;
    for function in ["pg_wal_replay_pause()", "pg_wal_replay_resume()"] {
        let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO brandos");
        psql(bin, owner, folder, password, primary_port, "brandos", &grant)?;
    }
    let data = folder.join("replica");
    let _ = fs::remove_dir_all(&data);
    let copy = ["--host=127.0.0.1", "--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"];
    let mut command = owner.command(bin.join("pg_basebackup"), folder);
    run(command.env("PGPASSWORD", password).args(copy).arg(format!("--port={primary_port}")).arg("--pgdata").arg(&data))?;
    let port = free_port()?;
    let mut settings = fs::OpenOptions::new().append(true).open(data.join("postgresql.auto.conf")).map_err(|error| error.to_string())?;
    // Later lines win over those that came with the copy. It is as safe as the copy of a copy has to be.
    writeln!(settings, "port = {port}\nfsync = off").map_err(|error| error.to_string())?;
    run(owner.command(bin.join("pg_ctl"), folder).args(["start", "--wait", "--silent", "--log=replica.log", "--pgdata"]).arg(&data))?;
    running.replica_pid = read_pid(&data.join("postmaster.pid"))?;
    running.replica_url = format!("postgres://brandos:{password}@127.0.0.1:{port}/brandos");
    Ok(())
}

fn pgbouncer_config(folder: &Path, port: u16, bouncer_port: u16) -> String {
    let folder = folder.display();
    format!(
        "[databases]\n* = host=127.0.0.1 port={port}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {bouncer_port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {folder}/users.txt\nadmin_users = brandos\npool_mode = transaction\nserver_tls_sslmode = disable\nmax_client_conn = 1000\n\
         default_pool_size = 40\nignore_startup_parameters = extra_float_digits\nlogfile = {folder}/pgbouncer.log\npidfile = {folder}/pgbouncer.pid\n"
    )
}

/// Keeps nothing on disk. The command line stays what it was, so that the process is known by its folder.
fn redis_config(folder: &Path, port: u16, password: &str) -> String {
    let folder = folder.display();
    format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndaemonize yes\nset-proc-title no\nsave \"\"\nappendonly no\n\
         dir {folder}\nlogfile {folder}/redis.log\npidfile {folder}/redis.pid\n"
    )
}

/// Ends what is ours, waits for it, and removes the folder.
fn end(running: &Running) {
    // PgBouncer first, so that it holds no connection; then a fast shutdown: sessions are cut, nothing that was committed is lost.
    for (pid, signal) in
        [(running.pgbouncer_pid, "-TERM"), (running.redis_pid, "-TERM"), (running.replica_pid, "-INT"), (running.postgres_pid, "-INT")]
    {
        if pid == 0 || !running.owns(pid) {
            continue;
        }
        let _ = Command::new("kill").arg(signal).arg(pid.to_string()).stderr(Stdio::null()).status();
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            !running.owns(pid)
        });
        if !gone && running.owns(pid) {
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
    }
    if running.folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("brandos-engines-")) {
        let _ = fs::remove_dir_all(&running.folder);
    }
}

/// Installs what is missing with Debian's package manager.
fn install_missing() -> Outcome {
    let mut missing = Vec::new();
    if postgres_bin().is_none() {
        missing.push("postgresql");
    }
    if pgbouncer().is_none() {
        missing.push("pgbouncer");
    }
    if on_path("openssl").is_none() {
        missing.push("openssl");
    }
    if on_path("redis-server").is_none() {
        missing.push("redis-server");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "install PostgreSQL {OLDEST_POSTGRES} or newer, PgBouncer, Redis 7 and OpenSSL (Debian: apt-get install {})",
        missing.join(" ")
    );
    let apt = |arguments: &[&str]| {
        let mut command = if matches!(user_id(), Ok(0)) { Command::new("apt-get") } else { Command::new("sudo") };
        if command.get_program() == "sudo" {
            command.args(["--non-interactive", "apt-get"]);
        }
        // At run level 1 the packages don't start their own servers.
        run(command
            .args(["--quiet", "--quiet"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .stdin(Stdio::null()))
    };
    let install: Vec<&str> = ["install", "--yes", "--no-install-recommends"].into_iter().chain(missing.iter().copied()).collect();
    // The package lists may be missing or old: fetch them only then.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install))).map_err(|error| format!("{by_hand}\n{error}"))
}

/// The folder of the newest PostgreSQL's programs.
fn postgres_bin() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        Some((version, path.join("bin")))
    });
    let on_path = on_path("initdb").and_then(|program| {
        let output = Command::new(&program).arg("--version").output().ok()?;
        Some((major_version(&String::from_utf8_lossy(&output.stdout))?, program.parent()?.to_owned()))
    });
    let usable = installed.chain(on_path).filter(|(version, bin)| {
        *version >= OLDEST_POSTGRES
            && ["initdb", "pg_basebackup", "pg_ctl", "postgres", "psql"].iter().all(|program| bin.join(program).exists())
    });
    usable.max_by_key(|(version, _)| *version).map(|(_, bin)| bin)
}

/// The major version out of `initdb (PostgreSQL) 15.3 (Debian ...)`.
fn major_version(text: &str) -> Option<u32> {
    let digits: String = text.split_once(") ")?.1.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn pgbouncer() -> Option<PathBuf> {
    on_path("pgbouncer").or_else(|| Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|path| path.exists()))
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The user's number. Its own folder under /proc belongs to it.
fn user_id() -> Outcome<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").map(|data| data.uid()).map_err(|error| format!("/proc/self: {error} (the engines start on Linux only)"))
}

fn private_folder(owner: Owner) -> Outcome<PathBuf> {
    let name = format!("brandos-engines-{}", random_word()?);
    let folder = std::env::temp_dir().join(name);
    let wrong = |error| format!("{}: {error}", folder.display());
    fs::create_dir(&folder).map_err(wrong)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(wrong)?;
    owner.give(&folder)?;
    Ok(folder)
}

/// 80 random bits in hexadecimal: a password for a server that lives as long as the tests.
fn random_word() -> Outcome<String> {
    let mut bytes = [0; 10];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn free_port() -> Outcome<u16> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

fn wait_for_port(port: u16) -> Outcome {
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nothing listens on port {port} after five seconds"))
}

/// The process id in a file that its server writes; a server may answer before it has written it (Redis does), so this waits a while.
fn read_pid(path: &Path) -> Outcome<u32> {
    for _ in 0..200 {
        let pid = fs::read_to_string(path).ok().and_then(|text| text.lines().next()?.trim().parse().ok());
        if let Some(pid) = pid {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("{} holds no process id", path.display()))
}

/// Runs it to its end; what it said is the error when it failed. Output goes through a file, because a daemon that inherits a pipe
/// keeps it open.
fn run(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let path = std::env::temp_dir().join(format!("brandos-engines-output-{}", random_word()?));
    let wrong = |error: std::io::Error| format!("{name}: {error}");
    let file = fs::File::create(&path).map_err(wrong)?;
    let status = file.try_clone().and_then(|copy| command.stdout(file).stderr(copy).status());
    let said = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(&path);
    let status = status.map_err(wrong)?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status})\n{said}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_back() {
        let running = Running {
            folder: "/tmp/brandos-engines-1".into(),
            postgres_pid: 12,
            pgbouncer_pid: 34,
            replica_pid: 56,
            redis_pid: 78,
            postgres_url: "postgres://brandos:x@127.0.0.1:1/brandos".into(),
            pgbouncer_url: "postgres://brandos:x@127.0.0.1:2/brandos".into(),
            replica_url: "postgres://brandos:x@127.0.0.1:3/brandos".into(),
            redis_url: "redis://:x@127.0.0.1:4/".into(),
            ca: "/tmp/brandos-engines-1/ca.crt".into(),
        };
        assert_eq!(Running::from_env(&running.to_env()).as_ref(), Some(&running));
        let of_an_earlier_version: String = running
            .to_env()
            .lines()
            .filter(|line| !["REPLICA", "_CA=", "REDIS"].iter().any(|new| line.contains(new)))
            .map(|line| format!("{line}\n"))
            .collect();
        let (replica_url, redis_url, ca) = (String::new(), String::new(), String::new());
        let without = Running { replica_pid: 0, redis_pid: 0, replica_url, redis_url, ca, ..running };
        assert_eq!(Running::from_env(&of_an_earlier_version), Some(without));
        assert_eq!(Running::from_env("export BRANDOS_TEST_POSTGRES=x\n"), None);
    }

    #[test]
    fn a_process_of_someone_else_is_left_alone() {
        let running = Running { folder: "/nowhere/brandos-engines-of-nobody".into(), ..Running::default() };
        assert!(!running.owns(std::process::id()));
        assert!(!running.owns(0));
    }

    #[test]
    fn versions_are_read() {
        for (text, version) in
            [("initdb (PostgreSQL) 15.3 (Debian 15.3-0)", Some(15)), ("initdb (PostgreSQL) 17beta1", Some(17)), ("nonsense", None)]
        {
            assert_eq!(major_version(text), version, "{text}");
        }
    }
}

//! TLS, black box: of the server itself, and to PostgreSQL.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Files of an authority and of a certificate for 127.0.0.1 that it vouches for.
struct Certificates {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Makes them with openssl; none, said loudly, when that is not there. In CI that is a failure.
fn certificates(folder: &Path) -> Option<Certificates> {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var("CI").is_err(), "openssl is missing: in CI a test without it is a failure");
        eprintln!("SKIPPED TLS: openssl is missing");
        return None;
    }
    std::fs::create_dir_all(folder).unwrap();
    let extensions = "[req]\ndistinguished_name = name\n[name]\n[ca]\nbasicConstraints = critical, CA:TRUE\n\
        [server]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(folder.join("tls.cnf"), extensions).unwrap();
    let common =
        ["req", "-config", "tls.cnf", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let ca = ["-extensions", "ca", "-subj", "/CN=Tests", "-keyout", "ca.key", "-out", "ca.pem"];
    let server =
        ["-extensions", "server", "-subj", "/CN=here", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem"];
    for last in [&ca[..], &server[..]] {
        let made = Command::new("openssl").args(common).args(last).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    Some(Certificates { ca: folder.join("ca.pem"), cert: folder.join("cert.pem"), key: folder.join("key.pem") })
}

fn connect(server: &Server) -> TcpStream {
    let url = server.serving["url"].as_str().unwrap();
    let stream = TcpStream::connect(url.strip_prefix("https://").expect("it says that it speaks TLS")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// GET by someone who trusts this authority.
fn get(server: &Server, path: &str, trusted: &Path) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(client, connect(server));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn the_server_speaks_tls_and_nothing_else() {
    let sandbox = Sandbox::new();
    let Some(own) = certificates(&sandbox.path("own")) else { return };
    let strange = certificates(&sandbox.path("strange")).unwrap();
    let (cert, key) = (format!("web.tls_cert={}", own.cert.display()), format!("web.tls_key={}", own.key.display()));
    let server = sandbox.serve(&["serve", "--set", &cert, "--set", &key]);

    let answer = get(&server, "/health/ready", &own.ca).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = get(&server, "/api/v1/orders", &own.ca).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("request.unauthenticated"), "{answer}");
    // Its certificate is that of the files: who trusts another authority does not trust it.
    get(&server, "/health/ready", &strange.ca).expect_err("a certificate of an unknown authority");

    // Plain HTTP gets no answer of HTTP, and the server goes on.
    let mut plain = connect(&server);
    plain.write_all(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    assert!(get(&server, "/health/ready", &own.ca).unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn wrong_files_are_refused_at_the_start_by_name() {
    let sandbox = Sandbox::new();
    let Some(own) = certificates(&sandbox.path("own")) else { return };
    let strange = certificates(&sandbox.path("strange")).unwrap();
    let no_pem = sandbox.write("no.pem", "not a certificate");
    let missing = sandbox.path("missing.pem");
    for (cert, key, named) in [
        (&missing, &own.key, &missing),
        (&own.cert, &missing, &missing),
        (&no_pem, &own.key, &no_pem),
        (&own.cert, &no_pem, &no_pem),
        // A key of another certificate.
        (&own.cert, &strange.key, &own.cert),
    ] {
        let (cert, key) = (format!("web.tls_cert={}", cert.display()), format!("web.tls_key={}", key.display()));
        let ended = sandbox.run(&["serve", "--listen", "127.0.0.1:0", "--set", &cert, "--set", &key]).expect(2);
        assert!(ended.stderr.contains(&*named.to_string_lossy()), "{} is not in {}", named.display(), ended.stderr);
    }
}

#[test]
fn the_connection_to_postgresql_is_encrypted_and_its_server_known() {
    const CA: &str = "BRANDOS_TEST_POSTGRES_CA";
    let Some(sandbox) = Sandbox::on_postgres() else { return };
    let Some(ca) = std::env::var(CA).ok().filter(|path| !path.is_empty()) else {
        assert!(std::env::var("CI").is_err(), "{CA} is not set: in CI a test without it is a failure");
        eprintln!("SKIPPED TLS to PostgreSQL: {CA} is not set (cargo xtask engines up prints it)");
        return;
    };
    const ENCRYPTED: &str = "(SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
        WHERE a.datname = current_database() AND a.application_name = 'brandos' AND s.ssl)";
    // In the clear, where nobody asks for more.
    let server = sandbox.serve(&["serve"]);
    sandbox.assert_in_database(&format!("{ENCRYPTED} = 0"));
    assert_eq!(server.stop(), Some(0));

    let sandbox = sandbox.with_url_options("?sslmode=require");
    let trusting = [("SSL_CERT_FILE", ca.as_str())];
    sandbox.run_with(&["tenant", "create", "acme"], &trusting).expect(0);
    let server = sandbox.serve_with(&["serve"], &trusting);
    sandbox.assert_in_database(&format!("{ENCRYPTED} >= 5"));
    assert!(server.get("/health/ready").1.contains("ok"));
    assert_eq!(server.stop(), Some(0));

    // A server that nobody vouches for is not spoken to.
    for nobody in [certificates(&sandbox.path("strange")).map(|strange| strange.ca), None] {
        let path = nobody.map(|path| path.display().to_string());
        let environment: Vec<(&str, &str)> = path.iter().map(|path| ("SSL_CERT_FILE", path.as_str())).collect();
        let refused = sandbox.run_with(&["tenant", "list"], &environment).expect(3);
        assert!(refused.stderr.contains("store.unavailable"), "{}", refused.stderr);
    }
}

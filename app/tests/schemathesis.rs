//! A property-based run against the OpenAPI document, by schemathesis: no 5xx, and no answer that the document does not describe.
//!
//! Schemathesis is installed from PyPI, pinned, into `target/schemathesis` when it is missing there. Without Python or its packages the test
//! is skipped, and says so; in CI that is a failure. `BRANDOS_SCHEMATHESIS_EXAMPLES` sets how many examples each operation gets.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSION: &str = "4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// An answer without end: schemathesis would wait for it. The walk of the inputs and the tests of `web` read it.
const STREAM: &str = "/api/v1/events";

/// The program, installed if need be; none, said loudly, where it can't be.
fn schemathesis() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis");
    let program = folder.join("bin/schemathesis");
    let run = |command: &mut Command| -> Result<Output, String> {
        let output = command.output().map_err(|error| error.to_string())?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(output) } else { Err(text) }
    };
    let installed = |version: &Output| String::from_utf8_lossy(&version.stdout).contains(VERSION);
    if run(Command::new(&program).arg("--version")).is_ok_and(|version| installed(&version)) {
        return Some(program);
    }
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).and_then(|_| {
        let packages = format!("schemathesis=={VERSION}");
        run(Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &packages]))
    });
    match made {
        Ok(_) => Some(program),
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "schemathesis {VERSION} can't be installed: {why}");
            eprintln!("SKIPPED: schemathesis {VERSION} can't be installed: {why}");
            None
        }
    }
}

/// What it finds wrong, as it says it; nothing when all is well.
fn findings(program: &Path, sandbox: &Sandbox, url: &str, credential: &str, include: &str, config: &str) -> Option<String> {
    let config = sandbox.write("schemathesis.toml", config);
    let examples = std::env::var("BRANDOS_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "12".to_owned());
    let mut command = Command::new(program);
    command
        .current_dir(sandbox.path(""))
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{url}/openapi.json"), "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", &examples, "--seed", "7", "--generation-database", "none", "--request-timeout", "20", "--no-color"])
        .args(["--warnings", "off", "--exclude-path", STREAM, "--include-path-regex", include])
        .args(["--header", &format!("Authorization: Bearer {credential}")]);
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tested = text.lines().any(|line| line.contains("generated,"));
    (!output.status.success() || !tested).then_some(text)
}

#[test]
fn answers_are_as_the_document_says() {
    let Some(program) = schemathesis() else { return };
    let sandbox = Sandbox::new();
    sandbox.run(&["tenant", "create", "schema"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "schema", "--json"]).expect(0).json();
    let admin = sandbox.run(&["user", "create", "admin@schema.example", "--platform-admin", "--json"]).expect(0).json();
    let member = sandbox.run(&["user", "create", "bob@schema.example", "--tenant", "schema", "--role", "staff", "--json"]).expect(0).json();
    let server = sandbox.serve(&["serve"]);
    let url = server.serving["url"].as_str().unwrap().to_owned();
    let sign_in = json!({ "email": "admin@schema.example", "password": admin["password"], "platform": true }).to_string();
    let (status, tokens) = server.request("POST", "/api/v1/auth/sign-in", None, &sign_in);
    assert_eq!(status, 200, "{tokens}");
    let tokens: Value = serde_json::from_str(&tokens).unwrap();
    let key = key["key"].as_str().unwrap();
    // Each operation once: those on one thing are asked for things that are there, since made-up ids get no further than 404.
    let tenants = r"^(?!/api/v1/platform/)(?!/api/v1/.*\{)";
    let things = things(&server, key, &member);
    let runs = [
        ("the tenant's and the public routes", key, tenants, ""),
        ("the tenant's routes for one thing", key, r"^/api/v1/(?!platform/).*\{", &things),
        ("the platform's routes", tokens["access_token"].as_str().unwrap(), "^/api/v1/platform/", ""),
    ];
    for (what, credential, include, config) in runs {
        if let Some(found) = findings(&program, &sandbox, &url, credential, include, config) {
            panic!("{what}:\n{found}");
        }
    }
    // Refusals alone would say little: most operations have to have done what they do.
    let (_, metrics) = server.get("/metrics");
    let answered = |status: &str| metrics.lines().filter(|line| line.starts_with("http_requests_total") && line.contains(status)).count();
    let (tried, done) = (answered("status=\"4xx\""), answered("status=\"2xx\""));
    assert!(tried > 60 && done * 4 > tried * 3, "only {done} of {tried} operations were done at least once:\n{metrics}");
    assert_eq!(server.stop(), Some(0));
    assert_eq!(sandbox.run(&["audit", "--json"]).expect(0).json()["ok"], true);
}

/// Makes one of each thing that a path can name; gives the configuration with which schemathesis asks for them.
fn things(server: &Server, key: &str, member: &Value) -> String {
    let make = |path: &str, body: Value| -> Value {
        let (status, made) = server.request("POST", path, Some(key), &body.to_string());
        assert_eq!(status, 201, "{made}");
        serde_json::from_str(&made).unwrap()
    };
    let address = json!({ "recipient": "Ann", "line1": "Street 1", "city": "Delft", "country": "NL" });
    let customer = make("/api/v1/customers", json!({ "name": "Ann", "addresses": [address] }));
    let product = make(
        "/api/v1/products",
        json!({ "title": "Tea", "variants": [{ "sku": "TEA-1", "prices": [{ "currency": "EUR", "price": "4.955" }] }] }),
    );
    let line = |quantity: i64| json!([{ "sku": "TEA-1", "quantity": quantity, "unit_price": "4.955" }]);
    let order = make("/api/v1/orders", json!({ "draft": true, "currency": "EUR", "country": "NL", "lines": line(1_000_000) }));
    let note = |path: &str| make(path, json!({ "currency": "EUR", "country": "NL", "reason": "Broken", "lines": line(-1) }));
    let (credit_note, adjustment) = (note("/api/v1/credit-notes"), note("/api/v1/adjustments"));
    let payment = make("/api/v1/payments/intents", json!({ "amount_minor": 100, "currency": "EUR" }));
    let named = [
        ("intent_id", &payment["intent_id"]),
        ("customer_id", &customer["customer_id"]),
        ("address_id", &customer["addresses"][0]["address_id"]),
        ("product_id", &product["product_id"]),
        ("variant_id", &product["variants"][0]["variant_id"]),
        ("order_id", &order["order_id"]),
        ("credit_note_id", &credit_note["id"]),
        ("adjustment_id", &adjustment["id"]),
        ("user", &member["id"]),
        ("currency", &json!("EUR")),
        ("name", &json!("packers")),
        ("version", &json!(1)),
    ];
    let lines: String = named.iter().map(|(name, value)| format!("\"path.{name}\" = {value}\n")).collect();
    format!("[parameters]\n{lines}")
}

//! The command line, black box: help, exit codes, configuration, administration, serving, the demo.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Sandbox;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let sandbox = Sandbox::new();
    let help = sandbox.run_bare(&["--help"]).expect(0).stdout;
    let commands = [
        "serve",
        "demo",
        "tenant",
        "user",
        "api-key",
        "import",
        "catalog",
        "migrate",
        "audit",
        "replay",
        "dead-letters",
        "workflow",
        "backup",
        "restore",
        "doctor",
        "openapi",
        "config",
    ];
    for command in commands {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{help}");
        let own = sandbox.run_bare(&[command, "--help"]).expect(0).stdout;
        assert!(own.contains("Usage: brandos"), "{own}");
    }
    assert!(help.contains("Exit codes:") && help.contains("--json"), "{help}");
    assert!(sandbox.run_bare(&["--version"]).expect(0).stdout.starts_with("brandos "));
    assert!(sandbox.run_bare(&["serv"]).expect(2).stderr.contains("serve"));
}

#[test]
fn a_wrong_option_is_refused_with_its_name_and_place() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("brandos.toml", "[store]\nreaders = 4\nreeders = 8\n");
    let ended = sandbox.run_bare(&["serve", "--config", file.to_str().unwrap()]).expect(2);
    assert!(ended.stderr.contains("brandos.toml:3: unknown option `store.reeders`; did you mean `store.readers`?"), "{}", ended.stderr);
    let ended = sandbox.run_with(&["config"], &[("BRANDOS_WEB_CONCURRENCY", "none")]).expect(2);
    assert!(ended.stderr.contains("environment BRANDOS_WEB_CONCURRENCY: `web.concurrency` must be a whole number"), "{}", ended.stderr);
    let ended = sandbox.run(&["config", "--set", "log.format=xml", "--json"]).expect(2);
    assert_eq!(ended.json()["error"]["code"], json!("cli.config"));
}

#[test]
fn the_effective_configuration_is_shown_without_secrets() {
    let sandbox = Sandbox::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let shown = sandbox.run_with(&["config", "--json"], &[("BRANDOS_SECRET", secret), ("BRANDOS_STORE_READERS", "7")]).expect(0);
    assert!(!shown.stdout.contains(secret));
    let shown = shown.json();
    assert_eq!(shown["store.readers"], json!({ "value": "7", "source": "environment BRANDOS_STORE_READERS" }));
    let example = sandbox.run_bare(&["config", "--example"]).expect(0).stdout;
    let file = sandbox.write("example.toml", example);
    sandbox.run_bare(&["config", "--config", file.to_str().unwrap()]).expect(0);
}

#[test]
fn tenants_users_and_keys_are_administered() {
    for sandbox in Sandbox::each_engine() {
        sandbox.run(&["tenant", "create", "acme", "--name", "Acme & Sons"]).expect(0);
        let again = sandbox.run(&["tenant", "create", "acme", "--json"]).expect(4);
        assert_eq!(again.json()["error"]["code"], json!("identity.slug_taken"));
        sandbox.run(&["tenant", "create", "No Slug"]).expect(2);
        let shown = sandbox.run(&["tenant", "show", "acme", "--json"]).expect(0).json();
        assert_eq!((&shown["tenant"]["name"], &shown["shard"]), (&json!("Acme & Sons"), &json!(0)));
        sandbox.run(&["tenant", "show", "nobody"]).expect(4);

        let user = sandbox.run(&["user", "create", "ann@acme.example", "--tenant", "acme", "--json"]).expect(0).json();
        assert!(user["password"].as_str().is_some_and(|p| p.len() >= 20), "{user}");
        let again = sandbox.run(&["user", "create", "ann@acme.example", "--tenant", "acme", "--json"]).expect(0).json();
        assert_eq!((&again["made"], &again["password"]), (&json!(false), &Value::Null));

        let key = sandbox.run(&["api-key", "create", "--tenant", "acme", "--permission", "orders.read", "--json"]).expect(0).json();
        let (id, text) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
        let server = sandbox.serve(&["serve"]);
        assert_eq!(server.request("GET", "/api/v1/orders", Some(text), "").0, 200);
        assert_eq!(server.request("GET", "/api/v1/products", Some(text), "").0, 403);
        // A change by another process holds in the running server at once. The embedded folder has one writer: there the server stops.
        let server = if sandbox.engine() == "PostgreSQL" {
            sandbox.run(&["tenant", "suspend", "acme"]).expect(0);
            server
        } else {
            assert_eq!(server.stop(), Some(0));
            sandbox.run(&["tenant", "suspend", "acme"]).expect(0);
            sandbox.serve(&["serve"])
        };
        let (status, problem) = server.request("GET", "/api/v1/orders", Some(text), "");
        assert_eq!(status, 403, "{problem}");
        assert!(problem.contains("identity.tenant_suspended"), "{problem}");
        assert_eq!(server.stop(), Some(0));
        let shown = sandbox.run(&["tenant", "resume", "acme", "--json"]).expect(0).json();
        assert_eq!(shown["tenant"]["status"], json!("active"));
        sandbox.run(&["tenant", "suspend", "nobody"]).expect(4);

        let members = sandbox.run(&["user", "list", "--tenant", "acme", "--json"]).expect(0);
        assert_eq!(members.json()["members"], json!(1));
        let member: Value = serde_json::from_str(members.stdout.lines().next().unwrap()).unwrap();
        assert_eq!((&member["user"]["email"], &member["role"]), (&json!("ann@acme.example"), &json!("owner")));
        assert!(sandbox.run(&["user", "list", "--tenant", "acme"]).expect(0).stdout.contains("ann@acme.example"));
        let listed = |state: &str| {
            let keys = sandbox.run(&["api-key", "list", "--tenant", "acme"]).expect(0).stdout;
            assert!(keys.lines().any(|line| line.contains(id) && line.contains(state) && line.contains("orders.read")), "{keys}");
            assert!(!keys.contains(text), "the key itself is not stored");
        };
        listed("live");
        sandbox.run(&["api-key", "revoke", "--tenant", "acme", id]).expect(0);
        listed("revoked");
        assert_eq!(sandbox.run(&["api-key", "list", "--tenant", "acme", "--json"]).expect(0).json()["api_keys"], json!(1));
        let server = sandbox.serve(&["serve"]);
        assert_eq!(server.request("GET", "/api/v1/orders", Some(text), "").0, 401);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn a_server_starts_stops_and_starts_again() {
    for sandbox in Sandbox::each_engine() {
        for _ in 0..2 {
            let server = sandbox.serve(&["serve"]);
            assert_eq!(server.get("/health/live").0, 200);
            assert_eq!(server.get("/health/ready").0, 200);
            assert_eq!(server.get("/docs").0, 200);
            assert!(server.get("/metrics").1.contains("# EOF"));
            assert_eq!(server.stop(), Some(0));
        }
    }
}

#[test]
fn what_a_migration_would_do_is_told_and_not_done() {
    for sandbox in [Some(Sandbox::with_shards(2)), Sandbox::on_postgres_with_shards(2)].into_iter().flatten() {
        let status = |code| sandbox.run(&["migrate", "--status", "--json"]).expect(code).json();
        let before = status(1);
        let pending = before["pending"].as_array().unwrap().clone();
        for shard in [0, 1] {
            assert!(pending.iter().any(|p| p["shard"] == json!(shard) && p["module"] == json!("orders")), "{before}");
        }
        assert_eq!((&before["ok"], status(1)), (&json!(false), before.clone()));
        assert!(!sandbox.path("data").exists(), "nothing is made");
        assert_eq!(sandbox.run(&["migrate", "--json"]).expect(0).json()["new"], json!(pending.len()));
        assert_eq!(status(0), json!({ "ok": true, "pending": [] }));
        let server = sandbox.serve(&["serve"]);
        assert!(sandbox.run(&["migrate", "--status"]).expect(0).stdout.contains("up to date"));
        assert_eq!(server.stop(), Some(0));
    }
    if let Some(sandbox) = Sandbox::on_postgres() {
        let missing = format!("{}_missing", sandbox.engine_args().last().unwrap());
        let told = sandbox.run_bare(&["migrate", "--status", "--json", "--database", &missing]).expect(1).json();
        assert!(told["pending"].as_array().is_some_and(|pending| !pending.is_empty()), "{told}");
    }
}

#[test]
fn a_folder_and_a_port_belong_to_one_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&["serve"]);
    let holder = format!("process {} (brandos serve)", server.pid());

    let second = sandbox.run(&["serve", "--listen", "127.0.0.1:0"]).expect(4);
    assert!(second.stderr.contains(&holder) && second.stderr.contains("--data"), "{}", second.stderr);
    let writer = sandbox.run(&["tenant", "create", "acme", "--json"]).expect(4).json();
    assert_eq!(writer["error"]["code"], json!("cli.folder_in_use"));

    let address = server.serving["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let other = sandbox.path("other");
    let taken = sandbox.run_bare(&["serve", "--listen", &address, "--data", other.to_str().unwrap(), "--json"]).expect(3);
    assert_eq!(taken.json()["error"]["code"], json!("cli.port_taken"));
    assert!(!other.exists(), "nothing is made before the port is known to be free");

    // What only reads works beside the server.
    let report = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
    sandbox.run(&["tenant", "list"]).expect(0);
    sandbox.run(&["doctor"]).expect(0);

    // A server that was killed leaves nothing behind that keeps the next one out.
    server.signal("KILL");
    drop(server);
    assert_eq!(sandbox.serve(&["serve"]).stop(), Some(0));
}

#[test]
fn readers_do_not_make_a_folder() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(&["audit", "--json"]).expect(4);
    assert_eq!(ended.json()["error"]["code"], json!("cli.no_data"));
    assert!(!sandbox.path("data").exists());
    sandbox.run(&["doctor"]).expect(0);
    assert!(!sandbox.path("data").exists());
}

#[test]
fn the_demo_shows_something_within_seconds_and_starts_again() {
    let sandbox = Sandbox::new();
    let began = Instant::now();
    let server = sandbox.serve(&["demo", "--rate", "20"]);
    assert_eq!(server.get("/docs").0, 200);
    let orders = |server: &common::Server| {
        let (status, body) = server.request("GET", "/api/v1/orders?limit=100", server.serving["api_key"].as_str(), "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"].as_array().unwrap().len()
    };
    while orders(&server) < 5 {
        assert!(began.elapsed() < Duration::from_secs(30), "no orders after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Orders are paid, and one shows it; some are given back.
    let get = |server: &common::Server, path: &str| {
        let (status, body) = server.request("GET", path, server.serving["api_key"].as_str(), "");
        assert_eq!(status, 200, "{path} {body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let paid = loop {
        let payments = get(&server, "/api/v1/payments/intents?limit=100");
        let payments = payments["data"].as_array().unwrap();
        let has = |state: &str| payments.iter().find(|payment| payment["state"] == state).cloned();
        if let (Some(paid), true) = (has("captured"), has("refunded").or(has("partly_refunded")).or(has("disputed")).is_some()) {
            break paid;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing paid and given back after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    };
    let order = get(&server, &format!("/api/v1/orders/{}/payments", paid["order_id"].as_str().unwrap()));
    assert_eq!((&order["captured_minor"], &order["total_minor"]), (&paid["amount_minor"], &paid["amount_minor"]), "{order}");
    let (_, products) = server.request("GET", "/api/v1/products?limit=100", server.serving["api_key"].as_str(), "");
    assert!(serde_json::from_str::<Value>(&products).unwrap()["data"].as_array().unwrap().len() >= 40, "{products}");
    let first_key = server.serving["api_key"].as_str().unwrap().to_owned();
    assert_eq!(server.stop(), Some(0));

    let again = sandbox.serve(&["demo", "--rate", "20"]);
    assert_eq!(again.serving["password"], Value::Null, "the user is there already");
    assert_eq!(again.request("GET", "/api/v1/orders", Some(&first_key), "").0, 401, "the key of the first start has ended");
    assert!(orders(&again) >= 5);
    // The provider is at another port now, and what was paid before can still be given back.
    let back = format!("/api/v1/payments/intents/{}/refund", paid["intent_id"].as_str().unwrap());
    while again.request("POST", &back, again.serving["api_key"].as_str(), r#"{"wait_ms":5000}"#).0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing can be given back");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(again.stop(), Some(0));
    let report = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
    let agree = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "flows.orders_payments_and_books_agree").unwrap();
    assert!(!agree["detail"].as_str().unwrap().starts_with("0 orders"), "{agree}");
}

#[test]
fn a_demo_that_was_broken_off_is_finished() {
    let sandbox = Sandbox::new();
    sandbox.run(&["tenant", "create", "heron-kettle"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "heron-kettle", "--json"]).expect(0).json()["key"].clone();
    let server = sandbox.serve(&["serve"]);
    let new = r#"{"sku":"HK-KETTLE-MOSS","name":"Kettle"}"#;
    let (status, item) = server.request("POST", "/api/v1/inventory/items", key.as_str(), new);
    assert_eq!(status, 201, "{item}");
    let item = serde_json::from_str::<Value>(&item).unwrap()["item_id"].as_str().unwrap().to_owned();
    assert_eq!(server.stop(), Some(0));

    let began = Instant::now();
    let server = sandbox.serve(&["demo", "--rate", "0.001"]);
    let get =
        |path: &str| -> Value { serde_json::from_str(&server.request("GET", path, server.serving["api_key"].as_str(), "").1).unwrap() };
    while get(&format!("/api/v1/inventory/items/{item}/levels"))["data"] == json!([]) {
        assert!(began.elapsed() < Duration::from_secs(90), "nothing is delivered after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    let variant = get("/api/v1/variants/by-sku?sku=HK-KETTLE-MOSS")["variant_id"].clone();
    let made_of = get(&format!("/api/v1/inventory/components?variant_id={}", variant.as_str().unwrap()));
    assert_eq!(made_of["components"], json!([{ "item_id": item, "quantity": 1 }]), "{made_of}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_demo_sells_ships_and_takes_back() {
    let sandbox = Sandbox::new();
    let began = Instant::now();
    let server = sandbox.serve(&["demo", "--rate", "20"]);
    let get = |path: &str, key: &str| {
        let (status, body) = server.request("GET", path, server.serving[key].as_str(), "");
        assert_eq!(status, 200, "{path} {body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let wait = |what: &str, found: &dyn Fn() -> Option<Value>| loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "no {what} after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    };
    // The page is served beside the API, and shows what the brand sells, with what is there of it.
    let address = server.serving["shop"].as_str().unwrap().strip_prefix(server.serving["url"].as_str().unwrap()).unwrap().to_owned();
    assert!(server.get(&address).1.contains("shop.js"), "{address}");
    wait("destinations", &|| {
        let countries = get("/api/v1/storefront/destinations", "publishable_key")["countries"].clone();
        (countries.as_array().unwrap().len() == 10).then_some(countries)
    });
    assert!(get("/api/v1/storefront/products?currency=EUR&limit=100", "publishable_key")["data"].as_array().unwrap().len() >= 40);

    // Somebody bought, got it, and sent some of it back: the order, the parcel and the money say so.
    let returned = wait("refunded return", &|| {
        let returns = get("/api/v1/returns?state=refunded", "api_key");
        returns["data"].as_array().unwrap().first().cloned()
    });
    let order_id = returned["order_id"].as_str().unwrap();
    let order = get(&format!("/api/v1/orders/{order_id}"), "api_key");
    assert_eq!(order["state"], "fulfilled", "{order}");
    let shipments = get(&format!("/api/v1/shipping/shipments?order_id={order_id}"), "api_key");
    assert_eq!(shipments["data"][0]["state"], "delivered", "{shipments}");
    let paid = wait("refund", &|| {
        let paid = get(&format!("/api/v1/orders/{order_id}/payments"), "api_key");
        (paid["payments"][0]["state"] == "partly_refunded" || paid["payments"][0]["state"] == "refunded").then_some(paid)
    });
    assert_eq!((&paid["refunded_minor"], &paid["captured_minor"]), (&returned["refund_minor"], &order["total_minor"]), "{paid}");
    assert!(paid["refunded_minor"].as_i64().unwrap() > 0);
    // Some leave their cart, some cards are declined; whoever has paid is served.
    wait("cart that was left", &|| {
        let carts = get("/api/v1/carts?limit=100", "api_key");
        carts["data"].as_array().unwrap().iter().find(|cart| cart["status"] == "open").cloned()
    });
    assert_eq!(server.stop(), Some(0));
    let report = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
}

#[test]
fn the_openapi_document_needs_no_data() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(&["openapi"]).expect(0);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{}", document["openapi"]);
    assert!(document["paths"]["/api/v1/orders"]["post"].is_object());
    assert!(!sandbox.path("data").exists());
}

/// An export that is cut short must not look like a whole one.
#[test]
fn an_export_that_does_not_fit_fails() {
    let sandbox = Sandbox::new();
    sandbox.run(&["tenant", "create", "acme"]).expect(0);
    for format in ["hledger", "json"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = sandbox.command(&["ledger", "export", "--tenant", "acme", "--format", format]).stdout(full).output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{told}");
        assert!(told.contains("cannot write to stdout: "), "{told}");
    }
}

#[test]
fn a_consumer_is_replayed() {
    let sandbox = Sandbox::new();
    let (text, _) = common::generated(50);
    let file = sandbox.write("some.csv", text);
    sandbox.run(&["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme"]).expect(0);
    let replayed = sandbox.run(&["replay", "orders.daily_sales", "--json"]).expect(0).json();
    assert_eq!(replayed["caught_up"], json!(true));
    assert_eq!(sandbox.run(&["audit", "--json"]).expect(0).json()["ok"], json!(true));
    let unknown = sandbox.run(&["replay", "orders.nothing", "--json"]).expect(4).json();
    assert_eq!(unknown["error"]["code"], json!("log.consumer_not_found"));
    assert!(sandbox.run(&["dead-letters", "list"]).expect(0).stdout.contains("0 dead letters"));
}

#[test]
fn sagas_are_looked_after() {
    let sandbox = Sandbox::new();
    sandbox.run(&["tenant", "create", "acme"]).expect(0);
    assert!(sandbox.run(&["workflow", "list"]).expect(0).stdout.contains("0 sagas"));
    assert_eq!(sandbox.run(&["workflow", "list", "--tenant", "acme", "--json"]).expect(0).json(), json!({ "data": [] }));
    let nobody = sandbox.run(&["workflow", "show", "sag_00000000001", "--tenant", "acme", "--json"]).expect(4).json();
    assert_eq!(nobody["error"]["code"], json!("workflow.not_found"));
    let nobody = sandbox.run(&["workflow", "retry", "sag_00000000001", "--json"]).expect(4).json();
    assert_eq!(nobody["error"]["code"], json!("workflow.not_found"));
    sandbox.run(&["workflow", "decide", "sag_00000000001"]).expect(2);
    sandbox.run(&["workflow", "decide", "sag_00000000001", "--done", "1", "--refused", "no"]).expect(2);
    let server = sandbox.serve(&["serve"]);
    assert!(sandbox.run(&["workflow", "list"]).expect(0).stdout.contains("0 sagas"));
    sandbox.run(&["workflow", "cancel", "sag_00000000001"]).expect(4);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_backup_beside_a_server_is_restored_whole_and_by_tenant() {
    for sandbox in Sandbox::each_engine() {
        let (text, expected) = common::generated(400);
        let file = sandbox.write("some.csv", text);
        let import = ["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme", "--json"];
        sandbox.run(&import).expect(0);
        let (good, again) = (sandbox.path("backup"), sandbox.path("restored"));
        let server = sandbox.serve(&["serve"]);
        let backup = sandbox.run(&["backup", good.to_str().unwrap(), "--json"]).expect(0).json();
        assert!(backup["rows"].as_u64().is_some_and(|rows| rows > 1_000), "{backup}");
        assert_eq!(
            sandbox.run(&["backup", good.to_str().unwrap(), "--json"]).expect(4).json()["error"]["code"],
            json!("store.backup_folder")
        );
        assert_eq!(server.stop(), Some(0));

        // The whole node, whatever its engine was, into a new embedded folder: the import finds everything there.
        let at = ["--data", again.to_str().unwrap()];
        let with = |args: &[&'static str]| [args, &at].concat();
        sandbox.run_bare(&[&["restore", good.to_str().unwrap()], &at[..]].concat()).expect(0);
        assert_eq!(sandbox.run_bare(&with(&["audit", "--json"])).expect(0).json()["ok"], json!(true));
        let summary = sandbox.run_bare(&[&import, &at[..]].concat()).expect(0).json();
        common::assert_holds(&summary, &expected);
        assert_eq!(summary["this_run"]["lines"], json!(0));
        sandbox.run_bare(&[&["restore", good.to_str().unwrap()], &at[..]].concat()).expect(4);

        // One tenant, back into the node: what came after the backup is gone.
        let more = sandbox.write("more.csv", format!("{}X1,new,New,1,2012-01-01 00:00:00,1.00,,UK\n", common::HEADER));
        let after = sandbox.run(&["import", "online-retail", more.to_str().unwrap(), "--tenant", "acme", "--json"]).expect(0).json();
        assert_ne!(after["lines"], expected["lines"]);
        sandbox.run(&["restore", good.to_str().unwrap(), "--tenant", "acme"]).expect(0);
        assert_eq!(sandbox.run(&["audit", "--json"]).expect(0).json()["ok"], json!(true));
        common::assert_holds(&sandbox.run(&import).expect(0).json(), &expected);
    }
}

#[test]
fn a_tenant_is_moved_to_another_shard() {
    let sandbox = Sandbox::with_shards(2);
    let (text, expected) = common::generated(400);
    let file = sandbox.write("some.csv", text);
    let run = |args: &[&str]| sandbox.run(args);
    let import = ["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme", "--json"];
    run(&import).expect(0);
    let moved = run(&["tenant", "move", "acme", "--to-shard", "1", "--json"]).expect(0).json();
    assert!(moved["rows"].as_u64().is_some_and(|rows| rows > 1_000), "{moved}");
    assert_eq!(run(&["tenant", "show", "acme", "--json"]).expect(0).json()["shard"], json!(1));
    assert_eq!(run(&["audit", "--json"]).expect(0).json()["ok"], json!(true));
    common::assert_holds(&run(&import).expect(0).json(), &expected);
    run(&["tenant", "move", "acme", "--to-shard", "7"]).expect(4);
}

#[test]
fn rules_of_rate_limits_are_checked_listed_and_changed_while_a_server_runs() {
    let sandbox = Sandbox::new();
    for shipped in ["default", "generous"] {
        assert!(sandbox.run_bare(&["limits", "check", shipped]).expect(0).stdout.contains("tenant"));
    }
    let rule =
        |limit: u32| format!("[[rule]]\nname = \"ip\"\nkey = [\"ip\"]\nalgorithm = \"fixed_window\"\nlimit = {limit}\nper = \"1d\"\n");
    let file = sandbox.write("rules.toml", rule(0));
    let wrong = sandbox.run_bare(&["limits", "check", file.to_str().unwrap()]).expect(2);
    assert!(wrong.stderr.contains("rules.toml:5: a limit of 0 can never pass"), "{}", wrong.stderr);
    let set = format!("limits.rules={}", file.display());
    assert!(sandbox.run(&["serve", "--set", &set]).expect(2).stderr.contains("rules.toml:5"));

    std::fs::write(&file, rule(2)).unwrap();
    let admin = sandbox.run(&["user", "create", "admin@limits.example", "--platform-admin", "--json"]).expect(0).json();
    let server = sandbox.serve(&["serve", "--set", &set]);
    let sign_in = json!({ "email": "admin@limits.example", "password": admin["password"], "platform": true }).to_string();
    let (status, tokens) = server.request("POST", "/api/v1/auth/sign-in", None, &sign_in);
    assert_eq!(status, 200, "{tokens}");
    let token = serde_json::from_str::<Value>(&tokens).unwrap()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(server.request("GET", "/api/v1/me", Some(&token), "").0, 200);
    let (status, problem) = server.request("GET", "/api/v1/me", Some(&token), "");
    assert_eq!(status, 429, "{problem}");
    assert!(problem.contains("\"retry_after_seconds\""), "{problem}");
    // The share that is left stays: nothing of two is nothing of four, and the operator raises the limit for good by another name.
    std::fs::write(&file, rule(400).replace("\"ip\"\nkey", "\"address\"\nkey")).unwrap();
    let told = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.request("GET", "/api/v1/me", Some(&token), "").0 == 200
    });
    assert!(told, "the changed rules are in force");
    let token_file = sandbox.write("token", &token);
    let url = server.serving["url"].as_str().unwrap().to_owned();
    let listed = sandbox.run_bare(&["limits", "list", "--url", &url, "--token-file", token_file.to_str().unwrap()]).expect(0);
    assert!(listed.stdout.contains("ip=127.0.0.1"), "{}", listed.stdout);
    let nobody = sandbox.write("nobody", "x");
    sandbox.run_bare(&["limits", "list", "--url", &url, "--token-file", nobody.to_str().unwrap()]).expect(4);
    assert_eq!(server.stop(), Some(0));
    sandbox.run_bare(&["limits", "list", "--url", &url, "--token-file", token_file.to_str().unwrap()]).expect(3);
}

#[test]
fn a_whole_catalog_goes_in_and_out_and_in_again() {
    for sandbox in Sandbox::each_engine() {
        for slug in ["first", "second"] {
            sandbox.run(&["tenant", "create", slug]).expect(0);
        }
        let rows: String =
            (0..9_000).map(|n| format!("sku-{n},style-{},\"Shirt \"\"{n}\"\"\",EUR,{n}.5,{},Size,{}\n", n / 5, n + 1, n % 5)).collect();
        let wrong = "sku-0,other,,,,,,\nbad,,,EUR,-1,,,\n,,,,,,,\n";
        let text = format!("sku,product,title,currency,price,weight_g,option1_name,option1_value\n{rows}sku-7,,,USD,8,,,\n{wrong}");
        let file = sandbox.write("all.csv", text);
        let import = |file: &std::path::Path, tenant: &str, code: i32| {
            let ended = sandbox.run(&["catalog", "import", file.to_str().unwrap(), "--tenant", tenant, "--json"]).expect(code);
            let done = ended.json();
            let counts = ["rows", "created", "updated", "unchanged", "rejected"].map(|name| done[name].as_u64().unwrap());
            (counts, ended.stdout)
        };
        let (counts, told) = import(&file, "first", 1);
        assert_eq!(counts, [9_004, 9_000, 1, 0, 3]);
        for (line, code) in [(9_003, "other_product"), (9_004, "negative"), (9_005, "empty")] {
            let problem =
                told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|problem| problem["line"] == line).unwrap();
            assert_eq!(problem["code"], code, "{problem}");
        }
        // The same file again changes nothing.
        assert_eq!(import(&file, "first", 1).0, [9_004, 0, 0, 9_001, 3]);

        for format in ["csv", "ndjson"] {
            let out = sandbox.run(&["catalog", "export", "--tenant", "first", "--format", format]).expect(0).stdout;
            let copy = sandbox.write(&format!("copy.{format}"), &out);
            assert_eq!(import(&copy, "first", 0).0, [9_001, 0, 0, 9_001, 0]);
            let expected = if format == "csv" { [9_001, 9_001, 0, 0, 0] } else { [9_001, 0, 0, 9_001, 0] };
            assert_eq!(import(&copy, "second", 0).0, expected);
            let again = sandbox.run(&["catalog", "export", "--tenant", "second", "--format", format]).expect(0).stdout;
            assert!(again == out, "what came in goes out again");
        }
        // A reader that goes away is no failure; a disk that is full is one.
        let export = ["catalog", "export", "--tenant", "first"];
        let mut gone = sandbox.command(&export).stdout(Stdio::piped()).spawn().unwrap();
        drop(gone.stdout.take());
        assert_eq!(gone.wait().unwrap().code(), Some(0));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = common::Ended::from(sandbox.command(&export).stdout(full).output().unwrap()).expect(3);
        assert!(ended.stderr.contains("cli.file"), "{}", ended.stderr);

        let cut = sandbox.write("cut.csv", "sku\nok\n\"never closed");
        assert_eq!(import(&cut, "first", 0).0[0], 2);
        let unknown = sandbox.write("all.txt", "sku\na\n");
        sandbox.run(&["catalog", "import", unknown.to_str().unwrap(), "--tenant", "first"]).expect(2);
        sandbox.run(&["audit"]).expect(0);
    }
}

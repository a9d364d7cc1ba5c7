//! `new-module`: a module that compiles and is tidy, with one thing that can be made and read, to be filled in.

use crate::{Outcome, say, tidy};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The files of a module, with `NAME` for its name and `PFX` for the prefix of its ids.
const FILES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"[package]
name = "brandos-NAME"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[lints]
workspace = true

[dependencies]
kernel.workspace = true
store.workspace = true
web.workspace = true
axum.workspace = true
serde.workspace = true
utoipa.workspace = true

[dev-dependencies]
testkit.workspace = true
serde_json.workspace = true
tokio.workspace = true
"#,
    ),
    (
        "src/lib.rs",
        r#"//! NAME: say in one sentence what this module is for.
//!
//! Promises: an item that was made can be read by its tenant, and by nobody else.
//! Must never know: any other module's tables.

mod commands;
mod events;
mod model;
mod queries;
mod routes;
mod sql;
#[cfg(test)]
mod tests;

use web::{Module, PermissionInfo};

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "NAME.read", description: "See items." },
    PermissionInfo { name: "NAME.write", description: "Make items." },
];

const MIGRATIONS: &[store::Migration] = &[store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") }];

/// The module, as plain data.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        events: events::EVENTS,
        statements: sql::statements(),
        ..Module::new("NAME", MIGRATIONS)
    }
}
"#,
    ),
    (
        "src/model.rs",
        r#"//! Types and pure rules.

use kernel::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Marks items' ids (`PFX_...`).
pub enum ItemEntity {}

impl kernel::Entity for ItemEntity {
    const PREFIX: &'static str = "PFX";
}

/// The id of an item.
pub type ItemId = kernel::Id<ItemEntity>;

/// The longest title, in characters.
pub const MAX_TITLE: usize = 300;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// Shown to people.
    #[schema(min_length = 1, max_length = 300)]
    pub title: String,
}

impl NewItem {
    /// Errors: `request.invalid`.
    pub fn validate(&self) -> Result<()> {
        match self.title.chars().count() {
            0 => Err(Error::field("title", "too_short", "a title has at least 1 character")),
            1..=MAX_TITLE => Ok(()),
            _ => Err(Error::field("title", "too_long", format!("a title has at most {MAX_TITLE} characters"))),
        }
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Its id.
    pub item_id: ItemId,
    /// Shown to people.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
}
"#,
    ),
    (
        "src/events.rs",
        r#"//! What happened, for whoever follows the log.

use crate::model::Item;
use store::NewEvent;
use web::EventInfo;

/// Every kind of event.
pub const EVENTS: &[EventInfo] = &[EventInfo { kind: "NAME.item_created", version: 1, description: "An item was made." }];

/// An item was made.
pub fn item_created(item: &Item) -> NewEvent {
    NewEvent::new("NAME.item_created", 1, item.item_id, item)
}
"#,
    ),
    (
        "src/commands.rs",
        r#"//! What changes things: load, decide, write, emit.

use crate::model::{Item, NewItem};
use crate::{events, sql};
use kernel::Result;
use store::Tx;

/// Makes an item. Errors: `request.invalid`.
pub fn create_item(tx: &mut Tx<'_>, new: &NewItem) -> Result<Item> {
    new.validate()?;
    let item = Item { item_id: tx.new_id(), title: new.title.clone(), created_at: tx.now() };
    tx.exec(sql::INSERT_ITEM, (item.item_id, &item.title, item.created_at))?;
    tx.emit(events::item_created(&item));
    Ok(item)
}
"#,
    ),
    (
        "src/queries.rs",
        r#"//! Reads.

use crate::model::{Item, ItemId};
use crate::sql;
use kernel::{Error, Result};
use store::Read;

/// An item. Errors: `NAME.item_not_found`.
pub fn item(read: &mut Read<'_>, item_id: ItemId) -> Result<Item> {
    let found = read.opt(sql::ITEM, (item_id,))?;
    let (title, created_at) = found.ok_or_else(|| Error::not_found("NAME.item_not_found", "there is no such item"))?;
    Ok(Item { item_id, title, created_at })
}
"#,
    ),
    (
        "src/sql.rs",
        r#"//! Every statement. `$1` is the tenant.

use web::{InScope, Statement};

/// One item.
pub const ITEM: &str = "SELECT title, created_at FROM NAME_items WHERE tenant_id = $1 AND item_id = $2";

/// Makes an item.
pub const INSERT_ITEM: &str = "INSERT INTO NAME_items (tenant_id, item_id, title, created_at) VALUES ($1, $2, $3, $4)";

/// All of them, for tests that prepare each on both engines.
pub fn statements() -> Vec<Statement> {
    [("ITEM", ITEM), ("INSERT_ITEM", INSERT_ITEM)].into_iter().map(|(name, sql)| Statement::new(name, sql, InScope::Tenant)).collect()
}
"#,
    ),
    (
        "src/routes.rs",
        r#"//! The HTTP API.

use crate::model::{Item, ItemId, NewItem};
use crate::{commands, queries};
use axum::Json;
use axum::extract::State;
use web::{Access, App, Caller, Created, Keyed, Params, Result, Route, handlers};

/// Every route.
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(Access::Tenant("NAME.write"), handlers!(create_item)).keyed(),
        Route::new(Access::Tenant("NAME.read"), handlers!(get_item)),
    ]
}

/// Makes an item.
#[utoipa::path(post, path = "/api/v1/NAME", tag = "NAME", request_body = NewItem, responses((status = 201, body = Item)))]
async fn create_item(State(app): State<App>, caller: Caller, new: Keyed<NewItem>) -> Result<Created<Item>> {
    let item = app.submit(&caller, new.key, commands::create_item, new.body).await?.value;
    Ok(Created(format!("/api/v1/NAME/{}", item.item_id), item))
}

/// An item.
#[utoipa::path(get, path = "/api/v1/NAME/{item_id}", tag = "NAME", params(("item_id" = ItemId, Path)), responses((status = 200, body = Item)))]
async fn get_item(State(app): State<App>, caller: Caller, Params(item_id): Params<ItemId>) -> Result<Json<Item>> {
    let item = app.peek(&caller, move |read| queries::item(read, item_id)).await?;
    Ok(Json(item))
}
"#,
    ),
    (
        "src/tests.rs",
        r#"//! Tests of the pure rules, and of the module as a whole on both engines.

use crate::model::NewItem;
use serde_json::json;
use testkit::{Setup, TestApp};

#[test]
fn titles_have_limits() {
    for (title, code) in [("", Some("too_short")), ("a mug", None), (&*"é".repeat(300), None), (&*"x".repeat(301), Some("too_long"))] {
        let error = NewItem { title: title.to_owned() }.validate().err();
        assert_eq!(error.map(|e| e.field_errors()[0].code), code, "{title}");
    }
}

testkit::both_engines! {
    setup: || Setup::new(vec![crate::module()]);

    async fn an_item_is_made_once_and_read_by_its_tenant_alone(app: TestApp) {
        let acme = app.client("acme", &["NAME.read", "NAME.write"]);
        let made = acme.post("/api/v1/NAME").key("k1").json(&json!({ "title": "mug" })).send().await.expect(201);
        let again = acme.post("/api/v1/NAME").key("k1").json(&json!({ "title": "mug" })).send().await.expect(201);
        assert_eq!(made.json, again.json);
        let path = format!("/api/v1/NAME/{}", made.text("item_id"));
        assert_eq!(acme.get(&path).send().await.expect(200).json, made.json);
        app.client("globex", &["*"]).get(&path).send().await.expect_problem(404, "NAME.item_not_found");
        acme.post("/api/v1/NAME").json(&json!({ "title": "" })).send().await.expect_problem(400, "request.invalid");
    }
}
"#,
    ),
    (
        "migrations/0001_first.sql",
        r#"CREATE TABLE NAME_items (
  tenant_id BIGINT NOT NULL,
  item_id BIGINT NOT NULL,
  title TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, item_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
"#,
    ),
];

/// Makes the folder `modules/NAME`, and enters the module in the lists that know of all modules.
pub(crate) fn new_module(root: &Path, name: &str) -> Outcome {
    if !(3..=20).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Err("a module's name is one word of 3 to 20 small letters".into());
    }
    let folder = root.join("modules").join(name);
    if folder.exists() || root.join("platform").join(name).exists() {
        return Err(format!("there is a {name} already"));
    }
    // The lists first: if one of them isn't as expected, nothing has been made.
    let manifest = edited(root, "Cargo.toml", |text| {
        after(text, "modules/", &format!("{name} = {{ package = \"brandos-{name}\", path = \"modules/{name}\" }}\n"))
    })?;
    let edges = edited(root, tidy::EDGES, |text| {
        let (uses, tests) = text.split_once("[tests]")?;
        let uses = after(uses, "orders = [", &format!("{name} = [\"kernel\", \"store\", \"web\"]\n"))?;
        let tests = after(tests, "orders = [", &format!("{name} = [\"testkit\"]\n"))?;
        Some(format!("{uses}[tests]{tests}"))
    })?;
    let entry = "There is no such item, or it belongs to another tenant. Check the id.";
    let problems = edited(root, tidy::PROBLEMS, |text| Some(with_problem(text, &format!("{name}.item_not_found"), entry)))?;
    for (path, text) in FILES {
        write(&folder.join(path), &text.replace("NAME", name).replace("PFX", &name[..3]))?;
    }
    for (path, text) in [("Cargo.toml", manifest), (tidy::EDGES, edges), (tidy::PROBLEMS, problems)] {
        write(&root.join(path), &text)?;
    }
    // How lines break depends on the length of the name. Where there is no rustfmt they stay as they are.
    let mut rustfmt = Command::new("rustfmt");
    let _ = rustfmt.args(["--edition", "2024", "--config-path"]).arg(root).arg(folder.join("src/lib.rs")).output();
    say(&format!(
        "modules/{name} is made. Now:\n  - let the app use it: app/Cargo.toml, {}, and the list of modules in app/src/wiring.rs\n  \
         - check that no other id begins with `{}_` (src/model.rs)\n  - say in src/lib.rs what it promises and what it must never know",
        tidy::EDGES,
        &name[..3]
    ));
    Ok(())
}

fn edited(root: &Path, path: &str, edit: impl FnOnce(&str) -> Option<String>) -> Outcome<String> {
    let text = fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
    edit(&text).ok_or_else(|| format!("{path} has no place for a module where one is expected"))
}

fn write(path: &Path, text: &str) -> Outcome {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, text)).map_err(|error| format!("{}: {error}", path.display()))
}

/// `text` with `line` put after its last line that holds `mark`.
fn after(text: &str, mark: &str, line: &str) -> Option<String> {
    let (mut at, mut place) = (0, None);
    for existing in text.split_inclusive('\n') {
        at += existing.len();
        if existing.contains(mark) && existing.contains(" = ") && !existing.starts_with("members") {
            place = Some(at);
        }
    }
    place.map(|at| format!("{}{line}{}", &text[..at], &text[at..]))
}

/// The list of problems with one more entry, in its place.
fn with_problem(text: &str, code: &str, words: &str) -> String {
    let (mut at, mut place) = (0, text.len());
    for line in text.split_inclusive('\n') {
        if line.strip_prefix("### ").is_some_and(|other| other.trim() > code) {
            place = at;
            break;
        }
        at += line.len();
    }
    let gap = if text[..place].ends_with("\n\n") { "" } else { "\n" };
    let tail = if place < text.len() { "\n" } else { "" };
    format!("{}{gap}### {code}\n\n{words}\n{tail}{}", &text[..place], &text[place..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        let put = |path: &str, text: &str| write(&root.path().join(path), text).expect("written");
        put(
            "Cargo.toml",
            "[workspace]\nmembers = [\"platform/*\", \"modules/*\"]\n[workspace.dependencies]\norders = { path = \"modules/orders\" }\nserde = \"1\"\n",
        );
        put(
            tidy::EDGES,
            "[uses]\nkernel = []\nstore = [\"kernel\"]\nweb = [\"kernel\", \"store\"]\ntestkit = [\"kernel\"]\norders = [\"kernel\"]\n\n[tests]\norders = [\"testkit\"]\n",
        );
        put(tidy::PROBLEMS, "# Problems\n\n### orders.late\n\nThe order came too late. Order again.\n");
        for name in ["platform/kernel", "platform/store", "platform/web", "platform/testkit", "modules/orders"] {
            put(&format!("{name}/Cargo.toml"), "[package]\n");
            put(&format!("{name}/src/lib.rs"), "//! X.\n//! Promises: a.\n//! Must never know: b.\n");
        }
        put("modules/orders/src/model.rs", "//! X.\nfn f() { Error::conflict(\"orders.late\", \"\"); }\n");
        root
    }

    #[test]
    fn a_new_module_is_tidy() {
        let root = repository();
        new_module(root.path(), "links").expect("made");
        let findings = tidy::check(&tidy::Tree::read(root.path()).expect("read"));
        assert!(findings.is_empty(), "{findings:#?}");
        let read = |path: &str| fs::read_to_string(root.path().join(path)).expect("there");
        assert!(
            read("Cargo.toml").contains("modules/orders\" }\nlinks = { package = \"brandos-links\", path = \"modules/links\" }\nserde")
        );
        assert!(read(tidy::PROBLEMS).contains("# Problems\n\n### links.item_not_found\n\nThere is"));
        assert!(!read("modules/links/src/model.rs").contains("PFX"));
    }

    #[test]
    fn names_are_checked() {
        let root = repository();
        for name in ["", "ab", "Links", "my links", "my_links", "../links", "orders", "kernel", "averyveryverylongnameindeed"] {
            assert!(new_module(root.path(), name).is_err(), "{name}");
        }
    }

    #[test]
    fn problems_are_put_in_their_place() {
        for (text, expected) in [
            ("# P\n", "# P\n\n### b.x\n\nw\n"),
            ("### a.x\n\nw\n\n### c.x\n\nw\n", "### a.x\n\nw\n\n### b.x\n\nw\n\n### c.x\n\nw\n"),
            ("### a.x\n\nw\n", "### a.x\n\nw\n\n### b.x\n\nw\n"),
        ] {
            assert_eq!(with_problem(text, "b.x", "w"), expected);
        }
    }

    /// Builds what was made against the real platform, which takes a while: `.ci/run` asks for it.
    #[test]
    #[ignore = "compiles: run by .ci/run"]
    fn a_new_module_compiles() {
        let house = crate::root();
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, mark) in [
            ("Cargo.toml", ""),
            (tidy::EDGES, ""),
            (tidy::PROBLEMS, "# Problems\n"),
            ("Cargo.lock", ""),
            ("clippy.toml", ""),
            ("rustfmt.toml", ""),
        ] {
            let text = if mark.is_empty() { fs::read_to_string(house.join(path)).expect("there") } else { mark.to_owned() };
            // The platform is the real one; the other members stay away.
            let text = match path {
                "Cargo.toml" => {
                    text.replace("path = \"platform/", &format!("path = \"{}/platform/", house.display()))
                        .lines()
                        .filter(|line| !line.starts_with("default-members = "))
                        .map(|line| {
                            if line.starts_with("members = ") { "members = [\"modules/links\"]\n".to_owned() } else { format!("{line}\n") }
                        })
                        .collect()
                }
                _ => text,
            };
            write(&root.path().join(path), &text).expect("written");
        }
        new_module(root.path(), "links").expect("made");
        let cargo = |arguments: &[&str]| {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(arguments).current_dir(root.path()).env("CARGO_TARGET_DIR", house.join("target")).env("CARGO_NET_OFFLINE", "true");
            let output = command.output().expect("cargo runs");
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
        };
        cargo(&["test", "--quiet", "--package", "brandos-links"]);
        cargo(&["fmt", "--check", "--package", "brandos-links"]);
        cargo(&["clippy", "--quiet", "--package", "brandos-links", "--all-targets", "--", "-D", "warnings"]);
    }
}

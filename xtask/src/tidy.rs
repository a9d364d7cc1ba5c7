//! `tidy`: the rules of the house that the compiler can't see. Each is a function from the tree to what breaks it.

use crate::source::{Source, find_word, line_of};
use crate::{Outcome, say};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// The list of allowed edges between crates.
pub(crate) const EDGES: &str = "xtask/edges.toml";
/// Where every error code is explained.
pub(crate) const PROBLEMS: &str = "docs/problems.md";
/// The files that may read the wall clock: the kernel's, which hands it on, and `brandos doctor`, which compares a server's with it.
const CLOCKS: &[&str] = &["platform/kernel/src/clock.rs", "app/src/doctor.rs"];
/// Where `kernel::Error` is defined: its constructors pass codes on.
const ERROR: &str = "platform/kernel/src/error.rs";
/// What `kernel::Error` can be made with; the code comes first.
const CONSTRUCTORS: &[&str] = &[
    "invalid",
    "unauthenticated",
    "forbidden",
    "not_found",
    "conflict",
    "failed_precondition",
    "limited",
    "overloaded",
    "unavailable",
    "unknown",
];
/// Who may open connections: the client itself, and the command line's requests to a server of ours.
const CALLERS: &[&str] = &["platform/client/", "app/src/demo.rs", "app/src/limits.rs"];
/// Constructors whose code comes second, after the kind: `kernel::Error`'s general one, and the command line's own failures.
const CONSTRUCTORS_WITH_KIND: &[&str] = &["Error::new", "Failure::new"];

/// A text file, by its path from the root of the repository.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The folder of its crate: `platform/kernel`, `modules/orders`, `app`.
    fn crate_folder(&self) -> &str {
        let parts = if self.path.starts_with("platform/") || self.path.starts_with("modules/") { 2 } else { 1 };
        let end = self.path.match_indices('/').nth(parts - 1).map_or(self.path.len(), |(at, _)| at);
        &self.path[..end]
    }

    /// Its crate's short name: `kernel`, `orders`, `app`.
    fn crate_name(&self) -> &str {
        self.crate_folder().rsplit('/').next().unwrap_or_default()
    }
}

/// What the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
}

/// A broken rule, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Tree {
    /// Reads the sources and documents under `root`.
    pub(crate) fn read(root: &Path) -> Outcome<Tree> {
        let mut tree = Tree::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let wrong = |error| format!("{}: {error}", folder.display());
            for entry in fs::read_dir(&folder).map_err(wrong)? {
                let path = entry.map_err(wrong)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() {
                    // Nobody's source: what cargo builds, the repository itself, editors' and tools' folders, snapshots and data.
                    if name != "target" && (!name.starts_with('.') || name == ".ci") {
                        folders.push(path);
                    }
                    continue;
                }
                let is_text = [".rs", ".toml", ".sql", ".md"].iter().any(|ending| name.ends_with(ending)) || folder.ends_with(".ci");
                let Some(relative) = path.strip_prefix(root).ok().filter(|_| is_text) else { continue };
                let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                tree.files.push(File { path: relative.to_string_lossy().into_owned(), text });
            }
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Rust that ships, without what is only compiled for tests: by `#[cfg(test)]`, by the path, or by being the testkit, xtask or bench.
    fn shipped(&self) -> Vec<(&File, Source)> {
        let mut sources: Vec<(&File, Source)> = self
            .rust()
            .filter(|file| !is_test(&file.path) && !matches!(file.crate_name(), "testkit" | "xtask" | "bench"))
            .map(|file| (file, Source::read(&file.text).without_tests()))
            .collect();
        let for_tests: Vec<String> =
            sources.iter().flat_map(|(file, source)| source.test_modules.iter().map(|name| module_path(&file.path, name))).collect();
        sources.retain(|(file, _)| {
            !for_tests.iter().any(|path| file.path == format!("{path}.rs") || file.path.starts_with(&format!("{path}/")))
        });
        sources
    }
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}

/// Where the module `name`, declared in `path`, is found (without its ending).
fn module_path(path: &str, name: &str) -> String {
    let folder = match path.rsplit_once('/') {
        Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder,
        _ => path.trim_end_matches(".rs"),
    };
    format!("{folder}/{name}")
}

/// Every rule, in the order in which it is told.
const RULES: &[fn(&Tree) -> Vec<Finding>] =
    &[edges, file_headers, promises, wall_clock, raw_clients, unfinished, error_codes, tables, problems_in_order, no_leftover_problems];

/// Every broken rule of the tree, sorted by place.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let findings: BTreeSet<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.into_iter().collect()
}

/// Checks the tree under `root`. Says nothing when all is well.
pub(crate) fn run(root: &Path) -> Outcome {
    let findings = check(&Tree::read(root)?);
    for finding in &findings {
        say(&finding.to_string());
    }
    match findings.len() {
        0 => Ok(()),
        number => Err(format!("tidy: {number} found")),
    }
}

/// A finding at byte `at` of `file`.
fn finding(file: &File, at: usize, message: impl Into<String>) -> Finding {
    Finding { path: file.path.clone(), line: line_of(&file.text, at), message: message.into() }
}

/// Crates of the workspace use each other only along the listed edges, and no listed crate is gone.
fn edges(tree: &Tree) -> Vec<Finding> {
    let Some(list) = tree.get(EDGES) else {
        return vec![Finding { path: EDGES.into(), line: 1, message: "the list of allowed edges is missing".into() }];
    };
    let parsed: toml::Table = match list.text.parse() {
        Ok(table) => table,
        Err(error) => return vec![finding(list, 0, format!("not TOML: {error}"))],
    };
    let allowed = |section: &str, name: &str| -> Option<Vec<String>> {
        let names = parsed.get(section)?.get(name)?.as_array()?;
        Some(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    };
    let manifests: Vec<&File> = tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    let crates: BTreeSet<&str> = manifests.iter().map(|file| file.crate_name()).collect();
    let mut found = Vec::new();

    for name in ["uses", "tests"].iter().filter_map(|section| parsed.get(*section)?.as_table()).flat_map(|table| table.keys()) {
        if !crates.contains(name.as_str()) {
            found.push(finding(list, list.text.find(&format!("\n{name} =")).map_or(0, |at| at + 1), format!("there is no crate {name}")));
        }
    }
    for manifest in manifests {
        let name = manifest.crate_name();
        let table: toml::Table = match manifest.text.parse() {
            Ok(table) => table,
            Err(error) => {
                found.push(finding(manifest, 0, format!("not TOML: {error}")));
                continue;
            }
        };
        let Some(uses) = allowed("uses", name) else {
            found.push(finding(manifest, 0, format!("{EDGES} has no line for {name}")));
            continue;
        };
        let in_tests = allowed("tests", name).unwrap_or_default();
        for (section, used) in dependencies(&table) {
            let house = used.strip_prefix("brandos-").unwrap_or(&used);
            let ok = uses.iter().any(|u| u == house)
                || (section == "dev-dependencies" && (in_tests.iter().any(|u| u == house) || house == name));
            if crates.contains(house) && !ok {
                let at = find_word(&manifest.text, &used).unwrap_or(0);
                found.push(finding(manifest, at, format!("{name} may not use {house} ({section}): {EDGES} lists the allowed edges")));
            }
        }
    }
    found
}

/// The names of all dependencies in a manifest, with the section that they are in; those of targets too.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let targets = manifest.get("target").and_then(|t| t.as_table()).into_iter().flat_map(|t| t.values());
        let tables = targets.filter_map(|t| t.get(section)).chain(manifest.get(section)).filter_map(|t| t.as_table());
        for (key, value) in tables.flatten() {
            // A renamed dependency is known by its package.
            let package = value.get("package").and_then(|p| p.as_str()).unwrap_or(key);
            found.push((section, package.to_owned()));
        }
    }
    found
}

/// Every Rust file begins by saying what it is.
fn file_headers(tree: &Tree) -> Vec<Finding> {
    let without = tree.rust().filter(|file| !file.text.starts_with("//! "));
    without.map(|file| finding(file, 0, "a file begins with a `//!` line that says what it is")).collect()
}

/// The head of every crate of the house says what it promises and what it must never know.
fn promises(tree: &Tree) -> Vec<Finding> {
    let libraries = tree.rust().filter(|file| file.path.ends_with("/src/lib.rs"));
    let mut found = Vec::new();
    for file in libraries {
        let head: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        for part in ["Promises:", "Must never know:"] {
            if !head.contains(part) {
                found.push(finding(file, 0, format!("the head of lib.rs has no `{part}`")));
            }
        }
    }
    found
}

/// Whatever calls out goes through the client, and so under a policy: nothing else opens connections by itself. The store and the caches
/// have protocols of their own; tools and tests talk to our own servers.
fn raw_clients(tree: &Tree) -> Vec<Finding> {
    let raw = ["hyper_util::client", "hyper::client", "TcpStream::connect", "reqwest", "ureq"];
    let mut found = Vec::new();
    for (file, source) in tree.shipped() {
        let own = CALLERS.iter().any(|path| file.path.starts_with(path));
        if own || !(file.path.starts_with("platform/") || file.path.starts_with("modules/") || file.path.starts_with("app/src/")) {
            continue;
        }
        for name in raw {
            let message = format!("`{name}` calls out without a policy: use the crate client");
            found.extend(find_word(&source.code, name).map(|at| finding(file, at, message.clone())));
        }
    }
    found
}

/// Time is a parameter: nothing but the kernel's clock reads the wall clock, in Rust or in SQL.
fn wall_clock(tree: &Tree) -> Vec<Finding> {
    let in_rust = ["SystemTime::now", "Timestamp::now", "Zoned::now", "Utc::now", "Local::now"];
    let in_sql = ["now()", "clock_timestamp()", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "datetime('now"];
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !CLOCKS.contains(&file.path.as_str()) && file.crate_name() != "xtask") {
        let source = Source::read(&file.text);
        for name in in_rust {
            found.extend(
                find_word(&source.code, name).map(|at| finding(file, at, format!("`{name}` reads the wall clock: take a kernel::Clock"))),
            );
        }
        for literal in source.literals.iter().filter(|literal| is_sql(&literal.text)) {
            for name in in_sql {
                found.extend(
                    find_sql(&literal.text, name)
                        .map(|_| finding(file, literal.at, format!("SQL reads the clock by `{name}`: bind the time"))),
                );
            }
        }
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with(".sql")) {
        for name in in_sql {
            found.extend(find_sql(&file.text, name).map(|at| finding(file, at, format!("SQL reads the clock by `{name}`: bind the time"))));
        }
    }
    found
}

fn is_sql(text: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE"].iter().any(|word| find_word(text, word).is_some())
}

/// As [`find_word`], in whatever case SQL is written.
fn find_sql(text: &str, name: &str) -> Option<usize> {
    find_word(&text.to_ascii_uppercase(), &name.to_ascii_uppercase())
}

/// Nothing is left to do later: what is open is an issue, not a remark.
fn unfinished(tree: &Tree) -> Vec<Finding> {
    // In two pieces, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let files = tree.files.iter();
    files
        .flat_map(|file| {
            marks
                .iter()
                .filter_map(|mark| find_word(&file.text, mark).map(|at| finding(file, at, format!("`{mark}`: do it, or open an issue"))))
        })
        .collect()
}

/// A use of an error code: where, and the code if it is a literal.
struct CodeUse<'a> {
    file: &'a File,
    at: usize,
    code: Option<String>,
}

/// Every place that makes an error in code that ships.
fn code_uses<'a>(shipped: &'a [(&'a File, Source)]) -> Vec<CodeUse<'a>> {
    let mut uses = Vec::new();
    for (file, source) in shipped {
        let first = CONSTRUCTORS.iter().map(|name| (format!("Error::{name}("), false));
        let second = CONSTRUCTORS_WITH_KIND.iter().map(|name| (format!("{name}("), true));
        for (call, after_kind) in first.chain(second) {
            for (start, _) in source.code.match_indices(&call) {
                let named =
                    start > 0 && (source.code.as_bytes()[start - 1].is_ascii_alphanumeric() || source.code.as_bytes()[start - 1] == b'_');
                if named {
                    continue; // such as `FieldError::`
                }
                let mut at = start + call.len();
                if after_kind {
                    at += argument_length(&source.code[at..]) + 1;
                }
                at += source.code.get(at..).map_or(0, |rest| rest.len() - rest.trim_start().len());
                let code = source.literal_at(at).or_else(|| constant(shipped, file, source.code.get(at..)?)).map(str::to_owned);
                uses.push(CodeUse { file, at, code });
            }
        }
    }
    uses
}

/// The literal that the constant has whose name, with its path or without, begins `rest`; of `file`'s own crate.
fn constant<'a>(shipped: &'a [(&File, Source)], file: &File, rest: &str) -> Option<&'a str> {
    let path = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')?];
    let name = path.rsplit("::").next().filter(|name| !name.is_empty() && !name.contains(|c: char| c.is_ascii_lowercase()))?;
    shipped.iter().filter(|(other, _)| other.crate_folder() == file.crate_folder()).find_map(|(_, source)| {
        let at = find_word(&source.code, &format!("const {name}"))?;
        let end = at + source.code[at..].find(';')?;
        source.literals.iter().find(|literal| (at..end).contains(&literal.at)).map(|literal| literal.text.as_str())
    })
}

/// How long the first argument is: to the comma or bracket that ends it.
fn argument_length(rest: &str) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    rest.len()
}

/// The codes that docs/problems.md explains, with the byte where each entry begins.
fn entries(problems: &File) -> Vec<(String, usize)> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in problems.text.split_inclusive('\n') {
        if let Some(code) = line.strip_prefix("### ") {
            found.push((code.trim().trim_matches('`').to_owned(), at));
        }
        at += line.len();
    }
    found
}

/// Every error code is a literal or a constant of the form `module.reason` where the error is made, explained in docs/problems.md; and every code that is explained there exists.
fn error_codes(tree: &Tree) -> Vec<Finding> {
    let Some(problems) = tree.get(PROBLEMS) else {
        return vec![Finding { path: PROBLEMS.into(), line: 1, message: "the list of error codes is missing".into() }];
    };
    let entries = entries(problems);
    let shipped = tree.shipped();
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for CodeUse { file, at, code } in code_uses(&shipped) {
        match code {
            None if file.path == ERROR => {}
            None => found.push(finding(file, at, "an error's code is a literal, or a constant of the crate, where the error is made")),
            Some(code) => {
                if !is_code(&code) {
                    found.push(finding(file, at, format!("`{code}` is not of the form module.reason")));
                }
                if !entries.iter().any(|(entry, _)| *entry == code) {
                    found.push(finding(file, at, format!("{PROBLEMS} has no entry `### {code}`")));
                }
                used.insert(code);
            }
        }
    }
    found.extend(
        entries
            .iter()
            .filter(|(code, _)| !used.contains(code))
            .map(|(code, at)| finding(problems, *at, format!("nothing makes the error `{code}` any more"))),
    );
    found
}

fn is_code(code: &str) -> bool {
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    code == "internal" || code.split_once('.').is_some_and(|(module, reason)| word(module) && word(reason))
}

/// Entries are sorted, each once, each with words under it.
fn problems_in_order(tree: &Tree) -> Vec<Finding> {
    let Some(problems) = tree.get(PROBLEMS) else { return Vec::new() };
    let entries = entries(problems);
    let mut found: Vec<Finding> = entries
        .windows(2)
        .filter(|pair| pair[0].0 >= pair[1].0)
        .map(|pair| {
            finding(problems, pair[1].1, format!("`{}` does not come after `{}`: entries are sorted, each once", pair[1].0, pair[0].0))
        })
        .collect();
    for (code, at) in &entries {
        let body = problems.text[*at..].split_once('\n').map_or("", |(_, rest)| rest.split("\n#").next().unwrap_or_default());
        if body.trim().len() < 20 {
            found.push(finding(problems, *at, format!("`{code}` says too little: what it means, and what to do")));
        }
    }
    found
}

/// Helpers' lists of problems have been merged into the one.
fn no_leftover_problems(tree: &Tree) -> Vec<Finding> {
    let left = tree.files.iter().filter(|file| file.path.starts_with("docs/problems.md.d/"));
    left.map(|file| finding(file, 0, format!("merge this into {PROBLEMS}"))).collect()
}

/// Tables are named after their crate, and mentioned only in its own SQL (sql.rs or sql/, migrations, tests).
fn tables(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".sql") && file.path.contains("/migrations/")) {
        for (table, at) in created_tables(&file.text) {
            let owner = file.crate_name();
            // The app has no domain of its own: its tables are named after what they are for, and not after another crate.
            let prefix = table.split('_').next().unwrap_or_default();
            let of_another =
                owner != "app" || tree.files.iter().any(|file| file.path.ends_with("/Cargo.toml") && file.crate_name() == prefix);
            if prefix != owner && of_another {
                found.push(finding(file, at, format!("the table {table} is not named {owner}_...")));
            }
            owners.insert(table, owner);
        }
    }
    for file in tree.rust().filter(|file| file.crate_name() != "xtask") {
        let (source, owner) = (Source::read(&file.text), file.crate_name());
        let in_module = file.path.starts_with("modules/");
        let is_sql = is_test(&file.path) || file.path.ends_with("/sql.rs") || file.path.contains("/sql/");
        let in_tests = {
            let live = Source::read(&file.text).without_tests();
            move |at: usize| !live.literals.iter().any(|literal| literal.at == at)
        };
        for literal in &source.literals {
            for (table, table_owner) in &owners {
                if find_word(&literal.text, table).is_none() {
                    continue;
                }
                // A test outside the modules (black box, faults, benchmarks) may look into the database.
                if *table_owner != owner && (in_module || !(is_test(&file.path) || owner == "bench" || in_tests(literal.at))) {
                    found.push(finding(file, literal.at, format!("{table} belongs to {table_owner}: use its api or its events")));
                } else if *table_owner == owner && literal.text != *table && in_module && !is_sql && !in_tests(literal.at) {
                    found.push(finding(file, literal.at, format!("{table}: a module's statements are constants in its sql.rs")));
                }
            }
        }
    }
    found
}

/// The names after `CREATE TABLE`, with their places.
fn created_tables(sql: &str) -> Vec<(String, usize)> {
    let upper = sql.to_ascii_uppercase();
    let after = |at: usize| {
        let rest = &sql[at..];
        let rest = rest.trim_start();
        let rest = rest.get(..13).filter(|start| start.eq_ignore_ascii_case("if not exists")).map_or(rest, |_| rest[13..].trim_start());
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    upper.match_indices("CREATE TABLE").map(|(at, words)| (after(at + words.len()), at)).filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small house in which every rule is kept.
    fn good() -> Tree {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        Tree {
            files: vec![
                file(
                    EDGES,
                    "[uses]\nkernel = []\norders = [\"kernel\"]\ncatalog = [\"kernel\"]\ntestkit = [\"kernel\"]\n[tests]\norders = [\"testkit\"]\n",
                ),
                file(
                    PROBLEMS,
                    "# Problems\n\n### orders.late\n\nThe order came too late. Order again.\n\n### orders.small\n\nThe order is too small. Order more.\n",
                ),
                file("platform/kernel/Cargo.toml", "[package]\nname = \"brandos-kernel\"\n"),
                file("platform/kernel/src/lib.rs", "//! Words.\n//! Promises: a.\n//! Must never know: b.\n"),
                file("platform/testkit/Cargo.toml", "[dependencies]\nkernel.workspace = true\n"),
                file("modules/catalog/Cargo.toml", "[dependencies]\nkernel.workspace = true\n"),
                file("modules/catalog/migrations/0001_first.sql", "CREATE TABLE catalog_variants (tenant_id BIGINT);"),
                file(
                    "modules/orders/Cargo.toml",
                    "[dependencies]\nkernel.workspace = true\nserde = \"1\"\n[dev-dependencies]\ntestkit.workspace = true\n",
                ),
                file("modules/orders/src/lib.rs", "//! Orders.\n//! Promises: a.\n//! Must never know: b.\n"),
                file("modules/orders/src/sql.rs", "//! Statements.\npub const A: &str = \"SELECT a FROM orders_orders\";\n"),
                file(
                    "modules/orders/src/model.rs",
                    "//! Model.\nfn f() { Error::conflict(\"orders.late\", \"too late\"); kernel::Error::new(kind(1, 2),\n  \"orders.small\", \"x\"); FieldError::invalid(a); }\n#[cfg(test)]\nmod tests { fn g() { Error::invalid(\"no.entry\", \"\"); } }\n",
                ),
                file("modules/orders/migrations/0001_first.sql", "CREATE TABLE IF NOT EXISTS orders_orders (tenant_id BIGINT);"),
            ],
        }
    }

    /// The good house with `text` planted at `path`; what tidy says.
    fn planted(path: &str, text: &str) -> Vec<String> {
        let mut tree = good();
        tree.files.retain(|file| file.path != path);
        tree.files.push(File { path: path.into(), text: text.into() });
        check(&tree).iter().map(Finding::to_string).collect()
    }

    #[track_caller]
    fn caught(path: &str, text: &str, message: &str) {
        let found = planted(path, text);
        assert!(found.iter().any(|finding| finding.contains(message)), "{message} is not among {found:#?}");
    }

    #[test]
    fn a_tidy_house_passes() {
        assert_eq!(check(&good()).iter().map(Finding::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[test]
    fn edges_are_kept() {
        for (path, text, message) in [
            (
                "modules/catalog/Cargo.toml",
                "[dependencies]\norders.workspace = true\n",
                "modules/catalog/Cargo.toml:2: catalog may not use orders (dependencies)",
            ),
            (
                "platform/kernel/Cargo.toml",
                "[dependencies]\nx = { package = \"brandos-orders\", path = \"../..\" }\n",
                "kernel may not use orders",
            ),
            (
                "modules/catalog/Cargo.toml",
                "[dev-dependencies]\ntestkit.workspace = true\n",
                "catalog may not use testkit (dev-dependencies)",
            ),
            ("modules/orders/Cargo.toml", "[dependencies]\ntestkit.workspace = true\n", "orders may not use testkit (dependencies)"),
            (
                "modules/catalog/Cargo.toml",
                "[target.'cfg(unix)'.build-dependencies]\norders.workspace = true\n",
                "catalog may not use orders (build-dependencies)",
            ),
            ("modules/payments/Cargo.toml", "[dependencies]\n", "xtask/edges.toml has no line for payments"),
            (
                EDGES,
                "[uses]\nkernel = []\norders = [\"kernel\"]\ncatalog = [\"kernel\"]\ntestkit = [\"kernel\"]\ngone = []\n",
                "xtask/edges.toml:6: there is no crate gone",
            ),
            (EDGES, "nonsense", "not TOML"),
        ] {
            caught(path, text, message);
        }
    }

    #[test]
    fn files_and_crates_say_what_they_are() {
        caught("modules/orders/src/model.rs", "use x;\n", "model.rs:1: a file begins with a `//!` line");
        caught("modules/orders/src/lib.rs", "//! Orders.\n\n//! Promises: too late.\n", "has no `Promises:`");
        caught("modules/orders/src/lib.rs", "//! Orders.\n//! Promises: a.\n", "has no `Must never know:`");
    }

    #[test]
    fn the_wall_clock_is_not_read() {
        for text in [
            "//! X.\nfn f() { std::time::SystemTime::now(); }",
            "//! X.\nfn f() { jiff::Timestamp::now(); }",
            "//! X.\n#[cfg(test)]\nmod tests { fn f() { Zoned::now(); } }",
        ] {
            caught("modules/orders/src/x.rs", text, "reads the wall clock");
        }
        caught(
            "modules/orders/src/sql.rs",
            "//! X.\nconst A: &str = \"SELECT now() FROM orders_orders\";",
            "sql.rs:2: SQL reads the clock by `now()`",
        );
        caught(
            "modules/orders/migrations/0002_b.sql",
            "SELECT 1;\nUPDATE orders_orders SET a = current_timestamp;",
            "0002_b.sql:2: SQL reads the clock",
        );
        assert!(planted(CLOCKS[0], "//! Clock.\nfn f() { SystemTime::now(); }").is_empty());
        assert!(planted("modules/orders/src/x.rs", "//! X, not SystemTime::now().\nfn f() { tx.now(); \"call now()\" }").is_empty());
    }

    #[test]
    fn nothing_calls_out_by_itself() {
        caught(
            "modules/orders/src/x.rs",
            "//! X.\nuse hyper_util::client::legacy::Client;",
            "x.rs:2: `hyper_util::client` calls out without a policy",
        );
        caught("platform/web/src/x.rs", "//! X.\nasync fn f() { tokio::net::TcpStream::connect(a).await; }", "calls out without a policy");
        assert!(planted("platform/client/src/http.rs", "//! X.\nuse hyper_util::client::legacy::Client;").is_empty());
        assert!(
            planted("modules/orders/src/x.rs", "//! X.\n#[cfg(test)]\nmod tests { use hyper_util::client::legacy::Client; }").is_empty()
        );
    }

    #[test]
    fn nothing_is_left_for_later() {
        caught("docs/guide.md", &format!("Guide\n\n{}: write it", concat!("TO", "DO")), "docs/guide.md:3:");
        caught("modules/orders/src/x.rs", &format!("//! X.\n// {} x", concat!("FIX", "ME")), "x.rs:2:");
        assert!(planted("docs/guide.md", &format!("{}LIST", concat!("TO", "DO"))).is_empty());
    }

    #[test]
    fn every_error_code_is_explained() {
        for (text, message) in [
            ("//! X.\nfn f() { Error::invalid(\"orders.odd\", \"\"); }", "x.rs:2: docs/problems.md has no entry `### orders.odd`"),
            (
                "//! X.\nfn f() { kernel::Error::new(\n    ErrorKind::Limited,\n    \"orders.many\",\n    \"\"); }",
                "x.rs:4: docs/problems.md has no entry `### orders.many`",
            ),
            ("//! X.\nfn f() { Failure::new(Exit::Usage, \"cli.odd\", \"\"); }", "no entry `### cli.odd`"),
            ("//! X.\nfn f(c: &'static str) { Error::conflict(c, \"\"); }", "an error's code is a literal"),
            (
                "//! X.\nconst MANY: &str = \"orders.many\";\nfn f() { Error::conflict(crate::x::MANY, \"\"); }",
                "no entry `### orders.many`",
            ),
            ("//! X.\nfn f() { Error::conflict(\"Orders-Late\", \"\"); }", "`Orders-Late` is not of the form module.reason"),
        ] {
            caught("modules/orders/src/x.rs", text, message);
        }
        // What is only for tests needs no entry.
        assert!(planted("modules/orders/src/tests.rs", "//! X.\nfn f() { Error::invalid(\"orders.odd\", \"\"); }").is_empty());
        let mut tree = good();
        let add = |tree: &mut Tree, path: &str, text: &str| tree.files.push(File { path: path.into(), text: text.into() });
        add(&mut tree, "modules/orders/src/simulation.rs", "//! X.\nfn f() { Error::invalid(\"orders.odd\", \"\"); }");
        assert_eq!(check(&tree).len(), 1);
        add(&mut tree, "modules/orders/src/main.rs", "//! X.\n#[cfg(test)]\nmod simulation;");
        assert!(check(&tree).is_empty());
    }

    #[test]
    fn every_explained_code_exists_in_order() {
        let entry = |code: &str| format!("### {code}\n\nThe order came too late. Order again.\n\n");
        caught(
            PROBLEMS,
            &[entry("orders.gone"), entry("orders.late"), entry("orders.small")].concat(),
            "problems.md:1: nothing makes the error `orders.gone` any more",
        );
        caught(PROBLEMS, &[entry("orders.small"), entry("orders.late")].concat(), "`orders.late` does not come after `orders.small`");
        caught(PROBLEMS, &[entry("orders.late"), entry("orders.late"), entry("orders.small")].concat(), "each once");
        caught(PROBLEMS, &[entry("orders.late"), "### orders.small\n\nSmall.\n".into()].concat(), "`orders.small` says too little");
        caught("docs/problems.md.d/orders.md", "### orders.late\n", "merge this");
    }

    #[test]
    fn tables_stay_at_home() {
        let reads = |table: &str| format!("//! X.\nconst A: &str = \"SELECT a FROM {table} WHERE b\";");
        caught("modules/catalog/src/sql.rs", &reads("orders_orders"), "sql.rs:2: orders_orders belongs to orders");
        caught("modules/catalog/src/tests.rs", &reads("orders_orders"), "orders_orders belongs to orders");
        caught("platform/testkit/src/a.rs", &reads("orders_orders"), "orders_orders belongs to orders");
        caught("modules/orders/src/queries.rs", &reads("orders_orders"), "a module's statements are constants in its sql.rs");
        caught(
            "modules/orders/migrations/0002_b.sql",
            "\nCREATE TABLE lines (a BIGINT);",
            "0002_b.sql:2: the table lines is not named orders_...",
        );
        caught("app/migrations/0001_a.sql", "CREATE TABLE orders_runs (a BIGINT);", "the table orders_runs is not named app_...");
        assert!(planted("app/migrations/0001_a.sql", "CREATE TABLE imports_runs (a BIGINT);").is_empty());
        assert!(planted("modules/orders/src/tests.rs", &reads("orders_orders")).is_empty());
        assert!(planted("modules/orders/src/queries.rs", &reads("orders_orders_of_old")).is_empty());
        // The bare name is no statement.
        assert!(planted("modules/orders/src/queries.rs", "//! X.\nconst TABLE: &str = \"orders_orders\";").is_empty());
    }
}

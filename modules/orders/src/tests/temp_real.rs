//! Temporary.
use crate::api::*;
use kernel::Actor;
use std::collections::HashSet;
use testkit::{Engine, Setup, TestApp};

async fn go(engine: Engine) {
    let Some(app) = TestApp::start(engine, Setup::new(vec![crate::module()])).await else { return };
    let tenant = app.tenant("acme");
    let text = std::fs::read_to_string("/tmp/orders-pg/retail.tsv").unwrap();
    let mut docs: Vec<ImportDocument> = Vec::new();
    for row in text.lines() {
        let c: Vec<&str> = row.split('\t').collect();
        if docs.last().is_none_or(|d| d.external_ref != c[0]) {
            docs.push(ImportDocument {
                kind: if c[0].starts_with('C') { DocumentKind::CreditNote } else if c[0].starts_with('A') { DocumentKind::Adjustment } else { DocumentKind::Order },
                external_ref: c[0].to_owned(), at: c[4].parse().unwrap(), country: c[7].to_owned(), currency: "GBP".parse().unwrap(),
                customer_ref: (!c[6].is_empty()).then(|| c[6].to_owned()), state: State::Closed, reason: "imported".to_owned(), lines: vec![],
            });
        }
        docs.last_mut().unwrap().lines.push(NewLine { line: None, sku: c[1].to_owned(), variant_id: None, description: c[2].to_owned(), quantity: c[3].parse().unwrap(), unit_price: c[5].parse().unwrap(), discount_minor: 0, tax_minor: 0 });
    }
    let mut out = ImportOutcome::default();
    let start = std::time::Instant::now();
    for chunk in docs.chunks(200) {
        let refs: HashSet<&String> = chunk.iter().filter_map(|d| d.customer_ref.as_ref()).collect();
        let customers = refs.into_iter().map(|r| ImportCustomer { external_ref: r.clone(), name: format!("Customer {r}"), email: None, country: String::new() }).collect();
        let batch = ImportBatch { customers, documents: chunk.to_vec(), by: By { actor: Actor::SYSTEM, request_id: None } };
        let o = app.store().write(store::Call::new(tenant).deadline_ms(60000).bytes(1 << 20), import_documents, batch).await.unwrap();
        out.orders += o.orders; out.credit_notes += o.credit_notes; out.adjustments += o.adjustments; out.lines += o.lines; out.customers += o.customers; out.already_there += o.already_there;
        out.rejected.extend(o.rejected);
    }
    println!("{engine:?} import {:?} {:?}", start.elapsed(), out);
    app.drained().await;
    println!("drained {:?}", start.elapsed());
    let t = std::time::Instant::now();
    let mut s = app.store().read(tenant, summary).await.unwrap();
    s.by_country.retain(|c| ["United Kingdom", "Netherlands", "EIRE"].contains(&c.country.as_str()));
    println!("summary {:?} {s:?}", t.elapsed());
    let t = std::time::Instant::now();
    for g in ["day", "product", "country"] {
        let r = app.client("acme", &["*"]).get(format!("/api/v1/reports/daily-sales?from=2010-12-01&to=2011-12-31&group_by={g}&limit=2")).send().await.expect(200);
        println!("{:?} {}", t.elapsed(), r.json);
    }
    let t = std::time::Instant::now();
    for a in crate::audits::audits() {
        let web::AuditCheck::Tenant(f) = a.check else { continue };
        println!("{} {:?} {:?}", a.name, app.store().read(tenant, f).await, t.elapsed());
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() { go(Engine::Sqlite).await }
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() { go(Engine::Postgres).await }

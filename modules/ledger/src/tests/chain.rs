//! An exported journal is proven by its seals, and every edit of it is found.

use crate::api::{self, JournalHead, NewAccount, Report, SealKey, Verifier};
use crate::model::*;
use kernel::{Clock as _, Currency, TenantId};
use serde_json::{Value, json};
use store::{Read, Tx};
use testkit::{Setup, TestApp};

fn some_entries(tx: &mut Tx<'_>, round: &i64) -> kernel::Result<()> {
    let euro: Currency = "EUR".parse()?;
    let bank = api::ensure_account(tx, &NewAccount::new("bank", AccountType::Asset, euro).unbounded())?.account_id;
    let alice = api::open_account(tx, &NewAccount::new(format!("wallet:{round}"), AccountType::Liability, euro))?.account_id;
    let fees = api::ensure_account(tx, &NewAccount::new("fees", AccountType::Income, euro))?.account_id;
    let details = Details { description: Some(format!("round {round}")), ..Details::default() };
    api::post(tx, &Request::transfer(bank, alice, 1_000).details(details))?;
    let hold = api::post(tx, &Request::hold(alice, bank, 300, tx.now().plus_ms(60_000)))?;
    let capture = api::post(tx, &Request::capture(hold.transaction_id, Some(200)))?;
    api::post(tx, &Request::new(Operation::Reverse { transaction_id: capture.transaction_id, amount_minor: Some(50) }))?;
    let posting = |account_id, side, amount_minor| Posting { account_id, side, amount_minor, currency: None };
    let postings = vec![posting(alice, Side::Debit, 10), posting(fees, Side::Credit, 4), posting(bank, Side::Credit, 6)];
    api::post(tx, &Request::new(Operation::Journal { postings }))?;
    Ok(())
}

/// The lines of an export: the journal, seals, accounts, transactions, trial balance.
fn export(read: &mut Read<'_>, tenant: TenantId) -> kernel::Result<Vec<Value>> {
    let mut lines = vec![json!({ "journal": JournalHead { version: 1, tenant_id: tenant } })];
    lines.extend(api::seals_after(read, 0, 100)?.iter().map(|seal| json!({ "seal": seal })));
    lines.extend(api::accounts(read, None, 100)?.iter().map(|account| json!({ "account": account })));
    lines.extend(api::transactions_after(read, None, 100)?.iter().map(|transaction| json!({ "transaction": transaction })));
    lines.push(json!({ "trial_balance": api::trial_balance(read)? }));
    Ok(lines)
}

fn verify(lines: &[Value], verifier: Verifier) -> Report {
    let mut verifier = verifier;
    lines.iter().for_each(|line| verifier.line(&line.to_string()));
    verifier.finish()
}

/// The places of the lines of a kind.
fn places(lines: &[Value], kind: &str) -> Vec<usize> {
    lines.iter().enumerate().filter(|(_, line)| line.get(kind).is_some()).map(|(place, _)| place).collect()
}

async fn sealed(app: &TestApp, tenant: TenantId, key: &SealKey) {
    while api::seal(app.store(), tenant, key, app.clock().now()).await.unwrap() {}
}

testkit::both_engines! {
    setup: || Setup::new(vec![crate::module()]);

    async fn every_edit_of_a_sealed_journal_is_found(app: TestApp) {
        let (tenant, other) = (app.tenant("acme"), app.tenant("other"));
        let key = SealKey::from_seed(&[7; 32]);
        let write = async |tenant: TenantId, round: i64| app.store().write(tenant, some_entries, round).await.unwrap();
        let to_seal = async || app.store().read_shard(0, |read| api::tenants_to_seal(read, None, 10)).await.unwrap();
        write(other, 1).await;
        for round in 0..3 {
            write(tenant, round).await;
            assert!(to_seal().await.contains(&tenant));
            sealed(&app, tenant, &key).await;
        }
        assert_eq!(to_seal().await, [other]);
        // Whoever seals beside somebody else has done nothing.
        let (one, two) = tokio::join!(sealed(&app, tenant, &key), sealed(&app, tenant, &key));
        assert_eq!((one, two), ((), ()));
        write(tenant, 3).await;
        let lines = app.store().read(tenant, move |read| export(read, tenant)).await.unwrap();
        let of = |kind| places(&lines, kind);
        assert_eq!((of("seal").len(), of("account").len(), of("transaction").len()), (3, 6, 20));
        let report = verify(&lines, Verifier::new().signed_by(&key.public_key()));
        assert!(report.ok, "{:?}", report.faults);
        assert_eq!((report.transactions, report.unsealed, report.seals, report.public_keys), (20, 5, 3, vec![key.public_key()]));
        let head = report.head.unwrap();

        // Each edit, and what tells of it.
        type Edit = Box<dyn Fn(&mut Vec<Value>)>;
        let edits: Vec<(&str, Edit)> = vec![
            ("are not those of seal", Box::new({ let at = of("transaction")[1]; move |l| l[at]["transaction"]["description"] = json!("another") })),
            ("are not those of seal", Box::new({ let at = of("transaction")[1]; move |l| l[at]["transaction"]["effective_at"] = json!("2020-01-01T00:00:00Z") })),
            ("does not sum to zero", Box::new({ let at = of("transaction")[0]; move |l| l[at]["transaction"]["postings"][0]["amount_minor"] = json!(1_001) })),
            ("are not those of seal", Box::new({ let at = of("transaction")[0]; move |l| for side in ["/0", "/1"] { l[at]["transaction"]["postings"].pointer_mut(side).unwrap()["amount_minor"] = json!(1_001); } })),
            ("do not give the trial balance", Box::new({ let at = of("transaction")[15]; move |l| for side in ["/0", "/1"] { l[at]["transaction"]["postings"].pointer_mut(side).unwrap()["amount_minor"] = json!(1_001); } })),
            ("is not in order", Box::new({ let at = of("transaction")[6]; move |l| l.swap(at, at + 1) })),
            ("are not those of seal", Box::new({ let at = of("transaction")[6]; move |l| { l.remove(at); } })),
            ("are missing", Box::new({ let at = of("transaction")[14]; move |l| { l.drain(at..=at + 5); } })),
            ("is not in order", Box::new({ let at = of("transaction")[6]; move |l| { let again = l[at].clone(); l.insert(at, again); } })),
            ("are not those of seal", Box::new({ let at = of("account")[3]; move |l| l[at]["account"]["type"] = json!("asset") })),
            ("are not those of seal", Box::new({ let at = of("account")[3]; move |l| { l.remove(at); } })),
            ("is not in the journal", Box::new({ let at = of("account")[0]; move |l| { l.remove(at); } })),
            ("is not signed by its key", Box::new({ let at = of("seal")[1]; move |l| l[at]["seal"]["sealed_at"] = json!("2020-01-01T00:00:00Z") })),
            ("is not signed by its key", Box::new({ let at = of("seal")[1]; move |l| l[at]["seal"]["transactions_head"] = json!("00") })),
            ("does not follow", Box::new({ let at = of("seal")[1]; move |l| { l.remove(at); } })),
            ("does not say whose", Box::new(|l| { l.remove(0); })),
            ("is not signed by its key", Box::new(move |l| l[0]["journal"]["tenant_id"] = json!(other))),
            ("no line of a journal", Box::new(|l| l[3] = json!({ "entry": 1 }))),
            ("no seal has the head", Box::new({ let at = of("seal")[2]; move |l| { l.remove(at); } })),
        ];
        for (fault, edit) in edits {
            let mut edited = lines.clone();
            edit(&mut edited);
            let report = verify(&edited, Verifier::new().signed_by(&key.public_key()).expecting(&head));
            assert!(!report.ok && report.faults.iter().any(|told| told.contains(fault)), "{fault}: {:?}", report.faults);
        }
        // Another's key signs well, and is not the one that is asked for.
        let another = SealKey::from_seed(&[8; 32]);
        let report = verify(&lines, Verifier::new().signed_by(&another.public_key()));
        assert!(report.faults.iter().all(|told| told.contains("by another key")) && report.fault_count == 3, "{:?}", report.faults);
    }
}

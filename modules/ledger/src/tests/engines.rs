//! The table of cases through both databases: what the pure engine decides is what is stored.

use super::cases::{Asked, Case, GivenAccount, START, batches, cases, request, told};
use crate::api::{self, NewAccount};
use crate::model::*;
use kernel::{Clock as _, TenantId};
use std::collections::HashMap;
use store::Tx;
use testkit::{Setup, TestApp};

/// Opens the case's accounts, gives them their balances out of an equity account, and then their limits and states.
fn open(tx: &mut Tx<'_>, given: &[GivenAccount]) -> kernel::Result<HashMap<String, AccountId>> {
    let mut names = HashMap::new();
    for account in given {
        let Some(account_type) = account.account_type else {
            api::limit_owner(tx, &account.name, account.currency, account.limit)?;
            continue;
        };
        let new = NewAccount {
            may_go_negative: account.floor != Some(0),
            negative_limit_minor: account.floor.filter(|floor| *floor > 0),
            owner: account.owner.clone(),
            ..NewAccount::new(account.name.clone(), account_type, account.currency)
        };
        let id = api::open_account(tx, &new)?.account_id;
        if account.balance > 0 {
            let code = format!("opening:{}", account.currency);
            let opening = api::ensure_account(tx, &NewAccount::new(code, AccountType::Equity, account.currency).unbounded())?.account_id;
            let (debit, credit) = if account_type.normal_side() == Side::Debit { (id, opening) } else { (opening, id) };
            api::post(tx, &Request::transfer(debit, credit, account.balance))?;
        }
        if account.limit != Limit::default() {
            api::limit_account(tx, id, account.limit)?;
        }
        if account.status != AccountStatus::Open {
            api::set_account_status(tx, id, account.status)?;
        }
        names.insert(account.name.clone(), id);
    }
    Ok(names)
}

async fn run(app: &TestApp, tenant: TenantId, case: &Case) -> Result<(), String> {
    let told_by = |error: kernel::Error| format!("{error:?}");
    let given = case.accounts.iter().map(|account| GivenAccount { name: account.name.clone(), owner: account.owner.clone(), ..*account });
    let names = app.store().write(tenant, |tx: &mut Tx<'_>, given: &Vec<GivenAccount>| open(tx, given), given.collect()).await;
    let names = names.map_err(told_by)?;
    let mut done: HashMap<String, TransactionId> = HashMap::new();
    let mut outcomes = Vec::new();
    for batch in batches(&case.asked) {
        if let [Asked::WaitSeconds(seconds)] = batch {
            app.clock().advance_ms(seconds * 1_000);
            continue;
        }
        let account = |name: &str| names.get(name).copied().unwrap_or(AccountId::from_i64(9_999_999));
        let by_name = |name: &str| done.get(name).copied().unwrap_or(TransactionId::from_i64(8_888_888));
        let requests: Vec<Request> = batch.iter().filter_map(|asked| request(asked, app.clock().now(), &account, &by_name)).collect();
        let given = if let ([single], false) = (&requests[..], requests[0].linked) {
            vec![api::submit(app.store(), tenant, single.clone()).await]
        } else {
            api::submit_bulk(app.store(), tenant, requests).await.map_err(told_by)?
        };
        for (asked, outcome) in batch.iter().zip(&given) {
            if let (Asked::Request { name, .. }, Ok(receipt)) = (asked, outcome) {
                done.insert(name.clone(), receipt.transaction_id);
            }
        }
        outcomes.extend(given.iter().map(told));
    }
    if outcomes != case.outcomes {
        return Err(format!("gave {}", outcomes.join("; ")));
    }
    for (name, posted, available) in &case.balances {
        let id = names[name];
        let balance = app.store().read(tenant, move |read| api::balance(read, id)).await.map_err(told_by)?;
        if balance.posted_minor != *posted || available.is_some_and(|available| available != balance.available_minor) {
            return Err(format!("{name} has {balance:?}"));
        }
    }
    Ok(())
}

testkit::both_engines! {
    setup: || Setup::new(vec![crate::module()]);

    async fn the_table_holds_on_both_databases(app: TestApp) {
        let mut wrong = Vec::new();
        let mut ran = 0;
        for case in cases() {
            // Sums near the end of 64 bits can't be reached by transactions of a bounded amount.
            if case.accounts.iter().any(|a| a.balance > MAX_AMOUNT_MINOR || a.balance < 0) {
                continue;
            }
            app.clock().advance_ms(START.ms_since(app.clock().now()));
            let tenant = app.tenant(&format!("case-{}", case.line));
            if let Err(why) = run(&app, tenant, &case).await {
                wrong.push(format!("line {}: {}\n   {why}", case.line, case.text));
            }
            ran += 1;
        }
        assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
        assert!(ran >= 150, "only {ran} cases");
        // What is expired by the test's end is written down, and every audit stays well.
        app.clock().advance_ms(500 * 86_400_000);
        for line in cases().iter().map(|case| case.line) {
            let tenant = app.tenant(&format!("case-{line}"));
            while app.store().write(tenant, |tx: &mut Tx<'_>, _: &()| api::expire_holds(tx, 2), ()).await.unwrap() == 2 {}
        }
        let due = app.store().read_shard(0, |read| api::tenants_with_due_holds(read, 10)).await.unwrap();
        assert_eq!(due, []);
    }
}

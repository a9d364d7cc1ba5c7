//! hledger, an accountant's own tool, reads our journal and comes to our balances. Without hledger this is skipped, and says so; in CI that is
//! a failure.

use crate::api::{self, Journal, NewAccount};
use crate::decimal::decimal;
use crate::model::*;
use kernel::{Clock as _, Currency, Rng as _, SeededRng};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use store::{Read, Tx};
use testkit::{Setup, TestApp};

/// What hledger says to a journal; none when it is not installed.
fn hledger(journal: &str, arguments: &[&str]) -> Option<String> {
    let run = Command::new("hledger").args(["-f", "-"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut run) = run else {
        assert!(std::env::var("CI").is_err(), "hledger is not installed, and this is CI");
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "SKIPPED: hledger is not installed (Debian: apt-get install hledger)");
        return None;
    };
    run.stdin.take().unwrap().write_all(journal.as_bytes()).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "hledger refuses the journal");
    Some(String::from_utf8(output.stdout).unwrap())
}

testkit::both_engines! {
    setup: || Setup::new(vec![crate::module()]);

    async fn hledger_comes_to_our_balances(app: TestApp) {
        let tenant = app.tenant("acme");
        let open = |tx: &mut Tx<'_>, _: &()| {
            let [euro, yen, dinar]: [Currency; 3] = ["EUR", "JPY", "KWD"].map(|c| c.parse().expect("a currency"));
            let mut ids = Vec::new();
            for currency in [euro, yen, dinar] {
                for account_type in AccountType::ALL {
                    let code = format!("{}:{currency}", account_type.as_str());
                    ids.push(api::open_account(tx, &NewAccount::new(code, *account_type, currency).unbounded())?.account_id);
                }
                api::open_account(tx, &NewAccount::new(format!("conversion:{currency}"), AccountType::Equity, currency).unbounded())?;
            }
            Ok(ids)
        };
        let ids = app.store().write(tenant, open, ()).await.unwrap();
        let rng = SeededRng::new(7);
        let below = |n: usize| rng.below(n as u64) as usize;
        let mut done: Vec<TransactionId> = Vec::new();
        for _ in 0..300 {
            let base = below(3) * 5;
            let (a, b, c) = (base + below(2), base + 2, base + 3 + below(2));
            let amount = 1 + below(1_000_000) as i64;
            let expires_at = app.clock().now().plus_ms(60_000);
            let posting = |account: usize, side, amount_minor| Posting { account_id: ids[account], side, amount_minor, currency: None };
            let request = match below(7) {
                0..3 => Request::transfer(ids[a], ids[c], amount),
                3 => Request::journal(vec![posting(a, Side::Debit, amount + 1), posting(b, Side::Credit, amount), posting(c, Side::Credit, 1)]),
                4 => Request::hold(ids[b], ids[c], amount, expires_at),
                5 => Request::reverse(done.get(below(done.len().max(1))).copied().unwrap_or(TransactionId::from_i64(1)), None),
                // EUR for JPY, at 161.5 for one.
                _ => Request::new(Operation::Exchange { from: ids[1], to: ids[6], sell_minor: 200 * amount, buy_minor: 323 * amount, rate_nanos: 161_500_000_000 }),
            };
            let details = Details {
                description: (below(2) == 0).then(|| "Tea; cake | & more".to_owned()),
                effective_at: (below(4) == 0).then(|| app.clock().now().plus_ms(-86_400_000 * below(400) as i64)),
                ..Details::default()
            };
            if let Ok(receipt) = api::submit(app.store(), tenant, request.details(details)).await {
                done.push(receipt.transaction_id);
            }
            app.clock().advance_ms(3_600_000);
        }
        assert!(done.len() > 250, "only {} were done", done.len());
        let export = |read: &mut Read<'_>| {
            let accounts = api::accounts(read, None, 1_000)?;
            let mut journal = Journal::default();
            let mut text = journal.head(&accounts);
            let mut after = None;
            loop {
                let page = api::transactions_after(read, after, 100)?;
                let Some(last) = page.last() else { break };
                after = Some(last.transaction_id);
                text.extend(page.iter().map(|transaction| journal.transaction(transaction)));
            }
            let mut balances = BTreeMap::new();
            for account in accounts {
                let posted = api::balance(read, account.account_id)?.posted_minor;
                let signed = if account.account_type.normal_side() == Side::Debit { posted } else { -posted };
                if signed != 0 {
                    balances.insert(crate::hledger::name_of(&account), format!("{} {}", decimal(signed, account.currency), account.currency));
                }
            }
            Ok((text, balances))
        };
        let (journal, ours) = app.store().read(tenant, export).await.unwrap();
        let Some(csv) = hledger(&journal, &["balance", "--flat", "--no-total", "--output-format=csv"]) else { return };
        let row = |line: &str| {
            let (name, amount) = line.trim_matches('"').split_once("\",\"")?;
            Some((name.to_owned(), amount.to_owned()))
        };
        let theirs: BTreeMap<String, String> = csv.lines().skip(1).filter_map(row).collect();
        assert!(ours.len() > 12, "only {} balances", ours.len());
        assert_eq!(theirs, ours);
        hledger(&journal, &["check", "--strict"]);
    }
}

//! Money that moved outside: written down, booked, and counted with what providers took. The books are audited at the end of each.

use super::world::setup;
use crate::api::{self, NewRecord, PaidForOrder, RecordKind};
use crate::records::MAX_RECORD_MINOR;
use kernel::{Currency, Error, Result, Timestamp};
use store::Tx;
use testkit::TestApp;

fn euro() -> Currency {
    "EUR".parse().expect("a currency")
}

fn new(kind: RecordKind, amount_minor: i64, document: &str) -> NewRecord {
    let at = Timestamp::from_micros(1_291_191_960_000_000);
    NewRecord { kind, amount_minor, currency: euro(), document: document.to_owned(), source: "till".to_owned(), at }
}

async fn record(app: &TestApp, records: Vec<NewRecord>) -> Result<()> {
    let command = |tx: &mut Tx<'_>, records: &Vec<NewRecord>| api::record(tx, records);
    app.store().write(app.tenant("acme"), command, records).await
}

testkit::both_engines! {
    setup: setup;

    async fn what_moved_outside_is_booked_and_counted(app: TestApp) {
        let tenant = app.tenant("acme");
        let records = vec![
            new(RecordKind::Payment, 1_000, "ord_1"),
            new(RecordKind::Refund, -300, "ord_1"),
            new(RecordKind::Payment, 500, "ord_2"),
            new(RecordKind::Refund, -50, "crn_1"),
            new(RecordKind::Correction, -200, "adj_1"),
            new(RecordKind::Correction, 7, "adj_2"),
        ];
        record(&app, records).await.expect("they are written down");
        record(&app, vec![]).await.expect("nothing is nothing");
        let looked = move |read: &mut store::Read<'_>| {
            let books = |read: &mut store::Read<'_>, part: &str| -> Result<i64> {
                let account = ledger::api::account_by_code(read, &format!("payments:{part}:outside:EUR"))?;
                let account_id = account.ok_or_else(|| Error::internal("there is no account"))?.account_id;
                Ok(ledger::api::balance(read, account_id)?.posted_minor)
            };
            let (receivable, clearing) = (books(read, "receivable")?, books(read, "clearing")?);
            let sums = (api::paid_for_order(read, "ord_1", euro())?, api::customers_money(read)?, api::record_sums(read, "till")?);
            let mut pages = Vec::new();
            let mut last = None;
            while let Some(next) = api::records_after(read, last.as_ref(), 1)?.pop() {
                pages.push((next.document.clone(), next.amount_minor));
                last = Some(next);
            }
            let first = ledger::api::transactions_after(read, None, 1)?.remove(0);
            Ok((receivable, clearing, sums, pages, api::records_of(read, "ord_1")?, api::paid_by_order(read, "", 2)?, first))
        };
        let (receivable, clearing, (order, customers, sums), pages, of_order, by_order, first) =
            app.store().read(tenant, looked).await.expect("it can be read");
        assert_eq!((receivable, clearing), (957, 957));
        assert_eq!(order, PaidForOrder { captured_minor: 1_000, refunded_minor: 300, open: 0, disputed: 0 });
        assert_eq!(customers.get("EUR"), Some(&(957, 957)));
        assert_eq!((sums.len(), sums[0].records, sums[0].in_minor, sums[0].out_minor), (1, 6, 1_507, 550));
        let told: Vec<(&str, i64)> = pages.iter().map(|(document, amount)| (document.as_str(), *amount)).collect();
        assert_eq!(told, [("adj_1", -200), ("adj_2", 7), ("crn_1", -50), ("ord_1", 1_000), ("ord_1", -300), ("ord_2", 500)]);
        assert_eq!(of_order.iter().map(|record| record.amount_minor).collect::<Vec<_>>(), [-300, 1_000], "the latest first");
        assert_eq!(by_order.iter().map(|paid| paid.order_id.as_str()).collect::<Vec<_>>(), ["adj_1", "adj_2"]);
        assert_eq!(first.effective_at, Timestamp::from_micros(1_291_191_960_000_000), "the books have it when it moved");
        let events = app.store().tenant_events_after(tenant, 0, 100).await.expect("events");
        assert_eq!(events.iter().filter(|event| event.kind == "payment.recorded").count(), 6);
    }

    async fn what_is_no_record_is_refused_and_nothing_of_it_is_booked(app: TestApp) {
        let many = vec![new(RecordKind::Payment, 1, "ord_1"); api::MAX_RECORDS + 1];
        let table = [
            (vec![new(RecordKind::Payment, 1, "ord_1"), new(RecordKind::Payment, 0, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Payment, -1, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Refund, 1, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Correction, 0, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Payment, MAX_RECORD_MINOR + 1, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Correction, i64::MIN, "ord_1")], "amount_minor"),
            (vec![new(RecordKind::Payment, 1, "")], "document"),
            (vec![new(RecordKind::Payment, 1, "4111 1111 1111 1111")], "document"),
            (vec![NewRecord { source: "x".repeat(65), ..new(RecordKind::Payment, 1, "ord_1") }], "source"),
            (many, "records"),
        ];
        for (records, field) in table {
            let refused = record(&app, records).await.expect_err(field);
            assert_eq!(refused.field_errors().first().map(|error| error.field.as_str()), Some(field), "{refused}");
        }
        let left = app.store().read(app.tenant("acme"), |read| api::records_after(read, None, 10)).await.expect("it can be read");
        assert_eq!(left, []);
    }
}

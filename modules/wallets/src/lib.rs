//! Wallets: whose money it is, what may be done with it, and how much of it looks like fraud.
//!
//! Promises: a transfer is one command: limits, score, the ledger's transaction and the event are committed together or not at all; a
//! limit of a transfer, a day or a month holds however many transfers come at once; a score is a pure function of what is known and of
//! data with a version, and its reasons are in the answer; whatever is in review is held in the ledger and stands in a queue until
//! somebody decides or its time is over; a top-up is credited once; a withdrawal in doubt stays held until it is known; a pay code is
//! paid once. Balances are the ledger's: there are no others.
//! Must never know: orders, what was bought, how cards work, and the tables of the ledger and of payments.

mod activity;
mod audits;
mod bank;
mod codes;
mod commands;
mod consumers;
mod error;
mod model;
mod moves;
mod outside;
mod policy;
mod queries;
mod requests;
mod routes;
mod schedules;
mod score;
mod service;
mod sql;
#[cfg(test)]
mod tests;
mod workflows;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use bank::HttpBank;
pub use model::{CodeId, RequestId, ScheduleId, TransferId, WalletId};
pub use service::{Bank, PayoutOrder, Wallets};
pub use workflows::{EXPIRE, PAYOUT, SCHEDULE};

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "care", sql: include_str!("../migrations/0002_care.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "wallets.use", description: "Use one's own wallets: see them, send, pay, ask for money, top up, withdraw." },
    PermissionInfo { name: "wallets.operate", description: "With wallets.use: use every wallet of the tenant, for their owners." },
    PermissionInfo { name: "wallets.admin", description: "Open, freeze and close wallets, set levels, credit bank transfers." },
    PermissionInfo { name: "wallets.review", description: "See the transfers in review, and decide them." },
    PermissionInfo { name: "wallets.deliver", description: "Read one-time codes, to deliver them to the payers. For machines." },
    PermissionInfo { name: "wallets.configure", description: "Set limits of levels, fees, and what makes a score." },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "wallet.opened", version: 1, description: "A wallet was opened." },
    EventInfo { kind: "wallet.changed", version: 1, description: "A wallet was renamed, frozen, closed, or given another level or fee." },
    EventInfo { kind: "wallet.policy_changed", version: 1, description: "A new version of the policy came into force." },
    EventInfo { kind: "wallet.transfer_completed", version: 1, description: "Money has moved." },
    EventInfo { kind: "wallet.transfer_challenged", version: 1, description: "The payer has to confirm a transfer with a code." },
    EventInfo { kind: "wallet.transfer_in_review", version: 1, description: "A transfer is held until a person has decided." },
    EventInfo { kind: "wallet.transfer_pending", version: 1, description: "A card or a bank is asked." },
    EventInfo { kind: "wallet.transfer_denied", version: 1, description: "A transfer's score was too high; nothing moved." },
    EventInfo { kind: "wallet.transfer_rejected", version: 1, description: "A person, a card or a bank refused a transfer." },
    EventInfo { kind: "wallet.transfer_expired", version: 1, description: "Nobody confirmed or decided a transfer in time." },
    EventInfo { kind: "wallet.return_owed", version: 1, description: "A card was given back what the wallet hasn't got any more." },
    EventInfo {
        kind: "wallet.top_up_unclaimed",
        version: 1,
        description: "A card was charged for a wallet that is closed: refund the payment.",
    },
    EventInfo { kind: "wallet.payout_in_doubt", version: 1, description: "Nobody could learn whether a bank has paid: a person has to." },
    EventInfo { kind: "wallet.money_requested", version: 1, description: "Somebody was asked for money." },
    EventInfo { kind: "wallet.request_accepted", version: 1, description: "A request for money was accepted." },
    EventInfo { kind: "wallet.request_declined", version: 1, description: "A request for money was declined." },
    EventInfo { kind: "wallet.request_cancelled", version: 1, description: "A request for money was taken back." },
    EventInfo { kind: "wallet.request_expired", version: 1, description: "Nobody answered a request for money in time." },
    EventInfo { kind: "wallet.pay_code_used", version: 1, description: "Somebody paid a pay code." },
    EventInfo { kind: "wallet.schedule_made", version: 1, description: "A transfer was scheduled." },
    EventInfo { kind: "wallet.schedule_run_done", version: 1, description: "A scheduled transfer was made." },
    EventInfo { kind: "wallet.schedule_run_refused", version: 1, description: "A scheduled transfer was refused, with the reason's code." },
    EventInfo { kind: "wallet.schedule_ended", version: 1, description: "A schedule will not run again." },
];

/// This module, for the application to put together. [`Wallets`] has to be put into both the application and the workflows.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        consumers: vec![consumers::TOP_UPS],
        workflows: workflows::workflows(),
        events: EVENTS,
        statements: sql::TENANT_STATEMENTS.iter().map(|(name, text)| Statement::new(name, *text, InScope::Tenant)).collect(),
        audits: audits::audits(),
        ..Module::new("wallets", MIGRATIONS)
    }
}

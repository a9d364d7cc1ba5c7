//! Money that comes from outside and goes there: top-ups by card through payments, bank transfers that came in, withdrawals.

use crate::activity::short;
use crate::commands;
use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::{error, queries, sql, workflows};
use kernel::{Currency, Error, Result};
use ledger::{AccountId, Request};
use payments::api::{Means, NewPayment, Purpose};
use payments::{IntentId, ProviderId};
use serde::{Deserialize, Serialize};
use store::{NewEvent, Tx};
use utoipa::ToSchema;

/// A row of what comes from or goes outside without a score.
fn plain(tx: &Tx<'_>, kind: TransferKind, status: TransferStatus, wallet_id: WalletId, currency: Currency, amount_minor: i64) -> Transfer {
    let now = tx.now();
    let out = kind == TransferKind::Return;
    Transfer {
        transfer_id: tx.new_id(),
        kind,
        status,
        from_wallet_id: out.then_some(wallet_id),
        to_wallet_id: (!out).then_some(wallet_id),
        currency,
        amount_minor,
        fee_minor: 0,
        transaction_id: None,
        score: 0,
        policy_version: 0,
        reasons: Vec::new(),
        note: String::new(),
        created_at: now,
        ended_at: (status == TransferStatus::Completed).then_some(now),
        counted_at: None,
    }
}

/// A wallet that money may come to, and its account. Errors: `wallets.wallet_not_found`, `wallets.closed`, `wallets.no_currency`.
fn receiving(tx: &mut Tx<'_>, wallet_id: WalletId, reach: Reach, currency: Currency) -> Result<(Wallet, AccountId)> {
    let wallet = queries::wallet(tx, wallet_id, reach)?;
    if wallet.status == WalletStatus::Closed {
        return Err(error::closed());
    }
    Ok((wallet, queries::account(tx, wallet_id, currency)?.account_id))
}

/// A bank transfer that has come in.
#[derive(Clone, Debug)]
pub(crate) struct Deposit {
    pub wallet_id: WalletId,
    pub amount_minor: i64,
    pub currency: Currency,
    pub reference: String,
}

/// Credits a bank transfer once for its reference. Errors: `wallets.wallet_not_found`, `wallets.closed`, `wallets.no_currency`,
/// `wallets.deposit_taken`.
pub(crate) fn deposit(tx: &mut Tx<'_>, new: &Deposit) -> Result<Transfer> {
    let (_, account) = receiving(tx, new.wallet_id, Reach::All, new.currency)?;
    let books = moves::books(tx)?;
    let bank = books.get(&new.currency).ok_or_else(|| error::no_currency(new.currency))?.bank;
    let mut transfer = plain(tx, TransferKind::Deposit, TransferStatus::Completed, new.wallet_id, new.currency, new.amount_minor);
    transfer.note.clone_from(&new.reference);
    tx.must(sql::INSERT_DEPOSIT, (&new.reference, transfer.transfer_id), error::deposit_taken)?;
    book(tx, &mut transfer, bank, account)?;
    moves::write_transfers(tx, &[&transfer])?;
    Ok(transfer)
}

/// Moves the transfer's amount in the ledger, and tells of it.
fn book(tx: &mut Tx<'_>, transfer: &mut Transfer, debit: AccountId, credit: AccountId) -> Result<()> {
    let request = Request::transfer(debit, credit, transfer.amount_minor).details(moves::described(transfer.transfer_id));
    let receipt = ledger::api::post(tx, &request).map_err(error::of_ledger)?;
    transfer.transaction_id = Some(receipt.transaction_id);
    let event = moves::event_of(transfer);
    tx.emit(event);
    Ok(())
}

/// A top-up by card.
#[derive(Clone, Debug)]
pub(crate) struct TopUp {
    pub reach: Reach,
    pub wallet_id: WalletId,
    pub amount_minor: i64,
    pub currency: Currency,
    pub country: String,
    pub means: Means,
}

/// A top-up that was begun.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopUpBegun {
    /// The transfer, which is completed once the money was taken.
    pub transfer: Transfer,
    /// The payment that takes it.
    pub intent_id: IntentId,
}

/// Begins a payment whose capture credits the wallet. Who only may use wallets of its own pays with stored methods of its own: those whose
/// customer is the wallet's owner, or the user. Errors: `wallets.wallet_not_found`, `wallets.closed`, `wallets.no_currency`, and those of
/// payments.
pub(crate) fn top_up(tx: &mut Tx<'_>, new: &TopUp) -> Result<TopUpBegun> {
    let (wallet, _) = receiving(tx, new.wallet_id, new.reach, new.currency)?;
    let customers = match new.reach {
        Reach::All => None,
        Reach::Own(user_id) => Some(wallet.owner.into_iter().chain([user_id.to_string()]).collect()),
    };
    let transfer = plain(tx, TransferKind::TopUp, TransferStatus::Pending, new.wallet_id, new.currency, new.amount_minor);
    let payment = NewPayment {
        amount_minor: new.amount_minor,
        currency: new.currency,
        country: new.country.clone(),
        purpose: Purpose::Module { name: "wallets", external_ref: transfer.transfer_id.to_string() },
        means: new.means.clone(),
        customers,
    };
    let (intent_id, _) = payments::api::pay(tx, &payment)?;
    moves::write_transfers(tx, &[&transfer])?;
    tx.exec(sql::INSERT_TOPUP, (intent_id, transfer.transfer_id))?;
    let event = moves::event_of(&transfer);
    tx.emit(event);
    Ok(TopUpBegun { transfer, intent_id })
}

/// What of a payment's event matters here, in every version so far.
#[derive(Deserialize)]
pub(crate) struct Told {
    intent_id: IntentId,
    provider_id: Option<ProviderId>,
    captured_minor: i64,
    refunded_minor: i64,
}

/// A payment has moved. Sums are told, so that each is taken in once, however often and in whatever order it is told.
pub(crate) fn payment_moved(tx: &mut Tx<'_>, told: &Told, failed: bool) -> Result<()> {
    let found: Option<(TransferId, i64, i64)> = tx.opt(sql::TOPUP, (told.intent_id,))?;
    let Some((transfer_id, credited, returned)) = found else { return Ok(()) };
    let mut transfer = queries::transfer(tx, transfer_id, Reach::All)?;
    if failed && transfer.status == TransferStatus::Pending && credited == 0 {
        return commands::end(tx, &mut transfer, TransferStatus::Rejected, None, "the payment failed");
    }
    let wallet_id = transfer.to_wallet_id.ok_or_else(|| Error::internal("a top-up goes to no wallet"))?;
    let account = queries::account(tx, wallet_id, transfer.currency)?.account_id;
    let (come, back) = (told.captured_minor - credited, told.refunded_minor - returned);
    if come <= 0 && back <= 0 {
        return Ok(());
    }
    let provider_id = told.provider_id.ok_or_else(|| Error::internal("a payment moved money without a provider"))?;
    let clearing = payments::api::take_from_clearing(tx, provider_id, transfer.currency, come.max(0) - back.max(0))?;
    if come > 0 {
        let first = transfer.status == TransferStatus::Pending;
        if !first {
            transfer = plain(tx, TransferKind::TopUp, TransferStatus::Completed, wallet_id, transfer.currency, come);
        }
        (transfer.status, transfer.amount_minor, transfer.ended_at) = (TransferStatus::Completed, come, Some(tx.now()));
        match book(tx, &mut transfer, clearing, account) {
            Err(refused) if refused.code() == "wallets.closed" => unclaimed(tx, &mut transfer, clearing)?,
            booked => booked?,
        }
        if first {
            moves::update_transfer(tx, &transfer)?;
        } else {
            moves::write_transfers(tx, &[&transfer])?;
        }
    }
    if back > 0 {
        give_back(tx, (wallet_id, account), clearing, transfer.currency, back)?;
    }
    tx.exec(sql::UPDATE_TOPUP, (told.intent_id, credited.max(told.captured_minor), returned.max(told.refunded_minor)))
}

/// Money came for a wallet that was closed meanwhile: it is owed to whoever paid, on the account that says what wallets owe, until the
/// payment is refunded, which takes it from there.
fn unclaimed(tx: &mut Tx<'_>, transfer: &mut Transfer, clearing: AccountId) -> Result<()> {
    let owed = owed(tx, transfer.currency)?;
    let request = Request::transfer(clearing, owed, transfer.amount_minor).details(moves::described(transfer.transfer_id));
    ledger::api::post(tx, &request).map_err(error::of_ledger)?;
    transfer.status = TransferStatus::Rejected;
    let event = moves::event_of(transfer);
    tx.emit(event);
    let payload = serde_json::json!({
        "wallet_id": transfer.to_wallet_id, "transfer_id": transfer.transfer_id, "currency": transfer.currency, "amount_minor": transfer.amount_minor,
    });
    tx.emit(NewEvent::new("wallet.top_up_unclaimed", 1, transfer.transfer_id, &payload));
    Ok(())
}

fn owed(tx: &mut Tx<'_>, currency: Currency) -> Result<AccountId> {
    moves::books(tx)?.get(&currency).map(|books| books.owed).ok_or_else(|| error::no_currency(currency))
}

/// What a card was given back leaves the wallet; when the wallet hasn't got it, the wallet owes it.
fn give_back(tx: &mut Tx<'_>, wallet: (WalletId, AccountId), clearing: AccountId, currency: Currency, amount_minor: i64) -> Result<()> {
    let mut transfer = plain(tx, TransferKind::Return, TransferStatus::Completed, wallet.0, currency, amount_minor);
    match book(tx, &mut transfer, wallet.1, clearing) {
        Ok(()) => moves::write_transfers(tx, &[&transfer]),
        Err(refused) if matches!(refused.code(), "wallets.insufficient_funds" | "wallets.frozen" | "wallets.closed") => {
            let owed = owed(tx, currency)?;
            let request = Request::transfer(owed, clearing, amount_minor).details(moves::described(transfer.transfer_id));
            ledger::api::post(tx, &request).map_err(error::of_ledger)?;
            let payload = serde_json::json!({ "wallet_id": wallet.0, "currency": currency, "amount_minor": amount_minor });
            tx.emit(NewEvent::new("wallet.return_owed", 1, wallet.0, &payload));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A withdrawal to a bank account.
#[derive(Clone)]
pub(crate) struct Withdraw {
    pub ask: Ask,
    pub iban: String,
    pub holder: String,
}

/// A hash of where money goes, for what a wallet remembers of its payees.
pub(crate) fn target_of(iban: &str) -> u32 {
    let digest = ring::digest::digest(&ring::digest::SHA256, iban.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    short(i64::from_be_bytes(first))
}

/// Sets the money aside and begins to ask the bank, unless the score wants a code or a person first. Errors:
/// `wallets.no_bank`, and those of the guards.
pub(crate) fn withdraw(tx: &mut Tx<'_>, withdraw: &Withdraw) -> Result<Transfer> {
    queries::wallet(tx, withdraw.ask.from, withdraw.ask.reach)?;
    withdraw.ask.wallets.as_ref().map_or(Ok(()), |wallets| wallets.bank().map(|_| ()))?;
    let transfer = moves::transfer(tx, &withdraw.ask)?;
    tx.exec(sql::INSERT_PAYOUT, (transfer.transfer_id, &withdraw.iban, &withdraw.holder))?;
    held(tx, &transfer)?;
    Ok(transfer)
}

/// A withdrawal's money is held: once nothing else is waited for, the bank is asked.
pub(crate) fn held(tx: &mut Tx<'_>, transfer: &Transfer) -> Result<()> {
    if transfer.status == TransferStatus::Pending {
        workflows::begin_payout(tx, transfer.transfer_id)?;
    }
    Ok(())
}

/// An IBAN as it is stored: without spaces, in capitals, with check digits that are right (ISO 13616). Errors: `request.invalid`.
pub(crate) fn iban(text: &str) -> Result<String> {
    let wrong = || Error::field("iban", "invalid", "an IBAN such as DE89370400440532013000, with its check digits");
    let iban: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
    let bytes = iban.as_bytes();
    let fine = (15..=34).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_alphanumeric);
    if !fine || !bytes[..2].iter().all(u8::is_ascii_uppercase) || !bytes[2..4].iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let rest = bytes[4..].iter().chain(&bytes[..4]).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    if rest == 1 { Ok(iban) } else { Err(wrong()) }
}

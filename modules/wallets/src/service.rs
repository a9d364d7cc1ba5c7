//! What wallets need around the store: a secret of their own, the bank, and the policies that are in force, ready to be asked.

use crate::model::{CodeId, TransferId};
use crate::policy::InForce;
use crate::sql;
use futures_util::future::BoxFuture;
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use store::Read;
use workflow::Outcome;

/// Tenants whose policies are kept in memory.
const MAX_POLICIES: usize = 10_000;

/// Money that a bank is asked to pay out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutOrder {
    /// Under which the bank knows it: the same however often it is asked.
    pub reference: String,
    /// The account that gets it.
    pub iban: String,
    /// Whose that is.
    pub holder: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of this currency.
    pub currency: Currency,
}

/// A bank as withdrawals see it. It is asked under a reference that was written down before; an outcome that is unknown is asked about
/// under the same, and never guessed.
pub trait Bank: Send + Sync + 'static {
    /// Pays out. `Done` with the bank's own reference as a JSON string; `Refused` with a word.
    fn pay(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome>;

    /// What became of it. `NotDone` when the bank never saw the reference and never will.
    fn ask(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome>;
}

/// What the module shares between its routes and its workflows; cheap to clone. The application puts one into both.
#[derive(Clone)]
pub struct Wallets(Arc<Inner>);

struct Inner {
    key: hmac::Key,
    bank: Option<Arc<dyn Bank>>,
    policies: Mutex<HashMap<TenantId, Arc<InForce>>>,
    built_in: Arc<InForce>,
}

impl Wallets {
    /// With the secret from which one-time codes and the signatures of pay codes follow, and the bank, if there is one.
    pub fn new(secret: &[u8; 32], bank: Option<Arc<dyn Bank>>) -> Wallets {
        Wallets(Arc::new(Inner {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            bank,
            policies: Mutex::default(),
            built_in: Arc::new(InForce::built_in()),
        }))
    }

    /// The bank. Errors: `wallets.no_bank`.
    pub(crate) fn bank(&self) -> Result<&Arc<dyn Bank>> {
        self.0.bank.as_ref().ok_or_else(crate::error::no_bank)
    }

    fn sign(&self, purpose: &str, tenant: TenantId, what: &str) -> hmac::Tag {
        hmac::sign(&self.0.key, format!("{purpose}\n{tenant}\n{what}").as_bytes())
    }

    /// The one-time code of a challenge: it follows from the secret and the transfer, so the store holds nothing to learn it from.
    /// (Cut as RFC 4226 cuts.)
    pub(crate) fn one_time_code(&self, tenant: TenantId, transfer_id: TransferId) -> String {
        let tag = self.sign("one-time code", tenant, &transfer_id.to_string());
        let bytes = tag.as_ref();
        let at = usize::from(bytes[bytes.len() - 1] & 0xF);
        let number = u32::from_be_bytes([bytes[at] & 0x7F, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        format!("{:06}", number % 1_000_000)
    }

    /// Whether this is it, in a time that does not tell how much of it was right.
    pub(crate) fn is_one_time_code(&self, tenant: TenantId, transfer_id: TransferId, given: &str) -> bool {
        let mac = |code: &str| hmac::sign(&self.0.key, code.as_bytes());
        let expected = mac(&self.one_time_code(tenant, transfer_id));
        hmac::verify(&self.0.key, given.as_bytes(), expected.as_ref()).is_ok()
    }

    /// The signature of a pay code, as hexadecimal digits.
    pub(crate) fn pay_code_signature(&self, tenant: TenantId, code_id: CodeId, content: &str) -> String {
        let tag = self.sign("pay code", tenant, &format!("{code_id}\n{content}"));
        tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a pay code was signed so, in a time that does not tell how much of it was right.
    pub(crate) fn is_pay_code_signature(&self, tenant: TenantId, code_id: CodeId, content: &str, given: &str) -> bool {
        let expected = self.pay_code_signature(tenant, code_id, content);
        hmac::verify(&self.0.key, given.as_bytes(), hmac::sign(&self.0.key, expected.as_bytes()).as_ref()).is_ok()
    }
}

/// The tenant's policy, as it is in this transaction. What was parsed before is kept by its version and its time: a version that was
/// rolled back may come again with another body.
pub(crate) fn policy(read: &mut Read<'_>, wallets: Option<&Wallets>) -> Result<Arc<InForce>> {
    let tenant = read.tenant()?;
    let Some((version, at)) = read.opt::<(i64, Timestamp)>(sql::POLICY_VERSION, ())? else {
        return Ok(wallets.map_or_else(|| Arc::new(InForce::built_in()), |wallets| wallets.0.built_in.clone()));
    };
    let locked = |wallets: &'_ Wallets| wallets.0.policies.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
    if let Some(known) = wallets.and_then(locked)
        && (known.version, known.at) == (version, at)
    {
        return Ok(known);
    }
    let (body,): (String,) = read.one(sql::POLICY, (version,))?;
    let policy = serde_json::from_str(&body).map_err(|e| Error::internal("a policy can't be read").caused_by(e))?;
    let in_force = Arc::new(InForce::new(version, at, policy));
    if let Some(wallets) = wallets {
        let mut policies = wallets.0.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if policies.len() >= MAX_POLICIES {
            policies.clear();
        }
        policies.insert(tenant, in_force.clone());
    }
    Ok(in_force)
}

//! Customers and their addresses.

use crate::model::{AddressId, CustomerId};
use kernel::{Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most addresses of one customer.
pub const MAX_ADDRESSES: usize = 20;

/// A customer without its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Customer {
    /// Its id.
    pub customer_id: CustomerId,
    /// What another system calls it; unique among the tenant's customers.
    pub external_ref: Option<String>,
    /// Name of the person or the company.
    pub name: String,
    /// Where to write to.
    pub email: Option<String>,
    /// A country's name or ISO code, as given; may be empty.
    pub country: String,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for Customer {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Customer {
            customer_id: row.get(0)?,
            external_ref: row.get(1)?,
            name: row.get(2)?,
            email: row.get(3)?,
            country: row.get(4)?,
            version: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

/// A postal address as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAddress {
    /// What the customer calls it, such as "home".
    #[serde(default)]
    #[schema(max_length = 64)]
    pub label: String,
    /// Who receives there.
    #[schema(min_length = 1, max_length = 200)]
    pub recipient: String,
    /// Street and number.
    #[schema(min_length = 1, max_length = 200)]
    pub line1: String,
    /// More of it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line2: String,
    /// City.
    #[schema(min_length = 1, max_length = 100)]
    pub city: String,
    /// State, province or county.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub region: String,
    /// Postal code; not every country has one.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub postal_code: String,
    /// A country's name or ISO code.
    #[schema(min_length = 1, max_length = 64)]
    pub country: String,
    /// Telephone.
    #[serde(default)]
    #[schema(max_length = 32)]
    pub phone: String,
}

impl NewAddress {
    /// Names every field that is wrong, with `path` before it.
    pub fn check(&self, path: &str, faults: &mut Faults) {
        let texts = [
            ("label", &self.label, 0, 64),
            ("recipient", &self.recipient, 1, 200),
            ("line1", &self.line1, 1, 200),
            ("line2", &self.line2, 0, 200),
            ("city", &self.city, 1, 100),
            ("region", &self.region, 0, 100),
            ("postal_code", &self.postal_code, 0, 20),
            ("country", &self.country, 1, 64),
            ("phone", &self.phone, 0, 32),
        ];
        for (field, value, min, max) in texts {
            faults.text(format!("{path}{field}"), value, min, max);
        }
    }
}

/// A customer's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Address {
    /// Its id.
    pub address_id: AddressId,
    /// What the customer calls it.
    pub label: String,
    /// Who receives there.
    pub recipient: String,
    /// Street and number.
    pub line1: String,
    /// More of it.
    pub line2: String,
    /// City.
    pub city: String,
    /// State, province or county.
    pub region: String,
    /// Postal code.
    pub postal_code: String,
    /// A country's name or ISO code.
    pub country: String,
    /// Telephone.
    pub phone: String,
}

impl Address {
    /// A new address under its id.
    pub fn new(address_id: AddressId, new: NewAddress) -> Address {
        let NewAddress { label, recipient, line1, line2, city, region, postal_code, country, phone } = new;
        Address { address_id, label, recipient, line1, line2, city, region, postal_code, country, phone }
    }
}

impl store::FromRow for Address {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Address {
            address_id: row.get(0)?,
            label: row.get(1)?,
            recipient: row.get(2)?,
            line1: row.get(3)?,
            line2: row.get(4)?,
            city: row.get(5)?,
            region: row.get(6)?,
            postal_code: row.get(7)?,
            country: row.get(8)?,
            phone: row.get(9)?,
        })
    }
}

//! What the storefront and the checkout use within their own transactions.
//!
//! A checkout: [`load`] and [`revalidate`], then [`begin_checkout`] with the version that the shopper saw, all in the transaction that
//! reserves and drafts; later [`ordered`] or [`reopen`].

pub use crate::commands::{
    ChangeCart, NewCart, SignIn, SignedIn, begin_checkout, change, change_loaded, create, may_check_out, ordered, reopen, sign_in,
};
pub use crate::model::{Cart, Change, Destination, Line, LineEdit, MAX_COUPON, MAX_COUPONS, MAX_LINES, MAX_QUANTITY, Seen, Status};
pub use crate::queries::{CartKey, Proof, load};
pub use crate::revalidate::{Diff, Difference, Fact, revalidate, settle};
pub use crate::token::{TokenHash, new_token};

/// Whether a quantity is from 1 to [`MAX_QUANTITY`]: a stable code and words for people.
pub fn check_quantity(quantity: i64) -> Result<(), (&'static str, String)> {
    crate::model::check_quantity(quantity)
}

/// Whether a text can be a coupon code: a stable code and words for people.
pub fn check_coupon(code: &str) -> Result<(), (&'static str, String)> {
    crate::model::check_coupon(code)
}

//! Payments

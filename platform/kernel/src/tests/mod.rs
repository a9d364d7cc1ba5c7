//! Tests of the kernel: tables that a reader can check by hand, and properties.

mod error;
mod faults;
mod id;
mod money;
mod page;
mod time;

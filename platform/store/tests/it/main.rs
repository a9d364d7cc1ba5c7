//! The store against real databases, as one binary: lanes, the walls between tenants, the fate of a commit, copies.

mod commit_fate;
mod common;
mod copies;
mod isolation;
mod lanes;
mod leases;
mod peeks;
mod replicas;

use brandos_store as store;

//! What the statements of all modules search by on SQLite: not by the tenant alone, but for those that are listed here.

/// By module: what goes through all of a table on purpose, a table that stays small, or the first or the last of an index.
/// Audits (`AUDIT_...`) look at everything.
const WALKS: &[(&str, &[&str])] = &[
    ("identity", &["API_KEYS_LIVE", "INVITATIONS_OPEN", "MEMBER_ROLES", "ROLES", "ROLES_COUNT"]),
    ("catalog", &["ATTRIBUTE_COUNT", "CATEGORY_COUNT", "COLLECTION_COUNT"]),
    ("inventory", &["COUNT_LOCATIONS", "MOVED_AT", "ON_HAND_AT", "SITES"]),
    ("orders", &["COUNT_BY_COUNTRY", "COUNT_CUSTOMERS", "COUNT_DOCUMENTS", "COUNT_LINES"]),
    ("ledger", &["LAST_SEAL", "TRIAL_BALANCE"]),
    (
        "payments",
        &[
            "ALL_ACCOUNTS",
            "BY_BATCHES",
            "CLEARING_ACCOUNTS",
            "ENABLED_PROVIDERS",
            "OWED",
            "PAID",
            "PROVIDERS",
            "RECORDED",
            "RECORD_SUMS",
            "STUCK",
            "STUCK_OPERATION",
            "WRONG_AMOUNTS",
            "WRONG_SUMS",
        ],
    ),
    ("webhooks", &["ENDPOINTS", "WRONG_WAITING"]),
    ("carts", &["NEXT_DUE"]),
    ("wallets", &["BOOKS", "POLICY_VERSION"]),
    ("shipping", &["CARRIERS", "COUNT_METHODS", "COUNT_RATES", "DELETE_RATES_OF_ZONE", "METHODS", "RATES", "ZONES"]),
    ("pricing", &["ACTIVE_LISTS", "ACTIVE_PROMOTIONS", "COUNT_LISTS", "COUNT_PROMOTIONS"]),
    ("imports", &["BOOKED"]),
];

#[test]
fn statements_search_by_more_than_the_tenant() {
    let mut differ = Vec::new();
    for module in crate::wiring::modules() {
        let listed = WALKS.iter().find(|(name, _)| *name == module.name).map_or(&[][..], |(_, walks)| walks);
        let found: Vec<&str> = testkit::walks(&module).into_iter().filter(|name| !name.starts_with("AUDIT_")).collect();
        if found != listed {
            differ.push((module.name, found));
        }
    }
    assert!(differ.is_empty(), "other statements walk than those that are listed: {differ:#?}");
}

//! Types and pure decisions: slugs, e-mails, passwords, roles and what they may, states, back-off. No SQL, no clock, no randomness.

use kernel::{Currency, Entity, Error, FieldError, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

macro_rules! entities {
    ($($(#[$doc:meta])* $entity:ident $id:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        pub enum $entity {}
        impl Entity for $entity {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $id = Id<$entity>;
    )*};
}

entities! {
    /// A person who can sign in (`usr_...`).
    User UserId "usr";
    /// A sign-in on one device (`ses_...`).
    Session SessionId "ses";
    /// A program's credential (`key_...`).
    ApiKey ApiKeyId "key";
    /// An offer to join a tenant (`inv_...`).
    Invitation InvitationId "inv";
    /// An entry of an audit trail (`aud_...`).
    AuditEntry AuditEntryId "aud";
}

/// An enum that is stored and sent as a fixed word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }
        impl $name {
            /// The word that is stored.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok($name::$variant),)*
                    _ => Err(Error::field(stringify!($name).to_ascii_lowercase(), "unknown", concat!("must be one of", $(" ", $word),*))),
                }
            }
        }
        impl store::ToValue for $name {
            fn to_value(&self) -> store::Value<'_> {
                store::Value::Text(self.word().into())
            }
        }
        impl store::FromValue for $name {
            fn from_value(value: store::ValueRef<'_>) -> Result<Self> {
                String::from_value(value)?.parse().map_err(|_| Error::internal(concat!("a stored word is no ", stringify!($name))))
            }
        }
    };
}

words! {
    /// Where a tenant stands.
    TenantStatus {
        /// Works.
        Active = "active",
        /// Nobody of it gets in until it is active again.
        Suspended = "suspended",
        /// For ever out of use.
        Closed = "closed",
    }
}

words! {
    /// What a tenant has subscribed to.
    Plan {
        /// Nothing to pay.
        Free = "free",
        /// The small plan.
        Basic = "basic",
        /// Everything.
        Premium = "premium",
    }
}

words! {
    /// Whether a user can sign in.
    UserStatus {
        /// Can.
        Active = "active",
        /// Can't, and every token of theirs is refused.
        Disabled = "disabled",
    }
}

impl TenantStatus {
    /// Whether an administrator may change this into `next`. Closed is final.
    pub fn may_become(self, next: TenantStatus) -> bool {
        self == next || self != TenantStatus::Closed
    }
}

// ---- names ----------------------------------------------------------------------------------------------------------

/// Slugs that would collide with the platform's own host names and paths.
const RESERVED_SLUGS: &[&str] = &[
    "admin",
    "api",
    "app",
    "assets",
    "auth",
    "blog",
    "brandos",
    "cdn",
    "console",
    "dashboard",
    "docs",
    "files",
    "health",
    "help",
    "internal",
    "login",
    "mail",
    "metrics",
    "platform",
    "root",
    "static",
    "status",
    "support",
    "system",
    "tenant",
    "tenants",
    "test",
    "www",
];

/// The checked slug of a tenant: 3 to 40 of `a-z`, `0-9` and single inner hyphens, and no reserved word.
/// Errors: `request.invalid` for field `slug`.
pub fn check_slug(slug: &str) -> Result<()> {
    let wrong = |code, detail: &str| Err(Error::field("slug", code, detail));
    if !(3..=40).contains(&slug.len()) {
        return wrong("length", "must have 3 to 40 characters");
    }
    if !slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return wrong("characters", "may hold only a-z, 0-9 and hyphens");
    }
    // Two hyphens in a row would allow host names of the `xn--` form, which browsers show as other letters.
    if slug.starts_with('-') || slug.ends_with('-') || slug.contains("--") {
        return wrong("hyphens", "may hold only single hyphens, and none at either end");
    }
    if RESERVED_SLUGS.contains(&slug) {
        return wrong("reserved", "is reserved for the platform");
    }
    Ok(())
}

/// A name for people to read: 1 to `max` characters, not blank, no control characters. Gives it trimmed.
/// Errors: `request.invalid` for `field`.
pub fn check_name(field: &str, name: &str, max: usize) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().nth(max).is_some() {
        return Err(Error::field(field, "length", format!("must have 1 to {max} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::field(field, "characters", "may not hold control characters"));
    }
    Ok(name.to_owned())
}

/// An e-mail address in the one form in which it is stored and compared: trimmed and in lower case.
/// Errors: `request.invalid` for field `email`.
pub fn normal_email(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let wrong = |code, detail: &str| Err(Error::field("email", code, detail));
    if email.len() > 254 {
        return wrong("too_long", "must have at most 254 bytes");
    }
    let Some((local, domain)) = email.rsplit_once('@') else {
        return wrong("format", "must be of the form name@domain");
    };
    let visible =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '@' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '"' | '\\');
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
    if local.is_empty() || local.len() > 64 || !local.chars().all(visible) || !domain.chars().all(visible) || !domain.split('.').all(label)
    {
        return wrong("format", "must be of the form name@domain");
    }
    Ok(email)
}

/// Fewest and most characters of a password.
pub const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 10..=256;

/// A new password for the account of `email`. Errors: `request.invalid` for `field`.
pub fn check_password(field: &str, password: &str, email: &str) -> Result<()> {
    let characters = password.chars().take(257).count();
    if !PASSWORD_CHARACTERS.contains(&characters) {
        return Err(Error::field(field, "length", "must have 10 to 256 characters"));
    }
    let mut distinct: Vec<char> = password.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 4 {
        return Err(Error::field(field, "too_simple", "must hold at least 4 different characters"));
    }
    if password.eq_ignore_ascii_case(email) {
        return Err(Error::field(field, "too_simple", "must not be the e-mail address"));
    }
    Ok(())
}

// ---- settings -------------------------------------------------------------------------------------------------------

/// A tenant's settings. A field that is left out has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Currency of prices when nothing else is said; ISO 4217.
    pub default_currency: Currency,
    /// BCP 47 language tag for texts, numbers and dates, such as `en-GB`.
    #[schema(max_length = 35, example = "en-GB")]
    pub locale: String,
    /// IANA time zone in which the tenant's days begin, such as `Europe/London`.
    #[schema(max_length = 64, example = "Europe/London")]
    pub time_zone: String,
    /// ISO 3166-1 country of business, two capital letters.
    #[schema(min_length = 2, max_length = 2, example = "GB")]
    pub country: Option<String>,
    /// The company's name in law, for documents.
    #[schema(max_length = 200)]
    pub legal_name: Option<String>,
    /// Where customers write to.
    #[schema(max_length = 254)]
    pub support_email: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            default_currency: "EUR".parse().expect("EUR is in ISO 4217"),
            locale: "en".to_owned(),
            time_zone: "UTC".to_owned(),
            country: None,
            legal_name: None,
            support_email: None,
        }
    }
}

impl Settings {
    /// Errors: `request.invalid` naming each field that is out of its bounds.
    pub fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let mut field = |name: &str, ok: bool, detail: &str| {
            if !ok {
                wrong.push(FieldError { field: name.to_owned(), code: "format", detail: detail.to_owned() });
            }
        };
        let tag = |l: &str| {
            l.len() <= 35 && l.split('-').all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
        };
        field("locale", tag(&self.locale), "must be a BCP 47 tag of at most 35 characters, such as en-GB");
        let zone = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-'));
        field(
            "time_zone",
            self.time_zone.len() <= 64 && self.time_zone.split('/').all(zone),
            "must be an IANA time zone such as Europe/London",
        );
        let country = |c: &String| c.len() == 2 && c.bytes().all(|b| b.is_ascii_uppercase());
        field("country", self.country.as_ref().is_none_or(country), "must be two capital letters of ISO 3166-1");
        field(
            "legal_name",
            self.legal_name.as_ref().is_none_or(|n| check_name("legal_name", n, 200).is_ok()),
            "must have 1 to 200 characters",
        );
        field("support_email", self.support_email.as_ref().is_none_or(|e| normal_email(e).is_ok()), "must be an e-mail address");
        Error::fields(wrong)
    }
}

/// The most feature flags of a tenant.
pub const MAX_FLAGS: usize = 100;

/// Errors: `request.invalid` when there are too many flags or one has an odd name.
pub fn check_flags(flags: &BTreeMap<String, bool>) -> Result<()> {
    if flags.len() > MAX_FLAGS {
        return Err(Error::field("flags", "too_many", format!("must hold at most {MAX_FLAGS} flags")));
    }
    let named = |n: &str| {
        (1..=64).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
    };
    match flags.keys().find(|n| !named(n)) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(64).collect();
            Err(Error::field(format!("flags.{shown}"), "name", "a flag's name has 1 to 64 of a-z, 0-9, _ . and -"))
        }
    }
}

// ---- roles ----------------------------------------------------------------------------------------------------------

/// A role that every tenant has. Its rules are tried in order, and the first that matches a permission decides.
pub struct BuiltInRole {
    /// Name, never used for a custom role.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    rules: &'static [(&'static str, bool)],
}

/// Name of the role that only its own holders may give and take, and of which a tenant always keeps one.
pub const OWNER: &str = "owner";

/// The built-in roles, from the mightiest to the least. A pattern is a permission, `*`, `beginning.*` or `*.end`.
pub const BUILT_IN_ROLES: &[BuiltInRole] = &[
    BuiltInRole { name: OWNER, description: "Everything, and the only one who can make or unmake owners.", rules: &[("*", true)] },
    BuiltInRole { name: "admin", description: "Everything but owners.", rules: &[("*", true)] },
    BuiltInRole {
        name: "manager",
        description: "Runs the business: everything outside of members, keys, settings and the audit trail.",
        rules: &[("identity.settings.read", true), ("identity.members.read", true), ("identity.*", false), ("*", true)],
    },
    BuiltInRole {
        name: "staff",
        description: "Works on orders and reads the rest of the business.",
        rules: &[("identity.settings.read", true), ("identity.*", false), ("orders.*", true), ("*.read", true)],
    },
    BuiltInRole {
        name: "viewer",
        description: "Reads the business.",
        rules: &[("identity.settings.read", true), ("identity.*", false), ("*.read", true)],
    },
];

/// The one role of the platform's own administrators; it holds every `platform.` permission.
pub const PLATFORM_ADMIN: &str = "platform_admin";

fn matches(pattern: &str, permission: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(""), _) => true,
        (Some(beginning), _) => permission.starts_with(beginning),
        (_, Some(end)) => permission.ends_with(end),
        _ => pattern == permission,
    }
}

/// The permissions that the modules of this program know, sorted: those of tenants and those of the platform, which never mix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    tenant: Vec<&'static str>,
    platform: Vec<&'static str>,
}

impl Known {
    /// From every module's list.
    pub fn new(permissions: impl IntoIterator<Item = &'static str>) -> Known {
        let (mut platform, mut tenant): (Vec<_>, Vec<_>) = permissions.into_iter().partition(|p| p.starts_with("platform."));
        for list in [&mut platform, &mut tenant] {
            list.sort_unstable();
            list.dedup();
        }
        Known { tenant, platform }
    }

    /// What can be given within a tenant.
    pub fn tenant(&self) -> &[&'static str] {
        &self.tenant
    }

    /// What platform administrators hold.
    pub fn platform(&self) -> &[&'static str] {
        &self.platform
    }

    /// What a built-in role holds; none if there is no such role.
    pub fn built_in(&self, role: &str) -> Option<Vec<&'static str>> {
        let role = BUILT_IN_ROLES.iter().find(|r| r.name == role)?;
        let held = |p: &&'static str| role.rules.iter().find(|(pattern, _)| matches(pattern, p)).is_some_and(|(_, give)| *give);
        Some(self.tenant.iter().copied().filter(held).collect())
    }

    /// Those of `names` that can be given within a tenant, sorted; names that are no longer known are left out.
    pub fn of_tenant<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
        let mut found: Vec<&'static str> =
            names.into_iter().filter_map(|n| self.tenant.binary_search(&n).ok().map(|at| self.tenant[at])).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The same, but an unknown name is an error. Errors: `request.invalid` naming `field[index]`, or when there is none or too many.
    pub fn check(&self, field: &str, names: &[String]) -> Result<Vec<&'static str>> {
        if names.is_empty() || names.len() > 256 {
            return Err(Error::field(field, "length", "must name 1 to 256 permissions"));
        }
        let unknown = |(_, n): &(usize, &String)| self.tenant.binary_search(&n.as_str()).is_err();
        Error::fields(
            names
                .iter()
                .enumerate()
                .filter(unknown)
                .take(16)
                .map(|(i, _)| FieldError {
                    field: format!("{field}[{i}]"),
                    code: "unknown",
                    detail: "is not a permission of a tenant".to_owned(),
                })
                .collect(),
        )?;
        Ok(self.of_tenant(names.iter().map(String::as_str)))
    }
}

/// Name of a custom role: 2 to 40 of `a-z`, `0-9`, `_` and `-`, not a built-in one. Errors: `request.invalid` for field `name`.
pub fn check_role_name(name: &str) -> Result<()> {
    if !(2..=40).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-')) {
        return Err(Error::field("name", "format", "must have 2 to 40 of a-z, 0-9, _ and -"));
    }
    if name == PLATFORM_ADMIN || BUILT_IN_ROLES.iter().any(|r| r.name == name) {
        return Err(Error::field("name", "reserved", "is a built-in role, which can't be changed"));
    }
    Ok(())
}

/// What the one who changes rights holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantor {
    /// The platform itself or its administrator: bounded by nothing.
    Platform,
    /// Somebody of the tenant, bounded by what they hold themselves.
    Holder {
        /// Whether their role is [`OWNER`].
        owner: bool,
        /// Sorted.
        permissions: Vec<&'static str>,
    },
}

impl Grantor {
    /// Whether rights may be handed out, or taken from one who holds them: nobody handles more than they hold, and only owners
    /// handle owners. Otherwise anyone who may invite could make themselves the owner.
    /// Errors: `identity.cannot_grant`.
    pub fn check(&self, role: &str, permissions: &[&str]) -> Result<()> {
        let refused = |detail: &'static str| Err(Error::forbidden("identity.cannot_grant", detail));
        match self {
            Grantor::Platform => Ok(()),
            Grantor::Holder { owner: false, .. } if role == OWNER => refused("only an owner can make, change or remove an owner"),
            Grantor::Holder { permissions: held, .. } if permissions.iter().any(|p| held.binary_search(p).is_err()) => {
                refused("you can only give or take permissions that you hold yourself")
            }
            Grantor::Holder { .. } => Ok(()),
        }
    }
}

// ---- sign-in back-off -----------------------------------------------------------------------------------------------

/// Failures in a row that cost nothing but themselves.
const FREE_FAILURES: i64 = 5;
/// The longest wait between two attempts, in milliseconds. Short, since whoever knows an address can cause it.
const MAX_WAIT_MS: i64 = 60_000;
/// Failures are forgotten after this long without one, in milliseconds.
pub const FAILURES_KEPT_MS: i64 = 24 * 3600 * 1000;

/// How long after `last_attempt` the next one is let through, in milliseconds, when `failures` attempts in a row came to nothing:
/// 1 s after the fifth, doubling to a minute.
pub fn wait_ms(failures: i64) -> i64 {
    match failures - FREE_FAILURES {
        below if below < 0 => 0,
        over => 1000_i64.checked_shl(over.min(16) as u32).unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS),
    }
}

/// Milliseconds that are left to wait at `now`; 0 when an attempt is let through.
pub fn left_to_wait_ms(failures: i64, last_attempt: Timestamp, now: Timestamp) -> i64 {
    let passed = now.ms_since(last_attempt);
    // A clock that stepped back must not lock anybody out for long.
    if passed < 0 { 0 } else { (wait_ms(failures) - passed).max(0) }
}

// ---- publishable keys ------------------------------------------------------------------------------------------------

/// The most origins of a publishable key.
pub const MAX_ORIGINS: usize = 20;

/// Origins as browsers send them: scheme, host and perhaps a port, nothing else. Errors: `request.invalid`.
pub fn check_origins(origins: &[String]) -> Result<()> {
    if origins.len() > MAX_ORIGINS {
        return Err(Error::field("origins", "too_many", format!("at most {MAX_ORIGINS} origins")));
    }
    for (i, origin) in origins.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        if host.is_empty() || origin.len() > 253 || !host.bytes().all(plain) {
            let detail = "an origin such as https://shop.example, in small letters and without a path";
            return Err(Error::field(format!("origins[{i}]"), "not_an_origin", detail));
        }
        if origins[..i].contains(origin) {
            return Err(Error::field(format!("origins[{i}]"), "duplicate", "each origin is given once"));
        }
    }
    Ok(())
}

// ---- audit ----------------------------------------------------------------------------------------------------------

/// The most bytes of JSON kept on either side of a change.
pub const MAX_AUDIT_JSON: usize = 4096;

/// A side of a change as it is kept: JSON, or a note of its size when it is too long.
pub fn audit_json(side: Option<serde_json::Value>) -> Option<String> {
    side.map(|side| match side.to_string() {
        text if text.len() <= MAX_AUDIT_JSON => text,
        text => format!("{{\"too_long_bytes\":{}}}", text.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMISSIONS: &[&str] = &[
        "catalog.read",
        "catalog.write",
        "identity.api_keys.write",
        "identity.members.read",
        "identity.members.write",
        "identity.settings.read",
        "orders.read",
        "orders.write",
        "platform.tenants.read",
    ];

    #[test]
    fn slugs() {
        for good in ["abc", "acme-shop", "7-11", "a23456789012345678901234567890123456789z"] {
            assert!(check_slug(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Acme",
            "acme_shop",
            "-acme",
            "acme-",
            "xn--abc",
            "admin",
            "www",
            "ten_0",
            "äbc",
            "a234567890123456789012345678901234567890z",
        ] {
            let error = check_slug(bad).unwrap_err();
            assert_eq!((error.code(), error.field_errors()[0].field.as_str()), ("request.invalid", "slug"), "{bad}");
        }
    }

    #[test]
    fn emails() {
        for (given, normal) in
            [(" Ann@Example.COM ", "ann@example.com"), ("o'neil+x@mail.example", "o'neil+x@mail.example"), ("a@localhost", "a@localhost")]
        {
            assert_eq!(normal_email(given).unwrap(), normal);
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in ["", "ann", "@example.com", "ann@", "a b@example.com", "a@b@c", "a@b..c", "a@-b.c", "a\n@b.c", "<a@b.c>", &long] {
            assert!(normal_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords() {
        let longest = "aB3$".repeat(64);
        for good in ["correct horse", "ÄÖÜäöüß123", &longest] {
            assert!(check_password("password", good, "a@b.c").is_ok(), "{good}");
        }
        let too_long = format!("{longest}x");
        for bad in ["", "123456789", "aaaaaaaaaaaa", "abcabcabcabc", "Ann@Example.com", &too_long] {
            assert!(check_password("password", bad, "ann@example.com").is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_name_each_wrong_field() {
        assert!(Settings::default().check().is_ok());
        let wrong = Settings {
            locale: "en_GB".into(),
            time_zone: "Europe//London".into(),
            country: Some("gb".into()),
            legal_name: Some(" ".into()),
            support_email: Some("x".into()),
            ..Settings::default()
        };
        let error = wrong.check().unwrap_err();
        let fields: Vec<_> = error.field_errors().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["locale", "time_zone", "country", "legal_name", "support_email"]);
        // What an older version stored stays readable.
        let old: Settings = serde_json::from_str(r#"{"default_currency":"GBP"}"#).unwrap();
        assert_eq!((old.default_currency.code(), old.time_zone.as_str()), ("GBP", "UTC"));
    }

    #[test]
    fn built_in_roles() {
        let known = Known::new(PERMISSIONS.iter().copied());
        let everything: Vec<_> = PERMISSIONS.iter().copied().filter(|p| !p.starts_with("platform.")).collect();
        let table: &[(&str, Vec<&str>)] = &[
            ("owner", everything.clone()),
            ("admin", everything),
            (
                "manager",
                vec!["catalog.read", "catalog.write", "identity.members.read", "identity.settings.read", "orders.read", "orders.write"],
            ),
            ("staff", vec!["catalog.read", "identity.settings.read", "orders.read", "orders.write"]),
            ("viewer", vec!["catalog.read", "identity.settings.read", "orders.read"]),
        ];
        for (role, permissions) in table {
            assert_eq!(&known.built_in(role).unwrap(), permissions, "{role}");
        }
        assert_eq!(known.built_in("packer"), None);
        assert_eq!(known.platform(), ["platform.tenants.read"]);
    }

    #[test]
    fn custom_roles_hold_known_permissions_of_tenants_only() {
        let known = Known::new(PERMISSIONS.iter().copied());
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            known.check("permissions", &names(&["orders.write", "catalog.read", "orders.write"])).unwrap(),
            ["catalog.read", "orders.write"]
        );
        for bad in ["platform.tenants.read", "orders.*", "*", ""] {
            let error = known.check("permissions", &names(&["orders.read", bad])).unwrap_err();
            assert_eq!(error.field_errors()[0].field, "permissions[1]", "{bad}");
        }
        assert!(known.check("permissions", &[]).is_err());
        assert_eq!(known.of_tenant(["gone.read", "orders.read"]), ["orders.read"]);
        for (name, ok) in
            [("packer", true), ("night-shift_2", true), ("owner", false), ("platform_admin", false), ("P", false), ("a b", false)]
        {
            assert_eq!(check_role_name(name).is_ok(), ok, "{name}");
        }
    }

    #[test]
    fn nobody_gives_more_than_they_hold() {
        let holder = |owner, permissions: &[&'static str]| Grantor::Holder { owner, permissions: permissions.to_vec() };
        let table: &[(Grantor, &str, &[&str], bool)] = &[
            (Grantor::Platform, "owner", &["orders.write"], true),
            (holder(true, &["orders.read", "orders.write"]), "owner", &["orders.write"], true),
            (holder(false, &["orders.read", "orders.write"]), "owner", &["orders.write"], false),
            (holder(false, &["orders.read", "orders.write"]), "admin", &["orders.read", "orders.write"], true),
            (holder(false, &["orders.read"]), "staff", &["orders.read", "orders.write"], false),
            (holder(false, &["orders.read"]), "viewer", &[], true),
        ];
        for (grantor, role, permissions, ok) in table {
            assert_eq!(grantor.check(role, permissions).is_ok(), *ok, "{grantor:?} gives {role}");
        }
    }

    #[test]
    fn closed_tenants_stay_closed() {
        use TenantStatus::{Active, Closed, Suspended};
        for (from, to, ok) in
            [(Active, Suspended, true), (Suspended, Active, true), (Active, Closed, true), (Closed, Active, false), (Closed, Closed, true)]
        {
            assert_eq!(from.may_become(to), ok, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        for (failures, wait) in [(0, 0), (4, 0), (5, 1000), (6, 2000), (10, 32_000), (11, 60_000), (1_000_000, 60_000), (i64::MAX, 60_000)]
        {
            assert_eq!(wait_ms(failures), wait, "{failures}");
        }
        let at = |ms: i64| Timestamp::from_micros(ms * 1000);
        for (now, left) in [(10_000, 1000), (10_400, 600), (11_000, 0), (99_000, 0), (9_000, 0)] {
            assert_eq!(left_to_wait_ms(5, at(10_000), at(now)), left, "{now}");
        }
    }

    #[test]
    fn audit_sides_are_bounded() {
        assert_eq!(audit_json(Some(serde_json::json!({"a": 1}))).unwrap(), r#"{"a":1}"#);
        assert_eq!(audit_json(None), None);
        assert_eq!(audit_json(Some("x".repeat(5000).into())).unwrap(), r#"{"too_long_bytes":5002}"#);
    }

    #[test]
    fn flags() {
        let flags = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), true)).collect::<BTreeMap<_, _>>();
        assert!(check_flags(&flags(&["new_checkout", "beta.search-2"])).is_ok());
        for bad in ["", "New", "a b", "ü"] {
            assert!(check_flags(&flags(&[bad])).is_err(), "{bad}");
        }
        assert!(check_flags(&(0..101).map(|i| (format!("f{i}"), true)).collect()).is_err());
    }
}

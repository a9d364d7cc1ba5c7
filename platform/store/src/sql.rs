//! A statement: SQL written once in the subset that both engines share, or once for each where it pays.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

/// A statement with `$1`-style parameters. In a tenant's scope `$1` is the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Sql {
    /// One text for each engine.
    pub const fn per_engine(sqlite: &'static str, postgres: &'static str) -> Sql {
        Sql { sqlite, postgres }
    }

    /// The text for SQLite, as written.
    pub const fn sqlite(self) -> &'static str {
        self.sqlite
    }

    /// The text for PostgreSQL.
    pub const fn postgres(self) -> &'static str {
        self.postgres
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Sql {
        Sql { sqlite: text, postgres: text }
    }
}

/// Rewrites `$n` to `?n`. SQLite takes a bare `$2` for a *name* and numbers names by first appearance, so that positional
/// binding would hit the wrong parameter, even another tenant. Quoted text and comments are left alone.
pub(crate) fn numbered_parameters(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    for token in tokens(sql) {
        match token.strip_prefix('$') {
            Some(number) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                out.push('?');
                out.push_str(number);
            }
            _ => out.push_str(token),
        }
    }
    Cow::Owned(out)
}

/// Splits SQL into words, parameters, quoted text, comments, white space and single punctuation; joined they give the text again.
pub(crate) fn tokens(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let len = match first {
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '$' => 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1),
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            c if c.is_whitespace() => rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(len);
        rest = after;
        Some(token)
    })
}

/// Whether the statement uses parameter `$1` on both engines. Remembered by the addresses of its texts, which are static.
pub(crate) fn uses_tenant(sql: Sql) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<[usize; 4], bool>> = RefCell::default();
    }
    let key = [sql.sqlite.as_ptr() as usize, sql.sqlite.len(), sql.postgres.as_ptr() as usize, sql.postgres.len()];
    KNOWN.with_borrow_mut(|known| {
        *known.entry(key).or_insert_with(|| [sql.sqlite, sql.postgres].iter().all(|text| tokens(text).any(|token| token == "$1")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_and_quoted_text_is_left_alone() {
        let table = [
            ("SELECT 1", "SELECT 1"),
            ("SELECT $2, $1", "SELECT ?2, ?1"),
            ("SELECT '$1', $10 -- $3\n, \"$4\"", "SELECT '$1', ?10 -- $3\n, \"$4\""),
            ("SELECT 'it''s $1' || $1", "SELECT 'it''s $1' || ?1"),
        ];
        for (given, expected) in table {
            assert_eq!(numbered_parameters(given), expected);
            assert_eq!(tokens(given).collect::<String>(), given);
        }
        assert!(uses_tenant("a = $1)".into()) && !uses_tenant("a = $10".into()) && !uses_tenant("'$1'".into()));
        assert!(!uses_tenant(Sql::per_engine("a = $1", "a")) && !uses_tenant(Sql::per_engine("a", "a = $1")));
    }
}

//! One error type: a closed list of kinds, a stable code, a public detail, the offending fields, and a cause that is only logged.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What every fallible function of the house returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed list of what can go wrong, as a caller has to react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; the same request never succeeds.
    Invalid,
    /// Who is asking could not be established.
    Unauthenticated,
    /// Who is asking is known and may not do this.
    Forbidden,
    /// It does not exist, or the caller may not know that it does.
    NotFound,
    /// It collides with what is already there (a unique name, a version, a reused key).
    Conflict,
    /// The state of the thing does not allow it now.
    FailedPrecondition,
    /// The caller has used up a quota.
    Limited,
    /// The system has more work than it can take; nothing was done.
    Overloaded,
    /// Something that is needed is away; nothing was done.
    Unavailable,
    /// It may or may not have happened; ask again with the same idempotency key.
    Unknown,
    /// A bug or a broken invariant.
    Internal,
}

/// What is wrong with one field of the input.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Path of the field, such as `lines[2].quantity`.
    pub field: String,
    /// Stable code, such as `too_long`.
    pub code: &'static str,
    /// For a person: names the limit and the value's problem.
    pub detail: String,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after_ms: Option<u32>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// An error with a public face (kind, code, detail, fields) and a private cause that is only logged.
#[derive(Clone)]
pub struct Error(Box<Inner>);

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Error {
            Error::new(ErrorKind::$kind, code, detail)
        })*
    };
}

impl Error {
    /// An error of `kind` with the stable `code` (`module.reason`) and a `detail` that a caller may see.
    pub fn new(kind: ErrorKind, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner { kind, code, detail: detail.into(), fields: Vec::new(), retry_after_ms: None, source: None }))
    }

    constructors! {
        /// [`ErrorKind::Invalid`].
        invalid => Invalid;
        /// [`ErrorKind::Unauthenticated`].
        unauthenticated => Unauthenticated;
        /// [`ErrorKind::Forbidden`].
        forbidden => Forbidden;
        /// [`ErrorKind::NotFound`].
        not_found => NotFound;
        /// [`ErrorKind::Conflict`].
        conflict => Conflict;
        /// [`ErrorKind::FailedPrecondition`].
        failed_precondition => FailedPrecondition;
        /// [`ErrorKind::Limited`].
        limited => Limited;
        /// [`ErrorKind::Overloaded`].
        overloaded => Overloaded;
        /// [`ErrorKind::Unavailable`].
        unavailable => Unavailable;
        /// [`ErrorKind::Unknown`].
        unknown => Unknown;
    }

    /// A broken invariant. `what` and `source` are logged; the caller sees only that it is our fault.
    pub fn internal(what: impl Into<Cow<'static, str>>) -> Error {
        let what: Cow<'static, str> = what.into();
        Error::new(ErrorKind::Internal, "internal", "something went wrong on our side")
            .caused_by(Cause { text: what.into_owned(), beneath: None })
    }

    /// The common form for bad input: one field, what is wrong with it. Code `request.invalid`.
    pub fn field(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Error {
        Error::invalid("request.invalid", "the request has invalid fields").with_field(field, code, detail)
    }

    /// Bad input with several offending fields, or `Ok` if there is none.
    pub fn fields(fields: Vec<FieldError>) -> Result<()> {
        if fields.is_empty() {
            return Ok(());
        }
        let mut error = Error::invalid("request.invalid", "the request has invalid fields");
        error.0.fields = fields;
        Err(error)
    }

    /// Adds an offending field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Error {
        self.0.fields.push(FieldError { field: field.into(), code, detail: detail.into() });
        self
    }

    /// Tells the caller when trying again may help, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u32) -> Error {
        self.0.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Attaches the cause, which is logged and never shown; beneath the one that is there already.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        let source: Arc<dyn std::error::Error + Send + Sync> = Arc::new(source);
        self.0.source = Some(match self.0.source.take() {
            Some(above) => Arc::new(Cause { text: above.to_string(), beneath: Some(source) }),
            None => source,
        });
        self
    }

    /// The kind, which decides the HTTP status and whether to retry.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code, documented in `docs/problems.md`.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What a caller may see.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The offending fields of the input.
    pub fn field_errors(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// When trying again may help, in milliseconds.
    pub fn retry_after(&self) -> Option<u32> {
        self.0.retry_after_ms
    }

    /// The cause, for the log only.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }
}

/// A cause in words, and what lies beneath it.
#[derive(Debug)]
struct Cause {
    text: String,
    beneath: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.beneath.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)?;
        for field in &self.0.fields {
            write!(f, "; {}: {}", field.field, field.detail)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.0.kind)?;
        let mut source = self.0.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(cause) = source {
            write!(f, " <- {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

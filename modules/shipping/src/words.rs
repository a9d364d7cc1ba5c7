//! Small things that every subject of the module shares: closed lists of words, checks of input, and who does something.

use kernel::{Actor, ActorKind, Error, Result};
use std::sync::Arc;

/// Gives an enum its words: as JSON, in the store, and back.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        $(#[$meta])*
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Its word, as it is stored and goes over the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl store::ToValue for $name {
            fn to_value(&self) -> store::Value<'_> {
                store::Value::Text(self.as_str().into())
            }
        }

        impl store::FromValue for $name {
            fn from_value(value: store::ValueRef<'_>) -> kernel::Result<Self> {
                let store::ValueRef::Text(word) = value else { return Err(kernel::Error::internal("a column holds no word")) };
                let known = $name::ALL.iter().find(|known| known.as_str() == word);
                known.copied().ok_or_else(|| kernel::Error::internal(concat!("a column holds no ", stringify!($name))))
            }
        }
    };
}
pub(crate) use words;

/// Marks a kind of id by its prefix.
macro_rules! entity {
    ($entity:ident, $id:ident, $prefix:literal, $what:literal) => {
        #[doc = concat!("Marks the ids of ", $what, ".")]
        pub enum $entity {}
        impl kernel::Entity for $entity {
            const PREFIX: &'static str = $prefix;
        }
        #[doc = concat!("The id of ", $what, ".")]
        pub type $id = kernel::Id<$entity>;
    };
}
pub(crate) use entity;

/// Who asked for a change, and with which request.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The request, if it was one.
    pub request_id: Option<Arc<str>>,
}

impl By {
    /// The program itself.
    pub fn system() -> By {
        By { actor: Actor { kind: ActorKind::System, id: 0 }, request_id: None }
    }

    /// The kind of actor, as it is stored.
    pub(crate) fn kind(&self) -> &'static str {
        match self.actor.kind {
            ActorKind::User => "user",
            ActorKind::ApiKey => "api_key",
            ActorKind::System => "system",
        }
    }
}

/// JSON for a column. Errors: `internal`.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("a column's JSON does not serialise").caused_by(e))
}

/// JSON of a column. Errors: `internal`.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal("a column holds other JSON than expected").caused_by(e))
}

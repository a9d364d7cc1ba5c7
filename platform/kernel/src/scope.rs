//! Whose data, and who is asking.

use crate::{Entity, Id};

/// Marks tenants' ids (`ten_...`).
pub enum Tenant {}

impl Entity for Tenant {
    const PREFIX: &'static str = "ten";
}

/// The id of a tenant.
pub type TenantId = Id<Tenant>;

/// Whose data a command or a read may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One tenant's rows and nothing else; `$1` of every statement is this tenant.
    Tenant(TenantId),
    /// The platform's own tables, and every tenant's for its administrator and its own machinery. `$1` is an ordinary argument.
    Platform,
}

impl Scope {
    /// The tenant, or none on the platform's scope.
    pub fn tenant(self) -> Option<TenantId> {
        match self {
            Scope::Tenant(tenant) => Some(tenant),
            Scope::Platform => None,
        }
    }
}

impl From<TenantId> for Scope {
    fn from(tenant: TenantId) -> Self {
        Scope::Tenant(tenant)
    }
}

/// What kind of actor is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person who signed in.
    User,
    /// A program with an API key.
    ApiKey,
    /// The platform itself: the command line, a job, a consumer.
    System,
}

/// Who is asking, for permissions and for the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What kind.
    pub kind: ActorKind,
    /// The user's or the key's number; 0 for the system.
    pub id: i64,
}

impl Actor {
    /// The platform itself.
    pub const SYSTEM: Actor = Actor { kind: ActorKind::System, id: 0 };
}

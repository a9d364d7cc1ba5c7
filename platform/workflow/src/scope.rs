//! Whose saga it is: tenant 0 is the platform, whose statements get the 0 as an argument.

use kernel::{Scope, TenantId};
use store::{ArgList, Args, Call, Store, Value};

/// The number under which an owner's rows stand.
pub(crate) fn tenant_of(number: i64) -> Option<TenantId> {
    (number != 0).then(|| TenantId::from_i64(number))
}

/// The arguments of a statement whose `$1` is the tenant: `Tx` binds it in a tenant's scope, and on the platform's it is 0.
pub(crate) fn keyed<'a>(scope: Scope, rest: &'a impl Args) -> ArgList<'a> {
    let mut list = ArgList::new();
    if scope == Scope::Platform {
        list.push(Value::Int(0));
    }
    rest.push_to(&mut list);
    list
}

/// A command in the scope of a saga's owner: on the tenant's own lane wherever the tenant is now, or on the first lane of the shard.
pub(crate) fn call_for(tenant: Option<TenantId>, shard: u16) -> Call {
    match tenant {
        Some(tenant) => Call::new(tenant).deadline_ms(10_000),
        None => Call::new(Scope::Platform).on_lane(shard, 0).deadline_ms(10_000),
    }
}

/// The shard on which a tenant's sagas are; the platform's own are on each.
pub(crate) fn shard_of(store: &Store, tenant: Option<TenantId>, shard: u16) -> u16 {
    tenant.map_or(shard, |tenant| store.shard_of(tenant))
}

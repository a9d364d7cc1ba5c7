//! Paths, who may call them, and their handlers: of a session, of a tenant, of the platform.

mod platform;
mod session;
mod tenant;

use crate::commands::By;
use web::{Access, Caller, PermissionInfo, Priority, Route, handlers};

/// What this module's routes ask for.
pub(crate) const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "identity.settings.read", description: "Read the tenant's settings and feature flags." },
    PermissionInfo { name: "identity.settings.write", description: "Change the tenant's settings and feature flags." },
    PermissionInfo { name: "identity.members.read", description: "See members, roles and invitations." },
    PermissionInfo { name: "identity.members.write", description: "Invite, change and remove members; make roles." },
    PermissionInfo { name: "identity.api_keys.read", description: "See API keys, without their secrets." },
    PermissionInfo { name: "identity.api_keys.write", description: "Make and revoke API keys." },
    PermissionInfo { name: "identity.audit.read", description: "Read the tenant's audit trail." },
    PermissionInfo { name: "platform.tenants.read", description: "See every tenant." },
    PermissionInfo { name: "platform.tenants.write", description: "Make tenants, change their status and plan, invite their owners." },
    PermissionInfo { name: "platform.reports.read", description: "Reports over all tenants." },
    PermissionInfo { name: "platform.audit.read", description: "Read the platform's audit trail." },
];

/// Bodies of this module are small.
const BODY_BYTES: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    use Access::{Platform, Public, SignedIn, Tenant};
    let plain = vec![
        Route::new(Public, handlers!(session::sign_in)).priority(Priority::Critical),
        Route::new(Public, handlers!(session::refresh)).priority(Priority::Critical),
        Route::new(SignedIn, handlers!(session::sign_out)).priority(Priority::Critical),
        Route::new(SignedIn, handlers!(session::me)).priority(Priority::Critical),
        Route::new(SignedIn, handlers!(session::change_password)).priority(Priority::Critical),
        Route::new(Public, handlers!(session::accept_invitation)).priority(Priority::Critical),
        Route::new(Tenant("identity.settings.read"), handlers!(tenant::get_settings)),
        Route::new(Tenant("identity.settings.write"), handlers!(tenant::put_settings)),
        Route::new(Tenant("identity.settings.read"), handlers!(tenant::get_flags)),
        Route::new(Tenant("identity.settings.write"), handlers!(tenant::put_flags)),
        Route::new(Tenant("identity.members.read"), handlers!(tenant::list_members)),
        Route::new(Tenant("identity.members.write"), handlers!(tenant::change_member, tenant::remove_member)),
        Route::new(Tenant("identity.members.read"), handlers!(tenant::list_roles)),
        Route::new(Tenant("identity.members.write"), handlers!(tenant::put_role, tenant::delete_role)),
        Route::new(Tenant("identity.members.read"), handlers!(tenant::list_invitations)),
        Route::new(Tenant("identity.members.write"), handlers!(tenant::create_invitation)).keyed(),
        Route::new(Tenant("identity.members.write"), handlers!(tenant::revoke_invitation)),
        Route::new(Tenant("identity.api_keys.read"), handlers!(tenant::list_api_keys)),
        Route::new(Tenant("identity.api_keys.write"), handlers!(tenant::create_api_key)).keyed(),
        Route::new(Tenant("identity.api_keys.write"), handlers!(tenant::revoke_api_key)),
        Route::new(Tenant("identity.api_keys.write"), handlers!(tenant::create_publishable_key)).keyed(),
        Route::new(Tenant("identity.audit.read"), handlers!(tenant::audit_log)),
        Route::new(Platform("platform.tenants.read"), handlers!(platform::list_tenants)),
        Route::new(Platform("platform.tenants.write"), handlers!(platform::create_tenant)).keyed(),
        Route::new(Platform("platform.tenants.read"), handlers!(platform::get_tenant)),
        Route::new(Platform("platform.tenants.write"), handlers!(platform::change_tenant)),
        Route::new(Platform("platform.tenants.write"), handlers!(platform::invite_owner)).keyed(),
        Route::new(Platform("platform.reports.read"), handlers!(platform::report_tenants)),
        Route::new(Platform("platform.audit.read"), handlers!(platform::audit_log)),
    ];
    plain.into_iter().map(|route| route.body_limit(BODY_BYTES)).collect()
}

fn by(caller: &Caller) -> By {
    By { actor: caller.actor, platform: caller.platform, request_id: Some(caller.request_id.clone()) }
}

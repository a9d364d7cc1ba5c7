//! The module through HTTP, on both engines.

use crate::api::{self, ApiKeySpec, By, NewTenant};
use crate::auth::{Auth, AuthConfig};
use crate::model::{Known, Plan, UserId, UserStatus};
use kernel::{Rng, SeededRng, TenantId};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::{Client, Engine, Setup, TestApp, both_engines};
use web::{Access, Authenticator as _, Credential, Module, Route};

const PASSWORD: &str = "correct horse battery";

fn setup() -> Setup {
    let auth = Auth::unstarted();
    Setup::new(vec![crate::module(), shop()]).authenticator(Arc::new(auth.clone())).customise(|builder| builder.part(auth))
}

#[utoipa::path(get, path = "/api/v1/storefront/shelf", responses((status = 200)))]
async fn shelf() {}

/// A module with a route of the storefront.
fn shop() -> Module {
    Module { routes: vec![Route::new(Access::Storefront, web::handlers!(shelf))], ..Module::new("shop", &[]) }
}

fn known() -> Known {
    Known::new(crate::module().permissions.iter().map(|p| p.name))
}

/// An application with two tenants, `acme` and `bolt`, each with an owner `owner@<slug>.example`, and a platform administrator
/// `root@platform.example`. All have the same password.
struct World {
    app: TestApp,
    known: Arc<Known>,
    rng: Arc<dyn Rng>,
    acme: TenantId,
    bolt: TenantId,
}

impl World {
    async fn new(app: TestApp) -> World {
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::new(42));
        app.app().part::<Auth>().fill(app.store(), rng.clone(), known(), AuthConfig::default()).await.expect("the authenticator starts");
        let tenant = async |slug: &str| {
            let new = NewTenant { slug: slug.to_owned(), name: slug.to_uppercase(), plan: Plan::Basic };
            let id = api::create_tenant(app.store(), By::SYSTEM, new).await.expect("a tenant is made");
            app.audit_tenant(id);
            id
        };
        let (acme, bolt) = (tenant("acme").await, tenant("bolt").await);
        let world = World { known: Arc::new(known()), rng, acme, bolt, app };
        world.member("owner@acme.example", acme, "owner").await;
        world.member("owner@bolt.example", bolt, "owner").await;
        let root = world.user("root@platform.example").await;
        api::set_platform_admin(world.app.store(), By::SYSTEM, root, true).await.expect("an administrator is made");
        world
    }

    async fn user(&self, email: &str) -> UserId {
        let made = api::ensure_user(self.app.store(), By::SYSTEM, &self.rng, email, "Ann", PASSWORD.to_owned()).await;
        made.expect("a user is made").0
    }

    async fn member(&self, email: &str, tenant: TenantId, role: &str) -> UserId {
        let user = self.user(email).await;
        api::put_member(self.app.store(), By::SYSTEM, &self.known, tenant, user, role).await.expect("a member is made");
        user
    }

    /// Signs in and gives the whole answer.
    async fn tokens(&self, body: Value) -> Value {
        self.app.post("/api/v1/auth/sign-in").json(&body).send().await.expect(200).json
    }

    async fn client(&self, email: &str) -> Client {
        let tokens = self.tokens(json!({"email": email, "password": PASSWORD})).await;
        self.app.with_token(tokens["access_token"].as_str().expect("a token"))
    }

    async fn root(&self) -> Client {
        let tokens = self.tokens(json!({"email": "root@platform.example", "password": PASSWORD, "platform": true})).await;
        self.app.with_token(tokens["access_token"].as_str().expect("a token"))
    }

    /// The actions in an audit trail, newest first.
    async fn actions(&self, client: &Client, path: &str) -> Vec<String> {
        let page = client.get(path).send().await.expect(200).json;
        page["data"].as_array().expect("a list").iter().map(|e| e["action"].as_str().expect("a word").to_owned()).collect()
    }
}

async fn me(client: &Client) -> testkit::TestResponse {
    client.get("/api/v1/me").send().await
}

both_engines! {
    setup: setup;

    async fn a_user_signs_in_and_knows_who_they_are(app: TestApp) {
        let world = World::new(app).await;
        let tokens = world.tokens(json!({"email": " Owner@ACME.example ", "password": PASSWORD})).await;
        assert_eq!((&tokens["token_type"], &tokens["expires_in_s"], &tokens["tenant_id"]), (&json!("Bearer"), &json!(600), &json!(world.acme)));
        let client = world.app.with_token(tokens["access_token"].as_str().unwrap());
        let who = me(&client).await.expect(200).json;
        assert_eq!((&who["user"]["email"], &who["role"], &who["tenant"]["slug"]), (&json!("owner@acme.example"), &json!("owner"), &json!("acme")));
        assert!(who["permissions"].as_array().unwrap().contains(&json!("identity.members.write")));
        assert!(!who.to_string().contains("platform."));
        // Another tenant can't be named with it, in whichever way.
        client.get("/api/v1/me").tenant("bolt").send().await.expect_problem(400, "request.tenant_mismatch");
        client.get(format!("/api/v1/tenants/{}/members", world.bolt)).send().await.expect_problem(400, "request.tenant_mismatch");
        client.get("/api/v1/tenants/acme/members").send().await.expect(200);
        client.get("/api/v1/tenants/nobody/members").send().await.expect_problem(404, "request.unknown_tenant");
        // It expires.
        world.app.clock().advance_ms(600_000);
        me(&client).await.expect_problem(401, "identity.token_expired");
    }

    async fn nobody_learns_which_accounts_exist(app: TestApp) {
        let world = World::new(app).await;
        let attempt = async |body: Value| {
            let answer = world.app.post("/api/v1/auth/sign-in").json(&body).send().await;
            (answer.status.as_u16(), answer.text("code"), answer.text("detail"))
        };
        let wrong = attempt(json!({"email": "owner@acme.example", "password": "wrong password"})).await;
        assert_eq!(wrong.1, "identity.wrong_credentials");
        assert_eq!(wrong, attempt(json!({"email": "nobody@acme.example", "password": "wrong password"})).await);
        let foreign = attempt(json!({"email": "owner@acme.example", "password": PASSWORD, "tenant": "bolt"})).await;
        assert_eq!((foreign.0, foreign.1.as_str()), (403, "identity.not_a_member"));
        assert_eq!(foreign, attempt(json!({"email": "owner@acme.example", "password": PASSWORD, "tenant": "nobody"})).await);
        let platform = attempt(json!({"email": "owner@acme.example", "password": PASSWORD, "platform": true})).await;
        assert_eq!((platform.0, platform.1.as_str()), (403, "identity.not_a_member"));
        // After five failures an address has to wait, whether or not it has an account; the right password doesn't get past that.
        for email in ["owner@bolt.example", "nobody@bolt.example"] {
            for _ in 0..5 {
                assert_eq!(attempt(json!({"email": email, "password": "wrong password"})).await.0, 401);
            }
            assert_eq!(attempt(json!({"email": email, "password": PASSWORD})).await.1, "identity.too_many_attempts");
        }
        world.app.clock().advance_ms(1000);
        assert_eq!(attempt(json!({"email": "nobody@bolt.example", "password": PASSWORD})).await.1, "identity.wrong_credentials");
        assert_eq!(attempt(json!({"email": "nobody@bolt.example", "password": PASSWORD})).await.1, "identity.too_many_attempts");
        world.client("owner@bolt.example").await;
        // Success forgets the failures.
        assert_eq!(attempt(json!({"email": "owner@bolt.example", "password": "wrong password"})).await.0, 401);
        world.client("owner@bolt.example").await;
    }

    async fn an_account_in_several_tenants_names_one(app: TestApp) {
        let world = World::new(app).await;
        world.member("owner@acme.example", world.bolt, "viewer").await;
        let body = json!({"email": "owner@acme.example", "password": PASSWORD});
        let answer = world.app.post("/api/v1/auth/sign-in").json(&body).send().await.expect_problem(400, "request.invalid");
        assert!(answer.names_field("tenant") && answer.json.to_string().contains("acme, bolt"), "{}", answer.json);
        world.app.post("/api/v1/auth/sign-in").tenant("bolt").json(&body).send().await.expect(200);
        let tokens = world.tokens(json!({"email": "owner@acme.example", "password": PASSWORD, "tenant": "bolt"})).await;
        assert_eq!(tokens["tenant_id"], json!(world.bolt));
    }

    async fn refresh_tokens_rotate_and_a_copy_ends_the_session(app: TestApp) {
        let world = World::new(app).await;
        let first = world.tokens(json!({"email": "owner@acme.example", "password": PASSWORD})).await;
        let refresh = async |tokens: &Value| world.app.post("/api/v1/auth/refresh").json(&json!({"refresh_token": tokens["refresh_token"]})).send().await;
        let second = refresh(&first).await.expect(200).json;
        let third = refresh(&second).await.expect(200).json;
        assert_eq!(first["session_id"], third["session_id"]);
        let client = world.app.with_token(third["access_token"].as_str().unwrap());
        me(&client).await.expect(200);
        // A guess that names the session does not end it.
        let guess = format!("{}_{}", first["refresh_token"].as_str().unwrap().rsplit_once('_').unwrap().0, "a".repeat(86));
        refresh(&json!({"refresh_token": guess})).await.expect_problem(401, "identity.session_ended");
        me(&client).await.expect(200);
        // A used one does, for everybody who holds a token of it, at once.
        refresh(&first).await.expect_problem(401, "identity.refresh_reused");
        me(&client).await.expect_problem(401, "identity.session_ended");
        refresh(&third).await.expect_problem(401, "identity.session_ended");
        for bad in ["", "bos_ref_", "x"] {
            refresh(&json!({"refresh_token": bad})).await.expect_problem(401, "identity.session_ended");
        }
        // Without use a session ends after two weeks.
        let idle = world.tokens(json!({"email": "owner@acme.example", "password": PASSWORD})).await;
        world.app.clock().advance_ms(14 * 24 * 3600 * 1000);
        refresh(&idle).await.expect_problem(401, "identity.session_ended");
    }

    async fn signing_out_holds_at_once(app: TestApp) {
        let world = World::new(app).await;
        let (here, there, other) =
            (world.client("owner@acme.example").await, world.client("owner@acme.example").await, world.client("owner@bolt.example").await);
        for client in [&here, &there, &other] {
            me(client).await.expect(200);
        }
        here.post("/api/v1/auth/sign-out").send().await.expect(204);
        me(&here).await.expect_problem(401, "identity.session_ended");
        me(&there).await.expect(200);
        let here = world.client("owner@acme.example").await;
        there.post("/api/v1/auth/sign-out").json(&json!({"everywhere": true})).send().await.expect(204);
        me(&here).await.expect_problem(401, "identity.session_ended");
        me(&there).await.expect_problem(401, "identity.session_ended");
        me(&other).await.expect(200);
        world.app.anonymous().get("/api/v1/me").send().await.expect_problem(401, "request.unauthenticated");
        world.app.with_token("nonsense").get("/api/v1/me").send().await.expect_problem(401, "identity.invalid_token");
    }

    async fn a_new_password_ends_every_session(app: TestApp) {
        let world = World::new(app).await;
        let (here, there) = (world.client("owner@acme.example").await, world.client("owner@acme.example").await);
        let change = |current: &str, new: &str| here.post("/api/v1/me/password").json(&json!({"current_password": current, "new_password": new}));
        change("wrong password", "another long one").send().await.expect_problem(401, "identity.wrong_credentials");
        assert!(change(PASSWORD, "short").send().await.expect_problem(400, "request.invalid").names_field("new_password"));
        change(PASSWORD, "another long one").send().await.expect(204);
        me(&here).await.expect_problem(401, "identity.session_ended");
        me(&there).await.expect_problem(401, "identity.session_ended");
        world.tokens(json!({"email": "owner@acme.example", "password": "another long one"})).await;
    }

    async fn members_change_at_once_and_nobody_climbs(app: TestApp) {
        let world = World::new(app).await;
        let admin_id = world.member("admin@acme.example", world.acme, "admin").await;
        let staff_id = world.member("staff@acme.example", world.acme, "staff").await;
        let owner_id = world.user("owner@acme.example").await;
        let bolt_id = world.user("owner@bolt.example").await;
        let (owner, admin, staff) =
            (world.client("owner@acme.example").await, world.client("admin@acme.example").await, world.client("staff@acme.example").await);
        let set = |client: &Client, user: UserId, role: &str| client.patch(format!("/api/v1/members/{user}")).json(&json!({"role": role}));

        staff.get("/api/v1/members").send().await.expect_problem(403, "request.forbidden");
        set(&admin, staff_id, "manager").send().await.expect(200);
        staff.get("/api/v1/members").send().await.expect(200);
        set(&admin, staff_id, "viewer").send().await.expect(200);
        staff.get("/api/v1/members").send().await.expect_problem(403, "request.forbidden");
        // Only owners handle owners, and one stays.
        set(&admin, admin_id, "owner").send().await.expect_problem(403, "identity.cannot_grant");
        set(&admin, owner_id, "staff").send().await.expect_problem(403, "identity.cannot_grant");
        admin.delete(format!("/api/v1/members/{owner_id}")).send().await.expect_problem(403, "identity.cannot_grant");
        set(&owner, owner_id, "admin").send().await.expect_problem(409, "identity.last_owner");
        owner.delete(format!("/api/v1/members/{owner_id}")).send().await.expect_problem(409, "identity.last_owner");
        set(&owner, admin_id, "owner").send().await.expect(200);
        set(&owner, owner_id, "admin").send().await.expect(200);
        assert!(set(&admin, staff_id, "packer").send().await.expect_problem(400, "request.invalid").names_field("role"));
        // Members of other tenants do not exist here.
        set(&admin, bolt_id, "staff").send().await.expect_problem(404, "identity.member_not_found");
        admin.delete(format!("/api/v1/members/{bolt_id}")).send().await.expect_problem(404, "identity.member_not_found");
        // Who is removed is out, and stays out for this session when they come back.
        me(&staff).await.expect(200);
        admin.delete(format!("/api/v1/members/{staff_id}")).send().await.expect(204);
        me(&staff).await.expect_problem(401, "identity.session_ended");
        world.member("staff@acme.example", world.acme, "staff").await;
        me(&staff).await.expect_problem(401, "identity.session_ended");
        let page = admin.get("/api/v1/members?limit=2").send().await.expect(200).json;
        assert_eq!(page["data"].as_array().unwrap().len(), 2);
        let rest = admin.get(format!("/api/v1/members?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).send().await.expect(200).json;
        assert_eq!(rest["data"][0]["user"]["email"], "owner@acme.example");
        assert_eq!(rest["next_cursor"], Value::Null);
        let bolt = world.client("owner@bolt.example").await;
        bolt.get(format!("/api/v1/members?cursor={}", page["next_cursor"].as_str().unwrap())).send().await.expect_problem(400, "request.invalid_cursor");
        let actions = world.actions(&admin, "/api/v1/audit-log?limit=3").await;
        assert_eq!(actions, ["member.add", "member.remove", "member.change"]);
    }

    async fn custom_roles_change_at_once(app: TestApp) {
        let world = World::new(app).await;
        let owner = world.client("owner@acme.example").await;
        let put = |client: &Client, permissions: &[&str]| {
            client.put("/api/v1/roles/hr").json(&json!({"description": "People", "permissions": permissions}))
        };
        put(&owner, &["identity.members.read", "identity.members.write", "identity.settings.read"]).send().await.expect(204);
        let hr_id = world.member("hr@acme.example", world.acme, "hr").await;
        let hr = world.client("hr@acme.example").await;
        hr.get("/api/v1/members").send().await.expect(200);
        // With the right to make roles one still can't make oneself more.
        put(&hr, &["identity.api_keys.write"]).send().await.expect_problem(403, "identity.cannot_grant");
        hr.patch(format!("/api/v1/members/{hr_id}")).json(&json!({"role": "admin"})).send().await.expect_problem(403, "identity.cannot_grant");
        assert!(put(&owner, &["platform.tenants.write"]).send().await.expect_problem(400, "request.invalid").names_field("permissions[0]"));
        let reserved = owner.put("/api/v1/roles/admin").json(&json!({"description": "x", "permissions": ["identity.members.read"]}));
        assert!(reserved.send().await.expect_problem(400, "request.invalid").names_field("name"));
        put(&owner, &["identity.settings.read"]).send().await.expect(204);
        hr.get("/api/v1/members").send().await.expect_problem(403, "request.forbidden");
        hr.get("/api/v1/settings").send().await.expect(200);
        owner.delete("/api/v1/roles/hr").send().await.expect_problem(409, "identity.role_in_use");
        owner.patch(format!("/api/v1/members/{hr_id}")).json(&json!({"role": "viewer"})).send().await.expect(200);
        owner.delete("/api/v1/roles/hr").send().await.expect(204);
        owner.delete("/api/v1/roles/hr").send().await.expect_problem(404, "identity.role_not_found");
        let roles = owner.get("/api/v1/roles").send().await.expect(200).json;
        assert_eq!(roles["data"].as_array().unwrap().len(), 5);
    }

    async fn invitations(app: TestApp) {
        let world = World::new(app).await;
        let owner = world.client("owner@acme.example").await;
        let invite = |email: &str, role: &str| owner.post("/api/v1/invitations").json(&json!({"email": email, "role": role}));
        let accept = |body: Value| world.app.post("/api/v1/invitations/accept").json(&body);

        let made = invite("New@acme.example", "staff").key("k1").send().await.expect(201);
        let token = made.text("token");
        assert_eq!((made.text("email"), made.text("status")), ("new@acme.example".into(), "open".into()));
        // A replay is the same invitation without the token: what is kept can't be used to join.
        let again = invite("New@acme.example", "staff").key("k1").send().await.expect(201);
        assert_eq!((again.text("id"), &again.json["token"]), (made.text("id"), &Value::Null));
        assert_eq!(again.header("idempotency-replayed"), "true");

        let problem = accept(json!({"token": token, "name": "Bea", "password": "short"})).send().await.expect_problem(400, "request.invalid");
        assert!(problem.names_field("password"));
        let forged = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
        accept(json!({"token": forged, "name": "Bea", "password": PASSWORD})).send().await.expect_problem(404, "identity.invitation_not_found");
        let joined = accept(json!({"token": token, "name": "Bea", "password": PASSWORD})).send().await.expect(200);
        assert_eq!((joined.text("tenant_id"), joined.text("role")), (world.acme.to_string(), "staff".into()));
        accept(json!({"token": token, "name": "Bea", "password": PASSWORD})).send().await.expect_problem(404, "identity.invitation_not_found");
        world.client("new@acme.example").await;

        // An account that exists has to be proven.
        let token = invite("owner@bolt.example", "viewer").send().await.expect(201).text("token");
        accept(json!({"token": token, "password": "not the password"})).send().await.expect_problem(401, "identity.wrong_credentials");
        accept(json!({"token": token, "password": PASSWORD})).send().await.expect(200);
        world.tokens(json!({"email": "owner@bolt.example", "password": PASSWORD, "tenant": "acme"})).await;
        let token = invite("owner@bolt.example", "viewer").send().await.expect(201).text("token");
        accept(json!({"token": token, "password": PASSWORD})).send().await.expect_problem(409, "identity.already_member");

        // Withdrawn and expired ones are gone.
        let made = invite("late@acme.example", "viewer").send().await.expect(201);
        let bolt = world.tokens(json!({"email": "owner@bolt.example", "password": PASSWORD, "tenant": "bolt"})).await;
        let bolt = world.app.with_token(bolt["access_token"].as_str().unwrap());
        bolt.delete(format!("/api/v1/invitations/{}", made.text("id"))).send().await.expect_problem(404, "identity.invitation_not_found");
        owner.delete(format!("/api/v1/invitations/{}", made.text("id"))).send().await.expect(204);
        accept(json!({"token": made.text("token"), "name": "L", "password": PASSWORD})).send().await.expect_problem(404, "identity.invitation_not_found");
        let made = invite("later@acme.example", "viewer").send().await.expect(201);
        world.app.clock().advance_ms(7 * 24 * 3600 * 1000);
        accept(json!({"token": made.text("token"), "name": "L", "password": PASSWORD})).send().await.expect_problem(404, "identity.invitation_not_found");
        let owner = world.client("owner@acme.example").await;
        let list = owner.get("/api/v1/invitations").send().await.expect(200).json;
        let status: Vec<_> = list["data"].as_array().unwrap().iter().map(|i| i["status"].as_str().unwrap()).collect();
        assert_eq!(status, ["expired", "revoked", "expired", "accepted", "accepted"]);
        assert!(!list.to_string().contains("bos_inv_"));
    }

    async fn api_keys(app: TestApp) {
        let world = World::new(app).await;
        let (owner, bolt) = (world.client("owner@acme.example").await, world.client("owner@bolt.example").await);
        let make = |body: Value| owner.post("/api/v1/api-keys").json(&body);
        let made = make(json!({"name": "Shop", "permissions": ["identity.settings.read", "identity.api_keys.write"]})).key("k").send().await.expect(201);
        let text = made.text("key");
        assert!(text.starts_with("bos_live_") && text.starts_with(&made.text("prefix")));
        let again = make(json!({"name": "Shop", "permissions": ["identity.settings.read", "identity.api_keys.write"]})).key("k").send().await.expect(201);
        assert_eq!((again.text("id"), &again.json["key"]), (made.text("id"), &Value::Null));

        let key = world.app.with_token(text.clone());
        key.get("/api/v1/settings").send().await.expect(200);
        key.get("/api/v1/members").send().await.expect_problem(403, "request.forbidden");
        key.get("/api/v1/settings").tenant("bolt").send().await.expect_problem(400, "request.tenant_mismatch");
        assert_eq!(me(&key).await.expect(200).json["api_key"]["name"], "Shop");
        key.post("/api/v1/auth/sign-out").send().await.expect_problem(409, "identity.no_session");
        // A key makes no key that can do more than itself.
        let more = key.post("/api/v1/api-keys").json(&json!({"name": "More", "permissions": ["identity.members.read"]}));
        more.send().await.expect_problem(403, "identity.cannot_grant");
        let less = key.post("/api/v1/api-keys").json(&json!({"name": "Less", "permissions": ["identity.settings.read"]}));
        less.send().await.expect(201);
        assert!(make(json!({"name": "No", "permissions": ["platform.tenants.read"]})).send().await.expect(400).names_field("permissions[0]"));
        assert!(make(json!({"name": "No", "permissions": []})).send().await.expect(400).names_field("permissions"));
        let past = json!({"name": "No", "permissions": ["identity.settings.read"], "expires_at": "2020-01-01T00:00:00Z"});
        assert!(make(past).send().await.expect(400).names_field("expires_at"));

        // Neither a changed secret nor another tenant's name in it works.
        let wrong = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
        me(&world.app.with_token(wrong)).await.expect_problem(401, "identity.invalid_token");
        let moved = text.replace(&world.acme.to_string()[4..], &world.bolt.to_string()[4..]);
        me(&world.app.with_token(moved)).await.expect_problem(401, "identity.invalid_token");
        // Nor can another tenant revoke it.
        let path = format!("/api/v1/api-keys/{}", made.text("id"));
        bolt.delete(path.clone()).send().await.expect_problem(404, "identity.api_key_not_found");
        key.get("/api/v1/settings").send().await.expect(200);
        owner.delete(path.clone()).send().await.expect(204);
        key.get("/api/v1/settings").send().await.expect_problem(401, "identity.api_key_ended");
        owner.delete(path).send().await.expect(204);

        let until = "2026-01-05T13:00:00Z";
        let short = make(json!({"name": "Hour", "permissions": ["identity.settings.read"], "expires_at": until})).send().await.expect(201);
        let short = world.app.with_token(short.text("key"));
        short.get("/api/v1/settings").send().await.expect(200);
        let list = owner.get("/api/v1/api-keys").send().await.expect(200).json;
        assert_eq!(list["data"].as_array().unwrap().len(), 3);
        assert!(!list.to_string().contains(&text));
        world.app.clock().advance_ms(3_600_000);
        short.get("/api/v1/settings").send().await.expect_problem(401, "identity.api_key_ended");

        let (id, text) = api::create_api_key(
            world.app.store(),
            By::SYSTEM,
            &*world.rng,
            &world.known,
            world.acme,
            ApiKeySpec { name: "CLI".into(), permissions: vec!["identity.members.read".into()], expires_at: None },
        )
        .await
        .unwrap();
        let cli = world.app.with_token(text);
        cli.get("/api/v1/members").send().await.expect(200);
        api::revoke_api_key(world.app.store(), By::SYSTEM, &world.known, world.acme, id).await.unwrap();
        world.app.clock().advance_ms(crate::auth::SQLITE_EPOCH_AGE_MS);
        cli.get("/api/v1/members").send().await.expect_problem(401, "identity.api_key_ended");
    }

    async fn publishable_keys(app: TestApp) {
        let world = World::new(app).await;
        let (owner, bolt) = (world.client("owner@acme.example").await, world.client("owner@bolt.example").await);
        let make = |body: Value| owner.post("/api/v1/publishable-keys").json(&body);
        let made = make(json!({"name": "Shop", "origins": ["https://shop.example"]})).key("k").send().await.expect(201);
        let text = made.text("key");
        assert!(text.starts_with("pk_") && text == made.text("prefix"));
        assert_eq!((&made.json["publishable"], &made.json["permissions"]), (&json!(true), &json!([])));
        assert_eq!(make(json!({"name": "Shop", "origins": ["https://shop.example"]})).key("k").send().await.expect(201).json, made.json);

        let key = world.app.with_token(text.clone());
        let shelf = |client: &Client| client.get("/api/v1/storefront/shelf");
        shelf(&key).send().await.expect(200);
        shelf(&key).header("origin", "https://shop.example").send().await.expect(200);
        shelf(&key).header("origin", "https://evil.example").send().await.expect_problem(403, "request.origin_not_allowed");
        shelf(&key).tenant("bolt").send().await.expect_problem(400, "request.tenant_mismatch");
        // It opens nothing else.
        for path in ["/api/v1/settings", "/api/v1/members", "/api/v1/api-keys", "/api/v1/me", "/api/v1/platform/tenants"] {
            key.get(path).send().await.expect_problem(403, "request.forbidden");
        }
        key.post("/api/v1/publishable-keys").json(&json!({"name": "More"})).send().await.expect_problem(403, "request.forbidden");

        // A text that is not of the form, of another tenant, or of no key at all, is nobody's; and so is a secret key's id.
        let secret = owner.post("/api/v1/api-keys").json(&json!({"name": "S", "permissions": ["identity.settings.read"]})).send().await.expect(201);
        let ids = |tenant: TenantId, key: &str| format!("pk_{}{}", &tenant.to_string()[4..], &key[4..]);
        assert_eq!(ids(world.acme, &made.text("id")), text);
        for wrong in [format!("{text}0"), format!("{text}_"), ids(world.bolt, &made.text("id")), ids(world.acme, &secret.text("id")), "pk_".to_owned()] {
            shelf(&world.app.with_token(wrong)).send().await.expect_problem(401, "identity.invalid_token");
        }
        // A secret key opens the storefront only with its permission.
        shelf(&world.app.with_token(secret.text("key"))).send().await.expect_problem(403, "request.forbidden");

        let twenty_one: Vec<String> = (0..21).map(|i| format!("https://s{i}.example")).collect();
        for (origins, field) in [
            (json!(["shop.example"]), "origins[0]"),
            (json!(["https://shop.example/"]), "origins[0]"),
            (json!(["https://Shop.example"]), "origins[0]"),
            (json!(["https://a.example", "https://a.example"]), "origins[1]"),
            (json!(twenty_one), "origins"),
        ] {
            assert!(make(json!({"name": "No", "origins": origins})).send().await.expect(400).names_field(field), "{origins}");
        }
        let any = make(json!({"name": "Any"})).send().await.expect(201);
        shelf(&world.app.with_token(any.text("key"))).header("origin", "https://evil.example").send().await.expect(200);

        // Listed and ended as any other key.
        let list = owner.get("/api/v1/api-keys").send().await.expect(200).json;
        assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][2]["prefix"]), (3, &json!(text)));
        let path = format!("/api/v1/api-keys/{}", made.text("id"));
        bolt.delete(path.clone()).send().await.expect_problem(404, "identity.api_key_not_found");
        owner.delete(path).send().await.expect(204);
        shelf(&key).send().await.expect_problem(401, "identity.api_key_ended");
        let actions = world.actions(&owner, "/api/v1/audit-log").await;
        assert_eq!(actions[..4], ["api_key.revoke", "publishable_key.create", "api_key.create", "publishable_key.create"]);
    }

    async fn settings_and_flags_are_versioned_and_audited(app: TestApp) {
        let world = World::new(app).await;
        let (owner, bolt) = (world.client("owner@acme.example").await, world.client("owner@bolt.example").await);
        let first = owner.get("/api/v1/settings").send().await.expect(200);
        assert_eq!((first.header("etag"), first.text("default_currency")), ("\"1\"", "EUR".into()));
        let mut settings = first.json.clone();
        settings["default_currency"] = json!("GBP");
        owner.put("/api/v1/settings").if_match(2).json(&settings).send().await.expect_problem(412, "request.precondition_failed");
        let second = owner.put("/api/v1/settings").if_match(1).json(&settings).header("x-request-id", "req-7").send().await.expect(200);
        assert_eq!(second.header("etag"), "\"2\"");
        owner.put("/api/v1/settings").if_match(1).json(&first.json).send().await.expect_problem(412, "request.precondition_failed");
        // Nothing new is no change.
        assert_eq!(owner.put("/api/v1/settings").json(&settings).send().await.expect(200).header("etag"), "\"2\"");
        settings["time_zone"] = json!("no zone");
        assert!(owner.put("/api/v1/settings").json(&settings).send().await.expect(400).names_field("time_zone"));
        assert_eq!(owner.get("/api/v1/flags").send().await.expect(200).json, json!({"flags": {}}));
        owner.put("/api/v1/flags").if_match(1).json(&json!({"flags": {"new_checkout": true}})).send().await.expect(200);
        owner.put("/api/v1/flags").if_match(1).json(&json!({"flags": {}})).send().await.expect(412);
        assert_eq!(owner.get("/api/v1/settings").send().await.expect(200).text("default_currency"), "GBP");
        let acme = world.acme;
        let (settings, flags) = world.app.store().read(acme, |read| Ok((api::settings(read)?, api::flags(read)?))).await.unwrap();
        assert_eq!((settings.default_currency.code(), flags.get("new_checkout")), ("GBP", Some(&true)));
        // Each tenant has its own.
        assert_eq!(bolt.get("/api/v1/settings").send().await.expect(200).text("default_currency"), "EUR");

        let log = owner.get("/api/v1/audit-log").send().await.expect(200).json;
        let entry = &log["data"][1];
        assert_eq!((&entry["action"], &entry["request_id"]), (&json!("settings.change"), &json!("req-7")));
        assert_eq!((&entry["before"]["default_currency"], &entry["after"]["default_currency"]), (&json!("EUR"), &json!("GBP")));
        assert_eq!((&entry["actor_kind"], &entry["actor"]), (&json!("user"), &json!(world.user("owner@acme.example").await)));
        assert_eq!(world.actions(&owner, "/api/v1/audit-log").await, ["flags.change", "settings.change", "member.add"]);
        assert_eq!(world.actions(&bolt, "/api/v1/audit-log").await, ["member.add"]);
    }

    async fn the_platform_is_a_scope_of_its_own(app: TestApp) {
        let world = World::new(app).await;
        let (root, owner) = (world.root().await, world.client("owner@acme.example").await);
        let who = me(&root).await.expect(200).json;
        assert_eq!((&who["platform"], &who["role"], &who["tenant"]), (&json!(true), &json!("platform_admin"), &Value::Null));
        // Neither scope reaches into the other.
        for path in ["/api/v1/platform/tenants", "/api/v1/platform/reports/tenants", "/api/v1/platform/audit-log"] {
            owner.get(path).send().await.expect_problem(403, "request.forbidden");
            world.app.anonymous().get(path).send().await.expect(401);
        }
        root.get("/api/v1/members").tenant("acme").send().await.expect_problem(403, "request.forbidden");
        root.get("/api/v1/audit-log").tenant("acme").send().await.expect_problem(403, "request.forbidden");

        let new = json!({"slug": "cargo", "name": "Cargo Ltd", "plan": "premium"});
        let made = root.post("/api/v1/platform/tenants").key("k").json(&new).send().await.expect(201);
        let again = root.post("/api/v1/platform/tenants").key("k").json(&new).send().await.expect(201);
        assert_eq!(made.json, again.json);
        assert!(root.post("/api/v1/platform/tenants").json(&new).send().await.expect_problem(409, "identity.slug_taken").names_field("slug"));
        assert!(root.post("/api/v1/platform/tenants").json(&json!({"slug": "www", "name": "x"})).send().await.expect(400).names_field("slug"));
        let cargo = made.text("id");
        let invited = root.post(format!("/api/v1/platform/tenants/{cargo}/invitations")).json(&json!({"email": "boss@cargo.example"})).send().await.expect(201);
        let body = json!({"token": invited.text("token"), "name": "Boss", "password": PASSWORD});
        world.app.post("/api/v1/invitations/accept").json(&body).send().await.expect(200);
        let boss = world.client("boss@cargo.example").await;
        assert_eq!(me(&boss).await.expect(200).json["role"], "owner");
        boss.post("/api/v1/api-keys").json(&json!({"name": "K", "permissions": ["identity.settings.read"]})).send().await.expect(201);

        let report = root.get("/api/v1/platform/reports/tenants").send().await.expect(200).json;
        let rows: Vec<_> = report["data"].as_array().unwrap().iter().map(|r| (r["slug"].as_str().unwrap(), r["users"].as_i64(), r["api_keys"].as_i64())).collect();
        assert_eq!(rows, [("cargo", Some(1), Some(1)), ("bolt", Some(1), Some(0)), ("acme", Some(1), Some(0))]);

        // Suspension holds at once, and so does its end. Closing is final.
        let set = |version: i64, body: Value| root.patch(format!("/api/v1/platform/tenants/{cargo}")).if_match(version).json(&body);
        set(1, json!({"status": "suspended"})).send().await.expect(200);
        me(&boss).await.expect_problem(403, "identity.tenant_suspended");
        set(1, json!({"status": "active"})).send().await.expect_problem(412, "request.precondition_failed");
        set(2, json!({"status": "active"})).send().await.expect(200);
        me(&boss).await.expect(200);
        set(3, json!({"status": "closed"})).send().await.expect(200);
        me(&boss).await.expect_problem(403, "identity.tenant_suspended");
        set(4, json!({"status": "active"})).send().await.expect_problem(409, "identity.tenant_closed");
        root.get(format!("/api/v1/platform/tenants/{}", TenantId::from_i64(77))).send().await.expect_problem(404, "identity.tenant_not_found");
        let page = root.get("/api/v1/platform/tenants?limit=2").send().await.expect(200).json;
        assert_eq!(page["data"][0]["status"], "closed");
        root.get(format!("/api/v1/platform/tenants?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).send().await.expect(200);

        let actions = world.actions(&root, "/api/v1/platform/audit-log").await;
        for action in ["session.open", "tenant.create", "tenants.invite_owner", "tenant.change", "reports.tenants", "tenants.list", "audit_log.read"] {
            assert!(actions.iter().any(|a| a == action), "{action} is not in {actions:?}");
        }
        assert_eq!(actions.iter().filter(|a| *a == "reports.tenants").count(), 1);

        // An administrator who is one no longer is out at once.
        api::set_platform_admin(world.app.store(), By::SYSTEM, world.user("root@platform.example").await, false).await.unwrap();
        world.app.clock().advance_ms(crate::auth::SQLITE_EPOCH_AGE_MS);
        me(&root).await.expect_problem(401, "identity.session_ended");
    }

    async fn a_change_elsewhere_is_seen(app: TestApp) {
        let world = World::new(app).await;
        let client = world.client("owner@acme.example").await;
        me(&client).await.expect(200);
        // A second node on the same database, with the token in its memory too.
        let node = Auth::start(world.app.store(), world.rng.clone(), known(), AuthConfig::default()).await.unwrap();
        let tokens = world.tokens(json!({"email": "owner@acme.example", "password": PASSWORD})).await;
        let token = tokens["access_token"].as_str().unwrap();
        let ask = async || node.authenticate(world.app.store(), Credential::Bearer(token), None).await;
        assert_eq!(ask().await.unwrap().tenant, Some(world.acme));

        // As another process does it: no server is told.
        let user = world.user("owner@acme.example").await;
        api::set_user_status(world.app.store(), By::SYSTEM, user, UserStatus::Disabled).await.unwrap();
        if world.app.store().engine(0) == Engine::Sqlite {
            world.app.clock().advance_ms(crate::auth::SQLITE_EPOCH_AGE_MS);
        }
        assert_eq!(ask().await.unwrap_err().code(), "identity.session_ended");
        me(&client).await.expect_problem(401, "identity.session_ended");
        let body = json!({"email": "owner@acme.example", "password": PASSWORD});
        world.app.post("/api/v1/auth/sign-in").json(&body).send().await.expect_problem(401, "identity.wrong_credentials");
        api::set_user_status(world.app.store(), By::SYSTEM, user, UserStatus::Active).await.unwrap();
        world.tokens(body).await;
        // Tokens from before stay dead.
        me(&client).await.expect_problem(401, "identity.session_ended");
    }

    async fn many_requests_at_once_never_see_a_right_that_was_taken(app: TestApp) {
        let world = World::new(app).await;
        let owner = world.client("owner@acme.example").await;
        let staff_id = world.member("staff@acme.example", world.acme, "manager").await;
        let staff = world.client("staff@acme.example").await;
        let noise = world.client("owner@bolt.example").await;
        for round in 0..8 {
            let role = if round % 2 == 0 { "viewer" } else { "manager" };
            let busy: Vec<_> = (0..16)
                .map(|i| {
                    let client = if i % 2 == 0 { staff.clone() } else { noise.clone() };
                    tokio::spawn(async move { client.get("/api/v1/members").send().await.status.as_u16() })
                })
                .collect();
            owner.patch(format!("/api/v1/members/{staff_id}")).json(&json!({"role": role})).send().await.expect(200);
            let expected = if role == "viewer" { 403 } else { 200 };
            let after = (0..8).map(|_| {
                let client = staff.clone();
                tokio::spawn(async move { client.get("/api/v1/members").send().await.status.as_u16() })
            });
            for answer in after.collect::<Vec<_>>() {
                assert_eq!(answer.await.unwrap(), expected, "round {round}");
            }
            for answer in busy {
                assert!(matches!(answer.await.unwrap(), 200 | 403));
            }
        }
    }

    async fn a_user_keeps_at_most_fifty_sessions(app: TestApp) {
        let world = World::new(app).await;
        let user = world.user("owner@acme.example").await;
        let first = world.client("owner@acme.example").await;
        me(&first).await.expect(200);
        let auth = world.app.app().part::<Auth>();
        for _ in 0..50 {
            let (_, refresh) = crate::token::refresh(world.app.store().ids().next(), "family", "current");
            let open = crate::commands::OpenSession { by: By::SYSTEM, user, tenant: Some(world.acme), refresh, idle_ms: 1_000_000 };
            world.app.store().write(kernel::Scope::Platform, crate::commands::open_session, open).await.unwrap();
        }
        auth.notice(world.app.store()).await.unwrap();
        me(&first).await.expect_problem(401, "identity.session_ended");
    }
}

/// On an SQLite file, what a request pays for its credential when it is in memory. Not a test of time: it prints what it takes.
#[tokio::test]
#[ignore = "measures; run with --release --ignored --nocapture"]
async fn cost_of_a_known_credential() {
    let app = TestApp::start(Engine::Sqlite, setup()).await.unwrap();
    let world = World::new(app).await;
    let tokens = world.tokens(json!({"email": "owner@acme.example", "password": PASSWORD})).await;
    let token = tokens["access_token"].as_str().unwrap();
    let auth = world.app.app().part::<Auth>();
    let begun = std::time::Instant::now();
    const TIMES: u32 = 200_000;
    for _ in 0..TIMES {
        auth.authenticate(world.app.store(), Credential::Bearer(token), None).await.unwrap();
    }
    #[allow(clippy::print_stderr, reason = "a measurement is for reading")]
    {
        eprintln!("a token of {} bytes: {:?} each", token.len(), begun.elapsed() / TIMES);
    }
}

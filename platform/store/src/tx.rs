//! What a command and a read see of the database.

use crate::event::NewEvent;
use crate::job::Member;
use crate::rider::{Left, Rider};
use crate::sql::{Sql, uses_tenant};
use crate::store::Engine;
use crate::value::{ArgList, Args, FromRow, Row, Value};
use kernel::{Error, Id, IdGenerator, Result, Scope, TenantId, Timestamp};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// Why a write that had to change exactly one row is refused when it did not.
pub(crate) type Refusal = Box<dyn FnOnce() -> Error + Send>;

/// Hands over the arguments of one row after the other.
pub(crate) type EachRow<'r> = dyn FnMut(&mut dyn FnMut(ArgList<'_>) -> Result<()>) -> Result<()> + 'r;

/// What commands keep in their lane from one group to the next. It is forgotten when anything is rolled back, and when anybody else
/// may have written.
#[derive(Default)]
pub(crate) struct Memory(HashMap<TypeId, Box<dyn Any + Send>>);

/// What an engine does for a transaction. The one seam between SQLite and PostgreSQL.
pub(crate) trait Session {
    /// Runs a query and hands over its rows in order.
    fn query(&mut self, sql: Sql, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()>;

    /// Sends a write. With a refusal it must change exactly one row. PostgreSQL may answer later, at [`Session::settle`].
    fn write(&mut self, sql: Sql, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()>;

    /// Sends the same write for each list of arguments that `rows` hands over.
    fn write_each(&mut self, sql: Sql, rows: &mut EachRow<'_>) -> Result<()> {
        rows(&mut |list| self.write(sql, list, None))
    }

    /// Runs a write and waits for the number of rows that it changed.
    fn count(&mut self, sql: Sql, args: ArgList<'_>) -> Result<u64>;

    /// Sends a statement of transaction control (savepoints).
    fn control(&mut self, text: &'static str) -> Result<()>;

    /// Binds what follows to `scope` (row-level security on PostgreSQL, the query-plan wall on SQLite).
    fn enter(&mut self, scope: Scope) -> Result<()>;

    /// Waits for every write sent so far; the first that failed is the error.
    fn settle(&mut self) -> Result<()>;

    /// Which engine this is.
    fn engine(&self) -> Engine;
}

/// A consistent snapshot of one shard, in one scope. In a tenant's scope the tenant is `$1` and the given arguments start at `$2`.
pub struct Read<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) scope: Scope,
    pub(crate) now: Timestamp,
    /// The first statement error; everything after it fails with the same, so that it can't be swallowed.
    pub(crate) poison: Option<Error>,
}

impl<'a> Read<'a> {
    pub(crate) fn new(session: &'a mut dyn Session, scope: Scope, now: Timestamp) -> Self {
        Read { session, scope, now, poison: None }
    }

    /// Whose rows this may touch.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The tenant. Errors: `internal` on the platform's scope.
    pub fn tenant(&self) -> Result<TenantId> {
        self.scope.tenant().ok_or_else(|| Error::internal("a tenant's command ran on the platform's scope"))
    }

    /// The engine, for a command that has a set-based form for one and a loop for the other.
    pub fn engine(&self) -> Engine {
        self.session.engine()
    }

    /// When the transaction began.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Every row, in order. The statement bounds their number.
    pub fn all<R: FromRow>(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        self.each(sql, args, |row| {
            rows.push(R::from_row(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The only row, if there is one. Errors: `internal` when there are several.
    pub fn opt<R: FromRow>(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<Option<R>> {
        let mut found = None;
        self.each(sql, args, |row| {
            if found.is_some() {
                return Err(Error::internal("a statement for one row found several"));
            }
            found = Some(R::from_row(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The only row. Errors: `internal` when there is none or several.
    pub fn one<R: FromRow>(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<R> {
        self.opt(sql, args)?.ok_or_else(|| Error::internal("a statement for one row found none"))
    }

    /// Hands each row to `each` as it arrives: memory stays flat however many there are.
    pub fn each(&mut self, sql: impl Into<Sql>, args: impl Args, mut each: impl FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        let sql = sql.into();
        self.statement(sql, &args, |session, sql, list| session.query(sql, list, &mut each))
    }

    fn statement<T>(&mut self, sql: Sql, args: &dyn Args, run: impl FnOnce(&mut dyn Session, Sql, ArgList<'_>) -> Result<T>) -> Result<T> {
        self.guarded(sql, |session, tenant| run(session, sql, arguments(tenant, args)?))
    }

    /// Runs a statement with the tenant that it must be bound to, unless one has failed before.
    fn guarded<T>(&mut self, sql: Sql, run: impl FnOnce(&mut dyn Session, Option<TenantId>) -> Result<T>) -> Result<T> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        let result = match self.scope {
            Scope::Tenant(tenant) if uses_tenant(sql) => run(self.session, Some(tenant)),
            Scope::Tenant(_) => Err(Error::internal(format!("a statement in a tenant's scope does not use $1: {}", sql.postgres))),
            Scope::Platform => run(self.session, None),
        };
        if let Err(error) = &result {
            self.poison = Some(error.clone());
        }
        result
    }
}

/// A statement's arguments, the tenant first.
fn arguments<'a>(tenant: Option<TenantId>, args: &'a dyn Args) -> Result<ArgList<'a>> {
    let mut list = ArgList::new();
    list.extend(tenant.map(|tenant| Value::Int(tenant.as_i64())));
    args.push_to(&mut list);
    storable(&list).map(|()| list)
}

/// Refuses text with a NUL character, which PostgreSQL can't hold and SQLite's functions cut off. Handlers check their own fields;
/// this is the last wall.
fn storable(list: &ArgList<'_>) -> Result<()> {
    let clean = |text: &str| !text.as_bytes().contains(&0);
    let fine = list.iter().all(|value| match value {
        Value::Text(text) => clean(text),
        Value::Texts(texts) => texts.iter().all(|text| clean(text)),
        _ => true,
    });
    if fine { Ok(()) } else { Err(Error::invalid("request.invalid_text", "text must not contain the NUL character (U+0000)")) }
}

/// What the commands of one group share.
pub(crate) struct Group {
    /// Buffered events with their tenant, inserted before the commit.
    pub events: Vec<Emitted>,
    /// Whether a command has written since the mark was last taken.
    pub wrote: bool,
    /// Whether a command has left work for [`crate::Store::woken`]. A refused one may have set it: those who look find nothing.
    pub wakes: bool,
    /// What commands keep for the groups after this one.
    pub memory: Memory,
    /// Who goes on with what is left. None while a group is run again: then what was begun is gone on with later.
    pub rider: Option<Arc<dyn Rider>>,
    /// What the command that runs has left for the rider.
    pub left: Vec<Left>,
    /// What the rider is given back after the commit.
    pub ridden: Vec<Left>,
    /// Whether the rider went on with something that the last command has left.
    pub rode: bool,
}

/// How often a rider is asked in one command: what it goes on with may leave more.
const RIDES: usize = 8;

pub(crate) struct Emitted {
    pub tenant: Option<TenantId>,
    pub event: NewEvent,
    pub correlation: Option<Arc<str>>,
}

/// A command's view of its transaction: everything that [`Read`] does, and writes.
pub struct Tx<'a> {
    pub(crate) read: Read<'a>,
    pub(crate) group: &'a mut Group,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) correlation: Option<Arc<str>>,
}

impl<'a> std::ops::Deref for Tx<'a> {
    type Target = Read<'a>;
    fn deref(&self) -> &Read<'a> {
        &self.read
    }
}

impl<'a> std::ops::DerefMut for Tx<'a> {
    fn deref_mut(&mut self) -> &mut Read<'a> {
        &mut self.read
    }
}

impl Tx<'_> {
    /// Writes, however many rows that changes. Sent without waiting on PostgreSQL.
    pub fn exec(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<()> {
        self.group.wrote = true;
        self.read.statement(sql.into(), &args, |session, sql, list| session.write(sql, list, None))
    }

    /// Writes with one statement for each row of arguments: what is the same for all of them is done once.
    pub fn exec_each<A: Args>(&mut self, sql: impl Into<Sql>, rows: impl IntoIterator<Item = A>) -> Result<()> {
        self.group.wrote = true;
        let (sql, mut rows) = (sql.into(), rows.into_iter());
        self.read.guarded(sql, |session, tenant| {
            session.write_each(sql, &mut |write| rows.by_ref().try_for_each(|args| write(arguments(tenant, &args)?)))
        })
    }

    /// What [`Tx::keep`] kept in this lane, if nothing was rolled back since and nobody else can have written (on PostgreSQL anybody
    /// can, so there it is nothing from another group). Whoever changes it keeps it again.
    pub fn take_kept<T: Any + Send>(&mut self) -> Option<T> {
        self.group.memory.0.remove(&TypeId::of::<T>()).and_then(|kept| kept.downcast().ok()).map(|kept| *kept)
    }

    /// Keeps something for later commands of this lane, one thing of each type. It must follow from what is written, or from what was
    /// read in this transaction: it lives and dies with the commit. Of bounded size: it stays in memory.
    pub fn keep<T: Any + Send>(&mut self, thing: T) {
        self.group.memory.0.insert(TypeId::of::<T>(), Box::new(thing));
    }

    /// Writes exactly one row, or refuses the command with `refusal`. Sent without waiting on PostgreSQL: the command may run on,
    /// and is refused before anything is answered.
    pub fn must(&mut self, sql: impl Into<Sql>, args: impl Args, refusal: impl FnOnce() -> Error + Send + 'static) -> Result<()> {
        self.group.wrote = true;
        self.read.statement(sql.into(), &args, |session, sql, list| session.write(sql, list, Some(Box::new(refusal))))
    }

    /// Writes, and waits for the number of rows that it changed.
    pub fn count(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<u64> {
        self.group.wrote = true;
        self.read.statement(sql.into(), &args, |session, sql, list| session.count(sql, list))
    }

    /// Writes with `RETURNING`, and waits for the row if there is one.
    pub fn write_opt<R: FromRow>(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<Option<R>> {
        self.group.wrote = true;
        self.read.opt(sql, args)
    }

    /// The same for several rows, in no order.
    pub fn write_all<R: FromRow>(&mut self, sql: impl Into<Sql>, args: impl Args) -> Result<Vec<R>> {
        self.group.wrote = true;
        self.read.all(sql, args)
    }

    /// Records an event of this command's scope; it is committed with the command or not at all.
    pub fn emit(&mut self, event: NewEvent) {
        self.group.wrote = true;
        self.group.events.push(Emitted { tenant: self.read.scope.tenant(), event, correlation: self.correlation.clone() });
    }

    /// The same for one command of a set, whose request the event belongs to.
    pub fn emit_for<C>(&mut self, member: &Member<'_, C>, event: NewEvent) {
        self.group.wrote = true;
        self.group.events.push(Emitted { tenant: self.read.scope.tenant(), event, correlation: member.correlation() });
    }

    /// The request that what is emitted belongs to.
    pub fn correlation(&self) -> Option<Arc<str>> {
        self.correlation.clone()
    }

    /// What is emitted from here on belongs to this request, such as that of one command of a set ([`Member::correlation`]).
    pub fn correlate(&mut self, correlation: Option<Arc<str>>) {
        self.correlation = correlation;
    }

    /// Wakes those who follow [`crate::Store::woken`] when this is committed: there is work for them in their tables.
    pub fn wake(&mut self) {
        self.group.wakes = true;
    }

    /// Leaves something for the store's [`Rider`], which goes on with it at the end of this command, in the same transaction. Given back
    /// when nobody rides, as within [`Tx::in_tenant`]: then whoever leaves it has to see that it is found later, as by [`Tx::wake`].
    pub fn leave<T: Any + Send>(&mut self, thing: T) -> Option<T> {
        if self.group.rider.is_none() {
            return Some(thing);
        }
        self.group.left.push(Box::new(thing));
        None
    }

    /// Has the rider go on with what was left. Errors: the rider's; `internal` when there is always more.
    pub(crate) fn ride(&mut self) -> Result<()> {
        for _ in 0..RIDES {
            if self.group.left.is_empty() {
                return Ok(());
            }
            self.group.rode = true;
            let left = std::mem::take(&mut self.group.left);
            let rider = self.group.rider.clone().ok_or_else(|| Error::internal("something is left for a rider, and nobody rides"))?;
            let ridden = rider.ride(self, left)?;
            self.group.ridden.extend(ridden);
        }
        // What is left may be nowhere else: without it the command must not be committed.
        if self.group.left.is_empty() {
            Ok(())
        } else {
            Err(Error::internal("a rider leaves more for itself than may be done in one command"))
        }
    }

    /// A fresh id.
    pub fn new_id<E>(&self) -> Id<E> {
        self.ids.next()
    }

    /// Runs `inner` in a tenant's scope, for the platform's own machinery such as consumers.
    /// Errors: `internal` when this is already a tenant's scope; whatever `inner` returns.
    pub fn in_tenant<T>(&mut self, tenant: TenantId, inner: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        if self.read.scope != Scope::Platform {
            return Err(Error::internal("only the platform's scope can enter a tenant's"));
        }
        self.read.session.enter(Scope::Tenant(tenant))?;
        self.read.scope = Scope::Tenant(tenant);
        // A tenant's work belongs on its own lane: what is left for the rider here is found there.
        let rider = self.group.rider.take();
        let result = inner(self);
        self.group.rider = rider;
        self.read.scope = Scope::Platform;
        self.read.session.enter(Scope::Platform)?;
        result
    }

    /// Runs `inner` so that its refusal undoes its writes and leaves the rest of this command standing (a savepoint).
    /// Waits for the writes sent before it. Errors: only what makes the transaction unusable; the inner result otherwise.
    pub fn attempt<T>(&mut self, inner: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<Result<T>> {
        self.read.session.settle()?;
        // What is ridden is so only after the command: nothing of this is.
        let (events, left) = (self.group.events.len(), self.group.left.len());
        self.read.session.control("SAVEPOINT attempt")?;
        let mut result = inner(self);
        if let Err(error) = self.read.session.settle() {
            result = Err(error);
        }
        if result.is_err() {
            self.group.events.truncate(events);
            self.group.left.truncate(left);
            self.read.poison = None;
            self.group.memory = Memory::default();
            self.read.session.control("ROLLBACK TO SAVEPOINT attempt")?;
        }
        self.read.session.control("RELEASE SAVEPOINT attempt")?;
        Ok(result)
    }
}

//! What goes into a statement and what comes out of it, in the subset that both engines share.

use kernel::{Currency, Error, Id, Result, Timestamp, UnitPrice};
use std::borrow::Cow;

/// An argument of a statement. Arrays bind as PostgreSQL arrays and as JSON text on SQLite (`json_each`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// Any integer, a time in microseconds, an id.
    Int(i64),
    /// A truth value; 0 and 1 on SQLite.
    Bool(bool),
    /// A floating-point number. Never money.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// Integers, for set-based statements.
    Ints(Vec<i64>),
    /// Texts, for set-based statements.
    Texts(Vec<String>),
}

impl Value<'_> {
    /// The same value, owning what it borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Int(v) => Value::Int(v),
            Value::Bool(v) => Value::Bool(v),
            Value::Real(v) => Value::Real(v),
            Value::Text(v) => Value::Text(Cow::Owned(v.into_owned())),
            Value::Bytes(v) => Value::Bytes(Cow::Owned(v.into_owned())),
            Value::Ints(v) => Value::Ints(v),
            Value::Texts(v) => Value::Texts(v),
        }
    }
}

/// A value of a row, as the engine holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// NULL.
    Null,
    /// An integer or a truth value.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl ValueRef<'_> {
    /// The same value, owned, ready to be an argument.
    pub fn to_value(self) -> Value<'static> {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Int(v) => Value::Int(v),
            ValueRef::Real(v) => Value::Real(v),
            ValueRef::Text(v) => Value::Text(Cow::Owned(v.to_owned())),
            ValueRef::Bytes(v) => Value::Bytes(Cow::Owned(v.to_owned())),
        }
    }
}

/// What can be an argument.
pub trait ToValue {
    /// This as an argument.
    fn to_value(&self) -> Value<'_>;
}

/// What can be read out of a row.
pub trait FromValue: Sized {
    /// Reads it. Errors: `internal` when the column is of another type.
    fn from_value(value: ValueRef<'_>) -> Result<Self>;
}

fn mismatch(expected: &str, value: ValueRef<'_>) -> Error {
    Error::internal(format!(
        "a column holds {} where {expected} is expected",
        match value {
            ValueRef::Null => "NULL",
            ValueRef::Int(_) => "an integer",
            ValueRef::Real(_) => "a number",
            ValueRef::Text(_) => "text",
            ValueRef::Bytes(_) => "bytes",
        }
    ))
}

/// Maps a type onto 64-bit integers, with a check on the way back.
macro_rules! as_int {
    ($($type:ty),*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                Value::Int(i64::from(*self))
            }
        }
        impl FromValue for $type {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                match value {
                    ValueRef::Int(v) => <$type>::try_from(v).map_err(|_| Error::internal(concat!("a stored integer is out of range for ", stringify!($type)))),
                    other => Err(mismatch("an integer", other)),
                }
            }
        }
    )*};
}
as_int!(i64, i32, i16, u32, u16, u8);

impl ToValue for bool {
    fn to_value(&self) -> Value<'_> {
        Value::Bool(*self)
    }
}
impl FromValue for bool {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Int(v) => Ok(v != 0),
            other => Err(mismatch("a truth value", other)),
        }
    }
}

impl ToValue for f64 {
    fn to_value(&self) -> Value<'_> {
        Value::Real(*self)
    }
}
impl FromValue for f64 {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Real(v) => Ok(v),
            ValueRef::Int(v) => Ok(v as f64),
            other => Err(mismatch("a number", other)),
        }
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value<'_> {
        Value::Text(Cow::Borrowed(self))
    }
}
impl ToValue for String {
    fn to_value(&self) -> Value<'_> {
        Value::Text(Cow::Borrowed(self))
    }
}
impl FromValue for String {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(v) => Ok(v.to_owned()),
            other => Err(mismatch("text", other)),
        }
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(Cow::Borrowed(self))
    }
}
impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(Cow::Borrowed(self))
    }
}
impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(Cow::Borrowed(self))
    }
}
impl FromValue for Vec<u8> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Bytes(v) => Ok(v.to_owned()),
            other => Err(mismatch("bytes", other)),
        }
    }
}
impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Bytes(v) => {
                v.try_into().map_err(|_| Error::internal(format!("a column holds {} bytes where {N} are expected", v.len())))
            }
            other => Err(mismatch("bytes", other)),
        }
    }
}

impl<E> ToValue for Id<E> {
    fn to_value(&self) -> Value<'_> {
        Value::Int(self.as_i64())
    }
}
impl<E> FromValue for Id<E> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        i64::from_value(value).map(Id::from_i64)
    }
}

impl ToValue for Timestamp {
    fn to_value(&self) -> Value<'_> {
        Value::Int(self.micros())
    }
}
impl FromValue for Timestamp {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        i64::from_value(value).map(Timestamp::from_micros)
    }
}

impl ToValue for UnitPrice {
    fn to_value(&self) -> Value<'_> {
        Value::Int(self.micros())
    }
}
impl FromValue for UnitPrice {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        i64::from_value(value).map(UnitPrice::from_micros)
    }
}

impl ToValue for Currency {
    fn to_value(&self) -> Value<'_> {
        Value::Text(Cow::Borrowed(self.code()))
    }
}
impl FromValue for Currency {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(v) => v.parse(),
            other => Err(mismatch("a currency code", other)),
        }
    }
}

impl ToValue for Vec<i64> {
    fn to_value(&self) -> Value<'_> {
        Value::Ints(self.clone())
    }
}
impl ToValue for Vec<String> {
    fn to_value(&self) -> Value<'_> {
        Value::Texts(self.clone())
    }
}

impl ToValue for Value<'_> {
    fn to_value(&self) -> Value<'_> {
        self.clone()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

/// The most arguments that a statement takes, the tenant included.
pub const MAX_ARGS: usize = 32;

/// The arguments of one call, inline.
pub type ArgList<'a> = smallvec::SmallVec<[Value<'a>; 12]>;

/// The arguments of a statement: a tuple of up to 24, or a slice of values for generated statements.
pub trait Args {
    /// Appends them in order.
    fn push_to<'a>(&'a self, list: &mut ArgList<'a>);
}

impl Args for () {
    fn push_to<'a>(&'a self, _: &mut ArgList<'a>) {}
}

impl Args for [Value<'_>] {
    fn push_to<'a>(&'a self, list: &mut ArgList<'a>) {
        list.extend(self.iter().cloned());
    }
}

impl<T: Args + ?Sized> Args for &T {
    fn push_to<'a>(&'a self, list: &mut ArgList<'a>) {
        (**self).push_to(list);
    }
}

/// A row's values in order, read by position.
pub trait Row {
    /// The value of column `index`, from 0. Errors: `internal` when there is no such column or its type is not of the subset.
    fn value(&self, index: usize) -> Result<ValueRef<'_>>;

    /// How many columns the row has.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl dyn Row + '_ {
    /// Column `index`, from 0, as a `T`.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T> {
        T::from_value(self.value(index)?)
    }
}

/// What a row can be read as: a tuple of up to 24 columns, or a type of one's own.
pub trait FromRow: Sized {
    /// Reads it.
    fn from_row(row: &dyn Row) -> Result<Self>;
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: ToValue),+> Args for ($($name,)+) {
            fn push_to<'a>(&'a self, list: &mut ArgList<'a>) {
                $(list.push(self.$index.to_value());)+
            }
        }
        impl<$($name: FromValue),+> FromRow for ($($name,)+) {
            fn from_row(row: &dyn Row) -> Result<Self> {
                Ok(($($name::from_value(row.value($index)?)?,)+))
            }
        }
    )+};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15, Q 16, R 17, S 18, T 19, U 20, V 21, W 22, X 23)
}

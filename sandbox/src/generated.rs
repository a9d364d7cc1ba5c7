//! A day of movements as a merchant has them, and the settlement file of a provider that differs from them in known ways: for tests and
//! benchmarks of reconciliation. Everything follows from the number of the movement and the seed, so nothing is held.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// The ways in which the file differs, by their names.
pub const DIFFERENCES: [&str; 12] = [
    "missing_there",
    "missing_here",
    "amount",
    "currency",
    "fee",
    "date",
    "duplicate",
    "status",
    "direction",
    "net",
    "reference",
    "partly_settled",
];

/// A day of movements, and the file that differs from them.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedDay {
    /// The same seed makes the same day.
    pub seed: u64,
    /// How many movements the merchant has.
    pub movements: u64,
    /// One movement of so many differs; the kinds take turns.
    pub one_in: u64,
    /// The day, such as `2026-01-05`, and one five days later.
    pub day: &'static str,
    /// For movements that the file puts too late.
    pub later: &'static str,
}

/// A movement as the merchant has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// In minor units.
    pub amount_minor: i64,
    /// What the provider keeps.
    pub fee_minor: i64,
    /// Whether it went back.
    pub refund: bool,
}

impl GeneratedDay {
    fn draw(&self, number: u64) -> u64 {
        let mut z = (self.seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The movement of this number, from 0.
    pub fn movement(&self, number: u64) -> Made {
        let draw = self.draw(number);
        let refund = draw.is_multiple_of(10);
        let amount_minor = 100 + ((draw >> 8) % 100_000) as i64;
        Made { amount_minor, fee_minor: if refund { 0 } else { amount_minor * 14 / 1_000 + 25 }, refund }
    }

    /// How the file differs from the movement of this number, if it does.
    pub fn difference(&self, number: u64) -> Option<&'static str> {
        let turn = number / self.one_in.max(1);
        (number % self.one_in.max(1) == self.draw(turn ^ 0xFFFF) % self.one_in.max(1)).then(|| DIFFERENCES[(turn % 12) as usize])
    }

    /// How many movements differ in which way.
    pub fn differences(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for name in (0..self.movements).filter_map(|number| self.difference(number)) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Writes the file; how many rows it has. `names` tells the charge, the charge's reference and the movement's of a number.
    pub fn write(&self, out: &mut impl Write, names: impl Fn(u64) -> (String, String, String)) -> io::Result<u64> {
        writeln!(out, "type,charge_id,charge_reference,movement_id,reference,currency,gross_minor,fee_minor,net_minor,occurred_at,status")?;
        let mut rows = 0;
        // Rows come in another order than the movements were made in: each block of a thousand backwards.
        for n in 0..self.movements {
            let base = n - n % 1_000;
            let number = base + ((base + 1_000).min(self.movements) - 1 - n);
            rows += self.write_one(out, number, &names)?;
        }
        Ok(rows)
    }

    fn write_one(&self, out: &mut impl Write, number: u64, names: &impl Fn(u64) -> (String, String, String)) -> io::Result<u64> {
        let (charge, charge_reference, mut reference) = names(number);
        let Made { amount_minor, fee_minor, refund } = self.movement(number);
        let sign = if refund { -1 } else { 1 };
        let (mut kind, mut currency, mut day, mut status) = (if refund { "refund" } else { "capture" }, "EUR", self.day, "settled");
        // One part, unless the provider pays in two.
        let mut parts = vec![(amount_minor, fee_minor)];
        let mut net_off = 0;
        let mut times = 1;
        match self.difference(number) {
            Some("missing_there") => return Ok(0),
            Some("missing_here") => {
                let stranger = self.draw(number ^ 0xABCD);
                writeln!(
                    out,
                    "capture,ch_x{stranger:016x},,mv_x{number},r{stranger:016x},EUR,4200,60,4140,{}T10:00:00Z,settled",
                    self.day
                )?;
                return Ok(1 + self.row(
                    out,
                    number,
                    kind,
                    &charge,
                    &charge_reference,
                    0,
                    &reference,
                    currency,
                    sign,
                    parts[0],
                    0,
                    day,
                    status,
                )?);
            }
            Some("amount") => parts[0].0 += 7,
            Some("currency") => currency = "USD",
            Some("fee") => parts[0].1 += 3,
            Some("date") => day = self.later,
            Some("duplicate") => times = 2,
            Some("status") => status = "failed",
            Some("direction") => kind = if refund { "capture" } else { "refund" },
            Some("net") => net_off = -1,
            Some("reference") => reference = format!("wrong-{number}"),
            Some("partly_settled") => parts = vec![(amount_minor / 2, fee_minor), (amount_minor / 3, 0)],
            _ if self.draw(number ^ 0x77).is_multiple_of(50) => {
                parts = vec![(amount_minor / 2, fee_minor), (amount_minor - amount_minor / 2, 0)]
            }
            _ => {}
        }
        let sign = if kind == "refund" { -1 } else { sign.abs() };
        let mut rows = 0;
        for _ in 0..times {
            for (part, amounts) in parts.iter().enumerate() {
                rows += self.row(
                    out,
                    number,
                    kind,
                    &charge,
                    &charge_reference,
                    part,
                    &reference,
                    currency,
                    sign,
                    *amounts,
                    net_off,
                    day,
                    status,
                )?;
            }
        }
        Ok(rows)
    }

    #[allow(clippy::too_many_arguments, reason = "the columns of one row")]
    fn row(
        &self,
        out: &mut impl Write,
        number: u64,
        kind: &str,
        charge: &str,
        charge_reference: &str,
        part: usize,
        reference: &str,
        currency: &str,
        sign: i64,
        (amount, fee): (i64, i64),
        net_off: i64,
        day: &str,
        status: &str,
    ) -> io::Result<u64> {
        let (gross, net) = (sign * amount, sign * amount - fee + net_off);
        writeln!(
            out,
            "{kind},{charge},{charge_reference},mv_{number}_{part},{reference},{currency},{gross},{fee},{net},{day}T10:00:00Z,{status}"
        )?;
        Ok(1)
    }
}

//! What is remembered of a wallet's past in a currency: counters and short lists in one row of bounded size, changed in the transaction
//! that moves the money. Nothing is ever looked up in the history to judge a transfer.
//!
//! Wallets and devices stand in the lists as 32-bit hashes, so that the row stays small: two of many millions may be taken for each other,
//! which at worst makes a new payee look known.

use kernel::{Error, Result, Timestamp};

/// The payees that are remembered, the latest first.
const PAYEES: usize = 16;
/// The payers that are remembered.
const PAYERS: usize = 8;
/// The devices that are remembered.
const DEVICES: usize = 4;
/// The mean of what was sent follows the latest as if there were so many.
const MEAN_OVER: i64 = 32;
/// Marks the format, so that another can follow it.
const FORMAT: u8 = 1;

/// A count and an amount in this hour and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hourly {
    hour: i64,
    count: i64,
    minor: i64,
    before_count: i64,
    before_minor: i64,
}

const HOUR_US: i64 = 3_600_000_000;

impl Hourly {
    fn at(mut self, now: Timestamp) -> Hourly {
        let hour = now.micros().div_euclid(HOUR_US);
        match hour - self.hour {
            0 => {}
            1 => self = Hourly { hour, before_count: self.count, before_minor: self.minor, ..Hourly::default() },
            // A clock that stepped back stays in the hour that was begun.
            ..0 => {}
            _ => self = Hourly { hour, ..Hourly::default() },
        }
        self
    }

    fn add(&mut self, now: Timestamp, minor: i64) {
        *self = self.at(now);
        self.count += 1;
        self.minor = self.minor.saturating_add(minor);
    }

    /// Count and amount of the last sixty minutes: this hour's, and of the one before the part that is less than an hour ago.
    fn last_hour(self, now: Timestamp) -> (i64, i64) {
        let this = self.at(now);
        let left_pm = 1_000 - (now.micros().rem_euclid(HOUR_US) * 1_000 / HOUR_US);
        let part = |before: i64| (i128::from(before) * i128::from(left_pm) / 1_000) as i64;
        (this.count + part(this.before_count), this.minor.saturating_add(part(this.before_minor)))
    }
}

/// The past of a wallet in a currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    sent: Hourly,
    received: Hourly,
    /// The UTC day of what follows.
    day: i64,
    sent_day: i64,
    new_payees_day: i64,
    new_payers_day: i64,
    /// All that was ever sent: how often, about how much at a time, and the most.
    sent_count: i64,
    sent_mean: i64,
    sent_max: i64,
    payees: Vec<u32>,
    payers: Vec<u32>,
    devices: Vec<u32>,
    /// Two letters, or zeros.
    country: [u8; 2],
}

/// A 32-bit hash of an id (SplitMix64's finaliser); never 0, which stands for none.
pub fn short(id: i64) -> u32 {
    let mut z = id as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 32).max(1) as u32
}

/// Puts `item` first; whether it was there.
fn meet(list: &mut Vec<u32>, item: u32, most: usize) -> bool {
    match list.iter().position(|known| *known == item) {
        Some(at) => {
            list[..=at].rotate_right(1);
            true
        }
        None => {
            list.insert(0, item);
            list.truncate(most);
            false
        }
    }
}

impl Activity {
    fn today(&mut self, now: Timestamp) {
        if now.day() > self.day {
            (self.day, self.sent_day, self.new_payees_day, self.new_payers_day) = (now.day(), 0, 0, 0);
        }
    }

    /// Money went to `payee`, from this device (0: not said) and country (zeros: not said).
    pub fn sent(&mut self, now: Timestamp, minor: i64, payee: u32, device: u32, country: [u8; 2]) {
        self.today(now);
        self.sent.add(now, minor);
        self.sent_day += 1;
        if !meet(&mut self.payees, payee, PAYEES) {
            self.new_payees_day += 1;
        }
        self.sent_count += 1;
        let over = self.sent_count.min(MEAN_OVER);
        self.sent_mean += (minor - self.sent_mean) / over;
        self.sent_max = self.sent_max.max(minor);
        if device != 0 {
            meet(&mut self.devices, device, DEVICES);
        }
        if country != [0, 0] {
            self.country = country;
        }
    }

    /// Money came from `payer`.
    pub fn received(&mut self, now: Timestamp, minor: i64, payer: u32) {
        self.today(now);
        self.received.add(now, minor);
        if !meet(&mut self.payers, payer, PAYERS) {
            self.new_payers_day += 1;
        }
    }

    /// Count and amount that were sent in the last sixty minutes.
    pub fn sent_last_hour(&self, now: Timestamp) -> (i64, i64) {
        self.sent.last_hour(now)
    }

    /// What came in the last sixty minutes.
    pub fn received_last_hour(&self, now: Timestamp) -> i64 {
        self.received.last_hour(now).1
    }

    /// How often was sent today.
    pub fn sent_today(&self, now: Timestamp) -> i64 {
        if self.day == now.day() { self.sent_day } else { 0 }
    }

    /// To how many that were not known was sent today.
    pub fn new_payees_today(&self, now: Timestamp) -> i64 {
        if self.day == now.day() { self.new_payees_day } else { 0 }
    }

    /// From how many that were not known something came today.
    pub fn new_payers_today(&self, now: Timestamp) -> i64 {
        if self.day == now.day() { self.new_payers_day } else { 0 }
    }

    /// How often was ever sent, about how much at a time.
    pub fn history(&self) -> (i64, i64) {
        (self.sent_count, self.sent_mean)
    }

    /// Whether something was sent there before.
    pub fn knows_payee(&self, payee: u32) -> bool {
        self.payees.contains(&payee)
    }

    /// Whether something came from there before.
    pub fn knows_payer(&self, payer: u32) -> bool {
        self.payers.contains(&payer)
    }

    /// Whether this device is another than those before. The first one is not.
    pub fn is_new_device(&self, device: u32) -> bool {
        device != 0 && !self.devices.is_empty() && !self.devices.contains(&device)
    }

    /// Whether the country is another than the last one.
    pub fn is_other_country(&self, country: [u8; 2]) -> bool {
        country != [0, 0] && self.country != [0, 0] && self.country != country
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.push(FORMAT);
        for side in [self.sent, self.received] {
            for number in [side.hour, side.count, side.minor, side.before_count, side.before_minor] {
                put(&mut out, number);
            }
        }
        let day = [self.day, self.sent_day, self.new_payees_day, self.new_payers_day];
        for number in day.into_iter().chain([self.sent_count, self.sent_mean, self.sent_max]) {
            put(&mut out, number);
        }
        for list in [&self.payees, &self.payers, &self.devices] {
            put(&mut out, list.len() as i64);
            list.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        out.extend(self.country);
        out
    }

    /// Errors: `internal` for what [`Activity::to_bytes`] did not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Activity> {
        if bytes.is_empty() {
            return Ok(Activity::default());
        }
        parse(bytes).ok_or_else(|| Error::internal("a wallet's activity can't be read"))
    }
}

/// LEB128 of what is zero or more.
fn put(out: &mut Vec<u8>, number: i64) {
    let mut rest = number.max(0) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(number).ok();
        }
    }
    None
}

fn parse(bytes: &[u8]) -> Option<Activity> {
    let (format, mut rest) = bytes.split_first()?;
    if *format != FORMAT {
        return None;
    }
    let rest = &mut rest;
    let mut side = || -> Option<Hourly> {
        Some(Hourly { hour: take(rest)?, count: take(rest)?, minor: take(rest)?, before_count: take(rest)?, before_minor: take(rest)? })
    };
    let (sent, received) = (side()?, side()?);
    let mut activity = Activity { sent, received, day: take(rest)?, sent_day: take(rest)?, ..Activity::default() };
    (activity.new_payees_day, activity.new_payers_day) = (take(rest)?, take(rest)?);
    (activity.sent_count, activity.sent_mean, activity.sent_max) = (take(rest)?, take(rest)?, take(rest)?);
    for (list, most) in [(&mut activity.payees, PAYEES), (&mut activity.payers, PAYERS), (&mut activity.devices, DEVICES)] {
        let length = usize::try_from(take(rest)?).ok().filter(|length| *length <= most)?;
        let (items, after) = rest.split_at_checked(length * 4)?;
        list.extend(items.chunks_exact(4).map(|item| u32::from_le_bytes([item[0], item[1], item[2], item[3]])));
        *rest = after;
    }
    activity.country = <[u8; 2]>::try_from(*rest).ok()?;
    Some(activity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);

    proptest! {
        #[test]
        fn what_is_written_is_read(steps in proptest::collection::vec((0_i64..200_000_000, 1_i64..1_000_000_000_000_000, 1_u32.., 0_u32..5, any::<bool>()), 0..60)) {
            let (mut activity, mut now) = (Activity::default(), NOON);
            for (later_ms, minor, other, device, out) in steps {
                now = now.plus_ms(later_ms);
                if out { activity.sent(now, minor, other, device, *b"DE") } else { activity.received(now, minor, other) }
                let bytes = activity.to_bytes();
                prop_assert!(bytes.len() <= 300, "{} bytes", bytes.len());
                prop_assert_eq!(&Activity::from_bytes(&bytes).unwrap(), &activity);
            }
        }

        #[test]
        fn garbage_is_refused_not_believed(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            // It may be an activity by chance; it never panics.
            let _ = Activity::from_bytes(&bytes);
        }
    }

    #[test]
    fn an_hour_slides() {
        let mut activity = Activity::default();
        for minute in 0..60 {
            activity.sent(NOON.plus_ms(minute * 60_000), 100, 7, 0, [0, 0]);
        }
        assert_eq!(activity.sent_last_hour(NOON.plus_ms(59 * 60_000)), (60, 6_000));
        assert_eq!(activity.sent_last_hour(NOON.plus_ms(90 * 60_000)), (30, 3_000), "half of the hour before");
        assert_eq!(activity.sent_last_hour(NOON.plus_ms(121 * 60_000)), (0, 0));
        assert_eq!((activity.sent_today(NOON), activity.sent_today(NOON.plus_ms(86_400_000))), (60, 0));
    }

    #[test]
    fn the_latest_are_remembered() {
        let mut activity = Activity::default();
        for payee in 1..=20 {
            activity.sent(NOON, 1, payee, payee, *b"DE");
        }
        assert!(!activity.knows_payee(4) && activity.knows_payee(5) && activity.knows_payee(20));
        assert!(activity.is_new_device(16) && !activity.is_new_device(17) && !activity.is_new_device(0));
        assert!(activity.is_other_country(*b"FR") && !activity.is_other_country(*b"DE") && !activity.is_other_country([0, 0]));
        assert_eq!(activity.new_payees_today(NOON), 20);
    }
}

//! Finds card numbers in what reaches us, so that they can be refused before anything keeps or logs them.

use kernel::Error;

/// The refusal. It names where, never what.
pub(crate) fn refused(place: &str) -> Error {
    Error::invalid("payments.card_number", "this looks like a card number; send the token that the provider gives for it").with_field(
        place,
        "card_number",
        "card numbers are not taken here",
    )
}

/// Whether there is a card number in the text: 12 to 19 digits that satisfy Luhn's check, in one group or several, parted by
/// spaces, hyphens, dots or underscores. Digits that begin or end within a longer group are not looked at, nor are UUIDs.
pub fn has_card_number(text: &[u8]) -> bool {
    if contains(text) {
        return true;
    }
    // What is escaped in a URL or in JSON counts as what it stands for.
    (text.contains(&b'%') && contains(&percent_decoded(text))) || (text.windows(2).any(|w| w == b"\\u") && contains(&json_decoded(text)))
}

/// A maximal run of digits: where it begins and ends.
type Group = (usize, usize);

fn contains(text: &[u8]) -> bool {
    let mut line: Vec<Group> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let begin = at;
        while at < text.len() && text[at].is_ascii_digit() {
            at += 1;
        }
        // A number is written in one line of groups: what is between two of them is one or two separators, and nothing else.
        let joined = line.last().is_some_and(|(_, end)| is_separator(&text[*end..begin]));
        if !joined {
            line.clear();
        }
        line.push((begin, at));
        if ends_with_card(text, &line) {
            return true;
        }
    }
    false
}

fn is_separator(between: &[u8]) -> bool {
    matches!(between.len(), 1..=2) && between.iter().all(|b| matches!(b, b' ' | b'-' | b'.' | b'_' | b'\t' | b'+' | 0xC2 | 0xA0))
}

/// Whether some last groups of the line are a card number.
fn ends_with_card(text: &[u8], line: &[Group]) -> bool {
    let mut digits = 0;
    for (first, (begin, end)) in line.iter().enumerate().rev() {
        digits += end - begin;
        if digits > 19 {
            return false;
        }
        if digits >= 12 && text[*begin] != b'0' {
            let groups = &line[first..];
            if luhn(groups.iter().flat_map(|(begin, end)| &text[*begin..*end])) && !in_uuid(text, groups) {
                return true;
            }
        }
    }
    false
}

fn luhn<'a>(digits: impl DoubleEndedIterator<Item = &'a u8>) -> bool {
    let sum: u32 = digits
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the groups lie within a UUID, which has too many digits by chance to be suspected.
fn in_uuid(text: &[u8], groups: &[Group]) -> bool {
    let (Some((begin, _)), Some((_, end))) = (groups.first(), groups.last()) else { return false };
    let part = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    let first = text[..*begin].iter().rposition(|b| !part(*b)).map_or(0, |at| at + 1);
    let last = text[*end..].iter().position(|b| !part(*b)).map_or(text.len(), |at| end + at);
    let word = &text[first..last];
    word.len() == 36 && word.iter().enumerate().all(|(at, b)| (*b == b'-') == matches!(at, 8 | 13 | 18 | 23))
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (text[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn json_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = text[at..].starts_with(b"\\u");
        let code = text.get(at + 2..at + 6).filter(|_| escaped).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 6;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

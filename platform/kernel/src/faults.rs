//! What is wrong with an input, gathered so that one answer names every field of it.

use crate::{Error, FieldError, Result};
use std::fmt::Display;

/// So many fields are named; of a long list of wrong ones that is enough.
const MOST: usize = 20;

/// Gathers what is wrong with an input. Stops at 20 fields.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// Adds an offending field.
    pub fn add(&mut self, field: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        if self.0.len() < MOST {
            self.0.push(FieldError { field: field.into(), code, detail: detail.into() });
        }
    }

    /// Adds what a check of a field has found: a code, and for a person the limit and the problem.
    pub fn check(&mut self, field: impl Into<String>, outcome: Result<(), (&'static str, String)>) {
        if let Err((code, detail)) = outcome {
            self.add(field, code, detail);
        }
    }

    /// A text of `min..=max` characters without control characters. Says whether it is one.
    pub fn text(&mut self, field: impl Into<String>, value: &str, min: usize, max: usize) -> bool {
        // Bytes bound characters from above, so that most texts are not counted to their end.
        let length = if value.len() <= max { value.chars().take(min).count() } else { value.chars().count() };
        if length < min {
            self.add(field, "too_short", format!("at least {min} characters"));
        } else if length > max {
            self.add(field, "too_long", format!("{length} characters; at most {max}"));
        } else if value.chars().any(char::is_control) {
            self.add(field, "control_character", "control characters are not allowed");
        } else {
            return true;
        }
        false
    }

    /// The same for a text that may be left out, and has something in it where it is not.
    pub fn optional_text(&mut self, field: impl Into<String>, value: Option<&str>, max: usize) {
        if let Some(value) = value {
            self.text(field, value, 1, max);
        }
    }

    /// A text of 1 to `max` characters that are not all blank.
    pub fn name(&mut self, field: impl Into<String>, value: &str, max: usize) {
        let field = field.into();
        if self.text(field.clone(), value, 1, max) && value.trim().is_empty() {
            self.add(field, "too_short", "at least one character that is not blank");
        }
    }

    /// A number of `min..=max`; what is no number is in no range.
    pub fn number<T: PartialOrd + Display + Copy>(&mut self, field: impl Into<String>, value: T, min: T, max: T) {
        if !(min..=max).contains(&value) {
            self.add(field, "out_of_range", format!("{value}; between {min} and {max}"));
        }
    }

    /// How many of something there are: `min..=max`. Says whether they are so few that they may be looked at one by one.
    pub fn count(&mut self, field: impl Into<String>, count: usize, min: usize, max: usize) -> bool {
        if !(min..=max).contains(&count) {
            self.add(field, "wrong_count", format!("{count} of them; between {min} and {max}"));
        }
        count <= max
    }

    /// A country by its two letters, ISO 3166.
    pub fn country(&mut self, field: impl Into<String>, value: &str) {
        if value.len() != 2 || !value.bytes().all(|b| b.is_ascii_uppercase()) {
            self.add(field, "not_a_country", "two capital letters such as DE (ISO 3166-1)");
        }
    }

    /// An e-mail address, as far as its shape tells.
    pub fn email(&mut self, field: impl Into<String>, value: &str) {
        let field = field.into();
        let shaped = value.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
        if self.text(field.clone(), value, 3, 254) && (!shaped || value.contains(char::is_whitespace)) {
            self.add(field, "not_an_email", "not an e-mail address such as name@example.com");
        }
    }

    /// What was found, in its order.
    pub fn into_fields(self) -> Vec<FieldError> {
        self.0
    }

    /// `Ok` when nothing was wrong. Errors: `request.invalid` with the fields.
    pub fn finish(self) -> Result<()> {
        Error::fields(self.0)
    }
}

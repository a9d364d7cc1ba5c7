//! What is different now from what the owner of a cart was last shown: a pure function of the cart and of the facts.

use crate::model::{Cart, LineEdit, MAX_LINES, MAX_QUANTITY, Seen, VariantId};
use kernel::UnitPrice;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// What is true of a variant now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The variant.
    pub variant_id: VariantId,
    /// Whether it may be bought at all.
    pub sellable: bool,
    /// The price of one unit in the cart's currency, before promotions; none when it has no price there, and so can't be bought.
    pub unit_price: Option<UnitPrice>,
    /// How many can be had now; none when there is no end of them.
    pub available: Option<i64>,
    /// Its title.
    pub title: String,
}

/// Something that is different now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
#[schema(as = CartDifference)]
pub enum Difference {
    /// It is not sold any more, or not in this currency.
    NotSold {
        /// The variant.
        variant_id: VariantId,
        /// As it was last shown.
        title: String,
    },
    /// Fewer can be had than the line has; perhaps none.
    FewerAvailable {
        /// The variant.
        variant_id: VariantId,
        /// What the line has.
        quantity: i64,
        /// What can be had.
        available: i64,
    },
    /// It costs more than was shown.
    PriceUp {
        /// The variant.
        variant_id: VariantId,
        /// What was shown.
        seen: UnitPrice,
        /// What it costs now.
        now: UnitPrice,
    },
    /// It costs less than was shown.
    PriceDown {
        /// The variant.
        variant_id: VariantId,
        /// What was shown.
        seen: UnitPrice,
        /// What it costs now.
        now: UnitPrice,
    },
    /// No price was shown yet.
    PriceNew {
        /// The variant.
        variant_id: VariantId,
        /// What it costs now.
        now: UnitPrice,
    },
}

impl Difference {
    /// The variant that it is about.
    pub fn variant_id(&self) -> VariantId {
        match self {
            Difference::NotSold { variant_id, .. }
            | Difference::FewerAvailable { variant_id, .. }
            | Difference::PriceUp { variant_id, .. }
            | Difference::PriceDown { variant_id, .. }
            | Difference::PriceNew { variant_id, .. } => *variant_id,
        }
    }

    /// Whether the cart can't be bought as it is until its owner has agreed: only a lower price is taken without a word.
    pub fn stops_checkout(&self) -> bool {
        !matches!(self, Difference::PriceDown { .. })
    }
}

/// What is different, in the order of the lines; empty when all is as it was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CartDiff)]
pub struct Diff {
    /// Each difference; a line may have two.
    #[schema(max_items = 1000)]
    pub differences: Vec<Difference>,
}

impl Diff {
    /// Whether its owner has to agree before it can be bought.
    pub fn stops_checkout(&self) -> bool {
        self.differences.iter().any(Difference::stops_checkout)
    }
}

/// Compares each line with the facts; a variant without a fact is not sold. Facts of other variants don't matter.
pub fn revalidate(cart: &Cart, facts: &[Fact]) -> Diff {
    let facts: HashMap<VariantId, &Fact> = facts.iter().map(|fact| (fact.variant_id, fact)).collect();
    let mut differences = Vec::new();
    for line in &cart.lines {
        let variant_id = line.variant_id;
        let sold = facts.get(&variant_id).filter(|fact| fact.sellable).and_then(|fact| Some((fact, fact.unit_price?)));
        let Some((fact, now)) = sold else {
            differences.push(Difference::NotSold { variant_id, title: line.title.clone() });
            continue;
        };
        if let Some(available) = fact.available.map(|available| available.max(0)).filter(|available| *available < line.quantity) {
            differences.push(Difference::FewerAvailable { variant_id, quantity: line.quantity, available });
        }
        match line.unit_price {
            None => differences.push(Difference::PriceNew { variant_id, now }),
            Some(seen) if seen < now => differences.push(Difference::PriceUp { variant_id, seen, now }),
            Some(seen) if seen > now => differences.push(Difference::PriceDown { variant_id, seen, now }),
            Some(_) => {}
        }
    }
    Diff { differences }
}

/// The edits by which a cart is as it can be had now: what is not sold or not there is taken out, quantities are lowered to what there
/// is, and every line shows today's price and title. For an owner who has seen the differences and agrees.
pub fn settle(cart: &Cart, facts: &[Fact]) -> Vec<LineEdit> {
    let facts: HashMap<VariantId, &Fact> = facts.iter().map(|fact| (fact.variant_id, fact)).collect();
    let edit = |line: &crate::model::Line| {
        let gone = LineEdit::Remove(line.variant_id);
        let Some(fact) = facts.get(&line.variant_id).filter(|fact| fact.sellable && fact.unit_price.is_some()) else { return gone };
        let quantity = line.quantity.min(fact.available.unwrap_or(MAX_QUANTITY));
        if quantity < 1 {
            return gone;
        }
        let seen = Seen { title: fact.title.clone(), unit_price: fact.unit_price };
        LineEdit::Set { variant_id: line.variant_id, quantity, seen: Some(seen) }
    };
    cart.lines.iter().take(MAX_LINES).map(edit).collect()
}

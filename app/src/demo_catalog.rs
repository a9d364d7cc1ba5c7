//! The demo's brand: Heron & Kettle, an invented maker of things for the kitchen, the table and the walk in between.

/// The demo tenant's slug.
pub(crate) const SLUG: &str = "heron-kettle";
/// The demo tenant's name.
pub(crate) const NAME: &str = "Heron & Kettle";
/// Currency of every price.
pub(crate) const CURRENCY: &str = "EUR";

/// A product of the demo's catalog.
pub(crate) struct DemoProduct {
    /// Beginning of its variants' SKUs, and its external id.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// What its variants differ in; empty when there is only one.
    pub(crate) option: &'static str,
    /// End of the SKU, the option's value, and the price in EUR.
    pub(crate) variants: &'static [(&'static str, &'static str, &'static str)],
}

const fn product(
    code: &'static str,
    title: &'static str,
    description: &'static str,
    option: &'static str,
    variants: &'static [(&'static str, &'static str, &'static str)],
) -> DemoProduct {
    DemoProduct { code, title, description, option, variants }
}

/// A variant's SKU, by its end.
pub(crate) fn sku(product: &DemoProduct, end: &str) -> String {
    format!("{}-{end}", product.code)
}

/// Countries that the demo's orders come from, the first ones more often.
pub(crate) const COUNTRIES: &[&str] =
    &["Germany", "France", "Netherlands", "Austria", "Belgium", "Denmark", "Italy", "Spain", "Sweden", "Ireland"];

/// The catalog.
pub(crate) const PRODUCTS: &[DemoProduct] = &[
    product(
        "HK-KETTLE",
        "Whistling Kettle No. 3",
        "Two litres of enamelled steel with a beech handle. Whistles a clear A.",
        "Colour",
        &[("MOSS", "Moss", "64.00"), ("CREAM", "Cream", "64.00"), ("INK", "Ink", "69.00")],
    ),
    product(
        "HK-TEAPOT",
        "Low Teapot",
        "Stoneware for four cups; the lid stays on while you pour.",
        "Colour",
        &[("SAND", "Sand", "48.50"), ("SLATE", "Slate", "48.50")],
    ),
    product(
        "HK-MUG",
        "Heron Mug",
        "Hand-thrown, 300 ml, with a thumb rest.",
        "Colour",
        &[("SAND", "Sand", "17.90"), ("SLATE", "Slate", "17.90"), ("MOSS", "Moss", "17.90"), ("CLAY", "Clay", "17.90")],
    ),
    product(
        "HK-CUP",
        "Espresso Cup, Pair",
        "Two small cups that fit into each other.",
        "Colour",
        &[("SAND", "Sand", "22.00"), ("INK", "Ink", "22.00")],
    ),
    product(
        "HK-PLATE",
        "Field Plate",
        "A plate with a rim that is not afraid of sauce.",
        "Size",
        &[("20", "20 cm", "15.50"), ("26", "26 cm", "21.00"), ("30", "30 cm", "27.50")],
    ),
    product(
        "HK-BOWL",
        "Breakfast Bowl",
        "Deep enough for porridge with fruit.",
        "Colour",
        &[("SAND", "Sand", "16.40"), ("MOSS", "Moss", "16.40")],
    ),
    product(
        "HK-BOARD",
        "End-Grain Board",
        "Oak from windthrow, oiled three times.",
        "Size",
        &[("S", "Small", "39.00"), ("M", "Medium", "58.00"), ("L", "Large", "84.00")],
    ),
    product("HK-KNIFE", "Bread Knife", "A 24 cm serrated blade that can be sharpened again.", "", &[("24", "", "72.00")]),
    product(
        "HK-PARING",
        "Paring Knife",
        "Nine centimetres of carbon steel; keep it dry.",
        "Handle",
        &[("BEECH", "Beech", "24.50"), ("WALNUT", "Walnut", "29.50")],
    ),
    product(
        "HK-APRON",
        "Cross-Back Apron",
        "Linen of 280 g, no knot in the neck.",
        "Colour",
        &[("NATURAL", "Natural", "46.00"), ("INK", "Ink", "46.00"), ("RUST", "Rust", "46.00")],
    ),
    product(
        "HK-TOWEL",
        "Waffle Towel, Set of 3",
        "Dries glasses without a trace.",
        "Colour",
        &[("WHITE", "White", "19.90"), ("STRIPE", "Striped", "21.90")],
    ),
    product(
        "HK-NAPKIN",
        "Linen Napkin, Set of 4",
        "Softens with each wash.",
        "Colour",
        &[("NATURAL", "Natural", "32.00"), ("MOSS", "Moss", "32.00"), ("CLAY", "Clay", "32.00")],
    ),
    product(
        "HK-CLOTH",
        "Tablecloth",
        "Washed linen with mitred corners.",
        "Size",
        &[("140", "140 × 220 cm", "89.00"), ("160", "160 × 280 cm", "109.00")],
    ),
    product("HK-CANDLE", "Rolled Beeswax Candle, Pair", "Burns for seven hours each and smells of summer.", "", &[("2", "", "14.80")]),
    product("HK-HOLDER", "Candle Holder", "Cast iron, heavy for its size.", "", &[("1", "", "18.00")]),
    product(
        "HK-JAR",
        "Clip Jar",
        "Glass with a rubber seal that you can buy again.",
        "Size",
        &[("05", "0.5 l", "6.90"), ("10", "1 l", "8.50"), ("20", "2 l", "11.90")],
    ),
    product("HK-SEAL", "Jar Seals, Set of 6", "So that a good jar lives longer.", "", &[("6", "", "4.20")]),
    product(
        "HK-PAN",
        "Carbon Steel Pan",
        "Seasoned once by us and from then on by you.",
        "Size",
        &[("24", "24 cm", "59.00"), ("28", "28 cm", "69.00"), ("32", "32 cm", "82.00")],
    ),
    product(
        "HK-POT",
        "Oven Pot",
        "Enamelled cast iron with a lid that drips evenly.",
        "Size",
        &[("3", "3 l", "149.00"), ("5", "5 l", "189.00")],
    ),
    product("HK-SPOON", "Cooking Spoon", "Olive wood, one corner for the edge of the pot.", "", &[("1", "", "12.40")]),
    product("HK-WHISK", "Balloon Whisk", "Eleven wires, and none of them comes loose.", "", &[("1", "", "16.90")]),
    product("HK-GRATER", "Nutmeg Grater", "With a drawer for the nut.", "", &[("1", "", "13.50")]),
    product("HK-MORTAR", "Granite Mortar", "Three kilos, rough inside, polished outside.", "", &[("1", "", "44.00")]),
    product(
        "HK-SALT",
        "Sea Salt Flakes",
        "From a tidal pan on the Atlantic coast.",
        "Size",
        &[("100", "100 g", "5.80"), ("250", "250 g", "11.60")],
    ),
    product(
        "HK-TEA-AM",
        "Morning Tea",
        "Assam and Ceylon; takes milk well.",
        "Size",
        &[("100", "100 g", "9.50"), ("250", "250 g", "19.90")],
    ),
    product(
        "HK-TEA-PM",
        "Evening Tea",
        "Lemon balm, apple and a little liquorice.",
        "Size",
        &[("75", "75 g", "8.90"), ("200", "200 g", "18.50")],
    ),
    product(
        "HK-COFFEE",
        "House Coffee",
        "Washed beans, roasted for filter, sent the day after.",
        "Grind",
        &[("BEAN", "Whole bean", "13.90"), ("FILTER", "Filter", "13.90"), ("PRESS", "French press", "13.90")],
    ),
    product("HK-HONEY", "Heather Honey", "Thick; a spoon stands in it.", "Size", &[("250", "250 g", "8.75"), ("500", "500 g", "15.25")]),
    product("HK-JAM", "Quince Jam", "More quince than sugar.", "", &[("220", "", "6.45")]),
    product(
        "HK-SHORTBREAD",
        "Buckwheat Shortbread",
        "Butter, buckwheat, salt.",
        "Size",
        &[("150", "150 g", "5.95"), ("400", "400 g tin", "14.90")],
    ),
    product(
        "HK-FLASK",
        "Walking Flask",
        "Keeps tea hot for the length of an estuary.",
        "Size",
        &[("05", "0.5 l", "34.00"), ("10", "1 l", "42.00")],
    ),
    product(
        "HK-BASKET",
        "Picnic Basket",
        "Willow with leather straps, for two or for four.",
        "Size",
        &[("2", "For two", "98.00"), ("4", "For four", "139.00")],
    ),
    product(
        "HK-BLANKET",
        "Picnic Blanket",
        "Wool on one side, waxed cotton on the other.",
        "Pattern",
        &[("CHECK", "Check", "119.00"), ("PLAIN", "Plain", "112.00")],
    ),
    product(
        "HK-TOTE",
        "Market Tote",
        "Carries fifteen kilos and folds into its pocket.",
        "Colour",
        &[("NATURAL", "Natural", "24.00"), ("MOSS", "Moss", "24.00"), ("RUST", "Rust", "24.00")],
    ),
    product("HK-SOAP", "Kitchen Soap", "Rosemary and coffee grounds against garlic hands.", "", &[("1", "", "7.60")]),
    product("HK-BRUSH", "Dish Brush", "Beech and tampico; the head can be changed.", "", &[("1", "", "9.80")]),
    product("HK-HEAD", "Dish Brush Heads, Pair", "For the brush above.", "", &[("2", "", "6.20")]),
    product(
        "HK-BOOK",
        "The Estuary Cookbook",
        "Ninety recipes between the tide lines.",
        "Language",
        &[("EN", "English", "34.90"), ("DE", "German", "34.90"), ("FR", "French", "34.90")],
    ),
    product(
        "HK-POSTER",
        "Bird Poster",
        "Twelve waders, risograph in two colours.",
        "Size",
        &[("A3", "A3", "22.00"), ("A2", "A2", "34.00")],
    ),
    product("HK-GIFT", "Gift Wrap", "Paper, string and a card in your words.", "", &[("1", "", "3.90")]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_sku_is_unique_and_every_price_is_one() {
        let mut skus = HashSet::new();
        for product in PRODUCTS {
            assert!(!product.variants.is_empty() && !product.title.is_empty() && !product.description.is_empty(), "{}", product.code);
            assert_eq!(product.option.is_empty(), product.variants.iter().all(|v| v.1.is_empty()), "{}", product.code);
            for (end, _, price) in product.variants {
                assert!(skus.insert(format!("{}-{end}", product.code)), "{}-{end} twice", product.code);
                assert!(price.parse::<kernel::UnitPrice>().is_ok_and(|p| p.micros() > 0), "{price}");
            }
        }
        assert!(PRODUCTS.len() >= 40);
    }
}

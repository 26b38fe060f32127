//! The shop's products, currencies and cities.

use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

use super::text::Line;

const PRODUCTS: u32 = 5_000;
const CATEGORIES: [&str; 10] = [
    "electronics",
    "books",
    "home",
    "garden",
    "toys",
    "sports",
    "beauty",
    "grocery",
    "clothing",
    "music",
];
const KINDS: [&str; 8] =
    ["Compact", "Classic", "Light", "Sturdy", "Smart", "Quiet", "Warm", "Folding"];
const THINGS: [&str; 8] =
    ["Lamp", "Chair", "Kettle", "Backpack", "Speaker", "Jacket", "Mixer", "Clock"];

/// Currencies with the roubles that one unit costs.
const CURRENCIES: [(&str, u64); 4] = [("RUB", 1), ("USD", 90), ("EUR", 98), ("GBP", 115)];

/// Products and their prices.
#[derive(Debug)]
pub(super) struct Stock {
    /// In hundredths of a rouble.
    prices: Vec<u64>,
    popularity: Zipf<f64>,
}

/// A currency, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Currency(u8);

impl Currency {
    /// What a user pays with: always the same.
    pub(super) fn of_user(user: u32) -> Self {
        Self(match user.wrapping_mul(2_654_435_761) >> 16 & 31 {
            0..18 => 0,
            18..25 => 1,
            25..29 => 2,
            _ => 3,
        })
    }

    pub(super) fn code(self) -> &'static str {
        CURRENCIES[usize::from(self.0)].0
    }
}

impl Stock {
    pub(super) fn new(rng: &mut SmallRng) -> Self {
        // Prices from 100 to 20,000 roubles, most of them in the lower part.
        let price = |_| (100.0 * 200_f64.powf(rng.random::<f64>())) as u64 * 100 + 99;
        Self { prices: (0..PRODUCTS).map(price).collect(), popularity: zipf(PRODUCTS, 1.0) }
    }

    /// A product, popular ones more often.
    pub(super) fn pick(&self, rng: &mut SmallRng) -> u32 {
        self.popularity.sample(rng) as u32 - 1
    }

    /// Price of one piece in hundredths of a currency; never nothing.
    pub(super) fn price(&self, product: u32, currency: Currency) -> u64 {
        (self.prices[product as usize] / CURRENCIES[usize::from(currency.0)].1).max(1)
    }

    /// A product's new price and quantity.
    pub(super) fn update(&mut self, rng: &mut SmallRng, at: i64, line: &mut Line) {
        let product = self.pick(rng);
        let price = &mut self.prices[product as usize];
        let drift = rng.random_range(0.9..1.1);
        *price = ((*price as f64 * drift) as u64).clamp(5_000, 5_000_000);
        let price = *price;
        // One product in ten is sold out.
        let quantity = rng.random_range(0_u64..500).saturating_sub(50);
        line.envelope("product.updated", at, "catalog");
        line.code("product_id", "PRD-", u64::from(product), 5);
        line.open("name").raw("\"").raw(KINDS[product as usize % KINDS.len()]).raw(" ");
        line.raw(THINGS[product as usize / 8 % THINGS.len()]).raw(" ");
        line.padded(u64::from(product), 1).raw("\"");
        line.text("category", category(product)).money("price", price).text("currency", "RUB");
        line.bool("in_stock", quantity > 0).number("stock_quantity", quantity);
        line.end();
    }
}

fn category(product: u32) -> &'static str {
    CATEGORIES[product as usize % CATEGORIES.len()]
}

/// Ranks 1 to `n`, with exponent `s`.
pub(super) fn zipf(n: u32, s: f64) -> Zipf<f64> {
    Zipf::new(f64::from(n.max(1)), s).expect("at least one rank and a positive exponent")
}

//! Sessions: visitors that look, search, fill a cart, and sometimes check out.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

use super::GeneratorOptions;
use super::stock::{Stock, zipf};
use super::text::Line;

/// Most sessions that are active at once.
const MOST_ACTIVE: f64 = 5_000.0;
/// Sessions at the till that have not become orders yet; older ones give up.
const MOST_WAITING: usize = 1_000;
/// Most kinds of products in a cart.
pub(super) const CART: usize = 4;

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/131.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14) Chrome/129.0 Mobile",
];
const WORDS: [&str; 6] = ["lamp", "chair", "gift", "sale", "kettle", "jacket"];
const REFERRERS: [&str; 3] =
    ["https://search.example/", "https://news.example/deals", "https://mail.example/"];

/// All active sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Slots; an ended session leaves its slot to a new one.
    active: Vec<Session>,
    slots: usize,
    checkouts: VecDeque<Checkout>,
    popularity: Zipf<f64>,
}

/// One visit.
#[derive(Debug, Clone)]
struct Session {
    id: u64,
    user: u32,
    anonymous: bool,
    mobile: bool,
    /// Events that are still to come.
    left: u32,
    buys: bool,
    begun: bool,
    page: Page,
    cart: Vec<u32>,
}

/// A session that reached the till with something in its cart.
#[derive(Debug, Clone)]
pub(super) struct Checkout {
    pub(super) user: u32,
    pub(super) products: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Home,
    Search(u8),
    Product(u32),
    Cart,
    Checkout,
}

impl Sessions {
    pub(super) fn new(options: &GeneratorOptions, step: f64) -> Self {
        // A visitor does something about every 20 seconds of event time. A short run has fewer
        // visitors, so that some of them get to the end.
        let by_time = 0.7 * 20e6 / step;
        let by_count = options.count.map_or(MOST_ACTIVE, |count| count as f64 / 50.0);
        Self {
            active: Vec::new(),
            slots: by_time.min(by_count).clamp(4.0, MOST_ACTIVE) as usize,
            checkouts: VecDeque::new(),
            popularity: zipf(options.users, 1.05),
        }
    }

    /// The session that has waited longest at the till.
    pub(super) fn checkout(&mut self) -> Option<Checkout> {
        self.checkouts.pop_front()
    }

    /// The next event of some session; says whether it is a session's first.
    pub(super) fn click(
        &mut self,
        rng: &mut SmallRng,
        at: i64,
        stock: &Stock,
        line: &mut Line,
    ) -> bool {
        let slot = if self.active.len() < self.slots {
            self.active.push(Session::new(rng, &self.popularity));
            self.active.len() - 1
        } else {
            rng.random_range(0..self.active.len())
        };
        let session = &mut self.active[slot];
        let first = !session.begun;
        session.step(rng, at, stock, line);
        if session.left == 0 {
            let ended = std::mem::replace(session, Session::new(rng, &self.popularity));
            if ended.page == Page::Checkout {
                if self.checkouts.len() == MOST_WAITING {
                    self.checkouts.pop_front();
                }
                self.checkouts.push_back(Checkout { user: ended.user, products: ended.cart });
            }
        }
        first
    }

    /// The only event of a session whose device was offline.
    pub(super) fn offline_click(
        &mut self,
        rng: &mut SmallRng,
        at: i64,
        stock: &Stock,
        line: &mut Line,
    ) {
        let mut session = Session::new(rng, &self.popularity);
        session.mobile = true;
        session.step(rng, at, stock, line);
    }
}

impl Session {
    fn new(rng: &mut SmallRng, popularity: &Zipf<f64>) -> Self {
        let buys = rng.random_bool(0.38);
        let more = rng.random::<f64>().ln() * if buys { -2.5 } else { -4.0 };
        Self {
            id: rng.random(),
            user: popularity.sample(rng) as u32,
            anonymous: !buys && rng.random_bool(0.15),
            mobile: rng.random_bool(0.55),
            left: if buys { 5 } else { 1 } + more as u32,
            buys,
            begun: false,
            page: Page::Home,
            cart: Vec::new(),
        }
    }

    fn step(&mut self, rng: &mut SmallRng, at: i64, stock: &Stock, line: &mut Line) {
        let referrer = (!self.begun && rng.random_bool(0.6))
            .then(|| REFERRERS[rng.random_range(0..REFERRERS.len())]);
        let event_type = self.advance(rng, stock);
        self.begun = true;
        self.left = self.left.saturating_sub(1);

        line.envelope(event_type, at, if self.mobile { "app" } else { "web" });
        line.open("session_id").raw("\"S-").hex(self.id).raw("\"");
        if !self.anonymous {
            line.code("user_id", "USR-", u64::from(self.user), 6);
        }
        line.open("page_url").raw("\"");
        match self.page {
            Page::Home => line.raw("/"),
            Page::Search(word) => line.raw("/search?q=").raw(WORDS[usize::from(word)]),
            Page::Product(product) => line.raw("/products/PRD-").padded(u64::from(product), 5),
            Page::Cart => line.raw("/cart"),
            Page::Checkout => line.raw("/checkout"),
        };
        line.raw("\"");
        if let Some(referrer) = referrer {
            line.text("referrer", referrer);
        }
        line.text("user_agent", AGENTS[usize::from(self.mobile) * 2 + (self.id & 1) as usize]);
        line.number("viewport_width", if self.mobile { 390 } else { 1_280 + (self.id & 640) });
        if let Page::Product(product) = self.page {
            line.code("product_id", "PRD-", u64::from(product), 5);
        }
        line.end();
    }

    /// Moves on to the next page and says what happens there. Whoever buys ends with a full cart,
    /// the cart page and the till.
    fn advance(&mut self, rng: &mut SmallRng, stock: &Stock) -> &'static str {
        match (self.buys, self.left) {
            (true, 1) => {
                self.page = Page::Checkout;
                return "page_view";
            }
            (true, 2) => {
                self.page = Page::Cart;
                return "page_view";
            }
            (true, 3) if self.cart.is_empty() => return self.add_to_cart(rng, stock),
            _ => {}
        }
        match rng.random_range(0..100) {
            _ if !self.begun => {
                self.page = match rng.random_range(0..10) {
                    0..5 => Page::Home,
                    5..7 => Page::Search(rng.random_range(0..WORDS.len() as u8)),
                    _ => Page::Product(stock.pick(rng)),
                };
                "page_view"
            }
            0..45 => {
                self.page = Page::Product(stock.pick(rng));
                "page_view"
            }
            45..58 => {
                self.page = Page::Search(rng.random_range(0..WORDS.len() as u8));
                "page_view"
            }
            58..80 => "click",
            _ if self.cart.len() < CART => self.add_to_cart(rng, stock),
            _ => "click",
        }
    }

    fn add_to_cart(&mut self, rng: &mut SmallRng, stock: &Stock) -> &'static str {
        let product = match self.page {
            Page::Product(product) => product,
            _ => stock.pick(rng),
        };
        self.page = Page::Product(product);
        if !self.cart.contains(&product) {
            self.cart.push(product);
        }
        "add_to_cart"
    }
}

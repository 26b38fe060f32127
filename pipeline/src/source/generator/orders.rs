//! Orders and their payments.
//!
//! An order comes from a session that reached the till. It is open until it is delivered or
//! cancelled, three updates later on average; its payments follow on their own. The number of open
//! orders is held near a target, which is what bounds the memory.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::SmallRng;

use super::sessions::Checkout;
use super::stock::{Currency, Stock};
use super::text::{Line, day_number};

/// Open orders that a long run keeps.
const MOST_OPEN: u64 = 20_000;
/// Payments that wait for their next step; older ones are given up.
const MOST_WAITING: usize = 10_000;
const METHODS: [&str; 3] = ["card", "bank_transfer", "wallet"];
const CITIES: [&str; 12] = [
    "Berlin", "Dresden", "Ghent", "Kazan", "Leeds", "Lyon", "Moscow", "Oslo", "Porto", "Riga",
    "Tula", "Turin",
];
const REASONS: [&str; 3] = ["insufficient_funds", "expired_card", "declined"];

/// All open orders and waiting payments.
#[derive(Debug)]
pub(super) struct Orders {
    open: Vec<Order>,
    target: usize,
    payments: VecDeque<Payment>,
    /// Number of the last order.
    number: u64,
}

#[derive(Debug, Clone)]
struct Order {
    id: OrderId,
    user: u32,
    currency: Currency,
    /// Index of the town of delivery; none on orders of a producer that has not moved to version 2.
    city: Option<u8>,
    status: Status,
    items: Vec<Item>,
    created_at: i64,
}

/// Day and number.
#[derive(Debug, Clone, Copy)]
struct OrderId {
    day: u64,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    product: u32,
    quantity: u64,
    /// Hundredths.
    price: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Confirmed,
    Shipped,
    Delivered,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone)]
struct Payment {
    number: u64,
    order: OrderId,
    user: u32,
    amount: u64,
    currency: Currency,
    method: u8,
    begun: bool,
    failed_before: bool,
}

impl Orders {
    pub(super) fn new(count: u64, first: u64) -> Self {
        Self {
            open: Vec::new(),
            // A short run keeps few orders open, so that most of them get to their end.
            target: (count / 200).clamp(4, MOST_OPEN) as usize,
            payments: VecDeque::new(),
            number: first,
        }
    }

    /// Should the next order event be a new order?
    pub(super) fn wants_more(&self) -> bool {
        self.open.len() < self.target
    }

    /// A new order.
    pub(super) fn create(
        &mut self,
        rng: &mut SmallRng,
        now: i64,
        checkout: &Checkout,
        stock: &Stock,
        line: &mut Line,
    ) {
        let order = self.order(rng, now, checkout, stock);
        order.write("order.created", now, line);
        if self.payments.len() == MOST_WAITING {
            self.payments.pop_front();
        }
        self.payments.push_back(Payment {
            number: order.id.number,
            order: order.id,
            user: order.user,
            amount: order.total(),
            currency: order.currency,
            method: rng.random_range(0..METHODS.len() as u8),
            begun: false,
            failed_before: false,
        });
        self.open.push(order);
    }

    /// The creation of an order that nothing else refers to.
    pub(super) fn unrelated(
        &mut self,
        rng: &mut SmallRng,
        now: i64,
        stock: &Stock,
        line: &mut Line,
    ) {
        let products = vec![stock.pick(rng)];
        let checkout = Checkout { user: rng.random_range(1..1_000), products };
        self.order(rng, now, &checkout, stock).write("order.created", now, line);
    }

    fn order(&mut self, rng: &mut SmallRng, now: i64, checkout: &Checkout, stock: &Stock) -> Order {
        self.number += 1;
        let currency = Currency::of_user(checkout.user);
        let items = checkout.products.iter().map(|product| Item {
            product: *product,
            quantity: if rng.random_bool(0.8) { 1 } else { rng.random_range(2..5) },
            price: stock.price(*product, currency),
        });
        let items = items.collect();
        Order {
            id: OrderId { day: day_number(now), number: self.number },
            user: checkout.user,
            currency,
            city: rng.random_bool(0.95).then(|| (checkout.user % CITIES.len() as u32) as u8),
            status: Status::Pending,
            items,
            created_at: now,
        }
    }

    /// The next thing that happens to some open order. There must be one.
    pub(super) fn update(&mut self, rng: &mut SmallRng, now: i64, line: &mut Line) {
        let at = rng.random_range(0..self.open.len());
        let order = &mut self.open[at];
        let lot = rng.random_range(0..100);
        order.status = match (order.status, lot) {
            (Status::Pending, 0..12) => {
                order.change(rng);
                Status::Pending
            }
            (Status::Pending, 12..18) | (Status::Confirmed, 0..3) => Status::Cancelled,
            (Status::Pending, _) => Status::Confirmed,
            (Status::Confirmed, _) => Status::Shipped,
            _ => Status::Delivered,
        };
        let event_type = match order.status {
            Status::Cancelled => "order.cancelled",
            _ => "order.updated",
        };
        order.write(event_type, now.max(order.created_at), line);
        if matches!(order.status, Status::Delivered | Status::Cancelled) {
            self.open.swap_remove(at);
        }
    }

    /// The next step of the payment that has waited longest; false when none waits.
    pub(super) fn pay(&mut self, rng: &mut SmallRng, at: i64, line: &mut Line) -> bool {
        let Some(mut payment) = self.payments.pop_front() else {
            return false;
        };
        if !payment.begun {
            payment.write("payment.initiated", "initiated", None, at, line);
            payment.begun = true;
            self.payments.push_back(payment);
            return true;
        }
        let fails = !payment.failed_before && rng.random_bool(0.38);
        if fails {
            // One failure in twenty says no reason, which a rule warns about.
            let reason = rng.random_bool(0.95).then(|| REASONS[rng.random_range(0..REASONS.len())]);
            payment.write("payment.failed", "failed", reason, at, line);
            // The second attempt is a payment of its own.
            self.number += 1;
            payment.number = self.number;
            payment.begun = false;
            payment.failed_before = true;
            self.payments.push_back(payment);
        } else {
            payment.write("payment.completed", "completed", None, at, line);
        }
        true
    }
}

impl Order {
    /// The customer changes a quantity, and the total follows, or has it sent elsewhere.
    fn change(&mut self, rng: &mut SmallRng) {
        match &mut self.city {
            Some(city) if rng.random_bool(0.2) => *city = (*city + 1) % CITIES.len() as u8,
            _ => {
                let item = rng.random_range(0..self.items.len());
                self.items[item].quantity = self.items[item].quantity % 5 + 1;
            }
        }
    }

    fn total(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.price).sum()
    }

    fn write(&self, event_type: &str, at: i64, line: &mut Line) {
        line.envelope(event_type, at, "checkout");
        self.id.write(line);
        line.code("user_id", "USR-", u64::from(self.user), 6);
        line.text("status", self.status.name());
        line.open("items").raw("[");
        for (n, item) in self.items.iter().enumerate() {
            line.raw(if n == 0 { "" } else { "," }).raw("{\"product_id\":\"PRD-");
            line.padded(u64::from(item.product), 5).raw("\"");
            line.number("quantity", item.quantity).money("unit_price", item.price).raw("}");
        }
        line.raw("]");
        line.money("total_amount", self.total()).text("currency", self.currency.code());
        match self.city {
            Some(city) => line.number("schema_version", 2).text("city", CITIES[usize::from(city)]),
            None => line.number("schema_version", 1),
        };
        line.end();
    }
}

impl OrderId {
    fn write(self, line: &mut Line) {
        line.open("order_id").raw("\"ORD-").padded(self.day, 8).raw("-");
        line.padded(self.number, 4).raw("\"");
    }
}

impl Payment {
    fn write(
        &self,
        event_type: &str,
        status: &str,
        reason: Option<&str>,
        at: i64,
        line: &mut Line,
    ) {
        line.envelope(event_type, at, "payments");
        line.code("payment_id", "PAY-", self.number, 8);
        self.order.write(line);
        line.code("user_id", "USR-", u64::from(self.user), 6);
        line.money("amount", self.amount).text("currency", self.currency.code());
        line.text("method", METHODS[usize::from(self.method)]).text("status", status);
        if let Some(reason) = reason {
            line.text("failure_reason", reason);
        }
        line.end();
    }
}

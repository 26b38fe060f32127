//! A lake behind a REST catalog and S3 that now and then refuse, answer wrongly or not at all.

use std::sync::Mutex;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::http_faults::{Fault, FaultyHttp};
use super::lake_services::{LakeServices, Service};

/// The services behind their proxies.
pub struct FaultyLake {
    pub services: LakeServices,
    catalog: FaultyHttp,
    s3: FaultyHttp,
    /// Options that lead through the proxies.
    pub options: Vec<String>,
    /// Options that do not.
    pub direct: Vec<String>,
}

impl FaultyLake {
    /// Starts all of it; `seed` decides what goes wrong when.
    #[track_caller]
    pub fn start(seed: u64) -> Self {
        let services = LakeServices::start();
        let rng = Mutex::new(SmallRng::seed_from_u64(seed));
        let catalog = FaultyHttp::before(services.url(Service::Catalog), move |method, path, _| {
            let mut rng = rng.lock().expect("no rule panics");
            let is_commit = method == "POST" && path.contains("/tables/");
            if !is_commit {
                return if rng.random_bool(0.03) { Fault::Refuse(503) } else { Fault::Pass };
            }
            match rng.random_range(0..12) {
                0 => Fault::Lose,
                1 => Fault::Answer(500),
                2 => Fault::Answer(504),
                3 => Fault::Refuse(503),
                _ => Fault::Pass,
            }
        });
        let rng = Mutex::new(SmallRng::seed_from_u64(!seed));
        let s3 = FaultyHttp::before(services.url(Service::S3), move |method, _, _| {
            let mut rng = rng.lock().expect("no rule panics");
            match (method, rng.random_range(0..40)) {
                ("PUT", 0) => Fault::Refuse(403),
                ("PUT", 1) => Fault::Lose,
                (_, 2) => Fault::Refuse(500),
                _ => Fault::Pass,
            }
        });
        let direct = services.options(|_| {});
        let mut options = services.options(|properties| {
            properties.insert("s3.endpoint".to_owned(), s3.url());
        });
        options[1] = catalog.url();
        Self { services, catalog, s3, options, direct }
    }

    /// Requests to the catalog and to the store that did not simply pass.
    pub fn faults(&self) -> (u64, u64) {
        (self.catalog.faults(), self.s3.faults())
    }
}

//! Events from HTTP into the pipeline's queue.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pipeline::source::http::{Ingress, SubmitError};
use serving::http::ports::{Intake, IntakeError, Receipt};

/// The pipeline's queue as the API knows it.
pub(super) struct HttpIntake {
    ingress: Ingress,
}

impl HttpIntake {
    pub(super) fn new(ingress: Ingress) -> Self {
        Self { ingress }
    }
}

impl Intake for HttpIntake {
    fn submit(
        &self,
        tenant: Arc<str>,
        records: Vec<Vec<u8>>,
    ) -> BoxFuture<'static, Result<Vec<Receipt>, IntakeError>> {
        let arrived_at = chrono::Utc::now().timestamp_micros();
        let submitted = self.ingress.submit(tenant, records, arrived_at);
        async move {
            let outcomes = submitted.map_err(|error| match error {
                SubmitError::Full => IntakeError::Full,
                SubmitError::Stopped => IntakeError::Closed,
            })?;
            let outcomes = outcomes.await.map_err(|_| {
                IntakeError::Failed("the pipeline stopped before the events were stored".to_owned())
            })?;
            Ok(outcomes.into_iter().map(|outcome| Receipt { event_id: None, outcome }).collect())
        }
        .boxed()
    }
}

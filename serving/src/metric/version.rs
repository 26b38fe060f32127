//! Which version answers: of those that are whole the newest stable one, else the newest; or the one
//! that was asked for.

use contracts::model::{Entity, Metric};

use super::{MetricEngine, hint};
use crate::question::ReadError;
use crate::store::BackfillProgress;

impl MetricEngine {
    /// The metric that answers.
    pub(crate) fn find_metric(
        &self,
        name: &str,
        version: Option<u32>,
    ) -> Result<&Metric, ReadError> {
        let (domain, backfilling) = (self.domain(), self.backfilling());
        let newest = domain.metric(name).ok_or_else(|| ReadError::NotFound {
            message: format!("no metric is named `{name}`"),
            hint: hint(name, domain.metrics.iter().map(|metric| metric.name.as_str())),
        })?;
        let is_whole = |metric: &Metric| backfilling.metric(metric.index).is_none();
        let found = match version {
            None => domain.metric_where(name, is_whole).unwrap_or(newest),
            Some(version) => {
                let found = domain.metric_where(name, |metric| metric.version == version);
                let all = domain.metrics.iter().filter(|metric| metric.name == name);
                let all = all.map(|metric| metric.version).collect();
                found.ok_or_else(|| no_version("metric", name, version, all))?
            }
        };
        match backfilling.metric(found.index) {
            None => Ok(found),
            Some(progress) => Err(not_whole("metric", name, found.version, progress)),
        }
    }

    /// The entity type that answers.
    pub(crate) fn find_entity(
        &self,
        name: &str,
        version: Option<u32>,
    ) -> Result<&Entity, ReadError> {
        let (domain, backfilling) = (self.domain(), self.backfilling());
        let newest = domain.entity(name).ok_or_else(|| ReadError::NotFound {
            message: format!("no entity type is named `{name}`"),
            hint: hint(name, domain.entities.iter().map(|entity| entity.name.as_str())),
        })?;
        let is_whole = |entity: &Entity| backfilling.entity(entity.index).is_none();
        let found = match version {
            None => domain.entity_where(name, is_whole).unwrap_or(newest),
            Some(version) => {
                let found = domain.entity_where(name, |entity| entity.version == version);
                let all = domain.entities.iter().filter(|entity| entity.name == name);
                let all = all.map(|entity| entity.version).collect();
                found.ok_or_else(|| no_version("entity type", name, version, all))?
            }
        };
        match backfilling.entity(found.index) {
            None => Ok(found),
            Some(progress) => Err(not_whole("entity type", name, found.version, progress)),
        }
    }

    /// The metric of that name as lists show it: the version that answers, else the one that will.
    pub fn answering(&self, name: &str) -> Option<&Metric> {
        let backfilling = self.backfilling();
        let whole = |metric: &Metric| backfilling.metric(metric.index).is_none();
        self.domain().metric_where(name, whole).or_else(|| self.domain().metric(name))
    }

    /// The entity of that name as lists show it.
    pub fn answering_entity(&self, name: &str) -> Option<&Entity> {
        let backfilling = self.backfilling();
        let whole = |entity: &Entity| backfilling.entity(entity.index).is_none();
        self.domain().entity_where(name, whole).or_else(|| self.domain().entity(name))
    }
}

fn no_version(what: &str, name: &str, version: u32, mut all: Vec<u32>) -> ReadError {
    all.sort_unstable();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    ReadError::NotFound {
        message: format!("{what} `{name}` has no version {version}"),
        hint: Some(format!("there is {}", all.join(", "))),
    }
}

fn not_whole(what: &str, name: &str, version: u32, progress: BackfillProgress) -> ReadError {
    let BackfillProgress { done, total } = progress;
    ReadError::Backfilling {
        message: format!(
            "{what} `{name}` v{version} is being backfilled: {done} of {total} positions are done \
             ({} %)",
            progress.percent()
        ),
        hint:
            "it answers as soon as that is complete; until then a version answers that was there \
               before, if there is one"
                .to_owned(),
    }
}

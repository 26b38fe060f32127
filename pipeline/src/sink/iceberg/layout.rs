//! How a table is laid out: partition, sort order and commits, as its contract wants them, and how a
//! table that is there already comes to it.
//!
//! A table keeps what it was given before: files that were written under another partition spec stay
//! under it, and every reader of Iceberg plans with the spec of each file. New rows go by the new one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contracts::model::{Family, PartitionTransform};
use iceberg::spec::{
    NullOrder, PartitionSpec, Schema, SortDirection, SortField, SortOrder, TableMetadata,
    Transform, UnboundPartitionField, UnboundPartitionSpec,
};
use iceberg::table::Table;
use iceberg::{Catalog, TableRequirement, TableUpdate};

use super::config::LakeConfig;
use super::error::LakeError;
use super::publish::Publisher;
use super::schema::{Column, TableDefinition};

/// How a table is laid out; the default is by the day of its time column, in the order of the journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Columns and what is taken of them; empty: the day of the time column.
    partition: Vec<(String, Transform)>,
    /// Columns that order the rows of a file; empty: the order of the journal.
    sort: Vec<String>,
    /// Longest time between two commits, if it is not that of all tables.
    pub every: Option<Duration>,
    /// Size of a commit, if it is not that of all tables.
    pub commit_bytes: Option<usize>,
}

impl Layout {
    /// What the contracts of a family say, in the names of the table's `columns`.
    pub(super) fn of(family: &Family, columns: &[Column]) -> Self {
        let Some(lake) = family.lake() else { return Self::default() };
        let name = |journal: &str| {
            let column = columns.iter().find(|column| column.journal == journal);
            column.map_or(journal, |column| &column.name).to_owned()
        };
        let partition = lake.partition.iter();
        Self {
            partition: partition.map(|f| (name(&f.column), transform(f.transform))).collect(),
            sort: lake.sort.iter().map(|column| name(column)).collect(),
            every: lake
                .commit_every
                .and_then(|every| u64::try_from(every).ok())
                .map(Duration::from_micros),
            commit_bytes: lake.commit_size.and_then(|size| usize::try_from(size).ok()),
        }
    }
}

fn transform(transform: PartitionTransform) -> Transform {
    match transform {
        PartitionTransform::Identity => Transform::Identity,
        PartitionTransform::Hour => Transform::Hour,
        PartitionTransform::Day => Transform::Day,
        PartitionTransform::Month => Transform::Month,
        PartitionTransform::Bucket(count) => Transform::Bucket(count),
        PartitionTransform::Truncate(width) => Transform::Truncate(width),
    }
}

/// Names of the parts of a partition. A column of a contract starts with a letter, so a name that
/// starts with an underscore never meets one, neither now nor in a later version.
fn names(parts: &[(String, Transform)]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |(column, transform): &(String, Transform)| {
        let suffix = match transform {
            Transform::Identity => return column.clone(),
            // With the number: another one is another part, and names stand for one part over all
            // specs of a table.
            Transform::Bucket(count) => format!("bucket_{count}"),
            Transform::Truncate(width) => format!("trunc_{width}"),
            other => other.to_string(),
        };
        let mut name = format!("_{}_{suffix}", column.trim_start_matches('_'));
        // `_event_time` and a field `event_time`.
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        name
    };
    parts.iter().map(name).collect()
}

impl TableDefinition {
    /// Parts of the partition with their names.
    fn parts(&self) -> Vec<(String, String, Transform)> {
        if self.layout.partition.is_empty() {
            let name = format!("{}_day", self.partition_by);
            return vec![(name, self.partition_by.to_owned(), Transform::Day)];
        }
        let parts = self.layout.partition.iter().cloned();
        let named = names(&self.layout.partition).into_iter().zip(parts);
        named.map(|(name, (column, transform))| (name, column, transform)).collect()
    }

    fn column_id(&self, schema: &Schema, column: &str) -> Result<i32, LakeError> {
        let id = schema.field_id_by_name(column);
        id.ok_or_else(|| self.foreign(format!("has no column `{column}`")))
    }

    /// A commit is due at this size of its files.
    pub(super) fn commit_bytes(&self, config: &LakeConfig) -> usize {
        self.layout.commit_bytes.unwrap_or(config.commit_bytes)
    }

    /// Partition specification for the creation of the table with `schema`.
    pub(super) fn partition_spec(
        &self,
        schema: &Schema,
    ) -> Result<UnboundPartitionSpec, LakeError> {
        // Catalogs over HTTP may insist on the id.
        let mut spec = UnboundPartitionSpec::builder().with_spec_id(0);
        for (name, column, transform) in self.parts() {
            spec = spec
                .add_partition_field(self.column_id(schema, &column)?, name, transform)
                .map_err(LakeError::catalog(format!("partition lake table `{}`", self.name)))?;
        }
        Ok(spec.build())
    }

    /// Sort order of the table with `schema`.
    pub(super) fn sort_order(&self, schema: &Schema) -> Result<SortOrder, LakeError> {
        let mut order = SortOrder::builder();
        for column in &self.layout.sort {
            order.with_sort_field(
                SortField::builder()
                    .source_id(self.column_id(schema, column)?)
                    .transform(Transform::Identity)
                    .direction(SortDirection::Ascending)
                    .null_order(NullOrder::First)
                    .build(),
            );
        }
        order.build(schema).map_err(LakeError::catalog(format!("sort lake table `{}`", self.name)))
    }

    /// What brings a table to this layout; empty when it has it. How its parts are called does not
    /// matter.
    fn layout_updates(&self, metadata: &TableMetadata) -> Result<Vec<TableUpdate>, LakeError> {
        let schema = metadata.current_schema();
        let mut updates = Vec::new();
        let spec = self.partition_spec(schema)?;
        let fits = |known: &PartitionSpec| {
            spec.fields().len() == known.fields().len()
                && spec.fields().iter().zip(known.fields()).all(|(wanted, known)| {
                    (wanted.source_id, wanted.transform) == (known.source_id, known.transform)
                })
        };
        let specs = || metadata.partition_specs_iter();
        if !fits(metadata.default_partition_spec()) {
            // What a table had before is taken up by its id: catalogs differ in whether to add it again
            // counts as adding.
            let spec_id = match specs().find(|known| fits(known)) {
                Some(known) => known.spec_id(),
                None => {
                    let id = specs().map(|spec| spec.spec_id()).max().unwrap_or(0) + 1;
                    let spec = UnboundPartitionSpec::builder()
                        .with_spec_id(id)
                        .add_partition_fields(with_field_ids(metadata, &spec))
                        .map_err(LakeError::catalog(format!(
                            "partition lake table `{}`",
                            self.name
                        )))?;
                    updates.push(TableUpdate::AddSpec { spec: spec.build() });
                    LAST_ADDED
                }
            };
            updates.push(TableUpdate::SetDefaultSpec { spec_id });
        }
        let order = self.sort_order(schema)?;
        if order.fields != metadata.default_sort_order().fields {
            let mut orders = metadata.sort_orders_iter();
            let sort_order_id = match orders.find(|known| known.fields == order.fields) {
                Some(known) => known.order_id,
                None => {
                    updates.push(TableUpdate::AddSortOrder { sort_order: order });
                    i64::from(LAST_ADDED)
                }
            };
            updates.push(TableUpdate::SetDefaultSortOrder { sort_order_id });
        }
        Ok(updates)
    }
}

/// The fields with ids that are theirs over all specs of the table: readers of its manifests tell
/// parts by them. Catalogs that are given none count from the beginning again.
fn with_field_ids(
    metadata: &TableMetadata,
    spec: &UnboundPartitionSpec,
) -> Vec<UnboundPartitionField> {
    let known: Vec<_> =
        metadata.partition_specs_iter().flat_map(|spec| spec.fields().to_vec()).collect();
    let mut last = metadata.last_partition_id();
    let with_id = |field: &UnboundPartitionField| {
        let same = known
            .iter()
            .find(|known| (known.source_id, known.transform) == (field.source_id, field.transform));
        let field_id = same.map_or_else(
            || {
                last += 1;
                last
            },
            |known| known.field_id,
        );
        UnboundPartitionField { field_id: Some(field_id), ..field.clone() }
    };
    spec.fields().iter().map(with_id).collect()
}

/// What was added by the same commit, in the words of the protocol.
const LAST_ADDED: i32 = -1;

/// Attempts while others commit.
const ATTEMPTS: u32 = 5;

/// Gives the table the layout of `definition` where it has another one.
pub(super) async fn evolve(
    config: &LakeConfig,
    catalog: &Arc<dyn Catalog>,
    definition: &TableDefinition,
    mut table: Table,
) -> Result<Table, LakeError> {
    let name = &definition.name;
    for _ in 0..ATTEMPTS {
        let metadata = table.metadata();
        let updates = definition.layout_updates(metadata)?;
        if updates.is_empty() {
            return Ok(table);
        }
        let requirements = [
            TableRequirement::UuidMatch { uuid: metadata.uuid() },
            TableRequirement::CurrentSchemaIdMatch {
                current_schema_id: metadata.current_schema_id(),
            },
            TableRequirement::DefaultSpecIdMatch {
                default_spec_id: metadata.default_partition_spec_id(),
            },
            TableRequirement::LastAssignedPartitionIdMatch {
                last_assigned_partition_id: metadata.last_partition_id(),
            },
            TableRequirement::DefaultSortOrderIdMatch {
                default_sort_order_id: metadata.default_sort_order_id(),
            },
        ];
        let publisher = Publisher::open(config).await?;
        let published = publisher.publish(&table, &requirements, updates).await;
        let failed = LakeError::catalog(format!("look for the layout of lake table `{name}`"));
        table = catalog.load_table(table.identifier()).await.map_err(failed)?;
        // Whatever was answered: the table knows.
        if definition.layout_updates(table.metadata())?.is_empty() {
            tracing::info!(table = %name, "lake table has another layout from now on");
            return Ok(table);
        }
        published?;
    }
    Err(LakeError::catalog(format!("change the layout of lake table `{name}`"))(
        iceberg::Error::new(
            iceberg::ErrorKind::CatalogCommitConflicts,
            format!("others committed first, {ATTEMPTS} times"),
        ),
    ))
}

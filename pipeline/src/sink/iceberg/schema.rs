//! Which tables the lake has, with which columns, and how a table follows its contract.
//!
//! One table per event family, plus [`DEAD_LETTERS`], [`INGEST`] and [`SOURCE_PARTITIONS`]. Contract fields and enriched columns keep
//! their names. What the product adds starts with an underscore, as in the journal, but in words an
//! analyst knows (`_event_time`); `_partition`, `_file` and `_pos` are names of Iceberg's own
//! metadata columns and are not used. Expressions that only metrics need (`x_…`) and hashes stay in
//! the journal. Times are instants in UTC, so they are `timestamptz`.
//!
//! Field ids are given when a column is created and never change. A table only ever gains optional
//! columns: a contract that drops a field leaves the column in place, filled with nulls from then
//! on, and a field that changes its type is refused.
//!
//! A limit of the library (0.10.1), not of the tables: its own reader cannot put nulls for a column of
//! bytes that a file does not have, so it cannot select `key` of a table of dead letters that an
//! earlier release began. Other engines can.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use contracts::model::{Domain, Family, Ingest, column};
use iceberg::spec::{
    ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};
use iceberg::transaction::AddColumn;

use super::error::LakeError;
use super::layout::Layout;
use crate::sink::iceberg::ledger;
use crate::store::{INGEST_APPLIED_AT, INGEST_ROW, Ledger, dead_letter_schema, ingest_schema};

/// Name of the table of rejected records.
pub const DEAD_LETTERS: &str = "dead_letters";

/// Name of the table of received records by outcome.
pub const INGEST: &str = "ingest";

/// Name of the table that says how far each source partition was read when.
pub const SOURCE_PARTITIONS: &str = "source_partitions";

/// Tables beside those of events. Their positions count other things than the journal's sequence numbers.
pub(super) const BESIDE_EVENTS: [&str; 3] = [DEAD_LETTERS, INGEST, SOURCE_PARTITIONS];

/// Column of event tables with the event time; they are partitioned by its day unless their contract
/// says otherwise.
pub const EVENT_TIME: &str = "_event_time";

/// A table of the lake as the contracts want it.
#[derive(Debug, Clone)]
pub(super) struct TableDefinition {
    /// Table name.
    pub name: String,
    /// Where its rows come from.
    pub source: RowSource,
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Time column: its highest value is the watermark, its day partitions the table unless the
    /// layout says otherwise.
    pub partition_by: &'static str,
    /// How the table is laid out.
    pub layout: Layout,
    /// Newest contract version of its events.
    pub contract_version: Option<u32>,
}

/// Where the rows of a table come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowSource {
    /// Journal rows of a family.
    Family(usize),
    /// The dead letters.
    DeadLetters,
    /// Received records by outcome.
    Ingest,
    /// The ledger, once per round.
    Ledger,
}

impl RowSource {
    /// Journal column that orders the rows and counts positions.
    pub(super) fn position_column(self) -> &'static str {
        match self {
            Self::Family(_) => column::SEQ,
            Self::DeadLetters => "id",
            Self::Ingest | Self::Ledger => INGEST_ROW,
        }
    }

    /// The position that stands for everything in `ledger`.
    pub(super) fn end(self, ledger: &Ledger) -> i64 {
        match self {
            Self::Family(_) => ledger.last_seq,
            Self::DeadLetters => ledger.last_dead_letter,
            Self::Ingest | Self::Ledger => ledger.last_ingest,
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Name in the table.
    pub name: String,
    /// Name in the journal rows.
    pub journal: String,
    /// Type in the journal rows.
    pub ty: DataType,
    /// Never null?
    pub required: bool,
    /// What it is, for people.
    pub doc: Option<String>,
}

/// Column of event tables with the names of fields that are null because the record said so. In the
/// journal this is a bit per field of the contracts of the day; here it must not depend on them.
pub const NULLS: &str = "_nulls";

/// Product columns of event tables: name in the lake, name in the journal, meaning.
const EVENT_COLUMNS: [(&str, &str, &str); 13] = [
    (EVENT_TIME, column::TIME, "When the event happened, in UTC"),
    ("_event_type", column::TYPE, "Type of the event"),
    ("_event_id", column::ID, "Id of the event, unique within its tenant"),
    ("_tenant", column::TENANT, "Tenant that the event belongs to"),
    ("_contract_version", column::VERSION, "Contract version that the record was read with"),
    ("_arrived_at", column::ARRIVED_AT, "When the record arrived, in UTC"),
    ("_late", column::LATE, "Was it behind the watermark by more than the allowed lateness?"),
    ("_warnings", column::WARNINGS, "Broken rules of severity warning, comma separated"),
    ("_extra", column::EXTRA, "JSON object of the members that the contract does not know"),
    (
        NULLS,
        NULLS,
        "Fields that the record gave as null, comma separated; others that are null were absent",
    ),
    ("_seq", column::SEQ, "Journal sequence number: the order in which events were accepted"),
    ("_source_partition", column::PARTITION, "Number of the source partition"),
    ("_source_offset", column::OFFSET, "Offset of the record in its source partition"),
];

/// Dead letter columns that have another name in the lake: `partition` and `offset` are keywords.
const DEAD_LETTER_NAMES: [(&str, &str); 2] =
    [("partition", "source_partition"), ("offset", "source_offset")];

/// Columns that have another name in the lake than in the store.
const INGEST_NAMES: [(&str, &str); 4] = [
    (INGEST_ROW, "id"),
    (INGEST_APPLIED_AT, "applied_at"),
    ("_tenant", "tenant"),
    ("_n", "records"),
];

/// See [`INGEST_NAMES`].
const LEDGER_NAMES: [(&str, &str); 1] = [(INGEST_ROW, "last_ingest")];

/// All tables of a domain in the order in which they are brought up to date: its families, the dead
/// letters, what was received, and last the ledger, which vouches for all the others.
pub(super) fn tables(domain: &Domain) -> Vec<TableDefinition> {
    let ingest = Ingest::default();
    let rest = [
        of_schema(DEAD_LETTERS, RowSource::DeadLetters, &dead_letter_schema(), &DEAD_LETTER_NAMES),
        of_schema(INGEST, RowSource::Ingest, &ingest_schema(&ingest), &INGEST_NAMES),
        of_schema(SOURCE_PARTITIONS, RowSource::Ledger, &ledger::schema(), &LEDGER_NAMES),
    ];
    domain.families.iter().map(event_table).chain(rest).collect()
}

fn event_table(family: &Family) -> TableDefinition {
    let schema = family.schema();
    let product = EVENT_COLUMNS.iter().filter_map(|(name, journal, doc)| {
        let (ty, required) = match schema.field_with_name(journal) {
            Ok(field) => (field.data_type().clone(), !field.is_nullable()),
            Err(_) if *journal == NULLS => (DataType::Utf8, false),
            Err(_) => return None,
        };
        Some(Column {
            name: (*name).to_owned(),
            journal: (*journal).to_owned(),
            ty,
            required,
            doc: Some((*doc).to_owned()),
        })
    });
    let declared = family.fields.iter().chain(&family.enriched).map(|def| Column {
        name: def.name.clone(),
        journal: def.name.clone(),
        ty: def.ty.arrow(),
        required: false,
        doc: description(family, &def.name),
    });
    let columns: Vec<Column> = product.chain(declared).collect();
    TableDefinition {
        name: table_of_events(&family.name),
        source: RowSource::Family(family.index),
        layout: Layout::of(family, &columns),
        columns,
        partition_by: EVENT_TIME,
        contract_version: family.versions.iter().map(|contract| contract.version).max(),
    }
}

/// What the newest version says about the field.
fn description(family: &Family, field: &str) -> Option<String> {
    let fields = family.versions.iter().rev().flat_map(|contract| &contract.fields);
    fields.filter(|f| f.name == field).find_map(|f| f.description.clone())
}

/// A table with the columns of a schema, some of them under another name.
fn of_schema(
    name: &str,
    source: RowSource,
    schema: &SchemaRef,
    names: &[(&str, &str)],
) -> TableDefinition {
    let columns = schema.fields().iter().map(|field| {
        let renamed = names.iter().find(|(journal, _)| journal == field.name());
        Column {
            name: renamed.map_or(field.name().as_str(), |(_, lake)| lake).to_owned(),
            journal: field.name().clone(),
            ty: field.data_type().clone(),
            required: !field.is_nullable(),
            doc: None,
        }
    });
    TableDefinition {
        name: name.to_owned(),
        source,
        columns: columns.collect(),
        partition_by: if source == RowSource::Ledger { ledger::RECORDED_AT } else { "arrived_at" },
        layout: Layout::default(),
        contract_version: None,
    }
}

/// Name of the table of a family's events; the names of the other tables are kept free.
pub fn table_of_events(family: &str) -> String {
    let name = sanitise(family);
    if BESIDE_EVENTS.contains(&name.as_str()) { format!("{name}_events") } else { name }
}

/// A name that every engine takes without quotes: `[a-z0-9_]`, not empty, not starting with a digit.
pub(super) fn sanitise(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    if clean.is_empty() || clean.starts_with(|c: char| c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    clean
}

impl TableDefinition {
    /// Schema for the creation of the table.
    pub(super) fn schema(&self) -> Result<Schema, LakeError> {
        let mut ids = 0;
        let fields = self
            .columns
            .iter()
            .map(|column| self.field(column, column.required, &mut ids))
            .collect::<Result<Vec<_>, _>>()?;
        Schema::builder()
            .with_fields(fields)
            .build()
            .map_err(LakeError::catalog(format!("make the schema of lake table `{}`", self.name)))
    }

    /// What the table lacks, in order; empty when it fits. Fails when a column has another type.
    pub(super) fn additions(&self, table: &Schema) -> Result<Vec<Addition>, LakeError> {
        let mut additions = Vec::new();
        for column in &self.columns {
            match table.as_struct().fields().iter().find(|f| f.name == column.name) {
                None => {
                    // New columns are optional, required ones too: older rows do not have them.
                    let field = self.field(column, false, &mut 0)?;
                    additions.push(Addition { parent: None, field });
                }
                Some(stored) => {
                    let wanted = self.ty(&column.ty, &column.name, &mut 0)?;
                    self.compare(&stored.field_type, &wanted, &column.name, &mut additions)?;
                }
            }
        }
        Ok(additions)
    }

    fn compare(
        &self,
        stored: &Type,
        wanted: &Type,
        path: &str,
        additions: &mut Vec<Addition>,
    ) -> Result<(), LakeError> {
        match (stored, wanted) {
            (Type::Primitive(a), Type::Primitive(b)) if a == b => Ok(()),
            (Type::List(a), Type::List(b)) => {
                let path = format!("{path}.element");
                let (a, b) = (&a.element_field.field_type, &b.element_field.field_type);
                self.compare(a, b, &path, additions)
            }
            (Type::Struct(a), Type::Struct(b)) => {
                for member in b.fields() {
                    match a.field_by_name(&member.name) {
                        None => additions.push(Addition {
                            parent: Some(path.to_owned()),
                            field: Arc::clone(member),
                        }),
                        Some(stored) => self.compare(
                            &stored.field_type,
                            &member.field_type,
                            &format!("{path}.{}", member.name),
                            additions,
                        )?,
                    }
                }
                Ok(())
            }
            _ => Err(LakeError::TypeChanged {
                table: self.name.clone(),
                column: path.to_owned(),
                stored: stored.to_string(),
                wanted: wanted.to_string(),
            }),
        }
    }

    fn field(
        &self,
        column: &Column,
        required: bool,
        ids: &mut i32,
    ) -> Result<NestedFieldRef, LakeError> {
        *ids += 1;
        let id = *ids;
        let ty = self.ty(&column.ty, &column.name, ids)?;
        let mut field = NestedField::new(id, &column.name, ty, required);
        field.doc = column.doc.clone();
        Ok(Arc::new(field))
    }

    /// The Iceberg type for an Arrow type of the journal. Ids are taken from `ids` on.
    fn ty(&self, ty: &DataType, path: &str, ids: &mut i32) -> Result<Type, LakeError> {
        let primitive = match ty {
            DataType::Utf8 => PrimitiveType::String,
            DataType::Boolean => PrimitiveType::Boolean,
            DataType::Int64 => PrimitiveType::Long,
            DataType::Float64 => PrimitiveType::Double,
            DataType::Date32 => PrimitiveType::Date,
            DataType::Binary => PrimitiveType::Binary,
            DataType::Timestamp(TimeUnit::Microsecond, _) => PrimitiveType::Timestamptz,
            DataType::Decimal128(precision, scale) if *scale >= 0 => PrimitiveType::Decimal {
                precision: u32::from(*precision),
                scale: u32::from(scale.unsigned_abs()),
            },
            DataType::List(element) => {
                *ids += 1;
                let id = *ids;
                let ty = self.ty(element.data_type(), &format!("{path}.element"), ids)?;
                let element = NestedField::list_element(id, ty, false);
                return Ok(Type::List(ListType::new(Arc::new(element))));
            }
            DataType::Struct(members) => {
                let mut fields = Vec::with_capacity(members.len());
                for member in members {
                    *ids += 1;
                    let id = *ids;
                    let path = format!("{path}.{}", member.name());
                    let ty = self.ty(member.data_type(), &path, ids)?;
                    fields.push(Arc::new(NestedField::optional(id, member.name(), ty)));
                }
                return Ok(Type::Struct(StructType::new(fields)));
            }
            other => {
                return Err(LakeError::Rows {
                    table: self.name.clone(),
                    message: format!(
                        "column `{path}` has type {other}, which the lake cannot hold"
                    ),
                });
            }
        };
        Ok(Type::Primitive(primitive))
    }

    /// An error about a table that was changed by somebody else.
    pub(super) fn foreign(&self, problem: impl Into<String>) -> LakeError {
        LakeError::Foreign { table: self.name.clone(), problem: problem.into() }
    }
}

/// A column or struct member that a table lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addition {
    /// Path of the struct that gains it; `None` for a column.
    pub parent: Option<String>,
    /// The field; its ids are assigned by the table.
    pub field: NestedFieldRef,
}

impl Addition {
    /// Its name, with those of the structs and lists that it is in.
    pub(super) fn path(&self) -> String {
        match &self.parent {
            None => self.field.name.clone(),
            Some(parent) => format!("{parent}.{}", self.field.name),
        }
    }

    /// The library's form of it.
    pub(super) fn to_add_column(&self) -> AddColumn {
        let ty = (*self.field.field_type).clone();
        let name = self.field.name.as_str();
        let doc = self.field.doc.as_deref();
        // The builder's type changes with each member that is set, hence the four arms.
        match (self.parent.as_deref(), doc) {
            (None, None) => AddColumn::optional(name, ty),
            (None, Some(doc)) => AddColumn::builder().name(name).field_type(ty).doc(doc).build(),
            (Some(parent), None) => {
                AddColumn::builder().parent(parent).name(name).field_type(ty).build()
            }
            (Some(parent), Some(doc)) => {
                AddColumn::builder().parent(parent).name(name).field_type(ty).doc(doc).build()
            }
        }
    }
}

//! Stands for the client in a program that is built without it.

use std::io;

use iceberg::table::Table;
use iceberg::{TableRequirement, TableUpdate};
use opendal::Operator;

use super::GlueCatalogConfig;
use crate::sink::iceberg::catalog::CatalogRef;
use crate::sink::iceberg::error::LakeError;
use crate::sink::iceberg::publish::Published;

/// There is none.
#[derive(Debug, Clone)]
pub(in crate::sink::iceberg) enum GlueCatalog {}

impl GlueCatalog {
    pub(in crate::sink::iceberg) async fn open(_: &GlueCatalogConfig) -> Result<Self, LakeError> {
        Err(LakeError::NoGlue)
    }

    pub(in crate::sink::iceberg) fn into_catalog(self) -> CatalogRef {
        match self {}
    }

    pub(in crate::sink::iceberg) async fn publish(
        &self,
        _: &Table,
        _: &[TableRequirement],
        _: Vec<TableUpdate>,
    ) -> Result<Published, LakeError> {
        match *self {}
    }
}

pub(in crate::sink::iceberg) fn bucket(_: &GlueCatalogConfig, _: &str) -> io::Result<Operator> {
    Err(io::Error::other(LakeError::NoGlue))
}

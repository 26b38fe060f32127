//! A local lake in a backup, and put back somewhere else.
//!
//! Every file of a lake but its catalog is written once. So a backup is a consistent copy of the
//! catalog, and the files that the tables of that copy lead to. The files name each other by absolute
//! paths: a lake that is put back in another place has to be rewritten ([`relocate()`]).
//! Start at [`survey`].

mod avro;
mod relocate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use iceberg::io::FileIO;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, Runtime, TableIdent};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

pub use self::relocate::{Relocated, relocate};

use super::config::LakeConfig;
use super::error::LakeError;
use super::listing::{Entry, entries};
use super::local_fs::path_of;
use super::maintain::reachable;
use super::position::Found;
use super::schema::BESIDE_EVENTS;

/// What a backup of a lake consists of, beside the copy of its catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeSurvey {
    /// The location that all of its tables lie below; `None` while there are none.
    pub root: Option<String>,
    /// The highest journal position that one of the tables holds.
    pub position: Option<i64>,
    /// Where each file is, by its path below the root.
    pub files: BTreeMap<String, PathBuf>,
    /// Those of them that readers can do without: earlier metadata.
    pub optional: Vec<String>,
}

/// Copies the catalog of the local lake of `config` to the file `catalog_copy`, which must not be
/// there yet, and finds all files that the tables of the copy need. `None`: there is no local lake.
///
/// May be called while a server works on the lake, and from async code (it blocks).
pub fn survey(config: &LakeConfig, catalog_copy: &Path) -> Result<Option<LakeSurvey>, LakeError> {
    let catalog = config.catalog_file();
    if !catalog.exists() {
        return Ok(None);
    }
    blocking(&catalog, || async {
        let failed = |source| sql("copy the lake's catalog", &catalog, source);
        let mut connection = connect(&catalog, true).await.map_err(failed)?;
        // One transaction of SQLite: what others commit meanwhile is in it as a whole or not at all.
        sqlx::query("vacuum into ?")
            .bind(catalog_copy.to_string_lossy().into_owned())
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        look(catalog_copy).await.map(Some)
    })
}

/// The location that the tables of the local lake of `config` say to lie below; `None` while there are
/// none. It is another one than that of the lake's folder if that was moved. Blocks.
pub fn root(config: &LakeConfig) -> Result<Option<String>, LakeError> {
    let catalog = config.catalog_file();
    if !catalog.exists() {
        return Ok(None);
    }
    let entries = blocking(&catalog, || entries(&catalog))?;
    // ROOT/NAMESPACE/TABLE/metadata/FILE
    let root = |location: &str| location.rsplitn(5, '/').nth(4).map(str::to_owned);
    Ok(entries.first().and_then(|entry| root(&entry.metadata_location)))
}

/// The location that the tables of a local lake in `config` should lie below.
pub fn root_wanted(config: &LakeConfig) -> std::io::Result<String> {
    Ok(format!("file://{}", std::path::absolute(config.warehouse())?.display()))
}

/// Is the lake's folder another one than its files say, and is nothing there any more?
pub fn is_moved(config: &LakeConfig) -> bool {
    let (Ok(Some(root)), Ok(wanted)) = (root(config), root_wanted(config)) else { return false };
    root != wanted && !path_of(&root).exists()
}

async fn look(catalog: &Path) -> Result<LakeSurvey, LakeError> {
    let mut survey =
        LakeSurvey { root: None, position: None, files: BTreeMap::new(), optional: Vec::new() };
    let io = FileIO::new_with_fs();
    for Entry { namespace, name, metadata_location } in entries(catalog).await? {
        let failed = || LakeError::catalog(format!("find the files of lake table `{name}`"));
        let metadata = TableMetadata::read_from(&io, &metadata_location).await.map_err(failed())?;
        let foreign = |problem: &str| LakeError::Foreign {
            table: name.clone(),
            problem: format!("lies at `{}`, {problem}", metadata.location()),
        };
        let root = root_of(metadata.location())
            .ok_or_else(|| foreign("which is not below a folder of its namespace"))?
            .to_owned();
        if survey.root.get_or_insert_with(|| root.clone()) != &root {
            return Err(foreign("apart from the other tables of the lake"));
        }
        if !BESIDE_EVENTS.contains(&name.as_str()) {
            survey.position = survey.position.max(Found::of(&metadata).position());
        }
        let logged: Vec<PathBuf> =
            metadata.metadata_log().iter().map(|log| path_of(&log.metadata_file)).collect();
        let table = Table::builder()
            .file_io(io.clone())
            .metadata_location(metadata_location)
            .identifier(TableIdent::new(NamespaceIdent::new(namespace), name.clone()))
            .runtime(Runtime::try_current().map_err(failed())?)
            .metadata(metadata.clone())
            .build()
            .map_err(failed())?;
        let folder = path_of(&root);
        for path in reachable(&table).await.map_err(failed())? {
            let path = PathBuf::from(path);
            let below = path.strip_prefix(&folder).ok().and_then(Path::to_str);
            let below = below.ok_or_else(|| foreign("and names files elsewhere"))?.to_owned();
            if logged.contains(&path) {
                survey.optional.push(below.clone());
            }
            survey.files.insert(below, path);
        }
    }
    Ok(survey)
}

/// The folder of all tables: two above that of a table.
fn root_of(location: &str) -> Option<&str> {
    let (namespace, _) = location.trim_end_matches('/').rsplit_once('/')?;
    Some(namespace.rsplit_once('/')?.0)
}

async fn connect(file: &Path, read_only: bool) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new().filename(file).read_only(read_only).connect().await
}

fn sql(action: &'static str, path: &Path, source: sqlx::Error) -> LakeError {
    LakeError::Io { action, path: path.to_owned(), source: std::io::Error::other(source) }
}

/// Runs `work` on a thread of its own: a runtime cannot be started inside another one.
fn blocking<T: Send, F: Future<Output = Result<T, LakeError>>>(
    about: &Path,
    work: impl FnOnce() -> F + Send,
) -> Result<T, LakeError> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|source| LakeError::Io {
                action: "start a runtime to read",
                path: about.to_owned(),
                source,
            })?;
            runtime.block_on(work())
        });
        worker.join().unwrap_or(Err(LakeError::Stopped))
    })
}

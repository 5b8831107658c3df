//! What must survive netd: desired state, leases, records, the CA. One redb file, one transaction per change.
//!
//! Everything is a JSON document under a name. A commit is durable (fsync) when it returns.

use std::path::Path;
use std::sync::Arc;

use linkspan_api::v1::SiteSource;
use linkspan_plan::{ContainerId, Desired, Leases, Record};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Layout of the documents; a store of a later version is refused rather than misread.
const SCHEMA: u32 = 1;
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");

/// The store can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be opened.
    #[error("the store `{path}` can't be opened; is another daemon using this state folder?")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// A transaction failed: the disk is full or broken.
    #[error("the store can't be written; nothing was changed")]
    Write(#[source] Box<redb::Error>),
    /// The thread that wrote is gone.
    #[error("writing the store was interrupted; nothing was changed")]
    Interrupted,
    /// A document can't be read.
    #[error("document `{name}` in the store is damaged")]
    Damaged {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a later release.
    #[error(
        "the store was written by a later release (schema {found}, this one knows {SCHEMA}); install that release"
    )]
    Newer {
        /// Its schema.
        found: u32,
    },
}

/// A handle; clones share the file.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Arc<Database>,
}

/// Changes that become durable together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    puts: Vec<(String, Vec<u8>)>,
    deletes: Vec<String>,
}

/// Everything in the store.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) desired: Desired,
    pub(crate) leases: Leases,
    pub(crate) records: Vec<Record>,
    pub(crate) sources: Vec<(String, SiteSource)>,
    pub(crate) authority: Option<String>,
    pub(crate) seed: Option<u64>,
}

impl Store {
    /// Opens or makes the file.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: redb::Error| StoreError::Open {
            path: path.display().to_string(),
            source: Box::new(source),
        };
        let database = Database::create(path).map_err(|error| failed(error.into()))?;
        let store = Self {
            database: Arc::new(database),
        };
        let found = store.read()?.into_iter().find(|(name, _)| name == "schema");
        match found {
            Some((name, bytes)) => {
                let found: u32 = parse(&name, &bytes)?;
                if found > SCHEMA {
                    return Err(StoreError::Newer { found });
                }
            }
            None => store.commit(&Batch::default().put("schema", &SCHEMA))?,
        }
        Ok(store)
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        for (name, bytes) in self.read()? {
            match name.split_once('/').unwrap_or((name.as_str(), "")) {
                ("desired", "") => contents.desired = parse(&name, &bytes)?,
                ("leases", "") => contents.leases = parse(&name, &bytes)?,
                ("authority", "") => contents.authority = Some(parse(&name, &bytes)?),
                ("seed", "") => contents.seed = Some(parse(&name, &bytes)?),
                ("record", _) => contents.records.push(parse(&name, &bytes)?),
                ("source", project) => contents.sources.push((project.to_owned(), parse(&name, &bytes)?)),
                _ => {}
            }
        }
        Ok(contents)
    }

    fn read(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(DOCUMENTS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (name, bytes) = row?;
                rows.push((name.value().to_owned(), bytes.value().to_vec()));
            }
            Ok(rows)
        };
        rows().map_err(|error| StoreError::Write(Box::new(error)))
    }

    /// Makes a batch durable. Blocks for an fsync; call it where blocking is allowed.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(DOCUMENTS)?;
                for (name, bytes) in &batch.puts {
                    table.insert(name.as_str(), bytes.as_slice())?;
                }
                for name in &batch.deletes {
                    table.remove(name.as_str())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| StoreError::Write(Box::new(error)))
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    pub(crate) fn put<T: Serialize>(mut self, name: &str, document: &T) -> Self {
        // Our own types always become JSON: their map keys are strings.
        if let Ok(bytes) = serde_json::to_vec(document) {
            self.puts.push((name.to_owned(), bytes));
        }
        self
    }

    pub(crate) fn delete(mut self, name: &str) -> Self {
        self.deletes.push(name.to_owned());
        self
    }

    pub(crate) fn record(self, record: &Record) -> Self {
        self.put(&record_name(&record.spec.id), record)
    }

    pub(crate) fn forget(self, id: &ContainerId) -> Self {
        self.delete(&record_name(id))
    }
}

fn record_name(id: &ContainerId) -> String {
    format!("record/{id}")
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Damaged {
        name: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let store = Store::open(&path).unwrap();
        let desired = Desired {
            generation: 7,
            ..Desired::default()
        };
        store
            .commit(&Batch::default().put("desired", &desired).put("seed", &5_u64))
            .unwrap();
        drop(store);
        let contents = Store::open(&path).unwrap().load().unwrap();
        assert_eq!(contents.desired.generation, 7);
        assert_eq!(contents.seed, Some(5));
    }

    #[test]
    fn a_store_of_a_later_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        Store::open(&path)
            .unwrap()
            .commit(&Batch::default().put("schema", &(SCHEMA + 1)))
            .unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Newer { .. })));
    }
}

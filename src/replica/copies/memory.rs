//! Files of snapshots in memory, for the simulator and for tests: nothing of them is torn or lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::{DiskError, SnapshotDirectory};

/// By their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemorySnapshots {
    pub(crate) files: BTreeMap<String, Arc<Vec<u8>>>,
    pub(crate) part: Option<Vec<u8>>,
}

impl SnapshotDirectory for MemorySnapshots {
    type File = Arc<Vec<u8>>;

    fn open(&mut self, name: &str) -> Result<Option<Arc<Vec<u8>>>, DiskError> {
        Ok(self.files.get(name).cloned())
    }

    fn is_still(&mut self, name: &str, file: &Arc<Vec<u8>>) -> bool {
        self.files.get(name).is_some_and(|named| Arc::ptr_eq(named, file))
    }

    fn size(&self, file: &Arc<Vec<u8>>) -> u64 {
        file.len() as u64
    }

    fn read(&mut self, file: &Arc<Vec<u8>>, position: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(file.len());
        Ok(file[from..from.saturating_add(length).min(file.len())].to_vec())
    }

    fn append_part(&mut self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let part = self.part.get_or_insert_default();
        part.truncate(usize::try_from(position).unwrap_or(usize::MAX));
        assert_eq!(part.len() as u64, position, "a part has no holes");
        part.extend_from_slice(bytes);
        Ok(())
    }

    fn open_part(&mut self) -> Result<Arc<Vec<u8>>, DiskError> {
        Ok(Arc::new(self.part.clone().unwrap_or_default()))
    }

    fn finish_part(&mut self, name: &str) -> Result<(), DiskError> {
        let part = self.part.take().unwrap_or_default();
        self.files.insert(name.to_string(), Arc::new(part));
        Ok(())
    }

    fn remove_part(&mut self) -> Result<(), DiskError> {
        self.part = None;
        Ok(())
    }
}

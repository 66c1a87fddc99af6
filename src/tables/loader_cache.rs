//! Whole tables of the loader's files in the cache.

use std::fs::File;

use unwind::{CallFrames, Error};

use super::cache::{Cache, ReadRanges, SerializedTable};
use super::loader::LoaderThread;
use crate::processes::ContentId;

impl LoaderThread {
    pub fn load_from_cache(&self, content: &ContentId, file: &File) -> Option<CallFrames> {
        let cache = self.cache.as_ref().filter(|_| content.matches(file))?;
        cache.load(&content.hash, file)
    }

    /// Serializes call frames that are worth storing.
    pub fn serialize_for_cache(
        &self,
        frames: &Option<Result<CallFrames, Error>>,
    ) -> Option<Vec<u8>> {
        let Some(Ok(frames)) = frames else { return None };
        (self.cache.is_some() && Cache::is_worthwhile(frames)).then(|| frames.to_bytes())
    }

    /// Stores call frames in the cache if the file had the same content all the time.
    pub fn store_in_cache(
        &mut self,
        cached: Option<(ContentId, Vec<u8>)>,
        ranges: ReadRanges,
        file: &File,
    ) {
        let (Some(cache), Some((content, frames))) = (&mut self.cache, cached) else { return };
        let Ok(evidence) = ranges.hash(file) else { return }; // too many ranges, or unreadable
        if content.matches(file) {
            let evidence = evidence.to_bytes();
            cache.store(&content.hash, &SerializedTable { evidence, frames });
        }
    }
}

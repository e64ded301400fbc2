//! What the driver compiled, kept in the user's cache folder from one run to the next, where the backend can (Vulkan).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::core::files::{own_cache_folder, sha256, write_atomic_via};

/// Length of a SHA-256 in hexadecimal digits: a file is that of the data, then the data.
const DIGEST: usize = 64;
/// More is neither written nor read.
const MOST: u64 = 256 << 20;

/// The driver's cache of compiled kernels. It is written when it is dropped, if it has changed.
pub(super) struct PipelineCache {
    pub raw: wgpu::PipelineCache,
    file: PathBuf,
    read: Option<Vec<u8>>,
}

impl PipelineCache {
    /// With what an earlier run has left; `None` if the backend has no such cache.
    pub fn open(device: &wgpu::Device, adapter: &wgpu::AdapterInfo) -> Option<PipelineCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = own_cache_folder()?.join("pipelines").join(wgpu::util::pipeline_cache_key(adapter)?);
        let read = read(&file);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("wmic"), data: read.as_deref(), fallback: true };
        // SAFETY: the data are whole, as their hash shows, from a folder of the user's own that only this program
        // writes to, and wgpu checks that they are of its version, of this adapter and driver.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(PipelineCache { raw, file, read })
    }

    fn write(&self) -> Result<()> {
        let fits = |data: &Vec<u8>| (DIGEST + data.len()) as u64 <= MOST;
        match self.raw.get_data().filter(|data| self.read.as_ref() != Some(data) && fits(data)) {
            Some(data) => write(&self.file, &data),
            None => Ok(()),
        }
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        // Without it the next run only compiles again.
        if let Err(error) = self.write() {
            tracing::debug!(%error, "compiled kernels are not kept");
        }
    }
}

/// The data in a file of [`write`]; `None` without it, and for one that is not whole.
fn read(file: &Path) -> Option<Vec<u8>> {
    let file = fs::metadata(file).ok().filter(fs::Metadata::is_file).and_then(|_| fs::File::open(file).ok())?;
    let mut content = vec![];
    file.take(MOST).read_to_end(&mut content).ok()?;
    let (digest, data) = content.split_at_checked(DIGEST)?;
    (sha256(&mut &*data).ok()?.as_bytes() == digest).then(|| data.to_vec())
}

fn write(file: &Path, data: &[u8]) -> Result<()> {
    let digest = sha256(&mut &*data).map_err(Error::io(file))?;
    fs::create_dir_all(file.parent().expect("it is in a folder")).map_err(Error::io(file))?;
    write_atomic_via(&file.with_extension("part"), file, |to| {
        to.write_all(digest.as_bytes())?;
        to.write_all(data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipelines").join("adapter");
        assert_eq!(read(&file), None);
        write(&file, b"compiled").unwrap();
        assert_eq!(read(&file).as_deref(), Some(b"compiled".as_slice()));
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..10], &[], &[&whole[..], b"!"].concat()] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(read(&file), None);
        }
    }
}

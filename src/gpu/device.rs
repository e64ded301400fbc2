//! An open device.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::adapter::{Adapter, AdapterKind, COOPERATIVE, CPU, choose};
use super::kernel::Kernels;
use super::pipeline_cache::PipelineCache;
use crate::core::error::{Error, OUT_OF_MEMORY, Result};

/// Portable buffer size; adapters that support more are opened with their own limit.
const PORTABLE_BINDING: u64 = 128 << 20;

/// An open device with its queue and its compiled kernels. Clones share them.
#[derive(Clone)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    adapter: Adapter,
    pub(super) kernels: Arc<Kernels>,
    /// Submissions so far.
    pub(super) submissions: Arc<AtomicUsize>,
    /// The first error the driver reported outside a scope, or why the device was lost.
    fault: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the adapter named by `wanted` (a part of its name, or its index in `wmic devices`), or without it the
    /// [`preferred`](super::preferred) one.
    ///
    /// # Errors
    /// `Gpu` if there is no adapter (with what to install), or the device cannot be opened; `NoAdapter` if there is
    /// none of that name.
    pub fn open(wanted: Option<&str>) -> Result<Gpu> {
        let (raw, adapter) = choose(wanted)?;
        let available = raw.limits();
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: available.max_storage_buffer_binding_size,
            max_buffer_size: available.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let measured = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
        let mut features = raw.features() & (measured | wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        if adapter.kind == AdapterKind::Software {
            features |= raw.features() & CPU;
        }
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if adapter.cooperative_matrix.is_some() {
            features |= COOPERATIVE;
            // SAFETY: wgpu may not find every misuse of cooperative matrices. The tiles of linear and conv2d and the
            // peak kernel use them, within the bounds of their arrays.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let (device, queue) = pollster::block_on(raw.request_device(&wgpu::DeviceDescriptor {
            label: Some("wmic"),
            required_features: features,
            required_limits: limits,
            experimental_features,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        }))
        .map_err(|e| Error::Gpu(format!("{} cannot be opened: {e}", adapter.name)))?;

        let fault = Arc::new(Mutex::new(None));
        let on_error = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_error.lock().unwrap().get_or_insert_with(|| one_line(&error));
        }));
        let on_loss = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_loss.lock().unwrap().get_or_insert_with(|| format!("the device was lost: {message}"));
            }
        });
        tracing::info!(name = adapter.name, backend = adapter.backend, driver = adapter.driver, "opened adapter");
        let on_disk = PipelineCache::open(&device, &raw.get_info());
        let copies_uniforms = adapter.kind == AdapterKind::Software && adapter.backend == "vulkan";
        let kernels = Arc::new(Kernels::new(on_disk, copies_uniforms));
        Ok(Gpu { device, queue, adapter, kernels, submissions: Arc::default(), fault })
    }

    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Largest single storage binding in bytes.
    pub fn max_binding(&self) -> u64 {
        self.device.limits().max_storage_buffer_binding_size.max(PORTABLE_BINDING)
    }

    /// The first error that the driver reported, if any.
    pub fn check(&self) -> Result<()> {
        match &*self.fault.lock().unwrap() {
            Some(fault) => Err(Error::Gpu(fault.clone())),
            None => Ok(()),
        }
    }

    /// Makes the device fail from now on, like a driver error; for tests.
    #[doc(hidden)]
    pub fn fail(&self, fault: &str) {
        self.fault.lock().unwrap().get_or_insert_with(|| fault.to_owned());
    }

    /// Submissions so far, for tests and measurements of how work is divided into them.
    pub fn submissions(&self) -> usize {
        self.submissions.load(Ordering::Relaxed)
    }

    /// Waits until all submissions are done.
    pub fn wait(&self) -> Result<()> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    pub(super) fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        let polled = self.device.poll(poll);
        self.check()?;
        polled.map(drop).map_err(|e| Error::Gpu(e.to_string()))
    }
}

fn one_line(error: &wgpu::Error) -> String {
    let text = match error {
        wgpu::Error::OutOfMemory { .. } => format!("{OUT_OF_MEMORY}; try fewer `seeds` or a smaller `batch`"),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

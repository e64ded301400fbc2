//! The only modules that know `wgpu` (and, in `kernel`, `naga`): adapters, buffers, kernels, recordings.

mod adapter;
mod buffer;
mod kernel;
mod pace;
mod preprocess;
mod recording;

use adapter::choose;
pub use adapter::{Adapter, AdapterKind, Target, adapters, preferred};
pub use buffer::{Buffer, Element};
pub use kernel::{Binding, Params, Shader, UniformField, parse_wgsl};
pub use pace::Pace;
pub use recording::{Dispatch, Grid, Launch, MAX_ROUNDS, Recorder, Recording, Slot, View};

pub(crate) use kernel::{params, shader};

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::core::error::{Error, OUT_OF_MEMORY, Result};
use kernel::Kernels;

/// Portable buffer size; adapters that support more are opened with their own limit.
const PORTABLE_BINDING: u64 = 128 << 20;

/// An open device with its queue and its compiled kernels. Clones share them.
#[derive(Clone)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: Adapter,
    kernels: Arc<Kernels>,
    /// The first error the driver reported outside a scope, or why the device was lost.
    fault: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the adapter that [`choose`] picks for `wanted` (a part of its name, or its index in `wmic devices`).
    ///
    /// # Errors
    /// `Gpu` if there is no adapter (with what to install), none of that name, or the device cannot be opened.
    pub fn open(wanted: Option<&str>) -> Result<Gpu> {
        let (raw, adapter) = choose(wanted)?;
        let available = raw.limits();
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: available.max_storage_buffer_binding_size,
            max_buffer_size: available.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let features = raw.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP);
        let (device, queue) = pollster::block_on(raw.request_device(&wgpu::DeviceDescriptor {
            label: Some("wmic"),
            required_features: features,
            required_limits: limits,
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
        Ok(Gpu { device, queue, adapter, kernels: Arc::default(), fault })
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
    pub fn fail(&self, fault: &str) {
        self.fault.lock().unwrap().get_or_insert_with(|| fault.to_owned());
    }

    /// Runs `work` and waits until the device has done it.
    pub fn run(&self, work: impl FnOnce(&mut Submission)) -> Result<()> {
        self.submit(work)?;
        self.wait()
    }

    fn submission(&self) -> Submission {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("wmic") };
        Submission { encoder: self.device.create_command_encoder(&descriptor) }
    }

    /// Records `work` into one submission and submits it without waiting.
    pub fn submit(&self, work: impl FnOnce(&mut Submission)) -> Result<Ticket> {
        let mut submission = self.submission();
        work(&mut submission);
        let ticket = Ticket(self.queue.submit([submission.encoder.finish()]));
        self.check()?;
        Ok(ticket)
    }

    /// Seconds from the submission of `times` replays of `recordings` to their end, without the recording of commands.
    pub fn time(&self, recordings: &[&Recording], times: usize) -> Result<f64> {
        self.wait()?;
        let mut submission = self.submission();
        submission.replay(recordings, times);
        let commands = submission.encoder.finish();
        let start = Instant::now();
        self.queue.submit([commands]);
        self.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Waits until all submissions are done.
    pub fn wait(&self) -> Result<()> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Waits until that submission, and all before it, are done.
    pub fn wait_for(&self, ticket: Ticket) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(ticket.0), timeout: None })
    }

    fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        let polled = self.device.poll(poll);
        self.check()?;
        polled.map(drop).map_err(|e| Error::Gpu(e.to_string()))
    }
}

/// A submission in flight.
pub struct Ticket(wgpu::SubmissionIndex);

/// One command buffer under construction.
pub struct Submission {
    encoder: wgpu::CommandEncoder,
}

impl Submission {
    /// Appends all dispatches of `recordings` in order, `times` times, as one compute pass.
    pub fn replay(&mut self, recordings: &[&Recording], times: usize) {
        self.replay_part(recordings, 0..recordings.iter().map(|r| r.len()).sum(), times);
    }

    /// The same for a range of the dispatches, counted over all recordings.
    fn replay_part(&mut self, recordings: &[&Recording], part: Range<usize>, times: usize) {
        let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..times {
            let mut first = 0;
            for recording in recordings {
                let within = |at: usize| at.saturating_sub(first).min(recording.len());
                recording.encode(&mut pass, within(part.start)..within(part.end));
                first += recording.len();
            }
        }
    }

    /// Copies `len` elements of 4 bytes between two buffers.
    pub fn copy(&mut self, from: &Buffer, from_at: usize, to: &Buffer, to_at: usize, len: usize) {
        let bytes = |n: usize| n as u64 * 4;
        self.encoder.copy_buffer_to_buffer(from.raw(), bytes(from_at), to.raw(), bytes(to_at), bytes(len));
    }
}

fn one_line(error: &wgpu::Error) -> String {
    let text = match error {
        wgpu::Error::OutOfMemory { .. } => format!("{OUT_OF_MEMORY}; try fewer `seeds` or a smaller `batch`"),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

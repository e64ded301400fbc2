//! Submissions: recordings and copies in one command buffer.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::buffer::Buffer;
use super::device::Gpu;
use super::recording::Recording;
use crate::core::error::Result;

impl Gpu {
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
        self.submissions.fetch_add(1, Ordering::Relaxed);
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

    /// Waits until that submission, and all before it, are done.
    pub fn wait_for(&self, ticket: Ticket) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(ticket.0), timeout: None })
    }
}

/// A submission in flight.
pub struct Ticket(wgpu::SubmissionIndex);

/// One command buffer under construction.
pub struct Submission {
    pub(super) encoder: wgpu::CommandEncoder,
}

impl Submission {
    /// Appends all dispatches of `recordings` in order, `times` times, as one compute pass where no copies are between.
    pub fn replay(&mut self, recordings: &[&Recording], times: usize) {
        self.replay_part(recordings, 0..recordings.iter().map(|r| r.len()).sum(), times);
    }

    /// The same for a range of the dispatches, counted over all recordings.
    pub(super) fn replay_part(&mut self, recordings: &[&Recording], part: Range<usize>, times: usize) {
        let mut pass = None;
        for _ in 0..times {
            let mut first = 0;
            for recording in recordings {
                let within = |at: usize| at.saturating_sub(first).min(recording.len());
                recording.encode(&mut self.encoder, &mut pass, within(part.start)..within(part.end));
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

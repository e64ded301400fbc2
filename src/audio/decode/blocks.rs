//! Blocks of equal size: PCM and ADPCM.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::codecs::audio::AudioCodecParameters;

use super::source::Source;
use super::stream::{Demux, End, Event, Notes, Span, Stream, Trim};

/// PCM or ADPCM: bytes and frames of a block.
pub(super) struct Coded {
    pub params: AudioCodecParameters,
    pub bytes: u64,
    pub frames: u64,
}

/// The blocks of a file, some thousand frames at a time.
pub(super) struct Blocks {
    source: Source,
    at: u64,
    end: u64,
    /// Bytes and frames of a block.
    bytes: u64,
    frames: u64,
    stream: Option<Box<Stream>>,
}

impl Blocks {
    /// Approximate frames of a packet.
    const PACKET: u64 = 1152;

    pub fn new(
        source: Source,
        coded: Coded,
        (start, end): (u64, u64),
        total: Option<u64>,
        notes: &mut Notes,
    ) -> Blocks {
        let Coded { mut params, bytes, frames } = coded;
        let (left_over, blocks) = ((end - start) % bytes, (end - start) / bytes);
        if left_over > 0 && blocks > 0 && frames == 1 && end == source.len() {
            notes.cut("ends within a sample");
        }
        params.max_frames_per_packet = Some(frames.max(Self::PACKET / frames * frames));
        // The last ADPCM block is padded.
        let keep = total.filter(|&total| frames > 1 && total <= blocks * frames && blocks * frames - total < frames);
        let parts = keep.map(|keep| (Span::Frames(0), Some(Span::Frames(keep)))).into_iter().collect();
        let trim = Trim { parts, padding: None };
        let stream = Some(Box::new(Stream { params, trim, promise: None, timed: true, clock: None }));
        Blocks { source, at: start, end, bytes, frames, stream }
    }
}

impl Demux for Blocks {
    fn next(&mut self, _: &mut Notes) -> io::Result<Event> {
        if let Some(stream) = self.stream.take() {
            return Ok(Event::Stream(stream));
        }
        let blocks = ((self.end - self.at) / self.bytes).min((Self::PACKET / self.frames).max(1));
        if blocks == 0 {
            return Ok(Event::End(End::Whole));
        }
        let mut data = vec![0; (blocks * self.bytes) as usize];
        self.source.seek(SeekFrom::Start(self.at))?;
        self.source.read_exact(&mut data)?;
        self.at += blocks * self.bytes;
        Ok(Event::packet(data, blocks * self.frames))
    }
}

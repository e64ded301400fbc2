//! musicnn's tags of recordings: the mean over 3 s at a time.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::audio::{Item, Windowing, ingest};
use crate::core::array::Array;
use crate::core::error::Result;
use crate::gpu::{Buffer, Gpu, Pace};
use crate::graph::{Draft, Graph, Mode, Plan, Spec, Tensor};
use crate::nn::FeatureKind;
use crate::nn::front_ends::musicnn::{STFT, TAGS, WINDOW, tags_of_windows};
use crate::predict::recognition::Tag;
use crate::predict::silence::{self, ABSOLUTE};

/// Windows of an excerpt, 30 s, which has one level and is analysed at once.
const WINDOWS: usize = 10;
/// Samples from one window to the next, and those of an excerpt.
const HOP: usize = WINDOW * STFT.hop_length;
const EXCERPT: f64 = 30.0;

/// The network on a GPU, for any number of recordings.
pub struct Tagger {
    gpu: Gpu,
    /// By the number of windows.
    plans: HashMap<usize, (Buffer, Plan, Tensor, Pace)>,
}

/// A recording in progress.
#[derive(Default)]
struct Open {
    /// Of each tag, over the windows that are not silent.
    sums: Vec<f64>,
    windows: usize,
    /// What follows its latest window, too short for another.
    rest: Vec<f32>,
    scale: f32,
}

impl Tagger {
    pub fn new(gpu: &Gpu) -> Tagger {
        Tagger { gpu: gpu.clone(), plans: HashMap::new() }
    }

    /// The tags of an audio file, in musicnn's order. A recording is analysed in windows of 3 s, of which the last is
    /// left out if it is not complete, unless those before are silent: then zeros follow it. Silent windows do not
    /// count; a recording of nothing else has no tags. The level is that of musicnn's features, over 30 s at a time.
    ///
    /// # Errors
    /// `Io` and `Data` for a file that cannot be used; `Gpu` for a lost device.
    pub fn tag_file(&mut self, file: impl Into<PathBuf>) -> Result<Vec<Tag>> {
        let format = FeatureKind::Musicnn.format();
        let windowing = Windowing { window: EXCERPT, hop: Some(EXCERPT), format, align_last: false };
        let mut open = Open::default();
        for (_, item) in ingest(vec![file.into()], windowing)? {
            match item {
                Item::Excerpt(excerpt) => self.take(&mut open, &excerpt.samples, excerpt.scale)?,
                Item::Failed(error) => return Err(error),
                Item::End { .. } => {}
            }
        }
        if open.windows == 0 && !open.rest.is_empty() {
            let mut samples = std::mem::take(&mut open.rest);
            samples.resize(samples.len().max(HOP), 0.0);
            let scale = open.scale;
            self.take(&mut open, &samples, scale)?;
        }
        let tag = |(name, sum): (&'static str, &f64)| Tag { name, probability: sum / open.windows as f64 };
        let sums = open.sums.iter().filter(|_| open.windows > 0);
        Ok(TAGS.into_iter().zip(sums).map(tag).collect())
    }

    /// Adds the windows of an excerpt.
    fn take(&mut self, open: &mut Open, samples: &[f32], scale: f32) -> Result<()> {
        let count = (samples.len() / HOP).min(WINDOWS);
        (open.rest, open.scale) = (samples[count * HOP..].to_vec(), scale);
        if count == 0 {
            return Ok(());
        }
        let tags = self.tags(samples, count)?;
        open.sums.resize(TAGS.len(), 0.0);
        for window in 0..count {
            let samples = &samples[window * HOP..(window + 1) * HOP];
            if silence::level(samples, scale) < ABSOLUTE {
                continue;
            }
            open.windows += 1;
            open.sums.iter_mut().zip(tags.row(window)).for_each(|(sum, p)| *sum += f64::from(*p));
        }
        Ok(())
    }

    /// The probabilities (`count`, 50) of the first windows of an excerpt.
    fn tags(&mut self, samples: &[f32], count: usize) -> Result<Array<f32>> {
        let len = count * HOP;
        if !self.plans.contains_key(&count) {
            let mut g = Graph::new(Mode::Eval);
            let input = g.input("samples", Spec::f32([1, len]));
            let tags = tags_of_windows(&mut g, input, count)?;
            let draft = Draft::new(&g, self.gpu.adapter().target(), 1, &[tags], &[])?;
            draft.fits(&self.gpu)?;
            let buffer = self.gpu.buffer("samples", len)?;
            let plan = draft.realise(&self.gpu, &[("samples", buffer.clone())])?;
            self.plans.insert(count, (buffer, plan, tags, Pace::default()));
        }
        let (buffer, plan, tags, pace) = self.plans.get_mut(&count).expect("made above");
        self.gpu.write(buffer, 0, &samples[..len])?;
        pace.replay(&self.gpu, &[&plan.recording], 1, 1, &mut |_| Ok(()), &mut |_| true)?;
        Ok(Array::new([count, TAGS.len()], plan.read::<f32>(&self.gpu, *tags)?))
    }
}

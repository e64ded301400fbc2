//! Audio front ends, on noise in GPU memory: log-mel and constant-Q spectrograms, and the forward
//! passes of VGGish, musicnn and YAMNet.

use crate::bench::results::{StepResult, Work};
use crate::bench::timer::Timer;
use crate::core::error::Result;
use crate::core::random::Stream;
use crate::features::front_end::{FrontEnd, Source};
use crate::gpu::Buffer;
use crate::graph::{Draft, Graph, Mode, Spec};
use crate::nn::front_ends::cqt::cqt;
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES, SR, log_mel, log_mel_patches};
use crate::nn::front_ends::vggish::{self, Weights, Width};
use crate::nn::front_ends::yamnet::LayerKind;
use crate::nn::front_ends::{musicnn, spectrum, yamnet};

/// Seconds of a clip, and patches.
pub const SECONDS: usize = 10;
const PATCHES: usize = 10;

/// A part of a front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEndPart {
    LogMel,
    /// With AACNN21's settings.
    ConstantQ,
    /// From log-mel patches to feature maps.
    Convolutions(Width),
    /// From log-mel patches to embeddings.
    Vggish(Width),
    /// From samples to features.
    Musicnn,
    /// From samples to embeddings.
    Yamnet,
}

/// The parts timed by `wmic bench`.
pub const FRONT_ENDS: [FrontEndPart; 8] = [
    FrontEndPart::LogMel,
    FrontEndPart::ConstantQ,
    FrontEndPart::Convolutions(Width::Quarter),
    FrontEndPart::Vggish(Width::Quarter),
    FrontEndPart::Convolutions(Width::Full),
    FrontEndPart::Vggish(Width::Full),
    FrontEndPart::Musicnn,
    FrontEndPart::Yamnet,
];

impl FrontEndPart {
    /// Name, as in `benches/peers/audio.py`.
    pub fn name(self) -> String {
        match self {
            FrontEndPart::LogMel => "log-mel".into(),
            FrontEndPart::ConstantQ => "constant-Q".into(),
            FrontEndPart::Convolutions(width) => format!("VGGish convolutions {width}"),
            FrontEndPart::Vggish(width) => format!("VGGish {width}"),
            FrontEndPart::Musicnn => "musicnn".into(),
            FrontEndPart::Yamnet => "YAMNet".into(),
        }
    }

    /// Clips of a batch.
    fn batch(self) -> usize {
        if self == FrontEndPart::LogMel { 100 } else { 4 }
    }
}

/// Times one part.
///
/// # Errors
/// `Limit` if the adapter cannot bind the weights of the full width.
pub fn front_end(timer: &Timer, part: FrontEndPart) -> Result<StepResult> {
    let (gpu, batch) = (timer.gpu, part.batch());
    let input = match part {
        FrontEndPart::LogMel | FrontEndPart::Musicnn | FrontEndPart::Yamnet => {
            Spec::f32([batch, SECONDS * SR as usize])
        }
        FrontEndPart::ConstantQ => Spec::f32([batch, SECONDS * spectrum::SR as usize]),
        _ => Spec::f32([batch * PATCHES, PATCH_FRAMES, BANDS]),
    };
    let mut noise = Stream::new(0, 0);
    let values: Vec<f32> = (0..input.shape.len()).map(|_| noise.uniform(1.0) as f32).collect();
    let mut g = Graph::new(Mode::Eval);
    let x = g.input("input", input);
    let y = match part {
        FrontEndPart::LogMel => log_mel(&mut g, x)?,
        FrontEndPart::ConstantQ => cqt(&mut g, x, &spectrum::CQT)?,
        FrontEndPart::Musicnn => {
            let [_, input] = musicnn::spectrograms(&mut g, x)?;
            let frames = musicnn::frames(&mut g, input)?;
            musicnn::blocks(&mut g, frames)?
        }
        FrontEndPart::Yamnet => {
            let (patches, _) = log_mel_patches(&mut g, x, yamnet::LOG_MEL, false)?;
            yamnet::embeddings(&mut g, patches)?
        }
        FrontEndPart::Convolutions(width) => vggish::convolutions(&mut g, x, width, Weights::Frozen)?,
        FrontEndPart::Vggish(width) => {
            let maps = vggish::convolutions(&mut g, x, width, Weights::Frozen)?;
            vggish::embeddings(&mut g, maps, width, Weights::Frozen, true)?
        }
    };
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[y], &[])?;
    draft.fits(gpu)?;
    let mut bound = match part {
        FrontEndPart::LogMel | FrontEndPart::ConstantQ | FrontEndPart::Musicnn => vec![],
        FrontEndPart::Convolutions(width) => {
            FrontEnd::new(Source::Random(0), width).load()?.upload(gpu, "features.")?
        }
        FrontEndPart::Vggish(width) => FrontEnd::new(Source::Random(0), width).load()?.upload(gpu, "")?,
        FrontEndPart::Yamnet => {
            let convolutions = yamnet::layers().into_iter().filter(|layer| layer.kind != LayerKind::Dense);
            let upload = |(name, shape): (String, Vec<usize>)| {
                let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise.uniform(0.1) as f32).collect();
                let buffer = gpu.upload(&name, &values)?;
                Ok((name, buffer))
            };
            convolutions.flat_map(|layer| layer.parameters()).map(upload).collect::<Result<_>>()?
        }
    };
    bound.push(("input".into(), gpu.upload("input", &values)?));
    let bound: Vec<(&str, Buffer)> = bound.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
    let plan = draft.realise(gpu, &bound)?;
    Ok(StepResult::new(Work::Forward, part.name(), batch, 1, timer.time(&[&plan.recording])?))
}

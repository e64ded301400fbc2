//! The only modules that know `wgpu` (and, in `kernel` and `spirv`, `naga`): adapters, buffers, kernels, recordings.

mod adapter;
mod buffer;
mod device;
mod dispatch;
mod kernel;
mod pace;
mod pipeline_cache;
mod preprocess;
mod recording;
mod spirv;
mod submission;
mod texture;
mod tiling;
mod uniforms;

pub use adapter::{Adapter, AdapterKind, CooperativeMatrix, Precision, Target, adapters, preferred};
pub use buffer::{Buffer, Element};
pub use device::Gpu;
pub use dispatch::{Dispatch, Grid, Launch, MAX_ITERATIONS, Pass, Recorder, SliceSum, Slot, View};
pub use kernel::{Binding, Params, Shader, UniformField, parse_wgsl};
pub use pace::Pace;
pub use recording::Recording;
#[doc(hidden)]
pub use spirv::Spirv;
pub use submission::{Submission, Ticket};
pub use tiling::{Problem, TiledProduct, Tiling, Tilings, Tuned};

pub(crate) use kernel::{Reflections, params, shader};
pub(crate) use texture::texture_len;

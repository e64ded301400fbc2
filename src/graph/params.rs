//! Parameters of a model and their memory layout.
//!
//! The parameters of replica r are one contiguous block of an arena (R, P); gradients and optimiser moments have arenas
//! of the same layout, so one dispatch updates everything. Running statistics (R, S) are an arena of their own: saved,
//! not trained.

use crate::core::array::Array;
use crate::core::random::Stream;
use crate::core::shape::Shape;

/// Initialisation of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Constant(f64),
    /// Uniform in (-bound, bound).
    Uniform {
        bound: f64,
    },
    Normal {
        std: f64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name in saved weights (PyTorch's, see `nn`).
    pub name: String,
    pub shape: Shape,
    pub init: Init,
    /// False for running statistics.
    pub trainable: bool,
    /// Offset within a replica's block.
    pub offset: usize,
}

/// Every parameter starts at a multiple of this many elements (256 bytes, WebGPU's default storage offset alignment).
pub(super) const ALIGN: usize = 64;

/// All parameters of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub params: Vec<Param>,
    /// Elements of a replica's block of trained parameters, padding included.
    pub trained: usize,
    /// Elements of a replica's block of running statistics, padding included.
    pub stats: usize,
}

impl Layout {
    pub(super) fn add(&mut self, name: &str, shape: Shape, init: Init, trainable: bool) -> usize {
        assert!(!self.params.iter().any(|p| p.name == name), "two parameters are named {name}");
        let block = if trainable { &mut self.trained } else { &mut self.stats };
        let offset = *block;
        *block += shape.len().next_multiple_of(ALIGN);
        self.params.push(Param { name: name.into(), shape, init, trainable, offset });
        self.params.len() - 1
    }

    /// Number of trainable parameters of one replica.
    pub fn count(&self) -> usize {
        self.params.iter().filter(|p| p.trainable).map(|p| p.shape.len()).sum()
    }

    /// The initial values of a replica's two blocks (trained, statistics) under `seed`.
    pub fn initial(&self, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut blocks = (vec![0.0; self.trained], vec![0.0; self.stats]);
        for (i, p) in self.params.iter().enumerate() {
            let mut stream = Stream::new(seed, i as u32);
            let block = if p.trainable { &mut blocks.0 } else { &mut blocks.1 };
            for v in &mut block[p.offset..p.offset + p.shape.len()] {
                *v = match p.init {
                    Init::Constant(c) => c,
                    Init::Uniform { bound } => stream.uniform(bound),
                    Init::Normal { std } => stream.normal(std),
                } as f32;
            }
        }
        blocks
    }

    /// Splits a replica's two blocks into named arrays.
    pub fn unpack(&self, trained: &[f32], stats: &[f32]) -> Vec<(String, Array<f32>)> {
        self.params
            .iter()
            .map(|p| {
                let block = if p.trainable { trained } else { stats };
                let data = block[p.offset..p.offset + p.shape.len()].to_vec();
                (p.name.clone(), Array::new(p.shape.clone(), data))
            })
            .collect()
    }
}

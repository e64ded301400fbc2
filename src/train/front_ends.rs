//! The front ends of a pre-training run: VGGish's weights alone, with torchvggish's names, as `front_end.weights` takes
//! them.

use std::path::PathBuf;

use crate::core::error::Result;
use crate::core::tensors;
use crate::features::weights::About;
use crate::graph::Layout;
use crate::run::config::Config;
use crate::run::run_dir::{RunDir, front_end_file};
use crate::run::weights::Block;
use safetensors::tensor::Dtype;

/// Writes the front end of each seed, of the weights in `blocks`: `vggish.safetensors`, or `vggish-SEED.safetensors` if
/// there are several seeds.
pub(super) fn save(run: &RunDir, config: &Config, layout: &Layout, blocks: &[Block]) -> Result<Vec<PathBuf>> {
    let pretrain = config.pretrain.clone().unwrap_or_default();
    let save = |(&seed, block): (&u64, &Block)| {
        let arrays = layout.unpack(&block.trained, &block.stats).into_iter();
        let own = arrays.filter(|(name, _)| name.starts_with("features.") || name.starts_with("embeddings."));
        let tensors: Vec<_> = own
            .map(|(name, array)| {
                let bytes = array.data().iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, Dtype::F32, array.shape().dims().to_vec(), bytes)
            })
            .collect();
        let path = run.path().join(front_end_file(&config.seeds, seed));
        let (objective, last_relu) = (config.model.clone(), pretrain.head.last_relu);
        tensors::save(&path, &tensors, &About { objective, width: pretrain.width, last_relu, seed })?;
        Ok(path)
    };
    config.seeds.iter().zip(blocks).map(save).collect()
}

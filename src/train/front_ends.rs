//! The front ends of a pre-training run: VGGish's weights alone, with torchvggish's names, as `front_end.weights` takes them.

use std::path::PathBuf;

use safetensors::tensor::Dtype;
use serde::Serialize;

use crate::core::error::Result;
use crate::core::tensors;
use crate::graph::Layout;
use crate::run::config::Config;
use crate::run::run_dir::RunDir;
use crate::run::weights::Block;

/// Where a front end comes from, stored with it.
#[derive(Serialize)]
struct About<'a> {
    objective: &'a str,
    width: String,
    seed: u64,
}

/// Writes the front end of each seed, of the weights in `blocks`: `vggish.safetensors`, or `vggish-SEED.safetensors` if there are several
/// seeds.
pub(super) fn save(run: &RunDir, config: &Config, layout: &Layout, blocks: &[Block]) -> Result<Vec<PathBuf>> {
    let width = config.pretrain.as_ref().map(|pretrain| pretrain.width).unwrap_or_default().to_string();
    let file = |seed: u64| match config.seeds.len() {
        1 => "vggish.safetensors".to_owned(),
        _ => format!("vggish-{seed}.safetensors"),
    };
    let save = |(&seed, block): (&u64, &Block)| {
        let arrays = layout.unpack(&block.trained, &block.stats).into_iter();
        let own = arrays.filter(|(name, _)| name.starts_with("features.") || name.starts_with("embeddings."));
        let tensors: Vec<_> = own
            .map(|(name, array)| {
                let bytes = array.data().iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, Dtype::F32, array.shape().dims().to_vec(), bytes)
            })
            .collect();
        let path = run.path().join(file(seed));
        tensors::save(&path, &tensors, &About { objective: &config.model, width: width.clone(), seed })?;
        Ok(path)
    };
    config.seeds.iter().zip(blocks).map(save).collect()
}

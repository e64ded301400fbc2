//! A kernel as wgpu's Vulkan backend hands it to the driver of a GPU, for compilers and validators outside of wgpu.

use naga::ShaderStage::Compute;
use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::dispatch::Dispatch;
use super::kernel::{Binding, parse_wgsl, reflect};
use crate::core::error::{Error, Result};
use crate::core::files::sha256;

/// A kernel in SPIR-V, and the bindings that it uses.
#[derive(Debug)]
pub struct Spirv {
    pub words: Vec<u32>,
    pub bindings: Vec<Binding>,
}

impl Spirv {
    /// Identity of the code: 12 hexadecimal digits. Comments and names of the WGSL do not change it.
    pub fn fingerprint(&self) -> String {
        let mut digits = sha256(&mut bytemuck::cast_slice(&self.words)).expect("memory is read");
        digits.truncate(12);
        digits
    }
}

impl Dispatch {
    /// Identity of the kernel: file, defines, entry point and `override` constants, separated by tabs.
    pub fn kernel(&self) -> String {
        let constants: Vec<String> = self.constants.iter().map(|(name, v)| format!("{name}={v}")).collect();
        [self.shader.file, &self.shader.defines.join(" "), self.entry, &constants.join(" ")].join("\t")
    }

    /// The kernel without runtime checks, for Vulkan 1.3.
    ///
    /// # Errors
    /// `Shader` if the WGSL is wrong or has no such kernel.
    pub fn spirv(&self) -> Result<Spirv> {
        let fail = |reason: String| Error::Shader { file: self.shader.file.into(), reason };
        let (module, info) = parse_wgsl(self.shader)?;
        let bindings = reflect(&module, &info).remove(self.entry).unwrap_or_default();
        let constants: PipelineConstants = self.constants.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
        let (module, info) = process_overrides(&module, &info, Some((Compute, self.entry)), &constants)
            .map_err(|e| fail(format!("{}: {e}", self.entry)))?;
        let unchecked = BoundsCheckPolicy::Unchecked;
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            bounds_check_policies: BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..Default::default()
        };
        let pipeline = spv::PipelineOptions { shader_stage: Compute, entry_point: self.entry.into() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline))
            .map_err(|e| fail(format!("{} to SPIR-V: {e}", self.entry)))?;
        Ok(Spirv { words, bindings })
    }
}

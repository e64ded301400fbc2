//! WGSL files become kernels: imports are resolved, bindings are reflected by name, pipelines are cached.
//!
//! WGSL is the only source of bindings: Rust names them, and a name that is missing, extra or of another layout
//! is an error while a plan is built, never a wrong result.

use std::sync::Arc;

use super::Gpu;
use crate::core::error::{Error, Result};

/// One WGSL file: the forward kernels of an op and, below them, its backward kernels.
#[derive(Debug, PartialEq)]
pub struct Shader {
    /// File name under `shaders/`.
    pub file: &'static str,
    pub source: &'static str,
    /// Uses subgroup operations, so it runs only where the adapter has them.
    pub subgroups: bool,
}

impl Shader {
    /// A shader that runs on every adapter.
    pub const fn portable(file: &'static str, source: &'static str) -> Self {
        Shader { file, source, subgroups: false }
    }

    /// A variant for adapters with subgroup operations.
    pub const fn with_subgroups(file: &'static str, source: &'static str) -> Self {
        Shader { file, source, subgroups: true }
    }
}

/// A uniform struct `Params` on the Rust side. Made by the `params!` macro so that offsets can be compared with WGSL's.
pub trait Params: bytemuck::Pod {
    const FIELDS: &'static [UniformField];
}

/// Name and byte offset of a member of a uniform struct.
pub type UniformField = (&'static str, usize);

/// Declares a `#[repr(C)]` uniform struct of 4-byte scalars together with its field offsets. Needs the crate `bytemuck`.
#[macro_export]
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($field: $ty),* }
        impl $crate::gpu::Params for $name {
            const FIELDS: &'static [$crate::gpu::UniformField] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(crate) use params;

/// One binding that an entry point really uses.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    pub index: u32,
    /// Members (name, byte offset) for the uniform; empty for storage.
    pub uniform: Vec<(String, usize)>,
}

/// A compiled entry point.
pub(super) struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: Vec<Binding>,
}

const SHARED: &[(&str, &str)] = &[
    ("philox", include_str!("../../shaders/shared/philox.wgsl")),
    ("grid", include_str!("../../shaders/shared/grid.wgsl")),
    ("nan", include_str!("../../shaders/shared/nan.wgsl")),
    ("cis", include_str!("../../shaders/shared/cis.wgsl")),
    ("log_ratio", include_str!("../../shaders/shared/log_ratio.wgsl")),
    ("dropout", include_str!("../../shaders/shared/dropout.wgsl")),
    ("tanh", include_str!("../../shaders/shared/tanh.wgsl")),
    ("cell", include_str!("../../shaders/shared/cell.wgsl")),
    ("recurrent", include_str!("../../shaders/shared/recurrent.wgsl")),
    ("recurrent_cell", include_str!("../../shaders/shared/recurrent_cell.wgsl")),
    ("batch_norm", include_str!("../../shaders/shared/batch_norm.wgsl")),
    ("attention_pool", include_str!("../../shaders/shared/attention_pool.wgsl")),
    ("relative_attention", include_str!("../../shaders/shared/relative_attention.wgsl")),
    ("last_instance", include_str!("../../shaders/shared/last_instance.wgsl")),
    ("mean_pool", include_str!("../../shaders/shared/mean_pool.wgsl")),
    ("mixup", include_str!("../../shaders/shared/mixup.wgsl")),
    ("concat", include_str!("../../shaders/shared/concat.wgsl")),
    ("conv2d", include_str!("../../shaders/shared/conv2d.wgsl")),
    ("cqt", include_str!("../../shaders/shared/cqt.wgsl")),
    ("conv2d_runs_subgroup8", include_str!("../../shaders/shared/conv2d_runs_subgroup8.wgsl")),
    ("conv2d_subgroup8", include_str!("../../shaders/shared/conv2d_subgroup8.wgsl")),
    ("max_pool2d", include_str!("../../shaders/shared/max_pool2d.wgsl")),
    ("tile_product", include_str!("../../shaders/shared/tile_product.wgsl")),
    ("subgroup8_product", include_str!("../../shaders/shared/subgroup8_product.wgsl")),
];

/// The text of `shaders/<path>`: from `$WMIC_SHADERS` when that is set (for live editing), else as built in.
fn source(path: &str, built_in: &str) -> Result<String> {
    match std::env::var_os("WMIC_SHADERS") {
        None => Ok(built_in.to_owned()),
        Some(dir) => {
            let path = std::path::Path::new(&dir).join(path);
            std::fs::read_to_string(&path).map_err(Error::io(&path))
        }
    }
}

/// Replaces each line `#import name` by `shaders/shared/name.wgsl`.
fn resolve_imports(file: &str, text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_prefix("#import ").map(str::trim) {
            None => out.push_str(line),
            Some(name) => {
                let shared = SHARED.iter().find(|(n, _)| *n == name).ok_or_else(|| Error::Shader {
                    file: file.into(),
                    reason: format!("imports {name}, which shaders/shared does not have"),
                })?;
                let path = format!("shared/{name}.wgsl");
                out.push_str(&resolve_imports(&path, &source(&path, shared.1)?)?);
            }
        }
        out.push('\n');
    }
    Ok(out)
}

impl Shader {
    /// The whole text to compile.
    pub fn text(&self) -> Result<String> {
        resolve_imports(self.file, &source(self.file, self.source)?)
    }
}

/// Parses and validates a shader; beyond WebGPU's core only subgroups, and only where the shader says so.
pub fn parse_wgsl(shader: &Shader) -> Result<(naga::Module, naga::valid::ModuleInfo)> {
    let (file, text) = (shader.file, &shader.text()?);
    let fail = |reason: String| Error::Shader { file: file.into(), reason };
    let module = naga::front::wgsl::parse_str(text).map_err(|e| fail(e.emit_to_string_with_path(text, file)))?;
    // WebGPU's core has pack2x16float and unpack2x16float; naga asks for them because OpenGL has not.
    let core = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let capabilities = if shader.subgroups { core | naga::valid::Capabilities::SUBGROUP } else { core };
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| fail(e.emit_to_string_with_path(text, file)))?;
    Ok((module, info))
}

/// The bindings that `entry` uses, by name.
fn reflect(shader: &Shader, entry: &str) -> Result<Vec<Binding>> {
    let (module, info) = parse_wgsl(shader)?;
    let Some(at) = module.entry_points.iter().position(|e| e.name == entry) else {
        return Err(Error::Shader { file: shader.file.into(), reason: format!("no entry point named {entry}") });
    };
    let uses = info.get_entry_point(at);
    let mut bindings = Vec::new();
    for (handle, global) in module.global_variables.iter() {
        let (Some(binding), false) = (&global.binding, uses[handle].is_empty()) else { continue };
        let uniform = match &module.types[global.ty].inner {
            naga::TypeInner::Struct { members, .. } if global.space == naga::AddressSpace::Uniform => {
                members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect()
            }
            _ => Vec::new(),
        };
        bindings.push(Binding { name: global.name.clone().unwrap_or_default(), index: binding.binding, uniform });
    }
    Ok(bindings)
}

impl Gpu {
    /// Compiles `entry` of `shader` with these `override` constants, or finds it among those compiled before.
    pub(super) fn kernel(
        &self,
        shader: &Shader,
        entry: &str,
        constants: &[(&'static str, f64)],
    ) -> Result<Arc<Kernel>> {
        let key = format!("{}:{entry}:{constants:?}", shader.file);
        if let Some(kernel) = self.kernels.lock().unwrap().get(&key) {
            return Ok(kernel.clone());
        }
        tracing::debug!(entry, file = shader.file, ?constants, "compiling kernel");
        let text = shader.text()?;
        let bindings = reflect(shader, entry)?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let source = wgpu::ShaderModuleDescriptor { label: Some(entry), source: wgpu::ShaderSource::Wgsl(text.into()) };
        // SAFETY: the kernels are our own, every index they form is bounded by the shapes a plan was built from, and the
        // op checks run each of them between canaries. What is left out are clamps on every access, which cost up to
        // half of a kernel's time on software adapters.
        let module =
            unsafe { self.device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(Error::Shader { file: shader.file.into(), reason: format!("{entry}: {error}") });
        }
        let layout = pipeline.get_bind_group_layout(0);
        let kernel = Arc::new(Kernel { pipeline, layout, bindings });
        self.kernels.lock().unwrap().insert(key, kernel.clone());
        Ok(kernel)
    }
}

//! Compiles WGSL files to kernels: directives are resolved, bindings are reflected by name, compiled kernels are
//! cached.
//!
//! WGSL is the only source of bindings: Rust refers to them by name, and a name that is missing, extra or of another
//! layout is an error while a plan is built, never a wrong result.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::pipeline_cache::PipelineCache;
use super::preprocess::preprocess;
use super::uniforms;
use crate::core::error::{Error, Result};
use crate::core::files::open_file;

/// Path of a WGSL file under `shaders/`, and its text.
pub(crate) type File = (&'static str, &'static str);

/// A WGSL file, the forward kernels of an op and below them its backward kernels, in one of its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Path under `shaders/`, or a name for errors.
    pub file: &'static str,
    /// Names that are defined for `#ifdef`.
    pub defines: &'static [&'static str],
    source: &'static str,
    /// Files that it may import beside the shared ones.
    imports: &'static [File],
    built_in: bool,
    /// Bindings that it reads as textures, of views whose elements are copied there.
    pub(crate) textures: &'static [&'static str],
}

impl Shader {
    /// WGSL of an op outside this crate. It may `#import` this crate's shared files. Unlike theirs, its kernels run
    /// with bounds checks.
    pub const fn new(file: &'static str, source: &'static str) -> Self {
        Shader { file, defines: &[], source, imports: &[], built_in: false, textures: &[] }
    }

    /// One of the files under `shaders/`. Use `shader!`.
    pub(crate) const fn built_in((file, source): File, imports: &'static [File]) -> Self {
        Shader { file, defines: &[], source, imports, built_in: true, textures: &[] }
    }

    /// The variant with these defines.
    pub const fn with(self, defines: &'static [&'static str]) -> Self {
        Shader { defines, ..self }
    }

    /// These bindings are textures.
    pub(crate) const fn with_textures(self, textures: &'static [&'static str]) -> Self {
        Shader { textures, ..self }
    }

    /// The whole text to compile: WGSL without directives.
    pub fn text(&self) -> Result<String> {
        let text = match folder().filter(|_| self.built_in) {
            Some(dir) => read(&dir, self.file)?,
            None => self.source.to_owned(),
        };
        preprocess(self.file, &text, self.defines, &|path| match SHARED
            .iter()
            .chain(self.imports)
            .find(|(p, _)| *p == path)
        {
            Some((_, text)) => folder().map_or_else(|| Ok((*text).to_owned()), |dir| read(&dir, path)).map(Some),
            None => Ok(None),
        })
    }
}

/// The shader `shaders/$file`, built in, and what it imports beside the shared files.
macro_rules! shader {
    ($file:literal $(, $import:literal)*) => {
        $crate::gpu::Shader::built_in($crate::gpu::shader!(file $file), &[$($crate::gpu::shader!(file $import)),*])
    };
    (file $file:literal) => {
        ($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)))
    };
}
pub(crate) use shader;

/// Folder of shaders to load instead of the built-in ones, for live editing.
fn folder() -> Option<std::path::PathBuf> {
    std::env::var_os("WMIC_SHADERS").map(Into::into)
}

fn read(folder: &std::path::Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    std::io::read_to_string(open_file(&path)?).map_err(Error::io(&path))
}

/// Runtime checks of the driver.
fn runtime_checks(built_in: bool, from_disk: bool) -> wgpu::ShaderRuntimeChecks {
    if built_in && !from_disk { wgpu::ShaderRuntimeChecks::unchecked() } else { wgpu::ShaderRuntimeChecks::checked() }
}

/// A uniform struct `Params` on the Rust side. Defined by the `params!` macro so that offsets can be compared with
/// WGSL's.
pub trait Params: bytemuck::Pod {
    const FIELDS: &'static [UniformField];
}

/// Name and byte offset of a member of a uniform struct.
pub type UniformField = (&'static str, usize);

/// Declares a `#[repr(C)]` uniform struct of 4-byte scalars together with its field offsets.
#[macro_export]
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, $crate::__bytemuck::Pod, $crate::__bytemuck::Zeroable)]
        #[bytemuck(crate = "::wmic::__bytemuck")]
        $vis struct $name { $($vis $field: $ty),* }
        impl $crate::gpu::Params for $name {
            const FIELDS: &'static [$crate::gpu::UniformField] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(crate) use params;

/// A binding that an entry point uses.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    pub index: u32,
    /// Members (name, byte offset) for the uniform; empty for storage.
    pub uniform: Vec<(String, usize)>,
    /// Declared `read_write`.
    pub written: bool,
    /// A texture.
    pub texture: bool,
}

/// A shader module, parsed once for all its entry points.
pub(super) struct Module {
    raw: wgpu::ShaderModule,
    /// The bindings that each entry point uses.
    bindings: HashMap<String, Vec<Binding>>,
}

/// A compiled entry point.
pub(super) struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: Vec<Binding>,
}

/// Identity of a kernel: its shader, its entry point and the values of `override` constants, as bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    shader: Shader,
    entry: &'static str,
    constants: Vec<(&'static str, u64)>,
}

impl Key {
    pub(super) fn new(shader: Shader, entry: &'static str, constants: &[(&'static str, f64)]) -> Key {
        Key { shader, entry, constants: constants.iter().map(|(name, value)| (*name, value.to_bits())).collect() }
    }
}

/// Cache of compiled kernels.
pub(super) struct Kernels {
    on_disk: Option<PipelineCache>,
    /// Whether kernels begin with a copy of their uniforms (see [`uniforms`]).
    copies_uniforms: bool,
    modules: Mutex<HashMap<Shader, Arc<Module>>>,
    kernels: Mutex<HashMap<Key, Arc<Kernel>>>,
}

/// The files that any shader may import, by their paths under `shaders/`.
const SHARED: &[File] = &[
    ("shared/cooperative_matrix.wgsl", include_str!("../../shaders/shared/cooperative_matrix.wgsl")),
    ("shared/cooperative_product.wgsl", include_str!("../../shaders/shared/cooperative_product.wgsl")),
    ("shared/cis.wgsl", include_str!("../../shaders/shared/cis.wgsl")),
    ("shared/dropout.wgsl", include_str!("../../shaders/shared/dropout.wgsl")),
    ("shared/grid.wgsl", include_str!("../../shaders/shared/grid.wgsl")),
    ("shared/log_ratio.wgsl", include_str!("../../shaders/shared/log_ratio.wgsl")),
    ("shared/nan.wgsl", include_str!("../../shaders/shared/nan.wgsl")),
    ("shared/philox.wgsl", include_str!("../../shaders/shared/philox.wgsl")),
    ("shared/tanh.wgsl", include_str!("../../shaders/shared/tanh.wgsl")),
    ("shared/relu.wgsl", include_str!("../../shaders/shared/relu.wgsl")),
    ("shared/texel.wgsl", include_str!("../../shaders/shared/texel.wgsl")),
    ("shared/lanes.wgsl", include_str!("../../shaders/shared/lanes.wgsl")),
    ("shared/normal.wgsl", include_str!("../../shaders/shared/normal.wgsl")),
    ("shared/product.wgsl", include_str!("../../shaders/shared/product.wgsl")),
    ("shared/tile_blocks.wgsl", include_str!("../../shaders/shared/tile_blocks.wgsl")),
    ("shared/tile_product.wgsl", include_str!("../../shaders/shared/tile_product.wgsl")),
    ("shared/value.wgsl", include_str!("../../shaders/shared/value.wgsl")),
];

/// The directive that WGSL requires for subgroups; naga supports the operations, but not yet the directive.
const SUBGROUPS: &str = "enable subgroups;";

/// What a shader contains that uses something beyond WebGPU's core: a directive, or a type where there is none.
const EXTENSIONS: [(&str, naga::valid::Capabilities); 4] = [
    (SUBGROUPS, naga::valid::Capabilities::SUBGROUP),
    ("enable f16;", naga::valid::Capabilities::SHADER_FLOAT16),
    ("enable wgpu_cooperative_matrix;", naga::valid::Capabilities::COOPERATIVE_MATRIX),
    ("vec2<u64>", naga::valid::Capabilities::SHADER_INT64),
];

/// Parses and validates a shader; beyond WebGPU's core only subgroups, f16, cooperative matrices and 64-bit integers,
/// and only if the shader enables them.
#[doc(hidden)]
pub fn parse_wgsl(shader: &Shader) -> Result<(naga::Module, naga::valid::ModuleInfo)> {
    let (file, text) = (shader.file, shader.text()?);
    // WebGPU's core has pack2x16float and unpack2x16float; naga requires a capability because OpenGL does not.
    let core = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let enabled = EXTENSIONS.iter().filter(|(enable, _)| text.contains(enable));
    let capabilities = enabled.fold(core, |all, (_, one)| all | *one);
    let text = &text.replace(SUBGROUPS, "");
    let fail = |reason: String| Error::Shader { file: file.into(), reason };
    let module = naga::front::wgsl::parse_str(text).map_err(|e| fail(e.emit_to_string_with_path(text, file)))?;
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| fail(e.emit_to_string_with_path(text, file)))?;
    Ok((module, info))
}

/// The bindings of kernels, without a device. Every shader is parsed once.
#[derive(Default)]
pub(crate) struct Reflections(HashMap<Shader, HashMap<String, Vec<Binding>>>);

impl Reflections {
    /// Those that an entry point uses.
    ///
    /// # Errors
    /// `Shader` for WGSL that does not compile.
    pub fn bindings(&mut self, shader: &Shader, entry: &str) -> Result<&[Binding]> {
        let of_shader = match self.0.entry(*shader) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (module, info) = parse_wgsl(shader)?;
                new.insert(reflect(&module, &info))
            }
        };
        Ok(of_shader.get(entry).map(Vec::as_slice).unwrap_or_default())
    }
}

/// The bindings that each entry point uses, by name.
pub(super) fn reflect(module: &naga::Module, info: &naga::valid::ModuleInfo) -> HashMap<String, Vec<Binding>> {
    let bindings = |at: usize| {
        let uses = info.get_entry_point(at);
        let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
        used.filter_map(|(_, global)| {
            let uniform = match &module.types[global.ty].inner {
                naga::TypeInner::Struct { members, .. } if global.space == naga::AddressSpace::Uniform => {
                    members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect()
                }
                _ => Vec::new(),
            };
            let index = global.binding.as_ref()?.binding;
            let store = naga::StorageAccess::STORE;
            let written = matches!(global.space, naga::AddressSpace::Storage { access } if access.contains(store));
            let texture = matches!(module.types[global.ty].inner, naga::TypeInner::Image { .. });
            Some(Binding { name: global.name.clone().unwrap_or_default(), index, uniform, written, texture })
        })
        .collect()
    };
    module.entry_points.iter().enumerate().map(|(at, point)| (point.name.clone(), bindings(at))).collect()
}

impl Kernels {
    pub(super) fn new(on_disk: Option<PipelineCache>, copies_uniforms: bool) -> Kernels {
        Kernels { on_disk, copies_uniforms, modules: Mutex::default(), kernels: Mutex::default() }
    }

    /// The kernels of these keys. Missing ones are compiled, on all cores.
    pub(super) fn get(&self, device: &wgpu::Device, keys: &[Key]) -> Result<Vec<Arc<Kernel>>> {
        compile(&self.modules, keys.iter().map(|key| key.shader), |shader| {
            Module::new(device, shader, self.copies_uniforms)
        })?;
        let modules = self.modules.lock().unwrap().clone();
        let on_disk = self.on_disk.as_ref().map(|cache| &cache.raw);
        compile(&self.kernels, keys.iter().cloned(), |key| Kernel::new(device, key, &modules[&key.shader], on_disk))?;
        let kernels = self.kernels.lock().unwrap();
        Ok(keys.iter().map(|key| kernels[key].clone()).collect())
    }
}

impl Module {
    fn new(device: &wgpu::Device, shader: &Shader, copies_uniforms: bool) -> Result<Module> {
        let (mut module, info) = parse_wgsl(shader)?;
        let bindings = reflect(&module, &info);
        if copies_uniforms {
            uniforms::copy(&mut module, &info);
        }
        let source = wgpu::ShaderSource::Naga(Cow::Owned(module));
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.file), source };
        let checks = runtime_checks(shader.built_in, folder().is_some());
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // SAFETY: kernels run without checks only if they are built in: every index is bounded by the
        // shapes a plan was built from, and the op checks run each of them between guard zones. This omits clamps on
        // every access, which cost up to half of a kernel's time on software adapters.
        let raw = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(Error::Shader { file: shader.file.into(), reason: error.to_string() }),
            None => Ok(Module { raw, bindings }),
        }
    }
}

impl Kernel {
    fn new(device: &wgpu::Device, key: &Key, module: &Module, cache: Option<&wgpu::PipelineCache>) -> Result<Kernel> {
        let Key { shader, entry, constants } = key;
        let fail = |reason: String| Error::Shader { file: shader.file.into(), reason };
        let bindings = module.bindings.get(*entry).ok_or_else(|| fail(format!("no entry point named {entry}")))?;
        tracing::debug!(entry, file = shader.file, defines = ?shader.defines, ?constants, "compiling kernel");
        let constants: Vec<(&str, f64)> = constants.iter().map(|(name, bits)| (*name, f64::from_bits(*bits))).collect();
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module.raw,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache,
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(fail(format!("{entry}: {error}")));
        }
        let layout = pipeline.get_bind_group_layout(0);
        Ok(Kernel { pipeline, layout, bindings: bindings.clone() })
    }
}

/// Creates the entries of `wanted` missing in `known`, on all cores. Returns the first error in their order.
fn compile<K, V>(
    known: &Mutex<HashMap<K, Arc<V>>>,
    wanted: impl Iterator<Item = K>,
    make: impl Fn(&K) -> Result<V> + Sync,
) -> Result<()>
where
    K: Clone + Eq + Hash + Sync,
    V: Send + Sync,
{
    let missing: Vec<K> = {
        let known = known.lock().unwrap();
        let mut seen = HashSet::new();
        wanted.filter(|key| !known.contains_key(key) && seen.insert(key.clone())).collect()
    };
    let made: Vec<Mutex<Option<Result<V>>>> = missing.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((key, place)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            missing.get(i).zip(made.get(i))
        } {
            *place.lock().unwrap() = Some(make(key));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 1..cores.min(missing.len()) {
            scope.spawn(work);
        }
        work();
    });
    for (key, made) in missing.into_iter().zip(made) {
        let made = made.into_inner().unwrap().expect("all are created");
        known.lock().unwrap().insert(key, Arc::new(made?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_built_in_run_unchecked() {
        let unchecked = |built_in, from_disk| !runtime_checks(built_in, from_disk).bounds_checks;
        assert!(unchecked(true, false));
        assert!(!unchecked(true, true) && !unchecked(false, false) && !unchecked(false, true));
    }
}

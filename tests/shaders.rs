//! Every WGSL file: it translates to all backends, stays within WebGPU's default limits, and nothing in it is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, hlsl, msl, spv};
use naga::valid::ModuleInfo;
use naga::{AddressSpace, EntryPoint, GlobalVariable, Module, ShaderStage, TypeInner};

use wmic::bench::peak_dispatches;
use wmic::gpu::{AdapterKind, Dispatch, Shader, Target, parse_wgsl};
use wmic::ops::OPS;

/// WebGPU's default limits.
const STORAGE_BUFFERS: usize = 8;
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 << 10;

/// All targets that a kernel variant could be made for.
fn targets() -> Vec<Target> {
    use AdapterKind::{Discrete, Integrated, Other, Software, Virtual};
    let kinds = [Discrete, Integrated, Virtual, Software, Other];
    let subgroups = [None, Some(4), Some(8), Some(16), Some(32), Some(64)];
    kinds.into_iter().flat_map(|kind| subgroups.map(|subgroup| Target { kind, subgroup })).collect()
}

/// All that is ever dispatched, by the name of the entry: every case for every target, and the peak kernels.
fn dispatches() -> Vec<(&'static str, Dispatch)> {
    let mut all: Vec<(&str, Dispatch)> = peak_dispatches().into_iter().map(|d| ("peak", d)).collect();
    for entry in OPS {
        for case in (entry.cases)() {
            for target in targets() {
                let draft = case.draft(target).unwrap_or_else(|e| panic!("{} / {}: {e}", entry.name, case.name));
                all.extend(draft.steps().iter().map(|d| (entry.name, d.clone())));
            }
        }
    }
    all
}

/// Each kernel once for each set of `override` values it is dispatched with.
fn kernels() -> Vec<Dispatch> {
    let mut seen = BTreeSet::new();
    let mut all: Vec<Dispatch> = dispatches().into_iter().map(|(_, d)| d).collect();
    all.retain(|d| seen.insert(format!("{} {} {:?}", d.shader.file, d.entry, d.constants)));
    all
}

/// The module with the kernel as its only entry point and all `override` constants replaced by their values.
fn specialised(d: &Dispatch) -> (Module, ModuleInfo) {
    let (module, info) = parse_wgsl(d.shader).unwrap_or_else(|e| panic!("{e}"));
    let constants: PipelineConstants = d.constants.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
    let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, d.entry)), &constants)
        .unwrap_or_else(|e| panic!("{}: {e}", d.entry));
    (module.into_owned(), info.into_owned())
}

fn entry<'a>(module: &'a Module, info: &ModuleInfo, name: &str) -> (&'a EntryPoint, Vec<&'a GlobalVariable>) {
    let at = module.entry_points.iter().position(|e| e.name == name).unwrap_or_else(|| panic!("no kernel {name}"));
    let uses = info.get_entry_point(at);
    let globals = module.global_variables.iter().filter(|(g, _)| !uses[*g].is_empty()).map(|(_, g)| g).collect();
    (&module.entry_points[at], globals)
}

#[test]
fn every_kernel_translates_to_spirv_msl_and_hlsl() {
    for d in kernels() {
        let (module, info) = specialised(&d);
        let stage = (ShaderStage::Compute, d.entry.to_owned());

        let lang_version = if d.shader.subgroups { (1, 3) } else { (1, 0) };
        let options = spv::Options { lang_version, ..Default::default() };
        let pipeline = spv::PipelineOptions { shader_stage: stage.0, entry_point: stage.1.clone() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline));
        assert_eq!(words.unwrap_or_else(|e| panic!("{} to SPIR-V: {e}", d.entry))[0], 0x0723_0203, "SPIR-V's magic");

        let options = msl::Options { lang_version: (2, 3), fake_missing_bindings: true, ..Default::default() };
        let pipeline = msl::PipelineOptions { entry_point: Some(stage.clone()), ..Default::default() };
        let (text, about) = msl::write_string(&module, &info, &options, &pipeline)
            .unwrap_or_else(|e| panic!("{} to MSL: {e}", d.entry));
        let name = about.entry_point_names[0].as_ref().unwrap_or_else(|e| panic!("{} to MSL: {e}", d.entry));
        assert!(text.contains(&format!("kernel void {name}(")), "{} is missing in MSL", d.entry);

        let shader_model = if d.shader.subgroups { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
        let options = hlsl::Options { shader_model, fake_missing_bindings: true, ..Default::default() };
        let pipeline = hlsl::PipelineOptions { entry_point: Some(stage) };
        let mut text = String::new();
        let about = hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{} to HLSL: {e}", d.entry));
        let name = about.entry_point_names[0].as_ref().unwrap_or_else(|e| panic!("{} to HLSL: {e}", d.entry));
        assert!(text.contains(&format!("void {name}(")), "{} is missing in HLSL", d.entry);
    }
}

#[test]
fn every_kernel_keeps_to_the_default_limits() {
    for d in kernels() {
        let (module, info) = specialised(&d);
        let (point, globals) = entry(&module, &info, d.entry);
        let storage = globals.iter().filter(|g| matches!(g.space, AddressSpace::Storage { .. })).count();
        assert!(storage <= STORAGE_BUFFERS, "{} uses {storage} storage buffers", d.entry);
        let invocations: u32 = point.workgroup_size.iter().product();
        assert!((1..=INVOCATIONS).contains(&invocations), "{} has {invocations} invocations", d.entry);
        let workgroup = globals.iter().filter(|g| g.space == AddressSpace::WorkGroup);
        let bytes: u32 = workgroup.map(|g| module.types[g.ty].inner.size(module.to_ctx())).sum();
        assert!(bytes <= WORKGROUP_BYTES, "{} uses {bytes} bytes of workgroup memory", d.entry);
        let [x, y, z] = d.launch.groups();
        assert!(x.max(y).max(z) <= 65_535 && x * y * z > 0, "{} has a grid of {:?}", d.entry, d.launch);
    }
}

#[test]
fn every_kernel_is_dispatched_and_named_after_its_op() {
    let mut dispatched: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut dispatching: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (entry, d) in dispatches() {
        dispatched.entry(d.shader.file).or_default().insert(d.entry);
        dispatching.entry(d.shader.file).or_default().insert(entry);
    }
    let mut listed: Vec<(&str, &Shader)> = vec![("peak", &wmic::bench::PEAK_SHADER)];
    listed.extend(OPS.iter().flat_map(|entry| entry.shaders.iter().map(|s| (entry.name, *s))));
    for (entry, shader) in &listed {
        let (module, _) = parse_wgsl(shader).unwrap_or_else(|e| panic!("{e}"));
        let declared: BTreeSet<&str> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(dispatched.get(shader.file), Some(&declared), "kernels dispatched and declared in {}", shader.file);
        assert!(dispatching[shader.file].contains(entry), "{entry} lists {}, but never uses it", shader.file);
        let stem = shader.file.trim_end_matches(".wgsl");
        let owners: Vec<String> = dispatching[shader.file].iter().chain([&stem]).map(|o| format!("{o}_")).collect();
        for name in declared {
            assert!(owners.iter().any(|owner| name.starts_with(owner)), "{name} does not begin with one of {owners:?}");
        }
    }
    for (file, ops) in dispatching {
        let lists = |entry| listed.iter().any(|(r, s)| *r == entry && s.file == file);
        assert!(ops.iter().all(|entry| lists(*entry)), "{ops:?} use {file}, not all of them list it");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for file in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()) {
        let known = !file.ends_with(".wgsl") || listed.iter().any(|(_, s)| s.file == file);
        assert!(known, "shaders/{file} belongs to no op");
    }
}

#[test]
fn params_lie_in_rust_as_in_wgsl() {
    for d in kernels() {
        let (module, info) = specialised(&d);
        let (_, globals) = entry(&module, &info, d.entry);
        let Some(uniform) = globals.iter().find(|g| g.space == AddressSpace::Uniform) else { continue };
        let TypeInner::Struct { members, span } = &module.types[uniform.ty].inner else {
            panic!("the uniform of {} is no struct", d.entry)
        };
        let wgsl: Vec<(&str, usize)> =
            members.iter().map(|m| (m.name.as_deref().unwrap_or(""), m.offset as usize)).collect();
        assert_eq!(d.fields, wgsl, "Params of {}", d.entry);
        assert_eq!(d.params.len(), *span as usize, "size of the Params of {}", d.entry);
    }
}

//! Every WGSL file: it translates to all backends, stays within WebGPU's default limits, and has no dead code.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, hlsl, msl};
use naga::valid::ModuleInfo;
use naga::{
    AddressSpace, BinaryOperator, EntryPoint, Expression, GlobalVariable, Literal, Module, ShaderStage, Statement,
    TypeInner,
};

use wmic::bench::dispatched;
use wmic::gpu::{AdapterKind, CooperativeMatrix, Dispatch, Precision, Shader, Target, parse_wgsl};
use wmic::ops::OPS;

/// WebGPU's default limits.
const STORAGE_BUFFERS: usize = 8;
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 << 10;

/// All targets with kernel variants.
fn targets() -> Vec<Target> {
    use AdapterKind::{Discrete, Integrated, Other, Software, Virtual};
    let kinds = [Discrete, Integrated, Virtual, Software, Other];
    let subgroups = [None, Some(4), Some(8), Some(16), Some(32), Some(64)];
    let precision = Precision::F32;
    let of_kind = |kind| subgroups.map(|subgroup| Target { kind, subgroup, precision, matrix: None });
    let half = Target::PORTABLE.with(Precision::F16);
    let matrices = [(8, 8), (8, 64), (16, 32), (16, 64)].map(|(side, lanes)| CooperativeMatrix { side, lanes });
    let halves = matrices.map(|matrix| Target { matrix: Some(matrix), ..half });
    kinds.into_iter().flat_map(of_kind).chain([half]).chain(halves).collect()
}

/// All that is ever dispatched, by the name of the entry: every case for every target, and the peak kernels.
fn dispatches() -> Vec<(&'static str, Dispatch)> {
    targets().into_iter().flat_map(|target| dispatched(target).unwrap_or_else(|e| panic!("{e}"))).collect()
}

/// Identity of a shader: its file and the defines.
type Name = (&'static str, &'static [&'static str]);

fn name(shader: &Shader) -> Name {
    (shader.file, shader.defines)
}

/// Whether a shader uses an extension of WGSL.
fn enables(d: &Dispatch, extension: &str) -> bool {
    d.shader.text().unwrap().contains(&format!("enable {extension};"))
}

/// Whether a shader has 64-bit integers.
fn has_int64(d: &Dispatch) -> bool {
    d.shader.defines.contains(&"WIDE")
}

/// Each kernel once for each set of `override` values it is dispatched with.
fn kernels() -> Vec<Dispatch> {
    dispatches().into_iter().map(|(_, d)| (d.kernel(), d)).collect::<BTreeMap<_, _>>().into_values().collect()
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
fn every_kernel_translates_to_what_its_adapters_run() {
    for d in kernels() {
        let (module, info) = specialised(&d);
        let stage = (ShaderStage::Compute, d.entry.to_owned());

        let spirv = d.spirv().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(spirv.words[0], 0x0723_0203, "SPIR-V's magic");

        // Metal has no software adapter, for which the kernels are that read textures; naga cannot write their MSL,
        // where storage textures are arguments of functions.
        if !d.shader.text().unwrap().contains("texture_storage_2d") {
            let options = msl::Options { lang_version: (2, 3), fake_missing_bindings: true, ..Default::default() };
            let pipeline = msl::PipelineOptions { entry_point: Some(stage.clone()), ..Default::default() };
            let (text, about) = msl::write_string(&module, &info, &options, &pipeline)
                .unwrap_or_else(|e| panic!("{} to MSL: {e}", d.entry));
            let name = about.entry_point_names[0].as_ref().unwrap_or_else(|e| panic!("{} to MSL: {e}", d.entry));
            assert!(text.contains(&format!("kernel void {name}(")), "{} is missing in MSL", d.entry);
        }

        if enables(&d, "wgpu_cooperative_matrix") {
            continue; // DX12 has none
        }
        let shader_model = match () {
            _ if enables(&d, "f16") => hlsl::ShaderModel::V6_2,
            _ if enables(&d, "subgroups") || has_int64(&d) => hlsl::ShaderModel::V6_0,
            _ => hlsl::ShaderModel::V5_1,
        };
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

/// What AMD's compiler makes of every portable kernel, in both precisions. The tables are remade by
/// `benches/kernel-stats/run`.
#[test]
fn portable_kernels_are_in_the_tables_of_amd_and_do_not_spill() {
    let half = Target::PORTABLE.with(Precision::F16);
    let matrices = Target { matrix: Some(CooperativeMatrix { side: 16, lanes: 64 }), ..half };
    for (table, targets) in [
        ("amd-gfx1100", &[Target::PORTABLE][..]),
        ("amd-vega10", &[Target::PORTABLE]),
        ("amd-navi31-f16", &[half, matrices]),
    ] {
        let mut kernels = BTreeMap::new();
        for (_, d) in targets.iter().flat_map(|target| dispatched(*target).unwrap_or_else(|e| panic!("{e}"))) {
            let belongs = targets.contains(&Target::PORTABLE) || enables(&d, "f16");
            if let (true, Entry::Vacant(place)) = (belongs, kernels.entry(d.kernel())) {
                place.insert(d.spirv().unwrap_or_else(|e| panic!("{e}")).fingerprint());
            }
        }
        assert_table(table, &kernels);
    }
}

/// The table has these kernels, of these fingerprints, and no spills.
fn assert_table(name: &str, kernels: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/results/{name}.tsv"));
    let table = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let names = lines.next().expect("a table has a head");
    let column = |name| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no column {name}"));
    let (spirv, spilled) = (column("spirv"), [column("spilled_vgprs"), column("spilled_sgprs")]);
    let rows: BTreeMap<String, Vec<&str>> = lines.map(|row| (row[..spirv].join("\t"), row)).collect();
    let known = |name: &String| rows.get(name).map(|row| row[spirv]);
    let mut stale: Vec<&String> = rows.keys().filter(|name| !kernels.contains_key(*name)).collect();
    stale.extend(kernels.iter().filter(|(name, code)| known(name) != Some(code.as_str())).map(|(name, _)| name));
    assert!(stale.is_empty(), "{name}.tsv is out of date, run benches/kernel-stats/run: {stale:#?}");
    let spills = |row: &Vec<&str>| spilled.iter().any(|at| row[*at] != "0");
    let spilling: Vec<&String> = rows.iter().filter(|(_, row)| spills(row)).map(|(name, _)| name).collect();
    assert!(spilling.is_empty(), "{name}: registers are spilled to memory by {spilling:#?}");
}

/// Metal and DX12 write a component of a vector in workgroup memory by reading and writing all of it, so invocations
/// that write components of the same vector race.
#[test]
fn no_kernel_writes_a_component_of_a_vector_in_workgroup_memory() {
    fn stores(block: &naga::Block, pointers: &mut Vec<naga::Handle<Expression>>) {
        for statement in block {
            match statement {
                Statement::Store { pointer, .. } => pointers.push(*pointer),
                Statement::Block(block) => stores(block, pointers),
                Statement::If { accept, reject, .. } => {
                    [accept, reject].iter().for_each(|block| stores(block, pointers))
                }
                Statement::Loop { body, continuing, .. } => {
                    [body, continuing].iter().for_each(|block| stores(block, pointers));
                }
                Statement::Switch { cases, .. } => cases.iter().for_each(|case| stores(&case.body, pointers)),
                _ => {}
            }
        }
    }
    for shader in OPS.iter().flat_map(|op| op.shaders) {
        let (module, info) = parse_wgsl(shader).unwrap_or_else(|e| panic!("{e}"));
        let points = module.entry_points.iter().enumerate();
        let points = points.map(|(at, point)| (&point.function, info.get_entry_point(at)));
        let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        for (function, about) in points.chain(functions) {
            let mut pointers = vec![];
            stores(&function.body, &mut pointers);
            for pointer in pointers {
                let component =
                    TypeInner::ValuePointer { size: None, scalar: naga::Scalar::F32, space: AddressSpace::WorkGroup };
                let inner = about[pointer].ty.inner_with(&module.types);
                assert_ne!(*inner, component, "{:?} in {}", function.name, shader.file);
            }
        }
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
    let mut dispatched: BTreeMap<Name, BTreeSet<&str>> = BTreeMap::new();
    let mut dispatching: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (entry, d) in dispatches() {
        dispatched.entry(name(d.shader)).or_default().insert(d.entry);
        dispatching.entry(d.shader.file).or_default().insert(entry);
    }
    let mut listed: Vec<(&str, &Shader)> = wmic::bench::PEAK_SHADERS.iter().map(|shader| ("peak", shader)).collect();
    listed.extend(OPS.iter().flat_map(|entry| entry.shaders.iter().map(|s| (entry.name, *s))));
    for (entry, shader) in &listed {
        let (module, _) = parse_wgsl(shader).unwrap_or_else(|e| panic!("{e}"));
        let declared: BTreeSet<&str> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        let (file, defines) = name(shader);
        assert_eq!(
            dispatched.get(&(file, defines)),
            Some(&declared),
            "kernels dispatched and declared in {file} with {defines:?}"
        );
        assert!(dispatching[file].contains(entry), "{entry} lists {file}, but never uses it");
        let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
        let owners: Vec<&str> = dispatching[file].iter().chain([&stem]).copied().collect();
        let owned = |name: &str| {
            owners.iter().any(|o| name.strip_prefix(o).is_some_and(|n| n.is_empty() || n.starts_with('_')))
        };
        assert!(declared.iter().all(|name| owned(name)), "{declared:?} do not begin with one of {owners:?}");
    }
    for (file, defines) in dispatched.keys() {
        assert!(listed.iter().any(|(_, s)| name(s) == (*file, *defines)), "no op lists {file} with {defines:?}");
    }
    for (file, ops) in dispatching {
        let lists = |entry| listed.iter().any(|(r, s)| *r == entry && s.file == file);
        assert!(ops.iter().all(|entry| lists(*entry)), "{ops:?} use {file}, not all of them list it");
    }
}

/// The largest constant count of a loop that a launch need not count, see `Grid::iterations`.
const SHORT: i64 = 4;

/// Whether `block`, or a function called there, has a loop that is not `for (var i = ...; i < n; ...)` with a constant
/// n of at most `SHORT`.
fn has_long_loop(module: &Module, function: &naga::Function, block: &naga::Block) -> bool {
    let literal = |e: &Expression| match *e {
        Expression::Literal(Literal::U32(n)) => Some(i64::from(n)),
        Expression::Literal(Literal::I32(n)) => Some(i64::from(n)),
        _ => None,
    };
    let value = |at| match function.expressions[at] {
        Expression::Constant(c) => literal(&module.global_expressions[module.constants[c].init]),
        ref e => literal(e),
    };
    let is_short = |body: &naga::Block| {
        let Some(Statement::If { condition, .. }) = body.iter().find(|s| matches!(s, Statement::If { .. })) else {
            return false;
        };
        match function.expressions[*condition] {
            Expression::Binary { op: BinaryOperator::Less, right, .. } => value(right).is_some_and(|n| n <= SHORT),
            _ => false,
        }
    };
    let within = |inner: &naga::Block| has_long_loop(module, function, inner);
    block.iter().any(|statement| match statement {
        Statement::Loop { body, continuing, .. } => !is_short(body) || within(body) || within(continuing),
        Statement::Block(inner) => within(inner),
        Statement::If { accept, reject, .. } => within(accept) || within(reject),
        Statement::Switch { cases, .. } => cases.iter().any(|case| within(&case.body)),
        Statement::Call { function, .. } => {
            let called = &module.functions[*function];
            has_long_loop(module, called, &called.body)
        }
        _ => false,
    })
}

/// Software adapters end loops after a number of iterations, which the recorder compares with what a launch declares.
#[test]
fn kernels_with_loops_declare_their_iterations() {
    let (mut undeclared, mut declared) = (BTreeSet::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for (_, d) in dispatches() {
        let declares = d.launch.iterations() > 0;
        if seen.insert(format!("{:?} {} {:?} {declares}", name(d.shader), d.entry, d.constants)) {
            let (module, _) = specialised(&d);
            let function = &module.entry_points[0].function;
            if has_long_loop(&module, function, &function.body) {
                if declares { &mut declared } else { &mut undeclared }.insert(d.entry);
            }
        }
    }
    assert!(declared.contains("linear_forward") && declared.contains("attention_pool_forward"), "{declared:?}");
    assert!(undeclared.is_empty(), "{undeclared:?} have loops, but their launches declare none");
}

/// The shaders' files and, by their paths too, what they import.
#[test]
fn every_file_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let mut used: BTreeSet<String> = dispatches().iter().map(|(_, d)| d.shader.file.to_owned()).collect();
    let mut open: Vec<String> = used.iter().cloned().collect();
    while let Some(file) = open.pop() {
        for import in text(&file).lines().filter_map(|line| line.trim().strip_prefix("#import ")) {
            let import = if import.contains('/') { format!("{import}.wgsl") } else { format!("shared/{import}.wgsl") };
            if used.insert(import.clone()) {
                open.push(import);
            }
        }
    }
    for directory in ["", "shared/", "software8/"] {
        for file in std::fs::read_dir(folder.join(directory)).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let known = !file.ends_with(".wgsl") || used.contains(&format!("{directory}{file}"));
            assert!(known, "shaders/{directory}{file} is used by no op");
        }
    }
}

#[test]
fn params_have_the_same_layout_in_rust_and_wgsl() {
    for d in kernels() {
        let (module, info) = specialised(&d);
        let (_, globals) = entry(&module, &info, d.entry);
        let Some(uniform) = globals.iter().find(|g| g.space == AddressSpace::Uniform) else { continue };
        let TypeInner::Struct { members, span } = &module.types[uniform.ty].inner else {
            panic!("the uniform of {} is not a struct", d.entry)
        };
        let wgsl: Vec<(&str, usize)> =
            members.iter().map(|m| (m.name.as_deref().unwrap_or(""), m.offset as usize)).collect();
        assert_eq!(d.fields, wgsl, "Params of {}", d.entry);
        assert_eq!(d.params.len(), *span as usize, "size of the Params of {}", d.entry);
    }
}

/// The words of a section of reserved_words.txt, or of all others.
fn reserved(functions: bool) -> BTreeSet<&'static str> {
    let sections = include_str!("reserved_words.txt").split("\n[").skip(1).filter_map(|s| s.split_once("]\n"));
    let wanted = sections.filter(|(name, _)| (*name == "functions") == functions);
    wanted.flat_map(|(_, words)| words.split_whitespace()).collect()
}

/// Every name that a module declares; first those at module scope.
fn declared(module: &Module) -> [BTreeSet<&str>; 2] {
    let mut outer: Vec<&Option<String>> = module.global_variables.iter().map(|(_, g)| &g.name).collect();
    outer.extend(module.constants.iter().map(|(_, c)| &c.name));
    outer.extend(module.overrides.iter().map(|(_, o)| &o.name));
    outer.extend(module.types.iter().map(|(_, t)| &t.name));
    outer.extend(module.functions.iter().map(|(_, f)| &f.name));
    let mut inner = Vec::new();
    for (_, ty) in module.types.iter() {
        if let TypeInner::Struct { members, .. } = &ty.inner {
            inner.extend(members.iter().filter_map(|m| m.name.as_deref()));
        }
    }
    let functions = module.functions.iter().map(|(_, f)| f).chain(module.entry_points.iter().map(|e| &e.function));
    for function in functions {
        inner.extend(function.arguments.iter().filter_map(|a| a.name.as_deref()));
        inner.extend(function.local_variables.iter().filter_map(|(_, v)| v.name.as_deref()));
        inner.extend(function.named_expressions.values().map(String::as_str));
    }
    let points = module.entry_points.iter().map(|e| e.name.as_str());
    [outer.into_iter().filter_map(|n| n.as_deref()).chain(points).collect(), inner.into_iter().collect()]
}

/// The resolved text of each shader that is dispatched, once.
fn shaders() -> BTreeMap<Name, &'static Shader> {
    kernels().iter().map(|d| (name(d.shader), d.shader)).collect()
}

#[test]
fn no_identifier_is_reserved_in_another_shader_language() {
    let (words, functions) = (reserved(false), reserved(true));
    assert!(words.len() > 400 && functions.len() > 100, "the lists are read");
    for (name, shader) in shaders() {
        let (module, _) = parse_wgsl(shader).unwrap_or_else(|e| panic!("{e}"));
        let [outer, inner] = declared(&module);
        let taken: Vec<&&str> = outer.iter().chain(&inner).filter(|n| words.contains(**n)).collect();
        assert!(taken.is_empty(), "{name:?} declares {taken:?}, which are reserved");
        let taken: Vec<&&str> = outer.iter().filter(|n| functions.contains(**n)).collect();
        assert!(taken.is_empty(), "{name:?} declares {taken:?}, which are built-in functions");
    }
}

/// Where `text`, without comments and with single blanks, mixes binary operators that WGSL requires in parentheses,
/// which naga does not check. Operators are between blanks, as everywhere in these files.
fn mixed_operators(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // The operators so far at each depth of brackets.
    let mut open: Vec<Vec<&str>> = vec![vec![]];
    let words = text.replace(['(', '['], " ( ").replace([')', ']'], " ) ").replace([',', ';', '{', '}', ':'], " ; ");
    for word in words.split_whitespace() {
        let ops = open.last_mut().expect("brackets match");
        match word {
            "(" => open.push(vec![]),
            ")" => drop(open.pop()),
            ";" | "=" | "return" => ops.clear(),
            _ if word.len() > 1 && word.ends_with('=') && !matches!(word, "==" | "!=" | "<=" | ">=") => ops.clear(),
            "&&" | "||" => ops.push(word),
            "&" | "|" | "^" | "<<" | ">>" | "+" | "-" | "*" | "/" | "%" | "==" | "!=" | "<" | ">" | "<=" | ">=" => {
                ops.push(word)
            }
            _ => continue,
        }
        let Some(ops) = open.last() else { continue };
        // Operands of `&&` and `||` are separate.
        let logic: BTreeSet<&str> = ops.iter().copied().filter(|o| matches!(*o, "&&" | "||")).collect();
        let last: Vec<&str> = ops.rsplit(|o| matches!(*o, "&&" | "||")).next().unwrap_or_default().to_vec();
        let has = |set: &[&str]| last.iter().any(|o| set.contains(o));
        let bits: BTreeSet<&str> = last.iter().copied().filter(|o| matches!(*o, "&" | "|" | "^")).collect();
        let shifts = last.iter().filter(|o| matches!(**o, "<<" | ">>")).count();
        let fault = logic.len() > 1
            || bits.len() > 1
            || shifts > 1
            || !bits.is_empty() && last.iter().any(|o| !bits.contains(o))
            || shifts > 0 && has(&["+", "-", "*", "/", "%"])
            || last.iter().filter(|o| matches!(**o, "==" | "!=" | "<" | ">" | "<=" | ">=")).count() > 1;
        if fault {
            faults.push(ops.join(" "));
        }
    }
    faults
}

#[test]
fn operators_that_wgsl_wants_in_parentheses_have_them() {
    for wrong in [
        "a && b || c;",
        "x >> 2 & 1;",
        "f(a, b + c << d);",
        "a & b == c;",
        "x = a | b & c;",
        "a << b << c;",
        "a < b == c;",
    ] {
        assert!(!mixed_operators(wrong).is_empty(), "{wrong}");
    }
    for right in [
        "(a && b) || c;",
        "a == b && c < d + e && f;",
        "(x >> 2) & 1;",
        "a & b & c;",
        "x &= a << b;",
        "f(a & b, c + d) * e;",
    ] {
        assert!(mixed_operators(right).is_empty(), "{right}");
    }
    for (name, shader) in shaders() {
        let text = shader.text().unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
        let code = code.join("\n");
        let faults = mixed_operators(&code);
        assert!(faults.is_empty(), "{name:?} lacks parentheses in {faults:?}");
        let number = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_');
        for literal in code.split(number).filter(|w| w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('.')) {
            let value: f64 = literal.trim_end_matches(['e', 'f']).parse().unwrap_or_else(|e| panic!("{literal}: {e}"));
            assert!(value <= f64::from(f32::MAX), "{name:?}: {literal} is beyond f32");
        }
    }
}

/// Stricter than naga: Tint is Chromium's WGSL compiler. Only software adapters use `software8/`, but
/// that is valid WGSL too.
#[test]
fn tint_accepts_every_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<Name> = Vec::new();
    let mut index = Vec::new();
    for d in kernels().into_iter().filter(|d| !enables(d, "wgpu_cooperative_matrix")) {
        let at = files.iter().position(|n| *n == name(d.shader)).unwrap_or_else(|| {
            files.push(name(d.shader));
            files.len() - 1
        });
        let file = format!("{at}-{}-{}", d.shader.file.replace('/', "-"), d.shader.defines.join("-"));
        // Tint has no 64-bit integers, so these kernels are compiled without WIDE.
        let narrow: Vec<&str> = d.shader.defines.iter().copied().filter(|define| *define != "WIDE").collect();
        let text = d.shader.with(Box::leak(narrow.into_boxed_slice())).text().unwrap();
        std::fs::write(folder.path().join(&file), text).unwrap();
        let constants: BTreeMap<&str, f64> = d.constants.iter().copied().collect();
        index.push(serde_json::json!({ "file": file, "entryPoint": d.entry, "constants": constants }));
    }
    std::fs::write(folder.path().join("index.json"), serde_json::to_string(&index).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tint.mjs");
    let run = match std::process::Command::new("node").arg(script).arg(folder.path()).output() {
        Ok(run) if run.status.code() != Some(3) => run,
        missing => {
            let why = missing.map_or_else(|e| e.to_string(), |run| String::from_utf8_lossy(&run.stdout).into_owned());
            eprintln!("Tint is skipped, scripts/test installs it where npm is: node: {why}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    println!("{said}");
}

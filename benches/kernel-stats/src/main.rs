//! Compiles every portable kernel of wmic, as its dispatches have it, with the first Vulkan device's compiler and
//! writes a table of what each one needs. Mesa's RADV needs no GPU for that, see the script `run`. With `--f16` it is
//! the kernels in half precision, plain and with cooperative matrices of 16 x 16.

mod compiler;
mod validator;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use compiler::{Compiler, SUBGROUP};
use wmic::bench::dispatched;
use wmic::core::files::write_atomic;
use wmic::gpu::{CooperativeMatrix, Precision, Target};

/// Waves that fit a SIMD unit at a time. Some versions of the driver count more than there can be.
const WAVES: &str = "Subgroups per SIMD";

/// The statistics of RADV, and the names of their columns.
const COLUMNS: [(&str, &str); 9] = [
    (SUBGROUP, "subgroup"),
    ("VGPRs", "vgprs"),
    ("SGPRs", "sgprs"),
    ("Spilled VGPRs", "spilled_vgprs"),
    ("Spilled SGPRs", "spilled_sgprs"),
    ("Scratch size", "scratch_bytes"),
    ("LDS size", "lds_bytes"),
    (WAVES, "waves"),
    ("Code size", "code_bytes"),
];

/// Families of AMD GPUs that Mesa knows by these names, and the most waves on a SIMD of theirs. gfx1100 is called
/// navi31 since Mesa 23.
const FAMILIES: [(&str, u64); 5] =
    [("gfx1100", 16), ("navi31", 16), ("navi21", 16), ("vega10", 10), ("polaris10", 8)];

/// AMD's, for subgroups of up to 64.
const MATRIX: CooperativeMatrix = CooperativeMatrix { side: 16, lanes: 64 };

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel-stats: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (halves, args): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--f16");
    let [out, filter @ ..] = &args[..] else {
        bail!("usage: kernel-stats [--f16] OUT.tsv [PART OF A KERNEL'S NAME]...")
    };
    let family = std::env::var("RADV_FORCE_FAMILY").context("RADV_FORCE_FAMILY names no family")?;
    let Some((_, most)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
        let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        bail!("RADV_FORCE_FAMILY={family} is not one of {}", known.join(", "));
    };
    let half = Target::PORTABLE.with(Precision::F16);
    let targets = match halves.is_empty() {
        true => vec![Target::PORTABLE],
        false => vec![half, Target { matrix: Some(MATRIX), ..half }],
    };
    let mut kernels = BTreeMap::new();
    for target in targets {
        let all = dispatched(target)?.into_iter().map(|(_, d)| (d.kernel(), d));
        let wanted = |name: &String| filter.is_empty() || filter.iter().any(|part| name.contains(*part));
        for (name, dispatch) in all.filter(|(name, _)| wanted(name)) {
            if halves.is_empty() || dispatch.shader.text()?.contains("enable f16;") {
                kernels.insert(name, dispatch);
            }
        }
    }
    ensure!(!kernels.is_empty(), "no kernel's name contains one of {filter:?}");

    let compiler = Compiler::new(!halves.is_empty())?;
    let names: Vec<&str> = COLUMNS.iter().map(|(_, name)| *name).collect();
    let mut table = format!("file\tdefines\tentry\toverrides\tspirv\t{}\tmax_waves\n", names.join("\t"));
    for (name, kernel) in &kernels {
        let spirv = kernel.spirv()?;
        if !kernel.shader.text()?.contains("enable wgpu_cooperative_matrix;") {
            validator::validate(&spirv).with_context(|| format!("{name}: spirv-val"))?;
        }
        let statistics = compiler.compile(&spirv, kernel.entry).with_context(|| name.clone())?;
        let value = |statistic: &str| {
            let found =
                statistics.get(statistic).with_context(|| format!("{name}: the driver gives no {statistic}"))?;
            let value = if statistic == WAVES { found.min(most) } else { found };
            Ok(value.to_string())
        };
        let values: Vec<String> = COLUMNS.iter().map(|(statistic, _)| value(statistic)).collect::<Result<_>>()?;
        table += &format!("{name}\t{}\t{}\t{most}\n", spirv.fingerprint(), values.join("\t"));
    }
    write_atomic(out, |file| file.write_all(table.as_bytes()))?;
    println!("{out}: {} kernels, compiled by {}", kernels.len(), compiler.name);
    Ok(())
}

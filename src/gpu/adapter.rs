//! Finding and choosing an adapter.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};

/// Type of adapter. Kernel variants depend on it (see `ops::variants`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    Discrete,
    Integrated,
    Virtual,
    Software,
    Other,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Software => "software (CPU)",
            AdapterKind::Other => "unknown kind",
        })
    }
}

/// Element type of the operands of matrix products in workgroup memory. Sums, results and weights are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    #[default]
    F32,
    /// Rounded to half precision: 11 significant bits, from 6e-8 to 65 504; smaller values become 0, larger ones
    /// infinite.
    F16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if *self == Precision::F16 { "f16" } else { "f32" })
    }
}

/// Cooperative matrices (tensor cores) of an adapter: operands in half precision, sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CooperativeMatrix {
    /// Rows and columns: 8 or 16.
    pub side: u32,
    /// Most invocations of a subgroup, which multiplies them together.
    pub lanes: u32,
}

impl CooperativeMatrix {
    /// Invocations of a workgroup, as a constant of the shaders that import `shared/cooperative_matrix.wgsl`: four
    /// subgroups, and no fewer than half the elements.
    pub(crate) fn workgroup(self) -> (&'static str, f64) {
        ("WORKGROUP_SIZE", (4 * self.lanes).max(self.side * self.side / 2).into())
    }
}

/// What kernel variants depend on. Never on R: replica r must not depend on the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: AdapterKind,
    /// Invocations per subgroup, if the adapter has subgroups of one fixed size.
    pub subgroup: Option<u32>,
    pub precision: Precision,
    /// Where matrix products use them: in half precision only.
    pub matrix: Option<CooperativeMatrix>,
}

impl Target {
    /// Runs on any GPU; the kernel variants of all other targets are compared with it.
    pub const PORTABLE: Target =
        Target { kind: AdapterKind::Discrete, subgroup: None, precision: Precision::F32, matrix: None };

    /// The same with another precision.
    pub const fn with(self, precision: Precision) -> Target {
        Target { precision, ..self }
    }
}

/// Short, for tables: "portable", "software", "software/8", "portable f16", "discrete/32 f16 16x16".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (Target { matrix: None, ..self.with(Precision::F32) }) == Target::PORTABLE {
            true => f.write_str("portable")?,
            false => {
                f.write_str(&format!("{:?}", self.kind).to_lowercase())?;
                self.subgroup.map_or(Ok(()), |n| write!(f, "/{n}"))?;
            }
        }
        if self.precision != Precision::F32 {
            write!(f, " {}", self.precision)?;
        }
        self.matrix.map_or(Ok(()), |CooperativeMatrix { side, .. }| write!(f, " {side}x{side}"))
    }
}

/// Name of the feature of half precision.
const F16: &str = "f16";

/// Properties of an adapter, known before it is opened.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    pub index: usize,
    pub name: String,
    pub kind: AdapterKind,
    /// "vulkan", "metal" or "dx12".
    pub backend: String,
    pub driver: String,
    pub vendor: u32,
    /// Largest storage binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Workgroup memory, bytes.
    pub workgroup_memory: u32,
    pub max_invocations: u32,
    pub subgroup: (u32, u32),
    /// Those that kernels can use.
    pub cooperative_matrix: Option<CooperativeMatrix>,
    /// Optional features that kernels and benchmarks can use, and whether they are available.
    pub features: BTreeMap<&'static str, bool>,
    /// Whether it has what kernels for software adapters with subgroups of 8 use besides.
    #[serde(skip)]
    has_cpu_features: bool,
}

impl Adapter {
    /// Name of the vendor with the adapter's PCI or Khronos number.
    pub(crate) fn vendor_name(&self) -> String {
        match self.vendor {
            0x10de => "NVIDIA",
            0x1002 | 0x1022 => "AMD",
            0x8086 => "Intel",
            0x106b => "Apple",
            0x13b5 => "Arm",
            0x5143 => "Qualcomm",
            0x1010 => "Imagination",
            0x1414 => "Microsoft",
            0x10005 => "Mesa",
            other => return format!("{other:#06x}"),
        }
        .to_owned()
    }

    pub fn target(&self) -> Target {
        let fixed = self.features["subgroups"] && self.subgroup.0 == self.subgroup.1;
        // Software adapters with subgroups of 8 have kernels of their own.
        let lacks = self.kind == AdapterKind::Software && self.subgroup.0 == 8 && !self.has_cpu_features;
        let subgroup = (fixed && !lacks).then_some(self.subgroup.0);
        Target { kind: self.kind, subgroup, precision: Precision::F32, matrix: None }
    }

    /// The target of a precision, that of f16 with cooperative matrices where there are any.
    ///
    /// # Errors
    /// `Gpu` for f16 on an adapter without it.
    pub fn target_of(&self, precision: Precision) -> Result<Target> {
        match precision == Precision::F16 && !self.features[F16] {
            true => Err(Error::Gpu(format!("{} has no half-precision arithmetic (f16): use f32", self.name))),
            false => {
                let matrix = self.cooperative_matrix.filter(|_| precision == Precision::F16);
                Ok(Target { precision, matrix, ..self.target() })
            }
        }
    }

    /// Its precisions.
    pub fn precisions(&self) -> &'static [Precision] {
        if self.features[F16] { &[Precision::F32, Precision::F16] } else { &[Precision::F32] }
    }
}

fn describe(index: usize, raw: &wgpu::Adapter) -> Adapter {
    let (info, limits, has) = (raw.get_info(), raw.limits(), raw.features());
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned();
    Adapter {
        index,
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        backend: info.backend.to_str().to_owned(),
        driver,
        vendor: info.vendor,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        cooperative_matrix: cooperative_matrix(raw, info.subgroup_max_size),
        features: BTreeMap::from([
            ("timestamps", has.contains(wgpu::Features::TIMESTAMP_QUERY)),
            ("subgroups", has.contains(wgpu::Features::SUBGROUP)),
            (F16, has.contains(wgpu::Features::SHADER_F16)),
        ]),
        has_cpu_features: has.contains(CPU),
    }
}

/// What kernels for software adapters with subgroups of 8 need of a device besides. llvmpipe has it.
pub(super) const CPU: wgpu::Features = wgpu::Features::SHADER_INT64;

/// What cooperative matrices need of a device.
pub(super) const COOPERATIVE: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The largest cooperative matrices that `shared/cooperative_product.wgsl` has kernels for.
fn cooperative_matrix(raw: &wgpu::Adapter, lanes: u32) -> Option<CooperativeMatrix> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let sides = raw.cooperative_matrix_properties().into_iter().filter_map(|p| {
        let square = p.m_size == p.n_size && p.n_size == p.k_size && matches!(p.m_size, 8 | 16);
        (square && p.ab_type == F16 && p.cr_type == F32).then_some(p.m_size)
    });
    // Four subgroups of a workgroup.
    let fits = raw.features().contains(COOPERATIVE)
        && (1..=wgpu::Limits::default().max_compute_invocations_per_workgroup / 4).contains(&lanes);
    sides.max().filter(|_| fits).map(|side| CooperativeMatrix { side, lanes })
}

/// Message if no adapter is found.
const NO_ADAPTER: &str = "no Vulkan, Metal or DX12 adapter found; install your GPU's driver, or software Vulkan \
     (Debian/Ubuntu: apt install libvulkan1 mesa-vulkan-drivers; Fedora: dnf install mesa-vulkan-drivers)";

fn enumerate() -> Vec<(wgpu::Adapter, Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
        .into_iter()
        .enumerate()
        .map(|(i, raw)| {
            let described = describe(i, &raw);
            (raw, described)
        })
        .collect()
}

/// All adapters of this machine, in the order of their indices.
///
/// # Errors
/// `Gpu` if there is none, with what to install.
pub fn adapters() -> Result<Vec<Adapter>> {
    let all: Vec<Adapter> = enumerate().into_iter().map(|(_, a)| a).collect();
    if all.is_empty() { Err(Error::Gpu(NO_ADAPTER.into())) } else { Ok(all) }
}

/// The default adapter: the first discrete one, else integrated, virtual, software.
pub fn preferred<'a>(all: impl IntoIterator<Item = &'a Adapter>) -> Option<&'a Adapter> {
    all.into_iter().min_by_key(|a| a.kind)
}

/// The adapter named by `wanted` (its index, or a part of its name in any case);
/// without `wanted` the [`preferred`] one.
pub fn choose(wanted: Option<&str>) -> Result<(wgpu::Adapter, Adapter)> {
    let all = enumerate();
    if all.is_empty() {
        return Err(Error::Gpu(NO_ADAPTER.into()));
    }
    let index = match wanted {
        None => preferred(all.iter().map(|(_, a)| a)).map(|a| a.index),
        Some(wish) => match wish.parse::<usize>() {
            Ok(index) => (index < all.len()).then_some(index),
            Err(_) => all.iter().position(|(_, a)| a.name.to_lowercase().contains(&wish.to_lowercase())),
        },
    };
    let Some(index) = index else {
        let wanted = wanted.unwrap_or_default().into();
        let names: Vec<String> = all.iter().map(|(_, a)| format!("{} {}", a.index, a.name)).collect();
        return Err(Error::NoAdapter { wanted, available: names.join(", ") });
    };
    Ok(all.into_iter().nth(index).expect("index was found in this list"))
}

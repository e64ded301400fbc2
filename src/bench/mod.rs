//! Speed of kernels and training steps, relative to the adapter's measured peak.

pub mod checks;
pub mod comparison;
mod comparison_plot;
mod dispatched;
mod front_ends;
mod host;
mod kernels;
pub mod markdown;
mod peak;
pub mod results;
mod steps;
mod timer;
pub mod tune;
mod warnings;

#[doc(hidden)]
pub use dispatched::dispatched;
pub use front_ends::{FRONT_ENDS, FrontEndPart, SECONDS, front_end};
pub use kernels::kernels;
#[doc(hidden)]
pub use peak::SHADERS as PEAK_SHADERS;
pub use peak::peak;
pub use steps::{Step, step};
pub use timer::Timer;
pub use warnings::{Load, warnings};

use crate::bench::results::{AdapterInfo, BenchReport, Peak};
use crate::gpu::{Adapter, AdapterKind, Gpu, Precision};

/// An empty report with this machine, this adapter and the time.
pub fn report(gpu: &Gpu, peak: Peak, precision: Precision) -> BenchReport {
    BenchReport {
        wmic_version: env!("CARGO_PKG_VERSION").into(),
        date: host::date(),
        adapter: about(gpu.adapter()),
        precision,
        host: host::host(),
        peak,
        kernels: vec![],
        steps: vec![],
        load: None,
        warnings: vec![],
    }
}

fn about(adapter: &Adapter) -> AdapterInfo {
    let kind = match adapter.kind {
        AdapterKind::Discrete => "discrete",
        AdapterKind::Integrated => "integrated",
        AdapterKind::Virtual => "virtual",
        AdapterKind::Software => "cpu",
        AdapterKind::Other => "other",
    };
    let backend = match adapter.backend.as_str() {
        "vulkan" => "Vulkan",
        "metal" => "Metal",
        "dx12" => "Dx12",
        other => other,
    };
    AdapterInfo {
        name: adapter.name.clone(),
        vendor: adapter.vendor_name(),
        backend: backend.into(),
        driver: adapter.driver.clone(),
        kind: kind.into(),
    }
}

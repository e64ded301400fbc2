//! `wmic devices`: the adapters, and which one is used.

use serde::Serialize;
use wmic::core::numbers::bytes;
use wmic::gpu::{Adapter, adapters, preferred};

use super::common::Status;
use super::output;

/// List the adapters of this machine, and which one is used
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON: {adapters: [{index, name, kind, backend, driver, ...}], used, why}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    adapters: Vec<Adapter>,
    /// Index of the default adapter.
    used: usize,
    why: String,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let adapters = adapters()?;
        let used = preferred(&adapters).expect("there is an adapter");
        let listing = Listing { used: used.index, why: why(used, &adapters), adapters };
        if self.json {
            output::print_json(&listing)?;
        } else {
            let described: Vec<String> = listing.adapters.iter().map(describe).collect();
            let Listing { used, why, .. } = listing;
            let advice = if described.len() > 1 { "; --device NAME|INDEX takes another" } else { "" };
            output::print(&format!("{}\nUsed: {used}, {why}{advice}\n", described.join("\n")))?;
        }
        Ok(Status::Done)
    }
}

fn why(used: &Adapter, all: &[Adapter]) -> String {
    let alike = all.iter().filter(|a| a.kind == used.kind).count();
    match (all.len(), alike) {
        (1, _) => "the only adapter".into(),
        (_, 1) => format!("the only {}, preferred over the other kinds", used.kind),
        _ => format!("the first {}", used.kind),
    }
}

fn describe(a: &Adapter) -> String {
    let subgroup = match a.subgroup {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low} to {high}"),
    };
    let having = |wanted: bool| {
        let names: Vec<&str> = a.features.iter().filter(|(_, has)| **has == wanted).map(|(name, _)| *name).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    let facts = [
        ("kind", a.kind.to_string()),
        ("backend", a.backend.clone()),
        ("driver", a.driver.clone()),
        ("largest binding", bytes(a.max_binding)),
        ("largest buffer", bytes(a.max_buffer)),
        ("workgroup", format!("{} memory, {} invocations", bytes(a.workgroup_memory.into()), a.max_invocations)),
        ("subgroup", format!("{subgroup} invocations")),
        (
            "cooperative",
            a.cooperative_matrix.map_or("none".into(), |m| format!("matrices of {0} x {0} in f16", m.side)),
        ),
        ("features", having(true)),
        ("missing", having(false)),
    ];
    let lines = facts.map(|(name, value)| format!("   {name:<16} {value}\n"));
    format!("{}  {}\n{}", a.index, a.name, lines.concat())
}

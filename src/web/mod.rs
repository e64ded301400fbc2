//! Web pages that replay plans on the visitor's GPU, with WebGPU: the same WGSL, recorded plans as data, and a player
//! in plain JavaScript (`assets/web`).

mod checks;
mod pack;
pub mod page;
mod recogniser;

//! The program as users meet it: what it prints, writes and rejects.

mod audio;
mod commands;
mod compare;
mod docs;
mod forest;
mod notes;
mod train;

#[path = "../golden/formula.rs"]
mod formula;
mod support;

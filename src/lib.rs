//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! # A tour
//! A run has settings ([`Config`]: the protocol of a model's paper, but for what you change), a dataset ([`Dataset`]) and a device
//! ([`Gpu`]). A [`Session`] trains it, several seeds side by side, tests it, and leaves a directory behind ([`RunDir`]):
//!
//! ```no_run
//! use wmic::{Config, Dataset, Event, Gpu, Session};
//!
//! let dataset = Dataset::load("openmic-2018".as_ref())?;
//! let gpu = Gpu::open(None)?;
//! let config = Config { seeds: vec![0, 1, 2], ..Config::of("att", "openmic-2018")? };
//! let mut session = Session::begin(&gpu, &config, &dataset, "runs/att".as_ref(), false)?;
//! session.train(&|| false, &mut |event| {
//!     if let Event::Epoch { rows, .. } = event {
//!         println!("epoch {}: loss {}", rows[0].epoch, rows[0].val_loss);
//!     }
//! })?;
//! let outcome = session.finish()?;
//! println!("macro F1 {:?}", outcome.evaluation.mean.f1_pn);
//! wmic::report::write(&outcome, &dataset)?;
//! # Ok::<(), wmic::Error>(())
//! ```
//! A run that was stopped goes on with [`Session::resume`]; what has been trained is read by [`Trained::load`].
//!
//! Settings are fields; their names, values, defaults and which model has which are in one table ([`run::config::SETTINGS`]), from which
//! the command line is made, too:
//!
//! ```
//! use wmic::Config;
//!
//! let config = Config::of_table("rnn", "data".as_ref(), "epochs = 20\nloss = 'focal'".parse().unwrap())?;
//! assert_eq!((config.epochs, config.batch), (20, 128));
//! let forest = Config { lr: 0.1, ..Config::of("rf", "data")? };
//! assert_eq!(forest.validate().unwrap_err().to_string(), "rf is no network: leave out `lr`");
//! # Ok::<(), wmic::Error>(())
//! ```
//!
//! A model is a function from a graph's inputs to probabilities ([`nn::models`]), of layers ([`nn`]) that are made of ops ([`ops`]). An
//! [`Op`](graph::Op) has WGSL kernels, forward and backward, and a reference in f64 against which [`check`] holds it; one can be
//! defined outside this crate, as the example `custom_op` does. What becomes of a graph:
//!
//! ```
//! use wmic::graph::{Graph, Init, Mode, Spec};
//! use wmic::ops::linear::linear;
//!
//! let mut g = Graph::new(Mode::Train);
//! let x = g.input("x", Spec::f32([32, 128]));
//! let w = g.param("weight", [20, 128], Init::Constant(0.0));
//! let y = linear(&mut g, x, w, None)?;
//! assert_eq!(g.shape(y).dims(), [32, 20]);
//! assert_eq!(g.layout().count(), 20 * 128);
//! # Ok::<(), wmic::Error>(())
//! ```
//!
//! # Layers
//! Modules are layered: each imports only from lower layers and its own, and no two files import each other, which
//! `tests/architecture.rs` sees to. From below: [`core`], [`gpu`], [`graph`], [`check`], [`ops`],
//! [`audio`], [`metrics`], [`data`], [`nn`], [`features`], [`run`], [`predict`], [`train`], [`compare`], [`output`], [`report`],
//! [`bench`]. A training step is two plans replayed in turn (model and optimiser, see [`train::learner`]), and the clock of seeds and
//! steps is a tensor like any other.
//!
//! Errors ([`Error`]) name settings and arguments of functions `so`; the command line puts its options there.

pub mod audio;
pub mod bench;
pub mod check;
pub mod compare;
pub mod core;
pub mod data;
pub mod features;
pub mod gpu;
pub mod graph;
pub mod metrics;
pub mod nn;
pub mod ops;
pub mod output;
pub mod predict;
pub mod report;
pub mod run;
pub mod train;

pub use self::core::array::Array;
pub use self::core::error::{Error, Result};
pub use self::core::shape::Shape;
pub use self::data::Dataset;
pub use self::gpu::Gpu;
pub use self::predict::recogniser::Recogniser;
pub use self::predict::trained::Trained;
pub use self::run::config::Config;
pub use self::run::run_dir::RunDir;
pub use self::train::session::{Outcome, Session};
pub use self::train::trainer::{End, Event};

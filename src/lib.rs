//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! # A tour
//! A run has settings ([`Config`]: by default the protocol of the model's paper), a dataset ([`Dataset`]) and a device
//! ([`Gpu`]). A [`Session`] trains several seeds in parallel, tests them, and writes a run directory ([`RunDir`]):
//!
//! ```no_run
//! use wmic::{Config, Dataset, Event, Gpu, Session};
//!
//! let dataset = Dataset::load("openmic-2018")?;
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
//! [`Session::resume`] continues a stopped run; [`Trained::load`] reads a trained model.
//!
//! Settings are fields; their names, values, defaults and which model has which are in one table
//! ([`run::settings::SETTINGS`]), which also defines the command line:
//!
//! ```
//! use wmic::Config;
//!
//! let config = Config::of_table("rnn", "data".as_ref(), "epochs = 20\nloss = 'focal'".parse().unwrap())?;
//! assert_eq!((config.epochs, config.batch), (20, 128));
//! let forest = Config { lr: 0.1, ..Config::of("rf", "data")? };
//! assert_eq!(forest.validate().unwrap_err().to_string(), "rf is not a neural network: remove `lr`");
//! # Ok::<(), wmic::Error>(())
//! ```
//!
//! A model is a function from a graph's inputs to probabilities ([`nn::models`]), of layers ([`nn`]) built from ops
//! ([`ops`]). An [`Op`](graph::Op) has WGSL kernels, forward and backward, and an f64 reference that [`check`] compares
//! it with; ops can be defined outside this crate, as in the example `custom_op`. Building a graph:
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
//! a test enforces. From below: [`core`], [`gpu`], [`graph`], [`check`], [`ops`],
//! [`audio`], [`metrics`], [`data`], [`nn`], [`features`], [`run`], [`predict`], [`train`], [`compare`], [`output`],
//! [`report`], [`web`], [`mod@bench`]. A training step is two plans replayed in turn (model and optimiser, see
//! [`train::learner`]), and the clock (seeds and steps) is a tensor like any other.
//!
//! [`predict`] comes before [`train`], because a run ends with its own test: a [`Session`] evaluates with the predictor
//! that later recognises recordings. The kinds of features ([`nn::FeatureKind`]) are in [`nn`], because a model names
//! the kinds that it takes; [`features`] computes them.
//!
//! Errors ([`Error`]) name settings and function arguments in backquotes, which the command line replaces by its
//! options.

// The structs of `params!` name this crate, also within it.
extern crate self as wmic;

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
pub mod web;

#[doc(hidden)]
pub use bytemuck as __bytemuck;

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

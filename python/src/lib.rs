//! The native half of the Python package `wmic`: functions on plain values, of which `wmic/__init__.py` makes classes.
//!
//! Arguments are positional. Options come as a JSON object, and other structures leave as JSON; arrays leave as
//! little-endian bytes. While the library works, the GIL is released.

mod caller;
mod compare;
mod module;
mod predict;
mod runs;

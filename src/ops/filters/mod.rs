//! Filter banks: tables that ops take as inputs.

pub mod mel;
pub mod wavelet;

//! What people read: tables for the terminal, pictures, and pages.

pub mod comparison;
pub mod numbers;
pub mod pages;
pub mod plots;
pub mod tables;

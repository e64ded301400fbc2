//! How many mutated files a test reads.

use proptest::prelude::ProptestConfig;

/// `few`, or as many as the variable WMIC_FUZZ says, for a longer run by hand.
pub fn mutations(few: u32) -> ProptestConfig {
    let cases = std::env::var("WMIC_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(few);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

//! Decoding of malicious files: samples or one error.

use proptest::prelude::*;
use wmic::Error;
use wmic::audio::{decode, resample};

use super::containers::*;
use super::decode::*;
use super::mutations::mutations;

/// Small files of several kinds.
fn seeds() -> Vec<Vec<u8>> {
    let aiff_golden: &[u8] = include_bytes!("../golden/tone.aiff");
    let mut seeds = vec![wav(6036, 6000, b"", b""), wave64(6024), aiff(6046, 6008), au(6000), caf(6004)];
    seeds.extend(
        [FLAC, OGG, MP3, STEREO_MP3, M4A, OPUS, WEBM, MKA, FRAGMENTS, ALAC, OGG_FLAC, aiff_golden].map(<[u8]>::to_vec),
    );
    seeds.push([&wav(36, 0, b"", b"")[..20], &[0x55, 0], &wav(36, 0, b"", b"")[22..44], MP3].concat());
    seeds.push([&wav(36, 0, b"", b"")[..20], &[0x11, 0], &wav(36, 0, b"", b"")[22..32], &[64, 0], &[7; 2000]].concat());
    seeds.push([OGG, OPUS].concat());
    seeds.extend([rf64(b"RF64"), adts(), caf_aac(), caf_opus(), edited(&[(100, 1024), (100, 5000)])]);
    seeds.extend([itunes_mp3(), itunes_m4a(), [WEBM, MKA].concat()]);
    seeds.push([MP3, STEREO_MP3].concat());
    seeds
}

/// Overwrites, removes, repeats and cuts.
fn mutate(bytes: &[u8], changes: &[(u8, f64, u8)]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for &(kind, share, value) in changes {
        if out.is_empty() {
            break;
        }
        // Half of all changes hit the first 256 bytes, where the headers are.
        let span = if kind & 1 == 0 { out.len().min(256) } else { out.len() };
        let at = (share * span as f64) as usize;
        match kind / 2 % 4 {
            0 => out[at] = value,
            1 => drop(out.drain(at..(at + usize::from(value)).min(out.len()))),
            2 => {
                let part = out[at..(at + usize::from(value)).min(out.len())].to_vec();
                out.splice(at..at, part);
            }
            _ => out[at] ^= 1 << (value % 8),
        }
    }
    out
}

proptest! {
    #![proptest_config(mutations(1000))]
    #[test]
    fn damaged_files_give_samples_or_one_error(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<u8>(), 0.0..1.0f64, any::<u8>()), 1..12),
        cut in prop::option::weighted(0.2, 0.0..1.0f64),
    ) {
        let seeds = seeds();
        let mut bytes = mutate(&seeds[which.index(seeds.len())], &changes);
        if let Some(share) = cut {
            bytes.truncate((share * bytes.len() as f64) as usize);
        }
        let (_dir, path) = file("sound", &bytes);
        match decode(&path, 600.0) {
            Ok(clip) => {
                prop_assert!(clip.samples.iter().all(|v| v.is_finite()));
                prop_assert!(!clip.samples.is_empty());
                let at_16k = resample(&clip.samples, clip.sr, 16_000).unwrap();
                prop_assert!(at_16k.iter().all(|v| v.is_finite()));
            }
            Err(Error::Data { reason, .. }) => prop_assert!(!reason.contains('\n')),
            Err(Error::Io { .. }) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

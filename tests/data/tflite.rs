//! Models of TensorFlow Lite: one that its own schema wrote, damaged ones, and YAMNet's tables.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wmic::core::tflite::{Model, code};
use wmic::features::front_end::{FrontEnd, Source};

use crate::mutations::mutations;

const SMALL: &[u8] = include_bytes!("../golden/small.tflite");

fn reason(bytes: &[u8], tensor: i32, shape: &[usize]) -> String {
    let reason = Model::parse(bytes).and_then(|model| model.floats(tensor, shape)).unwrap_err();
    assert!(!reason.contains('\n'), "{reason}");
    reason
}

/// The file with other bytes for each place that has `from`.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = SMALL.to_vec();
    let places: Vec<usize> = (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

#[test]
fn operators_and_values_are_read_as_they_were_written() {
    let model = Model::parse(SMALL).unwrap();
    let read: Vec<_> = model.operators.iter().map(|op| (op.code, &op.inputs[..], &op.outputs[..])).collect();
    let expected: [(i32, &[i32], &[i32]); 3] =
        [(code::CONV_2D, &[0, 5, 3], &[1]), (code::DEQUANTIZE, &[6], &[7]), (code::FULLY_CONNECTED, &[1, 7, 4], &[2])];
    assert_eq!(read, expected);
    let options = model.operators[0].options.unwrap();
    assert_eq!((options.byte(0), options.int(1, 1), options.int(2, 1), options.byte(3)), (Ok(0), Ok(2), Ok(2), Ok(1)));
    assert!(model.operators[1].options.is_none());

    assert_eq!(model.floats(3, &[2]).unwrap(), [0.5, -1.5]);
    assert_eq!(model.floats(4, &[3]).unwrap(), [1.0, -2.0, 0.25]);
    let of_channels = (-9..9).map(|v| if v < 0 { v as f32 * 0.5 } else { (v - 3) as f32 * 0.25 });
    assert_eq!(model.floats(5, &[2, 3, 3, 1]).unwrap(), of_channels.collect::<Vec<_>>());
    let dequantised: Vec<f32> = (0..24).map(|v| (v + 1) as f32 * 0.125).collect();
    assert_eq!(model.floats(6, &[3, 8]).unwrap(), dequantised);
    assert_eq!(model.floats(7, &[3, 8]).unwrap(), dequantised);
}

#[test]
fn what_does_not_fit_is_refused_in_a_line() {
    assert!(reason(b"", 3, &[2]).contains("not marked"));
    assert!(reason(&[0; 64], 3, &[2]).contains("not marked"));
    assert!(reason(&replaced(b"TFL3", b"TFL2"), 3, &[2]).contains("not marked"));
    assert!(reason(SMALL, 3, &[3]).contains("tensor 3 is [2], expected [3]"));
    assert!(reason(SMALL, 1, &[1, 2, 2, 2]).contains("is not a constant"));
    assert!(reason(SMALL, 0, &[1, 4, 4, 1]).contains("0 bytes of data, expected 64"));
    for missing in [-1, 8, i32::MAX] {
        assert!(reason(SMALL, missing, &[2]).contains("no tensor"));
    }
    let nan = replaced(&0.25f32.to_le_bytes(), &f32::NAN.to_le_bytes());
    assert!(reason(&nan, 5, &[2, 3, 3, 1]).contains("holds NaN"));
    let infinite = replaced(&0.125f32.to_le_bytes(), &f32::INFINITY.to_le_bytes());
    assert!(reason(&infinite, 6, &[3, 8]).contains("holds inf"));
    // The first offset leads far out of the file, and to its end.
    for offset in [u32::MAX, SMALL.len() as u32, SMALL.len() as u32 - 1] {
        let lost = [&offset.to_le_bytes()[..], &SMALL[4..]].concat();
        assert!(reason(&lost, 3, &[2]).contains("out of the file"));
    }
    (0..SMALL.len()).for_each(|end| read_all(&SMALL[..end]).unwrap());
}

/// Reads all that the whole file has; only a panic or several lines are wrong.
fn read_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let shapes: [(i32, &[usize]); 5] = [(3, &[2]), (4, &[3]), (5, &[2, 3, 3, 1]), (6, &[3, 8]), (7, &[3, 8])];
    let read = |model: Model| shapes.iter().try_for_each(|(i, shape)| model.floats(*i, shape).map(drop));
    let Err(reason) = Model::parse(bytes).and_then(read) else { return Ok(()) };
    prop_assert!(!reason.contains('\n'), "{reason}");
    Ok(())
}

/// Places as shares of 2^16, and bytes.
fn changes() -> impl Strategy<Value = Vec<(u16, u8)>> {
    prop::collection::vec((any::<u16>(), prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x80)]), 1..6)
}

proptest! {
    #![proptest_config(mutations(1000))]

    #[test]
    fn damaged_files_are_read_or_refused(changes in changes(), cut in prop::option::weighted(0.1, any::<u16>())) {
        let mut bytes = SMALL.to_vec();
        let at = |place: u16| (usize::from(place) * SMALL.len()) >> 16;
        changes.iter().for_each(|(place, byte)| bytes[at(*place)] = *byte);
        if let Some(cut) = cut { bytes.truncate(at(cut)) }
        read_all(&bytes)?;
    }
}

/// YAMNet's file, if it is at hand.
fn yamnet() -> Option<Vec<u8>> {
    let path = std::env::var_os("WMIC_DATA").map(|data| Path::new(&data).join("yamnet.tflite"));
    let found = path.and_then(|path| std::fs::read(path).ok());
    if found.is_none() {
        println!("skipped: WMIC_DATA does not name a folder with yamnet.tflite");
    }
    found
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("yamnet.tflite");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Why the weights in a file are refused.
fn refused(bytes: &[u8]) -> Option<String> {
    let (_folder, path) = written(bytes);
    let message = FrontEnd::new(Source::File(path), None).load().err()?.to_string();
    assert!(message.contains("yamnet.tflite") && !message.contains('\n'), "{message}");
    Some(message)
}

#[test]
fn another_network_is_not_yamnet() {
    assert!(refused(SMALL).unwrap().contains("is not YAMNet of TensorFlow Lite: no dense layer follows"));
    let Some(bytes) = yamnet() else { return };
    assert_eq!(refused(&bytes), None);
    assert!(refused(&bytes[..bytes.len() / 2]).unwrap().contains("out of the file"));
}

proptest! {
    #![proptest_config(mutations(20))]

    /// Its tables are at both ends of the file.
    #[test]
    fn yamnet_with_damaged_tables_is_read_or_refused(changes in changes()) {
        const TABLES: usize = 24 << 10;
        if let Some(mut bytes) = yamnet() {
            let start = bytes.len() - TABLES;
            for (place, byte) in changes {
                let at = (usize::from(place) * (TABLES + 2048)) >> 16;
                bytes[if at < 2048 { at } else { start + at - 2048 }] = byte;
            }
            refused(&bytes);
        }
    }
}

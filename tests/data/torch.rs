//! Files of PyTorch: those that it writes, damaged ones, and pickles that name code.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wmic::core::torch::read;

use crate::mutations::mutations;

const ZIP: &[u8] = include_bytes!("../golden/torch-zip.pth");
const LEGACY: &[u8] = include_bytes!("../golden/torch-legacy.pth");

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn reason(bytes: &[u8]) -> String {
    let (_folder, path) = file(bytes);
    let message = read(&path).map(|tensors| tensors.len()).unwrap_err().to_string();
    assert!(message.contains("weights.pth") && !message.contains('\n'), "{message}");
    message
}

/// An archive as PyTorch writes it.
fn zipped(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", storage)] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A state dict with one tensor `w` on a storage of `length` values.
fn pickled(length: u8, offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let mut out =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    out.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK");
    out.extend([length, b't', b'Q', b'K', offset]);
    for sizes in [shape, strides] {
        out.push(b'(');
        sizes.iter().for_each(|size| out.extend([b'K', *size]));
        out.push(b't');
    }
    out.extend(b"\x89Ntq\0Rs.");
    out
}

#[test]
fn both_layouts_are_read_as_pytorch_wrote_them() {
    for bytes in [ZIP, LEGACY] {
        let (_folder, path) = file(bytes);
        let tensors = read(&path).unwrap();
        let read: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), &t.shape[..], &t.values[..])).collect();
        let expected: [(&str, &[usize], &[f32]); 6] = [
            ("transposed", &[3, 2], &[0., 3., 1., 4., 2., 5.]),
            ("part", &[3], &[4., 5., 6.]),
            ("parameter", &[1, 2], &[0.5, -0.25]),
            ("scalar", &[], &[7.]),
            ("numpy", &[2, 2], &[1.5, 2.5, 3.5, -128.]),
            ("numpy64", &[2], &[0.1, 0.2]),
        ];
        assert_eq!(read, expected);
    }
}

#[test]
fn what_is_not_tensors_is_refused_in_a_line() {
    assert!(reason(b"").contains("not a PyTorch file"));
    assert!(
        reason(&zipped(b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", b"")).contains("it names the global os.system")
    );
    assert!(reason(&zipped(b"\x80\x02cbuiltins\neval\n.", b"")).contains("it names the global builtins.eval"));
    assert!(reason(&zipped(b"\x80\x02K\x01.", b"")).contains("no dict of tensors"));
    assert!(reason(&zipped(b"\x80\x02}X\x05\0\0\0epochK\x03s.", b"")).contains("\"epoch\" is not a tensor"));
    assert!(reason(&[&[0x80, 2][..], &[b')'; 100], &[0x85; 40], b"."].concat()).contains("not a PyTorch file"));
    // A tuple in a tuple in a tuple.
    let deep = [b"\x80\x02)", &[0x85; 100][..], b"."].concat();
    assert!(reason(&zipped(&deep, b"")).contains("nested too deep"));

    // Objects of lists, which would be copied with them; as many objects as bytes; names twice.
    let list = [b"\x80\x02cnumpy\ndtype\n](", &b"K\x01".repeat(100)[..], b"eR."].concat();
    assert!(reason(&zipped(&list, b"")).contains("it calls something that is not a function"));
    assert!(reason(&zipped(&vec![b')'; 1 << 20], b"")).contains("more than 262144 opcodes"));
    let twice = pickled(1, 0, &[1], &[1]);
    let twice = [&twice[..twice.len() - 1], &twice[3..]].concat();
    assert!(reason(&zipped(&twice, &[0; 4])).contains("occurs twice"));

    let four = [0u8; 16];
    let (_folder, path) = file(&zipped(&pickled(4, 0, &[2, 2], &[2, 1]), &four));
    assert_eq!(read(&path).unwrap()[0].values, [0.; 4]);
    for (pickle, said) in [
        (pickled(4, 1, &[2, 2], &[2, 1]), "beyond its storage"),
        (pickled(4, 0, &[2, 2], &[200, 1]), "beyond its storage"),
        (pickled(4, 0, &[2, 2], &[1]), "beyond its storage"),
        (pickled(4, 0, &[255; 8], &[0; 8]), "more values than the file"),
        (pickled(200, 0, &[5], &[1]), "beyond its storage"),
        (pickled(2, 0, &[2], &[1]), "is too large"),
    ] {
        assert!(reason(&zipped(&pickle, &four)).contains(said), "{said}");
    }
}

proptest! {
    #![proptest_config(mutations(1000))]

    /// Tensors or one line, never a panic.
    #[test]
    fn damaged_files_are_read_or_refused(
        legacy: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = if legacy { LEGACY } else { ZIP }.to_vec();
        changes.iter().for_each(|(at, byte)| { let i = at.index(bytes.len()); bytes[i] = *byte });
        if let Some(cut) = cut { bytes.truncate(cut.index(bytes.len())) }
        let (_folder, path) = file(&bytes);
        if let Err(error) = read(Path::new(&path)) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

//! Decoding of files with wrong, missing or truncated headers: all available samples and a warning.

use std::fs;
use std::path::PathBuf;

use wmic::audio::{Condition, open};

pub(super) const FLAC: &[u8] = include_bytes!("../golden/tone.flac");
pub(super) const OGG: &[u8] = include_bytes!("../golden/tone.ogg");
pub(super) const MP3: &[u8] = include_bytes!("../golden/tone.mp3");
pub(super) const STEREO_MP3: &[u8] = include_bytes!("../golden/tone_stereo.mp3");
pub(super) const M4A: &[u8] = include_bytes!("../golden/tone.m4a");
pub(super) const OPUS: &[u8] = include_bytes!("../golden/tone.opus");
pub(super) const WEBM: &[u8] = include_bytes!("../golden/tone.webm");
pub(super) const MKA: &[u8] = include_bytes!("../golden/tone.mka");
pub(super) const FRAGMENTS: &[u8] = include_bytes!("../golden/tone_fragments.m4a");
pub(super) const ALAC: &[u8] = include_bytes!("../golden/tone_alac.m4a");
pub(super) const OGG_FLAC: &[u8] = include_bytes!("../golden/tone_flac.oga");
/// Samples of the generated files.
pub(super) const LEN: usize = 3000;

pub(super) fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// All samples, the rate, and the condition.
#[track_caller]
pub(super) fn decoded(bytes: &[u8]) -> (Vec<f32>, u32, Condition) {
    let (_dir, path) = file("sound", bytes);
    let mut decoder = open(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut samples = vec![];
    while let Some(block) = decoder.next_block().unwrap() {
        samples.extend_from_slice(block);
    }
    (samples, decoder.sr(), decoder.condition().clone())
}

/// Length and rate of a file that is not damaged, and its only warning, which must contain `warning`; none if that is
/// empty.
#[track_caller]
pub(super) fn expect(name: &str, bytes: &[u8], len: usize, sr: u32, warning: &str) {
    println!("{name}");
    let (samples, rate, condition) = decoded(bytes);
    assert_eq!((samples.len(), rate), (len, sr), "{name}: {condition:?}");
    assert!(!condition.damaged, "{name}: {condition:?}");
    match condition.warnings.as_slice() {
        [] => assert!(warning.is_empty(), "{name}: no warning of {warning:?}"),
        [line] => assert!(!warning.is_empty() && line.contains(warning), "{name}: {line}"),
        lines => panic!("{name}: {lines:?}"),
    }
}

pub(super) fn tone() -> Vec<i16> {
    (0..LEN).map(|i| ((i as f64 * 0.17).sin() * 12_000.0) as i16).collect()
}

pub(super) fn little(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn big(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|v| v.to_be_bytes()).collect()
}

pub(super) fn chunk(id: &[u8], size: u32, body: &[u8]) -> Vec<u8> {
    [id, &size.to_le_bytes(), body].concat()
}

pub(super) fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut body = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend(8000u32.to_le_bytes());
    body.extend((8000 * u32::from(block)).to_le_bytes());
    body.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    chunk(b"fmt ", body.len() as u32, &body)
}

/// A mono WAV file: declared sizes of the file and of its audio data, and chunks before and after the
/// audio data.
pub(super) fn wav(riff: u32, data: u32, before: &[u8], behind: &[u8]) -> Vec<u8> {
    let sound = chunk(b"data", data, &little(&tone()));
    [b"RIFF", &riff.to_le_bytes()[..], b"WAVE", &format(1, 1, 16), before, &sound, behind].concat()
}

/// RF64 or BW64: the size is elsewhere, as it may have more than 32 bits.
pub(super) fn rf64(id: &[u8; 4]) -> Vec<u8> {
    let sizes = [0, 2 * LEN as u64, LEN as u64].map(u64::to_le_bytes).concat();
    let long = chunk(b"ds64", 28, &[&sizes[..], &[0; 4]].concat());
    let sound = chunk(b"data", u32::MAX, &little(&tone()));
    let list = chunk(b"LIST", 10, b"INFOISFTab");
    [id, &u32::MAX.to_le_bytes()[..], b"WAVE", &long, &format(1, 1, 16), &sound, &list].concat()
}

/// W64, of chunks with long names.
pub(super) fn wave64(data: u64) -> Vec<u8> {
    const TAIL: [u8; 12] = [0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0x00, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a];
    let chunk = |id: &[u8; 4], size: u64, body: &[u8]| [id, &TAIL[..], &size.to_le_bytes(), body].concat();
    let about = &format(1, 1, 16)[8..];
    let body = [b"wave", &TAIL[..], &chunk(b"fmt ", 40, about), &chunk(b"data", data, &little(&tone()))].concat();
    let riff = [0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0x00, 0x00];
    [b"riff", &riff[..], &(body.len() as u64 + 24).to_le_bytes(), &body].concat()
}

pub(super) fn aiff(form: u32, sound: u32) -> Vec<u8> {
    let rate = [0x40, 0x0b, 0xfa, 0, 0, 0, 0, 0, 0, 0];
    let about = [&1u16.to_be_bytes()[..], &(LEN as u32).to_be_bytes(), &16u16.to_be_bytes(), &rate].concat();
    let head = [b"FORM", &form.to_be_bytes()[..], b"AIFF", b"COMM", &18u32.to_be_bytes(), &about].concat();
    [&head, &b"SSND"[..], &sound.to_be_bytes(), &[0; 8], &big(&tone())].concat()
}

pub(super) fn au(size: u32) -> Vec<u8> {
    let head = [24, size, 3, 8000, 1].map(u32::to_be_bytes).concat();
    [b".snd", &head[..], &big(&tone())].concat()
}

pub(super) fn caf(size: i64) -> Vec<u8> {
    let about = [&8000f64.to_be_bytes()[..], b"lpcm", &[0, 2, 1, 1, 16].map(u32::to_be_bytes).concat()].concat();
    let head = [b"caff\0\x01\0\0desc", &(about.len() as i64).to_be_bytes()[..], &about].concat();
    [&head, &b"data"[..], &size.to_be_bytes(), &[0; 4], &big(&tone())].concat()
}

/// The frames of an MP3 without its first one, which is a tag.
pub(super) fn untagged(mp3: &[u8]) -> &[u8] {
    let second = (4..mp3.len()).find(|i| mp3[*i..].starts_with(&mp3[..2]) && mp3.len() - i > 100).unwrap();
    &mp3[second..]
}

#[test]
fn sizes_that_are_wrong_or_unknown_cut_nothing() {
    let whole = 2 * LEN as u32;
    let (unknown, no_length) = (u32::MAX, "has no length");
    let list = chunk(b"LIST", 10, b"INFOISFTab");
    for (name, bytes, warning) in [
        ("as it should be", wav(36 + whole, whole, b"", b""), ""),
        ("with chunks around", wav(72 + whole, whole, &list, &list), ""),
        ("a pipe", wav(unknown, unknown, &list, b""), no_length),
        ("lame's pipe", wav(0x8000_0023, 0x7fff_ffff, b"", b""), no_length),
        ("a crashed recorder", wav(36, 0, b"", b""), no_length),
        ("RIFF without its head", wav(28 + whole, whole, b"", b""), ""),
        ("too long", wav(36 + 2 * whole, 2 * whole, b"", b""), "6000 bytes (50 %)"),
        ("too short", wav(36 + 500, 500, b"", b""), "has 500 bytes of audio"),
        ("LIST without padding", wav(50 + whole, whole, &chunk(b"LIST", 5, b"INFOx"), b""), ""),
        (
            "LIST far too long",
            wav(50 + whole, whole, &chunk(b"LIST", 1 << 30, b"INFO"), b""),
            "LIST chunk has a wrong size",
        ),
        (
            "LIST too short",
            wav(50 + whole, whole, &chunk(b"LIST", 3, b"INFO\0\0\0\0\0"), b""),
            "LIST chunk has a wrong size",
        ),
        ("W64", wave64(2 * LEN as u64 + 24), ""),
        ("W64 of a pipe", wave64(i64::MAX as u64), no_length),
        ("AIFF", aiff(46 + whole, 8 + whole), ""),
        ("AIFF of a pipe", aiff(0x7f00_0050, 0x7f00_0008), no_length),
        ("AIFF without sizes", aiff(0, 0), no_length),
        ("AU", au(whole), ""),
        ("AU of a pipe", au(unknown), no_length),
        ("CAF", caf(i64::from(whole) + 4), ""),
        ("CAF of a pipe", caf(-1), no_length),
    ] {
        expect(name, &bytes, LEN, 8000, warning);
        let (samples, ..) = decoded(&bytes);
        assert!(samples.iter().zip(tone()).all(|(got, want)| *got == f32::from(want) / 32_768.0), "{name}");
    }
    for id in [b"RF64", b"BW64"] {
        expect("RF64", &rf64(id), LEN, 8000, "");
    }
}

#[test]
fn an_mp3_is_as_long_as_its_frames() {
    expect("tagged", MP3, 1600, 16_000, "");
    let bare = untagged(MP3);
    let frames = decoded(bare).0.len();
    assert!(frames.is_multiple_of(576) && frames >= 1600 + 1105, "{frames}");
    expect("without a tag", bare, frames, 16_000, "");
    let count = MP3.windows(4).position(|w| w == b"Xing").unwrap() + 8;
    for (said, warning) in [(1u32, "more than the"), (90, "of the")] {
        let mut wrong = MP3.to_vec();
        wrong[count..count + 4].copy_from_slice(&said.to_be_bytes());
        let (samples, _, condition) = decoded(&wrong);
        assert!(samples.len() >= 1600 && samples.len() <= frames, "{}", samples.len());
        assert!(condition.warnings[0].contains(warning) && !condition.damaged, "{condition:?}");
    }
    let tags = [&[0; 128][..], b"ID3\x04\0\0\0\0\0\x05hello"].concat();
    let tags = [b"TAG", &tags[3..]].concat();
    expect("joined, with tags between", &[MP3, &tags, MP3].concat(), 3200, 16_000, "consists of several files");
}

#[test]
fn channels_and_rates_may_change_in_mid_file() {
    let (samples, sr, condition) = decoded(&[untagged(MP3), STEREO_MP3].concat());
    let longer = samples.len() - decoded(untagged(MP3)).0.len();
    assert_eq!((sr, longer.abs_diff(8064 * 16_000 / 22_050) <= 1), (16_000, true), "{condition:?}");
    assert!(condition.warnings.iter().any(|line| line.contains("from 16000 to 22050 Hz")), "{condition:?}");
    assert!(!condition.damaged);
}

#[test]
fn concatenated_streams_are_decoded_in_sequence() {
    expect("ogg", OGG, 1600, 16_000, "");
    expect("chained ogg", &[OGG, OGG].concat(), 3200, 16_000, "consists of several streams");
    expect("chained opus", &[OPUS, OPUS, OPUS].concat(), 3 * 14_400, 48_000, "consists of several streams");
}

#[test]
fn delay_and_padding_of_encoders_are_removed() {
    expect("AAC in MP4", M4A, 6615, 22_050, "");
    expect("AAC in fragments", FRAGMENTS, 8192, 22_050, "");
    expect("ALAC in MP4", ALAC, 4800, 16_000, "");
    expect("FLAC in Ogg", OGG_FLAC, 4800, 16_000, "");
    expect("Opus in Ogg", OPUS, 14_400, 48_000, "");
    expect("Opus in WebM", WEBM, 14_400, 48_000, "");
    // Vorbis has no delay; its last block is longer than the audio.
    let len = decoded(MKA).0.len();
    assert!((6615..6615 + 128).contains(&len), "{len}");
    // The tone is where it was: its first zero crossing upwards is at the start of a period.
    for (name, bytes) in [("m4a", M4A), ("opus", OPUS), ("webm", WEBM), ("mka", MKA)] {
        let (samples, sr, _) = decoded(bytes);
        let period = f64::from(sr) / 440.0;
        let from = samples.len() / 2;
        let at = (from..).find(|i| samples[*i] < 0.0 && samples[i + 1] >= 0.0).unwrap();
        let exact = at as f64 + f64::from(-samples[at] / (samples[at + 1] - samples[at]));
        let off = (exact / period).round() * period - exact;
        // Just over a sample at 22 050 Hz: Opus at so low a rate works at 16 kHz internally.
        assert!(off.abs() / f64::from(sr) < 6e-5, "{name}: {off} samples off");
    }
}

#[test]
fn flac_with_impossible_block_sizes_is_decoded() {
    let mut bytes = FLAC.to_vec();
    bytes[8..10].copy_from_slice(&[0, 0]);
    expect("no smallest block", &bytes, 1600, 16_000, "blocks of 0 to");
    assert_eq!(decoded(&bytes).0, decoded(FLAC).0);
}

/// An MP4 whose description, at its end, is put before the audio data.
fn moov_first(file: &[u8]) -> Vec<u8> {
    let place = |name: &[u8]| file.windows(4).position(|word| word == name).unwrap() - 4;
    let (mdat, moov) = (place(b"mdat"), place(b"moov"));
    let mut description = file[moov..].to_vec();
    let offset = place(b"stco") - moov + 16;
    let be32 = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    assert_eq!(be32(&description[offset - 4..offset]), 1, "a single chunk");
    let moved = be32(&description[offset..offset + 4]) + description.len() as u32;
    description[offset..offset + 4].copy_from_slice(&moved.to_be_bytes());
    [&file[..mdat], &description, &file[mdat..moov]].concat()
}

#[test]
fn the_available_part_of_a_truncated_file_is_decoded() {
    let bytes = wav(36 + 6000, 6000, b"", b"");
    expect("wav", &bytes[..bytes.len() - 2000], LEN - 1000, 8000, "2000 bytes (33 %)");
    for (name, bytes, full) in [
        ("mp3", MP3, 1600),
        ("webm", WEBM, 14_400),
        ("m4a", &moov_first(M4A)[..], 6615),
        ("alac", &moov_first(ALAC)[..], 4800),
        ("fragments", FRAGMENTS, 8192),
        ("aiff", &aiff(46 + 6000, 8 + 6000)[..], LEN),
        ("caf", &caf(6004)[..], LEN),
        ("w64", &wave64(6024)[..], LEN),
        ("rf64", &rf64(b"RF64")[..], LEN),
        ("au", &au(6000)[..], LEN),
    ] {
        let (samples, _, condition) = decoded(&bytes[..bytes.len() * 9 / 10]);
        assert!((1..full).contains(&samples.len()), "{name}: {} samples", samples.len());
        assert!(!condition.damaged && condition.warnings.len() == 1, "{name}: {condition:?}");
    }
    // The last page, which is all of the last stream, is incomplete.
    for bytes in [OGG, OPUS, OGG_FLAC] {
        let (whole, ..) = decoded(bytes);
        let (samples, _, condition) = decoded(&bytes.repeat(3)[..bytes.len() * 27 / 10]);
        assert_eq!((samples.len(), condition.damaged), (2 * whole.len(), false), "{condition:?}");
        assert!(condition.warnings.iter().any(|line| line.starts_with("is truncated")), "{condition:?}");
    }
}

/// The audio data of the last fragment was lost, all of it, or none of the file was decoded.
#[test]
fn each_packet_of_a_truncated_mp4_in_fragments_is_decoded() {
    const PACKETS: [usize; 8] = [1100, 1352, 1642, 1829, 2114, 2325, 2653, 2803];
    for cut in (1100..2803).step_by(11).chain(PACKETS) {
        let whole = PACKETS.iter().filter(|end| **end <= cut).count();
        let (samples, _, condition) = decoded(&FRAGMENTS[..cut]);
        assert_eq!(samples.len(), 1024 * whole, "{cut} bytes: {condition:?}");
        assert!(!condition.damaged && condition.warnings.len() <= 1, "{cut} bytes: {condition:?}");
        // What ends with a fragment, or within the header of the next box, looks complete.
        let between = |end: &usize| (*end..end + 8).contains(&cut);
        assert_eq!(
            condition.warnings.is_empty(),
            PACKETS.iter().skip(1).step_by(2).any(between),
            "{cut}: {condition:?}"
        );
    }
}

#[test]
fn damage_in_the_middle_is_replaced_by_silence_with_a_warning() {
    for (name, bytes, len) in [("m4a", M4A, 6615), ("mp3", STEREO_MP3, 0), ("wav", &wav(6036, 6000, b"", b""), LEN)] {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 3;
        bytes[middle..middle + 150].fill(0xff);
        let (samples, _, condition) = decoded(&bytes);
        assert!(len == 0 || samples.len() == len, "{name}: {} samples", samples.len());
        // Damaged samples of PCM cannot be detected.
        assert_eq!(condition.damaged, name != "wav", "{name}: {condition:?}");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut frames = vec![0.25f32; 4000];
        frames[2 * 1500 + 1] = bad;
        let sound: Vec<u8> = frames.iter().flat_map(|v| v.to_le_bytes()).collect();
        let sound = chunk(b"data", 16_000, &sound);
        let (samples, _, condition) =
            decoded(&[b"RIFF", &16_036u32.to_le_bytes()[..], b"WAVE", &format(3, 2, 32), &sound].concat());
        assert_eq!((samples.len(), samples[1500]), (2000, 0.125));
        assert!(condition.damaged && condition.warnings[0].contains("sample 1500 of channel 2"), "{condition:?}");
    }
    // However many there are, they are one line.
    let frames: Vec<u8> = (0..40_000).flat_map(|i| if i % 7 == 5 { f32::NAN } else { 0.25 }.to_le_bytes()).collect();
    let sound = chunk(b"data", 160_000, &frames);
    let (_, _, condition) =
        decoded(&[b"RIFF", &160_036u32.to_le_bytes()[..], b"WAVE", &format(3, 2, 32), &sound].concat());
    let line = "sample 2 of channel 2 is NaN, the first of 5714 such samples; replaced by 0";
    assert_eq!(condition.warnings, [line]);
}

#[test]
fn unsupported_codecs_are_named() {
    let of = |tag, bits| {
        let sound = chunk(b"data", 6000, &little(&tone()));
        let (_dir, path) = file("a.wav", &[b"RIFF\0\0\0\0WAVE", &format(tag, 1, bits)[..], &sound].concat());
        open(&path).map(|_| ()).unwrap_err().to_string()
    };
    for (tag, name) in [(0x31, "GSM 6.10"), (0x161, "Windows Media Audio"), (0x2000, "AC-3"), (0x9999, "unknown codec")]
    {
        let line = of(tag, 16);
        assert!(line.contains(name) && line.contains("ffmpeg -i"), "{line}");
    }
    // HE-AAC is decoded as far as it is AAC.
    let mut bytes = M4A.to_vec();
    let config = bytes.windows(4).position(|w| w == b"\x05\x80\x80\x80").unwrap() + 5;
    assert_eq!(bytes[config] >> 3, 2, "AAC-LC");
    // Object type 5, the rates of core and whole, then object type 2.
    bytes[config..config + 2].copy_from_slice(&[0x2b, 0x89]);
    let (_dir, path) = file("he.m4a", &bytes);
    match open(&path) {
        Ok(decoder) => assert!(decoder.condition().warnings[0].contains("HE-AAC"), "{:?}", decoder.condition()),
        Err(error) => assert!(error.to_string().contains("AAC"), "{error}"),
    }
}

#[test]
fn an_mp3_or_adpcm_in_a_wav_is_decoded() {
    let bare = untagged(MP3);
    let inner = |tag, body: &[u8], block: u16| {
        let mut about = format(tag, 2, 0);
        about[12..16].copy_from_slice(&16_000u32.to_le_bytes());
        about[20..22].copy_from_slice(&block.to_le_bytes());
        [b"RIFF\0\0\0\0WAVE", &about[..], &chunk(b"data", body.len() as u32, body)].concat()
    };
    expect("mp3", &inner(0x55, bare, 1), decoded(bare).0.len(), 16_000, "");
    // Blocks of 64 bytes: a header of 4 bytes for each channel, then two samples per byte.
    expect("IMA ADPCM", &inner(0x11, &[0; 640], 64), 10 * 57, 16_000, "");
    expect("MS ADPCM", &inner(2, &[0; 640], 64), 10 * 52, 16_000, "");
}

#[test]
fn opposite_channels_do_not_cancel_out() {
    let stereo = |other: &dyn Fn(i16) -> i16| {
        let sound: Vec<i16> = tone().iter().flat_map(|v| [*v, other(*v)]).collect();
        let sound = chunk(b"data", 4 * LEN as u32, &little(&sound));
        [b"RIFF\0\0\0\0WAVE", &format(1, 2, 16)[..], &sound].concat()
    };
    let opposite = stereo(&|v| -v);
    expect("opposite", &opposite, LEN, 8000, "has opposite channels");
    let (samples, ..) = decoded(&opposite);
    assert!(samples.iter().zip(tone()).all(|(got, want)| got.abs() == f32::from(want).abs() / 32_768.0));
    // 30 dB are loud enough.
    expect("nearly so", &stereo(&|v| (f32::from(v) * -0.93) as i16), LEN, 8000, "");
    expect("one silent", &stereo(&|_| 0), LEN, 8000, "");
    // They begin to cancel out in mid-file, as after an announcement.
    let mono: Vec<i16> = tone().repeat(5);
    let sound: Vec<i16> = [1, -1].iter().flat_map(|sign| mono.iter().flat_map(move |v| [*v, v * sign])).collect();
    let file = [b"RIFF\0\0\0\0WAVE", &format(1, 2, 16)[..], &chunk(b"data", 20 * LEN as u32 * 2, &little(&sound))];
    let (samples, _, condition) = decoded(&file.concat());
    assert!(condition.warnings.iter().any(|line| line.contains("opposite channels")), "{condition:?}");
    assert_eq!(samples.len(), 10 * LEN);
    assert!(samples[8 * LEN..].iter().any(|v| v.abs() > 0.3), "silent after an announcement");
}

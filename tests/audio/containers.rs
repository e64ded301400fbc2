//! Containers made here from the packets of others: lengths, delays, damage.

use super::decode::*;

/// The AAC packets of an MP4.
fn aac() -> Vec<&'static [u8]> {
    let at = M4A.windows(4).position(|word| word == b"stsz").unwrap();
    let be32 = |at: usize| u32::from_be_bytes(M4A[at..at + 4].try_into().unwrap()) as usize;
    let sizes = (0..be32(at + 12)).map(|i| be32(at + 16 + 4 * i));
    let mut from = 44;
    let next = |size| {
        from += size;
        &M4A[from - size..from]
    };
    sizes.map(next).collect()
}

/// The Opus packets of an Ogg stream, of which none continues on another page.
fn opus() -> Vec<&'static [u8]> {
    let mut packets = vec![];
    let mut at = 0;
    while at < OPUS.len() {
        let count = usize::from(OPUS[at + 26]);
        let table = &OPUS[at + 27..at + 27 + count];
        at += 27 + count;
        let mut size = 0;
        for &part in table {
            size += usize::from(part);
            if part < 255 {
                packets.push(&OPUS[at..at + size]);
                at += std::mem::take(&mut size);
            }
        }
    }
    packets.split_off(2)
}

/// AAC in frames with headers: 22 050 Hz, mono.
pub(super) fn adts() -> Vec<u8> {
    let frame = |packet: &&[u8]| {
        let size = packet.len() + 7;
        let head = [0xff, 0xf1, 0x5c, 0x40 | (size >> 11) as u8, (size >> 3) as u8, (size << 5) as u8 | 0x1f, 0xfc];
        [&head[..], packet].concat()
    };
    aac().iter().flat_map(frame).collect()
}

/// CAF with packets of different sizes: delay and length in the table, which follows them.
fn packed(kind: &[u8; 4], sr: f64, frames: u32, delay: u32, cookie: &[u8], packets: &[&[u8]]) -> Vec<u8> {
    let chunk = |id: &[u8; 4], body: &[u8]| [id, &(body.len() as i64).to_be_bytes()[..], body].concat();
    let about = [&sr.to_be_bytes()[..], kind, &[0, 0, frames, 1, 0].map(u32::to_be_bytes).concat()].concat();
    let sizes = packets.iter().flat_map(|packet| [0x80 | (packet.len() >> 7) as u8, packet.len() as u8 & 0x7f]);
    let valid = packets.len() as u64 * u64::from(frames) - u64::from(delay) - 100;
    let counts = [packets.len() as u64, valid].map(u64::to_be_bytes).concat();
    let table = [&counts[..], &[delay, 100].map(u32::to_be_bytes).concat(), &sizes.collect::<Vec<u8>>()].concat();
    let data = [&[0; 4], &packets.concat()[..]].concat();
    let cookie = if cookie.is_empty() { vec![] } else { chunk(b"kuki", cookie) };
    [b"caff\0\x01\0\0", &chunk(b"desc", &about)[..], &cookie, &chunk(b"data", &data), &chunk(b"pakt", &table)].concat()
}

pub(super) fn caf_aac() -> Vec<u8> {
    // Nested descriptors around a configuration of two bytes.
    let esds = [&[3, 22, 0, 0, 0, 4, 17, 0x40, 0x15][..], &[0; 11], &[5, 2, 0x13, 0x88]].concat();
    packed(b"aac ", 22_050.0, 1024, 1024, &esds, &aac())
}

pub(super) fn caf_opus() -> Vec<u8> {
    packed(b"opus", 48_000.0, 960, 312, b"", &opus())
}

/// An MP4 with other edits: milliseconds, and start in samples.
pub(super) fn edited(edits: &[(u32, u32)]) -> Vec<u8> {
    let at = M4A.windows(4).position(|word| word == b"elst").unwrap();
    let list = edits.iter().flat_map(|(len, from)| [*len, *from, 0x1_0000].map(u32::to_be_bytes)).flatten();
    let count = (edits.len() as u32).to_be_bytes();
    grown(
        &[&M4A[..at + 8], &count, &list.collect::<Vec<u8>>(), &M4A[at + 24..]].concat(),
        &["moov", "trak", "edts", "elst"],
    )
}

/// With the sizes of some boxes adjusted to the length of the file.
fn grown(file: &[u8], boxes: &[&str]) -> Vec<u8> {
    let (mut file, more) = (file.to_vec(), file.len() as i64 - M4A.len() as i64);
    for name in boxes {
        let at = file.windows(4).position(|word| word == name.as_bytes()).unwrap() - 4;
        let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
        file[at..at + 4].copy_from_slice(&((i64::from(size) + more) as u32).to_be_bytes());
    }
    file
}

const ITUNES: &[u8] = b" 00000000 00000240 00000100 00000000000005A0 00000000 00000000";

/// The tag of iTunes, here a delay of 576 and 1 440 samples, before an MP3 without another.
pub(super) fn itunes_mp3() -> Vec<u8> {
    let text = [&b"\0engiTunSMPB\0"[..], ITUNES].concat();
    let frame = [b"COMM", &(text.len() as u32).to_be_bytes()[..], &[0; 2], &text].concat();
    [b"ID3\x03\0\0\0\0\0", &[frame.len() as u8][..], &frame, untagged(MP3)].concat()
}

/// The same in an MP4 without edits.
pub(super) fn itunes_m4a() -> Vec<u8> {
    let value = [b"----mean com.apple.iTunes name iTunSMPB data\0\0\0\x01\0\0\0\0", ITUNES].concat();
    let mut file = grown(&[M4A, &value].concat(), &["moov", "udta"]);
    let at = file.windows(4).position(|word| word == b"edts").unwrap();
    file[at..at + 4].copy_from_slice(b"free");
    file
}

#[test]
fn packets_in_other_containers_have_the_same_samples() {
    let (whole, ..) = decoded(M4A);
    let frames = 1024 * aac().len();
    expect("ADTS", &adts(), frames, 22_050, "whether it is HE-AAC");
    assert_eq!(decoded(&adts()).0[1024..1024 + whole.len()], whole);
    expect("AAC in CAF", &caf_aac(), frames - 1124, 22_050, "");
    assert_eq!(decoded(&caf_aac()).0[..whole.len().min(frames - 1124)], whole[..whole.len().min(frames - 1124)]);
    let opus = 960 * opus().len() - 412;
    expect("Opus in CAF", &caf_opus(), opus, 48_000, "");
    let (ogg, ..) = decoded(OPUS);
    let len = opus.min(ogg.len());
    assert_eq!(decoded(&caf_opus()).0[..len], ogg[..len]);
}

#[test]
fn edit_lists_may_have_several_parts() {
    let (whole, ..) = decoded(M4A);
    let parts = edited(&[(100, 1024), (100, 5000)]);
    expect("two parts", &parts, 4410, 22_050, "");
    assert_eq!(decoded(&parts).0, [&whole[..2205], &whole[5000 - 1024..5000 - 1024 + 2205]].concat());
    let back = edited(&[(100, 5000), (100, 1024)]);
    // The last packet is shorter by its duration.
    expect("reordered", &back, 7639, 22_050, "reorders");
}

#[test]
fn the_delay_that_itunes_writes_is_removed() {
    expect("MP3", &itunes_mp3(), 1440, 16_000, "");
    let (all, ..) = decoded(untagged(MP3));
    assert_eq!(decoded(&itunes_mp3()).0, all[576 + 529..576 + 529 + 1440]);
    expect("MP4", &itunes_m4a(), 1440, 22_050, "");
    assert_eq!(decoded(&itunes_m4a()).0, decoded(&adts()).0[576..576 + 1440]);
}

#[test]
fn what_follows_a_file_is_not_audio() {
    let tag = [b"TAG", &[b'x'; 125][..]].concat();
    for (name, bytes, len, sr) in [("flac", FLAC, 1600, 16_000), ("ogg", OGG, 1600, 16_000), ("m4a", M4A, 6615, 22_050)]
    {
        expect(name, &[bytes, &tag].concat(), len, sr, "");
    }
    expect("mp3", &[MP3, &tag].concat(), 1600, 16_000, "");
}

#[test]
fn what_follows_damage_is_kept() {
    let middle = |bytes: &[u8]| bytes.len() * 2 / 5;
    let over = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let (at, size) = (middle(&bytes), bytes.len() / 6);
        bytes[at..at + size].fill(0xff);
        bytes
    };
    let into = |bytes: &[u8]| [&bytes[..middle(bytes)], &[0x55; 500], &bytes[middle(bytes)..]].concat();
    // Long enough for the frames before the last to need none that is damaged.
    let mp3 = untagged(MP3).repeat(3);
    for (name, bytes) in [("mp3", &mp3[..]), ("adts", &adts()), ("webm", WEBM)] {
        let (whole, _, sound) = decoded(bytes);
        for (damage, damaged) in [("overwritten", over(bytes)), ("inserted", into(bytes))] {
            let (samples, _, condition) = decoded(&damaged);
            assert!(
                condition.damaged && condition.warnings.len() == sound.warnings.len() + 1,
                "{name} {damage}: {condition:?}"
            );
            assert!(samples.len() > whole.len() * 2 / 3, "{name} {damage}: {} of {}", samples.len(), whole.len());
            // The end is the same.
            let close = samples.iter().rev().zip(whole.iter().rev()).take(300).all(|(a, b)| (a - b).abs() < 0.02);
            assert!(close, "{name} {damage}: {condition:?}");
        }
    }
    // Of Ogg the damaged pages are missing; it was cut there without a word.
    for bytes in [OGG, OPUS, OGG_FLAC] {
        let (whole, ..) = decoded(bytes);
        let mut damaged = bytes.repeat(3);
        let at = bytes.len() + bytes.len() * 9 / 10;
        damaged[at..at + 20].fill(0xff);
        let (samples, _, condition) = decoded(&damaged);
        assert!(condition.damaged && samples.len() >= 2 * whole.len(), "{}: {condition:?}", samples.len());
    }
    // Bytes too many within an MP4 hide its description, which follows.
    let (samples, _, condition) = decoded(&[&M4A[..700], &[0x55; 100], &M4A[700..]].concat());
    assert_eq!((samples.len(), condition.damaged), (6615, true), "{condition:?}");
}

//! Delay and length as iTunes writes them into ID3 tags and MP4 metadata.

/// In samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gapless {
    pub delay: u64,
    pub padding: u64,
    pub count: u64,
}

impl Gapless {
    const NAME: &[u8] = b"iTunSMPB";
    /// Most bytes of its text.
    const TEXT: usize = 200;
    /// Longest delay or padding that is plausible.
    const LONGEST: u64 = 1 << 16;

    /// Finds `iTunSMPB` in metadata: hexadecimal numbers, of which the second to fourth are these.
    pub fn find(metadata: &[u8]) -> Option<Gapless> {
        // Without the zeros of UTF-16.
        let bytes: Vec<u8> = metadata.iter().copied().filter(|byte| *byte != 0).collect();
        let at = bytes.windows(Self::NAME.len()).position(|part| part == Self::NAME)? + Self::NAME.len();
        let text = &bytes[at..bytes.len().min(at + Self::TEXT)];
        let numbers = text.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| matches!(word.len(), 8 | 16));
        let mut numbers = numbers.map(|word| u64::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
        let (delay, padding, count) = (numbers.nth(1)??, numbers.next()??, numbers.next()??);
        let possible = delay <= Self::LONGEST && padding <= Self::LONGEST && count > 0 && delay + padding > 0;
        possible.then_some(Gapless { delay, padding, count })
    }
}

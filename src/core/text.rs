//! Names as text for people.

/// A class name in words: "mallet percussion" for `mallet_percussion`.
pub(crate) fn in_words(name: &str) -> String {
    name.replace('_', " ").trim().to_owned()
}

/// `text` with a capital first letter.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

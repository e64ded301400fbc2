//! Names of clips, classes and files in messages.

/// The first of `names`.
pub(super) fn examples(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|name| shorten(name).escape_debug().to_string()).collect();
    if names.len() > shown.len() { format!("{}, ...", shown.join(", ")) } else { shown.join(", ") }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

//! Names of classes; names of clips, classes and files in messages.

/// Maximum length of an instrument's name, bytes.
const MAX_NAME: usize = 200;

/// The names of instruments in lower case, with underscores for spaces and hyphens, as in OpenMIC-2018.
pub(crate) fn normalised(name: &str) -> Result<String, String> {
    let words = name.split(|c: char| c.is_whitespace() || c == '-' || c == '_').filter(|word| !word.is_empty());
    let name = words.map(str::to_lowercase).collect::<Vec<String>>().join("_");
    match () {
        _ if name.is_empty() => Err("the name of the instrument is empty".into()),
        _ if name.len() > MAX_NAME => Err(format!("the name of the instrument is longer than {MAX_NAME} bytes")),
        _ if name.chars().any(|c| c.is_control() || c == ';') => {
            Err(format!("the name {:?} contains a control character or a semicolon", shorten(&name)))
        }
        _ => Ok(name),
    }
}

/// The number of the class with this [`normalised`] name; class maps may have other spellings of it.
pub(crate) fn class_named(classes: &[String], name: &str) -> Option<usize> {
    let equal = classes.iter().position(|class| class == name);
    equal.or_else(|| classes.iter().position(|class| normalised(class).is_ok_and(|class| class == name)))
}

/// The first of `names`.
pub(super) fn examples(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|name| shorten(name).escape_debug().to_string()).collect();
    if names.len() > shown.len() { format!("{}, ...", shown.join(", ")) } else { shown.join(", ") }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

//! What the README says of the program is what the program is.

use wmic::ops::OPS;

#[test]
fn the_kernel_table_names_every_room_and_its_shaders() {
    let readme = include_str!("../README.md");
    for entry in OPS {
        let mut files: Vec<String> = entry.shaders.iter().map(|s| format!("`{}`", s.file)).collect();
        files.dedup(); // a file has several variants
        let row = format!("| `{}` | {} | {} |", entry.name, entry.about, files.join(" "));
        assert!(readme.contains(&row), "the README's kernel table lacks this row:\n{row}");
    }
}

#[test]
fn nothing_is_left_to_fill_in() {
    let readme = include_str!("../README.md");
    let gap = readme.split('@').skip(1).find(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    assert_eq!(gap, None, "the README has a gap");
}

#[test]
fn every_model_is_named() {
    let readme = include_str!("../README.md");
    for model in wmic::nn::MODELS {
        assert!(readme.contains(&format!("`{}`", model.name)), "the README does not name {}", model.name);
    }
}

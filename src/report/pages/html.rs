//! Common parts of HTML pages: the frame with its style, escaped text and embedded pictures.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::Path;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use crate::Result;
use crate::core::files::write_atomic;
use crate::report::plots::figure::{self, Figure, NARROW, WIDE};
use crate::report::tables::table::printable;

const FRAME: &str = include_str!("../../../assets/page/page.html");
pub(crate) const STYLE: &str = include_str!("../../../assets/page/page.css");
const SORT: &str = include_str!("../../../assets/page/sort.js");

/// Writes a self-contained page to `path`, atomically. `style` and `script` are added to those of all pages; `body`
/// writes the content of `<main>`.
pub fn write(
    path: &Path,
    title: &str,
    style: &str,
    script: &str,
    mut body: impl FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    write_atomic(path, |out| {
        // Written piece by piece, so that no untrusted text is ever interpreted as a placeholder.
        let mut rest = FRAME;
        while let Some((before, (name, after))) =
            rest.split_once("{{").and_then(|(b, r)| Some((b, r.split_once("}}")?)))
        {
            out.write_all(before.as_bytes())?;
            match name {
                "title" => write!(out, "{}", Escaped(title))?,
                "style" => write!(out, "{STYLE}\n{style}")?,
                "script" => write!(out, "{SORT}\n{script}")?,
                "version" => write!(out, "Written by wmic {}", env!("CARGO_PKG_VERSION"))?,
                _ => body(out)?,
            }
            rest = after;
        }
        out.write_all(rest.as_bytes())
    })
}

/// Untrusted text, escaped for content and quoted attributes.
pub(crate) struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        printable(self.0).chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => write!(f, "{c}"),
        })
    }
}

/// A PNG as data URI.
pub(crate) struct Image<'a>(pub &'a [u8]);

impl Display for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "data:image/png;base64,{}", Base64Display::new(self.0, &STANDARD))
    }
}

/// A figure of a page: as SVG for wide and for narrow screens, under its title, with a link to its file.
pub(crate) struct PageFigure {
    title: String,
    file: &'static str,
    wide: String,
    narrow: String,
}

impl PageFigure {
    pub fn new(figure: &impl Figure, file: &'static str) -> Result<PageFigure> {
        let (wide, narrow) = (figure::svg(figure, WIDE)?, figure::svg(figure, NARROW)?);
        Ok(PageFigure { title: figure.title().to_owned(), file, wide, narrow })
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (title, file) = (Escaped(&self.title), self.file);
        writeln!(out, "<figure class=\"card plot\"><h2>{title}</h2>")?;
        for (class, svg) in [("wide", &self.wide), ("narrow", &self.narrow)] {
            writeln!(out, "<div class=\"{class}\" role=\"img\" aria-label=\"{title}\">\n{svg}</div>")?;
        }
        writeln!(out, "<figcaption><a href=\"{file}\">{file}</a></figcaption></figure>")
    }
}

/// The header cell of a column that sorts, upwards at the first click if `up`; `sorted` if the rows are in that order
/// already.
pub fn header(out: &mut dyn Write, name: &str, up: bool, sorted: bool) -> io::Result<()> {
    let first = if up { "ascending" } else { "descending" };
    let sorted = if sorted { format!(" aria-sort=\"{first}\"") } else { String::new() };
    writeln!(out, "<th scope=\"col\" data-first=\"{first}\"{sorted}><button type=\"button\">{name}</button></th>")
}

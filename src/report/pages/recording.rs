//! Recordings as one self-contained HTML page: pictures with a cursor that follows the audio, and tables.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;

use crate::Result;
use crate::predict::recognition::{Instrument, Recognition, Segment};
use crate::report::numbers::{bytes, clock, duration};
use crate::report::pages::html::{self, Escaped, Image};
use crate::report::plots::spectrogram::{BAR, FEW_PATHS, Picture, colour_map, pixels};

const STYLE: &str = include_str!("../../../assets/page/recordings.css");
const SCRIPT: &str = include_str!("../../../assets/page/recordings.js");

/// Largest audio file that is embedded, and largest total, in bytes: browsers get slow with larger pages.
const EMBEDDED: u64 = 24 << 20;
const ALL_EMBEDDED: u64 = 240 << 20;
/// Pixels of a bar, over any width.
const STRIP: usize = 1600;
/// Rows of a spectrogram.
const MAX_ROWS: usize = 520;

/// Writes a self-contained page of the recordings to `path`, atomically.
///
/// The audio is embedded if the file is at most 24 MiB (240 MiB in all) and of a format that browsers play, else it is
/// linked. If it cannot be read, the page has a note instead. Memory does not grow with the audio.
pub fn write_page(path: impl AsRef<Path>, pictures: &[Picture]) -> Result<()> {
    let path = path.as_ref();
    html::write(path, &title(pictures), STYLE, SCRIPT, |out| recordings(out, pictures, path))
}

fn title(pictures: &[Picture]) -> String {
    match pictures {
        [one] => format!("Instruments in {}", name(one.recognition)),
        _ => format!("Instruments in {} recordings", pictures.len()),
    }
}

fn name(r: &Recognition) -> String {
    r.file.file_name().unwrap_or(r.file.as_os_str()).to_string_lossy().into_owned()
}

fn recordings(out: &mut dyn Write, pictures: &[Picture], page: &Path) -> io::Result<()> {
    if let [one] = pictures {
        return recording(out, one, 0, page, &mut 0, "h1");
    }
    writeln!(out, "<h1>{}</h1>\n<nav aria-label=\"Recordings\"><ul>", Escaped(&title(pictures)))?;
    for (i, picture) in pictures.iter().enumerate() {
        let present: Vec<&str> = picture.bars().iter().map(|i| i.name.as_str()).collect();
        let present = if present.is_empty() { "nothing".into() } else { present.join(", ") };
        let name = name(picture.recognition);
        writeln!(out, "<li><a href=\"#r{i}\">{}<small>{}</small></a></li>", Escaped(&name), Escaped(&present))?;
    }
    writeln!(out, "</ul></nav>")?;
    let mut embedded = 0;
    pictures.iter().enumerate().try_for_each(|(i, picture)| recording(out, picture, i, page, &mut embedded, "h2"))
}

fn recording(
    out: &mut dyn Write,
    picture: &Picture,
    number: usize,
    page: &Path,
    embedded: &mut u64,
    heading: &str,
) -> io::Result<()> {
    let r = picture.recognition;
    let name = name(r);
    let name = Escaped(&name);
    let seeds = if r.seeds.len() == 1 { "1 seed".into() } else { format!("{} seeds", r.seeds.len()) };
    writeln!(out, "<article class=\"recording card\" id=\"r{number}\" data-duration=\"{}\">", r.duration)?;
    writeln!(out, "<{heading}>{name}</{heading}>")?;
    writeln!(out, "<p class=\"meta\">{} · {}, {seeds}</p>", duration(r.duration), Escaped(&r.model))?;
    audio(out, r, page, embedded)?;
    figure(out, picture)?;
    // With several recordings, tables are collapsed.
    let open = if heading == "h1" { " open" } else { "" };
    writeln!(out, "<details{open}><summary>All instruments</summary>")?;
    table(out, r)?;
    writeln!(out, "</details>\n</article>")
}

/// The MIME type of an audio file that browsers play, by its extension.
fn mime(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "wav" => Some("audio/wav"),
        "mp3" => Some("audio/mpeg"),
        "ogg" | "oga" | "opus" => Some("audio/ogg"),
        "flac" => Some("audio/flac"),
        "m4a" | "mp4" => Some("audio/mp4"),
        "aac" => Some("audio/aac"),
        _ => None,
    }
}

fn audio(out: &mut dyn Write, r: &Recognition, page: &Path, embedded: &mut u64) -> io::Result<()> {
    // Anything but a regular file might be readable only once, or be endless.
    let opened = std::fs::metadata(&r.file).and_then(|m| {
        if m.is_file() { Ok((File::open(&r.file)?, m.len())) } else { Err(io::ErrorKind::Unsupported.into()) }
    });
    let Ok((file, size)) = opened else {
        return writeln!(out, "<p class=\"note\">The audio file was not available when this page was written.</p>");
    };
    let label = format!("aria-label=\"Audio of {}\"", Escaped(&name(r)));
    match mime(&r.file) {
        Some(mime) if size <= EMBEDDED.min(ALL_EMBEDDED - *embedded) => {
            write!(out, "<audio controls preload=\"metadata\" {label} src=\"data:{mime};base64,")?;
            let mut encoder = EncoderWriter::new(&mut *out, &STANDARD);
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", r.file.display()));
            *embedded += io::copy(&mut file.take(size), &mut encoder).map_err(named)?;
            encoder.finish()?;
            drop(encoder);
            writeln!(out, "\"></audio>")
        }
        playable => {
            let link = link(&r.file, page);
            let (link, file) = (Escaped(&link), r.file.to_string_lossy());
            let file = Escaped(&file);
            if playable.is_some() {
                writeln!(out, "<audio controls preload=\"metadata\" {label} src=\"{link}\"></audio>")?;
            }
            let why = if playable.is_some() {
                "too large to be part of this page"
            } else {
                "of a format that browsers do not play"
            };
            writeln!(out, "<p class=\"note\">The audio ({}) is {why}: <a href=\"{link}\">{file}</a></p>", bytes(size))
        }
    }
}

/// Link to `file` from `page`: relative if it is below the page's folder, else absolute.
fn link(file: &Path, page: &Path) -> String {
    let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
    let folder = page.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = absolute(file);
    let (prefix, path): (&str, PathBuf) = match file.strip_prefix(absolute(folder)) {
        Ok(below) => ("./", below.to_owned()),
        Err(_) => ("file://", file),
    };
    let path = path.to_string_lossy().replace('\\', "/");
    let root = if prefix == "file://" && !path.starts_with('/') { "/" } else { "" };
    let encoded = path.bytes().map(|b| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' | b':' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    });
    format!("{prefix}{root}{}", encoded.collect::<String>())
}

fn figure(out: &mut dyn Write, picture: &Picture) -> io::Result<()> {
    let r = picture.recognition;
    let bars = picture.bars();
    let attention = if picture.attention { None } else { picture.with_attention() };
    let percent = |seconds: f64| 100.0 * seconds / r.duration;
    // The grid's rows: bars (or the sentence that there are none), spectrogram, axis, legend.
    writeln!(out, "<figure class=\"picture\" style=\"--rows: {}\">", bars.len().max(1) + 1)?;
    writeln!(out, "<div class=\"lane\"></div>")?;
    if bars.is_empty() {
        writeln!(out, "<p class=\"none\" style=\"grid-row: 1\">{}</p>", Escaped(&picture.none()))?;
    }
    let clear: Vec<u8> = (0..=255).collect();
    for (row, i) in bars.iter().enumerate() {
        let name = Escaped(&i.name);
        let strip = |picture: &Picture| {
            let bar = picture.bar(i, STRIP);
            let levels: Vec<u8> = bar.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
            png(STRIP, bar.len(), &levels, &[[BAR.0, BAR.1, BAR.2]; 256], Some(&clear))
        };
        let row = format!("style=\"grid-row: {}\"", row + 1);
        writeln!(out, "<div class=\"name\" {row} title=\"{name}\">{name}</div>")?;
        let (shown, text) = (picture.shown(), segments_text(&i.segments, r.duration));
        let class = if picture.has_maps() { "track map" } else { "track" };
        write!(out, "<div class=\"{class}\" {row} role=\"img\" aria-label=\"{name}, {shown}; plays {text}\">")?;
        write!(out, "<img class=\"answer\" alt=\"\" src=\"{}\">", Image(&strip(picture)?))?;
        if let Some(attention) = &attention {
            write!(out, "<img class=\"attention\" alt=\"\" src=\"{}\">", Image(&strip(attention)?))?;
        }
        for (start, end) in picture.true_times(i) {
            let (left, width) = (percent(start), percent(end - start));
            write!(out, "<b style=\"left:{left:.3}%;width:{width:.3}%\"></b>")?;
        }
        for s in &i.segments {
            write!(out, "<i style=\"left:{:.3}%;width:{:.3}%\"></i>", percent(s.start), percent(s.end - s.start))?;
        }
        let spread = i.spread.map(|s| format!(" <small>± {s:.2}</small>")).unwrap_or_default();
        writeln!(out, "</div>\n<div class=\"p\" {row}>{:.2}{spread}</div>", i.probability)?;
    }
    let row = bars.len().max(1) + 1;
    write!(out, "<div class=\"hz\" style=\"grid-row: {row}\" aria-hidden=\"true\">")?;
    for (share, label) in picture.hz_ticks() {
        write!(out, "<span style=\"bottom:{:.2}%\">{label}</span>", 100.0 * share)?;
    }
    write!(out, "</div>\n<div class=\"spectrogram\" style=\"grid-row: {row}\">")?;
    let (columns, bands) = (picture.columns(), picture.bands());
    if columns > 0 && bands > 0 {
        // More rows than there will be pixels only make the page large.
        let rows = bands.min(MAX_ROWS);
        let image = png(columns, rows, &pixels(&picture.levels(), columns, rows), &colour_map(), None)?;
        write!(out, "<img alt=\"{}\" src=\"{}\">", capitalised(picture.spectrum), Image(&image))?;
    }
    paths(out, picture)?;
    writeln!(out, "</div>")?;
    let [none, most] = picture.ends();
    write!(out, "<div class=\"time\" style=\"grid-row: {}\" aria-hidden=\"true\">", row + 1)?;
    for (share, label) in picture.time_ticks(11) {
        write!(out, "<span style=\"left:{:.3}%\">{label}</span>", 100.0 * share)?;
    }
    writeln!(
        out,
        "</div>\n<figcaption><span>{}: {none} <i class=\"ramp\"></i> {most}</span><span><i class=\"plays\"></i> plays</span>{}\
         <span>{}: quiet <i class=\"loud\"></i> loud</span>{}{}</figcaption>\n</figure>",
        picture.shown(),
        if picture.truth.is_some() { "<span><i class=\"truth\"></i> truth</span>" } else { "" },
        picture.spectrum,
        match attention.is_some() && !bars.is_empty() {
            true => "<label><input type=\"checkbox\" data-attention> attention</label>",
            false => "",
        },
        match picture.paths().is_empty() {
            true => String::new(),
            false => format!("<span><i class=\"path\"></i> glimpses, first to last{}</span>", picture.seed_label()),
        }
    )
}

/// Glimpse paths of the model, as in the picture of [`crate::report::plots::recording`].
fn paths(out: &mut dyn Write, picture: &Picture) -> io::Result<()> {
    let paths = picture.paths();
    if paths.is_empty() {
        return Ok(());
    }
    let percent = |share: f64| format!("{:.2}%", 100.0 * share);
    let place = |(x, y): (f64, f64)| (percent(x), percent(1.0 - y));
    write!(out, "<svg role=\"img\" aria-label=\"Path of the glimpses\">")?;
    for path in &paths {
        let [first, .., last] = path.as_slice() else { continue };
        let few = paths.len() <= FEW_PATHS;
        for mark in [first, last].iter().filter(|_| few) {
            for (w, h) in picture.patches() {
                let (x, y) = place((mark.at.0 - w / 2.0, mark.at.1 + h / 2.0));
                let (w, h, o) = (percent(w), percent(h), 0.75 * mark.weight());
                write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" opacity=\"{o:.2}\"/>")?;
            }
        }
        for (from, to) in path.iter().zip(&path[1..]) {
            let ((x1, y1), (x2, y2)) = (place(from.at), place(to.at));
            for class in ["edge", "way"] {
                write!(out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")?;
            }
        }
        for mark in path {
            let (x, y) = place(mark.at);
            write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{:.1}\"/>", 4.5 * mark.weight())?;
        }
        for (mark, number) in [(first, 1), (last, path.len())].iter().filter(|_| few) {
            let (x, y) = place(mark.at);
            let (dx, anchor) = if mark.at.0 < 0.95 { (6, "start") } else { (-6, "end") };
            let dy = if mark.at.1 < 0.9 { -7 } else { 15 };
            write!(out, "<text x=\"{x}\" y=\"{y}\" dx=\"{dx}\" dy=\"{dy}\" text-anchor=\"{anchor}\">{number}</text>")?;
        }
    }
    write!(out, "</svg>")
}

/// The first few segments as text.
fn segments_text(segments: &[Segment], length: f64) -> String {
    const FEW: usize = 6;
    let at = |t| clock(t, length, 0.1);
    let mut text: Vec<String> =
        segments.iter().take(FEW).map(|s| format!("{} to {}", at(s.start), at(s.end))).collect();
    if segments.len() > FEW {
        text.push(format!("and {} more segments", segments.len() - FEW));
    }
    if text.is_empty() { "without a clear time".into() } else { text.join(", ") }
}

pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// `levels` (height, width) as PNG whose level i has the colour `palette[i]`, and the opacity `alpha[i]`.
pub(crate) fn png(
    width: usize,
    height: usize,
    levels: &[u8],
    palette: &[[u8; 3]; 256],
    alpha: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    if let Some(alpha) = alpha {
        encoder.set_trns(alpha);
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(levels)?;
    writer.finish()?;
    Ok(bytes)
}

fn table(out: &mut dyn Write, r: &Recognition) -> io::Result<()> {
    writeln!(out, "<div class=\"scroll\"><table>\n<caption>All instruments; the headers sort</caption>\n<thead><tr>")?;
    let up = ["instrument", "first onset"];
    for name in ["instrument", "probability", "± spread", "present", "first onset", "total"] {
        html::header(out, name, up.contains(&name), name == "probability")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    r.ranked().into_iter().try_for_each(|i| row(out, i, r.duration))?;
    writeln!(out, "</tbody></table></div>")
}

fn row(out: &mut dyn Write, i: &Instrument, length: f64) -> io::Result<()> {
    let (name, p) = (Escaped(&i.name), i.probability);
    let present = i.present;
    write!(out, "<tr{}>", if present { " class=\"present\"" } else { "" })?;
    write!(out, "<td title=\"{name}\">{name}</td>")?;
    write!(out, "<td class=\"likely\" style=\"--p:{p:.3}\" data-v=\"{p}\">{p:.2}</td>")?;
    let total = i.segments.iter().map(|s| s.end - s.start).sum();
    let onset = i.segments.first().map(|s| (s.start, clock(s.start, length, 0.1)));
    let total = onset.is_some().then(|| (total, clock(total, length, 0.1)));
    let present = (f64::from(u8::from(present)), if present { "yes".to_owned() } else { "no".to_owned() });
    for cell in [i.spread.map(|s| (s, format!("{s:.2}"))), Some(present), onset, total] {
        let (value, text) = cell.map(|(v, text)| (v.to_string(), text)).unwrap_or_default();
        write!(out, "<td data-v=\"{value}\">{text}</td>")?;
    }
    writeln!(out, "</tr>")
}

//! A recording as one self-contained HTML page: a picture that zooms, with a cursor that follows the audio, and a
//! table.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;

use crate::Result;
use crate::core::numbers::{self, bytes, clock, duration};
use crate::core::text::{capitalised, in_words};
use crate::predict::recognition::{Instrument, Recognition};
use crate::report::pages::html::{self, Escaped, Image};
use crate::report::plots::png::indexed;
use crate::report::plots::spectrogram::{BAR, FEW_PATHS, Picture, colour_map, pixels};

pub(crate) const STYLE: &str = include_str!("../../../assets/page/recording.css");
const SCRIPT: &str = include_str!("../../../assets/page/recording.js");

/// Largest audio file that is embedded, in bytes: browsers get slow with larger pages.
const EMBEDDED: u64 = 24 << 20;
/// Pixels of a bar, over any width: at least and at most.
const STRIP: [usize; 2] = [1600, 8192];
/// Rows of a spectrogram.
const MAX_ROWS: usize = 520;

/// Writes a self-contained page of the recording to `path`, atomically.
///
/// With `embed` the audio is part of the page if the file is at most 24 MiB and of a format that browsers play; else it
/// is linked. If it cannot be read, the page has a note instead. Memory does not grow with the audio.
pub fn write_page(path: impl AsRef<Path>, picture: &Picture, embed: bool) -> Result<()> {
    let path = path.as_ref();
    let title = format!("Instruments in {}", name(picture.recognition));
    html::write(path, &title, STYLE, SCRIPT, |out| recording(out, picture, path, embed, ""))
}

/// As [`write_page`] with linked audio, as a page of an index: with a line `entry` for the index, and a link to
/// `index`.
pub(super) fn write_entry(path: &Path, picture: &Picture, entry: &str, index: &str) -> Result<()> {
    let title = format!("Instruments in {}", name(picture.recognition));
    html::write(path, &title, STYLE, SCRIPT, |out| {
        writeln!(out, "{entry}")?;
        let back = format!("<a class=\"back\" href=\"{}\">All recordings</a>", Escaped(index));
        recording(out, picture, path, false, &back)
    })
}

fn name(r: &Recognition) -> String {
    r.file.file_name().unwrap_or(r.file.as_os_str()).to_string_lossy().into_owned()
}

fn recording(out: &mut dyn Write, picture: &Picture, page: &Path, embed: bool, back: &str) -> io::Result<()> {
    let r = picture.recognition;
    let name = name(r);
    let seeds = numbers::of(r.seeds.len(), "seed", "seeds");
    writeln!(out, "<article class=\"recording card\" data-duration=\"{}\">{back}", r.duration)?;
    writeln!(out, "<h1>{}</h1>", Escaped(&name))?;
    writeln!(out, "<p class=\"meta\">{} · {}, {seeds}</p>", duration(r.duration), Escaped(&r.model))?;
    for warning in &r.condition.warnings {
        writeln!(out, "<p class=\"note\">Note: the recording {}</p>", Escaped(warning))?;
    }
    writeln!(out, "<p class=\"summary\">{}</p>", Escaped(&r.summary()))?;
    audio(out, r, page, embed)?;
    figure(out, picture)?;
    table(out, r)?;
    writeln!(out, "</article>")
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

fn audio(out: &mut dyn Write, r: &Recognition, page: &Path, embed: bool) -> io::Result<()> {
    // Anything but a regular file might be readable only once, or be endless.
    let opened = std::fs::metadata(&r.file).and_then(|m| {
        if m.is_file() { Ok((File::open(&r.file)?, m.len())) } else { Err(io::ErrorKind::Unsupported.into()) }
    });
    let Ok((file, size)) = opened else {
        return writeln!(out, "<p class=\"note\">The audio file was not available when this page was written.</p>");
    };
    let label = format!("aria-label=\"Audio of {}\"", Escaped(&name(r)));
    match mime(&r.file) {
        Some(mime) if embed && size <= EMBEDDED => {
            write!(out, "<audio controls preload=\"metadata\" {label} src=\"data:{mime};base64,")?;
            let mut encoder = EncoderWriter::new(&mut *out, &STANDARD);
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", r.file.display()));
            io::copy(&mut file.take(size), &mut encoder).map_err(named)?;
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
            let why = match playable {
                Some(_) if embed => "too large to be part of this page: ",
                Some(_) => "not part of this page: ",
                None => "of a format that browsers do not play: ",
            };
            writeln!(out, "<p class=\"note\">The audio ({}) is {why}<a href=\"{link}\">{file}</a></p>", bytes(size))
        }
    }
}

/// Link to `file`, which exists, from `page`: relative, or absolute if they have no folder in common.
fn link(file: &Path, page: &Path) -> String {
    let absolute = |p: &Path| p.canonicalize().or_else(|_| std::path::absolute(p)).unwrap_or_else(|_| p.to_owned());
    let folder = absolute(page.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    let file = absolute(file);
    let (from, to): (Vec<Component>, Vec<Component>) = (folder.components().collect(), file.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    match common {
        0 => format!("file:///{}", encoded(&file).trim_start_matches('/')),
        _ => format!(
            "{}{}",
            "../".repeat(from.len() - common),
            encoded(&to[common..].iter().collect::<std::path::PathBuf>())
        ),
    }
}

/// A path in a URL.
pub(super) fn encoded(path: &Path) -> String {
    let mut url = String::new();
    for (i, part) in path.components().enumerate() {
        url.push_str(if i > 0 && !url.ends_with('/') { "/" } else { "" });
        for &b in part.as_os_str().as_encoded_bytes() {
            match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => url.push(char::from(b)),
                // In the first part it would end the scheme.
                b':' if i > 0 => url.push(':'),
                b'\\' if cfg!(windows) => url.push('/'),
                _ => url.push_str(&format!("%{b:02X}")),
            }
        }
    }
    url
}

fn figure(out: &mut dyn Write, picture: &Picture) -> io::Result<()> {
    let bars = picture.bars();
    let answer = Picture { attention: false, ..*picture };
    let attention = picture.with_attention();
    let maps = if attention.is_some_and(|picture| picture.has_maps()) { " maps" } else { "" };
    let shows = if picture.attention && attention.is_some() { " attention" } else { "" };
    writeln!(out, "<figure class=\"picture{maps}{shows}\">\n<div class=\"names\">")?;
    for i in &bars {
        let name = in_words(&i.name);
        writeln!(out, "<div class=\"name\" title=\"{0}\">{0}</div>", Escaped(&name))?;
    }
    if bars.is_empty() {
        writeln!(out, "<div class=\"name\"></div>")?;
    }
    write!(out, "<div class=\"hz\" aria-hidden=\"true\">")?;
    for (share, label) in picture.hz_ticks() {
        write!(out, "<span style=\"bottom:{:.2}%\">{label}</span>", 100.0 * share)?;
    }
    writeln!(out, "</div></div>\n<div class=\"view\"><div class=\"inner\">")?;
    if bars.is_empty() {
        writeln!(out, "<p class=\"none\">{}</p>", Escaped(&picture.none()))?;
    }
    bars.iter().try_for_each(|i| track(out, &answer, attention.as_ref(), i))?;
    write!(out, "<div class=\"spectrogram\">")?;
    let (columns, bands) = (picture.columns(), picture.bands());
    if columns > 0 && bands > 0 {
        // More rows than there will be pixels only make the page large.
        let rows = bands.min(MAX_ROWS);
        let levels = pixels(&picture.levels(), 0.0..1.0, columns, rows);
        let image = indexed(columns, rows, &levels, &colour_map(), None)?;
        write!(out, "<img alt=\"{}\" src=\"{}\">", capitalised(picture.spectrum), Image(&image))?;
    }
    paths(out, picture)?;
    writeln!(out, "</div>\n<div class=\"time\" aria-hidden=\"true\"></div><div class=\"lane\"></div></div></div>")?;
    writeln!(out, "<div class=\"figures\">")?;
    for i in &bars {
        let spread = i.spread.map(|s| format!(" <small>± {s:.2}</small>")).unwrap_or_default();
        writeln!(out, "<div class=\"p\">{:.2}{spread}</div>", i.probability)?;
    }
    writeln!(out, "</div>\n<figcaption>")?;
    caption(out, &answer, attention.as_ref().filter(|_| !bars.is_empty()), picture.attention)?;
    writeln!(out, "</figcaption>\n</figure>")
}

/// The bar of an instrument: the answer, the attention, when it really plays, and when it was found.
fn track(out: &mut dyn Write, answer: &Picture, attention: Option<&Picture>, i: &Instrument) -> io::Result<()> {
    let r = answer.recognition;
    let clear: Vec<u8> = (0..=255).collect();
    let columns = i.activity.len().clamp(STRIP[0], STRIP[1]);
    let strip = |picture: &Picture| {
        let bar = picture.bar(i, 0.0..r.duration, columns);
        let levels: Vec<u8> = bar.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        indexed(columns, bar.len(), &levels, &[[BAR.0, BAR.1, BAR.2]; 256], Some(&clear))
    };
    let (name, times) = (in_words(&i.name), r.times(i));
    let times = if times.is_empty() { "does not play".into() } else { format!("plays {times}") };
    write!(out, "<div class=\"track\" role=\"img\" aria-label=\"{}: {times}\">", Escaped(&name))?;
    write!(out, "<img class=\"answer\" alt=\"\" src=\"{}\">", Image(&strip(answer)?))?;
    if let Some(attention) = attention {
        write!(out, "<img class=\"attended\" alt=\"\" src=\"{}\">", Image(&strip(attention)?))?;
    }
    let percent = |seconds: f64| 100.0 * seconds / r.duration;
    for (start, end) in answer.true_times(i) {
        write!(out, "<b style=\"left:{:.3}%;width:{:.3}%\"></b>", percent(start), percent(end - start))?;
    }
    for s in &i.segments {
        write!(out, "<i style=\"left:{:.3}%;width:{:.3}%\"></i>", percent(s.start), percent(s.end - s.start))?;
    }
    writeln!(out, "</div>")
}

/// What the colours mean, and the switch to attention.
fn caption(out: &mut dyn Write, answer: &Picture, attention: Option<&Picture>, checked: bool) -> io::Result<()> {
    for (class, picture) in
        [Some(("answered", answer)), attention.map(|picture| ("attending", picture))].into_iter().flatten()
    {
        let [none, most] = picture.ends();
        let shown = picture.shown();
        writeln!(out, "<span class=\"{class}\">{shown}: {none} <i class=\"ramp\"></i> {most}</span>")?;
    }
    writeln!(out, "<span><i class=\"plays\"></i> plays</span>")?;
    if answer.truth.is_some() {
        writeln!(out, "<span><i class=\"truth\"></i> truth</span>")?;
    }
    writeln!(out, "<span>{}: quiet <i class=\"loud\"></i> loud</span>", answer.spectrum)?;
    if attention.is_some() {
        let checked = if checked { " checked" } else { "" };
        writeln!(out, "<label><input type=\"checkbox\" data-attention{checked}> attention</label>")?;
    }
    if !answer.paths().is_empty() {
        let seed = answer.seed_label();
        writeln!(out, "<span><i class=\"path\"></i> glimpses, first to last{seed}</span>")?;
    }
    Ok(())
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

fn table(out: &mut dyn Write, r: &Recognition) -> io::Result<()> {
    writeln!(out, "<div class=\"scroll\"><table>\n<caption>All instruments; the headers sort</caption>\n<thead><tr>")?;
    let up = ["instrument", "first onset"];
    for name in ["instrument", "probability", "± spread", "present", "first onset", "total"] {
        html::header(out, name, up.contains(&name), false)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    r.present_first().into_iter().try_for_each(|i| row(out, i, r.duration))?;
    writeln!(out, "</tbody></table></div>")
}

fn row(out: &mut dyn Write, i: &Instrument, length: f64) -> io::Result<()> {
    let (name, p) = (in_words(&i.name), i.probability);
    let name = Escaped(&name);
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

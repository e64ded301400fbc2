//! Downloads of `wmic weights get`: to a `.part` file, from where an earlier download stopped, with a checksum. Nothing
//! else of wmic uses the network.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::{HeaderMap, StatusCode, Uri};
use wmic::core::files::sha256;
use wmic::core::numbers::bytes;
use wmic::nn::front_ends::network::Network;

/// Until a server is given up that does not answer, or stops sending.
const PATIENCE: Duration = Duration::from_secs(60);

/// A published file.
pub struct Published {
    pub name: &'static str,
    pub address: &'static str,
    /// How its SHA-256 begins, in hexadecimal; of several publications, if there are any.
    pub sha256: &'static [&'static str],
    /// No publication of it has more bytes.
    most: u64,
}

const VGGISH: [Published; 2] = [
    // Their names have the first digits of their checksums.
    Published {
        name: "vggish-10086976.pth",
        address: "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        sha256: &["10086976"],
        most: 320 << 20,
    },
    Published {
        name: "vggish_pca_params-970ea276.pth",
        address: "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish_pca_params-970ea276.pth",
        sha256: &["970ea276"],
        most: 1 << 20,
    },
];
const YAMNET: [Published; 1] = [Published {
    name: "yamnet.tflite",
    address: "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/yamnet.tflite",
    // MediaPipe's, and the same network without its metadata.
    sha256: &[
        "4d8b4a53282dc83ef04e3e7dbc4fbc98082e34e44ed798e16c3a0cdd4c584faf",
        "469be6a3421cbc52cf97e9f2f966cba984198e8e7af9854d68b3e3ebb1e04194",
    ],
    most: 8 << 20,
}];

impl Published {
    /// The files with a network's weights, these first.
    pub fn of(network: Network) -> &'static [Published] {
        match network {
            Network::Vggish => &VGGISH,
            Network::Yamnet => &YAMNET,
        }
    }

    /// Whether this is its SHA-256.
    pub fn is(&self, sha256: &str) -> bool {
        self.sha256.iter().any(|known| sha256.starts_with(known))
    }
}

/// The value of an option for an address.
///
/// # Errors
/// What is expected, for another text.
pub fn address(text: &str) -> Result<String, String> {
    let is_one = text.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match is_one {
        true => Ok(text.into()),
        false => Err("an address such as https://example.org/weights is expected".into()),
    }
}

/// Downloads a file into `folder`, and returns its path. `mirror`: an address to which its name is appended, instead of
/// the publisher's.
pub fn download(file: &Published, folder: &Path, mirror: Option<&str>) -> anyhow::Result<PathBuf> {
    let address = mirror.map(|mirror| format!("{}/{}", mirror.trim_end_matches('/'), file.name));
    let address = address.as_deref().unwrap_or(file.address);
    let path = folder.join(format!("{}.part", file.name));
    let of_part = || path.display().to_string();
    let mut part = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let part = part.as_mut().map_err(|e| anyhow::anyhow!("{}: {e}", of_part()))?;
    if let Err(TryLockError::WouldBlock) = part.try_lock() {
        bail!("{} is in use: another process is downloading it", of_part());
    }
    let received = match receive(address, part, file.most) {
        Ok(received) => received,
        Err(e) => {
            if part.metadata().is_ok_and(|about| about.len() == 0) {
                fs::remove_file(&path).with_context(of_part)?;
            }
            bail!("{address}: {e}");
        }
    };
    part.seek(SeekFrom::Start(0)).with_context(of_part)?;
    let found = sha256(part).with_context(of_part)?;
    if !file.is(&found) {
        // Not of use, and not to be continued.
        fs::remove_file(&path).with_context(of_part)?;
        let expected = file.sha256.join(" or ");
        bail!(
            "{address}: {} of SHA-256 {found}, but that of {} begins with {expected}; it was removed",
            bytes(received),
            file.name
        );
    }
    Ok(path)
}

/// Continues `part`, what an earlier download has left of a file of at most `most` bytes, and returns its length. After
/// an error that leaves nothing to continue, `part` is empty.
fn receive(address: &str, part: &mut File, most: u64) -> anyhow::Result<u64> {
    let begun = Some(part.metadata()?.len()).filter(|begun| *begun <= most).unwrap_or(0);
    let config = ureq::Agent::config_builder()
        .https_only(address.starts_with("https://"))
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("wmic/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut request = ureq::Agent::new_with_config(config).get(address);
    if begun > 0 {
        request = request.header("Range", format!("bytes={begun}-"));
    }
    let response = request.call()?;
    let (status, headers) = (response.status(), response.headers());
    let (first, total) = match status {
        StatusCode::PARTIAL_CONTENT => match range(headers).filter(|(first, _)| *first == begun) {
            Some(range) => range,
            None => return discard(part, "the server sent another part of the file than was asked for"),
        },
        StatusCode::OK => (0, length(headers)),
        // All of it is there, and the checksum tells whether it is right.
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(begun),
        _ => bail!("the server answered {status}"),
    };
    let too_long = format!("the server sends more than {}, the most that this file can have", bytes(most));
    if total.is_some_and(|total| total > most) {
        return discard(part, &too_long);
    }
    part.set_len(first)?;
    part.seek(SeekFrom::Start(first))?;
    let bar = bar(first, total);
    let mut body = response.into_body().into_reader().take(most - first + 1);
    let (mut block, mut done) = (vec![0; 1 << 16], first);
    let broken = loop {
        match body.read(&mut block) {
            Ok(0) => break None,
            Ok(count) => {
                part.write_all(&block[..count])?;
                done += count as u64;
                bar.set_position(done);
            }
            Err(e) => break Some(e.to_string()),
        }
    };
    if done > most {
        return discard(part, &too_long);
    }
    part.sync_all()?;
    bar.finish_and_clear();
    let broken = broken.or(total.filter(|total| done < *total).map(|_| "it was closed".to_owned()));
    if let Some(reason) = broken {
        let of = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
        bail!("the connection broke after {}{of} ({reason}); run the command again to continue", bytes(done));
    }
    Ok(done)
}

/// The error of a download that cannot be continued.
fn discard(part: &File, why: &str) -> anyhow::Result<u64> {
    part.set_len(0)?;
    bail!("{why}; what was downloaded is removed, the next try begins anew")
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// First byte and length of the file, of "bytes FIRST-LAST/LENGTH".
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn bar(first: u64, total: Option<u64>) -> ProgressBar {
    let style = "{bytes}/{total_bytes} {wide_bar:.cyan/238} {bytes_per_sec} {eta} left";
    let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━━");
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style);
    bar.set_position(first);
    bar.reset_eta();
    bar
}

// Recordings as excerpts, as `wmic predict` cuts them: decoded by the browser at their own rate, mono, normalised,
// resampled.

import { fft } from "./fft.js";

const SPARE = 0.02; // Fraction of an excerpt that may be in none at the end.
const LOUDEST = 16; // Largest plausible sample, times full scale.
const USUAL = 44100; // Hz, of files whose header says nothing.

// The sample rate in a file's header, in Hz.
export function rateOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at, n) => String.fromCharCode(...bytes.subarray(at, at + n));
  const find = (name, from, to) => {
    for (let i = from; i + name.length <= Math.min(to, bytes.length); i++) if (text(i, name.length) === name) return i;
    return -1;
  };
  const flac = (at) => (bytes[at + 18] << 12) | (bytes[at + 19] << 4) | (bytes[at + 20] >> 4);
  const word = (at) => (at + 4 <= bytes.length ? view.getUint32(at, true) : 0);
  if (text(0, 4) === "RIFF") {
    const at = find("fmt ", 12, 4096);
    return at < 0 ? USUAL : word(at + 12);
  }
  if (text(0, 4) === "fLaC") return flac(0);
  if (text(0, 4) === "OggS") {
    if (find("OpusHead", 27, 300) >= 0) return 48000;
    const [vorbis, inOgg] = [find("\x01vorbis", 27, 300), find("fLaC", 27, 300)];
    return vorbis >= 0 ? word(vorbis + 12) : inOgg >= 0 ? flac(inOgg) : USUAL;
  }
  if (word(0) === 0xa3df451a) return 48000; // Matroska: Opus.
  if (text(4, 4) === "ftyp") {
    const at = bytes.findIndex((b, i) => b === 0x6d && text(i, 4) === "mp4a" && i + 32 < bytes.length);
    return at < 0 ? USUAL : view.getUint16(at + 28) || USUAL;
  }
  // MPEG audio, after an ID3 tag.
  const size = (at) => (bytes[at] << 21) | (bytes[at + 1] << 14) | (bytes[at + 2] << 7) | bytes[at + 3];
  const first = text(0, 3) === "ID3" ? 10 + size(6) : 0;
  for (let i = first; i + 4 < Math.min(bytes.length, first + 65536); i++) {
    const [version, index] = [(bytes[i + 1] >> 3) & 3, (bytes[i + 2] >> 2) & 3];
    if (bytes[i] !== 0xff || (bytes[i + 1] & 0xe0) !== 0xe0 || version === 1 || index === 3) continue;
    return [44100, 48000, 32000][index] / [4, 1, 2, 1][version];
  }
  return USUAL;
}

// Decodes a file (a Blob): { samples, sr, duration }.
export async function decode(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let sr = rateOf(bytes),
    context;
  try {
    context = new OfflineAudioContext(1, 1, sr);
  } catch {
    // A rate that the browser does not support.
    context = new OfflineAudioContext(1, 1, (sr = 48000));
  }
  let audio;
  try {
    audio = await context.decodeAudioData(bytes.buffer);
  } catch {
    throw new Error("This file cannot be decoded: the browser knows no such audio format, or it is damaged");
  }
  if (audio.length === 0) throw new Error("This file contains no audio");
  const channels = Array.from({ length: audio.numberOfChannels }, (_, c) => audio.getChannelData(c));
  return { samples: mix(channels), sr, duration: audio.length / sr };
}

// The mean of the channels; of opposite ones, which cancel, the louder one.
function mix(channels) {
  if (channels.length === 1) return channels[0];
  const length = channels[0].length,
    window = 4096,
    mono = new Float32Array(length);
  const silence = () => ({ mean: 0, each: channels.map(() => 0) });
  let before = silence(),
    only = -1;
  for (let begin = 0; begin < length; begin += window) {
    const end = Math.min(begin + window, length),
      now = silence();
    for (let i = begin; i < end; i++) {
      let sum = 0;
      channels.forEach((channel, c) => {
        sum += channel[i];
        now.each[c] += channel[i] ** 2;
      });
      mono[i] = sum / channels.length;
      now.mean += mono[i] ** 2;
    }
    const each = now.each.map((energy, c) => energy + before.each[c]),
      most = Math.max(...each);
    only = (now.mean + before.mean) * 1e4 < most ? (only < 0 ? each.lastIndexOf(most) : only) : -1;
    if (only >= 0) mono.set(channels[only].subarray(begin, end), begin);
    before = now;
  }
  return mono;
}

// Excerpts of `window` seconds, one every `hop` seconds: { start, samples, scale }, with `scale` what the samples are
// to be multiplied by for their level in the recording. `level`: "original", "peak" or an RMS.
export function* excerpts(samples, sr, { window, hop, sr: to, level }) {
  const size = Math.max(1, Math.round(window * sr)),
    total = samples.length;
  const step = (k, start) => Math.min(Math.round((k + 1) * hop * sr) - start, size);
  const cut = (k, start, end) => excerpt(k * hop, samples.slice(start, end), sr, { window, to, level });
  let [k, start, covered] = [0, 0, 0];
  for (; total - start >= size; k++) {
    yield cut(k, start, start + size);
    covered = start + size;
    start += step(k, start);
  }
  for (; start < total; k++) {
    if (total - covered <= SPARE * size && total - start < (hop * sr) / 2 && k > 0) return;
    yield cut(k, start, total);
    covered = total;
    start += step(k, start);
  }
}

function excerpt(start, samples, sr, { window, to, level }) {
  const peakOf = (of) => of.reduce((peak, v) => Math.max(peak, Math.abs(v)), 0);
  const normalise = (of) => {
    const peak = peakOf(of);
    if (peak > 0) of.forEach((v, i) => (of[i] = v / peak));
    return peak || 1;
  };
  let scale = 1;
  if (level !== "original") scale = normalise(samples);
  else if (peakOf(samples) > LOUDEST) throw new Error("The samples are far beyond full scale; rescale them to ±1");
  samples = resample(samples, sr, to).slice(0, Math.round(window * to));
  if (typeof level === "number") {
    const peak = normalise(samples),
      power = samples.reduce((sum, v) => sum + v * v, 0);
    if (power > 0) {
      const gain = Math.fround(level / Math.sqrt(power / samples.length));
      samples.forEach((v, i) => (samples[i] = Math.max(-1, Math.min(1, v * gain))));
      scale *= peak / gain;
    }
  }
  return { start, samples, scale };
}

const filters = new Map();

// The spectrum of a windowed sinc of `from` samples (Blackman-Harris), over 2 `from` bins.
function filter(from, to) {
  const key = `${from} ${to}`;
  if (!filters.has(key)) {
    const n = Math.min(from, to),
      edge = 1 / (8.041443677716476 / n + 55.9506779343387 / n ** 2 + 898.0287985384213 / n ** 3 + 1);
    const cutoff = (edge * n) / from,
      taps = new Float64Array(2 * from);
    let sum = 0;
    for (let i = 0; i < from; i++) {
      const turn = (2 * Math.PI * i) / from,
        x = Math.PI * (i - Math.floor(from / 2)) * cutoff;
      const window = 0.35875 - 0.48829 * Math.cos(turn) + 0.14128 * Math.cos(2 * turn) - 0.01168 * Math.cos(3 * turn);
      sum += taps[i] = window * (x === 0 ? 1 : Math.sin(x) / x);
    }
    taps.forEach((v, i) => (taps[i] = v / sum / (2 * from)));
    filters.set(key, fft(taps, new Float64Array(2 * from)));
  }
  return filters.get(key);
}

// From `from` to `to` Hz, by overlapping transforms of blocks, two at a time as real and imaginary parts.
export function resample(samples, from, to) {
  if (from === to) return samples;
  const gcd = (a, b) => (b ? gcd(b, a % b) : a),
    apart = from / gcd(from, to);
  const span = Math.floor((1024 * from) / Math.min(from, to)),
    blocks = Math.ceil(span / apart);
  const size = apart * (blocks + (blocks % 2)),
    out = (size * to) / from;
  const [filterRe, filterIm] = filter(size, out),
    kept = Math.min(size, out);
  const total = Math.ceil((samples.length * to) / from),
    late = out / 2;
  const count = Math.ceil((total + late) / out),
    result = new Float64Array((count + 3) * out);
  for (let block = 0; block < count; block += 2) {
    const [re, im] = [0, 1].map((i) => {
      const padded = new Float64Array(2 * size);
      padded.set(samples.subarray(Math.min((block + i) * size, samples.length), (block + i + 1) * size));
      return padded;
    });
    const [specRe, specIm] = fft(re, im),
      [outRe, outIm] = [new Float64Array(2 * out), new Float64Array(2 * out)];
    for (let k = 1 - kept; k < kept; k++) {
      const [i, o] = [k < 0 ? 2 * size + k : k, k < 0 ? 2 * out + k : k];
      outRe[o] = specRe[i] * filterRe[i] - specIm[i] * filterIm[i];
      outIm[o] = specRe[i] * filterIm[i] + specIm[i] * filterRe[i];
    }
    fft(outRe, outIm, true).forEach((values, i) => values.forEach((v, t) => (result[(block + i) * out + t] += v)));
  }
  return Float32Array.from(result.subarray(late, late + total));
}

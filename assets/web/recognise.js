// Recognises recordings as `wmic predict` does: excerpts, silence and noise cut out, features and predictions on the
// GPU, one answer for the recording.

import { excerpts } from "./audio.js";
import { Excerpts, combined } from "./excerpts.js";
import { fft } from "./fft.js";
import { Player, json } from "./player.js";

const FRAME = 0.01; // Seconds of the frames by which the end of an excerpt is found.
const SPARE = 0.02; // Fraction of an excerpt that may be in none at the end.
const LARGEST = 65504; // Of 16 bits.
const FAINTEST = 1e-6;

const sum = (values) => values.reduce((total, v) => total + v, 0);
const mean = (values) => (values.length ? sum(values) / values.length : 0);
// How many instances or frames an excerpt of so many samples has.
const count = (least, samples) => least.findLastIndex((fewest) => fewest <= samples) + 1;

export class Recogniser {
  // Loads `plan.json` and what it names. `progress(share)`: of the download.
  static async open(progress) {
    const recogniser = new Recogniser(),
      plan = await json("plan.json");
    recogniser.plan = plan;
    recogniser.player = await Player.open(plan.shared, progress);
    recogniser.streams = plan.streams.map((stream) => new Stream(recogniser.player, plan, stream));
    return recogniser;
  }

  // The answer for mono samples; `each(answer, share)` is called with what is known so far. `signal`: an AbortSignal.
  async recognise({ samples, sr, duration }, each = () => {}, signal) {
    const bad = samples.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0) throw new Error(`Sample ${bad} is not a number`);
    const recordings = this.streams.map((stream) => stream.begin(samples, sr));
    const answer = () => {
      const answers = recordings.flatMap(({ models }) => models.map((excerpts) => excerpts.answer(duration)));
      return combined(this.plan.combinations, answers, this.plan);
    };
    for (;;) {
      signal?.throwIfAborted();
      // Of several front ends the one that is behind.
      const open = recordings.filter((recording) => !recording.done);
      if (open.length === 0) break;
      const behind = open.reduce((a, b) => (b.at < a.at ? b : a));
      await behind.stream.next(behind);
      each(answer(), Math.min(...recordings.map((recording) => (recording.done ? 1 : recording.at / duration))));
    }
    return { ...answer(), warnings: warnings(recordings, answer(), duration) };
  }
}

function warnings(recordings, { distance }, duration) {
  const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
  const list = (spans) => spans.map((span) => span.map((s) => clock(Math.min(s, duration))).join(" to ")).join(", ");
  const found = recordings.flatMap(({ models, noise }) => [
    ...(models[0].isSilent() ? ["The recording is silent."] : []),
    ...(noise.length ? [`Steady noise, in which nothing counts as present: ${list(noise)}.`] : []),
    ...models
      .map((m) => m.outlying())
      .filter((o) => o.length)
      .map((o) => `Unlike the training clips: ${list(o)}.`),
  ]);
  if (distance > 1) found.push("The recording is unlike the training clips: nothing counts as present.");
  return [...new Set(found)];
}

// A front end and the models on its features.
class Stream {
  constructor(player, plan, stream) {
    Object.assign(this, { player, plan, stream, plans: new Map() });
  }

  begin(samples, sr) {
    const models = this.stream.models.map((model) => new Excerpts(this.stream, model, this.plan));
    return { stream: this, models, cut: excerpts(samples, sr, this.stream), at: 0, covered: 0, noise: [], done: false };
  }

  // Plans are built when they are first needed.
  async replay(data, inputs) {
    if (!this.plans.has(data)) this.plans.set(data, await this.player.plan(data));
    const plan = this.plans.get(data);
    for (const [name, values] of Object.entries(inputs)) plan.write(name, values);
    return plan.run();
  }

  // The next excerpt of a recording.
  async next(recording) {
    const { value: excerpt, done } = recording.cut.next();
    recording.done = done;
    if (done) return;
    recording.at = excerpt.start + this.stream.hop;
    const { levels, audible } = this.withoutSilence(recording, excerpt);
    if (!audible) {
      recording.models.forEach((model) => model.cover(excerpt.start, [], levels));
      return;
    }
    const extract = await this.extract(audible.samples);
    for (const [m, model] of this.stream.models.entries()) {
      const inputs = {
        features: extract.stored,
        labels: Uint32Array.of(extract.instances), // The length comes before the labels, which are unknown.
        rows: new Uint32Array(model.seeds.length),
      };
      const outputs = await this.replay(model.plan, inputs);
      if (outputs.some((values) => values.some(Number.isNaN)))
        throw new Error("The model returned NaN: the GPU, or a file, is damaged");
      const distance = model.domain && distanceOf(model.domain, this.described(model, extract));
      recording.models[m].add(outputs, extract.instances, {
        start: excerpt.start,
        parts: audible.parts,
        levels,
        distance,
      });
    }
  }

  withoutSilence(recording, { start, samples, scale }) {
    const { sr, part_seconds, window, hop, skips_noise } = this.stream,
      { models } = recording;
    const block = Math.max(1, Math.round(part_seconds * sr)),
      frame = Math.min(block, Math.max(1, Math.round(FRAME * sr)));
    const blocks = chunks(samples, block),
      levels = blocks.map((of) => level(of, scale));
    const peak = Math.max(0, ...blocks.map(largest));
    const loudest = { instance: Math.max(-Infinity, ...levels), sample: 20 * Math.log10(peak * scale) };
    models.forEach((model) => model.raise(loudest));
    let audible = audibleOf(samples, block, frame, levels, models[0].gate(), scale);
    if (audible) {
      const seconds = audible.end / sr,
        known = start + seconds <= recording.covered + SPARE * window && seconds < hop / 2;
      recording.covered = Math.max(recording.covered, start + seconds);
      if (known && start > 0) audible = null;
    }
    const last = recording.noise.at(-1),
      goesOn = last !== undefined && last[1] >= start;
    if (skips_noise && audible && isNoise(audible.samples, sr, goesOn)) {
      const end = start + samples.length / sr;
      if (goesOn) last[1] = end;
      else recording.noise.push([start, end]);
      audible = null;
    }
    return { levels, audible };
  }

  // Features on the GPU, and as they are stored.
  async extract(samples) {
    const { extractors, instances: least, width, post, packed } = this.stream;
    const { samples: size, plan } =
      extractors.find((extractor) => extractor.samples >= samples.length) ?? extractors.at(-1);
    const padded = new Float32Array(size);
    padded.set(samples.subarray(0, size));
    const [values, spectrogram] = await this.replay(plan, { samples: padded });
    const instances = Math.max(1, count(least, samples.length)),
      features = values.subarray(0, instances * width);
    if (features.some((v) => !(Math.abs(v) <= LARGEST))) {
      throw new Error("The front end returned values out of range: the GPU, or a file, is damaged");
    }
    const stored = new (packed ? Uint8Array : Float32Array)(least.length * width),
      floats = new Float32Array(features);
    for (let i = 0; i < instances * width; i += width) {
      const row = post ? processed(post, features.subarray(i, i + width)) : features.subarray(i, i + width);
      const shares = post?.pca ? Float32Array.from(row, (v) => v / 255) : row;
      stored.set(packed ? row : shares, i);
      floats.set(shares, i);
    }
    return { stored, instances, floats, spectrogram, samples: samples.length };
  }

  // Rows of an excerpt as its distance from the training clips is measured.
  described(model, { floats, instances, spectrogram, samples }) {
    const { width, spectrum } = this.stream,
      rows = [];
    if (model.domain.of_spectrum) {
      const { bands, offset, frames, per_instance, group } = spectrum;
      const valid = Math.min(Math.max(1, count(frames, samples)) * bands, spectrogram.length);
      const values = spectrogram.subarray(0, valid).map((v) => (offset === null ? v : Math.log(v + offset)));
      const at = (i) => Math.round(i * per_instance) * bands;
      for (let i = 0; i < instances && at(i) <= valid; i++)
        rows.push(moments(values.subarray(at(i), Math.min(at(i + 1), valid)), bands, group));
      return rows.slice(0, model.described);
    }
    const part = this.stream.part * width,
      bands = part / model.rows;
    for (let i = 0; i + part <= instances * width; i += part) {
      const row = floats.subarray(i, i + part);
      rows.push(model.rows === 1 ? row : moments(row, bands, Math.ceil(bands / 64)));
    }
    return rows.slice(0, model.described);
  }
}

const chunks = (values, size) =>
  Array.from({ length: Math.ceil(values.length / size) }, (_, i) => values.subarray(i * size, (i + 1) * size));

// dB of full scale of the RMS about the mean.
function level(samples, scale) {
  let [total, squares] = [0, 0];
  for (const v of samples) {
    total += v;
    squares += v * v;
  }
  const variance = Math.max(0, squares / samples.length - (total / samples.length) ** 2);
  return 10 * Math.log10(variance) + 20 * Math.log10(scale);
}

function largest(samples) {
  const centre = mean(samples);
  return samples.reduce((peak, v) => Math.max(peak, Math.abs(v - centre)), 0);
}

// The parts at least as loud as `gate`, side by side, up to the end of the last sound; null if all are silent.
function audibleOf(samples, block, frame, levels, gate, scale) {
  const parts = levels.flatMap((of, i) => (of >= gate ? [i] : []));
  if (parts.length === 0) return null;
  const start = parts.at(-1) * block,
    last = samples.subarray(start, start + block);
  const sound = chunks(last, frame).findLastIndex((of) => level(of, scale) >= gate);
  const end = start + (sound < 0 ? last.length : Math.min((sound + 1) * frame, last.length));
  const kept = parts.map((i) => samples.subarray(i * block, Math.min((i + 1) * block, end)));
  const joined = new Float32Array(sum(kept.map((of) => of.length)));
  let at = 0;
  for (const of of kept) {
    joined.set(of, at);
    at += of.length;
  }
  return { samples: joined, parts, end };
}

// Whether there is nothing but steady noise: in it one moment says nothing of the next ones. As in
// `src/predict/noise.rs`, which says where the numbers are from.
function isNoise(samples, sr, goesOn) {
  const len = Math.floor(0.032 * sr),
    seconds = samples.length / sr,
    bands = 12;
  if (seconds < 0.25 || (seconds < 2.5 && !goesOn) || len < 2) return false;
  const band = (bin) => (Math.log((bin * sr) / len / 100) / Math.log(75)) * bands;
  const levels = Array.from({ length: bands }, () => []),
    still = new Float64Array(len);
  for (let at = 0; at + len <= samples.length; at += len) {
    const hann = (v, i) => v * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / len));
    const [re, im] = fft(Float64Array.from(samples.subarray(at, at + len), hann), still),
      energies = new Float64Array(bands);
    for (let bin = 0; bin < Math.floor(len / 2); bin++) {
      const into = band(bin);
      if (into >= 0 && into < bands) energies[Math.floor(into)] += re[bin] ** 2 + im[bin] ** 2;
    }
    energies.forEach((energy, i) => levels[i].push(Math.log(energy + Number.EPSILON)));
  }
  const after = (lag) => levels.map((of) => correlation(of, lag)),
    next = after(1),
    average = mean(next);
  if (seconds < 2.5) return average < 0.2;
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const isEven = () => [1, 2, 3].some((lag) => median(after(lag)) < -0.15);
  const isHum = () =>
    [50, 60].some((hz) => {
      const period = Math.max(1, Math.floor(sr / hz)),
        whole = samples.subarray(0, samples.length - (samples.length % period));
      return (
        deviation(
          chunks(whole, period).map((of) => Math.log(of.reduce((e, v) => e + v * v, 0) + Number.EPSILON)),
          1,
        ) < 0.05
      );
    });
  return average < 0.1 && next.every((of) => of < 0.35) && (!isEven() || isHum());
}

function correlation(values, lag) {
  const centre = mean(values),
    variance = sum(values.map((v) => (v - centre) ** 2));
  const product = sum(values.slice(lag).map((later, i) => (values[i] - centre) * (later - centre)));
  return variance > 0 ? product / variance : 0;
}

// Of a sample: over n - `less`.
function deviation(values, less) {
  const centre = mean(values);
  return values.length > less ? Math.sqrt(sum(values.map((v) => (v - centre) ** 2)) / (values.length - less)) : 0;
}

// The value that 16 bits hold.
function half(v) {
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(v) || 1e-30))) - 10),
    steps = v / step,
    low = Math.floor(steps);
  const up = steps - low > 0.5 || (steps - low === 0.5 && low % 2 !== 0);
  return (low + (up ? 1 : 0)) * step;
}

// An embedding after its PCA in 8 bits, or scaled by minimum and maximum.
function processed({ pca, range }, embedding) {
  if (pca) {
    const centred = pca.mean.map((of, i) => embedding[i] - of);
    return Uint8Array.from(centred, (_, row) => {
      let v = 0;
      for (let i = 0; i < centred.length; i++) v += pca.matrix[row * centred.length + i] * centred[i];
      return Math.floor((Math.max(-2, Math.min(2, v)) + 2) * (255 / 4));
    });
  }
  const { min, max } = range;
  return Float32Array.from(embedding, (v, i) => {
    const share =
      max[i] > min[i] ? Math.fround(Math.fround(half(v) - Math.fround(min[i])) / Math.fround(max[i] - min[i])) : 0;
    return half(Math.max(0, Math.min(1, share)));
  });
}

// The means of (frames, bands) over frames, then the standard deviations; `group` neighbouring bands are averaged.
function moments(frames, bands, group) {
  const rows = chunks(frames, bands).filter((row) => row.length === bands);
  const grouped = Array.from({ length: Math.ceil(bands / group) }, (_, g) =>
    rows.map((row) => mean(row.subarray(g * group, (g + 1) * group))),
  );
  return Float32Array.from([...grouped.map((of) => mean(of)), ...grouped.map((of) => deviation(of, 1))]);
}

// How far an excerpt is from the training clips: above 1 it is unlike them; null for a single instance. As in
// `src/metrics/domain.rs`.
function distanceOf({ instances, clips, limits }, rows) {
  const used = rows.slice(0, limits.length + 1);
  if (used.length < 2) return null;
  const project = ({ mean: centre, axes }, row) =>
    Array.from(centre, (_, axis) => {
      let along = 0;
      for (let i = 0; i < centre.length; i++) along += axes[axis * centre.length + i] * (row[i] - centre[i]);
      return along;
    });
  const along = used.map((row) => project(instances, row)),
    part = Math.ceil(instances.mean.length / 2);
  const changes = along.slice(1).map((row, i) => row.map((v, k) => v - along[i][k]));
  const energy = (of, from, to) =>
    Math.log(
      mean(of.map((row) => sum(row.slice(from, to).map((v) => v * v)) / Math.max(1, row.slice(from, to).length))) +
        FAINTEST,
    );
  const energies = [along, changes].flatMap((of) => [energy(of, 0, part), energy(of, part)]);
  return Math.sqrt(sum(project(clips, energies).map((v) => v * v))) / limits[used.length - 2];
}

// From the predictions for excerpts to an answer for the recording, as `wmic predict` has it: activities, aggregated
// probabilities, segments, and the mean over models.

const EXPONENT = 4; // Of the power mean over excerpts.
const [BRIDGED, ONSET, SUSTAIN] = [0.5, 0.6, 0.4]; // Seconds; fractions of an instrument's largest activity.
const LARGEST_LOGIT = 16;
const ABSOLUTE = -80; // dB of full scale: silence.

const logit = (p) => Math.max(-LARGEST_LOGIT, Math.min(LARGEST_LOGIT, Math.log(p / (1 - p))));
const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const sum = (values) => values.reduce((total, v) => total + v, 0);
const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);

function calibrated({ slope, intercept }, p) {
  return slope === 1 && intercept === 0 ? p : sigmoid(slope * logit(p) + intercept);
}

function spread(values) {
  const mean = sum(values) / values.length;
  return values.length > 1 ? Math.sqrt(sum(values.map((v) => (v - mean) ** 2)) / (values.length - 1)) : null;
}

// dB of full scale below which a part is silent, if those `relative` dB below the peak are.
export const gateOf = (loudest, relative) => Math.max(ABSOLUTE, Math.min(loudest.sample - relative, loudest.instance));

// The predictions of a model for the excerpts of a recording so far.
export class Excerpts {
  constructor(stream, model, plan) {
    Object.assign(this, { stream, model, plan, classes: plan.classes.length, cell: stream.part_seconds / model.steps });
    this.loudest = { instance: -Infinity, sample: -Infinity };
    [this.excerpts, this.activity, this.covered, this.counted, this.levels] = [[], [], [], [], []];
  }

  raise({ instance, sample }) {
    this.loudest.instance = Math.max(this.loudest.instance, instance);
    this.loudest.sample = Math.max(this.loudest.sample, sample);
  }

  gate() {
    return gateOf(this.loudest, this.plan.gate);
  }

  isSilent() {
    return this.loudest.instance < this.gate();
  }

  // An excerpt from `start` seconds on, of parts with these levels (dB), of which `parts` are audible and predicted.
  // Returns its first cell.
  cover(start, parts, levels) {
    const first = Math.round(start / this.cell),
      { steps } = this.model;
    for (let end = first + levels.length * steps; this.covered.length < end;) {
      this.covered.push(false);
      this.counted.push(0);
      this.levels.push(-Infinity);
      for (let k = 0; k < this.classes; k++) this.activity.push(0);
    }
    levels.forEach((level, part) => {
      for (let cell = first + part * steps; cell < first + (part + 1) * steps; cell++) {
        this.covered[cell] ||= !parts.includes(part);
        this.levels[cell] = Math.max(this.levels[cell], level);
      }
    });
    return first;
  }

  // [probabilities, attention, scores, gates], each for all seeds; without attention the first only.
  add([probabilities, , scores, gates], instances, { start, parts, levels, distance }) {
    const { classes, model, plan } = this,
      { steps, bands, seeds, calibrations } = model;
    const first = this.cover(start, parts, levels),
      count = Math.max(1, Math.floor(instances / this.stream.part)) * steps;
    const places = Array.from(
      { length: count },
      (_, cell) => first + parts[Math.floor(cell / steps)] * steps + (cell % steps),
    );
    const counted = plan.keep_unreliable || distance === null || distance <= 1 ? 1 : 0,
      weight = counted / seeds.length;
    for (const cell of places) {
      this.covered[cell] = true;
      this.counted[cell] += counted;
    }
    const values = [];
    for (let r = 0; r < seeds.length; r++) {
      for (let k = 0; k < classes; k++) {
        const probability = calibrated(calibrations[r][k], probabilities[r * classes + k]);
        let drawn = model.attention ? 0 : 1;
        places.forEach((place, cell) => {
          let share = 1;
          if (model.attention) {
            let [all, scored] = [0, 0];
            for (let band = 0; band < bands; band++) {
              const at = r * (gates.length / seeds.length) + (cell * bands + band) * classes + k;
              all += gates[at];
              scored += gates[at] * scores[at];
            }
            drawn += all;
            share = scored / Math.max(all, 1.1754944e-38);
          }
          this.activity[place * classes + k] += weight * probability * share;
        });
        values.push([probability, drawn]);
      }
    }
    const cells = [first, first + levels.length * steps];
    this.excerpts.push({ values, loudest: levels.reduce((a, b) => Math.max(a, b), -Infinity), cells, distance });
  }

  audible() {
    const gate = this.gate();
    return this.excerpts.filter((excerpt) => excerpt.loudest >= gate);
  }

  // The median distance from the training clips; null if it is not known.
  distance() {
    const all = this.audible()
      .map((e) => e.distance)
      .filter((d) => d !== null)
      .sort((a, b) => a - b);
    const middle = (all.length - 1) / 2;
    return all.length ? (all[Math.floor(middle)] + all[Math.ceil(middle)]) / 2 : null;
  }

  // Seconds, from and to, of the parts that are unlike the training clips, if others are not.
  outlying() {
    const outlier = (e) => e.distance !== null && e.distance > 1,
      spans = [],
      others = new Set();
    const cells = ({ cells: [from, to] }) => Array.from({ length: to - from }, (_, i) => from + i);
    const like = this.audible().filter((e) => !outlier(e));
    like.flatMap(cells).forEach((cell) => others.add(cell));
    if (like.length === 0 || this.plan.keep_unreliable) return [];
    for (const cell of this.audible()
      .filter(outlier)
      .flatMap(cells)
      .filter((cell) => !others.has(cell))) {
      const [start, end] = [cell * this.cell, (cell + 1) * this.cell],
        last = spans.at(-1);
      if (last && start <= last[1] + 1e-6) last[1] = Math.max(last[1], end);
      else spans.push([start, end]);
    }
    return spans;
  }

  aggregate(r, k, reliable) {
    const { plan, classes } = this;
    const counts = (e) => !reliable || plan.keep_unreliable || e.distance === null || e.distance <= 1;
    const values = this.audible()
      .filter(counts)
      .map((e) => e.values[r * classes + k]);
    const mean = (of) => sum(values.map(([p]) => of(p))) / Math.max(1, values.length);
    switch (plan.aggregate ?? "power") {
      case "max":
        return most(values.map(([p]) => p));
      case "mean":
        return mean((p) => p);
      case "attention":
        return sum(values.map(([p, d]) => p * d)) / Math.max(sum(values.map(([, d]) => d)), Number.MIN_VALUE);
      default:
        return mean((p) => p ** EXPONENT) ** (1 / EXPONENT);
    }
  }

  // The answer of the model for a recording of `duration` seconds.
  answer(duration) {
    const { classes, plan, cell } = this,
      cells = Math.max(1, Math.ceil(duration / cell));
    const gate = this.gate(),
      distance = this.distance(),
      reliable = distance === null || distance <= 1;
    const curve = (k) => {
      let latest = 0;
      return Array.from({ length: cells }, (_, i) => {
        if (this.covered[i]) {
          latest = this.levels[i] < gate ? 0 : this.activity[i * classes + k] / Math.max(this.counted[i], 1);
        }
        return latest;
      });
    };
    const instruments = plan.classes.map((name, k) => {
      const each = this.model.seeds.map((_, r) => this.aggregate(r, k, reliable));
      return { name, probability: sum(each) / each.length, spread: spread(each), activity: curve(k) };
    });
    return decided({ duration, cell, distance, instruments }, plan.thresholds, plan);
  }
}

// With what is present, and when.
function decided(answer, thresholds, plan) {
  const reliable = plan.keep_unreliable || answer.distance === null || answer.distance <= 1;
  answer.instruments.forEach((instrument, k) => {
    const { probability, activity } = instrument,
      threshold = thresholds[k];
    const present = reliable && probability >= threshold && most(activity) > 0;
    Object.assign(instrument, { threshold, present, segments: present ? segments(activity, answer, plan) : [] });
  });
  return answer;
}

function filtered(activity, half) {
  if (half === 0) return activity;
  return activity.map((_, i) => {
    const around = activity.slice(Math.max(0, i - half), i + half + 1).sort((a, b) => a - b);
    return around[Math.floor(around.length / 2)];
  });
}

// When an instrument that is present plays.
function segments(activity, { cell, duration }, { min_duration, median }) {
  const smooth = filtered(activity, Math.floor(median / cell / 2)),
    curve = most(smooth) > 0 ? smooth : activity;
  const inside = Math.min(curve.length, Math.ceil(duration / cell)),
    top = most(curve),
    runs = [],
    bridged = [];
  for (let i = 0; i < inside; i++) {
    if (curve[i] < Math.fround(SUSTAIN) * top) continue;
    if (runs.length && runs.at(-1)[1] === i) runs.at(-1)[1] = i + 1;
    else runs.push([i, i + 1]);
  }
  const of = ([first, end]) => curve.slice(first, end);
  for (const run of runs.filter((run) => most(of(run)) >= Math.fround(ONSET) * top)) {
    if (bridged.length && (run[0] - bridged.at(-1)[1]) * cell < BRIDGED) bridged.at(-1)[1] = run[1];
    else bridged.push([...run]);
  }
  const main = bridged.reduce((a, b) => (a === null || sum(of(b)) > sum(of(a)) ? b : a), null);
  return bridged.flatMap((run) => {
    const [first, end] = run,
      start = first * cell,
      length = Math.min((end - first) * cell, duration - start);
    if (length <= 0 || (length < min_duration && run !== main)) return [];
    return [{ start, end: Math.min(end * cell, duration), confidence: sum(of(run)) / (end - first) }];
  });
}

// `curve`, an entry per `cell` seconds, as `columns` entries over `span` seconds: the mean of what each covers.
export function resampled(curve, cell, span, columns) {
  const width = span / cell / columns;
  return Array.from({ length: columns }, (_, i) => {
    const [start, end] = [i * width, (i + 1) * width];
    let covered = 0;
    for (let j = Math.floor(start); j < Math.min(Math.ceil(end), curve.length); j++) {
      covered += Math.max(0, Math.min(end, j + 1) - Math.max(start, j)) * curve[j];
    }
    return covered / width;
  });
}

function mean({ weights }, each) {
  const [first] = each,
    { cell } = first,
    cells = Math.max(1, Math.ceil(first.duration / cell));
  const share = weights.map((weight) => weight / sum(weights)),
    known = each.map((a) => a.distance).filter((d) => d !== null);
  const instruments = first.instruments.map(({ name }, k) => {
    const probabilities = each.map((answer) => answer.instruments[k].probability);
    const odds = sum(probabilities.map((p, m) => share[m] * logit(p)));
    const curves = each.map((answer) => resampled(answer.instruments[k].activity, answer.cell, cells * cell, cells));
    const activity = Array.from({ length: cells }, (_, i) => sum(curves.map((curve, m) => share[m] * curve[i])));
    return {
      name,
      probability: probabilities.every((p) => p === 0) ? 0 : sigmoid(odds),
      spread: spread(probabilities),
      activity,
    };
  });
  return { duration: first.duration, cell, distance: known.length ? Math.max(...known) : null, instruments };
}

// The answer of models, from those of each.
function combine(combination, each, plan) {
  if (each.length === 1 && combination.calibrations === null) return each[0];
  const answer = each.length === 1 ? each[0] : mean(combination, each);
  answer.instruments.forEach((instrument, k) => {
    const p = instrument.probability;
    if (combination.calibrations && p > 0) instrument.probability = calibrated(combination.calibrations[k], p);
  });
  return decided(answer, combination.thresholds, plan);
}

// The answer of all models of all parts.
export function combined({ parts, whole }, each, plan) {
  let at = 0;
  const ofParts = parts.map((part) => combine(part, each.slice(at, (at += part.weights.length)), plan));
  return combine(whole, ofParts, plan);
}

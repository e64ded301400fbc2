// Runs the op checks, as `wmic check` does: outputs against the reference, gradients against central differences, and
// a replay that must be bit-identical.

import { Player, json } from "./player.js";

const $ = (selector) => document.querySelector(selector);
const [start, save, progress, status] = [".start", ".save", "progress", ".status"].map($);
const say = (text) => (status.textContent = text);

// As in `src/core/random.rs`: a word is a function of (seed, counter).
function philox(counter, key) {
  const high = (a, b) => {
    const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
    const t = ah * bl + Math.floor((al * bl) / 65536),
      u = al * bh + (t % 65536);
    return (ah * bh + Math.floor(t / 65536) + Math.floor(u / 65536)) >>> 0;
  };
  let [[c0, c1, c2, c3], [k0, k1]] = [counter, key];
  for (let round = 0; round < 10; round++) {
    const [a, b] = [0xd2511f53, 0xcd9e8d57];
    [c0, c1, c2, c3] = [
      (high(b, c2) ^ c1 ^ k0) >>> 0,
      Math.imul(b, c2) >>> 0,
      (high(a, c0) ^ c3 ^ k1) >>> 0,
      Math.imul(a, c0) >>> 0,
    ];
    [k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0];
  }
  return c0;
}

// Along a coordinate, or a direction drawn at random.
function direction(number, len, each) {
  if (each) return Float64Array.from({ length: len }, (_, i) => (i === number ? 1 : 0));
  return Float64Array.from(
    { length: len },
    (_, i) => (2 * (philox([i, number, 0, 0x1217], [0xd12ec7, 0]) + 0.5)) / 2 ** 32 - 1,
  );
}

// An error as a fraction of its tolerance.
function share(got, want, allowed) {
  const of = got === want ? 0 : Math.abs(got - want) / allowed;
  return Number.isNaN(of) ? Infinity : of;
}

async function check(
  player,
  { op, case: name, plan: data, outputs, gradients, forward: [atol, rtol], gradient: [gAtol, gRtol] },
) {
  const failures = [],
    bits = (values) => new Uint32Array(values.buffer, values.byteOffset, values.length);
  const replay = async () => {
    const plan = await player.plan(data, true),
      read = await plan.run();
    plan.destroy();
    return read.map((values) => values.slice());
  };
  let [forward, gradient] = [null, null];
  try {
    const [read, again] = [await replay(), await replay()];
    if (read.some((values, i) => bits(values).some((word, at) => word !== bits(again[i])[at]))) {
      failures.push("a replay is not bit-identical");
    }
    forward = 0;
    outputs.forEach(({ expected, whole }, o) => {
      const words = player.words(expected),
        got = whole ? bits(read[o]) : read[o];
      const wanted = new (whole ? Uint32Array : Float32Array)(words.buffer, words.byteOffset, words.length);
      wanted.forEach((want, i) => {
        const of = share(got[i], want, atol + rtol * Math.abs(want));
        if (of > 1 && forward <= 1) failures.push(`output ${o}[${i}] is ${got[i]}, expected ${want}`);
        forward = Math.max(forward, of);
      });
    });
    gradients.forEach(({ input, slopes, each }, g) => {
      const dx = read[outputs.length + g];
      gradient ??= 0;
      slopes.forEach((want, number) => {
        let [got, size, norm] = [0, 0, 0];
        direction(number, dx.length, each).forEach((d, i) => {
          got += dx[i] * d;
          size += Math.abs(dx[i] * d);
          norm += d * d;
        });
        const of = share(got, want, gAtol * Math.sqrt(norm) + gRtol * Math.max(size, Math.abs(want)));
        if (of > 1 && gradient <= 1)
          failures.push(`gradient of input ${input}, ${number}: ${got}, central differences give ${want}`);
        gradient = Math.max(gradient, of);
      });
    });
  } catch (error) {
    failures.push(error.message);
  }
  const finite = (v) => (Number.isFinite(v) ? v : null);
  return {
    op,
    case: name,
    variant: "browser",
    forward: finite(forward),
    gradient: finite(gradient),
    passed: failures.length === 0,
    failures,
  };
}

function show({ op, case: name, forward, gradient, passed, failures }) {
  const percent = (v) => (v === null ? "-" : v >= 100 ? "> 9999 %" : `${(100 * v).toFixed(1)} %`);
  const row = document.createElement("tr");
  for (const text of [
    op,
    name,
    percent(forward),
    percent(gradient),
    passed ? "ok" : `FAILED: ${failures.join("; ")}`,
  ]) {
    row.appendChild(document.createElement("td")).textContent = text;
  }
  row.className = passed ? "" : "present";
  if (passed) $("tbody").append(row);
  else $("tbody").prepend(row);
}

async function run(player, cases, version) {
  start.disabled = true;
  $("section[hidden]")?.removeAttribute("hidden");
  $("tbody").replaceChildren();
  progress.hidden = false;
  say(`Running ${cases.length} checks …`);
  const checks = [];
  for (const of of cases) {
    const outcome = await check(player, of);
    checks.push(outcome);
    show(outcome);
    progress.value = checks.length / cases.length;
  }
  const failed = checks.filter((outcome) => !outcome.passed).length;
  progress.hidden = true;
  say(failed ? `${failed} of ${checks.length} checks FAILED.` : `All ${checks.length} checks passed.`);
  start.disabled = save.disabled = false;
  return {
    device: device(player),
    agent: navigator.userAgent,
    wmic_version: version,
    checks,
    passed: checks.length - failed,
    failed,
  };
}

const device = ({ info }) => [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");

try {
  navigator.serviceWorker?.register("sw.js").catch(() => {});
  const { cases, shared, version } = await json("plan.json");
  const player = await Player.open(shared, (share) => (progress.value = share));
  $("footer").textContent = `Written by wmic ${version} · GPU: ${device(player)}`;
  let result;
  start.onclick = async () => (result = await run(player, cases, version));
  save.onclick = () => {
    const link = document.createElement("a"),
      blob = new Blob([JSON.stringify(result, null, 2)], { type: "application/json" });
    link.href = URL.createObjectURL(blob);
    link.download = "wmic-check.json";
    link.click();
    URL.revokeObjectURL(link.href);
  };
  start.disabled = false;
  progress.hidden = true;
  say(`${cases.length} checks are ready.`);
} catch (error) {
  progress.hidden = true;
  say(error.message);
}

// The page: a recording is chosen, dropped or recorded; its timeline appears as it is analysed.

import { decode } from "./audio.js";
import { resampled } from "./excerpts.js";
import { Recogniser } from "./recognise.js";

const [BARS, COLUMNS] = [12, 1200]; // Most bars, and most columns of one.
const $ = (selector) => document.querySelector(selector);
const make = (name, text = "", properties = {}) =>
  Object.assign(document.createElement(name), { textContent: text, ...properties });
const [input, microphone, cancel, progress, status] = [
  ".choose input",
  ".microphone",
  ".cancel",
  "progress",
  ".status",
].map($);
const [article, audio, inner, cursor] = [".recording", "audio", ".inner", ".view .cursor"].map($);

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}
const words = (name) => name.replaceAll("_", " ");
const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const two = (n) => String(Math.floor(n)).padStart(2, "0");

// A position in the recording.
function clock(t, length) {
  if (length < 60) return t.toFixed(1);
  return length < 3600
    ? `${Math.floor(t / 60)}:${two(t % 60)}`
    : `${Math.floor(t / 3600)}:${two((t / 60) % 60)}:${two(t % 60)}`;
}

// When an instrument plays, without short pauses.
function times({ segments }, duration) {
  const spans = [];
  for (const { start, end } of segments) {
    if (spans.length && start - spans.at(-1)[1] < 0.02 * duration) spans.at(-1)[1] = end;
    else spans.push([start, end]);
  }
  if (spans.length === 1 && spans[0][1] - spans[0][0] > 0.98 * duration) return "throughout";
  return (
    spans.map((span) => span.map((t) => clock(t, duration)).join("–")).join(", ") +
    (spans.length && duration < 60 ? " s" : "")
  );
}

let shown = null;
let recogniser;

// Shows an answer: bars of what is present, and a table of all.
function show(answer) {
  shown = answer;
  const { duration, cell, instruments } = answer;
  const ranked = [...instruments].sort((a, b) => b.present - a.present || b.probability - a.probability);
  const bars = ranked.filter((i) => i.present).slice(0, BARS),
    colour = getComputedStyle(document.body).getPropertyValue("--bar");
  const when = (i) => times(i, duration);
  $(".summary").textContent = bars.length
    ? capitalised(bars.map((i) => `${words(i.name)} ${when(i)}`).join("; "))
    : "No instrument";
  $(".picture").hidden = bars.length === 0;
  $(".names").replaceChildren(
    ...bars.map((i) => make("div", words(i.name), { className: "name", title: words(i.name) })),
  );
  $(".figures").replaceChildren(
    ...bars.map((i) => {
      const figure = make("div", i.probability.toFixed(2), { className: "p" });
      if (i.spread !== null) figure.append(make("small", ` ± ${i.spread.toFixed(2)}`));
      return figure;
    }),
  );
  const track = (i) => {
    const of = make("div", "", { className: "track", role: "img", ariaLabel: `${words(i.name)}: plays ${when(i)}` });
    const most = Math.max(...i.activity),
      columns = Math.min(COLUMNS, Math.max(1, Math.round(duration / cell)));
    const canvas = of.appendChild(make("canvas", "", { width: columns, height: 1 })),
      draw = canvas.getContext("2d");
    draw.fillStyle = colour;
    resampled(i.activity, cell, duration, columns).forEach((v, x) => {
      draw.globalAlpha = Math.min(1, most > 0 ? (v / most) * i.probability : 0);
      draw.fillRect(x, 0, 1, 1);
    });
    for (const { start, end } of i.segments) {
      const mark = of.appendChild(make("i"));
      Object.assign(mark.style, {
        left: `${(100 * start) / duration}%`,
        width: `${(100 * (end - start)) / duration}%`,
      });
    }
    return of;
  };
  $(".tracks").replaceChildren(...bars.map(track));
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600],
    room = inner.offsetWidth / 64;
  const step = steps.find((s) => duration / s <= room) ?? duration;
  $(".time").replaceChildren(
    ...Array.from({ length: Math.floor(duration / step) + 1 }, (_, i) => {
      const label = make("span", clock(i * step, duration) + (duration < 60 ? " s" : ""), {
        className: i === 0 ? "first" : "",
      });
      label.style.left = `${(100 * i * step) / duration}%`;
      if (duration - i * step < step / 3 && i > 0) label.className = "last";
      return label;
    }),
  );
  $("tbody").replaceChildren(
    ...ranked.map((i) => {
      const row = make("tr", "", { className: i.present ? "present" : "" });
      const cells = [
        words(i.name),
        i.probability.toFixed(2),
        i.spread?.toFixed(2) ?? "",
        i.present ? "yes" : "no",
        when(i),
      ];
      row.append(...cells.map((text) => make("td", text)));
      row.children[1].className = "likely";
      row.children[1].style.setProperty("--p", i.probability.toFixed(3));
      row.children[1].dataset.v = i.probability;
      return row;
    }),
  );
  $(".warnings").replaceChildren(
    ...(answer.warnings ?? []).map((text) => make("p", `Note: ${text}`, { className: "note" })),
  );
}

let running = null;

async function analyse(file, name) {
  running?.abort();
  const mine = (running = new AbortController()),
    { signal } = mine;
  cancel.hidden = progress.hidden = false;
  progress.removeAttribute("value");
  progress.ariaLabel = `Analysing ${name}`;
  say(`Analysing ${name} …`);
  try {
    const recording = await decode(file);
    signal.throwIfAborted();
    article.hidden = false;
    article.ariaBusy = "true";
    $("#name").textContent = name;
    const seeds = new Set(recogniser.plan.streams.flatMap(({ models }) => models.flatMap((m) => m.seeds))).size;
    $(".about").textContent =
      `${clock(recording.duration, 60)} · ${recogniser.plan.name}, ${seeds} seed${seeds > 1 ? "s" : ""}`;
    URL.revokeObjectURL(audio.src);
    audio.src = URL.createObjectURL(file);
    audio.ariaLabel = `Audio of ${name}`;
    const answer = await recogniser.recognise(
      recording,
      (partial, share) => {
        progress.value = share;
        if (!signal.aborted) show(partial);
      },
      signal,
    );
    show(answer);
    const heard = answer.instruments.filter((i) => i.present).length;
    say(`Done: ${heard || "no"} instrument${heard === 1 ? "" : "s"}.`);
  } catch (error) {
    if (running === mine) say(signal.aborted ? "Cancelled." : error.message, !signal.aborted);
  } finally {
    if (running === mine) {
      article.ariaBusy = "false";
      cancel.hidden = progress.hidden = true;
    }
  }
}

input.onchange = () => {
  if (input.files.length) analyse(input.files[0], input.files[0].name);
  input.value = "";
};
cancel.onclick = () => running?.abort();
addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
for (const [name, over] of [
  ["dragover", true],
  ["dragleave", false],
  ["drop", false],
]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", over);
    const [file] = name === "drop" ? event.dataTransfer.files : [];
    if (file && recogniser) analyse(file, file.name);
  });
}

let recorder = null;
microphone.onclick = async () => {
  if (recorder) return recorder.stop();
  try {
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: raw }),
      parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      const { mimeType } = recorder;
      recorder = null;
      microphone.textContent = "Record";
      microphone.classList.remove("on");
      analyse(new Blob(parts, { type: mimeType }), "Recording");
    };
    recorder.start();
    microphone.textContent = "Stop and analyse";
    microphone.classList.add("on");
    say("Recording …");
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`, true);
  }
};

// The sound and its place in the timeline.
const follow = () => {
  if (!shown) return;
  cursor.hidden = audio.currentTime === 0;
  cursor.style.left = `${(100 * audio.currentTime) / shown.duration}%`;
  if (!audio.paused) requestAnimationFrame(follow);
};
for (const event of ["play", "timeupdate", "seeked"]) audio.addEventListener(event, follow);
inner.addEventListener("click", (event) => {
  const { left, width } = inner.getBoundingClientRect();
  if (shown) audio.currentTime = (shown.duration * (event.clientX - left)) / width;
});
for (const [of, event] of [
  [matchMedia("(prefers-color-scheme: dark)"), "change"],
  [window, "resize"],
]) {
  of.addEventListener(event, () => shown && show(shown));
}

try {
  navigator.serviceWorker?.register("sw.js").catch(() => {});
  recogniser = await Recogniser.open((share) => (progress.value = share));
  const { plan, player } = recogniser,
    gpu = [player.info.vendor, player.info.architecture].filter(Boolean).join(" ");
  $("footer").textContent = `${plan.name}, written by wmic ${plan.version}${gpu ? ` · GPU: ${gpu}` : ""}`;
  input.disabled = microphone.disabled = false;
  microphone.hidden = !navigator.mediaDevices?.getUserMedia;
  progress.hidden = true;
  say("Ready.");
} catch (error) {
  progress.hidden = true;
  say(error.message, true);
}

const clock = (t) => {
  const s = Math.floor(t), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return t.toFixed(1) + " seconds";
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
};
const recording = document.querySelector(".recording"), duration = Number(recording.dataset.duration);
const audio = recording.querySelector("audio");
const [picture, view, inner, time, lane] = [".picture", ".view", ".inner", ".time", ".lane"].map((s) => recording.querySelector(s));

const attention = recording.querySelector("[data-attention]");
if (attention) {
  const show = () => picture.classList.toggle("attention", attention.checked);
  attention.onchange = show;
  show();
}

// Zoom: the picture is that many times as wide as the view, down to 5 seconds across.
const most = Math.max(1, duration / 5);
let zoom = 1;
function zoomTo(wanted, x = view.clientWidth / 2) {
  const at = (view.scrollLeft + x) / inner.offsetWidth;
  zoom = Math.min(Math.max(wanted, 1), most);
  inner.style.width = 100 * zoom + "%";
  view.scrollLeft = at * inner.offsetWidth - x;
  picture.classList.toggle("zoomed", zoom > 1);
  ticks();
}

// Where the sound is in the view, if it is; else its middle.
function focus() {
  const x = audio ? (audio.currentTime / duration) * inner.offsetWidth - view.scrollLeft : -1;
  return x >= 0 && x <= view.clientWidth ? x : view.clientWidth / 2;
}

// Labels at round times, within the view and a little beyond.
const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, ...Array.from({ length: 20 }, (_, i) => 3600 * 2 ** i)];
function ticks() {
  const width = inner.offsetWidth, apart = duration < 3600 ? 64 : 96;
  const step = steps.find((s) => (s / duration) * width >= apart) ?? duration;
  const [from, to] = [view.scrollLeft - 100, view.scrollLeft + view.clientWidth + 100].map((x) => (x / width) * duration);
  const labels = [];
  for (let i = Math.max(0, Math.ceil(from / step)); i * step <= Math.min(to, duration); i++) {
    const label = document.createElement("span");
    const t = i * step, two = (n) => String(Math.floor(n)).padStart(2, "0");
    const rest = step < 1 ? (t % 60).toFixed(1).padStart(4, "0") : two(Math.round(t) % 60);
    label.textContent =
      duration < 60 ? `${step < 1 ? t.toFixed(1) : t} s`
      : duration < 3600 ? `${Math.floor(t / 60)}:${rest}`
      : `${Math.floor(t / 3600)}:${two((t / 60) % 60)}:${rest}`;
    label.style.left = (100 * t) / duration + "%";
    label.className = t === 0 ? "first" : (1 - t / duration) * width < 20 ? "last" : "";
    labels.push(label);
  }
  time.replaceChildren(...labels);
}
let asked = false;
const later = () => {
  if (!asked) requestAnimationFrame(() => ((asked = false), ticks()));
  asked = true;
};
view.addEventListener("scroll", later);
new ResizeObserver(later).observe(view);

// The wheel scrolls when zoomed, and zooms with Ctrl or by a pinch.
view.addEventListener("wheel", (event) => {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoomTo(zoom * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.003)), event.clientX - view.getBoundingClientRect().left);
  } else if (zoom > 1 && !event.shiftKey && event.deltaX === 0) {
    const before = view.scrollLeft;
    view.scrollLeft += event.deltaY * (event.deltaMode ? 30 : 1);
    // At either end the page scrolls.
    if (view.scrollLeft !== before) event.preventDefault();
  }
}, { passive: false });

const tools = document.createElement("div");
tools.className = "tools";
for (const [text, label, act] of [
  ["−", "Zoom out", () => zoomTo(zoom / 2, focus())],
  ["+", "Zoom in", () => zoomTo(zoom * 2, focus())],
  ["whole", "Show the whole recording", () => zoomTo(1)],
]) {
  const button = tools.appendChild(document.createElement("button"));
  button.textContent = text;
  button.title = label;
  button.setAttribute("aria-label", label);
  button.onclick = act;
}
const hint = tools.appendChild(document.createElement("small"));
hint.textContent = "Zoom: + and − keys, Ctrl + wheel; drag or wheel to scroll";
if (most > 1.5) picture.before(tools);

// A click moves the sound; a drag scrolls, or moves the sound if everything is in view.
const cursor = audio && lane.appendChild(document.createElement("div"));
lane.tabIndex = 0;
lane.setAttribute("role", audio ? "slider" : "group");
lane.setAttribute("aria-label", "Position in the recording");
function show() {
  if (!audio) return;
  const t = Math.min(audio.currentTime, duration);
  cursor.style.left = (100 * t) / duration + "%";
  lane.setAttribute("aria-valuenow", t.toFixed(1));
  lane.setAttribute("aria-valuetext", clock(t));
}
// Brings a time into view.
function reveal(t) {
  const x = (t / duration) * inner.offsetWidth;
  if (x < view.scrollLeft || x > view.scrollLeft + view.clientWidth) view.scrollLeft = x - view.clientWidth / 4;
}
function seek(t, follow) {
  if (!audio) return void (view.scrollLeft = (t / duration) * inner.offsetWidth - view.clientWidth / 2);
  audio.currentTime = Math.max(0, Math.min(t, duration));
  show();
  if (follow) reveal(audio.currentTime);
}
const now = () => (audio ? audio.currentTime : ((view.scrollLeft + view.clientWidth / 2) / inner.offsetWidth) * duration);
if (audio) {
  cursor.className = "cursor";
  lane.setAttribute("aria-valuemin", "0");
  lane.setAttribute("aria-valuemax", duration.toFixed(1));
  const run = () => {
    show();
    if (audio.paused) return;
    if (!drag) reveal(audio.currentTime);
    requestAnimationFrame(run);
  };
  audio.addEventListener("play", run);
  for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, show);
}
let drag = null;
const timeAt = (event) => {
  const box = inner.getBoundingClientRect();
  return (duration * (event.clientX - box.left)) / box.width;
};
lane.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  drag = { x: event.clientX, scroll: view.scrollLeft, moved: false };
  // Fingers scroll by themselves.
  if (event.pointerType === "mouse") lane.setPointerCapture(event.pointerId);
  if (zoom === 1 && event.pointerType === "mouse") seek(timeAt(event));
});
lane.addEventListener("pointermove", (event) => {
  if (!drag || event.pointerType !== "mouse") return;
  drag.moved ||= Math.abs(event.clientX - drag.x) > 4;
  if (zoom === 1) seek(timeAt(event));
  else if (drag.moved) view.scrollLeft = drag.scroll + drag.x - event.clientX;
});
lane.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved && audio) seek(timeAt(event));
  drag = null;
});
lane.addEventListener("pointercancel", () => (drag = null));

const keys = {
  ArrowLeft: () => seek(now() - step(), true),
  ArrowRight: () => seek(now() + step(), true),
  PageDown: () => seek(now() - 10 * step(), true),
  PageUp: () => seek(now() + 10 * step(), true),
  Home: () => seek(0, true),
  End: () => seek(duration, true),
  "+": () => zoomTo(zoom * 2, focus()),
  "=": () => zoomTo(zoom * 2, focus()),
  "-": () => zoomTo(zoom / 2, focus()),
  0: () => zoomTo(1),
  " ": () => audio && (audio.paused ? audio.play() : audio.pause()),
};
const step = () => Math.max(duration / zoom / 100, 0.1);
lane.addEventListener("keydown", (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
show();
ticks();

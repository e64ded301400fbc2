const clock = (t) => {
  const s = Math.floor(t), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return t.toFixed(1) + " seconds";
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
};

for (const recording of document.querySelectorAll(".recording")) {
  const duration = Number(recording.dataset.duration);
  const audio = recording.querySelector("audio");
  const lane = recording.querySelector(".lane");
  if (audio) follow(audio, lane, duration);
  const attention = recording.querySelector("[data-attention]");
  if (attention) attention.onchange = () => recording.querySelector(".picture").classList.toggle("attention", attention.checked);
}

// The cursor follows the sound, and the sound the cursor.
function follow(audio, lane, duration) {
  const cursor = lane.appendChild(document.createElement("div"));
  cursor.className = "cursor";
  lane.setAttribute("role", "slider");
  lane.setAttribute("tabindex", "0");
  lane.setAttribute("aria-label", "Position in the recording");
  lane.setAttribute("aria-valuemin", "0");
  lane.setAttribute("aria-valuemax", duration.toFixed(1));
  const show = () => {
    const t = Math.min(audio.currentTime, duration);
    cursor.style.left = (100 * t) / duration + "%";
    lane.setAttribute("aria-valuenow", t.toFixed(1));
    lane.setAttribute("aria-valuetext", clock(t));
  };
  const seek = (t) => {
    audio.currentTime = Math.max(0, Math.min(t, duration));
    show();
  };
  const run = () => {
    show();
    if (!audio.paused) requestAnimationFrame(run);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    run();
  });
  for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, show);
  const point = (event) => {
    const box = lane.getBoundingClientRect();
    seek((duration * (event.clientX - box.left)) / box.width);
  };
  lane.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    lane.setPointerCapture(event.pointerId);
    point(event);
  });
  lane.addEventListener("pointermove", (event) => {
    if (lane.hasPointerCapture(event.pointerId)) point(event);
  });
  const step = Math.max(duration / 100, 0.1);
  const keys = {
    ArrowLeft: () => seek(audio.currentTime - step),
    ArrowRight: () => seek(audio.currentTime + step),
    ArrowDown: () => seek(audio.currentTime - step),
    ArrowUp: () => seek(audio.currentTime + step),
    PageDown: () => seek(audio.currentTime - 10 * step),
    PageUp: () => seek(audio.currentTime + 10 * step),
    Home: () => seek(0),
    End: () => seek(duration),
    " ": () => (audio.paused ? audio.play() : audio.pause()),
  };
  lane.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  show();
}

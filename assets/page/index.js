// Recordings: link, file, seconds, the present instruments (name, probability, seconds), and warnings.
const all = JSON.parse(document.getElementById("data").textContent).map(([href, file, duration, present, warnings], order) => {
  const cut = Math.max(file.lastIndexOf("/"), file.lastIndexOf("\\")) + 1;
  return { href, order, duration, present, warnings, folder: file.slice(0, cut), name: file.slice(cut), lower: file.toLowerCase() };
});
const clock = (t) => {
  const s = Math.round(t), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
};
const length = (t) => (t < 3600 ? `${Math.round(t / 60)} min` : `${Math.floor(t / 3600)} h ${Math.floor((t / 60) % 60)} min`);
const make = (tag, text, properties) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);
const [form, list, rows, heads] = [".filters", ".list", ".rows", ".heads"].map((s) => document.querySelector(s));
const conditions = form.querySelector(".conditions");

const recordings = new Map();
for (const r of all) for (const [name] of r.present) recordings.set(name, (recordings.get(name) ?? 0) + 1);
const names = [...recordings.keys()].sort((a, b) => a.localeCompare(b));

// One more "with this instrument for at least so long".
function condition() {
  const set = make("fieldset"), select = make("select", undefined, { name: "instrument", ariaLabel: "Instrument" });
  select.append(new Option("any instrument", ""), ...names.map((name) => new Option(`${name} (${recordings.get(name)})`, name)));
  const seconds = make("input", undefined, { type: "number", name: "seconds", min: 0, step: 1, value: 0, ariaLabel: "At least so many seconds" });
  set.append(conditions.childElementCount ? "and" : "with", select, "for at least", seconds, "s");
  conditions.append(set);
}
condition();

let sort = { key: "file", up: true }, shown = all;
const wanted = () =>
  [...conditions.children]
    .map((set) => ({ name: set.querySelector("select").value, seconds: Number(set.querySelector("input").value) || 0 }))
    .filter((c) => c.name);
const seconds = (r, name) => r.present.find((i) => i[0] === name)?.[2] ?? -1;

function update() {
  const terms = form.elements.path.value.toLowerCase().split(/\s+/).filter(Boolean), asked = wanted();
  shown = all.filter((r) => terms.every((t) => r.lower.includes(t)) && asked.every((c) => seconds(r, c.name) >= Math.max(c.seconds, 0)));
  // Instruments sort by the time of the one that is asked for, else by their number.
  const key = {
    file: (r) => r.order,
    duration: (r) => r.duration,
    present: asked.length ? (r) => seconds(r, asked[0].name) : (r) => r.present.length,
  }[sort.key];
  if (sort.key !== "file" || !sort.up) shown.sort((a, b) => (sort.up ? 1 : -1) * (key(a) - key(b)) || a.order - b.order);
  for (const head of heads.children) head.removeAttribute("aria-sort");
  heads.querySelector(`[data-key="${sort.key}"]`).setAttribute("aria-sort", sort.up ? "ascending" : "descending");
  const number = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");
  const of = shown.length === all.length ? "" : ` of ${number(all.length)}`;
  form.querySelector(".count").textContent = `${number(shown.length)}${of} recordings, ${length(shown.reduce((sum, r) => sum + r.duration, 0))}`;
  draw();
}

// Only the rows in view exist.
function draw() {
  const sample = rows.firstElementChild ?? rows.appendChild(make("a", "", { className: "row" }));
  const height = sample.offsetHeight, beyond = 8;
  list.style.height = Math.max(shown.length, 1) * height + "px";
  const first = Math.max(0, Math.floor(-list.getBoundingClientRect().top / height) - beyond);
  const part = shown.slice(first, first + Math.ceil(innerHeight / height) + 2 * beyond);
  rows.style.top = first * height + "px";
  const names = new Set(wanted().map((c) => c.name));
  rows.replaceChildren(...part.map((r) => {
    const row = make("a", undefined, { className: "row", href: r.href });
    const name = make("span", r.name, { className: "name", title: r.folder + r.name });
    if (r.folder) name.append(make("small", r.folder));
    const none = r.warnings.some((line) => line.startsWith("is unreliable")) ? "unreliable" : "none";
    const present = make("span", r.present.length ? undefined : none, { className: "present" });
    r.present.forEach(([instrument, , t], i) => present.append(i ? ", " : "", make(names.has(instrument) ? "b" : "span", instrument), " ", make("small", clock(t))));
    present.title = present.textContent;
    if (r.warnings.length) name.prepend(make("b", "!", { className: "warning", title: r.warnings.join("\n") }), " ");
    row.append(name, make("span", clock(r.duration), { className: "length" }), present);
    return row;
  }));
  if (!part.length) rows.append(make("p", "No recording matches.", { className: "nothing row" }));
}
addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", draw);
form.addEventListener("input", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.elements.more.onclick = condition;
heads.onclick = ({ target: { dataset } }) => {
  if (!dataset.key) return;
  sort = { key: dataset.key, up: sort.key === dataset.key ? !sort.up : dataset.key === "file" };
  update();
};
update();

// Accept and reject pictures, remember it in this browser, export it. No network.
const figures = [...document.querySelectorAll("figure[data-name]")];
const key = "clipseg_ws review " + document.body.dataset.key;
const names = { accepted: "accepted", rejected: "rejected" };
let verdicts = {};
try { verdicts = JSON.parse(localStorage.getItem(key)) || {}; } catch { verdicts = {}; }

function keep() {
  try { localStorage.setItem(key, JSON.stringify(verdicts)); } catch { /* a private window: kept until it is closed */ }
}

function show() {
  const counts = { accepted: 0, rejected: 0, open: 0 };
  const wanted = document.querySelector("#filter").value;
  for (const figure of figures) {
    const verdict = names[verdicts[figure.dataset.name]] || "open";
    counts[verdict]++;
    figure.dataset.verdict = verdict;
    figure.hidden = wanted !== "all" && wanted !== verdict;
    for (const button of figure.querySelectorAll("button[data-verdict]"))
      button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
  }
  document.querySelector("#counts").textContent =
    `${counts.accepted} accepted, ${counts.rejected} rejected, ${counts.open} open`;
}

function judge(figure, verdict) {
  const name = figure.dataset.name;
  if (verdicts[name] === verdict) delete verdicts[name]; else verdicts[name] = verdict;
  keep();
  show();
}

function step(figure, by) {
  const shown = figures.filter(one => !one.hidden);
  const next = shown[Math.min(Math.max(shown.indexOf(figure) + by, 0), shown.length - 1)];
  if (next) { next.focus(); next.scrollIntoView({ block: "center" }); }
}

function save(text, file, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function quoted(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text; // a spreadsheet would read it as a formula
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table() {
  const lines = figures.map(f => [f.dataset.name, f.dataset.verdict, f.dataset.value].map(quoted).join(","));
  save(["picture,verdict,confidence", ...lines].join("\r\n") + "\r\n", "review.csv", "text/csv");
}

function list(verdict) {
  const lines = figures.filter(f => f.dataset.verdict === verdict).map(f => f.dataset.image);
  save(lines.map(line => line + "\n").join(""), `${verdict}.txt`, "text/plain");
}

for (const figure of figures) {
  figure.tabIndex = 0;
  figure.addEventListener("click", event => {
    const button = event.target.closest("button[data-verdict]");
    if (button) judge(figure, button.dataset.verdict);
    else if (event.target.tagName === "IMG") figure.classList.toggle("big");
  });
}
document.addEventListener("keydown", event => {
  const figure = event.target.closest("figure");
  if (!figure || event.ctrlKey || event.metaKey || event.altKey) return;
  const verdict = { a: "accepted", r: "rejected" }[event.key];
  if (verdict) { judge(figure, verdict); step(figure, 1); }
  else if (event.key === "ArrowDown" || event.key === "j") step(figure, 1);
  else if (event.key === "ArrowUp" || event.key === "k") step(figure, -1);
  else if (event.key === "z") figure.classList.toggle("big");
  else return;
  event.preventDefault();
});
document.querySelector("#filter").addEventListener("change", show);
document.querySelector("#csv").addEventListener("click", table);
document.querySelector("#accepted").addEventListener("click", () => list("accepted"));
document.querySelector("#rejected").addEventListener("click", () => list("rejected"));
show();

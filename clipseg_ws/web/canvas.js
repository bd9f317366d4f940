// The drawing board: points, boxes, scribbles on a picture, or a painted mask. What is drawn goes out as JSON in
// props.value: [{kind, name, points: [[x, y], ...], width}, ...] in pixels of the picture.
const canvas = element.querySelector("canvas");
const bar = element.querySelector(".cb-bar");
const chips = element.querySelector(".cb-chips");
const hint = element.querySelector(".cb-hint");
const pen = canvas.getContext("2d");
const image = new Image();
const HINTS = {
  point: "Click on a thing of the chosen class.",
  box: "Drag a box around a thing; its class then appears only inside its boxes.",
  scribble: "Draw a line over the chosen class.",
  outline: "Draw around the thing; the inside is filled.",
  brush: "Paint over the thing.",
  erase: "Take painted parts away.",
};
let shapes = [], current = null, tool = null, chosen = null, shown = "";

const names = () => props.names || [];
const tools = () => (props.tools || "").split(",");
const needsClass = () => tools()[0] === "point";
const colour = (name) => {
  const at = names().indexOf(name);
  return at < 0 ? "#ffffff" : (props.colours || [])[at] || "#ff3c00";
};
const thick = () => Math.max(1.5, canvas.width / 260);

function publish() {
  props.value = JSON.stringify(shapes);
  trigger("marked");
}

function button(text, pressed, act, extra) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.setAttribute("aria-pressed", String(pressed));
  b.addEventListener("click", act);
  if (extra) extra(b);
  return b;
}

function controls() {
  const list = names().concat(needsClass() ? ["background"] : []);
  if (needsClass() && !list.includes(chosen)) chosen = list[0];
  if (!tools().includes(tool)) tool = tools()[0];
  bar.replaceChildren(
    ...tools().map((t) => button(t, t === tool, () => { tool = t; controls(); })),
    button("undo", false, () => { if (shapes.pop()) publish(); draw(); }),
    button("clear", false, () => { if (shapes.length) { shapes = []; publish(); } draw(); }),
  );
  chips.replaceChildren(...(needsClass() ? list : []).map((name) =>
    button(name, name === chosen, () => { chosen = name; controls(); }, (b) => {
      b.dataset.name = name;
      const dot = document.createElement("i");
      dot.style.background = colour(name);
      b.prepend(dot);
    })));
  hint.textContent = !props.picture ? "" :
    needsClass() && !names().length ? "Type class names first, then mark them here (optional)." : HINTS[tool] || "";
}

function path(points, close) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (close) pen.closePath();
}

function paint(shape) {
  const [first, last] = [shape.points[0], shape.points[shape.points.length - 1]];
  const line = thick(), c = shape.name ? colour(shape.name) : "#ff3c00";
  pen.lineJoin = pen.lineCap = "round";
  if (shape.kind === "point") {
    pen.beginPath();
    pen.arc(first[0], first[1], line * 2.6, 0, 2 * Math.PI);
    pen.fillStyle = c; pen.fill();
    pen.lineWidth = line; pen.strokeStyle = "#fff"; pen.stroke();
    pen.lineWidth = line / 2; pen.strokeStyle = "#000"; pen.stroke();
  } else if (shape.kind === "box") {
    const r = [first[0], first[1], last[0] - first[0], last[1] - first[1]];
    pen.strokeStyle = "#fff"; pen.lineWidth = line * 2.2; pen.strokeRect(...r);
    pen.strokeStyle = c; pen.lineWidth = line * 1.3; pen.strokeRect(...r);
  } else if (shape.kind === "scribble") {
    path(shape.points);
    pen.strokeStyle = "#fff"; pen.lineWidth = line * 2.6; pen.stroke();
    pen.strokeStyle = c; pen.lineWidth = line * 1.6; pen.stroke();
  } else if (shape.kind === "outline") {
    path(shape.points, true);
    pen.fillStyle = "rgba(255,60,0,.5)"; pen.fill();
    pen.strokeStyle = "#ff3c00"; pen.lineWidth = line; pen.stroke();
  } else {
    path(shape.points.concat([last]));
    pen.strokeStyle = shape.kind === "brush" ? "rgba(255,60,0,.55)" : "rgba(255,255,255,.75)";
    pen.lineWidth = shape.width; pen.stroke();
  }
}

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!image.naturalWidth) return;
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  shapes.forEach(paint);
  if (current) paint(current);
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * canvas.width;
  const y = ((event.clientY - box.top) / box.height) * canvas.height;
  const inside = (v, most) => Math.round(Math.min(Math.max(v, 0), most) * 10) / 10;
  return [inside(x, canvas.width), inside(y, canvas.height)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!props.picture || (needsClass() && !chosen)) return;
  if (tool === "box" && chosen === "background") { hint.textContent = "Background takes points and scribbles, no boxes."; return; }
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  current = { kind: tool, name: needsClass() ? chosen : "", points: [place(event)], width: Math.round(canvas.width / 16) };
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!current || current.kind === "point") return;
  const spot = place(event);
  if (current.kind === "box") current.points[1] = spot;
  else {
    const [x, y] = current.points[current.points.length - 1];
    if (Math.hypot(spot[0] - x, spot[1] - y) >= canvas.width / 300) current.points.push(spot);
  }
  draw();
});
canvas.addEventListener("pointerup", () => {
  const shape = current;
  current = null;
  if (!shape) return;
  const tiny = shape.kind === "box" && (!shape.points[1] || shape.points[0].some((v, i) => v === shape.points[1][i]));
  if (!tiny && !(shape.kind === "outline" && shape.points.length < 3)) { shapes.push(shape); publish(); }
  draw();
});
canvas.addEventListener("pointercancel", () => { current = null; draw(); });

image.addEventListener("load", draw);
function renew() {
  const key = (props.picture || "") + props.serial;
  if (key !== shown) {
    shapes = [];
    props.value = "[]";
    shown = key;
    canvas.width = props.width || 1;
    canvas.height = props.height || 1;
    canvas.hidden = !props.picture;
    if (props.picture) image.src = props.picture;
  }
  const known = names().concat(["background", ""]);
  if (shapes.some((s) => !known.includes(s.name))) {
    shapes = shapes.filter((s) => known.includes(s.name));
    props.value = JSON.stringify(shapes);
  }
  controls();
  draw();
}
watch(["picture", "names", "serial"], renew);
renew();

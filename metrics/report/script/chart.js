// A line chart as SVG: bands, lines, points, labelled axes, a cursor. Drawn at its real width, so text keeps its size.

const svgNames = "http://www.w3.org/2000/svg";
function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(svgNames, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** About `count` round numbers from `low` to `high`. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return { values: found, digits: Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)) };
}

class Chart {
  /** `onPoint(x)` is told where the pointer is, `onRange(from, to)` what was dragged over; both in the data's units. */
  constructor(holder, onPoint, onRange) {
    Object.assign(this, { holder, onPoint, onRange, spec: null, dragged: null });
    new ResizeObserver(() => this.spec && holder.clientWidth !== this.width && this.draw(this.spec)).observe(holder);
  }

  /**
   * spec: { label, xLabel, yLabel, xDigits, series: [{ x, y, low, high, color, dash, thin, faint }], points: [{ x, y, text, color }] }
   */
  draw(spec) {
    this.spec = spec;
    this.width = this.holder.clientWidth || 640;
    this.height = Math.round(Math.min(440, Math.max(270, this.width * 0.5)));
    const narrow = this.width < 520;
    const left = 54, right = 16, top = 26, bottom = 44;
    const xs = spec.series.flatMap((s) => [s.x[0], s.x[s.x.length - 1]]).concat(spec.points.map((p) => p.x));
    const ys = spec.points.map((p) => p.y);
    for (const s of spec.series) {
      for (const values of [s.y, s.low, s.high]) if (values) for (const y of values) if (Number.isFinite(y)) ys.push(y);
    }
    let [x0, x1, y0, y1] = [least(xs), most(xs), least(ys), most(ys)];
    if (!(x1 > x0)) [x0, x1] = [x0 - 0.5, x0 + 0.5];
    const room = (y1 - y0) * 0.05 || Math.abs(y1) * 0.05 || 0.5;
    [y0, y1] = [y0 - room, y1 + room];
    this.toX = (x) => left + ((x - x0) / (x1 - x0)) * (this.width - left - right);
    this.toY = (y) => this.height - bottom - ((y - y0) / (y1 - y0)) * (this.height - top - bottom);
    this.fromX = (px) => Math.min(x1, Math.max(x0, x0 + ((px - left) / (this.width - left - right)) * (x1 - x0)));
    const svg = shape("svg", { width: this.width, height: this.height, viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": spec.label });
    const grid = shape("g", { class: "grid", "aria-hidden": "true" });
    const xTicks = ticks(x0, x1, narrow ? 5 : 10), yTicks = ticks(y0, y1, 6);
    for (const y of yTicks.values) {
      grid.append(shape("line", { x1: left, x2: this.width - right, y1: this.toY(y), y2: this.toY(y) }));
      grid.append(shape("text", { x: left - 7, y: this.toY(y) + 4, "text-anchor": "end" }, fixed(y, yTicks.digits)));
    }
    for (const x of xTicks.values) {
      grid.append(shape("line", { x1: this.toX(x), x2: this.toX(x), y1: this.height - bottom, y2: this.height - bottom + 4 }));
      grid.append(shape("text", { x: this.toX(x), y: this.height - bottom + 17, "text-anchor": "middle" }, fixed(x, xTicks.digits)));
    }
    grid.append(shape("line", { class: "axis", x1: left, x2: this.width - right, y1: this.height - bottom, y2: this.height - bottom }));
    grid.append(shape("text", { class: "label", x: (left + this.width - right) / 2, y: this.height - 8, "text-anchor": "middle" }, spec.xLabel));
    grid.append(shape("text", { class: "label", x: 4, y: 14 }, spec.yLabel));
    svg.append(grid);
    const banded = spec.series.filter((s) => s.low);
    for (const s of banded) svg.append(shape("path", { class: banded.length > 2 ? "band pale" : "band", d: this.band(s), style: `fill:${s.color}` }));
    for (const s of spec.series) {
      const kind = s.faint ? "line faint" : s.thin ? "line thin" : "line";
      svg.append(shape("path", { class: kind, d: this.line(s.x, s.y), "stroke-dasharray": s.dash || "none", style: `stroke:${s.color}` }));
    }
    for (const p of spec.points) {
      svg.append(shape("circle", { class: "point", cx: this.toX(p.x), cy: this.toY(p.y), r: 4.5, style: `stroke:${p.color}` }));
      const end = this.toX(p.x) > this.width - 110;
      svg.append(shape("text", { class: "note", x: this.toX(p.x) + (end ? -8 : 8), y: this.toY(p.y) + 16, "text-anchor": end ? "end" : "start" }, p.text));
    }
    this.over = shape("g", { "aria-hidden": "true" });
    svg.append(this.over);
    this.holder.replaceChildren(svg);
    svg.querySelectorAll("text.label, text.note").forEach((text) => this.fit(text));
    this.listen(svg);
  }

  /** Leaves out the middle of a text that would reach past the chart, as one with a long name does; it is shown on hovering. */
  fit(text) {
    const x = Number(text.getAttribute("x")), anchor = text.getAttribute("text-anchor");
    const room = anchor === "middle" ? 2 * Math.min(x, this.width - x) : anchor === "end" ? x : this.width - x;
    const whole = text.textContent, wide = text.getComputedTextLength();
    if (wide <= room) return;
    const kept = Math.max(8, Math.floor((whole.length * room) / wide) - 2), end = Math.floor(kept / 2);
    text.replaceChildren(`${whole.slice(0, kept - end)}…${whole.slice(-end)}`, shape("title", {}, whole));
  }

  line(x, y) {
    let path = "", pen = "M";
    for (let k = 0; k < x.length; k++) {
      if (!Number.isFinite(y[k])) {
        pen = "M";
        continue;
      }
      path += `${pen}${this.toX(x[k]).toFixed(1)} ${this.toY(y[k]).toFixed(1)}`;
      pen = "L";
    }
    return path;
  }

  band({ x, low, high }) {
    const ahead = [], back = [];
    for (let k = 0; k < x.length; k++) {
      if (!Number.isFinite(low[k])) continue;
      ahead.push(`${this.toX(x[k]).toFixed(1)} ${this.toY(high[k]).toFixed(1)}`);
      back.unshift(`${this.toX(x[k]).toFixed(1)} ${this.toY(low[k]).toFixed(1)}`);
    }
    return ahead.length ? `M${ahead.join("L")}L${back.join("L")}Z` : "";
  }

  /** A line at x, and a dot on each series with its number beside it. */
  cursor(x, dots) {
    if (!this.over) return;
    const at = this.toX(x);
    this.over.replaceChildren(shape("line", { class: "cursor", x1: at, x2: at, y1: 22, y2: this.height - 44 }));
    const left = at > this.width / 2;
    const labels = dots.map((dot) => ({ ...dot, py: this.toY(dot.y), ly: this.toY(dot.y) })).sort((a, b) => a.py - b.py);
    for (let k = 1; k < labels.length; k++) labels[k].ly = Math.max(labels[k].ly, labels[k - 1].ly + 15); // no number on another
    const lowest = this.height - 50, over = labels.length ? labels[labels.length - 1].ly - lowest : 0;
    for (const dot of labels) {
      this.over.append(shape("circle", { class: "dot", cx: this.toX(dot.x), cy: dot.py, r: 4, style: `fill:${dot.color}` }));
      this.over.append(shape("text", { class: "value", x: at + (left ? -10 : 10), y: dot.ly + 4 - Math.max(0, over), "text-anchor": left ? "end" : "start", style: `fill:${dot.color}` }, dot.text));
    }
  }

  listen(svg) {
    const place = (event) => this.fromX(event.clientX - svg.getBoundingClientRect().left);
    svg.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return; // there a drag scrolls the page
      this.onPoint(place(event));
      if (this.dragged === null) return;
      const [a, b] = [this.dragged, place(event)].map(this.toX).sort((p, q) => p - q);
      this.over.append(shape("rect", { class: "drag", x: a, y: 22, width: b - a, height: this.height - 66 }));
    });
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch") return this.onPoint(place(event));
      this.dragged = place(event);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener("pointerup", (event) => {
      if (this.dragged === null) return;
      const [from, to] = [this.dragged, place(event)].sort((a, b) => a - b);
      this.dragged = null;
      if (this.toX(to) - this.toX(from) > 12) this.onRange(from, to);
      else this.onPoint(place(event));
    });
    svg.addEventListener("dblclick", () => this.onRange(null, null));
  }
}

const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

// The interactive switcher curves: what the controls say, drawn, read off at a cursor, and as a table.

const COLORS = ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)"];
const DASHES = ["", "8 3", "2 3", "9 3 2 3", "14 4", "1 4"];
const PERCENTS = Array.from({ length: 101 }, (_, k) => k);
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

class Curves {
  constructor() {
    const form = byId("curve-controls");
    this.form = form;
    this.controls = form.elements;
    this.cursor = byId("curve-cursor");
    const names = blockNames("curves");
    fill(this.controls.dataset, names.map((name, k) => [k, name]), 0);
    form.querySelector("[data-several]").hidden = names.length < 2;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => this.changed(event.target.name));
    this.cursor.addEventListener("input", () => this.readOff());
    byId("curve-csv").addEventListener("click", () => saved("switcher.csv", this.csv()));
    byId("curve-view").hidden = false;
    this.chart = new Chart(byId("curve-chart"), (x) => this.pointAt(x), (from, to) => this.zoom(from, to));
    this.changed("dataset");
  }

  async changed(name) {
    const { controls } = this;
    if (name === "dataset") {
      this.data = await unpacked(`curves-${controls.dataset.value || 0}`);
      const { sizes, quality, readings } = this.data;
      const [{ pairs }] = readings; // of another context, the same pairs
      fill(controls.reading, readings.map(({ title }, k) => [k, title]), 0);
      this.form.querySelector("[data-readings]").hidden = readings.length < 2;
      const widest = pairs.findIndex((p) => p.small === 0 && p.large === sizes.length - 1);
      fill(controls.pair, pairs.map((p, k) => [k, `${sizes[p.small].name} → ${sizes[p.large].name}`]), widest);
      controls.y.options[0].textContent = quality.axis;
    }
    if (name === "dataset" || name === "pair" || name === "reading") this.newPair();
    const one = controls.runs.value === "one";
    for (const label of this.form.querySelectorAll(".seed")) label.hidden = !one;
    const [from, to] = [controls.from, controls.to].map((input) => Math.round(Number(input.value)));
    controls.from.value = Math.min(99, Math.max(0, from || 0));
    controls.to.value = Math.min(100, Math.max(Number(controls.from.value) + 1, to || 100));
    this.show();
  }

  /** The controls that depend on the pair of sizes: its seeds, scores, and whether its cost is known. */
  newPair() {
    const { controls, data } = this;
    const before = new Set(this.chosen());
    this.pair = data.readings[controls.reading.value].pairs[controls.pair.value];
    this.small = data.sizes[this.pair.small];
    this.large = data.sizes[this.pair.large];
    fill(controls.small_seed, this.small.seeds.map((seed, k) => [k, seed]), controls.small_seed.value || 0);
    fill(controls.large_seed, this.large.seeds.map((seed, k) => [k, seed]), controls.large_seed.value || 0);
    const kept = this.pair.scores.some((score) => before.has(score.name));
    byId("curve-scores").replaceChildren(
      ...this.pair.scores.map((score, k) => {
        const box = element("input", { type: "checkbox", name: "score", value: score.name });
        box.checked = kept ? before.has(score.name) : k === 0;
        const sample = shape("svg", { width: 26, height: 10, "aria-hidden": "true" });
        sample.append(shape("line", { x1: 0, x2: 26, y1: 5, y2: 5, style: `stroke:${COLORS[k]}`, "stroke-width": 2.5, "stroke-dasharray": DASHES[k] || "none" }));
        const like = score.same ? ` (orders like ${score.same})` : "";
        return element("label", { class: "check" }, box, sample, ` ${score.title}${like}`);
      }),
    );
    const [, cost, price] = controls.x.options;
    cost.disabled = !(this.small.flops > 0 && this.large.flops > 0);
    price.hidden = price.disabled = data.priceUnit === null || !(this.large.price > 0);
    price.textContent = data.priceUnit === null ? "price" : `price, ${data.priceUnit} per example`; // some browsers show it though hidden
    if (controls.x.selectedOptions[0].disabled) controls.x.value = "fraction";
    // which sentences a perfect router should defer isn't known: the best choices depend on one another in BLEU
    this.form.querySelector("[data-perfect]").hidden = !this.pair.perfect;
    if (!this.pair.perfect) controls.perfect.checked = false;
  }

  /** What the columns of the chosen reading and pair begin with. */
  get name() {
    return `${this.controls.reading.value}.${this.controls.pair.value}`;
  }

  chosen() {
    return [...this.form.querySelectorAll("[name=score]:checked")].map((box) => box.value);
  }

  column(score, part) {
    return this.data.columns[`${this.name}.${score.same || score.name}.${part}`];
  }

  /** [R_small × R_large] curves of 101 numbers, from 16-bit steps; none where the page holds only their mean. */
  singles(score) {
    if (!score.singles) return [];
    const steps = this.column(score, "every"), [least, most] = this.column(score, "range");
    const curves = [];
    for (let start = 0; start < steps.length; start += 101) {
      let level = 0;
      curves.push(PERCENTS.map((k) => {
        level = (level + steps[start + k]) % 65536;
        return least + (level / 65535) * (most - least);
      }));
    }
    return curves;
  }

  /** The chosen scores' curves as fractions: { title, values, low, high, others, passes, color, dash }. */
  curves() {
    const { controls } = this;
    const chosen = this.chosen();
    const runs = controls.runs.value;
    const place = Number(controls.small_seed.value) * this.large.seeds.length + Number(controls.large_seed.value);
    return this.pair.scores.flatMap((score, k) => {
      if (!chosen.includes(score.name)) return [];
      const curve = { title: score.title, name: score.name, passes: score.passes, color: COLORS[k], dash: DASHES[k], others: [] };
      curve.values = [...this.column(score, "mean")];
      if (runs === "interval") {
        curve.low = [...this.column(score, "low")];
        curve.high = [...this.column(score, "high")];
        if (!Number.isFinite(curve.low[0])) curve.low = curve.high = undefined;
      } else {
        const singles = this.singles(score);
        if (!singles.length) return [curve];
        if (runs === "one") curve.values = singles[place];
        if (runs === "every") curve.others = singles;
        if (runs === "range") {
          curve.low = PERCENTS.map((f) => least(singles.map((single) => single[f])));
          curve.high = PERCENTS.map((f) => most(singles.map((single) => single[f])));
        }
      }
      return [curve];
    });
  }

  /** What an example costs with that many percent deferred, in what the horizontal axis shows: prices, else FLOPs. */
  cost(percent, passes, kind = this.currency) {
    return passes * this.small[kind] + (percent / 100) * this.large[kind];
  }

  /** The percent deferred that costs so much. */
  percentAt(cost, passes) {
    return (100 * (cost - passes * this.small[this.currency])) / this.large[this.currency];
  }

  show() {
    const { controls, data } = this;
    this.byCost = controls.x.value !== "fraction";
    this.currency = controls.x.value === "price" ? "price" : "flops";
    this.scaled = controls.y.value === "scaled";
    this.shown = this.curves();
    const any = this.shown[0] || { values: [...this.column(this.pair.scores[0], "mean")] };
    const [start, end] = [any.values[0], any.values[100]];
    this.ends = { start, end };
    const from = Number(controls.from.value), to = Number(controls.to.value);
    this.percents = PERCENTS.slice(from, to + 1);
    const lastCost = this.cost(to, most([1, ...this.shown.map((curve) => curve.passes)]));
    [this.divisor, this.prefix] = this.currency === "price" ? [1, ""] : prefixed(lastCost);
    this.unit = this.currency === "price" ? `${data.priceUnit} per example` : `${this.prefix}FLOPs per example`;
    const y = (value) => (this.scaled ? value / end : 100 * value);
    this.toY = y;
    const cut = (values) => values && this.percents.map((k) => y(values[k]));
    const xs = (passes) => this.percents.map((k) => (this.byCost ? this.cost(k, passes) / this.divisor : k));
    const series = [];
    for (const curve of this.shown) {
      const x = xs(curve.passes);
      for (const other of curve.others) series.push({ x, y: cut(other), color: curve.color, faint: true });
      series.push({ x, y: cut(curve.values), low: cut(curve.low), high: cut(curve.high), color: curve.color, dash: curve.dash });
    }
    if (controls.random.checked) {
      // at random, each example goes to one model alone: the chord, from the one model's cost to the other's
      const x = this.byCost ? this.percents.map((k) => ((1 - k / 100) * this.small[this.currency] + (k / 100) * this.large[this.currency]) / this.divisor) : this.percents;
      series.push({ x, y: this.percents.map((k) => y(start + (k / 100) * (end - start))), color: "var(--soft)", dash: "4 4", thin: true });
    }
    if (controls.perfect.checked) {
      const perfect = data.columns[`${this.name}.perfect`];
      series.push({ x: xs(1), y: cut(perfect), color: "var(--soft)", dash: "1 3", thin: true });
    }
    const points = [];
    if (this.byCost && from === 0) points.push({ x: this.small[this.currency] / this.divisor, y: y(start), text: `${this.small.name} alone`, color: "var(--ink)" });
    if (this.byCost && to === 100) points.push({ x: this.large[this.currency] / this.divisor, y: y(end), text: `${this.large.name} alone`, color: "var(--ink)" });
    this.chart.draw({
      label: this.described(),
      series,
      points,
      xLabel: this.byCost ? `${this.currency === "price" ? "price" : "cost"}, ${this.unit}` : `examples deferred to ${this.large.name}, %`,
      yLabel: this.scaled ? `${data.quality.name}, ${this.large.name} = 1` : data.quality.axis,
    });
    const all = series.flatMap((s) => [s.x[0], s.x[s.x.length - 1]]).concat(points.map((p) => p.x));
    this.domain = all.length ? [least(all), most(all)] : [from, to];
    Object.assign(this.cursor, this.byCost ? { min: 0, max: 100, step: 1 } : { min: from, max: to, step: 1 });
    byId("curve-title").textContent =
      `${data.dataset}: ${this.small.name} → ${this.large.name}, n = ${whole.format(data.examples)} examples of split ${data.split}, ` +
      `${this.small.seeds.length} × ${this.large.seeds.length} runs`;
    byId("curve-reading").textContent = this.reading();
    this.table();
    this.readOff();
  }

  described() {
    const told = this.shown.map(({ title, values }) => {
      const peak = values.indexOf(most(values));
      return `${title} from ${fixed(100 * values[0])} at 0 % deferred to ${fixed(100 * values[100])} at 100 %, highest ${fixed(100 * values[peak])} at ${peak} %`;
    });
    return `Switcher curves of ${this.data.dataset}, ${this.small.name} to ${this.large.name}, ${this.data.quality.axis}: ${told.join("; ") || "none chosen"}.`;
  }

  reading() {
    const confidence = `${Math.round(1000 * this.data.confidence) / 10} %`;
    const runs = this.controls.runs.value;
    const missing = runs !== "interval" && this.pair.scores.some((s) => this.chosen().includes(s.name) && !s.singles);
    const parts = [
      {
        interval: this.shown.some((curve) => curve.low) ? `Mean over all pairs of runs; bands: ${confidence} intervals over seeds and examples.` : "Mean over all pairs of runs; no intervals were computed.",
        range: "Mean over all pairs of runs; bands: from the lowest to the highest of them.",
        every: "Mean over all pairs of runs, and each pair by itself, thin.",
        one: `${this.small.name} seed ${this.small.seeds[this.controls.small_seed.value]} with ${this.large.name} seed ${this.large.seeds[this.controls.large_seed.value]}.`,
      }[runs],
    ];
    if (missing) parts.push("Of some scores this page holds the mean alone; curves/switcher.parquet holds every pair.");
    const many = this.shown.filter((curve) => curve.passes > 1);
    if (this.byCost) {
      parts.push(
        `Every example is run by ${this.small.name}, and the deferred ones by ${this.large.name} too` +
          (many.length ? `; ${many.map((curve) => curve.title).join(", ")}: ${many[0].passes} runs of ${this.small.name} on every example.` : "."),
      );
      parts.push("Over random: over the best mix of the two models, each by itself, that costs as much.");
    } else {
      parts.push("Over random: over deferring as many examples at random.");
    }
    parts.push("Drag over the chart to look at a part of it; a double click shows all.");
    return parts.join(" ");
  }

  pointAt(x) {
    this.cursor.value = this.byCost ? (100 * (x - this.domain[0])) / (this.domain[1] - this.domain[0]) : Math.round(x);
    this.readOff();
  }

  zoom(from, to) {
    const { controls } = this;
    const passes = this.shown.length ? this.shown[0].passes : 1;
    const percent = (x) => (this.byCost ? this.percentAt(x * this.divisor, passes) : x);
    controls.from.value = from === null ? 0 : Math.min(99, Math.max(0, Math.round(percent(from))));
    controls.to.value = from === null ? 100 : Math.min(100, Math.max(1, Math.round(percent(to))));
    this.changed("from");
  }

  /** A curve's number at `percent` deferred, linear between whole percents. */
  valueAt(values, percent) {
    const k = Math.min(99, Math.max(0, Math.floor(percent)));
    return values[k] + (values[k + 1] - values[k]) * (percent - k);
  }

  /** What deferring at random gives: of as many examples, or at the same cost and never past the larger model. */
  randomAt(percent, passes) {
    const { start, end } = this.ends;
    let share = percent / 100;
    if (this.byCost) {
      const mixed = (this.cost(percent, passes) - this.small[this.currency]) / (this.large[this.currency] - this.small[this.currency]);
      share = Number.isFinite(mixed) ? Math.min(1, Math.max(0, mixed)) : 0; // of two models that cost the same, there is no mix
    }
    return start + share * (end - start);
  }

  readOff() {
    const { data } = this;
    const at = Number(this.cursor.value);
    const x = this.byCost ? this.domain[0] + (at / 100) * (this.domain[1] - this.domain[0]) : at;
    const dots = [], rows = [];
    for (const curve of this.shown) {
      const percent = this.byCost ? this.percentAt(x * this.divisor, curve.passes) : at;
      if (percent < this.percents[0] - 1e-9 || percent > this.percents[this.percents.length - 1] + 1e-9) {
        rows.push([curve.title, "–", "–", "–", "–", "–"]);
        continue;
      }
      const value = this.valueAt(curve.values, percent);
      dots.push({ x, y: this.toY(value), color: curve.color, text: this.scaled ? fixed(this.toY(value), 4) : fixed(100 * value) });
      const limits = curve.low ? `${this.number(this.valueAt(curve.low, percent))} to ${this.number(this.valueAt(curve.high, percent))}` : "–";
      rows.push([
        curve.title,
        this.number(value),
        limits,
        signed(100 * (value - this.randomAt(percent, curve.passes))),
        `${fixed(percent, this.byCost ? 1 : 0)} % (${whole.format((percent / 100) * data.examples)})`,
        this.small[this.currency] > 0 && this.large[this.currency] > 0 ? fixed(this.cost(percent, curve.passes) / this.divisor) : "–",
      ]);
    }
    const where = this.byCost ? `${fixed(x)} ${this.unit}` : `${at} % deferred, ${whole.format((at / 100) * data.examples)} of ${whole.format(data.examples)} examples`;
    byId("curve-at").textContent = where;
    this.cursor.setAttribute("aria-valuetext", `${where}: ${rows.map((row) => `${row[0]} ${row[1]}`).join(", ")}`);
    this.chart.cursor(x, dots);
    const limits = this.controls.runs.value === "range" ? "range" : "interval";
    const heads = ["Deferred by", this.scaled ? `${data.quality.name}, scaled` : data.quality.axis, limits, `over random, ${data.quality.points}`, "deferred", this.unit];
    const bare = rows.every((row) => row[2] === "–"); // no interval to give a column
    const kept = (row) => (bare ? row.filter((_, k) => k !== 2) : row);
    byId("curve-readout").replaceChildren(head(kept(heads)), body(rows.map(kept)));
  }

  number(value) {
    return this.scaled ? fixed(this.toY(value), 4) : fixed(this.toY(value));
  }

  table() {
    const step = this.percents.length > 40 ? 5 : 1;
    const rows = this.percents.filter((k) => k % step === 0).map((k) => [
      String(k),
      ...this.shown.map(({ values, low, high }) => this.number(values[k]) + (low ? ` [${this.number(low[k])}, ${this.number(high[k])}]` : "")),
    ]);
    byId("curve-table").replaceChildren(head(["% deferred", ...this.shown.map((curve) => curve.title)]), body(rows));
  }

  csv() {
    const priced = this.data.priceUnit !== null;
    const lines = [`dataset,small,large,score,percent_deferred,flops_per_example,value,low,high${priced ? ",price_per_example" : ""}`];
    for (const curve of this.shown) {
      for (const k of this.percents) {
        const numbers = [k, this.cost(k, curve.passes, "flops"), curve.values[k], curve.low ? curve.low[k] : "", curve.high ? curve.high[k] : ""];
        if (priced) numbers.push(this.cost(k, curve.passes, "price"));
        lines.push([this.data.dataset, this.small.name, this.large.name, curve.name, ...numbers].map(csvField).join(","));
      }
    }
    return `${lines.join("\n")}\n`;
  }
}

function head(titles) {
  return element("thead", {}, element("tr", {}, ...titles.map((title, k) => element("th", { scope: "col", ...(k ? { class: "n" } : {}) }, title))));
}

function body(rows) {
  const cell = (text, k) => (k ? element("td", { class: "n" }, text) : element("th", { scope: "row" }, text));
  return element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell))));
}

// One example in full: what it says, how sure each size is of it, and what every run predicts.

const SHORT_TEXT = 700; // characters of a text before "more"

/** A text with its own direction: a right-to-left mark in it turns nothing beside it around. */
const apart = (text) => element("bdi", {}, text);

/** A text, cut where it is long, with a button that shows the rest. */
function folded(text) {
  if (text.length <= SHORT_TEXT + 100) return apart(text);
  const shown = apart(`${text.slice(0, SHORT_TEXT)} …`);
  const button = element("button", { type: "button", class: "more", "aria-expanded": "false" }, "more");
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "less" : "more";
    shown.textContent = open ? text : `${text.slice(0, SHORT_TEXT)} …`;
  });
  return element("span", {}, shown, " ", button);
}

class Detail {
  constructor(data, want, k) {
    Object.assign(this, { data, want, k });
  }

  /** The heading and all below it. */
  parts() {
    const heading = element("h3", { tabindex: -1 }, "Example ", element("code", {}, apart(this.data.id(this.k))));
    return [heading, this.facts(), this.sureness(), this.predictions()].filter(Boolean);
  }

  facts() {
    const { data, want, k } = this;
    const facts = [];
    if (data.inputs) facts.push(["Text", folded(data.inputs[k])]);
    facts.push(["Target", folded(data.target(k))]);
    data.slices.forEach((slice, c) => facts.push([slice.name, apart(data.slice(c, k) ?? "–")]));
    facts.push(["Row of the split", whole.format(data.columns.row[k])]);
    for (const score of data.sizes[want.small].scores) {
      facts.push([`${data.sizes[want.small].name}, ${score.title}`, `percentile ${fixed(data.columns[score.column][k] / 100)}`]);
    }
    const wide = data.inputs ? "facts texts" : "facts";
    return element("dl", { class: wide }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  }

  /** A line a size: the probabilities of its classes, its margin, and which thresholds defer the example. */
  sureness() {
    const { data, k } = this;
    const { classes, likeliest } = data.details;
    const count = likeliest || classes;
    const names = likeliest ? ["Likeliest class", "Second", "Third"].slice(0, likeliest) : data.texts.slice(0, classes);
    const heads = [
      element("th", { scope: "col" }, "Size"),
      ...names.map((name) => element("th", { scope: "col", class: "n" }, apart(name))),
      element("th", { scope: "col", class: "n" }, "Margin", element("small", {}, "p₁ − p₂")),
      element("th", { scope: "col" }, "Deferred by"),
    ];
    const rows = data.sizes.map((size, s) => {
      const cells = [];
      for (let c = 0; c < count; c++) {
        const p = data.probability(s, c, k);
        const bar = element("span", { class: "bar", "aria-hidden": "true" });
        bar.style.width = `${Math.max(1, 64 * p)}px`;
        const name = likeliest ? element("small", {}, apart(data.likeliest(s, c, k))) : "";
        cells.push(element("td", { class: "n" }, fixed(p, 3), bar, name));
      }
      const row = element("tr", {}, element("th", { scope: "row" }, element("span", { class: "row-name" }, size.name)), ...cells);
      row.append(element("td", { class: "n" }, fixed(data.margin(s, k), 3)), element("td", { class: "crossed" }, this.crossed(s)));
      return row;
    });
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    const about = classes ? "Probabilities and margins are means over a size's runs." : "Margins are means over the tokens of an answer and over a size's runs.";
    return element("div", {}, element("div", { class: "wide" }, table), element("p", { class: "reading" }, about));
  }

  /** Which thresholds on a size's margin defer the example, and how many others they defer. */
  crossed(s) {
    const { data, k } = this;
    const size = data.sizes[s];
    const score = size.scores.find(({ name }) => name === "margin" || name === "margin.self");
    if (!score || s === data.sizes.length - 1) return "–";
    const share = 100 - data.columns[score.column][k] / 100;
    const crossed = `thresholds from ${fixed(data.margin(s, k), 3)} up, which defer about ${fixed(share, share < 10 ? 1 : 0)} % of all examples or more`;
    const { recommended, thresholds } = data.details;
    if (s > 0 || recommended === null) return crossed;
    const percent = Math.ceil(100 * recommended - 1e-4);
    const threshold = thresholds ? `, a threshold of ${fixed(data.detailColumns[`${s}.thresholds`][percent], 3)},` : "";
    return `${crossed}. The recommended ${percent} %${threshold} ${share <= 100 * recommended ? "defer it" : "keep it"}.`;
  }

  /** Every run of every size, grouped by what it predicts. */
  predictions() {
    const { data, k } = this;
    const rows = [];
    data.sizes.forEach((size, s) => {
      const groups = new Map();
      size.runs.forEach((run, r) => {
        const text = data.prediction(s, r, k);
        if (!groups.has(text)) groups.set(text, []);
        groups.get(text).push(r);
      });
      [...groups].sort(([, a], [, b]) => b.length - a.length).forEach(([text, runs], g) => {
        const row = element("tr");
        if (g === 0) row.append(element("th", { scope: "rowgroup", rowspan: groups.size }, element("span", { class: "row-name" }, size.name)));
        row.append(
          element("td", { class: "full" }, apart(text)),
          this.judged(s, runs[0]),
          element("td", { class: "n" }, `${runs.length} of ${size.runs.length}`),
          element("td", { class: "full" }, ...runs.flatMap((r, i) => [i ? ", " : "", element("abbr", { title: size.runs[r].scores }, String(size.runs[r].seed))])),
        );
        rows.push(row);
      });
    });
    const heads = ["Size", "Prediction", data.quality.graded ? "BLEU" : "Right", "Runs", "Seeds"].map((title, c) => element("th", { scope: "col", ...(c === 3 ? { class: "n" } : {}) }, title));
    const table = element("table", { class: "predictions" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    return element("div", { class: "wide" }, table);
  }

  /** A run's word on the example: right or wrong, or its BLEU. Runs that predict alike are judged alike. */
  judged(size, run) {
    const { data, k } = this;
    if (data.quality.graded) return element("td", { class: "n" }, fixed(data.bleu(size, run, k), 1));
    const right = data.isRight(size, run, k);
    return element("td", { class: right ? "right" : "wrong" }, element("i", { "aria-hidden": "true" }, right ? "✓" : "✗"), right ? " right" : " wrong");
  }
}

// The examples of one dataset: what is asked of each, which ones fit, in which order. Typed arrays, so 100,000 are quick.

class Examples {
  /** `details` is the block of what the examples say and how sure the sizes are of them. */
  constructor({ columns, ...header }, { columns: detailColumns, ...details }) {
    Object.assign(this, header);
    Object.assign(this, { columns, details, detailColumns });
    this.inputs = details.longest === null ? null : joinedTexts(detailColumns, "text");
    this.ids = joinedTexts(columns, "id");
    this.texts = textsOf(columns, "text");
    this.sliceValues = this.slices.map((_, k) => textsOf(columns, `slice.${k}.value`));
    this.sizes.forEach((size, k) => {
      size.good = this.quality.graded ? this.means(k) : this.rights(k);
      size.most = this.quality.graded ? 10000 : size.runs.length;
    });
  }

  /** [n]: the mean over a size's runs of a sentence's BLEU, in hundredths. */
  means(size) {
    const all = this.columns[`${size}.quality`], runs = this.sizes[size].runs.length;
    return Uint16Array.from({ length: this.count }, (_, k) => {
      let sum = 0;
      for (let run = 0; run < runs; run++) sum += all[run * this.count + k];
      return Math.round(sum / runs);
    });
  }

  /** [n]: how many of a size's runs are right on each example. */
  rights(size) {
    const bits = this.columns[`${size}.right`], width = Math.ceil(this.count / 8);
    const counts = new Uint16Array(this.count);
    for (let run = 0; run < this.sizes[size].runs.length; run++) {
      for (let k = 0; k < this.count; k++) counts[k] += (bits[run * width + (k >> 3)] >> (k & 7)) & 1;
    }
    return counts;
  }

  /** Who does well: of right and wrong, which of two sizes are right by most of their runs; of BLEU, which is better. */
  verdict(small, large, k) {
    const [s, l] = [this.sizes[small], this.sizes[large]];
    if (this.quality.graded) return l.good[k] > s.good[k] ? "large" : l.good[k] < s.good[k] ? "small" : "both";
    const [fine, better] = [2 * s.good[k] > s.most, 2 * l.good[k] > l.most];
    return fine && better ? "both" : fine ? "small" : better ? "large" : "none";
  }

  bleu(size, run, k) {
    return this.columns[`${size}.quality`][run * this.count + k] / 100;
  }

  isRight(size, run, k) {
    return ((this.columns[`${size}.right`][run * Math.ceil(this.count / 8) + (k >> 3)] >> (k & 7)) & 1) === 1;
  }

  id(k) {
    return this.ids[k];
  }

  target(k) {
    return this.texts[this.columns.target[k]];
  }

  prediction(size, run, k) {
    return this.texts[this.columns[`${size}.prediction`][run * this.count + k]];
  }

  /** What most runs of a size predict; of equally many, the first run's. */
  usual(size, k) {
    const codes = this.columns[`${size}.prediction`], runs = this.sizes[size].runs.length;
    const counts = new Map();
    for (let run = 0; run < runs; run++) counts.set(codes[run * this.count + k], (counts.get(codes[run * this.count + k]) || 0) + 1);
    let best = codes[k];
    for (const [code, count] of counts) if (count > counts.get(best)) best = code;
    return this.texts[best];
  }

  slice(column, k) {
    return this.sliceValues[column][this.columns[`slice.${column}`][k]]; // undefined where the example has no value
  }

  /** Percentile of uncertainty, 0-100. */
  uncertainty(size, score, k) {
    return this.columns[this.scoreColumn(size, score)][k] / 100;
  }

  scoreColumn(size, score) {
    return this.sizes[size].scores.find((one) => one.name === score).column;
  }

  /** The mean over a size's runs of p₁ − p₂. */
  margin(size, k) {
    return this.detailColumns[`${size}.margin`][k] / 1000;
  }

  /** The mean over a size's runs of the probability in place c: of class c, or of the c-th likeliest. */
  probability(size, c, k) {
    return this.detailColumns[`${size}.probability`][c * this.count + k] / 1000;
  }

  /** The name of an example's c-th likeliest class. */
  likeliest(size, c, k) {
    return this.texts[this.detailColumns[`${size}.class`][c * this.count + k]];
  }

  /** Share of a size's pairs of runs that differ, 0-100. */
  churn(size, k) {
    return this.sizes[size].pairs ? (100 * this.columns[`${size}.differing`][k]) / this.sizes[size].pairs : 0;
  }

  /** Places of the examples that `want` describes; a size is right where more than half of its runs are. */
  matching({ small, large, score, who, from, to, churn, slices, search }) {
    const { columns, count } = this;
    const rank = columns[this.scoreColumn(small, score)];
    const [low, high] = [Math.round(100 * from), Math.round(100 * to)];
    const differing = columns[`${small}.differing`], leastDiffering = (churn / 100) * this.sizes[small].pairs - 1e-9;
    const wanted = slices.map(([column, value]) => [columns[`slice.${column}`], value]);
    const found = search ? this.searched(search) : null;
    const kept = new Uint32Array(count);
    let length = 0;
    for (let k = 0; k < count; k++) {
      if (rank[k] < low || rank[k] > high || differing[k] < leastDiffering) continue;
      if (who && who !== this.verdict(small, large, k)) continue;
      if (found && !found[k]) continue;
      if (wanted.length && !wanted.every(([codes, value]) => codes[k] === value)) continue;
      kept[length++] = k;
    }
    return kept.slice(0, length);
  }

  /** Makes the lower-case texts that a search looks into, once: it takes a moment where there are many. */
  prepareSearch() {
    this.wholes ??= [
      loweredTexts(this.columns, "id"),
      ...(this.inputs ? [loweredTexts(this.detailColumns, "text")] : []),
    ];
    this.lowered ??= this.texts.map((text) => text.toLowerCase());
  }

  /** [n] of 0 and 1: whether an example's text, id, target, any prediction or any slice holds the text, in either case. */
  searched(search) {
    const needle = search.toLowerCase();
    const { columns, count } = this;
    this.prepareSearch();
    const found = new Uint8Array(count);
    for (const texts of this.wholes) for (let k = 0; k < count; k++) if (texts[k].includes(needle)) found[k] = 1;
    const holds = this.lowered.map((text) => text.includes(needle));
    if (holds.some(Boolean)) {
      const codes = [columns.target, ...this.sizes.map((_, k) => columns[`${k}.prediction`])];
      for (const column of codes) for (let k = 0; k < column.length; k++) if (holds[column[k]]) found[k % count] = 1;
    }
    this.sliceValues.forEach((values, column) => {
      const has = values.map((value) => value.toLowerCase().includes(needle));
      if (has.some(Boolean)) for (let k = 0; k < count; k++) if (has[columns[`slice.${column}`][k]]) found[k] = 1;
    });
    return found;
  }

  /** The places in order of a key, by counting: keys are whole numbers below 2¹⁶. Equal ones stay in the split's order. */
  ordered(places, by, descending, { small, large, score }) {
    const keys = this.keys(by, small, large, score);
    if (!keys) return descending ? places.toReversed() : places;
    const counts = new Uint32Array(65537);
    const flip = descending ? 65535 : 0;
    for (const k of places) counts[(keys[k] ^ flip) + 1]++;
    for (let key = 1; key < counts.length; key++) counts[key] += counts[key - 1];
    const result = new Uint32Array(places.length);
    for (const k of places) result[counts[keys[k] ^ flip]++] = k;
    return result;
  }

  keys(by, small, large, score) {
    if (by === "uncertainty") return this.columns[this.scoreColumn(small, score)];
    if (by === "churn") return this.columns[`${small}.differing`];
    if (by === "small") return this.sizes[small].good;
    if (by === "large") return this.sizes[large].good;
    if (by === "gain") {
      // the larger's share right, or BLEU, minus the smaller's, on a common denominator and lifted above 0
      const [s, l] = [this.sizes[small], this.sizes[large]];
      const [a, b] = this.quality.graded ? [1, 1] : [l.most, s.most];
      return Uint16Array.from({ length: this.count }, (_, k) => a * s.most + b * l.good[k] - a * s.good[k]);
    }
    if (by.startsWith("slice.")) return this.columns[by];
    return null; // the split's own order
  }
}

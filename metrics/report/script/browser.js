// The example browser: the controls, and a list that holds only the rows in view.

const ROW = 52; // pixels, as the style sheet has it
const BEYOND = 8; // rows kept above and below the view
const MANY_SLICES = 3; // more than that are counted at the head of their column, not named
const MANY_VALUES = 400; // of a slice: more than that are searched for, not chosen

class Browser {
  constructor() {
    this.form = byId("example-controls");
    this.controls = this.form.elements;
    this.list = byId("example-list");
    this.grid = this.list.querySelector("table");
    this.detail = byId("example-detail");
    byId("example-view").hidden = false;
    const names = blockNames("examples");
    fill(this.controls.dataset, names.map((name, k) => [k, name]), 0);
    this.form.querySelector("[data-several]").hidden = names.length < 2;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    let waiting;
    this.form.addEventListener("change", (event) => {
      clearTimeout(waiting); // what was typed is searched for now
      // a press on a row takes the focus from the box, which tells of its change then: rows made anew would miss the press
      if (event.target.name === "search" && event.target.value.trim() === this.want?.search) return;
      this.changed(event.target.name);
    });
    this.form.addEventListener("reset", () => setTimeout(() => this.changed("dataset")));
    this.controls.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.select(), 120);
    });
    this.list.addEventListener("scroll", () => requestAnimationFrame(() => this.paint()));
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-place]");
      if (row) this.choose(Number(row.dataset.place));
    });
    new ResizeObserver(() => this.data && this.paint()).observe(this.list);
    this.changed("dataset");
  }

  async changed(name) {
    const { controls } = this;
    if (name === "dataset") {
      const place = controls.dataset.value || 0;
      const [block, details] = await Promise.all([unpacked(`examples-${place}`), unpacked(`details-${place}`)]);
      this.stores ??= new Map();
      if (!this.stores.has(block)) this.stores.set(block, new Examples(block, details));
      this.data = this.stores.get(block);
      this.newDataset();
    }
    if (name === "small") this.fillScores();
    if (name === "small" || name === "large") this.fillSorts();
    this.select();
  }

  newDataset() {
    const { controls, data } = this;
    const [both, larger, smaller] = data.quality.graded ? ["neither is better", "the larger is better", "the smaller is better"] : ["both", "only the larger", "only the smaller"];
    const who = [["", data.quality.graded ? "any" : "anyone or no one"], ["both", both], ["large", larger], ["small", smaller], ...(data.quality.graded ? [] : [["none", "none"]])];
    fill(controls.who, who, controls.who.value);
    this.form.querySelector("[data-who]").textContent = data.quality.graded ? "Who is better" : "Who is right";
    const sizes = data.sizes.map((size, k) => [k, size.name]);
    fill(controls.small, sizes.filter(([k]) => data.sizes[k].scores.length), 0);
    fill(controls.large, sizes, sizes.length - 1);
    this.fillScores();
    byId("example-slices").replaceChildren(
      ...data.slices.flatMap((slice, k) => {
        if (slice.values > MANY_VALUES) return [];
        const select = element("select", { name: `slice.${k}` });
        fill(select, [["", "any"], ...data.sliceValues[k].map((value, code) => [code, value])], "");
        return [element("label", {}, `${slice.name} `, select)];
      }),
    );
    this.fillSorts();
    const { longest, cut } = data.details;
    const texts = data.inputs
      ? cut ? ` Texts are cut after ${whole.format(longest)} characters, and searched that far; the scores hold them whole.` : ""
      : byId("no-text") ? "" : " The scores hold no texts of the examples.";
    byId("example-scope").textContent = (
      data.count === data.examples
        ? `All ${whole.format(data.examples)} examples of ${data.dataset}, split ${data.split}. ${data.quality.ofAnExample}`
        : `${whole.format(data.count)} of the ${whole.format(data.examples)} examples of ${data.dataset}, split ${data.split}: the half of them on which sizes and seeds differ most in how well they do, the rest those of which ${data.sizes[0].name} is least certain. ${data.quality.ofAnExample}`
    ) + texts;
    this.list.classList.toggle("texts", data.inputs !== null);
    (window.requestIdleCallback ?? setTimeout)(() => data.prepareSearch()); // before the first search asks for it
  }

  fillScores() {
    const { controls, data } = this;
    fill(controls.score, data.sizes[controls.small.value].scores.map(({ name, title }) => [name, title]), controls.score.value || "margin");
  }

  fillSorts() {
    const { controls, data } = this;
    const [small, large] = [data.sizes[controls.small.value].name, data.sizes[controls.large.value].name];
    const sorts = [
      ["uncertainty:down", "most uncertain first"],
      ["uncertainty:up", "least uncertain first"],
      ["gain:down", `${large} gains most first`],
      ["gain:up", `${large} loses most first`],
      ["churn:down", "most churn first"],
      ["churn:up", "least churn first"],
      ["small:down", `${small} best first`],
      ["small:up", `${small} worst first`],
      ["large:down", `${large} best first`],
      ["large:up", `${large} worst first`],
      ["row:up", "order of the split"],
      ["row:down", "order of the split, reversed"],
      ...data.slices.flatMap((slice, k) => (slice.values < 65536 ? [[`slice.${k}:up`, `by ${slice.name}`], [`slice.${k}:down`, `by ${slice.name}, reversed`]] : [])),
    ];
    fill(controls.sort, sorts, controls.sort.value || "uncertainty:down");
  }

  wanted() {
    const { controls } = this;
    const number = (input, otherwise) => (input.value === "" || !Number.isFinite(Number(input.value)) ? otherwise : Number(input.value));
    const slices = [...byId("example-slices").querySelectorAll("select")].filter((select) => select.value !== "");
    return {
      small: Number(controls.small.value),
      large: Number(controls.large.value),
      score: controls.score.value,
      who: controls.who.value,
      from: number(controls.from, 0),
      to: number(controls.to, 100),
      churn: number(controls.churn, 0),
      slices: slices.map((select) => [Number(select.name.slice("slice.".length)), Number(select.value)]),
      search: controls.search.value.trim(),
    };
  }

  select() {
    const want = this.wanted();
    const [by, direction] = this.controls.sort.value.split(":");
    this.want = want;
    this.places = this.data.ordered(this.data.matching(want), by, direction === "down", want);
    this.active = -1;
    byId("example-count").textContent = `${whole.format(this.places.length)} of ${whole.format(this.data.count)} examples fit`;
    this.detail.replaceChildren();
    this.heads(by, direction);
    this.list.scrollTop = 0;
    this.grid.setAttribute("aria-rowcount", this.places.length + 1);
    this.paint();
  }

  heads(by, direction) {
    const { small, large } = this.want;
    const { data } = this;
    const { sizes, slices } = data;
    const columns = [
      ["row", "Example", "id", data.inputs ? "" : "target"],
      ["", "Target", "target"],
      ["small", sizes[small].name, "small"],
      ["large", sizes[large].name, "large"],
      ["uncertainty", "Uncertainty", "n", "percentile"],
      ["churn", "Churn", "n churn", "% of pairs"],
      ...(slices.length ? [["slice.0", slices.length > MANY_SLICES ? `${slices.length} slices` : slices.map((slice) => slice.name).join(", "), "slices"]] : []),
    ];
    const made = columns.map(([key, title, kind, unit]) => {
      const cell = element("th", { scope: "col", class: kind });
      const content = [title, ...(unit ? [element("small", {}, unit)] : [])];
      if (!key) {
        cell.append(...content);
        return cell;
      }
      if (key === by) cell.setAttribute("aria-sort", direction === "down" ? "descending" : "ascending");
      const button = element("button", { type: "button", class: "sort" }, element("span", { title }, content[0]), ...content.slice(1));
      button.addEventListener("click", () => {
        const first = key === "row" || key.startsWith("slice.") ? "up" : "down";
        const flipped = direction === "down" ? "up" : "down";
        this.controls.sort.value = `${key}:${key === by ? flipped : first}`;
        this.select();
        this.grid.tHead.querySelector(`th.${kind.split(" ").pop()} button`)?.focus();
      });
      cell.append(button);
      return cell;
    });
    this.grid.tHead.replaceChildren(element("tr", { "aria-rowindex": 1 }, ...made));
    this.columns = [...this.grid.tHead.rows[0].cells].filter((cell) => cell.offsetParent !== null).length; // a phone hides some
  }

  /** Makes the rows in view, between two empty ones as high as all that isn't. */
  paint() {
    const total = this.places.length;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - BEYOND);
    const last = Math.min(total, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + BEYOND);
    const rows = [];
    for (let place = first; place < last; place++) rows.push(this.row(place));
    const empty = (count) => {
      const row = element("tr", { "aria-hidden": "true" }, element("td", { colspan: this.columns }));
      row.style.height = `${count * ROW}px`;
      return row;
    };
    if (!total) rows.push(element("tr", { class: "none" }, element("td", { colspan: this.columns }, "No example fits all of that.")));
    this.grid.tBodies[0].replaceChildren(...(first ? [empty(first)] : []), ...rows, ...(last < total ? [empty(total - last)] : []));
  }

  row(place) {
    const { data, want } = this;
    const k = this.places[place];
    const row = element("tr", { "data-place": place, "aria-rowindex": place + 2 });
    if (place === this.active) row.setAttribute("aria-current", "true");
    const two = (kind, text, below, tag = "td", more = {}) => element(tag, { class: kind, ...more }, element("span", {}, apart(text)), element("small", {}, apart(below)));
    row.append(
      two("id", data.inputs ? data.inputs[k].slice(0, 300) : data.id(k), data.inputs ? data.id(k) : data.target(k), "th", { scope: "row" }),
      element("td", { class: "target" }, element("span", {}, apart(data.target(k)))),
      this.model("small", want.small, k),
      this.model("large", want.large, k),
      element("td", { class: "n" }, fixed(data.uncertainty(want.small, want.score, k))),
      element("td", { class: "n churn" }, data.sizes[want.small].pairs ? fixed(data.churn(want.small, k), 0) : "–"),
    );
    if (data.slices.length) row.append(two("slices", data.slices.map((_, c) => data.slice(c, k) ?? "–").join(", "), ""));
    return row;
  }

  /** A size's usual prediction, and how many of its runs are right, with a sign for most of them; or its mean BLEU. */
  model(kind, size, k) {
    const { data } = this;
    const { good, most } = data.sizes[size];
    if (data.quality.graded) {
      return element("td", { class: kind }, element("span", {}, apart(data.usual(size, k))), element("small", {}, `${fixed(good[k] / 100, 1)} BLEU`));
    }
    const fine = 2 * good[k] > most;
    return element(
      "td",
      { class: `${kind} ${fine ? "right" : "wrong"}` },
      element("span", {}, element("i", { "aria-hidden": "true" }, fine ? "✓" : "✗"), " ", apart(data.usual(size, k))),
      element("small", {}, `${good[k]}/${most} right`),
    );
  }

  choose(place) {
    this.active = Math.min(this.places.length - 1, Math.max(0, place));
    if (this.active < 0) return;
    const head = this.grid.tHead.offsetHeight;
    const top = this.active * ROW, room = this.list.clientHeight - head;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW > this.list.scrollTop + room) this.list.scrollTop = top + ROW - room;
    this.paint();
    this.show(this.places[this.active]);
  }

  key(event) {
    if (event.target.closest("button")) return;
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 2);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves && this.places.length) {
      event.preventDefault();
      this.choose(this.active < 0 && moves[event.key] === 1 ? 0 : this.active + moves[event.key]);
    } else if ((event.key === "Enter" || event.key === " ") && this.places.length) {
      event.preventDefault();
      if (this.active < 0) this.choose(0);
      this.detail.querySelector("h3").focus();
    }
  }

  show(k) {
    const parts = new Detail(this.data, this.want, k).parts();
    parts[0].addEventListener("keydown", (event) => event.key === "Escape" && this.list.focus());
    this.detail.replaceChildren(...parts);
  }
}

// Tables sorted by a column: a button in each head, the state in aria-sort, the order that came first on the third press.

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  if (original.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = element("button", { type: "button", class: "sort" });
    const [title, ...rest] = head.childNodes;
    button.append(element("span", {}, title), ...rest);
    head.append(button);
    button.addEventListener("click", () => {
      const state = head.getAttribute("aria-sort");
      const number = original.every((row) => isNumber(keyOf(row.cells[column])));
      const first = number ? "descending" : "ascending";
      const second = number ? "ascending" : "descending";
      const next = state === first ? second : state === second ? null : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      body.append(...(next ? sorted(original, column, number, next === "descending") : original));
    });
  });
}

/** What a cell is sorted by; null where it holds no number. */
function keyOf(cell) {
  const order = cell.dataset.order;
  return order === undefined ? cell.textContent.trim() : order === "" ? null : order;
}

const isNumber = (key) => key === null || (key !== "" && Number.isFinite(Number(key)));

function sorted(rows, column, number, descending) {
  const keyed = rows.map((row) => [keyOf(row.cells[column]), row]);
  const compare = number ? (a, b) => Number(a) - Number(b) : (a, b) => a.localeCompare(b, "en", { numeric: true });
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what isn't known goes last either way
    return descending ? compare(b, a) : compare(a, b);
  });
  return keyed.map(([, row]) => row);
}

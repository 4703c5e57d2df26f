// What the page's parts share: elements made of text alone (never of markup), numbers for reading, and packed columns.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fixed = (value, digits = 2) => (Object.is(Number(value.toFixed(digits)), -0) ? 0 : value).toFixed(digits).replace("-", "\u2212");
const signed = (value, digits = 2) => (Number(value.toFixed(digits)) > 0 ? "+" : "") + fixed(value, digits);

/** The divisor and the prefix that make a size like 78219 read 78.2 k. */
function prefixed(largest) {
  const steps = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  return steps.find(([divisor]) => largest >= divisor) || [1, ""];
}

/** The header of a packed block and its columns as typed arrays; `data` is gzip in base64, aligned little-endian. */
async function unpack(id) {
  const holder = byId(id);
  const { columns, data, ...header } = JSON.parse(holder.textContent);
  holder.textContent = ""; // read once; megabytes of text need not stay
  const text = atob(data);
  const zipped = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) zipped[k] = text.charCodeAt(k);
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const types = { Uint8Array, Uint16Array, Uint32Array, Float32Array, Float64Array };
  const arrays = {};
  for (const [name, { type, start, length }] of Object.entries(columns)) arrays[name] = new types[type](bytes, start, length);
  return { ...header, columns: arrays };
}

const blocks = new Map();
/** The same, unpacked at most once however often it is asked for. */
function unpacked(id) {
  if (!blocks.has(id)) blocks.set(id, unpack(id));
  return blocks.get(id);
}

/** What each of several blocks is called, without unpacking any: the header's first key is `dataset`. */
function blockNames(kind) {
  const found = [];
  for (let k = 0; byId(`${kind}-${k}`); k++) {
    const start = byId(`${kind}-${k}`).textContent.slice(0, 4000);
    found.push(JSON.parse(/^\{"dataset":("(?:[^"\\]|\\.)*")/.exec(start)[1]));
  }
  return found;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // a text may begin with that character
/** The k-th text of a column that was packed with `add_texts`. */
function textAt(columns, name, k) {
  const ends = columns[`${name}.ends`];
  return decoder.decode(columns[name].subarray(k ? ends[k - 1] : 0, ends[k]));
}
/** All texts of a column that was packed with `add_joined`. Splitting one long string is much quicker than decoding many. */
function joinedTexts(columns, name) {
  return decoder.decode(columns[name]).split("\0");
}
function loweredTexts(columns, name) {
  return decoder.decode(columns[name]).toLowerCase().split("\0");
}
function textsOf(columns, name) {
  return Array.from(columns[`${name}.ends`], (_, k) => textAt(columns, name, k));
}

function fill(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, title]) => element("option", { value }, title)));
  if (choices.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

function saved(name, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// As `spreadsheet_text` in metrics/tables/escape.py: a text that a spreadsheet would take for a formula gets an apostrophe.
const csvText = (text) => (/^'*[=+\-@\t\r\n]/.test(text) && !/^([+-]|[+-]?\d+(\.\d*)?([eE][+-]?\d+)?)$/.test(text) ? `'${text}` : text);

function csvField(value) {
  const text = typeof value === "string" ? csvText(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

"use strict";
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let token = "", fields = [];

const percent = (share, digits = 1) => share === null || share === undefined ? "–" : (100 * share).toFixed(digits) + " %";
const whole = (number) => number.toLocaleString("en");

function element(name, attributes = {}, text = null, space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

async function ask(path, body) {
  const headers = {};
  if (token) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const value = await answer.json();
  if (answer.status === 401) at("token-form").hidden = false;
  if (!answer.ok) throw new Error(value.errors ? value.errors[0].error.detail : value.detail);
  return value;
}

function showFields(names) {
  if (names.join() === fields.join()) return;
  fields = names;
  at("fields").replaceChildren(...names.flatMap((name) => [
    element("label", { for: "field-" + name }, name), element("textarea", { id: "field-" + name })]));
  at("ask").disabled = false;
}

function showAnswer(answer) {
  const output = answer.outputs[0], parts = [];
  if (output.error) { at("answer").textContent = output.error.detail; return; }
  const first = element("p");
  first.append(element("strong", {}, output.prediction || "(an empty answer)"));
  parts.push(first);
  parts.push(element("p", { class: "soft" }, "answered by " + output.model +
    (output.deferred ? ": the smallest model was uncertain and passed it on" : answer.degraded ? " for want of time" : ": it was certain enough")));
  if (output.score !== null && output.threshold !== null) {
    const most = Math.max(1, output.score, output.threshold);
    const bar = element("div", { class: "bar", role: "img", "aria-label": "uncertainty beside the threshold" });
    const filled = element("i"), mark = element("b");
    filled.style.width = (100 * output.score / most) + "%";
    mark.style.left = (100 * output.threshold / most) + "%";
    bar.append(filled, mark);
    parts.push(bar, element("p", { class: "soft" },
      "uncertainty " + output.score.toPrecision(3) + ", passed on from " + output.threshold.toPrecision(3)));
  }
  at("answer").replaceChildren(...parts);
}

function tile(name, value, more) {
  const made = element("div"), shown = element("dd", {}, value);
  if (more) shown.append(element("small", {}, more));
  made.append(element("dt", {}, name), shown);
  return made;
}

function showCounts(status) {
  const counts = status.counts, expected = status.expected;
  const share = counts.inputs ? counts.deferred / counts.inputs : null;
  at("tiles").replaceChildren(
    tile("Answered", whole(counts.inputs), counts.bad ? whole(counts.bad) + " could not be" : "inputs"),
    tile("Passed on", percent(share), expected ? "expected " + percent(expected.deferred.value) : ""),
    tile("Saved", percent(counts.saved), "of the larger model's FLOPs"),
    tile("Waiting", whole(status.waiting), counts.degraded ? whole(counts.degraded) + " by the small model alone" : "inputs"));
}

function minutes(history) {
  const found = new Map(), per = 60 / history.seconds;
  history.interval.forEach((interval, i) => {
    const minute = Math.floor(interval / per), sums = found.get(minute) || [0, 0];
    found.set(minute, [sums[0] + history.inputs[i], sums[1] + history.deferred[i]]);
  });
  return [...found].map(([minute, [inputs, deferred]]) => [minute, inputs ? deferred / inputs : null]).filter((one) => one[1] !== null);
}

function showChart(status) {
  const points = minutes(status.history), expected = status.expected;
  const now = Math.floor((Date.now() / 1000 - status.history.started) / 60), first = Math.max(0, now - 59);
  const limit = expected ? expected.deferred_at_most : null;
  const highest = Math.max(limit || 0, expected ? expected.deferred.value : 0, ...points.map((one) => one[1]));
  const most = [0.1, 0.2, 0.4, 0.6, 0.8].find((share) => 1.1 * highest <= share) || 1;
  const width = at("chart").clientWidth || 600, height = Math.min(240, 0.42 * width + 60), left = 42, bottom = 24, top = 8;
  const span = Math.max(5, now - first);
  const x = (minute) => left + (width - left - 10) * (minute - first) / span;
  const y = (share) => top + (height - top - bottom) * (1 - share / most);
  const svg = element("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": "share of inputs passed on, by minute" }, null, SVG);
  const draw = (name, attributes, text) => svg.append(element(name, attributes, text, SVG));
  for (const share of [0, most / 2, most]) {
    draw("line", { class: "grid", x1: left, x2: width - 10, y1: y(share), y2: y(share) });
    draw("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, (100 * share).toFixed(0) + " %");
  }
  for (const minute of [first, first + span]) {
    const time = new Date(1000 * (status.history.started + 60 * minute));
    draw("text", { x: x(minute), y: height - 6, "text-anchor": minute === first ? "start" : "end" },
      time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  }
  for (const [kind, share] of [["expected", expected && expected.deferred.value], ["limit", limit]])
    if (share) draw("line", { class: kind, x1: left, x2: width - 10, y1: y(share), y2: y(share) });
  if (points.length) draw("polyline", { class: "seen", points: points.map(([minute, share]) => x(minute) + "," + y(share)).join(" ") });
  for (const [minute, share] of points) draw("circle", { class: "dot", cx: x(minute), cy: y(share), r: 2.5 });
  at("chart").replaceChildren(svg);
  at("scale").textContent = points.length ? "" : "(nothing yet)";
}

function showPromise(status) {
  const state = at("state");
  state.className = status.certified ? "holds" : "lapsed";
  state.textContent = status.certified ? "The promise stands: the watch has seen no change."
    : status.promised ? "The promise may not hold any more: the watch raised an alarm." : "This switcher promises nothing.";
  const lines = [status.promise, ...(status.expected ? status.expected.lines : [])].filter(Boolean);
  at("lines").replaceChildren(...lines.map((line) => element("li", {}, line)));
  at("alarms").replaceChildren(...status.alarms.map((alarm) => element("li", {}, alarm.name + ": " + alarm.message)));
}

async function refresh() {
  try {
    const status = await ask("v1/status");
    at("trouble").hidden = true;
    at("token-form").hidden = true;
    at("name").textContent = status.switcher;
    at("goal").textContent = status.chain + (status.goal ? ": it " + status.goal : "") + ". On " + status.device + ".";
    showFields(status.fields);
    showCounts(status);
    showChart(status);
    showPromise(status);
  } catch (error) {
    at("trouble").hidden = false;
    at("trouble").textContent = error instanceof TypeError ? "The server doesn't answer." : error.message;
  }
}

at("token-form").addEventListener("submit", (event) => { event.preventDefault(); token = at("token").value.trim(); refresh(); });
at("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = Object.fromEntries(fields.map((name) => [name, at("field-" + name).value]));
  at("ask").disabled = true;
  try {
    showAnswer(await ask("v1/predict", { inputs: [input] }));
  } catch (error) {
    at("answer").textContent = error instanceof TypeError ? "The server doesn't answer." : error.message;
  }
  at("ask").disabled = false;
  refresh();
});
refresh();
setInterval(refresh, 2000);

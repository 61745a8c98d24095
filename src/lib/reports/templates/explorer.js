// The cluster explorer without a kernel. Whatever comes from the data enters the page through
// textContent only: no text can become an element.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const LABELS = DATA.labels;
const UNKNOWN = -1;
const LISTED = 2000; // entries of the list of clusters
const HITS = 50; // texts that a search shows
const FADED = 0.06;

const byId = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");
const share = (value) => (value * 100).toFixed(1) + "%";
const hundredths = (value) => (value / 100).toFixed(2);

const { map, clusters, cells } = DATA; // columns

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function fill(id, ...children) {
  byId(id).replaceChildren(...children);
}

// --- thresholds ---------------------------------------------------------------------------

// What a pair of thresholds (hundredths) keeps; the same as lib.clusters.filter.facts
function keep(purity, confidence) {
  const counts = DATA.sources.map(() => LABELS.map(() => 0));
  let texts = 0, sum = 0, audited = 0, right = 0;
  for (let i = 0; i < cells.texts.length; i++) {
    if (cells.purity[i] < purity || cells.confidence[i] < confidence) continue;
    counts[cells.source[i]][cells.predicted[i]] += cells.texts[i];
    texts += cells.texts[i];
    sum += cells.confidence_sum[i];
    audited += cells.audited[i];
    right += cells.right[i];
  }
  return { texts, counts, expected: sum / texts, audited, right };
}

// 95% interval of a share, by Wilson's score
function wilson(successes, trials) {
  const z = 1.959964, part = successes / trials, scale = 1 + (z * z) / trials;
  const middle = (part + (z * z) / (2 * trials)) / scale;
  const spread = Math.sqrt((part * (1 - part)) / trials + (z / (2 * trials)) ** 2);
  const half = (z * spread) / scale;
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

const thresholds = () => [Number(byId("purity").value), Number(byId("confidence").value)];

function showKept() {
  const [purity, confidence] = thresholds();
  const kept = keep(purity, confidence);
  byId("purity-value").textContent = hundredths(purity);
  byId("confidence-value").textContent = hundredths(confidence);
  const whole = `${count(kept.texts)} of ${count(DATA.total)} texts kept`;
  byId("kept").textContent = `${whole} (${share(kept.texts / DATA.total)})`;
  let precision = kept.texts ? `expected precision ${kept.expected.toFixed(3)}` : "";
  if (kept.audited) {
    const [low, high] = wilson(kept.right, kept.audited).map((bound) => bound.toFixed(3));
    const measured = (kept.right / kept.audited).toFixed(3);
    precision += `; measured ${measured} [${low}, ${high}] on ${count(kept.audited)} audit texts`;
  } else if (kept.texts) {
    precision += "; no kept text has an audit label";
  }
  byId("precision").textContent = precision;
  const head = make("tr");
  head.append(...["source", ...LABELS, "all"].map((name) => make("th", name)));
  const row = (name, values) => {
    const line = make("tr");
    const all = values.reduce((a, b) => a + b, 0);
    line.append(...[name, ...values.map(count), count(all)].map((value) => make("td", value)));
    return line;
  };
  const sums = LABELS.map((_, label) => kept.counts.reduce((sum, line) => sum + line[label], 0));
  fill("kept-table", head, ...kept.counts.map((line, i) => row(DATA.sources[i], line)), row("all", sums));
}

// --- map ----------------------------------------------------------------------------------

const places = LABELS.map(() => []); // place in the map of each point of each trace
map.predicted.forEach((label, place) => places[label].push(place));
const pick = (values, rows) => Float32Array.from(rows, (row) => values[row]);

function drawMap() {
  const traces = LABELS.map((name, label) => ({
    type: "scattergl", mode: "markers", name, hoverinfo: "none",
    x: pick(map.x, places[label]), y: pick(map.y, places[label]),
    marker: { size: 4, color: DATA.colors[label], opacity: 0.75 },
    unselected: { marker: { opacity: FADED } },
  }));
  traces.push({
    type: "scattergl", mode: "markers", name: "chosen cluster", hoverinfo: "skip", x: [], y: [],
    marker: { size: 9, symbol: "circle-open", color: "#1c1c1c", line: { width: 1.5 } },
  });
  const axis = (title) => ({ title: { text: title }, showticklabels: false, zeroline: false });
  const layout = {
    xaxis: axis("UMAP 1 (no unit)"), yaxis: axis("UMAP 2 (no unit)"), hovermode: "closest",
    dragmode: "pan", margin: { l: 40, r: 10, t: 10, b: 40 },
    legend: { orientation: "h", y: 1.05, itemsizing: "constant" },
  };
  Plotly.newPlot("map", traces, reportPaint(layout), { responsive: true, scrollZoom: true, displaylogo: false });
  const figure = byId("map");
  const place = (event) => places[event.points[0].curveNumber][event.points[0].pointNumber];
  figure.on("plotly_click", (event) => choose(map.cluster[place(event)]));
  figure.on("plotly_hover", (event) => showHover(place(event), event.event));
  figure.on("plotly_unhover", () => { byId("hover").hidden = true; });
}

function showHover(place, { clientX, clientY }) {
  const cluster = map.cluster[place], number = map.text[place];
  const text = number === UNKNOWN ? "" : DATA.texts[number][4] + "\n";
  const about = [
    `cluster ${cluster}, purity ${clusters.purity[cluster].toFixed(2)}`,
    `${LABELS[map.predicted[place]]}, confidence ${hundredths(map.confidence[place])}`,
    DATA.sources[map.source[place]],
  ];
  const hover = byId("hover");
  hover.textContent = text + about.join("\n");
  hover.hidden = false;
  hover.style.left = Math.max(0, Math.min(clientX + 14, innerWidth - hover.offsetWidth - 8)) + "px";
  hover.style.top = Math.max(0, Math.min(clientY + 14, innerHeight - hover.offsetHeight - 8)) + "px";
}

function fade() {
  const [purity, confidence] = thresholds();
  const kept = (place) => map.purity[place] >= purity && map.confidence[place] >= confidence;
  const selected = places.map((rows) => {
    const found = [];
    rows.forEach((place, point) => { if (kept(place)) found.push(point); });
    return found;
  });
  Plotly.restyle("map", { selectedpoints: selected }, LABELS.map((_, label) => label));
}

// --- one cluster --------------------------------------------------------------------------

let kind = Object.keys(DATA.kinds)[0];
let chosen = null;

function choose(cluster) {
  if (!Number.isInteger(cluster) || cluster < 0 || cluster >= clusters.size.length) return;
  chosen = cluster;
  byId("number").value = cluster;
  byId("list").value = cluster;
  location.hash = `cluster=${cluster}`;
  const members = [];
  map.cluster.forEach((other, place) => { if (other === cluster) members.push(place); });
  Plotly.restyle("map", { x: [pick(map.x, members)], y: [pick(map.y, members)] }, [LABELS.length]);
  showCluster();
}

function clusterButton(cluster, text) {
  const button = make("button", text);
  button.addEventListener("click", () => choose(cluster));
  return button;
}

function showCluster() {
  const size = clusters.size[chosen], detail = DATA.details[chosen];
  byId("name").textContent = `Cluster ${chosen}`;
  byId("facts").textContent = `${count(size)} texts, purity ${clusters.purity[chosen].toFixed(3)} `
    + `(95% lower bound ${clusters.purity_lower_bound[chosen].toFixed(3)}), mean confidence `
    + `${clusters.mean_confidence[chosen].toFixed(3)}, mean entropy ${clusters.mean_entropy[chosen].toFixed(3)} nats`;
  const bars = LABELS.map((name, label) => {
    const part = clusters[name][chosen] / size;
    const bar = make("span", part > 0.12 ? `${name} ${share(part)}` : "", { title: `${name} ${share(part)}` });
    bar.style.width = part * 100 + "%";
    bar.style.background = DATA.colors[label];
    return bar;
  });
  fill("shares", ...bars);
  const none = "too small a cluster to be described on this page";
  byId("words").textContent = "Characteristic words: " + (detail ? detail.words.join(", ") || "none" : none);
  const sources = detail ? detail.sources.map(([source, n]) => `${DATA.sources[source]} ${count(n)}`) : [none];
  byId("sources").textContent = "Sources: " + sources.join(", ");
  const near = (detail ? detail.nearest : []).flatMap(([cluster, distance]) =>
    [clusterButton(cluster, `${cluster} (${distance.toFixed(2)})`), document.createTextNode(" ")]);
  fill("nearest", document.createTextNode("Nearest clusters (distance of centres): "), ...near);
  const buttons = Object.entries(DATA.kinds).flatMap(([name, title]) => {
    const button = make("button", title, { "aria-pressed": name === kind });
    button.addEventListener("click", () => { kind = name; showCluster(); });
    return [button, document.createTextNode(" ")];
  });
  fill("kinds", ...buttons);
  fill("texts", ...(detail ? detail[kind] : []).map((number) => textItem(number, false)));
}

function textItem(number, withCluster) {
  const [cluster, source, predicted, confidence, text] = DATA.texts[number];
  const item = make("li");
  item.append(make("p", text));
  const about = make("p", `${LABELS[predicted]} ${hundredths(confidence)} · ${DATA.sources[source]} `, { class: "quiet" });
  if (withCluster) about.append(clusterButton(cluster, `cluster ${cluster}`));
  item.append(about);
  return item;
}

// --- choosing -----------------------------------------------------------------------------

function fillList() {
  const orders = {
    purest: (a, b) => clusters.purity[b] - clusters.purity[a] || clusters.size[b] - clusters.size[a],
    mixed: (a, b) => clusters.purity[a] - clusters.purity[b] || clusters.size[b] - clusters.size[a],
    largest: (a, b) => clusters.size[b] - clusters.size[a],
  };
  const names = [...clusters.size.keys()].filter((cluster) => clusters.size[cluster] > 0);
  names.sort(orders[byId("order").value]);
  const options = names.slice(0, LISTED).map((cluster) => {
    const dominant = LABELS[clusters.dominant[cluster]];
    const text = `${clusters.purity[cluster].toFixed(2)} ${dominant}, ${count(clusters.size[cluster])} texts, cluster ${cluster}`;
    return make("option", text, { value: cluster });
  });
  fill("list", ...options);
  if (chosen !== null) byId("list").value = chosen;
}

const plain = (text) => text.toLowerCase().replaceAll("ё", "е");
let searchable = null;

function search() {
  const words = plain(byId("search").value.trim());
  searchable ??= DATA.texts.map((entry) => plain(entry[4]));
  const hits = words ? [...searchable.keys()].filter((i) => searchable[i].includes(words)) : [];
  byId("found").textContent = words
    ? `${count(hits.length)} of the ${count(DATA.texts.length)} texts on this page; the first ${HITS} are shown` : "";
  const tally = new Map();
  for (const hit of hits) tally.set(DATA.texts[hit][0], (tally.get(DATA.texts[hit][0]) ?? 0) + 1);
  const most = [...tally].sort((a, b) => b[1] - a[1]).slice(0, 8);
  fill("found-clusters", ...most.flatMap(([cluster, n]) =>
    [clusterButton(cluster, `cluster ${cluster}: ${n}`), document.createTextNode(" ")]));
  fill("found-texts", ...hits.slice(0, HITS).map((hit) => textItem(hit, true)));
}

// --- start --------------------------------------------------------------------------------

function reset() {
  byId("purity").value = DATA.chosen.purity;
  byId("confidence").value = DATA.chosen.confidence;
  showKept();
  fade();
}

addEventListener("DOMContentLoaded", () => {
  byId("number").max = clusters.size.length - 1;
  drawMap();
  fillList();
  reset();
  for (const id of ["purity", "confidence"]) {
    byId(id).addEventListener("input", showKept);
    byId(id).addEventListener("change", fade);
  }
  byId("reset").addEventListener("click", reset);
  byId("order").addEventListener("change", fillList);
  byId("list").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("number").addEventListener("change", (event) => choose(event.target.valueAsNumber));
  byId("search").addEventListener("input", search);
  const named = /^#cluster=(\d+)$/.exec(location.hash);
  if (named) choose(Number(named[1]));
});

// Tool latency: a chart of the chosen tool, and a table with the latest window of every tool.

import { byId, count, element, ms, perFrame, setText, sparkline, timeOf } from "./format.js";
import { latencyChart } from "./chart.js";
import { columns, windowStore } from "./windows.js";

const SPARK_WINDOWS = 60;
const PAGE_ROWS = 2000;

export function toolsPanel() {
  const store = windowStore();
  const body = byId("tools-rows");
  const lines = new Map();
  const firing = new Map();
  let chart = null;
  let chosen = "";
  let partial = false;

  function choose(tool) {
    chosen = tool;
    render();
  }

  function lineOf(tool) {
    if (lines.has(tool)) return lines.get(tool);
    const tr = element("tr");
    const name = element("th", "tool");
    name.scope = "row";
    const button = element("button", "choose mono", tool);
    button.type = "button";
    button.onclick = () => choose(tool);
    tr.onclick = () => choose(tool);
    name.append(button);
    const cells = Array.from({ length: 6 }, () => element("td", "num"));
    const spark = sparkline(96, 20);
    const last = element("td", "spark-cell");
    last.append(spark.svg);
    tr.append(name, ...cells, last);
    const line = { tr, button, cells, spark };
    lines.set(tool, line);
    const after = store.names().find((other) => other > tool && lines.has(other));
    body.insertBefore(tr, after ? lines.get(after).tr : null);
    return line;
  }

  function drawLine(tool) {
    const { tr, button, cells, spark } = lineOf(tool);
    const w = store.latest(tool);
    if (!w) return;
    const ratio = w.count ? (100 * w.errors) / w.count : 0;
    const texts = [count(w.count), `${ratio.toFixed(ratio && ratio < 10 ? 1 : 0)} %`, ms(w.p50_ms), ms(w.p95_ms), ms(w.p99_ms), ms(w.max_ms)];
    texts.forEach((text, i) => setText(cells[i], text));
    cells[1].classList.toggle("bad", ratio >= 5);
    cells[3].classList.toggle("bad", firing.has(tool));
    tr.classList.toggle("chosen", tool === chosen);
    button.setAttribute("aria-pressed", String(tool === chosen));
    spark.draw(store.of(tool).slice(-SPARK_WINDOWS).map((x) => x.p95_ms), SPARK_WINDOWS);
  }

  const render = perFrame(() => {
    const names = store.names();
    byId("tools-empty").hidden = names.length > 0;
    byId("tools-body").hidden = names.length === 0;
    if (!names.length) return;
    if (!names.includes(chosen)) chosen = [...firing.keys()].find((tool) => names.includes(tool)) ?? names[0];
    names.forEach(drawLine);
    chart ??= latencyChart(byId("chart"), (text) => setText(byId("chart-at"), text));
    const windows = store.of(chosen);
    chart.draw(columns(windows), firing.get(chosen));
    setText(byId("chart-title"), chosen);
    const last = windows.at(-1);
    const seconds = (last.end - last.start) / 1000;
    setText(byId("tools-note"), `${partial ? "history incomplete · " : ""}${seconds} s windows · ${last.closed ? "closed" : "running"} ${timeOf(last.start)}`);
  });

  return {
    add(data) {
      if (store.put(data)) render();
    },
    /** Fills in the closed windows that the workers hold; what was pushed meanwhile wins by its revision. */
    async load() {
      let query = new URLSearchParams({ from: "-1h", limit: PAGE_ROWS });
      let missing = false;
      while (query) {
        const response = await fetch(`/v1/tables/tool_latency/?${query}`, { cache: "no-store" });
        if (!response.ok) throw new Error(`tool_latency: ${response.status}`);
        const answer = await response.json();
        missing ||= answer.partial;
        for (const data of answer.rows) store.put(data);
        const { from, to } = answer;
        query = answer.next && new URLSearchParams({ from, to, limit: PAGE_ROWS, after: answer.next });
      }
      partial = missing;
      render();
      return !partial;
    },
    /** A tool with a firing alert is marked; its limit is drawn in the chart. */
    mark(alerts) {
      firing.clear();
      for (const alert of alerts) firing.set(alert.subject, alert.threshold_ms);
      render();
    },
    clear() {
      store.clear();
      lines.clear();
      firing.clear();
      body.replaceChildren();
    },
  };
}

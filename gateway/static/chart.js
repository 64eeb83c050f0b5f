// The one chart: percentiles over time, on uPlot. Colours come from the style sheet, so that they follow light and dark.

import { ms, timeOf } from "./format.js";

const SHOWN_S = 15 * 60;
const LEAST_S = 3 * 60;
const HEIGHT = 240;
const X_AXIS = 26;

/**
 * @param box element to draw in
 * @param tell called with the values under the pointer as text, "" when there is none
 */
export function latencyChart(box, tell) {
  let plot = null;
  let data = [[], [], [], []];
  let limit = null;

  function build() {
    plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const font = `11px ${style.getPropertyValue("--sans")}`;
    const axis = { stroke: color("--muted"), font, grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
    const line = (label, name, width, fill) => ({ label, stroke: color(name), width, fill, spanGaps: false, points: { size: 4, fill: color(name) } });
    const options = {
      width: box.clientWidth || 600,
      height: box.clientHeight || HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { x: { time: true, range: xRange }, y: { range: yRange } },
      axes: [
        { ...axis, space: 70, size: X_AXIS, values: (_, ticks) => ticks.map((t) => timeOf(t * 1000).slice(0, ticks.length > 1 && ticks[1] - ticks[0] < 60 ? 8 : 5)) },
        { ...axis, size: 58, space: 44, values: (_, ticks) => ticks.map((t) => (t === 0 ? "0" : t >= 1000 ? `${+(t / 1000).toFixed(2)} s` : `${+t.toFixed(2)} ms`)) },
      ],
      series: [{}, line("p50", "--p50", 1.5), line("p95", "--p95", 2), line("p99", "--p99", 1.5)],
      hooks: { setCursor: [point], drawAxes: [drawLimit] },
    };
    plot = new uPlot(options, data, box);
  }

  // The right edge is the newest window; the left one moves once there is more than a quarter of an hour.
  function xRange(_plot, first, last) {
    if (first == null) return [0, 1];
    return [Math.min(Math.max(first, last - SHOWN_S), last - LEAST_S), last];
  }

  function yRange(_plot, _low, high) {
    return [0, Math.max(1, high ?? 1, limit ?? 0) * 1.1];
  }

  function point(u) {
    const i = u.cursor.idx;
    if (i == null || u.cursor.left < 0 || data[1][i] == null) return tell("");
    tell(`${timeOf(data[0][i] * 1000)}  ${ms(data[1][i])} · ${ms(data[2][i])} · ${ms(data[3][i])}`);
  }

  function drawLimit(u) {
    if (limit == null) return;
    const { ctx, bbox } = u;
    const y = Math.round(u.valToPos(limit, "y", true));
    ctx.save();
    ctx.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--bad");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  }

  build();
  new ResizeObserver(() => {
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (width && height && (width !== plot.width || height !== plot.height)) plot.setSize({ width, height });
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);

  return {
    /** Shows columns [seconds, p50, p95, p99]; `threshold` in ms draws the limit of a firing alert. */
    draw(columns, threshold) {
      data = columns;
      limit = threshold ?? null;
      plot.setData(data);
    },
  };
}

// Numbers, times and small drawings, the same everywhere on the page.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const byId = (id) => document.getElementById(id);

/** Time of day of an RFC 3339 text or of milliseconds since the epoch. */
export function timeOf(moment) {
  const date = new Date(moment);
  return Number.isNaN(date.getTime()) ? "–" : clock.format(date);
}

/** A count, with separators. */
export const count = (value) => (Number.isFinite(value) ? whole.format(value) : "–");

/** Milliseconds with about three digits: 0.84 ms, 12.4 ms, 842 ms, 1.25 s. */
export function ms(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** A length of time in words: 4 s, 3 min, 2 h. */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** An element with a class and text; text is always text, never markup. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Sets text only when it differs, so that nothing is laid out or read aloud again without need. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** JSON with line breaks; texts, numbers and repeated keys as they stand, which a parser would not keep. Throws for no JSON. */
export function indented(text) {
  JSON.parse(text);
  let made = "";
  let before = "";
  let depth = 0;
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === "}" || token === "]";
    const opened = before === "{" || before === "[";
    if (closes) depth -= 1;
    if (before === "," || opened !== closes) made += `\n${"  ".repeat(depth)}`;
    else if (before === ":") made += " ";
    if (token === "{" || token === "[") depth += 1;
    made += token;
    before = token;
  }
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An empty sparkline; draw() fills it. Decorative: the number beside it says the same. */
export function sparkline(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  svg.append(line);
  /** @param values oldest first; @param slots how many fit, so that a short history keeps to the right */
  const draw = (values, slots = values.length) => {
    const top = Math.max(1e-9, ...values);
    const step = width / Math.max(1, slots - 1);
    const from = width - step * (values.length - 1);
    const points = values.map((v, i) => `${(from + i * step).toFixed(1)},${(height - 1 - (v / top) * (height - 2)).toFixed(1)}`);
    line.setAttribute("points", points.join(" "));
  };
  return { svg, draw };
}

/** Runs `work` at most once per frame, however often it is asked for. */
export function perFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

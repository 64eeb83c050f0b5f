// What is known of each tool (and of each version that its calls name): its windows by start, the newest revision of
// each. No drawing here.

const KEPT_MS = 60 * 60 * 1000;

/** Windows of all tools. A window comes from the table, live while it runs, and once more when it closes. */
export function windowStore() {
  const tools = new Map();
  return {
    /** Takes a window; false when what is known is newer. */
    put(data) {
      const start = Date.parse(data.window_start);
      if (!Number.isFinite(start) || typeof data.tool !== "string") return false;
      // A row of the table names its contract's fields otherwise than a message: there "version" is the contract's.
      const version = data.event ? data.tool_version : data.version;
      const name = version ? `${data.tool} ${version}` : data.tool;
      let windows = tools.get(name);
      if (!windows) tools.set(name, (windows = new Map()));
      const known = windows.get(start);
      if (known && (known.revision > data.revision || (known.revision === data.revision && known.closed))) return false;
      windows.set(start, { ...data, start, end: Date.parse(data.window_end) });
      for (const old of windows.keys()) if (old < start - KEPT_MS) windows.delete(old);
      return true;
    },
    names: () => [...tools.keys()].sort(),
    /** A tool's windows, oldest first. */
    of: (tool) => [...(tools.get(tool)?.values() ?? [])].sort((a, b) => a.start - b.start),
    /** The newest window with enough calls to say something: a window that has just begun may hold one call. */
    latest(tool) {
      const windows = this.of(tool);
      const last = windows.at(-1);
      const before = windows.at(-2);
      return last && !last.closed && before && last.count * 4 < before.count ? before : last;
    },
    clear: () => tools.clear(),
  };
}

/** Columns for the chart: seconds and three percentiles, with a hole where a tool had no calls. */
export function columns(windows) {
  const times = [], p50 = [], p95 = [], p99 = [];
  let due = 0;
  for (const w of windows) {
    if (due && w.start > due + 1000) {
      times.push(due / 1000);
      for (const line of [p50, p95, p99]) line.push(null);
    }
    times.push(w.start / 1000);
    p50.push(w.p50_ms);
    p95.push(w.p95_ms);
    p99.push(w.p99_ms);
    due = w.end;
  }
  return [times, p50, p95, p99];
}

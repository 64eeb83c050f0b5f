// Alerts: what fires, on top and red; what was resolved, below and quiet. An alert keeps its id from raise to resolve.

import { age, byId, element, ms, setText, timeOf } from "./format.js";

const MOST_RESOLVED = 20;

/** @param onChange called with the firing alerts */
export function alertsPanel(onChange) {
  const firing = new Map();
  const resolved = new Map();

  function render() {
    byId("alerts-firing").replaceChildren(...[...firing.values()].sort(newestFirst).map(firingItem));
    byId("alerts-resolved").replaceChildren(...[...resolved.values()].sort(newestFirst).map(resolvedItem));
    byId("alerts-empty").hidden = firing.size > 0;
    byId("alerts-resolved-title").hidden = resolved.size === 0;
    const badge = byId("alerts-count");
    badge.dataset.firing = String(firing.size);
    setText(badge, `${firing.size} firing`);
    document.title = firing.size ? `(${firing.size}) Headrace` : "Headrace";
    onChange([...firing.values()]);
  }

  setInterval(() => {
    for (const item of byId("alerts-firing").children) setText(item.querySelector(".for"), lasting(item.dataset.since));
  }, 1000);

  return {
    raised(alert) {
      if (resolved.has(alert.alert_id)) return;
      firing.set(alert.alert_id, alert);
      render();
    },
    resolved(alert) {
      firing.delete(alert.alert_id);
      resolved.set(alert.alert_id, alert);
      while (resolved.size > MOST_RESOLVED) resolved.delete(resolved.keys().next().value);
      render();
    },
    clear() {
      firing.clear();
      resolved.clear();
      render();
    },
  };
}

const newestFirst = (a, b) => Date.parse(b.started_at) - Date.parse(a.started_at);
const lasting = (since) => `for ${age(Math.max(0, (Date.now() - Date.parse(since)) / 1000))}`;

function heading(alert) {
  const head = element("p", "alert-head");
  head.append(element("strong", "mono", alert.subject), element("span", "alert-name", alert.name.replaceAll("_", " ")));
  return head;
}

function firingItem(alert) {
  const item = element("li", "alert");
  item.dataset.severity = alert.severity;
  item.dataset.since = alert.started_at;
  const reading = element("p", "reading");
  const share = alert.threshold_ms ? ` (${(alert.value_ms / alert.threshold_ms).toFixed(1)}×)` : "";
  reading.append(element("strong", "num", ms(alert.value_ms)), ` over the limit of ${ms(alert.threshold_ms)}${share}`);
  const since = element("p", "since");
  since.append(element("span", "severity", alert.severity), ` since ${timeOf(alert.started_at)}, `, element("span", "for num", lasting(alert.started_at)));
  item.append(heading(alert), reading, since, ...playbook(alert));
  return item;
}

function resolvedItem(alert) {
  const item = element("li", "alert");
  const took = (Date.parse(alert.resolved_at) - Date.parse(alert.started_at)) / 1000;
  item.append(heading(alert), element("p", "since num", `${timeOf(alert.started_at)} to ${timeOf(alert.resolved_at)}, ${age(took)}`));
  return item;
}

/** The playbook as a link when it is an address, else as its name: a path in the repository is nothing to click. */
function playbook(alert) {
  const target = String(alert.playbook ?? "");
  if (!target) return [];
  const line = element("p", "playbook");
  if (/^https?:\/\//.test(target)) {
    const link = element("a", "", "Open the playbook");
    link.href = target;
    link.target = "_blank";
    link.rel = "noreferrer";
    line.append(link);
  } else {
    line.append("Playbook: ", element("code", "", target));
  }
  return [line];
}

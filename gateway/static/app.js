// The page: sign in, open one stream, hand each message to its panel. A panel knows nothing of the others.

import { alertsPanel } from "./alerts.js";
import { get } from "./control.js";
import { age, byId, count, setText } from "./format.js";
import { lagPanel } from "./lag.js";
import { ordersPanel } from "./orders.js";
import * as session from "./session.js";
import { openStream } from "./stream.js";
import { toolsPanel } from "./tools.js";

const WANTED = ["orders:*", "tools:*", "alerts:*", "system:lag"];
const STATES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", out: "Signed out", away: "Gateway does not answer" };
const RATE_S = 5;
const HISTORY_RETRY_MS = 5000;
const LETTERS_MS = 5000;

const tools = toolsPanel();
const orders = ordersPanel();
const alerts = alertsPanel((firing) => tools.mark(firing));
const lag = lagPanel();

let arrivals = [];
let stream = null;
let state = "connecting";
let historyTimer = 0;
let lettersTimer = 0;
let liveSinceMs = Infinity;

function setState(name) {
  if (name === "live" && state !== "live") liveSinceMs = Date.now();
  state = name;
  byId("state").dataset.state = name;
  setText(byId("state-text"), STATES[name]);
}

const handlers = {
  order_status: (data) => orders.add(data),
  tool_latency_window: (data) => tools.add(data),
  alert_raised: (data) => alerts.raised(data),
  alert_resolved: (data) => alerts.resolved(data),
  lag: (data) => lag.show(data),
};

function message(type, data, push) {
  // What was replayed at the start did not happen now.
  if (Date.now() - liveSinceMs > 1000) arrivals.push(Date.now());
  handlers[type](data);
  if (type === "order_status") {
    const delayMs = Date.now() - Date.parse(push.ts);
    if (delayMs < 60_000) setText(byId("delay"), `${Math.max(0, Math.round(delayMs))} ms`);
  }
}

/** Closed windows from the workers' tables; asked for again while a worker is away, since live windows go on meanwhile. */
async function loadHistory() {
  clearTimeout(historyTimer);
  const whole = await tools.load().catch(() => false);
  if (!whole && state !== "out") historyTimer = setTimeout(loadHistory, HISTORY_RETRY_MS);
}

function start(caller) {
  const names = (pattern, channel) => pattern === channel || (pattern.endsWith(":*") && channel.startsWith(pattern.slice(0, -1)));
  const covered = WANTED.filter((wanted) => caller.channels.some((granted) => names(granted, wanted)));
  const channels = covered.length ? covered : caller.channels;
  setText(byId("tenant"), caller.tenant_id);
  byId("tenant").title = caller.tenant_id;
  for (const id of ["facts", "panels", "sign-out"]) byId(id).hidden = false;
  if (!channels.includes("system:lag")) lag.unavailable();
  byId("dead-letters").hidden = !caller.operator;
  if (caller.operator) countLetters();
  stream = openStream(channels, {
    message,
    state: setState,
    gap() {
      orders.gap();
      loadHistory();
    },
    async refused() {
      const still = await session.current().catch(() => caller);
      if (!still) await end("Your session has ended. Sign in again.");
    },
  });
  loadHistory();
}

/** For operators: how many letters are dead, beside the link to their page. */
async function countLetters() {
  clearTimeout(lettersTimer);
  const summary = document.hidden ? null : await get("dead-letters/summary?state=dead").catch(() => null);
  if (summary) {
    const dead = summary.groups.reduce((sum, group) => sum + group.letters, 0);
    setText(byId("dead-letters"), dead ? `${count(dead)} dead letters` : "No dead letters");
    byId("dead-letters").classList.toggle("bad", dead > 0);
  }
  if (state !== "out") lettersTimer = setTimeout(countLetters, LETTERS_MS);
}

async function end(reason) {
  stream?.close();
  stream = null;
  clearTimeout(historyTimer);
  clearTimeout(lettersTimer);
  setState("out");
  for (const id of ["facts", "panels", "sign-out", "dead-letters"]) byId(id).hidden = true;
  for (const panel of [orders, tools, alerts]) panel.clear();
  start(await session.ask(reason));
}

async function signInOrAsk() {
  const token = session.takeTokenFromAddress();
  if (token) {
    try {
      return await session.signIn(token);
    } catch (refusal) {
      setState("out");
      return session.ask(refusal.message);
    }
  }
  const caller = await session.current();
  if (caller) return caller;
  setState("out");
  return session.ask();
}

async function main() {
  for (;;) {
    try {
      start(await signInOrAsk());
      return;
    } catch {
      setState("away");
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

byId("sign-out").onclick = async () => {
  await session.signOut();
  await end("");
};

// A token in the address also works on a page that is open already.
window.addEventListener("hashchange", () => {
  if (location.hash.includes("token=")) location.reload();
});

setInterval(() => {
  const from = Date.now() - RATE_S * 1000;
  arrivals = arrivals.filter((at) => at > from);
  setText(byId("rate"), (arrivals.length / RATE_S).toFixed(1));
  if (state === "reconnecting" && stream) setText(byId("state-text"), `Reconnecting, silent for ${age(stream.quietMs() / 1000)}`);
}, 1000);

main();

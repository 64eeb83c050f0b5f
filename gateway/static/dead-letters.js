// The operators' page of dead letters: what failed, what is on its way back, each letter with its bytes and history.

import { get, post } from "./control.js";
import { age, byId, count, element, indented, setText } from "./format.js";
import * as session from "./session.js";

const EVERY_MS = 2000;
const PAGE = 50;
const HISTORY_WORDS = { dead: "died", requeued: "requeued", recovered: "recovered", discarded: "discarded", purged: "purged" };

let next = null;
let timer = 0;

const agoText = (moment) => age(Math.max(0, (Date.now() - Date.parse(moment)) / 1000));

function pill(state) {
  const made = element("span", "pill", state);
  made.dataset.state = state;
  return made;
}

const moment = (text) => `${text.slice(0, 19).replace("T", " ")} UTC`;

function row(cells) {
  const made = element("tr");
  for (const [content, className] of cells) {
    const cell = element("td", className ?? "");
    cell.append(content instanceof Node ? content : String(content));
    made.append(cell);
  }
  return made;
}

/** How long ago, kept up to date by `look`: rows are made anew only when something changed, so that a click never misses. */
function since(moment) {
  const made = element("span", "", agoText(moment));
  made.dataset.since = moment;
  return made;
}

const shown = new Map();

/** Fills a table's body, unless it shows the same already. */
function fill(id, items, rowOf) {
  const text = JSON.stringify(items);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  byId(`${id}-rows`).replaceChildren(...items.map(rowOf));
  byId(id).hidden = items.length === 0;
  byId(`${id}-empty`).hidden = items.length > 0;
}

function button(text, onclick) {
  const made = element("button", "", text);
  made.type = "button";
  made.onclick = onclick;
  return made;
}

function setState(name, text) {
  byId("state").dataset.state = name;
  setText(byId("state-text"), text);
}

// --- what failed ---------------------------------------------------------------------------------------------------

function showGroups(summary) {
  const groups = summary.groups;
  const dead = groups.filter((group) => group.state === "dead").reduce((sum, group) => sum + group.letters, 0);
  const badge = byId("groups-count");
  badge.dataset.firing = String(dead);
  setText(badge, `${count(dead)} dead`);
  document.title = dead ? `(${count(dead)}) Dead letters - Headrace` : "Dead letters - Headrace";
  byId("no-requeuer").hidden = summary.requeuer;
  fill("groups", groups, groupRow);
}

function groupRow(group) {
  const which = { state: [group.state], source: group.source, stream: group.stream, reason: group.reason };
  const actions = element("span");
  const name = `${count(group.letters)} letters of ${group.source}: ${group.reason}`;
  actions.append(button("Show", () => showLike(group)));
  if (group.state === "dead") {
    actions.append(" ", button("Requeue…", () => ask("requeue", which, name)), " ", button("Discard…", () => ask("discard", which, name)));
  }
  return row([
    [group.source, "mono"], [group.stream, "mono"], [group.reason, "mono"], [pill(group.state)],
    [count(group.letters), "num"], [since(group.oldest_at), "num"], [since(group.newest_at), "num"], [actions, "act"],
  ]);
}

// --- requeues ------------------------------------------------------------------------------------------------------

function requeueRow(one) {
  const outcome = (one.outcome ?? "running").replace("_", " ");
  const action = one.outcome === null && one.waiting > 0 ? button("Cancel…", () => askCancel(one)) : "";
  return row([
    [since(one.asked_at), "num"], [one.actor], [one.why], [count(one.letters), "num"], [count(one.waiting), "num"],
    [count(one.under_way), "num"], [count(one.recovered), "num"], [count(one.died_again), one.died_again ? "num bad" : "num"],
    [pill(outcome)], [action, "act"],
  ]);
}

// --- letters -------------------------------------------------------------------------------------------------------

function showLike(group) {
  const fields = byId("filter").elements;
  for (const name of ["state", "source", "stream", "reason"]) fields[name].value = group[name];
  for (const name of ["tenant", "type"]) fields[name].value = "";
  find().catch(failed);
  byId("found-title").scrollIntoView({ block: "start" });
}

async function find(more = "") {
  const query = new URLSearchParams([...new FormData(byId("filter"))].filter(([, value]) => value.trim()).map(([name, value]) => [name, value.trim()]));
  query.set("limit", PAGE);
  const page = await get(more || `dead-letters?${query}`);
  const rows = page.letters.map(letterRow);
  if (more) byId("found-rows").append(...rows);
  else byId("found-rows").replaceChildren(...rows);
  const empty = byId("found-rows").childElementCount === 0;
  byId("found").hidden = empty;
  byId("found-empty").hidden = !empty;
  next = page.next?.replace("/v1/control/", "") ?? null;
  byId("more").hidden = next === null;
}

function letterRow(letter) {
  const open = button(String(letter.id), () => openLetter(letter.id).catch(failed));
  open.className = "open";
  open.setAttribute("aria-label", `Letter ${letter.id}`);
  const error = element("span", "", letter.error);
  error.title = letter.error;
  return row([
    [open], [pill(letter.requeue.waiting ? "waiting" : letter.state)], [letter.source, "mono"], [letter.tenant || "–", "mono"],
    [letter.type, "mono"], [letter.reason, "mono"], [error, "error-text"], [count(letter.attempts), "num"], [since(letter.last_at), "num"],
  ]);
}

async function openLetter(id) {
  const letter = await get(`dead-letters/${id}`);
  setText(byId("letter-title"), `Letter ${id}: ${letter.reason}`);
  facts(byId("letter-facts"), [
    ["State", letter.requeue.waiting ? "requeued, waiting to leave" : letter.state],
    ["Failed at", `${letter.source}, ${letter.place}`],
    ["Error", letter.error],
    ["Tries", `${letter.attempts}, first ${moment(letter.first_at)}, last ${moment(letter.last_at)}`],
    ["Tenant", letter.tenant || "not known"],
    ["Key", letter.key?.replace(/[\x00-\x1f\x7f]/g, " \u00b7 ") ?? `base64 ${letter.key_base64}`],
    ["Requeued", letter.requeue.count ? `${letter.requeue.count} times, last number ${letter.requeue.seq ?? "–"}` : "never"],
  ]);
  facts(byId("letter-headers"), letter.headers.map((header) => [header.name, header.value ?? `base64 ${header.value_base64}`]));
  setText(byId("letter-payload"), readable(letter));
  byId("letter-history-title").hidden = letter.history.length === 0;
  byId("letter-history").replaceChildren(
    ...letter.history.map((move) => {
      const line = element("li", "", `${moment(move.at)} ${HISTORY_WORDS[move.to] ?? move.to}`);
      line.append(element("span", "who", ` by ${move.actor}${move.reason ? ` of ${move.reason}` : ""}${move.why ? `: ${move.why}` : ""}`));
      return line;
    }),
  );
  for (const move of ["requeue", "discard"]) {
    const action = byId(`letter-${move}`);
    action.hidden = letter.state !== "dead";
    action.onclick = () => {
      byId("letter").close();
      ask(move, { ids: [id] }, `letter ${id}`);
    };
  }
  byId("letter").showModal();
}

function readable(letter) {
  if (letter.payload === undefined) return `${letter.payload_bytes} bytes that are no text; base64:\n${letter.payload_base64}`;
  try {
    return indented(letter.payload);
  } catch {
    return letter.payload;
  }
}

function facts(target, pairs) {
  target.replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", String(value))]));
}

// --- moving --------------------------------------------------------------------------------------------------------

const WORDS = {
  requeue: ["Requeue", "They go to the consumer that failed and to no other, a few at first, and faster as they recover."],
  discard: ["Discard", "They are given up for good. They stay readable until they are purged."],
};

function ask(move, which, name) {
  const [verb, text] = WORDS[move];
  dialog(`${verb} ${name}`, text, verb, !which.ids, async (why, limit) => {
    const body = { which, why };
    if (limit) body.limit = limit;
    const moved = await post(`dead-letters/${move}`, body);
    if (moved.letters > 0) return;
    const stuck = moved.not_taken_back ?? [];
    throw new Error(stuck.length ? `Nothing was requeued: no consumer takes letters of ${stuck.join(", ")} back.` : "None of these is dead any more.");
  });
}

function askCancel(requeue) {
  const text = `${count(requeue.waiting)} letters have not left: they are dead again. What is under way stays so.`;
  dialog(`Cancel requeue ${requeue.id}`, text, "Cancel it", false, (why) => post(`requeues/${requeue.id}/cancel`, { why }));
}

function dialog(title, text, verb, limited, act) {
  setText(byId("ask-title"), title);
  setText(byId("ask-text"), text);
  setText(byId("ask-do"), verb);
  setText(byId("ask-error"), "");
  byId("ask-form").reset();
  byId("ask-limit").hidden = byId("ask-limit-label").hidden = !limited;
  byId("ask-form").onsubmit = async (event) => {
    event.preventDefault();
    byId("ask-do").disabled = true;
    try {
      await act(byId("ask-why").value.trim(), Number(byId("ask-limit").value) || null);
      byId("ask").close();
      await look();
      await find();
    } catch (refusal) {
      setText(byId("ask-error"), refusal.message);
    } finally {
      byId("ask-do").disabled = false;
    }
  };
  byId("ask").showModal();
}

// --- the page ------------------------------------------------------------------------------------------------------

async function look() {
  const [summary, requeues] = await Promise.all([get("dead-letters/summary?state=dead&state=requeued"), get("requeues?limit=10")]);
  showGroups(summary);
  fill("requeues", requeues.requeues, requeueRow);
  for (const made of document.querySelectorAll("[data-since]")) setText(made, agoText(made.dataset.since));
  setState("live", "Live");
}

/** Whoever has to sign in again does; a gateway and a control process that disagree about a token are told apart. */
async function failed(refusal) {
  setState("away", refusal.message);
  if (refusal.status === 401 && !(await session.current().catch(() => true))) location.reload();
}

async function keepLooking() {
  clearTimeout(timer);
  if (!document.hidden) await look().catch(failed);
  timer = setTimeout(keepLooking, EVERY_MS);
}

async function signInOrAsk() {
  const token = session.takeTokenFromAddress();
  let reason = "";
  let caller = token ? await session.signIn(token).catch((refusal) => void (reason = refusal.message)) : await session.current();
  while (!caller?.operator) {
    setState("out", "Signed out");
    caller = await session.ask(caller ? "This token is a client's; an operator's is needed." : reason);
  }
  return caller;
}

/** A gateway that does not answer is asked again: the page is open through its restart. */
async function signedIn() {
  for (;;) {
    try {
      return await signInOrAsk();
    } catch (refusal) {
      setState("away", refusal.message);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }
}

byId("filter").onsubmit = (event) => {
  event.preventDefault();
  find().catch(failed);
};
byId("more").onclick = () => find(next).catch(failed);
byId("letter-close").onclick = () => byId("letter").close();
byId("ask-cancel").onclick = () => byId("ask").close();
document.addEventListener("visibilitychange", () => !document.hidden && keepLooking());

const caller = await signedIn();
setText(byId("operator"), `Operator ${caller.subject ?? ""}`);
byId("operator").hidden = false;
byId("letters-page").hidden = false;
keepLooking();
find().catch(failed);

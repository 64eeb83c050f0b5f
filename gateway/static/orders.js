// The order feed: newest on top, at most 200 rows. Rows wait for the next frame, so that a burst costs one layout.

import { byId, count, element, perFrame, setText, timeOf } from "./format.js";

const MOST_ROWS = 200;
const KNOWN = new Set(["created", "confirmed", "failed", "cancelled"]);

export function ordersPanel() {
  const rows = byId("orders-rows");
  const scroll = byId("orders-scroll");
  let waiting = [];
  let shown = 0;

  const render = perFrame(() => {
    const fresh = waiting.slice(-MOST_ROWS).map(row).reverse();
    waiting = [];
    const before = rows.firstElementChild;
    rows.prepend(...fresh);
    while (rows.childElementCount > MOST_ROWS) rows.lastElementChild.remove();
    // Whoever reads further down stays where they are; browsers that anchor scrolling do it themselves.
    if (scroll.scrollTop > 0 && before && !CSS.supports("overflow-anchor", "auto")) {
      scroll.scrollTop += fresh.reduce((sum, made) => sum + made.offsetHeight, 0);
    }
    byId("orders-empty").hidden = rows.childElementCount > 0;
    scroll.hidden = rows.childElementCount === 0;
    setText(byId("orders-note"), shown ? `${count(shown)} changes, newest first` : "");
  });

  return {
    add(order) {
      shown += 1;
      waiting.push(order);
      if (waiting.length > 2 * MOST_ROWS) waiting = waiting.slice(-MOST_ROWS);
      render();
    },
    /** Marks where messages may be missing. */
    gap() {
      waiting.push(null);
      render();
    },
    clear() {
      waiting = [];
      shown = 0;
      rows.replaceChildren();
      render();
    },
  };
}

function row(order) {
  const line = element("tr", order ? "" : "gap");
  if (!order) {
    const cell = element("td", "", "connection was lost: some changes are not shown");
    cell.colSpan = 4;
    line.append(cell);
    return line;
  }
  const status = String(order.status ?? "?");
  const pill = element("span", "pill", status);
  pill.dataset.status = KNOWN.has(status) ? status : "other";
  const id = element("td", "mono", shortId(String(order.order_id ?? "")));
  id.title = String(order.order_id ?? "");
  const first = element("td");
  first.append(pill);
  const reason = element("td", "reason", String(order.meta?.reason ?? ""));
  reason.title = reason.textContent;
  line.append(first, id, reason, element("td", "num", timeOf(order.ts)));
  return line;
}

/** The first block of a UUID; other ids up to 12 characters. */
function shortId(id) {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(id) ? id.slice(0, 8) : id.length > 12 ? `${id.slice(0, 11)}…` : id;
}

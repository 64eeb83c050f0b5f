// How far behind each stage is, once a second, with the last two minutes as a line.

import { age, byId, count, element, setText, sparkline, timeOf } from "./format.js";

const SECONDS = 120;
const LEAST_SECONDS = 30;
const STAGES = [
  { title: "Outbox rows", value: "outbox_rows", since: "outbox_oldest_s", hint: "committed, not relayed yet" },
  { title: "Stream entries", value: "stream_entries", since: "stream_oldest_s", hint: "relayed, not mirrored yet" },
  { title: "Consumer records", value: "consumer_records", since: null, hint: "not processed yet" },
];

export function lagPanel() {
  const box = byId("lag-rows");
  const rows = STAGES.map((stage) => {
    const row = element("div", "lag-row");
    const title = element("p", "lag-title", stage.title);
    title.title = stage.hint;
    const value = element("p", "lag-value num", "0");
    const oldest = element("p", "lag-oldest num");
    const spark = sparkline(120, 28);
    row.append(title, value, oldest, spark.svg);
    box.append(row);
    return { ...stage, row, shownValue: value, oldest, spark, history: [] };
  });

  return {
    show(data) {
      box.hidden = false;
      byId("lag-empty").hidden = true;
      for (const row of rows) {
        const value = data[row.value];
        row.history.push(value);
        if (row.history.length > SECONDS) row.history.shift();
        setText(row.shownValue, count(value));
        const oldest = row.since ? data[row.since] : null;
        setText(row.oldest, oldest === null ? row.hint : oldest > 0 ? `oldest ${age(oldest)}` : "none waiting");
        row.row.classList.toggle("behind", oldest > 5);
        row.spark.draw(row.history, Math.max(LEAST_SECONDS, row.history.length));
      }
      setText(byId("lag-note"), timeOf(data.at));
    },
    /** Says why the panel stays empty. */
    unavailable() {
      box.hidden = true;
      byId("lag-empty").hidden = false;
      setText(byId("lag-empty"), "This token does not name the channel system:lag.");
    },
  };
}

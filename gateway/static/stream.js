// One EventSource for all channels (a browser opens at most six connections per host). It reconnects by itself and resumes
// after the last id; what it does not do by itself is come back after an answer other than 200, or notice a dead peer.

const RETRY_MS = [1000, 2000, 5000, 10_000];
const TYPES = ["order_status", "tool_latency_window", "alert_raised", "alert_resolved", "lag"];

/**
 * @param channels what to subscribe to
 * @param on {message(type, data, push), state(name), gap(), refused()}: refused is called when the session may have ended
 */
export function openStream(channels, on) {
  let source = null;
  let lastId = "";
  let failures = 0;
  let heardMs = Date.now();
  let lagSeen = false;
  let timer = 0;
  let closed = false;

  const url = () => {
    const query = new URLSearchParams({ channels: channels.join(","), replay: "100" });
    if (lastId) query.set("last_event_id", lastId);
    return `/v1/stream?${query}`;
  };

  const again = () => {
    source?.close();
    on.state("reconnecting");
    const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
    failures += 1;
    clearTimeout(timer);
    timer = setTimeout(connect, wait * (0.75 + Math.random() / 2));
  };

  const heard = (event) => {
    heardMs = Date.now();
    if (event.lastEventId) lastId = event.lastEventId;
  };

  function connect() {
    if (closed) return;
    heardMs = Date.now();
    source = new EventSource(url());
    source.onerror = () => {
      if (closed) return;
      // CLOSED: the answer was not a stream, and the browser gives up. CONNECTING: it tries again itself.
      if (source.readyState !== EventSource.CLOSED) return on.state("reconnecting");
      on.refused();
      again();
    };
    source.addEventListener("ready", (event) => {
      heard(event);
      failures = 0;
      const ready = JSON.parse(event.data);
      on.state("live");
      if (ready.resumed && !ready.recovered) on.gap();
    });
    source.addEventListener("gap", (event) => {
      heard(event);
      on.gap();
    });
    source.addEventListener("bye", (event) => {
      heard(event);
      if (JSON.parse(event.data).reconnect) return on.state("reconnecting");
      on.refused();
      again();
    });
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        heard(event);
        lagSeen ||= type === "lag";
        const push = JSON.parse(event.data);
        on.message(type, push.data, push);
      });
    }
  }

  // Heartbeats are comments, which a page never sees; but the lag report comes every second, so its absence says enough.
  const watch = setInterval(() => {
    if (lagSeen && source.readyState === EventSource.OPEN && Date.now() - heardMs > 45_000) again();
  }, 5000);

  on.state("connecting");
  connect();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      clearInterval(watch);
      source.close();
    },
    quietMs: () => Date.now() - heardMs,
  };
}

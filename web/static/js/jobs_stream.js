// @ts-check
// Hears that a job changed its state (WS /ws/jobs) and says so as tb:jobs on the document; lists
// that care fetch themselves anew. Lists poll as well, so a broken socket only makes them slower.

/** @type {WebSocket|null} */
let socket = null;
let tries = 0;

const isWanted = () => document.querySelector('[data-jobs-stream]') !== null;

export function listen() {
  if (!isWanted()) { socket?.close(); socket = null; return; }
  if (socket && socket.readyState <= WebSocket.OPEN) return;
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const mine = new WebSocket(`${scheme}://${location.host}/ws/jobs`);
  socket = mine;
  mine.onopen = () => { tries = 0; };
  mine.onmessage = (message) => {
    const frame = JSON.parse(message.data);
    if (frame.type !== 'ping') document.dispatchEvent(new CustomEvent('tb:jobs', { detail: frame }));
  };
  mine.onclose = () => {
    if (socket !== mine || !isWanted()) return;
    tries += 1;
    setTimeout(listen, Math.min(30_000, 500 * 2 ** tries));
  };
}

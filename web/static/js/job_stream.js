// @ts-check
// Follows one job: WS /ws/jobs/{id}?after=<seq>, again from the last seq after a broken connection,
// by polling where no socket comes up. Turns events into DOM events on the document, on which HTMX
// fetches fragments and charts take points. Knows no chart and no page.
//
//   <div data-job-stream data-job="job_…" data-run="run_…" data-after="123"></div>   (data-ended: nothing more comes)
//
// tb:metrics {job, points: [{step, at, values}]}; tb:state, tb:phase, tb:log, tb:checkpoint,
// tb:evaluation, tb:sample, tb:alert, tb:failure {job, seq, at, step, values}; tb:resync {job}.

const FINAL = new Set(['succeeded', 'failed', 'cancelled']);
const POLL_MS = 2000;
const TRIES_BEFORE_POLLING = 2;
const LOG_LINES = 400;

/** @typedef {{seq: number, type: string, at: string, step: number|null, values: Record<string, any>}} JobEvent */

/** @type {Map<string, JobStream>} */
const streams = new Map();

export function connectAll() {
  for (const [job, stream] of streams) if (!stream.host.isConnected) { stream.stop(); streams.delete(job); }
  for (const host of document.querySelectorAll('[data-job-stream]')) {
    if (!(host instanceof HTMLElement) || !host.dataset.job || host.dataset.ended || streams.has(host.dataset.job)) continue;
    const stream = new JobStream(host);
    streams.set(host.dataset.job, stream);
    stream.connect();
  }
}

class JobStream {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.job = host.dataset.job ?? '';
    this.run = host.dataset.run ?? '';
    this.seq = Number(host.dataset.after ?? 0);
    this.tries = 0;
    this.isStopped = false;
    this.skew = 0;
    /** @type {WebSocket|null} */
    this.socket = null;
    /** @type {number|undefined} */
    this.timer = undefined;
  }

  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  connect() {
    if (this.isStopped || !this.host.isConnected) return;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/ws/jobs/${this.job}?after=${this.seq}`);
    this.socket = socket;
    socket.onopen = () => { this.tries = 0; this.tag('live', 'accent'); };
    socket.onmessage = (message) => this.onFrame(JSON.parse(message.data));
    socket.onclose = (event) => this.onClose(event.code);
  }

  /** @param {{type: string, events?: JobEvent[]}} frame */
  onFrame(frame) {
    if (frame.type === 'ping') return;
    if (frame.type === 'resync') {
      send('tb:resync', { job: this.job });
      this.socket?.close();
      return;
    }
    this.take(frame.events ?? [], frame.type === 'snapshot');
  }

  /** Takes events in order, each once. @param {JobEvent[]} events @param {boolean} isOld */
  take(events, isOld) {
    /** @type {{step: number|null, at: string, values: Record<string, any>}[]} */
    let points = [];
    const flush = () => { if (points.length) send('tb:metrics', { job: this.job, points }); points = []; };
    for (const event of events) {
      if (event.seq <= this.seq) continue;
      this.seq = event.seq;
      if (event.type === 'metrics') { points.push(event); continue; }
      flush();
      if (event.type === 'log') appendLog(event);
      send(`tb:${event.type}`, { job: this.job, ...event });
      if (event.type === 'state' && FINAL.has(event.values.status)) this.tag('ended', '');
    }
    flush();
    const last = events.at(-1);
    if (last && !isOld) this.behind(Date.now() - Date.parse(last.at));
  }

  /** Says how old the newest event is; a browser's clock that runs late counts as none. @param {number} ms */
  behind(ms) {
    this.skew = Math.min(this.skew, ms);
    if (this.host.dataset.ended) return;
    this.tag(`live, ${(Math.min(99, (ms - this.skew) / 1000)).toFixed(1)} s behind`, 'accent');
  }

  /** @param {number} code */
  onClose(code) {
    if (this.isStopped || !this.host.isConnected) return;
    if (code === 4401) return location.reload();
    if (code === 4403 || code === 4404) return this.tag('not available', 'warn');
    this.tries += 1;
    if (!this.host.dataset.ended) this.tag('reconnecting', 'warn');
    const wait = Math.min(15_000, 250 * 2 ** this.tries) * (0.7 + 0.6 * Math.random());
    if (this.tries > TRIES_BEFORE_POLLING && this.run) this.poll();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Reads what is stored, while no socket comes up. */
  async poll() {
    if (this.isStopped || !this.host.isConnected || this.socket?.readyState === WebSocket.OPEN) return;
    try {
      const response = await fetch(`/api/v1/runs/${this.run}/events?after=${this.seq}&limit=1000`);
      if (response.ok) {
        const body = await response.json();
        this.take(body.items ?? body.events ?? [], false);
        if (!this.host.dataset.ended) this.tag('every 2 s, no live connection', 'warn');
      }
    } catch { /* the server is away: the next try comes with the next reconnect */ }
    if (this.tries > TRIES_BEFORE_POLLING) setTimeout(() => this.poll(), POLL_MS);
  }

  /** @param {string} text @param {string} kind */
  tag(text, kind) {
    if (text === 'ended') this.host.dataset.ended = 'true';
    for (const tag of document.querySelectorAll('[data-live]')) {
      tag.textContent = text;
      tag.className = `tb-tag ${kind}`;
    }
  }
}

/** @param {string} name @param {object} detail */
function send(name, detail) {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}

/** Adds a line to <pre data-log-tail>, and follows it unless the reader scrolled up. @param {JobEvent} event */
function appendLog(event) {
  const log = document.querySelector('[data-log-tail]');
  if (!log) return;
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const line = document.createElement('span');
  const level = String(event.values.level ?? 'info');
  line.className = level === 'error' ? 'le' : level === 'warning' ? 'lw' : '';
  const at = document.createElement('span');
  at.className = 'lt';
  at.textContent = `${new Date(event.at).toLocaleTimeString('en-GB')} `;
  line.append(at, `${event.values.text ?? ''}\n`);
  log.append(line);
  while (log.childElementCount > LOG_LINES) log.firstElementChild?.remove();
  if (follows) log.scrollTop = log.scrollHeight;
}

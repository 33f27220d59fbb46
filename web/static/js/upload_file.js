// @ts-check
// One file on its way to the server by the tus protocol, then a dataset of it. Goes on by itself
// when the line breaks or the server restarts, and where the same file was left off before. Knows
// no page: it tells every change through `changed`.

import '../vendor/tus.min.js'; // sets window.tus

/** @typedef {'waiting'|'sending'|'broken'|'paused'|'storing'|'done'|'refused'|'cancelled'} State */

const { Upload } = /** @type {any} */ (window).tus;
const PIECE_BYTES = 32 * 2 ** 20; // what a broken line can cost at most behind a proxy that holds pieces back
const HEAD_BYTES = 1024; // enough to tell a picture or an archive
const WATCHED_SECONDS = 5; // the rate is that of the last seconds
const FULL_DISK = 507;
const DELAYS = Array.from({ length: 5000 }, (_, tries) => Math.min(10_000, 500 * 2 ** Math.min(tries, 5)));

export class FileUpload {
  /**
   * @param {File} file
   * @param {{token: string, fields: Record<string, string>, changed: (upload: FileUpload) => void}} options
   */
  constructor(file, { token, fields, changed }) {
    this.file = file;
    this.fields = fields;
    /** @type {State} */
    this.state = 'waiting';
    this.sent = 0;
    this.problem = '';
    /** @type {{id: string, name: string}|null} */
    this.dataset = null;
    this.token = token;
    this.changed = changed;
    /** @type {any} */
    this.upload = null;
    /** @type {[number, number][]} */
    this.samples = [];
    this.place = -1; // where a broken line left off, once the server has said it
  }

  /** The upload's id on the server, or nothing before there is one. */
  get id() {
    return this.upload?.url?.split('/').pop() ?? '';
  }

  get isActive() {
    return ['waiting', 'sending', 'broken', 'storing'].includes(this.state);
  }

  /** Bytes a second, or 0 while that is not known. */
  get rate() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    return first && last && last[0] > first[0] ? (1000 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
  }

  /** @param {State} state @param {string} problem */
  become(state, problem = '') {
    this.state = state;
    this.problem = problem;
    this.samples = [];
    this.place = -1;
    this.changed(this);
  }

  async start() {
    this.become('sending');
    let head;
    try {
      head = await firstBytes(this.file);
    } catch {
      this.become('refused', 'It cannot be read. Is it a folder, or was it moved or changed? Choose it again.');
      return;
    }
    this.upload = new Upload(this.file, {
      endpoint: new URL('/api/v1/uploads', location.href).href,
      headers: { 'X-CSRF-Token': this.token },
      metadata: { filename: this.file.name, head },
      chunkSize: PIECE_BYTES,
      retryDelays: DELAYS,
      removeFingerprintOnSuccess: true,
      onShouldRetry: (/** @type {any} */ error) => this.shouldRetry(status(error)),
      onProgress: (/** @type {number} */ sent) => this.progressed(sent),
      onSuccess: () => this.finish(),
      onError: (/** @type {any} */ error) => this.failed(error),
    });
    const earlier = await this.upload.findPreviousUploads();
    if (earlier.length) this.upload.resumeFromPreviousUpload(earlier[earlier.length - 1]);
    if (this.state === 'sending') this.upload.start();
  }

  pause() {
    this.become('paused');
    this.upload?.abort();
  }

  resume() {
    if (!this.upload) return this.start();
    this.become('sending');
    this.upload.start();
  }

  /** Stops for good; what has arrived is deleted on the server. */
  async cancel() {
    this.become('cancelled');
    try {
      await this.upload?.abort(true);
    } catch { /* it is swept after a day */ }
  }

  /** @param {number} code */
  shouldRetry(code) {
    if (this.state !== 'sending' && this.state !== 'broken') return false;
    const again = code === 0 || [409, 423, 429].includes(code) || (code >= 500 && code !== FULL_DISK);
    if (again && this.state !== 'broken') this.become('broken');
    return again;
  }

  /** @param {number} sent */
  progressed(sent) {
    if (this.state !== 'sending' && this.state !== 'broken') return;
    const now = performance.now();
    this.sent = sent;
    if (this.state === 'broken' && (this.place < 0 || sent <= this.place)) {
      this.place = sent; // what was there already is no sign of life
    } else {
      this.state = 'sending';
      this.samples.push([now, sent]);
      while (this.samples.length > 2 && now - this.samples[0][0] > 1000 * WATCHED_SECONDS) this.samples.shift();
    }
    this.changed(this);
  }

  /** @param {any} error */
  failed(error) {
    if (this.state === 'paused' || this.state === 'cancelled') return;
    const detail = detailOf(error.originalResponse?.getBody?.());
    const code = status(error);
    if (code === FULL_DISK || code === 0) this.become('paused', detail || 'The server does not answer. What arrived is kept for a day.');
    else this.become('refused', detail || `The server answered with ${code}. Try again, or reload the page.`);
  }

  async finish() {
    this.sent = this.file.size;
    this.become('storing');
    const body = new FormData();
    for (const [name, value] of Object.entries({ ...this.fields, upload: this.id })) if (value) body.set(name, value);
    const headers = { 'X-CSRF-Token': this.token, 'Idempotency-Key': this.id };
    for (const delay of DELAYS) {
      const answer = await fetch('/api/v1/datasets', { method: 'POST', body, headers }).catch(() => null);
      if (answer?.ok) {
        this.dataset = await answer.json();
        return this.become('done');
      }
      const problem = answer ? await answer.json().catch(() => null) : null;
      const again = !answer || problem?.code === 'upload_busy' || answer.status >= 502 && answer.status <= 504;
      if (!again) return this.become('refused', problem?.detail || 'It could not be stored. Try again.');
      await new Promise((resolve) => setTimeout(resolve, Math.max(500, delay)));
    }
  }
}

/** @param {File} file */
async function firstBytes(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}

/** @param {any} error */
function status(error) {
  return error.originalResponse?.getStatus?.() ?? 0;
}

/** @param {string|undefined} body */
function detailOf(body) {
  try {
    return JSON.parse(body ?? '').detail ?? '';
  } catch {
    return '';
  }
}

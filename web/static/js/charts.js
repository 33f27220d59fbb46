// @ts-check
// Curves of runs in [data-charts] groups (see web/README.md). One hover over all charts of a group,
// a readout line instead of a box over the data; drag zooms and asks the server for more points
// there; double click resets. The view lives in the address. Only charts in sight are mounted.

import { Chart } from './chart.js';
import { X_AXES, colour, forgetColours } from './chart_style.js';
import { readView, saveView } from './chart_view.js';
import { RunCurves } from './series.js';

/** @typedef {import('./chart_view.js').View} View */
/** @typedef {import('./chart.js').RunOf} RunOf */

const POINTS = 1000;
const LIVE_POINTS = 4000;


/** @type {Map<Element, Group>} */
const groups = new Map();

export function mountAll() {
  for (const [host, group] of groups) if (!host.isConnected) { group.destroy(); groups.delete(host); }
  for (const host of document.querySelectorAll('[data-charts]')) {
    if (host instanceof HTMLElement && !groups.has(host)) groups.set(host, new Group(host));
  }
}

class Group {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.runs = /** @type {RunOf[]} */ (JSON.parse(host.dataset.runs ?? '[]'));
    this.key = `charts-${Math.random()}`;
    this.view = readView(host);
    /** @type {Map<string, RunCurves>} whole runs, and the part in sight while zoomed */
    this.whole = new Map(this.runs.map((run) => [run.id, new RunCurves()]));
    /** @type {Map<string, RunCurves>|null} */
    this.part = null;
    this.charts = [...host.querySelectorAll('[data-chart]')].map((element) => new Chart(this, /** @type {HTMLElement} */ (element)));
    this.frame = 0;
    this.stop = new AbortController();
    this.listen();
    this.showView();
    this.load();
  }

  get isCompared() { return this.runs.length > 1; }
  get names() { return [...new Set([...this.charts.flatMap((chart) => chart.names), 'train/tokens', 'train/loss'])]; }
  /** @param {RunOf} run */
  curves(run) { return /** @type {RunCurves} */ (this.part?.get(run.id) ?? this.whole.get(run.id)); }

  async load() {
    await Promise.all(this.runs.map(async (run) => this.whole.get(run.id)?.load(await this.fetch(run))));
    this.host.removeAttribute('aria-busy');
    if (this.view.zoom) await this.zoom(...this.view.zoom);
    this.redraw();
  }

  /** @param {RunOf} run @param {[number, number]} [steps] */
  async fetch(run, steps) {
    const query = new URLSearchParams({ names: this.names.join(','), points: String(POINTS) });
    if (steps) { query.set('from_step', String(steps[0])); query.set('to_step', String(steps[1])); }
    try {
      const response = await fetch(`/api/v1/runs/${run.id}/metrics?${query}`, { signal: this.stop.signal });
      return response.ok ? (await response.json()).series : {};
    } catch { return {}; }
  }

  listen() {
    const { signal } = this.stop;
    const on = (/** @type {string} */ name, /** @type {(detail: any) => void} */ act) =>
      document.addEventListener(name, (event) => act(/** @type {CustomEvent} */ (event).detail), { signal });
    on('tb:metrics', ({ job, points }) => this.change(job, (curves) => curves.take(points)));
    on('tb:phase', ({ job, step, values }) => {
      const run = this.runs.find((one) => one.job === job);
      if (run && values.total_steps) run.total = values.total_steps;
      const from = values.step ?? step;
      if (values.phase === 'resumed' && from != null) this.change(job, (curves) => curves.cutAfter(from));
    });
    on('tb:resync', () => this.load());
    const act = (/** @type {string} */ selector, /** @type {string} */ event, /** @type {(element: any) => void} */ what) =>
      this.host.querySelectorAll(selector).forEach((element) => element.addEventListener(event, () => what(element), { signal }));
    act('[data-smooth]', 'input', (input) => this.set({ smooth: Number(input.value) }));
    act('[data-log]', 'change', (input) => this.set({ log: input.checked }));
    act('[data-x]', 'click', (button) => this.set({ x: button.dataset.x }));
    act('[data-reset-zoom]', 'click', () => this.reset());
    act('[data-csv]', 'click', () => this.csv());
    act('[data-png]', 'click', () => this.png());
    this.theme = new MutationObserver(() => { forgetColours(); this.remount(); });
    this.theme.observe(document.documentElement, { attributeFilter: ['data-bs-theme'] });
  }

  /** Lets live data in, and draws once a frame. @param {string} job @param {(curves: RunCurves) => void} act */
  change(job, act) {
    const run = this.runs.find((one) => one.job === job);
    if (!run) return;
    const curves = /** @type {RunCurves} */ (this.whole.get(run.id));
    act(curves);
    if (!this.part) this.redraw();
    if (curves.curve('train/loss').points.size > LIVE_POINTS) this.thin(run);
  }

  /** Exchanges a curve that grew long for a thinned one. @param {RunOf} run */
  async thin(run) {
    const fresh = new RunCurves();
    const old = /** @type {RunCurves} */ (this.whole.get(run.id));
    const until = old.lastStep;
    fresh.load(await this.fetch(run));
    for (const [name, curve] of old.curves) {
      for (const [step, point] of curve.points) if (step > until) fresh.curve(name).set(step, point);
    }
    this.whole.set(run.id, fresh);
    this.redraw();
  }

  /** @param {Partial<View>} change */
  set(change) {
    const axisChanged = 'log' in change || ('x' in change && change.x !== this.view.x);
    Object.assign(this.view, change);
    saveView(this.view);
    this.showView();
    if (axisChanged) this.remount(); else this.redraw();
  }

  showView() {
    const { smooth: weight, log, x, zoom } = this.view;
    const slider = /** @type {HTMLInputElement|null} */ (this.host.querySelector('[data-smooth]'));
    if (slider) slider.value = String(weight);
    const output = this.host.querySelector('[data-smooth-value]');
    if (output) output.textContent = weight.toFixed(2);
    const box = /** @type {HTMLInputElement|null} */ (this.host.querySelector('[data-log]'));
    if (box) box.checked = log;
    this.host.querySelectorAll('[data-x]').forEach((button) => button.setAttribute('aria-pressed', String(/** @type {HTMLElement} */ (button).dataset.x === x)));
    this.host.querySelectorAll('[data-reset-zoom]').forEach((button) => button.toggleAttribute('hidden', !zoom));
  }

  /** Shows a stretch of x, and fetches its points in full. @param {number} low @param {number} high */
  async zoom(low, high) {
    this.view.zoom = [low, high];
    saveView(this.view);
    this.showView();
    const part = new Map();
    await Promise.all(this.runs.map(async (run) => {
      const curves = new RunCurves();
      curves.load(await this.fetch(run, this.steps(run, low, high)));
      part.set(run.id, curves);
    }));
    if (this.view.zoom?.[0] !== low) return;
    this.part = part;
    this.redraw();
  }

  /** The steps behind a stretch of x. @param {RunOf} run @param {number} low @param {number} high @returns {[number, number]} */
  steps(run, low, high) {
    const curves = /** @type {RunCurves} */ (this.whole.get(run.id));
    const place = curves.placer(this.view.x);
    const inside = [...curves.curve('train/loss').points.keys()].filter((step) => { const at = place(step); return at != null && at >= low && at <= high; });
    if (this.view.x === 'step' || !inside.length) return [Math.max(0, Math.floor(low)), Math.ceil(high)];
    return [Math.min(...inside), Math.max(...inside)];
  }

  reset() {
    this.part = null;
    this.view.zoom = null;
    saveView(this.view);
    this.showView();
    this.redraw();
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => { for (const chart of this.charts) chart.draw(); this.say(null); });
  }

  remount() {
    for (const chart of this.charts) chart.unmount();
    this.redraw();
  }

  /** The x range of all charts. @param {number} low @param {number} high @returns {[number, number]} */
  range(low, high) {
    if (this.view.zoom) return this.view.zoom;
    const total = Math.max(0, ...this.runs.map((run) => run.total ?? 0));
    const end = this.view.x === 'step' ? Math.max(total, high) : high;
    return [Math.min(0, low), end > 0 ? end : 1];
  }

  /** Fills the readout and the small charts' captions for x; null means the latest. @param {number|null} x */
  say(x) {
    for (const chart of this.charts) chart.say(x);
    const out = this.host.querySelector('[data-readout]');
    if (!out) return;
    const main = this.charts[0];
    const parts = main ? main.readout(x) : [];
    const unit = document.createElement('span');
    unit.className = 'push t3';
    unit.textContent = X_AXES[this.view.x].unit;
    out.replaceChildren(...parts, unit);
  }

  csv() {
    const rows = ['run,metric,step,value,min,max,at'];
    for (const run of this.runs) for (const [name, curve] of this.curves(run).curves) {
      for (const [step, p] of curve.sorted()) {
        const at = Number.isFinite(p.at) ? new Date(p.at * 1000).toISOString() : '';
        rows.push([JSON.stringify(run.name ?? run.label ?? run.id), name, step, p.value ?? '', p.min ?? '', p.max ?? '', at].join(','));
      }
    }
    save(new Blob([rows.join('\n') + '\n'], { type: 'text/csv' }), 'curves.csv');
  }

  png() {
    const source = this.charts[0]?.plot?.ctx.canvas;
    if (!source) return;
    const canvas = document.createElement('canvas');
    canvas.width = source.width;
    canvas.height = source.height;
    const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    c.fillStyle = colour('--tb-surface');
    c.fillRect(0, 0, canvas.width, canvas.height);
    c.drawImage(source, 0, 0);
    canvas.toBlob((blob) => blob && save(blob, 'loss.png'));
  }

  destroy() {
    this.stop.abort();
    this.theme?.disconnect();
    for (const chart of this.charts) chart.destroy();
  }
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

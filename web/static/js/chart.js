// @ts-check
// One chart of a group: which lines it has, how they are drawn, what it says at a place. Asks its
// group for data, range and view. Knows no network and no address.

import uPlot from '../vendor/uplot.esm.js';
import { FORMATS, GLYPHS, X_AXES, alpha, axis, colour, evenly, marker, shown } from './chart_style.js';
import { smooth } from './series.js';

/** @typedef {{id: string, job?: string, label?: string, name?: string, mark?: number, total?: number|null}} RunOf */
/** @typedef {{run: RunOf, name: string, kind: 'raw'|'line'|'validation', format: string, token: string}} Shown */
/** @typedef {any} Group */

const isValidation = (/** @type {string} */ name) => name.startsWith('eval/');

export class Chart {
  /** @param {Group} group @param {HTMLElement} host */
  constructor(group, host) {
    this.group = group;
    this.host = host;
    this.names = (host.dataset.names ?? '').split(/[\s,]+/).filter(Boolean);
    this.format = host.dataset.format ?? 'loss';
    this.isSmall = host.classList.contains('tb-chart-sm');
    this.isVisible = false;
    /** @type {any} */
    this.plot = null;
    /** @type {Shown[]} */
    this.shown = this.plan();
    /** @type {any[]} */
    this.data = [];
    this.seen = new IntersectionObserver((entries) => this.sight(entries.at(-1)?.isIntersecting ?? false), { rootMargin: '240px' });
    this.seen.observe(host);
    this.resized = new ResizeObserver(() => this.plot?.setSize({ width: host.clientWidth, height: host.clientHeight }));
    this.resized.observe(host);
  }

  /** Decides lines and colours: with one run colour names the metric, with several the run. */
  plan() {
    const { runs, isCompared } = this.group;
    /** @type {Shown[]} */
    const lines = [];
    runs.forEach((run, place) => {
      for (const name of this.names) {
        const own = this.host.dataset.colour ? `--tb-s${this.host.dataset.colour}` : isValidation(name) ? '--tb-s2' : '--tb-s1';
        const token = isCompared ? `--tb-s${(((run.mark ?? place + 1) - 1) % 6) + 1}` : own;
        const base = { run, name, format: this.format, token };
        if (isValidation(name)) { lines.push({ ...base, kind: 'validation' }); continue; }
        if (!this.isSmall && !isCompared) lines.push({ ...base, kind: 'raw' });
        lines.push({ ...base, kind: 'line' });
      }
    });
    return lines;
  }

  /** @param {boolean} isVisible */
  sight(isVisible) {
    this.isVisible = isVisible;
    if (isVisible) this.draw(); else this.unmount();
  }

  /** Joins all lines on one x axis. */
  table() {
    const { view, runs } = this.group;
    const places = new Map(runs.map((run) => [run.id, this.group.curves(run).placer(view.x)]));
    const tables = this.shown.map(({ run, name, kind }) => {
      const points = this.group.curves(run).curve(name).sorted();
      const place = places.get(run.id) ?? (() => null);
      /** @type {number[]} */ const xs = [];
      /** @type {(number|null)[]} */ const ys = [];
      for (const [step, point] of points) {
        const x = place(step);
        if (x === null || (xs.length && x <= xs[xs.length - 1])) continue;
        xs.push(x);
        ys.push(view.log && point.value !== null && point.value <= 0 ? null : point.value);
      }
      const weight = this.isSmall || kind !== 'line' ? 0 : view.smooth;
      return [xs, weight ? smooth(ys, weight) : ys];
    });
    return tables.length ? uPlot.join(/** @type {any} */ (tables)) : [[]];
  }

  draw() {
    if (!this.isVisible || !this.host.isConnected) return;
    this.data = this.table();
    const isEmpty = !this.data[0].length;
    this.host.classList.toggle('is-empty', isEmpty);
    if (isEmpty) this.unmount();
    else if (this.plot) this.plot.setData(this.data);
    else this.mount();
  }

  mount() {
    const { group } = this;
    const x = X_AXES[group.view.x];
    const isLog = group.view.log && !this.isSmall;
    const tick = FORMATS[this.format].tick;
    this.plot = new uPlot({
      width: this.host.clientWidth, height: this.host.clientHeight, padding: [10, 14, 0, 0], legend: { show: false },
      cursor: { sync: { key: group.key, scales: ['x', null] }, drag: { x: true, y: false, setScale: false }, points: { size: 7, width: 2 }, y: false, bind: { dblclick: () => () => { group.reset(); return null; } } },
      scales: {
        x: { time: false, range: (_, low, high) => group.range(low ?? 0, high ?? 1) },
        y: { distr: isLog ? 3 : 1, range: (_, low, high) => this.span(low, high, isLog) },
      },
      axes: [
        axis({ size: this.isSmall ? 24 : 28, space: 70, values: (_, /** @type {number[]} */ v) => v.map(x.tick) }),
        axis({ size: 48, space: 32, values: (_, /** @type {number[]} */ v) => (this.format === 'loss' && !isLog ? evenly(v) : v.map((n) => (n == null ? '' : tick(n)))) }),
      ],
      series: [{}, ...this.shown.map((line) => this.style(line))],
      hooks: {
        drawSeries: [(u, index) => { const line = this.shown[index - 1]; if (line?.kind === 'validation') marker(group.isCompared ? line.run.mark ?? 1 : 2, line.token)(u, index); }],
        draw: [(u) => this.marks(u)],
        setCursor: [(u) => { if (u.cursor.event || u.cursor.idx == null) group.say(u.cursor.idx == null ? null : u.data[0][u.cursor.idx]); }],
        setSelect: [(u) => { if (u.select.width > 4) { const from = u.posToVal(u.select.left, 'x'), to = u.posToVal(u.select.left + u.select.width, 'x'); u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); group.zoom(from, to); } }],
      },
    }, this.data, this.host);
  }

  /** @param {Shown} line */
  style({ kind, token }) {
    const quiet = { points: { show: false }, spanGaps: kind !== 'raw' };
    const { isCompared } = this.group;
    if (kind === 'raw') return { ...quiet, stroke: alpha(colour(token), 0.28), width: 1 };
    if (kind === 'validation') return { ...quiet, stroke: colour(token), width: 2 };
    if (isCompared) return { ...quiet, stroke: alpha(colour(token), 0.5), width: 1.2 };
    return { ...quiet, stroke: colour(token), width: this.isSmall ? 1.4 : 2, fill: this.isSmall ? alpha(colour(token), 0.07) : undefined };
  }

  /** The y range, with some air; small charts start at 0. @param {number|null} low @param {number|null} high @param {boolean} isLog @returns {[number, number]} */
  span(low, high, isLog) {
    if (low == null || high == null) return [isLog ? 0.1 : 0, 1];
    if (isLog) return [low * 0.94, high * 1.06];
    const air = (high - low || Math.abs(high) || 1) * 0.06;
    return this.isSmall ? [Math.min(0, low), high + air] : [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
  }

  /** Draws dashed lines such as the best checkpoint: data-marks='[{"step": 325, "label": "best", "colour": "ok"}]'. @param {any} u */
  marks(u) {
    const marks = JSON.parse(this.host.dataset.marks ?? '[]');
    if (!marks.length || !this.group.runs.length) return;
    const place = this.group.curves(this.group.runs[0]).placer(this.group.view.x);
    const c = u.ctx, dpr = devicePixelRatio, { left, top, width, height } = u.bbox;
    c.save();
    c.font = `600 ${11.5 * dpr}px "Inter Variable", sans-serif`;
    c.textBaseline = 'top';
    for (const mark of marks) {
      const at = u.valToPos(place(mark.step) ?? NaN, 'x', true);
      if (!(at >= left && at <= left + width)) continue;
      c.strokeStyle = c.fillStyle = colour(`--tb-${mark.colour ?? 'ok'}`);
      c.lineWidth = dpr;
      c.setLineDash([4 * dpr, 3 * dpr]);
      c.beginPath(); c.moveTo(at, top); c.lineTo(at, top + height); c.stroke();
      const wide = 12 * dpr + c.measureText(mark.label ?? '').width;
      const isLeft = at + wide > left + width || (mark.left && at - wide > left);
      c.textAlign = isLeft ? 'right' : 'left';
      c.fillText(mark.label ?? '', at + (isLeft ? -6 : 6) * dpr, top + 3 * dpr);
    }
    c.restore();
  }

  /** The value of a line at x, or its last one. @param {number} index @param {number|null} x @returns {[number, number|null]|null} */
  valueAt(index, x) {
    const [xs] = this.data, ys = this.data[index + 1];
    if (!xs || !ys) return null;
    for (let i = xs.length - 1; i >= 0; i -= 1) if (ys[i] != null && (x === null || xs[i] <= x)) return [xs[i], ys[i]];
    return null;
  }

  /** @param {number|null} x */
  say(x) {
    const out = this.host.parentElement?.querySelector('[data-value]');
    if (!out || this.group.isCompared) return;
    if (!this.data.length) this.data = this.table();
    out.textContent = shown(this.format, this.valueAt(0, x)?.[1]);
  }

  /** @param {number|null} x */
  readout(x) {
    if (!this.data.length) this.data = this.table();
    const { isCompared, view } = this.group;
    const end = this.data[0].at(-1);
    const first = item([text(`${view.x === 'time' ? 'minute' : view.x} `), bold(x ?? end ?? null, X_AXES[view.x].tick)]);
    const order = this.shown.map((_, index) => index).sort((a, b) => rank(this.shown[a]) - rank(this.shown[b]));
    const lines = order.flatMap((index) => {
      const line = this.shown[index];
      const found = this.valueAt(index, x);
      if (isCompared && (this.names.some(isValidation) && line.kind !== 'validation')) return [];
      const value = bold(found?.[1] ?? null, (n) => shown(line.format, n));
      if (isCompared) return [item([glyph(line), text(` ${line.run.label ?? ''} `), value])];
      const name = line.kind === 'raw' ? 'raw' : line.name.split('/')[0] === 'eval' ? 'validation' : 'train';
      const at = line.kind === 'validation' && found ? [text(` at ${X_AXES[view.x].tick(found[0])}`)] : [];
      return [item([...(line.kind === 'raw' ? [] : [swatch(line), text(' ')]), text(`${name} `), value, ...at])];
    });
    return [first, ...lines];
  }

  unmount() {
    this.plot?.destroy();
    this.plot = null;
  }

  destroy() {
    this.unmount();
    this.seen.disconnect();
    this.resized.disconnect();
  }
}

/* ---------- pieces of the readout ---------- */
/** Lines as they are read: runs in order, train before raw before validation. @param {Shown} line */
const rank = ({ kind, run }) => 10 * (run.mark ?? 0) + ['line', 'raw', 'validation'].indexOf(kind);
const text = (/** @type {string} */ words) => document.createTextNode(words);
/** @param {Node[]} children */
function item(children) { const span = document.createElement('span'); span.append(...children); return span; }
/** @param {number|null} value @param {(n: number) => string} format */
function bold(value, format) { const b = document.createElement('b'); b.textContent = value == null ? '–' : format(value) || String(Math.round(value)); return b; }
/** @param {Shown} line */
function swatch({ token }) { const i = document.createElement('i'); i.className = `sw sw-${token.at(-1)}`; return i; }
/** @param {Shown} line */
function glyph({ run, token }) { const span = document.createElement('span'); span.className = `sc${token.at(-1)}`; span.textContent = GLYPHS[(run.mark ?? 1) - 1]; return span; }

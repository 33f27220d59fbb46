// @ts-check
// Histograms in [data-histogram] (see web/README.md): stacked bars of equal-numbered bins, a line of
// what the pointer is on, a dashed line where something is cut. Knows no network and no address.

import uPlot from '../vendor/uplot.esm.js';
import { alpha, axis, colour, forgetColours } from './chart_style.js';

/** @typedef {{label: string, colour: number, counts: number[]}} Series */
/** @typedef {{edges: number[], unit: string, series: Series[], cut?: number|null}} Shown */

/** @type {Map<Element, Histogram>} */
const mounted = new Map();
const count = (/** @type {number} */ n) => Math.round(n).toLocaleString('en-US');

export function mountAll() {
  for (const [host, plot] of mounted) if (!host.isConnected) { plot.destroy(); mounted.delete(host); }
  for (const host of document.querySelectorAll('[data-histogram]')) {
    if (host instanceof HTMLElement && !mounted.has(host)) mounted.set(host, new Histogram(host));
  }
}

class Histogram {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    this.shown = /** @type {Shown} */ (JSON.parse(host.dataset.histogram ?? '{}'));
    /** @type {any} */
    this.plot = null;
    this.seen = new IntersectionObserver((entries) => { if (entries.at(-1)?.isIntersecting) this.mount(); else this.unmount(); }, { rootMargin: '240px' });
    this.seen.observe(host);
    this.resized = new ResizeObserver(() => this.plot?.setSize({ width: host.clientWidth, height: host.clientHeight }));
    this.resized.observe(host);
    this.theme = new MutationObserver(() => { forgetColours(); if (this.plot) { this.unmount(); this.mount(); } });
    this.theme.observe(document.documentElement, { attributeFilter: ['data-bs-theme'] });
  }

  /** Each series on top of the one before: the last is drawn first, behind the others. */
  stacked() {
    const bins = this.shown.edges.length - 1;
    /** @type {number[]} */ let below = new Array(bins).fill(0);
    const tops = this.shown.series.map((one) => { below = below.map((n, i) => n + (one.counts[i] ?? 0)); return below; });
    return [[...Array(bins).keys()], ...tops.reverse()];
  }

  mount() {
    if (this.plot || !this.host.isConnected) return;
    const { edges, series, cut } = this.shown;
    const bins = edges.length - 1;
    const bars = /** @type {any} */ (uPlot).paths.bars({ size: [0.92, 120] });
    this.host.replaceChildren();
    this.plot = new uPlot({
      width: this.host.clientWidth, height: this.host.clientHeight, padding: [10, 14, 0, 0], legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      scales: { x: { time: false, range: () => [-0.5, bins - 0.5] }, y: { range: (_, __, high) => [0, (high ?? 1) * 1.06 || 1] } },
      axes: [
        axis({ size: 28, space: 70, grid: { show: false }, values: (_, /** @type {number[]} */ v) => v.map((n) => (Number.isInteger(n) && n >= 0 && n < bins ? count(edges[n]) : '')) }),
        axis({ size: 52, space: 32, values: (_, /** @type {number[]} */ v) => v.map(count) }),
      ],
      series: [{}, ...[...series].reverse().map((one) => ({ paths: bars, points: { show: false }, fill: colour(`--tb-s${one.colour}`), stroke: colour(`--tb-s${one.colour}`), width: 0 }))],
      hooks: {
        setCursor: [(u) => this.say(u.cursor.idx ?? null)],
        draw: [(u) => { if (cut != null) this.line(u, cut); }],
      },
    }, /** @type {any} */ (this.stacked()), this.host);
    this.say(null);
  }

  /** Says what a bin holds; without one, all of them. @param {number|null} bin */
  say(bin) {
    const out = this.host.parentElement?.querySelector('[data-readout]');
    if (!out) return;
    const { edges, series, unit } = this.shown;
    const from = bin === null ? 0 : bin;
    const to = bin === null ? edges.length - 2 : bin;
    const span = edges[from] === edges[to + 1] - 1 ? count(edges[from]) : `${count(edges[from])} to ${count(edges[to + 1] - 1)}`;
    const parts = series.map((one) => `${series.length > 1 ? `${one.label} ` : ''}${count(one.counts.slice(from, to + 1).reduce((a, b) => a + b, 0))}`);
    out.textContent = `${span} ${unit}: ${parts.join(', ')}`;
  }

  /** @param {any} u @param {number} cut */
  line(u, cut) {
    const { edges } = this.shown;
    const after = edges.findIndex((edge) => edge > cut);
    if (after < 1) return;
    const share = (cut - edges[after - 1]) / (edges[after] - edges[after - 1]);
    const at = u.valToPos(after - 1.5 + share, 'x', true), { top, height } = u.bbox, dpr = devicePixelRatio;
    u.ctx.save();
    u.ctx.strokeStyle = alpha(colour('--tb-bad'), 1);
    u.ctx.lineWidth = 1.5 * dpr;
    u.ctx.setLineDash([4 * dpr, 3 * dpr]);
    u.ctx.beginPath(); u.ctx.moveTo(at, top); u.ctx.lineTo(at, top + height); u.ctx.stroke();
    u.ctx.restore();
  }

  unmount() { this.plot?.destroy(); this.plot = null; }

  destroy() {
    this.unmount();
    this.seen.disconnect();
    this.resized.disconnect();
    this.theme.disconnect();
  }
}

// @ts-check
// How charts look: colours read from the design tokens, markers, axes, numbers. Knows no data and no
// network. A canvas cannot read light-dark(): a hidden element resolves each token.

/** @type {HTMLElement|null} */
let probe = null;
/** @type {Map<string, string>} */
let resolved = new Map();

/** @param {string} token e.g. --tb-s1 */
export function colour(token) {
  const known = resolved.get(token);
  if (known) return known;
  if (!probe?.isConnected) {
    probe = document.createElement('span');
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${token})`;
  const value = getComputedStyle(probe).color;
  resolved.set(token, value);
  return value;
}
/** Forgets the colours, after the theme changed. */
export const forgetColours = () => { resolved = new Map(); };

/** @param {string} rgb @param {number} share */
export const alpha = (rgb, share) => rgb.replace('rgb(', 'rgba(').replace(')', `, ${share})`);

/** Marker shapes by place, as `pictures.mark` draws them. */
export const GLYPHS = ['●', '▲', '■', '◆', '▼', '✚', '○', '△'];
/** @type {((c: CanvasRenderingContext2D, x: number, y: number, r: number) => void)[]} */
const SHAPES = [
  (c, x, y, r) => c.arc(x, y, r, 0, 7),
  (c, x, y, r) => { c.moveTo(x, y - r * 1.15); c.lineTo(x + r * 1.1, y + r * 0.85); c.lineTo(x - r * 1.1, y + r * 0.85); c.closePath(); },
  (c, x, y, r) => c.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8),
  (c, x, y, r) => { c.moveTo(x, y - r * 1.2); c.lineTo(x + r * 1.2, y); c.lineTo(x, y + r * 1.2); c.lineTo(x - r * 1.2, y); c.closePath(); },
  (c, x, y, r) => { c.moveTo(x, y + r * 1.15); c.lineTo(x + r * 1.1, y - r * 0.85); c.lineTo(x - r * 1.1, y - r * 0.85); c.closePath(); },
  (c, x, y, r) => { c.rect(x - r, y - r * 0.35, r * 2, r * 0.7); c.rect(x - r * 0.35, y - r, r * 0.7, r * 2); },
];

/** Draws a marker at each point of a series. @param {number} place 1…8 @param {string} token */
export function marker(place, token, size = 4.2) {
  const shape = SHAPES[(place - 1) % SHAPES.length];
  const isHollow = place > SHAPES.length;
  return (/** @type {any} */ u, /** @type {number} */ index) => {
    const c = u.ctx, [xs] = u.data, ys = u.data[index], box = u.bbox, dpr = devicePixelRatio;
    c.save();
    c.beginPath(); c.rect(box.left - 8, box.top - 8, box.width + 16, box.height + 16); c.clip();
    c.fillStyle = isHollow ? colour('--tb-surface') : colour(token);
    c.strokeStyle = isHollow ? colour(token) : colour('--tb-surface');
    c.lineWidth = 1.4 * dpr;
    for (let i = 0; i < ys.length; i += 1) {
      if (ys[i] == null) continue;
      c.beginPath(); shape(c, u.valToPos(xs[i], 'x', true), u.valToPos(ys[i], u.series[index].scale, true), size * dpr); c.fill(); c.stroke();
    }
    c.restore();
  };
}

/** @param {object} options */
export function axis(options) {
  return {
    stroke: colour('--tb-axis'), font: '11.5px "Inter Variable", system-ui, sans-serif', gap: 6,
    grid: { stroke: colour('--tb-grid'), width: 1 }, ticks: { show: false }, ...options,
  };
}

/* ---------- numbers ---------- */
const thousands = (/** @type {number} */ n) => Math.round(n).toLocaleString('en-US');
const short = (/** @type {number} */ n) => (Math.abs(n) >= 1e9 ? `${+(n / 1e9).toFixed(2)} B` : Math.abs(n) >= 1e6 ? `${+(n / 1e6).toFixed(2)} M` : Math.abs(n) >= 1e4 ? `${+(n / 1e3).toFixed(1)} k` : Math.abs(n) >= 1000 ? thousands(n) : String(+n.toPrecision(3)));
const exponent = (/** @type {number} */ n) => (n === 0 ? '0' : n.toExponential(1).replace('.0e', 'e').replace('e+', 'e').replace('e-', 'e−'));
const GIB = 2 ** 30;

/** A value as the readout shows it, and as an axis does, by data-format. @type {Record<string, {show: (n: number) => string, tick: (n: number) => string}>} */
export const FORMATS = {
  loss: { show: (n) => (Math.abs(n) < 0.01 && n ? n.toExponential(2) : n.toFixed(3)), tick: (n) => String(+n.toPrecision(3)) },
  rate: { show: exponent, tick: exponent },
  number: { show: (n) => String(+n.toPrecision(3)), tick: short },
  tokens: { show: (n) => `${thousands(n)} tok/s`, tick: short },
  bytes: { show: (n) => `${(n / GIB).toFixed(1)} GiB`, tick: (n) => String(+(n / GIB).toPrecision(3)) },
  share: { show: (n) => `${(n * 100).toFixed(1)} %`, tick: (n) => String(+(n * 100).toPrecision(3)) },
  percent: { show: (n) => `${Math.round(n)} %`, tick: (n) => String(Math.round(n)) },
  watt: { show: (n) => `${Math.round(n)} W`, tick: (n) => String(Math.round(n)) },
};
/** Axis labels with the same number of decimals. @param {(number|null)[]} values */
export function evenly(values) {
  const digits = Math.max(0, ...values.map((n) => (n == null ? 0 : (String(+n.toPrecision(6)).split('.')[1] ?? '').length)));
  return values.map((n) => (n == null ? '' : n.toFixed(Math.min(4, digits))));
}
/** @param {string} format @param {number|null|undefined} value */
export const shown = (format, value) => (value == null || !Number.isFinite(value) ? '–' : FORMATS[format].show(value));

/** x values by axis kind. @type {Record<string, {tick: (n: number) => string, unit: string}>} */
export const X_AXES = {
  step: { tick: (n) => (Number.isInteger(n) ? thousands(n) : ''), unit: 'by step' },
  tokens: { tick: short, unit: 'by tokens' },
  time: { tick: (n) => (n >= 1000 ? `${+(n / 60).toFixed(1)} h` : `${+n.toFixed(1)}`), unit: 'by minutes' },
};

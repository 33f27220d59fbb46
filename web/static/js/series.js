// @ts-check
// Points of curves: kept by step (a later one of the same step wins), cut when a run goes back to a
// checkpoint, smoothed. Pure: no DOM, no chart, no network.

/** @typedef {{value: number|null, min: number|null, max: number|null, at: number}} Point */

export class Curve {
  constructor() {
    /** @type {Map<number, Point>} */
    this.points = new Map();
    this.isSorted = true;
    this.last = -Infinity;
  }

  /** @param {number} step @param {Point} point */
  set(step, point) {
    if (step < this.last) this.isSorted &&= this.points.has(step);
    this.last = Math.max(this.last, step);
    this.points.set(step, point);
  }

  /** Forgets what came after `step`: the run goes on from there. @param {number} step */
  cutAfter(step) {
    for (const key of this.points.keys()) if (key > step) this.points.delete(key);
    this.last = this.points.size ? Math.max(...this.points.keys()) : -Infinity;
  }

  /** @returns {[number, Point][]} points by step */
  sorted() {
    if (!this.isSorted) {
      this.points = new Map([...this.points].sort((a, b) => a[0] - b[0]));
      this.isSorted = true;
    }
    return [...this.points];
  }
}

/** All curves of one run, by metric name. */
export class RunCurves {
  constructor() {
    /** @type {Map<string, Curve>} */
    this.curves = new Map();
  }

  /** @param {string} name */
  curve(name) {
    let curve = this.curves.get(name);
    if (!curve) this.curves.set(name, (curve = new Curve()));
    return curve;
  }

  /** Takes the API's {"series": {name: {step, value, min, max, at}}}. @param {Record<string, any>} series */
  load(series) {
    for (const [name, { step, value, min, max, at }] of Object.entries(series)) {
      const curve = this.curve(name);
      step.forEach((/** @type {number} */ s, /** @type {number} */ i) =>
        curve.set(s, { value: value[i], min: min?.[i] ?? value[i], max: max?.[i] ?? value[i], at: at ? Date.parse(at[i]) / 1000 : NaN }));
    }
  }

  /** Takes live points. @param {{step: number|null, at: string, values: Record<string, number|null>}[]} points */
  take(points) {
    for (const { step, at, values } of points) {
      if (step === null) continue;
      for (const [name, value] of Object.entries(values)) {
        if (typeof value !== 'number' && value !== null) continue;
        this.curve(name).set(step, { value, min: value, max: value, at: Date.parse(at) / 1000 });
      }
    }
  }

  /** @param {number} step */
  cutAfter(step) {
    for (const curve of this.curves.values()) curve.cutAfter(step);
  }

  get lastStep() {
    return Math.max(0, ...[...this.curves.values()].map((curve) => curve.last).filter(Number.isFinite));
  }

  /** How a step is placed on the x axis: by itself, by tokens seen, by minutes. @param {string} x */
  placer(x) {
    if (x === 'tokens') return interpolator(this.curve('train/tokens').sorted().map(([s, p]) => [s, p.value]));
    if (x === 'time') {
      const seen = this.curve('train/loss').sorted().map(([s, p]) => /** @type {[number, number]} */ ([s, p.at]));
      const start = seen.find(([, at]) => Number.isFinite(at))?.[1] ?? 0;
      return interpolator(seen.map(([s, at]) => [s, (at - start) / 60]));
    }
    return (/** @type {number} */ step) => step;
  }
}

/** Returns a function that reads between known pairs. @param {[number, number|null][]} pairs */
export function interpolator(pairs) {
  const known = /** @type {[number, number][]} */ (pairs.filter(([, y]) => y !== null && Number.isFinite(y)));
  return (/** @type {number} */ at) => {
    if (!known.length) return null;
    let low = 0, high = known.length - 1;
    if (at >= known[high][0]) return known[high][1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (known[middle][0] <= at) low = middle; else high = middle;
    }
    const [[x0, y0], [x1, y1]] = [known[low], known[high]];
    return x1 === x0 ? y0 : y0 + ((at - x0) / (x1 - x0)) * (y1 - y0);
  };
}

/** Exponential moving average, corrected for its start; gaps stay gaps. @param {(number|null)[]} values @param {number} weight */
export function smooth(values, weight) {
  if (!weight) return values.slice();
  let mean = 0, mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

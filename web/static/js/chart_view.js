// @ts-check
// How the reader looks at the curves, kept in the address: a link shows what its sender saw.

import { X_AXES } from './chart_style.js';

/** @typedef {{smooth: number, log: boolean, x: string, zoom: [number, number]|null}} View */
/** @param {HTMLElement} host @returns {View} */
export function readView(host) {
  const query = new URLSearchParams(location.search);
  const zoom = (query.get('zoom') ?? '').split('-').map(Number);
  const x = query.get('x') ?? 'step';
  return {
    smooth: Math.min(0.99, Math.max(0, Number(query.get('smooth') ?? host.dataset.smooth ?? 0.8))),
    log: query.get('y') === 'log', x: x in X_AXES ? x : 'step',
    zoom: zoom.length === 2 && zoom.every(Number.isFinite) && zoom[1] > zoom[0] ? [zoom[0], zoom[1]] : null,
  };
}
/** @param {View} view */
export function saveView(view) {
  const url = new URL(location.href);
  url.searchParams.set('smooth', String(view.smooth));
  url.searchParams.set('y', view.log ? 'log' : 'linear');
  url.searchParams.set('x', view.x);
  if (view.zoom) url.searchParams.set('zoom', view.zoom.map((n) => +n.toPrecision(7)).join('-')); else url.searchParams.delete('zoom');
  history.replaceState(history.state, '', url);
}

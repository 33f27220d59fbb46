// @ts-check
// What every page does: theme, drawer, dialogs, menus, toasts, keyboard, local times. Listens on the
// document, so that swapped-in HTML needs no wiring. Charts, streams and uploads load where a page
// has one. Knows no single page.

import { askFirst } from './dialogs.js';
import { openPalette } from './palette.js';

const root = document.documentElement;

/** @param {string} selector @returns {HTMLElement[]} */
const all = (selector, within = document) => [...within.querySelectorAll(selector)].filter((e) => e instanceof HTMLElement);

/* ---------- theme ---------- */
export function switchTheme() {
  const theme = root.dataset.bsTheme === 'dark' ? 'light' : 'dark';
  root.dataset.theme = root.dataset.bsTheme = theme;
  document.cookie = `tunebox_theme=${theme}; path=/; max-age=31536000; samesite=lax`;
}

/* ---------- toasts ---------- */
/** @param {{text: string, kind?: string}} message */
export function showToast({ text, kind = 'ok' }) {
  const template = /** @type {HTMLTemplateElement|null} */ (document.getElementById('toast-template'));
  const copy = /** @type {HTMLElement|undefined} */ (template?.content.cloneNode(true))?.firstChild;
  if (!(copy instanceof HTMLElement)) return;
  copy.classList.add(kind);
  const words = copy.querySelector('span');
  if (words) words.textContent = text;
  document.getElementById('toasts')?.append(copy);
  expire(copy);
}
/** @param {HTMLElement} toast */
function expire(toast) {
  if (toast.classList.contains('bad')) return;
  setTimeout(() => toast.remove(), 6000);
}

/* ---------- local times ---------- */
/** @type {Record<string, Intl.DateTimeFormatOptions>} */
const STYLES = {
  clock: { hour: '2-digit', minute: '2-digit', hour12: false },
  day: { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hour12: false },
  date: { day: 'numeric', month: 'short' },
};
/** @param {number} seconds */
function span(seconds) {
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}
function localTimes() {
  for (const element of all('time[data-local]')) {
    const moment = new Date(element.getAttribute('datetime') ?? '');
    if (Number.isNaN(moment.valueOf())) continue;
    const style = element.dataset.local ?? 'clock';
    if (style === 'ago') element.textContent = span((Date.now() - moment.valueOf()) / 1000);
    else {
      const isToday = moment.toDateString() === new Date().toDateString();
      const options = style === 'clock' && !isToday ? STYLES.day : STYLES[style];
      element.textContent = new Intl.DateTimeFormat('en-GB', options).format(moment).replace(',', '');
    }
    element.title = moment.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'long' });
  }
}

/* ---------- what a page needs loaded ---------- */
function enhance() {
  localTimes();
  for (const toast of all('#toasts > [data-toast]')) expire(toast);
  if (document.querySelector('[data-charts]')) import('./charts.js').then((module) => module.mountAll());
  if (document.querySelector('[data-columns]')) import('./columns.js').then((module) => module.listen());
  if (document.querySelector('[data-histogram]')) import('./histogram.js').then((module) => module.mountAll());
  if (document.querySelector('[data-job-stream]')) import('./job_stream.js').then((module) => module.connectAll());
  if (document.querySelector('[data-jobs-stream]')) import('./jobs_stream.js').then((module) => module.listen());
  if (document.querySelector('[data-upload]')) import('./upload.js').then((module) => module.wireAll());
  for (const form of all('[data-select-runs]')) countSelected(form);
}

/* ---------- clicks ---------- */
/** @param {Element} target */
function onClick(target) {
  const closest = (/** @type {string} */ selector) => /** @type {HTMLElement|null} */ (target.closest(selector));
  if (closest('[data-theme-toggle]')) switchTheme();
  if (closest('[data-palette]')) openPalette();
  closest('[data-toast-close]')?.closest('[data-toast]')?.remove();
  const drawer = closest('[data-drawer]');
  if (drawer) toggleDrawer(drawer);
  else if (!closest('.tb-side') || closest('.tb-side a')) closeDrawer();
  const opener = closest('[data-dialog]');
  if (opener) /** @type {HTMLDialogElement|null} */ (document.querySelector(opener.dataset.dialog ?? ''))?.showModal();
  const dialog = /** @type {HTMLDialogElement|null} */ (target.closest('dialog'));
  if (dialog && (closest('[data-close]') || target === dialog)) dialog.close();
  const copy = closest('[data-copy]');
  if (copy) copyText(copy);
  const tab = closest('.tabs [role=tab]');
  if (tab) selectTab(tab);
  if (closest('[popover][data-menu] :is(a, button)')) closest('[popover]')?.hidePopover();
  const hideSame = closest('input[data-hide-same]');
  if (hideSame instanceof HTMLInputElement) {
    document.querySelector(hideSame.dataset.hideSame ?? '')?.classList.toggle('hide-same', hideSame.checked);
  }
}
/** @param {HTMLElement} button */
function toggleDrawer(button) {
  const open = document.querySelector(button.dataset.drawer ?? '')?.classList.toggle('open') ?? false;
  button.setAttribute('aria-expanded', String(open));
  if (open) /** @type {HTMLElement|null} */ (document.querySelector('.tb-side a'))?.focus();
}
function closeDrawer() {
  document.querySelector('.tb-side.open')?.classList.remove('open');
  document.querySelector('[data-drawer]')?.setAttribute('aria-expanded', 'false');
}
/** @param {HTMLElement} button */
async function copyText(button) {
  const source = document.querySelector(button.dataset.copy ?? '');
  const text = source instanceof HTMLInputElement ? source.value : source?.textContent ?? '';
  try {
    await navigator.clipboard.writeText(text);
    showToast({ text: 'Copied.' });
  } catch {
    if (source instanceof HTMLInputElement) source.select();
    showToast({ text: 'Press Ctrl C to copy.', kind: 'warn' });
  }
}
/** @param {HTMLElement} tab */
function selectTab(tab) {
  for (const other of all('[role=tab]', /** @type {any} */ (tab.parentElement))) {
    other.setAttribute('aria-selected', String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    const panel = document.getElementById(other.getAttribute('aria-controls') ?? '');
    if (panel) panel.hidden = other !== tab;
  }
}
/** Keeps a selection of runs between 2 and 8. @param {HTMLElement} form */
function countSelected(form) {
  const boxes = /** @type {HTMLInputElement[]} */ (all('input[type=checkbox][name=runs]', /** @type {any} */ (form)));
  const chosen = boxes.filter((box) => box.checked).length;
  for (const box of boxes) box.disabled = !box.checked && chosen >= 8;
  const button = /** @type {HTMLButtonElement|null} */ (form.querySelector('[data-selected]'));
  if (!button) return;
  button.disabled = chosen < 2;
  button.lastChild?.replaceWith(chosen ? ` Compare ${chosen}` : ' Compare');
}

/* ---------- keyboard ---------- */
/** @param {KeyboardEvent} event */
function onKey(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k' && document.getElementById('palette')) {
    event.preventDefault();
    openPalette();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') {
    const form = /** @type {Element} */ (event.target).closest?.('form[data-ctrl-enter]') ?? document.querySelector('form[data-ctrl-enter]');
    if (form instanceof HTMLFormElement) form.requestSubmit();
    return;
  }
  if (event.key === 'Escape') closeDrawer();
  const isTyping = event.target instanceof Element && event.target.closest('input:not([type=checkbox], [type=radio]), textarea, select, dialog');
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof Element && event.target.matches('[role=tab]')) return arrowTabs(event);
  if (event.key === 't') switchTheme();
  if (event.key === 'n' && document.querySelector('.tb-nav')) location.assign('/runs/new');
  if (event.key === 'j') step(1);
  if (event.key === 'k') step(-1);
}
/** @param {KeyboardEvent} event */
function arrowTabs(event) {
  const tab = /** @type {HTMLElement} */ (event.target);
  const next = event.key === 'ArrowRight' ? tab.nextElementSibling : event.key === 'ArrowLeft' ? tab.previousElementSibling : null;
  if (!(next instanceof HTMLElement) || !next.matches('[role=tab]')) return;
  next.focus();
  selectTab(next);
}
/** Moves the focus to the next or previous item of the page's lists. @param {number} by */
function step(by) {
  const items = all('[data-item]').filter((item) => item.offsetParent);
  if (!items.length) return;
  const at = items.findIndex((item) => item.contains(document.activeElement));
  const item = items[at < 0 ? (by > 0 ? 0 : items.length - 1) : Math.max(0, Math.min(items.length - 1, at + by))];
  const focus = item.matches('a, button, summary') ? item : item.querySelector('a, summary, button');
  if (focus instanceof HTMLElement) focus.focus();
  item.scrollIntoView({ block: 'nearest' });
}

/* ---------- menus: in the top layer, below their button ---------- */
/** @param {Event} event */
function placeMenu(event) {
  const menu = event.target;
  if (!(menu instanceof HTMLElement) || !menu.matches('[data-menu]')) return;
  // A closed menu keeps no style: HTMX would copy the attribute, which the policy forbids.
  if (/** @type {any} */ (event).newState !== 'open') return menu.removeAttribute('style');
  const button = document.querySelector(`[popovertarget="${menu.id}"]`);
  if (!button) return;
  const at = button.getBoundingClientRect();
  requestAnimationFrame(() => {
    const { width, height } = menu.getBoundingClientRect();
    const below = at.bottom + 4 + height <= innerHeight;
    menu.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
    menu.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - 4 - height)}px`;
  });
}

/* ---------- listeners, once ---------- */
document.addEventListener('click', (event) => { if (event.target instanceof Element) onClick(event.target); });
document.addEventListener('keydown', onKey);
document.addEventListener('submit', askFirst, true);
document.addEventListener('toggle', placeMenu, true);
document.addEventListener('change', (event) => {
  const form = event.target instanceof Element ? event.target.closest('[data-select-runs]') : null;
  if (form instanceof HTMLElement) countSelected(form);
  const auto = event.target instanceof Element ? event.target.closest('[data-submit-on-change]') : null;
  if (auto && event.target instanceof HTMLSelectElement) event.target.form?.requestSubmit();
});
document.addEventListener('tb:toast', (event) => showToast(/** @type {CustomEvent} */ (event).detail));
document.addEventListener('tb:close-dialog', () => all('dialog[open]').forEach((dialog) => /** @type {HTMLDialogElement} */ (dialog).close()));
// HTMX carries style attributes over to new elements of the same id, which the policy forbids.
document.addEventListener('htmx:before:swap', () => all('[id][style=""]').forEach((element) => element.removeAttribute('style')));
document.addEventListener('htmx:after:swap', (event) => {
  enhance();
  const target = /** @type {CustomEvent} */ (event).detail?.ctx?.target;
  const dialog = /** @type {HTMLDialogElement|null} */ (document.getElementById('dialog'));
  if (dialog && target?.id === 'dialog' && dialog.childElementCount && !dialog.open) dialog.showModal();
});
document.addEventListener('htmx:error', () => showToast({ text: 'The server did not answer. Check that Tunebox runs, then try again.', kind: 'bad' }));
setInterval(localTimes, 10_000);
enhance();

// @ts-check
// Takes files by drag and drop or by the form, several at once, and shows each on its way. Uploads
// go on while one looks at other pages of ours. Without scripts the form posts as it is.

import { FileUpload } from './upload_file.js';

const AT_ONCE = 3;
const WORDS = {
  waiting: 'Waiting', sending: 'Uploading', broken: 'Line broken, trying again', paused: 'Paused',
  storing: 'Storing', done: 'Stored', refused: 'Refused', cancelled: 'Cancelled',
};

/** @type {FileUpload[]} */
const uploads = [];
/** @type {Map<FileUpload, HTMLElement>} */
const rows = new Map();
/** @type {Map<FileUpload, string>} */
const said = new Map();
/** @type {WeakSet<Element>} */
const wired = new WeakSet();

export function wireAll() {
  const zone = zoneHere();
  if (!zone) return;
  for (const element of zone.querySelectorAll('[data-scripted]')) element.removeAttribute('hidden');
  for (const element of zone.querySelectorAll('[data-plain]')) element.setAttribute('hidden', '');
  const input = /** @type {HTMLInputElement} */ (zone.querySelector('input[type=file]'));
  input.multiple = !zone.dataset.dataset;
  for (const upload of [...uploads].reverse()) if (upload.state !== 'cancelled' && !rows.get(upload)?.isConnected) show(upload);
  if (wired.has(input)) return;
  wired.add(input);
  const take = () => {
    add([...(input.files ?? [])]);
    input.value = '';
  };
  input.addEventListener('change', take);
  if (input.files?.length) take(); // chosen before this script was there
}

/** @returns {HTMLElement|null} */
const zoneHere = () => document.querySelector('[data-upload-zone]');

/** @param {File[]} files */
function add(files) {
  const zone = zoneHere();
  if (!zone || !files.length) return;
  const name = /** @type {HTMLInputElement|null} */ (zone.querySelector('input[name=name]'));
  const token = /** @type {HTMLInputElement|null} */ (zone.querySelector('input[name=csrf_token]'))?.value ?? '';
  for (const file of files) {
    if (uploads.some((other) => (other.isActive || other.state === 'paused') && isSame(other.file, file))) continue;
    const fields = { dataset: zone.dataset.dataset ?? '', name: files.length === 1 ? name?.value.trim() ?? '' : '' };
    const upload = new FileUpload(file, { token, fields, changed });
    uploads.unshift(upload);
    show(upload);
  }
  if (name) name.value = '';
  startNext();
}

/** @param {File} one @param {File} other */
function isSame(one, other) {
  return one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;
}

function startNext() {
  for (;;) {
    const next = uploads.findLast((one) => one.state === 'waiting');
    const running = uploads.filter((one) => one.isActive && one.state !== 'waiting').length;
    if (!next || running >= AT_ONCE) return;
    next.start();
  }
}

/** @param {FileUpload} upload */
function changed(upload) {
  draw(upload);
  if (said.get(upload) === upload.state) return;
  said.set(upload, upload.state);
  say(`${upload.file.name}: ${WORDS[upload.state]}. ${upload.problem}`);
  startNext();
  if (upload.state === 'done') stored(upload);
}

/** @param {FileUpload} upload */
function stored(upload) {
  const id = upload.fields.dataset;
  if (id && zoneHere()?.dataset.dataset === id && !uploads.some((one) => one.isActive)) return location.assign(`/datasets/${id}`);
  if (document.getElementById('datasets-table')) {
    /** @type {any} */ (window).htmx?.ajax('GET', '/datasets/table', { target: '#datasets-table', swap: 'outerMorph' });
  }
}

/** @param {string} text */
function say(text) {
  const status = document.querySelector('[data-upload-say]');
  if (status) status.textContent = text;
}

/* ---------- rows ---------- */
/** @param {FileUpload} upload */
function show(upload) {
  const zone = zoneHere();
  const list = zone?.querySelector('[data-upload-list]');
  const template = /** @type {HTMLTemplateElement|null} */ (zone?.querySelector('[data-upload-row]') ?? null);
  if (!list || !template) return;
  const known = rows.get(upload);
  const row = known ?? /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
  if (!known) {
    rows.set(upload, row);
    wireRow(row, upload);
  }
  list.prepend(row);
  zone?.querySelector('[data-upload-card]')?.removeAttribute('hidden');
  draw(upload);
}

/** @param {HTMLElement} row @param {FileUpload} upload */
function wireRow(row, upload) {
  const name = upload.file.name;
  part(row, 'name').textContent = name;
  part(row, 'meta').textContent = upload.fields.dataset ? 'new version' : upload.fields.name ? `new dataset ${upload.fields.name}` : 'new dataset';
  part(row, 'bar').setAttribute('aria-label', `${name}, uploaded`);
  for (const act of ['pause', 'resume', 'cancel']) {
    const button = part(row, act);
    const text = `${button.getAttribute(`data-up-${act}`)} ${name}`;
    button.setAttribute('aria-label', text);
    button.title = text;
  }
  part(row, 'pause').addEventListener('click', () => { upload.pause(); part(row, 'resume').focus(); });
  part(row, 'resume').addEventListener('click', () => { upload.resume(); part(row, 'pause').focus(); });
  part(row, 'cancel').addEventListener('click', () => remove(upload, row));
}

/** @param {FileUpload} upload @param {HTMLElement} row */
function remove(upload, row) {
  const next = /** @type {HTMLElement|null} */ (zoneHere()?.querySelector('input[type=file]') ?? null);
  const list = row.parentElement;
  row.remove();
  rows.delete(upload);
  if (list && !list.children.length) list.closest('[data-upload-card]')?.setAttribute('hidden', '');
  if (upload.state === 'done') uploads.splice(uploads.indexOf(upload), 1);
  else upload.cancel();
  next?.focus();
}

/** @param {FileUpload} upload */
function draw(upload) {
  const row = rows.get(upload);
  if (!row) return;
  const { state, sent, file, problem, dataset, id } = upload;
  if (id) zoneHere()?.querySelector(`[data-unfinished="${id}"]`)?.remove(); // on its way again
  const share = file.size ? sent / file.size : state === 'done' || state === 'storing' ? 1 : 0;
  part(row, 'state').textContent = WORDS[state];
  part(row, 'numbers').textContent = numbers(upload);
  const bar = part(row, 'bar');
  bar.setAttribute('aria-valuenow', String(Math.floor(100 * share)));
  bar.querySelector('rect')?.setAttribute('width', `${(100 * share).toFixed(1)}%`);
  bar.toggleAttribute('hidden', state === 'refused' || state === 'done');
  const why = part(row, 'problem');
  why.textContent = problem;
  why.hidden = !problem;
  row.dataset.state = state;
  part(row, 'pause').hidden = !['sending', 'broken'].includes(state);
  part(row, 'resume').hidden = state !== 'paused';
  part(row, 'cancel').hidden = state === 'storing';
  const open = /** @type {HTMLAnchorElement} */ (part(row, 'open'));
  open.hidden = !dataset;
  if (dataset) open.href = /** @type {HTMLAnchorElement} */ (part(row, 'name')).href = `/datasets/${dataset.id}`;
}

/** @param {FileUpload} upload */
function numbers({ state, sent, file, rate }) {
  if (state === 'sending' && rate > 0) return `${bytes(sent)} of ${bytes(file.size)}, ${bytes(rate)}/s, ${duration((file.size - sent) / rate)} left`;
  if (['sending', 'broken', 'paused'].includes(state) && sent) return `${bytes(sent)} of ${bytes(file.size)}`;
  return bytes(file.size);
}

/** @param {HTMLElement} row @param {string} name @returns {HTMLElement} */
function part(row, name) {
  return /** @type {HTMLElement} */ (row.querySelector(`[data-up-${name}]`));
}

/** @param {number} value */
function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let place = 0;
  while (value >= 1000 && place < units.length - 1) { value /= 1000; place += 1; }
  return `${place ? value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0) : Math.round(value)} ${units[place]}`;
}
/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.ceil((seconds % 3600) / 60)} min`;
}

/* ---------- the whole page takes drops ---------- */
/** @param {DragEvent} event */
const carriesFiles = (event) => event.dataTransfer?.types.includes('Files') && zoneHere();
for (const kind of /** @type {const} */ (['dragenter', 'dragover'])) {
  document.addEventListener(kind, (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zoneHere()?.querySelector('.drop')?.classList.add('over');
  });
}
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) zoneHere()?.querySelector('.drop')?.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  zoneHere()?.querySelector('.drop')?.classList.remove('over');
  add([...(event.dataTransfer?.files ?? [])]);
});
addEventListener('beforeunload', (event) => {
  if (uploads.some((one) => one.isActive)) event.preventDefault();
});

// @ts-check
// Sends a form's file with XMLHttpRequest, which alone tells how much has left: rate and time left
// are shown beside the bar. Takes dropped files. Without scripts the form posts as it is.

/** @type {WeakSet<HTMLFormElement>} */
const wired = new WeakSet();

export function wireAll() {
  for (const form of document.querySelectorAll('form[data-upload]')) {
    if (form instanceof HTMLFormElement && !wired.has(form)) wire(form);
  }
}

/** @param {HTMLFormElement} form */
function wire(form) {
  wired.add(form);
  const input = /** @type {HTMLInputElement|null} */ (form.querySelector('input[type=file]'));
  if (!input) return;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (input.files?.length) send(form, input.files[0]);
  }, true);
  input.addEventListener('change', () => {
    const name = form.querySelector('[data-file-name]');
    if (name && input.files?.length) name.textContent = `${input.files[0].name}, ${bytes(input.files[0].size)}`;
    if (form.dataset.upload === 'at-once' && input.files?.length) form.requestSubmit();
  });
  const zone = form.closest('[data-drop]') ?? form;
  for (const kind of ['dragenter', 'dragover']) zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add('over'); });
  for (const kind of ['dragleave', 'drop']) zone.addEventListener(kind, () => zone.classList.remove('over'));
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    const files = /** @type {DragEvent} */ (event).dataTransfer?.files;
    if (!files?.length) return;
    input.files = files;
    input.dispatchEvent(new Event('change'));
  });
}

/** @param {HTMLFormElement} form @param {File} file */
function send(form, file) {
  const request = new XMLHttpRequest();
  const started = performance.now();
  const show = progress(form, () => request.abort());
  request.open('POST', form.action);
  request.setRequestHeader('X-CSRF-Token', /** @type {any} */ (form.elements.namedItem('csrf_token'))?.value ?? '');
  request.setRequestHeader('HX-Request', 'true');
  request.setRequestHeader('HX-Request-Type', 'partial');
  request.upload.addEventListener('progress', (event) => {
    const seconds = (performance.now() - started) / 1000;
    const rate = event.loaded / Math.max(seconds, 0.001);
    const left = event.loaded < event.total ? `${bytes(rate)}/s, ${duration((event.total - event.loaded) / rate)} left` : 'checking what arrived';
    show(event.loaded / Math.max(1, event.total), `${bytes(event.loaded)} of ${bytes(event.total)}, ${left}`);
  });
  request.addEventListener('load', () => finish(form, request));
  request.addEventListener('error', () => fail(form, `The connection broke while ${file.name} was sent. Nothing was stored; send it again.`));
  request.addEventListener('abort', () => fail(form, ''));
  request.send(new FormData(form));
}

/** @param {HTMLFormElement} form @param {XMLHttpRequest} request */
function finish(form, request) {
  const next = request.getResponseHeader('HX-Redirect');
  if (next) return location.assign(next);
  const events = JSON.parse(request.getResponseHeader('HX-Trigger') ?? '{}');
  if (events['tb:toast']) document.dispatchEvent(new CustomEvent('tb:toast', { detail: events['tb:toast'] }));
  const target = document.querySelector(form.dataset.target ?? '') ?? form;
  if (request.getResponseHeader('HX-Reswap') === 'none' || !request.responseText.trim()) return fail(form, '');
  target.outerHTML = request.responseText;
  const htmx = /** @type {any} */ (window).htmx;
  htmx?.process(document.body);
  wireAll();
}

/** @param {HTMLFormElement} form @param {string} text */
function fail(form, text) {
  form.querySelector('[data-progress]')?.setAttribute('hidden', '');
  form.removeAttribute('aria-busy');
  if (text) document.dispatchEvent(new CustomEvent('tb:toast', { detail: { text, kind: 'bad' } }));
}

/** @param {HTMLFormElement} form @param {() => void} cancel */
function progress(form, cancel) {
  const box = /** @type {HTMLElement|null} */ (form.querySelector('[data-progress]'));
  form.setAttribute('aria-busy', 'true');
  box?.removeAttribute('hidden');
  const stop = /** @type {HTMLButtonElement|null} */ (box?.querySelector('[data-cancel]'));
  if (stop) stop.onclick = cancel;
  return (/** @type {number} */ share, /** @type {string} */ text) => {
    box?.querySelector('rect')?.setAttribute('width', `${(100 * share).toFixed(1)}%`);
    const words = box?.querySelector('[data-progress-text]');
    if (words) words.textContent = text;
  };
}

/** @param {number} value */
function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let place = 0;
  while (value >= 1000 && place < units.length - 1) { value /= 1000; place += 1; }
  return `${place ? value.toPrecision(3) : Math.round(value)} ${units[place]}`;
}
/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.ceil((seconds % 3600) / 60)} min`;
}

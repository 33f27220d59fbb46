// @ts-check
// The Ctrl K palette: asks GET /palette?q= for a list of links (HTML) and moves through it with the
// arrow keys. Knows neither what can be found nor where a link leads.

let asked = 0;

export function openPalette() {
  const dialog = /** @type {HTMLDialogElement|null} */ (document.getElementById('palette'));
  const input = dialog?.querySelector('input');
  if (!dialog || !input || dialog.open) return;
  dialog.showModal();
  input.value = '';
  input.oninput = () => search(input.value);
  input.onkeydown = onKey;
  const form = dialog.querySelector('form');
  if (form) form.onsubmit = (event) => { event.preventDefault(); current()?.click(); };
  search('');
}

/** @returns {HTMLElement[]} */
const options = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll('#palette-list [role=option]')]);
const current = () => options().find((option) => option.getAttribute('aria-selected') === 'true') ?? options()[0];

/** @param {string} query */
async function search(query) {
  const mine = ++asked;
  const list = document.getElementById('palette-list');
  if (!list) return;
  try {
    const response = await fetch(`/palette?q=${encodeURIComponent(query)}`, {
      headers: { 'HX-Request': 'true', 'HX-Request-Type': 'partial' },
    });
    if (mine !== asked) return;
    if (!response.ok) throw new Error(String(response.status));
    list.innerHTML = await response.text();
    const htmx = /** @type {any} */ (window).htmx;
    htmx?.process(list);
    select(options()[0]);
  } catch {
    if (mine === asked) list.textContent = 'The server did not answer.';
  }
}

/** @param {HTMLElement|undefined} option */
function select(option) {
  for (const other of options()) other.setAttribute('aria-selected', String(other === option));
  option?.scrollIntoView({ block: 'nearest' });
  const input = document.querySelector('#palette input');
  if (option?.id) input?.setAttribute('aria-activedescendant', option.id);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
  if (!by) return;
  event.preventDefault();
  const found = options();
  const at = found.indexOf(/** @type {HTMLElement} */ (current()));
  select(found[(at + by + found.length) % found.length]);
}

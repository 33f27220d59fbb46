// @ts-check
// Drag a column of the file onto one of our fields ([data-drag-column] onto [data-drop-column]).
// The fields are plain selects, so that keyboard and touch choose there. Knows no network.

/** @param {Event} event @param {string} selector */
const within = (event, selector) => /** @type {HTMLElement|null} */ (event.target instanceof Element ? event.target.closest(selector) : null);
let isListening = false;

export function listen() {
  if (isListening) return;
  isListening = true;
  document.addEventListener('dragstart', (event) => {
    const chip = within(event, '[data-drag-column]');
    if (chip) event.dataTransfer?.setData('text/x-column', chip.dataset.dragColumn ?? '');
  });
  document.addEventListener('dragover', (event) => {
    if (event.dataTransfer?.types.includes('text/x-column') && within(event, '[data-drop-column]')) event.preventDefault();
  });
  document.addEventListener('drop', (event) => {
    const field = within(event, '[data-drop-column]');
    const name = event.dataTransfer?.getData('text/x-column');
    if (!(field instanceof HTMLSelectElement) || !name) return;
    event.preventDefault();
    field.value = name;
    field.dispatchEvent(new Event('change', { bubbles: true }));
    field.focus();
  });
}

// @ts-check
// Asks before a form that destroys something is sent: a dialog says what will be lost. Without
// scripts the form is sent at once. Knows the shared <dialog id="confirm"> of base.html.

/** Forms that were confirmed and may go through once. @type {WeakSet<HTMLFormElement>} */
const confirmed = new WeakSet();

/** @param {SubmitEvent} event */
export function askFirst(event) {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset.confirm || confirmed.delete(form)) return;
  const dialog = /** @type {HTMLDialogElement|null} */ (document.getElementById('confirm'));
  if (!dialog) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const { confirm, confirmTitle = 'Are you sure?', confirmLabel = 'Go on' } = form.dataset;
  const set = (/** @type {string} */ selector, /** @type {string} */ text) => {
    const element = dialog.querySelector(selector);
    if (element) element.textContent = text;
  };
  set('#confirm-title', confirmTitle);
  set('#confirm-text', confirm);
  set('[data-confirm-yes]', confirmLabel);
  const yes = /** @type {HTMLButtonElement} */ (dialog.querySelector('[data-confirm-yes]'));
  yes.onclick = () => {
    dialog.close();
    confirmed.add(form);
    form.requestSubmit(event.submitter instanceof HTMLElement ? event.submitter : undefined);
  };
  dialog.showModal();
}

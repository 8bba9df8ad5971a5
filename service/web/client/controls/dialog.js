/** The one dialog that stops the page: before something is erased. Other dialogs only show. */

import { h } from '../elements/parts/dom.js'
import { t } from '../texts.js'

/**
 * Ask before something cannot be undone. The first focus is on the way back.
 * @param {{title: string, text: string, action: string}} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, action }) {
  return new Promise(resolve => {
    const dialog = show(
      h('h2', null, title),
      h('p', null, text),
      h('div', { class: 'line' },
        h('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, t('keep')),
        h('button', { type: 'button', class: 'danger', onclick: () => dialog.close('yes') }, action))
    )
    dialog.setAttribute('aria-label', title)
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'))
  })
}

/**
 * Show nodes in a dialog, which leaves the page when it closes.
 * @param {Node[]} nodes
 */
export function show(...nodes) {
  const dialog = h('dialog', null, nodes)
  dialog.addEventListener('close', () => dialog.remove())
  dialog.addEventListener('click', event => {
    if (event.target === dialog) dialog.close()
  })
  document.body.append(dialog)
  dialog.showModal()
  return dialog
}

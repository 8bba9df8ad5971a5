/** The keyboard: everything that the page does has a key or a place in the order of the focus. */

import { show } from '../controls/dialog.js'
import { h } from '../elements/parts/dom.js'
import { t } from '../texts.js'

/** The keys that the help shows, in its order. */
const SHOWN = Object.freeze(['/', 'n', 'j', 'k', 'Enter', 'b', 'Esc', '[', ']', '?'])
const NAMES = Object.freeze({ '/': 'search', n: 'new', j: 'next', k: 'before', Enter: 'open', b: 'build', Esc: 'close', '[': 'earlier', ']': 'later', '?': 'help' })

/**
 * Listen to keys. `does` has what each key does. A key that is typed into a field stays there, but
 * Escape.
 * @param {Record<string, () => void>} does
 */
export function listen(does) {
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing) return
    if (document.querySelector('dialog[open], [popover]:popover-open')) return
    const isTyping = event.composedPath().some(each => each instanceof Element && each.matches('input:not([type="range"]), textarea, select, [contenteditable]'))
    if (isTyping && event.key !== 'Escape') return
    const act = does[event.key === 'Escape' ? 'Esc' : event.key]
    if (!act) return
    if (event.key !== 'Escape') event.preventDefault()
    act()
  })
}

/** Show all keys. */
export function help() {
  const title = t('keys_title')
  const dialog = show(
    h('h2', null, title),
    h('dl', null, SHOWN.map(key => [h('dt', null, h('kbd', { dir: 'ltr' }, key)), h('dd', null, t(`keys_${Reflect.get(NAMES, key)}`))])),
    h('div', { class: 'line' }, h('button', { type: 'button', class: 'main', autofocus: true, onclick: () => dialog.close() }, t('close'))))
  dialog.setAttribute('aria-label', title)
}

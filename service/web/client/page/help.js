/** All keys of the page, in a dialog. */

import { show } from '../controls/dialog.js'
import { h } from '../elements/parts/dom.js'
import { t } from '../texts.js'

/** The keys in their order, with the names of their texts. */
const NAMES = Object.freeze({ '/': 'search', n: 'new', j: 'next', k: 'before', Enter: 'open', b: 'build', Esc: 'close', '[': 'earlier', ']': 'later', '?': 'help' })

/** Show all keys. */
export function help() {
  const title = t('keys_title')
  const dialog = show(
    h('h2', null, title),
    h('dl', null, Object.entries(NAMES).map(([key, name]) => [h('dt', null, h('kbd', { dir: 'ltr' }, key)), h('dd', null, t(`keys_${name}`))])),
    h('div', { class: 'line' }, h('button', { type: 'button', class: 'main', autofocus: true, onclick: () => dialog.close() }, t('close'))))
  dialog.setAttribute('aria-label', title)
}

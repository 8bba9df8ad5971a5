/** A name that is changed where it stands. */

import { h } from '../elements/parts/dom.js'

/**
 * Put an input in place of a node. Enter and leaving the input save, Escape does not; then the node
 * is back.
 * @param {HTMLElement} node
 * @param {{name: string, label: string, save: (name: string) => Promise<void> | void, mayBeEmpty?: boolean}} options
 */
export function renameInPlace(node, { name, label, save, mayBeEmpty = false }) {
  const input = h('input', { value: name, 'aria-label': label, maxlength: 200 })
  let isOver = false
  /** @param {boolean} isSaved */
  const end = isSaved => {
    if (isOver) return
    isOver = true
    const wanted = input.value.trim()
    const hadFocus = document.activeElement === input
    input.replaceWith(node)
    if (hadFocus) node.focus()
    if (isSaved && (wanted || mayBeEmpty) && wanted !== name) void save(wanted)
  }
  input.addEventListener('keydown', event => {
    event.stopPropagation()
    if (event.key === 'Enter' && !event.isComposing) end(true)
    if (event.key === 'Escape') end(false)
  })
  input.addEventListener('blur', () => end(true))
  node.replaceWith(input)
  input.focus()
  input.select()
}

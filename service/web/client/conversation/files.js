/** Files that the page gives to its user. */

import { h } from '../elements/parts/dom.js'

/**
 * Save a text as a file.
 * @param {unknown} content a text, or what becomes JSON
 * @param {string} name
 */
export function saved(content, name) {
  const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2)
  const address = URL.createObjectURL(new Blob([text], { type: 'text/plain;charset=utf-8' }))
  h('a', { href: address, download: name.replace(/[\\/:*?"<>|\p{Cc}]+/gu, ' ').trim().slice(0, 120) }).click()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}

/** A moment as people say it, with the exact one in its title. */

import { date, relative } from '../texts.js'
import { h } from './dom.js'

const EVERY_MS = 30_000

/** @param {string} at */
export function moment(at) {
  return h('time', { datetime: at, title: date(at), 'data-relative': true }, relative(at))
}

/** Keep the moments in the document true while time passes. */
export function keepTrue() {
  setInterval(() => {
    for (const node of document.querySelectorAll('time[data-relative]')) {
      const text = relative(node.getAttribute('datetime') ?? '')
      if (node.textContent !== text) node.textContent = text
    }
  }, EVERY_MS)
}

/** A moment as people say it, with the exact one in its title. */

import { date, locale, relative } from '../texts.js'
import { h } from './dom.js'

const EVERY_MS = 30_000

/** @param {string} at */
export function moment(at) {
  return h('time', { datetime: at, title: date(at), 'data-relative': true }, relative(at))
}

/**
 * The same where there is little room: `7m ago`.
 * @param {string} at
 */
export function brief(at) {
  return h('time', { datetime: at, title: date(at), 'data-relative': 'brief' }, briefly(at))
}

/** @param {string} at */
function briefly(at) {
  const minutes = Math.max(0, (Date.now() - new Date(at).getTime()) / 60_000)
  const format = new Intl.RelativeTimeFormat(`${locale()}-u-nu-latn`, { numeric: 'auto', style: 'narrow' })
  if (minutes < 1) return format.format(0, 'second')
  if (minutes < 60) return format.format(-Math.round(minutes), 'minute')
  if (minutes < 1440) return format.format(-Math.round(minutes / 60), 'hour')
  return date(at, { dateStyle: 'short' })
}

/** Keep the moments in the document true while time passes. */
export function keepTrue() {
  setInterval(() => {
    for (const node of document.querySelectorAll('time[data-relative]')) {
      const at = node.getAttribute('datetime') ?? ''
      const text = node.getAttribute('data-relative') === 'brief' ? briefly(at) : relative(at)
      if (node.textContent !== text) node.textContent = text
    }
  }, EVERY_MS)
}

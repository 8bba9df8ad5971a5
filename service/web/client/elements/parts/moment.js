/** A moment as people say it, with the exact one in its title. */

import { date, number, relative } from '../../texts.js'
import { h } from './dom.js'

const EVERY_MS = 30_000

/** @param {string} at */
export function moment(at) {
  return h('time', { datetime: at, title: date(at), 'data-relative': true }, relative(at))
}

/**
 * How long ago that is, where there is little room: `7m`.
 * @param {string} at
 */
export function brief(at) {
  return h('time', { datetime: at, title: date(at), 'data-relative': 'brief' }, briefly(at))
}

/** @param {string} at */
function briefly(at) {
  const minutes = Math.max(0, (Date.now() - new Date(at).getTime()) / 60_000)
  if (minutes < 1) return relative(at, new Date(at).getTime())
  if (minutes >= 1440) return date(at, { dateStyle: 'short' })
  const unit = minutes < 60 ? 'minute' : 'hour'
  return number(Math.round(unit === 'minute' ? minutes : minutes / 60), { style: 'unit', unit, unitDisplay: 'narrow' })
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

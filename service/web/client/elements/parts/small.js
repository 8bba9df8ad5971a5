/** Small parts that several elements show, and readers of data that may be half written. */

import { h } from './dom.js'
import { icon } from './icons.js'
import { date, relative, t } from '../../texts.js'

/** @typedef {import('./dom.js').Child} Child */

const TURNING = /[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g
const OVERRIDING = /[\u202d\u202e]/g

/**
 * The list that a value is, or an empty one.
 * @param {unknown} value
 * @returns {any[]}
 */
export const list = value => (Array.isArray(value) ? value.filter(each => each !== null && each !== undefined) : [])

/**
 * The text that a value is: a number in its digits, and nothing for anything else.
 * @param {unknown} value
 */
export const text = value => (typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '')

/**
 * A text without the control characters that would show it in another order. In code, paths and ids
 * all of them are written out.
 * @param {string} value @param {boolean} [isCode]
 */
export function plain(value, isCode) {
  return value.replace(isCode ? TURNING : OVERRIDING, each => `⟨U+${each.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`)
}

/**
 * A path, an id or a word of code, from left to right in every language.
 * @param {unknown} value
 */
export const path = value => h('bdi', { dir: 'ltr' }, h('code', null, plain(text(value).slice(0, 500), true)))

/**
 * A moment as people say it; the exact moment is its title.
 * @param {unknown} moment
 */
export function time(moment) {
  const at = text(moment)
  return at && h('time', { datetime: at, title: date(at) }, relative(at))
}

/**
 * Code, from left to right, that scrolls and can be copied.
 * @param {string} code @param {string} [language]
 */
export function codeBlock(code, language) {
  return h('figure', { class: 'code', dir: 'ltr' },
    h('figcaption', null, h('span', null, plain(language ?? '', true)), copying(code)),
    h('pre', { tabindex: 0 }, h('code', null, shortened(code, true))))
}

/**
 * A button that copies a text.
 * @param {string} value
 */
export function copying(value) {
  return button('copy', t('action_copy'), async event => {
    const label = event.currentTarget.querySelector('span')
    await navigator.clipboard?.writeText(value)
    label.textContent = t('action_copied')
  }, 'quiet small')
}

/**
 * A button with an icon and a word.
 * @param {string} name the icon @param {string} label @param {(event: any) => void} onclick @param {string} [kind]
 */
export const button = (name, label, onclick, kind) => h('button', { type: 'button', class: kind, onclick }, icon(name), h('span', null, label))

/**
 * A state or a measure: its colour, its icon and its word.
 * @param {string} tone good, warn, bad, accent or plain @param {string} name the icon @param {Child} words
 */
export const badge = (tone, name, words) => h('span', { class: `badge ${tone}` }, icon(name), h('span', { dir: 'auto' }, words))

/**
 * Label and value, side by side.
 * @param {Child} label @param {Child} value
 */
export const fact = (label, value) => h('div', { class: 'fact' }, h('dt', null, label), h('dd', null, value))

/**
 * A text of any length: its beginning, and the rest at a press of a button.
 * @param {string} value @param {boolean} [isCode] @param {number} [most]
 * @returns {Child[]}
 */
export function shortened(value, isCode, most = 20_000) {
  return [plain(value.slice(0, most), isCode), restOf(value, most, isCode)]
}

/**
 * A button that puts what a text has beyond `most` characters in its own place.
 * @param {string} value @param {number} most @param {boolean} [isCode]
 */
export function restOf(value, most, isCode) {
  const rest = value.length - most
  return rest > 0 && h('button', {
    type: 'button', class: 'quiet small', key: 'rest',
    onclick: (/** @type {Event} */ event) => /** @type {Element} */ (event.currentTarget).replaceWith(plain(value.slice(most), isCode)),
  }, t('show_rest', { count: rest }))
}

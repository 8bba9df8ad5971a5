/** A short line at the lower edge, which goes by itself: what was done, and the way to undo it. */

import { said } from '../conversation/templates.js'
import { h } from '../elements/parts/dom.js'

const SHOWN_MS = 8_000

/** @type {ReturnType<typeof setTimeout> | undefined} */
let leaving

/**
 * @param {string} text
 * @param {{label: string, run: () => void}} [action]
 */
export function toast(text, action) {
  clearTimeout(leaving)
  document.querySelector('.toast')?.remove()
  const line = h('div', { class: 'toast', role: 'status' }, h('span', null, text))
  if (action) {
    const act = () => {
      line.remove()
      action.run()
    }
    line.append(h('button', { type: 'button', onclick: act }, action.label))
  }
  document.body.append(line)
  leaving = setTimeout(() => line.remove(), SHOWN_MS)
}

/**
 * Do something that the service may refuse: what it says is shown.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T | undefined>}
 */
export async function attempt(work) {
  try {
    return await work()
  } catch (error) {
    toast(messageOf(error))
    return undefined
  }
}

/**
 * What an error says to a person: in the language of the page where the service has a text for it.
 * @param {unknown} error
 * @returns {string}
 */
export function messageOf(error) {
  const { problem, detail, title, message } = /** @type {any} */ (error) ?? {}
  const text = problem?.template ? said(problem.template, problem.variables) : ''
  return String(text || detail || title || message || error)
}

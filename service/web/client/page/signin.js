/** Signing in: a link with a code opens a session of this browser, which gives short tokens. */

import { h } from '../elements/parts/dom.js'
import { t } from '../texts.js'

/** @typedef {{userId: string, projectId: string | null}} Me */

/**
 * Take the code out of the address bar at once: it is in no bookmark, and in no history.
 * @returns {string | null}
 */
export function takeCode() {
  const address = new URL(location.href)
  const code = address.searchParams.get('code')
  if (code === null) return null
  address.searchParams.delete('code')
  history.replaceState(null, '', address)
  return code
}

/** Raised where this browser has no session. */
export class SignedOut extends Error {}

/**
 * Redeem the code of a link. Throws SignedOut where it is used or too old.
 * @param {string} code
 */
export async function redeem(code) {
  await posted('/v1/browser-sessions', { code })
}

/**
 * A token of this browser's session. Throws SignedOut where there is none.
 * @returns {Promise<Me & {token: string, expiresAt: string}>}
 */
export function token() {
  return posted('/v1/browser-sessions/token', {})
}

/** @param {string} path @param {any} body */
async function posted(path, body) {
  const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) throw new SignedOut(String(answer.status))
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`)
  return answer.json()
}

/**
 * What stands in place of the page before a person has signed in.
 * @param {{isRefused: boolean}} how whether a link was refused
 */
export function door({ isRefused }) {
  return h('main', { class: 'door' },
    h('div', { class: 'card' },
      h('h1', null, t('door_title')),
      h('p', { role: isRefused ? 'alert' : null }, t(isRefused ? 'door_refused' : 'door_text')),
      h('pre', null, h('code', { dir: 'ltr' }, 'throughline link --user ada'))))
}

/** What a search found, as a list. */

import { messageOf } from '../controls/toast.js'
import { h } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { moment } from '../elements/parts/moment.js'
import { t, word } from '../texts.js'

/**
 * @param {import('../throughline.js').Throughline} client @param {string} projectId
 * @param {string} words
 */
export async function found(client, projectId, words) {
  try {
    const { results } = await client.search(projectId, words, { limit: 30 })
    return results.length ? h('ul', null, results.map(result)) : h('p', { class: 'empty' }, t('search_none'))
  } catch (error) {
    return h('p', { class: 'empty', role: 'alert' }, messageOf(error))
  }
}

/** @param {any} found */
function result(found) {
  const message = found.messageId ? `?message=${encodeURIComponent(found.messageId)}` : ''
  return h('li', null,
    h('a', { href: `#/sessions/${encodeURIComponent(found.sessionId)}${message}` },
      h('span', { class: 'line small muted' }, icon(found.kind === 'user_message' ? 'user' : 'plan'), h('bdi', { class: 'cut grow' }, found.sessionName || word('kind', found.kind)), moment(found.timestamp)),
      h('bdi', null, found.highlights.map((/** @type {any} */ each) => (each.isMatch ? h('mark', null, each.text) : each.text)))))
}

/** A prompt beside the conversation: its versions, what changed, a new version, a saved run of it. */

import { attempt, toast } from '../controls/toast.js'
import '../elements/prompt-diff.js'
import { h, patch } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { moment } from '../elements/parts/moment.js'
import { t } from '../texts.js'

/** The version that is looked at, by prompt. @type {Map<string, number>} */
const chosen = new Map()

/** @param {string} id @param {import('./panel.js').Room} room */
export async function promptPanel(id, room) {
  const { client, at } = room
  const [prompt, { versions }] = await Promise.all([client.prompt(id, { asOf: at }), client.promptVersions(id, { limit: 100, asOf: at })])
  if (!versions.length) return h('p', { class: 'empty' }, t('diff_empty'))
  const newest = versions[0].number
  const number = Math.min(chosen.get(id) ?? newest, newest)
  const version = number === newest && prompt.version ? prompt.version : await client.promptVersion(id, number)
  const diff = number > 1 && at === null ? await client.diff(id, number, number - 1) : null
  const choose = (/** @type {any} */ event) => {
    chosen.set(id, Number(event.target.value))
    room.renew()
  }
  return [
    h('div', { class: 'line' }, h('b', { class: 'cut grow' }, h('bdi', null, prompt.name)), h('span', { class: 'chip' }, t('prompt_runs', { count: prompt.savedRuns ?? 0 }))),
    h('label', { class: 'field' }, t('prompt_versions'),
      h('select', { onchange: choose }, versions.map((/** @type {any} */ each) => h('option', { value: each.number, selected: each.number === number }, t('prompt_version', { number: each.number }), each.note ? ` – ${each.note}` : '')))),
    h('p', { class: 'muted small' }, h('bdi', null, version.userId), ' · ', moment(version.createdAt)),
    h('pre', { class: 'said', dir: 'auto', tabindex: 0 }, version.text),
    diff && h('throughline-prompt-diff', { '.ops': diff.ops }),
    at === null && prompt.status === 'active' && [runForm(version, prompt, room), versionForm(id, version, newest, room)],
  ]
}

/**
 * A saved run: the placeholders that have no value are marked, and the button says which.
 * @param {any} version @param {any} prompt @param {import('./panel.js').Room} room
 */
function runForm(version, prompt, room) {
  /** @type {Record<string, string>} */
  const values = {}
  const button = h('button', { type: 'submit', class: 'main' })
  const isMissing = (/** @type {string} */ name) => !(name in values)
  const inputs = version.placeholders.map((/** @type {string} */ name) => h('label', null, h('bdi', { dir: 'ltr' }, name),
    h('input', { name, maxlength: 20_000, dir: 'auto', 'aria-invalid': 'true', oninput: (/** @type {any} */ event) => {
      values[name] = event.target.value
      event.target.setAttribute('aria-invalid', String(!event.target.value))
      if (!event.target.value) delete values[name]
      draw()
    } })))
  const draw = () => {
    const missing = version.placeholders.filter(isMissing)
    button.disabled = missing.length > 0
    patch(button, icon('run'), missing.length ? t('prompt_missing', { names: missing.join(', ') }) : t('prompt_start'))
  }
  draw()
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault()
    void attempt(async () => {
      const session = await room.client.openSession({ projectId: prompt.projectId, mode: 'prompt', promptVersionId: version.promptVersionId, values })
      room.go(`#/sessions/${encodeURIComponent(session.sessionId)}`)
    })
  }
  return h('form', { class: 'card stack', onsubmit }, h('h3', null, h('b', null, t('prompt_run'))), inputs.length > 0 && h('div', { class: 'values' }, inputs), h('div', null, button))
}

/** @param {string} id @param {any} version @param {number} newest @param {import('./panel.js').Room} room */
function versionForm(id, version, newest, room) {
  const text = h('textarea', { rows: 6, maxlength: 100_000, dir: 'auto', 'aria-label': t('prompt_text') })
  text.value = version.text
  const note = h('input', { maxlength: 2_000, dir: 'auto', 'aria-label': t('prompt_note'), placeholder: t('prompt_note') })
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault()
    void attempt(async () => {
      const made = await room.client.saveVersion(id, { text: text.value, ...(note.value && { note: note.value }) })
      chosen.delete(id)
      toast(t('message_accepted', { number: made.number ?? newest + 1 }))
      room.renew()
    })
  }
  return h('details', { class: 'card' }, h('summary', null, t('prompt_edit')),
    h('form', { class: 'stack field', onsubmit }, text, note, h('div', null, h('button', { type: 'submit' }, icon('save'), t('diff_accept', { number: newest + 1 })))))
}

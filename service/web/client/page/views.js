/** The places of a project beside its conversations: prompts, runs, usage, the log. */

import { attempt, messageOf } from '../controls/toast.js'
import { h } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { moment } from '../elements/parts/moment.js'
import { t, word } from '../texts.js'

/** @typedef {import('./panel.js').Room} Room */
/** @typedef {() => Promise<any[]>} Live the items that are loaded */

/**
 * The place of a name, filled when its data is there.
 * @param {string} place @param {() => Room} room @param {Live} live
 */
export function viewOf(place, room, live) {
  const view = h('section', { class: 'page', tabindex: -1, 'aria-label': t(`place_${place}`) })
  const show = async () => {
    try {
      view.replaceChildren(h('h2', { class: 'out' }, t(`place_${place}`)), ...[await FILLED[place]?.(room(), live)].flat(9).filter(each => each instanceof Node))
    } catch (error) {
      view.replaceChildren(h('div', { class: 'empty', role: 'alert' }, h('p', null, messageOf(error)), h('button', { type: 'button', onclick: show }, t('try_again'))))
    }
  }
  Reflect.set(view, 'show', show)
  // A text that is being typed, or was not sent yet, stays: then the place is not read anew.
  Reflect.set(view, 'refresh', () => (view.contains(document.activeElement) && document.activeElement !== view) || hasText(view) || show())
  view.append(h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }, Array.from({ length: 4 }, () => h('i'))))
  void show()
  return view
}

/** @param {Element} view */
function hasText(view) {
  const fields = /** @type {NodeListOf<HTMLInputElement | HTMLTextAreaElement>} */ (view.querySelectorAll('input, textarea'))
  return [...fields].some(each => each.value !== each.defaultValue)
}

/**
 * The timeline of a project.
 * @param {import('../throughline.js').Throughline} client @param {string} projectId
 * @param {import('../throughline.js').Feed | null} feed @param {string | null} at
 */
export async function timelineOf(client, projectId, feed, at) {
  await import('../elements/timeline.js')
  return h('throughline-timeline', { '.client': client, '.projectId': projectId, '.feed': feed, '.at': at })
}

/** @type {Record<string, (room: Room, live: Live) => Promise<any>>} */
const FILLED = {
  async prompts({ client, projectId, at, go }) {
    const { prompts } = await client.prompts(projectId, { limit: 100, asOf: at })
    const rows = prompts.map((/** @type {any} */ each) => h('tr', null,
      h('td', null, h('a', { href: beside(projectId, 'prompts', 'prompt', each.promptId, at) }, h('bdi', null, each.name))),
      h('td', null, t('prompt_version', { number: each.versionCount })),
      h('td', null, t('prompt_runs', { count: each.savedRuns ?? 0 })),
      h('td', null, moment(each.lastModified))))
    return [table(['name', 'version', 'saved', 'changed'], rows, 'prompts_empty'), at === null && newPrompt(client, projectId, go)]
  },
  async runs({ client, projectId, at }) {
    const { runs } = await client.runs(projectId, { limit: 100, asOf: at })
    const rows = runs.map((/** @type {any} */ each) => h('tr', null,
      h('td', null, h('a', { href: beside(projectId, 'runs', 'run', each.runId, at) }, h('bdi', null, each.title))),
      h('td', null, h('span', { class: 'chip' }, word('status', each.status))),
      h('td', null, t('run_candidates', { count: each.candidateCount })),
      h('td', null, moment(each.queuedAt))))
    return table(['name', 'status', 'candidates', 'asked'], rows, 'runs_empty')
  },
  async usage({ client, projectId, at }) {
    const [balance, ledger, figures] = await Promise.all([
      client.balance({ asOf: at }), client.consumption({ limit: 100, asOf: at }), at === null ? client.analytics(projectId).catch(() => null) : null,
      import('../elements/usage.js'),
    ])
    return h('throughline-usage', { '.balance': balance, '.ledger': ledger.items, '.figures': figures })
  },
  async log(_, live) {
    await import('../elements/event-log.js')
    return h('throughline-event-log', { '.events': await live() })
  },
}

/** @param {string} projectId @param {string} place @param {string} kind @param {string} id @param {string | null} at */
const beside = (projectId, place, kind, id, at) =>
  `#/projects/${encodeURIComponent(projectId)}/${place}?panel=${encodeURIComponent(`${kind}:${id}`)}${at ? `&at=${encodeURIComponent(at)}` : ''}`

/** @param {string[]} columns @param {Node[]} rows @param {string} empty */
function table(columns, rows, empty) {
  if (!rows.length) return h('p', { class: 'empty' }, t(empty))
  return h('table', { class: 'table' }, h('thead', null, h('tr', null, columns.map(each => h('th', { scope: 'col' }, t(`column_${each}`))))), h('tbody', null, rows))
}

/** @param {import('../throughline.js').Throughline} client @param {string} projectId @param {(address: string) => void} go */
function newPrompt(client, projectId, go) {
  const name = h('input', { required: true, maxlength: 200, dir: 'auto' })
  const text = h('textarea', { required: true, rows: 4, maxlength: 100_000, dir: 'auto', placeholder: t('prompt_example') })
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault()
    void attempt(async () => {
      const { promptId } = await client.createPrompt({ projectId, name: name.value, text: text.value })
      go(beside(projectId, 'prompts', 'prompt', promptId, null))
    })
  }
  return h('form', { class: 'card stack', onsubmit }, h('h3', null, h('b', null, t('prompt_new'))),
    h('label', { class: 'field' }, t('column_name'), name), h('label', { class: 'field' }, t('prompt_text'), text),
    h('div', null, h('button', { type: 'submit' }, icon('plus'), t('prompt_create'))))
}

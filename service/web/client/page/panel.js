/** What stands beside the conversation: a plan, a build, a run or a prompt. */

import { attempt, messageOf, toast } from '../controls/toast.js'
import { h } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { t } from '../texts.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */
/**
 * @typedef {object} Room
 * @property {Throughline} client
 * @property {string} projectId
 * @property {string | null} at
 * @property {(address: string) => void} go
 * @property {() => unknown} renew show the panel again
 */

/** @type {Record<string, string>} */
const TITLES = { plan: 'plan_kind_feature', build: 'build', run: 'run', prompt: 'prompt' }

/** Whose newest content is shown: an answer to an earlier question is dropped. */
let asked = 0

/**
 * Fill the panel with the thing of a name such as `build:<id>`.
 * @param {HTMLElement} panel
 * @param {string} name
 * @param {Room} room
 * @param {() => void} close
 */
export async function fillPanel(panel, name, room, close) {
  const [kind = '', id = ''] = name.split(/:(.*)/s)
  const asking = ++asked
  // The name comes from the address, so it may be anything.
  const show = Object.hasOwn(SHOWN, kind) ? SHOWN[kind] : undefined
  const title = t((show && TITLES[kind]) ?? 'panel')
  const isNew = panel.dataset['name'] !== name
  const head = h('header', null, icon(show ? kind : 'info'), h('h2', { class: 'grow' }, title),
    h('button', { type: 'button', class: 'bare icon', 'aria-label': t('close'), title: t('close'), onclick: close }, icon('close')))
  panel.setAttribute('aria-label', title)
  if (isNew) panel.replaceChildren(head, h('div', { class: 'body' }, h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }, h('i'), h('i'))))
  panel.dataset['name'] = name
  /** @type {any} */
  let content
  try {
    content = await (show?.(id, room) ?? null)
  } catch (error) {
    content = h('p', { role: 'alert' }, messageOf(error))
  }
  if (asking !== asked) return
  panel.replaceChildren(head, h('div', { class: 'body', tabindex: 0 }, content))
}

/** @type {Record<string, (id: string, room: Room) => Promise<any>>} */
const SHOWN = { plan, build, run, prompt }

/** @param {string} id @param {Room} room */
async function plan(id, { client }) {
  const [{ mode, data, final }] = await Promise.all([client.reply(id), import('../elements/plan.js')])
  return h('throughline-plan', { '.mode': final?.mode ?? mode, '.data': final?.data ?? data, '.status': final?.subtype === 'partial' ? 'partial' : 'final' })
}

/** @param {string} id @param {Room} room */
async function build(id, { client, projectId, at, renew }) {
  const [whole, page] = await Promise.all([client.build(id, { asOf: at }), client.buildEvents(id, { limit: 500 }), import('../elements/build.js')])
  const isOpen = whole.status === 'queued' || whole.status === 'running'
  const cancel = () => attempt(async () => {
    await client.cancelBuild(id)
    renew()
  })
  const again = () => attempt(async () => {
    if (whole.plan) await client.convert({ projectId, sessionId: whole.convertedFromSessionId ?? whole.sessionId, planData: whole.plan })
    else await client.orderBuild({ projectId, message: whole.prompt })
    renew()
  })
  if (isOpen && at === null) setTimeout(renew, 2_000)
  return h('throughline-build', { '.build': { ...whole, events: page.events }, oncancel: cancel, onagain: again, onbuild: again })
}

/** @param {string} id @param {Room} room */
async function run(id, { client, at, go, renew }) {
  const [whole, { steps }, { candidates }] = await Promise.all([client.run(id, { asOf: at }), client.runSteps(id, { limit: 200 }), client.runCandidates(id, { limit: 200 }), import('../elements/run.js')])
  const discuss = () => attempt(async () => {
    const { sessionId } = await client.discussRun(id)
    go(`#/sessions/${encodeURIComponent(sessionId)}`)
  })
  const isOpen = whole.status === 'queued' || whole.status === 'running'
  if (isOpen && at === null) setTimeout(renew, 2_000)
  const cancel = () => attempt(async () => {
    await client.cancelRun(id)
    toast(t('run_cancelled'))
    renew()
  })
  return [
    h('throughline-run', { '.run': whole, '.steps': steps, '.candidates': candidates, ondiscuss: discuss }),
    isOpen && at === null && h('div', null, h('button', { type: 'button', onclick: cancel }, icon('stop'), t('run_cancel'))),
  ]
}

/** @param {string} id @param {Room} room */
async function prompt(id, room) {
  const { promptPanel } = await import('./prompt.js')
  return promptPanel(id, room)
}

/** What stands beside the conversation: a plan, a build, a run or a prompt. */

import { attempt, messageOf, toast } from '../controls/toast.js'
import { h, patch } from '../elements/parts/dom.js'
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
 *
 * @typedef {{content: any, isOpen?: boolean}} Shown what a panel shows, and whether it goes on
 */

/** @type {Record<string, string>} */
const TITLES = { plan: 'plan_kind_feature', build: 'build', run: 'run', prompt: 'prompt' }

const EVERY_MS = 2_000
const PAGE = 200
const MOST_PAGES = 10

/** Whose newest content is shown: an answer to an earlier question is dropped. */
let asked = 0

/** What is read again and again because it goes on: a build or a run. */
let followed = ''
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer

/**
 * Fill the panel with the thing of a name such as `build:<id>`. A build or a run that goes on is read
 * again after a while, and what the user has opened and reached in it stays.
 * @param {HTMLElement} panel
 * @param {string} name
 * @param {Room} room
 * @param {() => void} close
 */
export async function fillPanel(panel, name, room, close) {
  const [kind = '', id = ''] = name.split(/:(.*)/s)
  const asking = ++asked
  clearTimeout(timer)
  // The name comes from the address, so it may be anything.
  const show = Object.hasOwn(SHOWN, kind) ? SHOWN[kind] : undefined
  const title = t((show && TITLES[kind]) ?? 'panel')
  const isNew = panel.dataset['name'] !== name
  const head = h('header', null, icon(show ? kind : 'info'), h('h2', { class: 'grow' }, title),
    h('button', { type: 'button', class: 'bare icon', 'aria-label': t('close'), title: t('close'), onclick: close }, icon('close')))
  panel.setAttribute('aria-label', title)
  if (isNew) panel.replaceChildren(head, h('div', { class: 'body' }, h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }, h('i'), h('i'))))
  panel.dataset['name'] = name
  /** @type {Shown} */
  let shown = { content: null }
  try {
    if (show) shown = await show(id, room)
  } catch (error) {
    const again = h('button', { type: 'button', onclick: () => room.renew() }, t('try_again'))
    shown = { content: h('div', { class: 'empty', role: 'alert' }, h('p', null, messageOf(error)), again), isOpen: name === followed }
  }
  if (asking !== asked) return
  followed = shown.isOpen ? name : ''
  if (followed) timer = setTimeout(room.renew, EVERY_MS)
  // The forms of a prompt are new each time: they are of one version.
  const key = kind === 'prompt' ? `${name} ${asking}` : name
  patch(panel, head, h('div', { key, class: 'body', tabindex: 0 }, shown.content))
}

/** @type {Record<string, (id: string, room: Room) => Promise<Shown>>} */
const SHOWN = { plan, build, run, prompt }

/** @param {string} id @param {Room} room */
async function plan(id, { client }) {
  const [{ mode, data, final }] = await Promise.all([client.reply(id), import('../elements/plan.js')])
  const content = h('throughline-plan', { '.mode': final?.mode ?? mode, '.data': final?.data ?? data, '.status': final?.subtype === 'partial' ? 'partial' : 'final' })
  return { content }
}

/** @param {string} id @param {Room} room */
async function build(id, { client, projectId, at, renew }) {
  const reports = parts('events', query => client.buildEvents(id, query), at)
  const [whole, events] = await Promise.all([client.build(id, { asOf: at }), reports, import('../elements/build.js')])
  const cancel = () => attempt(async () => {
    await client.cancelBuild(id)
    renew()
  })
  const again = () => attempt(async () => {
    if (whole.plan) await client.convert({ projectId, sessionId: whole.convertedFromSessionId ?? whole.sessionId, planData: whole.plan })
    else await client.orderBuild({ projectId, message: whole.prompt })
    renew()
  })
  const content = h('throughline-build', { '.build': { ...whole, events }, oncancel: cancel, onagain: again, onbuild: again })
  return { content, isOpen: goesOn(whole, at) }
}

/**
 * The parts of a build or of a run, page by page.
 * @param {string} name @param {(query: Record<string, any>) => Promise<any>} read @param {string | null} at
 */
async function parts(name, read, at) {
  /** @type {any[]} */
  const found = []
  let after = null
  for (let pages = 0; pages < MOST_PAGES; pages++) {
    const page = await read({ limit: PAGE, after, asOf: at })
    found.push(...page[name])
    if (!page.hasMore) break
    after = page.after
  }
  return found
}

/** @param {any} what a build or a run @param {string | null} at */
const goesOn = ({ status }, at) => at === null && (status === 'queued' || status === 'running')

/** @param {string} id @param {Room} room */
async function run(id, { client, at, go, renew }) {
  const [whole, steps, candidates] = await Promise.all([
    client.run(id, { asOf: at }), parts('steps', query => client.runSteps(id, query), at),
    parts('candidates', query => client.runCandidates(id, query), at), import('../elements/run.js'),
  ])
  const discuss = () => attempt(async () => {
    const { sessionId } = await client.discussRun(id)
    go(`#/sessions/${encodeURIComponent(sessionId)}`)
  })
  const isOpen = goesOn(whole, at)
  const cancel = () => attempt(async () => {
    await client.cancelRun(id)
    toast(t('run_cancelled'))
    renew()
  })
  const content = [
    h('throughline-run', { '.run': whole, '.steps': steps, '.candidates': candidates, ondiscuss: discuss }),
    isOpen && h('div', null, h('button', { type: 'button', onclick: cancel }, icon('stop'), t('run_cancel'))),
  ]
  return { content, isOpen }
}

/** @param {string} id @param {Room} room */
async function prompt(id, room) {
  const { promptPanel } = await import('./prompt.js')
  return { content: await promptPanel(id, room) }
}

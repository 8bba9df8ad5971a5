/**
 * The rows of a conversation: messages, replies, builds, and what the service says.
 *
 * A row is drawn again only when what it shows has changed. The element of a reply stays while the
 * reply is written and after it has ended, so nothing jumps.
 *
 * @typedef {Record<string, any>} Item an item of the timeline
 * @typedef {import('../fold.js').ReplyState} ReplyState
 * @typedef {{key: string, item?: Item, reply?: ReplyState, pending?: string, build?: any}} Row
 * @typedef {object} Room what the rows need of the conversation that they stand in
 * @property {string | null} userId
 * @property {boolean} isPast
 * @property {boolean} canWrite
 * @property {(action: string, row: Row, detail?: any) => void} act
 */

import { menuButton } from '../controls/menu.js'
import { attempt } from '../controls/toast.js'
import { h, patch } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { moment } from '../elements/parts/moment.js'
import { duration, seconds, t, word } from '../texts.js'
import { said } from './templates.js'

/** The elements of replies and builds are loaded when the first one is shown. @type {Record<string, () => Promise<unknown>>} */
const LOADED = { 'throughline-plan': () => import('../elements/plan.js'), 'throughline-build': () => import('../elements/build.js') }
/** @type {typeof import('../elements/parts/markdown.js').markdown | null} */
let markdown = null

/** @param {string} tag @param {Record<string, unknown>} attributes */
function element(tag, attributes) {
  if (!customElements.get(tag)) void attempt(async () => LOADED[tag]?.())
  return h(tag, attributes)
}

/** @type {WeakMap<Element, {row: Row, room: Room}>} */
const shown = new WeakMap()
/** @type {WeakMap<Element, HTMLElement>} */
const parts = new WeakMap()

/** What the conversation does not show by itself: the build that it belongs to tells it. */
const LEFT_OUT = new Set(['build_reference', 'deployment', 'session'])

/** @param {Item} item */
export const isShown = item => !LEFT_OUT.has(item['kind'])

/** @param {Row} row @param {Room} room */
export function makeRow(row, room) {
  const node = h('article', { class: 'item', tabindex: -1, 'data-id': row.key })
  renewRow(node, row, room)
  return node
}

/** @param {Element} node @param {Row} row @param {Room} room */
export function renewRow(node, row, room) {
  const last = shown.get(node)
  shown.set(node, { row, room })
  const isSame = last && last.room === room && last.row.item === row.item && last.row.reply === row.reply && last.row.build === row.build
  if (isSame) return
  const kind = row.pending !== undefined ? 'user_message' : row.item?.['kind'] ?? 'reply'
  node.setAttribute('data-kind', kind)
  patch(node, (DRAWN[kind] ?? unreadable)(node, row, room))
}

/** @type {Record<string, (node: Element, row: Row, room: Room) => any>} */
const DRAWN = {
  user_message: message,
  reply,
  system_message: system,
  assistant_message: appended,
  material,
  prompt_version: promptVersion,
  run,
  unreadable,
}

/** @param {Element} node @param {Row} row @param {Room} room */
function message(node, row, room) {
  const { item } = row
  const text = row.pending ?? item?.['userMessage']?.text ?? ''
  const author = item?.['userId'] ?? room.userId ?? ''
  const isBuild = item?.['mode'] === 'build'
  return [
    h('header', null, h('h2', null, h('bdi', null, author)),
      item ? moment(item['timestamp']) : h('span', null, t('message_sending')),
      item && isBuild && h('span', { class: 'chip' }, icon('build'), t('build')),
      item && tools(row, room, [
        ['copy', t('action_copy')],
        ...(room.canWrite && !isBuild && item['userId'] === room.userId ? /** @type {[string, string][]} */ ([['edit', t('message_edit')]]) : []),
        ...(isBuild ? [] : /** @type {[string, string][]} */ ([['fork', t('message_fork')]])),
      ])),
    h('div', { class: 'said', dir: 'auto' }, text),
    row.build && buildOf(node, row, room),
  ]
}

/** @param {Element} node @param {Row} row @param {Room} room */
function reply(node, row, room) {
  const { item, reply: state } = row
  const ai = item?.['aiResponse']
  const isError = item ? item['status'] === 'failed' : state?.status === 'error'
  const mode = ai ? item?.['chatMode'] : state?.mode
  const isWriting = !item && (state?.status === 'waiting' || state?.status === 'streaming')
  const data = ai && !isError ? ai.data : state?.data ?? null
  const billed = ai?.billedSeconds ?? state?.envelope?.metadata?.billed_seconds
  const took = ai?.duration ?? state?.envelope?.metadata?.duration_ms
  return [
    h('header', null, h('h2', null, t('kind_reply')),
      item && moment(item['timestamp']),
      took !== undefined && took !== null && h('span', { title: t('reply_took') }, duration(took)),
      billed > 0 && h('span', { class: 'chip', title: t('reply_billed') }, seconds(billed)),
      item && !isError && tools(row, room, [['copy', t('action_copy')], ['fork', t('message_fork')], ...(data ? /** @type {[string, string][]} */ ([['panel', t('message_panel')]]) : [])])),
    state?.tools.length ? toolCalls(state.tools) : null,
    state?.notice && h('p', { class: 'notice', role: 'status' }, said(state.notice.template, state.notice.variables)),
    state?.reset && isWriting && h('p', { class: 'notice' }, t('reply_reset')),
    data !== null && data !== undefined ? planOf(node, row, room, data, mode) : null,
    isWriting && data === null && h('div', { class: 'writing', 'aria-hidden': 'true' }),
    ending(row, isError),
    (item || state?.status === 'error') && nextSteps(row, room, mode, isError),
  ]
}

/** Why there is no more, in one sentence. @param {Row} row @param {boolean} isError */
function ending({ item, reply: state }, isError) {
  const final = state?.envelope
  if (isError) {
    const code = item?.['aiResponse']?.data?.code ?? final?.error?.code ?? state?.problem?.code
    return h('p', { class: 'notice bad', role: 'alert' }, icon('error'), ' ', said(`reply_${code}`) || state?.problem?.detail || said('reply_error'))
  }
  const subtype = item?.['aiResponse']?.subtype ?? final?.subtype
  if (subtype !== 'partial') return null
  const reason = item?.['aiResponse']?.reason ?? final?.reason
  const why = reason ? said(`reply_${reason}`) : ''
  return h('p', { class: 'notice' }, icon('info'), ' ', why || t('plan_partial'))
}

/** @param {Row} row @param {Room} room @param {string | null | undefined} mode @param {boolean} isError */
function nextSteps(row, room, mode, isError) {
  if (room.isPast || !room.canWrite) return null
  const { item } = row
  const canBuild = item?.['actions']?.find((/** @type {any} */ each) => each.type === 'convert_to_build')
  /** @param {string} action @param {string} name @param {string} label @param {any} [more] */
  const button = (action, name, label, more) =>
    h('button', { type: 'button', key: action, 'data-action': action, onclick: () => room.act(action, row), ...more }, icon(name), label)
  return h('div', { class: 'actions' },
    canBuild && button('build', 'build', t('action_convert_to_build'), { class: 'main', disabled: !canBuild.enabled }),
    canBuild && button('save', 'save', t('action_save_plan')),
    canBuild && button('share', 'share', t('action_share')),
    mode === 'improvement' && !isError && button('accept', 'prompt', t('message_accept'), { class: 'main' }),
    item && !isError && menuButton({
      label: t('action_export'), icon: 'download', class: '', text: t('action_export'),
      entries: () => ['markdown', 'json'].map(format => ({ icon: 'file', label: t(`export_${format}`), run: () => room.act('export', row, format) })),
    }),
    button('again', 'again', t('action_again')))
}

/** The element of a reply's data: always the same one. @param {Element} node @param {Row} row @param {Room} room @param {any} data @param {any} mode */
function planOf(node, row, room, data, mode) {
  let plan = /** @type {any} */ (parts.get(node))
  if (!plan) {
    plan = element('throughline-plan', { class: 'answer' })
    parts.set(node, plan)
  }
  if (plan.mode !== mode) plan.mode = mode
  if (plan.data !== data) plan.data = data
  const status = !row.item && row.reply?.status === 'streaming' ? 'streaming' : 'final'
  if (plan.status !== status) plan.status = status
  if (plan.locale !== row.item?.['locale']) plan.locale = row.item?.['locale']
  return plan
}

/** @param {Element} node @param {Row} row @param {Room} room */
function buildOf(node, row, room) {
  let build = /** @type {any} */ (parts.get(node))
  if (!build) {
    build = element('throughline-build', {
      oncancel: () => shown.get(node)?.room.act('cancel-build', /** @type {any} */ (shown.get(node)).row),
      onagain: () => shown.get(node)?.room.act('build-again', /** @type {any} */ (shown.get(node)).row),
    })
    parts.set(node, build)
  }
  if (build.build !== row.build) build.build = row.build
  build.toggleAttribute('data-past', room.isPast)
  return build
}

/** Tool calls in one line that opens. @param {{name: string, summary: string, status: string}[]} tools */
function toolCalls(tools) {
  const last = tools.at(-1)
  return h('details', { class: 'tool' },
    h('summary', null, t(last?.status === 'running' ? 'tools_running' : 'tools_done', { count: tools.length }), ' ', h('bdi', { dir: 'ltr' }, last?.summary)),
    h('ul', null, tools.map(each => h('li', null, icon(each.status === 'done' ? 'check' : each.status === 'failed' ? 'close' : 'clock', word('tool', each.status)), ' ', h('bdi', { dir: 'ltr' }, `${each.name}: ${each.summary}`)))))
}

/** @param {Row} row @param {Room} room @param {[string, string][]} actions */
function tools(row, room, actions) {
  return h('span', { class: 'tools' }, actions.map(([action, label]) =>
    h('button', { type: 'button', key: action, class: 'bare icon', 'data-action': action, title: label, 'aria-label': label, onclick: () => room.act(action, row) },
      icon(action === 'panel' ? 'open' : action))))
}

/** @param {Element} _ @param {Row} row */
function system(_, { item }) {
  const { template, variables } = item?.['aiResponse']?.data ?? {}
  const address = variables?.preview_url
  return h('p', { class: 'system', dir: 'auto' }, said(template, variables) || item?.['aiResponse']?.text,
    typeof address === 'string' && /^https?:\/\//.test(address) && [' ', h('a', { href: address, rel: 'noopener noreferrer', target: '_blank' }, t('build_preview'))])
}

/** @param {Element} node @param {Row} row @returns {any[]} */
function appended(node, row) {
  const { item } = row
  const text = item?.['aiResponse']?.text ?? ''
  if (!markdown) {
    void attempt(async () => {
      ({ markdown } = await import('../elements/parts/markdown.js'))
      patch(node, appended(node, shown.get(node)?.row ?? row))
    })
  }
  return [h('header', null, h('h2', null, t('message_appended')), moment(item?.['timestamp'])), h('div', { class: 'answer', dir: 'auto' }, markdown ? markdown(text) : text)]
}

/** @param {Element} _ @param {Row} row */
function material(_, { item }) {
  return h('details', { class: 'tool' }, h('summary', null, icon('file'), ' ', t('message_material')), h('div', { class: 'said', dir: 'auto' }, item?.['aiResponse']?.text))
}

/** @param {Element} _ @param {Row} row @param {Room} room */
function promptVersion(_, row, room) {
  const { name, number } = row.item?.['event'] ?? {}
  return h('p', { class: 'system' }, h('button', { type: 'button', class: 'bare', onclick: () => room.act('prompt', row) }, icon('prompt'), t('message_version', { name: String(name), number: Number(number) })))
}

/** @param {Element} _ @param {Row} row @param {Room} room */
function run(_, row, room) {
  const state = row.item?.['run']
  return h('p', { class: 'system' }, h('button', { type: 'button', class: 'bare', onclick: () => room.act('run', row) }, icon('run'), h('bdi', null, state?.title ?? ''), h('span', { class: 'chip' }, word('status', state?.status))))
}

function unreadable() {
  return h('p', { class: 'system' }, icon('alert'), ' ', t('message_unreadable'))
}

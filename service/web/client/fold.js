/**
 * What events add up to: one pure function for a timeline, and one for a reply.
 *
 * The same functions serve live events, pages of history, and the past. A state is never changed: each
 * call returns a new state, which shares with the old state what is the same.
 *
 * @typedef {import('./sse.js').SseEvent} SseEvent
 * @typedef {Record<string, any> & {id: string, cursor: string}} Item an item of a timeline
 *
 * @typedef {object} ReplyState
 * @property {'waiting' | 'streaming' | 'final' | 'error'} status
 * @property {string | null} messageId
 * @property {string | null} userMessageId
 * @property {string | null} sessionId
 * @property {string | null} contract
 * @property {number | null} reservedSeconds
 * @property {string | null} mode
 * @property {any} data the reply so far, half written while `status` is `streaming`
 * @property {{name: string, summary: string, status: string}[]} tools the tool calls, each with its last status
 * @property {{code: string, template: string, variables: Record<string, any>} | null} notice the last notice
 * @property {string | null} reset why what was shown was taken back, or null
 * @property {any} envelope the final envelope, or null
 * @property {any} problem why there is no reply, where the service refused the message; or null
 *
 * @typedef {object} State
 * @property {Item[]} items in the order of the log, each id once
 * @property {Record<string, any>} builds the present state of each build, by its id
 * @property {Record<string, any>} runs the present state of each run, by its id
 * @property {Record<string, ReplyState>} replies the replies that are being written, by their ids
 * @property {string | null} activeBuildId the build that locks the project
 * @property {any} balance the last balance that was folded
 * @property {string | null} position the cursor up to which the state is whole
 * @property {string | null} before the cursor that leads to older items, or null where there are none
 * @property {Record<string, number>} known the position at which each item was last told
 * @property {Record<string, number>} forgotten the position at which something was erased
 */

/** @type {ReplyState} */
export const NO_REPLY = Object.freeze({
  status: 'waiting',
  messageId: null,
  userMessageId: null,
  sessionId: null,
  contract: null,
  reservedSeconds: null,
  mode: null,
  data: null,
  tools: [],
  notice: null,
  reset: null,
  envelope: null,
  problem: null
})

/** @type {State} */
export const NOTHING = Object.freeze({
  items: [],
  builds: {},
  runs: {},
  replies: {},
  activeBuildId: null,
  balance: null,
  position: null,
  before: null,
  known: {},
  forgotten: {}
})

/** The names of the events of a reply. */
export const REPLY_EVENTS = new Set(['accepted', 'intent', 'chunk', 'snapshot', 'tool', 'notice', 'reset', 'final'])

/**
 * The state of a reply after one more of its events.
 * @param {ReplyState} state
 * @param {Pick<SseEvent, 'event' | 'data'>} event
 * @returns {ReplyState}
 */
export function foldReply(state, { event, data }) {
  switch (event) {
    case 'accepted':
      return {
        ...NO_REPLY,
        messageId: data.messageId,
        userMessageId: data.userMessageId,
        sessionId: data.sessionId,
        contract: data.contract,
        reservedSeconds: data.reservedSeconds
      }
    case 'intent':
      return { ...state, mode: data.mode }
    case 'chunk':
      return { ...state, status: 'streaming', notice: null, data: data.ops ? operated(state.data, data.ops) : (state.data ?? '') + data.text }
    case 'snapshot':
      return {
        ...state,
        status: data.data == null ? state.status : 'streaming',
        messageId: state.messageId ?? data.messageId ?? null,
        mode: data.mode ?? null,
        data: data.data ?? null
      }
    case 'tool': {
      const last = state.tools.findLastIndex(each => each.name === data.name && each.summary === data.summary && each.status === 'running')
      const tool = { name: data.name, summary: data.summary, status: data.status }
      const tools = data.status === 'running' || last < 0 ? [...state.tools, tool] : state.tools.with(last, tool)
      return { ...state, tools }
    }
    case 'notice':
      return { ...state, notice: { code: data.code, template: data.template, variables: data.variables } }
    case 'reset':
      return { ...state, status: 'waiting', mode: null, data: null, reset: data.reason }
    case 'final':
      return {
        ...state,
        status: data.subtype === 'error' ? 'error' : 'final',
        messageId: data.messageId,
        sessionId: data.sessionId,
        mode: data.mode,
        data: data.data ?? null,
        notice: null,
        envelope: data
      }
    default:
      return state
  }
}

/** The member with the main prose, by the mode of the reply. @type {Record<string, string>} */
const MAIN_TEXT = {
  question: 'answer', feature: 'summary', fix: 'rootCause', analysis: 'overview', general: 'markdown', improvement: 'analysis'
}

/**
 * The main prose of a reply so far, for readers that show one text alone.
 * @param {ReplyState} state
 * @returns {string}
 */
export function mainText({ mode, data }) {
  const text = data?.[MAIN_TEXT[mode ?? ''] ?? '']
  return typeof text === 'string' ? text : ''
}

/**
 * The data of a reply after operations. Throws for an operation that does not fit.
 * @param {any} data
 * @param {{op: string, path: string, kind?: string, text?: string, value?: any}[]} ops
 * @returns {any}
 */
function operated(data, ops) {
  /** @type {Record<string, any>} */
  const root = data === null ? {} : { '': data }
  /** Containers that are new in this call, and so may be changed. */
  const own = new Set()
  for (const { op, path, kind, text, value } of ops) {
    const keys = path.split('/').map(key => key.replaceAll('~1', '/').replaceAll('~0', '~'))
    const last = /** @type {string} */ (keys.pop())
    /** @type {any} */
    let at = root
    for (const key of keys) {
      if (!Object.hasOwn(at, key) || at[key] === null || typeof at[key] !== 'object') throw new TypeError(`The reply has no ${path}.`)
      if (!own.has(at[key])) {
        put(at, key, Array.isArray(at[key]) ? [...at[key]] : { ...at[key] })
        own.add(at[key])
      }
      at = at[key]
    }
    const before = Object.hasOwn(at, last) ? at[last] : undefined
    if (op === 'append' ? before !== undefined && typeof before !== 'string' : before !== undefined) {
      throw new TypeError(`The reply has ${path} already.`)
    }
    const after = op === 'append' ? (before ?? '') + text : op === 'set' ? value : kind === 'array' ? [] : {}
    if (op === 'open') own.add(after)
    put(at, last, after)
  }
  return root['']
}

/**
 * Set a member, also where its name is that of an accessor of all objects.
 * @param {any} at
 * @param {string} key
 * @param {any} value
 */
function put(at, key, value) {
  if (key === '__proto__') Object.defineProperty(at, key, { value, enumerable: true, configurable: true, writable: true })
  else at[key] = value
}

/** The cursor before the first event of every log. */
export const BEGINNING = '0.00000000'

/**
 * The position in a cursor, or in the text of a position alone.
 * @param {string | null | undefined} cursor
 */
export function positionIn(cursor) {
  return cursor ? Number(cursor.split('.')[0]) : 0
}

/**
 * The state of a timeline after one more event: an event of a live timeline (`item`, `lock`, `erased`,
 * the events of replies), a `page` of history as the service answers it, or a `balance`.
 * @param {State} state
 * @param {{event: string, data: any, id?: string}} event
 * @returns {State}
 */
export function fold(state, { event, data, id }) {
  const next = { ...state, position: id && positionIn(id) > positionIn(state.position) ? id : state.position }
  switch (event) {
    case 'item':
      return placed(next, [data], positionIn(id || data.cursor))
    case 'page':
      return paged(next, data)
    case 'lock':
      return { ...next, activeBuildId: data.activeBuildId ?? null }
    case 'erased':
      return without(next, data, positionIn(id))
    case 'balance':
      return { ...next, balance: data }
    case 'goaway':
      return data.messageId ? { ...next, replies: left(next.replies, [data.messageId]) } : next
    default:
      return REPLY_EVENTS.has(event) && data.messageId ? replied(next, { event, data }) : state
  }
}

/**
 * The state as it was at an earlier position, as far as what was loaded says it. Items never change,
 * but the states of their builds and runs do: these are left out, and `isWhole` is false.
 * @param {State} state
 * @param {string} at the cursor of the moment
 * @returns {{state: State, isWhole: boolean}}
 */
export function past(state, at) {
  const last = state.items.findLastIndex(item => positionIn(item.cursor) <= positionIn(at))
  let isWhole = last >= 0 || state.before === null
  const items = state.items.slice(0, last + 1).map(item => {
    const { build, run } = item
    if (!build && !run) return item
    isWhole = false
    return { ...item, ...(build && { build: stateless(build) }), ...(run && { run: stateless(run) }) }
  })
  return { state: { ...NOTHING, items, before: state.before, position: at }, isWhole }
}

/**
 * A build or a run, without what changes while it goes on.
 * @param {any} what
 */
function stateless({ buildId, runId, userId, sessionId, title }) {
  return { ...(buildId && { buildId }), ...(runId && { runId }), userId, sessionId, title }
}

/**
 * @param {State} state
 * @param {{event: string, data: any}} event
 * @returns {State}
 */
function replied(state, event) {
  const id = event.data.messageId
  if (id in state.known) return state
  const reply = foldReply(state.replies[id] ?? { ...NO_REPLY, messageId: id }, event)
  return { ...state, replies: { ...state.replies, [id]: reply } }
}

/**
 * A page of a timeline (`items`, newest first) or of the messages of a session (`messages`, oldest
 * first), with `at`, the position of the log that the page was read at.
 * @param {State} state
 * @param {any} page
 * @returns {State}
 */
function paged(state, page) {
  const items = page.messages ?? [...page.items].reverse()
  const isOlder = state.items.length > 0 || state.before !== null
  const at = page.at ?? positionIn(page.after)
  const next = placed(state, items, at)
  next.before = page.hasMore ? page.before : null
  if (!isOlder && !page.messages && at >= positionIn(state.position)) next.activeBuildId = page.activeBuildId ?? null
  return next
}

/**
 * The state with items, each told at a position. What was told later stays.
 * @param {State} state
 * @param {Item[]} told
 * @param {number} at
 * @returns {State}
 */
function placed(state, told, at) {
  const fresh = told.filter(item => at >= (state.known[item.id] ?? -1) && !isForgotten(state, item, at))
  if (!fresh.length) return { ...state }
  const next = { ...state, known: { ...state.known }, builds: { ...state.builds }, runs: { ...state.runs } }
  next.items = merged(state.items, fresh, next.known)
  /** The builds that have changed: all their items show it, and only one of them is told. */
  const changed = new Set()
  for (const item of fresh) {
    next.known[item.id] = at
    const { build, run } = item
    if (run) next.runs[run.runId] = run
    if (build && at >= (next.known[`build ${build.buildId}`] ?? -1)) {
      next.known[`build ${build.buildId}`] = at
      next.builds[build.buildId] = build
    }
    if (build) changed.add(build.buildId)
  }
  if (changed.size) next.items = next.items.map(item => changed.has(item.build?.buildId) ? { ...item, build: next.builds[item.build.buildId] } : item)
  next.replies = left(state.replies, fresh.map(item => item.id))
  return next
}

/**
 * Items in the order of their cursors. Most items come at one end, in order.
 * @param {Item[]} old
 * @param {Item[]} fresh
 * @param {Record<string, number>} known
 */
function merged(old, fresh, known) {
  const again = new Set(fresh.filter(item => item.id in known).map(item => item.id))
  const kept = again.size ? old.filter(item => !again.has(item.id)) : old
  const first = positionIn(fresh[0]?.cursor)
  if (!kept.length || first > positionIn(kept[kept.length - 1]?.cursor)) return [...kept, ...fresh]
  return [...kept, ...fresh].sort((a, b) => positionIn(a.cursor) - positionIn(b.cursor))
}

/** The members of `erased` that name what is gone. */
const ERASED_BY = ['sessionId', 'buildId', 'promptId', 'runId', 'messageId']

/**
 * The ids by which an item may be erased.
 * @param {any} item
 * @returns {string[]}
 */
function idsOf(item) {
  const { userMessage, build, run, event } = item
  const ids = [item.id, item.sessionId, userMessage?.sessionId, build?.buildId, run?.runId, event?.promptId]
  return ids.filter(each => typeof each === 'string')
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {number} at
 */
function isForgotten(state, item, at) {
  return idsOf(item).some(id => (state.forgotten[id] ?? -1) >= at)
}

/**
 * The state without what was erased.
 * @param {State} state
 * @param {any} erased
 * @param {number} at
 * @returns {State}
 */
function without(state, erased, at) {
  const gone = ERASED_BY.map(name => erased[name]).filter(Boolean)
  const items = state.items.filter(item => !idsOf(item).some(id => gone.includes(id)) || (state.known[item.id] ?? 0) > at)
  const replies = Object.keys(state.replies).filter(id => gone.includes(id) || gone.includes(state.replies[id]?.sessionId))
  const forgotten = { ...state.forgotten }
  for (const id of gone) forgotten[id] = at
  return { ...state, items, forgotten, replies: left(state.replies, replies), builds: left(state.builds, gone), runs: left(state.runs, gone) }
}

/**
 * A record without some of its keys.
 * @template T
 * @param {Record<string, T>} record
 * @param {string[]} keys
 * @returns {Record<string, T>}
 */
function left(record, keys) {
  if (!keys.some(key => key in record)) return record
  return Object.fromEntries(Object.entries(record).filter(([key]) => !keys.includes(key)))
}

/**
 * A conversation: what was said, the replies as they are written, and where the next message is written.
 *
 * Properties: `client`, `projectId`; `sessionId`, or null for a new conversation of the mode `mode`;
 * `activeBuildId`, the build that locks the project; `at`, the cursor of an earlier moment; `marked`, the id of the item to be shown first. Methods:
 * `step(1)` and `step(-1)` move the focus from item to item, `stop()` ends the reply, `build()` asks for a build.
 * Events: `opened` with a session that this conversation began or went on with, `session` with what
 * the session is now or null where it cannot be read, `gone` where it was erased, `panel` with what should stand beside, `spent`
 * where the balance has changed, `connection`.
 */

import { toast, attempt, messageOf } from '../controls/toast.js'
import { Builds } from '../conversation/builds.js'
import { Composer } from '../conversation/composer.js'
import { isShown, makeRow, renewRow } from '../conversation/rows.js'
import { loadTemplates } from '../conversation/templates.js'
import { fold, NOTHING } from '../fold.js'
import { changes, locale, t } from '../texts.js'
import { h, keyed, patch } from './parts/dom.js'
import { Drawn } from './parts/drawn.js'
import { inTurn } from './parts/turns.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */
/** @typedef {import('../throughline.js').Reply} Reply */
/** @typedef {import('../throughline.js').Feed} Feed */
/** @typedef {import('../conversation/rows.js').Row} Row */
/** @typedef {Record<string, any>} Session */

const PLANNING = new Set(['plan', 'setup', 'analysis', 'what_if', 'build'])
const NEAR_PX = 80
const EXAMPLES = Object.freeze(['example_feature', 'example_question', 'example_analysis'])

export class ThroughlineChat extends Drawn {
  /** @type {Throughline | null} */
  #client = null
  /** @type {string | null} */
  #projectId = null
  /** @type {string | null} */
  #sessionId = null
  /** @type {string | null} */
  #at = null
  /** @type {string | null} */
  #userId = null
  mode = 'plan'
  /** What the user may do in the project, where the page knows it. @type {string | null} */
  role = null
  /** @type {string | null} */
  marked = null
  /** @type {Feed | null} */
  #feed = null
  /** @type {import('../fold.js').State} */
  #state = NOTHING
  /** The replies that this element asked for and that are no items yet. @type {{text: string, reply: Reply}[]} */
  #asked = []
  /** @type {Session | null} */
  #session = null
  /** @type {any} */
  #estimates = null
  /** @type {Promise<any> | null} */
  #estimating = null
  /** @type {unknown} */
  #error = null
  /** @type {string | null} */
  #activeBuildId = null
  #isReady = false
  #isStuck = true
  /** The item before the message that is asked again, or '' where there is none. @type {string | null} */
  #editing = null
  #opening = 0
  #restart = () => this.#open()
  #builds = new Builds(() => this.redraw())
  /** @type {import('../conversation/rows.js').Room} */
  #room = { userId: null, isPast: false, canWrite: true, act: (action, row, detail) => void this.#act(action, row, detail) }
  #composer = new Composer({
    onSend: (text, how) => void this.#send(text, how.chatMode),
    onStop: () => void this.stop(),
    onCancelEdit: () => this.#edit(null),
  })
  #items = h('div', { class: 'items' })
  #above = h('div')
  #latest = h('div', { class: 'latest', hidden: true })
  #log = h('div', { class: 'log', role: 'log', 'aria-live': 'off', tabindex: 0, onscroll: () => this.#onScroll() }, this.#above, this.#items, this.#latest)
  /** A reply or a build may grow after it was drawn: the end stays in sight. */
  #growing = new ResizeObserver(() => this.#isStuck && this.#settle())
  #announcer = h('div', { class: 'out', role: 'status' })

  connectedCallback() {
    this.append(this.#log, this.#composer.node, this.#announcer)
    this.#growing.observe(this.#items)
    changes.addEventListener('change', this.#restart)
    super.connectedCallback()
    this.#open()
  }

  disconnectedCallback() {
    changes.removeEventListener('change', this.#restart)
    this.#feed?.close()
    this.#feed = null
    this.#builds.stop()
    this.#builds = new Builds(() => this.redraw())
    this.#growing.disconnect()
  }

  get client() { return this.#client }
  set client(client) {
    if (client === this.#client) return
    this.#client = client
    this.#userId = null
    this.#open()
  }

  get projectId() { return this.#projectId }
  set projectId(id) {
    if (id === this.#projectId) return
    this.#projectId = id
    if (this.#client) void this.#estimate()
  }

  get sessionId() { return this.#sessionId }
  set sessionId(id) {
    if (id === this.#sessionId) return
    this.#sessionId = id
    this.#asked = []
    this.#editing = null
    this.#isStuck = true
    this.#open()
  }

  get at() { return this.#at }
  set at(cursor) {
    if (cursor === this.#at) return
    this.#at = cursor
    const [client, id, feed] = [this.#client, this.#sessionId, this.#feed]
    // The feed goes on in the past: what is loaded says most of it, and what is erased now goes at once.
    if (client && id !== null && feed && cursor !== null) this.#travel(client, id, cursor, ++this.#opening)
    else if (feed) this.#return(feed)
    else this.#open()
  }

  /** The build that locks the project, as the page knows it: a session that is not followed yet does not. */
  get activeBuildId() { return this.#activeBuildId }
  set activeBuildId(id) {
    if (id === this.#activeBuildId) return
    this.#activeBuildId = id
    this.redraw()
  }

  /** The name of the conversation, under which its draft is kept. */
  get #key() {
    return this.#sessionId ?? `new ${this.#projectId}`
  }

  /** The session as it is now, or null. */
  get session() { return this.#session }

  /** Read the conversation anew, and follow it. */
  #open() {
    this.#feed?.close()
    this.#feed = null
    const opening = ++this.#opening
    const [client, id] = [this.#client, this.#sessionId]
    if (!this.isConnected || !client) return
    this.#error = null
    this.#isReady = id === null
    if (id === null) this.#session = null
    this.#state = id === null ? NOTHING : this.#state.items.some(each => each['sessionId'] === id) ? this.#state : NOTHING
    this.redraw()
    if (this.#userId === null) void this.#readUser(client)
    void loadTemplates(client).then(isNew => isNew && this.#renewed(), () => undefined)
    if (!this.#estimating) void this.#estimate()
    if (id === null) return
    if (this.#at !== null) return this.#travel(client, id, this.#at, opening)
    void this.#readSession()
    this.#follow(client, id)
  }

  /**
   * Show what is loaded as it was, at once. The service says the rest.
   * @param {Throughline} client @param {string} id @param {string} at @param {number} opening
   */
  #travel(client, id, at, opening) {
    const known = this.#feed?.past(at)
    this.#error = null
    if (known) {
      this.#state = known.state
      this.#isReady = known.isWhole
    }
    if (!known?.isWhole || known.state.before !== null) void inTurn('view', () => this.#readPast(client, id, opening))
    void inTurn('session', () => this.#readSession())
    this.redraw()
  }

  /** Show what is now. @param {Feed} feed */
  #return(feed) {
    this.#opening++
    this.#error = null
    this.#state = feed.state
    void feed.ready.then(() => this.#arrive(feed), () => undefined)
    void this.#readSession()
    void this.#estimate()
    this.redraw()
  }

  /** Stop following. Replies that this conversation asked for are still read. */
  rest() {
    this.#feed?.close()
    this.#feed = null
  }

  /** Follow again, from now. */
  wake() {
    this.#open()
  }

  /** @param {Throughline} client @param {string} id */
  #follow(client, id) {
    const feed = client.follow({ sessionId: id }, { locale: locale() })
    this.#feed = feed
    feed.addEventListener('state', () => {
      if (feed !== this.#feed || this.#at !== null) return
      this.#announceChange(feed.state)
      this.#state = feed.state
      this.redrawSoon()
    })
    feed.addEventListener('event', event => this.#onErased(feed, /** @type {CustomEvent} */ (event).detail))
    feed.addEventListener('connection', event => this.say('connection', /** @type {CustomEvent} */ (event).detail))
    feed.addEventListener('end', event => this.#onEnd(feed, /** @type {CustomEvent} */ (event).detail))
    void feed.ready.then(() => this.#arrive(feed), () => undefined)
  }

  /** @param {Feed} feed */
  async #arrive(feed) {
    // An item that was asked for may stand further back than the newest page.
    for (let page = 0; this.marked && page < 20 && !feed.state.items.some(each => each.id === this.marked); page++) {
      if (!(await feed.older())) break
    }
    if (feed !== this.#feed || this.#at !== null) return
    this.#state = feed.state
    this.#isReady = true
    this.redraw()
  }

  /** What is erased now goes from an earlier moment too. @param {Feed} feed @param {{event: string, data: any}} event */
  #onErased(feed, event) {
    if (feed !== this.#feed || this.#at === null || event.event !== 'erased') return
    this.#state = fold(this.#state, event)
    this.redraw()
  }

  /** @param {Feed} feed @param {any} error */
  #onEnd(feed, error) {
    if (feed !== this.#feed || !error) return
    this.#error = error
    this.redraw()
    if (error.code === 'erased' || error.status === 404) this.say('gone', this.#sessionId)
  }

  /** @param {Throughline} client @param {string} id @param {number} opening */
  async #readPast(client, id, opening) {
    if (opening !== this.#opening) return
    try {
      const page = await client.messages(id, { limit: 200, asOf: this.#at, locale: locale() })
      if (opening !== this.#opening) return
      this.#state = fold(NOTHING, { event: 'page', data: page })
    } catch (error) {
      if (opening !== this.#opening) return
      this.#state = NOTHING
      this.#error = error
    }
    this.#isReady = true
    this.redraw()
  }

  /** Who writes here. Where the host gives no token, nothing else works either. @param {Throughline} client */
  async #readUser(client) {
    try {
      const id = await client.userId()
      if (client === this.#client) this.#userId = id
    } catch (error) {
      if (client === this.#client) this.#error = error
    }
    this.redraw()
  }

  async #readSession() {
    const [client, id] = [this.#client, this.#sessionId]
    if (!client || !id) return
    const at = this.#at
    const session = await client.session(id, { asOf: at, locale: locale() }).catch(() => null)
    if (id !== this.#sessionId || at !== this.#at) return
    if (session) this.#session = session
    this.say('session', session)
    this.redraw()
  }

  async #estimate() {
    if (!this.#client || !this.#projectId || this.#at !== null) return
    const asking = this.#estimating = this.#client.estimate(this.#projectId).catch(() => null)
    const found = await asking
    if (asking !== this.#estimating) return
    this.#estimates = found
    this.#estimating = null
    this.redraw()
  }

  /** Have all rows drawn again. */
  #renewed() {
    this.#room = { ...this.#room }
    this.redraw()
  }

  // Drawing ----------------------------------------------------------------------------------------

  draw() {
    const mode = this.#session?.['mode'] ?? this.mode
    const room = { userId: this.#userId, isPast: this.#at !== null, canWrite: this.#why() === null || this.#isLocked() }
    if (Object.entries(room).some(([name, value]) => Reflect.get(this.#room, name) !== value)) this.#room = { ...this.#room, ...room }
    const rows = this.#rows()
    patch(this.#above, this.#head(rows))
    keyed(this.#items, rows, row => row.key, row => makeRow(row, this.#room), (node, row) => renewRow(node, row, this.#room))
    this.#composer.show({
      key: this.#key, why: this.#why(), isRunning: this.#running() !== null, hasModes: PLANNING.has(mode),
      estimates: this.#estimates, isEditing: this.#editing !== null,
    })
    this.#composer.node.hidden = this.#at !== null
    patch(this.#latest, h('button', { type: 'button', onclick: () => this.#toEnd() }, t('chat_latest')))
    this.#settle()
  }

  /** @returns {Row[]} */
  #rows() {
    const { items, replies } = this.#state
    const known = new Set(items.map(each => each.id))
    /** @type {Row[]} */
    const rows = items.filter(isShown).map(item => ({
      key: item.id, item,
      build: item['mode'] === 'build' && item['build']?.status && item['kind'] === 'user_message' ? this.#builds.of(item['build'], this.#client, this.#at) : null,
    }))
    const own = new Set(this.#asked.map(({ reply }) => reply.messageId))
    for (const reply of Object.values(replies)) {
      if (reply.messageId && !own.has(reply.messageId)) this.#insert(rows, { key: reply.messageId, reply }, reply.userMessageId)
    }
    this.#asked = this.#asked.filter(({ reply }) => !reply.messageId || !known.has(reply.messageId))
    for (const [index, { text, reply }] of this.#asked.entries()) {
      const { userMessageId } = reply.state
      if (!userMessageId || !known.has(userMessageId)) rows.push({ key: userMessageId ?? `sent ${index}`, pending: text })
      this.#insert(rows, { key: reply.messageId ?? `reply ${index}`, reply: reply.state }, userMessageId)
    }
    return rows
  }

  /** Put a reply under its message. @param {Row[]} rows @param {Row} row @param {string | null} under */
  #insert(rows, row, under) {
    const at = under === null ? -1 : rows.findIndex(each => each.key === under)
    rows.splice(at < 0 ? rows.length : at + 1, 0, row)
  }

  /** What stands above the rows. @param {Row[]} rows */
  #head(rows) {
    if (this.#error) {
      return h('div', { class: 'empty', role: 'alert' }, h('p', null, messageOf(this.#error)), h('button', { type: 'button', onclick: () => this.#open() }, t('try_again')))
    }
    if (!this.#isReady && !rows.length) return h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }, Array.from({ length: 3 }, () => h('i')))
    if (rows.length || !this.#isReady) return null
    if (this.#at !== null) return h('p', { class: 'empty' }, t('chat_not_yet'))
    const mode = this.#session?.['mode'] ?? this.mode
    const isPlanning = PLANNING.has(mode)
    return h('div', { class: 'hello' },
      h('h2', null, t(isPlanning ? 'chat_hello' : `chat_hello_${mode === 'prompt' ? 'prompt' : 'idea'}`)),
      isPlanning && h('p', { class: 'muted' }, t('chat_hello_more')),
      isPlanning && h('div', { class: 'asks' }, EXAMPLES.map(name => h('button', { type: 'button', onclick: () => this.#send(t(name), null) }, t(name)))))
  }

  /** Why nothing can be sent now, or null. @returns {string | null} */
  #why() {
    const session = this.#session
    if (this.#at !== null) return t('why_past')
    if (this.role === 'viewer') return t('why_viewer')
    if (session && this.#userId && session['userId'] !== this.#userId) return t('why_other', { user: session['userId'] })
    if (session && (session['status'] === 'archived' || session['status'] === 'converted')) return t(`why_${session['status']}`)
    if (this.#isLocked()) return t('why_locked')
    return null
  }

  #isLocked() {
    return (this.#state.activeBuildId ?? this.#activeBuildId) !== null && PLANNING.has(this.#session?.['mode'] ?? this.mode)
  }

  /** The reply that is being written, or null. */
  #running() {
    const asked = this.#asked.find(({ reply }) => reply.state.status === 'waiting' || reply.state.status === 'streaming')
    if (asked) return asked.reply.messageId ?? ''
    return Object.keys(this.#state.replies)[0] ?? null
  }

  // Scrolling --------------------------------------------------------------------------------------

  #settle() {
    const marked = this.marked && this.#items.querySelector(`[data-id="${CSS.escape(this.marked)}"]`)
    if (marked) {
      this.marked = null
      this.#isStuck = false
      for (const each of this.#items.querySelectorAll('[data-marked]')) each.removeAttribute('data-marked')
      marked.setAttribute('data-marked', '')
      marked.scrollIntoView({ block: 'center' })
    } else if (this.#isStuck) this.#log.scrollTop = this.#log.scrollHeight
    this.#latest.hidden = this.#isStuck || !this.#items.childElementCount
  }

  #toEnd() {
    this.#isStuck = true
    this.#settle()
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log
    this.#isStuck = scrollHeight - scrollTop - clientHeight < NEAR_PX
    this.#latest.hidden = this.#isStuck
    if (scrollTop < NEAR_PX * 2 && this.#state.before !== null) void this.#readOlder()
  }

  #isReadingOlder = false
  /** Show what was said before the oldest row, unless something else is shown meanwhile. */
  async #readOlder() {
    if (this.#isReadingOlder) return
    this.#isReadingOlder = true
    const [opening, feed] = [this.#opening, this.#at === null ? this.#feed : null]
    try {
      const page = await (feed?.older() ?? this.#client?.messages(this.#sessionId ?? '', { limit: 50, before: this.#state.before, asOf: this.#at, locale: locale() }))
      if (opening !== this.#opening) return
      const end = this.#log.scrollHeight - this.#log.scrollTop
      this.#state = feed?.state ?? fold(this.#state, { event: 'page', data: page })
      this.draw()
      this.#log.scrollTop = this.#log.scrollHeight - end
    } catch (error) {
      if (opening === this.#opening) toast(messageOf(error))
    }
    this.#isReadingOlder = false
  }

  /** Move the focus to the next item, or to the one before. @param {1 | -1} by */
  step(by) {
    const all = /** @type {HTMLElement[]} */ ([...this.#items.children])
    const at = all.findIndex(each => each.contains(document.activeElement))
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by]
    next?.focus()
    next?.scrollIntoView({ block: 'nearest' })
  }

  focusComposer() {
    this.#composer.focus()
  }

  // Doing ------------------------------------------------------------------------------------------

  /** @param {string} text @param {string | null} chatMode */
  async #send(text, chatMode) {
    const client = this.#client
    if (!client || !this.#projectId) return
    this.#isStuck = true
    const from = this.#key
    try {
      if (this.#editing !== null) await this.#branch()
      else if (this.#sessionId === null) this.#adopt(await client.openSession({ projectId: this.#projectId, mode: this.mode }))
    } catch (error) {
      toast(messageOf(error))
      return this.#composer.giveBack(from, text)
    }
    const key = this.#key
    const isBusy = this.#running() !== null
    const reply = client.chat({
      sessionId: /** @type {string} */ (this.#sessionId), message: text, locale: locale(), ...(chatMode && { chatMode }), ...(isBusy && { onBusy: /** @type {const} */ ('enqueue') }),
    })
    this.#asked.push({ text, reply })
    this.#announce(t('say_sent'))
    let was = 'waiting'
    reply.addEventListener('state', () => {
      if (reply.state.status !== was && reply.state.status === 'streaming') this.#announce(t('say_writing'))
      if (was === 'waiting' && reply.messageId) this.say('spent')
      was = reply.state.status
      this.redrawSoon()
    })
    reply.addEventListener('connection', event => this.say('connection', /** @type {CustomEvent} */ (event).detail))
    reply.done.then(() => this.#onReply(), error => this.#onRefused(reply, text, key, error))
    this.redraw()
  }

  #onReply() {
    this.say('spent')
    void this.#estimate()
    void this.#readSession()
  }

  /** @param {Reply} reply @param {string} text @param {string} key the conversation of the text @param {any} error */
  #onRefused(reply, text, key, error) {
    if (error?.code === 'closed') return
    this.#asked = this.#asked.filter(each => each.reply !== reply)
    toast(messageOf(error))
    if (!reply.messageId) this.#composer.giveBack(key, text)
    this.say('spent')
    this.redraw()
  }

  /** Go on in a session that was opened for this conversation. @param {Session} session */
  #adopt(session) {
    this.#session = session
    this.#sessionId = session['sessionId']
    this.#asked = []
    this.#state = NOTHING
    this.say('opened', session)
    this.#open()
  }

  /** Open the fork, or the new session, in which an earlier message is asked again. */
  async #branch() {
    const client = /** @type {Throughline} */ (this.#client)
    const from = this.#editing
    const mode = this.#session?.['mode'] ?? this.mode
    const session = from
      ? await client.fork(/** @type {string} */ (this.#sessionId), from, { mode })
      : await client.openSession({ projectId: this.#projectId, mode: mode === 'build' ? 'plan' : mode })
    this.#editing = null
    this.#adopt(session)
  }

  /** @param {Row | null} row a message of the user to be asked again, or null to stop that */
  #edit(row) {
    const items = this.#state.items.filter(each => each['kind'] === 'user_message' || each['kind'] === 'reply')
    const at = items.findIndex(each => each.id === row?.key)
    this.#editing = row === null || at < 0 ? null : items[at - 1]?.id ?? ''
    this.draw()
    this.#composer.fill(this.#editing === null ? '' : items[at]?.['userMessage']?.text ?? '')
  }

  /** End the reply that is being written, and keep what it has shown. */
  async stop() {
    const running = this.#running()
    if (running === null) return false
    const asked = this.#asked.find(({ reply }) => (reply.messageId ?? '') === running)
    await attempt(async () => (asked ? asked.reply.cancel() : this.#client?.cancelReply(running)))
    return true
  }

  /** Build the last plan of the conversation, as its button does. */
  build() {
    const button = [.../** @type {NodeListOf<HTMLButtonElement>} */ (this.#items.querySelectorAll('[data-action="build"]:not(:disabled)'))].at(-1)
    button?.focus()
    return button ?? null
  }

  /** @param {string} action @param {Row} row @param {any} [detail] */
  async #act(action, row, detail) {
    const client = this.#client
    if (!client) return
    const open = (/** @type {string} */ panel) => this.say('panel', panel)
    if (action === 'edit') return this.#edit(row)
    if (action === 'again') return this.#edit({ key: row.item?.['inReplyTo'] ?? row.reply?.userMessageId ?? '' })
    if (action === 'panel') return open(`plan:${row.key}`)
    if (action === 'prompt') return open(`prompt:${row.item?.['event']?.promptId}`)
    if (action === 'run') return open(`run:${row.item?.['run']?.runId}`)
    const ordered = () => {
      this.#announce(t('build_locked'))
      this.say('spent')
      void this.#readSession()
    }
    const room = { client, projectId: this.#projectId, sessionId: this.#sessionId ?? '', session: this.#session, adopt: (/** @type {Session} */ session) => this.#adopt(session), open, ordered }
    await attempt(async () => {
      const { ACTIONS } = await import('../conversation/actions.js')
      await ACTIONS[action]?.(row, room, detail)
    })
  }

  // What a screen reader hears -----------------------------------------------------------------------

  /** @param {string} text */
  #announce(text) {
    this.#announcer.textContent = text
  }

  /** A reply that has ended is said once, and a lock. @param {import('../fold.js').State} next */
  #announceChange(next) {
    if (!this.#isReady) return
    const last = next.items.at(-1)
    if (last && last !== this.#state.items.at(-1) && last['kind'] === 'reply') {
      this.#announce(t('say_reply', { text: String(last['aiResponse']?.text ?? '').slice(0, 500) }))
      this.#onReply()
    }
    if (next.activeBuildId !== this.#state.activeBuildId) this.#announce(t(next.activeBuildId ? 'build_locked' : 'say_unlocked'))
  }
}

customElements.define('throughline-chat', ThroughlineChat)

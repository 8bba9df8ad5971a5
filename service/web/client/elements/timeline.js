/**
 * The timeline of a project, newest first. Only the rows in sight are in the document.
 *
 * Properties: `client`, `projectId`; `feed`, a feed of the project where there is one already; `at`, the
 * cursor of an earlier moment. Methods: `step(1)` and `step(-1)` move the focus from row to row.
 */

import { messageOf } from '../controls/toast.js'
import { loadTemplates, said } from '../conversation/templates.js'
import { fold, NOTHING } from '../fold.js'
import { changes, locale, t, word } from '../texts.js'
import { h, keyed, patch } from './parts/dom.js'
import { Drawn } from './parts/drawn.js'
import { icon } from './parts/icons.js'
import { moment } from './parts/moment.js'
import { inTurn } from './parts/turns.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */
/** @typedef {import('../throughline.js').Feed} Feed */
/** @typedef {Record<string, any>} Item */

const ROW_PX = 44
const AROUND = 20
const MOST_ROWS = 200
const PAGE = 100

/** @type {Record<string, string>} */
const ICONS = { user_message: 'user', reply: 'plan', system_message: 'info', assistant_message: 'log', material: 'file', build_reference: 'build', deployment: 'open', prompt_version: 'prompt', run: 'run' }

export class ThroughlineTimeline extends Drawn {
  /** @type {Throughline | null} */
  #client = null
  /** @type {string | null} */
  #projectId = null
  /** @type {string | null} */
  #at = null
  /** @type {Feed | null} */
  #feed = null
  #isOwn = false
  /** Newest first. @type {Item[]} */
  #items = []
  #state = NOTHING
  /** @type {unknown} */
  #error = null
  #isReady = false
  #isReading = false
  /** Whether the moment that is asked for is not shown yet. */
  #hasMoved = false
  #focused = -1
  #list = h('ol')
  #above = h('div')
  #onState = () => this.#take()
  #onEvent = (/** @type {any} */ { detail }) => this.#onErased(detail)
  #again = () => this.#open()
  #onScroll = () => this.draw()

  connectedCallback() {
    this.append(this.#above, this.#list)
    this.tabIndex = -1
    this.addEventListener('scroll', this.#onScroll, { passive: true })
    changes.addEventListener('change', this.#again)
    super.connectedCallback()
    this.#open()
  }

  disconnectedCallback() {
    changes.removeEventListener('change', this.#again)
    this.#leave()
  }

  get client() { return this.#client }
  set client(client) {
    this.#client = client
    this.#open()
  }

  get projectId() { return this.#projectId }
  set projectId(id) {
    this.#projectId = id
    this.#open()
  }

  get at() { return this.#at }
  set at(cursor) {
    if (cursor === this.#at) return
    this.#at = cursor
    this.#hasMoved = true
    this.#open()
  }

  get feed() { return this.#feed }
  set feed(feed) {
    if (feed === this.#feed) return
    this.#leave()
    this.#feed = feed
    this.#isOwn = false
    this.#open()
  }

  #leave() {
    this.#feed?.removeEventListener('state', this.#onState)
    this.#feed?.removeEventListener('event', this.#onEvent)
    if (this.#isOwn) {
      this.#feed?.close()
      this.#feed = null
    }
  }

  #open() {
    const client = this.#client
    if (!this.isConnected || !client || !this.#projectId) return
    this.#error = null
    void loadTemplates(client).then(isNew => isNew && this.redraw(), () => undefined)
    this.#feed?.addEventListener('event', this.#onEvent)
    if (this.#at !== null) return this.#travel(client, this.#at)
    if (!this.#feed) {
      this.#feed = client.follow(this.#projectId, { locale: locale() })
      this.#isOwn = true
      this.#feed.addEventListener('event', this.#onEvent)
    }
    const feed = this.#feed
    feed.removeEventListener('state', this.#onState)
    feed.addEventListener('state', this.#onState)
    void feed.ready.then(() => this.#take(), error => this.#fail(error))
  }

  /** Show what is loaded as it was, at once. The service says the rest. @param {Throughline} client @param {string} at */
  #travel(client, at) {
    const known = this.#feed?.past(at)
    if (known && (known.isWhole || known.state.items.length)) this.#show(known.state)
    if (!known?.isWhole) void inTurn('view', () => this.#readPast(client, at))
  }

  /** @param {Throughline} client @param {string} at */
  async #readPast(client, at) {
    if (at !== this.#at) return
    try {
      const page = await client.timeline(/** @type {string} */ (this.#projectId), { limit: PAGE, asOf: at, locale: locale() })
      if (at !== this.#at) return
      this.#show(fold(NOTHING, { event: 'page', data: page }))
    } catch (error) {
      if (at === this.#at) this.#fail(error)
    }
  }

  /** What is erased now goes from an earlier moment too. @param {{event: string, data: any}} event */
  #onErased(event) {
    if (this.#at !== null && event.event === 'erased') this.#show(fold(this.#state, event))
  }

  #take() {
    if (this.#feed && this.#at === null) this.#show(this.#feed.state)
  }

  /** @param {import('../fold.js').State} state */
  #show(state) {
    const items = [...state.items].reverse()
    // New rows come above: what is being read stays where it is.
    const added = this.scrollTop > ROW_PX && !this.#hasMoved ? items.findIndex(each => each.id === this.#items[0]?.['id']) : 0
    if (this.#hasMoved) this.scrollTop = 0
    this.#hasMoved = false
    this.#items = items
    this.#state = state
    this.#isReady = true
    this.draw()
    if (this.#at !== null) this.say('moment', items[0]?.['timestamp'] ?? null)
    if (added > 0) this.scrollTop += added * ROW_PX
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#error = error
    this.#isReady = true
    this.redraw()
  }

  draw() {
    patch(this.#above, this.#head())
    this.#list.hidden = !this.#items.length
    this.#list.style.setProperty('block-size', `${this.#items.length * ROW_PX}px`)
    const first = Math.max(0, Math.floor(this.scrollTop / ROW_PX) - AROUND)
    const count = Math.min(MOST_ROWS, Math.ceil(this.clientHeight / ROW_PX) + 2 * AROUND)
    const shown = this.#items.slice(first, first + count)
    keyed(this.#list, shown.map((item, index) => ({ item, index: first + index })), each => each.item['id'], each => this.#place(h('li'), each), (node, each) => this.#place(node, each))
    // Where the older rows were refused, the user says when they are read again.
    if (!this.#error && this.#state.before && first + count >= this.#items.length - AROUND) void this.#readOlder()
  }

  #head() {
    if (this.#error) return h('div', { class: 'empty', role: 'alert' }, h('p', null, messageOf(this.#error)), h('button', { type: 'button', onclick: () => this.#open() }, t('try_again')))
    if (!this.#isReady) return h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }, Array.from({ length: 6 }, () => h('i')))
    return this.#items.length ? null : h('p', { class: 'empty' }, t('timeline_empty'))
  }

  async #readOlder() {
    if (this.#isReading) return
    this.#isReading = true
    try {
      if (this.#at === null) await this.#feed?.older(PAGE)
      else {
        const at = this.#at
        const page = await this.#client?.timeline(/** @type {string} */ (this.#projectId), { limit: PAGE, asOf: at, before: this.#state.before, locale: locale() })
        if (at === this.#at) this.#show(fold(this.#state, { event: 'page', data: page }))
      }
    } catch (error) {
      this.#fail(error)
    }
    this.#isReading = false
  }

  /** @param {Element} node @param {{item: Item, index: number}} of */
  #place(node, { item, index }) {
    const li = /** @type {HTMLElement} */ (node)
    li.style.setProperty('inset-block-start', `${index * ROW_PX}px`)
    li.setAttribute('aria-setsize', String(this.#state.before ? -1 : this.#items.length))
    li.setAttribute('aria-posinset', String(index + 1))
    patch(li, h('a', { class: 'row', href: this.#addressOf(item), onfocus: () => { this.#focused = index } },
      moment(item['timestamp']),
      h('span', { class: 'kind' }, icon(ICONS[item['kind']] ?? 'alert'), h('span', { class: 'cut' }, word('kind', item['kind']))),
      h('span', { class: 'text cut', dir: 'auto' }, textOf(item)),
      (item['build'] ?? item['run'])?.status && h('span', { class: 'chip' }, word('status', (item['build'] ?? item['run']).status)),
      item['status'] === 'failed' && item['kind'] === 'reply' && h('span', { class: 'chip bad' }, t('status_failed'))))
    return li
  }

  /** @param {Item} item */
  #addressOf(item) {
    const at = this.#at ? `&at=${encodeURIComponent(this.#at)}` : ''
    const session = item['sessionId'] ?? item['build']?.sessionId
    if (item['kind'] === 'run') return `#/projects/${encodeURIComponent(this.#projectId ?? '')}/timeline?panel=${encodeURIComponent(`run:${item['run'].runId}`)}${at}`
    if (item['kind'] === 'prompt_version') return `#/projects/${encodeURIComponent(this.#projectId ?? '')}/timeline?panel=${encodeURIComponent(`prompt:${item['event'].promptId}`)}${at}`
    return session ? `#/sessions/${encodeURIComponent(session)}?message=${encodeURIComponent(item['id'])}${at}` : `#/projects/${encodeURIComponent(this.#projectId ?? '')}/timeline`
  }

  /** Move the focus to the next row, or to the one before. @param {1 | -1} by */
  step(by) {
    const index = Math.max(0, Math.min(this.#items.length - 1, this.#focused < 0 ? 0 : this.#focused + by))
    const top = index * ROW_PX
    if (top < this.scrollTop) this.scrollTop = top
    if (top + ROW_PX > this.scrollTop + this.clientHeight) this.scrollTop = top + ROW_PX - this.clientHeight
    this.draw()
    const row = /** @type {HTMLElement | null} */ (this.#list.querySelector(`[aria-posinset="${index + 1}"] > a`))
    row?.focus({ preventScroll: true })
  }
}

/** An item in one line. @param {Item} item */
function textOf(item) {
  const { userMessage, aiResponse, build, run, text, event } = item
  if (item['kind'] === 'system_message') return said(aiResponse?.data?.template, aiResponse?.data?.variables)
  if (item['kind'] === 'prompt_version') return `${event?.name ?? ''} ${event?.number ?? ''}: ${text ?? ''}`
  if (item['kind'] === 'reply' && item['status'] === 'failed') return said(`reply_${aiResponse?.data?.code}`) || said('reply_error')
  return String(userMessage?.text ?? aiResponse?.text ?? text ?? run?.title ?? build?.title ?? event?.versionId ?? '').slice(0, 300)
}

customElements.define('throughline-timeline', ThroughlineTimeline)

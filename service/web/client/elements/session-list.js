/**
 * The sessions of a project, by what they are for.
 *
 * Properties: `client`, `projectId`; `openId`, the session that is shown; `running`, the ids of those
 * with a reply that is being written; `at`, the cursor of an earlier moment. `refresh()` reads again.
 * Events: `new`, where there is nothing yet; `gone` with the id of a session that was erased.
 */

import { menuButton } from '../controls/menu.js'
import { attempt, messageOf, toast } from '../controls/toast.js'
import { changes, date, locale, number, t, word } from '../texts.js'
import { h, patch } from './parts/dom.js'
import { Drawn } from './parts/drawn.js'
import { icon } from './parts/icons.js'
import { brief } from './parts/moment.js'
import { inTurn } from './parts/turns.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */
/** @typedef {Record<string, any>} Session */

const PAGE = 50

/** The groups with their modes, in their order. */
const GROUPS = Object.freeze({
  plan: ['plan', 'build'],
  idea: ['idea', 'run_feedback'],
  analysis: ['setup', 'analysis', 'what_if'],
  prompt: ['prompt'],
})

export class ThroughlineSessionList extends Drawn {
  /** @type {Throughline | null} */
  #client = null
  /** @type {string | null} */
  #userId = null
  /** @type {string | null} */
  #projectId = null
  /** @type {string | null} */
  #openId = null
  /** @type {string | null} */
  #at = null
  /** @type {ReadonlySet<string>} */
  #running = new Set()
  /** @type {ReadonlySet<string>} */
  #unread = new Set()
  /** @type {Session[] | null} */
  #sessions = null
  /** @type {string | null} */
  #before = null
  /** @type {unknown} */
  #error = null
  #filters = { status: '', starred: false, sort: 'recent' }
  #reading = 0
  #wanted = PAGE
  #draw = () => this.redraw()

  connectedCallback() {
    super.connectedCallback()
    changes.addEventListener('change', this.#draw)
  }

  disconnectedCallback() {
    changes.removeEventListener('change', this.#draw)
  }

  get client() { return this.#client }
  set client(client) {
    if (client === this.#client) return
    this.#client = client
    this.#userId = null
    this.#begin()
  }

  get projectId() { return this.#projectId }
  set projectId(id) {
    if (id === this.#projectId) return
    this.#projectId = id
    this.#begin()
  }

  get at() { return this.#at }
  set at(cursor) {
    if (cursor === this.#at) return
    this.#at = cursor
    this.redraw()
    void (cursor === null ? this.refresh() : inTurn('list', () => this.refresh()))
  }

  get openId() { return this.#openId }
  set openId(id) {
    this.#openId = id
    this.redraw()
  }

  /** The ids of the sessions in which something new was said. */
  get unread() { return this.#unread }
  set unread(ids) {
    this.#unread = ids
    this.redraw()
  }

  get running() { return this.#running }
  set running(ids) {
    this.#running = ids
    this.redraw()
  }

  #begin() {
    this.#sessions = null
    this.#wanted = PAGE
    void this.refresh()
  }

  /** Read the list again. Of several reads the answer to the last one counts. */
  async refresh() {
    const client = this.#client
    if (!client || !this.#projectId) return
    const reading = ++this.#reading
    const projectId = this.#projectId
    const { status, starred, sort } = this.#filters
    /** @type {Session[]} */
    const found = []
    let before = null
    try {
      this.#userId ??= await client.userId()
      do {
        const query = { limit: PAGE, status, starred: starred || null, sort, asOf: this.#at, before, locale: locale() }
        const page = await client.sessions({ projectId, ...query })
        found.push(...page.sessions)
        before = page.hasMore ? page.before : null
      } while (before && found.length < this.#wanted)
      if (reading !== this.#reading) return
      this.#sessions = found
      this.#before = before
      this.#error = null
    } catch (error) {
      if (reading !== this.#reading) return
      this.#error = error
    }
    this.redraw()
  }

  draw() {
    const input = this.querySelector('.session > input')
    if (input) {
      // A name is being typed: nothing moves under the hands of its user.
      input.addEventListener('blur', () => this.redraw(), { once: true })
      return
    }
    patch(this, this.#error ? this.#wrong() : this.#sessions ? [this.#filterLine(), this.#groups(), this.#more()] : GREY())
  }

  #wrong() {
    return h('div', { class: 'empty', role: 'alert' }, h('p', null, messageOf(this.#error)),
      h('button', { type: 'button', onclick: () => this.refresh() }, t('try_again')))
  }

  #filterLine() {
    const { status, starred, sort } = this.#filters
    /** @param {string} name @param {string[]} values @param {string} value */
    const select = (name, values, value) =>
      h('select', { key: name, 'aria-label': t(`list_${name}`), onchange: (/** @type {any} */ event) => this.#filter({ [name]: event.target.value }) },
        values.map(each => h('option', { value: each, selected: each === value }, t(`list_${name}_${each || 'open'}`))))
    return h('div', { key: 'filters', class: 'filters' },
      select('status', ['', 'archived', 'all'], status),
      select('sort', ['recent', 'oldest', 'name', 'messages'], sort),
      h('button', {
        type: 'button', class: 'bare icon', 'aria-pressed': String(starred), 'aria-label': t('list_starred'), title: t('list_starred'),
        onclick: () => this.#filter({ starred: !this.#filters.starred }),
      }, icon('star')))
  }

  /** @param {Partial<{status: string, starred: boolean, sort: string}>} changed */
  #filter(changed) {
    this.#filters = { ...this.#filters, ...changed }
    this.redraw()
    void this.refresh()
  }

  #groups() {
    const sessions = this.#sessions ?? []
    if (!sessions.length) {
      const isFiltered = this.#filters.status !== '' || this.#filters.starred || this.#at !== null
      return h('div', { key: 'empty', class: 'empty' }, h('p', null, t(isFiltered ? 'list_none' : 'list_empty')),
        !isFiltered && h('button', { type: 'button', onclick: () => this.say('new') }, t('list_ask')))
    }
    return Object.entries(GROUPS).map(([name, modes]) => {
      const own = sessions.filter(each => modes.includes(each['mode']))
      if (!own.length) return null
      const title = t(`group_${name}`)
      return h('section', { key: name, class: 'group', 'aria-label': title },
        h('h2', null, icon(name), title, h('span', { class: 'count' }, own.length)),
        name === 'prompt' ? this.#byPrompt(own) : this.#rows(own))
    })
  }

  /** @param {Session[]} sessions */
  #byPrompt(sessions) {
    const named = new Map(sessions.map(each => [each['prompt']?.promptId ?? '', each['prompt']?.name ?? t('list_no_prompt')]))
    return [...named].map(([id, name]) =>
      h('div', { key: `prompt ${id}` },
        h('h3', { class: 'cut', dir: 'auto' }, name),
        this.#rows(sessions.filter(each => (each['prompt']?.promptId ?? '') === id))))
  }

  /** @param {Session[]} sessions */
  #rows(sessions) {
    return h('ul', null, sessions.map(each => this.#row(each)))
  }

  /** @param {Session} session */
  #row(session) {
    const id = session['sessionId']
    const isOpen = id === this.#openId
    const address = `#/sessions/${encodeURIComponent(id)}${this.#at ? `?at=${encodeURIComponent(this.#at)}` : ''}`
    return h('li', { key: id, class: 'session', 'data-session': id, 'data-open': isOpen, 'data-unread': this.#unread.has(id), 'data-archived': session['status'] === 'archived' },
      h('a', { href: address, 'aria-current': isOpen ? 'page' : null, title: date(session['lastActive']) },
        h('span', { class: 'name' },
          this.#running.has(id) && h('span', { class: 'dot', role: 'img', 'aria-label': t('list_running') }),
          h('b', { class: 'cut', dir: 'auto' }, session['name']),
          session['starred'] && h('span', { class: 'star' }, icon('star', t('list_starred'))),
          session['status'] !== 'active' && session['status'] !== 'expired' && h('span', { class: 'chip' }, word('session_status', session['status'])),
          h('span', { class: 'grow' }), h('span', { class: 'when' }, brief(session['lastActive']))),
        h('span', { class: 'preview' },
          h('bdi', { class: 'cut' }, session['preview'] || word('mode', session['mode'])),
          session['messageCount'] > 0 && h('span', { title: t('list_count', { count: session['messageCount'] }) }, number(session['messageCount'])))),
      this.#menu(session))
  }

  /** @param {Session} session */
  #menu(session) {
    return menuButton({ label: t('list_actions', { name: session['name'] }), icon: 'more', entries: () => this.entries(session) })
  }

  /**
   * What can be done with a session, for a menu.
   * @param {Session} session
   * @returns {import('../controls/menu.js').Entry[]}
   */
  entries(session) {
    const id = session['sessionId']
    const isOwn = session['userId'] === this.#userId && this.#at === null
    const isArchived = session['status'] === 'archived'
    return [
      { icon: 'edit', label: t('rename'), disabled: !isOwn, run: () => attempt(() => this.rename(id)) },
      { icon: 'star', label: t(session['starred'] ? 'unstar' : 'star'), disabled: !isOwn, run: () => this.#change(session, { starred: !session['starred'] }) },
      { icon: 'download', label: t('export_markdown'), run: () => this.#export(session) },
      { icon: 'archive', label: t(isArchived ? 'restore' : 'archive'), disabled: !isOwn, run: () => this.#archive(session, !isArchived) },
      { icon: 'trash', label: t('delete'), disabled: !isOwn, danger: true, run: () => attempt(() => this.#erase(session)) },
    ]
  }

  /**
   * Rename a session where it stands in the list.
   * @param {string} id
   */
  async rename(id) {
    const { renameInPlace } = await import('../controls/rename.js')
    const session = this.#sessions?.find(each => each['sessionId'] === id)
    const link = /** @type {HTMLElement | null} */ (this.querySelector(`[data-session="${CSS.escape(id)}"] > a`))
    if (!session || !link) return
    renameInPlace(link, { name: session['name'], label: t('rename'), save: name => this.#change(session, { name }) })
  }

  /** @param {Session} session @param {Record<string, any>} changed */
  async #change(session, changed) {
    await attempt(async () => {
      const next = await this.#client?.patchSession(session['sessionId'], changed)
      this.#sessions = (this.#sessions ?? []).map(each => (each['sessionId'] === session['sessionId'] ? { ...each, ...next } : each))
      this.say('changed', next)
    })
    this.redraw()
    void this.refresh()
  }

  /** @param {Session} session @param {boolean} archived */
  async #archive(session, archived) {
    await this.#change(session, { archived })
    if (archived) toast(t('archived', { name: session['name'] }), { label: t('undo'), run: () => this.#change(session, { archived: false }) })
  }

  /** @param {Session} session */
  async #erase(session) {
    const question = {
      title: t('erase_title', { name: session['name'] }),
      text: t('erase_text', { count: session['itemCount'] }),
      action: t('erase_action'),
    }
    const { confirmed } = await import('../controls/dialog.js')
    if (!(await confirmed(question))) return
    const id = session['sessionId']
    const done = await attempt(async () => {
      await this.#client?.deleteSession(id)
      return true
    })
    if (!done) return
    this.#sessions = (this.#sessions ?? []).filter(each => each['sessionId'] !== id)
    this.redraw()
    this.say('gone', id)
  }

  /** @param {Session} session */
  async #export(session) {
    await attempt(async () => {
      const { saved } = await import('../conversation/files.js')
      const text = await this.#client?.exportSession(session['sessionId'], { format: 'markdown', locale: locale() })
      saved(text, `${session['name']}.md`)
    })
  }

  #more() {
    if (!this.#before) return null
    const more = () => {
      this.#wanted += PAGE
      void this.refresh()
    }
    return h('button', { key: 'more', type: 'button', class: 'bare', onclick: more }, t('list_more'))
  }
}

const GREY = () => h('div', { class: 'grey', 'aria-busy': 'true', 'aria-label': t('loading'), role: 'status' }, Array.from({ length: 6 }, () => h('i')))

customElements.define('throughline-session-list', ThroughlineSessionList)

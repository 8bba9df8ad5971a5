/** The page: its frame, and what each address shows in it. */

import { attempt, messageOf, toast } from '../controls/toast.js'
import { menuButton } from '../controls/menu.js'
import { renameInPlace } from '../controls/rename.js'
import { h, patch, svg } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { inTurn } from '../elements/parts/turns.js'
import { date, LOCALE_NAMES, LOCALES, locale, number, t, word } from '../texts.js'
import { listen } from './keys.js'
import { chooseLocale, keep, kept, theme, THEMES, useTheme } from './preferences.js'
import { addressOf, PLACES, Router } from './router.js'
import { Scrubber } from './scrubber.js'
import { Search } from './search.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */
/** @typedef {import('../throughline.js').Feed} Feed */

const SOON_MS = 200
const RESTING_MS = 60_000
const GAUGE_PX = 64

/** The kinds of conversation that a person begins, with their icons. */
const BEGUN = Object.freeze(['plan', 'setup', 'analysis', 'what_if', 'idea', 'prompt'])

export class App {
  #client
  #userId
  #signOut
  #router = new Router()
  /** @type {any[]} */
  #projects = []
  /** @type {string | null} */
  #projectId = null
  /** @type {Feed | null} */
  #feed = null
  /** @type {any} */
  #balance = null
  /** @type {Record<string, any> | null} */
  #session = null
  #connection = 'open'
  /** The session of the address, where it cannot be read. @type {string | null} */
  #missing = null
  /** What the main part shows: the place and the project. */
  #shown = ''
  /** The moment of the balance that was asked for. @type {string | null | undefined} */
  #balanceAt
  /** The cursor that the foot shows. @type {string | null} */
  #position = null
  /** The moment of a place that is read whole. @type {string | null} */
  #viewAt = null
  /** @type {any} */
  #chat = null
  /** @type {Set<string>} */
  #unread = new Set()
  /** The sessions of running replies. @type {Map<string, string>} */
  #sessions = new Map()
  /** What is shown beside the place: its name, the moment, the project and the language. */
  #besideOf = ''
  /** When the moment was that is shown. @type {string | null} */
  #moment = null
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #resting
  #isResting = false
  #scrubber
  #list = /** @type {any} */ (h('throughline-session-list'))
  #search
  #bars = h('div', { class: 'bars', 'aria-live': 'polite' })
  #side = h('nav', { class: 'side' })
  #main = h('main', { class: 'main', id: 'main', tabindex: -1 })
  #top = h('header', { class: 'top' })
  /** @type {HTMLElement} */
  #view = h('div')
  #panel = h('aside', { class: 'panel', hidden: true, tabindex: -1 })
  #foot = h('footer', { class: 'foot' })
  #finding = h('div', { class: 'line' })
  #sideHead = h('header', null, this.#finding)
  #shade = h('div', { class: 'shade', hidden: true, onclick: () => this.#drawer(false) })

  /**
   * @param {Throughline} client @param {string} userId
   * @param {() => void} signOut
   */
  constructor(client, userId, signOut) {
    this.#client = client
    this.#userId = userId
    this.#signOut = signOut
    this.#scrubber = new Scrubber(client, at => this.#router.travel(at))
    this.#search = new Search(client, () => this.#list)
    this.#list.client = client
    this.#list.addEventListener('new', () => this.#begin('plan'))
    this.#list.addEventListener('gone', (/** @type {CustomEvent} */ event) => this.#onGone(event.detail))
    this.#list.addEventListener('changed', (/** @type {CustomEvent} */ event) => this.#onSession(event.detail))
  }

  /** Read the projects, and show the address. @param {HTMLElement} root */
  async start(root) {
    this.#main.append(this.#top, this.#view)
    const skip = h('a', { class: 'skip', href: '#main', onclick: (/** @type {Event} */ event) => { event.preventDefault(); this.#main.focus() } }, t('skip'))
    root.replaceChildren(h('div', { class: 'app' }, skip, this.#bars, this.#side, this.#main, this.#panel, this.#foot, this.#shade))
    this.#router.addEventListener('change', () => this.#show())
    listen(this.#keys())
    if ('ontouchstart' in globalThis) void attempt(async () => (await import('./swipe.js')).listen(isOpen => this.#drawer(isOpen)))
    // A session says its project itself. Everything else waits for the projects.
    if (this.#router.route.sessionId) this.#show()
    const { projects } = await this.#client.projects({ limit: 100 })
    this.#projects = projects
    if (!projects.length) this.#bars.append(h('p', { class: 'bar', role: 'status' }, icon('info'), t('project_none')))
    this.#show()
    document.addEventListener('visibilitychange', () => this.#onVisible())
    for (const reply of this.#client.resend()) reply.done.catch(error => toast(messageOf(error)))
  }

  // What the address says --------------------------------------------------------------------------

  #show() {
    const { route } = this.#router
    const known = route.projectId ?? this.#projectOf(route.sessionId) ?? this.#projectId
    const projectId = known ?? (route.sessionId === null || route.sessionId === this.#missing ? this.#last() ?? null : null)
    if (route.place === 'home' && projectId) return this.#router.go(addressOf({ projectId }), { replace: true })
    document.documentElement.toggleAttribute('data-past', route.at !== null)
    this.#enter(projectId)
    this.#list.at = route.at
    this.#list.openId = route.sessionId
    if (route.sessionId) this.#unread.delete(route.sessionId)
    this.#place()
    this.#beside()
    this.#drawer(false)
    this.draw()
    if (route.at !== this.#balanceAt) void (route.at === null ? this.#readBalance() : inTurn('balance', () => this.#readBalance()))
    this.#balanceAt = route.at
    this.#findMoment()
  }

  /** The project that was open last in this browser, else the newest. @returns {string | undefined} */
  #last() {
    const last = kept('project', '')
    return (this.#projects.find(each => each.projectId === last) ?? this.#projects[0])?.projectId
  }

  /** The project of a session, as soon as the conversation has read it. @param {string | null} sessionId */
  #projectOf(sessionId) {
    return this.#session?.['sessionId'] === sessionId ? this.#session['projectId'] : null
  }

  /** Follow another project. @param {string | null} projectId */
  #enter(projectId) {
    if (projectId === this.#projectId || projectId === null) return
    this.#projectId = projectId
    keep('project', projectId)
    this.#list.projectId = projectId
    this.#follow(projectId)
  }

  /** @param {string} projectId */
  #follow(projectId) {
    this.#feed?.close()
    const feed = this.#client.follow(projectId, { locale: locale() })
    this.#feed = feed
    feed.addEventListener('state', () => this.#onLive(feed))
    feed.addEventListener('event', event => this.#onEvent(/** @type {CustomEvent} */ (event).detail))
    feed.addEventListener('connection', event => this.#onConnection(/** @type {CustomEvent} */ (event).detail))
  }

  /** A page that nobody looks at gives its connections back after a while: a browser has few for each address. */
  #onVisible() {
    clearTimeout(this.#resting)
    if (document.hidden) {
      this.#resting = setTimeout(() => {
        this.#isResting = true
        this.#feed?.close()
        this.#chat?.rest()
      }, RESTING_MS)
    } else if (this.#isResting && this.#projectId) {
      this.#isResting = false
      this.#follow(this.#projectId)
      this.#chat?.wake()
      if (this.#router.route.place === 'timeline') this.#again()
      this.#soon()
    }
  }

  /** Show the place in the main part. The conversation stays when it has begun meanwhile. */
  #place() {
    const { place, sessionId, mode, at, message } = this.#router.route
    if (place === 'session' || place === 'new' || place === 'home') {
      if (!this.#chat || this.#view !== this.#chat) this.#put(this.#newChat())
      const chat = this.#chat
      chat.marked = message
      chat.mode = BEGUN.includes(mode ?? '') ? mode : 'plan'
      chat.projectId = this.#projectId
      chat.at = at
      chat.role = this.#projects.find(each => each.projectId === this.#projectId)?.role ?? null
      chat.activeBuildId = this.#feed?.state.activeBuildId ?? null
      if (sessionId !== chat.sessionId) {
        this.#session = sessionId === this.#session?.['sessionId'] ? this.#session : null
        chat.sessionId = sessionId
      }
      this.#shown = 'chat'
      return
    }
    if (!this.#projectId) return
    const key = `${place} ${this.#projectId}`
    const isNew = key !== this.#shown
    this.#shown = key
    this.#session = null
    if (isNew) void attempt(() => this.#open(place, key))
    else if (place === 'timeline') Reflect.set(this.#view, 'at', at)
    else if (at !== this.#viewAt) {
      this.#viewAt = at
      void inTurn('view', async () => Reflect.get(this.#view, 'show')?.call(this.#view))
    }
  }

  /** Load what shows a place, and show it. @param {string} place @param {string} key */
  async #open(place, key) {
    this.#put(h('div', { class: 'grey', role: 'status', 'aria-label': t('loading') }))
    const { viewOf, timelineOf } = await import('./views.js')
    if (key !== this.#shown) return
    const { at } = this.#router.route
    this.#viewAt = at
    if (place !== 'timeline') return this.#put(viewOf(place, () => this.#room(() => this.#again()), () => this.#items()))
    const view = await timelineOf(this.#client, this.#projectId ?? '', this.#feed, this.#router.route.at)
    if (key !== this.#shown) return
    view.addEventListener('moment', (/** @type {any} */ event) => this.#showMoment(event.detail))
    this.#put(view)
    Reflect.set(view, 'at', this.#router.route.at)
  }

  /** The items of the project that are loaded, of the moment that is shown. */
  async #items() {
    await this.#feed?.ready.catch(() => undefined)
    const { at } = this.#router.route
    return (at === null ? this.#feed?.state : this.#feed?.past(at)?.state)?.items ?? []
  }

  #newChat() {
    const chat = /** @type {any} */ (h('throughline-chat', { '.client': this.#client }))
    chat.addEventListener('opened', (/** @type {CustomEvent} */ event) => {
      this.#onSession(event.detail)
      this.#router.change({ place: 'session', sessionId: event.detail.sessionId, message: null, mode: null })
      void this.#list.refresh()
    })
    chat.addEventListener('session', (/** @type {CustomEvent} */ event) => (event.detail ? this.#onSession(event.detail) : this.#onNoSession()))
    chat.addEventListener('gone', (/** @type {CustomEvent} */ event) => this.#onGone(event.detail))
    chat.addEventListener('panel', (/** @type {CustomEvent} */ { detail: panel }) => (panel === this.#router.route.panel ? this.#beside(true) : this.#router.change({ panel })))
    chat.addEventListener('spent', () => this.#soon())
    chat.addEventListener('connection', (/** @type {CustomEvent} */ event) => this.#onConnection(event.detail))
    this.#chat = chat
    return chat
  }

  /** Show the same place anew. */
  #again() {
    this.#shown = ''
    this.#place()
  }

  /** @param {HTMLElement} view */
  #put(view) {
    this.#view.replaceWith(view)
    this.#view = view
    if (view !== this.#chat) this.#chat = null
  }

  /** Show what the address names beside the place. @param {boolean} [isAnew] whether what is shown already is read anew */
  #beside(isAnew = false) {
    const { panel: name, at } = this.#router.route
    const last = this.#besideOf
    this.#besideOf = JSON.stringify([name, at, this.#projectId, locale()])
    if (this.#besideOf === last && !isAnew) return
    this.#panel.hidden = name === null
    if (name === null) {
      this.#panel.replaceChildren()
      delete this.#panel.dataset['name']
      return
    }
    const isNew = this.#panel.dataset['name'] !== name
    const renew = () => this.#router.route.panel === name && this.#beside(true)
    const fill = async () => {
      const { fillPanel } = await import('./panel.js')
      if (this.#router.route.panel === name) await fillPanel(this.#panel, name, this.#room(renew), () => this.#router.change({ panel: null }))
    }
    void (at === null ? fill() : inTurn('panel', fill))
    if (isNew && matchMedia('(width < 1100px)').matches) this.#panel.focus()
  }

  /** @param {() => unknown} renew @returns {import('./panel.js').Room} */
  #room(renew) {
    return { client: this.#client, projectId: this.#projectId ?? '', at: this.#router.route.at, go: address => this.#router.go(address), renew }
  }

  // What happens -------------------------------------------------------------------------------------

  /** @param {Feed} feed */
  #onLive(feed) {
    if (feed !== this.#feed) return
    const running = new Set(Object.values(feed.state.replies).map(each => each.sessionId ?? this.#sessionOf(each.messageId ?? '', feed)))
    if ([...running].join() !== [...this.#list.running].join()) this.#list.running = running
    if (this.#chat) this.#chat.activeBuildId = feed.state.activeBuildId
    // A reply that is written says much, and moves nothing at the foot.
    if (feed.position !== this.#position) this.#foots()
  }

  /** The session of a reply that was joined in its middle: its events do not say. @param {string} replyId @param {Feed} feed */
  #sessionOf(replyId, feed) {
    const known = this.#sessions.get(replyId)
    if (known !== undefined) return known
    this.#sessions.set(replyId, '')
    this.#client.reply(replyId).then(({ sessionId }) => {
      this.#sessions.set(replyId, sessionId)
      this.#onLive(feed)
    }, () => undefined)
    return ''
  }

  /** @param {{event: string, data: any}} event */
  #onEvent({ event, data }) {
    if (event === 'item' && data.kind === 'reply' && data.sessionId !== this.#router.route.sessionId) {
      this.#unread.add(data.sessionId)
      this.#list.unread = new Set(this.#unread)
      this.draw()
    }
    if (event === 'item' || event === 'erased' || event === 'lock') this.#soon()
  }

  /** Read soon what may have changed: the list, the balance. */
  #soon() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      void this.#list.refresh()
      void this.#readBalance()
      if (this.#router.route.at === null) Reflect.get(this.#view, 'refresh')?.call(this.#view)
    }, SOON_MS)
  }

  /** @param {string} state */
  #onConnection(state) {
    this.#connection = state
    this.#drawBars()
  }

  /** @param {Record<string, any>} session */
  #onSession(session) {
    if (this.#router.route.sessionId && session['sessionId'] !== this.#router.route.sessionId && session !== this.#chat?.session) return
    this.#session = session
    if (session['sessionId'] === this.#router.route.sessionId && session['projectId'] !== this.#projectId) this.#show()
    else this.draw()
  }

  /** The session cannot be read. The conversation says why, and the page shows the project of last time. */
  #onNoSession() {
    this.#missing = this.#router.route.sessionId
    if (this.#projectId === null) this.#show()
  }

  /** @param {string} id */
  #onGone(id) {
    if (this.#router.route.sessionId === id) this.#router.go(addressOf({ projectId: this.#projectId }), { replace: true })
    void this.#list.refresh()
  }

  async #readBalance() {
    const { at } = this.#router.route
    const balance = await this.#client.balance({ asOf: at }).catch(() => this.#balance)
    if (at !== this.#router.route.at) return
    this.#balance = balance
    this.#foots()
  }

  /** When the moment was that is shown: the time of its newest item. */
  #findMoment() {
    const { at, place } = this.#router.route
    const projectId = this.#projectId
    if (at === null || !projectId) return
    const items = this.#feed?.past(at)?.state.items ?? []
    if (items.length) return this.#showMoment(items.at(-1)?.['timestamp'])
    if (place === 'timeline') return // its view reads the item, and says the moment
    void inTurn('moment', async () => {
      const page = await this.#client.timeline(projectId, { limit: 1, asOf: at })
      if (at === this.#router.route.at) this.#showMoment(page.items[0]?.timestamp)
    })
  }

  /** @param {string | undefined} moment */
  #showMoment(moment) {
    this.#moment = moment ?? null
    this.#drawBars()
  }

  /** @param {string} mode */
  #begin(mode) {
    if (mode === 'prompt') return this.#router.go(addressOf({ projectId: this.#projectId, place: 'prompts' }))
    this.#router.go(addressOf({ projectId: this.#projectId, place: 'new', mode: mode === 'plan' ? null : mode }))
    this.#chat?.focusComposer()
  }

  #keys() {
    return {
      '/': () => {
        this.#drawer(true)
        this.#search.focus()
      },
      n: () => this.#begin('plan'),
      j: () => Reflect.get(this.#view, 'step')?.call(this.#view, 1),
      k: () => Reflect.get(this.#view, 'step')?.call(this.#view, -1),
      b: () => this.#chat?.build(),
      '[': () => void this.#scrubber.step(-1),
      ']': () => void this.#scrubber.step(1),
      '?': () => void help(),
      Esc: () => void this.#escape(),
    }
  }

  async #escape() {
    if (this.#side.dataset['open'] !== undefined) return this.#drawer(false)
    if (this.#search.isOpen) return this.#search.clear()
    if (this.#router.route.panel) return this.#router.change({ panel: null })
    if (await this.#chat?.stop()) return
    if (this.#router.route.at) return this.#router.change({ at: null })
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
  }

  // Drawing ------------------------------------------------------------------------------------------

  /** Everything in another language. */
  renew() {
    this.#again()
    this.#beside()
    this.draw()
  }

  draw() {
    this.#drawSide()
    this.#drawTop()
    this.#drawBars()
    this.#foots()
    document.title = this.#session ? `${this.#session['name']} – Throughline` : 'Throughline'
  }

  #drawSide() {
    const { place, projectId, at } = this.#router.route
    this.#side.setAttribute('aria-label', t('side'))
    const project = h('select', { 'aria-label': t('project'), onchange: (/** @type {any} */ event) => this.#router.go(addressOf({ projectId: event.target.value })) },
      this.#projects.map(each => h('option', { value: each.projectId, selected: each.projectId === this.#projectId }, each.name)))
    // The search stays the same node, so that it keeps the focus.
    patch(this.#finding, this.#search.input,
      menuButton({ label: t('new'), icon: 'plus', class: 'icon', entries: () => BEGUN.map(mode => ({ icon: mode, label: t(`new_${mode}`), run: () => this.#begin(mode) })) }))
    patch(this.#sideHead, project, this.#finding)
    patch(this.#side, this.#sideHead,
      h('div', { key: 'places', class: 'places' }, PLACES.map(each => h('a', { href: addressOf({ projectId: this.#projectId, place: each, at }), 'aria-current': place === each && projectId ? 'page' : null },
        icon(PLACE_ICONS[each] ?? 'log'), h('span', { class: 'cut' }, t(`place_${each}`))))),
      this.#search.node, this.#list, h('footer', { key: 'settings', class: 'line narrow' }, this.#settings()))
    this.#search.show(this.#projectId)
    this.#list.hidden = this.#search.isOpen
  }

  #drawTop() {
    const input = this.#top.querySelector(':scope > input')
    if (input) {
      // A name is being typed: nothing moves under the hands of its user.
      input.addEventListener('blur', () => this.#drawTop(), { once: true })
      return
    }
    const { place } = this.#router.route
    const session = this.#session
    const { mode } = this.#router.route
    const title = PLACES.includes(place) ? t(`place_${place}`) : session?.['name'] ?? t(`new_${mode && BEGUN.includes(mode) ? mode : 'plan'}`)
    const isSession = session !== null && place === 'session'
    patch(this.#top,
      h('button', { key: 'menu', type: 'button', class: 'bare icon narrow', 'aria-label': t('drawer', { count: this.#unread.size }), 'aria-expanded': 'false', onclick: () => this.#drawer(true) }, icon('menu'), this.#unread.size > 0 && h('span', { class: 'chip' }, this.#unread.size)),
      h('h1', { key: 'title', class: 'cut', dir: 'auto', tabindex: -1 }, title),
      isSession && h('span', { key: 'mode', class: 'chip' }, icon(session['mode']), word('mode', session['mode'])),
      isSession && session['isPrivate'] && h('span', { key: 'private', class: 'chip' }, icon('lock'), t('session_private')),
      isSession && session['status'] !== 'active' && h('span', { key: 'status', class: 'chip' }, word('session_status', session['status'])),
      h('span', { key: 'grow', class: 'grow' }),
      isSession && session['forkedFrom'] && h('a', { key: 'fork', class: 'small wide', href: addressOf({ sessionId: session['forkedFrom'].sessionId, message: session['forkedFrom'].messageId }) }, t('session_fork')),
      isSession && session['prompt'] && h('button', { key: 'prompt', type: 'button', class: 'bare', onclick: () => this.#router.change({ panel: `prompt:${session['prompt'].promptId}` }) }, icon('prompt'), h('bdi', { class: 'wide' }, session['prompt'].name)),
      isSession && session['buildId'] && h('button', { key: 'build', type: 'button', class: 'bare', onclick: () => this.#router.change({ panel: `build:${session['buildId']}` }) }, icon('build'), t('build')),
      isSession && h('span', { key: 'bill', class: 'small muted wide', title: t('session_bill') }, t('unit_seconds', { count: session['billing'].aiSeconds })),
      isSession && menuButton({ label: t('session_actions'), icon: 'more', entries: () => this.#sessionEntries(session) }))
  }

  /** @param {Record<string, any>} session */
  #sessionEntries(session) {
    const [rename, ...others] = this.#list.entries(session)
    return [{ ...rename, run: () => this.#rename(session) }, ...others]
  }

  /** @param {Record<string, any>} session */
  #rename(session) {
    const title = /** @type {HTMLElement} */ (this.#top.querySelector('h1'))
    const save = (/** @type {string} */ name) => attempt(async () => {
      this.#onSession(await this.#client.patchSession(session['sessionId'], { name }))
      await this.#list.refresh()
    })
    renameInPlace(title, { name: session['name'], label: t('rename'), save: async name => void (await save(name)) })
  }

  #drawBars() {
    const { at } = this.#router.route
    const isLost = this.#connection !== 'open'
    patch(this.#bars,
      isLost && h('div', { key: 'lost', class: 'bar', role: 'status' }, icon('alert'), t(this.#connection === 'offline' ? 'bar_offline' : 'bar_lost')),
      at && h('div', { key: 'past', class: 'bar' }, icon('clock'),
        h('span', null, this.#moment ? t('bar_past', { time: date(this.#moment) }) : t('bar_past_somewhen')),
        h('button', { type: 'button', onclick: () => this.#router.change({ at: null }) }, t('bar_now'))))
  }

  #foots() {
    const { at } = this.#router.route
    this.#position = this.#feed?.position ?? null
    this.#scrubber.show({ projectId: this.#projectId, feed: this.#feed, at })
    const isTimed = this.#foot.dataset['time'] !== undefined
    const toggle = () => {
      this.#foot.toggleAttribute('data-time', !isTimed)
      this.#foots()
    }
    patch(this.#foot, this.#scrubber.node, this.#meter(),
      h('button', { key: 'time', type: 'button', class: 'bare icon narrow', 'aria-expanded': String(isTimed), 'aria-label': t('time_label'), title: t('time_label'), onclick: toggle }, icon('clock')),
      h('div', { key: 'settings', class: 'line wide' }, this.#settings()))
  }

  /** The language, the theme, the help and the way out: at the foot, and on a narrow screen in the drawer. */
  #settings() {
    /** @param {string} name @param {string} label @param {readonly string[]} values @param {string} value @param {(each: string) => string} textOf @param {(each: string) => void} choose */
    const select = (name, label, values, value, textOf, choose) => h('select', { key: name, 'data-setting': name, 'aria-label': label, title: label, onchange: (/** @type {any} */ event) => choose(event.target.value) },
      values.map(each => h('option', { value: each, selected: each === value, lang: name === 'locale' ? each : null }, textOf(each))))
    return [
      select('locale', t('language'), LOCALES, locale(), each => Reflect.get(LOCALE_NAMES, each), each => void attempt(() => chooseLocale(each))),
      select('theme', t('theme'), THEMES, theme(), each => t(`theme_${each}`), useTheme),
      h('button', { key: 'help', type: 'button', class: 'bare icon', 'aria-label': t('keys_title'), title: t('keys_title'), onclick: () => void help() }, icon('help')),
      h('button', { key: 'out', type: 'button', class: 'bare', onclick: () => this.#signOut() }, t('sign_out')),
    ]
  }

  /** What there is, and what of it is reserved: hatched. */
  #meter() {
    const { creditedSeconds = 0, reservedSeconds = 0, availableSeconds = 0 } = this.#balance ?? {}
    const share = (/** @type {number} */ part) => Math.max(0, Math.min(1, part / Math.max(1, creditedSeconds))) * GAUGE_PX
    const gauge = svg('svg', { class: 'gauge', viewBox: `0 0 ${GAUGE_PX} 8`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('defs', null, svg('pattern', { id: 'hatched', width: 4, height: 8, patternUnits: 'userSpaceOnUse' }, svg('path', { d: 'M0 8 4 0' }))),
      svg('rect', { class: 'free', width: share(availableSeconds), height: 8 }),
      svg('rect', { class: 'held', x: share(availableSeconds), width: share(reservedSeconds), height: 8, fill: 'url(#hatched)' }))
    const title = t('meter', { available: number(availableSeconds), reserved: number(reservedSeconds) })
    return h('a', { key: 'meter', class: 'meter', href: addressOf({ projectId: this.#projectId, place: 'usage', at: this.#router.route.at }), title, 'data-available': availableSeconds, 'data-reserved': reservedSeconds },
      h('bdi', { class: 'wide' }, this.#userId), gauge, h('span', null, t('unit_seconds', { count: availableSeconds })))
  }

  // On a narrow screen -------------------------------------------------------------------------------

  /** Open or close the drawer with the sessions. @param {boolean} isOpen */
  #drawer(isOpen) {
    const isNarrow = matchMedia('(width < 700px)').matches
    const wasOpen = this.#side.dataset['open'] !== undefined
    const open = isOpen && isNarrow
    this.#side.toggleAttribute('data-open', open)
    this.#shade.hidden = !open
    for (const each of [this.#main, this.#foot, this.#panel]) each.inert = open
    this.#top.querySelector('.narrow')?.setAttribute('aria-expanded', String(open))
    if (open && !wasOpen) /** @type {HTMLElement | null} */ (this.#side.querySelector('select, input, a'))?.focus()
    if (!open && wasOpen) /** @type {HTMLElement | null} */ (this.#top.querySelector('.narrow'))?.focus()
  }
}

const help = () => attempt(async () => (await import('./help.js')).help())

/** @type {Record<string, string>} */
const PLACE_ICONS = { timeline: 'timeline', prompts: 'prompt', runs: 'run', usage: 'usage', log: 'log' }

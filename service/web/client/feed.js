/** A live timeline, of a project or of one session, read over as many connections as it takes. */
import { fold, NOTHING, past, positionIn, REPLY_EVENTS } from './fold.js'
import { ended, Followed, readStream, ThroughlineError } from './wire.js'

/**
 * @typedef {import('./sse.js').SseEvent} SseEvent
 * @typedef {{sessionId: string} | {projectId: string}} Of
 * @typedef {object} How
 * @property {string} [after] the cursor after which the feed begins; without it the feed begins now
 * @property {number} [history] the number of newest items that `state` begins with, 50 unless said, where there is no `after`
 * @property {string} [locale]
 */

const MOST_OF_A_PAGE = 200

/**
 * The events that it dispatches: `event` (each change, once), `state` (after each change of `state`),
 * `connection` (`open`, `lost` or `offline`), `reset` (the service has another history, and `state`
 * begins again) and `end` (null, or the error).
 */
export class Feed extends Followed {
  /** What the events add up to. @type {import('./fold.js').State} */
  state = NOTHING
  /** Settles when `state` has its history. @type {Promise<void>} */
  ready
  #wire
  #of
  #how
  /** @type {string | null} */
  #cursor
  #hasHistory
  #resolve = () => {}
  #reject = (/** @type {unknown} */ _error) => {}

  /**
   * @param {import('./wire.js').Wire} wire
   * @param {Of} of
   * @param {How} [how]
   */
  constructor(wire, of, how = {}) {
    super()
    this.#wire = wire
    this.#of = of
    this.#how = how
    this.#cursor = how.after ?? null
    this.#hasHistory = how.after !== undefined || how.history === 0
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = () => resolve(undefined)
      this.#reject = reject
    })
    this.ready.catch(() => undefined)
    queueMicrotask(() => this.#run())
  }

  /** The cursor of the last event. Nothing up to it is missing. */
  get position() {
    return this.#cursor
  }

  /**
   * Read the page before the oldest item of `state`.
   * @param {number} [limit]
   * @returns {Promise<boolean>} whether there may be older items
   */
  async older(limit = 50) {
    await this.ready
    if (this.state.before === null) return false
    this.#take(await this.#read({ limit: Math.min(limit, MOST_OF_A_PAGE), before: this.state.before }))
    return this.state.before !== null
  }

  /**
   * The state at an earlier moment, as far as what was loaded says it: no request is made for it.
   * @param {string} at a cursor or a position
   * @returns {ReturnType<typeof past> | null} null where only the service can say it
   */
  past(at) {
    if (this.#cursor === null || !this.#hasHistory || positionIn(at) > positionIn(this.#cursor)) return null
    // A cursor that was not loaded may be of an event that the log lost.
    const isKnown = !at.includes('.') || at === this.#cursor || this.state.items.some(each => each.cursor === at)
    return isKnown ? past(this.state, at) : null
  }

  close() {
    this.#reject(new ThroughlineError('closed', { detail: 'The client stopped reading.' }))
    super.close()
  }

  async #run() {
    try {
      await readStream({
        open: signal => this.#open(signal),
        take: event => this.#hear(event),
        onConnection: state => this.connected(state),
        signal: this.signal,
        mayRest: true
      })
      this.#over(null)
    } catch (error) {
      if (!this.signal.aborted) this.#over(error)
    }
  }

  /** @param {AbortSignal} signal */
  async #open(signal) {
    try {
      return await this.#begin(signal)
    } catch (error) {
      const codes = ['cursor_of_another_log', 'position_not_in_log']
      if (!(error instanceof ThroughlineError && codes.includes(error.code) && this.#cursor)) throw error
      this.#cursor = null
      this.#hasHistory = this.#how.history === 0
      this.#become(NOTHING)
      this.emit('reset')
      return await this.#begin(signal)
    }
  }

  /** @param {AbortSignal} signal */
  async #begin(signal) {
    const query = { userId: await this.#wire.userId(), replies: true, after: this.#cursor, locale: this.#how.locale }
    const newest = { limit: Math.min(this.#how.history ?? 50, MOST_OF_A_PAGE) }
    const early = this.#hasHistory ? null : this.#read(newest).catch(() => null)
    const answer = await this.#wire.send('GET', `${this.#path}/stream`, {
      query, headers: { Accept: 'text/event-stream' }, signal
    })
    this.#cursor ??= answer.headers.get('X-Log-Cursor')
    if (!this.#hasHistory) {
      // A page from before the stream is read again, so nothing falls between them.
      const begin = positionIn(this.#cursor)
      const page = await early
      this.#take(page !== null && page.at >= begin ? page : await this.#read(newest, begin))
    }
    this.#hasHistory = true
    this.#resolve()
    return answer
  }

  /**
   * @param {Record<string, any>} query
   * @param {number} [least] the position of the log that the page must include
   */
  async #read(query, least = 0) {
    const path = 'sessionId' in this.#of ? `${this.#path}/messages` : this.#path
    const all = { ...query, userId: await this.#wire.userId(), locale: this.#how.locale, minPosition: least || undefined }
    const answer = await this.#wire.repeated('GET', path, { query: all, signal: this.signal })
    const page = await answer.json()
    const at = Number(answer.headers.get('X-Log-Position') ?? 0)
    return { ...page, at }
  }

  /** @param {any} page */
  #take(page) {
    this.#become(fold(this.state, { event: 'page', data: page }))
  }

  get #path() {
    return 'sessionId' in this.#of
      ? `/v1/sessions/${encodeURIComponent(this.#of.sessionId)}`
      : `/v1/project/${encodeURIComponent(this.#of.projectId)}/timeline`
  }

  /**
   * @param {SseEvent} event
   * @returns {Promise<'end' | 'next' | 'again' | 'gap' | undefined>}
   */
  async #hear(event) {
    const { event: name, data, id } = event
    if (name === 'renew') return (await this.#wire.renew(data.expiresAt)) ? 'next' : undefined
    if (name === 'goaway' && !data.messageId) {
      if (data.reason === 'removed' || data.reason === 'erased') throw ended(data.reason)
      return 'again'
    }
    if (id) {
      if (positionIn(id) <= positionIn(this.#cursor)) return
      // The event names the one before it. That one was read, or is older than all that was asked for.
      if (this.#cursor && positionIn(data.prev) > positionIn(this.#cursor)) return 'gap'
      this.#cursor = id
    } else if (!REPLY_EVENTS.has(name) && name !== 'goaway') return
    this.#become(fold(this.state, event))
    await this.pass(event)
  }

  /** @param {import('./fold.js').State} state */
  #become(state) {
    if (state === this.state) return
    this.state = state
    this.emit('state', state)
  }

  /** @param {unknown} error */
  #over(error) {
    if (error !== null) this.#reject(error)
    this.over(error)
    this.emit('end', error)
  }
}

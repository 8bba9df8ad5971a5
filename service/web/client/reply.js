/** A reply, read over as many connections as it takes. */
import { foldReply, NO_REPLY, numberIn } from './fold.js'
import { ended, Followed, readStream, ThroughlineError } from './wire.js'

/**
 * @typedef {import('./sse.js').SseEvent} SseEvent
 * @typedef {object} Message a message to be sent, under a key that makes it one message however often it is sent
 * @property {string} path
 * @property {Record<string, any>} body
 * @property {string} key
 * @property {Promise<void>} before settles when the messages before this one are out of the way
 * @property {(isKept: boolean) => void} settled called when this message is out of the way: stored, refused, or kept for later
 */

/**
 * The events that it dispatches: `event` (each event of the stream, once), `state` (after each change),
 * `connection` (`open`, `lost` or `offline`) and `end` (null, or the error).
 */
export class Reply extends Followed {
  /** What the events add up to. @type {import('./fold.js').ReplyState} */
  state = NO_REPLY
  /** The final envelope. It rejects where there is none: refused, erased, or closed before the end. @type {Promise<any>} */
  done
  #wire
  /** @type {Message | null} */
  #message
  /** @type {string | null} */
  #messageId
  /** The number of the last event. */
  #last
  #named
  #name = (/** @type {string} */ _messageId) => {}
  #resolve = (/** @type {any} */ _envelope) => {}
  #reject = (/** @type {unknown} */ _error) => {}

  /**
   * @param {import('./wire.js').Wire} wire
   * @param {{message: Message} | {messageId: string, after?: string | undefined}} of
   */
  constructor(wire, of) {
    super()
    this.#wire = wire
    this.#message = 'message' in of ? of.message : null
    this.#messageId = 'messageId' in of ? of.messageId : null
    this.#last = 'messageId' in of ? numberIn(of.after) : 0
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#named = new Promise(resolve => { this.#name = resolve })
    if (this.#messageId) this.#name(this.#messageId)
    this.done.catch(() => undefined)
    queueMicrotask(() => this.#read())
  }

  /** The id of the reply, as soon as the service has stored the message. */
  get messageId() {
    return this.#messageId
  }

  get sessionId() {
    return this.state.sessionId
  }

  /** The id of the last event that was read, with which `join` goes on. */
  get lastEventId() {
    return this.#last ? `${this.#messageId}.${this.#last}` : null
  }

  /** End the reply with what it has shown. The service keeps and bills that part. */
  async cancel() {
    const id = await Promise.race([this.#named, this.done.then(() => null, () => null)])
    if (id === null) return
    await this.#wire.json('POST', `/v1/chat-plan/replies/${encodeURIComponent(id)}/cancel`, {
      query: { userId: await this.#wire.userId() }
    })
  }

  close() {
    this.#message?.settled(this.#messageId === null)
    this.#reject(new ThroughlineError('closed', { detail: 'The client stopped reading. The reply goes on.' }))
    super.close()
  }

  async #read() {
    try {
      const how = await readStream({
        open: signal => this.#open(signal),
        take: event => this.#take(event),
        onConnection: state => this.connected(state),
        signal: this.signal
      })
      if (how === 'empty') await this.#readEnd()
      this.#over(null)
    } catch (error) {
      if (this.signal.aborted) return
      this.#message?.settled(false)
      const problem = error instanceof ThroughlineError ? error.problem ?? { code: error.code, detail: error.detail } : null
      this.#become({ ...this.state, status: 'error', problem })
      this.#over(error)
    }
  }

  /** @param {AbortSignal} signal */
  async #open(signal) {
    const userId = await this.#wire.userId()
    const headers = { Accept: 'text/event-stream' }
    if (this.#messageId) {
      return await this.#wire.send('GET', `/v1/chat-plan/replies/${encodeURIComponent(this.#messageId)}/stream`, {
        query: { userId, after: this.lastEventId }, headers, signal
      })
    }
    const { path, body, key, before } = /** @type {Message} */ (this.#message)
    await before
    const answer = await this.#wire.send('POST', path, {
      body: { userId, ...body }, headers: { ...headers, 'Idempotency-Key': key }, signal
    })
    this.#messageId = (answer.headers.get('Location') ?? '').split('/').pop() || null
    if (this.#messageId) this.#stored(this.#messageId)
    return answer
  }

  /** @param {string} messageId */
  #stored(messageId) {
    this.#messageId = messageId
    this.#name(messageId)
    this.#message?.settled(false)
  }

  /**
   * @param {SseEvent} event
   * @returns {Promise<'end' | 'next' | 'again' | 'gap' | undefined>}
   */
  async #take(event) {
    const { event: name, data, id } = event
    if (name === 'renew') return (await this.#wire.renew(data.expiresAt)) ? 'next' : undefined
    if (name === 'goaway') {
      if (data.reason === 'removed' || data.reason === 'erased') throw ended(data.reason)
      return 'again'
    }
    const number = numberIn(id)
    if (!id || number <= this.#last) return
    if (name !== 'snapshot' && number !== this.#last + 1) return 'gap'
    if (name === 'accepted' && !this.#messageId) this.#stored(data.messageId)
    const state = foldReply(this.state, event)
    this.#last = number
    this.#become(state)
    await this.pass(event)
    return name === 'final' ? 'end' : undefined
  }

  /** The end of a reply whose final event the caller had already. */
  async #readEnd() {
    const id = encodeURIComponent(this.#messageId ?? '')
    const { final } = await this.#wire.json('GET', `/v1/chat-plan/replies/${id}`, { query: { userId: await this.#wire.userId() } })
    this.#become(foldReply(this.state, { event: 'final', data: final }))
  }

  /** @param {import('./fold.js').ReplyState} state */
  #become(state) {
    this.state = state
    this.emit('state', state)
  }

  /** @param {unknown} error */
  #over(error) {
    if (error !== null) this.#reject(error)
    else this.#resolve(this.state.envelope)
    this.over(error)
    this.emit('end', error)
  }
}

/**
 * Requests to the service: tokens, retries, and the reading of streams over connections that break.
 *
 * @typedef {import('./sse.js').SseEvent} SseEvent
 * @typedef {{token: string, expiresAt?: string | number}} Renewed
 * @typedef {object} Sent
 * @property {Record<string, any>} [query]
 * @property {any} [body]
 * @property {Record<string, string | undefined>} [headers]
 * @property {AbortSignal} [signal]
 */
import { EventParser } from './sse.js'

/** Milliseconds. Tests make them shorter. */
export const TIMES = {
  /** The first pause before another attempt; it doubles with each one. */
  pause: 1_000,
  longestPause: 30_000,
  /** The longest `Retry-After` that the client waits for by itself. */
  patience: 30_000,
  /** A stream that says nothing for so long is dead: the service writes every ten seconds. */
  silence: 25_000,
  /** The longest wait for the head of an answer. */
  answer: 60_000,
  /** A token is renewed this long before it expires, or after three quarters of a shorter life. */
  margin: 30_000
}

/** The attempts of a call. A stream and a message in the outbox are tried without end. */
const ATTEMPTS = 5
const AGAIN = new Set([408, 425, 429, 502, 503, 504])

/** A refusal of the service, or a failure to reach it: then `status` is 0. */
export class ThroughlineError extends Error {
  /**
   * @param {string} code the stable code of the problem
   * @param {{status?: number, title?: string, detail?: string, problem?: any, retryAfter?: number | null, cause?: unknown}} [of]
   */
  constructor(code, { status = 0, title = '', detail = '', problem = null, retryAfter = null, cause } = {}) {
    super(detail || title || code, { cause })
    this.name = 'ThroughlineError'
    this.status = status
    this.code = code
    this.title = title
    this.detail = detail
    /** The problem detail as the service sent it (RFC 9457), or null. */
    this.problem = problem
    /** Milliseconds, or null. */
    this.retryAfter = retryAfter
  }

  /** Whether the same request may succeed soon. */
  get isPassing() {
    return this.status === 0 ? this.code === 'unreachable' : AGAIN.has(this.status) && (this.retryAfter ?? 0) <= TIMES.patience
  }
}

/** An error for a stream that cannot go on. @param {string} reason */
export function ended(reason) {
  return new ThroughlineError(reason, { status: reason === 'removed' ? 403 : 410, detail: `The stream has ended: ${reason}.` })
}

/**
 * Wait, but not longer than until the network is back or the signal aborts.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      globalThis.removeEventListener?.('online', done)
      resolve()
    }
    const timer = setTimeout(done, milliseconds)
    signal?.addEventListener('abort', done)
    globalThis.addEventListener?.('online', done)
    if (signal?.aborted) done()
  })
}

/**
 * The pause before the next attempt: at least what the server asks for, and different for each client.
 * @param {number} failures
 * @param {number} least
 */
function backoff(failures, least) {
  const most = Math.min(TIMES.longestPause, TIMES.pause * 2 ** (failures - 1))
  return Math.max(least, most * (0.5 + Math.random() / 2))
}

/** Whether the device says that it has no network. It may be wrong, so it stops no attempt. */
export function isOffline() {
  return globalThis.navigator?.onLine === false
}

/** A token of one user, renewed ahead of its expiry. No clock of the device is compared with one of the server. */
class Tokens {
  /** @type {string | null} */
  #token
  /** @type {(() => Promise<Renewed>) | null} */
  #renew
  /** The moment to renew at, by the monotonic clock. */
  #until = Infinity
  /** @type {Promise<void> | null} */
  #renewing = null

  /**
   * @param {string | undefined} token
   * @param {(() => Promise<Renewed>) | null} renew
   */
  constructor(token, renew) {
    this.#token = token ?? null
    this.#renew = renew
  }

  /** The user of the token, or null. @returns {string | null} */
  get userId() {
    return this.#claims()?.sub ?? null
  }

  /** @returns {Promise<string | null>} */
  async get() {
    if (this.#renew && (this.#token === null || performance.now() >= this.#until)) await this.renew(this.#token)
    return this.#token
  }

  /**
   * Get a token in place of `old`. Of calls at the same time one asks.
   * @param {string | null} old
   * @returns {Promise<boolean>} whether there is a way to get one
   */
  async renew(old) {
    if (this.#renew && this.#token === old) {
      this.#renewing ??= this.#ask().finally(() => { this.#renewing = null })
      await this.#renewing
    }
    return this.#renew !== null
  }

  /** @param {number} expiresAt */
  async outlive(expiresAt) {
    const isOld = () => !((this.#claims()?.exp ?? 0) > expiresAt)
    return !isOld() || ((await this.renew(this.#token)) && !isOld())
  }

  async #ask() {
    const asked = performance.now()
    const { token } = await /** @type {() => Promise<Renewed>} */ (this.#renew)()
    this.#token = token
    const claims = this.#claims()
    // The life of the token is a difference of two moments of the server's own clock.
    const life = claims?.exp > claims?.iat ? (claims.exp - claims.iat) * 1000 : Infinity
    this.#until = asked + life - Math.min(TIMES.margin, life / 4)
  }

  #claims() {
    try {
      const [, middle = ''] = (this.#token ?? '').split('.')
      const bytes = Uint8Array.from(atob(middle.replaceAll('-', '+').replaceAll('_', '/')), each => each.charCodeAt(0))
      return JSON.parse(new TextDecoder().decode(bytes))
    } catch {
      return null
    }
  }
}

/** Sends requests with a token. */
export class Wire {
  #tokens
  #url
  #userId
  /** The position of the last write: later reads include it. */
  #written = 0

  /** @param {{url: string, userId?: string | undefined, token?: string | undefined, renew?: (() => Promise<Renewed>) | null | undefined}} of */
  constructor({ url, userId, token, renew }) {
    this.#url = url.replace(/\/$/, '')
    this.#userId = userId ?? null
    const ofSession = () => this.#once('POST', '/v1/browser-sessions/token', { body: {} }, null).then(answer => answer.json())
    this.#tokens = new Tokens(token, renew === undefined && token === undefined ? ofSession : renew ?? null)
  }

  /** The user, as far as is known before a request. @returns {string | null} */
  get knownUserId() {
    return this.#userId ?? this.#tokens.userId
  }

  /** The user that the requests are of. @returns {Promise<string>} */
  async userId() {
    if (this.knownUserId === null) await this.#tokens.get()
    if (this.knownUserId === null) throw new TypeError('The client needs a userId.')
    return this.knownUserId
  }

  /**
   * A call that answers JSON, repeated while the service asks for that.
   * @param {string} method
   * @param {string} path
   * @param {Sent} [sent]
   * @returns {Promise<any>} the JSON; null where there is none
   */
  async json(method, path, sent = {}) {
    const answer = await this.repeated(method, path, sent)
    const text = await this.#text(answer)
    return text && answer.headers.get('Content-Type')?.includes('json') ? JSON.parse(text) : text || null
  }

  /**
   * The answer to a call, repeated while the service asks for that. A write has a key, so it happens once.
   * @param {string} method
   * @param {string} path
   * @param {Sent} [sent]
   */
  async repeated(method, path, sent = {}) {
    const isRead = method === 'GET'
    let headers = isRead ? sent.headers ?? {} : { 'Idempotency-Key': newKey(), ...sent.headers }
    for (let failures = 1; ; failures++) {
      if (isRead && this.#written) headers = { 'X-Min-Position': `${this.#written}`, ...headers }
      try {
        const answer = await this.send(method, path, { ...sent, headers })
        if (!isRead) this.#written = Math.max(this.#written, Number(answer.headers.get('X-Log-Position') ?? 0))
        return answer
      } catch (error) {
        if (!(error instanceof ThroughlineError)) throw error
        // The service has another history than before, after a restore.
        const isForgotten = error.code === 'position_not_in_log' && this.#written > 0
        if (isForgotten) {
          this.#written = 0
          const { 'X-Min-Position': _, ...others } = headers
          headers = others
        }
        if (failures === ATTEMPTS || !(isForgotten || error.isPassing)) throw error
        await pause(isForgotten ? 0 : backoff(failures, error.retryAfter ?? 0), sent.signal)
        sent.signal?.throwIfAborted()
      }
    }
  }

  /**
   * One request, and one more with another token where the service refuses the first token.
   * @param {string} method
   * @param {string} path
   * @param {Sent} [sent]
   * @returns {Promise<Response>}
   */
  async send(method, path, sent = {}) {
    const token = await this.#tokens.get()
    try {
      return await this.#once(method, path, sent, token)
    } catch (error) {
      const isRefused = error instanceof ThroughlineError && error.status === 401
      if (!isRefused || token === null || !(await this.#tokens.renew(token))) throw error
      return await this.#once(method, path, sent, await this.#tokens.get())
    }
  }

  /**
   * Get another token, because the service says that the token of a stream expires.
   * @param {number} expiresAt Unix seconds of the service
   * @returns {Promise<boolean>} whether there is a token that lives longer
   */
  async renew(expiresAt) {
    try {
      return await this.#tokens.outlive(expiresAt)
    } catch (error) {
      if (error instanceof ThroughlineError && error.isPassing) return false
      throw error
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Sent} sent
   * @param {string | null} token
   */
  async #once(method, path, { query = {}, body, headers = {}, signal }, token) {
    const search = new URLSearchParams()
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null && value !== '') search.append(name, String(value))
    }
    const all = new Headers({ Accept: 'application/json' })
    for (const [name, value] of Object.entries(headers)) if (value) all.set(name, value)
    if (token !== null) all.set('Authorization', `Bearer ${token}`)
    if (body !== undefined) all.set('Content-Type', 'application/json')
    const tooLate = new AbortController()
    const timer = setTimeout(() => tooLate.abort(), TIMES.answer)
    const signals = signal ? [signal, tooLate.signal] : [tooLate.signal]
    let answer
    try {
      answer = await fetch(`${this.#url}${path}${search.size ? `?${search}` : ''}`, {
        method,
        headers: all,
        body: body === undefined ? null : JSON.stringify(body),
        signal: AbortSignal.any(signals),
        cache: 'no-store'
      })
    } catch (cause) {
      if (signal?.aborted) throw cause
      throw new ThroughlineError('unreachable', { detail: 'The service cannot be reached.', cause })
    } finally {
      clearTimeout(timer)
    }
    if (answer.ok || answer.status === 304) return answer
    throw await refusal(answer)
  }

  /** The text of an answer. @param {Response} answer */
  async #text(answer) {
    try {
      return await answer.text()
    } catch (cause) {
      broken(cause)
    }
  }
}

/** @param {Response} answer */
async function refusal(answer) {
  const problem = await answer.json().catch(() => null)
  const after = answer.headers.get('Retry-After')
  const seconds = after === null ? NaN : Number(after)
  return new ThroughlineError(problem?.code ?? 'refused', {
    status: answer.status,
    title: problem?.title ?? answer.statusText,
    detail: problem?.detail ?? '',
    problem,
    retryAfter: Number.isFinite(seconds) ? seconds * 1000 : null
  })
}

/** A key for a write, which no other write has. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), each => each.toString(16).padStart(2, '0')).join('')
}

/**
 * Read a stream over as many connections as it takes.
 *
 * `open` makes the next request, and `take` takes each event. It returns `end` for the last event,
 * `next` where the stream goes on at once with another connection, `again` where it goes on after a
 * pause, and `gap` where an event is missing before this one.
 * @param {object} of
 * @param {(signal: AbortSignal) => Promise<Response>} of.open
 * @param {(event: SseEvent) => Promise<'end' | 'next' | 'again' | 'gap' | undefined>} of.take
 * @param {(state: 'open' | 'lost' | 'offline') => void} of.onConnection
 * @param {AbortSignal} of.signal
 * @returns {Promise<'end' | 'empty' | 'closed'>} `empty` where the server has no more events
 */
export async function readStream({ open, take, onConnection, signal }) {
  let failures = 0
  let gaps = 0
  while (!signal.aborted) {
    const connection = new AbortController()
    const both = AbortSignal.any([signal, connection.signal])
    let wait = 0
    let isAtOnce = false
    try {
      const answer = await open(both)
      if (answer.status === 204 || !answer.body) return 'empty'
      if (!answer.headers.get('Content-Type')?.startsWith('text/event-stream')) {
        throw new ThroughlineError('unreachable', { detail: 'The answer is not a stream. Something between here and the service answered.' })
      }
      onConnection('open')
      const parser = new EventParser()
      for await (const events of parsed(answer.body, parser, connection)) {
        wait = parser.retry ?? 0
        let verdict
        for (const event of events) {
          verdict = await take(event)
          if (verdict) break
          failures = gaps = 0
        }
        if (verdict === 'end') return 'end'
        if (verdict === 'gap' && ++gaps === ATTEMPTS) throw ended('incomplete')
        isAtOnce = verdict === 'next'
        if (verdict) break
      }
    } catch (error) {
      if (signal.aborted) return 'closed'
      if (!(error instanceof ThroughlineError && error.isPassing)) throw error
      wait = error.retryAfter ?? wait
    } finally {
      connection.abort()
    }
    if (signal.aborted) break
    if (isAtOnce) continue
    failures++
    onConnection(isOffline() ? 'offline' : 'lost')
    await pause(backoff(failures, Math.min(wait, TIMES.patience)), signal)
  }
  return 'closed'
}

/**
 * The events of a body, as they come. A body that is silent for too long is aborted.
 * @param {ReadableStream<Uint8Array>} body
 * @param {EventParser} parser
 * @param {AbortController} connection
 */
async function* parsed(body, parser, connection) {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  try {
    while (true) {
      const silence = setTimeout(() => connection.abort(), TIMES.silence)
      const { done, value } = await reader.read().catch(broken).finally(() => clearTimeout(silence))
      if (done) return
      yield parser.feed(decoder.decode(value, { stream: true }))
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}

/**
 * @param {unknown} cause
 * @returns {never}
 */
function broken(cause) {
  throw new ThroughlineError('unreachable', { detail: 'The connection broke.', cause })
}

/**
 * What a client reads of a stream: an EventTarget, and an iterable of the same events.
 *
 * The iterable keeps the events that wait for its reader, up to a bound: then the stream waits too.
 * Without a reader nothing waits.
 */
export class Followed extends EventTarget {
  #stop = new AbortController()
  /** @type {SseEvent[]} */
  #waiting = []
  #hasReader = false
  #isMissing = false
  #isOver = false
  /** @type {unknown} */
  #error = null
  #wake = () => {}
  #free = () => {}
  /** @type {'open' | 'lost' | 'offline' | 'waiting'} */
  connection = 'waiting'

  /** Aborts when the reader has closed. @protected */
  get signal() {
    return this.#stop.signal
  }

  /** Stop reading. What the service does goes on. */
  close() {
    this.#stop.abort()
    this.over(null)
    this.#free()
  }

  /**
   * @protected
   * @param {string} type
   * @param {any} [detail]
   */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  /** @protected @param {'open' | 'lost' | 'offline'} state */
  connected(state) {
    if (state === this.connection) return
    this.connection = state
    this.emit('connection', state)
  }

  /** @protected @param {SseEvent} event */
  async pass(event) {
    this.emit('event', event)
    this.#waiting.push(event)
    this.#wake()
    if (this.#waiting.length < 1_000) return
    if (this.#hasReader) await new Promise(resolve => { this.#free = () => resolve(undefined) })
    else {
      this.#isMissing = true
      this.#waiting = []
    }
  }

  /** @protected @param {unknown} error */
  over(error) {
    if (this.#isOver) return
    this.#isOver = true
    this.#error = error
    this.#wake()
  }

  /** @returns {AsyncGenerator<SseEvent, void, void>} */
  async *[Symbol.asyncIterator]() {
    if (this.#isMissing) throw new RangeError('Iterate over the events from the beginning: the first ones are gone.')
    this.#hasReader = true
    try {
      while (true) {
        const event = this.#waiting.shift()
        if (event) yield event
        else if (this.#isOver) break
        else {
          this.#free()
          await new Promise(resolve => { this.#wake = () => resolve(undefined) })
        }
      }
      if (this.#error !== null) throw this.#error
    } finally {
      this.#hasReader = false
      this.#free()
    }
  }
}

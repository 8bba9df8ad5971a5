/**
 * Throughline's client for browsers and Node 20 or newer, without dependencies. docs/client.md shows its use.
 *
 * @typedef {import('./fold.js').State} State
 * @typedef {import('./fold.js').ReplyState} ReplyState
 * @typedef {import('./fold.js').Item} Item
 * @typedef {Record<string, any>} Json
 *
 * @typedef {object} Chat a message; further members of the call's body, such as `versionId`, may stand beside these
 * @property {string} message
 * @property {string} [projectId]
 * @property {string} [sessionId]
 * @property {string} [chatMode]
 * @property {string} [locale]
 * @property {'reject' | 'enqueue' | 'interrupt'} [onBusy]
 */
import { Feed } from './feed.js'
import { Outbox } from './outbox.js'
import { Reply } from './reply.js'
import { newKey, ThroughlineError, Wire } from './wire.js'

export { fold, foldReply, mainText, NO_REPLY, NOTHING, past, positionIn } from './fold.js'
export { EventParser } from './sse.js'
export { Feed, newKey, Reply, ThroughlineError }

const encode = encodeURIComponent

export class Throughline {
  #wire
  #url
  /** The messages that are being sent. @type {Map<string, Reply>} */
  #sending = new Map()
  /** Settles when the last message is out of the way: messages go out in their order. @type {Promise<void>} */
  #last = Promise.resolve()

  /**
   * Without `token` and `renew` the client gets its tokens from the browser session of the page. With `renew`
   * null it sends no token: a server between the client and the service signs.
   * @param {object} [of]
   * @param {string} [of.url] the address of the service; without it the page's own
   * @param {string} [of.userId] the user; without it the user of the token
   * @param {string} [of.token]
   * @param {(() => Promise<import('./wire.js').Renewed>) | null} [of.renew] called before the token expires, and after a 401
   */
  constructor({ url = '', userId, token, renew } = {}) {
    this.#url = url
    this.#wire = new Wire({ url, userId, token, renew })
  }

  /** The address of the service, or '' where it is that of the page. */
  get url() {
    return this.#url
  }

  /** The user that the client acts for. @returns {Promise<string>} */
  userId() {
    return this.#wire.userId()
  }

  // Any call ---------------------------------------------------------------------------------------

  /** @param {string} path @param {Json} [query] @param {{signal?: AbortSignal, headers?: Record<string, string>}} [how] @returns {Promise<any>} */
  get(path, query = {}, how = {}) {
    return this.#wire.json('GET', path, { query, ...how })
  }

  /** @param {string} path @param {any} [body] @param {Writing} [how] @returns {Promise<any>} */
  post(path, body, how) {
    return this.#write('POST', path, body, how)
  }

  /** @param {string} path @param {any} body @param {Writing} [how] @returns {Promise<any>} */
  patch(path, body, how) {
    return this.#write('PATCH', path, body, how)
  }

  /** @param {string} path @param {Writing} [how] @returns {Promise<any>} */
  delete(path, how) {
    return this.#write('DELETE', path, undefined, how)
  }

  /**
   * @typedef {{idempotencyKey?: string, etag?: string | null, query?: Json, signal?: AbortSignal}} Writing
   * @param {string} method @param {string} path @param {any} body @param {Writing} [how]
   * @returns {Promise<any>}
   */
  #write(method, path, body, { idempotencyKey, etag, query, signal } = {}) {
    const headers = { 'Idempotency-Key': idempotencyKey ?? newKey(), 'If-Match': etag ?? undefined }
    return this.#wire.json(method, path, { body, headers, ...(query && { query }), ...(signal && { signal }) })
  }

  /** A read for the user. @param {string} path @param {Json} [query] @returns {Promise<any>} */
  async #mine(path, query = {}) {
    return await this.get(path, { userId: await this.userId(), ...query })
  }

  /** A write of the user. @param {string} path @param {Json} [body] @param {Writing} [how] @returns {Promise<any>} */
  async #act(path, body = {}, how) {
    return await this.post(path, { userId: await this.userId(), ...body }, how)
  }

  /** A write that has the user in its query. @param {string} method @param {string} path @returns {Promise<any>} */
  async #order(method, path) {
    return await this.#write(method, path, undefined, { query: { userId: await this.userId() } })
  }

  // Replies and timelines --------------------------------------------------------------------------

  /**
   * Send a message, once, whatever happens to the connection. Its reply comes over as many connections as it takes.
   * @param {Chat} chat
   * @returns {Reply}
   */
  chat(chat) {
    const { sessionId, ...said } = chat
    // Behind a message that is not out yet, this one waits for its reply too.
    const rest = this.#sending.size ? { onBusy: 'enqueue', ...said } : said
    if (sessionId === undefined) return this.#say(newKey(), '/v1/chat-plan', rest)
    const { projectId: _, ...body } = rest
    return this.#say(newKey(), `/v1/sessions/${encode(sessionId)}/messages`, body)
  }

  /** Send again what earlier pages of this user could not send. @returns {Reply[]} the replies, oldest first */
  resend() {
    const kept = this.#outbox?.list() ?? []
    return kept.map(({ key, path, body }) => this.#sending.get(key) ?? this.#say(key, path, body))
  }

  /** The messages that may not have been sent yet, oldest first. */
  unsent() {
    return this.#outbox?.list() ?? []
  }

  /** Do not send a message that `unsent` has. @param {string} key */
  discard(key) {
    this.#sending.get(key)?.close()
    this.#sending.delete(key)
    this.#outbox?.drop(key)
  }

  /** The outbox of the user, if it is known which user that is. */
  get #outbox() {
    const userId = this.#wire.knownUserId
    return userId === null ? null : new Outbox(this.#url, userId)
  }

  /** @param {string} key @param {string} path @param {Json} body */
  #say(key, path, body) {
    const outbox = this.#outbox
    const before = this.#last
    this.#last = new Promise(resolve => {
      const settled = (/** @type {boolean} */ isKept) => {
        this.#sending.delete(key)
        if (!isKept) outbox?.drop(key)
        resolve()
      }
      this.#sending.set(key, new Reply(this.#wire, { message: { path, body, key, before, settled } }))
    })
    outbox?.keep(key, path, body)
    return /** @type {Reply} */ (this.#sending.get(key))
  }

  /**
   * Read a reply that exists: from its beginning, or after the event with the id `after`.
   * @param {string} messageId
   * @param {{after?: string}} [how]
   * @returns {Reply}
   */
  join(messageId, { after } = {}) {
    return new Reply(this.#wire, { messageId, after })
  }

  /**
   * Follow the timeline of a project, or of one session, with the replies that are being written.
   * @param {string | {sessionId: string} | {projectId: string}} of
   * @param {import('./feed.js').How} [how]
   * @returns {Feed}
   */
  follow(of, how) {
    return new Feed(this.#wire, typeof of === 'string' ? { projectId: of } : of, how)
  }

  // Projects and sessions --------------------------------------------------------------------------

  /** @param {Json} [query] */
  projects(query) { return this.#mine('/v1/projects', query) }
  /** @param {string} id @param {Json} [query] */
  project(id, query) { return this.#mine(`/v1/projects/${encode(id)}`, query) }
  /** @param {string} id @param {Json} [query] */
  timeline(id, query) { return this.#mine(`/v1/project/${encode(id)}/timeline`, query) }
  /** The sessions of a project, or without `projectId` the user's own. @param {Json} [query] */
  sessions({ projectId, ...query } = {}) {
    return this.#mine(projectId ? `/v1/projects/${encode(projectId)}/sessions` : '/v1/sessions', query)
  }
  /** @param {string} id @param {Json} [query] */
  session(id, query) { return this.#mine(`/v1/sessions/${encode(id)}`, query) }
  /** @param {Json} body */
  openSession(body) { return this.#act('/v1/sessions', body) }
  /** @param {string} id @param {Json} body @param {string | null} [etag] */
  async patchSession(id, body, etag = null) {
    return await this.patch(`/v1/sessions/${encode(id)}`, { userId: await this.userId(), ...body }, { etag })
  }
  /** @param {string} id */
  deleteSession(id) { return this.#order('DELETE', `/v1/sessions/${encode(id)}`) }
  /** @param {string[]} sessionIds @param {'archive' | 'restore' | 'delete'} action */
  batchSessions(sessionIds, action) { return this.#act('/v1/sessions/batch', { sessionIds, action }) }
  /** @param {string} id @param {Json} [query] */
  messages(id, query) { return this.#mine(`/v1/sessions/${encode(id)}/messages`, query) }
  /** Append a message without asking the model. @param {string} id @param {Json} body */
  append(id, body) { return this.#act(`/v1/sessions/${encode(id)}/messages`, { ...body, reply: false }) }
  /** @param {string} id @param {Json} body */
  instruct(id, body) { return this.#act(`/v1/sessions/${encode(id)}/instructions`, body) }
  /** @param {string} id @param {string} messageId @param {Json} [body] */
  fork(id, messageId, body) { return this.#act(`/v1/sessions/${encode(id)}/fork`, { messageId, ...body }) }
  /** @param {string} id @param {Json} [query] @returns {Promise<any>} text, or JSON by `format` */
  exportSession(id, query) { return this.#mine(`/v1/sessions/${encode(id)}/export`, query) }
  /** @param {string} projectId @param {string} q @param {Json} [query] */
  search(projectId, q, query) { return this.#mine(`/v1/projects/${encode(projectId)}/search`, { q, ...query }) }

  // Money ------------------------------------------------------------------------------------------

  /** The balance of the user. @param {Json} [query] */
  async balance(query) { return await this.get(`/v1/billing/accounts/${encode(await this.userId())}`, query) }
  /** The ledger of the user, newest first. @param {Json} [query] */
  async consumption(query) { return await this.get(`/v1/billing/accounts/${encode(await this.userId())}/consumption`, query) }
  /** @param {string} projectId */
  estimate(projectId) { return this.#mine('/v1/estimates', { projectId }) }
  /** @param {string} projectId @param {Json} [query] */
  analytics(projectId, query) { return this.#mine(`/v1/projects/${encode(projectId)}/analytics`, query) }

  // What can be done with a reply ------------------------------------------------------------------

  /** @param {string} replyId */
  reply(replyId) { return this.#mine(`/v1/chat-plan/replies/${encode(replyId)}`) }
  /** @param {string} replyId */
  cancelReply(replyId) { return this.#order('POST', `/v1/chat-plan/replies/${encode(replyId)}/cancel`) }
  /** @param {string} replyId */
  save(replyId) { return this.#order('POST', `/v1/chat-plan/replies/${encode(replyId)}/save`) }
  /** @param {string} replyId @param {Json} [body] */
  share(replyId, body) { return this.#act(`/v1/chat-plan/replies/${encode(replyId)}/share`, body) }
  /** @param {string} replyId @param {Json} [body] */
  accept(replyId, body) { return this.#act(`/v1/chat-plan/replies/${encode(replyId)}/accept`, body) }
  /** @param {string} replyId @param {Json} [query] @returns {Promise<any>} text, or JSON by `format` */
  exportReply(replyId, query) { return this.#mine(`/v1/chat-plan/replies/${encode(replyId)}/export`, query) }
  /** Turn the plan of a session into a build. @param {Json} body */
  convert(body) { return this.#act('/v1/chat-plan/convert-to-build', body) }

  // Builds and runs --------------------------------------------------------------------------------

  /** @param {string} projectId @param {Json} [query] */
  builds(projectId, query) { return this.#mine('/v1/builds', { projectId, ...query }) }
  /** @param {string} id @param {Json} [query] */
  build(id, query) { return this.#mine(`/v1/builds/${encode(id)}`, query) }
  /** @param {string} id @param {Json} [query] */
  buildEvents(id, query) { return this.#mine(`/v1/builds/${encode(id)}/events`, query) }
  /** @param {Json} body */
  orderBuild(body) { return this.#act('/v1/builds', body) }
  /** @param {string} id */
  cancelBuild(id) { return this.#order('POST', `/v1/builds/${encode(id)}/cancel`) }
  /** @param {string} projectId @param {Json} [query] */
  runs(projectId, query) { return this.#mine(`/v1/projects/${encode(projectId)}/runs`, query) }
  /** @param {string} id @param {Json} [query] */
  run(id, query) { return this.#mine(`/v1/runs/${encode(id)}`, query) }
  /** @param {string} id @param {Json} [query] */
  runSteps(id, query) { return this.#mine(`/v1/runs/${encode(id)}/steps`, query) }
  /** @param {string} id @param {Json} [query] */
  runCandidates(id, query) { return this.#mine(`/v1/runs/${encode(id)}/candidates`, query) }
  /** @param {Json} body */
  orderRun(body) { return this.#act('/v1/runs', body) }
  /** @param {string} id */
  cancelRun(id) { return this.#order('POST', `/v1/runs/${encode(id)}/cancel`) }
  /** @param {string} id @param {Json} [body] */
  discussRun(id, body) { return this.#act(`/v1/runs/${encode(id)}/discuss`, body) }

  // Prompts ----------------------------------------------------------------------------------------

  /** @param {string} projectId @param {Json} [query] */
  prompts(projectId, query) { return this.#mine(`/v1/projects/${encode(projectId)}/prompts`, query) }
  /** @param {string} id @param {Json} [query] */
  prompt(id, query) { return this.#mine(`/v1/prompts/${encode(id)}`, query) }
  /** @param {Json} body */
  createPrompt(body) { return this.#act('/v1/prompts', body) }
  /** @param {string} id @param {Json} body @param {string | null} [etag] */
  async patchPrompt(id, body, etag = null) {
    return await this.patch(`/v1/prompts/${encode(id)}`, { userId: await this.userId(), ...body }, { etag })
  }
  /** @param {string} id */
  deletePrompt(id) { return this.#order('DELETE', `/v1/prompts/${encode(id)}`) }
  /** @param {string} id @param {Json} [query] */
  promptVersions(id, query) { return this.#mine(`/v1/prompts/${encode(id)}/versions`, query) }
  /** @param {string} id @param {number} number */
  promptVersion(id, number) { return this.#mine(`/v1/prompts/${encode(id)}/versions/${number}`) }
  /** @param {string} id @param {number} number @param {number} against */
  diff(id, number, against) { return this.#mine(`/v1/prompts/${encode(id)}/versions/${number}/diff`, { against }) }
  /** @param {string} id @param {Json} body */
  saveVersion(id, body) { return this.#act(`/v1/prompts/${encode(id)}/versions`, body) }
}

/** The builds that a conversation shows, with what their workers reported. */

const EVERY_MS = 2_000

/** @typedef {{state: any, whole: any, events: any[], after: string | null}} Kept */

export class Builds {
  /** @type {Map<string, Kept>} */
  #builds = new Map()
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #onChange
  #isStopped = false
  /** @type {Map<string, any>} */
  #shown = new Map()

  /** @param {() => void} onChange called after a build was read */
  constructor(onChange) {
    this.#onChange = onChange
  }

  /**
   * A build with its events, as far as they were read. What the item says is read again when it changes.
   * At an earlier moment it is what the item says.
   * @param {any} state the build as an item has it
   * @param {import('../throughline.js').Throughline | null} client
   * @param {string | null} at
   */
  of(state, client, at) {
    if (at !== null) return state
    const id = state.buildId
    const known = this.#builds.get(id)
    if (!known || known.state.status !== state.status || known.state.phase !== state.phase) {
      const next = known ?? { state, whole: null, events: [], after: null }
      next.state = state
      this.#builds.set(id, next)
      this.#shown.set(id, { ...next.whole, ...state, events: next.events })
      if (client) void this.#read(client, id)
    }
    return this.#shown.get(id)
  }

  /** Read no more. */
  stop() {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  /** @param {import('../throughline.js').Throughline} client @param {string} id */
  async #read(client, id) {
    const kept = this.#builds.get(id)
    if (!kept) return
    try {
      const [whole, page] = await Promise.all([client.build(id), client.buildEvents(id, { limit: 500, after: kept.after })])
      kept.whole = whole
      kept.events = [...kept.events, ...page.events.filter((/** @type {any} */ each) => !kept.events.some(known => known.eventId === each.eventId))]
      kept.after = page.after ?? kept.after
      this.#shown.set(id, { ...whole, events: kept.events })
      this.#onChange()
    } catch {
      // The item still says what the build is.
    }
    const { status } = kept.whole ?? kept.state
    clearTimeout(this.#timer)
    if ((status === 'queued' || status === 'running') && !this.#isStopped) this.#timer = setTimeout(() => void this.#read(client, id), EVERY_MS)
  }
}

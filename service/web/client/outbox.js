/**
 * Messages that the service may not have yet, kept over a reload of the page.
 *
 * Each message has a place of its own, so tabs do not overwrite each other. A message that two tabs send
 * is one message, because both send it under its key.
 *
 * @typedef {{key: string, path: string, body: Record<string, any>, at: number}} Kept
 */
const MOST = 20
const LONGEST = 300_000

/** @returns {Storage | null} */
function storage() {
  try {
    return typeof document === 'undefined' ? null : globalThis.localStorage
  } catch {
    return null
  }
}

/** The outbox of one user at one service. */
export class Outbox {
  #prefix

  /** @param {string} url @param {string} userId */
  constructor(url, userId) {
    this.#prefix = `throughline.outbox:${url}:${userId}:`
  }

  /** The messages, oldest first. @returns {Kept[]} */
  list() {
    const store = storage()
    /** @type {Kept[]} */
    const kept = []
    for (let n = 0; store && n < store.length; n++) {
      const name = store.key(n)
      if (!name?.startsWith(this.#prefix)) continue
      try {
        kept.push(JSON.parse(store.getItem(name) ?? ''))
      } catch {
        // Somebody else's value: not ours to remove.
      }
    }
    return kept.sort((a, b) => a.at - b.at)
  }

  /**
   * Keep a message. Of a full outbox, or without a storage, the message is in memory alone.
   * @param {string} key
   * @param {string} path
   * @param {Record<string, any>} body
   */
  keep(key, path, body) {
    const text = JSON.stringify({ key, path, body, at: Date.now() })
    if (text.length > LONGEST || this.list().length >= MOST) return
    try {
      storage()?.setItem(this.#prefix + key, text)
    } catch {
      // The storage is full.
    }
  }

  /** @param {string} key */
  drop(key) {
    storage()?.removeItem(this.#prefix + key)
  }
}

/** Reads of the past, which follow a moving hand: one is under way at most, and of each kind the newest is next. */

/** The newest read of each kind that has not begun. @type {Map<string, () => Promise<unknown>>} */
const waiting = new Map()
let isBusy = false

/**
 * Read when it is the turn. A read of the same kind that has not begun is dropped.
 * @param {string} kind @param {() => Promise<unknown>} read
 */
export async function inTurn(kind, read) {
  waiting.set(kind, read)
  if (isBusy) return
  isBusy = true
  // A read that comes meanwhile is added to the map, and so this loop comes to it too.
  for (const [name, next] of waiting) {
    waiting.delete(name)
    await next().catch(() => undefined)
  }
  isBusy = false
}

/**
 * Server-sent events out of bytes, by the rules of the WHATWG. The bytes may be cut anywhere.
 *
 * @typedef {object} SseEvent
 * @property {string} event the name of the event
 * @property {any} data the event's JSON
 * @property {string} id the id of the event; empty where it has none
 */

/** The most characters of one event. A server that sends more is not one of ours. */
const LONGEST = 32 * 1024 * 1024

/** Makes events of text that comes in pieces. */
export class EventParser {
  /** The milliseconds of the last `retry` field, or null. @type {number | null} */
  retry = null
  /** @type {string[]} */
  #line = []
  /** @type {string[]} */
  #data = []
  #name = ''
  #id = ''
  #size = 0
  #endedWithReturn = false

  /**
   * Take the next piece of text.
   * @param {string} text
   * @returns {SseEvent[]} the events that are whole now
   */
  feed(text) {
    if (text === '') return []
    const rest = this.#endedWithReturn && text[0] === '\n' ? text.slice(1) : text
    this.#endedWithReturn = text.endsWith('\r')
    /** @type {SseEvent[]} */
    const events = []
    const lines = rest.split(/\r\n|\r|\n/)
    const last = /** @type {string} */ (lines.pop())
    for (const line of lines) {
      this.#line.push(line)
      this.#take(this.#line.join(''), events)
      this.#line = []
    }
    if (last !== '') this.#line.push(last)
    this.#size += text.length
    if (this.#size > LONGEST) throw new RangeError('An event of the stream is too long.')
    return events
  }

  /**
   * @param {string} line
   * @param {SseEvent[]} events
   */
  #take(line, events) {
    if (line === '') {
      this.#size = 0
      if (this.#data.length) {
        events.push({ event: this.#name || 'message', data: JSON.parse(this.#data.join('\n')), id: this.#id })
      }
      this.#data = []
      this.#name = this.#id = ''
      return
    }
    const colon = line.indexOf(':')
    if (colon === 0) return
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') this.#data.push(value)
    else if (field === 'event') this.#name = value
    else if (field === 'id' && !value.includes('\0')) this.#id = value
    else if (field === 'retry' && /^\d+$/.test(value)) this.retry = Number(value)
  }
}

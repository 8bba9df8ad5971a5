/**
 * Through time: a slider over the positions of the log, and a step to the item before and after. At an
 * earlier moment everything is shown as it was; at the end of the slider everything is live.
 */

import { h, patch } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { BEGINNING, positionIn } from '../fold.js'
import { number, t } from '../texts.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */

export class Scrubber {
  node = h('div', { class: 'scrubber', role: 'group' })
  /** @type {Throughline} */
  #client
  #move
  /** @type {string | null} */
  #projectId = null
  /** @type {string | null} the newest cursor */
  #now = null
  /** @type {string | null} */
  #at = null
  #first = 0
  /** @type {import('../throughline.js').Feed | null} */
  #feed = null
  #slider = h('input', { type: 'range', oninput: () => this.#onSlide() })

  /**
   * @param {Throughline} client
   * @param {(at: string | null) => void} move called with a moment, a cursor or a position, or null for now
   */
  constructor(client, move) {
    this.#client = client
    this.#move = move
  }

  /** @param {{projectId: string | null, feed: import('../throughline.js').Feed | null, at: string | null}} state */
  show({ projectId, feed, at }) {
    if (feed !== this.#feed) {
      this.#first = projectId === this.#projectId ? this.#first : 0
      this.#projectId = projectId
      this.#feed = feed
      void feed?.ready.then(() => this.#findFirst(feed), () => undefined)
    }
    this.#now = feed?.position ?? null
    this.#at = at
    this.draw()
  }

  draw() {
    const last = positionIn(this.#now)
    const position = this.#at === null ? last : positionIn(this.#at)
    const isStill = !this.#now
    this.node.setAttribute('aria-label', t('time_label'))
    for (const [name, value] of Object.entries({ min: Math.min(this.#first || 1, last), max: Math.max(last, position) })) this.#slider.setAttribute(name, String(value))
    if (Number(this.#slider.value) !== position) this.#slider.value = String(position)
    this.#slider.disabled = isStill
    this.#slider.setAttribute('aria-label', t('time_position'))
    this.#slider.setAttribute('aria-valuetext', t('time_of', { position: number(position), last: number(last) }))
    /** @param {string} name @param {string} label @param {() => void} run @param {boolean} off */
    const button = (name, label, run, off) => h('button', { key: label, type: 'button', class: 'bare icon', 'aria-label': t(label), title: t(label), disabled: off, onclick: run }, icon(name))
    patch(this.node,
      button('first', 'time_first', () => this.#move(String(this.#first || 1)), isStill),
      button('back', 'time_earlier', () => void this.step(-1), isStill),
      this.#slider,
      button('chevron', 'time_later', () => void this.step(1), this.#at === null),
      h('span', { key: 'of', class: 'muted wide' }, t('time_of', { position: number(position), last: number(last) })))
  }

  /** @param {import('../throughline.js').Feed} feed */
  async #findFirst(feed) {
    const projectId = this.#projectId
    if (!projectId || this.#first || feed !== this.#feed) return
    const { items, before } = feed.state
    const first = before === null ? items[0] : (await this.#client.timeline(projectId, { limit: 1, after: BEGINNING }).catch(() => null))?.items[0]
    if (feed !== this.#feed) return
    this.#first = positionIn(first?.cursor)
    this.draw()
  }

  #onSlide() {
    const position = Number(this.#slider.value)
    this.#move(position >= positionIn(this.#now) ? null : String(position))
  }

  /**
   * The item before a position, or after it, where it is loaded.
   * @param {1 | -1} by @param {number} from
   */
  #loaded(by, from) {
    const items = this.#feed?.state.items ?? []
    if (by < 0) return items.findLast(each => positionIn(each.cursor) < from)
    const next = items.findIndex(each => positionIn(each.cursor) > from)
    return next > 0 ? items[next] : undefined
  }

  /** Go to the moment of the next item, or of the one before. @param {1 | -1} by */
  async step(by) {
    const projectId = this.#projectId
    if (!projectId || (by > 0 && this.#at === null)) return
    const from = this.#at ?? this.#now
    const item = this.#loaded(by, positionIn(from)) ?? await this.#asked(projectId, by, from)
    if (by > 0) this.#move(!item || positionIn(item.cursor) >= positionIn(this.#now) ? null : item.cursor)
    else if (item) this.#move(item.cursor)
  }

  /**
   * The item before a moment, or after it, from the server.
   * @param {string} projectId @param {1 | -1} by @param {string | null} from
   */
  async #asked(projectId, by, from) {
    const near = from?.includes('.') ? { cursor: from } : await this.#last(projectId, from)
    if (by < 0 && positionIn(near?.cursor) < positionIn(from)) return near
    const query = by > 0 ? { after: near?.cursor ?? BEGINNING } : { before: near?.cursor }
    return (await this.#client.timeline(projectId, { limit: 1, ...query }).catch(() => null))?.items[0]
  }

  /** The newest item up to a position. @param {string} projectId @param {string | null} position */
  async #last(projectId, position) {
    const page = await this.#client.timeline(projectId, { limit: 1, asOf: position }).catch(() => null)
    return page?.items[0]
  }
}

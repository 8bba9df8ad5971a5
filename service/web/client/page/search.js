/** The search: what has the words, in place of the list while there are words. */

import { attempt } from '../controls/toast.js'
import { h, patch } from '../elements/parts/dom.js'
import { t } from '../texts.js'

const PAUSE_MS = 200

/** @typedef {import('../throughline.js').Throughline} Throughline */

export class Search {
  input = h('input', { type: 'search', maxlength: 500, dir: 'auto', oninput: () => this.#soon() })
  node = h('section', { class: 'page found', hidden: true, 'aria-live': 'polite' })
  /** @type {string | null} */
  #projectId = null
  #asked = 0
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer

  /** @param {Throughline} client @param {() => HTMLElement} list what the results stand in place of */
  constructor(client, list) {
    this.client = client
    this.list = list
  }

  get isOpen() {
    return this.input.value.trim() !== ''
  }

  /** @param {string | null} projectId */
  show(projectId) {
    if (projectId !== this.#projectId && this.isOpen) this.#soon()
    this.#projectId = projectId
    this.input.placeholder = t('search')
    this.input.setAttribute('aria-label', t('search'))
    this.node.setAttribute('aria-label', t('search_results'))
  }

  focus() {
    this.input.focus()
    this.input.select()
  }

  clear() {
    this.input.value = ''
    this.#soon()
    this.input.blur()
  }

  #soon() {
    clearTimeout(this.#timer)
    this.node.hidden = !this.isOpen
    this.list().hidden = this.isOpen
    if (this.isOpen) this.#timer = setTimeout(() => void this.#find(), PAUSE_MS)
  }

  async #find() {
    const asking = ++this.#asked
    await attempt(async () => {
      const { found } = await import('./found.js')
      const content = await found(this.client, this.#projectId ?? '', this.input.value.trim())
      if (asking === this.#asked) patch(this.node, content)
    })
  }
}

/** Where a message is written: its draft is kept, its price is said before it is sent. */

import { h, patch } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'
import { locale, number, t } from '../texts.js'

const LONGEST = 32_000
const CHAT_MODES = Object.freeze(['', 'question', 'feature', 'fix', 'analysis', 'general'])

/**
 * @typedef {object} State
 * @property {string} key the conversation, under which the draft is kept
 * @property {string | null} why why nothing can be sent now, as a sentence; or null
 * @property {boolean} isRunning whether a reply is being written
 * @property {boolean} hasModes whether the user may say what kind of answer is wanted
 * @property {any} estimates what messages may cost, or null
 * @property {boolean} isEditing whether an earlier message is asked again
 */

export class Composer {
  /** @type {State | null} */
  #state = null
  #mode = ''
  #locale = ''
  #text
  #line = h('div', { class: 'line' })
  #above = h('div')

  /**
   * @param {object} of
   * @param {(text: string, how: {chatMode: string | null}) => void} of.onSend
   * @param {() => void} of.onStop
   * @param {() => void} of.onCancelEdit
   */
  constructor(of) {
    this.of = of
    this.#text = h('textarea', {
      rows: 1, maxlength: LONGEST, enterkeyhint: 'send', dir: 'auto',
      oninput: () => this.#keep(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
    })
    const onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault()
      this.#send()
    }
    this.node = h('div', { class: 'composer' }, this.#above, h('form', { onsubmit }, this.#text, this.#line))
  }

  /** @param {State} state */
  show(state) {
    const last = this.#state
    if (last?.key !== state.key) this.#text.value = kept(state.key)
    this.#state = state
    const isSame = last && this.#locale === locale() && Object.entries(state).every(([name, value]) => Reflect.get(last, name) === value)
    if (!isSame) this.draw()
  }

  draw() {
    const state = this.#state
    if (!state) return
    this.#locale = locale()
    this.#text.disabled = state.why !== null
    this.#text.setAttribute('aria-label', t('composer_message'))
    this.#text.placeholder = t(state.isEditing ? 'composer_edit' : 'composer_placeholder')
    patch(this.#above,
      state.why && h('p', { key: 'why', class: 'why muted', role: 'status' }, icon('info'), ' ', state.why),
      state.isEditing && h('p', { key: 'edit', class: 'why line' }, icon('fork'), h('span', { class: 'grow' }, t('composer_editing')),
        h('button', { type: 'button', class: 'bare', onclick: () => this.of.onCancelEdit() }, t('cancel'))))
    patch(this.#line,
      state.hasModes && h('select', { key: 'mode', 'aria-label': t('composer_mode'), disabled: state.why !== null, onchange: (/** @type {any} */ event) => this.#choose(event.target.value) },
        CHAT_MODES.map(mode => h('option', { value: mode, selected: mode === this.#mode }, t(`chat_mode_${mode || 'auto'}`)))),
      h('span', { key: 'price', class: 'grow small muted', 'data-price': true }, this.#price()),
      state.isRunning && h('button', { key: 'stop', type: 'button', 'data-action': 'stop', onclick: () => this.of.onStop() }, icon('stop'), t('stop')),
      h('button', { key: 'send', type: 'submit', class: 'main icon', disabled: state.why !== null, 'aria-label': t('send'), title: t('send') }, icon('send')))
  }

  /** What the message may cost, and what there is. */
  #price() {
    const estimates = this.#state?.why === null ? this.#state.estimates : null
    const own = estimates?.byMode?.[this.#mode || 'general']
    if (!own) return ''
    if (own.sufficient === false) return t('composer_too_little', { needed: own.reservedSeconds, available: estimates.availableSeconds })
    return t('composer_price', { seconds: own.seconds, available: number(estimates.availableSeconds) })
  }

  /** @param {string} mode */
  #choose(mode) {
    this.#mode = mode
    this.draw()
  }

  focus() {
    this.#text.focus()
  }

  /** Put a text in, such as a message to be asked again. @param {string} text */
  fill(text) {
    this.#text.value = text
    this.#keep()
    this.#text.focus()
    this.#text.setSelectionRange(text.length, text.length)
  }

  /**
   * Give a text back that was not sent: before what was written since then.
   * @param {string} key the conversation of the text @param {string} text
   */
  giveBack(key, text) {
    const isHere = key === this.#state?.key
    const both = [text, isHere ? this.#text.value : kept(key)].filter(Boolean).join('\n\n')
    if (isHere) this.fill(both)
    else keep(key, both)
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const isSend = event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches
    if (!isSend) return
    event.preventDefault()
    this.#send()
  }

  #send() {
    const text = this.#text.value.trim()
    if (!text || !this.#state || this.#state.why !== null) return
    this.fill('')
    this.of.onSend(text, { chatMode: this.#mode || null })
  }

  #keep() {
    if (this.#state) keep(this.#state.key, this.#text.value)
  }
}

/** @param {string} key @param {string} text */
function keep(key, text) {
  try {
    const name = `throughline.draft.${key}`
    if (text) sessionStorage.setItem(name, text)
    else sessionStorage.removeItem(name)
  } catch {
    // A browser may keep nothing: then the draft lives as long as the page.
  }
}

/** @param {string} key */
function kept(key) {
  try {
    return sessionStorage.getItem(`throughline.draft.${key}`) ?? ''
  } catch {
    return ''
  }
}

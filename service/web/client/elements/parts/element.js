/** What all elements have in common: a shadow root, the style, texts that follow the locale. */

import { h, patch, sheet } from './dom.js'
import { changes, relative, t } from '../../texts.js'
import { button } from './small.js'

/** @typedef {import('./dom.js').Child} Child */

/** How often the words for a moment are made true. */
const EVERY_MS = 30_000

const COLOURS = /** @type {Record<string, [string, string]>} */ ({
  text: ['#1b1f24', '#e4e7eb'], muted: ['#59636e', '#a3adb8'], surface: ['#fff', '#15181c'],
  raised: ['#f5f6f8', '#1e2227'], line: ['#d8dce1', '#363c44'], accent: ['#2c5bc7', '#8fb2ff'],
  'on-accent': ['#fff', '#10131a'], 'accent-soft': ['#e8effd', '#1d2a45'],
  good: ['#17692f', '#6cc98a'], 'good-soft': ['#e4f4e9', '#16301f'],
  warn: ['#7d4e00', '#e3b341'], 'warn-soft': ['#fdf1d8', '#362a10'],
  bad: ['#b3261e', '#ff8f87'], 'bad-soft': ['#fdeae8', '#3d1a18'],
})

const base = sheet(`
:host { ${Object.entries(COLOURS).map(([name, [light, dark]]) => `--${name}: var(--tl-${name}, light-dark(${light}, ${dark}));`).join(' ')}
--mono: var(--tl-mono, ui-monospace, "SF Mono", Menlo, Consolas, monospace); --radius: var(--tl-radius, 6px);
display: block; container-type: inline-size; color: var(--text); font: 15px/1.5 var(--tl-font, system-ui, sans-serif); overflow-wrap: anywhere; }
:host([hidden]), [hidden] { display: none; }
* { box-sizing: border-box; }
h1, h2, h3, h4, h5, h6, p, ul, ol, dl, dd, figure, blockquote, pre, table { margin: 0; padding: 0; }
h3 { font-size: 17px; line-height: 1.35; } h4, h3.part { font-size: 13px; color: var(--muted); font-weight: 600; } h5, h6 { font-size: 15px; }
section, .stack { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px; } section > section { gap: 8px; }
.row { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; } .between { justify-content: space-between; }
.muted { color: var(--muted); } .small { font-size: 13px; } .number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.icon { inline-size: 16px; block-size: 16px; flex: none; vertical-align: -3px; } [data-flip]:dir(rtl) { transform: scaleX(-1); }
.hidden { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
ul, ol { padding-inline-start: 20px; } ul.plain, ol.plain { list-style: none; padding: 0; }
code, pre, .code { font-family: var(--mono); font-size: 13px; } pre { white-space: pre-wrap; overflow: auto; max-block-size: 480px; }
:not(pre) > code { background: var(--raised); border-radius: 4px; padding: 1px 4px; }
figure.code { border: 1px solid var(--line); border-radius: var(--radius); overflow: hidden; }
figure.code figcaption { display: flex; justify-content: space-between; align-items: center; padding: 0 4px 0 12px; background: var(--raised); color: var(--muted); }
figure.code pre { padding: 8px 12px; }
a { color: var(--accent); text-underline-offset: 2px; }
button, select, summary { font: inherit; color: inherit; }
button { display: inline-flex; align-items: center; gap: 6px; min-block-size: 32px; padding: 3px 12px; border: 1px solid var(--line); border-radius: var(--radius); background: var(--surface); cursor: pointer; transition: background-color .12s; }
button:hover { background: var(--raised); } button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
button.main:hover { filter: brightness(1.08); } button:disabled { opacity: .5; cursor: default; }
button.quiet { border-color: transparent; background: none; color: var(--accent); padding-inline: 8px; } button.small { min-block-size: 28px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
summary { cursor: pointer; border-radius: 4px; } summary > .icon { align-self: center; transition: transform .12s; } [open] > summary > .icon { transform: rotate(90deg); }
.badge { display: inline-flex; align-items: center; gap: 4px; padding: 1px 8px 1px 6px; border-radius: 99px; font-size: 13px; background: var(--raised); color: var(--muted); white-space: nowrap; }
.badge.good { color: var(--good); background: var(--good-soft); } .badge.warn { color: var(--warn); background: var(--warn-soft); }
.badge.bad { color: var(--bad); background: var(--bad-soft); } .badge.accent { color: var(--accent); background: var(--accent-soft); }
.note { padding: 8px 12px; border-radius: var(--radius); background: var(--raised); } .note.bad { background: var(--bad-soft); color: var(--bad); } .note.warn { background: var(--warn-soft); color: var(--warn); }
.note code { background: none; padding: 0; }
.card { border: 1px solid var(--line); border-radius: var(--radius); padding: 12px; background: var(--surface); }
.empty { color: var(--muted); padding: 16px; text-align: center; border: 1px dashed var(--line); border-radius: var(--radius); }
dl.facts { display: flex; flex-wrap: wrap; gap: 8px 24px; } .fact dt { font-size: 13px; color: var(--muted); } .fact dd { font-variant-numeric: tabular-nums; font-weight: 600; }
.scroll { overflow: auto; max-block-size: 480px; } table { border-collapse: collapse; inline-size: 100%; font-size: 14px; overflow-wrap: normal; }
th, td { padding: 4px 12px 4px 0; text-align: start; vertical-align: top; border-block-end: 1px solid var(--line); } th:last-child, td:last-child { padding-inline-end: 0; } th { font-size: 13px; color: var(--muted); font-weight: 600; }
[data-align=end] { text-align: end; } [data-align=center] { text-align: center; }
.markdown > * + * { margin-block-start: 8px; } .markdown li > p + *, .markdown li > * + p, .markdown li > ul, .markdown li > ol { margin-block-start: 4px; }
blockquote { border-inline-start: 3px solid var(--line); padding-inline-start: 12px; color: var(--muted); } img { max-inline-size: 100%; block-size: auto; } hr { border: 0; border-block-start: 1px solid var(--line); inline-size: 100%; }
.markdown h4 { font-size: 15px; color: inherit; } .deep, .text { white-space: pre-wrap; }
@media (prefers-contrast: more) { :host { --line: currentColor; --muted: var(--text); } }
@media (forced-colors: active) { .badge, .note, button { border: 1px solid; } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; animation: none !important; } }
`)

/**
 * An element that shows its properties. A change of a property, or of the locale, shows them again;
 * several changes at once are shown once, and nodes that can stay do.
 */
export class ThroughlineElement extends HTMLElement {
  /** @type {CSSStyleSheet[]} */
  static sheets = []
  /** @type {Record<string, any>} the properties */
  values = {}
  /** @type {Map<string, any>} what the user has opened or chosen */
  kept = new Map()
  #isDue = false
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock
  #renew = () => this.renew()
  #root = this.attachShadow({ mode: 'open' })

  constructor() {
    super()
    this.#root.adoptedStyleSheets = [base, .../** @type {any} */ (this.constructor).sheets]
  }

  connectedCallback() {
    changes.addEventListener('change', this.#renew)
    this.#clock = setInterval(() => this.#keepTrue(), EVERY_MS)
    this.#adopt()
    this.renew()
  }

  /** Take the properties that were set before the element was defined: they hide those of the class. */
  #adopt() {
    for (const name of Object.keys(this)) {
      if (!(name in Object.getPrototypeOf(this))) continue
      const value = Reflect.get(this, name)
      Reflect.deleteProperty(this, name)
      Reflect.set(this, name, value)
    }
  }

  disconnectedCallback() {
    changes.removeEventListener('change', this.#renew)
    clearInterval(this.#clock)
  }

  /** Keep the moments true while time passes. */
  #keepTrue() {
    for (const node of this.#root.querySelectorAll('time')) node.textContent = relative(node.dateTime)
  }

  /** Show the properties again, soon. */
  renew() {
    if (this.#isDue || !this.isConnected) return
    this.#isDue = true
    queueMicrotask(() => {
      this.#isDue = false
      if (this.isConnected) patch(this.#root, this.render())
    })
  }

  /** @returns {Child} */
  render() {
    return null
  }

  /**
   * Keep a choice of the user, and show it.
   * @param {string} name @param {unknown} value
   */
  keep(name, value) {
    this.kept.set(name, value)
    this.renew()
  }

  /**
   * Tell the page what the user wants.
   * @param {string} type @param {unknown} [detail]
   */
  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }))
  }

  /**
   * The first items of a list, and a button for more of them.
   * @template T
   * @param {string} name @param {readonly T[]} items @param {(item: T, index: number) => Child} show @param {number} [step]
   * @param {(button: HTMLElement) => Child} [wrap] what the button needs around it
   * @returns {Child}
   */
  some(name, items, show, step = 50, wrap = each => each) {
    const shown = this.kept.get(name) ?? step
    const left = items.length - shown
    const more = () => this.keep(name, shown + step)
    return [
      items.slice(0, shown).map(show),
      left > 0 && wrap(button('down', t('show_more', { count: Math.min(left, step) }), more, 'quiet small')),
    ]
  }
}

/**
 * Define an element with its properties: setting one shows the element again.
 * @param {string} name @param {typeof ThroughlineElement} kind @param {string[]} properties
 */
export function define(name, kind, properties) {
  for (const property of properties) {
    Object.defineProperty(kind.prototype, property, {
      get() { return this.values[property] },
      set(value) { this.values[property] = value, this.renew() },
    })
  }
  customElements.define(name, kind)
}

/** A section with its heading, or nothing where there is nothing to show.
 * @param {string} title @param {Child} content @param {string} [key] */
export function part(title, content, key = title) {
  const isEmpty = !content || (Array.isArray(content) && !content.flat(2).some(Boolean))
  return !isEmpty && h('section', { key }, h('h3', { class: 'part' }, title), content)
}

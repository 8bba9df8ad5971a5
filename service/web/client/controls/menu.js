/** A button with a menu beside it. The browser closes the menu at Escape and at a click elsewhere. */

import { h } from '../elements/parts/dom.js'
import { icon } from '../elements/parts/icons.js'

/**
 * @typedef {object} Entry
 * @property {string} icon
 * @property {string} label
 * @property {() => void} run
 * @property {boolean} [disabled]
 * @property {boolean} [danger]
 */

/**
 * @param {{label: string, icon: string, class?: string, text?: string, entries: () => Entry[]}} options
 *   `label` is what a screen reader says, `text` a word that is shown beside the icon
 */
export function menuButton({ label, icon: name, class: kind = 'bare icon', text, entries }) {
  return h(
    'button',
    {
      type: 'button', class: `menu-button ${kind}`, 'aria-haspopup': 'menu', 'aria-expanded': 'false',
      'aria-label': text ? null : label, title: text ? null : label,
      onclick: (/** @type {MouseEvent} */ event) => open(/** @type {HTMLElement} */ (event.currentTarget), label, entries()),
    },
    icon(name), text
  )
}

/**
 * Open a menu beside a button, with the focus on its first entry.
 * @param {HTMLElement} button @param {string} label @param {Entry[]} entries
 */
function open(button, label, entries) {
  const menu = h('div', { class: 'menu', role: 'menu', 'aria-label': label, popover: 'auto', onkeydown: move })
  for (const entry of entries) {
    const choose = () => {
      menu.hidePopover()
      entry.run()
    }
    menu.append(
      h('button', { type: 'button', role: 'menuitem', disabled: entry.disabled, class: entry.danger ? 'bad' : null, onclick: choose },
        icon(entry.icon), entry.label)
    )
  }
  menu.addEventListener('toggle', event => {
    const isOpen = /** @type {ToggleEvent} */ (event).newState === 'open'
    button.setAttribute('aria-expanded', String(isOpen))
    if (isOpen) return
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus()
    menu.remove()
  })
  // In a dialog the menu must stand in the dialog: everything else is inert.
  ;(button.closest('dialog') ?? document.body).append(menu)
  menu.showPopover()
  place(menu, button.getBoundingClientRect())
  const first = /** @type {HTMLElement | null} */ (menu.querySelector('button:not(:disabled)'))
  first?.focus()
}

/** @param {HTMLElement} menu @param {DOMRect} at */
function place(menu, at) {
  const { offsetWidth: width, offsetHeight: height } = menu
  const isBelow = at.bottom + height + 8 < innerHeight || at.top < height
  const isRtl = document.documentElement.dir === 'rtl'
  const start = isRtl ? innerWidth - at.right : at.left
  menu.style.setProperty('inset-block-start', `${Math.max(4, isBelow ? at.bottom + 4 : at.top - height - 4)}px`)
  menu.style.setProperty('inset-inline-start', `${Math.max(4, Math.min(start, innerWidth - width - 8))}px`)
}

/** @param {KeyboardEvent} event */
function move(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
  if (event.key === 'Tab') event.preventDefault()
  if (!step) return
  event.preventDefault()
  const menu = /** @type {HTMLElement} */ (event.currentTarget)
  const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (menu.querySelectorAll('button:not(:disabled)'))]
  const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement))
  buttons[(at + step + buttons.length) % buttons.length]?.focus()
}

/** The keyboard: everything that the page does has a key or a place in the order of the focus. */

/**
 * Listen to keys. `does` has what each key does. A key that is typed into a field stays there, but
 * Escape.
 * @param {Record<string, () => void>} does
 */
export function listen(does) {
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing) return
    if (document.querySelector('dialog[open], [popover]:popover-open')) return
    const isTyping = event.composedPath().some(each => each instanceof Element && each.matches('input:not([type="range"]), textarea, select, [contenteditable]'))
    if (isTyping && event.key !== 'Escape') return
    const act = does[event.key === 'Escape' ? 'Esc' : event.key]
    if (!act) return
    if (event.key !== 'Escape') event.preventDefault()
    act()
  })
}

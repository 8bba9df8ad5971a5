/** An element that draws itself again, once, after its properties have changed. */
export class Drawn extends HTMLElement {
  #isWaiting = false
  #isDue = false

  connectedCallback() {
    this.redraw()
  }

  /** Draw soon: changes of the same moment are drawn together. */
  redraw() {
    if (this.#isWaiting) return
    this.#isWaiting = true
    queueMicrotask(() => {
      this.#isWaiting = false
      if (this.isConnected) this.draw()
    })
  }

  /** Draw with the next frame: what changes many times a second is drawn as often as it is seen. */
  redrawSoon() {
    if (this.#isDue) return
    this.#isDue = true
    requestAnimationFrame(() => {
      this.#isDue = false
      if (this.isConnected) this.draw()
    })
  }

  /** Make the children equal to the state. */
  draw() {}

  /**
   * Tell the page something.
   * @param {string} type @param {any} [detail]
   */
  say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true }))
  }
}

/** The drawer on a screen that is touched: a swipe from the edge opens it, a swipe back closes it. */

const SWIPE_PX = 60
const EDGE_PX = 32

/** @param {(isOpen: boolean) => void} drawer */
export function listen(drawer) {
  let [fromX, fromY] = [0, 0]
  addEventListener('touchstart', event => {
    const touch = event.changedTouches[0]
    if (touch) [fromX, fromY] = [touch.clientX, touch.clientY]
  }, { passive: true })
  addEventListener('touchend', event => {
    const touch = event.changedTouches[0]
    if (!touch || Math.abs(touch.clientY - fromY) > SWIPE_PX) return
    const isRtl = document.documentElement.dir === 'rtl'
    const [start, moved] = isRtl ? [innerWidth - fromX, fromX - touch.clientX] : [fromX, touch.clientX - fromX]
    if (moved > SWIPE_PX && start < EDGE_PX) drawer(true)
    if (moved < -SWIPE_PX) drawer(false)
  }, { passive: true })
}

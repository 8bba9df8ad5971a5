/** Addresses: every state of the page has one, after the `#`. */

/**
 * @typedef {object} Route
 * @property {string} place `home`, `new`, `session`, `timeline`, `prompts`, `runs`, `usage` or `log`
 * @property {string | null} projectId of all places but `home` and `session`
 * @property {string | null} sessionId
 * @property {string | null} at the cursor of the moment that is shown; without it now
 * @property {string | null} panel what stands beside: `plan:<id>`, `build:<id>`, `run:<id>` or `prompt:<id>`
 * @property {string | null} message the item to be shown first
 * @property {string | null} mode of a new session
 */

export const PLACES = Object.freeze(['timeline', 'prompts', 'runs', 'usage', 'log'])

const QUERY = /** @type {const} */ (['at', 'panel', 'message', 'mode'])

/**
 * @param {string} hash
 * @returns {Route}
 */
export function parse(hash) {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s)
  const [noun, id, place] = path.split('/').map(decoded)
  const asked = new URLSearchParams(query)
  const [at, panel, message, mode] = QUERY.map(name => asked.get(name))
  const rest = { at: at ?? null, panel: panel ?? null, message: message ?? null, mode: mode ?? null }
  if (noun === 'sessions' && id) return { place: 'session', projectId: null, sessionId: id, ...rest }
  if (noun === 'projects' && id) {
    const known = place && PLACES.includes(place) ? place : 'new'
    return { place: known, projectId: id, sessionId: null, ...rest }
  }
  return { place: 'home', projectId: null, sessionId: null, ...rest }
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/**
 * @param {Partial<Route>} route
 * @returns {string}
 */
export function addressOf(route) {
  const query = new URLSearchParams()
  for (const name of QUERY) if (route[name]) query.set(name, /** @type {string} */ (route[name]))
  const asked = query.size ? `?${query}` : ''
  if (route.sessionId) return `#/sessions/${encodeURIComponent(route.sessionId)}${asked}`
  if (!route.projectId) return `#/${asked}`
  const place = route.place && PLACES.includes(route.place) ? `/${route.place}` : ''
  return `#/projects/${encodeURIComponent(route.projectId)}${place}${asked}`
}

/** A browser takes few new addresses in a short time: while a hand moves, the bar follows after a pause. */
const PAUSE_MS = 200

/** The address bar. Says `change` when the route has changed. */
export class Router extends EventTarget {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer

  constructor() {
    super()
    this.route = parse(location.hash)
    addEventListener('hashchange', () => this.#read())
  }

  /**
   * Change a part of the address: back leads to what was, unless the new address replaces it.
   * @param {Partial<Route>} changes
   * @param {{replace?: boolean}} [how]
   */
  change(changes, { replace = false } = {}) {
    this.go(addressOf({ ...this.route, ...changes }), { replace })
  }

  /** Show another moment at once. The address is replaced when the moment stays. @param {string | null} at */
  travel(at) {
    if (at === this.route.at) return
    this.route = { ...this.route, at }
    this.dispatchEvent(new Event('change'))
    clearTimeout(this.#timer)
    const address = addressOf(this.route)
    this.#timer = setTimeout(() => history.replaceState(null, '', address), PAUSE_MS)
  }

  /** @param {string} address @param {{replace?: boolean}} [how] */
  go(address, { replace = false } = {}) {
    clearTimeout(this.#timer)
    if (address === location.hash && address === addressOf(this.route)) return
    if (replace || address === location.hash) history.replaceState(null, '', address)
    else history.pushState(null, '', address)
    this.#read()
  }

  #read() {
    clearTimeout(this.#timer)
    this.route = parse(location.hash)
    this.dispatchEvent(new Event('change'))
  }
}
